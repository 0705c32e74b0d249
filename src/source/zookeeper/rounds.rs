//! Which server is tried next, and whether one without a quorum will do.

use parking_lot::Mutex;

/// Rounds over the hosts: each asks all of them to be served by a quorum first, and then, where that
/// is allowed, to be served at all.
pub(super) struct Rounds {
    n_hosts: usize,
    read_only: bool,
    next: Mutex<Next>,
}

/// Where a round stands.
struct Next {
    /// The host that it began at.
    first: usize,
    n_tried: usize,
}

impl Rounds {
    pub(super) fn new(n_hosts: usize, read_only: bool) -> Self {
        let next = Mutex::new(Next {
            first: 0,
            n_tried: 0,
        });
        Self {
            n_hosts,
            read_only,
            next,
        }
    }

    /// How many attempts a round has.
    pub(super) fn n_attempts(&self) -> usize {
        match self.read_only {
            true => 2 * self.n_hosts,
            false => self.n_hosts,
        }
    }

    /// The host to try, and whether it may be read-only.
    pub(super) fn next(&self) -> (usize, bool) {
        let mut next = self.next.lock();
        let n_tried = next.n_tried;
        next.n_tried = (n_tried + 1) % self.n_attempts();
        (
            (next.first + n_tried) % self.n_hosts,
            n_tried >= self.n_hosts,
        )
    }

    /// The host served: what comes after it is a round of its own, from the next host on.
    pub(super) fn served(&self, host: usize) {
        *self.next.lock() = Next {
            first: host + 1,
            n_tried: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(rounds: &Rounds, n: usize) -> Vec<(usize, bool)> {
        (0..n).map(|_| rounds.next()).collect()
    }

    #[test]
    fn a_quorum_is_asked_for_first() {
        let rounds = Rounds::new(2, true);
        let round = [(0, false), (1, false), (0, true), (1, true)];
        assert_eq!(rounds.n_attempts(), round.len());
        assert_eq!(some(&rounds, 4), round);
        assert_eq!(some(&rounds, 3), round[..3]);
        rounds.served(0);
        assert_eq!(
            some(&rounds, 5),
            [(1, false), (0, false), (1, true), (0, true), (1, false)]
        );
    }

    #[test]
    fn without_read_only_nobody_is_asked_for_less() {
        let rounds = Rounds::new(3, false);
        assert_eq!(rounds.n_attempts(), 3);
        assert!(some(&rounds, 7).iter().all(|(_, read_only)| !read_only));
        rounds.served(1);
        assert_eq!(rounds.next(), (2, false));
    }
}
