//! [`Source`] over the crate `zookeeper-client`: this file and those below it alone name it.
//!
//! One client serves one connection. Its own reconnection is never used: above about 128 KiB of
//! watched paths it cannot succeed (its SetWatches batches share one xid), it has no cap and no
//! jitter, and persistent watches would miss the events of the gap (ZOOKEEPER-4698). The task that
//! the client spawns is held here and aborted with the session, so that an abandoned client is
//! gone at once instead of knocking on in the background.
//!
//! A reply that no server sends may be refused by the client, panic it, or pass. One reply that
//! cannot be is an error of the request that asked for it, so that it stays alone and is asked for
//! again; where the stream itself is out of step, the session is lost. Both are counted, see
//! [`garbled`].

mod caught;
mod connecting;
mod rounds;
mod tls;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use zookeeper_client as zk;

pub use self::caught::Garbled;
use self::caught::{catching, count};
use self::connecting::{holding_tasks, why_unreachable};
use self::rounds::Rounds;
pub use self::tls::Tls;
use self::waiting::{Asked, Waiting};
use crate::path::ZnodePath;
use crate::source::{Children, ConnectError, Error, Event, Happened, Session, Source, Stat, Value};

/// How long one attempt at one server may take; less where the session timeout is shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest session timeout that a server may sensibly grant, whatever was asked for: until it
/// is over a silent server is not left.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a session with a read-only server goes on before it is looked for a better one, and
/// between looks; anything up to twice as long, for a whole fleet has such sessions at once.
const SEEK_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the digest credentials (`user:password` each), or says why it cannot.
pub type Credentials = Box<dyn Fn() -> Result<Vec<Vec<u8>>, String> + Send + Sync>;

/// A ZooKeeper service.
pub struct ZooKeeper {
    service: Service,
    rounds: Rounds,
    /// A session with a quorum, made while there was one without: the next to be used.
    found: Arc<Mutex<Option<ZooKeeperSession>>>,
}

/// How its servers are spoken to.
#[derive(Clone)]
struct Service {
    /// `host:port` each, in an order of our own: a fleet must not meet at the first one.
    hosts: Vec<String>,
    /// Prefixed to every path by the client; empty or starting with a slash.
    chroot: String,
    timeout: Duration,
    credentials: Arc<dyn Fn() -> Result<Vec<Vec<u8>>, String> + Send + Sync>,
    /// Whether they are for SASL, or each for the scheme `digest`.
    has_sasl: bool,
    tls: Option<Tls>,
}

/// A session of [`ZooKeeper`].
pub struct ZooKeeperSession {
    client: Arc<zk::Client>,
    timeout: Duration,
    /// Those it was made with.
    credentials: Vec<Vec<u8>>,
    /// Holds the reason once the connection is gone, or to be left.
    lost: watch::Receiver<Option<String>>,
    tell_lost: watch::Sender<Option<String>>,
    tasks: Vec<AbortHandle>,
    waiting: Arc<Mutex<Waiting>>,
    /// Why the stream cannot be read, once a request has said so.
    out_of_step: Arc<OnceLock<String>>,
}

/// A watch of [`ZooKeeperSession`].
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A watch of a tree of [`ZooKeeperSession`].
pub type TreeWatch = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What servers sent to this process that no server sends.
pub fn garbled() -> Garbled {
    caught::garbled()
}

impl ZooKeeper {
    /// `hosts` are `name:port`; `timeout` is the session timeout to ask for.
    pub fn new(
        hosts: impl IntoIterator<Item = String>,
        chroot: Option<&ZnodePath>,
        timeout: Duration,
        credentials: Credentials,
    ) -> Self {
        let mut hosts: Vec<String> = hosts.into_iter().collect();
        fastrand::shuffle(&mut hosts);
        let chroot = match chroot {
            Some(path) if *path != ZnodePath::root() => path.to_string(),
            _ => String::new(),
        };
        Self {
            rounds: Rounds::new(hosts.len(), false),
            found: Arc::default(),
            service: Service {
                hosts,
                chroot,
                timeout,
                credentials: credentials.into(),
                has_sasl: false,
                tls: None,
            },
        }
    }

    /// Speaks TLS, or plain text.
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.service.tls = tls;
        self
    }

    /// Uses the credential, which must be one, for SASL DIGEST-MD5.
    pub fn with_sasl_digest_md5(mut self, has_sasl: bool) -> Self {
        self.service.has_sasl = has_sasl;
        self
    }

    /// Takes a server without a quorum where no other serves, until one does.
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.rounds = Rounds::new(self.service.hosts.len(), read_only);
        self
    }
}

impl Source for ZooKeeper {
    type Session = ZooKeeperSession;

