//! [`Source`] over a seeded model of ZooKeeper in memory, with a control side for tests.
//!
//! Faithful in: the fields of [`Stat`] and when they move, one-shot watches and those of trees, replies in the order
//! of requests, events before the reply to any request handled later, versions, read-only and
//! lagging servers, restores that use zxids again, and what a broken connection loses. A request
//! takes a delay to the server, is handled at one instant, and its reply takes another delay
//! back, so that a cut between the two loses the reply to a set that happened. All that is
//! random follows from the seed: in a current-thread runtime with paused time the same seed gives
//! the same run.
//!
//! Not faithful in: opening and closing a session and a refused request take no zxid; there is no
//! `/zookeeper`; content cannot be null; time is the number of transactions there were; a silent
//! server is never detected by the client (the real one gives up after 0.4 of the session
//! timeout); dropping a session takes the requests on their way to the server with it; nobody owns
//! ephemeral znodes; sizes are not limited.

mod history;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

pub use self::session::{FakeSession, TreeWatch, Watch};
use crate::path::ZnodePath;
use crate::source::fake::history::History;
use crate::source::fake::session::Served;
use crate::source::{ConnectError, Error, Source, Stat, Value};

/// How long an attempt to connect waits for a silent server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A ZooKeeper service in memory. Clones are the same service.
#[derive(Clone)]
pub struct FakeZooKeeper {
    shared: Arc<Shared>,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// [`Source::connect`].
    Connect,
    /// [`Session::read`](crate::source::Session::read).
    Read,
    /// [`Session::read_and_watch`](crate::source::Session::read_and_watch).
    ReadAndWatch,
    /// [`Session::check`](crate::source::Session::check).
    Check,
    /// [`Session::check_and_watch`](crate::source::Session::check_and_watch).
    CheckAndWatch,
    /// [`Session::children`](crate::source::Session::children).
    Children,
    /// [`Session::children_and_watch`](crate::source::Session::children_and_watch).
    ChildrenAndWatch,
    /// [`Session::watch_tree`](crate::source::Session::watch_tree).
    WatchTree,
    /// [`Session::sync`](crate::source::Session::sync).
    Sync,
    /// [`Session::set`](crate::source::Session::set).
    Set,
}

/// What went to and fro since [`FakeZooKeeper::new`] or the last [`FakeZooKeeper::take_counts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    requests: BTreeMap<Request, usize>,
    /// Events sent to sessions, without the lost ones.
    pub events: usize,
    /// Bytes of content in replies.
    pub content_bytes: usize,
    /// The most requests that waited for their replies at one time, over all sessions.
    pub max_in_flight: usize,
}

struct Shared {
    model: Mutex<Model>,
    /// Whether the service is silent.
    hung: watch::Sender<bool>,
}

struct Model {
    history: History,
    sessions: BTreeMap<i64, Served>,
    next_session: i64,
    random: fastrand::Rng,
    hooks: BTreeMap<(When, Request), VecDeque<Hook>>,
    counts: Counts,
    n_in_flight: usize,
    n_events_to_lose: usize,
    event_loss: f64,
    tells_of_unreadable: bool,
    lacks_tree_watches: bool,
    delay: Range<Duration>,
    lag: i64,
    read_only: bool,
    refusal: Option<Refusal>,
    hosts: Vec<String>,
    n_attempts: usize,
    session_timeout: Duration,
    /// How often the credentials of clients changed.
    n_rotations: usize,
}

/// What every attempt to connect gets, given the host.
type Refusal = Box<dyn Fn(String) -> ConnectError + Send>;
type Hook = Box<dyn FnOnce(&FakeZooKeeper) + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Before,
    After,
}

impl FakeZooKeeper {
    /// An empty service. Requests and replies take up to 3 ms each; the seed picks how long.
    pub fn new(seed: u64) -> Self {
        let model = Model {
            history: History::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            random: fastrand::Rng::with_seed(seed),
            hooks: BTreeMap::new(),
            counts: Counts::default(),
            n_in_flight: 0,
            n_events_to_lose: 0,
            event_loss: 0.0,
            tells_of_unreadable: false,
            lacks_tree_watches: false,
            delay: Duration::ZERO..Duration::from_millis(3),
            lag: 0,
            read_only: false,
            refusal: None,
            hosts: vec!["zk01:2181".into()],
            n_attempts: 0,
            session_timeout: Duration::from_secs(5),
            n_rotations: 0,
        };
        Self {
            shared: Arc::new(Shared {
                model: Mutex::new(model),
                hung: watch::Sender::new(false),
            }),
        }
    }

