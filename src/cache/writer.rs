//! The thread that writes, and the queue in front of it.
//!
//! Whoever tells something takes the lock of the queue and nothing else, and no system call is made
//! under it. LOCK ORDERING: the queue and the index are never held together.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use parking_lot::{Condvar, Mutex, RwLock};

use super::batch::Batch;
use super::index::Index;
use super::load::{self, NEW, Reading};
use super::log::Log;
use super::place::{Locked, Place};
use super::rewrite::{Rewrite, Step};
use super::{Error, Health, Loaded};
use crate::path::ZnodePath;

/// How long the first news waits for others. The rest of the second is for the disk.
const DELAY: Duration = Duration::from_millis(500);

/// How long to wait after the first failure; doubled for each one after it.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// The longest wait after a failure.
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// How often the lock is tried. A predecessor that is ending holds it for some milliseconds.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is tried when its holder seems to stay.
const LAST_LOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long somebody else may hold the lock before that is worth a warning.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a log that can be written, but not anew, is left as it is.
const REWRITE_INTERVAL: Duration = Duration::from_secs(60);

/// What the thread and the others share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// There is something to do for the thread.
    told: Condvar,
    /// The thread did something.
    pub(super) done: Condvar,
    pub(super) index: Arc<RwLock<Index>>,
    /// Moves while the disk answers.
    pub(super) progress: AtomicU64,
}

/// What the thread is told, and what it tells.
pub(super) struct Queue {
    batch: Batch,
    /// When the first of the batch was told.
    since: Option<Instant>,
    /// How much was told, and how much of that is on disk.
    pub(super) n_told: u64,
    pub(super) n_written: u64,
    /// How often writing failed.
    pub(super) n_failures: u64,
    /// Somebody waits.
    is_urgent: bool,
    is_closing: bool,
    pub(super) is_finished: bool,
    pub(super) lost: HashSet<ZnodePath>,
    pub(super) health: Health,
    pub(super) n_dropped: u64,
    pub(super) n_bytes: u64,
    /// News that the thread has taken, and not written yet.
    n_carried: usize,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                batch: Batch::default(),
                since: None,
                n_told: 0,
                n_written: 0,
                n_failures: 0,
                is_urgent: false,
                is_closing: false,
                is_finished: false,
                lost: HashSet::new(),
                health: Health::Starting,
                n_dropped: 0,
                n_bytes: 0,
                n_carried: 0,
            }),
            told: Condvar::new(),
            done: Condvar::new(),
            index: Arc::default(),
            progress: AtomicU64::new(0),
        }
    }

    /// Adds to what is to be written.
    pub(super) fn tell(&self, tell: impl FnOnce(&mut Batch)) {
        let mut queue = self.queue.lock();
        tell(&mut queue.batch);
        queue.n_told += 1;
        if queue.since.is_none() {
            queue.since = Some(Instant::now());
            self.told.notify_one();
        }
    }

    pub(super) fn hurry(&self) {
        self.queue.lock().is_urgent = true;
        self.told.notify_one();
    }

    pub(super) fn close(&self) {
        self.queue.lock().is_closing = true;
        self.told.notify_one();
    }
}

impl Queue {
    /// How many news are not on disk.
    pub(super) fn n_waiting(&self) -> usize {
        self.batch.news.len() + self.n_carried
    }
}

/// The thread that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    root: PathBuf,
    name: String,
    identity: u64,
    opened: Option<Opened>,
    /// None until it was read with the lock in hand. It outlives the directory.
    log: Option<Log>,
    rewrite: Option<Rewrite>,
    /// Not before then.
    rewrite_after: Instant,
    /// What was taken from the queue and is not on disk.
    carried: Batch,
    n_carried_told: u64,
    /// When to try again what failed.
    retry_at: Instant,
    backoff: Duration,
    /// What was logged of the present trouble.
    logged: HashSet<String>,
    /// When the lock was first found taken.
    locked_at: Option<Instant>,
}

