//! One record, and its bytes.

use crate::words::position::Position;

/// The longest payload, in bytes. Parts are made of 1 MiB at most; the rest is room for one oversized operation.
pub const PAYLOAD_CAP: usize = 2 * 1024 * 1024;

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordKind {
    /// A part of a generation: the header first, then chunks of operations with pre-images.
    Staged {
        /// Counted from 0, without gaps.
        part: u32,
    },
    /// The generation is complete and durable.
    Acked,
    /// The generation is visible in the replica.
    Revealed,
    /// The generation is tidied up.
    Done,
    /// Staging was given up.
    Dropped,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// Of which generation.
    pub position: Position,
    /// Opaque bytes, [`PAYLOAD_CAP`] at most. Records of states may have them too.
    pub payload: Vec<u8>,
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// The first sequence of its segment.
    pub segment: u64,
    /// Where in the segment it begins.
    pub offset: u64,
    /// Length of its payload in bytes.
    pub length: u32,
}
