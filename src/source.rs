//! What we need of ZooKeeper: a trait for one connection, and its two implementations.
//!
//! Everything above speaks to [`Session`]; only [`zookeeper`] names the client crate, and
//! [`fake`] is the same trait over a seeded model in memory.

pub mod fake;
pub mod zookeeper;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use thiserror::Error;

use crate::path::ZnodePath;

/// The largest request a server with default limits (`jute.maxbuffer`) takes, in bytes. A larger
/// one costs the connection.
pub const MAX_REQUEST: usize = 0xfffff;

/// Makes connections.
pub trait Source: Send + Sync + 'static {
    /// One connection and the session on it.
    type Session: Session;

    /// One attempt at one server: names are resolved and credentials read anew each time, and
    /// successive attempts go round the configured hosts. Comes back within a few seconds.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, ConnectError>> + Send;

    /// How many attempts go once round the hosts.
    fn n_hosts(&self) -> usize;

    /// Whether a session made now would have other credentials than this one. Blocks as long as
    /// they take to read; where they cannot be read it is false.
    fn has_other_credentials(&self, session: &Self::Session) -> bool;
}

/// One session on one connection. It never reconnects: once [`Session::lost`] resolves, every
/// request fails and no watch fires any more; drop it and make a new one.
///
/// Replies come in the order of the requests, and a watch fires before the reply to any request
/// that the server handled after the event (ZooKeeper's ordering guarantee).
///
/// Dropping a session frees everything at once, whatever state the client is in.
pub trait Session: Send + Sync + 'static {
    /// Resolves once, when the watched znode was created, changed or deleted; or never, when the
    /// session is lost first. An event is a hint to read again, so it carries nothing.
    type Watch: Future<Output = ()> + Send + 'static;

    /// What happens at a znode and below it, in the order in which it happened; it ends when the
    /// session is lost, or never. Of what happened before the watch was set it tells nothing.
    type TreeWatch: Stream<Item = Event> + Send + Unpin + 'static;

    /// The content and its [`Stat`]. Null data is empty content.
    fn read(&self, path: &ZnodePath)
    -> impl Future<Output = Result<Value, Error>> + Send + 'static;

    /// The content, its [`Stat`] and a watch, all of one instant. Fails with [`Error::NoNode`]
    /// without leaving a watch.
    fn read_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Value, Self::Watch), Error>> + Send + 'static;

    /// The [`Stat`], or none where there is no znode. Needs no permission on the znode.
    fn check(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Option<Stat>, Error>> + Send + 'static;

    /// [`Session::check`] with a watch: on the data of an existing znode, on the creation of a
    /// missing one.
    fn check_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Option<Stat>, Self::Watch), Error>> + Send + 'static;

    /// The names of the children, in no order, and the [`Stat`] of the znode, all of one instant. It
    /// takes the permission to read.
    fn children(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Children, Error>> + Send + 'static;

    /// [`Session::children`] with a watch: it resolves once a child is created or deleted, or the
    /// znode is deleted.
    fn children_and_watch(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<(Children, Self::Watch), Error>> + Send + 'static;

    /// Watches a znode, which need not exist, and all below it, until the session is lost. Fails
    /// with [`Error::Unsupported`] where the server is older than 3.6.
    ///
    /// No other watch may be set on the same path in this session: a server would forget this one
    /// (ZOOKEEPER-4466).
    fn watch_tree(
        &self,
        path: &ZnodePath,
    ) -> impl Future<Output = Result<Self::TreeWatch, Error>> + Send + 'static;

    /// Waits until the server has caught up with what the leader had committed.
    fn sync(&self, path: &ZnodePath) -> impl Future<Output = Result<(), Error>> + Send + 'static;

    /// Sets the content of a znode that has `version`.
    fn set(
        &self,
        path: &ZnodePath,
        content: Arc<[u8]>,
        version: i32,
    ) -> impl Future<Output = Result<Stat, Error>> + Send + 'static;

    /// Resolves when the connection is gone, with the reason, in words for a log line.
    fn lost(&self) -> impl Future<Output = String> + Send + 'static;

    /// The session id, for the log.
    fn id(&self) -> i64;

    /// The session timeout that the server agreed to.
    fn timeout(&self) -> Duration;

    /// Whether a partitioned server serves us in read-only mode: what it says may be old.
    fn is_read_only(&self) -> bool;
}

/// The content of a znode and the [`Stat`] that came in the same reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub content: Arc<[u8]>,
    /// What ZooKeeper keeps beside them.
    pub stat: Stat,
}

