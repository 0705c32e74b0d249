//! Watching works: a remote change looks as an atomic rename on an ordinary file system does.
//! Nobody can write, on the other hand.

pub mod events;
mod first_access;
mod polling;
mod programs;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::ReadFlags;
use tempfile::TempDir;

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;
use events::{Event, Watcher};

/// An ordinary directory, with a hidden one beside it in which new content is prepared.
struct Ordinary {
    dir: TempDir,
}

impl Ordinary {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shown")).unwrap();
        fs::create_dir(dir.path().join("hidden")).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("shown")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root().join(file)
    }

    fn put(&self, file: &str, content: &str) {
        let staged = self.dir.path().join("hidden/staged");
        fs::write(&staged, content).unwrap();
        fs::rename(staged, self.path(file)).unwrap();
    }
}

/// Watches a directory and, where it is there, a file in it.
fn watch_both(root: &Path, file: &str) -> Watcher {
    let path = root.join(file);
    let paths = [root.to_path_buf(), path.clone()];
    Watcher::new(paths.into_iter().take(1 + usize::from(path.exists())))
}

#[test]
fn events_are_those_of_an_atomic_rename() {
    let sandbox = Sandbox::new("inotify");
    sandbox.admin.create("/a", "0");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let ordinary = Ordinary::new();
    ordinary.put("a", "0");

    // Content over content, many times: each time by new watches, as the file watched is gone.
    for n in 1..=20 {
        let content = n.to_string();
        let (ours, theirs) = (
            watch_both(&mount.root(), "a"),
            watch_both(&ordinary.root(), "a"),
        );
        ordinary.put("a", &content);
        let expected = theirs.now();
        sandbox.admin.set("/a", &content);
        assert_eq!(ours.take(expected.len()), expected, "replace {n}");
        // Whoever was told finds the new.
        assert_eq!(mount.read("a").unwrap(), content.as_bytes());
        assert_eq!(ours.now(), []);
    }

    // A new name.
    let (ours, theirs) = (
        watch_both(&mount.root(), "b"),
        watch_both(&ordinary.root(), "b"),
    );
    ordinary.put("b", "new");
    let expected = theirs.now();
    assert_eq!(expected, [Event::new(0, ReadFlags::MOVED_TO, "b")]);
    sandbox.admin.create("/b", "new");
    assert_eq!(ours.take(expected.len()), expected, "create");
    assert_eq!(mount.read("b").unwrap(), b"new");

    // A name that goes.
    let (ours, theirs) = (
        watch_both(&mount.root(), "b"),
        watch_both(&ordinary.root(), "b"),
    );
    fs::remove_file(ordinary.path("b")).unwrap();
    let expected = theirs.now();
    sandbox.admin.delete("/b");
    assert_eq!(ours.take(expected.len()), expected, "delete");
    assert!(!mount.has("b"));
    assert_eq!(ours.now(), []);
}

#[test]
fn a_held_file_gives_the_same_events() {
    let sandbox = Sandbox::new("inotify-held");
    sandbox.admin.create("/a", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let ordinary = Ordinary::new();
    ordinary.put("a", "0");
    // What is open keeps its inode, so the watch on it goes on, too.
    let held = (
        fs::File::open(mount.path("a")).unwrap(),
        fs::File::open(ordinary.path("a")).unwrap(),
    );
    let (ours, theirs) = (
        watch_both(&mount.root(), "a"),
        watch_both(&ordinary.root(), "a"),
    );
    ordinary.put("a", "1");
    sandbox.admin.set("/a", "1");
    let expected = theirs.now();
    assert_eq!(ours.take(expected.len()), expected);
    drop(held);
    let expected = theirs.now();
    assert_eq!(ours.take(expected.len()), expected, "the last close");
}

#[test]
fn many_changes_in_a_row_never_show_the_old() {
    const CHANGES: u64 = 2_000;
    let sandbox = Sandbox::new("inotify-row");
    sandbox.admin.create("/a", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let watcher = Watcher::new([mount.root()]);
    let (mut n_events, mut last) = (0, 0);
    let mut look = |events: Vec<Event>| {
        for event in &events {
            assert_eq!(event, &Event::new(0, ReadFlags::MOVED_TO, "a"));
        }
        n_events += events.len();
        let n = String::from_utf8(mount.read("a").unwrap()).unwrap();
        let n: u64 = n.parse().unwrap();
        assert!(n >= last, "went back from {last} to {n}");
        last = n;
        (n, n_events)
    };
    // One after the other, until many were told one by one.
    let mut n_set = 0;
    while n_set < 200 || look(watcher.now()).1 < 50 {
        n_set += 1;
        assert!(n_set < 10_000, "few changes are told");
        sandbox.admin.set("/a", n_set.to_string());
    }
    // Many at once, of which the newest wins. After the last event there is nothing newer.
    let end = n_set + CHANGES;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sets = (n_set + 1..=end).map(|n| ("/a", n.to_string()));
            sandbox.admin.set_many(sets);
        });
        while look(watcher.take(1)).0 < end {}
    });
}

