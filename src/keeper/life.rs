//! The life of the server: started, told to go on, dead, and followed by the next one.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::binary::Binary;
use super::child::{Child, Ended};
use super::server::Server;
use super::status::Event;
use super::{Error, GRACE, Keeper, LOADING, Stage};
use crate::processes::{Lost, Restarts, Start, ToKeeper, ToServer};

/// How often in a row the start of a binary may fail before the last confirmed one is started.
const MOST_FAILURES: u32 = 5;

impl Keeper<'_> {
    pub(super) fn start_server(&self, binary: &Binary, takes_over: bool) -> io::Result<Server> {
        let has_spill = takes_over && self.record.is_some() && self.spill.is_some();
        let start = Start {
            config: self.job.config.clone(),
            mountpoint: self.job.mountpoint.clone(),
            started_in: self.job.started_in.clone(),
            wait_ms: self.job.wait.as_millis().try_into().unwrap_or(u64::MAX),
            strict: self.job.strict,
            debug: self.job.debug,
            background: self.job.background,
            takes_over,
            has_spill,
            anew: self.anew.running,
            restarts: Restarts {
                server: self.n_restarts,
                publisher: self.publisher.n_restarts,
            },
            init: self.init,
            publishers: self.publishers.iter().map(|(pid, _)| *pid).collect(),
        };
        let device = self.device.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let record = self.record.iter().filter(|_| takes_over);
        let spill = self.spill.iter().filter(|_| has_spill);
        // Where the record is missing, the server must not take the configuration for it.
        let has_kept = self.anew.running || (takes_over && self.record.is_some());
        let configuration = self.configuration.iter().filter(|_| has_kept);
        let publishers = self.publishers.iter().map(|(_, process)| process);
        let with = record.chain(spill).chain(configuration);
        let with = with.chain(publishers);
        Server::start(binary, start, device, with)
    }

    pub(super) fn start_successor(&mut self) {
        self.n_restarts += 1;
        let started = match self.anew.running {
            false => self
                .start_server(&self.binary, true)
                .map(|server| (server, Stage::Loading(Instant::now() + LOADING)))
                .map_err(|err| format!("the server cannot be started: {err}")),
            true => self
                .mount_anew()
                .map(|server| (server, Stage::Renewing(Instant::now() + GRACE)))
                .map_err(|err| format!("it cannot be mounted anew: {err}")),
        };
        match started {
            Ok((server, stage)) => {
                self.server = Some(server);
                self.stage = stage;
            }
            Err(reason) => {
                log::error!("{reason}");
                self.count_death(reason, Duration::ZERO);
            }
        }
    }

    /// The successor has loaded the record, and there is nobody else.
    pub(super) fn go_on(&mut self) {
        self.confirmed = Rc::clone(&self.binary);
        self.foreign = None;
        self.n_failures = 0;
        self.stage = Stage::Serving;
        if let Some(server) = &mut self.server {
            if let Some(record) = server.record.take() {
                self.record = Some(record);
            }
            server.tell(&ToServer::Go, &[]);
            log::info!("the server goes on as process {}", server.child.pid());
        }
        if std::mem::take(&mut self.reload_due) {
            self.tell_server(&ToServer::Reload);
        }
        self.start_publisher();
        self.give_runner();
    }

    /// Finds out who has died.
    pub(super) fn reap(&mut self) -> Result<(), Error> {
        let mut ended = |pid| self.publishers.retain(|(publisher, _)| *publisher != pid);
        self.dying.retain_mut(|child| {
            let lives = child.ended().is_none();
            if !lives {
                ended(child.pid());
            }
            lives
        });
        if self.unmounted && self.is_disconnected() {
            // It ended with the mount.
            return Ok(());
        }
        let ended = |server: &mut Option<Server>| server.as_mut()?.child.ended();
        if let Some(ended) = ended(&mut self.server) {
            self.server_died(Some(ended))?;
        }
        if let Some(ended) = ended(&mut self.upgrade.candidate) {
            self.candidate_died(ended);
        }
        if let Some(ended) = self.publisher.child.as_mut().and_then(Child::ended) {
            self.publisher_died(ended);
        }
        if let Some(ended) = self.runner.child.as_mut().and_then(Child::ended) {
            self.runner_died(ended);
        }
        Ok(())
    }

    /// It has ended; or was killed and does not end, which is as good.
    pub(super) fn server_died(&mut self, ended: Option<Ended>) -> Result<(), Error> {
        let how = match ended {
            Some(ended) => ended.to_string(),
            None => "killed, and it does not end".into(),
        };
        // What it said last counts, the record above all.
        if let Some(server) = &mut self.server {
            for (message, mut with) in server.hear() {
                match message {
                    // There was time enough to say this before.
                    ToKeeper::Init(_) => {}
                    ToKeeper::Record if !matches!(self.stage, Stage::Loading(_)) => {
                        self.record = with.pop();
                    }
                    ToKeeper::Spill => self.spill = with.pop(),
                    ToKeeper::Configuration => self.configuration = with.pop(),
                    ToKeeper::Failed { reason } => server.last_words = Some(reason),
                    ToKeeper::Lost { why, reason } => {
                        server.lost = Some(why);
                        server.last_words = Some(reason);
                    }
                    ToKeeper::Record
                    | ToKeeper::Loading { .. }
                    | ToKeeper::Ready { .. }
                    | ToKeeper::Loaded
                    | ToKeeper::Frozen { .. }
                    | ToKeeper::Hooks
                    | ToKeeper::Estranged
                    | ToKeeper::PublisherHangs { .. }
                    | ToKeeper::Status => {}
                }
            }
        }
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let (words, lost, lived) = (server.last_words.take(), server.lost, server.child.age());
        if matches!(self.stage, Stage::First(_)) {
            return Err(match words {
                Some(reason) => Error::Failed(reason),
                None => Error::Died(how),
            });
        }
        let reason = match words {
            Some(words) => format!("{words} ({how})"),
            None => how,
        };
        log::error!(
            "the server, process {}, died after {lived:.1?}: {reason}",
            server.child.pid()
        );
        if ended.is_none() {
            self.dying.push(server.child);
        }
        let tried = Rc::clone(&self.binary);
        self.count_death(reason.clone(), lived);
        // Its socket leads nowhere now. It may go only when the mount is served again.
        self.end_publisher();
        match lost {
            None => self.take_candidate(),
            Some(Lost::Foreign) if !Rc::ptr_eq(&tried, &self.confirmed) => {
                log::error!("going back to the program that wrote the record");
                self.binary = Rc::clone(&self.confirmed);
                self.foreign = Some(tried);
                self.n_failures = 0;
            }
            Some(Lost::Foreign | Lost::Record | Lost::Resend) => self.abandon(reason),
        }
        Ok(())
    }

    /// A server died, or could not even be started: when is the next one due?
    pub(super) fn count_death(&mut self, reason: String, lived: Duration) {
        self.last_death = Some(Event::now(reason));
        let fails = match self.stage {
            Stage::Loading(_) | Stage::Renewing(_) | Stage::Backoff(_) => true,
            Stage::First(_) | Stage::Serving => false,
        };
        self.n_failures += u32::from(fails);
        if self.n_failures >= MOST_FAILURES {
            if !Rc::ptr_eq(&self.binary, &self.confirmed) {
                log::error!("going back to the program that worked last");
                self.binary = Rc::clone(&self.confirmed);
                self.n_failures = 0;
            } else if let Some(foreign) = self.foreign.take() {
                log::error!("the program that wrote the record fails, and no other can read it");
                self.binary = foreign;
                self.abandon("the record is foreign to the only program that works".into());
            }
        }
        let delay = self.restarts.delay(lived);
        if !delay.is_zero() {
            log::warn!("the server is started again in {delay:.1?}");
        }
        self.stage = Stage::Backoff(Instant::now() + delay);
    }
}
