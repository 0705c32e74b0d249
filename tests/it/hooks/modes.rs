//! When a command runs: what Twitcher's README promises, and git-sync's hooks do.

use std::time::Duration;

use super::{Hooked, hook, wait_for_gate};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};

/// Writes its version when it starts, and waits for the gate.
fn slow() -> String {
    let wait = wait_for_gate("gate");
    format!("command = echo $LIVEDATA_VERSION >> $DIR/out; {wait}")
}

#[test]
fn in_queue_mode_it_runs_once_more_with_the_newest() {
    let hooked = Hooked::start("queue", &hook(&slow()));
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    for content in ["3", "4", "5"] {
        hooked.set(content);
    }
    hooked.wait_standing("h", "it waits", |hook| hook["waits"] == true);
    assert_eq!(hooked.lines("out"), ["1"], "one at a time");
    hooked.open("gate");
    hooked.wait_for_lines("out", &["1", "4"]);
    hooked.wait_standing("h", "both have ended", |hook| hook["runs"] == 2);
    assert_eq!(hooked.lines("out"), ["1", "4"]);
}

#[test]
fn in_discard_mode_what_comes_meanwhile_is_passed_over() {
    let hooked = Hooked::start("discard", &hook(&format!("run_mode = discard\n{}", slow())));
    hooked.set("2");
    hooked.wait_for_lines("out", &["1"]);
    for content in ["3", "4", "5"] {
        hooked.set(content);
    }
    // That the runner was told of it, another hook shows.
    hooked.open("gate");
    hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    hooked.set("6");
    hooked.wait_standing("h", "it has run again", |hook| {
        hook["runs"].as_u64() >= Some(2)
    });
    let lines = hooked.lines("out");
    // The last of those may have been told after the end.
    assert!(lines == ["1", "5"] || lines == ["1", "4", "5"], "{lines:?}");
}

#[test]
fn in_parallel_mode_each_change_starts_one() {
    let hooked = Hooked::start(
        "parallel",
        &hook(&format!("run_mode = parallel\n{}", slow())),
    );
    for n in 1..=4 {
        hooked.set(&format!("{}", n + 1));
        wait_until(SOON, "it has started", || hooked.lines("out").len() == n);
    }
    let running = hooked.wait_standing("h", "all run", |hook| {
        hook["running"]
            .as_array()
            .is_some_and(|running| running.len() == 4)
    });
    assert_eq!(running["runs"], 0);
    hooked.open("gate");
    hooked.wait_standing("h", "all have ended", |hook| hook["runs"] == 4);
    let mut versions = hooked.lines("out");
    versions.sort();
    assert_eq!(versions, ["1", "2", "3", "4"]);
}

#[test]
fn a_running_command_is_notified_in_queue_mode_only() {
    for mode in ["queue", "parallel"] {
        // What has no effect is said, and does no harm.
        let hooked = Hooked::start(
            "notify",
            &hook(&format!(
                "run_mode = {mode}
                notify_signal = SIGUSR1
                command = trap 'echo notified >> $DIR/out' USR1; echo ready >> $DIR/out; {}",
                wait_for_gate("gate")
            )),
        );
        hooked.set("2");
        hooked.wait_for_lines("out", &["ready"]);
        hooked.set("3");
        match mode {
            "queue" => hooked.wait_for_lines("out", &["ready", "notified"]),
            _ => hooked.wait_for_lines("out", &["ready", "ready"]),
        }
        hooked.open("gate");
        hooked.wait_standing("h", "it ran twice", |hook| hook["runs"] == 2);
    }
}

#[test]
fn what_takes_too_long_is_told_to_end_and_five_seconds_later_killed() {
    let hooked = Hooked::start(
        "timeout",
        &hook(
            "timeout = 1 seconds
            command = trap 'echo told >> $DIR/out' TERM; echo $$ >> $DIR/out; \
                (trap '' TERM; while :; do sleep 0.01; done) & while :; do sleep 0.01; done",
        ),
    );
    hooked.set("2");
    let ended = hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    assert_eq!(ended["signal"], 9, "{ended}");
    assert!(ended["seconds"].as_f64().unwrap() >= 6.0, "{ended}");
    assert!(
        ended["error"].as_str().unwrap().contains("too long"),
        "{ended}"
    );
    let lines = hooked.lines("out");
    assert_eq!(lines.last().unwrap(), "told");
    // And all of its group with it.
    let group = rustix::process::Pid::from_raw(lines[0].parse().unwrap()).unwrap();
    wait_until(SOON, "the group ends", || {
        rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH)
    });
    assert_eq!(hooked.mount.n_logged("is told to end"), 1);
    assert_eq!(hooked.mount.n_logged("is killed"), 1);
}

