//! The last known good content, on disk, for a start while ZooKeeper is away.
//!
//! # Why one log, and not one file per znode
//!
//! Ten thousand small files take ten thousand opens to load, and as many syncs to write: without
//! one, a rename may leave an empty file behind after a power failure, and the last known good
//! content is gone. A heartbeat would touch all of them. In a log a second's news are one
//! sequential write and one sync, loading is one sequential read, and a heartbeat of all znodes is
//! one small frame.
//!
//! Measured on a virtual disk where a sync takes 3 ms, with contents of 1 KiB: 2 000 files with a
//! sync each took 6.5 s to write, a log of 10 000 contents 0.05 to 0.1 s. Opening and reading 10 000
//! files took 0.1 s before anything is verified, loading the log 0.05 to 0.09 s.
//!
//! The price is that a log is written anew now and then: when more than half of it is outdated, so
//! that each byte is copied about once for each byte told, and meanwhile about three times what is
//! live is on disk.
//!
//! # On disk
//!
//! `dir/mnt-live/` is the directory of `/mnt/live`: 0700, and the files in it 0600 from their first
//! moment. `lock` is locked by the process that writes, and says which. `content.F.I.S.N` is the
//! log: its format, the identity of whom it belongs to (mountpoint, service and chroot), its salt
//! (see `cache/format.rs`), its number. It is written as `new`, synced, and renamed: of two logs the
//! higher number is the newer one, and whole.
//!
//! Frames are checksummed one by one, and only whole ones count. So what a kill leaves is a
//! beginning of what was written, and damage costs the znodes it hit. They keep an older content
//! that is still in the log, as old as it says.
//!
//! # What may fail
//!
//! Only the thread that writes touches the disk, so one that is full, read-only or hung costs
//! nobody anything. What it could not write stays in memory: one content per znode, the one that is
//! served anyway. Afterwards a log of which it is not certain is written anew.
//!
//! A disk that does not even answer a kill keeps the process from ending. So `dir` must not be
//! served by the process itself: see [`Error::InsideMount`].

mod batch;
mod format;
mod index;
mod load;
mod log;
mod out;
mod place;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use crate::content::Content;
use crate::path::ZnodePath;
use crate::source::Stat;
use batch::News;
use index::KeptFrame;
use place::Place;
use writer::{End, Shared, Writer};

/// How long a start waits for a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an end waits for the disk.
const PATIENCE_AT_END: Duration = Duration::from_secs(1);

/// How many znodes are confirmed before others may tell something.
const N_CONFIRMED_AT_ONCE: usize = 256;

