//! What conflicts: what may not have been, at the first barrier, as it was captured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reading::digest_of;
use super::round::{CutError, Edge, Round};
use crate::fs::{FileType, Look as _, Stat};
use crate::thought::plan::Present;
use crate::thought::store::Store;
use crate::walk::TELLING;
use crate::watch::Watch;
use crate::words::entry::{Inode, InodeId, Timestamp};
use crate::words::path::RelPath;

/// No single write lasts longer, by the clock of change times.
const LONGEST_WRITE: Duration = Duration::from_secs(60);
/// How many names of one inode are looked at.
pub(super) const NAMES_CAP: usize = 4096;

/// How a captured path does not look as it must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubt {
    /// It is something else by now.
    Replaced,
    /// Its change time is not older than the barrier.
    Changed(Timestamp),
    /// It does not read as it did, or was taken away untold: a call is under way, whose time was set before the barrier.
    Underway,
}

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// Condition (d): looks once more at every path that was captured in this round. One of an earlier round was looked at then, and has had no event
    /// since: what happens to it untold is a call under way, which has not happened yet.
    pub(super) fn look_again(&self, opening: &Edge) -> Result<BTreeMap<RelPath, Doubt>, CutError> {
        let mut doubts = BTreeMap::new();
        let mut directories = BTreeMap::new();
        let _pass = self.walker.root().pass();
        for path in &self.tried {
            let Some(found) = self.captures.get(path) else { continue };
            let stat = self.walker.root().stat(path).ok().flatten();
            let doubt = match (found, &stat) {
                (Some(present), Some(stat)) if stat.inode.id != present.inode.id => Some(Doubt::Replaced),
                (Some(present), Some(stat)) if stat.inode.ctime != present.inode.ctime => {
                    Some(Doubt::Changed(stat.inode.ctime))
                }
                (Some(present), Some(stat)) => changed_since(stat, opening)
                    .or_else(|| self.read_again(path, present, opening))
                    .or_else(|| self.doubt_of_presence(path, opening)),
                (Some(_), None) => Some(Doubt::Replaced),
                (None, Some(stat)) if !self.is_replicated(path, stat) => changed_since(stat, opening),
                (None, Some(_)) => Some(Doubt::Replaced),
                (None, None) => self.doubt_of_absence(path, opening, &mut directories),
            };
            if let Some(doubt) = doubt {
                doubts.insert(path.clone(), doubt);
            }
        }
        Ok(doubts)
    }

    /// Reads once more what was read in this round. A write sets the change time before its first byte and has its event after the last: of one
    /// that lasts from before the first barrier to after the second, nothing else tells that its bytes came while others were being read.
    /// What reads the same twice was so in between.
    fn read_again(&self, path: &RelPath, present: &Present, opening: &Edge) -> Option<Doubt> {
        let is_recent = opening.barrier.ctime.since(present.inode.ctime) < LONGEST_WRITE;
        let (true, Some(digest)) =
            (is_recent && self.capturer.read.contains(&present.inode.id), present.entry.content())
        else {
            return None;
        };
        let read = self.walker.root().open_read(path).and_then(|file| digest_of(&file, present.entry.size()));
        (read.ok() != Some(digest)).then_some(Doubt::Underway)
    }

    fn is_replicated(&self, path: &RelPath, stat: &Stat) -> bool {
        let is_special = matches!(stat.what, FileType::Special(_));
        !is_special && !self.walker.filter().leaves_out_within(path, stat.is_directory())
    }

    /// What is there by the last word of it is not, if its directory changed just before: a call is under way that put it there, and what had the name
    /// before may be taken for it.
    fn doubt_of_presence(&self, path: &RelPath, opening: &Edge) -> Option<Doubt> {
        if !self.walker.has_gone(path) {
            return None;
        }
        let directory = self.walker.root().stat(&path.parent()?).ok().flatten()?;
        (opening.barrier.ctime.since(directory.inode.ctime) < TELLING).then_some(Doubt::Underway)
    }

    /// What is not there was not there before either, if the nearest directory above that is there did not change; and if that changed just
    /// before, it was told that the name went. Else a call is under way that took it away, and it may be one that gives it elsewhere.
    fn doubt_of_absence(
        &self,
        path: &RelPath,
        opening: &Edge,
        directories: &mut BTreeMap<RelPath, Option<Stat>>,
    ) -> Option<Doubt> {
        for directory in std::iter::successors(path.parent(), RelPath::parent) {
            let found = directories
                .entry(directory.clone())
                .or_insert_with(|| self.walker.root().stat(&directory).ok().flatten());
            if let Some(stat) = found {
                let is_recent = opening.barrier.ctime.since(stat.inode.ctime) < TELLING;
                let is_untold = is_recent && self.has_gone_lately(path) && !self.was_told_gone(path);
                return changed_since(stat, opening).or(is_untold.then_some(Doubt::Underway));
            }
        }
        Some(Doubt::Replaced)
    }

    /// Conditions (c) and (d): captured paths that had an event, below a name that came or went, of an inode that had an event under
    /// another name, or `changed`. A change time later than the closing barrier was set under another clock, before the round.
    pub(super) fn conflicts(
        &mut self,
        changed: &BTreeMap<RelPath, Doubt>,
        closing: &Edge,
    ) -> Result<BTreeSet<RelPath>, CutError> {
        self.mark_linked();
        self.shaken = self.walker.take_shaken();
        let is_conflict = |doubt: &Doubt| match doubt {
            Doubt::Replaced | Doubt::Underway => true,
            Doubt::Changed(ctime) => *ctime <= closing.barrier.ctime,
        };
        let mut conflicts: BTreeSet<RelPath> =
            changed.iter().filter(|(_, doubt)| is_conflict(doubt)).map(|(path, _)| path.clone()).collect();
        conflicts.extend(self.missed.iter().cloned());
        conflicts.extend(self.captures.keys().filter(|path| self.walker.dirty().contains(path)).cloned());
        for path in &self.shaken {
            conflicts.extend(self.below(path));
        }
        let linked = self.captures.iter().filter_map(|(path, found)| Some((path, found.as_ref()?)));
        let linked = linked.filter(|(_, present)| present.entry.link.is_some());
        let mut by_inode: BTreeMap<InodeId, Vec<&RelPath>> = BTreeMap::new();
        for (path, present) in linked {
            by_inode.entry(present.inode.id).or_default().push(path);
        }
        for (id, paths) in by_inode {
            let mut names = self.tree.names_of(id, NAMES_CAP)?;
            names.extend(paths.iter().map(|path| (*path).clone()));
            if names.iter().any(|name| self.had_event(name) || conflicts.contains(name)) {
                conflicts.extend(paths.into_iter().cloned());
            }
        }
        Ok(conflicts)
    }

    /// True if what was at `path` may have gone just now: something was heard of it, or it was found elsewhere.
    fn has_gone_lately(&self, path: &RelPath) -> bool {
        let identities = &self.capturer.identities;
        self.heard.contains_key(path) || identities.old_slot(path).is_some_and(|old| identities.has_left(&old))
    }

    /// True if it was told that `path` went: by its name, or by the one it had before a directory above it moved.
    fn was_told_gone(&self, path: &RelPath) -> bool {
        let old = || self.capturer.identities.old_slot(path);
        self.walker.has_gone(path) || old().is_some_and(|old| self.walker.has_gone(&old))
    }

    /// Captured absences of what had moved away at the first barrier, to where was not told: its new name may be told after the second, and so may it
    /// that something else had that name before.
    pub(super) fn half_moved(&self, opening: &Edge) -> BTreeSet<RelPath> {
        let is_absent = |path: &&RelPath| matches!(self.captures.get(*path), Some(None));
        opening.half_moved.iter().filter(is_absent).cloned().collect()
    }

    /// Where that was found of which the old place is in conflict: what came to one is what went from the other.
    pub(super) fn other_halves(&self, conflicts: &BTreeSet<RelPath>) -> Result<BTreeSet<RelPath>, CutError> {
        let identities = &self.capturer.identities;
        let mut moved = BTreeSet::new();
        for path in conflicts.iter().filter(|path| matches!(self.captures.get(*path), Some(None))) {
            if let Some(old) = identities.old_slot(path).filter(|old| identities.has_left(old)) {
                moved.extend(self.tree.row(&old)?.map(|row| row.inode.id));
            }
        }
        if moved.is_empty() {
            return Ok(BTreeSet::new());
        }
        let found = self.captures.iter().filter_map(|(path, found)| Some((path, found.as_ref()?)));
        Ok(found.filter(|(_, present)| moved.contains(&present.inode.id)).map(|(path, _)| path.clone()).collect())
    }

    /// Captured files that were emptied and have not been found so for long: nothing else tells of a truncation under way, of which the time is set
    /// when it is done.
    pub(super) fn being_emptied(&mut self, opening: &Edge) -> Result<BTreeSet<RelPath>, CutError> {
        let mut emptied = BTreeSet::new();
        for (path, present) in self.captures.iter().filter_map(|(path, found)| Some((path, found.as_ref()?))) {
            let is_empty = present.entry.content().is_some() && present.entry.size() == 0;
            if is_empty && (self.walker.was_written(path).is_some() || self.had_content(path, &present.inode)?) {
                let since = self.walker.found_emptied(path, present.inode, opening.moment.after);
                if opening.moment.after.saturating_sub(since) < TELLING {
                    emptied.insert(path.clone());
                }
            }
        }
        Ok(emptied)
    }

    /// True if the file at `path` is known to have had content before.
    fn had_content(&self, path: &RelPath, inode: &Inode) -> Result<bool, CutError> {
        if self.earlier.get(path).is_some_and(|earlier| earlier.inode.is_same(inode) && earlier.entry.size() > 0) {
            return Ok(true);
        }
        let Some(old) = self.capturer.identities.old_slot(path) else { return Ok(false) };
        Ok(self.tree.row(&old)?.is_some_and(|row| row.inode.is_same(inode) && row.entry.size() > 0))
    }

    /// True if `name`, by the old or the new tree, or a name above it, had an event.
    fn had_event(&self, name: &RelPath) -> bool {
        let is_within_shaken = || {
            let mut above = Some(name.clone());
            while let Some(path) = above {
                if self.shaken.contains(&path) {
                    return true;
                }
                above = path.parent();
            }
            false
        };
        let new = self.capturer.identities.new_slot(name);
        self.walker.dirty().contains(name) || self.walker.dirty().contains(&new) || is_within_shaken()
    }

    /// The latest change time of what conflicted: the next barrier must be later.
    pub(super) fn latest_change(&self, conflicts: &BTreeSet<RelPath>) -> Timestamp {
        let at = |path: &RelPath| self.walker.root().stat(path).ok().flatten();
        let times = conflicts.iter().flat_map(|path| [at(path), path.parent().and_then(|parent| at(&parent))]);
        times.flatten().map(|stat| stat.inode.ctime).max().unwrap_or_default()
    }
}

fn changed_since(stat: &Stat, opening: &Edge) -> Option<Doubt> {
    (stat.inode.ctime >= opening.barrier.ctime).then_some(Doubt::Changed(stat.inode.ctime))
}
