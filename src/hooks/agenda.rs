//! What to run when: told what files show and how runs ended, it says what to start, to signal and
//! to end. It knows no clock and no process; whoever asks brings the time.
//!
//! - What is told is compared with what was told before, so it may be told again at any time.
//! - What happened to a file waits for each hook of its part until the hook has run for it to a good
//!   end. However much happens meanwhile, it waits once, with what it amounts to.
//! - A hook in queue mode runs once at a time, for whatever part; in discard mode once at a time for
//!   each part, and what happens to that meanwhile is passed over; in parallel mode at once for each
//!   change. Beyond `max_parallel` all of them wait.
//! - A failure is tried again as often as the hook says. Then what it was for waits for the next
//!   change, or for another runner.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::journal::{Entry, Journal, KnownPart, Left, Pending, Target};
use super::{Digest, Event, Kind, Last, Outcome, Part, PartId, Plan, Shows, Standing, Told};
use crate::config::{Hook, RunMode, Stdin};

/// The longest time between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// Now, by the clock that only goes on, and by the one on the wall.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For what is due.
    pub at: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a command; answered by [`Agenda::ended`].
    Start(Box<Run>),
    /// Send the running command a signal.
    Notify {
        /// The run.
        run: u64,
        /// The signal.
        signal: i32,
    },
    /// Tell its process group to end.
    Terminate {
        /// The run.
        run: u64,
    },
    /// End its process group.
    Kill {
        /// The run.
        run: u64,
    },
}

/// One run of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// The hook, as it was when this began.
    pub hook: Arc<Hook>,
    /// What it runs for.
    pub part: Arc<Part>,
    /// Why.
    pub event: Event,
    /// The files it runs for, in order: what happened to each.
    pub files: Vec<Happened>,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The file, behind the path of the part.
    pub file: Arc<str>,
    /// Its znode, where that is known.
    pub znode: Option<Arc<str>>,
    /// What.
    pub event: Event,
    /// The version and the mzxid of what it shows, if it shows anything.
    pub version: Option<(i32, i64)>,
}

/// Everything there is to run.
#[derive(Debug, Default)]
pub struct Agenda {
    hooks: HashMap<Arc<str>, Queue>,
    parts: HashMap<PartId, State>,
    targets: BTreeMap<Target, Task>,
    runs: BTreeMap<u64, Running>,
    max_parallel: usize,
    /// The number of the last run.
    last_run: u64,
    /// The number of the last thing that happened.
    last_event: u64,
    /// What was known before there was a plan.
    before: Journal,
    actions: Vec<Action>,
    entries: Vec<Entry>,
    /// Whose standing is to be told.
    changed: BTreeSet<Target>,
}

/// A hook, and the parts that wait for it.
#[derive(Debug)]
struct Queue {
    hook: Arc<Hook>,
    waiting: BTreeSet<(Instant, PartId)>,
    n_running: usize,
}

/// A part.
#[derive(Debug)]
struct State {
    part: Arc<Part>,
    files: HashMap<Arc<str>, Shown>,
    /// Those that are known and were not told since the last plan.
    untold: HashSet<Arc<str>>,
    /// It was told what its files show: they can be found at their paths.
    is_there: bool,
    /// All its files were told once.
    is_loaded: bool,
}

/// What a file shows.
#[derive(Debug, Clone, Default)]
struct Shown {
    /// None where there is no file, and nobody thinks that there is.
    digest: Option<Digest>,
    version: Option<(i32, i64)>,
    znode: Option<Arc<str>>,
}

/// What a hook is to do for a part.
#[derive(Debug)]
struct Task {
    hook: Arc<Hook>,
    pending: BTreeMap<Arc<str>, Pending>,
    load: bool,
    /// When the first of what waits happened.
    since: Option<Instant>,
    /// When it is to start.
    due: Option<Instant>,
    splay: Option<Duration>,
    /// Where it stands in the queue of the hook.
    queued: Option<Instant>,
    /// How often it was tried again.
    n_retries: u32,
    standing: Standing,
}

