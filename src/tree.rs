//! The pure core: which inode a name means, and what is in it. No clock, no lock, no I/O.
//!
//! Invariants:
//! - A version is an inode: its content never changes, and its number is never used again, so
//!   whoever holds one open sees one version to the end.
//! - An inode lives while a name leads to it or the kernel holds a lookup on it, and no longer.
//! - Times of modification only ever grow: see `tree/clock.rs`.
//! - The kernel counts a lookup for every entry it is given, by [`Tree::lookup`] or
//!   [`Tree::list_and_look_up`], before it sees the entry. So a change that finds no lookups on an
//!   inode knows that the kernel has nothing to forget of it.

mod clock;
mod directory;
mod fact;
mod inodes;
mod nameless;

use std::collections::HashMap;
use std::time::SystemTime;

use crate::content::{Bytes, Content};
use crate::path::{FilePath, Name};
use clock::Clock;
use directory::Directory;
pub use fact::Fact;
use inodes::{Body, Inode, Inodes};

/// The number of an inode. The kernel calls it a node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount; the kernel knows it from the start and never forgets it.
    pub const ROOT: Ino = Ino(1);

    /// The lowest number of any other inode of a tree; those below are for what the mount shows
    /// beside the tree.
    pub const FIRST: Ino = Ino(16);
}

/// The files and directories of a mount.
pub struct Tree {
    inodes: Inodes,
    clock: Clock,
    directories: Ownership,
    /// What the kernel is to be led to, by name; see [`Tree::stage`].
    intents: HashMap<(Ino, Name), Intent>,
}

/// What a name is to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    /// To this inode, which no name leads to yet.
    Lead(Ino),
    /// To nothing.
    Vanish,
}

/// What came of staging a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// There was nothing to change.
    Nothing,
    /// The change is done, and nobody has to be told: the kernel does not hold what was changed.
    Done,
    /// The change is done, and the kernel is to be told of this.
    Tell(Effect),
    /// The kernel is to be led to it by a system call on the mount.
    Step(Step),
}

/// The system call that carries a staged change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the name stands.
    pub directory: Ino,
    /// The name.
    pub name: Name,
    /// The same as a path.
    pub path: FilePath,
    /// Which call.
    pub call: Call,
    /// What the name leads to until then.
    pub replaces: Option<Ino>,
}

/// Which system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// rename(2) of the staged inode onto the name.
    Rename {
        /// The inode; its name in the staging directory is its number.
        staged: Ino,
    },
    /// mkdir(2) of the name; what is in the directory is in it from the start.
    Mkdir,
    /// unlink(2) of the name.
    Unlink,
    /// rmdir(2) of the name.
    Rmdir,
}

/// What happened, in the words of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file has this content and this ownership. Missing directories are made. What it already
    /// has, to the byte, is no change.
    Put {
        /// The file.
        path: FilePath,
        /// Who owns it, and its permission bits.
        ownership: Ownership,
        /// All of its bytes.
        content: Content,
    },
    /// The file has this content, which is not known to be current now, but was at this time. Like
    /// [`Change::Put`] otherwise.
    Recall {
        /// The file.
        path: FilePath,
        /// Who owns it, and its permission bits.
        ownership: Ownership,
        /// All of its bytes.
        content: Content,
        /// Its time of modification, unless what is there has a later one.
        mtime: SystemTime,
    },
    /// The file can no longer be read, for what is known of it is too old. Its time of modification
    /// stands still.
    Break {
        /// The file.
        path: FilePath,
    },
    /// There is no such file any more.
    Remove {
        /// The file.
        path: FilePath,
    },
    /// The content was just confirmed to be current.
    Confirm {
        /// The file.
        path: FilePath,
    },
    /// The directory is there, and those above it. One that was there stays the same inode, and
    /// gets this ownership.
    MakeDirectory {
        /// The directory.
        path: FilePath,
        /// Who owns it; none for that of all directories of the mount. Those above it have their
        /// own.
        ownership: Option<Ownership>,
    },
    /// The directory is gone, unless something is in it.
    RemoveDirectory {
        /// The directory.
        path: FilePath,
    },
}

