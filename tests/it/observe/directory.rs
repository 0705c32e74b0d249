//! The files in `.livedata/`: who sees and reads them, and that each open is one snapshot.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use livedata::status::{SCHEMA, Status};
use rustix::process::geteuid;

use super::{node, text};
use crate::files::config;
use crate::support::as_user::{self, NOBODY};
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::versions::mapped;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

fn one(name: &str, lines: &str) -> (Sandbox, Mount) {
    let sandbox = Sandbox::new(name);
    sandbox.admin.create("/a", "0");
    let lines = format!("nodes.a.source = /a\n{lines}");
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    (sandbox, mount)
}

#[test]
fn it_is_in_no_listing_and_always_there() {
    let (_sandbox, mount) = one("in-no-listing", "");
    let names = |path| {
        let entries = fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<HashSet<_>>()
    };
    assert_eq!(names(mount.root()), HashSet::from(["a".to_owned()]));
    let both = HashSet::from(["status.json".to_owned(), "metrics.prom".to_owned()]);
    for _ in 0..3 {
        assert_eq!(names(mount.path(".livedata")), both);
        for name in &both {
            assert!(!fs::read(mount.told_by(name)).unwrap().is_empty());
        }
    }
    let listed = Command::new("ls")
        .args(["-la", "--time-style=+%s"])
        .arg(mount.path(".livedata"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files = listed
        .lines()
        .filter(|line| line.starts_with("-r--r--r-- "));
    assert_eq!(files.count(), 2, "{listed}");
    for name in ["other", ".livedata", "status.jso", "status.json.tmp"] {
        let err = fs::metadata(mount.told_by(name)).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound);
    }
    let err = fs::read_dir(mount.told_by("status.json")).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotADirectory);
}

#[test]
fn everybody_reads_it_and_nobody_writes() {
    let (_sandbox, mount) = one("nobody-writes", "");
    let directory = fs::metadata(mount.path(".livedata")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o7777, 0o555);
    assert_eq!(directory.uid(), geteuid().as_raw());
    for name in ["status.json", "metrics.prom"] {
        let path = mount.told_by(name);
        let meta = fs::metadata(&path).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o7777, 0o444);
        assert_eq!(meta.uid(), geteuid().as_raw());
        assert!(as_user::read(NOBODY, &path).is_some_and(|text| !text.is_empty()));
        let refused = [
            OpenOptions::new().append(true).open(&path).err(),
            fs::write(&path, "x").err(),
            fs::remove_file(&path).err(),
            fs::rename(&path, mount.told_by("other")).err(),
            fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).err(),
            std::os::unix::fs::chown(&path, Some(7), None).err(),
            fs::hard_link(&path, mount.path("link")).err(),
        ];
        for refused in refused {
            let err = refused.expect("it is refused");
            assert_eq!(err.kind(), ErrorKind::ReadOnlyFilesystem);
        }
    }
    let made = fs::write(mount.told_by("new"), "x").unwrap_err();
    assert_eq!(made.kind(), ErrorKind::ReadOnlyFilesystem);
    let gone = fs::remove_dir(mount.path(".livedata")).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ReadOnlyFilesystem);
    // Also where root has made the mount writable.
    let root = mount.root();
    let root = root.to_str().unwrap();
    let script = format!(
        "mount -o remount,rw,bind {root}; cd {root}/.livedata; ! touch new; ! mv status.json x; \
         ! rm metrics.prom; ! mkdir d; ! chmod 0 status.json; ! sh -c 'echo x >status.json'"
    );
    let ran = Command::new("unshare")
        .args(["--mount", "--", "sh", "-euc", &script])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(mount.status_json().nodes.len() == 1);
}

#[test]
fn its_name_and_its_mode_are_configured() {
    let lines = "mount.status_dir = .told\nmount.status_mode = 0440\n\
        nodes.b.source = /a\nnodes.b.dest = .told/b";
    let (_sandbox, mount) = one("configured", lines);
    assert!(!mount.path(".livedata").exists());
    let path = mount.path(".told/status.json");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o440);
    assert_eq!(as_user::read(NOBODY, &path), None);
    let status: Status = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // No node stands in its way.
    assert_eq!(status.nodes.len(), 1);
    assert_eq!(mount.n_logged("begins with what mount.status_dir names"), 1);
}

