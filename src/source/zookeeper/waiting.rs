//! The requests of a session that wait for their replies, to find one that never comes.
//!
//! Replies come in the order of the requests, so one that was overtaken is lost, though the
//! connection looks well. Nobody else would notice: whoever asked would wait for long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// The requests that wait, by numbers in their order.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    numbers: BTreeSet<u64>,
    /// The latest that was answered.
    answered: u64,
}

/// A request that waits, until this is dropped.
pub(super) struct Asked {
    number: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Waiting {
    /// How long a reply that came may wait to be heard.
    const GRACE: Duration = Duration::from_secs(1);

    /// Resolves once a request was overtaken.
    pub(super) async fn misses_one(waiting: Arc<Mutex<Self>>) {
        let mut answered_before = 0;
        loop {
            tokio::time::sleep(Self::GRACE).await;
            let waiting = waiting.lock();
            let first = waiting.numbers.first();
            if first.is_some_and(|first| *first < answered_before) {
                return;
            }
            answered_before = waiting.answered;
        }
    }
}

impl Asked {
    pub(super) fn new(waiting: Arc<Mutex<Waiting>>) -> Self {
        let mut now = waiting.lock();
        now.next += 1;
        let number = now.next;
        now.numbers.insert(number);
        drop(now);
        Self { number, waiting }
    }

    pub(super) fn answered(self) {
        let mut now = self.waiting.lock();
        now.answered = now.answered.max(self.number);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.waiting.lock().numbers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_request_that_was_overtaken_is_missed() {
        let waiting = Arc::<Mutex<Waiting>>::default();
        let ask = || Asked::new(Arc::clone(&waiting));
        let missed = || async {
            let misses = Waiting::misses_one(Arc::clone(&waiting));
            let patience = Duration::from_secs(100);
            tokio::time::timeout(patience, misses).await.is_ok()
        };
        let (first, second, third) = (ask(), ask(), ask());
        assert!(!missed().await, "all wait");
        first.answered();
        assert!(!missed().await, "in order");
        third.answered();
        assert!(missed().await);
        // One that nobody waits for any more is not missed.
        drop(second);
        assert!(!missed().await);
        let last = ask();
        assert!(!missed().await);
        last.answered();
        assert!(!missed().await, "none waits");
    }
}
