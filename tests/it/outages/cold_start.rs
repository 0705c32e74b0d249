//! A start while ZooKeeper is away: what an earlier mount knew is served, and is not made younger.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::cache::disk::Disk;
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::{Sandbox, Server};
use crate::survival::kept::{kill, next_of, processes, status, wait_status};

/// Unmounts, as a shutdown of the host does.
fn unmount(mount: &mut Mount) {
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
}

#[test]
fn what_was_known_is_served_at_a_start_without_zookeeper() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    admin.create("/b", "{}");
    admin.create("/gone", "1");
    admin.create("/empty", "");
    let lines = "
        cache.dir = cache
        nodes.a.source = /a
        nodes.a.dest = deep/down/a
        nodes.a.mode = 0440
        nodes.a.required = true
        nodes.b.source = /b
        nodes.empty.source = /empty
        nodes.gone.source = /gone
        nodes.never.source = /never";
    let mut mount = Mount::start(&config(&server.hosts(), lines));
    admin.set("/a", "2");
    mount.wait_for_content("deep/down/a", "2");
    admin.delete("/gone");
    mount.wait_until_gone("gone");
    let files = ["deep/down/a", "b", "empty"];
    let before = files.map(|file| mount.mtime(file));
    unmount(&mut mount);
    server.stop();

    mount.start_again(&[]);
    assert_eq!(mount.read("deep/down/a").unwrap(), b"2");
    assert_eq!(mount.meta("deep/down/a").mode() & 0o7777, 0o440);
    assert_eq!(mount.read("b").unwrap(), b"{}");
    assert_eq!(mount.read("empty").unwrap(), b"");
    assert!(!mount.has("gone") && !mount.has("never"));
    let after = files.map(|file| mount.mtime(file));
    assert_eq!(after, before, "nobody knows better than before");
    assert_eq!(status(&mount)["details"]["stale"], 3);
    holds_for(Duration::from_millis(500), "the time stands still", || {
        files.map(|file| mount.mtime(file)) == after
    });

    server.restart();
    Admin::connect(server.hosts()).set("/a", "3");
    mount.wait_for_content("deep/down/a", "3");
    wait_until(SOON, "what did not change is confirmed", || {
        mount.mtime("b") > after[1]
    });
    wait_status(&mount, "nothing is stale", |status| {
        status["details"]["stale"] == 0
    });
    assert!(!mount.has("gone") && !mount.has("never"));
}

#[test]
fn what_was_deleted_while_it_was_down_goes_once_that_is_proven() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    let lines = "cache.dir = cache\nnodes.a.source = /a";
    let mut mount = Mount::start(&config(&server.hosts(), lines));
    unmount(&mut mount);
    admin.delete("/a");
    server.stop();
    mount.start_again(&[]);
    assert_eq!(mount.read("a").unwrap(), b"1");
    server.restart();
    mount.wait_until_gone("a");
    unmount(&mut mount);
    server.stop();
    mount.start_again(&["--wait", "1s"]);
    assert!(!mount.has("a"), "and stays away");
}

#[test]
fn nothing_is_fetched_again_that_is_known() {
    let sandbox = Sandbox::new("cold-start-again");
    sandbox.admin.create("/a", "1");
    let lines = "cache.dir = cache\nnodes.a.source = /a";
    let mut mount = Mount::start(&config(&sandbox.hosts(), lines));
    let mtime = mount.mtime("a");
    unmount(&mut mount);
    mount.start_again(&["--debug"]);
    wait_until(SOON, "it is confirmed", || mount.mtime("a") > mtime);
    assert_eq!(mount.read("a").unwrap(), b"1");
    assert_eq!(
        mount.n_logged("/a: version 0"),
        0,
        "its content did not come again"
    );
}

#[test]
fn the_cache_is_for_its_owner_alone() {
    let sandbox = Sandbox::new("cold-start-modes");
    sandbox.admin.create("/secret", "1");
    let lines = "cache.dir = cache\nnodes.secret.source = /secret";
    let mut mount = Mount::start(&config(&sandbox.hosts(), lines));
    unmount(&mut mount);
    let mut n_files = 0;
    let mut left = vec![mount.config().with_file_name("cache")];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            n_files += 1;
        }
    }
    assert!(n_files > 0);
}

