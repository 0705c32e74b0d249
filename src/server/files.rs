//! Which files show which znodes: configuration and updates of the mirror -> changes of the tree.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::config::{Node, OnDelete};
use crate::content::Content;
use crate::mirror::{Reason, Update};
use crate::path::{FilePath, ZnodePath};
use crate::source::{Stat, Told};
use crate::store::Reader;
use crate::tree::{Change, Kind, Ownership};

/// The configured nodes, and what is known of their znodes.
pub(super) struct Files {
    nodes: Vec<Node>,
    znodes: HashMap<ZnodePath, Znode>,
    /// How many znodes are in [`State::Unknown`].
    n_unknown: usize,
    /// Why there is no session, if there is none.
    disconnected: Option<String>,
}

/// What is known of a znode.
#[derive(Debug, Clone, Default)]
struct Znode {
    /// Where in the nodes those stand that show it.
    nodes: Vec<usize>,
    /// The content last told; the same memory that the tree serves.
    content: Option<Content>,
    /// The [`Stat`] of that content.
    stat: Option<Stat>,
    /// Once it was told not to exist: the [`Stat`] of the last content before.
    before: Option<Stat>,
    state: State,
}

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    /// Nothing was heard of it.
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
    /// Nodes that have a file.
    pub n_files: usize,
    /// All nodes.
    pub n_nodes: usize,
    /// Required nodes without a file.
    pub n_required_missing: usize,
}

