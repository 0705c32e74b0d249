//! The system calls that nothing safer wraps; the one place with unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;

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

/// Gives memory back to the system that was freed and is kept for later: what a load took for a
/// moment is not needed again.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whom a command runs as.
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// Has a command lead a session of its own, as somebody else perhaps; and die with the thread that
/// starts it, if it is to.
pub(crate) fn isolate(command: &mut Command, identity: Option<Identity>, dies_with_us: bool) {
    let prepare = move || {
        let worked = |result: libc::c_int| match result {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: they take no pointers but one to a vector that lives in the closure, with its
        // length; and they may be called between fork(2) and exec (signal-safety(7): system calls,
        // which allocate nothing and take no lock).
        unsafe {
            worked(libc::setsid())?;
            if let Some(Identity { uid, gid, groups }) = &identity {
                worked(libc::setgroups(groups.len(), groups.as_ptr()))?;
                worked(libc::setgid(*gid))?;
                worked(libc::setuid(*uid))?;
            }
            // What whoever started us let us inherit is not for commands. Where the kernel cannot
            // (before 5.11), it is theirs as it is ours.
            libc::close_range(
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
            );
            // A change of the user forgets it, so it comes last.
            if dies_with_us {
                worked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Bytes of a memfd, mapped to be read.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    n_bytes: usize,
}

// SAFETY: it is memory that is only read through it, and that no thread is bound to.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many bytes from `offset` on, which is a multiple of the size of a page. Those that
    /// are `needed` at once are best mapped at once.
    ///
    /// What [`Mapping::bytes`] is asked for must lie in the file, which must not be cut short, and
    /// must not be written or given back while it is borrowed.
    pub(crate) fn new(
        memory: impl AsFd,
        offset: u64,
        n_bytes: usize,
        needed: bool,
    ) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let populate = if needed { libc::MAP_POPULATE } else { 0 };
        // SAFETY: the kernel chooses where, so nothing that is mapped is replaced; the descriptor
        // is borrowed for the call, and the mapping needs it no longer.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n_bytes,
                libc::PROT_READ,
                libc::MAP_SHARED | populate,
                memory.as_fd().as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, n_bytes })
    }

    /// The bytes in this range of the mapping.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.n_bytes);
        // SAFETY: the range is mapped while `self` is borrowed, and is not written meanwhile: see
        // `Mapping::new`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nobody borrows any of it.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.n_bytes);
        }
    }
}
