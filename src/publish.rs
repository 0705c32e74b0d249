//! Publishes changes: a queue in which the newest change of each file wins, and a thread that
//! carries them to the kernel.
//!
//! With a publisher process, a change is a rename(2) of a staged file: see [`by_rename`]. Without
//! one, the tree is changed and the kernel told to forget what it held: see [`by_notice`], which
//! wakes no inotify watcher. Whatever the way, when a change counts as published every later open
//! shows it.
//!
//! The thread holds no lock while it waits, for the publisher's system calls are answered by the
//! threads that serve the kernel.

mod by_notice;
mod by_rename;
mod queue;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use fuser::Notifier;

use crate::fuse::Pollers;
use crate::path::ZnodePath;
use crate::source::Stat;
use crate::store::Writer;
use crate::tree::{Change, Staged, Step};
use by_rename::Remote;
use queue::{Item, Queue};

/// How many changes are carried to the kernel together: enough to keep both processes busy, few
/// enough that a change which comes meanwhile does not wait long.
const BATCH: usize = 64;

/// Takes changes and publishes them.
pub struct Publishing {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

/// What a change makes known of a znode once it is published.
pub type Known = (ZnodePath, Option<Stat>);

/// What the thread works with.
struct Worker {
    queue: Arc<Queue>,
    tree: Writer,
    notifier: Notifier,
    pollers: Pollers,
    publisher: Option<Remote>,
}

impl Publishing {
    /// Starts the thread, which publishes by notice until it is given a publisher.
    pub fn spawn(tree: Writer, notifier: Notifier, pollers: Pollers) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let worker = Worker { queue: Arc::clone(&queue), tree, notifier, pollers, publisher: None };
        let thread =
            std::thread::Builder::new().name("publish".into()).spawn(move || worker.run())?;
        Ok(Self { queue, thread })
    }

    /// Publishes a change, which was found at `now`, and comes back at once. Of several changes of
    /// one file that wait, the last is published.
    pub fn publish(&self, change: Change, now: SystemTime, known: Option<Known>) {
        self.queue.push(change, now, known);
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
        while let Some(batch) = self.queue.take(BATCH) {
            self.publish(batch);
            self.queue.published();
        }
    }

    fn publish(&mut self, batch: Vec<Item>) {
        let mut steps: Vec<(Step, SystemTime)> = Vec::new();
        let mut known = Vec::new();
        for item in batch {
            let Item { change, now, known: makes_known } = item;
            if let Change::Confirm { path } = &change {
                if let Some(effect) = self.tree.confirm(path, now) {
                    by_notice::tell(&self.notifier, &effect);
                }
            } else if let Staged::Step(step) = self.tree.stage(change, now) {
                steps.push((step, now));
            }
            known.extend(makes_known);
        }
        if let Some(publisher) = &mut self.publisher {
            by_rename::publish(publisher, &self.tree, &self.notifier, &steps);
        }
        for (step, now) in &steps {
            // What the publisher did not bring about, for there is none or it failed.
            if let Some(effect) = self.tree.settle(step.directory, &step.name, *now) {
                by_notice::tell(&self.notifier, &effect);
            }
            if let Some(old) = step.replaces {
                self.pollers.wake(old);
            }
        }
        for (path, stat) in known {
            self.tree.know(path, stat);
        }
    }
}
