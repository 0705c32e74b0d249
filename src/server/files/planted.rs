//! Where the znodes of a tree stand in the mount.
//!
//! A znode without children is a file, one with children a directory with its own data in a file of
//! a fixed name. A directory is also what is only on the way to a znode that is shown. So a change of
//! one znode may change what those above it are; it becomes [`Step`]s, in an order that leads from
//! one tree to the next: what is above is made before, and goes after.

use std::collections::{BTreeMap, HashMap};

use crate::config::Tree;
use crate::path::{FilePath, Name, ZnodePath};

/// A tree of the configuration, with the znodes that it shows.
pub(super) struct Planted {
    pub(super) tree: Tree,
    places: HashMap<ZnodePath, Place>,
    /// What a file system cannot show, and why; what is below it is left out with it.
    left_out: BTreeMap<ZnodePath, &'static str>,
    /// Whether it was looked for patterns that match nothing.
    pub(super) is_examined: bool,
    /// Whether nothing of it was published by this process yet.
    pub(super) is_new: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Whether it has content to show.
    is_shown: bool,
    is_parent: bool,
    /// How many of its children are anything but [`Shape::Nothing`].
    n_below: u32,
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nothing,
    File,
    Directory { has_data: bool },
}

/// A change in the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The file shows this znode.
    Show(ZnodePath, FilePath),
    /// The file of this znode is not there any more.
    Remove(ZnodePath, FilePath),
    MakeDirectory(FilePath),
    RemoveDirectory(FilePath),
}

impl Place {
    fn shape(self) -> Shape {
        match self {
            Self {
                is_shown: false,
                n_below: 0,
                ..
            } => Shape::Nothing,
            Self {
                is_shown: true,
                is_parent: false,
                n_below: 0,
            } => Shape::File,
            Self { is_shown, .. } => Shape::Directory { has_data: is_shown },
        }
    }
}

