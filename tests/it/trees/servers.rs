//! Servers that are old, and lists that are long.

use super::{shown, wait_for_truth};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::relay::{OP_ADD_WATCH, Relay};
use crate::support::zookeeper::{Sandbox, shared_server};

#[test]
fn a_server_without_watches_of_subtrees_is_enough() {
    let sandbox = Sandbox::new("tree-old");
    let relay = Relay::start(shared_server().address());
    relay.make_old();
    let admin = &sandbox.admin;
    admin.create_many([("/t/a", "1"), ("/t/dir/b", "2"), ("/t/deep/er/c", "3")]);
    let lines = "trees.t.source = /t\ntrees.late.source = /late";
    let hosts = sandbox.hosts_through(relay.address());
    let mount = Mount::start(&config(&hosts, lines));
    assert!(relay.traffic().n(OP_ADD_WATCH) >= 1);
    let session = mount.session();
    let equal = || {
        wait_for_truth(&mount, "t", admin, "/t");
        wait_for_truth(&mount, "late", admin, "/late");
    };
    equal();
    for n in 0..10 {
        admin.set("/t/a", format!("a {n}"));
        admin.create("/t/a/first", "child");
        admin.create("/late/x/y", "late");
        equal();
        admin.delete_all("/t/deep");
        admin.create("/t/deep/er/other", "3");
        admin.delete("/t/a/first");
        equal();
        admin.delete_all("/late");
        admin.delete_all("/t/dir");
        admin.create("/t/dir", "leaf");
        equal();
        admin.create_many((0..30).map(|n| (format!("/t/dir/{n}"), "many")));
        admin.delete_many((0..30).step_by(2).map(|n| format!("/t/dir/{n}")));
        equal();
    }
    for n in 0..100 {
        admin.delete("/t/a");
        admin.create("/t/a", format!("again {n}"));
        if n % 10 == 0 {
            equal();
        }
    }
    equal();
    assert_eq!(mount.session(), session, "the session goes on");
    relay.cut();
    mount.next_session(session);
    admin.delete_all("/t/dir");
    admin.create("/t/a/again", "1");
    equal();
    let told = mount.n_logged("each znode is watched by itself");
    assert!(told >= 1, "{}", mount.log());
    assert_eq!(mount.n_logged("no watch told"), 0, "{}", mount.log());
}

/// The names of all children are in one reply, of more than the MiB that a request may have.
#[test]
fn a_directory_may_have_very_many_children() {
    const N: usize = 40_000;
    let sandbox = Sandbox::new("tree-many");
    let admin = &sandbox.admin;
    let path = |n: usize| format!("/t/{n:0>40}");
    admin.create("/t", "");
    admin.create_new((0..N).map(|n| (path(n), n.to_string())));
    let mount = Mount::start_with(
        &config(&sandbox.hosts(), "trees.t.source = /t"),
        &["--wait", "60s"],
    );
    let listing = shown(&mount.path("t")).unwrap();
    assert_eq!(listing.len(), N + 2);
    for n in [0, N / 2, N - 1] {
        let content = listing[&path(n)[2..]].as_deref().unwrap();
        assert_eq!(content, n.to_string().as_bytes());
    }
    admin.set(&path(7), "set");
    mount.wait_for_content(&path(7)[1..], "set");
    admin.delete(&path(8));
    mount.wait_until_gone(&path(8)[1..]);
    let more = path(N);
    admin.create(&more, "more");
    mount.wait_for_content(&more[1..], "more");
    drop(mount);
    admin.delete_many((0..=N).filter(|n| *n != 8).map(path));
}
