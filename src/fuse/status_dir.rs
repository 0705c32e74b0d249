//! The directory in which a mount tells of itself.
//!
//! It stands beside the tree: at the root, under a name of its own, in no listing. Each lookup of
//! one of its files makes a snapshot, which is a file of the tree without a name
//! ([`Tree::add_nameless`](crate::tree::Tree::add_nameless)): so its number is used once, its
//! content and size never change, it goes when the kernel forgets it, and a successor serves it on.
//! That a name leads to it is forgotten at once, so that every open looks it up anew.
//!
//! What is in a snapshot is for another thread to say ([`StatusDir::serve`]), so those that answer
//! the kernel never wait for it. Nor need it be known at once: who looks something up waits until
//! there is an answer, and is asked again of a successor.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{ReplyDirectory, ReplyDirectoryPlus, ReplyEntry};
use parking_lot::Mutex;

use super::{FOR_EVER, GENERATION, Refusal, errno, file_attr};
use crate::content::Content;
use crate::path::Name;
use crate::store::Reader;
use crate::tree::{Attr, Ino, Kind, Ownership};

/// The directory; below [`Ino::FIRST`], as all numbers here.
pub(super) const STATUS_DIR_INO: Ino = Ino(3);

/// How often a tree that is frozen for a successor is tried again.
const FROZEN: Duration = Duration::from_millis(5);

/// A file of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFile {
    /// `status.json`.
    Json,
    /// `metrics.prom`.
    Metrics,
}

/// The directory of one mount. What is looked up in it waits for [`StatusDir::serve`].
#[derive(Clone)]
pub struct StatusDir {
    since: SystemTime,
    shown: Arc<OnceLock<Shown>>,
    ask: Sender<Asked>,
    asked: Arc<Mutex<Option<Receiver<Asked>>>>,
}

/// Under which name it stands, and who may read what is in it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The name.
    pub name: Name,
    /// The owner, and the permissions of the files.
    pub files: Ownership,
}

/// Somebody who waits.
enum Asked {
    /// For what a name at the root leads to, that is none of the tree's.
    AtRoot { name: String, reply: ReplyEntry },
    /// For a snapshot.
    Snapshot { file: StatusFile, reply: ReplyEntry },
}

impl StatusFile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::Metrics];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "status.json",
            Self::Metrics => "metrics.prom",
        }
    }

    /// What stands for it in listings, for none of its snapshots does. Nobody gets to open it: the
    /// kernel looks the name up first.
    fn listed(self) -> Ino {
        match self {
            Self::Json => Ino(4),
            Self::Metrics => Ino(5),
        }
    }

    /// Where a listing goes on after it.
    fn cookie(self) -> u64 {
        self.listed().0
    }
}

impl Default for StatusDir {
    fn default() -> Self {
        let (ask, asked) = mpsc::channel();
        Self {
            since: SystemTime::now(),
            shown: Arc::default(),
            ask,
            asked: Arc::new(Mutex::new(Some(asked))),
        }
    }
}

impl StatusDir {
    /// Shows it from here on, on a thread of its own, which has `write` make the bytes of a file and
    /// is done when the file system is. To be called once.
    ///
    /// `write` is called when somebody has asked, so it tells of a time after that; those who have
    /// asked meanwhile for the same get the same.
    pub fn serve(
        &self,
        tree: Reader,
        shown: Shown,
        write: impl Fn(StatusFile) -> Vec<u8> + Send + 'static,
    ) -> io::Result<()> {
        let Some(asked) = self.asked.lock().take() else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let shown = self.shown.get_or_init(|| shown).clone();
        let directory = self.attr();
        thread::Builder::new()
            .name("status".into())
            .spawn(move || {
                while let Ok(first) = asked.recv() {
                    let mut snapshots: [Vec<ReplyEntry>; 2] = Default::default();
                    for asked in std::iter::once(first).chain(asked.try_iter()) {
                        match asked {
                            Asked::AtRoot { name, reply } => {
                                let found = name == shown.name.as_str();
                                enter(found.then_some(directory), reply);
                            }
                            Asked::Snapshot { file, reply } => snapshots[file as usize].push(reply),
                        }
                    }
                    for (file, replies) in StatusFile::ALL.into_iter().zip(snapshots) {
                        if !replies.is_empty() {
                            answer(&tree, shown.files, write(file), replies);
                        }
                    }
                }
            })?;
        Ok(())
    }

