//! The runner process: starts the commands that hooks name, keeps to their limits, and remembers what
//! they were run for.
//!
//! It holds no `/dev/fuse` and never touches the mount, so a mount that is not served just then does
//! not hold it up; and it outlives the server, which tells a successor's runner nothing it does not
//! know. One thread and one poll(2): commands die with the thread that started them.
//!
//! What to run when is decided by [`Agenda`]; before anything is done about it, what a runner after
//! this one must know is in the journal, in memory that the keeper holds (`kept`) and, where there is a
//! cache, on disk.

mod command;
mod disk;
mod environment;
mod kept;
mod output;
mod remnants;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::config::{OnUnmount, Stdin};
use crate::hooks::agenda::{Action, Agenda, Now, Run, wants_content};
use crate::hooks::journal::{Journal, Target};
use crate::hooks::{FromRunner, FromServer, Outcome, Plan, Shows, ToRunner, ToServer};
use crate::keeper;
use crate::logging::{self, Logging};
use crate::wire::Socket;
use command::{Group, Started};
use disk::Disk;
use kept::Kept;
use output::Output;

/// How many messages are taken at once.
const MOST_MESSAGES: usize = 256;

/// The most background processes of ended commands whose output is still read.
const MOST_OUTPUTS: usize = 64;

/// The main of the runner process.
pub fn main() -> ExitCode {
    let logging = logging::start(LevelFilter::Info);
    let keeper = match connect() {
        Ok(keeper) => keeper,
        Err(err) => {
            eprintln!("livedata-fuse: this command is for `livedata-fuse mount` to start: {err}");
            return ExitCode::from(2);
        }
    };
    match run(keeper, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            log::error!("the runner: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket to the keeper from stdin.
fn connect() -> io::Result<Socket> {
    keeper::bind_to_parent("livedata-runner")?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Socket::from(socket))
}

fn run(keeper: Socket, logging: Logging) -> io::Result<()> {
    let signals = catch_signals()?;
    // Whatever a command leaves behind is ours to bury.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let Some((
        ToRunner::Start {
            mountpoint,
            debug,
            background,
            first,
        },
        mut with,
    )) = keeper.receive()?
    else {
        return Err(io::Error::other("the keeper is not understood"));
    };
    logging.set_level(match debug {
        true => LevelFilter::Debug,
        false => LevelFilter::Info,
    });
    rustix::io::ioctl_fionbio(&keeper, true)?;
    let runner = Runner {
        keeper,
        server: None,
        outbox: VecDeque::new(),
        unsent: BTreeSet::new(),
        signals,
        logging,
        mountpoint,
        debug,
        background,
        is_first: first,
        tag: format!("{:016x}", fastrand::u64(..)),
        plan: None,
        agenda: Agenda::default(),
        handed: with.pop(),
        kept: None,
        disk: None,
        asking: HashMap::new(),
        commands: HashMap::new(),
        outputs: Vec::new(),
        left_groups: Vec::new(),
        retires: false,
        ends: None,
    };
    runner.live()
}

fn catch_signals() -> io::Result<SignalDelivery<UnixStream, SignalOnly>> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    // The keeper says when to end; a signal for all processes of a service is no news.
    SignalDelivery::with_pipe(read, write, SignalOnly, [SIGCHLD, SIGTERM, SIGINT, SIGHUP])
}

struct Runner {
    keeper: Socket,
    server: Option<Socket>,
    /// What the server could not take yet.
    outbox: VecDeque<ToServer>,
    /// How these stand is to be told.
    unsent: BTreeSet<Target>,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    logging: Logging,
    mountpoint: PathBuf,
    debug: bool,
    background: bool,
    /// There was no runner before this one for this mount.
    is_first: bool,
    /// What the commands of this runner are known by.
    tag: String,
    plan: Option<Plan>,
    agenda: Agenda,
    /// The journal of the runner before.
    handed: Option<OwnedFd>,
    kept: Option<Kept>,
    disk: Option<Disk>,
    /// They wait for content.
    asking: HashMap<u64, Run>,
    commands: HashMap<u64, Started>,
    outputs: Vec<Output>,
    /// Process groups of ended commands that are not empty.
    left_groups: Vec<Group>,
    retires: bool,
    ends: Option<Ending>,
}

