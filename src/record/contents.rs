//! Where the contents lie in the memory of the record, and which pages of it nobody needs.
//!
//! Contents are put one after the other and share pages. They are read where they lie, through
//! windows on the memory, so a page is needed while a content with bytes in it is on record, or
//! while somebody still holds one. A page that one content fills is its own; of every other page it
//! is counted how many contents have bytes in it, so that the page can be given back with the last
//! of them.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::numbers::ByNumber;
use crate::sys::Mapping;
use crate::tree::Ino;

/// The unit in which memory is given back, in bytes; where the pages of the system are larger,
/// less is given back.
const PAGE: u64 = 4096;

/// What is mapped together, in bytes. It takes addresses, not memory.
const WINDOW: u64 = 64 << 20;

/// Where a content lies, in bytes from the start of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) n_bytes: u64,
}

/// A content where it lies. The record holds one for each content in use, and so may everybody
/// else; the last to let go says so.
pub(super) struct Stretch {
    extent: Extent,
    /// None for no bytes, and where it could not be mapped.
    window: Option<Arc<Window>>,
    left: Arc<Mutex<Vec<Extent>>>,
}

/// A part of the memory that is mapped.
struct Window {
    start: u64,
    mapping: Mapping,
}

/// The contents in use, and the pages that are needed for them and for those that are held.
#[derive(Default)]
pub(super) struct Contents {
    in_use: ByNumber<Ino, Arc<Stretch>>,
    /// By number of the page: how many contents have bytes in it, but do not fill it.
    n_sharing: ByNumber<u64, u32>,
    /// By where they start.
    windows: ByNumber<u64, Weak<Window>>,
    /// Those that nobody holds any more, and whose pages are still counted.
    left: Arc<Mutex<Vec<Extent>>>,
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

impl Stretch {
    /// Whether its bytes can be had; those of none always can.
    pub(super) fn is_mapped(&self) -> bool {
        self.window.is_some() || self.extent.n_bytes == 0
    }
}

impl AsRef<[u8]> for Stretch {
    fn as_ref(&self) -> &[u8] {
        let Some(window) = &self.window else {
            return &[];
        };
        let start = (self.extent.offset - window.start) as usize;
        window
            .mapping
            .bytes(start..start + self.extent.n_bytes as usize)
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        self.left.lock().push(self.extent);
    }
}

impl Contents {
    /// Where the next content is to be put. None crosses from one window to the next that fits in
    /// one.
    pub(super) fn place(&self, n_bytes: u64) -> Extent {
        let next_window = self.end.next_multiple_of(WINDOW);
        let offset = match self.end + n_bytes > next_window {
            true => next_window,
            false => self.end,
        };
        Extent { offset, n_bytes }
    }

    /// The content of a new file lies there, in `memory`. There must not be one of the same number.
    pub(super) fn insert(&mut self, memory: impl AsFd, ino: Ino, extent: Extent) -> Arc<Stretch> {
        self.end = self.end.max(extent.end());
        self.n_bytes += extent.n_bytes;
        for page in extent.shared_pages() {
            *self.n_sharing.entry(page).or_default() += 1;
        }
        let stretch = Arc::new(Stretch {
            extent,
            window: self.window(memory, extent),
            left: Arc::clone(&self.left),
        });
        self.in_use.insert(ino, Arc::clone(&stretch));
        stretch
    }

    /// The inode is no more.
    pub(super) fn free(&mut self, ino: Ino) {
        if let Some(stretch) = self.in_use.remove(&ino) {
            self.n_bytes -= stretch.extent.n_bytes;
        }
    }

    /// The bytes, whole pages, that nobody needs since this was last asked.
    pub(super) fn unused(&mut self) -> Vec<Range<u64>> {
        let left = std::mem::take(&mut *self.left.lock());
        let mut unused: Vec<Range<u64>> = Vec::new();
        for extent in left {
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
            if pages.is_empty() {
                continue;
            }
            let range = pages.start * PAGE..pages.end * PAGE;
            match unused.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                Some(_) | None => unused.push(range),
            }
        }
        unused
    }

    pub(super) fn get(&self, ino: Ino) -> Option<&Arc<Stretch>> {
        self.in_use.get(&ino)
    }

    /// How many bytes the contents in use have.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The start of the pages in which no content lies.
    pub(super) fn unused_from(&self) -> u64 {
        self.end.next_multiple_of(PAGE)
    }

