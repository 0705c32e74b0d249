//! Processes of the mount die while commands run: nothing is lost, and what goes on is not started
//! twice.

use rustix::process::{Pid, Signal};

use super::harm::pid_of_runner;
use super::{Hooked, hook, wait_for_gate};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::survival::kept::{kill, next_of, processes};

/// Writes its version and its process when it starts, and waits for the gate.
fn slow() -> String {
    let wait = wait_for_gate("gate-$LIVEDATA_VERSION");
    format!("command = echo $LIVEDATA_VERSION >> $DIR/out; echo $$ >> $DIR/pids; {wait}")
}

fn start(name: &str, lines: &str) -> Hooked {
    Hooked::start_with(name, lines, &["--restart-at-once"], |sandbox| {
        sandbox.admin.create("/a", "1");
    })
}

#[test]
fn a_killed_server_starts_nothing_twice_and_loses_nothing() {
    let hooked = start("server-dies", &hook(&slow()));
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    for round in 1..=5 {
        let [server, _] = processes(&hooked.mount);
        kill(server);
        hooked.sandbox.admin.set("/a", format!("set {round}"));
        next_of(&hooked.mount, "server", server);
        hooked.mount.wait_for_content("a", format!("set {round}"));
    }
    assert_eq!(hooked.lines("out"), ["1"], "it runs on");
    hooked.open("gate-1");
    hooked.wait_for_lines("out", &["1", "6"]);
    hooked.open("gate-6");
    hooked.wait_standing("h", "both have ended", |hook| hook["runs"] == 2);
    // Each content once, whoever serves.
    for round in 7..12 {
        let [server, _] = processes(&hooked.mount);
        hooked.open(&format!("gate-{round}"));
        hooked.set(&format!("again {round}"));
        wait_until(SOON, "it runs", || {
            hooked.lines("out").last().unwrap() == &round.to_string()
        });
        kill(server);
        next_of(&hooked.mount, "server", server);
    }
    let expected: Vec<String> = [1, 6]
        .into_iter()
        .chain(7..12)
        .map(|n| n.to_string())
        .collect();
    assert_eq!(hooked.lines("out"), expected);
}

#[test]
fn what_a_killed_runner_has_not_seen_to_the_end_runs_again() {
    let hooked = start("runner-dies", &hook(&slow()));
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    let runner = pid_of_runner(&hooked);
    kill(runner);
    hooked.wait_for_lines("out", &["1", "1"]);
    // The one before has ended first.
    let pids = hooked.lines("pids");
    let first = Pid::from_raw(pids[0].parse().unwrap()).unwrap();
    wait_until(SOON, "it is buried", || {
        rustix::process::test_kill_process_group(first).is_err()
    });
    hooked.open("gate-1");
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    kill(pid_of_runner(&hooked));
    hooked.open("gate-2");
    hooked.set("3");
    hooked.wait_for_lines("out", &["1", "1", "2"]);
    assert_eq!(hooked.standing("h")["failures"], 0);
}

#[test]
fn what_changes_while_there_is_no_runner_is_run_for() {
    let hooked = start(
        "no-runner",
        &hook("command = echo $LIVEDATA_VERSION >> $DIR/out"),
    );
    for version in 1..20 {
        kill(pid_of_runner(&hooked));
        hooked.sandbox.admin.set("/a", format!("v{version}"));
        wait_until(SOON, "it is run for", || {
            hooked
                .lines("out")
                .last()
                .is_some_and(|last| *last == version.to_string())
        });
    }
}

#[test]
fn all_may_die_at_once() {
    let lines = format!("cache.dir = cache\n{}", hook(&slow()));
    let mut hooked = start("all-die", &lines);
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    let runner = pid_of_runner(&hooked);
    let [server, publisher] = processes(&hooked.mount);
    // The disk is at most a second behind, and the journal of hooks is written as it goes.
    for pid in [hooked.mount.pid(), server, publisher, runner] {
        crate::survival::kept::signal(pid, Signal::KILL);
    }
    hooked.mount.wait();
    wait_until(SOON, "the command dies with them", || {
        hooked.mount.processes().is_empty()
    });
    hooked.mount.start_again(&[]);
    hooked.wait_for_lines("out", &["1", "1"]);
    hooked.open("gate-1");
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
}

