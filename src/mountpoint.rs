//! The place where the files appear: looking at it, clearing away what is dead there, mounting,
//! unmounting.

mod fusermount;
mod options;
mod own;
mod table;

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::getuid;
use thiserror::Error;

pub use options::{Options, OptionsError};

/// The type in the mount table; `mount -t fuse.livedata` and updatedb know it by this name.
pub const FILE_SYSTEM: &str = "fuse.livedata";

/// How long a mount may take to answer before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hidden command of the binary that asks a mount whether it lives; see [`probe_here`].
pub const PROBE_COMMAND: &str = "probe-mount";

/// The ids of all mounts of this program in the mount table, as statx(2) tells them.
pub fn ids_of_ours() -> io::Result<HashSet<u64>> {
    table::ids_of_ours()
}

/// What is wrong with a mountpoint, and what to do.
#[derive(Debug, Error)]
pub enum Error {
    /// There is nothing.
    #[error("{0}: no such directory; create it first: mkdir -p {0}")]
    Missing(PathBuf),
    /// There is something else.
    #[error("{0}: not a directory")]
    NotADirectory(PathBuf),
    /// A mount of ours serves there.
    #[error("{0}: already mounted by livedata-fuse; unmount it first: livedata-fuse umount {0}")]
    AlreadyMounted(PathBuf),
    /// Nothing of ours is there.
    #[error("{0}: not a livedata-fuse mount")]
    NotMounted(PathBuf),
    /// Files are open there.
    #[error(
        "{0}: busy: files are open or it is somebody's directory; close them, or detach it: livedata-fuse umount --lazy {0}"
    )]
    Busy(PathBuf),
    /// Somebody else's mount is on top.
    #[error("{0}: something is mounted over it; unmount that first")]
    Covered(PathBuf),
    /// The kernel has no FUSE, or we may not have it.
    #[error("/dev/fuse: {reason}; {}", device_advice(reason))]
    Device {
        /// What the kernel said.
        reason: io::Error,
    },
    /// The kernel, or fusermount3, refused.
    #[error("{path}: {what}: {reason}")]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came back.
        reason: String,
    },
}

/// What a mount of ours says when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Alive,
    /// Nobody serves it any more (ENOTCONN).
    Dead,
    /// It does not answer in time: a process that died half-way still holds it.
    Hung,
}

/// Finds the directory and makes sure that something can be mounted there: dead and hung mounts of
/// ours are cleared away. Gives back the path without symbolic links.
pub fn prepare(path: &Path) -> Result<PathBuf, Error> {
    let path = resolve(path).map_err(|err| match err.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.into()),
        _ => refused(path, "cannot be resolved", &err),
    })?;
    while table::is_ours(&path) {
        match health(&path) {
            Health::Alive => return Err(Error::AlreadyMounted(path)),
            health @ (Health::Dead | Health::Hung) => {
                let how = if health == Health::Dead {
                    "dead"
                } else {
                    "hung"
                };
                log::warn!("{}: clearing away a {how} mount", path.display());
                clear(&path)?;
            }
        }
    }
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Error::NotADirectory(path)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Error::Missing(path)),
        Err(err) if err.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory(path));
        }
        Err(err) => return Err(refused(&path, "cannot be used", &err)),
    }
    if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        log::warn!("{}: not empty; what is in it is hidden", path.display());
    }
    Ok(path)
}

/// A mount that was made, and where it stands.
#[derive(Debug)]
pub struct Mounting {
    path: PathBuf,
    stand: Stand,
}

#[derive(Debug)]
enum Stand {
    /// Nowhere yet.
    Detached(OwnedFd),
    /// At its path, with a private side.
    Shown,
    /// At its path, put there by fusermount3.
    ByHelper,
}

impl Mounting {
    /// Makes a mount for a prepared directory, and gives the connection to the kernel, on which
    /// INIT waits to be answered. With privileges nobody sees the mount before
    /// [`Mounting::attach`]; without, fusermount3 puts it there at once.
    pub fn create(path: &Path, source: &str, options: &Options) -> Result<(Self, OwnedFd), Error> {
        let source = options.fsname.as_deref().unwrap_or(source);
        let path = path.to_path_buf();
        match own::create(source, options) {
            Ok(own::Detached { device, mount }) => Ok((
                Self {
                    path,
                    stand: Stand::Detached(mount),
                },
                device,
            )),
            Err(own::Refusal::Unprivileged) => {
                let allow_other = options.allow_other.unwrap_or(getuid().is_root());
                let device = fusermount::mount(&path, source, options, allow_other)?;
                Ok((
                    Self {
                        path,
                        stand: Stand::ByHelper,
                    },
                    device,
                ))
            }
            Err(own::Refusal::Device(reason)) => Err(Error::Device { reason }),
            Err(own::Refusal::Kernel(err)) => Err(refused(&path, "cannot be mounted", &err)),
        }
    }

    /// Shows the mount at its path.
    pub fn attach(&mut self) -> Result<(), Error> {
        if let Stand::Detached(mount) = &self.stand {
            own::attach(mount, &self.path)
                .map_err(|err| refused(&self.path, "cannot be mounted", &err))?;
            // A descriptor of it would keep it from being unmounted.
            self.stand = Stand::Shown;
        }
        Ok(())
    }

