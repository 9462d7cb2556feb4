//! What a node knows of its peers at the moment, for `status`, `wait` and `verify`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

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

/// All peers.
pub struct Peers {
    all: Mutex<BTreeMap<NodeName, Peer>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { all: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    /// The peers by name.
    pub fn all(&self) -> MutexGuard<'_, BTreeMap<NodeName, Peer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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
