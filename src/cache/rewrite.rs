//! Writes a log anew, without what is outdated, step by step while the old one goes on.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::Error;
use super::format::{self, Item};
use super::index::{Frame, Index, LogFile, What, damaged};
use super::load::{self, LogName, NEW};
use super::log::Log;
use super::out::Out;
use super::place::Place;
use crate::path::ZnodePath;

/// How much is copied in one step, in bytes.
const N_COPY: u64 = 4 << 20;

/// How often it goes after what changed meanwhile before it takes the rest in one step.
const MOST_ROUNDS: u32 = 4;

/// A log that is not whole yet.
pub(super) struct Rewrite {
    out: Out,
    name: LogName,
    next_id: u64,
    /// What was copied: where it is in the old file, and where in the new one.
    copied: HashMap<ZnodePath, (u64, Frame)>,
    todo: Vec<ZnodePath>,
    n_rounds: u32,
    /// What the old file cannot give any more, and where it should be in it.
    lost: HashMap<ZnodePath, u64>,
}

/// How far it is.
pub(super) enum Step {
    More,
    /// The log goes on in the new file. The znodes are those whose content was lost.
    Done(Vec<ZnodePath>),
}

impl Rewrite {
    pub(super) fn start(log: &Log, place: &Place) -> Result<Self, Error> {
        place.remove(NEW)?;
        // Another log may have come into the directory since ours was found.
        let generation = load::last_generation(place, log.identity)?.max(log.generation) + 1;
        let name = LogName {
            identity: log.identity,
            // Keys of hash maps are the randomness that std has.
            salt: RandomState::new().build_hasher().finish(),
            generation,
        };
        let file = LogFile {
            file: place.create_file(NEW)?,
            salt: name.salt,
        };
        let index = log.index.read();
        let mut todo: Vec<_> = index.frames.iter().collect();
        // Taken from the end.
        todo.sort_unstable_by_key(|(_, frame)| std::cmp::Reverse(frame.offset));
        Ok(Self {
            out: Out::new(Arc::new(file), 0),
            name,
            next_id: 0,
            copied: HashMap::with_capacity(todo.len()),
            todo: todo.into_iter().map(|(path, _)| path.clone()).collect(),
            n_rounds: 0,
            lost: HashMap::new(),
        })
    }

    /// Goes on for a little. After an error the old file is still the log; drop this.
    pub(super) fn step(&mut self, log: &mut Log, place: &Place) -> Result<Step, Error> {
        let failed = |source| Error::Io {
            path: place.path().join(NEW),
            source,
        };
        if self.copy(log, N_COPY).map_err(failed)? {
            return Ok(Step::More);
        }
        self.todo = self.changed(log);
        self.n_rounds += 1;
        let is_little = self.n_changed_bytes(log) <= N_COPY;
        if !is_little && self.n_rounds < MOST_ROUNDS {
            return Ok(Step::More);
        }
        while self.copy(log, u64::MAX).map_err(failed)? {}
        self.finish(log, place)
    }

    /// Copies that much; false when nothing is left.
    fn copy(&mut self, log: &Log, budget: u64) -> io::Result<bool> {
        let index = log.index.read();
        let until = self.out.end().saturating_add(budget);
        while self.out.end() < until {
            let Some(path) = self.todo.pop() else {
                return Ok(false);
            };
            let (Some(frame), Some(old)) = (index.frames.get(&path), &index.file) else {
                continue;
            };
            let (item, payload);
            let what = match frame.what {
                What::Absent { zxid } => {
                    let path = path.clone();
                    item = Item::Absent { path, zxid };
                    frame.what
                }
                What::Content {
                    id,
                    stat,
                    confirmed,
                } => {
                    payload = old.payload(frame.offset, frame.n_bytes);
                    let Some(content) = payload
                        .as_ref()
                        .ok()
                        .and_then(|bytes| content(bytes, id, &path))
                    else {
                        // An older content of it is not the last known one.
                        self.copied.remove(&path);
                        log::debug!("{path}: {}", payload.err().unwrap_or_else(damaged));
                        self.lost.insert(path, frame.offset);
                        continue;
                    };
                    let id = self.next_id;
                    self.next_id += 1;
                    item = Item::Content {
                        id,
                        path: path.clone(),
                        stat,
                        confirmed,
                        content,
                    };
                    What::Content {
                        id,
                        stat,
                        confirmed,
                    }
                }
            };
            if let Some((offset, n_bytes)) = self.out.add(&item)? {
                let copy = Frame {
                    offset,
                    n_bytes,
                    what,
                };
                self.copied.insert(path, (frame.offset, copy));
            }
        }
        Ok(true)
    }

