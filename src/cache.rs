//! The last known good content, on disk, for a start while ZooKeeper is away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::path::ZnodePath;
use crate::source::Stat;

/// What is known of the znodes of one mount, written to disk by a thread of its own.
///
/// Everything but [`Cache::open`], [`Cache::flush`] and [`Kept::read`] comes back at once, whatever
/// the disk does: it is noted in memory, newest per znode, and written at most a second later.
/// Dropping it writes what is noted, unless the disk does not answer within a second.
pub struct Cache {}

/// What a start finds in the cache.
#[derive(Debug)]
pub struct Loaded {
    /// At most one per znode, in no order.
    pub entries: Vec<Entry>,
    /// The latest time ever given to the cache: no file of the mount may show an earlier one anew.
    /// The epoch where there was nothing.
    pub latest: SystemTime,
    /// What was damaged, or not ours, and so left out: one line each, for the log.
    pub dropped: Vec<String>,
}

/// What was last known of one znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The znode, as configured: below the chroot.
    pub path: ZnodePath,
    /// What it had.
    pub known: Known,
}

/// What is known of a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was there.
    Content {
        /// What came with the content.
        stat: Stat,
        /// The bytes.
        content: Arc<[u8]>,
        /// When it was last known to be current: the mtime that its file showed.
        confirmed: SystemTime,
    },
    /// It was proved to be absent.
    Absent {
        /// The highest transaction known at that time.
        zxid: i64,
    },
}

/// Where a content lies on disk. It can be read as long as this is held, whatever is written
/// meanwhile; so do not hold it for ever: an outdated file keeps its disk space until then.
#[derive(Debug, Clone)]
pub struct Kept {}

/// How the cache is, for the status.
#[derive(Debug, Clone)]
pub struct State {
    /// Whether it is written.
    pub health: Health,
    /// How many znodes are in it, those known to be absent among them.
    pub n_entries: usize,
    /// How long its file is.
    pub n_bytes: u64,
    /// How many znodes have news that are not on disk yet.
    pub n_waiting: usize,
    /// How many entries were found damaged, or could not be read, since it was opened.
    pub n_dropped: u64,
}

/// Whether a cache is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The directory was not opened yet.
    Starting,
    /// All is well.
    Healthy,
    /// Another process has the directory, which is not written until that one ends.
    Locked {
        /// Who, where that is known.
        holder: Option<u32>,
        /// When it was first found so.
        since: SystemTime,
    },
    /// The disk fails. It is tried again and again.
    Failing {
        /// The last error, in words.
        reason: String,
        /// When the first of them came.
        since: SystemTime,
    },
}

/// Why a directory is refused, or fails.
#[derive(Debug, Error)]
pub enum Error {
    /// To write there, the server would have to ask itself.
    #[error("{}: the cache cannot be inside of the mount {}", dir.display(), mountpoint.display())]
    InsideMount {
        /// The cache directory.
        dir: PathBuf,
        /// The mountpoint.
        mountpoint: PathBuf,
    },
    /// Others can put files there, or replace ours.
    #[error("{}: {what}", path.display())]
    Insecure {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Cache {
    /// Opens the part of the cache directory `dir` that belongs to `mountpoint`, and loads it.
    ///
    /// `belongs_to` names the service and the chroot; what was kept for another one is dropped.
    /// `dir` is made if only its last component is missing.
    ///
    /// Fails only where a person must mend something ([`Error::InsideMount`], [`Error::Insecure`]).
    /// A disk that fails is no error: nothing is loaded, and it is tried again
    /// ([`Health::Failing`]). Waits as long as loading goes on, and two seconds for a disk that does
    /// not answer.
    ///
    /// Where another process holds the lock, what it wrote so far is loaded; writing starts when it
    /// ends.
    pub fn open(dir: &Path, mountpoint: &Path, belongs_to: &str) -> Result<(Self, Loaded), Error> {
        let _ = (dir, mountpoint, belongs_to);
        todo!()
    }

    /// [`Cache::open`] for a successor, which knows the content already: nothing is handed out, and
    /// nothing is waited for. Refusals show in [`Cache::state`].
    pub fn take_over(dir: &Path, mountpoint: &Path, belongs_to: &str) -> Result<Self, Error> {
        let _ = (dir, mountpoint, belongs_to);
        todo!()
    }

    /// The znode has this content, which was current at `confirmed`. What is on disk already costs
    /// nothing to tell again.
    pub fn content(&self, path: &ZnodePath, stat: Stat, content: Arc<[u8]>, confirmed: SystemTime) {
        let _ = (path, stat, content, confirmed);
        todo!()
    }

    /// The znode is proved to be absent; `zxid` is the highest transaction known.
    pub fn absent(&self, path: &ZnodePath, zxid: i64) {
        let _ = (path, zxid);
        todo!()
    }

    /// What was last told of these znodes is still current at `time`. Others are passed over.
    pub fn confirmed<'a>(&self, paths: impl IntoIterator<Item = &'a ZnodePath>, time: SystemTime) {
        let _ = (paths.into_iter().count(), time);
        todo!()
    }

    /// A file of the mount shows this time, for whatever reason. The times of contents and
    /// confirmations count without it.
    pub fn given(&self, time: SystemTime) {
        let _ = time;
        todo!()
    }

    /// Nothing is to be kept of this znode.
    pub fn forgotten(&self, path: &ZnodePath) {
        let _ = path;
        todo!()
    }

    /// Forgets every znode told so far that is not configured (any more). Asked on the thread that
    /// writes.
    pub fn retain(&self, is_configured: impl Fn(&ZnodePath) -> bool + Send + Sync + 'static) {
        let _ = is_configured(&ZnodePath::root());
        todo!()
    }

    /// Where the content of this znode lies, if that version (by [`Stat::order`]) is on disk:
    /// synced, so that memory need not hold it.
    pub fn kept(&self, path: &ZnodePath, stat: &Stat) -> Option<Kept> {
        let _ = (path, stat);
        todo!()
    }

    /// The znodes whose content the disk has lost, once each: tell it again.
    pub fn lost(&self) -> Vec<ZnodePath> {
        todo!()
    }

    /// Waits until everything told before is on disk, at most `patience`. Whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let _ = patience;
        todo!()
    }

    /// How it is.
    pub fn state(&self) -> State {
        todo!()
    }
}

impl Kept {
    /// Reads the content from the disk, and waits for it. Fails where it is damaged.
    pub fn read(&self) -> std::io::Result<Arc<[u8]>> {
        todo!()
    }
}
