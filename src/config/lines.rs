//! The grammar of the file: that of Python's RawConfigParser, as Baseplate uses it, with line numbers.
//!
//! Comments are whole lines that begin with `#` or `;`, indented or not. An indented line continues
//! the value above (joined by a newline). Section names are kept as they are, keys are lower-cased.
//! Beyond Python: keys before any section belong to `[live-data]`, and the keys of a section
//! `[nodes.a]` (trees and hooks likewise) are read as `nodes.a.KEY`.
//!
//! The pass decides where keys and values begin and end; `ini_text` has rust-ini read them.

use std::borrow::Cow;
use std::collections::HashMap;

/// What stands in a file, section by section resolved.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The keys of live-data in the order of their lines; no key comes twice.
    pub(super) entries: Vec<Entry>,
    /// Sections that mean nothing to us: name and line.
    pub(super) ignored: Vec<(String, usize)>,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// In full and lower case.
    pub(super) key: String,
    /// Neither unquoted nor expanded; no white space at the end.
    pub(super) value: String,
    /// The line of the key, from 1.
    pub(super) line: usize,
    /// It comes from `[DEFAULT]`.
    pub(super) inherited: bool,
}

/// Why the file is no INI.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) key: Option<String>,
    pub(super) message: String,
}

/// Where the keys of a section go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    /// To live-data, with a prefix that is empty or like `nodes.a.`.
    LiveData(String),
    Default,
    Ignored(String),
}

impl Lines {
    /// Takes a whole file apart.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = decode(bytes)?;
        let mut pass = Pass::default();
        for (index, line) in text.split('\n').enumerate() {
            pass.line(index + 1, line)?;
        }
        Ok(pass.finish())
    }
}

/// What Python's `str.isspace` holds for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// UTF-8 without a byte order mark, each kind of line end made a newline.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let unify = |text| match text {
        Cow::Borrowed(text) if !str::contains(text, '\r') => Cow::Borrowed(text),
        text => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with('\u{feff}') => Err(Malformed {
            line: 1,
            key: None,
            message: "the file begins with a byte order mark; save it as UTF-8 without one".into(),
        }),
        Ok(text) => Ok(unify(Cow::Borrowed(text))),
        Err(error) => {
            let before = unify(String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
            Err(Malformed {
                line: before.matches('\n').count() + 1,
                key: None,
                message: "this line is not UTF-8; save the file as UTF-8".into(),
            })
        }
    }
}

/// How far the pass has come. Every key is kept until the end, those of ignored sections too, since
/// duplicates are errors there as well.
#[derive(Debug)]
struct Pass {
    scope: Scope,
    /// The lines of the section headers.
    sections: HashMap<String, usize>,
    /// The keys: where each is in `entries`.
    seen: HashMap<(Scope, String), usize>,
    entries: Vec<(Scope, Entry)>,
    ignored: Vec<(String, usize)>,
    /// A line indented deeper than this continues the value of the last entry, if that is open.
    indent: usize,
    open: bool,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            scope: Scope::LiveData(String::new()),
            sections: HashMap::new(),
            seen: HashMap::new(),
            entries: Vec::new(),
            ignored: Vec::new(),
            indent: 0,
            open: false,
        }
    }
}

impl Pass {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Malformed> {
        let text = line.trim_matches(is_space);
        if text.starts_with(['#', ';']) {
            return Ok(());
        }
        if text.is_empty() {
            self.continue_with("");
            return Ok(());
        }
        // Python counts characters, tabs as one.
        let indent = line.chars().take_while(|&c| is_space(c)).count();
        if self.open && indent > self.indent {
            self.continue_with(text);
            return Ok(());
        }
        self.indent = indent;
        match header(text) {
            Some(name) => self.section(number, name),
            None => self.entry(number, text),
        }
    }

    fn continue_with(&mut self, text: &str) {
        if let (true, Some((_, entry))) = (self.open, self.entries.last_mut()) {
            entry.value.push('\n');
            entry.value.push_str(text);
        }
    }

    fn section(&mut self, number: usize, name: &str) -> Result<(), Malformed> {
        self.open = false;
        self.scope = scope(name);
        if self.scope == Scope::Default {
            return Ok(()); // Python takes it as often as it comes.
        }
        if let Some(first) = self.sections.insert(name.into(), number) {
            return Err(Malformed {
                line: number,
                key: Some(format!("[{name}]")),
                message: format!(
                    "this section stands twice, first in line {first}; put its keys under one header"
                ),
            });
        }
        if let Scope::Ignored(name) = &self.scope {
            self.ignored.push((name.clone(), number));
        }
        Ok(())
    }

    fn entry(&mut self, number: usize, text: &str) -> Result<(), Malformed> {
        let Some((key, value)) = text.split_once(['=', ':']) else {
            let right = if text.starts_with('[') {
                "a section header ends with ]"
            } else {
                "write key = value, or indent the line to continue the value above"
            };
            return Err(Malformed {
                line: number,
                key: None,
                message: format!("{text:?} is a key without a value; {right}"),
            });
        };
        if key.is_empty() {
            return Err(Malformed {
                line: number,
                key: None,
                message: format!("{text:?} is a value without a key; write key = value"),
            });
        }
        let key = key.trim_end_matches(is_space).to_lowercase();
        let (scope, key) = match &self.scope {
            Scope::LiveData(prefix) => (Scope::LiveData(String::new()), format!("{prefix}{key}")),
            other => (other.clone(), key),
        };
        let index = self.entries.len();
        if let Some(first) = self.seen.insert((scope.clone(), key.clone()), index) {
            let first = self.entries[first].1.line;
            return Err(Malformed {
                line: number,
                key: Some(key),
                message: format!("set twice, first in line {first}; keep one of them"),
            });
        }
        let inherited = scope == Scope::Default;
        let entry = Entry {
            key,
            value: value.trim_matches(is_space).into(),
            line: number,
            inherited,
        };
        self.entries.push((scope, entry));
        self.open = true;
        Ok(())
    }

