//! Drop-ins on disk: which files of the directory are meant, and which of them are trusted.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::dropins::Dropins;
use super::outside::{self, NotOpened};
use super::{Config, Surroundings};

/// A drop-in of ten thousand nodes has about a tenth of this.
const MAX_LENGTH: u64 = 16 << 20;

/// What tells whether a file was touched since, at the price of a stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What tells whether its content may be another.
    pub content: Content,
    ctime: (i64, i64),
    mode: u32,
    uid: u32,
}

/// The part of a [`Stamp`] that a chmod or a chown leaves as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    device: u64,
    ino: u64,
    length: u64,
    mtime: (i64, i64),
}

impl Content {
    /// That of a file of which this was found.
    pub fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            ino: found.ino(),
            length: found.len(),
            mtime: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Stamp {
    /// That of a file of which this was found.
    pub fn of(found: &Metadata) -> Self {
        Self {
            content: Content::of(found),
            ctime: (found.ctime(), found.ctime_nsec()),
            mode: found.mode(),
            uid: found.uid(),
        }
    }
}

/// Whether a file of this name is a drop-in. Not one are the hidden and temporary files of editors:
/// `.a.ini.swp`, `.#a.ini`, `#a.ini#`, `a.ini~`, `4913`.
pub fn is_dropin(name: &str) -> bool {
    name.ends_with(".ini") && !name.starts_with(['.', '#'])
}

/// The directory, or a file in it, is not taken.
#[derive(Debug, Error)]
pub enum NotTaken {
    /// As it is, it never will be.
    #[error("refused: {0}")]
    Refused(String),
    /// It could not be read, which another attempt may do.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl From<NotOpened> for NotTaken {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Inside => Self::Refused(why.to_string()),
            NotOpened::Failed(err) => Self::Unreadable(err),
        }
    }
}

impl NotTaken {
    /// Whether there is no such file or directory.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable(err) if err.kind() == io::ErrorKind::NotFound)
    }
}

/// A directory of drop-ins, open for a look.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// The mount that nothing is asked of.
    mountpoint: Option<PathBuf>,
}

impl Dir {
    /// Opens it, wherever a symbolic link leads but into the mount.
    pub fn open(path: &Path, mountpoint: Option<&Path>) -> Result<Self, NotTaken> {
        Ok(Self {
            fd: outside::open(path, mountpoint)?,
            mountpoint: mountpoint.map(Path::to_owned),
        })
    }

    /// The drop-ins in it, by name, where others cannot put any: whoever can could run commands as
    /// the mounting user. A stamp is missing where a file cannot be looked at, as with a symbolic
    /// link to nothing.
    pub fn list(&self) -> Result<BTreeMap<String, Option<Stamp>>, NotTaken> {
        trusted(
            &File::from(self.fd.try_clone()?).metadata()?,
            "the directory",
        )?;
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(again(&self.fd))? {
            let name = entry?.file_name();
            // A name that is not UTF-8 still shows up, and cannot be opened.
            let name = name.to_string_lossy().into_owned();
            if is_dropin(&name) {
                let stamp = self.open_in(&name).ok().and_then(|file| {
                    let found = File::from(file).metadata();
                    Some(Stamp::of(&found.ok()?))
                });
                found.insert(name, stamp);
            }
        }
        Ok(found)
    }

    /// The content of a drop-in that others cannot write. What a symbolic link points to is judged,
    /// not the link. The stamp is that of after the content was read.
    pub fn read(&self, name: &str) -> Result<(Stamp, Vec<u8>), NotTaken> {
        let file = self.open_in(name)?;
        let found = File::from(file.try_clone()?).metadata()?;
        if !found.is_file() {
            return Err(NotTaken::Refused("it is no regular file".into()));
        }
        trusted(&found, "a drop-in")?;
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(again(&file))?;
        let mut text = Vec::new();
        (&mut file).take(MAX_LENGTH + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_LENGTH {
            let why = format!("it is longer than {} MiB", MAX_LENGTH >> 20);
            return Err(NotTaken::Refused(why));
        }
        // Written meanwhile, it has another stamp.
        Ok((Stamp::of(&file.metadata()?), text))
    }

    /// Whether the name is a symbolic link.
    pub fn is_symlink(&self, name: &str) -> bool {
        outside::look(&self.fd, name).is_ok_and(|found| outside::is_symlink(&found))
    }

    /// Whether the name is a link of any kind.
    pub fn is_link(&self, name: &str) -> bool {
        outside::look(&self.fd, name)
            .is_ok_and(|found| outside::is_symlink(&found) || found.stx_nlink > 1)
    }

    fn open_in(&self, name: &str) -> Result<OwnedFd, NotOpened> {
        outside::open_in(&self.fd, name, self.mountpoint.as_deref())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path that leads to what is open, whatever became of its name.
pub fn again(opened: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()).into()
}

/// Whether nobody but root and the user who mounts can have written it.
fn trusted(found: &Metadata, what: &str) -> Result<(), NotTaken> {
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != us {
        return Err(NotTaken::Refused(format!(
            "it belongs to the user {}; {what} must belong to root or to the user who mounts",
            found.uid()
        )));
    }
    if found.mode() & 0o022 != 0 {
        return Err(NotTaken::Refused(format!(
            "others than its owner can write it (mode {:04o}); chmod go-w",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

/// Takes all drop-ins as they are now.
pub fn read_all(dropins: &mut Dropins, main: &Config, surroundings: &Surroundings<'_>) {
    let listed =
        Dir::open(dropins.dir(), surroundings.mountpoint).and_then(|dir| Ok((dir.list()?, dir)));
    let (listed, dir) = match listed {
        Ok(found) => found,
        Err(why) => {
            dropins.refuse_dir(why_not(&why, main.mount.dropin_dir.is_some()));
            return;
        }
    };
    for name in listed.keys() {
        match dir.read(name) {
            Ok((_, text)) => drop(dropins.take(name, &text, &main.defaults, surroundings)),
            Err(why) => drop(dropins.refuse(name, why.to_string())),
        }
    }
}

/// What to say of a directory that is not taken. Only one that is configured must be there.
pub fn why_not(why: &NotTaken, is_configured: bool) -> Option<String> {
    match why.is_missing() {
        true => is_configured.then(|| "there is no such directory yet".into()),
        false => Some(why.to_string()),
    }
}