/// A run that has not ended.
#[derive(Debug)]
struct Running {
    target: Target,
    hook: Arc<Hook>,
    covers: BTreeMap<Arc<str>, Pending>,
    load: bool,
    up_to: u64,
    began: Now,
    /// The next thing to do about one that takes too long.
    limit: Option<Limit>,
    pid: Option<u32>,
    timed_out: bool,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Terminate(Instant),
    Kill(Instant),
}

impl Agenda {
    /// Goes on from a journal.
    pub fn new(before: Journal) -> Self {
        let pending = before
            .targets
            .values()
            .flat_map(|left| left.pending.values());
        let last_event = pending.map(|pending| pending.number).max().unwrap_or(0);
        Self {
            before,
            last_event,
            max_parallel: 1,
            ..Self::default()
        }
    }

    /// What is configured from now on. `is_new` says that this mount has had no runner before: what
    /// hooks are to run for when the mount is new is due, and what files show is told anew.
    pub fn plan(&mut self, plan: &Plan, is_new: bool, now: Now) {
        self.max_parallel = plan.hooks.max_parallel.max(1);
        let wanted: HashSet<&PartId> = plan.parts.iter().map(|part| &part.id).collect();
        let gone: Vec<PartId> = self
            .parts
            .keys()
            .filter(|id| !wanted.contains(id))
            .cloned()
            .collect();
        for part in gone {
            self.parts.remove(&part);
            self.entries.push(Entry::Forgotten { part });
        }
        let hooks = plan.hooks.all.iter();
        let hooks: HashMap<&str, Arc<Hook>> = hooks
            .map(|hook| (hook.name.as_str(), Arc::new(hook.clone())))
            .collect();
        let targets: Vec<(Target, Arc<Hook>)> = plan
            .parts
            .iter()
            .flat_map(|part| part.hooks.iter().map(move |hook| (part, hook)))
            .filter_map(|(part, name)| {
                let hook = hooks.get(name.as_str())?;
                let target = Target {
                    hook: name.as_str().into(),
                    part: part.id.clone(),
                };
                Some((target, Arc::clone(hook)))
            })
            .collect();
        for part in &plan.parts {
            let part = Arc::new(part.clone());
            match self.parts.get_mut(&part.id) {
                Some(state) => state.becomes(part),
                None => {
                    let known = self.before.parts.remove(&part.id);
                    self.parts.insert(part.id.clone(), State::new(part, known));
                }
            }
        }
        let kept: BTreeSet<&Target> = targets.iter().map(|(target, _)| target).collect();
        let dropped: Vec<Target> = self
            .targets
            .keys()
            .filter(|target| !kept.contains(target))
            .cloned()
            .collect();
        for target in dropped {
            self.targets.remove(&target);
            self.entries.push(Entry::Dropped { target });
        }
        self.hooks
            .retain(|name, queue| hooks.contains_key(&**name) || queue.n_running > 0);
        for queue in self.hooks.values_mut() {
            queue.waiting.clear();
        }
        for hook in hooks.into_values() {
            let queue = self
                .hooks
                .entry(hook.name.as_str().into())
                .or_insert_with(|| Queue {
                    hook: Arc::clone(&hook),
                    waiting: BTreeSet::new(),
                    n_running: 0,
                });
            queue.hook = hook;
        }
        for (target, hook) in targets {
            if let Some(task) = self.targets.get_mut(&target) {
                task.hook = hook;
            } else {
                let left = self.before.targets.remove(&target);
                let is_known = left.is_some() && !is_new;
                let mut task = Task::new(hook, left, now);
                if task.hook.run_on_load && !is_known {
                    task.load = true;
                    task.since.get_or_insert(now.at);
                    task.due.get_or_insert(now.at);
                    self.entries.push(Entry::Load {
                        target: target.clone(),
                    });
                }
                self.targets.insert(target.clone(), task);
                self.changed.insert(target.clone());
            }
            self.enqueue(&target);
        }
        // Of what is not configured nobody asks again.
        let before = std::mem::take(&mut self.before);
        let parts = before
            .parts
            .into_keys()
            .map(|part| Entry::Forgotten { part });
        self.entries.extend(parts);
        let targets = before
            .targets
            .into_keys()
            .map(|target| Entry::Dropped { target });
        self.entries.extend(targets);
    }

