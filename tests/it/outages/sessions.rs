//! Sessions that are taken away, and what the next one must find: contents, ACLs, credentials.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::{Sandbox, Server, shared_server};

#[test]
fn a_session_taken_over_by_another_is_replaced() {
    let sandbox = Sandbox::new("taken-over");
    sandbox.admin.create("/a", "1");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let ino = mount.ino("a");
    for n in 2..5 {
        let session = mount.session();
        // It is held, not closed: the server moves it, and nothing expires.
        // The client may take it back before its session is dropped, and then does not keep it.
        let thief = shared_server().take_over(session).ok();
        let thief = thief.map(|thief| thief.expect("there is such a session"));
        mount.next_session(session);
        assert_eq!(mount.ino("a") == ino, n == 2);
        sandbox.admin.set("/a", n.to_string());
        mount.wait_for_content("a", n.to_string());
        if let Some(thief) = thief {
            thief.close();
        }
    }
}

/// The process is stopped, as a virtual machine that is moved, until its session has expired.
#[test]
fn a_session_that_expires_while_the_server_is_stopped_is_replaced() {
    let sandbox = Sandbox::new("stopped");
    sandbox.admin.create("/a", "1");
    sandbox.admin.create("/b", "1");
    let lines = "zookeeper.timeout = 1 seconds\nnodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let (ino, session) = (mount.ino("b"), mount.session());
    let server = mount.server().unwrap();
    process::stop(server);
    wait_until(SOON, "its session expires", || {
        !shared_server().has_session(session)
    });
    sandbox.admin.set("/a", "2");
    rustix::process::kill_process(server, Signal::CONT).unwrap();
    mount.next_session(session);
    mount.wait_for_content("a", "2");
    assert_eq!(mount.ino("b"), ino);
    assert_eq!(mount.server(), Some(server));
}

#[test]
fn a_slow_link_is_lived_with() {
    let sandbox = Sandbox::new("slow");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, "nodes.a.source = /a"));
    for mode in [Mode::Delay(Duration::from_millis(200)), Mode::Trickle(7)] {
        proxy.set(mode);
        for n in 2..6 {
            let content = format!("{n} {mode:?}");
            if n == 4 {
                proxy.cut();
            }
            sandbox.admin.set("/a", &content);
            mount.wait_for_content("a", &content);
        }
    }
}

/// Contents of any size and any bytes come through a reconnect, and through a change after it.
#[test]
fn any_bytes_survive_a_reconnect() {
    const LARGEST: usize = 1_048_500;
    let sandbox = Sandbox::new("any-bytes");
    let proxy = Proxy::start(shared_server().address());
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(4096)
        .collect();
    let contents: Vec<(&str, Vec<u8>)> = vec![
        ("all", (0..=255).collect()),
        ("empty", Vec::new()),
        ("zeros", vec![0; 68]),
        ("no-utf8", b"\xff\xfe\xc3(\xed\xa0\x80\n".to_vec()),
        ("like-a-reply", [vec![0, 0, 0, 5], vec![255; 88]].concat()),
        ("random", random),
        ("largest", vec![b'x'; LARGEST]),
    ];
    let (early, late) = (&contents[..], contents.iter().cycle().skip(1));
    for (name, content) in early {
        sandbox.admin.create(&format!("/{name}"), content);
    }
    sandbox.create_null("/null");
    let names = early.iter().map(|(name, _)| *name).chain(["null"]);
    let nodes: Vec<String> = names
        .map(|name| format!("nodes.{name}.source = /{name}"))
        .collect();
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &nodes.join("\n")));
    let all_as = |what: &[(&str, Vec<u8>)]| {
        for (name, content) in what {
            mount.wait_for_content(name, content);
        }
        assert_eq!(mount.read("null").unwrap(), b"");
    };
    all_as(early);
    let inodes: Vec<u64> = early.iter().map(|(name, _)| mount.ino(name)).collect();
    let session = mount.session();
    proxy.cut();
    let session = mount.next_session(session);
    all_as(early);
    for ((name, _), ino) in early.iter().zip(inodes) {
        assert_eq!(mount.ino(name), ino, "{name} did not change");
    }
    // Each takes the content of the next one, during an outage; null data stays.
    let swapped: Vec<(&str, Vec<u8>)> = early
        .iter()
        .zip(late)
        .map(|((name, _), (_, content))| (*name, content.clone()))
        .collect();
    proxy.refuse();
    for (name, content) in &swapped {
        sandbox.admin.set(&format!("/{name}"), content);
    }
    proxy.accept();
    mount.next_session(session);
    all_as(&swapped);
}

