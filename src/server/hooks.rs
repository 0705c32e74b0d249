//! Has the runner know what files with hooks show.
//!
//! The publishing thread hints at what it has published, the thread here looks what that is, and
//! tells the runner. A runner is told everything anew when it comes; and when all of ZooKeeper was
//! heard of, it is told that this is all there is. So whatever is lost on the way, by the death of
//! whichever process, is told again, and the runner finds what differs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::configuration::memory;
use super::desk::Desk;
use super::{Error, Server, system};
use crate::cache;
use crate::config::Config;
use crate::content::Bytes;
use crate::hooks::{Digest, FromServer, Kind, Part, PartId, Plan, Shows, Standing, ToServer, Told};
use crate::path::{FilePath, ZnodePath};
use crate::processes::ToKeeper;
use crate::publish::Hint;
use crate::source::Stat;
use crate::status;
use crate::store::Reader;
use crate::tree::Ino;
use crate::wire::Socket;

/// The longest message of what files show, in bytes of what it is made of.
const MAX_MESSAGE: usize = 32 << 10;

/// How often it is looked whether everything was heard of.
const LOOK: Duration = Duration::from_millis(100);

/// What the threads of the server say to the one that speaks with the runner.
#[derive(Default)]
pub(super) struct Hooking {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// What was published and the runner does not know, the last of each file.
    hints: HashMap<FilePath, Hint>,
    /// What is to be gone by.
    plan: Option<Arc<Plan>>,
    /// It is another one.
    is_new: bool,
    parts: Parts,
    /// Another runner.
    runner: Option<Socket>,
    asked: VecDeque<(u64, PartId)>,
    standings: BTreeMap<(String, PartId), Standing>,
}

/// Which files belong to which parts.
#[derive(Default, Clone)]
struct Parts(HashMap<FilePath, Arc<Part>>);

impl Parts {
    fn new(plan: &Plan) -> Self {
        let parts = plan.parts.iter().filter_map(|part| {
            let dest = FilePath::parse(&part.dest).ok()?;
            Some((dest, Arc::new(part.clone())))
        });
        Self(parts.collect())
    }

    fn of(&self, file: &FilePath) -> Option<&Arc<Part>> {
        let here = self.0.get(file);
        let above = || {
            let trees = file.ancestors().filter_map(|above| self.0.get(&above));
            trees.into_iter().find(|part| part.id.kind == Kind::Tree)
        };
        here.or_else(above)
    }
}

impl Hooking {
    /// Something was published. Does not wait.
    pub(super) fn hint(&self, file: &FilePath, hint: Hint) {
        let mut waiting = self.waiting.lock();
        if !waiting.parts.0.is_empty() && waiting.parts.of(file).is_some() {
            waiting.hints.insert(file.clone(), hint);
            self.more.notify_one();
        }
    }

    /// Goes by this from now on; whether there is anything to run.
    fn plan(&self, plan: Plan) -> bool {
        let mut waiting = self.waiting.lock();
        let is_any = !plan.parts.is_empty();
        if waiting.plan.as_deref() != Some(&plan) && (is_any || waiting.plan.is_some()) {
            waiting.parts = Parts::new(&plan);
            waiting.plan = Some(Arc::new(plan));
            waiting.is_new = true;
            self.more.notify_one();
        }
        is_any
    }

    /// Speaks with this runner from now on.
    pub(super) fn meet(self: &Arc<Self>, runner: Socket) {
        let spoken = runner.as_fd().try_clone_to_owned().map(Socket::from);
        let hooking = Arc::clone(self);
        let heard = spoken.and_then(|spoken| {
            self.waiting.lock().runner = Some(spoken);
            let thread = std::thread::Builder::new().name("runner".into());
            thread.spawn(move || hooking.hear(&runner))
        });
        if let Err(err) = heard {
            log::error!("hooks wait: nobody hears their runner: {err}");
        }
        self.more.notify_one();
    }

    fn hear(&self, runner: &Socket) {
        while let Ok(Some((message, _))) = runner.receive::<ToServer>() {
            let mut waiting = self.waiting.lock();
            match message {
                ToServer::Content { run, part } => {
                    waiting.asked.push_back((run, part));
                    self.more.notify_one();
                }
                ToServer::Stands {
                    hook,
                    part,
                    standing,
                } => {
                    waiting.standings.insert((hook, part), standing);
                }
            }
        }
    }

    /// How all hooks stand, in the order of the configuration.
    pub(super) fn status(&self) -> Vec<status::Hook> {
        let waiting = self.waiting.lock();
        let Some(plan) = &waiting.plan else {
            return Vec::new();
        };
        let of_part = |part: &Part| {
            let hooks = part.hooks.iter().map(|hook| {
                let standing = waiting.standings.get(&(hook.clone(), part.id.clone()));
                status::Hook::new(hook, &part.id, standing.cloned().unwrap_or_default())
            });
            hooks.collect::<Vec<_>>()
        };
        plan.parts.iter().flat_map(of_part).collect()
    }
}

