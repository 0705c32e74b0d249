//! What the time of modification tells.

use std::time::Duration;

use super::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};

#[test]
fn each_version_of_a_server_is_a_microsecond_later() {
    let sandbox = Sandbox::new("mtime");
    sandbox.admin.create("/a", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let mut last = mount.mtime("a");
    for n in 1..=200 {
        let content = n.to_string();
        sandbox.admin.set("/a", &content);
        mount.wait_for_content("a", &content);
        let mtime = mount.mtime("a");
        assert!(mtime >= last + Duration::from_micros(1));
        last = mtime;
    }
    // Deleted and created again: not even then it goes back.
    sandbox.admin.delete("/a");
    mount.wait_until_gone("a");
    sandbox.admin.create("/a", "new");
    mount.wait_for_content("a", "new");
    assert!(mount.mtime("a") >= last + Duration::from_micros(1));
}

#[test]
fn a_rewrite_of_the_same_bytes_moves_nothing() {
    let sandbox = Sandbox::new("rewrite");
    sandbox.admin.create("/a", "same");
    sandbox.admin.create("/marker", "0");
    let nodes = "nodes.a.source = /a\nnodes.marker.source = /marker";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let before = (mount.ino("a"), mount.mtime("a"));
    for n in 1..=20 {
        let content = n.to_string();
        sandbox.admin.set("/a", "same");
        sandbox.admin.set("/marker", &content);
        mount.wait_for_content("marker", &content);
        assert_eq!((mount.ino("a"), mount.mtime("a")), before);
    }
    // The last of them was noticed: what comes after it is.
    sandbox.admin.set("/a", "other");
    mount.wait_for_content("a", "other");
    assert_ne!(mount.ino("a"), before.0);
}

#[test]
fn a_heartbeat_touches_what_is_known_to_be_current() {
    let sandbox = Sandbox::new("heartbeat");
    let proxy = Proxy::start(shared_server().address());
    for name in ["good", "denied", "absent"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    let lines = "
        heartbeat_interval = 100 milliseconds
        defaults.on_delete = keep
        nodes.good.source = /good
        nodes.denied.source = /denied
        nodes.absent.source = /absent
        nodes.never.source = /never";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, lines));
    let (ino, mut last) = (mount.ino("good"), mount.mtime("good"));
    let mut beats = |n: usize| {
        for _ in 0..n {
            wait_until(SOON, "a heartbeat", || mount.mtime("good") > last);
            last = mount.mtime("good");
        }
    };
    beats(3);
    assert_eq!(mount.ino("good"), ino, "the inode stays");

    // One changes where we may not read it, one is deleted; we learn of both in a new session.
    proxy.refuse();
    sandbox.admin.set_acl_nobody("/denied");
    sandbox.admin.set("/denied", "2");
    sandbox.admin.delete("/absent");
    proxy.accept();
    mount.wait_for_log(1, "warn: /denied: its ACL does not let us read it");
    // Absence is not logged, but after two heartbeats of this session it is known.
    beats(2);
    let stale = |file| (mount.read(file), mount.mtime(file), mount.ino(file));
    let (denied, absent) = (stale("denied"), stale("absent"));
    beats(3);
    assert_eq!((stale("denied"), stale("absent")), (denied, absent));
    assert_eq!(mount.read("denied").unwrap(), b"1");
    assert!(!mount.has("never"));

    // What can be read again is touched again.
    let (denied, absent) = (mount.mtime("denied"), mount.mtime("absent"));
    sandbox.admin.set_acl_world("/denied");
    mount.wait_for_content("denied", "2");
    // The same bytes as before: the same file, but known again.
    sandbox.admin.create("/absent", "1");
    let moves = || mount.mtime("denied") > denied && mount.mtime("absent") > absent;
    wait_until(SOON, "both are touched", moves);
}
