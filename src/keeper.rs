//! The keeper: a small process that makes the mount, holds what must outlive the others, and
//! starts the server and the publisher again when they die.
//!
//! One thread and one poll(2). It knows nothing of ZooKeeper, answers no question of the kernel,
//! parses no configuration, and waits for nobody without a limit. After each wake-up it looks at
//! everything: signals, the mount table, what the servers said, who died, who asks, what is due.
//!
//! A server is in one of a few stages. An upgrade runs beside a server that serves; when the
//! candidate has loaded the record it takes the place of the old one.

mod address;
mod ask;
mod binary;
mod child;
mod control;
mod mounts;
mod place;
mod publisher;
mod restarts;
mod server;
mod signals;
pub mod status;
mod systemd;
mod upgrade;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use sd_notify::NotifyState;
use thiserror::Error;

use crate::mountpoint::{self, Options};
use crate::processes::{Init, Lost, Start, ToKeeper, ToServer};
pub use ask::ask;
use binary::Binary;
pub use child::bind_to_parent;
use child::{Child, Ended};
use control::Control;
pub use place::{Here, Place, PublisherRoot};
use publisher::Publisher;
use restarts::Restarts;
use server::Server;
use signals::{Signals, Wish};
use status::{Event, Process, State, Status, seconds};
use systemd::Watchdog;
use upgrade::Upgrade;

/// How much longer than it may take to load the first time is waited for the server to say so.
const GRACE: Duration = Duration::from_secs(10);

/// How long a successor may take to load the record.
const LOADING: Duration = Duration::from_secs(10);

/// How long the server may take for its part of the status.
const DETAILS: Duration = Duration::from_secs(1);

/// How often in a row the start of a binary may fail before the last confirmed one is started.
const MOST_FAILURES: u32 = 5;

