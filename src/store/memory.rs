//! What whoever makes room in memory does to the store: which contents are to go, and where they
//! lie from then on.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use super::residents::WORTH;
use super::{Residents, State};
use crate::content::Content;
use crate::spill::{Spill, Spilled};
use crate::tree::{Fact, Ino};

/// How many contents change their place under one lock: readers wait meanwhile.
const N_AT_ONCE: usize = 64;

/// The contents in memory that need not be there. One thread at a time makes room.
#[derive(Clone)]
pub struct Memory {
    state: Arc<RwLock<State>>,
    residents: Arc<Residents>,
}

/// A content that is to go.
pub(crate) struct Leaving {
    ino: Ino,
    content: Content,
}

impl Memory {
    pub(super) fn new(state: Arc<RwLock<State>>) -> Self {
        let residents = Arc::clone(&state.read().residents);
        Self { state, residents }
    }

    /// So many bytes of contents that need not be in memory may be there.
    pub(crate) fn limit(&self, most: u64) {
        self.residents.limit(most);
    }

    /// How many bytes of them are there.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.residents.n_bytes()
    }

    /// Somebody makes room from now on.
    pub(crate) fn open(&self) {
        self.residents.open();
    }

    /// Nobody does; whoever waits comes back.
    pub(crate) fn close(&self) {
        self.residents.close();
    }

    /// Waits until there are too many, at most until then. False once it is closed.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        self.residents.wait(until)
    }

    /// Waits until then. False once it is closed.
    pub(crate) fn pause(&self, until: Instant) -> bool {
        self.residents.pause(until)
    }

    /// Where contents lie on disk; none before there is such a place. It may be of no use: see
    /// [`Spill::is_usable`].
    pub(crate) fn spill(&self) -> Option<Arc<Spill>> {
        let state = self.state.read();
        state.recording.as_ref()?.record.spill().cloned()
    }

    /// Contents on disk lie there from now on; `tell` hands the descriptor to whoever keeps the
    /// record, and does not wait. Not while frozen, nor where nothing is recorded.
    pub(crate) fn use_spill(
        &self,
        spill: &Arc<Spill>,
        tell: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.write();
        let recording = state.recording.as_mut().filter(|it| !it.frozen);
        let recording = recording.ok_or(io::ErrorKind::WouldBlock)?;
        // Nothing that lies there is on record before it is kept.
        tell(spill.descriptor().ok_or(io::ErrorKind::NotFound)?)?;
        recording.record.use_spill(Arc::clone(spill));
        Ok(())
    }

    /// Whether contents may change their place: while frozen they may not.
    pub(crate) fn may_change(&self) -> bool {
        let state = self.state.read();
        let recording = state.recording.as_ref();
        recording.is_some_and(|recording| !recording.frozen && !recording.record.is_void())
    }

    /// Those that are to go, the least recently used first: as many as are too many, or so many
    /// bytes of them.
    pub(crate) fn leaving(&self, n_bytes: u64) -> Vec<Leaving> {
        let oldest = self.residents.oldest(n_bytes);
        let mut leaving = Vec::with_capacity(oldest.len());
        for some in oldest.chunks(N_AT_ONCE) {
            let state = self.state.read();
            leaving.extend(
                some.iter()
                    .filter_map(|ino| match state.tree.content(*ino) {
                        Some(content) => Some(Leaving { ino: *ino, content }),
                        None => {
                            self.residents.remove(*ino);
                            None
                        }
                    }),
            );
        }
        leaving
    }

    /// The contents lie on disk from here on; but for those that nobody needs any more. Fails where
    /// that cannot be recorded: then they stay in memory.
    pub(crate) fn have_left(&self, left: Vec<(Leaving, Arc<Spilled>)>) -> io::Result<()> {
        let mut left = left.into_iter().peekable();
        while left.peek().is_some() {
            let mut state = self.state.write();
            let recording = state.recording.as_mut().filter(|it| !it.frozen);
            let recording = recording.ok_or(io::ErrorKind::WouldBlock)?;
            let mut some: Vec<_> = left
                .by_ref()
                .take(N_AT_ONCE)
                .map(|(Leaving { ino, content }, spilled)| (ino, content, spilled))
                .collect();
            let inos: Vec<_> = some.iter().map(|(ino, ..)| *ino).collect();
            some.retain(|(ino, ..)| recording.record.has_in_memory(*ino));
            recording.record.spilled(&some)?;
            for ino in inos {
                self.residents.remove(ino);
            }
        }
        Ok(())
    }
}

impl Leaving {
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

/// Takes down what facts say of the contents that need not be in memory.
pub(super) fn note(residents: &Residents, fact: &Fact) {
    match fact {
        Fact::File { ino, content, .. } => {
            let n_bytes = content.n_bytes();
            if content.is_droppable() && n_bytes >= WORTH && content.on_disk().is_none() {
                residents.put(*ino, n_bytes);
            }
        }
        Fact::Freed { ino } => residents.remove(*ino),
        Fact::Broken { .. }
        | Fact::Directory { .. }
        | Fact::Owned { .. }
        | Fact::Linked { .. }
        | Fact::Unlinked { .. }
        | Fact::Time { .. }
        | Fact::Floor { .. } => {}
    }
}
