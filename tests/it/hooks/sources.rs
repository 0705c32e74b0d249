//! Hooks come and go with the configuration, and are shown in the status.

use std::fs;

use rustix::process::Signal;

use super::{Hooked, hook};
use crate::files::config;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;

#[test]
fn dropins_bring_hooks_and_take_them_away() {
    let hooked = Hooked::start(
        "hook-dropins",
        &hook("command = echo main $LIVEDATA_VERSION >> $DIR/out"),
    );
    let dir = hooked.mount.config().with_file_name("mount.d");
    let write = |text: &str| {
        let text = text.replace("$DIR", hooked.dir.path().to_str().unwrap());
        fs::write(dir.join("new"), text).unwrap();
        fs::rename(dir.join("new"), dir.join("b.ini")).unwrap();
    };
    fs::create_dir(&dir).unwrap();
    hooked.sandbox.admin.create("/b", "1");
    let good = "nodes.b.source = /b\nnodes.b.hooks = b\nhooks.b.command = echo b $LIVEDATA_VERSION >> $DIR/b";
    write(good);
    hooked.mount.wait_for_content("b", "1");
    wait_until(SOON, "it is there", || hooked.standing("b").is_object());
    hooked.mount.wait_for_log(2, "hooks know what is there");
    hooked.sandbox.admin.set("/b", "2");
    hooked.wait_for_lines("b", &["b 1"]);
    // What is wrong keeps what it last defined.
    write("nodes.b.source = /b\nnonsense");
    hooked.mount.wait_for_log(1, "b.ini");
    hooked.sandbox.admin.set("/b", "3");
    hooked.wait_for_lines("b", &["b 1", "b 2"]);
    // Another command, and what was run for is not run again.
    write(&good.replace("echo b", "echo other"));
    hooked.mount.wait_for_log(2, "drop-ins changed");
    hooked.sandbox.admin.set("/b", "4");
    wait_until(SOON, "one of them runs", || hooked.lines("b").len() == 3);
    hooked.sandbox.admin.set("/b", "5");
    wait_until(SOON, "the other runs", || {
        hooked.lines("b").last().unwrap() == "other 4"
    });
    write("nodes.b.source = /b");
    wait_until(SOON, "it is gone", || hooked.standing("b").is_null());
    hooked.sandbox.admin.set("/b", "6");
    hooked.mount.wait_for_content("b", "6");
    hooked.set("2");
    hooked.wait_for_lines("out", &["main 1"]);
    assert_eq!(hooked.lines("b").len(), 4);
}

#[test]
fn the_first_hooks_may_come_later() {
    let hooked = Hooked::start("later-base", &hook("command = true"));
    let lines = "nodes.a.source = /a\nnodes.a.hooks = late, load\n\
        hooks.late.command = echo late $LIVEDATA_EVENT >> $DIR/out\n\
        hooks.load.run_on_load = true\n\
        hooks.load.command = echo load $LIVEDATA_EVENT >> $DIR/load";
    let lines = lines.replace("$DIR", hooked.dir.path().to_str().unwrap());
    hooked
        .mount
        .reload(&config(&hooked.sandbox.hosts(), &lines));
    hooked.wait_for_lines("load", &["load load"]);
    hooked.set("2");
    hooked.wait_for_lines("out", &["late changed"]);
    hooked.wait_for_lines("load", &["load load", "load changed"]);
    assert_eq!(hooked.mount.n_logged("hook h "), 0);
    hooked.mount.signal(Signal::HUP);
}

#[test]
fn a_tree_that_is_there_may_get_a_hook() {
    let tree = "# one more line above it\ntrees.t.source = /t";
    let hooked = Hooked::start_with(
        "tree-later",
        "nodes.a.source = /t/a\nnodes.a.hooks = h\nhooks.h.command = true\ntrees.t.source = /t",
        &[],
        |sandbox| {
            sandbox.admin.create_many([("/t/a", "1"), ("/t/b", "1")]);
        },
    );
    let more = format!(
        "{tree}\ntrees.t.hooks = load\nhooks.load.run_on_load = true\n\
         hooks.load.command = echo $LIVEDATA_EVENT $LIVEDATA_N_FILES >> {}/out",
        hooked.dir.path().display()
    );
    hooked.mount.reload(&config(&hooked.sandbox.hosts(), &more));
    hooked.wait_for_lines("out", &["load 3"]);
    hooked.sandbox.admin.set("/t/b", "2");
    hooked.wait_for_lines("out", &["load 3", "changed 1"]);
}

#[test]
fn the_status_shows_each_hook() {
    let hooked = Hooked::start("hook-status", &hook("command = exit 4\nretries = 0"));
    hooked.set("2");
    let ended = hooked.wait_standing("h", "it has failed", |hook| hook["failures_in_a_row"] == 1);
    assert_eq!(
        (&ended["of"], &ended["code"]),
        (&"nodes.a".into(), &4.into()),
        "{ended}"
    );
    assert_eq!(
        (&ended["version"], &ended["event"]),
        (&1.into(), &"changed".into())
    );
    assert!(ended["started"].as_f64().is_some() && ended["seconds"].as_f64().is_some());
    let program = env!("CARGO_BIN_EXE_livedata-fuse");
    let table = std::process::Command::new(program)
        .arg("status")
        .arg(hooked.mount.root())
        .output();
    let table = table.unwrap();
    assert_eq!(table.status.code(), Some(1), "degraded");
    let table = String::from_utf8(table.stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("h "));
    let row = row.unwrap_or_else(|| panic!("{table}"));
    for cell in ["nodes.a", "failed 1 times", "exit code 4"] {
        assert!(row.contains(cell), "{row}");
    }
    let metrics = fs::read_to_string(hooked.mount.path(".livedata/metrics.prom")).unwrap();
    for (metric, value) in [
        ("runs_total", "1"),
        ("failures_total", "1"),
        ("last_exit_code", "4"),
    ] {
        let start = format!("livedata_hook_{metric}{{");
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap();
        assert!(
            line.ends_with(&format!(" {value}")) && line.contains("hook=\"h\""),
            "{line}"
        );
    }
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), metrics.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}
