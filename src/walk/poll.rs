//! Directories without a watch: they are compared again in turn, and their watches tried again.

use std::ops::Bound;

use super::{Reach, Walker};
use crate::watch::{Limit, Watch};
use crate::words::path::RelPath;

impl<W: Watch> Walker<W> {
    /// How many directories have no watch.
    pub fn polled(&self) -> usize {
        self.polled.len()
    }

    /// The limit that was in the way of the last watch that could not be placed.
    pub fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// Has up to `count` of the directories without a watch compared again, each with its own children: those whose turn it is.
    pub fn poll(&mut self, count: usize) {
        let after = (Bound::Excluded(&self.poll_from), Bound::Unbounded);
        let mut turn: Vec<RelPath> = self.polled.range::<RelPath, _>(after).take(count).cloned().collect();
        if turn.len() < count {
            let left = count - turn.len();
            turn.extend(self.polled.range(..=self.poll_from.clone()).take(left).cloned());
        }
        for path in &turn {
            self.await_scan(path, Reach::Children);
        }
        if let Some(last) = turn.pop() {
            self.poll_from = last;
        }
    }

    pub(super) fn forget_polled_within(&mut self, path: &RelPath) {
        let below = self.polled.range(path.clone()..).take_while(|polled| polled.is_within(path));
        for polled in below.cloned().collect::<Vec<_>>() {
            self.polled.remove(&polled);
        }
    }
}