    /// What a file shows.
    pub fn told(&mut self, told: &Told, now: Now) {
        let Some(state) = self.parts.get_mut(&told.part) else {
            return;
        };
        let was_there = state.is_there;
        let (mut learned, event) = state.told(told);
        // First what is to be run: what is cut short then is told again, and found to differ.
        if let Some(event) = event {
            self.raise(&told.part, (&told.file, Some(&told.znode)), event, now);
        }
        self.entries.append(&mut learned);
        let state = &self.parts[&told.part];
        if state.is_there && !was_there {
            if state.is_empty() {
                self.load_nothing(&told.part);
            }
            self.enqueue_all(&told.part);
        }
    }

    /// All that is there was told.
    pub fn complete(&mut self, now: Now) {
        let trees = self.parts.iter().filter(|(id, _)| id.kind == Kind::Tree);
        let trees: Vec<PartId> = trees.map(|(id, _)| id.clone()).collect();
        for id in trees {
            let Some(state) = self.parts.get_mut(&id) else {
                continue;
            };
            let gone: Vec<Arc<str>> = state.untold.drain().collect();
            for file in gone {
                if let Some(state) = self.parts.get_mut(&id)
                    && let Some(shown) = state.files.remove(&file)
                {
                    let znode = shown.znode.as_ref();
                    self.raise(&id, (&file, znode), Event::Deleted, now);
                    self.entries.push(Entry::Shows {
                        part: id.clone(),
                        file,
                        digest: None,
                    });
                }
            }
            let Some(state) = self.parts.get_mut(&id) else {
                continue;
            };
            if !state.is_loaded {
                state.is_loaded = true;
                self.entries.push(Entry::Loaded { part: id.clone() });
            }
            if !std::mem::replace(&mut state.is_there, true) {
                if state.is_empty() {
                    self.load_nothing(&id);
                }
                self.enqueue_all(&id);
            }
        }
    }

    /// The run is given the content that its file shows by now, which may be later than what was told.
    /// False where there is none any more: then there is nothing to run for, until that is told; or where
    /// it cannot be read, which is a failure of the run.
    pub fn gives(&mut self, run: u64, shows: &Shows, now: Now) -> bool {
        let Some(running) = self.runs.get_mut(&run) else {
            return false;
        };
        let (digest, version, mzxid) = match shows {
            Shows::Content {
                digest,
                version,
                mzxid,
            } => (digest, version, mzxid),
            Shows::Nothing => {
                self.withdraw(run);
                return false;
            }
            Shows::Something => {
                let why = "its content cannot be read now".into();
                self.ended(run, Outcome::NotStarted(why), now);
                return false;
            }
        };
        let target = running.target.clone();
        let Some(state) = self.parts.get_mut(&target.part) else {
            return true;
        };
        let file: Arc<str> = "".into();
        let shown = state.files.entry(Arc::clone(&file)).or_default();
        shown.version = Some((*version, *mzxid));
        if shown.digest.as_ref() != Some(digest) {
            shown.digest = Some(digest.clone());
            let znode = shown.znode.clone();
            self.raise(&target.part, (&file, znode.as_ref()), Event::Changed, now);
            self.entries.push(Entry::Shows {
                part: target.part.clone(),
                file,
                digest: Some(digest.clone()),
            });
        }
        // Whatever has happened by now, this run is for.
        self.dequeue(&target);
        if let (Some(task), Some(running)) =
            (self.targets.get_mut(&target), self.runs.get_mut(&run))
        {
            running.covers.append(&mut task.pending);
            running.up_to = self.last_event;
            (task.since, task.due, task.splay) = (None, None, None);
        }
        true
    }

