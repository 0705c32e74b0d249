//! A server as the keeper knows it: a process, the socket to it, and what it has said.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::binary::Binary;
use super::child::Child;
use crate::processes::{Lost, SERVER_COMMAND, Start, ToKeeper, ToServer};
use crate::wire::Socket;

/// How many messages are taken at once, so that a server that talks without end holds up nobody.
const MOST_MESSAGES: usize = 256;

/// How long one that was killed may take to end, before another takes its place.
const STAYS: Duration = Duration::from_secs(5);

/// How often it is looked whether one is about to end and cannot, of which nothing tells.
const LOOK: Duration = Duration::from_secs(5);

/// How long one may take from closing its end to its death.
const DYING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    socket: Socket,
    /// It has closed its end, as it does when it dies; if it does not die by then, it is ended.
    /// Not at once, or nobody would learn how it died.
    pub(super) mute_until: Option<Instant>,
    /// We have killed it.
    killed: Option<Instant>,
    next_look: Instant,
    /// Its record, which counts once it has been told to go on.
    pub(super) record: Option<OwnedFd>,
    /// Why it, or we, gave up.
    pub(super) last_words: Option<String>,
    /// It says that the mount cannot be gone on with.
    pub(super) lost: Option<Lost>,
}

impl Server {
    /// Starts one, and tells it what it must know.
    pub(super) fn start<'a>(
        binary: &Binary,
        start: Start,
        device: &'a OwnedFd,
        kept: impl Iterator<Item = &'a OwnedFd>,
    ) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        // A server that does not listen must not make the keeper wait.
        rustix::io::ioctl_fionbio(&ours, true)?;
        let child = Child::start(binary, SERVER_COMMAND, theirs, Stdio::inherit())?;
        let mut server = Self {
            child,
            socket: ours,
            mute_until: None,
            killed: None,
            next_look: Instant::now() + LOOK,
            record: None,
            last_words: None,
            lost: None,
        };
        let with: Vec<BorrowedFd<'_>> = std::iter::once(device)
            .chain(kept)
            .map(AsFd::as_fd)
            .collect();
        server.tell(&ToServer::Start(start), &with);
        Ok(server)
    }

    /// Tells it something. One that cannot be told anything is ended.
    pub(super) fn tell(&mut self, message: &ToServer, with: &[BorrowedFd<'_>]) {
        match self.socket.send(message, with) {
            Ok(()) => {}
            Err(err) if is_gone(&err) => self.falls_silent(),
            Err(err) => self.give_up(format!("it cannot be told anything: {err}")),
        }
    }

    /// Ends it, if it has closed its end and yet lives.
    pub(super) fn end_if_mute(&mut self, now: Instant) {
        if self.mute_until.is_some_and(|at| at <= now) {
            self.mute_until = Some(now + DYING);
            self.give_up("it closed its socket".into());
        }
    }

    /// When it is to be looked at.
    pub(super) fn deadline(&self) -> Instant {
        let stays = self.killed.map(|at| at + STAYS);
        let deadlines = [self.mute_until, stays, Some(self.next_look)];
        deadlines
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_look)
    }

    /// Whether it was killed, and is still there after some time. One that somebody else has killed
    /// is found to be so here.
    ///
    /// A thread of it hangs in a system call, perhaps until its successor answers a request. It
    /// serves no more: with SIGKILL pending it never comes back from the kernel, so whatever it
    /// would write next, to the record or to the mount, is not written. (What it is writing just
    /// then may be: should that tear the record, its checksums tell.)
    pub(super) fn stays(&mut self, now: Instant) -> bool {
        if self.next_look <= now {
            self.next_look = now + LOOK;
            if self.killed.is_none() && self.child.is_ending() {
                self.give_up("it was killed".into());
            }
        }
        self.killed.is_some_and(|at| at + STAYS <= now)
    }

    fn falls_silent(&mut self) {
        self.mute_until.get_or_insert(Instant::now() + DYING);
    }

    /// Ends it, for this reason.
    pub(super) fn give_up(&mut self, reason: String) {
        self.last_words.get_or_insert(reason);
        self.falls_silent();
        self.killed.get_or_insert(Instant::now());
        self.child.kill();
    }

    /// What it has said and nobody has heard yet.
    pub(super) fn hear(&mut self) -> Vec<(ToKeeper, Vec<OwnedFd>)> {
        let mut heard = Vec::new();
        while heard.len() < MOST_MESSAGES {
            match self.socket.receive() {
                Ok(Some(message)) => heard.push(message),
                Ok(None) => {
                    self.falls_silent();
                    break;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if is_nonsense(&err) => {
                    log::warn!("a message of the server is not understood: {err}");
                }
                Err(err) => {
                    self.give_up(format!("it cannot be heard: {err}"));
                    break;
                }
            }
        }
        heard
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The other end is closed.
fn is_gone(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// The message came, but another version of the program knows what it means.
fn is_nonsense(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}
