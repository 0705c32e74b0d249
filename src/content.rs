//! The bytes of a file, which never change, wherever they lie.
//!
//! They come from ZooKeeper in memory of their own. Once they are on record they need to lie
//! nowhere else, so the record lets all who hold them see its copy, and the first is let go.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// The bytes of a file. Cloning is cheap, and all clones move together; equal are those with equal
/// bytes.
#[derive(Clone)]
pub struct Content(Arc<Mutex<Bytes>>);

/// The bytes of a [`Content`], which stay where they are while this lives.
#[derive(Clone)]
pub struct Bytes(Place);

#[derive(Clone)]
enum Place {
    Heap(Arc<[u8]>),
    Elsewhere(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl Content {
    /// Bytes that somebody keeps as long as this, or a clone, is there.
    pub(crate) fn kept(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Self::new(Place::Elsewhere(bytes))
    }

    /// The same bytes lie here from now on, for all clones.
    pub(crate) fn move_to(&self, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) {
        // The old ones go after the lock: whoever kept them is told.
        let _old = std::mem::replace(&mut *self.0.lock(), Bytes(Place::Elsewhere(bytes)));
    }

    /// The bytes.
    pub fn bytes(&self) -> Bytes {
        self.0.lock().clone()
    }

    /// How many there are.
    pub fn n_bytes(&self) -> usize {
        self.0.lock().len()
    }

    fn new(place: Place) -> Self {
        Self(Arc::new(Mutex::new(Bytes(place))))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Heap(bytes) => bytes,
            Place::Elsewhere(bytes) => (**bytes).as_ref(),
        }
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::new(Place::Heap(bytes.into()))
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.bytes() == other.bytes()
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
        self.bytes().fmt(f)
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

    #[test]
    fn all_clones_move_together_and_what_is_held_stays() {
        let content = Content::from(b"bytes".as_slice());
        let (other, held) = (content.clone(), content.bytes());
        let there: Arc<[u8]> = Arc::from(b"bytes".as_slice());
        let there: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(there);
        content.move_to(Arc::clone(&there));
        assert_eq!(Arc::strong_count(&there), 2);
        assert_eq!(*other.bytes(), *b"bytes");
        assert_eq!(*held, *b"bytes");
        assert_eq!(other, Content::from(b"bytes".as_slice()));
        assert_ne!(other, Content::from(b"byte".as_slice()));
        drop((content, other));
        assert_eq!(Arc::strong_count(&there), 1);
    }
}
