//! Where the mount is made, shown and taken away, as the keeper sees it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::mounts;
use crate::mountpoint::{self, Options};

/// A mount in the making, then in its place, then gone.
pub trait Place {
    /// Makes the mount, which nobody sees yet, and gives the connection to the kernel.
    fn create(&mut self) -> Result<OwnedFd, mountpoint::Error>;

    /// Shows the mount at the mountpoint, once it is served.
    fn attach(&mut self) -> Result<(), mountpoint::Error>;

    /// Where a publisher may work; asked once, after the mount is attached.
    fn private_root(&mut self) -> PublisherRoot;

    /// Whether the mount is still where it was attached. Must not touch the mount itself.
    fn is_attached(&self) -> bool;

    /// Takes the mount away, lazily where files are open, whether it was attached yet or not. True
    /// if nothing holds it any more.
    fn detach(&mut self) -> bool;
}

/// Where a publisher works.
#[derive(Debug)]
pub enum PublisherRoot {
    /// On the root of the private mount.
    Directory(OwnedFd),
    /// At a path.
    Path(PathBuf),
    /// Nowhere, for this reason: the kernel is notified instead.
    Nowhere(String),
}

/// A mount that is at its place as soon as it is made, and that has no private side.
#[derive(Debug)]
pub struct AtOnce {
    mountpoint: PathBuf,
    source: String,
    options: Options,
    id: Option<u64>,
}

impl AtOnce {
    /// For a mountpoint that is prepared.
    pub fn new(mountpoint: &Path, source: &Path, options: &Options) -> Self {
        Self {
            mountpoint: mountpoint.into(),
            source: source.to_string_lossy().into_owned(),
            options: options.clone(),
            id: None,
        }
    }
}

impl Place for AtOnce {
    fn create(&mut self) -> Result<OwnedFd, mountpoint::Error> {
        let device = mountpoint::mount(&self.mountpoint, &self.source, &self.options)?;
        self.id = mounts::id_at(&self.mountpoint);
        Ok(device)
    }

    fn attach(&mut self) -> Result<(), mountpoint::Error> {
        Ok(())
    }

    fn private_root(&mut self) -> PublisherRoot {
        PublisherRoot::Nowhere("there is no private mount".into())
    }

    fn is_attached(&self) -> bool {
        self.id.is_none_or(mounts::is_there)
    }

    fn detach(&mut self) -> bool {
        mountpoint::release(&self.mountpoint)
    }
}
