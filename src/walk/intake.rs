//! Taking in what the watch tells: what becomes dirty, what awaits a scan, and what can be relied on no more.

use std::collections::{BTreeMap, BTreeSet};

use super::fleeting::{Fresh, Written};
use super::scan::is_unchanged;
use super::{Reach, WalkError, Walker};
use crate::fs::Look as _;
use crate::thought::generation::Reason;
use crate::thought::store::Store;
use crate::thought::tree::{Tree, TreeError};
use crate::watch::{Change, ChangeKind, SourceId, Watch};
use crate::words::entry::{Inode, Timestamp};
use crate::words::path::RelPath;

/// More names that came and went than this are not told one from the other: then all of the home counts as shaken.
const SHAKEN_CAP: usize = 100_000;

impl<W: Watch> Walker<W> {
    pub(super) fn take_in<S: Store>(
        &mut self,
        tree: &Tree<S>,
        change: Change,
        now: Timestamp,
    ) -> Result<(), WalkError> {
        let source = change.source;
        match change.kind {
            ChangeKind::Touched { path, written: is_written } => {
                if self.may_be_replicated(&path) {
                    self.hear(tree, &path, is_written, now)?;
                    let written = self.fleeting.written(&path);
                    self.written_to(tree, &path, written, now)?;
                    // A directory that could not be entered may be open now, and has no watch that would say what is in it; of what has one, and
                    // could not be reached, nothing more is told.
                    let unreadable = &self.findings.unreadable;
                    if unreadable.has(&path) || (!is_written && unreadable.may_have_below(&path)) {
                        self.await_scan(&path, Reach::Below);
                    }
                }
            }
            ChangeKind::Appeared { path, directory, seen } => {
                self.arrived(&path, directory, now);
                if !self.may_be_replicated(&path) {
                    self.linked_from_left_out(tree, &path, seen, now)?;
                } else if !directory {
                    for written in self.fleeting.came(&path, Fresh::seen(seen)) {
                        self.written_to(tree, &path, written, now)?;
                    }
                }
            }
            // A source that is not told what moved in has it looked at as if it were a directory; a scan finds that out.
            ChangeKind::MovedTo { path, cookie, directory, seen } => {
                let fresh = match self.moves.arrived(cookie) {
                    Some((_, Some(fresh))) => fresh.or_seen(seen),
                    // What it leads to now may be what came after that.
                    Some((from, None)) => Fresh::known(tree.row(&from)?.map(|row| row.inode), seen),
                    None => Fresh::seen(seen),
                };
                self.arrived(&path, directory.unwrap_or(true), now);
                if self.may_be_replicated(&path) {
                    for written in self.fleeting.came(&path, fresh) {
                        self.written_to(tree, &path, written, now)?;
                    }
                } else {
                    self.linked_from_left_out(tree, &path, seen, now)?;
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
                    self.hear(tree, &path, true, now)?;
                }
            }
            ChangeKind::Barrier { name } => {
                if let Some(awaited) = self.awaited.as_mut().filter(|awaited| awaited.barrier.name == name) {
                    awaited.sources.insert(source);
                    awaited.was_settled = self.pending.is_empty() && !self.lost.is_lost();
                }
            }
        }
        Ok(())
    }

    /// Marks what was heard of, if it is not left to the scan of its directory.
    fn hear<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        written: bool,
        now: Timestamp,
    ) -> Result<(), TreeError> {
        if self.leaves_to_scan(path) && !(written && self.is_known(tree, path)?) {
            return Ok(());
        }
        match written {
            true => self.mark_written(path, now),
            false => self.mark(path, now),
        }
        Ok(())
    }

    /// True if so much is dirty that `path` is not marked: its directory is scanned when there is room.
    fn leaves_to_scan(&mut self, path: &RelPath) -> bool {
        let Some(parent) = path.parent().filter(|_| self.is_full() && !self.dirty.contains(path)) else { return false };
        self.has_changed = true;
        self.await_scan(&parent, Reach::Children);
        true
    }

    /// True if a scan would find nothing new at `path`: what was written there since it was captured has changed no time.
    fn is_known<S: Store>(&self, tree: &Tree<S>, path: &RelPath) -> Result<bool, TreeError> {
        let Some(stat) = self.root.stat(path).ok().flatten() else { return Ok(false) };
        Ok(tree.row(path)?.is_some_and(|row| is_unchanged(&row, &stat)))
    }

    /// Nothing that `source` told or watched can be relied on any more.
    fn begin_anew(&mut self, source: SourceId, reason: Reason) -> Result<(), WalkError> {
        self.doubts.insert(reason);
        if let Some(awaited) = &mut self.awaited {
            awaited.is_lost |= !awaited.sources.contains(&source);
        }
        self.watcher.restart(source)?;
        self.watched.clear();
        self.inodes.clear();
        self.moves.forget();
        self.fleeting.forget();
        self.lost.is_found();
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
            && !self.leaves_to_scan(&parent)
        {
            self.mark(&parent, now);
        }
    }

    /// A name came or went; true if it is marked, false if it is left to a scan.
    fn stir(&mut self, path: &RelPath, now: Timestamp) -> bool {
        self.shake(path);
        let is_marked = !self.leaves_to_scan(path);
        if is_marked {
            self.mark(path, now);
        }
        is_marked
    }

    fn arrived(&mut self, path: &RelPath, may_be_directory: bool, now: Timestamp) {
        self.mark_parent(path, now);
        if !self.may_be_replicated(path) {
            return;
        }
        self.stir(path, now);
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
        if self.stir(path, now) {
            self.gone.insert(path.clone());
        }
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
            Written::Linked(_) if self.linked.len() >= SHAKEN_CAP => self.lost_sight(path),
            Written::Linked(id) => {
                self.linked.insert(id);
                for name in tree.names_of(id, usize::MAX)? {
                    self.hear(tree, &name, true, now)?;
                }
            }
            Written::Any => self.lost_sight(path),
        }
        Ok(())
    }

    /// A name that is left out may be a further one of a file that is not, and be written by: that file is captured, and watched itself from then on.
    /// Of one that was gone before it was looked at nothing is made: comparing the home for each short-lived temporary would cost too much.
    fn linked_from_left_out<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        seen: Option<Inode>,
        now: Timestamp,
    ) -> Result<(), TreeError> {
        match seen.filter(|inode| inode.nlink > 1) {
            Some(inode) => self.written_to(tree, path, Written::Linked(inode.id), now),
            None => Ok(()),
        }
    }

    pub(super) fn forget_pending_within(&mut self, path: &RelPath) {
        let pending = self.pending.range(path.clone()..).take_while(|(pending, _)| pending.is_within(path));
        for pending in pending.map(|(pending, _)| pending.clone()).collect::<Vec<_>>() {
            self.pending.remove(&pending);
        }
    }

    pub(super) fn unwatch(&mut self, path: &RelPath) {
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
