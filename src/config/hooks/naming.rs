//! Which nodes and trees name which hooks, across all files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;

use super::{Hook, Stdin};
use crate::config::places::Placed;
use crate::config::raw::{PartKind, RawPart};
use crate::config::{Problem, Severity, values};

/// The option of a node or tree that names hooks.
pub(in crate::config) const OPTION: &str = "hooks";

/// What one file says of names of hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::config) struct Naming {
    /// Where a node or tree names any, by what its keys begin with.
    lines: HashMap<String, usize>,
    /// All that are named, also by nodes and trees that are left out.
    named: BTreeSet<String>,
    /// The hooks in which something is wrong.
    left_out: BTreeSet<String>,
}

/// The hooks of all files, the first in order of each name.
#[derive(Debug, Default)]
pub(in crate::config) struct Known<'a> {
    /// With their files.
    hooks: BTreeMap<&'a str, (Rc<Path>, &'a Hook)>,
    named: BTreeSet<&'a str>,
    left_out: BTreeSet<&'a str>,
}

/// Names between commas or blanks, each once. As keys, they are lower case.
pub(in crate::config) fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in values::words(&text.to_lowercase()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    names
}

impl Naming {
    /// Takes what a part of the file names.
    pub(in crate::config) fn note(&mut self, part: &RawPart) {
        let is_shown = match part.kind {
            PartKind::Node | PartKind::Tree => true,
            PartKind::Hook => false,
        };
        if let (true, Some(setting)) = (is_shown, part.option(OPTION)) {
            self.lines.insert(part.key(), setting.line);
            self.named.extend(names(&setting.value));
        }
    }

    /// Takes that a hook is left out.
    pub(in crate::config) fn leave_out(&mut self, name: &str) {
        self.left_out.insert(name.into());
    }
}

impl<'a> Known<'a> {
    /// Takes the hooks of a file, after those of the files before it.
    pub(in crate::config) fn add(
        &mut self,
        file: impl AsRef<Path>,
        hooks: &'a [Hook],
        naming: &'a Naming,
    ) {
        let file: Rc<Path> = Rc::from(file.as_ref());
        for hook in hooks {
            self.hooks
                .entry(&hook.name)
                .or_insert_with(|| (Rc::clone(&file), hook));
        }
        self.named.extend(naming.named.iter().map(String::as_str));
        let left_out = naming.left_out.iter();
        self.left_out.extend(left_out.map(String::as_str));
    }

    /// The hooks of a file that have their names for themselves. That others have not, and that
    /// nothing names one, is pushed to `problems`.
    pub(in crate::config) fn of_file(
        &self,
        file: &Path,
        hooks: &[Hook],
        problems: &mut Vec<Problem>,
    ) -> Vec<Hook> {
        let mut taken = Vec::new();
        for hook in hooks {
            let mut problem = |severity, message| {
                problems.push(Problem {
                    severity,
                    file: file.into(),
                    line: Some(hook.line),
                    key: Some(format!("hooks.{}", hook.name)),
                    message,
                });
            };
            match self.hooks.get(&*hook.name) {
                Some((other, first)) if **other != *file => {
                    let message = format!(
                        "{}:{} has a hook of this name already; choose another name",
                        other.display(),
                        first.line
                    );
                    problem(Severity::Error, message);
                    continue;
                }
                Some(_) | None => taken.push(hook.clone()),
            }
            if !self.named.contains(&*hook.name) {
                let message = format!(
                    "no node and no tree names it, so it never runs; write nodes.NAME.hooks = {}",
                    hook.name
                );
                problem(Severity::Warning, message);
            }
        }
        taken
    }

    /// The hooks that a node or tree of `file` names and can have. The others are pushed to
    /// `problems`.
    pub(in crate::config) fn resolve(
        &self,
        placed: Placed<'_>,
        (file, naming): (&Path, &Naming),
        problems: &mut Vec<Problem>,
    ) -> Vec<String> {
        let mut taken = Vec::new();
        for name in placed.hooks() {
            let why = match (self.hooks.get(&**name), placed) {
                (None, _) => self.why_not(name),
                (Some((_, hook)), Placed::Tree(_)) if hook.stdin == Stdin::Content => format!(
                    "the hook {name:?} reads the content, and a tree has no one content; write \
                     hooks.{name}.pipe_stdin = events"
                ),
                (Some(_), Placed::Node(_) | Placed::Tree(_)) => {
                    taken.push(name.clone());
                    continue;
                }
            };
            let key = placed.key();
            problems.push(Problem {
                severity: Severity::Error,
                file: file.into(),
                line: naming.lines.get(&key).copied(),
                key: Some(format!("{key}.{OPTION}")),
                message: why,
            });
        }
        taken
    }

    fn why_not(&self, name: &str) -> String {
        if self.left_out.contains(name) {
            return format!("the hook {name:?} is left out, since something in it is wrong");
        }
        let nearest = self
            .hooks
            .keys()
            .map(|known| (strsim::damerau_levenshtein(known, name), known))
            .filter(|&(distance, _)| distance <= name.len().max(6) / 3)
            .min();
        match nearest {
            Some((_, known)) => format!("there is no hook {name:?}; did you mean {known}?"),
            None => format!(
                "there is no hook {name:?}; write hooks.{name}.command = what is to run, or take it out"
            ),
        }
    }
}
