//! A generation: the ordered operations that lead from one cut to the next. The only thing a standby applies.
//!
//! # Coordinates
//! Old paths name things as the tree was before the generation, new paths as it is after. An operation says which it uses; so
//! renames of a directory and changes inside it, cycles and swaps need no order among themselves: everything that leaves an old
//! path leaves first, then everything arrives at its new path (see `plan`, `tree` and `reveal`, which all follow this).
//!
//! # Format, version 1
//! A [`Header`] is: format version `u16` little-endian, then the postcard encoding of the struct. A reader refuses a version it does
//! not know and a required feature bit it does not know, by name; optional bits and unknown extensions are ignored. An [`Operation`] is
//! its postcard encoding, at most [`OPERATION_CAP`] bytes, in a frame or a journal record of its own. The payload (content bytes) of
//! an operation never stands in it: it is kept and shipped beside it, [`Payload::length`] bytes long.
//! Neither struct is ever changed: a later version is a new struct and a new number.

mod operation;
mod quality;

use serde::{Deserialize, Serialize};

use crate::words::entry::{Digest, Timestamp};
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

pub use operation::{Action, Content, JournalledOperation, Operation, Payload, PreImage, Section};
pub use quality::{Claim, NamedPaths, Quality, Reason};

/// The header format this version writes.
pub const HEADER_VERSION: u16 = 1;
/// The longest encoded header, in bytes.
pub const HEADER_CAP: usize = 256 * 1024;
/// The longest encoded operation, in bytes: an entry with the most xattrs, and two of the longest paths.
pub const OPERATION_CAP: usize = 1024 * 1024 + 512 * 1024;
/// How many paths a header names at most; beyond, only their number is told.
pub const NAMED_PATHS_CAP: usize = 128;
/// Required feature bits this version knows: none yet.
const KNOWN_FEATURES: u64 = 0;

/// How a generation joins the history of the standby that it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Joint {
    /// It follows the one before: the chain digest grows by this header.
    Next,
    /// It was made by comparing trees, for one standby: the chain digest after it is given, being the primary's own.
    CatchUp {
        /// The chain digest after it.
        chain: ChainDigest,
    },
}

/// Data that a version that does not know its tag leaves alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extension {
    /// What it is.
    pub tag: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The header of a generation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Bits a reader must know.
    pub required_features: u64,
    /// Bits a reader may know.
    pub optional_features: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The home.
    pub home: HomeId,
    /// The reign it was made in.
    pub reign: ReignId,
    /// Where it leads.
    pub position: Position,
    /// Where it starts.
    pub parent: Position,
    /// The chain digest at its start.
    pub parent_chain: ChainDigest,
    /// How it joins.
    pub joint: Joint,
    /// The tree digest at its start.
    pub tree_before: Digest,
    /// The tree digest at its end.
    pub tree_after: Digest,
    /// What it claims.
    pub quality: Quality,
    /// Paths that changed and are not in it.
    pub deferred: NamedPaths,
    /// Digest of the filters that the tree was taken under.
    pub filter: Digest,
    /// When the cut was made, by the primary's clock.
    pub cut_time: Timestamp,
    /// When the oldest change in it was first heard of, by the primary's clock.
    pub oldest_change: Timestamp,
    /// How many operations follow.
    pub operations: u64,
    /// BLAKE3 of all encoded operations in order, each preceded by its length as `u32` little-endian.
    pub operations_digest: Digest,
    /// Room for later.
    pub extensions: Vec<Extension>,
}

/// Why bytes are no header or no operation.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A version this program does not know.
    #[error(
        "generation format {0} is newer than {HEADER_VERSION}, the newest this version of hotspare reads; upgrade this node"
    )]
    TooNew(u16),
    /// A feature this program does not know.
    #[error("the generation needs features {0:#x} that this version of hotspare does not know; upgrade this node")]
    UnknownFeatures(u64),
    /// Not the encoding of anything.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Longer than allowed.
    #[error("{what} of {length} bytes is longer than {cap}")]
    TooLong {
        /// "header" or "operation".
        what: &'static str,
        /// Its length.
        length: usize,
        /// What is allowed.
        cap: usize,
    },
}

impl Header {
    /// What it claims.
    pub fn claim(&self) -> Claim {
        Claim { quality: self.quality.clone(), deferred: self.deferred.clone() }
    }

    /// The bytes that are shipped, journalled and chained.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = HEADER_VERSION.to_le_bytes().to_vec();
        bytes.extend(encode(self));
        bytes
    }

    /// Reads what [`Header::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length("header", bytes.len(), HEADER_CAP)?;
        let (version, rest) = bytes.split_first_chunk::<2>().ok_or(FormatError::Malformed("header"))?;
        match u16::from_le_bytes(*version) {
            HEADER_VERSION => {}
            0 => return Err(FormatError::Malformed("header")),
            version => return Err(FormatError::TooNew(version)),
        }
        let header: Self = decode("header", rest)?;
        match header.required_features & !KNOWN_FEATURES {
            0 => Ok(header),
            unknown => Err(FormatError::UnknownFeatures(unknown)),
        }
    }

    /// The chain digest after this generation.
    pub fn chain(&self) -> ChainDigest {
        match self.joint {
            Joint::Next => self.parent_chain.extend(&self.encode()),
            Joint::CatchUp { chain } => chain,
        }
    }
}

/// Digests operations as [`Header::operations_digest`] says.
#[derive(Clone, Default)]
pub struct OperationsDigest(blake3::Hasher);

impl OperationsDigest {
    /// Takes the next encoded operation in.
    pub fn update(&mut self, encoded: &[u8]) {
        self.0.update(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.update(encoded);
    }

    /// The digest of all so far.
    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

/// postcard into memory cannot fail for these types: they hold no maps of unknown length and no floats.
#[expect(clippy::expect_used, reason = "serialising plain owned data into a growing vector has no way to fail")]
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data serialises")
}

fn decode<'de, T: Deserialize<'de>>(what: &'static str, bytes: &'de [u8]) -> Result<T, FormatError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FormatError::Malformed(what)),
    }
}

fn check_length(what: &'static str, length: usize, cap: usize) -> Result<(), FormatError> {
    if length > cap { Err(FormatError::TooLong { what, length, cap }) } else { Ok(()) }
}
