//! The mirror while it has a session.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{abortable, join_all};
use futures_util::stream::{FuturesUnordered, SelectAll};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::audit::Audit;
use super::backoff::Backoff;
use super::heartbeat::Heartbeat;
use super::look::{self, Finding, Found, Listing, Occasion, Task, WantsChildren};
use super::node::{Armed, Id, Node, State};
use super::wanted::is_covered;
use super::{Command, Mirror, Reason, Update};
use crate::path::ZnodePath;
use crate::source::{Error, Event, Happened, Session, Source, Told};

/// Looks under way at once: enough to fill the pipe, and a bound on what a reply may queue
/// (zookeeper-client queues without one).
const MAX_LOOKS: usize = 512;

/// How long the requests of one look may stay unanswered before the session counts as wedged.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a session is left whose connection stands: pings may still be answered.
const UNANSWERED: &str = "requests are not answered";

/// Why a session is left that may not read what another one may.
const OTHER_CREDENTIALS: &str = "the credentials changed, and a znode is denied to the old ones";

/// How often it is looked whether there are other credentials, at most.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a request found the connection lost the session has to say why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a session is left.
pub(super) enum End {
    /// It is lost, for this reason.
    Lost(String),
    /// The next one is to be another, for this reason.
    Moved(&'static str),
    /// The mirror is to end.
    Told,
}

/// The mirror while it has a session.
pub(super) struct Serving<'a, S: Source, F> {
    mirror: &'a mut Mirror<S, F>,
    session: Arc<S::Session>,
    queue: VecDeque<Id>,
    looks: Looks<<S::Session as Session>::Watch>,
    watches: Watches,
    /// Nothing is looked at until it is known which subtrees are watched.
    covering: Option<Covering<<S::Session as Session>::TreeWatch>>,
    /// The roots of the subtrees that are watched.
    covered: HashSet<ZnodePath>,
    events: SelectAll<<S::Session as Session>::TreeWatch>,
    /// The znodes in [`State::Retry`], by time.
    retries: BTreeSet<(Instant, Id)>,
    /// The znodes that this session has not looked at yet.
    unseen: HashSet<Id>,
    heartbeat: Heartbeat,
    audit: Audit,
    /// When it may be looked again whether there are other credentials.
    credentials_due: Instant,
}

type Looks<W> = FuturesUnordered<Look<W>>;
/// None where the requests stay unanswered.
type Look<W> = Pin<Box<dyn Future<Output = (Id, Begun, Option<Found<W>>)> + Send>>;
/// Whose watch fired; none where it was left.
type Watches = FuturesUnordered<Pin<Box<dyn Future<Output = Option<Id>> + Send>>>;
/// The watches of subtrees, by their roots; none where the requests stay unanswered.
type Covering<T> = Pin<Box<dyn Future<Output = Option<Covers<T>>> + Send>>;
type Covers<T> = Vec<(ZnodePath, Result<T, Error>)>;

/// How a look began.
#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    occasion: Occasion,
    known: Option<Told>,
    /// The number of the look.
    number: u32,
}

impl<'a, S: Source, F: FnMut(Update)> Serving<'a, S, F> {
    pub(super) fn new(mirror: &'a mut Mirror<S, F>, session: Arc<S::Session>) -> Self {
        let mut ids: Vec<Id> = mirror.nodes.keys().copied().collect();
        ids.sort_unstable();
        for node in mirror.nodes.values_mut() {
            node.begin_session();
        }
        let mut roots = mirror.trees.outermost();
        let has_trees = !roots.is_empty();
        if mirror.lacks_tree_watches {
            roots.clear();
        }
        Self {
            unseen: ids.iter().copied().collect(),
            queue: ids.into(),
            looks: FuturesUnordered::new(),
            watches: FuturesUnordered::new(),
            covering: has_trees.then(|| cover(&session, roots)),
            covered: HashSet::new(),
            events: SelectAll::new(),
            retries: BTreeSet::new(),
            heartbeat: Heartbeat::new(mirror.heartbeat_interval),
            audit: Audit::new(mirror.heartbeat_interval),
            credentials_due: Instant::now(),
            session,
            mirror,
        }
    }

