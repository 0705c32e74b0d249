//! What files show of znodes: the real program, a real server, real mounts. One promise each.

mod acl;
mod dropins;
mod permissions;
mod reload;
mod times;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::mount::Mount;
use crate::support::process;
use crate::support::shown::SOON;
use crate::support::versions::{held, mapped, version, whole};
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, free_address};

/// A configuration for these hosts. The lines may be indented, as those of a test are.
pub fn config(hosts: &str, lines: &str) -> String {
    let lines: Vec<&str> = lines.lines().map(str::trim).collect();
    let lines = lines.join("\n");
    format!("[live-data]\nzookeeper.hosts = {hosts}\n{lines}\n")
}

/// Says so when it is dropped, also where a test fails: the threads of its scope must end.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_follows_its_znode() {
    let sandbox = Sandbox::new("follows");
    let nodes = "nodes.a.source = /dir/a\nnodes.marker.source = /marker";
    sandbox.admin.create("/marker", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    assert!(!mount.has("a"), "a missing znode has no file");
    assert_eq!(mount.read("marker").unwrap(), b"0");
    // Also its parent is created later.
    sandbox.admin.create("/dir/a", "1");
    mount.wait_for_content("a", "1");
    sandbox.admin.set("/dir/a", "");
    mount.wait_for_content("a", "");
    sandbox.admin.set("/dir/a", "2");
    mount.wait_for_content("a", "2");
    sandbox.admin.delete("/dir/a");
    mount.wait_until_gone("a");
    sandbox.admin.create("/dir/a", "3");
    mount.wait_for_content("a", "3");
    // Deleted with its parent, and created anew with it.
    sandbox.admin.delete("/dir/a");
    sandbox.admin.delete("/dir");
    mount.wait_until_gone("a");
    sandbox.admin.create("/dir/a", "4");
    mount.wait_for_content("a", "4");
}

