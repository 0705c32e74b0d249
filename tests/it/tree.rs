//! The tree against a stupid twin, step by step.
//!
//! The twin keeps paths in a `BTreeMap` and never forgets anything; the kernel is played by a table
//! of lookups that it was given and may give back. After every step both must tell the same.

pub mod twin;

use livedata::path::FilePath;
use livedata::tree::{Attr, Change, Effect, Ino, Ownership, Room, Staged, Tree};
use proptest::prelude::*;

pub use twin::{DIRECTORIES, Way, at};
use twin::{Step, run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn tree_and_twin_agree(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps);
    }
}

#[test]
fn a_rewrite_of_the_same_bytes_is_no_change() {
    let mut tree = Tree::new(DIRECTORIES, at(0));
    tree.apply(put("a", 0o400, b"x"), at(10));
    let before = tree.lookup(Ino::ROOT, "a").unwrap();
    assert_eq!(tree.apply(put("a", 0o400, b"x"), at(20)), []);
    assert_eq!(tree.attr(before.ino), Some(before));
    assert_eq!(tree.find(&path("a")), Some(before.ino));
}

#[test]
fn another_mode_is_another_inode() {
    let mut tree = Tree::new(DIRECTORIES, at(0));
    tree.apply(put("a", 0o440, b"x"), at(10));
    let before = tree.lookup(Ino::ROOT, "a").unwrap();
    assert_eq!(tree.apply(put("a", 0o400, b"x"), at(20)).len(), 1);
    let after = tree.lookup(Ino::ROOT, "a").unwrap();
    assert_ne!(before.ino, after.ino);
    assert_eq!(tree.attr(before.ino).unwrap().ownership.mode, 0o440);
    assert_eq!(after.ownership.mode, 0o400);
}

#[test]
fn a_confirmation_moves_the_time_and_nothing_else() {
    let mut tree = Tree::new(DIRECTORIES, at(0));
    tree.apply(put("a", 0o400, b"x"), at(10));
    let before = tree.lookup(Ino::ROOT, "a").unwrap();
    let effects = tree.apply(Change::Confirm { path: path("a") }, at(300));
    assert_eq!(effects, [Effect::Confirmed { ino: before.ino }]);
    assert_eq!(
        tree.attr(before.ino),
        Some(Attr {
            mtime: at(300),
            ..before
        })
    );
    assert_eq!(tree.apply(Change::Confirm { path: path("a") }, at(200)), []);
    assert_eq!(tree.attr(before.ino).unwrap().mtime, at(300));
}

#[test]
fn a_re_created_file_is_later_than_the_one_removed() {
    let mut tree = Tree::new(DIRECTORIES, at(0));
    tree.apply(put("a", 0o400, b"x"), at(100));
    tree.apply(Change::Remove { path: path("a") }, at(100));
    tree.apply(put("a", 0o400, b"x"), at(50));
    assert!(tree.lookup(Ino::ROOT, "a").unwrap().mtime >= at(101));
}

#[test]
fn effects_say_what_the_kernel_holds() {
    let mut tree = Tree::new(DIRECTORIES, at(0));
    let known = |effects: Vec<Effect>| match effects.last().cloned().unwrap() {
        Effect::Created {
            directory_known, ..
        } => (directory_known, false),
        Effect::Replaced {
            directory_known,
            old_known,
            ..
        }
        | Effect::Removed {
            directory_known,
            old_known,
            ..
        } => (directory_known, old_known),
        Effect::Confirmed { .. } | Effect::Owned { .. } => unreachable!(),
    };
    tree.apply(directory("d", None), at(0));
    assert_eq!(
        known(tree.apply(put("d/a", 0o400, b"1"), at(1))),
        (false, false)
    );
    let d = tree.lookup(Ino::ROOT, "d").unwrap().ino;
    assert_eq!(
        known(tree.apply(put("d/a", 0o400, b"2"), at(2))),
        (true, false)
    );
    let a = tree.lookup(d, "a").unwrap().ino;
    assert_eq!(
        known(tree.apply(put("d/a", 0o400, b"3"), at(3))),
        (true, true)
    );
    assert_eq!(
        tree.read(a).as_deref(),
        Some(&b"2"[..]),
        "a held version keeps its content"
    );
    tree.forget(a, 1);
    assert_eq!(tree.read(a), None, "a forgotten one is freed");
    assert_eq!(
        known(tree.apply(Change::Remove { path: path("d/a") }, at(4))),
        (true, false)
    );
    assert_eq!(tree.apply(Change::Remove { path: path("d/a") }, at(5)), []);
    assert_eq!(
        known(tree.apply(Change::RemoveDirectory { path: path("d") }, at(6))),
        (true, true)
    );
    assert_eq!(tree.n_inodes(), 2, "the kernel holds the directory still");
    assert!(tree.list(d, 0, |_| Room::Taken), "and may list it");
    tree.forget(d, 1);
    assert_eq!(tree.n_inodes(), 1);
}

