//! The wiring of a mount: mirror -> files -> tree -> kernel, from the first mount to the last
//! signal.
//!
//! Threads: `mirror` runs the connection and applies what it learns; `publish` tells the kernel;
//! `fuse` serves it; `signals` hears signals; the caller's thread waits for events and decides.
//! Lock order: the desk, then the tree. Under the desk's lock the order of changes and the order of
//! their publication are made the same; nothing there waits.

mod files;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use thiserror::Error;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Config;
use crate::fuse::{LiveData, Requests};
use crate::mirror::{Command, Mirror, Reason, Update};
use crate::mountpoint::{self, Options};
use crate::publish::Publisher;
use crate::service;
use crate::source::zookeeper::ZooKeeper;
use crate::store;
use crate::tree::{Change, Ownership};
use files::Files;
pub use files::Progress;

/// How often progress is told while the mount is not ready.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How many missing nodes are named one by one.
const MAX_NAMED: usize = 20;

/// What to mount where.
#[derive(Debug)]
pub struct Job {
    /// The configuration, already read.
    pub config: Config,
    /// Where.
    pub mountpoint: PathBuf,
    /// How.
    pub options: Options,
    /// How long the first load may take before the mount counts as ready without it.
    pub wait: Duration,
    /// The directory that a relative `secrets.path` is taken from.
    pub started_in: PathBuf,
}

/// What the daemon reports to whoever started it.
#[derive(Debug)]
pub enum Report<'a> {
    /// The first load goes on.
    Loading(Progress),
    /// The mount is ready: every node was heard of, or the wait ran out.
    Ready {
        /// Where it is, without symbolic links.
        mountpoint: &'a Path,
        /// How far the first load came.
        progress: Progress,
        /// The nodes without a file, with the reasons.
        missing: Vec<String>,
    },
    /// The configuration was read again.
    Reloaded(&'a Config),
}

/// Whoever started the daemon is gone before it was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

