//! The processes of a mount, and what they say to each other.
//!
//! - The **keeper** (`livedata-fuse mount -f` itself) makes the mount and holds `/dev/fuse`, the
//!   private mount, the record with the file it speaks of, and the configuration in use. It starts
//!   the others, starts them again when they die, forwards signals, answers `status`, and unmounts at
//!   the end.
//! - The **server** holds `/dev/fuse` and answers the kernel; it runs the mirror, and keeps the
//!   record, from which its successor goes on. It never touches the mount with a system call.
//! - The **publisher** renames, removes and makes files on the private mount at the server's word.
//!   It holds no `/dev/fuse`.
//! - The **runner**, only where hooks are configured, starts commands at the server's word, and
//!   remembers for what they ran. It holds no `/dev/fuse`, and outlives the server. What it says and
//!   hears is in [`hooks`](crate::hooks).
//! - [`links`](crate::links), now and then and not for long, makes and removes links outside.
//!
//! The rule behind it: a process that holds `/dev/fuse` never makes a system call that the mount
//! must answer, and sends no notification that waits for a lock which a reader may hold. A thread
//! that is killed in such a call stays, keeps `/dev/fuse` open, and the mount hangs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The hidden command that is the server. Its end of the socket to the keeper is its stdin.
pub const SERVER_COMMAND: &str = "serve-mount";

/// The hidden command that is the publisher. Its end of the socket to the server is its stdin.
pub const PUBLISHER_COMMAND: &str = "publish-mount";

/// The hidden command that is the runner. Its end of the socket to the keeper is its stdin.
pub const RUNNER_COMMAND: &str = "run-hooks";

/// The directory in which the publisher alone finds staged files by their numbers; in no listing.
pub const STAGING: &str = ".livedata-staging";

/// The keeper to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToServer {
    /// The first message. With it: `/dev/fuse`; for a successor the record, the last
    /// [`ToKeeper::Spill`] and the last [`ToKeeper::Configuration`], if there were any; and the
    /// publishers, as descriptors of
    /// processes.
    Start(Start),
    /// Go on with the mount: whoever served it before is gone. Only after [`ToKeeper::Loaded`].
    Go,
    /// Publications go through this publisher from now on. With it: the socket to it, and a
    /// descriptor of its process.
    Publisher {
        /// Its process id, by which its requests are known.
        pid: u32,
    },
    /// There is no publisher (any more), so the kernel is notified.
    NoPublisher,
    /// The other end of the socket with this message is the runner.
    Runner,
    /// Make no more changes, for a successor is to be started. Answered by [`ToKeeper::Frozen`].
    Freeze {
        /// The number of the upgrade.
        upgrade: u64,
    },
    /// The upgrade with this number came to nothing: go on.
    Thaw {
        /// The number.
        upgrade: u64,
    },
    /// Read the configuration again.
    Reload,
    /// Answered by [`ToKeeper::Status`].
    Status,
    /// The mount has ended: put in order what outlives it, and end too.
    End,
}

/// What a server must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The configuration file; absolute.
    pub config: PathBuf,
    /// Where it is or will be mounted, without symbolic links.
    pub mountpoint: PathBuf,
    /// The directory that a relative `secrets.path` is taken from.
    #[serde(default)]
    pub started_in: PathBuf,
    /// How long the first load may take, in milliseconds.
    pub wait_ms: u64,
    /// A problem of the configuration ends a mount that is not ready.
    #[serde(default)]
    pub strict: bool,
    /// Log more.
    pub debug: bool,
    /// The process is in the background: once ready it logs to the file of the configuration or to
    /// the system log.
    pub background: bool,
    /// The mount exists, and its record is to be gone on with; answered by [`ToKeeper::Loaded`].
    pub takes_over: bool,
    /// The file of [`ToKeeper::Spill`] comes behind the record.
    #[serde(default)]
    pub has_spill: bool,
    /// The mount takes the place of one that was lost: what is wrong now must not end it, and
    /// nothing is shown before ZooKeeper has answered.
    #[serde(default)]
    pub anew: bool,
    /// How often processes of this mount were started again after a death.
    #[serde(default)]
    pub restarts: Restarts,
    /// What the kernel said in INIT, once it has.
    pub init: Option<Init>,
    /// The process ids of the publishers that have not ended: their last requests may still be
    /// answered.
    pub publishers: Vec<u32>,
}

