//! The inode table: numbers, names, lookups, and when an inode is no more.
//!
//! Whatever another process must know to go on is a [`Fact`], noted here, where it becomes true.

use std::time::SystemTime;

use crate::content::Content;
use crate::numbers::ByNumber;
use crate::path::Name;
use crate::tree::directory::Directory;
use crate::tree::{Fact, Ino, Kind, Ownership};

pub(super) struct Inodes {
    table: ByNumber<Ino, Inode>,
    /// The number of the next inode. It only grows.
    next: u64,
    facts: Option<Vec<Fact>>,
}

pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mtime: SystemTime,
    /// How many lookups the kernel holds of those that this process gave it.
    n_lookups: u64,
    /// The kernel may hold lookups that another process gave it; nobody knows how many.
    inherited: bool,
    /// Whether a name leads here. Never true again once it was false again.
    linked: bool,
    /// A change that is under way wants to lead a name here.
    wanted: bool,
}

pub(super) enum Body {
    File {
        content: Content,
        ownership: Ownership,
    },
    /// A file that cannot be read.
    Broken { ownership: Ownership },
    /// On its own, for there are far more files.
    Directory(Box<Directory>),
}

impl Body {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Body::File { .. } | Body::Broken { .. } => Kind::File,
            Body::Directory(_) => Kind::Directory,
        }
    }
}

impl Inode {
    fn new(body: Body, mtime: SystemTime) -> Self {
        Self {
            body,
            mtime,
            n_lookups: 0,
            inherited: false,
            linked: false,
            wanted: false,
        }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.linked
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }
}

impl Inodes {
    /// A root and nothing else.
    pub(super) fn new(mtime: SystemTime) -> Self {
        let root = Inode {
            linked: true,
            ..Inode::new(
                Body::Directory(Box::new(Directory::new(Ino::ROOT, None))),
                mtime,
            )
        };
        let table = ByNumber::from_iter([(Ino::ROOT, root)]);
        Self {
            table,
            next: Ino::FIRST.0,
            facts: None,
        }
    }

    /// Notes facts from here on.
    pub(super) fn record(&mut self) {
        self.facts.get_or_insert_default();
    }

    pub(super) fn take_facts(&mut self) -> Vec<Fact> {
        self.facts.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn next(&self) -> Ino {
        Ino(self.next)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.table.iter().map(|(ino, inode)| (*ino, inode))
    }

    pub(super) fn find(&self, ino: Ino) -> Option<&Inode> {
        self.table.get(&ino)
    }

    /// An inode that a name, or a change under way, leads to.
    pub(super) fn get(&self, ino: Ino) -> &Inode {
        self.table
            .get(&ino)
            .expect("an inode in use is in the table")
    }

    fn get_mut(&mut self, ino: Ino) -> &mut Inode {
        self.table
            .get_mut(&ino)
            .expect("an inode in use is in the table")
    }

    pub(super) fn directory(&self, ino: Ino) -> Option<&Directory> {
        match &self.table.get(&ino)?.body {
            Body::Directory(directory) => Some(directory),
            Body::File { .. } | Body::Broken { .. } => None,
        }
    }

    /// Whether the kernel may hold it. The root it always holds.
    pub(super) fn is_known(&self, ino: Ino) -> bool {
        let inode = self.get(ino);
        ino == Ino::ROOT || inode.n_lookups > 0 || inode.inherited
    }

    /// Makes an inode that no name leads to, under a number never used before. It stays until it
    /// was linked, or given up by [`Inodes::give_up`].
    pub(super) fn add(&mut self, body: Body, mtime: SystemTime) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        self.note(|| match &body {
            Body::File { content, ownership } => {
                let (content, ownership) = (content.clone(), *ownership);
                Fact::File {
                    ino,
                    ownership,
                    mtime,
                    content,
                }
            }
            Body::Broken { ownership } => Fact::Broken {
                ino,
                ownership: *ownership,
                mtime,
            },
            Body::Directory(directory) => Fact::Directory {
                ino,
                parent: directory.parent(),
                ownership: directory.ownership,
                mtime,
            },
        });
        self.table.insert(
            ino,
            Inode {
                wanted: true,
                ..Inode::new(body, mtime)
            },
        );
        ino
    }

    /// Nobody wants to lead a name to it any more.
    pub(super) fn give_up(&mut self, ino: Ino) {
        self.get_mut(ino).wanted = false;
        self.free_if_unused(ino);
    }

    /// The one place where a name comes to mean an inode. Gives back what it meant before, and
    /// whether the kernel holds that.
    pub(super) fn link(&mut self, directory: Ino, name: &Name, ino: Ino) -> Option<(Ino, bool)> {
        let kind = self.get(ino).body.kind();
        let old = self
            .directory(directory)
            .and_then(|entries| entries.get(name.as_str()));
        let inode = self.get_mut(ino);
        (inode.linked, inode.wanted) = (true, false);
        let time = inode.mtime;
        let parent = self.get_mut(directory);
        parent.mtime = parent.mtime.max(time);
        let cookie = match &mut parent.body {
            Body::Directory(entries) => entries.set(name, ino, kind),
            Body::File { .. } | Body::Broken { .. } => {
                unreachable!("names stand in directories")
            }
        };
        self.note(|| Fact::Linked {
            directory,
            name: name.clone(),
            ino,
            cookie,
        });
        old.map(|old| (old, self.lose_name(old)))
    }

