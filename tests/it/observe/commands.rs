//! `livedata-fuse status`: the table, the exit codes, and waiting for something.

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::node;
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::place::Ran;
use crate::support::process;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept::{kill, processes};

impl Mount {
    /// Runs `livedata-fuse status ARGUMENTS` on it.
    fn status(&self, arguments: &[&str]) -> Ran {
        let output: Output = Command::new(env!("CARGO_BIN_EXE_livedata-fuse"))
            .arg("status")
            .args(arguments)
            .arg(self.root())
            .output()
            .unwrap();
        output.into()
    }
}

fn two(name: &str) -> (Sandbox, Proxy, Mount) {
    let sandbox = Sandbox::new(name);
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "12345");
    sandbox.admin.create("/b", "1");
    let lines = "nodes.a.source = /a\nnodes.a.dest = dir/a.json\nnodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    (sandbox, proxy, mount)
}

#[test]
fn the_table_and_the_exit_codes() {
    let (sandbox, proxy, mount) = two("table");
    wait_until(SOON, "it is healthy", || mount.status(&[]).code == Some(0));
    let ran = mount.status(&[]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{ran:?}");
    let row = |ran: &Ran, name: &str| {
        let mut rows = ran.stdout.lines();
        let row = rows.find(|row| row.starts_with(&format!("{name} ")));
        let row = row.unwrap_or_else(|| panic!("no {name}: {ran:?}"));
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let header = ["NODE", "FILE", "STATE", "VERSION", "AGE", "SIZE", "ERROR"];
    assert_eq!(row(&ran, "NODE"), header);
    let a = row(&ran, "a");
    assert_eq!(
        (&*a[1], &*a[2], &*a[3], &*a[5]),
        ("dir/a.json", "live", "0", "5")
    );
    for process in ["keeper", "server", "publisher"] {
        assert_eq!(row(&ran, process)[2], "serving");
    }
    // A pipe is no terminal.
    assert!(!ran.stdout.contains('\x1b'));
    let json: serde_json::Value = serde_json::from_str(&mount.status(&["--json"]).stdout).unwrap();
    assert_eq!(json["details"]["schema"], 1);
    assert_eq!(json["details"]["nodes"][0]["state"], "live");

    proxy.refuse();
    sandbox.admin.set("/b", "2");
    sandbox.admin.set_acl_nobody("/b");
    wait_until(SOON, "it is degraded", || mount.status(&[]).code == Some(1));
    let ran = mount.status(&[]);
    assert!(ran.stdout.contains("ZooKeeper is not reached"), "{ran:?}");
    assert_eq!(row(&ran, "a")[2], "stale");
    proxy.accept();
    wait_until(SOON, "one is denied", || {
        let ran = mount.status(&[]);
        let (a, b) = (row(&ran, "a"), row(&ran, "b"));
        (ran.code, &*a[2], &*b[2]) == (Some(1), "live", "denied")
    });
    // Those that are not well come first.
    let ran = mount.status(&[]);
    let at = |name: &str| ran.stdout.find(&format!("\n{name} ")).unwrap();
    assert!(at("b") < at("a"), "{ran:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_livedata-fuse"));
    let output = command
        .arg("status")
        .arg(elsewhere.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn colours_on_a_terminal_unless_they_are_not_wanted() {
    let (_sandbox, _proxy, mount) = two("colours");
    let in_terminal = |environment: &str| {
        let program = env!("CARGO_BIN_EXE_livedata-fuse");
        let command = format!("{environment} {program} status {}", mount.root().display());
        let mut script = Command::new("script");
        let output = script
            .args(["-qec", &command, "/dev/null"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(in_terminal("TERM=xterm NO_COLOR=").contains("\x1b[32mlive"));
    assert!(!in_terminal("TERM=xterm NO_COLOR=1").contains('\x1b'));
    assert!(!in_terminal("TERM=dumb NO_COLOR=").contains('\x1b'));
}

#[test]
fn of_a_thousand_nodes_those_come_first_that_are_not_live() {
    let sandbox = Sandbox::new("thousand-table");
    let znodes = (0..999).map(|n| (format!("/n{n}"), "x"));
    sandbox.admin.create_many(znodes);
    let lines: String = (0..1000)
        .map(|n| format!("nodes.n{n}.source = /n{n}\n"))
        .collect();
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let rows = |ran: &Ran| {
        let rows = ran.stdout.lines().filter(|row| row.starts_with('n'));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let ran = mount.status(&[]);
    let short = rows(&ran);
    assert_eq!(short.len(), 20);
    assert!(
        short[0].starts_with("n999 ") && short[0].contains(" absent "),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("\nand 980 more, all live (--all shows them)\n")
    );
    assert_eq!(rows(&mount.status(&["--all"])).len(), 1000);
}

#[test]
fn a_script_waits_for_a_version() {
    let (sandbox, _proxy, mount) = two("waits-version");
    let reached = mount.status(&["--wait-for", "a"]);
    assert_eq!(
        (reached.code, &*reached.stdout, &*reached.stderr),
        (Some(0), "", "")
    );
    assert_eq!(mount.status(&["--wait-for", "a@0"]).code, Some(0));
    let late = mount.status(&["--wait-for", "a@2", "--timeout", "200ms"]);
    late.failed(1, "after 200ms a is live at version 0");
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let ran = mount.status(&["--wait-for", "a@2"]);
            // What was waited for is there, whoever looks.
            (ran, mount.read("dir/a.json"))
        });
        sandbox.admin.set("/a", "one");
        sandbox.admin.set("/a", "two");
        let (ran, content) = waits.join().unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(content.as_deref(), Some(b"two".as_slice()));
    });
    // Later ones do, too.
    assert_eq!(mount.status(&["--wait-for", "a@1"]).code, Some(0));
}

#[test]
fn what_was_waited_for_is_what_the_next_open_shows() {
    let (sandbox, _proxy, mount) = two("waited-shown");
    for n in 1..=30 {
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let wanted = format!("a@{n}");
                let ran = mount.status(&["--wait-for", &wanted]);
                (ran.code, mount.read("dir/a.json"))
            });
            sandbox.admin.set("/a", format!("content {n}"));
            let shown = Some(format!("content {n}").into_bytes());
            assert_eq!(waits.join().unwrap(), (Some(0), shown));
        });
    }
}