#[test]
fn what_changed_between_two_mounts_is_a_change_where_there_is_a_cache() {
    let command = "command = echo $LIVEDATA_EVENT $LIVEDATA_VERSION >> $DIR/out";
    let mut hooked = start("between", &format!("cache.dir = cache\n{}", hook(command)));
    hooked.set("2");
    hooked.wait_for_lines("out", &["changed 1"]);
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    let again = |hooked: &mut Hooked, change: &dyn Fn(&Hooked)| {
        hooked.mount.signal(Signal::TERM);
        hooked.mount.wait();
        change(hooked);
        let n = hooked.mount.n_logged("hooks know what is there");
        hooked.mount.start_again(&[]);
        hooked.mount.wait_for_log(n + 1, "hooks know what is there");
    };
    again(&mut hooked, &|_| ());
    again(&mut hooked, &|hooked| {
        assert!(hooked.sandbox.admin.set("/a", "3") > 0)
    });
    hooked.wait_for_lines("out", &["changed 1", "changed 2"]);
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 2);
    again(&mut hooked, &|hooked| {
        assert!(hooked.sandbox.admin.set("/a", "3") > 0)
    });
    hooked.set("4");
    hooked.wait_for_lines("out", &["changed 1", "changed 2", "changed 4"]);
}

#[test]
fn an_upgrade_starts_nothing_twice() {
    let hooked = start("hooks-upgrade", &hook(&slow()));
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    let runner = pid_of_runner(&hooked);
    let [server, _] = processes(&hooked.mount);
    hooked.mount.signal(Signal::USR2);
    next_of(&hooked.mount, "server", server);
    hooked.set("3");
    assert_eq!(hooked.lines("out"), ["1"]);
    assert_eq!(pid_of_runner(&hooked), runner, "it has a command to see to");
    hooked.open("gate-1");
    hooked.open("gate-2");
    hooked.wait_for_lines("out", &["1", "2"]);
    wait_until(SOON, "then it makes room", || {
        pid_of_runner(&hooked) != runner
    });
    hooked.open("gate-3");
    hooked.set("4");
    hooked.wait_for_lines("out", &["1", "2", "3"]);
    assert_eq!(hooked.standing("h")["failures"], 0);
}

#[test]
fn what_leaves_a_tree_while_processes_die_is_told() {
    let lines = "trees.t.source = /t
        trees.t.hooks = h
        hooks.h.pipe_stdin = events
        hooks.h.command = cat >> $DIR/out";
    let hooked = Hooked::start_with("tree-deaths", lines, &["--restart-at-once"], |sandbox| {
        let znodes = (0..20).map(|n| (format!("/t/{n}"), "1"));
        sandbox.admin.create_many(znodes);
    });
    for n in 0..20 {
        let victim = match n % 2 {
            0 => pid_of_runner(&hooked),
            _ => processes(&hooked.mount)[0],
        };
        hooked.sandbox.admin.delete(&format!("/t/{n}"));
        kill(victim);
        let process = if n % 2 == 0 { "runner" } else { "server" };
        next_of(&hooked.mount, process, victim);
        let wanted = format!("/t/{n}\"");
        wait_until(SOON, "the deletion is told", || {
            let lines = hooked.lines("out");
            let mut deleted = lines.iter().filter(|line| line.contains("\"deleted\""));
            deleted.any(|line| line.contains(&wanted))
        });
    }
}

#[test]
fn a_retiring_runner_keeps_to_the_limits_of_its_commands() {
    let hooked = start(
        "retires",
        &hook("timeout = 1 seconds\ncommand = echo $LIVEDATA_VERSION >> $DIR/out; exec sleep 1000"),
    );
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    let runner = pid_of_runner(&hooked);
    let [server, _] = processes(&hooked.mount);
    hooked.mount.signal(Signal::USR2);
    next_of(&hooked.mount, "server", server);
    wait_until(SOON, "it makes room", || pid_of_runner(&hooked) != runner);
    // What had failed is told to the next one as what it is: not run for.
    wait_until(SOON, "it is tried again", || hooked.lines("out").len() == 2);
}
