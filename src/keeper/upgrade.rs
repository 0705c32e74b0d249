//! Upgrading while the mount is served: freeze the old server, have the new program load its
//! record, and let one of them go on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::binary::Binary;
use super::child::Ended;
use super::server::Server;
use super::status::{self, Event};
use super::{Keeper, LOADING, Stage};
use crate::processes::{ToKeeper, ToServer};

/// How long the old server may take to freeze, and then the new one to load.
const LIMIT: Duration = Duration::from_secs(5);

/// An upgrade, if one is under way.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    binary: Option<Rc<Binary>>,
    /// How many there were, this one included: what was said of an earlier one does not count.
    number: u64,
    /// The new server, once the old one is frozen.
    pub(super) candidate: Option<Server>,
    /// When it fails for want of an answer.
    pub(super) until: Option<Instant>,
    last: Option<Event>,
}

impl Upgrade {
    pub(super) fn is_running(&self) -> bool {
        self.binary.is_some()
    }

    pub(super) fn status(&self) -> status::Upgrade {
        status::Upgrade {
            running: self.binary.is_some(),
            last: self.last.clone(),
        }
    }
}

impl Keeper<'_> {
    /// Looks at what the program's path names by now, and has it tried.
    pub(super) fn start_upgrade(&mut self) {
        if self.upgrade.binary.is_some() {
            log::warn!("an upgrade is under way already");
            return;
        }
        let binary = match self.confirmed.reopen() {
            Ok(binary) => Rc::new(binary),
            Err(err) => {
                let path = self.confirmed.path().display();
                return self.note_upgrade(format!("failed: cannot open {path}: {err}"));
            }
        };
        match (self.stage, &mut self.server) {
            (Stage::First(_), _) => log::warn!("not ready yet, so nothing is upgraded"),
            (Stage::Serving, Some(server)) => {
                log::info!("upgrading");
                self.upgrade.number += 1;
                let upgrade = self.upgrade.number;
                server.tell(&ToServer::Freeze { upgrade }, &[]);
                self.upgrade.binary = Some(binary);
                self.upgrade.until = Some(Instant::now() + LIMIT);
            }
            (
                Stage::Serving | Stage::Loading(_) | Stage::Renewing(_) | Stage::Backoff(_),
                server,
            ) => {
                // Nobody serves, so nothing can get worse.
                log::info!("the next server is started from the new program, at once");
                self.binary = binary;
                self.n_failures = 0;
                match server {
                    Some(server) => server.give_up("replaced by the new program".into()),
                    None => self.stage = Stage::Backoff(Instant::now()),
                }
            }
        }
    }

    /// The old server is frozen.
    pub(super) fn start_candidate(&mut self, upgrade: u64) {
        if upgrade != self.upgrade.number || self.upgrade.candidate.is_some() {
            // Frozen too late: that upgrade was given up, and it was told to thaw.
            return;
        }
        let Some(binary) = self.upgrade.binary.clone() else {
            return;
        };
        match self.start_server(&binary, true) {
            Ok(candidate) => {
                self.upgrade.candidate = Some(candidate);
                self.upgrade.until = Some(Instant::now() + LIMIT);
            }
            Err(err) => self.fail_upgrade(&format!("the new program cannot be started: {err}")),
        }
    }

    pub(super) fn hear_candidate(&mut self) {
        let Some(candidate) = &mut self.upgrade.candidate else {
            return;
        };
        for (message, mut with) in candidate.hear() {
            match message {
                ToKeeper::Record => {
                    if let Some(candidate) = &mut self.upgrade.candidate {
                        candidate.record = with.pop();
                    }
                }
                ToKeeper::Loaded => return self.confirm(),
                ToKeeper::Failed { reason } | ToKeeper::Lost { reason, .. } => {
                    return self.fail_upgrade(&reason);
                }
                // It says nothing of the sort before it goes on.
                ToKeeper::Init(_)
                | ToKeeper::Spill
                | ToKeeper::Configuration
                | ToKeeper::Loading { .. }
                | ToKeeper::Ready { .. }
                | ToKeeper::Frozen { .. }
                | ToKeeper::Hooks
                | ToKeeper::Estranged
                | ToKeeper::PublisherHangs { .. }
                | ToKeeper::Status => {}
            }
        }
    }

    /// The new server can go on: the old one ends.
    fn confirm(&mut self) {
        let (Some(candidate), Some(binary)) =
            (self.upgrade.candidate.take(), self.upgrade.binary.take())
        else {
            return;
        };
        self.upgrade.until = None;
        if let Some(mut old) = self.server.replace(candidate) {
            // Two must never serve at once. One that cannot die does not serve either.
            if !old.child.end() {
                log::warn!("the old server, process {}, does not end", old.child.pid());
                self.dying.push(old.child);
            }
        }
        self.end_publisher();
        // Whoever waits for the old server's part of the status gets the rest.
        if self.details_until.is_some() {
            self.details_until = Some(Instant::now());
        }
        self.binary = binary;
        self.go_on();
        self.renew_runner();
        self.note_upgrade("done".into());
    }

    pub(super) fn candidate_died(&mut self, ended: Ended) {
        // It may have said why.
        self.hear_candidate();
        if self.upgrade.candidate.is_some() {
            self.fail_upgrade(&format!("the new program ended: {ended}"));
        }
    }

    /// The old server goes on.
    pub(super) fn fail_upgrade(&mut self, reason: &str) {
        self.upgrade.binary = None;
        self.upgrade.until = None;
        // Two must never write the record, so it is gone before the old one thaws.
        if let Some(mut candidate) = self.upgrade.candidate.take()
            && !candidate.child.end()
        {
            self.dying.push(candidate.child);
        }
        let upgrade = self.upgrade.number;
        self.tell_server(&ToServer::Thaw { upgrade });
        self.note_upgrade(format!("failed, the old program goes on: {reason}"));
    }

    /// The old server died in the middle: a candidate that loads already is its successor.
    pub(super) fn take_candidate(&mut self) {
        self.upgrade.until = None;
        let Some(binary) = self.upgrade.binary.take() else {
            return;
        };
        match self.upgrade.candidate.take() {
            Some(candidate) => {
                self.binary = binary;
                self.server = Some(candidate);
                self.stage = Stage::Loading(Instant::now() + LOADING);
                self.note_upgrade("the old program died; the new one goes on if it can".into());
            }
            None => self.note_upgrade("failed: the old program died".into()),
        }
    }

    /// The mount is lost, and with it whatever a candidate might have gone on with.
    pub(super) fn abandon_upgrade(&mut self) {
        self.upgrade.until = None;
        if let Some(mut candidate) = self.upgrade.candidate.take() {
            candidate.child.kill();
            self.dying.push(candidate.child);
        }
        if self.upgrade.binary.take().is_some() {
            self.note_upgrade("failed: the mount was lost".into());
        }
    }

    fn note_upgrade(&mut self, outcome: String) {
        if outcome == "done" {
            log::info!("upgraded");
        } else {
            log::error!("upgrade: {outcome}");
        }
        self.upgrade.last = Some(Event::now(outcome));
    }
}
