//! The tree: all entries of a home, with a digest per directory and so one for the whole.
//!
//! # Shape
//! Rows are keyed by (directory id, bucket, name), not by path: a renamed directory is one row moved, whatever is below it. The
//! bucket is the first byte of the name's BLAKE3, so the order of siblings is the same on every node.
//!
//! How digests are made stands in `digests`.
//!
//! # Row format, version 1
//! `u8` version, then the postcard encoding of [`Row`].

mod apply;
mod count;
mod digests;
mod left_out;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::words::entry::{Digest, Entry, Inode, InodeId};
use crate::words::path::{Name, RelPath};

use super::delta::probe::Probes;
use super::digest::Frontier;
use super::store::{ReadStore, Store, StoreError, Table};

pub use apply::{ApplyError, Arrived, MAX_RENAMES, Operations, Witness};
pub use digests::{BUCKET_CONTEXT, FLAT_CHILDREN, NODE_CONTEXT};

/// Contents shorter than this are not looked up by digest: sending them costs less than finding them.
pub const CONTENT_LOOKUP_BYTES: u64 = 4096;

const ROW_VERSION: u8 = 1;
const PAGE: usize = 512;
const ROOT_FACT: &[u8] = b"root";
const NEXT_DIRECTORY_FACT: &[u8] = b"next-directory";
const COUNTS_FACT: &[u8] = b"counts";

/// A directory's number in its tree: given once, kept when it is renamed, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DirectoryId(pub u64);

/// The root's id.
pub const ROOT: DirectoryId = DirectoryId(0);

/// What only a directory's row has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DirectoryFacts {
    /// Its id.
    pub id: DirectoryId,
    /// How many children it has.
    pub children: u64,
    /// Its node digest; stale while the tree has not been asked for its digest.
    pub digest: Digest,
}

/// What is remembered of a large file's content, to tell an append from a rewrite without reading it all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileMemory {
    /// From where its digest can be resumed.
    pub frontier: Frontier,
    /// Samples of it.
    pub probes: Probes,
}

/// What the tree keeps for one path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The entry.
    pub entry: Entry,
    /// What this node's kernel says of it.
    pub inode: Inode,
    /// For directories.
    pub directory: Option<DirectoryFacts>,
    /// For large files.
    pub memory: Option<Box<FileMemory>>,
}

impl Row {
    /// A row for an entry that is no directory, or a new directory without children.
    pub fn new(entry: Entry, inode: Inode) -> Self {
        Self { entry, inode, directory: None, memory: None }
    }

    /// The node digest.
    pub fn digest(&self) -> Digest {
        match &self.directory {
            Some(directory) => directory.digest,
            None => self.entry.digest(),
        }
    }

    fn encode(&self) -> Result<Vec<u8>, TreeError> {
        postcard::to_extend(self, vec![ROW_VERSION]).map_err(|_| TreeError::Row)
    }

    fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        match bytes.split_first() {
            Some((&ROW_VERSION, rest)) => match postcard::take_from_bytes(rest) {
                Ok((row, [])) => Ok(row),
                Ok(_) | Err(_) => Err(TreeError::Row),
            },
            _ => Err(TreeError::Row),
        }
    }
}

/// Where a row is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Place {
    /// The directory.
    pub directory: DirectoryId,
    /// The name in it.
    pub name: Name,
}

/// What can go wrong in a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row in the store is not readable: the index is damaged or of another version.
    #[error("an index row is damaged or of another version; the index must be rebuilt")]
    Row,
    /// Nothing is at the path.
    #[error("{0} is not in the tree")]
    Missing(RelPath),
    /// Something is at the path already.
    #[error("{0} is already in the tree")]
    Occupied(RelPath),
    /// The path's parent is missing or no directory.
    #[error("the directory of {0} is not in the tree")]
    NoParent(RelPath),
}

/// How much a tree holds, its root apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// The sum of the sizes of files, in bytes; one with several names counts under each.
    pub bytes: u64,
}

