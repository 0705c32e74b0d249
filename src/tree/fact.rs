//! What must be known of a tree so that another process can go on with it.

use std::time::SystemTime;

use crate::content::Content;
use crate::path::Name;
use crate::tree::{Ino, Ownership};

/// Something that became true of a tree. In order, they are the tree; see
/// [`Tree::restore`](crate::tree::Tree::restore).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// There is a new file, that no name leads to yet.
    File {
        /// Its number.
        ino: Ino,
        /// Who owns it.
        ownership: Ownership,
        /// Its time of modification.
        mtime: SystemTime,
        /// Its bytes.
        content: Content,
    },
    /// There is a new file that cannot be read, that no name leads to yet.
    Broken {
        /// Its number.
        ino: Ino,
        /// Who owns it.
        ownership: Ownership,
        /// Its time of modification.
        mtime: SystemTime,
    },
    /// There is a new directory, that no name leads to yet.
    Directory {
        /// Its number.
        ino: Ino,
        /// The directory it is for.
        parent: Ino,
        /// Who owns it, if not whoever owns all directories.
        ownership: Option<Ownership>,
        /// Its time of modification.
        mtime: SystemTime,
    },
    /// The directory has this ownership.
    Owned {
        /// The directory.
        ino: Ino,
        /// Who owns it, if not whoever owns all directories.
        ownership: Option<Ownership>,
    },
    /// The name leads to the inode; whatever it led to before lost its name.
    Linked {
        /// Where the name stands.
        directory: Ino,
        /// The name.
        name: Name,
        /// The inode.
        ino: Ino,
        /// The place of the name in the listing.
        cookie: u64,
    },
    /// The name leads nowhere.
    Unlinked {
        /// Where the name stood.
        directory: Ino,
        /// The name.
        name: Name,
    },
    /// The inode has this time of modification.
    Time {
        /// The inode.
        ino: Ino,
        /// The time.
        mtime: SystemTime,
    },
    /// The inode is no more.
    Freed {
        /// Its number, which is not used again.
        ino: Ino,
    },
    /// No new inode has a lower number, and no new version an earlier time.
    Floor {
        /// The number of the next inode, or a lower one.
        next: Ino,
        /// The latest time given.
        latest: SystemTime,
    },
}
