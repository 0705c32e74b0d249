//! A stand-alone ZooKeeper server of the tests, on a loopback port; it ends with its owner.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livedata::path::ZnodePath;
use livedata::source::zookeeper::ZooKeeper;
use livedata::source::{Session, Source};
use zookeeper_client as zk;

/// Whom the ACLs of the tests name.
pub(crate) const USER: &[u8] = b"user:password";

pub(crate) struct Server {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a server with an empty data directory, and waits until it serves.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let config = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\n\
             admin.enableServer=false\nmaxClientCnxns=0\nsnapCount=10\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("zoo.cfg"), config).unwrap();
        let process = spawn(dir.path());
        let server = Self { dir, port, process };
        server.serves().await;
        server
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on what it had on disk.
    pub(crate) async fn start_again(&mut self) {
        self.kill();
        self.process = spawn(self.dir.path());
        self.serves().await;
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The service as the program reaches it.
    pub(crate) fn source(&self) -> ZooKeeper {
        let credentials = Box::new(|| Ok(Vec::new()));
        ZooKeeper::new([self.host()], None, Duration::from_secs(5), credentials)
    }

    /// Another client, which may do everything.
    pub(crate) async fn client(&self) -> zk::Client {
        let connector = zk::Client::connector().with_auth("digest", USER);
        let host = self.host();
        let mut connecting = std::pin::pin!(connector.connect(&host));
        let connected = std::future::poll_fn(|context| {
            let _scope = spawns_core::enter(&Spawner);
            connecting.as_mut().poll(context)
        });
        connected.await.unwrap()
    }

    async fn serves(&self) {
        let source = self.source();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let tried = source.connect().await;
            match tried {
                Ok(session) => {
                    if session.check(&ZnodePath::root()).await.is_ok() {
                        return;
                    }
                }
                Err(err) => assert!(Instant::now() < deadline, "{err}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The client asks whoever polls it to spawn its task.
struct Spawner;

impl spawns_core::Spawn for Spawner {
    fn spawn(&self, task: spawns_core::Task) {
        tokio::spawn(Box::into_pin(task.future));
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new("java")
        .args(["-Xmx256m", "-cp", "/usr/share/java/zookeeper.jar"])
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(dir.join("zoo.cfg"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the packages java and zookeeper are installed")
}