impl Server {
    /// Starts the thread that speaks with the runner.
    pub(super) fn start_hooking(&self) -> Result<(), Error> {
        let speaking = Speaking {
            hooking: Arc::clone(&self.hooking),
            desk: Arc::clone(&self.desk),
            reader: self.reader.clone(),
            parts: Parts::default(),
            known: HashMap::new(),
            told: HashMap::new(),
            runner: None,
            is_complete: false,
        };
        std::thread::Builder::new()
            .name("hooks".into())
            .spawn(move || speaking.run())
            .map_err(system("cannot start a thread"))?;
        self.plan_hooks();
        Ok(())
    }

    /// The configuration is another one, perhaps: so may hooks be.
    pub(super) fn plan_hooks(&self) {
        let mut plan = plan(&self.config, &self.start.mountpoint);
        plan.log_level = self.level().to_string();
        if self.hooking.plan(plan) {
            // A keeper that is gone takes us along.
            let _ = self.keeper.send(&ToKeeper::Hooks, &[]);
        }
    }
}

/// What the configuration says of hooks.
fn plan(config: &Config, mountpoint: &Path) -> Plan {
    let nodes = config.nodes.iter().map(|node| Part {
        id: PartId::node(&node.name),
        znode: node.source.as_str().into(),
        dest: node.dest.to_string(),
        hooks: node.hooks.clone(),
    });
    let trees = config.trees.iter().map(|tree| Part {
        id: PartId::tree(&tree.name),
        znode: tree.subtree.root().as_str().into(),
        dest: tree.dest.to_string(),
        hooks: tree.hooks.clone(),
    });
    Plan {
        hooks: config.hooks.clone(),
        parts: nodes
            .chain(trees)
            .filter(|part| !part.hooks.is_empty())
            .collect(),
        kept_in: config
            .cache_dir
            .as_ref()
            .map(|dir| cache::directory(dir, mountpoint)),
        log_level: String::new(),
        log_file: config.log.file.clone(),
    }
}

/// The thread.
struct Speaking {
    hooking: Arc<Hooking>,
    desk: Arc<Mutex<Desk>>,
    reader: Reader,
    parts: Parts,
    /// What files with hooks are known to show, heard of by this server.
    known: HashMap<FilePath, Hint>,
    /// What the runner was told.
    told: HashMap<FilePath, (Option<Ino>, Told)>,
    runner: Option<Socket>,
    /// The runner was told that this is all.
    is_complete: bool,
}

/// What there is to do.
struct Work {
    hints: HashMap<FilePath, Hint>,
    plan: Option<Arc<Plan>>,
    is_new: bool,
    runner: Option<Socket>,
    asked: VecDeque<(u64, PartId)>,
}

impl Speaking {
    fn run(mut self) {
        loop {
            let work = self.wait();
            if work.is_new
                && let Some(plan) = &work.plan
            {
                self.parts = Parts::new(plan);
                self.is_complete = false;
                self.known.retain(|file, _| self.parts.of(file).is_some());
                self.told.clear();
                self.look(false);
            }
            let is_another = work.runner.is_some();
            if let Some(runner) = work.runner {
                self.runner = Some(runner);
                self.is_complete = false;
                self.told.clear();
            }
            let mut files: Vec<FilePath> = work.hints.keys().cloned().collect();
            self.known.extend(work.hints);
            if is_another || work.is_new {
                files = self.known.keys().cloned().collect();
            }
            let spoken = self.speak(work.plan.filter(|_| is_another || work.is_new), files);
            let spoken = spoken.and_then(|()| self.answer(work.asked));
            if let Err(err) = spoken.and_then(|()| self.complete()) {
                // The keeper brings another.
                log::debug!("the runner is gone: {err}");
                self.runner = None;
            }
        }
    }

    fn wait(&self) -> Work {
        let mut waiting = self.hooking.waiting.lock();
        loop {
            let is_any = waiting.is_new
                || waiting.runner.is_some()
                || !waiting.asked.is_empty()
                || !waiting.hints.is_empty();
            let looks = self.runner.is_some() && !self.is_complete;
            let timed_out = match (is_any, looks) {
                (true, _) => true,
                (false, true) => self.hooking.more.wait_for(&mut waiting, LOOK).timed_out(),
                (false, false) => {
                    self.hooking.more.wait(&mut waiting);
                    false
                }
            };
            if is_any || timed_out {
                return Work {
                    hints: std::mem::take(&mut waiting.hints),
                    plan: waiting.plan.clone(),
                    is_new: std::mem::take(&mut waiting.is_new),
                    runner: waiting.runner.take(),
                    asked: std::mem::take(&mut waiting.asked),
                };
            }
        }
    }

    /// Takes what is known already of files that nobody hinted at; with `all` also of those that
    /// were not heard of.
    fn look(&mut self, all: bool) {
        let publishing = Arc::clone(&self.desk.lock().publishing);
        // What is known then is to be found in the tree, or hinted at later.
        publishing.flush();
        let found = self.desk.lock().files.shown_with_hooks(all);
        for (file, hint) in found {
            self.known.entry(file).or_insert(hint);
        }
    }