    /// Serves until the session is to be left.
    pub(super) async fn run(mut self, commands: &mut UnboundedReceiver<Command<S>>) -> End {
        let mut lost = Box::pin(self.session.lost());
        let reconnected = self.mirror.nodes.values().any(Node::has_content);
        let mut settled = false;
        loop {
            self.start_looks();
            if !settled && self.unseen.is_empty() {
                settled = true;
                (self.mirror.tell)(Update::Settled);
                if reconnected {
                    // Unchanged znodes were silent until now; their files look as old as the outage.
                    self.heartbeat.due = Instant::now();
                }
            }
            let retry = self.retries.first().map(|(time, _)| *time);
            // Watches before replies: what the server said first is heard first.
            tokio::select! {
                biased;
                reason = &mut lost => {
                    self.hear_why_not_covered().await;
                    return End::Lost(reason);
                }
                command = commands.recv() => {
                    let Some(command) = command else {
                        return End::Told;
                    };
                    if let Some(reason) = self.obey(command) {
                        return End::Moved(reason);
                    }
                }
                Some(fired) = self.watches.next() => {
                    if let Some(id) = fired {
                        self.event(id);
                    }
                }
                Some(event) = self.events.next() => self.happened(&event),
                covers = covers(&mut self.covering) => match covers {
                    None => return End::Lost(UNANSWERED.into()),
                    Some(covers) => self.is_covered_by(covers),
                },
                Some((id, begun, found)) = self.looks.next() => match found {
                    None => return End::Lost(UNANSWERED.into()),
                    Some(Found { finding: Finding::Lost, .. }) => {
                        // No request succeeds any more, whether or not the session says why.
                        let reason = tokio::time::timeout(LAST_WORDS, &mut lost).await;
                        let reason = reason.unwrap_or_else(|_| "the connection broke".into());
                        return End::Lost(reason);
                    }
                    Some(found) => {
                        let denied = matches!(found.finding, Finding::Denied);
                        self.found(id, begun, found);
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

    /// Takes a command in; says why, where it is to leave the session.
    fn obey(&mut self, command: Command<S>) -> Option<&'static str> {
        let obeyed = self.mirror.obey(command);
        self.unseen.extend(&obeyed.new);
        self.queue.extend(obeyed.new);
        for id in obeyed.again {
            self.event(id);
        }
        if obeyed.paces {
            self.heartbeat.pace(self.mirror.heartbeat_interval);
        }
        obeyed.moves
    }

    /// It is known now which subtrees are watched.
    fn is_covered_by(&mut self, covers: Covers<<S::Session as Session>::TreeWatch>) {
        self.covering = None;
        for (root, watch) in covers {
            match watch {
                Ok(watch) => {
                    self.events.push(watch);
                    self.covered.insert(root);
                }
                // The session says so, too.
                Err(Error::ConnectionLost) => {}
                Err(err) => {
                    self.mirror.lacks_tree_watches |= err == Error::Unsupported;
                    log::info!("{root}: each znode is watched by itself, for {err}");
                }
            }
        }
    }

    /// A server before 3.6 says that it has no watches of subtrees, and closes the connection.
    async fn hear_why_not_covered(&mut self) {
        if self.covering.is_some() {
            let covers = tokio::time::timeout(LAST_WORDS, covers(&mut self.covering)).await;
            if let Ok(Some(covers)) = covers {
                self.is_covered_by(covers);
            }
        }
    }

    fn is_covered(&self, path: &ZnodePath) -> bool {
        !self.covered.is_empty() && is_covered(path, |path| self.covered.contains(path))
    }

    fn start_looks(&mut self) {
        while self.looks.len() < MAX_LOOKS && self.covering.is_none() {
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
            self.begin(id, occasion);
        }
    }

    /// Begins a look at a znode.
    fn begin(&mut self, id: Id, occasion: Occasion) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        let number = node.begin_look();
        let (path, known, is_doubted) = (node.path.clone(), node.known, node.unreadable.is_some());
        let wants_content = node.is_wanted;
        let children = node.children.as_ref();
        let children = children.map(|children| (children.is_complete, children.generation));
        let is_covered = self.is_covered(&path);
        let children = match children {
            None => WantsChildren::No,
            // Events have told the rest.
            Some((true, _)) if is_covered && occasion == Occasion::Unknown => WantsChildren::No,
            Some((_, generation)) => WantsChildren::Unless(generation),
        };
        let task = Task {
            path,
            known,
            occasion,
            is_doubted,
            wants_content,
            is_covered,
            children,
        };
        let session = Arc::clone(&self.session);
        let at = Instant::now();
        self.looks.push(Box::pin(async move {
            let found = tokio::time::timeout(PATIENCE, look::look(&*session, &task)).await;
            let begun = Begun {
                at,
                occasion,
                known,
                number,
            };
            (id, begun, found.ok())
        }));
    }

    /// A watch fired.
    fn event(&mut self, id: Id) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        match node.state {
            State::Looking(_) => node.state = State::Looking(true),
            State::Queued(_) => {}
            State::Clean | State::Retry(_) => self.enqueue(id, Occasion::Unknown),
        }
    }

    /// Something happened in a subtree that is watched.
    fn happened(&mut self, Event { path, what }: &Event) {
        let is_there = match what {
            Happened::Changed => None,
            Happened::Created => Some(true),
            Happened::Deleted => Some(false),
        };
        if let (Some(is_there), Some(parent), Some(name)) = (is_there, path.parent(), path.name()) {
            self.happened_to_child(&parent, name, is_there);
        }
        match self.mirror.ids.get(path) {
            Some(id) => self.event(*id),
            None if is_there == Some(false) => {}
            None => _ = self.discover(path.clone()),
        }
    }

    fn happened_to_child(&mut self, parent: &ZnodePath, name: &str, is_there: bool) {
        let Some(id) = self.mirror.ids.get(parent).copied() else {
            return;
        };
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        match &mut node.children {
            Some(children) => {
                children.note(name, is_there);
                if children.is_complete {
                    self.tell_children(id, None);
                }
            }
            // Nobody counts its children, but a Stat does.
            None if node.is_wanted && node.is_parent != Some(is_there) => match node.state {
                State::Clean => self.enqueue(id, Occasion::Reconnected),
                State::Looking(_) => node.state = State::Looking(true),
                State::Queued(_) | State::Retry(_) => {}
            },
            None => {}
        }
    }

    /// Tells whether the znode has children, if it was told otherwise. A look found so many.
    fn tell_children(&mut self, id: Id, n_found: Option<usize>) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        let Some(has_children) = node.has_children(n_found) else {
            return;
        };
        let is_told = node.is_parent == Some(has_children);
        if is_told || !node.is_wanted || !node.has_content() || !self.mirror.trees.wants(&node.path)
        {
            return;
        }
        node.is_parent = Some(has_children);
        let path = node.path.clone();
        (self.mirror.tell)(Update::Children { path, has_children });
    }

    /// There is a znode. Says whether it was not known, and is wanted.
    fn discover(&mut self, path: ZnodePath) -> bool {
        let is_known = self.mirror.ids.contains_key(&path);
        let trees = &self.mirror.trees;
        if is_known || !(trees.wants(&path) || trees.descends(&path)) {
            return false;
        }
        let id = self.mirror.add(path);
        self.unseen.insert(id);
        self.queue.push_back(id);
        true
    }

    /// To be looked at as soon as there is room.
    fn enqueue(&mut self, id: Id, occasion: Occasion) {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        if let State::Retry(time) = node.state {
            self.retries.remove(&(time, id));
        }
        node.state = State::Queued(occasion);
        self.queue.push_back(id);
    }

    /// A look came to an end.
    fn found(&mut self, id: Id, begun: Begun, found: Found<<S::Session as Session>::Watch>) {
        self.unseen.remove(&id);
        let Found {
            finding,
            watches,
            n_children,
            listing,
        } = found;
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        let is_latest = node.n_looks == begun.number;
        let is_audit = begun.occasion == Occasion::Audit;
        if is_audit && !(is_latest && node.state == State::Clean && node.known == begun.known) {
            // A watch was quicker.
            return;
        }
        let again = node.state == State::Looking(true);
        let path = node.path.clone();
        if is_audit && is_news(&finding, node.known) {
            self.repaired(&path);
        }
        let is_whole = !matches!(listing, Listing::Failed(_));
        let (is_gone, mut trouble) = match self.judge(id, begun, finding, is_whole) {
            Judged::Well { is_gone } => (is_gone, None),
            Judged::Trouble(reason) => (false, Some(reason)),
            // The session ends.
            Judged::Lost => return,
        };
        if is_gone && !again && !self.mirror.nodes[&id].is_named {
            self.forget(id, &path);
            return;
        }
        if let Some(reason) = self.listed(id, listing, is_audit) {
            trouble.get_or_insert(Reason::Failed(reason));
        }
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
        node.end_look();
        if !watches.is_empty() {
            // Those before, if they have not fired, would fire with these and are left.
            node.watches.clear();
        }
        for watch in watches {
            let (watch, leave) = abortable(watch);
            node.watches.push(Armed(leave));
            self.watches
                .push(Box::pin(async move { watch.await.ok().map(|()| id) }));
        }
        self.tell_children(id, n_children);
        self.settle(id, trouble);
        if again {
            self.enqueue(id, Occasion::Unknown);
        }
    }

    /// There is no such znode any more.
    fn forget(&mut self, id: Id, path: &ZnodePath) {
        self.mirror.forget(id);
        if self.is_covered(path) {
            return;
        }
        // Nothing tells when it comes back; and its parent may have been listed with it just now, as
        // it was before.
        let parent = path.parent();
        let parent = parent.and_then(|parent| self.mirror.ids.get(&parent).copied());
        if let Some(parent) = parent {
            self.event(parent);
        }
    }

    /// Takes in what was found of the znode itself, where its children were found, too, or not.
    fn judge(&mut self, id: Id, begun: Begun, finding: Finding, is_whole: bool) -> Judged {
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return Judged::Lost;
        };
        let path = node.path.clone();
        match finding {
            Finding::Same | Finding::There => {
                // It stays as told where nothing proves that it is current.
                if node.unreadable.is_some() && is_whole && !self.session.is_read_only() {
                    node.unreadable = None;
                    (self.mirror.tell)(Update::Confirmed {
                        paths: vec![path],
                        age: begun.at.elapsed(),
                    });
                }
            }
            Finding::New { value } => {
                node.known = Some(Told::Content(value.stat));
                node.told = true;
                node.unreadable = None;
                node.is_parent = Some(value.stat.num_children > 0);
                (self.mirror.tell)(Update::Content { path, value });
            }
            Finding::Absent => {
                let is_told = matches!(node.known, Some(Told::Absent(_)))
                    && node.told
                    && node.unreadable.is_none();
                let was_unreadable = node.unreadable.take().is_some();
                node.known = Some(Told::gone(node.known));
                node.told = true;
                node.is_parent = None;
                if !is_told && (node.is_wanted || was_unreadable) {
                    (self.mirror.tell)(Update::Absent { path });
                }
                return Judged::Well { is_gone: true };
            }
            Finding::Unproven { reason } => return Judged::Trouble(Reason::Unproven(reason)),
            Finding::Denied => return Judged::Trouble(Reason::Denied),
            Finding::Lost => return Judged::Lost,
            Finding::Failed(reason) => return Judged::Trouble(Reason::Failed(reason)),
        }
        Judged::Well { is_gone: false }
    }

