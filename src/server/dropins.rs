//! Follows the directory of drop-ins while the mount runs.
//!
//! inotify says when to look, and which files their writers have closed; what a look finds is what
//! counts. Each file is taken once it has settled: see [`Following::patience`]. A look every some
//! seconds finds what nobody tells of, such as a change behind a symbolic link or on a network file
//! system; where nothing changed it costs a stat for each file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::epoll;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::dropin_dir::{self, Stamp};
use crate::config::dropins::Dropins;
use crate::config::{Config, Surroundings};

/// How long a file that its writer has closed must stay as it is, or one that is gone must stay away.
/// Many a program writes or renames in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// The same for a new file of which nobody has told that it is complete.
const SETTLE_NEW: Duration = Duration::from_secs(1);

/// The same for another content of a file that defines something: it may be half of what is meant,
/// by a writer who is slow. Only before our time or out of our sight is it complete without a word.
const SETTLE_UNTOLD: Duration = Duration::from_secs(10);

/// What happens to files. Modified is listened for because such a file is not complete.
const IN_DIR: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// What happens to the directory itself.
const BESIDE_DIR: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);

/// The configuration in use, for a successor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The text of the main file.
    pub(super) main: String,
    /// Where the drop-ins are, and the text that each was last taken with; none for a version that
    /// knew of none.
    dropins: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl Kept {
    /// What keeps the main file alone is its text.
    pub(super) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            main: String::from_utf8_lossy(bytes).into_owned(),
            dropins: None,
        })
    }

    pub(super) fn new(main: &[u8], following: &Following) -> Self {
        let dropins = &following.dropins;
        Self {
            main: String::from_utf8_lossy(main).into_owned(),
            dropins: Some((dropins.dir().to_owned(), dropins.texts())),
        }
    }
}

/// The drop-ins, and how far each is known.
pub(super) struct Following {
    dropins: Dropins,
    mountpoint: PathBuf,
    ears: Option<Ears>,
    /// Whether the last event of a file says that it is complete; since the last look.
    heard: HashMap<String, bool>,
    /// All files may be others at once, each complete: a directory or a link to one was exchanged.
    all_complete: bool,
    seen: BTreeMap<String, Seen>,
    /// Whether nothing was ever taken: what is there at a first start is taken as it is.
    first: bool,
    due: Option<Instant>,
}

/// What inotify is asked.
struct Ears {
    inotify: Arc<OwnedFd>,
    /// The watches of the directory and of the one it is in.
    dir: Option<i32>,
    beside: Option<i32>,
    /// Somebody was told that there is something to hear.
    told: Arc<AtomicBool>,
}

/// How a file was at the last look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    state: State,
    /// The look at which it was like this first.
    since: Instant,
    /// It was told to be complete like this.
    complete: bool,
    /// How it was when it was last taken or refused.
    taken: Option<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Gone,
    /// There is a name, and nothing behind it that can be looked at.
    Opaque,
    Is(Stamp),
}

impl Following {
    /// Those of the directory as they are now, or as they were `kept` where they are perhaps being
    /// written.
    pub(super) fn start(
        main: &Config,
        kept: Option<&Kept>,
        mountpoint: &Path,
        surroundings: &Surroundings<'_>,
    ) -> Self {
        let kept = kept.and_then(|kept| kept.dropins.as_ref());
        let dir = kept.map_or_else(|| main.dropin_dir(), |(dir, _)| dir.clone());
        let mut following = Self {
            dropins: Dropins::new(dir),
            mountpoint: mountpoint.into(),
            ears: Ears::new(),
            heard: HashMap::new(),
            all_complete: false,
            seen: BTreeMap::new(),
            first: kept.is_none(),
            due: None,
        };
        for (name, text) in kept.into_iter().flat_map(|(_, texts)| texts) {
            let dropins = &mut following.dropins;
            dropins.take(name, text.as_bytes(), &main.defaults, surroundings);
        }
        following.look(main, surroundings, false);
        following.first = false;
        following
    }

