//! The stupid twin of a tree, and the kernel as a table; [`run`] panics where they differ from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use livedata::content::Content;
use livedata::path::FilePath;
use livedata::tree::{
    self, Attr, Call, Change, Effect, Fact, Ino, Kind, Ownership, Room, Staged, Tree,
};

pub const DIRECTORIES: Ownership = Ownership {
    uid: 0,
    gid: 0,
    mode: 0o555,
};

/// What happens.
#[derive(Debug, Clone)]
pub enum Step {
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

/// Does it all to a tree and to its twin.
pub fn run(steps: &[Step]) {
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

pub fn at(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}
