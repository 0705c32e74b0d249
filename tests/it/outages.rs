//! It outlives ZooKeeper: what was last known is served, and what comes next is seen.

mod cold_start;
mod convergence;
mod history;
mod members;
mod never_away;
mod poison;
mod read_only;
mod resync;
mod servers;
mod sessions;
mod too_old;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::proxy::{Mode, Proxy};
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::{Sandbox, shared_server};

/// Says so when it is dropped, also where a test fails: the threads of its scope must end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_session_expires_unnoticed() {
    let sandbox = Sandbox::new("expiry");
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let (ino, mut session) = (mount.ino("b"), mount.session());
    for n in 2..5 {
        let content = n.to_string();
        assert!(shared_server().expire(session));
        // Before, while or after it comes back.
        sandbox.admin.set("/a", &content);
        session = mount.next_session(session);
        mount.wait_for_content("a", &content);
        let content = format!("{n} later");
        sandbox.admin.set("/a", &content);
        mount.wait_for_content("a", &content);
    }
    assert_eq!(mount.ino("b"), ino);
}

#[test]
fn a_cut_connection_is_made_again() {
    let sandbox = Sandbox::new("cut");
    let proxy = Proxy::start(shared_server().address());
    for name in ["a", "b", "c"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    let nodes = "
        nodes.a.source = /a
        nodes.b.source = /b
        nodes.c.source = /c
        nodes.d.source = /d";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, nodes));
    let (ino, mut session) = (mount.ino("b"), mount.session());
    for n in 2..7 {
        let content = n.to_string();
        proxy.cut();
        sandbox.admin.set("/a", &content);
        sandbox.admin.delete("/c");
        sandbox.admin.create("/d", &content);
        session = mount.next_session(session);
        mount.wait_for_content("a", &content);
        mount.wait_for_content("d", &content);
        mount.wait_until_gone("c");
        sandbox.admin.delete("/d");
        sandbox.admin.create("/c", &content);
        mount.wait_until_gone("d");
        mount.wait_for_content("c", &content);
    }
    assert_eq!(mount.ino("b"), ino);
}

#[test]
fn a_silent_server_is_left() {
    let sandbox = Sandbox::new("silent");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let lines = "
        zookeeper.timeout = 2 seconds
        heartbeat_interval = 100 milliseconds
        nodes.a.source = /a
        nodes.b.source = /b";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, lines));
    let (ino, mut session) = (mount.ino("b"), mount.session());
    for mode in [Mode::Hole, Mode::Stall] {
        let content = format!("during {mode:?}");
        let n_accepted = proxy.n_accepted();
        proxy.set(mode);
        sandbox.admin.set("/a", &content);
        wait_until(SOON, "another server is looked for", || {
            proxy.n_accepted() > n_accepted
        });
        // Nothing confirms it now, so its time stands still.
        let mtime = mount.mtime("b");
        holds_for(Duration::from_millis(500), "it is served as it was", || {
            mount.read("b").as_deref() == Some(b"1") && mount.mtime("b") == mtime
        });
        proxy.set(Mode::Pass);
        session = mount.next_session(session);
        mount.wait_for_content("a", &content);
        wait_until(SOON, "the heart beats again", || mount.mtime("b") > mtime);
    }
    assert_eq!(mount.ino("b"), ino);
}

#[test]
fn a_link_that_was_down_is_used_soon() {
    let sandbox = Sandbox::new("refused");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, "nodes.a.source = /a"));
    proxy.refuse();
    sandbox.admin.set("/a", "2");
    mount.wait_for_log(1, "the last known content is served");
    // Long enough for pauses that double to outgrow the limit below.
    holds_for(Duration::from_secs(10), "it is served as it was", || {
        mount.read("a").as_deref() == Some(b"1")
    });
    proxy.accept();
    wait_until(Duration::from_secs(5), "the change is seen soon", || {
        mount.read("a").as_deref() == Some(b"2")
    });
    let n_warnings = mount.n_logged("warn: ZooKeeper: ");
    assert!(n_warnings <= 4, "each reason once, but:\n{}", mount.log());
}

#[test]
fn what_is_deleted_while_away_goes() {
    let sandbox = Sandbox::new("deleted");
    let proxy = Proxy::start(shared_server().address());
    for path in ["/a", "/deep/er/b", "/deep/c", "/stays", "/again"] {
        sandbox.admin.create(path, path);
    }
    let nodes = "
        nodes.a.source = /a
        nodes.b.source = /deep/er/b
        nodes.c.source = /deep/c
        nodes.stays.source = /stays
        nodes.again.source = /again";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, nodes));
    let ino = mount.ino("stays");
    proxy.refuse();
    mount.wait_for_log(1, "the last known content is served");
    for path in ["/a", "/deep/er/b", "/deep/er", "/deep/c", "/deep", "/again"] {
        sandbox.admin.delete(path);
    }
    sandbox.admin.create("/again", "another");
    assert_eq!(mount.read("a").unwrap(), b"/a");
    proxy.accept();
    for file in ["a", "b", "c"] {
        mount.wait_until_gone(file);
    }
    mount.wait_for_content("again", "another");
    assert_eq!(mount.ino("stays"), ino);
    sandbox.admin.create("/deep/er/b", "back");
    mount.wait_for_content("b", "back");
}

#[test]
fn ten_thousand_nodes_survive_a_reconnect() {
    const N: usize = 10_000;
    let sandbox = Sandbox::new("ten-thousand");
    let proxy = Proxy::start(shared_server().address());
    let path = |n: usize| format!("/watched/by/a/client/that/restores/them/{n:06}");
    assert_eq!(path(0).len(), 46);
    sandbox
        .admin
        .create_many((0..N).map(|n| (path(n), n.to_string())));
    let nodes: Vec<_> = (0..N)
        .map(|n| format!("nodes.n{n}.source = {}\nnodes.n{n}.dest = d/{n}", path(n)))
        .collect();
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &nodes.join("\n")));
    let file = |n: usize| format!("d/{n}");
    for n in 0..N {
        assert_eq!(mount.read(&file(n)).unwrap(), n.to_string().as_bytes());
    }
    let inodes: Vec<u64> = (0..N).map(|n| mount.ino(&file(n))).collect();
    let mut session = mount.session();
    for round in 0..2 {
        let content = |n: usize| format!("{n} after {round}");
        let changed = || (round..N).step_by(10);
        proxy.refuse();
        sandbox
            .admin
            .set_many(changed().map(|n| (path(n), content(n))));
        proxy.accept();
        session = mount.next_session(session);
        for n in changed() {
            mount.wait_for_content(&file(n), content(n));
        }
        // The watches are armed, all of them.
        let content = |n: usize| format!("{n} later than {round}");
        sandbox
            .admin
            .set_many(changed().map(|n| (path(n), content(n))));
        for n in changed() {
            mount.wait_for_content(&file(n), content(n));
        }
    }
    assert_eq!(mount.session(), session, "the session flaps");
    for n in (0..N).filter(|n| n % 10 > 1) {
        assert_eq!(mount.ino(&file(n)), inodes[n], "{n} did not change");
    }
}
