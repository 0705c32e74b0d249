//! `check`, and the usage of the commands.

use std::fs;

use serde_json::{Value, json};

use crate::support::place::{Place, run};

const CONFIG: &str = "\
[live-data]
zookeeper.hosts = zk1:2181,zk2:2182/root
zookeeper.credentials = secret/zk
nodes.web.source = /web/config
nodes.web.dest = web/config.json
nodes.web.owner = 12
nodes.web.group = 34
nodes.web.mode = 0440
nodes.b.source = /b
";

#[test]
fn check_prints_a_table_and_asks_nobody() {
    let place = Place::new(CONFIG);
    let ran = place.run(&["check", "--strict", "config.ini"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let rows: Vec<Vec<_>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        ran.stdout.lines().next(),
        Some("ZooKeeper zk1:2181,zk2:2182/root, session timeout 5s, credentials secret/zk")
    );
    assert_eq!(rows[1], ["NODE", "ZNODE", "FILE", "OWNER", "MODE"]);
    assert_eq!(
        (&rows[2][..3], rows[2][4]),
        (&["web", "/web/config", "web/config.json"][..], "0440")
    );
    assert_eq!(rows[3], ["b", "/b", "b", "root:root", "0400"]);
    assert_eq!(rows.len(), 4);
}

#[test]
fn check_prints_json_for_programs() {
    let place = Place::new(&format!("{CONFIG}nodes.b.ownr = x\n"));
    let ran = place.run(&["check", "--json", "config.ini"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["zookeeper"]["hosts"], json!(["zk1:2181", "zk2:2182"]));
    let web = json!({
        "name": "web", "source": "/web/config", "dest": "web/config.json",
        "uid": 12, "gid": 34, "mode": "0440", "on_delete": "remove",
        "on_disconnect": "stale", "max_stale_ms": 3_600_000, "required": false, "hooks": [],
    });
    assert_eq!(json["nodes"][0], web);
    assert_eq!(json["nodes"].as_array().unwrap().len(), 2);
    assert_eq!((&json["trees"], &json["hooks"]), (&json!([]), &json!([])));
    let warning = &json["warnings"][0];
    assert_eq!(warning["severity"], "warning");
    assert_eq!(warning["file"], "config.ini");
    assert_eq!(
        (&warning["line"], &warning["key"]),
        (&json!(10), &json!("nodes.b.ownr"))
    );
}

#[test]
fn check_fails_on_a_warning_with_strict_only() {
    let place = Place::new(&format!("{CONFIG}nodes.b.ownr = x\n"));
    let ran = place.run(&["check", "config.ini"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(
        ran.stdout
            .contains("\nwarning: config.ini:10: nodes.b.ownr: "),
        "{ran:?}"
    );
    for arguments in [
        &["check", "--strict", "config.ini"][..],
        &["check", "--strict", "--json", "config.ini"],
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    }
}

#[test]
fn check_reads_drop_ins() {
    let place = Place::new(CONFIG);
    let dir = place.path("mount.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("1.ini"), "nodes.one.source = /one\n").unwrap();
    let ran = place.run(&["check", "--strict", "config.ini"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains("\none "), "{ran:?}");
    assert!(
        ran.stdout.ends_with("\ndrop-in mount.d/1.ini: 1 nodes\n"),
        "{ran:?}"
    );
    fs::write(
        dir.join("2.ini"),
        "nodes.two.source = /two\nnodes.two.dest = one\n",
    )
    .unwrap();
    fs::write(dir.join("3.ini"), "no INI at all").unwrap();
    let ran = place.run(&["check", "--json", "config.ini"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["nodes"][2]["name"], "one");
    assert_eq!(json["dropins"][0]["error"], Value::Null);
    assert_eq!(json["dropins"][1]["nodes"], 0);
    assert_eq!(json["warnings"][0]["file"], "mount.d/2.ini");
    assert_eq!(json["warnings"][1]["file"], "mount.d/3.ini");
    // It fails with --strict, and so does a mount.
    assert_eq!(
        place.run(&["check", "--strict", "config.ini"]).code,
        Some(1)
    );
    let ran = place.mount(&["--strict"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("2.ini:1: nodes.two.dest"), "{ran:?}");
    // A directory that is asked for must be there.
    place.configure(&format!("{CONFIG}mount.dropin_dir = elsewhere\n"));
    let ran = place.run(&["check", "config.ini"]);
    let line = "warning: elsewhere: mount.dropin_dir: there is no such directory yet\n";
    assert!(ran.stdout.ends_with(line), "{ran:?}");
}

#[test]
fn check_does_not_mind_a_reader_that_goes_away() {
    let place = Place::new(CONFIG);
    let mut command = place.command("sh");
    command.args([
        "-c",
        r#"{ "$0" check config.ini; echo "exit $?" >&2; } | true"#,
    ]);
    let ran = run(command.arg(place.program()));
    assert_eq!(ran.stderr, "exit 0\n");
}

#[test]
fn wrong_usage_is_exit_2_and_one_line() {
    let place = Place::new(CONFIG);
    for (arguments, what) in [
        (&["mount"][..], "<CONFIG> <MOUNTPOINT>"),
        (&["mount", "config.ini"], "<MOUNTPOINT>"),
        (&["mount", "config.ini", "mnt", "more"], "'more'"),
        (&["mount", "--wat", "config.ini", "mnt"], "'--wait'"),
        (
            &["mount", "--wait", "fast", "config.ini", "mnt"],
            "`fast` is no time; write 15s",
        ),
        (&["mount", "--wait", "-1", "config.ini", "mnt"], "-1"),
        (
            &[
                "mount",
                "--wait",
                "99999999999999999999s",
                "config.ini",
                "mnt",
            ],
            "is no time",
        ),
        (&["umount"], "<MOUNTPOINT>"),
        (&["check"], "<CONFIG>"),
        (&["check", "--jsn", "config.ini"], "'--json'"),
        (&["mont", "config.ini", "mnt"], "'mount'"),
    ] {
        let ran = place.run(arguments);
        ran.failed(2, what);
        ran.says("--help");
        place.assert_gone();
    }
    let ran = place.run(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(
        ran.stderr.contains("Usage: livedata-fuse <COMMAND>"),
        "{ran:?}"
    );
}

#[test]
fn help_and_version() {
    let place = Place::new("");
    let ran = place.run(&["--version"]);
    let version = concat!("livedata-fuse ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(ran.stdout, version);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let ran = place.run(&["--help"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let begins_with_an_example = |help: &str| {
        let (before, _) = help.split_once("Usage: ").unwrap();
        before
            .lines()
            .any(|line| line.starts_with("  livedata-fuse "))
    };
    assert!(begins_with_an_example(&ran.stdout));
    for command in ["mount", "umount", "check", "status"] {
        assert!(ran.stdout.contains(&format!("\n  {command} ")), "{ran:?}");
        let ran = place.run(&[command, "--help"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let usage = format!("Usage: livedata-fuse {command}");
        assert!(ran.stdout.contains(&usage), "{ran:?}");
        assert!(begins_with_an_example(&ran.stdout), "{ran:?}");
        assert!(!ran.stdout.contains("--in-background"), "hidden: {ran:?}");
    }
    assert!(!ran.stdout.contains("probe"), "hidden: {ran:?}");
}

#[test]
fn check_works_where_nothing_can_be_written() {
    let place = Place::new(CONFIG);
    let before = fs::read_dir(place.dir()).unwrap().count();
    assert_eq!(place.run(&["check", "config.ini"]).code, Some(0));
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), before);
}
