//! How long to wait before trying again: full jitter, doubled up to a limit.

use std::time::Duration;

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    /// The next wait is anything from `least` up to this.
    most: Duration,
    least: Duration,
}

impl Backoff {
    /// Between rounds over the hosts: jittered in full, so that a fleet does not come back as one.
    pub(super) fn connecting() -> Self {
        Self {
            most: Duration::from_millis(50),
            least: Duration::ZERO,
        }
    }

    /// Between looks at a znode that cannot be read, while the session is well.
    pub(super) fn looking() -> Self {
        Self {
            most: Duration::from_millis(200),
            least: Duration::from_millis(50),
        }
    }

    /// `limit` is the longest wait.
    pub(super) fn next(&mut self, limit: Duration) -> Duration {
        let most = self.most.min(limit);
        let span = most.saturating_sub(self.least);
        self.most = (most * 2).min(limit);
        self.least + span.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let limit = Duration::from_secs(1);
        let mut backoff = Backoff::connecting();
        for _ in 0..1000 {
            assert!(backoff.next(limit) <= limit);
        }
        assert_eq!(backoff.most, limit);
        assert!(Backoff::looking().next(limit) >= Duration::from_millis(50));
    }
}
