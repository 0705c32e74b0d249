//! The end of a mount: signals, `umount`, umount(8).

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use super::{config, place, silent_server};
use crate::support::place::{Place, Ran, SOON, run};
use crate::support::process;
use crate::support::wait::wait_until;

/// What a command answers that did what it should.
fn done() -> Ran {
    Ran {
        code: Some(0),
        stdout: String::new(),
        stderr: String::new(),
    }
}

#[test]
fn sigterm_and_sigint_unmount() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_sandbox, place) = place("signals");
        kill_process(place.mounted(), signal).unwrap();
        place.wait_until_gone();
        assert!(place.log().contains("unmounted on a signal"));

        let mut child = place.start(&["mount", "-f", "config.ini", "mnt"]);
        wait_until(SOON, "a file", || place.read("a.json").is_some());
        process::signal(&child, signal);
        assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
        place.assert_gone();
    }
}

#[test]
fn sigterm_and_sigint_unmount_during_the_first_load() {
    let (_listener, hosts) = silent_server();
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new(&config(&hosts, ""));
        let mut child = place.start(&["mount", "-f", "--wait", "1m", "config.ini", "mnt"]);
        place.wait_until_loading();
        process::signal(&child, signal);
        assert_eq!(process::wait(&mut child, SOON).unwrap().code(), Some(0));
        place.assert_gone();

        let mut waiting = place.start(&["mount", "--wait", "1m", "config.ini", "mnt"]);
        place.wait_until_loading();
        kill_process(place.daemon(), signal).unwrap();
        assert_eq!(process::wait(&mut waiting, SOON).unwrap().code(), Some(1));
        place.wait_until_gone();
        let said = fs::read_to_string(place.path("stderr")).unwrap();
        assert_eq!(
            said,
            "livedata-fuse: it was unmounted or stopped before it was ready\n"
        );
    }
}

#[test]
fn a_signal_detaches_what_is_in_use() {
    let (_sandbox, place) = place("in-use");
    let daemon = place.mounted();
    let _held = File::open(place.root().join("a.json")).unwrap();
    kill_process(daemon, Signal::TERM).unwrap();
    place.wait_until_gone();
    assert!(place.log().contains("files are open, so it is detached"));
    // The place can be used again at once.
    place.mounted();
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
}

#[test]
fn sighup_reloads_and_a_wrong_configuration_changes_nothing() {
    let (_sandbox, place) = place("reload");
    let daemon = place.mounted();
    kill_process(daemon, Signal::HUP).unwrap();
    wait_until(SOON, "it says so", || {
        place.log().contains("reloaded: 1 nodes")
    });
    place.configure("this is no INI");
    kill_process(daemon, Signal::HUP).unwrap();
    wait_until(SOON, "it says why not", || {
        place
            .log()
            .contains("not reloaded, the configuration of before stays: ")
    });
    assert!(place.log().contains("config.ini:1: "), "{}", place.log());
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    assert_eq!(place.daemon(), daemon);
}

#[test]
fn somebody_elses_umount_ends_it() {
    let (_sandbox, place) = place("plain-umount");
    place.mounted();
    assert!(
        Command::new("umount")
            .arg(place.root())
            .status()
            .unwrap()
            .success()
    );
    place.wait_until_gone();
    assert!(place.log().trim_end().ends_with(": unmounted"));
}

#[test]
fn umount_says_busy_and_lazy_detaches() {
    let (_sandbox, place) = place("busy");
    place.mounted();
    let mut held = File::open(place.root().join("a.json")).unwrap();
    let ran = place.run(&["umount", "mnt"]);
    ran.failed(1, "mnt: busy: ");
    ran.says("livedata-fuse umount --lazy ");
    assert_eq!(place.read("a.json").as_deref(), Some("one"));

    assert_eq!(place.run(&["umount", "--lazy", "mnt"]), done());
    assert!(!place.is_mounted());
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    assert_eq!(place.servers().len(), 1, "it serves the open file");
    // Also when its server dies.
    let server = place.servers()[0];
    kill_process(server, Signal::KILL).unwrap();
    wait_until(SOON, "another one goes on", || {
        place.log().contains("the server goes on")
    });
    assert_eq!(held.metadata().unwrap().len(), 3);
    // The place can be used again meanwhile.
    place.mount(&[]);
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    assert_eq!(place.run(&["umount", "mnt"]), done());
    assert!(!place.processes().is_empty());
    drop(held);
    place.wait_until_gone();
}

#[test]
fn umount_of_what_is_no_mount_of_ours() {
    let place = Place::new("");
    fs::write(place.path("file"), "").unwrap();
    for path in ["mnt", "file", "missing", "missing/below", "file/below"] {
        let ran = place.run(&["umount", path]);
        ran.failed(1, path);
    }
    place
        .run(&["umount", "mnt"])
        .failed(1, "not a livedata-fuse mount");

    rustix::mount::mount(
        "none",
        place.root(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    for arguments in [&["umount", "mnt"][..], &["umount", "--lazy", "mnt"]] {
        place
            .run(arguments)
            .failed(1, "mnt: not a livedata-fuse mount");
        assert!(place.is_mounted(), "the tmpfs is untouched");
    }
}

#[test]
fn umount_takes_every_spelling_of_the_path() {
    let (_sandbox, place) = place("spellings");
    std::os::unix::fs::symlink("mnt", place.path("link")).unwrap();
    let absolute = place.root().to_str().unwrap().to_owned();
    for path in [
        "mnt",
        "mnt/",
        "./mnt",
        "mnt/../mnt",
        "link",
        "link/",
        &absolute,
    ] {
        place.mounted();
        assert_eq!(place.run(&["umount", path]), done(), "{path}");
        place.wait_until_gone();
    }
}

#[test]
fn umount_by_the_link_of_a_shell_directory() {
    let (_sandbox, place) = place("from-within");
    place.mounted();
    // Somebody's working directory is in it.
    let mut command = place.command(place.program());
    command.args(["umount", "."]).current_dir(place.root());
    run(&mut command).failed(1, "busy");
    assert_eq!(place.run(&["umount", "mnt"]), done());
    place.wait_until_gone();
}
