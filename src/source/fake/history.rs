//! Every state the fake service has been in: znodes by path, each with all that it ever was.
//!
//! Keeping the past is what lets a session lag behind and a backup be restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::path::ZnodePath;
use crate::source::{Error, Happened, Stat, Value};

/// When the service was born, in milliseconds since the epoch. Its clock ticks once in each
/// transaction, so that runs with one seed are equal.
const BIRTH: i64 = 1_700_000_000_000;

/// All transactions since the last [`History::wipe`], numbered from 1.
#[derive(Debug)]
pub(super) struct History {
    last_zxid: i64,
    /// Ticks in each transaction and is never set back.
    clock: i64,
    /// For each path what it became and when, in the order of zxids; none where it was deleted.
    /// Never an empty list.
    znodes: BTreeMap<ZnodePath, Vec<(i64, Option<Znode>)>>,
    /// What each transaction touched, for the watches: the znode of zxid n is at n - 1.
    touched: Vec<ZnodePath>,
}

/// One state of one znode.
#[derive(Debug, Clone)]
pub(super) struct Znode {
    pub(super) value: Value,
    /// Whether its ACL lets everybody read it.
    pub(super) readable: bool,
    /// Whether its ACL lets everybody set it.
    pub(super) writable: bool,
}

impl History {
    pub(super) fn new() -> Self {
        let root = Znode::new(Arc::default(), 0, BIRTH);
        Self {
            last_zxid: 0,
            clock: BIRTH,
            znodes: [(ZnodePath::root(), vec![(0, Some(root))])].into(),
            touched: Vec::new(),
        }
    }

    /// The newest transaction; 0 before the first.
    pub(super) fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    /// What was at `path` once `zxid` was applied.
    pub(super) fn at(&self, path: &ZnodePath, zxid: i64) -> Option<&Znode> {
        let states = self.znodes.get(path)?;
        let after = states.partition_point(|(since, _)| *since <= zxid);
        states[..after].last()?.1.as_ref()
    }

    /// What is at `path` now.
    pub(super) fn now(&self, path: &ZnodePath) -> Option<&Znode> {
        self.at(path, self.last_zxid)
    }

    /// The znode that transaction `zxid` created, set or deleted, and whether everybody may read
    /// it (or might, until then); none for a change of an ACL.
    pub(super) fn touched_by(&self, zxid: i64) -> Option<(&ZnodePath, Happened, bool)> {
        let index = usize::try_from(zxid - 1).ok()?;
        let path = self.touched.get(index)?;
        let before = self.at(path, zxid - 1);
        let after = self.at(path, zxid);
        let what = match (before, after) {
            (None, Some(_)) => Happened::Created,
            (Some(_), None) => Happened::Deleted,
            (Some(before), Some(after)) if before.value.stat.mzxid != after.value.stat.mzxid => {
                Happened::Changed
            }
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let readable = after.or(before).is_some_and(|znode| znode.readable);
        Some((path, what, readable))
    }

    /// The names of the children of `path` once `zxid` was applied.
    pub(super) fn children(&self, path: &ZnodePath, zxid: i64) -> Vec<String> {
        let prefix = match path.as_str() {
            "/" => "/".to_string(),
            other => format!("{other}/"),
        };
        let name = |child: &ZnodePath| {
            let name = child.as_str().strip_prefix(&prefix)?;
            let is_child = !name.is_empty() && !name.contains('/');
            (is_child && self.at(child, zxid).is_some()).then(|| name.to_owned())
        };
        // A path sorts behind its parent.
        let behind = self.znodes.range(path.clone()..).map(|(child, _)| child);
        behind
            .take_while(|child| *child == path || child.as_str().starts_with(path.as_str()))
            .filter_map(name)
            .collect()
    }

    /// Makes a znode; its parent must exist.
    pub(super) fn create(
        &mut self,
        path: &ZnodePath,
        content: Arc<[u8]>,
        readable: bool,
    ) -> Result<Stat, Error> {
        let Some(parent) = path.parent() else {
            return Err(Error::Other("the root exists".into()));
        };
        if self.now(path).is_some() {
            return Err(Error::Other(format!("{path} exists")));
        }
        let mut above = self.now(&parent).cloned().ok_or(Error::NoNode)?;
        let zxid = self.next_zxid(path);
        above.value.stat.pzxid = zxid;
        above.value.stat.num_children += 1;
        let znode = Znode {
            readable,
            ..Znode::new(content, zxid, self.clock)
        };
        let stat = znode.value.stat;
        self.put(&parent, zxid, Some(above));
        self.put(path, zxid, Some(znode));
        Ok(stat)
    }

    /// Sets the content, of `version` only if one is given.
    pub(super) fn set(
        &mut self,
        path: &ZnodePath,
        content: Arc<[u8]>,
        version: Option<i32>,
    ) -> Result<Stat, Error> {
        let mut znode = self.now(path).cloned().ok_or(Error::NoNode)?;
        let stat = &mut znode.value.stat;
        if version.is_some_and(|version| version != stat.version) {
            return Err(Error::BadVersion);
        }
        stat.version = stat.version.wrapping_add(1);
        stat.data_length = length(&content);
        let zxid = self.next_zxid(path);
        let stat = &mut znode.value.stat;
        stat.mzxid = zxid;
        stat.mtime = self.clock;
        let stat = *stat;
        znode.value.content = content;
        self.put(path, zxid, Some(znode));
        Ok(stat)
    }

    /// Takes a znode without children away.
    pub(super) fn delete(&mut self, path: &ZnodePath) -> Result<(), Error> {
        let znode = self.now(path).ok_or(Error::NoNode)?;
        if znode.value.stat.num_children > 0 {
            return Err(Error::Other(format!("{path} has children")));
        }
        let Some(parent) = path.parent() else {
            return Err(Error::Other("the root stays".into()));
        };
        let mut above = self.now(&parent).cloned().ok_or(Error::NoNode)?;
        let zxid = self.next_zxid(path);
        above.value.stat.pzxid = zxid;
        above.value.stat.num_children -= 1;
        self.put(&parent, zxid, Some(above));
        self.put(path, zxid, None);
        Ok(())
    }

    /// Changes the ACL: a transaction that moves neither mzxid nor version and fires no watch.
    pub(super) fn change_acl(
        &mut self,
        path: &ZnodePath,
        change: impl FnOnce(&mut Znode),
    ) -> Result<(), Error> {
        let mut znode = self.now(path).cloned().ok_or(Error::NoNode)?;
        change(&mut znode);
        let zxid = self.next_zxid(path);
        self.put(path, zxid, Some(znode));
        Ok(())
    }

    /// What exists now below `path`, deepest last.
    pub(super) fn below(&self, path: &ZnodePath) -> Vec<ZnodePath> {
        let prefix = match path.as_str() {
            "/" => "/".to_string(),
            other => format!("{other}/"),
        };
        self.znodes
            .keys()
            .filter(|below| below.as_str().starts_with(&prefix) && *below != path)
            .filter(|below| self.now(below).is_some())
            .cloned()
            .collect()
    }

    /// Forgets every transaction after `zxid`: the next one gets its successor again.
    pub(super) fn rewind(&mut self, zxid: i64) {
        let zxid = zxid.clamp(0, self.last_zxid);
        self.last_zxid = zxid;
        self.touched.truncate(usize::try_from(zxid).unwrap_or(0));
        self.znodes.retain(|_, states| {
            states.retain(|(since, _)| *since <= zxid);
            !states.is_empty()
        });
    }

    /// An empty data directory.
    pub(super) fn wipe(&mut self) {
        *self = Self {
            clock: self.clock,
            ..Self::new()
        };
    }

    fn next_zxid(&mut self, path: &ZnodePath) -> i64 {
        self.last_zxid += 1;
        self.clock += 1;
        self.touched.push(path.clone());
        self.last_zxid
    }

    fn put(&mut self, path: &ZnodePath, zxid: i64, state: Option<Znode>) {
        self.znodes
            .entry(path.clone())
            .or_default()
            .push((zxid, state));
    }
}

impl Znode {
    fn new(content: Arc<[u8]>, zxid: i64, time: i64) -> Self {
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            data_length: length(&content),
            ..Stat::default()
        };
        Self {
            value: Value { content, stat },
            readable: true,
            writable: true,
        }
    }
}

