//! The journal: a standby's write-ahead log, in `<home>/.hotspare/journal/`. What stands in it, synced, is acked.
//!
//! It carries opaque payloads ([`thought`](crate::thought) gives them meaning) and knows, for each generation, how far it
//! has come:
//! `Staged(0) Staged(1) ... -> Acked -> Revealed -> Done`, or `Staged... -> Dropped`, after which the position may be
//! staged anew.
//!
//! # Format, version 1
//!
//! The directory holds segments, each named after its first sequence number, 16 hex digits and `.log`. Integers are
//! little-endian.
//!
//! | segment header | bytes | |
//! |---|---|---|
//! | magic | 8 | `hsjrnl\r\n` |
//! | version | 1 | 1 |
//! | zero | 7 | |
//! | home | 16 | [`HomeId`] |
//! | first sequence | 8 | as in the file's name |
//! | floor | 8 | first sequence of the oldest segment kept when this one was created |
//! | salt | 8 | drawn at random for this segment |
//! | CRC-32 | 4 | of all above |
//! | zero | 4 | |
//!
//! | record | bytes | |
//! |---|---|---|
//! | magic | 4 | `HSJR` |
//! | version | 1 | 1 |
//! | kind | 1 | 1 staged, 2 acked, 3 revealed, 4 done, 5 dropped, 6 floor |
//! | zero | 2 | |
//! | part | 4 | of a staged record, from 0; else 0 |
//! | payload length | 4 | at most [`PAYLOAD_CAP`] |
//! | epoch, generation | 8 + 8 | the position; zero for a floor |
//! | sequence | 8 | one more than that of the record before |
//! | synced | 8 | the highest sequence that was known durable when this record was written |
//! | header CRC-32 | 4 | of the segment's salt and all above |
//! | payload CRC-32 | 4 | of the segment's salt, all above, and the payload |
//! | payload | | |
//!
//! Records follow each other without gaps; behind the last one is the end of the file or zeros (preallocated). A *floor*
//! record's payload
//! is the first sequence (8 bytes) of the oldest segment still needed; it is written and synced before older ones are removed.
//!
//! # Invariants
//!
//! 1. Sequences are consecutive, within a segment and across segments; a position's records follow the order of states above.
//! 2. A segment exists, synced with its header, before a record is written to it, and all before it are synced whole before it is
//!    created: only the last segment can be torn, and one whose header is torn has no records.
//! 3. A record that reports `synced >= n` proves that record `n` was durable.
//! 4. The oldest segment begins at or before the highest floor known: a segment is never missed silently.
//! 5. Bytes behind the cut of a torn tail are gone, durably, before a record is written there.
//! 6. After a failed write, sync, creation or removal nothing more is written: the log is poisoned. Nobody knows what such a sync
//!    left behind; what counts is what the next [`Log::open`] finds.
//!
//! Invariant 3 is what tells a torn tail from damage. Before a sync, writes may reach the medium in any order, so a broken
//! record with good ones behind it is ordinary if none of them claims that it was synced (it was never acked: cut off and
//! reported as [`Torn`]), and damage if one does ([`JournalError::Damaged`]). The salt keeps a peer from planting such
//! records inside payloads.
//!
//! # Assumed of the medium
//!
//! A successful fdatasync makes all earlier writes, and the file's size, durable; a directory fsync makes created and removed
//! names durable. Unsynced writes may be lost, kept, or torn at any byte, in any order. What is durable does not change by
//! itself; where it does, CRC-32 finds it. Not found: loss of the *newest* synced records together with everything behind
//! them (the last segment deleted, a flip in the very last record): the owner compares with the position in the index and
//! says that the node went backwards.
//!
//! One process at a time: the directory is held under an exclusive flock.

mod ledger;
mod log;
mod medium;
mod record;
mod recovery;
mod segment;

pub use log::{Log, Stats};
pub use record::{Location, PAYLOAD_CAP, Record, RecordKind};

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::words::position::{HomeId, Position};

/// How far a generation has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Some of its parts are here; it is not known whether all.
    Staging,
    /// Complete and durable.
    Acked,
    /// Visible in the replica.
    Revealed,
    /// Revealed and tidied up.
    Done,
    /// Given up while staging.
    Dropped,
}

/// One generation whose records are all still in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its position.
    pub position: Position,
    /// Its last state.
    pub state: State,
    /// Where its parts are, in order; all of them, once `state` is beyond `Staging`.
    pub parts: Vec<Location>,
    /// Where the record of the last state is, for its payload; `None` while staging.
    pub mark: Option<Location>,
}

/// A tail that was never synced, and was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The segment's file.
    pub path: PathBuf,
    /// From where on.
    pub offset: u64,
    /// How many bytes, up to the last that was not zero.
    pub bytes: u64,
}

/// What [`Log::open`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The generations whose records are all there, in the order in which they were begun (the last time, if dropped and staged anew).
    /// One of which the beginning was pruned is finished, and not listed.
    pub generations: Vec<Kept>,
    /// What was cut off.
    pub torn: Option<Torn>,
}

/// Why bytes are not what the journal wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The segment's header.
    #[error("the segment header is broken")]
    Header,
    /// A record that was durable once.
    #[error("a record is broken that was synced before")]
    Record,
    /// Records of one or more sequence numbers are missing.
    #[error("records from {expected} to before {found} are missing")]
    Missing {
        /// The sequence number that should stand here.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// A segment is longer than any that was ever written.
    #[error("the segment is {0} bytes long")]
    Long(u64),
    /// The records are whole, but tell no possible story.
    #[error("generation {position} cannot go from {from:?} to {kind:?}")]
    Story {
        /// Of which generation.
        position: Position,
        /// How far it had come; `None` if not begun.
        from: Option<State>,
        /// The record that does not fit.
        kind: RecordKind,
    },
}

/// What a journal can fail with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Medium {
        /// "open", "list", "create", "read", "write", "sync", "cut", "remove".
        operation: &'static str,
        /// The segment or the journal's directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The journal is damaged elsewhere than in its unsynced tail: nothing is skipped, a person (or a fresh sync) must decide.
    #[error("the journal is damaged in {} at byte {offset}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// Written by a newer hotspare.
    #[error("{} has format version {version}, newer than this program knows", path.display())]
    TooNew {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// A journal of another home.
    #[error("{} belongs to the home {found}", path.display())]
    OtherHome {
        /// The segment.
        path: PathBuf,
        /// The home it names.
        found: HomeId,
    },
    /// A payload is longer than [`PAYLOAD_CAP`].
    #[error("a journal record of {0} bytes is too long")]
    TooLong(usize),
    /// A record does not follow from the generation's state.
    #[error("generation {position} cannot go from {from:?} to {kind:?}")]
    OutOfOrder {
        /// Of which generation.
        position: Position,
        /// How far it has come; `None` if not begun.
        from: Option<State>,
        /// The record.
        kind: RecordKind,
    },
    /// No record is at that location (it was pruned, or the location is of another journal), or it is broken.
    #[error("no record is at byte {offset} of journal segment {segment:016x}")]
    NoRecord {
        /// The segment's first sequence.
        segment: u64,
        /// Where in it.
        offset: u64,
    },
    /// An earlier write or sync failed: the log must be opened again.
    #[error("an earlier journal write failed")]
    Poisoned,
}
