//! The publisher as the keeper knows it: started beside a server, and again when it dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Instant;

use super::binary::Binary;
use super::child::Child;
use super::place::PublisherRoot;
use super::restarts::Restarts;
use super::status::{Event, Process, State, seconds};
use crate::processes::{PUBLISHER_COMMAND, ToPublisher};
use crate::wire::Socket;

/// The one there is, or will be.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) child: Option<Child>,
    /// When the next one is to be started.
    pub(super) due: Option<Instant>,
    pub(super) restarts: Restarts,
    pub(super) n_restarts: u64,
    pub(super) last_death: Option<Event>,
    /// Why there is none.
    pub(super) nowhere: Option<String>,
}

impl Publisher {
    pub(super) fn status(&self) -> Process {
        Process {
            pid: self.child.as_ref().map(Child::pid),
            since: self.child.as_ref().map(|child| seconds(child.since)),
            restarts: self.n_restarts,
            state: match (&self.child, &self.nowhere, self.due) {
                (Some(_), _, _) => State::Serving,
                (None, Some(_), _) => State::None,
                (None, None, Some(_)) => State::Backoff,
                (None, None, None) => State::Starting,
            },
            last_death: self.last_death.clone(),
            reason: self.nowhere.clone(),
        }
    }
}

/// One that was started.
pub(super) struct Started {
    pub(super) child: Child,
    /// A descriptor of the process.
    pub(super) process: OwnedFd,
    /// The other end of the socket to it, for the server.
    pub(super) socket: OwnedFd,
}

/// Starts one, and tells it where to work.
///
/// In the background its stderr is nobody's: the terminal is left.
pub(super) fn start(
    binary: &Binary,
    root: &PublisherRoot,
    background: bool,
) -> io::Result<Started> {
    let (for_server, theirs) = Socket::pair()?;
    let (path, with): (_, Vec<BorrowedFd<'_>>) = match root {
        PublisherRoot::Directory(root) => (None, vec![root.as_fd()]),
        PublisherRoot::Path(path) => (Some(path.clone()), Vec::new()),
        PublisherRoot::Nowhere(reason) => return Err(io::Error::other(reason.clone())),
    };
    for_server.send(&ToPublisher::Root { path }, &with)?;
    let stderr = if background {
        Stdio::null()
    } else {
        Stdio::inherit()
    };
    let mut child = Child::start(binary, PUBLISHER_COMMAND, theirs, stderr)?;
    match child.descriptor() {
        Ok(process) => Ok(Started {
            child,
            process,
            socket: for_server.into(),
        }),
        Err(err) => {
            // Nobody told it to do anything.
            child.end();
            Err(err)
        }
    }
}
