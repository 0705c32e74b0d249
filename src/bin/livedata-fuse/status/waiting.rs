//! `livedata-fuse status --wait-for`, `--wait-fresh`: asks again and again, for scripts.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use livedata::status::wait::{Goal, Progress};

use super::{NOT_A_MOUNT, ask, details, no_mount};
use crate::cli;

/// How long after an answer it is asked again, at least.
const PAUSE: Duration = Duration::from_millis(50);

/// How many times as long as the answer took: with ten thousand nodes it is long.
const REST: u32 = 5;

/// Waits for the goal, and says why not if it is not reached.
pub(super) fn run(arguments: &cli::Status, goal: &Goal) -> ExitCode {
    let shown = arguments.mountpoint.display();
    let deadline = Instant::now() + arguments.timeout;
    loop {
        let asked = Instant::now();
        let missing = match ask(&arguments.mountpoint) {
            // Others may ask too.
            Err(err) if matches!(err.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                "its keeper does not answer".into()
            }
            Err(err) => return no_mount(&arguments.mountpoint, &err),
            Ok((_, status)) => match details(&status).map(|details| goal.progress(&details)) {
                Some(Progress::Reached) => return ExitCode::SUCCESS,
                Some(Progress::NoNode(name)) => {
                    eprintln!("livedata-fuse: {shown}: no node is called {name:?}");
                    return ExitCode::from(NOT_A_MOUNT);
                }
                Some(Progress::Missing(words)) => words,
                None => "the server does not answer".into(),
            },
        };
        let now = Instant::now();
        if now >= deadline {
            let time = arguments.timeout;
            eprintln!("livedata-fuse: {shown}: after {time:?} {missing}");
            return ExitCode::FAILURE;
        }
        let pause = PAUSE.max((now - asked) * REST);
        thread::sleep(pause.min(deadline - now));
    }
}
