//! What the configuration says to the people who write it, word for word.

use std::path::Path;

use livedata::config::check;
use livedata::config::dropin::{Dropin, parse_dropin};
use livedata::config::dropin_dir::is_dropin;
use livedata::config::dropins::{Dropins, Taken};
use livedata::config::{Config, Error, OnDelete, OnDisconnect, Provider, Sasl, Surroundings, Tls};
use proptest::prelude::*;

mod hooks;

/// The environment of all tests here: a user 1234 of the group 5678 mounts at /mnt/live.
const SURROUNDINGS: Surroundings<'static> = Surroundings {
    cache_dir: None,
    mountpoint: None,
    variable: &|name| match name {
        "HOSTS" => Some("zk01,zk02".into()),
        "DC" => Some("ams".into()),
        _ => None,
    },
    uid: 1234,
    gid: 5678,
    user: &|name| Ok((name == "root").then_some(0)),
    group: &|name| Ok((name == "root").then_some(0)),
    account: &|_, _| Ok(None),
};

fn parse(text: impl AsRef<[u8]>) -> Result<Config, Error> {
    let surroundings = Surroundings {
        cache_dir: None,
        mountpoint: Some(Path::new("/mnt/live")),
        ..SURROUNDINGS
    };
    Config::parse(Path::new("live.ini"), text.as_ref(), &surroundings)
}

/// The lines a user sees: the error, or the nodes and trees that are left (`name dest`) and the
/// problems.
fn messages(text: impl AsRef<[u8]>) -> Vec<String> {
    match parse(text) {
        Err(error) => vec![format!("fatal: {error}")],
        Ok(config) => {
            let nodes = config
                .nodes
                .iter()
                .map(|node| format!("node {} {}", node.name, node.dest));
            let trees = config
                .trees
                .iter()
                .map(|tree| format!("tree {} {}", tree.name, tree.dest));
            let problems = config
                .problems
                .iter()
                .map(|problem| format!("{}: {problem}", problem.severity.as_str()));
            nodes.chain(trees).chain(problems).collect()
        }
    }
}

/// Each input stands after the first two lines of a file, and is followed by its messages.
#[track_caller]
fn check_all(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let text = format!("[live-data]\nzookeeper.hosts = zk01\n{text}");
        assert_eq!(messages(&text), *expected, "{text}");
    }
}

#[test]
fn everything_that_can_be_said() {
    let config = parse(
        "[live-data]
zookeeper.hosts = $HOSTS:2182,[::1]/base
zookeeper.timeout = 1500 milliseconds
zookeeper.credentials = secret/a, secret/b
secrets.path = /run/secrets
secrets.provider = vault_csi
heartbeat_interval = 1 minute
log.level = Debug
log.file = live.log
defaults.mode = 0444
defaults.on_delete = keep
defaults.on_disconnect = error
defaults.max_stale = 2 minutes
cache.dir = state
nodes.a.source = /x/${DC}/a
nodes.a.dest = /mnt/live/d/a.json
nodes.a.owner = root
nodes.a.mode = 640
nodes.a.on_delete = remove
nodes.a.on_disconnect = stale
nodes.a.required = Yes
[nodes.B]
source = b # hi
group = 0
",
    )
    .unwrap();
    assert_eq!(config.problems, []);
    assert_eq!(
        config.zookeeper.hosts,
        ["zk01:2181", "zk02:2182", "[::1]:2181"]
    );
    assert_eq!(config.zookeeper.chroot.unwrap().as_str(), "/base");
    assert_eq!(config.zookeeper.timeout.as_millis(), 1500);
    assert_eq!(config.zookeeper.credentials, ["secret/a", "secret/b"]);
    assert_eq!(config.secrets.path, Path::new("/run/secrets"));
    assert_eq!(config.secrets.provider, Provider::VaultCsi);
    assert_eq!(config.heartbeat_interval.as_secs(), 60);
    assert_eq!(config.log.level, Some(log::LevelFilter::Debug));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("live.log")));
    let [a, b] = &config.nodes[..] else {
        panic!("{:?}", config.nodes)
    };
    assert_eq!((&*a.name, a.source.as_str()), ("a", "/x/ams/a"));
    assert_eq!(a.dest.to_string(), "d/a.json");
    assert_eq!((a.uid, a.gid, a.mode), (0, 5678, 0o640));
    assert_eq!((a.on_delete, a.required), (OnDelete::Remove, true));
    assert_eq!((&*b.name, b.source.as_str()), ("b", "/b # hi"));
    assert_eq!(b.dest.to_string(), "b");
    assert_eq!((b.uid, b.gid, b.mode), (1234, 0, 0o444));
    assert_eq!((b.on_delete, b.required), (OnDelete::Keep, false));
    assert_eq!(a.on_disconnect, OnDisconnect::Stale);
    assert_eq!(b.on_disconnect, OnDisconnect::Error);
    assert_eq!(b.max_stale.as_secs(), 120);
    assert_eq!(config.cache_dir.as_deref(), Some(Path::new("state")));
}

#[test]
fn an_empty_cache_dir_is_none() {
    let surroundings = Surroundings {
        cache_dir: Some(Path::new("/var/lib/livedata-fuse")),
        ..SURROUNDINGS
    };
    let cache_dir = |line: &str| {
        let text = format!("zookeeper.hosts = zk01\n{line}\n");
        let config = Config::parse(Path::new("live.ini"), text.as_bytes(), &surroundings);
        config.unwrap().cache_dir
    };
    assert_eq!(cache_dir(""), Some("/var/lib/livedata-fuse".into()));
    assert_eq!(cache_dir("cache.dir ="), None);
    assert_eq!(cache_dir("cache.dir = /c"), Some("/c".into()));
}

#[test]
fn how_much_memory_holds() {
    let most = |line: &str| {
        let config = parse(format!("zookeeper.hosts = zk01\n{line}\n"));
        config.map(|config| (config.cache_max_bytes, config.problems.len()))
    };
    assert_eq!(most("").unwrap(), (256 << 20, 0));
    assert_eq!(most("cache.max_bytes =").unwrap(), (256 << 20, 0));
    assert_eq!(most("cache.max_bytes = 64 MB").unwrap(), (64_000_000, 0));
    assert_eq!(most("cache.max_bytes = 0").unwrap(), (0, 0));
    let err = most("cache.max_bytes = plenty").unwrap_err().to_string();
    assert!(
        err.contains("live.ini:2: cache.max_bytes: \"plenty\" is not a number of bytes"),
        "{err}"
    );
}