    /// There is nothing to run for any more.
    fn withdraw(&mut self, run: u64) {
        let Some(running) = self.runs.remove(&run) else {
            return;
        };
        if let Some(queue) = self.hooks.get_mut(&running.target.hook) {
            queue.n_running -= 1;
        }
        let (target, up_to) = (running.target, running.up_to);
        if let Some(task) = self.targets.get_mut(&target)
            && let Some(last) = &mut task.standing.last
        {
            last.seconds = Some(0.0);
        }
        self.changed.insert(target.clone());
        self.entries.push(Entry::Done {
            target: target.clone(),
            up_to,
        });
        self.remind(&target);
    }

    /// The command of the run is this process.
    pub fn began(&mut self, run: u64, pid: u32, tag: Arc<str>) {
        let Some(running) = self.runs.get_mut(&run) else {
            return;
        };
        running.pid = Some(pid);
        self.entries.push(Entry::Began { pid, tag });
        if let Some(task) = self.targets.get_mut(&running.target) {
            task.standing.running.push(pid);
            self.changed.insert(running.target.clone());
        }
    }

    /// A run has ended.
    pub fn ended(&mut self, run: u64, outcome: Outcome, now: Now) {
        let Some(running) = self.runs.remove(&run) else {
            return;
        };
        if let Some(pid) = running.pid {
            self.entries.push(Entry::Ended { pid });
        }
        let target = running.target.clone();
        if let Some(queue) = self.hooks.get_mut(&target.hook) {
            queue.n_running -= 1;
        }
        let Some(task) = self.targets.get_mut(&target) else {
            return;
        };
        let is_good = !running.timed_out && is_good(&running.hook, &outcome);
        task.note(&running, outcome, is_good, now);
        if is_good {
            task.n_retries = 0;
            self.entries.push(Entry::Done {
                target: target.clone(),
                up_to: running.up_to,
            });
            self.remind(&target);
        } else {
            let newer = !task.pending.is_empty() || task.load;
            task.take_back(running);
            if !newer {
                task.due = (task.n_retries < task.hook.retries).then(|| {
                    let backoff = task
                        .hook
                        .backoff
                        .saturating_mul(1 << task.n_retries.min(20));
                    now.at + backoff.min(MAX_BACKOFF)
                });
                task.n_retries += u32::from(task.due.is_some());
            }
            self.remind(&target);
        }
        self.entries.push(Entry::Stands {
            target: target.clone(),
            standing: self.targets[&target].standing.clone(),
        });
        self.changed.insert(target.clone());
        self.enqueue(&target);
    }

    /// What is still to be run for, and what other runs see to, is so whatever was said to be done.
    fn remind(&mut self, target: &Target) {
        let Some(task) = self.targets.get(target) else {
            return;
        };
        let others = self.runs.values().filter(|run| run.target == *target);
        let loads = task.load || others.clone().any(|run| run.load);
        let covered = others.flat_map(|run| &run.covers);
        // What waits is later.
        let pending = covered.chain(&task.pending);
        let raised = pending.map(|(file, pending)| Entry::Raised {
            target: target.clone(),
            file: Arc::clone(file),
            pending: pending.clone(),
        });
        self.entries.extend(raised);
        if loads {
            let target = target.clone();
            self.entries.push(Entry::Load { target });
        }
    }

