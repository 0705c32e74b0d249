//! Makes room in memory: contents that need not be there go to the disk, the least recently used
//! first, once there are more of them than there may be.
//!
//! Only the thread here touches the disk, and holds no lock meanwhile; so one that is full or hung
//! costs nobody anything but memory. A content counts as used when it comes, and when the kernel
//! asks for it, which it does not for what is in its page cache. Nothing is written before there are
//! too many.
//!
//! What is found to lie on disk is read from there by threads of [`crate::fuse`], which nobody waits
//! for who asks for something else. As with [`crate::cache`], a disk that does not even answer a
//! kill keeps the process from ending; the next one goes on without it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::content::Bytes;
use crate::spill::{Spill, Spilled};
use crate::store::{Leaving, Memory, Reader};

/// How much goes to the disk at once, in bytes: enough to be worth a sync.
const N_AT_ONCE: u64 = 4 << 20;

/// How often free space is given back to the disk.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after the first failure; doubled for each one after it.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// The longest wait after a failure.
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// How often it is looked whether contents may change their place again.
const FROZEN: Duration = Duration::from_millis(100);

/// What the thread needs of others; these calls are made by it alone.
pub struct Place {
    /// Makes the file: without a name, and ours alone.
    pub create: Box<dyn Fn() -> io::Result<File> + Send>,
    /// Hands its descriptor to whoever keeps the record. Does not wait.
    pub keep: Box<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send>,
}

/// Makes room while this lives. Dropping it waits for nothing: what is being written is finished by
/// the thread, unless the process ends. There is one at a time.
pub struct Spilling {
    memory: Memory,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// Why memory holds more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The last error, in words.
    pub reason: String,
    /// When the first of them came.
    pub since: SystemTime,
}

struct Worker {
    memory: Memory,
    place: Place,
    trouble: Arc<Mutex<Option<Trouble>>>,
    backoff: Duration,
    /// What was logged of the present trouble.
    logged: HashSet<io::ErrorKind>,
}

impl Spilling {
    /// Starts the thread. So many bytes of contents that need not be in memory may be there.
    ///
    /// The tree must be recorded; a successor must have been told to go on.
    pub fn start(tree: &Reader, place: Place, most: u64) -> io::Result<Self> {
        let memory = tree.memory();
        memory.open();
        memory.limit(most);
        let trouble = Arc::default();
        let worker = Worker {
            memory: memory.clone(),
            place,
            trouble: Arc::clone(&trouble),
            backoff: FIRST_BACKOFF,
            logged: HashSet::new(),
        };
        let thread = std::thread::Builder::new()
            .name("spill".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            memory,
            thread: Some(thread),
            trouble,
        })
    }

    /// Ends, and waits for the disk, so that another may begin.
    pub fn end(mut self) {
        self.memory.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that makes room in memory panicked");
        }
    }

    /// So many bytes may be in memory from now on.
    pub fn limit(&self, most: u64) {
        self.memory.limit(most);
    }

    /// How many bytes are in memory that need not be there; those of very short contents do not
    /// count.
    pub fn n_bytes_in_memory(&self) -> u64 {
        self.memory.n_bytes()
    }

    /// How many bytes are on disk.
    pub fn n_bytes_on_disk(&self) -> u64 {
        self.memory.spill().map_or(0, |spill| spill.n_bytes())
    }

    /// What is not as it should be.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }
}

impl Drop for Spilling {
    fn drop(&mut self) {
        self.memory.close();
    }
}

impl Worker {
    fn run(mut self) {
        // What a predecessor left over is given back at once.
        self.tidy();
        let mut next_tidy = Instant::now() + TIDY_INTERVAL;
        while self.memory.wait(next_tidy) {
            if Instant::now() >= next_tidy {
                self.tidy();
                next_tidy = Instant::now() + TIDY_INTERVAL;
            }
            let leaving = match self.memory.may_change() {
                true => self.memory.leaving(N_AT_ONCE),
                false => {
                    self.memory.pause(Instant::now() + FROZEN);
                    continue;
                }
            };
            if leaving.is_empty() {
                continue;
            }
            match self.make_room(leaving) {
                Ok(()) => self.succeeded(),
                Err(err) => {
                    self.failed(&err);
                    // What was written in vain must not fill the disk.
                    self.tidy();
                    self.memory.pause(Instant::now() + self.backoff);
                    self.backoff = (2 * self.backoff).min(LAST_BACKOFF);
                }
            }
        }
    }

    fn make_room(&self, leaving: Vec<Leaving>) -> io::Result<()> {
        let spill = self.spill()?;
        // What another file has in common may lie on disk already.
        let there: Vec<Option<Bytes>> = leaving
            .iter()
            .map(|leaving| leaving.content().in_memory())
            .collect();
        let written = spill.write(there.iter().flatten().map(|bytes| &**bytes))?;
        let mut written = written.into_iter();
        let mut left: Vec<(Leaving, Arc<Spilled>)> = Vec::with_capacity(leaving.len());
        for (leaving, bytes) in leaving.into_iter().zip(there) {
            let spilled = match bytes {
                Some(_) => written.next(),
                None => leaving.content().on_disk(),
            };
            left.extend(spilled.map(|spilled| (leaving, spilled)));
        }
        self.memory.have_left(left)
    }

    /// The place on disk, made when it is first needed.
    fn spill(&self) -> io::Result<Arc<Spill>> {
        match self.memory.spill() {
            Some(spill) if spill.is_usable() => Ok(spill),
            Some(_) => Err(io::Error::other(
                "the contents on disk did not come with the record",
            )),
            None => {
                let spill = Spill::new((self.place.create)()?);
                self.memory.use_spill(&spill, &self.place.keep)?;
                Ok(spill)
            }
        }
    }

    fn tidy(&self) {
        if let Some(spill) = self.memory.spill().filter(|spill| spill.is_usable())
            && self.memory.may_change()
            && let Err(err) = spill.give_back()
        {
            log::debug!("space on disk could not be given back: {err}");
        }
    }

    fn succeeded(&mut self) {
        self.backoff = FIRST_BACKOFF;
        if let Some(Trouble { since, .. }) = self.trouble.lock().take() {
            self.logged.clear();
            let n_seconds = since.elapsed().unwrap_or_default().as_secs();
            log::info!("contents go to the disk again, after {n_seconds} s");
        }
    }

    fn failed(&mut self, err: &io::Error) {
        // A freeze came between.
        if err.kind() == io::ErrorKind::WouldBlock {
            return;
        }
        if self.logged.insert(err.kind()) {
            log::warn!(
                "memory holds more than cache.max_bytes, for contents cannot be put on disk: {err}; \
                 it is tried again"
            );
        }
        let mut trouble = self.trouble.lock();
        let since = trouble
            .as_ref()
            .map_or_else(SystemTime::now, |trouble| trouble.since);
        *trouble = Some(Trouble {
            reason: err.to_string(),
            since,
        });
    }
}
