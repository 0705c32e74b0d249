//! What the nodes mean: each by itself, and beside the others.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::rc::Rc;

use nix::unistd::{Group, User};

use super::raw::{RawConfig, RawNode};
use super::{Defaults, Node, OnDisconnect, Problem, Severity, Surroundings, values};
use crate::path::{FilePath, Name, OWN_NAMES, PathError};

/// The nodes that can be shown together. Whatever is left out is pushed to `problems`.
pub(super) fn nodes(
    (raw, mut places): (&RawConfig<'_>, Places),
    defaults: &Defaults,
    surroundings: &Surroundings<'_>,
    accounts: &mut Accounts,
    problems: &mut Vec<Problem>,
) -> Vec<Node> {
    let mountpoint = surroundings.mountpoint.map(components).unwrap_or_default();
    let file = Rc::from(raw.file);
    let mut nodes = Vec::new();
    for raw_node in &raw.nodes {
        let mut reading = Reading {
            file: raw.file,
            raw: raw_node,
            problems,
            wrong: false,
        };
        if let Some(node) = reading.node(defaults, &mountpoint, accounts) {
            match places.take(&node, &file) {
                Ok(()) => nodes.push(node),
                Err(message) => reading.problem("dest", message),
            }
        }
    }
    nodes
}

/// User and group names, each looked up once: ten thousand nodes have a handful of them.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: HashMap<String, Result<u32, String>>,
    groups: HashMap<String, Result<u32, String>>,
}

