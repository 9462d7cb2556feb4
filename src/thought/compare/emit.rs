//! From differences to the operations of one catch-up generation.
//!
//! Sections come in another order than differences, so what is to be created and what gets new attributes waits, encoded, in a
//! [`Scratch`].
//!
//! **Memory:** the paths of removals, and the names of hard-linked files that differ. Everything else lies in the scratch.

use std::ops::ControlFlow;

use crate::words::entry::Entry;
use crate::words::path::RelPath;

use super::Difference;
use crate::thought::generation::{Operation, Payload};
use crate::thought::store::ReadStore;
use crate::thought::tree::{Tree, TreeError};

/// Where the content of a created file comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supply {
    /// The standby has it and can find it by its digest.
    Held,
    /// It is shipped.
    Whole {
        /// The bytes, packed.
        payload: Payload,
        /// True if the primary's file has holes.
        sparse: bool,
    },
}

/// Records that wait outside of memory: a temporary file in a daemon, a vector in a test.
pub trait Scratch {
    /// Keeps `record`.
    fn push(&mut self, record: &[u8]) -> Result<(), ScratchError>;
    /// Shows `visit` all records in the order in which they were kept, until it breaks. Called more than once.
    fn read_all(&mut self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), ScratchError>;
}

impl Scratch for Vec<Vec<u8>> {
    fn push(&mut self, record: &[u8]) -> Result<(), ScratchError> {
        Self::push(self, record.to_vec());
        Ok(())
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), ScratchError> {
        let _ = self.iter().try_for_each(|record| visit(record));
        Ok(())
    }
}

/// What a scratch can fail with; floor 1 knows no files.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the scratch of a comparison")]
pub struct ScratchError {
    /// "read" or "write".
    pub operation: &'static str,
    /// What it said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the operations could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError<E> {
    /// The near tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The scratch failed.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The scratch gave back something else than it was given.
    #[error("a record in the scratch of a comparison is damaged")]
    Record,
    /// Operations are numbered in 32 bits.
    #[error("the catch-up has more than {} operations", u32::MAX)]
    TooMany,
    /// The operations could not be taken.
    #[error(transparent)]
    Sink(E),
}

/// Makes operations of differences.
pub struct Emitter<'a, S, K> {
    near: &'a Tree<S>,
    scratch: K,
}

impl<'a, S: ReadStore, K: Scratch> Emitter<'a, S, K> {
    /// An emitter for differences from `near`, the same tree that is compared. `scratch` is empty.
    pub fn new(near: &'a Tree<S>, scratch: K) -> Self {
        Self { near, scratch }
    }

    /// Takes the next difference, in the order in which [`differences`](super::differences) tells them.
    pub fn take(&mut self, difference: Difference<'_>) -> Result<(), ScratchError> {
        let _ = (difference, self.near, &self.scratch);
        todo!()
    }

    /// Writes the operations to `sink`, in the order and numbering of a generation; tells how many they are. `payload_of` is asked once for
    /// every file that is created and not empty, with its near path and entry; for hard-linked files under their first name only,
    /// which need not be the one that [`contents`](super::contents) was told of.
    pub fn finish<E>(
        self,
        payload_of: &mut dyn FnMut(&RelPath, &Entry) -> Supply,
        sink: &mut dyn FnMut(Operation) -> Result<(), E>,
    ) -> Result<u64, EmitError<E>> {
        let _ = (payload_of, sink);
        todo!()
    }
}
