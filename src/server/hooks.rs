//! Has the runner know what files with hooks show.
//!
//! The publishing thread hints at what it has published, the thread here looks what that is, and
//! tells the runner. A runner is told everything anew when it comes; and when all of ZooKeeper was
//! heard of, it is told that this is all there is. So whatever is lost on the way, by the death of
//! whichever process, is told again, and the runner finds what differs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::net::Shutdown;

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

/// How soon a runner that is not understood is met again.
const AGAIN: Duration = Duration::from_secs(1);

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
    /// Where the runner keeps what must outlive the mount.
    kept_in: Option<Arc<OwnedFd>>,
    /// The log is to be opened anew.
    reopen: bool,
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

    /// Has the runner open its log anew.
    fn reopen(&self) {
        self.waiting.lock().reopen = true;
        self.more.notify_one();
    }

    /// Speaks with this runner from now on.
    pub(super) fn meet(self: &Arc<Self>, runner: Socket) {
        let spoken = runner.as_fd().try_clone_to_owned().map(Socket::from);
        let hooking = Arc::clone(self);
        let heard = spoken.and_then(|spoken| {
            let mut waiting = self.waiting.lock();
            waiting.runner = Some(spoken);
            // It was for the one before.
            waiting.asked.clear();
            drop(waiting);
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
            keeper: Arc::clone(&self.keeper),
            hooking: Arc::clone(&self.hooking),
            desk: Arc::clone(&self.desk),
            reader: self.reader.clone(),
            parts: Parts::default(),
            known: HashMap::new(),
            told: HashMap::new(),
            digests: HashMap::new(),
            asked: VecDeque::new(),
            runner: None,
            is_complete: false,
        };
        // Whoever asks first is to find it.
        self.plan_hooks();
        std::thread::Builder::new()
            .name("hooks".into())
            .spawn(move || speaking.run())
            .map_err(system("cannot start a thread"))?;
        Ok(())
    }

    /// The configuration is another one, perhaps: so may hooks be.
    pub(super) fn plan_hooks(&self) {
        let mut plan = plan(&self.config);
        plan.log_level = self.level().to_string();
        plan.is_kept = self.keep_hooks(plan.parts.is_empty());
        if self.hooking.plan(plan) {
            // A keeper that is gone takes us along.
            let _ = self.keeper.send(&ToKeeper::Hooks, &[]);
        }
    }

    /// The runner is to open its log anew.
    pub(super) fn reopen_log_of_hooks(&self) {
        self.hooking.reopen();
    }

    /// Finds a place for what must outlive the mount; not where the cache itself has none.
    fn keep_hooks(&self, has_none: bool) -> bool {
        let mut waiting = self.hooking.waiting.lock();
        let (Some(dir), Some(_), None, false) = (
            &self.config.cache_dir,
            &self.cache,
            &waiting.kept_in,
            has_none,
        ) else {
            return waiting.kept_in.is_some();
        };
        match cache::directory(dir, &self.start.mountpoint) {
            Ok(directory) => waiting.kept_in = Some(Arc::new(directory)),
            Err(err) => log::warn!("cache.dir: {err}; what hooks ran for is kept in memory only"),
        }
        waiting.kept_in.is_some()
    }
}

/// What the configuration says of hooks.
fn plan(config: &Config) -> Plan {
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
    let mut hooks = config.hooks.clone();
    // Where they are written is nothing to the runner.
    hooks.all.iter_mut().for_each(|hook| hook.line = 0);
    Plan {
        hooks,
        parts: nodes
            .chain(trees)
            .filter(|part| !part.hooks.is_empty())
            .collect(),
        is_kept: false,
        log_level: String::new(),
        log_file: config.log.file.clone(),
    }
}

/// The thread.
struct Speaking {
    keeper: Arc<Socket>,
    hooking: Arc<Hooking>,
    desk: Arc<Mutex<Desk>>,
    reader: Reader,
    parts: Parts,
    /// What files with hooks are known to show, heard of by this server.
    known: HashMap<FilePath, Hint>,
    /// What the runner was told.
    told: HashMap<FilePath, Told>,
    /// What is in the inodes of these files.
    digests: HashMap<FilePath, (Ino, Digest)>,
    /// It asks for these, and they are still to be published.
    asked: VecDeque<(u64, PartId)>,
    runner: Option<Socket>,
    /// The runner was told that this is all.
    is_complete: bool,
}

