//! The record: what lets a new server process go on with a mount whose server was killed.
//!
//! It lies in memory that has no name and lives while any process holds its descriptor (a memfd),
//! so that it survives the process that writes it, and is written by plain system calls, so that
//! whatever was written before a SIGKILL is there.
//!
//! # The bytes
//!
//! From the start of the memory: the contents of files, one after the other. From `LOG` on, with
//! nothing between: a header (`MAGIC`, [`FORMAT`], how long the log was when it was written anew, a
//! checksum of those), and batches. Numbers are little endian. The log ends where the memory
//! ends; [`Record::append`] adds one batch:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | how many bytes of entries |
//! | 4 | their checksum |
//! | 4 | the checksum of these 8 bytes |
//! | n | entries, as in `record/encoding.rs` |
//!
//! A batch is whole or it is not there: a process that is killed in a write leaves a beginning of
//! what it wrote, so a batch that the end of the memory cuts off was never seen by anybody, and is
//! ignored. Contents are written before the batch that names them. Anything else that does not fit
//! is [`RecordError::Damaged`].
//!
//! Once a [`Fact::Freed`] is written, pages in which no content is needed any more are given back;
//! contents of inodes that were freed are not read. The log itself only grows: see
//! [`Record::wants_compaction`].

mod contents;
mod encoding;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::process::Resource;
use thiserror::Error;

use crate::checksum::crc32;
use crate::path::ZnodePath;
use crate::source::Stat;
use crate::tree::{Fact, Ino};
use contents::{Contents, Extent};

/// The number of the format of the bytes; it changes with them.
pub const FORMAT: u32 = 1;

/// The first bytes of the header, in every format.
const MAGIC: [u8; 8] = *b"livedata";

/// Where the log starts, in bytes; all contents lie below. What is not written takes no memory.
const LOG: u64 = 1 << 40;

/// The longest log, in bytes. It is compacted long before.
const MAX_LOG: u64 = 1 << 30;

/// The length of the header, in bytes.
const N_HEADER: usize = 24;

/// The length of what stands before the entries of a batch, in bytes.
const N_BATCH_HEADER: usize = 12;

/// How many entries a batch has when a record is written in one go.
const N_ENTRIES: usize = 512;

/// What may be in memory in vain, in bytes, before it is worth the work to write the record anew.
const SLACK: u64 = 8 << 20;

/// How many bytes of small contents are read at once.
const RUN: u64 = 256 << 10;

/// Something that a successor must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Something that became true of the tree.
    Tree(Fact),
    /// What the mount shows of a znode; so that no successor goes back behind it.
    Known {
        /// The znode.
        path: ZnodePath,
        /// What ZooKeeper keeps beside the content shown; none where nothing is shown (any more).
        stat: Option<Stat>,
    },
    /// Somebody waits with poll(2) for the inode to be superseded.
    Waiting {
        /// The inode.
        ino: Ino,
        /// The kernel's name for the open file.
        handle: u64,
    },
}

/// A record that is being written.
///
/// One process writes at a time, while no other reads.
pub struct Record {
    memory: File,
    /// How long the log is, in bytes, the header included.
    n_log: u64,
    /// How long it was when it was last written anew.
    n_compacted: u64,
    contents: Contents,
    /// An append failed: what is in memory is void.
    void: bool,
    /// The batch being built, kept for its memory.
    batch: Vec<u8>,
}

