//! What the record costs: time of an append and of a takeover, and memory that stays.

use std::time::{Instant, SystemTime};

use livedata::path::ZnodePath;
use livedata::record::Record;
use livedata::source::{Stat, Told};
use livedata::store::{self, Reader, Writer};
use livedata::tree::Change;

use crate::tree::{DIRECTORIES, path};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The debug build checksums slowly.
const SLOWER: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

fn put(writer: &mut Writer, file: usize, n: usize, n_bytes: usize) {
    let word = (n as u64).to_le_bytes();
    let change = Change::Put {
        path: path(&format!("services/{file}")),
        ownership: DIRECTORIES,
        content: word.repeat(n_bytes / 8).into(),
    };
    assert_eq!(writer.apply(change, SystemTime::now()).len(), 1);
    let znode = ZnodePath::parse(&format!("/services/{file}")).unwrap();
    let stat = Stat {
        mzxid: n as i64 + 1,
        ..Stat::default()
    };
    writer.know(&znode, Told::Content(stat));
}

fn recorded() -> (Writer, Reader) {
    store::recorded(DIRECTORIES, Record::create().unwrap(), SystemTime::now()).unwrap()
}

/// Changes one file so often, and says what stays in memory.
fn stays(n_changes: usize, n_bytes: usize) -> u64 {
    let (mut writer, reader) = recorded();
    let start = Instant::now();
    for n in 0..n_changes {
        put(&mut writer, 0, n, n_bytes);
        if writer.wants_compaction() {
            writer.compact(|_| Ok(())).unwrap();
        }
    }
    let each = start.elapsed() / n_changes as u32;
    let stays = writer.n_bytes_of_record();
    println!("{n_changes} changes of {n_bytes} bytes: {each:?} each, {stays} bytes stay");
    assert_eq!(reader.n_inodes(), 3);
    stays
}

#[test]
fn superseded_contents_do_not_stay() {
    assert!(stays(10_000, KIB) < 4 * MIB as u64);
    assert!(stays(if SLOWER > 1 { 300 } else { 10_000 }, MIB) < 6 * MIB as u64);
}

#[test]
fn scattered_changes_do_not_pile_up() {
    let (mut writer, _reader) = recorded();
    let mut random = fastrand::Rng::with_seed(1);
    let n_files = 2_000;
    let (mut most, mut n_compactions) = (0, 0);
    for n in 0..20 * n_files {
        put(&mut writer, random.usize(0..n_files), n, KIB);
        if n % 100 == 0 {
            most = most.max(writer.n_bytes_of_record());
            if writer.wants_compaction() {
                n_compactions += 1;
                writer.compact(|_| Ok(())).unwrap();
            }
        }
    }
    let now = writer.n_bytes_of_record();
    println!(
        "{n_files} KiB scattered: {most} bytes at most, {now} now, {n_compactions} compactions"
    );
    assert!(most < 24 * MIB as u64);
}

#[test]
fn ten_thousand_nodes_are_taken_over_at_once() {
    let (mut writer, reader) = recorded();
    for n in 0..10_000 {
        put(&mut writer, n, n, KIB);
    }
    let n_bytes = writer.n_bytes_of_record();
    let memory = || super::memory(&writer);
    let start = Instant::now();
    drop(Record::load(memory(), |_| Ok(())).unwrap());
    let load = start.elapsed();
    let start = Instant::now();
    let (_, successor) = store::restored(DIRECTORIES, memory()).unwrap();
    let whole = start.elapsed();
    assert_eq!(successor.n_inodes(), reader.n_inodes());
    assert_eq!(successor.known().len(), 10_000);
    println!("10000 nodes of 1 KiB: {n_bytes} bytes, loaded in {load:?}, restored in {whole:?}");
    assert!(whole.as_millis() < 50 * u128::from(SLOWER));
    let start = Instant::now();
    writer.compact(|_| Ok(())).unwrap();
    let (n_bytes, took) = (writer.n_bytes_of_record(), start.elapsed());
    println!("compacted to {n_bytes} bytes in {took:?}");
}
