//! A mount that nobody can go on with is made anew at the same place.
//!
//! The connection ends, so that whoever waits gets an error; but the lost mount stays where it is,
//! for the kernel still shows what it has cached. The first server of another mount, which nobody
//! sees yet, loads what is in ZooKeeper, and then that mount takes its place.

use std::rc::Rc;

use super::server::Server;
use super::status::Event;
use super::{Error, Keeper, system};
use crate::processes::ToServer;

impl Keeper<'_> {
    /// Nobody can go on with the mount: what waits for it gets an error, and the next server to be
    /// started is the first one of another mount, which takes the place of this one when there is
    /// something to see.
    pub(super) fn abandon(&mut self, reason: String) {
        // Without a connection all ends, if it was unmounted.
        if !self.unmounted {
            log::error!(
                "{}: the mount is lost, so it is made anew; whoever waits for it gets an error",
                self.job.mountpoint.display()
            );
            self.anew.running = true;
        }
        self.anew.last = Some(Event::now(reason));
        self.n_failures = 0;
        self.foreign = None;
        self.abandon_upgrade();
        self.forsake_connection();
    }

    /// Lets go of all that belongs to the connection to the kernel.
    pub(super) fn forsake_connection(&mut self) {
        (self.root, self.record, self.spill, self.init) = (None, None, None, None);
        self.publishers.clear();
        self.device = None;
        self.place.abandon();
    }

    /// Makes another mount, which nobody sees yet, and starts its first server.
    pub(super) fn mount_anew(&mut self) -> Result<Server, Error> {
        // A first server that died leaves a connection on which INIT was answered.
        self.forsake_connection();
        self.device = Some(self.place.create()?);
        self.start_server(&self.binary, false)
            .map_err(system("cannot start the server"))
    }

    /// The first load of a mount that was made anew is over.
    pub(super) fn show_anew(&mut self) {
        self.confirmed = Rc::clone(&self.binary);
        self.foreign = None;
        self.n_failures = 0;
        if let Err(err) = self.show() {
            if let Some(server) = &mut self.server {
                server.give_up(format!("the mount made anew cannot be shown: {err}"));
            }
            return;
        }
        self.anew.running = false;
        self.anew.times += 1;
        log::warn!("{}: mounted anew", self.job.mountpoint.display());
        if std::mem::take(&mut self.reload_due) {
            self.tell_server(&ToServer::Reload);
        }
    }
}
