//! What a mount tells of itself: counters and states -> JSON, Prometheus text, a table for people.
//!
//! Pure: whoever knows something puts it into a [`Status`], and whoever is asked prints it. No
//! content of znodes is in it, so it may be told to others than those who may read the files.
//!
//! # The schema
//!
//! [`Status`] is `status.json` field by field, and so it is the `details` of `livedata-fuse status
//! --json`. Times are in seconds since 1970, ages and durations in seconds; what is not known or
//! does not apply is null. [`SCHEMA`] is its number: fields may be added under the same number, and
//! whoever reads it passes over what he does not know; when one goes or means something else, the
//! number grows.

pub mod prometheus;
pub mod table;
pub mod wait;

use serde::{Deserialize, Serialize};

use crate::hooks::{Outcome, PartId, Standing};

/// The number of the schema that [`Status`] is.
pub const SCHEMA: u32 = 1;

/// Everything, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When this was so.
    pub at: f64,
    /// The version of the server's program.
    pub version: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// What is not as it should be, in words; empty when all is well.
    pub complaints: Vec<String>,
    /// The session.
    pub zookeeper: ZooKeeper,
    /// `heartbeat_interval`: how old the knowledge of a live node gets.
    pub heartbeat_interval: f64,
    /// How many nodes were heard of by this server.
    pub answered: u64,
    /// How many nodes have a file.
    pub files: u64,
    /// How many files may be old.
    pub stale: u64,
    /// How many nodes cannot be read now, whether they have a file or not.
    pub unreadable: u64,
    /// Every node, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// Every tree, in the order of the configuration.
    pub trees: Vec<Tree>,
    /// Every hook with each node and tree that names it, in the order of the configuration.
    pub hooks: Vec<Hook>,
    /// The drop-ins, by name.
    pub dropins: Vec<Dropin>,
    /// What is wrong with the directory of drop-ins as a whole.
    pub dropin_dir: Option<String>,
    /// The links of `mount.links`.
    pub links: Links,
    /// Where the content of trees lies; null without a `cache.dir`, when memory holds all of it.
    pub content_of_trees: Option<ContentOfTrees>,
    /// `cache.dir`; null without one.
    pub cache: Option<Cache>,
    /// Changes that were published since the server started.
    pub changes: u64,
    /// Requests of the kernel since the server started, but for those that want no answer.
    pub requests: u64,
    /// Changes that only the audit found, since the server started.
    pub repaired_by_audit: u64,
    /// Replies that no server sends, since the server started.
    pub garbled_replies: u64,
    /// The last of those, in words.
    pub last_garbled_reply: Option<String>,
    /// Inodes in memory: files, directories, and old versions that somebody has open.
    pub inodes: u64,
    /// Those of them that a server before had shown.
    pub inherited_inodes: u64,
    /// The processes, as far as the server knows of them.
    pub processes: Processes,
}

/// The session with ZooKeeper.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZooKeeper {
    /// Whether there is one.
    pub connected: bool,
    /// Whether it is with a server without a quorum, which may be behind.
    pub read_only: bool,
    /// Its id, as ZooKeeper's own tools write it: `0x` and hexadecimal digits.
    pub session: Option<String>,
    /// Since when there is one, or none.
    pub since: Option<f64>,
    /// Why there is none.
    pub error: Option<String>,
    /// How many sessions there were since the server started.
    pub sessions: u64,
}

/// A configured node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name in the configuration.
    pub name: String,
    /// The znode.
    pub znode: String,
    /// The file, relative to the mountpoint.
    pub file: String,
    /// How it stands.
    pub state: State,
    /// The version of the znode that the file shows; null without a file.
    pub version: Option<i32>,
    /// The transaction that made it.
    pub mzxid: Option<i64>,
    /// The size of the file, in bytes; null without one, or where it cannot be read.
    pub size: Option<u64>,
    /// How old the knowledge is that the file is current: now less its time of modification.
    pub age: Option<f64>,
    /// A later version is known, and about to be shown.
    pub pending: bool,
    /// It is older than `max_stale` allows, so reading the file fails.
    pub too_old: bool,
    /// Why it is not live.
    pub error: Option<String>,
}

