//! Contents: which are here, what is known of them, and how they are sent.

use serde::{Deserialize, Serialize};

use crate::thought::generation::Payload;
use crate::words::entry::{Digest, Timestamp};

/// Asks which of these contents are here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Have {
    /// [`HAVE_CAP`](super::HAVE_CAP) at most.
    pub contents: Vec<Digest>,
}

/// Which of the contents asked for are not here: a bit each, in order, the lowest bit of each byte first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lack {
    /// The bits.
    pub bits: Vec<u8>,
    /// Of which of them there is a beginning, from a stream that was cut off.
    pub begun: Vec<Begun>,
    /// True if contents are here that came ahead, asked for or not.
    pub holds: bool,
}

/// The beginning of a content is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// Which of the contents asked for.
    pub index: u32,
    /// How many bytes of it.
    pub bytes: u64,
}

/// Asks for the signature of a content, against which a newer one is to be diffed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sign {
    /// Which.
    pub content: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A signature, of [`SIGNED_BLOCKS`](super::SIGNED_BLOCKS) blocks at most; empty if there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed {
    /// As [`signature`](crate::thought::delta::signature) writes it.
    pub signature: Vec<u8>,
}

/// Names contents that are wanted: with the last message of a row, what came ahead and was named in none of them goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The first eight bytes of each digest, [`WANTED_CAP`](super::WANTED_CAP) at most.
    pub contents: Vec<[u8; 8]>,
    /// True if more messages follow.
    pub more: bool,
}

/// A message with wanted contents was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Swept {
    /// How many that came ahead went.
    pub contents: u64,
}

/// The end of a stream of contents has come: all of them are here, durable or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldAll {
    /// How many; 0 if what came was refused.
    pub count: u64,
}

/// How a data stream begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamStart {
    /// A generation: its encoded header; then operations, each followed by its payload.
    Generation {
        /// The header.
        header: Vec<u8>,
    },
    /// Contents that a generation will refer to: each followed by its payload.
    Contents,
}

/// A content sent ahead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldContent {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// True if it is to be stored with holes.
    pub sparse: bool,
    /// The mode and modification time of the entry it is sent for: a hint, by which the standby has less to do later.
    pub mode: u16,
    /// See `mode`.
    pub mtime: Timestamp,
    /// The bytes that follow; of large contents the length is [`UNTOLD_LENGTH`](super::UNTOLD_LENGTH), and of a delta also what it is unpacked.
    pub payload: Payload,
    /// They make the content from here on: what is before it is here, as [`Begun`] says.
    pub from: u64,
    /// They are a delta: digest and length of the content that it copies from.
    pub base: Option<(Digest, u64)>,
}