/// All entries of a home.
pub struct Tree<S> {
    store: S,
    /// Kept in the store from digest to digest.
    counts: Counts,
    /// Directories whose digest is stale, with the buckets that changed (a bit each).
    stale: BTreeMap<DirectoryId, [u64; 4]>,
    root: Row,
    /// The directory looked up last: paths are asked for in order, and siblings need not go down from the root each.
    nearest: Mutex<Option<(RelPath, DirectoryId)>>,
}

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

    fn nearest(&self) -> MutexGuard<'_, Option<(RelPath, DirectoryId)>> {
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

    fn parent(&self, directory: DirectoryId) -> Result<Option<Place>, TreeError> {
        match self.store.get(Table::Parents, &directory.0.to_be_bytes())? {
            Some(value) => place_at(&value, 0).map(Some),
            None => Ok(None),
        }
    }

    /// The paths whose row names inode `id`, `limit` at most.
    pub fn names_of(&self, id: InodeId, limit: usize) -> Result<Vec<RelPath>, TreeError> {
        self.paths_under(Table::Inodes, &inode_prefix(id), limit)
    }

    /// Paths of files with this content, `limit` at most; only contents of [`CONTENT_LOOKUP_BYTES`] or more are known.
    pub fn holders(&self, content: Digest, limit: usize) -> Result<Vec<RelPath>, TreeError> {
        self.paths_under(Table::Contents, &content.0, limit)
    }

    fn paths_under(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<RelPath>, TreeError> {
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

    fn count_child(&mut self, id: DirectoryId, path: &RelPath, by: i64) -> Result<(), TreeError> {
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

    fn write_root(&mut self) -> Result<(), TreeError> {
        Ok(self.store.put(Table::Facts, ROOT_FACT.to_vec(), self.root.encode()?)?)
    }

    fn next_directory(&mut self) -> Result<DirectoryId, TreeError> {
        let next = match self.store.get(Table::Facts, NEXT_DIRECTORY_FACT)? {
            Some(bytes) => u64::from_be_bytes(bytes.as_slice().try_into().map_err(|_| TreeError::Row)?),
            None => 1,
        };
        self.store.put(Table::Facts, NEXT_DIRECTORY_FACT.to_vec(), (next + 1).to_be_bytes().to_vec())?;
        Ok(DirectoryId(next))
    }

    fn put(&mut self, directory: DirectoryId, name: &Name, row: &Row) -> Result<(), TreeError> {
        self.counts.entries += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(row.entry.size());
        let place = place_bytes(directory, name);
        self.store.put(Table::Inodes, [&inode_prefix(row.inode.id)[..], &place].concat(), Vec::new())?;
        if let Some(content) = looked_up(&row.entry) {
            self.store.put(Table::Contents, [&content.0[..], &place].concat(), Vec::new())?;
        }
        Ok(self.store.put(Table::Rows, row_key(directory, name), row.encode()?)?)
    }

    fn unindex(&mut self, place: &Place, row: &Row) -> Result<(), TreeError> {
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
    fn let_go(&mut self, row: &Row) -> Result<(), TreeError> {
        if let Some(content) = looked_up(&row.entry)
            && self.store.scan(Table::Contents, &content.0, None, 1)?.is_empty()
        {
            self.store.delete(Table::Signatures, &content.0)?;
        }
        Ok(())
    }
}

/// What the store remembers of it; an index from before they were kept is counted.
fn counts_in<S: ReadStore>(store: &S) -> Result<Counts, TreeError> {
    if let Some(bytes) = store.get(Table::Facts, COUNTS_FACT)? {
        return postcard::from_bytes(&bytes).map_err(|_| TreeError::Row);
    }
    let mut counts = Counts::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(Table::Rows, &[], after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(counts) };
        after = Some(last.key.clone());
        for pair in &page {
            counts.entries += 1;
            counts.bytes = counts.bytes.saturating_add(Row::decode(&pair.value)?.entry.size());
        }
    }
}

fn looked_up(entry: &Entry) -> Option<Digest> {
    entry.content().filter(|_| entry.size() >= CONTENT_LOOKUP_BYTES)
}

fn bucket(name: &Name) -> u8 {
    blake3::hash(name.as_bytes()).as_bytes()[0]
}

fn row_key(directory: DirectoryId, name: &Name) -> Vec<u8> {
    [&directory.0.to_be_bytes()[..], &[bucket(name)], name.as_bytes()].concat()
}

fn place_bytes(directory: DirectoryId, name: &Name) -> Vec<u8> {
    [&directory.0.to_be_bytes()[..], name.as_bytes()].concat()
}

fn place_at(bytes: &[u8], at: usize) -> Result<Place, TreeError> {
    let directory = bytes.get(at..at + 8).and_then(|id| id.try_into().ok()).ok_or(TreeError::Row)?;
    Ok(Place { directory: DirectoryId(u64::from_be_bytes(directory)), name: name_at(bytes, at + 8)? })
}

fn name_at(bytes: &[u8], at: usize) -> Result<Name, TreeError> {
    bytes.get(at..).and_then(|name| Name::parse(name).ok()).ok_or(TreeError::Row)
}

fn inode_prefix(id: InodeId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.dev.to_be_bytes());
    bytes[8..].copy_from_slice(&id.ino.to_be_bytes());
    bytes
}