/// What is known of the znodes of one mount, written to disk by a thread of its own.
///
/// Everything but [`Cache::open`], [`Cache::flush`] and [`Kept::read`] comes back at once, whatever
/// the disk does: it is noted in memory, newest per znode, and written at most a second later.
/// Dropping it writes what is noted, unless the disk does not answer within a second.
pub struct Cache {
    shared: Arc<Shared>,
}

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
        content: Content,
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
pub struct Kept(KeptFrame);

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
    #[error("cannot use {} for the cache", path.display())]
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
        let (sender, receiver) = mpsc::channel();
        let cache = Self::start(dir, mountpoint, belongs_to, Some(sender))?;
        let (mut progress, mut waited) = (0, Instant::now());
        loop {
            match receiver.recv_timeout(PATIENCE / 20) {
                Ok(loaded) => return Ok((cache, loaded?)),
                Err(RecvTimeoutError::Timeout) => {
                    let now = cache.shared.progress.load(Ordering::Relaxed);
                    if now != progress {
                        (progress, waited) = (now, Instant::now());
                    } else if waited.elapsed() > PATIENCE {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let mut loaded = Loaded::nothing();
        let what = format!("{} does not answer; nothing is loaded", dir.display());
        loaded.dropped.push(what);
        Ok((cache, loaded))
    }

    /// [`Cache::open`] for a successor, which knows the content already: nothing is handed out, and
    /// nothing is waited for. Refusals show in [`Cache::state`].
    pub fn take_over(dir: &Path, mountpoint: &Path, belongs_to: &str) -> Result<Self, Error> {
        Self::start(dir, mountpoint, belongs_to, None)
    }

    fn start(
        dir: &Path,
        mountpoint: &Path,
        belongs_to: &str,
        loaded: Option<mpsc::Sender<Result<Loaded, Error>>>,
    ) -> Result<Self, Error> {
        if dir.starts_with(mountpoint) {
            return Err(Error::InsideMount {
                dir: dir.into(),
                mountpoint: mountpoint.into(),
            });
        }
        let shared = Arc::new(Shared::new());
        let identity = identity(mountpoint, belongs_to);
        let name = place::name(mountpoint);
        let writer = Writer::new(Arc::clone(&shared), dir.into(), name, identity);
        let end = End(Arc::clone(&shared));
        thread::Builder::new()
            .name("cache".into())
            .spawn(move || {
                let _end = end;
                writer.run(loaded);
            })
            .map_err(|source| Error::Io {
                path: dir.into(),
                source,
            })?;
        Ok(Self { shared })
    }

    /// The znode has this content, which was current at `confirmed`. What is on disk already costs
    /// nothing to tell again.
    pub fn content(&self, path: &ZnodePath, stat: Stat, content: Content, confirmed: SystemTime) {
        let news = News::Content {
            stat,
            content,
            confirmed,
        };
        self.shared.tell(|batch| batch.tell(path.clone(), news));
    }

    /// The znode is proved to be absent; `zxid` is the highest transaction known.
    pub fn absent(&self, path: &ZnodePath, zxid: i64) {
        let news = News::Absent { zxid };
        self.shared.tell(|batch| batch.tell(path.clone(), news));
    }

    /// What was last told of these znodes is still current at `time`. Others are passed over.
    pub fn confirmed<'a>(&self, paths: impl IntoIterator<Item = &'a ZnodePath>, time: SystemTime) {
        let mut paths = paths.into_iter().peekable();
        while paths.peek().is_some() {
            self.shared.tell(|batch| {
                for path in paths.by_ref().take(N_CONFIRMED_AT_ONCE) {
                    batch.tell(path.clone(), News::Confirmed(time));
                }
            });
        }
    }

    /// A file of the mount shows this time, for whatever reason. The times of contents and
    /// confirmations count without it.
    pub fn given(&self, time: SystemTime) {
        self.shared
            .tell(|batch| batch.latest = batch.latest.max(time));
    }

    /// Nothing is to be kept of this znode.
    pub fn forgotten(&self, path: &ZnodePath) {
        self.shared
            .tell(|batch| batch.tell(path.clone(), News::Forgotten));
    }

    /// Forgets every znode told so far that is not configured (any more). The question is asked
    /// under a lock and later, so it must answer from what it holds, and not come back here.
    pub fn retain(&self, is_configured: impl Fn(&ZnodePath) -> bool + Send + Sync + 'static) {
        self.shared
            .tell(|batch| batch.retain(Box::new(is_configured)));
    }

    /// Where the content of this znode lies, if that version (by [`Stat::order`]) is on disk:
    /// synced, so that memory need not hold it.
    pub fn kept(&self, path: &ZnodePath, stat: &Stat) -> Option<Kept> {
        self.shared.index.read().kept(path, stat).map(Kept)
    }

    /// The znodes whose content the disk has lost, once each: tell it again.
    pub fn lost(&self) -> Vec<ZnodePath> {
        self.shared.queue.lock().lost.drain().collect()
    }

    /// Waits until everything told before is on disk, at most `patience`. Whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        self.shared.hurry();
        let mut queue = self.shared.queue.lock();
        let (target, n_failures) = (queue.n_told, queue.n_failures);
        loop {
            if queue.n_written >= target {
                return true;
            }
            if queue.n_failures > n_failures || queue.is_finished {
                return false;
            }
            if self
                .shared
                .done
                .wait_until(&mut queue, deadline)
                .timed_out()
            {
                return queue.n_written >= target;
            }
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        let n_entries = self.shared.index.read().frames.len();
        let queue = self.shared.queue.lock();
        State {
            health: queue.health.clone(),
            n_entries,
            n_bytes: queue.n_bytes,
            n_waiting: queue.n_waiting(),
            n_dropped: queue.n_dropped,
        }
    }
}

/// An empty file in the directory of `mountpoint` in the cache directory `dir`, for whatever need not
/// outlive the mount: it has no name, and is ours alone. Waits for the disk.
///
/// As with [`Cache::open`], `dir` cannot be inside of the mount, and must be ours.
pub fn nameless(dir: &Path, mountpoint: &Path) -> Result<File, Error> {
    refuse_inside(dir, mountpoint)?;
    Place::open(dir, &place::name(mountpoint))?.create_nameless()
}

fn refuse_inside(dir: &Path, mountpoint: &Path) -> Result<(), Error> {
    match dir.starts_with(mountpoint) {
        true => Err(Error::InsideMount {
            dir: dir.into(),
            mountpoint: mountpoint.into(),
        }),
        false => Ok(()),
    }
}

/// A descriptor of the directory in which [`Cache::open`] keeps what belongs to `mountpoint`; it is
/// ours alone. Waits for the disk.
pub fn directory(dir: &Path, mountpoint: &Path) -> Result<OwnedFd, Error> {
    refuse_inside(dir, mountpoint)?;
    Ok(Place::open(dir, &place::name(mountpoint))?.into_directory())
}

impl Kept {
    /// Reads the content from the disk, and waits for it. Fails where it is damaged.
    pub fn read(&self) -> std::io::Result<Arc<[u8]>> {
        self.0.read()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.shared.close();
        let deadline = Instant::now() + PATIENCE_AT_END;
        let mut queue = self.shared.queue.lock();
        // A thread that the disk holds is left behind; it ends when the disk lets go of it.
        while !queue.is_finished {
            let waited = self.shared.done.wait_until(&mut queue, deadline);
            if waited.timed_out() {
                return;
            }
        }
    }
}

impl Loaded {
    fn nothing() -> Self {
        Self {
            entries: Vec::new(),
            latest: SystemTime::UNIX_EPOCH,
            dropped: Vec::new(),
        }
    }
}

impl Error {
    /// What failed and why, in one line.
    fn with_cause(&self) -> String {
        match self {
            Self::InsideMount { .. } | Self::Insecure { .. } => self.to_string(),
            Self::Io { source, .. } => format!("{self}: {source}"),
        }
    }

    /// Equal where there is no need to tell it again.
    fn kind(&self) -> String {
        match self {
            Self::InsideMount { .. } => "inside".into(),
            Self::Insecure { what, .. } => what.clone(),
            Self::Io { source, .. } => format!("{:?}", source.kind()),
        }
    }
}

/// A number for whom a log belongs to (FNV-1a, which is the same in every build).
fn identity(mountpoint: &Path, belongs_to: &str) -> u64 {
    let bytes = mountpoint.as_os_str().as_bytes().iter();
    let bytes = bytes.chain(&[0]).chain(belongs_to.as_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
