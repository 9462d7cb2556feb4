//! Looking again, now, at what no event told of.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Marked;
use super::work::{Keeper, KeeperError, wall_clock};
use crate::words::path::RelPath;

/// How many entries are looked at between two looks at what else is to be done.
const PIECE: usize = 20_000;

impl Keeper {
    /// Compares everything at and below `paths` (none: everywhere) with the tree, by what the kernel says of it, reads `whole` whatever it
    /// says, and makes generations of what differs.
    pub(super) fn rescan(&mut self, paths: &[RelPath], whole: &BTreeSet<RelPath>) -> Result<Marked, KeeperError> {
        let root = [RelPath::root()];
        for path in if paths.is_empty() { &root[..] } else { paths } {
            // What it is now, a file or nothing, is for the capture to find out.
            self.walker.mark(path, wall_clock());
            self.walker.rescan(path);
        }
        let is_done = |walker: &crate::walk::Walker| walker.is_settled() || walker.is_full();
        while !is_done(&self.walker) && !self.shared.is_stopping() && !self.guard.is_holding() {
            self.walker.listen(&self.tree, Duration::ZERO, wall_clock())?;
            self.walker.scan(&self.tree, PIECE, wall_clock())?;
            self.report();
        }
        self.catch_all(whole)
    }
}
