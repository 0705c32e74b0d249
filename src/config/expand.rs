//! `$VAR` and `${VAR}` in values, exactly as Python's `os.path.expandvars` has them.

/// Replaces the variables that `variable` knows; all else stays as it is.
///
/// `$VAR` takes ASCII letters, digits and underscores, as many as there are; `${...}` anything up to
/// the brace. A replacement is not expanded again, and there is no escape.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    // Without this, a text full of open braces would be searched to its end for each of them.
    let last_brace = text.rfind('}').unwrap_or(0);
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let closed = text.len() - rest.len() < last_brace;
        let (name, length) = match reference(&rest[1..], closed) {
            Some((name, length)) => (Some(name), 1 + length),
            None => (None, 1),
        };
        match name.and_then(variable) {
            Some(value) => expanded.push_str(&value),
            None => expanded.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    expanded + rest
}

/// The name right after a dollar, and how many bytes it takes there. A brace may be `closed` ahead.
fn reference(text: &str, closed: bool) -> Option<(&str, usize)> {
    if let Some(braced) = text.strip_prefix('{') {
        if !closed {
            return None;
        }
        let end = braced.find('}')?;
        return Some((&braced[..end], end + 2));
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_does() {
        let variable = |name: &str| match name {
            "A" => Some("1".into()),
            "A_b9" => Some("long".into()),
            "loop" => Some("$A".into()),
            "with blank" => Some("2".into()),
            "empty" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "1"),
            ("${A}", "1"),
            ("x$A/y${A}z", "x1/y1z"),
            ("$A_b9", "long"),
            ("$A-b", "1-b"),
            ("$A\u{e9}", "1\u{e9}"),
            ("$\u{e9}", "$\u{e9}"),
            ("$unset ${unset}", "$unset ${unset}"),
            ("$loop${loop}", "$A$A"),
            ("${with blank}", "2"),
            ("[$empty]", "[]"),
            ("$", "$"),
            ("$$A", "$1"),
            ("\\$A", "\\1"),
            ("${A", "${A"),
            ("${${A}", "${${A}"),
            ("${}$A", "${}1"),
            ("${x$A", "${x1"),
            ("$A$", "1$"),
            ("~$A", "~1"),
            ("%(A)s", "%(A)s"),
        ] {
            assert_eq!(expand(text, &variable), expected, "{text:?}");
        }
    }
}
