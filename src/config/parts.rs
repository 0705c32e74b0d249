//! Nodes, trees and hooks as they are written: the reading that they have in common.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::hooks::naming::{self, Naming};
use super::places::{self, Placed, Places};
use super::raw::{PartKind, RawConfig, RawPart};
use super::{
    Account, Defaults, Hook, Node, OnDisconnect, Problem, Severity, Surroundings, Tree, hooks,
    nodes, trees, values,
};
use crate::path::{FilePath, ZnodePath};

/// What a file has of each.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) nodes: Vec<Node>,
    pub(super) trees: Vec<Tree>,
    pub(super) hooks: Vec<Hook>,
    pub(super) naming: Naming,
}

/// The nodes and trees that can be shown together, and the hooks. Whatever is left out is pushed to
/// `problems`.
pub(super) fn read(
    (raw, mut places): (&RawConfig<'_>, Places),
    defaults: &Defaults,
    surroundings: &Surroundings<'_>,
    accounts: &mut Accounts,
    problems: &mut Vec<Problem>,
) -> Parts {
    let mountpoint = surroundings.mountpoint.map(places::components);
    let mountpoint = mountpoint.unwrap_or_default();
    let file = Rc::from(raw.file);
    let mut parts = Parts::default();
    for raw_part in &raw.parts {
        let mut reading = Reading {
            file: raw.file,
            raw: raw_part,
            mountpoint: &mountpoint,
            surroundings,
            problems,
            is_wrong: false,
        };
        parts.naming.note(raw_part);
        match raw_part.kind {
            PartKind::Node => {
                if let Some(node) = nodes::node(&mut reading, defaults, accounts) {
                    match places.take(Placed::Node(&node), &file) {
                        Ok(()) => parts.nodes.push(node),
                        Err(message) => reading.problem("dest", message),
                    }
                }
            }
            PartKind::Tree => {
                if let Some(tree) = trees::tree(&mut reading, defaults, accounts) {
                    match places.take(Placed::Tree(&tree), &file) {
                        Ok(()) => parts.trees.push(tree),
                        Err(message) => reading.problem("dest", message),
                    }
                }
            }
            PartKind::Hook => match hooks::reading::hook(&mut reading, accounts) {
                Some(hook) => parts.hooks.push(hook),
                None => parts.naming.leave_out(&raw_part.name),
            },
        }
    }
    parts
}

/// User and group names, each looked up once: ten thousand nodes have a handful of them.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Why one could not be looked up, if so: another time that may be known.
    pub(super) undecided: Option<String>,
    users: HashMap<String, Result<u32, String>>,
    groups: HashMap<String, Result<u32, String>>,
    /// By the user, and by the group where it is not the primary one.
    accounts: HashMap<(String, Option<u32>), Result<Option<Account>, String>>,
}

impl Accounts {
    /// The user with this name, else with this number.
    pub(super) fn user(
        &mut self,
        text: &str,
        surroundings: &Surroundings<'_>,
    ) -> Result<u32, String> {
        let undecided = &mut self.undecided;
        lookup(&mut self.users, undecided, text, "user", surroundings.user)
    }

    /// The group with this name, else with this number.
    pub(super) fn group(
        &mut self,
        text: &str,
        surroundings: &Surroundings<'_>,
    ) -> Result<u32, String> {
        let undecided = &mut self.undecided;
        lookup(
            &mut self.groups,
            undecided,
            text,
            "group",
            surroundings.group,
        )
    }

    /// The user with this name, else with this number, as a member of `group` instead of its primary
    /// one. None for a number that has no entry.
    pub(super) fn account(
        &mut self,
        text: &str,
        group: Option<u32>,
        surroundings: &Surroundings<'_>,
    ) -> Result<Option<Account>, String> {
        let key = (text.to_owned(), group);
        if let Some(result) = self.accounts.get(&key) {
            return result.clone();
        }
        let result = match (surroundings.account)(text, group) {
            Ok(None) if values::id(text).is_none() => Err(unknown("user", text)),
            Ok(found) => Ok(found),
            // A number is not enough: its groups are unknown.
            Err(err) => {
                let why = format!("cannot look up the user {text:?} ({err})");
                self.undecided.get_or_insert_with(|| why.clone());
                Err(why)
            }
        };
        self.accounts.insert(key, result.clone());
        result
    }
}

fn unknown(what: &str, text: &str) -> String {
    format!("there is no {what} {text:?} here; write the name of one that exists, or a number")
}

fn lookup(
    known: &mut HashMap<String, Result<u32, String>>,
    undecided: &mut Option<String>,
    text: &str,
    what: &str,
    find: impl FnOnce(&str) -> io::Result<Option<u32>>,
) -> Result<u32, String> {
    if let Some(result) = known.get(text) {
        return result.clone();
    }
    let result = match (find(text), values::id(text)) {
        (Ok(Some(id)), _) | (_, Some(id)) => Ok(id),
        (Ok(None), None) => Err(unknown(what, text)),
        (Err(err), None) => {
            let why = format!("cannot look up the {what} {text:?} ({err}); write a number");
            undecided.get_or_insert_with(|| why.clone());
            Err(why)
        }
    };
    known.insert(text.into(), result.clone());
    result
}

/// One node, tree or hook while it is read. All that is wrong with it is reported, not only the first.
pub(super) struct Reading<'a> {
    file: &'a Path,
    pub(super) raw: &'a RawPart,
    mountpoint: &'a [String],
    pub(super) surroundings: &'a Surroundings<'a>,
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
            PartKind::Node | PartKind::Tree | PartKind::Hook => places::dest(text, mountpoint),
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
        let here = self.surroundings;
        Manner {
            uid: self.value("owner", defaults.uid, |text| accounts.user(text, here)),
            gid: self.value("group", defaults.gid, |text| accounts.group(text, here)),
            mode: self.value("mode", defaults.mode, values::mode),
            on_disconnect: self.value(
                "on_disconnect",
                defaults.on_disconnect,
                values::on_disconnect,
            ),
            max_stale: self.value("max_stale", defaults.max_stale, values::time),
        }
    }

    /// The names of the hooks that run when it changes, which need not be.
    pub(super) fn hooks(&self) -> Vec<String> {
        let names = self.raw.option(naming::OPTION);
        names.map_or_else(Vec::new, |setting| naming::names(&setting.value))
    }

    /// Warns of a `max_stale` that nothing is done with.
    pub(super) fn check_max_stale(&mut self, on_disconnect: OnDisconnect) {
        if on_disconnect == OnDisconnect::Stale {
            self.no_effect("max_stale", "on_disconnect = error");
        }
    }

    /// Warns of an option, if it is there, with which nothing is done without something else.
    pub(super) fn no_effect(&mut self, option: &str, without: &str) {
        if let Some(setting) = self.raw.option(option) {
            self.problems.push(Problem {
                severity: Severity::Warning,
                file: self.file.into(),
                line: Some(setting.line),
                key: Some(format!("{}.{option}", self.raw.key())),
                message: format!("has no effect without {without}"),
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
