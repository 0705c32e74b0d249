//! When what is seen of a file counts. Knows nothing of files but what it is told, and of no time but
//! its own: that of a file system may be another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::dropin_dir::Stamp;

/// How long a file that its writer has closed must stay as it is, or one that is gone must stay away.
/// Many a program writes or renames in several steps.
pub(super) const SETTLE: Duration = Duration::from_millis(150);

/// The same for a new file of which nobody has told that it is complete.
const SETTLE_NEW: Duration = Duration::from_secs(1);

/// The same for another content of a file that defines something: it may be half of what is meant,
/// by a writer who is slow. And for the last file that goes: perhaps it is the directory that is away.
pub(super) const SETTLE_UNTOLD: Duration = Duration::from_secs(10);

/// After this time it is tried again what may be better by then.
const RETRY: Duration = Duration::from_secs(3);

/// The files, and how far each is known.
#[derive(Debug, Default)]
pub(super) struct Settling(BTreeMap<String, Seen>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Gone,
    /// There is a name, and nothing behind it that can be looked at.
    Opaque,
    Is(Stamp),
}

/// What there is to know of a file beside how it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// What was last told of it: that it is complete, or that it is not.
    pub(super) told: Option<bool>,
    /// If it is another, it was exchanged as a whole.
    pub(super) exchanged: bool,
    /// It defines something.
    pub(super) in_use: bool,
    /// No file is left.
    pub(super) all_gone: bool,
    pub(super) occasion: Occasion,
}

/// Why it is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Something was heard, or nothing for long.
    #[default]
    News,
    /// Nothing was ever taken: what is there at a first start is taken as it is.
    First,
    /// A user says that files have changed.
    Asked,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    state: State,
    /// When it was like this first.
    since: Instant,
    complete: bool,
    /// How it was when it was last taken or refused, and when that is to be tried again.
    taken: Option<(State, Option<Instant>)>,
}

impl Settling {
    /// The names of the files that were seen.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// How the file is now. Gives the time for which it must stay like this to count, none of it if
    /// it counts now, or nothing where that is known already.
    pub(super) fn look(
        &mut self,
        name: &str,
        state: State,
        circumstances: Circumstances,
        now: Instant,
    ) -> Option<Duration> {
        let seen = self.0.entry(name.into()).or_insert(Seen {
            state,
            since: now,
            complete: false,
            taken: None,
        });
        if seen.state != state {
            (seen.state, seen.since) = (state, now);
            seen.complete = circumstances.exchanged;
        }
        if let Some(complete) = circumstances.told {
            seen.complete = complete;
        }
        if let Some((taken, again)) = seen.taken
            && taken == state
        {
            return again.map(|again| again.saturating_duration_since(now));
        }
        let patience = seen.patience(circumstances);
        Some(patience.saturating_sub(now.duration_since(seen.since)))
    }

    /// The file was taken or refused as it was seen; `for_now` says that another attempt may do.
    pub(super) fn taken(&mut self, name: &str, for_now: bool, now: Instant) {
        if let Some(seen) = self.0.get_mut(name) {
            seen.taken = Some((seen.state, for_now.then_some(now + RETRY)));
        }
    }

    /// That it is gone is taken.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them are to be taken anew.
    pub(super) fn doubt_all(&mut self) {
        for seen in self.0.values_mut() {
            seen.taken = None;
        }
    }
}

impl Seen {
    /// For how long a file must stay as it is before that counts. What defines something is not
    /// given up for what may be half-written, and what is gone may be about to be replaced.
    fn patience(&self, circumstances: Circumstances) -> Duration {
        let Circumstances {
            in_use,
            all_gone,
            occasion,
            ..
        } = circumstances;
        let untouched = matches!(
            (self.state, self.taken),
            (State::Is(now), Some((State::Is(before), _))) if now.content == before.content
        );
        match self.state {
            _ if occasion == Occasion::First => Duration::ZERO,
            State::Gone if all_gone => SETTLE_UNTOLD,
            State::Gone | State::Opaque => SETTLE,
            State::Is(_) if occasion == Occasion::Asked && (self.complete || !in_use) => {
                Duration::ZERO
            }
            State::Is(_) if self.complete || untouched => SETTLE,
            State::Is(_) if !in_use => SETTLE_NEW,
            State::Is(_) => SETTLE_UNTOLD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stamp of a file whose times are in the past, however new it is.
    fn written(n: u64) -> State {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(n).expect("a length");
        let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        file.as_file().set_times(times).expect("a time");
        State::Is(Stamp::of(&file.as_file().metadata().expect("a stamp")))
    }

    const IN_USE: Circumstances = Circumstances {
        told: None,
        exchanged: false,
        in_use: true,
        all_gone: false,
        occasion: Occasion::News,
    };

    #[test]
    fn only_our_own_time_counts() {
        let mut settling = Settling::default();
        let begin = Instant::now();
        let (old, new) = (written(1), written(2));
        let look = |settling: &mut Settling, state, seconds| {
            let now = begin + Duration::from_secs(seconds);
            settling.look("a.ini", state, IN_USE, now)
        };
        assert_eq!(look(&mut settling, old, 0), Some(SETTLE_UNTOLD));
        settling.taken("a.ini", false, begin);
        assert_eq!(look(&mut settling, old, 100), None);
        assert_eq!(look(&mut settling, new, 101), Some(SETTLE_UNTOLD));
        let rest = Duration::from_secs(4);
        assert_eq!(look(&mut settling, new, 107), Some(rest));
        assert_eq!(look(&mut settling, written(3), 110), Some(SETTLE_UNTOLD));
        assert_eq!(look(&mut settling, new, 200), Some(SETTLE_UNTOLD));
        assert_eq!(look(&mut settling, new, 210), Some(Duration::ZERO));
    }

    #[test]
    fn the_last_file_has_time_to_come_back() {
        let mut settling = Settling::default();
        let now = Instant::now();
        for (all_gone, patience) in [(false, SETTLE), (true, SETTLE_UNTOLD)] {
            let circumstances = Circumstances { all_gone, ..IN_USE };
            let name = format!("{all_gone}.ini");
            let wait = settling.look(&name, State::Gone, circumstances, now);
            assert_eq!(wait, Some(patience));
        }
    }

    #[test]
    fn what_was_taken_for_now_is_taken_again() {
        let mut settling = Settling::default();
        let now = Instant::now();
        let state = written(1);
        settling.look("a.ini", state, IN_USE, now);
        settling.taken("a.ini", true, now);
        assert_eq!(settling.look("a.ini", state, IN_USE, now), Some(RETRY));
        let later = now + 2 * RETRY;
        let wait = settling.look("a.ini", state, IN_USE, later);
        assert_eq!(wait, Some(Duration::ZERO));
        settling.taken("a.ini", false, later);
        assert_eq!(settling.look("a.ini", state, IN_USE, later), None);
    }
}
