//! Who waits with poll(2) for a version to be superseded.

use std::collections::HashMap;
use std::sync::Arc;

use fuser::PollNotifier;
use parking_lot::Mutex;

use crate::tree::Ino;

/// How many open files of one inode are kept in mind. Nobody says when one is closed, so when there
/// are more all are woken: those that are still there ask again.
const MOST_WAITING: usize = 1024;

/// Those who wait, by inode. The kernel names each open file by a handle of its own, and has one
/// notice for all that wait on it.
#[derive(Clone, Default)]
pub struct Pollers(Arc<Mutex<HashMap<Ino, HashMap<u64, PollNotifier>>>>);

impl Pollers {
    /// Somebody waits.
    pub(super) fn add(&self, ino: Ino, waiting: PollNotifier) {
        let full = self
            .0
            .lock()
            .get(&ino)
            .is_some_and(|all| all.len() >= MOST_WAITING);
        if full {
            self.wake(ino);
        }
        self.0
            .lock()
            .entry(ino)
            .or_default()
            .insert(waiting.handle().0, waiting);
    }

    /// Nobody has the inode open any more.
    pub(super) fn forget(&self, ino: Ino) {
        self.0.lock().remove(&ino);
    }

    /// The inode was superseded: all who wait ask again, and are told.
    pub fn wake(&self, ino: Ino) {
        let waiting = self.0.lock().remove(&ino);
        for (_, waiting) in waiting.into_iter().flatten() {
            if let Err(err) = waiting.notify() {
                log::debug!("a poller of inode {} is gone: {err}", ino.0);
            }
        }
    }
}
