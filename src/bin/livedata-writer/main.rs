//! `livedata-writer`: shows the difference between a file and a znode, and sets the znode.

mod cli;

use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use livedata::config::{Config, Surroundings};
use livedata::path::ZnodePath;
use livedata::service;
use livedata::source::zookeeper::ZooKeeper;
use livedata::writer::diff::{Diff, Style};
use livedata::writer::{self, Job, Output};

use cli::Arguments;

/// Why it ended before the writer had its say.
enum Stop {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2.
    Usage(String),
}

/// Where ZooKeeper is.
struct Service {
    zookeeper: ZooKeeper,
    chroot: Option<ZnodePath>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = if arguments.debug { "debug" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    let (line, code) = match write(&arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Stop::Failed(line)) => (line, 1),
        Err(Stop::Usage(line)) => (line, 2),
    };
    say(&one_line(&line));
    ExitCode::from(code)
}

fn write(arguments: &Arguments) -> Result<(), Stop> {
    let (config, source) = (&arguments.config, &arguments.source);
    if is_stdin(config) && is_stdin(source) {
        return Err(Stop::Usage(
            "CONFIG and SOURCE cannot both be standard input".into(),
        ));
    }
    let dest =
        ZnodePath::parse(&arguments.dest).map_err(|err| Stop::Usage(format!("DEST: {err}")))?;
    let config = (name(config), input("CONFIG", config)?);
    let (source_name, content) = (name(source), input("SOURCE", source)?);
    let Service { zookeeper, chroot } = service(Path::new(&config.0), &config.1)?;
    let job = Job {
        source_name,
        content: content.into(),
        dest,
        chroot,
        dry_run: arguments.dry_run,
        connect_timeout: writer::CONNECT_TIMEOUT,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Stop::Failed(format!("cannot start: {err}")))?;
    let result = runtime.block_on(writer::run(&zookeeper, &job, &mut Console));
    // A name that is still being resolved must not keep us.
    runtime.shutdown_background();
    result.map(|_| ()).map_err(Stop::failed)
}

/// What the configuration says of ZooKeeper. What it says of nodes is nothing to us, right or wrong.
fn service(file: &Path, text: &[u8]) -> Result<Service, Stop> {
    let config = Config::parse(file, text, &Surroundings::here(None))
        .map_err(|err| Stop::failed(with_causes(&err)))?;
    let chroot = config.zookeeper.chroot.clone();
    Ok(Service {
        zookeeper: service::zookeeper(&config),
        chroot,
    })
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What messages call a file.
fn name(path: &Path) -> String {
    match is_stdin(path) {
        true => "<stdin>".into(),
        false => path.display().to_string(),
    }
}

/// The content of a file, which is opened once: it may be a pipe.
fn input(what: &str, path: &Path) -> Result<Vec<u8>, Stop> {
    let content = if is_stdin(path) {
        let mut content = Vec::new();
        io::stdin().read_to_end(&mut content).map(|_| content)
    } else {
        std::fs::read(path)
    };
    content.map_err(|err| Stop::Usage(format!("{what} {}: {}", name(path), words(&err))))
}

/// An error and what caused it, on one line.
fn with_causes(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(err.source(), |err| err.source());
    causes.fold(err.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Standard output for the difference, standard error for the rest.
struct Console;

impl Output for Console {
    fn diff(&mut self, diff: &Diff<'_>) -> io::Result<()> {
        let stdout = io::stdout();
        let style = if stdout.is_terminal() {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            Style::Terminal {
                colour: !no_colour && !dumb,
            }
        } else {
            Style::Plain
        };
        let mut out = io::BufWriter::new(stdout.lock());
        diff.write(&mut out, style)?;
        out.flush()
    }

    fn say(&mut self, line: &str) {
        say(line);
    }
}

impl Stop {
    fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

/// Standard error may be closed; that is no reason to stop (`eprintln!` would panic).
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Reasons from below may have several.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// An I/O error without the number.
fn words(err: &io::Error) -> String {
    let text = err.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].into(),
        None => text,
    }
}