#[test]
fn what_nobody_says() {
    let config =
        parse("zookeeper.hosts = zk01\nsecrets.path =\nnodes.a.source = /a\nnodes.a.mode =\n")
            .unwrap();
    assert_eq!(config.problems, []);
    assert_eq!(config.zookeeper.chroot, None);
    assert_eq!(config.zookeeper.timeout.as_secs(), 5);
    assert!(config.zookeeper.credentials.is_empty());
    assert_eq!(config.secrets.path, Path::new("/var/local/secrets.json"));
    assert_eq!(config.secrets.provider, Provider::Vault);
    assert_eq!(config.heartbeat_interval.as_secs(), 300);
    assert_eq!((config.log.level, config.log.file), (None, None));
    let a = &config.nodes[0];
    assert_eq!((a.uid, a.gid, a.mode), (1234, 5678, 0o400));
    assert_eq!((a.on_delete, a.required), (OnDelete::Remove, false));
    assert_eq!(
        (a.on_disconnect, a.max_stale.as_secs()),
        (OnDisconnect::Stale, 3600)
    );
    assert_eq!(config.cache_dir, None);
    assert!(parse("zookeeper.hosts = zk01").unwrap().nodes.is_empty());
}

#[test]
fn no_ini() {
    let cases: &[(&[u8], &str)] = &[
        (
            b"\xef\xbb\xbf[live-data]\n",
            "live.ini:1: the file begins with a byte order mark; save it as UTF-8 without one",
        ),
        (
            b"[live-data]\r\na = 1\rb = \xff\n",
            "live.ini:3: this line is not UTF-8; save the file as UTF-8",
        ),
        (
            b"[live-data]\nzookeeper.hosts\n",
            "live.ini:2: \"zookeeper.hosts\" is a key without a value; write key = value, or indent the line to continue the value above",
        ),
        (
            b"[live-data\n",
            "live.ini:1: \"[live-data\" is a key without a value; a section header ends with ]",
        ),
        (
            b"[live-data]\n= 5\n",
            "live.ini:2: \"= 5\" is a value without a key; write key = value",
        ),
        (
            b"[live-data]\na = 1\n\nb = 1\nA : 2\n",
            "live.ini:5: a: set twice, first in line 2; keep one of them",
        ),
        (
            b"nodes.a.mode = 1\n[nodes.a]\nsource = /a\nMODE = 2\n",
            "live.ini:4: nodes.a.mode: set twice, first in line 1; keep one of them",
        ),
        (
            b"[DEFAULT]\na = 1\n[DEFAULT]\na = 2\n",
            "live.ini:4: a: set twice, first in line 2; keep one of them",
        ),
        (
            b"[other]\na = 1\na = 2\n",
            "live.ini:3: a: set twice, first in line 2; keep one of them",
        ),
        (
            b"[live-data]\n[other]\n[live-data]\n",
            "live.ini:3: [live-data]: this section stands twice, first in line 1; put its keys under one header",
        ),
        (
            b"",
            "live.ini: zookeeper.hosts: missing; write zookeeper.hosts = zk01:2181, for example",
        ),
        (
            b"[live_data]\nzookeeper.hosts = zk01\n[x]\n",
            "live.ini: zookeeper.hosts: missing; write zookeeper.hosts = zk01:2181, for example (only [live-data] counts; ignored here: [live_data] [x])",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(text), [format!("fatal: {expected}")]);
    }
}

#[test]
fn wrong_hosts() {
    for (hosts, expected) in [
        (
            "",
            "live.ini: zookeeper.hosts: missing; write zookeeper.hosts = zk01:2181, for example",
        ),
        (
            "zk01:2181 ,zk02",
            "live.ini:2: zookeeper.hosts: there is a blank after \"zk01:2181\"; write zk01:2181,zk02:2181",
        ),
        (
            "zk01,",
            "live.ini:2: zookeeper.hosts: a host is missing beside a comma; write zk01:2181,zk02:2181",
        ),
        (
            "zk01:http",
            "live.ini:2: zookeeper.hosts: \"zk01:http\" has no port from 1 to 65535; write zk01:2181, for example",
        ),
        (
            "zk01:65536",
            "live.ini:2: zookeeper.hosts: \"zk01:65536\" has no port from 1 to 65535; write zk01:2181, for example",
        ),
        (
            "::1",
            "live.ini:2: zookeeper.hosts: \"::1\" has too many colons; write zk01:2181, or an IPv6 address as [::1]:2181",
        ),
        (
            "[::1",
            "live.ini:2: zookeeper.hosts: \"[::1\" has no closing bracket; write [::1]:2181",
        ),
        (
            "[zk01]",
            "live.ini:2: zookeeper.hosts: \"[zk01]\" is no IPv6 address; write [::1]:2181",
        ),
        (
            "zk 01",
            "live.ini:2: zookeeper.hosts: \"zk 01\" is no host; write zk01:2181, for example",
        ),
        (
            "$NOPE",
            "live.ini:2: zookeeper.hosts: \"$NOPE\" is no host; write zk01:2181, for example",
        ),
        (
            "zk01/a/../b",
            "live.ini:2: zookeeper.hosts: the chroot: `/a/../b` has the component `..`; write the path out",
        ),
    ] {
        let text = format!("[live-data]\nzookeeper.hosts = {hosts}\n");
        assert_eq!(messages(&text), [format!("fatal: {expected}")]);
    }
    assert_eq!(
        messages("zookeeper.hosts = zk01/a,zk02/a\n"),
        [
            "warning: live.ini:1: zookeeper.hosts: the chroot is all of \"/a,zk02/a\"; write it once, after the last host"
        ]
    );
}

