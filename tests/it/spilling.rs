//! What memory holds of content that need not be there is bounded, and nobody notices.

mod kill;
mod served;
mod sizes;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use livedata::content::Content;
use livedata::record::{Handed, Record};
use livedata::spilling::{Place, Spilling};
use livedata::store::{self, Reader, Writer};
use livedata::tree::{Change, Ino};
use parking_lot::Mutex;

use crate::cache::disk::Disk;
use crate::support::wait::{holds_for, wait_until};
use crate::tree::{DIRECTORIES, path};

const PATIENCE: Duration = Duration::from_secs(20);

const KIB: usize = 1 << 10;

/// A store, and who makes room in memory for it.
struct Store {
    writer: Writer,
    reader: Reader,
    spilling: Option<Spilling>,
    kept: Kept,
}

/// What a keeper keeps beside the record.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<File>>>);

impl Kept {
    fn file(&self) -> Option<File> {
        self.0.lock().as_ref().map(|file| file.try_clone().unwrap())
    }

    fn place(&self, create: impl Fn() -> io::Result<File> + Send + 'static) -> Place {
        let kept = Arc::clone(&self.0);
        Place {
            create: Box::new(create),
            keep: Box::new(move |file| {
                let before = kept.lock().replace(file.try_clone_to_owned()?.into());
                assert!(before.is_none(), "there is one file for a mount");
                Ok(())
            }),
        }
    }
}

impl Store {
    fn new() -> Self {
        let record = Record::create().unwrap();
        let (writer, reader) = store::recorded(DIRECTORIES, record, SystemTime::now()).unwrap();
        Self {
            writer,
            reader,
            spilling: None,
            kept: Kept::default(),
        }
    }

    fn with(most: u64) -> Self {
        let mut store = Self::new();
        store.spill(most);
        store
    }

    fn spill(&mut self, most: u64) {
        let place = self.kept.place(tempfile::tempfile);
        self.spill_to(place, most);
    }

    fn spill_to(&mut self, place: Place, most: u64) {
        self.spilling = Some(Spilling::start(&self.reader, place, most).unwrap());
    }

    fn spilling(&self) -> &Spilling {
        self.spilling.as_ref().unwrap()
    }

    fn put(&mut self, name: &str, content: Content) -> Ino {
        let change = Change::Put {
            path: path(name),
            ownership: DIRECTORIES,
            content,
        };
        self.writer.apply(change, SystemTime::now());
        self.ino(name)
    }

    fn ino(&self, name: &str) -> Ino {
        self.reader.find(&path(name)).unwrap()
    }

    fn remove(&mut self, name: &str) {
        let path = path(name);
        self.writer
            .apply(Change::Remove { path }, SystemTime::now());
    }

    fn is_in_memory(&self, ino: Ino) -> bool {
        self.reader.content(ino).unwrap().in_memory().is_some()
    }

    /// Which of the files lie in memory.
    fn in_memory(&self, names: &[&str]) -> String {
        let names = names.iter();
        names
            .filter(|name| self.is_in_memory(self.ino(name)))
            .copied()
            .collect()
    }

    fn wait_for_room(&self, most: u64) {
        wait_until(PATIENCE, "there is room in memory", || {
            self.spilling().n_bytes_in_memory() <= most
        });
    }

    fn handed(&self) -> Handed {
        Handed {
            memory: memory(&self.writer),
            spill: self.kept.file().map(OwnedFd::from),
        }
    }

    /// The server is killed, and another goes on.
    fn take_over(mut self) -> Self {
        if let Some(spilling) = self.spilling.take() {
            spilling.end();
        }
        let (handed, kept) = (self.handed(), self.kept.clone());
        drop(self);
        let (writer, reader) = store::restored(DIRECTORIES, handed).unwrap();
        Self {
            writer,
            reader,
            spilling: None,
            kept,
        }
    }
}

