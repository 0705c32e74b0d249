//! The keeper with a server that only speaks: what it does when processes die, hang and are
//! replaced.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livedata::keeper::status::{State, Status};
use livedata::keeper::{self, Job, Place, PublisherRoot};
use livedata::mountpoint;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit};
use tempfile::TempDir;

use crate::support::mount::is_mounted;
use crate::support::process;
use crate::support::wait::{holds_for, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

const LIVEDATA: &str = env!("CARGO_BIN_EXE_livedata-fuse");

/// What speaks for the server. It is started as `PYTHON serve-mount`, and finds that file.
const PYTHON: &str = "/usr/bin/python3";

/// The variable that tells [`keeper_of_a_place`] where to work.
const DIRECTORY: &str = "LIVEDATA_TEST_KEEPER";

struct Kept {
    keeper: Child,
    directory: TempDir,
}

impl Kept {
    /// A keeper whose servers behave as `mode` says.
    fn start(mode: &str) -> Self {
        Self::start_with(mode, &[])
    }

    fn start_with(mode: &str, arguments: &[&str]) -> Self {
        let directory = prepare(mode);
        let mut command = process::bound_to_us(LIVEDATA, "TERM");
        command
            .args(["mount", "-f", "--wait", "5s"])
            .args(arguments);
        command.arg("--binary");
        command.arg(directory.path().join("program"));
        command.args(["config.ini", "mnt"]);
        Self::spawn(command, directory)
    }

    fn spawn(mut command: Command, directory: TempDir) -> Self {
        command
            .current_dir(directory.path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(File::create(directory.path().join("out")).unwrap())
            .stderr(File::create(directory.path().join("log")).unwrap());
        let keeper = process::spawn(command);
        Self { keeper, directory }
    }

    fn ready(mode: &str) -> Self {
        Self::start(mode).when_ready()
    }

    fn when_ready(self) -> Self {
        wait_until(SOON, "it is ready", || self.text("out").contains("ready"));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How servers behave that are started from now on.
    fn set_mode(&self, mode: &str) {
        fs::write(self.path("mode"), mode).unwrap();
    }

    fn heard(&self, what: &str) -> usize {
        let heard = self.text("heard");
        heard.lines().filter(|line| line.ends_with(what)).count()
    }

    fn signal(&self, signal: Signal) {
        process::signal(&self.keeper, signal);
    }

    fn status(&self) -> Status {
        let mountpoint = self.path("mnt").canonicalize_parent();
        let answer = keeper::ask(&mountpoint, Duration::from_secs(5)).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Waits until the status is as it should be.
    #[track_caller]
    fn wait_status(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        wait_for(SOON, what, || Some(self.status()).filter(&is))
    }

    /// The exit code of `livedata-fuse status`, and what it prints.
    fn status_command(&self) -> (Option<i32>, String) {
        status_command(&self.path("mnt"))
    }

    #[track_caller]
    fn kill_server(&self) -> u32 {
        let pid = self.status().server.pid.unwrap();
        kill(pid);
        pid
    }

    #[track_caller]
    fn stop(mut self) -> String {
        let pids = [self.status().server.pid, self.status().publisher.pid];
        self.signal(Signal::TERM);
        let ended = process::wait(&mut self.keeper, SOON).expect("it ends");
        let log = self.text("log");
        assert!(ended.success(), "{ended}: {log}");
        for pid in pids.into_iter().flatten() {
            assert!(!is_alive(pid), "process {pid} lingers");
        }
        assert!(!is_mounted(&self.path("mnt")));
        assert_eq!(self.status_command().0, Some(2));
        log
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.text("log"), self.text("heard"));
        }
        if self.keeper.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
            if process::wait(&mut self.keeper, SOON).is_none() {
                self.signal(Signal::KILL);
                self.keeper.wait().unwrap();
            }
        }
        if is_mounted(&self.path("mnt")) {
            let flags = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
            let _ = rustix::mount::unmount(self.path("mnt"), flags);
        }
    }
}

trait WithoutLinks {
    fn canonicalize_parent(&self) -> PathBuf;
}

impl WithoutLinks for PathBuf {
    fn canonicalize_parent(&self) -> PathBuf {
        let parent = self.parent().unwrap().canonicalize().unwrap();
        parent.join(self.file_name().unwrap())
    }
}

fn prepare(mode: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["serve-mount", "publish-mount"] {
        fs::write(path(name), include_str!("keeper/fake.py")).unwrap();
    }
    fs::write(path("mode"), mode).unwrap();
    fs::write(path("config.ini"), "").unwrap();
    fs::create_dir(path("mnt")).unwrap();
    std::os::unix::fs::symlink(PYTHON, path("program")).unwrap();
    directory
}

fn status_command(mountpoint: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(LIVEDATA);
    let output = command.arg("status").arg(mountpoint).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie waits for its parent only.
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[test]
fn a_server_that_dies_is_replaced_and_gets_its_record() {
    let kept = Kept::ready("serve");
    assert_eq!(kept.status().details, serde_json::json!({"fake": true}));
    assert_eq!(kept.status_command().0, Some(0));
    let first = kept.kill_server();
    let status = kept.wait_status("it is served again", |status| {
        status.server.state == State::Serving && status.server.restarts == 1
    });
    assert_ne!(status.server.pid, Some(first));
    assert!(status.server.last_death.unwrap().reason.contains("9"));
    wait_until(SOON, "it goes on", || kept.heard("Go") == 1);
    assert_eq!(kept.heard(&format!("record of {first}")), 1);
    // The record of the second was handed over before it was told to go on.
    let second = kept.kill_server();
    wait_until(SOON, "it goes on", || kept.heard("Go") == 2);
    assert_eq!(kept.heard(&format!("record of {second}")), 1);
    let (code, table) = kept.status_command();
    assert_eq!(code, Some(1), "it died lately: {table}");
    assert!(table.contains("signal: 9"), "{table}");
    let log = kept.stop();
    assert!(log.contains("signal: 9"), "{log}");
}

#[test]
fn a_crash_loop_is_slow_and_visible() {
    let kept = Kept::ready("serve");
    kept.set_mode("die");
    kept.kill_server();
    let status = kept.wait_status("it waits", |status| {
        status.server.state == State::Backoff && status.server.restarts >= 4
    });
    let reason = status.server.last_death.unwrap().reason;
    assert!(reason.contains("exit status: 3"), "{reason}");
    assert_eq!(status.details, serde_json::Value::Null);
    assert_eq!(kept.status_command().0, Some(1));
    let n_restarts = status.server.restarts;
    std::thread::sleep(Duration::from_secs(2));
    assert!(kept.status().server.restarts <= n_restarts + 3);
    assert!(cpu_ticks(kept.keeper.id()) < 50, "it burns CPU");
    kept.set_mode("serve");
    kept.wait_status("it recovers", |status| {
        status.server.state == State::Serving
    });
    let log = kept.stop();
    assert!(log.contains("started again in"), "{log}");
}

/// In hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let mut ticks = fields
        .split(' ')
        .skip(11)
        .map(|field| field.parse::<u64>().unwrap());
    ticks.next().unwrap() + ticks.next().unwrap()
}

#[test]
fn a_server_that_was_killed_and_does_not_end_is_not_waited_for() {
    let kept = Kept::ready("serve");
    let server = kept.status().server.pid.unwrap();
    // Whom somebody traces, his parent cannot reap.
    let mut command = process::bound_to_us(PYTHON, "KILL");
    let trace = "import ctypes, sys, time
PTRACE_SEIZE = 0x4206
ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None)
time.sleep(600)";
    command.args(["-c", trace, &server.to_string()]);
    let mut tracer = process::spawn(command);
    wait_until(SOON, "it is traced", || {
        let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
        !status.contains("TracerPid:\t0\n")
    });
    kill(server);
    let status = kept.wait_status("another serves", |status| {
        status.server.state == State::Serving && status.server.pid != Some(server)
    });
    assert!(Path::new(&format!("/proc/{server}")).exists(), "it ended");
    let death = status.server.last_death.unwrap();
    assert!(death.reason.contains("does not end"), "{death:?}");
    // It is reaped when that can be.
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    wait_until(SOON, "it is reaped", || {
        !Path::new(&format!("/proc/{server}")).exists()
    });
    kept.stop();
}

