//! The thread that reads drop-ins: no other waits for the file system they are on.
//!
//! inotify says when to look, and which files their writers have closed; what a look finds is what
//! counts, once it has settled. A look every some seconds finds what nobody tells of, such as a
//! change behind a symbolic link or on a network file system; where nothing changed it costs little
//! more than a stat for each file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::ears::{Ears, Heard};
use super::settling::{Circumstances, Occasion, SETTLE, SETTLE_UNTOLD, Settling, State};
use super::{Order, Shared};
use crate::config::dropin_dir::{self, Dir, NotTaken, Stamp};
use crate::config::dropins::{Dropins, Taken};
use crate::config::{Defaults, Surroundings};

/// How often it is looked where nothing is heard.
const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Follower {
    dropins: Dropins,
    mountpoint: PathBuf,
    defaults: Defaults,
    /// Whether the main file says where the directory is.
    is_configured: bool,
    ears: Option<Ears>,
    heard: Heard,
    settling: Settling,
    /// When to look again, where that is before long.
    due: Option<Instant>,
}

impl Follower {
    pub(super) fn new(dropins: Dropins, mountpoint: PathBuf, order: Order) -> Self {
        Self {
            dropins,
            mountpoint,
            defaults: order.defaults,
            is_configured: order.is_configured,
            ears: Ears::new(),
            heard: Heard::default(),
            settling: Settling::default(),
            due: None,
        }
    }

    /// Looks again and again, first on this `occasion`, and has `tell` called when there is news.
    pub(super) fn run(mut self, mut occasion: Occasion, shared: &Shared, tell: impl Fn()) {
        loop {
            shared.look_begins();
            let news = self.look(occasion);
            if shared.look_ends(&self.dropins, news) {
                tell();
            }
            occasion = Occasion::News;
            self.wait(shared);
            if let Some(order) = shared.take_order() {
                self.obey(order);
                occasion = Occasion::Asked;
            }
        }
    }

    /// All of them are to be looked at on behalf of a user, who may have changed the main file too.
    fn obey(&mut self, order: Order) {
        self.defaults = order.defaults;
        self.is_configured = order.is_configured;
        let surroundings = Surroundings::here(Some(&self.mountpoint));
        self.dropins.set_defaults(&self.defaults, &surroundings);
        self.settling.doubt_all();
    }

    /// Waits until it is time for a look, or there is an order.
    fn wait(&mut self, shared: &Shared) {
        let mut until = Instant::now() + INTERVAL;
        until = self.due.map_or(until, |due| due.min(until));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut asked = vec![PollFd::new(&shared.bell, PollFlags::IN)];
            asked.extend((self.ears.iter()).map(|ears| PollFd::new(ears, PollFlags::IN)));
            let timeout = Timespec::try_from(left).ok();
            if poll(&mut asked, timeout.as_ref()).is_err() {
                // Interrupted, or without memory.
                std::thread::sleep(SETTLE);
                continue;
            }
            let rang = !asked[0].revents().is_empty();
            if rang {
                return;
            }
            if self.listen() {
                until = until.min(Instant::now() + SETTLE);
            }
        }
    }

    fn listen(&mut self) -> bool {
        let (dir, heard) = (self.dropins.dir(), &mut self.heard);
        let ears = self.ears.as_mut();
        ears.is_some_and(|ears| ears.listen(dir, heard))
    }

    /// Reads the files that have changed and settled. Whether anything is to be told.
    fn look(&mut self, occasion: Occasion) -> bool {
        self.due = None;
        let path = self.dropins.dir().to_owned();
        let mountpoint = Some(&*self.mountpoint);
        let beside = path.parent().unwrap_or(&path);
        let beside = Dir::open(beside, mountpoint).ok();
        let dir = Dir::open(&path, mountpoint);
        if let Some(ears) = &mut self.ears {
            ears.watch(dir.as_ref().ok(), beside.as_ref());
        }
        self.listen();
        let listed = dir.and_then(|dir| Ok((dir.list()?, Some(dir))));
        let (listed, dir, mut why) = match listed {
            Ok((listed, dir)) => (listed, dir, None),
            Err(why) => {
                let words = dropin_dir::why_not(&why, self.is_configured);
                if !why.is_missing() {
                    // That says nothing of the files.
                    return self.dropins.refuse_dir(words);
                }
                (BTreeMap::new(), None, words)
            }
        };
        let heard = std::mem::take(&mut self.heard);
        let exchanged =
            (dir.as_ref()).is_some_and(|dir| heard.exchanged(&path, dir, beside.as_ref()));
        let names: BTreeSet<String> = (listed.keys())
            .chain(self.settling.names())
            .cloned()
            .chain(self.dropins.names().map(str::to_owned))
            .collect();
        let mut news = false;
        for name in names {
            let circumstances = Circumstances {
                told: dir.as_ref().and_then(|dir| heard.of(&name, dir)),
                exchanged,
                in_use: self.dropins.text(&name).is_some(),
                all_gone: listed.is_empty(),
                occasion,
            };
            news |= self.look_at(&name, dir.as_ref(), listed.get(&name), circumstances);
        }
        if listed.is_empty() && self.dropins.names().next().is_some() {
            why = Some(format!(
                "there are no drop-ins any more; what they define stays for {SETTLE_UNTOLD:?}, for \
                 they may come back"
            ));
        }
        self.dropins.refuse_dir(why) || news
    }

    /// Looks at one file. Whether anything is to be told.
    fn look_at(
        &mut self,
        name: &str,
        dir: Option<&Dir>,
        listed: Option<&Option<Stamp>>,
        circumstances: Circumstances,
    ) -> bool {
        let state = match listed {
            None => State::Gone,
            Some(None) => State::Opaque,
            Some(Some(stamp)) => State::Is(*stamp),
        };
        let now = Instant::now();
        match self.settling.look(name, state, circumstances, now) {
            None => return false,
            Some(Duration::ZERO) => {}
            Some(wait) => {
                self.look_in(wait);
                return false;
            }
        }
        let (Some(dir), Some(_)) = (dir, listed) else {
            self.dropins.remove(name);
            self.settling.forget(name);
            return true;
        };
        let (news, for_now) = match dir.read(name) {
            // It changes just now.
            Ok((stamp, _)) if state != State::Is(stamp) => {
                self.look_in(SETTLE);
                return false;
            }
            Ok((_, text)) => {
                let surroundings = Surroundings::here(Some(&self.mountpoint));
                let dropins = &mut self.dropins;
                let taken = dropins.take(name, &text, &self.defaults, &surroundings);
                (true, taken == Taken::ForNow)
            }
            Err(why) => {
                let for_now = matches!(why, NotTaken::Unreadable(_));
                (self.dropins.refuse(name, why.to_string()), for_now)
            }
        };
        self.settling.taken(name, for_now, now);
        if for_now && let Some(wait) = self.settling.look(name, state, circumstances, now) {
            self.look_in(wait);
        }
        news
    }

    fn look_in(&mut self, time: Duration) {
        let then = Instant::now() + time;
        self.due = Some(self.due.map_or(then, |due| due.min(then)));
    }
}