#[test]
fn subdirectories_are_watched_as_well() {
    let sandbox = Sandbox::new("inotify-sub");
    sandbox.admin.create("/a", "0");
    let nodes =
        "nodes.a.source = /a\nnodes.a.dest = x/y/a\nnodes.b.source = /b\nnodes.b.dest = x/b";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let watcher = Watcher::new([mount.root(), mount.path("x"), mount.path("x/y")]);
    sandbox.admin.set("/a", "1");
    assert_eq!(watcher.take(1), [Event::new(2, ReadFlags::MOVED_TO, "a")]);
    assert_eq!(mount.read("x/y/a").unwrap(), b"1");
    sandbox.admin.create("/b", "1");
    assert_eq!(watcher.take(1), [Event::new(1, ReadFlags::MOVED_TO, "b")]);
    sandbox.admin.delete("/a");
    assert_eq!(watcher.take(1), [Event::new(2, ReadFlags::DELETE, "a")]);
    assert_eq!(watcher.now(), []);
}

#[test]
fn directories_of_the_configuration_come_and_go_as_by_mkdir_and_rmdir() {
    let sandbox = Sandbox::new("inotify-dirs");
    for name in ["a", "b", "stays"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let stays = "nodes.stays.source = /stays";
    let more = "
        nodes.stays.source = /stays
        nodes.a.source = /a
        nodes.a.dest = dir/a
        nodes.b.source = /b
        nodes.b.dest = dir/deep/b";
    let mount = Mount::start(&config(&sandbox.hosts(), stays));
    let ordinary = Ordinary::new();
    let (ours, theirs) = (
        Watcher::new([mount.root()]),
        Watcher::new([ordinary.root()]),
    );
    fs::create_dir_all(ordinary.path("dir/deep")).unwrap();
    mount.reload(&config(&sandbox.hosts(), more));
    let expected = theirs.now();
    assert_eq!(ours.take(expected.len()), expected, "mkdir");
    mount.wait_for_content("dir/a", "a");
    mount.wait_for_content("dir/deep/b", "b");

    ordinary.put("dir/a", "a");
    ordinary.put("dir/deep/b", "b");
    let all = |root: PathBuf| Watcher::new([root.clone(), root.join("dir"), root.join("dir/deep")]);
    let (ours, theirs) = (all(mount.root()), all(ordinary.root()));
    for file in ["dir/a", "dir/deep/b"] {
        fs::remove_file(ordinary.path(file)).unwrap();
    }
    for directory in ["dir/deep", "dir"] {
        fs::remove_dir(ordinary.path(directory)).unwrap();
    }
    mount.reload(&config(&sandbox.hosts(), stays));
    let expected = theirs.now();
    assert_eq!(ours.take(expected.len()), expected, "rmdir");
    assert!(!mount.has("dir"));
}

#[test]
fn a_reload_turns_files_and_directories_into_each_other() {
    let sandbox = Sandbox::new("flip");
    for name in ["a", "b", "c"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let file = config(&sandbox.hosts(), "nodes.a.source = /a\nnodes.a.dest = x");
    let directory = config(
        &sandbox.hosts(),
        "nodes.a.source = /a
         nodes.a.dest = x/a
         nodes.b.source = /b
         nodes.b.dest = x/b
         nodes.c.source = /c
         nodes.c.dest = x/y/c",
    );
    let mount = Mount::start(&file);
    for _ in 0..10 {
        mount.reload(&directory);
        wait_until(SOON, "all files are there", || {
            ["x/a", "x/b", "x/y/c"]
                .iter()
                .all(|file| mount.read(file).is_some())
        });
        assert_eq!(mount.read("x/a").unwrap(), b"a");
        mount.reload(&file);
        mount.wait_for_content("x", "a");
    }
}

#[test]
fn what_is_no_change_gives_no_event() {
    let sandbox = Sandbox::new("inotify-none");
    sandbox.admin.create("/a", "same");
    sandbox.admin.create("/marker", "0");
    let lines = "
        heartbeat_interval = 200 milliseconds
        nodes.a.source = /a
        nodes.marker.source = /marker";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let watcher = watch_both(&mount.root(), "a");
    let marker = Event::new(0, ReadFlags::MOVED_TO, "marker");
    for n in 0..3 {
        let before = mount.mtime("a");
        wait_until(SOON, "a heartbeat", || mount.mtime("a") > before);
        sandbox.admin.set("/a", "same");
        sandbox.admin.set("/marker", format!("after {n}"));
        let events = watcher.until_name("marker");
        assert_eq!(
            events,
            std::slice::from_ref(&marker),
            "a heartbeat or a rewrite was told"
        );
    }
}
