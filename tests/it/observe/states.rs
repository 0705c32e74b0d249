//! Every state that a node can be in is told as it is, in outages too.

use std::fs;
use std::time::SystemTime;

use livedata::status::State;

use super::{node, state};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::{Sandbox, shared_server};

const NODES: &str = "nodes.live.source = /live
    nodes.absent.source = /absent
    nodes.denied.source = /denied
    nodes.kept.source = /kept
    nodes.kept.on_delete = keep";

#[test]
fn live_absent_denied_stale_and_live_again() {
    let sandbox = Sandbox::new("states");
    let proxy = Proxy::start(shared_server().address());
    for name in ["/live", "/denied", "/kept"] {
        sandbox.admin.create(name, "12345");
    }
    sandbox.admin.set_acl_nobody("/denied");
    let version = sandbox.admin.set("/live", "123456");
    let lines = format!("{NODES}\nheartbeat_interval = 1 seconds");
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), &lines));
    let status = mount.wait_for_status("all are heard of", |status| status.answered == 4);
    let (_, stat) = sandbox.admin.get("/live").unwrap();
    let live = node(&status, "live");
    assert_eq!(live.state, State::Live);
    assert_eq!((live.version, live.size), (Some(version), Some(6)));
    assert_eq!(live.mzxid, Some(stat.mzxid));
    assert_eq!((&*live.file, &live.error), ("live", &None));
    assert!(live.znode.ends_with("/live") && live.age.unwrap() < 60.0);
    assert_eq!(state(&status, "absent"), State::Absent);
    assert_eq!(node(&status, "absent").version, None);
    let denied = node(&status, "denied");
    assert_eq!((denied.state, denied.size), (State::Denied, None));
    assert!(denied.error.as_ref().unwrap().contains("ACL"));
    let zookeeper = &status.zookeeper;
    assert!(zookeeper.connected && zookeeper.error.is_none());
    let session = format!("{:#x}", mount.session());
    assert_eq!(zookeeper.session.as_ref(), Some(&session));
    assert_eq!(status.complaints, ["1 nodes cannot be read"]);

    // What is denied later keeps its file; what is deleted keeps it where that is wanted.
    sandbox.admin.delete("/kept");
    mount.wait_for_status("it is gone", |status| {
        state(status, "kept") == State::Absent
    });
    let kept = mount.status_json();
    assert_eq!(node(&kept, "kept").size, Some(5));
    assert!(!node(&kept, "kept").pending);

    proxy.refuse();
    let status = mount.wait_for_status("it is stale", |status| {
        state(status, "live") == State::Stale && status.zookeeper.error.is_some()
    });
    let stale = node(&status, "live");
    assert!(
        stale
            .error
            .as_ref()
            .unwrap()
            .starts_with("ZooKeeper is not reached: ")
    );
    assert_eq!(stale.version, Some(version));
    assert!(!status.zookeeper.connected && status.zookeeper.session.is_none());
    assert!(status.zookeeper.since > zookeeper.since);
    assert_eq!(state(&status, "denied"), State::Denied);
    assert_eq!(mount.metrics()["livedata_zookeeper_connected"], 0.0);
    // The age is that of the knowledge: it grows from the time of modification on.
    let mtime = mount.mtime("live");
    mount.wait_for_status("it ages", |status| node(status, "live").age > Some(2.0));
    let age = SystemTime::now()
        .duration_since(mtime)
        .unwrap()
        .as_secs_f64();
    let told = node(&mount.status_json(), "live").age.unwrap();
    assert!((told - age).abs() < 1.0, "{told} and {age}");
    let metrics = mount.metrics();
    assert!(metrics["livedata_oldest_age_seconds"] >= told);
    assert_eq!(metrics["livedata_heartbeat_interval_seconds"], 1.0);
    assert_eq!(metrics["livedata_nodes{state=\"stale\"}"], 1.0);

    proxy.accept();
    let status = mount.wait_for_status("it is live again", |status| {
        state(status, "live") == State::Live
    });
    assert_eq!(status.zookeeper.sessions, 2);
    mount.wait_for_status("and young", |status| node(status, "live").age < Some(2.0));
}

