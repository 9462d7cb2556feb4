//! One record, and its bytes: the frame specified in [`journal`](super).

use super::segment::Salt;
use crate::words::position::Position;

/// The longest payload, in bytes. Parts are made of 1 MiB at most; the rest is room for one oversized operation.
pub const PAYLOAD_CAP: usize = 2 * 1024 * 1024;
/// How many bytes a record has before its payload.
pub(super) const HEADER_BYTES: usize = 56;
/// How a record begins.
pub(super) const MAGIC: [u8; 4] = *b"HSJR";
const VERSION: u8 = 1;

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

/// What a frame carries: a generation's record, or the journal's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameKind {
    Record(RecordKind),
    /// The payload is the first sequence of the oldest segment still needed.
    Floor,
}

/// What stands in a record's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) position: Position,
    pub(super) length: u32,
    pub(super) sequence: u64,
    pub(super) synced: u64,
}

impl Frame {
    /// How many bytes the whole record takes.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes()
    }

    fn payload_bytes(&self) -> usize {
        // Never more than the cap: 32 bits fit.
        self.length as usize
    }

    /// Appends the record's bytes to `out`; `payload` is of the frame's length.
    pub(super) fn encode(&self, salt: Salt, payload: &[u8], out: &mut Vec<u8>) {
        let (kind, part) = match self.kind {
            FrameKind::Record(RecordKind::Staged { part }) => (1, part),
            FrameKind::Record(RecordKind::Acked) => (2, 0),
            FrameKind::Record(RecordKind::Revealed) => (3, 0),
            FrameKind::Record(RecordKind::Done) => (4, 0),
            FrameKind::Record(RecordKind::Dropped) => (5, 0),
            FrameKind::Floor => (6, 0),
        };
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, kind, 0, 0]);
        out.extend_from_slice(&part.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        for number in [self.position.epoch, self.position.generation, self.sequence, self.synced] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let header_sum = salt.sum(&[&out[start..]]);
        out.extend_from_slice(&header_sum.to_le_bytes());
        let payload_sum = salt.sum(&[&out[start..], payload]);
        out.extend_from_slice(&payload_sum.to_le_bytes());
        out.extend_from_slice(payload);
    }

    /// The header at the beginning of `bytes`, if it is whole; says nothing of the payload.
    pub(super) fn decode(salt: Salt, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if bytes[..4] != MAGIC || bytes[4] != VERSION || word(bytes, 6, 2) != 0 {
            return None;
        }
        if word(bytes, 48, 4) != u64::from(salt.sum(&[&bytes[..48]])) {
            return None;
        }
        let part = u32::try_from(word(bytes, 8, 4)).ok()?;
        let kind = match (bytes[5], part) {
            (1, part) => FrameKind::Record(RecordKind::Staged { part }),
            (2, 0) => FrameKind::Record(RecordKind::Acked),
            (3, 0) => FrameKind::Record(RecordKind::Revealed),
            (4, 0) => FrameKind::Record(RecordKind::Done),
            (5, 0) => FrameKind::Record(RecordKind::Dropped),
            (6, 0) => FrameKind::Floor,
            _ => return None,
        };
        let length = u32::try_from(word(bytes, 12, 4)).ok()?;
        if length as usize > PAYLOAD_CAP {
            return None;
        }
        let position = Position { epoch: word(bytes, 16, 8), generation: word(bytes, 24, 8) };
        Some(Self { kind, position, length, sequence: word(bytes, 32, 8), synced: word(bytes, 40, 8) })
    }

    /// The payload of this frame in `bytes`, which begin with its header, if it is whole.
    pub(super) fn payload<'a>(&self, salt: Salt, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let payload = bytes.get(HEADER_BYTES..self.bytes())?;
        let sum = salt.sum(&[&bytes[..HEADER_BYTES - 4], payload]);
        (word(bytes, HEADER_BYTES - 4, 4) == u64::from(sum)).then_some(payload)
    }
}

/// The little-endian number of `width` bytes (8 at most) at `at`, which must be there.
pub(super) fn word(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
