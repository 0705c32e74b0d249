//! Readers of all kinds, changes as fast as they come, and no peace for the processes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::kept::{kill, parameter, processes, resident, wait_status};
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::versions::{held, mapped, sent, version, whole};
use crate::support::wait::wait_until;
use crate::support::zookeeper::Server;

/// Names, sizes, and how often each is set in a round.
const FILES: [(&str, usize, u64); 3] = [
    ("small", 1 << 10, 32),
    ("middle", 100 << 10, 4),
    ("large", 1_000_000, 1),
];

/// The longest that an open and a read may take: far more than the 100 ms it should, for the
/// machine may be busy.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    errors: Mutex<Vec<String>>,
    /// The newest version of each file that anybody has seen.
    newest: [AtomicU64; FILES.len()],
    /// In microseconds.
    longest: AtomicU64,
    n_slow: AtomicU64,
    n_reads: AtomicU64,
}

type Read = fn(&Path) -> io::Result<Vec<u8>>;

#[test]
fn a_mount_outlives_its_processes_under_load() {
    let seconds = parameter("LIVEDATA_SOAK_SECONDS", 60);
    // Its own, for it is filled.
    let server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create_many(FILES.map(|(name, size, _)| (format!("/{name}"), version(1, size))));
    let nodes = FILES.map(|(name, ..)| format!("nodes.{name}.source = /{name}"));
    let config = config(&server.hosts(), &nodes.join("\n"));
    let mount = Mount::start_with(&config, &["--restart-at-once"]);
    let shared = Arc::new(Shared::default());
    // The threads are not scoped: where the test fails they end because the mount does.
    let _over = Over(Arc::clone(&shared));
    let readers: [Read; 4] = [
        |path| fs::read(path),
        |path| File::open(path).map(|file| mapped(&file)),
        |path| File::open(path).map(|file| held(&file)),
        |path| File::open(path).map(|file| sent(&file)),
    ];
    let mut threads: Vec<_> = readers
        .into_iter()
        .map(|read| {
            start(&shared, &mount, move |shared, root| {
                read_all(shared, root, read)
            })
        })
        .collect();
    threads.push(start(&shared, &mount, look));
    let setter = {
        let (shared, data) = (Arc::clone(&shared), server.data_dir());
        thread::spawn(move || set(&shared, &admin, &data))
    };

    let (mut n_killed, mut n_publishers, mut n_upgrades) = (0, 0, 0_u64);
    let mut memory = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < deadline && shared.errors.lock().unwrap().is_empty() {
        let [server, publisher] = processes(&mount);
        thread::sleep(Duration::from_millis(fastrand::u64(0..1800)));
        memory.extend(resident(mount.pid()).zip(resident(server)));
        match fastrand::u8(0..8) {
            0 => {
                kill(publisher);
                n_publishers += 1;
            }
            1 => {
                mount.signal(Signal::USR2);
                n_upgrades += 1;
            }
            _ => {
                kill(server);
                n_killed += 1;
            }
        }
    }
    processes(&mount);
    shared.over.store(true, Ordering::Relaxed);
    wait_until(SOON, "the readers end", || {
        threads.iter().all(JoinHandle::is_finished)
    });
    for thread in threads {
        thread.join().expect("no reader finds an error");
    }
    let last = setter.join().unwrap();
    for ((name, size, _), last) in FILES.into_iter().zip(last) {
        mount.wait_for_content(name, version(last, size));
    }
    let longest = Duration::from_micros(shared.longest.load(Ordering::Relaxed));
    println!(
        "{seconds} s: {n_killed} servers and {n_publishers} publishers killed, {n_upgrades} \
         upgrades asked for, {last:?} versions set, {} reads; longest open and read {longest:.1?}, \
         {} over 100 ms",
        shared.n_reads.load(Ordering::Relaxed),
        shared.n_slow.load(Ordering::Relaxed),
    );
    println!(
        "KiB of keeper and server: {:?} ... {:?}",
        memory.first(),
        memory.last()
    );
    assert_eq!(*shared.errors.lock().unwrap(), Vec::<String>::new());
    assert!(longest < LONGEST);
    let tail = memory.len() * 3 / 4;
    let most = |of: &[(u64, u64)]| of.iter().fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    let (first, then) = (most(&memory[..tail]), most(&memory[tail..]));
    assert!(then.0 < first.0 + (1 << 10), "the keeper grows: {memory:?}");
    assert!(
        then.1 < first.1 * 2 + (16 << 10),
        "the server grows: {memory:?}"
    );

    // The kernel gives back what it holds of old versions, to servers that never gave them out.
    let start = Instant::now();
    let status = wait_status(&mount, "old inodes are freed", |status| {
        status["details"]["inodes"].as_u64() == Some(FILES.len() as u64 + 1)
    });
    println!("after {:.1?}: {}", start.elapsed(), status["details"]);
    assert_eq!(super::kept::status(&mount)["upgrade"]["running"], false);
}

