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
//! |   | [`content`] | the bytes of a file, wherever they lie |
//! | 1 | [`tree`] | the pure core: which inode a name means, and what is in it |
//! |   | [`source`] | what we need of ZooKeeper, as a trait of one connection |
//! |   | [`subtree`] | which znodes below a root are wanted |
//! |   | [`config`] | what the user wrote, and what it means |
//! |   | [`wire`] | how our own processes speak |
//! | 2 | [`shown`] | which znode an inode shows, for extended attributes |
//! | 3 | [`record`] | what a successor must know of a mount, in memory that outlives the server |
//! |   | [`processes`] | the processes of a mount, and what they say to each other |
//! | 4 | [`store`] | the one lock over the tree and its record: one writer, many readers |
//! |   | [`mirror`] | source -> stream of updates: sessions, re-sync, proof of absence |
//! |   | [`cache`] | the last known good content, on disk, for a start while ZooKeeper is away |
//! |   | [`writer`] | read, show the difference, set if the version still holds |
//! |   | [`service`] | the ZooKeeper service that a configuration names |
//! |   | [`hooks`] | what differs of what files show -> which command runs when |
//! |   | [`status`] | counters and states -> JSON, Prometheus text, table |
//! | 5 | [`fuse`] | the kernel's questions, answered from the store |
//! |   | [`publish`] | changes, carried to the kernel |
//! |   | [`links`] | paths outside of the mount that lead into it |
//! |   | [`spilling`] | what memory holds of content that may lie on disk, bounded |
//! |   | [`mountpoint`] | the place: cleared, mounted, unmounted |
//! | 6 | [`keeper`] | the process that makes the mount and keeps the others alive |
//! |   | [`server`] | the process that mirrors and answers |
//! |   | [`publisher`] | the process that renames on the private mount |
//! |   | [`runner`] | the process that runs commands |
//! |   | [`logging`] | where the log goes |
//!
//! The binaries `livedata-fuse` and `livedata-writer` are command lines and exit codes. What nothing
//! safer wraps is in `sys`, the one place with unsafe code; what the server and the publisher keep of
//! root's rights is in `privileges`; what both the record and the cache verify
//! their bytes with is in `checksum`, tables by inode numbers are in `numbers`, and contents on disk are
//! in `spill`, below `content`.
//!
//! # The data
//!
//! A znode changes -> its watch fires -> [`mirror`] reads it again -> an [`Update`] -> the server
//! knows which files show it -> a [`Change`] -> [`publish`] stages it in the tree, and has the
//! publisher rename the staged file onto its name -> the kernel asks [`fuse`] to rename, which fills
//! the page cache, and the tree changes, on record -> inotify tells whoever watches -> the [`cache`] has it on disk
//! within a second -> the server tells the runner what the file shows, and [`hooks`] finds out
//! whether that is news to a command. A reader finds the page cache, or asks [`fuse`], which hands out a slice of the
//! record: content is in memory once.
//!
//! How it goes is gathered by the server when somebody asks, and printed by [`status`]: for the
//! keeper, which adds what it knows and answers `livedata-fuse status`, and for the status directory,
//! each lookup in which makes a snapshot: a file of the tree without a name.
//!
//! [`Update`]: mirror::Update
//! [`Change`]: tree::Change
//!
//! # The processes
//!
//! | process | `/dev/fuse` | the mount | dies with | when it dies |
//! |---|---|---|---|---|
//! | keeper | holds it | holds the private root; no system call on either | - | all end; the next `mount` clears the place |
//! | server | serves it | never touches it | the keeper | a successor goes on from the record; if nobody can, the mount is made anew |
//! | publisher | has none | renames on the private mount | the keeper | another one does the rest |
//! | [`runner`], with hooks only | has none | never touches it; its commands may | the keeper | another one runs again what had not ended |
//! | [`links`] | has none | never touches it | itself, soon: it makes or removes links outside | the next one does it again |
//!
//! # Invariants
//!
//! - **A version is an inode.** Content never changes under an inode number, and no number is used
//!   twice. So a held descriptor, a mapping or a sendfile sees one version, entries and attributes
//!   can be cached for ever, and warm reads ask nothing.
//! - **What is seen is on record.** Facts of the tree are recorded under its lock, before anything
//!   is answered; what is known of a znode is recorded after its files are published.
//! - **Who holds `/dev/fuse` never waits for the mount.** A thread that is killed in a system call
//!   on the mount stays, keeps the descriptor open, and the mount hangs. So the publisher is a
//!   process without it.
//! - **Nothing is told to the kernel under a lock that its questions need.** The safe notices are
//!   those of attributes alone, and a STORE of an inode that is still staged.
//! - **Nothing on a FUSE request path waits for the network.** Reads come from memory; or, for what
//!   memory has no room for, from the disk, by threads of their own.
//! - **Never back, never away by mistake.** Content is replaced only by what is later in (czxid,
//!   mzxid) order, and a file goes only when the server proves that its znode was deleted.
//! - **The mtime is the truth about staleness.** Only content known to be current is confirmed.
//! - **What is too old says so.** A file that is not known to be current for longer than the
//!   configuration allows is broken: another version, that cannot be read.
//! - **What a file shows is told to hooks until it is known to have been handled**: again after each
//!   death, of whichever process. So a command runs once for each content while all goes well, and at
//!   least once in any case.
//! - **A panic anywhere ends the server**, for a successor to go on; no thread is missed in silence.
//! - **One session is one connection**, and whatever goes wrong on it, the last known content is
//!   served.
//!
//! # Deliberately absent
//!
//! - Handles of open files: there is nothing to remember about one, so open is never asked.
//! - Expiry by time: what changes is announced. (The names in the status directory expire at once.)
//! - A clock in the core: it is told the time.
//! - INIT at a takeover: the kernel has had one.
//! - `zookeeper_client` outside of [`source::zookeeper`].

pub mod cache;
mod checksum;
pub mod config;
pub mod content;
pub mod fuse;
pub mod hooks;
pub mod keeper;
pub mod links;
pub mod logging;
pub mod mirror;
pub mod mountpoint;
mod numbers;
pub mod path;
mod privileges;
pub mod processes;
pub mod publish;
pub mod publisher;
pub mod record;
pub mod runner;
pub mod server;
pub mod service;
pub mod shown;
pub mod source;
mod spill;
pub mod spilling;
pub mod status;
pub mod store;
pub mod subtree;
mod sys;
pub mod tree;
pub mod wire;
pub mod writer;
