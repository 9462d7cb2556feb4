//! Open connections: who is at the other end, and what an error on one means.
//!
//! **Invariant:** a connection whose peer is not trusted is closed, or about to be. It is listed before it is asked a second time whether
//! its peer is still trusted, so whoever withdraws the trust and then cuts either finds it in the list or is heeded by that second look.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use tokio::time::timeout;

use super::NetError;
use super::endpoint::Limits;
use super::identity::{Identity, NodeId};
use super::trust::{Judge, Known, Refusal, TrustedPeers};
use crate::words::position::NodeName;

/// QUIC transport errors that carry a TLS alert are 0x100 + the alert's number; these two alerts are told apart.
const ALERT_ACCESS_DENIED: u64 = 0x100 + 49;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
/// QUIC's CONNECTION_REFUSED.
const REFUSED: u64 = 0x2;

/// The application close codes of protocol `hotspare/1`.
pub(super) const CLOSE_DONE: VarInt = VarInt::from_u32(0);
const CLOSE_UNTRUSTED: VarInt = VarInt::from_u32(1);
const CLOSE_CROWDED: VarInt = VarInt::from_u32(2);

/// An IPv4 peer seen through a dual-stack socket, as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What an endpoint's connections have in common.
pub(super) struct Registry {
    shown: RwLock<Identity>,
    trusted: TrustedPeers,
    limits: Limits,
    live: Mutex<Vec<Weak<Live>>>,
}

impl Registry {
    pub(super) fn new(shown: Identity, trusted: TrustedPeers, limits: Limits) -> Self {
        Self { shown: RwLock::new(shown), trusted, limits, live: Mutex::default() }
    }

