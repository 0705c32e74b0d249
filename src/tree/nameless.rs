//! Files that no name of the tree leads to: snapshots, which whoever looks one up has to himself.

use std::time::SystemTime;

use super::inodes::Body;
use super::{Attr, Ownership, Tree};
use crate::content::Content;

impl Tree {
    /// Makes a file without a name, on which the kernel holds `n_lookups` from here on; it is no
    /// more when the kernel has given them back. It is on record as any other, so a successor
    /// serves it on.
    pub fn add_nameless(
        &mut self,
        content: Content,
        ownership: Ownership,
        n_lookups: u64,
        now: SystemTime,
    ) -> Option<Attr> {
        let body = Body::File { content, ownership };
        let ino = self.inodes.add(body, self.clock.version(now));
        for _ in 0..n_lookups {
            self.inodes.look_up(ino);
        }
        self.inodes.give_up(ino);
        self.attr(ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Ino;

    const OWNERSHIP: Ownership = Ownership {
        uid: 0,
        gid: 0,
        mode: 0o444,
    };

    fn add(tree: &mut Tree, n_lookups: u64) -> Option<Attr> {
        let content = Content::from(b"snapshot".as_slice());
        tree.add_nameless(content, OWNERSHIP, n_lookups, SystemTime::now())
    }

    #[test]
    fn it_is_there_until_it_is_forgotten() {
        let mut tree = Tree::new(OWNERSHIP, SystemTime::now());
        let first = add(&mut tree, 2).unwrap();
        let second = add(&mut tree, 1).unwrap();
        assert_ne!(first.ino, second.ino);
        assert!(first.mtime < second.mtime);
        assert_eq!(first.size, 8);
        assert_eq!(*tree.read(first.ino).unwrap(), *b"snapshot");
        tree.forget(first.ino, 1);
        assert!(tree.attr(first.ino).is_some());
        tree.forget(first.ino, 1);
        assert_eq!(tree.attr(first.ino), None);
        assert_eq!(tree.n_inodes(), 2);
        assert!(tree.paths().is_empty());
        // Wanted by nobody, it was never there.
        assert_eq!(add(&mut tree, 0), None);
    }

    #[test]
    fn a_successor_goes_on_with_it_and_takes_no_number_twice() {
        let mut tree = Tree::new(OWNERSHIP, SystemTime::now());
        tree.record();
        let (held, gone) = (add(&mut tree, 1).unwrap(), add(&mut tree, 1).unwrap());
        tree.forget(gone.ino, 1);
        let mut successor = Tree::restore(OWNERSHIP, tree.take_facts()).unwrap();
        assert_eq!(*successor.read(held.ino).unwrap(), *b"snapshot");
        assert_eq!(successor.inherited(), [held.ino]);
        let next = add(&mut successor, 1).unwrap();
        assert_eq!(next.ino, Ino(gone.ino.0 + 1));
        successor.disinherit(held.ino);
        assert_eq!(successor.attr(held.ino), None);
    }
}
