//! The one lock over the [`Tree`] and its [`Record`]: one [`Writer`], many [`Reader`]s.
//!
//! What became true of the tree is on record before the lock is released, so nobody sees anything
//! that a successor would not know. No lock is held across anything but the tree and its record:
//! what a reader gets is its own.

mod memory;
mod residents;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::content::{Bytes, Content};
use crate::path::{FilePath, Name, ZnodePath};
use crate::record::{Entry, Handed, Record, RecordError};
use crate::shown::{Origin, Shown, Stale};
use crate::source::{Stat, Told};
use crate::tree::{
    Attr, Call, Change, Effect, Fact, Ino, Kind, Listed, Ownership, Room, Staged, Step, Tree,
};
pub(crate) use memory::Leaving;
pub use memory::Memory;
use residents::Residents;

/// The most open files of one inode on which somebody is on record to wait: nobody says when one is
/// closed.
const MOST_WAITING: usize = 1024;

/// Changes the tree. There is one, so changes have one order.
pub struct Writer(Arc<RwLock<State>>);

/// Answers the kernel from the tree, and carries out what was staged.
#[derive(Clone)]
pub struct Reader(Arc<RwLock<State>>);

struct State {
    tree: Tree,
    recording: Option<Recording>,
    /// Which inode shows which znode, where that is asked for.
    shown: Option<Shown>,
    /// What of it lies in memory and need not.
    residents: Arc<Residents>,
}

struct Recording {
    record: Record,
    known: Known,
    /// Who waits for which inode, by the kernel's names for their open files.
    waiting: HashMap<Ino, HashSet<u64>>,
    /// Nothing is written, for another process may read the record, or go on with it.
    frozen: bool,
}

/// What the mount shows of znodes.
#[derive(Default)]
struct Known {
    table: HashMap<ZnodePath, Told>,
    /// What is not in the table yet, in order: a successor has no time for that at first. None for
    /// what is forgotten.
    late: Vec<(ZnodePath, Option<Told>)>,
}

impl Known {
    fn table(&mut self) -> &mut HashMap<ZnodePath, Told> {
        for (path, told) in std::mem::take(&mut self.late) {
            match told {
                Some(told) => self.table.insert(path, told),
                None => self.table.remove(&path),
            };
        }
        &mut self.table
    }
}

/// An empty tree, whose directories have this ownership; of which nothing is recorded.
pub fn new(directories: Ownership, now: SystemTime) -> (Writer, Reader) {
    shared(State {
        tree: Tree::new(directories, now),
        recording: None,
        shown: None,
        residents: Arc::default(),
    })
}

/// [`new`], recorded from the start. Fails where the record cannot be written.
pub fn recorded(
    directories: Ownership,
    mut record: Record,
    now: SystemTime,
) -> io::Result<(Writer, Reader)> {
    let mut tree = Tree::new(directories, now);
    tree.record();
    let facts: Vec<_> = tree.facts().into_iter().map(Entry::Tree).collect();
    record.append(&facts)?;
    Ok(shared(State {
        tree,
        recording: Some(Recording::new(record, Known::default())),
        shown: None,
        residents: Arc::default(),
    }))
}

/// The tree that is on record in `handed`, recorded on; see [`Reader::known`].
///
/// The process that wrote it must be gone, or frozen ([`Writer::freeze`]); in that case nothing may
/// be changed, forgotten or disinherited here before it is certain that the other does not thaw.
pub fn restored(
    directories: Ownership,
    handed: impl Into<Handed>,
) -> Result<(Writer, Reader), RecordError> {
    let residents = Arc::new(Residents::default());
    let mut known = Known::default();
    let mut waiting: HashMap<Ino, HashSet<u64>> = HashMap::new();
    let mut shown: Option<Shown> = None;
    let mut tree = Tree::new(directories, SystemTime::UNIX_EPOCH);
    let record = Record::load(handed, |entry| {
        match entry {
            Entry::Tree(fact) => {
                memory::note(&residents, &fact);
                if !tree.go_on_with(fact) {
                    return Err(RecordError::Contradiction);
                }
            }
            Entry::Waiting { ino, handle } => {
                waiting.entry(ino).or_default().insert(handle);
            }
            Entry::Known { path, told } => {
                known.late.push((path, Some(told)));
            }
            Entry::Forgotten { path } => known.late.push((path, None)),
            Entry::Shows { ino, origin } => shown.get_or_insert_default().set(ino, origin),
        }
        Ok(())
    })?;
    tree.record();
    record.on_disk().for_each(|ino| residents.remove(ino));
    waiting.retain(|ino, _| tree.attr(*ino).is_some());
    if let Some(shown) = &mut shown {
        shown.retain(|ino| tree.attr(ino).is_some());
    }
    let recording = Recording {
        waiting,
        ..Recording::new(record, known)
    };
    Ok(shared(State {
        tree,
        recording: Some(recording),
        shown,
        residents,
    }))
}

