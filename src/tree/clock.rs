//! The policy of times of modification.
//!
//! Applications compare them as floats (Baseplate's FileWatcher: 119 ns were lost, 200 ns seen), so
//! a new version is at least a microsecond later than any time given before; they take 0 for
//! "never loaded", so 0 is never given; and they never go back, whatever the system clock does.

use std::time::{Duration, SystemTime};

/// The least distance between the times of two versions.
const STEP: Duration = Duration::from_micros(1);

/// Gives times, each version later than every time before.
pub(super) struct Clock {
    /// The latest time ever given.
    latest: SystemTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            latest: SystemTime::UNIX_EPOCH,
        }
    }
}

/// The first time that a version may have which replaces one of this time.
pub(super) fn after(time: SystemTime) -> SystemTime {
    time + STEP
}

impl Clock {
    pub(super) fn latest(&self) -> SystemTime {
        self.latest
    }

    /// Some time was given before, by another process.
    pub(super) fn given(&mut self, time: SystemTime) {
        self.latest = self.latest.max(time);
    }

    /// The time of a new version.
    pub(super) fn version(&mut self, now: SystemTime) -> SystemTime {
        self.latest = now.max(self.latest + STEP);
        self.latest
    }

    /// The time of a confirmation of what has the time `current`: now, or unmoved where the system
    /// clock stands behind.
    pub(super) fn confirmation(&mut self, now: SystemTime, current: SystemTime) -> SystemTime {
        let time = now.max(current);
        self.latest = self.latest.max(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_zero_and_never_back() {
        let at = |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        let mut clock = Clock::default();
        assert_eq!(clock.version(at(0)), at(1));
        assert_eq!(clock.version(at(100)), at(100));
        assert_eq!(clock.version(at(100)), at(101));
        assert_eq!(clock.version(at(7)), at(102));
        assert_eq!(clock.confirmation(at(7), at(102)), at(102));
        assert_eq!(clock.confirmation(at(500), at(102)), at(500));
        assert_eq!(clock.version(at(400)), at(501));
    }
}
