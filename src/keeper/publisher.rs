//! The publisher as the keeper knows it: started beside a server, and again when it dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Keeper;
use super::binary::Binary;
use super::child::{Child, Ended};
use super::place::PublisherRoot;
use super::restarts::Restarts;
use super::status::{Event, Process, State, seconds};
use crate::processes::{PUBLISHER_COMMAND, ToPublisher, ToServer};
use crate::wire::Socket;

/// The most publishers that were killed and have not ended, of which a server is told.
const MOST_PUBLISHERS: usize = 16;

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

impl Keeper<'_> {
    pub(super) fn start_publisher(&mut self) {
        self.publisher.due = None;
        let Some(server) = &mut self.server else {
            return;
        };
        let Some(root) = &self.root else {
            return server.tell(&ToServer::NoPublisher, &[]);
        };
        if let PublisherRoot::Nowhere(reason) = root {
            self.publisher.nowhere = Some(reason.clone());
            server.tell(&ToServer::NoPublisher, &[]);
            return;
        }
        match start(&self.confirmed, root, self.job.background) {
            Ok(Started {
                child,
                process,
                socket,
            }) => {
                let pid = child.pid();
                let with = [socket.as_fd(), process.as_fd()];
                server.tell(&ToServer::Publisher { pid }, &with);
                self.publishers.push((pid, process));
                if self.publishers.len() > MOST_PUBLISHERS {
                    self.publishers.remove(0);
                }
                self.publisher.child = Some(child);
            }
            Err(err) => {
                self.count_publisher_death(format!("cannot be started: {err}"), Duration::ZERO);
            }
        }
    }

    /// Ends the publisher; it may take until the mount is served again.
    pub(super) fn end_publisher(&mut self) {
        self.publisher.due = None;
        if let Some(mut child) = self.publisher.child.take() {
            child.kill();
            self.dying.push(child);
        }
    }

    /// It does not answer the server.
    pub(super) fn replace_publisher(&mut self, pid: u32) {
        if let Some(mut child) = self.publisher.child.take_if(|child| child.pid() == pid) {
            child.kill();
            self.count_publisher_death("it did not answer".into(), child.age());
            self.dying.push(child);
        }
    }

    pub(super) fn publisher_died(&mut self, ended: Ended) {
        if let Some(child) = self.publisher.child.take() {
            self.publishers.retain(|(pid, _)| *pid != child.pid());
            self.count_publisher_death(ended.to_string(), child.age());
        }
    }

    pub(super) fn count_publisher_death(&mut self, reason: String, lived: Duration) {
        log::error!("the publisher died after {lived:.1?}: {reason}");
        self.publisher.last_death = Some(Event::now(reason));
        self.publisher.n_restarts += 1;
        let delay = self.publisher.restarts.delay(lived);
        self.publisher.due = Some(Instant::now() + delay);
        if !delay.is_zero() {
            log::warn!("the publisher is started again in {delay:.1?}");
            self.tell_server(&ToServer::NoPublisher);
        }
    }
}
