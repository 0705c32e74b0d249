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

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::path::{FilePath, Name};
use clock::Clock;
use directory::Directory;

/// The number of an inode. The kernel calls it a node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount; the kernel knows it from the start and never forgets it.
    pub const ROOT: Ino = Ino(1);
}

/// The files and directories of a mount.
pub struct Tree {
    inodes: HashMap<Ino, Inode>,
    /// The number of the next inode. It only grows.
    next: u64,
    clock: Clock,
    directories: Ownership,
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
        content: Arc<[u8]>,
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
    /// The directory is there, and those above it.
    MakeDirectory {
        /// The directory.
        path: FilePath,
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
    /// 1 for a file; for a directory 2 and one for each directory in it.
    pub n_links: u32,
    /// For a file, when its content was last known to be current; for a directory, when a name in
    /// it last changed. Serves as ctime too.
    pub mtime: SystemTime,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

struct Inode {
    body: Body,
    /// How many lookups the kernel holds.
    n_lookups: u64,
    /// Whether a name leads here. Never true again once it was false.
    linked: bool,
    mtime: SystemTime,
}

enum Body {
    File {
        content: Arc<[u8]>,
        ownership: Ownership,
    },
    Directory(Directory),
}

impl Tree {
    /// An empty mount, whose directories have this ownership.
    pub fn new(directories: Ownership, now: SystemTime) -> Self {
        let mut clock = Clock::default();
        let root = Inode {
            body: Body::Directory(Directory::new(Ino::ROOT)),
            n_lookups: 0,
            linked: true,
            mtime: clock.version(now),
        };
        Self {
            inodes: HashMap::from([(Ino::ROOT, root)]),
            next: Ino::ROOT.0 + 1,
            clock,
            directories,
        }
    }

    /// Carries out `change`, at the time `now`. A change that does not fit the tree (a file where
    /// a directory is) has no effect: the configuration rules that out.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        match change {
            Change::Put {
                path,
                ownership,
                content,
            } => {
                let (name, parents) = path.split_last();
                if let Some(directory) = self.make_directories(parents, now, &mut effects) {
                    self.put(directory, name, ownership, content, now, &mut effects);
                }
            }
            Change::Remove { path } => self.remove(&path, Kind::File, now, &mut effects),
            Change::RemoveDirectory { path } => {
                self.remove(&path, Kind::Directory, now, &mut effects);
            }
            Change::Confirm { path } => self.confirm(&path, now, &mut effects),
            Change::MakeDirectory { path } => {
                self.make_directories(path.names(), now, &mut effects);
            }
        }
        effects
    }

    /// Looks a name up for the kernel, which holds one lookup more on the inode from here on.
    pub fn lookup(&mut self, directory: Ino, name: &str) -> Option<Attr> {
        let ino = self.directory(directory)?.get(name)?;
        self.inode_mut(ino).n_lookups += 1;
        self.attr(ino)
    }

