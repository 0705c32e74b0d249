//! The program is replaced while the mount is in use.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use super::kept::{copy_program, pid_of, processes, state, status, wait_status};
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

#[test]
fn a_new_program_takes_over_and_a_broken_one_does_not() {
    let sandbox = Sandbox::new("upgrade");
    sandbox.admin.create("/a", "x");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    copy_program(&program);
    let config = config(&sandbox.hosts(), "nodes.a.source = /a");
    let mount = Mount::start_with(&config, &["--binary", program.to_str().unwrap()]);
    let (over, n_reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _over = Done(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let read = fs::read_to_string(mount.path("a")).expect("no error");
                assert!(read.starts_with('x'), "{read:?}");
                fs::read_dir(mount.root())
                    .unwrap()
                    .for_each(|entry| drop(entry.unwrap()));
                n_reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..3 {
            let [old, _] = processes(&mount);
            copy_program(&program);
            assert_ne!(inode_of(old), fs::metadata(&program).unwrap().ino());
            upgrade(&mount, "done");
            let [new, _] = processes(&mount);
            assert_ne!(new, old);
            assert_eq!(state(old), None);
            assert_eq!(inode_of(new), fs::metadata(&program).unwrap().ino());
            sandbox.admin.set("/a", format!("x{n}"));
            mount.wait_for_content("a", format!("x{n}"));
        }
        let [serving, _] = processes(&mount);
        let refused = |what: &str, make: &dyn Fn(&Path), why: &str| {
            let new = program.with_extension("new");
            make(&new);
            fs::rename(&new, &program).unwrap();
            let n_logged = mount.n_logged("upgrade: failed");
            let reason = upgrade(&mount, "failed");
            assert!(reason.contains(why), "{what}: {reason}");
            assert_eq!(mount.n_logged("upgrade: failed"), n_logged + 1);
            assert_eq!(pid_of(&status(&mount), "server"), Some(serving));
            wait_until(SOON, "no process is left of it", || {
                children_of(mount.pid()) == 2
            });
            // The old one publishes again.
            sandbox.admin.set("/a", format!("x {what}"));
            mount.wait_for_content("a", format!("x {what}"));
        };
        refused(
            "a text",
            &|path| file(path, "no program"),
            "cannot be started",
        );
        refused(
            "a program that exits",
            &|path| link("/bin/false", path),
            "exit status: 1",
        );
        // A script: its interpreter would find the descriptor closed, so it exits.
        refused("a script", &|path| file(path, "#!/bin/sh\nsleep 60\n"), "");
        // It reads its stdin, which is the socket, waits for more, and says nothing there.
        refused(
            "a program that hangs",
            &|path| link("/bin/grep", path),
            "in time",
        );
    });
    println!("{} reads meanwhile", n_reads.load(Ordering::Relaxed));
}

/// Sends SIGUSR2 and waits for the outcome.
#[track_caller]
fn upgrade(mount: &Mount, outcome: &str) -> String {
    // Outcomes are told apart by the log, for their times are in seconds.
    let lines = |mount: &Mount| mount.n_logged("upgraded") + mount.n_logged("upgrade: ");
    let before = lines(mount);
    mount.signal(Signal::USR2);
    let status = wait_status(mount, "the upgrade is over", |status| {
        status["upgrade"]["running"] == false && lines(mount) > before
    });
    let reason = status["upgrade"]["last"]["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.starts_with(outcome), "{reason}");
    reason
}

fn file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn link(to: &str, path: &Path) {
    std::os::unix::fs::symlink(to, path).unwrap();
}

/// The file that a process runs.
fn inode_of(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
}

fn children_of(pid: u32) -> usize {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().count()
}

/// Says so when it is dropped, also where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