#[test]
fn null_data_is_an_empty_file() {
    let sandbox = Sandbox::new("null-file");
    sandbox.create_null("/early");
    let nodes = "nodes.early.source = /early\nnodes.late.source = /late\nnodes.cli.source = /cli";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    assert_eq!(mount.read("early").unwrap(), b"");
    sandbox.create_null("/late");
    mount.wait_for_content("late", "");
    // ZooKeeper's own command line makes such nodes.
    let made = Command::new("/usr/share/zookeeper/bin/zkCli.sh")
        .args(["-server", &sandbox.hosts(), "create", "/cli"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    mount.wait_for_content("cli", "");
    for file in ["early", "late", "cli"] {
        sandbox.admin.set(&format!("/{file}"), "x");
        mount.wait_for_content(file, "x");
    }
}

#[test]
fn content_is_equal_to_the_byte() {
    let sandbox = Sandbox::new("bytes");
    let all: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = all.iter().copied().cycle().take(1_048_500).collect();
    sandbox.admin.create("/all", &all);
    sandbox.admin.create("/large", &large);
    let nodes = "nodes.all.source = /all\nnodes.large.source = /large";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    assert_eq!(mount.read("all").unwrap(), all);
    assert!(mount.read("large").unwrap() == large);
    assert_eq!(mount.meta("large").len(), large.len() as u64);
    let other: Vec<u8> = large.iter().map(|byte| !byte).collect();
    sandbox.admin.set("/large", &other);
    mount.wait_for_content("large", &other);
    sandbox.admin.set("/all", "\r\n\0");
    mount.wait_for_content("all", "\r\n\0");
}

#[test]
fn a_kept_file_outlives_its_znode() {
    let sandbox = Sandbox::new("keep");
    for name in ["kept", "also", "gone"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let nodes = "
        defaults.on_delete = keep
        nodes.kept.source = /kept
        nodes.also.source = /also
        nodes.gone.source = /gone
        nodes.gone.on_delete = remove
        nodes.copy.source = /also
        nodes.copy.on_delete = remove
        nodes.never.source = /never";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let ino = mount.ino("kept");
    for name in ["kept", "also", "gone"] {
        sandbox.admin.delete(&format!("/{name}"));
    }
    mount.wait_until_gone("gone");
    mount.wait_until_gone("copy");
    assert_eq!(mount.read("kept").unwrap(), b"kept");
    assert_eq!(mount.read("also").unwrap(), b"also");
    assert_eq!(mount.ino("kept"), ino);
    assert!(!mount.has("never"));
    // It follows the next one.
    sandbox.admin.create("/kept", "new");
    sandbox.admin.create("/also", "new");
    mount.wait_for_content("kept", "new");
    mount.wait_for_content("also", "new");
    mount.wait_for_content("copy", "new");
}

#[test]
fn a_znode_is_shown_wherever_it_is_wanted() {
    let sandbox = Sandbox::new("dests");
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b/c", "2");
    let nodes = "
        nodes.one.source = /a
        nodes.one.dest = deep/er/one.json
        nodes.two.source = /a
        nodes.two.dest = deep/two.json
        nodes.two.mode = 0444
        nodes.three.source = b/c
        nodes.three.dest = /etc/three";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    assert_eq!(mount.read("deep/er/one.json").unwrap(), b"1");
    assert_eq!(mount.read("deep/two.json").unwrap(), b"1");
    assert_eq!(mount.read("etc/three").unwrap(), b"2");
    sandbox.admin.set("/a", "3");
    mount.wait_for_content("deep/er/one.json", "3");
    mount.wait_for_content("deep/two.json", "3");
    sandbox.admin.delete("/a");
    mount.wait_until_gone("deep/er/one.json");
    mount.wait_until_gone("deep/two.json");
    // Directories are those of the configuration.
    assert!(mount.meta("deep/er").is_dir());
}

#[test]
fn a_baseplate_configuration_works_unchanged() {
    let sandbox = Sandbox::new("baseplate");
    sandbox.admin.create("/experiments", "{}");
    sandbox.admin.create("/service/config", "[]");
    let file = format!(
        "[DEFAULT]\r\n\
         [live-data]\r\n\
         zookeeper.hosts: {}\r\n\
         zookeeper.timeout = 5 seconds\r\n\
         # both kinds of paths\r\n\
         Nodes.Experiments.Source = /experiments\r\n\
         nodes.experiments.dest = {{root}}/live/experiments.json\r\n\
         nodes.experiments.owner = www-data\r\n\
         nodes.experiments.group = www-data\r\n\
         nodes.experiments.mode = 0440\r\n\
         nodes.config.source = service/config\r\n\
         nodes.config.dest = config.json\r\n\
         [server:main]\r\n\
         factory = baseplate.server.thrift\r\n",
        sandbox.hosts()
    );
    let mount = Mount::start(&file);
    assert_eq!(mount.read("live/experiments.json").unwrap(), b"{}");
    assert_eq!(mount.read("config.json").unwrap(), b"[]");
    let meta = mount.meta("live/experiments.json");
    assert_eq!((meta.uid(), meta.gid(), meta.mode()), (33, 33, 0o100_440));
    assert_eq!(mount.meta("config.json").mode(), 0o100_400);
}

#[test]
fn a_chroot_may_come_later() {
    let sandbox = Sandbox::new("chroot");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b/c";
    let mount = Mount::start(&config(&format!("{}/not/yet", sandbox.hosts()), nodes));
    assert!(!mount.has("a"));
    sandbox.admin.create("/not/yet/a", "1");
    mount.wait_for_content("a", "1");
    sandbox.admin.create("/not/yet/b/c", "2");
    mount.wait_for_content("b", "2");
    sandbox.admin.set("/not/yet/a", "3");
    mount.wait_for_content("a", "3");
}

#[test]
fn dead_hosts_are_passed_over() {
    let sandbox = Sandbox::new("hosts");
    sandbox.admin.create("/a", "1");
    let (one, other) = (free_address(), free_address());
    let hosts = format!("{one},{other},{}", sandbox.hosts());
    let mount = Mount::start(&config(&hosts, "nodes.a.source = /a"));
    assert_eq!(mount.read("a").unwrap(), b"1");
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
}

#[test]
fn the_next_open_is_the_newest_of_a_server() {
    const CHANGES: u64 = 10_000;
    let sandbox = Sandbox::new("newest");
    sandbox.admin.create("/a", "0");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let path = mount.path("a");
    // The newest that any open has shown.
    let newest = AtomicU64::new(0);
    let n_seen = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while start.elapsed() < 2 * SOON {
                    let before = newest.load(Ordering::SeqCst);
                    let n: u64 = fs::read_to_string(&path).unwrap().parse().unwrap();
                    assert!(n >= before, "went back from {before} to {n}");
                    if newest.fetch_max(n, Ordering::SeqCst) < n {
                        n_seen.fetch_add(1, Ordering::Relaxed);
                    }
                    if n == CHANGES {
                        // Whoever saw the last one first: all see it from now on.
                        return;
                    }
                }
                panic!("the last one does not come");
            });
        }
        sandbox
            .admin
            .set_many((1..=CHANGES).map(|n| ("/a", n.to_string())));
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), CHANGES.to_string());
    let n_seen = n_seen.into_inner();
    assert!(n_seen > 100, "only {n_seen} versions were seen");
}