fn shared(state: State) -> (Writer, Reader) {
    let state = Arc::new(RwLock::new(state));
    (Writer(Arc::clone(&state)), Reader(state))
}

impl Writer {
    /// See [`Tree::apply`]. When it returns, every later lookup finds the change; the effects tell
    /// what the kernel may still hold of the time before. Not while frozen.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Vec<Effect> {
        self.change(|tree| tree.apply(change, now))
            .unwrap_or_default()
    }

    /// See [`Tree::stage`]. Not while frozen.
    pub fn stage(&mut self, change: Change, now: SystemTime) -> Staged {
        self.change(|tree| tree.stage(change, now))
            .unwrap_or(Staged::Nothing)
    }

    /// [`Writer::stage`] of a change that makes a file show this, for [`Reader::attributes`]: the
    /// inode is told apart before anybody sees it. A file that breaks shows what it showed before,
    /// without its bytes.
    pub fn stage_origin(
        &mut self,
        change: Change,
        origin: Option<Origin>,
        now: SystemTime,
    ) -> Staged {
        let state = &mut *self.0.write();
        debug_assert!(!state.is_frozen(), "the tree is changed while frozen");
        if state.is_frozen() {
            return Staged::Nothing;
        }
        if state.shown.is_none() {
            return state.with_tree(|tree| tree.stage(change, now));
        }
        let path = change.path().clone();
        let origin = match &change {
            Change::Put { .. } | Change::Recall { .. } => origin,
            Change::Break { .. } => state.origin_of(&path).map(|origin| Origin {
                stat: None,
                ..origin
            }),
            Change::Remove { .. }
            | Change::Confirm { .. }
            | Change::MakeDirectory { .. }
            | Change::RemoveDirectory { .. } => None,
        };
        let staged = state.with_tree(|tree| tree.stage(change, now));
        if let Some(origin) = origin {
            let ino = match &staged {
                Staged::Step(Step {
                    call: Call::Rename { staged },
                    ..
                }) => Some(*staged),
                // What is made with its directory, or is there already, to the byte.
                Staged::Step(_) => state.tree.find_staged(&path),
                Staged::Done | Staged::Nothing | Staged::Tell(_) => state.tree.find(&path),
            };
            if let Some(ino) = ino {
                state.set_origin(ino, origin);
            }
        }
        staged
    }

    /// Keeps from here on what [`Reader::attributes`] tells. A successor must be told to do so, too.
    pub fn keep_attributes(&mut self) {
        self.0.write().shown.get_or_insert_default();
    }

    /// See [`Tree::settle`]. Not while frozen.
    pub fn settle(&mut self, directory: Ino, name: &Name, now: SystemTime) -> Option<Effect> {
        self.change(|tree| tree.settle(directory, name, now))
            .flatten()
    }

    /// See [`Tree::confirm`]. Not while frozen.
    pub fn confirm(&mut self, path: &FilePath, now: SystemTime) -> Option<Effect> {
        self.change(|tree| tree.confirm(path, now)).flatten()
    }

    /// See [`Tree::is_staged`].
    pub fn is_staged(&self, directory: Ino, name: &Name) -> bool {
        self.0.read().tree.is_staged(directory, name)
    }

    /// The mount shows the znode as was told of it. A successor goes on from that. Not while frozen.
    pub fn know(&mut self, path: &ZnodePath, told: Told) {
        let mut state = self.0.write();
        let Some(recording) = &mut state.recording else {
            return;
        };
        debug_assert!(!recording.frozen, "something is published while frozen");
        if recording.frozen || recording.known.table().get(path) == Some(&told) {
            return;
        }
        recording.known.table().insert(path.clone(), told);
        let path = path.clone();
        recording.append(&[Entry::Known { path, told }]);
    }

    /// Nothing is to be known of the znode any more. Not while frozen.
    pub fn know_nothing(&mut self, path: &ZnodePath) {
        let mut state = self.0.write();
        let Some(recording) = &mut state.recording else {
            return;
        };
        debug_assert!(!recording.frozen, "something is published while frozen");
        if !recording.frozen && recording.known.table().remove(path).is_some() {
            let path = path.clone();
            recording.append(&[Entry::Forgotten { path }]);
        }
    }

    /// Makes no more changes and writes nothing from here on, so that another process can read the
    /// record, and go on with it. The kernel is still answered: what it looks up and forgets is
    /// not for the successor to know.
    ///
    /// What the kernel was asked to carry out must have been carried out before.
    pub fn freeze(&mut self) {
        if let Some(recording) = &mut self.0.write().recording {
            recording.frozen = true;
        }
    }

    /// No other process goes on with the record: writes again, first what was forgotten meanwhile.
    pub fn thaw(&mut self) {
        let mut state = self.0.write();
        if let Some(recording) = &mut state.recording {
            recording.frozen = false;
        }
        state.write_down();
    }

    /// Hands the memory of the record to `tell`, which passes it on to whoever keeps it for a
    /// successor. Changes wait meanwhile. Does nothing where nothing is recorded.
    pub fn hand_over(&self, tell: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        match &self.0.read().recording {
            Some(recording) => tell(recording.record.descriptor()),
            None => Ok(()),
        }
    }

    /// See [`Record::wants_compaction`]. Never while frozen.
    pub fn wants_compaction(&self) -> bool {
        let state = self.0.read();
        let recording = state.recording.as_ref();
        recording.is_some_and(|recording| !recording.frozen && recording.record.wants_compaction())
    }

    /// Writes the record anew, in new memory, which is handed to `tell`; only when that succeeds
    /// is the new record written to from here on, and the old one not any more. Readers wait
    /// meanwhile: `tell` sends, and waits for nothing.
    ///
    /// A record that could not be written before is whole again afterwards. Whoever keeps records
    /// must read all that was sent to it before it starts a successor: the last one counts.
    pub fn compact(
        &mut self,
        tell: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.0.write();
        let State {
            tree,
            recording,
            shown,
            ..
        } = &mut *state;
        let Some(recording) = recording else {
            return Ok(());
        };
        debug_assert!(!recording.frozen, "the record is written anew while frozen");
        if recording.frozen {
            return Err(io::Error::other("the record is frozen"));
        }
        let known = recording.known.table().iter();
        let known = known.map(|(path, told)| (path.clone(), *told));
        let mut record = Record::compacted(tree.facts(), known)?;
        if let Some(spill) = recording.record.spill() {
            record.use_spill(Arc::clone(spill));
        }
        record.append(&recording.waiting_entries())?;
        let shown = shown.iter().flat_map(Shown::iter);
        let shown: Vec<_> = shown
            .map(|(ino, origin)| Entry::Shows {
                ino,
                origin: origin.clone(),
            })
            .collect();
        record.append(&shown)?;
        tell(record.descriptor())?;
        record.settle();
        recording.record = record;
        Ok(())
    }

    /// Whether a successor could go on with the record as it is.
    pub fn is_recorded(&self) -> bool {
        let state = self.0.read();
        let recording = state.recording.as_ref();
        recording.is_some_and(|recording| !recording.record.is_void())
    }

    /// How much memory the record takes, in bytes; 0 where nothing is recorded.
    pub fn n_bytes_of_record(&self) -> u64 {
        let state = self.0.read();
        let recording = state.recording.as_ref();
        recording.map_or(0, |recording| {
            recording.record.n_bytes_in_memory().unwrap_or(0)
        })
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Tree) -> T) -> Option<T> {
        let mut state = self.0.write();
        debug_assert!(!state.is_frozen(), "the tree is changed while frozen");
        if state.is_frozen() {
            return None;
        }
        Some(state.with_tree(change))
    }
}

