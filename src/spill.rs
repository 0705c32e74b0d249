//! Contents on disk, for which memory has no room.
//!
//! They lie in one file without a name, which is there while a process of the mount holds its
//! descriptor: the server, and the keeper for the next one. It survives them and not the host, for
//! nobody needs it then. What lies where is on record; space of which the record knows nothing is
//! free. So a server that is killed between writing here and saying so has written nothing.
//!
//! Only one thread writes here ([`Spill::write`], [`Spill::give_back`]). What is written is on disk
//! when that returns, or the memory it came from could not be given up. A content is read as a
//! whole, and only as it was written: its SHA-256 is in memory.

mod space;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

use space::Space;
pub(crate) use space::Stretch;

/// How many bytes a [`Digest`] has.
pub(crate) const N_DIGEST: usize = 32;

/// What no two different contents have in common (SHA-256).
pub(crate) type Digest = [u8; N_DIGEST];

/// The file.
pub(crate) struct Spill {
    /// None where a successor did not get it: what lay there cannot be read any more.
    file: Option<File>,
    /// None until it is known what is in use.
    space: Mutex<Option<Space>>,
}

/// A content that lies there. Its space is free again when the last who holds it lets go.
pub(crate) struct Spilled {
    spill: Arc<Spill>,
    stretch: Stretch,
    digest: Digest,
}

impl Spill {
    /// An empty file, for us alone.
    pub(crate) fn new(file: File) -> Arc<Self> {
        Arc::new(Self {
            file: Some(file),
            space: Mutex::new(Some(Space::default())),
        })
    }

    /// The file of another server, if it is still to be had. Nothing can be written before
    /// [`Spill::settle`].
    pub(crate) fn inherited(file: Option<OwnedFd>) -> Arc<Self> {
        Arc::new(Self {
            file: file.map(File::from),
            space: Mutex::new(None),
        })
    }

    /// What another server has left here, by its record.
    pub(crate) fn recall(self: &Arc<Self>, stretch: Stretch, digest: Digest) -> Arc<Spilled> {
        Arc::new(Spilled {
            spill: Arc::clone(self),
            stretch,
            digest,
        })
    }

    /// These are all that are in use; the rest is free. False where two of them overlap.
    #[must_use]
    pub(crate) fn settle<'a>(&self, in_use: impl Iterator<Item = &'a Arc<Spilled>>) -> bool {
        let space = Space::around(in_use.map(|spilled| spilled.stretch).collect());
        let fits = space.is_some();
        *self.space.lock() = space;
        fits
    }

    /// The descriptor, for a successor.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Whether something can be written here.
    pub(crate) fn is_usable(&self) -> bool {
        self.file.is_some() && self.space.lock().is_some()
    }

    /// Writes contents, and waits until they are on disk. All of them or none.
    pub(crate) fn write<'a>(
        self: &Arc<Self>,
        contents: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<Vec<Arc<Spilled>>> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut written = Vec::new();
        for bytes in contents {
            let mut space = self.space.lock();
            let space = space.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let stretch = space.take(bytes.len() as u64);
            let digest = digest_of(bytes);
            written.push((self.recall(stretch, digest), bytes));
        }
        // Not under the lock, which whoever lets go of a content takes.
        for (spilled, bytes) in &written {
            file.write_all_at(bytes, spilled.stretch.offset)?;
        }
        file.sync_data()?;
        Ok(written.into_iter().map(|(spilled, _)| spilled).collect())
    }

    /// Gives space to the disk that is free since this was last called.
    pub(crate) fn give_back(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let Some((ranges, end)) = self.space.lock().as_mut().map(Space::freed) else {
            return Ok(());
        };
        if file.metadata()?.len() > end {
            file.set_len(end)?;
        }
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for range in ranges {
            // Where the file system has no holes, the space is used again.
            let n_bytes = range.end - range.start;
            if let Err(err) = rustix::fs::fallocate(file, how, range.start, n_bytes) {
                log::debug!("space on disk could not be given back: {err}");
                break;
            }
        }
        Ok(())
    }

    /// How many bytes of contents lie here.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.space.lock().as_ref().map_or(0, Space::n_in_use)
    }
}

