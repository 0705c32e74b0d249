//! Whatever happens in the subtree, to the server and to the network: in the end the mount equals
//! ZooKeeper, and no reader sees an error or an older version on the way.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::wait_for_truth;
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::relay::Relay;
use crate::support::versions::{version, whole};
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept::{self, parameter};

/// The least size of a content.
const SIZE: usize = 64;

/// Says so when it is dropped, also where the test fails.
pub(super) struct Done<'a>(pub(super) &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads all files again and again, and gives how many. Whoever looks while it changes may miss
/// what was there; anything else fails.
pub(super) fn read_all(root: &Path, over: &AtomicBool) -> u64 {
    let (mut newest, mut n_reads) = (HashMap::new(), 0);
    while !over.load(Ordering::Relaxed) {
        read(root, "", &mut newest, &mut n_reads);
    }
    n_reads
}

fn read(path: &Path, name: &str, newest: &mut HashMap<String, u64>, n_reads: &mut u64) {
    let Some(meta) = there(fs::symlink_metadata(path), path) else {
        return;
    };
    if meta.is_dir() {
        for entry in there(fs::read_dir(path), path).into_iter().flatten() {
            let Some(entry) = there(entry, path) else {
                return;
            };
            let child = entry.file_name().into_string().unwrap();
            let below = match &*child {
                "_data_" => name.to_owned(),
                _ => format!("{name}/{child}"),
            };
            read(&entry.path(), &below, newest, n_reads);
        }
        return;
    }
    if let Some(content) = there(fs::read(path), path) {
        *n_reads += 1;
        // Znodes on the way are made without content.
        if content.len() >= SIZE {
            let n = whole(&content, SIZE);
            let newest = newest.entry(name.to_owned()).or_default();
            assert!(n >= *newest, "{name}: {n} after {newest}");
            *newest = n;
        }
    }
}

fn there<T>(found: io::Result<T>, path: &Path) -> Option<T> {
    found
        .inspect_err(|err| {
            let may_be = [libc::ENOENT, libc::ENOTDIR, libc::EISDIR];
            let is_gone = err
                .raw_os_error()
                .is_some_and(|code| may_be.contains(&code));
            assert!(is_gone, "{}: {err}", path.display());
        })
        .ok()
}

/// One writer, and what it has written.
struct Writer<'a> {
    admin: &'a Admin,
    random: Rng,
    n_versions: u64,
    /// Those that nobody may read now.
    denied: Vec<String>,
    denies: bool,
}

impl Writer<'_> {
    fn path(&mut self) -> String {
        let depth = self.random.usize(1..=3);
        let names = (0..depth).map(|_| ["/a", "/b", "/c"][self.random.usize(..3)]);
        "/t".to_owned() + &names.collect::<String>()
    }

    fn content(&mut self) -> Vec<u8> {
        self.n_versions += 1;
        version(self.n_versions, SIZE)
    }

    fn step(&mut self) {
        let (path, content) = (self.path(), self.content());
        let exists = self.admin.exists(&path);
        match (exists, self.random.u8(..12)) {
            (false, _) => self.admin.create(&path, content),
            (true, 0..5) => drop(self.admin.set(&path, content)),
            (true, 5..8) => self.admin.delete_all(&path),
            (true, 8..10) => {
                self.admin.delete_all(&path);
                self.admin.create(&path, content);
            }
            (true, 10) if self.denies => {
                self.admin.set_acl_nobody(&path);
                self.denied.push(path);
            }
            (true, _) => {
                for child in self.admin.children(&path).unwrap() {
                    self.admin.delete_all(&format!("{path}/{child}"));
                }
            }
        }
        // In bursts, with quiet times between them.
        thread::sleep(Duration::from_millis(
            [0, 0, 0, 1, 20][self.random.usize(..5)],
        ));
    }

    /// Gives back what was taken away.
    fn permit(&mut self) {
        for path in std::mem::take(&mut self.denied) {
            if self.admin.exists(&path) {
                self.admin.set_acl_world(&path);
            }
        }
    }
}

/// One disaster.
fn strike(random: &mut Rng, mount: &Mount, proxy: &Proxy) -> &'static str {
    match random.u8(..8) {
        0 | 1 => {
            if let Some(server) = mount.server() {
                let _ = rustix::process::kill_process(server, Signal::KILL);
            }
            "killed"
        }
        2 | 3 => {
            mount.signal(Signal::USR2);
            "upgraded"
        }
        4 => {
            proxy.refuse();
            thread::sleep(Duration::from_millis(random.u64(..300)));
            "refused"
        }
        5 => {
            proxy.cut();
            "cut"
        }
        6 => {
            shared_server().expire(mount.session());
            "expired"
        }
        _ => "left alone",
    }
}

fn equals_in_the_end(name: &str, lines: &str, denies: bool, server: SocketAddr) {
    let seconds = parameter("LIVEDATA_TREES_SECONDS", 8);
    let seed = parameter("LIVEDATA_TREES_SEED", 7);
    let sandbox = Sandbox::new(name);
    let proxy = Proxy::start(server);
    let hosts = sandbox.hosts_through(proxy.address());
    let lines = format!("zookeeper.timeout = 4 seconds\n{lines}\ntrees.t.source = /t");
    let mount = Mount::start_with(&config(&hosts, &lines), &["--restart-at-once"]);
    let root = mount.path("t");
    let mut random = Rng::with_seed(seed);
    let mut writer = Writer {
        admin: &sandbox.admin,
        random: random.fork(),
        n_versions: 0,
        denied: Vec::new(),
        denies,
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Done(&over);
        let reader = scope.spawn(|| read_all(&root, &over));
        let start = Instant::now();
        let mut struck: Vec<&str> = Vec::new();
        while start.elapsed() < Duration::from_secs(seconds) {
            for _ in 0..random.usize(5..40) {
                writer.step();
            }
            struck.push(strike(&mut random, &mount, &proxy));
            for _ in 0..random.usize(5..40) {
                writer.step();
            }
            writer.permit();
            proxy.accept();
            println!("seed {seed}, {struck:?}");
            wait_for_truth(&mount, "t", &sandbox.admin, "/t");
            // An upgrade under way is to end before the next one begins.
            kept::processes(&mount);
            assert!(!reader.is_finished(), "a reader failed");
        }
        over.store(true, Ordering::Relaxed);
        let n_reads = reader.join().unwrap();
        assert!(n_reads > 100);
        println!(
            "{struck:?}, {} versions, {n_reads} reads",
            writer.n_versions
        );
    });
    assert_eq!(mount.n_logged("history was rewound"), 0, "{}", mount.log());
}

/// Nothing but watches and new sessions tells: the audit comes round in ten minutes.
#[test]
fn the_mount_equals_zookeeper_in_the_end() {
    equals_in_the_end("tree-random", "", false, shared_server().address());
}

/// A watch may be lost where the session may not read, so here the audit helps.
#[test]
fn the_mount_equals_zookeeper_in_the_end_whoever_may_read_it() {
    let lines = "heartbeat_interval = 100 milliseconds";
    equals_in_the_end("tree-denied", lines, true, shared_server().address());
}

/// Where each znode has watches of its own.
#[test]
fn the_mount_equals_zookeeper_in_the_end_also_of_an_old_server() {
    let relay = Relay::start(shared_server().address());
    relay.make_old();
    equals_in_the_end("tree-random-old", "", false, relay.address());
}