#[test]
fn a_successor_keeps_on_writing() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    admin.create("/b", "1");
    let lines = "cache.dir = cache\nnodes.a.source = /a\nnodes.b.source = /b";
    let mut mount = Mount::start_with(&config(&server.hosts(), lines), &["--restart-at-once"]);
    let [old, _] = processes(&mount);
    kill(old);
    next_of(&mount, "server", old);
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    wait_status(&mount, "all is on disk", |status| {
        let cache = &status["details"]["cache"];
        cache["health"] == "healthy" && cache["waiting"] == 0 && cache["entries"] == 2
    });
    // Without any good-bye, as when the host dies.
    let before = ["a", "b"].map(|file| mount.mtime(file));
    kill(mount.pid());
    mount.wait();
    server.stop();
    mount.start_again(&[]);
    assert_eq!(mount.read("a").unwrap(), b"2");
    assert_eq!(mount.read("b").unwrap(), b"1");
    assert_eq!(["a", "b"].map(|file| mount.mtime(file)), before);
}

#[test]
fn what_was_learnt_elsewhere_is_not_taken_for_it() {
    let sandbox = Sandbox::new("cold-start-here");
    let other = Sandbox::new("cold-start-there");
    sandbox.admin.create("/a", "here");
    let lines = "cache.dir = cache\nnodes.a.source = /a";
    let mut mount = Mount::start(&config(&sandbox.hosts(), lines));
    unmount(&mut mount);
    fs::write(mount.config(), config(&other.hosts(), lines)).unwrap();
    mount.start_again(&[]);
    assert!(!mount.has("a"));
}

#[test]
fn a_cache_that_cannot_be_written_harms_nothing() {
    let sandbox = Sandbox::new("cold-start-no-cache");
    sandbox.admin.create("/a", "1");
    let blocked = Path::new("/proc/1/no-such-place");
    let lines = format!("cache.dir = {}\nnodes.a.source = /a", blocked.display());
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    wait_until(SOON, "the log says so", || mount.n_logged("cache") >= 1);
    let log = mount.log();
    assert!(log.contains("no-such-place"), "{log}");
}

#[test]
fn a_full_disk_harms_nothing_and_is_told() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    let disk = Disk::new(c"size=8m,mode=755");
    let lines = format!(
        "cache.dir = {}\nnodes.a.source = /a",
        disk.path().join("cache").display()
    );
    let mut mount = Mount::start(&config(&server.hosts(), &lines));
    wait_status(&mount, "it is kept", |status| {
        status["details"]["cache"]["entries"] == 1 && status["details"]["cache"]["waiting"] == 0
    });
    let full = disk.fill();
    let large = vec![b'x'; 500_000];
    admin.set("/a", &large);
    mount.wait_for_content("a", &large);
    let fails = |status: &serde_json::Value| {
        let complaints = status["details"]["complaints"].as_array();
        let said = |words: &serde_json::Value| {
            words
                .as_str()
                .is_some_and(|words| words.starts_with("cache.dir: failing"))
        };
        complaints.is_some_and(|complaints| complaints.iter().any(said))
    };
    wait_status(&mount, "the status complains", fails);
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    fs::remove_file(full).unwrap();
    wait_status(&mount, "it is written again", |status| {
        !fails(status) && status["details"]["cache"]["waiting"] == 0
    });
    unmount(&mut mount);
    server.stop();
    mount.start_again(&[]);
    assert_eq!(mount.read("a").unwrap(), b"2");
    unmount(&mut mount);
}

#[test]
fn two_mounts_share_a_directory() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    admin.create("/b", "1");
    let shared = tempfile::tempdir().unwrap();
    let text = |node: &str| {
        let dir = shared.path().display();
        let lines = format!("cache.dir = {dir}\nnodes.{node}.source = /{node}");
        config(&server.hosts(), &lines)
    };
    let mut mounts = ["a", "b"].map(|node| Mount::start(&text(node)));
    mounts.iter_mut().for_each(unmount);
    server.stop();
    for (mount, (own, other)) in mounts.iter_mut().zip([("a", "b"), ("b", "a")]) {
        mount.start_again(&[]);
        assert_eq!(mount.read(own).unwrap(), b"1");
        assert!(!mount.has(other));
    }
}
