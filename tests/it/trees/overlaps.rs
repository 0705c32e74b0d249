//! A znode that several trees and nodes show.

use super::{listing, truth, wait_for_listing, wait_for_truth};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::zookeeper::Sandbox;

#[test]
fn trees_and_nodes_share_znodes() {
    let sandbox = Sandbox::new("tree-share");
    let admin = &sandbox.admin;
    admin.create_many([
        ("/t", "0"),
        ("/t/a", "1"),
        ("/t/in/b", "2"),
        ("/t/in/deep/c", "3"),
    ]);
    let lines = "
        trees.outer.source = /t
        trees.inner.source = /t/in
        trees.again.source = /t
        trees.again.dest = other/again
        trees.again.mode = 0444
        trees.shallow.source = /t
        trees.shallow.depth = 1
        nodes.a.source = /t/a
        nodes.in.source = /t/in
        nodes.c.source = /t/in/deep/c
        nodes.late.source = /t/in/late/x";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let equal = || {
        wait_for_truth(&mount, "outer", admin, "/t");
        wait_for_truth(&mount, "other/again", admin, "/t");
        wait_for_truth(&mount, "inner", admin, "/t/in");
        wait_for_listing(&mount, "shallow", &truth(admin, "/t", Some(1)));
        for (file, path) in [
            ("a", "/t/a"),
            ("in", "/t/in"),
            ("c", "/t/in/deep/c"),
            ("late", "/t/in/late/x"),
        ] {
            match admin.get(path) {
                Some((content, _)) => mount.wait_for_content(file, content),
                None => mount.wait_until_gone(file),
            }
        }
    };
    equal();
    for n in 0..5 {
        admin.set("/t/a", format!("a {n}"));
        admin.set("/t/in", format!("in {n}"));
        admin.create("/t/in/late/x", "x");
        admin.create("/t/a/below", "1");
        equal();
        admin.delete_all("/t/in");
        equal();
        admin.delete_all("/t/a");
        equal();
        admin.create_many([("/t/in/late/x", "x"), ("/t/in/deep/c", "c"), ("/t/a", "a")]);
        equal();
        admin.delete_all("/t/in/late");
    }
    equal();
    admin.delete_all("/t");
    equal();
    assert!(!mount.has("outer") && !mount.has("a"));
}

#[test]
fn what_a_node_keeps_is_not_in_the_tree() {
    let sandbox = Sandbox::new("tree-keep");
    let admin = &sandbox.admin;
    admin.create_many([("/t", "0"), ("/t/a", "1")]);
    let lines = "
        trees.t.source = /t
        nodes.kept.source = /t/a
        nodes.kept.on_delete = keep";
    let mount = Mount::start_with(&config(&sandbox.hosts(), lines), &["--restart-at-once"]);
    admin.delete("/t/a");
    let leaf = listing(&[("", Some("0"))]);
    wait_for_listing(&mount, "t", &leaf);
    assert_eq!(mount.read("kept").unwrap(), b"1");
    let more = "\ntrees.other.source = /t\nnodes.more.source = /t";
    mount.reload(&config(&sandbox.hosts(), &(lines.to_owned() + more)));
    mount.wait_for_content("more", "0");
    wait_for_listing(&mount, "t", &leaf);
    wait_for_listing(&mount, "other", &leaf);
    assert_eq!(mount.read("kept").unwrap(), b"1");
    super::takeover::kill(&mount);
    admin.set("/t", "00");
    mount.wait_for_content("more", "00");
    wait_for_truth(&mount, "t", admin, "/t");
    wait_for_truth(&mount, "other", admin, "/t");
    assert_eq!(mount.read("kept").unwrap(), b"1");
    admin.create("/t/a", "2");
    mount.wait_for_content("kept", "2");
    wait_for_truth(&mount, "t", admin, "/t");
}
