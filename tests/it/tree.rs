//! The tree against a stupid twin, step by step.
//!
//! The twin keeps paths in a `BTreeMap` and never forgets anything; the kernel is played by a table
//! of lookups that it was given and may give back. After every step both must tell the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use livedata::content::Content;
use livedata::path::FilePath;
use livedata::tree::{
    self, Attr, Call, Change, Effect, Fact, Ino, Kind, Ownership, Room, Staged, Tree,
};
use proptest::prelude::*;

pub const DIRECTORIES: Ownership = Ownership {
    uid: 0,
    gid: 0,
    mode: 0o555,
};

#[derive(Debug, Clone)]
enum Step {
    Change(Change, Way),
    /// Another process goes on with what is on record; in short form, or as it came about.
    TakeOver(bool),
    /// Walk to a path as the kernel does, taking a lookup on each name, if there is a way.
    Walk(FilePath),
    /// List a directory in pieces of so many entries, with a change between the pieces.
    List(FilePath, usize, Change),
    /// Give back some of the lookups on the n-th inode held.
    Forget(usize, u64),
    /// The system clock moves by so many microseconds, perhaps back.
    Tick(i64),
}

/// How a change is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// By [`Tree::apply`].
    AtOnce,
    /// Staged, and carried out by the system call that the step names.
    ByTheKernel,
    /// Staged, and settled without the kernel.
    Settled,
}

#[derive(Debug, Clone, PartialEq)]
enum Twin {
    Directory(Option<Ownership>),
    File {
        ownership: Ownership,
        /// None where it cannot be read.
        content: Option<Content>,
    },
}

#[derive(Default)]
struct Model {
    /// What stands where.
    paths: BTreeMap<String, Twin>,
    /// Lookups the kernel holds.
    lookups: HashMap<Ino, u64>,
    /// What every inode ever seen had in it; they must never differ.
    contents: HashMap<Ino, Option<Content>>,
    /// The time of the latest version or confirmation of each path, even if it went away.
    times: HashMap<String, SystemTime>,
    /// Every inode that ever stood at a path.
    inodes: HashMap<Ino, String>,
    /// What is on record of the tree.
    record: Vec<Fact>,
}

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

fn run(steps: &[Step]) {
    let mut now = at(1_000);
    let mut tree = Tree::new(DIRECTORIES, now);
    tree.record();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Change(change, way) => model.change_by(&mut tree, change, *way, now),
            Step::TakeOver(short) => {
                model.record.extend(tree.take_facts());
                let record = if *short {
                    tree.facts()
                } else {
                    model.record.clone()
                };
                tree = Tree::restore(DIRECTORIES, record).expect("the facts fit together");
                tree.record();
                model.record = tree.facts();
            }
            Step::Walk(path) => model.walk(&mut tree, path),
            Step::List(path, piece, change) => model.list(&mut tree, path, *piece, change, now),
            Step::Forget(n, count) => model.forget(&mut tree, *n, *count),
            Step::Tick(micros) => {
                let step = Duration::from_micros(micros.unsigned_abs());
                now = if *micros < 0 { now - step } else { now + step };
            }
        }
        model.record.extend(tree.take_facts());
        model.check(&mut tree);
    }
}

impl Model {
    fn change(&mut self, tree: &mut Tree, change: &Change, now: SystemTime) {
        self.change_by(tree, change, Way::AtOnce, now);
    }