impl Accounts {
    /// The user with this name, else with this number.
    pub(super) fn user(&mut self, text: &str) -> Result<u32, String> {
        lookup(&mut self.users, text, "user", |name| {
            Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    }

    /// The group with this name, else with this number.
    pub(super) fn group(&mut self, text: &str) -> Result<u32, String> {
        lookup(&mut self.groups, text, "group", |name| {
            Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })
    }
}

fn lookup(
    known: &mut HashMap<String, Result<u32, String>>,
    text: &str,
    what: &str,
    find: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, String> {
    if let Some(result) = known.get(text) {
        return result.clone();
    }
    let result = match (find(text), values::id(text)) {
        (Ok(Some(id)), _) | (_, Some(id)) => Ok(id),
        (Ok(None), None) => Err(format!(
            "there is no {what} {text:?} here; write the name of one that exists, or a number"
        )),
        (Err(errno), None) => Err(format!(
            "cannot look up the {what} {text:?} ({}); write a number",
            errno.desc()
        )),
    };
    known.insert(text.into(), result.clone());
    result
}

/// One node while it is read. All that is wrong with it is reported, not only the first.
struct Reading<'a> {
    file: &'a Path,
    raw: &'a RawNode,
    problems: &'a mut Vec<Problem>,
    wrong: bool,
}

impl Reading<'_> {
    fn node(
        &mut self,
        defaults: &Defaults,
        mountpoint: &[String],
        accounts: &mut Accounts,
    ) -> Option<Node> {
        let name = &self.raw.name;
        let source = match self.raw.option("source") {
            Some(_) => self.value("source", None, |text| values::znode(text).map(Some)),
            None => {
                let message = format!("missing; write nodes.{name}.source = /path/of/a/znode");
                self.problem("source", message);
                None
            }
        };
        let dest = self.dest(mountpoint);
        let uid = self.value("owner", defaults.uid, |text| accounts.user(text));
        let gid = self.value("group", defaults.gid, |text| accounts.group(text));
        let mode = self.value("mode", defaults.mode, values::mode);
        let on_delete = self.value("on_delete", defaults.on_delete, values::on_delete);
        let on_disconnect = self.value(
            "on_disconnect",
            defaults.on_disconnect,
            values::on_disconnect,
        );
        let max_stale = self.value("max_stale", defaults.max_stale, values::time);
        let required = self.value("required", false, values::boolean);
        if self.wrong {
            return None;
        }
        if on_disconnect == OnDisconnect::Stale
            && let Some(setting) = self.raw.option("max_stale")
        {
            self.problems.push(Problem {
                severity: Severity::Warning,
                file: self.file.into(),
                line: Some(setting.line),
                key: Some(format!("nodes.{name}.max_stale")),
                message: "has no effect without on_disconnect = error".into(),
            });
        }
        Some(Node {
            name: name.clone(),
            line: self.raw.line,
            source: source?,
            dest: dest?,
            uid,
            gid,
            mode,
            on_delete,
            on_disconnect,
            max_stale,
            required,
        })
    }

    /// The file: `dest`, or else the name of the node.
    fn dest(&mut self, mountpoint: &[String]) -> Option<FilePath> {
        match self.raw.option("dest") {
            Some(_) => self.value("dest", None, |text| dest(text, mountpoint).map(Some)),
            None => match dest(&self.raw.name, &[]) {
                Ok(path) => Some(path),
                Err(message) => {
                    self.problem("dest", message);
                    None
                }
            },
        }
    }

    /// What an option means, or `default`, also if it is wrong: then the node is left out anyway.
    fn value<T>(
        &mut self,
        option: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some(setting) = self.raw.option(option) else {
            return default;
        };
        parse(&setting.value).unwrap_or_else(|message| {
            self.problem(option, message);
            default
        })
    }

    /// Reports an option at its own line, or at the node's first.
    fn problem(&mut self, option: &str, message: String) {
        self.wrong = true;
        let (line, remark) = match self.raw.option(option) {
            Some(setting) => (setting.line, setting.remark()),
            None => (self.raw.line, ""),
        };
        self.problems.push(Problem {
            severity: Severity::Error,
            file: self.file.into(),
            line: Some(line),
            key: Some(format!("nodes.{}.{option}", self.raw.name)),
            message: message + remark,
        });
    }
}

/// The path in the mount that `text` means. Below the mountpoint an absolute path is taken relative
/// to it, elsewhere it loses its leading slash. `..` goes up, as in a file system, but not out.
fn dest(text: &str, mountpoint: &[String]) -> Result<FilePath, String> {
    let escapes = || format!("{text:?} leaves the mount by \"..\"; write a path below it");
    if text.ends_with('/') {
        return Err(format!("{text:?} is a directory; write the path of a file"));
    }
    let mut parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let below = |parts: &[&str]| {
        text.starts_with('/')
            && !mountpoint.is_empty()
            && parts.iter().take(mountpoint.len()).eq(mountpoint)
    };
    if below(&parts) {
        parts.drain(..mountpoint.len());
        parts = resolve(&parts).ok_or_else(escapes)?;
    } else {
        parts = resolve(&parts).ok_or_else(escapes)?;
        if below(&parts) {
            parts.drain(..mountpoint.len());
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
    FilePath::parse(&parts.join("/")).map_err(|error| match error {
        PathError::Empty => format!("{text:?} is the mount itself; write a path below it"),
        error => error.to_string(),
    })
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
fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

/// What stands where in the mount, and which node put it there.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: HashMap<FilePath, Owner>,
    directories: HashMap<FilePath, Owner>,
    /// The name at the root that is none of theirs.
    status_dir: Option<Name>,
}

/// A node, where it is written.
#[derive(Debug, Clone)]
struct Owner {
    name: String,
    file: Rc<Path>,
    line: usize,
}

impl Owner {
    /// For somebody who looks at `file`.
    fn seen_from(&self, file: &Path) -> String {
        let Self {
            name,
            file: own,
            line,
        } = self;
        match &**own == file {
            true => format!("nodes.{name} (line {line})"),
            false => format!("nodes.{name} ({}:{line})", own.display()),
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

    /// Gives the node, which is written in `file`, its place, if that is free.
    pub(super) fn take(&mut self, node: &Node, file: &Rc<Path>) -> Result<(), String> {
        let dest = &node.dest;
        if dest.names().first() == self.status_dir.as_ref() {
            return Err(format!(
                "\"{dest}\" begins with what mount.status_dir names; write another path"
            ));
        }
        if let Some(other) = self.files.get(dest) {
            return Err(format!(
                "{} has the file \"{dest}\" already; write another path",
                other.seen_from(file)
            ));
        }
        if let Some(other) = self.directories.get(dest) {
            return Err(format!(
                "\"{dest}\" is a directory, for {}; write another path",
                other.seen_from(file)
            ));
        }
        for above in dest.ancestors() {
            if let Some(other) = self.files.get(&above) {
                return Err(format!(
                    "\"{above}\" is a file, of {}, and cannot be a directory too; write another \
                     path",
                    other.seen_from(file)
                ));
            }
        }
        let owner = Owner {
            name: node.name.clone(),
            file: Rc::clone(file),
            line: node.line,
        };
        for above in dest.ancestors() {
            self.directories
                .entry(above)
                .or_insert_with(|| owner.clone());
        }
        self.files.insert(dest.clone(), owner);
        Ok(())
    }
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
        ] {
            let path = dest(text, &mountpoint).map(|path| path.to_string());
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
            "a/",
            "/mnt/live",
            "/mnt/live/",
            ".",
            "a/..",
            "a\0b",
        ] {
            assert!(dest(text, &mountpoint).is_err(), "{text:?}");
        }
        let plain = |text| dest(text, &[]).map(|path| path.to_string());
        assert_eq!(plain("/mnt/live/a"), Ok("mnt/live/a".into()));
    }
}
