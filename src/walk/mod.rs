//! The walker: places watches, then scans, and turns what is seen into dirty paths.
//!
//! A directory is watched first and listed after, so whatever happens in it is either in the list or an event. What a scan finds is compared
//! with the tree; only what differs becomes dirty. A directory that moved is compared with the same directory at its old path, found by
//! inode, so a rename of a large tree dirties nothing in it.
//!
//! Names that came and went are kept apart ([`Walker::take_shaken`]): such an event at a directory is one of every path below it.
//!
//! **Invariant:** while [`Walker::is_settled`] is false something is not known yet, and no generation may claim to be one instant.

mod findings;
mod fleeting;
mod inodes;
mod intake;
mod lost;
mod moves;
mod poll;
mod scan;
mod survey;
mod suspended;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::fs::FsError;
use crate::thought::dirty::Dirty;
use crate::thought::filter::Filter;
use crate::thought::generation::Reason;
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::watch::{Barrier, Change, Limit, Mailbox, SourceId, Watch, WatchError, Watcher};
use crate::words::entry::{Inode, InodeId, Timestamp};
use crate::words::path::RelPath;

pub use findings::{Findings, Listed};
use fleeting::Fleeting;
use lost::Lost;
use moves::Moves;
pub use moves::TELLING;
pub use survey::{LeftOut, Survey, TEMPORARIES, Tally, Vital};

/// What can stop a walk altogether; trouble with a single path is a finding.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The home itself cannot be read any more.
    #[error("cannot read the home")]
    Home(#[source] FsError),
    /// The watcher failed as a whole.
    #[error("cannot watch the home")]
    Watch(#[from] WatchError),
}

/// How far a pending scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// The directory's own children.
    Children,
    /// Everything below, whose watches are not in doubt.
    Again,
    /// Everything below.
    Below,
}

impl Reach {
    /// As far as either.
    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Below }
    }
}

/// From so many dirty paths on, 25 MiB or so, a primary gathers no more.
pub const DIRTY_CAP: usize = 100_000;

/// Who has answered the barrier that stands.
struct Awaited {
    barrier: Barrier,
    sources: BTreeSet<SourceId>,
    /// Whether nothing awaited its watch or scan when the last answer came.
    was_settled: bool,
    /// A queue that had not answered yet has begun anew, and may never answer.
    is_lost: bool,
}

impl Walker {
    /// Where the changes wait; also ends the present wait of whoever listens.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        self.watcher.mailbox()
    }
}

/// Knows what is watched, what awaits a scan and what is dirty.
pub struct Walker<W: Watch = Watcher> {
    root: W::Home,
    watcher: W,
    filter: Filter,
    watched: BTreeSet<RelPath>,
    /// Directories that are not.
    polled: BTreeSet<RelPath>,
    /// Whose turn it was last.
    poll_from: RelPath,
    limit: Option<Limit>,
    pending: BTreeMap<RelPath, Reach>,
    /// Left as they are.
    suspended: BTreeSet<RelPath>,
    dirty: Dirty,
    /// What of that had its content written, or did while it was being captured; true if a cut has left it to be read beside the cuts since.
    written: BTreeMap<RelPath, bool>,
    findings: Findings,
    /// From so many dirty paths on no more are gathered: of what changes beyond, the directory awaits its scan.
    dirty_cap: usize,
    doubts: BTreeSet<Reason>,
    awaited: Option<Awaited>,
    /// What came behind the answer to a barrier, not taken in yet.
    behind: Vec<Change>,
    /// Where names came or went.
    shaken: BTreeSet<RelPath>,
    /// What of that went, by the last word of it, or did while it was being captured.
    gone: BTreeSet<RelPath>,
    /// What of that was found emptied, and since when, by the monotonic clock.
    emptied: BTreeMap<RelPath, (Inode, Duration)>,
    /// Renames that were told in part.
    moves: Moves,
    /// Names that came since a cut.
    fleeting: Fleeting,
    /// Inodes that were written by such names.
    linked: BTreeSet<InodeId>,
    /// Whether one of them was lost from sight.
    lost: Lost,
    /// Inodes watched directly, with the names they were known by.
    inodes: BTreeMap<InodeId, BTreeSet<RelPath>>,
    /// Files that changed since then may hold other bytes than their times say.
    doubted_since: Option<Timestamp>,
    has_changed: bool,
}

