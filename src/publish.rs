//! Tells the kernel what changed in the tree: effects -> notifications.
//!
//! This is the way that works everywhere: the tree is changed first, then the kernel forgets what
//! it holds of the time before, so the next lookup brings the new. It wakes no inotify watcher.
//!
//! Notifications are synchronous: once one returns, the next open or stat is new. They may wait
//! for a request that is in flight, so they come from a thread of their own that holds no lock.
//! What the kernel does not hold, nobody tells it to forget: the tree knows (see
//! [`crate::tree`]), and a start with ten thousand files notifies of nothing.

use std::ffi::OsStr;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use fuser::{INodeNo, Notifier};

use crate::path::Name;
use crate::tree::{Effect, Ino};

/// Takes effects in order and publishes them in that order.
pub struct Publisher {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

enum Job {
    Publish(Vec<Effect>),
    /// Answer when everything before this is published.
    Flush(Sender<()>),
}

impl Publisher {
    /// Starts the thread.
    pub fn spawn(notifier: Notifier) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("publish".into())
            .spawn(move || {
                for job in received {
                    match job {
                        Job::Publish(effects) => {
                            for effect in &effects {
                                publish(&notifier, effect);
                            }
                        }
                        // Whoever asked may have stopped waiting.
                        Job::Flush(done) => {
                            let _ = done.send(());
                        }
                    }
                }
            })?;
        Ok(Self { jobs, thread })
    }

    /// Publishes what one change did to the tree. Returns at once.
    pub fn publish(&self, effects: Vec<Effect>) {
        if !effects.is_empty() && self.jobs.send(Job::Publish(effects)).is_err() {
            log::error!("the publishing thread is gone; readers see what they have cached");
        }
    }

    /// Waits until everything handed over before is published.
    pub fn flush(&self) {
        let (done, published) = mpsc::channel();
        if self.jobs.send(Job::Flush(done)).is_ok() {
            // An error means the thread is gone, and there is nothing to wait for.
            let _ = published.recv();
        }
    }

    /// Publishes the rest and ends the thread.
    pub fn join(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            log::error!("the publishing thread panicked");
        }
    }
}

fn publish(notifier: &Notifier, effect: &Effect) {
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
        Effect::Confirmed { ino } => attributes(notifier, *ino),
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

/// Times moved. A negative offset means attributes only: no cached page is dropped.
fn attributes(notifier: &Notifier, ino: Ino) -> io::Result<()> {
    notifier.inval_inode(INodeNo(ino.0), -1, 0)
}