impl Reader {
    /// See [`Tree::lookup`].
    pub fn lookup(&self, directory: Ino, name: &str) -> Option<Attr> {
        self.0.write().tree.lookup(directory, name)
    }

    /// See [`Tree::lookup_staged`].
    pub fn lookup_staged(&self, ino: Ino) -> Option<Attr> {
        self.0.write().tree.lookup_staged(ino)
    }

    /// See [`Tree::forget`].
    pub fn forget(&self, ino: Ino, n: u64) {
        self.0.write().with_tree(|tree| tree.forget(ino, n));
    }

    /// See [`Tree::rename`]. While frozen, true only where it is so already.
    pub fn rename(&self, staged: Ino, directory: Ino, name: &str, now: SystemTime) -> bool {
        self.carry_out(directory, name, |tree| {
            tree.rename(staged, directory, name, now)
        })
        .unwrap_or(false)
    }

    /// See [`Tree::make_directory`]. While frozen, none unless it is there already.
    pub fn make_directory(&self, directory: Ino, name: &str, now: SystemTime) -> Option<Attr> {
        self.carry_out(directory, name, |tree| {
            tree.make_directory(directory, name, now)
        })
        .flatten()
    }

    /// See [`Tree::remove`]. While frozen, true only where it is so already.
    pub fn remove(&self, directory: Ino, name: &str, now: SystemTime) -> bool {
        self.carry_out(directory, name, |tree| tree.remove(directory, name, now))
            .unwrap_or(false)
    }

