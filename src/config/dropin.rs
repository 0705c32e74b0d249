//! Drop-ins: files with nodes, trees and hooks only, such as `mount.d/example.ini`.
//!
//! This is about one of them; all of them together are in [`dropins`](super::dropins).

use std::path::Path;

use super::hooks::naming::Naming;
use super::parts::{self, Accounts};
use super::places::Places;
use super::raw::{Kind, RawConfig};
use super::{Defaults, Error, Hook, Node, Problem, Surroundings, Tree};

/// What a drop-in adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropin {
    /// Its files. They do not conflict with each other, but perhaps with those of other drop-ins.
    pub nodes: Vec<Node>,
    /// Its trees, which conflict with neither.
    pub trees: Vec<Tree>,
    /// Its hooks, of which others may have the names.
    pub hooks: Vec<Hook>,
    pub(super) naming: Naming,
    /// What was left out or ignored, in the order of the lines.
    pub problems: Vec<Problem>,
    /// Why it may mean something else another time, although it says the same.
    pub undecided: Option<String>,
}

/// What `text`, the content of the drop-in `file`, means, with the `defaults` of the main file. A
/// key that is neither a node's, a tree's nor a hook's is an error of the whole drop-in.
pub fn parse_dropin(
    file: &Path,
    text: &[u8],
    defaults: &Defaults,
    surroundings: &Surroundings<'_>,
) -> Result<Dropin, Error> {
    let mut raw = RawConfig::read(file, text, Kind::Dropin, surroundings)?;
    let mut problems = std::mem::take(&mut raw.problems);
    let mut accounts = Accounts::default();
    let parts = parts::read(
        (&raw, Places::default()),
        defaults,
        surroundings,
        &mut accounts,
        &mut problems,
    );
    problems.sort_by_key(|problem| problem.line);
    Ok(Dropin {
        nodes: parts.nodes,
        trees: parts.trees,
        hooks: parts.hooks,
        naming: parts.naming,
        problems,
        undecided: accounts.undecided,
    })
}
