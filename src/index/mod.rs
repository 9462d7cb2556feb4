//! The index: a node's tree on disk, in redb, so that a tree of any size costs bounded memory.
//!
//! **Layout, format version 1.** One redb file with one table of bytes to bytes for each
//! [`Table`](crate::thought::store::Table), named in lower case (`rows`, `buckets`, ...), and a table `hotspare` of text to `u64`
//! with two facts that are no concern of the tree: `format` (1) and `open_change` (1 while a change is spilled but not committed,
//! else 0).
//!
//! Writes go to an overlay in memory; reads see the overlay over the last commit. [`Index::commit`] is the only durable point:
//! one redb transaction with quick repair (two-phase, allocator state saved), after which the overlay is empty.
//!
//! **Spilling.** When the overlay would exceed [`Options::overlay_cap_bytes`] it is written to redb *without durability*, with
//! `open_change` set in the same transaction. Power loss or `kill -9` then returns to the last commit by itself; an orderly close makes
//! redb keep the spilled state, and `open_change` tells the next open that it is half a change, hence [`Opened::Rebuilt`].
//!
//! **Invariants**
//! 1. What [`Index::open`] calls [`Opened::Intact`] is exactly the state of one commit.
//! 2. The overlay never holds more than `overlay_cap_bytes` (as [`Index::overlay_bytes`] counts) beyond the one pair being written.
//! 3. A [`Snapshot`] shows one commit, whatever is written, spilled or committed after it was taken.
//! 4. A file that is damaged, torn or in the middle of a change is set aside and never read again; one of a later format is left alone.
//!
//! Assumed of the medium: a successful fsync is durable, and a page that was checked at open stays as it is (redb checks page
//! digests at open, not at each read; the check reads the whole file). A write that failed leaves the handle unusable until it is
//! opened again ([`Index::reopen`]).
//!
//! The index follows the journal and may be behind it: the owner keeps the position it stands at in
//! [`Table::Facts`](crate::thought::store::Table::Facts), in the same commit. Damage to redb's newest commit slot may make an open fall
//! back to the commit before; the position tells.

mod disk;
mod open;
mod overlay;
mod view;

use std::path::PathBuf;

pub use disk::Index;
pub use view::Snapshot;

/// What an index may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// From how many bytes of uncommitted writes on [`Index::wants_commit`] says so.
    pub overlay_bytes: usize,
    /// From how many bytes of uncommitted writes on they are spilled.
    pub overlay_cap_bytes: usize,
    /// Whether opening reads the whole file and checks every page's digest. Without it, damage inside is found late, as an error of a
    /// read, or not at all.
    pub check: bool,
}

impl Default for Options {
    /// 64 MiB of cache, a commit wanted from 32 MiB on, a spill from 64 MiB on, checked at open.
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self { cache_bytes: 64 * MIB, overlay_bytes: 32 * MIB, overlay_cap_bytes: 64 * MIB, check: true }
    }
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process, or this one, has it open.
    #[error("the index {} is in use", path.display())]
    InUse {
        /// The index file.
        path: PathBuf,
    },
    /// The file could not be opened or created, for a reason that lies outside it.
    #[error("cannot open the index {}", path.display())]
    Open {
        /// The index file.
        path: PathBuf,
        /// What redb or the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A later version of hotspare wrote it.
    #[error(
        "the index {} has format {format}, newer than {FORMAT}, the newest that this version of hotspare reads: upgrade it, or move the file away \
         to have it made anew",
        path.display()
    )]
    TooNew {
        /// The index file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// A damaged file could not be moved out of the way.
    #[error("cannot set aside the damaged index {}", path.display())]
    SetAside {
        /// The index file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A commit failed: the index must be opened again before it is used ([`Index::reopen`]).
    #[error("cannot commit the index")]
    Commit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No snapshot could be taken.
    #[error("cannot take a snapshot of the index")]
    Snapshot(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What [`Index::open`] found.
#[derive(Debug)]
pub enum Opened {
    /// The state of the last commit.
    Intact(Index),
    /// There was no file: an empty index.
    New(Index),
    /// The file could not be trusted and was set aside (as `<file name>.damaged-N`; only the newest is kept): an empty index.
    Rebuilt {
        /// The empty index.
        index: Index,
        /// What was wrong with the old one.
        why: String,
    },
}

impl Opened {
    /// The index, whatever was found.
    pub fn into_index(self) -> Index {
        match self {
            Self::Intact(index) | Self::New(index) | Self::Rebuilt { index, .. } => index,
        }
    }
}

/// A flat cost of one pair in the overlay beyond its bytes: map node and allocations, roughly.
const PAIR_BYTES: usize = 64;
/// The format version that is written and read.
const FORMAT: u64 = 1;

#[cfg(test)]
mod tests;
