//! The cut: capture, and prove that nothing moved.
//!
//! A round is: barrier B1; capture what is dirty; barrier B2. It proves the state at B1 if the design's conditions hold:
//! (a) both barriers came through every queue and none overflowed, lost a watch or was unmounted; (b) at B1 no directory awaited its watch or
//! scan; (c) in between no event came for a captured path, for a directory above one, or for another name of its inode; (d) after the last read
//! each captured path, and the directory of each captured absence, has the inode it had and a change time older than B1's file; (e) the clock
//! did not step back; (f) everything deferred or in conflict before is included.
//!
//! On conflict the next round captures again what conflicted with all that is newly dirty; its B1 is this round's B2. What was captured in an
//! earlier round and has had no event since is the same at the later cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{CaptureError, Captured, Capturer, Wanted};
use crate::fs::Stat;
use crate::thought::generation::{NamedPaths, Quality, Reason};
use crate::thought::plan::{Captures, Planned, Step, plan};
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::walk::{WalkError, Walker};
use crate::watch::Barrier;
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

/// Limits of a cut.
#[derive(Clone, Copy, Debug)]
pub struct RoundOptions {
    /// How many rounds before the generation goes out unproven.
    pub rounds: u32,
    /// How many paths one generation captures at most; what is beyond is deferred.
    pub paths: usize,
    /// How long a barrier may take to come through every queue.
    pub barrier_timeout: Duration,
}

impl Default for RoundOptions {
    fn default() -> Self {
        Self { rounds: 4, paths: 60_000, barrier_timeout: Duration::from_secs(5) }
    }
}

/// A cut, captured and planned.
#[derive(Debug)]
pub struct Cut {
    /// The steps of the generation; empty if nothing changed after all.
    pub steps: Vec<Step>,
    /// All that was captured.
    pub captures: Captures,
    /// What may be claimed.
    pub quality: Quality,
    /// What was left out.
    pub deferred: NamedPaths,
    /// When the cut was made.
    pub cut_time: Timestamp,
    /// When the oldest change in it was heard of.
    pub oldest_change: Timestamp,
}

/// Why no cut could be made.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The walk failed.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A capture failed as a whole.
    #[error("cannot capture {path}")]
    Capture {
        /// What was being captured.
        path: RelPath,
        /// Why it failed.
        #[source]
        source: CaptureError,
    },
}

/// One cut in the making.
struct Round<'a, S> {
    walker: &'a mut Walker,
    tree: &'a Tree<S>,
    capturer: &'a mut Capturer,
    options: RoundOptions,
    clock: &'a dyn Fn() -> Timestamp,
    captures: Captures,
    heard: BTreeMap<RelPath, Timestamp>,
    reasons: BTreeSet<Reason>,
    deferred: NamedPaths,
    /// Dirty again after the last round for a known reason, to be marked when the cut is done.
    again: BTreeMap<RelPath, Timestamp>,
}

/// Makes a cut of what is dirty in `walker`, and of `whole`, whose content is captured whole. `clock` tells the wall-clock time.
pub fn cut<S: Store>(
    walker: &mut Walker,
    tree: &Tree<S>,
    capturer: &mut Capturer,
    whole: &Wanted,
    options: RoundOptions,
    clock: &dyn Fn() -> Timestamp,
) -> Result<Cut, CutError> {
    let round = Round {
        walker,
        tree,
        capturer,
        options,
        clock,
        captures: Captures::new(),
        heard: BTreeMap::new(),
        reasons: BTreeSet::new(),
        deferred: NamedPaths::default(),
        again: BTreeMap::new(),
    };
    round.run(whole)
}

