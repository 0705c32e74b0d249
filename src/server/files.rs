//! Which files show which znodes: configuration and updates of the mirror -> changes of the tree.
//!
//! A znode whose content is known is current, or *stale* since some time: ZooKeeper is away, the
//! znode cannot be read now, or what is known comes from before this process and was not confirmed
//! yet. A file of a znode that is stale for too long is broken, where the configuration wants that.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use crate::cache;
use crate::config::{Node, OnDelete, OnDisconnect};
use crate::content::Content;
use crate::mirror::{Reason, Update};
use crate::path::{FilePath, ZnodePath};
use crate::publish::Known;
use crate::source::{Stat, Told};
use crate::store::Reader;
use crate::tree::{Change, Kind, Ownership};

/// The configured nodes, and what is known of their znodes.
pub(super) struct Files {
    nodes: Vec<Node>,
    znodes: HashMap<ZnodePath, Znode>,
    /// How many znodes are in [`State::Unknown`].
    n_unheard: usize,
    /// The files that are broken.
    broken: HashSet<FilePath>,
    /// Whether any node may break.
    may_break: bool,
    /// Whether there is a session.
    connected: bool,
    /// Why there is none, if there is none.
    disconnected: Option<String>,
    /// How many changes the audit found that no watch told of.
    n_repaired: u64,
}

/// A change, and what holds of a znode once it is published.
pub(super) type Noted = (Change, Option<Known>);

/// What is known of a znode.
#[derive(Debug, Clone, Default)]
struct Znode {
    /// Where in the nodes those stand that show it.
    nodes: Vec<usize>,
    /// The content last told; the same memory that the tree serves.
    content: Option<Content>,
    /// What was told of it, by a mirror of this process or before.
    told: Option<Told>,
    state: State,
    stale: Option<Stale>,
    /// When what is kept of it, now that it is gone, was last known to be current.
    kept_as_of: Option<SystemTime>,
}

/// Since when nobody knows whether a content is current.
#[derive(Debug, Clone, Copy)]
struct Stale {
    since: Instant,
    /// How old it counted then.
    age: Duration,
    /// When it was last known to be current.
    as_of: SystemTime,
}

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    /// Nothing was heard of it by this process.
    #[default]
    Unknown,
    /// Its content is known and watched.
    Live,
    /// It does not exist.
    Absent,
    /// It cannot be read now; its last known content, if any, is served.
    Unreadable(Reason),
}

/// How far the first load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Nodes whose znode was heard of.
    pub n_answered: usize,
    /// Nodes of whose znode nothing was heard, nor is known from before.
    pub n_unknown: usize,
    /// Nodes that have a file.
    pub n_files: usize,
    /// Nodes whose file may be old.
    pub n_stale: usize,
    /// All nodes.
    pub n_nodes: usize,
    /// Required nodes without a file.
    pub n_required_missing: usize,
}

impl Znode {
    /// Whether files show it, be it that one of them is broken and has no content to go by.
    fn has_file(&self) -> bool {
        self.content.is_some() || matches!(self.told, Some(Told::Lost(_)))
    }
}

impl Stale {
    /// From now on, for what was known to be current at this time.
    fn from_now(as_of: SystemTime) -> Self {
        Self {
            since: Instant::now(),
            age: Duration::ZERO,
            as_of,
        }
    }

    /// When it is this old.
    fn at_age(&self, age: Duration) -> Instant {
        self.since + age.saturating_sub(self.age)
    }
}

