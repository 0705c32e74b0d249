//! Trees of the configuration come, go and change, and leave others alone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{listing, truth, wait_for_listing, wait_for_truth};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::zookeeper::Sandbox;
use crate::watching::events::Watcher;

#[test]
fn a_reload_changes_the_trees_that_changed() {
    let sandbox = Sandbox::new("tree-reload");
    let admin = &sandbox.admin;
    admin.create_many([
        ("/stays/a", "1"),
        ("/stays/dir/b", "2"),
        ("/t/a", "3"),
        ("/t/dir/b", "4"),
        ("/t/dir/deep/c", "5"),
        ("/n", "6"),
    ]);
    let stays = "trees.stays.source = /stays\nnodes.n.source = /n";
    let with = |lines: &str| config(&sandbox.hosts(), &format!("{stays}\n{lines}"));
    let mount = Mount::start(&with(""));
    let files = ["stays/a", "stays/dir/b", "stays/_data_", "n", "stays/dir"];
    let inodes = files.map(|file| mount.ino(file));
    let watcher = Watcher::new([mount.path("stays"), mount.path("stays/dir")]);
    let t = |expected: &super::Listing| {
        wait_for_listing(&mount, "t", expected);
        assert_eq!(files.map(|file| mount.ino(file)), inodes);
    };
    let all = truth(admin, "/t", None);
    let nothing = listing(&[]);
    mount.reload(&with("trees.t.source = /t"));
    t(&all);
    let mode = || {
        [
            mount.meta("t/dir/b").mode() & 0o777,
            mount.meta("t/dir").mode() & 0o777,
        ]
    };
    assert_eq!(mode(), [0o400, 0o555]);
    let wait_mode = |modes: [u32; 2]| {
        crate::support::wait::wait_until(crate::support::shown::SOON, "the mode", || {
            mode() == modes
        });
    };
    mount.reload(&with(
        "trees.t.source = /t\ntrees.t.mode = 0444\ntrees.t.dir_mode = 0511",
    ));
    wait_mode([0o444, 0o511]);
    t(&all);
    mount.reload(&with("trees.t.source = /t"));
    wait_mode([0o400, 0o555]);
    t(&all);
    for depth in [0, 2, 1, 3] {
        mount.reload(&with(&format!(
            "trees.t.source = /t\ntrees.t.depth = {depth}"
        )));
        t(&truth(admin, "/t", Some(depth)));
        // It is followed.
        admin.set("/t", format!("depth {depth}"));
        t(&truth(admin, "/t", Some(depth)));
    }
    let all = truth(admin, "/t", None);
    mount.reload(&with("trees.t.source = /t\ntrees.t.exclude = dir"));
    let mut without = all.clone();
    without.retain(|name, _| !name.starts_with("/dir"));
    t(&without);
    admin.set("/t/dir/b", "meanwhile");
    mount.reload(&with("trees.t.source = /t\ntrees.t.include = c"));
    t(&listing(&[
        ("", None),
        ("/dir", None),
        ("/dir/deep", None),
        ("/dir/deep/c", Some("5")),
    ]));
    mount.reload(&with("trees.t.source = /t\ntrees.t.data_name = value"));
    mount.wait_for_content("t/dir/value", "");
    mount.wait_for_content("t/dir/b", "meanwhile");
    assert!(!mount.has("t/dir/_data_"));
    // A node and a tree take each other's place.
    mount.reload(&with("nodes.t.source = /t/a"));
    mount.wait_for_content("t", "3");
    mount.reload(&with("trees.t.source = /t/dir"));
    t(&truth(admin, "/t/dir", None));
    mount.reload(&with("trees.t.source = /t\ntrees.t.dest = t/deeper"));
    wait_for_truth(&mount, "t/deeper", admin, "/t");
    mount.reload(&with(""));
    t(&nothing);
    assert!(!mount.has("t"));
    assert_eq!(watcher.now(), [], "nobody touched what stays");
    admin.set("/stays/a", "end");
    mount.wait_for_content("stays/a", "end");
}

#[test]
fn a_dropin_brings_trees() {
    let sandbox = Sandbox::new("tree-dropin");
    let admin = &sandbox.admin;
    admin.create_many([("/main/a", "1"), ("/t/a", "2"), ("/t/dir/b", "3")]);
    let dropins = tempfile::tempdir().unwrap();
    let lines = format!(
        "mount.dropin_dir = {}\ntrees.main.source = /main",
        dropins.path().display()
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let inodes = [mount.ino("main/a"), mount.ino("main/_data_")];
    let file = dropins.path().join("one.ini");
    for _ in 0..3 {
        fs::write(&file, "trees.t.source = /t\ntrees.t.dest = from/dropin\n").unwrap();
        wait_for_truth(&mount, "from/dropin", admin, "/t");
        admin.create("/t/dir/more/c", "4");
        admin.set("/main/a", "1");
        wait_for_truth(&mount, "from/dropin", admin, "/t");
        fs::write(
            &file,
            "trees.t.source = /t\ntrees.t.dest = from/dropin\ntrees.t.depth = 1\n",
        )
        .unwrap();
        wait_for_listing(&mount, "from/dropin", &truth(admin, "/t", Some(1)));
        admin.delete_all("/t/dir/more");
        fs::remove_file(&file).unwrap();
        mount.wait_until_gone("from");
        assert_eq!([mount.ino("main/a"), mount.ino("main/_data_")], inodes);
    }
}

/// What happened to a znode while it was only on the way to others is known when it is shown again;
/// and a node that is added there is looked at.
#[test]
fn what_was_on_the_way_only_is_looked_at_again() {
    let sandbox = Sandbox::new("tree-on-the-way");
    let admin = &sandbox.admin;
    admin.create_many([("/t/a", "1"), ("/t/b", "2"), ("/t/c", "3")]);
    let with = |lines: &str| config(&sandbox.hosts(), &format!("trees.t.source = /t\n{lines}"));
    let mount = Mount::start(&with(""));
    wait_for_truth(&mount, "t", admin, "/t");
    mount.reload(&with("trees.t.include = c"));
    mount.wait_until_gone("t/a");
    admin.delete("/t/a");
    admin.set("/t/b", "22");
    mount.reload(&with("trees.t.include = c\nnodes.b.source = /t/b"));
    mount.wait_for_content("b", "22");
    mount.reload(&with(""));
    wait_for_truth(&mount, "t", admin, "/t");
    assert!(!mount.has("t/a"));
}
