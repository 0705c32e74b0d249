//! A blocking client that sets the stage: creates, changes and deletes znodes and their ACLs.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use zookeeper_client as zk;

use super::zookeeper::SUPER_USER;

/// How long a request keeps being tried while the server is away.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many requests of [`Admin::set_many`] are in flight.
const IN_FLIGHT: usize = 1000;

/// A client with all rights: it is the super user of our servers. A request outlives a restart of
/// the server by being made anew; one that fails for another reason fails the test.
pub struct Admin {
    hosts: String,
    tasks: Handle,
    client: Mutex<Option<Arc<zk::Client>>>,
    /// Dropped to end the thread that runs `tasks`.
    _running: oneshot::Sender<()>,
}

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, zk::Error>> + Send>>;

impl Admin {
    /// A client of `hosts`, which may end in a chroot. It connects with the first request.
    pub fn connect(hosts: impl Into<String>) -> Self {
        let (running, stop) = oneshot::channel();
        let (tell, tasks) = mpsc::channel();
        thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                tell.send(runtime.handle().clone()).unwrap();
                let _ = runtime.block_on(stop);
            })
            .unwrap();
        Self {
            hosts: hosts.into(),
            tasks: tasks.recv().unwrap(),
            client: Mutex::new(None),
            _running: running,
        }
    }

    /// Creates a znode, and its parents where they are missing.
    #[track_caller]
    pub fn create(&self, path: &str, content: impl AsRef<[u8]>) {
        self.create_many([(path, content)]);
    }

    /// Creates znodes, many requests in flight.
    #[track_caller]
    pub fn create_many<P: AsRef<str>, C: AsRef<[u8]>>(
        &self,
        znodes: impl IntoIterator<Item = (P, C)>,
    ) {
        self.many(znodes, |client, path, content, again| {
            Box::pin(async move {
                let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
                if let Some((parent, _)) = path.rsplit_once('/').filter(|(at, _)| !at.is_empty()) {
                    client.mkdir(parent, &options).await?;
                }
                match client.create(&path, &content, &options).await {
                    Err(zk::Error::NodeExists) if again => Ok(()),
                    result => result.map(drop),
                }
            })
        });
    }

    /// Creates znodes whose parents are there, many requests in flight, each a single one.
    #[track_caller]
    pub fn create_new<P: AsRef<str>, C: AsRef<[u8]>>(
        &self,
        znodes: impl IntoIterator<Item = (P, C)>,
    ) {
        self.many(znodes, |client, path, content, again| {
            Box::pin(async move {
                let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
                match client.create(&path, &content, &options).await {
                    Err(zk::Error::NodeExists) if again => Ok(()),
                    result => result.map(drop),
                }
            })
        });
    }

    /// Sets the content of a znode, whatever its version; gives the new version.
    #[track_caller]
    pub fn set(&self, path: &str, content: impl AsRef<[u8]>) -> i32 {
        let (path, content) = (path.to_owned(), content.as_ref().to_vec());
        self.must(&format!("set {path}"), move |client, _| {
            let (path, content) = (path.clone(), content.clone());
            Box::pin(async move { Ok(client.set_data(&path, &content, None).await?.version) })
        })
    }

    /// Sets the content of many znodes, many requests in flight, in the order given.
    #[track_caller]
    pub fn set_many<P: AsRef<str>, C: AsRef<[u8]>>(
        &self,
        znodes: impl IntoIterator<Item = (P, C)>,
    ) {
        self.many(znodes, |client, path, content, _| {
            // The request goes out when the future is made, so the order is kept.
            let set = client.set_data(&path, &content, None);
            Box::pin(async move { set.await.map(drop) })
        });
    }

    /// Deletes a znode without children.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        let path = path.to_owned();
        self.must(&format!("delete {path}"), move |client, again| {
            let path = path.clone();
            Box::pin(async move {
                match client.delete(&path, None).await {
                    Err(zk::Error::NoNode) if again => Ok(()),
                    result => result,
                }
            })
        });
    }

    /// The content and stat of a znode; none where there is no such znode.
    #[track_caller]
    pub fn get(&self, path: &str) -> Option<(Vec<u8>, zk::Stat)> {
        let path = path.to_owned();
        self.must(&format!("get {path}"), move |client, _| {
            let path = path.clone();
            Box::pin(async move {
                match client.get_data(&path).await {
                    Err(zk::Error::NoNode) => Ok(None),
                    result => result.map(Some),
                }
            })
        })
    }

    /// The names of the children of a znode; none where there is no such znode.
    #[track_caller]
    pub fn children(&self, path: &str) -> Option<Vec<String>> {
        let path = path.to_owned();
        self.must(&format!("list {path}"), move |client, _| {
            let path = path.clone();
            Box::pin(async move {
                match client.list_children(&path).await {
                    Err(zk::Error::NoNode) => Ok(None),
                    result => result.map(Some),
                }
            })
        })
    }

    /// Deletes a znode and all below it.
    #[track_caller]
    pub fn delete_all(&self, path: &str) {
        for child in self.children(path).unwrap_or_default() {
            self.delete_all(&format!("{path}/{child}"));
        }
        self.delete(path);
    }

    /// Deletes znodes without children, many requests in flight, in the order given.
    #[track_caller]
    pub fn delete_many<P: AsRef<str>>(&self, paths: impl IntoIterator<Item = P>) {
        let znodes = paths.into_iter().map(|path| (path, ""));
        self.many(znodes, |client, path, _, again| {
            let delete = client.delete(&path, None);
            Box::pin(async move {
                match delete.await {
                    Err(zk::Error::NoNode) if again => Ok(()),
                    result => result,
                }
            })
        });
    }

    /// Whether there is such a znode.
    #[track_caller]
    pub fn exists(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// Gives all rights on a znode to `credential` (`user:password`), and none to others.
    #[track_caller]
    pub fn set_acl_digest(&self, path: &str, credential: &str) {
        // The server fills in who `auth` is, so this takes a session of that user.
        let user = Self::connect(self.hosts.clone());
        let credential = credential.as_bytes().to_vec();
        user.must("authenticate", move |client, _| {
            let credential = credential.clone();
            Box::pin(async move { client.auth("digest", &credential).await })
        });
        user.set_acl(path, zk::Permission::ALL, zk::AuthId::authed());
    }

    /// Gives all rights on a znode to a user of SASL, and none to others.
    #[track_caller]
    pub fn set_acl_sasl(&self, path: &str, user: &str) {
        self.set_acl(path, zk::Permission::ALL, zk::AuthId::new("sasl", user));
    }

    /// Gives all rights on a znode to anyone.
    #[track_caller]
    pub fn set_acl_world(&self, path: &str) {
        self.set_acl(path, zk::Permission::ALL, zk::AuthId::anyone());
    }

    /// Lets anyone read a znode, and nobody do anything else.
    #[track_caller]
    pub fn set_acl_read_only(&self, path: &str) {
        self.set_acl(path, zk::Permission::READ, zk::AuthId::anyone());
    }

    /// Takes all rights on a znode away from everybody.
    #[track_caller]
    pub fn set_acl_nobody(&self, path: &str) {
        self.set_acl_digest(path, "nobody:knows");
    }

    /// The id of its session.
    pub fn session(&self) -> i64 {
        self.must("tell the session", |client, _| {
            Box::pin(future::ready(Ok(client.session_id().0)))
        })
    }

    #[track_caller]
    fn set_acl(&self, path: &str, permission: zk::Permission, who: zk::AuthId) {
        let path = path.to_owned();
        self.must(&format!("set the ACL of {path}"), move |client, _| {
            let (path, acl) = (path.clone(), [zk::Acl::new(permission, who.clone())]);
            Box::pin(async move { client.set_acl(&path, &acl, None).await.map(drop) })
        });
    }

    #[track_caller]
    fn many<P: AsRef<str>, C: AsRef<[u8]>>(
        &self,
        znodes: impl IntoIterator<Item = (P, C)>,
        request: impl Fn(Arc<zk::Client>, String, Vec<u8>, bool) -> Reply<()> + Send + Sync + 'static,
    ) {
        let znodes: Vec<(String, Vec<u8>)> = znodes
            .into_iter()
            .map(|(path, content)| (path.as_ref().to_owned(), content.as_ref().to_vec()))
            .collect();
        let request = Arc::new(request);
        for chunk in znodes.chunks(IN_FLIGHT) {
            let (chunk, request): (Arc<[_]>, _) = (chunk.into(), Arc::clone(&request));
            let what = format!("write {} znodes from {} on", chunk.len(), chunk[0].0);
            self.must(&what, move |client, again| {
                let replies: Vec<_> = chunk
                    .iter()
                    .cloned()
                    .map(|(path, content)| request(Arc::clone(&client), path, content, again))
                    .collect();
                Box::pin(async move { future::try_join_all(replies).await.map(drop) })
            });
        }
    }

    /// Makes a request until it is answered. `request` is told whether an earlier try may have
    /// had its effect.
    #[track_caller]
    fn must<T: Send + 'static>(
        &self,
        what: &str,
        request: impl Fn(Arc<zk::Client>, bool) -> Reply<T> + Send + Sync + 'static,
    ) -> T {
        let start = Instant::now();
        let request = Arc::new(request);
        let mut again = false;
        loop {
            let known = self.client.lock().unwrap().clone();
            let (hosts, request) = (self.hosts.clone(), Arc::clone(&request));
            let (tell, answer) = mpsc::channel();
            let task = self.tasks.spawn(async move {
                let client = match known {
                    Some(client) => client,
                    None => match connect(&hosts).await {
                        Ok(client) => Arc::new(client),
                        Err(err) => return tell.send((None, Err(err))),
                    },
                };
                let reply = request(Arc::clone(&client), again).await;
                tell.send((Some(client), reply))
            });
            let answer = answer.recv_timeout(PATIENCE);
            task.abort();
            let (client, reply) = answer.unwrap_or((None, Err(zk::Error::Timeout)));
            *self.client.lock().unwrap() = client;
            match reply {
                Ok(reply) => return reply,
                Err(
                    zk::Error::NoNode
                    | zk::Error::NoAuth
                    | zk::Error::NodeExists
                    | zk::Error::NotEmpty
                    | zk::Error::BadArguments(_)
                    | zk::Error::AuthFailed,
                ) => {
                    let err = reply.err().unwrap();
                    panic!("cannot {what}: {err}");
                }
                Err(err) => {
                    assert!(start.elapsed() < PATIENCE, "cannot {what}: {err}");
                    *self.client.lock().unwrap() = None;
                    again = true;
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// Connects as the super user, with the client's task on the tokio runtime that polls this.
async fn connect(hosts: &str) -> Result<zk::Client, zk::Error> {
    struct OnTokio;
    impl spawns_core::Spawn for OnTokio {
        fn spawn(&self, task: spawns_core::Task) {
            tokio::spawn(Box::into_pin(task.future));
        }
    }
    let connector = zk::Client::connector()
        .with_session_timeout(Duration::from_secs(30))
        .with_auth("digest", SUPER_USER.as_bytes())
        .with_fail_eagerly();
    let mut connecting = pin!(connector.connect(hosts));
    std::future::poll_fn(|context| {
        let _scope = spawns_core::enter(&OnTokio);
        match connecting.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
