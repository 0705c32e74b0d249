//! What one hook means by itself, and what is said of all.

use std::time::Duration;

use super::{
    Account, Command, DEFAULT_MAX_PARALLEL, Hook, Hooks, OnUnmount, RunMode, Stdin, naming, words,
};
use crate::config::parts::{Accounts, Reading};
use crate::config::raw::RawConfig;
use crate::config::{Error, values};

/// Enough to write a file and to close a connection.
const DEFAULT_KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the first retry.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);
/// How many times `wait_min` it is waited for quiet, if the file does not say.
const DEFAULT_WAITS: u32 = 4;

/// What the main file says of all hooks, none of which is among them yet.
pub(in crate::config) fn settings(raw: &RawConfig<'_>) -> Result<Hooks, Error> {
    Ok(Hooks {
        all: Vec::new(),
        max_parallel: raw.value(
            "hooks.max_parallel",
            DEFAULT_MAX_PARALLEL,
            words::max_parallel,
        )?,
        on_unmount: raw.value("hooks.on_unmount", OnUnmount::Kill, words::on_unmount)?,
    })
}

/// The hook, if all that it says is right.
pub(in crate::config) fn hook(reading: &mut Reading<'_>, accounts: &mut Accounts) -> Option<Hook> {
    let key = reading.raw.key();
    let name = reading.raw.name.clone();
    if naming::names(&name) != [&*name] {
        let message = "the name has a blank or a comma, so no node can name it; write another name";
        reading.problem("command", message.into());
    }
    if reading.raw.option("command").is_none() {
        let message = format!("missing; write {key}.command = what is to run");
        reading.problem("command", message);
    }
    let command = reading.value("command", None, |text| words::command(text).map(Some));
    let account = account(reading, accounts);
    let wait_min = reading.value("wait_min", Duration::ZERO, values::time);
    let default_wait = wait_min.saturating_mul(DEFAULT_WAITS);
    let wait_max = reading.value("wait_max", default_wait, |text| match values::time(text)? {
        time if time < wait_min => Err(format!(
            "{text:?} is less than {key}.wait_min; write at least as much, or take it out"
        )),
        time => Ok(time),
    });
    let hook = Hook {
        name,
        line: reading.raw.line,
        command: command.unwrap_or_else(|| Command::Shell(String::new())),
        run_mode: reading.value("run_mode", RunMode::Queue, words::run_mode),
        run_on_load: reading.value("run_on_load", false, values::boolean),
        stdin: reading.value("pipe_stdin", Stdin::Nothing, words::stdin),
        account,
        notify_signal: reading.value("notify_signal", None, |text| words::signal(text).map(Some)),
        timeout: reading.value("timeout", None, |text| values::some_time(text).map(Some)),
        kill_timeout: reading.value("kill_timeout", DEFAULT_KILL_TIMEOUT, values::time),
        retries: reading.value("retries", 0, words::retries),
        backoff: reading.value("backoff", DEFAULT_BACKOFF, values::time),
        ok_codes: reading.value("ok_codes", vec![0], words::ok_codes),
        splay: reading.value("splay", Duration::ZERO, values::time),
        wait_min,
        wait_max,
        description: reading.value("description", None, |text| Ok(Some(text.to_owned()))),
    };
    reading.all_right()?;
    if wait_min.is_zero() {
        reading.no_effect("wait_max", "wait_min");
    }
    if hook.run_mode != RunMode::Queue {
        reading.no_effect("notify_signal", "run_mode = queue");
    }
    if hook.retries == 0 {
        reading.no_effect("backoff", "retries");
    }
    Some(hook)
}

/// Whom it runs as; none for the user who mounts, who may have groups that nobody says.
fn account(reading: &mut Reading<'_>, accounts: &mut Accounts) -> Option<Account> {
    let (raw, here) = (reading.raw, reading.surroundings);
    let group = reading.value("group", None, |text| accounts.group(text, here).map(Some));
    if group.is_none() && raw.option("group").is_some() {
        return None;
    }
    let account = match (raw.option("user"), group) {
        (None, None) => return None,
        (None, Some(gid)) => bare(here.uid, gid),
        (Some(user), group) => {
            let uid = values::id(&user.value);
            match (accounts.account(&user.value, group, here), uid, group) {
                (Ok(Some(account)), _, _) => account,
                (Ok(None), Some(uid), Some(gid)) => bare(uid, gid),
                (Ok(None), _, _) => {
                    let message = format!(
                        "{:?} is no user of this host, so its group is unknown; write {}.group too",
                        user.value,
                        raw.key()
                    );
                    reading.problem("user", message);
                    return None;
                }
                (Err(message), _, _) => {
                    reading.problem("user", message);
                    return None;
                }
            }
        }
    };
    if here.uid == 0 {
        return Some(account);
    }
    if (account.uid, account.gid) != (here.uid, here.gid) {
        let is_by_group = account.uid == here.uid && group.is_some();
        let option = if is_by_group { "group" } else { "user" };
        let message = format!(
            "only root can run a command as another, and the user {} mounts; take it out, or mount as root",
            here.uid
        );
        reading.problem(option, message);
    }
    None
}

/// Nothing but numbers.
fn bare(uid: u32, gid: u32) -> Account {
    Account {
        uid,
        gid,
        groups: vec![gid],
        name: None,
        home: None,
        shell: None,
    }
}