impl<S: Store> Round<'_, S> {
    fn run(mut self, whole: &Wanted) -> Result<Cut, CutError> {
        let mut first = self.barrier()?;
        let mut cut_time = (self.clock)();
        let mut left = self.options.rounds;
        loop {
            left -= 1;
            // (a) and (b) hold anew for each round; what spoiled an earlier one is made good by capturing again.
            self.reasons.clear();
            self.scan()?;
            self.reasons.extend(self.walker.take_doubts());
            let taken = self.walker.dirty_mut().take(self.options.paths.saturating_sub(self.captures.len()));
            self.heard.extend(taken.iter().map(|(path, at)| (path.clone(), *at)));
            let mut paths: BTreeSet<RelPath> = taken.into_keys().chain(whole.iter().cloned()).collect();
            let steps = loop {
                self.capture(&paths, whole)?;
                match plan(self.tree, &self.captures)? {
                    Planned::Steps(steps) => break steps,
                    Planned::Incomplete(wanted) => {
                        if wanted.is_subset(&paths) {
                            // Asked for again what was just captured: it is not there to be had in this state.
                            self.reasons.insert(Reason::Conflict);
                            break self.without(&wanted)?;
                        }
                        paths = wanted;
                    }
                }
            };
            let unsteady = self.check(&first)?;
            let second = self.barrier()?;
            self.reasons.extend(self.walker.take_doubts());
            if !self.walker.is_settled() {
                self.reasons.insert(Reason::AwaitingScan);
            }
            let conflicts = self.conflicts(unsteady);
            let is_proven = conflicts.is_empty() && self.reasons.is_empty();
            if is_proven || left == 0 {
                if !conflicts.is_empty() {
                    self.reasons.insert(Reason::Conflict);
                }
                return Ok(self.finish(steps, cut_time));
            }
            let now = (self.clock)();
            for path in conflicts {
                self.walker.mark(&path, now);
            }
            first = second;
            cut_time = now;
        }
    }

    /// Raises a barrier and waits until every queue has answered it.
    fn barrier(&mut self) -> Result<Barrier, CutError> {
        let barrier = self.walker.raise_barrier()?;
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(20);
        while !self.walker.has_answered(&barrier) {
            if waited >= self.options.barrier_timeout {
                self.reasons.insert(Reason::BarrierLate);
                break;
            }
            self.walker.listen(self.tree, step, (self.clock)())?;
            waited += step;
        }
        Ok(barrier)
    }

    /// Does what scanning is pending, boundedly: a home in which directories appear without end is cut all the same.
    fn scan(&mut self) -> Result<(), CutError> {
        if !self.walker.scan(self.tree, 200_000, (self.clock)())? {
            self.reasons.insert(Reason::AwaitingScan);
        }
        Ok(())
    }

    fn capture(&mut self, paths: &BTreeSet<RelPath>, whole: &Wanted) -> Result<(), CutError> {
        // Identities depend on what was found at all the directories above, so each pass goes through all that was captured, in order.
        self.capturer.begin();
        let all: BTreeSet<RelPath> = self.captures.keys().cloned().chain(paths.iter().cloned()).collect();
        for path in all {
            if !paths.contains(&path) {
                self.replay(&path)?;
                continue;
            }
            let takes_whole = whole.contains(&path) || self.captures.contains_key(&path);
            let captured = self
                .capturer
                .capture(self.walker.root(), self.tree, &path, takes_whole)
                .map_err(|source| CutError::Capture { path: path.clone(), source })?;
            match captured {
                Captured::Absent(special) => {
                    if let Some(special) = special {
                        self.walker.findings_mut().skip(&path, special);
                    }
                    self.captures.insert(path, None);
                }
                Captured::Present(present) => {
                    self.walker.findings_mut().unreadable.forget(&path);
                    self.captures.insert(path, Some(*present));
                }
                Captured::Unreadable(error) => {
                    self.walker.findings_mut().unreadable.note(&path, error.to_string());
                    self.captures.remove(&path);
                }
                Captured::Unsteady => {
                    self.captures.remove(&path);
                    self.again.insert(path, (self.clock)());
                }
            }
        }
        Ok(())
    }

    /// Lets the capturer know what an earlier pass found at `path`.
    fn replay(&mut self, path: &RelPath) -> Result<(), CutError> {
        match self.captures.get(path) {
            Some(Some(present)) => {
                self.capturer.identities.present(self.tree, path, present.entry.kind(), &present.inode)?;
            }
            _ => self.capturer.identities.absent(self.tree, path)?,
        }
        Ok(())
    }

    /// Plans without what cannot be had.
    fn without(&mut self, wanted: &Wanted) -> Result<Vec<Step>, CutError> {
        let mut wanted = wanted.clone();
        loop {
            for path in &wanted {
                self.captures.remove(path);
                self.deferred.add(path);
                self.again.insert(path.clone(), (self.clock)());
            }
            match plan(self.tree, &self.captures)? {
                Planned::Steps(steps) => return Ok(steps),
                Planned::Incomplete(more) if more.iter().any(|path| self.captures.contains_key(path)) => wanted = more,
                // Names that are neither captured nor to be had: leave out everything that is linked to them.
                Planned::Incomplete(_) => {
                    wanted = self
                        .captures
                        .iter()
                        .filter(|(_, found)| found.as_ref().is_some_and(|present| present.entry.link.is_some()))
                        .map(|(path, _)| path.clone())
                        .collect();
                    if wanted.is_empty() {
                        return Ok(Vec::new());
                    }
                }
            }
        }
    }

    /// Condition (d): looks at every captured path once more.
    fn check(&mut self, first: &Barrier) -> Result<BTreeSet<RelPath>, CutError> {
        let mut unsteady: BTreeSet<RelPath> = std::mem::take(&mut self.again).into_keys().collect();
        let mut parents: BTreeMap<RelPath, bool> = BTreeMap::new();
        for (path, found) in &self.captures {
            let stat = self.walker.root().stat(path).ok().flatten();
            let is_steady = match (found, &stat) {
                (Some(present), Some(stat)) => {
                    stat.inode.id == present.inode.id
                        && (stat.inode.ctime < first.ctime || is_known_growth(present.entry.size(), stat))
                }
                (None, None) => {
                    let Some(parent) = path.parent() else { continue };
                    *parents.entry(parent.clone()).or_insert_with(|| {
                        let stat = self.walker.root().stat(&parent).ok().flatten();
                        stat.is_none_or(|stat| stat.inode.ctime < first.ctime)
                    })
                }
                (None, Some(stat)) => matches!(stat.what, crate::fs::FileType::Special(_)),
                (Some(_), None) => false,
            };
            if !is_steady {
                unsteady.insert(path.clone());
            }
        }
        Ok(unsteady)
    }

    /// Condition (c): captured paths that had an event since, or whose directory had one that is about names.
    fn conflicts(&self, mut unsteady: BTreeSet<RelPath>) -> BTreeSet<RelPath> {
        for path in self.walker.dirty().paths() {
            if self.captures.contains_key(path) {
                unsteady.insert(path.clone());
            }
            // A directory that left or arrived carries everything captured in it along.
            for (below, _) in self.captures.range(path.clone()..).take_while(|(below, _)| below.is_within(path)).skip(1)
            {
                let has_left = self.walker.root().stat(path).ok().flatten().is_none_or(|stat| !stat.is_directory());
                if !has_left {
                    break;
                }
                unsteady.insert(below.clone());
            }
        }
        unsteady
    }

    fn finish(mut self, steps: Vec<Step>, cut_time: Timestamp) -> Cut {
        let left = self.walker.dirty().len();
        if left > 0 && self.captures.len() >= self.options.paths {
            self.reasons.insert(Reason::Deferred);
            for path in self.walker.dirty().paths() {
                self.deferred.add(path);
            }
        }
        let again = std::mem::take(&mut self.again);
        self.walker.dirty_mut().put_back(again);
        let findings = self.walker.findings();
        if !findings.polled.is_empty() {
            self.reasons.insert(Reason::Polled);
        }
        if findings.unreadable.count() > 0 {
            self.reasons.insert(Reason::Unreadable);
        }
        if findings.outside_links.count() > 0 {
            self.reasons.insert(Reason::OutsideLinks);
        }
        let quality = if self.reasons.is_empty() {
            if self.deferred.is_empty() { Quality::Consistent } else { Quality::Partial }
        } else {
            Quality::Fuzzy(self.reasons.into_iter().collect())
        };
        let oldest_change = self.heard.values().min().copied().unwrap_or(cut_time);
        Cut { steps, captures: self.captures, quality, deferred: self.deferred, cut_time, oldest_change }
    }
}

/// A file that only grew since it was captured: what was captured is what it began with.
fn is_known_growth(_captured: u64, _stat: &Stat) -> bool {
    false
}