#[test]
fn a_server_that_was_killed_but_for_a_thread_is_replaced() {
    let kept = Kept::ready("serve");
    let server = kept.status().server.pid;
    // It keeps its end of the socket open, so nobody is told.
    kept.signal(Signal::HUP);
    kept.wait_status("another serves", |status| {
        status.server.state == State::Serving && status.server.pid != server
    });
    kept.stop();
}

#[test]
fn a_program_that_cannot_go_on_is_not_upgraded_to() {
    let kept = Kept::ready("serve");
    let old = kept.status().server.pid;
    let mut n_thawed = 0;
    let mut fails = |what: &str, why: &str| {
        let before = kept.status().upgrade.last;
        kept.signal(Signal::USR2);
        let status = kept.wait_status(what, |status| {
            status.upgrade.last != before && !status.upgrade.running
        });
        let reason = status.upgrade.last.unwrap().reason;
        assert!(reason.contains(why), "{what}: {reason}");
        assert_eq!(status.server.pid, old);
        n_thawed += 1;
        wait_until(SOON, "it thaws", || kept.heard("Thaw") == n_thawed);
    };
    kept.set_mode("die");
    fails("a program that exits", "exit status: 3");
    kept.set_mode("refuse");
    fails("another format", "a record of another format");
    kept.set_mode("hang");
    let start = Instant::now();
    fails("a program that hangs", "in time");
    assert!(start.elapsed() < Duration::from_secs(8));
    kept.set_mode("serve");
    replace(&kept.path("program"), |path| {
        fs::write(path, "no program").unwrap()
    });
    fails("what is no program", "cannot be started");
    replace(&kept.path("program"), |path| {
        std::os::unix::fs::symlink("/bin/false", path).unwrap();
    });
    fails("another program", "exit status: 1");
    // After all that, a crash starts the program that worked.
    kept.kill_server();
    kept.wait_status("it is served again", |status| {
        status.server.state == State::Serving && status.server.restarts == 1
    });
    kept.stop();
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    let new = path.with_extension("new");
    make(&new);
    fs::rename(new, path).unwrap();
}