impl Spilled {
    /// The bytes, read from the disk. `InvalidData` where they are not as they were written.
    pub(crate) fn read(&self) -> io::Result<Arc<[u8]>> {
        let file = self.spill.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; self.n_bytes()];
        file.read_exact_at(&mut bytes, self.stretch.offset)?;
        if !self.holds(&bytes) {
            let reason = "what is on disk is not what was written";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(bytes.into())
    }

    /// Whether these are the bytes; does not look at the disk.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.n_bytes() && digest_of(bytes) == self.digest
    }

    /// Whether the bytes are the same; does not look at the disk.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.stretch.n_bytes == other.stretch.n_bytes && self.digest == other.digest
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.stretch.n_bytes as usize
    }

    pub(crate) fn stretch(&self) -> Stretch {
        self.stretch
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether its file is to be had.
    pub(crate) fn is_there(&self) -> bool {
        self.spill.file.is_some()
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if let Some(space) = self.spill.space.lock().as_mut() {
            space.free(self.stretch);
        }
    }
}

impl fmt::Debug for Spilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes on disk", self.stretch.n_bytes)
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut all = [0; N_DIGEST];
    all.copy_from_slice(digest(&SHA256, bytes).as_ref());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_disk(spill: &Arc<Spill>, bytes: &[u8]) -> Arc<Spilled> {
        spill.write([bytes]).unwrap().remove(0)
    }

    #[test]
    fn only_what_was_written_is_read() {
        let file = tempfile::tempfile().unwrap();
        let spill = Spill::new(file.try_clone().unwrap());
        let (one, other) = (on_disk(&spill, b"first"), on_disk(&spill, b"second"));
        assert_eq!(*one.read().unwrap(), *b"first");
        assert!(one.holds(b"first") && !one.holds(b"fisrt") && !one.is_same(&other));
        file.write_all_at(b"F", 0).unwrap();
        let damaged = one.read().unwrap_err();
        assert_eq!(damaged.kind(), io::ErrorKind::InvalidData);
        file.set_len(7).unwrap();
        assert!(other.read().is_err(), "it was cut short");
        assert_eq!(spill.n_bytes(), 11);
    }

    #[test]
    fn space_comes_back_and_is_used_again() {
        use std::os::unix::fs::MetadataExt;

        let file = tempfile::tempfile().unwrap();
        let spill = Spill::new(file.try_clone().unwrap());
        let contents: Vec<_> = (0..8).map(|n| on_disk(&spill, &[n; 3 << 16])).collect();
        let n_blocks = || file.metadata().unwrap().blocks() * 512;
        assert!(n_blocks() >= 24 << 16);
        let mut contents: Vec<_> = contents.into_iter().skip(4).collect();
        spill.give_back().unwrap();
        assert!(n_blocks() <= (12 << 16) + 8192, "{}", n_blocks());
        let again = on_disk(&spill, &[9; 3 << 16]);
        assert_eq!(again.stretch.offset, 0);
        assert_eq!(*again.read().unwrap(), [9; 3 << 16]);
        contents.clear();
        spill.give_back().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3 << 16);
        drop(again);
        spill.give_back().unwrap();
        assert_eq!(n_blocks(), 0);
    }

    #[test]
    fn a_successor_knows_what_is_in_use() {
        let file = tempfile::tempfile().unwrap();
        let spill = Spill::new(file.try_clone().unwrap());
        let (_, kept) = (on_disk(&spill, b"torn"), on_disk(&spill, b"kept"));
        let (stretch, digest) = (kept.stretch, kept.digest);
        std::mem::forget(kept);
        let spill = Spill::inherited(Some(file.into()));
        let kept = spill.recall(stretch, digest);
        assert!(!spill.is_usable());
        let (one, other) = (
            Arc::clone(&kept),
            spill.recall(
                Stretch {
                    offset: 6,
                    n_bytes: 1,
                },
                digest,
            ),
        );
        assert!(!spill.settle([&one, &other].into_iter()));
        drop(other);
        assert!(spill.settle([&kept].into_iter()));
        assert_eq!(on_disk(&spill, b"long").stretch.offset, 0);
        assert_eq!(*kept.read().unwrap(), *b"kept");
        let gone = Spill::inherited(None);
        let lost = gone.recall(stretch, digest);
        assert!(gone.settle([&lost].into_iter()) && !gone.is_usable());
        assert!(lost.read().is_err() && !lost.is_there());
    }
}
