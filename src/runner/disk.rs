//! The journal on disk, for the next mount: read and written by a thread of its own, so that a disk
//! which hangs holds up no command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, Mode, OFlags};

const NAME: &str = "hooks";
const NEW: &str = "hooks.new";

/// How long the disk is waited for at the start.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// How long it is waited for at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// How soon the journal is written anew after the disk has failed.
const AGAIN: Duration = Duration::from_secs(10);

/// What may wait for the disk, in bytes; beyond that the journal is written anew, some time.
const MOST_WAITING: usize = 4 << 20;

/// The thread.
pub(super) struct Disk {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    /// Something to do, or something done.
    more: Condvar,
}

#[derive(Default)]
struct Orders {
    /// What was kept at the start, once it is read.
    text: Option<Vec<u8>>,
    /// The whole journal is to be this.
    rewrite: Option<Vec<u8>>,
    /// This is to come behind it.
    append: Vec<u8>,
    /// It has not all that it should, since then.
    is_behind: Option<Instant>,
    is_over: bool,
}

impl Disk {
    /// Begins to keep a journal in the directory, which is ours alone.
    pub(super) fn open(directory: OwnedFd) -> Option<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || of_thread.work(&directory));
        match thread {
            Ok(thread) => Some(Self { shared, thread }),
            Err(err) => {
                log::error!("cannot start a thread, so nothing is kept of hooks on disk: {err}");
                None
            }
        }
    }

    /// What was kept there before.
    pub(super) fn wait_for_text(&self) -> Vec<u8> {
        let deadline = Instant::now() + FIRST_PATIENCE;
        let mut orders = self.shared.orders.lock();
        loop {
            if let Some(text) = orders.text.take() {
                return text;
            }
            let waited = self.shared.more.wait_until(&mut orders, deadline);
            if waited.timed_out() {
                log::warn!("the disk does not answer: hooks begin without what was kept of them");
                return Vec::new();
            }
        }
    }

    pub(super) fn append(&self, text: &[u8]) {
        let mut orders = self.shared.orders.lock();
        match orders.append.len() + text.len() <= MOST_WAITING && orders.is_behind.is_none() {
            true => orders.append.extend(text),
            // What comes after a hole would be worse than nothing.
            false => orders.fall_behind(),
        }
        self.shared.more.notify_all();
    }

    pub(super) fn rewrite(&self, text: Vec<u8>) {
        let mut orders = self.shared.orders.lock();
        orders.rewrite = Some(text);
        orders.append.clear();
        orders.is_behind = None;
        self.shared.more.notify_all();
    }

    /// The journal is to be written anew: it has a hole, and the disk had time to recover.
    pub(super) fn is_behind(&self) -> bool {
        let since = self.shared.orders.lock().is_behind;
        since.is_some_and(|since| since.elapsed() >= AGAIN)
    }

    /// Something is missing in it.
    pub(super) fn has_hole(&self) -> bool {
        self.shared.orders.lock().is_behind.is_some()
    }

    /// Writes what is left, if the disk answers.
    pub(super) fn finish(self) {
        self.shared.orders.lock().is_over = true;
        self.shared.more.notify_all();
        let deadline = Instant::now() + LAST_PATIENCE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Orders {
    fn fall_behind(&mut self) {
        self.append = Vec::new();
        self.is_behind.get_or_insert_with(Instant::now);
    }
}

impl Shared {
    fn work(&self, directory: &OwnedFd) {
        let text = read(directory).unwrap_or_else(|err| {
            log::warn!("what was kept of hooks is not used: {err}");
            Vec::new()
        });
        self.orders.lock().text = Some(text);
        self.more.notify_all();
        let mut file = None;
        let mut has_failed = false;
        loop {
            let (rewrite, append) = {
                let mut orders = self.orders.lock();
                while orders.rewrite.is_none() && orders.append.is_empty() {
                    if orders.is_over {
                        return;
                    }
                    self.more.wait(&mut orders);
                }
                (orders.rewrite.take(), std::mem::take(&mut orders.append))
            };
            let written = (|| {
                if let Some(text) = rewrite {
                    file = None;
                    file = Some(self::rewrite(directory, &text)?);
                }
                match &mut file {
                    Some(file) => file.write_all(&append),
                    None => Err(io::ErrorKind::NotFound.into()),
                }
            })();
            if let Err(err) = &written {
                file = None;
                self.orders.lock().fall_behind();
                if !has_failed {
                    log::warn!("what hooks have run for is not kept on disk: {err}");
                }
            }
            has_failed = written.is_err();
        }
    }
}

/// The content of a file that is ours alone; nothing where there is none.
fn read(directory: &OwnedFd) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(directory, NAME, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        file => File::from(file?),
    };
    let found = file.metadata()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_ours || found.mode() & 0o077 != 0 {
        let what = format!("{NAME} is not ours alone");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn rewrite(directory: &OwnedFd, text: &[u8]) -> io::Result<File> {
    match rustix::fs::unlinkat(directory, NEW, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(err) => return Err(err.into()),
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = File::from(rustix::fs::openat(directory, NEW, flags, mode)?);
    file.write_all(text)?;
    file.sync_data()?;
    rustix::fs::renameat(directory, NEW, directory, NAME)?;
    Ok(file)
}
