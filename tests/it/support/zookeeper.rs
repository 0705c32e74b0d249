//! ZooKeeper servers: stand-alone ones, ensembles of three, and one that most tests share.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::admin::Admin;
use super::proxy::Proxy;
use super::wire::{self, Wire};
use super::{process, wait};

/// Credentials that every ACL lets through, on these servers only.
pub const SUPER_USER: &str = "super:tests";

/// The id that [`SUPER_USER`] has on the servers: `super:` and the base64 of its SHA-1.
const SUPER_DIGEST: &str = "super:9G470tPHK3ZqT2WT/hS/SEaJIEM=";

/// With the binding that Debian's slf4j brings, so that the server has a log, and what Netty needs
/// for TLS and the package does not name.
const CLASS_PATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar:\
                          /usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar";

/// How long a server may take to start, on a busy machine.
const START: Duration = Duration::from_secs(40);

/// A ZooKeeper server on loopback. Its session timeouts are 1 to 60 seconds.
pub struct Server {
    /// More options of java, from the next start on.
    pub options: Vec<String>,
    address: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
    /// Holds the directory, unless something else cleans it up.
    _temp: Option<TempDir>,
}

/// Three servers that elect a leader.
pub struct Ensemble {
    /// The servers, to be stopped and paused one by one.
    pub members: Vec<Server>,
}

/// A client that a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client's end.
    pub client: SocketAddr,
    /// Its session.
    pub session: i64,
}

/// A corner of the shared server that belongs to one test.
pub struct Sandbox {
    /// Creates and changes znodes; its paths begin at the corner.
    pub admin: Admin,
    chroot: String,
}

/// The server that the tests share: do not stop, pause or fill it.
pub fn shared_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        // A static is never dropped: the process ends with us, the directory goes in a later run.
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in fs::read_dir(parent).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix("zookeeper-")
                && !Path::new("/proc").join(pid).exists()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = parent.join(format!("zookeeper-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Server::start_in(dir)
    })
}

impl Sandbox {
    /// Makes an empty corner named after the test.
    pub fn new(name: &str) -> Self {
        static N_SANDBOXES: AtomicUsize = AtomicUsize::new(0);
        let n = N_SANDBOXES.fetch_add(1, Ordering::Relaxed);
        let chroot = format!("/test-{name}-{n}");
        Admin::connect(shared_server().hosts()).create(&chroot, "");
        Self {
            admin: Admin::connect(format!("{}{chroot}", shared_server().hosts())),
            chroot,
        }
    }

    /// What `zookeeper.hosts` must say: the server and the chroot.
    pub fn hosts(&self) -> String {
        self.hosts_through(shared_server().address())
    }

    /// [`Sandbox::hosts`] behind a proxy.
    pub fn hosts_through(&self, proxy: SocketAddr) -> String {
        format!("{proxy}{}", self.chroot)
    }

    /// The path of a znode on the server, for what does not go through the chroot.
    pub fn full_path(&self, path: &str) -> String {
        format!("{}{path}", self.chroot)
    }

    /// Creates a znode with null data.
    pub fn create_null(&self, path: &str) {
        let mut wire = Wire::connect(shared_server().address());
        wire.create_null(&self.full_path(path));
        wire.close();
    }
}

impl Server {
    /// Starts a stand-alone server and waits until it serves.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// [`Server::start`] with more lines in its configuration.
    pub fn start_with(more: &str) -> Self {
        Self::start_with_options(more, &[])
    }

    /// [`Server::start_with`] more options of java.
    pub fn start_with_options(more: &str, options: &[String]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut server = Self::new(temp.path().to_owned(), Some(temp), more);
        server.options = options.to_vec();
        server.restart();
        server
    }

    fn start_in(dir: PathBuf) -> Self {
        let mut server = Self::new(dir, None, "");
        server.restart();
        server
    }

