//! Where the log goes: stderr at first; in the background the system log or a file.
//!
//! What is logged goes through `log` and env_logger; this decides on the form of a line and on its
//! way out. RUST_LOG, where set, decides what is logged; else the configuration does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};
use parking_lot::Mutex;

/// The socket of the system log.
const SYSTEM_LOG: &str = "/dev/log";

/// syslog's facility for daemons, shifted to its place in a priority.
const DAEMON: u8 = 3 << 3;

/// The log of this process.
#[derive(Clone)]
pub struct Logging(Arc<Mutex<Way>>);

/// The way out.
enum Way {
    Stderr,
    /// stderr is the journal: each line begins with its priority, as `<4>`.
    Journal,
    System(UnixDatagram),
    File(File),
}

/// Starts logging to stderr. `level` counts unless RUST_LOG is set.
pub fn start(level: LevelFilter) -> Logging {
    let way = if stderr_is_journal() {
        Way::Journal
    } else {
        Way::Stderr
    };
    let logging = Logging(Arc::new(Mutex::new(way)));
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        // Everything passes here, so that the level can change while running.
        Err(_) => builder.filter_level(LevelFilter::Trace),
    };
    let of_lines = logging.clone();
    builder
        .format(move |line, record| of_lines.format(line, record))
        .target(env_logger::Target::Pipe(Box::new(logging.clone())));
    // A second start, as tests do, keeps the first.
    let _ = builder.try_init();
    logging.set_level(level);
    logging
}

impl Logging {
    /// Logs what is at least this important from now on, unless RUST_LOG says what to log.
    pub fn set_level(&self, level: LevelFilter) {
        if std::env::var_os("RUST_LOG").is_none() {
            log::set_max_level(level);
        }
    }

    /// stderr goes away: logs to `file`, or to the system log without one.
    pub fn leave_stderr(&self, file: Option<&Path>) -> io::Result<()> {
        let way = match file {
            Some(path) => Way::File(open(path)?),
            None => Way::System(system_log()?),
        };
        *self.0.lock() = way;
        Ok(())
    }

    /// Opens the file anew, which has been rotated away perhaps, or moves to another.
    pub fn reopen(&self, file: Option<&Path>) {
        let moves = match (&*self.0.lock(), file) {
            (Way::Stderr | Way::Journal, _) | (Way::System(_), None) => false,
            (Way::System(_) | Way::File(..), _) => true,
        };
        if moves && let Err(err) = self.leave_stderr(file) {
            log::error!("the log stays where it is: {err}");
        }
    }

    fn format(&self, line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
        let message = record.args();
        match &*self.0.lock() {
            Way::Stderr => {
                let level = record.level().as_str().to_ascii_lowercase();
                writeln!(line, "livedata-fuse: {level}: {message}")
            }
            Way::Journal => writeln!(line, "<{}>{message}", severity(record.level())),
            Way::System(_) => write!(
                line,
                "<{}>livedata-fuse[{}]: {message}",
                DAEMON | severity(record.level()),
                std::process::id(),
            ),
            Way::File(..) => {
                let time = line.timestamp_millis();
                writeln!(line, "{time} {:5} {message}", record.level())
            }
        }
    }
}

/// env_logger hands over one line at a time.
impl Write for Logging {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut way = self.0.lock();
        match &mut *way {
            Way::Stderr | Way::Journal => io::stderr().write_all(line)?,
            Way::File(file) => file.write_all(line)?,
            Way::System(socket) => {
                if socket.send(line).is_err() {
                    // The daemon of the system log was restarted: its socket is another.
                    *socket = system_log()?;
                    socket.send(line)?;
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// systemd says in JOURNAL_STREAM which device and inode the journal's stream has; the variable
/// alone may be inherited by a shell whose stderr is something else.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        // Nothing secret is logged, but what commands print is.
        .mode(0o640)
        .open(path)
        .map_err(|err| {
            io::Error::new(
                err.kind(),
                format!("log.file: cannot open {}: {err}", path.display()),
            )
        })
}

fn system_log() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSTEM_LOG).map_err(|err| {
        io::Error::new(err.kind(), format!("no system log at {SYSTEM_LOG}: {err}"))
    })?;
    // A system log that hangs costs lines, not the mount.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// syslog's numbers.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
