//! Live configuration as files: configured ZooKeeper znodes on a read-only FUSE mount, their
//! content pushed by watches.
//!
//! # The map
//!
//! Imports go strictly down.
//!
//! | floor | module | its one idea |
//! |---|---|---|
//! | 0 | [`path`] | paths that are valid by construction |
//! | 1 | [`tree`] | the pure core: which inode a name means, and what is in it |
//! |   | [`source`] | what we need of ZooKeeper, as a trait of one connection |
//! |   | [`config`] | what the user wrote, and what it means |
//! | 2 | [`record`] | what a successor needs to go on, in memory that outlives the process |
//! | 3 | [`store`] | the one lock over the tree and its record: one writer, many readers |
//! |   | [`mirror`] | source -> stream of updates: sessions, re-sync, proof of absence |
//! |   | [`writer`] | read, show the difference, set if the version still holds |
//! |   | [`service`] | the ZooKeeper service that a configuration names |
//! | 4 | [`fuse`] | the kernel's questions, answered from the store |
//! |   | [`publish`] | what changed in the tree, told to the kernel |
//! |   | [`mountpoint`] | the place: cleared, mounted, unmounted |
//! | 5 | [`daemon`] | the wiring of a mount, and its life |
//! |   | [`logging`] | where the log goes |
//!
//! The binaries `livedata-fuse` and `livedata-writer` are command lines and exit codes.
//!
//! # The data
//!
//! A znode changes -> its watch fires -> [`mirror`] reads it again -> an [`Update`] -> the daemon
//! knows which files show it -> a [`Change`] -> the tree makes a new inode (lock, apply, unlock) ->
//! [`Effect`]s -> [`publish`] has the kernel forget what it held. A reader finds the page cache, or
//! asks [`fuse`], which hands out a slice of an `Arc`.
//!
//! [`Update`]: mirror::Update
//! [`Change`]: tree::Change
//! [`Effect`]: tree::Effect
//!
//! # Invariants
//!
//! - **A version is an inode.** Content never changes under an inode number, and no number is used
//!   twice. So a held descriptor, a mapping or a sendfile sees one version, entries and attributes
//!   can be cached for ever, and warm reads ask nothing.
//! - **The tree is changed first, the kernel is told second**, in the same order, and by a thread
//!   that holds no lock. Once a notification returned, every open and stat is new.
//! - **Nothing on a FUSE request path waits for the network.** Reads come from memory.
//! - **Never back, never away by mistake.** Content is replaced only by what is later in (czxid,
//!   mzxid) order, and a file goes only when the server proves that its znode was deleted.
//! - **The mtime is the truth about staleness.** Only content known to be current is confirmed.
//! - **One session is one connection**, and whatever goes wrong on it, the last known content is
//!   served.
//!
//! # Deliberately absent
//!
//! - Handles of open files: there is nothing to remember about one, so open is never asked.
//! - Expiry by time: what changes is announced.
//! - A clock in the core: it is told the time.
//! - `zookeeper_client` outside of [`source::zookeeper`].

pub mod config;
pub mod daemon;
pub mod fuse;
pub mod logging;
pub mod mirror;
pub mod mountpoint;
pub mod path;
pub mod processes;
pub mod publish;
pub mod record;
pub mod service;
pub mod source;
pub mod store;
pub mod tree;
pub mod wire;
pub mod writer;
