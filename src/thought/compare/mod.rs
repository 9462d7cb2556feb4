//! Catching a standby up by comparing trees: the differences, and the operations of the one generation that mends them.
//!
//! The near tree is the primary's own, held still (a snapshot). The far tree is the standby's, known only by asking for the children of
//! one directory at a time ([`Far`]); a question is asked only where node digests differ and the near side has a directory, so it
//! costs what differs, not what is there. [`differences`] tells them in path order, [`contents`] says which file content a difference
//! needs, and an [`Emitter`] makes the operations of them.
//!
//! **Invariant:** applying what the emitter wrote to the far tree gives the near tree, hard links included (tested with random
//! trees).
//!
//! **Memory:** the names and entries of the siblings on the way down to the current path, on both sides. Nothing is kept per path beyond
//! (but see [`Emitter`]).

mod emit;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::words::entry::{Digest, Entry};
use crate::words::path::{Name, RelPath};

use super::store::ReadStore;
use super::tree::{CONTENT_LOOKUP_BYTES, DirectoryId, Row, Tree, TreeError};

pub use emit::{EmitError, Emitter, Scratch, ScratchError, Supply};

/// A child of a directory of the far tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarChild {
    /// Its name.
    pub name: Name,
    /// Its entry.
    pub entry: Entry,
    /// Its node digest, as `tree` defines it.
    pub digest: Digest,
}

/// The far tree, which stands still while it is asked.
pub trait Far {
    /// Why there was no answer.
    type Error;
    /// All children of the directory at `path`, in any order.
    fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, Self::Error>;
}

/// What differs at one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference<'a> {
    /// Only the near side has it. Of a directory, everything below it follows as missing too.
    Missing {
        /// Where.
        path: &'a RelPath,
        /// The near row.
        row: &'a Row,
    },
    /// Only the far side has it. What is below it is not told.
    Extra {
        /// Where.
        path: &'a RelPath,
        /// The far entry.
        entry: &'a Entry,
    },
    /// Both have it, with other entries. If the near side is a directory and the far side none, everything below it follows as missing;
    /// the other way round, what was below it is not told.
    Changed {
        /// Where.
        path: &'a RelPath,
        /// The near row.
        row: &'a Row,
        /// The far entry.
        far: &'a Entry,
    },
}

impl<'a> Difference<'a> {
    /// Where it is.
    pub fn path(&self) -> &'a RelPath {
        match self {
            Self::Missing { path, .. } | Self::Extra { path, .. } | Self::Changed { path, .. } => path,
        }
    }
}

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompareError<F, E> {
    /// The near tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The near tree was changed since it was last asked for its digest: its node digests say nothing.
    #[error("the tree to compare was changed and not digested")]
    Stale,
    /// The far side did not answer.
    #[error("cannot learn what the other side has in {path}")]
    Far {
        /// The directory asked for.
        path: RelPath,
        /// What it, or the way to it, said.
        #[source]
        source: F,
    },
    /// The far side named one child twice.
    #[error("the other side tells of {0} twice")]
    Twice(RelPath),
    /// The differences could not be taken.
    #[error(transparent)]
    Sink(E),
}

/// Tells `sink` every difference between `near` and the far tree, whose root has the entry and node digest `far_root`: in path order, so a
/// directory before what is below it. Asks `far` once for each directory that both have and whose node digests differ; not at all if
/// the roots are equal.
pub fn differences<S: ReadStore, F: Far, E>(
    near: &Tree<S>,
    far_root: (&Entry, Digest),
    far: &mut F,
    sink: &mut dyn FnMut(Difference<'_>) -> Result<(), E>,
) -> Result<(), CompareError<F::Error, E>> {
    let _ = (near, far_root, far, sink);
    todo!()
}

/// The file content that the standby needs for `difference`, as digest and length in bytes: `None` if it needs none, being empty, or surely
/// has it and can find it.
///
/// The same content on both sides is asked for all the same when it goes into a new file (because of hard links) and is shorter than
/// [`CONTENT_LOOKUP_BYTES`]: the standby could not find it by its digest.
pub fn contents(difference: &Difference<'_>) -> Option<(Digest, u64)> {
    let _ = difference;
    todo!()
}