    /// What is to be done by now.
    pub fn next(&mut self, now: Now) -> Vec<Action> {
        let late: Vec<u64> = self
            .runs
            .iter()
            .filter(|(_, running)| running.limit.is_some_and(|limit| limit.at() <= now.at))
            .map(|(run, _)| *run)
            .collect();
        for run in late {
            if let Some(running) = self.runs.get_mut(&run) {
                let action = running.pass_limit(run, now.at);
                self.actions.extend(action);
            }
        }
        while self.runs.len() < self.max_parallel {
            let Some(target) = self.first_due(now.at) else {
                break;
            };
            self.start(&target, now);
        }
        std::mem::take(&mut self.actions)
    }

    /// When there will be more to do, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let limits = self
            .runs
            .values()
            .filter_map(|running| Some(running.limit?.at()));
        let has_room = self.runs.len() < self.max_parallel;
        let queues = self
            .hooks
            .values()
            .filter(|queue| has_room && queue.is_free());
        let due = queues.filter_map(|queue| Some(queue.waiting.first()?.0));
        limits.chain(due).min()
    }

    /// What is to be known by whoever goes on.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// All that is to be known.
    pub fn journal(&self) -> Journal {
        let parts = self
            .parts
            .iter()
            .map(|(id, state)| (id.clone(), state.known()));
        let targets = self.targets.iter().map(|(target, task)| {
            let mut left = Left {
                pending: task.pending.clone(),
                load: task.load,
                standing: task.standing.clone(),
            };
            for running in self
                .runs
                .values()
                .filter(|running| running.target == *target)
            {
                left.load |= running.load;
                for (file, pending) in &running.covers {
                    let entry = left.pending.entry(Arc::clone(file));
                    entry.or_insert_with(|| pending.clone());
                }
            }
            (target.clone(), left)
        });
        Journal {
            parts: parts.collect(),
            targets: targets.collect(),
            running: HashMap::new(),
        }
    }

    /// Those that stand otherwise than they did.
    pub fn take_changed(&mut self) -> BTreeSet<Target> {
        std::mem::take(&mut self.changed)
    }

    /// All that stand somehow.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.keys()
    }

    /// How long any command may take to end when it is told to.
    pub fn longest_kill_timeout(&self) -> Duration {
        let hooks = self.hooks.values().map(|queue| queue.hook.kill_timeout);
        let running = self.runs.values().map(|running| running.hook.kill_timeout);
        hooks.chain(running).max().unwrap_or_default()
    }

    /// How a hook stands with a part, if it does.
    pub fn standing(&self, target: &Target) -> Option<Standing> {
        let task = self.targets.get(target)?;
        let mut standing = task.standing.clone();
        standing.waits = task.due.is_some();
        Some(standing)
    }

    fn targets_of(&self, part: &PartId) -> impl Iterator<Item = Target> + use<'_> {
        let state = self.parts.get(part);
        let hooks = state.into_iter().flat_map(|state| state.part.hooks.iter());
        let part = part.clone();
        hooks.map(move |hook| Target {
            hook: hook.as_str().into(),
            part: part.clone(),
        })
    }

    /// Something happened to a file, for all hooks of the part.
    fn raise(
        &mut self,
        part: &PartId,
        (file, znode): (&Arc<str>, Option<&Arc<str>>),
        event: Event,
        now: Now,
    ) {
        self.last_event += 1;
        let number = self.last_event;
        let targets: Vec<Target> = self.targets_of(part).collect();
        for target in targets {
            let happens = Pending {
                event,
                number,
                znode: znode.cloned(),
            };
            self.raise_for(&target, file, happens, now.at);
        }
    }

    fn raise_for(&mut self, target: &Target, file: &Arc<str>, happens: Pending, now: Instant) {
        let Some(task) = self.targets.get_mut(target) else {
            return;
        };
        let runs = self
            .runs
            .iter()
            .filter(|(_, running)| running.target == *target);
        let runs: Vec<u64> = runs.map(|(run, _)| *run).collect();
        if task.hook.run_mode == RunMode::Discard && !runs.is_empty() {
            return;
        }
        if let (RunMode::Queue, Some(signal)) = (task.hook.run_mode, task.hook.notify_signal) {
            self.actions
                .extend(runs.into_iter().map(|run| Action::Notify { run, signal }));
        }
        let pending = Pending {
            event: match task.pending.get(file) {
                Some(before) => amounts_to(before.event, happens.event),
                None => happens.event,
            },
            ..happens
        };
        self.entries.push(Entry::Raised {
            target: target.clone(),
            file: Arc::clone(file),
            pending: pending.clone(),
        });
        task.pending.insert(Arc::clone(file), pending);
        task.n_retries = 0;
        task.is_due_after(now);
        self.changed.insert(target.clone());
        self.enqueue(target);
    }

    fn enqueue_all(&mut self, part: &PartId) {
        let targets: Vec<Target> = self.targets_of(part).collect();
        for target in targets {
            self.enqueue(&target);
        }
    }

    /// The task waits for its turn, where it has one.
    fn enqueue(&mut self, target: &Target) {
        self.dequeue(target);
        let (Some(task), Some(queue), Some(state)) = (
            self.targets.get_mut(target),
            self.hooks.get_mut(&target.hook),
            self.parts.get(&target.part),
        ) else {
            return;
        };
        if let (true, Some(due)) = (state.is_there, task.due) {
            queue.waiting.insert((due, target.part.clone()));
            task.queued = Some(due);
        }
    }

    fn dequeue(&mut self, target: &Target) {
        if let (Some(task), Some(queue)) = (
            self.targets.get_mut(target),
            self.hooks.get_mut(&target.hook),
        ) && let Some(due) = task.queued.take()
        {
            queue.waiting.remove(&(due, target.part.clone()));
        }
    }

    /// There is nothing for which a hook could run because something is new.
    fn load_nothing(&mut self, part: &PartId) {
        let targets: Vec<Target> = self.targets_of(part).collect();
        for target in targets {
            let Some(task) = self.targets.get_mut(&target).filter(|task| task.load) else {
                continue;
            };
            task.load = false;
            if task.pending.is_empty() {
                (task.since, task.due) = (None, None);
            }
            self.changed.insert(target.clone());
            self.entries.push(Entry::Done { target, up_to: 0 });
        }
    }

    fn first_due(&self, now: Instant) -> Option<Target> {
        let free = self.hooks.iter().filter(|(_, queue)| queue.is_free());
        let first = free.filter_map(|(hook, queue)| Some((queue.waiting.first()?, hook)));
        let ((due, part), hook) = first.min()?;
        (*due <= now).then(|| Target {
            hook: Arc::clone(hook),
            part: part.clone(),
        })
    }

    fn start(&mut self, target: &Target, now: Now) {
        self.dequeue(target);
        let (Some(task), Some(state)) =
            (self.targets.get_mut(target), self.parts.get(&target.part))
        else {
            return;
        };
        let covers = std::mem::take(&mut task.pending);
        let load = std::mem::take(&mut task.load);
        (task.since, task.due, task.splay) = (None, None, None);
        let hook = Arc::clone(&task.hook);
        let files = match load {
            true => state.all_files(),
            false => covers
                .iter()
                .map(|(file, it)| state.happened(file, it))
                .collect(),
        };
        let event = match (&*files, load) {
            (_, true) => Event::Load,
            ([only], false) => only.event,
            (_, false) => Event::Changed,
        };
        let version = match (&*files, target.part.kind) {
            ([only], Kind::Node) => only.version.map(|(version, _)| version),
            _ => None,
        };
        task.standing.last = Some(Last {
            started: seconds(now.wall),
            event,
            version,
            seconds: None,
            outcome: None,
            timed_out: false,
        });
        self.changed.insert(target.clone());
        if let Some(queue) = self.hooks.get_mut(&target.hook) {
            queue.n_running += 1;
        }
        self.last_run += 1;
        let limit = hook
            .timeout
            .map(|timeout| Limit::Terminate(now.at + timeout));
        let running = Running {
            target: target.clone(),
            hook: Arc::clone(&hook),
            covers,
            load,
            up_to: self.last_event,
            began: now,
            limit,
            pid: None,
            timed_out: false,
        };
        self.runs.insert(self.last_run, running);
        self.actions.push(Action::Start(Box::new(Run {
            number: self.last_run,
            hook,
            part: Arc::clone(&state.part),
            event,
            files,
        })));
    }
}

