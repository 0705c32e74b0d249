//! Publishing without a publisher: the tree was changed, and the kernel forgets what it held of the
//! time before, so the next lookup brings the new.
//!
//! Notifications are synchronous: once one returns, the next open or stat is new. They may wait
//! for a request that is in flight, so they come from a thread that holds no lock. What the kernel
//! does not hold, nobody tells it to forget: the tree knows.

use std::ffi::OsStr;
use std::io;

use fuser::{INodeNo, Notifier};

use crate::path::Name;
use crate::tree::{Effect, Ino};

/// Tells the kernel of an effect.
pub(super) fn tell(notifier: &Notifier, effect: &Effect) {
    let told = match effect {
        Effect::Created {
            directory,
            directory_known: true,
            ..
        } => listing(notifier, *directory),
        Effect::Replaced {
            directory,
            name,
            directory_known: true,
            old_known,
        } => entry(notifier, *directory, name, *old_known)
            .and_then(|()| attributes(notifier, *directory)),
        Effect::Removed {
            directory,
            name,
            directory_known: true,
            old_known,
        } => entry(notifier, *directory, name, *old_known)
            .and_then(|()| listing(notifier, *directory)),
        // Nobody looked the directory up, so nobody holds anything in it.
        Effect::Created {
            directory_known: false,
            ..
        }
        | Effect::Replaced {
            directory_known: false,
            ..
        }
        | Effect::Removed {
            directory_known: false,
            ..
        } => Ok(()),
        Effect::Confirmed { ino } | Effect::Owned { ino } => attributes(notifier, *ino),
    };
    match told {
        Ok(()) => {}
        // ENODEV, ENOTCONN: the mount is gone, and all caches with it.
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN)) => {}
        Err(err) => log::error!("cannot tell the kernel of {effect:?}: {err}"),
    }
}

/// The name means another inode, or none.
fn entry(notifier: &Notifier, directory: Ino, name: &Name, old_known: bool) -> io::Result<()> {
    if !old_known {
        return Ok(());
    }
    notifier.inval_entry(INodeNo(directory.0), OsStr::new(name.as_str()))
}

/// Names came or went: attributes and cached pages of the directory. (inval_entry alone leaves the
/// pages where the name is not in the dentry cache.)
fn listing(notifier: &Notifier, directory: Ino) -> io::Result<()> {
    notifier.inval_inode(INodeNo(directory.0), 0, 0)
}

/// Times or ownership, and nothing else. A negative offset means attributes only: no cached page is dropped.
fn attributes(notifier: &Notifier, ino: Ino) -> io::Result<()> {
    notifier.inval_inode(INodeNo(ino.0), -1, 0)
}
