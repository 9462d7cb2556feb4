//! The fuse: how much may be deleted before a person is asked (G7).
//!
//! A generation blows it when more than so many entries **and** more than that share of all are lost: by the generation alone, every entry counted that is
//! neither there afterwards nor renamed; or since the most there were within the window, so that a slow `rm -rf` that is spread over many generations is
//! stopped, too. Only both together are an alarm: Jenkins that discards old builds deletes thousands of files, but not most of its home; and most of a small
//! home is soon deleted by hand.
//!
//! What a person released counts no more: the window begins anew.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::generation::Action;
use super::store::ReadStore;
use super::tree::{Tree, TreeError};
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

/// How many of the paths to be deleted are named.
const SAMPLE_CAP: usize = 5;

/// What a fuse bears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuseOptions {
    /// So many entries may always be lost.
    pub count: u64,
    /// And this share of all, in percent; 100 is never exceeded.
    pub share_percent: u8,
    /// Losses within so much time are seen together.
    pub window: Duration,
}

impl Default for FuseOptions {
    /// Three quarters: a copy of a large directory beside it, or two, may go again without a word.
    fn default() -> Self {
        Self { count: 1000, share_percent: 75, window: Duration::from_secs(600) }
    }
}

/// What a generation deletes, counted as its operations arrive, against the tree that they are for.
///
/// A directory that is removed counts with everything in it, but for what was renamed out of it. In the order of removals (descending) what was removed
/// one by one inside a directory comes right before it, and is not counted twice.
#[derive(Debug, Default)]
pub struct Tally {
    /// All that is removed.
    removed: u64,
    /// Those of them in whose place something is afterwards.
    replaced: u64,
    created: u64,
    /// What stays on the disk and is of no account any more.
    forgotten: u64,
    sample: Vec<RelPath>,
    /// What leaves its place, but not the disk.
    renamed: BTreeSet<RelPath>,
    /// Where it is afterwards.
    targets: BTreeSet<RelPath>,
    /// Parents of what was removed, each with the count before the first removal in it.
    before: Vec<(RelPath, u64)>,
}

impl Tally {
    /// The next operation.
    pub fn take<S: ReadStore>(&mut self, tree: &Tree<S>, action: &Action) -> Result<(), TreeError> {
        match action {
            Action::Rename { from, to } => {
                self.renamed.insert(from.clone());
                self.targets.insert(to.clone());
            }
            Action::Remove { path } => self.remove(tree, path)?,
            Action::Forget { path } => {
                self.forgotten += tree.row(path)?.map_or(Ok(0), |row| tree.entries_within(&row))?;
                self.renamed.insert(path.clone());
            }
            Action::Create { path, .. } | Action::Link { path, .. } => {
                self.created += 1;
                self.replaced += u64::from(self.was_removed(tree, path)?);
            }
            Action::Edit { .. } | Action::Attributes { .. } => {}
        }
        Ok(())
    }

    fn remove<S: ReadStore>(&mut self, tree: &Tree<S>, path: &RelPath) -> Result<(), TreeError> {
        let Some(row) = tree.row(path)? else { return Ok(()) };
        let mut count = tree.entries_within(&row)?;
        for from in self.renamed.range(path.clone()..).take_while(|from| from.is_within(path)) {
            if let Some(row) = tree.row(from)? {
                count = count.saturating_sub(tree.entries_within(&row)?);
            }
        }
        self.replaced += u64::from(self.targets.contains(path));
        let mut before = self.removed;
        while let Some((_, earlier)) = self.before.pop_if(|(parent, _)| parent.is_within(path)) {
            before = earlier;
        }
        let parent = path.parent().unwrap_or_default();
        if self.before.last().is_none_or(|(last, _)| *last != parent) {
            self.before.push((parent, before));
        }
        self.removed = before + count;
        // Of a directory only its top is of interest.
        self.sample.retain(|known| !known.is_within(path));
        if self.sample.len() < SAMPLE_CAP {
            self.sample.push(path.clone());
        }
        Ok(())
    }

    /// True if what was at `path` is removed; of what was renamed away nothing is.
    fn was_removed<S: ReadStore>(&self, tree: &Tree<S>, path: &RelPath) -> Result<bool, TreeError> {
        let is_renamed = |at: &RelPath| self.renamed.contains(at);
        Ok(!std::iter::successors(Some(path.clone()), RelPath::parent).any(|at| is_renamed(&at))
            && tree.row(path)?.is_some())
    }

    /// How many entries it deletes.
    pub fn deleted(&self) -> u64 {
        self.removed.saturating_sub(self.replaced)
    }

    /// How many entries there are after it, when there were `before`.
    pub fn after(&self, before: u64) -> u64 {
        (before + self.created).saturating_sub(self.removed)
    }

    /// How many entries are of no account any more, because a filter leaves them out.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Some of them.
    pub fn sample(&self) -> &[RelPath] {
        &self.sample
    }
}

/// A generation that deletes too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blown {
    /// So many entries are lost.
    pub lost: u64,
    /// Of so many.
    pub of: u64,
    /// Not by this generation alone.
    pub within_window: bool,
}

/// The most entries there were of late.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fuse {
    /// When there were how many; each fewer than the one before.
    peaks: VecDeque<(i64, u64)>,
}

impl Fuse {
    /// Judges a generation that leads from `before` entries to `after`, and deletes `deleted`, at `now`.
    pub fn judge(
        &mut self,
        options: FuseOptions,
        (before, after): (u64, u64),
        deleted: u64,
        now: Timestamp,
    ) -> Result<(), Blown> {
        self.note(options, before, now);
        let is_too_much = |lost: u64, of: u64| {
            lost > options.count && u128::from(lost) * 100 > u128::from(of) * u128::from(options.share_percent)
        };
        if is_too_much(deleted, before) {
            return Err(Blown { lost: deleted, of: before, within_window: false });
        }
        let peak = self.peaks.front().map_or(before, |(_, entries)| *entries);
        let lost = peak.saturating_sub(after);
        if deleted > 0 && is_too_much(lost, peak) {
            return Err(Blown { lost, of: peak, within_window: true });
        }
        Ok(())
    }

    /// There were `entries` at `now`.
    fn note(&mut self, options: FuseOptions, entries: u64, now: Timestamp) {
        let window = i64::try_from(options.window.as_secs()).unwrap_or(i64::MAX);
        // A clock that was set back leaves peaks in the future: those are forgotten, too.
        self.peaks.retain(|(at, _)| now.seconds.checked_sub(*at).is_some_and(|age| (0..=window).contains(&age)));
        while self.peaks.back().is_some_and(|(_, known)| *known <= entries) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now.seconds, entries));
        // One peak a second, and with more than this the window is told in coarser steps.
        if self.peaks.len() > PEAKS_CAP {
            self.peaks.remove(1);
        }
    }

    /// So many entries are of no account any more: that is no loss.
    pub fn forget(&mut self, count: u64) {
        self.peaks.iter_mut().for_each(|(_, entries)| *entries = entries.saturating_sub(count));
    }

    /// A person said that what is lost may be.
    pub fn release(&mut self) {
        self.peaks.clear();
    }
}

/// How many peaks are remembered at most.
const PEAKS_CAP: usize = 4096;

#[cfg(test)]
mod tests;
