//! Where the mount is made, shown and taken away, as the keeper sees it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::mounts;
use crate::mountpoint::{self, Mounting, Options};

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

/// A real mount at a mountpoint.
#[derive(Debug)]
pub struct Here {
    mountpoint: PathBuf,
    source: String,
    options: Options,
    mounting: Option<Mounting>,
    id: Option<u64>,
}

impl Here {
    /// For a mountpoint that is prepared.
    pub fn new(mountpoint: &Path, source: &Path, options: &Options) -> Self {
        Self {
            mountpoint: mountpoint.into(),
            source: source.to_string_lossy().into_owned(),
            options: options.clone(),
            mounting: None,
            id: None,
        }
    }
}

impl Place for Here {
    fn create(&mut self) -> Result<OwnedFd, mountpoint::Error> {
        let (mounting, device) = Mounting::create(&self.mountpoint, &self.source, &self.options)?;
        self.mounting = Some(mounting);
        self.id = mounts::id_at(&self.mountpoint);
        Ok(device)
    }

    fn attach(&mut self) -> Result<(), mountpoint::Error> {
        if let Some(mounting) = &mut self.mounting {
            mounting.attach()?;
            self.id = mounts::id_at(&self.mountpoint);
        }
        Ok(())
    }

    fn private_root(&mut self) -> PublisherRoot {
        match self.mounting.as_ref().map(Mounting::private) {
            Some(Ok(root)) => PublisherRoot::Directory(root),
            Some(Err(reason)) => PublisherRoot::Nowhere(reason),
            None => PublisherRoot::Nowhere("there is no mount".into()),
        }
    }

    fn is_attached(&self) -> bool {
        self.id.is_none_or(mounts::is_there)
    }

    fn detach(&mut self) -> bool {
        let Some(mut mounting) = self.mounting.take() else {
            return true;
        };
        // What is on top there by now may be somebody else's.
        let shown = self.id.is_some();
        if shown && mounts::id_at(&self.mountpoint) != self.id {
            let gone = !self.is_attached();
            if !gone {
                log::error!(
                    "{}: something is mounted over it; unmount that first",
                    self.mountpoint.display()
                );
            }
            return gone;
        }
        mounting.detach()
    }
}
