//! Commands that do what they should not, and what becomes of them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal};

use super::{Hooked, hook, wait_for_gate};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;

#[test]
fn output_is_logged_line_by_line_and_not_without_end() {
    let hooked = Hooked::start(
        "output",
        &hook(
            r#"command = printf 'one\ntwo\033[31m\n\nthree'; echo four >&2; head -c 9000 /dev/zero | tr '\0' x; echo; yes | head -n 100000"#,
        ),
    );
    hooked.set("2");
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    hooked
        .mount
        .wait_for_log(1, "lines of its output are left out");
    let log = hooked.mount.log();
    for line in ["one", "two\u{fffd}[31m", "threefour"] {
        assert!(
            log.contains(&format!("hook h for nodes.a: {line}\n")),
            "{line}: {log}"
        );
    }
    assert!(log.contains("xxx ..."));
    assert!(log.lines().all(|line| line.len() < 3000));
    assert!(
        hooked.mount.n_logged("hook h for nodes.a: y") <= 400,
        "{log}"
    );
}

#[test]
fn a_flood_of_output_harms_nobody() {
    let lines = format!(
        "{}nodes.b.source = /b\nnodes.b.hooks = quick\nhooks.quick.command = echo $LIVEDATA_VERSION >> $DIR/out",
        hook("command = exec yes\nkill_timeout = 1 seconds")
    );
    let hooked = Hooked::start_with("flood", &lines, &[], |sandbox| {
        sandbox.admin.create_many([("/a", "1"), ("/b", "1")]);
    });
    hooked.set("2");
    hooked.wait_standing("h", "it floods", |hook| hook["running"][0].is_u64());
    for n in 1..20 {
        hooked.sandbox.admin.set("/b", format!("b{n}"));
        hooked.mount.wait_for_content("b", format!("b{n}"));
        wait_until(SOON, "the other runs", || {
            hooked
                .lines("out")
                .last()
                .is_some_and(|line| *line == n.to_string())
        });
    }
}

#[test]
fn what_a_command_leaves_in_the_background_ends_with_the_mount() {
    let mut hooked = Hooked::start(
        "background",
        &hook(
            "command = (echo $(sh -c 'echo $PPID') > $DIR/pid; while :; do sleep 0.01; done) & sh -c 'exit 0' & exit 0",
        ),
    );
    hooked.set("2");
    let ended = hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    assert_eq!(ended["code"], 0);
    wait_until(SOON, "the background has begun", || {
        !hooked.lines("pid").is_empty()
    });
    let pid = Pid::from_raw(hooked.lines("pid")[0].parse().unwrap()).unwrap();
    assert_eq!(rustix::process::test_kill_process(pid), Ok(()));
    // None of those that have ended is left as a zombie.
    wait_until(SOON, "the dead are buried", || !has_zombies(&hooked));
    hooked.mount.signal(Signal::TERM);
    assert_eq!(hooked.mount.wait(), Some(0));
    wait_until(SOON, "it ends", || {
        rustix::process::test_kill_process(pid).is_err()
    });
}

#[test]
fn what_is_left_of_a_group_that_was_told_to_end_is_killed_before_it_runs_again() {
    let hooked = Hooked::start(
        "pipeline",
        &hook(
            "timeout = 500 milliseconds
            kill_timeout = 500 milliseconds
            command = (trap '' TERM; sh -c 'echo $PPID' >> $DIR/pids; while :; do sleep 0.01; done) | cat",
        ),
    );
    hooked.set("2");
    hooked.wait_standing("h", "it runs", |hook| hook["running"][0].is_u64());
    hooked.set("3");
    wait_until(SOON, "it runs again", || hooked.lines("pids").len() == 2);
    let first = Pid::from_raw(hooked.lines("pids")[0].parse().unwrap()).unwrap();
    wait_until(SOON, "the first is buried", || {
        rustix::process::test_kill_process(first).is_err()
    });
    assert!(hooked.mount.n_logged("is killed") >= 1);
}

