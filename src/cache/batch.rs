//! What is to be written: the newest per znode, however often it was told.

use crate::content::Content;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::SystemTime;

use crate::path::ZnodePath;
use crate::source::Stat;

/// Which znodes are configured.
pub(super) type Retain = Box<dyn Fn(&ZnodePath) -> bool + Send + Sync>;

/// News, to be written after whatever is on disk.
pub(super) struct Batch {
    pub(super) news: HashMap<ZnodePath, News>,
    /// The latest time given to a file, if any was told.
    pub(super) latest: SystemTime,
    /// What is on disk must fit all of these. The news do.
    pub(super) retains: Vec<Retain>,
}

/// What is new of a znode.
#[derive(Debug, Clone)]
pub(super) enum News {
    Content {
        stat: Stat,
        content: Content,
        confirmed: SystemTime,
    },
    Absent {
        zxid: i64,
    },
    /// Its content on disk is current.
    Confirmed(SystemTime),
    Forgotten,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            news: HashMap::new(),
            latest: SystemTime::UNIX_EPOCH,
            retains: Vec::new(),
        }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.news.is_empty() && self.retains.is_empty() && self.latest == SystemTime::UNIX_EPOCH
    }

    pub(super) fn tell(&mut self, path: ZnodePath, news: News) {
        match self.news.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(news);
            }
            Entry::Occupied(mut entry) => match (entry.get_mut(), news) {
                (
                    News::Content { confirmed, .. } | News::Confirmed(confirmed),
                    News::Confirmed(time),
                ) => *confirmed = time.max(*confirmed),
                (News::Absent { .. } | News::Forgotten, News::Confirmed(_)) => {}
                (old, news) => *old = news,
            },
        }
    }

    pub(super) fn retain(&mut self, is_configured: Retain) {
        self.news.retain(|path, _| is_configured(path));
        self.retains.push(is_configured);
    }

    /// Adds what was told later.
    pub(super) fn extend(&mut self, later: Self) {
        for is_configured in later.retains {
            self.retain(is_configured);
        }
        for (path, news) in later.news {
            self.tell(path, news);
        }
        self.latest = self.latest.max(later.latest);
    }
}
