//! What conflicts: what may not have been, at the first barrier, as it was captured.

use std::collections::{BTreeMap, BTreeSet};

use super::round::{CutError, Edge, Round};
use crate::fs::{FileType, Look as _, Stat};
use crate::thought::store::Store;
use crate::watch::Watch;
use crate::words::entry::{InodeId, Timestamp};
use crate::words::path::RelPath;

/// How many names of one inode are looked at.
pub(super) const NAMES_CAP: usize = 4096;

/// How a captured path does not look as it must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubt {
    /// It is something else by now.
    Replaced,
    /// Its change time is not older than the barrier.
    Changed(Timestamp),
}

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// Condition (d): looks at every captured path once more.
    pub(super) fn look_again(&self, opening: &Edge) -> Result<BTreeMap<RelPath, Doubt>, CutError> {
        let mut doubts = BTreeMap::new();
        let mut directories: BTreeMap<RelPath, Option<Doubt>> = BTreeMap::new();
        let changed =
            |stat: &Stat| (stat.inode.ctime >= opening.barrier.ctime).then_some(Doubt::Changed(stat.inode.ctime));
        let _pass = self.walker.root().pass();
        for (path, found) in &self.captures {
            let stat = self.walker.root().stat(path).ok().flatten();
            let doubt = match (found, &stat) {
                (Some(present), Some(stat)) if stat.inode.id != present.inode.id => Some(Doubt::Replaced),
                // Captured in an earlier round, and changed since by a name that nobody has seen: a link made, written through and removed.
                (Some(present), Some(stat)) if stat.inode.ctime != present.inode.ctime => {
                    Some(Doubt::Changed(stat.inode.ctime))
                }
                (Some(_), Some(stat)) => changed(stat),
                (Some(_), None) => Some(Doubt::Replaced),
                (None, Some(stat)) if !self.is_replicated(path, stat) => changed(stat),
                (None, Some(_)) => Some(Doubt::Replaced),
                (None, None) => self.doubt_of_absence(path, &changed, &mut directories),
            };
            if let Some(doubt) = doubt {
                doubts.insert(path.clone(), doubt);
            }
        }
        Ok(doubts)
    }

    fn is_replicated(&self, path: &RelPath, stat: &Stat) -> bool {
        let is_special = matches!(stat.what, FileType::Special(_));
        !is_special && !self.walker.filter().leaves_out_within(path, stat.is_directory())
    }

    /// What is not there was not there before either, if the nearest directory above that is there did not change.
    fn doubt_of_absence(
        &self,
        path: &RelPath,
        changed: &dyn Fn(&Stat) -> Option<Doubt>,
        directories: &mut BTreeMap<RelPath, Option<Doubt>>,
    ) -> Option<Doubt> {
        let mut above = path.parent();
        while let Some(directory) = above {
            if let Some(known) = directories.get(&directory) {
                return *known;
            }
            if let Some(stat) = self.walker.root().stat(&directory).ok().flatten() {
                let doubt = changed(&stat);
                directories.insert(directory, doubt);
                return doubt;
            }
            above = directory.parent();
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
        self.shaken = self.walker.take_shaken();
        let is_conflict = |doubt: &Doubt| match doubt {
            Doubt::Replaced => true,
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