/// The ACL forbids reading while the session changes; then another one does; then none.
#[test]
fn an_acl_removed_changed_and_restored_across_reconnects() {
    let sandbox = Sandbox::new("acl-reconnect");
    let proxy = Proxy::start(shared_server().address());
    for name in ["a", "b"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    let secrets = secrets_file("reader:right");
    let lines = format!(
        "zookeeper.credentials = secret/zookeeper/reader
         secrets.path = {}
         nodes.a.source = /a
         nodes.b.source = /b",
        secrets.path().join("secrets.json").display()
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &lines));
    let denied = "warn: /a: its ACL does not let us read it";
    let mut session = mount.session();
    for (round, acl) in ["nobody:knows", "reader:other"].into_iter().enumerate() {
        sandbox.admin.set_acl_digest("/a", acl);
        sandbox.admin.set("/a", acl);
        sandbox.admin.set("/b", acl);
        proxy.cut();
        session = mount.next_session(session);
        mount.wait_for_content("b", acl);
        mount.wait_for_log(round + 1, denied);
        let before: &[u8] = if round == 0 { b"1" } else { b"reader:right 0" };
        assert_eq!(mount.read("a").as_deref(), Some(before), "it is served on");
        // Whoever may read it again sees what it is now.
        sandbox.admin.set_acl_digest("/a", "reader:right");
        mount.wait_for_content("a", acl);
        let content = format!("reader:right {round}");
        sandbox.admin.set("/a", &content);
        mount.wait_for_content("a", &content);
        proxy.cut();
        session = mount.next_session(session);
        sandbox.admin.set_acl_world("/a");
    }
    sandbox.admin.set("/a", "open");
    mount.wait_for_content("a", "open");
}

fn write_secrets(dir: &tempfile::TempDir, credential: &str) {
    let secret =
        format!(r#"{{"type": "simple", "value": "{credential}", "encoding": "identity"}}"#);
    let all = format!(r#"{{"secrets": {{"secret/zookeeper/reader": {secret}}}}}"#);
    fs::write(dir.path().join("secrets.json"), all).unwrap();
}

fn secrets_file(credential: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_secrets(&dir, credential);
    dir
}

/// A secrets file that is broken costs sessions, not content; once it is mended, with credentials
/// that are new, the next attempt takes them.
#[test]
fn credentials_that_cannot_be_read_are_said_and_content_is_served() {
    let sandbox = Sandbox::new("rotated");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.set_acl_digest("/a", "reader:old");
    let secrets = secrets_file("reader:old");
    let lines = format!(
        "zookeeper.credentials = secret/zookeeper/reader
         secrets.path = {}
         nodes.a.source = /a",
        secrets.path().join("secrets.json").display()
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &lines));
    let session = mount.session();
    fs::write(secrets.path().join("secrets.json"), "{\"secrets\": {").unwrap();
    proxy.cut();
    mount.wait_for_log(1, "warn: ZooKeeper: credentials: ");
    sandbox.admin.set_acl_digest("/a", "reader:new");
    sandbox.admin.set("/a", "2");
    holds_for(Duration::from_secs(2), "it is served as it was", || {
        mount.read("a").as_deref() == Some(b"1")
    });
    write_secrets(&secrets, "reader:new");
    mount.next_session(session);
    mount.wait_for_content("a", "2");
    assert!(!mount.log().contains("reader:"), "a secret is in the log");
}

/// No session ends and nothing is cut: that the old credentials do not suffice is enough.
#[test]
fn rotated_credentials_are_taken_once_the_old_ones_are_denied() {
    let sandbox = Sandbox::new("rotated-alone");
    for name in ["a", "b"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    sandbox.admin.set_acl_digest("/a", "reader:old");
    let secrets = secrets_file("reader:old");
    // The audit is quick, for on this server a watch is used up unheard under an ACL.
    let lines = format!(
        "zookeeper.credentials = secret/zookeeper/reader
         secrets.path = {}
         heartbeat_interval = 100 milliseconds
         nodes.a.source = /a
         nodes.b.source = /b",
        secrets.path().join("secrets.json").display()
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let session = mount.session();
    sandbox.admin.set_acl_digest("/a", "reader:new");
    sandbox.admin.set("/a", "2");
    mount.wait_for_log(1, "warn: /a: its ACL does not let us read it");
    // The same credentials are no reason.
    sandbox.admin.set("/b", "2");
    mount.wait_for_content("b", "2");
    assert_eq!(mount.session(), session);
    write_secrets(&secrets, "reader:new");
    mount.wait_for_content("a", "2");
    assert_eq!(mount.n_logged("the credentials changed"), 1);
    assert_ne!(mount.session(), session);
    assert!(!mount.log().contains("reader:"), "a secret is in the log");
}

/// The server comes back and wants an authentication that we do not have.
#[test]
fn a_session_that_fails_to_authenticate_says_so_and_content_is_served() {
    let mut server = Server::start();
    let admin = Admin::connect(server.hosts());
    admin.create("/a", "1");
    let mount = Mount::start(&config(&server.hosts(), "nodes.a.source = /a"));
    let (ino, session) = (mount.ino("a"), mount.session());
    server.options = vec![
        "-Dzookeeper.sessionRequireClientSASLAuth=true".into(),
        "-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            .into(),
    ];
    server.restart();
    mount.wait_for_log(1, "authentication failed");
    holds_for(Duration::from_secs(2), "it is served as it was", || {
        mount.read("a").as_deref() == Some(b"1") && mount.ino("a") == ino
    });
    let n_warnings = mount.n_logged("warn: ZooKeeper: ");
    assert!(n_warnings <= 6, "each reason once, but:\n{}", mount.log());
    server.options.clear();
    server.restart();
    mount.next_session(session);
    // The client of before was refused for good.
    Admin::connect(server.hosts()).set("/a", "2");
    mount.wait_for_content("a", "2");
}
