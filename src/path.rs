//! Paths that are valid by construction: of znodes, and of files in the mount.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The longest file name Linux accepts (`NAME_MAX`), in bytes.
pub const MAX_NAME: usize = 255;

/// What the names begin with that the mount keeps for itself, at its root.
pub const OWN_NAMES: &str = ".livedata";

/// An absolute znode path that a ZooKeeper server accepts, such as `/services/web`.
///
/// Cloning is cheap: paths are keys everywhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZnodePath(Arc<str>);

/// Where a file or directory stands below the root of the mount: at least one [`Name`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(Arc<[Name]>);

/// The name of one directory entry: not empty, not `.` or `..`, without `/` and NUL, and at most
/// [`MAX_NAME`] bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no path; the message says what would be one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// Nothing is left of the text.
    #[error("the path is empty")]
    Empty,
    /// `//`, or a trailing slash.
    #[error("`{0}` has an empty component; write single slashes and none at the end")]
    EmptyComponent(String),
    /// `.` or `..` somewhere.
    #[error("`{0}` has the component `{1}`; write the path out")]
    Relative(String, String),
    /// A character that neither ZooKeeper nor a file system takes.
    #[error("`{0}` has the character {1:?}, which a path cannot have")]
    Character(String, char),
    /// A component that is longer than a file name can be.
    #[error("`{0}` is longer than 255 bytes")]
    TooLong(String),
}

/// So that tables by path are asked for a part of one.
impl Borrow<str> for ZnodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl ZnodePath {
    /// The root of the (possibly chrooted) tree.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Takes a path as users write it: a missing leading slash is added, as Baseplate does.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let relative = text.strip_prefix('/').unwrap_or(text);
        if relative.is_empty() {
            return Ok(Self::root());
        }
        for component in relative.split('/') {
            check_znode_component(text, component)?;
        }
        Ok(Self(match text.starts_with('/') {
            true => text.into(),
            false => format!("/{relative}").into(),
        }))
    }

    /// The path as ZooKeeper wants it: with the leading slash, without one at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path one level up; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if &*self.0 == "/" {
            return None;
        }
        match self.0.rfind('/') {
            Some(slash) if slash > 0 => Some(Self(self.0[..slash].into())),
            _ => Some(Self::root()),
        }
    }

    /// The znode of this name below this one; the name is one component.
    pub fn child(&self, name: &str) -> Result<Self, PathError> {
        if name.contains('/') {
            return Err(PathError::Character(name.into(), '/'));
        }
        check_znode_component(name, name)?;
        let above = self.0.strip_suffix('/').unwrap_or(&self.0);
        Ok(Self(format!("{above}/{name}").into()))
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<&str> {
        let (_, name) = self.0.rsplit_once('/')?;
        (!name.is_empty()).then_some(name)
    }

    /// Whether it is `above` or a znode below that.
    pub fn starts_with(&self, above: &Self) -> bool {
        self.strip_prefix(above).is_some()
    }

    /// The rest of the path below `above`, without a leading slash: empty for `above` itself, none
    /// for what is not below it.
    pub fn strip_prefix(&self, above: &Self) -> Option<&str> {
        let above = above.0.strip_suffix('/').unwrap_or(&above.0);
        match self.0.strip_prefix(above)? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
    }
}

impl FilePath {
    /// Takes a path relative to the mount; leading slashes count for nothing.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let relative = text.trim_start_matches('/');
        if relative.is_empty() {
            return Err(PathError::Empty);
        }
        let names = relative
            .split('/')
            .map(|component| {
                check_component(text, component)?;
                if component.len() > MAX_NAME {
                    return Err(PathError::TooLong(component.into()));
                }
                Ok(Name(component.into()))
            })
            .collect::<Result<Arc<[Name]>, _>>()?;
        Ok(Self(names))
    }

    /// The names from the root of the mount down; never empty.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// The last name, and those of the directories above it.
    pub fn split_last(&self) -> (&Name, &[Name]) {
        self.0
            .split_last()
            .expect("a FilePath has at least one name")
    }

    /// The first `n` names; at least one.
    pub fn prefix(&self, n: usize) -> Self {
        Self(self.0[..n.max(1)].into())
    }

    /// The entry of this name in the directory of this path.
    pub fn child(&self, name: &Name) -> Self {
        Self(
            self.0
                .iter()
                .chain(std::iter::once(name))
                .cloned()
                .collect(),
        )
    }

    /// The directories above, from the nearest to the outermost, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = FilePath> + '_ {
        (1..self.0.len()).rev().map(|n| Self(self.0[..n].into()))
    }
}

impl From<Name> for FilePath {
    fn from(name: Name) -> Self {
        Self([name].into())
    }
}

