//! The journal on disk, for the next mount: written by a thread of its own, so that a disk which
//! hangs holds up no command.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

const NAME: &str = "hooks";
const NEW: &str = "hooks.new";

/// How long the disk is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread.
pub(super) struct Disk {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Append(Vec<u8>),
    Rewrite(Vec<u8>),
}

impl Disk {
    /// Begins to keep a journal in the directory, and reads what is kept there.
    pub(super) fn open(directory: &Path) -> (Option<Self>, Vec<u8>) {
        let text = read(&directory.join(NAME)).unwrap_or_else(|err| {
            log::warn!("what was kept of hooks is not used: {err}");
            Vec::new()
        });
        let (orders, received) = mpsc::channel();
        let directory = directory.to_owned();
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || write(&directory, &received));
        match thread {
            Ok(thread) => (Some(Self { orders, thread }), text),
            Err(err) => {
                log::error!("cannot start a thread, so nothing is kept of hooks on disk: {err}");
                (None, text)
            }
        }
    }

    pub(super) fn append(&self, text: Vec<u8>) {
        // A thread that has ended has said why.
        let _ = self.orders.send(Order::Append(text));
    }

    pub(super) fn rewrite(&self, text: Vec<u8>) {
        let _ = self.orders.send(Order::Rewrite(text));
    }

    /// Writes what is left, if the disk answers.
    pub(super) fn finish(self) {
        drop(self.orders);
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The content of a file that is ours alone; nothing where there is none.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let found = file.metadata()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_ours || found.mode() & 0o077 != 0 {
        let what = format!("{} is not ours alone", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn write(directory: &Path, orders: &Receiver<Order>) {
    let mut file: io::Result<File> = Err(io::ErrorKind::NotFound.into());
    let mut fails = false;
    while let Ok(order) = orders.recv() {
        let written = match (order, &mut file) {
            (Order::Rewrite(text), file) => {
                *file = rewrite(directory, &text);
                file.as_ref().map(drop).map_err(|err| err.to_string())
            }
            (Order::Append(text), Ok(file)) => file.write_all(&text).map_err(|err| err.to_string()),
            // What comes after a hole would be worse than nothing.
            (Order::Append(_), Err(_)) => continue,
        };
        if let Err(err) = written {
            file = Err(io::ErrorKind::Other.into());
            if !fails {
                log::warn!("what hooks have run for is not kept on disk: {err}");
            }
            fails = true;
        } else {
            fails = false;
        }
    }
}

fn rewrite(directory: &Path, text: &[u8]) -> io::Result<File> {
    let new: PathBuf = directory.join(NEW);
    match std::fs::remove_file(&new) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text)?;
    file.sync_data()?;
    std::fs::rename(&new, directory.join(NAME))?;
    Ok(file)
}
