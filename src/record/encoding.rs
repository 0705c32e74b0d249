//! The bytes of an entry.
//!
//! A kind (one byte) and its fields in the order written here; numbers are little endian, a text is
//! its length in bytes (four) and UTF-8, what may be missing is 1 and itself or 0, a time is seconds
//! (eight) and nanoseconds (four) since the epoch. The content of a file lies elsewhere: its fields
//! say where, how long, and its checksum, and whether it may come to lie on disk; if it does, another
//! entry says so.

use std::time::{Duration, SystemTime};

use crate::content::Content;
use crate::path::{Name, ZnodePath};
use crate::record::contents::Extent;
use crate::record::{Entry, FileContent};
use crate::shown::Origin;
use crate::source::{Stat, Told};
use crate::spill::{self, Digest, Spilled};
use crate::tree::{Fact, Ino, Ownership};

const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const LINKED: u8 = 3;
const UNLINKED: u8 = 4;
const TIME: u8 = 5;
const FREED: u8 = 6;
const FLOOR: u8 = 7;
const KNOWN: u8 = 8;
const ABSENT: u8 = 9;
const WAITING: u8 = 10;
const ABSENT_AFTER: u8 = 11;
const BROKEN: u8 = 12;
const OWNED: u8 = 13;
const SHOWS: u8 = 14;
const SHOWS_NO_BYTES: u8 = 15;
const FORGOTTEN: u8 = 16;
const SPILLED: u8 = 17;

/// What an entry says.
pub(super) enum Decoded {
    /// An entry as it was appended, and where the content of a file lies.
    Entry(Entry, Option<FileContent>),
    /// The content of the file lies on disk.
    Spilled {
        ino: Ino,
        stretch: spill::Stretch,
        digest: Digest,
    },
}

/// Adds an entry to `bytes`; `content` says where that of a file lies.
pub(super) fn encode(entry: &Entry, content: Option<FileContent>, bytes: &mut Vec<u8>) {
    match entry {
        Entry::Tree(Fact::File {
            ino,
            ownership,
            mtime,
            content: _,
        }) => {
            let content = content.expect("the content of a file was placed");
            bytes.push(FILE);
            bytes.extend(ino.0.to_le_bytes());
            encode_ownership(*ownership, bytes);
            encode_time(*mtime, bytes);
            bytes.extend(content.extent.offset.to_le_bytes());
            bytes.extend(content.extent.n_bytes.to_le_bytes());
            bytes.extend(content.checksum.to_le_bytes());
            bytes.push(content.is_droppable.into());
        }
        Entry::Tree(Fact::Broken {
            ino,
            ownership,
            mtime,
        }) => {
            bytes.push(BROKEN);
            bytes.extend(ino.0.to_le_bytes());
            encode_ownership(*ownership, bytes);
            encode_time(*mtime, bytes);
        }
        Entry::Tree(Fact::Directory {
            ino,
            parent,
            ownership,
            mtime,
        }) => {
            bytes.push(DIRECTORY);
            bytes.extend(ino.0.to_le_bytes());
            bytes.extend(parent.0.to_le_bytes());
            encode_if_any(*ownership, bytes);
            encode_time(*mtime, bytes);
        }
        Entry::Tree(Fact::Owned { ino, ownership }) => {
            bytes.push(OWNED);
            bytes.extend(ino.0.to_le_bytes());
            encode_if_any(*ownership, bytes);
        }
        Entry::Tree(Fact::Linked {
            directory,
            name,
            ino,
            cookie,
        }) => {
            bytes.push(LINKED);
            bytes.extend(directory.0.to_le_bytes());
            encode_text(name.as_str(), bytes);
            bytes.extend(ino.0.to_le_bytes());
            bytes.extend(cookie.to_le_bytes());
        }
        Entry::Tree(Fact::Unlinked { directory, name }) => {
            bytes.push(UNLINKED);
            bytes.extend(directory.0.to_le_bytes());
            encode_text(name.as_str(), bytes);
        }
        Entry::Tree(Fact::Time { ino, mtime }) => {
            bytes.push(TIME);
            bytes.extend(ino.0.to_le_bytes());
            encode_time(*mtime, bytes);
        }
        Entry::Tree(Fact::Freed { ino }) => {
            bytes.push(FREED);
            bytes.extend(ino.0.to_le_bytes());
        }
        Entry::Tree(Fact::Floor { next, latest }) => {
            bytes.push(FLOOR);
            bytes.extend(next.0.to_le_bytes());
            encode_time(*latest, bytes);
        }
        Entry::Known {
            path,
            told: Told::Content(stat) | Told::Lost(stat),
        } => {
            bytes.push(KNOWN);
            encode_text(path.as_str(), bytes);
            encode_stat(stat, bytes);
        }
        Entry::Known {
            path,
            told: Told::Absent(None),
        } => {
            bytes.push(ABSENT);
            encode_text(path.as_str(), bytes);
        }
        Entry::Known {
            path,
            told: Told::Absent(Some(before)),
        } => {
            bytes.push(ABSENT_AFTER);
            encode_text(path.as_str(), bytes);
            bytes.extend(before.to_le_bytes());
        }
        Entry::Forgotten { path } => {
            bytes.push(FORGOTTEN);
            encode_text(path.as_str(), bytes);
        }
        Entry::Waiting { ino, handle } => {
            bytes.push(WAITING);
            bytes.extend(ino.0.to_le_bytes());
            bytes.extend(handle.to_le_bytes());
        }
        Entry::Shows {
            ino,
            origin: Origin { path, stat },
        } => {
            bytes.push(stat.map_or(SHOWS_NO_BYTES, |_| SHOWS));
            bytes.extend(ino.0.to_le_bytes());
            encode_text(path.as_str(), bytes);
            if let Some(stat) = stat {
                encode_stat(stat, bytes);
            }
        }
    }
}

