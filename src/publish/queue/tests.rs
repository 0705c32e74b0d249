// Queue and tree against a tree to which every change is made at once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::content::Content;
use crate::tree::{Attr, Ino, Ownership, Room, Tree};

const MOUNT: Ownership = Ownership {
    uid: 0,
    gid: 0,
    mode: 0o555,
};

#[derive(Debug, Clone)]
enum Step {
    Push(Change),
    /// Carry out so many of what waits.
    Take(usize),
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq)]
enum Shown {
    Directory(Ownership),
    File(Ownership, Option<Content>),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// However fast they come and whatever sense they make.
    #[test]
    fn the_end_is_as_if_every_change_were_published(steps in prop::collection::vec(step(), 1..120)) {
        let mut waiting = Waiting::default();
        let (mut tree, mut twin) = (tree(), tree());
        for step in steps {
            match step {
                Step::Push(change) => {
                    // Whoever puts a file says first which directories there are: else one that
                    // comes and goes leaves some.
                    for path in change.path().ancestors() {
                        let make = Change::MakeDirectory { path, ownership: Some(owned(0o500)) };
                        let is_put = matches!(change, Change::Put { .. } | Change::Recall { .. });
                        if is_put && twin.find(make.path()).is_none() {
                            twin.apply(make.clone(), at());
                            push(&mut waiting, make);
                        }
                    }
                    twin.apply(change.clone(), at());
                    push(&mut waiting, change);
                }
                Step::Take(n) => take(&mut waiting, &mut tree, n),
            }
        }
        take(&mut waiting, &mut tree, usize::MAX);
        prop_assert_eq!(shown(&tree), shown(&twin));
        prop_assert!(waiting.places.is_empty(), "what is taken leaves nothing");
    }
}

#[test]
fn of_a_file_whose_content_changes_the_newest_waits() {
    let mut waiting = Waiting::default();
    for n in 0..1000_u32 {
        push(&mut waiting, put(&format!("d/{}", n % 10), n));
        push(&mut waiting, put("d/e/f", n));
    }
    assert_eq!(waiting.items.len(), 11);
    assert_eq!(waiting.items[0].change, put("d/0", 990));
    push(&mut waiting, Change::Remove { path: path("d/0") });
    push(&mut waiting, put("d/0", 1));
    assert_eq!(waiting.items.len(), 11);
    assert_eq!(waiting.items[0].change, put("d/0", 1));
}

#[test]
fn a_file_that_becomes_a_directory_and_back_keeps_its_order() {
    let (file, entry) = (path("x"), path("x/y"));
    let to_directory = |n| {
        [
            Change::Remove { path: file.clone() },
            Change::MakeDirectory {
                path: file.clone(),
                ownership: None,
            },
            put("x/y", n),
        ]
    };
    let to_file = |n| {
        [
            Change::Remove {
                path: entry.clone(),
            },
            Change::RemoveDirectory { path: file.clone() },
            put("x", n),
        ]
    };
    // Whatever was carried out when the rest came.
    for n_first in 0..6 {
        let mut waiting = Waiting::default();
        let mut tree = tree();
        for change in to_directory(1).into_iter().chain(to_file(2)) {
            push(&mut waiting, change);
        }
        take(&mut waiting, &mut tree, n_first);
        for n in 3..100 {
            for change in to_directory(n) {
                push(&mut waiting, change);
            }
            for change in to_file(n) {
                push(&mut waiting, change);
            }
        }
        for change in to_directory(100) {
            push(&mut waiting, change);
        }
        take(&mut waiting, &mut tree, usize::MAX);
        let expected = BTreeMap::from([
            ("x".into(), Shown::Directory(MOUNT)),
            ("x/y".into(), file_of(100)),
        ]);
        assert_eq!(shown(&tree), expected, "{n_first} before");
    }
}

