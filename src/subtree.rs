//! Which znodes below a root are wanted: down to a depth, with patterns.
//!
//! A pattern without a slash is matched with the name of a znode, at any depth; one with a slash with
//! the path below the root, where a slash in front only says so. One at the end counts for nothing.
//! `*` and `?` stop at a slash, `**` does not. To patterns the root itself is the empty path, which
//! `*` and `**` match.

use std::fmt;
use std::sync::Arc;

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::path::ZnodePath;

/// Which znodes of a subtree are wanted. Cloning is cheap.
///
/// What matches `exclude` is not wanted, nor is anything below it; the root is never excluded. With
/// `include`, a znode is wanted if it or one above it in the subtree matches; all others are only on
/// the way. `exclude` wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree {
    root: ZnodePath,
    depth: Option<u32>,
    include: Arc<Patterns>,
    exclude: Arc<Patterns>,
}

/// Globs, compiled together.
#[derive(Default)]
struct Patterns {
    /// As they were written, in the order of the set.
    texts: Vec<String>,
    set: GlobSet,
}

impl Subtree {
    /// The subtree of `root`: with a `depth` of 0 the root alone, with 1 its children too, without
    /// one all there is. The error says which pattern is none, and what would be one.
    pub fn new(
        root: ZnodePath,
        depth: Option<u32>,
        include: &[String],
        exclude: &[String],
    ) -> Result<Self, String> {
        Ok(Self {
            root,
            depth,
            include: Arc::new(Patterns::new(include)?),
            exclude: Arc::new(Patterns::new(exclude)?),
        })
    }

    /// Where it begins.
    pub fn root(&self) -> &ZnodePath {
        &self.root
    }

    /// How many levels below the root are in it; none for all.
    pub fn depth(&self) -> Option<u32> {
        self.depth
    }

    /// The path of a znode below the root, without a leading slash: empty for the root itself, none
    /// for one outside.
    pub fn relative<'a>(&self, path: &'a ZnodePath) -> Option<&'a str> {
        path.strip_prefix(&self.root)
    }

    /// Whether the znode is in the subtree and is to be shown itself.
    pub fn wants(&self, path: &ZnodePath) -> bool {
        let Some(relative) = self.relative(path) else {
            return false;
        };
        let is_deep_enough = self.depth.is_none_or(|most| depth(relative) <= most);
        is_deep_enough && !self.is_excluded(relative) && self.is_included(relative)
    }

    /// Whether znodes below this one may be wanted: it is in the subtree, not excluded, and above the
    /// depth limit.
    pub fn descends(&self, path: &ZnodePath) -> bool {
        let Some(relative) = self.relative(path) else {
            return false;
        };
        self.depth.is_none_or(|most| depth(relative) < most) && !self.is_excluded(relative)
    }

    /// The patterns of `include` as they were written.
    pub fn includes(&self) -> &[String] {
        &self.include.texts
    }

    /// The patterns of `exclude` as they were written.
    pub fn excludes(&self) -> &[String] {
        &self.exclude.texts
    }

    /// Whether the znode itself matches the pattern `i` of [`Subtree::includes`], wanted or not.
    pub fn include_matches(&self, i: usize, path: &ZnodePath) -> bool {
        self.relative(path)
            .is_some_and(|relative| self.include.set.matches(relative).contains(&i))
    }

    fn is_excluded(&self, relative: &str) -> bool {
        !self.exclude.texts.is_empty()
            && from_the_top(relative).any(|path| self.exclude.matches(path))
    }

    fn is_included(&self, relative: &str) -> bool {
        self.include.texts.is_empty()
            || self.include.matches(relative)
            || from_the_top(relative).any(|path| self.include.matches(path))
    }
}

impl Patterns {
    fn new(texts: &[String]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for text in texts {
            set.add(glob(text)?);
        }
        let set = set.build().map_err(|err| err.to_string())?;
        let texts = texts.to_vec();
        Ok(Self { texts, set })
    }

    fn matches(&self, relative: &str) -> bool {
        self.set.is_match_candidate(&Candidate::new(relative))
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.fmt(f)
    }
}

/// Whether [`Subtree::new`] would take the pattern; the error says why not.
pub(crate) fn check_pattern(text: &str) -> Result<(), String> {
    glob(text).map(drop)
}

fn glob(text: &str) -> Result<Glob, String> {
    let pattern = text.strip_suffix('/').unwrap_or(text);
    let pattern = match pattern.strip_prefix('/') {
        Some(path) => path.to_owned(),
        None if pattern.contains('/') || pattern.is_empty() => pattern.to_owned(),
        // A name, at any depth.
        None => format!("**/{pattern}"),
    };
    if pattern.is_empty() {
        return Err(format!(
            "{text:?} is no pattern; write the name of a znode, or a path below the source"
        ));
    }
    GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .map_err(|err| format!("{text:?} is no pattern: {}", err.kind()))
}

/// How many levels below the root a path is.
fn depth(relative: &str) -> u32 {
    match relative {
        "" => 0,
        // No path has four thousand million components.
        _ => 1 + relative.bytes().filter(|&byte| byte == b'/').count() as u32,
    }
}

/// The path and those above it, without the root, from the uppermost.
fn from_the_top(relative: &str) -> impl Iterator<Item = &str> {
    let slashes = relative.match_indices('/').map(|(slash, _)| slash);
    let ends = slashes.chain((!relative.is_empty()).then_some(relative.len()));
    ends.map(|end| &relative[..end])
}