    /// Takes in what was found of the children; gives the reason where that is nothing.
    fn listed(&mut self, id: Id, listing: Listing, is_audit: bool) -> Option<String> {
        let node = self.mirror.nodes.get_mut(&id)?;
        let path = node.path.clone();
        let children = node.children.as_mut()?;
        let (names, gone) = match listing {
            Listing::None => return None,
            Listing::Failed(reason) => return Some(reason),
            Listing::Same => {
                children.is_complete = true;
                return None;
            }
            Listing::New { names, generation } => {
                // What a partitioned server lists may be old, and is no news of what was known.
                if self.session.is_read_only() && children.generation.is_some() {
                    return None;
                }
                (names.clone(), children.list(names, generation))
            }
        };
        let mut differs = !gone.is_empty();
        for name in names {
            match path.child(&name) {
                Ok(child) => differs |= self.discover(child),
                Err(err) => log::warn!("{path}: a child is left out: {err}"),
            }
        }
        if is_audit && differs {
            self.repaired(&path);
        }
        for name in gone {
            let child = path.child(&name).ok();
            if let Some(id) = child.and_then(|child| self.mirror.ids.get(&child)) {
                self.event(*id);
            }
        }
        None
    }

    /// The look at the znode has ended, well or not.
    fn settle(&mut self, id: Id, trouble: Option<Reason>) {
        let most = longest_retry(self.retries.len());
        let Some(node) = self.mirror.nodes.get_mut(&id) else {
            return;
        };
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
    }