impl Queue {
    fn is_free(&self) -> bool {
        self.hook.run_mode != RunMode::Queue || self.n_running == 0
    }
}

impl State {
    fn new(part: Arc<Part>, known: Option<KnownPart>) -> Self {
        let KnownPart { files, is_loaded } = known.unwrap_or_default();
        let shown = |digest| Shown {
            digest,
            ..Shown::default()
        };
        let files = files
            .into_iter()
            .map(|(file, digest)| (file, shown(digest)));
        let mut state = Self {
            part: Arc::clone(&part),
            files: files.collect(),
            untold: HashSet::new(),
            // What they show, and of which version, is told anew.
            is_there: false,
            is_loaded,
        };
        state.becomes(part);
        state
    }

    /// The part is configured like this from now on.
    fn becomes(&mut self, part: Arc<Part>) {
        self.untold = self.files.keys().cloned().collect();
        self.part = part;
    }

    /// Whether no file of it is there.
    fn is_empty(&self) -> bool {
        self.files.values().all(|shown| shown.digest.is_none())
    }

    fn known(&self) -> KnownPart {
        let files = self.files.iter();
        KnownPart {
            files: files
                .map(|(file, shown)| (Arc::clone(file), shown.digest.clone()))
                .collect(),
            is_loaded: self.is_loaded,
        }
    }

