//! The keeper: a small process that makes the mount, holds what must outlive the others, and
//! starts the server and the publisher again when they die.
//!
//! One thread and one poll(2). It knows nothing of ZooKeeper, answers no question of the kernel,
//! parses no configuration, and waits for nobody without a limit. After each wake-up it looks at
//! everything: signals, the mount table, what the servers said, who died, who asks, what is due.
//!
//! A server is in one of a few stages (`life`). An upgrade runs beside a server that serves; when the
//! candidate has loaded the record it takes the place of the old one (`upgrade`). A mount that nobody
//! can go on with is made anew (`anew`). What wakes the keeper is in `hear` and `due`.

mod address;
mod anew;
mod answer;
mod ask;
mod binary;
mod child;
mod control;
mod due;
mod hear;
mod life;
mod links;
mod mounts;
mod place;
mod publisher;
mod restarts;
mod runner;
mod server;
mod signals;
pub mod status;
mod systemd;
mod upgrade;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use sd_notify::NotifyState;
use thiserror::Error;

use crate::mountpoint::{self, Options};
use crate::processes::{Init, ToServer};
pub use address::list_of_links;
pub use ask::ask;
use binary::Binary;
use child::Child;
pub use child::bind_to_parent;
use control::Control;
pub use place::{Here, Place, PublisherRoot};
use publisher::Publisher;
use restarts::Restarts;
use runner::Runner;
use server::Server;
use signals::{Signals, Wish};
use status::Event;
use systemd::Watchdog;
use upgrade::Upgrade;

/// How much longer than it may take to load the first time is waited for the server to say so.
const GRACE: Duration = Duration::from_secs(10);

/// How long a successor may take to load the record.
const LOADING: Duration = Duration::from_secs(10);

/// How long a server may take to end by itself: to write what outlives the mount.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// What to mount where.
#[derive(Debug, Clone)]
pub struct Job {
    /// The configuration file; absolute.
    pub config: PathBuf,
    /// Where; prepared, see [`mountpoint::prepare`].
    pub mountpoint: PathBuf,
    /// How.
    pub options: Options,
    /// How long the first load may take before the mount counts as ready without it.
    pub wait: Duration,
    /// A problem of the configuration ends the mount before it is ready.
    pub strict: bool,
    /// Log more.
    pub debug: bool,
    /// The process is in the background.
    pub background: bool,
    /// The directory that a relative `secrets.path` is taken from.
    pub started_in: PathBuf,
    /// What to start as the server and the publisher; this program, if unsaid.
    pub binary: Option<PathBuf>,
    /// A process that died is started again at once, however often it dies.
    pub restart_at_once: bool,
    /// The kernel counts as one that does not repeat requests; see [`Init::resends`].
    pub without_resend: bool,
}

/// What the keeper reports to whoever started it.
#[derive(Debug)]
pub enum Report<'a> {
    /// The first load goes on.
    Loading {
        /// How far it has come, in words.
        so_far: &'a str,
    },
    /// The mount is shown: every node was heard of, or the wait ran out.
    Ready {
        /// Where it is, without symbolic links.
        mountpoint: &'a Path,
        /// What is shown, in words.
        shown: &'a str,
        /// Where to log to from now on.
        logs: &'a Logs,
    },
    /// The log is to be opened anew, perhaps elsewhere.
    Reloaded(&'a Logs),
}

/// Where and what to log, as the configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// The file to log to in the background, in place of the system log.
    pub file: Option<PathBuf>,
    /// The least to log, as `warn`.
    pub level: String,
}

/// Whoever started the keeper is gone before the mount was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

/// Why the mount came to nothing or to an end.
#[derive(Debug, Error)]
pub enum Error {
    /// See [`mountpoint::Error`].
    #[error(transparent)]
    Mountpoint(#[from] mountpoint::Error),
    /// Something could not be had from the system.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came back.
        #[source]
        source: io::Error,
    },
    /// The server says why it cannot be.
    #[error("{0}")]
    Failed(String),
    /// The server died before the mount was ready.
    #[error("the server died before the mount was ready ({0}); the log may have its last words")]
    Died(String),
    /// The server neither becomes ready nor says why.
    #[error("the server did not become ready in time")]
    Silent,
    /// Stopped before the mount was ready.
    #[error("stopped before the mount was ready")]
    Stopped,
}

