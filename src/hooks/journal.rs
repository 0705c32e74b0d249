//! What must outlive the runner, as lines of text: what was told of each file, what is still to be
//! run for it, and how runs ended.
//!
//! A line is the checksum of an entry and the entry as JSON. What a kill cuts short ends the
//! journal: what was told after that is told again, and found to differ.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Digest, Event, PartId, Standing};
use crate::checksum::crc32;

/// A hook and a part for which it runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// The hook.
    pub hook: Arc<str>,
    /// The part.
    pub part: PartId,
}

/// Something to be run for: what happened to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What, from what the command was last run for to now.
    pub event: Event,
    /// Its number; the later, the higher.
    pub number: u64,
    /// The znode, where that is known.
    pub znode: Option<Arc<str>>,
}

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// The file shows this; nothing without a digest.
    Shows {
        /// The node or tree.
        part: PartId,
        /// The file.
        file: Arc<str>,
        /// What it shows.
        digest: Option<Digest>,
    },
    /// All files of the part were told once, so any other is new.
    Loaded {
        /// The node or tree.
        part: PartId,
    },
    /// This is to be run for.
    Raised {
        /// Which.
        target: Target,
        /// The file.
        file: Arc<str>,
        /// What happened to it.
        pending: Pending,
    },
    /// The hook is to run because it, or the mount, is new.
    Load {
        /// Which.
        target: Target,
    },
    /// What was raised up to this number is run for; and the load, if one was due.
    Done {
        /// Which.
        target: Target,
        /// The number.
        up_to: u64,
    },
    /// A command was started.
    Began {
        /// Its process, and its process group.
        pid: u32,
        /// What its environment is known by.
        tag: Arc<str>,
    },
    /// It has ended.
    Ended {
        /// Its process.
        pid: u32,
    },
    /// How a hook stands with a part.
    Stands {
        /// Which.
        target: Target,
        /// How.
        standing: Standing,
    },
    /// Nothing is to be known of the part any more.
    Forgotten {
        /// The node or tree.
        part: PartId,
    },
    /// Nor of this.
    Dropped {
        /// Which.
        target: Target,
    },
}

/// What is known of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPart {
    /// What its files show; one without a digest is known to be absent.
    pub files: HashMap<Arc<str>, Option<Digest>>,
    /// All of them were told once.
    pub is_loaded: bool,
}

/// What is still to be run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Left {
    /// For these files.
    pub pending: BTreeMap<Arc<str>, Pending>,
    /// And because something is new.
    pub load: bool,
    /// How it stands.
    pub standing: Standing,
}

/// All that a journal says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// What files show.
    pub parts: HashMap<PartId, KnownPart>,
    /// What is still to be run.
    pub targets: BTreeMap<Target, Left>,
    /// The commands that were started and are not known to have ended.
    pub running: HashMap<u32, Arc<str>>,
}

impl Journal {
    /// Reads one, up to its end or to what is damaged; and whether anything was.
    pub fn read(text: &[u8]) -> (Self, bool) {
        let mut journal = Self::default();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let damaged = lines.any(|line| match decode(line) {
            Some(entry) => {
                journal.take(entry);
                false
            }
            None => true,
        });
        (journal, damaged)
    }