#[test]
fn one_open_file_is_one_version_of_a_server() {
    const SIZE: usize = 1_000_000;
    let sandbox = Sandbox::new("one-version");
    sandbox.admin.create("/a", version(0, SIZE));
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let path = mount.path("a");
    let done = AtomicBool::new(false);
    let opened: [AtomicU64; 3] = Default::default();
    let until_done = |reader: usize, read: &dyn Fn(File) -> Vec<u8>| {
        let mut last = 0;
        while !done.load(Ordering::Relaxed) {
            let n = whole(&read(File::open(&path).unwrap()), SIZE);
            assert!(n >= last, "went back from {last} to {n}");
            opened[reader].fetch_add(u64::from(n > last), Ordering::Relaxed);
            last = n;
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            until_done(0, &|mut file| {
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                content
            })
        });
        scope.spawn(|| until_done(1, &|file| held(&file)));
        scope.spawn(|| until_done(2, &|file| mapped(&file)));
        let _done = Done(&done);
        let mut n = 0;
        wait_until(SOON, "every reader has seen many versions", || {
            n += 1;
            sandbox.admin.set("/a", version(n, SIZE));
            let seen = |opened: &AtomicU64| opened.load(Ordering::Relaxed) >= 10;
            // Where one of them has failed, the scope tells.
            assert!(n < 200, "the readers see too few: {opened:?}");
            n >= 50 && opened.iter().all(seen)
        });
    });
}

/// Prints what Baseplate's class has, first and at every line it is asked.
const FILE_WATCHER: &str = "
import sys
from baseplate.lib.file_watcher import FileWatcher
watcher = FileWatcher(sys.argv[1], lambda file: file.read())
print(watcher.get_data(), flush=True)
for line in sys.stdin:
    print(watcher.get_data(), flush=True)
";

#[test]
fn a_baseplate_file_watcher_sees_changes() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    assert!(python.exists(), "run tests/setup.sh");
    let sandbox = Sandbox::new("watcher");
    sandbox.admin.create("/a", "first");
    let lines = "heartbeat_interval = 50 milliseconds\nnodes.a.source = /a";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let mut command = process::bound_to_us(python.to_str().unwrap(), "KILL");
    command
        .args(["-c", FILE_WATCHER])
        .arg(mount.path("a"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut watcher = process::spawn(command);
    let mut stdin = watcher.stdin.take().unwrap();
    let mut answers = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut answer = || answers.next().unwrap().unwrap();
    assert_eq!(answer(), "first");
    let mut ask = || {
        writeln!(stdin).unwrap();
        answer()
    };
    for n in 0..100 {
        let content = format!("content {n}");
        sandbox.admin.set("/a", &content);
        mount.wait_for_content("a", &content);
        // The mount shows it, so the class does.
        assert_eq!(ask(), content);
    }
    sandbox.admin.delete("/a");
    mount.wait_until_gone("a");
    assert_eq!(ask(), "content 99", "it keeps what it has");
    sandbox.admin.create("/a", "again");
    mount.wait_for_content("a", "again");
    assert_eq!(ask(), "again");
    drop(stdin);
    assert!(
        process::wait(&mut watcher, Duration::from_secs(10)).is_some(),
        "it ends with its input"
    );
}