impl Files {
    /// Knows nothing of any znode.
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            znodes: HashMap::new(),
            n_unheard: 0,
            broken: HashSet::new(),
            may_break: false,
            connected: false,
            disconnected: None,
            n_repaired: 0,
        }
    }

    /// Takes another set of nodes, and gives the changes that lead there. What stays as it was
    /// gives changes that the tree finds to be none.
    pub(super) fn plan(&mut self, nodes: Vec<Node>) -> Vec<Noted> {
        let dests: HashSet<&FilePath> = nodes.iter().map(|node| &node.dest).collect();
        let mut changes: Vec<Change> = self
            .nodes
            .iter()
            .filter(|node| !dests.contains(&node.dest))
            .map(|node| Change::Remove {
                path: node.dest.clone(),
            })
            .collect();
        let before = directories(&self.nodes);
        let after = directories(&nodes);
        // A longer path sorts behind its parent: the deepest go first and come last.
        let gone = before
            .iter()
            .rev()
            .filter(|path| !after.contains(path))
            .cloned();
        changes.extend(gone.map(|path| Change::RemoveDirectory { path }));
        changes.extend(after.into_iter().map(|path| Change::MakeDirectory { path }));
        let mut znodes: HashMap<ZnodePath, Znode> = HashMap::new();
        for (at, node) in nodes.iter().enumerate() {
            let znode = znodes.entry(node.source.clone()).or_insert_with(|| {
                let znode = self.znodes.remove(&node.source).unwrap_or_default();
                Znode {
                    nodes: Vec::new(),
                    ..znode
                }
            });
            znode.nodes.push(at);
        }
        let mut noted: Vec<Noted> = changes.into_iter().map(|change| (change, None)).collect();
        self.broken.clear();
        let now = Instant::now();
        for (at, node) in nodes.iter().enumerate() {
            let znode = &znodes[&node.source];
            let path = node.dest.clone();
            let change = if znode.state == State::Absent && node.on_delete == OnDelete::Remove {
                Change::Remove { path }
            } else if breaks_at(node, znode).is_some_and(|time| time <= now) {
                self.broken.insert(path.clone());
                Change::Break { path }
            } else if let Some(change) = show(node, znode) {
                change
            } else {
                continue;
            };
            // It may take the place of one with which this was to be noted.
            let is_last = znode.nodes.last() == Some(&at);
            let known = znode.told.filter(|_| is_last);
            noted.push((change, known.map(|told| known_of(&node.source, Some(told)))));
        }
        self.n_unheard = znodes
            .values()
            .filter(|znode| znode.state == State::Unknown)
            .count();
        self.may_break = nodes
            .iter()
            .any(|node| node.on_disconnect == OnDisconnect::Error);
        self.nodes = nodes;
        self.znodes = znodes;
        noted
    }

    /// Goes on with what another process showed, as it is on record. Gives the changes that take
    /// away what is not configured any more.
    pub(super) fn recall(&mut self, nodes: &[Node], tree: &Reader) -> Vec<Change> {
        let known = tree.known();
        for node in nodes {
            let Some(told) = known.get(&node.source).copied() else {
                continue;
            };
            let shown = tree.find(&node.dest).and_then(|ino| tree.attr(ino));
            let content = shown.and_then(|attr| tree.content(attr.ino));
            // What lay on disk may not be there any more.
            let content = content.filter(|content| !content.is_lost());
            let znode = self.znodes.entry(node.source.clone()).or_default();
            // A takeover makes nothing too old, and nothing younger.
            let as_of = shown.map_or(SystemTime::UNIX_EPOCH, |attr| attr.mtime);
            let before = znode.stale.map_or(as_of, |stale| stale.as_of);
            znode.stale = Some(Stale::from_now(as_of.max(before)));
            (znode.told, znode.content) = match (told, znode.told) {
                // Some nodes keep what they showed.
                (Told::Absent(_), _) => (Some(told), znode.content.take().or(content)),
                (Told::Content(_), None) if content.is_some() => (Some(told), content),
                (_, Some(Told::Content(_))) if content == znode.content => (Some(told), content),
                // What is not shown everywhere, or not alike, or broken, is to be told again.
                (Told::Content(stat) | Told::Lost(stat), _) => (Some(Told::Lost(stat)), None),
            };
        }
        let dests: HashSet<&FilePath> = nodes.iter().map(|node| &node.dest).collect();
        let wanted = directories(nodes);
        // What is in a directory comes behind it.
        tree.paths()
            .into_iter()
            .rev()
            .filter_map(|(path, kind)| match kind {
                Kind::File if !dests.contains(&path) => Some(Change::Remove { path }),
                Kind::Directory if !wanted.contains(&path) => {
                    Some(Change::RemoveDirectory { path })
                }
                Kind::File | Kind::Directory => None,
            })
            .collect()
    }

    /// Goes on with what an earlier mount knew of the planned nodes, as the cache has it. Gives the
    /// changes that show it.
    pub(super) fn recall_cached(
        &mut self,
        entries: Vec<cache::Entry>,
        now: SystemTime,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for cache::Entry { path, known } in entries {
            let Some(znode) = self.znodes.get_mut(&path) else {
                continue;
            };
            match known {
                cache::Known::Content {
                    stat,
                    content,
                    confirmed,
                } => {
                    let nodes = znode.nodes.iter().map(|at| &self.nodes[*at]);
                    changes.extend(nodes.map(|node| Change::Recall {
                        path: node.dest.clone(),
                        ownership: ownership(node),
                        content: content.clone(),
                        mtime: confirmed,
                    }));
                    znode.content = Some(content);
                    znode.told = Some(Told::Content(stat));
                    znode.stale = Some(Stale {
                        since: Instant::now(),
                        age: now.duration_since(confirmed).unwrap_or_default(),
                        as_of: confirmed,
                    });
                }
                cache::Known::Absent { zxid } => znode.told = Some(Told::Absent(Some(zxid))),
            }
        }
        changes
    }

    /// What was told of znodes.
    pub(super) fn told(&self) -> HashMap<ZnodePath, Told> {
        let told = |(path, znode): (&ZnodePath, &Znode)| Some((path.clone(), znode.told?));
        self.znodes.iter().filter_map(told).collect()
    }

    /// The contents of these znodes that a file shows, or showed before it broke.
    pub(super) fn contents(
        &self,
        of: impl Fn(&ZnodePath) -> bool,
    ) -> impl Iterator<Item = (&ZnodePath, Stat, &Content, &FilePath)> {
        let znodes = self.znodes.iter().filter(move |(path, _)| of(path));
        znodes.filter_map(|(path, znode)| match (znode.told, &znode.content) {
            (Some(Told::Content(stat)), Some(content)) => {
                let node = &self.nodes[*znode.nodes.last()?];
                Some((path, stat, content, &node.dest))
            }
            _ => None,
        })
    }

    /// Why there is no session, if there is none.
    pub(super) fn disconnected(&self) -> Option<&str> {
        self.disconnected.as_deref()
    }

    /// How many changes the audit found that no watch told of.
    pub(super) fn n_repaired(&self) -> u64 {
        self.n_repaired
    }

    /// The znodes to watch.
    pub(super) fn sources(&self) -> Vec<ZnodePath> {
        let sources: BTreeSet<_> = self.nodes.iter().map(|node| node.source.clone()).collect();
        sources.into_iter().collect()
    }

    /// What an update of the mirror means for the files.
    pub(super) fn update(&mut self, update: Update) -> Vec<Noted> {
        match update {
            Update::Content { path, value } => {
                let Some((znode, nodes)) = self.heard(&path, State::Live) else {
                    return Vec::new();
                };
                let told = Told::Content(value.stat);
                // The same bytes are in memory once.
                let new = Content::from(value.content);
                let content = znode.content.take().filter(|content| *content == new);
                let content = content.unwrap_or(new);
                znode.content = Some(content.clone());
                znode.told = Some(told);
                (znode.stale, znode.kept_as_of) = (None, None);
                let changes = nodes.map(|node| put(node, &content)).collect();
                self.mend(&path);
                with_last(changes, Some(known_of(&path, Some(told))))
            }
            Update::Absent { path } => {
                let Some((znode, nodes)) = self.heard(&path, State::Absent) else {
                    return Vec::new();
                };
                let nodes: Vec<_> = nodes.cloned().collect();
                let goes_everywhere = nodes.iter().all(|node| node.on_delete == OnDelete::Remove);
                if goes_everywhere {
                    znode.content = None;
                    znode.told = Some(Told::gone(znode.told));
                }
                let as_of = znode
                    .stale
                    .map_or_else(SystemTime::now, |stale| stale.as_of);
                znode.kept_as_of.get_or_insert(as_of);
                znode.stale = None;
                let kept = znode.clone();
                let changes = nodes.iter().filter_map(|node| match node.on_delete {
                    OnDelete::Remove => Some(Change::Remove {
                        path: node.dest.clone(),
                    }),
                    // What is kept can be read again.
                    OnDelete::Keep if self.broken.contains(&node.dest) => show(node, &kept),
                    OnDelete::Keep => None,
                });
                let changes = changes.collect();
                self.mend(&path);
                let known = goes_everywhere.then(|| known_of(&path, kept.told));
                with_last(changes, known)
            }
            Update::Unreadable { path, reason } => {
                if let Some((znode, _)) = self.heard(&path, State::Unreadable(reason)) {
                    let now = SystemTime::now();
                    znode.stale.get_or_insert_with(|| Stale::from_now(now));
                }
                Vec::new()
            }
            Update::Confirmed { paths, age: _ } => {
                let mut changes = Vec::new();
                for path in &paths {
                    changes.extend(self.confirm(path));
                }
                changes
            }
            Update::Repaired { .. } => {
                self.n_repaired += 1;
                Vec::new()
            }
            Update::Connected { .. } => {
                (self.connected, self.disconnected) = (true, None);
                Vec::new()
            }
            Update::Disconnected { reason } => {
                (self.connected, self.disconnected) = (false, Some(reason));
                let ages = |znode: &&mut Znode| {
                    // What is kept of a deleted znode gets no older by that.
                    znode.has_file() && znode.state != State::Absent
                };
                for znode in self.znodes.values_mut().filter(ages) {
                    let now = SystemTime::now();
                    znode.stale.get_or_insert_with(|| Stale::from_now(now));
                }
                Vec::new()
            }
        }
    }

    /// The znodes whose content lay on disk and could not be read: it is to be told again.
    pub(super) fn lose(&mut self) -> Vec<ZnodePath> {
        let mut lost = Vec::new();
        for (path, znode) in &mut self.znodes {
            if let Some(Told::Content(stat)) = znode.told
                && znode.content.as_ref().is_some_and(Content::is_lost)
            {
                (znode.told, znode.content) = (Some(Told::Lost(stat)), None);
                lost.push(path.clone());
            }
        }
        lost
    }

    fn confirm(&mut self, path: &ZnodePath) -> Vec<Noted> {
        let broken = std::mem::take(&mut self.broken);
        let Some((znode, nodes)) = self.heard(path, State::Live) else {
            self.broken = broken;
            return Vec::new();
        };
        znode.stale = None;
        let content = znode.content.clone();
        let changes = nodes
            .map(|node| match &content {
                Some(content) if broken.contains(&node.dest) => put(node, content),
                Some(_) | None => Change::Confirm {
                    path: node.dest.clone(),
                },
            })
            .collect();
        self.broken = broken;
        self.mend(path);
        with_last(changes, Some(known_of(path, None)))
    }

    /// The files of the znode are not broken any more.
    fn mend(&mut self, path: &ZnodePath) {
        if !self.broken.is_empty()
            && let Some(znode) = self.znodes.get(path)
        {
            for at in &znode.nodes {
                self.broken.remove(&self.nodes[*at].dest);
            }
        }
    }

    /// The changes that break what is too old by now, and when there will be more to break.
    pub(super) fn break_old(&mut self, now: Instant) -> (Vec<Change>, Option<Instant>) {
        let (mut changes, mut next) = (Vec::new(), None);
        if !self.may_break {
            return (changes, next);
        }
        for node in &self.nodes {
            let Some(time) = breaks_at(node, &self.znodes[&node.source]) else {
                continue;
            };
            if self.broken.contains(&node.dest) {
                continue;
            }
            if time <= now {
                log::warn!(
                    "{}: not known to be current for {:?}; reading it fails until it is",
                    node.dest,
                    node.max_stale
                );
                self.broken.insert(node.dest.clone());
                changes.push(Change::Break {
                    path: node.dest.clone(),
                });
            } else if next.is_none_or(|next| time < next) {
                next = Some(time);
            }
        }
        (changes, next)
    }

    /// Whether every znode was heard of, and every required node has a file.
    pub(super) fn is_complete(&self) -> bool {
        self.n_unheard == 0 && self.progress().n_required_missing == 0
    }

    /// Whether there is nothing to wait for: something is known of every znode, be it from before,
    /// and nobody is there to ask. `patience` is over or not: without it one failure is enough.
    pub(super) fn is_all_there_is(&self, patience_is_over: bool) -> bool {
        if self.connected || !(patience_is_over || self.disconnected.is_some()) {
            return false;
        }
        let progress = self.progress();
        progress.n_unknown == 0 && progress.n_required_missing == 0
    }

    /// How far the first load has come.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress {
            n_answered: 0,
            n_unknown: 0,
            n_files: 0,
            n_stale: 0,
            n_nodes: self.nodes.len(),
            n_required_missing: 0,
        };
        for node in &self.nodes {
            let znode = &self.znodes[&node.source];
            let heard_of = znode.state != State::Unknown;
            progress.n_answered += usize::from(heard_of);
            progress.n_unknown += usize::from(!heard_of && znode.told.is_none());
            progress.n_files += usize::from(znode.has_file());
            progress.n_stale += usize::from(znode.has_file() && znode.stale.is_some());
            progress.n_required_missing += usize::from(node.required && znode.content.is_none());
        }
        progress
    }

    /// The nodes without a file, each in words that say why.
    pub(super) fn missing(&self, required_only: bool) -> Vec<String> {
        let lacks = |node: &&Node| self.znodes[&node.source].content.is_none();
        let nodes = self
            .nodes
            .iter()
            .filter(lacks)
            .filter(|node| node.required || !required_only);
        nodes
            .map(|node| format!("{} ({}: {})", node.name, node.source, self.why(node)))
            .collect()
    }

    /// The nodes whose znode cannot be read now, each in words that say why.
    pub(super) fn unreadable(&self) -> Vec<String> {
        let unreadable =
            |node: &&Node| matches!(self.znodes[&node.source].state, State::Unreadable(_));
        let nodes = self.nodes.iter().filter(unreadable);
        nodes
            .map(|node| format!("{} ({}: {})", node.name, node.source, self.why(node)))
            .collect()
    }

    fn why(&self, node: &Node) -> String {
        match &self.znodes[&node.source].state {
            State::Live => "live".into(),
            State::Absent => "the znode does not exist".into(),
            State::Unreadable(Reason::Denied) => {
                "its ACL does not let us read it; see zookeeper.credentials".into()
            }
            State::Unreadable(Reason::Unproven(why) | Reason::Failed(why)) => why.clone(),
            State::Unknown => match &self.disconnected {
                Some(reason) => format!("ZooKeeper is not reached: {reason}"),
                None => "no answer from ZooKeeper yet".into(),
            },
        }
    }

    /// Notes the state of a znode; gives it and the nodes that show it, if it is still wanted.
    fn heard(
        &mut self,
        path: &ZnodePath,
        state: State,
    ) -> Option<(&mut Znode, impl Iterator<Item = &Node>)> {
        let znode = self.znodes.get_mut(path)?;
        self.n_unheard -= usize::from(znode.state == State::Unknown);
        znode.state = state;
        let (nodes, shown) = (&self.nodes, znode.nodes.clone());
        Some((znode, shown.into_iter().map(move |at| &nodes[at])))
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}

