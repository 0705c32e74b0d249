//! One process dies: the others start it again, and nothing is lost.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::inotify;
use rustix::process::{Pid, Signal};

use super::kept::{
    copy_program, kill, next_of, processes, signal, status, ticks, wait_status, wait_until_gone,
};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::Sandbox;

#[test]
fn readers_in_flight_are_answered_by_the_next_server() {
    const FILES: usize = 40;
    let sandbox = Sandbox::new("in-flight");
    let names: Vec<String> = (0..FILES).map(|n| format!("n{n}")).collect();
    // Larger than what is stored into the page cache beforehand, so a first read asks.
    let content = vec![b'x'; 200 << 10];
    sandbox
        .admin
        .create_many(names.iter().map(|name| (format!("/{name}"), &content)));
    let nodes: String = names
        .iter()
        .map(|name| format!("nodes.{name}.source = /{name}\n"))
        .collect();
    let mount = Mount::start_with(&config(&sandbox.hosts(), &nodes), &["--restart-at-once"]);
    // Opened before, so that a READ is in flight; the others wait for their LOOKUP.
    let opened: Vec<File> = names[..FILES / 2]
        .iter()
        .map(|name| File::open(mount.path(name)).unwrap())
        .collect();
    let [server, _] = processes(&mount);
    process::stop(Pid::from_raw(server.cast_signed()).unwrap());
    let (tell_thread, threads) = mpsc::channel();
    let (tell_read, reads) = mpsc::channel();
    let mut opened = opened.into_iter();
    for name in &names {
        let (path, opened) = (mount.path(name), opened.next());
        let (tell_thread, tell_read) = (tell_thread.clone(), tell_read.clone());
        thread::spawn(move || {
            tell_thread
                .send(fs::read_link("/proc/thread-self").unwrap())
                .unwrap();
            let read = match opened {
                Some(file) => std::io::read_to_string(file),
                None => fs::read_to_string(path),
            };
            let _ = tell_read.send(read);
        });
    }
    for thread in threads.iter().take(FILES) {
        let wchan = Path::new("/proc").join(thread).join("wchan");
        wait_until(SOON, "a reader waits for the server", || {
            let at = fs::read_to_string(&wchan).unwrap();
            at.contains("request_wait") || at.contains("folio_wait")
        });
    }
    // Some of what waits was taken and not answered: a server that is killed while it runs.
    signal(server, Signal::CONT);
    kill(server);
    for _ in &names {
        let read = reads.recv_timeout(SOON).expect("an answer");
        assert_eq!(read.expect("no error").as_bytes(), content);
    }
    next_of(&mount, "server", server);
}

#[test]
fn changes_and_notices_arrive_while_publishers_die() {
    const CHANGES: u64 = 300;
    let sandbox = Sandbox::new("publisher-dies");
    sandbox.admin.create("/a", "0");
    let lines = "nodes.a.source = /a";
    let mount = Mount::start_with(&config(&sandbox.hosts(), lines), &["--restart-at-once"]);
    assert_eq!(mount.read("a").unwrap(), b"0");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut n_killed = 0;
            while !over.load(Ordering::Relaxed) {
                let [_, publisher] = processes(&mount);
                thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
                kill(publisher);
                n_killed += 1;
                next_of(&mount, "publisher", publisher);
            }
            n_killed
        });
        for n in 1..=CHANGES {
            sandbox.admin.set("/a", n.to_string());
            if n % 3 == 0 {
                mount.wait_for_content("a", n.to_string());
            }
        }
        over.store(true, Ordering::Relaxed);
        println!(
            "{} publishers killed, {CHANGES} changes",
            killer.join().unwrap()
        );
    });
    mount.wait_for_content("a", CHANGES.to_string());
    // The next publisher wakes whoever watched all the time.
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, mount.root(), inotify::WatchFlags::MOVED_TO).unwrap();
    let [_, publisher] = processes(&mount);
    kill(publisher);
    next_of(&mount, "publisher", publisher);
    sandbox.admin.set("/a", "last");
    mount.wait_for_content("a", "last");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    wait_until(SOON, "a notice", || {
        let event = reader.next().ok();
        event.is_some_and(|event| {
            event
                .file_name()
                .is_some_and(|name| name.to_bytes() == b"a")
        })
    });
}

