//! What the user wrote, and what it means.
//!
//! A configuration is an INI file as Baseplate's live-data watcher reads it, to the letter, with more
//! keys. Reading goes down in steps, one file each: `lines` enforces the grammar and remembers line
//! numbers, `ini_text` has rust-ini read the values, `raw` holds what the user wrote (with keys
//! checked against the table in `keys`), `values` says what one value means, `settings`,
//! `nodes`, `trees` and [`hooks`] what several mean together (by `parts`, what the last three share),
//! and `places` which nodes and trees go together.
//!
//! ```no_run
//! # use std::path::Path;
//! # fn main() -> Result<(), livedata::config::Error> {
//! use livedata::config::Config;
//! let config = Config::load(Path::new("/etc/live.ini"), Some(Path::new("/mnt/live")))?;
//! for problem in &config.problems {
//!     log::warn!("{problem}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is wrong stays alone where it can: a wrong node, tree or hook is left out and becomes a
//! [`Problem`]. What concerns everything (the connection, the mount, the log, the defaults, a file that
//! is no INI) is the [`enum@Error`]. Both name file, line and key, and say what would be right, on one
//! line.
//!
//! Beside it, or where it says, are drop-ins with more of these: `dropin` reads the text of one, and
//! [`dropins`] joins them with the main file. Reading the directory is in [`dropin_dir`], and
//! [`outside`] keeps it from asking the mount itself.
//!
//! Nothing here contacts ZooKeeper, and nothing but [`secrets`] sees a secret. Everything is read
//! afresh at each call: there is no state, so a reload is a second call. Only [`dropins`] remembers
//! what a drop-in was while it was right.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, User};
use thiserror::Error;

use crate::path::{FilePath, Name, ZnodePath};
use crate::subtree::Subtree;

pub mod check;
pub mod dropin;
pub mod dropin_dir;
pub mod dropins;
pub mod hooks;
pub mod outside;
pub mod secrets;

mod expand;
mod ini_text;
mod keys;
mod lines;
mod nodes;
mod parts;
mod places;
mod raw;
mod settings;
mod trees;
mod values;

pub use hooks::{Account, Command, Hook, Hooks, OnUnmount, RunMode, Stdin};
pub use secrets::{Provider, Secrets};

/// Where the last known content is kept if the file does not say, provided that somebody has made
/// this directory: a package does.
pub const CACHE_DIR: &str = "/var/lib/livedata-fuse";

/// What a configuration means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The connection.
    pub zookeeper: ZooKeeper,
    /// Where credentials come from.
    pub secrets: Secrets,
    /// How often files that are known to be current are touched; never zero.
    pub heartbeat_interval: Duration,
    /// What is logged, and where.
    pub log: Log,
    /// How the mount looks as a whole.
    pub mount: Mount,
    /// Where the last known content is kept across restarts; none for memory only. A relative path
    /// was taken from the directory of the configuration file.
    pub cache_dir: Option<PathBuf>,
    /// How many bytes of the content of trees memory holds at most, where the rest can lie in
    /// `cache_dir`.
    pub cache_max_bytes: u64,
    /// What nodes get that say nothing else; drop-ins need it too.
    pub defaults: Defaults,
    /// The files of the mount, in the order of the file and then of the drop-ins: no two have one
    /// dest, and none stands where another needs a directory.
    pub nodes: Vec<Node>,
    /// The trees of the mount, in the same order: each has its dest, and all below it, for itself.
    pub trees: Vec<Tree>,
    /// The commands that run when they change, in the same order.
    pub hooks: Hooks,
    /// Where nodes and trees of the file name hooks.
    naming: hooks::naming::Naming,
    /// The drop-ins whose nodes are among them; none before [`dropins::Dropins::join`].
    pub dropins: Vec<dropins::Listed>,
    /// What was left out or ignored, in the order of the lines.
    pub problems: Vec<Problem>,
}

