//! Starting a command, and the process group that it leads.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::output::Output;
use crate::config::{self, Hook};
use crate::hooks::Outcome;
use crate::sys::{self, Identity};

/// What a command is not to inherit: it would speak for us, or change how it works.
const NOT_FOR_COMMANDS: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// A command that was started.
pub(super) struct Started {
    /// What the log calls it.
    pub(super) name: String,
    pub(super) group: Group,
    pub(super) since: Instant,
    /// It was told to end.
    pub(super) is_told: bool,
    /// How it ended; processes of its group may be left.
    pub(super) ended: Option<Outcome>,
}

/// A process group, by the process that leads or led it.
pub(super) struct Group(Pid);

/// Starts the command of a hook in a session of its own.
pub(super) fn start(
    name: String,
    hook: &Hook,
    variables: Vec<(&'static str, String)>,
    stdin: Option<OwnedFd>,
    dies_with_us: bool,
) -> io::Result<(Started, Output)> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (ours, theirs) = rustix::pipe::pipe_with(flags)?;
    // Ours alone: a command expects to wait where nobody reads.
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut command = match &hook.command {
        config::Command::Shell(text) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(text);
            shell
        }
        config::Command::Exec(words) => {
            let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    for name in NOT_FOR_COMMANDS {
        command.env_remove(name);
    }
    let mut identity = None;
    if let Some(account) = &hook.account {
        let home = account.home.as_deref().map(|home| home.as_os_str());
        let shell = account.shell.as_deref().map(|shell| shell.as_os_str());
        let name = account.name.as_deref().map(|name| name.as_ref());
        for (variable, value) in [
            ("HOME", home),
            ("SHELL", shell),
            ("USER", name),
            ("LOGNAME", name),
        ] {
            // Another group alone makes nobody somebody else.
            let is_another = account.uid != rustix::process::geteuid().as_raw();
            match value {
                Some(value) => command.env(variable, value),
                None if is_another => command.env_remove(variable),
                None => &mut command,
            };
        }
        // Nobody else could, nor has to.
        identity = rustix::process::geteuid().is_root().then(|| Identity {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
        });
    }
    command
        .envs(variables)
        .current_dir("/")
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    sys::isolate(&mut command, identity, dies_with_us);
    let child = command.spawn()?;
    let group = Group(Pid::from_child(&child));
    let output = Output::new(name.clone(), group.pid(), ours);
    let started = Started {
        name,
        group,
        since: Instant::now(),
        is_told: false,
        ended: None,
    };
    Ok((started, output))
}

/// The content of a memfd from its beginning, to be read only.
pub(super) fn reopened(memory: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
    Ok(File::open(path)?.into())
}

impl Started {
    /// Sends the command itself a signal.
    pub(super) fn notify(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else {
            return;
        };
        if let Err(err) = rustix::process::kill_process(self.group.0, signal) {
            log::debug!("{}: no signal to it: {err}", self.name);
        }
    }
}

impl Group {
    pub(super) fn pid(&self) -> u32 {
        self.0.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends all its processes a signal.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(err) = rustix::process::kill_process_group(self.0, signal) {
            log::debug!("process group {}: no signal to it: {err}", self.pid());
        }
    }

    /// Whether it has any process. While it has, no other process can have its number.
    pub(super) fn has_members(&self) -> bool {
        rustix::process::test_kill_process_group(self.0) != Err(rustix::io::Errno::SRCH)
    }
}