    /// Writes what a server needs, and starts nothing.
    fn new(dir: PathBuf, temp: Option<TempDir>, more: &str) -> Self {
        let address = free_address();
        fs::write(
            dir.join("zoo.cfg"),
            format!(
                "tickTime=500\ninitLimit=20\nsyncLimit=8\n\
                 minSessionTimeout=1000\nmaxSessionTimeout=60000\n\
                 dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n\
                 maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n{more}",
                dir.join("data").display(),
                address.port(),
            ),
        )
        .unwrap();
        fs::create_dir(dir.join("data")).unwrap();
        Self {
            options: Vec::new(),
            address,
            dir,
            child: None,
            _temp: temp,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `zookeeper.hosts` must say.
    pub fn hosts(&self) -> String {
        self.address.to_string()
    }

    /// Its data directory, to be copied or replaced while it is stopped.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Makes it silent: it holds its connections and answers nothing.
    pub fn pause(&self) {
        process::stop(process::pid(self.child.as_ref().unwrap()));
    }

    /// Lets it go on after [`Server::pause`].
    pub fn resume(&self) {
        process::signal(self.child.as_ref().unwrap(), Signal::CONT);
    }

    /// Stops it where it runs, starts it with the data and the port it had, and waits until it
    /// serves.
    pub fn restart(&mut self) {
        self.stop();
        self.spawn();
        self.wait_until_serving(START);
    }

    /// Starts it (again) and does not wait.
    pub fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut command = process::bound_to_us("java", "KILL");
        command
            // It keeps the last 500 transactions in memory, and some tests set a megabyte at a time.
            .args(["-Xms24m", "-Xmx512m", "-XX:+UseSerialGC"])
            .args(["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            // The host does not crash in these tests, and many of them set a lot.
            .args(["-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=1024"])
            .arg(format!(
                "-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"
            ))
            .args(&self.options)
            .args(["-cp", CLASS_PATH])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(self.dir.join("zoo.cfg"))
            .current_dir(&self.dir)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(process::spawn(command));
    }

    /// Waits until it serves; panics with its log when it ends instead.
    #[track_caller]
    pub fn wait_until_serving(&mut self, deadline: Duration) {
        let start = Instant::now();
        while self.mode().is_none() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || start.elapsed() > deadline {
                panic!("the server does not serve ({ended:?}):\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `standalone`, `leader`, `follower` or `read-only`; none where it does not serve.
    pub fn mode(&self) -> Option<String> {
        let answer = wire::four_letters(self.address, "srvr")?;
        let mode = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    }

    /// The sessions that are connected to it at the moment.
    pub fn connections(&self) -> Vec<Connection> {
        let answer = wire::four_letters(self.address, "cons").unwrap_or_default();
        answer.lines().filter_map(connection).collect()
    }

    /// Whether it knows a session that has not expired.
    pub fn has_session(&self, session: i64) -> bool {
        let answer = wire::four_letters(self.address, "dump").unwrap_or_default();
        answer.contains(&format!("0x{session:x}"))
    }

    /// Takes a session over, as a client does that comes back: the connection it had is closed.
    pub fn take_over(&self, session: i64) -> std::io::Result<Option<Wire>> {
        wire::take_over(self.address, session)
    }

    /// Ends a session as the server does when it expires: takes it over and closes it. Its client
    /// is cut off, and told so when it comes back. False where there is no such session.
    pub fn expire(&self, session: i64) -> bool {
        wire::expire(self.address, session)
    }

    /// Ends every session but that of `admin`, and says how many.
    pub fn expire_others(&self, admin: &Admin) -> usize {
        let kept = admin.session();
        let connections = self.connections().into_iter();
        connections
            .filter(|connection| connection.session != kept && self.expire(connection.session))
            .count()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // A paused process ends only once it goes on.
        for signal in [signal, Signal::CONT] {
            let _ = rustix::process::kill_process(process::pid(&child), signal);
        }
        if process::wait(&mut child, Duration::from_secs(5)).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ensemble {
    /// Starts three servers and waits until all of them serve.
    pub fn start() -> Self {
        Self::start_with("", &[])
    }

    /// [`Ensemble::start`] with more lines in the configuration and more options of java.
    pub fn start_with(more: &str, options: &[&str]) -> Self {
        let peers = peers();
        let lines = more.to_owned() + &lines(&peers);
        let mut members = members([&lines; 3]);
        for member in &mut members {
            member.options = options.iter().map(ToString::to_string).collect();
            member.spawn();
        }
        for member in &mut members {
            member.wait_until_serving(START);
        }
        Self { members }
    }

    /// [`Ensemble::start`], with proxies between the first member, which follows, and the others.
    pub fn start_linked(more: &str) -> (Self, [Proxy; 2]) {
        let peers = peers();
        let links = [peers[1].0, peers[2].0].map(Proxy::start_raw);
        let mut seen = peers;
        seen[1].0 = links[0].address();
        seen[2].0 = links[1].address();
        let (first, others) = (
            more.to_owned() + &lines(&seen),
            more.to_owned() + &lines(&peers),
        );
        let mut members = members([&first, &others, &others]);
        // The first one finds a leader when it comes.
        for some in [1..3, 0..1] {
            for member in &mut members[some.clone()] {
                member.spawn();
            }
            for member in &mut members[some] {
                member.wait_until_serving(START);
            }
        }
        (Self { members }, links)
    }

    /// Restarts all members but the first, where it does not find them.
    pub fn part_first(&mut self) {
        let lines = lines(&peers());
        for member in &mut self.members[1..] {
            member.kill();
            let file = member.dir.join("zoo.cfg");
            let text = fs::read_to_string(&file).unwrap();
            let (rest, _) = text.split_once("server.").unwrap();
            fs::write(file, rest.to_owned() + &lines).unwrap();
            member.spawn();
        }
        for member in &mut self.members[1..] {
            member.wait_until_serving(START);
        }
    }

    /// What `zookeeper.hosts` must say.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(Server::hosts).collect();
        hosts.join(",")
    }

    /// Which member leads; waits for one.
    pub fn leader(&self) -> usize {
        self.member_in_mode("leader")
    }

    /// Which member follows (one of them); waits for one.
    pub fn follower(&self) -> usize {
        self.member_in_mode("follower")
    }

    /// Which member a session is connected to at the moment.
    pub fn member_of(&self, session: i64) -> Option<usize> {
        self.members.iter().position(|member| {
            let mut connections = member.connections().into_iter();
            connections.any(|connection| connection.session == session)
        })
    }

    fn member_in_mode(&self, mode: &str) -> usize {
        wait::wait_for(START, &format!("a {mode} in the ensemble"), || {
            let mut members = self.members.iter();
            members.position(|member| member.mode().as_deref() == Some(mode))
        })
    }
}

/// The addresses of three servers for their quorum and for elections.
fn peers() -> [(SocketAddr, SocketAddr); 3] {
    [(); 3].map(|()| (free_address(), free_address()))
}

/// The servers of an ensemble, in a configuration.
fn lines(peers: &[(SocketAddr, SocketAddr)]) -> String {
    let lines = (1..)
        .zip(peers)
        .map(|(n, (quorum, election))| format!("server.{n}={quorum}:{}\n", election.port()));
    lines.collect()
}

/// Servers that are not started yet, each with lines of its own.
fn members(more: [&str; 3]) -> Vec<Server> {
    let members = (1..).zip(more).map(|(n, more)| {
        let temp = tempfile::tempdir().unwrap();
        let server = Server::new(temp.path().to_owned(), Some(temp), more);
        fs::write(server.data_dir().join("myid"), n.to_string()).unwrap();
        server
    });
    members.collect()
}

/// A loopback port that is free now, outside of the range that outgoing connections take theirs
/// from, so that a stopped server finds it free again. No two calls in one process give the same.
pub fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<usize> = 10_000..30_000;
    static FIRST: OnceLock<usize> = OnceLock::new();
    static N_TAKEN: AtomicUsize = AtomicUsize::new(0);
    let first = FIRST.get_or_init(|| fastrand::usize(PORTS));
    loop {
        let n = first + N_TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + n % PORTS.len();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Reads a line of `cons`: ` /127.0.0.1:54280[1](queued=0,...,sid=0x1000,...)`.
fn connection(line: &str) -> Option<Connection> {
    let (client, rest) = line.trim().strip_prefix('/')?.split_once('[')?;
    let (_, session) = rest.split_once("sid=0x")?;
    let session = session.split(',').next()?;
    Some(Connection {
        client: client.parse().ok()?,
        session: u64::from_str_radix(session, 16).ok()?.cast_signed(),
    })
}
