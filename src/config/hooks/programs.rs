//! Whether what hooks run is there: a look at this host, which `check` has, and `mount` while there is
//! no mount yet. Who serves one does not look: a program may be in it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Command, Hook};
use crate::config::{Problem, Severity};

/// What stands first in a command of the shell, and is no program; some of them are both.
const SHELL_WORDS: &[&str] = &[
    ".", "alias", "bg", "break", "builtin", "case", "cd", "command", "continue", "declare", "dirs",
    "do", "done", "echo", "elif", "else", "enable", "esac", "eval", "exec", "exit", "export",
    "false", "fc", "fg", "fi", "for", "function", "getopts", "hash", "if", "jobs", "kill", "let",
    "local", "popd", "printf", "pushd", "pwd", "read", "readonly", "return", "select", "set",
    "shift", "shopt", "source", "suspend", "test", "then", "time", "times", "trap", "true", "type",
    "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
];
/// Where programs are looked for if nobody says.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A warning for each hook of `file` whose program is not there; `path` is the PATH.
pub(in crate::config) fn missing(file: &Path, hooks: &[Hook], path: Option<&str>) -> Vec<Problem> {
    let path = path.unwrap_or(DEFAULT_PATH);
    let missing = |hook: &Hook| {
        let program = program(&hook.command)?;
        let message = match (is_there(program, path), program.contains('/')) {
            (true, _) => return None,
            (false, true) => format!(
                "{program:?} is no file that can be run; write the path of one, or install it"
            ),
            (false, false) => {
                format!("there is no {program:?} in PATH; write the whole path, or install it")
            }
        };
        Some(Problem {
            severity: Severity::Warning,
            file: file.into(),
            line: Some(hook.line),
            key: Some(format!("hooks.{}.command", hook.name)),
            message,
        })
    };
    hooks.iter().filter_map(missing).collect()
}

/// The program that runs, as far as that is certain.
fn program(command: &Command) -> Option<&str> {
    match command {
        Command::Exec(words) => words.first().map(String::as_str),
        Command::Shell(text) => {
            let word = text.split_ascii_whitespace().next()?;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-+".contains(c);
            (word.chars().all(is_plain) && !SHELL_WORDS.contains(&word)).then_some(word)
        }
    }
}

fn is_there(program: &str, path: &str) -> bool {
    let can_run = |file: &Path| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    match program.contains('/') {
        true => can_run(Path::new(program)),
        // An empty part is the working directory, as it always was.
        false => path
            .split(':')
            .any(|directory| can_run(&Path::new(directory).join(program))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs() {
        let of_shell = |text: &str| program(&Command::Shell(text.into())).map(str::to_owned);
        for (text, expected) in [
            ("systemctl reload web", Some("systemctl")),
            ("\n  /bin/g++-12.1\tx", Some("/bin/g++-12.1")),
            ("exec web", None),
            ("if a; then b; fi", None),
            (". /etc/x", None),
            ("reload; other", None),
            ("A=1 reload", None),
            ("\"reload\"", None),
            ("$reload", None),
            ("(reload)", None),
            ("{ reload; }", None),
            ("reload>x", None),
            ("", None),
        ] {
            assert_eq!(of_shell(text).as_deref(), expected, "{text:?}");
        }
        let exec = Command::Exec(vec!["if".into(), "x".into()]);
        assert_eq!(program(&exec), Some("if"));
    }

    #[test]
    fn where_programs_are() {
        for (program, path, expected) in [
            ("sh", "/nowhere:/bin", true),
            ("sh", "/nowhere", false),
            ("sh", "", false),
            ("/bin/sh", "", true),
            ("/bin", "", false),
            ("/etc/passwd", "", false),
            ("passwd", "/etc", false),
        ] {
            assert_eq!(is_there(program, path), expected, "{program} in {path}");
        }
    }
}
