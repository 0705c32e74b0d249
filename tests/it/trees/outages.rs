//! A tree outlives ZooKeeper.

use std::time::Duration;

use rustix::process::Signal;

use super::{listing, shown, truth, wait_for_listing, wait_for_truth};
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::{Mode, Proxy};
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::wire::Wire;
use crate::support::zookeeper::{Ensemble, Sandbox, Server, shared_server};

const AWAY: &str = "the last known content is served";

#[test]
fn a_tree_is_served_while_zookeeper_is_away() {
    let sandbox = Sandbox::new("tree-outage");
    let proxy = Proxy::start(shared_server().address());
    let admin = &sandbox.admin;
    let znodes = [
        "/t/same",
        "/t/set",
        "/t/deleted",
        "/t/again",
        "/t/dir/gone",
        "/t/grows",
        "/t/old/with/children",
    ];
    admin.create_many(znodes.map(|path| (path, "before")));
    let lines = "heartbeat_interval = 50 milliseconds\ntrees.t.source = /t";
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    let before = truth(admin, "/t", None);
    for round in 1..4 {
        wait_for_listing(&mount, "t", &truth(admin, "/t", None));
        let session = mount.session();
        proxy.refuse();
        mount.wait_for_log(1, AWAY);
        let all = shown(&mount.path("t")).unwrap();
        // What the last heartbeat confirmed is published by now.
        let mut mtime = mount.mtime("t/same");
        wait_until(SOON, "the time stands still", || {
            std::thread::sleep(Duration::from_millis(200));
            std::mem::replace(&mut mtime, mount.mtime("t/same")) == mtime
        });
        admin.set("/t/set", format!("set {round}"));
        admin.delete("/t/deleted");
        admin.delete("/t/again");
        admin.create("/t/again", format!("again {round}"));
        admin.delete("/t/dir/gone");
        admin.create("/t/grows/child", "new");
        admin.delete_all("/t/old");
        admin.create("/t/old/other/children", format!("other {round}"));
        admin.create("/t/new/and/deep", "new");
        holds_for(Duration::from_millis(300), "all is as it was", || {
            shown(&mount.path("t")).unwrap() == all && mount.mtime("t/same") == mtime
        });
        proxy.accept();
        mount.next_session(session);
        wait_for_truth(&mount, "t", admin, "/t");
        wait_until(SOON, "the time moves", || mount.mtime("t/same") > mtime);
        // Back to what it was, by watches.
        admin.delete_all("/t");
        admin.create_many(znodes.map(|path| (path, "before")));
        wait_for_listing(&mount, "t", &before);
    }
}

#[test]
fn a_chroot_that_is_not_there_takes_no_tree_away() {
    let sandbox = Sandbox::new("tree-chroot");
    let proxy = Proxy::start(shared_server().address());
    let admin = &sandbox.admin;
    admin.create_many([("/right/t/a", "1"), ("/right/t/dir/b", "2"), ("/empty", "")]);
    let of = |chroot: &str| {
        let hosts = format!("{}/{chroot}", sandbox.hosts_through(proxy.address()));
        config(&hosts, "trees.t.source = /t")
    };
    let mount = Mount::start(&of("right"));
    let all = shown(&mount.path("t")).unwrap();
    let ino = mount.ino("t/dir/b");
    let stays = || {
        holds_for(Duration::from_secs(1), "all is as it was", || {
            shown(&mount.path("t")).unwrap() == all && mount.ino("t/dir/b") == ino
        });
    };
    for wrong in ["wrong", "empty"] {
        let session = mount.session();
        mount.reload(&of(wrong));
        let session = mount.next_session(session);
        let n = 1 + usize::from(wrong == "empty");
        mount.wait_for_log(n, "warn: /t/dir/b: the");
        stays();
        mount.reload(&of("right"));
        mount.next_session(session);
        stays();
    }
    // Wiped: the server has a shorter history than the mount.
    let session = mount.session();
    proxy.refuse();
    admin.delete_all("/right");
    proxy.accept();
    mount.next_session(session);
    stays();
    admin.create("/right/t/a", "again");
    mount.wait_for_content("t/a", "again");
    mount.wait_until_gone("t/dir");
}