    /// Makes a znode, and its missing parents with no content; each is one transaction.
    pub fn create(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Stat, Error> {
        self.create_with(path, content.as_ref(), true)
    }

    /// [`FakeZooKeeper::create`] with an ACL that lets no client read it.
    pub fn create_unreadable(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Stat, Error> {
        self.create_with(path, content.as_ref(), false)
    }

    fn create_with(&self, path: &str, content: &[u8], readable: bool) -> Result<Stat, Error> {
        let path = parse(path)?;
        self.change(|history| {
            let mut missing = Vec::new();
            let mut above = path.parent();
            while let Some(parent) = above.filter(|parent| history.now(parent).is_none()) {
                above = parent.parent();
                missing.push(parent);
            }
            for parent in missing.iter().rev() {
                history.create(parent, Arc::default(), true)?;
            }
            history.create(&path, content.into(), readable)
        })
    }

    /// Sets the content of a znode, whatever its version and its ACL.
    pub fn set(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Stat, Error> {
        let path = parse(path)?;
        self.change(|history| history.set(&path, content.as_ref().into(), None))
    }

    /// Deletes a znode and first, from the bottom up, all that is below it; each is one
    /// transaction.
    pub fn delete(&self, path: &str) -> Result<(), Error> {
        let path = parse(path)?;
        self.change(|history| {
            for below in history.below(&path).iter().rev() {
                history.delete(below)?;
            }
            history.delete(&path)
        })
    }

    /// What is at `path` now, on a server that is up to date.
    pub fn get(&self, path: &str) -> Option<Value> {
        let path = parse(path).ok()?;
        Some(self.lock().history.now(&path)?.value.clone())
    }

    /// The newest transaction.
    pub fn last_zxid(&self) -> i64 {
        self.lock().history.last_zxid()
    }

    /// Whether the ACL lets clients read the content; [`check`](crate::source::Session::check)
    /// needs no permission.
    pub fn set_readable(&self, path: &str, readable: bool) -> Result<(), Error> {
        let path = parse(path)?;
        self.change(|history| history.change_acl(&path, |znode| znode.readable = readable))
    }

    /// Whether the ACL lets clients set the content.
    pub fn set_writable(&self, path: &str, writable: bool) -> Result<(), Error> {
        let path = parse(path)?;
        self.change(|history| history.change_acl(&path, |znode| znode.writable = writable))
    }

    /// Breaks every connection: requests, replies and events in flight are lost.
    pub fn cut(&self) {
        self.end_all("the connection broke");
    }

    /// Ends every session, as when a server did not hear of it for too long.
    pub fn expire(&self) {
        self.end_all("the session expired");
    }

    /// Whether attempts to connect are refused.
    pub fn refuse(&self, refuse: bool) {
        let unreachable = |host| ConnectError::Unreachable {
            host,
            reason: "Connection refused".into(),
        };
        self.lock().refusal = refuse.then(|| Box::new(unreachable) as Refusal);
    }

    /// Attempts to connect fail with what `refusal` makes of the host, until
    /// [`FakeZooKeeper::refuse`].
    pub fn refuse_with(&self, refusal: impl Fn(String) -> ConnectError + Send + 'static) {
        self.lock().refusal = Some(Box::new(refusal));
    }

    /// Whether the service is silent: connections stay, but nothing is answered, no event comes
    /// and no loss is reported. Afterwards it goes on with what it was asked, as a stopped process
    /// that is continued.
    pub fn hang(&self, hang: bool) {
        self.shared.hung.send_replace(hang);
    }

    /// Loses the next event of any session: a watch is used up without firing.
    pub fn lose_next_event(&self) {
        self.lock().n_events_to_lose += 1;
    }

    /// Loses each event with this probability.
    pub fn lose_events(&self, probability: f64) {
        self.lock().event_loss = probability;
    }

    /// Whether watches fire for events on znodes that the session may not read, as they do on
    /// servers older than 3.8.4 and 3.9.2. Newer ones (ZOOKEEPER-4799, CVE-2024-23944) use the
    /// watch up without firing it, and so does this one unless told otherwise.
    pub fn tell_of_unreadable(&self, tell: bool) {
        self.lock().tells_of_unreadable = tell;
    }

    /// Whether the servers are older than 3.6, and have no watches of trees.
    pub fn lack_tree_watches(&self, lack: bool) {
        self.lock().lacks_tree_watches = lack;
    }

    /// How long a message takes, each way.
    pub fn delay(&self, range: Range<Duration>) {
        self.lock().delay = range;
    }

    /// Sessions made from now on reach a server that is `n` transactions behind, and stays at that
    /// state until the session asks it to `sync` or to set; 0 is one that follows.
    pub fn lag(&self, n: usize) {
        self.lock().lag = i64::try_from(n).unwrap_or(i64::MAX);
    }

    /// Sessions made from now on are served by a partitioned server in read-only mode: it stays at
    /// the present state, less [`FakeZooKeeper::lag`], and takes neither `sync` nor set.
    pub fn read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Restores the state as of `zxid`, as from a backup: every connection breaks, and the zxids
    /// after it are used again.
    pub fn rewind(&self, zxid: i64) {
        self.lock().history.rewind(zxid);
        self.cut();
    }

    /// Starts over with nothing but the root, as on an empty data directory.
    pub fn wipe(&self) {
        self.lock().history.wipe();
        self.cut();
    }

    /// How many hosts the service has; attempts to connect go round them.
    pub fn hosts(&self, n: usize) {
        self.lock().hosts = (1..=n.max(1)).map(|i| format!("zk{i:02}:2181")).collect();
    }

    /// The session timeout that later sessions agree to.
    pub fn session_timeout(&self, timeout: Duration) {
        self.lock().session_timeout = timeout;
    }

    /// Gives later sessions other credentials. (They open no more than those before.)
    pub fn rotate_credentials(&self) {
        self.lock().n_rotations += 1;
    }

    /// How many sessions there are.
    pub fn n_sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// How many watches clients hold, fired ones aside.
    pub fn n_watches(&self) -> usize {
        self.lock().sessions.values().map(Served::n_watches).sum()
    }

    /// What went to and fro.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// [`FakeZooKeeper::counts`], and counts anew.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().counts)
    }

    /// Does something when the next such request has reached the server, before it is handled:
    /// a [`FakeZooKeeper::cut`] here loses the request.
    pub fn before_next(&self, request: Request, hook: impl FnOnce(&Self) + Send + 'static) {
        self.hook(When::Before, request, Box::new(hook));
    }

    /// Does something once the next such request has been handled, before its reply arrives: a
    /// [`FakeZooKeeper::cut`] here loses the reply.
    pub fn after_next(&self, request: Request, hook: impl FnOnce(&Self) + Send + 'static) {
        self.hook(When::After, request, Box::new(hook));
    }

    fn hook(&self, when: When, request: Request, hook: Hook) {
        let mut model = self.lock();
        model
            .hooks
            .entry((when, request))
            .or_default()
            .push_back(hook);
    }

    fn run_hook(&self, when: When, request: Request) {
        let hook = {
            let mut model = self.lock();
            let hooks = model.hooks.get_mut(&(when, request));
            hooks.and_then(VecDeque::pop_front)
        };
        if let Some(hook) = hook {
            hook(self);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut History) -> Result<T, Error>) -> Result<T, Error> {
        let mut model = self.lock();
        let result = change(&mut model.history);
        model.spread();
        result
    }

    fn end_all(&self, reason: &str) {
        let mut model = self.lock();
        let ids: Vec<i64> = model.sessions.keys().copied().collect();
        for id in ids {
            model.end(id, reason);
        }
    }

    /// Waits while the service is silent.
    async fn awake(&self) {
        // The sender lives in `self`.
        let _ = self.shared.hung.subscribe().wait_for(|hung| !hung).await;
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock()
    }
}

impl Source for FakeZooKeeper {
    type Session = FakeSession;

    async fn connect(&self) -> Result<FakeSession, ConnectError> {
        let (host, delay, timeout) = {
            let mut model = self.lock();
            *model.counts.requests.entry(Request::Connect).or_default() += 1;
            let host = model.hosts[model.n_attempts % model.hosts.len()].clone();
            model.n_attempts += 1;
            let spread = model.delay.end.saturating_sub(model.delay.start);
            let delay = model.delay.start + spread.mul_f64(model.random.f64());
            (host, delay, CONNECT_TIMEOUT.min(model.session_timeout))
        };
        let answered = tokio::time::timeout(timeout, async {
            tokio::time::sleep(delay).await;
            self.run_hook(When::Before, Request::Connect);
            self.awake().await;
        });
        if answered.await.is_err() {
            return Err(ConnectError::Unreachable {
                host,
                reason: format!("no answer within {:.1} s", timeout.as_secs_f64()),
            });
        }
        let session = {
            let mut model = self.lock();
            if let Some(refusal) = &model.refusal {
                return Err(refusal(host));
            }
            let applied = (model.history.last_zxid() - model.lag).max(0);
            FakeSession::open(self, &mut model, applied)
        };
        self.run_hook(When::After, Request::Connect);
        Ok(session)
    }

    fn n_hosts(&self) -> usize {
        self.lock().hosts.len()
    }

    fn has_other_credentials(&self, session: &FakeSession) -> bool {
        self.lock().n_rotations != session.n_rotations()
    }
}

impl Counts {
    /// How many such requests were made.
    pub fn of(&self, request: Request) -> usize {
        self.requests.get(&request).copied().unwrap_or(0)
    }

    /// How many requests asked for content.
    pub fn n_reads(&self) -> usize {
        self.of(Request::Read) + self.of(Request::ReadAndWatch)
    }

    /// How many requests asked for children.
    pub fn n_lists(&self) -> usize {
        self.of(Request::Children) + self.of(Request::ChildrenAndWatch)
    }

    /// How many requests asked for a [`Stat`] only.
    pub fn n_checks(&self) -> usize {
        self.of(Request::Check) + self.of(Request::CheckAndWatch)
    }
}

impl fmt::Debug for FakeZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeZooKeeper").finish_non_exhaustive()
    }
}

fn parse(path: &str) -> Result<ZnodePath, Error> {
    ZnodePath::parse(path).map_err(|err| Error::Other(err.to_string()))
}

#[cfg(test)]
mod tests;
