//! Where updates of the mirror become changes of files, and go to be published.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::files::{Files, Noted};
use super::noted::Sessions;
use crate::cache::Cache;
use crate::mirror::{Reason, Update, Wanted};
use crate::path::ZnodePath;
use crate::publish::Publishing;
use crate::source::Told;
use crate::store::Reader;
use crate::tree::Change;

/// The files, and the way out for their changes.
pub(super) struct Desk {
    pub(super) files: Files,
    pub(super) publishing: Arc<Publishing>,
    pub(super) tree: Reader,
    pub(super) sessions: Sessions,
}

impl Desk {
    pub(super) fn carry_out(&self, changes: Vec<Change>) {
        let now = SystemTime::now();
        for change in changes {
            self.publishing.publish(change, now, None);
        }
    }

    pub(super) fn carry_out_noted(
        &self,
        changes: impl IntoIterator<Item = Noted>,
        now: SystemTime,
    ) {
        for (change, known) in changes {
            self.publishing.publish(change, now, known);
        }
    }

    /// Breaks what is too old by now, and says when there will be more.
    pub(super) fn break_old(&mut self) -> Option<Instant> {
        let (changes, next) = self.files.break_old(Instant::now());
        self.carry_out(changes);
        next
    }

    /// Keeps in the cache what is configured, and no more.
    pub(super) fn keep_configured(&self, cache: &Cache) {
        let Wanted { nodes, trees } = self.files.wanted();
        let nodes: HashSet<_> = nodes.into_iter().collect();
        cache.retain(move |path| nodes.contains(path) || trees.iter().any(|tree| tree.wants(path)));
    }

    /// Tells the cache what is known of these znodes. What waits to be published tells it again.
    pub(super) fn keep_known(&self, cache: &Cache, of: impl Fn(&ZnodePath) -> bool) {
        let told = self.files.told().into_iter().filter(|(path, _)| of(path));
        for (path, told) in told {
            if let Told::Absent(before) = told {
                cache.absent(&path, before.unwrap_or(0));
            }
        }
        for (path, stat, content, file) in self.files.contents(of) {
            // A broken file has the time of what it showed.
            let shown = self.tree.find(&file).and_then(|ino| self.tree.attr(ino));
            if let Some(attr) = shown {
                cache.content(path, stat, content.clone(), attr.mtime);
            }
        }
    }

    pub(super) fn update(&mut self, update: Update) {
        log_update(&update);
        self.sessions.note(&update);
        let now = match &update {
            Update::Confirmed { age, .. } => SystemTime::now() - *age,
            _ => SystemTime::now(),
        };
        self.note_standing(&update);
        let changes = self.files.update(update);
        self.carry_out_noted(changes, now);
    }
}

impl Desk {
    /// What an update means for the extended attributes of what is shown already.
    fn note_standing(&self, update: &Update) {
        let now = SystemTime::now();
        match update {
            // What a server without a quorum says may be old.
            Update::Content { .. } if self.files.is_read_only() => {}
            Update::Content { path, .. } => self.tree.note_current([path]),
            Update::Confirmed { paths, .. } => self.tree.note_current(paths),
            Update::Absent { path } => {
                self.tree.note_stale(path, "the znode was deleted", now);
            }
            Update::Unreadable { path, reason } => match reason {
                Reason::Denied => self.tree.note_stale(path, "its ACL denies it to us", now),
                Reason::Unproven(why) | Reason::Failed(why) => {
                    self.tree.note_stale(path, why, now);
                }
            },
            Update::Disconnected { .. } => self.tree.note_all_stale(now),
            Update::Children { .. }
            | Update::Settled
            | Update::Connected { .. }
            | Update::Repaired { .. } => {}
        }
    }
}

fn log_update(update: &Update) {
    match update {
        Update::Content { path, value } => log::debug!(
            "{path}: version {}, mzxid {:#x}, {} bytes",
            value.stat.version,
            value.stat.mzxid,
            value.content.len()
        ),
        Update::Absent { path } => log::debug!("{path}: does not exist"),
        Update::Unreadable {
            path,
            reason: Reason::Denied,
        } => {
            log::warn!("{path}: its ACL does not let us read it; see zookeeper.credentials");
        }
        Update::Unreadable {
            path,
            reason: Reason::Unproven(why) | Reason::Failed(why),
        } => {
            log::warn!("{path}: {why}; the last known content is served");
        }
        Update::Confirmed { paths, .. } => log::debug!("{} nodes confirmed", paths.len()),
        Update::Connected { session, read_only } => {
            log::info!("ZooKeeper: session {session:#x}");
            if *read_only {
                log::warn!("{}; looking for another", super::READ_ONLY);
            }
        }
        Update::Children { path, has_children } => {
            log::debug!(
                "{path}: has {}",
                if *has_children {
                    "children"
                } else {
                    "no children"
                }
            );
        }
        Update::Settled => log::debug!("everything was looked at"),
        // The mirror has said it, with what it does about it.
        Update::Repaired { .. } | Update::Disconnected { .. } => {}
    }
}
