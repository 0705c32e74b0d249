//! The drop-ins of a mount, followed while it runs: the side of those who go by them.
//!
//! A thread of their own reads them, for they may be on a file system that does not answer; it tells
//! when there is news, and is waited for at a first start and by a reload alone, and not for long.

mod ears;
mod follower;
mod settling;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::EventfdFlags;
use serde::{Deserialize, Serialize};

use self::follower::Follower;
use self::settling::Occasion;
use crate::config::dropins::Dropins;
use crate::config::{Config, Defaults, Surroundings};

/// How long the first look may take without keeping the mount from its start.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long a look may take that a reload waits for.
const RELOAD: Duration = Duration::from_secs(2);

/// After this time it is said of a look that it takes long.
const LONG: Duration = Duration::from_secs(5);

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

/// The drop-ins as they were last taken, and the way to the thread that reads them.
pub(super) struct Following {
    dropins: Dropins,
    shared: Arc<Shared>,
}

/// What is shared with the thread.
struct Shared {
    state: Mutex<SharedState>,
    answered: Condvar,
    /// Rings when there is an order.
    bell: OwnedFd,
}

#[derive(Default)]
struct SharedState {
    order: Option<Order>,
    /// The drop-ins, where they are not as they were.
    news: Option<Dropins>,
    /// When the look that is under way began.
    looks_since: Option<Instant>,
    /// Whether the first look, or the last one that was ordered, is still to be waited for.
    waited_for: bool,
    /// It was said that no answer comes, so the next one is news.
    said_late: bool,
}

/// To look at all of them.
#[derive(Debug, Clone, Copy)]
struct Order {
    defaults: Defaults,
    is_configured: bool,
}

impl Following {
    /// Goes by those that were `kept`, if any were, and looks at them afterwards; `tell` is called
    /// on another thread when there is news. A first start waits for the first look.
    pub(super) fn start(
        main: &Config,
        kept: Option<&Kept>,
        mountpoint: &Path,
        tell: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let kept = kept.and_then(|kept| kept.dropins.as_ref());
        let dir = kept.map_or_else(|| main.dropin_dir(), |(dir, _)| dir.clone());
        let mut dropins = Dropins::new(dir);
        let surroundings = Surroundings::here(Some(mountpoint));
        for (name, text) in kept.into_iter().flat_map(|(_, texts)| texts) {
            dropins.take(name, text.as_bytes(), &main.defaults, &surroundings);
        }
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            answered: Condvar::new(),
            bell: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        shared.state.lock().waited_for = true;
        let follower = Follower::new(dropins.clone(), mountpoint.to_owned(), Order::of(main));
        let occasion = match kept {
            Some(_) => Occasion::News,
            None => Occasion::First,
        };
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("dropins".into())
            .spawn(move || follower.run(occasion, &of_thread, tell))?;
        let mut following = Self { dropins, shared };
        if kept.is_none() {
            following.wait(FIRST_LOOK);
        }
        Ok(following)
    }

    /// Has all of them looked at on behalf of a user, who may have changed the main file too.
    pub(super) fn reload(&mut self, main: &Config) {
        {
            let mut state = self.shared.state.lock();
            state.order = Some(Order::of(main));
            state.waited_for = true;
        }
        if let Err(err) = rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes()) {
            log::error!("drop-ins are not read again: {err}");
        }
        if !self.wait(RELOAD) {
            let surroundings = Surroundings::here(None);
            self.dropins.set_defaults(&main.defaults, &surroundings);
        }
    }

    /// Takes the news, if there is any.
    pub(super) fn take(&mut self) -> bool {
        let mut state = self.shared.state.lock();
        if let Some(news) = state.news.take() {
            self.dropins = news;
            return true;
        }
        let is_late = state.looks_since.is_some_and(|at| at.elapsed() >= LONG);
        drop(state);
        is_late && self.say_late()
    }

    /// The main file with the drop-ins as they were last taken.
    pub(super) fn join(&self, main: &Config) -> Config {
        self.dropins.join(main)
    }

    /// What is wrong with the directory, in words.
    pub(super) fn complaint(&self) -> Option<String> {
        self.dropins.dir_wrong().map(ToString::to_string)
    }

    /// Waits for the answer to the last order; whether it came.
    fn wait(&mut self, patience: Duration) -> bool {
        let mut state = self.shared.state.lock();
        let waiting = |state: &mut SharedState| state.waited_for;
        let answered = &self.shared.answered;
        let result = answered.wait_while_for(&mut state, waiting, patience);
        drop(state);
        if result.timed_out() {
            self.say_late();
            return false;
        }
        self.take();
        true
    }

    fn say_late(&mut self) -> bool {
        self.shared.state.lock().said_late = true;
        let why = "does not answer; the drop-ins in it are taken when it does";
        self.dropins.refuse_dir(Some(why.into()))
    }
}

impl Order {
    fn of(main: &Config) -> Self {
        Self {
            defaults: main.defaults,
            is_configured: main.mount.dropin_dir.is_some(),
        }
    }
}

impl Shared {
    fn take_order(&self) -> Option<Order> {
        // It rings once for all orders so far.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.state.lock().order.take()
    }

    fn look_begins(&self) {
        self.state.lock().looks_since = Some(Instant::now());
    }

    /// Whether there is something to tell.
    fn look_ends(&self, dropins: &Dropins, has_news: bool) -> bool {
        let mut state = self.state.lock();
        let is_news = std::mem::take(&mut state.said_late) || has_news;
        if is_news {
            state.news = Some(dropins.clone());
        }
        state.looks_since = None;
        // An order that came meanwhile is still to be obeyed.
        if state.order.is_none() {
            state.waited_for = false;
            self.answered.notify_all();
        }
        is_news
    }
}
