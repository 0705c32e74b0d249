//! When the sweep comes to which znode that finds what a watch did not tell.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::SHORTEST_INTERVAL;
use super::node::Id;

/// The longest that the audit takes to come round to every znode. Where heartbeats are frequent it
/// takes two intervals of theirs, so that they do not vouch for long for what a lost watch hid. A
/// new session, which has just looked at everything, is left alone for a tenth of that.
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

pub(super) struct Audit {
    pub(super) due: Instant,
    /// The znodes that this sweep has not come to.
    left: VecDeque<Id>,
}

impl Audit {
    pub(super) fn new(heartbeat_interval: Duration) -> Self {
        Self {
            due: Instant::now() + sweep(heartbeat_interval) / 10,
            left: VecDeque::new(),
        }
    }

    /// The next few znodes, of `n` at hand.
    pub(super) fn next(
        &mut self,
        heartbeat_interval: Duration,
        n: usize,
        all: impl Iterator<Item = Id>,
    ) -> Vec<Id> {
        let (step, n) = pace(sweep(heartbeat_interval), n);
        self.due = Instant::now() + step;
        if self.left.is_empty() {
            self.left.extend(all);
        }
        let n = n.min(self.left.len());
        self.left.drain(..n).collect()
    }
}

fn sweep(heartbeat_interval: Duration) -> Duration {
    heartbeat_interval
        .saturating_mul(2)
        .clamp(SHORTEST_INTERVAL, LONGEST_SWEEP)
}

/// When the next step is due, and how many of `n` znodes it takes.
fn pace(sweep: Duration, n: usize) -> (Duration, usize) {
    let step = sweep.div_f64(n.max(1) as f64).max(SHORTEST_INTERVAL);
    let jitter = 0.5 + 0.5 * fastrand::f64();
    let n_steps = sweep.div_duration_f64(step);
    (step.mul_f64(jitter), (n as f64 / n_steps).ceil() as usize)
}