/// Adds that the content of the file lies on disk.
pub(super) fn encode_spilled(ino: Ino, spilled: &Spilled, bytes: &mut Vec<u8>) {
    bytes.push(SPILLED);
    bytes.extend(ino.0.to_le_bytes());
    bytes.extend(spilled.stretch().offset.to_le_bytes());
    bytes.extend(spilled.stretch().n_bytes.to_le_bytes());
    bytes.extend(spilled.digest());
}

/// Takes the next entry off `bytes`; the content of a file is `content` until it is found. None
/// where that is no entry.
pub(super) fn decode(bytes: &mut &[u8], content: &Content) -> Option<Decoded> {
    let [kind] = take(bytes)?;
    let entry = match kind {
        FILE => {
            let fact = Fact::File {
                ino: new_ino(bytes)?,
                ownership: ownership(bytes)?,
                mtime: time(bytes)?,
                content: content.clone(),
            };
            let content = FileContent {
                extent: Extent {
                    offset: u64::from_le_bytes(take(bytes)?),
                    n_bytes: u64::from_le_bytes(take(bytes)?),
                },
                checksum: u32::from_le_bytes(take(bytes)?),
                is_droppable: match take(bytes)? {
                    [0] => false,
                    [1] => true,
                    [_] => return None,
                },
            };
            return Some(Decoded::Entry(Entry::Tree(fact), Some(content)));
        }
        BROKEN => Entry::Tree(Fact::Broken {
            ino: new_ino(bytes)?,
            ownership: ownership(bytes)?,
            mtime: time(bytes)?,
        }),
        DIRECTORY => Entry::Tree(Fact::Directory {
            ino: new_ino(bytes)?,
            parent: ino(bytes)?,
            ownership: ownership_if_any(bytes)?,
            mtime: time(bytes)?,
        }),
        OWNED => Entry::Tree(Fact::Owned {
            ino: new_ino(bytes)?,
            ownership: ownership_if_any(bytes)?,
        }),
        LINKED => Entry::Tree(Fact::Linked {
            directory: ino(bytes)?,
            name: Name::parse(text(bytes)?).ok()?,
            ino: new_ino(bytes)?,
            cookie: u64::from_le_bytes(take(bytes)?),
        }),
        UNLINKED => Entry::Tree(Fact::Unlinked {
            directory: ino(bytes)?,
            name: Name::parse(text(bytes)?).ok()?,
        }),
        TIME => Entry::Tree(Fact::Time {
            ino: ino(bytes)?,
            mtime: time(bytes)?,
        }),
        FREED => Entry::Tree(Fact::Freed {
            ino: new_ino(bytes)?,
        }),
        FLOOR => Entry::Tree(Fact::Floor {
            next: new_ino(bytes)?,
            latest: time(bytes)?,
        }),
        KNOWN => Entry::Known {
            path: ZnodePath::parse(text(bytes)?).ok()?,
            told: Told::Content(stat(bytes)?),
        },
        ABSENT => Entry::Known {
            path: ZnodePath::parse(text(bytes)?).ok()?,
            told: Told::Absent(None),
        },
        ABSENT_AFTER => Entry::Known {
            path: ZnodePath::parse(text(bytes)?).ok()?,
            told: Told::Absent(Some(i64::from_le_bytes(take(bytes)?))),
        },
        FORGOTTEN => Entry::Forgotten {
            path: ZnodePath::parse(text(bytes)?).ok()?,
        },
        WAITING => Entry::Waiting {
            ino: ino(bytes)?,
            handle: u64::from_le_bytes(take(bytes)?),
        },
        SHOWS | SHOWS_NO_BYTES => Entry::Shows {
            ino: ino(bytes)?,
            origin: Origin {
                path: ZnodePath::parse(text(bytes)?).ok()?,
                stat: match kind {
                    SHOWS => Some(stat(bytes)?),
                    _ => None,
                },
            },
        },
        SPILLED => {
            return Some(Decoded::Spilled {
                ino: new_ino(bytes)?,
                stretch: spill::Stretch {
                    offset: u64::from_le_bytes(take(bytes)?),
                    n_bytes: u64::from_le_bytes(take(bytes)?),
                },
                digest: take(bytes)?,
            });
        }
        _ => return None,
    };
    Some(Decoded::Entry(entry, None))
}

