//! A mirror over the fake service, and a record of both that finds every untruth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use livedata::mirror::{Command, Mirror, Reason, Update, Wanted};
use livedata::path::ZnodePath;
use livedata::source::fake::FakeZooKeeper;
use livedata::source::{Told, Value};
use livedata::subtree::Subtree;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a file server would show of one znode.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) content: Option<Value>,
    pub(super) unreadable: Option<Reason>,
    /// When the content was last told or confirmed.
    pub(super) confirmed: Option<Instant>,
    /// Something was heard of it.
    pub(super) is_heard: bool,
    /// Whether it was told to have children.
    pub(super) has_children: bool,
    /// The order of the newest content ever shown: no later content may be older.
    highest: Option<(i64, i64)>,
}

/// What the service held and what the mirror told, both with their times.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) shown: BTreeMap<String, Shown>,
    pub(super) history: Vec<(Instant, Update)>,
    pub(super) is_connected: bool,
    /// What each path became, and when.
    truth: BTreeMap<String, Vec<(Instant, Option<Value>)>>,
    wanted: BTreeSet<String>,
    trees: Vec<Subtree>,
    /// Removed by a command that the mirror may not have heard of yet.
    leaving: BTreeSet<String>,
    leaving_trees: Vec<Subtree>,
    /// Older content may be told, as history was rewound.
    rewound: bool,
    /// What a lost watch hid may be confirmed.
    lossy: bool,
    untruths: Vec<String>,
}

/// Changes the service, and has it written down. Clones are the same hand.
#[derive(Debug, Clone)]
pub(super) struct Hand {
    pub(super) zookeeper: FakeZooKeeper,
    pub(super) book: Arc<Mutex<Book>>,
}

/// The service and a running mirror of it.
#[derive(Debug)]
pub(super) struct World {
    hand: Hand,
    commands: Option<UnboundedSender<Command<FakeZooKeeper>>>,
    mirror: JoinHandle<()>,
}

pub(super) fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Hand {
    pub(super) fn new(seed: u64) -> Self {
        // The jitter of the mirror.
        fastrand::seed(seed);
        Self {
            zookeeper: FakeZooKeeper::new(seed),
            book: Arc::default(),
        }
    }

    /// Creates it, or sets it where it is.
    pub(super) fn put(&self, path: &str, content: &str) {
        if self.zookeeper.set(path, content).is_err() {
            self.zookeeper.create(path, content).unwrap();
        }
        self.note(path);
        for (end, _) in path.match_indices('/') {
            self.note(&path[..end.max(1)]);
        }
    }

    pub(super) fn delete(&self, path: &str) {
        self.zookeeper.delete(path).unwrap();
        self.note_all();
    }

    /// Restores an older state; what is older may be shown from now on.
    pub(super) fn rewind(&self, zxid: i64) {
        self.zookeeper.rewind(zxid);
        self.note_all();
        self.book.lock().rewind_is_known();
    }

    pub(super) fn wipe(&self) {
        self.zookeeper.wipe();
        self.note_all();
    }

    fn note_all(&self) {
        let paths: Vec<String> = self.book.lock().truth.keys().cloned().collect();
        for path in paths {
            self.note(&path);
        }
    }

    fn note(&self, path: &str) {
        let now = self.zookeeper.get(path);
        let mut book = self.book.lock();
        let states = book.truth.entry(path.into()).or_default();
        if states.last().is_none_or(|(_, last)| *last != now) {
            states.push((Instant::now(), now));
        }
    }

    /// Runs a mirror that watches these trees.
    pub(super) fn watched_trees(self, heartbeat: Duration, trees: &[Subtree]) -> World {
        let world = self.watched(heartbeat, &[]);
        world.watch_all(&[], trees);
        world
    }

    /// Runs a mirror that watches these.
    pub(super) fn watched(self, heartbeat: Duration, paths: &[&str]) -> World {
        self.watched_on(heartbeat, paths, HashMap::new())
    }

    /// Runs a mirror that goes on from what another has told.
    pub(super) fn watched_on(
        self,
        heartbeat: Duration,
        paths: &[&str],
        told: HashMap<ZnodePath, Told>,
    ) -> World {
        let book = Arc::clone(&self.book);
        let tell = move |update| book.lock().hear(update);
        let mirror = Mirror::new(self.zookeeper.clone(), heartbeat, tell);
        let (commands, received) = unbounded_channel();
        let mirror = tokio::spawn(mirror.going_on_from(told).run(received));
        let world = World {
            hand: self,
            commands: Some(commands),
            mirror,
        };
        world.watch(paths);
        world
    }
}

impl Book {
    fn hear(&mut self, update: Update) {
        if let Err(untruth) = self.judge(&update) {
            self.untruths
                .push(format!("{untruth} ({update:?} at {:?})", Instant::now()));
        }
        self.history.push((Instant::now(), update));
    }