fn memory(writer: &Writer) -> OwnedFd {
    let mut memory = None;
    let hand_over = writer.hand_over(|descriptor| {
        memory = Some(descriptor.try_clone_to_owned()?);
        Ok(())
    });
    hand_over.unwrap();
    memory.expect("the store is recorded")
}

fn bytes(n: u8, n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|at| n ^ (at % 251) as u8).collect()
}

fn content(n: u8, n_bytes: usize) -> Content {
    Content::droppable(bytes(n, n_bytes))
}

fn read(store: &Store, ino: Ino) -> Vec<u8> {
    store.reader.read(ino).expect("it can be read").to_vec()
}

#[test]
fn the_least_recently_used_lie_on_disk() {
    let mut store = Store::with(40 * KIB as u64);
    let names = ["a", "b", "c", "d", "e"];
    for (n, name) in names[..4].iter().enumerate() {
        store.put(name, content(n as u8, 10 * KIB));
    }
    assert_eq!(store.in_memory(&names[..4]), "abcd");
    assert!(store.kept.file().is_none(), "nothing is written in vain");
    // The oldest is used.
    store.reader.used(store.ino("a")).unwrap();
    store.put("e", content(4, 10 * KIB));
    store.wait_for_room(40 * KIB as u64);
    assert_eq!(store.in_memory(&names), "acde");
    // To look without reading is no use.
    store.reader.content(store.ino("c")).unwrap();
    store.spilling().limit(20 * KIB as u64);
    store.wait_for_room(20 * KIB as u64);
    assert_eq!(store.in_memory(&names), "ae");
    for (n, name) in names.iter().enumerate() {
        assert_eq!(read(&store, store.ino(name)), bytes(n as u8, 10 * KIB));
        assert_eq!(store.reader.attr(store.ino(name)).unwrap().size, 10 << 10);
    }
    assert_eq!(store.spilling().n_bytes_on_disk(), 30 << 10);
    assert_eq!(store.spilling().trouble(), None);
}

#[test]
fn nothing_is_written_below_the_limit() {
    let mut store = Store::new();
    let refuses = Place {
        create: Box::new(|| panic!("a file is made")),
        keep: Box::new(|_| Ok(())),
    };
    store.spill_to(refuses, 100 * KIB as u64);
    for n in 0..100 {
        // One after the other, each as large as there is room for.
        store.put("a", content(n, 100 * KIB));
        store.remove("a");
    }
    // What counts for nothing: what must be in memory, and what is not worth it.
    store.put("node", Content::from(bytes(1, 1 << 20)));
    for n in 0..1000 {
        store.put(&format!("short{n}"), content(1, 255));
    }
    store.put("a", content(1, 100 * KIB));
    holds_for(Duration::from_millis(100), "nothing is amiss", || {
        store.spilling().n_bytes_in_memory() == 100 << 10 && store.spilling().trouble().is_none()
    });
}

#[test]
fn content_of_nodes_is_never_dropped() {
    let mut store = Store::with(0);
    let node = store.put("node", Content::from(bytes(1, 100 * KIB)));
    let tree = store.put("tree", content(2, 100 * KIB));
    store.wait_for_room(0);
    assert!(store.is_in_memory(node) && !store.is_in_memory(tree));
    let mut store = store.take_over();
    store.spill(0);
    let other = store.put("other", content(3, 100 * KIB));
    store.wait_for_room(0);
    assert!(store.is_in_memory(node) && !store.is_in_memory(other));
}

#[test]
fn memory_is_given_back() {
    let mut store = Store::with(64 * KIB as u64);
    let before = store.writer.n_bytes_of_record();
    for n in 0..64 {
        store.put(&format!("f{n}"), content(n, 256 * KIB));
    }
    store.wait_for_room(64 * KIB as u64);
    let n_bytes = || store.writer.n_bytes_of_record();
    wait_until(PATIENCE, "the record is small", || {
        n_bytes() < before + (1 << 20)
    });
    for n in 0..64 {
        assert_eq!(
            read(&store, store.ino(&format!("f{n}"))),
            bytes(n, 256 * KIB)
        );
    }
}

