//! How the keeper answers who asks for the status: with what it knows, and with the server's part.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::child::Child;
use super::status::{self, Process, State, Status, seconds};
use super::{Keeper, Stage};
use crate::processes::ToServer;

/// How long the server may take for its part of the status.
const DETAILS: Duration = Duration::from_secs(1);

impl Keeper<'_> {
    pub(super) fn serve_control(&mut self) {
        let Some(control) = &mut self.control else {
            return;
        };
        control.go_on(Instant::now());
        if self.details_until.is_none() && control.is_asked() {
            match self.stage {
                Stage::Serving => {
                    self.details_until = Some(Instant::now() + DETAILS);
                    self.tell_server(&ToServer::Status);
                }
                Stage::First(_) | Stage::Renewing(_) | Stage::Loading(_) | Stage::Backoff(_) => {
                    self.answer(None);
                }
            }
        }
    }

    /// The server has told its part of the status, or has not.
    pub(super) fn answer(&mut self, details: Option<OwnedFd>) {
        if details.is_some()
            && let Some(watchdog) = &mut self.watchdog
        {
            watchdog.answered();
        }
        if self.details_until.take().is_none() && details.is_some() {
            // Only the watchdog has asked.
            return;
        }
        let head = serde_json::to_string(&self.status()).expect("it is made of plain values");
        if let Some(control) = &mut self.control {
            control.answer(&head, details);
        }
    }

    pub(super) fn status(&self) -> Status {
        let child = self.server.as_ref().map(|server| &server.child);
        Status {
            mountpoint: self.job.mountpoint.to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            keeper: status::Keeper {
                pid: std::process::id(),
                since: seconds(self.since),
            },
            server: Process {
                pid: child.map(Child::pid),
                since: child.map(|child| seconds(child.since)),
                restarts: self.n_restarts,
                state: match self.stage {
                    Stage::First(_) | Stage::Renewing(_) | Stage::Loading(_) => State::Starting,
                    Stage::Serving => State::Serving,
                    Stage::Backoff(_) => State::Backoff,
                },
                last_death: self.last_death.clone(),
                reason: None,
            },
            publisher: self.publisher.status(),
            runner: self.runner.status(),
            upgrade: self.upgrade.status(),
            anew: self.anew.clone(),
            resend: self.init.map(|init| init.resends()),
            details: serde_json::Value::Null,
        }
    }
}
