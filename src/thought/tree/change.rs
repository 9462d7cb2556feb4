//! How a tree changes: rows put in, taken out and replaced, with all that finds them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::count::{Counts, counts_in};
use super::row::{DirectoryFacts, DirectoryId, Place, ROOT, Row, inode_prefix, looked_up, place_bytes, row_key};
use super::{NEXT_DIRECTORY_FACT, PAGE, ROOT_FACT, Tree, TreeError};
use crate::thought::store::{Store, Table};
use crate::words::entry::Digest;
use crate::words::path::{Name, RelPath};

impl<S: Store> Tree<S> {
    /// Opens the tree in `store`; an empty store becomes a tree with nothing but `root` in it.
    pub fn open(store: S, root: Row) -> Result<Self, TreeError> {
        let (counts, stale) = (Counts::default(), BTreeMap::new());
        let mut tree = Self { store, counts, stale, root, nearest: Mutex::default() };
        tree.reload()?;
        Ok(tree)
    }

    /// Takes over what the store has, which may be another state than this tree left it in. In an empty store the root is made, with nothing below
    /// it.
    pub fn reload(&mut self) -> Result<(), TreeError> {
        self.nearest = Mutex::default();
        if let Some(bytes) = self.store.get(Table::Facts, ROOT_FACT)? {
            self.root = Row::decode(&bytes)?;
            (self.counts, self.stale) = (counts_in(&self.store)?, BTreeMap::new());
            return Ok(());
        }
        self.root.directory = Some(DirectoryFacts { id: ROOT, children: 0, digest: Digest::default() });
        self.store.put(Table::Facts, ROOT_FACT.to_vec(), self.root.encode()?)?;
        (self.counts, self.stale) = (Counts::default(), BTreeMap::from([(ROOT, [0; 4])]));
        self.digest()?;
        Ok(())
    }

    /// The store below; for commits and facts.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Replaces the row at `path`, which must be there and of the same kind; a directory keeps its id and children.
    pub fn update(&mut self, path: &RelPath, mut row: Row) -> Result<(), TreeError> {
        let old = self.row(path)?.ok_or_else(|| TreeError::Missing(path.clone()))?;
        row.directory.clone_from(&old.directory);
        let Some((parent, name)) = path.split() else {
            self.root = row;
            self.touch(ROOT, None);
            return self.write_root();
        };
        let parent = self.directory(&parent)?.ok_or_else(|| TreeError::NoParent(path.clone()))?;
        if let Some(directory) = &row.directory {
            self.touch(directory.id, None);
        }
        self.unindex(&Place { directory: parent, name: name.clone() }, &old)?;
        self.put(parent, &name, &row)?;
        self.let_go(&old)?;
        self.touch(parent, Some(&name));
        Ok(())
    }

    /// Puts a new row at `path`, whose parent must be a directory and where nothing may be. A directory gets an id, unless it
    /// brings one along.
    pub fn attach(&mut self, path: &RelPath, mut row: Row) -> Result<(), TreeError> {
        let (parent_path, name) = path.split().ok_or_else(|| TreeError::Occupied(path.clone()))?;
        let parent = self.directory(&parent_path)?.ok_or_else(|| TreeError::NoParent(path.clone()))?;
        if self.child(parent, &name)?.is_some() {
            return Err(TreeError::Occupied(path.clone()));
        }
        if row.entry.is_directory() {
            let id = match &row.directory {
                Some(directory) => directory.id,
                None => {
                    let id = self.next_directory()?;
                    row.directory = Some(DirectoryFacts { id, children: 0, digest: Digest::default() });
                    self.touch(id, None);
                    id
                }
            };
            self.store.put(Table::Parents, id.0.to_be_bytes().to_vec(), place_bytes(parent, &name))?;
        }
        self.put(parent, &name, &row)?;
        self.count_child(parent, &parent_path, 1)?;
        self.touch(parent, Some(&name));
        Ok(())
    }

    /// Takes the row at `path` out, leaving what is below it for [`Tree::attach`] or [`Tree::forget`].
    pub fn detach(&mut self, path: &RelPath) -> Result<Row, TreeError> {
        let (parent_path, name) = path.split().ok_or_else(|| TreeError::Missing(path.clone()))?;
        let parent = self.directory(&parent_path)?.ok_or_else(|| TreeError::Missing(path.clone()))?;
        let row = self.child(parent, &name)?.ok_or_else(|| TreeError::Missing(path.clone()))?;
        self.unindex(&Place { directory: parent, name: name.clone() }, &row)?;
        self.store.delete(Table::Rows, &row_key(parent, &name))?;
        if let Some(directory) = &row.directory {
            *self.nearest() = None;
            self.store.delete(Table::Parents, &directory.id.0.to_be_bytes())?;
        }
        self.count_child(parent, &parent_path, -1)?;
        self.touch(parent, Some(&name));
        Ok(row)
    }