#[test]
fn a_superseded_version_that_is_held_open_stays_and_its_space_comes_back() {
    let mut store = Store::with(0);
    let n_blocks = |store: &Store| store.kept.file().unwrap().metadata().unwrap().blocks() * 512;
    store.put("a", content(1, 1 << 20));
    let first = store.reader.lookup(Ino::ROOT, "a").unwrap().ino;
    store.wait_for_room(0);
    store.put("a", content(2, 1 << 20));
    store.wait_for_room(0);
    assert_ne!(store.ino("a"), first);
    assert_eq!(read(&store, first), bytes(1, 1 << 20));
    // Also where it is superseded first, and goes to the disk then.
    store.spilling().limit(10 << 20);
    store.put("b", content(3, 1 << 20));
    let second = store.reader.lookup(Ino::ROOT, "b").unwrap().ino;
    store.remove("b");
    store.spilling().limit(0);
    store.wait_for_room(0);
    assert!(!store.is_in_memory(second));
    assert_eq!(read(&store, second), bytes(3, 1 << 20));
    assert_eq!(store.spilling().n_bytes_on_disk(), 3 << 20);
    assert!(n_blocks(&store) >= 3 << 20);
    // Somebody has asked for it, and waits for the disk.
    let asked = store.reader.content(first).unwrap();
    store.reader.forget(first, 1);
    assert_eq!(*asked.bytes().unwrap(), *bytes(1, 1 << 20));
    drop(asked);
    store.reader.forget(second, 1);
    assert_eq!(store.spilling().n_bytes_on_disk(), 1 << 20);
    wait_until(PATIENCE, "the disk has it back", || {
        n_blocks(&store) <= (1 << 20) + 8192
    });
    assert_eq!(read(&store, store.ino("a")), bytes(2, 1 << 20));
}

#[test]
fn the_same_bytes_are_no_change() {
    let mut store = Store::with(0);
    let ino = store.put("a", content(1, 10 * KIB));
    store.wait_for_room(0);
    // Nobody asks the disk, and nothing comes back.
    store.kept.file().unwrap().set_len(0).unwrap();
    assert_eq!(store.put("a", content(1, 10 * KIB)), ino);
    assert_eq!(store.put("a", Content::from(bytes(1, 10 * KIB))), ino);
    assert!(!store.is_in_memory(ino));
    let other = store.put("a", content(2, 10 * KIB));
    assert_ne!(other, ino);
}

#[test]
fn two_files_of_one_content_share_it_on_disk() {
    let mut store = Store::with(1 << 20);
    let both = content(1, 10 * KIB);
    let (a, b) = (store.put("a", both.clone()), store.put("b", both.clone()));
    store.spilling().limit(10 * KIB as u64);
    store.wait_for_room(10 * KIB as u64);
    store.spilling().limit(0);
    store.wait_for_room(0);
    let c = store.put("c", both);
    assert_eq!(store.spilling().n_bytes_on_disk(), 10 << 10);
    let mut store = store.take_over();
    store.spill(0);
    assert_eq!(store.spilling().n_bytes_on_disk(), 10 << 10);
    store.remove("a");
    store.reader.disinherit(a);
    store.remove("b");
    store.reader.disinherit(b);
    store.put("d", content(2, 10 * KIB));
    store.wait_for_room(0);
    assert_eq!(read(&store, c), bytes(1, 10 * KIB));
    store.remove("c");
    store.reader.disinherit(c);
    assert_eq!(store.spilling().n_bytes_on_disk(), 10 << 10);
}

