//! Keeps up with znodes: source -> stream of [`Update`]s.
//!
//! The rules, each taught by a failure of the clients before us:
//! - Content, Stat and watch come from one request, and an event is a hint to read again. At most
//!   one look at a znode is under way; an event meanwhile means one look more.
//! - Content is replaced only by what is later in (czxid, mzxid) order, and a znode is gone only
//!   when that is proven; see `mirror/look.rs`.
//! - Whatever fails is dirty and tried again, with jitter. What was last known stays known.
//! - One session is one connection. After it the mirror makes a new one and compares every znode by
//!   a stat-sized request; content comes only where it differs.
//! - A session lost before its timeout has passed is part of the outage: pauses go on growing, and
//!   each reason is said once.
//! - A subtree is watched by one watch of the server; where the server has none (before 3.6), by
//!   two watches of each znode, from the next session on: such a server answers that it has none, and
//!   closes the connection. At the beginning of a session, before any of its lists is believed, a
//!   `sync` has the server catch up, so that none brings back what was deleted; so nothing needs to
//!   be remembered of a znode of a subtree that is gone. Lists are those of one instant, and brought
//!   up to date by what happened meanwhile.
//! - A slow audit compares every znode by a stat-sized request, for what a lost watch hid.
//! - A znode that is denied while the credentials have changed is a reason for a new session: they
//!   are given once, at its beginning.
//! - A heartbeat confirms the znodes whose watch is armed and which are not dirty, once the server
//!   has answered a `sync`: watches fire before the replies to later requests.
//!
//! Deliberately absent: any knowledge of files. Who serves the content is not known here.

mod audit;
mod backoff;
mod heartbeat;
mod look;
mod node;
mod serving;
mod wanted;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::path::ZnodePath;
use crate::source::{ConnectError, Session, Source, Told, Value};
use backoff::Backoff;
use node::{Id, Node};
use serving::{End, Serving};
use wanted::Trees;
pub use wanted::Wanted;

/// The longest pause between rounds over the hosts: an outage is over as soon after it ended.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Anything at a shorter interval would keep the mirror busy with nothing else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The mirror of some znodes and subtrees.
pub struct Mirror<S, F> {
    source: Arc<S>,
    tell: F,
    heartbeat_interval: Duration,
    nodes: HashMap<Id, Node>,
    ids: HashMap<ZnodePath, Id>,
    next_id: u64,
    trees: Trees,
    /// Whether the server at hand has no watches of subtrees, for all that is known.
    lacks_tree_watches: bool,
    /// What was told before this mirror was, by znodes that are not watched yet.
    told: HashMap<ZnodePath, Told>,
}

/// What the mirror has learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The znode has this content, and it is later than what was told before (or history was
    /// rewound, which the log says).
    Content {
        /// The znode.
        path: ZnodePath,
        /// Its content.
        value: Value,
    },
    /// The znode, which has content and is in a subtree, has children now, or has none any more.
    /// Otherwise what the [`Stat`](crate::source::Stat) of its content says holds.
    Children {
        /// The znode.
        path: ZnodePath,
        /// Whether it has children.
        has_children: bool,
    },
    /// The znode does not exist; this is proven where it was known to exist. One that is wanted only
    /// for being in a subtree is forgotten.
    Absent {
        /// The znode.
        path: ZnodePath,
    },
    /// The znode cannot be read now; what was last told of it may be old. Told again when the
    /// reason changes. It is tried again.
    Unreadable {
        /// The znode.
        path: ZnodePath,
        /// Why.
        reason: Reason,
    },
    /// The content last told of these znodes was confirmed to be current.
    Confirmed {
        /// The znodes.
        paths: Vec<ZnodePath>,
        /// How long before now it was certainly current.
        age: Duration,
    },
    /// The znode had changed and no watch told; the audit found it. What it found is told next.
    Repaired {
        /// The znode.
        path: ZnodePath,
    },
    /// Every znode was looked at since there is a session, and all subtrees to their ends. Told once
    /// in a session.
    Settled,
    /// There is a session.
    Connected {
        /// Its id.
        session: i64,
        /// Whether it is with a server without a quorum, so that nothing is confirmed.
        read_only: bool,
    },
    /// There is none, as far as all hosts were tried, and the mirror keeps trying. Told again when
    /// the reason changes.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
}

/// Why a znode cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its ACL does not let us.
    Denied,
    /// The server says it is gone, but cannot prove that it knows what we know.
    Unproven(String),
    /// The request failed.
    Failed(String),
}

