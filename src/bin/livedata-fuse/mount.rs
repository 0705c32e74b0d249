//! `livedata-fuse mount`: in the foreground, or started from here for the background.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use livedata::config::Config;
use livedata::keeper::{self, Abandoned, Job, Logs, Report};
use livedata::logging::{self, Logging};
use livedata::mountpoint::{self, Options};
use log::LevelFilter;

use crate::background::{self, Reporter};
use crate::cli::Mount;
use crate::progress::ProgressLine;

/// How long drop-ins are waited for that are on a file system which does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(mut arguments: Mount) -> anyhow::Result<ExitCode> {
    let started_in = std::env::current_dir().unwrap_or_else(|_| "/".into());
    if arguments.in_background {
        background::close_inherited();
        // Our directory will be another.
        arguments.config = started_in.join(arguments.config);
        arguments.mountpoint = started_in.join(arguments.mountpoint);
    }
    let logging = logging::start(LevelFilter::Info);
    let mut options = Options::default();
    for list in &arguments.options {
        options.add(list)?;
    }
    if !arguments.foreground && !arguments.in_background {
        refuse_descriptor(&arguments.config)?;
        refuse_problems(&arguments)?;
        return background::start();
    }
    let debug = arguments.debug;
    // On somebody's terminal only what matters, until it is left.
    logging.set_level(match (debug, arguments.in_background) {
        (true, _) => LevelFilter::Debug,
        (false, true) => LevelFilter::Warn,
        (false, false) => LevelFilter::Info,
    });
    let mut audience = if arguments.in_background {
        Audience::Starter(Some(Reporter::new()?))
    } else {
        Audience::Terminal(ProgressLine::default())
    };
    let config = std::path::absolute(&arguments.config)?;
    refuse_hidden(&config, &std::path::absolute(&arguments.mountpoint)?)?;
    let mountpoint = mountpoint::prepare(&arguments.mountpoint)?;
    let real = config.canonicalize().unwrap_or_else(|_| config.clone());
    refuse_hidden(&real, &mountpoint)?;
    let job = Job {
        config,
        mountpoint,
        options,
        wait: arguments.wait,
        started_in,
        strict: arguments.strict,
        debug,
        background: arguments.in_background,
        binary: arguments.binary,
        restart_at_once: arguments.restart_at_once,
        without_resend: arguments.without_resend,
    };
    let ended = keeper::run(job, |report| match report {
        Report::Loading { so_far } => audience.loading(so_far),
        Report::Ready {
            mountpoint,
            shown,
            logs,
        } => {
            let line = format!("{}: {shown}, ready", mountpoint.display());
            let told = audience.ready(&line, &logging, logs.file.as_deref());
            logging.set_level(level(logs, debug));
            told
        }
        Report::Reloaded(logs) => {
            logging.set_level(level(logs, debug));
            logging.reopen(logs.file.as_deref());
            Ok(())
        }
    });
    match ended {
        // Whoever stops it knows.
        Ok(()) | Err(keeper::Error::Stopped) => Ok(ExitCode::SUCCESS),
        Err(err) => Err(err.into()),
    }
}

/// Who is told how it goes.
enum Audience {
    /// The process that started this one and waits; none once it has been told.
    Starter(Option<Reporter>),
    Terminal(ProgressLine),
}

impl Audience {
    fn loading(&mut self, so_far: &str) -> Result<(), Abandoned> {
        match self {
            Audience::Starter(reporter) => reporter
                .as_ref()
                .map_or(Ok(()), |reporter| reporter.loading(so_far)),
            Audience::Terminal(line) => {
                line.show(so_far);
                Ok(())
            }
        }
    }

    fn ready(
        &mut self,
        text: &str,
        logging: &Logging,
        log_file: Option<&std::path::Path>,
    ) -> Result<(), Abandoned> {
        match self {
            Audience::Starter(reporter) => {
                if let Some(reporter) = reporter.take() {
                    if let Err(err) = logging.leave_stderr(log_file) {
                        log::warn!("nothing will be logged: {err}; set log.file, for example");
                    }
                    reporter.ready(text)?;
                }
                Ok(())
            }
            Audience::Terminal(line) => {
                line.clear();
                // A closed stdout takes nothing from the mount.
                let _ = writeln!(io::stdout(), "{text}");
                Ok(())
            }
        }
    }
}

fn level(logs: &Logs, debug: bool) -> LevelFilter {
    if debug {
        LevelFilter::Debug
    } else {
        logs.level.parse().unwrap_or(LevelFilter::Info)
    }
}

/// Who serves a mount must never wait for it.
fn refuse_hidden(config: &Path, mountpoint: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !config.starts_with(mountpoint),
        "{}: the configuration would be hidden by the mount; keep it elsewhere",
        config.display()
    );
    Ok(())
}

/// What goes to the background has nothing open that it was given, and reads the configuration again.
fn refuse_descriptor(config: &Path) -> anyhow::Result<()> {
    let descriptors = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];
    anyhow::ensure!(
        !descriptors.iter().any(|it| config.starts_with(it)),
        "{}: in the background the configuration is read again, so it must be a file; or stay in the \
         foreground (-f)",
        config.display()
    );
    Ok(())
}

/// Says what is wrong with the configuration while there is a terminal; with --strict that is the
/// end. In the foreground the server says it.
fn refuse_problems(arguments: &Mount) -> anyhow::Result<()> {
    let (file, mountpoint) = (arguments.config.clone(), arguments.mountpoint.clone());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || drop(tell.send(Config::load_all(&file, Some(&mountpoint)))));
    let Ok(config) = told.recv_timeout(PATIENCE) else {
        // The server tries again, and says what it finds.
        log::warn!("the drop-ins are not read within {PATIENCE:?}; going on");
        return Ok(());
    };
    let config = config?;
    for problem in &config.problems {
        log::warn!("{problem}");
    }
    match config.problems.len() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        1 => Err(anyhow::anyhow!("--strict: the configuration has a problem"))
            .context("nothing is mounted"),
        n => Err(anyhow::anyhow!(
            "--strict: the configuration has {n} problems"
        ))
        .context("nothing is mounted"),
    }
}
