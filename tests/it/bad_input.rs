//! What is wrong is said in one line, and nothing is left mounted.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::commands::{config, silent_server};
use crate::support::as_user::NOBODY;
use crate::support::place::{Place, Ran};
use crate::support::zookeeper::{Sandbox, free_address};

/// All commands that read the configuration say the same.
#[track_caller]
fn refused(place: &Place, what: &str) {
    for arguments in [
        &["mount", "config.ini", "mnt"][..],
        &["mount", "-f", "config.ini", "mnt"],
        &["check", "config.ini"],
        &["check", "--json", "config.ini"],
    ] {
        place.run(arguments).failed(1, what);
        place.assert_gone();
    }
}

/// A mount whose only node is required and does not come; the lines on stderr.
#[track_caller]
fn not_reached(config: &str, wait: &str) -> Vec<String> {
    let place = Place::new(&format!("{config}nodes.a.required = true\n"));
    let ran: Ran = place.mount(&["--wait", wait]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    place.assert_gone();
    let lines: Vec<_> = ran.stderr.lines().map(str::to_owned).collect();
    let last = lines.last().unwrap();
    assert!(
        last.starts_with(
            "livedata-fuse: required nodes are missing, so nothing is mounted: a (/a: "
        ),
        "{ran:?}"
    );
    let warnings = &lines[..lines.len() - 1];
    let all_ours = warnings
        .iter()
        .all(|line| line.starts_with("livedata-fuse: warn: ZooKeeper: "));
    assert!(all_ours, "{ran:?}");
    lines
}

#[test]
fn a_configuration_that_is_not_there() {
    let place = Place::new("");
    fs::remove_file(place.path("config.ini")).unwrap();
    refused(&place, "config.ini: No such file");
    fs::create_dir(place.path("config.ini")).unwrap();
    refused(&place, "config.ini: Is a directory");
}

#[test]
fn a_configuration_that_the_mount_would_hide() {
    let place = Place::new(&config("127.0.0.1:1", ""));
    fs::copy(place.path("config.ini"), place.path("mnt/config.ini")).unwrap();
    for arguments in [
        &["mount", "mnt/config.ini", "mnt"][..],
        &["mount", "-f", "mnt/config.ini", "mnt"],
    ] {
        place
            .run(arguments)
            .failed(1, "would be hidden by the mount");
        place.assert_gone();
    }
}

#[test]
fn a_configuration_that_is_not_for_us() {
    let place = Place::of_user(NOBODY, "");
    fs::set_permissions(place.path("config.ini"), Permissions::from_mode(0o0)).unwrap();
    refused(&place, "config.ini: Permission denied");
}

#[test]
fn a_configuration_that_is_no_ini() {
    let place = Place::new("");
    for (content, what) in [
        (&b"\xff\xfe[live-data]\n"[..], "UTF-8"),
        (
            b"\xef\xbb\xbf[live-data]\nzookeeper.hosts = a:1\n",
            "config.ini:1: ",
        ),
        (b"", "zookeeper.hosts"),
        (b"[live-data]\n", "zookeeper.hosts"),
        (
            b"[live-data]\nzookeeper.hosts =\n",
            "config.ini: zookeeper.hosts: missing",
        ),
        (
            b"[live-data]\nzookeeper.hosts = a:b\n",
            "config.ini:2: zookeeper.hosts: ",
        ),
        (
            b"[live-data]\nzookeeper.hosts = :2181\n",
            "config.ini:2: zookeeper.hosts: ",
        ),
        (
            b"[live-data]\nzookeeper.hosts = a:1\nzookeeper.timeout = soon\n",
            "config.ini:3: zookeeper.timeout: ",
        ),
        (
            b"[live-data]\nzookeeper.hosts = a:1\nzookeeper.timeout = -1 seconds\n",
            "config.ini:3: zookeeper.timeout: ",
        ),
        (
            b"[live-data]\nzookeeper.hosts = a:1\nzookeeper.hosts = b:1\n",
            "config.ini:3: ",
        ),
        (b"[live-data\nzookeeper.hosts = a:1\n", "config.ini:1: "),
        (b"\x7fELF\x02\x01\x01\0\0\0", "config.ini:1: "),
    ] {
        fs::write(place.path("config.ini"), content).unwrap();
        refused(&place, what);
    }
}

#[test]
fn zookeeper_refuses() {
    let address = free_address();
    let lines = not_reached(&config(&address.to_string(), ""), "3s");
    let why = format!("{address}: Connection refused");
    assert!(lines.iter().all(|line| line.contains(&why)), "{lines:?}");
}

#[test]
fn zookeeper_has_no_such_name() {
    let lines = not_reached(&config("no-such-host.invalid:2181", ""), "10s");
    assert!(
        lines
            .iter()
            .all(|line| line.contains("no-such-host.invalid:2181: ")),
        "{lines:?}"
    );
}

#[test]
fn zookeeper_is_silent() {
    let (_listener, hosts) = silent_server();
    let config = config(&hosts, "zookeeper.timeout = 500 milliseconds\n");
    let lines = not_reached(&config, "4s");
    let why = format!("{hosts}: accepts connections, but does not serve ZooKeeper");
    assert!(lines.iter().all(|line| line.contains(&why)), "{lines:?}");
}

#[test]
fn zookeeper_is_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let lines = not_reached(&config(&address.to_string(), ""), "4s");
    assert!(
        lines
            .iter()
            .all(|line| line.contains(&format!("{address}: "))),
        "{lines:?}"
    );
}

