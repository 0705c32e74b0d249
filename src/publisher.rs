//! The publisher process: makes system calls on the private mount at the server's word.
//!
//! To whoever watches, that is what a change is: rename(2) onto a name gives the events of an
//! atomic replacement, as on any file system. The process holds no `/dev/fuse`, so it may wait for
//! the mount, and be killed while it does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::keeper;
use crate::privileges;
use crate::processes::{Done, STAGING, SystemCall, ToPublisher};
use crate::wire::Socket;

/// Permission bits of directories it makes; the server knows better, so they do not count.
const DIRECTORY: Mode = Mode::from_raw_mode(0o555);

/// The main of the publisher process.
pub fn main() -> ExitCode {
    let worked = privileges::keep_those_for_files()
        .and_then(|()| keeper::bind_to_parent("livedata-publish"))
        .and_then(|()| io::stdin().as_fd().try_clone_to_owned())
        .and_then(|server| run(&Socket::from(server)));
    match worked {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("livedata-fuse: the publisher: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Works until the server is gone.
fn run(server: &Socket) -> io::Result<()> {
    let mut root = None;
    while let Some((message, with)) = server.receive::<ToPublisher>()? {
        match message {
            ToPublisher::Root { path } => root = Some(Root::new(path, with)?),
            ToPublisher::Do { id, call } => {
                let result = match &root {
                    Some(root) => root.call(&call),
                    None => Err(Errno::BADF),
                };
                let errno = result.map_or_else(Errno::raw_os_error, |()| 0);
                if server.send(&Done { id, errno }, &[]).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Where to work.
enum Root {
    /// The root of the private mount.
    Private(OwnedFd),
    /// A path through the public mount. A descriptor of it would keep it from being unmounted.
    Public(PathBuf),
}

impl Root {
    fn new(path: Option<PathBuf>, with: Vec<OwnedFd>) -> io::Result<Self> {
        match (path, with.into_iter().next()) {
            (_, Some(private)) => Ok(Self::Private(private)),
            (Some(path), None) => Ok(Self::Public(path)),
            (None, None) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no root to work in",
            )),
        }
    }

    fn call(&self, call: &SystemCall) -> Result<(), Errno> {
        let opened;
        let root = match self {
            Self::Private(root) => root.as_fd(),
            Self::Public(path) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                opened = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
                opened.as_fd()
            }
        };
        let staged = |number: &u64| Path::new(STAGING).join(number.to_string());
        // Whoever looks next, here or there, finds the attributes in the kernel.
        let look =
            |path: &Path| rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).map(|_| ());
        match call {
            SystemCall::Rename { staged: number, to } => {
                rustix::fs::renameat(root, staged(number), root, to)?;
                look(to)
            }
            SystemCall::Mkdir { path } => {
                rustix::fs::mkdirat(root, path, DIRECTORY)?;
                look(path)
            }
            SystemCall::Unlink { path } => {
                rustix::fs::unlinkat(root, path, AtFlags::empty())?;
                look_at_parent(root, path)
            }
            SystemCall::Rmdir { path } => {
                rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR)?;
                look_at_parent(root, path)
            }
        }
    }
}

fn look_at_parent(root: impl AsFd, path: &Path) -> Result<(), Errno> {
    let (flags, parent) = match path.parent() {
        Some(parent) if parent != Path::new("") => (AtFlags::SYMLINK_NOFOLLOW, parent),
        Some(_) | None => (AtFlags::EMPTY_PATH, Path::new("")),
    };
    rustix::fs::statat(root, parent, flags).map(|_| ())
}
