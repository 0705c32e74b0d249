// Any bytes, and every place where they could end.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::path::Name;
use crate::source::Stat;
use crate::tree::{Ino, Ownership};

/// One entry of each kind, and a content that was freed.
fn entries() -> Vec<Vec<Entry>> {
    let name = |text| Name::parse(text).unwrap();
    let path = ZnodePath::parse("/a/b").unwrap();
    let time = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    let file = |ino, content: &[u8]| {
        Entry::Tree(Fact::File {
            ino: Ino(ino),
            ownership: Ownership {
                uid: 1,
                gid: 2,
                mode: 0o440,
            },
            mtime: time(1_700_000_000_123_456_789),
            content: content.into(),
        })
    };
    let owned = Ownership {
        uid: 3,
        gid: 4,
        mode: 0o500,
    };
    let linked = |text, ino| {
        Entry::Tree(Fact::Linked {
            directory: Ino::ROOT,
            name: name(text),
            ino: Ino(ino),
            cookie: ino,
        })
    };
    vec![
        vec![Entry::Tree(Fact::Floor {
            next: Ino(16),
            latest: time(1),
        })],
        vec![file(16, b"first"), linked("a", 16)],
        vec![
            file(17, b"second"),
            linked("a", 17),
            Entry::Tree(Fact::Freed { ino: Ino(16) }),
        ],
        vec![
            Entry::Tree(Fact::Directory {
                ino: Ino(18),
                parent: Ino::ROOT,
                ownership: None,
                mtime: time(3),
            }),
            linked("d", 18),
        ],
        vec![
            Entry::Tree(Fact::Directory {
                ino: Ino(20),
                parent: Ino::ROOT,
                ownership: Some(owned),
                mtime: time(3),
            }),
            linked("e", 20),
        ],
        vec![
            Entry::Tree(Fact::Owned {
                ino: Ino(18),
                ownership: Some(owned),
            }),
            Entry::Tree(Fact::Owned {
                ino: Ino(20),
                ownership: None,
            }),
        ],
        vec![Entry::Tree(Fact::Time {
            ino: Ino(17),
            mtime: time(4),
        })],
        vec![Entry::Known {
            path: path.clone(),
            told: Told::Content(Stat {
                czxid: 1,
                mzxid: -2,
                pzxid: 3,
                version: -4,
                ctime: 5,
                mtime: 6,
                ephemeral_owner: 7,
                data_length: 8,
                num_children: 9,
            }),
        }],
        vec![Entry::Known {
            path: path.clone(),
            told: Told::Absent(None),
        }],
        vec![
            Entry::Shows {
                ino: Ino(17),
                origin: Origin {
                    path: path.clone(),
                    stat: Some(Stat {
                        version: 11,
                        ..Stat::default()
                    }),
                },
            },
            Entry::Shows {
                ino: Ino(17),
                origin: Origin {
                    path: path.clone(),
                    stat: None,
                },
            },
        ],
        vec![Entry::Known {
            path: path.clone(),
            told: Told::Absent(Some(10)),
        }],
        vec![Entry::Forgotten { path }],
        vec![Entry::Tree(Fact::Unlinked {
            directory: Ino::ROOT,
            name: name("a"),
        })],
        vec![file(19, b"")],
    ]
}

/// A record of [`entries`], and how long it was after each batch.
fn written() -> (Record, Vec<u64>) {
    let mut record = Record::create().unwrap();
    let mut ends = vec![LOG + record.n_log];
    for batch in entries() {
        record.append(&batch).unwrap();
        ends.push(LOG + record.n_log);
    }
    (record, ends)
}

/// The entries of the first batches, as they are read.
fn read_back(n_batches: usize) -> Vec<Entry> {
    without_freed(entries().into_iter().take(n_batches).flatten().collect())
}

/// What was freed has no content.
fn without_freed(mut entries: Vec<Entry>) -> Vec<Entry> {
    let freed = entries.contains(&Entry::Tree(Fact::Freed { ino: Ino(16) }));
    for entry in &mut entries {
        if let Entry::Tree(Fact::File { ino, content, .. }) = entry
            && (*ino == Ino(16) && freed)
        {
            *content = Content::from([]);
        }
    }
    entries
}

