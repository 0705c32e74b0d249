//! SASL DIGEST-MD5: a znode that only one user of the server's reads.

use std::fs;

use super::Secure;
use crate::files::config;
use crate::support::admin::Admin;
use crate::support::certificates::Authority;
use crate::support::mount::Mount;

#[test]
fn only_the_right_user_and_password_read() {
    let authority = Authority::new();
    authority.sign("server", "IP:127.0.0.1", 2);
    fs::write(
        authority.file("jaas"),
        "Server { org.apache.zookeeper.server.auth.DigestLoginModule required \
         user_reader=\"pass: word\" user_stranger=\"unknown\"; };\n",
    )
    .unwrap();
    let secrets = authority.file("secrets.json");
    let write_secrets = |password: &str| {
        let secret = |value: &str| format!(r#"{{"type": "simple", "value": "{value}"}}"#);
        let (reader, stranger) = (
            secret(&format!("reader:{password}")),
            secret("stranger:unknown"),
        );
        let text = format!(r#"{{"secrets": {{"reader": {reader}, "stranger": {stranger}}}}}"#);
        fs::write(&secrets, text).unwrap();
    };
    write_secrets("pass: word");
    let jaas = format!(
        "-Djava.security.auth.login.config={}",
        authority.name("jaas")
    );
    let provider = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";
    let secure = Secure::start(&authority, "none", provider, &[jaas]);
    let admin = Admin::connect(secure.server.hosts());
    admin.create("/a", "1");
    admin.set_acl_sasl("/a", "reader");
    let lines = |name: &str, more: &str| {
        format!(
            "nodes.a.source = /a\nzookeeper.credentials = {name}\nsecrets.path = {}\n{more}",
            secrets.display()
        )
    };
    let sasl = "zookeeper.sasl_mechanism = digest-md5";
    let plain = secure.server.hosts();

    let mount = Mount::start(&config(&plain, &lines("reader", sasl)));
    assert_eq!(mount.read("a").unwrap(), b"1");
    admin.set("/a", "2");
    mount.wait_for_content("a", "2");

    let tls = format!(
        "{sasl}\nzookeeper.tls = on\nzookeeper.ca_cert = {}",
        authority.name("ca.pem")
    );
    let through_tls = Mount::start(&config(&secure.address.to_string(), &lines("reader", &tls)));
    assert_eq!(through_tls.read("a").unwrap(), b"2");

    // Another user, and the right one by the scheme digest, are let in and read nothing.
    for lines in [lines("stranger", sasl), lines("reader", "")] {
        let mount = Mount::start_with(&config(&plain, &lines), &["--wait", "1ms"]);
        mount.wait_for_log(1, "warn: /a: its ACL does not let us read it");
        assert!(!mount.has("a"));
    }

    write_secrets("wrong");
    let mount = Mount::start_with(&config(&plain, &lines("reader", sasl)), &["--wait", "1ms"]);
    let reason = format!("warn: ZooKeeper: {plain}: authentication failed; trying on");
    mount.wait_for_log(1, &reason);
    assert!(!mount.has("a"));
    write_secrets("pass: word");
    mount.wait_for_content("a", "2");
}
