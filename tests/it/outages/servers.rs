//! Servers that stop and come back.

use std::time::Duration;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_for, wait_until};
use crate::support::zookeeper::{Ensemble, Server};

#[test]
fn a_restart_of_the_server_is_survived() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    for name in ["a", "b", "c"] {
        admin.create(&format!("/{name}"), "1");
    }
    let lines = "
        heartbeat_interval = 100 milliseconds
        nodes.a.source = /a
        nodes.b.source = /b
        nodes.c.source = /c
        nodes.d.source = /d";
    let mount = Mount::start(&config(&server.hosts(), lines));
    let (ino, session) = (mount.ino("b"), mount.session());
    server.stop();
    mount.wait_for_log(1, "the last known content is served");
    let mtime = mount.mtime("b");
    holds_for(Duration::from_secs(4), "it is served as it was", || {
        let files = ["a", "b", "c"];
        let served = |file| mount.read(file).as_deref() == Some(b"1");
        files.into_iter().all(served) && mount.mtime("b") == mtime
    });
    server.restart();
    admin.set("/a", "2");
    admin.delete("/c");
    admin.create("/d", "2");
    mount.wait_for_content("a", "2");
    mount.wait_for_content("d", "2");
    mount.wait_until_gone("c");
    wait_until(SOON, "the heart beats again", || mount.mtime("b") > mtime);
    assert_eq!(mount.ino("b"), ino);
    assert_ne!(mount.session(), session);
}

#[test]
fn a_server_that_is_down_at_the_start_is_waited_for() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    server.stop();
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start_with(&config(&server.hosts(), nodes), &["--wait", "1s"]);
    assert!(mount.is_mounted() && !mount.has("a"));
    for (name, path) in [("a", "/a"), ("b", "/b")] {
        let why = format!(
            "warn: no file yet: {name} ({path}: ZooKeeper is not reached: {}: ",
            server.hosts()
        );
        mount.wait_for_log(1, &why);
    }
    assert!(mount.log().contains("refused"), "{}", mount.log());
    server.restart();
    mount.wait_for_content("a", "1");
    assert!(!mount.has("b"));
    admin.create("/b", "2");
    mount.wait_for_content("b", "2");
}

#[test]
fn an_ensemble_that_loses_members_is_enough() {
    let mut ensemble = Ensemble::start();
    let admin = Admin::connect(ensemble.hosts());
    admin.create("/a", "0");
    admin.create("/b", "1");
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&ensemble.hosts(), nodes));
    let ino = mount.ino("b");
    let connected = |ensemble: &Ensemble| {
        wait_for(SOON, "a member has the mount's session", || {
            ensemble.member_of(mount.session())
        })
    };
    let change = |content: &str| {
        admin.set("/a", content);
        mount.wait_for_content("a", content);
    };
    change("1");

    let (member, session) = (connected(&ensemble), mount.session());
    ensemble.members[member].kill();
    assert_eq!(mount.read("b").unwrap(), b"1");
    mount.next_session(session);
    change("2");
    assert_ne!(connected(&ensemble), member);
    ensemble.members[member].restart();

    let leader = ensemble.leader();
    ensemble.members[leader].kill();
    assert_eq!(mount.read("b").unwrap(), b"1");
    change("3");
    assert_eq!(mount.ino("b"), ino);
}