    fn repaired(&mut self, path: &ZnodePath) {
        log::warn!("{path}: changed, and no watch told; the audit found it");
        (self.mirror.tell)(Update::Repaired { path: path.clone() });
    }

    /// Looks at the next few znodes that ought to be as told.
    ///
    /// A watch may be lost without a word: a server with the fix of ZOOKEEPER-4799 uses it up
    /// silently when we may not read the znode at the moment of the event.
    fn audit(&mut self) {
        let nodes = &self.mirror.nodes;
        let all = nodes.keys().copied();
        let interval = self.mirror.heartbeat_interval;
        for id in self.audit.next(interval, nodes.len(), all) {
            // It stays clean meanwhile, for it very probably is.
            let node = self.mirror.nodes.get(&id);
            if node.is_some_and(|node| node.state == State::Clean) && self.looks.len() < MAX_LOOKS {
                self.begin(id, Occasion::Audit);
            }
        }
    }

    /// The times of some retries have come.
    fn retry(&mut self) {
        let now = Instant::now();
        while let Some(&(time, id)) = self.retries.first().filter(|(time, _)| *time <= now) {
            self.retries.remove(&(time, id));
            let node = self.mirror.nodes.get(&id);
            if node.is_some_and(|node| node.state == State::Retry(time)) {
                self.enqueue(id, Occasion::Unknown);
            }
        }
    }

