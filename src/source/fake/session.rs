//! One session with the fake service: two ordered streams with delays, one each way.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::path::ZnodePath;
use crate::source::fake::history::Znode;
use crate::source::fake::{FakeZooKeeper, Model, Request, When};
use crate::source::{Children, Error, Event, Happened, Session, Stat, Value};

/// A session of [`FakeZooKeeper`].
#[derive(Debug)]
pub struct FakeSession {
    zookeeper: FakeZooKeeper,
    id: i64,
    timeout: Duration,
    read_only: bool,
    /// How often credentials had changed when it was made.
    n_rotations: usize,
    lost: watch::Receiver<Option<String>>,
}

/// A watch of [`FakeSession`].
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A watch of a tree of [`FakeSession`].
pub type TreeWatch = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// The server's end of a session.
#[derive(Debug)]
pub(super) struct Served {
    /// The last transaction that the server behind this session has applied.
    pub(super) applied: i64,
    /// Whether it has stopped applying them.
    pub(super) is_behind: bool,
    is_read_only: bool,
    watches: BTreeMap<ZnodePath, Vec<oneshot::Sender<()>>>,
    /// Those on the children of these znodes.
    child_watches: BTreeMap<ZnodePath, Vec<oneshot::Sender<()>>>,
    /// Those on these znodes and all below them.
    tree_watches: BTreeMap<ZnodePath, Vec<mpsc::UnboundedSender<Event>>>,
    random: fastrand::Rng,
    arrivals: mpsc::UnboundedSender<Arrival>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    pub(super) n_in_flight: usize,
    lost: watch::Sender<Option<String>>,
    tasks: [AbortHandle; 2],
}

/// A request on its way to the server.
struct Arrival {
    at: Instant,
    request: Request,
    handle: Handle,
}

/// What the server does with a request, and then the client with the reply.
type Handle = Box<dyn FnOnce(&mut Model) -> Receive + Send>;
type Receive = Box<dyn FnOnce() + Send>;

/// A reply or an event on its way to the client.
struct Delivery {
    at: Instant,
    is_reply: bool,
    receive: Receive,
}

impl FakeSession {
    /// Opens a session at a server that has applied the transactions up to `applied`.
    pub(super) fn open(zookeeper: &FakeZooKeeper, model: &mut Model, applied: i64) -> Self {
        let id = model.next_session;
        model.next_session += 1;
        let (tell_lost, lost) = watch::channel(None);
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let (deliveries, delivering) = mpsc::unbounded_channel();
        let serving = tokio::spawn(serve(zookeeper.clone(), id, arriving));
        let receiving = tokio::spawn(receive(zookeeper.clone(), id, delivering));
        let served = Served {
            applied,
            is_behind: model.read_only || applied < model.history.last_zxid(),
            is_read_only: model.read_only,
            watches: BTreeMap::new(),
            child_watches: BTreeMap::new(),
            tree_watches: BTreeMap::new(),
            random: fastrand::Rng::with_seed(model.random.u64(..)),
            arrivals,
            deliveries,
            n_in_flight: 0,
            lost: tell_lost,
            tasks: [serving.abort_handle(), receiving.abort_handle()],
        };
        model.sessions.insert(id, served);
        Self {
            zookeeper: zookeeper.clone(),
            id,
            timeout: model.session_timeout,
            read_only: model.read_only,
            n_rotations: model.n_rotations,
            lost,
        }
    }

    pub(super) fn n_rotations(&self) -> usize {
        self.n_rotations
    }

    /// The request leaves when the future is first polled.
    fn request<T: Send + 'static>(
        &self,
        request: Request,
        handle: impl FnOnce(&mut Model, i64) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let (zookeeper, id) = (self.zookeeper.clone(), self.id);
        async move {
            let (tell, reply) = oneshot::channel();
            let handle: Handle = Box::new(move |model| {
                let result = handle(model, id);
                Box::new(move || {
                    // The caller may have stopped waiting.
                    let _ = tell.send(result);
                })
            });
            zookeeper.lock().send(id, request, handle);
            reply.await.unwrap_or(Err(Error::ConnectionLost))
        }
    }
}

impl Session for FakeSession {
    type Watch = Watch;
    type TreeWatch = TreeWatch;