struct Opened {
    place: Place,
    /// Held as long as we write.
    lock: OwnedFd,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, root: PathBuf, name: String, identity: u64) -> Self {
        let now = Instant::now();
        Self {
            shared,
            root,
            name,
            identity,
            opened: None,
            log: None,
            rewrite: None,
            rewrite_after: now,
            carried: Batch::default(),
            n_carried_told: 0,
            retry_at: now,
            backoff: FIRST_BACKOFF,
            logged: HashSet::new(),
            locked_at: None,
        }
    }

    /// Loads for whoever waits for `loaded`, and writes until the end. A refusal ends it where
    /// somebody waits.
    pub(super) fn run(mut self, loaded: Option<Sender<Result<Loaded, Error>>>) {
        if let Some(loaded) = loaded {
            match self.load_first() {
                Ok(found) => {
                    self.shared.queue.lock().n_dropped += found.dropped.len() as u64;
                    // Whoever waited too long for it goes on without.
                    let _ = loaded.send(Ok(found));
                }
                Err(err @ Error::Io { .. }) => {
                    self.failed(&err);
                    let _ = loaded.send(Ok(Loaded::nothing()));
                }
                Err(err) => {
                    let _ = loaded.send(Err(err));
                    return;
                }
            }
        }
        loop {
            let is_closing = self.wait();
            match self.attempt() {
                Ok(true) => self.succeeded(),
                Ok(false) => {}
                Err(err) => self.failed(&err),
            }
            self.show();
            if is_closing {
                break;
            }
        }
        self.drop_rewrite();
    }

    /// Waits until there is something to do. Whether that is the last.
    fn wait(&mut self) -> bool {
        let wants_rewrite =
            self.rewrite.is_some() || self.log.as_ref().is_some_and(Log::wants_rewrite);
        let mut queue = self.shared.queue.lock();
        loop {
            if queue.is_closing {
                return true;
            }
            if std::mem::take(&mut queue.is_urgent) {
                return false;
            }
            let at = if self.opened.is_none() || !self.carried.is_empty() {
                Some(self.retry_at)
            } else {
                let news = queue.since.map(|since| since + DELAY);
                let rewrite = wants_rewrite.then_some(self.rewrite_after);
                let first = news.into_iter().chain(rewrite).min();
                first.map(|at| at.max(self.retry_at))
            };
            match at {
                Some(at) if at <= Instant::now() => return false,
                Some(at) => {
                    self.shared.told.wait_until(&mut queue, at);
                }
                None => self.shared.told.wait(&mut queue),
            }
        }
    }

    /// Loads what is there, whoever has the lock.
    fn load_first(&mut self) -> Result<Loaded, Error> {
        let place = Place::open(&self.root, &self.name)?;
        // Where the lock cannot be had for a reason of the disk, the content may still be read.
        let locked = place.lock();
        let reading = Reading {
            is_ours: matches!(locked, Ok(Locked::Taken(_))),
            with_contents: true,
            progress: &self.shared.progress,
        };
        let (log, loaded) = load::load(&place, self.identity, &reading)?;
        match locked {
            Ok(Locked::Taken(lock)) => self.opened(place, lock, Some(log)),
            // Read again once the lock is ours: the other may write on.
            Ok(Locked::Held(holder)) => self.is_locked(&place, holder),
            Err(err @ Error::Io { .. }) => self.failed(&err),
            Err(err) => return Err(err),
        }
        Ok(loaded)
    }

    /// Brings everything told so far to the disk, and a rewrite a little further. False where
    /// somebody else has the lock.
    fn attempt(&mut self) -> Result<bool, Error> {
        self.verify_place();
        if !self.open()? {
            return Ok(false);
        }
        self.take_news();
        let (Some(opened), Some(log)) = (&self.opened, &mut self.log) else {
            return Ok(false);
        };
        let mut lost = Vec::new();
        if log.is_suspect {
            self.rewrite = None;
            let mut rewrite = Rewrite::start(log, &opened.place)?;
            lost = loop {
                if let Step::Done(lost) = rewrite.step(log, &opened.place)? {
                    break lost;
                }
            };
        }
        if !self.carried.is_empty() {
            let appended = log.append(&self.carried);
            if let Err(source) = appended {
                // What it has copied so far may be what the disk lacks.
                self.drop_rewrite();
                self.has_lost(lost);
                return Err(Error::Io {
                    path: self.root.join(&self.name),
                    source,
                });
            }
            self.carried = Batch::default();
        }
        self.has_lost(lost);
        self.shared.queue.lock().n_written = self.n_carried_told;
        self.rewrite_a_little();
        Ok(true)
    }

    /// Moves what was told from the queue to the batch that is written next.
    fn take_news(&mut self) {
        let mut queue = self.shared.queue.lock();
        let news = std::mem::take(&mut queue.batch);
        queue.since = None;
        self.n_carried_told = queue.n_told;
        queue.n_carried = self.carried.news.len() + news.news.len();
        drop(queue);
        self.carried.extend(news);
    }

    /// Lets go of a directory that was removed or moved away.
    fn verify_place(&mut self) {
        let (Some(opened), Some(log)) = (&self.opened, &mut self.log) else {
            return;
        };
        // Whoever finds no lock there takes another one.
        let is_locked = rustix::fs::fstat(&opened.lock).is_ok_and(|stat| stat.st_nlink > 0);
        if !is_locked || !opened.place.is_there() || !log.is_linked() {
            warn!(
                "{} was removed while it was in use; it is written anew",
                opened.place.path().display()
            );
            log.is_suspect = true;
            self.rewrite = None;
            self.opened = None;
        }
    }

    /// Opens the directory with its lock, if that is still to do. Whether it is open.
    fn open(&mut self) -> Result<bool, Error> {
        if self.opened.is_some() {
            return Ok(true);
        }
        let place = Place::open(&self.root, &self.name)?;
        let lock = match place.lock()? {
            Locked::Taken(lock) => lock,
            Locked::Held(holder) => {
                self.is_locked(&place, holder);
                return Ok(false);
            }
        };
        let mut log = None;
        if self.log.is_none() {
            let reading = Reading {
                is_ours: true,
                with_contents: false,
                progress: &self.shared.progress,
            };
            let (found, loaded) = load::load(&place, self.identity, &reading)?;
            for line in &loaded.dropped {
                warn!("{line}");
            }
            self.shared.queue.lock().n_dropped += loaded.dropped.len() as u64;
            log = Some(found);
        }
        self.opened(place, lock, log);
        Ok(true)
    }

    fn opened(&mut self, place: Place, lock: OwnedFd, log: Option<Log>) {
        if let Some(mut log) = log {
            log.share(&self.shared.index);
            if let Err(err) = load::remove_others(&place, log.name().as_deref().unwrap_or("")) {
                log::debug!("{}", err.with_cause());
            }
            self.log = Some(log);
        }
        if self.locked_at.take().is_some() {
            info!("{} is ours now", place.path().display());
        }
        self.opened = Some(Opened { place, lock });
    }

    fn is_locked(&mut self, place: &Place, holder: Option<u32>) {
        let now = Instant::now();
        let since = *self.locked_at.get_or_insert(now);
        let is_ending = now - since <= LOCK_PATIENCE;
        self.retry_at = now
            + if is_ending {
                LOCK_INTERVAL
            } else {
                LAST_LOCK_INTERVAL
            };
        if !is_ending && self.logged.insert("locked".into()) {
            let who = holder.map_or("another process".into(), |pid| format!("process {pid}"));
            warn!(
                "{} is in use by {who}; this mount goes on without it until that one ends",
                place.path().display()
            );
        }
        let mut queue = self.shared.queue.lock();
        match &mut queue.health {
            Health::Locked { holder: who, .. } => *who = holder,
            health => {
                *health = Health::Locked {
                    holder,
                    since: SystemTime::now(),
                }
            }
        }
    }

    /// Goes on with the rewrite, or starts one. The log can be written without, so a failure is
    /// none of it.
    fn rewrite_a_little(&mut self) {
        let (Some(opened), Some(log)) = (&self.opened, &mut self.log) else {
            return;
        };
        if self.rewrite.is_none() && (!log.wants_rewrite() || Instant::now() < self.rewrite_after) {
            return;
        }
        let stepped = match self.rewrite.take() {
            Some(rewrite) => Ok(rewrite),
            None => Rewrite::start(log, &opened.place),
        }
        .and_then(|mut rewrite| {
            let step = rewrite.step(log, &opened.place)?;
            Ok((rewrite, step))
        });
        match stepped {
            Ok((rewrite, Step::More)) => self.rewrite = Some(rewrite),
            Ok((_, Step::Done(lost))) => self.has_lost(lost),
            Err(err) => {
                if self.logged.insert("rewrite".into()) {
                    warn!("{}; the log goes on growing", err.with_cause());
                }
                self.rewrite_after = Instant::now() + REWRITE_INTERVAL;
                self.drop_rewrite();
            }
        }
    }

    /// Frees the disk of a rewrite that is not to be finished.
    fn drop_rewrite(&mut self) {
        self.rewrite = None;
        if let Some(opened) = &self.opened
            && let Err(err) = opened.place.remove(NEW)
        {
            log::debug!("{}", err.with_cause());
        }
    }

    fn has_lost(&mut self, lost: Vec<ZnodePath>) {
        if lost.is_empty() {
            return;
        }
        let path = self.root.join(&self.name);
        for znode in &lost {
            warn!(
                "{}: the content of {znode} is damaged and dropped",
                path.display()
            );
        }
        let mut queue = self.shared.queue.lock();
        queue.n_dropped += lost.len() as u64;
        queue.lost.extend(lost);
    }

    fn succeeded(&mut self) {
        self.backoff = FIRST_BACKOFF;
        let mut queue = self.shared.queue.lock();
        let before = std::mem::replace(&mut queue.health, Health::Healthy);
        drop(queue);
        if let Health::Failing { since, .. } = before {
            self.logged.clear();
            let path = self.root.join(&self.name);
            let n_seconds = since.elapsed().unwrap_or_default().as_secs();
            info!("{} is written again, after {n_seconds} s", path.display());
        }
    }

    fn failed(&mut self, err: &Error) {
        self.drop_rewrite();
        self.retry_at = Instant::now() + self.backoff;
        self.backoff = (2 * self.backoff).min(LAST_BACKOFF);
        let reason = err.with_cause();
        if self.logged.insert(err.kind()) {
            warn!("{reason}; the cache is not written, and tried again");
        }
        let mut queue = self.shared.queue.lock();
        queue.n_failures += 1;
        queue.n_carried = self.carried.news.len();
        let since = match queue.health {
            Health::Failing { since, .. } => since,
            Health::Starting | Health::Healthy | Health::Locked { .. } => SystemTime::now(),
        };
        queue.health = Health::Failing { reason, since };
    }

    /// Tells whoever waits, and the status.
    fn show(&mut self) {
        let n_bytes = self.log.as_ref().map_or(0, |log| log.end);
        let mut queue = self.shared.queue.lock();
        queue.n_carried = self.carried.news.len();
        queue.n_bytes = n_bytes;
        drop(queue);
        self.shared.done.notify_all();
    }
}

/// Tells the others that the thread has ended, however it did.
pub(super) struct End(pub(super) Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_finished = true;
        if std::thread::panicking() {
            queue.health = Health::Failing {
                reason: "the thread that writes the cache has died".into(),
                since: SystemTime::now(),
            };
        }
        drop(queue);
        self.0.done.notify_all();
    }
}