    /// What is not copied as it is now.
    fn changed(&self, log: &Log) -> Vec<ZnodePath> {
        let index = log.index.read();
        let is_done = |path: &ZnodePath, frame: &Frame| {
            let copied = self.copied.get(path).map(|(offset, _)| offset);
            copied == Some(&frame.offset) || self.lost.get(path) == Some(&frame.offset)
        };
        let changed = index
            .frames
            .iter()
            .filter(|(path, frame)| !is_done(path, frame));
        changed.map(|(path, _)| path.clone()).collect()
    }

    fn n_changed_bytes(&self, log: &Log) -> u64 {
        let index = log.index.read();
        let frames = self.todo.iter().filter_map(|path| index.frames.get(path));
        frames.map(|frame| frame.n_bytes).sum()
    }

    /// Everything is copied.
    fn finish(&mut self, log: &mut Log, place: &Place) -> Result<Step, Error> {
        let frames = {
            let index = log.index.read();
            let mut frames = HashMap::with_capacity(self.copied.len());
            let mut confirmations: BTreeMap<SystemTime, Vec<u64>> = BTreeMap::new();
            for (path, (_, mut copy)) in std::mem::take(&mut self.copied) {
                match index.frames.get(&path).map(|frame| frame.what) {
                    // It was forgotten after it was copied.
                    None => {
                        let item = Item::Forgotten { path };
                        self.out.add(&item).map_err(|err| failed(place, err))?;
                        continue;
                    }
                    Some(What::Content { confirmed: now, .. }) => {
                        if let What::Content { id, confirmed, .. } = &mut copy.what
                            && now > *confirmed
                        {
                            *confirmed = now;
                            confirmations.entry(now).or_default().push(*id);
                        }
                    }
                    Some(What::Absent { .. }) => {}
                }
                frames.insert(path, copy);
            }
            for (time, ids) in confirmations {
                let runs = format::runs(ids);
                let item = Item::Confirmed { time, runs };
                self.out.add(&item).map_err(|err| failed(place, err))?;
            }
            frames
        };
        let item = Item::Given { time: log.latest };
        self.out.add(&item).map_err(|err| failed(place, err))?;
        self.out.sync().map_err(|err| failed(place, err))?;
        let name = self.name.text();
        // It may have its name and not on disk; nothing may go to the old file then.
        place
            .rename(NEW, &name)
            .inspect_err(|_| log.is_suspect = true)?;
        let index = Index {
            file: Some(Arc::clone(&self.out.log)),
            frames,
        };
        log.n_live = index.n_bytes();
        *log.index.write() = index;
        log.end = self.out.end();
        log.next_id = self.next_id;
        log.generation = self.name.generation;
        log.is_suspect = false;
        if let Err(err) = load::remove_others(place, &name) {
            log::debug!("{}", err.with_cause());
        }
        let is_lost = |path: &ZnodePath| !log.index.read().frames.contains_key(path);
        let lost = std::mem::take(&mut self.lost).into_keys();
        Ok(Step::Done(lost.filter(is_lost).collect()))
    }
}

/// The content in a payload, if it is the one that was looked for.
fn content<'a>(payload: &'a [u8], wanted: u64, of: &ZnodePath) -> Option<&'a [u8]> {
    match format::decode(payload)? {
        Item::Content {
            id, path, content, ..
        } if id == wanted && path == *of => Some(content),
        _ => None,
    }
}

fn failed(place: &Place, source: io::Error) -> Error {
    Error::Io {
        path: place.path().join(NEW),
        source,
    }
}
