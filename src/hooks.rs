//! Commands that run when what a file shows changes: what to run when, and what the processes of a
//! mount say about it.
//!
//! The server tells what each file shows, again and again where it has to: only the runner
//! compares. What differs from what was told before is an event; [`Agenda`] decides which command
//! runs for it and when, and is told how that ended. It is pure, and what must outlive the runner
//! it gives out as [`journal`] entries.
//!
//! A hook runs for a *part*: a node, or a tree with whatever files that has.

pub mod agenda;
pub mod journal;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Hooks;
pub use agenda::Agenda;

/// Whether a part is a node or a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A node: one file.
    Node,
    /// A tree: any number of files.
    Tree,
}

/// A node or tree, by its name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartId {
    /// Which of them.
    pub kind: Kind,
    /// The X of `nodes.X` or `trees.X`.
    pub name: Arc<str>,
}

/// A node or tree that names hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub id: PartId,
    /// Its znode, or the root of its znodes.
    pub znode: String,
    /// Its file, or the directory of its files; relative to the mountpoint.
    pub dest: String,
    /// The hooks it names.
    pub hooks: Vec<String>,
}

/// What there is to run, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The hooks.
    pub hooks: Hooks,
    /// The nodes and trees that name them.
    pub parts: Vec<Part>,
    /// A directory comes behind the plan, in which state is kept across mounts.
    pub is_kept: bool,
    /// The least to log, as `warn`.
    pub log_level: String,
    /// The file to log to in the background, in place of the system log.
    pub log_file: Option<PathBuf>,
}

/// The beginning of a SHA-256, in hexadecimal digits: content that has the same is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(Arc<str>);

impl Digest {
    /// Of this content.
    pub fn of(content: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        let text: String = digest.as_ref()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self(text.into())
    }
}

/// What a file shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shows {
    /// This content, of this version of the znode.
    Content {
        /// What it is.
        digest: Digest,
        /// The version of the znode's data.
        version: i32,
        /// The transaction that set it.
        mzxid: i64,
    },
    /// There is no file.
    Nothing,
    /// There is a file, and nobody can say what it shows now: it is too old to be read, or the disk fails.
    Something,
}

/// What a file shows is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The node or tree that it belongs to.
    pub part: PartId,
    /// The file: what is behind the path of the part, which is nothing for that of a node.
    pub file: Arc<str>,
    /// Its znode.
    pub znode: Arc<str>,
    /// What it shows by now.
    pub shows: Shows,
}

/// Why a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The mount, or the hook, is new.
    Load,
    /// There was no file.
    Created,
    /// The file showed something else.
    Changed,
    /// There is no file any more.
    Deleted,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started, for this reason.
    NotStarted(String),
}

/// How the last run of a hook for a part went, or goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// When it started, in seconds since 1970.
    pub started: f64,
    /// Why.
    pub event: Event,
    /// The version of the znode that it was told; none for a tree and for what was deleted.
    pub version: Option<i32>,
    /// How long it took, in seconds; none while it runs.
    pub seconds: Option<f64>,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// It took too long, and was told to end.
    pub timed_out: bool,
}

/// How a hook stands with a part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The process ids of the commands that run.
    pub running: Vec<u32>,
    /// Something is to be run for.
    pub waits: bool,
    /// How often it has run to an end.
    pub runs: u64,
    /// How often that was a failure.
    pub failures: u64,
    /// How often in a row, now.
    pub failures_in_a_row: u64,
    /// The last run.
    pub last: Option<Last>,
}

/// The keeper to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// The first message. With it: the last [`FromRunner::Journal`], if there was one.
    Start {
        /// Where it is mounted, without symbolic links.
        mountpoint: PathBuf,
        /// Log more.
        debug: bool,
        /// The process is in the background.
        background: bool,
        /// There was no runner before this one for this mount.
        first: bool,
    },
    /// The other end of the socket with this message is the server.
    Server,
    /// Make room for another program, as soon as no command runs.
    Retire,
    /// The mount has ended.
    End,
}

/// The runner to the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// What must outlive the runner is in the descriptor with this message from now on.
    Journal,
    /// How long commands may take to end once the mount has ended, in milliseconds; none where they
    /// are left to themselves.
    Patience(Option<u64>),
}

/// The server to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromServer {
    /// This is the plan from now on: a [`Plan`] in the first descriptor with this message. What files show
    /// is told anew, all of it.
    Plan,
    /// What files show.
    Told(Vec<Told>),
    /// All that is there was told.
    Complete,
    /// The answer to [`ToServer::Content`]: what the file shows now, with its content in the
    /// descriptor with this message, unless there is none.
    Content {
        /// The number of the run.
        run: u64,
        /// The node.
        part: PartId,
        /// What it shows.
        shows: Shows,
    },
    /// Open the log anew: it was rotated, perhaps.
    Reopen,
}

/// The runner to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToServer {
    /// The content of the file of a node is wanted.
    Content {
        /// The number of the run that wants it.
        run: u64,
        /// The node.
        part: PartId,
    },
    /// How a hook stands with a part.
    Stands {
        /// The hook.
        hook: String,
        /// The part.
        part: PartId,
        /// How.
        standing: Standing,
    },
}

impl PartId {
    /// A node with this name.
    pub fn node(name: &str) -> Self {
        Self {
            kind: Kind::Node,
            name: name.into(),
        }
    }

    /// A tree with this name.
    pub fn tree(name: &str) -> Self {
        Self {
            kind: Kind::Tree,
            name: name.into(),
        }
    }
}

impl Event {
    /// As the environment of a command has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Node => write!(f, "nodes.{}", self.name),
            Kind::Tree => write!(f, "trees.{}", self.name),
        }
    }
}
