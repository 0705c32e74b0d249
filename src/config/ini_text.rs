//! The lines as a text that leaves rust-ini no choice, and what it reads there.

use std::fmt::Write;

use ini::{Ini, ParseOption};

use super::lines::Lines;

/// Has rust-ini read the values of all entries, in their order.
pub(super) fn values(lines: &Lines) -> Result<Vec<String>, ini::ParseError> {
    let options = ParseOption {
        enabled_quote: true,
        enabled_escape: true,
        enabled_indented_mutiline_value: false,
        enabled_preserve_key_leading_whitespace: false,
    };
    let ini = Ini::load_from_str_opt(&unambiguous(lines), options)?;
    let general = ini.section(None::<String>);
    Ok(lines
        .entries
        .iter()
        .map(|entry| {
            let value = general.and_then(|keys| keys.get(&entry.key));
            debug_assert!(value.is_some(), "rust-ini lost {:?}", entry.key);
            value.unwrap_or(&entry.value).to_owned()
        })
        .collect())
}

/// The entries as a text without sections, comments and continuation lines, in which everything
/// special is escaped: for rust-ini with quotes and escapes enabled.
fn unambiguous(lines: &Lines) -> String {
    let mut text = String::new();
    for entry in &lines.entries {
        for c in entry.key.chars() {
            match c {
                'a'..='z' | '0'..='9' | '.' | '_' | '-' => text.push(c),
                // Four digits are all that rust-ini takes; nothing beyond is special to it.
                '\0'..='\u{ffff}' => {
                    write!(text, "\\x{:04x}", u32::from(c)).expect("a String takes all")
                }
                _ => text.push(c),
            }
        }
        text.push_str("=\"");
        for c in entry.value.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                _ => text.push(c),
            }
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lines::{Entry, is_space};
    use super::*;

    proptest! {
        #[test]
        fn rust_ini_reads_what_the_pass_found(
            entries in proptest::collection::btree_map(
                "[\\[\\]a\\\\#;\"' \u{a0}\u{10000}.-]{0,3}[a\\[\\]\\\\\u{e4}]",
                "[a\n\r\t =:\\\\\"'#;\\[\\]$n0x\u{a0}\u{10000}]{0,8}",
                0..4,
            )
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (key.trim_matches(is_space).to_owned(), value))
                .collect();
            let lines = Lines {
                entries: entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        value: value.clone(),
                        line: 1,
                        inherited: false,
                    })
                    .collect(),
                ignored: Vec::new(),
            };
            let read = values(&lines).unwrap();
            for ((key, value), read) in entries.iter().zip(read) {
                // Two keys may have become one by the trimming: then the first counts.
                let first = entries.iter().find(|(other, _)| other == key);
                prop_assert_eq!(first.map(|(_, value)| value), Some(&read), "{:?} {:?}", key, value);
            }
        }
    }
}
