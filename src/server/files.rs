//! Which files show which znodes: configuration and updates of the mirror -> changes of the tree.
//!
//! A znode whose content is known is current, or *stale* since some time: ZooKeeper is away, the
//! znode cannot be read now, or what is known comes from before this process and was not confirmed
//! yet. A file of a znode that is stale for too long is broken, where the configuration wants that.
//!
//! A node shows one znode at a path of its own. A tree shows whatever znodes there are in a subtree,
//! and where they stand follows from what else is there: see `files/planted.rs`. One znode may be
//! shown by several of both.

pub(super) mod listing;
mod planted;
mod recall;
mod znode;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Node, OnDelete, OnDisconnect, Tree};
use crate::content::Content;
use crate::mirror::{Reason, Update, Wanted};
use crate::path::{FilePath, ZnodePath};
use crate::publish::{Hint, Known, News};
use crate::source::{Stat, Told};
use crate::subtree::Subtree;
use crate::tree::{Change, Ownership};
use planted::{Planted, Step};
use znode::{Stale, State, Znode};

/// The configured nodes and trees, and what is known of their znodes.
#[derive(Default)]
pub(super) struct Files {
    nodes: Vec<Node>,
    trees: Vec<Planted>,
    /// Where in the trees those stand that begin at a znode.
    roots: HashMap<ZnodePath, Vec<usize>>,
    znodes: HashMap<ZnodePath, Znode>,
    /// How many znodes are in [`State::Unknown`].
    n_unheard: usize,
    /// Whether all subtrees were looked at to their ends, once.
    is_settled: bool,
    /// The files that are broken.
    broken: HashSet<FilePath>,
    /// Whether any file may break.
    may_break: bool,
    /// Whether there is a session.
    connected: bool,
    /// Whether it is with a server that may be behind.
    read_only: bool,
    /// Why there is none, if there is none.
    disconnected: Option<String>,
    /// How many changes the audit found that no watch told of.
    n_repaired: u64,
}

/// A change, and what holds of a znode once it is published.
pub(super) type Noted = (Change, Option<Known>);

/// How far the first load has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Nodes whose znode was heard of.
    pub n_answered: usize,
    /// Nodes of whose znode nothing was heard, nor is known from before; and trees likewise.
    pub n_unknown: usize,
    /// Nodes that have a file, and files of trees.
    pub n_files: usize,
    /// Files that may be old.
    pub n_stale: usize,
    /// All nodes.
    pub n_nodes: usize,
    /// All trees.
    pub n_trees: usize,
    /// Znodes that trees show.
    pub n_found: usize,
    /// Required nodes without a file.
    pub n_required_missing: usize,
}

impl Progress {
    /// How far the first load has come, in words.
    pub(super) fn so_far(&self) -> String {
        let Self {
            n_answered,
            n_nodes,
            n_found,
            ..
        } = self;
        let nodes = format!("{n_answered} of {n_nodes} nodes answered");
        match self.n_trees {
            0 => nodes,
            n_trees => format!("{nodes}, {n_found} znodes found in {n_trees} trees"),
        }
    }

    /// What is shown, in words.
    pub(super) fn shown(&self) -> String {
        let Self {
            n_files, n_nodes, ..
        } = self;
        let nodes = format!("{n_files} files of {n_nodes} nodes");
        match self.n_trees {
            0 => nodes,
            n_trees => format!("{nodes} and {n_trees} trees"),
        }
    }
}

/// A file, as the configuration wants it.
struct Showing {
    path: FilePath,
    ownership: Ownership,
    on_delete: OnDelete,
    on_disconnect: OnDisconnect,
    max_stale: Duration,
}