/// What the mirror may be told while it runs.
#[derive(Debug)]
pub enum Command<S> {
    /// Leave the session and make the next one here.
    Connect(S),
    /// Watch these from now on, and no others.
    Watch(Wanted),
    /// What was told of these znodes is not at hand any more, and is to be told again.
    Lost(Vec<ZnodePath>),
    /// Confirm at this interval from now on.
    Heartbeat(Duration),
}

/// What came of a command.
#[derive(Default)]
struct Obeyed {
    /// The znodes that are new.
    new: Vec<Id>,
    /// Why the session is to be left.
    moves: Option<&'static str>,
    /// The znodes to be looked at as if they had changed.
    again: Vec<Id>,
    /// The interval of heartbeats is another.
    paces: bool,
}

impl<S: Source, F: FnMut(Update)> Mirror<S, F> {
    /// Watches nothing yet; see [`Command::Watch`].
    pub fn new(source: S, heartbeat_interval: Duration, tell: F) -> Self {
        Self {
            source: Arc::new(source),
            tell,
            heartbeat_interval,
            nodes: HashMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            trees: Trees::default(),
            lacks_tree_watches: false,
            told: HashMap::new(),
        }
    }

    /// Goes on where another mirror left off: of these znodes this was told, and only what is later
    /// is told again.
    pub fn going_on_from(mut self, told: HashMap<ZnodePath, Told>) -> Self {
        self.told = told;
        self
    }

    /// Runs until the sender of the commands is dropped.
    pub async fn run(mut self, mut commands: UnboundedReceiver<Command<S>>) {
        let mut outage = Outage::new();
        // Only the first attempt is made at once: a server that fails loses its clients together.
        let mut pause = Duration::ZERO;
        loop {
            let connected = self.connect(&mut commands, &mut outage, pause).await;
            let Some(session) = connected else {
                return;
            };
            let begun = Instant::now();
            let settles_after = session.timeout();
            (self.tell)(Update::Connected {
                session: session.id(),
                read_only: session.is_read_only(),
            });
            let end = Serving::new(&mut self, Arc::new(session))
                .run(&mut commands)
                .await;
            let reason = match end {
                End::Lost(reason) => reason,
                End::Moved(reason) => {
                    outage = Outage::new();
                    reason.into()
                }
                End::Told => return,
            };
            // One that is lost at once, again and again, is one outage.
            if begun.elapsed() >= settles_after {
                outage = Outage::new();
                // The next server may be a newer one.
                self.lacks_tree_watches = false;
            }
            if outage.is_news(&reason) {
                log::warn!("ZooKeeper: {reason}; the last known content is served");
            }
            (self.tell)(Update::Disconnected { reason });
            pause = outage.backoff.next(LONGEST_PAUSE);
        }
    }

    /// Goes round the hosts until one takes us, pausing after each round. None where the mirror is
    /// to end.
    async fn connect(
        &mut self,
        commands: &mut UnboundedReceiver<Command<S>>,
        outage: &mut Outage,
        pause: Duration,
    ) -> Option<S::Session> {
        let mut attempt = Box::pin(attempt(Arc::clone(&self.source), pause));
        let mut n_left = self.source.n_hosts();
        let mut news = None;
        loop {
            // A command that is no other source leaves the attempt under way alone.
            let result = tokio::select! {
                biased;
                command = commands.recv() => {
                    let command = command?;
                    let is_elsewhere = matches!(command, Command::Connect(_));
                    self.obey(command);
                    if is_elsewhere {
                        attempt.set(self::attempt(Arc::clone(&self.source), Duration::ZERO));
                        n_left = self.source.n_hosts();
                    }
                    continue;
                }
                result = &mut attempt => result,
            };
            let reason = match result {
                Ok(session) => return Some(session),
                Err(err) => err.to_string(),
            };
            if outage.is_news(&reason) {
                log::warn!("ZooKeeper: {reason}; trying on");
                news = Some(reason);
            }
            n_left = n_left.saturating_sub(1);
            let pause = if n_left == 0 {
                // One host that serves is enough, so only now there is none.
                if let Some(reason) = news.take() {
                    (self.tell)(Update::Disconnected { reason });
                }
                n_left = self.source.n_hosts();
                outage.backoff.next(LONGEST_PAUSE)
            } else {
                Duration::ZERO
            };
            attempt.set(self::attempt(Arc::clone(&self.source), pause));
        }
    }

