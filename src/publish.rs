//! Publishes changes: a queue in which the newest content of each file wins, and a thread that
//! carries them to the kernel.
//!
//! With a publisher process, a change is a rename(2) of a staged file (`publish/by_rename.rs`).
//! Without one, the tree is changed and the kernel told to forget what it held
//! (`publish/by_notice.rs`), which wakes no inotify watcher. Whatever the way, when a change counts
//! as published every later open shows it.
//!
//! The thread holds no lock while it waits, for the publisher's system calls are answered by the
//! threads that serve the kernel.

mod by_notice;
mod by_rename;
mod queue;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use fuser::Notifier;

use crate::cache::Cache;
use crate::fuse::Pollers;
use crate::path::{FilePath, ZnodePath};
use crate::shown::Origin;
use crate::source::{Stat, Told};
use crate::store::{Reader, Writer};
use crate::tree::{Change, Ino, Staged, Step};
use crate::wire::Socket;
use by_rename::Remote;
use queue::{Item, Queue, Task};

/// How many changes are carried to the kernel together: enough to keep both processes busy, few
/// enough that a change which comes meanwhile does not wait long.
const BATCH: usize = 64;

/// How long changes wait for another publisher when one has died, before the kernel is notified
/// without.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes changes and publishes them.
pub struct Publishing {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

/// What holds of a znode once a change is published, for a successor and for the cache to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The znode.
    pub path: ZnodePath,
    /// What holds of it.
    pub news: News,
    /// What the file of the change shows from then on, where it shows anything.
    pub shows: Option<Stat>,
    /// Whether all files of the znode are published then; before that, what holds is not noted.
    pub everywhere: bool,
}

/// What holds of a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// This was told of it.
    Told(Told),
    /// What was told before is current still.
    Current,
    /// It is wanted no more, and nothing is to be known of it.
    Forgotten,
}

/// What a file was published to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A znode.
    Shows {
        /// Which.
        znode: ZnodePath,
        /// What ZooKeeper keeps beside its bytes.
        stat: Stat,
        /// The inode that shows it; unknown where nothing was published.
        ino: Option<Ino>,
    },
    /// There is no such file.
    Gone,
}

/// Told what a file was published to show.
pub type Published = dyn Fn(&FilePath, Hint) + Send;

/// What others are told, by these calls, which do not wait.
pub struct Tell {
    /// This was published, or was so before and is confirmed.
    pub published: Box<Published>,
    /// The record is in this memory from now on.
    pub record: Box<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send>,
    /// The publisher with this process id hangs, and another is wanted.
    pub hangs: Box<dyn Fn(u32) + Send>,
}

/// What the thread works with.
struct Worker {
    queue: Arc<Queue>,
    tree: Writer,
    reader: Reader,
    notifier: Notifier,
    pollers: Pollers,
    publisher: Option<Remote>,
    tell: Tell,
    awaits_publisher: bool,
    cache: Option<Arc<Cache>>,
}

impl Known {
    /// What the file of the change shows.
    fn origin(&self) -> Option<Origin> {
        let stat = self.shows?;
        Some(Origin {
            path: self.path.clone(),
            stat: Some(stat),
        })
    }
}

impl Publishing {
    /// Starts the thread, which publishes by notice until it is given a publisher; unless it is to
    /// await one for a while before it publishes anything.
    pub fn spawn(
        (tree, reader): (Writer, Reader),
        notifier: Notifier,
        pollers: Pollers,
        tell: Tell,
        awaits_publisher: bool,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let worker = Worker {
            queue: Arc::clone(&queue),
            tree,
            reader,
            notifier,
            pollers,
            publisher: None,
            tell,
            awaits_publisher,
            cache: None,
        };
        let thread = std::thread::Builder::new()
            .name("publish".into())
            .spawn(move || worker.run())?;
        Ok(Self { queue, thread })
    }

    /// Publishes a change, which was found at `now`, and comes back at once. Of several changes of
    /// the content of one file that wait, the last is published. `known` holds once it is.
    pub fn publish(&self, change: Change, now: SystemTime, known: Option<Known>) {
        self.queue.push(change, now, known);
    }