/// What a change did to the tree, in the words of the kernel, for whoever publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The name leads to an inode where it led nowhere.
    Created {
        /// Where the name stands.
        directory: Ino,
        /// The name.
        name: Name,
        /// Whether the kernel holds the directory.
        directory_known: bool,
    },
    /// The name leads to another inode.
    Replaced {
        /// Where the name stands.
        directory: Ino,
        /// The name.
        name: Name,
        /// Whether the kernel holds the directory.
        directory_known: bool,
        /// Whether the kernel holds the inode that was replaced.
        old_known: bool,
    },
    /// The name leads nowhere.
    Removed {
        /// Where the name stood.
        directory: Ino,
        /// The name.
        name: Name,
        /// Whether the kernel holds the directory.
        directory_known: bool,
        /// Whether the kernel holds the inode that was removed.
        old_known: bool,
    },
    /// The times of an inode that the kernel holds moved; the bytes did not.
    Confirmed {
        /// The inode.
        ino: Ino,
    },
    /// A directory that the kernel holds has another ownership.
    Owned {
        /// The inode.
        ino: Ino,
    },
}

/// Who owns a file or directory, and its permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permission bits, at most `0o7777`.
    pub mode: u16,
}

/// Everything stat(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// File or directory.
    pub kind: Kind,
    /// In bytes; 0 for a directory.
    pub size: u64,
    /// Owner, group, mode.
    pub ownership: Ownership,
    /// 1 for a file; for a directory 2 and one for each directory in it; 0 where no name leads to it
    /// any more.
    pub n_links: u32,
    /// For a file, when its content was last known to be current; for a directory, when a name in
    /// it last changed. Serves as ctime too.
    pub mtime: SystemTime,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// An entry of a directory as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Where to go on after this entry.
    pub cookie: u64,
    /// The name, `.` and `..` included.
    pub name: &'a str,
    /// The inode it leads to.
    pub attr: Attr,
}

/// The answer of whoever is filling a buffer with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The entry was taken.
    Taken,
    /// The entry did not fit, and was not taken.
    Full,
}

/// The size of a file that cannot be read, in bytes: of an empty one the kernel would not ask to
/// read.
const BROKEN_SIZE: u64 = 1;

impl Change {
    /// What it is about.
    pub fn path(&self) -> &FilePath {
        match self {
            Self::Put { path, .. }
            | Self::Recall { path, .. }
            | Self::Break { path }
            | Self::Remove { path }
            | Self::Confirm { path }
            | Self::MakeDirectory { path, .. }
            | Self::RemoveDirectory { path } => path,
        }
    }

    /// Whether it is about a file or a directory.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Put { .. }
            | Self::Recall { .. }
            | Self::Break { .. }
            | Self::Remove { .. }
            | Self::Confirm { .. } => Kind::File,
            Self::MakeDirectory { .. } | Self::RemoveDirectory { .. } => Kind::Directory,
        }
    }
}

impl Tree {
    /// An empty mount, whose directories have this ownership unless they have their own; whose
    /// owner is who changes them, and may write to them if that takes a permission: see
    /// [`Change::MakeDirectory`] and `tree/directory.rs`.
    pub fn new(directories: Ownership, now: SystemTime) -> Self {
        let mut clock = Clock::default();
        let inodes = Inodes::new(clock.version(now));
        Self {
            inodes,
            clock,
            directories,
            intents: HashMap::new(),
        }
    }

    /// The tree that these facts are, for another process to go on with. What the kernel holds of
    /// it is not known: see [`Tree::inherited`]. None where the facts do not fit together.
    pub fn restore(directories: Ownership, facts: impl IntoIterator<Item = Fact>) -> Option<Self> {
        let mut tree = Self::new(directories, SystemTime::UNIX_EPOCH);
        facts
            .into_iter()
            .all(|fact| tree.go_on_with(fact))
            .then_some(tree)
    }