/// Why a record cannot be gone on with.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Another version of this program wrote it.
    #[error("the record has the format {0}, and this program reads {FORMAT}")]
    OtherFormat(u32),
    /// It is no record, or one that its writer gave up.
    #[error("there is no record")]
    NoRecord,
    /// The bytes are not as they were written.
    #[error("the record is damaged at byte {at}: {what}")]
    Damaged {
        /// Where, from the start of the memory.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The entries are whole, but do not make a tree.
    #[error("the record contradicts itself")]
    Contradiction,
    /// It could not be read.
    #[error("the record could not be read")]
    Io(#[from] io::Error),
}

/// Where the content of a file lies, and its checksum.
#[derive(Clone, Copy)]
struct FileContent {
    extent: Extent,
    checksum: u32,
}

impl Record {
    /// An empty record. Fails where there are no memfds, or where the process may not write files
    /// as long as this one pretends to be.
    pub fn create() -> io::Result<Self> {
        // Beyond the limit a write would end the process, not fail.
        let limit = rustix::process::getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < LOG + MAX_LOG) {
            let reason = "the size of files is limited for this process; lift it (ulimit -f)";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        let memory = rustix::fs::memfd_create("livedata-record", MemfdFlags::CLOEXEC)?;
        let mut record = Self {
            memory: memory.into(),
            n_log: N_HEADER as u64,
            n_compacted: 0,
            contents: Contents::default(),
            void: false,
            batch: Vec::new(),
        };
        record.write_header()?;
        Ok(record)
    }

    /// The shortest record of a tree ([`Tree::facts`](crate::tree::Tree::facts)) and of what is
    /// known of znodes, in memory of its own.
    pub fn compacted(
        facts: Vec<Fact>,
        known: impl Iterator<Item = (ZnodePath, Stat)>,
    ) -> io::Result<Self> {
        let mut record = Self::create()?;
        let facts = facts.into_iter().map(Entry::Tree);
        let mut entries = facts.chain(known.map(|(path, stat)| Entry::Known {
            path,
            stat: Some(stat),
        }));
        loop {
            let some: Vec<_> = entries.by_ref().take(N_ENTRIES).collect();
            if some.is_empty() {
                break;
            }
            record.append(&some)?;
        }
        record.write_header()?;
        Ok(record)
    }

    /// Takes over the record in `memory`, and tells what is in it, in order. The contents of
    /// inodes that were freed since are empty.
    ///
    /// Its writer must be gone (waited for, not only killed) or must not write any more.
    pub fn load(memory: OwnedFd) -> Result<(Self, Vec<Entry>), RecordError> {
        let memory = File::from(memory);
        let n_log = memory.metadata()?.len().saturating_sub(LOG);
        if n_log < N_HEADER as u64 {
            return Err(RecordError::NoRecord);
        }
        if n_log > MAX_LOG {
            return Err(damaged(0, "it is too long"));
        }
        let mut log = vec![0; n_log as usize];
        memory.read_exact_at(&mut log, LOG)?;
        let n_compacted = read_header(&log)?;

        let mut contents = Contents::default();
        let mut entries: Vec<Entry> = Vec::with_capacity(log.len() / 64);
        // Where the contents of files lie, each with the place of its entry.
        let mut files: Vec<(FileContent, usize)> = Vec::new();
        let nothing: Arc<[u8]> = Arc::from([]);
        let mut at = N_HEADER;
        let mut unused = Vec::new();
        while let Some(mut batch) = next_batch(&log, at)? {
            let first = entries.len();
            let end = at + N_BATCH_HEADER + batch.len();
            while !batch.is_empty() {
                let here = end - batch.len();
                let (entry, content) = encoding::decode(&mut batch, &nothing)
                    .ok_or(damaged(here, "this is no entry"))?;
                if let (Some(ino), Some(content)) = (file(&entry), content) {
                    let end = content.extent.offset.checked_add(content.extent.n_bytes);
                    if end.is_none_or(|end| end > LOG) {
                        return Err(damaged(here, "a content lies outside"));
                    }
                    if contents.get(ino).is_some() {
                        return Err(damaged(here, "an inode comes twice"));
                    }
                    contents.insert(ino, content.extent);
                    files.push((content, entries.len()));
                }
                entries.push(entry);
            }
            // The writer may not have come to give these back after its last batch.
            unused.clear();
            unused.extend(freed(&entries[first..]).filter_map(|ino| contents.free(ino)));
            at = end;
        }
        // It was complete when it was handed on.
        if n_compacted > at as u64 {
            return Err(damaged(at, "the log is shorter than it was"));
        }
        if contents.n_bytes() > memory.metadata()?.blocks() * 512 {
            return Err(damaged(at, "there are more contents than memory"));
        }
        files.retain(|(content, i)| {
            content.extent.n_bytes > 0
                && file(&entries[*i]).and_then(|ino| contents.get(ino)) == Some(content.extent)
        });
        read_contents(&memory, files, &mut entries)?;
        if at < log.len() {
            memory.set_len(LOG + at as u64)?;
        }
        unused.push(contents.unused_from()..LOG);
        let record = Self {
            memory,
            n_log: at as u64,
            n_compacted,
            contents,
            void: false,
            batch: Vec::new(),
        };
        record.give_back(unused);
        Ok((record, entries))
    }

    /// Adds the entries, all of them or none, whenever the process is killed. Files must be new:
    /// a number comes once.
    ///
    /// When it fails, the record is void: it is emptied, so that nobody goes on with it, and every
    /// later append fails.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if self.void {
            return Err(io::Error::other("the record is void"));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let written = self.write(entries);
        if written.is_err() {
            self.void = true;
            // If even this fails, there is nobody left to tell; the error is reported anyway.
            let _ = self.memory.set_len(0);
        }
        written
    }

    /// Whether it is worth the work to write the record anew: when it is void, or when most of
    /// what is in memory, and some MiB, are needed by nobody.
    pub fn wants_compaction(&self) -> bool {
        let grown = self.n_log - self.n_compacted;
        let needed = self.contents.n_bytes() + self.n_log;
        self.void
            || (grown > SLACK && grown > self.n_compacted)
            || self
                .n_bytes_in_memory()
                .is_ok_and(|n| n > 2 * needed + SLACK)
    }

    /// Whether an append failed, so that nobody can go on with this record.
    pub fn is_void(&self) -> bool {
        self.void
    }

    /// The memory, for [`Record::load`] in another process.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// How much memory the record takes, in bytes.
    pub fn n_bytes_in_memory(&self) -> io::Result<u64> {
        Ok(self.memory.metadata()?.blocks() * 512)
    }

    fn write_header(&mut self) -> io::Result<()> {
        self.n_compacted = self.n_log;
        let mut header = [0; N_HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..20].copy_from_slice(&self.n_compacted.to_le_bytes());
        let checksum = crc32(&header[..20]);
        header[20..].copy_from_slice(&checksum.to_le_bytes());
        self.memory.write_all_at(&header, LOG)
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.extend([0; N_BATCH_HEADER]);
        for entry in entries {
            let content = match entry {
                Entry::Tree(Fact::File { ino, content, .. }) => {
                    let extent = self.contents.place(*ino, content.len() as u64);
                    if extent.end() > LOG {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    self.memory.write_all_at(content, extent.offset)?;
                    let checksum = crc32(content);
                    Some(FileContent { extent, checksum })
                }
                Entry::Tree(_) | Entry::Known { .. } | Entry::Waiting { .. } => None,
            };
            encoding::encode(entry, content, &mut batch);
        }
        if self.n_log + batch.len() as u64 > MAX_LOG {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let n_bytes = (batch.len() - N_BATCH_HEADER) as u32;
        let checksum = crc32(&batch[N_BATCH_HEADER..]);
        batch[..4].copy_from_slice(&n_bytes.to_le_bytes());
        batch[4..8].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32(&batch[..8]);
        batch[8..N_BATCH_HEADER].copy_from_slice(&checksum.to_le_bytes());
        self.memory.write_all_at(&batch, LOG + self.n_log)?;
        self.n_log += batch.len() as u64;
        batch.shrink_to(64 << 10);
        self.batch = batch;

        let unused = freed(entries).filter_map(|ino| self.contents.free(ino));
        let unused: Vec<_> = unused.collect();
        self.give_back(unused);
        Ok(())
    }

    fn give_back(&self, unused: Vec<Range<u64>>) {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for Range { start, end } in unused.into_iter().filter(|range| !range.is_empty()) {
            if let Err(err) = rustix::fs::fallocate(&self.memory, how, start, end - start) {
                log::debug!("memory of the record could not be given back: {err}");
            }
        }
    }
}

fn damaged(at_in_log: usize, what: &'static str) -> RecordError {
    RecordError::Damaged {
        at: LOG + at_in_log as u64,
        what,
    }
}

/// Checks the header, and tells how long the log was when it was written anew.
fn read_header(log: &[u8]) -> Result<u64, RecordError> {
    let word = |at: usize| -> [u8; 4] { std::array::from_fn(|i| log[at + i]) };
    if log[..8] != MAGIC {
        return Err(RecordError::NoRecord);
    }
    let format = u32::from_le_bytes(word(8));
    if format != FORMAT {
        return Err(RecordError::OtherFormat(format));
    }
    if crc32(&log[..20]) != u32::from_le_bytes(word(20)) {
        return Err(damaged(0, "the checksum of the header is wrong"));
    }
    let n_compacted: [u8; 8] = std::array::from_fn(|i| log[12 + i]);
    Ok(u64::from_le_bytes(n_compacted))
}

/// The entries of the batch at `at`; none at the end, and where the end cuts it off.
fn next_batch(log: &[u8], at: usize) -> Result<Option<&[u8]>, RecordError> {
    let Some((header, rest)) = log[at..].split_first_chunk::<N_BATCH_HEADER>() else {
        return Ok(None);
    };
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    if crc32(&header[..8]) != word(8) {
        return Err(damaged(at, "the checksum of the head of a batch is wrong"));
    }
    let Some(batch) = rest.get(..word(0) as usize) else {
        return Ok(None);
    };
    if crc32(batch) != word(4) {
        return Err(damaged(at, "the checksum of a batch is wrong"));
    }
    Ok(Some(batch))
}

/// The file that the entry makes.
fn file(entry: &Entry) -> Option<Ino> {
    match entry {
        Entry::Tree(Fact::File { ino, .. }) => Some(*ino),
        Entry::Tree(_) | Entry::Known { .. } | Entry::Waiting { .. } => None,
    }
}

/// The inodes that the entries say are no more.
fn freed(entries: &[Entry]) -> impl Iterator<Item = Ino> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Tree(Fact::Freed { ino }) => Some(*ino),
        Entry::Tree(_) | Entry::Known { .. } | Entry::Waiting { .. } => None,
    })
}