#[test]
fn secrets_that_cannot_be_had_are_said() {
    let sandbox = Sandbox::new("secrets");
    sandbox.admin.create("/a", "");
    let more = "secrets.path = secrets.json\nzookeeper.credentials = secret/zk\n";
    let config = config(&sandbox.hosts(), more);
    for (content, what) in [
        (None, "secrets.json; secrets.path names it: No such file"),
        (Some("{"), "secrets.json: "),
        (Some("{\"secrets\": {}}"), "secret/zk"),
    ] {
        let place = Place::new(&config);
        if let Some(content) = content {
            let file = place.path("secrets.json");
            fs::write(&file, content).unwrap();
            // Others could read it, of which there would be a line, too.
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        let ran = place.mount(&["--wait", "3s"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{ran:?}");
        assert!(
            lines[0].starts_with("livedata-fuse: warn: ZooKeeper: credentials: "),
            "{ran:?}"
        );
        assert!(
            lines[1].starts_with("livedata-fuse: warn: no file yet: a (/a: "),
            "{ran:?}"
        );
        assert!(lines.iter().all(|line| line.contains(what)), "{ran:?}");
        // Once they are there, so is the file.
        let secrets = r#"{"secrets": {"secret/zk": {"type": "simple", "value": "u:p"}}, "vault": {"token": "", "url": ""}}"#;
        fs::write(place.path("secrets.json"), secrets).unwrap();
        let arrived = || place.read("a.json").is_some();
        crate::support::wait::wait_until(crate::support::place::SOON, "the file", arrived);
    }
}

#[test]
fn an_unknown_option() {
    let sandbox = Sandbox::new("option");
    let place = Place::new(&config(&sandbox.hosts(), ""));
    for arguments in [&["-o", "ro,alow_other"][..], &["-f", "-o", "alow_other"]] {
        let ran = place.mount(arguments);
        ran.failed(
            1,
            "-o alow_other: unknown mount option; allow_other, noexec and fsname=NAME",
        );
        place.assert_gone();
    }
}

#[test]
fn no_dev_fuse() {
    let sandbox = Sandbox::new("no-fuse");
    let place = Place::new(&config(&sandbox.hosts(), ""));
    let dev =
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9";
    for arguments in ["", "-f"] {
        let ran = place.in_namespace(&format!(
            "{dev}; $LIVEDATA mount {arguments} config.ini mnt"
        ));
        ran.failed(1, "/dev/fuse: No such file or directory");
        ran.says("modprobe fuse");
        place.assert_gone();
    }
    // A device of the right name that nobody serves, and one that nobody may open.
    let ran = place.in_namespace(&format!(
        "{dev}; mknod /dev/fuse c 10 250; $LIVEDATA mount config.ini mnt"
    ));
    ran.failed(1, "/dev/fuse: No such device");
    fs::create_dir(place.path("other-dev")).unwrap();
    let ran = place.in_namespace(
        "mount -t tmpfs -o nodev none other-dev; mknod -m 666 other-dev/fuse c 10 229
         mount --bind other-dev/fuse /dev/fuse; $LIVEDATA mount config.ini mnt",
    );
    ran.failed(1, "/dev/fuse: Permission denied");
    ran.says("--device /dev/fuse");
    place.wait_until_gone();
}
