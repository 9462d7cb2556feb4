//! Digests of directories, and so of the whole.
//!
//! # Digests, version 1
//! All in BLAKE3 `derive_key` mode; integers little-endian.
//! - bucket: context [`BUCKET_CONTEXT`], over each child in byte order of the names: name length `u32`, name, node digest. An empty
//!   bucket has none.
//! - node: of a file or symlink the entry digest; of a directory, context [`NODE_CONTEXT`], over the entry digest and, for each bucket
//!   that is not empty, rising: its number `u8`, its digest.
//! - tree: the node digest of the root.
//!
//! A change costs one bucket and the ancestors: digests of buckets are kept for directories with more than [`FLAT_CHILDREN`] children, and
//! computed from the rows in smaller ones.

use std::collections::BTreeMap;

use super::row::{bucket, row_key};
use super::{COUNTS_FACT, DirectoryId, PAGE, ROOT, Row, Tree, TreeError};
use crate::thought::store::{ReadStore, Store, Table};
use crate::words::entry::Digest;
use crate::words::path::Name;

/// The BLAKE3 key-derivation context of bucket digests.
pub const BUCKET_CONTEXT: &str = "hotspare 2026 bucket v1";
/// The BLAKE3 key-derivation context of node digests of directories.
pub const NODE_CONTEXT: &str = "hotspare 2026 node v1";
/// Directories with more children than this keep their bucket digests.
pub const FLAT_CHILDREN: u64 = 256;

impl<S: ReadStore> Tree<S> {
    fn bucket_digest(&self, key: &[u8]) -> Result<Option<Digest>, TreeError> {
        let mut hasher = blake3::Hasher::new_derive_key(BUCKET_CONTEXT);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(Table::Rows, key, after.as_deref(), PAGE)?;
            let Some(last) = page.last() else {
                return Ok(after.map(|_| hasher.finalize().into()));
            };
            after = Some(last.key.clone());
            for pair in page {
                update_bucket(&mut hasher, &pair.key, &pair.value)?;
            }
        }
    }

    fn depth_of(&self, directory: DirectoryId) -> Result<Option<usize>, TreeError> {
        let (mut at, mut depth) = (directory, 0);
        while at != ROOT {
            match self.parent(at)? {
                Some(place) => at = place.directory,
                None => return Ok(None),
            }
            depth += 1;
        }
        Ok(Some(depth))
    }
}

impl<S: Store> Tree<S> {
    /// The tree digest. Costs what changed since it was last asked for.
    pub fn digest(&mut self) -> Result<Digest, TreeError> {
        if !self.stale.is_empty() {
            let counts = postcard::to_allocvec(&self.counts).map_err(|_| TreeError::Row)?;
            self.store.put(Table::Facts, COUNTS_FACT.to_vec(), counts)?;
        }
        // Deepest first, so that each directory is computed once.
        let mut by_depth: BTreeMap<usize, Vec<DirectoryId>> = BTreeMap::new();
        for &directory in self.stale.keys() {
            if let Some(depth) = self.depth_of(directory)? {
                by_depth.entry(depth).or_default().push(directory);
            }
        }
        while let Some((depth, directories)) = by_depth.pop_last() {
            for id in directories {
                let Some(changed) = self.stale.remove(&id) else { continue };
                if id == ROOT {
                    self.root = self.redigest(self.root.clone(), id, changed)?;
                    self.write_root()?;
                    continue;
                }
                let Some(place) = self.parent(id)? else { continue };
                let Some(row) = self.child(place.directory, &place.name)? else { continue };
                let row = self.redigest(row, id, changed)?;
                self.store.put(Table::Rows, row_key(place.directory, &place.name), row.encode()?)?;
                if !self.stale.contains_key(&place.directory) {
                    by_depth.entry(depth - 1).or_default().push(place.directory);
                }
                self.touch(place.directory, Some(&place.name));
            }
        }
        Ok(self.root.digest())
    }

    fn redigest(&mut self, mut row: Row, id: DirectoryId, changed: [u64; 4]) -> Result<Row, TreeError> {
        let children = row.directory.as_ref().map_or(0, |directory| directory.children);
        let mut hasher = blake3::Hasher::new_derive_key(NODE_CONTEXT);
        hasher.update(&row.entry.digest().0);
        if children > FLAT_CHILDREN {
            let kept = self.store.scan(Table::Buckets, &id.0.to_be_bytes(), None, 256)?;
            let mut digests: BTreeMap<u8, Digest> = BTreeMap::new();
            for pair in &kept {
                if let (Some(&bucket), Ok(bytes)) = (pair.key.last(), pair.value.as_slice().try_into()) {
                    digests.insert(bucket, Digest(bytes));
                }
            }
            for bucket in 0..=u8::MAX {
                let is_changed = changed[usize::from(bucket / 64)] >> (bucket % 64) & 1 == 1;
                if kept.is_empty() || is_changed {
                    let key = [&id.0.to_be_bytes()[..], &[bucket]].concat();
                    match self.bucket_digest(&key)? {
                        Some(digest) => {
                            digests.insert(bucket, digest);
                            self.store.put(Table::Buckets, key, digest.0.to_vec())?;
                        }
                        None => {
                            digests.remove(&bucket);
                            self.store.delete(Table::Buckets, &key)?;
                        }
                    }
                }
            }
            for (bucket, digest) in digests {
                hasher.update(&[bucket]);
                hasher.update(&digest.0);
            }
        } else {
            for pair in self.store.scan(Table::Buckets, &id.0.to_be_bytes(), None, 256)? {
                self.store.delete(Table::Buckets, &pair.key)?;
            }
            let page = self.store.scan(Table::Rows, &id.0.to_be_bytes(), None, usize::MAX)?;
            for bucket in page.chunk_by(|a, b| a.key.get(8) == b.key.get(8)) {
                let mut inner = blake3::Hasher::new_derive_key(BUCKET_CONTEXT);
                for pair in bucket {
                    update_bucket(&mut inner, &pair.key, &pair.value)?;
                }
                hasher.update(&bucket[0].key[8..9]);
                hasher.update(inner.finalize().as_bytes());
            }
        }
        if let Some(directory) = &mut row.directory {
            directory.digest = hasher.finalize().into();
        }
        Ok(row)
    }

    pub(super) fn touch(&mut self, directory: DirectoryId, name: Option<&Name>) {
        let buckets = self.stale.entry(directory).or_default();
        if let Some(name) = name {
            let bucket = bucket(name);
            buckets[usize::from(bucket / 64)] |= 1 << (bucket % 64);
        }
    }
}

fn update_bucket(hasher: &mut blake3::Hasher, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
    let name = key.get(9..).ok_or(TreeError::Row)?;
    hasher.update(&u32::try_from(name.len()).map_err(|_| TreeError::Row)?.to_le_bytes());
    hasher.update(name);
    hasher.update(&Row::decode(value)?.digest().0);
    Ok(())
}
