//! Files that become directories and directories that become files, on a real mount, as fast as
//! they come: what is shown in the end is what was said last, and whoever watches is told all.

mod owners;
mod takeover;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use livedata::path::FilePath;
use livedata::tree::{Change, Kind, Ownership, Tree};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use tempfile::TempDir;

use crate::live::{Live, eventually, file, put};
use crate::support::process;
use crate::watching::events::{CHANGES, Event, Watcher};

/// What stands at a path: the bits of the mode with the kind, the owner, and the content of a file.
type Seen = BTreeMap<String, (u32, u32, Option<Vec<u8>>)>;

/// The ways to tell the kernel.
const WAYS: [fn() -> Live; 2] = [Live::with_publisher, Live::mount];

fn make(path: &str) -> Change {
    Change::MakeDirectory {
        path: file(path),
        ownership: None,
    }
}

fn remove(path: &str) -> Change {
    Change::Remove { path: file(path) }
}

fn remove_directory(path: &str) -> Change {
    Change::RemoveDirectory { path: file(path) }
}

/// The file `x` becomes a directory with two entries.
fn to_directory(n: usize) -> [Change; 5] {
    [
        remove("x"),
        make("x"),
        put("x/y", 0o444, format!("y{n}").into_bytes()),
        make("x/d"),
        put("x/d/z", 0o444, format!("z{n}").into_bytes()),
    ]
}

/// And a file again.
fn to_file(n: usize) -> [Change; 5] {
    [
        remove("x/d/z"),
        remove_directory("x/d"),
        remove("x/y"),
        remove_directory("x"),
        put("x", 0o444, format!("x{n}").into_bytes()),
    ]
}

/// What a change is in a tree to which every change is made at once.
struct Twin(Tree);

impl Twin {
    fn new() -> Self {
        let root = Ownership {
            uid: 0,
            gid: 0,
            mode: 0o555,
        };
        Self(Tree::new(root, SystemTime::UNIX_EPOCH))
    }

    fn apply(&mut self, change: &Change) {
        self.0.apply(change.clone(), SystemTime::UNIX_EPOCH);
    }

    fn seen(&self) -> Seen {
        let paths = self.0.paths().into_iter();
        let seen = paths.map(|(path, kind)| {
            let attr = self.0.attr(self.0.find(&path).unwrap()).unwrap();
            let (kind, content) = match kind {
                Kind::Directory => (0o40_000, None),
                Kind::File => (0o100_000, Some(self.0.read(attr.ino).unwrap().to_vec())),
            };
            let mode = kind | u32::from(attr.ownership.mode);
            (path.to_string(), (mode, attr.ownership.uid, content))
        });
        seen.collect()
    }
}

/// What a walk through a directory finds.
fn walk(root: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        let mut n_directories = 0;
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!(entry.file_type().unwrap(), meta.file_type(), "{path:?}");
            let content = meta.is_file().then(|| fs::read(&path).unwrap());
            if let Some(content) = &content {
                assert_eq!(meta.len(), content.len() as u64);
            } else {
                n_directories += 1;
                left.push(path.clone());
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            seen.insert(name.into(), (meta.mode(), meta.uid(), content));
        }
        assert_eq!(fs::metadata(&directory).unwrap().nlink(), 2 + n_directories);
    }
    seen
}

/// Walks, and asks for names that must not be there, too.
fn check(live: &Live, expected: &Seen, names: &[String]) {
    assert_eq!(walk(live.root()), *expected);
    for name in names.iter().filter(|name| !expected.contains_key(*name)) {
        let err = fs::symlink_metadata(live.path(name)).expect_err(name);
        let above = file(name)
            .ancestors()
            .any(|above| matches!(expected.get(&above.to_string()), Some((_, _, Some(_)))));
        let kind = match above {
            true => ErrorKind::NotADirectory,
            false => ErrorKind::NotFound,
        };
        assert_eq!(err.kind(), kind, "{name}: {err}");
    }
}

