//! Znodes that we may not read, or only with credentials.

use std::fs;
use std::path::Path;

use super::config;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{Sandbox, shared_server};

#[test]
fn one_unreadable_node_stays_alone() {
    let sandbox = Sandbox::new("unreadable");
    for name in ["good", "bad", "better"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    sandbox.admin.set_acl_nobody("/bad");
    let nodes = "nodes.good.source = /good\nnodes.bad.source = /bad\nnodes.better.source = /better";
    // It would not be ready by now, did the bad one count.
    let mount = Mount::start_with(&config(&sandbox.hosts(), nodes), &["--wait", "10m"]);
    assert_eq!(mount.read("good").unwrap(), b"good");
    assert_eq!(mount.read("better").unwrap(), b"better");
    assert!(!mount.has("bad"));
    mount.wait_for_log(1, "no file yet: bad (/bad: its ACL does not let us read it");
    sandbox.admin.set("/good", "new");
    mount.wait_for_content("good", "new");
    // It heals by itself, and was told of once, however often it was tried.
    sandbox.admin.set_acl_world("/bad");
    mount.wait_for_content("bad", "bad");
    assert_eq!(
        mount.n_logged("warn: /bad: its ACL does not let us read it"),
        1
    );
    sandbox.admin.set("/bad", "new");
    mount.wait_for_content("bad", "new");
}

/// Debian's 3.8.0 uses a watch up, silently, when its session may not read at the event. Only a
/// look at znodes of which nothing was heard can find that, so this waits for such a look.
#[test]
fn an_acl_removed_and_restored_is_survived() {
    let sandbox = Sandbox::new("restored");
    sandbox.admin.create("/a", "1");
    let lines = "heartbeat_interval = 100 milliseconds\nnodes.a.source = /a";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    sandbox.admin.set_acl_nobody("/a");
    sandbox.admin.set("/a", "2");
    sandbox.admin.set_acl_world("/a");
    sandbox.admin.set("/a", "3");
    mount.wait_for_content("a", "3");
    sandbox.admin.set("/a", "4");
    mount.wait_for_content("a", "4");
}

fn secret(credential: &str) -> String {
    format!(r#"{{"type": "simple", "value": "{credential}", "encoding": "identity"}}"#)
}

/// A node that only some credentials read, which come from secrets; across a reconnect; and when
/// both are changed.
fn credentials_from(provider: &str, write: impl Fn(&Path, &str)) {
    let sandbox = Sandbox::new(provider);
    let proxy = Proxy::start(shared_server().address());
    let secrets = tempfile::tempdir().unwrap();
    write(secrets.path(), "reader:old");
    sandbox.admin.create("/a", "1");
    sandbox.admin.set_acl_digest("/a", "reader:old");
    let lines = format!(
        "zookeeper.credentials = secret/zookeeper/reader\n\
         secrets.path = {}\n\
         secrets.provider = {provider}\n\
         nodes.a.source = /a",
        match provider {
            "vault" => secrets.path().join("secrets.json"),
            _ => secrets.path().to_owned(),
        }
        .display()
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &lines));
    assert_eq!(mount.read("a").unwrap(), b"1");
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    let session = mount.session();
    proxy.cut();
    let session = mount.next_session(session);
    sandbox.admin.set("/a", "3");
    mount.wait_for_content("a", "3");
    // Rotated: the next session takes the new ones.
    sandbox.admin.set_acl_digest("/a", "reader:new");
    write(secrets.path(), "reader:new");
    proxy.cut();
    mount.next_session(session);
    sandbox.admin.set("/a", "4");
    mount.wait_for_content("a", "4");
    assert!(!mount.log().contains("reader:"), "a secret is in the log");
}

#[test]
fn credentials_come_from_a_secrets_file() {
    credentials_from("vault", |dir, credential| {
        let secret = secret(credential);
        let all = format!(r#"{{"secrets": {{"secret/zookeeper/reader": {secret}}}}}"#);
        fs::write(dir.join("secrets.json"), all).unwrap();
    });
}

#[test]
fn credentials_come_from_a_csi_volume() {
    credentials_from("vault_csi", |dir, credential| {
        let dir = dir.join("..data/secret/zookeeper");
        fs::create_dir_all(&dir).unwrap();
        let data = format!(r#"{{"data": {}}}"#, secret(credential));
        fs::write(dir.join("reader"), data).unwrap();
    });
}
