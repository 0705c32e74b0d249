//! The command line of `livedata-writer`.

use std::path::PathBuf;

use clap::Parser;

/// Shows the difference between a file and a znode, and sets the znode.
#[derive(Debug, Parser)]
#[command(
    name = "livedata-writer",
    version,
    max_term_width = 100,
    long_about = ABOUT,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Arguments {
    /// Show the difference and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Log what happens in detail
    #[arg(long)]
    pub(crate) debug: bool,
    /// The configuration, which says where ZooKeeper is; - is standard input
    pub(crate) config: PathBuf,
    /// The file that the znode shall hold; - is standard input
    pub(crate) source: PathBuf,
    /// The znode
    pub(crate) dest: String,
}

// What --help and the manual page say first.
const ABOUT: &str = "\
Shows the difference between a file and a znode, and sets the znode.

  livedata-writer live.ini flags.json /myapp/flags
  livedata-writer --dry-run live.ini flags.json /myapp/flags
  generate-flags | livedata-writer live.ini - /myapp/flags

The difference goes to standard output, in a form that patch(1) takes. The znode is set only if \
nobody else has changed it since it was read. It must exist: create it with its ACL first. Where \
nothing differs, nothing is written.";
