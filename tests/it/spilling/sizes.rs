//! What a process takes with 100 000 contents of which memory holds 16 MiB.

use std::process::Command;
use std::time::Instant;

use super::*;

/// How many files there are.
const N: u64 = 100_000;

const N_BYTES: u64 = 4096;

const MOST: u64 = 16 << 20;

/// Makes the test binary the process that is looked at; how much memory may hold there.
const PROCESS: &str = "LIVEDATA_TEST_SPILLING_SIZES";

/// What is said of one process, in bytes.
struct Taken {
    own: u64,
    record: u64,
}

#[test]
fn a_hundred_thousand_contents() {
    if let Ok(most) = std::env::var(PROCESS) {
        return fill(most.parse().unwrap());
    }
    let (all, some) = (measure(u64::MAX), measure(MOST));
    let n_all = N * N_BYTES;
    assert!(all.record > n_all);
    // To know where a content lies on disk takes little.
    let of_each = (some.own + some.record).saturating_sub(all.own + all.record - n_all + MOST) / N;
    println!("{of_each} bytes for each content more than without its bytes");
    assert!(of_each < 256, "{of_each}");
}

/// Runs in a process of its own, for what others take is not to count.
fn measure(most: u64) -> Taken {
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spilling::sizes::a_hundred_thousand_contents"])
        .arg("--nocapture")
        .env(PROCESS, most.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&process.stdout).into_owned();
    let error = String::from_utf8_lossy(&process.stderr);
    assert!(process.status.success(), "{said}{error}");
    let taken = said.lines().find_map(|line| line.strip_prefix("taken: "));
    let mut words = taken.unwrap().split(' ').map(|word| word.parse().unwrap());
    println!("{}", taken.unwrap());
    for line in said.lines().filter(|line| line.starts_with("put in")) {
        println!("{line}");
    }
    Taken {
        own: words.next().unwrap(),
        record: words.next().unwrap(),
    }
}

fn fill(most: u64) {
    let mut store = Store::with(most);
    let started = Instant::now();
    for n in 0..N {
        let mut bytes = vec![0; N_BYTES as usize];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        store.put(&format!("d{}/f{n}", n % 100), Content::droppable(bytes));
    }
    let put = started.elapsed();
    store.wait_for_room(most);
    let done = started.elapsed();
    store.writer.compact(|_| Ok(())).unwrap();
    let (own, record) = (own(), store.writer.n_bytes_of_record());
    println!("\ntaken: {own} {record}");
    let started = Instant::now();
    store::restored(DIRECTORIES, store.handed()).unwrap();
    let loaded = started.elapsed();
    println!(
        "put in {put:.1?}, loaded by a successor in {loaded:.1?}, {} MiB on disk after {done:.1?}; own {} MiB, record {} MiB",
        store.spilling().n_bytes_on_disk() >> 20,
        own >> 20,
        record >> 20,
    );
    for n in [0, N / 2, N - 1] {
        let read = read(&store, store.ino(&format!("d{}/f{n}", n % 100)));
        assert_eq!(read[..8], n.to_le_bytes());
    }
}

/// What this process has in memory of its own, the record not among it.
fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let n_kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    n_kib << 10
}
