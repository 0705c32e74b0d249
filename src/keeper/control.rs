//! The control socket of a keeper: who connects and writes `status` is answered in JSON.
//!
//! Nobody who connects can make the keeper wait: what cannot be read or written now is tried
//! later, until a limit.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::address;

/// How many are served at once; others wait in line.
const MOST_CLIENTS: usize = 8;

/// How long one may take for everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nobody is let in after there was no descriptor left for somebody: poll(2) would go on
/// to say that he waits.
const PAUSE: Duration = Duration::from_secs(1);

/// The one request there is.
const REQUEST: &[u8] = b"status\n";

/// The socket, and who is connected.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, by which we know the file for ours.
    identity: (u64, u64),
    clients: Vec<Client>,
    /// Until when nobody is let in.
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    until: Instant,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Request(Vec<u8>),
    /// The server is asked first.
    Waits,
    Answer(Answer),
    Over,
}

/// An answer on its way: the head, the server's part from its descriptor, the end.
#[derive(Debug)]
struct Answer {
    head: Vec<u8>,
    n_head: usize,
    details: Option<Rc<OwnedFd>>,
    n_details: u64,
    tail: &'static [u8],
}

impl Control {
    /// Opens the control socket of a mount; one that a dead keeper left is replaced.
    pub(super) fn open(mountpoint: &Path) -> io::Result<Self> {
        let path = address::of(mountpoint)?;
        let directory = path.parent().expect("it is in a directory of ours");
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(err) if err.kind() != ErrorKind::AlreadyExists => return Err(err),
            Ok(()) | Err(_) => {}
        }
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("{} is not ours", directory.display()),
            ));
        }
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let found = fs::symlink_metadata(&path)?;
        Ok(Self {
            listener,
            identity: (found.dev(), found.ino()),
            path,
            clients: Vec::new(),
            paused_until: None,
        })
    }

    /// What poll(2) should wait for.
    pub(super) fn interests<'a>(&'a self, poll: &mut Vec<PollFd<'a>>) {
        if self.clients.len() < MOST_CLIENTS && self.paused_until.is_none() {
            poll.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        for client in &self.clients {
            match client.step {
                Step::Request(_) => poll.push(PollFd::new(&client.stream, PollFlags::IN)),
                Step::Answer(_) => poll.push(PollFd::new(&client.stream, PollFlags::OUT)),
                Step::Waits | Step::Over => {}
            }
        }
    }

    /// When somebody's time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| client.until);
        clients.chain(self.paused_until).min()
    }

    /// Does what can be done without waiting.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        while self.clients.len() < MOST_CLIENTS && self.paused_until.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.clients.push(Client {
                            stream,
                            until: now + PATIENCE,
                            step: Step::Request(Vec::new()),
                        });
                    }
                }
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock) => break,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                // He who waits is gone.
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => {}
                Err(err) => {
                    log::warn!("whoever asks for the status has to wait: {err}");
                    self.paused_until = Some(now + PAUSE);
                }
            }
        }
        for client in &mut self.clients {
            client.go_on();
        }
        self.clients
            .retain(|client| !matches!(client.step, Step::Over) && client.until > now);
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.clients
            .iter()
            .any(|client| matches!(client.step, Step::Waits))
    }

    /// Answers everybody who waits: `head` is a JSON object, to which the server's part is added.
    pub(super) fn answer(&mut self, head: &str, details: Option<OwnedFd>) {
        let head = head.strip_suffix('}').unwrap_or(head);
        let details = details.map(Rc::new);
        for client in &mut self.clients {
            if matches!(client.step, Step::Waits) {
                client.step = Step::Answer(Answer {
                    head: format!("{head},\"details\":").into_bytes(),
                    n_head: 0,
                    details: details.clone(),
                    n_details: 0,
                    tail: if details.is_some() {
                        b"}\n"
                    } else {
                        b"null}\n"
                    },
                });
                client.go_on();
            }
        }
        // Only that it is closed tells a client that this is all.
        self.clients
            .retain(|client| !matches!(client.step, Step::Over));
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours && let Err(err) = fs::remove_file(&self.path) {
            log::warn!("{} stays behind: {err}", self.path.display());
        }
    }
}

impl Client {
    fn go_on(&mut self) {
        let step = match &mut self.step {
            Step::Request(text) => read_request(&mut self.stream, text),
            Step::Answer(answer) => answer
                .write(&mut self.stream)
                .map(|done| done.then_some(Step::Over)),
            Step::Waits | Step::Over => return,
        };
        match step {
            Ok(None) => {}
            Ok(Some(step)) => self.step = step,
            Err(err) if err.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.step = Step::Over,
        }
    }
}

fn read_request(stream: &mut UnixStream, text: &mut Vec<u8>) -> io::Result<Option<Step>> {
    let mut more = [0; REQUEST.len()];
    let n_read = stream.read(&mut more)?;
    text.extend_from_slice(&more[..n_read]);
    Ok(if text == REQUEST {
        Some(Step::Waits)
    } else if n_read > 0 && REQUEST.starts_with(text) {
        None
    } else {
        Some(Step::Over)
    })
}

impl Answer {
    /// Writes on; true when all is written.
    fn write(&mut self, stream: &mut UnixStream) -> io::Result<bool> {
        while self.n_head < self.head.len() {
            self.n_head += stream.write(&self.head[self.n_head..])?;
        }
        if let Some(details) = &self.details {
            // Straight from the server's memory: it may be long, and the keeper is small.
            while rustix::fs::sendfile(&*stream, details, Some(&mut self.n_details), 1 << 20)? > 0 {
            }
            self.details = None;
        }
        while !self.tail.is_empty() {
            let n_written = stream.write(self.tail)?;
            self.tail = &self.tail[n_written..];
        }
        Ok(true)
    }
}