    /// Asks the server for a sign of life, at which everything clean is confirmed.
    fn beat(&mut self) {
        self.heartbeat.begin(self.mirror.heartbeat_interval);
        // What a partitioned server says may be old, and nothing confirms it.
        if self.heartbeat.asked.is_some() || self.session.is_read_only() {
            return;
        }
        let reply = self.session.sync(&ZnodePath::root());
        self.heartbeat.asked = Some(self.heartbeat.since);
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

/// What a finding comes to.
enum Judged {
    Well {
        /// There is no znode.
        is_gone: bool,
    },
    Trouble(Reason),
    Lost,
}

/// Whether a finding is another than what is known.
fn is_news(finding: &Finding, known: Option<Told>) -> bool {
    match finding {
        Finding::New { .. } => true,
        Finding::Absent => !matches!(known, Some(Told::Absent(_))),
        _ => false,
    }
}

/// Has the server catch up, and watches the subtrees below these roots.
fn cover<S: Session>(session: &Arc<S>, roots: HashSet<ZnodePath>) -> Covering<S::TreeWatch> {
    let session = Arc::clone(session);
    Box::pin(async move {
        let root = ZnodePath::root();
        let sync = async {
            match session.is_read_only() {
                true => Ok(()),
                false => session.sync(&root).await,
            }
        };
        let watch = async |root| {
            let watch = session.watch_tree(&root).await;
            (root, watch)
        };
        let watches = roots.into_iter().map(watch);
        // One after the other: a server that does not know watches of subtrees says so at once, also
        // before it has answered what was asked before, and no client takes that.
        let all = async { (sync.await, join_all(watches).await) };
        let (synced, watches) = tokio::time::timeout(PATIENCE, all).await.ok()?;
        if let Err(err) = synced {
            log::warn!("ZooKeeper: a server may lag behind, for it does not sync: {err}");
        }
        Some(watches)
    })
}

/// For ever, where it is known.
async fn covers<T>(covering: &mut Option<Covering<T>>) -> Option<Covers<T>> {
    match covering {
        Some(covering) => covering.await,
        None => std::future::pending().await,
    }
}

/// The most that a znode in trouble waits for its next look, when so many are: where all of them
/// are denied, a fleet must not keep the ensemble busy with asking.
fn longest_retry(n_retries: usize) -> Duration {
    let n_retries = u32::try_from(n_retries).unwrap_or(u32::MAX);
    (n_retries * Duration::from_millis(5)).clamp(Duration::from_secs(10), Duration::from_secs(600))
}

/// For ever, where there is no time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
