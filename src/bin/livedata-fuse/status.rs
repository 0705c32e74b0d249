//! `livedata-fuse status`: what the keeper of a mount says, as a table for people or as JSON.
//!
//! Exit codes: 0 healthy, 1 degraded (what "healthy" means says `Status::complaints`), 2 no keeper
//! answers there. The server's part is in `livedata::status`; without it there is the rest.

mod waiting;

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livedata::keeper::{
    self,
    status::{Event, Process, State, Status},
};
use livedata::status;
use livedata::status::table::{self, Look, duration};
use livedata::status::wait::Goal;
use serde::Deserialize;

use crate::cli;

/// How long the keeper may take; it gives the server a second.
const LIMIT: Duration = Duration::from_secs(2);

const NOT_A_MOUNT: u8 = 2;

const WRONG_USAGE: u8 = 2;

pub(crate) fn run(arguments: &cli::Status) -> anyhow::Result<ExitCode> {
    let goal = match &arguments.wait_for {
        Some(text) => match Goal::parse(text) {
            Ok(goal) => Some(goal),
            Err(err) => {
                eprintln!("livedata-fuse: --wait-for {text:?}: {err}");
                return Ok(ExitCode::from(WRONG_USAGE));
            }
        },
        None => arguments.wait_fresh.then_some(Goal::Fresh),
    };
    if let Some(goal) = goal {
        return Ok(waiting::run(arguments, &goal));
    }
    let (answer, status) = match ask(&arguments.mountpoint) {
        Ok(answered) => answered,
        Err(err) => {
            return Ok(no_mount(&arguments.mountpoint, &err));
        }
    };
    let now = SystemTime::now();
    let look = Look {
        all: arguments.all,
        colours: wants_colours(),
    };
    crate::print(&match arguments.json {
        true => answer,
        false => table(&status, now, look),
    })?;
    Ok(match status.complaints(now).is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What the keeper answers, as it is and as it is understood.
fn ask(mountpoint: &Path) -> io::Result<(String, Status)> {
    let answer = resolve(mountpoint).and_then(|path| keeper::ask(&path, LIMIT))?;
    let status = serde_json::from_str(&answer).map_err(|err| {
        let words = format!("the answer makes no sense: {err}");
        io::Error::new(io::ErrorKind::InvalidData, words)
    })?;
    Ok((answer, status))
}

fn no_mount(mountpoint: &Path, err: &io::Error) -> ExitCode {
    let shown = mountpoint.display();
    eprintln!("livedata-fuse: {shown}: no mount, or its keeper does not answer: {err}");
    ExitCode::from(NOT_A_MOUNT)
}

/// The server's part; none if it did not answer.
fn details(status: &Status) -> Option<status::Status> {
    let details = Some(&status.details).filter(|details| !details.is_null())?;
    // That of another version is understood as far as it goes, or not at all.
    status::Status::deserialize(details).ok()
}

/// On a terminal, unless the user does not want them (no-color.org).
fn wants_colours() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && unset("NO_COLOR") && !dumb
}

fn table(status: &Status, now: SystemTime, look: Look) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ago = |when: u64| duration(now.saturating_sub(when));
    let last = |event: &Option<Event>| match event {
        Some(Event { when, reason }) => format!("{} ago: {reason}", ago(*when)),
        None => "-".into(),
    };
    let complaints = status.complaints(SystemTime::now());
    let health = match complaints.is_empty() {
        true => "healthy".into(),
        false => complaints.join(", "),
    };
    let mut text = format!("{}: {health}\n\n", status.mountpoint);
    let mut row = |cells: [&str; 6]| {
        let [process, pid, state, runs, restarts, death] = cells;
        let line = format!("{process:9}  {pid:>7}  {state:8}  {runs:>5}  {restarts:>8}  {death}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    row(["process", "pid", "state", "for", "restarts", "last death"]);
    let keeper = &status.keeper;
    row([
        "keeper",
        &keeper.pid.to_string(),
        "serving",
        &ago(keeper.since),
        "",
        "",
    ]);
    for (name, process) in [("server", &status.server), ("publisher", &status.publisher)] {
        let Process {
            pid,
            since,
            restarts,
            state,
            last_death,
            reason,
        } = process;
        row([
            name,
            &pid.map_or("-".into(), |pid| pid.to_string()),
            match state {
                State::Serving => "serving",
                State::Starting => "starting",
                State::Backoff => "backoff",
                State::None => "none",
            },
            &since.map_or("-".into(), ago),
            &restarts.to_string(),
            &match reason {
                Some(reason) => reason.clone(),
                None => last(last_death),
            },
        ]);
    }
    if let Some(details) = details(status) {
        text.push_str(&of_server(&details, look));
    }
    if status.upgrade.running {
        text.push_str("\nan upgrade is under way\n");
    } else if status.upgrade.last.is_some() {
        let _ = writeln!(text, "\nlast upgrade {}", last(&status.upgrade.last));
    }
    if let Some(lost) = &status.anew.last {
        let (times, ago) = (status.anew.times, ago(lost.when));
        let _ = writeln!(
            text,
            "\nmounted anew {times} times; the last mount was lost {ago} ago: {}",
            lost.reason
        );
    }
    if status.resend == Some(false) {
        text.push_str(
            "\nthis kernel is older than Linux 6.9: when the server dies, the mount is made anew\n",
        );
    }
    let _ = writeln!(text, "\nversion {}", status.version);
    text
}

/// The server's part.
fn of_server(details: &status::Status, look: Look) -> String {
    let mut text = String::new();
    let zookeeper = &details.zookeeper;
    let _ = writeln!(
        text,
        "\n{} files of {}, {} may be old; ZooKeeper: {}{}",
        details.files,
        match (details.nodes.len(), details.trees.len()) {
            (nodes, 0) => format!("{nodes} nodes"),
            (nodes, trees) => format!("{nodes} nodes and {trees} trees"),
        },
        details.stale,
        match (&zookeeper.session, &zookeeper.error) {
            (Some(session), _) => format!("session {session}"),
            (None, Some(error)) => error.clone(),
            (None, None) => "not connected yet".into(),
        },
        match zookeeper.read_only {
            true => " with a read-only server",
            false => "",
        },
    );
    for dropin in &details.dropins {
        if let Some(error) = &dropin.error {
            let _ = writeln!(text, "drop-in: {error}");
        }
    }
    if let Some(last) = &details.last_garbled_reply {
        let _ = writeln!(
            text,
            "{} garbled replies of ZooKeeper, the last: {last}",
            details.garbled_replies
        );
    }
    if let Some(cache) = &details.cache {
        let _ = writeln!(text, "cache: {}, {} znodes", cache.health, cache.entries);
    }
    let trees = table::trees(details);
    if !trees.is_empty() {
        let _ = write!(text, "\n{trees}");
    }
    let hooks = table::hooks(details, details.at);
    if !hooks.is_empty() {
        let _ = write!(text, "\n{hooks}");
    }
    let nodes = table::nodes(details, look);
    if !nodes.is_empty() {
        let _ = write!(text, "\n{nodes}");
    }
    text
}

/// The path without symbolic links. What is mounted there is not asked: it might hang.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path);
    };
    let path = parent.canonicalize()?.join(name);
    match std::fs::read_link(&path) {
        Ok(_) => path.canonicalize(),
        Err(_) => Ok(path),
    }
}
