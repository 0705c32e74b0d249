//! Any bytes as what happens to a tree.

use livedata::path::FilePath;
use livedata::tree::{Change, Ownership};

use super::twin::{self, Step, Way, at};

/// The most that happens: the twin is slow.
const MOST: usize = 200;

/// Does what the bytes say to a tree and to its twin.
pub fn tree(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut steps = Vec::new();
    while steps.len() < MOST && !bytes.0.is_empty() {
        steps.push(bytes.step());
    }
    twin::run(&steps);
}

/// Where there are no more, they are 0.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn step(&mut self) -> Step {
        match self.next() % 16 {
            0 => Step::TakeOver(self.next().is_multiple_of(2)),
            1..4 => Step::Walk(self.path()),
            4 => Step::List(self.path(), 1 + usize::from(self.next() % 3), self.change()),
            5 | 6 => Step::Forget(self.next().into(), 1 + u64::from(self.next() % 2)),
            7 => Step::Tick(i64::from(self.next()) - 100),
            _ => Step::Change(self.change(), self.way()),
        }
    }

    fn way(&mut self) -> Way {
        match self.next() % 3 {
            0 => Way::AtOnce,
            1 => Way::ByTheKernel,
            _ => Way::Settled,
        }
    }

    fn change(&mut self) -> Change {
        let (what, path) = (self.next() % 16, self.path());
        match what {
            0..6 => Change::Put {
                path,
                ownership: self.ownership(),
                content: vec![self.next(); usize::from(self.next() % 3)][..].into(),
            },
            6 => Change::Recall {
                path,
                ownership: self.ownership(),
                content: (&b"recalled"[..]).into(),
                mtime: at(u64::from(self.next()) * 8),
            },
            7 | 8 => Change::Break { path },
            9..12 => Change::Remove { path },
            12 => Change::Confirm { path },
            13 | 14 => Change::MakeDirectory {
                path,
                ownership: (self.next().is_multiple_of(2)).then(|| self.ownership()),
            },
            _ => Change::RemoveDirectory { path },
        }
    }

    fn ownership(&mut self) -> Ownership {
        let mode = [0o400, 0o440, 0o500, 0o750][usize::from(self.next() % 4)];
        Ownership {
            uid: 1,
            gid: 2,
            mode,
        }
    }

    /// Few and short, so that they meet.
    fn path(&mut self) -> FilePath {
        let names: Vec<_> = (0..1 + self.next() % 3)
            .map(|_| ["a", "b"][usize::from(self.next() % 2)])
            .collect();
        FilePath::parse(&names.join("/")).expect("short names are right")
    }
}
