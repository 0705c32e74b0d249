//! Who may read which file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Done, config};
use crate::support::as_user::{self, NOBODY, Snoop};
use crate::support::mount::Mount;
use crate::support::zookeeper::Sandbox;

/// A user and the group of the same number; nobody has an account of it.
const SOMEONE: u32 = 12_345;

/// Another such.
const OTHER: u32 = 12_346;

#[test]
fn owner_group_and_mode_are_each_enforced() {
    let sandbox = Sandbox::new("modes");
    sandbox.admin.create("/a", "1");
    let nodes = "
        nodes.default.source = /a
        nodes.group.source = /a
        nodes.group.group = 12345
        nodes.group.mode = 0440
        nodes.owner.source = /a
        nodes.owner.owner = 12345
        nodes.both.source = /a
        nodes.both.owner = 12346
        nodes.both.group = 12345
        nodes.both.mode = 640
        nodes.all.source = /a
        nodes.all.mode = 0o444
        nodes.none.source = /a
        nodes.none.owner = 12345
        nodes.none.mode = 0
        nodes.names.source = /a
        nodes.names.owner = nobody
        nodes.names.group = www-data";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let expected = [
        // the file, its uid, gid and mode, and for SOMEONE, OTHER and NOBODY: may they read it?
        ("default", (0, 0, 0o400), [0, 0, 0]),
        ("group", (0, SOMEONE, 0o440), [1, 0, 0]),
        ("owner", (SOMEONE, 0, 0o400), [1, 0, 0]),
        ("both", (OTHER, SOMEONE, 0o640), [1, 1, 0]),
        ("all", (0, 0, 0o444), [1, 1, 1]),
        ("none", (SOMEONE, 0, 0), [0, 0, 0]),
        ("names", (NOBODY, 33, 0o400), [0, 0, 1]),
    ];
    // The second version is checked when it is cached: root has read it.
    for content in ["1", "2"] {
        sandbox.admin.set("/a", content);
        for (file, (uid, gid, mode), readers) in expected {
            mount.wait_for_content(file, content);
            let meta = mount.meta(file);
            let found = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
            assert_eq!(found, (uid, gid, mode), "{file}");
            for (user, reads) in [SOMEONE, OTHER, NOBODY].into_iter().zip(readers) {
                let read = as_user::read(user, &mount.path(file));
                let expected = (reads == 1).then(|| content.as_bytes().to_vec());
                assert_eq!(read, expected, "{file} as {user}");
            }
        }
    }
}

#[test]
fn a_0400_file_is_never_readable_to_others() {
    const ROUNDS: u64 = 100;
    const SETS: u64 = 100;
    let sandbox = Sandbox::new("snoop");
    sandbox.admin.create("/a", "secret");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let path = mount.path("a");
    let done = AtomicBool::new(false);
    let snoop = Snoop::start(NOBODY, &path);
    let inodes = thread::scope(|scope| {
        // The root user reads too: what is cached must not be for everybody.
        let reading = scope.spawn(|| {
            let mut inodes = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let _ = fs::read(&path);
                inodes.extend(fs::metadata(&path).map(|meta| meta.ino()));
            }
            inodes
        });
        let stop = Done(&done);
        for round in 0..ROUNDS {
            let sets = (0..SETS).map(|n| ("/a", format!("secret {round} {n}")));
            sandbox.admin.set_many(sets);
            if round % 5 == 0 {
                sandbox.admin.delete("/a");
                sandbox.admin.create("/a", "secret again");
            }
        }
        mount.wait_for_content("a", format!("secret {} {}", ROUNDS - 1, SETS - 1));
        drop(stop);
        reading.join().unwrap()
    });
    let snooped = snoop.stop();
    assert_eq!(snooped.n_reads, 0);
    assert!(snooped.n_tries > 5000, "{snooped:?}");
    assert!(inodes.len() > 200, "only {} versions", inodes.len());
}
