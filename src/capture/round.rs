//! The cut: capture, and prove that nothing moved.
//!
//! A round is: barrier B1; capture what is dirty; look at it once more; barrier B2. It proves the state at B1 if the design's conditions hold:
//! (a) both barriers came through every queue and none overflowed, lost a watch or was unmounted; (b) at B1 no directory awaited its watch or
//! scan; (c) in between no event came for a captured path, for a name above one, or for another name of its inode; (d) after its
//! last read, in the round that captured it, each captured path, and the directory of each captured absence, has the inode it had and a change time
//! older than B1's file; (e) the clock was not set; (f) everything deferred or in conflict before is included: it stays dirty until it is.
//!
//! **Calls under way.** A call sets change times, then does what it does, then tells of it, and may be kept from going on between any two of those for
//! as long as the whole round. It counts as undone, done or, if it is a write, part done; so what was captured must be one of these:
//! - Content is read twice. A write whose bytes come while a file is read would leave new bytes behind old ones; what reads the same twice was
//!   so in between.
//! - Content of which a write was told is read although its change time is known: that is older than the bytes.
//! - An absence is told of, if it is recent: a rename under way has taken the old name away and has told of neither. So is a presence, where the last word
//!   was that the name went.
//! - What moved away has been told to have arrived somewhere, if that was just now: something else may have had that name before, and been written by it.
//! - A file that was emptied was found so for a while: truncation alone is done before it sets the time.
//!
//! `tests/late` goes through the interleavings; each of these is what it found missing.
//!
//! What is told behind a barrier is left for the next one: captured along with the rest it would be in the way of a proof, since it changed after
//! the barrier.
//!
//! On conflict the next round has a B1 of its own, later than every change time that was in the way, and captures again what conflicted with
//! all that is newly dirty. What was captured in an earlier round and has had no event since is the same at the later cut.
//! Only the first round plans between its barriers; a further one is planned once it is clean, and what the plan then needs is a round more.
//!
//! **Invariant:** nothing is forgotten. What a cut took from the dirty paths it captured, or gives back; what it could not prove it gives
//! back too, with change times that no file has, so that it is read again.
//!
//! **Not seen:** a truncation under way to anything but nothing. And what is written through a name of a file that is outside the home, or left out,
//! or in a directory so new that it has no watch yet, and gone before anyone looked at the file: its change time tells the next scan.
//!
//! | file | what |
//! |---|---|
//! | `round` | the rounds |
//! | `gather` | capturing what is due, and planning |
//! | `proof` | what conflicts: conditions (c) and (d) |
//! | `leave` | what is given back, to be captured again |
//! | `grown` | the file that only grew |
//! | `links` | names of one inode, in the home and outside |
//! | `fitting` | a plan made of what was caught in motion must fit all the same |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gather::Attempt;
use super::{CaptureError, Capturer, Moment, Wanted};
use crate::fs::Stat;
use crate::thought::generation::{NAMED_PATHS_CAP, NamedPaths, Quality, Reason};
use crate::thought::plan::{Captures, Present, Step};
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::walk::{TELLING, WalkError, Walker};
use crate::watch::{Barrier, Watch};
use crate::words::entry::{InodeId, Timestamp};
use crate::words::path::RelPath;

/// How often a barrier is raised anew because something awaited its scan, or a queue overflowed, before the round goes on unproven.
const OPENINGS: u32 = 8;
/// How many entries are scanned at once: a home in which directories appear without end is cut all the same.
const SCAN_BUDGET: usize = 200_000;
/// How long to wait for the clock of change times to tick, and how often: it ticks every 1 to 10 ms.
const TICK: (Duration, u32) = (Duration::from_millis(2), 10);
/// Limits of a cut.
#[derive(Clone, Copy, Debug)]
pub struct RoundOptions {
    /// How many rounds are made whatever they take, before the generation goes out unproven; at least one.
    pub rounds: u32,
    /// For how long further rounds are made. A round looks at what the last one found in motion and takes a few milliseconds, so what
    /// many writers touch in turn is proven by trying more often; but the generation must not grow old over it.
    pub persistence: Duration,
    /// How many dirty paths one generation takes at most; what is beyond is deferred.
    pub paths: usize,
    /// How long a barrier may take to come through every queue.
    pub barrier_timeout: Duration,
}

impl Default for RoundOptions {
    fn default() -> Self {
        Self {
            rounds: 4,
            persistence: Duration::from_millis(250),
            paths: 40_000,
            barrier_timeout: Duration::from_secs(5),
        }
    }
}

