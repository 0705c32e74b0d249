//! What a keeper tells of its processes: the answer at its control socket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A mount that had a death this recently is not healthy yet.
const RECENT: u64 = 60;

/// The whole answer. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The version of the keeper's program.
    pub version: String,
    /// The keeper itself.
    pub keeper: Keeper,
    /// The server.
    pub server: Process,
    /// The publisher.
    pub publisher: Process,
    /// The runner of hooks, where there are any.
    #[serde(default)]
    pub runner: Option<Process>,
    /// The upgrades.
    pub upgrade: Upgrade,
    /// Whether the mount had to be made anew.
    pub anew: Anew,
    /// Whether a dead server can be replaced without mounting anew, once the kernel has said: it
    /// takes Linux 6.9.
    pub resend: Option<bool>,
    /// The server's own part, as [`crate::status::Status`] has it; null if it does not answer.
    #[serde(skip_serializing)]
    pub details: serde_json::Value,
}

/// The keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub since: u64,
}

/// A process that the keeper looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id, while there is one.
    pub pid: Option<u32>,
    /// When this one started.
    pub since: Option<u64>,
    /// How often it was started again after a death.
    pub restarts: u64,
    /// What it does.
    pub state: State,
    /// Why the one before died.
    pub last_death: Option<Event>,
    /// Why there is none, where none is wanted.
    pub reason: Option<String>,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its work.
    Serving,
    /// It loads.
    Starting,
    /// It died, and is started again later.
    Backoff,
    /// There is none, on purpose.
    None,
}

/// The upgrades of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Whether one is under way.
    pub running: bool,
    /// How the last one went.
    pub last: Option<Event>,
}

/// How often a mount that could not be gone on with was made anew at the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anew {
    /// How often it was shown.
    pub times: u64,
    /// It is being made; until it is shown the lost one is in its place.
    pub running: bool,
    /// Why the last one was lost.
    pub last: Option<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub when: u64,
    /// What, in words.
    pub reason: String,
}

impl Event {
    /// It happens now.
    pub(super) fn now(reason: String) -> Self {
        Self {
            when: seconds(SystemTime::now()),
            reason,
        }
    }
}

impl Status {
    /// What is not as it should be, in words. Healthy is: the server serves and answers, the
    /// publisher works or none can be had, and neither died within the last minute;
    /// and the server has nothing to complain of.
    pub fn complaints(&self, now: SystemTime) -> Vec<String> {
        let mut complaints = Vec::new();
        let runner = self.runner.as_ref().map(|runner| ("runner", runner));
        let processes = [("server", &self.server), ("publisher", &self.publisher)];
        for (name, process) in processes.into_iter().chain(runner) {
            match process.state {
                State::Serving | State::None => {}
                State::Starting => complaints.push(format!("the {name} is starting")),
                State::Backoff => {
                    complaints.push(format!("the {name} died and is started again later"));
                }
            }
            if let Some(death) = &process.last_death
                && seconds(now).saturating_sub(death.when) < RECENT
            {
                complaints.push(format!("the {name} died lately"));
            }
        }
        if self.anew.running {
            complaints.push("the mount was lost and is being made anew".into());
        } else if let Some(lost) = &self.anew.last
            && seconds(now).saturating_sub(lost.when) < RECENT
        {
            complaints.push("it was mounted anew lately".into());
        }
        if self.server.state == State::Serving && self.details.is_null() {
            complaints.push("the server does not answer".into());
        }
        let of_server = self.details["complaints"].as_array().into_iter().flatten();
        complaints.extend(of_server.filter_map(|words| Some(words.as_str()?.to_owned())));
        complaints
    }
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
