//! Which old entry a path of the new state is: by inode, so that a rename is seen as one whatever events were lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::thought::store::Store;
use crate::thought::tree::{Row, Tree, TreeError};
use crate::words::entry::{Inode, Kind};
use crate::words::path::RelPath;

/// How many names of one inode are looked at.
const NAMES_CAP: usize = 4096;

/// What a path of the new state was in the old tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The same inode, at the place where it is expected.
    Same {
        /// Old path: differs from the new one when a directory above was renamed.
        old: RelPath,
        /// Its row.
        row: Box<Row>,
    },
    /// An inode that was elsewhere and has no other name.
    Moved {
        /// Old path.
        from: RelPath,
        /// Its row.
        row: Box<Row>,
    },
    /// An inode the tree does not know, or a further name of one that it knows.
    New {
        /// The row of another name, if there is one.
        sibling: Option<Box<Row>>,
    },
}

impl Identity {
    /// The row of the same inode in the old tree.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Same { row, .. } | Self::Moved { row, .. } => Some(row),
            Self::New { sibling } => sibling.as_deref(),
        }
    }
}

/// Works out identities, path by path, parents before children.
#[derive(Default, Debug)]
pub struct Identities {
    /// New path at which a directory is not what it was, to the old path of the directory that is there now; `None` if that is
    /// new, or if none is there any more.
    moved: BTreeMap<RelPath, Option<RelPath>>,
    /// Old paths whose inode was found at a new path.
    claimed: BTreeSet<RelPath>,
    /// Old paths whose inode is not there any more.
    displaced: BTreeSet<RelPath>,
}

impl Identities {
    /// The old path that corresponds to `path`; `None` inside a new directory.
    pub fn old_slot(&self, path: &RelPath) -> Option<RelPath> {
        let mut ancestor = path.parent();
        while let Some(directory) = ancestor {
            match self.moved.get(&directory) {
                Some(Some(old)) => return path.rebase(&directory, old),
                Some(None) => return None,
                None => ancestor = directory.parent(),
            }
        }
        Some(path.clone())
    }

    /// Where the entry with old path `old` is expected in the new state.
    pub fn new_slot(&self, old: &RelPath) -> RelPath {
        self.moved
            .iter()
            .filter_map(|(new, from)| from.as_ref().map(|from| (new, from)))
            .filter(|(_, from)| old.is_within(from))
            .max_by_key(|(_, from)| from.depth())
            .and_then(|(new, from)| old.rebase(from, new))
            .unwrap_or_else(|| old.clone())
    }

    /// Notes that nothing is at `path`.
    pub fn absent<S: Store>(&mut self, tree: &Tree<S>, path: &RelPath) -> Result<(), TreeError> {
        if let Some(old) = self.old_slot(path)
            && let Some(row) = tree.row(&old)?
        {
            self.displace(path, old, &row);
        }
        Ok(())
    }

    fn displace(&mut self, path: &RelPath, old: RelPath, row: &Row) {
        self.displaced.insert(old);
        if row.entry.is_directory() {
            self.moved.insert(path.clone(), None);
        }
    }

    /// Says what the inode at `path` was. To be called once for each path, parents before children.
    pub fn present<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        kind: Kind,
        inode: &Inode,
    ) -> Result<Identity, TreeError> {
        let slot = self.old_slot(path);
        let expected = match &slot {
            Some(old) => tree.row(old)?.map(|row| (old.clone(), row)),
            None => None,
        };
        if let Some((old, row)) = expected {
            if path.is_root() || (row.entry.kind() == kind && row.inode.is_same(inode)) {
                return Ok(Identity::Same { old, row: Box::new(row) });
            }
            self.displace(path, old, &row);
        }
        let identity = self.elsewhere(tree, kind, inode)?;
        if kind == Kind::Directory {
            let from = match &identity {
                Identity::Moved { from, .. } => Some(from.clone()),
                _ => None,
            };
            self.moved.insert(path.clone(), from);
        }
        Ok(identity)
    }

    fn elsewhere<S: Store>(&mut self, tree: &Tree<S>, kind: Kind, inode: &Inode) -> Result<Identity, TreeError> {
        let linked = kind != Kind::Directory && inode.nlink > 1;
        for from in tree.names_of(inode.id, NAMES_CAP)? {
            let Some(row) = tree.row(&from)? else { continue };
            if row.entry.kind() != kind || !row.inode.is_same(inode) || from.is_root() {
                continue;
            }
            if linked {
                return Ok(Identity::New { sibling: Some(Box::new(row)) });
            }
            if self.claimed.insert(from.clone()) {
                return Ok(Identity::Moved { from, row: Box::new(row) });
            }
        }
        Ok(Identity::New { sibling: None })
    }

    /// Takes an old path for a rename; false if it was taken already.
    pub(super) fn claim(&mut self, old: &RelPath) -> bool {
        self.claimed.insert(old.clone())
    }

    /// Gives a claimed old path back: what was there goes.
    pub(super) fn disclaim(&mut self, old: &RelPath) {
        self.claimed.remove(old);
        self.displaced.insert(old.clone());
    }

    /// True if the inode at old path `old` is known to be there no more.
    pub(super) fn is_displaced(&self, old: &RelPath) -> bool {
        self.displaced.contains(old)
    }

    /// The old paths to remove, rising; none that goes anyway with a removed directory above it.
    pub(super) fn removals(&self) -> Vec<RelPath> {
        let is_removed = |old: &RelPath| self.displaced.contains(old) && !self.claimed.contains(old);
        self.displaced.iter().filter(|old| is_removed(old) && !self.goes_with_its_directory(old)).cloned().collect()
    }

    /// True if the nearest directory above that does not stay is removed; what is in one that moved out goes with that one.
    pub(super) fn goes_with_its_directory(&self, old: &RelPath) -> bool {
        let mut above = old.parent();
        while let Some(directory) = above {
            if self.claimed.contains(&directory) {
                return false;
            }
            if self.displaced.contains(&directory) {
                return true;
            }
            above = directory.parent();
        }
        false
    }
}
