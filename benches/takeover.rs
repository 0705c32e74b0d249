//! How long the mount keeps a reader waiting when its server is killed: 10 000 nodes of 1 KiB, and
//! opens of files that the kernel does not hold. The mark is 50 ms.
//!
//! Run by `make bench-takeover`.

// What fails ends the benchmark.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../tests/it/support"]
mod support {
    pub mod admin;
    pub mod mount;
    pub mod place;
    pub mod process;
    pub mod proxy;
    pub mod wait;
    pub mod wire;
    pub mod zookeeper;
}

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use livedata::keeper;
use rustix::process::{Pid, Signal};
use support::admin::Admin;
use support::mount::Mount;
use support::zookeeper::Server;

const NODES: usize = 10_000;
const KILLS: usize = 20;

fn main() {
    let server = Server::start();
    let admin = Admin::connect(server.hosts());
    let content = vec![b'x'; 1 << 10];
    let names: Vec<String> = (0..NODES).map(|n| format!("n{n}")).collect();
    admin.create_many(names.iter().map(|name| (format!("/{name}"), &content)));
    let mut config = format!("[live-data]\nzookeeper.hosts = {}\n", server.hosts());
    for name in &names {
        config += &format!("nodes.{name}.source = /{name}\n");
    }
    let mount = Mount::start_with(&config, &["--restart-at-once"]);
    let (over, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut all = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !over.load(Ordering::Relaxed) {
                let name = mount.path(&names[at % NODES]);
                at += 1;
                if at % NODES == 0 {
                    drop_caches();
                }
                let start = Instant::now();
                assert_eq!(fs::read(name).unwrap(), content);
                longest.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
        });
        for _ in 0..KILLS {
            let pid = serving(&mount, None);
            thread::sleep(Duration::from_millis(1500));
            drop_caches();
            longest.store(0, Ordering::Relaxed);
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            serving(&mount, Some(pid));
            thread::sleep(Duration::from_millis(200));
            all.push(longest.load(Ordering::Relaxed));
        }
        over.store(true, Ordering::Relaxed);
    });
    all.sort();
    let ms = |at: usize| all[at] as f64 / 1000.0;
    println!(
        "takeover with {NODES} nodes, {KILLS} kills: longest open and read p50 {:.1} ms, max {:.1} \
         ms (mark: 50 ms)",
        ms(KILLS / 2),
        ms(KILLS - 1)
    );
}

/// Has the kernel forget what no process uses.
fn drop_caches() {
    if let Err(err) = fs::write("/proc/sys/vm/drop_caches", "2") {
        eprintln!("caches are not dropped, so opens may be cached: {err}");
    }
}

/// Waits until a server works that is not `but`.
fn serving(mount: &Mount, but: Option<Pid>) -> Pid {
    loop {
        let answer = keeper::ask(&mount.root(), Duration::from_secs(5)).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let pid = status["server"]["pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(pid as i32));
        if let (Some(pid), true) = (pid, status["server"]["state"] == "serving")
            && Some(pid) != but
        {
            return pid;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
