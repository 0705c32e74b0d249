//! What systemd is told: READY, STATUS, STOPPING, and that the server lives.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Says something, if systemd listens.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        log::debug!("systemd is not told: {err}");
    }
}

/// Signs of life. Each is a round trip to the server, while there is one: one that hangs lets the
/// watchdog of systemd bite; one that cannot be started again does not, for cached files go on.
#[derive(Debug)]
pub(super) struct Watchdog {
    interval: Duration,
    /// When the server is asked next.
    next: Instant,
    asked: bool,
}

impl Watchdog {
    /// None if systemd asks for none.
    pub(super) fn wanted() -> Option<Self> {
        // systemd wants a sign of life twice as often as its limit.
        let interval = sd_notify::watchdog_enabled()? / 2;
        Some(Self {
            interval,
            next: Instant::now() + interval,
            asked: false,
        })
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether the server is to be asked now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.interval;
            self.asked = true;
        }
        due
    }

    /// The server has answered.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.asked) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
