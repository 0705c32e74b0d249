//! Mounts of a user without privileges, through fusermount3.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Signal, kill_process};

use super::config;
use crate::support::as_user::NOBODY;
use crate::support::place::{Place, Ran, SOON, run};
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

fn place(name: &str) -> (Sandbox, Place) {
    let sandbox = Sandbox::new(name);
    sandbox.admin.create("/a", "one");
    let place = Place::of_user(NOBODY, &config(&sandbox.hosts(), ""));
    (sandbox, place)
}

#[test]
fn a_user_mounts_for_himself() {
    let (sandbox, place) = place("user");
    place.mounted();
    let ran = as_user(&place, "stat -c '%u:%g %a' mnt/a.json; cat mnt/a.json");
    assert_eq!(ran.stdout, "65534:65534 400\none", "{ran:?}");
    // Not even root looks into the mounts of others.
    let ran = run(place.command_as_root("cat").arg("mnt/a.json"));
    assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
    sandbox.admin.set("/a", "two");
    wait_until(SOON, "the change arrives", || {
        as_user(&place, "cat mnt/a.json").stdout == "two"
    });
    place
        .mount(&[])
        .failed(1, "already mounted by livedata-fuse");
    let ran = place.run(&["umount", "mnt"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    place.wait_until_gone();
}

/// Runs a script as the user of the place.
fn as_user(place: &Place, script: &str) -> Ran {
    run(place.command("sh").args(["-euc", script]))
}

#[test]
fn a_users_mount_ends_with_a_signal() {
    let (_sandbox, place) = place("user-signal");
    kill_process(place.mounted(), Signal::TERM).unwrap();
    place.wait_until_gone();
    assert_eq!(fs::metadata(place.path("log")).unwrap().uid(), NOBODY);
}

#[test]
fn a_users_mount_in_use_is_busy() {
    let (_sandbox, place) = place("user-busy");
    place.mounted();
    let script = "exec <mnt/a.json; ./livedata-fuse umount mnt && exit 9;
        ./livedata-fuse umount --lazy mnt && cat";
    let ran = run(place.command("sh").args(["-c", script]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "one"), "{ran:?}");
    ran.says("busy");
    place.wait_until_gone();

    let daemon = place.mounted();
    let mut held = place.start_command(
        place
            .command("sh")
            .args(["-c", "exec 3<mnt/a.json; touch holds; exec sleep 60"]),
    );
    wait_until(SOON, "a file is open", || place.path("holds").exists());
    kill_process(daemon, Signal::TERM).unwrap();
    wait_until(SOON, "it is detached", || {
        !place.is_mounted() && place.daemons().is_empty()
    });
    held.kill().unwrap();
    held.wait().unwrap();
}

#[test]
fn a_users_lost_mount_is_made_anew() {
    let (sandbox, place) = place("user-lost");
    let ran = place.mount(&["--without-resend"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    kill_process(place.servers()[0], Signal::KILL).unwrap();
    sandbox.admin.set("/a", "two");
    wait_until(SOON, "the change arrives", || {
        as_user(&place, "cat mnt/a.json || :").stdout == "two"
    });
    assert_eq!(place.mountpoints().len(), 1);
    let ran = place.run(&["umount", "mnt"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    place.wait_until_gone();
}

#[test]
fn a_users_dead_mount_is_cleared_by_the_next() {
    let (_sandbox, place) = place("user-dead");
    for command in ["mount", "umount"] {
        kill_process(place.mounted(), Signal::KILL).unwrap();
        wait_until(SOON, "it has ended", || place.processes().is_empty());
        assert!(place.is_mounted());
        if command == "mount" {
            let ran = place.mount(&[]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            ran.says("clearing away a dead mount");
            assert_eq!(place.mountpoints().len(), 1);
        }
        let ran = place.run(&["umount", "mnt"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        place.wait_until_gone();
    }
}

#[test]
fn allow_other_is_as_the_machine_allows() {
    let (_sandbox, place) = place("user-allow");
    fs::write(place.path("forbids"), "").unwrap();
    fs::write(place.path("allows"), "user_allow_other\n").unwrap();
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --");
    let ran = place.in_namespace(&format!(
        "mount --bind forbids /etc/fuse.conf
         {user} ./livedata-fuse mount -o allow_other config.ini mnt"
    ));
    ran.failed(1, "mnt: fusermount3 cannot mount it: ");
    ran.says("user_allow_other");
    place.assert_gone();
    let ran = place.in_namespace(&format!(
        "mount --bind allows /etc/fuse.conf
         {user} ./livedata-fuse mount -o allow_other,noexec config.ini mnt
         cat mnt/a.json; {user} ./livedata-fuse umount mnt"
    ));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.ends_with(", ready\none"), "{ran:?}");
    place.wait_until_gone();
}

#[test]
fn without_fusermount3_it_says_what_to_install() {
    let (_sandbox, place) = place("user-no-helper");
    for arguments in [&["mount"][..], &["mount", "-f"]] {
        let mut command = place.command("env");
        command.arg("PATH=/nowhere").arg(place.program());
        command.args(arguments).args(["config.ini", "mnt"]);
        run(&mut command).failed(1, "apt-get install fuse3");
        place.assert_gone();
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let (_sandbox, place) = place("user-not-his");
    std::os::unix::fs::chown(place.root(), Some(0), Some(0)).unwrap();
    let ran = place.mount(&[]);
    ran.failed(1, "mnt: fusermount3 cannot mount it: ");
    place.assert_gone();
}
