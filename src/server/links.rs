//! The links into the mount: wanted here, made by a process of their own.
//!
//! The server holds `/dev/fuse`, and so touches none of the file systems that links stand on: one
//! might hang, or lead into the mount. A thread starts the process for each new set of links, and
//! waits for it; that may take for ever, and nobody waits for the thread.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{MAX_NAMED, Server};
use crate::config::Config;
use crate::keeper;
use crate::links::{self, Lists, Report};
use crate::path::FilePath;
use crate::processes::Start;
use crate::status::Links;

/// How long the first links are waited for before the mount is shown.
const FIRST: Duration = Duration::from_secs(2);

/// How long making links may take before it is a complaint.
const SLOW: Duration = Duration::from_secs(5);

/// What is wanted goes in here; none where there are to be no links.
pub(super) struct Linking {
    wanted: Option<Sender<Option<Vec<FilePath>>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

struct State {
    n_wanted: usize,
    /// How many sets were wanted and not seen to yet, and since when.
    n_waiting: usize,
    since: Option<Instant>,
    /// How the last one went.
    last: Result<Report, String>,
}

impl Linking {
    /// Whether there are links is decided when the mount is made: afterwards there is a list of
    /// them, even of none.
    pub(super) fn start(start: &Start, config: &Config) -> Self {
        let shared = Arc::new(Shared::default());
        let list = keeper::list_of_links(&start.mountpoint);
        let there_were = list.as_ref().is_ok_and(|list| list.exists());
        let goes_on = start.takes_over || start.anew;
        let there_are = if goes_on {
            there_were
        } else {
            config.mount.links
        };
        let wanted = match list {
            Ok(list) if there_are || there_were => {
                let (wanted, sets) = mpsc::channel();
                let lists = if there_were {
                    Lists::GoesOn
                } else {
                    Lists::Begins
                };
                let (its, mountpoint) = (Arc::clone(&shared), start.mountpoint.clone());
                let thread = std::thread::Builder::new().name("links".into());
                match thread.spawn(move || run(&sets, &its, &mountpoint, (&list, lists))) {
                    Ok(_) => Some(wanted),
                    Err(err) => {
                        shared.state.lock().last = Err(err.to_string());
                        None
                    }
                }
            }
            Ok(_) => None,
            Err(err) => {
                if there_are {
                    let why = format!("no links are made, for nobody could remember them: {err}");
                    log::warn!("{why}");
                    shared.state.lock().last = Err(why);
                }
                None
            }
        };
        let linking = Self { wanted, shared };
        if !there_are {
            // Those of a mount whose processes were all killed.
            linking.want(None);
            return Self {
                wanted: None,
                ..linking
            };
        }
        linking
    }

    /// What is configured is to have its links, and no more.
    pub(super) fn keep(&self, config: &Config) {
        let nodes = config
            .nodes
            .iter()
            .map(|node| (node.is_outside, &node.dest));
        let trees = config
            .trees
            .iter()
            .map(|tree| (tree.is_outside, &tree.dest));
        let outside = nodes.chain(trees).filter(|(is_outside, _)| *is_outside);
        self.want(Some(outside.map(|(_, dest)| dest.clone()).collect()));
    }

    /// [`Linking::keep`], waited for a little.
    pub(super) fn keep_first(&self, config: &Config) {
        self.keep(config);
        let deadline = Instant::now() + FIRST;
        let mut state = self.shared.state.lock();
        while state.n_waiting > 0 {
            let waited = self.shared.done.wait_until(&mut state, deadline);
            if waited.timed_out() {
                return log::warn!("links are still being made: a file system is slow, or hangs");
            }
        }
    }

    fn want(&self, links: Option<Vec<FilePath>>) {
        let Some(wanted) = &self.wanted else {
            return;
        };
        let mut state = self.shared.state.lock();
        state.n_wanted = links.as_ref().map_or(0, Vec::len);
        state.n_waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        if wanted.send(links).is_err() {
            log::error!("nobody makes links");
        }
    }

    /// For the status: how many are wanted and there, and what is wrong.
    pub(super) fn status(&self) -> Links {
        let error = self.complaint();
        let state = self.shared.state.lock();
        let report = state.last.as_ref().ok();
        Links {
            wanted: state.n_wanted as u64,
            there: report.map(|report| report.n_there as u64),
            problems: state.problems(),
            error,
        }
    }

    /// What is not as it should be, in words.
    fn complaint(&self) -> Option<String> {
        let state = self.shared.state.lock();
        if state.since.is_some_and(|since| since.elapsed() > SLOW) {
            return Some("links are still being made: a file system is slow, or hangs".into());
        }
        let problems = state.problems();
        let first = problems.first()?;
        Some(match problems.len() {
            1 => format!("a link is not as it should be: {first}"),
            n => format!("{n} links are not as they should be, first {first}"),
        })
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            n_wanted: 0,
            n_waiting: 0,
            since: None,
            last: Ok(Report::default()),
        }
    }
}

impl State {
    fn problems(&self) -> Vec<String> {
        match &self.last {
            Ok(report) => {
                let problems = report.problems.iter().take(MAX_NAMED);
                problems.map(words).collect()
            }
            Err(why) => vec![why.clone()],
        }
    }
}

impl Server {
    /// The links of the configuration as it is now.
    pub(super) fn keep_links(&self) {
        self.linking.keep(&self.config);
    }
}

fn run(
    sets: &Receiver<Option<Vec<FilePath>>>,
    shared: &Shared,
    mountpoint: &Path,
    (list, lists): (&Path, Lists),
) {
    let mut told = Vec::new();
    let mut lists = lists;
    while let Ok(mut wanted) = sets.recv() {
        let mut n_taken = 1;
        // The last one counts.
        while let Ok(newer) = sets.try_recv() {
            wanted = newer;
            n_taken += 1;
        }
        let report = link(mountpoint, (list, lists), wanted.as_deref());
        lists = Lists::GoesOn;
        let report = report.map_err(|err| format!("links cannot be made: {err}"));
        let problems: Vec<String> = match &report {
            Ok(report) => report.problems.iter().map(words).collect(),
            Err(why) => vec![why.clone()],
        };
        for problem in problems.iter().filter(|problem| !told.contains(*problem)) {
            log::warn!("{problem}");
        }
        told = problems;
        let mut state = shared.state.lock();
        state.last = report;
        state.n_waiting -= n_taken;
        state.since = (state.n_waiting > 0).then(Instant::now);
        shared.done.notify_all();
    }
}

/// Has the links made, and waits for that.
fn link(
    mountpoint: &Path,
    (list, lists): (&Path, Lists),
    wanted: Option<&[FilePath]>,
) -> io::Result<Report> {
    // This program, whatever stands in its place by now.
    let mut process = links::command(Path::new("/proc/self/exe"), mountpoint, (list, lists))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let (Some(mut stdin), Some(wanted)) = (process.stdin.take(), wanted) {
        stdin.write_all(&links::ask(wanted))?;
    }
    let output = process.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn words((path, why): &(PathBuf, String)) -> String {
    format!("{}: {why}", path.display())
}
