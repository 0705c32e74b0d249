//! The server process: mirror -> files -> tree -> kernel, from the first load on, or from where a
//! dead server left off.
//!
//! Threads: `mirror` runs the connection and hands on what it learns; `publish` carries changes to
//! the kernel; `fuse` answers it; `keeper` hears the keeper, and passes publishers on to `publish`;
//! `dropins` reads drop-ins; `cache` writes to the disk; `spill` makes room in memory, and `disk` reads
//! what lies there; `links` waits for the process that makes links; `hooks` speaks with the runner; `status` writes what is asked for
//! of the status directory; the main thread waits for events and decides. Lock order: the desk, then
//! the queue of changes, then the tree;
//! nothing waits under them. The process ends when the keeper does or says so: then it has the cache
//! written, and nothing else to tidy up.

mod configuration;
mod desk;
mod dropins;
mod files;
mod hearing;
mod hooks;
mod keeping;
mod kernel;
mod links;
mod mirroring;
mod noted;
mod panics;
mod status;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use log::LevelFilter;
use parking_lot::Mutex;
use thiserror::Error;

use crate::cache::Cache;
use crate::config::{self, Config};
use crate::fuse::{LiveData, Requests};
use crate::keeper;
use crate::logging::{self, Logging};
use crate::mirror::Command;
use crate::privileges;
use crate::processes::{Lost, Start, ToKeeper, ToServer};
use crate::publish::Publishing;
use crate::record::{Handed, Record, RecordError};
use crate::spilling::Spilling;
use crate::store::{self, Reader};
use crate::sys;
use crate::tree::Ownership;
use crate::wire::Socket;
use configuration::{Main, has_predecessor, leave_stderr, read_at_start};
use desk::Desk;
use dropins::Following;
use files::Files;
use hearing::{hear_keeper, told_of_publishing};
use hooks::Hooking;
use keeping::Left;
use kernel::{Connection, Line};
use links::Linking;
use mirroring::Running;
use noted::Sessions;
use status::{Configured, Telling};

/// How often progress is told while the mount is not ready.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How often the kernel is asked what it still holds of the time of another server.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How long ZooKeeper is waited for where everything is known from before.
const FIRST_ANSWER: Duration = Duration::from_millis(500);

/// How long the disk is waited for in the end; less than the keeper waits for us.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What is to be said of a session that confirms nothing.
const READ_ONLY: &str = "ZooKeeper is read-only: the server has no quorum, and may be behind";

/// How many missing nodes are named one by one.
const MAX_NAMED: usize = 20;

/// Why there is no server (any more); one line for the keeper.
#[derive(Debug, Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("--strict: the configuration has a problem, so nothing is mounted: {0}")]
    Problem(String),
    #[error("required nodes are missing, so nothing is mounted: {}", .0.join(", "))]
    RequiredMissing(Vec<String>),
    #[error("the record of the mount cannot be gone on with")]
    Record(#[from] RecordError),
    #[error("the kernel does not repeat what a dead server left unanswered; it takes Linux 6.9")]
    Resend,
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the kernel broke: {0}")]
    Serving(String),
    #[error("the mirror's thread panicked; the log has its last words")]
    Mirror,
    #[error("the keeper is gone")]
    KeeperGone,
}

impl Error {
    /// Whether the mount is lost.
    fn lost(&self) -> Option<Lost> {
        match self {
            Error::Record(RecordError::OtherFormat(_)) => Some(Lost::Foreign),
            Error::Record(
                RecordError::NoRecord | RecordError::Damaged { .. } | RecordError::Contradiction,
            ) => Some(Lost::Record),
            Error::Resend => Some(Lost::Resend),
            // Another attempt may do.
            Error::Record(RecordError::Io(_))
            | Error::Config(_)
            | Error::Problem(_)
            | Error::RequiredMissing(_)
            | Error::System { .. }
            | Error::Serving(_)
            | Error::Mirror
            | Error::KeeperGone => None,
        }
    }
}

enum Event {
    /// The first load is complete, or something began to age.
    Heard,
    /// The connection to the kernel ended.
    Unmounted(io::Result<()>),
    /// There is news of drop-ins.
    Dropins,
    /// The mirror ended.
    MirrorEnded,
    /// The keeper says something.
    Keeper(ToServer),
    /// The keeper is gone.
    KeeperGone,
}

