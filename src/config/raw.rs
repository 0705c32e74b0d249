//! What the user wrote: the known keys with their values, and what else was in the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use super::lines::Lines;
use super::{Error, Problem, Severity, Surroundings, expand, ini_text, keys};

/// A file whose grammar and keys are checked, and whose values are not.
#[derive(Debug)]
pub(super) struct RawConfig<'a> {
    /// The file, as it was named.
    pub(super) file: &'a Path,
    /// What is of no one node, tree or hook.
    settings: HashMap<String, Setting>,
    /// Nodes, trees and hooks, in the order of their first lines.
    pub(super) parts: Vec<RawPart>,
    /// Unknown keys and the like.
    pub(super) problems: Vec<Problem>,
    /// The sections that were ignored, as `[name]`.
    pub(super) ignored: Vec<String>,
}

/// The keys of one node, tree or hook.
#[derive(Debug)]
pub(super) struct RawPart {
    pub(super) kind: PartKind,
    pub(super) name: String,
    /// Its first line.
    pub(super) line: usize,
    /// By the last part of the key.
    options: HashMap<String, Setting>,
}

/// Which of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PartKind {
    Node,
    Tree,
    Hook,
}

/// One value, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    /// With variables expanded, but for a command, of which that is the shell's; never empty, since an empty value is as good as none.
    pub(super) value: String,
    pub(super) line: usize,
}

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Main,
    /// Nodes, trees and hooks only.
    Dropin,
}

impl<'a> RawConfig<'a> {
    /// Reads `text`, the content of `file`.
    pub(super) fn read(
        file: &'a Path,
        text: &[u8],
        kind: Kind,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, Error> {
        let wrong = |line, key, message| wrong(file, line, key, message);
        let lines =
            Lines::read(text).map_err(|error| wrong(Some(error.line), error.key, error.message))?;
        let values = ini_text::values(&lines)
            .map_err(|error| wrong(Some(error.line), None, error.msg.into_owned()))?;
        let mut raw = Self {
            file,
            settings: HashMap::new(),
            parts: Vec::new(),
            problems: Vec::new(),
            ignored: Vec::new(),
        };
        for (name, line) in lines.ignored {
            let section = format!("[{name}]");
            if let Some(hint) = keys::nearest_section(&name) {
                raw.problems.push(Problem {
                    severity: Severity::Warning,
                    file: file.into(),
                    line: Some(line),
                    key: Some(section.clone()),
                    message: format!("this section is ignored; {hint}"),
                });
            }
            raw.ignored.push(section);
        }
        let mut index = HashMap::new();
        for (entry, value) in lines.entries.into_iter().zip(values) {
            let setting = Setting {
                value: match is_command(&entry.key) {
                    true => value,
                    false => expand::expand(&value, surroundings.variable),
                },
                key: entry.key,
                line: entry.line,
            };
            if kind == Kind::Dropin && !is_dropin_key(&setting.key) {
                let message =
                    "a drop-in holds nodes, trees and hooks only; write it in the main file";
                return Err(wrong(Some(setting.line), Some(setting.key), message.into()));
            }
            raw.take(setting, entry.inherited, &mut index)?;
        }
        Ok(raw)
    }

    /// A setting that is not empty.
    pub(super) fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// The value of a setting that concerns everything, or `default`.
    pub(super) fn value<T>(
        &self,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        match self.setting(key) {
            None => Ok(default),
            Some(setting) => parse(&setting.value).map_err(|message| self.fatal(setting, message)),
        }
    }

    /// The error that `setting` is wrong.
    pub(super) fn fatal(&self, setting: &Setting, message: String) -> Error {
        wrong(
            self.file,
            Some(setting.line),
            Some(setting.key.clone()),
            message + setting.remark(),
        )
    }

    /// Puts a setting where it belongs.
    fn take(
        &mut self,
        setting: Setting,
        inherited: bool,
        index: &mut HashMap<(PartKind, String), usize>,
    ) -> Result<(), Error> {
        let warning = match keys::is_known(&setting.key) {
            true => None,
            false => match (dotted_name(&setting.key), keys::nearest(&setting.key)) {
                (Some(right), _) => {
                    let message = format!("a name has no dot, so this is left out; write {right}");
                    self.problem(Severity::Error, &setting, message);
                    return Ok(());
                }
                (None, Some(near)) => Some(format!("unknown key; did you mean {near}?")),
                // [DEFAULT] holds keys of other programs too.
                (None, None) if inherited => None,
                (None, None) => Some("unknown key; ignored".into()),
            },
        };
        if let Some(message) = warning {
            self.problem(Severity::Warning, &setting, message);
        }
        // A node, tree or hook is there as soon as any key names it, so that a misspelt one is reported.
        if let Some((kind, name, option)) = part_option(&setting.key) {
            let position = match index.entry((kind, name.to_owned())) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    self.parts.push(RawPart {
                        kind,
                        name: name.into(),
                        line: setting.line,
                        options: HashMap::new(),
                    });
                    *new.insert(self.parts.len() - 1)
                }
            };
            if !setting.value.is_empty() {
                let options = &mut self.parts[position].options;
                options.insert(option.to_owned(), setting);
            }
        } else if !setting.value.is_empty() || setting.key == EMPTY_COUNTS {
            self.settings.insert(setting.key.clone(), setting);
        }
        Ok(())
    }

    fn problem(&mut self, severity: Severity, setting: &Setting, message: String) {
        self.problems.push(Problem {
            severity,
            file: self.file.into(),
            line: Some(setting.line),
            key: Some(setting.key.clone()),
            message,
        });
    }
}

