//! The contents that lie in memory and need not, in the order of their use, and how much they take.

use std::hash::BuildHasherDefault;
use std::time::Instant;

use lru::LruCache;
use parking_lot::{Condvar, Mutex};

use crate::numbers::Spread;
use crate::tree::Ino;

/// A content of fewer bytes takes about as much to know where it lies on disk, so it stays.
pub(super) const WORTH: usize = 256;

/// How much they may take, and how much they do. Its lock is taken after that of the tree.
pub(super) struct Residents {
    state: Mutex<State>,
    /// There are more than there may be.
    over: Condvar,
}

struct State {
    /// How many bytes each has; the least recently used last.
    table: LruCache<Ino, usize, BuildHasherDefault<Spread>>,
    n_bytes: u64,
    /// None where nothing is ever dropped.
    most: Option<u64>,
    is_over: bool,
}

impl Residents {
    /// There is one more, or it was used again.
    pub(super) fn put(&self, ino: Ino, n_bytes: usize) {
        let mut state = self.state.lock();
        let old = state.table.put(ino, n_bytes);
        state.n_bytes = state.n_bytes + n_bytes as u64 - old.unwrap_or(0) as u64;
        self.tell(&state);
    }

    /// It is used.
    pub(super) fn touch(&self, ino: Ino) {
        self.state.lock().table.promote(&ino);
    }

    /// It is not among them any more.
    pub(super) fn remove(&self, ino: Ino) {
        let mut state = self.state.lock();
        let old = state.table.pop(&ino);
        state.n_bytes -= old.unwrap_or(0) as u64;
    }

    /// So many bytes may be in memory from now on.
    pub(super) fn limit(&self, most: u64) {
        let mut state = self.state.lock();
        state.most = Some(most);
        self.tell(&state);
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.state.lock().n_bytes
    }

    /// Somebody is to wait.
    pub(super) fn open(&self) {
        self.state.lock().is_over = false;
    }

    /// Whoever waits is to come back.
    pub(super) fn close(&self) {
        self.state.lock().is_over = true;
        self.over.notify_all();
    }

    /// Waits until there are too many, at most until then. False when it is closed.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while state.n_excess() == 0 && !state.is_over {
            if self.over.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        !state.is_over
    }

    /// [`Residents::wait`], however many there are.
    pub(super) fn pause(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.is_over {
            if self.over.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        !state.is_over
    }

    /// Those that are to go, the least recently used first: as many as there are too many, or so
    /// many bytes of them at least.
    pub(super) fn oldest(&self, n_bytes: u64) -> Vec<Ino> {
        let state = self.state.lock();
        let mut left = state.n_excess().min(n_bytes);
        let mut oldest = Vec::new();
        for (ino, length) in state.table.iter().rev() {
            if left == 0 {
                break;
            }
            oldest.push(*ino);
            left = left.saturating_sub(*length as u64);
        }
        oldest
    }

    fn tell(&self, state: &State) {
        if state.n_excess() > 0 {
            self.over.notify_one();
        }
    }
}

impl State {
    fn n_excess(&self) -> u64 {
        let most = self.most.unwrap_or(u64::MAX);
        self.n_bytes.saturating_sub(most)
    }
}

impl Default for Residents {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                table: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
                n_bytes: 0,
                most: None,
                is_over: false,
            }),
            over: Condvar::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_must() {
        let residents = Residents::default();
        for ino in 20..25 {
            residents.put(Ino(ino), 100);
        }
        assert_eq!(residents.oldest(u64::MAX), [], "there is no limit");
        residents.limit(500);
        assert_eq!(residents.oldest(u64::MAX), []);
        residents.limit(250);
        let oldest = |n| {
            residents
                .oldest(n)
                .iter()
                .map(|ino| ino.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(oldest(u64::MAX), [20, 21, 22]);
        assert_eq!(oldest(1), [20]);
        residents.touch(Ino(20));
        residents.put(Ino(22), 200);
        assert_eq!(residents.n_bytes(), 600);
        assert_eq!(oldest(u64::MAX), [21, 23, 24, 20]);
        residents.remove(Ino(23));
        residents.remove(Ino(23));
        residents.touch(Ino(23));
        assert_eq!(oldest(u64::MAX), [21, 24, 20]);
        residents.limit(0);
        assert_eq!(oldest(u64::MAX), [21, 24, 20, 22]);
        assert_eq!(residents.n_bytes(), 500);
    }
}
