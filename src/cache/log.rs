//! The log of one mount: a file that grows at its end, until it is written anew without what is
//! outdated, and an index of it in memory.
//!
//! A write that fails is cut off again, and the index is what is synced, so every state that a kill
//! can leave is a beginning of what was written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;

use super::batch::{Batch, News};
use super::format::{self, Item};
use super::index::{Frame, Index, What};
use super::load::LogName;
use super::out::Out;
use crate::path::ZnodePath;

/// How much may be outdated in a log of whatever size, in bytes.
pub(super) const SLACK: u64 = 1 << 20;

/// The log of one mount, of which this is the only writer.
pub(super) struct Log {
    pub(super) index: Arc<RwLock<Index>>,
    /// To whom the content belongs: other files in the directory are none of ours.
    pub(super) identity: u64,
    /// The number of the file; a later one overrules an earlier one.
    pub(super) generation: u64,
    /// Where the next frame goes.
    pub(super) end: u64,
    pub(super) next_id: u64,
    /// How many bytes the live frames have.
    pub(super) n_live: u64,
    /// The latest time given that is on disk.
    pub(super) latest: SystemTime,
    /// Nothing can be added before it is written anew: there is no file, it is read-only or
    /// damaged, or a sync failed.
    pub(super) is_suspect: bool,
}

impl Log {
    /// Nothing is known yet, and nothing on disk.
    pub(super) fn empty(identity: u64, generation: u64) -> Self {
        Self {
            index: Arc::default(),
            identity,
            generation,
            end: 0,
            next_id: 0,
            n_live: 0,
            latest: SystemTime::UNIX_EPOCH,
            is_suspect: true,
        }
    }

    /// Lets others look at the index.
    pub(super) fn share(&mut self, index: &Arc<RwLock<Index>>) {
        *index.write() = std::mem::take(&mut *self.index.write());
        self.index = Arc::clone(index);
    }

    /// The name of the file; none where there is no file.
    pub(super) fn name(&self) -> Option<String> {
        let salt = self.index.read().file.as_ref()?.salt;
        let name = LogName {
            identity: self.identity,
            salt,
            generation: self.generation,
        };
        Some(name.text())
    }

