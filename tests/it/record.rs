//! Whatever happens to a server, its successor finds the tree on record as it was last seen.
//!
//! Every state that a kill can leave the record in is loaded, in memory of its own, and the tree
//! that comes of it is compared with the one that the readers saw.

mod costs;
mod kill;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use livedata::content::Content;
use livedata::path::{FilePath, ZnodePath};
use livedata::record::{Handed, Record, RecordError};
use livedata::source::{Stat, Told};
use livedata::spilling::{Place, Spilling};
use livedata::store::{self, Reader, Writer};
use livedata::tree::{Attr, Call, Change, Ino, Kind, Room, Staged};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::support::wait::wait_until;
use crate::tree::{DIRECTORIES, Way, at, change, file_path, path, put, way};

#[derive(Debug, Clone)]
enum Step {
    Change(Change, Way),
    Walk(FilePath),
    /// Give back all lookups on the n-th inode held.
    Forget(usize),
    /// The kernel does not know what it does not hold.
    Probe,
    Know(u8, bool, Option<i64>),
    Compact {
        /// Whether the keeper takes the new record.
        taken: bool,
    },
    /// All contents that may go to the disk.
    Spill,
    /// The process is killed, and another goes on.
    TakeOver,
    /// A successor reads the record and fails, while the kernel gives something back.
    Freeze(usize),
    Tick(u64),
}

/// A recorded store, and what was seen of it when the record was last looked at.
struct Recorded {
    writer: Writer,
    reader: Reader,
    known: HashMap<ZnodePath, Told>,
    /// Lookups the kernel holds.
    lookups: HashMap<Ino, u64>,
    now: SystemTime,
    before: Before,
    /// What lies on disk, once there is something.
    spill: Arc<Mutex<Option<File>>>,
}

struct Before {
    memory: File,
    seen: Seen,
    known: HashMap<ZnodePath, Told>,
}

/// Everything that can be seen of a tree.
#[derive(Debug, Clone, PartialEq)]
struct Seen(Vec<SeenInode>);

#[derive(Debug, Clone, PartialEq)]
struct SeenInode {
    attr: Attr,
    content: Option<Vec<u8>>,
    entries: Vec<(u64, String, Ino)>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_record_is_the_tree(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps);
    }
}

#[test]
fn while_frozen_nothing_is_written_and_nothing_is_lost() {
    let mut it = Recorded::new();
    it.writer.apply(put("a", 0o400, b"1"), it.now);
    it.look_at_the_record();
    it.walk(&path("a"));
    it.writer.apply(put("a", 0o400, b"2"), it.now);
    it.look_at_the_record();
    let frozen = it.before.seen.clone();
    it.writer.freeze();
    it.forget(0);
    assert_ne!(seen(&it.reader), frozen, "the old version is freed");
    let memory = File::from(memory(&it.writer));
    assert_eq!(loaded(it.handed(copy(&memory))).unwrap().0, frozen);
    it.writer.thaw();
    it.look_at_the_record();
}

#[test]
fn a_frozen_tree_is_not_changed_by_what_was_staged() {
    let mut it = Recorded::new();
    let Staged::Step(step) = it.writer.stage(put("a", 0o400, b"1"), it.now) else {
        panic!("the kernel holds the root");
    };
    let Call::Rename { staged } = step.call else {
        panic!("a file is renamed");
    };
    it.look_at_the_record();
    it.writer.freeze();
    assert!(!it.reader.rename(staged, step.directory, "a", it.now));
    assert_eq!(it.reader.find(&path("a")), None);
    it.writer.thaw();
    assert!(it.reader.rename(staged, step.directory, "a", it.now));
    it.look_at_the_record();
}