/// A configured tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tree {
    /// Its name in the configuration.
    pub name: String,
    /// The znode at its root.
    pub znode: String,
    /// Where it stands, relative to the mountpoint.
    pub directory: String,
    /// How many files it has: one for each znode that is shown.
    pub files: u64,
    /// How many of those may be old.
    pub stale: u64,
    /// How many of its znodes cannot be read, or listed, now.
    pub unreadable: u64,
    /// How many have names that no file can have there; what is below them is not counted.
    pub left_out: u64,
    /// The first of both, each with the reason, in words.
    pub problems: Vec<String>,
    /// Why there is nothing of it.
    pub error: Option<String>,
}

/// A hook, and how it stands with a node or a tree that names it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Its name in the configuration.
    pub hook: String,
    /// The node, as `nodes.X`, or the tree, as `trees.X`.
    pub of: String,
    /// The process ids of its commands that run.
    pub running: Vec<u32>,
    /// It is to run: now or after a while, where others run or it was told to wait.
    pub waits: bool,
    /// How often it has run to an end.
    pub runs: u64,
    /// How often that was a failure.
    pub failures: u64,
    /// How often in a row, now.
    pub failures_in_a_row: u64,
    /// When it last started.
    pub started: Option<f64>,
    /// Why: `load`, `created`, `changed` or `deleted`.
    pub event: Option<String>,
    /// The version of the znode that it was told then; null for a tree.
    pub version: Option<i32>,
    /// How long it took; null while it runs.
    pub seconds: Option<f64>,
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What was wrong with that run, in words; null when nothing was.
    pub error: Option<String>,
}

/// How much content of trees memory holds, which `cache.max_bytes` bounds, and how much the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContentOfTrees {
    /// In memory.
    pub bytes_in_memory: u64,
    /// On disk.
    pub bytes_on_disk: u64,
    /// Why memory holds more than it should.
    pub error: Option<String>,
}

/// The symbolic links outside of the mount that lead into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    /// How many are wanted.
    pub wanted: u64,
    /// How many of them are there; null while that is not known.
    pub there: Option<u64>,
    /// What is wrong with the others, in words.
    pub problems: Vec<String>,
    /// The same in short; null when nothing is.
    pub error: Option<String>,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The file shows the znode, and changes with it.
    Live,
    /// The file shows what was last known: ZooKeeper is away, or has not confirmed it yet.
    Stale,
    /// The znode does not exist; no file, unless what was last known is kept.
    Absent,
    /// Nothing was heard of the znode yet; no file.
    #[default]
    Unknown,
    /// The ACL does not let us read the znode; the file, if there is one, shows what was last known.
    Denied,
    /// The znode cannot be read for another reason; likewise.
    Unreadable,
}

/// A drop-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropin {
    /// The file.
    pub file: String,
    /// How many nodes of it are shown.
    pub nodes: u64,
    /// How many hooks of it are there.
    pub hooks: u64,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// The last known good content on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// `healthy`, `starting`, or what is wrong, in words.
    pub health: String,
    /// What is wrong, in the same words; null when nothing is.
    pub error: Option<String>,
    /// How many znodes are in it.
    pub entries: u64,
    /// How long its file is.
    pub bytes: u64,
    /// How many znodes have news that are not on disk yet.
    pub waiting: u64,
    /// How many entries were found damaged.
    pub dropped: u64,
}

/// The processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Processes {
    /// The server, which tells this.
    pub server: Process,
    /// The publisher.
    pub publisher: Process,
}

/// A process that the keeper looks after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its process id, while there is one.
    pub pid: Option<u32>,
    /// When it started, where that is known.
    pub since: Option<f64>,
    /// How often it was started again after a death, since the mount was made.
    pub restarts: u64,
}

