//! What a reader sees of a real mount: one version per open file, the newest at the next open, no
//! requests for warm reads, and no way to write.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use livedata::tree::Change;
use rustix::fs::{Mode, OFlags};

use crate::live::{Live, eventually, file, put};
use crate::support::versions::{held, mapped, sent, version, whole};

#[test]
fn reads_cost_nothing() {
    let mut live = Live::mount();
    for (name, size) in [
        ("small", 1 << 10),
        ("middle", 100 << 10),
        ("large", 1 << 20),
    ] {
        live.put(&format!("d/{name}"), vec![b'x'; size]);
        let path = live.path(&format!("d/{name}"));
        // Once to warm the caches; the second flush and opendir tell the kernel not to ask again.
        assert_eq!(fs::read(&path).unwrap().len(), size);
        fs::metadata(&path).unwrap();
        let before = live.requests.get();
        for _ in 0..100 {
            assert_eq!(fs::read(&path).unwrap().len(), size);
            assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
        }
        assert_eq!(live.requests.get() - before, 0, "{name}");
    }
}

#[test]
fn warm_listings_cost_nothing() {
    let mut live = Live::mount();
    for n in 0..1000 {
        live.put(&format!("d/{n}"), *b"x");
    }
    let list = || {
        let entries = fs::read_dir(live.path("d")).unwrap();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    assert_eq!(list(), 1000);
    list();
    let before = live.requests.get();
    assert_eq!(list(), 1000);
    assert_eq!(live.requests.get() - before, 0);
}

#[test]
fn the_next_open_is_the_newest() {
    let mut live = Live::mount();
    for n in 0..3000_u64 {
        let content = n.to_string();
        live.put("d/a", content.clone().into_bytes());
        assert_eq!(
            fs::metadata(live.path("d/a")).unwrap().len(),
            content.len() as u64
        );
        assert_eq!(fs::read_to_string(live.path("d/a")).unwrap(), content);
    }
}

#[test]
fn files_come_and_go_at_once() {
    let mut live = Live::mount();
    live.put("d/stays", *b"x");
    let names = |live: &Live| -> BTreeSet<String> {
        let entries = fs::read_dir(live.path("d")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<BTreeSet<_>>()
    };
    for n in 0..200 {
        assert_eq!(names(&live), set(&["stays"]));
        let missing = fs::metadata(live.path("d/new")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        live.put("d/new", vec![b'x'; n]);
        // With and without looking the name up, so that the dentry is there or not.
        if n % 2 == 0 {
            assert_eq!(fs::metadata(live.path("d/new")).unwrap().len(), n as u64);
        }
        assert_eq!(names(&live), set(&["new", "stays"]));
        live.remove("d/new");
    }
    live.apply(Change::MakeDirectory {
        path: file("e/f"),
        ownership: None,
    });
    assert!(live.path("e/f").is_dir());
    assert_eq!(fs::metadata(live.root()).unwrap().nlink(), 4);
    live.apply(Change::RemoveDirectory { path: file("e/f") });
    live.apply(Change::RemoveDirectory { path: file("e") });
    assert!(!live.path("e").exists());
    assert_eq!(fs::metadata(live.root()).unwrap().nlink(), 3);
}

#[test]
fn one_open_file_is_one_version() {
    const SIZE: usize = 1 << 20;
    const CHANGES: u64 = 2000;
    let mut live = Live::mount();
    live.put("a", version(0, SIZE));
    let path = live.path("a");
    let done = AtomicBool::new(false);
    // Until each reader has seen something, changes would prove nothing.
    let opened: [AtomicU64; 4] = Default::default();
    let until_done = |reader: usize, read: &dyn Fn(File) -> u64| {
        let mut last = 0;
        while !done.load(Ordering::Relaxed) {
            let n = read(File::open(&path).unwrap());
            assert!(n >= last, "went back from {last} to {n}");
            last = n;
            opened[reader].fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until_done(0, &|mut file| {
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                let n = whole(&content, SIZE);
                assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
                n
            })
        });
        scope.spawn(|| until_done(1, &|file| whole(&held(&file), SIZE)));
        scope.spawn(|| until_done(2, &|file| whole(&mapped(&file), SIZE)));
        scope.spawn(|| until_done(3, &|file| whole(&sent(&file), SIZE)));
        let live = &mut live;
        for n in 1..=CHANGES {
            live.put("a", version(n, SIZE));
        }
        let mut n = CHANGES;
        eventually("every reader has read a few times", || {
            n += 1;
            live.put("a", version(n, SIZE));
            opened
                .iter()
                .all(|opened| opened.load(Ordering::Relaxed) >= 20)
        });
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn superseded_versions_are_freed() {
    let mut live = Live::mount();
    live.put("d/a", *b"0");
    fs::read(live.path("d/a")).unwrap();
    let n_inodes = live.tree.n_inodes();
    let held: Vec<_> = (1..=100)
        .map(|n| {
            live.put("d/a", n.to_string().into_bytes());
            File::open(live.path("d/a")).unwrap()
        })
        .collect();
    for n in 0..5000 {
        live.put("d/a", format!("later {n}").into_bytes());
        fs::read(live.path("d/a")).unwrap();
    }
    eventually("only the held versions are kept", || {
        live.tree.n_inodes() == n_inodes + 100
    });
    for (n, mut file) in held.into_iter().enumerate() {
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, (n + 1).to_string());
    }
    eventually("the table has its first size", || {
        live.tree.n_inodes() == n_inodes
    });
}

fn mtime(meta: &Metadata) -> SystemTime {
    meta.modified().unwrap()
}

#[test]
fn each_version_is_a_microsecond_later() {
    let mut live = Live::mount();
    let mut last = SystemTime::UNIX_EPOCH;
    let now = SystemTime::now();
    for n in 0..1000_u64 {
        // A clock that stands still, then one that is set back.
        let now = if n < 500 {
            now
        } else {
            now - Duration::from_secs(3600)
        };
        live.apply_at(put("a", 0o444, n.to_string().into_bytes()), now);
        let meta = fs::metadata(live.path("a")).unwrap();
        assert!(mtime(&meta) >= last + Duration::from_micros(1));
        assert_eq!(
            (meta.ctime(), meta.ctime_nsec()),
            (meta.mtime(), meta.mtime_nsec())
        );
        last = mtime(&meta);
    }
}

#[test]
fn a_heartbeat_moves_the_mtime_and_drops_no_page() {
    let mut live = Live::mount();
    live.put("a", vec![b'x'; 1 << 20]);
    let path = live.path("a");
    fs::read(&path).unwrap();
    fs::read(&path).unwrap();
    let before = fs::metadata(&path).unwrap();
    let later = mtime(&before) + Duration::from_secs(300);
    live.apply_at(Change::Confirm { path: file("a") }, later);
    let n_requests = live.requests.get();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(mtime(&after), later);
    assert_eq!(after.ino(), before.ino());
    assert_eq!(fs::read(&path).unwrap().len(), 1 << 20);
    assert_eq!(
        live.requests.get() - n_requests,
        1,
        "one GETATTR and no READ"
    );
    // The same bytes again: neither mtime nor inode move.
    live.put("a", vec![b'x'; 1 << 20]);
    let same = fs::metadata(&path).unwrap();
    assert_eq!((mtime(&same), same.ino()), (later, before.ino()));
}

#[test]
fn nobody_can_write() {
    let mut live = Live::mount();
    live.put("d/a", *b"x");
    let (a, d) = (live.path("d/a"), live.path("d"));
    let new = d.join("new");
    let open = |path: &Path, flags: OFlags| {
        rustix::fs::open(path, flags, Mode::from(0o644))
            .map(drop)
            .map_err(io::Error::from)
    };
    let name = CString::new("user.x").unwrap();
    let attempts: [(&str, io::Result<()>); 16] = [
        ("open for writing", open(&a, OFlags::WRONLY)),
        ("open for both", open(&a, OFlags::RDWR)),
        ("append", open(&a, OFlags::WRONLY | OFlags::APPEND)),
        (
            "open and truncate",
            open(&a, OFlags::WRONLY | OFlags::TRUNC),
        ),
        ("create", open(&new, OFlags::WRONLY | OFlags::CREATE)),
        ("create a directory", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&a)),
        ("remove a directory", fs::remove_dir(&d)),
        ("rename", fs::rename(&a, &new)),
        ("link", fs::hard_link(&a, &new)),
        ("symlink", std::os::unix::fs::symlink("x", &new)),
        (
            "chmod",
            fs::set_permissions(&a, fs::Permissions::from_mode(0o777)),
        ),
        ("chown", std::os::unix::fs::chown(&a, Some(1), Some(1))),
        (
            "truncate",
            rustix::fs::open(&a, OFlags::WRONLY, Mode::empty())
                .and_then(|file| rustix::fs::ftruncate(file, 0))
                .map_err(io::Error::from),
        ),
        (
            "touch",
            rustix::fs::utimensat(
                rustix::fs::CWD,
                &a,
                &rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec {
                        tv_sec: 1,
                        tv_nsec: 0,
                    },
                    last_modification: rustix::fs::Timespec {
                        tv_sec: 1,
                        tv_nsec: 0,
                    },
                },
                rustix::fs::AtFlags::empty(),
            )
            .map_err(io::Error::from),
        ),
        (
            "setxattr",
            rustix::fs::setxattr(&a, name.as_c_str(), b"x", rustix::fs::XattrFlags::empty())
                .map_err(io::Error::from),
        ),
    ];
    for (what, result) in attempts {
        let err = result.expect_err(what);
        assert_eq!(err.raw_os_error(), Some(libc::EROFS), "{what}: {err}");
    }
    assert_eq!(fs::read(&a).unwrap(), b"x");
}

#[test]
fn names_and_attributes_are_those_configured() {
    let mut live = Live::mount();
    let long = "n".repeat(255);
    live.put(&long, *b"x");
    live.put("näme with blanks", *b"");
    live.apply(put("d/modes", 0o640, *b"12345"));
    assert_eq!(fs::read(live.path(&long)).unwrap(), b"x");
    assert_eq!(fs::read(live.path("näme with blanks")).unwrap(), b"");
    let meta = fs::metadata(live.path("d/modes")).unwrap();
    assert_eq!((meta.mode(), meta.len(), meta.nlink()), (0o100_640, 5, 1));
    let meta = fs::metadata(live.path("d")).unwrap();
    assert_eq!((meta.mode(), meta.nlink()), (0o40_555, 2));
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    assert_eq!(
        fs::metadata(live.root().join(bytes)).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        fs::metadata(live.path(&"n".repeat(256)))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENAMETOOLONG)
    );
    let space = rustix::fs::statvfs(live.root()).unwrap();
    assert_eq!((space.f_blocks, space.f_namemax), (0, 255));
    let _: Arc<[u8]> = Arc::from(*b"");
}