/// Mounts, and keeps the mount alive until it or the process is told to end. Leaves nothing behind.
///
/// `report` is told how it goes; it may say that nobody waits any more, which ends a mount that is
/// not ready. For a process with one thread: its children end with the thread that started them.
pub fn run(job: Job, report: impl FnMut(Report<'_>) -> Result<(), Abandoned>) -> Result<(), Error> {
    let mut place = Here::new(&job.mountpoint, &job.config, &job.options);
    run_at(&mut place, job, report)
}

/// [`run`], with the mount made by `place`.
pub fn run_at(
    place: &mut dyn Place,
    job: Job,
    mut report: impl FnMut(Report<'_>) -> Result<(), Abandoned>,
) -> Result<(), Error> {
    // Signals first: one that comes now must not leave a mount behind.
    let signals = Signals::catch().map_err(system("cannot listen for signals"))?;
    let changes = mounts::Changes::watch().map_err(system("cannot watch the mount table"))?;
    let path = match &job.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(system("cannot find this program"))?,
    };
    let binary = Binary::open(&path).map_err(system("cannot open this program"))?;
    let device = place.create()?;
    let mut keeper = Keeper::new(place, job, signals, changes, Rc::new(binary), device);
    let ended = keeper.live(&mut report);
    keeper.end(&ended);
    ended.map(drop)
}

/// What the server is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first one loads what is in ZooKeeper, until then.
    First(Instant),
    /// It serves.
    Serving,
    /// The first one of a mount that is made anew loads what is in ZooKeeper; until then it must
    /// say something.
    Renewing(Instant),
    /// A successor loads the record, until then.
    Loading(Instant),
    /// There is none; the next is started then.
    Backoff(Instant),
}

/// Why a mount ends in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// A signal told us to.
    Told,
}

struct Keeper<'a> {
    place: &'a mut dyn Place,
    job: Job,
    signals: Signals,
    changes: mounts::Changes,
    control: Option<Control>,
    /// Why there is none; said once there is a mount.
    no_control: Option<io::Error>,
    watchdog: Option<Watchdog>,
    since: SystemTime,
    logs: Logs,

    /// `/dev/fuse`; none while the mount is lost.
    device: Option<OwnedFd>,
    /// Where publishers work, once the mount is attached.
    root: Option<PublisherRoot>,
    /// Somebody unmounted it, perhaps while files are open, which are served to the end.
    unmounted: bool,
    init: Option<Init>,
    /// The newest record of a server that was told to go on.
    record: Option<OwnedFd>,
    /// The file that the record speaks of, if it does.
    spill: Option<OwnedFd>,
    /// The configuration in use, as the server sent it.
    configuration: Option<OwnedFd>,
    /// Those that have not ended: process ids, and descriptors of the processes.
    publishers: Vec<(u32, OwnedFd)>,

    /// What the next server is started from.
    binary: Rc<Binary>,
    /// What the last server that loaded was started from.
    confirmed: Rc<Binary>,
    /// A newer program, for which the record is foreign.
    foreign: Option<Rc<Binary>>,
    n_failures: u32,
    server: Option<Server>,
    stage: Stage,
    restarts: Restarts,
    n_restarts: u64,
    last_death: Option<Event>,
    publisher: Publisher,
    runner: Runner,
    upgrade: Upgrade,
    anew: status::Anew,
    /// The server that serves next is to read the configuration again.
    reload_due: bool,
    /// Killed, and not gone yet.
    dying: Vec<Child>,
    /// The process that removes the links into the mount, which is gone.
    unlinking: Option<std::process::Child>,
    /// Until when the server's part of the status is waited for.
    details_until: Option<Instant>,
}

impl<'a> Keeper<'a> {
    fn new(
        place: &'a mut dyn Place,
        job: Job,
        signals: Signals,
        changes: mounts::Changes,
        binary: Rc<Binary>,
        device: OwnedFd,
    ) -> Self {
        let (control, no_control) = match Control::open(&job.mountpoint) {
            Ok(control) => (Some(control), None),
            Err(err) => (None, Some(err)),
        };
        let until = Instant::now() + job.wait + GRACE;
        let restarts = Restarts::new(job.restart_at_once);
        Self {
            place,
            job,
            signals,
            changes,
            control,
            no_control,
            watchdog: None,
            since: SystemTime::now(),
            logs: Logs::default(),
            device: Some(device),
            root: None,
            unmounted: false,
            init: None,
            record: None,
            spill: None,
            configuration: None,
            publishers: Vec::new(),
            confirmed: Rc::clone(&binary),
            binary,
            foreign: None,
            n_failures: 0,
            server: None,
            stage: Stage::First(until),
            restarts,
            n_restarts: 0,
            last_death: None,
            publisher: Publisher {
                restarts,
                ..Publisher::default()
            },
            runner: Runner::new(restarts),
            upgrade: Upgrade::default(),
            anew: status::Anew::default(),
            reload_due: false,
            dying: Vec::new(),
            unlinking: None,
            details_until: None,
        }
    }