/// What there is to do.
struct Work {
    hints: HashMap<FilePath, Hint>,
    plan: Option<Arc<Plan>>,
    is_new: bool,
    kept_in: Option<Arc<OwnedFd>>,
    reopen: bool,
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
                self.digests.retain(|file, _| self.parts.of(file).is_some());
                self.told.clear();
                self.look(false);
            }
            if let Err(err) = self.go_on(work)
                && let Some(runner) = self.runner.take()
            {
                // Neither may believe that the other one listens.
                let _ = rustix::net::shutdown(&runner, Shutdown::Both);
                log::debug!("the runner is not spoken with any more: {err}");
                // One that has died is replaced; otherwise we meet again.
                std::thread::sleep(AGAIN);
                let _ = self.keeper.send(&ToKeeper::Estranged, &[]);
            }
        }
    }

    fn go_on(&mut self, work: Work) -> io::Result<()> {
        let is_another = work.runner.is_some();
        if let Some(runner) = work.runner {
            self.runner = Some(runner);
            self.is_complete = false;
            self.told.clear();
            self.asked.clear();
        }
        let mut files: Vec<FilePath> = work.hints.keys().cloned().collect();
        self.known.extend(work.hints);
        let is_all = is_another || work.is_new;
        if is_all {
            files = self.known.keys().cloned().collect();
        }
        if let (Some(runner), Some(plan), true) = (&self.runner, work.plan, is_all) {
            let text = memory("plan", &serde_json::to_vec(&*plan)?)?;
            let mut with = vec![text.as_fd()];
            with.extend(work.kept_in.as_deref().map(AsFd::as_fd));
            runner.send(&FromServer::Plan, &with)?;
        }
        if work.reopen {
            self.send(&FromServer::Reopen)?;
        }
        self.asked.extend(work.asked);
        self.answer()?;
        self.speak(files)?;
        self.complete()
    }

    fn wait(&self) -> Work {
        let mut waiting = self.hooking.waiting.lock();
        loop {
            let is_any = waiting.is_new
                || waiting.reopen
                || waiting.runner.is_some()
                || !waiting.asked.is_empty()
                || !waiting.hints.is_empty();
            let looks = self.runner.is_some() && !(self.is_complete && self.asked.is_empty());
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
                    kept_in: waiting.kept_in.clone(),
                    reopen: std::mem::take(&mut waiting.reopen),
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

    fn speak(&mut self, files: Vec<FilePath>) -> io::Result<()> {
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
        self.runner.as_ref()?;
        let hint = self.known.get(file)?.clone();
        let part = Arc::clone(self.parts.of(file)?);
        let name = file.to_string();
        let rest = name.strip_prefix(&part.dest)?.into();
        let (znode, shows) = match hint {
            Hint::Gone => match self.told.get(file) {
                Some(told) => (Arc::clone(&told.znode), Shows::Nothing),
                None => (part.znode.as_str().into(), Shows::Nothing),
            },
            Hint::Shows { znode, stat, ino } => {
                let shows = self.shows(file, &stat, ino);
                (znode.as_str().into(), shows)
            }
        };
        let told = Told {
            part: part.id.clone(),
            file: rest,
            znode,
            shows,
        };
        if self.told.get(file) == Some(&told) {
            return None;
        }
        if told.shows == Shows::Nothing && part.id.kind == Kind::Tree {
            // It may never come again; and what is not told before all is, is not there.
            self.known.remove(file);
            self.told.remove(file);
            self.digests.remove(file);
        } else {
            self.told.insert(file.clone(), told.clone());
        }
        Some(told)
    }

    /// What the file shows, if it is what was hinted at; something later is hinted at soon.
    fn shows(&mut self, file: &FilePath, stat: &Stat, hinted: Option<Ino>) -> Shows {
        let found = self.reader.find(file);
        let Some(ino) = found.filter(|ino| hinted.is_none_or(|hinted| hinted == *ino)) else {
            return Shows::Something;
        };
        let digest = match self.digests.get(file) {
            Some((known, digest)) if *known == ino => digest.clone(),
            Some(_) | None => {
                let Some(content) = self.content_of(ino) else {
                    return Shows::Something;
                };
                let digest = Digest::of(&content);
                self.digests.insert(file.clone(), (ino, digest.clone()));
                digest
            }
        };
        shows(digest, stat)
    }

    /// Gives the runner the content it asked for, where it is not about to change.
    fn answer(&mut self) -> io::Result<()> {
        let Some(runner) = &self.runner else {
            return Ok(());
        };
        for (run, part) in std::mem::take(&mut self.asked) {
            let Some((shows, content)) = self.content(&part) else {
                self.asked.push_back((run, part));
                continue;
            };
            let content = content.map(|content| memory("content", &content));
            let content = content.transpose()?;
            let with = content.as_ref().map(AsFd::as_fd);
            let answer = FromServer::Content { run, part, shows };
            runner.send(&answer, with.as_slice())?;
        }
        Ok(())
    }

    /// None where something was published of which nobody has said yet what it is.
    fn content(&self, part: &PartId) -> Option<(Shows, Option<Bytes>)> {
        let nothing = Some((Shows::Nothing, None));
        let mut parts = self.parts.0.iter();
        let Some((file, part)) = parts.find(|(_, found)| found.id == *part) else {
            return nothing;
        };
        let Some(ino) = self.reader.find(file) else {
            return nothing;
        };
        let Some(content) = self.content_of(ino) else {
            return Some((Shows::Something, None));
        };
        let stat = match self.known.get(file) {
            Some(Hint::Shows { stat, ino: of, .. }) if of.is_none_or(|of| of == ino) => *stat,
            Some(Hint::Shows { .. } | Hint::Gone) => return None,
            // What a server before has shown; of this one nobody has heard yet.
            None => self
                .reader
                .known_stat(&ZnodePath::parse(&part.znode).ok()?)?,
        };
        Some((shows(Digest::of(&content), &stat), Some(content)))
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
        self.speak(files)?;
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
