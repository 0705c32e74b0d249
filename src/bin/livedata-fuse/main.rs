//! `livedata-fuse`: mounts, unmounts, shows how a mount is, checks a configuration.

mod background;
mod cli;
mod mount;
mod progress;
mod status;

use std::process::ExitCode;

use livedata::config::{Config, Severity, check};
use livedata::{links, mountpoint};

use cli::{Check, Cli, Command, Umount};

fn main() -> ExitCode {
    match run(cli::parse()) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("livedata-fuse: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Mount(arguments) => mount::run(arguments),
        Command::Umount(Umount { lazy, mountpoint }) => {
            mountpoint::unmount(&mountpoint, lazy)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(arguments) => run_check(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::ServeMount => Ok(livedata::server::main()),
        Command::PublishMount => Ok(livedata::publisher::main()),
        Command::RunHooks => Ok(livedata::runner::main()),
        Command::LinkMount {
            mountpoint,
            list,
            begin,
        } => {
            let lists = match begin {
                true => links::Lists::Begins,
                false => links::Lists::GoesOn,
            };
            Ok(links::main(&mountpoint, (&list, lists)))
        }
        Command::ProbeMount { mountpoint } => Ok(match mountpoint::probe_here(&mountpoint) {
            mountpoint::Health::Alive => ExitCode::SUCCESS,
            mountpoint::Health::Dead | mountpoint::Health::Hung => ExitCode::FAILURE,
        }),
    }
}

fn run_check(arguments: &Check) -> anyhow::Result<ExitCode> {
    let config = Config::load_all(&arguments.config, None)?;
    let text = match arguments.json {
        true => format!("{:#}\n", check::json(&config)),
        false => check::table(&config),
    };
    print(&text)?;
    let worst = config.problems.iter().map(|problem| problem.severity).max();
    Ok(match worst {
        Some(Severity::Error | Severity::Warning) if arguments.strict => ExitCode::FAILURE,
        Some(Severity::Error | Severity::Warning) | None => ExitCode::SUCCESS,
    })
}

/// Prints to stdout; that nobody reads it to the end is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
