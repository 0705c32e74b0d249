//! A tree follows ZooKeeper.

use std::fs::{self, File};
use std::thread;

use rustix::fs::inotify::ReadFlags;

use super::{listing, wait_for_listing, wait_for_truth};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::versions::{held, version, whole};
use crate::support::zookeeper::Sandbox;
use crate::watching::events::{Event, Watcher};

#[test]
fn a_first_child_makes_a_directory_and_the_last_one_takes_it_away() {
    let sandbox = Sandbox::new("tree-flip");
    let admin = &sandbox.admin;
    admin.create_many([("/t/p", "data"), ("/t/stays", "1")]);
    let mount = Mount::start(&config(&sandbox.hosts(), "trees.t.source = /t"));
    let stays = mount.ino("t/stays");
    // As an ordinary file system tells of rm, mkdir; and of rmdir, mv.
    let [there, back] = [
        [ReadFlags::DELETE, ReadFlags::CREATE | ReadFlags::ISDIR],
        [ReadFlags::DELETE | ReadFlags::ISDIR, ReadFlags::MOVED_TO],
    ]
    .map(|masks| masks.map(|mask| Event::new(0, mask, "p")));
    let watcher = Watcher::new([mount.path("t")]);
    for n in 0..30 {
        admin.create("/t/p/child", n.to_string());
        mount.wait_for_content("t/p/child", n.to_string());
        assert_eq!(mount.read("t/p/_data_").unwrap(), b"data");
        assert_eq!(watcher.take(2), there, "{n}");
        admin.delete("/t/p/child");
        mount.wait_for_content("t/p", "data");
        assert_eq!(watcher.take(2), back, "{n}");
    }
    assert_eq!(mount.ino("t/stays"), stays);
}

#[test]
fn a_quick_delete_and_create_ends_as_it_is() {
    let sandbox = Sandbox::new("tree-quick");
    let admin = &sandbox.admin;
    admin.create_many([("/t/a", "0"), ("/t/b/c", "0"), ("/t/stays", "1")]);
    let mount = Mount::start(&config(&sandbox.hosts(), "trees.t.source = /t"));
    for n in 0..60 {
        admin.delete("/t/a");
        admin.create("/t/a", format!("again {n}"));
        if n % 3 == 0 {
            admin.create("/t/a/x", "below");
        }
        admin.delete_all("/t/b");
        // With other children, or none.
        let below = ["/t/b", "/t/b/c", "/t/b/d", "/t/b/c/d/e"][n % 4];
        admin.create(below, format!("other {n}"));
        if n % 10 == 9 {
            wait_for_truth(&mount, "t", admin, "/t");
        }
        if n % 3 == 0 {
            admin.delete("/t/a/x");
        }
    }
    wait_for_truth(&mount, "t", admin, "/t");
    assert_eq!(mount.n_logged("no watch told"), 0, "{}", mount.log());
}

#[test]
fn a_burst_of_children_ends_as_it_is() {
    const N: usize = 1000;
    let sandbox = Sandbox::new("tree-burst");
    let admin = &sandbox.admin;
    admin.create("/t", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), "trees.t.source = /t"));
    let path = |n: usize| format!("/t/dir/{n}");
    for _ in 0..2 {
        admin.create("/t/dir", "");
        admin.create_many((0..N).map(|n| (path(n), "new")));
        admin.set_many((0..N).step_by(3).map(|n| (path(n), "set")));
        admin.delete_many((0..N).step_by(2).map(path));
        admin.create_many((0..N).step_by(8).map(|n| (path(n), "again")));
        wait_for_truth(&mount, "t", admin, "/t");
        admin.create_many((0..N).step_by(8).map(|n| (path(n) + "/below", "deep")));
        admin.delete_many((0..N).step_by(8).map(|n| path(n) + "/below"));
        admin.delete_all("/t/dir");
        wait_for_listing(&mount, "t", &listing(&[("", Some("0"))]));
    }
}

#[test]
fn one_open_file_is_one_version_in_a_tree() {
    const SIZE: usize = 300_000;
    let sandbox = Sandbox::new("tree-open");
    let admin = &sandbox.admin;
    admin.create("/t/p", version(0, SIZE));
    let mount = Mount::start(&config(&sandbox.hosts(), "trees.t.source = /t"));
    let mut n = 0;
    let mut both = ["t/p", "t/p/_data_"].into_iter().cycle();
    for _ in 0..10 {
        let at = both.next().unwrap();
        mount.wait_for_content(at, version(n, SIZE));
        let open = File::open(mount.path(at)).unwrap();
        let directory = fs::read_dir(mount.path("t")).unwrap();
        n += 1;
        match at {
            "t/p" => admin.create("/t/p/x", ""),
            _ => admin.delete("/t/p/x"),
        }
        admin.set("/t/p", version(n, SIZE));
        let other = if at == "t/p" { "t/p/_data_" } else { "t/p" };
        mount.wait_for_content(other, version(n, SIZE));
        assert_eq!(whole(&held(&open), SIZE), n - 1);
        assert_eq!(directory.count(), 2);
    }
}

/// Readers list and read all the time, while files and directories turn into each other.
#[test]
fn no_reader_sees_more_than_that_something_went() {
    let sandbox = Sandbox::new("tree-storm");
    let admin = &sandbox.admin;
    let paths: Vec<String> = (0..8).map(|n| format!("/t/{n}")).collect();
    admin.create_many(paths.iter().map(|path| (path, "x")));
    let mount = Mount::start(&config(&sandbox.hosts(), "trees.t.source = /t"));
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let readers =
            [(); 2].map(|()| scope.spawn(|| super::random::read_all(&mount.path("t"), &over)));
        for n in 0..40 {
            admin.create_many(paths.iter().map(|path| (format!("{path}/x/y"), "below")));
            admin.set_many(paths.iter().map(|path| (path, format!("x{n}"))));
            admin.delete_many(paths.iter().map(|path| format!("{path}/x/y")));
            admin.delete_many(paths.iter().map(|path| format!("{path}/x")));
            if n % 4 == 0 {
                admin.delete_many(&paths);
                admin.create_many(paths.iter().map(|path| (path, "x")));
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let n_reads: Vec<u64> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        assert!(n_reads.iter().all(|n| *n > 100), "{n_reads:?}");
    });
    wait_for_truth(&mount, "t", admin, "/t");
}
