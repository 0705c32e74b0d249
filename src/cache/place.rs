//! The directory of one mount in the cache directory: made, verified, locked.
//!
//! Everything in it is reached through its descriptor, and no symbolic link is followed below the
//! cache directory, so nobody can lead us elsewhere once it is open.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use crate::checksum::crc32;

const LOCK: &str = "lock";

/// The name that a file has for a moment which is to have none.
const NAMELESS: &str = "nameless";

/// The longest name of a directory, in bytes.
const MAX_NAME: usize = 255;

/// An open directory, ours alone.
pub(super) struct Place {
    path: PathBuf,
    directory: OwnedFd,
}

/// Whether the lock was had.
pub(super) enum Locked {
    /// It is ours until this is closed, at the latest when the process ends.
    Taken(OwnedFd),
    /// Somebody else has it: who, where that is known.
    Held(Option<u32>),
}

/// A file that was there.
pub(super) struct Opened {
    pub(super) file: File,
    /// False on a read-only file system.
    pub(super) is_writable: bool,
}

/// The name of the directory of a mountpoint: one for each, and readable.
pub(super) fn name(mountpoint: &Path) -> String {
    let bytes = mountpoint.as_os_str().as_bytes();
    let mut name = String::new();
    for byte in bytes.strip_prefix(b"/").unwrap_or(bytes) {
        match byte {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => name.push(char::from(*byte)),
            // Not in front, where it would hide the directory.
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() {
        name.push('-');
    }
    if name.len() > MAX_NAME {
        let checksum = format!("-%{:08x}", crc32(bytes));
        name.truncate(MAX_NAME - checksum.len());
        name += &checksum;
    }
    name
}

impl Place {
    /// Opens the directory `name` in `root`, both made where they are missing.
    pub(super) fn open(root: &Path, name: &str) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = match rustix::fs::open(root, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_directory(CWD, root, root)?;
                rustix::fs::open(root, flags, Mode::empty())
            }
            result => result,
        }
        .map_err(|errno| failed(root, errno))?;
        verify_root(root, &within)?;

        let path = root.join(name);
        let flags = flags | OFlags::NOFOLLOW;
        let directory = match rustix::fs::openat(&within, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_directory(&within, Path::new(name), &path)?;
                sync_directory(&within).map_err(|errno| failed(root, errno))?;
                rustix::fs::openat(&within, name, flags, Mode::empty())
            }
            result => result,
        }
        .map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => insecure(
                &path,
                "is no directory, and links are not followed; remove it",
            ),
            errno => failed(&path, errno),
        })?;
        let stat = rustix::fs::fstat(&directory).map_err(|errno| failed(&path, errno))?;
        verify_owner(&path, stat.st_uid, false)?;
        if stat.st_mode & 0o7777 != 0o700 {
            rustix::fs::fchmod(&directory, Mode::RWXU).map_err(|errno| failed(&path, errno))?;
        }
        Ok(Self { path, directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn into_directory(self) -> OwnedFd {
        self.directory
    }

    /// Whether the path still leads here.
    pub(super) fn is_there(&self) -> bool {
        let ours = rustix::fs::fstat(&self.directory);
        let there = rustix::fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        matches!((ours, there), (Ok(ours), Ok(there))
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino))
    }

    /// Takes the lock if nobody has it; does not wait.
    pub(super) fn lock(&self) -> Result<Locked, Error> {
        let path = self.path.join(LOCK);
        let failed = |errno| failed(&path, errno);
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let create = OFlags::RDWR | OFlags::CREATE | flags;
        let lock = rustix::fs::openat(&self.directory, LOCK, create, owner_only());
        let lock = match lock {
            // A lock on a read-only file system is one among readers, and does no harm.
            Err(Errno::ROFS) => {
                let flags = OFlags::RDONLY | flags;
                rustix::fs::openat(&self.directory, LOCK, flags, Mode::empty())
            }
            lock => lock,
        }
        .map_err(failed)?;
        verify_file(&path, &lock)?;
        let lock = File::from(lock);
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = [0; 20];
                let n = lock.read_at(&mut text, 0).unwrap_or(0);
                let text = String::from_utf8_lossy(&text[..n]);
                return Ok(Locked::Held(text.trim().parse().ok()));
            }
            Err(errno) => return Err(failed(errno)),
        }
        // Whoever removed it meanwhile let somebody else lock another one.
        let ours = rustix::fs::fstat(&lock).map_err(failed)?;
        let there = rustix::fs::statat(&self.directory, LOCK, AtFlags::SYMLINK_NOFOLLOW);
        if there.map_err(failed)?.st_ino != ours.st_ino {
            return Ok(Locked::Held(None));
        }
        // It only tells people who has it, so a full disk does not matter.
        let _ = lock.set_len(0);
        let _ = lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0);
        Ok(Locked::Taken(lock.into()))
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = Dir::read_from(&self.directory).and_then(Iterator::collect);
        let entries: Vec<rustix::fs::DirEntry> =
            entries.map_err(|errno| failed(&self.path, errno))?;
        let names = entries.iter().filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?;
            (name != "." && name != "..").then(|| name.to_owned())
        });
        Ok(names.collect())
    }

    /// Opens a file that is ours alone. Errors name the directory.
    pub(super) fn open_file(&self, name: &str) -> Result<Opened, Error> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |flags| rustix::fs::openat(&self.directory, name, flags, Mode::empty());
        let (file, is_writable) = match open(OFlags::RDWR | flags) {
            Err(Errno::ROFS) => (open(OFlags::RDONLY | flags), false),
            file => (file, true),
        };
        let file = file.map_err(|errno| match errno {
            Errno::LOOP => insecure(&self.path, "is a symbolic link"),
            errno => failed(&self.path, errno),
        })?;
        verify_file(&self.path, &file)?;
        let file = file.into();
        Ok(Opened { file, is_writable })
    }

    /// Makes a file that nobody else can ever open. There must be none of that name.
    pub(super) fn create_file(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, owner_only())
            .map(File::from)
            .map_err(|errno| failed(&self.path.join(name), errno))
    }

    /// Makes a file that has no name, and so nobody else can ever open.
    pub(super) fn create_nameless(&self) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, ".", flags, owner_only()) {
            Ok(file) => Ok(file.into()),
            // Not every file system can.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                self.create_and_unlink()
            }
            Err(errno) => Err(failed(&self.path, errno)),
        }
    }

    /// [`Place::create_nameless`] where there is a moment between; what a kill left is removed.
    fn create_and_unlink(&self) -> Result<File, Error> {
        self.remove(NAMELESS)?;
        let file = self.create_file(NAMELESS)?;
        self.remove(NAMELESS)?;
        Ok(file)
    }

    /// Gives a file another name, on disk when it returns.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        rustix::fs::renameat(&self.directory, from, &self.directory, to)
            .and_then(|()| sync_directory(&self.directory))
            .map_err(|errno| failed(&self.path.join(from), errno))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(&self.path, errno)),
        }
    }
}

