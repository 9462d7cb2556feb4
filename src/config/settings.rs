//! What a configuration means: checked, with every default filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ConfigError;
use super::judge;
use crate::thought::fuse::FuseOptions;
use crate::thought::wire::message::Bandwidth;
use crate::words::position::NodeName;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[node]`: this node.
    pub node: Node,
    /// `[[peer]]`: the other nodes, in the file's order.
    pub peers: Vec<Peer>,
    /// `[tls]`: certificates of a CA.
    pub tls: Tls,
    /// `[replicate]`: what of the home is replicated.
    pub replicate: Replicate,
    /// `[batch]`: how changes are gathered into generations.
    pub batch: Batch,
    /// `[window]`: what is kept for standbys that come back soon.
    pub window: Window,
    /// `[watch]`: how changes are noticed.
    pub watch: Watch,
    /// `[scrub]`: how everything is read again in the background.
    pub scrub: Scrub,
    /// `[standby]`: limits of a replica.
    pub standby: Standby,
    /// `[failover]`: who decides which node is primary.
    pub failover: Failover,
    /// `[hooks]`: what is run when something happens.
    pub hooks: Hooks,
    /// `[observe]`: how the daemon is watched.
    pub observe: Observe,
    /// The keys that are set and valid, but that this version does not act upon, as `section.key`.
    pub dormant: Vec<&'static str>,
    /// The single values that are set, as they are written, by `section.key`.
    pub given: BTreeMap<String, String>,
}

impl Settings {
    /// Where a node looks for its configuration when none is named.
    pub const DEFAULT_FILE: &str = "/etc/hotspare/hotspare.toml";

    /// Reads and checks `file`. `overrides` are the `HOTSPARE_*` pairs of the environment.
    pub fn load(file: &Path, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
        Self::parse(file, &text, overrides)
    }

    /// Checks `text`; `file` only names it in errors.
    pub fn parse(file: &Path, text: &str, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        judge::judge(file, text, overrides)
    }

    /// Where the daemon of this configuration listens for commands.
    pub fn control_socket(&self) -> PathBuf {
        self.node.state.join("control.sock")
    }
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique in the cluster.
    pub name: NodeName,
    /// The directory that is replicated; absolute, and not `/`.
    pub home: PathBuf,
    /// Where key, reign and index lie; absolute, neither inside the home nor around it. Default `/var/lib/hotspare`.
    pub state: PathBuf,
    /// The role of the very first start. `None`: the node starts unassigned.
    pub initial_role: Option<Role>,
    /// The UDP address that peers reach. Default `0.0.0.0:7420`.
    pub listen: SocketAddr,
}

/// What a node is to a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its home is the one that Jenkins writes.
    Primary,
    /// It holds a replica.
    Standby,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, different from every other one in the file.
    pub name: NodeName,
    /// Where it may be reached, in the order in which to try; never empty.
    pub addresses: Vec<Address>,
    /// The fingerprint of its key. `None`: known by `hotspare trust`.
    pub id: Option<PeerId>,
}

/// `host:port`, the host a name or an IP address (IPv6 in brackets). Names are looked up each time they are dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The UDP port, never 0.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The text of a node's id: `hs1-` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerId(String);

/// Why a text is no node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id is `hs1-` and 64 lower-case hexadecimal digits, as `hotspare id` prints it, and {0:?} is not")]
pub struct PeerIdError(String);

impl PeerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PeerId {
    type Error = PeerIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let fits = |rest: &str| rest.len() == 64 && rest.bytes().all(is_digit);
        if text.strip_prefix("hs1-").is_some_and(fits) { Ok(Self(text)) } else { Err(PeerIdError(text)) }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Certificates that a CA issued, in PEM files; all paths are absolute. Without any, peers are known by pinned ids alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The CAs that are believed.
    pub ca: Option<PathBuf>,
    /// What this node shows: certificate and key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

/// What of the home is replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate {
    /// The filters to begin with. Default `jenkins`.
    pub preset: Preset,
    /// Patterns in gitignore syntax, replicated although the preset leaves them out.
    pub include: Vec<String>,
    /// Patterns in gitignore syntax, left out.
    pub exclude: Vec<String>,
}

/// The filters to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// What a Jenkins home can do without (caches, workspaces) is left out.
    Jenkins,
    /// Everything is replicated.
    None,
}

/// How changes are gathered into generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// A generation is cut when nothing changed for this long. Default 50 ms.
    pub quiet: Duration,
    /// A generation is cut at the latest this long after its first change. Default 200 ms.
    pub longest: Duration,
    /// New contents from this size on are sent ahead, beside the generations, in bytes. Default 8 MiB.
    pub big_file_bytes: u64,
}

/// What a primary keeps for standbys that come back soon: who is in time goes on where it was, who is not has its tree compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// How much of recent generations is kept in memory, in bytes. Default 32 MiB.
    pub memory_bytes: u64,
    /// How much is kept on disk, in the state directory, in bytes. Default 512 MiB.
    pub disk_bytes: u64,
    /// How long generations are still kept when the last link has ended. Default 10 minutes.
    pub linger: Duration,
}

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What tells of them. Default `notify`.
    pub backend: Backend,
    /// How many watches are placed at most. Default: as many as the kernel gives.
    pub max_watches: Option<usize>,
    /// How many changes may wait to be looked at. Default 65536.
    pub queue: usize,
    /// All of the home is scanned from time to time, whatever file system it is on. Default: where others may write unseen.
    pub scan_always: bool,
    /// How often what no watch tells of is scanned. Default 30 s.
    pub poll: Duration,
}

/// What tells of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The notify crate.
    Notify,
    /// inotify itself.
    Inotify,
}

/// How everything is read again in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrub {
    /// So many bytes a second; `None`: not at all. Default 8 MiB.
    pub bytes_per_second: Option<u64>,
    /// A pass begins at the earliest so long after the one before began. Default 1 day.
    pub every: Duration,
}

/// What is particular to a replica. History is not yet acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// How long what a generation replaced is kept. Not yet acted upon.
    pub history_age: Option<Duration>,
    /// How much of it is kept, in bytes. Not yet acted upon.
    pub history_bytes: Option<u64>,
    /// A generation that deletes more than this waits for a person's word. Default: more than 1000 entries and three quarters of all, within
    /// ten minutes.
    pub fuse: FuseOptions,
    /// What stays free on the replica's disk. Default: 1 % of it, 256 MiB at most.
    pub reserve: Option<Reserve>,
    /// The most that its primary is to send to it; at once, by default, what it may send in a second.
    pub bandwidth: Option<Bandwidth>,
    /// Whether a directory that has content of its own, and is no replica, becomes one. Default no.
    pub adopt: bool,
}

/// What stays free on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// So many bytes.
    Bytes(u64),
    /// This share of the file system, 1 to 90.
    Percent(u8),
}

/// Who decides which node is primary. Not yet acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// The engine that decides. Default `manual`.
    pub engine: Engine,
    /// A standby further behind than this is not promoted.
    pub max_lag: Option<Duration>,
    /// The name of the Kubernetes Lease.
    pub lease: Option<String>,
}

/// The engine that decides who is primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A person.
    Manual,
    /// keepalived, through its notify scripts.
    Keepalived,
    /// A Kubernetes Lease.
    Kubernetes,
}

/// Programs (absolute paths) that are run when something happens. Not yet acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before a switchover: stop writing.
    pub quiesce: Option<PathBuf>,
    /// After this node became primary.
    pub promoted: Option<PathBuf>,
    /// After this node ceased to be primary.
    pub demoted: Option<PathBuf>,
    /// When something needs a person.
    pub alarm: Option<PathBuf>,
}

/// How the daemon is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// The TCP address of the read-only pages. Not yet acted upon.
    pub http: Option<SocketAddr>,
    /// How the log is written, to stderr. Default `text`.
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
