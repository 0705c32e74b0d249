//! Finds the log of a mount, and reads it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{self, FORMAT, Item};
use super::index::{Frame, Index, LogFile, What};
use super::log::Log;
use super::place::Place;
use super::scan::{Found, Scan};
use super::{Entry, Error, Known, Loaded};
use crate::path::ZnodePath;

/// What the names of logs begin with, of whatever format.
const PREFIX: &str = "content.";

/// The name of a log that is not whole yet.
pub(super) const NEW: &str = "new";

/// Another process may write the log anew as often as this while we look for it.
const MOST_ATTEMPTS: u32 = 10;

/// What the name of a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogName {
    pub(super) identity: u64,
    pub(super) salt: u64,
    pub(super) generation: u64,
}

impl LogName {
    pub(super) fn text(&self) -> String {
        let Self {
            identity,
            salt,
            generation,
        } = self;
        format!("{PREFIX}{FORMAT}.{identity:016x}.{salt:016x}.{generation}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('.');
        let format: u32 = parts.next()?.parse().ok()?;
        let name = Self {
            identity: u64::from_str_radix(parts.next()?, 16).ok()?,
            salt: u64::from_str_radix(parts.next()?, 16).ok()?,
            generation: parts.next()?.parse().ok()?,
        };
        (format == FORMAT && name.text() == text).then_some(name)
    }
}

/// How a log is read.
pub(super) struct Reading<'a> {
    /// Whether the lock is ours; another process may be writing otherwise.
    pub(super) is_ours: bool,
    /// Whether somebody wants the contents.
    pub(super) with_contents: bool,
    /// Moves as long as the disk answers.
    pub(super) progress: &'a AtomicU64,
}

