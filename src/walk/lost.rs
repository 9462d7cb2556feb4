//! Names lost from sight: what had such a name could not be followed, and what was written under it may have been written to any file. So the home is
//! compared with the tree, by change times; the watches are what they were.
//!
//! On a machine that is too busy for names to be looked at in time there are many of them, and a comparison costs a look at every entry. So
//! entries are counted: each cut pays for so many, and while more is owed the comparison waits, and no cut can be proven.

use super::{Reach, Walker};
use crate::thought::generation::Reason;
use crate::thought::store::Store;
use crate::thought::tree::Tree;
use crate::watch::Watch;
use crate::words::path::RelPath;

/// For so many entries a cut pays; some tenths of a second.
const PAID: u64 = 40_000;

/// Whether a name was lost from sight, and what comparisons have cost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    is_lost: bool,
    /// Entries that were looked at and not paid for.
    owed: u64,
}

impl Lost {
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// All of the home is about to be scanned anyway.
    pub(super) fn is_found(&mut self) {
        self.is_lost = false;
    }

    /// True if a home of so many entries is to be compared, but too much is owed.
    fn must_wait(&self, entries: u64) -> bool {
        self.is_lost && self.owed > 0 && self.owed + entries > PAID
    }

    /// True if a home of so many entries is to be compared now.
    fn takes(&mut self, entries: u64) -> bool {
        let may = self.is_lost && !self.must_wait(entries);
        if may {
            self.is_lost = false;
            self.owed += entries;
        }
        may
    }
}

impl<W: Watch> Walker<W> {
    /// What had the name `path` could not be followed.
    pub(super) fn lost_sight(&mut self, path: &RelPath) {
        if !self.lost.is_lost {
            tracing::debug!(%path, "gone before it was looked at, and it may have been a name of any file; comparing the home");
        }
        self.lost.is_lost = true;
        self.has_changed = true;
        self.doubts.insert(Reason::AwaitingScan);
    }

    /// True if a name was lost from sight and the home has not been compared since.
    pub fn has_lost_sight(&self) -> bool {
        self.lost.is_lost
    }

    /// True if that must wait until it is paid for.
    pub fn must_wait_for_lost<S: Store>(&self, tree: &Tree<S>) -> bool {
        self.lost.must_wait(tree.counts().entries)
    }

    /// Has the home compared at the next scan, if a name was lost from sight and that need not wait.
    pub fn compare_lost<S: Store>(&mut self, tree: &Tree<S>) {
        if self.lost.takes(tree.counts().entries) {
            self.await_scan(&RelPath::root(), Reach::Again);
        }
    }

    /// A cut begins.
    pub fn pay_for_lost(&mut self) {
        self.lost.owed = self.lost.owed.saturating_sub(PAID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many comparisons of a home of `entries` are made in `cuts` cuts in each of which a name is lost `times`.
    fn comparisons(entries: u64, cuts: u32, times: u32) -> u32 {
        let mut lost = Lost::default();
        let mut made = 0;
        for _ in 0..cuts {
            lost.owed = lost.owed.saturating_sub(PAID);
            for _ in 0..times {
                lost.is_lost = true;
                made += u32::from(lost.takes(entries));
            }
        }
        made
    }

    #[test]
    fn a_small_home_is_compared_in_every_cut_and_a_large_one_as_often_as_is_paid_for() {
        assert_eq!(comparisons(1000, 10, 3), 30);
        assert_eq!(comparisons(10_000, 10, 9), 40);
        assert_eq!(comparisons(40_000, 10, 9), 10);
        assert_eq!(comparisons(1_000_000, 100, 9), 4);
    }

    #[test]
    fn what_is_lost_stays_so_until_it_is_compared() {
        let mut lost = Lost { is_lost: true, owed: 1 };
        assert!(!lost.takes(PAID) && lost.is_lost());
        lost.owed = 0;
        assert!(lost.takes(PAID) && !lost.is_lost() && !lost.takes(1));
    }
}