    async fn connect(&self) -> Result<ZooKeeperSession, ConnectError> {
        let found = self.found.lock().take();
        if let Some(session) = found.filter(|found| found.lost.borrow().is_none()) {
            return Ok(session);
        }
        let (at, read_only) = self.rounds.next();
        let mut session = self
            .service
            .connect(&self.service.hosts[at], read_only)
            .await?;
        self.rounds.served(at);
        if session.is_read_only() {
            let (service, found) = (self.service.clone(), Arc::clone(&self.found));
            session.leave_after(async move {
                *found.lock() = Some(service.seek_quorum().await);
                "a server with a quorum is reached".into()
            });
        }
        Ok(session)
    }

    fn n_hosts(&self) -> usize {
        self.rounds.n_attempts()
    }

    fn has_other_credentials(&self, session: &ZooKeeperSession) -> bool {
        (self.service.credentials)().is_ok_and(|now| now != session.credentials)
    }
}

impl Service {
    /// One attempt at one server.
    async fn connect(&self, host: &str, read_only: bool) -> Result<ZooKeeperSession, ConnectError> {
        let unreachable = |reason| ConnectError::Unreachable {
            host: host.into(),
            reason,
        };
        let mut connector = zk::Client::connector()
            .with_session_timeout(self.timeout)
            .with_readonly(read_only)
            .with_fail_eagerly();
        let credentials = (self.credentials)().map_err(ConnectError::Credentials)?;
        if self.has_sasl {
            let (user, password) = sasl_user(&credentials).map_err(ConnectError::Credentials)?;
            connector = connector.with_sasl(zk::SaslOptions::digest_md5(user, password));
        } else {
            for credential in &credentials {
                connector = connector.with_auth("digest", credential);
            }
        }
        let tls = match &self.tls {
            Some(files) => Some(files.read().map_err(ConnectError::Certificates)?),
            None => None,
        };
        if let Some(tls) = &tls {
            let options = tls.options().map_err(ConnectError::Certificates)?;
            connector = connector.with_tls(options);
            if let Err(reason) = tls::server_name(host) {
                return Err(unreachable(reason));
            }
        }
        let cluster = format!("{host}{}", self.chroot);
        let patience = CONNECT_TIMEOUT.min(self.timeout);
        let is_secure = tls.is_some();
        let connected = catching(holding_tasks(async {
            match is_secure {
                true => connector.secure_connect(&cluster).await,
                false => connector.connect(&cluster).await,
            }
        }));
        let reason = match tokio::time::timeout(patience, connected).await {
            Ok(Ok((Ok(client), tasks))) => {
                let granted = client.session_timeout();
                // The session is made in any case, for it holds the task.
                let session = ZooKeeperSession::new(client, tasks, credentials);
                if granted <= LONGEST_TIMEOUT.max(self.timeout) {
                    return Ok(session);
                }
                let reason = format!("it grants a session timeout of {granted:?}");
                count(&reason);
                reason
            }
            Ok(Ok((Err(zk::Error::AuthFailed), _))) => {
                return Err(ConnectError::AuthFailed { host: host.into() });
            }
            // The client keeps the cause to its log ("no available hosts"), so ask again.
            Ok(Ok((Err(_), _))) => why_unreachable(host, tls, patience).await,
            Ok(Err(words)) => {
                let reason = format!("the client panicked: {words}");
                count(&reason);
                reason
            }
            Err(_) => format!("no answer within {:.1} s", patience.as_secs_f64()),
        };
        Err(unreachable(reason))
    }

    /// A session with a server that has a quorum, however long that takes.
    async fn seek_quorum(&self) -> ZooKeeperSession {
        loop {
            tokio::time::sleep(SEEK_INTERVAL.mul_f64(1.0 + fastrand::f64())).await;
            // The one in use, too: behind its name there may be several.
            for host in &self.hosts {
                match self.connect(host, false).await {
                    Ok(session) => return session,
                    Err(err) => log::debug!("ZooKeeper: {err}; read-only for now"),
                }
            }
        }
    }
}

