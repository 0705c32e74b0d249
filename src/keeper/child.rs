//! A process that the keeper started: how it is started, killed and reaped.
//!
//! The keeper never waits for one without a limit: a process that is killed while the mount owes it
//! an answer ends only when it has that answer, or when the connection ends.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::binary::Binary;
use crate::wire::Socket;

/// How soon a process is gone after SIGKILL, as a rule.
const DYING: Duration = Duration::from_secs(1);

/// A process, until it is reaped.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    started: Instant,
    /// When it was started, by the clock on the wall.
    pub(super) since: SystemTime,
}

impl Child {
    /// Starts the hidden command of a program; the socket becomes its stdin.
    ///
    /// It leads a process group of its own, so that a Ctrl-C reaches the keeper alone.
    pub(super) fn start(
        binary: &Binary,
        command: &str,
        stdin: Socket,
        stderr: Stdio,
    ) -> io::Result<Self> {
        let process = Command::new(binary.executable())
            .arg0(binary.path())
            .arg(command)
            .stdin(Stdio::from(OwnedFd::from(stdin)))
            .stdout(Stdio::null())
            .stderr(stderr)
            // systemd hears of the mount through the keeper.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .process_group(0)
            .spawn()?;
        Ok(Self {
            process,
            started: Instant::now(),
            since: SystemTime::now(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A descriptor of the process, which tells when it has ended (pidfd_open(2)). It was not reaped,
    /// so nobody else has its id.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        let pid = Pid::from_child(&self.process);
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// How long ago it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends it; that shows in [`Child::ended`].
    pub(super) fn kill(&mut self) {
        if let Err(err) = self.process.kill() {
            log::warn!("process {} cannot be killed: {err}", self.pid());
        }
    }

    /// How it ended, if it has; it is reaped then.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        match self.process.try_wait() {
            Ok(status) => status.map(Ended::With),
            Err(_) => Some(Ended::Unknown),
        }
    }

    /// Whether it has begun to end and cannot: its first thread has ended, and another one is left.
    pub(super) fn is_ending(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
        })
    }

    /// Ends it, and gives it a moment for that. False if it is still there.
    pub(super) fn end(&mut self) -> bool {
        self.kill();
        self.ends_within(DYING)
    }

    /// Whether it ends by itself before this much time has passed.
    pub(super) fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    With(ExitStatus),
    /// Somebody else reaped it.
    Unknown,
}

impl Ended {
    /// With exit code 0.
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::With(status) if status.success())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::With(status) => write!(f, "{status}"),
            Ended::Unknown => write!(f, "ended, nobody knows how"),
        }
    }
}

/// Makes the calling process end when the keeper does, even by SIGKILL. It is for the mains of the
/// server and of the publisher, before they start a thread; `name` is what ps(1) shows.
///
/// Fails if the keeper is gone already, or if it was not a keeper that started this process.
pub fn bind_to_parent(name: &str) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The keeper may have died before that; the socket remembers who made it.
    let keeper = rustix::net::sockopt::socket_peercred(io::stdin())?.pid;
    if rustix::process::getppid() != Some(keeper) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the keeper that started this process is gone",
        ));
    }
    // Started through a descriptor, it would go by the number of that. Only a name.
    let _ = std::fs::write("/proc/self/comm", name);
    Ok(())
}
