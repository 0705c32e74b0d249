//! All drop-ins of a mount: what each of them last defined, what is wrong with it now, and what they
//! mean together with the main file.
//!
//! A drop-in that is wrong as a whole keeps what it last defined. Where two claim one dest or one
//! name, the first in order has it: the main file, then the drop-ins by name. The other is reported,
//! and has its turn when the first is gone: what a drop-in defines does not depend on the others.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use super::dropin::{Dropin, parse_dropin};
use super::hooks::naming::Known;
use super::hooks::programs;
use super::places::{self, Placed, Places};
use super::{Config, Defaults, Error, Node, Problem, Severity, Surroundings, Tree};

/// The drop-ins of one directory, by file name.
#[derive(Debug, Clone)]
pub struct Dropins {
    dir: PathBuf,
    /// Why the directory could not be read.
    dir_wrong: Option<Problem>,
    files: BTreeMap<String, File>,
}

/// One drop-in. It has a text, or something is wrong with it, or both.
#[derive(Debug, Clone, Default)]
struct File {
    /// The last text that could be taken.
    text: Option<String>,
    /// What that means.
    means: Dropin,
    /// Why the file is not taken as it is now.
    wrong: Option<Problem>,
}

/// For how long the content of a drop-in was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Right or wrong, it is as it is.
    Finally,
    /// It is to be taken again: what it means is undecided.
    ForNow,
}

/// How a drop-in stands beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub file: PathBuf,
    /// How many nodes of it are shown.
    pub n_nodes: usize,
    /// How many trees of it are shown.
    pub n_trees: usize,
    /// How many hooks of it there are.
    pub n_hooks: usize,
    /// What is wrong with it or with some of its nodes, trees and hooks: the first, and how many there are.
    pub error: Option<String>,
}

impl Dropins {
    /// None yet, of this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            dir_wrong: None,
            files: BTreeMap::new(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the content of a drop-in, with the `defaults` of the main file. One that is wrong as a
    /// whole leaves what it defined before, and so does one of which it is undecided what it means:
    /// it is to be taken again.
    pub fn take(
        &mut self,
        name: &str,
        text: &[u8],
        defaults: &Defaults,
        surroundings: &Surroundings<'_>,
    ) -> Taken {
        let path = self.dir.join(name);
        let file = self.files.entry(name.into()).or_default();
        let wrong = |message: String| Problem {
            severity: Severity::Error,
            file: path.clone(),
            line: None,
            key: None,
            message,
        };
        let mut taken = Taken::Finally;
        file.wrong = match (
            parse_dropin(&path, text, defaults, surroundings),
            std::str::from_utf8(text),
        ) {
            (
                Ok(Dropin {
                    undecided: Some(why),
                    ..
                }),
                _,
            ) if file.text.is_some() => {
                taken = Taken::ForNow;
                Some(wrong(why))
            }
            (Ok(means), Ok(text)) => {
                if means.undecided.is_some() {
                    taken = Taken::ForNow;
                }
                file.means = means;
                file.text = Some(text.into());
                None
            }
            (Err(Error::Wrong(problem)), _) => Some(*problem),
            (Err(err @ Error::Read { .. }), _) => Some(wrong(err.to_string())),
            (Ok(_), Err(err)) => Some(wrong(err.to_string())),
        };
        taken
    }

    /// A drop-in cannot be taken; it leaves what it defined before. Whether that is new.
    pub fn refuse(&mut self, name: &str, why: String) -> bool {
        let wrong = Some(Problem {
            severity: Severity::Error,
            file: self.dir.join(name),
            line: None,
            key: None,
            message: why,
        });
        let file = self.files.entry(name.into()).or_default();
        let is_new = wrong != file.wrong;
        file.wrong = wrong;
        is_new
    }

    /// A drop-in is gone, and with it what it defined.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// The directory cannot be read, or can; this says nothing of what is in it. Whether that is new.
    pub fn refuse_dir(&mut self, why: Option<String>) -> bool {
        let wrong = why.map(|message| Problem {
            severity: Severity::Warning,
            file: self.dir.clone(),
            line: None,
            key: Some("mount.dropin_dir".into()),
            message,
        });
        let is_new = wrong != self.dir_wrong;
        self.dir_wrong = wrong;
        is_new
    }

    /// What is taken, with other `defaults`.
    pub fn set_defaults(&mut self, defaults: &Defaults, surroundings: &Surroundings<'_>) {
        for (name, file) in &mut self.files {
            let Some(text) = &file.text else {
                continue;
            };
            let path = self.dir.join(name);
            // It was right before, and the defaults are what a node says by saying nothing.
            if let Ok(means) = parse_dropin(&path, text.as_bytes(), defaults, surroundings)
                && means.undecided.is_none()
            {
                file.means = means;
            }
        }
    }

    /// Why the directory is not taken as it is now.
    pub fn dir_wrong(&self) -> Option<&Problem> {
        self.dir_wrong.as_ref()
    }

    /// The names of all that are known, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The text that a drop-in was last taken with.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.files.get(name)?.text.as_deref()
    }

