//! inotify as the kernel tells it.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::support::shown::SOON;

/// All events but those of looking: whoever reads makes them, on any file system, and both the
/// tests and the publisher look.
pub const CHANGES: WatchFlags = WatchFlags::ALL_EVENTS
    .difference(WatchFlags::OPEN)
    .difference(WatchFlags::ACCESS)
    .difference(WatchFlags::CLOSE_NOWRITE);

/// What was told: the mask and the name, to the bit and the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which of the watches, in the order they were added.
    pub watch: usize,
    pub mask: ReadFlags,
    pub name: String,
}

impl Event {
    pub fn new(watch: usize, mask: ReadFlags, name: &str) -> Self {
        let name = name.into();
        Self { watch, mask, name }
    }
}

/// Watches.
pub struct Watcher {
    inotify: OwnedFd,
    watches: Vec<i32>,
}

impl Watcher {
    /// Watches all changes of these files and directories.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut watcher = Self {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap(),
            watches: Vec::new(),
        };
        for path in paths {
            watcher.add(path.as_ref(), CHANGES);
        }
        watcher
    }

    pub fn add(&mut self, path: &Path, flags: WatchFlags) {
        let watch = inotify::add_watch(&self.inotify, path, flags).unwrap();
        self.watches.push(watch);
    }

    /// What was told since the last call, and nothing that comes later.
    pub fn now(&self) -> Vec<Event> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
                    let watch = |known: &i32| *known == event.wd();
                    events.push(Event {
                        watch: self.watches.iter().rposition(watch).unwrap(),
                        mask: event.events(),
                        name: event
                            .file_name()
                            .map_or("", |name| name.to_str().unwrap())
                            .into(),
                    });
                }
                Err(Errno::AGAIN) => return events,
                Err(err) => panic!("inotify: {err}"),
            }
        }
    }

    /// What is told until `is_last` says so of an event, or of several.
    #[track_caller]
    pub fn until(&self, is_last: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let start = Instant::now();
        let mut events = self.now();
        while !is_last(&events) {
            let left = SOON.checked_sub(start.elapsed());
            assert!(left.is_some_and(|left| self.ready(left)), "only {events:?}");
            events.extend(self.now());
        }
        events
    }

    /// Waits for that many events.
    #[track_caller]
    pub fn take(&self, n: usize) -> Vec<Event> {
        self.until(|events| events.len() >= n)
    }

    /// Waits for an event of this name.
    #[track_caller]
    pub fn until_name(&self, name: &str) -> Vec<Event> {
        self.until(|events| events.iter().any(|event| event.name == name))
    }

    fn ready(&self, patience: Duration) -> bool {
        let mut waits = [PollFd::new(&self.inotify, PollFlags::IN)];
        let patience = Timespec::try_from(patience).unwrap();
        poll(&mut waits, Some(&patience)).unwrap() == 1
    }
}