#[test]
fn a_publisher_that_hangs_is_replaced_even_in_an_upgrade() {
    let sandbox = Sandbox::new("publisher-hangs");
    sandbox.admin.create("/a", "1");
    let config = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start_with(&config, &["--restart-at-once"]);
    assert_eq!(mount.read("a").unwrap(), b"1");
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, mount.root(), inotify::WatchFlags::MOVED_TO).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let [server, first] = processes(&mount);
    for (content, n_replaced) in [("2", 1), ("3", 2)] {
        let [_, publisher] = processes(&mount);
        process::stop(Pid::from_raw(publisher.cast_signed()).unwrap());
        sandbox.admin.set("/a", content);
        if n_replaced == 2 {
            // What waits is published before the server freezes.
            wait_until(SOON, "the server waits for the publisher", || {
                let channel = fs::read_to_string(publishing_thread(server).join("wchan"));
                channel.is_ok_and(|at| at.contains("skb") || at.contains("unix"))
            });
            mount.signal(Signal::USR2);
        }
        mount.wait_for_content("a", content);
        wait_until(SOON, "it came by a publisher", || reader.next().is_ok());
        next_of(&mount, "publisher", publisher);
        assert_eq!(mount.n_logged("it did not answer"), n_replaced);
    }
    wait_status(&mount, "the upgrade is over", |status| {
        status["upgrade"]["running"] == false && status["upgrade"]["last"]["reason"] == "done"
    });
    assert_ne!(processes(&mount), [server, first]);
}

/// The thread of a server that publishes.
fn publishing_thread(server: u32) -> PathBuf {
    let tasks = fs::read_dir(format!("/proc/{server}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .find(|task| fs::read_to_string(task.join("comm")).unwrap() == "publish\n")
        .expect("a thread that publishes")
}

#[test]
fn a_killed_keeper_takes_the_others_along() {
    let sandbox = Sandbox::new("keeper-dies");
    sandbox.admin.create("/a", "x");
    let config = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mut mount = Mount::start(&config);
    let [server, publisher] = processes(&mount);
    kill(mount.pid());
    mount.wait();
    wait_until_gone(&[server, publisher]);
    mount.start_again(&[]);
    assert_eq!(mount.read("a").unwrap(), b"x");
}

#[test]
fn a_server_that_cannot_start_is_waited_for() {
    let sandbox = Sandbox::new("crash-loop");
    sandbox.admin.create("/a", "1");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    copy_program(&program);
    let config = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start_with(&config, &["--binary", program.to_str().unwrap()]);
    // A few times, until nothing of it is asked for any more.
    for _ in 0..3 {
        assert_eq!(mount.read("a").unwrap(), b"1");
    }
    // What is open stays in the caches, whatever else this machine does.
    let _cached = File::open(mount.path("a")).unwrap();
    let [server, _] = processes(&mount);
    // The keeper holds the program by descriptor, so to replace the file would break nothing.
    let set_mode = |mode| fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
    set_mode(0o644);
    kill(server);
    let looping = wait_status(&mount, "it waits", |status| {
        status["server"]["state"] == "backoff" && status["server"]["restarts"].as_u64() >= Some(4)
    });
    println!("{}", looping["server"]);
    // An open file and what is cached need no server.
    let before = ticks(mount.pid());
    holds_for(Duration::from_secs(3), "cached files are read", || {
        mount.read("a").as_deref() == Some(b"1")
    });
    let burnt = ticks(mount.pid()) - before;
    println!("the keeper used {burnt} ticks in 3 s of a crash loop");
    assert!(burnt < 10, "it burns CPU");
    set_mode(0o755);
    wait_status(&mount, "it recovers", |status| {
        status["server"]["state"] == "serving"
    });
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    assert!(status(&mount)["server"]["last_death"].is_object());
}
