//! What a process takes with 100 000 contents of which memory holds 16 MiB.

use super::*;

/// How many files there are. The debug build would take long for all of them.
const N: usize = if cfg!(debug_assertions) {
    20_000
} else {
    100_000
};

const MOST: u64 = 16 << 20;

/// Makes the test binary the process that is looked at.
const PROCESS: &str = "LIVEDATA_TEST_SPILLING_SIZES";

#[test]
fn a_hundred_thousand_contents() {
    if std::env::var_os(PROCESS).is_none() {
        // In a process of its own.
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "spilling::sizes::a_hundred_thousand_contents",
                "--nocapture",
            ])
            .env(PROCESS, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&process.stdout).into_owned();
        print!("{text}");
        assert!(
            process.status.success(),
            "{}",
            String::from_utf8_lossy(&process.stderr)
        );
        return;
    }
    let before = kib("VmRSS") + kib("RssShmem");
    let mut store = Store::with(MOST);
    let started = std::time::Instant::now();
    for n in 0..N {
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        store.put(&format!("d{}/f{n}", n % 100), Content::droppable(bytes));
    }
    let put = started.elapsed();
    store.wait_for_room(MOST);
    let done = started.elapsed();
    let record = store.writer.n_bytes_of_record();
    store.writer.compact(|_| Ok(())).unwrap();
    println!(
        "{N} contents of 4 KiB: put in {put:.1?}, {} MiB on disk after {done:.1?}; \
         record {} MiB, {} MiB compacted; resident {} MiB of our own and {} MiB of the record, \
         {before} KiB before",
        store.spilling().n_bytes_on_disk() >> 20,
        record >> 20,
        store.writer.n_bytes_of_record() >> 20,
        kib("RssAnon") >> 10,
        kib("RssShmem") >> 10,
    );
    let own = (kib("RssAnon") as u64) << 10;
    assert!(own < N as u64 * 1024 + (24 << 20), "{own}");
    assert!(store.writer.n_bytes_of_record() < MOST + (N as u64) * 300 + (8 << 20));
    let n = N - 1;
    for n in [0, N / 2, n] {
        let read = read(&store, store.ino(&format!("d{}/f{n}", n % 100)));
        assert_eq!(read[..8], n.to_le_bytes());
    }
}

/// A line of /proc/self/status.
fn kib(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
