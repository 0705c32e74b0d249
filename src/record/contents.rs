//! Where the contents lie in the memory of the record, and which pages of it nobody needs.
//!
//! Contents are put one after the other and share pages. A page that one content fills is its own;
//! of every other page it is counted how many contents in use have bytes in it, so that the page
//! can be given back with the last of them.

use std::collections::HashMap;
use std::ops::Range;

use crate::tree::Ino;

/// The unit in which memory is given back, in bytes; where the pages of the system are larger,
/// less is given back.
const PAGE: u64 = 4096;

/// Where a content lies, in bytes from the start of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) n_bytes: u64,
}

/// The extents of the contents in use.
#[derive(Default)]
pub(super) struct Contents {
    in_use: HashMap<Ino, Extent>,
    /// By number of the page: how many contents in use have bytes in it, but do not fill it.
    n_sharing: HashMap<u64, u32>,
    /// Where the next content is put.
    end: u64,
    /// Of all contents in use.
    n_bytes: u64,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.n_bytes
    }

    /// The pages that it has bytes in.
    fn pages(&self) -> Range<u64> {
        if self.n_bytes == 0 {
            return 0..0;
        }
        self.offset / PAGE..self.end().div_ceil(PAGE)
    }

    fn fills(&self, page: u64) -> bool {
        self.offset <= page * PAGE && self.end() >= (page + 1) * PAGE
    }

    /// The pages that it has bytes in and does not fill: the first and the last at most.
    fn shared_pages(&self) -> impl Iterator<Item = u64> + use<> {
        let (extent, pages) = (*self, self.pages());
        let last = pages.end.saturating_sub(1);
        let ends = [pages.start, last];
        let n_ends = match pages.end - pages.start {
            0 => 0,
            1 => 1,
            _ => 2,
        };
        ends.into_iter()
            .take(n_ends)
            .filter(move |page| !extent.fills(*page))
    }
}

impl Contents {
    /// Finds a place for the content of a new file.
    pub(super) fn place(&mut self, ino: Ino, n_bytes: u64) -> Extent {
        let extent = Extent {
            offset: self.end,
            n_bytes,
        };
        self.insert(ino, extent);
        extent
    }

    /// The content of a new file lies there. There must not be one of the same number.
    pub(super) fn insert(&mut self, ino: Ino, extent: Extent) {
        self.end = self.end.max(extent.end());
        self.n_bytes += extent.n_bytes;
        for page in extent.shared_pages() {
            *self.n_sharing.entry(page).or_default() += 1;
        }
        self.in_use.insert(ino, extent);
    }

    /// The inode is no more. Gives the bytes, whole pages, that nobody needs since.
    pub(super) fn free(&mut self, ino: Ino) -> Option<Range<u64>> {
        let extent = self.in_use.remove(&ino)?;
        self.n_bytes -= extent.n_bytes;
        let mut pages = extent.pages();
        for page in extent.shared_pages() {
            let n = self.n_sharing.entry(page).or_default();
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.n_sharing.remove(&page);
            } else if page == pages.start {
                pages.start += 1;
            } else {
                pages.end -= 1;
            }
        }
        (!pages.is_empty()).then(|| pages.start * PAGE..pages.end * PAGE)
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Extent> {
        self.in_use.get(&ino).copied()
    }

    /// How many bytes the contents in use have.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The start of the pages in which no content lies.
    pub(super) fn unused_from(&self) -> u64 {
        self.end.next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_with_the_last_content_in_it() {
        let mut contents = Contents::default();
        // 0 and 1 share the first page; 1 and 2 the third; 2 fills the fourth.
        contents.place(Ino(20), 1000);
        contents.place(Ino(21), 2 * PAGE);
        contents.place(Ino(22), 2 * PAGE - 1000);
        assert_eq!(contents.free(Ino(21)), Some(PAGE..2 * PAGE));
        assert_eq!(contents.free(Ino(20)), Some(0..PAGE));
        assert_eq!(contents.free(Ino(22)), Some(2 * PAGE..4 * PAGE));
        assert_eq!(contents.free(Ino(22)), None);
        assert!(contents.n_sharing.is_empty());
        assert_eq!(contents.n_bytes(), 0);
    }

    #[test]
    fn nothing_takes_no_page() {
        let mut contents = Contents::default();
        contents.place(Ino(20), 10);
        contents.place(Ino(21), 0);
        assert_eq!(contents.free(Ino(21)), None);
        assert_eq!(contents.free(Ino(20)), Some(0..PAGE));
    }
}
