//! Going to the background: this program again in a session of its own, which reports on its stdout
//! until it is ready. The lines are `loading ANSWERED NODES` and `ready TEXT`.
//!
//! Until then its errors appear on our stderr and its end is ours; and if we end first, it does
//! too.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use livedata::keeper::Abandoned;

use crate::mount::ProgressLine;

/// Starts this program again and waits until it is ready, or failed.
pub(crate) fn start() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    let mut child = command
        .args(arguments)
        .arg("--in-background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the process for the background")?;
    let reports = child.stdout.take().expect("its stdout is piped");
    let mut progress = ProgressLine::default();
    for line in BufReader::new(reports).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("loading", counts)) => {
                if let Some((n_answered, n_nodes)) = counts.split_once(' ') {
                    progress.show(n_answered, n_nodes);
                }
            }
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
        Some(0) | None => anyhow::bail!("the process in the background ended early: {status}"),
        Some(code) => Ok(ExitCode::from(code)),
    }
}

/// The other end, in the process that goes to the background.
pub(crate) struct Reporter(());

impl Reporter {
    /// Leaves the session of whoever started us.
    pub(crate) fn new() -> io::Result<Self> {
        rustix::process::setsid()?;
        Ok(Self(()))
    }

    pub(crate) fn loading(&self, n_answered: usize, n_nodes: usize) -> Result<(), Abandoned> {
        writeln!(io::stdout(), "loading {n_answered} {n_nodes}").map_err(|_| Abandoned)
    }

    /// Says so, and lets go of the terminal.
    pub(crate) fn ready(self, text: &str) -> Result<(), Abandoned> {
        let told = writeln!(io::stdout(), "ready {text}").map_err(|_| Abandoned);
        match OpenOptions::new().read(true).write(true).open("/dev/null") {
            Ok(null) => {
                let dupped = rustix::stdio::dup2_stdin(&null)
                    .and_then(|()| rustix::stdio::dup2_stdout(&null))
                    .and_then(|()| rustix::stdio::dup2_stderr(&null));
                if let Err(err) = dupped {
                    log::warn!("the terminal stays open: {err}");
                }
            }
            Err(err) => log::warn!("/dev/null: {err}"),
        }
        told
    }
}
