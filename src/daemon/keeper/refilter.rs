//! Filters that change under a running primary.
//!
//! What the new one leaves out the tree lets go at once; the walk begins anew with it, with watches of its own, and finds what it takes in. No
//! generation can say that something is replicated no longer and is to stay where it is, so the history that follows is another one: every standby
//! greets anew, hears of the new filter, and is compared.
//!
//! **Invariant:** the tree of a [`View`](super::View) is made by the filter that stands in it.

use std::collections::BTreeSet;

use super::work::{Keeper, KeeperError, begin_walk, follow_filter};
use crate::thought::filter::Filter;
use crate::words::entry::Digest;
use crate::words::position::ChainDigest;

impl Keeper {
    /// Replicates by `filter` from now on; it has all of the home once more before it when this ends, unless the home is held.
    pub(super) fn refilter(&mut self, filter: Filter) -> Result<(), KeeperError> {
        if filter.rules() == self.options.filter.rules() {
            return Ok(());
        }
        follow_filter(&mut self.tree, &filter)?;
        self.options.filter = filter.clone();
        self.shared.filters.change(filter);
        // What was to be folded into a view is of the filter before.
        self.views.clear();
        self.break_history();
        if self.guard.is_holding() {
            return Ok(());
        }
        self.walker = begin_walk(&self.options, &self.shared, &self.tree)?;
        for lost in self.guard.lost() {
            self.walker.suspend(lost);
        }
        self.review_mounts(true)?;
        if self.is_ready && !self.shared.is_paused() {
            self.rescan(&[], &BTreeSet::new())?;
        }
        Ok(())
    }

    /// The history goes on as another one: whoever followed it is compared.
    pub(super) fn break_history(&mut self) {
        self.position.generation += 1;
        self.chain = ChainDigest(Digest::of(&self.chain.0.0));
        self.shared.window().skip_to((self.position, self.chain));
        self.shared.head.send_replace(self.position);
    }
}