    /// Merges `[DEFAULT]` in, and drops what belongs to other sections.
    fn finish(self) -> Lines {
        let own = Scope::LiveData(String::new());
        let entries = self
            .entries
            .into_iter()
            .filter(|(scope, entry)| match scope {
                Scope::LiveData(_) => true,
                Scope::Default => !self.seen.contains_key(&(own.clone(), entry.key.clone())),
                Scope::Ignored(_) => false,
            })
            .map(|(_, mut entry)| {
                entry
                    .value
                    .truncate(entry.value.trim_end_matches(is_space).len());
                entry
            })
            .collect();
        Lines {
            entries,
            ignored: self.ignored,
        }
    }
}

/// The name in `[name]`. As in Python: up to the last bracket, and what follows that is ignored.
fn header(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?;
    let end = name.rfind(']')?;
    (end > 0).then(|| &name[..end])
}

fn scope(name: &str) -> Scope {
    match name {
        "live-data" => Scope::LiveData(String::new()),
        "DEFAULT" => Scope::Default,
        _ if ["nodes.", "trees.", "hooks."]
            .iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty())) =>
        {
            Scope::LiveData(format!("{}.", name.to_lowercase()))
        }
        _ => Scope::Ignored(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entries as `key=value@line`, or the error as `line: message`.
    fn read(text: &[u8]) -> Result<Vec<String>, String> {
        match Lines::read(text) {
            Ok(lines) => Ok(lines
                .entries
                .iter()
                .map(|entry| format!("{}={}@{}", entry.key, entry.value, entry.line))
                .collect()),
            Err(error) => Err(format!("{}: {}", error.line, error.message)),
        }
    }

    #[test]
    fn what_python_takes() {
        for (text, expected) in [
            ("", &[][..]),
            ("[live-data]\na = 1\nb: 2\n", &["a=1@2", "b=2@3"]),
            ("a = 1\n[live-data]\nb = 2", &["a=1@1", "b=2@3"]),
            ("[live-data]\nKey.Sub = A\n", &["key.sub=A@2"]),
            ("[live-data]\r\na = 1\r\nb = 2\r\n", &["a=1@2", "b=2@3"]),
            ("[live-data]\ra = 1\rb = 2\r", &["a=1@2", "b=2@3"]),
            ("[live-data]\n# a = 1\n  ; b = 2\nc = 3", &["c=3@4"]),
            ("[live-data]\na = 1 # x ; y", &["a=1 # x ; y@2"]),
            ("[live-data]\na = \"1\"\nb = '2", &["a=\"1\"@2", "b='2@3"]),
            (
                "[live-data]\na = 50%\nb = %(a)s \\",
                &["a=50%@2", "b=%(a)s \\@3"],
            ),
            (
                "[live-data]\na = 1\n  2\n\t3\nb = 4",
                &["a=1\n2\n3@2", "b=4@5"],
            ),
            (
                "[live-data]\na =\n  1\n\n  2\n\nb = 3",
                &["a=\n1\n\n2@2", "b=3@7"],
            ),
            ("[live-data]\na = 1\n  # no\n  2 = 3", &["a=1\n2 = 3@2"]),
            (
                "[live-data]\n  a = 1\n  b = 2\nc = 3",
                &["a=1@2", "b=2@3", "c=3@4"],
            ),
            (
                "[live-data]\n  a = 1\n   b = 2\n c = 3",
                &["a=1\nb = 2@2", "c=3@4"],
            ),
            ("[live-data]\na = 1\n  [other]\n[x]", &["a=1\n[other]@2"]),
            ("  [live-data]\n    a = 1", &["a=1@2"]),
            ("[live-data] and more\na = 1", &["a=1@2"]),
            ("[a]]\na = 1\n[ live-data ]\na = 2", &[]),
            ("[live-data]\na=\nb:\nc = = :", &["a=@2", "b=@3", "c== :@4"]),
            ("[live-data]\na b = 1\nc:d = e", &["a b=1@2", "c=d = e@3"]),
            ("[live-data]\n[x = 1\n", &["[x=1@2"]),
            ("[live-data]\n\u{c4} = 1\u{a0}\n", &["\u{e4}=1@2"]),
            (
                "[DEFAULT]\na = 1\nb = 2\n[live-data]\na = 3",
                &["b=2@3", "a=3@5"],
            ),
            (
                "[live-data]\na = 3\n[DEFAULT]\na = 1\nb = 2\n[DEFAULT]\nc = 4",
                &["a=3@2", "b=2@5", "c=4@7"],
            ),
            ("[x]\na = 1\n[live-data]\na = 2\n[y]\na = 3", &["a=2@4"]),
            (
                "[live-data]\n[nodes.A]\nSource = /a\n",
                &["nodes.a.source=/a@3"],
            ),
            ("[hooks.h]\ncommand = x\n  y\n", &["hooks.h.command=x\ny@2"]),
        ] {
            let expected: Vec<_> = expected.iter().map(|&entry| entry.to_owned()).collect();
            assert_eq!(read(text.as_bytes()), Ok(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Lines::read(&bytes);
        }
    }
}