    fn read(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Value, Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::Read, move |model, id| model.read(id, &path))
    }

    fn read_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Value, Watch), Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::ReadAndWatch, move |model, id| {
            let value = model.read(id, &path)?;
            Ok((value, model.watch(id, &path)))
        })
    }

    fn check(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Option<Stat>, Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::Check, move |model, id| Ok(model.check(id, &path)))
    }

    fn check_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Option<Stat>, Watch), Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::CheckAndWatch, move |model, id| {
            let found = model.check(id, &path);
            Ok((found, model.watch(id, &path)))
        })
    }

    fn children(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Children, Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::Children, move |model, id| {
            model.children(id, &path)
        })
    }

    fn children_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Children, Watch), Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::ChildrenAndWatch, move |model, id| {
            let children = model.children(id, &path)?;
            Ok((children, model.watch_children(id, &path)))
        })
    }

    fn watch_tree(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<TreeWatch, Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::WatchTree, move |model, id| {
            model.watch_tree(id, &path)
        })
    }

    fn sync(&self, _path: &ZnodePath) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        self.request(Request::Sync, |model, id| {
            model.refuse_read_only(id)?;
            model.catch_up(id);
            Ok(())
        })
    }

    fn set(
        &self,
        path: &ZnodePath,
        content: Arc<[u8]>,
        version: i32,
    ) -> impl Future<Output = Result<Stat, Error>> + Send + 'static {
        let path = path.clone();
        self.request(Request::Set, move |model, id| {
            model.refuse_read_only(id)?;
            let writable = model.history.now(&path).map(|znode| znode.writable);
            let result = match writable {
                None => Err(Error::NoNode),
                Some(false) => Err(Error::NoAuth),
                Some(true) => model.history.set(&path, content, Some(version)),
            };
            // The server answers once it has applied what the leader decided, so it has caught up.
            model.catch_up(id);
            model.spread();
            result
        })
    }

    fn lost(&self) -> impl Future<Output = String> + Send + 'static {
        let mut lost = self.lost.clone();
        async move {
            let reason = match lost.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone(),
                Err(_) => None,
            };
            reason.unwrap_or_else(|| "the client closed".into())
        }
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.zookeeper.lock().end(self.id, "the client closed");
    }
}

impl Model {
    fn send(&mut self, id: i64, request: Request, handle: Handle) {
        *self.counts.requests.entry(request).or_default() += 1;
        let delay = self.delay.clone();
        // A handle that is dropped fails its request: so where there is no session.
        let Some(served) = self.sessions.get_mut(&id) else {
            return;
        };
        let at = later(&mut served.random, &delay);
        served.n_in_flight += 1;
        // The task that receives ends with the session only.
        let _ = served.arrivals.send(Arrival {
            at,
            request,
            handle,
        });
        self.n_in_flight += 1;
        self.counts.max_in_flight = self.counts.max_in_flight.max(self.n_in_flight);
    }

    fn reply(&mut self, id: i64, receive: Receive) {
        if let Some(served) = self.sessions.get_mut(&id) {
            served.deliver(&self.delay, true, receive);
        }
    }

    fn seen(&self, id: i64, path: &ZnodePath) -> Option<&Znode> {
        let served = self.sessions.get(&id)?;
        self.history.at(path, served.applied)
    }

    fn read(&mut self, id: i64, path: &ZnodePath) -> Result<Value, Error> {
        let znode = self.seen(id, path).ok_or(Error::NoNode)?;
        if !znode.readable {
            return Err(Error::NoAuth);
        }
        let value = znode.value.clone();
        self.counts.content_bytes += value.content.len();
        Ok(value)
    }

    fn check(&self, id: i64, path: &ZnodePath) -> Option<Stat> {
        self.seen(id, path).map(|znode| znode.value.stat)
    }

    fn children(&self, id: i64, path: &ZnodePath) -> Result<Children, Error> {
        let znode = self.seen(id, path).ok_or(Error::NoNode)?;
        if !znode.readable {
            return Err(Error::NoAuth);
        }
        let applied = self.sessions.get(&id).map_or(0, |served| served.applied);
        Ok(Children {
            names: self.history.children(path, applied),
            stat: znode.value.stat,
        })
    }

    /// Data and exist watches are one thing to a server: any event on the znode fires them.
    fn watch(&mut self, id: i64, path: &ZnodePath) -> Watch {
        let watches = self.sessions.get_mut(&id).map(|served| &mut served.watches);
        watch_in(watches, path)
    }

    fn watch_children(&mut self, id: i64, path: &ZnodePath) -> Watch {
        let served = self.sessions.get_mut(&id);
        watch_in(served.map(|served| &mut served.child_watches), path)
    }

    fn watch_tree(&mut self, id: i64, path: &ZnodePath) -> Result<TreeWatch, Error> {
        if self.lacks_tree_watches {
            return Err(Error::Unsupported);
        }
        let (tell, mut told) = mpsc::unbounded_channel();
        if let Some(served) = self.sessions.get_mut(&id) {
            let watches = served.tree_watches.entry(path.clone()).or_default();
            watches.push(tell);
        }
        Ok(Box::pin(futures_util::stream::poll_fn(move |context| {
            told.poll_recv(context)
        })))
    }

    fn refuse_read_only(&self, id: i64) -> Result<(), Error> {
        match self.sessions.get(&id) {
            Some(served) if served.is_read_only => {
                Err(Error::Other("the server is read-only".into()))
            }
            _ => Ok(()),
        }
    }

    /// The server behind the session applies all there is, and follows from now on.
    fn catch_up(&mut self, id: i64) {
        if let Some(served) = self.sessions.get_mut(&id) {
            served.is_behind = false;
        }
        self.spread();
    }