    fn judge(&mut self, update: &Update) -> Result<(), &'static str> {
        let now = Instant::now();
        let (path, paths) = match update {
            Update::Content { path, .. }
            | Update::Children { path, .. }
            | Update::Absent { path }
            | Update::Unreadable { path, .. }
            | Update::Repaired { path } => (Some(path), &[][..]),
            Update::Confirmed { paths, .. } => (None, &paths[..]),
            Update::Settled | Update::Connected { .. } | Update::Disconnected { .. } => {
                (None, &[][..])
            }
        };
        for path in path.into_iter().chain(paths) {
            let named = self.wanted.contains(path.as_str()) || self.leaving.contains(path.as_str());
            let mut trees = self.trees.iter().chain(&self.leaving_trees);
            if !named && !trees.any(|tree| tree.wants(path) || tree.descends(path)) {
                return Err("nobody watches it");
            }
        }
        match update {
            Update::Content { path, value } => {
                let states = self.truth.get(path.as_str()).into_iter().flatten();
                if !states
                    .map(|(_, was)| was)
                    .any(|was| was.as_ref().is_some_and(|was| same(was, value)))
                {
                    return Err("never had this content");
                }
                let shown = self.shown.entry(path.to_string()).or_default();
                let order = value.stat.order();
                let goes_back = match (&shown.content, shown.highest) {
                    (_, None) => false,
                    (Some(_), Some(highest)) => order <= highest,
                    (None, Some((_, mzxid))) => order.0 <= mzxid,
                };
                let rewound = self.rewound;
                *shown = Shown {
                    content: Some(value.clone()),
                    unreadable: None,
                    confirmed: Some(now),
                    is_heard: true,
                    has_children: value.stat.num_children > 0,
                    highest: Some(order),
                };
                if goes_back && !rewound {
                    return Err("goes back");
                }
            }
            Update::Children { path, has_children } => {
                let Some(shown) = self.shown.get_mut(path.as_str()) else {
                    return Err("nothing was told of it");
                };
                shown.has_children = *has_children;
            }
            Update::Absent { path } => {
                let shown = self.shown.entry(path.to_string()).or_default();
                let since = shown.highest.map(|(_, mzxid)| mzxid);
                *shown = Shown {
                    highest: shown.highest,
                    is_heard: true,
                    ..Shown::default()
                };
                // Deleted after what was shown; created again since, maybe.
                let Some(since) = since else {
                    return Ok(());
                };
                let mut after = self.truth[path.as_str()].iter().skip_while(|(_, state)| {
                    state.as_ref().is_none_or(|value| value.stat.mzxid != since)
                });
                if !after.any(|(_, state)| state.is_none()) {
                    return Err("was not deleted");
                }
            }
            Update::Unreadable { path, reason } => {
                let shown = self.shown.entry(path.to_string()).or_default();
                shown.is_heard = true;
                if shown.unreadable.replace(reason.clone()).as_ref() == Some(reason) {
                    return Err("was told before");
                }
            }
            Update::Confirmed { paths, age } => {
                for path in paths {
                    let Some(shown) = self.shown.get_mut(path.as_str()) else {
                        // It is only on the way to others, and can be listed again.
                        let is_wanted = self.wanted.contains(path.as_str())
                            || self.trees.iter().any(|tree| tree.wants(path));
                        if !is_wanted {
                            continue;
                        }
                        return Err("nothing was told of it");
                    };
                    let Some(content) = &shown.content else {
                        if shown.unreadable.take().is_some() {
                            continue;
                        }
                        return Err("there is nothing to confirm");
                    };
                    let states = &self.truth[path.as_str()];
                    let ends = states.iter().skip(1).map(|(since, _)| *since);
                    let mut lives = states.iter().zip(ends.map(Some).chain([None]));
                    let was_current = lives.any(|((_, state), end)| {
                        state.as_ref().is_some_and(|state| same(state, content))
                            && end.is_none_or(|end| end + *age >= now)
                    });
                    if !was_current && !self.lossy {
                        return Err("was not current then");
                    }
                    shown.unreadable = None;
                    shown.confirmed = Some(now - *age);
                }
            }
            Update::Repaired { .. } | Update::Settled => {}
            Update::Connected { .. } => self.is_connected = true,
            Update::Disconnected { .. } => self.is_connected = false,
        }
        Ok(())
    }

    /// From now on older content may be told.
    pub(super) fn rewind_is_known(&mut self) {
        self.rewound = true;
    }

    /// From now on watches may be lost.
    pub(super) fn losses_are_known(&mut self) {
        self.lossy = true;
    }

    /// Whether what is shown of a path is what is there.
    fn is_right(&self, path: &str) -> bool {
        let truth = self.truth.get(path).and_then(|states| states.last());
        let truth = truth.and_then(|(_, state)| state.as_ref());
        let Some(shown) = self.shown.get(path) else {
            return false;
        };
        shown.is_heard
            && shown.unreadable.is_none()
            && match (&shown.content, truth) {
                (Some(shown), Some(truth)) => same(shown, truth),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl Book {
    /// Whether what is shown of the trees is what is there, and no more.
    fn are_trees_right(&self) -> bool {
        let wanted = |at: &str| self.trees.iter().any(|tree| tree.wants(&path(at)));
        let of_truth = self.truth.iter().filter(|(at, _)| wanted(at));
        let is_there = |at: &str| {
            let truth = self.truth.get(at).and_then(|states| states.last());
            truth.and_then(|(_, state)| state.clone())
        };
        let is_shown = |at: &str| {
            let shown = self.shown.get(at);
            shown.is_some_and(|shown| shown.content.is_some() || shown.unreadable.is_some())
        };
        let all_shown = of_truth.map(|(at, _)| at).all(|at| match is_there(at) {
            Some(truth) => {
                let has_children = truth.stat.num_children > 0;
                self.is_right(at) && self.shown[at].has_children == has_children
            }
            None => self.wanted.contains(at) || !is_shown(at),
        });
        let no_more = self
            .shown
            .keys()
            .filter(|at| wanted(at))
            .all(|at| !is_shown(at) || is_there(at).is_some());
        all_shown && no_more
    }
}

fn same(one: &Value, other: &Value) -> bool {
    one.stat.order() == other.stat.order() && one.content == other.content
}

impl Deref for World {
    type Target = Hand;

    fn deref(&self) -> &Hand {
        &self.hand
    }
}

impl World {
    pub(super) fn command(&self, command: Command<FakeZooKeeper>) {
        let commands = self.commands.as_ref().expect("the mirror was not ended");
        commands.send(command).expect("the mirror runs");
    }

    /// Watches these and no others.
    pub(super) fn watch(&self, paths: &[&str]) {
        self.watch_all(paths, &[]);
    }

    /// Watches these znodes and trees, and no others.
    pub(super) fn watch_all(&self, paths: &[&str], trees: &[Subtree]) {
        for path in paths {
            self.note(path);
        }
        self.note("/");
        {
            let mut book = self.book.lock();
            let wanted = paths.iter().map(ToString::to_string).collect();
            let before = std::mem::replace(&mut book.wanted, wanted);
            book.leaving.extend(before);
            let before = std::mem::replace(&mut book.trees, trees.to_vec());
            book.leaving_trees.extend(before);
        }
        self.command(Command::Watch(Wanted {
            nodes: paths.iter().map(|at| path(at)).collect(),
            trees: trees.to_vec(),
        }));
    }

    /// The mirror has heard every command.
    pub(super) async fn heard(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut book = self.book.lock();
        book.leaving.clear();
        book.leaving_trees.clear();
        let Book {
            wanted,
            trees,
            shown,
            ..
        } = &mut *book;
        shown.retain(|at, _| {
            let is_in = |tree: &Subtree| tree.wants(&path(at));
            wanted.contains(at) || trees.iter().any(is_in)
        });
    }

    /// Waits until it holds; not longer than this.
    pub(super) async fn within(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&Book) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            self.check();
            if holds(&self.book.lock()) {
                return begun.elapsed();
            }
            if begun.elapsed() >= limit {
                let book = self.book.lock();
                panic!(
                    "{what}: not within {limit:?}: {:#?}, where {:#?}",
                    book.shown, book.truth
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until everything watched is shown as it is.
    pub(super) async fn right(&self, limit: Duration) -> Duration {
        let right = |book: &Book| {
            book.wanted.iter().all(|path| book.is_right(path)) && book.are_trees_right()
        };
        self.within(limit, "all is right", right).await
    }

    pub(super) async fn passes(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.check();
    }

    /// Nothing untrue was told.
    pub(super) fn check(&self) {
        assert!(!self.mirror.is_finished(), "the mirror ended");
        let book = self.book.lock();
        assert!(
            book.untruths.is_empty(),
            "{:#?}\nof {:#?}\nwhere {:#?}",
            book.untruths,
            book.history,
            book.truth
        );
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        let book = self.book.lock();
        let content = &book.shown.get(path)?.content.as_ref()?.content;
        Some(String::from_utf8(content.to_vec()).unwrap())
    }

    pub(super) fn unreadable(&self, path: &str) -> Option<Reason> {
        self.book.lock().shown.get(path)?.unreadable.clone()
    }

    /// How old the knowledge of a path is.
    pub(super) fn age(&self, path: &str) -> Duration {
        let confirmed = self.book.lock().shown[path].confirmed;
        confirmed.expect("it has content").elapsed()
    }

    /// The updates since the last time.
    pub(super) fn take_history(&self) -> Vec<Update> {
        let history = std::mem::take(&mut self.book.lock().history);
        history.into_iter().map(|(_, update)| update).collect()
    }

    /// Drops the sender of the commands: the mirror ends at once.
    pub(super) async fn end(mut self) {
        self.check();
        self.commands = None;
        let ended = tokio::time::timeout(Duration::from_millis(200), &mut self.mirror).await;
        ended.expect("it ends").expect("it does not panic");
        assert_eq!(self.hand.zookeeper.n_sessions(), 0, "it leaves no session");
    }
}