/// How ZooKeeper is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZooKeeper {
    /// At least one server, each `name:port`, an IPv6 address as `[::1]:2181`.
    pub hosts: Vec<String>,
    /// The znode that all sources are below; none where that is the root.
    pub chroot: Option<ZnodePath>,
    /// The session timeout to ask for; between 1 millisecond and 2^31 - 1 of them.
    pub timeout: Duration,
    /// The names of the secrets that hold `user:password`, each for the scheme `digest`; exactly
    /// one with `sasl`, and for that only.
    pub credentials: Vec<String>,
    /// How the connection is encrypted and the servers verified; none for plain text.
    pub tls: Option<Tls>,
    /// How we authenticate ourselves, instead of by the scheme `digest`.
    pub sasl: Option<Sasl>,
    /// Whether a server without a quorum will do where no other serves.
    pub read_only: bool,
}

/// TLS with servers that are always verified, by certificate and by host name. Relative paths were
/// taken from the directory of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the CAs that servers are verified by; none for those of the system.
    pub ca_cert: Option<PathBuf>,
    /// PEM files with our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl {
    /// DIGEST-MD5, with the user and the password of the one credential.
    DigestMd5,
}

/// The log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The least that is logged, where the file says so.
    pub level: Option<log::LevelFilter>,
    /// Where the log goes in the background, instead of the system log. A relative path was taken
    /// from the directory of the configuration file.
    pub file: Option<PathBuf>,
}

/// The mount as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Files have extended attributes that tell of their znodes.
    pub xattr: bool,
    /// Files whose dest was absolute and outside of the mountpoint are to be found there, too.
    pub links: bool,
    /// The name of the directory at the root in which the mount tells of itself.
    pub status_dir: Name,
    /// The permissions of the files in it.
    pub status_mode: u16,
    /// Where the drop-ins are, if the file says. A relative path was taken from the directory of the
    /// configuration file.
    pub dropin_dir: Option<PathBuf>,
}

/// What nodes get that say nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The owner; the mounting user if not configured.
    pub uid: u32,
    /// The group; the mounting user's if not configured.
    pub gid: u32,
    /// Permission bits; 0400 if not configured.
    pub mode: u16,
    /// What becomes of the file when the znode goes.
    pub on_delete: OnDelete,
    /// What becomes of the file when nobody knows any more whether it is current.
    pub on_disconnect: OnDisconnect,
    /// How old it may become, where that matters; an hour if not configured.
    pub max_stale: Duration,
}

/// One znode shown as one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The X of `nodes.X.source`: lower case, without a dot.
    pub name: String,
    /// The first line that names it, in the file that it is from.
    pub line: usize,
    /// The znode, below the chroot.
    pub source: ZnodePath,
    /// The file, below the mountpoint.
    pub dest: FilePath,
    /// It was written as an absolute path outside of the mountpoint: applications may look for it
    /// there, at a slash and `dest`.
    pub is_outside: bool,
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// What becomes of the file when the znode goes.
    pub on_delete: OnDelete,
    /// What becomes of the file when nobody knows any more whether it is current.
    pub on_disconnect: OnDisconnect,
    /// How old it may become with [`OnDisconnect::Error`]: counted from when the connection was
    /// lost, or the znode could no longer be read.
    pub max_stale: Duration,
    /// The mount is not ready without it.
    pub required: bool,
    /// The names of the hooks that run when it changes; there are such hooks once drop-ins are joined.
    pub hooks: Vec<String>,
}

/// A subtree of znodes shown as files and directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The X of `trees.X.source`: lower case, without a dot.
    pub name: String,
    /// The first line that names it, in the file that it is from.
    pub line: usize,
    /// The znodes, below the chroot.
    pub subtree: Subtree,
    /// The file or directory of the root, below the mountpoint.
    pub dest: FilePath,
    /// It was written as an absolute path outside of the mountpoint, as with a [`Node`].
    pub is_outside: bool,
    /// The owner of files and directories.
    pub uid: u32,
    /// The group of files and directories.
    pub gid: u32,
    /// Permission bits of files, at most 0o7777.
    pub mode: u16,
    /// Permission bits of directories, at most 0o7777.
    pub dir_mode: u16,
    /// The file, in the directory of a znode with children, that has its own data.
    pub data_name: Name,
    /// What becomes of a file when nobody knows any more whether it is current.
    pub on_disconnect: OnDisconnect,
    /// How old it may become with [`OnDisconnect::Error`], as with a [`Node`].
    pub max_stale: Duration,
    /// The names of the hooks that run when something in it changes, as with a [`Node`].
    pub hooks: Vec<String>,
}

