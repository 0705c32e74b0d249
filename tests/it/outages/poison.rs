//! Bytes that no server sends, and znodes that hold anything: the mount serves on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::relay::{Garbling, Relay, Which};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept::{resident, status, wait_status};

const FILES: [&str; 4] = ["a", "b", "c", "d"];

/// Long enough that half of it is content, too.
fn content(n: u64) -> Vec<u8> {
    format!("version {n} {}", "x".repeat(500 + n as usize)).into_bytes()
}

/// A mount behind a relay, of files that are set again and again.
struct Garbled {
    sandbox: Sandbox,
    relay: Relay,
    mount: Mount,
    server: u32,
    n: u64,
    /// What each file showed last.
    shown: BTreeMap<&'static str, u64>,
}

impl Garbled {
    fn start(name: &str, more: &str) -> Self {
        let sandbox = Sandbox::new(name);
        let relay = Relay::start(shared_server().address());
        for file in FILES {
            sandbox.admin.create(&format!("/dir/{file}"), content(1));
        }
        let nodes = FILES.map(|file| format!("nodes.{file}.source = /dir/{file}"));
        let lines = format!(
            "zookeeper.timeout = 2 seconds\n{more}\n{}",
            nodes.join("\n")
        );
        let mount = Mount::start(&config(&sandbox.hosts_through(relay.address()), &lines));
        let server = server_of(&mount);
        let shown = FILES.map(|file| (file, 1)).into();
        Self {
            sandbox,
            relay,
            mount,
            server,
            n: 1,
            shown,
        }
    }

    fn set_all(&mut self) {
        self.n += 1;
        let sets = FILES.map(|file| (format!("/dir/{file}"), content(self.n)));
        self.sandbox.admin.set_many(sets);
    }

    /// Each file shows a version that was set, whole, and none goes back.
    #[track_caller]
    fn look(&mut self, during: &str) {
        for (file, last) in &mut self.shown {
            let read = self.mount.read(file);
            let read = read.unwrap_or_else(|| panic!("{during}: {file} is gone"));
            let n = (*last..=self.n).find(|n| read == content(*n));
            let n = n.unwrap_or_else(|| {
                let read = String::from_utf8_lossy(&read);
                panic!("{during}: {file} shows {read:?} after {last}")
            });
            *last = n;
        }
    }

    /// It goes wrong until so many replies were garbled, and then right again.
    #[track_caller]
    fn goes_through(&mut self, which: Which, every: usize, how: Garbling) {
        let during = format!("{how:?} of one in {every} {which:?}");
        self.relay.take_traffic();
        self.relay.garble(which, every, how);
        if which == Which::Connects {
            self.relay.cut();
        }
        let start = Instant::now();
        while self.relay.traffic().n_garbled < 3 {
            self.set_all();
            self.look(&during);
            assert!(start.elapsed() < SOON, "{during}: nothing is asked for");
        }
        self.relay.heal();
        self.set_all();
        for file in FILES {
            wait_until(SOON, &format!("after {during} {file} is right"), || {
                self.mount.read(file).as_deref() == Some(&*content(self.n))
            });
        }
        self.look(&during);
        // Its watches are right as well.
        self.set_all();
        for file in FILES {
            self.mount.wait_for_content(file, content(self.n));
        }
        self.look(&during);
        assert_eq!(server_of(&self.mount), self.server, "{during}: it died");
    }
}

fn server_of(mount: &Mount) -> u32 {
    let status = wait_status(mount, "it serves", |status| {
        status["server"]["state"] == "serving"
    });
    status["server"]["pid"].as_u64().unwrap() as u32
}

fn n_garbled(mount: &Mount) -> u64 {
    status(mount)["details"]["garbled_replies"]
        .as_u64()
        .expect("the status counts garbled replies")
}

#[test]
fn garbled_replies_are_survived() {
    use Garbling::*;
    let mut world = Garbled::start("garbled", "");
    for how in [
        NoBody,
        WrongXid,
        LostBytes,
        Cut,
        NegativeFrame,
        NegativeLength,
        UnknownError,
        LongStat,
        ShortStat,
        RandomBody,
        RandomFrame,
        HugeFrame,
        Twice,
        StrayEvent,
        UnknownEvent,
    ] {
        for every in [1, 3] {
            world.goes_through(Which::Replies, every, how);
        }
    }
    // Not all are found to be garbled by the one who reads them, or as long as he reads.
    assert!(n_garbled(&world.mount) > 0);
    let log = world.mount.log();
    assert!(!log.contains("panicked at"), "{log}");
    assert!(
        log.contains("warn: ZooKeeper: a garbled reply, the "),
        "{log}"
    );
}

/// An event that comes before the reply that armed its watch is lost on the client: nothing but
/// the audit finds what changed, so here it is quick.
#[test]
fn replies_out_of_order_are_survived() {
    let mut world = Garbled::start("late", "heartbeat_interval = 200 milliseconds");
    for every in [1, 3, 2] {
        world.goes_through(Which::Replies, every, Garbling::Late);
    }
    assert!(!world.mount.log().contains("panicked at"));
}

/// The connection looks well, and one reply never comes: the ones after it tell.
#[test]
fn a_missing_reply_is_noticed() {
    let mut world = Garbled::start("missing", "");
    let session = world.mount.session();
    world.relay.garble(Which::Gets, 2, Garbling::Missing);
    world.set_all();
    wait_until(SOON, "a reply is lost", || {
        world.relay.traffic().n_garbled > 0
    });
    world.relay.heal();
    // Far sooner than the minute after which a request is given up.
    world.mount.wait_for_log(1, "a reply is missing");
    world.mount.next_session(session);
    for file in FILES {
        world.mount.wait_for_content(file, content(world.n));
    }
}

#[test]
fn garbled_handshakes_are_survived() {
    use Garbling::*;
    let mut world = Garbled::start("handshakes", "");
    for how in [
        NoBody,
        LostBytes,
        Cut,
        NegativeFrame,
        RandomFrame,
        HugeFrame,
        Twice,
    ] {
        world.goes_through(Which::Connects, 1, how);
    }
    assert!(!world.mount.log().contains("panicked at"));
}

/// What is garbled again and again is asked for ever more rarely, and leaves nothing behind.
#[test]
fn garbling_for_long_costs_little() {
    let mut world = Garbled::start("garbled-long", "");
    let before = resident(world.server).unwrap();
    world.relay.garble(Which::Replies, 1, Garbling::NoBody);
    world.relay.take_traffic();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        world.set_all();
        world.look("for long");
    }
    let traffic = world.relay.traffic();
    let n_requests: usize = traffic.requests.values().sum();
    assert!(n_requests < 2000, "{traffic:?}");
    let after = resident(world.server).unwrap();
    assert!(after < before + (32 << 10), "{before} to {after} KiB");
    let n_lines = world.mount.log().lines().count();
    assert!(n_lines < 100, "{}", world.mount.log());
    world.relay.heal();
    for file in FILES {
        world.mount.wait_for_content(file, content(world.n));
    }
}
