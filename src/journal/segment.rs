//! A segment's name and header: the bytes specified in [`journal`](super).

use super::record::word;
use crate::words::position::HomeId;

/// How many bytes a segment has before its first record.
pub(super) const HEADER_BYTES: usize = 64;
/// How long segments are made, and the longest that is read.
pub(super) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
const MAGIC: [u8; 8] = *b"hsjrnl\r\n";
const VERSION: u8 = 1;

/// What keeps records of this segment apart from any other bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Salt(pub(super) [u8; 8]);

impl Salt {
    /// The CRC-32 of the salt and then `pieces`.
    pub(super) fn sum(self, pieces: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0);
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finalize()
    }
}

/// What stands in a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) home: HomeId,
    pub(super) first: u64,
    pub(super) floor: u64,
    pub(super) salt: Salt,
}

/// Why bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoHeader {
    TooNew(u8),
    Broken,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[16..32].copy_from_slice(&self.home.0);
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.floor.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.salt.0);
        let sum = crc32fast::hash(&bytes[..56]);
        bytes[56..60].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(NoHeader::Broken)?;
        if bytes[..8] != MAGIC {
            return Err(NoHeader::Broken);
        }
        if bytes[8] > VERSION {
            return Err(NoHeader::TooNew(bytes[8]));
        }
        let mut header =
            Self { home: HomeId::default(), first: word(bytes, 32, 8), floor: word(bytes, 40, 8), salt: Salt([0; 8]) };
        header.home.0.copy_from_slice(&bytes[16..32]);
        header.salt.0.copy_from_slice(&bytes[48..56]);
        // Whatever is not carried over must be as it was written: version, zeros, sum.
        if header.encode() == *bytes { Ok(header) } else { Err(NoHeader::Broken) }
    }
}

/// The file name of the segment that begins with sequence `first`.
pub(super) fn name(first: u64) -> String {
    format!("{first:016x}.log")
}

/// The first sequence of the segment called `name`; `None` if it is no segment's name.
pub(super) fn first(file_name: &str) -> Option<u64> {
    let first = u64::from_str_radix(file_name.strip_suffix(".log")?, 16).ok()?;
    (name(first) == file_name).then_some(first)
}
