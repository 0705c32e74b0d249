//! The entries of one directory, by name and in the order of listing.
//!
//! Each name keeps its place in the listing (a cookie) while it exists, through every replacement
//! of what it leads to; so a listing in several pieces is right whatever happens in between, and
//! needs no open directory handle.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::path::Name;
use crate::tree::{Ino, Kind, Ownership, Room};

/// The cookie after `.`.
const DOT: u64 = 1;
/// The cookie after `..`; those of the entries are higher.
pub(super) const DOT_DOT: u64 = 2;

pub(super) struct Directory {
    parent: Ino,
    entries: HashMap<Name, Entry>,
    order: BTreeMap<u64, Name>,
    /// The last cookie given; they are not used again.
    last: u64,
    /// How many of the entries are directories.
    pub(super) n_directories: u32,
    /// Who owns it, if not whoever owns all directories.
    pub(super) ownership: Option<Ownership>,
}

struct Entry {
    cookie: u64,
    ino: Ino,
}

impl Directory {
    pub(super) fn new(parent: Ino, ownership: Option<Ownership>) -> Self {
        Self {
            parent,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            last: DOT_DOT,
            n_directories: 0,
            ownership,
        }
    }

    /// Who is told to own it, where directories have this ownership unless they have their own.
    ///
    /// Names are changed by system calls of the user who mounts (the publisher's), which the kernel
    /// refuses where he may not write. For root nothing is refused, so root's directories have no
    /// write bit, and those with an ownership of their own are shown as they are. Where the
    /// mounting user needs his write bit, all directories are his, with all of his bits; what group
    /// and others may is as configured.
    pub(super) fn shown(&self, directories: Ownership) -> Ownership {
        match self.ownership {
            None => directories,
            Some(ownership) if directories.mode & 0o200 == 0 => ownership,
            Some(Ownership { uid: _, gid, mode }) => Ownership {
                uid: directories.uid,
                gid,
                mode: mode | 0o700,
            },
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Ino> {
        self.entries.get(name).map(|entry| entry.ino)
    }

    /// Names with cookie and inode, in the order of the listing.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Name, u64, Ino)> {
        self.order
            .iter()
            .map(|(cookie, name)| (name, *cookie, self.entries[name].ino))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn parent(&self) -> Ino {
        self.parent
    }

    /// Lets the name lead to `ino`; what it led to before was of the same kind. Gives its cookie.
    pub(super) fn set(&mut self, name: &Name, ino: Ino, kind: Kind) -> u64 {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.ino = ino;
            return entry.cookie;
        }
        self.restore(name, ino, kind, self.last + 1);
        self.last
    }

    /// [`Directory::set`] with the cookie that the name had. Gives what it led to before.
    pub(super) fn restore(
        &mut self,
        name: &Name,
        ino: Ino,
        kind: Kind,
        cookie: u64,
    ) -> Option<Ino> {
        self.last = self.last.max(cookie);
        let old = self.entries.insert(name.clone(), Entry { cookie, ino });
        match &old {
            Some(old) if old.cookie == cookie => {}
            Some(Entry { cookie: old, .. }) => {
                self.order.remove(old);
                self.order.insert(cookie, name.clone());
            }
            None => {
                self.order.insert(cookie, name.clone());
            }
        }
        if old.is_none() {
            self.n_directories += u32::from(kind == Kind::Directory);
        }
        old.map(|old| old.ino)
    }

    pub(super) fn remove(&mut self, name: &str, kind: Kind) {
        if let Some(entry) = self.entries.remove(name) {
            self.order.remove(&entry.cookie);
            self.n_directories -= u32::from(kind == Kind::Directory);
        }
    }

    /// Hands out cookie, name and inode of what comes after `cookie`, until `take` is full.
    pub(super) fn list(
        &self,
        this: Ino,
        cookie: u64,
        mut take: impl FnMut(u64, &str, Ino) -> Room,
    ) {
        let dots = [(DOT, ".", this), (DOT_DOT, "..", self.parent)];
        for (at, name, ino) in dots.into_iter().filter(|(at, ..)| *at > cookie) {
            if take(at, name, ino) == Room::Full {
                return;
            }
        }
        for (at, name) in self
            .order
            .range((Bound::Excluded(cookie), Bound::Unbounded))
        {
            if take(*at, name.as_str(), self.entries[name].ino) == Room::Full {
                return;
            }
        }
    }
}
