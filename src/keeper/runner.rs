//! The runner as the keeper knows it: started once a server wants one, given to each server, and
//! started again when it dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::binary::Binary;
use super::child::{Child, Ended};
use super::restarts::Restarts;
use super::status::{Event, Process, State, seconds};
use super::{Keeper, Stage};
use crate::hooks::{FromRunner, ToRunner};
use crate::processes::{RUNNER_COMMAND, ToServer};
use crate::wire::Socket;

/// How much longer than commands may take to end is waited for their runner.
const GRACE: Duration = Duration::from_secs(2);

/// The one there is, or will be.
#[derive(Debug, Default)]
pub(super) struct Runner {
    /// A server has hooks.
    pub(super) wanted: bool,
    pub(super) child: Option<Child>,
    socket: Option<Socket>,
    /// What the next one must know.
    journal: Option<OwnedFd>,
    /// How long it may take to end; none while it is not known, or where it is not waited for.
    patience: Patience,
    /// It was told to make room for another program, or to end.
    leaves: bool,
    /// When the next one is to be started.
    pub(super) due: Option<Instant>,
    restarts: Restarts,
    n_restarts: u64,
    last_death: Option<Event>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Patience {
    #[default]
    Unknown,
    For(Duration),
    /// Its commands are left to themselves, and it with them.
    None,
}

impl Runner {
    /// None yet.
    pub(super) fn new(restarts: Restarts) -> Self {
        Self {
            restarts,
            ..Self::default()
        }
    }

    pub(super) fn status(&self) -> Option<Process> {
        self.wanted.then(|| Process {
            pid: self.child.as_ref().map(Child::pid),
            since: self.child.as_ref().map(|child| seconds(child.since)),
            restarts: self.n_restarts,
            state: match (&self.child, self.due) {
                (Some(_), _) => State::Serving,
                (None, Some(_)) => State::Backoff,
                (None, None) => State::Starting,
            },
            last_death: self.last_death.clone(),
            reason: None,
        })
    }

    /// To be waited for.
    pub(super) fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    fn start(&mut self, binary: &Binary, start: &ToRunner, background: bool) -> io::Result<()> {
        let (ours, theirs) = Socket::pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let with: Vec<BorrowedFd<'_>> = self.journal.iter().map(AsFd::as_fd).collect();
        ours.send(start, &with)?;
        let stderr = match background {
            true => Stdio::null(),
            false => Stdio::inherit(),
        };
        self.child = Some(Child::start(binary, RUNNER_COMMAND, theirs, stderr)?);
        self.socket = Some(ours);
        self.leaves = false;
        Ok(())
    }

    fn tell(&mut self, message: &ToRunner, with: &[BorrowedFd<'_>]) {
        let Some(socket) = &self.socket else {
            return;
        };
        match socket.send(message, with) {
            Ok(()) => {}
            // It is reaped soon.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => self.socket = None,
            Err(err) => {
                log::error!("the runner cannot be told anything: {err}");
                if let Some(child) = &mut self.child {
                    child.kill();
                }
            }
        }
    }

    fn hear(&mut self) {
        while let Some(socket) = &self.socket {
            match socket.receive() {
                Ok(Some((FromRunner::Journal, mut with))) => self.journal = with.pop(),
                Ok(Some((FromRunner::Patience(patience), _))) => {
                    self.patience = patience.map_or(Patience::None, |milliseconds| {
                        Patience::For(Duration::from_millis(milliseconds))
                    });
                }
                Ok(None) => self.socket = None,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(err) => {
                    log::warn!("the runner is not understood: {err}");
                    self.socket = None;
                }
            }
        }
    }
}

impl Keeper<'_> {
    /// Gives the server a runner, if it wants one and there is a mount to speak of.
    pub(super) fn give_runner(&mut self) {
        let is_shown = self.root.is_some() && self.stage == Stage::Serving;
        if !self.runner.wanted || !is_shown || self.runner.leaves {
            return;
        }
        if self.runner.child.is_none() {
            if self.runner.due.is_some_and(|at| at > Instant::now()) {
                return;
            }
            self.runner.due = None;
            let start = ToRunner::Start {
                mountpoint: self.job.mountpoint.clone(),
                debug: self.job.debug,
                background: self.job.background,
                first: self.runner.journal.is_none(),
            };
            let background = self.job.background;
            if let Err(err) = self.runner.start(&self.confirmed, &start, background) {
                let reason = format!("cannot be started: {err}");
                return self.count_runner_death(reason, Duration::ZERO);
            }
        }
        match Socket::pair() {
            Ok((for_server, for_runner)) => {
                self.runner.tell(&ToRunner::Server, &[for_runner.as_fd()]);
                if let Some(server) = &mut self.server {
                    server.tell(&ToServer::Runner, &[for_server.as_fd()]);
                }
            }
            Err(err) => log::error!("the server cannot speak with the runner: {err}"),
        }
    }

    pub(super) fn hear_runner(&mut self) {
        self.runner.hear();
    }

    /// There is another program: the next runner is started from it, once no command runs.
    pub(super) fn renew_runner(&mut self) {
        if self.runner.child.is_some() {
            self.runner.tell(&ToRunner::Retire, &[]);
        }
    }

    pub(super) fn runner_died(&mut self, ended: Ended) {
        self.runner.hear();
        let Some(child) = self.runner.child.take() else {
            return;
        };
        self.runner.socket = None;
        if self.runner.leaves {
            return;
        }
        if ended.is_success() {
            // It has made room.
            self.runner.due = Some(Instant::now());
            return;
        }
        self.count_runner_death(ended.to_string(), child.age());
    }

    fn count_runner_death(&mut self, reason: String, lived: Duration) {
        log::error!("the runner of hooks died after {lived:.1?}: {reason}");
        self.runner.last_death = Some(Event::now(reason));
        self.runner.n_restarts += 1;
        let delay = self.runner.restarts.delay(lived);
        if !delay.is_zero() {
            log::warn!("the runner of hooks is started again in {delay:.1?}");
        }
        self.runner.due = Some(Instant::now() + delay);
    }

    /// The mount has ended, and so do commands, unless they are left to themselves.
    pub(super) fn end_runner(&mut self) {
        self.runner.leaves = true;
        self.runner.tell(&ToRunner::End, &[]);
    }

    /// Waits until commands have ended, as long as they may take.
    pub(super) fn wait_for_runner(&mut self) {
        let Some(mut child) = self.runner.child.take() else {
            return;
        };
        let patience = match self.runner.patience {
            Patience::None => return,
            Patience::Unknown => Duration::ZERO,
            Patience::For(patience) => patience,
        };
        if !child.ends_within(patience.saturating_add(GRACE)) && !child.end() {
            log::warn!("the runner, process {}, does not end", child.pid());
        }
    }
}