    /// All texts in use, by name.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |(name, file): (&String, &File)| Some((name.clone(), file.text.clone()?));
        self.files.iter().filter_map(text).collect()
    }

    /// The main file and the drop-ins as one configuration, with the problems of all.
    pub fn join(&self, main: &Config) -> Config {
        let mut joined = main.clone();
        let mut places = Places::beside(main.mount.status_dir.clone());
        let mut names: HashMap<String, String> = HashMap::new();
        let main_file: Rc<Path> = Rc::from(&*main.file);
        let mut hooks = Known::default();
        hooks.add(&main.file, &main.hooks.all, &main.naming);
        for (path, file) in self.in_order() {
            hooks.add(path, &file.means.hooks, &file.means.naming);
        }
        let said = (&*main.file, &main.naming);
        let problems = &mut joined.problems;
        joined.hooks.all = hooks.of_file(&main.file, &main.hooks.all, problems);
        for node in &mut joined.nodes {
            node.hooks = hooks.resolve(Placed::Node(node), said, problems);
        }
        for tree in &mut joined.trees {
            tree.hooks = hooks.resolve(Placed::Tree(tree), said, problems);
        }
        problems.sort_by_key(|problem| problem.line);
        problems.extend(self.dir_wrong.clone());
        for placed in places::in_order(&main.nodes, &main.trees) {
            places
                .take(placed, &main_file)
                .expect("the nodes and trees of one file do not conflict");
            names.insert(placed.key(), at(&main_file, placed.line()));
        }
        for (path, file) in self.in_order() {
            let path: Rc<Path> = Rc::from(path);
            let mut problems: Vec<Problem> = file.wrong.iter().cloned().collect();
            problems.extend(file.means.problems.iter().cloned());
            let own_hooks = hooks.of_file(&path, &file.means.hooks, &mut problems);
            let said = (&*path, &file.means.naming);
            let (mut n_nodes, mut n_trees) = (0, 0);
            for placed in places::in_order(&file.means.nodes, &file.means.trees) {
                let key = placed.key();
                let taken = match names.get(&key) {
                    Some(at) => {
                        let kind = placed.kind();
                        let message =
                            format!("{at} has a {kind} of this name already; choose another name");
                        Err((key.clone(), message))
                    }
                    None => places
                        .take(placed, &path)
                        .map_err(|message| (format!("{key}.dest"), message)),
                };
                match taken {
                    Ok(()) => {
                        names.insert(key, at(&path, placed.line()));
                        let hooks = hooks.resolve(placed, said, &mut problems);
                        match placed {
                            Placed::Node(node) => {
                                let node = node.clone();
                                joined.nodes.push(Node { hooks, ..node });
                                n_nodes += 1;
                            }
                            Placed::Tree(tree) => {
                                let tree = tree.clone();
                                joined.trees.push(Tree { hooks, ..tree });
                                n_trees += 1;
                            }
                        }
                    }
                    Err((key, message)) => problems.push(Problem {
                        severity: Severity::Error,
                        file: path.to_path_buf(),
                        line: Some(placed.line()),
                        key: Some(key),
                        message,
                    }),
                }
            }
            joined.dropins.push(Listed {
                file: path.to_path_buf(),
                n_nodes,
                n_trees,
                n_hooks: own_hooks.len(),
                error: first_error(&problems),
            });
            joined.hooks.all.extend(own_hooks);
            joined.problems.extend(problems);
        }
        joined
    }

    /// A warning for each hook whose program is not to be found by this `path`.
    pub(super) fn missing_programs(&self, main: &Config, path: Option<&str>) -> Vec<Problem> {
        let mut missing = programs::missing(&main.file, &main.hooks.all, path);
        for (file, dropin) in self.in_order() {
            missing.extend(programs::missing(&file, &dropin.means.hooks, path));
        }
        missing
    }

    fn in_order(&self) -> impl Iterator<Item = (PathBuf, &File)> {
        let files = self.files.iter();
        files.map(|(name, file)| (self.dir.join(name), file))
    }
}

impl Listed {
    /// As `check` and the status show it.
    pub fn json(&self) -> Value {
        json!({
            "file": self.file.display().to_string(),
            "nodes": self.n_nodes,
            "trees": self.n_trees,
            "hooks": self.n_hooks,
            "error": self.error,
        })
    }
}

fn at(file: &Path, line: usize) -> String {
    format!("{}:{line}", file.display())
}

fn first_error(problems: &[Problem]) -> Option<String> {
    let mut errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    let first = errors.next()?.to_string();
    Some(match errors.count() {
        0 => first,
        n => format!("{first} (and {n} more)"),
    })
}
