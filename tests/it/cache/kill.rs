//! SIGKILL at any moment, again and again on one directory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use livedata::cache::{Cache, Known};

use super::{PATIENCE, open, path, stat, tell};

/// Makes the test binary the server that is killed; says where the cache is.
const SERVER: &str = "LIVEDATA_TEST_CACHE_SERVER";

const N_ZNODES: i64 = 7;

/// Version `n` of a znode: mostly small, and sometimes large enough to outdate the log.
fn content(n: i64) -> Vec<u8> {
    let n_words = if n % 20 == 0 { 60_000 } else { 100 };
    n.to_le_bytes().repeat(n_words)
}

fn tell_version(cache: &Cache, n: i64) {
    tell(cache, &format!("/{}", n % N_ZNODES), n, &content(n));
}

#[test]
fn whoever_is_killed_leaves_a_cache_to_start_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let (mut n_cut, mut random) = (0, fastrand::Rng::with_seed(7));
    for _ in 0..40 {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache::kill::server", "--nocapture"])
            .env(SERVER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledgements = BufReader::new(server.stderr.take().unwrap());
        let mut first = String::new();
        acknowledgements.read_line(&mut first).unwrap();
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            acknowledgements.read_to_string(&mut rest).unwrap();
            rest
        });
        std::thread::sleep(Duration::from_micros(random.u64(0..40_000)));
        server.kill().unwrap();
        server.wait().unwrap();
        let text = first + &rest.join().unwrap();
        let mut whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        acknowledged = whole
            .next_back()
            .map_or(acknowledged, |line| line.trim_end().parse().expect(line));

        // Everything acknowledged is there, and what is there is whole and of one moment.
        let (_cache, found) = open(dir.path());
        for line in &found.dropped {
            assert!(line.contains("a write was cut short"), "{line}");
            n_cut += 1;
        }
        let mut newest = 0;
        for entry in &found.entries {
            let Known::Content { stat, content, .. } = &entry.known else {
                panic!("{entry:?}");
            };
            let n = stat.mzxid;
            assert!(
                *content.bytes().unwrap() == *self::content(n),
                "version {n} is torn"
            );
            assert_eq!(entry.path, path(&format!("/{}", n % N_ZNODES)));
            assert!(
                n > acknowledged - N_ZNODES,
                "{n} was outdated before {acknowledged}"
            );
            newest = newest.max(n);
        }
        assert!(newest >= acknowledged, "{newest} {acknowledged}");
        if acknowledged >= N_ZNODES {
            assert_eq!(found.entries.len(), N_ZNODES as usize);
        }
    }
    println!("{acknowledged} versions acknowledged by 40 servers, {n_cut} writes cut short");
    assert!(acknowledged > 200);
}

/// Goes on with the cache, tells versions, and says so once they are on disk.
#[test]
fn server() {
    let Some(dir) = std::env::var_os(SERVER) else {
        return;
    };
    let mut acknowledgements = File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let (cache, found) = open(dir.as_ref());
    let stats = found.entries.iter().filter_map(|entry| match entry.known {
        Known::Content { stat, .. } => Some(stat.mzxid),
        Known::Absent { .. } => None,
    });
    let last = stats.max().unwrap_or(0);
    for n in last + 1.. {
        tell_version(&cache, n);
        if n % 5 == 0 {
            assert!(cache.flush(PATIENCE));
            assert!(
                cache
                    .kept(&path(&format!("/{}", n % N_ZNODES)), &stat(n))
                    .is_some()
            );
            writeln!(acknowledgements, "{n}").unwrap();
        }
    }
}
