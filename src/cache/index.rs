//! Where everything lies that is on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use super::format::{self, Head, Item, N_HEAD};
use crate::path::ZnodePath;
use crate::source::Stat;

/// What is on disk, and synced. Only the thread that writes changes it.
#[derive(Default)]
pub(super) struct Index {
    /// None where nothing was ever written.
    pub(super) file: Option<Arc<LogFile>>,
    pub(super) frames: HashMap<ZnodePath, Frame>,
}

/// A log, open.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    pub(super) salt: u64,
}

/// The frame that says what is known of a znode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) n_bytes: u64,
    pub(super) what: What,
}

/// What the frame says, but for the bytes of the content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    Content {
        id: u64,
        stat: Stat,
        confirmed: SystemTime,
    },
    Absent {
        zxid: i64,
    },
}

/// See [`super::Kept`].
#[derive(Debug, Clone)]
pub(super) struct KeptFrame {
    file: Arc<LogFile>,
    path: ZnodePath,
    id: u64,
    offset: u64,
    n_bytes: u64,
}

impl Index {
    /// The content of that version, if it is here.
    pub(super) fn kept(&self, path: &ZnodePath, version: &Stat) -> Option<KeptFrame> {
        let frame = self.frames.get(path)?;
        match frame.what {
            What::Content { id, stat, .. } if stat.order() == version.order() => Some(KeptFrame {
                file: Arc::clone(self.file.as_ref()?),
                path: path.clone(),
                id,
                offset: frame.offset,
                n_bytes: frame.n_bytes,
            }),
            What::Content { .. } | What::Absent { .. } => None,
        }
    }

    /// The bytes of the live frames.
    pub(super) fn n_bytes(&self) -> u64 {
        self.frames.values().map(|frame| frame.n_bytes).sum()
    }
}

impl LogFile {
    /// Reads the payload of the frame that lies there; `InvalidData` where it does not.
    pub(super) fn payload(&self, offset: u64, n_bytes: u64) -> io::Result<Vec<u8>> {
        let n_bytes = usize::try_from(n_bytes).map_err(io::Error::other)?;
        let mut bytes = vec![0; n_bytes];
        self.file.read_exact_at(&mut bytes, offset)?;
        let payload = bytes.split_off(N_HEAD.min(n_bytes));
        match Head::parse(&bytes, self.salt) {
            Some(head) if head.fits(&payload) => Ok(payload),
            _ => Err(damaged()),
        }
    }
}

impl KeptFrame {
    pub(super) fn read(&self) -> io::Result<Arc<[u8]>> {
        let payload = self.file.payload(self.offset, self.n_bytes)?;
        match format::decode(&payload) {
            Some(Item::Content {
                id, path, content, ..
            }) if id == self.id && path == self.path => Ok(content.into()),
            _ => Err(damaged()),
        }
    }
}

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the cache is damaged there")
}
