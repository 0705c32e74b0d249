//! Mounts of the real program, each in a directory of its own.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::{place, process, wait};

/// How long a mount may take to be ready, beyond what its own `--wait` allows.
const START: Duration = Duration::from_secs(30);

/// How long it may take to unmount and end.
const STOP: Duration = Duration::from_secs(10);

/// A mount in the foreground of a child process; unmounted on drop, whatever became of the child.
pub struct Mount {
    child: Child,
    ready_line: String,
    dir: TempDir,
}

/// How `mount` ended without becoming ready.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it said on stderr.
    pub log: String,
}

impl Mount {
    /// Mounts what `config` says and waits until it is ready. `{root}` in it is the mountpoint.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// [`Mount::start`] with more arguments before the config, such as `["--wait", "1s"]`.
    #[track_caller]
    pub fn start_with(config: &str, arguments: &[&str]) -> Self {
        match Self::try_start(config, arguments) {
            Ok(mount) => mount,
            Err(refused) => panic!(
                "mount ended with {:?} before it was ready:\n{}",
                refused.code, refused.log
            ),
        }
    }

    /// Mounts, or tells how that failed.
    #[track_caller]
    pub fn try_start(config: &str, arguments: &[&str]) -> Result<Self, Refused> {
        let dir = tempfile::tempdir().unwrap();
        // Other users must get through to the mount.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let root = dir.path().join("mnt");
        let config = config.replace("{root}", root.to_str().unwrap());
        fs::write(dir.path().join("config.ini"), config).unwrap();
        fs::create_dir(root).unwrap();
        let (child, first_line) = Self::spawn(dir.path(), arguments);
        // From here on the guard cleans up.
        let mut mount = Self {
            child,
            ready_line: String::new(),
            dir,
        };
        mount.wait_until_ready(&first_line)?;
        Ok(mount)
    }

    /// Mounts once more at the same place, after the process has ended.
    #[track_caller]
    pub fn start_again(&mut self, arguments: &[&str]) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        let (child, first_line) = Self::spawn(self.dir.path(), arguments);
        self.child = child;
        if let Err(refused) = self.wait_until_ready(&first_line) {
            panic!("it ended with {:?}:\n{}", refused.code, refused.log);
        }
    }

    fn wait_until_ready(&mut self, first_line: &mpsc::Receiver<String>) -> Result<(), Refused> {
        match first_line.recv_timeout(START) {
            Ok(line) => {
                self.ready_line = line;
                Ok(())
            }
            // It closed its stdout: it ended, or is about to.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = process::wait(&mut self.child, STOP);
                Err(Refused {
                    code: status.and_then(|status| status.code()),
                    log: self.log(),
                })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("the mount is not ready after {START:?}:\n{}", self.log())
            }
        }
    }

    /// The root of the mount.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// A file in the mount.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root().join(file)
    }

    /// The content of a file in the mount; none where it cannot be read.
    pub fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.path(file)).ok()
    }

    /// The configuration, to be changed before a SIGHUP.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.ini")
    }

    /// The line that told that it is ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// What the server says of itself; null where it does not answer.
    pub fn details(&self) -> serde_json::Value {
        let answer = livedata::keeper::ask(&self.root(), Duration::from_secs(5)).ok();
        let mut status: serde_json::Value = answer
            .and_then(|answer| serde_json::from_str(&answer).ok())
            .unwrap_or_default();
        status["details"].take()
    }

    /// What it has said on stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The number of the process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All its processes that run.
    pub fn processes(&self) -> Vec<Pid> {
        place::processes_of(self.dir.path())
    }

    /// The process that serves it, if there is one.
    pub fn server(&self) -> Option<Pid> {
        let is_server = |pid: &Pid| {
            let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
            name.is_ok_and(|name| name == "livedata-server\n")
        };
        self.processes().into_iter().find(is_server)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(&self.child, signal);
    }

    /// Waits until it has ended, and gives the exit code; panics after some seconds.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        match process::wait(&mut self.child, STOP) {
            Some(status) => status.code(),
            None => panic!("still running after {STOP:?}:\n{}", self.log()),
        }
    }

    /// Whether its mountpoint is a mount.
    pub fn is_mounted(&self) -> bool {
        is_mounted(&self.root())
    }

    fn spawn(dir: &Path, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let mut command = process::bound_to_us(env!("CARGO_BIN_EXE_livedata-fuse"), "TERM");
        place::mark(&mut command, dir)
            .args(["mount", "-f"])
            .args(arguments)
            .arg(dir.join("config.ini"))
            .arg(dir.join("mnt"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut child = process::spawn(command);
        let stdout = child.stdout.take().unwrap();
        let (tell, first_line) = mpsc::channel();
        // Reads to the end, so that the child never writes into a closed pipe.
        thread::Builder::new()
            .name("mount-stdout".into())
            .spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.for_each(|line| drop(tell.send(line)));
            })
            .unwrap();
        (child, first_line)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of {}:\n{}", self.root().display(), self.log());
        }
        if self.child.try_wait().unwrap().is_none() {
            for signal in [Signal::TERM, Signal::CONT] {
                self.signal(signal);
            }
            let _ = process::wait(&mut self.child, STOP);
        }
        // The others end with the keeper, and it waits for them.
        let left = self.processes();
        for pid in &left {
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
        }
        let _ = self.child.wait();
        if self.is_mounted() {
            unmount_lazily(&self.root());
        }
        if !thread::panicking() {
            wait::wait_until(STOP, "all its processes end", || {
                self.processes().is_empty()
            });
            assert!(left.is_empty(), "{left:?} were left behind");
        }
    }
}

/// Whether a directory is a mountpoint. Asks the kernel's table only: a dead mount would hang.
pub fn is_mounted(directory: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut mountpoints = table.lines().filter_map(|line| line.split(' ').nth(4));
    mountpoints.any(|mountpoint| Path::new(mountpoint) == directory)
}

fn unmount_lazily(directory: &Path) {
    let root = rustix::process::geteuid().is_root();
    let (program, argument) = if root {
        ("umount", "-l")
    } else {
        ("fusermount3", "-uz")
    };
    let _ = Command::new(program).arg(argument).arg(directory).status();
}