/// Why the mount came to nothing or to an end.
#[derive(Debug, Error)]
pub enum Error {
    /// See [`mountpoint::Error`].
    #[error(transparent)]
    Mountpoint(#[from] mountpoint::Error),
    /// Nodes that are required have no file.
    #[error("required nodes are missing, so nothing is mounted: {}", .0.join(", "))]
    RequiredMissing(Vec<String>),
    /// A thread or a connection could not be had from the system.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came back.
        #[source]
        source: io::Error,
    },
    /// Serving the kernel came to an unexpected end.
    #[error("the connection to the kernel broke")]
    Serving(#[source] io::Error),
    /// A thread of ours panicked.
    #[error("the {0} thread panicked; the log has its last words")]
    Panicked(&'static str),
    /// Stopped before the mount was ready.
    #[error("stopped before the mount was ready")]
    Stopped,
}

enum Event {
    Signal(i32),
    /// The first load is complete.
    Complete,
    /// The kernel ended the connection, or serving it failed.
    Unmounted(io::Result<()>),
    /// The mirror ended, which it does not by itself.
    MirrorEnded,
}

/// Where updates become changes, changes effects, and effects publications.
struct Desk {
    files: Files,
    tree: store::Writer,
    publisher: Publisher,
}

impl Desk {
    fn carry_out(&mut self, changes: Vec<Change>, now: SystemTime) {
        for change in changes {
            let effects = self.tree.apply(change, now);
            self.publisher.publish(effects);
        }
    }

    fn update(&mut self, update: Update) {
        log_update(&update);
        let now = match &update {
            Update::Confirmed { age, .. } => SystemTime::now() - *age,
            _ => SystemTime::now(),
        };
        let changes = self.files.update(update);
        self.carry_out(changes, now);
    }
}

/// Mounts, serves until the mount or the process is told to end, and leaves nothing behind.
///
/// `report` is told how it goes; it may say that nobody waits any more, which ends a mount that is
/// not ready.
pub fn run(
    job: Job,
    mut report: impl FnMut(Report<'_>) -> Result<(), Abandoned>,
) -> Result<(), Error> {
    let Job {
        mut config,
        mountpoint,
        options,
        wait,
        started_in,
    } = job;
    config.secrets.path = started_in.join(config.secrets.path);
    let path = mountpoint::prepare(&mountpoint)?;
    let (tell, events) = mpsc::channel();
    // Signals first: one that comes now must not leave a mount behind.
    let signals = spawn_signals(tell.clone())?;
    let now = SystemTime::now();
    let (mut tree, reader) = store::new(mounter(), now);
    let mut files = Files::new();
    for change in files.plan(config.nodes.clone()) {
        tree.apply(change, now);
    }
    let device = mountpoint::mount(&path, &config.file.to_string_lossy(), &options)?;
    let mounted = Mounted {
        path: &path,
        released: false,
    };
    let (fuse, notifier) = spawn_fuse(device, LiveData::new(reader, Requests::default()), &tell)?;
    let publisher = Publisher::spawn(notifier).map_err(|source| Error::System {
        what: "cannot start a thread",
        source,
    })?;
    let desk = Arc::new(Mutex::new(Desk {
        files,
        tree,
        publisher,
    }));
    let loading = Arc::new(AtomicBool::new(true));
    let (commands, mirror) = spawn_mirror(&config, &desk, &loading, tell)?;

    let mut ended = wait_until_ready(&events, &desk, wait, &mut report);
    if matches!(ended, Ok(None)) {
        let (progress, missing) = {
            let desk = desk.lock();
            (desk.files.progress(), desk.files.missing(false))
        };
        for node in first(&missing) {
            log::warn!("no file yet: {node}");
        }
        loading.store(false, Ordering::Relaxed);
        notify_systemd(&[NotifyState::Ready, NotifyState::Status(&status(progress))]);
        let told = report(Report::Ready {
            mountpoint: &path,
            progress,
            missing,
        });
        ended = match told {
            Ok(()) => {
                // Now the log is where it stays.
                let (path, status) = (path.display(), status(progress));
                log::info!("{path}: {status}, ready");
                serve(
                    &events,
                    &desk,
                    &commands,
                    &mut config,
                    (&mountpoint, &started_in),
                    &mut report,
                )
            }
            Err(Abandoned) => Err(Error::Stopped),
        };
    }

    notify_systemd(&[NotifyState::Stopping]);
    drop(commands);
    let released = match &ended {
        // The kernel has let go already.
        Ok(Some(End::Unmounted)) => mounted.forget(),
        Ok(_) | Err(_) => mounted.release(),
    };
    signals.close();
    join("mirror", mirror)?;
    if released {
        join("fuse", fuse)?;
        // Nothing is left to notify, so this ends at once.
        if let Ok(desk) = Arc::try_unwrap(desk) {
            desk.into_inner().publisher.join();
        }
    }
    match ended? {
        Some(End::Unmounted) => log::info!("{}: unmounted", path.display()),
        Some(End::Told) | None => log::info!("{}: unmounted on a signal", path.display()),
    }
    Ok(())
}

/// Why a mount ends in good order.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// A signal told us to.
    Told,
}

/// None: ready.
fn wait_until_ready(
    events: &Receiver<Event>,
    desk: &Mutex<Desk>,
    wait: Duration,
    report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
) -> Result<Option<End>, Error> {
    let deadline = Instant::now() + wait;
    let mut next_report = Instant::now();
    loop {
        if desk.lock().files.is_complete() {
            return Ok(None);
        }
        let now = Instant::now();
        let progress = desk.lock().files.progress();
        if now >= deadline {
            if progress.n_required_missing > 0 {
                let missing = desk.lock().files.missing(true);
                return Err(Error::RequiredMissing(first(&missing).collect()));
            }
            return Ok(None);
        }
        if now >= next_report {
            next_report = now + PROGRESS_INTERVAL;
            if report(Report::Loading(progress)) == Err(Abandoned) {
                return Err(Error::Stopped);
            }
        }
        match events.recv_timeout(deadline.min(next_report) - now) {
            Ok(Event::Complete) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Signal(SIGHUP)) => log::info!("not ready yet, so nothing is reloaded"),
            Ok(Event::Signal(_)) => return Ok(Some(End::Told)),
            Ok(Event::Unmounted(Ok(()))) => return Ok(Some(End::Unmounted)),
            Ok(Event::Unmounted(Err(err))) => return Err(Error::Serving(err)),
            Ok(Event::MirrorEnded) | Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Panicked("mirror"));
            }
        }
    }
}

