//! Symbolic links outside of the mount that lead into it, so that applications keep the paths they
//! have.
//!
//! A link is ours if its target is, to the byte, the file in this mount that it stands for. So no
//! list is needed to know our own again, whoever was killed; whatever else stands at such a path is
//! left alone and reported. A list is kept all the same, of where there are links or may be: what is
//! not wanted any more is found by it, by whoever comes next.
//!
//! All of it is done by a process of its own, once for each set of wanted links. It holds no
//! `/dev/fuse`, and nobody serves the mount in it: the file systems that the links stand on may hang
//! for as long as they like, and so may the mount itself, should a path lead through it.

mod list;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::path::FilePath;
use list::{List, Listed};
use walk::{Stop, Way};

/// The hidden command of the binary that makes and removes links.
pub const COMMAND: &str = "link-mount";

/// What became of the links that were wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many are there.
    pub n_there: usize,
    /// What is not as it should be: a path, and why.
    pub problems: Vec<(PathBuf, String)>,
}

/// Whether there is a list already. Who unmounts removes it with the links, and so nobody who comes
/// late makes any again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// The mount begins, and its list.
    Begins,
    /// Without a list the mount is gone.
    GoesOn,
}

/// The process that makes links into the mount at `mountpoint`, and removes all others of this mount
/// that are in the list in the file `list`. `program` is this program. It reads from its stdin which
/// ones, as [`ask`] has it (nothing: none ever again), and prints a [`Report`] as JSON.
pub fn command(program: &Path, mountpoint: &Path, (list, lists): (&Path, Lists)) -> Command {
    let mut command = Command::new(program);
    command
        .arg0("livedata-fuse")
        .arg(COMMAND)
        .args([mountpoint, list])
        .args((lists == Lists::Begins).then_some("--begin"))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        // A file system that hangs must not be our directory's, and Ctrl-C is for the keeper.
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// What [`command`] is to read, for links to these files in the mount.
pub fn ask(dests: &[FilePath]) -> Vec<u8> {
    let dests: Vec<_> = dests.iter().map(ToString::to_string).collect();
    serde_json::to_vec(&dests).expect("texts can be written")
}

/// The main of that process.
pub fn main(mountpoint: &Path, (list, lists): (&Path, Lists)) -> ExitCode {
    let report = read_wanted(mountpoint).and_then(|wanted| keep((list, lists), &wanted));
    let printed = report.and_then(|report| {
        let mut report = serde_json::to_vec(&report)?;
        report.push(b'\n');
        match io::stdout().write_all(&report) {
            // Whoever asked may be gone.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("livedata-fuse: {}: {err}", list.display());
            ExitCode::FAILURE
        }
    }
}

fn read_wanted(mountpoint: &Path) -> io::Result<Wanted> {
    let mut asked = Vec::new();
    io::stdin().read_to_end(&mut asked)?;
    let is_over = asked.is_empty();
    let dests: Vec<String> = match is_over {
        true => Vec::new(),
        false => serde_json::from_slice(&asked)?,
    };
    Ok(Wanted {
        mountpoint: mountpoint.into(),
        links: dests.iter().map(|dest| Path::new("/").join(dest)).collect(),
        is_over,
    })
}

/// The links there are to be.
struct Wanted {
    mountpoint: PathBuf,
    links: BTreeSet<PathBuf>,
    /// There are to be none any more, and no list of them.
    is_over: bool,
}

impl Wanted {
    /// What a link of ours at this path leads to.
    fn target(&self, link: &Path) -> PathBuf {
        let dest = link.strip_prefix("/").unwrap_or(link);
        self.mountpoint.join(dest)
    }
}

/// Brings about what is wanted, one such call at a time.
fn keep((list, lists): (&Path, Lists), wanted: &Wanted) -> io::Result<Report> {
    // Others go through the directories that we make.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let (mut list, listed) = match List::open(list, lists) {
        Err(err) if err.kind() == io::ErrorKind::NotFound && lists == Lists::GoesOn => {
            let why = "no link is made: the mount is gone, or somebody removed this list of links";
            let problem = (list.to_owned(), why.to_owned());
            return Ok(Report {
                n_there: 0,
                problems: Vec::from_iter((!wanted.links.is_empty()).then_some(problem)),
            });
        }
        opened => opened?,
    };
    let way = Way::new()?;
    let mut problems: BTreeMap<PathBuf, String> = BTreeMap::new();

    let mut now = Listed::default();
    for link in listed.links.difference(&wanted.links) {
        if let Err(why) = remove(&way, link, &wanted.target(link)) {
            problems.insert(link.clone(), why.to_string());
            now.links.insert(link.clone());
        }
    }
    now.directories = remove_directories(&way, listed.directories, &wanted.links);
    // Whoever is killed from here on has told where to look.
    now.links.extend(wanted.links.iter().cloned());
    list.replace(&now)?;

    for link in &wanted.links {
        let made = |directory: &Path| {
            let is_new = now.directories.insert(directory.into());
            match is_new {
                true => list.add_directory(directory),
                false => Ok(()),
            }
        };
        if let Err(why) = make(&way, link, &wanted.target(link), made) {
            problems.insert(link.clone(), why.to_string());
        }
    }
    now.links
        .retain(|link| !wanted.links.contains(link) || !problems.contains_key(link));
    let report = Report {
        n_there: now.links.intersection(&wanted.links).count(),
        problems: problems.into_iter().collect(),
    };
    if wanted.is_over {
        // The mount is gone: what could not be removed is not ours to come back to.
        list.remove()?;
    } else {
        list.replace(&now)?;
    }
    Ok(report)
}

/// Makes a link, unless it is there.
fn make(
    way: &Way,
    link: &Path,
    target: &Path,
    made: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), Refused> {
    let (parent, name) = split(link)?;
    let directory = way.open_or_make(parent, made)?;
    // Somebody else may be making, or removing, something there.
    for _ in 0..3 {
        match look(directory.as_fd(), name, target)? {
            There::Ours => return Ok(()),
            There::Other(what) => return Err(Refused::Other(what)),
            There::Nothing => {}
        }
        match rustix::fs::symlinkat(target, &directory, name) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(err) => return Err(Refused::System(err)),
        }
    }
    Err(Refused::Other("something that comes and goes".into()))
}

