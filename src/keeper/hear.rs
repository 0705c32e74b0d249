//! What the keeper hears from the server that it told to serve.

use std::os::fd::OwnedFd;
use std::time::Instant;

use sd_notify::NotifyState;

use super::server::Server;
use super::{Abandoned, Error, GRACE, Keeper, Logs, Report, Stage, systemd};
use crate::processes::{Init, ToKeeper};

impl Keeper<'_> {
    pub(super) fn hear_server(
        &mut self,
        report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
    ) -> Result<(), Error> {
        let heard = self.server.as_mut().map(Server::hear).unwrap_or_default();
        for (message, mut with) in heard {
            match message {
                ToKeeper::Init(init) => self.take_init(init),
                ToKeeper::Record => self.take_record(with.pop()),
                ToKeeper::Spill => self.spill = with.pop(),
                ToKeeper::Configuration => self.configuration = with.pop(),
                ToKeeper::Loading { so_far } => match &mut self.stage {
                    Stage::First(_) => report(Report::Loading { so_far: &so_far })
                        .map_err(|Abandoned| Error::Stopped)?,
                    Stage::Renewing(until) => {
                        *until = Instant::now() + GRACE;
                        if let Some(watchdog) = &mut self.watchdog {
                            watchdog.answered();
                        }
                    }
                    Stage::Serving | Stage::Loading(_) | Stage::Backoff(_) => {}
                },
                ToKeeper::Ready {
                    shown,
                    log_file,
                    log_level,
                } => {
                    let logs = Logs {
                        file: log_file,
                        level: log_level,
                    };
                    self.hear_ready(&shown, logs, report)?;
                }
                ToKeeper::Loaded => {
                    if matches!(self.stage, Stage::Loading(_)) {
                        self.go_on();
                    }
                }
                ToKeeper::Frozen { upgrade } => self.start_candidate(upgrade),
                ToKeeper::Hooks => {
                    self.runner.wanted = true;
                    if self.runner.child.is_none() {
                        self.give_runner();
                    }
                }
                ToKeeper::Estranged => self.give_runner(),
                ToKeeper::PublisherHangs { pid } => self.replace_publisher(pid),
                ToKeeper::Failed { reason } => {
                    if matches!(self.stage, Stage::First(_)) {
                        return Err(Error::Failed(reason));
                    }
                    if let Some(server) = &mut self.server {
                        server.give_up(reason);
                    }
                }
                ToKeeper::Lost { why, reason } => {
                    if let Some(server) = &mut self.server {
                        server.lost = Some(why);
                        server.give_up(reason);
                    }
                }
                ToKeeper::Status => self.answer(with.pop()),
            }
        }
        Ok(())
    }

    /// The first load is over, or the configuration was read again.
    fn hear_ready(
        &mut self,
        shown: &str,
        logs: Logs,
        report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
    ) -> Result<(), Error> {
        self.logs = logs;
        if matches!(self.stage, Stage::First(_)) {
            self.show()?;
            let _ = report(Report::Ready {
                mountpoint: &self.job.mountpoint,
                shown,
                logs: &self.logs,
            });
            // The log is now the one that stays.
            log::info!("{}: {shown}, ready", self.job.mountpoint.display());
            if let Some(reason) = self.no_control.take() {
                log::info!("no control socket, so no `status`: {reason}");
            }
            if let Some(reason) = &self.publisher.nowhere {
                log::info!("no publisher, so nobody is told by inotify: {reason}");
            }
            if self.init.is_some_and(|init| !init.resends()) {
                log::warn!(
                    "this kernel is older than Linux 6.9: when the server dies, the \
                     mount is made anew, and whoever waits for it gets an error"
                );
            }
            systemd::tell(&[NotifyState::Ready, NotifyState::Status(shown)]);
        } else {
            if matches!(self.stage, Stage::Renewing(_)) {
                self.show_anew();
            }
            systemd::tell(&[NotifyState::Status(shown)]);
            let _ = report(Report::Reloaded(&self.logs));
        }
        Ok(())
    }

    fn take_init(&mut self, mut init: Init) {
        if self.job.without_resend {
            init.flags &= !Init::RESEND;
        }
        self.init = Some(init);
    }

    fn take_record(&mut self, record: Option<OwnedFd>) {
        match (self.stage, &mut self.server) {
            (Stage::Loading(_), Some(server)) => server.record = record,
            (Stage::Loading(_), None) => {}
            (Stage::First(_) | Stage::Renewing(_) | Stage::Serving | Stage::Backoff(_), _) => {
                self.record = record;
            }
        }
    }
}