/// Loads the log that belongs to `identity`. What is damaged is left out and reported; fails only
/// where nothing can be read at all.
pub(super) fn load(
    place: &Place,
    identity: u64,
    reading: &Reading,
) -> Result<(Log, Loaded), Error> {
    let mut n_attempts = 0;
    loop {
        n_attempts += 1;
        reading.progress.fetch_add(1, Ordering::Relaxed);
        let mut dropped = Vec::new();
        let mut newest: Option<LogName> = None;
        for name in place.names()? {
            match LogName::parse(&name) {
                Some(log) if log.identity == identity => {
                    newest = newest
                        .filter(|newest| newest.generation > log.generation)
                        .or(Some(log));
                }
                Some(_) => {
                    let what = "what was kept of another service or chroot is not used";
                    dropped.push(line(place, what));
                }
                None if name.starts_with(PREFIX) => {
                    dropped.push(line(place, "a log of an unknown format is not used"));
                }
                None => {}
            }
        }
        let Some(name) = newest else {
            let loaded = Loaded {
                dropped,
                ..Loaded::nothing()
            };
            return Ok((Log::empty(identity, 0), loaded));
        };
        match place.open_file(&name.text()) {
            Ok(opened) => {
                let log = LogFile {
                    file: opened.file,
                    salt: name.salt,
                };
                let (mut log, mut loaded) = read(place, name, log, reading)?;
                log.is_suspect |= !opened.is_writable;
                dropped.append(&mut loaded.dropped);
                loaded.dropped = dropped;
                return Ok((log, loaded));
            }
            Err(Error::Insecure { what, .. }) => {
                dropped.push(line(place, &format!("the log is not used: it {what}")));
                let loaded = Loaded {
                    dropped,
                    ..Loaded::nothing()
                };
                return Ok((Log::empty(identity, name.generation), loaded));
            }
            // It was written anew between the two looks.
            Err(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && n_attempts < MOST_ATTEMPTS => {}
            Err(err) => return Err(err),
        }
    }
}

/// The highest number of a log that is there; 0 where there is none.
pub(super) fn last_generation(place: &Place, identity: u64) -> Result<u64, Error> {
    let names = place.names()?;
    let logs = names.iter().filter_map(|name| LogName::parse(name));
    let ours = logs.filter(|log| log.identity == identity);
    Ok(ours.map(|log| log.generation).max().unwrap_or(0))
}

/// Removes what no process needs any more, all but the log `keep`. Only with the lock.
pub(super) fn remove_others(place: &Place, keep: &str) -> Result<(), Error> {
    for name in place.names()? {
        if (name.starts_with(PREFIX) || name == NEW) && name != keep {
            place.remove(&name)?;
        }
    }
    Ok(())
}

fn read(
    place: &Place,
    name: LogName,
    file: LogFile,
    reading: &Reading,
) -> Result<(Log, Loaded), Error> {
    let mut loaded = Loaded::nothing();
    let mut log = Log::empty(name.identity, name.generation);
    log.is_suspect = false;
    let mut known = Reader::default();
    let failed = |source| Error::Io {
        path: place.path().into(),
        source,
    };
    let mut scan = Scan::new(&file.file, file.salt).map_err(failed)?;
    let mut end = scan.end();
    loop {
        reading.progress.fetch_add(1, Ordering::Relaxed);
        match scan.next() {
            Ok(Found::Frame {
                offset,
                n_bytes,
                payload,
            }) => match format::decode(payload) {
                Some(item) => known.take(item, offset, n_bytes, reading.with_contents, &mut log),
                None => {
                    log.is_suspect = true;
                    let what = format!("an unknown entry at {offset} is left out");
                    loaded.dropped.push(line(place, &what));
                }
            },
            Ok(Found::Damage {
                offset,
                n_bytes,
                is_last,
            }) => {
                let what = match is_last {
                    true => format!(
                        "the last {n_bytes} bytes are left out: damaged, or a write was cut short"
                    ),
                    false => format!("{n_bytes} bytes at {offset} are damaged and left out"),
                };
                // What another process is just writing looks like that, too.
                if reading.is_ours || !is_last {
                    loaded.dropped.push(line(place, &what));
                }
                // A kill leaves that; to write everything anew for it would take long.
                if is_last && reading.is_ours && file.file.set_len(offset).is_ok() {
                    end = offset;
                    break;
                }
                log.is_suspect = true;
            }
            Ok(Found::End) => break,
            Err(err) => {
                log.is_suspect = true;
                let what = format!("cannot be read from {} on: {err}", scan.offset());
                loaded.dropped.push(line(place, &what));
                break;
            }
        }
    }
    log.end = end;
    if reading.with_contents {
        loaded.entries = known.entries();
    }
    let index = Index {
        file: Some(Arc::new(file)),
        frames: known.frames,
    };
    log.n_live = index.n_bytes();
    loaded.latest = log.latest;
    *log.index.write() = index;
    Ok((log, loaded))
}

/// What the frames read so far say.
#[derive(Default)]
struct Reader {
    frames: HashMap<ZnodePath, Frame>,
    contents: HashMap<ZnodePath, Arc<[u8]>>,
    /// Which znode a content is of.
    ids: BTreeMap<u64, ZnodePath>,
}

impl Reader {
    fn take(&mut self, item: Item, offset: u64, n_bytes: u64, with_contents: bool, log: &mut Log) {
        let frame = |what| Frame {
            offset,
            n_bytes,
            what,
        };
        match item {
            Item::Content {
                id,
                path,
                stat,
                confirmed,
                content,
            } => {
                log.next_id = log.next_id.max(id.saturating_add(1));
                log.latest = log.latest.max(confirmed);
                if with_contents {
                    self.contents.insert(path.clone(), content.into());
                }
                self.ids.insert(id, path.clone());
                let what = What::Content {
                    id,
                    stat,
                    confirmed,
                };
                if let Some(before) = self.frames.insert(path, frame(what)) {
                    self.outdate(before);
                }
            }
            Item::Absent { path, zxid } => {
                self.contents.remove(&path);
                if let Some(before) = self.frames.insert(path, frame(What::Absent { zxid })) {
                    self.outdate(before);
                }
            }
            Item::Forgotten { path } => {
                self.contents.remove(&path);
                if let Some(before) = self.frames.remove(&path) {
                    self.outdate(before);
                }
            }
            Item::Confirmed { time, runs } => {
                log.latest = log.latest.max(time);
                for (first, n) in runs {
                    for (_, path) in self.ids.range(first..first.saturating_add(n)) {
                        if let Some(frame) = self.frames.get_mut(path)
                            && let What::Content { confirmed, .. } = &mut frame.what
                        {
                            *confirmed = time.max(*confirmed);
                        }
                    }
                }
            }
            Item::Given { time } => log.latest = log.latest.max(time),
        }
    }

    /// Its id names nothing any more.
    fn outdate(&mut self, frame: Frame) {
        match frame.what {
            What::Content { id, .. } => {
                self.ids.remove(&id);
            }
            What::Absent { .. } => {}
        }
    }

    /// Takes the contents out.
    fn entries(&mut self) -> Vec<Entry> {
        let entry = |(path, frame): (&ZnodePath, &Frame)| {
            let known = match frame.what {
                What::Content {
                    stat, confirmed, ..
                } => Known::Content {
                    stat,
                    content: self.contents.remove(path)?.into(),
                    confirmed,
                },
                What::Absent { zxid } => Known::Absent { zxid },
            };
            let path = path.clone();
            Some(Entry { path, known })
        };
        self.frames.iter().filter_map(entry).collect()
    }
}

/// Names of logs are in no message, for whoever knows the salt can make frames.
fn line(place: &Place, what: &str) -> String {
    format!("{}: {what}", place.path().display())
}