impl Planted {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            places: HashMap::new(),
            left_out: BTreeMap::new(),
            is_examined: false,
            is_new: true,
        }
    }

    /// The znode, which the tree wants, has content to show or not, and children or not.
    pub(super) fn set(&mut self, path: &ZnodePath, is_shown: bool, is_parent: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if !is_shown {
            self.left_out.remove(path);
        } else if let Some((at, why)) = self.cannot_show(path) {
            if self.left_out.insert(at.clone(), why).is_none() {
                log::warn!("trees.{}: {at} is left out: {why}", self.tree.name);
            }
            return steps;
        }
        self.change(path, &mut steps, &|place| {
            (place.is_shown, place.is_parent) = (is_shown, is_parent);
        });
        steps
    }

    /// The file that shows the content of the znode.
    pub(super) fn file(&self, path: &ZnodePath) -> Option<FilePath> {
        match self.shape(path) {
            Shape::File => Some(self.dest(path)),
            Shape::Directory { has_data: true } => Some(self.data(path)),
            Shape::Directory { has_data: false } | Shape::Nothing => None,
        }
    }

    /// All files, with the znodes that they show.
    pub(super) fn files(&self) -> impl Iterator<Item = (&ZnodePath, FilePath)> {
        let paths = self.places.keys();
        paths.filter_map(|path| Some((path, self.file(path)?)))
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = FilePath> {
        let places = self.places.iter();
        let is_directory = |place: &Place| matches!(place.shape(), Shape::Directory { .. });
        let directories = places.filter(move |(_, place)| is_directory(place));
        directories.map(|(path, _)| self.dest(path))
    }

    /// The znodes whose content is shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = &ZnodePath> {
        let shown = self.places.iter().filter(|(_, place)| place.is_shown);
        shown.map(|(path, _)| path)
    }

    pub(super) fn n_files(&self) -> usize {
        self.shown().count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What a file system cannot show, with the reasons.
    pub(super) fn left_out(&self) -> impl Iterator<Item = (&ZnodePath, &'static str)> {
        self.left_out.iter().map(|(path, why)| (path, *why))
    }

    /// The patterns of `include` that match none of what is shown.
    pub(super) fn idle_patterns(&self) -> impl Iterator<Item = &str> {
        let subtree = &self.tree.subtree;
        let patterns = subtree.includes().iter().enumerate();
        let is_idle = |i| !self.shown().any(|path| subtree.include_matches(i, path));
        patterns
            .filter(move |(i, _)| is_idle(*i))
            .map(|(_, pattern)| pattern.as_str())
    }

    /// Where the znode stands, as a file or a directory. What has no place stands where the root
    /// does.
    pub(super) fn dest(&self, path: &ZnodePath) -> FilePath {
        let mut dest = self.tree.dest.clone();
        for component in self.components(path) {
            if let Ok(name) = Name::parse(component) {
                dest = dest.child(&name);
            }
        }
        dest
    }

    /// The znode that a file shows; none where the file is not in the tree.
    pub(super) fn znode(&self, file: &FilePath) -> Option<ZnodePath> {
        let below = file.names().strip_prefix(self.tree.dest.names())?;
        let names = match below {
            [names @ .., last] if *last == self.tree.data_name => names,
            names => names,
        };
        names
            .iter()
            .try_fold(self.tree.subtree.root().clone(), |path, name| {
                path.child(name.as_str()).ok()
            })
    }

    fn data(&self, path: &ZnodePath) -> FilePath {
        self.dest(path).child(&self.tree.data_name)
    }

    fn components<'a>(&self, path: &'a ZnodePath) -> impl Iterator<Item = &'a str> + use<'a> {
        let relative = self.tree.subtree.relative(path).unwrap_or_default();
        relative
            .split('/')
            .filter(|component| !component.is_empty())
    }

    /// Whether the znode, or the one that is returned above it, has a name that no file can have
    /// there.
    fn cannot_show(&self, path: &ZnodePath) -> Option<(ZnodePath, &'static str)> {
        let mut at = self.tree.subtree.root().clone();
        for component in self.components(path) {
            at = at.child(component).ok()?;
            if Name::parse(component).is_err() {
                return Some((at, "its name is longer than a file name can be"));
            }
            if component == self.tree.data_name.as_str() {
                return Some((
                    at,
                    "its name is that of the file with the data of its parent",
                ));
            }
        }
        None
    }

    fn shape(&self, path: &ZnodePath) -> Shape {
        self.places
            .get(path)
            .map_or(Shape::Nothing, |place| place.shape())
    }

    fn change(&mut self, path: &ZnodePath, steps: &mut Vec<Step>, how: &dyn Fn(&mut Place)) {
        let place = self.places.entry(path.clone()).or_default();
        let before = place.shape();
        how(place);
        let after = place.shape();
        if after == Shape::Nothing {
            self.places.remove(path);
        }
        if before == after {
            return;
        }
        let parent = path.parent().filter(|_| path != self.tree.subtree.root());
        if let (Shape::Nothing, Some(parent)) = (before, &parent) {
            self.change(parent, steps, &|place| place.n_below += 1);
        }
        match before {
            Shape::File => steps.push(Step::Remove(path.clone(), self.dest(path))),
            Shape::Directory { has_data: true } => {
                steps.push(Step::Remove(path.clone(), self.data(path)));
            }
            Shape::Directory { .. } | Shape::Nothing => {}
        }
        match (before, after) {
            (Shape::Directory { .. }, Shape::Nothing | Shape::File) => {
                steps.push(Step::RemoveDirectory(self.dest(path)));
            }
            (Shape::Nothing | Shape::File, Shape::Directory { .. }) => {
                steps.push(Step::MakeDirectory(self.dest(path)));
            }
            _ => {}
        }
        if let Some(file) = self.file(path) {
            steps.push(Step::Show(path.clone(), file));
        }
        if let (Shape::Nothing, Some(parent)) = (after, &parent) {
            self.change(parent, steps, &|place| place.n_below -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::OnDisconnect;
    use crate::subtree::Subtree;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn planted(depth: Option<u32>) -> Planted {
        Planted::new(Tree {
            name: "t".into(),
            line: 1,
            subtree: Subtree::new(path("/t"), depth, &[], &[]).unwrap(),
            dest: FilePath::parse("d").unwrap(),
            is_outside: false,
            uid: 0,
            gid: 0,
            mode: 0o400,
            dir_mode: 0o555,
            data_name: Name::parse("_data_").unwrap(),
            on_disconnect: OnDisconnect::Stale,
            max_stale: Duration::ZERO,
            hooks: Vec::new(),
        })
    }

    fn words(steps: Vec<Step>) -> Vec<String> {
        let word = |step| match step {
            Step::Show(znode, file) => format!("{file} shows {znode}"),
            Step::Remove(_, file) => format!("no {file}"),
            Step::MakeDirectory(path) => format!("{path}/"),
            Step::RemoveDirectory(path) => format!("no {path}/"),
        };
        steps.into_iter().map(word).collect()
    }

    #[test]
    fn files_become_directories_and_back() {
        let mut tree = planted(None);
        let mut set =
            |at: &str, is_shown, is_parent| words(tree.set(&path(at), is_shown, is_parent));
        assert_eq!(set("/t", true, false), ["d shows /t"]);
        assert_eq!(set("/t", true, false), [""; 0]);
        assert_eq!(
            set("/t/a", true, false),
            ["no d", "d/", "d/_data_ shows /t", "d/a shows /t/a"]
        );
        assert_eq!(
            set("/t/a", true, true),
            ["no d/a", "d/a/", "d/a/_data_ shows /t/a"]
        );
        assert_eq!(
            set("/t/a/b/c", true, false),
            ["d/a/b/", "d/a/b/c shows /t/a/b/c"]
        );
        assert_eq!(set("/t/a", false, false), ["no d/a/_data_"]);
        assert_eq!(
            set("/t/a/b/c", false, false),
            [
                "no d/a/b/c",
                "no d/a/b/",
                "no d/a/",
                "no d/_data_",
                "no d/",
                "d shows /t"
            ]
        );
        assert_eq!(set("/t", false, false), ["no d"]);
        assert!(tree.is_empty());
    }

    #[test]
    fn what_no_file_can_be_called_is_left_out() {
        let mut tree = planted(None);
        let long = format!("/t/{}", "x".repeat(256));
        let longest = format!("/t/{}", "x".repeat(255));
        assert_eq!(tree.set(&path(&long), true, false), []);
        assert_eq!(tree.set(&path(&format!("{long}/below")), true, false), []);
        assert_eq!(tree.set(&path("/t/_data_"), true, false), []);
        assert!(!tree.set(&path(&longest), true, false).is_empty());
        let left_out = |tree: &Planted| -> Vec<_> {
            tree.left_out().map(|(path, _)| path.to_string()).collect()
        };
        assert_eq!(left_out(&tree), ["/t/_data_", &*long]);
        tree.set(&path(&long), false, false);
        assert_eq!(left_out(&tree), ["/t/_data_"]);
    }

    proptest! {
        /// Whatever is set, the steps lead from one set of files and directories to the one that
        /// the rules say, and each fits where it is taken.
        #[test]
        fn steps_lead_to_what_is_shown(
            sets in proptest::collection::vec(("(/[ab]){0,3}", any::<bool>(), any::<bool>()), 1..60)
        ) {
            let mut tree = planted(None);
            let (mut files, mut directories) = (BTreeMap::new(), BTreeSet::new());
            let mut shown: BTreeMap<String, bool> = BTreeMap::new();
            for (below, is_shown, is_parent) in sets {
                let at = format!("/t{below}");
                match is_shown {
                    true => shown.insert(at.clone(), is_parent),
                    false => shown.remove(&at),
                };
                for step in tree.set(&path(&at), is_shown, is_parent) {
                    match step {
                        Step::Show(znode, file) => {
                            let (_, above) = file.split_last();
                            for n in 1..=above.len() {
                                let above = file.prefix(n);
                                prop_assert!(n == 0 || directories.contains(&above));
                            }
                            prop_assert!(!directories.contains(&file));
                            files.insert(file, znode.to_string());
                        }
                        Step::Remove(znode, file) => {
                            prop_assert_eq!(files.remove(&file), Some(znode.to_string()));
                        }
                        Step::MakeDirectory(path) => {
                            prop_assert!(!files.contains_key(&path));
                            prop_assert!(directories.insert(path));
                        }
                        Step::RemoveDirectory(path) => {
                            let prefix = format!("{path}/");
                            let is_in = |file: &FilePath| file.to_string().starts_with(&prefix);
                            prop_assert!(!files.keys().any(is_in));
                            prop_assert!(!directories.iter().any(is_in));
                            prop_assert!(directories.remove(&path));
                        }
                    }
                }
                let has_below = |at: &str| {
                    let prefix = format!("{at}/");
                    shown.keys().any(|other| other.starts_with(&prefix))
                };
                let expected: BTreeMap<String, String> = shown.iter().map(|(at, is_parent)| {
                    let base = at.replacen("/t", "d", 1);
                    match *is_parent || has_below(at) {
                        true => (format!("{base}/_data_"), at.clone()),
                        false => (base, at.clone()),
                    }
                }).collect();
                let found: BTreeMap<String, String> =
                    files.iter().map(|(file, znode)| (file.to_string(), znode.clone())).collect();
                prop_assert_eq!(&found, &expected);
                for (znode, file) in tree.files() {
                    let found = tree.znode(&file);
                    prop_assert_eq!(found.as_ref(), Some(znode));
                }
                let mut listed: Vec<_> =
                    tree.files().map(|(znode, file)| (file.to_string(), znode.to_string())).collect();
                listed.sort();
                prop_assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
                prop_assert_eq!(tree.directories().collect::<BTreeSet<_>>(), directories.clone());
                prop_assert_eq!(tree.n_files(), shown.len());
            }
        }
    }
}
