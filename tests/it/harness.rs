//! The support code itself: what the other tests lean on does what it says.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::admin::Admin;
use crate::support::as_user::{self, NOBODY, Snoop};
use crate::support::mount::Mount;
use crate::support::proxy::{Mode, Proxy};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use crate::support::zookeeper::{Ensemble, Sandbox, Server, shared_server};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_sandbox_has_its_own_znodes() {
    let (one, other) = (Sandbox::new("own"), Sandbox::new("own"));
    one.admin.create("/a/b", "1");
    assert_eq!(one.admin.set("/a/b", "2"), 1);
    let (content, stat) = one.admin.get("/a/b").unwrap();
    assert_eq!((content.as_slice(), stat.version), (b"2".as_slice(), 1));
    assert!(!other.admin.exists("/a/b"));
    one.admin.delete("/a/b");
    assert!(!one.admin.exists("/a/b"));
}

#[test]
fn many_sets_arrive_in_order() {
    let sandbox = Sandbox::new("many");
    sandbox
        .admin
        .create_many((0..500).map(|n| (format!("/n{n}"), "")));
    sandbox
        .admin
        .set_many((0..2000).map(|n| (format!("/n{}", n % 500), n.to_string())));
    assert_eq!(sandbox.admin.get("/n7").unwrap().0, b"1507");
}

#[test]
fn null_data_is_null() {
    let sandbox = Sandbox::new("null");
    sandbox.create_null("/null");
    sandbox.admin.create("/empty", "");
    let reply_size = |path: &str| {
        let mut wire = Wire::connect(shared_server().address());
        let length = wire.data_length(&sandbox.full_path(path));
        wire.close();
        length
    };
    assert_eq!(reply_size("/null"), -1);
    assert_eq!(reply_size("/empty"), 0);
}

#[test]
fn an_acl_shuts_others_out() {
    let sandbox = Sandbox::new("acl");
    sandbox.admin.create("/secret", "x");
    let stranger = |path: &str| {
        let mut wire = Wire::connect(shared_server().address());
        let length = wire.data_length(&sandbox.full_path(path));
        wire.close();
        length
    };
    const NO_AUTH: i32 = -102;
    sandbox.admin.set_acl_digest("/secret", "user:password");
    assert_eq!(stranger("/secret"), NO_AUTH);
    assert_eq!(sandbox.admin.get("/secret").unwrap().0, b"x");
    sandbox.admin.set_acl_world("/secret");
    assert_eq!(stranger("/secret"), 1);
    sandbox.admin.set_acl_nobody("/secret");
    assert_eq!(stranger("/secret"), NO_AUTH);
    sandbox.admin.set_acl_read_only("/secret");
    assert_eq!(stranger("/secret"), 1);
}

#[test]
fn the_proxy_holds_sets_and_nothing_else() {
    let sandbox = Sandbox::new("hold");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "0");
    let slow = Admin::connect(sandbox.hosts_through(proxy.address()));
    assert_eq!(slow.get("/a").unwrap().0, b"0");
    proxy.hold_sets();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| slow.set("/a", "held"));
        wait_until(SOON, "the set is held", || proxy.n_held() == 1);
        assert_eq!(sandbox.admin.set("/a", "between"), 1);
        proxy.release();
        assert_eq!(held.join().unwrap(), 2);
    });
    assert_eq!(sandbox.admin.get("/a").unwrap().0, b"held");
}

#[test]
fn the_proxy_breaks_and_heals() {
    let sandbox = Sandbox::new("faults");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "content");
    let client = Admin::connect(sandbox.hosts_through(proxy.address()));
    let reads = || client.get("/a").unwrap().0 == b"content";
    assert!(reads());

    let n_accepted = proxy.n_accepted();
    proxy.cut();
    assert!(reads());
    assert!(proxy.n_accepted() > n_accepted);

    proxy.set(Mode::Trickle(3));
    assert!(reads());

    proxy.set(Mode::Delay(Duration::from_millis(50)));
    let start = Instant::now();
    assert!(reads());
    assert!(start.elapsed() > Duration::from_millis(100));

    for mode in [Mode::Stall, Mode::Hole] {
        proxy.set(mode);
        std::thread::scope(|scope| {
            let reading = scope.spawn(reads);
            std::thread::sleep(Duration::from_millis(50));
            assert!(!reading.is_finished());
            proxy.set(Mode::Pass);
            if mode == Mode::Hole {
                proxy.cut();
            }
            assert!(reading.join().unwrap());
        });
    }

    proxy.refuse();
    std::thread::scope(|scope| {
        let reading = scope.spawn(reads);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!reading.is_finished());
        proxy.accept();
        assert!(reading.join().unwrap());
    });
}

#[test]
fn a_server_stops_pauses_and_keeps_its_data() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    server.restart();
    assert_eq!(admin.get("/a").unwrap().0, b"1");
    server.kill();
    assert_eq!(server.mode(), None);
    server.restart();
    assert_eq!(admin.set("/a", "2"), 1);
    server.pause();
    assert_eq!(server.mode(), None);
    server.resume();
    wait_until(SOON, "the server goes on", || server.mode().is_some());
    assert_eq!(admin.get("/a").unwrap().0, b"2");
}

#[test]
fn a_session_expires_on_demand() {
    let server = Server::start();
    let (admin, other) = (
        Admin::connect(server.hosts()),
        Admin::connect(server.hosts()),
    );
    let (kept, ended) = (admin.session(), other.session());
    assert_eq!(server.expire_others(&admin), 1);
    assert!(!server.expire(ended));
    assert_eq!(admin.session(), kept);
    other.create("/a", "");
    assert_ne!(other.session(), ended);
}

#[test]
fn an_ensemble_outlives_its_leader() {
    let mut ensemble = Ensemble::start();
    let admin = Admin::connect(ensemble.hosts());
    admin.create("/a", "1");
    assert!(ensemble.member_of(admin.session()).is_some());
    let leader = ensemble.leader();
    assert_ne!(ensemble.follower(), leader);
    ensemble.members[leader].kill();
    assert_ne!(ensemble.leader(), leader);
    admin.set("/a", "2");
    assert_eq!(admin.get("/a").unwrap().0, b"2");
    ensemble.members[leader].restart();
}

#[test]
fn a_mount_that_cannot_be_is_refused() {
    let refused = Mount::try_start("this is no configuration", &["--wait", "1s"]);
    assert!(refused.is_err(), "mounted without a configuration");
}

#[test]
fn another_user_reads_what_it_may() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(as_user::read(NOBODY, &file), None);
    let snoop = Snoop::start(NOBODY, &file);
    std::thread::sleep(Duration::from_millis(20));
    let snooped = snoop.stop();
    assert!(snooped.n_tries > 0);
    assert_eq!(snooped.n_reads, 0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(as_user::read(NOBODY, &file).unwrap(), b"content");
    let snoop = Snoop::start(NOBODY, &file);
    std::thread::sleep(Duration::from_millis(20));
    assert!(snoop.stop().n_reads > 0);
    let id = as_user::run(NOBODY, "/usr/bin/id", &["-u"]);
    assert_eq!(id.stdout, b"65534\n");
}
