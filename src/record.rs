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
//! A content on record is read where it lies, by the process that wrote it and by its successor, so
//! it is in memory once: [`Content`] moves there. Nothing is written where a content lies or lay.
//! Once a [`Fact::Freed`] is written and nobody holds the content, pages in which no other lies are
//! given back; contents of inodes that were freed are not checked. The log itself only grows: see
//! [`Record::wants_compaction`].
//!
//! A content may come to lie on disk instead: then the log says where, and its SHA-256, and whoever
//! keeps the memory keeps the descriptor of that file, too. Such contents are checked when they are
//! read.

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
use crate::content::Content;
use crate::numbers::ByNumber;
use crate::path::ZnodePath;
use crate::shown::Origin;
use crate::source::Told;
use crate::spill::{Spill, Spilled};
use crate::sys::Mapping;
use crate::tree::{Fact, Ino};
use contents::{Contents, Extent, Stretch};
use encoding::Decoded;

/// The number of the format of the bytes; it changes with them.
pub const FORMAT: u32 = 3;

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

/// Something that a successor must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Something that became true of the tree.
    Tree(Fact),
    /// What the mount shows of a znode; so that no successor goes back behind it.
    Known {
        /// The znode.
        path: ZnodePath,
        /// What was told of it.
        told: Told,
    },
    /// Nothing is to be known of the znode any more.
    Forgotten {
        /// The znode.
        path: ZnodePath,
    },
    /// Somebody waits with poll(2) for the inode to be superseded.
    Waiting {
        /// The inode.
        ino: Ino,
        /// The kernel's name for the open file.
        handle: u64,
    },
    /// The inode, which is on record already, shows this; the last one counts.
    Shows {
        /// The inode.
        ino: Ino,
        /// What it shows.
        origin: Origin,
    },
}

/// What is kept of a record for a successor.
#[derive(Debug)]
pub struct Handed {
    /// The memory.
    pub memory: OwnedFd,
    /// The file with the contents that lie on disk, once there is one.
    pub spill: Option<OwnedFd>,
}

