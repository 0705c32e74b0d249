//! The bytes of a file, which never change, wherever they lie.
//!
//! They come from ZooKeeper in memory of their own. Once they are on record they need to lie
//! nowhere else, so the record lets all who hold them see its copy, and the first is let go. Those
//! of which memory need not hold a copy may come to lie on disk later on.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::spill::Spilled;

/// The bytes of a file. Cloning is cheap, and all clones move together; equal are those with equal
/// bytes.
///
/// To compare them does not touch the disk. One that could not be read from there is equal to
/// nothing but its clones: whatever it is compared with is to take its place.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    is_droppable: bool,
    /// It lies on disk, and could not be read when it was last tried.
    failed: AtomicBool,
    place: Mutex<Place>,
}

/// The bytes of a [`Content`], which stay where they are while this lives.
#[derive(Clone)]
pub struct Bytes(InMemory);

#[derive(Clone)]
enum InMemory {
    Heap(Arc<[u8]>),
    Elsewhere(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    Disk(Arc<Spilled>),
}

impl Content {
    /// Bytes of which memory need not hold a copy for ever; see [`crate::spilling`].
    pub fn droppable(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::new(true, Place::Memory(Bytes(InMemory::Heap(bytes.into()))))
    }

    /// Bytes that somebody keeps as long as this, or a clone, is there.
    pub(crate) fn kept(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>, is_droppable: bool) -> Self {
        Self::new(
            is_droppable,
            Place::Memory(Bytes(InMemory::Elsewhere(bytes))),
        )
    }

    /// The same bytes lie here from now on, for all clones.
    pub(crate) fn move_to(&self, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) {
        self.move_into(Place::Memory(Bytes(InMemory::Elsewhere(bytes))));
    }

    /// The same bytes lie on disk from now on, for all clones.
    pub(crate) fn move_to_disk(&self, spilled: Arc<Spilled>) {
        self.move_into(Place::Disk(spilled));
    }

    fn move_into(&self, place: Place) {
        // The old one goes after the lock: whoever kept the bytes is told.
        let _old = std::mem::replace(&mut *self.0.place.lock(), place);
    }

    /// The bytes. Waits for the disk where they lie there, and fails where they cannot be read; so
    /// not under a lock, nor where nobody may wait.
    pub fn bytes(&self) -> io::Result<Bytes> {
        let spilled = match self.place() {
            Place::Memory(bytes) => return Ok(bytes),
            Place::Disk(spilled) => spilled,
        };
        let read = spilled.read();
        self.0.failed.store(read.is_err(), Ordering::Relaxed);
        read.map(|bytes| Bytes(InMemory::Heap(bytes)))
    }

    /// The bytes, unless they lie on disk.
    pub fn in_memory(&self) -> Option<Bytes> {
        match self.place() {
            Place::Memory(bytes) => Some(bytes),
            Place::Disk(_) => None,
        }
    }

    /// Where the bytes lie on disk, if they do.
    pub(crate) fn on_disk(&self) -> Option<Arc<Spilled>> {
        match self.place() {
            Place::Memory(_) => None,
            Place::Disk(spilled) => Some(spilled),
        }
    }

    /// How many there are.
    pub fn n_bytes(&self) -> usize {
        match &*self.0.place.lock() {
            Place::Memory(bytes) => bytes.len(),
            Place::Disk(spilled) => spilled.n_bytes(),
        }
    }

    /// Whether memory need not hold a copy for ever.
    pub fn is_droppable(&self) -> bool {
        self.0.is_droppable
    }

    /// Whether the bytes lie on disk, and could not be read, or can never be; so that they are to
    /// be had anew.
    pub fn is_lost(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
            || matches!(&*self.0.place.lock(), Place::Disk(spilled) if !spilled.is_there())
    }

    fn place(&self) -> Place {
        self.0.place.lock().clone()
    }

    fn new(is_droppable: bool, place: Place) -> Self {
        Self(Arc::new(Inner {
            is_droppable,
            failed: AtomicBool::new(false),
            place: Mutex::new(place),
        }))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            InMemory::Heap(bytes) => bytes,
            InMemory::Elsewhere(bytes) => (**bytes).as_ref(),
        }
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::new(false, Place::Memory(Bytes(InMemory::Heap(bytes.into()))))
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        if self.is_lost() || other.is_lost() {
            return false;
        }
        match (self.place(), other.place()) {
            (Place::Memory(one), Place::Memory(other)) => one == other,
            (Place::Memory(bytes), Place::Disk(spilled))
            | (Place::Disk(spilled), Place::Memory(bytes)) => spilled.holds(&bytes),
            (Place::Disk(one), Place::Disk(other)) => one.is_same(&other),
        }
    }
}

impl Eq for Content {}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Place::Memory(bytes) => bytes.fmt(f),
            Place::Disk(spilled) => spilled.fmt(f),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, n_more) = (&self[..self.len().min(32)], self.len().saturating_sub(32));
        write!(f, "{:?}", start.escape_ascii().to_string())?;
        match n_more {
            0 => Ok(()),
            n => write!(f, " and {n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::Spill;

    #[test]
    fn all_clones_move_together_and_what_is_held_stays() {
        let content = Content::from(b"bytes".as_slice());
        let (other, held) = (content.clone(), content.bytes().unwrap());
        let there: Arc<[u8]> = Arc::from(b"bytes".as_slice());
        let there: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(there);
        content.move_to(Arc::clone(&there));
        assert_eq!(Arc::strong_count(&there), 2);
        assert_eq!(*other.bytes().unwrap(), *b"bytes");
        assert_eq!(*held, *b"bytes");
        assert_eq!(other, Content::from(b"bytes".as_slice()));
        assert_ne!(other, Content::from(b"byte".as_slice()));
        drop((content, other));
        assert_eq!(Arc::strong_count(&there), 1);
    }

    #[test]
    fn what_lies_on_disk_is_compared_without_it() {
        use std::os::unix::fs::FileExt;

        let file = tempfile::tempfile().unwrap();
        let spill = Spill::new(file.try_clone().unwrap());
        let on_disk = |bytes: &[u8]| {
            let content = Content::droppable(bytes);
            let spilled = spill.write([bytes]).unwrap().remove(0);
            content.move_to_disk(spilled);
            content
        };
        let (one, same, other) = (on_disk(b"one"), on_disk(b"one"), on_disk(b"two"));
        assert_eq!(*one.bytes().unwrap(), *b"one");
        file.write_all_at(&[0; 9], 0).unwrap();
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one, Content::from(b"one".as_slice()));
        assert_ne!(Content::from(b"two".as_slice()), one);
        assert_eq!((one.n_bytes(), one.in_memory()), (3, None));
        // Once it could not be read, the same bytes are something else; until they can be.
        assert!(one.bytes().is_err() && one.is_lost());
        assert_ne!(one, Content::from(b"one".as_slice()));
        assert_eq!(one, one.clone());
        file.write_all_at(b"one", 0).unwrap();
        assert!(one.bytes().is_ok() && !one.is_lost());
        assert_eq!(one, same);
    }
}