/// The most publishers that were killed and have not ended, of which a server is told.
const MOST_PUBLISHERS: usize = 16;

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
        /// Nodes that were heard of.
        n_answered: usize,
        /// All nodes.
        n_nodes: usize,
    },
    /// The mount is shown: every node was heard of, or the wait ran out.
    Ready {
        /// Where it is, without symbolic links.
        mountpoint: &'a Path,
        /// Nodes that have a file.
        n_files: usize,
        /// All nodes.
        n_nodes: usize,
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
    upgrade: Upgrade,
    anew: status::Anew,
    /// The server that serves next is to read the configuration again.
    reload_due: bool,
    /// Killed, and not gone yet.
    dying: Vec<Child>,
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
            upgrade: Upgrade::default(),
            anew: status::Anew::default(),
            reload_due: false,
            dying: Vec::new(),
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
            self.reap()?;
            self.serve_control();
            self.do_what_is_due()?;
        }
    }

    /// Waits until something happens. True if the mount table changed.
    fn wait(&mut self) -> Result<bool, Error> {
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

    fn next_deadline(&self) -> Option<Instant> {
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

    fn hear_server(
        &mut self,
        report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
    ) -> Result<(), Error> {
        let heard = self.server.as_mut().map(Server::hear).unwrap_or_default();
        for (message, mut with) in heard {
            match message {
                ToKeeper::Init(init) => self.take_init(init),
                ToKeeper::Record => self.take_record(with.pop()),
                ToKeeper::Configuration => self.configuration = with.pop(),
                ToKeeper::Loading {
                    n_answered,
                    n_nodes,
                } => match &mut self.stage {
                    Stage::First(_) => report(Report::Loading {
                        n_answered,
                        n_nodes,
                    })
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
                    n_files,
                    n_nodes,
                    log_file,
                    log_level,
                } => {
                    self.logs = Logs {
                        file: log_file,
                        level: log_level,
                    };
                    let text = format!("{n_files} files of {n_nodes} nodes");
                    if matches!(self.stage, Stage::First(_)) {
                        self.show()?;
                        let _ = report(Report::Ready {
                            mountpoint: &self.job.mountpoint,
                            n_files,
                            n_nodes,
                            logs: &self.logs,
                        });
                        // The log is now the one that stays.
                        log::info!("{}: {text}, ready", self.job.mountpoint.display());
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
                        systemd::tell(&[NotifyState::Ready, NotifyState::Status(&text)]);
                    } else {
                        if matches!(self.stage, Stage::Renewing(_)) {
                            self.show_anew();
                        }
                        systemd::tell(&[NotifyState::Status(&text)]);
                        let _ = report(Report::Reloaded(&self.logs));
                    }
                }
                ToKeeper::Loaded => {
                    if matches!(self.stage, Stage::Loading(_)) {
                        self.go_on();
                    }
                }
                ToKeeper::Frozen { upgrade } => self.start_candidate(upgrade),
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

    /// Somebody unmounted it: what is ours must not keep it. The connection ends with the last open
    /// file.
    fn let_go(&mut self) {
        self.unmounted = true;
        self.root = None;
        // The next mount at the same place answers for it from now on.
        self.control = None;
        self.end_publisher();
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

    /// The first load is over.
    fn show(&mut self) -> Result<(), Error> {
        self.place.attach()?;
        self.root = Some(self.place.private_root());
        self.stage = Stage::Serving;
        self.start_publisher();
        self.watchdog = Watchdog::wanted();
        Ok(())
    }

    /// The first load of a mount that was made anew is over.
    fn show_anew(&mut self) {
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

    /// The successor has loaded the record, and there is nobody else.
    fn go_on(&mut self) {
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
    }

    fn start_server(&self, binary: &Binary, takes_over: bool) -> io::Result<Server> {
        let start = Start {
            config: self.job.config.clone(),
            mountpoint: self.job.mountpoint.clone(),
            started_in: self.job.started_in.clone(),
            wait_ms: self.job.wait.as_millis().try_into().unwrap_or(u64::MAX),
            strict: self.job.strict,
            debug: self.job.debug,
            background: self.job.background,
            takes_over,
            anew: self.anew.running,
            init: self.init,
            publishers: self.publishers.iter().map(|(pid, _)| *pid).collect(),
        };
        let device = self.device.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let record = self.record.iter().filter(|_| takes_over);
        // Where the record is missing, the server must not take the configuration for it.
        let has_kept = self.anew.running || (takes_over && self.record.is_some());
        let configuration = self.configuration.iter().filter(|_| has_kept);
        let publishers = self.publishers.iter().map(|(_, process)| process);
        let with = record.chain(configuration).chain(publishers);
        Server::start(binary, start, device, with)
    }

    /// Finds out who has died.
    fn reap(&mut self) -> Result<(), Error> {
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
        Ok(())
    }

    /// It has ended; or was killed and does not end, which is as good.
    fn server_died(&mut self, ended: Option<Ended>) -> Result<(), Error> {
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

    /// Nobody can go on with the mount: what waits for it gets an error, and the next server to be
    /// started is the first one of another mount, which takes the place of this one when there is
    /// something to see.
    fn abandon(&mut self, reason: String) {
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
    fn forsake_connection(&mut self) {
        (self.root, self.record, self.init) = (None, None, None);
        self.publishers.clear();
        self.device = None;
        self.place.abandon();
    }

    /// A server died, or could not even be started: when is the next one due?
    fn count_death(&mut self, reason: String, lived: Duration) {
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

    fn start_successor(&mut self) {
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

    /// Makes another mount, which nobody sees yet, and starts its first server.
    fn mount_anew(&mut self) -> Result<Server, Error> {
        // A first server that died leaves a connection on which INIT was answered.
        self.forsake_connection();
        self.device = Some(self.place.create()?);
        self.start_server(&self.binary, false)
            .map_err(system("cannot start the server"))
    }

    fn start_publisher(&mut self) {
        self.publisher.due = None;
        let Some(server) = &mut self.server else {
            return;
        };
        let Some(root) = &self.root else {
            return server.tell(&ToServer::NoPublisher, &[]);
        };
        if let PublisherRoot::Nowhere(reason) = root {
            self.publisher.nowhere = Some(reason.clone());
            server.tell(&ToServer::NoPublisher, &[]);
            return;
        }
        match publisher::start(&self.confirmed, root, self.job.background) {
            Ok(publisher::Started {
                child,
                process,
                socket,
            }) => {
                let pid = child.pid();
                let with = [socket.as_fd(), process.as_fd()];
                server.tell(&ToServer::Publisher { pid }, &with);
                self.publishers.push((pid, process));
                if self.publishers.len() > MOST_PUBLISHERS {
                    self.publishers.remove(0);
                }
                self.publisher.child = Some(child);
            }
            Err(err) => {
                self.count_publisher_death(format!("cannot be started: {err}"), Duration::ZERO);
            }
        }
    }

    /// Ends the publisher; it may take until the mount is served again.
    fn end_publisher(&mut self) {
        self.publisher.due = None;
        if let Some(mut child) = self.publisher.child.take() {
            child.kill();
            self.dying.push(child);
        }
    }

    /// It does not answer the server.
    fn replace_publisher(&mut self, pid: u32) {
        if let Some(mut child) = self.publisher.child.take_if(|child| child.pid() == pid) {
            child.kill();
            self.count_publisher_death("it did not answer".into(), child.age());
            self.dying.push(child);
        }
    }

    fn publisher_died(&mut self, ended: Ended) {
        if let Some(child) = self.publisher.child.take() {
            self.publishers.retain(|(pid, _)| *pid != child.pid());
            self.count_publisher_death(ended.to_string(), child.age());
        }
    }

    fn count_publisher_death(&mut self, reason: String, lived: Duration) {
        log::error!("the publisher died after {lived:.1?}: {reason}");
        self.publisher.last_death = Some(Event::now(reason));
        self.publisher.n_restarts += 1;
        let delay = self.publisher.restarts.delay(lived);
        self.publisher.due = Some(Instant::now() + delay);
        if !delay.is_zero() {
            log::warn!("the publisher is started again in {delay:.1?}");
            self.tell_server(&ToServer::NoPublisher);
        }
    }

    fn tell_server(&mut self, message: &ToServer) {
        if let (Some(server), Stage::Serving) = (&mut self.server, self.stage) {
            server.tell(message, &[]);
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), Error> {
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
        if self.upgrade.until.is_some_and(|at| at <= now) {
            self.fail_upgrade("nothing was confirmed in time");
        }
        if self.details_until.is_some_and(|at| at <= now) {
            self.answer(None);
        }
        if self
            .watchdog
            .as_mut()
            .is_some_and(|watchdog| watchdog.is_due(now))
        {
            self.tell_server(&ToServer::Status);
        }
        Ok(())
    }

    fn serve_control(&mut self) {
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
    fn answer(&mut self, details: Option<OwnedFd>) {
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

    fn status(&self) -> Status {
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
            upgrade: self.upgrade.status(),
            anew: self.anew.clone(),
            resend: self.init.map(|init| init.resends()),
            details: serde_json::Value::Null,
        }
    }

    /// Takes everything away.
    fn end(mut self, ended: &Result<End, Error>) {
        systemd::tell(&[NotifyState::Stopping]);
        match ended {
            Ok(End::Unmounted) => {}
            Ok(End::Told) | Err(_) => drop(self.place.detach()),
        }
        self.end_publisher();
        let servers = [self.server.take(), self.upgrade.candidate.take()];
        for mut server in servers.into_iter().flatten() {
            server.child.kill();
            self.dying.push(server.child);
        }
        drop(self.control.take());
        // With the last descriptor the connection ends, and whoever waits for an answer is free.
        drop((self.device, self.root, self.record, self.configuration));
        for child in &mut self.dying {
            if !child.end() {
                log::warn!("process {} does not end", child.pid());
            }
        }
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
