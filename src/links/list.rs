//! The list of where there are links of a mount, or may be: a small file beside the control socket.
//!
//! Whoever has it open, and locked, is the only one who makes and removes links of the mount. It is
//! replaced as a whole, so that it is never seen half written; what is added meanwhile is appended,
//! and a beginning of it, which is all that a killed process may leave, is ignored.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::Lists;

/// What is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Where links are, or may be.
    pub(super) links: BTreeSet<PathBuf>,
    /// Directories that were made for them.
    pub(super) directories: BTreeSet<PathBuf>,
}

/// The file, locked.
pub(super) struct List {
    path: PathBuf,
    locked: File,
    last: Option<Listed>,
}

impl List {
    /// Waits until nobody else has it; makes it where it begins. One that cannot be understood is an empty one: what links are
    /// wanted is not in it.
    pub(super) fn open(path: &Path, lists: Lists) -> io::Result<(Self, Listed)> {
        loop {
            let mut file = options().create(lists == Lists::Begins).open(path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            // Meanwhile it may have been replaced, or removed.
            let is_there = std::fs::symlink_metadata(path)
                .is_ok_and(|found| Some(found.ino()) == file.metadata().ok().map(|it| it.ino()));
            if !is_there {
                continue;
            }
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            let mut listed = Listed::default();
            let parts = serde_json::Deserializer::from_slice(&text).into_iter::<Listed>();
            for part in parts.map_while(Result::ok) {
                listed.links.extend(part.links);
                listed.directories.extend(part.directories);
            }
            let list = Self {
                path: path.into(),
                locked: file,
                last: None,
            };
            return Ok((list, listed));
        }
    }

    /// Writes another one in its place.
    pub(super) fn replace(&mut self, listed: &Listed) -> io::Result<()> {
        if self.last.as_ref() == Some(listed) {
            return Ok(());
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let mut file = options().create(true).truncate(true).open(&new)?;
        // Before anybody can find it.
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        file.write_all(&serde_json::to_vec(listed)?)?;
        std::fs::rename(&new, &self.path)?;
        self.locked = file;
        self.last = Some(listed.clone());
        Ok(())
    }

    /// Adds a directory that is about to be made.
    pub(super) fn add_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.last = None;
        let part = Listed {
            directories: BTreeSet::from([directory.into()]),
            ..Listed::default()
        };
        self.locked.write_all(&serde_json::to_vec(&part)?)
    }

    /// There are no links any more.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        drop(self.locked);
        Ok(())
    }
}

fn options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options
}