/// The change that shows a znode whose content is known, as old as it is.
fn show(node: &Node, znode: &Znode) -> Option<Change> {
    let content = znode.content.as_ref()?;
    let as_of = znode.stale.map(|stale| stale.as_of).or(znode.kept_as_of);
    Some(match as_of {
        None => put(node, content),
        Some(mtime) => Change::Recall {
            path: node.dest.clone(),
            ownership: ownership(node),
            content: content.clone(),
            mtime,
        },
    })
}

fn put(node: &Node, content: &Content) -> Change {
    Change::Put {
        path: node.dest.clone(),
        ownership: ownership(node),
        content: content.clone(),
    }
}

fn ownership(node: &Node) -> Ownership {
    Ownership {
        uid: node.uid,
        gid: node.gid,
        mode: node.mode,
    }
}

/// When the file of a stale znode breaks, if it ever does.
fn breaks_at(node: &Node, znode: &Znode) -> Option<Instant> {
    let stale = znode.stale.as_ref().filter(|_| znode.has_file())?;
    match node.on_disconnect {
        OnDisconnect::Error => Some(stale.at_age(node.max_stale)),
        OnDisconnect::Stale => None,
    }
}

fn known_of(path: &ZnodePath, told: Option<Told>) -> Known {
    Known {
        path: path.clone(),
        told,
    }
}

/// What holds of a znode once all its files show it is noted with the last of them.
fn with_last(changes: Vec<Change>, known: Option<Known>) -> Vec<Noted> {
    let mut noted: Vec<Noted> = changes.into_iter().map(|change| (change, None)).collect();
    if let Some((_, last)) = noted.last_mut() {
        *last = known;
    }
    noted
}

/// The directories that the files stand in.
fn directories(nodes: &[Node]) -> BTreeSet<FilePath> {
    nodes
        .iter()
        .flat_map(|node| node.dest.ancestors().collect::<Vec<_>>())
        .collect()
}
