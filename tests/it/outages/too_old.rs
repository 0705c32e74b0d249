//! `on_disconnect = error`: what is not known to be current for too long cannot be read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::fs::inotify;
use rustix::process::Signal;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::{Sandbox, Server, free_address, shared_server};
use crate::survival::kept::{kill, next_of, processes, wait_status};

/// Whether reading the file fails as it should; any other error fails the test.
#[track_caller]
fn fails(mount: &Mount, file: &str) -> bool {
    match fs::read(mount.path(file)) {
        Ok(_) => false,
        Err(err) => {
            assert_eq!(err.raw_os_error(), Some(libc::EIO), "{file}: {err}");
            true
        }
    }
}

#[test]
fn reading_fails_after_a_while_and_recovers_by_itself() {
    let sandbox = Sandbox::new("too-old");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/strict", "1");
    sandbox.admin.create("/changed", "1");
    sandbox.admin.create("/easy", "1");
    sandbox.admin.create("/patient", "1");
    let lines = "
        defaults.on_disconnect = error
        defaults.max_stale = 1 seconds
        nodes.strict.source = /strict
        nodes.strict.dest = deep/strict
        nodes.changed.source = /changed
        nodes.easy.source = /easy
        nodes.easy.on_disconnect = stale
        nodes.patient.source = /patient
        nodes.patient.max_stale = 1 hours";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, lines));
    let mut held = File::open(mount.path("deep/strict")).unwrap();
    let (mtime, ino) = (mount.mtime("deep/strict"), mount.ino("deep/strict"));
    // It is in the page cache, which must not answer.
    assert_eq!(mount.read("deep/strict").unwrap(), b"1");
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, mount.path("deep"), inotify::WatchFlags::MOVED_TO).unwrap();

    proxy.refuse();
    wait_until(SOON, "it cannot be read", || fails(&mount, "deep/strict"));
    wait_until(SOON, "nor can the other", || fails(&mount, "changed"));
    assert_eq!(mount.mtime("deep/strict"), mtime, "its time stands still");
    assert_ne!(mount.ino("deep/strict"), ino);
    assert_eq!(mount.meta("deep/strict").len(), 1);
    let mut content = String::new();
    held.read_to_string(&mut content).unwrap();
    assert_eq!(content, "1", "one open file is one version");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    wait_until(SOON, "who watches is told", || events.next().is_ok());
    holds_for(Duration::from_millis(500), "the others are served", || {
        mount.read("easy").as_deref() == Some(b"1")
            && mount.read("patient").as_deref() == Some(b"1")
            && fails(&mount, "deep/strict")
    });

    sandbox.admin.set("/changed", "2");
    proxy.accept();
    mount.wait_for_content("deep/strict", "1");
    mount.wait_for_content("changed", "2");
    assert!(mount.mtime("deep/strict") > mtime);
    assert_eq!(mount.n_logged("deep/strict: not known to be current"), 1);
}

#[test]
fn a_short_outage_is_not_noticed() {
    let sandbox = Sandbox::new("not-too-old");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    let lines = "
        nodes.a.source = /a
        nodes.a.on_disconnect = error
        nodes.a.max_stale = 20 seconds";
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    let (ino, mut session) = (mount.ino("a"), mount.session());
    for _ in 0..5 {
        proxy.cut();
        session = mount.next_session(session);
        assert_eq!(mount.read("a").unwrap(), b"1");
    }
    assert_eq!(mount.ino("a"), ino);
}

#[test]
fn what_may_not_be_read_fails_too() {
    let sandbox = Sandbox::new("too-old-acl");
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let lines = "
        nodes.a.source = /a
        nodes.a.on_disconnect = error
        nodes.a.max_stale = 1 seconds
        nodes.b.source = /b
        nodes.b.on_disconnect = error
        nodes.b.max_stale = 1 seconds";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    sandbox.admin.set_acl_nobody("/a");
    sandbox.admin.set("/a", "2");
    // The server may have used the watch up without a word.
    let session = mount.session();
    assert!(shared_server().expire(session));
    mount.next_session(session);
    mount.wait_for_log(1, "/a: its ACL does not let us read it");
    wait_until(SOON, "it cannot be read", || fails(&mount, "a"));
    assert_eq!(mount.read("b").unwrap(), b"1");
    sandbox.admin.set_acl_world("/a");
    mount.wait_for_content("a", "2");
}

