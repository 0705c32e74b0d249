//! How soon after an outage every file shows what was changed meanwhile: 1000 and 10 000 nodes of
//! 1 KiB, all of them changed. From the moment at which a server can be reached again.
//!
//! Run by `make bench-recovery`.

// What fails ends the benchmark.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../tests/it/support"]
mod support {
    pub mod admin;
    pub mod mount;
    pub mod place;
    pub mod process;
    pub mod proxy;
    pub mod shown;
    pub mod wait;
    pub mod wire;
    pub mod zookeeper;
}

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use support::admin::Admin;
use support::mount::Mount;
use support::proxy::Proxy;
use support::shown::SOON;
use support::zookeeper::Server;

/// Long enough for pauses that double to be at their limit.
const LONG: Duration = Duration::from_secs(10);

type Outage = fn(&mut World);

fn main() {
    println!("recovery, in ms               nodes    runs");
    for n in [1000, 10_000] {
        let mut world = World::start(n);
        let outages: [(&str, usize, Outage); 3] = [
            ("the server restarted", 2, |world| world.server.restart()),
            ("the session expired", 2, |world| {
                world.server.expire(world.mount.session());
            }),
            ("the link refused for 10 s", 2, |_| thread::sleep(LONG)),
        ];
        for (what, runs, outage) in outages {
            let took: Vec<String> = (0..runs)
                .map(|_| world.recovery(outage).as_millis().to_string())
                .collect();
            println!("{what:<28} {n:>6}    {}", took.join(" "));
        }
    }
}

struct World {
    server: Server,
    admin: Admin,
    proxy: Proxy,
    mount: Mount,
    n: usize,
    round: usize,
}

impl World {
    fn start(n: usize) -> Self {
        let server = Server::start();
        let admin = Admin::connect(server.hosts());
        let proxy = Proxy::start(server.address());
        admin.create_many((0..n).map(|at| (format!("/n{at}"), content(0))));
        let mut config = format!("[live-data]\nzookeeper.hosts = {}\n", proxy.hosts());
        for at in 0..n {
            config += &format!("nodes.n{at}.source = /n{at}\n");
        }
        let mount = Mount::start(&config);
        let world = Self {
            server,
            admin,
            proxy,
            mount,
            n,
            round: 0,
        };
        world.wait_for(&content(0));
        world
    }

    /// From the end of an outage to the newest content in every file.
    fn recovery(&mut self, outage: Outage) -> Duration {
        self.round += 1;
        let content = content(self.round);
        self.proxy.refuse();
        outage(self);
        let changes = (0..self.n).map(|at| (format!("/n{at}"), &content));
        self.admin.set_many(changes);
        let start = Instant::now();
        self.proxy.accept();
        self.wait_for(&content);
        start.elapsed()
    }

    fn wait_for(&self, content: &[u8]) {
        let start = Instant::now();
        for at in 0..self.n {
            let path = self.mount.path(&format!("n{at}"));
            while fs::read(&path).unwrap() != content {
                assert!(start.elapsed() < SOON, "n{at} is old");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn content(round: usize) -> Vec<u8> {
    vec![b'a' + (round % 26) as u8; 1 << 10]
}
