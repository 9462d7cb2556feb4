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

use crate::fs::{FsError, Look as _};
use crate::thought::dirty::Dirty;
use crate::thought::filter::Filter;
use crate::thought::generation::Reason;
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::watch::{Barrier, Change, ChangeKind, Limit, Mailbox, SourceId, Watch, WatchError, Watcher};
use crate::words::entry::{Inode, InodeId, Timestamp};
use crate::words::path::RelPath;

pub use findings::{Findings, Listed};
use fleeting::{Fleeting, Fresh, Written};
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

/// More names that came and went than this are not told one from the other: then all of the home counts as shaken.
const SHAKEN_CAP: usize = 100_000;

/// Who has answered the barrier that stands.
struct Awaited {
    barrier: Barrier,
    sources: BTreeSet<SourceId>,
    /// Whether nothing awaited its watch or scan when the last answer came.
    was_settled: bool,
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
    /// Inodes watched directly, with the names they were known by.
    inodes: BTreeMap<InodeId, BTreeSet<RelPath>>,
    has_changed: bool,
}

impl<W: Watch> Walker<W> {
    /// A walker that has all of the home before it.
    pub fn new(root: W::Home, watcher: W, filter: Filter) -> Self {
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
            doubts: BTreeSet::new(),
            awaited: None,
            behind: Vec::new(),
            shaken: BTreeSet::new(),
            gone: BTreeSet::new(),
            emptied: BTreeMap::new(),
            moves: Moves::default(),
            fleeting: Fleeting::default(),
            inodes: BTreeMap::new(),
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

    /// How many directories await their scan.
    pub fn awaiting(&self) -> usize {
        self.pending.len()
    }

    /// What happened since it was last asked that a proof cannot bear.
    pub fn take_doubts(&mut self) -> BTreeSet<Reason> {
        std::mem::take(&mut self.doubts)
    }

    /// True if there are such doubts.
    pub fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
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
        self.awaited = Some(Awaited { barrier, sources: BTreeSet::new(), was_settled: false });
        Ok(barrier)
    }