#[test]
fn content_that_somebody_holds_stays_as_it_is() {
    let mut it = Recorded::new();
    let version = |n: u8| [n; 5000];
    it.writer.apply(put("a", 0o400, &version(1)), it.now);
    let first = it.reader.find(&path("a")).unwrap();
    let (held, bytes) = (
        it.reader.content(first).unwrap(),
        it.reader.read(first).unwrap(),
    );
    // It is freed, and what lay beside it, too.
    for n in 2..10 {
        it.writer.apply(put("a", 0o400, &version(n)), it.now);
    }
    assert_eq!(it.reader.attr(first), None);
    assert_eq!(*held.bytes().unwrap(), version(1));
    // The record moves.
    let last = it.reader.find(&path("a")).unwrap();
    let newest = it.reader.content(last).unwrap();
    it.writer.compact(|_| Ok(())).unwrap();
    it.writer.apply(put("b", 0o400, &version(10)), it.now);
    assert_eq!(*held.bytes().unwrap(), version(1));
    assert_eq!(*newest.bytes().unwrap(), version(9));
    // Another process goes on, in the same memory.
    let memory = memory(&it.writer);
    drop(it.writer);
    let (mut writer, reader) = store::restored(DIRECTORIES, memory).unwrap();
    writer.apply(put("a", 0o400, &version(11)), it.now);
    let inherited = reader.read(last).unwrap();
    assert_eq!(*inherited, version(9), "the kernel may hold it");
    reader.disinherit(last);
    writer.apply(put("a", 0o400, &version(12)), it.now);
    assert_eq!(*inherited, version(9));
    assert_eq!(*bytes, version(1));
}

#[test]
fn memory_comes_back_with_the_last_who_holds_it() {
    let mut it = Recorded::new();
    let before = it.writer.n_bytes_of_record();
    let long = vec![1; 1 << 20];
    it.writer.apply(put("a", 0o400, &long), it.now);
    let held = it.reader.read(it.reader.find(&path("a")).unwrap()).unwrap();
    it.writer.apply(put("a", 0o400, b"1"), it.now);
    assert!(it.writer.n_bytes_of_record() >= before + (1 << 20));
    assert_eq!(*held, *long);
    drop(held);
    it.writer.apply(put("a", 0o400, b"2"), it.now);
    assert!(it.writer.n_bytes_of_record() < before + (1 << 18));
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let facts = vec![livedata::tree::Fact::Time {
        ino: Ino(77),
        mtime: at(1),
    }];
    let record = Record::compacted(facts, std::iter::empty()).unwrap();
    let memory = record.descriptor().try_clone_to_owned().unwrap();
    assert!(matches!(
        store::restored(DIRECTORIES, memory),
        Err(RecordError::Contradiction)
    ));
}

fn run(steps: &[Step]) {
    let mut it = Recorded::new();
    for step in steps {
        match step {
            Step::Change(change, way) => it.change(change, *way),
            Step::Walk(path) => it.walk(path),
            Step::Forget(n) => it.forget(*n),
            Step::Probe => {
                for ino in it.reader.inherited() {
                    if !it.lookups.contains_key(&ino) {
                        it.reader.disinherit(ino);
                        it.look_at_the_record();
                    }
                }
            }
            Step::Know(n, is_there, mzxid) => {
                let path = ZnodePath::parse(&format!("/{n}")).unwrap();
                let told = match (is_there, *mzxid) {
                    (true, Some(mzxid)) => Told::Content(Stat {
                        mzxid,
                        ..Stat::default()
                    }),
                    (_, before) => Told::Absent(before),
                };
                it.writer.know(&path, told);
                it.known.insert(path, told);
            }
            Step::Compact { taken } => {
                let done = it.writer.compact(|_| match taken {
                    true => Ok(()),
                    false => Err(std::io::Error::other("the keeper is gone")),
                });
                assert_eq!(done.is_ok(), *taken);
                it.forget_before();
            }
            Step::Spill => it.spill(),
            Step::TakeOver => {
                let memory = memory(&it.writer);
                let handed = it.handed(memory);
                (it.writer, it.reader) = store::restored(DIRECTORIES, handed).unwrap();
                assert_eq!(it.reader.known(), it.known);
            }
            Step::Freeze(n) => {
                it.writer.freeze();
                let handed = it.handed(memory(&it.writer));
                drop(store::restored(DIRECTORIES, handed).unwrap());
                it.forget(*n);
                it.writer.thaw();
            }
            Step::Tick(micros) => it.now += Duration::from_micros(*micros),
        }
        it.look_at_the_record();
    }
}

