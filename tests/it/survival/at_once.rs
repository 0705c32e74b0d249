//! All three processes are killed at once, in the middle of publications: nothing of them stays, and
//! the next mount at the same place works.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::kept::{kill, parameter, processes, wait_until_gone};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::versions::{version, whole};
use crate::support::zookeeper::Sandbox;

const SIZE: usize = 10 << 10;

#[test]
fn all_may_be_killed_at_once() {
    let sandbox = Sandbox::new("at-once");
    let names = ["a", "b", "c", "d"];
    sandbox
        .admin
        .create_many(names.map(|name| (format!("/{name}"), version(0, SIZE))));
    let nodes = names.map(|name| format!("nodes.{name}.source = /{name}"));
    let config = config(&sandbox.hosts(), &nodes.join("\n"));
    let mut mount = Mount::start(&config);
    let n_times = parameter("LIVEDATA_SURVIVAL_KILLS", 200);
    let (over, n_sets) = (AtomicBool::new(false), AtomicU64::new(1));
    let start = Instant::now();
    thread::scope(|scope| {
        let _over = Done(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let n = n_sets.fetch_add(1, Ordering::Relaxed);
                let sets = names.map(|name| (format!("/{name}"), version(n, SIZE)));
                sandbox.admin.set_many(sets);
            }
        });
        for _ in 0..n_times {
            let [server, publisher] = processes(&mount);
            for name in names {
                whole(&fs::read(mount.path(name)).unwrap(), SIZE);
            }
            thread::sleep(Duration::from_micros(fastrand::u64(0..50_000)));
            let mut pids = [mount.pid(), server, publisher];
            fastrand::shuffle(&mut pids);
            pids.into_iter().for_each(kill);
            mount.wait();
            wait_until_gone(&[server, publisher]);
            mount.start_again(&[]);
        }
    });
    for name in names {
        whole(&mount.read(name).unwrap(), SIZE);
    }
    println!(
        "{n_times} times killed and mounted again in {:.1?}, {} rounds of changes",
        start.elapsed(),
        n_sets.load(Ordering::Relaxed)
    );
}

/// Says so when it is dropped, also where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
