//! `livedata-fuse status`: what the keeper of a mount says, as a table for people or as JSON.
//!
//! Exit codes: 0 healthy, 1 degraded (what "healthy" means says `Status::complaints`), 2 no keeper
//! answers there.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livedata::keeper::{
    self,
    status::{Event, Process, State, Status},
};

use serde_json::Value;

use crate::cli;

/// How long the keeper may take; it gives the server a second.
const LIMIT: Duration = Duration::from_secs(2);

const NOT_A_MOUNT: u8 = 2;

pub(crate) fn run(arguments: &cli::Status) -> anyhow::Result<ExitCode> {
    let shown = arguments.mountpoint.display();
    let answer = resolve(&arguments.mountpoint).and_then(|path| keeper::ask(&path, LIMIT));
    let answer = match answer {
        Ok(answer) => answer,
        Err(err) => {
            eprintln!("livedata-fuse: {shown}: no mount, or its keeper does not answer: {err}");
            return Ok(ExitCode::from(NOT_A_MOUNT));
        }
    };
    let status: Status = match serde_json::from_str(&answer) {
        Ok(status) => status,
        Err(err) => {
            eprintln!("livedata-fuse: {shown}: the answer of its keeper makes no sense: {err}");
            return Ok(ExitCode::from(NOT_A_MOUNT));
        }
    };
    let now = SystemTime::now();
    crate::print(&match arguments.json {
        true => answer,
        false => table(&status, now),
    })?;
    Ok(match status.complaints(now).is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn table(status: &Status, now: SystemTime) -> String {
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
    text.push_str(&details(&status.details));
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

/// The server's part: files, and those nodes that cannot be read.
fn details(details: &Value) -> String {
    let number = |name: &str| details[name].as_u64().unwrap_or(0);
    let mut text = String::new();
    if details.is_null() {
        return text;
    }
    let _ = writeln!(
        text,
        "\n{} files of {} nodes, {} may be old; ZooKeeper: {}",
        number("files"),
        number("nodes"),
        number("stale"),
        details["zookeeper"].as_str().unwrap_or("unknown"),
    );
    for node in details["unreadable"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "cannot be read: {}",
            node.as_str().unwrap_or_default()
        );
    }
    for dropin in details["dropins"].as_array().into_iter().flatten() {
        if let Some(error) = dropin["error"].as_str() {
            let _ = writeln!(text, "drop-in: {error}");
        }
    }
    if let Some(last) = details["last_garbled_reply"].as_str() {
        let _ = writeln!(
            text,
            "{} garbled replies of ZooKeeper, the last: {last}",
            number("garbled_replies")
        );
    }
    if let Some(health) = details["cache"]["health"].as_str() {
        let n = details["cache"]["entries"].as_u64().unwrap_or(0);
        let _ = writeln!(text, "cache: {health}, {n} znodes");
    }
    text
}

/// In the largest unit that is not too coarse.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
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