    /// Goes on by an entry.
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Shows { part, file, digest } => {
                let is_gone = digest.is_none() && part.kind == super::Kind::Tree;
                let files = &mut self.parts.entry(part).or_default().files;
                match is_gone {
                    true => drop(files.remove(&file)),
                    false => drop(files.insert(file, digest)),
                }
            }
            Entry::Loaded { part } => self.parts.entry(part).or_default().is_loaded = true,
            Entry::Raised {
                target,
                file,
                pending,
            } => {
                let left = self.targets.entry(target).or_default();
                left.pending.insert(file, pending);
            }
            Entry::Load { target } => self.targets.entry(target).or_default().load = true,
            Entry::Done { target, up_to } => {
                let left = self.targets.entry(target).or_default();
                left.pending.retain(|_, pending| pending.number > up_to);
                left.load = false;
            }
            Entry::Began { pid, tag } => drop(self.running.insert(pid, tag)),
            Entry::Ended { pid } => drop(self.running.remove(&pid)),
            Entry::Stands { target, standing } => {
                self.targets.entry(target).or_default().standing = standing;
            }
            Entry::Forgotten { part } => drop(self.parts.remove(&part)),
            Entry::Dropped { target } => drop(self.targets.remove(&target)),
        }
    }

    /// The shortest journal that says the same.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let parts = self.parts.iter().flat_map(|(part, known)| {
            let files = known.files.iter().map(|(file, digest)| Entry::Shows {
                part: part.clone(),
                file: Arc::clone(file),
                digest: digest.clone(),
            });
            let loaded = known
                .is_loaded
                .then(|| Entry::Loaded { part: part.clone() });
            files.chain(loaded)
        });
        let targets = self.targets.iter().flat_map(|(target, left)| {
            let pending = left.pending.iter().map(|(file, pending)| Entry::Raised {
                target: target.clone(),
                file: Arc::clone(file),
                pending: pending.clone(),
            });
            let load = left.load.then(|| Entry::Load {
                target: target.clone(),
            });
            let stands = Entry::Stands {
                target: target.clone(),
                standing: left.standing.clone(),
            };
            pending.chain(load).chain([stands])
        });
        let running = self.running.iter().map(|(pid, tag)| Entry::Began {
            pid: *pid,
            tag: Arc::clone(tag),
        });
        parts.chain(targets).chain(running)
    }
}

/// The line of an entry.
pub fn encode(entry: &Entry, into: &mut Vec<u8>) {
    // Neither has maps with keys that are no text, nor anything else that JSON does not know.
    let json = serde_json::to_vec(entry).expect("an entry is JSON");
    into.extend(format!("{:08x} ", crc32(&json)).bytes());
    into.extend(json);
    into.push(b'\n');
}

fn decode(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let (checksum, json) = (line.get(..8)?, line.get(9..)?);
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    (checksum == crc32(json)).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let part = PartId::tree("t");
        let target = Target {
            hook: "h".into(),
            part: part.clone(),
        };
        let shows = |file: &str, digest: Option<&[u8]>| Entry::Shows {
            part: part.clone(),
            file: file.into(),
            digest: digest.map(Digest::of),
        };
        let raised = |file: &str, number| Entry::Raised {
            target: target.clone(),
            file: file.into(),
            pending: Pending {
                event: Event::Changed,
                number,
                znode: None,
            },
        };
        vec![
            shows("t/a", Some(b"1")),
            shows("t/b", Some(b"1")),
            Entry::Loaded { part: part.clone() },
            raised("t/a", 1),
            shows("t/b", None),
            raised("t/b", 2),
            Entry::Began {
                pid: 7,
                tag: "x".into(),
            },
            raised("t/a", 3),
            Entry::Done {
                target: target.clone(),
                up_to: 2,
            },
            Entry::Ended { pid: 7 },
            Entry::Load { target },
        ]
    }

    #[test]
    fn a_journal_written_anew_says_the_same() {
        let mut text = Vec::new();
        for entry in entries() {
            encode(&entry, &mut text);
        }
        let (journal, damaged) = Journal::read(&text);
        assert!(!damaged);
        assert_eq!(journal.parts[&PartId::tree("t")].files.len(), 1);
        let left = journal.targets.values().next().unwrap();
        assert_eq!(left.pending.len(), 1);
        assert_eq!(left.pending["t/a"].number, 3);
        assert!(left.load && journal.running.is_empty());
        let mut short = Vec::new();
        for entry in journal.entries() {
            encode(&entry, &mut short);
        }
        assert!(short.len() < text.len());
        assert_eq!(Journal::read(&short), (journal, false));
    }

    #[test]
    fn what_is_cut_short_anywhere_ends_it() {
        let mut text = Vec::new();
        let mut ends = vec![0];
        for entry in entries() {
            encode(&entry, &mut text);
            ends.push(text.len());
        }
        for cut in 0..text.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (read, damaged) = Journal::read(&text[..cut]);
            let mut expected = Journal::default();
            entries()
                .into_iter()
                .take(whole)
                .for_each(|entry| expected.take(entry));
            assert_eq!((read, damaged), (expected, !ends.contains(&cut)), "{cut}");
        }
        let mut flipped = text.clone();
        flipped[ends[3] + 20] ^= 1;
        assert!(Journal::read(&flipped).1);
    }
}