/// The main of the server process.
pub fn main() -> ExitCode {
    let logging = logging::start(LevelFilter::Info);
    let keeper = match connect() {
        Ok(keeper) => Arc::new(keeper),
        Err(err) => {
            eprintln!("livedata-fuse: this command is for `livedata-fuse mount` to start: {err}");
            return ExitCode::from(2);
        }
    };
    let to_keeper = Arc::clone(&keeper);
    panics::end_process(move |reason| {
        // A keeper that is gone needs no reason.
        let _ = to_keeper.send(&ToKeeper::Failed { reason }, &[]);
    });
    match run(&keeper, &logging) {
        Ok(()) | Err(Error::KeeperGone) => ExitCode::SUCCESS,
        Err(err) => {
            let lost = err.lost();
            let reason = format!("{:#}", anyhow::Error::new(err));
            // A keeper that is gone needs no reason.
            let _ = match lost {
                Some(why) => keeper.send(&ToKeeper::Lost { why, reason }, &[]),
                None => keeper.send(&ToKeeper::Failed { reason }, &[]),
            };
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket to the keeper from stdin.
fn connect() -> io::Result<Socket> {
    privileges::keep_those_for_files()?;
    keeper::bind_to_parent("livedata-server")?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Socket::from(socket))
}

fn run(keeper: &Arc<Socket>, logging: &Logging) -> Result<(), Error> {
    let (message, with) = keeper
        .receive()
        .map_err(system("the keeper is not understood"))?
        .ok_or(Error::KeeperGone)?;
    let ToServer::Start(start) = message else {
        return Err(Error::System {
            what: "the keeper is not understood",
            source: io::ErrorKind::InvalidData.into(),
        });
    };
    logging.set_level(match (start.debug, start.background) {
        (true, _) => LevelFilter::Debug,
        (false, true) => LevelFilter::Warn,
        (false, false) => LevelFilter::Info,
    });
    let mut server = Server::start(start, with, keeper, logging)?;
    let ended = server.live();
    server.end();
    ended
}

struct Server {
    start: Start,
    /// What is gone by: the main file with the drop-ins.
    config: Config,
    main: Main,
    dropins: Following,
    keeper: Arc<Socket>,
    logging: Logging,
    events: Receiver<Event>,
    tell: Sender<Event>,
    desk: Arc<Mutex<Desk>>,
    publishing: Arc<Publishing>,
    reader: Reader,
    line: Line,
    cache: Option<Arc<Cache>>,
    linking: Arc<Linking>,
    /// None without a cache: nothing is dropped then.
    spilling: Option<Arc<Spilling>>,
    loading: Arc<AtomicBool>,
    /// [`Event::Heard`] is on its way.
    heard: Arc<AtomicBool>,
    mirror: Option<Running>,
    telling: Arc<Telling>,
    hooking: Arc<Hooking>,
}

impl Server {
    /// Comes up to the point where the kernel is answered.
    fn start(
        start: Start,
        mut with: Vec<OwnedFd>,
        keeper: &Arc<Socket>,
        logging: &Logging,
    ) -> Result<Self, Error> {
        let since = SystemTime::now();
        let n_others = with.len().saturating_sub(start.publishers.len());
        let processes = with.split_off(n_others);
        let mut with = with.into_iter().peekable();
        let device = with.next().ok_or_else(no("no /dev/fuse came"))?;
        let record = with.next_if(|_| start.takes_over);
        let spill = with.next_if(|_| start.has_spill);
        let mut kept = with.next();
        let (tell, events) = mpsc::channel();
        // A successor answers the kernel first: with ten thousand nodes this takes a while.
        let early = match start.takes_over {
            true => None,
            false => Some(read_at_start(&start, kept.take(), logging, &tell)?),
        };
        let (mut cache, left) = match &early {
            Some((config, ..)) => keeping::open(config, &start.mountpoint),
            None => (None, Left::nothing()),
        };
        let (mut tree, reader) = if start.takes_over {
            let record = record.ok_or(RecordError::NoRecord)?;
            let memory = record;
            store::restored(mounter(), Handed { memory, spill })?
        } else {
            let record = Record::create().map_err(system("no memory for the record"))?;
            let (tree, reader) =
                store::recorded(mounter(), record, SystemTime::now().max(left.latest))
                    .map_err(system("no memory for the record"))?;
            tree.hand_over(|memory| keeper.send(&ToKeeper::Record, &[memory]))
                .map_err(system("the keeper does not listen"))?;
            (tree, reader)
        };
        // Whoever began the connection has decided, whatever the configuration says by now.
        let keeps_attributes = match &early {
            Some((config, ..)) => config.mount.xattr,
            None => start.init.is_some_and(|init| init.xattr),
        };
        if keeps_attributes {
            tree.keep_attributes();
        }
        let requests = Requests::default();
        let filesystem = LiveData::new(reader.clone(), requests.clone());
        let (publishers, pollers) = (filesystem.publishers(), filesystem.pollers());
        let (status_dir, ahead) = (filesystem.status_dir(), filesystem.ahead());
        for (pid, process) in start.publishers.iter().zip(processes) {
            publishers.add(*pid, process);
        }
        let broken = system("the kernel refused the connection");
        let connection = match start.init.filter(|_| start.takes_over) {
            Some(init) => {
                if !init.resends() {
                    return Err(Error::Resend);
                }
                let connection = Connection::take_over(filesystem, init, device).map_err(broken)?;
                self::tell(keeper, &ToKeeper::Loaded)?;
                wait_for_go(keeper)?;
                connection
            }
            None => {
                let seen = filesystem.init_seen();
                let (connection, init) =
                    Connection::open(filesystem, &seen, device).map_err(broken)?;
                self::tell(keeper, &ToKeeper::Init(init))?;
                connection
            }
        };
        let (line, notifier) = (connection.line(), connection.notifier());
        ahead.use_notifier(notifier.clone());
        let hooking = Arc::new(Hooking::default());
        let publishing = Publishing::spawn(
            (tree, reader.clone()),
            notifier.clone(),
            pollers,
            told_of_publishing(keeper, &hooking),
            start.takes_over,
        )
        .map_err(system("cannot start a thread"))?;
        let publishing = Arc::new(publishing);
        let noted = Arc::default();
        let gives = (publishers, Arc::clone(&noted), Arc::clone(&publishing));
        hear_keeper(
            Arc::clone(keeper),
            tell.clone(),
            gives,
            Arc::clone(&hooking),
        )?;
        if start.takes_over
            && let Err(err) = line.resend()
        {
            if err.kind() == io::ErrorKind::InvalidInput {
                return Err(Error::Resend);
            }
            log::error!("requests in flight are lost, whoever made them waits: {err}");
        }
        for handle in reader.waiting() {
            // Whoever waits asks again, and is told or noted by us.
            if let Err(err) = notifier.poll(fuser::PollHandle(handle)) {
                log::debug!("a poller is gone: {err}");
            }
        }
        let ended = tell.clone();
        connection
            .serve(move |result| {
                let _ = ended.send(Event::Unmounted(result));
            })
            .map_err(system("cannot start a thread"))?;
        let (config, main, dropins) = match early {
            Some(found) => found,
            None => read_at_start(&start, kept, logging, &tell)?,
        };
        let mut files = Files::new();
        let leftovers = files.recall(&config.nodes, &config.trees, &reader);
        let planned = files.plan(config.nodes.clone(), config.trees.clone());
        let recalled = files.recall_cached(left.entries, SystemTime::now());
        if start.takes_over {
            cache = keeping::take_over(&config, &start.mountpoint);
        }
        let desk = Desk {
            files,
            publishing: Arc::clone(&publishing),
            tree: reader.clone(),
            sessions: Sessions::default(),
        };
        publishing.use_cache(cache.clone());
        desk.carry_out(leftovers);
        desk.carry_out_noted(planned, SystemTime::now());
        desk.carry_out_noted(recalled, SystemTime::now());
        if let Some(cache) = &cache {
            desk.keep_configured(cache);
            // A first server has it from the cache.
            desk.keep_known(cache, |_| start.takes_over);
        }
        let spilling = keeping::spill(&config, &start.mountpoint, &reader, keeper).map(Arc::new);
        let linking = Arc::new(Linking::start(&start, &config));
        let desk = Arc::new(Mutex::new(desk));
        let telling = Arc::new(Telling {
            desk: Arc::clone(&desk),
            publishing: Arc::clone(&publishing),
            publishers: noted,
            requests,
            reader: reader.clone(),
            since,
            start: start.clone(),
            linking: Arc::clone(&linking),
            spilling: spilling.clone(),
            hooking: Arc::clone(&hooking),
            configured: Mutex::new(Configured::new(
                &config,
                cache.as_ref(),
                dropins.complaint(),
            )),
        });
        telling.show(&status_dir, &config)?;
        let mut server = Self {
            loading: Arc::new(AtomicBool::new(!start.takes_over)),
            heard: Arc::default(),
            linking,
            start,
            config,
            main,
            dropins,
            keeper: Arc::clone(keeper),
            logging: logging.clone(),
            events,
            tell,
            desk,
            publishing,
            reader,
            line,
            cache,
            spilling,
            mirror: None,
            telling,
            hooking,
        };
        server.keep_configuration();
        server.start_hooking()?;
        server.start_mirror()?;
        Ok(server)
    }

    fn live(&mut self) -> Result<(), Error> {
        if !self.start.takes_over {
            self.wait_until_ready()?;
        }
        self.settle_down()?;
        sys::trim_memory();
        let mut next_probe = Instant::now() + PROBE_INTERVAL;
        loop {
            if Instant::now() >= next_probe {
                self.probe();
                self.reader.sweep_attributes();
                self.keep_lost();
                self.ask_for_lost();
                self.take_dropins();
                self.tell_of_configuration();
                next_probe = Instant::now() + PROBE_INTERVAL;
            }
            let next_break = self.desk.lock().break_old();
            let next = next_break.map_or(next_probe, |next| next.min(next_probe));
            match self
                .events
                .recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Mirror),
            }
        }
    }

    /// What is known is on disk for the next mount, if the disk answers.
    fn end(&self) {
        if let Some(cache) = &self.cache {
            cache.flush(LAST_WRITE);
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let mut deadline = Instant::now() + Duration::from_millis(self.start.wait_ms);
        // What is known from before is not held back for a service that does not answer.
        let first_answer = Instant::now() + FIRST_ANSWER;
        let mut next_report = Instant::now();
        loop {
            let now = Instant::now();
            let (progress, enough) = {
                let desk = self.desk.lock();
                let enough =
                    desk.files.is_complete() || desk.files.is_all_there_is(now >= first_answer);
                (desk.files.progress(), enough)
            };
            if enough {
                return Ok(());
            }
            let is_empty = progress.n_nodes == 0 && progress.n_trees == 0;
            if self.start.anew && progress.n_answered + progress.n_found == 0 && !is_empty {
                // An empty mount would be worse than a lost one, of which the kernel still shows
                // what it has in its caches.
                deadline = now + Duration::from_millis(self.start.wait_ms);
            }
            if now >= deadline {
                if progress.n_required_missing > 0 && !self.start.anew {
                    let missing = self.desk.lock().files.missing(true);
                    return Err(Error::RequiredMissing(first(&missing).collect()));
                }
                return Ok(());
            }
            if now >= next_report {
                next_report = now + PROGRESS_INTERVAL;
                let so_far = progress.so_far();
                tell(&self.keeper, &ToKeeper::Loading { so_far })?;
            }
            match self.events.recv_timeout(deadline.min(next_report) - now) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Mirror),
            }
        }
    }

    /// The first load is over, or a successor goes on: says so, and leaves the terminal.
    fn settle_down(&mut self) -> Result<(), Error> {
        let missing = self.desk.lock().files.missing(false);
        if !self.start.takes_over {
            for node in first(&missing) {
                log::warn!("no file yet: {node}");
            }
            let n_stale = self.desk.lock().files.progress().n_stale;
            if n_stale > 0 {
                log::warn!(
                    "{n_stale} files show what was last known: ZooKeeper has not confirmed it"
                );
            }
        }
        self.loading.store(false, Ordering::Relaxed);
        if !self.start.takes_over {
            self.publishing.flush();
            // What was too old before the start is never shown.
            self.desk.lock().break_old();
            self.publishing.flush();
            self.publishing.await_publisher();
        }
        if !has_predecessor(&self.start) {
            leave_stderr(&self.start, &self.config, &self.logging);
        }
        self.logging.set_level(self.level());
        match has_predecessor(&self.start) {
            true => self.keep_links(),
            false => self.linking.keep_first(&self.config),
        }
        if !self.start.takes_over {
            self.tell_ready()?;
        }
        Ok(())
    }

    fn tell_ready(&self) -> Result<(), Error> {
        let ready = ToKeeper::Ready {
            shown: self.desk.lock().files.progress().shown(),
            log_file: self.config.log.file.clone(),
            log_level: self.level().to_string(),
        };
        tell(&self.keeper, &ready)
    }

    fn level(&self) -> LevelFilter {
        match self.start.debug {
            true => LevelFilter::Debug,
            false => self.config.log.level.unwrap_or(LevelFilter::Info),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Heard => {
                self.heard.store(false, Ordering::Relaxed);
                Ok(())
            }
            Event::Dropins => {
                self.take_dropins();
                Ok(())
            }
            Event::Unmounted(Ok(())) => Err(Error::Serving("the kernel ended it".into())),
            Event::Unmounted(Err(err)) => Err(Error::Serving(err.to_string())),
            // While it is stopped, its end is no news.
            Event::MirrorEnded => match &self.mirror {
                Some(mirror) if mirror.thread.is_finished() => Err(Error::Mirror),
                Some(_) | None => Ok(()),
            },
            Event::KeeperGone => Err(Error::KeeperGone),
            Event::Keeper(message) => self.obey(message),
        }
    }

    fn obey(&mut self, message: ToServer) -> Result<(), Error> {
        match message {
            // The thread that hears of a publisher passes it on.
            ToServer::Start(_)
            | ToServer::Go
            | ToServer::Publisher { .. }
            | ToServer::NoPublisher
            | ToServer::Runner => Ok(()),
            ToServer::Freeze { upgrade } => {
                self.stop_mirror();
                self.publishing.freeze();
                tell(&self.keeper, &ToKeeper::Frozen { upgrade })
            }
            ToServer::Thaw { .. } => {
                if self.mirror.is_none() {
                    self.publishing.thaw();
                    self.start_mirror()?;
                    self.take_dropins();
                }
                Ok(())
            }
            ToServer::Reload => {
                self.reload();
                self.tell_ready()
            }
            ToServer::Status => self.tell_status(),
            ToServer::End => Err(Error::KeeperGone),
        }
    }

    /// Asks the kernel about what it may hold of the time of another server.
    fn probe(&self) {
        for ino in self.reader.inherited() {
            match self.line.holds(ino) {
                Ok(true) => {}
                Ok(false) => self.reader.disinherit(ino),
                Err(err) => return log::debug!("the kernel does not say what it holds: {err}"),
            }
        }
    }

    /// What lay on disk and could not be read is asked for again.
    fn ask_for_lost(&self) {
        let (Some(spilling), Some(mirror)) = (&self.spilling, &self.mirror) else {
            return;
        };
        if spilling.n_bytes_on_disk() == 0 {
            return;
        }
        let lost = self.desk.lock().files.lose();
        for path in lost.iter().take(MAX_NAMED) {
            log::warn!("{path}: its content cannot be read from the disk, and is asked for again");
        }
        if !lost.is_empty() && mirror.commands.send(Command::Lost(lost)).is_err() {
            log::error!("the mirror is gone");
        }
    }

    /// What the disk has lost is told to the cache again.
    fn keep_lost(&self) {
        let Some(cache) = &self.cache else {
            return;
        };
        let lost: HashSet<_> = cache.lost().into_iter().collect();
        if !lost.is_empty() {
            self.desk
                .lock()
                .keep_known(cache, |path| lost.contains(path));
        }
    }
}

