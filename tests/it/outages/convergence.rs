//! Whatever happened, in the end the mount equals ZooKeeper, to the byte; and so does what a
//! program knows that only listens to inotify. In the manner of Curator's
//! TestCuratorCacheConsistency.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify::ReadFlags;

use super::Over;
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::{Mode, Proxy};
use crate::support::versions::{version, whole};
use crate::support::wait::wait_until;
use crate::support::zookeeper::Ensemble;
use crate::survival::kept::parameter;
use crate::watching::events::Watcher;

const N_WRITERS: usize = 3;
const N_NODES: usize = 12;
/// The least size of a content.
const SIZE: usize = 64;

/// An election, a failover and the looks after it, on a busy machine.
const CONVERGES: Duration = Duration::from_secs(60);

fn name(node: usize) -> String {
    format!("f{node}")
}

fn path(node: usize) -> String {
    format!("/nodes/f{node}")
}

/// What a reader knows: nobody sees a version before one it has seen, nor half of one.
#[derive(Default)]
struct Seen {
    now: BTreeMap<String, Vec<u8>>,
    newest: BTreeMap<String, u64>,
}

impl Seen {
    /// Reads a file, which may not be there.
    #[track_caller]
    fn look(&mut self, root: &Path, name: &str) {
        match fs::read(root.join(name)) {
            Ok(content) => {
                let n = whole(&content, SIZE);
                let newest = self.newest.entry(name.into()).or_default();
                assert!(n >= *newest, "{name}: {n} after {newest}");
                *newest = n;
                self.now.insert(name.into(), content);
            }
            Err(err) => {
                assert_eq!(err.kind(), io::ErrorKind::NotFound, "{name}: {err}");
                self.now.remove(name);
            }
        }
    }
}

fn versions(contents: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&str, u64> {
    let contents = contents.iter();
    contents
        .map(|(name, content)| (&**name, whole(content, SIZE)))
        .collect()
}

/// Creates, sets and deletes znodes of its own, with one series of numbers for each.
fn write(admin: &Admin, writer: usize, over: &AtomicBool, n_changes: &AtomicU64) {
    let mut exists = [false; N_NODES];
    let mut last = [0; N_NODES];
    while !over.load(Ordering::Relaxed) {
        let node = fastrand::usize(..N_NODES / N_WRITERS) * N_WRITERS + writer;
        if exists[node] && fastrand::u8(..5) == 0 {
            admin.delete(&path(node));
            exists[node] = false;
        } else {
            last[node] += 1;
            let content = version(last[node], SIZE);
            match exists[node] {
                true => drop(admin.set(&path(node), content)),
                false => admin.create(&path(node), content),
            }
            exists[node] = true;
        }
        n_changes.fetch_add(1, Ordering::Relaxed);
        // In bursts, with quiet times between them.
        let pause = [0, 0, 0, 0, 1, 5, 30, 200][fastrand::usize(..8)];
        thread::sleep(Duration::from_millis(pause));
    }
}

/// One disaster, and its end. At most one member is away at a time: two are a quorum.
fn strike(ensemble: &mut Ensemble, ways: &[Proxy], mount: &Mount) -> &'static str {
    let rest = || thread::sleep(Duration::from_millis(fastrand::u64(..2500)));
    let member = fastrand::usize(..ensemble.members.len());
    let way = &ways[member];
    match fastrand::u8(..16) {
        0 | 1 => {
            ensemble.members[member].kill();
            rest();
            ensemble.members[member].restart();
            "killed"
        }
        2 => {
            ensemble.members[member].restart();
            "restarted"
        }
        3 | 4 => {
            // Shorter than the writers' patience with a silent server.
            ensemble.members[member].pause();
            rest();
            ensemble.members[member].resume();
            "paused"
        }
        5 | 6 => {
            ways.iter().for_each(Proxy::refuse);
            rest();
            ways.iter().for_each(Proxy::accept);
            "refused"
        }
        7 | 8 => {
            for mode in [[Mode::Stall, Mode::Hole][fastrand::usize(..2)], Mode::Pass] {
                ways.iter().for_each(|way| way.set(mode));
                rest();
            }
            "silenced"
        }
        9 => {
            way.set_to_client(Mode::Delay(Duration::from_millis(fastrand::u64(1..50))));
            rest();
            way.set(Mode::Pass);
            "slowed"
        }
        10 => {
            way.set_to_client(Mode::Trickle(fastrand::usize(1..40)));
            rest();
            way.set(Mode::Pass);
            "trickled"
        }
        11 => {
            ensemble.members[member].expire(mount.session());
            "expired"
        }
        _ => {
            ways.iter().for_each(Proxy::cut);
            thread::sleep(Duration::from_millis(fastrand::u64(..500)));
            "cut"
        }
    }
}