#[test]
fn a_server_that_froze_too_late_does_not_start_the_next_upgrade() {
    let kept = Kept::ready("serve");
    let old = kept.status().server.pid;
    for (mode, n) in [("late", 1), ("late again", 2)] {
        kept.set_mode(mode);
        kept.signal(Signal::USR2);
        wait_until(SOON, "it thaws", || kept.heard("Thaw") == n);
    }
    // It froze for the first one while the second was under way.
    assert_eq!(kept.heard("Start"), 1, "a candidate was started");
    kept.set_mode("serve");
    kept.signal(Signal::USR2);
    kept.wait_status("it is upgraded", |status| status.server.pid != old);
    kept.stop();
}

#[test]
fn a_mount_that_nobody_can_go_on_with_is_made_anew() {
    let kept = Kept::ready("serve");
    let path = kept.path("mnt");
    // Nobody answers here, so this waits.
    let waits = std::thread::spawn({
        let path = path.join("x");
        move || fs::metadata(path).map(drop)
    });
    let before = mount_ids(&path);
    kept.set_mode("lost");
    kept.kill_server();
    let status = kept.wait_status("it is mounted anew", |status| status.anew.times == 1);
    assert_eq!(status.server.state, State::Serving);
    assert!(!status.anew.running);
    let lost = status.anew.last.unwrap();
    assert!(lost.reason.contains("there is no record"), "{lost:?}");
    assert!(
        waits.join().unwrap().is_err(),
        "whoever waited has an error"
    );
    let after = mount_ids(&path);
    assert_eq!(after.len(), 1, "{before:?} {after:?}");
    assert_ne!(after, before);
    let (code, table) = kept.status_command();
    assert_eq!(code, Some(1), "it was lost lately: {table}");
    assert!(table.contains("mounted anew 1 times"), "{table}");
    // And again.
    kept.kill_server();
    kept.wait_status("it is mounted anew", |status| status.anew.times == 2);
    let log = kept.stop();
    assert!(log.contains("the mount is lost"), "{log}");
}

