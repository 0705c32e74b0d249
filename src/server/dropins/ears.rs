//! What inotify tells of a directory of drop-ins: when to look, and which files are complete.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::config::dropin_dir::{Dir, again, is_dropin};

/// What happens to files. Modified is listened for because such a file is not complete.
const IN_DIR: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// What happens to the directory itself.
const BESIDE_DIR: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);

const COMPLETE: ReadFlags = ReadFlags::CLOSE_WRITE.union(ReadFlags::MOVED_TO);

pub(super) struct Ears {
    inotify: OwnedFd,
    /// The watches of the directory and of the one it is in.
    dir: Option<i32>,
    beside: Option<i32>,
}

/// What was heard since the last look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    files: HashMap<String, Word>,
    /// Names that are no drop-ins, and came.
    others: Vec<String>,
    /// The directory was moved here, or came otherwise.
    dir: Option<Word>,
}

/// The last that was heard of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It was closed after writing, or moved here.
    Complete,
    /// It came; as a link, it was complete before.
    Came,
    /// It was written.
    Written,
}

impl Ears {
    pub(super) fn new() -> Option<Self> {
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(inotify) => Some(Self {
                inotify,
                dir: None,
                beside: None,
            }),
            Err(err) => {
                log::warn!("drop-ins are looked at every some seconds, for inotify fails: {err}");
                None
            }
        }
    }

    /// Watches the directory that is there now, and the one it is in for another in its place.
    pub(super) fn watch(&mut self, dir: Option<&Dir>, beside: Option<&Dir>) {
        for (dir, flags, watch) in [
            (beside, BESIDE_DIR, &mut self.beside),
            (dir, IN_DIR, &mut self.dir),
        ] {
            // Where it is watched already, this says so.
            let new = dir.and_then(|dir| inotify::add_watch(&self.inotify, again(dir), flags).ok());
            if let Some(old) = *watch
                && new != Some(old)
            {
                // One that was removed has no watch any more.
                let _ = inotify::remove_watch(&self.inotify, old);
            }
            *watch = new;
        }
    }

    /// Hears all there is; whether there was anything about the drop-ins in `dir`.
    pub(super) fn listen(&mut self, dir: &Path, heard: &mut Heard) -> bool {
        let mut concerns_us = false;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        // Without events there is an error that says so.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
            let (name, word) = (OsStr::from_bytes(name), word(event.events()));
            if Some(event.wd()) == self.dir {
                concerns_us = true;
                heard.hear(name.to_str(), word);
            } else if Some(event.wd()) == self.beside {
                if dir.file_name() == Some(name) {
                    concerns_us = true;
                    heard.dir = word.or(heard.dir);
                }
            } else {
                // A watch ended, or some events were lost.
                concerns_us = true;
            }
        }
        concerns_us
    }
}

impl AsFd for Ears {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn word(events: ReadFlags) -> Option<Word> {
    match events {
        events if events.intersects(COMPLETE) => Some(Word::Complete),
        events if events.contains(ReadFlags::CREATE) => Some(Word::Came),
        events if events.contains(ReadFlags::MODIFY) => Some(Word::Written),
        _ => None,
    }
}

impl Heard {
    fn hear(&mut self, name: Option<&str>, word: Option<Word>) {
        let (Some(name), Some(word)) = (name, word) else {
            return;
        };
        if is_dropin(name) {
            self.files.insert(name.into(), word);
        } else if word != Word::Written {
            self.others.push(name.into());
        }
    }

    /// Whether the file was told to be complete, or told not to be.
    pub(super) fn of(&self, name: &str, dir: &Dir) -> Option<bool> {
        Some(match self.files.get(name)? {
            Word::Complete => true,
            Word::Came => dir.is_link(name),
            Word::Written => false,
        })
    }

    /// Whether all files may be others at once, each complete: the directory was exchanged, or a
    /// link that leads to it, or one that they lead through, as `..data` of Kubernetes.
    pub(super) fn exchanged(&self, path: &Path, dir: &Dir, beside: Option<&Dir>) -> bool {
        let is_symlink = || {
            let name = path.file_name().and_then(OsStr::to_str);
            beside.is_some_and(|beside| name.is_some_and(|name| beside.is_symlink(name)))
        };
        match self.dir {
            Some(Word::Complete) => true,
            Some(Word::Came) if is_symlink() => true,
            _ => self.others.iter().any(|name| dir.is_symlink(name)),
        }
    }
}