    fn change_by(&mut self, tree: &mut Tree, change: &Change, way: Way, now: SystemTime) {
        let before = self.paths.clone();
        let old = |path: &FilePath| tree.find(path).and_then(|ino| tree.attr(ino));
        let (path, old) = match change {
            Change::Put { path, .. }
            | Change::Recall { path, .. }
            | Change::Break { path }
            | Change::Remove { path }
            | Change::Confirm { path }
            | Change::MakeDirectory { path, .. }
            | Change::RemoveDirectory { path } => (path.to_string(), old(path)),
        };
        self.change_paths(change);
        let changed = before != self.paths;
        let is_confirmation = matches!(change, Change::Confirm { .. });
        let effects = match way {
            Way::AtOnce => tree.apply(change.clone(), now),
            Way::ByTheKernel | Way::Settled if is_confirmation => tree.apply(change.clone(), now),
            Way::ByTheKernel | Way::Settled => {
                let staged = tree.stage(change.clone(), now);
                assert_eq!(staged != Staged::Nothing, changed, "{change:?}: {staged:?}");
                match staged {
                    Staged::Step(step) => self.carry_out(tree, &step, way, now),
                    Staged::Tell(Effect::Owned { ino }) => {
                        assert_eq!(old.map(|old| old.ino), Some(ino));
                    }
                    Staged::Tell(effect) => panic!("{effect:?} is to be carried out"),
                    Staged::Nothing | Staged::Done => {}
                }
                Vec::new()
            }
        };
        match change {
            _ if effects.is_empty() && !matches!(way, Way::AtOnce) && !is_confirmation => {}
            Change::Confirm { path: file } => {
                assert!(!changed);
                if let Some(Twin::File {
                    content: Some(_), ..
                }) = self.paths.get(&path)
                {
                    let before = old.unwrap();
                    let after = tree.attr(before.ino).unwrap();
                    assert_eq!(after.mtime, before.mtime.max(now), "{file}");
                    assert_eq!(
                        after,
                        Attr {
                            mtime: after.mtime,
                            ..before
                        }
                    );
                    let moved = after.mtime > before.mtime;
                    assert!(moved || effects.is_empty());
                    // After a takeover the kernel may be told what it does not hold.
                    assert!(!effects.is_empty() || !moved || !self.holds(before.ino));
                    self.times.insert(path, after.mtime);
                }
            }
            Change::MakeDirectory { ownership, .. } if old.is_some() => {
                let before = old.unwrap();
                let after = tree.attr(before.ino).unwrap();
                let ownership = match changed {
                    true => ownership.unwrap_or(DIRECTORIES),
                    false => before.ownership,
                };
                assert_eq!(
                    after,
                    Attr {
                        ownership,
                        ..before
                    },
                    "in place"
                );
                assert!(changed || effects.is_empty());
                assert!(!effects.is_empty() || !changed || !self.holds(before.ino));
            }
            _ => assert_eq!(!effects.is_empty(), changed, "{change:?}: {effects:?}"),
        }
        for (path, twin) in &self.paths {
            if matches!(twin, Twin::File { .. }) && before.get(path) != Some(twin) {
                let ino = tree.find(&FilePath::parse(path).unwrap()).unwrap();
                let mtime = tree.attr(ino).unwrap().mtime;
                let earlier = self.times.insert(path.clone(), mtime);
                match change {
                    Change::Recall {
                        mtime: given,
                        content: new,
                        ..
                    } => {
                        let there = match before.get(path) {
                            Some(Twin::File { content, .. }) => content
                                .as_ref()
                                .filter(|old| *old != new)
                                .map_or(earlier, |_| earlier.map(|t| t + Duration::from_micros(1))),
                            Some(Twin::Directory(_)) | None => None,
                        };
                        assert_eq!(mtime, there.map_or(*given, |there| there.max(*given)));
                    }
                    Change::Break { .. } => assert_eq!(Some(mtime), earlier),
                    _ => {
                        assert!(earlier.is_none_or(|t| mtime >= t + Duration::from_micros(1)));
                        assert!(mtime >= now);
                    }
                }
                assert!(!self.inodes.contains_key(&ino), "{ino:?} was used before");
            }
        }
    }

