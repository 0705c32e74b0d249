//! mount(8), fstab and systemd.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use super::place;
use crate::support::place::{SOON, run};
use crate::support::process;
use crate::support::wait::wait_until;

/// Programs called `livedata` and `mount.fuse.livedata` where mount(8) and the shell of its helper
/// look, which have no PATH: only the system's directories.
const INSTALLED: &str = "
    mount -t tmpfs none /usr/local/sbin; ln -s $LIVEDATA /usr/local/sbin/livedata
    ";
const INSTALLED_AS_HELPER: &str = "
    mount -t tmpfs none layers; mkdir layers/upper layers/work
    mount -t overlay none -o lowerdir=/usr/sbin,upperdir=layers/upper,workdir=layers/work /usr/sbin
    ln -s $LIVEDATA /usr/sbin/mount.fuse.livedata
    ";

#[test]
fn mount_8_and_fstab_mount_it() {
    for installed in [INSTALLED, INSTALLED_AS_HELPER] {
        let (_sandbox, place) = place("mount-8");
        let (config, root) = (place.path("config.ini"), place.root());
        let (config, root) = (config.display(), root.display());
        fs::create_dir(place.path("layers")).unwrap();
        let fstab = format!(
            "{config} {root} fuse.livedata noexec,nofail,_netdev,x-systemd.automount 0 0\n"
        );
        fs::write(place.path("fstab"), fstab).unwrap();
        let script = format!(
            "{installed} mount --bind fstab /etc/fstab
             mount -t fuse.livedata {config} {root} -o nofail,_netdev
             cat mnt/a.json; echo; umount mnt
             mount {root}; cat mnt/a.json; findmnt -no FSTYPE,SOURCE mnt; umount mnt
             mount -t fuse.livedata {config} {root} -o alow_other"
        );
        let ran = place.in_namespace(&script);
        assert_ne!(ran.code, Some(0));
        let line = format!("{root}: 1 files of 1 nodes, ready\n");
        let expected = format!("{line}one\n{line}onefuse.livedata {config}\n");
        assert_eq!(ran.stdout, expected, "{ran:?}");
        ran.says("-o alow_other: unknown mount option");
        place.wait_until_gone();
    }
}

#[test]
fn called_by_the_names_of_mount_8() {
    let (_sandbox, place) = place("mount-names");
    for name in ["livedata", "mount.livedata", "mount.fuse.livedata"] {
        std::os::unix::fs::symlink(place.program(), place.path(name)).unwrap();
        let mut command = place.command(place.path(name));
        command.args([
            "config.ini",
            "mnt",
            "-n",
            "-s",
            "-v",
            "-o",
            "rw,dev,suid,_netdev",
            "-t",
            "fuse.livedata",
        ]);
        let ran = run(&mut command);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        assert_eq!(place.read("a.json").as_deref(), Some("one"));
        assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
        place.wait_until_gone();
    }
}

#[test]
fn a_shell_may_hand_over_the_configuration() {
    let (_sandbox, place) = place("descriptor");
    let bash = |script: &str| {
        let mut command = place.command("bash");
        command
            .args(["-euc", script])
            .env("LIVEDATA", place.program());
        command
    };
    let ran = run(&mut bash("$LIVEDATA check --strict <(cat config.ini)"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("a.json"));
    let ran = run(&mut bash("$LIVEDATA mount /dev/fd/7 mnt 7<config.ini"));
    ran.failed(
        1,
        "/dev/fd/7: in the background the configuration is read again",
    );
    place.assert_gone();

    let mut child = place.start_command(&mut bash("exec $LIVEDATA mount -f <(cat config.ini) mnt"));
    wait_until(SOON, "it is mounted", || place.is_mounted());
    // The next server has it from the first.
    let first = place.servers();
    assert_eq!(first.len(), 1);
    rustix::process::kill_process(first[0], Signal::KILL).unwrap();
    wait_until(SOON, "the next server", || {
        let servers = place.servers();
        servers.len() == 1 && servers != first
    });
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    // There is no more in the pipe, and nothing changes.
    process::signal(&child, Signal::HUP);
    wait_until(SOON, "the reload fails", || {
        let said = fs::read_to_string(place.path("stderr")).unwrap();
        said.contains("/dev/fd/")
    });
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    place.assert_gone();
}

#[test]
fn systemd_hears_of_it() {
    let (_sandbox, place) = place("systemd");
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let heard = || {
        let mut buffer = [0; 1000];
        let n = socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..n]).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut command = place.command(place.program());
    command
        .args(["mount", "-f", "config.ini", "mnt"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("WATCHDOG_USEC", "200000");
    let mut child = place.start_command(&mut command);
    let first = heard();
    assert_eq!(first, ["READY=1", "STATUS=1 files of 1 nodes"]);
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    for _ in 0..3 {
        assert_eq!(heard()[0], "WATCHDOG=1");
    }
    process::signal(&child, Signal::TERM);
    while heard()[0] != "STOPPING=1" {}
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    place.assert_gone();
}

#[test]
fn the_journal_is_told_priorities() {
    let (_sandbox, place) = place("journal");
    let mut command = place.command(place.program());
    command.args(["mount", "-f", "config.ini", "mnt"]);
    let stderr = fs::File::create(place.path("stderr")).unwrap();
    let stat = stderr.metadata().unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
    let mut child = place.start_command(&mut command);
    let said = || fs::read_to_string(place.path("stderr")).unwrap();
    let ready = format!("<6>{}: 1 files of 1 nodes, ready\n", place.root().display());
    wait_until(SOON, "it says so", || said().contains(&ready));
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    assert!(
        said().lines().all(|line| line.starts_with("<6>")),
        "{}",
        said()
    );

    // A variable that was meant for another stderr.
    command.env("JOURNAL_STREAM", "1:2");
    let mut child = place.start_command(&mut command);
    wait_until(SOON, "it says so", || said().contains("nodes, ready\n"));
    process::signal(&child, Signal::TERM);
    assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
    assert!(
        said()
            .lines()
            .all(|line| line.starts_with("livedata-fuse: info: ")),
        "{}",
        said()
    );
}
