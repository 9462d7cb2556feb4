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

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::entry::{Digest, Entry, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

use super::delta::Span;
use super::delta::probe::Probes;

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

/// Some paths, and how many there are in all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NamedPaths {
    /// The first of them, [`NAMED_PATHS_CAP`] at most.
    pub sample: Vec<RelPath>,
    /// How many there are.
    pub count: u64,
}

impl NamedPaths {
    /// Counts `path`, and names it while there is room.
    pub fn add(&mut self, path: &RelPath) {
        self.count += 1;
        if self.sample.len() < NAMED_PATHS_CAP {
            self.sample.push(path.clone());
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Why a generation cannot claim to be one instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// A kernel queue, or ours, overflowed during the round.
    Overflow,
    /// A watch was lost on a directory that still exists.
    LostWatch,
    /// A file system was unmounted during the round.
    Unmounted,
    /// A directory had no watch yet, or was not scanned yet, at the cut.
    AwaitingScan,
    /// Paths went on changing through every round of capture.
    Conflict,
    /// A path's change time was not older than the cut's.
    ChangedAfterCut,
    /// The wall clock was set during the round.
    ClockStepped,
    /// A path left out of an earlier generation is still left out.
    Deferred,
    /// Part of the home is polled, for want of watches.
    Polled,
    /// Part of the home cannot be read.
    Unreadable,
    /// The home, or part of it, is on a network file system.
    Network,
    /// The home is on overlayfs.
    Overlay,
    /// A file has names outside the home, and could not be watched itself.
    OutsideLinks,
    /// A barrier did not arrive in time in every queue.
    BarrierLate,
}

impl Reason {
    /// The word for it in `status` and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::LostWatch => "lost-watch",
            Self::Unmounted => "unmounted",
            Self::AwaitingScan => "awaiting-scan",
            Self::Conflict => "conflict",
            Self::ChangedAfterCut => "changed-after-cut",
            Self::ClockStepped => "clock-stepped",
            Self::Deferred => "deferred",
            Self::Polled => "polled",
            Self::Unreadable => "unreadable",
            Self::Network => "network",
            Self::Overlay => "overlay",
            Self::OutsideLinks => "outside-links",
            Self::BarrierLate => "barrier-late",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a generation may claim of itself (G3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Quality {
    /// Proven to be the state at one instant.
    Consistent,
    /// Proven, but for the deferred paths that the header names.
    Partial,
    /// Not proven, for these reasons: sorted, none twice, never empty.
    Fuzzy(Vec<Reason>),
}

impl Quality {
    /// The word for it in `status`, and the reasons if it is fuzzy.
    pub fn told(&self) -> (&'static str, &[Reason]) {
        match self {
            Self::Consistent => ("consistent", &[]),
            Self::Partial => ("partial", &[]),
            Self::Fuzzy(reasons) => ("fuzzy", reasons),
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consistent => f.write_str("consistent"),
            Self::Partial => f.write_str("partial"),
            Self::Fuzzy(reasons) => {
                f.write_str("fuzzy (")?;
                for (index, reason) in reasons.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{reason}")?;
                }
                f.write_str(")")
            }
        }
    }
}

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

/// Where an operation's content comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// There is none: directories, symlinks, empty files.
    None,
    /// The payload is the content.
    Whole,
    /// The payload is a delta (`delta`) against the content with this digest, which the standby holds.
    Delta {
        /// Digest of the base.
        base: Digest,
        /// Length of the base in bytes.
        base_length: u64,
    },
    /// The standby holds this very content already, staged or under another path.
    Held,
}

/// The bytes that go with an operation, packed as `delta::pack` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload {
    /// Bytes as shipped.
    pub length: u64,
    /// Bytes after unpacking.
    pub unpacked: u64,
}

/// What is done to one path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// What is at `path` (old), with everything below it that no other operation takes, goes.
    Remove {
        /// Old path.
        path: RelPath,
    },
    /// What is at `from` (old) goes to `to` (new), with everything below it that no other operation takes.
    Rename {
        /// Old path.
        from: RelPath,
        /// New path.
        to: RelPath,
    },
    /// A new entry arrives at `path` (new). A directory arrives empty.
    Create {
        /// New path.
        path: RelPath,
        /// What it is.
        entry: Entry,
        /// Where its content comes from.
        content: Content,
        /// True if the primary's file has holes.
        sparse: bool,
    },
    /// `path` (new) becomes another name of the inode that is at `target` (new).
    Link {
        /// New path.
        path: RelPath,
        /// New path of a name the inode has after this generation; itself no `Link` of this generation.
        target: RelPath,
        /// What it is: the same as the target's.
        entry: Entry,
    },
    /// Bytes are written into the file at `path` (new), whose length was `old_length`, in place; the payload is all spans, one after
    /// the other. An append is one span at the old end.
    Edit {
        /// New path.
        path: RelPath,
        /// What it is after.
        entry: Entry,
        /// Length before.
        old_length: u64,
        /// Where the payload's bytes go, rising, not overlapping.
        spans: Vec<Span>,
        /// Samples of the old content that must still hold on the standby; present when the primary did not read it all.
        probes: Option<Probes>,
    },
    /// The entry at `path` (new) gets these attributes; its content stays.
    Attributes {
        /// New path.
        path: RelPath,
        /// What it is after.
        entry: Entry,
    },
}

