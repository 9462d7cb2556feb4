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
    /// New path of a directory that is not what its path was, to the old path of the same directory; `None` if it is new.
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
            && tree.row(&old)?.is_some()
        {
            self.displaced.insert(old);
        }
        Ok(())
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
            self.displaced.insert(old);
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

    /// The old paths to remove, rising, none below another.
    pub(super) fn removals(&self) -> Vec<RelPath> {
        let mut removals: Vec<RelPath> = Vec::new();
        for old in self.displaced.iter().filter(|old| !self.claimed.contains(*old)) {
            if !removals.last().is_some_and(|last| old.is_within(last)) {
                removals.push(old.clone());
            }
        }
        removals
    }
}
