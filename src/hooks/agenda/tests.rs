use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::{Command, Hooks, OnUnmount};

/// An agenda in a time of its own.
struct World {
    agenda: Agenda,
    now: Now,
    plan: Plan,
    journal: Journal,
}

fn hook(name: &str, change: impl FnOnce(&mut Hook)) -> Hook {
    let mut hook = Hook {
        name: name.into(),
        line: 1,
        command: Command::Shell("true".into()),
        run_mode: RunMode::Queue,
        run_on_load: false,
        stdin: Stdin::Nothing,
        account: None,
        notify_signal: None,
        timeout: None,
        kill_timeout: Duration::from_secs(5),
        retries: 0,
        backoff: Duration::from_secs(1),
        ok_codes: vec![0],
        splay: Duration::ZERO,
        wait_min: Duration::ZERO,
        wait_max: Duration::ZERO,
        description: None,
    };
    change(&mut hook);
    hook
}

fn part(id: PartId, hooks: &[&str]) -> Part {
    Part {
        znode: format!("/{}", id.name),
        dest: id.name.to_string(),
        hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(),
        id,
    }
}

fn shows(content: u32) -> Shows {
    match content {
        0 => Shows::Nothing,
        _ => Shows::Content {
            digest: Digest::of(&content.to_ne_bytes()),
            version: content as i32,
            mzxid: content.into(),
        },
    }
}

impl World {
    fn of(plan: Plan) -> Self {
        let now = Now {
            at: Instant::now(),
            wall: SystemTime::now(),
        };
        let mut world = Self {
            agenda: Agenda::new(Journal::default()),
            now,
            plan,
            journal: Journal::default(),
        };
        world.agenda.plan(&world.plan, true, now);
        world.keep();
        world
    }

    /// One hook, named by one node.
    fn one(change: impl FnOnce(&mut Hook)) -> Self {
        let hooks = Hooks {
            all: vec![hook("h", change)],
            max_parallel: 16,
            on_unmount: OnUnmount::Kill,
        };
        Self::of(Plan {
            hooks,
            parts: vec![part(PartId::node("a"), &["h"])],
            ..Plan::default()
        })
    }

    /// One hook, named by a tree.
    fn tree(change: impl FnOnce(&mut Hook)) -> Self {
        let mut world = Self::one(change);
        world.plan.parts = vec![part(PartId::tree("t"), &["h"])];
        Self::of(world.plan)
    }

    fn keep(&mut self) {
        for entry in self.agenda.take_entries() {
            self.journal.take(entry);
        }
    }

    fn told(&mut self, part: PartId, file: &str, content: u32) {
        self.told_of(part, file, shows(content));
    }

    fn told_of(&mut self, part: PartId, file: &str, shows: Shows) {
        let told = Told {
            part,
            file: file.into(),
            znode: format!("/{file}").into(),
            shows,
        };
        self.agenda.told(&told, self.now);
        self.keep();
    }

    fn node(&mut self, content: u32) {
        self.told(PartId::node("a"), "", content);
    }

    fn pass(&mut self, milliseconds: u64) {
        let time = Duration::from_millis(milliseconds);
        self.now.at += time;
        self.now.wall += time;
    }

    fn next(&mut self) -> Vec<Action> {
        let actions = self.agenda.next(self.now);
        self.keep();
        actions
    }

    /// What starts now, and nothing else is done.
    #[track_caller]
    fn starts(&mut self) -> Vec<Run> {
        let starts = self.next().into_iter().map(|action| match action {
            Action::Start(run) => *run,
            other => panic!("{other:?}"),
        });
        starts.collect()
    }

    #[track_caller]
    fn start(&mut self) -> Run {
        let mut starts = self.starts();
        assert_eq!(starts.len(), 1, "{starts:?}");
        starts.remove(0)
    }

    #[track_caller]
    fn nothing(&mut self) {
        assert_eq!(self.next(), []);
    }

