//! What is noted in passing, for the status alone.

use std::time::SystemTime;

use crate::mirror::Update;

/// The sessions that this server has had.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    /// The id of the one there is.
    pub(super) id: Option<i64>,
    /// Since when there is one, or none; unknown before the first news.
    pub(super) since: Option<SystemTime>,
    pub(super) n: u64,
}

/// The publishers that this server was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Publishers {
    /// The one there is, and since when.
    pub(super) current: Option<(u32, SystemTime)>,
    pub(super) n: u64,
}

impl Sessions {
    pub(super) fn note(&mut self, update: &Update) {
        match update {
            Update::Connected { session, .. } => {
                self.id = Some(*session);
                self.since = Some(SystemTime::now());
                self.n += 1;
            }
            Update::Disconnected { .. } => {
                // It is told again with another reason.
                if self.id.take().is_some() || self.since.is_none() {
                    self.since = Some(SystemTime::now());
                }
            }
            Update::Content { .. }
            | Update::Absent { .. }
            | Update::Unreadable { .. }
            | Update::Confirmed { .. }
            | Update::Children { .. }
            | Update::Settled
            | Update::Repaired { .. } => {}
        }
    }
}

impl Publishers {
    /// This one, or none, from now on.
    pub(super) fn note(&mut self, pid: Option<u32>) {
        self.current = pid.map(|pid| (pid, SystemTime::now()));
        self.n += u64::from(pid.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_since_it_began() {
        let mut sessions = Sessions::default();
        let away = |reason: &str| Update::Disconnected {
            reason: reason.into(),
        };
        sessions.note(&Update::Connected {
            session: 7,
            read_only: false,
        });
        assert_eq!((sessions.id, sessions.n), (Some(7), 1));
        let connected = sessions.since;
        sessions.note(&away("refused"));
        let since = sessions.since;
        assert!(since > connected);
        sessions.note(&away("no route"));
        assert_eq!((sessions.id, sessions.since), (None, since));
        sessions.note(&Update::Connected {
            session: 8,
            read_only: false,
        });
        assert_eq!((sessions.id, sessions.n), (Some(8), 2));
        assert!(sessions.since > since);
    }
}
