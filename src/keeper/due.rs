//! What is due: until when the keeper may sleep, and what it does when it wakes up.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::control::Control;
use super::server::Server;
use super::systemd::Watchdog;
use super::{Error, GRACE, Keeper, LOADING, Stage, system};
use crate::processes::ToServer;

impl Keeper<'_> {
    /// Waits until something happens. True if the mount table changed.
    pub(super) fn wait(&mut self) -> Result<bool, Error> {
        let mut poll = vec![
            PollFd::new(&self.changes, PollFlags::PRI),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        for server in [&self.server, &self.upgrade.candidate]
            .into_iter()
            .flatten()
        {
            if server.mute_until.is_none() {
                poll.push(PollFd::new(server, PollFlags::IN));
            }
        }
        if let Some(runner) = self.runner.socket() {
            poll.push(PollFd::new(runner, PollFlags::IN));
        }
        if let Some(control) = &self.control {
            control.interests(&mut poll);
        }
        if let (true, Some(device)) = (self.unmounted, &self.device) {
            poll.push(PollFd::new(device, PollFlags::empty()));
        }
        let limit = self.next_deadline().map(|deadline| {
            // Rounded up, so that what is due then is due.
            let left =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(1);
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 3600,
                tv_nsec: 0,
            })
        });
        match rustix::event::poll(&mut poll, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!poll[0].revents().is_empty()),
            Err(err) => Err(system("cannot wait")(err.into())),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let of_stage = match self.stage {
            Stage::First(at) | Stage::Renewing(at) | Stage::Loading(at) | Stage::Backoff(at) => {
                Some(at)
            }
            Stage::Serving => None,
        };
        let of_control = self.control.as_ref().and_then(Control::deadline);
        let of_watchdog = self.watchdog.as_ref().map(Watchdog::next);
        // Those that only die are looked after now and then; SIGCHLD tells of them sooner.
        [
            of_stage,
            self.publisher.due,
            self.runner.due,
            self.upgrade.until,
            self.details_until,
            self.server.as_ref().map(Server::deadline),
            of_control,
            of_watchdog,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn do_what_is_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        match self.stage {
            Stage::First(at) if at <= now => return Err(Error::Silent),
            Stage::Loading(at) if at <= now => {
                if let Some(server) = &mut self.server {
                    server.give_up("the record was not loaded in time".into());
                }
                self.stage = Stage::Loading(now + LOADING);
            }
            Stage::Renewing(at) if at <= now => {
                if let Some(server) = &mut self.server {
                    server.give_up("it does not say how far the first load has come".into());
                }
                self.stage = Stage::Renewing(now + GRACE);
            }
            // Without a mount all ends.
            Stage::Backoff(at) if at <= now && self.unmounted && self.device.is_none() => {}
            Stage::Backoff(at) if at <= now => self.start_successor(),
            Stage::First(_)
            | Stage::Renewing(_)
            | Stage::Loading(_)
            | Stage::Backoff(_)
            | Stage::Serving => {}
        }
        if let Some(server) = &mut self.server {
            server.end_if_mute(now);
            if server.stays(now) {
                self.server_died(None)?;
            }
        }
        if self.publisher.due.is_some_and(|at| at <= now) {
            match self.stage {
                Stage::Serving => self.start_publisher(),
                // It comes with the next server.
                Stage::First(_) | Stage::Renewing(_) | Stage::Loading(_) | Stage::Backoff(_) => {
                    self.publisher.due = None;
                }
            }
        }
        if self.runner.due.is_some_and(|at| at <= now) {
            self.runner.due = None;
            // Else it comes with the next server.
            self.give_runner();
        }
        if self.upgrade.until.is_some_and(|at| at <= now) {
            self.fail_upgrade("nothing was confirmed in time");
        }
        if self.details_until.is_some_and(|at| at <= now) {
            self.answer(None);
        }
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.is_due(now)
        {
            match self.stage {
                // Cached files go on, and we are at it: to end the mount would be worse.
                Stage::Loading(_) | Stage::Backoff(_) => watchdog.answered(),
                Stage::First(_) | Stage::Renewing(_) | Stage::Serving => {
                    self.tell_server(&ToServer::Status);
                }
            }
        }
        Ok(())
    }
}