#[test]
fn a_cold_start_shows_the_whole_tree() {
    let sandbox = Sandbox::new("tree-cold");
    let proxy = Proxy::start(shared_server().address());
    let admin = &sandbox.admin;
    for path in [
        "/t/leaf",
        "/t/gains",
        "/t/loses/x",
        "/t/gone",
        "/t/dir/gone/deep",
        "/t/limit/a/b/c",
    ] {
        admin.create(path, path);
    }
    sandbox.create_null("/t/null");
    let lines = "
        cache.dir = cache
        trees.t.source = /t
        trees.t.dest = deep/t
        trees.limit.source = /t
        trees.limit.depth = 1
        trees.limit.mode = 0444";
    let mut mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    admin.create("/t/gains/y", "new");
    admin.delete("/t/loses/x");
    admin.delete("/t/gone");
    admin.delete_all("/t/dir/gone");
    admin.delete_all("/t/limit/a");
    admin.set("/t/leaf", "set");
    wait_for_truth(&mount, "deep/t", admin, "/t");
    let limited = truth(admin, "/t", Some(1));
    wait_for_listing(&mount, "limit", &limited);
    let all = truth(admin, "/t", None);
    // The cache keeps one time of a znode, that of the last of its files.
    let mtime = mount.mtime("deep/t/leaf").max(mount.mtime("limit/leaf"));
    for _ in 0..2 {
        mount.signal(Signal::TERM);
        assert_eq!(mount.wait(), Some(0));
        proxy.refuse();
        mount.start_again(&[]);
        assert_eq!(shown(&mount.path("deep/t")).unwrap(), all);
        assert_eq!(shown(&mount.path("limit")).unwrap(), limited);
        assert_eq!(mount.mtime("deep/t/leaf"), mtime);
    }
    admin.delete("/t/leaf");
    admin.delete_all("/t/gains");
    admin.create("/t/loses/again", "1");
    proxy.accept();
    wait_for_truth(&mount, "deep/t", admin, "/t");
    wait_for_listing(&mount, "limit", &truth(admin, "/t", Some(1)));
    // What is not configured any more is not kept.
    let kept = config(&sandbox.hosts_through(proxy.address()), lines);
    mount.reload(
        &kept
            .replace("trees.t.", "trees.t2.")
            .replace("/t\n", "/t2\n")
            .replace("deep/t2", "deep/t"),
    );
    mount.wait_until_gone("limit");
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    proxy.refuse();
    std::fs::write(mount.config(), kept).unwrap();
    mount.start_again(&["--wait", "100ms"]);
    assert_eq!(shown(&mount.path("deep/t")).unwrap(), listing(&[]));
}

#[test]
fn a_denied_znode_stays_alone() {
    let sandbox = Sandbox::new("tree-acl");
    let admin = &sandbox.admin;
    admin.create_many([
        ("/t/never", "1"),
        ("/t/closed", "1"),
        ("/t/dir/closed", "1"),
        ("/t/open", "1"),
    ]);
    admin.create("/t/never/below", "1");
    admin.set_acl_nobody("/t/never");
    let lines = "heartbeat_interval = 100 milliseconds\ntrees.t.source = /t";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    assert!(!mount.has("t/never"));
    mount.wait_for_log(1, "warn: /t/never: its ACL does not let us read it");
    admin.set_acl_nobody("/t/closed");
    admin.set_acl_nobody("/t/dir/closed");
    for path in ["/t/closed", "/t/dir/closed"] {
        admin.set(path, "secret");
        mount.wait_for_log(1, &format!("warn: {path}: its ACL does not let us read it"));
    }
    admin.create("/t/closed/below", "2");
    admin.set("/t/open", "2");
    admin.create("/t/dir/new", "2");
    mount.wait_for_content("t/open", "2");
    mount.wait_for_content("t/dir/new", "2");
    assert_eq!(mount.read("t/dir/closed").unwrap(), b"1");
    let closed = ["t/closed", "t/closed/_data_"]
        .into_iter()
        .find_map(|file| mount.read(file));
    assert_eq!(closed.unwrap(), b"1");
    // Deleted while it is denied, and made anew.
    admin.delete("/t/dir/closed");
    mount.wait_until_gone("t/dir/closed");
    for path in ["/t/never", "/t/closed"] {
        admin.set_acl_world(path);
    }
    wait_for_truth(&mount, "t", admin, "/t");
    // One that denies its children to be listed.
    admin.set_acl_nobody("/t");
    admin.set("/t/open", "3");
    mount.wait_for_content("t/open", "3");
    admin.create("/t/open/more", "4");
    mount.wait_for_content("t/open/more", "4");
    admin.delete_all("/t/closed");
    admin.create("/t/late", "5");
    mount.wait_until_gone("t/closed");
    admin.set_acl_world("/t");
    wait_for_truth(&mount, "t", admin, "/t");
}