#[test]
fn what_fails_is_tried_again_until_it_succeeds() {
    let hooked = Hooked::start(
        "retries",
        &hook(
            "retries = 5
            backoff = 200 milliseconds
            ok_codes = 0, 3
            command = date +%s.%N >> $DIR/times; echo $LIVEDATA_VERSION >> $DIR/out; \
                [ -e $DIR/good ] && exit 3; exit 1",
        ),
    );
    hooked.set("2");
    wait_until(SOON, "it has failed three times", || {
        hooked.lines("out").len() == 3
    });
    let failing = hooked.standing("h");
    assert!(
        failing["failures_in_a_row"].as_u64() >= Some(2),
        "{failing}"
    );
    hooked.open("good");
    let good = hooked.wait_standing("h", "it succeeds", |hook| {
        hook["code"] == 3 && hook["failures_in_a_row"] == 0 && hook["waits"] == false
    });
    assert!(good["error"].is_null(), "{good}");
    let times = hooked.lines("times");
    let times: Vec<f64> = times.iter().map(|time| time.parse().unwrap()).collect();
    let between: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(between[0] >= 0.2 && between[1] >= 0.4, "{between:?}");
    assert!(hooked.lines("out").iter().all(|version| version == "1"));
}

#[test]
fn heartbeats_and_the_same_bytes_run_nothing() {
    let command = "command = echo $LIVEDATA_VERSION >> $DIR/out";
    let lines = format!("heartbeat_interval = 50 milliseconds\n{}", hook(command));
    let hooked = Hooked::start("same", &lines);
    for _ in 0..5 {
        hooked.sandbox.admin.set("/a", "1");
        let mtime = hooked.mount.mtime("a");
        wait_until(SOON, "a heartbeat", || hooked.mount.mtime("a") > mtime);
    }
    hooked.set("2");
    hooked.wait_for_lines("out", &["6"]);
    assert_eq!(
        hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1)["failures"],
        0
    );
}

#[test]
fn load_created_changed_and_deleted() {
    let command = "run_on_load = true
        command = echo $LIVEDATA_EVENT ${LIVEDATA_VERSION-none} $(cat $LIVEDATA_FILE) >> $DIR/out";
    let hooked = Hooked::start("events", &hook(command));
    hooked.wait_for_lines("out", &["load 0 1"]);
    hooked.set("2");
    hooked.wait_for_lines("out", &["load 0 1", "changed 1 2"]);
    hooked.sandbox.admin.delete("/a");
    hooked.wait_for_lines("out", &["load 0 1", "changed 1 2", "deleted none"]);
    hooked.sandbox.admin.create("/a", "3");
    let all = ["load 0 1", "changed 1 2", "deleted none", "created 0 3"];
    hooked.wait_for_lines("out", &all);
}

#[test]
fn quiet_is_waited_for() {
    let hooked = Hooked::start(
        "quiet",
        &hook(
            "wait_min = 1 seconds
            wait_max = 1 minutes
            splay = 100 milliseconds
            command = echo $LIVEDATA_VERSION >> $DIR/out",
        ),
    );
    let start = std::time::Instant::now();
    for content in 2..6 {
        hooked.set(&content.to_string());
    }
    hooked.wait_for_lines("out", &["4"]);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn ten_thousand_changes_end_with_the_last() {
    let hooked = Hooked::start(
        "burst",
        &hook("command = echo $LIVEDATA_VERSION $(cat $LIVEDATA_FILE) >> $DIR/out; sleep 0.05"),
    );
    hooked
        .sandbox
        .admin
        .set_many((1..=10_000).map(|n| ("/a", n.to_string())));
    wait_until(SOON, "the last is run for", || {
        hooked
            .lines("out")
            .last()
            .is_some_and(|line| line == "10000 10000")
    });
    hooked.wait_standing("h", "it is idle", |hook| hook["waits"] == false);
    let mut before = 0;
    for line in hooked.lines("out") {
        let (told, read) = line.split_once(' ').unwrap();
        let (told, read): (u32, u32) = (told.parse().unwrap(), read.parse().unwrap());
        assert!(told > before, "each content once: {told} after {before}");
        assert!(read >= told, "what was told can be read: {read}, {told}");
        before = told;
    }
    assert!(hooked.lines("out").len() < 2000, "not for each");
}

#[test]
fn an_outage_of_zookeeper_runs_nothing_and_hides_nothing() {
    let command = "hooks.h.command = echo $LIVEDATA_NAME $LIVEDATA_VERSION >> $DIR/out";
    let proxy = Proxy::start(shared_server().address());
    let sandbox = Sandbox::new("hooks-outage");
    let znodes = ["/same", "/set"];
    sandbox.admin.create_many(znodes.map(|znode| (znode, "1")));
    let dir = tempfile::tempdir().unwrap();
    let nodes = ["same", "set"]
        .map(|name| format!("nodes.{name}.source = /{name}\nnodes.{name}.hooks = h\n"));
    let lines = format!("{}{command}", nodes.concat());
    let lines = lines.replace("$DIR", dir.path().to_str().unwrap());
    let hosts = sandbox.hosts_through(proxy.address());
    let hooked = Hooked {
        mount: Mount::start(&config(&hosts, &lines)),
        sandbox,
        dir,
    };
    hooked.wait_for_baseline();
    for version in 1..4 {
        let session = hooked.mount.session();
        proxy.refuse();
        wait_until(SOON, "ZooKeeper is away", || {
            hooked.mount.details()["zookeeper"]["connected"] == false
        });
        hooked.sandbox.admin.set("/set", format!("{version} away"));
        // The same bytes are no change, also when nobody saw them come.
        hooked.sandbox.admin.set("/same", "1");
        proxy.accept();
        hooked.mount.next_session(session);
        let expected: Vec<String> = (1..=version).map(|n| format!("set {n}")).collect();
        hooked.wait_for_lines("out", &expected);
    }
}
