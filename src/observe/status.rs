//! What a daemon says of itself: `hotspare status --json`, stable and versioned.
//!
//! The document is one JSON object, [`Status`]; every field below is always there unless it is an `Option`, which is `null` when
//! nothing is known. Ids and digests are lower-case hexadecimal, paths are written as [`PathText`] says, sizes are in bytes,
//! ages and lags in seconds. A reader must accept fields and states that it does not know; [`VERSION`] rises when a field
//! changes its meaning or goes away, not when one is added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PathText;

/// The version of the document.
pub const VERSION: u32 = 1;

/// At most this many paths are listed as a sample anywhere in the document.
pub const SAMPLE_MAX: usize = 20;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Who answers.
    pub node: NodeStatus,
    /// The home, or the replica.
    pub home: HomeStatus,
    /// The reign it is in; `None` before the first.
    pub reign: Option<ReignStatus>,
    /// Where it stands, as `epoch.generation`: on a primary the last cut, on a standby the last revealed; `None` before the first.
    pub position: Option<String>,
    /// The chain digest at that position.
    pub chain: Option<String>,
    /// What it is doing.
    pub state: State,
    /// Whether it could take over, and if not, why.
    pub promotable: Promotable,
    /// A standby: how far it is behind the home, as the primary last told it; cut off, at least its silence. A primary: `None`, its
    /// standbys' lags stand with the peers.
    pub lag_seconds: Option<f64>,
    /// For how long replication of this node is paused, by `hotspare pause`; `None` if it is not.
    pub paused_seconds: Option<f64>,
    /// A standby: for how long its replica is held still, by `hotspare hold`; `None` if it is not.
    pub still_seconds: Option<f64>,
    /// The quality of the last generation; `None` before the first.
    pub quality: Option<QualityStatus>,
    /// Counts since the daemon started.
    pub generations: GenerationCounts,
    /// The other nodes, those of the configuration and those trusted by `hotspare trust`.
    pub peers: Vec<PeerStatus>,
    /// What changed and is in no acked generation yet.
    pub pending: Pending,
    /// What is in the home and of a kind that is not replicated.
    pub skipped: Skipped,
    /// What could not be read.
    pub unreadable: Unreadable,
    /// What this node's replica cannot hold.
    pub unheld: UnheldCounts,
    /// How the home is watched.
    pub watches: Watches,
    /// What needs a person, in plain words; empty when all is well.
    pub alarms: Vec<String>,
    /// What works, and should be looked at all the same.
    pub warnings: Vec<String>,
    /// Where the scrub is; `None` if there is none.
    pub scrub: Option<ScrubStatus>,
    /// How far long work is; `None` when there is none.
    pub progress: Option<ProgressStatus>,
}

impl Status {
    /// What `node`, whose home is at `home`, can say before it knows anything.
    pub fn starting(node: NodeStatus, home: String) -> Self {
        Self {
            version: VERSION,
            node,
            home: HomeStatus {
                path: home,
                id: None,
                entries: 0,
                bytes: 0,
                content_read_bytes: 0,
                filesystem: String::new(),
            },
            reign: None,
            position: None,
            chain: None,
            state: State::Starting,
            promotable: Promotable { yes: false, why_not: Vec::new() },
            lag_seconds: None,
            paused_seconds: None,
            scrub: None,
            still_seconds: None,
            quality: None,
            generations: GenerationCounts::default(),
            peers: Vec::new(),
            pending: Pending::default(),
            skipped: Skipped::default(),
            unreadable: Unreadable::default(),
            unheld: UnheldCounts::default(),
            watches: Watches::default(),
            alarms: Vec::new(),
            warnings: Vec::new(),
            progress: None,
        }
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its id, `hs1-...`.
    pub id: String,
    /// `primary`, `standby`, or `unassigned`.
    pub role: RoleStatus,
    /// Drawn at random when the daemon started.
    pub instance: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The version of the program.
    pub program: String,
}

/// What a node is to the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleStatus {
    /// Its home is the one that is written.
    Primary,
    /// It holds a replica.
    Standby,
    /// Neither yet, or its state belongs elsewhere: it replicates nothing.
    Unassigned,
}

/// The home, or the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// Where it is.
    pub path: String,
    /// Its id; `None` before it was taken.
    pub id: Option<String>,
    /// How many entries it has, the top directory included; 0 while unknown.
    pub entries: u64,
    /// The sum of the sizes of its files; one with several names counts under each.
    pub bytes: u64,
    /// Bytes of content read since the daemon started, to learn what changed: after a restart only what did.
    #[serde(default)]
    pub content_read_bytes: u64,
    /// The type of the file system under it, such as `ext4`.
    pub filesystem: String,
}

/// A reign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReignStatus {
    /// Its id.
    pub id: String,
    /// Its epoch number.
    pub epoch: u64,
}

