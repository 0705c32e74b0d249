//! The way to the directory that a link stands in, gone step by step, so that nobody can lead us
//! astray.
//!
//! Gone through are real directories, and symbolic links of root's or of the mounting user's. Not
//! gone into: a mount of this program; a directory in which everybody may replace everything (it can
//! be written by all, without the sticky bit); and in one with the sticky bit, as /tmp, what belongs
//! to a stranger. So a link lands where root or we have led it, or else in a directory of somebody
//! whose own files are at stake only.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::mountpoint;

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// The permission bits of a directory that we make.
const MADE: Mode = Mode::from_raw_mode(0o755);

/// Every step opens no more than a path: it runs nothing, triggers nothing, and needs no permission
/// to read.
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is known of the machine.
pub(super) struct Way {
    /// The mounts of this program, by their ids.
    ours: HashSet<u64>,
    user: u32,
}

/// What is told of each directory before it is made.
type Make<'a> = &'a mut dyn FnMut(&Path) -> io::Result<()>;

/// Why the way ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something on it is not there.
    Missing,
    /// A directory is not gone into: which, and why not.
    Refused(PathBuf, &'static str),
    System(PathBuf, Errno),
    /// What is to be done before a directory is made could not be done.
    Unprepared(io::Error),
}

/// Where we are.
struct Here {
    directory: OwnedFd,
    path: PathBuf,
    /// Everybody may make something here.
    is_shared: bool,
}

impl Way {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            ours: mountpoint::ids_of_ours()?,
            user: rustix::process::geteuid().as_raw(),
        })
    }

    /// The directory at an absolute path.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd, Stop> {
        self.walk(path, None)
    }

    /// The same; directories that are missing are made, and each is told to `made` just before.
    pub(super) fn open_or_make(
        &self,
        path: &Path,
        mut made: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<OwnedFd, Stop> {
        self.walk(path, Some(&mut made))
    }

    fn walk(&self, path: &Path, mut make: Option<Make<'_>>) -> Result<OwnedFd, Stop> {
        let mut here = root()?;
        let mut left = steps(path);
        let mut n_links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                here.path.pop();
            } else {
                here.path.push(&name);
            }
            let failed = |err| Stop::System(here.path.clone(), err);
            let step = match rustix::fs::openat(&here.directory, &name, STEP, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let make = make.as_mut().ok_or(Stop::Missing)?;
                    make(&here.path).map_err(Stop::Unprepared)?;
                    match rustix::fs::mkdirat(&here.directory, &name, MADE) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(err) => return Err(failed(err)),
                    }
                    rustix::fs::openat(&here.directory, &name, STEP, Mode::empty())
                }
                opened => opened,
            };
            let step = step.map_err(failed)?;
            let found = look_at(step.as_fd()).map_err(failed)?;
            let refuse = |why| Err(Stop::Refused(here.path.clone(), why));
            if self.ours.contains(&found.stx_mnt_id) {
                return refuse("is in a mount of livedata-fuse");
            }
            let is_trusted = found.stx_uid == 0 || found.stx_uid == self.user;
            match FileType::from_raw_mode(found.stx_mode.into()) {
                FileType::Symlink => {
                    n_links += 1;
                    if n_links > MOST_LINKS {
                        return Err(failed(Errno::LOOP));
                    }
                    if !is_trusted {
                        return refuse("is a symbolic link of neither root's nor our user's");
                    }
                    let target = rustix::fs::readlinkat(&step, "", Vec::new()).map_err(failed)?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        here = root()?;
                    } else {
                        here.path.pop();
                    }
                    let mut next = steps(&target);
                    next.append(&mut left);
                    left = next;
                }
                FileType::Directory => {
                    if here.is_shared && name != ".." && !is_trusted {
                        return refuse("belongs to neither root nor our user, where all may write");
                    }
                    let mode = Mode::from_raw_mode(found.stx_mode.into());
                    here.is_shared = mode.contains(Mode::WOTH);
                    if here.is_shared && !mode.contains(Mode::SVTX) {
                        return refuse("can be written by everybody, and has no sticky bit");
                    }
                    here.directory = step;
                }
                _ => return Err(failed(Errno::NOTDIR)),
            }
        }
        Ok(here.directory)
    }
}

fn root() -> Result<Here, Stop> {
    let path = PathBuf::from("/");
    let opened = rustix::fs::open(&path, STEP, Mode::empty());
    Ok(Here {
        directory: opened.map_err(|err| Stop::System(path.clone(), err))?,
        path,
        is_shared: false,
    })
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Asks no file system that would have to ask somebody else, a mount above all.
fn look_at(step: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let what = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID | StatxFlags::MNT_ID;
    let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(step, "", how, what)
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("its directory is missing"),
            Self::Refused(path, why) => write!(f, "refused: {} {why}", path.display()),
            Self::System(path, err) => {
                write!(f, "{}: {}", path.display(), io::Error::from(*err))
            }
            Self::Unprepared(err) => write!(f, "the list of links cannot be written: {err}"),
        }
    }
}