    /// Has `tell` called whenever there is something to hear, on a thread of its own.
    pub(super) fn on_events(&self, tell: impl Fn() + Send + 'static) -> io::Result<()> {
        let Some(ears) = &self.ears else {
            return Ok(());
        };
        let (inotify, told) = (Arc::clone(&ears.inotify), Arc::clone(&ears.told));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Each event wakes once: what there is to read is read by somebody else.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &*inotify, epoll::EventData::new_u64(0), flags)?;
        std::thread::Builder::new()
            .name("dropins".into())
            .spawn(move || {
                let _inotify = inotify;
                loop {
                    let mut woken = [MaybeUninit::uninit(); 1];
                    match epoll::wait(&epoll, &mut woken, None) {
                        Ok(_) if !told.swap(true, Ordering::SeqCst) => tell(),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(err) => return log::error!("drop-ins are not watched: {err}"),
                    }
                }
            })?;
        Ok(())
    }

    /// Hears what inotify has to say, and sees to a look soon.
    pub(super) fn hear(&mut self) {
        if self.listen() {
            let soon = Instant::now() + SETTLE;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// When to look again, where that is before long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The main file with the drop-ins as they were at the last look.
    pub(super) fn join(&self, main: &Config) -> Config {
        self.dropins.join(main)
    }

    /// Reads the files that have changed and settled. Whether one was taken, refused or is gone.
    pub(super) fn look(
        &mut self,
        main: &Config,
        surroundings: &Surroundings<'_>,
        now: bool,
    ) -> bool {
        self.listen();
        self.due = None;
        let dir = self.dropins.dir().to_owned();
        if let Some(why) = dropin_dir::hidden(&dir, Some(&self.mountpoint)) {
            return self.dropins.refuse_dir(Some(why));
        }
        if let Some(ears) = &mut self.ears {
            ears.watch(&dir);
        }
        let listed = dropin_dir::list(&dir);
        let mut news = self.dropins.refuse_dir(dropin_dir::why_not(main, &listed));
        let listed = match listed {
            Ok(listed) => listed,
            Err(err) if err.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            // That says nothing of the files.
            Err(_) => return news,
        };
        let names: BTreeSet<String> = (listed.keys())
            .chain(self.seen.keys())
            .cloned()
            .chain(self.dropins.names().map(str::to_owned))
            .collect();
        for name in names {
            let state = match listed.get(&name) {
                None => State::Gone,
                Some(None) => State::Opaque,
                Some(Some(stamp)) => State::Is(*stamp),
            };
            news |= self.look_at(&name, state, now, main, surroundings);
        }
        self.heard.clear();
        self.all_complete = false;
        news
    }

    /// Looks at all of them on behalf of a user who says that they have changed, and perhaps the
    /// main file too.
    pub(super) fn reload(&mut self, main: &Config, surroundings: &Surroundings<'_>) {
        self.dropins.set_defaults(&main.defaults, surroundings);
        for seen in self.seen.values_mut() {
            seen.taken = None;
        }
        self.look(main, surroundings, true);
    }

    /// Looks at one file. Whether it was taken, refused or is gone.
    fn look_at(
        &mut self,
        name: &str,
        state: State,
        now: bool,
        main: &Config,
        surroundings: &Surroundings<'_>,
    ) -> bool {
        let seen = self.seen.entry(name.into()).or_insert(Seen {
            state,
            since: Instant::now(),
            complete: false,
            taken: None,
        });
        if seen.state != state {
            seen.state = state;
            seen.since = Instant::now();
            seen.complete = self.all_complete;
        }
        if let Some(complete) = self.heard.get(name) {
            seen.complete = *complete;
        }
        let seen = *seen;
        if seen.taken == Some(state) {
            return false;
        }
        let patience = self.patience(name, &seen, now);
        let quiet = quiet(&seen);
        if quiet < patience {
            self.look_in(patience - quiet);
            return false;
        }
        if state == State::Gone {
            self.dropins.remove(name);
            self.seen.remove(name);
            return true;
        }
        match dropin_dir::read(&self.dropins.dir().join(name)) {
            // It changes just now.
            Ok((stamp, _)) if state != State::Is(stamp) => {
                self.look_in(SETTLE);
                return false;
            }
            Ok((_, text)) => self.dropins.take(name, &text, &main.defaults, surroundings),
            Err(why) => self.dropins.refuse(name, why),
        }
        if let Some(seen) = self.seen.get_mut(name) {
            seen.taken = Some(state);
        }
        true
    }

    /// For how long a file must stay as it is before that counts. What defines something is not
    /// given up for what may be half-written, and what is gone may be about to be replaced.
    fn patience(&self, name: &str, seen: &Seen, now: bool) -> Duration {
        let is_new = self.dropins.text(name).is_none();
        let untouched = matches!(
            (seen.state, seen.taken),
            (State::Is(now), Some(State::Is(before))) if now.content == before.content
        );
        match seen.state {
            _ if self.first => Duration::ZERO,
            State::Gone | State::Opaque => SETTLE,
            State::Is(_) if now && (seen.complete || is_new) => Duration::ZERO,
            State::Is(_) if seen.complete || untouched => SETTLE,
            State::Is(_) if is_new => SETTLE_NEW,
            State::Is(_) => SETTLE_UNTOLD,
        }
    }

    fn look_in(&mut self, time: Duration) {
        let then = Instant::now() + time;
        self.due = Some(self.due.map_or(then, |due| due.min(then)));
    }

    /// Hears all there is; whether there was anything about drop-ins.
    fn listen(&mut self) -> bool {
        let Some(ears) = &self.ears else {
            return false;
        };
        ears.told.store(false, Ordering::SeqCst);
        let dir = self.dropins.dir();
        let mut concerns_us = false;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&*ears.inotify, &mut buffer);
        // Without events there is an error that says so.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
            let (name, events) = (OsStr::from_bytes(name), event.events());
            let is_new = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if Some(event.wd()) == ears.dir {
                concerns_us = true;
                let path = dir.join(name);
                match name.to_str().filter(|name| dropin_dir::is_dropin(name)) {
                    Some(name) if events.intersects(COMPLETE) => {
                        self.heard.insert(name.into(), true);
                    }
                    Some(name) if events.contains(ReadFlags::CREATE) => {
                        self.heard.insert(name.into(), is_link(&path));
                    }
                    Some(name) if events.contains(ReadFlags::MODIFY) => {
                        self.heard.insert(name.into(), false);
                    }
                    Some(_) => {}
                    // Files may be links into what was exchanged, as `..data` of Kubernetes is.
                    None => self.all_complete |= is_new && is_symlink(&path),
                }
            } else if Some(event.wd()) == ears.beside {
                if dir.file_name() == Some(name) {
                    concerns_us = true;
                    self.all_complete |=
                        events.contains(ReadFlags::MOVED_TO) || is_new && is_symlink(dir);
                }
            } else {
                // A watch ended, or some events were lost.
                concerns_us = true;
            }
        }
        concerns_us
    }
}

