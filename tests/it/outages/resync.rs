//! What a new session costs, and where it looks for servers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::place::Place;
use crate::support::proxy::Proxy;
use crate::support::relay::{OP_EXISTS, OP_GET, Relay};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};

#[test]
fn a_reconnect_fetches_only_what_changed() {
    const N: usize = 1000;
    const SIZE: usize = 10 << 10;
    let sandbox = Sandbox::new("traffic");
    let relay = Relay::start(shared_server().address());
    let proxy = Proxy::start(relay.address());
    let path = |n: usize| format!("/node-{n}");
    let content = |n: usize, round: usize| vec![b'a' + ((n + round) % 26) as u8; SIZE];
    let first = (0..N).map(|n| (path(n), content(n, 0)));
    sandbox.admin.create_many(first);
    let nodes: Vec<String> = (0..N)
        .map(|n| format!("nodes.n{n}.source = {}", path(n)))
        .collect();
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &nodes.join("\n")));
    assert!(relay.traffic().to_client > N * SIZE, "the first load");
    let mut session = mount.session();
    for (round, n_changed) in [0, 7].into_iter().enumerate() {
        proxy.refuse();
        let changed = (0..n_changed).map(|n| (path(n), content(n, round)));
        sandbox.admin.set_many(changed);
        relay.take_traffic();
        proxy.accept();
        session = mount.next_session(session);
        // A reply with a Stat, length and header included.
        const REPLY: usize = 4 + 16 + 68;
        wait_until(SOON, "each znode is asked about", || {
            relay.traffic().to_client >= N * REPLY
        });
        for n in 0..n_changed {
            mount.wait_for_content(&format!("n{n}"), content(n, round));
        }
        let traffic = relay.traffic();
        assert_eq!(traffic.n(OP_GET), n_changed, "{traffic:?}");
        assert_eq!(traffic.n(OP_EXISTS), N, "{traffic:?}");
        let most = N * 100 + n_changed * (SIZE + 100) + 4096;
        assert!(traffic.to_client < most, "{traffic:?}");
        println!("{n_changed} of {N} changed: {} bytes", traffic.to_client);
    }
    for n in 0..N {
        let round = usize::from(n < 7);
        assert_eq!(mount.read(&format!("n{n}")).unwrap(), content(n, round));
    }
}

/// In a mount namespace with an /etc/hosts of its own, whose entry moves.
#[test]
fn names_are_resolved_at_every_attempt() {
    let sandbox = Sandbox::new("resolved");
    sandbox.admin.create("/a", "1");
    let here = Proxy::start(shared_server().address());
    let port = here.address().port();
    let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    let chroot = sandbox.full_path("");
    let hosts = format!("zk01.livedata.test:{port}{chroot}");
    let place = Place::new(&config(&hosts, "nodes.a.source = /a"));
    let entries = |line: &str| fs::write(place.path("hosts"), format!("{line}\n")).unwrap();
    entries("127.0.0.1 zk01.livedata.test");
    let script = "mount --bind hosts /etc/hosts
        exec \"$LIVEDATA\" mount -f config.ini mnt";
    let mut command = place.command_as_root("unshare");
    command
        .args(["--mount", "--", "sh", "-euc", script])
        .env("LIVEDATA", place.program());
    let mut mount = place.start_command(&mut command);
    let file = PathBuf::from(format!("/proc/{}/root", mount.id()));
    let file = file.join(place.root().strip_prefix("/").unwrap()).join("a");
    let shows = |content: &str| {
        let what = format!("it shows {content:?}");
        wait_until(SOON, &what, || {
            fs::read_to_string(&file).is_ok_and(|read| read == content)
        });
    };
    let says = |what: &str| {
        wait_until(SOON, &format!("it says {what:?}"), || {
            fs::read_to_string(place.path("stderr")).is_ok_and(|log| log.contains(what))
        });
    };
    shows("1");
    // The name is gone, and the server it meant.
    entries("");
    here.refuse();
    says("cannot resolve the name");
    sandbox.admin.set("/a", "2");
    shows("1");
    // It comes back as the name of another address.
    let there = Proxy::start_at(elsewhere, shared_server().address(), true);
    entries("127.0.0.2 zk01.livedata.test");
    shows("2");
    assert!(there.n_accepted() > 0);
    // And moves once more, while the server it meant goes away.
    entries("127.0.0.1 zk01.livedata.test");
    here.accept();
    there.refuse();
    sandbox.admin.set("/a", "3");
    shows("3");
    let pid = crate::support::process::pid(&mount);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = crate::support::process::wait(&mut mount, SOON);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
