//! A state directory that is full.
//!
//! Temporary files are made only while a reserve is free; the index may find the disk full all the same. What was to be written is lost then: with a
//! temporary file a cut, with the index all since its last commit. Both are found again by comparing the home with the index, and the history
//! that follows is another one, so that every standby is compared as well.

use std::time::Duration;

use super::home::Alarm;
use super::work::{Keeper, KeeperError, follow_filter, instant, secret_in};
use crate::fs::{Root, is_no_space};
use crate::index::IndexError;

/// One percent of the state directory's disk stays free, and this at most.
const STATE_RESERVE: u64 = 64 << 20;
/// A state directory that was full is not tried again sooner: what filled it may have been a temporary file of ours.
const NO_ROOM: Duration = Duration::from_secs(5);

impl Keeper {
    /// True if the state directory has room for temporary files. Where that cannot be told, their making tells.
    pub(super) fn has_room(&self) -> bool {
        let space = Root::open(&self.options.state).and_then(|state| state.space());
        space.is_ok_and(|space| space.available_bytes >= (space.total_bytes / 100).min(STATE_RESERVE))
    }

    /// True if it has room after it had none for a while.
    pub(super) fn has_room_again(&self) -> bool {
        self.has_room() && self.guard.held_since.elapsed() >= NO_ROOM
    }

    /// A write found the state directory full: nothing is replicated until there is room.
    pub(super) fn ran_out(&mut self) {
        self.break_history();
        self.hold(Alarm::NoRoom(self.options.state.clone()));
    }

    /// After a write of the index that failed: the index as it was committed last, or an empty one if that is damaged. What it lacks is found by
    /// comparing it with the home, which the caller sees to. False if it cannot be opened yet.
    pub(super) fn reopen_index(&mut self) -> Result<bool, KeeperError> {
        if self.tree.store().is_usable() {
            return Ok(true);
        }
        let is_intact = match self.tree.store_mut().reopen() {
            Ok(is_intact) => is_intact,
            Err(error) if matches!(error, IndexError::InUse { .. }) || is_no_space(&error) => {
                // In use as long as a standby is being compared with what it was.
                self.guard.held_since = instant();
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        self.tree.reload()?;
        self.secret = secret_in(&mut self.tree)?;
        let filter = self.options.filter.clone();
        follow_filter(&mut self.tree, &filter)?;
        self.shared.filters.change(filter);
        self.views.clear();
        self.break_history();
        // An empty one is no home: it is read first.
        self.is_ready &= is_intact;
        Ok(true)
    }
}