impl State {
    /// All, the best first.
    pub const ALL: [Self; 6] = [
        Self::Live,
        Self::Stale,
        Self::Absent,
        Self::Unknown,
        Self::Denied,
        Self::Unreadable,
    ];

    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Denied => "denied",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Hook {
    /// How a hook stands with a part.
    pub fn new(hook: &str, of: &PartId, standing: Standing) -> Self {
        let last = standing.last;
        let outcome = last.as_ref().and_then(|last| last.outcome.as_ref());
        let failed = standing.failures_in_a_row > 0 && outcome.is_some();
        let timed_out = last.as_ref().is_some_and(|last| last.timed_out);
        let words = |outcome: &Outcome| match timed_out {
            true => format!("it took too long ({outcome})"),
            false => outcome.to_string(),
        };
        Self {
            hook: hook.into(),
            of: of.to_string(),
            running: standing.running,
            waits: standing.waits,
            runs: standing.runs,
            failures: standing.failures,
            failures_in_a_row: standing.failures_in_a_row,
            error: outcome.filter(|_| failed).map(words),
            code: outcome.and_then(|outcome| match outcome {
                Outcome::Code(code) => Some(*code),
                Outcome::Signal(_) | Outcome::NotStarted(_) => None,
            }),
            signal: outcome.and_then(|outcome| match outcome {
                Outcome::Signal(signal) => Some(*signal),
                Outcome::Code(_) | Outcome::NotStarted(_) => None,
            }),
            started: last.as_ref().map(|last| last.started),
            event: last.as_ref().map(|last| last.event.as_str().to_owned()),
            version: last.as_ref().and_then(|last| last.version),
            seconds: last.and_then(|last| last.seconds),
        }
    }
}

impl Node {
    /// Whether it stands as it should.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether the file shows the newest version there is, as far as is known.
    pub fn is_current(&self) -> bool {
        self.is_live() && !self.pending
    }
}

impl Status {
    /// As JSON, with a line break at the end.
    pub fn json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("it is made of plain values");
        json.push(b'\n');
        json
    }

    /// What is not as it should be, in words.
    pub fn complain(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(reason) = &self.zookeeper.error {
            complaints.push(format!("ZooKeeper is not reached: {reason}"));
        }
        if self.zookeeper.read_only {
            complaints.push("ZooKeeper is read-only, so nothing is known to be current".into());
        }
        if self.stale > 0 {
            complaints.push(format!("{} files may be old", self.stale));
        }
        if self.unreadable > 0 {
            complaints.push(format!("{} nodes cannot be read", self.unreadable));
        }
        for tree in &self.trees {
            if tree.unreadable > 0 {
                let (name, n) = (&tree.name, tree.unreadable);
                complaints.push(format!("{n} znodes of the tree {name} cannot be read"));
            }
            if tree.left_out > 0 {
                let (name, n) = (&tree.name, tree.left_out);
                complaints.push(format!("{n} znodes of the tree {name} cannot be shown"));
            }
        }
        let failing = self.hooks.iter().filter(|hook| hook.failures_in_a_row > 0);
        for hook in failing {
            let error = hook.error.as_deref().unwrap_or("its last run failed");
            complaints.push(format!("hook {} for {}: {error}", hook.hook, hook.of));
        }
        match self
            .dropins
            .iter()
            .filter(|dropin| dropin.error.is_some())
            .count()
        {
            0 => {}
            1 => complaints.push("1 drop-in is wrong".into()),
            n => complaints.push(format!("{n} drop-ins are wrong")),
        }
        complaints.extend(self.dropin_dir.clone());
        complaints.extend(self.links.error.clone());
        let of_trees = self.content_of_trees.as_ref();
        let error = of_trees.and_then(|content| content.error.as_ref());
        complaints
            .extend(error.map(|error| format!("memory holds more than cache.max_bytes: {error}")));
        let of_cache = self.cache.as_ref().and_then(|cache| cache.error.as_ref());
        complaints.extend(of_cache.map(|error| format!("cache.dir: {error}")));
        complaints
    }

    /// How many nodes stand so.
    pub fn n_nodes(&self, state: State) -> usize {
        let nodes = self.nodes.iter().filter(|node| node.state == state);
        nodes.count()
    }
}

/// What a terminal takes: control characters are written out.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_understood_as_far_as_it_goes() {
        let newer =
            r#"{"schema": 1, "novelties": [], "nodes": [{"name": "a", "state": "live", "x": 1}]}"#;
        let status: Status = serde_json::from_str(newer).unwrap();
        assert_eq!(status.nodes[0].name, "a");
        assert_eq!(status.nodes[0].state, State::Live);
        assert_eq!(status.files, 0);
    }

    #[test]
    fn json_is_the_schema() {
        let status = Status {
            schema: SCHEMA,
            nodes: vec![Node::default()],
            ..Status::default()
        };
        let json = status.json();
        assert!(json.ends_with(b"}\n"));
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["nodes"][0]["state"], "unknown");
        assert!(value["nodes"][0]["version"].is_null());
        assert_eq!(serde_json::from_slice::<Status>(&json).unwrap(), status);
    }
}