    /// See [`Tree::add_nameless`]. None while frozen: a successor would not know of it.
    pub fn add_nameless(
        &self,
        content: Content,
        ownership: Ownership,
        n_lookups: u64,
        now: SystemTime,
    ) -> Option<Attr> {
        let mut state = self.0.write();
        if state.is_frozen() {
            return None;
        }
        state.with_tree(|tree| tree.add_nameless(content, ownership, n_lookups, now))
    }

    /// See [`Tree::inherited`].
    pub fn inherited(&self) -> Vec<Ino> {
        self.0.read().tree.inherited()
    }

    /// See [`Tree::disinherit`].
    pub fn disinherit(&self, ino: Ino) {
        self.0.write().with_tree(|tree| tree.disinherit(ino));
    }

    /// Somebody waits for the inode to be superseded; a successor must know.
    pub fn note_waiting(&self, ino: Ino, handle: u64) {
        let mut state = self.0.write();
        if let Some(recording) = state
            .recording
            .as_mut()
            .filter(|recording| !recording.frozen)
            && recording
                .waiting
                .get(&ino)
                .is_none_or(|handles| handles.len() < MOST_WAITING)
            && recording.waiting.entry(ino).or_default().insert(handle)
        {
            recording.append(&[Entry::Waiting { ino, handle }]);
        }
    }

    /// The kernel's names for the open files on which somebody waits, or waited.
    pub fn waiting(&self) -> Vec<u64> {
        let state = self.0.read();
        let waiting = state
            .recording
            .iter()
            .flat_map(|recording| recording.waiting.values());
        waiting.flatten().copied().collect()
    }

    /// Whether [`Reader::attributes`] has something to tell.
    pub fn keeps_attributes(&self) -> bool {
        self.0.read().shown.is_some()
    }

    /// What the inode shows, and how that stands where a name leads to it; none where that is not
    /// kept, or not known.
    pub fn attributes(&self, ino: Ino) -> Option<(Origin, Option<Stale>)> {
        let state = self.0.read();
        let shown = state.shown.as_ref()?;
        let origin = shown.get(ino)?.clone();
        let attr = state.tree.attr(ino)?;
        let stale = shown
            .stale(&origin.path, attr.mtime)
            .filter(|_| attr.n_links > 0);
        Some((origin, stale))
    }

