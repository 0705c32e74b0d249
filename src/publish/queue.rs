//! What waits to be published: in order, but of a file whose content changes only the newest.
//!
//! A change takes the place of an older one of the same file where nobody could tell the difference
//! afterwards: where nothing was pushed since at the same path, above it or below it. So whatever
//! comes and goes, and turns from a file into a directory and back, the end is as if every change
//! had been published; and changes of directories are, each of them.

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

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// The number of the first item; they are numbered in the order they came.
    first: u64,
    /// Where something waits, and the directories above.
    places: HashMap<FilePath, Place>,
    tasks: VecDeque<Task>,
    /// Changes wait until this is over.
    frozen: bool,
    /// Taken and not published yet.
    busy: bool,
    closed: bool,
}

/// The numbers of the last items.
#[derive(Default)]
struct Place {
    /// Of the file of this path.
    file: Option<u64>,
    /// Of the file or the directory of this path.
    here: Option<u64>,
    /// Of this path and all below it.
    below: Option<u64>,
    /// How many items wait at this path and below it.
    n_items: usize,
}

impl Queue {
    pub(super) fn push(&self, change: Change, now: SystemTime, known: Option<Known>) {
        self.waiting.lock().push(Item { change, now, known });
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
                Task::Freeze if !waiting.items.is_empty() => {
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
            false => waiting.items.len().min(most),
        };
        let items = (0..n).filter_map(|_| waiting.pop()).collect();
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
        !self.tasks.is_empty() || (!self.frozen && !self.items.is_empty())
    }

    fn push(&mut self, item: Item) {
        let path = item.change.path();
        let older = match item.change.kind() {
            Kind::File => self.waits(path),
            Kind::Directory => None,
        };
        if let Some(number) = older {
            let alone = self.is_last_of_its_place(number, path);
            let older = &mut self.items[(number - self.first) as usize];
            if is_in(&item, older) {
                return;
            }
            if alone && takes_the_place_of(&item.change, &older.change) {
                *older = item;
                return;
            }
        }
        let number = self.first + self.items.len() as u64;
        for path in path.ancestors() {
            let place = self.places.entry(path).or_default();
            place.below = Some(number);
            place.n_items += 1;
        }
        let place = self.places.entry(path.clone()).or_default();
        (place.here, place.below) = (Some(number), Some(number));
        if item.change.kind() == Kind::File {
            place.file = Some(number);
        }
        place.n_items += 1;
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.first += 1;
        let path = item.change.path();
        for path in path.ancestors().chain([path.clone()]) {
            if let Some(place) = self.places.get_mut(&path) {
                place.n_items -= 1;
                if place.n_items == 0 {
                    self.places.remove(&path);
                }
            }
        }
        Some(item)
    }

    /// The last change of the file that waits.
    fn waits(&self, path: &FilePath) -> Option<u64> {
        let number = self.places.get(path)?.file?;
        (number >= self.first).then_some(number)
    }

    /// Whether nothing came after this item that is about its path, or above or below it.
    fn is_last_of_its_place(&self, number: u64, path: &FilePath) -> bool {
        let last = Some(number);
        self.places.get(path).is_none_or(|it| it.below <= last)
            && path.ancestors().all(|above| {
                let place = self.places.get(&above);
                place.is_none_or(|it| it.here <= last)
            })
    }
}

/// Whether a change is none after an older one of the same file that waits, which may be made to
/// say as much.
fn is_in(newer: &Item, older: &mut Item) -> bool {
    if !matches!(newer.change, Change::Confirm { .. }) {
        return false;
    }
    match &mut older.change {
        // What is to be published will be as current as the confirmation says.
        Change::Recall { mtime, .. } => {
            *mtime = newer.now.max(*mtime);
            // What was told is current still, and says more.
            if older.known.is_none() {
                older.known.clone_from(&newer.known);
            }
            true
        }
        Change::Put { .. } | Change::Break { .. } | Change::Remove { .. } => true,
        Change::Confirm { .. } | Change::MakeDirectory { .. } | Change::RemoveDirectory { .. } => {
            false
        }
    }
}

/// Whether a change alone does the same as it does after an older one of the same file.
fn takes_the_place_of(newer: &Change, older: &Change) -> bool {
    match newer {
        Change::Put { .. } | Change::Recall { .. } | Change::Remove { .. } => true,
        // Of the file that the older one shows.
        Change::Break { .. } | Change::Confirm { .. } => {
            matches!(older, Change::Break { .. } | Change::Confirm { .. })
        }
        Change::MakeDirectory { .. } | Change::RemoveDirectory { .. } => false,
    }
}

#[cfg(test)]
mod tests;