    /// [`Tree::restore`] by one more fact, for a tree that was [new](Tree::new) at the epoch. False
    /// where it does not fit.
    #[must_use]
    pub fn go_on_with(&mut self, fact: Fact) -> bool {
        match &fact {
            Fact::File { mtime, .. }
            | Fact::Broken { mtime, .. }
            | Fact::Directory { mtime, .. }
            | Fact::Time { mtime, .. } => self.clock.given(*mtime),
            Fact::Floor { latest, .. } => self.clock.given(*latest),
            Fact::Owned { .. }
            | Fact::Linked { .. }
            | Fact::Unlinked { .. }
            | Fact::Freed { .. } => {}
        }
        self.inodes.restore(fact)
    }

    /// Notes facts from here on, for [`Tree::take_facts`].
    pub fn record(&mut self) {
        self.inodes.record();
    }

    /// What became true since the last call. It must be on record before anybody sees it.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        self.inodes.take_facts()
    }

    /// The shortest record of the tree as it is.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::Floor {
            next: self.inodes.next(),
            latest: self.clock.latest(),
        }];
        let mut links = Vec::new();
        for (ino, inode) in self.inodes.iter() {
            let mtime = inode.mtime;
            match &inode.body {
                Body::File { content, ownership } => {
                    let (content, ownership) = (content.clone(), *ownership);
                    facts.push(Fact::File {
                        ino,
                        ownership,
                        mtime,
                        content,
                    });
                }
                Body::Broken { ownership } => facts.push(Fact::Broken {
                    ino,
                    ownership: *ownership,
                    mtime,
                }),
                Body::Directory(directory) => {
                    if ino != Ino::ROOT {
                        facts.push(Fact::Directory {
                            ino,
                            parent: directory.parent(),
                            ownership: directory.ownership,
                            mtime,
                        });
                    }
                    links.extend(
                        directory
                            .entries()
                            .map(|(name, cookie, entry)| Fact::Linked {
                                directory: ino,
                                name: name.clone(),
                                ino: entry,
                                cookie,
                            }),
                    );
                    links.push(Fact::Time { ino, mtime });
                }
            }
        }
        facts.extend(links);
        facts
    }

    /// Carries out `change` at once, at the time `now`. A change that does not fit the tree (a
    /// file where a directory is) has no effect: the configuration rules that out.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Vec<Effect> {
        if let Change::Confirm { path } = &change {
            return self.confirm(path, now).into_iter().collect();
        }
        let owned = self.own(&change);
        let effect = match self.intend(change, now) {
            Some((directory, path, intent)) => {
                self.carry_out(directory, path.split_last().0, intent, now)
            }
            None => owned.and_then(|ino| self.owned(ino)),
        };
        effect.into_iter().collect()
    }

    /// Prepares `change` for the kernel: it is carried out by the system call that the step names,
    /// at [`Tree::rename`], [`Tree::make_directory`] or [`Tree::remove`]; or by [`Tree::settle`].
    /// A step staged for the same name before is forgotten.
    ///
    /// Where the kernel does not hold the directory, the change is done at once, and so is one of
    /// ownership alone. A confirmation is no such change: see [`Tree::confirm`].
    pub fn stage(&mut self, change: Change, now: SystemTime) -> Staged {
        let owned = self.own(&change);
        let Some((directory, path, intent)) = self.intend(change, now) else {
            return match owned.map(|ino| self.owned(ino)) {
                Some(Some(effect)) => Staged::Tell(effect),
                Some(None) => Staged::Done,
                None => Staged::Nothing,
            };
        };
        let name = path.split_last().0.clone();
        if !self.inodes.is_known(directory) {
            self.carry_out(directory, &name, intent, now);
            return Staged::Done;
        }
        let call = match intent {
            Intent::Lead(staged) => match self.inodes.get(staged).body.kind() {
                Kind::File => Call::Rename { staged },
                Kind::Directory => Call::Mkdir,
            },
            Intent::Vanish => match self.kind(directory, &name) {
                Some(Kind::Directory) => Call::Rmdir,
                Some(Kind::File) | None => Call::Unlink,
            },
        };
        self.intents.insert((directory, name.clone()), intent);
        let replaces = self.leads_to(directory, name.as_str());
        Staged::Step(Step {
            directory,
            name,
            path,
            call,
            replaces,
        })
    }

    /// Carries out what was staged for the name without the kernel's help, which must be told of
    /// the effect.
    pub fn settle(&mut self, directory: Ino, name: &Name, now: SystemTime) -> Option<Effect> {
        let intent = self.intents.remove(&(directory, name.clone()))?;
        self.carry_out(directory, name, intent, now)
    }

    /// Whether something staged for the name was not carried out yet.
    pub fn is_staged(&self, directory: Ino, name: &Name) -> bool {
        self.intents.contains_key(&(directory, name.clone()))
    }

    /// The kernel renames a staged inode onto the name. True if that was the intent, or is so
    /// already (the kernel asks again when nobody answered the first time).
    pub fn rename(&mut self, staged: Ino, directory: Ino, name: &str, now: SystemTime) -> bool {
        let Ok(name) = Name::parse(name) else {
            return false;
        };
        let key = (directory, name);
        match self.intents.get(&key) {
            Some(Intent::Lead(ino)) if *ino == staged => {
                let intent = self.intents.remove(&key).expect("it was just there");
                self.carry_out(directory, &key.1, intent, now);
                true
            }
            Some(_) | None => self.leads_to(directory, key.1.as_str()) == Some(staged),
        }
    }

    /// The kernel makes a directory, and holds one lookup more on it from here on. None if that
    /// was not the intent, nor is so already.
    pub fn make_directory(&mut self, directory: Ino, name: &str, now: SystemTime) -> Option<Attr> {
        let key = (directory, Name::parse(name).ok()?);
        if let Some(Intent::Lead(ino)) = self.intents.get(&key)
            && self.inodes.get(*ino).body.kind() == Kind::Directory
        {
            let intent = self.intents.remove(&key).expect("it was just there");
            self.carry_out(directory, &key.1, intent, now);
        }
        match self.kind(directory, &key.1)? {
            Kind::Directory => self.lookup(directory, name),
            Kind::File => None,
        }
    }

    /// The kernel removes the name. True if that was the intent, or is so already.
    pub fn remove(&mut self, directory: Ino, name: &str, now: SystemTime) -> bool {
        let Ok(name) = Name::parse(name) else {
            return false;
        };
        let key = (directory, name);
        match self.intents.get(&key) {
            Some(Intent::Vanish) => {
                let intent = self.intents.remove(&key).expect("it was just there");
                self.carry_out(directory, &key.1, intent, now).is_some()
            }
            Some(Intent::Lead(_)) | None => {
                self.inodes.directory(directory).is_some()
                    && self.leads_to(directory, key.1.as_str()).is_none()
            }
        }
    }

    /// The content of the file was just confirmed to be current. Gives the effect, where the
    /// kernel holds the inode.
    pub fn confirm(&mut self, path: &FilePath, now: SystemTime) -> Option<Effect> {
        let ino = self.find(path)?;
        let inode = self.inodes.get(ino);
        let time = self.clock.confirmation(now, inode.mtime);
        if !matches!(inode.body, Body::File { .. }) || time <= inode.mtime {
            return None;
        }
        self.inodes.set_mtime(ino, time);
        self.inodes
            .is_known(ino)
            .then_some(Effect::Confirmed { ino })
    }

    /// Looks a name up for the kernel, which holds one lookup more on the inode from here on.
    pub fn lookup(&mut self, directory: Ino, name: &str) -> Option<Attr> {
        let ino = self.leads_to(directory, name)?;
        self.inodes.look_up(ino);
        self.attr(ino)
    }

    /// Looks a staged inode up for the kernel, by its number.
    pub fn lookup_staged(&mut self, ino: Ino) -> Option<Attr> {
        let staged = self
            .intents
            .values()
            .any(|intent| *intent == Intent::Lead(ino));
        // After a takeover the kernel may ask again for one whose change nobody remembers.
        let left_over = self
            .inodes
            .find(ino)
            .is_some_and(|inode| !inode.is_linked());
        if !staged && !left_over {
            return None;
        }
        self.inodes.look_up(ino);
        self.attr(ino)
    }

    /// The kernel gives `n` lookups back.
    pub fn forget(&mut self, ino: Ino, n: u64) {
        self.inodes.forget(ino, n);
    }

    /// The inodes without a name that the kernel may hold from the time of another process; if it
    /// does not, [`Tree::disinherit`] lets them go.
    pub fn inherited(&self) -> Vec<Ino> {
        let lost = |inode: &Inode| inode.is_inherited() && !inode.is_linked();
        self.inodes
            .iter()
            .filter(|(_, inode)| lost(inode))
            .map(|(ino, _)| ino)
            .collect()
    }

    /// The kernel said that it does not hold this inode.
    pub fn disinherit(&mut self, ino: Ino) {
        self.inodes.disinherit(ino);
    }

    /// What stat(2) tells of an inode that has not been freed.
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        let inode = self.inodes.find(ino)?;
        let (kind, size, ownership, n_links) = match &inode.body {
            Body::File { content, ownership } => (
                Kind::File,
                content.n_bytes() as u64,
                *ownership,
                u32::from(inode.is_linked()),
            ),
            Body::Broken { ownership } => (
                Kind::File,
                BROKEN_SIZE,
                *ownership,
                u32::from(inode.is_linked()),
            ),
            Body::Directory(directory) => (
                Kind::Directory,
                0,
                directory.shown(self.directories),
                match inode.is_linked() {
                    true => 2 + directory.n_directories,
                    false => 0,
                },
            ),
        };
        Some(Attr {
            ino,
            kind,
            size,
            ownership,
            n_links,
            mtime: inode.mtime,
        })
    }

    /// The content of a file that has not been freed and can be read.
    pub fn content(&self, ino: Ino) -> Option<Content> {
        match &self.inodes.find(ino)?.body {
            Body::File { content, .. } => Some(content.clone()),
            Body::Broken { .. } | Body::Directory(_) => None,
        }
    }

    /// The bytes of [`Tree::content`], unless they lie on disk.
    pub fn read(&self, ino: Ino) -> Option<Bytes> {
        self.content(ino)?.in_memory()
    }

    /// Hands the entries of a directory after `cookie` (0 at first) to `take`, in a fixed order,
    /// until it is full. Whatever changes between two calls, no entry that stays is left out or
    /// comes twice. False if `ino` is no directory.
    pub fn list(&self, ino: Ino, cookie: u64, mut take: impl FnMut(Listed<'_>) -> Room) -> bool {
        let Some(directory) = self.inodes.directory(ino) else {
            return false;
        };
        directory.list(ino, cookie, |cookie, name, ino| match self.attr(ino) {
            Some(attr) => take(Listed { cookie, name, attr }),
            // Only `..` of a removed directory, whose parent is gone too, leads to nothing.
            None => Room::Taken,
        });
        true
    }

    /// [`Tree::list`] for the kernel, which holds a lookup more on each entry taken, but for `.`
    /// and `..` (which it ignores: `fuse_direntplus_link` in Linux).
    pub fn list_and_look_up(
        &mut self,
        ino: Ino,
        cookie: u64,
        mut take: impl FnMut(Listed<'_>) -> Room,
    ) -> bool {
        let mut looked_up = Vec::new();
        let found = self.list(ino, cookie, |listed| {
            let dots = listed.cookie <= directory::DOT_DOT;
            let ino = listed.attr.ino;
            let room = take(listed);
            if room == Room::Taken && !dots {
                looked_up.push(ino);
            }
            room
        });
        for ino in looked_up {
            self.inodes.look_up(ino);
        }
        found
    }

    /// How many inodes there are: those with a name, and those the kernel still holds.
    pub fn n_inodes(&self) -> usize {
        self.inodes.len()
    }

    /// The inode a path leads to, without telling the kernel.
    pub fn find(&self, path: &FilePath) -> Option<Ino> {
        path.names().iter().try_fold(Ino::ROOT, |ino, name| {
            self.inodes.directory(ino)?.get(name.as_str())
        })
    }

    /// The inode that a path leads to once what is staged is carried out.
    pub fn find_staged(&self, path: &FilePath) -> Option<Ino> {
        path.names().iter().try_fold(Ino::ROOT, |ino, name| {
            match self.intents.get(&(ino, name.clone())) {
                Some(Intent::Lead(staged)) => Some(*staged),
                Some(Intent::Vanish) => None,
                None => self.leads_to(ino, name.as_str()),
            }
        })
    }

    /// All files and directories, directories before what is in them.
    pub fn paths(&self) -> Vec<(FilePath, Kind)> {
        let mut found: Vec<(FilePath, Kind)> = Vec::new();
        let mut directories = vec![(Ino::ROOT, None::<FilePath>)];
        while let Some((ino, path)) = directories.pop() {
            let Some(directory) = self.inodes.directory(ino) else {
                continue;
            };
            for (name, _, entry) in directory.entries() {
                let path = match &path {
                    Some(path) => path.child(name),
                    None => FilePath::from(name.clone()),
                };
                let kind = self.inodes.get(entry).body.kind();
                found.push((path.clone(), kind));
                if kind == Kind::Directory {
                    directories.push((entry, Some(path)));
                }
            }
        }
        found
    }

    /// What the name leads to.
    fn leads_to(&self, directory: Ino, name: &str) -> Option<Ino> {
        self.inodes.directory(directory)?.get(name)
    }

    fn kind(&self, directory: Ino, name: &Name) -> Option<Kind> {
        let ino = self.leads_to(directory, name.as_str())?;
        Some(self.inodes.get(ino).body.kind())
    }

    /// Turns a change into what one name is to lead to, with all that is below it made already;
    /// none where nothing is to change.
    fn intend(&mut self, change: Change, now: SystemTime) -> Option<(Ino, FilePath, Intent)> {
        let (path, body, mtime) = match change {
            Change::Put {
                path,
                ownership,
                content,
            } => (path, Body::File { content, ownership }, None),
            Change::Recall {
                path,
                ownership,
                content,
                mtime,
            } => {
                let there = self.find(&path).map(|ino| self.inodes.get(ino));
                let mtime = match there.map(|inode| (&inode.body, inode.mtime)) {
                    Some((Body::File { content: old, .. }, time)) if *old != content => {
                        mtime.max(clock::after(time))
                    }
                    Some((_, time)) => mtime.max(time),
                    None => mtime,
                };
                (path, Body::File { content, ownership }, Some(mtime))
            }
            Change::Break { path } => {
                let there = self.inodes.get(self.find(&path)?);
                let Body::File { ownership, .. } = there.body else {
                    return None;
                };
                (path, Body::Broken { ownership }, Some(there.mtime))
            }
            // Its parent is filled in where it is made.
            Change::MakeDirectory { path, ownership } => {
                let body = Body::Directory(Box::new(Directory::new(Ino::ROOT, ownership)));
                (path, body, None)
            }
            Change::Remove { path } => return self.intend_to_remove(&path, Kind::File),
            Change::RemoveDirectory { path } => {
                return self.intend_to_remove(&path, Kind::Directory);
            }
            Change::Confirm { .. } => return None,
        };
        // Down to the last directory there is.
        let (last, parents) = path.split_last();
        let (mut directory, mut missing) = (Ino::ROOT, parents);
        while let Some((name, below)) = missing.split_first() {
            match self.leads_to(directory, name.as_str()) {
                Some(ino) => (directory, missing) = (ino, below),
                None => break,
            }
            self.inodes.directory(directory)?;
        }
        self.inodes.directory(directory)?;
        if missing.is_empty()
            && let Some(ino) = self.leads_to(directory, last.as_str())
            && !self.replaces(ino, &body)
        {
            self.forget_intent(directory, last);
            return None;
        }
        // What is missing is made from the top down, and becomes visible with its topmost name.
        let top = missing.first().unwrap_or(last).clone();
        self.forget_intent(directory, &top);
        let mut staged = None;
        let mut parent = directory;
        let directories = missing.iter().map(|name| (name, None));
        for (name, file) in directories.chain([(last, Some((body, mtime)))]) {
            let (body, mtime) = match file {
                Some((body @ (Body::File { .. } | Body::Broken { .. }), mtime)) => (body, mtime),
                Some((Body::Directory(directory), _)) => {
                    let directory = Directory::new(parent, directory.ownership);
                    (Body::Directory(Box::new(directory)), None)
                }
                None => {
                    let directory = Directory::new(parent, None);
                    (Body::Directory(Box::new(directory)), None)
                }
            };
            let mtime = match mtime {
                Some(mtime) => {
                    self.clock.given(mtime);
                    mtime
                }
                None => self.clock.version(now),
            };
            let ino = self.inodes.add(body, mtime);
            if staged.is_some() {
                self.inodes.link(parent, name, ino);
            }
            staged.get_or_insert(ino);
            parent = ino;
        }
        let path = path.prefix(parents.len() - missing.len() + 1);
        Some((directory, path, Intent::Lead(staged?)))
    }

    /// Gives a directory that is there the ownership that the change says; none where that is no
    /// change.
    fn own(&mut self, change: &Change) -> Option<Ino> {
        let Change::MakeDirectory { path, ownership } = change else {
            return None;
        };
        let ino = self.find(path)?;
        self.inodes.own(ino, *ownership).then_some(ino)
    }

    fn owned(&self, ino: Ino) -> Option<Effect> {
        self.inodes.is_known(ino).then_some(Effect::Owned { ino })
    }

    /// Whether a file of this body is something else than what is there.
    fn replaces(&self, there: Ino, body: &Body) -> bool {
        match (&self.inodes.get(there).body, body) {
            (
                Body::File {
                    content: old,
                    ownership: owned,
                },
                Body::File {
                    content: new,
                    ownership,
                },
            ) => owned != ownership || old != new,
            (Body::File { .. }, Body::Broken { .. }) | (Body::Broken { .. }, Body::File { .. }) => {
                true
            }
            (Body::Broken { .. }, Body::Broken { .. })
            | (Body::Directory(_), _)
            | (Body::File { .. } | Body::Broken { .. }, Body::Directory(_)) => false,
        }
    }

    fn intend_to_remove(&mut self, path: &FilePath, kind: Kind) -> Option<(Ino, FilePath, Intent)> {
        let (name, parents) = path.split_last();
        let directory = parents
            .iter()
            .try_fold(Ino::ROOT, |ino, name| self.leads_to(ino, name.as_str()))?;
        self.forget_intent(directory, name);
        let there = self.leads_to(directory, name.as_str())?;
        match (&self.inodes.get(there).body, kind) {
            (Body::File { .. } | Body::Broken { .. }, Kind::File) => {}
            (Body::Directory(entries), Kind::Directory) if entries.is_empty() => {}
            (Body::File { .. } | Body::Broken { .. } | Body::Directory(_), _) => return None,
        }
        Some((directory, path.clone(), Intent::Vanish))
    }

    /// The last change of a name counts.
    fn forget_intent(&mut self, directory: Ino, name: &Name) {
        if let Some(Intent::Lead(ino)) = self.intents.remove(&(directory, name.clone())) {
            self.inodes.give_up(ino);
        }
    }

    /// The one place where the tree changes.
    fn carry_out(
        &mut self,
        directory: Ino,
        name: &Name,
        intent: Intent,
        now: SystemTime,
    ) -> Option<Effect> {
        let directory_known = self.inodes.is_known(directory);
        let name = name.clone();
        match intent {
            Intent::Lead(ino) => Some(match self.inodes.link(directory, &name, ino) {
                None => Effect::Created {
                    directory,
                    name,
                    directory_known,
                },
                Some((_, old_known)) => Effect::Replaced {
                    directory,
                    name,
                    directory_known,
                    old_known,
                },
            }),
            Intent::Vanish => {
                let there = self.leads_to(directory, name.as_str())?;
                if self
                    .inodes
                    .directory(there)
                    .is_some_and(|entries| !entries.is_empty())
                {
                    return None;
                }
                let time = self.clock.version(now);
                let (_, old_known) = self.inodes.unlink(directory, &name, time)?;
                Some(Effect::Removed {
                    directory,
                    name,
                    directory_known,
                    old_known,
                })
            }
        }
    }
}
