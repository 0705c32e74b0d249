//! The bytes of the log: frames that can be told from anything else, and what is in them.
//!
//! Numbers are little endian. A frame is
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the salt of the file |
//! | 4 | how many bytes of payload |
//! | 4 | the checksum of the payload |
//! | 4 | the checksum of these 16 bytes |
//! | n | the payload: a kind and its fields |
//!
//! The salt is drawn anew for each file, so nobody who sets the content of a znode can write what
//! looks like a frame into it, and the start of the next frame is found behind a damaged one.

use std::time::{Duration, SystemTime};

use crate::checksum::crc32;
use crate::path::ZnodePath;
use crate::source::Stat;

/// The number of the format of the bytes; it changes with them.
pub(super) const FORMAT: u32 = 1;

/// How many bytes of a frame come before the payload.
pub(super) const N_HEAD: usize = 20;

const CONTENT: u8 = 1;
const ABSENT: u8 = 2;
const CONFIRMED: u8 = 3;
const FORGOTTEN: u8 = 4;
const GIVEN: u8 = 5;

/// What a frame says. Later frames overrule earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A znode has a content.
    Content {
        /// Names this content of this znode; no other in the file has it.
        id: u64,
        path: ZnodePath,
        stat: Stat,
        confirmed: SystemTime,
        content: &'a [u8],
    },
    Absent {
        path: ZnodePath,
        zxid: i64,
    },
    /// Contents were still current: runs of ids, each with its first one and how many.
    Confirmed {
        time: SystemTime,
        runs: Vec<(u64, u64)>,
    },
    Forgotten {
        path: ZnodePath,
    },
    /// A time was given to a file.
    Given {
        time: SystemTime,
    },
}

/// The head of a frame, its checksum verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) n_bytes: usize,
    checksum: u32,
}

impl Head {
    /// None where that is no head of a frame of the file with this salt.
    pub(super) fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let mut head = bytes.get(..N_HEAD)?;
        let checksum_of_head = crc32(&head[..16]);
        let found = u64::from_le_bytes(take(&mut head)?);
        let n_bytes = u32::from_le_bytes(take(&mut head)?);
        let checksum = u32::from_le_bytes(take(&mut head)?);
        let is_whole = u32::from_le_bytes(take(&mut head)?) == checksum_of_head;
        (found == salt && is_whole).then_some(Self {
            n_bytes: usize::try_from(n_bytes).ok()?,
            checksum,
        })
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.n_bytes && crc32(payload) == self.checksum
    }
}

/// Adds a frame. False, and nothing is added, where it would be longer than a frame can be.
pub(super) fn encode(item: &Item, salt: u64, bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    bytes.extend([0; N_HEAD]);
    encode_item(item, bytes);
    let (head, payload) = bytes[start..].split_at_mut(N_HEAD);
    let Ok(n_bytes) = u32::try_from(payload.len()) else {
        bytes.truncate(start);
        return false;
    };
    head[..8].copy_from_slice(&salt.to_le_bytes());
    head[8..12].copy_from_slice(&n_bytes.to_le_bytes());
    head[12..16].copy_from_slice(&crc32(payload).to_le_bytes());
    let checksum = crc32(&head[..16]);
    head[16..].copy_from_slice(&checksum.to_le_bytes());
    true
}

fn encode_item(item: &Item, bytes: &mut Vec<u8>) {
    match item {
        Item::Content {
            id,
            path,
            stat,
            confirmed,
            content,
        } => {
            bytes.push(CONTENT);
            bytes.extend(id.to_le_bytes());
            encode_path(path, bytes);
            encode_stat(stat, bytes);
            encode_time(*confirmed, bytes);
            bytes.extend(*content);
        }
        Item::Absent { path, zxid } => {
            bytes.push(ABSENT);
            encode_path(path, bytes);
            bytes.extend(zxid.to_le_bytes());
        }
        Item::Confirmed { time, runs } => {
            bytes.push(CONFIRMED);
            encode_time(*time, bytes);
            for (first, n) in runs {
                bytes.extend(first.to_le_bytes());
                bytes.extend(n.to_le_bytes());
            }
        }
        Item::Forgotten { path } => {
            bytes.push(FORGOTTEN);
            encode_path(path, bytes);
        }
        Item::Given { time } => {
            bytes.push(GIVEN);
            encode_time(*time, bytes);
        }
    }
}

/// What is in a payload. None where it is none of ours.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Item<'_>> {
    let bytes = &mut bytes;
    let [kind] = take(bytes)?;
    let item = match kind {
        CONTENT => {
            return Some(Item::Content {
                id: u64::from_le_bytes(take(bytes)?),
                path: path(bytes)?,
                stat: stat(bytes)?,
                confirmed: time(bytes)?,
                content: bytes,
            });
        }
        ABSENT => Item::Absent {
            path: path(bytes)?,
            zxid: i64::from_le_bytes(take(bytes)?),
        },
        CONFIRMED => {
            let time = time(bytes)?;
            let mut runs = Vec::new();
            while !bytes.is_empty() {
                let first = u64::from_le_bytes(take(bytes)?);
                runs.push((first, u64::from_le_bytes(take(bytes)?)));
            }
            Item::Confirmed { time, runs }
        }
        FORGOTTEN => Item::Forgotten { path: path(bytes)? },
        GIVEN => Item::Given { time: time(bytes)? },
        _ => return None,
    };
    bytes.is_empty().then_some(item)
}

/// Ids as runs; sorts them.
pub(super) fn runs(mut ids: Vec<u64>) -> Vec<(u64, u64)> {
    ids.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, n)) if *first + *n == id => *n += 1,
            _ => runs.push((id, 1)),
        }
    }
    runs
}

fn encode_path(path: &ZnodePath, bytes: &mut Vec<u8>) {
    let text = path.as_str();
    let n_bytes = u32::try_from(text.len()).expect("paths are shorter than 4 GiB");
    bytes.extend(n_bytes.to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn encode_time(time: SystemTime, bytes: &mut Vec<u8>) {
    // No file shows a time before the epoch.
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    bytes.extend(since.as_secs().to_le_bytes());
    bytes.extend(since.subsec_nanos().to_le_bytes());
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

fn path(bytes: &mut &[u8]) -> Option<ZnodePath> {
    let n_bytes = u32::from_le_bytes(take(bytes)?);
    let (text, rest) = bytes.split_at_checked(n_bytes.try_into().ok()?)?;
    *bytes = rest;
    ZnodePath::parse(std::str::from_utf8(text).ok()?).ok()
}

fn time(bytes: &mut &[u8]) -> Option<SystemTime> {
    let seconds = u64::from_le_bytes(take(bytes)?);
    let nanoseconds = u32::from_le_bytes(take(bytes)?);
    if nanoseconds >= 1_000_000_000 {
        return None;
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
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

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}