fn start(
    shared: &Arc<Shared>,
    mount: &Mount,
    work: impl Fn(&Shared, &Path) -> io::Result<()> + Send + 'static,
) -> JoinHandle<()> {
    let (shared, root): (_, PathBuf) = (Arc::clone(shared), mount.root());
    thread::spawn(move || {
        let _over = Over(Arc::clone(&shared));
        while !shared.over.load(Ordering::Relaxed) {
            if let Err(err) = work(&shared, &root) {
                shared.errors.lock().unwrap().push(err.to_string());
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    })
}

fn read_all(shared: &Shared, root: &Path, read: Read) -> io::Result<()> {
    for (at, (name, size, _)) in FILES.into_iter().enumerate() {
        let newest = shared.newest[at].load(Ordering::SeqCst);
        let start = Instant::now();
        let content =
            read(&root.join(name)).map_err(|err| io::Error::other(format!("{name}: {err}")))?;
        let took = start.elapsed();
        let n = whole(&content, size);
        if n < newest {
            return Err(io::Error::other(format!("{name}: {n} after {newest}")));
        }
        shared.newest[at].fetch_max(n, Ordering::SeqCst);
        shared
            .longest
            .fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        shared.n_reads.fetch_add(1, Ordering::Relaxed);
        if took > Duration::from_millis(100) {
            shared.n_slow.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// stat and readdir.
fn look(_: &Shared, root: &Path) -> io::Result<()> {
    for (name, size, _) in FILES {
        let length = fs::metadata(root.join(name))?.len();
        assert!(
            (size as u64..size as u64 + 5000).contains(&length),
            "{name}: {length}"
        );
    }
    let names = fs::read_dir(root)?.map(|entry| Ok(entry?.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    assert_eq!(names, ["large", "middle", "small"]);
    Ok(())
}

/// Sets until it is over; gives the last version of each file.
fn set(shared: &Shared, admin: &Admin, data: &Path) -> [u64; FILES.len()] {
    let mut last = [1; FILES.len()];
    let mut n_rounds = 0_u64;
    while !shared.over.load(Ordering::Relaxed) {
        let mut sets = Vec::new();
        for (at, (name, size, times)) in FILES.into_iter().enumerate() {
            for _ in 0..times {
                last[at] += 1;
                sets.push((format!("/{name}"), version(last[at], size)));
            }
        }
        admin.set_many(sets);
        n_rounds += 1;
        if n_rounds.is_multiple_of(100) {
            trim(data);
        }
    }
    last
}

/// A server that is never restarted needs only its newest files.
fn trim(data: &Path) {
    let files = fs::read_dir(data.join("version-2"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<_> = files
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
        .collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(4) {
        let _ = fs::remove_file(path);
    }
}

/// Says so when it is dropped, also where a reader or the test fails.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        if thread::panicking() {
            self.0
                .errors
                .lock()
                .unwrap()
                .push("a thread panicked".into());
        }
    }
}