impl Files {
    /// Knows nothing of any znode.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes another set of nodes and trees, and gives the changes that lead there. What stays as it
    /// was gives changes that the tree finds to be none, or none.
    pub(super) fn plan(&mut self, nodes: Vec<Node>, trees: Vec<Tree>) -> Vec<Noted> {
        let before = self.layout();
        let subtrees: Vec<Subtree> = self
            .trees
            .iter()
            .map(|planted| planted.tree.subtree.clone())
            .collect();
        self.plant(trees);
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
            znode.stays_in_memory();
        }
        for (path, znode) in std::mem::take(&mut self.znodes) {
            let (nodes, state) = (Vec::new(), znode.state.clone());
            if !self.trees_that_show(&path).is_empty() {
                znodes.entry(path).or_insert(Znode { nodes, ..znode });
            } else if matches!(state, State::Unreadable(_)) && self.trees_of(&path).next().is_some()
            {
                // It is only on the way to others now, and nobody will tell of its content.
                let on_the_way = Znode {
                    state,
                    ..Znode::default()
                };
                znodes.entry(path).or_insert(on_the_way);
            }
        }
        self.may_break = nodes
            .iter()
            .map(|node| node.on_disconnect)
            .chain(self.trees.iter().map(|planted| planted.tree.on_disconnect))
            .any(|on_disconnect| on_disconnect == OnDisconnect::Error);
        (self.nodes, self.znodes) = (nodes, znodes);
        self.settle_trees();
        // Others were looked at to their ends, and nobody says so again.
        let was_looked_at = |planted: &Planted| subtrees.contains(&planted.tree.subtree);
        self.is_settled &= self.trees.iter().all(was_looked_at);
        let unheard = |znode: &&Znode| znode.state == State::Unknown;
        self.n_unheard = self.znodes.values().filter(unheard).count();