    /// Goes through this publisher, known by its process id, from now on; or notifies the kernel,
    /// without one. Whoever waits in [`Publishing::freeze`] or [`Publishing::flush`] may wait for
    /// this, so it is to be called from another thread.
    pub fn use_publisher(&self, publisher: Option<(u32, Socket)>) {
        let publisher = publisher.map(|(pid, socket)| Remote::new(pid, socket));
        self.queue.order(Task::Use(publisher));
    }

    /// The mount is about to be shown: a publisher will be given, or refused, and what comes now
    /// waits for that.
    pub fn await_publisher(&self) {
        self.queue.order(Task::Await);
    }

    /// Notes in this cache what is published from now on.
    pub fn use_cache(&self, cache: Option<Arc<Cache>>) {
        self.queue.order(Task::Keep(cache));
    }

    /// Publishes what waits, and then nothing until [`Publishing::thaw`]: the record is complete.
    /// Comes back when that is so.
    pub fn freeze(&self) {
        self.queue.order(Task::Freeze);
        self.queue.flush();
    }

    /// Goes on after [`Publishing::freeze`].
    pub fn thaw(&self) {
        self.queue.order(Task::Thaw);
    }

    /// What is on record grew by something else than changes: looks whether it is to be written
    /// anew.
    pub fn tidy(&self) {
        self.queue.order(Task::Tidy);
    }

    /// How many changes were published, those that changed nothing not among them.
    pub fn n_published(&self) -> u64 {
        self.queue.n_published.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over before is published.
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// Publishes the rest and ends the thread.
    pub fn join(self) {
        self.queue.close();
        if self.thread.join().is_err() {
            log::error!("the publishing thread panicked");
        }
    }
}

impl Worker {
    fn run(mut self) {
        if self.awaits_publisher {
            self.publisher = self.queue.wait_for_publisher(PATIENCE);
            self.clear_staging();
        }
        while let Some((tasks, batch)) = self.queue.take(BATCH) {
            for task in tasks {
                match task {
                    Task::Use(publisher) => self.publisher = publisher,
                    Task::Keep(cache) => {
                        // The one before may wait for its disk.
                        let before = std::mem::replace(&mut self.cache, cache);
                        std::thread::spawn(move || drop(before));
                    }
                    Task::Await => self.publisher = self.queue.wait_for_publisher(PATIENCE),
                    Task::Freeze => self.tree.freeze(),
                    Task::Thaw => self.tree.thaw(),
                    // As after every batch.
                    Task::Tidy => {}
                }
            }
            self.publish(batch);
            if self.tree.wants_compaction()
                && let Err(err) = self.tree.compact(&self.tell.record)
            {
                log::error!("the record cannot be written anew: {err}");
            }
            self.queue.published();
        }
    }

    /// What the server before had staged is wanted by nobody.
    fn clear_staging(&mut self) {
        let left = self.reader.inherited();
        if let Some(publisher) = &mut self.publisher
            && let Err(err) = by_rename::clear_staging(publisher, &left)
        {
            log::debug!("what was staged stays: {err}");
            self.next_publisher(&err);
        }
    }

    /// The publisher is of no use any more.
    fn next_publisher(&mut self, err: &io::Error) {
        match self.publisher.take() {
            Some(publisher) if by_rename::hangs(err) => {
                log::warn!("the publisher, process {}, does not answer", publisher.pid);
                (self.tell.hangs)(publisher.pid);
            }
            Some(_) | None => log::warn!("the publisher is gone: {err}"),
        }
        self.publisher = self.queue.wait_for_publisher(PATIENCE);
    }