/// A cut, captured and planned. The steps must be applied to the tree before the walker scans again.
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
    /// Large files among that, which are sent ahead or taken piece by piece. They stay dirty.
    pub later: BTreeSet<RelPath>,
    /// At and below these the cut may not have all that was written when it was asked for, large files apart: what was in conflict, could not
    /// be captured or is to be scanned anew. `None` if not everything was known by then, or was more than one cut takes.
    pub left: Option<BTreeSet<RelPath>>,
    /// Files that grew during the capture and were cut at the size first seen.
    pub grown: BTreeSet<RelPath>,
    /// How many rounds it took.
    pub rounds: u32,
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

/// A barrier, and what was known when it came through.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) barrier: Barrier,
    pub(super) moment: Moment,
    pub(super) reasons: BTreeSet<Reason>,
    /// From where something had moved by then, to where had not been told.
    pub(super) half_moved: BTreeSet<RelPath>,
}

/// One cut in the making.
pub(super) struct Round<'a, S, W: Watch> {
    pub(super) walker: &'a mut Walker<W>,
    pub(super) tree: &'a Tree<S>,
    pub(super) capturer: &'a mut Capturer,
    pub(super) options: RoundOptions,
    clock: &'a dyn Fn() -> Moment,
    /// More is to be scanned than can be dirty at a time.
    is_partial: bool,
    /// The last barrier before a capture, by the clock of change times.
    raised: Timestamp,
    /// What is captured whole.
    pub(super) whole: Wanted,
    pub(super) captures: Captures,
    /// When each path was first heard of.
    pub(super) heard: BTreeMap<RelPath, Timestamp>,
    /// What this round looked at, and what of it whole.
    pub(super) tried: BTreeSet<RelPath>,
    pub(super) tried_whole: BTreeSet<RelPath>,
    /// What should have been captured in this round and could not be.
    pub(super) missed: BTreeSet<RelPath>,
    /// Large files that are left, wholly or in part, for a later cut.
    pub(super) later: BTreeSet<RelPath>,
    /// Directories new to the tree whose names were listed in this cut.
    pub(super) listed: BTreeSet<(RelPath, InodeId)>,
    /// Inodes of which a name was captured and left out again: the tree will not know that name when it goes.
    pub(super) severed: BTreeSet<InodeId>,
    /// What earlier rounds found of files that are captured again.
    pub(super) earlier: BTreeMap<RelPath, Present>,
    /// Where names came or went during this round, and during all.
    pub(super) shaken: BTreeSet<RelPath>,
    pub(super) all_shaken: BTreeSet<RelPath>,
}

/// Makes a cut of what is dirty in `walker`, and of `whole`, whose content is captured whole. `clock` reads the clocks.
pub fn cut<S: Store, W: Watch>(
    walker: &mut Walker<W>,
    tree: &Tree<S>,
    capturer: &mut Capturer,
    whole: &Wanted,
    options: RoundOptions,
    clock: &dyn Fn() -> Moment,
) -> Result<Cut, CutError> {
    let round = Round {
        walker,
        tree,
        capturer,
        options,
        clock,
        is_partial: false,
        raised: Timestamp::default(),
        whole: whole.clone(),
        captures: Captures::new(),
        heard: BTreeMap::new(),
        tried: BTreeSet::new(),
        tried_whole: BTreeSet::new(),
        missed: BTreeSet::new(),
        later: BTreeSet::new(),
        listed: BTreeSet::new(),
        severed: BTreeSet::new(),
        earlier: BTreeMap::new(),
        shaken: BTreeSet::new(),
        all_shaken: BTreeSet::new(),
    };
    round.run()
}

