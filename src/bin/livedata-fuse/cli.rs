//! The command line, also as mount(8) spells it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

/// Live configuration as files: ZooKeeper znodes on a read-only mount.
#[derive(Debug, Parser)]
#[command(name = "livedata-fuse", version, max_term_width = 100, long_about = ABOUT)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount, and go to the background once every file is there.
    #[command(long_about = MOUNT)]
    Mount(Mount),
    /// Unmount.
    #[command(long_about = UMOUNT)]
    Umount(Umount),
    /// Parse a configuration and print what it means; contacts nobody.
    #[command(long_about = CHECK)]
    Check(Check),
    /// Show how a mount is, or wait for it: exit 0 healthy, 1 degraded, 2 not a mount.
    #[command(long_about = STATUS)]
    Status(Status),
    /// Answer the kernel (started by mount).
    #[command(name = livedata::processes::SERVER_COMMAND, hide = true)]
    ServeMount,
    /// Make changes appear in a mount (started by mount).
    #[command(name = livedata::processes::PUBLISHER_COMMAND, hide = true)]
    PublishMount,
    /// Run the commands of hooks (started by mount).
    #[command(name = livedata::processes::RUNNER_COMMAND, hide = true)]
    RunHooks,
    /// Make and remove links into a mount (started by mount).
    #[command(name = livedata::links::COMMAND, hide = true)]
    LinkMount {
        mountpoint: PathBuf,
        list: PathBuf,
        /// There is no list yet.
        #[arg(long)]
        begin: bool,
    },
    /// Ask a mount whether it lives (used by mount and umount).
    #[command(name = livedata::mountpoint::PROBE_COMMAND, hide = true)]
    ProbeMount { mountpoint: PathBuf },
}

#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// Stay in the foreground, logging to stderr (for systemd: Type=notify).
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// How long the first load may take, as 15s, 500ms or 1m; after that the mount is ready with
    /// what it has, unless a required node is missing.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) wait: Duration,
    /// Take every warning about the configuration for an error.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Log more; RUST_LOG chooses exactly.
    #[arg(long)]
    pub(crate) debug: bool,
    /// Mount options: allow_other, noexec, fsname=NAME, and what fstab carries along.
    #[arg(short, value_name = "OPTION,...")]
    pub(crate) options: Vec<String>,
    /// Started by another that waits for us, and hears of us through our stdout.
    #[arg(long, hide = true)]
    pub(crate) in_background: bool,
    /// What to start for the server and the publisher, in place of this program.
    #[arg(long, hide = true, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Start processes that died again at once, however often they die. For tests.
    #[arg(long, hide = true)]
    pub(crate) restart_at_once: bool,
    /// Treat the kernel as one that does not repeat requests. For tests.
    #[arg(long, hide = true)]
    pub(crate) without_resend: bool,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// The directory to mount at.
    pub(crate) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Detach it even while files are open; they stay readable until they are closed.
    #[arg(short = 'z', long)]
    pub(crate) lazy: bool,
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print JSON: everything there is.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show all nodes, and not only the first of many.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print nothing and wait until the file of the node shows this version of its znode or a later
    /// one, or, without a version, until it is live: exit 0, or 1 when the time has run out, 2
    /// where there is no mount or no such node.
    #[arg(long, value_name = "NODE[@VERSION]", conflicts_with_all = ["json", "all"])]
    pub(crate) wait_for: Option<String>,
    /// Likewise, until every node is live and current.
    #[arg(long, conflicts_with_all = ["json", "all", "wait_for"])]
    pub(crate) wait_fresh: bool,
    /// How long to wait, as 30s, 500ms or 1m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit 1 if there is anything to warn about.
    #[arg(long)]
    pub(crate) strict: bool,
    /// The configuration file.
    pub(crate) config: PathBuf,
}

// What --help says first: how it looks when it is used. The manual pages say the same, in which a
// line that begins with a space stands by itself.

const ABOUT: &str = "\
Live configuration as files: ZooKeeper znodes on a read-only mount.

  livedata-fuse check live.ini                what it means, and all that is wrong with it
  livedata-fuse mount live.ini /mnt/live      in the background, once every file is there
  livedata-fuse status /mnt/live              how it is, and each file
  livedata-fuse umount /mnt/live

live.ini says where ZooKeeper is, and which znodes are which files:

  [live-data]
  zookeeper.hosts = zk01:2181,zk02:2181,zk03:2181
  nodes.flags.source = /myapp/flags
  nodes.flags.dest = myapp/flags.json