    fn ended(&mut self, run: &Run, code: i32) {
        self.agenda.ended(run.number, Outcome::Code(code), self.now);
        self.keep();
    }

    fn standing(&self) -> Standing {
        let target = self.agenda.targets().next().unwrap().clone();
        self.agenda.standing(&target).unwrap()
    }

    /// The runner dies, and another one goes on.
    fn dies(&mut self, with_the_mount: bool) {
        // What is kept is what the shortest journal says.
        let mut kept = Journal::default();
        self.journal.entries().for_each(|entry| kept.take(entry));
        assert_eq!(kept, self.journal);
        self.agenda = Agenda::new(kept);
        self.agenda.plan(&self.plan, with_the_mount, self.now);
        self.keep();
    }
}

fn version(run: &Run) -> Option<i32> {
    run.files[0].version.map(|(version, _)| version)
}

#[test]
fn what_was_there_is_no_change() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.node(1);
    world.nothing();
    world.node(2);
    let run = world.start();
    assert_eq!((run.event, version(&run)), (Event::Changed, Some(2)));
    world.node(2);
    world.ended(&run, 0);
    world.nothing();
    assert_eq!(world.agenda.deadline(), None);
}

#[test]
fn files_come_and_go() {
    let mut world = World::one(|hook| hook.run_on_load = true);
    world.node(0);
    world.nothing();
    for (content, event) in [
        (1, Event::Created),
        (2, Event::Changed),
        (0, Event::Deleted),
    ] {
        world.node(content);
        let run = world.start();
        assert_eq!(run.event, event);
        world.ended(&run, 0);
    }
    world.nothing();
}

#[test]
fn queue_mode_runs_once_more_with_the_newest() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.node(2);
    let first = world.start();
    for content in 3..10_000 {
        world.node(content);
        world.nothing();
    }
    world.ended(&first, 0);
    let last = world.start();
    assert_eq!(version(&last), Some(9999));
    world.ended(&last, 0);
    world.nothing();
}

#[test]
fn discard_mode_passes_over_what_comes_meanwhile() {
    let mut world = World::one(|hook| hook.run_mode = RunMode::Discard);
    world.node(1);
    world.node(2);
    let first = world.start();
    world.node(3);
    world.ended(&first, 0);
    world.nothing();
    world.dies(false);
    world.nothing();
    world.node(4);
    assert_eq!(version(&world.start()), Some(4));
}

#[test]
fn parallel_mode_runs_for_each_at_once() {
    let mut world = World::one(|hook| hook.run_mode = RunMode::Parallel);
    world.node(1);
    let runs: Vec<Run> = (2..5)
        .map(|content| {
            world.node(content);
            world.start()
        })
        .collect();
    assert_eq!(
        runs.iter().filter_map(version).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    for run in runs {
        world.ended(&run, 0);
    }
    world.nothing();
}

#[test]
fn what_one_run_has_done_is_not_what_another_one_does() {
    let mut world = World::tree(|hook| hook.run_mode = RunMode::Parallel);
    let tree = || PartId::tree("t");
    world.told(tree(), "/a", 1);
    world.told(tree(), "/b", 1);
    world.agenda.complete(world.now);
    world.told(tree(), "/a", 2);
    let first = world.start();
    world.told(tree(), "/b", 2);
    let second = world.start();
    world.ended(&second, 0);
    world.dies(false);
    world.told(tree(), "/a", 2);
    world.told(tree(), "/b", 2);
    world.agenda.complete(world.now);
    let again = world.start();
    assert_eq!(&*again.files[0].file, &*first.files[0].file);
    assert_eq!(again.files.len(), 1);
}

#[test]
fn no_more_run_at_once_than_may() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n:02}")).collect();
    let hooks = Hooks {
        all: vec![hook("h", |hook| hook.run_mode = RunMode::Parallel)],
        max_parallel: 16,
        on_unmount: OnUnmount::Kill,
    };
    let parts = names.iter().map(|name| part(PartId::node(name), &["h"]));
    let parts = parts.collect();
    let mut world = World::of(Plan {
        hooks,
        parts,
        ..Plan::default()
    });
    for content in [1, 2] {
        for name in &names {
            world.told(PartId::node(name), name, content);
        }
    }
    let mut ran = Vec::new();
    while ran.len() < 100 {
        let runs = world.starts();
        assert_eq!(runs.len(), 16.min(100 - ran.len()));
        world.nothing();
        for run in runs {
            world.ended(&run, 0);
            ran.push(run.part.id.name.to_string());
        }
    }
    ran.sort();
    assert_eq!(ran, names);
}