    /// What is to be known from then on; and what happened, if anything did.
    fn told(&mut self, told: &Told) -> (Vec<Entry>, Option<Event>) {
        let mut entries = Vec::new();
        self.untold.remove(&told.file);
        let (digest, version) = match &told.shows {
            Shows::Content {
                digest,
                version,
                mzxid,
            } => (Some(digest.clone()), Some((*version, *mzxid))),
            Shows::Nothing => (None, None),
            Shows::Something => return (Vec::new(), None),
        };
        let before = self.files.get(&told.file).map(|shown| shown.digest.clone());
        let znode = Some(Arc::clone(&told.znode));
        let is_tree = self.part.id.kind == Kind::Tree;
        match (&digest, is_tree) {
            (None, true) => drop(self.files.remove(&told.file)),
            _ => {
                let shown = Shown {
                    digest: digest.clone(),
                    version,
                    znode,
                };
                self.files.insert(Arc::clone(&told.file), shown);
            }
        }
        if before.as_ref() != Some(&digest) && !(is_tree && before.is_none() && digest.is_none()) {
            entries.push(Entry::Shows {
                part: told.part.clone(),
                file: Arc::clone(&told.file),
                digest: digest.clone(),
            });
        }
        let is_first = !self.is_loaded;
        if !is_tree {
            self.is_there = true;
            if is_first {
                self.is_loaded = true;
                entries.push(Entry::Loaded {
                    part: told.part.clone(),
                });
            }
        }
        let event = match (before.flatten(), digest) {
            (None, Some(_)) => (!is_first).then_some(Event::Created),
            (Some(before), Some(now)) => (before != now).then_some(Event::Changed),
            (Some(_), None) => Some(Event::Deleted),
            (None, None) => None,
        };
        (entries, event)
    }

    fn happened(&self, file: &Arc<str>, what: &Pending) -> Happened {
        let shown = self.files.get(file);
        Happened {
            file: Arc::clone(file),
            znode: shown
                .and_then(|shown| shown.znode.clone())
                .or_else(|| what.znode.clone()),
            event: what.event,
            version: shown.and_then(|shown| shown.version),
        }
    }