impl<W: Watch> Walker<W> {
    /// A walker that has all of the home before it, and gathers `dirty_cap` dirty paths or a few more.
    pub fn new(root: W::Home, watcher: W, filter: Filter, dirty_cap: usize) -> Self {
        Self {
            root,
            watcher,
            filter,
            watched: BTreeSet::new(),
            polled: BTreeSet::new(),
            poll_from: RelPath::root(),
            limit: None,
            pending: BTreeMap::from([(RelPath::root(), Reach::Below)]),
            suspended: BTreeSet::new(),
            dirty: Dirty::default(),
            written: BTreeMap::new(),
            findings: Findings::default(),
            dirty_cap,
            doubts: BTreeSet::new(),
            awaited: None,
            behind: Vec::new(),
            shaken: BTreeSet::new(),
            gone: BTreeSet::new(),
            emptied: BTreeMap::new(),
            moves: Moves::default(),
            fleeting: Fleeting::default(),
            linked: BTreeSet::new(),
            lost: Lost::default(),
            inodes: BTreeMap::new(),
            doubted_since: None,
            has_changed: true,
        }
    }

    /// The home.
    pub fn root(&self) -> &W::Home {
        &self.root
    }

    /// What is replicated.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What is dirty.
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// What is dirty, to be taken or put back.
    pub fn dirty_mut(&mut self) -> &mut Dirty {
        &mut self.dirty
    }

    /// What was met that is not replicated, or not watched.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// For what a capture meets.
    pub fn findings_mut(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// How many watches stand.
    pub fn watches(&self) -> usize {
        self.watcher.watches()
    }

    /// True if no directory awaits its watch or its scan.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// True if so much is dirty that nothing more is scanned before some of it is taken.
    pub fn is_full(&self) -> bool {
        self.dirty.len() >= self.dirty_cap
    }

    /// True if what is in the directory at `path` is still to be looked at.
    pub fn awaits_scan(&self, path: &RelPath) -> bool {
        self.pending.contains_key(path)
    }

    /// How many directories await their scan.
    pub fn awaiting(&self) -> usize {
        self.pending.len()
    }

    /// What happened since it was last asked that a proof cannot bear.
    pub fn take_doubts(&mut self) -> BTreeSet<Reason> {
        std::mem::take(&mut self.doubts)
    }

    /// The paths at which names came or went since it was last asked; the root if there were too many to tell.
    pub fn take_shaken(&mut self) -> BTreeSet<RelPath> {
        std::mem::take(&mut self.shaken)
    }

    /// The paths from which something moved, to where was not told yet; `now` is by the monotonic clock.
    pub fn half_moved(&mut self, now: Duration) -> BTreeSet<RelPath> {
        for path in self.moves.give_up(now) {
            self.lost_sight(&path);
        }
        self.moves.halves()
    }

    /// The inodes that something was written to by a further name since it was last asked. The names that the tree knows of them are marked; of one
    /// that is new only a cut knows the name.
    pub fn take_linked(&mut self) -> BTreeSet<InodeId> {
        std::mem::take(&mut self.linked)
    }

    /// True if anything was marked dirty since it was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Waits up to `timeout` for changes and takes them in.
    pub fn listen<S: Store>(&mut self, tree: &Tree<S>, timeout: Duration, now: Timestamp) -> Result<(), WalkError> {
        self.take_behind(tree, now)?;
        let changes = self.watcher.drain(timeout);
        changes.into_iter().try_for_each(|change| self.take_in(tree, change, now))
    }

    /// Waits up to `timeout` for answers to the barrier that was raised, and takes in what comes before them. What a source tells behind its answer
    /// is as if it were told later: it waits for [`Walker::take_behind`].
    pub fn listen_for_answers<S: Store>(
        &mut self,
        tree: &Tree<S>,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<(), WalkError> {
        for change in self.watcher.drain(timeout) {
            let has_answered = |awaited: &Awaited| awaited.sources.contains(&change.source);
            match self.awaited.as_ref().is_some_and(has_answered) {
                true => self.behind.push(change),
                false => self.take_in(tree, change, now)?,
            }
        }
        Ok(())
    }

    /// Takes in what came behind the answers to the last barrier.
    pub fn take_behind<S: Store>(&mut self, tree: &Tree<S>, now: Timestamp) -> Result<(), WalkError> {
        std::mem::take(&mut self.behind).into_iter().try_for_each(|change| self.take_in(tree, change, now))
    }

    /// Raises a barrier; [`Walker::has_answered`] tells when it has come through every queue.
    pub fn raise_barrier(&mut self) -> Result<Barrier, WalkError> {
        let barrier = self.watcher.raise_barrier()?;
        self.awaited = Some(Awaited { barrier, sources: BTreeSet::new(), was_settled: false, is_lost: false });
        Ok(barrier)
    }

    /// True if every source has answered `barrier`, the last that was raised.
    pub fn has_answered(&self, barrier: &Barrier) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| {
            awaited.barrier.name == barrier.name && awaited.sources.len() >= self.watcher.sources()
        })
    }

