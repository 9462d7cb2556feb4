//! The walker: places watches, then scans, and turns what is seen into dirty paths.
//!
//! A directory is watched first and listed after, so whatever happens in it is either in the list or an event. What a scan finds is compared
//! with the tree; only what differs becomes dirty. A directory that moved is compared with the same directory at its old path, found by
//! inode, so a rename of a large tree dirties nothing in it.
//!
//! **Invariant:** while [`Walker::is_settled`] is false something is not known yet, and no generation may claim to be one instant.

mod findings;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::fs::{FsError, Root};
use crate::thought::dirty::Dirty;
use crate::thought::filter::Filter;
use crate::thought::generation::Reason;
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::watch::{Barrier, BarrierName, Change, ChangeKind, SourceId, WatchError, Watcher};
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

pub use findings::{Findings, Listed};

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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reach {
    /// The directory's own children.
    Children,
    /// Everything below.
    Below,
}

/// Knows what is watched, what awaits a scan and what is dirty.
pub struct Walker {
    root: Root,
    watcher: Watcher,
    filter: Filter,
    watched: BTreeSet<RelPath>,
    pending: BTreeMap<RelPath, Reach>,
    dirty: Dirty,
    findings: Findings,
    doubts: BTreeSet<Reason>,
    answers: HashMap<BarrierName, BTreeSet<SourceId>>,
    has_changed: bool,
}

impl Walker {
    /// A walker that has all of the home before it.
    pub fn new(root: Root, watcher: Watcher, filter: Filter) -> Self {
        Self {
            root,
            watcher,
            filter,
            watched: BTreeSet::new(),
            pending: BTreeMap::from([(RelPath::root(), Reach::Below)]),
            dirty: Dirty::default(),
            findings: Findings::default(),
            doubts: BTreeSet::new(),
            answers: HashMap::new(),
            has_changed: true,
        }
    }

    /// The home.
    pub fn root(&self) -> &Root {
        &self.root
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

    /// True if anything was marked dirty since it was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Ends the present wait of whoever listens.
    pub fn mailbox(&self) -> &std::sync::Arc<crate::watch::Mailbox> {
        self.watcher.mailbox()
    }

    /// Waits up to `timeout` for changes and takes them in.
    pub fn listen<S: Store>(&mut self, tree: &Tree<S>, timeout: Duration, now: Timestamp) -> Result<(), WalkError> {
        let changes = self.watcher.mailbox().drain(timeout);
        changes.into_iter().try_for_each(|change| self.take_in(tree, change, now))
    }

    /// Raises a barrier; [`Walker::has_answered`] tells when it has come through every queue.
    pub fn raise_barrier(&mut self) -> Result<Barrier, WalkError> {
        self.answers.clear();
        let barrier = self.watcher.raise_barrier()?;
        self.answers.insert(barrier.name, BTreeSet::new());
        Ok(barrier)
    }

    /// True if every source has answered `barrier`.
    pub fn has_answered(&self, barrier: &Barrier) -> bool {
        self.answers.get(&barrier.name).is_some_and(|sources| sources.len() >= self.watcher.sources())
    }

    /// Marks a path dirty.
    pub fn mark(&mut self, path: &RelPath, now: Timestamp) {
        self.has_changed = true;
        self.dirty.mark(path, now);
    }

    /// Has everything below `path` watched and compared again.
    pub fn rescan(&mut self, path: &RelPath) {
        self.await_scan(path, Reach::Below);
    }

    fn await_scan(&mut self, path: &RelPath, reach: Reach) {
        let known = self.pending.entry(path.clone()).or_insert(reach);
        *known = reach.max(*known);
    }

    fn mark_with_parent(&mut self, path: &RelPath, now: Timestamp) {
        self.mark(path, now);
        if let Some(parent) = path.parent() {
            self.mark(&parent, now);
        }
    }

    fn take_in<S: Store>(&mut self, tree: &Tree<S>, change: Change, now: Timestamp) -> Result<(), WalkError> {
        let source = change.source;
        match change.kind {
            ChangeKind::Touched { path } => {
                if !self.filter.leaves_out_within(&path, false) {
                    self.mark(&path, now);
                }
            }
            ChangeKind::Appeared { path, directory } => self.arrived(&path, directory, now),
            // A source that is not told what moved in has it looked at as if it were a directory; a scan finds that out.
            ChangeKind::MovedTo { path, directory, .. } => self.arrived(&path, directory.unwrap_or(true), now),
            ChangeKind::Vanished { path, directory } => self.left(&path, directory, now),
            ChangeKind::MovedFrom { path, directory, .. } => self.left(&path, directory.unwrap_or(true), now),
            ChangeKind::Overflow => {
                self.doubts.insert(Reason::Overflow);
                self.findings.overflows += 1;
                self.watcher.restart(source)?;
                self.watched.clear();
                self.pending = BTreeMap::from([(RelPath::root(), Reach::Below)]);
            }
            ChangeKind::Unmounted { path } => {
                self.doubts.insert(Reason::Unmounted);
                self.rescan(&path);
            }
            ChangeKind::LostWatch { path } => {
                if path.is_reserved() {
                    self.watcher.restart(source)?;
                    self.watched.clear();
                    self.pending = BTreeMap::from([(RelPath::root(), Reach::Below)]);
                } else {
                    self.rescan(&path);
                }
                self.doubts.insert(Reason::LostWatch);
            }
            ChangeKind::InodeTouched { inode } => {
                for path in tree.names_of(inode, usize::MAX)? {
                    self.mark(&path, now);
                }
            }
            ChangeKind::Barrier { name } => {
                if let Some(sources) = self.answers.get_mut(&name) {
                    sources.insert(source);
                }
            }
        }
        Ok(())
    }

    fn arrived(&mut self, path: &RelPath, may_be_directory: bool, now: Timestamp) {
        if self.filter.leaves_out_within(path, may_be_directory) {
            return;
        }
        self.mark_with_parent(path, now);
        if may_be_directory {
            self.await_scan(path, Reach::Below);
        }
    }

    fn left(&mut self, path: &RelPath, may_be_directory: bool, now: Timestamp) {
        if self.filter.leaves_out_within(path, false) && self.filter.leaves_out_within(path, true) {
            return;
        }
        self.mark_with_parent(path, now);
        if may_be_directory {
            self.unwatch(path);
            self.pending.retain(|pending, _| !pending.is_within(path));
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
        self.findings.polled.retain(|polled| !polled.is_within(path));
    }
}