    /// Does as the publisher and the kernel do, or as one does without them.
    fn carry_out(&mut self, tree: &mut Tree, step: &tree::Step, way: Way, now: SystemTime) {
        let (directory, name) = (step.directory, step.name.as_str());
        assert!(tree.is_staged(directory, &step.name));
        if let Way::Settled = way {
            assert!(tree.settle(directory, &step.name, now).is_some());
            return;
        }
        match &step.call {
            Call::Rename { staged } => {
                let attr = tree.lookup_staged(*staged).unwrap();
                assert_eq!((attr.ino, attr.kind), (*staged, Kind::File));
                *self.lookups.entry(*staged).or_default() += 1;
                assert!(
                    !tree.rename(Ino(staged.0 + 1), directory, name, now),
                    "another inode"
                );
                assert!(tree.rename(*staged, directory, name, now));
                assert!(tree.rename(*staged, directory, name, now), "asked again");
            }
            Call::Mkdir => {
                let attr = tree.make_directory(directory, name, now).unwrap();
                assert_eq!(
                    tree.make_directory(directory, name, now),
                    Some(attr),
                    "asked again"
                );
                *self.lookups.entry(attr.ino).or_default() += 2;
            }
            Call::Unlink | Call::Rmdir => {
                assert!(tree.remove(directory, name, now));
                assert!(tree.remove(directory, name, now), "asked again");
            }
        }
        assert!(!tree.is_staged(directory, &step.name));
    }

    fn change_paths(&mut self, change: &Change) {
        let is_directory = |twin: Option<&Twin>| matches!(twin, None | Some(Twin::Directory(_)));
        match change {
            Change::Break { path } => {
                if let Some(Twin::File { content, .. }) = self.paths.get_mut(&path.to_string()) {
                    *content = None;
                }
            }
            Change::Put {
                path,
                ownership,
                content,
            }
            | Change::Recall {
                path,
                ownership,
                content,
                mtime: _,
            } => {
                let fits = path.ancestors().all(|up| is_directory(self.get(&up)))
                    && !matches!(self.get(path), Some(Twin::Directory(_)));
                if fits {
                    self.make_directories(path.ancestors());
                    let file = Twin::File {
                        ownership: *ownership,
                        content: Some(content.clone()),
                    };
                    self.paths.insert(path.to_string(), file);
                }
            }
            Change::Remove { path } => {
                if matches!(self.get(path), Some(Twin::File { .. })) {
                    self.paths.remove(&path.to_string());
                }
            }
            Change::Confirm { .. } => {}
            Change::MakeDirectory { path, ownership } => {
                let whole = || std::iter::once(path.clone()).chain(path.ancestors());
                if whole().all(|up| is_directory(self.get(&up))) {
                    self.make_directories(whole());
                    let directory = Twin::Directory(*ownership);
                    self.paths.insert(path.to_string(), directory);
                }
            }
            Change::RemoveDirectory { path } => {
                let below = format!("{path}/");
                let empty = !self.paths.keys().any(|other| other.starts_with(&below));
                if matches!(self.get(path), Some(Twin::Directory(_))) && empty {
                    self.paths.remove(&path.to_string());
                }
            }
        }
    }

    fn make_directories(&mut self, upwards: impl Iterator<Item = FilePath>) {
        let mut downwards: Vec<_> = upwards.collect();
        downwards.reverse();
        for path in downwards {
            match self.get(&path) {
                None => drop(self.paths.insert(path.to_string(), Twin::Directory(None))),
                Some(Twin::Directory(_)) => {}
                Some(Twin::File { .. }) => return,
            }
        }
    }

    fn get(&self, path: &FilePath) -> Option<&Twin> {
        self.paths.get(&path.to_string())
    }

    fn holds(&self, ino: Ino) -> bool {
        self.lookups.get(&ino).is_some_and(|n| *n > 0)
    }

    fn walk(&mut self, tree: &mut Tree, path: &FilePath) {
        let mut ino = Ino::ROOT;
        for name in path.names() {
            let Some(attr) = tree.lookup(ino, name.as_str()) else {
                break;
            };
            ino = attr.ino;
            *self.lookups.entry(ino).or_default() += 1;
        }
        let there = tree.find(path);
        assert_eq!(there.is_some(), self.get(path).is_some(), "{path}");
        assert!(there.is_none_or(|there| there == ino));
    }