const COMPLETE: ReadFlags = ReadFlags::CLOSE_WRITE.union(ReadFlags::MOVED_TO);

impl Ears {
    fn new() -> Option<Self> {
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(inotify) => Some(Self {
                inotify: Arc::new(inotify),
                dir: None,
                beside: None,
                told: Arc::new(AtomicBool::new(false)),
            }),
            Err(err) => {
                log::warn!("drop-ins are looked at every some seconds, for inotify fails: {err}");
                None
            }
        }
    }

    /// Watches the directory that is there now, and for another in its place.
    fn watch(&mut self, dir: &Path) {
        let beside = dir.parent().unwrap_or(Path::new("/"));
        for (path, flags, watch) in [
            (beside, BESIDE_DIR, &mut self.beside),
            (dir, IN_DIR, &mut self.dir),
        ] {
            // Where it is watched already, this says so.
            let new = inotify::add_watch(&*self.inotify, path, flags).ok();
            if let Some(old) = *watch
                && new != Some(old)
            {
                // One that was removed has no watch any more.
                let _ = inotify::remove_watch(&*self.inotify, old);
            }
            *watch = new;
        }
    }
}

/// How long a file has been like this, as we or its time know.
fn quiet(seen: &Seen) -> Duration {
    let State::Is(stamp) = seen.state else {
        return seen.since.elapsed();
    };
    let since_change = || {
        let (seconds, nanoseconds) = stamp.ctime;
        let time = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        SystemTime::now().duration_since(UNIX_EPOCH + time).ok()
    };
    seen.since.elapsed().max(since_change().unwrap_or_default())
}

/// What is linked was complete before.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink() || found.nlink() > 1)
}

fn is_symlink(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}
