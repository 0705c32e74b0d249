//! The signals of the keeper, as a descriptor that poll(2) can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What a signal asks for. That a child ended (SIGCHLD) only wakes the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stop,
    Reload,
    Upgrade,
}

/// The signals that were caught and not yet looked at.
pub(super) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let caught = [SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD];
        SignalDelivery::with_pipe(read, write, SignalOnly, caught).map(Self)
    }

    /// What they ask for; the end comes first, for it makes the rest needless.
    pub(super) fn wishes(&mut self) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = self.0.pending().filter_map(wish).collect();
        wishes.sort_by_key(|wish| *wish != Wish::Stop);
        wishes
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

fn wish(signal: i32) -> Option<Wish> {
    match signal {
        SIGTERM | SIGINT => Some(Wish::Stop),
        SIGHUP => Some(Wish::Reload),
        SIGUSR2 => Some(Wish::Upgrade),
        _ => None,
    }
}
