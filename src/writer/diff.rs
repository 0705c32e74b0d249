//! The difference of two texts: the unified format, exactly as `patch` takes it.
//!
//! Lines end at `\n` and nowhere else, as `patch` sees them: a carriage return belongs to its line.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// How long to look for the shortest difference; after that a longer one will do.
const PATIENCE: Duration = Duration::from_secs(2);

/// What differs between an old and a new text, both UTF-8.
#[derive(Debug)]
pub struct Diff<'a> {
    labels: [&'a str; 2],
    /// Lines with their ends; the last may lack one.
    old: Vec<&'a str>,
    new: Vec<&'a str>,
}

/// For whom a [`Diff`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For files and pipes: byte by byte what the texts hold.
    Plain,
    /// For a terminal: control characters are made visible, so that content cannot drive it.
    Terminal {
        /// Whether to use colours.
        colour: bool,
    },
}

impl<'a> Diff<'a> {
    /// Compares two labelled contents; none where one of them is no text.
    pub fn new(old: (&'a str, &'a [u8]), new: (&'a str, &'a [u8])) -> Option<Self> {
        let lines = |content: &'a [u8]| -> Option<Vec<&'a str>> {
            let text = std::str::from_utf8(content).ok()?;
            Some(text.split_inclusive('\n').collect())
        };
        Some(Self {
            labels: [old.0, new.0],
            old: lines(old.1)?,
            new: lines(new.1)?,
        })
    }

    /// Writes it; nothing at all where the texts are equal.
    pub fn write(&self, to: &mut dyn io::Write, style: Style) -> io::Result<()> {
        let diff = TextDiff::configure()
            .timeout(PATIENCE)
            .diff_slices(&self.old, &self.new);
        let mut labels = Some(self.labels);
        for hunk in diff.unified_diff().iter_hunks() {
            if let Some([old, new]) = labels.take() {
                style.line(to, "1", &format!("--- {}\n", label(old)))?;
                style.line(to, "1", &format!("+++ {}\n", label(new)))?;
            }
            style.line(to, "36", &format!("{}\n", hunk.header()))?;
            for change in hunk.iter_changes() {
                let (sign, colour) = match change.tag() {
                    ChangeTag::Delete => ('-', "31"),
                    ChangeTag::Insert => ('+', "32"),
                    ChangeTag::Equal => (' ', ""),
                };
                let line = change.value();
                let end = if line.ends_with('\n') {
                    ""
                } else {
                    "\n\\ No newline at end of file\n"
                };
                style.line(to, colour, &format!("{sign}{line}{end}"))?;
            }
        }
        Ok(())
    }
}

impl Style {
    /// Writes `text`, which ends with a newline, in a colour (of SGR; empty for none).
    fn line(self, to: &mut dyn io::Write, sgr: &str, text: &str) -> io::Result<()> {
        match self {
            Self::Plain => to.write_all(text.as_bytes()),
            Self::Terminal { colour } => {
                let text = visible(text);
                let text = text.strip_suffix('\n').unwrap_or(&text);
                if colour && !sgr.is_empty() {
                    writeln!(to, "\x1b[{sgr}m{text}\x1b[m")
                } else {
                    writeln!(to, "{text}")
                }
            }
        }
    }
}

/// Control characters as `^X`, or `\u{..}` beyond ASCII.
fn visible(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_plain) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_plain(c) => shown.push(c),
            '\0'..='\x1f' => shown.extend(['^', char::from(c as u8 + 0x40)]),
            '\x7f' => shown.push_str("^?"),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown.into()
}

