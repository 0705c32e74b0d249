//! The unit for systemd, as far as it can be tried without being the first process: what
//! systemd-analyze says of it, and that its limits let the program work.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use livedata::mountpoint::Options;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::file;
use crate::support::place::{Place, Ran, SOON};
use crate::support::process;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

/// How exposed `systemd-analyze security` may find it, in tenths. Most of it is that the unit may
/// not have a mount namespace, and that hooks may be anything.
const EXPOSURE: u32 = 69;

/// Directives that give a service a mount namespace of its own (systemd.exec(5)): its mounts would
/// not be seen outside.
const NAMESPACE: [&str; 28] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "InaccessiblePaths",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "RootDirectory",
    "TemporaryFileSystem",
];

/// The unit, in a directory of its own, naming the program under test.
fn unit() -> (TempDir, String) {
    let text = fs::read_to_string(file("dist/livedata-fuse@.service")).unwrap();
    let text = text.replace(
        "/usr/bin/livedata-fuse",
        env!("CARGO_BIN_EXE_livedata-fuse"),
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("livedata-fuse@.service"), &text).unwrap();
    (dir, text)
}

/// The values of a directive.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.strip_prefix(directive)?.strip_prefix('=');
    unit.lines().filter_map(of).collect()
}

fn analyze(arguments: &[&str]) -> Ran {
    let output = Command::new("systemd-analyze").args(arguments).output();
    output.unwrap().into()
}

