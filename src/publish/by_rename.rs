//! Publishing by the hand of the publisher, so that it looks like an atomic rename on any file
//! system: inotify and all that is built on it see it.
//!
//! One change: the publisher renames the staged file onto its name, for which the kernel looks it up;
//! asked to rename, [`crate::fuse`] stores its content into the page cache, and the tree changes; and
//! the publisher looks at the name, so that the first reader asks nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::processes::{Done, STAGING, SystemCall, ToPublisher};
use crate::publish::BATCH;
use crate::tree::{Call, Ino, Step};
use crate::wire::Socket;

/// How long the publisher may take for one answer, or to read what it is told: each is a system call
/// that we answer at once, so one that takes longer is stopped or hangs.
const LIMIT: Duration = Duration::from_secs(3);

/// The publisher process.
pub(super) struct Remote {
    pub(super) pid: u32,
    socket: Socket,
    next: u64,
}

impl Remote {
    pub(super) fn new(pid: u32, socket: Socket) -> Self {
        for which in [Timeout::Send, Timeout::Recv] {
            if let Err(err) = set_socket_timeout(&socket, which, Some(LIMIT)) {
                log::error!("a publisher that hangs would be waited for: {err}");
            }
        }
        Self {
            pid,
            socket,
            next: 0,
        }
    }

    /// Has all of this done, in order; gives the error numbers, in order.
    fn call_all(&mut self, calls: Vec<SystemCall>) -> io::Result<Vec<i32>> {
        let first = self.next;
        let n = calls.len() as u64;
        for call in calls {
            let id = self.next;
            self.next += 1;
            self.socket.send(&ToPublisher::Do { id, call }, &[])?;
        }
        (first..first + n)
            .map(|id| match self.socket.receive::<Done>()? {
                Some((done, _)) if done.id == id => Ok(done.errno),
                Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "out of order")),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            })
            .collect()
    }
}

/// Whether it is there and does not answer.
pub(super) fn hangs(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::WouldBlock
}

/// Has the kernel let go of what another server had staged, or kept for those who had it open: a
/// name in the staging directory would hold on to it for ever.
pub(super) fn clear_staging(publisher: &mut Remote, left: &[Ino]) -> io::Result<()> {
    for some in left.chunks(BATCH) {
        let path = |ino: &Ino| PathBuf::from(STAGING).join(ino.0.to_string());
        let calls = some
            .iter()
            .map(|ino| SystemCall::Unlink { path: path(ino) })
            .collect();
        // What was not there needed no clearing.
        publisher.call_all(calls)?;
    }
    Ok(())
}

/// Publishes what it can. What is still staged afterwards was not brought about. An error means
/// that the publisher is gone, or [hangs].
pub(super) fn publish(publisher: &mut Remote, steps: &[&Step]) -> io::Result<()> {
    let calls = steps.iter().map(|step| {
        let path = PathBuf::from(step.path.to_string());
        match &step.call {
            Call::Rename { staged } => SystemCall::Rename {
                staged: staged.0,
                to: path,
            },
            Call::Mkdir => SystemCall::Mkdir { path },
            Call::Unlink => SystemCall::Unlink { path },
            Call::Rmdir => SystemCall::Rmdir { path },
        }
    });
    let calls: Vec<_> = calls.collect();
    let shown: Vec<_> = calls.iter().map(|call| format!("{call:?}")).collect();
    for (errno, call) in publisher.call_all(calls)?.into_iter().zip(shown) {
        if errno != 0 {
            let err = io::Error::from_raw_os_error(errno);
            log::warn!("the publisher could not do {call}: {err}; the kernel is notified instead");
        }
    }
    Ok(())
}