impl Tree {
    /// Whether the other one shows the same in the same way, wherever it is written and whatever runs
    /// when it changes.
    pub fn shows_as(&self, other: &Self) -> bool {
        let here = Self {
            line: other.line,
            hooks: other.hooks.clone(),
            ..self.clone()
        };
        here == *other
    }
}

/// What becomes of a file when its znode is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// It goes too.
    Remove,
    /// It stays, with the last known content.
    Keep,
}

/// What becomes of a file while nobody knows whether it is current: ZooKeeper is away, or the znode
/// cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The last known content is served for as long as it takes.
    Stale,
    /// Once it is too old, reading fails.
    Error,
}

/// Something in the configuration that was left out or ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file it is in, as it was named.
    pub file: PathBuf,
    /// The line, from 1; none where something is missing.
    pub line: Option<usize>,
    /// The key, in full and lower case, or a section in its brackets.
    pub key: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// How bad a [`Problem`] is. With `--strict` both end the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something was ignored that may have been meant.
    Warning,
    /// A node, tree or hook was left out.
    Error,
}

/// Why there is no configuration at all.
#[derive(Debug, Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file, as it was named.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no INI, or a setting that concerns everything is wrong.
    #[error("{0}")]
    Wrong(Box<Problem>),
}

/// What a configuration means depends on where it is read; tests give other surroundings.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where the mount will be, absolute. A dest below it is taken relative to it.
    pub mountpoint: Option<&'a Path>,
    /// Looks up the variables that values may name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The mounting user.
    pub uid: u32,
    /// The mounting user's group.
    pub gid: u32,
    /// Where the last known content is kept if the file does not say.
    pub cache_dir: Option<&'a Path>,
    /// Looks up the number of a user; none where there is no such user, an error where nobody knows.
    pub user: &'a dyn Fn(&str) -> io::Result<Option<u32>>,
    /// Likewise of a group.
    pub group: &'a dyn Fn(&str) -> io::Result<Option<u32>>,
    /// Looks up whom a command runs as: the user by name, else by number, as a member of the given
    /// group, or else of its primary one.
    pub account: &'a LookUpAccount,
}

/// See [`Surroundings::account`].
pub type LookUpAccount = dyn Fn(&str, Option<u32>) -> io::Result<Option<Account>>;

impl Config {
    /// Reads `file` with the environment and as the user of this process. Without a `mountpoint`
    /// (`check` knows none) absolute dests merely lose their leading slash.
    pub fn load(file: &Path, mountpoint: Option<&Path>) -> Result<Self, Error> {
        let mut config = Self::parse_here(file, &Self::read(file)?, mountpoint)?;
        config.look_at_writers();
        Ok(config)
    }

    /// The content of `file`.
    pub fn read(file: &Path) -> Result<Vec<u8>, Error> {
        std::fs::read(file).map_err(cannot_read(file))
    }

    /// [`Config::load`] of a `file` with this content.
    pub fn parse_here(file: &Path, text: &[u8], mountpoint: Option<&Path>) -> Result<Self, Error> {
        let mountpoint = mountpoint
            .map(std::path::absolute)
            .transpose()
            .map_err(cannot_read(file))?;
        Self::parse(file, text, &Surroundings::here(mountpoint.as_deref()))
    }