fn has_zombies(hooked: &Hooked) -> bool {
    let runner = pid_of_runner(hooked);
    let children = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap();
    let mut pids = children.split_whitespace();
    pids.any(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

/// The process that runs commands.
pub(super) fn pid_of_runner(hooked: &Hooked) -> u32 {
    let status = crate::survival::kept::wait_status(&hooked.mount, "there is a runner", |status| {
        status["runner"]["pid"].is_u64()
    });
    status["runner"]["pid"].as_u64().unwrap() as u32
}

#[test]
fn running_commands_end_with_the_mount() {
    let mut hooked = Hooked::start(
        "ends",
        &hook(
            "kill_timeout = 500 milliseconds
            command = trap 'echo told >> $DIR/out' TERM; echo ready >> $DIR/out; while :; do sleep 0.01; done",
        ),
    );
    hooked.set("2");
    hooked.wait_for_lines("out", &["ready"]);
    hooked.mount.signal(Signal::TERM);
    assert_eq!(hooked.mount.wait(), Some(0));
    assert_eq!(hooked.lines("out"), ["ready", "told"]);
    assert!(hooked.mount.processes().is_empty());
}

#[test]
fn running_commands_may_be_left_to_themselves() {
    let lines = format!(
        "hooks.on_unmount = leave\n{}",
        hook(&format!(
            "command = echo ready >> $DIR/out; {}; echo still here; echo done >> $DIR/out",
            wait_for_gate("gate")
        ))
    );
    let mut hooked = Hooked::start("left", &lines);
    hooked.set("2");
    hooked.wait_for_lines("out", &["ready"]);
    hooked.mount.signal(Signal::TERM);
    assert_eq!(hooked.mount.wait(), Some(0));
    assert!(!hooked.mount.is_mounted());
    hooked.open("gate");
    hooked.wait_for_lines("out", &["ready", "done"]);
    wait_until(SOON, "all end", || hooked.mount.processes().is_empty());
    assert_eq!(hooked.mount.n_logged("still here"), 1);
}

#[test]
fn a_hundred_hooks_at_once_hold_up_nobody() {
    const N: usize = 100;
    let command = format!(
        "hooks.h.command = echo start >> $DIR/$LIVEDATA_NAME; {}",
        wait_for_gate("gate")
    );
    let nodes = (0..N).map(|n| format!("nodes.n{n}.source = /n{n}\nnodes.n{n}.hooks = h"));
    let nodes: Vec<String> = nodes.collect();
    let lines = format!(
        "hooks.h.run_mode = parallel\n{command}\n{}",
        nodes.join("\n")
    );
    let hooked = Hooked::start_with("hundred", &lines, &[], |sandbox| {
        sandbox
            .admin
            .create_many((0..N).map(|n| (format!("/n{n}"), "1")));
    });
    let started = || {
        (0..N)
            .filter(|n| hooked.path(&format!("n{n}")).exists())
            .count()
    };
    hooked
        .sandbox
        .admin
        .set_many((0..N).map(|n| (format!("/n{n}"), "2")));
    wait_until(SOON, "as many run as may", || started() == 16);
    // They hang; content comes and is read all the same.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut n_read = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert!(hooked.mount.read("n0").is_some());
                n_read += 1;
            }
            n_read
        });
        for content in ["3", "4", "5"] {
            hooked
                .sandbox
                .admin
                .set_many((0..N).map(|n| (format!("/n{n}"), content)));
            for n in 0..N {
                hooked.mount.wait_for_content(&format!("n{n}"), content);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(started(), 16, "no more at once than may");
    hooked.open("gate");
    wait_until(SOON, "all have run", || started() == N);
}

#[test]
fn what_cannot_be_started_is_said() {
    let lines = hook("retries = 1\nbackoff = 1 milliseconds\ncommand = [\"/no/such/program\"]");
    let hooked = Hooked::start("missing-program", &lines);
    hooked.set("2");
    let ended = hooked.wait_standing("h", "it was tried twice", |hook| hook["failures"] == 2);
    assert!(
        ended["error"].as_str().unwrap().contains("No such file"),
        "{ended}"
    );
    hooked
        .mount
        .wait_for_log(2, "hook h for nodes.a: it cannot be started");
    let complaints = hooked.mount.details()["complaints"].to_string();
    assert!(complaints.contains("hook h for nodes.a"), "{complaints}");
}
