//! Mounts whose keeper was killed or whose server hangs, and how the next command clears them away.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::place;
use crate::support::place::{Place, SOON};
use crate::support::process;
use crate::support::wait::wait_until;

/// Kills the keeper, with which the others end, and waits until its mount is dead.
fn kill(place: &Place, daemon: Pid) {
    kill_process(daemon, Signal::KILL).unwrap();
    wait_until(SOON, "the mount is dead", || {
        // Unlike what stat(2) says, this is never remembered.
        rustix::fs::statfs(place.root()).is_err_and(|err| err == Errno::NOTCONN)
    });
}

#[test]
fn the_next_mount_clears_a_dead_one() {
    let (_sandbox, place) = place("dead");
    kill(&place, place.mounted());
    let ran = place.mount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("mnt: clearing away a dead mount");
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    assert_eq!(place.mountpoints().len(), 1);
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    place.wait_until_gone();
}

#[test]
fn two_dead_mounts_on_one_another_are_both_cleared() {
    let (_sandbox, place) = place("stacked");
    place.mounted();
    fs::create_dir(place.path("other")).unwrap();
    let ran = place.run(&["mount", "config.ini", "other"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    rustix::mount::mount_move(place.path("other"), place.root()).unwrap();
    assert_eq!(place.mountpoints().len(), 2);
    for daemon in place.daemons() {
        kill_process(daemon, Signal::KILL).unwrap();
    }
    wait_until(SOON, "both have ended", || place.processes().is_empty());
    let ran = place.mount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    assert_eq!(place.mountpoints().len(), 1);
}

#[test]
fn umount_clears_a_dead_mount_in_use() {
    let (_sandbox, place) = place("dead-umount");
    let daemon = place.mounted();
    let _held = fs::File::open(place.root().join("a.json")).unwrap();
    kill(&place, daemon);
    let ran = place.run(&["umount", "mnt"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    place.wait_until_gone();
}

/// A mount whose server is stopped while a reader waits for it.
struct Hung {
    server: Pid,
    reader: Child,
}

impl Hung {
    fn new(place: &Place) -> Self {
        place.mounted();
        let server = place.servers()[0];
        process::stop(server);
        let reader = Command::new("stat")
            .arg(place.root().join("never-asked-for"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let hung = Self { server, reader };
        let pid = hung.reader.id();
        wait_until(SOON, "the reader waits for the server", || {
            fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("request"))
        });
        hung
    }

    /// The reader was freed, and no process is left, not even the stopped one.
    fn end(mut self, place: &Place) {
        let status = process::wait(&mut self.reader, SOON).expect("the reader ends");
        assert_eq!(status.code(), Some(1));
        wait_until(SOON, "nothing is in D state", || waiting(place).is_empty());
        wait_until(SOON, "the server ends", || {
            !place.processes().contains(&self.server)
        });
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.reader.kill();
    }
}

/// The processes of the place that wait and cannot be ended.
fn waiting(place: &Place) -> Vec<String> {
    let stats = place
        .processes()
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok());
    stats.filter(|stat| stat.contains(") D ")).collect()
}

/// The limit of a probe, with the machine's slowness.
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn the_next_mount_clears_one_that_hangs() {
    let (_sandbox, place) = place("hung");
    let hung = Hung::new(&place);
    let start = Instant::now();
    let ran = place.mount(&[]);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("mnt: clearing away a hung mount");
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    hung.end(&place);
    assert_eq!(place.mountpoints().len(), 1);
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    place.wait_until_gone();
}

#[test]
fn umount_clears_one_that_hangs() {
    let (_sandbox, place) = place("hung-umount");
    let hung = Hung::new(&place);
    let start = Instant::now();
    let ran = place.run(&["umount", "mnt"]);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    hung.end(&place);
    place.wait_until_gone();
}