/// The mount has ended.
struct Ending {
    /// When those that were told to end are killed.
    kill_at: Option<Instant>,
    /// When to go, whatever is left.
    until: Option<Instant>,
}

impl Runner {
    fn live(mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.signals.pending().for_each(drop);
            self.hear_keeper()?;
            self.hear_server()?;
            self.read_outputs();
            self.reap();
            if self.ends.is_some() {
                if self.is_over() {
                    return Ok(());
                }
                continue;
            }
            self.act()?;
            if self.retires && self.commands.is_empty() && self.asking.is_empty() {
                log::info!("the runner makes room for the new program");
                return Ok(());
            }
            self.send();
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut poll = vec![
            PollFd::new(self.signals.get_read(), PollFlags::IN),
            PollFd::new(&self.keeper, PollFlags::IN),
        ];
        if self.ends.is_some() {
            // It has nothing more to say, and may be gone.
            poll.pop();
        }
        if let Some(server) = &self.server {
            let out = match self.outbox.is_empty() {
                true => PollFlags::empty(),
                false => PollFlags::OUT,
            };
            poll.push(PollFd::new(server, PollFlags::IN | out));
        }
        let now = Instant::now();
        let mut deadline = match &self.ends {
            None => self.agenda.deadline(),
            Some(ending) => ending.kill_at.into_iter().chain(ending.until).min(),
        };
        for output in &self.outputs {
            match output.paused_until(now) {
                None => poll.push(PollFd::new(output, PollFlags::IN)),
                Some(at) => deadline = Some(deadline.map_or(at, |deadline| deadline.min(at))),
            }
        }
        let limit = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(now) + Duration::from_micros(1);
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 3600,
                tv_nsec: 0,
            })
        });
        match rustix::event::poll(&mut poll, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    fn hear_keeper(&mut self) -> io::Result<()> {
        if self.ends.is_some() {
            return Ok(());
        }
        loop {
            match self.keeper.receive() {
                Ok(Some((ToRunner::Server, with))) => {
                    let socket = with.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
                    rustix::io::ioctl_fionbio(&socket, true)?;
                    self.meet(Socket::from(socket));
                }
                Ok(Some((ToRunner::Retire, _))) => self.retires = true,
                Ok(Some((ToRunner::End, _)) | None) => {
                    self.begin_to_end();
                    return Ok(());
                }
                Ok(Some((ToRunner::Start { .. }, _))) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err),
            }
        }
    }

    /// Another server.
    fn meet(&mut self, server: Socket) {
        self.server = Some(server);
        self.outbox.clear();
        self.unsent = self.agenda.targets().cloned().collect();
        for run in self.asking.values() {
            self.outbox.push_back(ask(run));
        }
    }

    fn hear_server(&mut self) -> io::Result<()> {
        for _ in 0..MOST_MESSAGES {
            let Some(server) = &self.server else {
                return Ok(());
            };
            match server.receive() {
                Ok(Some((message, with))) => self.take(message, with)?,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(None) => self.server = None,
                Err(err) => {
                    // Another version of the program may know what that means.
                    log::warn!("the server is not understood: {err}");
                    self.server = None;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, message: FromServer, with: Vec<OwnedFd>) -> io::Result<()> {
        let mut with = with.into_iter();
        let content = with.next();
        match message {
            FromServer::Plan => {
                let text = content.ok_or(io::ErrorKind::InvalidData)?;
                match serde_json::from_slice(&kept::read_all(&text)?) {
                    Ok(plan) => self.follow(plan, with.next())?,
                    Err(err) => {
                        // Another version of the program knows what it means, and comes soon.
                        log::warn!("the plan for hooks is not understood: {err}");
                        self.server = None;
                    }
                }
            }
            FromServer::Reopen => {
                if let (Some(plan), true) = (&self.plan, self.background) {
                    self.logging.reopen(plan.log_file.as_deref());
                }
            }
            FromServer::Told(all) => {
                let now = now();
                for told in &all {
                    self.agenda.told(told, now);
                }
            }
            FromServer::Complete => {
                self.agenda.complete(now());
                log::info!("hooks know what is there");
            }
            FromServer::Content { run, part, shows } => {
                let is_it = |asking: &Run| asking.part.id == part;
                if !self.asking.get(&run).is_some_and(is_it) {
                    // A runner before this one has asked.
                    return Ok(());
                }
                let Some(asking) = self.asking.remove(&run) else {
                    return Ok(());
                };
                if self.agenda.gives(run, &shows, now()) {
                    self.launch(asking, content, Some(&shows));
                }
            }
        }
        Ok(())
    }

    /// This is the plan from now on.
    fn follow(&mut self, plan: Plan, directory: Option<OwnedFd>) -> io::Result<()> {
        let level = plan.log_level.parse().unwrap_or(LevelFilter::Info);
        self.logging.set_level(match self.debug {
            true => LevelFilter::Debug,
            false => level,
        });
        if self.background {
            let file = plan.log_file.as_deref();
            match self.plan.is_none() {
                true => {
                    if let Err(err) = self.logging.leave_stderr(file) {
                        log::debug!("nothing is logged: {err}");
                    }
                }
                false => self.logging.reopen(file),
            }
        }
        if self.kept.is_none() {
            self.go_on(&plan, directory)?;
        }
        let begins = self.plan.is_none();
        self.agenda.plan(&plan, self.is_first && begins, now());
        self.write()?;
        if let (true, Some(kept)) = (begins, &self.kept) {
            // Not before: whoever is handed a journal does not run for what is new once more.
            kept.hand_over(&self.keeper)?;
        }
        let dies = plan.hooks.on_unmount == OnUnmount::Kill;
        rustix::process::set_parent_process_death_signal(dies.then_some(Signal::KILL))?;
        let patience = dies.then(|| {
            let longest = self.agenda.longest_kill_timeout().as_millis();
            longest.try_into().unwrap_or(u64::MAX)
        });
        let _ = self.keeper.send(&FromRunner::Patience(patience), &[]);
        self.plan = Some(plan);
        Ok(())
    }

    /// Goes on with what the runner before knew, of this mount or of the one before it.
    fn go_on(&mut self, plan: &Plan, directory: Option<OwnedFd>) -> io::Result<()> {
        self.disk = directory.and_then(Disk::open);
        let text = match (self.handed.take(), &self.disk) {
            (Some(handed), _) => kept::read_all(&handed)?,
            (None, Some(disk)) => disk.wait_for_text(),
            (None, None) => Vec::new(),
        };
        let (mut journal, damaged) = Journal::read(&text);
        if damaged && self.is_first {
            log::warn!("what was kept of hooks is damaged at its end: some may run again");
        }
        let running = std::mem::take(&mut journal.running);
        if !self.is_first || plan.hooks.on_unmount == OnUnmount::Kill {
            remnants::end(&running);
        }
        let kept = Kept::create(&journal)?;
        if let Some(disk) = &self.disk {
            disk.rewrite(kept::text(&journal));
        }
        self.kept = Some(kept);
        self.agenda = Agenda::new(journal);
        Ok(())
    }

    /// Does what is to be done by now; what it must be known for is written before.
    fn act(&mut self) -> io::Result<()> {
        loop {
            let actions = self.agenda.next(now());
            self.write()?;
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(run) if wants_content(&run) => {
                self.outbox.push_back(ask(&run));
                self.asking.insert(run.number, *run);
            }
            Action::Start(run) => self.launch(*run, None, None),
            Action::Notify { run, signal } => {
                if let Some(started) = self.commands.get(&run) {
                    started.notify(signal);
                }
            }
            Action::Terminate { run } => match self.commands.get_mut(&run) {
                Some(started) => {
                    started.is_told = true;
                    log::warn!("{}: it takes too long, and is told to end", started.name);
                    started.group.signal(Signal::TERM);
                }
                // It has not even begun.
                None => {
                    if self.asking.remove(&run).is_some() {
                        let why = "its content did not come in time".into();
                        self.agenda.ended(run, Outcome::NotStarted(why), now());
                    }
                }
            },
            Action::Kill { run } => {
                if let Some(started) = self.commands.get(&run) {
                    log::warn!("{}: it does not end, and is killed", started.name);
                    started.group.signal(Signal::KILL);
                }
            }
        }
    }

    fn launch(&mut self, run: Run, content: Option<OwnedFd>, shows: Option<&Shows>) {
        let Some(plan) = &self.plan else {
            return;
        };
        let name = format!("hook {} for {}", run.hook.name, run.part.id);
        let number = run.number;
        let tag: std::sync::Arc<str> = format!("{}-{number}", self.tag).into();
        let started = (|| {
            let stdin = match (content, run.hook.stdin) {
                (Some(content), _) => Some(command::reopened(&content)?),
                (None, Stdin::Events) => Some(environment::events(&self.mountpoint, &run)?),
                (None, Stdin::Nothing | Stdin::Content) => None,
            };
            let mut variables = environment::variables(&self.mountpoint, &run, shows);
            variables.push(("LIVEDATA_RUN", tag.to_string()));
            let dies_with_us = plan.hooks.on_unmount == OnUnmount::Kill;
            command::start(name.clone(), &run.hook, variables, stdin, dies_with_us)
        })();
        match started {
            Ok((started, output)) => {
                log::debug!(
                    "{name}: {}, process {}",
                    run.event.as_str(),
                    started.group.pid()
                );
                self.agenda.began(number, started.group.pid(), tag);
                self.commands.insert(number, started);
                self.outputs.push(output);
            }
            Err(err) => {
                log::warn!("{name}: it cannot be started: {err}");
                self.agenda
                    .ended(number, Outcome::NotStarted(err.to_string()), now());
            }
        }
    }

    fn read_outputs(&mut self) {
        let now = Instant::now();
        self.outputs.retain_mut(|output| output.read(now));
        // The oldest are those of background processes, whose commands have ended.
        let most = MOST_OUTPUTS + self.commands.len();
        if self.outputs.len() > most {
            self.outputs.drain(..self.outputs.len() - most);
        }
    }

    /// Finds out which commands have ended; and buries what they left.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            let run = self.commands.iter().find(|(_, it)| it.group.pid() == pid);
            let Some(run) = run.map(|(run, _)| *run) else {
                continue;
            };
            if let Some(output) = self.outputs.iter_mut().find(|output| output.pid == pid) {
                output.read(Instant::now());
            }
            if let Some(started) = self.commands.get_mut(&run) {
                started.ended = Some(outcome(status));
            }
        }
        // One that was told to end has ended when all of its group has: it is not to run beside what
        // is left of it.
        let is_over = |started: &Started| {
            started.ended.is_some() && !(started.is_told && started.group.has_members())
        };
        let over = self.commands.iter().filter(|(_, it)| is_over(it));
        let over: Vec<u64> = over.map(|(run, _)| *run).collect();
        for run in over {
            let Some(mut started) = self.commands.remove(&run) else {
                continue;
            };
            let Some(outcome) = started.ended.take() else {
                continue;
            };
            let took = started.since.elapsed();
            match outcome {
                Outcome::Code(0) => log::info!("{}: done in {took:.1?}", started.name),
                _ => log::warn!("{}: {outcome} after {took:.1?}", started.name),
            }
            if started.group.has_members() {
                self.left_groups.push(started.group);
            }
            if self.ends.is_none() {
                self.agenda.ended(run, outcome, now());
            }
        }
        self.left_groups.retain(Group::has_members);
    }

    /// Writes what must outlive this process.
    fn write(&mut self) -> io::Result<()> {
        let entries = self.agenda.take_entries();
        let is_behind = self.disk.as_ref().is_some_and(Disk::is_behind);
        let (Some(kept), false) = (&mut self.kept, entries.is_empty()) else {
            return Ok(());
        };
        let text = kept.append(&entries)?;
        if let Some(disk) = &self.disk {
            disk.append(&text);
        }
        if kept.wants_rewriting() || is_behind {
            let mut journal = self.agenda.journal();
            let commands = self.commands.iter();
            journal.running = commands
                .map(|(run, it)| (it.group.pid(), format!("{}-{run}", self.tag).into()))
                .collect();
            let anew = Kept::create(&journal)?;
            anew.hand_over(&self.keeper)?;
            *kept = anew;
            if let Some(disk) = &self.disk {
                disk.rewrite(kept::text(&journal));
            }
        }
        Ok(())
    }

    /// Tells the server what it can take.
    fn send(&mut self) {
        self.unsent.extend(self.agenda.take_changed());
        let Some(server) = &self.server else {
            return;
        };
        loop {
            if self.outbox.is_empty()
                && let Some(target) = self.unsent.pop_first()
                && let Some(standing) = self.agenda.standing(&target)
            {
                self.outbox.push_back(ToServer::Stands {
                    hook: target.hook.to_string(),
                    part: target.part,
                    standing,
                });
            }
            let Some(message) = self.outbox.front() else {
                if self.unsent.is_empty() {
                    return;
                }
                continue;
            };
            match server.send(message, &[]) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The keeper brings the next one.
                    self.server = None;
                    return;
                }
            }
        }
    }

    /// The mount has ended: so do the commands, if they are to.
    fn begin_to_end(&mut self) {
        let plan = self.plan.take();
        // The next mount's runner keeps what it knows at the same place.
        if let Some(disk) = self.disk.take() {
            if disk.has_hole() {
                disk.rewrite(kept::text(&self.agenda.journal()));
            }
            disk.finish();
        }
        self.asking.clear();
        let dies = plan.is_none_or(|plan| plan.hooks.on_unmount == OnUnmount::Kill);
        if !dies {
            self.ends = Some(Ending {
                kill_at: None,
                until: None,
            });
            return;
        }
        let kill_at = Instant::now() + self.agenda.longest_kill_timeout();
        self.signal_all(Signal::TERM);
        self.ends = Some(Ending {
            kill_at: Some(kill_at),
            until: Some(kill_at + Duration::from_secs(1)),
        });
    }

    fn signal_all(&self, signal: Signal) {
        let groups = self.commands.values().map(|started| &started.group);
        groups
            .chain(&self.left_groups)
            .for_each(|group| group.signal(signal));
    }

    /// Whether nothing is left to wait for.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let Some(ending) = &mut self.ends else {
            return false;
        };
        let must_kill = ending.kill_at.take_if(|at| *at <= now).is_some();
        let gives_up = ending.until.is_some_and(|at| at <= now);
        let waits_for_groups = ending.until.is_some();
        if must_kill {
            self.signal_all(Signal::KILL);
        }
        let is_quiet =
            self.commands.is_empty() && (!waits_for_groups || self.left_groups.is_empty());
        is_quiet || gives_up
    }
}

fn ask(run: &Run) -> ToServer {
    ToServer::Content {
        run: run.number,
        part: run.part.id.clone(),
    }
}

fn now() -> Now {
    Now {
        at: Instant::now(),
        wall: SystemTime::now(),
    }
}

fn outcome(status: WaitStatus) -> Outcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Outcome::Code(code),
        (None, Some(signal)) => Outcome::Signal(signal),
        (None, None) => Outcome::Signal(0),
    }
}
