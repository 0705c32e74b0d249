//! What is known of a znode.

use std::time::{Duration, Instant, SystemTime};

use crate::content::Content;
use crate::mirror::Reason;
use crate::source::Told;

/// What is known of a znode.
#[derive(Debug, Clone, Default)]
pub(super) struct Znode {
    /// Where in the nodes those stand that show it.
    pub(super) nodes: Vec<usize>,
    /// The content last told; the same memory that the tree serves.
    pub(super) content: Option<Content>,
    /// What was told of it, by a mirror of this process or before.
    pub(super) told: Option<Told>,
    /// Whether it has children, where a tree shows it.
    pub(super) has_children: bool,
    pub(super) state: State,
    pub(super) stale: Option<Stale>,
    /// When what is kept of it, now that it is gone, was last known to be current.
    pub(super) kept_as_of: Option<SystemTime>,
}

/// Since when nobody knows whether a content is current.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stale {
    pub(super) since: Instant,
    /// How old it counted then.
    pub(super) age: Duration,
    /// When it was last known to be current.
    pub(super) as_of: SystemTime,
}

/// How a znode stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing was heard of it by this process.
    #[default]
    Unknown,
    /// Its content is known and watched.
    Live,
    /// It does not exist.
    Absent,
    /// It cannot be read now; its last known content, if any, is served.
    Unreadable(Reason),
}

impl Znode {
    /// Whether files show it, be it that one of them is broken and has no content to go by.
    pub(super) fn has_file(&self) -> bool {
        self.content.is_some() || matches!(self.told, Some(Told::Lost(_)))
    }

    /// A node shows it, so memory is to hold its content. What lies on disk is to be told again.
    pub(super) fn stays_in_memory(&mut self) {
        let droppable = self.content.take_if(|content| content.is_droppable());
        if let Some(content) = droppable {
            let in_memory = content.in_memory();
            self.content = Some(in_memory.map_or(content, |bytes| Content::from(&*bytes)));
        }
    }

    /// Whether a tree shows it: unlike a node, none keeps what is gone.
    pub(super) fn is_in_trees(&self) -> bool {
        self.has_file() && self.state != State::Absent
    }

    /// What is known of it is not known to be current, and was at this time at last.
    pub(super) fn is_stale(&mut self, as_of: SystemTime) {
        self.stale.get_or_insert_with(|| Stale::from_now(as_of));
    }
}

impl Stale {
    /// From now on, for what was known to be current at this time.
    pub(super) fn from_now(as_of: SystemTime) -> Self {
        Self {
            since: Instant::now(),
            age: Duration::ZERO,
            as_of,
        }
    }

    /// When it is this old.
    pub(super) fn at_age(&self, age: Duration) -> Instant {
        self.since + age.saturating_sub(self.age)
    }
}
