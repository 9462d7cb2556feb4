//! The names of one inode: all that are in the home are captured together, and a file with names outside is watched itself.

use std::collections::{BTreeMap, BTreeSet};

use super::proof::NAMES_CAP;
use super::round::{CutError, Round, hear};
use crate::fs::Look as _;
use crate::thought::generation::Action;
use crate::thought::plan::Step;
use crate::thought::store::Store;
use crate::thought::tree::{DirectoryId, Row, TreeError};
use crate::watch::Watch;
use crate::words::entry::InodeId;
use crate::words::path::RelPath;

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// The other names of the inodes in `due` that are dirty and were left for a later cut, for want of room: without them none of those inodes
    /// could ever be proven, as each cut takes the same paths first.
    pub(super) fn take_dirty_names(&mut self, due: &mut BTreeSet<RelPath>) -> Result<(), CutError> {
        if self.walker.dirty().is_empty() {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for path in &*due {
            let Some(row) = self.tree.row(path)?.filter(|row| row.entry.link.is_some()) else { continue };
            names.extend(self.tree.names_of(row.inode.id, NAMES_CAP)?);
        }
        for name in names {
            if let Some(at) = self.walker.dirty_mut().remove(&name) {
                hear(&mut self.heard, name.clone(), at);
                due.insert(name);
            }
        }
        Ok(())
    }

    /// Marks what was captured and has been written by a further name since, which is gone, and the tree need not know the other.
    pub(super) fn mark_linked(&mut self) {
        let linked = self.walker.take_linked();
        if linked.is_empty() {
            return;
        }
        let now = self.now();
        for (path, found) in &self.captures {
            if found.as_ref().is_some_and(|present| linked.contains(&present.inode.id)) {
                self.walker.mark_written(path, now);
            }
        }
    }

    /// The other names of inodes that lost a name here: how many there are is part of what they are, and nobody reports it for them.
    pub(super) fn separated_names(&self) -> Result<BTreeSet<RelPath>, CutError> {
        let mut separated = BTreeSet::new();
        for (path, found) in &self.captures {
            // Inside a directory that went there is no old place any more; what was there is at the path itself.
            let old = self.capturer.identities.old_slot(path).unwrap_or_else(|| path.clone());
            let Some(row) = self.tree.row(&old)?.filter(|row| row.entry.link.is_some()) else { continue };
            if !found.as_ref().is_some_and(|present| present.inode.is_same(&row.inode)) {
                self.other_names(&row, &mut separated)?;
            }
        }
        Ok(separated)
    }

    /// The same for what goes with a directory that is removed: one that left the home takes all below it along without a word. Costs what
    /// forgetting it does.
    pub(super) fn separated_below(&self, steps: &[Step]) -> Result<BTreeSet<RelPath>, CutError> {
        let mut separated = BTreeSet::new();
        for step in steps {
            let Action::Remove { path } = &step.operation.action else { continue };
            let mut below: Vec<DirectoryId> = self.tree.directory(path)?.into_iter().collect();
            while let Some(directory) = below.pop() {
                let mut linked = Vec::new();
                self.tree.for_children::<TreeError>(directory, |_, row| {
                    below.extend(row.directory.as_ref().map(|directory| directory.id));
                    if row.entry.link.is_some() {
                        linked.push(row);
                    }
                    Ok(())
                })?;
                linked.iter().try_for_each(|row| self.other_names(row, &mut separated))?;
            }
        }
        Ok(separated)
    }

    /// The places that files left. That a file has one link says that it has one name, but while a second name is being removed both are in
    /// sight: it has not left a place where nobody looked.
    pub(super) fn places_left(&self) -> Result<BTreeSet<RelPath>, CutError> {
        let mut places = BTreeSet::new();
        for old in self.capturer.identities.left() {
            let place = self.capturer.identities.new_slot(old);
            if !self.captures.contains_key(&place) && self.tree.row(old)?.is_some_and(|row| !row.entry.is_directory()) {
                places.insert(place);
            }
        }
        Ok(places)
    }

    fn other_names(&self, row: &Row, names: &mut BTreeSet<RelPath>) -> Result<(), CutError> {
        let known = self.tree.names_of(row.inode.id, NAMES_CAP)?;
        names.extend(known.iter().map(|name| self.capturer.identities.new_slot(name)));
        Ok(())
    }

    /// Watches inodes with more names than are known, and no longer those whose names are all known. Returns the captured names of those
    /// watched only now: what was done to them before under another name was not reported.
    pub(super) fn watch_outside_links(&mut self) -> Result<BTreeSet<RelPath>, CutError> {
        let mut many_names = std::mem::take(&mut self.capturer.many_names);
        let tried = |path: &RelPath| self.tried.contains(path);
        let gone = self.walker.inodes_known_by(tried).into_iter().filter(|id| !many_names.contains_key(id));
        for id in gone.collect::<Vec<_>>() {
            self.walker.unwatch_inode(id);
        }
        let mut captured: BTreeMap<InodeId, BTreeSet<RelPath>> = BTreeMap::new();
        for (path, found) in &self.captures {
            if let Some(present) = found.as_ref().filter(|present| many_names.contains_key(&present.inode.id)) {
                captured.entry(present.inode.id).or_default().insert(path.clone());
            }
        }
        let mut fresh = BTreeSet::new();
        many_names.retain(|id, _| captured.contains_key(id));
        for (id, (path, links)) in many_names {
            let names = captured.remove(&id).unwrap_or_default();
            let known = names.len() + self.names_elsewhere(id)?;
            let is_outside = u32::try_from(known).is_ok_and(|known| known < links);
            self.walker.findings_mut().outside_links.forget(&path);
            if !is_outside {
                self.walker.unwatch_inode(id);
                continue;
            }
            let was_watched = self.walker.watches_inode(id);
            if !self.walker.watch_inode(id, &path, names.clone()) {
                self.walker.findings_mut().outside_links.note(&path, format!("{links} links, {known} of them here"));
            } else if !was_watched {
                fresh.extend(names);
            }
        }
        Ok(fresh)
    }

    /// How many names of an inode the tree knows that were not captured and are still there.
    fn names_elsewhere(&self, id: InodeId) -> Result<usize, CutError> {
        let mut count = 0;
        for old in self.tree.names_of(id, NAMES_CAP)? {
            let new = self.capturer.identities.new_slot(&old);
            if !self.captures.contains_key(&new)
                && self.walker.root().stat(&new).ok().flatten().is_some_and(|stat| stat.inode.id == id)
            {
                count += 1;
            }
        }
        Ok(count)
    }
}