#[test]
fn another_owner_of_a_directory_is_the_same_inode() {
    let owned = |mode| {
        Some(Ownership {
            uid: 33,
            gid: 33,
            mode,
        })
    };
    let mut tree = Tree::new(DIRECTORIES, at(0));
    tree.apply(directory("d/e", owned(0o500)), at(1));
    let d = tree.lookup(Ino::ROOT, "d").unwrap();
    assert_eq!(d.ownership, DIRECTORIES, "those above have their own");
    let e = tree.lookup(d.ino, "e").unwrap();
    assert_eq!(e.ownership, owned(0o500).unwrap());
    tree.apply(put("d/e/f", 0o400, b"x"), at(2));
    let e = tree.attr(e.ino).unwrap();
    assert_eq!(e.ownership, owned(0o500).unwrap());

    let told = Staged::Tell(Effect::Owned { ino: e.ino });
    assert_eq!(tree.stage(directory("d/e", owned(0o550)), at(3)), told);
    let ownership = owned(0o550).unwrap();
    assert_eq!(tree.attr(e.ino), Some(Attr { ownership, ..e }));
    assert_eq!(
        tree.stage(directory("d/e", owned(0o550)), at(4)),
        Staged::Nothing
    );
    let mut successor = Tree::restore(DIRECTORIES, tree.facts()).unwrap();
    assert_eq!(successor.attr(e.ino), tree.attr(e.ino));
    let told = [Effect::Owned { ino: e.ino }];
    assert_eq!(successor.apply(directory("d/e", None), at(5)), told);
    assert_eq!(successor.attr(e.ino).unwrap().ownership, DIRECTORIES);
}

#[test]
fn who_needs_a_permission_to_change_directories_has_it_in_all_of_them() {
    let mounter = Ownership {
        uid: 1000,
        gid: 1000,
        mode: 0o755,
    };
    let owned = Ownership {
        uid: 33,
        gid: 34,
        mode: 0o550,
    };
    let mut tree = Tree::new(mounter, at(0));
    tree.apply(directory("d", Some(owned)), at(1));
    let shown = tree.lookup(Ino::ROOT, "d").unwrap().ownership;
    assert_eq!(
        shown,
        Ownership {
            uid: 1000,
            gid: 34,
            mode: 0o750
        }
    );
    tree.apply(directory("d", None), at(2));
    let shown = tree.lookup(Ino::ROOT, "d").unwrap().ownership;
    assert_eq!(shown, mounter);
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (change(), way()).prop_map(|(change, way)| Step::Change(change, way)),
        1 => any::<bool>().prop_map(Step::TakeOver),
        4 => file_path().prop_map(Step::Walk),
        2 => (file_path(), 1..4usize, change()).prop_map(|(p, n, c)| Step::List(p, n, c)),
        3 => (any::<usize>(), 1..3u64).prop_map(|(n, count)| Step::Forget(n, count)),
        2 => (-5..20i64).prop_map(Step::Tick),
    ]
}

pub fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::AtOnce),
        Just(Way::ByTheKernel),
        Just(Way::Settled)
    ]
}

pub fn change() -> impl Strategy<Value = Change> {
    let content = prop_oneof![Just(&b""[..]), Just(&b"1"[..]), Just(&b"22"[..])];
    let mode = prop_oneof![Just(0o400), Just(0o440)];
    prop_oneof![
        6 => (file_path(), mode, content).prop_map(|(path, mode, content)| Change::Put {
            path,
            ownership: Ownership { uid: 1, gid: 2, mode },
            content: content.into(),
        }),
        1 => (file_path(), 0..2_000u64).prop_map(|(path, micros)| Change::Recall {
            path,
            ownership: Ownership { uid: 1, gid: 2, mode: 0o400 },
            content: (&b"recalled"[..]).into(),
            mtime: at(micros),
        }),
        2 => file_path().prop_map(|path| Change::Break { path }),
        3 => file_path().prop_map(|path| Change::Remove { path }),
        2 => file_path().prop_map(|path| Change::Confirm { path }),
        2 => (file_path(), owner()).prop_map(|(path, ownership)| Change::MakeDirectory {
            path,
            ownership,
        }),
        1 => file_path().prop_map(|path| Change::RemoveDirectory { path }),
    ]
}

fn owner() -> impl Strategy<Value = Option<Ownership>> {
    let mode = prop_oneof![Just(0o500), Just(0o750)];
    prop::option::of(mode.prop_map(|mode| Ownership {
        uid: 1,
        gid: 2,
        mode,
    }))
}

/// Few and short names, so that they meet.
pub fn file_path() -> impl Strategy<Value = FilePath> {
    prop::collection::vec("[ab]", 1..4).prop_map(|names| path(&names.join("/")))
}

pub fn put(at: &str, mode: u16, content: &[u8]) -> Change {
    let ownership = Ownership {
        uid: 0,
        gid: 0,
        mode,
    };
    Change::Put {
        path: path(at),
        ownership,
        content: content.into(),
    }
}

pub fn directory(at: &str, ownership: Option<Ownership>) -> Change {
    Change::MakeDirectory {
        path: path(at),
        ownership,
    }
}

pub fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}