    /// Whether more than half of it is outdated, so that what is copied is paid for by what is
    /// freed.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.is_suspect || self.end > 2 * self.n_live + SLACK
    }

    /// Whether the file has a name; somebody may have removed it.
    pub(super) fn is_linked(&self) -> bool {
        let Some(log) = self.index.read().file.clone() else {
            return true;
        };
        rustix::fs::fstat(&log.file).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Writes the batch and syncs it. After an error nothing of it is known to be on disk.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        self.append_and(batch, Out::sync)
    }

    /// [`Log::append`] with another end than a sync.
    pub(super) fn append_and(
        &mut self,
        batch: &Batch,
        finish: impl FnOnce(&mut Out) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(log) = self.index.read().file.clone() else {
            return Err(io::Error::other("there is no file"));
        };
        let mut out = Out::new(Arc::clone(&log), self.end);
        let written = self.write(batch, &mut out).and_then(|changes| {
            finish(&mut out)?;
            Ok(changes)
        });
        match written {
            Ok(changes) => {
                self.end = out.end();
                self.take(changes);
                Ok(())
            }
            Err(err) => {
                // What was written of it must not be found behind what comes next. A file that
                // cannot even be cut, or whose pages the kernel gave up, is not to be trusted.
                let is_cut = log.file.set_len(self.end).is_ok();
                let is_full = matches!(
                    err.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
                self.is_suspect |= !(is_cut && is_full);
                Err(err)
            }
        }
    }

    /// Adds the frames of a batch; gives what changes in the index once they are on disk.
    fn write(&mut self, batch: &Batch, out: &mut Out) -> io::Result<Changes> {
        let index = self.index.read();
        let mut changes = Changes {
            latest: self.latest,
            ..Changes::default()
        };
        let asked = match batch.retains.is_empty() {
            true => None,
            false => Some(index.frames.keys()),
        };
        for path in asked.into_iter().flatten() {
            let is_kept = batch.retains.iter().all(|retains| retains(path));
            if !is_kept && !batch.news.contains_key(path) {
                out.add(&Item::Forgotten { path: path.clone() })?;
                changes.frames.push((path.clone(), None));
            }
        }
        let mut confirmations: BTreeMap<SystemTime, Vec<u64>> = BTreeMap::new();
        let mut next_id = self.next_id;
        for (path, news) in &batch.news {
            let before = index.frames.get(path);
            let time = match (news, before.map(|frame| frame.what)) {
                (
                    News::Content {
                        stat,
                        content,
                        confirmed,
                    },
                    before,
                ) => {
                    changes.latest = changes.latest.max(*confirmed);
                    let is_known =
                        matches!(before, Some(What::Content { stat: known, .. }) if known == *stat);
                    if !is_known {
                        // It may lie on a disk itself. What is here stays, as old as it says.
                        let content = match content.bytes() {
                            Ok(content) => content,
                            Err(err) => {
                                log::warn!("the content of {path} cannot be kept: {err}");
                                continue;
                            }
                        };
                        let item = Item::Content {
                            id: next_id,
                            path: path.clone(),
                            stat: *stat,
                            confirmed: *confirmed,
                            content: &content,
                        };
                        let what = What::Content {
                            id: next_id,
                            stat: *stat,
                            confirmed: *confirmed,
                        };
                        next_id += 1;
                        changes.add(path, what, out.add(&item)?);
                        continue;
                    }
                    *confirmed
                }
                (News::Absent { zxid }, before) => {
                    let what = What::Absent { zxid: *zxid };
                    if before != Some(what) {
                        let item = Item::Absent {
                            path: path.clone(),
                            zxid: *zxid,
                        };
                        changes.add(path, what, out.add(&item)?);
                    }
                    continue;
                }
                (News::Forgotten, Some(_)) => {
                    out.add(&Item::Forgotten { path: path.clone() })?;
                    changes.frames.push((path.clone(), None));
                    continue;
                }
                (News::Forgotten, None) => continue,
                (News::Confirmed(time), _) => *time,
            };
            if let Some(frame) = before
                && let What::Content {
                    id,
                    stat,
                    confirmed,
                } = frame.what
                && time > confirmed
            {
                confirmations.entry(time).or_default().push(id);
                let what = What::Content {
                    id,
                    stat,
                    confirmed: time,
                };
                let frame = Frame { what, ..*frame };
                changes.frames.push((path.clone(), Some(frame)));
            }
        }
        for (time, ids) in confirmations {
            changes.latest = changes.latest.max(time);
            let runs = format::runs(ids);
            out.add(&Item::Confirmed { time, runs })?;
        }
        if batch.latest > changes.latest {
            changes.latest = batch.latest;
            out.add(&Item::Given { time: batch.latest })?;
        }
        changes.next_id = next_id;
        Ok(changes)
    }

    fn take(&mut self, changes: Changes) {
        let mut index = self.index.write();
        for (path, frame) in changes.frames {
            let before = match frame {
                Some(frame) => {
                    self.n_live += frame.n_bytes;
                    index.frames.insert(path, frame)
                }
                None => index.frames.remove(&path),
            };
            self.n_live -= before.map_or(0, |frame| frame.n_bytes);
        }
        self.next_id = changes.next_id;
        self.latest = changes.latest;
    }
}

/// What changes in the index.
struct Changes {
    frames: Vec<(ZnodePath, Option<Frame>)>,
    next_id: u64,
    latest: SystemTime,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            next_id: 0,
            latest: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Changes {
    /// A frame that could not be made is as good as forgotten.
    fn add(&mut self, path: &ZnodePath, what: What, at: Option<(u64, u64)>) {
        let frame = at.map(|(offset, n_bytes)| Frame {
            offset,
            n_bytes,
            what,
        });
        self.frames.push((path.clone(), frame));
    }
}