impl From<OwnedFd> for Handed {
    fn from(memory: OwnedFd) -> Self {
        Self {
            memory,
            spill: None,
        }
    }
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
    /// The contents that lie on disk instead.
    on_disk: ByNumber<Ino, Arc<Spilled>>,
    /// Where they lie.
    spill: Option<Arc<Spill>>,
    /// What lies here, and does not show it to all yet.
    placed: Vec<(Content, Arc<Stretch>)>,
    /// What is placed stays where it was, for this record may come to nothing.
    is_draft: bool,
    /// What another process left that nobody needs; given back by the first append, for it may go
    /// on after all.
    left_over: Option<Range<u64>>,
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

/// Where the content of a file lies, and its checksum; and whether it may come to lie on disk.
#[derive(Clone, Copy)]
struct FileContent {
    extent: Extent,
    checksum: u32,
    is_droppable: bool,
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
            on_disk: ByNumber::default(),
            spill: None,
            placed: Vec::new(),
            is_draft: false,
            left_over: None,
            void: false,
            batch: Vec::new(),
        };
        record.write_header()?;
        Ok(record)
    }

    /// The shortest record of a tree ([`Tree::facts`](crate::tree::Tree::facts)) and of what is
    /// known of znodes, in memory of its own. Contents stay where they are until it is
    /// [settled](Record::settle).
    pub fn compacted(
        facts: Vec<Fact>,
        known: impl Iterator<Item = (ZnodePath, Told)>,
    ) -> io::Result<Self> {
        let mut record = Self::create()?;
        record.is_draft = true;
        let facts = facts.into_iter().map(Entry::Tree);
        let mut entries = facts.chain(known.map(|(path, told)| Entry::Known { path, told }));
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

    /// It is the record of the mount from here on: contents lie in it.
    pub fn settle(&mut self) {
        self.is_draft = false;
        for (content, stretch) in std::mem::take(&mut self.placed) {
            if stretch.is_mapped() {
                content.move_to(stretch);
            }
        }
    }

    /// Takes over the record in `memory`, and hands what is in it to `take`, in order. The contents
    /// of inodes that are freed later on may be any bytes, and are not to be kept.
    ///
    /// Nobody may go by what was taken before all is read: a content, or what comes last, may be
    /// damaged. An error of `take` ends it.
    ///
    /// Its writer must be gone (waited for, not only killed) or must not write any more; in that
    /// case it may go on if nothing was appended here.
    pub fn load(
        handed: impl Into<Handed>,
        mut take: impl FnMut(Entry) -> Result<(), RecordError>,
    ) -> Result<Self, RecordError> {
        let Handed { memory, spill } = handed.into();
        let memory = File::from(memory);
        let has_spill = spill.is_some();
        let spill = Spill::inherited(spill);
        let n_log = memory.metadata()?.len().saturating_sub(LOG);
        if n_log < N_HEADER as u64 {
            return Err(RecordError::NoRecord);
        }
        if n_log > MAX_LOG {
            return Err(damaged(0, "it is too long"));
        }
        let n_log = n_log as usize;
        let mapping = Mapping::new(&memory, LOG, n_log, true)?;
        let log = mapping.bytes(0..n_log);
        let n_compacted = read_header(log)?;

        let mut contents = Contents::default();
        let mut checksums: Vec<(Ino, FileContent)> = Vec::new();
        let mut freed = Vec::new();
        // Those that may lie on disk.
        let mut droppable: ByNumber<Ino, Content> = ByNumber::default();
        let mut on_disk: ByNumber<Ino, Arc<Spilled>> = ByNumber::default();
        // Several inodes may have one content.
        let mut by_offset: ByNumber<u64, Arc<Spilled>> = ByNumber::default();
        let nothing = Content::from([]);
        let mut at = N_HEADER;
        while let Some(mut batch) = next_batch(log, at)? {
            let end = at + N_BATCH_HEADER + batch.len();
            while !batch.is_empty() {
                let here = end - batch.len();
                let decoded = encoding::decode(&mut batch, &nothing)
                    .ok_or(damaged(here, "this is no entry"))?;
                let (mut entry, content) = match decoded {
                    Decoded::Entry(entry, content) => (entry, content),
                    Decoded::Spilled {
                        ino,
                        stretch,
                        digest,
                    } => {
                        let content = droppable
                            .get(&ino)
                            .filter(|_| !on_disk.contains_key(&ino))
                            .ok_or(damaged(here, "what is not in memory cannot have left it"))?;
                        let new = spill.recall(stretch, digest);
                        let spilled = match by_offset.get(&stretch.offset) {
                            Some(known) if known.is_same(&new) => Arc::clone(known),
                            Some(_) | None => new,
                        };
                        by_offset.insert(stretch.offset, Arc::clone(&spilled));
                        contents.free(ino);
                        content.move_to_disk(Arc::clone(&spilled));
                        on_disk.insert(ino, spilled);
                        continue;
                    }
                };
                match (&mut entry, content) {
                    (Entry::Tree(Fact::File { ino, content, .. }), Some(found)) => {
                        let end = found.extent.offset.checked_add(found.extent.n_bytes);
                        if end.is_none_or(|end| end > LOG) {
                            return Err(damaged(here, "a content lies outside"));
                        }
                        if contents.get(*ino).is_some() || on_disk.contains_key(ino) {
                            return Err(damaged(here, "an inode comes twice"));
                        }
                        let stretch = contents.insert(&memory, *ino, found.extent);
                        if !stretch.is_mapped() {
                            let reason = "the contents on record cannot be mapped";
                            return Err(io::Error::new(io::ErrorKind::OutOfMemory, reason).into());
                        }
                        checksums.push((*ino, found));
                        *content = Content::kept(stretch, found.is_droppable);
                        if found.is_droppable {
                            droppable.insert(*ino, content.clone());
                        }
                    }
                    (Entry::Tree(Fact::Freed { ino }), _) => freed.push(*ino),
                    (
                        Entry::Tree(_)
                        | Entry::Known { .. }
                        | Entry::Forgotten { .. }
                        | Entry::Waiting { .. }
                        | Entry::Shows { .. },
                        _,
                    ) => {}
                }
                take(entry)?;
            }
            for ino in freed.drain(..) {
                contents.free(ino);
                droppable.remove(&ino);
                on_disk.remove(&ino);
            }
            at = end;
        }
        // It was complete when it was handed on.
        if n_compacted > at as u64 {
            return Err(damaged(at, "the log is shorter than it was"));
        }
        if contents.n_bytes() > memory.metadata()?.blocks() * 512 {
            return Err(damaged(at, "there are more contents than memory"));
        }
        for (ino, found) in checksums {
            if let Some(stretch) = contents.get(ino)
                && crc32((**stretch).as_ref()) != found.checksum
            {
                return Err(RecordError::Damaged {
                    at: found.extent.offset,
                    what: "the checksum of a content is wrong",
                });
            }
        }
        drop((mapping, droppable, by_offset));
        if !spill.settle(on_disk.values()) {
            return Err(damaged(at, "contents on disk overlap"));
        }
        let spill = (has_spill || !on_disk.is_empty()).then_some(spill);
        if at < n_log {
            memory.set_len(LOG + at as u64)?;
        }
        // What was to be in a batch that was cut off, and what the writer did not come to.
        let left_over = Some(contents.unused_from()..LOG);
        Ok(Self {
            memory,
            n_log: at as u64,
            n_compacted,
            contents,
            on_disk,
            spill,
            placed: Vec::new(),
            is_draft: false,
            left_over,
            void: false,
            batch: Vec::new(),
        })
    }

    /// Adds the entries, all of them or none, whenever the process is killed. Files must be new:
    /// a number comes once.
    ///
    /// When it fails, the record is void: its log is emptied, so that nobody goes on with it, and every
    /// later append fails.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() && !self.void {
            return Ok(());
        }
        self.or_void(|record| record.write(entries))?;
        if !self.is_draft {
            self.settle();
        }
        Ok(())
    }

    fn or_void(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.void {
            return Err(io::Error::other("the record is void"));
        }
        write(self).inspect_err(|_| {
            self.void = true;
            self.placed.clear();
            // Contents stay: they are read where they lie. If even this fails, there is nobody left
            // to tell; the error is reported anyway.
            let _ = self.memory.set_len(LOG);
        })
    }

    /// The contents of these inodes lie on disk from here on. All of them must be on record, and in
    /// memory. Fails as [`Record::append`] does.
    pub(crate) fn spilled(&mut self, contents: &[(Ino, Content, Arc<Spilled>)]) -> io::Result<()> {
        if contents.is_empty() {
            return Ok(());
        }
        let mut batch = self.begin_batch();
        for (ino, _, spilled) in contents {
            encoding::encode_spilled(*ino, spilled, &mut batch);
        }
        self.or_void(|record| record.end_batch(batch))?;
        for (ino, content, spilled) in contents {
            self.contents.free(*ino);
            self.on_disk.insert(*ino, Arc::clone(spilled));
            content.move_to_disk(Arc::clone(spilled));
        }
        let unused = self.contents.unused();
        self.give_back(unused);
        Ok(())
    }

    /// Whether the content of the inode lies here.
    pub(crate) fn has_in_memory(&self, ino: Ino) -> bool {
        self.contents.get(ino).is_some()
    }

    /// The inodes whose contents lie on disk.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = Ino> {
        self.on_disk.keys().copied()
    }

    /// Where contents on disk lie, once there is such a place.
    pub(crate) fn spill(&self) -> Option<&Arc<Spill>> {
        self.spill.as_ref()
    }

    /// Contents on disk lie there. There must be none elsewhere.
    pub(crate) fn use_spill(&mut self, spill: Arc<Spill>) {
        self.spill = Some(spill);
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
        // Before anything is put there.
        let left_over = self.left_over.take();
        self.give_back(left_over);
        let mut batch = self.begin_batch();
        for entry in entries {
            let mut on_disk = None;
            let content = match entry {
                Entry::Tree(Fact::File { ino, content, .. }) => {
                    // What lies on disk is nothing here.
                    let bytes = match content.on_disk() {
                        None => content.in_memory(),
                        Some(spilled) => {
                            on_disk = Some((*ino, spilled));
                            None
                        }
                    };
                    let bytes = bytes.as_deref().unwrap_or_default();
                    let extent = self.contents.place(bytes.len() as u64);
                    if extent.end() > LOG {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    self.memory.write_all_at(bytes, extent.offset)?;
                    if on_disk.is_none() {
                        let stretch = self.contents.insert(&self.memory, *ino, extent);
                        self.placed.push((content.clone(), stretch));
                    }
                    Some(FileContent {
                        extent,
                        checksum: crc32(bytes),
                        is_droppable: content.is_droppable(),
                    })
                }
                Entry::Tree(_)
                | Entry::Known { .. }
                | Entry::Forgotten { .. }
                | Entry::Waiting { .. }
                | Entry::Shows { .. } => None,
            };
            encoding::encode(entry, content, &mut batch);
            if let Some((ino, spilled)) = on_disk {
                encoding::encode_spilled(ino, &spilled, &mut batch);
                self.on_disk.insert(ino, spilled);
            }
        }
        self.end_batch(batch)?;
        for ino in freed(entries) {
            self.contents.free(ino);
            self.on_disk.remove(&ino);
        }
        let unused = self.contents.unused();
        self.give_back(unused);
        Ok(())
    }

    fn begin_batch(&mut self) -> Vec<u8> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.extend([0; N_BATCH_HEADER]);
        batch
    }

    /// Writes the batch: from here on it counts.
    fn end_batch(&mut self, mut batch: Vec<u8>) -> io::Result<()> {
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
        Ok(())
    }

    fn give_back(&self, unused: impl IntoIterator<Item = Range<u64>>) {
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

/// The inodes that the entries say are no more.
fn freed(entries: &[Entry]) -> impl Iterator<Item = Ino> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Tree(Fact::Freed { ino }) => Some(*ino),
        Entry::Tree(_)
        | Entry::Known { .. }
        | Entry::Forgotten { .. }
        | Entry::Waiting { .. }
        | Entry::Shows { .. } => None,
    })
}

#[cfg(test)]
mod tests;
