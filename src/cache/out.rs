//! Frames on their way to the end of a log.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Resource;

use super::format::{self, Item};
use super::index::LogFile;

/// How much is written at once, in bytes; more where a frame is longer.
const N_WRITE: usize = 1 << 20;

/// Writes frames one after the other.
pub(super) struct Out {
    pub(super) log: Arc<LogFile>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    /// The longest file that this process may write, in bytes.
    limit: u64,
}

impl Out {
    pub(super) fn new(log: Arc<LogFile>, at: u64) -> Self {
        let limit = rustix::process::getrlimit(Resource::Fsize).current;
        Self {
            log,
            buffer: Vec::new(),
            at,
            limit: limit.unwrap_or(u64::MAX),
        }
    }

    /// Where the next frame goes.
    pub(super) fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Adds a frame; gives where it lies and how long it is. A frame that is too long for the
    /// format is left out.
    pub(super) fn add(&mut self, item: &Item) -> io::Result<Option<(u64, u64)>> {
        let offset = self.end();
        if !format::encode(item, self.log.salt, &mut self.buffer) {
            return Ok(None);
        }
        let n_bytes = self.end() - offset;
        if self.buffer.len() >= N_WRITE {
            self.write()?;
        }
        Ok(Some((offset, n_bytes)))
    }

    /// Writes what is left.
    pub(super) fn write(&mut self) -> io::Result<()> {
        // Beyond the limit the kernel would send a signal that ends the server.
        if self.end() > self.limit {
            return Err(Errno::FBIG.into());
        }
        self.log.file.write_all_at(&self.buffer, self.at)?;
        self.at = self.end();
        self.buffer.clear();
        Ok(())
    }

    /// [`Out::write`]; it is on disk when this returns.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        match rustix::fs::fdatasync(&self.log.file) {
            // Some file systems cannot.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
