//! Renames of which one half was told: the kernel tells of the old name first, and of the new one when it gets to that, which may be after
//! any barrier. Until then the file is at neither place, as far as was told, and it was nowhere at no instant.
//!
//! The new name may be one that nobody watches. Then its half never comes, and after a while it is not waited for any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fleeting::Fresh;
use crate::words::path::RelPath;

/// In this time, from setting change times on, a call has told of all names that it changed. It takes microseconds, but for a writer that loses
/// its processor meanwhile. A cut has more patience than that, so that what moved to where nobody watches makes none unproven.
pub const TELLING: Duration = Duration::from_millis(150);
/// So many halves are kept.
const HALVES_CAP: usize = 10_000;

/// The half of a rename that was told.
#[derive(Debug)]
struct Half {
    from: RelPath,
    /// When it was first asked for.
    since: Option<Duration>,
    /// What moves, if it came only lately.
    fresh: Option<Fresh>,
}

/// Halves of renames, by the kernel's number of each.
#[derive(Debug, Default)]
pub(super) struct Moves {
    left: BTreeMap<u32, Half>,
    /// New names whose old ones are told by another queue, which may be delivered later; or never, if nobody watches them.
    arrived: BTreeSet<u32>,
}

impl Moves {
    /// Something moved from `path`; `fresh` is what is known of it, if it came only lately. False if there are too many of them to be kept, or if
    /// what was written under its new name, which was told first, may have been written to any file.
    pub(super) fn left(&mut self, cookie: u32, path: &RelPath, fresh: Option<Fresh>) -> bool {
        if self.arrived.remove(&cookie) {
            return !fresh.is_some_and(Fresh::is_any);
        }
        let has_room = self.left.len() < HALVES_CAP;
        if has_room {
            self.left.insert(cookie, Half { from: path.clone(), since: None, fresh });
        }
        has_room
    }

    /// Something moved to a path that is watched. `None` if from where was not told; else that, and what is known of it if it came only lately.
    pub(super) fn arrived(&mut self, cookie: u32) -> Option<(RelPath, Option<Fresh>)> {
        let half = self.left.remove(&cookie);
        if half.is_none() {
            self.arrived.insert(cookie);
            if self.arrived.len() > HALVES_CAP {
                self.arrived.pop_first();
            }
        }
        half.map(|half| (half.from, half.fresh))
    }

    /// The paths from which something moved, to where is not told yet.
    pub(super) fn halves(&self) -> BTreeSet<RelPath> {
        self.left.values().map(|half| half.from.clone()).collect()
    }

    /// Waits no longer for what nobody told for a while; `now` is by the monotonic clock. Where from something moved that nobody saw, and under which
    /// something was written.
    pub(super) fn give_up(&mut self, now: Duration) -> Vec<RelPath> {
        let mut unseen = Vec::new();
        self.left.retain(|_, half| {
            let is_over = now.saturating_sub(*half.since.get_or_insert(now)) >= TELLING;
            if is_over && half.fresh.is_some_and(Fresh::is_any) {
                unseen.push(half.from.clone());
            }
            !is_over
        });
        unseen
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::fleeting::Fleeting;

    #[test]
    fn a_half_is_waited_for_until_the_other_comes_or_for_a_while() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let mut moves = Moves::default();
        assert!(moves.left(1, &path("a"), None) && moves.left(2, &path("b"), None));
        assert_eq!(moves.arrived(2), Some((path("b"), None)));
        // Told by another queue, the new name first.
        assert_eq!(moves.arrived(3), None);
        assert!(moves.left(3, &path("c"), None));
        let unseen = |moves: &mut Moves, after| moves.give_up(Duration::from_secs(100) + after);
        assert_eq!(unseen(&mut moves, Duration::ZERO), []);
        assert_eq!(unseen(&mut moves, TELLING / 2), []);
        assert_eq!(moves.halves(), BTreeSet::from([path("a")]));
        assert_eq!(unseen(&mut moves, TELLING), []);
        assert_eq!(moves.halves(), BTreeSet::new());
    }

    #[test]
    fn a_file_that_nobody_saw_and_that_left_the_home_is_told() {
        let (mut moves, mut fleeting) = (Moves::default(), Fleeting::default());
        let from = RelPath::parse(b"x").unwrap();
        fleeting.came(&from, Fresh::seen(None));
        fleeting.written(&from);
        assert!(moves.left(1, &from, fleeting.moves(&from)));
        assert_eq!(moves.give_up(Duration::ZERO), []);
        assert_eq!(moves.give_up(TELLING), [from]);
    }
}