    /// True if every source has answered `barrier`, the last that was raised.
    pub fn has_answered(&self, barrier: &Barrier) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| {
            awaited.barrier.name == barrier.name && awaited.sources.len() >= self.watcher.sources()
        })
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

    fn take_in<S: Store>(&mut self, tree: &Tree<S>, change: Change, now: Timestamp) -> Result<(), WalkError> {
        let source = change.source;
        match change.kind {
            ChangeKind::Touched { path, written } => {
                if self.may_be_replicated(&path) {
                    match written {
                        true => self.mark_written(&path, now),
                        false => self.mark(&path, now),
                    }
                    let written = self.fleeting.written(&path);
                    self.written_to(tree, &path, written, now)?;
                    // A directory that could not be entered may be open now, and has no watch that would say what is in it.
                    if self.findings.unreadable.has(&path) {
                        self.await_scan(&path, Reach::Below);
                    }
                }
            }
            ChangeKind::Appeared { path, directory, seen } => {
                self.arrived(&path, directory, now);
                if !directory && self.may_be_replicated(&path) {
                    let written = self.fleeting.came(&path, Fresh::seen(seen));
                    self.written_to(tree, &path, written, now)?;
                }
            }
            // A source that is not told what moved in has it looked at as if it were a directory; a scan finds that out.
            ChangeKind::MovedTo { path, cookie, directory, seen } => {
                let fresh = match self.moves.arrived(cookie) {
                    Some(moved) => moved.map(|fresh| fresh.or_seen(seen)),
                    None => Some(Fresh::seen(seen)),
                };
                self.arrived(&path, directory.unwrap_or(true), now);
                if self.may_be_replicated(&path) {
                    let written = match fresh {
                        Some(fresh) => self.fleeting.came(&path, fresh),
                        None => self.fleeting.is_known(&path),
                    };
                    self.written_to(tree, &path, written, now)?;
                }
            }
            ChangeKind::Vanished { path, directory } => {
                self.left(&path, directory, now);
                let written = self.fleeting.went(&path);
                self.written_to(tree, &path, written, now)?;
            }
            ChangeKind::MovedFrom { path, cookie, directory } => {
                let fresh = self.fleeting.moves(&path);
                if self.may_be_replicated(&path) && !self.moves.left(cookie, &path, fresh) {
                    self.lost_sight(&path);
                }
                self.left(&path, directory.unwrap_or(true), now);
            }
            ChangeKind::Overflow => {
                self.findings.overflows += 1;
                self.begin_anew(source, Reason::Overflow)?;
            }
            ChangeKind::Unmounted { path } => {
                self.doubts.insert(Reason::Unmounted);
                self.rescan(&path);
            }
            ChangeKind::LostWatch { path } if path.is_reserved() => self.begin_anew(source, Reason::LostWatch)?,
            ChangeKind::LostWatch { path } => {
                self.doubts.insert(Reason::LostWatch);
                // What is below has watches of its own, unless it is the home that moved.
                self.await_scan(&path, if path.is_root() { Reach::Below } else { Reach::Children });
            }
            ChangeKind::InodeTouched { inode } => {
                let noted = self.inodes.get(&inode).cloned().unwrap_or_default();
                for path in noted.into_iter().chain(tree.names_of(inode, usize::MAX)?) {
                    self.mark_written(&path, now);
                }
            }
            ChangeKind::Barrier { name } => {
                if let Some(awaited) = self.awaited.as_mut().filter(|awaited| awaited.barrier.name == name) {
                    awaited.sources.insert(source);
                    awaited.was_settled = self.pending.is_empty();
                }
            }
        }
        Ok(())
    }

    /// Nothing that `source` told or watched can be relied on any more.
    fn begin_anew(&mut self, source: SourceId, reason: Reason) -> Result<(), WalkError> {
        self.doubts.insert(reason);
        self.watcher.restart(source)?;
        self.watched.clear();
        self.inodes.clear();
        self.moves.forget();
        self.fleeting.forget();
        self.pending = BTreeMap::from([(RelPath::root(), Reach::Below)]);
        Ok(())
    }

    /// False if `path` is left out whatever it is: a pattern may be about directories alone.
    fn may_be_replicated(&self, path: &RelPath) -> bool {
        !self.filter.leaves_out_within(path, false) || !self.filter.leaves_out_within(path, true)
    }

    fn shake(&mut self, path: &RelPath) {
        if self.shaken.len() >= SHAKEN_CAP {
            self.shaken = BTreeSet::from([RelPath::root()]);
        }
        self.shaken.insert(path.clone());
    }

    /// The time of the directory moves even if the name in it is left out.
    fn mark_parent(&mut self, path: &RelPath, now: Timestamp) {
        if let Some(parent) = path.parent()
            && !self.filter.leaves_out_within(&parent, true)
        {
            self.mark(&parent, now);
        }
    }

    fn arrived(&mut self, path: &RelPath, may_be_directory: bool, now: Timestamp) {
        self.mark_parent(path, now);
        if !self.may_be_replicated(path) {
            return;
        }
        self.shake(path);
        self.mark(path, now);
        self.gone.remove(path);
        if may_be_directory {
            self.await_scan(path, Reach::Below);
        }
    }

    fn left(&mut self, path: &RelPath, may_be_directory: bool, now: Timestamp) {
        self.mark_parent(path, now);
        if !self.may_be_replicated(path) {
            return;
        }
        self.shake(path);
        self.mark(path, now);
        self.gone.insert(path.clone());
        if may_be_directory {
            self.unwatch(path);
            self.forget_pending_within(path);
            self.findings.forget_within(path);
            self.forget_polled_within(path);
            // The word of its end may come late, from a directory that someone kept open, when another has its name already.
            if self.root.stat(path).ok().flatten().is_some_and(|stat| stat.is_directory()) {
                self.await_scan(path, Reach::Below);
            }
        }
    }

    /// What was written under `path` was written to what `written` says.
    fn written_to<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        written: Written,
        now: Timestamp,
    ) -> Result<(), TreeError> {
        match written {
            Written::Here => {}
            Written::Linked(id) => {
                for name in tree.names_of(id, usize::MAX)? {
                    self.mark_written(&name, now);
                }
            }
            Written::Any => self.lost_sight(path),
        }
        Ok(())
    }

    /// What had the name `path` could not be followed, and what was written to it may have been written to any file: all are compared. The watches are
    /// what they were.
    fn lost_sight(&mut self, path: &RelPath) {
        tracing::debug!(%path, "gone before it was looked at, and it may have been a name of any file; comparing the home");
        self.doubts.insert(Reason::AwaitingScan);
        self.await_scan(&RelPath::root(), Reach::Again);
    }

    fn forget_pending_within(&mut self, path: &RelPath) {
        let pending = self.pending.range(path.clone()..).take_while(|(pending, _)| pending.is_within(path));
        for pending in pending.map(|(pending, _)| pending.clone()).collect::<Vec<_>>() {
            self.pending.remove(&pending);
        }
    }

    fn unwatch(&mut self, path: &RelPath) {
        let below: Vec<RelPath> =
            self.watched.range(path.clone()..).take_while(|watched| watched.is_within(path)).cloned().collect();
        if below.is_empty() {
            return;
        }
        for watched in below {
            self.watched.remove(&watched);
        }
        self.watcher.unwatch_directory(path);
    }
}
