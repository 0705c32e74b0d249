//! SIGKILL for real, at any moment, again and again on one record.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use livedata::record::Record;
use livedata::source::Told;
use livedata::store::{self, Reader};
use livedata::tree::{Change, Ino};

use crate::tree::{DIRECTORIES, path};

/// Makes the test binary the server that is killed.
const SERVER: &str = "LIVEDATA_TEST_RECORD_SERVER";

const N_FILES: u64 = 7;

/// What is in version `n` of a file: mostly small, sometimes large.
fn content(n: u64) -> Vec<u8> {
    let n_words = match n % 20 {
        0 => 40_000,
        n => 100 + 10 * n as usize,
    };
    n.to_le_bytes().repeat(n_words)
}

/// Which version the file has; none where there is no file. It must be whole.
fn version(reader: &Reader, file: u64) -> Option<u64> {
    let ino = reader.find(&path(&format!("d/{file}")))?;
    let bytes = reader.read(ino).unwrap();
    let n = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert!(*bytes == content(n), "version {n} of file {file} is torn");
    assert_eq!(n % N_FILES, file);
    Some(n)
}

#[test]
fn whoever_is_killed_leaves_a_record_to_go_on_with() {
    let (writer, reader) =
        store::recorded(DIRECTORIES, Record::create().unwrap(), SystemTime::now()).unwrap();
    let memory = super::memory(&writer);
    drop((writer, reader));
    let mut acknowledged = [None; N_FILES as usize];
    let (mut n_versions, mut random) = (0, fastrand::Rng::with_seed(7));
    for _ in 0..50 {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "record::kill::server", "--nocapture"])
            .env(SERVER, "1")
            .stdin(Stdio::from(memory.try_clone().unwrap()))
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
        std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        server.kill().unwrap();
        server.wait().unwrap();
        let text = first + &rest.join().unwrap();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let n: u64 = line.trim_end().parse().expect(line);
            acknowledged[(n % N_FILES) as usize] = Some(n);
            n_versions += 1;
        }
        let loaded = store::restored(DIRECTORIES, memory.try_clone().unwrap());
        let (_, reader) = loaded.unwrap();
        for (file, acknowledged) in acknowledged.iter().enumerate() {
            assert!(version(&reader, file as u64) >= *acknowledged);
        }
        let known = reader.known().into_values().map(|told| match told {
            Told::Content(stat) => stat.mzxid as u64,
            Told::Absent(Some(mzxid)) => mzxid as u64,
            Told::Absent(None) | Told::Lost(_) => unreachable!("content was told before"),
        });
        let known = known.max();
        assert!(known >= acknowledged.iter().flatten().copied().max());
    }
    println!("{n_versions} versions acknowledged by 50 servers");
    assert!(n_versions > 500);
}

/// Goes on with the record in its stdin, changes files, and says so.
#[test]
fn server() {
    if std::env::var_os(SERVER).is_none() {
        return;
    }
    let memory: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let (mut writer, reader) = store::restored(DIRECTORIES, memory).unwrap();
    let mut acknowledgements = File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let znode = livedata::path::ZnodePath::parse("/znode").unwrap();
    let last = (0..N_FILES).filter_map(|file| version(&reader, file)).max();
    let mut held = None;
    for n in last.map_or(0, |last| last + 1).. {
        let file = n % N_FILES;
        let change = Change::Put {
            path: path(&format!("d/{file}")),
            ownership: DIRECTORIES,
            content: content(n).into(),
        };
        writer.apply(change, SystemTime::now());
        let stat = livedata::source::Stat {
            mzxid: n as i64,
            ..Default::default()
        };
        writer.know(&znode, Told::Content(stat));
        writeln!(acknowledgements, "{n}").unwrap();
        for ino in reader.inherited() {
            reader.disinherit(ino);
        }
        let directory = reader.lookup(Ino::ROOT, "d").unwrap().ino;
        let now_held = reader.lookup(directory, &file.to_string()).unwrap().ino;
        if let Some(held) = held.replace(now_held) {
            reader.forget(held, 1);
        }
    }
}