    fn speak(&mut self, plan: Option<Arc<Plan>>, files: Vec<FilePath>) -> io::Result<()> {
        if let (Some(runner), Some(plan)) = (&self.runner, plan) {
            let text = serde_json::to_vec(&*plan)?;
            runner.send(&FromServer::Plan, &[memory("plan", &text)?.as_fd()])?;
        }
        let (mut all, mut n_bytes) = (Vec::new(), 0);
        for file in files {
            if let Some(told) = self.tell(&file) {
                n_bytes += 256 + told.file.len() + told.znode.len();
                all.push(told);
            }
            if n_bytes > MAX_MESSAGE {
                self.send(&FromServer::Told(std::mem::take(&mut all)))?;
                n_bytes = 0;
            }
        }
        match all.is_empty() {
            true => Ok(()),
            false => self.send(&FromServer::Told(all)),
        }
    }

    fn send(&self, message: &FromServer) -> io::Result<()> {
        match &self.runner {
            Some(runner) => runner.send(message, &[]),
            None => Ok(()),
        }
    }

    /// What is to be told of a file, if the runner does not know it.
    fn tell(&mut self, file: &FilePath) -> Option<Told> {
        let runner = self.runner.is_some();
        let (Some(hint), Some(part), true) = (self.known.get(file), self.parts.of(file), runner)
        else {
            return None;
        };
        let before = self.told.get(file);
        let (ino, znode, shows) = match hint {
            Hint::Gone => {
                let znode: Arc<str> = match before {
                    Some((_, told)) => Arc::clone(&told.znode),
                    None => part.znode.as_str().into(),
                };
                (None, znode, Shows::Nothing)
            }
            Hint::Shows(znode, stat) => {
                let ino = self.reader.find(file)?;
                let digest = match before {
                    Some((
                        known,
                        Told {
                            shows: Shows::Content { digest, .. },
                            ..
                        },
                    )) if *known == Some(ino) => Some(digest.clone()),
                    _ => self.content_of(ino).map(|content| Digest::of(&content)),
                };
                let shows = digest.map_or(Shows::Something, |digest| shows(digest, stat));
                (Some(ino), znode.as_str().into(), shows)
            }
        };
        let told = Told {
            part: part.id.clone(),
            file: file.to_string().into(),
            znode,
            shows,
        };
        if before.is_some_and(|(_, before)| *before == told) {
            return None;
        }
        self.told.insert(file.clone(), (ino, told.clone()));
        if ino.is_none() && part.id.kind == Kind::Tree {
            // It may never come again.
            self.known.remove(file);
            self.told.remove(file);
        }
        Some(told)
    }

    /// Gives the runner the content it asked for.
    fn answer(&self, asked: VecDeque<(u64, PartId)>) -> io::Result<()> {
        let Some(runner) = &self.runner else {
            return Ok(());
        };
        for (run, part) in asked {
            let (shows, content) = self.content(&part);
            let content = content
                .map(|content| memory("content", &content))
                .transpose()?;
            let with = content.as_ref().map(AsFd::as_fd);
            runner.send(&FromServer::Content { run, shows }, with.as_slice())?;
        }
        Ok(())
    }

    fn content(&self, part: &PartId) -> (Shows, Option<Bytes>) {
        let mut parts = self.parts.0.iter();
        let Some((file, part)) = parts.find(|(_, found)| found.id == *part) else {
            return (Shows::Nothing, None);
        };
        let Some(ino) = self.reader.find(file) else {
            return (Shows::Nothing, None);
        };
        let stat = match self.known.get(file) {
            Some(Hint::Shows(_, stat)) => Some(*stat),
            // What a server before has shown; of this one nobody has heard yet.
            Some(Hint::Gone) | None => {
                let znode = ZnodePath::parse(&part.znode).ok();
                znode.and_then(|znode| self.reader.known_stat(&znode))
            }
        };
        match (self.content_of(ino), stat) {
            (Some(content), Some(stat)) => (shows(Digest::of(&content), &stat), Some(content)),
            (None, _) | (_, None) => (Shows::Something, None),
        }
    }

    /// The content of a file, where it can be read.
    fn content_of(&self, ino: Ino) -> Option<Bytes> {
        self.reader.content(ino)?.bytes().ok()
    }

    /// Tells the runner that this is all, once everything was heard of.
    fn complete(&mut self) -> io::Result<()> {
        if self.is_complete || self.runner.is_none() || !self.desk.lock().files.is_all_heard() {
            return Ok(());
        }
        self.look(true);
        let files = self.known.keys().cloned().collect();
        self.speak(None, files)?;
        self.is_complete = true;
        self.send(&FromServer::Complete)
    }
}

fn shows(digest: Digest, stat: &Stat) -> Shows {
    Shows::Content {
        digest,
        version: stat.version,
        mzxid: stat.mzxid,
    }
}
