//! How far a standby is with the generations, and with what brings it up to date.

use serde::{Deserialize, Serialize};

use crate::words::position::{ChainDigest, Position};

/// A generation is durable on the standby.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acked {
    /// Which.
    pub position: Position,
    /// The chain digest after it.
    pub chain: ChainDigest,
}

/// A generation is visible in the replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revealed {
    /// Which.
    pub position: Position,
}

/// A generation could not be staged; nothing of it was kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub position: Position,
    /// Why, for a person.
    pub text: String,
}

/// How far the primary is with bringing this standby up to date.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CatchingUp {
    /// What the standby had acked when this began. Once it has acked more, this is over: the generation comes on a stream of its own, and may
    /// overtake what was said of it.
    pub from: Position,
    /// What is being done.
    pub phase: String,
    /// Entries done, of how many.
    pub entries: (u64, u64),
    /// Bytes done, of how many.
    pub bytes: (u64, u64),
}