/// A file name in a header as GNU diff writes it: quoted where it has control characters, quotes
/// or backslashes, and followed by a tab where it has blanks.
fn label(name: &str) -> Cow<'_, str> {
    if name
        .chars()
        .any(|c| c.is_ascii_control() || matches!(c, '"' | '\\'))
    {
        let mut quoted = String::from("\"");
        for c in name.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_ascii_control() => quoted.push_str(&format!("\\{:03o}", c as u32)),
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        quoted.into()
    } else if name.contains(' ') {
        format!("{name}\t").into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn shown(old: &str, new: &str, style: Style) -> String {
        let diff = Diff::new(
            ("/some/node", old.as_bytes()),
            ("input.json", new.as_bytes()),
        );
        let mut out = Vec::new();
        diff.unwrap().write(&mut out, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What patch(1) makes of `old` with the difference to `new`.
    fn patched(dir: &Path, old: &str, new: &str) -> Vec<u8> {
        let file = dir.join("file");
        let difference = dir.join("difference");
        std::fs::write(&file, old).unwrap();
        std::fs::write(&difference, shown(old, new, Style::Plain)).unwrap();
        let status = Command::new("patch")
            .args(["--quiet", "--fuzz=0"])
            .args([&file, &difference])
            .stdout(Stdio::inherit())
            .status()
            .unwrap();
        assert!(status.success(), "{old:?} to {new:?}");
        // A file that becomes empty is removed.
        std::fs::read(&file).unwrap_or_default()
    }

    #[test]
    fn a_difference_in_full() {
        assert_eq!(
            shown("a\nb\nc\n", "a\nB\nc\n", Style::Plain),
            "--- /some/node\n+++ input.json\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"
        );
        assert_eq!(
            shown("", "a", Style::Plain),
            "--- /some/node\n+++ input.json\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n"
        );
        assert_eq!(shown("a", "a", Style::Plain), "");
    }

    #[test]
    fn what_is_no_text_has_no_difference() {
        assert!(Diff::new(("a", b"\xff"), ("b", b"text")).is_none());
        assert!(Diff::new(("a", b"text"), ("b", b"\xff")).is_none());
    }

    #[test]
    fn a_terminal_gets_colours_but_no_control_characters() {
        let colour = Style::Terminal { colour: true };
        assert_eq!(
            shown("a\n", "\x1b[2J\r\n", colour),
            "\x1b[1m--- /some/node\x1b[m\n\x1b[1m+++ input.json\x1b[m\n\
             \x1b[36m@@ -1 +1 @@\x1b[m\n\x1b[31m-a\x1b[m\n\x1b[32m+^[[2J^M\x1b[m\n"
        );
        let plain = Style::Terminal { colour: false };
        assert!(shown("a\n", "\u{9b}2J\n", plain).ends_with("\n+\\u{9b}2J\n"));
    }

    #[test]
    fn labels_are_quoted_as_gnu_diff_does() {
        assert_eq!(label("a.json"), "a.json");
        assert_eq!(label("a b.json"), "a b.json\t");
        assert_eq!(label("a\n+++ \"b"), "\"a\\012+++ \\\"b\"");
    }

    #[test]
    fn patch_takes_the_awkward_ones() {
        let dir = tempfile::tempdir().unwrap();
        for (old, new) in [
            ("", "a\n"),
            ("a\n", ""),
            ("", "a"),
            ("a", ""),
            ("a", "a\n"),
            ("a\n", "a"),
            ("a", "b"),
            ("a\r\nb\r\n", "a\r\nc\r\n"),
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\rb", "a\rc"),
            ("a\r", "a"),
            ("a", "a\r"),
            ("\n", "\n\n"),
            ("-- a\n", "--- a\n+++ b\n@@ -1 +1 @@\n"),
            (
                "a\u{2028}b\x0bc\x0cd\u{85}e\n",
                "a\u{2028}b\x0bc\x0cd\u{85}f\n",
            ),
        ] {
            assert_eq!(
                patched(dir.path(), old, new),
                new.as_bytes(),
                "{old:?} to {new:?}"
            );
        }
    }

    #[test]
    fn a_mebibyte_of_differing_lines_does_not_take_minutes() {
        let text = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..150_000)
                .map(|_| format!("{}\n", random.u16(..)))
                .collect::<String>()
        };
        let before = std::time::Instant::now();
        shown(&text(1), &text(2), Style::Plain);
        assert!(before.elapsed() < Duration::from_secs(30));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn patch_turns_the_old_text_into_the_new(
            old in "[ab\\-+ \\\\\r\n]{0,40}", new in "[ab\\-+ \\\\\r\n]{0,40}"
        ) {
            let dir = tempfile::tempdir().unwrap();
            if old != new {
                prop_assert_eq!(patched(dir.path(), &old, &new), new.as_bytes());
            }
        }
    }
}