#[test]
fn a_broken_file_outlives_its_daemon() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    admin.create("/b", "1");
    let lines = "
        cache.dir = cache
        nodes.a.source = /a
        nodes.a.on_disconnect = error
        nodes.a.max_stale = 1 seconds
        nodes.b.source = /b";
    let mut mount = Mount::start_with(&config(&server.hosts(), lines), &["--restart-at-once"]);
    server.stop();
    wait_until(SOON, "it cannot be read", || fails(&mount, "a"));
    let (ino, mtime) = (mount.ino("a"), mount.mtime("a"));
    let [old, _] = processes(&mount);
    kill(old);
    next_of(&mount, "server", old);
    assert!(fails(&mount, "a"));
    assert_eq!((mount.ino("a"), mount.mtime("a")), (ino, mtime));
    assert_eq!(mount.read("b").unwrap(), b"1");

    // At the next start it is too old from the first.
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    mount.start_again(&[]);
    assert!(fails(&mount, "a"));
    assert_eq!(mount.read("b").unwrap(), b"1");
    assert_eq!(mount.mtime("a"), mtime);

    server.restart();
    mount.wait_for_content("a", "1");
    let [old, _] = processes(&mount);
    kill(old);
    next_of(&mount, "server", old);
    assert_eq!(mount.read("a").unwrap(), b"1");
}

#[test]
fn a_reload_makes_nothing_younger() {
    let sandbox = Sandbox::new("too-old-reload");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let lines = "
        cache.dir = cache
        nodes.a.source = /a
        nodes.a.on_disconnect = error
        nodes.a.max_stale = 1 seconds
        nodes.b.source = /b";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, lines));
    let (a, b) = (mount.mtime("a"), mount.mtime("b"));
    proxy.refuse();
    wait_until(SOON, "it cannot be read", || fails(&mount, "a"));
    let broken = mount.ino("a");
    // Another service, which does not answer either, and another mode.
    let nobody = free_address();
    let elsewhere = sandbox.hosts_through(nobody);
    mount.reload(&config(
        &elsewhere,
        &format!("{lines}\nnodes.b.mode = 0444"),
    ));
    wait_until(SOON, "it has the mode", || {
        mount.meta("b").permissions().mode() & 0o777 == 0o444
    });
    mount.wait_for_log(1, "reloaded");
    holds_for(
        Duration::from_millis(500),
        "what is too old stays so",
        || fails(&mount, "a") && mount.ino("a") == broken && mount.mtime("a") == a,
    );
    let lost = std::time::SystemTime::now();
    assert!(
        mount.mtime("b") < lost - Duration::from_millis(900),
        "known until the outage"
    );
    assert!(mount.mtime("b") >= b);
    proxy.accept();
    mount.reload(&config(&hosts, lines));
    mount.wait_for_content("a", "1");
}

#[test]
fn what_is_kept_of_a_deleted_znode_gets_no_older() {
    let sandbox = Sandbox::new("too-old-kept");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let lines = "
        defaults.on_delete = keep
        defaults.on_disconnect = error
        defaults.max_stale = 1 seconds
        nodes.a.source = /a
        nodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    let mtime = mount.mtime("a");
    sandbox.admin.delete("/a");
    sandbox.admin.set("/b", "2");
    mount.wait_for_content("b", "2");
    wait_status(&mount, "a is known to be deleted", |status| {
        status["details"]["nodes"][0]["state"] == "absent"
    });
    proxy.refuse();
    wait_until(SOON, "the other cannot be read", || fails(&mount, "b"));
    assert_eq!(mount.read("a").unwrap(), b"1");
    // Deleted while its file is broken: what is kept can be read again.
    sandbox.admin.delete("/b");
    proxy.accept();
    mount.wait_for_content("b", "2");
    wait_status(&mount, "nothing is stale", |status| {
        status["details"]["stale"] == 0 && status["details"]["zookeeper"]["connected"] == true
    });
    holds_for(Duration::from_secs(2), "both are kept", || {
        mount.read("a").as_deref() == Some(b"1") && mount.read("b").as_deref() == Some(b"2")
    });
    assert_eq!(mount.mtime("a"), mtime);
}
