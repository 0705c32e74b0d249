//! SIGKILL for real, at any moment, while contents go to the disk.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use super::*;

/// Makes the test binary the server that is killed; tells it where the file is.
const SERVER: &str = "LIVEDATA_TEST_SPILLING_SERVER";

const N_FILES: u64 = 40;

fn nth_content(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(100 + 64 * (n % 30) as usize)
}

/// Which version the file has, if there is one. It must be whole.
fn version(reader: &Reader, file: u64) -> Option<u64> {
    let ino = reader.find(&path(&format!("f{file}")))?;
    let bytes = reader.read(ino).expect("it can be read");
    let n = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert!(*bytes == nth_content(n), "version {n} is torn");
    assert_eq!(n % N_FILES, file);
    Some(n)
}

fn go_on(memory: OwnedFd, spill: &File) -> (Writer, Reader) {
    let handed = Handed {
        memory,
        spill: Some(spill.try_clone().unwrap().into()),
    };
    store::restored(DIRECTORIES, handed).unwrap()
}

#[test]
fn whoever_is_killed_leaves_whole_contents() {
    use std::os::fd::AsRawFd;

    let store = Store::new();
    let memory = memory(&store.writer);
    drop(store);
    let spill = tempfile::tempfile().unwrap();
    let there = format!("/proc/{}/fd/{}", std::process::id(), spill.as_raw_fd());
    let mut acknowledged = [None; N_FILES as usize];
    let (mut n_on_disk, mut random) = (0, fastrand::Rng::with_seed(7));
    // A slow disk takes more of them.
    let mut n_servers = 0;
    while n_servers < 50 || n_on_disk < 500 {
        n_servers += 1;
        assert!(
            n_servers < 1000,
            "only {n_on_disk} contents were found on disk"
        );
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spilling::kill::server", "--nocapture"])
            .env(SERVER, &there)
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
        std::thread::sleep(Duration::from_micros(random.u64(0..30_000)));
        server.kill().unwrap();
        server.wait().unwrap();
        let text = first + &rest.join().unwrap();
        let lines = text.split_inclusive('\n');
        for line in lines.filter(|line| line.ends_with('\n')) {
            let n: u64 = line.trim_end().parse().expect(line);
            acknowledged[(n % N_FILES) as usize] = Some(n);
        }
        let (_, reader) = go_on(memory.try_clone().unwrap(), &spill);
        for (file, acknowledged) in acknowledged.iter().enumerate() {
            assert!(version(&reader, file as u64) >= *acknowledged);
        }
        let is_on_disk = |file: &u64| {
            let ino = reader.find(&path(&format!("f{file}")));
            ino.is_some_and(|ino| reader.content(ino).unwrap().in_memory().is_none())
        };
        n_on_disk += (0..N_FILES).filter(is_on_disk).count();
    }
    println!("{n_on_disk} contents of {n_servers} servers were found on disk");
}

/// Goes on with the record in its stdin, changes files, and says so.
#[test]
fn server() {
    let Some(there) = std::env::var_os(SERVER) else {
        return;
    };
    let memory: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let spill = File::options().read(true).write(true).open(there).unwrap();
    let (mut writer, reader) = go_on(memory, &spill);
    let place = Place {
        create: Box::new(|| panic!("there is one")),
        keep: Box::new(|_| Ok(())),
    };
    let _spilling = Spilling::start(&reader, place, 16 * KIB as u64).unwrap();
    let mut acknowledgements = File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let last = (0..N_FILES).filter_map(|file| version(&reader, file)).max();
    for n in last.map_or(0, |last| last + 1).. {
        let change = Change::Put {
            path: path(&format!("f{}", n % N_FILES)),
            ownership: DIRECTORIES,
            content: Content::droppable(nth_content(n)),
        };
        writer.apply(change, SystemTime::now());
        writeln!(acknowledgements, "{n}").unwrap();
        for ino in reader.inherited() {
            reader.disinherit(ino);
        }
        if n % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
