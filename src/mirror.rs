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
//! - A slow audit compares every znode by a stat-sized request, for what a lost watch hid.
//! - A znode that is denied while the credentials have changed is a reason for a new session: they
//!   are given once, at its beginning.
//! - A heartbeat confirms the znodes whose watch is armed and which are not dirty, once the server
//!   has answered a `sync`: watches fire before the replies to later requests.
//!
//! Deliberately absent: any knowledge of files. Who serves the content is not known here.

mod backoff;
mod look;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::path::ZnodePath;
use crate::source::{ConnectError, Session, Source, Told, Value};
use backoff::Backoff;
use look::{Finding, Occasion};

/// Looks under way at once: enough to fill the pipe, and a bound on what a reply may queue
/// (zookeeper-client queues without one).
const MAX_LOOKS: usize = 512;

/// How long the requests of one look may stay unanswered before the session counts as wedged.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest pause between rounds over the hosts: an outage is over as soon after it ended.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Heartbeats at a shorter interval would keep the mirror busy with nothing else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// A year, for ever; an [`Instant`] cannot be any time later.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a session is left whose connection stands: pings may still be answered.
const UNANSWERED: &str = "requests are not answered";

/// Why a session is left that may not read what another one may.
const OTHER_CREDENTIALS: &str = "the credentials changed, and a znode is denied to the old ones";

/// How often it is looked whether there are other credentials, at most.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a request found the connection lost the session has to say why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The mirror of one set of znodes.
pub struct Mirror<S, F> {
    source: Arc<S>,
    tell: F,
    heartbeat_interval: Duration,
    nodes: HashMap<Id, Node>,
    ids: HashMap<ZnodePath, Id>,
    next_id: u64,
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
    /// The znode does not exist; this is proven where it was known to exist.
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
    /// There is a session.
    Connected {
        /// Its id.
        session: i64,
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
    /// Watch these znodes from now on, and no others.
    Watch(Vec<ZnodePath>),
    /// Confirm at this interval from now on.
    Heartbeat(Duration),
    /// The content told of these znodes is not at hand any more: tell it again.
    Lost(Vec<ZnodePath>),
}

/// The longest that the audit takes to come round to every znode. Where heartbeats are frequent it
/// takes two intervals of theirs, so that they do not vouch for long for what a lost watch hid. A
/// new session, which has just looked at everything, is left alone for a tenth of that.
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// Names a znode while it is watched; not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id(u64);

struct Node {
    path: ZnodePath,
    known: Option<Told>,
    /// Whether this mirror has told it; otherwise another has.
    told: bool,
    /// The reason last told, so that it is told once.
    unreadable: Option<Reason>,
    /// Since when this session does not know the znode to be as told, or that it does.
    state: State,
    /// The latest watch of this session; an event of any other is of no interest.
    watch: Option<Armed>,
    backoff: Backoff,
}

/// How a znode stands in the session at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the queue, with what is expected there.
    Queued(Occasion),
    /// Being looked at; true once an event said to look again afterwards.
    Looking(bool),
    /// To be looked at again at this time.
    Retry(Instant),
    /// As told, and its watch is armed.
    Clean,
}

type Looks<W> = FuturesUnordered<Look<W>>;
/// None where the requests stay unanswered.
type Look<W> = Pin<Box<dyn Future<Output = (Id, Begun, Option<Finding<W>>)> + Send>>;
/// Whose watch fired; none where it was left.
type Watches = FuturesUnordered<Pin<Box<dyn Future<Output = Option<Id>> + Send>>>;

/// How a look began.
#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    occasion: Occasion,
    known: Option<Told>,
}