fn load(memory: impl Into<OwnedFd>) -> Result<(Record, Vec<Entry>), RecordError> {
    let mut entries = Vec::new();
    let record = Record::load(memory.into(), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((record, without_freed(entries)))
}

fn copy(record: &Record) -> File {
    let from = &record.memory;
    let copy = File::from(rustix::fs::memfd_create("copy", MemfdFlags::CLOEXEC).unwrap());
    for (start, n_bytes) in [(0, 4096), (LOG, record.n_log)] {
        let mut bytes = vec![0; n_bytes as usize];
        from.read_exact_at(&mut bytes, start).unwrap();
        copy.write_all_at(&bytes, start).unwrap();
    }
    copy
}

#[test]
fn what_is_written_is_read_whatever_comes_last() {
    let (record, ends) = written();
    for size in LOG + N_HEADER as u64..=*ends.last().unwrap() {
        let cut = copy(&record);
        cut.set_len(size).unwrap();
        let n_batches = ends.iter().filter(|end| **end <= size).count() - 1;
        // What the batch that was cut off frees was not given back yet.
        if (ends[2]..ends[3]).contains(&size) {
            cut.write_all_at(b"first", 0).unwrap();
        }
        match load(cut) {
            Ok((mut loaded, read)) => {
                assert_eq!(read, read_back(n_batches), "cut at {}", size - LOG);
                assert_eq!(LOG + loaded.n_log, ends[n_batches]);
                // It goes on as if nothing had happened.
                for batch in entries().iter().skip(n_batches) {
                    loaded.append(batch).unwrap();
                }
                let whole = load(copy(&loaded)).unwrap().1;
                assert_eq!(whole, read_back(usize::MAX));
            }
            Err(err) => panic!("cut at {}: {err}", size - LOG),
        }
    }
    for size in [0, 1, LOG, LOG + 1, LOG + N_HEADER as u64 - 1] {
        let cut = copy(&record);
        cut.set_len(size).unwrap();
        assert!(matches!(load(cut), Err(RecordError::NoRecord)));
    }
}

#[test]
fn another_format_is_refused() {
    let (record, _) = written();
    let other = copy(&record);
    other.write_all_at(&7_u32.to_le_bytes(), LOG + 8).unwrap();
    let Err(err) = load(other) else {
        panic!("it was read");
    };
    assert_eq!(
        err.to_string(),
        "the record has the format 7, and this program reads 3"
    );
}

#[test]
fn a_void_record_is_no_record() {
    let (mut record, _) = written();
    let shown = Content::from(b"shown".as_slice());
    let Some(Entry::Tree(Fact::File {
        ino,
        ownership,
        mtime,
        ..
    })) = entries().pop().and_then(|mut batch| batch.pop())
    else {
        panic!("the last entry is a file");
    };
    let fact = Fact::File {
        ino: Ino(ino.0 + 1),
        ownership,
        mtime,
        content: shown.clone(),
    };
    record.append(&[Entry::Tree(fact)]).unwrap();
    record.n_log = MAX_LOG;
    let one = &entries()[4];
    assert!(record.append(one).is_err());
    assert!(record.is_void() && record.wants_compaction());
    assert!(record.append(one).is_err());
    assert_eq!(*shown.bytes().unwrap(), *b"shown", "it is served on");
    let memory = record.memory.try_clone().unwrap();
    assert!(matches!(load(memory), Err(RecordError::NoRecord)));
}

/// A record of a content that lies on disk, and of a change after it; and the file.
fn spilled() -> (Record, File, Vec<u64>, File) {
    let file = tempfile::tempfile().unwrap();
    let spill = Spill::new(file.try_clone().unwrap());
    let mut record = Record::create().unwrap();
    let content = Content::droppable(*b"on disk");
    let mut entries = entries();
    entries.truncate(2);
    let Entry::Tree(Fact::File { content: first, .. }) = &mut entries[1][0] else {
        panic!("it is a file");
    };
    *first = content.clone();
    let mut ends = vec![LOG + record.n_log];
    for batch in &entries {
        record.append(batch).unwrap();
        ends.push(LOG + record.n_log);
    }
    let before = copy(&record);
    let there = spill.write([&b"on disk"[..]]).unwrap().remove(0);
    record.spilled(&[(Ino(16), content, there)]).unwrap();
    ends.push(LOG + record.n_log);
    record
        .append(&[Entry::Tree(Fact::Time {
            ino: Ino(16),
            mtime: SystemTime::UNIX_EPOCH,
        })])
        .unwrap();
    ends.push(LOG + record.n_log);
    (record, before, ends, file)
}

fn load_spilled(memory: File, spill: &File) -> Result<(Record, Vec<Entry>), RecordError> {
    let mut entries = Vec::new();
    let handed = Handed {
        memory: memory.into(),
        spill: Some(spill.try_clone().unwrap().into()),
    };
    let record = Record::load(handed, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((record, entries))
}

fn first_content(entries: &[Entry]) -> &Content {
    let contents = entries.iter().find_map(|entry| match entry {
        Entry::Tree(Fact::File { content, .. }) => Some(content),
        _ => None,
    });
    contents.unwrap()
}

#[test]
fn what_lies_on_disk_is_there_or_not_yet() {
    let (record, before, ends, file) = spilled();
    for size in ends[2]..=ends[4] {
        // Memory is given back once it is on record that nobody needs it.
        let cut = match size < ends[3] {
            true => {
                let cut = before.try_clone().unwrap();
                let mut more = vec![0; (size - ends[2]) as usize];
                record.memory.read_exact_at(&mut more, ends[2]).unwrap();
                cut.set_len(ends[2]).unwrap();
                cut.write_all_at(&more, ends[2]).unwrap();
                cut
            }
            false => copy(&record),
        };
        cut.set_len(size).unwrap();
        let (loaded, entries) = load_spilled(cut, &file).unwrap();
        let content = first_content(&entries);
        assert_eq!(*content.bytes().unwrap(), *b"on disk", "cut at {size}");
        assert_eq!(content.in_memory().is_none(), size >= ends[3]);
        assert!(content.is_droppable());
        assert_eq!(loaded.on_disk().count(), usize::from(size >= ends[3]));
        // What was written and is not on record is free.
        let n_bytes = loaded.spill().unwrap().n_bytes();
        assert_eq!(n_bytes, if size >= ends[3] { 7 } else { 0 });
    }
}

#[test]
fn a_record_without_its_file_has_lost_what_lay_there() {
    let (record, ..) = spilled();
    let (loaded, entries) = load(copy(&record)).unwrap();
    let content = first_content(&entries);
    assert!(content.is_lost() && content.bytes().is_err());
    assert_eq!(content.n_bytes(), 7);
    assert!(!loaded.spill().unwrap().is_usable());
    // It stays so, whoever goes on.
    let facts = entries.into_iter().filter_map(|entry| match entry {
        Entry::Tree(fact) => Some(fact),
        Entry::Known { .. }
        | Entry::Forgotten { .. }
        | Entry::Shows { .. }
        | Entry::Waiting { .. } => None,
    });
    let compacted = Record::compacted(facts.collect(), std::iter::empty()).unwrap();
    let (_, entries) = load(copy(&compacted)).unwrap();
    assert!(first_content(&entries).is_lost());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Wherever a byte is wrong, the record is refused or what is read is right.
    #[test]
    fn no_damage_to_what_lies_on_disk_goes_unnoticed(
        at in any::<prop::sample::Index>(),
        with in 1..=255_u8,
    ) {
        let (record, _, _, file) = spilled();
        let at = LOG + at.index(record.n_log as usize) as u64;
        let damaged = copy(&record);
        let mut byte = [0];
        damaged.read_exact_at(&mut byte, at).unwrap();
        damaged.write_all_at(&[byte[0] ^ with], at).unwrap();
        if let Ok((_, entries)) = load_spilled(damaged, &file) {
            prop_assert_eq!(&*first_content(&entries).bytes().unwrap(), b"on disk");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Wherever a byte is wrong, the record is refused or what is read is right.
    #[test]
    fn no_damage_goes_unnoticed(at in any::<prop::sample::Index>(), with in 1..=255_u8) {
        let (record, _) = written();
        let n_contents = record.contents.unused_from();
        let at = at.index((n_contents + record.n_log) as usize) as u64;
        let at = if at < n_contents { at } else { LOG + at - n_contents };
        let damaged = copy(&record);
        let mut byte = [0];
        damaged.read_exact_at(&mut byte, at).unwrap();
        damaged.write_all_at(&[byte[0] ^ with], at).unwrap();
        if let Ok((_, entries)) = load(damaged) {
            prop_assert_eq!(entries, read_back(usize::MAX));
        }
    }

    /// No bytes at all make it panic, not even with the right checksums.
    #[test]
    fn any_entries_are_read_or_refused(batch in prop::collection::vec(any::<u8>(), 0..64), kind in 0..19_u8) {
        let (record, ends) = written();
        let forged = copy(&record);
        let mut bytes = vec![kind];
        bytes.extend(&batch);
        let mut head = (bytes.len() as u32).to_le_bytes().to_vec();
        head.extend(crc32(&bytes).to_le_bytes());
        head.extend(crc32(&head).to_le_bytes());
        head.extend(&bytes);
        forged.write_all_at(&head, *ends.last().unwrap()).unwrap();
        let _ = load(forged);
    }
}
