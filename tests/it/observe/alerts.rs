//! What Prometheus says of our metrics and our alerts.

use std::fs;
use std::process::{Command, Stdio};

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{Sandbox, shared_server};

fn promtool() -> Command {
    let mut command = Command::new("promtool");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[track_caller]
fn check_metrics(mount: &Mount) {
    let file = fs::File::open(mount.told_by("metrics.prom")).unwrap();
    let checked = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let sandbox = Sandbox::new("promtool");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    let cache = tempfile::tempdir().unwrap();
    let lines = format!(
        "cache.dir = {}\nnodes.a.source = /a\nnodes.b\"\\.source = /b\"\\",
        cache.path().display()
    );
    let mount = Mount::start(&config(&sandbox.hosts_through(proxy.address()), &lines));
    check_metrics(&mount);
    assert!(mount.metrics().contains_key("livedata_cache_entries"));
    proxy.refuse();
    mount.wait_for_status("it is away", |status| status.zookeeper.error.is_some());
    check_metrics(&mount);
}

#[test]
fn the_alerts_fire_when_they_should() {
    for arguments in [
        ["check", "rules", "dist/alerts.yml"],
        ["test", "rules", "tests/alerts.test.yml"],
    ] {
        let tested = promtool().args(arguments).output().unwrap();
        assert!(tested.status.success(), "{tested:?}");
    }
}

#[test]
fn the_alerts_are_about_metrics_there_are() {
    let sandbox = Sandbox::new("alerts-metrics");
    sandbox.admin.create("/a", "1");
    let cache = tempfile::tempdir().unwrap();
    let lines = format!(
        "cache.dir = {}\nnodes.a.source = /a\nnodes.absent.source = /absent\n\
         nodes.a.hooks = h\nhooks.h.command = true",
        cache.path().display()
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let names: Vec<String> = mount
        .metrics()
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    let rules = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/alerts.yml"));
    let rules = rules.unwrap();
    let used: Vec<&str> = rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("livedata_"))
        .collect();
    assert!(used.len() > 4);
    for name in used {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