/// Removes a link, if it is ours.
fn remove(way: &Way, link: &Path, target: &Path) -> Result<(), Refused> {
    let (parent, name) = split(link)?;
    let directory = match way.open(parent) {
        Err(Stop::Missing) => return Ok(()),
        opened => opened?,
    };
    match look(directory.as_fd(), name, target)? {
        There::Nothing | There::Other(_) => Ok(()),
        There::Ours => match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(err) => Err(Refused::System(err)),
        },
    }
}

/// Removes the directories that were made for links, where nothing is in them; gives those that may
/// be needed still.
fn remove_directories(
    way: &Way,
    made: BTreeSet<PathBuf>,
    links: &BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    // A longer path sorts behind its parent.
    let (mut needed, unneeded): (BTreeSet<_>, BTreeSet<_>) = made
        .into_iter()
        .partition(|directory| links.iter().any(|link| link.starts_with(directory)));
    for directory in unneeded.into_iter().rev() {
        let removed = split(&directory).and_then(|(parent, name)| {
            let parent = way.open(parent)?;
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(Refused::System)
        });
        if let Err(Refused::System(Errno::NOTEMPTY | Errno::EXIST)) = removed {
            needed.insert(directory);
        }
    }
    needed
}

/// What stands at the path of a link.
enum There {
    Nothing,
    Ours,
    Other(String),
}

fn look(
    directory: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    target: &Path,
) -> Result<There, Refused> {
    match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(found) if found.as_bytes() == target.as_os_str().as_bytes() => Ok(There::Ours),
        Ok(found) => Ok(There::Other(format!(
            "a symbolic link to {}",
            found.to_string_lossy()
        ))),
        Err(Errno::NOENT) => Ok(There::Nothing),
        Err(Errno::INVAL) => Ok(There::Other("something that is no symbolic link".into())),
        Err(err) => Err(Refused::System(err)),
    }
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr), Refused> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Refused::System(Errno::INVAL)),
    }
}

/// Why there is no link, or why it stays.
enum Refused {
    /// Something else is there.
    Other(String),
    /// The way there.
    Way(Stop),
    System(Errno),
}

impl From<Stop> for Refused {
    fn from(stop: Stop) -> Self {
        Self::Way(stop)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(what) => write!(f, "{what} stands there, which is left alone"),
            Self::Way(stop) => stop.fmt(f),
            Self::System(err) => io::Error::from(*err).fmt(f),
        }
    }
}