#[test]
fn an_open_file_is_one_snapshot_and_the_next_open_is_newer() {
    let (sandbox, mount) = one("one-snapshot", "");
    let path = mount.told_by("status.json");
    let first = File::open(&path).unwrap();
    let of_first = first.metadata().unwrap();
    let of_then = text(&first);
    assert_eq!(of_then.len() as u64, of_first.len());
    for n in 1..=20 {
        sandbox.admin.set("/a", n.to_string());
        mount.wait_for_content("a", n.to_string());
        // What is known of a file is noted after it is shown.
        mount.wait_for_status("the version", |status| node(status, "a").version == Some(n));
        let now = first.metadata().unwrap();
        assert_eq!((now.len(), now.ino()), (of_first.len(), of_first.ino()));
        assert!(text(&first) == of_then);
        assert!(mapped(&first) == of_then);
    }
    let status: Status = serde_json::from_slice(&of_then).unwrap();
    assert_eq!(status.schema, SCHEMA);
    assert_eq!(node(&status, "a").version, Some(0));
    let second = File::open(&path).unwrap().metadata().unwrap();
    assert_ne!(second.ino(), of_first.ino());
    assert!(second.modified().unwrap() > of_first.modified().unwrap());
}

#[test]
fn every_open_is_whole_while_everything_changes() {
    let (sandbox, mount) = one("whole", "");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut n, mut last) = (0, 0.0);
                    while !done.load(Ordering::Relaxed) {
                        let file = File::open(mount.told_by("status.json")).unwrap();
                        let status: Status = serde_json::from_slice(&text(&file)).unwrap();
                        assert!(status.at >= last, "it goes back");
                        last = status.at;
                        n += 1;
                        fs::read(mount.told_by("metrics.prom")).unwrap();
                    }
                    n
                })
            })
            .collect();
        for n in 0..300 {
            sandbox.admin.set("/a", "x".repeat(n));
        }
        mount.wait_for_content("a", "x".repeat(299));
        done.store(true, Ordering::Relaxed);
        let n_read: usize = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        assert!(n_read > 30, "{n_read}");
    });
}

#[test]
fn the_snapshots_go_when_nobody_has_them() {
    let (_sandbox, mount) = one("snapshots-go", "");
    let few = mount.status_json().inodes;
    let held: Vec<File> = (0..50)
        .map(|_| File::open(mount.told_by("status.json")).unwrap())
        .collect();
    let numbers: HashSet<u64> = held
        .iter()
        .map(|file| file.metadata().unwrap().ino())
        .collect();
    assert_eq!(numbers.len(), held.len(), "each has its own number");
    assert!(mount.status_json().inodes >= few + 49);
    for _ in 0..2000 {
        fs::metadata(mount.told_by("status.json")).unwrap();
        fs::read(mount.told_by("metrics.prom")).unwrap();
    }
    drop(held);
    // The kernel keeps the last of each name.
    mount.wait_for_status("they are forgotten", |status| status.inodes <= few + 4);
}

#[test]
fn however_many_look_the_record_stays_small() {
    /// Each look is on record twice, as a file that comes and goes: in all more than the limit.
    const LOOKS: usize = 75_000;
    const LIMIT: u64 = 10 << 20;
    let (_sandbox, mount) = one("record-small", "");
    let server = mount.server().unwrap().as_raw_nonzero();
    let n_bytes = || {
        let descriptors = fs::read_dir(format!("/proc/{server}/fd")).unwrap();
        let memories = descriptors.filter_map(|descriptor| {
            let path = descriptor.unwrap().path();
            let target = fs::read_link(&path).ok()?;
            let is_memory = target.to_str()?.starts_with("/memfd:");
            is_memory.then(|| fs::metadata(&path).map_or(0, |meta| meta.blocks() * 512))
        });
        memories.sum::<u64>()
    };
    let before = n_bytes();
    assert!(before > 0);
    for n in 0..LOOKS {
        fs::metadata(mount.told_by("metrics.prom")).unwrap();
        if n % 1000 == 0 {
            let now = n_bytes();
            assert!(now < LIMIT, "after {n} looks {now}");
        }
    }
    // It was written anew, or the test tests nothing.
    wait_until(SOON, "it is small again", || n_bytes() < LIMIT / 2);
}

#[test]
fn a_thousand_nodes() {
    let sandbox = Sandbox::new("thousand-told");
    let znodes = (0..1000).map(|n| (format!("/n{n}"), format!("content {n}")));
    sandbox.admin.create_many(znodes);
    let lines: String = (0..1000)
        .map(|n| format!("nodes.n{n}.source = /n{n}\nnodes.n{n}.dest = d/n{n}\n"))
        .collect();
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let status = mount.status_json();
    assert_eq!(status.nodes.len(), 1000);
    assert!(status.nodes.iter().all(|node| node.is_current()));
    assert_eq!(node(&status, "n7").size, Some(9));
    // No content of znodes is in it.
    for file in ["status.json", "metrics.prom"] {
        let text = fs::read_to_string(mount.told_by(file)).unwrap();
        assert!(!text.contains("content 7"), "{file}");
    }
    let metrics = mount.metrics();
    assert_eq!(metrics["livedata_nodes{state=\"live\"}"], 1000.0);
    assert!(metrics.len() < 50, "nodes that are live are no series");
    let start = Instant::now();
    for _ in 0..10 {
        mount.status_json();
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}