    /// The directory itself.
    pub(super) fn attr(&self) -> Attr {
        Attr {
            ino: STATUS_DIR_INO,
            kind: Kind::Directory,
            size: 0,
            ownership: Ownership {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                mode: 0o555,
            },
            n_links: 2,
            mtime: self.since,
        }
    }

    /// Answers, now or later, what a name leads to that is none of the tree's.
    pub(super) fn look_up(&self, parent: Ino, name: &OsStr, reply: ReplyEntry) {
        let asked = match (parent, self.shown.get()) {
            (Ino::ROOT, Some(shown)) => {
                let found = name == shown.name.as_str();
                return enter(found.then(|| self.attr()), reply);
            }
            // A successor answers before it knows.
            (Ino::ROOT, None) => match name.to_str() {
                Some(name) => Asked::AtRoot {
                    name: name.into(),
                    reply,
                },
                None => return enter(None, reply),
            },
            (STATUS_DIR_INO, _) => match StatusFile::ALL.iter().find(|file| name == file.name()) {
                Some(&file) => Asked::Snapshot { file, reply },
                None => return enter(None, reply),
            },
            (_, _) => return enter(None, reply),
        };
        if let Err(mpsc::SendError(Asked::AtRoot { reply, .. } | Asked::Snapshot { reply, .. })) =
            self.ask.send(asked)
        {
            enter(None, reply);
        }
    }

    /// Its listing, from a cookie on.
    pub(super) fn list(&self, cookie: u64, reply: &mut ReplyDirectory) {
        for file in listed(cookie) {
            let attr = file_attr(&self.listed_attr(file));
            if reply.add(attr.ino, file.cookie(), attr.kind, file.name()) {
                return;
            }
        }
    }

    /// Likewise, with attributes that hold no longer than the names.
    pub(super) fn list_plus(&self, cookie: u64, reply: &mut ReplyDirectoryPlus) {
        let now = Duration::ZERO;
        for file in listed(cookie) {
            let attr = file_attr(&self.listed_attr(file));
            let (ino, name) = (attr.ino, file.name());
            if reply.add(ino, file.cookie(), name, &now, &attr, GENERATION) {
                return;
            }
        }
    }

    fn listed_attr(&self, file: StatusFile) -> Attr {
        let directory = self.attr();
        Attr {
            ino: file.listed(),
            kind: Kind::File,
            // Nobody reads by these.
            ownership: Ownership {
                mode: 0,
                ..directory.ownership
            },
            n_links: 1,
            ..directory
        }
    }
}

/// What a listing still has to name.
fn listed(cookie: u64) -> impl Iterator<Item = StatusFile> {
    let all = StatusFile::ALL.into_iter();
    all.filter(move |file| file.cookie() > cookie)
}

fn enter(found: Option<Attr>, reply: ReplyEntry) {
    match found {
        Some(attr) => reply.entry(&FOR_EVER, &file_attr(&attr), GENERATION),
        // Not cached: stale negative entries after inval_entry were reported of Linux 6.19.
        None => reply.error(errno(Refusal::NotFound)),
    }
}

/// Leads all who wait to a snapshot. While a successor is about to go on they wait, for it or for a
/// thaw: what it is not told of now it could not serve.
fn answer(tree: &Reader, files: Ownership, bytes: Vec<u8>, replies: Vec<ReplyEntry>) {
    let (content, n_lookups) = (Content::from(bytes), replies.len() as u64);
    let attr = loop {
        let now = SystemTime::now();
        match tree.add_nameless(content.clone(), files, n_lookups, now) {
            Some(attr) => break file_attr(&attr),
            None => thread::sleep(FROZEN),
        }
    };
    for reply in replies {
        reply.entry_with_ttls(&FOR_EVER, &Duration::ZERO, &attr, GENERATION);
    }
}