/// What a node, or the link to one, is doing. Written with spaces: `catching up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The daemon has not finished its start.
    #[serde(rename = "starting")]
    Starting,
    /// A journal left by a crash is being replayed.
    #[serde(rename = "recovering")]
    Recovering,
    /// The home is being read for the first time since the start.
    #[serde(rename = "scanning")]
    Scanning,
    /// At the live edge.
    #[serde(rename = "streaming")]
    Streaming,
    /// Joined by tree comparison, promotable at the old generation.
    #[serde(rename = "catching up")]
    CatchingUp,
    /// No complete generation yet.
    #[serde(rename = "initial sync")]
    InitialSync,
    /// No peer is connected.
    #[serde(rename = "waiting for a peer")]
    WaitingForPeer,
    /// Replication stands still because a person wants it to.
    #[serde(rename = "paused")]
    Paused,
    /// Replication stands still and cannot go on by itself; an alarm says why.
    #[serde(rename = "stuck")]
    Stuck,
    /// A guard holds replication back; an alarm says why, and what lets it go on.
    #[serde(rename = "held")]
    Held,
    /// The daemon is ending.
    #[serde(rename = "stopping")]
    Stopping,
    /// A state of a later version.
    #[serde(rename = "unknown", other)]
    Unknown,
}

/// Whether a node could take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotable {
    /// It could.
    pub yes: bool,
    /// Why not; empty when it could.
    pub why_not: Vec<String>,
}

/// The quality of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityStatus {
    /// `consistent`, `partial` or `fuzzy`.
    pub quality: String,
    /// Why it is no better.
    pub reasons: Vec<String>,
    /// The paths that a partial generation leaves out, a sample.
    pub deferred: Vec<PathText>,
}

/// Generations since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GenerationCounts {
    /// By quality.
    pub by_quality: BTreeMap<String, u64>,
    /// By reason for not being consistent.
    pub by_reason: BTreeMap<String, u64>,
}

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its id; `None` while nobody told it.
    pub id: Option<String>,
    /// The address in use, else the first configured; `None` for a peer that only dials us.
    pub address: Option<String>,
    /// The role it says it has; `None` before it was met.
    pub role: Option<RoleStatus>,
    /// A link is up and both hellos are done.
    pub connected: bool,
    /// What goes on between the two.
    pub state: State,
    /// The last position it acked.
    pub acked: Option<String>,
    /// The last position it revealed.
    pub revealed: Option<String>,
    /// How far it is behind, as the design defines lag; `None` when unknown.
    pub lag_seconds: Option<f64>,
    /// Sent to it since the daemon started.
    pub bytes_sent: u64,
    /// Received from it since the daemon started.
    pub bytes_received: u64,
    /// What this peer's replica cannot hold.
    pub unheld: UnheldCounts,
    /// What holds replication back on its side, with what to do; `None` while nothing does.
    #[serde(default)]
    pub held: Option<String>,
    /// Why the last link ended or could not be made; `None` when it is up.
    pub trouble: Option<String>,
}

/// Changes that no generation holds yet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// How many paths.
    pub paths: u64,
    /// The age of the oldest; `None` when there are none.
    pub oldest_age_seconds: Option<f64>,
    /// Some of them.
    pub sample: Vec<PathText>,
}

/// Entries of kinds that are not replicated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// Sockets.
    pub sockets: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Block and character devices.
    pub devices: u64,
    /// Some of them.
    pub sample: Vec<PathText>,
}

/// Entries that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unreadable {
    /// How many.
    pub count: u64,
    /// Some of them.
    pub sample: Vec<UnreadablePath>,
}

/// One entry that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadablePath {
    /// Which.
    pub path: PathText,
    /// What the system said.
    pub reason: String,
}

/// Entries with something that a replica cannot hold, by what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnheldCounts {
    /// Owner or group, without the privilege to set them.
    pub owner: u64,
    /// Mode bits that were refused, such as setuid.
    pub mode: u64,
    /// Extended attributes and ACLs.
    pub xattr: u64,
}

impl From<crate::thought::wire::message::UnheldCounts> for UnheldCounts {
    fn from(counts: crate::thought::wire::message::UnheldCounts) -> Self {
        Self { owner: counts.owner, mode: counts.mode, xattr: counts.xattrs }
    }
}

impl UnheldCounts {
    /// True when all is held.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// How the home is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watches {
    /// Watches placed.
    pub placed: u64,
    /// Directories that are polled for want of a watch.
    pub polled: u64,
    /// What to raise so that all are watched, with the command `sysctl -w fs.inotify.max_user_watches=...`.
    pub limit_hint: Option<String>,
    /// How often a queue of events overflowed since the daemon started; each time the home was scanned again.
    #[serde(default)]
    pub overflows: u64,
    /// All of the home is scanned so often, for others may write to its file system unseen; `None` where events tell all.
    #[serde(default)]
    pub home_scanned_every_seconds: Option<u64>,
}

/// What is read and compared in the background.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// What comes next; `None` between two passes.
    pub next: Option<PathText>,
    /// Entries looked at since the daemon started.
    pub entries: u64,
    /// Bytes read since the daemon started.
    pub bytes: u64,
    /// Paths found different since the daemon started: captured on a primary, mended on a standby.
    pub found: u64,
    /// Passes that came to their end, ever.
    pub passes: u64,
}

/// How far long work is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProgressStatus {
    /// What is being done, such as `reading the home`.
    pub phase: String,
    /// Entries done.
    pub entries_done: u64,
    /// All entries; `None` while unknown.
    pub entries_total: Option<u64>,
    /// Bytes done.
    pub bytes_done: u64,
    /// All bytes; `None` while unknown.
    pub bytes_total: Option<u64>,
}

#[cfg(test)]
pub(crate) mod tests;