#[test]
fn the_mount_converges_whatever_happened() {
    let seconds = parameter("LIVEDATA_SOAK_SECONDS", 60);
    let mut ensemble = Ensemble::start();
    let ways: Vec<Proxy> = ensemble
        .members
        .iter()
        .map(|member| Proxy::start(member.address()))
        .collect();
    let admins = [(); N_WRITERS].map(|()| Admin::connect(ensemble.hosts()));
    admins[0].create("/nodes", "");
    let hosts: Vec<String> = ways.iter().map(Proxy::hosts).collect();
    let nodes: Vec<String> = (0..N_NODES)
        .map(|node| format!("nodes.{}.source = {}", name(node), path(node)))
        .collect();
    // The audit comes round in ten minutes: nothing but watches and new sessions can tell.
    let lines = format!("zookeeper.timeout = 4 seconds\n{}", nodes.join("\n"));
    let mount = Mount::start(&config(&hosts.join(","), &lines));
    let root = mount.root();

    let over = AtomicBool::new(false);
    let (settled, gives_up) = (AtomicBool::new(false), AtomicBool::new(false));
    let truth = OnceLock::<BTreeMap<String, Vec<u8>>>::new();
    let (n_changes, n_looks) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut struck = BTreeMap::new();
    let watcher = Watcher::new([&root]);
    thread::scope(|scope| {
        let _guards = (Over(&over), Over(&settled), Over(&gives_up));
        let writers: Vec<_> = admins
            .iter()
            .enumerate()
            .map(|(writer, admin)| {
                let (over, n_changes) = (&over, &n_changes);
                scope.spawn(move || {
                    let _over = Over(over);
                    write(admin, writer, over, n_changes);
                })
            })
            .collect();
        let poller = scope.spawn(|| {
            let _over = Over(&over);
            let mut seen = Seen::default();
            loop {
                let is_last = settled.load(Ordering::Relaxed);
                for node in 0..N_NODES {
                    seen.look(&root, &name(node));
                }
                n_looks.fetch_add(1, Ordering::Relaxed);
                if is_last {
                    return seen.now;
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let listener = scope.spawn(|| {
            let _over = Over(&over);
            let mut seen = Seen::default();
            for node in 0..N_NODES {
                seen.look(&root, &name(node));
            }
            loop {
                let is_last = settled.load(Ordering::Relaxed);
                for event in watcher.now() {
                    let news = ReadFlags::CREATE
                        | ReadFlags::DELETE
                        | ReadFlags::MOVED_TO
                        | ReadFlags::MOVED_FROM;
                    if event.mask.intersects(news) && event.name.starts_with('f') {
                        seen.look(&root, &event.name);
                    }
                }
                // The last event may come a moment after its change can be read.
                if is_last && (truth.get() == Some(&seen.now) || gives_up.load(Ordering::Relaxed)) {
                    return seen.now;
                }
                thread::sleep(Duration::from_millis(2));
            }
        });

        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline && !over.load(Ordering::Relaxed) {
            let what = strike(&mut ensemble, &ways, &mount);
            *struck.entry(what).or_insert(0) += 1;
            thread::sleep(Duration::from_millis(fastrand::u64(..800)));
        }
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("a writer can write");
        }
        for member in &mut ensemble.members {
            member.wait_until_serving(CONVERGES);
        }
        let truth = truth.get_or_init(|| {
            let znodes =
                (0..N_NODES).filter_map(|node| Some((name(node), admins[0].get(&path(node))?.0)));
            znodes.collect()
        });
        let shown = || {
            let files = (0..N_NODES).filter_map(|node| {
                let content = mount.read(&name(node))?;
                Some((name(node), content))
            });
            files.collect::<BTreeMap<_, _>>()
        };
        let start = Instant::now();
        wait_until(CONVERGES, "the mount equals ZooKeeper", || {
            shown() == *truth
        });
        let took = start.elapsed();
        assert!(
            !poller.is_finished() && !listener.is_finished(),
            "a reader failed"
        );
        settled.store(true, Ordering::Relaxed);
        let polled = poller.join().expect("no reader sees an error");
        assert_eq!(versions(&polled), versions(truth));
        let patience = Instant::now();
        while !listener.is_finished() && patience.elapsed() < CONVERGES {
            thread::sleep(Duration::from_millis(2));
        }
        gives_up.store(true, Ordering::Relaxed);
        let heard = listener.join().expect("no listener sees an error");
        assert_eq!(versions(&heard), versions(truth), "what inotify told");
        assert_eq!((&polled, &heard), (truth, truth));
        println!(
            "{seconds} s: {n_changes:?} changes, {struck:?}, each file looked at {n_looks:?} \
             times, equal after {took:.1?}, {} files",
            truth.len()
        );
    });
    assert_eq!(mount.n_logged("history was rewound"), 0, "{}", mount.log());
}