    /// Drops all that is below a detached row; shows `gone` each, and tells how many those were, itself included.
    pub fn forget(&mut self, row: &Row, gone: &mut dyn FnMut(&Row)) -> Result<u64, TreeError> {
        let mut count = 1;
        gone(row);
        self.let_go(row)?;
        let mut below: Vec<DirectoryId> = row.directory.iter().map(|directory| directory.id).collect();
        while let Some(directory) = below.pop() {
            self.stale.remove(&directory);
            loop {
                let page = self.children(directory, None, PAGE)?;
                if page.is_empty() {
                    break;
                }
                for (name, row) in page {
                    count += 1;
                    gone(&row);
                    let place = Place { directory, name };
                    self.unindex(&place, &row)?;
                    self.store.delete(Table::Rows, &row_key(directory, &place.name))?;
                    self.let_go(&row)?;
                    if let Some(facts) = &row.directory {
                        self.store.delete(Table::Parents, &facts.id.0.to_be_bytes())?;
                        below.push(facts.id);
                    }
                }
            }
            for pair in self.store.scan(Table::Buckets, &directory.0.to_be_bytes(), None, 256)? {
                self.store.delete(Table::Buckets, &pair.key)?;
            }
        }
        Ok(count)
    }

    /// Keeps the signature of a content until no row has that content any more.
    pub fn keep_signature(&mut self, content: Digest, signature: Vec<u8>) -> Result<(), TreeError> {
        Ok(self.store.put(Table::Signatures, content.0.to_vec(), signature)?)
    }

    pub(super) fn count_child(&mut self, id: DirectoryId, path: &RelPath, by: i64) -> Result<(), TreeError> {
        if id == ROOT {
            if let Some(directory) = &mut self.root.directory {
                directory.children = directory.children.saturating_add_signed(by);
            }
            return self.write_root();
        }
        let missing = || TreeError::NoParent(path.clone());
        let place = self.parent(id)?.ok_or_else(missing)?;
        let mut row = self.child(place.directory, &place.name)?.ok_or_else(missing)?;
        if let Some(directory) = &mut row.directory {
            directory.children = directory.children.saturating_add_signed(by);
        }
        Ok(self.store.put(Table::Rows, row_key(place.directory, &place.name), row.encode()?)?)
    }

    pub(super) fn write_root(&mut self) -> Result<(), TreeError> {
        Ok(self.store.put(Table::Facts, ROOT_FACT.to_vec(), self.root.encode()?)?)
    }

    pub(super) fn next_directory(&mut self) -> Result<DirectoryId, TreeError> {
        let next = match self.store.get(Table::Facts, NEXT_DIRECTORY_FACT)? {
            Some(bytes) => u64::from_be_bytes(bytes.as_slice().try_into().map_err(|_| TreeError::Row)?),
            None => 1,
        };
        self.store.put(Table::Facts, NEXT_DIRECTORY_FACT.to_vec(), (next + 1).to_be_bytes().to_vec())?;
        Ok(DirectoryId(next))
    }

    pub(super) fn put(&mut self, directory: DirectoryId, name: &Name, row: &Row) -> Result<(), TreeError> {
        self.counts.entries += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(row.entry.size());
        let place = place_bytes(directory, name);
        self.store.put(Table::Inodes, [&inode_prefix(row.inode.id)[..], &place].concat(), Vec::new())?;
        if let Some(content) = looked_up(&row.entry) {
            self.store.put(Table::Contents, [&content.0[..], &place].concat(), Vec::new())?;
        }
        Ok(self.store.put(Table::Rows, row_key(directory, name), row.encode()?)?)
    }

    pub(super) fn unindex(&mut self, place: &Place, row: &Row) -> Result<(), TreeError> {
        self.counts.entries = self.counts.entries.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(row.entry.size());
        let place = place_bytes(place.directory, &place.name);
        self.store.delete(Table::Inodes, &[&inode_prefix(row.inode.id)[..], &place].concat())?;
        if let Some(content) = looked_up(&row.entry) {
            self.store.delete(Table::Contents, &[&content.0[..], &place].concat())?;
        }
        Ok(())
    }

    /// Drops what is kept of the content of a row that went, if no other row has that content.
    pub(super) fn let_go(&mut self, row: &Row) -> Result<(), TreeError> {
        if let Some(content) = looked_up(&row.entry)
            && self.store.scan(Table::Contents, &content.0, None, 1)?.is_empty()
        {
            self.store.delete(Table::Signatures, &content.0)?;
        }
        Ok(())
    }
}
