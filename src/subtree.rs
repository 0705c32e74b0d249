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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn subtree(depth: Option<u32>, include: &[&str], exclude: &[&str]) -> Subtree {
        Subtree::new(path("/r"), depth, &strings(include), &strings(exclude)).unwrap()
    }

    const SOME: [&str; 10] = [
        "/r", "/r/a", "/r/a/b", "/r/a/b/c", "/r/a.x", "/r/b", "/r/b/.x", "/", "/q", "/rr/a",
    ];

    /// Those of `SOME` that are wanted, and those that are descended into, without the leading `/r`.
    fn shown(subtree: &Subtree) -> [String; 2] {
        let all = SOME.map(path);
        let text = |is: &dyn Fn(&ZnodePath) -> bool| {
            let chosen: Vec<_> = all.iter().filter(|&path| is(path)).collect();
            let texts = chosen
                .iter()
                .map(|path| path.as_str().replacen("/r", "", 1));
            texts.collect::<Vec<_>>().join(" ")
        };
        [
            text(&|path| subtree.wants(path)),
            text(&|path| subtree.descends(path)),
        ]
    }

    #[test]
    fn what_is_shown() {
        let all = " /a /a/b /a/b/c /a.x /b /b/.x";
        let without_a = " /a.x /b /b/.x";
        type Case<'a> = (Option<u32>, &'a [&'a str], &'a [&'a str], [&'a str; 2]);
        let cases: &[Case<'_>] = &[
            (None, &[], &[], [all, all]),
            (Some(0), &[], &[], ["", ""]),
            (Some(1), &[], &[], [" /a /a.x /b", ""]),
            (Some(2), &[], &[], [" /a /a/b /a.x /b /b/.x", " /a /a.x /b"]),
            // By name, at any depth, and all below.
            (None, &["b"], &[], ["/a/b /a/b/c /b /b/.x", all]),
            (None, &["/b"], &[], ["/b /b/.x", all]),
            (None, &["b/"], &[], ["/a/b /a/b/c /b /b/.x", all]),
            (None, &["a/b"], &[], ["/a/b /a/b/c", all]),
            (None, &["/a/b/"], &[], ["/a/b /a/b/c", all]),
            (None, &["a/*/c"], &[], ["/a/b/c", all]),
            (None, &["**/c"], &[], ["/a/b/c", all]),
            (None, &["a/**"], &[], ["/a/b /a/b/c", all]),
            (None, &["*.x"], &[], ["/a.x /b/.x", all]),
            (None, &["{c,a.x}"], &[], ["/a/b/c /a.x", all]),
            (None, &["[!a]"], &[], ["/a/b /a/b/c /b /b/.x", all]),
            (None, &["?"], &[], ["/a /a/b /a/b/c /b /b/.x", all]),
            (None, &["r", "/r", "r/a"], &[], ["", all]),
            // The root is the empty path.
            (None, &["*"], &[], [all, all]),
            (None, &["**"], &[], [all, all]),
            (None, &[], &["*"], ["", ""]),
            (None, &[], &["**"], ["", ""]),
            (None, &[], &["a"], [without_a, without_a]),
            (None, &[], &["/a"], [without_a, without_a]),
            (
                None,
                &[],
                &["a/b"],
                [" /a /a.x /b /b/.x", " /a /a.x /b /b/.x"],
            ),
            // exclude wins, whichever is above.
            (None, &["c"], &["a"], ["", without_a]),
            (None, &["a"], &["c"], ["/a /a/b", " /a /a/b /a.x /b /b/.x"]),
            (Some(2), &["b"], &[], ["/a/b /b /b/.x", " /a /a.x /b"]),
        ];
        for (depth, include, exclude, expected) in cases {
            // The text of the root is empty, so it is asked for by itself.
            let subtree = subtree(*depth, include, exclude);
            let case = format!("{depth:?} {include:?} {exclude:?}");
            let root_is_shown =
                include.is_empty() || include[0].starts_with('*') && include[0].len() < 3;
            assert_eq!(subtree.wants(&path("/r")), root_is_shown, "{case}");
            assert_eq!(subtree.descends(&path("/r")), *depth != Some(0), "{case}");
            assert_eq!(shown(&subtree), *expected, "{case}");
        }
    }

    #[test]
    fn a_root_that_is_the_root() {
        let subtree = Subtree::new(path("/"), Some(1), &[], &strings(&["x"])).unwrap();
        assert_eq!(subtree.relative(&path("/")), Some(""));
        assert_eq!(subtree.relative(&path("/a/b")), Some("a/b"));
        assert!(subtree.wants(&path("/")) && subtree.wants(&path("/a")));
        assert!(!subtree.wants(&path("/x")) && !subtree.wants(&path("/a/b")));
    }

    #[test]
    fn each_pattern_can_be_asked() {
        let subtree = subtree(Some(1), &["a", "b/*"], &["a"]);
        assert_eq!(subtree.includes(), ["a", "b/*"]);
        for (text, expected) in [
            ("/r/a", [true, false]),
            ("/r/b/.x", [false, true]),
            // Itself, not by one above.
            ("/r/a/b", [false, false]),
            ("/a", [false, false]),
        ] {
            let found = [0, 1].map(|i| subtree.include_matches(i, &path(text)));
            assert_eq!(found, expected, "{text}");
        }
        assert!(!subtree.include_matches(2, &path("/r/a")));
    }

    #[test]
    fn no_patterns() {
        for (text, expected) in [
            (
                "",
                "\"\" is no pattern; write the name of a znode, or a path below the source",
            ),
            (
                "/",
                "\"/\" is no pattern; write the name of a znode, or a path below the source",
            ),
            (
                "[",
                "\"[\" is no pattern: unclosed character class; missing ']'",
            ),
            (
                "a/[b",
                "\"a/[b\" is no pattern: unclosed character class; missing ']'",
            ),
            (
                "{a",
                "\"{a\" is no pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
            ),
        ] {
            assert_eq!(check_pattern(text), Err(expected.into()));
            let texts = strings(&["a", text]);
            let root = ZnodePath::root;
            assert_eq!(
                Subtree::new(root(), None, &texts, &[]),
                Err(expected.into())
            );
            assert_eq!(
                Subtree::new(root(), None, &[], &texts),
                Err(expected.into())
            );
        }
    }

    #[test]
    fn equal_if_written_alike() {
        assert_eq!(subtree(None, &["a"], &[]), subtree(None, &["a"], &[]));
        assert_ne!(subtree(None, &["a"], &[]), subtree(None, &["/a"], &[]));
        assert_ne!(subtree(None, &["a"], &[]), subtree(None, &[], &["a"]));
        assert_ne!(subtree(None, &[], &[]), subtree(Some(1), &[], &[]));
    }

    /// Whether a glob of `*`, `?` and literals matches one component.
    fn matches_name(glob: &[u8], name: &[u8]) -> bool {
        match (glob, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                matches_name(rest, name) || (!name.is_empty() && matches_name(glob, &name[1..]))
            }
            ([b'?', glob @ ..], [_, name @ ..]) => matches_name(glob, name),
            ([c, glob @ ..], [d, name @ ..]) => c == d && matches_name(glob, name),
            _ => false,
        }
    }

    /// The same for paths, with `**` in the front or in the middle for any number of components.
    fn matches_path(glob: &[&str], path: &[&str]) -> bool {
        match (glob, path) {
            ([], []) => true,
            (["**"], _) => !path.is_empty(),
            (["**", rest @ ..], _) => {
                matches_path(rest, path) || (!path.is_empty() && matches_path(glob, &path[1..]))
            }
            ([first, glob @ ..], [name, path @ ..]) => {
                matches_name(first.as_bytes(), name.as_bytes()) && matches_path(glob, path)
            }
            _ => false,
        }
    }

    fn matches(pattern: &str, path: &[&str]) -> bool {
        let stripped = pattern.strip_suffix('/').unwrap_or(pattern);
        match stripped.contains('/') {
            true => {
                let glob: Vec<_> = stripped
                    .strip_prefix('/')
                    .unwrap_or(stripped)
                    .split('/')
                    .collect();
                matches_path(&glob, path)
            }
            false => path
                .last()
                .is_some_and(|name| matches_name(stripped.as_bytes(), name.as_bytes())),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn as_a_naive_oracle_has_it(
            depth in proptest::option::of(0_usize..4),
            include in proptest::collection::vec("/?(\\*\\*/)?[ab.*?]{1,3}(/[ab.*?]{1,2}){0,2}/?", 0..3),
            exclude in proptest::collection::vec("/?(\\*\\*/)?[ab.*?]{1,3}(/[ab.*?]{1,2}){0,2}/?", 0..3),
            names in proptest::collection::vec("[ab][ab.]{0,2}|\\.[ab.]?[ab]", 1..4),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let root = path("/r/s");
            let limit = depth.map(|depth| u32::try_from(depth).unwrap());
            let subtree = Subtree::new(root.clone(), limit, &include, &exclude).unwrap();
            let any = |patterns: &[String]| {
                (1..=names.len()).any(|n| patterns.iter().any(|one| matches(one, &names[..n])))
            };
            let mut whole = root;
            for name in &names {
                whole = whole.child(name).unwrap();
            }
            let is_included = include.is_empty() || any(&include);
            let expected = depth.is_none_or(|depth| names.len() <= depth) && is_included && !any(&exclude);
            prop_assert_eq!(subtree.wants(&whole), expected);
            let expected = depth.is_none_or(|depth| names.len() < depth) && !any(&exclude);
            prop_assert_eq!(subtree.descends(&whole), expected);
            for (i, pattern) in include.iter().enumerate() {
                prop_assert_eq!(subtree.include_matches(i, &whole), matches(pattern, &names), "{}", pattern);
            }
        }
    }
}