impl Setting {
    /// What to add to the message when the value is wrong: one cause is too common to be left out.
    pub(super) fn remark(&self) -> &'static str {
        if [" #", " ;", "\t#", "\t;"]
            .iter()
            .any(|start| self.value.contains(start))
        {
            " (a comment must be a line of its own)"
        } else {
            ""
        }
    }
}

impl RawPart {
    /// What its keys begin with: `nodes.NAME`, `trees.NAME` or `hooks.NAME`.
    pub(super) fn key(&self) -> String {
        match self.kind {
            PartKind::Node => format!("nodes.{}", self.name),
            PartKind::Tree => format!("trees.{}", self.name),
            PartKind::Hook => format!("hooks.{}", self.name),
        }
    }

    /// An option that is not empty.
    pub(super) fn option(&self, name: &str) -> Option<&Setting> {
        self.options.get(name)
    }
}

/// The error of a file, and of a place in it.
pub(super) fn wrong(
    file: &Path,
    line: Option<usize>,
    key: Option<String>,
    message: String,
) -> Error {
    Error::Wrong(Box::new(Problem {
        severity: Severity::Error,
        file: file.into(),
        line,
        key,
        message,
    }))
}

fn is_dropin_key(key: &str) -> bool {
    let is_of_one = ["nodes.", "trees.", "hooks."]
        .iter()
        .any(|kind| key.starts_with(kind));
    is_of_one && !OF_ALL_HOOKS.contains(&key)
}

fn is_command(key: &str) -> bool {
    matches!(part_option(key), Some((PartKind::Hook, _, "command")))
}

/// What is of no one hook.
const OF_ALL_HOOKS: [&str; 2] = ["hooks.max_parallel", "hooks.on_unmount"];

/// The one key for which an empty value is not the same as none.
const EMPTY_COUNTS: &str = "cache.dir";

/// What `nodes.NAME.OPTION` is about, or that of a tree or a hook.
fn part_option(key: &str) -> Option<(PartKind, &str, &str)> {
    let (kind, rest) = key.split_once('.')?;
    let kind = match kind {
        "nodes" => PartKind::Node,
        "trees" => PartKind::Tree,
        "hooks" => PartKind::Hook,
        _ => return None,
    };
    let (name, option) = rest.split_once('.')?;
    (!name.is_empty()).then_some((kind, name, option))
}

/// For `nodes.a.b.source`: the key with the dot in the name replaced.
fn dotted_name(key: &str) -> Option<String> {
    let (kind, rest) = key.split_once('.')?;
    let (name, option) = rest.rsplit_once('.')?;
    let right = format!("{kind}.{}.{option}", name.replace('.', "-"));
    (name.contains('.') && keys::is_known(&right)).then_some(right)
}
