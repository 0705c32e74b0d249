//! A server as the keeper knows it: a process, the socket to it, and what it has said.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::binary::Binary;
use super::child::Child;
use crate::processes::{SERVER_COMMAND, Start, ToKeeper, ToServer};
use crate::wire::Socket;

/// How many messages are taken at once, so that a server that talks without end holds up nobody.
const MOST_MESSAGES: usize = 256;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    socket: Socket,
    /// It has closed its end.
    pub(super) is_mute: bool,
    /// Its record, which counts once it has been told to go on.
    pub(super) record: Option<OwnedFd>,
    /// Why it, or we, gave up.
    pub(super) last_words: Option<String>,
}

impl Server {
    /// Starts one, and tells it what it must know.
    pub(super) fn start(
        binary: &Binary,
        start: Start,
        device: &OwnedFd,
        record: Option<&OwnedFd>,
    ) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        // A server that does not listen must not make the keeper wait.
        rustix::io::ioctl_fionbio(&ours, true)?;
        let child = Child::start(binary, SERVER_COMMAND, theirs)?;
        let mut server = Self {
            child,
            socket: ours,
            is_mute: false,
            record: None,
            last_words: None,
        };
        let with: Vec<BorrowedFd<'_>> = std::iter::once(device)
            .chain(record)
            .map(AsFd::as_fd)
            .collect();
        server.tell(&ToServer::Start(start), &with);
        Ok(server)
    }

    /// Tells it something. One that cannot be told anything is ended.
    pub(super) fn tell(&mut self, message: &ToServer, with: &[BorrowedFd<'_>]) {
        if let Err(err) = self.socket.send(message, with)
            && !self.is_mute
        {
            self.give_up(format!("it cannot be told anything: {err}"));
        }
    }

    /// Ends it, for this reason.
    pub(super) fn give_up(&mut self, reason: String) {
        self.last_words.get_or_insert(reason);
        self.is_mute = true;
        self.child.kill();
    }

    /// What it has said and nobody has heard yet.
    pub(super) fn hear(&mut self) -> Vec<(ToKeeper, Vec<OwnedFd>)> {
        let mut heard = Vec::new();
        while heard.len() < MOST_MESSAGES {
            match self.socket.receive() {
                Ok(Some(message)) => heard.push(message),
                Ok(None) if self.is_mute => break,
                Ok(None) => {
                    // As a rule it has died; if not, it is of no use any more.
                    self.is_mute = true;
                    self.child.kill();
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

/// The message came, but another version of the program knows what it means.
fn is_nonsense(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}
