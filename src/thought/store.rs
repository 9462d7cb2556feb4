//! Where a tree keeps its rows: an ordered map of bytes to bytes, a few tables wide.
//!
//! The tree's logic (`tree`) is written once over this trait; a test runs it in memory ([`MemoryStore`]), a daemon on redb
//! (`index`), so that a tree of any size costs bounded memory.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The tables of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// (directory, bucket, name) to row: the tree itself.
    Rows,
    /// (directory, bucket) to digest: of directories with many children only.
    Buckets,
    /// Directory to (parent, name): from which a path is told.
    Parents,
    /// (device, inode, directory, name) to nothing: which names an inode has.
    Inodes,
    /// (content digest, directory, name) to nothing: where a content is.
    Contents,
    /// Content digest to rsync signature: what deltas are made against.
    Signatures,
    /// Single values: counters, the position the tree stands at.
    Facts,
}

impl Table {
    /// All tables, in a fixed order.
    pub const ALL: [Self; 7] =
        [Self::Rows, Self::Buckets, Self::Parents, Self::Inodes, Self::Contents, Self::Signatures, Self::Facts];
}

/// What a store can fail with: its own error, unnamed here because floor 1 knows no database.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the index")]
pub struct StoreError {
    /// "read" or "write".
    pub operation: &'static str,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// One key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// An ordered map of bytes to bytes for each table, to be read: a store, or a snapshot of one.
pub trait ReadStore: Send {
    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The pairs whose keys begin with `prefix` and lie after `after` (exclusive; `None` for the first), in order, `limit` at most.
    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError>;
}

/// A store that can be written. A write is visible to every later read through the same store.
pub trait Store: ReadStore {
    /// Sets `key` to `value`.
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError>;
    /// Takes `key` out; one that is not there is fine.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;
}

/// A store in memory.
#[derive(Default, Clone, Debug)]
pub struct MemoryStore {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl ReadStore for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let Some(rows) = self.tables.get(&table) else { return Ok(Vec::new()) };
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        Ok(rows
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| Pair { key: key.clone(), value: value.clone() })
            .collect())
    }
}

impl Store for MemoryStore {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.tables.entry(table).or_default().insert(key, value);
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        if let Some(rows) = self.tables.get_mut(&table) {
            rows.remove(key);
        }
        Ok(())
    }
}