#[test]
fn a_tree_that_is_too_old_says_so() {
    let sandbox = Sandbox::new("tree-error");
    let proxy = Proxy::start(shared_server().address());
    let admin = &sandbox.admin;
    admin.create_many([("/t/a", "1"), ("/t/dir/b", "2"), ("/t/empty", "")]);
    let lines = "
        heartbeat_interval = 50 milliseconds
        trees.t.source = /t
        trees.t.on_disconnect = error
        trees.t.max_stale = 300 milliseconds
        trees.other.source = /t";
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start_with(&config(&hosts, lines), &["--restart-at-once"]);
    let files = ["t/a", "t/dir/b", "t/dir/_data_", "t/empty", "t/_data_"];
    let code = |file: &str| {
        std::fs::read(mount.path(file))
            .err()
            .and_then(|err| err.raw_os_error())
    };
    let other = shown(&mount.path("other")).unwrap();
    for n in 0..3 {
        let session = mount.session();
        proxy.refuse();
        for file in files {
            wait_until(SOON, "it cannot be read", || code(file) == Some(libc::EIO));
            assert!(mount.meta(file).len() > 0);
        }
        if n == 1 {
            super::takeover::kill(&mount);
            assert!(
                files.iter().all(|file| code(file) == Some(libc::EIO)),
                "{n}"
            );
        }
        assert_eq!(
            shown(&mount.path("other")).unwrap(),
            other,
            "another tree may be old"
        );
        if n == 2 {
            admin.delete_all("/t/dir");
            admin.create("/t/a/below", "3");
        }
        proxy.accept();
        mount.next_session(session);
        wait_for_truth(&mount, "t", admin, "/t");
        wait_for_truth(&mount, "other", admin, "/t");
    }
}

/// A follower that is cut off from its leader, and does not know that it is, lists what was.
#[test]
fn a_lagging_follower_takes_no_tree_away() {
    let more = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\nsyncLimit=60\n";
    let (ensemble, links) = Ensemble::start_linked(more);
    let (lagging, healthy) = (&ensemble.members[0], &ensemble.members[1]);
    let admin = &Admin::connect(healthy.hosts());
    admin.create_many([("/t/a", "1"), ("/t/dir/b", "1"), ("/t/old/c", "1")]);
    let ways = [lagging, healthy].map(|member| Proxy::start(member.address()));
    ways[0].refuse();
    let hosts = format!("{},{}", ways[0].hosts(), ways[1].hosts());
    let mount = Mount::start(&config(&hosts, "trees.t.source = /t"));
    let session = mount.session();
    wait_until(SOON, "the follower has it all", || {
        let mut wire = Wire::connect(lagging.address());
        let length = wire.data_length("/t/old/c");
        wire.close();
        length == 1
    });
    for link in &links {
        link.set(Mode::Stall);
    }
    admin.set("/t/a", "newer");
    admin.create("/t/dir/new", "new");
    admin.create("/t/a/below", "new");
    admin.delete_all("/t/old");
    wait_for_truth(&mount, "t", admin, "/t");
    mount.wait_until_gone("t/old");
    let files = ["t/a/_data_", "t/a/below", "t/dir/new", "t/dir/b"];
    let contents = files.map(|file| mount.read(file));
    ways[1].refuse();
    ways[0].accept();
    mount.next_session(session);
    holds_for(Duration::from_secs(2), "all is as it was", || {
        let now = files.map(|file| mount.read(file));
        let is_so = now == contents && !mount.has("t/old");
        if !is_so {
            let shown = shown(&mount.path("t"));
            eprintln!("{now:?} was {contents:?}; {shown:?}; {}", mount.log());
        }
        is_so
    });
    for link in &links {
        link.set(Mode::Pass);
    }
    admin.set("/t/a", "newest");
    admin.delete("/t/dir/new");
    wait_for_truth(&mount, "t", admin, "/t");
    assert_eq!(mount.n_logged("history was rewound"), 0, "{}", mount.log());
}

/// A server with nothing takes the place of the one that had it all.
#[test]
fn a_wiped_server_takes_no_tree_away() {
    let servers = [Server::start(), Server::start()];
    let proxy = Proxy::start(servers[0].address());
    let other = Proxy::start(servers[1].address());
    other.refuse();
    let admin = Admin::connect(servers[0].hosts());
    admin.create_many([("/t/a", "1"), ("/t/dir/b", "1")]);
    let hosts = format!("{},{}", proxy.hosts(), other.hosts());
    let mount = Mount::start(&config(&hosts, "trees.t.source = /t"));
    let files = ["t/a", "t/dir/b", "t/dir/_data_", "t/_data_"];
    let inodes = files.map(|file| mount.ino(file));
    let session = mount.session();
    proxy.refuse();
    other.accept();
    let session = mount.next_session(session);
    let stays = || {
        holds_for(Duration::from_secs(1), "all is as it was", || {
            files.map(|file| mount.ino(file)) == inodes
        });
    };
    mount.wait_for_log(1, "warn: /t/dir/b: ");
    stays();
    other.refuse();
    proxy.accept();
    mount.next_session(session);
    stays();
    admin.create("/t/a/below", "2");
    wait_for_truth(&mount, "t", &admin, "/t");
}