/// The record is loaded; waits until whoever served before is gone.
fn wait_for_go(keeper: &Socket) -> Result<(), Error> {
    loop {
        match keeper
            .receive()
            .map_err(system("the keeper is not understood"))?
        {
            Some((ToServer::Go, _)) => return Ok(()),
            Some((ToServer::End, _)) => return Err(Error::KeeperGone),
            Some(_) => {}
            None => return Err(Error::KeeperGone),
        }
    }
}

fn tell(keeper: &Socket, message: &ToKeeper) -> Result<(), Error> {
    keeper.send(message, &[]).map_err(|_| Error::KeeperGone)
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

fn no(what: &'static str) -> impl FnOnce() -> Error {
    move || system(what)(io::ErrorKind::InvalidData.into())
}

/// Directories belong to the user who mounts, and he alone may have them changed. Those with an
/// ownership of their own are shown by `tree/directory.rs`, which goes by the write bit here.
fn mounter() -> Ownership {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    // Root's publisher needs no permission.
    let mode = if uid.is_root() { 0o555 } else { 0o755 };
    Ownership {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        mode,
    }
}

/// What a list for people holds: the beginning of a long one, and how it goes on.
fn first(missing: &[String]) -> impl Iterator<Item = String> {
    let (shown, rest) = missing.split_at(missing.len().min(MAX_NAMED));
    let more = (!rest.is_empty()).then(|| format!("and {} more", rest.len()));
    shown.iter().cloned().chain(more)
}