/// The parts of a generation, in the order in which its operations stand in it and are numbered.
///
/// Within a section the order is: renames rising by new path, removals falling (so the deepest come first), all others rising.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Section {
    /// All [`Action::Rename`].
    Rename,
    /// All [`Action::Remove`].
    Remove,
    /// All [`Action::Create`].
    Create,
    /// All [`Action::Link`].
    Link,
    /// All [`Action::Edit`].
    Edit,
    /// All [`Action::Attributes`].
    Attributes,
}

impl Section {
    /// All sections, in order.
    pub const ALL: [Self; 6] = [Self::Rename, Self::Remove, Self::Create, Self::Link, Self::Edit, Self::Attributes];
}

impl Action {
    /// The section it belongs to.
    pub fn section(&self) -> Section {
        match self {
            Self::Rename { .. } => Section::Rename,
            Self::Remove { .. } => Section::Remove,
            Self::Create { .. } => Section::Create,
            Self::Link { .. } => Section::Link,
            Self::Edit { .. } => Section::Edit,
            Self::Attributes { .. } => Section::Attributes,
        }
    }

    /// The path it is told under.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Remove { path }
            | Self::Create { path, .. }
            | Self::Link { path, .. }
            | Self::Edit { path, .. }
            | Self::Attributes { path, .. } => path,
            Self::Rename { to, .. } => to,
        }
    }

    /// The old path it takes something from.
    pub fn taken(&self) -> Option<&RelPath> {
        match self {
            Self::Remove { path } => Some(path),
            Self::Rename { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The new path something arrives at.
    pub fn arrival(&self) -> Option<&RelPath> {
        match self {
            Self::Rename { to: path, .. } | Self::Create { path, .. } | Self::Link { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The entry that it leaves at its path.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Create { entry, .. }
            | Self::Link { entry, .. }
            | Self::Edit { entry, .. }
            | Self::Attributes { entry, .. } => Some(entry),
            Self::Remove { .. } | Self::Rename { .. } => None,
        }
    }
}

/// One step of a generation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Its number in the generation, from 0.
    pub id: u32,
    /// What is done.
    pub action: Action,
    /// The bytes that go with it, if any.
    pub payload: Option<Payload>,
}

impl Operation {
    /// The bytes that are shipped.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`Operation::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length("operation", bytes.len(), OPERATION_CAP)?;
        decode("operation", bytes)
    }
}

/// What an operation replaced: enough to step back over it. Journalled beside the operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PreImage {
    /// Nothing was there.
    None,
    /// What is taken away lies under `reveal/<generation>/<operation>`, then in history: this was its entry.
    Taken {
        /// The old entry.
        entry: Entry,
    },
    /// The entry before its attributes changed.
    Attributes {
        /// The old entry.
        entry: Entry,
    },
    /// A file before bytes were written into it; its old blocks lie in the stage as `<operation>.old`, one after the other.
    Edited {
        /// The old entry.
        entry: Entry,
        /// The old length.
        old_length: u64,
        /// Which runs of old bytes were kept.
        old_blocks: Vec<Span>,
    },
}

/// An operation as the standby journals it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalledOperation {
    /// The operation.
    pub operation: Operation,
    /// What it replaces.
    pub before: PreImage,
    /// The inode that it moves or writes, on the standby's own disk: by this recovery tells whether a step is done.
    pub inode: Option<crate::words::entry::InodeId>,
}

impl JournalledOperation {
    /// The bytes of a journal record.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`JournalledOperation::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length("journalled operation", bytes.len(), 2 * OPERATION_CAP)?;
        decode("journalled operation", bytes)
    }
}

/// Digests operations as [`Header::operations_digest`] says.
#[derive(Default)]
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
