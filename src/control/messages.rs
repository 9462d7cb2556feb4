//! What goes over the socket, as JSON.

use serde::{Deserialize, Serialize};

use crate::observe::PathText;
use crate::observe::status::UnheldCounts;
use crate::words::position::NodeName;

/// The body of `POST /v1/wait`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitAsk {
    /// By how many standbys; absent: by every one that is trusted.
    #[serde(default)]
    pub standbys: Option<usize>,
    /// Milliseconds to wait; absent: for ever.
    #[serde(default)]
    pub timeout_milliseconds: Option<u64>,
}

/// What became of waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitOutcome {
    /// All written before the question is acked by as many standbys as were asked for.
    pub reached: bool,
    /// The position that holds all of it; `None` if it was not cut in time.
    pub position: Option<String>,
    /// Where each standby stood at the end.
    pub peers: Vec<PeerWait>,
}

/// Where a standby stood when waiting ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerWait {
    /// Its name.
    pub name: String,
    /// The last position it acked.
    pub acked: Option<String>,
    /// It acked all that was waited for.
    pub reached: bool,
}

/// The body of `POST /v1/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyAsk {
    /// Only these and what is below them; empty: everything.
    #[serde(default)]
    pub paths: Vec<PathText>,
}

/// What a comparison found: `hotspare verify --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Every replica that was compared equals the home, and at least one was.
    pub equal: bool,
    /// The entries of the home that were compared.
    pub compared_entries: u64,
    /// What each standby answered.
    pub peers: Vec<PeerReport>,
}

impl VerifyReport {
    /// At most this many differences are listed for each standby.
    pub const DIFFERENCES_MAX: usize = 1000;
}

/// How one replica compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The standby's name.
    pub name: String,
    /// It equals the home, but for what it cannot hold.
    pub equal: bool,
    /// Why it could not be compared; `None` if it was.
    pub trouble: Option<String>,
    /// The position at which both sides were compared.
    pub position: Option<String>,
    /// The differences, the first [`VerifyReport::DIFFERENCES_MAX`] of them in the order of paths.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub differences_total: u64,
    /// Entries with something that this replica cannot hold; they do not count as differences.
    pub unheld: UnheldCounts,
}

/// One thing that differs at one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where.
    pub path: PathText,
    /// What the home has there, or else the replica; `None` for what is never replicated.
    pub kind: Option<PathKind>,
    /// What.
    pub what: What,
    /// What the home has, for people; `None` when there is nothing.
    pub here: Option<String>,
    /// What the replica has, for people; `None` when there is nothing.
    pub there: Option<String>,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The home has it, the replica does not.
    Missing,
    /// The replica has it, the home does not.
    Extra,
    /// File, directory or symbolic link.
    Kind,
    /// The length of a file.
    Size,
    /// The bytes of a file of the right length; or it cannot be read.
    Content,
    /// Where a symbolic link points.
    Target,
    /// The mode bits.
    Mode,
    /// User or group.
    Owner,
    /// The time of last change.
    Mtime,
    /// Extended attributes or ACLs.
    Xattrs,
    /// Which names are hard links of one file.
    Links,
}

/// The body of `POST /v1/resync`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResyncAsk {
    /// Only these and what is below them; empty: everything.
    #[serde(default)]
    pub paths: Vec<PathText>,
    /// Content is read and compared; otherwise size and time must do.
    #[serde(default)]
    pub checksum: bool,
    /// Nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a resync found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResyncReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Where the home differed from the primary's index, the first [`VerifyReport::DIFFERENCES_MAX`]: missed changes, captured by now.
    pub home: Vec<Difference>,
    /// How many there are in all.
    pub home_total: u64,
    /// What each standby answered.
    pub peers: Vec<ResyncedPeer>,
}

/// What a resync found and did on one standby.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResyncedPeer {
    /// The standby's name.
    pub name: String,
    /// Why it could not be compared or mended; `None` if it was.
    pub trouble: Option<String>,
    /// Where its disk differed from what it should hold, in the order of paths, the first [`VerifyReport::DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
    /// How many there are in all; one path may have several.
    pub differences_total: u64,
    /// How many paths were mended.
    pub mended: u64,
}

/// The body of `POST /v1/hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldAsk {
    /// The replica is let go after so many milliseconds.
    pub longest_milliseconds: u64,
}

/// What was let through by `POST /v1/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOutcome {
    /// What was held back, in words; never empty.
    pub released: Vec<String>,
}

/// The body of `POST /v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustAsk {
    /// The node's id, `hs1-...`.
    pub id: String,
    /// The node's name.
    pub name: NodeName,
    /// Beside the ids that are trusted under that name, not instead of them.
    pub also: bool,
}

/// What came of trusting a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusting {
    /// The ids that were trusted by command under the same name, and are no longer.
    pub replaced: Vec<String>,
}

/// The body of `POST /v1/rotate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateAsk {
    /// Without waiting for peers that do not know the new key.
    pub now: bool,
}

/// How the change of a key stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The new id.
    pub id: String,
    /// Peers that do not know it yet, by name.
    pub waiting_for: Vec<String>,
    /// True if it is in use.
    pub is_done: bool,
}

/// The body of `POST /v1/untrust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UntrustAsk {
    /// The node's id, `hs1-...`.
    pub id: String,
}

/// A no, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What sort of no; it decides the exit code.
    pub class: RefusalClass,
    /// What was refused, on which path or peer, and why.
    pub message: String,
    /// What to do; `None` when nothing helps.
    pub hint: Option<String>,
}

impl Refusal {
    /// A no without a hint.
    pub fn new(class: RefusalClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What sort of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusalClass {
    /// The question makes no sense.
    Usage,
    /// A peer that is needed cannot be reached, or the daemon is ending.
    Unreachable,
    /// A guard forbids it.
    Guard,
    /// Something failed.
    Other,
}
