//! The content of a file that is about to be shown, put into the page cache before anybody asks.
//!
//! It is done when the kernel asks to rename the staged file. The kernel has looked that up for the
//! rename, so it knows the inode; and nobody can have it open yet, so there is no page of it whose
//! lock a reader may hold while he waits for us.

use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};

use crate::store::Reader;
use crate::tree::Ino;

/// Contents up to this many bytes are stored into the page cache before anybody asks. It is what
/// the kernel reads ahead: such a file would cost its first reader one request, while storing costs
/// every change a copy, read or not.
const STORE_LIMIT: usize = 128 << 10;

/// The way into the page cache, once there is one.
#[derive(Clone, Default)]
pub struct Ahead(Arc<OnceLock<Notifier>>);

impl Ahead {
    /// Contents go this way from now on.
    pub fn use_notifier(&self, notifier: Notifier) {
        // There is one connection for one file system.
        let _ = self.0.set(notifier);
    }

    /// Fills the page cache of an inode that is staged.
    pub(super) fn store(&self, tree: &Reader, ino: Ino) {
        // What is on disk already is not waited for.
        let (Some(notifier), Some(content)) = (
            self.0.get(),
            tree.content(ino).and_then(|content| content.in_memory()),
        ) else {
            return;
        };
        if content.is_empty() || content.len() > STORE_LIMIT {
            return;
        }
        if let Err(err) = notifier.store(INodeNo(ino.0), 0, &content) {
            log::debug!("the content of inode {} is not stored: {err}", ino.0);
        }
    }
}