impl Recorded {
    fn new() -> Self {
        let record = Record::create().unwrap();
        let (writer, reader) = store::recorded(DIRECTORIES, record, at(1)).unwrap();
        let before = Before {
            memory: copy(&File::from(memory(&writer))),
            seen: seen(&reader),
            known: HashMap::new(),
        };
        Self {
            writer,
            reader,
            known: HashMap::new(),
            lookups: HashMap::new(),
            now: at(1),
            before,
            spill: Arc::default(),
        }
    }

    fn handed(&self, memory: impl Into<OwnedFd>) -> Handed {
        let spill = self.spill.lock();
        let spill = spill.as_ref().map(|file| file.try_clone().unwrap().into());
        Handed {
            memory: memory.into(),
            spill,
        }
    }

    fn spill(&self) {
        let kept = Arc::clone(&self.spill);
        let place = Place {
            create: Box::new(tempfile::tempfile),
            keep: Box::new(move |file| {
                *kept.lock() = Some(file.try_clone_to_owned()?.into());
                Ok(())
            }),
        };
        let spilling = Spilling::start(&self.reader, place, 0).unwrap();
        wait_until(Duration::from_secs(20), "all is on disk", || {
            spilling.n_bytes_in_memory() == 0
        });
        spilling.end();
    }

    fn change(&mut self, change: &Change, way: Way) {
        let change = &droppable(change);
        let is_confirmation = matches!(change, Change::Confirm { .. });
        if is_confirmation || matches!(way, Way::AtOnce) {
            self.writer.apply(change.clone(), self.now);
            return;
        }
        let Staged::Step(step) = self.writer.stage(change.clone(), self.now) else {
            return;
        };
        self.look_at_the_record();
        let (directory, name) = (step.directory, step.name.as_str());
        assert!(self.writer.is_staged(directory, &step.name));
        if matches!(way, Way::Settled) {
            self.writer.settle(directory, &step.name, self.now).unwrap();
            return;
        }
        match step.call {
            Call::Rename { staged } => {
                assert_eq!(self.reader.lookup_staged(staged).unwrap().ino, staged);
                *self.lookups.entry(staged).or_default() += 1;
                assert!(self.reader.rename(staged, directory, name, self.now));
            }
            Call::Mkdir => {
                let made = self.reader.make_directory(directory, name, self.now);
                *self.lookups.entry(made.unwrap().ino).or_default() += 1;
            }
            Call::Unlink | Call::Rmdir => {
                assert!(self.reader.remove(directory, name, self.now));
            }
        }
    }

    fn walk(&mut self, path: &FilePath) {
        let mut ino = Ino::ROOT;
        for name in path.names() {
            let Some(attr) = self.reader.lookup(ino, name.as_str()) else {
                return;
            };
            ino = attr.ino;
            *self.lookups.entry(ino).or_default() += 1;
        }
    }

    fn forget(&mut self, n: usize) {
        let mut held: Vec<_> = self.lookups.keys().copied().collect();
        held.sort();
        if !held.is_empty() {
            let ino = held[n % held.len()];
            let n_lookups = self.lookups.remove(&ino).unwrap();
            self.reader.forget(ino, n_lookups);
        }
    }

