//! Servers that come back with another past.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::wait::holds_for;
use crate::support::zookeeper::Server;

#[test]
fn a_wiped_ensemble_takes_no_files_away() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    // A long history: what the files show is later than all that the new servers will have seen.
    admin.create("/filler", "");
    admin.set_many((0..1000).map(|n| ("/filler", n.to_string())));
    admin.create("/a", "1");
    admin.create("/deep/b", "1");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /deep/b";
    let mount = Mount::start(&config(&server.hosts(), nodes));
    let inodes = (mount.ino("a"), mount.ino("b"));
    server.stop();
    replace(&server.data_dir(), None);
    server.restart();
    for path in ["/a", "/deep/b"] {
        mount.wait_for_log(1, &format!("warn: {path}: the server does not have it"));
    }
    // Others come back first, beside them. (A client of before is not let in.)
    let admin = Admin::connect(server.hosts());
    admin.create_many((0..50).map(|n| (format!("/other/{n}"), "")));
    admin.create_many((0..50).map(|n| (format!("/deep/{n}"), "")));
    let files = || (mount.read("a"), mount.read("b"));
    let both = (Some(b"1".to_vec()), Some(b"1".to_vec()));
    holds_for(
        Duration::from_secs(2),
        "they are served as they were",
        || files() == both && (mount.ino("a"), mount.ino("b")) == inodes,
    );
    // Created anew they are taken, though their transactions have lower numbers.
    admin.create("/a", "new");
    mount.wait_for_content("a", "new");
    assert_eq!(mount.read("b").unwrap(), b"1");
}

#[test]
fn a_restore_from_backup_is_taken_and_told() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "backed up");
    admin.create("/b", "1");
    server.stop();
    let backup = tempfile::tempdir().unwrap();
    let copy = backup.path().join("data");
    copy_all(&server.data_dir(), &copy);
    server.restart();
    admin.set("/a", "later");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&server.hosts(), nodes));
    assert_eq!(mount.read("a").unwrap(), b"later");
    let (ino, mtime) = (mount.ino("b"), mount.mtime("a"));
    server.stop();
    replace(&server.data_dir(), Some(&copy));
    server.restart();
    let admin = Admin::connect(server.hosts());
    mount.wait_for_content("a", "backed up");
    mount.wait_for_log(1, "warn: /a: history was rewound");
    assert!(mount.mtime("a") > mtime, "time is not rewound");
    assert_eq!(mount.ino("b"), ino);
    admin.set("/a", "after");
    mount.wait_for_content("a", "after");
}

/// Puts other data, or none, where a stopped server looks for its own.
fn replace(data: &Path, other: Option<&Path>) {
    fs::remove_dir_all(data).unwrap();
    match other {
        Some(other) => copy_all(other, data),
        None => fs::create_dir(data).unwrap(),
    }
}

fn copy_all(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}
