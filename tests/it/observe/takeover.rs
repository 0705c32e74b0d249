//! A snapshot that is open outlives the server that made it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use livedata::status::Status;
use rustix::fs::Advice;
use rustix::process::{Pid, Signal};

use super::{node, text};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_for, wait_until};
use crate::support::zookeeper::Sandbox;
use crate::survival::kept::{kill, processes, wait_status};

/// So many nodes make a snapshot that is not read ahead as a whole.
const MANY: usize = 3000;

fn many(name: &str) -> (Sandbox, Mount) {
    let sandbox = Sandbox::new(name);
    let znodes = (0..MANY).map(|n| (format!("/n{n}"), "x"));
    sandbox.admin.create_many(znodes);
    let lines: String = (0..MANY)
        .map(|n| format!("nodes.n{n}.source = /n{n}\n"))
        .collect();
    let arguments = ["--restart-at-once"];
    let mount = Mount::start_with(&config(&sandbox.hosts(), &lines), &arguments);
    (sandbox, mount)
}

/// What is in the page cache of it goes, so that the server is asked.
fn drop_pages(file: &File) {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn an_open_snapshot_outlives_its_server() {
    let (_sandbox, mount) = many("snapshot-outlives");
    let path = mount.told_by("status.json");
    let (file, unread) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    let (before_text, size) = (text(&file), unread.metadata().unwrap().len());
    let before: Status = serde_json::from_slice(&before_text).unwrap();
    assert_eq!(before.nodes.len(), MANY);
    let mut numbers = vec![file.metadata().unwrap(), unread.metadata().unwrap()];
    for n in 1..=3 {
        let [server, _] = processes(&mount);
        kill(server);
        // Of the dead server, by the next one.
        drop_pages(&file);
        assert!(text(&file) == before_text);
        assert_eq!(unread.metadata().unwrap().len(), size);
        let status = mount.wait_for_status("it is told of", |status| {
            status.processes.server.restarts == n
        });
        assert_ne!(status.processes.server.pid, Some(server));
        numbers.push(File::open(&path).unwrap().metadata().unwrap());
    }
    let last: Status = serde_json::from_slice(&text(&unread)).unwrap();
    assert_eq!(last.processes.server.restarts, 0);
    use std::os::unix::fs::MetadataExt;
    let mut numbers: Vec<u64> = numbers.iter().map(|meta| meta.ino()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 5, "a number is used twice");
    let root = fs::metadata(mount.root()).unwrap().ino();
    assert!(!numbers.contains(&root));
}

#[test]
fn who_opens_it_while_servers_die_gets_it() {
    let (_sandbox, mount) = many("opens-while");
    let done = AtomicBool::new(false);
    let n_opened = thread::scope(|scope| {
        let readers: Vec<_> = ["status.json", "metrics.prom"]
            .map(|name| {
                let (mount, done) = (&mount, &done);
                scope.spawn(move || {
                    let mut n = 0;
                    while !done.load(Ordering::Relaxed) {
                        let file = File::open(mount.told_by(name)).unwrap();
                        let text = text(&file);
                        assert!(text.ends_with(b"\n"), "it is cut off");
                        assert!(mount.path(".livedata").is_dir());
                        assert!(!mount.path(".livedata/other").exists());
                        assert!(!mount.path("other").exists());
                        n += 1;
                    }
                    n
                })
            })
            .into_iter()
            .collect();
        for n in 1..=8 {
            let [server, _] = processes(&mount);
            kill(server);
            wait_status(&mount, "the next one serves", |status| {
                status["server"]["restarts"] == n && status["server"]["state"] == "serving"
            });
        }
        done.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<u64>()
    });
    assert!(n_opened >= 16, "{n_opened}");
    // What nobody has any more is found out.
    mount.wait_for_status("the inodes are few", |status| {
        status.inodes <= MANY as u64 + 8
    });
}

#[test]
fn a_look_that_a_stopped_server_has_not_answered_is_answered_by_the_next() {
    let (_sandbox, mount) = many("stopped-look");
    fs::metadata(mount.path(".livedata")).unwrap();
    let [server, _] = processes(&mount);
    process::stop(Pid::from_raw(server.cast_signed()).unwrap());
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| mount.status_json()))
            .collect();
        holds_for(Duration::from_millis(200), "they wait", || {
            readers.iter().all(|reader| !reader.is_finished())
        });
        kill(server);
        for reader in readers {
            let status = reader.join().unwrap();
            assert_eq!(status.nodes.len(), MANY);
            assert_ne!(status.processes.server.pid, Some(server));
        }
    });
}

#[test]
fn in_an_upgrade_nobody_is_turned_away() {
    let (_sandbox, mount) = many("upgrade-told");
    let done = AtomicBool::new(false);
    let path = mount.told_by("status.json");
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Each is opened by one server and read by whoever serves then.
            let mut open: Vec<File> = Vec::new();
            while !done.load(Ordering::Relaxed) {
                open.push(File::open(&path).unwrap());
                if open.len() > 3 {
                    let file = open.remove(0);
                    serde_json::from_slice::<Status>(&text(&file)).unwrap();
                }
            }
        });
        for _ in 0..3 {
            let [server, _] = processes(&mount);
            mount.signal(Signal::USR2);
            wait_for(SOON, "another one serves", || {
                processes(&mount)
                    .into_iter()
                    .next()
                    .filter(|next| *next != server)
            });
            let status = mount.status_json();
            assert_eq!(
                status.processes.server.restarts, 0,
                "an upgrade is no restart"
            );
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn the_restarts_of_the_publisher_are_told() {
    let sandbox = Sandbox::new("restarts-told");
    sandbox.admin.create("/a", "1");
    let lines = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start_with(&lines, &["--restart-at-once"]);
    let publisher = mount.wait_for_status("there is one", |status| {
        status.processes.publisher.pid.is_some()
    });
    assert_eq!(publisher.processes.publisher.restarts, 0);
    kill(publisher.processes.publisher.pid.unwrap());
    let status = mount.wait_for_status("another publisher", |status| {
        status.processes.publisher.restarts == 1
    });
    kill(status.processes.server.pid.unwrap());
    mount.wait_for_status("both are counted by the next server", |status| {
        let processes = &status.processes;
        // It ends when the server does, and that may be counted.
        processes.server.restarts == 1 && processes.publisher.restarts >= 1
    });
    let metrics = mount.metrics();
    for process in ["server", "publisher"] {
        let name = format!("livedata_process_restarts_total{{process=\"{process}\"}}");
        assert!(metrics[&name] >= 1.0);
    }
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    mount.wait_for_status("it is told", |status| {
        node(status, "a").version == Some(1) && status.changes >= 1
    });
}

#[test]
fn it_is_read_while_the_server_is_stopped_if_it_was_read_before() {
    let (_sandbox, mount) = many("stopped-read");
    let file = File::open(mount.told_by("metrics.prom")).unwrap();
    let text = text(&file);
    let [server, _] = processes(&mount);
    process::stop(Pid::from_raw(server.cast_signed()).unwrap());
    let mut again = vec![0; text.len()];
    file.read_exact_at(&mut again, 0).unwrap();
    assert_eq!(again, text);
    kill(server);
    wait_until(Duration::from_secs(20), "the next one", || {
        mount.status_json().processes.server.restarts == 1
    });
}
