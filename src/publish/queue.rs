//! What waits to be published: in order, but of each file only the newest change.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex};

use crate::path::FilePath;
use crate::publish::Known;
use crate::tree::Change;

/// The changes that wait.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something to publish, or the end.
    more: Condvar,
    /// Everything is published.
    idle: Condvar,
}

/// A change that waits.
pub(super) struct Item {
    pub(super) change: Change,
    pub(super) now: SystemTime,
    pub(super) known: Option<Known>,
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<FilePath>,
    items: HashMap<FilePath, Item>,
    /// Taken and not published yet.
    busy: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, change: Change, now: SystemTime, known: Option<Known>) {
        let path = match &change {
            Change::Put { path, .. }
            | Change::Remove { path }
            | Change::Confirm { path }
            | Change::MakeDirectory { path }
            | Change::RemoveDirectory { path } => path.clone(),
        };
        let mut waiting = self.waiting.lock();
        let Waiting { order, items, .. } = &mut *waiting;
        match items.get_mut(&path) {
            // What is to be published will be as current as the confirmation says.
            Some(_) if matches!(change, Change::Confirm { .. }) => return,
            Some(item) => *item = Item { change, now, known },
            None => {
                items.insert(path.clone(), Item { change, now, known });
                order.push_back(path);
            }
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Waits for changes and takes at most `most` of them. None at the end.
    pub(super) fn take(&self, most: usize) -> Option<Vec<Item>> {
        let mut waiting = self.waiting.lock();
        while waiting.order.is_empty() && !waiting.closed {
            self.more.wait(&mut waiting);
        }
        if waiting.order.is_empty() {
            return None;
        }
        waiting.busy = true;
        let n = waiting.order.len().min(most);
        let paths: Vec<_> = waiting.order.drain(..n).collect();
        let taken = paths.iter().filter_map(|path| waiting.items.remove(path)).collect();
        Some(taken)
    }

    /// What was taken is published.
    pub(super) fn published(&self) {
        let mut waiting = self.waiting.lock();
        waiting.busy = false;
        if waiting.order.is_empty() {
            self.idle.notify_all();
        }
    }

    pub(super) fn flush(&self) {
        let mut waiting = self.waiting.lock();
        while waiting.busy || !waiting.order.is_empty() {
            self.idle.wait(&mut waiting);
        }
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.more.notify_one();
    }
}
