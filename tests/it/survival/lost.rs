//! A mount that nobody can go on with is made anew at the same place.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::fs::inotify;
use rustix::process::{Pid, Signal};

use super::kept::{kill, processes, status, wait_status};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::shown::SOON;
use crate::support::wait::{wait_for, wait_until};
use crate::support::zookeeper::Sandbox;

#[test]
fn a_record_that_was_lost_costs_who_waits_an_error_and_nobody_else() {
    let sandbox = Sandbox::new("lost-record");
    sandbox.admin.create("/a", "1");
    // Larger than what is stored into the page cache beforehand, so a first read asks.
    sandbox.admin.create("/b", vec![b'x'; 200 << 10]);
    let config = config(&sandbox.hosts(), "nodes.a.source = /a\nnodes.b.source = /b");
    let mount = Mount::start(&config);
    let [server, _] = processes(&mount);
    let first = fs::metadata(mount.root()).unwrap().dev();
    // A few times, until nothing of it is asked for any more.
    for _ in 0..3 {
        assert_eq!(mount.read("a").unwrap(), b"1");
    }
    // What is open stays in the caches, whatever else this machine does.
    let _cached = File::open(mount.path("a")).unwrap();
    let held = File::open(mount.path("b")).unwrap();
    let (over, n_reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let over = Done(&over);
        scope.spawn(|| {
            while !over.0.load(Ordering::Relaxed) {
                let read = fs::read_to_string(mount.path("a")).expect("it is always there");
                assert!(["1", "2"].contains(&read.as_str()), "{read}");
                n_reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        process::stop(Pid::from_raw(server.cast_signed()).unwrap());
        let (tell_thread, threads) = mpsc::channel();
        let waits = scope.spawn(move || {
            let this = fs::read_link("/proc/thread-self").unwrap();
            tell_thread.send(this).unwrap();
            std::io::read_to_string(held)
        });
        let wchan = Path::new("/proc")
            .join(threads.recv().unwrap())
            .join("wchan");
        wait_until(SOON, "a reader waits for the server", || {
            let at = fs::read_to_string(&wchan).unwrap();
            at.contains("request_wait") || at.contains("folio_wait")
        });
        empty_the_record(&mount);
        // Stopped as it is, so that it answers nothing before.
        kill(server);
        let status = wait_status(&mount, "it is mounted anew", |status| {
            status["anew"]["times"] == 1 && status["publisher"]["state"] == "serving"
        });
        println!("{}", status["anew"]);
        assert!(
            waits.join().unwrap().is_err(),
            "whoever waited has an error"
        );
        sandbox.admin.set("/a", "2");
        mount.wait_for_content("a", "2");
    });
    println!("{} reads meanwhile", n_reads.load(Ordering::Relaxed));
    assert_ne!(fs::metadata(mount.root()).unwrap().dev(), first);
    assert_eq!(mount.read("b").unwrap().len(), 200 << 10);
    assert_eq!(mount.n_logged("the mount is lost"), 1);
    // Whoever watches from now on is told.
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, mount.root(), inotify::WatchFlags::MOVED_TO).unwrap();
    sandbox.admin.set("/a", "3");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    wait_until(SOON, "a notice", || reader.next().is_ok());
    // And the next server goes on, as always.
    let [server, _] = processes(&mount);
    kill(server);
    wait_status(&mount, "it is served", |status| {
        status["server"]["state"] == "serving" && status["server"]["pid"] != server
    });
    assert_eq!(status(&mount)["anew"]["times"], 1);
}

/// As if there had been no memory for it: whoever writes it empties it then.
fn empty_the_record(mount: &Mount) {
    let descriptors = PathBuf::from(format!("/proc/{}/fd", mount.pid()));
    let mut n_emptied = 0;
    for entry in fs::read_dir(descriptors).unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).unwrap_or_default();
        let name = target.to_string_lossy();
        if name.starts_with("/memfd:") && !name.contains("configuration") {
            OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(0)
                .unwrap();
            n_emptied += 1;
        }
    }
    assert_eq!(n_emptied, 1, "there is one record");
}

#[test]
fn a_kernel_that_does_not_repeat_requests_is_mounted_anew() {
    let sandbox = Sandbox::new("no-resend");
    sandbox.admin.create("/a", "1");
    let config = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start_with(&config, &["--without-resend"]);
    assert_eq!(status(&mount)["resend"], false);
    assert_eq!(mount.n_logged("older than Linux 6.9"), 1);
    let [server, _] = processes(&mount);
    // An upgrade would lose what is in flight, too.
    mount.signal(Signal::USR2);
    wait_status(&mount, "the upgrade fails", |status| {
        let last = status["upgrade"]["last"]["reason"].as_str();
        last.is_some_and(|reason| reason.contains("Linux 6.9"))
    });
    assert_eq!(processes(&mount)[0], server);
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    kill(server);
    wait_status(&mount, "it is mounted anew", |status| {
        status["anew"]["times"] == 1
    });
    let read = wait_for(SOON, "it can be read", || mount.read("a"));
    assert_eq!(read, b"2");
    sandbox.admin.set("/a", "3");
    mount.wait_for_content("a", "3");
}

#[test]
fn nothing_is_shown_anew_before_zookeeper_has_answered() {
    let sandbox = Sandbox::new("lost-outage");
    let proxy =
        crate::support::proxy::Proxy::start(crate::support::zookeeper::shared_server().address());
    sandbox.admin.create("/a", "1");
    let config = config(
        &sandbox.hosts_through(proxy.address()),
        "nodes.a.source = /a",
    );
    let mount = Mount::start_with(&config, &["--without-resend", "--wait", "1s"]);
    for _ in 0..3 {
        assert_eq!(mount.read("a").unwrap(), b"1");
    }
    // What is open stays in the caches, whatever else this machine does.
    let _cached = File::open(mount.path("a")).unwrap();
    proxy.refuse();
    proxy.cut();
    let [server, _] = processes(&mount);
    kill(server);
    wait_status(&mount, "it is being made", |status| {
        status["anew"]["running"] == true
    });
    // Longer than it would have waited for the first load.
    crate::support::wait::holds_for(std::time::Duration::from_secs(3), "it is there", || {
        mount.read("a").as_deref() == Some(b"1") && status(&mount)["anew"]["times"] == 0
    });
    proxy.accept();
    wait_status(&mount, "it is mounted anew", |status| {
        status["anew"]["times"] == 1
    });
    assert_eq!(mount.read("a").unwrap(), b"1");
}

/// Says so when it is dropped, also where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