fn serve(
    events: &Receiver<Event>,
    desk: &Mutex<Desk>,
    commands: &UnboundedSender<Command<ZooKeeper>>,
    config: &mut Config,
    (mountpoint, started_in): (&Path, &Path),
    report: &mut impl FnMut(Report<'_>) -> Result<(), Abandoned>,
) -> Result<Option<End>, Error> {
    // systemd wants a sign of life twice as often as its limit.
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    loop {
        let event = match watchdog {
            Some(interval) => match events.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) => {
                    let status = status(desk.lock().files.progress());
                    notify_systemd(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                    continue;
                }
                other => other.ok(),
            },
            None => events.recv().ok(),
        };
        match event {
            Some(Event::Complete) => {}
            Some(Event::Signal(SIGHUP)) => {
                reload(config, (mountpoint, started_in), desk, commands);
                let _ = report(Report::Reloaded(config));
            }
            Some(Event::Signal(_)) => return Ok(Some(End::Told)),
            Some(Event::Unmounted(Ok(()))) => return Ok(Some(End::Unmounted)),
            Some(Event::Unmounted(Err(err))) => return Err(Error::Serving(err)),
            Some(Event::MirrorEnded) | None => return Err(Error::Panicked("mirror")),
        }
    }
}

/// Reads the configuration again. One that is wrong changes nothing.
fn reload(
    config: &mut Config,
    (mountpoint, started_in): (&Path, &Path),
    desk: &Mutex<Desk>,
    commands: &UnboundedSender<Command<ZooKeeper>>,
) {
    let mut new = match Config::load(&config.file, Some(mountpoint)) {
        Ok(new) => new,
        Err(err) => {
            log::error!("not reloaded, the configuration of before stays: {err:#}");
            return;
        }
    };
    new.secrets.path = started_in.join(new.secrets.path);
    for problem in &new.problems {
        log::warn!("{problem}");
    }
    if new.mount != config.mount {
        log::warn!("mount.* changed; that takes effect with the next mount");
    }
    let sources = {
        let mut desk = desk.lock();
        let changes = desk.files.plan(new.nodes.clone());
        desk.carry_out(changes, SystemTime::now());
        desk.files.sources()
    };
    let mut told = vec![
        Command::Watch(sources),
        Command::Heartbeat(new.heartbeat_interval),
    ];
    if new.zookeeper != config.zookeeper || new.secrets != config.secrets {
        log::info!("the connection settings changed; opening a new session");
        told.insert(0, Command::Connect(service::zookeeper(&new)));
    }
    for command in told {
        if commands.send(command).is_err() {
            log::error!("the mirror is gone");
        }
    }
    log::info!("reloaded: {} nodes", new.nodes.len());
    *config = new;
}

fn spawn_mirror(
    config: &Config,
    desk: &Arc<Mutex<Desk>>,
    loading: &Arc<AtomicBool>,
    tell: Sender<Event>,
) -> Result<(UnboundedSender<Command<ZooKeeper>>, JoinHandle<()>), Error> {
    let system = |what| move |source| Error::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(system("cannot start the runtime"))?;
    let (commands, received) = tokio::sync::mpsc::unbounded_channel();
    let (desk, loading) = (Arc::clone(desk), Arc::clone(loading));
    let sources = desk.lock().files.sources();
    commands
        .send(Command::Watch(sources))
        .expect("the receiver is here");
    let (source, interval) = (service::zookeeper(config), config.heartbeat_interval);
    let thread = std::thread::Builder::new()
        .name("mirror".into())
        .spawn(move || {
            let ended = Ended(tell.clone());
            let mirror = Mirror::new(source, interval, |update| {
                let complete = {
                    let mut desk = desk.lock();
                    desk.update(update);
                    loading.load(Ordering::Relaxed) && desk.files.is_complete()
                };
                if complete {
                    let _ = tell.send(Event::Complete);
                }
            });
            runtime.block_on(mirror.run(received));
            // A name that is being resolved is not waited for.
            runtime.shutdown_background();
            drop(ended);
        })
        .map_err(system("cannot start a thread"))?;
    Ok((commands, thread))
}

