//! Going to the background: this program again in a session of its own, which reports on its stdout
//! until it is ready. The lines are `loading ANSWERED NODES` and `ready TEXT`.
//!
//! Until then its errors appear on our stderr and its end is ours; and if we end first, it does
//! too.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::RawFd;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use livedata::keeper::Abandoned;

use crate::progress::ProgressLine;

/// Starts this program again and waits until it is ready, or failed.
pub(crate) fn start() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.remove(0);
    // Behind `--` it would be a path.
    let options_end = arguments.iter().position(|argument| argument == "--");
    arguments.insert(
        options_end.unwrap_or(arguments.len()),
        "--in-background".into(),
    );
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the process for the background")?;
    let reports = child.stdout.take().expect("its stdout is piped");
    let mut progress = ProgressLine::default();
    for line in BufReader::new(reports).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("loading", so_far)) => progress.show(so_far),
            Some(("ready", text)) => {
                progress.clear();
                let _ = writeln!(io::stdout(), "{text}");
                return Ok(ExitCode::SUCCESS);
            }
            Some(_) | None => {}
        }
    }
    progress.clear();
    // It ended before it was ready, and has said why.
    let status = child.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(0) => anyhow::bail!("it was unmounted or stopped before it was ready"),
        None => anyhow::bail!("the process in the background ended early: {status}"),
        Some(code) => Ok(ExitCode::from(code)),
    }
}

/// The other end, in the process that goes to the background.
pub(crate) struct Reporter(());

impl Reporter {
    /// Leaves the session and the directory of whoever started us, and what he had open.
    pub(crate) fn new() -> io::Result<Self> {
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        Ok(Self(()))
    }

    pub(crate) fn loading(&self, so_far: &str) -> Result<(), Abandoned> {
        writeln!(io::stdout(), "loading {so_far}").map_err(|_| Abandoned)
    }

    /// Says so, and lets go of the terminal.
    pub(crate) fn ready(self, text: &str) -> Result<(), Abandoned> {
        // Whoever is told finds the terminal left.
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let left = null.and_then(|null| {
            rustix::stdio::dup2_stderr(&null)?;
            Ok(null)
        });
        let told = writeln!(io::stdout(), "ready {text}").map_err(|_| Abandoned);
        if let Err(err) = left.and_then(|null| Ok(rustix::stdio::dup2_stdout(&null)?)) {
            log::warn!("the terminal stays open: {err}");
        }
        told
    }
}

/// Closes what this process inherited besides stdin, stdout and stderr. To be called before
/// anything of our own is open.
pub(crate) fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // That of the listing is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}