    fn live(
        &mut self,
        report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
    ) -> Result<End, Error> {
        let server = self
            .start_server(&self.binary, false)
            .map_err(system("cannot start the server"))?;
        self.server = Some(server);
        loop {
            let mounts_changed = self.wait()?;
            for wish in self.signals.wishes() {
                match (wish, self.stage) {
                    (Wish::Stop, Stage::First(_)) => return Err(Error::Stopped),
                    (Wish::Stop, _) if self.unmounted => return Ok(End::Unmounted),
                    (Wish::Stop, _) => return Ok(End::Told),
                    (Wish::Reload, Stage::First(_)) => {
                        log::info!("not ready yet, so nothing is reloaded");
                    }
                    (Wish::Reload, _) => {
                        // A server that does not serve yet, or a successor, hears of it later.
                        self.reload_due = self.stage != Stage::Serving || self.upgrade.is_running();
                        self.tell_server(&ToServer::Reload);
                        let _ = report(Report::Reloaded(&self.logs));
                    }
                    (Wish::Upgrade, _) => self.start_upgrade(),
                }
            }
            let is_shown = self.root.is_some() || self.anew.running;
            if mounts_changed && is_shown && !self.place.is_attached() {
                self.let_go();
            }
            if self.unmounted && self.is_disconnected() {
                return Ok(End::Unmounted);
            }
            self.hear_server(report)?;
            self.hear_candidate();
            self.hear_runner();
            self.reap()?;
            self.serve_control();
            self.do_what_is_due()?;
        }
    }

    /// Somebody unmounted it: what is ours must not keep it. The connection ends with the last open
    /// file.
    fn let_go(&mut self) {
        self.unmounted = true;
        self.root = None;
        // The next mount at the same place answers for it from now on.
        self.control = None;
        self.remove_links();
        self.end_publisher();
        self.end_runner();
        if self.anew.running {
            // It was the lost one: there are no open files to serve.
            self.device = None;
        }
        self.publisher.nowhere = Some("unmounted".into());
        self.tell_server(&ToServer::NoPublisher);
    }

    /// Whether the connection to the kernel has ended.
    fn is_disconnected(&self) -> bool {
        let Some(device) = &self.device else {
            return true;
        };
        let mut poll = [PollFd::new(device, PollFlags::empty())];
        let now = Timespec::default();
        rustix::event::poll(&mut poll, Some(&now)).is_ok()
            && poll[0].revents().contains(PollFlags::ERR)
    }

    /// The first load is over.
    fn show(&mut self) -> Result<(), Error> {
        self.place.attach()?;
        self.root = Some(self.place.private_root());
        self.stage = Stage::Serving;
        self.start_publisher();
        self.give_runner();
        self.watchdog = Watchdog::wanted();
        Ok(())
    }

    fn tell_server(&mut self, message: &ToServer) {
        if let (Some(server), Stage::Serving) = (&mut self.server, self.stage) {
            server.tell(message, &[]);
        }
    }

    /// Takes everything away.
    fn end(mut self, ended: &Result<End, Error>) {
        systemd::tell(&[NotifyState::Stopping]);
        match ended {
            Ok(End::Unmounted) => {}
            Ok(End::Told) | Err(_) => {
                self.place.detach();
                self.remove_links();
            }
        }
        self.end_publisher();
        self.end_runner();
        let servers = [self.server.take(), self.upgrade.candidate.take()];
        for mut server in servers.into_iter().flatten() {
            server.tell(&ToServer::End, &[]);
            if !server.child.ends_within(LAST_WORDS) {
                server.child.kill();
            }
            self.dying.push(server.child);
        }
        drop(self.control.take());
        // With the last descriptor the connection ends, and whoever waits for an answer is free.
        drop((self.device.take(), self.root.take()));
        drop((self.record.take(), self.configuration.take()));
        drop(self.spill.take());
        for child in &mut self.dying {
            if !child.end() {
                log::warn!("process {} does not end", child.pid());
            }
        }
        self.wait_for_links();
        self.wait_for_runner();
        let mountpoint = self.job.mountpoint.display();
        match ended {
            Ok(End::Unmounted) => log::info!("{mountpoint}: unmounted"),
            Ok(End::Told) => log::info!("{mountpoint}: unmounted on a signal"),
            Err(_) => {}
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}