    /// Shows the mount in the place of a dead one of ours, the topmost there: put beneath it, so
    /// that the path is never without a mount. There is such a moment where the kernel cannot do
    /// that, or where fusermount3 mounts.
    pub fn attach_in_place_of(&mut self, dead: &mut Mounting) -> Result<(), Error> {
        if let (Stand::Detached(mount), Stand::Shown) = (&self.stand, &dead.stand) {
            match own::attach_beneath(mount, &self.path) {
                Ok(()) => {
                    self.stand = Stand::Shown;
                    return detach(&self.path);
                }
                Err(err) => log::debug!("not beneath the dead mount: {err}"),
            }
        }
        dead.detach();
        self.attach()
    }

    /// Whether fusermount3 mounted it, which mounts at once and not on what is dead.
    pub fn is_by_helper(&self) -> bool {
        matches!(self.stand, Stand::ByHelper)
    }

    /// The root of a private mount, writable for the publisher; or why there is none. Only once
    /// the mount is attached.
    pub fn private(&self) -> Result<OwnedFd, String> {
        match self.stand {
            Stand::Detached(_) => Err("the mount is not shown yet".into()),
            Stand::Shown => own::private(&self.path).map_err(|err| err.to_string()),
            Stand::ByHelper => Err("fusermount3 made the mount, read-only for everybody".into()),
        }
    }

    /// Takes the mount away, lazily where files are open. True if nothing holds it any more.
    pub fn detach(&mut self) -> bool {
        match self.stand {
            // It goes with its descriptor.
            Stand::Detached(_) => true,
            Stand::Shown | Stand::ByHelper => release(&self.path),
        }
    }
}

/// Unmounts what is ours at `path`. With `lazy` it goes from the tree of files at once, and ends
/// when the last open file is closed. What is dead or hung is cleared away in any case.
pub fn unmount(path: &Path, lazy: bool) -> Result<(), Error> {
    let path = resolve(path).map_err(|err| refused(path, "cannot be resolved", &err))?;
    if !table::is_ours(&path) {
        return Err(Error::NotMounted(path));
    }
    match health(&path) {
        Health::Alive => {}
        Health::Dead | Health::Hung => return clear(&path),
    }
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match rustix::mount::unmount(&path, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(Error::Busy(path)),
        Err(rustix::io::Errno::PERM) => fusermount::unmount(&path, lazy),
        Err(err) => Err(refused(&path, "cannot be unmounted", &err.into())),
    }
}

/// Takes away a mount that this process serves: lazily, where files are open. True if nothing holds
/// it any more. It is not probed, for who should answer?
pub fn release(path: &Path) -> bool {
    let refused = match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) => return true,
        Err(rustix::io::Errno::PERM) => match fusermount::unmount(path, false) {
            Ok(()) => return true,
            Err(Error::Busy(_)) => fusermount::unmount(path, true)
                .err()
                .map(|err| err.to_string()),
            Err(err) => Some(err.to_string()),
        },
        // EINVAL: it is gone already.
        Err(rustix::io::Errno::INVAL) => return true,
        Err(_) => rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .err()
            .map(|err| err.to_string()),
    };
    match refused {
        None => log::info!("{}: files are open, so it is detached", path.display()),
        Some(reason) => log::error!("{}: cannot be unmounted: {reason}", path.display()),
    }
    false
}

/// What the hidden command [`PROBE_COMMAND`] does, in a process of its own: a request to a mount
/// that hangs cannot be taken back, not even by SIGKILL, and would keep its process with it.
pub fn probe_here(path: &Path) -> Health {
    match rustix::fs::statfs(path) {
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => Health::Dead,
        Ok(_) | Err(_) => Health::Alive,
    }
}

/// Asks a mount whether it lives.
fn health(path: &Path) -> Health {
    let Ok(this) = std::env::current_exe() else {
        return Health::Alive;
    };
    let asked = Command::new(this)
        .arg(PROBE_COMMAND)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut asked = match asked {
        Ok(child) => child,
        Err(err) => {
            log::warn!("{}: cannot be probed: {err}", path.display());
            return Health::Alive;
        }
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match asked.try_wait() {
            Ok(Some(status)) if status.success() => return Health::Alive,
            Ok(Some(_)) => return Health::Dead,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => {
                // It goes once the connection is aborted, so nobody waits for it before that.
                drop(asked.kill());
                std::thread::spawn(move || asked.wait());
                return Health::Hung;
            }
        }
    }
}

/// Takes a mount away that nobody serves.
fn clear(path: &Path) -> Result<(), Error> {
    // MNT_FORCE aborts the connection, which frees whoever hangs in it; that it is busy does not
    // matter, the next step takes it out of the tree of files.
    let force = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
    if rustix::mount::unmount(path, force).is_ok() {
        return Ok(());
    }
    detach(path)
}

/// Takes a dead mount out of the tree of files.
fn detach(path: &Path) -> Result<(), Error> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // EINVAL: somebody was quicker.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(rustix::io::Errno::PERM) => fusermount::unmount(path, true),
        Err(err) => Err(refused(
            path,
            "a dead mount cannot be cleared away",
            &err.into(),
        )),
    }
}

/// The path as the mount table has it. What is mounted there is not asked: it might hang.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    // Linux follows at most 40 symbolic links.
    for _ in 0..40 {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            break;
        };
        let here = parent.canonicalize()?.join(name);
        match std::fs::read_link(&here) {
            Ok(target) => path = here.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(here),
        }
    }
    path.canonicalize()
}

fn device_advice(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::PermissionDenied => {
            "others need mode 0666, a container needs --device /dev/fuse"
        }
        _ => "load the module first: modprobe fuse; a container needs --device /dev/fuse",
    }
}

fn refused(path: &Path, what: &'static str, reason: &io::Error) -> Error {
    Error::Refused {
        path: path.into(),
        what,
        reason: reason.to_string(),
    }
}