fn length(content: &[u8]) -> i32 {
    i32::try_from(content.len()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn stat(history: &History, text: &str) -> Stat {
        history.now(&path(text)).unwrap().value.stat
    }

    #[test]
    fn a_transaction_stamps_the_znode_and_its_parent() {
        let mut history = History::new();
        history.create(&path("/a"), b"1"[..].into(), true).unwrap();
        history
            .create(&path("/a/b"), b"2"[..].into(), true)
            .unwrap();
        history
            .set(&path("/a"), b"333"[..].into(), Some(0))
            .unwrap();
        let a = stat(&history, "/a");
        assert_eq!((a.czxid, a.mzxid, a.pzxid), (1, 3, 2));
        assert_eq!((a.version, a.data_length, a.num_children), (1, 3, 1));
        assert!(history.delete(&path("/a")).is_err(), "it has a child");
        history.delete(&path("/a/b")).unwrap();
        let a = stat(&history, "/a");
        assert_eq!((a.mzxid, a.pzxid, a.num_children), (3, 4, 0));
        let touched = (&path("/a/b"), Happened::Deleted, true);
        assert_eq!(history.touched_by(4), Some(touched));
    }

    #[test]
    fn what_fails_takes_no_zxid() {
        let mut history = History::new();
        history.create(&path("/a"), Arc::default(), true).unwrap();
        assert_eq!(
            history.set(&path("/a"), Arc::default(), Some(7)),
            Err(Error::BadVersion)
        );
        assert_eq!(
            history.create(&path("/b/c"), Arc::default(), true),
            Err(Error::NoNode)
        );
        assert!(history.create(&path("/a"), Arc::default(), true).is_err());
        assert_eq!(history.last_zxid(), 1);
    }

    #[test]
    fn the_past_can_be_seen_and_restored() {
        let mut history = History::new();
        history
            .create(&path("/a"), b"old"[..].into(), true)
            .unwrap();
        history.set(&path("/a"), b"new"[..].into(), None).unwrap();
        history.create(&path("/b"), Arc::default(), true).unwrap();
        let old = history.at(&path("/a"), 1).unwrap();
        assert_eq!(&*old.value.content, b"old");
        history.rewind(1);
        assert_eq!(stat(&history, "/a").version, 0);
        assert!(history.now(&path("/b")).is_none());
        let again = history.set(&path("/a"), b"other"[..].into(), None).unwrap();
        assert_eq!(again.mzxid, 2, "the zxid is used again");
    }

    #[test]
    fn a_changed_acl_touches_nothing() {
        let mut history = History::new();
        history.create(&path("/a"), Arc::default(), true).unwrap();
        let before = stat(&history, "/a");
        history
            .change_acl(&path("/a"), |znode| znode.readable = false)
            .unwrap();
        assert_eq!(stat(&history, "/a"), before);
        assert_eq!(history.touched_by(2), None);
        assert!(history.at(&path("/a"), 1).unwrap().readable);
    }
}
