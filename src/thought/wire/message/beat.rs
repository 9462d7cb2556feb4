//! What a node says of itself as long as the link lives, and what holds it back.

use serde::{Deserialize, Serialize};

use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{Position, Reign};

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Where the sender stands.
    pub position: Position,
    /// Primary: paths that changed and are in no generation yet.
    pub pending: u64,
    /// Primary: since when the oldest of them waits, by its clock; `None` if none does.
    pub oldest: Option<Timestamp>,
    /// Primary: some of them.
    pub sample: Vec<RelPath>,
    /// Standby: generations acked and not revealed.
    pub unrevealed: u32,
    /// Primary: how far this standby is behind, in milliseconds, by its own clock; `None` while it cannot tell.
    pub lag_milliseconds: Option<u64>,
    /// Standby: what it cannot hold of its tree.
    pub unheld: UnheldCounts,
    /// The id that the sender will have, while its key is changed: the fingerprint alone.
    pub next_id: Option<Digest>,
    /// The same of the receiver, once the sender has written down that it trusts it.
    pub accepted_id: Option<Digest>,
    /// What holds replication back on the sender's side.
    pub held: Option<Held>,
}

/// Replication stands still, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// What holds it.
    pub by: HeldBy,
    /// With numbers and paths, and what to do, for a person.
    pub text: String,
}

/// What holds replication back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HeldBy {
    /// Primary: its home is not there.
    Home,
    /// Standby: a generation would delete too much.
    Fuse,
    /// Standby: its disk is full.
    Room,
}

/// What a standby cannot hold of what its tree says. The tree says what the primary has, so this is no difference of the trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnheldCounts {
    /// Entries whose owner or group it cannot give.
    pub owner: u64,
    /// Entries some of whose mode bits it cannot give.
    pub mode: u64,
    /// Extended attributes, ACLs among them, that it cannot give.
    pub xattrs: u64,
}

impl UnheldCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { owner: self.owner + other.owner, mode: self.mode + other.mode, xattrs: self.xattrs + other.xattrs }
    }

    /// What is left without `other`; never less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            owner: self.owner.saturating_sub(other.owner),
            mode: self.mode.saturating_sub(other.mode),
            xattrs: self.xattrs.saturating_sub(other.xattrs),
        }
    }
}

/// A person's word that what the fuse holds back may be deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {}

/// A higher reign exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deposed {
    /// It.
    pub reign: Reign,
}
