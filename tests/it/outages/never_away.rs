//! Servers that say that there is no such znode, in good faith, and must not be believed.

use std::time::Duration;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::{Mode, Proxy};
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::wire::Wire;
use crate::support::zookeeper::{Ensemble, Sandbox, shared_server};

/// A follower that is cut off from its leader, for as long as it does not know that it is, serves
/// an old state; with local sessions also to clients that are new to it.
#[test]
fn a_lagging_follower_takes_nothing_away() {
    // It puts up with silence for 30 s.
    let more = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\nsyncLimit=60\n";
    let (ensemble, links) = Ensemble::start_linked(more);
    let (lagging, healthy) = (&ensemble.members[0], &ensemble.members[1]);
    let admin = Admin::connect(healthy.hosts());
    admin.create("/a", "1");
    admin.create("/dir", "");
    let ways = [lagging, healthy].map(|member| Proxy::start(member.address()));
    ways[0].refuse();
    let hosts = format!("{},{}", ways[0].hosts(), ways[1].hosts());
    let nodes = "nodes.a.source = /a\nnodes.b.source = /dir/b\nnodes.c.source = /c";
    let mount = Mount::start(&config(&hosts, nodes));
    let session = mount.session();
    wait_until(SOON, "the follower has it all", || {
        let mut wire = Wire::connect(lagging.address());
        let length = wire.data_length("/dir");
        wire.close();
        length == 0
    });

    for link in &links {
        link.set(Mode::Stall);
    }
    admin.set("/a", "newer");
    admin.create("/dir/b", "new");
    admin.create("/c", "new");
    mount.wait_for_content("a", "newer");
    mount.wait_for_content("b", "new");
    mount.wait_for_content("c", "new");
    let inodes = ["a", "b", "c"].map(|file| mount.ino(file));
    ways[1].refuse();
    ways[0].accept();
    mount.next_session(session);
    assert!(
        lagging
            .connections()
            .iter()
            .any(|connection| connection.session == mount.session()),
        "its session is at the follower"
    );
    let mut wire = Wire::connect(lagging.address());
    assert_eq!(wire.data_length("/a"), 1, "the follower lags");
    wire.close();
    let unchanged = || ["a", "b", "c"].map(|file| mount.ino(file)) == inodes;
    holds_for(Duration::from_secs(3), "all is as it was", || {
        mount.read("a").as_deref() == Some(b"newer") && unchanged()
    });

    for link in &links {
        link.set(Mode::Pass);
    }
    admin.set("/a", "newest");
    mount.wait_for_content("a", "newest");
    assert_eq!(mount.read("b").unwrap(), b"new");
    // What goes in truth goes here too.
    admin.delete("/c");
    mount.wait_until_gone("c");
    assert!(mount.has("b"));
    let told = mount.n_logged("history was rewound");
    assert_eq!(told, 0, "{}", mount.log());
}

/// A member that has lost the others serves in read-only mode. Its word would prove nothing, so
/// the mount has no session with it, and serves what it has.
#[test]
fn a_read_only_server_takes_nothing_away() {
    let mut ensemble = Ensemble::start_with(
        "localSessionsEnabled=true\n",
        &["-Dreadonlymode.enabled=true"],
    );
    let admin = Admin::connect(ensemble.hosts());
    admin.create("/a", "1");
    admin.create("/b", "1");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b\nnodes.c.source = /c";
    let mount = Mount::start(&config(&ensemble.hosts(), nodes));
    let (inodes, session) = ([mount.ino("a"), mount.ino("b")], mount.session());
    ensemble.members[1].kill();
    ensemble.members[2].kill();
    wait_until(SOON, "the member is read-only", || {
        ensemble.members[0].mode().as_deref() == Some("read-only")
    });
    holds_for(Duration::from_secs(3), "all is as it was", || {
        [mount.ino("a"), mount.ino("b")] == inodes && mount.read("a").as_deref() == Some(b"1")
    });
    for member in [1, 2] {
        ensemble.members[member].restart();
    }
    admin.set("/a", "2");
    admin.create("/c", "2");
    admin.delete("/b");
    mount.wait_for_content("a", "2");
    mount.wait_for_content("c", "2");
    mount.wait_until_gone("b");
    assert_ne!(mount.session(), session);
}

#[test]
fn a_chroot_deleted_meanwhile_takes_nothing_away() {
    let sandbox = Sandbox::new("chroot-deleted");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/chroot/a", "1");
    sandbox.admin.create("/chroot/dir/b", "1");
    let hosts = format!("{}/chroot", sandbox.hosts_through(proxy.address()));
    let nodes = "nodes.a.source = /a\nnodes.b.source = /dir/b";
    let mount = Mount::start(&config(&hosts, nodes));
    let inodes = [mount.ino("a"), mount.ino("b")];
    proxy.refuse();
    mount.wait_for_log(1, "the last known content is served");
    for path in ["/chroot/a", "/chroot/dir/b", "/chroot/dir", "/chroot"] {
        sandbox.admin.delete(path);
    }
    proxy.accept();
    for path in ["/a", "/dir/b"] {
        let why = format!("warn: {path}: the chroot does not exist on the server; the last known");
        mount.wait_for_log(1, &why);
    }
    holds_for(Duration::from_secs(2), "all is as it was", || {
        [mount.ino("a"), mount.ino("b")] == inodes && mount.read("b").as_deref() == Some(b"1")
    });
    sandbox.admin.create("/chroot/a", "again");
    mount.wait_for_content("a", "again");
    // Now the server knows that there was no b when the chroot came to be.
    mount.wait_until_gone("b");
}

#[test]
fn a_reload_to_a_chroot_that_is_not_there_takes_nothing_away() {
    let sandbox = Sandbox::new("chroot-wrong");
    sandbox.admin.create("/right/a", "1");
    sandbox.admin.create("/right/dir/b", "1");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /dir/b";
    let of = |chroot: &str| config(&format!("{}/{chroot}", sandbox.hosts()), nodes);
    let mount = Mount::start(&of("right"));
    let (inodes, session) = ([mount.ino("a"), mount.ino("b")], mount.session());
    mount.reload(&of("wrong"));
    let session = mount.next_session(session);
    for path in ["/a", "/dir/b"] {
        mount.wait_for_log(1, &format!("warn: {path}: the chroot does not exist"));
    }
    holds_for(Duration::from_secs(2), "all is as it was", || {
        [mount.ino("a"), mount.ino("b")] == inodes && mount.read("a").as_deref() == Some(b"1")
    });
    mount.reload(&of("right"));
    mount.next_session(session);
    sandbox.admin.set("/right/a", "2");
    mount.wait_for_content("a", "2");
    assert_eq!(mount.ino("b"), inodes[1]);
}
