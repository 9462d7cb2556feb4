//! Renames of which one half was told: the kernel tells of the old name first, and of the new one when it gets to that, which may be after
//! any barrier. Until then the file is at neither place, as far as was told, and it was nowhere at no instant.
//!
//! The new name may be one that nobody watches. Then its half never comes, and after a while it is not waited for any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::words::path::RelPath;

/// In this time, from setting change times on, a call has told of all names that it changed. It takes microseconds, but for a writer that loses
/// its processor meanwhile. A cut has more patience than that, so that what moved to where nobody watches makes none unproven.
pub const TELLING: Duration = Duration::from_millis(150);
/// So many halves are kept.
const HALVES_CAP: usize = 10_000;

/// Halves of renames, by the kernel's number of each.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Where something moved from, and when that was first asked for.
    left: BTreeMap<u32, (RelPath, Option<Duration>)>,
    /// New names whose old ones are told by another queue, which may be delivered later; or never, if nobody watches them.
    arrived: BTreeSet<u32>,
}

impl Moves {
    /// Something moved from `path`. False if there are too many of them to be kept.
    pub(super) fn left(&mut self, cookie: u32, path: &RelPath) -> bool {
        if self.arrived.remove(&cookie) {
            return true;
        }
        let has_room = self.left.len() < HALVES_CAP;
        if has_room {
            self.left.insert(cookie, (path.clone(), None));
        }
        has_room
    }

    /// Something moved to a path that is watched.
    pub(super) fn arrived(&mut self, cookie: u32) {
        if self.left.remove(&cookie).is_none() {
            self.arrived.insert(cookie);
            if self.arrived.len() > HALVES_CAP {
                self.arrived.pop_first();
            }
        }
    }

    /// The paths from which something moved, to where is not told yet. `now` is by the monotonic clock.
    pub(super) fn halves(&mut self, now: Duration) -> BTreeSet<RelPath> {
        self.left.retain(|_, (_, since)| now.saturating_sub(*since.get_or_insert(now)) < TELLING);
        self.left.values().map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_is_waited_for_until_the_other_comes_or_for_a_while() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let mut moves = Moves::default();
        assert!(moves.left(1, &path("a")) && moves.left(2, &path("b")));
        moves.arrived(2);
        // Told by another queue, the new name first.
        moves.arrived(3);
        assert!(moves.left(3, &path("c")));
        let at = Duration::from_secs(100);
        assert_eq!(moves.halves(at), BTreeSet::from([path("a")]));
        assert_eq!(moves.halves(at + TELLING / 2), BTreeSet::from([path("a")]));
        assert_eq!(moves.halves(at + TELLING), BTreeSet::new());
    }
}