    /// [`Config::load`] with the drop-ins as they are now, and with a look whether the programs that
    /// hooks run are there.
    pub fn load_all(file: &Path, mountpoint: Option<&Path>) -> Result<Self, Error> {
        let main = Self::load(file, mountpoint)?;
        let mountpoint = mountpoint
            .map(std::path::absolute)
            .transpose()
            .map_err(cannot_read(file))?;
        let mut dropins = dropins::Dropins::new(main.dropin_dir());
        let surroundings = Surroundings::here(mountpoint.as_deref());
        dropin_dir::read_all(&mut dropins, &main, &surroundings);
        let mut all = dropins.join(&main);
        let path = (surroundings.variable)("PATH");
        let missing = dropins.missing_programs(&main, path.as_deref());
        all.problems.extend(missing);
        Ok(all)
    }

    /// Warns, where the file has hooks, if others than root and the user who mounts can write it:
    /// they can have anything run.
    pub fn look_at_writers(&mut self) {
        let Some(hook) = self.hooks.all.first() else {
            return;
        };
        // It was read just now; if it is gone since, nobody writes it.
        let Ok(found) = std::fs::metadata(&self.file) else {
            return;
        };
        let why = if found.mode() & 0o022 != 0 {
            let mode = found.mode() & 0o7777;
            format!("others than its owner can write the file (mode {mode:04o}); chmod go-w")
        } else if ![0, nix::unistd::Uid::effective().as_raw()].contains(&found.uid()) {
            format!(
                "the file belongs to the user {}; chown it to root or to the user who mounts",
                found.uid()
            )
        } else {
            return;
        };
        self.problems.push(Problem {
            severity: Severity::Warning,
            file: self.file.clone(),
            line: Some(hook.line),
            key: Some(format!("hooks.{}", hook.name)),
            message: format!("hooks are code, and {why}"),
        });
        self.problems.sort_by_key(|problem| problem.line);
    }

    /// Where the drop-ins are: as configured, or else in `mount.d` beside the file.
    pub fn dropin_dir(&self) -> PathBuf {
        let configured = self.mount.dropin_dir.clone();
        configured.unwrap_or_else(|| settings::beside(&self.file, "mount.d"))
    }

    /// What `text`, the content of `file`, means. Looks at nothing but the user database.
    pub fn parse(file: &Path, text: &[u8], surroundings: &Surroundings<'_>) -> Result<Self, Error> {
        settings::config(file, text, surroundings)
    }
}

impl<'a> Surroundings<'a> {
    /// Those of this process, with a mountpoint that is absolute.
    pub fn here(mountpoint: Option<&'a Path>) -> Self {
        Self {
            mountpoint,
            variable: &|name| std::env::var(name).ok(),
            uid: nix::unistd::Uid::effective().as_raw(),
            gid: nix::unistd::Gid::effective().as_raw(),
            cache_dir: Some(Path::new(CACHE_DIR)).filter(|dir| is_ours(dir)),
            user: &|name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())),
            group: &|name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())),
            account: &hooks::account::look_up,
        }
    }
}

/// Whether the directory was made for the user of this process.
fn is_ours(directory: &Path) -> bool {
    let owner =
        std::fs::symlink_metadata(directory).map(|found| found.is_dir().then(|| found.uid()));
    matches!(owner, Ok(Some(uid)) if uid == nix::unistd::Uid::effective().as_raw())
}

fn cannot_read(file: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Read {
        file: file.into(),
        source,
    }
}

impl OnDelete {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Keep => "keep",
        }
    }
}

impl OnDisconnect {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }
}

impl Sasl {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DigestMd5 => "digest-md5",
        }
    }
}

impl Severity {
    /// `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Problem {
    /// `/etc/live.ini:12: nodes.a.mode: what is wrong`, always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.file.display().to_string();
        if let Some(line) = self.line {
            text += &format!(":{line}");
        }
        if let Some(key) = &self.key {
            text += &format!(": {key}");
        }
        text += &format!(": {}", self.message);
        for c in text.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("mountpoint", &self.mountpoint)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish_non_exhaustive()
    }
}
