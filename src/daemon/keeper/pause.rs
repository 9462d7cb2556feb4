//! While replication is paused: what changes is kept track of, and no generation is made of it.

use super::work::{Keeper, wall_clock};
use crate::words::path::RelPath;

/// So many dirty paths are kept track of one by one; beyond, all of the home counts as dirty.
const DIRTY_CAP: usize = 100_000;

impl Keeper {
    /// True while nothing is to be cut. However long that is, what is known of changes stays bounded: what grows beyond is forgotten, but
    /// for the time of the oldest change, and found again by comparing the home with the tree.
    pub(super) fn is_paused(&mut self) -> bool {
        let is_paused = self.shared.is_paused();
        if is_paused && self.walker.dirty().len() > DIRTY_CAP {
            let oldest = self.walker.dirty().oldest().unwrap_or_else(wall_clock);
            self.walker.dirty_mut().take(usize::MAX);
            self.walker.mark(&RelPath::root(), oldest);
            self.is_blind = true;
        }
        if !is_paused && std::mem::take(&mut self.is_blind) {
            self.walker.rescan(&RelPath::root());
        }
        is_paused
    }
}
