//! How soon a process that died is started again: at once the first time, later and later while it
//! dies young.

use std::time::Duration;

/// One that lived less long dies young.
const YOUNG: Duration = Duration::from_secs(10);

/// One that lived this long is healthy: its death counts as the first again.
const HEALTHY: Duration = Duration::from_secs(60);

/// The first delay; doubled with each further death.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The deaths so far, as far as they matter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restarts {
    /// Never wait.
    at_once: bool,
    /// How many died young, with the first that died at all.
    n_deaths: u32,
}

impl Restarts {
    /// No deaths yet. `at_once`: none will be waited after.
    pub(super) fn new(at_once: bool) -> Self {
        Self {
            at_once,
            n_deaths: 0,
        }
    }

    /// One died after so long: how long to wait before the next is started.
    pub(super) fn delay(&mut self, lived: Duration) -> Duration {
        if self.at_once {
            return Duration::ZERO;
        }
        if lived >= HEALTHY {
            self.n_deaths = 0;
        }
        if self.n_deaths > 0 && lived >= YOUNG {
            // Neither young nor healthy: that alone burns nothing.
            return Duration::ZERO;
        }
        self.n_deaths += 1;
        match self.n_deaths.checked_sub(2) {
            None => Duration::ZERO,
            Some(n_doubled) => FIRST_DELAY
                .saturating_mul(2_u32.saturating_pow(n_doubled))
                .min(LONGEST_DELAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_later_and_later_until_one_lives() {
        let mut restarts = Restarts::default();
        let mut died = |seconds| restarts.delay(Duration::from_secs(seconds)).as_millis();
        assert_eq!(died(5), 0);
        assert_eq!(died(1), 100);
        assert_eq!(died(0), 200);
        assert_eq!(died(20), 0);
        assert_eq!(died(0), 400);
        for _ in 0..100 {
            died(0);
        }
        assert_eq!(died(0), 10_000);
        assert_eq!(died(61), 0);
        assert_eq!(died(9), 100);
    }
}
