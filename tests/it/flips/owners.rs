//! Directories with an owner of their own, as other users see them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use livedata::tree::{Change, Ownership};

use super::{WAYS, walk};
use crate::live::{Live, file, put};
use crate::support::as_user::{self, NOBODY, Snoop};

/// Another user, and its group.
const DAEMON: u32 = 1;

fn directory(path: &str, owner: Option<(u32, u16)>) -> Change {
    Change::MakeDirectory {
        path: file(path),
        ownership: owner.map(|(uid, mode)| Ownership {
            uid,
            gid: uid,
            mode,
        }),
    }
}

/// Whether a user may list the directory and read a file in it, in this order.
fn may(user: u32, live: &Live, path: &str) -> [bool; 2] {
    let directory = live.path(path);
    let list = as_user::run(user, "/bin/ls", &[directory.to_str().unwrap()]);
    let read = as_user::read(user, &directory.join("f"));
    [list.status.success(), read.is_some()]
}

#[test]
fn nobody_else_gets_into_a_directory_of_its_own_owner() {
    for way in WAYS {
        let mut live = way();
        // Readable to all, so that it is the directory that keeps them out.
        live.apply(directory("t", Some((NOBODY, 0o500))));
        live.apply(put("t/f", 0o444, *b"x"));
        assert_eq!(may(NOBODY, &live, "t"), [true, true]);
        assert_eq!(may(DAEMON, &live, "t"), [false, false]);
        assert_eq!(may(0, &live, "t"), [true, true]);
        let before = fs::metadata(live.path("t")).unwrap();
        assert_eq!((before.uid(), before.gid()), (NOBODY, NOBODY));
        assert_eq!(before.permissions().mode(), 0o40_500);

        // Search without list, and the other way round.
        live.apply(directory("t", Some((NOBODY, 0o511))));
        assert_eq!(may(DAEMON, &live, "t"), [false, true]);
        live.apply(directory("t", Some((NOBODY, 0o544))));
        assert!(!may(DAEMON, &live, "t")[1]);

        // Another owner, at once, of the same inode.
        live.apply(directory("t", Some((DAEMON, 0o500))));
        assert_eq!(may(DAEMON, &live, "t"), [true, true]);
        assert_eq!(may(NOBODY, &live, "t"), [false, false]);
        let after = fs::metadata(live.path("t")).unwrap();
        assert_eq!((after.uid(), after.ino()), (DAEMON, before.ino()));
        live.apply(directory("t", None));
        assert_eq!(may(NOBODY, &live, "t"), [true, true]);
        assert_eq!(fs::metadata(live.path("t")).unwrap().ino(), before.ino());

        // What is in it changes as before, and a new one below it keeps others out from the start.
        live.apply(directory("t", Some((NOBODY, 0o500))));
        live.apply(put("t/f", 0o444, *b"y"));
        live.apply(directory("t/u", Some((DAEMON, 0o500))));
        live.apply(put("t/u/f", 0o444, *b"z"));
        assert_eq!(as_user::read(NOBODY, &live.path("t/f")).unwrap(), b"y");
        assert_eq!(may(NOBODY, &live, "t/u"), [false, false]);
        live.apply(Change::Remove {
            path: file("t/u/f"),
        });
        live.apply(Change::RemoveDirectory { path: file("t/u") });
        assert!(!live.path("t/u").exists());
        live.remove("t/f");
        assert_eq!(fs::read_dir(live.path("t")).unwrap().count(), 0);
    }
}

#[test]
fn another_owner_of_a_directory_drops_nothing_that_is_cached() {
    for way in WAYS {
        let mut live = way();
        live.apply(directory("t", Some((NOBODY, 0o500))));
        for n in 0..100 {
            live.put(&format!("t/{n}"), vec![b'x'; 1000]);
        }
        let held = File::open(live.path("t")).unwrap();
        let before = walk(live.root());
        walk(live.root());
        let n_requests = live.requests.get();
        live.apply(directory("t", Some((NOBODY, 0o550))));
        let mut after = walk(live.root());
        // A GETATTR of the directory, and another where the walk was there before its notice.
        let n_requests = live.requests.get() - n_requests;
        assert!((1..=2).contains(&n_requests), "{n_requests}");
        assert_eq!(
            after.insert("t".into(), before["t"].clone()).unwrap().0,
            0o40_550
        );
        assert_eq!(after, before);
        assert_eq!(held.metadata().unwrap().mode(), 0o40_550);
    }
}

#[test]
fn a_directory_that_comes_and_goes_is_open_to_others_at_no_moment() {
    for way in WAYS {
        let live = way();
        live.push(directory("t", Some((NOBODY, 0o500))));
        live.push(put("t/f", 0o444, *b"x"));
        live.flush();
        assert_eq!(may(NOBODY, &live, "t"), [true, true]);
        let snoop = Snoop::start(DAEMON, &live.path("t/f"));
        for n in 0..300 {
            live.push(Change::Remove { path: file("t/f") });
            live.push(Change::RemoveDirectory { path: file("t") });
            live.push(directory("t", Some((NOBODY, 0o500))));
            live.push(put("t/f", 0o444, n.to_string().into_bytes()));
            if n % 3 == 0 {
                live.flush();
            }
        }
        live.flush();
        let snooped = snoop.stop();
        assert!(snooped.n_tries > 0);
        assert_eq!(snooped.n_reads, 0);
        assert_eq!(as_user::read(NOBODY, &live.path("t/f")).unwrap(), b"299");
    }
}
