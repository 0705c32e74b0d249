//! TLS: what is shown through it, and one line for each way in which it fails.

use std::fs;
use std::process::Command;

use super::Secure;
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::certificates::Authority;
use crate::support::mount::Mount;
use crate::support::place;

const NODE: &str = "nodes.a.source = /a";

/// A mount that has said why it does not reach the server, and serves nothing.
#[track_caller]
fn refused(hosts: &str, lines: &str, reason: &str) -> Mount {
    let config = config(hosts, &format!("{NODE}\n{lines}"));
    let mount = Mount::start_with(&config, &["--wait", "1ms"]);
    mount.wait_for_log(1, &format!("warn: ZooKeeper: {reason}; trying on"));
    assert!(!mount.has("a"));
    mount
}

#[test]
fn content_comes_and_goes_through_tls() {
    let authority = Authority::new();
    authority.sign("server", "IP:127.0.0.1", 2);
    let secure = Secure::start(&authority, "none", "", &[]);
    let admin = Admin::connect(secure.server.hosts());
    admin.create("/a", "1");
    let tls = format!(
        "zookeeper.tls = true\nzookeeper.ca_cert = {}",
        authority.name("ca.pem")
    );
    let hosts = secure.address.to_string();
    let mount = Mount::start(&config(&hosts, &format!("{NODE}\n{tls}")));
    assert_eq!(mount.read("a").unwrap(), b"1");
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");

    fs::write(authority.file("3.json"), "3").unwrap();
    fs::write(authority.file("writer.ini"), config(&hosts, &tls)).unwrap();
    let mut writer = Command::new(env!("CARGO_BIN_EXE_livedata-writer"));
    writer
        .args(["writer.ini", "3.json", "/a"])
        .current_dir(authority.file(""));
    let ran = place::run(&mut writer);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    mount.wait_for_content("a", "3");

    // A reload moves to plain text, and back.
    let session = mount.session();
    mount.reload(&config(&secure.server.hosts(), NODE));
    let session = mount.next_session(session);
    mount.reload(&config(&hosts, &format!("{NODE}\n{tls}")));
    mount.next_session(session);
    admin.set("/a", "4");
    mount.wait_for_content("a", "4");
}

#[test]
fn each_refusal_is_one_clear_line() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("server", "IP:127.0.0.1", 2);
    let mut secure = Secure::start(&authority, "none", "", &[]);
    Admin::connect(secure.server.hosts()).create("/a", "1");
    let (hosts, plain) = (secure.address.to_string(), secure.server.hosts());
    let with = |ca: &str| format!("zookeeper.tls = true\nzookeeper.ca_cert = {ca}");
    let (right, wrong) = (authority.name("ca.pem"), other.name("ca.pem"));

    let reason = format!("{hosts}: its certificate is not signed by a CA in {wrong}");
    refused(&hosts, &with(&wrong), &reason);
    // Those that the system trusts do not sign for loopback.
    let reason = format!(
        "{hosts}: its certificate is not signed by a CA in /etc/ssl/certs/ca-certificates.crt"
    );
    refused(&hosts, "zookeeper.tls = true", &reason);
    let by_name = format!("localhost:{}", secure.address.port());
    let reason = format!("{by_name}: its certificate is not for localhost, but for 127.0.0.1");
    refused(&by_name, &with(&right), &reason);
    let reason = format!("{hosts}: speaks TLS on this port; write zookeeper.tls = true");
    refused(&hosts, "", &reason);
    let reason = format!(
        "{plain}: does not speak TLS on this port; zookeeper.hosts must name its secureClientPort"
    );
    refused(&plain, &with(&right), &reason);
    let reason = "TLS: cannot read /nowhere/ca.pem: No such file or directory (os error 2); \
                  zookeeper.ca_cert names it";
    refused(&hosts, &with("/nowhere/ca.pem"), reason);
    let key = authority.name("server.key");
    let reason = format!(
        "TLS: {key} holds no certificate of a CA; zookeeper.ca_cert names a PEM file with some"
    );
    refused(&hosts, &with(&key), &reason);

    // What is cured is found by itself, on either side.
    authority.sign("server", "IP:127.0.0.1", -1);
    secure.server.restart();
    let mount = refused(
        &hosts,
        &with(&right),
        &format!("{hosts}: its certificate has expired"),
    );
    authority.sign("server", "IP:127.0.0.1", 2);
    secure.server.restart();
    mount.wait_for_content("a", "1");
}

#[test]
fn clients_have_certificates_too() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("server", "IP:127.0.0.1", 2);
    for ours in [&authority, &other] {
        ours.sign("client", "DNS:client", 2);
        ours.sign("another", "DNS:another", 2);
    }
    let secure = Secure::start(&authority, "need", "", &[]);
    Admin::connect(secure.server.hosts()).create("/a", "1");
    let hosts = secure.address.to_string();
    let ca = format!(
        "zookeeper.tls = true\nzookeeper.ca_cert = {}",
        authority.name("ca.pem")
    );
    let with =
        |cert: &str, key: &str| format!("{ca}\nzookeeper.cert = {cert}\nzookeeper.key = {key}");

    let reason = format!(
        "{hosts}: wants a certificate of ours (BadCertificate); name one in zookeeper.cert and \
         zookeeper.key"
    );
    refused(&hosts, &ca, &reason);
    let (cert, key) = (authority.name("client.pem"), authority.name("another.key"));
    let reason = format!(
        "TLS: {key} is not the key of the certificate {cert}; zookeeper.key and zookeeper.cert \
         belong together"
    );
    refused(&hosts, &with(&cert, &key), &reason);
    let reason = format!(
        "TLS: {cert} holds no private key that can be read; zookeeper.key names a PEM file with \
         one, not encrypted"
    );
    refused(&hosts, &with(&cert, &cert), &reason);

    // Once the files hold others, those are taken.
    let (cert, key) = (other.name("client.pem"), other.name("client.key"));
    let reason = format!("{hosts}: refuses our certificate {cert} (CertificateUnknown)");
    let mount = refused(&hosts, &with(&cert, &key), &reason);
    for file in ["client.key", "client.pem"] {
        fs::copy(authority.file(file), other.file(file)).unwrap();
    }
    mount.wait_for_content("a", "1");
}
