//! Which znode an inode shows, and whether that is known to be current: what extended attributes
//! tell. Kept only where they are wanted.
//!
//! A version of a file is an inode, so what is kept by inode belongs to its content for as long as
//! anybody has it open, whatever the znode is set to meanwhile. Only a rewrite of the same bytes
//! changes it: that is another version of the znode, and the same inode. How a znode stands is kept
//! by its path, for it changes without any file being published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::numbers::ByNumber;
use crate::path::ZnodePath;
use crate::source::Stat;
use crate::tree::Ino;

/// What an inode shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The znode.
    pub path: ZnodePath,
    /// What ZooKeeper kept beside the bytes of the inode; none where it shows none, for they were
    /// too old.
    pub stat: Option<Stat>,
}

/// What is known of a znode that is not known to be current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Since when.
    pub since: SystemTime,
    /// Why, where it is not for ZooKeeper being away.
    pub why: Option<Arc<str>>,
}

/// The inodes that show znodes, and how those stand.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    inodes: ByNumber<Ino, Origin>,
    znodes: HashMap<ZnodePath, Heard>,
}

/// A znode that was heard of in this process.
#[derive(Debug, Default)]
struct Heard {
    stale: Option<Stale>,
    /// No inode showed it when it was last looked; it may be about to be published.
    idle: bool,
}

impl Shown {
    /// The inode shows this from now on.
    pub(crate) fn set(&mut self, ino: Ino, origin: Origin) {
        self.inodes.insert(ino, origin);
    }

    /// What the inode shows.
    pub(crate) fn get(&self, ino: Ino) -> Option<&Origin> {
        self.inodes.get(&ino)
    }

    /// The inode is no more.
    pub(crate) fn forget(&mut self, ino: Ino) {
        self.inodes.remove(&ino);
    }

    /// All inodes, and what they show.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ino, &Origin)> {
        self.inodes.iter().map(|(ino, origin)| (*ino, origin))
    }

    /// Keeps what `is_there` has.
    pub(crate) fn retain(&mut self, is_there: impl Fn(Ino) -> bool) {
        self.inodes.retain(|ino, _| is_there(*ino));
    }

    /// The znode was told, or confirmed.
    pub(crate) fn is_current(&mut self, path: &ZnodePath) {
        self.heard(path).stale = None;
    }

    /// Nobody knows whether the znode is current, for this reason; since `now`, unless it was so
    /// before.
    pub(crate) fn is_stale(&mut self, path: &ZnodePath, why: Arc<str>, now: SystemTime) {
        let stale = &mut self.heard(path).stale;
        let since = stale.as_ref().map_or(now, |stale| stale.since);
        let why = Some(why);
        *stale = Some(Stale { since, why });
    }

    /// Nobody knows of any znode whether it is current.
    pub(crate) fn are_stale(&mut self, now: SystemTime) {
        for znode in self.znodes.values_mut() {
            znode.stale.get_or_insert(Stale {
                since: now,
                why: None,
            });
        }
    }

    /// How the znode stands; what was not heard of comes from before this process, and is as old as
    /// what shows it: since `as_of`.
    pub(crate) fn stale(&self, path: &ZnodePath, as_of: SystemTime) -> Option<Stale> {
        match self.znodes.get(path) {
            Some(heard) => heard.stale.clone(),
            None => Some(Stale {
                since: as_of,
                why: None,
            }),
        }
    }

    /// Forgets znodes that no inode has shown since the last time this was called.
    pub(crate) fn sweep(&mut self) {
        let shown: std::collections::HashSet<&ZnodePath> =
            self.inodes.values().map(|origin| &origin.path).collect();
        self.znodes.retain(|path, heard| {
            let idle = !shown.contains(path);
            let was_idle = std::mem::replace(&mut heard.idle, idle);
            !(idle && was_idle)
        });
    }

    fn heard(&mut self, path: &ZnodePath) -> &mut Heard {
        self.znodes.entry(path.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn how_a_znode_stands() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let path = |text| ZnodePath::parse(text).unwrap();
        let (a, b) = (path("/a"), path("/b"));
        let mut shown = Shown::default();
        let since = |shown: &Shown, path| shown.stale(path, at(1)).map(|stale| stale.since);
        assert_eq!(since(&shown, &a), Some(at(1)), "it is from before");
        shown.is_current(&a);
        shown.is_stale(&b, "denied".into(), at(5));
        shown.are_stale(at(9));
        assert_eq!(since(&shown, &a), Some(at(9)));
        assert_eq!(since(&shown, &b), Some(at(5)));
        shown.is_stale(&a, "denied".into(), at(11));
        assert_eq!(since(&shown, &a), Some(at(9)), "it is no younger by that");
        shown.is_current(&a);
        assert_eq!(since(&shown, &a), None);
    }

    #[test]
    fn znodes_that_are_shown_no_more_are_forgotten_in_time() {
        let path = ZnodePath::parse("/a").unwrap();
        let mut shown = Shown::default();
        shown.is_current(&path);
        shown.sweep();
        assert_eq!(shown.znodes.len(), 1, "it may be about to be published");
        let origin = Origin { path, stat: None };
        shown.set(Ino(16), origin);
        shown.sweep();
        shown.sweep();
        assert_eq!(shown.znodes.len(), 1);
        shown.forget(Ino(16));
        shown.sweep();
        shown.sweep();
        assert!(shown.znodes.is_empty());
    }
}
