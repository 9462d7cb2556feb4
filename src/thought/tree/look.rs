//! What a tree knows: rows by path, by directory, by inode and by content.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::count::{Counts, counts_in};
use super::row::{DirectoryId, Place, ROOT, Row, inode_prefix, name_at, place_at, row_key};
use super::{PAGE, ROOT_FACT, Tree, TreeError};
use crate::thought::store::{ReadStore, Table};
use crate::words::entry::{Digest, InodeId};
use crate::words::path::{Name, RelPath};

impl<S: ReadStore> Tree<S> {
    /// The tree in `store`, to be read only; `None` if there is none in it.
    pub fn view(store: S) -> Result<Option<Self>, TreeError> {
        let Some(bytes) = store.get(Table::Facts, ROOT_FACT)? else { return Ok(None) };
        let counts = counts_in(&store)?;
        Ok(Some(Self { root: Row::decode(&bytes)?, store, counts, stale: BTreeMap::new(), nearest: Mutex::default() }))
    }

    /// How much it holds.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The store below; for commits and facts.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The root's row.
    pub fn root(&self) -> &Row {
        &self.root
    }

    /// The row at `path`.
    pub fn row(&self, path: &RelPath) -> Result<Option<Row>, TreeError> {
        let Some((parent, name)) = path.split() else { return Ok(Some(self.root.clone())) };
        match self.directory(&parent)? {
            Some(directory) => self.child(directory, &name),
            None => Ok(None),
        }
    }

    pub(super) fn nearest(&self) -> MutexGuard<'_, Option<(RelPath, DirectoryId)>> {
        self.nearest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the directory at `path`; `None` if there is no directory there.
    pub fn directory(&self, path: &RelPath) -> Result<Option<DirectoryId>, TreeError> {
        let (above, mut at) = match &*self.nearest() {
            Some((near, id)) if path.is_within(near) => (near.depth(), *id),
            _ => (0, ROOT),
        };
        for name in path.components().skip(above) {
            match self.child(at, &name)?.and_then(|row| row.directory) {
                Some(directory) => at = directory.id,
                None => return Ok(None),
            }
        }
        *self.nearest() = Some((path.clone(), at));
        Ok(Some(at))
    }

    /// The row of `name` in `directory`.
    pub fn child(&self, directory: DirectoryId, name: &Name) -> Result<Option<Row>, TreeError> {
        match self.store.get(Table::Rows, &row_key(directory, name))? {
            Some(bytes) => Row::decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Up to `limit` children of `directory` after the one named `after`, by (bucket, name).
    pub fn children(
        &self,
        directory: DirectoryId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, Row)>, TreeError> {
        let after = after.map(|name| row_key(directory, name));
        let pairs = self.store.scan(Table::Rows, &directory.0.to_be_bytes(), after.as_deref(), limit)?;
        pairs.iter().map(|pair| Ok((name_at(&pair.key, 9)?, Row::decode(&pair.value)?))).collect()
    }

    /// Calls `visit` for every child of `directory`, by (bucket, name).
    pub fn for_children<E: From<TreeError>>(
        &self,
        directory: DirectoryId,
        mut visit: impl FnMut(Name, Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let page = self.children(directory, after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, row) in page {
                visit(name, row)?;
            }
        }
    }

    /// The directories in which something changed since the digest was last asked for.
    pub fn stale_directories(&self) -> impl Iterator<Item = DirectoryId> {
        self.stale.keys().copied()
    }

    /// The path of `directory`; `None` if it has gone.
    pub fn path_of(&self, directory: DirectoryId) -> Result<Option<RelPath>, TreeError> {
        let mut names = Vec::new();
        let mut at = directory;
        while at != ROOT {
            match self.parent(at)? {
                Some(place) => {
                    at = place.directory;
                    names.push(place.name);
                }
                None => return Ok(None),
            }
        }
        Ok(Some(names.iter().rev().fold(RelPath::root(), |path, name| path.join(name))))
    }

    pub(super) fn parent(&self, directory: DirectoryId) -> Result<Option<Place>, TreeError> {
        match self.store.get(Table::Parents, &directory.0.to_be_bytes())? {
            Some(value) => place_at(&value, 0).map(Some),
            None => Ok(None),
        }
    }

    /// The paths whose row names inode `id`, `limit` at most.
    pub fn names_of(&self, id: InodeId, limit: usize) -> Result<Vec<RelPath>, TreeError> {
        self.paths_under(Table::Inodes, &inode_prefix(id), limit)
    }

    /// Paths of files with this content, `limit` at most; only contents of [`CONTENT_LOOKUP_BYTES`](super::CONTENT_LOOKUP_BYTES) or more are known.
    pub fn holders(&self, content: Digest, limit: usize) -> Result<Vec<RelPath>, TreeError> {
        self.paths_under(Table::Contents, &content.0, limit)
    }

    pub(super) fn paths_under(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<RelPath>, TreeError> {
        let mut paths = Vec::new();
        for pair in self.store.scan(table, prefix, None, limit)? {
            let place = place_at(&pair.key, prefix.len())?;
            if let Some(directory) = self.path_of(place.directory)? {
                paths.push(directory.join(&place.name));
            }
        }
        Ok(paths)
    }

    /// The signature kept of a content.
    pub fn signature(&self, content: Digest) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.store.get(Table::Signatures, &content.0)?)
    }
}