fn names() -> Vec<String> {
    ["x", "x/y", "x/d", "x/d/z"].map(String::from).to_vec()
}

#[test]
fn what_was_said_last_is_shown_whatever_turned_into_what() {
    for way in WAYS {
        let live = way();
        let mut twin = Twin::new();
        let mut n_flips = 0;
        // One change after the other, and many at once.
        for (n_rounds, n_at_once) in [(100, 1), (30, 4), (30, 9), (5, 400)] {
            for _ in 0..n_rounds {
                for _ in 0..n_at_once {
                    n_flips += 1;
                    let changes = match n_flips % 2 {
                        0 => to_file(n_flips),
                        _ => to_directory(n_flips),
                    };
                    for change in changes {
                        twin.apply(&change);
                        live.push(change);
                        if n_at_once == 1 {
                            live.flush();
                            assert_eq!(walk(live.root()), twin.seen());
                        }
                    }
                }
                live.flush();
                check(&live, &twin.seen(), &names());
            }
        }
        eventually("no inode is kept that has no name", || {
            live.tree.n_inodes() == twin.seen().len() + 1
        });
    }
}

#[test]
fn readers_of_what_flips_see_one_or_the_other_or_nothing() {
    for way in WAYS {
        let live = way();
        let (over, n_looks) = (AtomicBool::new(false), AtomicU64::new(0));
        let look = |path: PathBuf| {
            while !over.load(Ordering::Relaxed) {
                for result in [
                    fs::read(&path).map(|content| {
                        assert!(b"xyz".contains(&content[0]));
                    }),
                    fs::metadata(&path).map(drop),
                    fs::read_dir(&path).and_then(|entries| {
                        entries.into_iter().try_for_each(|entry| entry.map(drop))
                    }),
                ] {
                    let kind = result.map_err(|err| err.kind());
                    assert!(
                        matches!(
                            kind,
                            Ok(())
                                | Err(ErrorKind::NotFound
                                    | ErrorKind::NotADirectory
                                    | ErrorKind::IsADirectory)
                        ),
                        "{kind:?}"
                    );
                }
                n_looks.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut twin = Twin::new();
        std::thread::scope(|scope| {
            for path in ["x", "x/y", "x/d/z"] {
                let path = live.path(path);
                scope.spawn(|| look(path));
            }
            let mut n = 0;
            eventually("the readers have looked a while", || {
                n += 1;
                for change in to_directory(n).into_iter().chain(to_file(n)) {
                    twin.apply(&change);
                    live.push(change);
                }
                if n % 8 == 0 {
                    live.flush();
                }
                n >= 1000 && n_looks.load(Ordering::Relaxed) > 3000
            });
            over.store(true, Ordering::Relaxed);
        });
        live.flush();
        check(&live, &twin.seen(), &names());
        for change in to_directory(0) {
            twin.apply(&change);
            live.push(change);
        }
        live.flush();
        check(&live, &twin.seen(), &names());
    }
}

/// Watches the names in a directory. Who closes last, and when, is not told: a process that another
/// test starts at that moment holds all that is open until it runs.
fn names_of(directory: &Path) -> Watcher {
    let mut watcher = Watcher::new::<&Path>([]);
    let closed = WatchFlags::CLOSE_WRITE;
    watcher.add(directory, CHANGES.difference(closed));
    watcher
}

#[test]
fn events_of_flips_are_those_of_an_ordinary_file_system() {
    let ordinary = TempDir::new().unwrap();
    let (shown, hidden) = (ordinary.path().join("shown"), ordinary.path().join("new"));
    fs::create_dir(&shown).unwrap();
    let do_the_same = |change: &Change| match change {
        Change::Put { path, content, .. } => {
            fs::write(&hidden, &*content.bytes().unwrap()).unwrap();
            fs::rename(&hidden, shown.join(path.to_string())).unwrap();
        }
        Change::Remove { path } => fs::remove_file(shown.join(path.to_string())).unwrap(),
        Change::MakeDirectory { path, .. } => {
            fs::create_dir(shown.join(path.to_string())).unwrap();
        }
        Change::RemoveDirectory { path } => {
            fs::remove_dir(shown.join(path.to_string())).unwrap();
        }
        other => panic!("{other:?}"),
    };
    let mut live = Live::with_publisher();
    let start = put("x", 0o444, *b"0");
    do_the_same(&start);
    live.apply(start);
    let (ours, theirs) = (names_of(live.root()), names_of(&shown));
    // Five changes wait at once; that a file which comes and goes while it waits is not shown is
    // no loss.
    for n in 0..500 {
        for changes in [to_directory(n), to_file(n)] {
            for change in changes {
                do_the_same(&change);
                live.push(change);
            }
            live.flush();
        }
    }
    let (ours, theirs) = (ours.now(), theirs.now());
    for events in [&ours, &theirs] {
        let each = [
            ReadFlags::DELETE,
            ReadFlags::CREATE | ReadFlags::ISDIR,
            ReadFlags::DELETE | ReadFlags::ISDIR,
            ReadFlags::MOVED_TO,
        ];
        for (n, event) in events.iter().enumerate() {
            let expected = Event::new(0, each[n % 4], "x");
            assert_eq!(*event, expected, "event {n} of {}", events.len());
        }
        assert_eq!(events.len(), 2000);
    }
    // And in the directory, with a watch on its entry.
    for change in to_directory(1) {
        do_the_same(&change);
        live.apply(change);
    }
    let watch = |root: &Path| {
        Watcher::new([
            root.to_path_buf(),
            root.join("x"),
            root.join("x/y"),
            root.join("x/d"),
        ])
    };
    let (ours, theirs) = (watch(live.root()), watch(&shown));
    for change in to_file(2) {
        do_the_same(&change);
        live.apply(change);
    }
    assert_eq!(ours.now(), theirs.now());
}

#[test]
fn who_holds_what_was_goes_on() {
    for way in WAYS {
        let mut live = way();
        live.put("x", vec![b'0'; 100_000]);
        let mut held = File::open(live.path("x")).unwrap();
        for change in to_directory(1) {
            live.apply(change);
        }
        let directory = File::open(live.path("x/d")).unwrap();
        let mut entry = File::open(live.path("x/d/z")).unwrap();
        let mut inside = process::bound_to_us("/bin/sleep", "KILL");
        inside.arg("1000").current_dir(live.path("x/d"));
        let mut inside = process::spawn(inside);
        for n in 2..100 {
            let changes = match n % 2 {
                0 => to_file(n),
                _ => to_directory(n),
            };
            for change in changes {
                live.apply(change);
            }
        }
        let (mut old, mut z) = (Vec::new(), String::new());
        held.read_to_end(&mut old).unwrap();
        entry.read_to_string(&mut z).unwrap();
        assert!(old == vec![b'0'; 100_000] && z == "z1");
        assert_eq!(
            directory.metadata().unwrap().nlink(),
            held.metadata().unwrap().nlink()
        );
        let cwd = PathBuf::from(format!("/proc/{}/cwd", inside.id()));
        let gone = fs::read_link(&cwd).unwrap();
        assert!(
            gone.to_str().unwrap().ends_with("/x/d (deleted)"),
            "{gone:?}"
        );
        let found = fs::read_dir(&cwd).map(|entries| entries.count());
        assert!(
            matches!(found, Err(ref err) if err.kind() == ErrorKind::NotFound)
                || found.unwrap() == 0
        );
        assert_eq!(
            fs::metadata(cwd.join("z")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        inside.kill().unwrap();
        inside.wait().unwrap();
    }
}

#[test]
fn what_has_no_effect_costs_nothing_that_comes_later() {
    for way in WAYS {
        let mut live = way();
        live.apply(put("f", 0o444, *b"1"));
        live.apply(put("d/e", 0o444, *b"1"));
        // Where a file stands, and of what is not empty.
        live.push(make("f"));
        live.push(remove_directory("d"));
        live.push(put("f", 0o444, *b"2"));
        live.push(put("d/e", 0o444, *b"2"));
        live.flush();
        let file = |content: &[u8]| (0o100_444, 0, Some(content.to_vec()));
        let d = || ("d".to_string(), (0o40_555, 0, None));
        let expected = [("d/e".into(), file(b"2")), ("f".into(), file(b"2")), d()];
        assert_eq!(walk(live.root()), Seen::from(expected));
        live.push(make("f"));
        live.push(remove("f"));
        live.push(put("f/g", 0o444, *b"3"));
        live.push(remove_directory("d"));
        live.push(remove("d/e"));
        live.push(remove_directory("d"));
        live.flush();
        let f = ("f".into(), (0o40_555, 0, None));
        let expected = [f, ("f/g".into(), file(b"3"))];
        assert_eq!(walk(live.root()), Seen::from(expected));
    }
}

/// Random changes of a tree of depth 4, on one mount: each case starts where the last one ended.
#[test]
fn any_changes_end_as_the_twin_says() {
    for (way, cases) in WAYS.into_iter().zip([60, 120]) {
        let live = way();
        let twin = std::cell::RefCell::new(Twin::new());
        let mut runner = TestRunner::new(Config {
            cases,
            // A failure is not to be tried again: the mount is another by then.
            max_shrink_iters: 0,
            failure_persistence: None,
            ..Config::default()
        });
        let steps = prop::collection::vec((step(), 0..10_u8), 1..80);
        let done = runner.run(&steps, |steps| {
            let mut twin = twin.borrow_mut();
            for (change, look) in &steps {
                for change in with_directories(&twin, change) {
                    twin.apply(&change);
                    live.push(change);
                }
                match look {
                    // So that the kernel holds what changes next; wherever it has come to.
                    0 => drop(
                        Command::new("/usr/bin/find")
                            .arg(live.root())
                            .arg("-ls")
                            .output(),
                    ),
                    1 => drop(fs::read(live.path(&change.path().to_string()))),
                    _ => {}
                }
            }
            live.flush();
            check(&live, &twin.seen(), &all_names());
            Ok(())
        });
        done.unwrap();
    }
}

/// Whoever puts a file says first which directories there are.
fn with_directories(twin: &Twin, change: &Change) -> Vec<Change> {
    let mut changes = Vec::new();
    if matches!(change, Change::Put { .. }) {
        let missing = change.path().ancestors();
        let missing = missing.filter(|path| twin.0.find(path).is_none());
        changes.extend(missing.map(|path| make(&path.to_string())));
        changes.reverse();
    }
    changes.push(change.clone());
    changes
}

fn all_names() -> Vec<String> {
    let mut all = vec!["a".to_string(), "b".to_string()];
    let mut at = 0;
    while all[at].len() < 7 {
        for name in ["a", "b"] {
            all.push(format!("{}/{name}", all[at]));
        }
        at += 1;
    }
    all
}

fn step() -> impl Strategy<Value = Change> {
    let path = || {
        let names = prop::collection::vec("[ab]", 1..=4);
        names.prop_map(|names| FilePath::parse(&names.join("/")).unwrap())
    };
    prop_oneof![
        4 => (path(), 0..3_u8).prop_map(|(path, n)| put(&path.to_string(), 0o444, vec![b'0' + n; n.into()])),
        4 => path().prop_map(|path| Change::Remove { path }),
        2 => (path(), any::<bool>()).prop_map(|(path, own)| Change::MakeDirectory {
            path,
            ownership: own.then_some(Ownership { uid: 7, gid: 8, mode: 0o750 }),
        }),
        3 => path().prop_map(|path| Change::RemoveDirectory { path }),
    ]
}