#[test]
fn systemd_analyze_finds_nothing_wrong() {
    let (dir, _) = unit();
    let instance = dir.path().join("livedata-fuse@live.service");
    let verify = || analyze(&["verify", "--man=no", instance.to_str().unwrap()]);
    let ran = verify();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    // It would say so.
    let wrong = dir.path().join("livedata-fuse@live.service.d");
    fs::create_dir(&wrong).unwrap();
    fs::write(wrong.join("wrong.conf"), "[Service]\nKilMode=mixed\n").unwrap();
    assert!(verify().stderr.contains("KilMode"));
    fs::remove_file(wrong.join("wrong.conf")).unwrap();

    fs::copy(file("dist/unprivileged.conf"), wrong.join("user.conf")).unwrap();
    let ran = verify();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn it_is_no_more_exposed_than_it_was() {
    let (dir, text) = unit();
    let path = dir.path().join("livedata-fuse@.service");
    let security = || {
        analyze(&[
            "security",
            "--offline=yes",
            "--no-pager",
            &format!("--threshold={EXPOSURE}"),
            path.to_str().unwrap(),
        ])
    };
    let ran = security();
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    // One line less, and it is.
    fs::write(&path, text.replace("\nCapabilityBoundingSet=", "\n#")).unwrap();
    assert_ne!(security().code, Some(0));
}

#[test]
fn nothing_in_it_hides_the_mount() {
    let (_dir, unit) = unit();
    for directive in NAMESPACE {
        assert!(values(&unit, directive).is_empty(), "{directive}");
    }
    // Without root any filter implies it, and fusermount3 would not be set-user-id any more.
    assert!(values(&unit, "NoNewPrivileges").is_empty());
    let user = fs::read_to_string(file("dist/unprivileged.conf")).unwrap();
    for directive in [
        "SystemCallFilter",
        "SystemCallArchitectures",
        "RestrictAddressFamilies",
    ] {
        assert!(!values(&unit, directive).is_empty());
        assert_eq!(values(&user, directive), [""]);
    }
    for directive in ["LockPersonality", "RestrictRealtime"] {
        assert_eq!(values(&unit, directive), ["yes"]);
        assert_eq!(values(&user, directive), ["no"]);
    }
}

#[test]
fn the_program_works_with_its_capabilities_and_systemd_hears_of_it() {
    let sandbox = Sandbox::new("unit");
    sandbox.admin.create("/a", "one");
    let place = Place::new(&crate::commands::config(&sandbox.hosts(), ""));
    let (_dir, unit) = unit();
    let [denied] = values(&unit, "CapabilityBoundingSet")[..] else {
        panic!("one list of capabilities")
    };
    let denied = denied.strip_prefix('~').unwrap().to_lowercase();
    let denied: Vec<_> = denied
        .split(' ')
        .map(|it| it.replace("cap_", "-"))
        .collect();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let [start] = values(&unit, "ExecStart")[..] else {
        panic!("one command")
    };
    let start = start
        .replace("$OPTIONS ", "")
        .replace("/etc/livedata/%i.ini", "config.ini")
        .replace("${MOUNTPOINT}", "mnt");
    let mut command = place.command("setpriv");
    command
        .args(["--bounding-set", &denied.join(","), "--"])
        .args(start.split(' '))
        .env("NOTIFY_SOCKET", place.path("notify"));
    let mut child = place.start_command(&mut command);
    let mut heard = [0; 100];
    let n = socket.recv(&mut heard).unwrap();
    assert!(heard[..n].starts_with(b"READY=1\n"));
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
    // SYS_ADMIN, and not SYS_MODULE.
    assert_eq!((effective >> 21 & 1, effective >> 16 & 1), (1, 0));

    // ExecReload.
    sandbox.admin.create("/b", "two");
    let more = "nodes.b.source = /b\nnodes.b.dest = b.json\n";
    place.configure(&crate::commands::config(&sandbox.hosts(), more));
    process::signal(&child, Signal::HUP);
    wait_until(SOON, "the new file", || {
        place.read("b.json").as_deref() == Some("two")
    });
    // The signal of KillMode=mixed, to the keeper alone.
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    place.assert_gone();
}

#[test]
fn when_the_watchdog_bites_the_mount_ends_in_order() {
    let sandbox = Sandbox::new("watchdog");
    sandbox.admin.create("/a", "one");
    let place = Place::new(&crate::commands::config(&sandbox.hosts(), ""));
    let (_dir, unit) = unit();
    assert_eq!(values(&unit, "WatchdogSignal"), ["SIGTERM"]);
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    // Many times as long as signs of life are apart.
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut command = place.command(place.program());
    command
        .args(["mount", "-f", "config.ini", "mnt"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("WATCHDOG_USEC", "200000");
    let mut child = place.start_command(&mut command);
    wait_until(SOON, "it is mounted", || place.is_mounted());
    let hears = || socket.recv(&mut [0; 1000]).is_ok();
    assert!(hears() && hears() && hears());
    let server = place.servers()[0];
    kill_process(server, Signal::STOP).unwrap();
    // What was said before is heard first.
    let deadline = Instant::now() + SOON;
    while hears() {
        assert!(
            Instant::now() < deadline,
            "a stopped server gives signs of life"
        );
    }
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    place.wait_until_gone();
}

#[test]
fn services_with_namespaces_of_their_own_see_the_mount() {
    let sandbox = Sandbox::new("namespaces");
    sandbox.admin.create("/a", "one");
    let place = Place::new(&crate::commands::config(&sandbox.hosts(), ""));
    let root = place.root();
    let root = root.display();
    // As systemd has it: everything is shared, and a sandboxed service is a slave of it, here one
    // that was there before the mount and one that came after it.
    let script = format!(
        "mount --make-rshared /; mkfifo entered
         service() {{
             unshare --mount --propagation slave sh -c 'echo >entered; exec sleep 600' >/dev/null &
             read nothing <entered
         }}
         within() {{ nsenter --mount=/proc/$1/ns/mnt cat {root}/a.json && echo; }}
         service; before=$!
         $LIVEDATA mount config.ini mnt >/dev/null
         service; after=$!
         within $before; within $after
         $LIVEDATA umount mnt
         within $before 2>/dev/null || echo gone; within $after 2>/dev/null || echo gone
         kill $before $after"
    );
    let ran = place.in_namespace(&script);
    assert_eq!(ran.stdout, "one\none\ngone\ngone\n", "{ran:?}");
    place.wait_until_gone();
}

#[test]
fn systemd_makes_units_of_a_line_in_fstab() {
    let dir = tempfile::tempdir().unwrap();
    let fstab = dir.path().join("fstab");
    let line = "/etc/livedata/live.ini /mnt/live fuse.livedata \
                noexec,nofail,_netdev,x-systemd.automount 0 0\n";
    fs::write(&fstab, line).unwrap();
    let generator = "/usr/lib/systemd/system-generators/systemd-fstab-generator";
    let made = Command::new(generator)
        .args([dir.path(), dir.path(), dir.path()])
        .env("SYSTEMD_FSTAB", &fstab)
        .status();
    assert!(made.unwrap().success());
    let mount = fs::read_to_string(dir.path().join("mnt-live.mount")).unwrap();
    assert_eq!(values(&mount, "What"), ["/etc/livedata/live.ini"]);
    assert_eq!(values(&mount, "Type"), ["fuse.livedata"]);
    // What systemd hands on to mount(8), and so to us.
    let options = values(&mount, "Options")[0];
    Options::default().add(options).unwrap();
    let automount = fs::read_to_string(dir.path().join("mnt-live.automount")).unwrap();
    assert_eq!(values(&automount, "Where"), ["/mnt/live"]);
    let wanted = dir.path().join("remote-fs.target.wants/mnt-live.automount");
    assert!(fs::symlink_metadata(wanted).is_ok(), "nofail and _netdev");
}