#[test]
fn in_queue_mode_a_hook_runs_once_at_a_time_for_whatever_part() {
    let hooks = Hooks {
        all: vec![hook("h", |_| ()), hook("other", |_| ())],
        ..Hooks::default()
    };
    let parts = vec![
        part(PartId::node("a"), &["h"]),
        part(PartId::node("b"), &["h", "other"]),
    ];
    let mut world = World::of(Plan {
        hooks,
        parts,
        ..Plan::default()
    });
    for content in [1, 2] {
        world.told(PartId::node("a"), "a", content);
        world.told(PartId::node("b"), "b", content);
    }
    let runs = world.starts();
    let names: Vec<_> = runs
        .iter()
        .map(|run| (&*run.hook.name, &*run.part.id.name))
        .collect();
    assert_eq!(names, [("h", "a"), ("other", "b")]);
    world.ended(&runs[0], 0);
    assert_eq!(&*world.start().part.id.name, "b");
}

#[test]
fn what_fails_is_tried_again_later_and_later() {
    let mut world = World::one(|hook| hook.retries = 2);
    world.node(1);
    world.node(2);
    for delay in [1000, 2000] {
        let run = world.start();
        world.ended(&run, 1);
        world.pass(delay - 1);
        world.nothing();
        world.pass(1);
    }
    let run = world.start();
    assert_eq!(world.standing().failures_in_a_row, 2);
    world.ended(&run, 1);
    world.pass(1_000_000);
    world.nothing();
    // It is not forgotten: the next change, or another runner, has it run.
    world.dies(false);
    world.nothing();
    world.node(2);
    let run = world.start();
    assert_eq!(
        (run.event, world.standing().failures_in_a_row),
        (Event::Changed, 3)
    );
    world.ended(&run, 0);
    assert_eq!(world.standing().failures_in_a_row, 0);
    world.dies(false);
    world.nothing();
}

#[test]
fn what_comes_while_it_is_to_be_tried_again_is_run_for_at_once() {
    let mut world = World::one(|hook| hook.retries = 1);
    world.node(1);
    world.node(2);
    let run = world.start();
    world.ended(&run, 1);
    world.node(3);
    let run = world.start();
    assert_eq!(version(&run), Some(3));
    world.node(4);
    world.ended(&run, 1);
    let run = world.start();
    assert_eq!(version(&run), Some(4));
    world.ended(&run, 1);
    world.pass(1000);
    assert_eq!(version(&world.start()), Some(4));
}

#[test]
fn what_takes_too_long_is_told_to_end_and_then_killed() {
    let mut world = World::one(|hook| hook.timeout = Some(Duration::from_secs(2)));
    world.node(1);
    world.node(2);
    let run = world.start();
    world.pass(1999);
    world.nothing();
    world.pass(1);
    assert_eq!(world.next(), [Action::Terminate { run: run.number }]);
    world.pass(4999);
    world.nothing();
    world.pass(1);
    assert_eq!(world.next(), [Action::Kill { run: run.number }]);
    world.nothing();
    // Whatever it says now, it failed.
    world.ended(&run, 0);
    assert!(world.standing().last.unwrap().timed_out);
    assert_eq!(world.standing().failures, 1);
}