impl Name {
    /// Takes a name that a directory can hold.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.contains('/') {
            return Err(PathError::Character(text.into(), '/'));
        }
        check_component(text, text)?;
        if text.len() > MAX_NAME {
            return Err(PathError::TooLong(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The name as it stands in the directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a server refuses in a component.
fn check_znode_component(whole: &str, component: &str) -> Result<(), PathError> {
    check_component(whole, component)?;
    // Quickly, for most paths.
    if component.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    // The ranges of PathUtils.validatePath: control characters, surrogates (no `char` is one),
    // private use, specials.
    match component.chars().find(|&c| {
        matches!(c, '\u{1}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{f000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
    }) {
        Some(bad) => Err(PathError::Character(whole.into(), bad)),
        None => Ok(()),
    }
}

/// What is forbidden in both worlds.
fn check_component(whole: &str, component: &str) -> Result<(), PathError> {
    match component {
        "" => Err(PathError::EmptyComponent(whole.into())),
        "." | ".." => Err(PathError::Relative(whole.into(), component.into())),
        _ if component.contains('\0') => Err(PathError::Character(whole.into(), '\0')),
        _ => Ok(()),
    }
}

// A `Name` is looked up by the bytes the kernel sends, without building one.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! shown_as {
    ($type:ty, $this:ident => $text:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $this = self;
                f.write_str(&$text)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

shown_as!(ZnodePath, this => this.0);
shown_as!(Name, this => this.0);
shown_as!(FilePath, this => this.0.iter().map(Name::as_str).collect::<Vec<_>>().join("/"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn znode_paths() {
        let parsed = |text: &str| ZnodePath::parse(text).map(|path| path.to_string());
        assert_eq!(parsed("/"), Ok("/".into()));
        assert_eq!(parsed("/a/b"), Ok("/a/b".into()));
        assert_eq!(parsed("a/b"), Ok("/a/b".into()));
        assert_eq!(parsed("/a # hi"), Ok("/a # hi".into()));
        assert_eq!(parsed(""), Err(PathError::Empty));
        assert_eq!(parsed("/a/"), Err(PathError::EmptyComponent("/a/".into())));
        assert_eq!(parsed("//a"), Err(PathError::EmptyComponent("//a".into())));
        assert_eq!(
            parsed("/a/../b"),
            Err(PathError::Relative("/a/../b".into(), "..".into()))
        );
        assert_eq!(
            parsed("/a\nb"),
            Err(PathError::Character("/a\nb".into(), '\n'))
        );
    }

    #[test]
    fn parents_end_at_the_root() {
        let path = ZnodePath::parse("/a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.parent().unwrap().parent().unwrap(), ZnodePath::root());
        assert_eq!(ZnodePath::root().parent(), None);
    }

    #[test]
    fn children_and_names() {
        let root = ZnodePath::root();
        let a = root.child("a").unwrap();
        let b = a.child("b c").unwrap();
        assert_eq!((a.as_str(), b.as_str()), ("/a", "/a/b c"));
        assert_eq!(ZnodePath::parse("/a/b c"), Ok(b.clone()));
        let names = [&root, &a, &b].map(|path| path.name().map(str::to_owned));
        assert_eq!(names, [None, Some("a".into()), Some("b c".into())]);
        for wrong in ["", ".", "..", "a/b", "/", "/a", "a/", "a\nb", "a\0"] {
            assert!(root.child(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_below() {
        let path = |text| ZnodePath::parse(text).unwrap();
        for (lower, above, expected) in [
            ("/", "/", Some("")),
            ("/a", "/", Some("a")),
            ("/a/b", "/", Some("a/b")),
            ("/a/b", "/a", Some("b")),
            ("/a", "/a", Some("")),
            ("/ab", "/a", None),
            ("/", "/a", None),
            ("/a", "/a/b", None),
        ] {
            let (lower, above) = (path(lower), path(above));
            assert_eq!(lower.strip_prefix(&above), expected, "{lower} {above}");
            assert_eq!(lower.starts_with(&above), expected.is_some());
        }
    }

    #[test]
    fn file_paths() {
        let parsed = |text: &str| FilePath::parse(text).map(|path| path.to_string());
        assert_eq!(parsed("/etc/a.json"), Ok("etc/a.json".into()));
        assert_eq!(parsed("a"), Ok("a".into()));
        assert_eq!(parsed("/"), Err(PathError::Empty));
        assert_eq!(
            parsed("a/../../b"),
            Err(PathError::Relative("a/../../b".into(), "..".into()))
        );
        assert_eq!(
            parsed(&"x".repeat(256)),
            Err(PathError::TooLong("x".repeat(256)))
        );
        let above: Vec<_> = FilePath::parse("a/b/c")
            .unwrap()
            .ancestors()
            .map(|path| path.to_string())
            .collect();
        assert_eq!(above, ["a/b", "a"]);
    }
}
