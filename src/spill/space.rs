//! Which parts of a file are free.
//!
//! What is free is as large as can be: no two free parts touch, and none touches the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The unit in which a disk takes space back, in bytes; where its blocks are larger, less comes
/// back.
const BLOCK: u64 = 4096;

/// Where bytes lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
}

/// The free parts of a file.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// By where they start, how long they are.
    free: BTreeMap<u64, u64>,
    /// The same by length, and where they start.
    by_length: BTreeSet<(u64, u64)>,
    /// From there on nothing is in use.
    end: u64,
    n_in_use: u64,
    /// In which free parts something was in use lately.
    fresh: BTreeSet<u64>,
}

impl Stretch {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.n_bytes
    }
}

impl Space {
    /// The space around these, of which some may come twice. None where they overlap.
    pub(super) fn around(mut in_use: Vec<Stretch>) -> Option<Self> {
        in_use.sort_unstable();
        in_use.dedup();
        let mut space = Self::default();
        for stretch in in_use {
            let end = stretch.offset.checked_add(stretch.n_bytes)?;
            if stretch.offset < space.end {
                return None;
            }
            let gap = stretch.offset - space.end;
            if gap > 0 {
                space.insert(space.end, gap);
                space.fresh.insert(space.end);
            }
            space.end = end;
            space.n_in_use += stretch.n_bytes;
        }
        Some(space)
    }

    /// A part that was free and is in use from now on: the shortest that does.
    pub(super) fn take(&mut self, n_bytes: u64) -> Stretch {
        self.n_in_use += n_bytes;
        let found = self.by_length.range((n_bytes, 0)..).next().copied();
        let offset = match found {
            Some((length, offset)) => {
                self.remove(offset, length);
                let was_fresh = self.fresh.remove(&offset);
                if length > n_bytes {
                    self.insert(offset + n_bytes, length - n_bytes);
                    if was_fresh {
                        self.fresh.insert(offset + n_bytes);
                    }
                }
                offset
            }
            None => {
                let offset = self.end;
                self.end += n_bytes;
                offset
            }
        };
        Stretch { offset, n_bytes }
    }

    /// It is free from now on.
    pub(super) fn free(&mut self, stretch: Stretch) {
        self.n_in_use -= stretch.n_bytes;
        if stretch.n_bytes == 0 {
            return;
        }
        let (mut start, mut end) = (stretch.offset, stretch.end());
        let before = self.free.range(..start).next_back();
        if let Some((offset, length)) = before.map(|(offset, length)| (*offset, *length))
            && offset + length == start
        {
            self.remove(offset, length);
            self.fresh.remove(&offset);
            start = offset;
        }
        if let Some(length) = self.free.get(&end).copied() {
            self.remove(end, length);
            self.fresh.remove(&end);
            end += length;
        }
        if end == self.end {
            self.end = start;
        } else {
            self.insert(start, end - start);
            self.fresh.insert(start);
        }
    }

    /// The whole blocks that are free since this was last asked, and some that are for longer; and
    /// where the file can be cut off.
    pub(super) fn freed(&mut self) -> (Vec<Range<u64>>, u64) {
        let fresh = std::mem::take(&mut self.fresh).into_iter();
        let ranges = fresh.filter_map(|start| {
            let end = start + self.free.get(&start)?;
            let range = start.next_multiple_of(BLOCK)..end / BLOCK * BLOCK;
            (range.start < range.end).then_some(range)
        });
        (ranges.collect(), self.end)
    }

    pub(super) fn n_in_use(&self) -> u64 {
        self.n_in_use
    }

    fn insert(&mut self, offset: u64, length: u64) {
        self.free.insert(offset, length);
        self.by_length.insert((length, offset));
    }

    fn remove(&mut self, offset: u64, length: u64) {
        self.free.remove(&offset);
        self.by_length.remove(&(length, offset));
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    use super::*;

    #[test]
    fn neighbours_become_one_and_the_end_goes_back() {
        let mut space = Space::default();
        let all: Vec<_> = [5000, 5000, 5000, 10].map(|n| space.take(n)).into();
        space.free(all[0]);
        assert_eq!(space.freed(), (vec![0..4096], 15_010));
        space.free(all[1]);
        assert_eq!(space.freed(), (vec![0..8192], 15_010));
        assert_eq!(space.freed(), (vec![], 15_010));
        assert_eq!(space.take(6000).offset, 0);
        space.free(all[3]);
        assert_eq!(space.freed(), (vec![], 15_000));
        space.free(all[2]);
        assert_eq!(space.freed().1, 6000);
        assert_eq!(space.n_in_use(), 6000);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
                "tests/proptest-regressions/space.txt",
            ))),
            ..ProptestConfig::default()
        })]

        /// Nothing is given twice, and nothing is lost.
        #[test]
        fn space_is_what_is_left(steps in prop::collection::vec((any::<bool>(), 1..9_u64), 1..200)) {
            let mut space = Space::default();
            let mut in_use: Vec<Stretch> = Vec::new();
            for (takes, n) in steps {
                if takes || in_use.is_empty() {
                    let taken = space.take(n * 1000);
                    let overlaps = |other: &Stretch| {
                        taken.offset < other.end() && other.offset < taken.end()
                    };
                    prop_assert!(!in_use.iter().any(overlaps));
                    in_use.push(taken);
                } else {
                    space.free(in_use.swap_remove(n as usize % in_use.len()));
                }
                let n_bytes: u64 = in_use.iter().map(|stretch| stretch.n_bytes).sum();
                prop_assert_eq!(space.n_in_use(), n_bytes);
                let n_free: u64 = space.free.values().sum();
                prop_assert_eq!(n_free + n_bytes, space.end);
                let end = in_use.iter().map(Stretch::end).max().unwrap_or(0);
                prop_assert_eq!(space.end, end);
                let around = Space::around(in_use.clone()).unwrap();
                prop_assert_eq!(&around.free, &space.free);
                prop_assert_eq!(&around.by_length, &space.by_length);
                for start in &space.fresh {
                    prop_assert!(space.free.contains_key(start));
                }
            }
        }
    }
}