#[test]
fn only_in_queue_mode_a_running_command_is_notified() {
    for (mode, expected) in [(RunMode::Queue, 1), (RunMode::Discard, 0)] {
        let mut world = World::one(|hook| {
            hook.notify_signal = Some(10);
            hook.run_mode = mode;
        });
        world.node(1);
        world.node(2);
        let run = world.start();
        world.node(3);
        let notified = Action::Notify {
            run: run.number,
            signal: 10,
        };
        assert_eq!(world.next(), vec![notified; expected]);
    }
}

#[test]
fn it_waits_until_all_is_quiet_but_not_for_ever() {
    let mut world = World::one(|hook| {
        hook.wait_min = Duration::from_secs(1);
        hook.wait_max = Duration::from_secs(3);
    });
    world.node(1);
    world.node(2);
    world.pass(999);
    world.nothing();
    for content in 3..6 {
        world.node(content);
        world.pass(500);
        world.nothing();
    }
    world.node(6);
    world.pass(501);
    assert_eq!(
        version(&world.start()),
        Some(6),
        "three seconds after the first"
    );
    world.node(7);
    let first = world.agenda.runs.keys().next().copied().unwrap();
    world.agenda.ended(first, Outcome::Code(0), world.now);
    world.pass(999);
    world.nothing();
    world.pass(1);
    assert_eq!(version(&world.start()), Some(7), "a second after the last");
}

#[test]
fn splay_is_drawn_once_for_what_waits() {
    let mut world = World::one(|hook| hook.splay = Duration::from_secs(100));
    world.node(1);
    world.node(2);
    let due = world.agenda.deadline().unwrap();
    assert!(due <= world.now.at + Duration::from_secs(100));
    world.node(3);
    assert_eq!(world.agenda.deadline(), Some(due));
    world.pass(100_000);
    assert_eq!(version(&world.start()), Some(3));
}

#[test]
fn load_is_for_what_is_there() {
    let mut world = World::one(|hook| hook.run_on_load = true);
    world.nothing();
    world.node(1);
    let run = world.start();
    assert_eq!((run.event, version(&run)), (Event::Load, Some(1)));
    world.ended(&run, 0);
    world.dies(false);
    world.node(1);
    world.nothing();
    world.dies(true);
    world.nothing();
    world.node(1);
    assert_eq!(world.start().event, Event::Load, "another mount");
}

#[test]
fn what_changed_between_two_mounts_is_a_change() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.dies(true);
    world.node(1);
    world.nothing();
    world.dies(true);
    world.nothing();
    world.node(2);
    let run = world.start();
    assert_eq!(run.event, Event::Changed);
    // And what was not run to the end then is run again, once it is there.
    world.dies(true);
    world.nothing();
    world.node(2);
    assert_eq!(version(&world.start()), Some(2));
}

#[test]
fn a_run_is_run_again_if_the_runner_dies() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.node(2);
    let _ = world.start();
    world.dies(false);
    world.nothing();
    world.node(2);
    let run = world.start();
    assert_eq!(run.event, Event::Changed);
    world.ended(&run, 0);
    world.dies(false);
    world.nothing();
}

#[test]
fn hooks_and_nodes_come_and_go() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.node(2);
    let run = world.start();
    let plan = world.plan.clone();
    let planned = |world: &mut World, plan: &Plan| {
        world.agenda.plan(plan, false, world.now);
        world.keep();
    };
    planned(&mut world, &Plan::default());
    world.node(3);
    world.nothing();
    world.ended(&run, 1);
    planned(&mut world, &plan);
    world.node(4);
    world.nothing();
    world.node(5);
    let run = world.start();
    world.ended(&run, 0);
    // Another hook of the same node: what is there is no change for it, but perhaps a load.
    let mut more = plan.clone();
    more.hooks
        .all
        .push(hook("load", |hook| hook.run_on_load = true));
    more.hooks.all.push(hook("late", |_| ()));
    more.parts[0].hooks.extend(["load".into(), "late".into()]);
    planned(&mut world, &more);
    let run = world.start();
    assert_eq!(
        (&*run.hook.name, run.event, version(&run)),
        ("load", Event::Load, Some(5))
    );
    world.node(6);
    assert_eq!(world.starts().len(), 2);
}

