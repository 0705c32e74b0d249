//! Opens paths without a request to one mount, wherever symbolic links lead.
//!
//! Who serves a mount must never wait for it, not even for an answer that says no: so a path is
//! walked name by name, and left where a name leads into the mount. To open its root as a path, and
//! to ask for what is known of that, sends nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use thiserror::Error;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Why a path is not opened.
#[derive(Debug, Error)]
pub enum NotOpened {
    /// It leads into the mount.
    #[error("is in the mount itself; keep it elsewhere")]
    Inside,
    /// The system did not do it.
    #[error("cannot be read: {0}")]
    Failed(#[from] io::Error),
}

impl From<Errno> for NotOpened {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

/// Opens `path` with `O_PATH`; links are followed. The mount is the one at `mountpoint`, if there is
/// one by then, and every other mount of the same file system.
pub fn open(path: &Path, mountpoint: Option<&Path>) -> Result<OwnedFd, NotOpened> {
    walk(root()?, &std::path::absolute(path)?, mountpoint)
}

/// [`open`] of a name in a directory that is known to be outside.
pub fn open_in(
    directory: impl AsFd,
    name: &str,
    mountpoint: Option<&Path>,
) -> Result<OwnedFd, NotOpened> {
    let directory = directory.as_fd().try_clone_to_owned()?;
    walk(directory, Path::new(name), mountpoint)
}

/// What there is of a name in a directory, as far as it is known without asking for it.
pub(super) fn look(directory: impl AsFd, name: &str) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::EMPTY_PATH
        | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::NLINK;
    Ok(rustix::fs::statx(directory, name, flags, wanted)?)
}

pub(super) fn is_symlink(found: &Statx) -> bool {
    FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink
}

fn walk(start: OwnedFd, path: &Path, mountpoint: Option<&Path>) -> Result<OwnedFd, NotOpened> {
    let mut at = start;
    let mut left = names(path);
    let mut n_links = 0;
    while let Some(name) = left.pop() {
        let next = step(&at, &name)?;
        let found = look(&next, "")?;
        if mountpoint.is_some_and(|mountpoint| is_inside(&found, mountpoint)) {
            return Err(NotOpened::Inside);
        }
        if !is_symlink(&found) {
            at = next;
            continue;
        }
        n_links += 1;
        if n_links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            at = root()?;
        }
        left.extend(names(&target));
    }
    Ok(at)
}

fn root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty())?)
}

/// One name, no link followed. A directory is opened as such, for only then it is mounted where
/// that happens on demand.
fn step(at: &OwnedFd, name: &OsString) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(at, name, flags, Mode::empty());
    match open(flags | OFlags::DIRECTORY) {
        Err(Errno::NOTDIR | Errno::LOOP) => open(flags),
        result => result,
    }
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

/// Whether this is of the file system that is mounted at `mountpoint`: asked only now, for it may
/// just have been mounted.
fn is_inside(found: &Statx, mountpoint: &Path) -> bool {
    // All that is mounted without a device has a number without a driver.
    if found.stx_dev_major != 0 {
        return false;
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let top = rustix::fs::statx(rustix::fs::CWD, mountpoint, flags, StatxFlags::empty());
    top.is_ok_and(|top| {
        top.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
            && top.stx_dev_major == found.stx_dev_major
            && top.stx_dev_minor == found.stx_dev_minor
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_path_leads_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/c"), "").unwrap();
        symlink("a/b", path("relative")).unwrap();
        symlink(path("relative/../b"), path("absolute")).unwrap();
        symlink("loop", path("loop")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        for name in [
            "a/b/c",
            "a/./b/../b/c",
            "relative/c",
            "absolute/c",
            "relative",
        ] {
            let opened = std::fs::File::from(open(&path(name), None).unwrap());
            let (there, here) = (
                fs::metadata(path(name)).unwrap(),
                opened.metadata().unwrap(),
            );
            assert_eq!(
                (there.dev(), there.ino()),
                (here.dev(), here.ino()),
                "{name}"
            );
        }
        for (name, errno) in [
            ("loop", Errno::LOOP),
            ("dangling", Errno::NOENT),
            ("nothing/c", Errno::NOENT),
            ("a/b/c/d", Errno::NOTDIR),
        ] {
            let Err(NotOpened::Failed(err)) = open(&path(name), None) else {
                panic!("{name} is opened");
            };
            assert_eq!(err.raw_os_error(), Some(errno.raw_os_error()), "{name}");
        }
    }

    #[test]
    fn a_file_system_is_not_entered() {
        let shm = Path::new("/dev/shm");
        assert!(open(shm, None).is_ok());
        assert!(matches!(open(shm, Some(shm)), Err(NotOpened::Inside)));
        let inside = shm.join("nothing");
        assert!(matches!(open(&inside, Some(shm)), Err(NotOpened::Inside)));
        // What is no root of a mount is not there yet.
        let in_it = tempfile::tempdir_in(shm).unwrap();
        assert!(open(shm, Some(in_it.path())).is_ok());
        assert!(open(shm, Some(Path::new("/nothing"))).is_ok());
    }
}
