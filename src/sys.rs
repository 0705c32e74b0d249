//! The system calls that nothing safer wraps; the one place with unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Clears the read-only attribute of a mount, given by a descriptor of its root. The super block
/// and the other mounts of it stay as they are.
pub(crate) fn make_writable(mount: impl AsFd) -> io::Result<()> {
    /// `struct mount_attr` of mount_setattr(2).
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr {
        set: 0,
        clear: libc::MOUNT_ATTR_RDONLY,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is borrowed, the path is an empty C string, and the structure outlives
    // the call and has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts a copy of `from` in the place of the descriptor `over`, which somebody owns who goes on to
/// use it by its number: whatever it was is closed, and its owner owns the copy.
pub(crate) fn replace_descriptor(from: impl AsFd, over: RawFd) -> io::Result<()> {
    // SAFETY: both are open descriptors of this process; the number stays owned by whoever owns it,
    // so nothing is closed twice.
    let result = unsafe { libc::dup3(from.as_fd().as_raw_fd(), over, libc::O_CLOEXEC) };
    if result >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