    /// What this node shows.
    pub(super) fn shown(&self) -> Identity {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This node shows something else from now on.
    pub(super) fn show(&self, identity: Identity) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// Closes all connections, in order.
    pub(super) fn close(&self) {
        let listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        listed.iter().filter_map(Weak::upgrade).for_each(|live| live.quinn.close(CLOSE_DONE, b""));
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn judge(&self) -> Arc<Judge> {
        Arc::new(Judge::new(self.shown().id(), self.trusted.clone()))
    }

    pub(super) async fn establish(
        self: &Arc<Self>,
        connecting: quinn::Connecting,
        address: SocketAddr,
        judge: &Judge,
    ) -> Result<Connection, NetError> {
        let patience = self.limits.handshake_timeout;
        match timeout(patience, connecting).await {
            Ok(Ok(quinn)) => match judge.verdict() {
                Some(Ok(known)) => self.enlist(quinn, known.clone(), address),
                // rustls completes no handshake in which nobody was judged, or somebody was refused.
                _ => Err(NetError::Certificate { address }),
            },
            Ok(Err(error)) => Err(self.explain_handshake(address, error, judge)),
            Err(_) => Err(NetError::NoAnswer { address, timeout: patience }),
        }
    }

    /// Lists a connection, then asks once more: whoever withdraws the trust now either finds it listed or is heeded here.
    pub(super) fn enlist(
        self: &Arc<Self>,
        quinn: quinn::Connection,
        known: Known,
        address: SocketAddr,
    ) -> Result<Connection, NetError> {
        let id = known.id;
        let live = Arc::new(Live { quinn, known, registry: Arc::clone(self) });
        {
            let mut listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            listed.retain(|live| live.strong_count() > 0);
            if listed.len() >= self.limits.connections {
                live.quinn.close(CLOSE_CROWDED, b"");
                return Err(NetError::Crowded { address });
            }
            listed.push(Arc::downgrade(&live));
        }
        if !self.trusted.still(&live.known) {
            live.quinn.close(CLOSE_UNTRUSTED, b"");
            return Err(NetError::Untrusted { address, id });
        }
        Ok(Connection(live))
    }

    pub(super) fn cut_untrusted(&self) -> usize {
        let listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let untrusted = |live: &Arc<Live>| !self.trusted.still(&live.known);
        let cut: Vec<_> = listed.iter().filter_map(Weak::upgrade).filter(untrusted).collect();
        drop(listed);
        cut.iter().for_each(|live| live.quinn.close(CLOSE_UNTRUSTED, b""));
        cut.len()
    }

    pub(super) fn explain_handshake(&self, address: SocketAddr, error: ConnectionError, judge: &Judge) -> NetError {
        match judge.verdict() {
            Some(Err(Refusal::Malformed)) => NetError::Certificate { address },
            Some(Err(Refusal::Own)) => NetError::Own { address },
            Some(Err(Refusal::Untrusted(id))) => NetError::Untrusted { address, id: *id },
            Some(Err(Refusal::Doubtful(id, doubt))) => NetError::Doubtful { address, id: *id, source: doubt.clone() },
            Some(Ok(_)) | None => self.explain(address, error),
        }
    }

    /// The peer does not trust this node.
    fn refused(&self, address: SocketAddr) -> NetError {
        let shown = self.shown();
        let own = shown.id();
        if shown.is_certified() {
            NetError::NotBelieved { address, own }
        } else {
            NetError::NotTrusted { address, own }
        }
    }

    /// What QUIC says, as what it means here.
    pub(super) fn explain(&self, address: SocketAddr, error: ConnectionError) -> NetError {
        match &error {
            ConnectionError::ConnectionClosed(close) => match close.error_code.into() {
                ALERT_ACCESS_DENIED => return self.refused(address),
                ALERT_NO_APPLICATION_PROTOCOL => return NetError::Protocol { address },
                REFUSED => return NetError::Crowded { address },
                _ => {}
            },
            ConnectionError::ApplicationClosed(close) => match close.error_code {
                CLOSE_DONE => return NetError::Closed { address },
                CLOSE_UNTRUSTED => return self.refused(address),
                CLOSE_CROWDED => return NetError::Crowded { address },
                _ => {}
            },
            ConnectionError::TransportError(local) if u64::from(local.code) == ALERT_NO_APPLICATION_PROTOCOL => {
                return NetError::Protocol { address };
            }
            ConnectionError::VersionMismatch => return NetError::Protocol { address },
            ConnectionError::LocallyClosed => return NetError::Closed { address },
            _ => {}
        }
        NetError::Lost { address, source: error }
    }
}

/// An open connection to a trusted peer. Clones are the same connection; it closes when the last one, and the last stream, is dropped.
#[derive(Clone)]
pub struct Connection(Arc<Live>);

struct Live {
    quinn: quinn::Connection,
    known: Known,
    registry: Arc<Registry>,
}

impl Connection {
    /// The id of the key that the peer holds.
    pub fn peer(&self) -> NodeId {
        self.0.known.id
    }

    /// The name under which the peer was trusted when the connection was made.
    pub fn name(&self) -> &NodeName {
        &self.0.known.name
    }

    /// Whether the peer is known by its id, and not by a certificate.
    pub fn is_pinned(&self) -> bool {
        self.0.known.is_pinned
    }

    /// Where the peer is now; it may move.
    pub fn remote_addr(&self) -> SocketAddr {
        canonical(self.0.quinn.remote_address())
    }

    /// The current estimate of the round trip time.
    pub fn round_trip(&self) -> Duration {
        self.0.quinn.rtt()
    }

    /// Waits until the connection is gone and says why. The peer's refusal of this node arrives here too.
    pub async fn closed(&self) -> NetError {
        self.explain(self.0.quinn.closed().await)
    }

    /// Closes in order. What the peer has not acknowledged, in its own protocol, may be lost.
    pub fn close(&self) {
        self.0.quinn.close(CLOSE_DONE, b"");
    }

    pub(super) fn quinn(&self) -> &quinn::Connection {
        &self.0.quinn
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.registry.limits
    }

    /// What QUIC says of this connection, as what it means here.
    pub(super) fn explain(&self, error: ConnectionError) -> NetError {
        let address = self.remote_addr();
        let registry = &self.0.registry;
        match error {
            ConnectionError::LocallyClosed if !registry.trusted.still(&self.0.known) => {
                NetError::Untrusted { address, id: self.0.known.id }
            }
            error => registry.explain(address, error),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {} {})", self.name(), self.peer(), self.remote_addr())
    }
}