#[test]
fn unknown_until_zookeeper_says_something() {
    let sandbox = Sandbox::new("unknown");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/live", "1");
    proxy.refuse();
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start_with(&config(&hosts, NODES), &["--wait", "100ms"]);
    let status = mount.status_json();
    for name in ["live", "absent", "denied"] {
        let node = node(&status, name);
        assert_eq!((node.state, node.version), (State::Unknown, None));
        assert_eq!((node.age, node.size), (None, None));
    }
    assert_eq!(status.answered, 0);
    proxy.accept();
    mount.wait_for_status("it is live", |status| state(status, "live") == State::Live);
}

#[test]
fn too_old_and_denied_with_a_file() {
    let sandbox = Sandbox::new("too-old-told");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/live", "1");
    sandbox.admin.create("/denied", "1");
    let lines = "nodes.live.source = /live
        nodes.denied.source = /denied
        nodes.live.on_disconnect = error
        nodes.live.max_stale = 0 seconds";
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), lines));
    // The next session finds that it changed, and may not read it.
    proxy.refuse();
    sandbox.admin.set("/denied", "12");
    sandbox.admin.set_acl_nobody("/denied");
    let status = mount.wait_for_status("it is too old", |status| node(status, "live").too_old);
    wait_until(SOON, "reading it fails", || {
        fs::read(mount.path("live")).is_err()
    });
    let live = node(&status, "live");
    assert_eq!((live.state, live.size), (State::Stale, None));
    assert_eq!(mount.metrics()["livedata_failing_files"], 1.0);
    proxy.accept();
    let status = mount.wait_for_status("it is denied", |status| {
        state(status, "denied") == State::Denied && state(status, "live") == State::Live
    });
    let denied = node(&status, "denied");
    assert_eq!((denied.version, denied.size), (Some(0), Some(1)));
    assert!(!node(&status, "live").too_old);
    let metrics = mount.metrics();
    let named = format!(
        "livedata_node_not_live{{node=\"denied\",znode=\"{}\",state=\"denied\"}}",
        denied.znode
    );
    assert_eq!(metrics.get(&named), Some(&1.0), "{metrics:?}");
    assert_eq!(metrics["livedata_nodes{state=\"denied\"}"], 1.0);
    assert_eq!(metrics["livedata_stale_files"], 1.0);
}

#[test]
fn drop_ins_and_the_cache_are_told_of() {
    let sandbox = Sandbox::new("dropins-told");
    sandbox.admin.create("/live", "1");
    let dir = tempfile::tempdir().unwrap();
    let (dropins, cache) = (dir.path().join("d"), dir.path().join("c"));
    fs::create_dir(&dropins).unwrap();
    fs::create_dir(&cache).unwrap();
    fs::write(dropins.join("good.ini"), "nodes.live.source = /live\n").unwrap();
    fs::write(dropins.join("wrong.ini"), "no such thing\n").unwrap();
    let lines = format!(
        "mount.dropin_dir = {}\ncache.dir = {}",
        dropins.display(),
        cache.display()
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let status = mount.wait_for_status("it is on disk", |status| {
        let cache = status.cache.as_ref().unwrap();
        cache.health == "healthy" && cache.entries == 1 && cache.waiting == 0
    });
    let [good, wrong] = &status.dropins[..] else {
        panic!("{:?}", status.dropins);
    };
    assert_eq!((good.nodes, &good.error), (1, &None));
    assert!(wrong.file.ends_with("wrong.ini") && wrong.error.is_some());
    assert_eq!(status.complaints, ["1 drop-in is wrong"]);
    assert_eq!(mount.metrics()["livedata_dropins{state=\"wrong\"}"], 1.0);
    // Also after it is followed.
    fs::remove_file(dropins.join("wrong.ini")).unwrap();
    mount.wait_for_status("it is gone", |status| {
        status.dropins.len() == 1 && status.complaints.is_empty()
    });
}
