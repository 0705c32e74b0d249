//! Waiting for a condition with a deadline, never for a duration.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(3);

/// Waits until `condition` holds; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(deadline, what, || condition().then_some(()));
}

/// Waits until `find` finds something and gives it; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_for<T>(deadline: Duration, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain: {what}"
        );
        thread::sleep(INTERVAL);
    }
}

/// Makes sure that `condition` holds all the time for `duration`; panics with `what` when it does
/// not. For what must *not* happen; it is looked at again and again.
#[track_caller]
pub fn holds_for(duration: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration {
        assert!(condition(), "not so after {:?}: {what}", start.elapsed());
        thread::sleep(INTERVAL);
    }
}