impl ZooKeeperSession {
    fn new(client: zk::Client, spawned: Vec<spawns_core::Task>, credentials: Vec<Vec<u8>>) -> Self {
        let (tell_lost, lost) = watch::channel(None);
        let tell = tell_lost.clone();
        let mut states = client.state_watcher();
        let serving: Vec<_> = spawned
            .into_iter()
            .map(|task| tokio::spawn(catching(Box::into_pin(task.future))))
            .collect();
        let mut tasks: Vec<_> = serving.iter().map(|task| task.abort_handle()).collect();
        let out_of_step = Arc::new(OnceLock::<String>::new());
        let broken = Arc::clone(&out_of_step);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let misses_one = Waiting::misses_one(Arc::clone(&waiting));
        let watching = tokio::spawn(async move {
            // Every change of state is a departure from being connected, even where a quick
            // reconnect hides it; and a client task that ended or panicked reports no state at all.
            let mut ended = futures_util::future::select_all(serving);
            let reason = tokio::select! {
                state = states.changed() => match state {
                    zk::SessionState::Expired => "the session expired".into(),
                    zk::SessionState::AuthFailed => "authentication failed".into(),
                    _ => {
                        // Only the requests that wait are told why, so they are heard first.
                        tokio::task::yield_now().await;
                        match broken.get() {
                            Some(reason) => format!("a garbled reply: {reason}"),
                            None => "the connection broke".into(),
                        }
                    }
                },
                (result, ..) = &mut ended => match result {
                    Ok(Err(words)) => {
                        let reason = format!("the client panicked: {words}");
                        count(&reason);
                        reason
                    }
                    _ => "the client closed".into(),
                },
                () = misses_one => {
                    let reason = "a reply is missing, and later ones came";
                    count(reason);
                    reason.into()
                }
            };
            tell.send_replace(Some(reason));
        });
        tasks.push(watching.abort_handle());
        Self {
            timeout: client.session_timeout(),
            client: Arc::new(client),
            credentials,
            lost,
            tell_lost,
            tasks,
            waiting,
            out_of_step,
        }
    }

    /// The session is to be left as soon as `better` gives a reason.
    fn leave_after(&mut self, better: impl Future<Output = String> + Send + 'static) {
        let tell = self.tell_lost.clone();
        let seeking = tokio::spawn(async move {
            tell.send_replace(Some(better.await));
        });
        self.tasks.push(seeking.abort_handle());
    }

    /// Makes a request; whatever the client does with a garbled reply (a short body of getData
    /// panics the caller) becomes an error.
    fn request<T, F>(
        &self,
        path: &ZnodePath,
        send: impl FnOnce(Arc<zk::Client>, ZnodePath) -> F + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (client, path) = (Arc::clone(&self.client), path.clone());
        // A session has one stream, and every request that waits is told how it broke.
        let out_of_step = Arc::clone(&self.out_of_step);
        let waiting = Arc::clone(&self.waiting);
        let reply = catching(async move {
            // The request goes out when `send` is called, so the numbers have its order.
            let asked = Asked::new(waiting);
            let reply = send(client, path).await;
            asked.answered();
            reply
        });
        async move {
            match reply.await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(Failure::Client(err))) => {
                    if let zk::Error::UnmarshalError { .. } | zk::Error::UnexpectedError(_) = err
                        && out_of_step.set(err.to_string()).is_ok()
                    {
                        count(&err.to_string());
                    }
                    Err(err.into())
                }
                Ok(Err(Failure::Garbled(reason))) | Err(reason) => {
                    count(&reason);
                    // Without the reason, which may be another one each time.
                    Err(Error::Other("garbled reply".into()))
                }
            }
        }
    }
}

/// Why a request failed, before it is an [`Error`].
enum Failure {
    Client(zk::Error),
    /// The client took a reply that cannot be, for this reason.
    Garbled(String),
}

impl From<zk::Error> for Failure {
    fn from(err: zk::Error) -> Self {
        Self::Client(err)
    }
}

impl Session for ZooKeeperSession {
    type Watch = Watch;
    type TreeWatch = TreeWatch;

