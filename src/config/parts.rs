//! Nodes and trees as they are written: the reading that both have in common.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::places::{self, Placed, Places};
use super::raw::{PartKind, RawConfig, RawPart};
use super::{
    Defaults, Node, OnDisconnect, Problem, Severity, Surroundings, Tree, nodes, trees, values,
};
use crate::path::{FilePath, ZnodePath};

/// The nodes and trees that can be shown together. Whatever is left out is pushed to `problems`.
pub(super) fn read(
    raw: &RawConfig<'_>,
    defaults: &Defaults,
    surroundings: &Surroundings<'_>,
    accounts: &mut Accounts,
    problems: &mut Vec<Problem>,
) -> (Vec<Node>, Vec<Tree>) {
    let mountpoint = surroundings.mountpoint.map(places::components);
    let mountpoint = mountpoint.unwrap_or_default();
    let mut places = Places::default();
    let file = Rc::from(raw.file);
    let (mut nodes, mut trees) = (Vec::new(), Vec::new());
    for raw_part in &raw.parts {
        let mut reading = Reading {
            file: raw.file,
            raw: raw_part,
            mountpoint: &mountpoint,
            problems,
            is_wrong: false,
        };
        match raw_part.kind {
            PartKind::Node => {
                if let Some(node) = nodes::node(&mut reading, defaults, accounts) {
                    match places.take(Placed::Node(&node), &file) {
                        Ok(()) => nodes.push(node),
                        Err(message) => reading.problem("dest", message),
                    }
                }
            }
            PartKind::Tree => {
                if let Some(tree) = trees::tree(&mut reading, defaults, accounts) {
                    match places.take(Placed::Tree(&tree), &file) {
                        Ok(()) => trees.push(tree),
                        Err(message) => reading.problem("dest", message),
                    }
                }
            }
        }
    }
    (nodes, trees)
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

/// One node or tree while it is read. All that is wrong with it is reported, not only the first.
pub(super) struct Reading<'a> {
    file: &'a Path,
    pub(super) raw: &'a RawPart,
    mountpoint: &'a [String],
    problems: &'a mut Vec<Problem>,
    is_wrong: bool,
}

/// Who may read the files, and how old they may become.
pub(super) struct Manner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) max_stale: Duration,
}

impl Reading<'_> {
    /// Nothing, if anything was wrong so far.
    pub(super) fn all_right(&self) -> Option<()> {
        (!self.is_wrong).then_some(())
    }

    /// The znode, which must be said.
    pub(super) fn source(&mut self) -> Option<ZnodePath> {
        if self.raw.option("source").is_none() {
            let key = self.raw.key();
            let message = format!("missing; write {key}.source = /path/of/a/znode");
            self.problem("source", message);
        }
        self.value("source", None, |text| values::znode(text).map(Some))
    }

    /// Where it stands: `dest`, or else its name; and whether that was written as a path outside of the
    /// mountpoint.
    pub(super) fn dest(&mut self) -> Option<(FilePath, bool)> {
        let (text, mountpoint) = match self.raw.option("dest") {
            Some(setting) => (&setting.value, self.mountpoint),
            None => (&self.raw.name, &[][..]),
        };
        let found = match self.raw.kind {
            PartKind::Node if text.ends_with('/') => {
                Err(format!("{text:?} is a directory; write the path of a file"))
            }
            PartKind::Node | PartKind::Tree => places::dest(text, mountpoint),
        };
        match found {
            Ok(path) => Some(path),
            Err(message) => {
                self.problem("dest", message);
                None
            }
        }
    }

    /// What is read alike for nodes and trees.
    pub(super) fn manner(&mut self, defaults: &Defaults, accounts: &mut Accounts) -> Manner {
        Manner {
            uid: self.value("owner", defaults.uid, |text| accounts.user(text)),
            gid: self.value("group", defaults.gid, |text| accounts.group(text)),
            mode: self.value("mode", defaults.mode, values::mode),
            on_disconnect: self.value(
                "on_disconnect",
                defaults.on_disconnect,
                values::on_disconnect,
            ),
            max_stale: self.value("max_stale", defaults.max_stale, values::time),
        }
    }

    /// Warns of a `max_stale` that nothing is done with.
    pub(super) fn check_max_stale(&mut self, on_disconnect: OnDisconnect) {
        if on_disconnect == OnDisconnect::Stale
            && let Some(setting) = self.raw.option("max_stale")
        {
            self.problems.push(Problem {
                severity: Severity::Warning,
                file: self.file.into(),
                line: Some(setting.line),
                key: Some(format!("{}.max_stale", self.raw.key())),
                message: "has no effect without on_disconnect = error".into(),
            });
        }
    }

    /// What an option means, or `default`, also if it is wrong: then it is all left out anyway.
    pub(super) fn value<T>(
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

    /// Reports an option at its own line, or at the first of all.
    pub(super) fn problem(&mut self, option: &str, message: String) {
        self.is_wrong = true;
        let (line, remark) = match self.raw.option(option) {
            Some(setting) => (setting.line, setting.remark()),
            None => (self.raw.line, ""),
        };
        self.problems.push(Problem {
            severity: Severity::Error,
            file: self.file.into(),
            line: Some(line),
            key: Some(format!("{}.{option}", self.raw.key())),
            message: message + remark,
        });
    }
}