    fn list(
        &mut self,
        tree: &mut Tree,
        path: &FilePath,
        piece: usize,
        change: &Change,
        now: SystemTime,
    ) {
        let Some(directory) = tree.find(path) else {
            return;
        };
        let before = self.names_in(path);
        let (mut cookie, mut listed) = (0, Vec::new());
        loop {
            let mut n = 0;
            let mut taken = Vec::new();
            let found = tree.list_and_look_up(directory, cookie, |entry| {
                if n == piece {
                    return Room::Full;
                }
                n += 1;
                taken.push((entry.cookie, entry.name.to_string(), entry.attr.ino));
                Room::Taken
            });
            assert_eq!(
                found,
                matches!(self.get(path), Some(Twin::Directory(_))) || n > 0
            );
            let Some((last, ..)) = taken.last().cloned() else {
                break;
            };
            cookie = last;
            for (_, name, ino) in taken {
                if name != "." && name != ".." {
                    *self.lookups.entry(ino).or_default() += 1;
                    listed.push(name);
                }
            }
            if listed.len() == piece {
                self.change(tree, change, now);
            }
        }
        let unique: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "listed twice");
        if tree.find(path) == Some(directory) {
            let after = self.names_in(path);
            assert!(
                before
                    .intersection(&after)
                    .all(|name| unique.contains(name)),
                "left out"
            );
        }
    }

    fn names_in(&self, directory: &FilePath) -> BTreeSet<String> {
        let below = format!("{directory}/");
        let names = self
            .paths
            .keys()
            .filter_map(|path| path.strip_prefix(&below));
        names
            .filter(|name| !name.contains('/'))
            .map(str::to_string)
            .collect()
    }

    fn forget(&mut self, tree: &mut Tree, n: usize, count: u64) {
        let mut held: Vec<_> = self.lookups.iter().filter(|(_, n)| **n > 0).collect();
        held.sort();
        if held.is_empty() {
            return;
        }
        let ino = *held[n % held.len()].0;
        let lookups = self.lookups.get_mut(&ino).unwrap();
        let count = count.min(*lookups);
        *lookups -= count;
        tree.forget(ino, count);
    }

    fn check(&mut self, tree: &mut Tree) {
        for ino in tree.inherited() {
            if !self.holds(ino) {
                tree.disinherit(ino);
            }
        }
        let mut alive = BTreeSet::from([Ino::ROOT]);
        let mut n_directories: HashMap<String, u32> = HashMap::new();
        for (path, twin) in &self.paths {
            let ino = tree
                .find(&FilePath::parse(path).unwrap())
                .expect("the tree has it too");
            alive.insert(ino);
            assert_eq!(self.inodes.entry(ino).or_insert(path.clone()), path);
            let attr = tree.attr(ino).unwrap();
            match twin {
                Twin::Directory(ownership) => {
                    assert_eq!((attr.kind, attr.size), (Kind::Directory, 0));
                    assert_eq!(attr.ownership, ownership.unwrap_or(DIRECTORIES));
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    *n_directories.entry(parent.into()).or_default() += 1;
                }
                Twin::File { ownership, content } => {
                    assert_eq!((attr.kind, attr.n_links), (Kind::File, 1));
                    // Of what is broken the kernel must be made to ask, so it has a byte.
                    let size = content.as_ref().map_or(1, |content| content.n_bytes());
                    assert_eq!((attr.size, attr.ownership), (size as u64, *ownership));
                    assert_eq!(tree.content(ino), *content);
                    self.contents.entry(ino).or_insert(content.clone());
                    assert_eq!(attr.mtime, self.times[path]);
                }
            }
        }
        for (path, twin) in &self.paths {
            if matches!(twin, Twin::Directory(_)) {
                let ino = tree.find(&FilePath::parse(path).unwrap()).unwrap();
                let n = n_directories.get(path).copied().unwrap_or(0);
                assert_eq!(tree.attr(ino).unwrap().n_links, 2 + n);
            }
        }
        for (ino, _) in self.lookups.iter().filter(|(_, n)| **n > 0) {
            alive.insert(*ino);
            let attr = tree.attr(*ino).expect("a held inode is alive");
            if attr.kind == Kind::File {
                assert_eq!(tree.content(*ino), self.contents[ino]);
            }
        }
        assert_eq!(tree.n_inodes(), alive.len(), "nothing else is kept");
    }
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

pub fn at(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}