/// Reads contents into their entries, small neighbours together.
fn read_contents(
    memory: &File,
    mut wanted: Vec<(FileContent, usize)>,
    entries: &mut [Entry],
) -> Result<(), RecordError> {
    wanted.sort_unstable_by_key(|(content, _)| content.extent.offset);
    let mut fill = |i: usize, read: Arc<[u8]>| {
        if let Entry::Tree(Fact::File { content, .. }) = &mut entries[i] {
            *content = read;
        }
    };
    let mut run = Vec::new();
    let mut rest = &wanted[..];
    while let Some((first, _)) = rest.first() {
        let start = first.extent.offset;
        let mut end = first.extent.end();
        let mut n = 1;
        for (next, _) in &rest[1..] {
            let gap = next.extent.offset.saturating_sub(end);
            if gap > RUN / 8 || next.extent.end().max(end) - start > RUN {
                break;
            }
            end = end.max(next.extent.end());
            n += 1;
        }
        let (together, others) = rest.split_at(n);
        rest = others;
        if let [(content, i)] = together {
            fill(*i, read_alone(memory, content)?);
            continue;
        }
        run.resize((end - start) as usize, 0);
        memory.read_exact_at(&mut run, start)?;
        for (content, i) in together {
            let from = (content.extent.offset - start) as usize;
            let bytes = &run[from..from + content.extent.n_bytes as usize];
            check(bytes, content)?;
            fill(*i, bytes.into());
        }
    }
    Ok(())
}

fn read_alone(memory: &File, content: &FileContent) -> Result<Arc<[u8]>, RecordError> {
    let n_bytes = content.extent.n_bytes as usize;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, n_bytes).collect();
    let into = Arc::get_mut(&mut bytes).expect("it was just made");
    memory.read_exact_at(into, content.extent.offset)?;
    check(&bytes, content)?;
    Ok(bytes)
}

fn check(bytes: &[u8], content: &FileContent) -> Result<(), RecordError> {
    if crc32(bytes) == content.checksum {
        return Ok(());
    }
    Err(RecordError::Damaged {
        at: content.extent.offset,
        what: "the checksum of a content is wrong",
    })
}

#[cfg(test)]
mod tests;
