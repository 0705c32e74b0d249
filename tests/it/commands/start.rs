//! `mount` in the background, until it is ready or not.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{config, place, silent_server};
use crate::support::place::{Place, SOON, run};
use crate::support::process;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

#[test]
fn mount_returns_when_every_file_is_there() {
    let sandbox = Sandbox::new("background");
    sandbox
        .admin
        .create_many([("/a", "1"), ("/b", "2"), ("/c", "3")]);
    let more = "nodes.b.source = /b\nnodes.b.dest = sub/b\nnodes.c.source = /c\n";
    let place = Place::new(&config(&sandbox.hosts(), more));
    // The caller has a file open that it passes on, as shells do.
    let mut command = place.command("sh");
    command
        .args(["-c", r#"exec 7>passed-on; exec "$0" "$@""#])
        .arg(place.program())
        .args(["mount", "config.ini", "mnt"]);
    let ran = run(&mut command);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let root = place.root();
    let line = format!("{}: 3 files of 3 nodes, ready\n", root.display());
    assert_eq!(ran.stdout, line);
    assert_eq!(place.read("a.json").as_deref(), Some("1"));
    assert_eq!(place.read("sub/b").as_deref(), Some("2"));
    assert_eq!(place.read("c").as_deref(), Some("3"));

    // Nothing ties it to its caller.
    let daemon = place.daemon();
    assert_eq!(rustix::process::getsid(Some(daemon)), Ok(daemon));
    let log = place.path("log");
    let processes = place.processes();
    assert_eq!(processes.len(), 3, "the keeper, the server, the publisher");
    for pid in processes {
        let proc = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        assert_eq!(rustix::process::getsid(Some(pid)), Ok(daemon));
        assert_eq!(fs::read_link(proc.join("cwd")).unwrap().as_os_str(), "/");
        let target = |n: &str| fs::read_link(proc.join("fd").join(n)).unwrap_or_default();
        wait_until(
            SOON,
            "stdin, stdout and stderr are not the caller's",
            || {
                // A publisher hears the server on its stdin.
                let stdin = target("0");
                (stdin == Path::new("/dev/null") || stdin.to_string_lossy().starts_with("socket:"))
                    && ["1", "2"]
                        .map(target)
                        .iter()
                        .all(|target| target == Path::new("/dev/null"))
            },
        );
        let open: Vec<_> = fs::read_dir(proc.join("fd"))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .collect();
        assert!(!open.contains(&place.path("passed-on")), "{open:?}");
        let is_pipe = |target: &PathBuf| target.to_string_lossy().starts_with("pipe:");
        assert!(!open.iter().any(is_pipe), "{open:?}");
        let below = |target: &&PathBuf| target.starts_with(place.dir()) && **target != log;
        let below: Vec<_> = open.iter().filter(below).collect();
        // The publisher works on the root of a mount that is nowhere.
        assert!(below.is_empty(), "{below:?}");
    }

    let ready = format!("INFO  {line}");
    wait_until(SOON, "the log says so too", || place.log().contains(&ready));
    assert_eq!(
        place.run(&["umount", "mnt"]),
        crate::support::place::Ran {
            code: Some(0),
            stdout: String::new(),
            stderr: String::new()
        }
    );
    place.wait_until_gone();
    assert!(
        place.log().trim_end().ends_with(": unmounted"),
        "{}",
        place.log()
    );
}

#[test]
fn foreground_prints_the_same_line() {
    let (_sandbox, place) = place("foreground");
    let mut child = place.start(&["mount", "-f", "config.ini", "mnt"]);
    let line = format!("{}: 1 files of 1 nodes, ready\n", place.root().display());
    wait_until(SOON, "the line", || {
        fs::read_to_string(place.path("stdout")).unwrap() == line
    });
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    place.assert_gone();
    assert_eq!(fs::read_to_string(place.path("stdout")).unwrap(), line);
}

#[test]
fn options_end_where_the_user_says() {
    let (_sandbox, place) = place("dashes");
    fs::create_dir(place.path("-f")).unwrap();
    let ran = place.run(&["mount", "--", "config.ini", "-f"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let ran = place.run(&["umount", "--", "-f"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    place.wait_until_gone();
}

#[test]
fn the_log_is_reopened_and_its_level_changes() {
    let (sandbox, place) = place("log");
    let daemon = place.mounted();
    fs::rename(place.path("log"), place.path("log.1")).unwrap();
    place.configure(&config(&sandbox.hosts(), "log.level = debug\n"));
    rustix::process::kill_process(daemon, Signal::HUP).unwrap();
    wait_until(SOON, "a new log", || place.path("log").exists());
    wait_until(SOON, "details in the new log", || {
        sandbox.admin.set("/a", "x");
        place.log().contains("DEBUG /a: version")
    });
    let old = fs::read_to_string(place.path("log.1")).unwrap();
    assert!(old.contains("reloaded: 1 nodes"), "{old}");
    assert!(!old.contains("DEBUG"), "{old}");
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    place.wait_until_gone();
}

/// A /dev of its own, with `log` only if the test makes it.
const OWN_DEV: &str = "mount -t tmpfs none /dev
    mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/urandom c 1 9
    ";

#[test]
fn without_a_log_file_it_goes_to_the_system_log() {
    let (_sandbox, place) = place("syslog");
    let text = fs::read_to_string(place.path("config.ini")).unwrap();
    place.configure(&text.replace("log.file = log\n", ""));
    let socket = UnixDatagram::bind(place.path("log.socket")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let link = format!("ln -s {} /dev/log", place.path("log.socket").display());
    let ran = place.in_namespace(&format!(
        "{OWN_DEV}{link}; $LIVEDATA mount config.ini mnt; $LIVEDATA umount mnt"
    ));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let mut buffer = [0; 1000];
    let n = socket.recv(&mut buffer).unwrap();
    let line = std::str::from_utf8(&buffer[..n]).unwrap();
    // Facility daemon, severity info.
    assert!(line.starts_with("<30>livedata-fuse["), "{line}");
    assert!(
        line.trim_end().ends_with("mnt: 1 files of 1 nodes, ready"),
        "{line}"
    );
    place.wait_until_gone();
}

#[test]
fn without_a_system_log_either_there_is_one_warning() {
    let (_sandbox, place) = place("no-syslog");
    let text = fs::read_to_string(place.path("config.ini")).unwrap();
    place.configure(&text.replace("log.file = log\n", ""));
    let ran = place.in_namespace(&format!(
        "{OWN_DEV}$LIVEDATA mount config.ini mnt; cat mnt/a.json; $LIVEDATA umount mnt"
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with(", ready\none"), "{ran:?}");
    ran.says("no system log at /dev/log");
    ran.says("set log.file");
    place.wait_until_gone();
}

#[test]
fn when_the_wait_is_over_it_is_ready_without_what_is_missing() {
    let (_listener, hosts) = silent_server();
    let place = Place::new(&config(&hosts, ""));
    let ran = place.mount(&["--wait", "300ms"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = format!("{}: 0 files of 1 nodes, ready\n", place.root().display());
    assert_eq!(ran.stdout, line);
    ran.says("warn: no file yet: a (/a: no answer from ZooKeeper yet)");
    assert!(place.is_mounted());
    assert_eq!(place.read("a.json"), None);
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    place.wait_until_gone();
}

#[test]
fn a_znode_that_does_not_exist_is_a_warning() {
    let (sandbox, place) = place("absent");
    let more = "nodes.b.source = /b\nnodes.b.dest = b\n";
    place.configure(&config(&sandbox.hosts(), more));
    let ran = place.mount(&[]);
    assert_eq!(ran.code, Some(0));
    ran.says("warn: no file yet: b (/b: the znode does not exist)");
    sandbox.admin.create("/b", "later");
    wait_until(SOON, "the file comes", || {
        place.read("b").as_deref() == Some("later")
    });
}

#[test]
fn a_long_list_of_what_is_missing_is_cut() {
    let sandbox = Sandbox::new("many-missing");
    let nodes: String = (0..30)
        .map(|n| format!("nodes.n{n}.source = /n{n}\nnodes.n{n}.required = true\n"))
        .collect();
    let place = Place::new(&format!(
        "[live-data]\nzookeeper.hosts = {}\n{nodes}",
        sandbox.hosts()
    ));
    let ran = place.mount(&["--wait", "100ms"]);
    ran.failed(1, "and 10 more");
    place.assert_gone();
}

#[test]
fn without_a_required_node_nothing_is_mounted() {
    let (sandbox, place) = place("required");
    let required = "nodes.b.source = /b\nnodes.b.required = true\n";
    place.configure(&config(&sandbox.hosts(), required));
    let what = "livedata-fuse: required nodes are missing, so nothing is mounted: \
                b (/b: the znode does not exist)\n";
    let ran = place.mount(&["--wait", "3s"]);
    ran.failed(1, what);
    place.assert_gone();
    // In the foreground the log is on stderr, too.
    let ran = place.mount(&["-f", "--wait", "3s"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.ends_with(what), "{ran:?}");
    place.assert_gone();
}

#[test]
fn a_required_node_may_come_within_the_wait() {
    let (sandbox, place) = place("appears");
    let required = "nodes.b.source = /b\nnodes.b.dest = b\nnodes.b.required = true\n";
    place.configure(&config(&sandbox.hosts(), required));
    let mut mounting = place.start(&["mount", "--debug", "config.ini", "mnt"]);
    let said = || fs::read_to_string(place.path("stderr")).unwrap();
    wait_until(SOON, "it waits for the node", || {
        said().contains("debug: /b: does not exist") && said().contains("debug: /a: version")
    });
    assert_eq!(mounting.try_wait().unwrap(), None);
    assert!(!place.is_mounted());
    sandbox.admin.create("/b", "here");
    let status = process::wait(&mut mounting, SOON).unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(place.read("b").as_deref(), Some("here"));
    assert!(!said().contains("warn: "), "{}", said());
}

#[test]
fn strict_takes_a_warning_for_an_error() {
    let (sandbox, place) = place("strict");
    place.configure(&config(&sandbox.hosts(), "nodes.a.ownr = root\n"));
    for arguments in [&["--strict"][..], &["--strict", "-f"]] {
        let ran = place.mount(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(
            ran.stderr.contains("config.ini:6: nodes.a.ownr: "),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("nothing is mounted"), "{ran:?}");
        place.assert_gone();
    }
    let ran = place.mount(&[]);
    assert_eq!(ran.code, Some(0));
    ran.says("config.ini:6: nodes.a.ownr: ");
}

#[test]
fn progress_is_for_terminals() {
    let (_listener, hosts) = silent_server();
    let place = Place::new(&config(&hosts, "nodes.b.source = /b\n"));
    for foreground in ["", "-f "] {
        // script(1) gives a terminal; the wait ends in a refusal, for a node is required.
        place.configure(&config(
            &hosts,
            "nodes.b.source = /b\nnodes.b.required = true\n",
        ));
        let line = format!(
            "{} mount {foreground}--wait 500ms config.ini mnt",
            place.program().display()
        );
        let mut command = place.command("script");
        command.args(["-qec", &line, "/dev/null"]);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains("0 of 2 nodes answered"), "{ran:?}");
        // The error is written over it.
        let error = "answered\rlivedata-fuse: required nodes";
        assert!(ran.stdout.contains(error), "{ran:?}");
        place.assert_gone();
        let arguments = [foreground.trim(), "--wait", "300ms"];
        let arguments = arguments.iter().filter(|word| !word.is_empty());
        let ran = place.mount(&arguments.copied().collect::<Vec<_>>());
        assert!(!ran.stderr.contains("answered"), "{ran:?}");
    }
}

#[test]
fn nobody_waits_any_more_so_nothing_is_mounted() {
    let (_listener, hosts) = silent_server();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let place = Place::new(&config(&hosts, ""));
        let mut waiting = place.start(&["mount", "--wait", "1m", "config.ini", "mnt"]);
        place.wait_until_loading();
        process::signal(&waiting, signal);
        let status = process::wait(&mut waiting, SOON).unwrap();
        assert_eq!(status.code(), None);
        place.wait_until_gone();
        assert_eq!(fs::read_to_string(place.path("stdout")).unwrap(), "");
    }
}

#[test]
fn the_wait_is_as_long_as_told() {
    let (_listener, hosts) = silent_server();
    let place = Place::new(&config(&hosts, "nodes.a.required = true\n"));
    let start = std::time::Instant::now();
    place
        .mount(&["--wait", "1s"])
        .failed(1, "required nodes are missing");
    assert!(start.elapsed() >= Duration::from_secs(1));
    place.assert_gone();
}