impl<S: Store, W: Watch> Round<'_, S, W> {
    fn run(mut self) -> Result<Cut, CutError> {
        let mut stale = self.whole.clone();
        let mut after = Timestamp::default();
        let mut round = 0;
        let mut begun = None;
        self.walker.pay_for_lost();
        loop {
            round += 1;
            let opening = self.open(after)?;
            self.raised = opening.barrier.ctime;
            let due = self.due(stale)?;
            let planned = self.gather(round, due)?;
            let fresh_watches = self.watch_outside_links()?;
            let changed = self.look_again(&opening)?;
            let mut reasons = opening.reasons.clone();
            let closing = self.close(&opening)?;
            reasons.extend(closing.reasons.iter().copied());
            let mut conflicts = self.conflicts(&changed, &closing)?;
            conflicts.extend(self.half_moved(&opening));
            conflicts.extend(self.being_emptied(&opening)?);
            conflicts.extend(fresh_watches);
            conflicts.extend(self.other_halves(&conflicts)?);
            let grown = self.forgive_growth(&mut conflicts)?;
            let planned = match planned {
                None if conflicts.is_empty() && reasons.is_empty() => Some(self.attempt()?),
                planned => planned,
            };
            conflicts.extend(self.missed.iter().cloned());
            if let Some(Attempt::Wants(wanted)) = &planned {
                conflicts.extend(wanted.iter().cloned());
            }
            let took = |since| closing.moment.after.saturating_sub(since);
            tracing::debug!(
                round,
                captured = self.captures.len(),
                tried = self.tried.len(),
                conflicts = conflicts.len(),
                grown = grown.len(),
                ?reasons,
                took = ?took(opening.moment.before),
                first = ?conflicts.first(),
                "round"
            );
            let steps = match planned {
                Some(Attempt::Steps(steps)) if conflicts.is_empty() && reasons.is_empty() => Some(steps),
                planned => {
                    let opened = *begun.get_or_insert(opening.moment.before);
                    let is_last = round >= self.options.rounds && took(opened) >= self.options.persistence;
                    // What is not even known cannot be proven.
                    if is_last || self.is_partial || self.walker.must_wait_for_lost(self.tree) {
                        Some(self.unproven(planned)?)
                    } else {
                        None
                    }
                }
            };
            if let Some(steps) = steps {
                return self.finish(steps, &opening, round, reasons, &conflicts, grown);
            }
            after = self.latest_change(&conflicts);
            for path in conflicts.iter().chain(&grown) {
                if let Some(Some(present)) = self.captures.get(path) {
                    self.earlier.entry(path.clone()).or_insert_with(|| present.as_ref().clone());
                }
            }
            stale = conflicts;
            stale.extend(grown);
        }
    }

    /// Captures `due`. The first round takes in what a plan needs beyond, and so is the only one where nothing moves. A further round is over
    /// a few paths that do move: planning, which goes over all that was captured, would be time for them to move again, and waits until
    /// a round is clean.
    fn gather(&mut self, round: u32, due: BTreeSet<RelPath>) -> Result<Option<Attempt>, CutError> {
        if round == 1 {
            return self.capture_all(due).map(|steps| Some(Attempt::Steps(steps)));
        }
        self.capture(&due)?;
        Ok(None)
    }

    /// The steps of a cut that is given up being proven.
    fn unproven(&mut self, planned: Option<Attempt>) -> Result<Vec<Step>, CutError> {
        let steps = match planned {
            Some(Attempt::Steps(steps)) => steps,
            Some(Attempt::Wants(wanted)) => self.capture_all(wanted)?,
            None => self.capture_all(BTreeSet::new())?,
        };
        self.fitting(steps)
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)().realtime
    }

    /// Scans what awaits it, then raises a barrier later than `after` by the clock of change times. Doubts raised before it are made good
    /// by the scan; what spoils it is among its reasons.
    fn open(&mut self, after: Timestamp) -> Result<Edge, CutError> {
        let mut ticks = TICK.1;
        let mut opening = 0;
        loop {
            let now = self.now();
            self.walker.take_behind(self.tree, now)?;
            self.scan(now)?;
            // What is more than one cut takes need not be known yet: of a home of a million new files not all wait in memory.
            let is_full = self.walker.is_full();
            self.is_partial = is_full && !self.walker.is_settled();
            self.walker.take_doubts();
            let mut edge = self.barrier()?;
            if edge.barrier.ctime <= after && ticks > 0 {
                ticks -= 1;
                std::thread::sleep(TICK.0);
                continue;
            }
            opening += 1;
            if !self.walker.was_settled_at(&edge.barrier) {
                edge.reasons.insert(Reason::AwaitingScan);
            }
            let is_hopeless =
                edge.reasons.contains(&Reason::BarrierLate) || is_full || self.walker.must_wait_for_lost(self.tree);
            if edge.reasons.is_empty() || is_hopeless || opening >= OPENINGS {
                return Ok(edge);
            }
        }
    }

    /// Scans what awaits it. What was captured before, and is as it was found, need not be captured again, if it has been so for so long that no call on
    /// it is under way: otherwise each further look at the home would spoil all of the cut.
    fn scan(&mut self, now: Timestamp) -> Result<(), CutError> {
        let (captures, raised) = (&self.captures, self.raised);
        let has = |path: &RelPath, found: Option<&Stat>| match (captures.get(path), found) {
            (Some(None), None) => true,
            (Some(Some(present)), Some(stat)) => {
                present.inode == stat.inode && raised.since(stat.inode.ctime) > TELLING
            }
            _ => false,
        };
        self.walker.compare_lost(self.tree);
        self.walker.scan_beside(self.tree, &has, SCAN_BUDGET, now)?;
        Ok(())
    }

    fn close(&mut self, opening: &Edge) -> Result<Edge, CutError> {
        self.walker.take_behind(self.tree, self.now())?;
        let mut edge = self.barrier()?;
        if edge.moment.is_stepped_since(&opening.moment) {
            edge.reasons.insert(Reason::ClockStepped);
        }
        Ok(edge)
    }

    /// Raises a barrier and waits until every queue has answered it, or it is known that one will not. A doubt alone is no reason to stop: the events
    /// that still wait would come after the captures, and all of those would seem to be changed since.
    fn barrier(&mut self) -> Result<Edge, CutError> {
        let barrier = self.walker.raise_barrier()?;
        let moment = (self.clock)();
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(20);
        let mut reasons = BTreeSet::new();
        while !self.walker.has_answered(&barrier) && !self.walker.has_lost(&barrier) {
            if waited >= self.options.barrier_timeout {
                reasons.insert(Reason::BarrierLate);
                break;
            }
            let now = self.now();
            self.walker.listen_for_answers(self.tree, step, now)?;
            waited += step;
        }
        let half_moved = self.walker.half_moved(moment.after);
        reasons.extend(self.walker.take_doubts());
        Ok(Edge { barrier, moment, reasons, half_moved })
    }

    /// What is to be captured in this round: `stale`, what was captured and is dirty again, and as much of the rest as there is room for.
    fn due(&mut self, stale: BTreeSet<RelPath>) -> Result<BTreeSet<RelPath>, CutError> {
        self.mark_linked();
        let shaken = self.walker.take_shaken();
        let mut due = stale;
        due.extend(self.captures.keys().filter(|path| self.walker.dirty().contains(path)).cloned());
        for path in &shaken {
            due.extend(self.below(path));
        }
        due.retain(|path| !path.is_reserved());
        self.all_shaken.extend(shaken);
        for path in &due {
            if let Some(at) = self.walker.dirty_mut().remove(path) {
                hear(&mut self.heard, path.clone(), at);
            }
        }
        let known = due.iter().filter(|path| !self.captures.contains_key(*path)).count() + self.captures.len();
        for (path, at) in self.walker.dirty_mut().take(self.options.paths.saturating_sub(known)) {
            due.insert(path.clone());
            hear(&mut self.heard, path, at);
        }
        self.take_dirty_names(&mut due)?;
        self.capturer.read.clear();
        self.tried.clear();
        self.tried_whole.clear();
        self.missed.clear();
        self.severed.clear();
        self.shaken.clear();
        Ok(due)
    }

    /// The captured paths below `path`.
    pub(super) fn below(&self, path: &RelPath) -> Vec<RelPath> {
        let below = self.captures.range(path.clone()..).take_while(|(below, _)| below.is_within(path));
        below.map(|(below, _)| below.clone()).filter(|below| below != path).collect()
    }

    fn finish(
        mut self,
        steps: Vec<Step>,
        opening: &Edge,
        rounds: u32,
        mut reasons: BTreeSet<Reason>,
        conflicts: &BTreeSet<RelPath>,
        grown: BTreeSet<RelPath>,
    ) -> Result<Cut, CutError> {
        let now = self.now();
        let is_full = self.captures.len() >= self.options.paths;
        let is_all_known = reasons.is_empty() && !is_full;
        if !conflicts.is_empty() {
            reasons.insert(Reason::Conflict);
        }
        let mut deferred = NamedPaths::default();
        if is_full {
            self.walker.dirty().paths().for_each(|path| deferred.add(path));
        }
        self.missed.union(&self.later).for_each(|path| deferred.add(path));
        if deferred.count > NAMED_PATHS_CAP as u64 {
            reasons.insert(Reason::Deferred);
        }
        let mut left = self.give_back(conflicts, &grown, now, !reasons.is_empty())?;
        left.extend(conflicts.union(&self.missed).cloned());
        self.walker.forget_heard();
        // None of it is in the cut, nor in its way. The tree is about to know what was captured; who wrote to that by another name is asked for before.
        self.walker.take_behind(self.tree, now)?;
        self.mark_linked();
        let findings = self.walker.findings();
        if self.walker.polled() > 0 {
            reasons.insert(Reason::Polled);
        }
        if findings.unreadable.count() > 0 {
            reasons.insert(Reason::Unreadable);
        }
        if findings.outside_links.count() > 0 {
            reasons.insert(Reason::OutsideLinks);
        }
        let quality = match (reasons.is_empty(), deferred.is_empty()) {
            (true, true) => Quality::Consistent,
            (true, false) => Quality::Partial,
            (false, _) => Quality::Fuzzy(reasons.into_iter().collect()),
        };
        let cut_time = opening.moment.realtime;
        let oldest_change = self.heard.values().min().copied().unwrap_or(cut_time);
        let Self { captures, later, .. } = self;
        let left = is_all_known.then_some(left);
        Ok(Cut { steps, captures, quality, deferred, later, left, grown, rounds, cut_time, oldest_change })
    }
}

pub(super) fn hear(heard: &mut BTreeMap<RelPath, Timestamp>, path: RelPath, at: Timestamp) {
    let known = heard.entry(path).or_insert(at);
    *known = at.min(*known);
}
