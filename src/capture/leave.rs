//! What a cut gives back: what must be captured again, and what must be scanned again for it.

use std::collections::BTreeSet;

use super::round::{CutError, Round};
use crate::fs::Look as _;
use crate::thought::store::Store;
use crate::watch::Watch;
use crate::words::entry::{InodeId, Timestamp};
use crate::words::path::RelPath;

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// Marks what must be captured again, with the time it was first heard of. What the tree is about to be told of it must match no file;
    /// and what was found while names moved above it may be missing at its new place. What is scanned anew for that.
    pub(super) fn give_back(
        &mut self,
        conflicts: &BTreeSet<RelPath>,
        grown: &BTreeSet<RelPath>,
        now: Timestamp,
        is_unproven: bool,
    ) -> Result<BTreeSet<RelPath>, CutError> {
        let severed = self.captures.iter().filter_map(|(path, found)| Some((path, found.as_ref()?)));
        let severed = severed.filter(|(_, present)| self.severed.contains(&present.inode.id));
        let conflicts: BTreeSet<RelPath> = severed.map(|(path, _)| path).chain(conflicts).cloned().collect();
        for path in &conflicts {
            if let Some(Some(present)) = self.captures.get_mut(path) {
                present.inode.ctime = Timestamp::default();
            }
        }
        for path in conflicts.iter().chain(&self.missed).chain(&self.later) {
            let at = self.heard.get(path).copied().unwrap_or(now);
            self.walker.dirty_mut().put_back([(path.clone(), at)]);
        }
        for path in grown {
            self.walker.dirty_mut().mark(path, now);
        }
        let mut rescans: BTreeSet<RelPath> = self.missed.clone();
        if is_unproven {
            rescans.extend(conflicts.iter().cloned());
        }
        if is_unproven || !self.missed.is_empty() || self.captures.len() >= self.options.paths {
            // The other half of a rename may be among what is left: what is below it was compared with a place in the tree that has gone by now.
            // Of what is new to the tree all was marked when it was scanned.
            for path in self.walker.dirty().paths() {
                if let Some(id) = self.directory_at(path)
                    && !self.tree.names_of(id, 1)?.is_empty()
                {
                    rescans.insert(path.clone());
                }
            }
        }
        // What stayed where it was has nothing below it that moved with it; and of the home itself that would be all.
        let stayed = rescans.iter().filter(|path| !self.missed.contains(*path));
        let stayed: Vec<RelPath> = stayed.filter(|path| self.has_stayed(path)).cloned().collect();
        for path in &stayed {
            rescans.remove(path);
        }
        if is_unproven {
            rescans.append(&mut self.all_shaken);
            rescans.append(&mut self.shaken);
        }
        rescans.retain(|path| self.directory_at(path).is_some());
        rescans.iter().for_each(|path| self.walker.rescan(path));
        Ok(rescans)
    }

    /// True if the directory at `path` is the one that the tree has there.
    fn has_stayed(&self, path: &RelPath) -> bool {
        let known = self.tree.row(path).ok().flatten().filter(|row| row.entry.is_directory());
        known.is_some_and(|row| self.directory_at(path) == Some(row.inode.id))
    }

    /// The inode of the directory that is at `path`.
    fn directory_at(&self, path: &RelPath) -> Option<InodeId> {
        let stat = self.walker.root().stat(path).ok().flatten()?;
        stat.is_directory().then_some(stat.inode.id)
    }
}