#[test]
fn what_is_known_and_not_shown_yet_is_pending() {
    let (sandbox, _proxy, mount) = two("pending");
    // Where nobody has looked, nobody has to rename.
    assert_eq!(mount.read("dir/a.json").unwrap(), b"12345");
    let [_, publisher] = processes(&mount);
    // It is replaced after some seconds.
    process::stop(Pid::from_raw(publisher.cast_signed()).unwrap());
    sandbox.admin.set("/a", "new");
    let status = mount.wait_for_status("it is known", |status| node(status, "a").pending);
    assert_eq!(node(&status, "a").version, Some(0));
    assert_eq!(mount.read("dir/a.json").unwrap(), b"12345");
    assert_eq!(mount.status(&["--wait-for", "a@1"]).code, Some(0));
    assert_eq!(mount.read("dir/a.json").unwrap(), b"new");
    assert!(!node(&mount.status_json(), "a").pending);
}

#[test]
fn a_script_waits_until_all_is_fresh() {
    let (sandbox, proxy, mount) = two("waits-fresh");
    assert_eq!(mount.status(&["--wait-fresh"]).code, Some(0));
    proxy.refuse();
    wait_until(SOON, "it is stale", || mount.status(&[]).code == Some(1));
    let late = mount.status(&["--wait-fresh", "--timeout", "200ms"]);
    late.failed(1, "a is stale at version 0 (ZooKeeper is not reached: ");
    // The version is shown all the same.
    assert_eq!(mount.status(&["--wait-for", "a@0"]).code, Some(0));
    thread::scope(|scope| {
        let waits = scope.spawn(|| mount.status(&["--wait-fresh"]));
        sandbox.admin.set("/a", "new");
        proxy.accept();
        let ran = waits.join().unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(mount.read("dir/a.json").unwrap(), b"new");
    });
    sandbox.admin.delete("/b");
    mount.wait_until_gone("b");
    let late = mount.status(&["--wait-fresh", "--timeout", "100ms"]);
    late.failed(1, "b is absent");
}

#[test]
fn a_script_learns_that_it_waits_for_nothing() {
    let (_sandbox, _proxy, mut mount) = two("waits-nothing");
    mount
        .status(&["--wait-for", "c"])
        .failed(2, "no node is called \"c\"");
    mount
        .status(&["--wait-for", "c@1"])
        .failed(2, "no node is called \"c\"");
    mount
        .status(&["--wait-for", "@1"])
        .failed(2, "write the name of a node");
    mount
        .status(&["--wait-fresh", "--json"])
        .failed(2, "--json");
    mount
        .status(&["--wait-fresh", "--timeout", "soon"])
        .failed(2, "no time");
    mount.signal(rustix::process::Signal::TERM);
    mount.wait();
    let start = Instant::now();
    mount.status(&["--wait-fresh"]).failed(2, "no mount");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn it_waits_for_a_server_that_does_not_answer() {
    let (_sandbox, _proxy, mount) = two("waits-server");
    let [server, _] = processes(&mount);
    process::stop(Pid::from_raw(server.cast_signed()).unwrap());
    let late = mount.status(&["--wait-fresh", "--timeout", "100ms"]);
    late.failed(1, "the server does not answer");
    thread::scope(|scope| {
        let waits = scope.spawn(|| mount.status(&["--wait-fresh"]));
        kill(server);
        let ran = waits.join().unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    });
}
