//! What the tree keeps for one path, and under which keys.
//!
//! # Row format, version 1
//! `u8` version, then the postcard encoding of [`Row`].

use serde::{Deserialize, Serialize};

use super::{CONTENT_LOOKUP_BYTES, TreeError};
use crate::thought::delta::probe::Probes;
use crate::thought::digest::Frontier;
use crate::words::entry::{Digest, Entry, Inode, InodeId};
use crate::words::path::Name;

const ROW_VERSION: u8 = 1;

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

    pub(super) fn encode(&self) -> Result<Vec<u8>, TreeError> {
        postcard::to_extend(self, vec![ROW_VERSION]).map_err(|_| TreeError::Row)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
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

pub(super) fn looked_up(entry: &Entry) -> Option<Digest> {
    entry.content().filter(|_| entry.size() >= CONTENT_LOOKUP_BYTES)
}

pub(super) fn bucket(name: &Name) -> u8 {
    blake3::hash(name.as_bytes()).as_bytes()[0]
}

pub(super) fn row_key(directory: DirectoryId, name: &Name) -> Vec<u8> {
    [&directory.0.to_be_bytes()[..], &[bucket(name)], name.as_bytes()].concat()
}

pub(super) fn place_bytes(directory: DirectoryId, name: &Name) -> Vec<u8> {
    [&directory.0.to_be_bytes()[..], name.as_bytes()].concat()
}

pub(super) fn place_at(bytes: &[u8], at: usize) -> Result<Place, TreeError> {
    let directory = bytes.get(at..at + 8).and_then(|id| id.try_into().ok()).ok_or(TreeError::Row)?;
    Ok(Place { directory: DirectoryId(u64::from_be_bytes(directory)), name: name_at(bytes, at + 8)? })
}

pub(super) fn name_at(bytes: &[u8], at: usize) -> Result<Name, TreeError> {
    bytes.get(at..).and_then(|name| Name::parse(name).ok()).ok_or(TreeError::Row)
}

pub(super) fn inode_prefix(id: InodeId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.dev.to_be_bytes());
    bytes[8..].copy_from_slice(&id.ino.to_be_bytes());
    bytes
}
