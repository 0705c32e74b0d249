//! A mount of the real processes, with what its keeper tells of them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use livedata::keeper::{self, status::State};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_for;

/// The status, as JSON; null where the keeper does not answer.
pub fn status(mount: &Mount) -> Value {
    keeper::ask(&mount.root(), Duration::from_secs(5))
        .ok()
        .and_then(|answer| serde_json::from_str(&answer).ok())
        .unwrap_or(Value::Null)
}

/// Waits until the status is as it should be.
#[track_caller]
pub fn wait_status(mount: &Mount, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for(SOON, what, || Some(status(mount)).filter(&is))
}

/// The process id of the `server` or the `publisher` that works; none in between.
pub fn pid_of(status: &Value, process: &str) -> Option<u32> {
    let process = &status[process];
    let serves = serde_json::to_value(State::Serving).unwrap();
    let pid = Some(&process["pid"]).filter(|_| process["state"] == serves)?;
    pid.as_u64()?.try_into().ok()
}

/// Waits until a server and a publisher work, and gives both.
#[track_caller]
pub fn processes(mount: &Mount) -> [u32; 2] {
    wait_for(SOON, "a server and a publisher work", || {
        let status = status(mount);
        Some([pid_of(&status, "server")?, pid_of(&status, "publisher")?])
    })
}

/// Waits until another one than `old` works as the `server` or the `publisher`.
#[track_caller]
pub fn next_of(mount: &Mount, process: &str, old: u32) -> u32 {
    wait_for(SOON, &format!("another {process}"), || {
        pid_of(&status(mount), process).filter(|pid| *pid != old)
    })
}

/// Sends a signal to a process of a mount. It may just have ended.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(err) => panic!("{err}"),
    }
}

pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// The state of a process as ps(1) shows it; none if it is gone. A zombie is gone: only its parent
/// still has to look.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}

/// Waits until the processes are gone; one that hangs in the kernel never is.
#[track_caller]
pub fn wait_until_gone(pids: &[u32]) {
    let start = std::time::Instant::now();
    for pid in pids {
        while let Some(state) = state(*pid) {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "process {pid} stays, in state {state}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Resident memory that is not shared with a file or another process, in KiB.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// CPU time, in hundredths of a second.
pub fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.map(|field| field.parse::<u64>().unwrap()).sum()
}

/// A copy of the program, under a path of its own. Made by another process: ours, while it starts
/// others, must not have it open for writing.
pub fn copy_program(to: &Path) {
    let new = to.with_extension("new");
    let copied = std::process::Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_livedata-fuse"))
        .arg(&new)
        .status()
        .unwrap();
    assert_eq!(copied.into_raw(), 0);
    fs::rename(new, to).unwrap();
}

/// A number of the environment, or this one.
pub fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}