fn owner_only() -> Mode {
    Mode::RUSR | Mode::WUSR
}

fn make_directory(within: impl AsFd, name: &Path, path: &Path) -> Result<(), Error> {
    match rustix::fs::mkdirat(within, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed(path, errno)),
    }
}

/// Some file systems cannot, and say that the call is invalid.
fn sync_directory(directory: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fsync(directory) {
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

fn verify_root(path: &Path, directory: &OwnedFd) -> Result<(), Error> {
    let stat = rustix::fs::fstat(directory).map_err(|errno| failed(path, errno))?;
    verify_owner(path, stat.st_uid, true)?;
    // In a sticky directory others cannot replace what is ours.
    if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        return Err(insecure(path, "others can write there; chmod go-w it"));
    }
    Ok(())
}

fn verify_owner(path: &Path, owner: u32, or_root: bool) -> Result<(), Error> {
    let us = rustix::process::geteuid().as_raw();
    if owner == us || (or_root && owner == 0) {
        return Ok(());
    }
    let what = format!("is owned by user {owner}; it must be owned by {us}");
    Err(insecure(path, what))
}

fn verify_file(path: &Path, file: &OwnedFd) -> Result<(), Error> {
    let stat = rustix::fs::fstat(file).map_err(|errno| failed(path, errno))?;
    verify_owner(path, stat.st_uid, false)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(insecure(path, "is no regular file"));
    }
    if stat.st_mode & 0o077 != 0 || stat.st_nlink > 1 {
        return Err(insecure(path, "others can reach it"));
    }
    Ok(())
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::Io {
        path: path.into(),
        source: io::Error::from(errno),
    }
}

fn insecure(path: &Path, what: impl Into<String>) -> Error {
    Error::Insecure {
        path: path.into(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_nameless_file_has_no_name_where_file_systems_know_none_either() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path(), "mnt").unwrap();
        // A kill came between.
        drop(place.create_file(NAMELESS).unwrap());
        let (one, other) = (place.create_and_unlink(), place.create_nameless());
        for file in [one.unwrap(), other.unwrap()] {
            let metadata = file.metadata().unwrap();
            assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (0, 0o600));
            file.write_all_at(b"bytes", 0).unwrap();
        }
        assert_eq!(place.names().unwrap(), [""; 0]);
    }
}
