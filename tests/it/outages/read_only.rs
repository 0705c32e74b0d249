//! Servers without a quorum, in read-only mode, where the configuration lets them do.

use std::time::Duration;

use serde_json::Value;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::Ensemble;

const LINES: &str = "
    zookeeper.read_only = true
    heartbeat_interval = 1 seconds
    nodes.a.source = /a
    nodes.b.source = /b
    nodes.c.source = /c";

/// A session with such a server is a local one, which members must allow.
fn ensemble() -> (Ensemble, Admin) {
    let ensemble = Ensemble::start_with(
        "localSessionsEnabled=true\n",
        &["-Dreadonlymode.enabled=true"],
    );
    let admin = Admin::connect(ensemble.hosts());
    admin.create("/a", "1");
    admin.create("/b", "1");
    (ensemble, admin)
}

#[track_caller]
fn wait_until_read_only(ensemble: &Ensemble) {
    wait_until(SOON, "the first member is read-only", || {
        ensemble.members[0].mode().as_deref() == Some("read-only")
    });
}

#[track_caller]
fn wait_for_status(mount: &Mount, zookeeper: &str) {
    wait_until(SOON, &format!("the status says {zookeeper}"), || {
        let now = &mount.details()["zookeeper"];
        let words = match (&now["read_only"], &now["connected"]) {
            (Value::Bool(true), _) => "read-only",
            (_, Value::Bool(true)) => "connected",
            _ => "away",
        };
        words == zookeeper
    });
}

/// Everything is as good as with a quorum again.
#[track_caller]
fn wait_until_healthy(mount: &Mount) {
    wait_for_status(mount, "connected");
    wait_until(SOON, "there are no complaints", || {
        mount.details()["complaints"] == serde_json::json!([])
    });
    let before = mount.mtime("b");
    wait_until(SOON, "b is confirmed", || mount.mtime("b") > before);
}

#[test]
fn a_mount_starts_with_a_read_only_server_and_leaves_it_for_a_quorum() {
    let (mut ensemble, admin) = ensemble();
    for member in [1, 2] {
        ensemble.members[member].kill();
    }
    wait_until_read_only(&ensemble);
    let mount = Mount::start(&config(&ensemble.hosts(), LINES));
    assert_eq!(mount.read("a").as_deref(), Some(&b"1"[..]));
    assert!(mount.has("b") && !mount.has("c"));
    wait_for_status(&mount, "read-only");
    let complaints = mount.details()["complaints"].to_string();
    assert!(
        complaints.contains("ZooKeeper is read-only"),
        "{complaints}"
    );
    assert!(complaints.contains("2 files may be old"), "{complaints}");
    let session = mount.session();
    let seen = || (mount.mtime("a"), mount.mtime("b"), mount.session());
    let before = seen();
    // Longer than it takes to look for a quorum.
    holds_for(Duration::from_secs(6), "nothing is confirmed", || {
        seen() == before
    });
    for member in [1, 2] {
        ensemble.members[member].restart();
    }
    mount.next_session(session);
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    admin.create("/c", "1");
    mount.wait_for_content("c", "1");
    wait_until_healthy(&mount);
}

/// The read-only server does not come back to the others, and nothing else tells of them.
#[test]
fn a_read_only_server_is_left_for_a_quorum_elsewhere() {
    let (mut ensemble, _) = ensemble();
    for member in [1, 2] {
        ensemble.members[member].kill();
    }
    wait_until_read_only(&ensemble);
    let mount = Mount::start(&config(&ensemble.hosts(), LINES));
    wait_for_status(&mount, "read-only");
    let session = mount.session();
    ensemble.part_first();
    let admin = Admin::connect(ensemble.members[1].hosts());
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    mount.wait_for_log(1, "a server with a quorum is reached");
    wait_until_healthy(&mount);
    assert_eq!(ensemble.members[0].mode().as_deref(), Some("read-only"));
    assert_ne!(mount.session(), session);
    assert_ne!(ensemble.member_of(mount.session()), Some(0));
}

/// It knows nothing of what happened while it was away.
#[test]
fn a_read_only_server_that_is_behind_takes_nothing_back() {
    let (mut ensemble, admin) = ensemble();
    ensemble.members[0].kill();
    let mount = Mount::start(&config(&ensemble.hosts(), LINES));
    admin.set("/a", "2");
    admin.create("/c", "new");
    mount.wait_for_content("a", "2");
    mount.wait_for_content("c", "new");
    let session = mount.session();
    for member in [1, 2] {
        ensemble.members[member].kill();
    }
    ensemble.members[0].spawn();
    wait_until_read_only(&ensemble);
    mount.next_session(session);
    wait_for_status(&mount, "read-only");
    for file in ["a", "c"] {
        mount.wait_for_log(1, &format!("warn: /{file}: a read-only server"));
    }
    let seen = || ["a", "b", "c"].map(|file| (mount.ino(file), mount.mtime(file)));
    let before = seen();
    holds_for(Duration::from_secs(3), "all is as it was", || {
        seen() == before && mount.read("a").as_deref() == Some(b"2")
    });
    for member in [1, 2] {
        ensemble.members[member].restart();
    }
    admin.set("/a", "3");
    mount.wait_for_content("a", "3");
    admin.delete("/c");
    mount.wait_until_gone("c");
    wait_until_healthy(&mount);
}

/// What may be old breaks when it is too old, and a cache makes a start no longer.
#[test]
fn what_a_read_only_server_shows_counts_as_old() {
    let (mut ensemble, admin) = ensemble();
    let cache = tempfile::tempdir().unwrap();
    let lines = format!(
        "cache.dir = {}\n{LINES}\nnodes.a.on_disconnect = error\nnodes.a.max_stale = 8 seconds",
        cache.path().display()
    );
    let config = config(&ensemble.hosts(), &lines);
    let mut mount = Mount::start_with(&config, &["--wait", "25s"]);
    mount.signal(rustix::process::Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    for member in [1, 2] {
        ensemble.members[member].kill();
    }
    wait_until_read_only(&ensemble);
    let start = std::time::Instant::now();
    mount.start_again(&["--wait", "25s"]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "ready after {took:?}");
    wait_for_status(&mount, "read-only");
    wait_until(SOON, "a is too old", || mount.read("a").is_none());
    assert_eq!(mount.read("b").as_deref(), Some(&b"1"[..]));
    for member in [1, 2] {
        ensemble.members[member].restart();
    }
    mount.wait_for_content("a", "1");
    admin.set("/b", "2");
    mount.wait_for_content("b", "2");
    wait_until_healthy(&mount);
}