/// The ids of what is mounted there.
fn mount_ids(path: &Path) -> Vec<String> {
    let path = path.to_path_buf().canonicalize_parent();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| {
            line.split(' ')
                .nth(4)
                .is_some_and(|at| Path::new(at) == path)
        })
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_lost_mount_that_somebody_unmounts_is_not_made_anew() {
    let mut kept = Kept::ready("serve");
    kept.set_mode("lost, and silent");
    kept.kill_server();
    kept.wait_status("it is being made", |status| status.anew.running);
    rustix::mount::unmount(kept.path("mnt"), UnmountFlags::NOFOLLOW).unwrap();
    let ended = process::wait(&mut kept.keeper, SOON).expect("it ends");
    assert!(ended.success());
    assert!(!is_mounted(&kept.path("mnt")));
}

#[test]
fn a_foreign_record_is_for_the_program_that_wrote_it() {
    let kept = Kept::start_with("serve", &["--restart-at-once"]).when_ready();
    kept.set_mode("die");
    kept.kill_server();
    kept.wait_status("it waits", |status| status.server.state == State::Backoff);
    let other = kept.path("other");
    fs::copy(PYTHON, &other).unwrap();
    replace(&kept.path("program"), |path| {
        std::os::unix::fs::symlink(&other, path).unwrap();
    });
    // The new program cannot read the record, but the old one works again.
    kept.set_mode("foreign");
    kept.signal(Signal::USR2);
    let status = kept.wait_status("it serves", |status| status.server.state == State::Serving);
    assert_eq!(status.anew.times, 0);
    assert_eq!(
        kept.text("log")
            .matches("program that wrote the record")
            .count(),
        1
    );
    // The old one does not work any more, and nobody else can read its record.
    kept.set_mode("foreign, or die");
    kept.kill_server();
    kept.wait_status("it waits", |status| status.server.state == State::Backoff);
    kept.signal(Signal::USR2);
    let status = kept.wait_status("it is mounted anew", |status| status.anew.times == 1);
    let server = status.server.pid.unwrap();
    assert_eq!(
        fs::read_link(format!("/proc/{server}/exe")).unwrap(),
        other.canonicalize().unwrap()
    );
    kept.stop();
}

#[test]
fn an_upgrade_goes_on_with_the_record() {
    let kept = Kept::ready("serve");
    let old = kept.status().server.pid.unwrap();
    kept.signal(Signal::USR2);
    let status = kept.wait_status("it is upgraded", |status| status.upgrade.last.is_some());
    assert_eq!(status.upgrade.last.unwrap().reason, "done");
    assert_ne!(status.server.pid, Some(old));
    assert_eq!(status.server.restarts, 0);
    assert!(!is_alive(old));
    wait_until(SOON, "it goes on", || kept.heard("Go") == 1);
    assert_eq!(kept.heard(&format!("record frozen {old}")), 1);
    kept.stop();
}

