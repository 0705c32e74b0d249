//! Which znodes are wanted: some by name, and all that are found in some subtrees.

use std::collections::{HashMap, HashSet};

use crate::path::ZnodePath;
use crate::subtree::Subtree;

/// What to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These znodes, whether they exist or not.
    pub nodes: Vec<ZnodePath>,
    /// What is found in these; they may overlap each other and the nodes.
    pub trees: Vec<Subtree>,
}

/// The subtrees by their roots, so that a path finds those it is in however many there are.
#[derive(Default, PartialEq)]
pub(super) struct Trees(HashMap<ZnodePath, Vec<Subtree>>);

impl Trees {
    pub(super) fn new(trees: &[Subtree]) -> Self {
        let mut by_root: HashMap<ZnodePath, Vec<Subtree>> = HashMap::new();
        for tree in trees {
            let of_root = by_root.entry(tree.root().clone()).or_default();
            of_root.push(tree.clone());
        }
        Self(by_root)
    }

    /// Whether the znode itself is wanted.
    pub(super) fn wants(&self, path: &ZnodePath) -> bool {
        self.around(path).any(|tree| tree.wants(path))
    }

    /// Whether something below the znode may be wanted.
    pub(super) fn descends(&self, path: &ZnodePath) -> bool {
        self.around(path).any(|tree| tree.descends(path))
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = &ZnodePath> {
        self.0.keys()
    }

    pub(super) fn is_root(&self, path: &ZnodePath) -> bool {
        self.0.contains_key(path)
    }

    /// The roots that are in no other tree: a watch of each of them tells of all trees.
    pub(super) fn outermost(&self) -> HashSet<ZnodePath> {
        let is_inside = |root: &&ZnodePath| {
            let above = root.parent();
            above.is_some_and(|above| is_covered(&above, |path| self.0.contains_key(path)))
        };
        self.roots()
            .filter(|root| !is_inside(root))
            .cloned()
            .collect()
    }

    /// The trees that the path is in, whatever they want.
    fn around(&self, path: &ZnodePath) -> impl Iterator<Item = &Subtree> {
        let mut at = (!self.0.is_empty()).then(|| path.as_str());
        let above = std::iter::from_fn(move || {
            let here = at?;
            at = parent(here);
            Some(here)
        });
        above.filter_map(|above| self.0.get(above)).flatten()
    }
}

/// Whether this holds for the path or for one above it.
pub(super) fn is_covered(path: &ZnodePath, holds: impl Fn(&str) -> bool) -> bool {
    let mut at = Some(path.as_str());
    while let Some(here) = at {
        if holds(here) {
            return true;
        }
        at = parent(here);
    }
    false
}

/// One level up; none above the root.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() > 1 => Some("/"),
        0 => None,
        slash => Some(&path[..slash]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn trees(roots: &[(&str, Option<u32>)]) -> Trees {
        let tree = |(root, depth): &(&str, Option<u32>)| {
            Subtree::new(path(root), *depth, &[], &[]).unwrap()
        };
        Trees::new(&roots.iter().map(tree).collect::<Vec<_>>())
    }

    #[test]
    fn a_path_finds_its_trees() {
        let some = trees(&[("/a", Some(1)), ("/a/b", None), ("/c", Some(0))]);
        for (at, wants, descends) in [
            ("/", false, false),
            ("/a", true, true),
            ("/a/x", true, false),
            ("/a/x/y", false, false),
            ("/a/b", true, true),
            ("/a/b/c/d", true, true),
            ("/ab", false, false),
            ("/c", true, false),
            ("/c/d", false, false),
        ] {
            let found = (some.wants(&path(at)), some.descends(&path(at)));
            assert_eq!(found, (wants, descends), "{at}");
        }
        assert!(trees(&[("/", None)]).wants(&path("/a/b")));
        assert!(!trees(&[]).wants(&path("/a")));
    }

    #[test]
    fn the_outermost_roots_cover_all() {
        let some = trees(&[
            ("/a", None),
            ("/a/b", None),
            ("/ab", None),
            ("/a/b/c", None),
        ]);
        assert_eq!(some.outermost(), HashSet::from([path("/a"), path("/ab")]));
        let all = trees(&[("/", None), ("/a", None)]);
        assert_eq!(all.outermost(), HashSet::from([path("/")]));
    }
}