    /// The name comes to mean nothing. Gives back what it meant, and whether the kernel holds that.
    pub(super) fn unlink(
        &mut self,
        directory: Ino,
        name: &Name,
        mtime: SystemTime,
    ) -> Option<(Ino, bool)> {
        let old = self.directory(directory)?.get(name.as_str())?;
        let kind = self.get(old).body.kind();
        let parent = self.get_mut(directory);
        parent.mtime = mtime;
        if let Body::Directory(entries) = &mut parent.body {
            entries.remove(name.as_str(), kind);
        }
        self.note(|| Fact::Unlinked {
            directory,
            name: name.clone(),
        });
        self.note(|| Fact::Time {
            ino: directory,
            mtime,
        });
        Some((old, self.lose_name(old)))
    }

    pub(super) fn set_mtime(&mut self, ino: Ino, mtime: SystemTime) {
        self.get_mut(ino).mtime = mtime;
        self.note(|| Fact::Time { ino, mtime });
    }

    /// Gives a directory this ownership. False where it has it already, or is a file.
    pub(super) fn own(&mut self, ino: Ino, ownership: Option<Ownership>) -> bool {
        match &mut self.get_mut(ino).body {
            Body::Directory(directory) if directory.ownership != ownership => {
                directory.ownership = ownership;
            }
            Body::Directory(_) | Body::File { .. } | Body::Broken { .. } => return false,
        }
        self.note(|| Fact::Owned { ino, ownership });
        true
    }

    /// The kernel holds one lookup more.
    pub(super) fn look_up(&mut self, ino: Ino) {
        self.get_mut(ino).n_lookups += 1;
    }

    /// The kernel gives `n` lookups back.
    pub(super) fn forget(&mut self, ino: Ino, n: u64) {
        if let Some(inode) = self.table.get_mut(&ino) {
            inode.n_lookups = inode.n_lookups.saturating_sub(n);
            self.free_if_unused(ino);
        }
    }

    /// The kernel holds nothing that another process gave it.
    pub(super) fn disinherit(&mut self, ino: Ino) {
        if let Some(inode) = self.table.get_mut(&ino) {
            inode.inherited = false;
            self.free_if_unused(ino);
        }
    }

    /// Makes a recorded fact true again. False if it does not fit.
    pub(super) fn restore(&mut self, fact: Fact) -> bool {
        let new = |body, mtime| Inode {
            inherited: true,
            ..Inode::new(body, mtime)
        };
        match fact {
            Fact::File {
                ino,
                ownership,
                mtime,
                content,
            } => {
                self.next = self.next.max(ino.0 + 1);
                self.table
                    .insert(ino, new(Body::File { content, ownership }, mtime));
            }
            Fact::Broken {
                ino,
                ownership,
                mtime,
            } => {
                self.next = self.next.max(ino.0 + 1);
                self.table
                    .insert(ino, new(Body::Broken { ownership }, mtime));
            }
            Fact::Directory {
                ino,
                parent,
                ownership,
                mtime,
            } => {
                self.next = self.next.max(ino.0 + 1);
                let directory = Directory::new(parent, ownership);
                let inode = new(Body::Directory(Box::new(directory)), mtime);
                self.table.insert(ino, inode);
            }
            Fact::Owned { ino, ownership } => {
                let Some(Body::Directory(directory)) =
                    self.table.get_mut(&ino).map(|inode| &mut inode.body)
                else {
                    return false;
                };
                directory.ownership = ownership;
            }
            Fact::Linked {
                directory,
                name,
                ino,
                cookie,
            } => {
                let Some(inode) = self.table.get_mut(&ino) else {
                    return false;
                };
                inode.linked = true;
                let (kind, mtime) = (inode.body.kind(), inode.mtime);
                let Some(parent) = self.table.get_mut(&directory) else {
                    return false;
                };
                let Body::Directory(entries) = &mut parent.body else {
                    return false;
                };
                let old = entries.restore(&name, ino, kind, cookie);
                parent.mtime = parent.mtime.max(mtime);
                if let Some(old) = old.and_then(|old| self.table.get_mut(&old)) {
                    old.linked = false;
                }
            }
            Fact::Unlinked { directory, name } => {
                let Some(Body::Directory(entries)) =
                    self.table.get_mut(&directory).map(|inode| &mut inode.body)
                else {
                    return false;
                };
                let Some(old) = entries.get(name.as_str()) else {
                    return false;
                };
                let Some(kind) = self.table.get(&old).map(|inode| inode.body.kind()) else {
                    return false;
                };
                if let Some(Body::Directory(entries)) =
                    self.table.get_mut(&directory).map(|inode| &mut inode.body)
                {
                    entries.remove(name.as_str(), kind);
                }
                if let Some(old) = self.table.get_mut(&old) {
                    old.linked = false;
                }
            }
            Fact::Time { ino, mtime } => match self.table.get_mut(&ino) {
                Some(inode) => inode.mtime = mtime,
                None => return false,
            },
            Fact::Freed { ino } => {
                self.next = self.next.max(ino.0 + 1);
                self.table.remove(&ino);
            }
            Fact::Floor { next, latest: _ } => self.next = self.next.max(next.0),
        }
        true
    }

    /// No name leads to the inode any more. Says whether the kernel holds it.
    fn lose_name(&mut self, ino: Ino) -> bool {
        self.get_mut(ino).linked = false;
        let known = self.is_known(ino);
        self.free_if_unused(ino);
        known
    }

    fn free_if_unused(&mut self, ino: Ino) {
        let inode = self.get(ino);
        if inode.linked || inode.wanted || inode.inherited || inode.n_lookups > 0 {
            return;
        }
        let inode = self.table.remove(&ino).expect("it was just there");
        self.note(|| Fact::Freed { ino });
        // Only a directory that nobody ever saw, staged in vain, has something in it.
        if let Body::Directory(directory) = inode.body {
            for (_, _, entry) in directory.entries() {
                self.lose_name(entry);
            }
        }
    }

    fn note(&mut self, fact: impl FnOnce() -> Fact) {
        if let Some(facts) = &mut self.facts {
            facts.push(fact());
        }
    }
}
