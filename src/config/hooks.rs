//! Hooks: the commands that run when a znode changes. `reading` says what one of them means by itself,
//! with `words` for its values and `account` for whom it runs as; `naming` which nodes and trees name
//! it; and `programs` whether what it runs is there.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) mod account;
pub(super) mod naming;
pub(super) mod programs;
pub(super) mod reading;
mod words;

/// How many commands run at once, if the file does not say.
const DEFAULT_MAX_PARALLEL: usize = 16;

/// The commands, and what holds for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// No two have one name.
    pub all: Vec<Hook>,
    /// How many commands run at once; at least one.
    pub max_parallel: usize,
    /// What becomes of those that run when the mount ends.
    pub on_unmount: OnUnmount,
}

/// What becomes of a command that runs when the mount ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnmount {
    /// It ends too.
    Kill,
    /// It runs on, and nobody waits for it.
    Leave,
}

/// One command, and when and how it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The H of `hooks.H.command`: lower case, without a dot.
    pub name: String,
    /// The first line that names it, in the file that it is from.
    pub line: usize,
    /// What runs.
    pub command: Command,
    /// What becomes of changes that come while it runs.
    pub run_mode: RunMode,
    /// It also runs for what is there when the mount begins.
    pub run_on_load: bool,
    /// What it reads.
    pub stdin: Stdin,
    /// Whom it runs as; none for the user of the daemon.
    pub account: Option<Account>,
    /// Sent to the running command when a change waits for it, with [`RunMode::Queue`].
    pub notify_signal: Option<i32>,
    /// How long it may run before it is told to end; none for as long as it takes. Never zero.
    pub timeout: Option<Duration>,
    /// How long it may then take to end.
    pub kill_timeout: Duration,
    /// How often it is tried again after it failed.
    pub retries: u32,
    /// How long to wait before the first of these; doubled for each further one.
    pub backoff: Duration,
    /// The exit codes that are no failure; at least one.
    pub ok_codes: Vec<u8>,
    /// It starts after a random time up to this.
    pub splay: Duration,
    /// How long it must have been quiet before it starts.
    pub wait_min: Duration,
    /// How long to wait for that at most; not less than `wait_min`.
    pub wait_max: Duration,
    /// What it is for, in the user's words.
    pub description: Option<String>,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A text for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments; at least the program, and no NUL anywhere.
    Exec(Vec<String>),
}

/// What becomes of changes that come while a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunMode {
    /// It runs once more, with the newest content.
    Queue,
    /// They are passed over.
    Discard,
    /// It runs for each of them at once.
    Parallel,
}

/// What a hook reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// Nothing.
    Nothing,
    /// The new content.
    Content,
    /// What changed.
    Events,
}

/// Whom a hook runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
    /// The user's name, where there is an entry for it and it is said, as for the next two.
    pub name: Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// The login shell.
    pub shell: Option<PathBuf>,
}

impl Default for Hooks {
    /// None, and nothing said of all.
    fn default() -> Self {
        Self {
            all: Vec::new(),
            max_parallel: DEFAULT_MAX_PARALLEL,
            on_unmount: OnUnmount::Kill,
        }
    }
}

impl OnUnmount {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Leave => "leave",
        }
    }
}

impl RunMode {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Discard => "discard",
            Self::Parallel => "parallel",
        }
    }
}