#[test]
fn killing_the_keeper_takes_the_others_along_and_the_next_mount_works() {
    let mut kept = Kept::ready("serve");
    let server = kept.status().server.pid.unwrap();
    kept.signal(Signal::KILL);
    kept.keeper.wait().unwrap();
    wait_until(SOON, "the server is gone", || !is_alive(server));
    assert_eq!(kept.status_command().0, Some(2));
    let directory = std::mem::replace(&mut kept.directory, prepare("serve"));
    fs::remove_file(directory.path().join("out")).unwrap();
    let mut command = process::bound_to_us(LIVEDATA, "TERM");
    command.args(["mount", "-f", "--binary", PYTHON, "config.ini", "mnt"]);
    let next = Kept::spawn(command, directory);
    wait_until(SOON, "it is ready", || next.text("out").contains("ready"));
    assert_eq!(next.status_command().0, Some(0));
    next.stop();
}

#[test]
fn the_keeper_ends_when_somebody_unmounts() {
    let mut kept = Kept::ready("serve");
    let server = kept.status().server.pid.unwrap();
    // umount(8) would first ask the mount something, and nobody answers here.
    rustix::mount::unmount(kept.path("mnt"), UnmountFlags::NOFOLLOW).unwrap();
    let ended = process::wait(&mut kept.keeper, SOON).expect("it ends");
    assert!(ended.success());
    assert!(!is_alive(server));
    assert_eq!(kept.status_command().0, Some(2));
}

#[test]
fn a_mount_that_cannot_become_ready_says_why() {
    for (mode, why) in [
        ("fail", "there is no such thing"),
        ("die", "exit status: 3"),
    ] {
        let mut kept = Kept::start(mode);
        let ended = process::wait(&mut kept.keeper, SOON).expect("it ends");
        assert_eq!(ended.code(), Some(1));
        assert!(kept.text("log").contains(why), "{}", kept.text("log"));
        assert!(!is_mounted(&kept.path("mnt")));
    }
}

#[test]
fn a_server_that_does_not_answer_does_not_hold_up_the_status() {
    let kept = Kept::ready("silent");
    let start = Instant::now();
    let (code, table) = kept.status_command();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(code, Some(1));
    assert!(table.contains("does not answer"), "{table}");
    kept.stop();
}

