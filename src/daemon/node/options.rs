//! What a node is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ScrubOptions;
use crate::daemon::holder::Guards;
use crate::daemon::window::WindowLimits;
use crate::net::authority::CertificateFiles;
use crate::net::identity::NodeId;
use crate::thought::filter::Filter;
use crate::thought::timing::Windows;
use crate::thought::wire::message::{Bandwidth, Role};
use crate::words::position::NodeName;

/// How a node is to be run.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its name.
    pub name: NodeName,
    /// Its home, or replica.
    pub home: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    /// What it is.
    pub role: Role,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The peers it knows.
    pub peers: Vec<PeerOptions>,
    /// Where certificates of a CA are, if there are any.
    pub certificates: CertificateFiles,
    /// What is replicated, to begin with.
    pub filter: Filter,
    /// How changes are batched.
    pub windows: Windows,
    /// New contents from so many bytes on are sent ahead, beside the generations.
    pub large_from_bytes: u64,
    /// How much of recent generations is kept for standbys that come back.
    pub window: WindowLimits,
    /// How changes are heard of.
    pub watch: crate::watch::Options,
    /// How often what no watch tells of is scanned.
    pub poll: Duration,
    /// How it is scrubbed; `None`: not at all.
    pub scrub: Option<ScrubOptions>,
    /// A standby's: the most that is to be sent to it.
    pub bandwidth: Option<Bandwidth>,
    /// All of the home is scanned as often, whatever file system it is on.
    pub scan_always: bool,
    /// What guards a replica.
    pub guards: Guards,
    /// A standby takes over a directory that has content of its own.
    pub adopt: bool,
    /// A standby begins anew in an empty directory although it had a replica in it.
    pub anew: bool,
    /// The state directory, or the home, was moved here on purpose.
    pub moved: bool,
}

/// A peer from the configuration.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Its name.
    pub name: NodeName,
    /// `host:port`, any number.
    pub addresses: Vec<String>,
    /// Its id, if it is pinned here.
    pub id: Option<NodeId>,
}