        let after = self.layout();
        let mut noted: Vec<Noted> = before
            .changes_to(&after)
            .map(|change| (change, None))
            .collect();
        let mut broken = std::mem::take(&mut self.broken);
        broken.retain(|path| after.files.contains(path));
        let is_new = |at: usize| self.trees[at].is_new;
        // Those of nodes in their order.
        let is_first = |(at, node): &(usize, &Node)| {
            let znode = self.znodes.get(&node.source);
            znode.is_some_and(|znode| znode.nodes.first() == Some(at))
        };
        let of_nodes = self.nodes.iter().enumerate().filter(is_first);
        let of_nodes = of_nodes.map(|(_, node)| (&node.source, &self.znodes[&node.source]));
        let of_trees = self.znodes.iter().filter(|(path, znode)| {
            znode.nodes.is_empty() && self.trees_that_show(path).into_iter().any(is_new)
        });
        let shown_anew = of_nodes.chain(of_trees);
        for (path, znode) in shown_anew {
            let changes = self
                .showings(path)
                .into_iter()
                .filter_map(|showing| show_as_it_stands(&showing, znode, &mut broken));
            // It may take the place of one with which this was to be noted.
            let known = znode.told.map(|told| known_of(path, News::Told(told)));
            noted.extend(with_last(changes.collect(), known));
        }
        self.broken = broken;
        for planted in &mut self.trees {
            planted.is_new = false;
        }
        noted
    }

    /// Takes another set of trees; those that stay as they are keep what they show, and no others.
    fn plant(&mut self, trees: Vec<Tree>) {
        let mut before = std::mem::take(&mut self.trees);
        for tree in trees {
            let same = before
                .iter()
                .position(|planted| planted.tree.shows_as(&tree));
            let planted = same.map(|at| {
                let mut planted = before.swap_remove(at);
                planted.tree.clone_from(&tree);
                planted
            });
            self.trees
                .push(planted.unwrap_or_else(|| Planted::new(tree)));
        }
        self.roots.clear();
        for (at, planted) in self.trees.iter().enumerate() {
            let root = planted.tree.subtree.root().clone();
            self.roots.entry(root).or_default().push(at);
        }
    }

    /// Has all trees show what is known.
    fn settle_trees(&mut self) {
        let znodes = std::mem::take(&mut self.znodes);
        for (path, znode) in &znodes {
            for at in self.trees_that_show(path) {
                // The whole layout is compared, so the steps there are of no interest.
                self.trees[at].set(path, znode.is_in_trees(), znode.has_children);
            }
        }
        self.znodes = znodes;
    }

    /// What is to stand where, as far as it is known.
    fn layout(&self) -> Layout {
        let of_nodes = self.nodes.iter().map(|node| node.dest.clone());
        let of_trees = self.trees.iter().flat_map(Planted::files);
        let files: BTreeSet<_> = of_nodes.chain(of_trees.map(|(_, file)| file)).collect();
        let mut directories = BTreeMap::new();
        let dests = self.trees.iter().map(|planted| &planted.tree.dest);
        for dest in self.nodes.iter().map(|node| &node.dest).chain(dests) {
            directories.extend(dest.ancestors().map(|path| (path, None)));
        }
        for planted in &self.trees {
            let ownership = ownership_of_directories(&planted.tree);
            let of_tree = planted.directories();
            directories.extend(of_tree.map(|path| (path, Some(ownership))));
        }
        Layout { files, directories }
    }

    /// The files that show a znode, as far as it is shown. (Those of nodes are there in any case.)
    fn showings(&self, path: &ZnodePath) -> Vec<Showing> {
        let znode = self.znodes.get(path);
        let nodes = znode.into_iter().flat_map(|znode| &znode.nodes);
        let of_nodes = nodes.map(|at| of_node(&self.nodes[*at]));
        let of_trees = self.trees_of(path).filter_map(|at| {
            let planted = &self.trees[at];
            Some(in_tree(&planted.tree, planted.file(path)?))
        });
        of_nodes.chain(of_trees).collect()
    }

    /// Where in the trees those stand in which the znode is, itself or on the way to others.
    fn trees_of(&self, path: &ZnodePath) -> impl Iterator<Item = usize> {
        let mut at = (!self.roots.is_empty()).then(|| path.clone());
        let above = std::iter::from_fn(move || {
            let here = at.take()?;
            at = here.parent();
            Some(here)
        });
        let around = above.filter_map(|above| self.roots.get(&above)).flatten();
        around.copied().filter(|at| {
            let subtree = &self.trees[*at].tree.subtree;
            subtree.wants(path) || subtree.descends(path)
        })
    }

    /// Where in the trees those stand that are to show the znode itself.
    fn trees_that_show(&self, path: &ZnodePath) -> Vec<usize> {
        let wants = |at: &usize| self.trees[*at].tree.subtree.wants(path);
        self.trees_of(path).filter(wants).collect()
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
    ) -> impl Iterator<Item = (&ZnodePath, Stat, &Content, FilePath)> {
        let znodes = self.znodes.iter().filter(move |(path, _)| of(path));
        znodes.filter_map(|(path, znode)| match (znode.told, &znode.content) {
            (Some(Told::Content(stat)), Some(content)) => {
                let file = self.showings(path).pop()?.path;
                Some((path, stat, content, file))
            }
            _ => None,
        })
    }

    /// Why there is no session, if there is none.
    pub(super) fn disconnected(&self) -> Option<&str> {
        self.disconnected.as_deref()
    }

    /// Whether there is a session, and with a server that may be behind.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How many changes the audit found that no watch told of.
    pub(super) fn n_repaired(&self) -> u64 {
        self.n_repaired
    }

    /// What to watch.
    pub(super) fn wanted(&self) -> Wanted {
        let nodes: BTreeSet<_> = self.nodes.iter().map(|node| node.source.clone()).collect();
        let trees = self.trees.iter().map(|planted| &planted.tree.subtree);
        Wanted {
            nodes: nodes.into_iter().collect(),
            trees: trees.cloned().collect(),
        }
    }

    /// What an update of the mirror means for the files.
    pub(super) fn update(&mut self, update: Update) -> Vec<Noted> {
        match update {
            Update::Content { path, value } => {
                let read_only = self.read_only;
                let Some(znode) = self.heard(&path, State::Live) else {
                    return Vec::new();
                };
                // The same bytes are in memory once. Those of nodes stay there.
                let new = match znode.nodes.is_empty() {
                    true => Content::droppable(value.content),
                    false => Content::from(value.content),
                };
                let same = znode.content.take().filter(|content| *content == new);
                znode.content = Some(same.unwrap_or(new));
                znode.told = Some(Told::Content(value.stat));
                znode.has_children = value.stat.num_children > 0;
                let stale = || Stale::from_now(SystemTime::now());
                (znode.stale, znode.kept_as_of) = (read_only.then(stale), None);
                let noted = self.show_all(&path);
                self.mend(&path);
                noted
            }
            Update::Children { path, has_children } => {
                let Some(znode) = self.znodes.get_mut(&path) else {
                    return Vec::new();
                };
                znode.has_children = has_children;
                // Whoever goes on from what was told finds a file or a directory by it.
                if let Some(Told::Content(stat) | Told::Lost(stat)) = &mut znode.told {
                    stat.num_children = has_children.into();
                }
                self.place(&path)
            }
            Update::Absent { path } => self.absent(&path),
            Update::Unreadable { path, reason } => {
                if let Some(znode) = self.heard(&path, State::Unreadable(reason)) {
                    znode.is_stale(SystemTime::now());
                }
                Vec::new()
            }
            Update::Confirmed { paths, age: _ } => {
                let confirmed = paths.iter().flat_map(|path| self.confirm(path));
                confirmed.collect()
            }
            Update::Repaired { .. } => {
                self.n_repaired += 1;
                Vec::new()
            }
            Update::Settled => {
                self.is_settled = true;
                self.examine_patterns();
                Vec::new()
            }
            Update::Connected { read_only, .. } => {
                (self.connected, self.disconnected) = (true, None);
                self.read_only = read_only;
                Vec::new()
            }
            Update::Disconnected { reason } => {
                (self.connected, self.disconnected) = (false, Some(reason));
                self.read_only = false;
                let now = SystemTime::now();
                for znode in self.znodes.values_mut() {
                    // What is kept of a deleted znode gets no older by that.
                    if znode.has_file() && znode.state != State::Absent {
                        znode.is_stale(now);
                    }
                }
                Vec::new()
            }
        }
    }

    /// The znodes whose content lay on disk and could not be read, or is to be in memory from now
    /// on: it is to be told again.
    pub(super) fn lose(&mut self) -> Vec<ZnodePath> {
        let mut lost = Vec::new();
        for (path, znode) in &mut self.znodes {
            let is_lost = |content: &Content| {
                content.is_lost() || (content.is_droppable() && !znode.nodes.is_empty())
            };
            if let Some(Told::Content(stat)) = znode.told
                && znode.content.as_ref().is_some_and(is_lost)
            {
                (znode.told, znode.content) = (Some(Told::Lost(stat)), None);
                lost.push(path.clone());
            }
        }
        lost
    }

    /// All files of the znode show what is known of it.
    fn show_all(&mut self, path: &ZnodePath) -> Vec<Noted> {
        let mut noted = self.place(path);
        let znode = &self.znodes[path];
        let showings = self.showings(path);
        let is_placed = |showing: &&Showing| {
            let is_it = |(change, _): &Noted| change.path() == &showing.path && shows(change);
            noted.iter().any(is_it)
        };
        let others = showings.iter().filter(|showing| !is_placed(showing));
        let changes: Vec<Change> = others.filter_map(|showing| show(showing, znode)).collect();
        let told = znode.told.map(News::Told);
        noted.extend(with_last(changes, told.map(|told| known_of(path, told))));
        only_the_last_is_everywhere(&mut noted, path);
        noted
    }

    /// The znode stands in its trees as what it is now, which may change what stands above it.
    fn place(&mut self, path: &ZnodePath) -> Vec<Noted> {
        let mut noted = Vec::new();
        for at in self.trees_that_show(path) {
            let znode = self.znodes.get(path);
            let is_shown = znode.is_some_and(Znode::is_in_trees);
            let has_children = znode.is_some_and(|znode| znode.has_children);
            let steps = self.trees[at].set(path, is_shown, has_children);
            for step in steps {
                noted.extend(self.noted(at, step));
            }
        }
        noted
    }

    /// What a step in a tree is in the words of files.
    fn noted(&mut self, at: usize, step: Step) -> Option<Noted> {
        let tree = &self.trees[at].tree;
        let change = match step {
            Step::Show(path, file) => {
                let znode = self.znodes.get(&path)?;
                let change = show(&in_tree(tree, file), znode)?;
                let known = znode.told.map(|told| known_of(&path, News::Told(told)));
                return Some((change, known));
            }
            Step::Remove(path, file) => {
                self.broken.remove(&file);
                let known = match self.znodes.get(&path).map(|znode| znode.told) {
                    None => Some(known_of(&path, News::Forgotten)),
                    Some(Some(told @ Told::Absent(_))) => Some(known_of(&path, News::Told(told))),
                    // It is shown elsewhere.
                    Some(_) => None,
                };
                return Some((Change::Remove { path: file }, known));
            }
            Step::MakeDirectory(path) => Change::MakeDirectory {
                path,
                ownership: Some(ownership_of_directories(tree)),
            },
            Step::RemoveDirectory(path) => Change::RemoveDirectory { path },
        };
        Some((change, None))
    }

    fn absent(&mut self, path: &ZnodePath) -> Vec<Noted> {
        let Some(znode) = self.heard(path, State::Absent) else {
            return Vec::new();
        };
        let is_named = !znode.nodes.is_empty();
        znode.has_children = false;
        let as_of = znode
            .stale
            .map_or_else(SystemTime::now, |stale| stale.as_of);
        znode.kept_as_of.get_or_insert(as_of);
        znode.stale = None;
        let nodes: Vec<Showing> = znode
            .nodes
            .clone()
            .into_iter()
            .map(|at| of_node(&self.nodes[at]))
            .collect();
        let goes_everywhere = nodes.iter().all(|node| node.on_delete == OnDelete::Remove);
        let is_root = self.roots.contains_key(path);
        if let Some(znode) = self.znodes.get_mut(path)
            && goes_everywhere
        {
            znode.content = None;
            znode.told = Some(Told::gone(znode.told));
        }
        let kept = self.znodes[path].clone();
        if !is_named && !is_root {
            self.znodes.remove(path);
        }
        let mut noted = self.place(path);
        let changes = nodes.iter().filter_map(|node| match node.on_delete {
            OnDelete::Remove => Some(Change::Remove {
                path: node.path.clone(),
            }),
            // What is kept can be read again.
            OnDelete::Keep if self.broken.contains(&node.path) => show(node, &kept),
            OnDelete::Keep => None,
        });
        let told = kept.told.map(News::Told);
        let known = told.map(|told| Known {
            everywhere: goes_everywhere,
            ..known_of(path, told)
        });
        noted.extend(with_last(changes.collect(), known));
        only_the_last_is_everywhere(&mut noted, path);
        self.mend(path);
        noted
    }

    fn confirm(&mut self, path: &ZnodePath) -> Vec<Noted> {
        let Some(znode) = self.heard(path, State::Live) else {
            return Vec::new();
        };
        znode.stale = None;
        if !znode.has_file() && znode.nodes.is_empty() {
            // It is only on the way to others.
            self.znodes.remove(path);
            return Vec::new();
        }
        let znode = &self.znodes[path];
        let changes = self.showings(path).into_iter().map(|showing| {
            match self.broken.contains(&showing.path) {
                true => show(&showing, znode),
                false => None,
            }
            .unwrap_or(Change::Confirm { path: showing.path })
        });
        let mut noted = with_last(changes.collect(), Some(known_of(path, News::Current)));
        for known in noted.iter_mut().filter_map(|(_, known)| known.as_mut()) {
            let told = znode.told.map(|told| known_of(path, News::Told(told)));
            known.shows = told.and_then(|told| told.shows);
        }
        self.mend(path);
        noted
    }

    /// The files of the znode are not broken any more.
    fn mend(&mut self, path: &ZnodePath) {
        if !self.broken.is_empty() {
            for showing in self.showings(path) {
                self.broken.remove(&showing.path);
            }
        }
    }

    /// The changes that break what is too old by now, and when there will be more to break.
    pub(super) fn break_old(&mut self, now: Instant) -> (Vec<Change>, Option<Instant>) {
        let (mut changes, mut next) = (Vec::new(), None);
        if !self.may_break {
            return (changes, next);
        }
        let mut too_old = Vec::new();
        for (path, showing) in self.all_showings() {
            let Some(time) = self
                .znodes
                .get(path)
                .and_then(|znode| breaks_at(&showing, znode))
            else {
                continue;
            };
            if self.broken.contains(&showing.path) {
                continue;
            }
            if time <= now {
                too_old.push(showing);
            } else if next.is_none_or(|next| time < next) {
                next = Some(time);
            }
        }
        for Showing {
            path, max_stale, ..
        } in too_old
        {
            log::warn!(
                "{path}: not known to be current for {max_stale:?}; reading it fails until it is"
            );
            self.broken.insert(path.clone());
            changes.push(Change::Break { path });
        }
        (changes, next)
    }

    /// Whether every znode was heard of, and every required node has a file.
    pub(super) fn is_complete(&self) -> bool {
        self.is_all_heard() && self.progress().n_required_missing == 0
    }

    /// Whether every znode was heard of, and all subtrees were looked at.
    pub(super) fn is_all_heard(&self) -> bool {
        self.n_unheard == 0 && (self.is_settled || self.trees.is_empty())
    }

    /// What the files of nodes and trees that name hooks show, as far as their znodes were heard of;
    /// with `all` the others too. What is still to be published counts.
    pub(super) fn shown_with_hooks(&self, all: bool) -> Vec<(FilePath, Hint)> {
        let of_nodes = self.nodes.iter().filter(|node| !node.hooks.is_empty());
        let of_nodes = of_nodes.map(|node| (&node.source, node.dest.clone(), node.on_delete));
        let trees = self
            .trees
            .iter()
            .filter(|planted| !planted.tree.hooks.is_empty());
        let of_trees = trees.flat_map(Planted::files);
        let of_trees = of_trees.map(|(path, file)| (path, file, OnDelete::Remove));
        let shown = of_nodes
            .chain(of_trees)
            .filter_map(|(path, file, on_delete)| {
                let znode = self.znodes.get(path)?;
                let hint = match (&znode.state, znode.told) {
                    (State::Absent, _) if on_delete == OnDelete::Remove => Hint::Gone,
                    (State::Unknown | State::Unreadable(_), _) if !all => return None,
                    (_, Some(Told::Content(stat) | Told::Lost(stat))) => Hint::Shows {
                        znode: path.clone(),
                        stat,
                        ino: None,
                    },
                    (_, Some(Told::Absent(_)) | None) => return None,
                };
                Some((file, hint))
            });
        shown.collect()
    }

    /// Whether there is nothing to wait for: something is known of every znode, be it from before,
    /// and nobody is there to ask who could confirm it. `patience` is over or not: without it one failure is enough.
    pub(super) fn is_all_there_is(&self, patience_is_over: bool) -> bool {
        let is_served = self.connected && !self.read_only;
        let is_told = self.read_only || self.disconnected.is_some();
        if is_served || !(patience_is_over || is_told) {
            return false;
        }
        let progress = self.progress();
        progress.n_unknown == 0 && progress.n_required_missing == 0
    }

    /// How far the first load has come.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress {
            n_nodes: self.nodes.len(),
            n_trees: self.trees.len(),
            ..Progress::default()
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
        let is_stale = |path: &ZnodePath| {
            self.znodes
                .get(path)
                .is_some_and(|znode| znode.stale.is_some())
        };
        for planted in &self.trees {
            progress.n_found += planted.n_files();
            progress.n_unknown += usize::from(planted.is_empty() && !self.is_settled);
            progress.n_files += planted.n_files();
            progress.n_stale += planted.shown().filter(|path| is_stale(path)).count();
        }
        progress
    }

    /// The nodes and trees without a file, each in words that say why.
    pub(super) fn missing(&self, required_only: bool) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .filter(|node| self.znodes[&node.source].content.is_none())
            .filter(|node| node.required || !required_only)
            .map(|node| (&node.name, &node.source));
        let trees = self
            .trees
            .iter()
            .filter(|planted| planted.is_empty() && !required_only);
        let trees = trees.map(|planted| (&planted.tree.name, planted.tree.subtree.root()));
        let words = |(name, source)| format!("{name} ({source}: {})", self.why(source));
        nodes.chain(trees).map(words).collect()
    }

    /// How many nodes have a znode that cannot be read now.
    pub(super) fn n_unreadable(&self) -> usize {
        let nodes = self.nodes.iter().filter(|node| {
            let znode = self.znodes.get(&node.source);
            znode.is_some_and(|znode| matches!(znode.state, State::Unreadable(_)))
        });
        nodes.count()
    }

    fn why(&self, source: &ZnodePath) -> String {
        let unknown = State::Unknown;
        let state = self
            .znodes
            .get(source)
            .map_or(&unknown, |znode| &znode.state);
        match state {
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

    /// Patterns that match nothing are probably wrong.
    fn examine_patterns(&mut self) {
        for planted in self.trees.iter_mut().filter(|planted| !planted.is_examined) {
            planted.is_examined = true;
            for pattern in planted.idle_patterns() {
                let Tree { name, subtree, .. } = &planted.tree;
                log::warn!(
                    "trees.{name}.include: {pattern:?} matches nothing below {}",
                    subtree.root()
                );
            }
        }
    }

    /// Notes the state of a znode; gives it, if it is still wanted.
    fn heard(&mut self, path: &ZnodePath, state: State) -> Option<&mut Znode> {
        if !self.znodes.contains_key(path) {
            self.trees_of(path).next()?;
            self.znodes.insert(path.clone(), Znode::default());
            self.n_unheard += 1;
        }
        let znode = self.znodes.get_mut(path)?;
        self.n_unheard -= usize::from(znode.state == State::Unknown);
        znode.state = state;
        Some(znode)
    }

    /// Every file there is to be, with its znode.
    fn all_showings(&self) -> impl Iterator<Item = (&ZnodePath, Showing)> {
        let of_nodes = self.nodes.iter().map(|node| (&node.source, of_node(node)));
        let of_trees = self.trees.iter().flat_map(|planted| {
            let files = planted.files();
            files.map(|(path, file)| (path, in_tree(&planted.tree, file)))
        });
        of_nodes.chain(of_trees)
    }
}

/// What stands where.
struct Layout {
    files: BTreeSet<FilePath>,
    /// With their owners, where they have one of their own.
    directories: BTreeMap<FilePath, Option<Ownership>>,
}

impl Layout {
    /// What leads from one to the other, but for the content of files.
    fn changes_to(&self, after: &Self) -> impl Iterator<Item = Change> {
        let files = self.files.iter().filter(|path| !after.files.contains(path));
        let files = files.map(|path| Change::Remove { path: path.clone() });
        // A longer path sorts behind its parent: the deepest go first and come last.
        let gone = self.directories.keys().rev();
        let gone = gone.filter(|path| !after.directories.contains_key(path));
        let gone = gone.map(|path| Change::RemoveDirectory { path: path.clone() });
        files.chain(gone).chain(after.makes_directories())
    }

    fn makes_directories(&self) -> impl Iterator<Item = Change> {
        let directories = self.directories.iter();
        directories.map(|(path, ownership)| Change::MakeDirectory {
            path: path.clone(),
            ownership: *ownership,
        })
    }
}

fn of_node(node: &Node) -> Showing {
    Showing {
        path: node.dest.clone(),
        ownership: Ownership {
            uid: node.uid,
            gid: node.gid,
            mode: node.mode,
        },
        on_delete: node.on_delete,
        on_disconnect: node.on_disconnect,
        max_stale: node.max_stale,
    }
}

fn in_tree(tree: &Tree, path: FilePath) -> Showing {
    Showing {
        path,
        ownership: Ownership {
            uid: tree.uid,
            gid: tree.gid,
            mode: tree.mode,
        },
        on_delete: OnDelete::Remove,
        on_disconnect: tree.on_disconnect,
        max_stale: tree.max_stale,
    }
}

fn ownership_of_directories(tree: &Tree) -> Ownership {
    Ownership {
        uid: tree.uid,
        gid: tree.gid,
        mode: tree.dir_mode,
    }
}

/// The change that shows a znode whose content is known, as old as it is.
fn show(showing: &Showing, znode: &Znode) -> Option<Change> {
    let content = znode.content.clone()?;
    let (path, ownership) = (showing.path.clone(), showing.ownership);
    let as_of = znode.stale.map(|stale| stale.as_of).or(znode.kept_as_of);
    Some(match as_of {
        None => Change::Put {
            path,
            ownership,
            content,
        },
        Some(mtime) => Change::Recall {
            path,
            ownership,
            content,
            mtime,
        },
    })
}

/// The change after which the file is as the znode is: gone, too old, or shown.
fn show_as_it_stands(
    showing: &Showing,
    znode: &Znode,
    broken: &mut HashSet<FilePath>,
) -> Option<Change> {
    let path = showing.path.clone();
    broken.remove(&path);
    if znode.state == State::Absent && showing.on_delete == OnDelete::Remove {
        Some(Change::Remove { path })
    } else if breaks_at(showing, znode).is_some_and(|time| time <= Instant::now()) {
        broken.insert(path.clone());
        Some(Change::Break { path })
    } else {
        show(showing, znode)
    }
}

/// Whether a change gives a file content.
fn shows(change: &Change) -> bool {
    matches!(change, Change::Put { .. } | Change::Recall { .. })
}

/// When the file of a stale znode breaks, if it ever does.
fn breaks_at(showing: &Showing, znode: &Znode) -> Option<Instant> {
    let stale = znode.stale.as_ref().filter(|_| znode.has_file())?;
    match showing.on_disconnect {
        OnDisconnect::Error => Some(stale.at_age(showing.max_stale)),
        OnDisconnect::Stale => None,
    }
}

fn known_of(path: &ZnodePath, news: News) -> Known {
    Known {
        path: path.clone(),
        shows: match news {
            News::Told(Told::Content(stat)) => Some(stat),
            News::Told(Told::Lost(_) | Told::Absent(_)) | News::Current | News::Forgotten => None,
        },
        news,
        everywhere: true,
    }
}

/// What holds of a znode is noted with each of its files; that all show it, with the last of them.
fn with_last(changes: Vec<Change>, known: Option<Known>) -> Vec<Noted> {
    let mut left = changes.len();
    let note = |change| {
        left -= 1;
        let known = known.clone().map(|known| Known {
            everywhere: known.everywhere && left == 0,
            ..known
        });
        (change, known)
    };
    changes.into_iter().map(note).collect()
}

/// Only with the last of its changes all files of the znode are published.
fn only_the_last_is_everywhere(noted: &mut [Noted], path: &ZnodePath) {
    let of_znode = noted.iter_mut().filter_map(|(_, known)| known.as_mut());
    let mut of_znode = of_znode.filter(|known| known.path == *path).rev();
    of_znode.next();
    for known in of_znode {
        known.everywhere = false;
    }
}
