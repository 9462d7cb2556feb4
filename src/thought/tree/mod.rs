//! The tree: all entries of a home, with a digest per directory and so one for the whole.
//!
//! # Shape
//! Rows are keyed by (directory id, bucket, name), not by path: a renamed directory is one row moved, whatever is below it. The
//! bucket is the first byte of the name's BLAKE3, so the order of siblings is the same on every node.
//!
//! | file | what |
//! |---|---|
//! | `row` | what is kept for a path, under which keys; the row format |
//! | `look` | what a tree knows |
//! | `change` | how it changes |
//! | `apply` | the operations of a generation |
//! | `digests` | how digests are made |
//! | `count`, `left_out` | how much there is; what a filter takes out |

mod apply;
mod change;
mod count;
mod digests;
mod left_out;
mod look;
mod row;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::store::StoreError;
use crate::words::path::RelPath;

pub use apply::{ApplyError, Arrived, MAX_RENAMES, Operations, Witness};
pub use count::Counts;
pub use digests::{BUCKET_CONTEXT, FLAT_CHILDREN, NODE_CONTEXT};
pub use row::{DirectoryFacts, DirectoryId, FileMemory, Place, ROOT, Row};

/// Contents shorter than this are not looked up by digest: sending them costs less than finding them.
pub const CONTENT_LOOKUP_BYTES: u64 = 4096;

const PAGE: usize = 512;
const ROOT_FACT: &[u8] = b"root";
const NEXT_DIRECTORY_FACT: &[u8] = b"next-directory";
const COUNTS_FACT: &[u8] = b"counts";

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