#[test]
fn a_tree_says_which_files() {
    let mut world = World::tree(|_| ());
    let tree = || PartId::tree("t");
    let files = |run: &Run| {
        let files = run.files.iter();
        files
            .map(|it| (it.file.to_string(), it.event))
            .collect::<Vec<_>>()
    };
    let change = |world: &mut World, file: &str, content| world.told(tree(), file, content);
    change(&mut world, "t/a", 1);
    change(&mut world, "t/b", 1);
    world.nothing();
    world.agenda.complete(world.now);
    world.nothing();
    world.told_of(tree(), "t/b", Shows::Something);
    world.nothing();
    change(&mut world, "t/a", 2);
    let first = world.start();
    assert_eq!(files(&first), [("t/a".into(), Event::Changed)]);
    change(&mut world, "t/b", 0);
    change(&mut world, "t/c", 1);
    change(&mut world, "t/c", 2);
    change(&mut world, "t/d", 1);
    change(&mut world, "t/d", 0);
    world.ended(&first, 1);
    // It failed, so what it was for is to be run for, too.
    let second = world.start();
    let expected = [
        ("t/a".into(), Event::Changed),
        ("t/b".into(), Event::Deleted),
        ("t/c".into(), Event::Created),
        ("t/d".into(), Event::Deleted),
    ];
    assert_eq!(files(&second), expected);
    world.dies(false);
    change(&mut world, "t/a", 2);
    change(&mut world, "t/c", 2);
    world.nothing();
    world.agenda.complete(world.now);
    assert_eq!(files(&world.start()), expected);
}

#[test]
fn what_left_a_tree_between_two_mounts_is_deleted() {
    let mut world = World::tree(|hook| hook.run_on_load = true);
    let tree = || PartId::tree("t");
    world.told(tree(), "t/a", 1);
    world.told(tree(), "t/b", 1);
    world.nothing();
    world.agenda.complete(world.now);
    let run = world.start();
    assert_eq!((run.event, run.files.len()), (Event::Load, 2));
    world.ended(&run, 0);
    world.plan.hooks.all[0].run_on_load = false;
    world.dies(true);
    world.told(tree(), "t/a", 1);
    world.told(tree(), "t/new", 1);
    world.nothing();
    world.agenda.complete(world.now);
    let run = world.start();
    let files: Vec<_> = run.files.iter().map(|it| (&*it.file, it.event)).collect();
    assert_eq!(files, [("t/b", Event::Deleted), ("t/new", Event::Created)]);
}

#[test]
fn content_that_is_newer_than_what_was_told_is_run_for_once() {
    let mut world = World::one(|hook| hook.stdin = Stdin::Content);
    world.node(1);
    world.node(2);
    let run = world.start();
    assert!(wants_content(&run));
    assert!(world.agenda.gives(run.number, &shows(3), world.now));
    world.node(3);
    world.ended(&run, 0);
    world.nothing();
    world.node(4);
    let run = world.start();
    // It is gone, of which is told in a moment.
    assert!(!world.agenda.gives(run.number, &Shows::Nothing, world.now));
    world.nothing();
    world.node(0);
    let run = world.start();
    assert_eq!((run.event, wants_content(&run)), (Event::Deleted, false));
}

#[test]
fn what_left_a_tree_while_nobody_told_is_deleted() {
    let mut world = World::tree(|_| ());
    let tree = || PartId::tree("t");
    for file in ["t/a", "t/b", "t/c"] {
        world.told(tree(), file, 1);
    }
    world.agenda.complete(world.now);
    // Another server, or another runner: what it does not tell is not there. One cannot be read.
    for dies in [false, true] {
        match dies {
            true => world.dies(false),
            false => world.agenda.plan(&world.plan, false, world.now),
        }
        world.told(tree(), "t/a", 1);
        world.told_of(tree(), "t/c", Shows::Something);
        world.nothing();
        world.agenda.complete(world.now);
        if !dies {
            let run = world.start();
            let files: Vec<_> = run.files.iter().map(|it| (&*it.file, it.event)).collect();
            assert_eq!(files, [("t/b", Event::Deleted)]);
            world.ended(&run, 0);
        }
    }
    world.nothing();
}