    /// The window that the content lies in.
    fn window(&mut self, memory: impl AsFd, extent: Extent) -> Option<Arc<Window>> {
        if extent.n_bytes == 0 {
            return None;
        }
        let start = extent.offset / WINDOW * WINDOW;
        let is_alone = extent.end() > start + WINDOW;
        let known = self.windows.get(&start).filter(|_| !is_alone);
        if let Some(window) = known.and_then(Weak::upgrade) {
            return Some(window);
        }
        let n_bytes = WINDOW.max(extent.end() - start);
        let mapped = usize::try_from(n_bytes)
            .map_err(std::io::Error::other)
            .and_then(|n_bytes| Mapping::new(memory, start, n_bytes, false));
        match mapped {
            Ok(mapping) => {
                let window = Arc::new(Window { start, mapping });
                if !is_alone {
                    self.windows.insert(start, Arc::downgrade(&window));
                }
                Some(window)
            }
            Err(err) => {
                log::debug!("the record cannot be mapped: {err}");
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use std::fs::File;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn memory() -> File {
        let memory = File::from(memfd_create("contents", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(4 * WINDOW).unwrap();
        memory
    }

    fn put(contents: &mut Contents, memory: &File, ino: u64, n_bytes: u64) -> Arc<Stretch> {
        let extent = contents.place(n_bytes);
        contents.insert(memory, Ino(ino), extent)
    }

    fn free(contents: &mut Contents, ino: u64) -> Vec<(u64, u64)> {
        contents.free(Ino(ino));
        unused(contents)
    }

    /// The first and the last page of each range.
    fn unused(contents: &mut Contents) -> Vec<(u64, u64)> {
        let ranges = contents.unused().into_iter();
        ranges
            .map(|Range { start, end }| (start / PAGE, end / PAGE - 1))
            .collect()
    }

    #[test]
    fn a_page_goes_with_the_last_content_in_it() {
        let (mut contents, memory) = (Contents::default(), memory());
        // 0 and 1 share the first page; 1 and 2 the third; 2 fills the fourth.
        put(&mut contents, &memory, 20, 1000);
        put(&mut contents, &memory, 21, 2 * PAGE);
        put(&mut contents, &memory, 22, 2 * PAGE - 1000);
        assert_eq!(free(&mut contents, 21), [(1, 1)]);
        assert_eq!(free(&mut contents, 20), [(0, 0)]);
        assert_eq!(free(&mut contents, 22), [(2, 3)]);
        assert_eq!(free(&mut contents, 22), []);
        assert!(contents.n_sharing.is_empty());
        assert_eq!(contents.n_bytes(), 0);
    }

    #[test]
    fn nothing_takes_no_page() {
        let (mut contents, memory) = (Contents::default(), memory());
        put(&mut contents, &memory, 20, 10);
        let nothing = put(&mut contents, &memory, 21, 0);
        assert!(nothing.is_mapped() && (*nothing).as_ref().is_empty());
        drop(nothing);
        assert_eq!(free(&mut contents, 21), []);
        assert_eq!(free(&mut contents, 20), [(0, 0)]);
    }

    #[test]
    fn what_somebody_holds_stays() {
        let (mut contents, memory) = (Contents::default(), memory());
        let held = put(&mut contents, &memory, 20, 10);
        assert_eq!(free(&mut contents, 20), []);
        assert_eq!(contents.n_bytes(), 0);
        drop(held);
        assert_eq!(unused(&mut contents), [(0, 0)]);
    }

    #[test]
    fn neighbours_go_together() {
        let (mut contents, memory) = (Contents::default(), memory());
        for ino in 20..23 {
            put(&mut contents, &memory, ino, PAGE);
        }
        for ino in 20..23 {
            contents.free(Ino(ino));
        }
        assert_eq!(unused(&mut contents), [(0, 2)]);
    }

    #[test]
    fn a_content_lies_in_one_window() {
        use std::os::unix::fs::FileExt;

        let (mut contents, memory) = (Contents::default(), memory());
        put(&mut contents, &memory, 20, WINDOW - 5);
        let next = contents.place(10);
        assert_eq!(next.offset, WINDOW);
        memory.write_all_at(b"0123456789", next.offset).unwrap();
        let next = contents.insert(&memory, Ino(21), next);
        let same = put(&mut contents, &memory, 22, 10);
        assert_eq!((*next).as_ref(), b"0123456789");
        let (one, other) = (next.window.as_ref().unwrap(), same.window.as_ref().unwrap());
        assert!(Arc::ptr_eq(one, other));
        // One that is longer than a window has one of its own.
        let long = contents.place(WINDOW + 1);
        assert_eq!(long.offset, 2 * WINDOW);
        let end = long.end() - 3;
        memory.write_all_at(b"end", end).unwrap();
        let long = contents.insert(&memory, Ino(23), long);
        assert!((*long).as_ref().ends_with(b"end"));
        // Wherever another program has put one.
        let across = Extent {
            offset: WINDOW - 4,
            n_bytes: 8,
        };
        let across = contents.insert(&memory, Ino(24), across);
        assert_eq!((*across).as_ref(), b"\0\0\0\x000123");
    }
}