    fn publish(&mut self, batch: Vec<Item>) {
        let mut steps: Vec<(Step, SystemTime)> = Vec::new();
        let mut known: Vec<(Option<Known>, FilePath, bool)> = Vec::new();
        for Item {
            change,
            now,
            known: makes_known,
        } in batch
        {
            let file = change.path().clone();
            let goes = matches!(change, Change::Remove { .. });
            if let Change::Confirm { path } = &change {
                if let Some(effect) = self.tree.confirm(path, now) {
                    by_notice::tell(&self.notifier, &effect);
                }
            } else {
                // What is made in a directory finds the directory there, and what empties one
                // comes before its end.
                let is_related = |(step, _): &(Step, _)| are_related(&step.path, &file);
                if steps.iter().any(is_related) || known.iter().any(|(_, other, _)| *other == file)
                {
                    self.carry_out(&std::mem::take(&mut steps));
                    self.note_all(&mut known);
                }
                let origin = makes_known.as_ref().and_then(Known::origin);
                match self.tree.stage_origin(change, origin, now) {
                    Staged::Step(step) => steps.push((step, now)),
                    Staged::Tell(effect) => by_notice::tell(&self.notifier, &effect),
                    Staged::Nothing | Staged::Done => {}
                }
            }
            if makes_known.is_some() || goes {
                known.push((makes_known, file, goes));
            }
        }
        self.carry_out(&steps);
        self.note_all(&mut known);
    }

    fn note_all(&mut self, known: &mut Vec<(Option<Known>, FilePath, bool)>) {
        for (known, file, goes) in known.drain(..) {
            if let Some(known) = known.as_ref().filter(|known| known.everywhere) {
                self.note(known, &file);
            }
            let shows = known.and_then(|known| {
                Some(Hint::Shows {
                    stat: known.shows?,
                    znode: known.path,
                    // Nobody else leads a name elsewhere, so it is the one.
                    ino: self.reader.find(&file),
                })
            });
            if let Some(hint) = if goes { Some(Hint::Gone) } else { shows } {
                (self.tell.published)(&file, hint);
            }
        }
    }

    /// What was published is for a successor to know, and for the cache.
    fn note(&mut self, known: &Known, file: &FilePath) {
        let path = &known.path;
        match known.news {
            News::Told(told) => self.tree.know(path, told),
            News::Forgotten => self.tree.know_nothing(path),
            News::Current => {}
        }
        let Some(cache) = &self.cache else {
            return;
        };
        let shown = self.reader.find(file).and_then(|ino| self.reader.attr(ino));
        match (known.news, shown) {
            (News::Current, Some(attr)) => cache.confirmed([path], attr.mtime),
            (News::Told(Told::Content(stat)), Some(attr)) => {
                if let Some(content) = self.reader.content(attr.ino) {
                    cache.content(path, stat, content, attr.mtime);
                }
            }
            (News::Told(Told::Absent(before)), _) => cache.absent(path, before.unwrap_or(0)),
            (News::Forgotten, _) => cache.forgotten(path),
            (News::Told(Told::Content(_) | Told::Lost(_)) | News::Current, _) => {}
        }
    }

    /// Leads the kernel to what was staged.
    fn carry_out(&mut self, steps: &[(Step, SystemTime)]) {
        self.by_rename(steps);
        let n_steps = steps.len() as u64;
        self.queue.n_published.fetch_add(n_steps, Ordering::Relaxed);
        for (step, now) in steps {
            // What the publisher did not bring about, for there is none or it failed.
            if let Some(effect) = self.tree.settle(step.directory, &step.name, *now) {
                by_notice::tell(&self.notifier, &effect);
            }
            if let Some(old) = step.replaces {
                self.pollers.wake(old);
            }
        }
    }

    /// Has the publisher carry the steps out; when it dies meanwhile, the next one the rest.
    fn by_rename(&mut self, steps: &[(Step, SystemTime)]) {
        while let Some(publisher) = &mut self.publisher {
            let left: Vec<&Step> = steps
                .iter()
                .map(|(step, _)| step)
                .filter(|step| self.tree.is_staged(step.directory, &step.name))
                .collect();
            if left.is_empty() {
                return;
            }
            let Err(err) = by_rename::publish(publisher, &left) else {
                return;
            };
            self.next_publisher(&err);
        }
    }
}

/// Whether one of the paths leads through the other.
fn are_related(one: &FilePath, other: &FilePath) -> bool {
    one.names()
        .iter()
        .zip(other.names())
        .all(|(one, other)| one == other)
}