fn encode_ownership(ownership: Ownership, bytes: &mut Vec<u8>) {
    bytes.extend(ownership.uid.to_le_bytes());
    bytes.extend(ownership.gid.to_le_bytes());
    bytes.extend(ownership.mode.to_le_bytes());
}

fn ownership(bytes: &mut &[u8]) -> Option<Ownership> {
    Some(Ownership {
        uid: u32::from_le_bytes(take(bytes)?),
        gid: u32::from_le_bytes(take(bytes)?),
        mode: u16::from_le_bytes(take(bytes)?),
    })
}

fn encode_if_any(ownership: Option<Ownership>, bytes: &mut Vec<u8>) {
    bytes.push(u8::from(ownership.is_some()));
    if let Some(ownership) = ownership {
        encode_ownership(ownership, bytes);
    }
}

fn ownership_if_any(bytes: &mut &[u8]) -> Option<Option<Ownership>> {
    match take(bytes)? {
        [0] => Some(None),
        [1] => Some(Some(ownership(bytes)?)),
        _ => None,
    }
}

fn encode_time(time: SystemTime, bytes: &mut Vec<u8>) {
    // The tree gives no time before the epoch.
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    bytes.extend(since.as_secs().to_le_bytes());
    bytes.extend(since.subsec_nanos().to_le_bytes());
}

fn encode_text(text: &str, bytes: &mut Vec<u8>) {
    let n_bytes = u32::try_from(text.len()).expect("names and paths are shorter than 4 GiB");
    bytes.extend(n_bytes.to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn encode_stat(stat: &Stat, bytes: &mut Vec<u8>) {
    for number in [
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.ephemeral_owner,
    ] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [stat.version, stat.data_length, stat.num_children] {
        bytes.extend(number.to_le_bytes());
    }
}

fn stat(bytes: &mut &[u8]) -> Option<Stat> {
    let mut long = || Some(i64::from_le_bytes(take(bytes)?));
    let (czxid, mzxid, pzxid) = (long()?, long()?, long()?);
    let (ctime, mtime, ephemeral_owner) = (long()?, long()?, long()?);
    let mut short = || Some(i32::from_le_bytes(take(bytes)?));
    Some(Stat {
        czxid,
        mzxid,
        pzxid,
        version: short()?,
        ctime,
        mtime,
        ephemeral_owner,
        data_length: short()?,
        num_children: short()?,
    })
}

fn ino(bytes: &mut &[u8]) -> Option<Ino> {
    Some(Ino(u64::from_le_bytes(take(bytes)?)))
}

/// The number of an inode that comes and goes, after which there is another number.
fn new_ino(bytes: &mut &[u8]) -> Option<Ino> {
    ino(bytes).filter(|ino| *ino >= Ino::FIRST && ino.0 < u64::MAX)
}

fn time(bytes: &mut &[u8]) -> Option<SystemTime> {
    let seconds = u64::from_le_bytes(take(bytes)?);
    let nanoseconds = u32::from_le_bytes(take(bytes)?);
    if nanoseconds >= 1_000_000_000 {
        return None;
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let n_bytes = u32::from_le_bytes(take(bytes)?);
    let (text, rest) = bytes.split_at_checked(n_bytes.try_into().ok()?)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}