    fn read(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Value, Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let (content, stat) = client.get_data(path.as_str()).await?;
            value(content, stat)
        })
    }

    fn read_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Value, Watch), Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let (content, stat, watcher) = client.get_and_watch_data(path.as_str()).await?;
            Ok((value(content, stat)?, fired(watcher)))
        })
    }

    fn check(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Option<Stat>, Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            client
                .check_stat(path.as_str())
                .await?
                .map(stat)
                .transpose()
        })
    }

    fn check_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Option<Stat>, Watch), Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let (found, watcher) = client.check_and_watch_stat(path.as_str()).await?;
            Ok((found.map(stat).transpose()?, fired(watcher)))
        })
    }

    fn children(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Children, Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let (names, stat) = client.get_children(path.as_str()).await?;
            children(names, stat)
        })
    }

    fn children_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Children, Watch), Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let (names, stat, watcher) = client.get_and_watch_children(path.as_str()).await?;
            Ok((children(names, stat)?, fired(watcher)))
        })
    }

    fn watch_tree(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<TreeWatch, Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            let mode = zk::AddWatchMode::PersistentRecursive;
            Ok(events(client.watch(path.as_str(), mode).await?))
        })
    }

    fn sync(&self, path: &ZnodePath) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        self.request(path, |client, path| async move {
            Ok(client.sync(path.as_str()).await?)
        })
    }

    fn set(
        &self,
        path: &ZnodePath,
        content: Arc<[u8]>,
        version: i32,
    ) -> impl Future<Output = Result<Stat, Error>> + Send + 'static {
        self.request(path, move |client, path| async move {
            stat(
                client
                    .set_data(path.as_str(), &content, Some(version))
                    .await?,
            )
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
        self.client.session_id().0
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn is_read_only(&self) -> bool {
        self.client.session().is_readonly()
    }
}

impl Drop for ZooKeeperSession {
    fn drop(&mut self) {
        // The socket closes with the task; the server lets the session expire.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl From<zk::Error> for Error {
    fn from(err: zk::Error) -> Self {
        match err {
            zk::Error::NoNode => Self::NoNode,
            zk::Error::NoAuth => Self::NoAuth,
            zk::Error::BadVersion => Self::BadVersion,
            zk::Error::Unimplemented => Self::Unsupported,
            zk::Error::ConnectionLoss
            | zk::Error::SessionExpired
            | zk::Error::SessionMoved
            | zk::Error::ClientClosed
            | zk::Error::AuthFailed
            | zk::Error::Timeout
            | zk::Error::NoHosts
            // What ends a connection is handed to every request that waits on it: an I/O error,
            // a reply that cannot be read, a silent server.
            | zk::Error::UnmarshalError { .. }
            | zk::Error::UnexpectedError(_)
            | zk::Error::Custom(_) => Self::ConnectionLost,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The user and the password of the one credential.
fn sasl_user(credentials: &[Vec<u8>]) -> Result<(String, String), String> {
    let [credential] = credentials else {
        return Err(format!(
            "SASL takes one credential, not {}",
            credentials.len()
        ));
    };
    let credential = std::str::from_utf8(credential);
    let (user, password) = credential
        .ok()
        .and_then(|text| text.split_once(':'))
        .ok_or("for SASL the secret must be user:password in UTF-8")?;
    Ok((user.into(), password.into()))
}

/// The client cuts the Stat off the end of a reply and trusts that the rest is the content: a
/// reply that lost or gained bytes shows in the length only.
fn value(content: Vec<u8>, from: zk::Stat) -> Result<Value, Failure> {
    let stat = stat(from)?;
    if i32::try_from(content.len()) != Ok(stat.data_length) {
        return Err(Failure::Garbled(format!(
            "{} bytes of content, of which the Stat says that they are {}",
            content.len(),
            stat.data_length
        )));
    }
    Ok(Value {
        content: content.into(),
        stat,
    })
}

/// A count and a list that differ are of a garbled reply.
fn children(names: Vec<String>, from: zk::Stat) -> Result<Children, Failure> {
    let stat = stat(from)?;
    if i32::try_from(names.len()) != Ok(stat.num_children) {
        return Err(Failure::Garbled(format!(
            "{} children, of which the Stat says that they are {}",
            names.len(),
            stat.num_children
        )));
    }
    Ok(Children { names, stat })
}

fn stat(from: zk::Stat) -> Result<Stat, Failure> {
    if from.data_length < 0 || from.num_children < 0 {
        return Err(Failure::Garbled(format!(
            "a Stat with {} bytes and {} children",
            from.data_length, from.num_children
        )));
    }
    Ok(Stat {
        czxid: from.czxid,
        mzxid: from.mzxid,
        pzxid: from.pzxid,
        version: from.version,
        ctime: from.ctime,
        mtime: from.mtime,
        ephemeral_owner: from.ephemeral_owner,
        data_length: from.data_length,
        num_children: from.num_children,
    })
}

/// Resolves on a znode event only: a session event ends the watch, and a client task that died
/// drops it (the client's receiver panics then); [`Session::lost`] tells of both.
fn fired(watcher: zk::OneshotWatcher) -> Watch {
    Box::pin(async move {
        match catching(watcher.changed()).await {
            Ok(event) if event.event_type != zk::EventType::Session => {}
            Ok(_) | Err(_) => std::future::pending().await,
        }
    })
}

/// What a recursive watch tells, until the client ends or its task dies (the client's receiver
/// panics then); [`Session::lost`] tells of both.
fn events(watcher: zk::PersistentWatcher) -> TreeWatch {
    Box::pin(futures_util::stream::unfold(
        watcher,
        |mut watcher| async move {
            loop {
                let event = catching(watcher.changed()).await.ok()?;
                let what = match event.event_type {
                    zk::EventType::NodeCreated => Happened::Created,
                    zk::EventType::NodeDataChanged => Happened::Changed,
                    zk::EventType::NodeDeleted => Happened::Deleted,
                    zk::EventType::Session if event.session_state.is_terminated() => return None,
                    // A recursive watch has no children events, for it has all others.
                    _ => continue,
                };
                match ZnodePath::parse(&event.path) {
                    Ok(path) => return Some((Event { path, what }, watcher)),
                    Err(err) => count(&format!("an event of what is no path: {err}")),
                }
            }
        },
    ))
}
