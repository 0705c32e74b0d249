//! SIGHUP.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Signal, kill_process};

use super::config;
use crate::support::as_user::{self, NOBODY};
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};

#[test]
fn a_reload_changes_what_was_changed() {
    let sandbox = Sandbox::new("reload");
    for name in ["stays", "goes", "mode", "moves", "new"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let before = "
        nodes.stays.source = /stays
        nodes.goes.source = /goes
        nodes.goes.dest = dir/goes
        nodes.mode.source = /mode
        nodes.moves.source = /moves
        nodes.moves.dest = old/place";
    let after = "
        nodes.stays.source = /stays
        nodes.mode.source = /mode
        nodes.mode.mode = 0444
        nodes.moves.source = /moves
        nodes.moves.dest = other/place
        nodes.new.source = /new";
    let config = |nodes| config(&sandbox.hosts(), nodes);
    let mount = Mount::start(&config(before));
    let session = mount.session();
    let (ino, mtime) = (mount.ino("stays"), mount.mtime("stays"));
    assert_eq!(as_user::read(NOBODY, &mount.path("mode")), None);

    mount.reload(&config(after));
    mount.wait_for_content("new", "new");
    // That came last: all the rest is done.
    assert!(!mount.has("dir/goes") && !mount.has("dir"));
    assert!(!mount.has("old/place") && !mount.has("old"));
    assert_eq!(mount.read("other/place").unwrap(), b"moves");
    assert_eq!(mount.meta("mode").mode(), 0o100_444);
    assert_eq!(as_user::read(NOBODY, &mount.path("mode")).unwrap(), b"mode");
    assert_eq!((mount.ino("stays"), mount.mtime("stays")), (ino, mtime));
    assert_eq!(mount.session(), session, "the session goes on");

    for name in ["stays", "mode", "moves", "new"] {
        sandbox.admin.set(&format!("/{name}"), "later");
    }
    for file in ["stays", "mode", "other/place", "new"] {
        mount.wait_for_content(file, "later");
    }
    // Back again.
    mount.reload(&config(before));
    mount.wait_for_content("dir/goes", "goes");
    assert_eq!(mount.meta("mode").mode(), 0o100_400);
    assert_eq!(as_user::read(NOBODY, &mount.path("mode")), None);
    assert_eq!(mount.read("old/place").unwrap(), b"later");
    assert!(!mount.has("new"));
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let sandbox = Sandbox::new("wrong");
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let good = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start(&good);
    let ino = mount.ino("a");
    for (n, wrong) in ["no INI at all", "[live-data]\nnodes.b.source = /b"]
        .into_iter()
        .enumerate()
    {
        mount.reload(wrong);
        mount.wait_for_log(n + 1, "not reloaded, the configuration of before stays");
        assert_eq!(mount.ino("a"), ino);
        assert!(!mount.has("b"));
    }
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    // One wrong node is left out, and the rest taken.
    let nodes = "nodes.a.source = /a\nnodes.a.mode = 999\nnodes.b.source = /b";
    mount.reload(&config(&sandbox.hosts(), nodes));
    mount.wait_for_content("b", "1");
    mount.wait_for_log(1, "nodes.a.mode");
}

#[test]
fn other_connection_settings_open_a_new_session() {
    let sandbox = Sandbox::new("settings");
    let (old, new) = (
        Proxy::start(shared_server().address()),
        Proxy::start(shared_server().address()),
    );
    sandbox.admin.create("/a", "1");
    let through = |proxy: &Proxy| {
        config(
            &sandbox.hosts_through(proxy.address()),
            "nodes.a.source = /a",
        )
    };
    let mount = Mount::start(&through(&old));
    let (session, ino) = (mount.session(), mount.ino("a"));
    new.refuse();
    mount.reload(&through(&new));
    let refused = format!("ZooKeeper: {}: ", new.hosts());
    mount.wait_for_log(1, &refused);
    // The new place is not there yet; the content is.
    assert_eq!(
        (mount.read("a").unwrap(), mount.ino("a")),
        (b"1".into(), ino)
    );
    new.accept();
    assert_ne!(mount.next_session(session), session);
    assert_eq!(new.n_accepted(), 1);
    assert_eq!(
        mount.ino("a"),
        ino,
        "nothing changed, so nothing is published"
    );
    old.refuse();
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    // The same settings again change nothing.
    let session = mount.session();
    mount.reload(&through(&new));
    wait_until(SOON, "the reload is done", || {
        mount.n_logged("reloaded: ") == 2
    });
    assert_eq!(mount.session(), session);
}

#[test]
fn a_successor_that_finds_a_wrong_configuration_goes_on_with_the_last_good_one() {
    let sandbox = Sandbox::new("successor");
    for name in ["a", "b"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    let nodes = "nodes.a.source = /a\nnodes.a.mode = 0404";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let nodes = format!("{nodes}\nnodes.b.source = /b");
    mount.reload(&config(&sandbox.hosts(), &nodes));
    mount.wait_for_content("b", "1");
    for n in 1..=3 {
        // Twice it is wrong, then gone.
        if n < 3 {
            fs::write(mount.config(), "no INI at all").unwrap();
        } else {
            fs::remove_file(mount.config()).unwrap();
        }
        let server = mount.server().unwrap();
        kill_process(server, Signal::KILL).unwrap();
        mount.wait_for_log(n, "error: the configuration of before stays: ");
        let content = format!("after {n}");
        sandbox.admin.set("/a", &content);
        sandbox.admin.set("/b", &content);
        mount.wait_for_content("a", &content);
        mount.wait_for_content("b", &content);
        assert_eq!(mount.meta("a").mode(), 0o100_404);
        assert_ne!(mount.server(), Some(server));
    }
    // Once it is right again, it counts.
    mount.reload(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    mount.wait_until_gone("b");
}