#[test]
fn a_successor_reads_on_and_goes_on() {
    let mut store = Store::with(20 * KIB as u64);
    for n in 0..10 {
        store.put(&format!("f{n}"), content(n, 10 * KIB));
        store.wait_for_room(20 * KIB as u64);
    }
    for round in 0..3 {
        store = store.take_over();
        if round == 1 {
            store.writer.compact(|_| Ok(())).unwrap();
        }
        for n in 0..10 {
            let ino = store.ino(&format!("f{n}"));
            assert_eq!(store.is_in_memory(ino), n >= 8, "f{n}");
            assert_eq!(read(&store, ino), bytes(n, 10 * KIB));
        }
    }
    // It has the file, and so makes none.
    store.spill(0);
    store.wait_for_room(0);
    assert_eq!(store.spilling().n_bytes_on_disk(), 100 << 10);
    store.remove("f0");
    store.reader.disinherit(Ino(16));
    let store = store.take_over();
    for n in 1..10 {
        assert_eq!(
            read(&store, store.ino(&format!("f{n}"))),
            bytes(n, 10 * KIB)
        );
    }
}

#[test]
fn a_record_that_is_written_anew_knows_what_lies_on_disk() {
    let mut store = Store::with(0);
    let ino = store.put("a", content(1, 10 * KIB));
    store.wait_for_room(0);
    store.writer.compact(|_| Ok(())).unwrap();
    assert_eq!(read(&store, ino), bytes(1, 10 * KIB));
    // Nobody took that one.
    let refused = store
        .writer
        .compact(|_| Err(io::ErrorKind::BrokenPipe.into()));
    assert!(refused.is_err());
    assert_eq!(store.spilling().n_bytes_on_disk(), 10 << 10);
    store.put("b", content(2, 10 * KIB));
    store.wait_for_room(0);
    let store = store.take_over();
    assert_eq!(read(&store, ino), bytes(1, 10 * KIB));
    assert_eq!(read(&store, store.ino("b")), bytes(2, 10 * KIB));
}

#[test]
fn while_frozen_everything_stays_where_it_is() {
    let mut store = Store::with(1 << 20);
    let ino = store.put("a", content(1, 10 * KIB));
    store.writer.freeze();
    store.spilling().limit(0);
    holds_for(Duration::from_millis(300), "it stays", || {
        store.is_in_memory(ino) && store.kept.file().is_none()
    });
    store.writer.thaw();
    store.wait_for_room(0);
    assert!(!store.is_in_memory(ino));
    assert_eq!(store.spilling().trouble(), None);
}

#[test]
fn a_successor_without_the_file_has_it_told_again() {
    let mut store = Store::with(10 * KIB as u64);
    let lost = store.put("lost", content(1, 10 * KIB));
    let there = store.put("there", content(2, 10 * KIB));
    store.wait_for_room(10 * KIB as u64);
    let handed = Handed {
        spill: None,
        ..store.handed()
    };
    drop(store);
    let (writer, reader) = store::restored(DIRECTORIES, handed).unwrap();
    let kept = Kept::default();
    let mut store = Store {
        writer,
        reader,
        spilling: None,
        kept,
    };
    assert!(store.reader.read(lost).is_none());
    assert!(store.reader.content(lost).unwrap().is_lost());
    assert_eq!(store.reader.attr(lost).unwrap().size, 10 << 10);
    assert_eq!(read(&store, there), bytes(2, 10 * KIB));
    // The same bytes are another version, which can be read.
    let again = store.put("lost", content(1, 10 * KIB));
    assert_ne!(again, lost);
    assert_eq!(read(&store, again), bytes(1, 10 * KIB));
    // There is nowhere to put anything.
    store.spill(0);
    wait_until(PATIENCE, "it says so", || {
        store.spilling().trouble().is_some()
    });
    assert!(store.is_in_memory(again) && store.kept.file().is_none());
}

