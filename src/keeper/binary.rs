//! A program, held by descriptor: it can be started again even after its file was replaced.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// What stood at a path when it was opened.
#[derive(Debug)]
pub(super) struct Binary {
    path: PathBuf,
    held: OwnedFd,
}

impl Binary {
    /// Holds what the path names now.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            path: path.into(),
            held,
        })
    }

    /// Holds what stands at the same path by now.
    pub(super) fn reopen(&self) -> io::Result<Self> {
        Self::open(&self.path)
    }

    /// The path by which this process, or one it starts, can execute what is held. A script cannot
    /// be executed so: the descriptor is closed before its interpreter would open it.
    pub(super) fn executable(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.held.as_raw_fd()).into()
    }

    /// Where it stood.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