/// Leaves a watch when dropped.
struct Armed(AbortHandle);

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            });
            let end = Serving::new(&mut self, Arc::new(session))
                .run(&mut commands)
                .await;
            let reason = match end {
                End::Lost(reason) => reason,
                End::Moved => {
                    outage = Outage::new();
                    "the connection settings changed".into()
                }
                End::Told => return,
            };
            // One that is lost at once, again and again, is one outage.
            if begun.elapsed() >= settles_after {
                outage = Outage::new();
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
                    let moves = matches!(command, Command::Connect(_));
                    self.obey(command);
                    if moves {
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

    /// Takes a command in; gives back the znodes that are new.
    fn obey(&mut self, command: Command<S>) -> Vec<Id> {
        match command {
            Command::Connect(source) => {
                self.source = Arc::new(source);
                Vec::new()
            }
            Command::Heartbeat(interval) => {
                self.heartbeat_interval = interval;
                Vec::new()
            }
            Command::Lost(paths) => {
                for path in paths {
                    let id = self.ids.get(&path);
                    if let Some(node) = id.and_then(|id| self.nodes.get_mut(id))
                        && let Some(Told::Content(stat)) = node.known
                    {
                        node.known = Some(Told::Lost(stat));
                    }
                }
                Vec::new()
            }
            Command::Watch(paths) => {
                let wanted: BTreeSet<&ZnodePath> = paths.iter().collect();
                self.ids.retain(|path, id| {
                    let keep = wanted.contains(path);
                    if !keep {
                        self.nodes.remove(id);
                    }
                    keep
                });
                let mut new = Vec::new();
                for path in paths {
                    if self.ids.contains_key(&path) {
                        continue;
                    }
                    let id = Id(self.next_id);
                    self.next_id += 1;
                    self.ids.insert(path.clone(), id);
                    let known = self.told.remove(&path);
                    self.nodes.insert(id, Node::new(path, known));
                    new.push(id);
                }
                new
            }
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

impl Node {
    fn new(path: ZnodePath, known: Option<Told>) -> Self {
        Self {
            path,
            known,
            unreadable: None,
            told: false,
            state: State::Queued(expected(known)),
            watch: None,
            backoff: Backoff::looking(),
        }
    }

    fn has_content(&self) -> bool {
        matches!(self.known, Some(Told::Content(_)))
    }
}

/// What a new session expects of a znode of which this is known.
fn expected(known: Option<Told>) -> Occasion {
    match known {
        None | Some(Told::Lost(_)) => Occasion::Unknown,
        Some(Told::Content(_) | Told::Absent(_)) => Occasion::Reconnected,
    }
}

/// Why a session is left.
enum End {
    /// It is lost, for this reason.
    Lost(String),
    /// The next one is to be elsewhere.
    Moved,
    /// The mirror is to end.
    Told,
}

/// The mirror while it has a session.
struct Serving<'a, S: Source, F> {
    mirror: &'a mut Mirror<S, F>,
    session: Arc<S::Session>,
    queue: VecDeque<Id>,
    looks: Looks<<S::Session as Session>::Watch>,
    watches: Watches,
    /// The znodes in [`State::Retry`], by time.
    retries: BTreeSet<(Instant, Id)>,
    /// The znodes that this session has not looked at yet.
    unseen: HashSet<Id>,
    heartbeat: Heartbeat,
    audit: Audit,
    /// When it may be looked again whether there are other credentials.
    credentials_due: Instant,
}

/// The sweep that finds what a watch did not tell.
struct Audit {
    due: Instant,
    /// The znodes that this sweep has not come to.
    left: VecDeque<Id>,
}

impl Audit {
    fn sweep(heartbeat_interval: Duration) -> Duration {
        heartbeat_interval
            .saturating_mul(2)
            .clamp(SHORTEST_INTERVAL, LONGEST_SWEEP)
    }

    /// When the next step is due, and how many of `n` znodes it takes.
    fn pace(sweep: Duration, n: usize) -> (Duration, usize) {
        let step = sweep.div_f64(n.max(1) as f64).max(SHORTEST_INTERVAL);
        let jitter = 0.5 + 0.5 * fastrand::f64();
        let n_steps = sweep.div_duration_f64(step);
        (step.mul_f64(jitter), (n as f64 / n_steps).ceil() as usize)
    }
}

struct Heartbeat {
    /// When the interval began at whose end it is due.
    since: Instant,
    due: Instant,
    /// When the request under way was sent.
    asked: Option<Instant>,
    /// Whether the request was granted; none where it stays unanswered.
    reply: Pin<Box<dyn Future<Output = Option<bool>> + Send>>,
}

impl Heartbeat {
    fn new(interval: Duration) -> Self {
        let since = Instant::now();
        Self {
            since,
            due: after(since, interval),
            asked: None,
            reply: Box::pin(std::future::pending()),
        }
    }
}

/// The end of the interval, at a time that can be waited for and is not now.
fn after(since: Instant, interval: Duration) -> Instant {
    since + interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

impl<'a, S: Source, F: FnMut(Update)> Serving<'a, S, F> {
    fn new(mirror: &'a mut Mirror<S, F>, session: Arc<S::Session>) -> Self {
        let mut ids: Vec<Id> = mirror.nodes.keys().copied().collect();
        ids.sort_unstable();
        for node in mirror.nodes.values_mut() {
            // Nothing of the session before counts: its watches are gone, and so are its events.
            node.state = State::Queued(match &node.unreadable {
                // A Stat does not say whether the content may be read.
                Some(Reason::Denied) => Occasion::Unknown,
                Some(_) | None => expected(node.known),
            });
            node.watch = None;
        }
        Self {
            unseen: ids.iter().copied().collect(),
            queue: ids.into(),
            looks: FuturesUnordered::new(),
            watches: FuturesUnordered::new(),
            retries: BTreeSet::new(),
            heartbeat: Heartbeat::new(mirror.heartbeat_interval),
            audit: Audit {
                due: Instant::now() + Audit::sweep(mirror.heartbeat_interval) / 10,
                left: VecDeque::new(),
            },
            credentials_due: Instant::now(),
            session,
            mirror,
        }
    }

    /// Serves until the session is to be left.
    async fn run(mut self, commands: &mut UnboundedReceiver<Command<S>>) -> End {
        let mut lost = Box::pin(self.session.lost());
        let reconnected = self.mirror.nodes.values().any(Node::has_content);
        let mut settled = false;
        loop {
            self.start_looks();
            if !settled && self.unseen.is_empty() {
                settled = true;
                if reconnected {
                    // Unchanged znodes were silent until now; their files look as old as the outage.
                    self.heartbeat.due = Instant::now();
                }
            }
            let retry = self.retries.first().map(|(time, _)| *time);
            // Watches before replies: what the server said first is heard first.
            tokio::select! {
                biased;
                reason = &mut lost => return End::Lost(reason),
                command = commands.recv() => {
                    let Some(command) = command else {
                        return End::Told;
                    };
                    if self.obey(command) {
                        return End::Moved;
                    }
                }
                Some(fired) = self.watches.next() => {
                    if let Some(id) = fired {
                        self.event(id);
                    }
                }
                Some((id, begun, finding)) = self.looks.next() => match finding {
                    None => return End::Lost(UNANSWERED.into()),
                    Some(Finding::Lost) => {
                        // No request succeeds any more, whether or not the session says why.
                        let reason = tokio::time::timeout(LAST_WORDS, &mut lost).await;
                        let reason = reason.unwrap_or_else(|_| "the connection broke".into());
                        return End::Lost(reason);
                    }
                    Some(finding) => {
                        let denied = matches!(finding, Finding::Denied);
                        self.found(id, begun, finding);
                        if denied && self.has_other_credentials() {
                            return End::Lost(OTHER_CREDENTIALS.into());
                        }
                    }
                },
                reply = &mut self.heartbeat.reply => match reply {
                    None => return End::Lost(UNANSWERED.into()),
                    Some(granted) => self.confirm(granted),
                },
                () = tokio::time::sleep_until(self.heartbeat.due) => self.beat(),
                () = sleep_until(retry) => self.retry(),
                () = tokio::time::sleep_until(self.audit.due) => self.audit(),
            }
        }
    }

    /// Whether the next session would have other credentials, unless that was asked just now.
    fn has_other_credentials(&mut self) -> bool {
        let now = Instant::now();
        if self.credentials_due > now {
            return false;
        }
        self.credentials_due = now + CREDENTIALS_INTERVAL;
        self.mirror.source.has_other_credentials(&self.session)
    }

    /// Takes a command in; says whether it is to leave the session.
    fn obey(&mut self, command: Command<S>) -> bool {
        let (moves, paces) = match &command {
            Command::Connect(_) => (true, false),
            Command::Watch(_) => (false, false),
            Command::Heartbeat(_) => (false, true),
            Command::Lost(_) => (false, false),
        };
        let lost = match &command {
            Command::Lost(paths) => paths.clone(),
            Command::Connect(_) | Command::Watch(_) | Command::Heartbeat(_) => Vec::new(),
        };
        let new = self.mirror.obey(command);
        for path in lost {
            // As if it had changed.
            if let Some(id) = self.mirror.ids.get(&path).copied() {
                self.event(id);
            }
        }
        self.unseen.extend(&new);
        self.queue.extend(new);
        // One that is due stays due.
        if paces && self.heartbeat.due > Instant::now() {
            self.heartbeat.due = after(self.heartbeat.since, self.mirror.heartbeat_interval);
        }
        moves
    }

    fn start_looks(&mut self) {
        while self.looks.len() < MAX_LOOKS {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            let Some(node) = self.mirror.nodes.get_mut(&id) else {
                self.unseen.remove(&id);
                continue;
            };
            let State::Queued(occasion) = node.state else {
                continue;
            };
            node.state = State::Looking(false);
            self.looks.push(begin(&self.session, id, node, occasion));
        }
    }

    /// A watch fired.
    fn event(&mut self, id: Id) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        match node.state {
            State::Looking(_) => node.state = State::Looking(true),
            State::Queued(_) => {}
            State::Clean | State::Retry(_) => self.enqueue(id),
        }
    }

    /// To be read again as soon as there is room.
    fn enqueue(&mut self, id: Id) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        if let State::Retry(time) = node.state {
            self.retries.remove(&(time, id));
        }
        node.state = State::Queued(Occasion::Unknown);
        self.queue.push_back(id);
    }

    /// A look came to an end.
    fn found(&mut self, id: Id, begun: Begun, finding: Finding<<S::Session as Session>::Watch>) {
        self.unseen.remove(&id);
        let most = longest_retry(self.retries.len());
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        let as_before = node.state == State::Clean && node.known == begun.known;
        if begun.occasion == Occasion::Audit && !as_before {
            // A watch was quicker.
            return;
        }
        let again = node.state == State::Looking(true);
        let path = node.path.clone();
        let differs = matches!(finding, Finding::New { .. } | Finding::Absent { .. });
        let is_news = differs
            && !matches!(
                (&finding, node.known),
                (Finding::Absent { .. }, Some(Told::Absent(_)))
            );
        if is_news && begun.occasion == Occasion::Audit {
            log::warn!("{path}: changed, and no watch told; the audit found it");
            (self.mirror.tell)(Update::Repaired { path: path.clone() });
        }
        let (watch, trouble) = match finding {
            Finding::Same { watch } => {
                // It stays as told where nothing proves that it is current.
                if node.unreadable.is_some() && !self.session.is_read_only() {
                    node.unreadable = None;
                    (self.mirror.tell)(Update::Confirmed {
                        paths: vec![path],
                        age: begun.at.elapsed(),
                    });
                }
                (Some(watch), None)
            }
            Finding::New { value, watch } => {
                node.known = Some(Told::Content(value.stat));
                node.told = true;
                node.unreadable = None;
                (self.mirror.tell)(Update::Content { path, value });
                (Some(watch), None)
            }
            Finding::Absent { watch } => {
                let is_told = matches!(node.known, Some(Told::Absent(_)))
                    && node.told
                    && node.unreadable.is_none();
                node.known = Some(Told::gone(node.known));
                node.told = true;
                node.unreadable = None;
                if !is_told {
                    (self.mirror.tell)(Update::Absent { path });
                }
                (Some(watch), None)
            }
            Finding::Unproven { watch, reason } => (Some(watch), Some(Reason::Unproven(reason))),
            Finding::Denied => (None, Some(Reason::Denied)),
            // The session ends.
            Finding::Lost => return,
            Finding::Failed(reason) => (None, Some(Reason::Failed(reason))),
        };
        if let Some(watch) = watch {
            // The one before, if it has not fired, would fire with this one and is left.
            let (watch, leave) = abortable(watch);
            node.watch = Some(Armed(leave));
            self.watches
                .push(Box::pin(async move { watch.await.ok().map(|()| id) }));
        }
        match trouble {
            None => {
                node.backoff = Backoff::looking();
                node.state = State::Clean;
            }
            Some(reason) => {
                let time = Instant::now() + node.backoff.next(most);
                node.state = State::Retry(time);
                self.retries.insert((time, id));
                if node.unreadable.as_ref() != Some(&reason) {
                    node.unreadable = Some(reason.clone());
                    let path = node.path.clone();
                    (self.mirror.tell)(Update::Unreadable { path, reason });
                }
            }
        }
        if again {
            self.enqueue(id);
        }
    }

    /// Looks at the next few znodes that ought to be as told.
    ///
    /// A watch may be lost without a word: a server with the fix of ZOOKEEPER-4799 uses it up
    /// silently when we may not read the znode at the moment of the event.
    fn audit(&mut self) {
        let nodes = &mut self.mirror.nodes;
        let sweep = Audit::sweep(self.mirror.heartbeat_interval);
        let (step, n) = Audit::pace(sweep, nodes.len());
        self.audit.due = Instant::now() + step;
        if self.audit.left.is_empty() {
            self.audit.left.extend(nodes.keys());
        }
        for _ in 0..n {
            let Some(id) = self.audit.left.pop_front() else {
                return;
            };
            // It stays clean meanwhile, for it very probably is.
            if let Some(node) = nodes.get(&id).filter(|node| node.state == State::Clean)
                && self.looks.len() < MAX_LOOKS
            {
                self.looks
                    .push(begin(&self.session, id, node, Occasion::Audit));
            }
        }
    }

    /// The times of some retries have come.
    fn retry(&mut self) {
        let now = Instant::now();
        while let Some(&(time, id)) = self.retries.first().filter(|(time, _)| *time <= now) {
            self.retries.remove(&(time, id));
            if self
                .mirror
                .nodes
                .get(&id)
                .is_some_and(|node| node.state == State::Retry(time))
            {
                self.enqueue(id);
            }
        }
    }

    /// Asks the server for a sign of life, at which everything clean is confirmed.
    fn beat(&mut self) {
        let now = Instant::now();
        self.heartbeat.since = now;
        self.heartbeat.due = after(now, self.mirror.heartbeat_interval);
        // What a partitioned server says may be old, and nothing confirms it.
        if self.heartbeat.asked.is_some() || self.session.is_read_only() {
            return;
        }
        let reply = self.session.sync(&ZnodePath::root());
        self.heartbeat.asked = Some(now);
        self.heartbeat.reply = Box::pin(async move {
            let reply = tokio::time::timeout(PATIENCE, reply).await;
            reply.ok().map(|reply| reply.is_ok())
        });
    }

    fn confirm(&mut self, granted: bool) {
        self.heartbeat.reply = Box::pin(std::future::pending());
        let Some(asked) = self.heartbeat.asked.take() else {
            return;
        };
        if !granted {
            return;
        }
        let clean = |node: &&Node| node.state == State::Clean && node.has_content();
        let paths: Vec<_> = self
            .mirror
            .nodes
            .values()
            .filter(clean)
            .map(|node| node.path.clone())
            .collect();
        if !paths.is_empty() {
            (self.mirror.tell)(Update::Confirmed {
                paths,
                age: asked.elapsed(),
            });
        }
    }
}

/// The most that a znode in trouble waits for its next look, when so many are: where all of them
/// are denied, a fleet must not keep the ensemble busy with asking.
fn longest_retry(n_retries: usize) -> Duration {
    let n_retries = u32::try_from(n_retries).unwrap_or(u32::MAX);
    (n_retries * Duration::from_millis(5)).clamp(Duration::from_secs(10), Duration::from_secs(600))
}

/// Begins a look at a znode.
fn begin<S: Session>(session: &Arc<S>, id: Id, node: &Node, occasion: Occasion) -> Look<S::Watch> {
    let session = Arc::clone(session);
    let (path, known) = (node.path.clone(), node.known);
    let doubted = node.unreadable.is_some();
    let at = Instant::now();
    Box::pin(async move {
        let look = look::look(&*session, &path, known, occasion, doubted);
        let finding = tokio::time::timeout(PATIENCE, look).await.ok();
        (
            id,
            Begun {
                at,
                occasion,
                known,
            },
            finding,
        )
    })
}

/// For ever, where there is no time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
