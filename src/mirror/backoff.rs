//! How long to wait before trying again: full jitter, doubled up to a limit.

use std::time::Duration;

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    /// The next wait is anything from `least` up to this.
    most: Duration,
    least: Duration,
    limit: Duration,
}

impl Backoff {
    /// Between rounds over the hosts: capped at a second, so that an outage is over a second after
    /// it ended, and jittered in full, so that a fleet does not come back as one.
    pub(super) fn connecting() -> Self {
        Self {
            most: Duration::from_millis(50),
            least: Duration::ZERO,
            limit: Duration::from_secs(1),
        }
    }

    /// Between looks at a znode that cannot be read, while the session is well.
    pub(super) fn looking() -> Self {
        Self {
            most: Duration::from_millis(200),
            least: Duration::from_millis(50),
            limit: Duration::from_secs(10),
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        let span = self.most.saturating_sub(self.least);
        let wait = self.least + span.mul_f64(fastrand::f64());
        self.most = (self.most * 2).min(self.limit);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let mut backoff = Backoff::connecting();
        for _ in 0..1000 {
            assert!(backoff.next() <= Duration::from_secs(1));
        }
        assert_eq!(backoff.most, Duration::from_secs(1));
        assert!(Backoff::looking().next() >= Duration::from_millis(50));
    }
}
