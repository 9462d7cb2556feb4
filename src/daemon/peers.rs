//! What a node knows of its peers at the moment, for `status`, `wait` and `verify`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use crate::net::identity::NodeId;
use crate::net::trust::TrustedPeers;
use crate::thought::wire::message::{Audited, CatchingUp, Heartbeat};
use crate::words::path::RelPath;
use crate::words::position::{NodeName, Position};

/// What a session can be asked.
pub enum Ask {
    /// To have the standby compare its disk with its tree.
    Audit(Vec<RelPath>, oneshot::Sender<Audited>),
}

/// What a link is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Busy {
    /// There is none.
    #[default]
    Absent,
    /// Everything is still to come.
    InitialSync,
    /// Trees are compared.
    CatchingUp,
    /// It is at the live edge.
    Streaming,
}

/// One peer.
#[derive(Default)]
pub struct Peer {
    /// Its id, as text.
    pub id: Option<String>,
    /// Where it is.
    pub address: Option<String>,
    /// What the link is busy with.
    pub busy: Busy,
    /// What it acked.
    pub acked: Option<Position>,
    /// What it revealed.
    pub revealed: Option<Position>,
    /// Payload bytes sent to it.
    pub sent: Arc<AtomicU64>,
    /// Its last sign of life.
    pub heartbeat: Option<Heartbeat>,
    /// How far it is being brought up to date.
    pub progress: Option<CatchingUp>,
    /// Why the last link ended, or could not begin.
    pub trouble: Option<String>,
    /// Where its session can be asked.
    pub asks: Option<mpsc::Sender<Ask>>,
}

/// At most this many ids that are not trusted are remembered, the newest.
const STRANGERS_CAP: usize = 8;

/// All peers.
pub struct Peers {
    /// Ids that were met and are not trusted, with what was said of each; the newest last.
    strangers: Mutex<Vec<(NodeId, String)>>,
    all: Mutex<BTreeMap<NodeName, Peer>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { strangers: Mutex::default(), all: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    /// The peers by name.
    pub fn all(&self) -> MutexGuard<'_, BTreeMap<NodeName, Peer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an id that was met and is not trusted.
    pub fn met_stranger(&self, id: NodeId, text: String) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|(known, _)| *known != id);
        strangers.push((id, text));
        let surplus = strangers.len().saturating_sub(STRANGERS_CAP);
        strangers.drain(..surplus);
    }

    /// What is to be said of ids that were met and that nobody trusted since.
    pub fn strangers(&self, trusted: &TrustedPeers) -> Vec<String> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|(id, _)| trusted.name_of(id).is_none());
        strangers.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Changes what is known of one peer.
    pub fn change(&self, name: &NodeName, change: impl FnOnce(&mut Peer)) {
        change(self.all().entry(name.clone()).or_default());
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
