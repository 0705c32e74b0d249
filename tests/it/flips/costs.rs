//! What a large directory costs: as much for each entry as a small one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use livedata::tree::Change;

use super::{WAYS, make, remove, remove_directory};
use crate::live::{Live, put};
use crate::survival::kept::{parameter, resident};

/// Bytes of each file.
const SIZE: usize = 100;

/// How much longer an entry of a directory with ten times as many may take: a busy machine doubles
/// it, and what looks at all the others makes it ten times as much.
const SLOWER: u32 = 5;

/// What was timed.
#[derive(Debug)]
struct Took {
    make: Duration,
    change: Duration,
    remove: Duration,
    make_directories: Duration,
    remove_directories: Duration,
}

/// Pushes changes one by one, and waits for the end.
fn time(live: &Live, changes: impl Iterator<Item = Change>) -> Duration {
    let start = Instant::now();
    for change in changes {
        live.push(change);
    }
    live.flush();
    start.elapsed()
}

/// Lists the entries with their attributes, cold and warm.
fn list(directory: &Path, n: u64) -> [Duration; 2] {
    [(); 2].map(|()| {
        let start = Instant::now();
        let listed = Command::new("ls")
            .arg("-lR")
            .arg(directory)
            .output()
            .unwrap();
        let took = start.elapsed();
        assert!(listed.status.success());
        let lines = listed.stdout.split(|byte| *byte == b'\n');
        let n_listed = lines.filter(|line| line.starts_with(b"-r--r--r--")).count();
        assert_eq!(n_listed as u64, n);
        took
    })
}

/// A directory gets so many entries and loses them, while somebody holds it open or nobody does.
fn fill(way: fn() -> Live, held: bool, n: u64) -> Took {
    let memory = || resident(std::process::id()).unwrap_or(0);
    let mut live = way();
    live.apply(make("d"));
    let before = memory();
    let directory = held.then(|| fs::File::open(live.path("d")).unwrap());
    let names = || (0..n).map(|n| format!("d/{n}"));
    let files = |byte| names().map(move |name| put(&name, 0o444, vec![byte; SIZE]));
    let make_them = time(&live, files(b'x'));
    let grown = memory().saturating_sub(before);
    let list = list(&live.path("d"), n);
    let took = Took {
        make: make_them,
        change: time(&live, files(b'y')),
        remove: time(&live, names().map(|name| remove(&name))),
        make_directories: time(&live, names().map(|name| make(&name))),
        remove_directories: time(&live, names().map(|name| remove_directory(&name))),
    };
    assert_eq!(fs::read_dir(live.path("d")).unwrap().count(), 0);
    drop(directory);
    println!("{n} entries, held: {held}: {took:.0?}; {grown} KiB; listed in {list:.0?}");
    took
}

#[test]
fn an_entry_of_a_large_directory_costs_as_much_as_one_of_a_small() {
    let n = parameter("LIVEDATA_ENTRIES", 10_000);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    for n in 0..n {
        let path = memory.path().join(n.to_string());
        fs::write(&path, [b'x'; SIZE]).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    }
    println!(
        "{n} files of a tmpfs: listed in {:.0?}",
        list(memory.path(), n)
    );
    for (way, held) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let (small, large) = (fill(way, held, n / 10), fill(way, held, n));
        for (small, large) in [
            (small.make, large.make),
            (small.change, large.change),
            (small.remove, large.remove),
            (small.make_directories, large.make_directories),
            (small.remove_directories, large.remove_directories),
        ] {
            // The smallest are a matter of luck.
            let each = small.max(Duration::from_millis(100)) * 10;
            assert!(large < each * SLOWER, "{small:?}, then {large:?}");
        }
    }
}
