//! Where nodes and trees stand in the mount, each in a place of its own.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::rc::Rc;

use super::{Node, Tree};
use crate::path::{FilePath, Name, OWN_NAMES, PathError};

/// What stands where in the mount, and who put it there.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The dests of nodes and of trees; nothing else stands below one.
    dests: HashMap<FilePath, Owner>,
    /// The name at the root that is none of theirs.
    status_dir: Option<Name>,
    /// The directories above them, which they share.
    directories: HashMap<FilePath, Owner>,
}

/// What stands somewhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placed<'a> {
    Node(&'a Node),
    Tree(&'a Tree),
}

/// A node or tree, where it is written.
#[derive(Debug, Clone)]
struct Owner {
    key: String,
    is_tree: bool,
    file: Rc<Path>,
    line: usize,
}

/// The nodes and trees of one file, in the order of their lines.
pub(super) fn in_order<'a>(nodes: &'a [Node], trees: &'a [Tree]) -> Vec<Placed<'a>> {
    let nodes = nodes.iter().map(Placed::Node);
    let mut all: Vec<_> = nodes.chain(trees.iter().map(Placed::Tree)).collect();
    all.sort_by_key(|placed| placed.line());
    all
}

impl Placed<'_> {
    /// What its keys begin with: `nodes.X` or `trees.X`.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Node(node) => format!("nodes.{}", node.name),
            Self::Tree(tree) => format!("trees.{}", tree.name),
        }
    }

    /// `node` or `tree`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Tree(_) => "tree",
        }
    }

    /// The first line that names it.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::Node(node) => node.line,
            Self::Tree(tree) => tree.line,
        }
    }

    /// The hooks that it names.
    pub(super) fn hooks(&self) -> &[String] {
        match self {
            Self::Node(node) => &node.hooks,
            Self::Tree(tree) => &tree.hooks,
        }
    }

    fn dest(&self) -> &FilePath {
        match self {
            Self::Node(node) => &node.dest,
            Self::Tree(tree) => &tree.dest,
        }
    }
}

impl Places {
    /// All free, beside the status directory.
    pub(super) fn beside(status_dir: Name) -> Self {
        Self {
            status_dir: Some(status_dir),
            ..Self::default()
        }
    }

    /// Gives what is written in `file` its place, if that is free.
    pub(super) fn take(&mut self, placed: Placed<'_>, file: &Rc<Path>) -> Result<(), String> {
        let dest = placed.dest();
        if dest.names().first() == self.status_dir.as_ref() {
            return Err(format!(
                "\"{dest}\" begins with what mount.status_dir names; write another path"
            ));
        }
        if let Some(other) = self.dests.get(dest) {
            return Err(format!(
                "{} has the {} \"{dest}\" already; write another path",
                other.seen_from(file),
                other.what(),
            ));
        }
        if let Some(other) = self.directories.get(dest) {
            return Err(format!(
                "\"{dest}\" is a directory, for {}; write another path",
                other.seen_from(file)
            ));
        }
        for above in dest.ancestors() {
            if let Some(other) = self.dests.get(&above) {
                let why = match other.is_tree {
                    false => "and cannot be a directory too",
                    true => "which has all below it for itself",
                };
                return Err(format!(
                    "\"{above}\" is a {}, of {}, {why}; write another path",
                    other.what(),
                    other.seen_from(file)
                ));
            }
        }
        let owner = Owner {
            key: placed.key(),
            is_tree: matches!(placed, Placed::Tree(_)),
            file: Rc::clone(file),
            line: placed.line(),
        };
        for above in dest.ancestors() {
            self.directories
                .entry(above)
                .or_insert_with(|| owner.clone());
        }
        self.dests.insert(dest.clone(), owner);
        Ok(())
    }
}

impl Owner {
    /// For somebody who looks at `file`.
    fn seen_from(&self, file: &Path) -> String {
        let Self {
            key,
            is_tree: _,
            file: own,
            line,
        } = self;
        match &**own == file {
            true => format!("{key} (line {line})"),
            false => format!("{key} ({}:{line})", own.display()),
        }
    }

    fn what(&self) -> &'static str {
        match self.is_tree {
            true => "tree",
            false => "file",
        }
    }
}

/// The path in the mount that `text` means. Below the mountpoint an absolute path is taken relative
/// to it, elsewhere it loses its leading slash, and true is given too. `..` goes up, as in a file
/// system, but not out.
pub(super) fn dest(text: &str, mountpoint: &[String]) -> Result<(FilePath, bool), String> {
    let escapes = || format!("{text:?} leaves the mount by \"..\"; write a path below it");
    let mut parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let below = |parts: &[&str]| {
        text.starts_with('/')
            && !mountpoint.is_empty()
            && parts.iter().take(mountpoint.len()).eq(mountpoint)
    };
    let mut is_outside = false;
    if below(&parts) {
        parts.drain(..mountpoint.len());
        parts = resolve(&parts).ok_or_else(escapes)?;
    } else {
        parts = resolve(&parts).ok_or_else(escapes)?;
        if below(&parts) {
            parts.drain(..mountpoint.len());
        } else {
            is_outside = text.starts_with('/');
        }
    }
    if parts
        .first()
        .is_some_and(|name| name.starts_with(OWN_NAMES))
    {
        return Err(format!(
            "{text:?} begins with {OWN_NAMES:?}, which the mount keeps for itself; choose another name"
        ));
    }
    let path = FilePath::parse(&parts.join("/")).map_err(|error| match error {
        PathError::Empty => format!("{text:?} is the mount itself; write a path below it"),
        error => error.to_string(),
    })?;
    Ok((path, is_outside))
}

/// Takes `..` out; none if it leads above the start.
fn resolve<'a>(parts: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut resolved = Vec::new();
    for &part in parts {
        match part {
            ".." => drop(resolved.pop()?),
            _ => resolved.push(part),
        }
    }
    Some(resolved)
}

/// The names of an absolute path.
pub(super) fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dests() {
        let mountpoint = components(Path::new("/mnt/live"));
        for (text, expected) in [
            ("a", "a"),
            ("a/b.json", "a/b.json"),
            ("/mnt/live/a", "a"),
            ("//mnt//live/./a", "a"),
            ("/mnt/x/../live/a", "a"),
            ("mnt/live/a", "mnt/live/a"),
            ("/mnt/liver/a", "mnt/liver/a"),
            ("/etc/a", "etc/a"),
            ("/mnt/a", "mnt/a"),
            ("a/../b", "b"),
            ("/mnt/live/a/../b", "b"),
            ("a # hi", "a # hi"),
            ("...", "..."),
            ("a/", "a"),
        ] {
            let path = dest(text, &mountpoint).map(|(path, _)| path.to_string());
            let is_outside = ["/mnt/liver/a", "/etc/a", "/mnt/a"].contains(&text);
            assert_eq!(dest(text, &mountpoint).unwrap().1, is_outside, "{text:?}");
            assert_eq!(path.as_deref(), Ok(expected), "{text:?}");
        }
        for text in [
            "..",
            "../a",
            "a/../../b",
            "/../a",
            "/mnt/live/../a",
            "/mnt/live/a/../../b",
            "/",
            "/mnt/live",
            "/mnt/live/",
            ".",
            "a/..",
            "a\0b",
        ] {
            assert!(dest(text, &mountpoint).is_err(), "{text:?}");
        }
        let plain = |text| dest(text, &[]).map(|(path, _)| path.to_string());
        assert_eq!(plain("/mnt/live/a"), Ok("mnt/live/a".into()));
    }
}