    /// Every server that follows applies the newest transactions; watches fire.
    pub(super) fn spread(&mut self) {
        for served in self.sessions.values_mut() {
            if served.is_behind {
                continue;
            }
            while served.applied < self.history.last_zxid() {
                served.applied += 1;
                let Some((path, what, readable)) = self.history.touched_by(served.applied) else {
                    continue;
                };
                let receivers = served.watches_of(path, what);
                let is_secret = !readable && !self.tells_of_unreadable;
                if receivers.is_empty() || is_secret {
                    continue;
                }
                if self.n_events_to_lose > 0 {
                    self.n_events_to_lose -= 1;
                    continue;
                }
                if served.random.f64() < self.event_loss {
                    continue;
                }
                self.counts.events += 1;
                let event = Event {
                    path: path.clone(),
                    what,
                };
                let receive = move || {
                    for receiver in receivers {
                        // The watcher may have lost interest.
                        match receiver {
                            Receiver::Once(watch) => drop(watch.send(())),
                            Receiver::Tree(watch) => drop(watch.send(event.clone())),
                        }
                    }
                };
                served.deliver(&self.delay, false, Box::new(receive));
            }
        }
    }

    /// Ends a session: what is in flight either way is gone.
    pub(super) fn end(&mut self, id: i64, reason: &str) {
        if let Some(served) = self.sessions.remove(&id) {
            self.n_in_flight -= served.n_in_flight;
            for task in &served.tasks {
                task.abort();
            }
            served.lost.send_replace(Some(reason.into()));
        }
    }
}

/// Who hears of an event.
enum Receiver {
    Once(oneshot::Sender<()>),
    Tree(mpsc::UnboundedSender<Event>),
}

/// Adds a one-shot watch.
fn watch_in(
    watches: Option<&mut BTreeMap<ZnodePath, Vec<oneshot::Sender<()>>>>,
    path: &ZnodePath,
) -> Watch {
    let (fire, fired) = oneshot::channel();
    if let Some(watches) = watches {
        watches.entry(path.clone()).or_default().push(fire);
    }
    Box::pin(async move {
        if fired.await.is_err() {
            std::future::pending().await
        }
    })
}

impl Served {
    pub(super) fn n_watches(&self) -> usize {
        let held = |watch: &&oneshot::Sender<()>| !watch.is_closed();
        let once = self.watches.values().chain(self.child_watches.values());
        let trees = self.tree_watches.values().flatten();
        once.flatten().filter(held).count() + trees.filter(|watch| !watch.is_closed()).count()
    }

    /// Those that an event fires; one-shot watches are used up.
    fn watches_of(&mut self, path: &ZnodePath, what: Happened) -> Vec<Receiver> {
        let mut once = self.watches.remove(path).unwrap_or_default();
        let parent = path.parent();
        match what {
            Happened::Changed => {}
            Happened::Created | Happened::Deleted => {
                let of_parent = parent.and_then(|parent| self.child_watches.remove(&parent));
                once.extend(of_parent.unwrap_or_default());
            }
        }
        if what == Happened::Deleted {
            once.extend(self.child_watches.remove(path).unwrap_or_default());
        }
        let mut receivers: Vec<_> = once.into_iter().map(Receiver::Once).collect();
        let mut above = Some(path.clone());
        while let Some(root) = above {
            let watches = self.tree_watches.get(&root).into_iter().flatten();
            receivers.extend(watches.cloned().map(Receiver::Tree));
            above = root.parent();
        }
        receivers
    }

    fn deliver(&mut self, delay: &std::ops::Range<Duration>, is_reply: bool, receive: Receive) {
        let at = later(&mut self.random, delay);
        // The task that receives ends with the session only.
        let _ = self.deliveries.send(Delivery {
            at,
            is_reply,
            receive,
        });
    }
}

/// When something sent now gets there, if nothing sent before takes longer: the queues keep order.
fn later(random: &mut fastrand::Rng, delay: &std::ops::Range<Duration>) -> Instant {
    let spread = delay.end.saturating_sub(delay.start);
    Instant::now() + delay.start + spread.mul_f64(random.f64())
}

/// The server handles the requests in their order.
async fn serve(zookeeper: FakeZooKeeper, id: i64, mut arriving: mpsc::UnboundedReceiver<Arrival>) {
    while let Some(arrival) = arriving.recv().await {
        tokio::time::sleep_until(arrival.at).await;
        zookeeper.run_hook(When::Before, arrival.request);
        zookeeper.awake().await;
        {
            let mut model = zookeeper.lock();
            if !model.sessions.contains_key(&id) {
                return;
            }
            let receive = (arrival.handle)(&mut model);
            model.reply(id, receive);
        }
        zookeeper.run_hook(When::After, arrival.request);
    }
}

/// The client gets replies and events in the order in which the server sent them.
async fn receive(
    zookeeper: FakeZooKeeper,
    id: i64,
    mut delivering: mpsc::UnboundedReceiver<Delivery>,
) {
    while let Some(delivery) = delivering.recv().await {
        tokio::time::sleep_until(delivery.at).await;
        zookeeper.awake().await;
        if delivery.is_reply {
            let mut model = zookeeper.lock();
            let Some(served) = model.sessions.get_mut(&id) else {
                return;
            };
            served.n_in_flight -= 1;
            model.n_in_flight -= 1;
        }
        (delivery.receive)();
    }
}
