//! What waits to be published: in order, but of each file only the newest change.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::cache::Cache;
use crate::path::FilePath;
use crate::publish::Known;
use crate::publish::by_rename::Remote;
use crate::tree::{Change, Kind};

/// What is to be done besides publishing, before what comes later.
pub(super) enum Task {
    /// Go through this publisher, or none.
    Use(Option<Remote>),
    /// Wait for a publisher to be given before anything else is published.
    Await,
    /// Note in this cache what is published, or in none.
    Keep(Option<Arc<Cache>>),
    /// Publish what waits and no more.
    Freeze,
    /// Publish again.
    Thaw,
    /// Look whether the record is to be written anew.
    Tidy,
}

/// The changes that wait.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something to publish, or the end.
    more: Condvar,
    /// Everything is published.
    idle: Condvar,
    /// How many changes were.
    pub(super) n_published: AtomicU64,
}

/// A change that waits.
pub(super) struct Item {
    pub(super) change: Change,
    pub(super) now: SystemTime,
    pub(super) known: Option<Known>,
}

/// A file that becomes a directory is two changes, as it is two system calls.
type Key = (FilePath, Kind);

#[derive(Default)]
struct Waiting {
    order: VecDeque<Key>,
    items: HashMap<Key, Item>,
    tasks: VecDeque<Task>,
    /// Changes wait until this is over.
    frozen: bool,
    /// Taken and not published yet.
    busy: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, change: Change, now: SystemTime, known: Option<Known>) {
        let (path, kind) = (change.path().clone(), change.kind());
        let other = match kind {
            Kind::File => Kind::Directory,
            Kind::Directory => Kind::File,
        };
        let mut waiting = self.waiting.lock();
        let Waiting { order, items, .. } = &mut *waiting;
        // What makes way for the other kind comes before it, and what empties a directory before
        // its end; so such a change never takes the place of an older one.
        let comes_last = kind == Kind::Directory || items.contains_key(&(path.clone(), other));
        let key = (path, kind);
        match items.get_mut(&key) {
            Some(item) if matches!(change, Change::Confirm { .. }) => {
                // What is to be published will be as current as the confirmation says.
                if let Change::Recall { mtime, .. } = &mut item.change {
                    *mtime = now.max(*mtime);
                    item.known = known;
                }
                return;
            }
            Some(item) => {
                *item = Item { change, now, known };
                if comes_last {
                    order.retain(|waits| *waits != key);
                    order.push_back(key);
                }
            }
            None => {
                items.insert(key.clone(), Item { change, now, known });
                order.push_back(key);
            }
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Orders a task. A freeze comes after all that waits.
    pub(super) fn order(&self, task: Task) {
        self.waiting.lock().tasks.push_back(task);
        self.more.notify_one();
    }

    /// Waits for something to do, and takes the tasks and at most `most` changes. None at the end.
    pub(super) fn take(&self, most: usize) -> Option<(Vec<Task>, Vec<Item>)> {
        let mut waiting = self.waiting.lock();
        while !waiting.has_work() && !waiting.closed {
            self.more.wait(&mut waiting);
        }
        if !waiting.has_work() {
            return None;
        }
        waiting.busy = true;
        let mut tasks = Vec::new();
        while let Some(task) = waiting.tasks.pop_front() {
            match task {
                Task::Freeze if !waiting.order.is_empty() => {
                    waiting.tasks.push_front(task);
                    break;
                }
                Task::Freeze => waiting.frozen = true,
                Task::Thaw => waiting.frozen = false,
                // What it waits for may be the next task.
                Task::Await => {
                    tasks.push(task);
                    break;
                }
                Task::Use(_) | Task::Keep(_) | Task::Tidy => {}
            }
            tasks.push(task);
        }
        let n = match waiting.frozen {
            true => 0,
            false => waiting.order.len().min(most),
        };
        let keys: Vec<_> = waiting.order.drain(..n).collect();
        let items = keys
            .iter()
            .filter_map(|key| waiting.items.remove(key))
            .collect();
        Some((tasks, items))
    }

    /// Waits for a publisher to be given; none if that takes too long, or is said.
    pub(super) fn wait_for_publisher(&self, patience: Duration) -> Option<Remote> {
        let deadline = Instant::now() + patience;
        let mut waiting = self.waiting.lock();
        loop {
            let given = waiting
                .tasks
                .iter()
                .position(|task| matches!(task, Task::Use(_)));
            if let Some(at) = given {
                return match waiting.tasks.remove(at) {
                    Some(Task::Use(publisher)) => publisher,
                    Some(Task::Await | Task::Keep(_) | Task::Freeze | Task::Thaw | Task::Tidy)
                    | None => None,
                };
            }
            if waiting.closed || self.more.wait_until(&mut waiting, deadline).timed_out() {
                return None;
            }
        }
    }

    /// What was taken is published.
    pub(super) fn published(&self) {
        let mut waiting = self.waiting.lock();
        waiting.busy = false;
        if !waiting.has_work() {
            self.idle.notify_all();
        }
    }

    pub(super) fn flush(&self) {
        let mut waiting = self.waiting.lock();
        while waiting.busy || waiting.has_work() {
            self.idle.wait(&mut waiting);
        }
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.more.notify_one();
    }
}

impl Waiting {
    fn has_work(&self) -> bool {
        !self.tasks.is_empty() || (!self.frozen && !self.order.is_empty())
    }
}
