//! What commands of a runner that died have left running: it ends before they are run again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rustix::process::{Pid, Signal};

/// Ends the process groups of commands that were started and are not known to have ended, by the
/// process ids of those. Another process may have such an id by now: only what has the tag of the
/// command in its environment is one of them.
pub(super) fn end(running: &HashMap<u32, Arc<str>>) {
    if running.is_empty() {
        return;
    }
    let found = match processes() {
        Ok(found) => found,
        Err(err) => return log::warn!("what commands left running is left alone: {err}"),
    };
    for pid in found {
        let Some(tag) = group(pid).and_then(|group| running.get(&group)) else {
            continue;
        };
        if is_tagged(pid, tag)
            && let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            log::warn!("process {pid} is of a command that is to run again, and is ended");
            // It may have ended.
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

fn processes() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// The process group (proc_pid_stat(5)): the third field behind the name in parentheses.
fn group(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(2)?.parse().ok()
}

fn is_tagged(pid: u32, tag: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ"));
    let wanted = format!("LIVEDATA_RUN={tag}");
    environment.is_ok_and(|text| {
        text.split(|byte| *byte == 0)
            .any(|it| it == wanted.as_bytes())
    })
}
