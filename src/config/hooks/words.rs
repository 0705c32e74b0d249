//! What one value of a hook means. An error is the text that follows the key in a message.

use super::{Command, OnUnmount, RunMode, Stdin};
use crate::config::values;

/// A JSON list, or else a text for the shell. To the shell `[` is a command, with a space behind it.
pub(super) fn command(text: &str) -> Result<Command, String> {
    if text.contains('\0') {
        return Err("a command cannot have a NUL; take it out".into());
    }
    let list = serde_json::from_str(text);
    if !text.starts_with('[') || (list.is_err() && text.starts_with("[ ")) {
        return Ok(Command::Shell(text.into()));
    }
    let example = r#"write ["systemctl", "reload", "web"], or a text for the shell"#;
    let words: Vec<String> = list.map_err(|err| {
        format!("begins with [ and is no JSON list of strings ({err}); {example}")
    })?;
    if words.first().is_none_or(String::is_empty) {
        return Err(format!("the list names no program; {example}"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("a command cannot have a NUL; take it out".into());
    }
    Ok(Command::Exec(words))
}

/// What becomes of changes while it runs.
pub(super) fn run_mode(text: &str) -> Result<RunMode, String> {
    match text {
        "queue" => Ok(RunMode::Queue),
        "discard" => Ok(RunMode::Discard),
        "parallel" => Ok(RunMode::Parallel),
        _ => Err(format!(
            "{text:?} is no run mode; write queue, discard or parallel"
        )),
    }
}

/// What it reads.
pub(super) fn stdin(text: &str) -> Result<Stdin, String> {
    match (text, values::boolean(text)) {
        ("events", _) => Ok(Stdin::Events),
        (_, Ok(true)) => Ok(Stdin::Content),
        (_, Ok(false)) => Ok(Stdin::Nothing),
        (_, Err(_)) => Err(format!(
            "{text:?} is nothing to pipe; write true for the content, false or events"
        )),
    }
}

/// What becomes of commands when the mount ends.
pub(super) fn on_unmount(text: &str) -> Result<OnUnmount, String> {
    match text {
        "kill" => Ok(OnUnmount::Kill),
        "leave" => Ok(OnUnmount::Leave),
        _ => Err(format!(
            "{text:?} is nothing to do with commands; write kill or leave"
        )),
    }
}

/// How many commands run at once.
pub(super) fn max_parallel(text: &str) -> Result<usize, String> {
    values::count(text)
        .filter(|&count| count > 0)
        .ok_or_else(|| format!("{text:?} is no number from 1; write 16, for example"))
}

/// How often it is tried again.
pub(super) fn retries(text: &str) -> Result<u32, String> {
    values::count(text).ok_or_else(|| {
        format!("{text:?} is no number of retries; write 3, for example, or 0 for none")
    })
}

/// Exit codes between commas or blanks, each once.
pub(super) fn ok_codes(text: &str) -> Result<Vec<u8>, String> {
    let wrong = |what: &str| format!("{what:?} is no exit code from 0 to 255; write 0, 3 or so");
    let mut codes = Vec::new();
    for word in values::words(text) {
        let code = values::count(word).ok_or_else(|| wrong(word))?;
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    match codes.is_empty() {
        true => Err(wrong(text)),
        false => Ok(codes),
    }
}

/// A signal by name or number, of those that a process can take notice of.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let is_name = |&number: &i32| signal_name(number) == Some(name);
    let number = match values::count::<u8>(text) {
        Some(number) => Some(i32::from(number)),
        None => (1..32).find(is_name),
    };
    match number {
        Some(libc::SIGKILL | libc::SIGSTOP) => Err(format!(
            "{text:?} is a signal that no command can take notice of; write HUP, for example"
        )),
        // Those between are the C library's own.
        Some(number) if matches!(number, 1..32) => Ok(number),
        Some(number) if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => Ok(number),
        Some(_) | None => Err(format!(
            "{text:?} is no signal; write HUP or USR1, for example, or its number"
        )),
    }
}

/// The name of a signal without its SIG.
fn signal_name(number: i32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(number)?.strip_prefix("SIG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let exec = |words: &[&str]| {
            Ok(Command::Exec(
                words.iter().map(|&word| word.into()).collect(),
            ))
        };
        for (text, expected) in [
            ("true", Ok(Command::Shell("true".into()))),
            ("a [1]\nb", Ok(Command::Shell("a [1]\nb".into()))),
            ("[ -e x ] && y", Ok(Command::Shell("[ -e x ] && y".into()))),
            ("[\"a\"]", exec(&["a"])),
            ("[ \"a b\",\n\"\", \"$C\"]", exec(&["a b", "", "$C"])),
        ] {
            assert_eq!(command(text), expected, "{text:?}");
        }
        for text in [
            "a\0b",
            "[",
            "[]",
            "[\"\"]",
            "[\"a\\u0000\"]",
            "[1]",
            "[\"a\"] b",
            "[\"a\",]",
        ] {
            assert!(command(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn signals() {
        for (text, number) in [
            ("HUP", libc::SIGHUP),
            ("sighup", libc::SIGHUP),
            ("SIGUsr1", libc::SIGUSR1),
            ("winch", libc::SIGWINCH),
            ("1", 1),
            ("15", 15),
            ("31", 31),
            ("34", 34),
            ("64", 64),
        ] {
            assert_eq!(signal(text), Ok(number), "{text:?}");
        }
        for text in [
            "",
            "0",
            "32",
            "33",
            "65",
            "-1",
            "9",
            "19",
            "KILL",
            "sigstop",
            "SIG",
            "SIGSIGHUP",
            "HUP USR1",
            "SIG1",
            "1.5",
            "257",
        ] {
            assert!(signal(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn exit_codes() {
        for (text, codes) in [
            ("0", &[0][..]),
            ("0,3", &[0, 3]),
            (" 3  0, 255,\n3 ", &[3, 0, 255]),
        ] {
            assert_eq!(ok_codes(text).as_deref(), Ok(codes), "{text:?}");
        }
        for text in ["", ",", "256", "-1", "0;1", "ok", "0x1"] {
            assert!(ok_codes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_piped() {
        for (text, expected) in [
            ("true", Stdin::Content),
            ("Yes", Stdin::Content),
            ("off", Stdin::Nothing),
            ("events", Stdin::Events),
        ] {
            assert_eq!(stdin(text), Ok(expected), "{text:?}");
        }
        for text in ["", "event", "content", "2"] {
            assert!(stdin(text).is_err(), "{text:?}");
        }
    }
}
