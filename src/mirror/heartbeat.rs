//! When znodes are confirmed, and the request that tells whether the server is there.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::SHORTEST_INTERVAL;

/// A year, for ever; an [`Instant`] cannot be any time later.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct Heartbeat {
    /// When the interval began at whose end it is due.
    pub(super) since: Instant,
    pub(super) due: Instant,
    /// When the request under way was sent.
    pub(super) asked: Option<Instant>,
    /// Whether the request was granted; none where it stays unanswered.
    pub(super) reply: Pin<Box<dyn Future<Output = Option<bool>> + Send>>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration) -> Self {
        let since = Instant::now();
        Self {
            since,
            due: after(since, interval),
            asked: None,
            reply: Box::pin(std::future::pending()),
        }
    }

    /// The interval is this from now on. One that is due stays due.
    pub(super) fn pace(&mut self, interval: Duration) {
        if self.due > Instant::now() {
            self.due = after(self.since, interval);
        }
    }

    /// It is due: the next one is an interval from now.
    pub(super) fn begin(&mut self, interval: Duration) {
        self.since = Instant::now();
        self.due = after(self.since, interval);
    }
}

/// The end of the interval, at a time that can be waited for and is not now.
fn after(since: Instant, interval: Duration) -> Instant {
    since + interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}