#[test]
fn a_file_that_stands_elsewhere_has_not_changed() {
    let mut world = World::one(|_| ());
    world.node(1);
    world.node(2);
    let run = world.start();
    world.plan.parts[0].dest = "b".into();
    world.agenda.plan(&world.plan, false, world.now);
    world.node(2);
    world.ended(&run, 1);
    world.nothing();
    world.dies(true);
    world.node(2);
    let run = world.start();
    assert_eq!((run.files.len(), version(&run)), (1, Some(2)));
    world.ended(&run, 0);
    world.nothing();
}

#[derive(Debug, Clone)]
enum Step {
    Shows(u8, u32),
    Ends(bool),
    Passes(u16),
    Dies(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u8, 0..4_u32).prop_map(|(file, content)| Step::Shows(file, content)),
        4 => any::<bool>().prop_map(Step::Ends),
        3 => (0..3000_u16).prop_map(Step::Passes),
        1 => any::<bool>().prop_map(Step::Dies),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, the last good run of each part that came to its end knew what its file
    /// shows; and in queue mode none ran beside another.
    #[test]
    fn nothing_is_lost(steps in steps(), retries in 0..3_u32, wait in 0..2000_u64) {
        let names = ["a", "b", "c"];
        let hooks = Hooks {
            all: vec![hook("h", |hook| {
                hook.retries = retries;
                hook.wait_min = Duration::from_millis(wait);
                hook.wait_max = Duration::from_millis(wait * 2);
            })],
            ..Hooks::default()
        };
        let parts = names.map(|name| part(PartId::node(name), &["h"])).into();
        let mut world = World::of(Plan { hooks, parts, ..Plan::default() });
        let mut shown = BTreeMap::from(names.map(|name| (name, 1)));
        let mut handled: BTreeMap<String, u32> = BTreeMap::new();
        let tell_all = |world: &mut World, shown: &BTreeMap<&str, u32>| {
            for (name, content) in shown {
                world.told(PartId::node(name), name, *content);
            }
        };
        tell_all(&mut world, &shown);
        for name in names {
            handled.insert(name.into(), 1);
        }
        let mut running: Option<(Run, u32)> = None;
        let go_on = |world: &mut World, running: &mut Option<(Run, u32)>| {
            for action in world.next() {
                if let Action::Start(run) = action {
                    assert!(running.is_none(), "one at a time");
                    let content = run.files[0].version.map_or(0, |(version, _)| version as u32);
                    *running = Some((*run, content));
                }
            }
        };
        for step in steps {
            match step {
                Step::Shows(file, content) => {
                    let name = names[usize::from(file)];
                    shown.insert(name, content);
                    world.told(PartId::node(name), name, content);
                }
                Step::Ends(well) => {
                    if let Some((run, content)) = running.take() {
                        world.ended(&run, i32::from(!well));
                        if well {
                            handled.insert(run.part.id.name.to_string(), content);
                        }
                    }
                }
                Step::Passes(time) => world.pass(time.into()),
                Step::Dies(with_the_mount) => {
                    running = None;
                    world.dies(with_the_mount);
                    tell_all(&mut world, &shown);
                }
            }
            go_on(&mut world, &mut running);
        }
        // In the end another runner sees to whatever was given up.
        running = None;
        world.dies(false);
        tell_all(&mut world, &shown);
        for _ in 0..20 {
            world.pass(10_000);
            go_on(&mut world, &mut running);
            if let Some((run, content)) = running.take() {
                world.ended(&run, 0);
                handled.insert(run.part.id.name.to_string(), content);
            }
        }
        world.nothing();
        for (name, content) in shown {
            prop_assert_eq!(handled[name], content, "{}", name);
        }
    }
}