    fn all_files(&self) -> Vec<Happened> {
        let there = self
            .files
            .iter()
            .filter(|(_, shown)| shown.digest.is_some());
        let loaded = Pending {
            event: Event::Load,
            number: 0,
            znode: None,
        };
        let mut all: Vec<_> = there
            .map(|(file, _)| self.happened(file, &loaded))
            .collect();
        all.sort_by(|one, other| one.file.cmp(&other.file));
        all
    }
}

impl Task {
    /// With what is left from before, which is due at once.
    fn new(hook: Arc<Hook>, left: Option<Left>, now: Now) -> Self {
        let Left {
            pending,
            load,
            mut standing,
        } = left.unwrap_or_default();
        standing.running.clear();
        let waits = load || !pending.is_empty();
        Self {
            hook,
            pending,
            load,
            since: waits.then_some(now.at),
            due: waits.then_some(now.at),
            splay: None,
            queued: None,
            n_retries: 0,
            standing,
        }
    }

    /// Something happened `now`: when to start, if nothing else happens.
    fn is_due_after(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let hook = &self.hook;
        let quiet = now + hook.wait_min;
        let latest = since + hook.wait_max.max(hook.wait_min);
        let splay = *self
            .splay
            .get_or_insert_with(|| hook.splay.mul_f64(fastrand::f64()));
        self.due = Some(quiet.min(latest) + splay);
    }

    /// What a run was for is still to be run for.
    fn take_back(&mut self, running: Running) {
        self.load |= running.load;
        for (file, before) in running.covers {
            match self.pending.get_mut(&file) {
                Some(since) => since.event = amounts_to(before.event, since.event),
                None => drop(self.pending.insert(file, before)),
            }
        }
    }

    fn note(&mut self, running: &Running, outcome: Outcome, is_good: bool, now: Now) {
        let standing = &mut self.standing;
        standing.running.retain(|pid| Some(*pid) != running.pid);
        standing.runs += 1;
        standing.failures += u64::from(!is_good);
        standing.failures_in_a_row = match is_good {
            true => 0,
            false => standing.failures_in_a_row + 1,
        };
        if let Some(last) = &mut standing.last {
            last.started = seconds(running.began.wall);
            last.seconds = Some((now.at - running.began.at).as_secs_f64());
            last.outcome = Some(outcome);
            last.timed_out = running.timed_out;
        }
    }
}

impl Running {
    fn pass_limit(&mut self, run: u64, now: Instant) -> Option<Action> {
        match self.limit? {
            Limit::Terminate(_) => {
                self.timed_out = true;
                self.limit = Some(Limit::Kill(now + self.hook.kill_timeout));
                Some(Action::Terminate { run })
            }
            Limit::Kill(_) => {
                self.limit = None;
                Some(Action::Kill { run })
            }
        }
    }
}

impl Limit {
    fn at(self) -> Instant {
        match self {
            Self::Terminate(at) | Self::Kill(at) => at,
        }
    }
}

/// What two things that happened to a file amount to.
fn amounts_to(first: Event, then: Event) -> Event {
    match (first, then) {
        (Event::Created, Event::Changed) => Event::Created,
        (Event::Deleted, Event::Created) => Event::Changed,
        (Event::Load, Event::Changed | Event::Created) => Event::Load,
        (_, then) => then,
    }
}

fn is_good(hook: &Hook, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Code(code) => u8::try_from(*code).is_ok_and(|code| hook.ok_codes.contains(&code)),
        Outcome::Signal(_) | Outcome::NotStarted(_) => false,
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Whether a run needs the content of its file.
pub fn wants_content(run: &Run) -> bool {
    run.hook.stdin == Stdin::Content
        && run.part.id.kind == Kind::Node
        && run
            .files
            .iter()
            .any(|file| file.version.is_some() && file.event != Event::Deleted)
}

#[cfg(test)]
mod tests;
