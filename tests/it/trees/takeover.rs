//! A server that is killed or upgraded: its successor shows the same files.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use super::random::Done;
use super::{shown, wait_for_truth};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept;

/// Kills the server, and waits for its successor.
pub(super) fn kill(mount: &Mount) {
    let [old, _] = kept::processes(mount);
    kept::kill(old);
    kept::next_of(mount, "server", old);
}

/// Whatever the last Stat of their contents says of their children.
#[test]
fn a_successor_shows_the_same_files() {
    let sandbox = Sandbox::new("tree-successor");
    let proxy = Proxy::start(shared_server().address());
    let admin = &sandbox.admin;
    admin.create_many([
        ("/t", "0"),
        ("/t/gains", "1"),
        ("/t/loses/x", "2"),
        ("/t/leaf", "3"),
    ]);
    admin.create("/t/limit/a/b", "4");
    let lines = "trees.t.source = /t\ntrees.limit.source = /t\ntrees.limit.depth = 1";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start_with(&config(&hosts, lines), &["--restart-at-once"]);
    admin.create("/t/gains/y", "5");
    admin.delete("/t/loses/x");
    admin.delete_all("/t/limit/a");
    admin.create("/t/gone", "6");
    mount.wait_for_content("t/gone", "6");
    admin.delete("/t/gone");
    wait_for_truth(&mount, "t", admin, "/t");
    let limit = super::truth(admin, "/t", Some(1));
    super::wait_for_listing(&mount, "limit", &limit);

    // Without ZooKeeper nobody tells it anew.
    proxy.refuse();
    mount.wait_for_log(1, "the last known content is served");
    let files = [
        "t/gains/_data_",
        "t/gains/y",
        "t/loses",
        "t/leaf",
        "t/limit",
        "limit/gains/_data_",
        "limit/limit",
    ];
    let inodes = files.map(|file| mount.ino(file));
    let all = [
        shown(&mount.path("t")).unwrap(),
        shown(&mount.path("limit")).unwrap(),
    ];
    for n in 0..3 {
        match n {
            1 => {
                let [old, _] = kept::processes(&mount);
                mount.signal(Signal::USR2);
                kept::next_of(&mount, "server", old);
            }
            _ => kill(&mount),
        }
        holds_for(
            std::time::Duration::from_millis(300),
            "all is as it was",
            || files.map(|file| mount.ino(file)) == inodes,
        );
        let now = [
            shown(&mount.path("t")).unwrap(),
            shown(&mount.path("limit")).unwrap(),
        ];
        assert_eq!(now, all);
    }
    admin.delete_all("/t/gains");
    admin.create("/t/leaf/z", "7");
    admin.set("/t/loses", "8");
    proxy.accept();
    wait_for_truth(&mount, "t", admin, "/t");
    super::wait_for_listing(&mount, "limit", &super::truth(admin, "/t", Some(1)));
    wait_until(SOON, "what did not change is the same", || {
        mount.ino("t/limit") == inodes[4]
    });
}

/// Whoever has seen a file finds it from then on, whenever the server dies.
#[test]
fn what_was_seen_stays_there() {
    const N: usize = 3000;
    let sandbox = Sandbox::new("tree-seen");
    let admin = &sandbox.admin;
    admin.create("/t/dir", "");
    let config = config(&sandbox.hosts(), "trees.t.source = /t");
    let mount = Mount::start_with(&config, &["--restart-at-once"]);
    let root = mount.path("t/dir");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Done(&over);
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let entries = match fs::read_dir(&root) {
                    Ok(entries) => entries,
                    Err(err) => {
                        // It is a file until it has children.
                        assert!(seen.is_empty(), "{err}");
                        continue;
                    }
                };
                let now: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
                let gone: Vec<_> = seen.difference(&now).collect();
                assert!(gone.is_empty(), "{gone:?} of {}", seen.len());
                seen = now;
            }
        });
        for n in 0..N / 100 {
            let range = n * 100..(n + 1) * 100;
            admin.create_new(range.map(|n| (format!("/t/dir/{n}"), "x")));
            if n % 3 == 0 {
                let server = mount.server().unwrap();
                let _ = rustix::process::kill_process(server, Signal::KILL);
                wait_until(SOON, "another server", || {
                    mount.server().is_some_and(|other| other != server)
                });
            }
        }
        wait_for_truth(&mount, "t", admin, "/t");
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}