/// How often processes were started again after a death. For the status alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// The server; the start that tells this counts.
    pub server: u64,
    /// The publisher.
    pub publisher: u64,
}

/// What the kernel offered in INIT, on which a successor must agree without asking again; and what
/// else holds for as long as the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The minor number of the protocol; the major is 7.
    pub minor: u32,
    /// The most it reads ahead, in bytes.
    pub max_readahead: u32,
    /// The capabilities, both words.
    pub flags: u64,
    /// Extended attributes are answered. Otherwise the kernel may have been told that there are none,
    /// and does not ask again.
    #[serde(default)]
    pub xattr: bool,
}

impl Init {
    /// FUSE_HAS_RESEND among the capabilities.
    pub const RESEND: u64 = 1 << 39;

    /// Whether the kernel asks a successor again what a dead server left unanswered (Linux 6.9).
    /// Without that, whoever asked would wait for ever.
    pub fn resends(&self) -> bool {
        self.flags & Self::RESEND != 0
    }
}

/// The server to the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// INIT is answered.
    Init(Init),
    /// The record is in the descriptor with this message from now on.
    Record,
    /// The file that the record speaks of, with contents for which memory has no room, is in the
    /// descriptor with this message from now on.
    Spill,
    /// The configuration in use, with its drop-ins, is in the descriptor with this message. A
    /// successor goes on with it where it finds a file gone or wrong.
    Configuration,
    /// How far the first load has come.
    Loading {
        /// In words.
        so_far: String,
    },
    /// The first load is over: the mount may be shown. Again after each [`ToServer::Reload`], so
    /// that the keeper's log follows the configuration.
    Ready {
        /// What is shown, in words.
        shown: String,
        /// The file to log to in the background, in place of the system log.
        log_file: Option<PathBuf>,
        /// The least to log, as `warn`.
        log_level: String,
    },
    /// The record is loaded, and only [`ToServer::Go`] is waited for.
    Loaded,
    /// No change is made any more, and the record is complete.
    Frozen {
        /// The number that came with [`ToServer::Freeze`]: one that comes late says nothing of
        /// another upgrade.
        upgrade: u64,
    },
    /// The mount comes to nothing, for this reason, on one line.
    Failed {
        /// The line.
        reason: String,
    },
    /// Hooks are configured: a runner is wanted.
    Hooks,
    /// The runner and this server do not understand each other any more: they are to meet anew.
    Estranged,
    /// This publisher does not answer, though it has not died. Changes wait for another.
    PublisherHangs {
        /// Its process id.
        pid: u32,
    },
    /// Nobody can go on with the mount, or this program cannot. The last message of a successor.
    Lost {
        /// Why.
        why: Lost,
        /// The same in words, on one line.
        reason: String,
    },
    /// The server's part of the status, as JSON in the descriptor with this message.
    Status,
}

/// Why a mount cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lost {
    /// The record has another format: the program that wrote it might go on.
    Foreign,
    /// There is no record, or it is damaged: nobody can go on with it.
    Record,
    /// Requests in flight are not asked again; see [`Init::resends`].
    Resend,
}

/// The server to the publisher; but the first message comes from the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPublisher {
    /// Where to work: a descriptor of the root of the private mount comes with the message, or a
    /// path is given, where no private mount could be had.
    Root {
        /// The path, if there is no descriptor.
        path: Option<PathBuf>,
    },
    /// Do this; answered by [`Done`] with the same number, in order.
    Do {
        /// The number.
        id: u64,
        /// What.
        call: SystemCall,
    },
}

/// What the publisher does. Paths are relative to the root of the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemCall {
    /// rename(2) of a staged file, and stat(2) of the path, so that no reader has to ask.
    Rename {
        /// Its number, which is its name.
        staged: u64,
        /// The path.
        to: PathBuf,
    },
    /// mkdir(2), and stat(2) of the path.
    Mkdir {
        /// The path.
        path: PathBuf,
    },
    /// unlink(2).
    Unlink {
        /// The path.
        path: PathBuf,
    },
    /// rmdir(2).
    Rmdir {
        /// The path.
        path: PathBuf,
    },
}

/// The publisher to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The number of what was to be done.
    pub id: u64,
    /// 0, or the number of the error.
    pub errno: i32,
}