/// The children of a znode and the [`Stat`] that came in the same reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Children {
    /// Their names, each the last component of a path.
    pub names: Vec<String>,
    /// What ZooKeeper keeps of their parent.
    pub stat: Stat,
}

/// Something that happened to a znode of a watched tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The znode.
    pub path: ZnodePath,
    /// What happened to it.
    pub what: Happened,
}

/// What happened to a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It was created.
    Created,
    /// Its content was set.
    Changed,
    /// It was deleted.
    Deleted,
}

/// What ZooKeeper keeps beside the bytes of a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that created the znode.
    pub czxid: i64,
    /// The transaction that last set its content.
    pub mzxid: i64,
    /// The transaction that last created or deleted a child of it.
    pub pzxid: i64,
    /// How often its content was set.
    pub version: i32,
    /// When it was created, in milliseconds since the epoch.
    pub ctime: i64,
    /// When it was last set, in milliseconds since the epoch.
    pub mtime: i64,
    /// The session that owns an ephemeral znode, else 0.
    pub ephemeral_owner: i64,
    /// The length of its content in bytes.
    pub data_length: i32,
    /// How many children it has.
    pub num_children: i32,
}

impl Stat {
    /// What orders two contents of one path in time: a re-created znode has a higher czxid, a set
    /// one a higher mzxid.
    pub fn order(&self) -> (i64, i64) {
        (self.czxid, self.mzxid)
    }
}

/// What was told of a znode, behind which nobody goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Content with this [`Stat`].
    Content(Stat),
    /// Content with this [`Stat`], which is not at hand any more, so it is to be told again.
    Lost(Stat),
    /// That it does not exist; and the mzxid of the last content before, if any was told: a server
    /// that lags must not bring it back.
    Absent(Option<i64>),
}

impl Told {
    /// What holds once the znode is gone, when this was told before.
    pub fn gone(before: Option<Self>) -> Self {
        match before {
            None => Self::Absent(None),
            Some(Self::Content(stat) | Self::Lost(stat)) => Self::Absent(Some(stat.mzxid)),
            Some(Self::Absent(before)) => Self::Absent(before),
        }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// There is no such znode.
    #[error("no such znode")]
    NoNode,
    /// The ACL of the znode does not allow it with our credentials.
    #[error("not authorised")]
    NoAuth,
    /// Another version was set meanwhile.
    #[error("the version changed")]
    BadVersion,
    /// The connection went before the reply came: a set may have happened or not.
    #[error("connection lost")]
    ConnectionLost,
    /// The server does not know such requests.
    #[error("the server is too old for this request")]
    Unsupported,
    /// Anything else; the request had no effect that we know of.
    #[error("{0}")]
    Other(String),
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No server that serves was reached. Trying again is the cure.
    #[error("{host}: {reason}")]
    Unreachable {
        /// The server that was tried.
        host: String,
        /// What happened, in words.
        reason: String,
    },
    /// The server refused our credentials.
    #[error("{host}: authentication failed")]
    AuthFailed {
        /// The server that was tried.
        host: String,
    },
    /// The credentials could not be read.
    #[error("credentials: {0}")]
    Credentials(String),
    /// The certificates could not be read.
    #[error("TLS: {0}")]
    Certificates(String),
}