impl Files {
    /// Knows nothing of any znode.
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            znodes: HashMap::new(),
            n_unknown: 0,
            disconnected: None,
        }
    }

    /// Takes another set of nodes, and gives the changes that lead there. What stays as it was
    /// gives changes that the tree finds to be none.
    pub(super) fn plan(&mut self, nodes: Vec<Node>) -> Vec<Change> {
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
            let known = znodes.entry(node.source.clone()).or_insert_with(|| {
                let known = self.znodes.remove(&node.source).unwrap_or_default();
                Znode {
                    nodes: Vec::new(),
                    ..known
                }
            });
            known.nodes.push(at);
            if known.state == State::Absent && node.on_delete == OnDelete::Remove {
                changes.push(Change::Remove {
                    path: node.dest.clone(),
                });
            } else if let Some(content) = &known.content {
                changes.push(put(node, content));
            }
        }
        self.n_unknown = znodes
            .values()
            .filter(|znode| znode.state == State::Unknown)
            .count();
        self.nodes = nodes;
        self.znodes = znodes;
        changes
    }

    /// Goes on with what another process showed: `known` are the znodes of which everything was
    /// published. Gives the changes that take away what is not configured any more.
    pub(super) fn recall(
        &mut self,
        nodes: &[Node],
        mut known: HashMap<ZnodePath, Told>,
        tree: &Reader,
    ) -> Vec<Change> {
        for node in nodes {
            let Some(told) = known.get(&node.source).copied() else {
                continue;
            };
            let content = tree.find(&node.dest).and_then(|ino| tree.content(ino));
            let stat = match told {
                Told::Content(stat) => stat,
                Told::Absent(before) => {
                    let znode = self.znodes.entry(node.source.clone()).or_default();
                    znode.state = State::Absent;
                    znode.before = before;
                    // Some nodes keep what they showed.
                    znode.content = znode.content.take().or(content);
                    continue;
                }
            };
            let znode = self.znodes.entry(node.source.clone()).or_default();
            let others = znode
                .content
                .as_ref()
                .is_none_or(|other| Some(other) == content.as_ref());
            if content.is_none() || !others {
                // Not shown everywhere, or not alike: it is read again.
                known.remove(&node.source);
                self.znodes.remove(&node.source);
                continue;
            }
            znode.content = content;
            znode.stat = Some(stat);
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

    /// What was told of znodes.
    pub(super) fn told(&self) -> HashMap<ZnodePath, Told> {
        let told = |znode: &Znode| match (&znode.state, znode.stat, znode.before) {
            (State::Absent, stat, before) => Some(Told::Absent(stat.or(before))),
            (_, Some(stat), _) => Some(Told::Content(stat)),
            (_, None, Some(before)) => Some(Told::Absent(Some(before))),
            (_, None, None) => None,
        };
        let znodes = self.znodes.iter();
        znodes
            .filter_map(|(path, znode)| Some((path.clone(), told(znode)?)))
            .collect()
    }

    /// The [`Stat`] of the content last told of a znode, which may be gone since.
    pub(super) fn last_stat(&self, path: &ZnodePath) -> Option<Stat> {
        let znode = self.znodes.get(path)?;
        znode.stat.or(znode.before)
    }

    /// Why there is no session, if there is none.
    pub(super) fn disconnected(&self) -> Option<&str> {
        self.disconnected.as_deref()
    }

    /// The znodes to watch.
    pub(super) fn sources(&self) -> Vec<ZnodePath> {
        let sources: BTreeSet<_> = self.nodes.iter().map(|node| node.source.clone()).collect();
        sources.into_iter().collect()
    }

    /// What an update of the mirror means for the files.
    pub(super) fn update(&mut self, update: Update) -> Vec<Change> {
        match update {
            Update::Content { path, value } => {
                let Some((znode, nodes)) = self.heard(&path, State::Live) else {
                    return Vec::new();
                };
                let content = Content::from(value.content);
                znode.content = Some(content.clone());
                znode.stat = Some(value.stat);
                znode.before = None;
                nodes.map(|node| put(node, &content)).collect()
            }
            Update::Absent { path } => {
                let Some((znode, nodes)) = self.heard(&path, State::Absent) else {
                    return Vec::new();
                };
                znode.before = znode.stat.or(znode.before);
                let nodes: Vec<_> = nodes.collect();
                if nodes.iter().all(|node| node.on_delete == OnDelete::Remove) {
                    znode.content = None;
                    znode.stat = None;
                }
                let goes = nodes
                    .iter()
                    .filter(|node| node.on_delete == OnDelete::Remove);
                goes.map(|node| Change::Remove {
                    path: node.dest.clone(),
                })
                .collect()
            }
            Update::Unreadable { path, reason } => {
                self.heard(&path, State::Unreadable(reason));
                Vec::new()
            }
            Update::Confirmed { paths, age: _ } => {
                let mut changes = Vec::new();
                for path in &paths {
                    if let Some((_, nodes)) = self.heard(path, State::Live) {
                        changes.extend(nodes.map(|node| Change::Confirm {
                            path: node.dest.clone(),
                        }));
                    }
                }
                changes
            }
            Update::Connected { .. } => {
                self.disconnected = None;
                Vec::new()
            }
            Update::Disconnected { reason } => {
                self.disconnected = Some(reason);
                Vec::new()
            }
        }
    }

    /// Whether every znode was heard of, and every required node has a file.
    pub(super) fn is_complete(&self) -> bool {
        self.n_unknown == 0 && self.progress().n_required_missing == 0
    }

    /// How far the first load has come.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress {
            n_answered: 0,
            n_files: 0,
            n_nodes: self.nodes.len(),
            n_required_missing: 0,
        };
        for node in &self.nodes {
            let znode = &self.znodes[&node.source];
            progress.n_answered += usize::from(znode.state != State::Unknown);
            progress.n_files += usize::from(znode.content.is_some());
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
        self.n_unknown -= usize::from(znode.state == State::Unknown);
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

fn put(node: &Node, content: &Content) -> Change {
    Change::Put {
        path: node.dest.clone(),
        ownership: Ownership {
            uid: node.uid,
            gid: node.gid,
            mode: node.mode,
        },
        content: content.clone(),
    }
}

/// The directories that the files stand in.
fn directories(nodes: &[Node]) -> BTreeSet<FilePath> {
    nodes
        .iter()
        .flat_map(|node| node.dest.ancestors().collect::<Vec<_>>())
        .collect()
}