    /// Loads what a kill now would leave, and what one in the last append would have left.
    fn look_at_the_record(&mut self) {
        let memory = File::from(memory(&self.writer));
        let before = &self.before;
        let (start, end) = (n_bytes(&before.memory), n_bytes(&memory));
        assert!(start <= end, "the log only grows");
        let mut appended = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut appended, start).unwrap();
        for n in [1, 5, 13, appended.len() / 2, appended.len().max(1) - 1] {
            if n < appended.len() {
                let torn = copy(&before.memory);
                torn.write_all_at(&appended[..n], start).unwrap();
                let (seen, known) = loaded(self.handed(torn)).unwrap();
                assert_eq!(seen, before.seen, "torn after {n} of {}", appended.len());
                assert_eq!(known, before.known);
            }
        }
        self.forget_before();
        let (seen, known) = loaded(self.handed(copy(&memory))).unwrap();
        assert_eq!(seen, self.before.seen);
        assert_eq!(known, self.known);
    }

    fn forget_before(&mut self) {
        self.before = Before {
            memory: copy(&File::from(memory(&self.writer))),
            seen: seen(&self.reader),
            known: self.known.clone(),
        };
    }
}

fn memory(writer: &Writer) -> OwnedFd {
    let mut memory = None;
    writer
        .hand_over(|descriptor| {
            memory = Some(descriptor.try_clone_to_owned()?);
            Ok(())
        })
        .unwrap();
    memory.expect("the store is recorded")
}

fn n_bytes(memory: &File) -> u64 {
    memory.metadata().unwrap().len()
}

/// A copy in other memory, of what there is.
fn copy(memory: &File) -> File {
    use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
    let copy = File::from(memfd_create("copy", MemfdFlags::CLOEXEC).unwrap());
    copy.set_len(n_bytes(memory)).unwrap();
    let mut at = 0;
    while let Ok(start) = seek(memory, SeekFrom::Data(at)) {
        at = seek(memory, SeekFrom::Hole(start)).unwrap();
        let mut bytes = vec![0; (at - start) as usize];
        memory.read_exact_at(&mut bytes, start).unwrap();
        copy.write_all_at(&bytes, start).unwrap();
    }
    copy
}

fn loaded(handed: Handed) -> Result<(Seen, HashMap<ZnodePath, Told>), RecordError> {
    let (_, reader) = store::restored(DIRECTORIES, handed)?;
    Ok((seen(&reader), reader.known()))
}

fn seen(reader: &Reader) -> Seen {
    let inode = |ino| {
        let attr = reader.attr(ino)?;
        let mut entries = Vec::new();
        reader.list(ino, 0, |entry| {
            entries.push((entry.cookie, entry.name.to_string(), entry.attr.ino));
            Room::Taken
        });
        let content = reader.read(ino).map(|bytes| bytes.to_vec());
        assert!(content.is_none() || attr.kind == Kind::File);
        Some(SeenInode {
            attr,
            content,
            entries,
        })
    };
    let inodes: Vec<_> = (1..1000).map(Ino).filter_map(inode).collect();
    assert_eq!(inodes.len(), reader.n_inodes());
    Seen(inodes)
}

/// The same change; what content it has is long enough for the disk, and may go there.
fn droppable(change: &Change) -> Change {
    let mut change = change.clone();
    if let Change::Put { content, .. } | Change::Recall { content, .. } = &mut change {
        *content = Content::droppable(content.bytes().unwrap().repeat(300));
    }
    change
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (change(), way()).prop_map(|(change, way)| Step::Change(change, way)),
        4 => file_path().prop_map(Step::Walk),
        4 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Probe),
        2 => (0..3_u8, any::<bool>(), prop::option::of(1..4_i64))
            .prop_map(|(n, is_there, mzxid)| Step::Know(n, is_there, mzxid)),
        1 => any::<bool>().prop_map(|taken| Step::Compact { taken }),
        1 => Just(Step::Spill),
        1 => Just(Step::TakeOver),
        1 => any::<usize>().prop_map(Step::Freeze),
        2 => (0..20_u64).prop_map(Step::Tick),
    ]
}
