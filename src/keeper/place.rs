//! Where the mount is made, shown and taken away, as the keeper sees it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::mounts;
use crate::mountpoint::{self, Mounting, Options};

/// A mount in the making, then in its place, then gone.
pub trait Place {
    /// Makes the mount, which nobody sees yet, and gives the connection to the kernel. Again after
    /// [`Place::abandon`].
    fn create(&mut self) -> Result<OwnedFd, mountpoint::Error>;

    /// Shows the mount at the mountpoint, once it is served; in the place of one that was abandoned.
    fn attach(&mut self) -> Result<(), mountpoint::Error>;

    /// Where a publisher may work; asked once each time that a mount was attached.
    fn private_root(&mut self) -> PublisherRoot;

    /// Whether the mount is still where it was attached. Must not touch the mount itself.
    fn is_attached(&self) -> bool;

    /// The mount is lost: nobody will serve it again, and whoever waits for it gets an error. What
    /// was attached stays until the next one is, for the kernel still shows what it has cached.
    fn abandon(&mut self);

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
    /// The one that was abandoned, until `mounting` takes its place.
    dead: Option<Mounting>,
    /// Of what stands there.
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
            dead: None,
            id: None,
        }
    }
}

impl Place for Here {
    fn create(&mut self) -> Result<OwnedFd, mountpoint::Error> {
        if let Some(mut dead) = self.dead.take_if(|dead| dead.is_by_helper()) {
            dead.detach();
            // Should there be no other now, nobody has unmounted it.
            self.id = None;
        }
        let (mounting, device) = Mounting::create(&self.mountpoint, &self.source, &self.options)?;
        self.mounting = Some(mounting);
        if self.dead.is_none() {
            self.id = mounts::id_at(&self.mountpoint);
        }
        Ok(device)
    }

    fn attach(&mut self) -> Result<(), mountpoint::Error> {
        let Some(mounting) = &mut self.mounting else {
            return Ok(());
        };
        match &mut self.dead {
            None => mounting.attach()?,
            Some(dead) => {
                if mounts::id_at(&self.mountpoint) != self.id {
                    return Err(mountpoint::Error::Covered(self.mountpoint.clone()));
                }
                mounting.attach_in_place_of(dead)?;
                self.dead = None;
            }
        }
        self.id = mounts::id_at(&self.mountpoint);
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

    fn abandon(&mut self) {
        // As a rule the last descriptor of the connection was closed; but a process that does not
        // end may have one.
        if let Some(Err(err)) = self.id.map(mounts::abort) {
            log::warn!("the connection of the lost mount is not aborted: {err}");
        }
        let mounting = self.mounting.take();
        if self.dead.is_none() {
            self.dead = mounting;
        }
    }

    fn detach(&mut self) -> bool {
        let made = self.mounting.take();
        let Some(mut mounting) = self.dead.take().or(made) else {
            return true;
        };
        // What is on top there by now may be somebody else's.
        let shown = self.id.is_some();
        if shown && mounts::id_at(&self.mountpoint) != self.id {
            let gone = !self.is_attached();
            if !gone {
                let err = mountpoint::Error::Covered(self.mountpoint.clone());
                log::error!("{err}");
            }
            return gone;
        }
        mounting.detach()
    }
}
