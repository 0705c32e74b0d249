//! Mounting with privileges: writable underneath, read-only for everybody but the publisher.
//!
//! The super block is writable; the mount that people see is read-only, so that the kernel refuses
//! every write by itself; and a second, private mount of the same super block, which stands nowhere
//! and is only a descriptor, is the publisher's. The public one is made detached and shown when
//! there is something to see; only then the private one can be cloned from it (the other order
//! needs Linux 6.15).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::process::{getgid, getuid};

use crate::mountpoint::Options;
use crate::sys;

/// A mount that stands nowhere yet.
pub(super) struct Detached {
    pub(super) device: OwnedFd,
    pub(super) mount: OwnedFd,
}

/// Makes the connection and the mount. PERM: it takes privileges.
pub(super) fn create(source: &str, options: &Options) -> Result<Detached, Refusal> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|err| Refusal::Device(err.into()))?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    fsconfig_set_string(&context, "subtype", "livedata")?;
    fsconfig_set_string(&context, "fd", device.as_raw_fd().to_string())?;
    fsconfig_set_string(&context, "rootmode", "40000")?;
    fsconfig_set_string(&context, "user_id", getuid().as_raw().to_string())?;
    fsconfig_set_string(&context, "group_id", getgid().as_raw().to_string())?;
    fsconfig_set_flag(&context, "default_permissions")?;
    if options.allow_other.unwrap_or(true) {
        fsconfig_set_flag(&context, "allow_other")?;
    }
    fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    if options.noexec {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(Detached { device, mount })
}

/// Shows the mount at `path`.
pub(super) fn attach(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

/// Shows the mount at `path`, beneath the one that is on top there (Linux 6.5).
pub(super) fn attach_beneath(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    /// MOVE_MOUNT_BENEATH, which rustix does not know.
    const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | BENEATH;
    move_mount(mount.as_fd(), "", CWD, path, flags)?;
    Ok(())
}

/// A private, writable mount of what is shown at `path`.
pub(super) fn private(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, path, flags)?;
    sys::make_writable(&clone)?;
    Ok(clone)
}

/// Why there is no mount.
#[derive(Debug)]
pub(super) enum Refusal {
    Device(io::Error),
    /// Not without privileges.
    Unprivileged,
    Kernel(io::Error),
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::PERM => Self::Unprivileged,
            rustix::io::Errno::NODEV => Self::Device(errno.into()),
            _ => Self::Kernel(errno.into()),
        }
    }
}