#[test]
fn what_breaks_was_shown_before() {
    let mut waiting = Waiting::default();
    let mut tree = tree();
    push(&mut waiting, put("a", 1));
    push(&mut waiting, Change::Break { path: path("a") });
    push(&mut waiting, put("b", 1));
    push(&mut waiting, Change::Remove { path: path("b") });
    push(&mut waiting, Change::Break { path: path("b") });
    take(&mut waiting, &mut tree, usize::MAX);
    let broken = Shown::File(owned(0o400), None);
    assert_eq!(shown(&tree), BTreeMap::from([("a".into(), broken)]));
}

#[test]
fn the_last_confirmation_counts() {
    let mut waiting = Waiting::default();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for seconds in [10, 20] {
        waiting.push(Item {
            change: Change::Confirm { path: path("a") },
            now: at(seconds),
            known: None,
        });
    }
    assert_eq!(waiting.items.len(), 1);
    assert_eq!(waiting.items[0].now, at(20));
}

fn tree() -> Tree {
    Tree::new(MOUNT, at())
}

fn push(waiting: &mut Waiting, change: Change) {
    waiting.push(Item {
        change,
        now: at(),
        known: None,
    });
}

fn take(waiting: &mut Waiting, tree: &mut Tree, n: usize) {
    for _ in 0..n {
        let Some(item) = waiting.pop() else {
            return;
        };
        tree.apply(item.change, item.now);
    }
}

fn shown(tree: &Tree) -> BTreeMap<String, Shown> {
    let attr = |path: &FilePath| -> Attr { tree.attr(tree.find(path).unwrap()).unwrap() };
    let mut n_listed = 0;
    let all = tree.paths().into_iter().map(|(path, kind)| {
        let Attr { ino, ownership, .. } = attr(&path);
        let shown = match kind {
            Kind::Directory => {
                n_listed += n_entries(tree, ino);
                Shown::Directory(ownership)
            }
            Kind::File => Shown::File(ownership, tree.content(ino)),
        };
        (path.to_string(), shown)
    });
    let all: BTreeMap<_, _> = all.collect();
    assert_eq!(n_listed + n_entries(tree, Ino::ROOT), all.len());
    all
}

fn n_entries(tree: &Tree, ino: Ino) -> usize {
    let mut n = 0;
    tree.list(ino, 2, |_| {
        n += 1;
        Room::Taken
    });
    n
}

fn put(at: &str, content: u32) -> Change {
    Change::Put {
        path: path(at),
        ownership: owned(0o400),
        content: content.to_le_bytes().as_slice().into(),
    }
}

fn file_of(content: u32) -> Shown {
    let content = content.to_le_bytes().as_slice().into();
    Shown::File(owned(0o400), Some(content))
}

fn owned(mode: u16) -> Ownership {
    Ownership {
        uid: 1,
        gid: 2,
        mode,
    }
}

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        9 => change().prop_map(Step::Push),
        1 => (0..8_usize).prop_map(Step::Take),
    ]
}

/// In a tree of depth 4 with few names, so that they meet.
fn change() -> impl Strategy<Value = Change> {
    let path = || prop::collection::vec("[ab]", 1..=4).prop_map(|names| path(&names.join("/")));
    let owner = prop::option::of(prop_oneof![Just(owned(0o500)), Just(owned(0o555))]);
    prop_oneof![
        4 => (path(), 0..3_u32).prop_map(|(path, n)| put(&path.to_string(), n)),
        1 => path().prop_map(|path| Change::Recall {
            path,
            ownership: owned(0o440),
            content: b"recalled".as_slice().into(),
            mtime: at(),
        }),
        1 => path().prop_map(|path| Change::Break { path }),
        1 => path().prop_map(|path| Change::Confirm { path }),
        4 => path().prop_map(|path| Change::Remove { path }),
        2 => (path(), owner).prop_map(|(path, ownership)| Change::MakeDirectory { path, ownership }),
        3 => path().prop_map(|path| Change::RemoveDirectory { path }),
    ]
}
