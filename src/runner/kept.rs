//! The journal in memory that outlives the runner: the keeper holds it, too.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

use crate::hooks::FromRunner;
use crate::hooks::journal::{Entry, Journal, encode};
use crate::wire::Socket;

/// How much more than the shortest journal one may hold, in bytes, beside as much again.
const SLACK: u64 = 256 << 10;

/// A journal that grows.
pub(super) struct Kept {
    memory: File,
    n_bytes: u64,
    n_at_first: u64,
}

impl Kept {
    /// One that says as much as this.
    pub(super) fn create(journal: &Journal) -> io::Result<Self> {
        let memory = rustix::fs::memfd_create("livedata-hooks", MemfdFlags::CLOEXEC)?;
        let mut memory = File::from(memory);
        let text = text(journal);
        memory.write_all(&text)?;
        let n_bytes = text.len() as u64;
        Ok(Self {
            memory,
            n_bytes,
            n_at_first: n_bytes,
        })
    }

    /// The keeper holds it from now on.
    pub(super) fn hand_over(&self, keeper: &Socket) -> io::Result<()> {
        keeper.send(&FromRunner::Journal, &[self.memory.as_fd()])
    }

    /// Adds entries, and gives their text.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        for entry in entries {
            encode(entry, &mut text);
        }
        self.memory.write_all_at(&text, self.n_bytes)?;
        self.n_bytes += text.len() as u64;
        Ok(text)
    }

    /// It has grown long.
    pub(super) fn wants_rewriting(&self) -> bool {
        self.n_bytes > 2 * self.n_at_first + SLACK
    }
}

/// The shortest text of a journal.
pub(super) fn text(journal: &Journal) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in journal.entries() {
        encode(&entry, &mut text);
    }
    text
}

/// All that is in a file, from its beginning, whoever else has read it.
pub(super) fn read_all(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(file.try_clone()?);
    let n_bytes = file.metadata()?.len();
    let mut text = vec![0; usize::try_from(n_bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}