    /// These znodes were told, or confirmed to be current.
    pub fn note_current<'a>(&self, paths: impl IntoIterator<Item = &'a ZnodePath>) {
        self.with_shown(|shown| {
            for path in paths {
                shown.is_current(path);
            }
        });
    }

    /// Nobody knows from `now` on whether the znode is current, for this reason.
    pub fn note_stale(&self, path: &ZnodePath, why: &str, now: SystemTime) {
        self.with_shown(|shown| shown.is_stale(path, why.into(), now));
    }

    /// Nobody knows from `now` on of any znode whether it is current.
    pub fn note_all_stale(&self, now: SystemTime) {
        self.with_shown(|shown| shown.are_stale(now));
    }

    /// Lets go of what is kept of znodes that no file shows any more; to be called now and then.
    pub fn sweep_attributes(&self) {
        self.with_shown(Shown::sweep);
    }

    /// See [`Tree::attr`].
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        self.0.read().tree.attr(ino)
    }

    /// See [`Tree::content`].
    pub fn content(&self, ino: Ino) -> Option<Content> {
        self.0.read().tree.content(ino)
    }

    /// [`Reader::content`] for a reader, by whom it is used.
    pub fn used(&self, ino: Ino) -> Option<Content> {
        let state = self.0.read();
        let content = state.tree.content(ino)?;
        if content.is_droppable() {
            state.residents.touch(ino);
        }
        Some(content)
    }

    /// The bytes of [`Reader::content`]. Waits for the disk where they lie there.
    pub fn read(&self, ino: Ino) -> Option<Bytes> {
        self.content(ino)?.bytes().ok()
    }

    /// For whoever makes room in memory.
    pub fn memory(&self) -> Memory {
        Memory::new(Arc::clone(&self.0))
    }

    /// What the mount shows of znodes, as it is on record.
    pub fn known(&self) -> HashMap<ZnodePath, Told> {
        let mut state = self.0.write();
        let recording = state.recording.as_mut();
        recording.map_or_else(HashMap::new, |recording| recording.known.table().clone())
    }

    /// What ZooKeeper kept beside what the mount shows of a znode, as it is on record.
    pub fn known_stat(&self, path: &ZnodePath) -> Option<Stat> {
        let mut state = self.0.write();
        match state.recording.as_mut()?.known.table().get(path)? {
            Told::Content(stat) | Told::Lost(stat) => Some(*stat),
            Told::Absent(_) => None,
        }
    }

    /// See [`Tree::paths`].
    pub fn paths(&self) -> Vec<(FilePath, Kind)> {
        self.0.read().tree.paths()
    }

    /// See [`Tree::list`].
    pub fn list(&self, ino: Ino, cookie: u64, take: impl FnMut(Listed<'_>) -> Room) -> bool {
        self.0.read().tree.list(ino, cookie, take)
    }

    /// See [`Tree::list_and_look_up`].
    pub fn list_and_look_up(
        &self,
        ino: Ino,
        cookie: u64,
        take: impl FnMut(Listed<'_>) -> Room,
    ) -> bool {
        self.0.write().tree.list_and_look_up(ino, cookie, take)
    }

    /// See [`Tree::find`].
    pub fn find(&self, path: &FilePath) -> Option<Ino> {
        self.0.read().tree.find(path)
    }

    /// See [`Tree::n_inodes`].
    pub fn n_inodes(&self) -> usize {
        self.0.read().tree.n_inodes()
    }

    fn with_shown(&self, change: impl FnOnce(&mut Shown)) {
        if self.keeps_attributes()
            && let Some(shown) = &mut self.0.write().shown
        {
            change(shown);
        }
    }

    /// Carries out what was staged for the name, if anything was. None where that is not to be,
    /// for the tree is frozen.
    fn carry_out<T>(
        &self,
        directory: Ino,
        name: &str,
        change: impl FnOnce(&mut Tree) -> T,
    ) -> Option<T> {
        let mut state = self.0.write();
        let is_staged =
            |tree: &Tree| Name::parse(name).is_ok_and(|name| tree.is_staged(directory, &name));
        if state.is_frozen() && is_staged(&state.tree) {
            return None;
        }
        Some(state.with_tree(change))
    }
}

impl State {
    fn is_frozen(&self) -> bool {
        self.recording
            .as_ref()
            .is_some_and(|recording| recording.frozen)
    }

    /// What the file at this path shows.
    fn origin_of(&self, path: &FilePath) -> Option<Origin> {
        let ino = self.tree.find(path)?;
        self.shown.as_ref()?.get(ino).cloned()
    }

    /// A file shows this from now on, and a successor knows.
    fn set_origin(&mut self, ino: Ino, origin: Origin) {
        let is_file = |attr: Attr| attr.kind == Kind::File;
        let Some(shown) = &mut self.shown else {
            return;
        };
        if !self.tree.attr(ino).is_some_and(is_file) || shown.get(ino) == Some(&origin) {
            return;
        }
        shown.set(ino, origin.clone());
        if let Some(recording) = &mut self.recording {
            recording.append(&[Entry::Shows { ino, origin }]);
        }
    }

    /// Does something to the tree, and records what came of it.
    fn with_tree<T>(&mut self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let result = change(&mut self.tree);
        self.write_down();
        result
    }

    /// Records what became true; while frozen the tree keeps that in mind.
    fn write_down(&mut self) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        if recording.frozen {
            return;
        }
        let facts = self.tree.take_facts();
        for fact in &facts {
            if let Fact::Freed { ino } = fact {
                recording.waiting.remove(ino);
                if let Some(shown) = &mut self.shown {
                    shown.forget(*ino);
                }
            }
            memory::note(&self.residents, fact);
        }
        if !facts.is_empty() {
            let facts: Vec<_> = facts.into_iter().map(Entry::Tree).collect();
            recording.append(&facts);
        }
    }
}

impl Recording {
    fn new(record: Record, known: Known) -> Self {
        Self {
            record,
            known,
            waiting: HashMap::new(),
            frozen: false,
        }
    }

    fn waiting_entries(&self) -> Vec<Entry> {
        let all = self.waiting.iter();
        all.flat_map(|(ino, handles)| {
            handles.iter().map(|handle| Entry::Waiting {
                ino: *ino,
                handle: *handle,
            })
        })
        .collect()
    }

    /// Once the record is void, the mount goes on without it, until it is written anew.
    fn append(&mut self, entries: &[Entry]) {
        if self.record.is_void() {
            return;
        }
        if let Err(err) = self.record.append(entries) {
            log::error!(
                "the record cannot be written, so for now the mount cannot outlive this server: \
                 {err}"
            );
        }
    }
}