    /// Takes a command in.
    fn obey(&mut self, command: Command<S>) -> Obeyed {
        match command {
            Command::Connect(source) => {
                self.source = Arc::new(source);
                Obeyed {
                    moves: Some("the connection settings changed"),
                    ..Obeyed::default()
                }
            }
            Command::Heartbeat(interval) => {
                self.heartbeat_interval = interval;
                Obeyed {
                    paces: true,
                    ..Obeyed::default()
                }
            }
            Command::Lost(paths) => {
                let mut again = Vec::new();
                for path in paths {
                    let id = self.ids.get(&path).copied();
                    if let Some(node) = id.and_then(|id| self.nodes.get_mut(&id))
                        && let Some(Told::Content(stat)) = node.known
                    {
                        node.known = Some(Told::Lost(stat));
                        again.extend(id);
                    }
                }
                Obeyed {
                    again,
                    ..Obeyed::default()
                }
            }
            Command::Watch(wanted) => self.watch(wanted),
        }
    }

    fn watch(&mut self, wanted: Wanted) -> Obeyed {
        let before = std::mem::replace(&mut self.trees, Trees::new(&wanted.trees));
        // A watch of a tree that goes would leave its znodes unwatched, and one that comes must be
        // there before anything is looked at.
        let moves = (before != self.trees).then_some("other subtrees are wanted");
        let nodes: BTreeSet<ZnodePath> = wanted.nodes.into_iter().collect();
        let stays = |path: &ZnodePath, node: &Node| {
            let is_absent =
                matches!(node.known, Some(Told::Absent(_))) && node.unreadable.is_none();
            nodes.contains(path)
                || self.trees.is_root(path)
                || (!is_absent && (self.trees.wants(path) || self.trees.descends(path)))
        };
        self.ids.retain(|path, id| {
            let stays = stays(path, &self.nodes[id]);
            if !stays {
                self.nodes.remove(id);
            }
            stays
        });
        let told = self.told.keys().filter(|path| self.trees.wants(path));
        let roots = self.trees.roots();
        let all: BTreeSet<ZnodePath> = nodes.iter().chain(roots).chain(told).cloned().collect();
        let mut new = Vec::new();
        for path in all {
            if !self.ids.contains_key(&path) {
                new.push(self.add(path));
            }
        }
        let added: HashSet<Id> = new.iter().copied().collect();
        let mut again = Vec::new();
        for (id, node) in &mut self.nodes {
            let was_wanted = node.is_wanted;
            node.is_named = nodes.contains(&node.path) || self.trees.is_root(&node.path);
            node.is_wanted = nodes.contains(&node.path) || self.trees.wants(&node.path);
            let begins = node.is_wanted && !was_wanted && !added.contains(id);
            if !node.is_wanted || begins {
                // Nobody looks, or has looked, whether it is so still.
                (node.known, node.told, node.is_parent) = (None, false, None);
            }
            if begins {
                again.push(*id);
            }
            node.wants_children(self.trees.descends(&node.path));
            if let (Some(_), Some(children)) = (moves, &mut node.children) {
                // Of those that are known some may be wanted now that were not.
                children.generation = None;
            }
        }
        Obeyed {
            new,
            again,
            moves,
            ..Obeyed::default()
        }
    }

    /// A znode to be watched from now on.
    fn add(&mut self, path: ZnodePath) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        let known = self.told.remove(&path);
        let mut node = Node::new(path.clone(), known);
        node.is_wanted = self.trees.wants(&path);
        node.wants_children(self.trees.descends(&path));
        self.ids.insert(path, id);
        self.nodes.insert(id, node);
        id
    }

    fn forget(&mut self, id: Id) {
        if let Some(node) = self.nodes.remove(&id) {
            self.ids.remove(&node.path);
        }
    }
}

/// One attempt to connect, after a pause.
async fn attempt<S: Source>(source: Arc<S>, pause: Duration) -> Result<S::Session, ConnectError> {
    tokio::time::sleep(pause).await;
    source.connect().await
}

/// A time without a session that lasts.
struct Outage {
    backoff: Backoff,
    /// The reasons told, so that each is told once however many hosts give theirs in turn.
    reasons: BTreeSet<String>,
}

impl Outage {
    fn new() -> Self {
        Self {
            backoff: Backoff::connecting(),
            reasons: BTreeSet::new(),
        }
    }

    fn is_news(&mut self, reason: &str) -> bool {
        self.reasons.insert(reason.into())
    }
}