    /// The kernel gives `n` lookups back.
    pub fn forget(&mut self, ino: Ino, n: u64) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.n_lookups = inode.n_lookups.saturating_sub(n);
            self.free_if_unused(ino);
        }
    }

    /// What stat(2) tells of an inode that has not been freed.
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        let inode = self.inodes.get(&ino)?;
        let (kind, size, ownership, n_links) = match &inode.body {
            Body::File { content, ownership } => (Kind::File, content.len() as u64, *ownership, 1),
            Body::Directory(directory) => (
                Kind::Directory,
                0,
                self.directories,
                2 + directory.n_directories,
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

    /// The content of a file that has not been freed.
    pub fn read(&self, ino: Ino) -> Option<Arc<[u8]>> {
        match &self.inodes.get(&ino)?.body {
            Body::File { content, .. } => Some(Arc::clone(content)),
            Body::Directory(_) => None,
        }
    }

    /// Hands the entries of a directory after `cookie` (0 at first) to `take`, in a fixed order,
    /// until it is full. Whatever changes between two calls, no entry that stays is left out or
    /// comes twice. False if `ino` is no directory.
    pub fn list(&self, ino: Ino, cookie: u64, mut take: impl FnMut(Listed<'_>) -> Room) -> bool {
        let Some(directory) = self.directory(ino) else {
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
            self.inode_mut(ino).n_lookups += 1;
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
            self.directory(ino)?.get(name.as_str())
        })
    }

    fn put(
        &mut self,
        directory: Ino,
        name: &Name,
        ownership: Ownership,
        content: Arc<[u8]>,
        now: SystemTime,
        effects: &mut Vec<Effect>,
    ) {
        let old = self
            .directory(directory)
            .and_then(|entries| entries.get(name.as_str()));
        if let Some(old) = old {
            match &self.inode(old).body {
                Body::Directory(_) => return,
                Body::File {
                    content: current,
                    ownership: owned,
                } => {
                    if *owned == ownership && *current == content {
                        return;
                    }
                }
            }
        }
        let new = self.add(Body::File { content, ownership }, now);
        self.link(directory, name, new, Kind::File);
        effects.push(match old {
            None => Effect::Created {
                directory,
                name: name.clone(),
                directory_known: self.is_known(directory),
            },
            Some(old) => Effect::Replaced {
                directory,
                name: name.clone(),
                directory_known: self.is_known(directory),
                old_known: self.unlink_inode(old),
            },
        });
    }

    fn remove(&mut self, path: &FilePath, kind: Kind, now: SystemTime, effects: &mut Vec<Effect>) {
        let (name, parents) = path.split_last();
        let parent = parents.iter().try_fold(Ino::ROOT, |ino, name| {
            self.directory(ino)
                .and_then(|entries| entries.get(name.as_str()))
        });
        let Some(directory) = parent else { return };
        let Some(entries) = self.directory(directory) else {
            return;
        };
        let Some(ino) = entries.get(name.as_str()) else {
            return;
        };
        match (&self.inode(ino).body, kind) {
            (Body::File { .. }, Kind::File) => {}
            (Body::Directory(entries), Kind::Directory) if entries.is_empty() => {}
            (Body::File { .. } | Body::Directory(_), _) => return,
        }
        let time = self.clock.version(now);
        let inode = self.inode_mut(directory);
        inode.mtime = time;
        if let Body::Directory(entries) = &mut inode.body {
            entries.remove(name.as_str(), kind);
        }
        effects.push(Effect::Removed {
            directory,
            name: name.clone(),
            directory_known: self.is_known(directory),
            old_known: self.unlink_inode(ino),
        });
    }

    fn confirm(&mut self, path: &FilePath, now: SystemTime, effects: &mut Vec<Effect>) {
        let Some(ino) = self.find(path) else { return };
        let time = self.clock.confirmation(now, self.inode(ino).mtime);
        let known = self.is_known(ino);
        let inode = self.inode_mut(ino);
        let is_file = matches!(inode.body, Body::File { .. });
        if is_file && time > inode.mtime {
            inode.mtime = time;
            if known {
                effects.push(Effect::Confirmed { ino });
            }
        }
    }

    /// Goes down `names`, making what is missing; none if a file is in the way.
    fn make_directories(
        &mut self,
        names: &[Name],
        now: SystemTime,
        effects: &mut Vec<Effect>,
    ) -> Option<Ino> {
        let mut directory = Ino::ROOT;
        for name in names {
            directory = match self.directory(directory)?.get(name.as_str()) {
                Some(ino) => ino,
                None => {
                    let new = self.add(Body::Directory(Directory::new(directory)), now);
                    self.link(directory, name, new, Kind::Directory);
                    effects.push(Effect::Created {
                        directory,
                        name: name.clone(),
                        directory_known: self.is_known(directory),
                    });
                    new
                }
            };
        }
        self.directory(directory).map(|_| directory)
    }

    /// Makes an inode that no name leads to yet, under a number never used before.
    fn add(&mut self, body: Body, now: SystemTime) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        let mtime = self.clock.version(now);
        self.inodes.insert(
            ino,
            Inode {
                body,
                n_lookups: 0,
                linked: false,
                mtime,
            },
        );
        ino
    }

    /// The one place where a name comes to mean an inode.
    fn link(&mut self, directory: Ino, name: &Name, ino: Ino, kind: Kind) {
        let inode = self.inode_mut(ino);
        inode.linked = true;
        let time = inode.mtime;
        let parent = self.inode_mut(directory);
        parent.mtime = time;
        match &mut parent.body {
            Body::Directory(entries) => entries.set(name, ino, kind),
            Body::File { .. } => unreachable!("names stand in directories"),
        }
    }

    /// No name leads to the inode any more. Says whether the kernel holds it.
    fn unlink_inode(&mut self, ino: Ino) -> bool {
        self.inode_mut(ino).linked = false;
        let known = self.is_known(ino);
        self.free_if_unused(ino);
        known
    }

    fn free_if_unused(&mut self, ino: Ino) {
        let inode = self.inode(ino);
        if !inode.linked && inode.n_lookups == 0 {
            self.inodes.remove(&ino);
        }
    }

    fn is_known(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.inode(ino).n_lookups > 0
    }

    fn directory(&self, ino: Ino) -> Option<&Directory> {
        match &self.inodes.get(&ino)?.body {
            Body::Directory(directory) => Some(directory),
            Body::File { .. } => None,
        }
    }

    fn inode(&self, ino: Ino) -> &Inode {
        self.inodes
            .get(&ino)
            .expect("an inode in use is in the table")
    }

    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes
            .get_mut(&ino)
            .expect("an inode in use is in the table")
    }
}