/// Tells when the mirror's thread ends, also by a panic.
struct Ended(Sender<Event>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(Event::MirrorEnded);
    }
}

fn spawn_fuse(
    device: OwnedFd,
    filesystem: LiveData,
    tell: &Sender<Event>,
) -> Result<(JoinHandle<()>, fuser::Notifier), Error> {
    let mut settings = fuser::Config::default();
    settings.n_threads = Some(2);
    // Who may look is the kernel's business (allow_other, default_permissions).
    let session = fuser::Session::from_fd(filesystem, device, fuser::SessionACL::All, settings)
        .map_err(|source| Error::System {
            what: "the kernel refused the connection",
            source,
        })?;
    let notifier = session.notifier();
    let tell = tell.clone();
    let thread = std::thread::Builder::new()
        .name("fuse".into())
        .spawn(move || {
            let result = session.run();
            let _ = tell.send(Event::Unmounted(result));
        })
        .map_err(|source| Error::System {
            what: "cannot start a thread",
            source,
        })?;
    Ok((thread, notifier))
}

fn spawn_signals(tell: Sender<Event>) -> Result<signal_hook::iterator::Handle, Error> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|source| {
            Error::System {
                what: "cannot listen for signals",
                source,
            }
        })?;
    let handle = signals.handle();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let _ = tell.send(Event::Signal(signal));
            }
        })
        .map_err(|source| Error::System {
            what: "cannot start a thread",
            source,
        })?;
    Ok(handle)
}

/// A mount that is taken away when it goes out of scope.
struct Mounted<'a> {
    path: &'a Path,
    released: bool,
}

impl Mounted<'_> {
    /// Takes the mount away. True if nothing holds it any more, so that serving it ends.
    fn release(mut self) -> bool {
        self.released = true;
        mountpoint::release(self.path)
    }

    /// Somebody else took it away.
    fn forget(mut self) -> bool {
        self.released = true;
        true
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if !self.released {
            mountpoint::release(self.path);
        }
    }
}

fn join(name: &'static str, thread: JoinHandle<()>) -> Result<(), Error> {
    thread.join().map_err(|_| Error::Panicked(name))
}

/// Directories belong to the user who mounts.
fn mounter() -> Ownership {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    Ownership {
        uid,
        gid,
        mode: 0o555,
    }
}

/// What a list for people holds: the beginning of a long one, and how it goes on.
fn first(missing: &[String]) -> impl Iterator<Item = String> {
    let (shown, rest) = missing.split_at(missing.len().min(MAX_NAMED));
    let more = (!rest.is_empty()).then(|| format!("and {} more", rest.len()));
    shown.iter().cloned().chain(more)
}

fn status(progress: Progress) -> String {
    let Progress {
        n_files, n_nodes, ..
    } = progress;
    format!("{n_files} files of {n_nodes} nodes")
}

fn notify_systemd(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        log::debug!("systemd is not told: {err}");
    }
}

fn log_update(update: &Update) {
    match update {
        Update::Content { path, value } => log::debug!(
            "{path}: version {}, mzxid {:#x}, {} bytes",
            value.stat.version,
            value.stat.mzxid,
            value.content.len()
        ),
        Update::Absent { path } => log::debug!("{path}: does not exist"),
        Update::Unreadable {
            path,
            reason: Reason::Denied,
        } => {
            log::warn!("{path}: its ACL does not let us read it; see zookeeper.credentials");
        }
        Update::Unreadable {
            path,
            reason: Reason::Unproven(why) | Reason::Failed(why),
        } => {
            log::warn!("{path}: {why}; the last known content is served");
        }
        Update::Confirmed { paths, .. } => log::debug!("{} nodes confirmed", paths.len()),
        Update::Connected { session } => log::info!("ZooKeeper: session {session:#x}"),
        // The mirror has said it, with what it does about it.
        Update::Disconnected { .. } => {}
    }
}
