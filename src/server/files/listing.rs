//! How every node stands, for the status.

use super::planted::Planted;
use super::{Files, State, Znode};
use crate::config::Node;
use crate::content::Content;
use crate::mirror::Reason;
use crate::path::{FilePath, ZnodePath};
use crate::source::{Stat, Told};
use crate::status;

/// A node as it is known here; what its file shows by now says the tree.
pub(in crate::server) struct Listed {
    pub(in crate::server) name: String,
    pub(in crate::server) source: ZnodePath,
    pub(in crate::server) dest: FilePath,
    pub(in crate::server) state: status::State,
    /// Something was heard of the znode by this process.
    pub(in crate::server) is_heard_of: bool,
    /// There is a file, or is about to be.
    pub(in crate::server) has_file: bool,
    /// The file may be old.
    pub(in crate::server) is_stale: bool,
    /// What the znode was last told to be, if it was told to have content.
    pub(in crate::server) stat: Option<Stat>,
    /// The content that its file is to show.
    pub(in crate::server) content: Option<Content>,
    /// Its file is broken.
    pub(in crate::server) too_old: bool,
    /// Why it is not live.
    pub(in crate::server) error: Option<String>,
}

/// How many znodes of a tree that are not as they should be are named.
const MAX_NAMED: usize = 20;

impl Files {
    /// Every tree, in the order of the configuration.
    pub(in crate::server) fn listing_of_trees(&self) -> Vec<status::Tree> {
        let mut trees: Vec<status::Tree> = self
            .trees
            .iter()
            .map(|planted| self.tree(planted))
            .collect();
        let found = self
            .znodes
            .iter()
            .filter(|(_, znode)| znode.nodes.is_empty());
        for (path, znode) in found {
            if !matches!(znode.state, State::Unreadable(_)) {
                continue;
            }
            for at in self.trees_of(path) {
                trees[at].unreadable += 1;
                if trees[at].problems.len() < MAX_NAMED {
                    trees[at]
                        .problems
                        .push(format!("{path}: {}", self.why(path)));
                }
            }
        }
        trees
    }

    fn tree(&self, planted: &Planted) -> status::Tree {
        let root = planted.tree.subtree.root();
        let is_stale = |path: &&ZnodePath| {
            let znode = self.znodes.get(*path);
            znode.is_some_and(|znode| znode.stale.is_some())
        };
        let left_out = planted
            .left_out()
            .map(|(path, why)| format!("{path}: {why}"));
        status::Tree {
            name: planted.tree.name.clone(),
            znode: root.as_str().into(),
            directory: planted.tree.dest.to_string(),
            files: planted.n_files() as u64,
            stale: planted.shown().filter(is_stale).count() as u64,
            unreadable: 0,
            left_out: planted.left_out().count() as u64,
            problems: left_out.take(MAX_NAMED).collect(),
            error: planted.is_empty().then(|| self.why(root)),
        }
    }

    /// Every node, in the order of the configuration.
    pub(in crate::server) fn listing(&self) -> Vec<Listed> {
        self.nodes.iter().map(|node| self.listed(node)).collect()
    }

    fn listed(&self, node: &Node) -> Listed {
        let znode = &self.znodes[&node.source];
        let state = stands(znode);
        Listed {
            name: node.name.clone(),
            source: node.source.clone(),
            dest: node.dest.clone(),
            state,
            is_heard_of: znode.state != State::Unknown,
            has_file: znode.has_file(),
            is_stale: znode.has_file() && znode.stale.is_some(),
            stat: match znode.told {
                Some(Told::Content(stat) | Told::Lost(stat)) => Some(stat),
                Some(Told::Absent(_)) | None => None,
            },
            content: znode.content.clone(),
            too_old: self.broken.contains(&node.dest),
            error: match (state, &self.disconnected) {
                (status::State::Live, _) => None,
                (status::State::Denied | status::State::Unreadable | status::State::Unknown, _) => {
                    Some(self.why(&node.source))
                }
                (status::State::Absent, _) if znode.state == State::Absent => None,
                (status::State::Stale | status::State::Absent, Some(reason)) => {
                    Some(format!("ZooKeeper is not reached: {reason}"))
                }
                (status::State::Stale | status::State::Absent, None) => {
                    Some("ZooKeeper has not confirmed it yet".into())
                }
            },
        }
    }
}

/// In the words of the status.
fn stands(znode: &Znode) -> status::State {
    match &znode.state {
        State::Live if znode.stale.is_none() => status::State::Live,
        State::Live => status::State::Stale,
        State::Absent => status::State::Absent,
        State::Unreadable(Reason::Denied) => status::State::Denied,
        State::Unreadable(Reason::Unproven(_) | Reason::Failed(_)) => status::State::Unreadable,
        State::Unknown if znode.has_file() => status::State::Stale,
        // By a server before, or an earlier mount.
        State::Unknown if matches!(znode.told, Some(Told::Absent(_))) => status::State::Absent,
        State::Unknown => status::State::Unknown,
    }
}
