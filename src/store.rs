//! The one lock over the [`Tree`]: one [`Writer`], many [`Reader`]s.
//!
//! No lock is held across anything but the tree itself: what a reader gets is its own.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::tree::{Attr, Change, Effect, Ino, Listed, Ownership, Room, Tree};

/// Changes the tree. There is one, so changes have one order.
pub struct Writer(Arc<RwLock<Tree>>);

/// Answers the kernel from the tree.
#[derive(Clone)]
pub struct Reader(Arc<RwLock<Tree>>);

/// An empty tree, whose directories have this ownership.
pub fn new(directories: Ownership, now: SystemTime) -> (Writer, Reader) {
    let tree = Arc::new(RwLock::new(Tree::new(directories, now)));
    (Writer(Arc::clone(&tree)), Reader(tree))
}

impl Writer {
    /// See [`Tree::apply`]. When it returns, every later lookup finds the change; the effects tell
    /// what the kernel may still hold of the time before.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Vec<Effect> {
        self.0.write().apply(change, now)
    }
}

impl Reader {
    /// See [`Tree::lookup`].
    pub fn lookup(&self, directory: Ino, name: &str) -> Option<Attr> {
        self.0.write().lookup(directory, name)
    }

    /// See [`Tree::forget`].
    pub fn forget(&self, ino: Ino, n: u64) {
        self.0.write().forget(ino, n);
    }

    /// See [`Tree::attr`].
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        self.0.read().attr(ino)
    }

    /// See [`Tree::read`].
    pub fn read(&self, ino: Ino) -> Option<Arc<[u8]>> {
        self.0.read().read(ino)
    }

    /// See [`Tree::list`].
    pub fn list(&self, ino: Ino, cookie: u64, take: impl FnMut(Listed<'_>) -> Room) -> bool {
        self.0.read().list(ino, cookie, take)
    }

    /// See [`Tree::list_and_look_up`].
    pub fn list_and_look_up(
        &self,
        ino: Ino,
        cookie: u64,
        take: impl FnMut(Listed<'_>) -> Room,
    ) -> bool {
        self.0.write().list_and_look_up(ino, cookie, take)
    }

    /// See [`Tree::n_inodes`].
    pub fn n_inodes(&self) -> usize {
        self.0.read().n_inodes()
    }
}