#[test]
fn wrong_settings() {
    check_all(&[
        (
            "zookeeper.timeout = 5s",
            &[
                "fatal: live.ini:3: zookeeper.timeout: \"5s\" is not a time; write 5 seconds, for example (units: milliseconds, seconds, minutes, hours, days)",
            ],
        ),
        (
            "zookeeper.timeout = 5 seconds ; the session's",
            &[
                "fatal: live.ini:3: zookeeper.timeout: \"5 seconds ; the session's\" is not a time; write 5 seconds, for example (units: milliseconds, seconds, minutes, hours, days) (a comment must be a line of its own)",
            ],
        ),
        (
            "zookeeper.timeout = 0 seconds",
            &[
                "fatal: live.ini:3: zookeeper.timeout: \"0 seconds\" is no time at all; write more than 0, such as 5 seconds",
            ],
        ),
        (
            "zookeeper.timeout = 25 days",
            &[
                "fatal: live.ini:3: zookeeper.timeout: \"25 days\" is longer than ZooKeeper takes; write at most 24 days",
            ],
        ),
        (
            "heartbeat_interval = 999999999999999 days",
            &[
                "fatal: live.ini:3: heartbeat_interval: \"999999999999999 days\" is longer than any clock runs; write 1 days, for example",
            ],
        ),
        (
            "heartbeat_interval = 0 minutes",
            &[
                "fatal: live.ini:3: heartbeat_interval: \"0 minutes\" is no time at all; write more than 0, such as 5 seconds",
            ],
        ),
        (
            "secrets.provider = file",
            &[
                "fatal: live.ini:3: secrets.provider: \"file\" is no provider; write vault or vault_csi",
            ],
        ),
        (
            "log.level = loud",
            &[
                "fatal: live.ini:3: log.level: \"loud\" is not a level; write error, warn, info, debug, trace or off",
            ],
        ),
        (
            "mount.status_dir = a/b",
            &[
                "fatal: live.ini:3: mount.status_dir: `a/b` has the character '/', which a path cannot have; write one name, as .livedata",
            ],
        ),
        (
            "mount.status_dir = .livedata-staging",
            &[
                "fatal: live.ini:3: mount.status_dir: \".livedata-staging\" begins with \".livedata\", which the mount keeps for itself; write another name",
            ],
        ),
        (
            "mount.status_mode = 0640",
            &[
                "fatal: live.ini:3: mount.status_mode: \"0640\" is more than reading; write 0440, for example",
            ],
        ),
        (
            "mount.xattr = perhaps",
            &["fatal: live.ini:3: mount.xattr: \"perhaps\" is not a boolean; write true or false"],
        ),
        (
            "defaults.mode = rw",
            &[
                "fatal: live.ini:3: defaults.mode: \"rw\" is not an octal mode; write 0440, for example",
            ],
        ),
        (
            "defaults.owner = no-such-user",
            &[
                "fatal: live.ini:3: defaults.owner: there is no user \"no-such-user\" here; write the name of one that exists, or a number",
            ],
        ),
        (
            "defaults.on_disconnect = sleep",
            &[
                "fatal: live.ini:3: defaults.on_disconnect: \"sleep\" is nothing to do while ZooKeeper is away; write stale or error",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.max_stale = 5 minutes",
            &[
                "node a a",
                "warning: live.ini:4: nodes.a.max_stale: has no effect without on_disconnect = error",
            ],
        ),
        (
            "defaults.on_delete = hide",
            &[
                "fatal: live.ini:3: defaults.on_delete: \"hide\" is nothing to do on deletion; write remove or keep",
            ],
        ),
        (
            "zookeeper.tls = perhaps",
            &[
                "fatal: live.ini:3: zookeeper.tls: \"perhaps\" is not a boolean; write true or false",
            ],
        ),
        (
            "zookeeper.tls = true\nzookeeper.verify = no",
            &[
                "fatal: live.ini:4: zookeeper.verify: servers are always verified, by certificate and by host name; name the CA of their certificates in zookeeper.ca_cert, and remove this",
            ],
        ),
        (
            "zookeeper.tls = true\nzookeeper.verify = hostname",
            &[
                "fatal: live.ini:4: zookeeper.verify: \"hostname\" is not a boolean; write true or false",
            ],
        ),
        (
            "zookeeper.tls = true\nzookeeper.cert = c.pem",
            &[
                "fatal: live.ini:4: zookeeper.cert: zookeeper.key is missing; write both of them, or neither",
            ],
        ),
        (
            "zookeeper.tls = true\nzookeeper.key = c.key",
            &[
                "fatal: live.ini:4: zookeeper.key: zookeeper.cert is missing; write both of them, or neither",
            ],
        ),
        (
            "zookeeper.tls = no\nzookeeper.ca_cert = ca.pem\nzookeeper.verify = no",
            &[
                "warning: live.ini:4: zookeeper.ca_cert: has no effect without zookeeper.tls = true",
                "warning: live.ini:5: zookeeper.verify: has no effect without zookeeper.tls = true",
            ],
        ),
        (
            "zookeeper.sasl_mechanism = gssapi",
            &[
                "fatal: live.ini:3: zookeeper.sasl_mechanism: \"gssapi\" is no mechanism of this version; write digest-md5",
            ],
        ),
        (
            "zookeeper.sasl_mechanism = digest-md5",
            &[
                "fatal: live.ini:3: zookeeper.sasl_mechanism: needs one secret with user:password, and zookeeper.credentials names none; write zookeeper.credentials = NAME",
            ],
        ),
        (
            "zookeeper.credentials = a, b\nzookeeper.sasl_mechanism = digest-md5",
            &[
                "fatal: live.ini:4: zookeeper.sasl_mechanism: needs one secret with user:password, and zookeeper.credentials names 2; write zookeeper.credentials = NAME",
            ],
        ),
        ("zookeeper.tls = off\nzookeeper.sasl_mechanism =\n", &[]),
        ("zookeeper.tls = on\nzookeeper.verify = true", &[]),
    ]);
}

#[test]
fn a_connection_that_is_secure() {
    let text = "zookeeper.hosts = zk01
zookeeper.credentials = secret/zk
zookeeper.sasl_mechanism = DIGEST-MD5
zookeeper.read_only = yes
zookeeper.tls = true
zookeeper.ca_cert = pem/ca.pem
zookeeper.cert = /etc/c.pem
zookeeper.key = c.key
";
    let config = Config::parse(
        Path::new("/etc/live/live.ini"),
        text.as_bytes(),
        &SURROUNDINGS,
    );
    let config = config.unwrap();
    assert_eq!(config.problems, []);
    assert_eq!(config.zookeeper.sasl, Some(Sasl::DigestMd5));
    assert!(config.zookeeper.read_only);
    assert_eq!(
        config.zookeeper.tls,
        Some(Tls {
            ca_cert: Some("/etc/live/pem/ca.pem".into()),
            identity: Some(("/etc/c.pem".into(), "/etc/live/c.key".into())),
        })
    );
    assert_eq!(
        check::table(&config),
        "ZooKeeper zk01:2181, session timeout 5s, read-only servers will do, credentials secret/zk \
         by SASL digest-md5, TLS with the CAs in /etc/live/pem/ca.pem as /etc/c.pem\nno nodes\n"
    );
    let zookeeper = &check::json(&config)["zookeeper"];
    assert_eq!(zookeeper["sasl_mechanism"], "digest-md5");
    assert_eq!(zookeeper["read_only"], true);
    assert_eq!(
        zookeeper["tls"],
        serde_json::json!({
            "ca_cert": "/etc/live/pem/ca.pem", "cert": "/etc/c.pem", "key": "/etc/live/c.key",
        })
    );
    let config = parse("zookeeper.hosts = zk01\nzookeeper.tls = true").unwrap();
    assert_eq!(
        check::table(&config),
        "ZooKeeper zk01:2181, session timeout 5s, TLS with the CAs of the system\nno nodes\n"
    );
}

#[test]
fn wrong_nodes_are_left_out() {
    check_all(&[
        (
            "nodes.a.dest = x",
            &[
                "error: live.ini:3: nodes.a.source: missing; write nodes.a.source = /path/of/a/znode",
            ],
        ),
        (
            "nodes.a.source = /x/../y\nnodes.b.source = /b",
            &[
                "node b b",
                "error: live.ini:3: nodes.a.source: `/x/../y` has the component `..`; write the path out",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.mode = 999\nnodes.a.owner = no-such-user\nnodes.a.group = no-such-group\nnodes.a.on_delete = hide\nnodes.a.required = maybe\nnodes.a.dest = ../a",
            &[
                "error: live.ini:4: nodes.a.mode: \"999\" is not an octal mode; write 0440, for example",
                "error: live.ini:5: nodes.a.owner: there is no user \"no-such-user\" here; write the name of one that exists, or a number",
                "error: live.ini:6: nodes.a.group: there is no group \"no-such-group\" here; write the name of one that exists, or a number",
                "error: live.ini:7: nodes.a.on_delete: \"hide\" is nothing to do on deletion; write remove or keep",
                "error: live.ini:8: nodes.a.required: \"maybe\" is not a boolean; write true or false",
                "error: live.ini:9: nodes.a.dest: \"../a\" leaves the mount by \"..\"; write a path below it",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.dest = /mnt/live/.livedata-staging/a",
            &[
                "error: live.ini:4: nodes.a.dest: \"/mnt/live/.livedata-staging/a\" begins with \".livedata\", which the mount keeps for itself; choose another name",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.dest = /mnt/live/../a",
            &[
                "error: live.ini:4: nodes.a.dest: \"/mnt/live/../a\" leaves the mount by \"..\"; write a path below it",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.dest = /mnt/live/",
            &[
                "error: live.ini:4: nodes.a.dest: \"/mnt/live/\" is a directory; write the path of a file",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.dest = /mnt/live",
            &[
                "error: live.ini:4: nodes.a.dest: \"/mnt/live\" is the mount itself; write a path below it",
            ],
        ),
        (
            "nodes.a.source = /a\n  b",
            &[
                "error: live.ini:3: nodes.a.source: `/a\\nb` has the character '\\n', which a path cannot have",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.b.source = /b\nnodes.b.dest = a\nnodes.c.source = /b",
            &[
                "node a a",
                "node c c",
                "error: live.ini:5: nodes.b.dest: nodes.a (line 3) has the file \"a\" already; write another path",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.b.source = /b\nnodes.b.dest = a/b",
            &[
                "node a a",
                "error: live.ini:5: nodes.b.dest: \"a\" is a file, of nodes.a (line 3), and cannot be a directory too; write another path",
            ],
        ),
        (
            "nodes.b.source = /b\nnodes.b.dest = a/x/b\nnodes.a.source = /a",
            &[
                "node b a/x/b",
                "error: live.ini:5: nodes.a.dest: \"a\" is a directory, for nodes.b (line 3); write another path",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.mode = 0440 # secret",
            &[
                "error: live.ini:4: nodes.a.mode: \"0440 # secret\" is not an octal mode; write 0440, for example (a comment must be a line of its own)",
            ],
        ),
        (
            // One that is left out takes no place.
            "nodes.a.source = /a\nnodes.a.mode = x\nnodes.b.source = /b\nnodes.b.dest = a",
            &[
                "node b a",
                "error: live.ini:4: nodes.a.mode: \"x\" is not an octal mode; write 0440, for example",
            ],
        ),
        (
            "nodes.a.b.source = /x",
            &[
                "error: live.ini:3: nodes.a.b.source: a name has no dot, so this is left out; write nodes.a-b.source",
            ],
        ),
        (
            "[nodes.a.b]\nsource = /x",
            &[
                "error: live.ini:4: nodes.a.b.source: a name has no dot, so this is left out; write nodes.a-b.source",
            ],
        ),
    ]);
}

#[test]
fn unknown_keys() {
    check_all(&[
        (
            "zookeeper.host = zk02",
            &["warning: live.ini:3: zookeeper.host: unknown key; did you mean zookeeper.hosts?"],
        ),
        (
            "favourite.colour = blue",
            &["warning: live.ini:3: favourite.colour: unknown key; ignored"],
        ),
        (
            "nodes.a.source = /a\nnodes.a.moed = 0440\nnodes.a.colour = blue",
            &[
                "node a a",
                "warning: live.ini:4: nodes.a.moed: unknown key; did you mean nodes.a.mode?",
                "warning: live.ini:5: nodes.a.colour: unknown key; ignored",
            ],
        ),
        (
            "node.a.source = /a",
            &["warning: live.ini:3: node.a.source: unknown key; did you mean nodes.a.source?"],
        ),
        (
            "nodes.a.soruce = /a",
            &[
                "warning: live.ini:3: nodes.a.soruce: unknown key; did you mean nodes.a.source?",
                "error: live.ini:3: nodes.a.source: missing; write nodes.a.source = /path/of/a/znode",
            ],
        ),
        (
            "[DEFAULT]\nhere = /somewhere\nheartbeat_intervall = 1 days\n",
            &[
                "warning: live.ini:5: heartbeat_intervall: unknown key; did you mean heartbeat_interval?",
            ],
        ),
        (
            "[Live-Data]\n[node.a]\n[default]\n[zookeeper]\nhosts = zk02\n[app:main]\n",
            &[
                "warning: live.ini:3: [Live-Data]: this section is ignored; did you mean [live-data]?",
                "warning: live.ini:4: [node.a]: this section is ignored; did you mean [nodes.NAME]?",
                "warning: live.ini:5: [default]: this section is ignored; did you mean [DEFAULT]?",
                "warning: live.ini:6: [zookeeper]: this section is ignored; write zookeeper.KEY = value under [live-data]",
            ],
        ),
    ]);
}

#[test]
fn what_is_so_anyway_can_be_said() {
    check_all(&[(
        "mount.xattr = false\nmount.links = no\nzookeeper.read_only = off\n",
        &[],
    )]);
}

#[test]
fn all_that_can_be_said_of_a_tree() {
    let config = parse(
        "zookeeper.hosts = zk01
defaults.owner = 12
defaults.group = 34
defaults.mode = 0444
defaults.on_disconnect = error
defaults.max_stale = 2 minutes
[trees.T]
source = /services/$DC
dest = /mnt/live/srv/all/
depth = 2
include = web, {api,db}/*
    /cron,
exclude = *.tmp
mode = 0440
dir_mode = 0750
owner = root
group = 0
data_name = data
on_disconnect = stale
[trees.bare]
source = //
",
    )
    .unwrap();
    assert_eq!(config.problems, []);
    let [t, bare] = &config.trees[..] else {
        panic!("{:?}", config.trees)
    };
    assert_eq!((&*t.name, t.line), ("t", 8));
    assert_eq!(t.subtree.root().as_str(), "/services/ams");
    assert_eq!(t.subtree.depth(), Some(2));
    assert_eq!(t.subtree.includes(), ["web", "{api,db}/*", "/cron"]);
    assert_eq!(t.subtree.excludes(), ["*.tmp"]);
    assert_eq!(t.dest.to_string(), "srv/all");
    assert_eq!((t.uid, t.gid, t.mode, t.dir_mode), (0, 0, 0o440, 0o750));
    assert_eq!(t.data_name.as_str(), "data");
    assert_eq!(t.on_disconnect, OnDisconnect::Stale);
    assert_eq!(
        (bare.subtree.root().as_str(), bare.subtree.depth()),
        ("/", None)
    );
    assert!(bare.subtree.includes().is_empty() && bare.subtree.excludes().is_empty());
    assert_eq!(bare.dest.to_string(), "bare");
    assert_eq!(
        (bare.uid, bare.gid, bare.mode, bare.dir_mode),
        (12, 34, 0o444, 0o555)
    );
    assert_eq!(bare.data_name.as_str(), "_data_");
    assert_eq!(bare.on_disconnect, OnDisconnect::Error);
    assert_eq!(bare.max_stale.as_secs(), 120);
}

#[test]
fn wrong_trees() {
    let cases: &[(&str, &[&str])] = &[
        ("depth = 0", &[]),
        ("include = ,", &[]),
        ("include =", &[]),
        (
            "depth = -1",
            &[
                "depth: \"-1\" is no depth; write 0 for the root alone, 1 for its children too, and so on, or leave it out for all",
            ],
        ),
        (
            "depth = x",
            &[
                "depth: \"x\" is no depth; write 0 for the root alone, 1 for its children too, and so on, or leave it out for all",
            ],
        ),
        (
            "depth = 4294967296",
            &[
                "depth: \"4294967296\" is no depth; write 0 for the root alone, 1 for its children too, and so on, or leave it out for all",
            ],
        ),
        (
            "include = a, [",
            &["include: \"[\" is no pattern: unclosed character class; missing ']'"],
        ),
        (
            "exclude = /",
            &[
                "exclude: \"/\" is no pattern; write the name of a znode, or a path below the source",
            ],
        ),
        (
            "data_name = a/b",
            &[
                "data_name: \"a/b\" is no name of a file; write one of at most 255 bytes, without slashes",
            ],
        ),
        (
            "data_name = ..",
            &[
                "data_name: \"..\" is no name of a file; write one of at most 255 bytes, without slashes",
            ],
        ),
        (
            "dir_mode = rwx",
            &["dir_mode: \"rwx\" is not an octal mode; write 0440, for example"],
        ),
        (
            "dest = a/../..",
            &["dest: \"a/../..\" leaves the mount by \"..\"; write a path below it"],
        ),
        (
            "dest = /mnt/live/",
            &["dest: \"/mnt/live/\" is the mount itself; write a path below it"],
        ),
        (
            "dest = /",
            &["dest: \"/\" is the mount itself; write a path below it"],
        ),
        (
            "dest = .livedata/x",
            &[
                "dest: \".livedata/x\" begins with \".livedata\", which the mount keeps for itself; choose another name",
            ],
        ),
    ];
    for (line, expected) in cases {
        let text = format!("zookeeper.hosts = zk01\ntrees.t.source = /t\ntrees.t.{line}\n");
        let expected: Vec<_> = match expected {
            [] => vec!["tree t t".to_owned()],
            wrong => wrong
                .iter()
                .map(|wrong| format!("error: live.ini:3: trees.t.{wrong}"))
                .collect(),
        };
        assert_eq!(messages(&text), expected, "{line}");
    }
    check_all(&[
        (
            "trees.t.source = /a/../b",
            &[
                "error: live.ini:3: trees.t.source: `/a/../b` has the component `..`; write the path out",
            ],
        ),
        (
            "trees.t.depth = 1",
            &[
                "error: live.ini:3: trees.t.source: missing; write trees.t.source = /path/of/a/znode",
            ],
        ),
        (
            "trees.a.b.source = /t",
            &[
                "error: live.ini:3: trees.a.b.source: a name has no dot, so this is left out; write trees.a-b.source",
            ],
        ),
        (
            // A tree shows what is there.
            "trees.t.source = /t\ntrees.t.on_delete = keep\ntrees.t.exlude = a",
            &[
                "tree t t",
                "warning: live.ini:4: trees.t.on_delete: unknown key; ignored",
                "warning: live.ini:5: trees.t.exlude: unknown key; did you mean trees.t.exclude?",
            ],
        ),
        (
            "trees.t.source = /t\ntrees.t.max_stale = 5 minutes",
            &[
                "tree t t",
                "warning: live.ini:4: trees.t.max_stale: has no effect without on_disconnect = error",
            ],
        ),
    ]);
}

#[test]
fn a_tree_has_its_place_for_itself() {
    check_all(&[
        (
            "trees.t.source = /t\nnodes.t.source = /t\nnodes.a.source = /a\nnodes.a.dest = t/x/a",
            &[
                "tree t t",
                "error: live.ini:4: nodes.t.dest: trees.t (line 3) has the tree \"t\" already; write another path",
                "error: live.ini:6: nodes.a.dest: \"t\" is a tree, of trees.t (line 3), which has all below it for itself; write another path",
            ],
        ),
        (
            "nodes.a.source = /a\nnodes.a.dest = x/y/a\ntrees.t.source = /t\ntrees.t.dest = x\ntrees.u.source = /t\ntrees.u.dest = x/y/a/u\ntrees.v.source = /t\ntrees.v.dest = x/y/a",
            &[
                "node a x/y/a",
                "error: live.ini:6: trees.t.dest: \"x\" is a directory, for nodes.a (line 3); write another path",
                "error: live.ini:8: trees.u.dest: \"x/y/a\" is a file, of nodes.a (line 3), and cannot be a directory too; write another path",
                "error: live.ini:10: trees.v.dest: nodes.a (line 3) has the file \"x/y/a\" already; write another path",
            ],
        ),
        (
            "trees.t.source = /t\ntrees.t.dest = x/y\ntrees.u.source = /t\ntrees.u.dest = x\ntrees.v.source = /t\ntrees.v.dest = x/y/z\ntrees.w.source = /t\ntrees.w.dest = x/w\nnodes.a.source = /t\nnodes.a.dest = x/a",
            &[
                "node a x/a",
                "tree t x/y",
                "tree w x/w",
                "error: live.ini:6: trees.u.dest: \"x\" is a directory, for trees.t (line 3); write another path",
                "error: live.ini:8: trees.v.dest: \"x/y\" is a tree, of trees.t (line 3), which has all below it for itself; write another path",
            ],
        ),
        (
            // What was left out has no place.
            "trees.t.source = /t\ntrees.t.depth = x\nnodes.t.source = /t",
            &[
                "node t t",
                "error: live.ini:4: trees.t.depth: \"x\" is no depth; write 0 for the root alone, 1 for its children too, and so on, or leave it out for all",
            ],
        ),
    ]);
}

#[test]
fn trees_of_dropins() {
    let main = parse("zookeeper.hosts = zk01\ntrees.t.source = /t\nnodes.n.source = /n").unwrap();
    let mut dropins = Dropins::new("d".into());
    let mut take = |name: &str, text: &str| {
        dropins.take(name, text.as_bytes(), &main.defaults, &SURROUNDINGS);
        joined(&main, &dropins)
    };
    assert_eq!(
        take(
            "1.ini",
            "nodes.a.source = /a\nnodes.a.dest = t/a\n[trees.t]\nsource = /x\ndest = x\n[trees.n]\nsource = /x\n[trees.u]\nsource = /u\n[nodes.t]\nsource = /x\ndest = y\n"
        ),
        [
            "n n",
            "t y",
            "tree t t",
            "tree u u",
            "d/1.ini:1: nodes.a.dest: \"t\" is a tree, of trees.t (live.ini:2), which has all below it for itself; write another path",
            "d/1.ini:4: trees.t: live.ini:2 has a tree of this name already; choose another name",
            "d/1.ini:7: trees.n.dest: nodes.n (live.ini:3) has the file \"n\" already; write another path",
        ]
    );
    // Between drop-ins it is their order, within one the order of lines: a tree may come first.
    assert_eq!(
        take(
            "0.ini",
            "trees.z.source = /z\ntrees.z.dest = u\nnodes.z.source = /z\nnodes.z.dest = u/z"
        )[2..5],
        [
            "tree t t",
            "tree z u",
            "d/0.ini:4: nodes.z.dest: \"u\" is a tree, of trees.z (line 1), which has all below it for itself; write another path"
        ]
    );
    let config = dropins.join(&main);
    let listed: Vec<_> = config.dropins.iter().map(|listed| listed.json()).collect();
    assert_eq!(
        (&listed[0]["nodes"], &listed[0]["trees"]),
        (&0.into(), &1.into())
    );
    assert!(check::table(&config).contains("\ndrop-in d/0.ini: 0 nodes, 1 trees\n"));
    // A wrong one keeps its trees, and other defaults concern them.
    dropins.take("0.ini", b"x", &main.defaults, &SURROUNDINGS);
    let other = parse("zookeeper.hosts = zk01\ndefaults.mode = 0444").unwrap();
    dropins.set_defaults(&other.defaults, &SURROUNDINGS);
    let trees = dropins.join(&other).trees;
    assert_eq!((&*trees[0].name, trees[0].mode), ("z", 0o444));
    dropins.remove("0.ini");
    assert!(
        dropins
            .join(&main)
            .trees
            .iter()
            .all(|tree| tree.name != "z")
    );
}

#[test]
fn check_shows_trees() {
    let config = parse(
        "zookeeper.hosts = zk01
trees.t.source = /services
trees.t.owner = root
trees.t.group = 424242
trees.t.depth = 2
trees.t.include = web,{a,b}/*
trees.all.source = /
trees.all.dest = d/all
trees.all.owner = 424242
trees.all.group = 0
trees.all.mode = 0444
",
    )
    .unwrap();
    assert_eq!(
        check::table(&config),
        "\
ZooKeeper zk01:2181, session timeout 5s
TREE  ZNODE      DIRECTORY  OWNER        MODE  DIRS  DEPTH  INCLUDE      EXCLUDE
t     /services  t          root:424242  0400  0555  2      web,{a,b}/*  -
all   /          d/all      424242:root  0444  0555  all    -            -
"
    );
    assert_eq!(
        check::json(&config)["trees"][0],
        serde_json::json!({
            "name": "t", "source": "/services", "dest": "t", "depth": 2,
            "include": ["web", "{a,b}/*"], "exclude": [], "uid": 0, "gid": 424_242,
            "mode": "0400", "dir_mode": "0555", "data_name": "_data_",
            "on_disconnect": "stale", "max_stale_ms": 3_600_000, "hooks": [],
        })
    );
    assert_eq!(
        check::json(&config)["trees"][1]["depth"],
        serde_json::Value::Null
    );
}

#[test]
fn a_drop_in_waits_for_a_user_database_that_fails() {
    let main = parse("zookeeper.hosts = zk01").unwrap();
    let works = SURROUNDINGS;
    let fails = Surroundings {
        user: &|_| Err(std::io::ErrorKind::Interrupted.into()),
        ..SURROUNDINGS
    };
    let nodes = |dropins: &Dropins| -> Vec<(String, u32)> {
        let nodes = dropins.join(&main).nodes.into_iter();
        nodes.map(|node| (node.name, node.uid)).collect()
    };
    let expected = |nodes: &[(&str, u32)]| -> Vec<(String, u32)> {
        let nodes = nodes.iter();
        nodes.map(|(name, uid)| ((*name).into(), *uid)).collect()
    };
    let before = "nodes.a.source = /a\nnodes.a.owner = root\nnodes.b.source = /b";
    let after = format!("{before}\nnodes.c.source = /c\nnodes.c.owner = 7");
    let mut dropins = Dropins::new("mount.d".into());
    // What is certain is there at once.
    let taken = dropins.take("x.ini", before.as_bytes(), &main.defaults, &fails);
    assert_eq!(taken, Taken::ForNow);
    assert_eq!(nodes(&dropins), expected(&[("b", 1234)]));
    let taken = dropins.take("x.ini", before.as_bytes(), &main.defaults, &works);
    assert_eq!(taken, Taken::Finally);
    assert_eq!(nodes(&dropins), expected(&[("a", 0), ("b", 1234)]));
    // Then it keeps what it has.
    let taken = dropins.take("x.ini", after.as_bytes(), &main.defaults, &fails);
    assert_eq!(taken, Taken::ForNow);
    dropins.set_defaults(&main.defaults, &fails);
    assert_eq!(nodes(&dropins), expected(&[("a", 0), ("b", 1234)]));
    let error = dropins.join(&main).dropins[0].error.clone().unwrap();
    assert!(
        error.contains("cannot look up the user \"root\""),
        "{error}"
    );
    let taken = dropins.take("x.ini", after.as_bytes(), &main.defaults, &works);
    assert_eq!(taken, Taken::Finally);
    let all = expected(&[("a", 0), ("b", 1234), ("c", 7)]);
    assert_eq!(nodes(&dropins), all);
    assert_eq!(dropins.join(&main).problems, []);
    // That there is no such user is certain.
    let wrong = after.replace("root", "nobody-of-this-name");
    let taken = dropins.take("x.ini", wrong.as_bytes(), &main.defaults, &works);
    assert_eq!(taken, Taken::Finally);
    assert_eq!(nodes(&dropins), expected(&[("b", 1234), ("c", 7)]));
}

#[test]
fn files_that_cannot_be_read() {
    let error = Config::load(Path::new("/nowhere/live.ini"), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the configuration /nowhere/live.ini"
    );
    assert!(std::error::Error::source(&error).is_some());
    let directory = tempfile::tempdir().unwrap();
    assert!(Config::load(directory.path(), None).is_err());
}

#[test]
fn a_file_is_loaded_for_the_user_who_mounts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("live.ini");
    std::fs::write(
        &file,
        "zookeeper.hosts = zk01\nnodes.a.source = /a\nlog.file = a.log\n",
    )
    .unwrap();
    let config = Config::load(&file, Some(directory.path())).unwrap();
    assert_eq!(config.nodes[0].uid, nix::unistd::Uid::effective().as_raw());
    assert_eq!(config.log.file, Some(directory.path().join("a.log")));
}

#[test]
fn messages_stay_on_one_line() {
    let found = messages("zookeeper.hosts = zk01\nb\u{1b}\u{b}d = 1\nnodes.\u{7f}.source = a\n b");
    assert_eq!(
        found,
        [
            "warning: live.ini:2: b\\u{1b}\\u{b}d: unknown key; ignored",
            "error: live.ini:3: nodes.\\u{7f}.source: `/a\\nb` has the character '\\n', which a path cannot have",
        ]
    );
}

#[test]
fn check_shows_what_was_understood() {
    let config = parse(
        "zookeeper.hosts = zk01,zk02/base
zookeeper.credentials = secret/zk
nodes.a.source = /a
nodes.a.dest = dir/a.json
nodes.a.owner = root
nodes.a.group = 424242
nodes.a.mode = 0440
nodes.longer.source = /b
nodes.longer.owner = 424242
nodes.longer.group = 0
nodes.longer.on_delete = keep
nodes.longer.required = on
zookeeper.host = x
",
    )
    .unwrap();
    assert_eq!(
        check::table(&config),
        "\
ZooKeeper zk01:2181,zk02:2181/base, session timeout 5s, credentials secret/zk
NODE    ZNODE  FILE        OWNER        MODE
a       /a     dir/a.json  root:424242  0440
longer  /b     longer      424242:root  0400
warning: live.ini:13: zookeeper.host: unknown key; did you mean zookeeper.hosts?
"
    );
    assert_eq!(
        check::json(&config),
        serde_json::json!({
            "file": "live.ini",
            "zookeeper": {
                "hosts": ["zk01:2181", "zk02:2181"],
                "chroot": "/base",
                "timeout_ms": 5000,
                "credentials": ["secret/zk"],
                "tls": null,
                "sasl_mechanism": null,
                "read_only": false,
            },
            "heartbeat_interval_ms": 300_000,
            "cache_dir": null,
            "cache_max_bytes": 268_435_456,
            "nodes": [
                {
                    "name": "a", "source": "/a", "dest": "dir/a.json", "uid": 0, "gid": 424_242,
                    "mode": "0440", "on_delete": "remove",
                    "on_disconnect": "stale", "max_stale_ms": 3_600_000, "required": false, "hooks": [],
                },
                {
                    "name": "longer", "source": "/b", "dest": "longer", "uid": 424_242, "gid": 0,
                    "mode": "0400", "on_delete": "keep",
                    "on_disconnect": "stale", "max_stale_ms": 3_600_000, "required": true, "hooks": [],
                },
            ],
            "dropins": [],
            "trees": [],
            "hooks": [],
            "hooks_max_parallel": 16,
            "hooks_on_unmount": "kill",
            "warnings": [{
                "severity": "warning",
                "file": "live.ini",
                "line": 13,
                "key": "zookeeper.host",
                "message": "unknown key; did you mean zookeeper.hosts?",
            }],
        })
    );
    assert_eq!(
        check::table(&parse("zookeeper.hosts = zk01").unwrap()),
        "ZooKeeper zk01:2181, session timeout 5s\nno nodes\n"
    );
}

fn dropin(text: &[u8]) -> Result<Dropin, Error> {
    let defaults = parse("zookeeper.hosts = zk01\ndefaults.mode = 0444")
        .expect("the defaults are right")
        .defaults;
    parse_dropin(Path::new("d.ini"), text, &defaults, &SURROUNDINGS)
}

#[test]
fn dropins_hold_nodes_only() {
    let a = dropin(b"nodes.a.source = /a\nnodes.a.moed = 1\n").unwrap();
    assert_eq!((a.nodes[0].uid, a.nodes[0].mode), (1234, 0o444));
    assert_eq!(
        a.problems[0].to_string(),
        "d.ini:2: nodes.a.moed: unknown key; did you mean nodes.a.mode?"
    );
    assert_eq!(
        dropin(b"nodes.a.source = /a\nzookeeper.hosts = evil\n")
            .unwrap_err()
            .to_string(),
        "d.ini:2: zookeeper.hosts: a drop-in holds nodes, trees and hooks only; write it in the main file"
    );
    assert_eq!(dropin(b"").unwrap(), Dropin::default());
}

/// What a main file and drop-ins are together: the nodes with their dests, then what is wrong.
fn joined(main: &Config, dropins: &Dropins) -> Vec<String> {
    let config = dropins.join(main);
    let nodes = config.nodes.iter();
    let nodes = nodes.map(|node| format!("{} {}", node.name, node.dest));
    let trees = config.trees.iter();
    let trees = trees.map(|tree| format!("tree {} {}", tree.name, tree.dest));
    nodes
        .chain(trees)
        .chain(config.problems.iter().map(ToString::to_string))
        .collect()
}

#[test]
fn the_first_dropin_wins() {
    let main = parse("zookeeper.hosts = zk01\nnodes.a.source = /a\nnodes.b.source = /b").unwrap();
    let mut dropins = Dropins::new("d".into());
    let mut take = |name: &str, text: &str| {
        dropins.take(name, text.as_bytes(), &main.defaults, &SURROUNDINGS);
        joined(&main, &dropins)
    };
    take(
        "2.ini",
        "nodes.y.source = /y\nnodes.y.dest = x\nnodes.v.source = /v",
    );
    assert_eq!(
        take("1.ini", "\nnodes.x.source = /x"),
        [
            "a a",
            "b b",
            "x x",
            "v v",
            "d/2.ini:1: nodes.y.dest: nodes.x (d/1.ini:2) has the file \"x\" already; write another path",
        ]
    );
    // The main file comes first; and a name is one node.
    assert_eq!(
        take(
            "1.ini",
            "nodes.a.source = /x\nnodes.a.dest = q\nnodes.u.source = /u\nnodes.u.dest = b/u"
        ),
        [
            "a a",
            "b b",
            "y x",
            "v v",
            "d/1.ini:1: nodes.a: live.ini:2 has a node of this name already; choose another name",
            "d/1.ini:3: nodes.u.dest: \"b\" is a file, of nodes.b (live.ini:3), and cannot be a directory too; write another path",
        ]
    );
    let listed: Vec<_> = dropins
        .join(&main)
        .dropins
        .iter()
        .map(|listed| listed.json())
        .collect();
    assert_eq!(listed[0]["nodes"], 0);
    let error = listed[0]["error"].as_str().unwrap();
    assert!(
        error.ends_with("choose another name (and 1 more)"),
        "{error}"
    );
    assert_eq!(
        listed[1],
        serde_json::json!({"file": "d/2.ini", "nodes": 2, "trees": 0, "hooks": 0, "error": null})
    );
    dropins.remove("1.ini");
    assert_eq!(joined(&main, &dropins), ["a a", "b b", "y x", "v v"]);
}

#[test]
fn a_wrong_dropin_keeps_its_last_definition() {
    let main = parse("zookeeper.hosts = zk01").unwrap();
    let mut dropins = Dropins::new("d".into());
    let take = |dropins: &mut Dropins, text: &[u8]| {
        dropins.take("1.ini", text, &main.defaults, &SURROUNDINGS);
        joined(&main, dropins)
    };
    let wrong = take(&mut dropins, b"\xff");
    assert_eq!(wrong.len(), 1);
    assert!(dropins.texts().is_empty());
    assert_eq!(take(&mut dropins, b"nodes.a.source = /a"), ["a a"]);
    assert_eq!(
        take(&mut dropins, b"zookeeper.hosts = evil"),
        [
            "a a",
            "d/1.ini:1: zookeeper.hosts: a drop-in holds nodes, trees and hooks only; write it in the main file",
        ]
    );
    dropins.refuse("1.ini", "refused".into());
    assert_eq!(joined(&main, &dropins), ["a a", "d/1.ini: refused"]);
    assert_eq!(dropins.text("1.ini"), Some("nodes.a.source = /a"));
    // Other defaults concern it too, though it is wrong now.
    let other = parse("zookeeper.hosts = zk01\ndefaults.mode = 0444").unwrap();
    dropins.set_defaults(&other.defaults, &SURROUNDINGS);
    assert_eq!(dropins.join(&other).nodes[0].mode, 0o444);
    assert_eq!(take(&mut dropins, b"trees.t.source = /t"), ["tree t t"]);
    assert_eq!(take(&mut dropins, b""), [""; 0]);
}

#[test]
fn names_of_dropins() {
    for name in ["a.ini", "10-b.c.ini", "a b.ini"] {
        assert!(is_dropin(name), "{name}");
    }
    for name in [
        ".a.ini",
        ".ini",
        ".a.ini.swp",
        "#a.ini#",
        "a.ini~",
        "4913",
        "a.INI",
        "a",
    ] {
        assert!(!is_dropin(name), "{name}");
    }
}

#[test]
fn the_example_dropin_is_right() {
    let example = dropin(include_bytes!("../../mount.d/example.ini")).unwrap();
    assert_eq!(example.problems, []);
    let found: Vec<_> = example
        .nodes
        .iter()
        .map(|node| {
            format!(
                "{} {} {} {:04o}",
                node.name, node.source, node.dest, node.mode
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "flags /myapp/flags myapp/flags.json 0444",
            "limits /myapp/limits myapp/limits.json 0440",
            "endpoints /services/${LIVEDATA_REGION}/endpoints myapp/endpoints.json 0444",
        ]
    );
    assert!(example.nodes[2].required);
    let [tree] = &example.trees[..] else {
        panic!("{:?}", example.trees)
    };
    assert_eq!(tree.subtree.root().as_str(), "/services");
    assert_eq!(tree.dest.to_string(), "services");
    assert_eq!(tree.subtree.depth(), Some(2));
    assert_eq!(tree.subtree.excludes(), ["*.tmp", "locks"]);
}

proptest! {
    /// Whatever is written, there is an answer, and it is made of single lines.
    #[test]
    fn no_file_panics(
        lines in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    "", "[live-data]", "[DEFAULT]", "[nodes.a]", "[nodes.b", "[x]", "nodes.a.source",
                    "nodes.a.dest", "nodes.b.source", "nodes.b.dest", "nodes.c.mode", "source",
                    "mode", "nodes..", "nodes.a", "zookeeper.hosts", "zookeeper.timeout", "mount.",
                    "nodes.a.b.c", "log.file", "trees.a.source", "trees.a.dest", "[trees.b]", "trees.a.include",
                    "trees.a.exclude", "trees.a.depth", "trees.a.data_name", "nodes.a.hooks", "trees.a.hooks",
                    "hooks.a.command", "[hooks.b]", "command", "hooks.a.user", "hooks.a.ok_codes", "hooks.a.retries",
                    "hooks.a.notify_signal", "hooks.max_parallel", "\u{e4}", "\0", "  ", "#",
                ]),
                "[ =:]{0,2}",
                "[a/.,:*0-9$\\{\\} \\[\\]\"\\\\\u{e4}\t-]{0,6}",
            ),
            0..8,
        ),
        end in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut text: Vec<u8> = b"zookeeper.hosts = zk01\n".to_vec();
        for (key, separator, value) in lines {
            text.extend(format!("{key}{separator}{value}\n").bytes());
        }
        text.extend(end);
        // The name of a file may have a line break, by a continuation line.
        let said = messages(&text).into_iter().filter(|text| !text.starts_with("node ") && !text.starts_with("tree "));
        for message in said {
            prop_assert!(!message.contains(|c: char| c.is_control()), "{:?}", message);
        }
        if let Ok(config) = parse(&text) {
            let joined = Dropins::new("d".into()).join(&config);
            check::table(&joined);
            check::json(&joined);
        }
        let _ = dropin(&text);
    }
}