A change in ZooKeeper is in /mnt/live/myapp/flags.json at once. Signals to the process \
`livedata-fuse mount`: SIGHUP reads the configuration again, SIGTERM unmounts, and SIGUSR2 goes on as \
the program that was installed since.

Exit codes: 0 done, 1 failed, 2 wrong usage.";

const MOUNT: &str = "\
Mount, and go to the background once every file is there.

  livedata-fuse mount live.ini /mnt/live
  livedata-fuse mount --wait 1m --strict live.ini /mnt/live
  livedata-fuse mount -f live.ini /mnt/live   in the foreground, logging to stderr
  mount -t fuse.livedata /etc/livedata/live.ini /mnt/live -o noexec

In /etc/fstab:

  /etc/livedata/live.ini /mnt/live fuse.livedata nofail,_netdev 0 0

It is ready once every node was heard of, or --wait has run out: then a warning says what is \
missing, and what comes later appears later. A node with `required = true` that is missing then \
ends it with 1. Without root it mounts through fusermount3.";

const UMOUNT: &str = "\
Unmount.

  livedata-fuse umount /mnt/live
  livedata-fuse umount --lazy /mnt/live       also while files are open

While files are open it exits with 1 and says so. What hangs or is dead is cleared away.";

const CHECK: &str = "\
Parse a configuration and print what it means; contacts nobody.

  livedata-fuse check live.ini
  livedata-fuse check --strict live.ini       exit 1 if there is anything to warn about
  livedata-fuse check --json live.ini | jq '.nodes[].dest'

The drop-ins of its mount.d are read, too. Warnings and errors name file, line and key.";

const STATUS: &str = "\
Show how a mount is, or wait for it: exit 0 healthy, 1 degraded, 2 not a mount.

  livedata-fuse status /mnt/live
  livedata-fuse status --json /mnt/live
  livedata-fuse status --wait-for flags@7 /mnt/live     until it shows version 7 or a later one
  livedata-fuse status --wait-fresh --timeout 1m /mnt/live

The first line says what is wrong, if anything is. It answers when the process that serves files \
does not, and then says so.";

/// Reads the command line of this process; wrong usage ends it with 2.
pub(crate) fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let arguments = from_mount(&arguments).unwrap_or(arguments);
    Cli::try_parse_from(arguments).unwrap_or_else(|err| {
        // `--help` and `--version` are no errors.
        if err.use_stderr() && err.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            eprintln!("livedata-fuse: {}", one_line(&err.to_string()));
            std::process::exit(2);
        }
        err.exit()
    })
}

/// What clap says about wrong usage, without the usage.
fn one_line(said: &str) -> String {
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let mut line = String::new();
    for paragraph in said.split("\n\n").map(str::trim) {
        if !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information") {
            let words: Vec<_> = paragraph.split_whitespace().collect();
            line += &format!("{}; ", words.join(" "));
        }
    }
    line + "see --help"
}

/// mount(8) runs `mount.fuse.livedata SOURCE DIR [-sfnv] [-o OPTIONS]`, and its helper mount.fuse3
/// runs `livedata SOURCE DIR -o OPTIONS`; both come here by the name they were called by.
fn from_mount(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (name, rest) = arguments.split_first()?;
    let name = Path::new(name).file_name()?;
    if !["livedata", "mount.livedata", "mount.fuse.livedata"]
        .map(OsStr::new)
        .contains(&name)
    {
        return None;
    }
    let mut ours: Vec<OsString> = vec![name.into(), "mount".into()];
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            // Sloppy, no mtab, verbose: nothing to do about them.
            Some("-s" | "-n" | "-v" | "-sn" | "-nv") => {}
            Some("-t" | "-N") => drop(rest.next()),
            Some(_) | None => ours.push(argument.clone()),
        }
    }
    Some(ours)
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("`{text}` is no time; write 15s, 500ms or 1m, for example");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => number
            .checked_mul(60)
            .map(Duration::from_secs)
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn as_mount_calls_it() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(from_mount(&words("/usr/bin/livedata-fuse mount a b")), None);
        assert_eq!(
            from_mount(&words(
                "/sbin/mount.fuse.livedata a.ini /mnt -n -o rw,nofail -t x"
            )),
            Some(words("mount.fuse.livedata mount a.ini /mnt -o rw,nofail")),
        );
    }

    #[test]
    fn times() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("fast").is_err());
        assert!(duration("1 h").is_err());
        assert!(duration("").is_err());
    }
}