#[test]
fn the_control_socket_is_for_the_owner_and_nobody_holds_it_up() {
    let kept = Kept::ready("serve");
    let pid = kept.keeper.id();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let name = kept.directory.path().file_name().unwrap().to_str().unwrap();
    let escaped = name.trim_start_matches('.');
    let line = sockets
        .lines()
        .find(|line| line.contains(escaped) && line.contains("/livedata-fuse/"))
        .expect("there is a control socket");
    let socket = Path::new(line.rsplit(' ').next().unwrap());
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(
        fs::symlink_metadata(socket)
            .unwrap()
            .file_type()
            .is_socket()
    );
    assert_eq!(mode(socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    // Those who say nothing are not waited for, though others may have to stand in line.
    let silent: Vec<_> = (0..3)
        .map(|_| std::os::unix::net::UnixStream::connect(socket).unwrap())
        .collect();
    assert_eq!(kept.status().keeper.pid, pid);
    drop(silent);
    let socket = socket.to_path_buf();
    println!("VmRSS of the keeper: {}", resident(pid));
    kept.stop();
    assert!(!socket.exists());
}

#[test]
fn a_keeper_without_descriptors_does_not_spin() {
    let kept = Kept::ready("serve");
    let keeper = process::pid(&kept.keeper);
    let unlimited = rustix::process::prlimit(Some(keeper), Resource::Nofile, no_more_files(keeper));
    let mountpoint = kept.path("mnt").canonicalize_parent();
    let asked = std::thread::spawn(move || keeper::ask(&mountpoint, SOON));
    wait_until(SOON, "somebody had to wait", || {
        kept.text("log").contains("has to wait")
    });
    let before = cpu_ticks(kept.keeper.id());
    holds_for(Duration::from_secs(1), "the keeper is idle", || {
        cpu_ticks(kept.keeper.id()) - before < 30
    });
    assert!(!asked.is_finished());
    rustix::process::prlimit(Some(keeper), Resource::Nofile, unlimited.unwrap()).unwrap();
    asked.join().unwrap().expect("an answer");
    kept.stop();
}

/// A limit with which the process can open nothing more.
fn no_more_files(pid: Pid) -> Rlimit {
    let taken = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    let taken: Vec<u64> = taken
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let first = (0..).find(|descriptor| !taken.contains(descriptor));
    Rlimit {
        current: first,
        maximum: getrlimit(Resource::Nofile).maximum,
    }
}

fn resident(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().into()
}

#[test]
fn a_publisher_that_dies_is_replaced() {
    let directory = prepare("serve");
    // A keeper in a process of its own, for it catches signals.
    let mut command =
        process::bound_to_us(std::env::current_exe().unwrap().to_str().unwrap(), "TERM");
    command
        .args(["--ignored", "--exact", "keeper::keeper_of_a_place"])
        .env(DIRECTORY, directory.path().canonicalize().unwrap());
    let kept = Kept::spawn(command, directory);
    wait_until(SOON, "it has a publisher", || kept.heard("Publisher") == 1);
    let first = kept.status().publisher.pid.unwrap();
    wait_until(SOON, "it has its root", || {
        kept.text("heard").contains("publish {\"Root\":{\"path\":")
    });
    kill(first);
    let status = kept.wait_status("another publishes", |status| {
        status.publisher.pid.is_some_and(|pid| pid != first)
    });
    assert_eq!(status.publisher.restarts, 1);
    let second = status.publisher.pid.unwrap();
    wait_until(SOON, "the server knows it", || {
        kept.heard(&format!("publisher {second}")) == 1
    });
    // A new server gets a new publisher.
    kept.kill_server();
    let status = kept.wait_status("another publishes", |status| {
        status.publisher.pid.is_some_and(|pid| pid != second)
    });
    assert!(!is_alive(second));
    assert_eq!(status.publisher.restarts, 1);
    // One that the server complains of is replaced, too.
    let third = status.publisher.pid.unwrap();
    kept.set_mode("complain");
    kept.kill_server();
    let status = kept.wait_status("another publishes", |status| {
        status.publisher.restarts == 2 && status.publisher.state == State::Serving
    });
    assert_ne!(status.publisher.pid, Some(third));
    let death = status.publisher.last_death.unwrap();
    assert!(death.reason.contains("did not answer"), "{death:?}");
    kept.stop();
}

/// Not a test, but a process for one: a keeper of a place that is none.
#[test]
#[ignore = "it is started by another"]
fn keeper_of_a_place() {
    struct Nowhere(PathBuf);
    impl Place for Nowhere {
        fn create(&mut self) -> Result<OwnedFd, mountpoint::Error> {
            Ok(File::open("/dev/null").unwrap().into())
        }
        fn attach(&mut self) -> Result<(), mountpoint::Error> {
            Ok(())
        }
        fn private_root(&mut self) -> PublisherRoot {
            PublisherRoot::Path(self.0.clone())
        }
        fn is_attached(&self) -> bool {
            true
        }
        fn abandon(&mut self) {}
        fn detach(&mut self) -> bool {
            true
        }
    }
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = PathBuf::from(directory);
    let job = Job {
        config: directory.join("config.ini"),
        mountpoint: directory.join("mnt"),
        options: mountpoint::Options::default(),
        started_in: "/".into(),
        wait: SOON,
        strict: false,
        debug: false,
        background: false,
        binary: Some(PYTHON.into()),
        restart_at_once: false,
        without_resend: false,
    };
    let mut place = Nowhere(directory.join("mnt"));
    keeper::run_at(&mut place, job, |_| Ok(())).unwrap();
}
