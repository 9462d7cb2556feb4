//! Files with names outside the home: their inodes are watched themselves.

use std::collections::BTreeSet;

use super::Walker;
use crate::watch::Watch;
use crate::words::entry::InodeId;
use crate::words::path::RelPath;

impl<W: Watch> Walker<W> {
    /// True if the inode `id` is watched itself.
    pub(crate) fn watches_inode(&self, id: InodeId) -> bool {
        self.inodes.contains_key(&id)
    }

    /// The inodes watched themselves that were known by one of the paths that `is_meant` names.
    pub(crate) fn inodes_known_by(&self, is_meant: impl Fn(&RelPath) -> bool) -> Vec<InodeId> {
        let known = self.inodes.iter().filter(|(_, names)| names.iter().any(&is_meant));
        known.map(|(id, _)| *id).collect()
    }

    /// Watches the inode `id`, found at `path`, and known by `names`. False if it cannot be watched, or is not there any more.
    pub(crate) fn watch_inode(&mut self, id: InodeId, path: &RelPath, names: BTreeSet<RelPath>) -> bool {
        if !self.inodes.contains_key(&id) && self.watcher.watch_inode(&self.root, path, id).is_err() {
            return false;
        }
        self.inodes.insert(id, names);
        true
    }

    /// Watches the inode `id` no longer: all its names are in the home, or none.
    pub(crate) fn unwatch_inode(&mut self, id: InodeId) {
        if self.inodes.remove(&id).is_some() {
            self.watcher.unwatch_inode(id);
        }
    }
}