    /// True if not every source will answer `barrier`.
    pub fn has_lost(&self, barrier: &Barrier) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.barrier.name == barrier.name && awaited.is_lost)
    }

    /// True if `barrier` was answered, and no directory awaited its watch or scan at that moment.
    pub fn was_settled_at(&self, barrier: &Barrier) -> bool {
        self.has_answered(barrier) && self.awaited.as_ref().is_some_and(|awaited| awaited.was_settled)
    }

    /// Marks a path dirty.
    pub fn mark(&mut self, path: &RelPath, now: Timestamp) {
        if self.is_suspended(path) {
            return;
        }
        self.has_changed = true;
        self.dirty.mark(path, now);
    }

    /// Marks a path dirty whose content was written, whatever its times will say: they were set before the bytes were.
    pub fn mark_written(&mut self, path: &RelPath, now: Timestamp) {
        self.mark(path, now);
        if self.dirty.contains(path) {
            self.written.insert(path.clone(), false);
        }
    }

    /// From now on a scan marks files that were changed since `time` as written, though nothing else says so; with `None` no more.
    pub fn doubt_since(&mut self, time: Option<Timestamp>) {
        self.doubted_since = time;
    }

    /// True while scans do so.
    pub fn is_doubting(&self) -> bool {
        self.doubted_since.is_some()
    }

    /// If content was written at `path`, as far as was heard, and no cut has it yet: whether a cut has left it since.
    pub fn was_written(&self, path: &RelPath) -> Option<bool> {
        self.written.get(path).copied()
    }

    /// A cut leaves what was written at `path` so far to be read beside the cuts.
    pub fn leave_written(&mut self, path: &RelPath) {
        if let Some(is_left) = self.written.get_mut(path) {
            *is_left = true;
        }
    }

    /// True if content was written anywhere that no cut has yet.
    pub fn was_any_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// True if it was heard that `path` went, or a directory above it.
    pub fn has_gone(&self, path: &RelPath) -> bool {
        let mut above = std::iter::successors(Some(path.clone()), RelPath::parent);
        above.any(|path| self.gone.contains(&path))
    }

    /// A cut finds a file emptied; since when it and those before found it just so.
    pub fn found_emptied(&mut self, path: &RelPath, inode: Inode, now: Duration) -> Duration {
        let (known, since) = self.emptied.entry(path.clone()).or_insert((inode, now));
        if *known != inode {
            (*known, *since) = (inode, now);
        }
        *since
    }

    /// A cut has everything but what is dirty: of the rest it is of no matter any more what was heard.
    pub fn forget_heard(&mut self) {
        self.written.retain(|path, _| self.dirty.contains(path));
        self.gone.retain(|path| self.dirty.contains(path));
        self.emptied.retain(|path, _| self.dirty.contains(path));
        self.fleeting.retain(|path| self.dirty.contains(path));
    }

    /// Has everything below `path` watched and compared again.
    pub fn rescan(&mut self, path: &RelPath) {
        self.await_scan(path, Reach::Below);
    }

    fn await_scan(&mut self, path: &RelPath, reach: Reach) {
        if self.is_suspended(path) {
            return;
        }
        let known = self.pending.entry(path.clone()).or_insert(reach);
        *known = reach.and(*known);
    }
}
