//! The hooks, as `check` prints them.

use serde_json::{Value, json};

use super::{Names, columns, milliseconds, printable};
use crate::config::{Command, Config, Hook, Stdin};

/// A cell is no longer, in characters.
const MAX_WIDTH: usize = 60;

/// What names a hook.
struct On<'a> {
    nodes: Vec<&'a str>,
    trees: Vec<&'a str>,
}

/// A line for each hook.
pub(super) fn table(config: &Config, names: &mut Names) -> String {
    let rows = config.hooks.all.iter().map(|hook| {
        let user = match &hook.account {
            Some(account) => {
                let user = names.user(account.uid).to_owned();
                format!("{user}:{}", names.group(account.gid))
            }
            None => "-".into(),
        };
        [
            printable(&hook.name),
            hook.run_mode.as_str().into(),
            user,
            cut(&command_text(&hook.command)),
            cut(&On::of(hook, config).text()),
        ]
    });
    columns(["HOOK", "RUN MODE", "USER", "COMMAND", "ON"], rows)
}

/// All that is known of each.
pub(super) fn json(config: &Config) -> Vec<Value> {
    let hooks = config.hooks.all.iter();
    hooks
        .map(|hook| {
            let on = On::of(hook, config);
            let account = hook.account.as_ref();
            json!({
                "name": hook.name,
                "command": match &hook.command {
                    Command::Shell(text) => json!(text),
                    Command::Exec(words) => json!(words),
                },
                "run_mode": hook.run_mode.as_str(),
                "run_on_load": hook.run_on_load,
                "pipe_stdin": match hook.stdin {
                    Stdin::Nothing => json!(false),
                    Stdin::Content => json!(true),
                    Stdin::Events => json!("events"),
                },
                "user": account.map(|account| account.uid),
                "group": account.map(|account| account.gid),
                "groups": account.map(|account| &account.groups),
                "notify_signal": hook.notify_signal,
                "timeout_ms": hook.timeout.map(milliseconds),
                "kill_timeout_ms": milliseconds(hook.kill_timeout),
                "retries": hook.retries,
                "backoff_ms": milliseconds(hook.backoff),
                "ok_codes": hook.ok_codes,
                "splay_ms": milliseconds(hook.splay),
                "wait_min_ms": milliseconds(hook.wait_min),
                "wait_max_ms": milliseconds(hook.wait_max),
                "description": hook.description,
                "on": {"nodes": on.nodes, "trees": on.trees},
            })
        })
        .collect()
}

impl<'a> On<'a> {
    fn of(hook: &Hook, config: &'a Config) -> Self {
        let has = |hooks: &[String]| hooks.contains(&hook.name);
        let nodes = config.nodes.iter().filter(|node| has(&node.hooks));
        let trees = config.trees.iter().filter(|tree| has(&tree.hooks));
        Self {
            nodes: nodes.map(|node| &*node.name).collect(),
            trees: trees.map(|tree| &*tree.name).collect(),
        }
    }

    /// A tree has a slash at its end, as directories have elsewhere.
    fn text(&self) -> String {
        let nodes = self.nodes.iter().map(|&name| name.to_owned());
        let trees = self.trees.iter().map(|name| format!("{name}/"));
        let all: Vec<_> = nodes.chain(trees).collect();
        match all.is_empty() {
            true => "-".into(),
            false => all.join(","),
        }
    }
}

fn command_text(command: &Command) -> String {
    match command {
        Command::Shell(text) => text.clone(),
        Command::Exec(words) => json!(words).to_string(),
    }
}

fn cut(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(MAX_WIDTH) {
        None => text,
        Some(_) => {
            let start: String = text.chars().take(MAX_WIDTH - 3).collect();
            start + "..."
        }
    }
}