#[test]
fn damage_costs_what_it_hits_until_it_is_told_again() {
    let mut store = Store::with(0);
    let inos = ["a", "b", "c"].map(|name| {
        let ino = store.put(name, content(name.as_bytes()[0], 10 * KIB));
        store.wait_for_room(0);
        ino
    });
    let file = store.kept.file().unwrap();
    file.write_all_at(b"damage", 10_300).unwrap();
    assert_eq!(read(&store, inos[0]), bytes(b'a', 10 * KIB));
    assert!(store.reader.read(inos[1]).is_none());
    assert_eq!(read(&store, inos[2]), bytes(b'c', 10 * KIB));
    assert!(store.reader.content(inos[1]).unwrap().is_lost());
    // A successor finds it no better.
    let mut store = store.take_over();
    assert!(store.reader.read(inos[1]).is_none());
    let again = store.put("b", content(b'b', 10 * KIB));
    assert_ne!(again, inos[1]);
    assert_eq!(read(&store, again), bytes(b'b', 10 * KIB));
}

#[test]
fn a_keeper_that_does_not_take_the_file_keeps_all_in_memory() {
    let mut store = Store::new();
    let place = Place {
        create: Box::new(tempfile::tempfile),
        keep: Box::new(|_| Err(io::ErrorKind::BrokenPipe.into())),
    };
    store.spill_to(place, 0);
    let ino = store.put("a", content(1, 10 * KIB));
    wait_until(PATIENCE, "it says so", || {
        store.spilling().trouble().is_some()
    });
    assert!(store.is_in_memory(ino));
    assert_eq!(read(&store, ino), bytes(1, 10 * KIB));
}

#[test]
fn a_full_disk_costs_memory_and_nothing_else() {
    let disk = Disk::new(c"size=8m,mode=755");
    let full = disk.fill();
    let mut store = Store::new();
    let dir = disk.path().to_owned();
    let place = store.kept.place(move || tempfile::tempfile_in(&dir));
    store.spill_to(place, 0);
    for n in 0..5 {
        store.put(&format!("f{n}"), content(n, 1 << 20));
    }
    wait_until(PATIENCE, "it says so", || {
        store.spilling().trouble().is_some()
    });
    let trouble = store.spilling().trouble().unwrap();
    assert!(trouble.reason.contains("No space left"), "{trouble:?}");
    for n in 0..5 {
        assert!(store.is_in_memory(store.ino(&format!("f{n}"))));
    }
    assert_eq!(store.spilling().n_bytes_on_disk(), 0);
    std::fs::remove_file(full).unwrap();
    store.wait_for_room(0);
    wait_until(PATIENCE, "all is well", || {
        store.spilling().trouble().is_none()
    });
    for n in 0..5 {
        assert_eq!(read(&store, store.ino(&format!("f{n}"))), bytes(n, 1 << 20));
    }
    // It fills up again: what is there stays, and what comes finds room in memory.
    let full = disk.fill();
    let later = store.put("later", content(9, 4 << 20));
    wait_until(PATIENCE, "it says so", || {
        store.spilling().trouble().is_some()
    });
    assert!(store.is_in_memory(later));
    assert_eq!(read(&store, store.ino("f0")), bytes(0, 1 << 20));
    // A successor reads on.
    let store = store.take_over();
    assert_eq!(read(&store, later), bytes(9, 4 << 20));
    assert_eq!(read(&store, store.ino("f4")), bytes(4, 1 << 20));
    std::fs::remove_file(full).unwrap();
}

#[test]
fn the_file_has_no_name_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let mountpoint = std::path::Path::new("/mnt/live");
    let file = livedata::cache::nameless(dir.path(), mountpoint).unwrap();
    file.write_all_at(b"bytes", 0).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (0, 0o600));
    let place = dir.path().join("mnt-live");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    assert_eq!(place.metadata().unwrap().mode() & 0o7777, 0o700);
    let inside = livedata::cache::nameless(std::path::Path::new("/mnt/live/cache"), mountpoint);
    assert!(matches!(
        inside,
        Err(livedata::cache::Error::InsideMount { .. })
    ));
    assert!(file.as_fd().try_clone_to_owned().is_ok());
}
