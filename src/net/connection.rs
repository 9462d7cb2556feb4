//! Open connections: who is at the other end, and what an error on one means.
//!
//! **Invariant:** a connection whose peer is not trusted is closed, or about to be. It is listed before its peer is judged a second
//! time, so whoever withdraws the trust and then cuts either finds it in the list or is heeded by that second look.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use super::NetError;
use super::endpoint::Limits;
use super::identity::NodeId;
use super::trust::{Judge, Refusal, TrustedPeers};
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
    own: RwLock<NodeId>,
    trusted: TrustedPeers,
    limits: Limits,
    live: Mutex<Vec<Weak<Live>>>,
}

impl Registry {
    pub(super) fn new(own: NodeId, trusted: TrustedPeers, limits: Limits) -> Self {
        Self { own: RwLock::new(own), trusted, limits, live: Mutex::default() }
    }

    pub(super) fn own(&self) -> NodeId {
        *self.own.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node has another id from now on; what was made with the old one is closed.
    pub(super) fn renew(&self, own: NodeId) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
        let listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        listed.iter().filter_map(Weak::upgrade).for_each(|live| live.quinn.close(CLOSE_DONE, b""));
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn judge(&self) -> Arc<Judge> {
        Arc::new(Judge::new(self.own(), self.trusted.clone()))
    }

    pub(super) async fn establish(
        self: &Arc<Self>,
        connecting: quinn::Connecting,
        address: SocketAddr,
        judge: &Judge,
    ) -> Result<Connection, NetError> {
        let patience = self.limits.handshake_timeout;
        match timeout(patience, connecting).await {
            Ok(Ok(quinn)) => self.enlist(quinn, address),
            Ok(Err(error)) => Err(self.explain_handshake(address, error, judge)),
            Err(_) => Err(NetError::NoAnswer { address, timeout: patience }),
        }
    }

    /// Lists a connection, then judges its id once more: whoever withdraws the trust now either finds it listed or is heeded here.
    pub(super) fn enlist(
        self: &Arc<Self>,
        quinn: quinn::Connection,
        address: SocketAddr,
    ) -> Result<Connection, NetError> {
        let shown = quinn.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = shown
            .and_then(|chain| chain.first().and_then(NodeId::of_certificate))
            .ok_or(NetError::Certificate { address })?;
        let refused = NetError::Untrusted { address, id: peer };
        let Some(name) = self.trusted.name_of(&peer) else {
            quinn.close(CLOSE_UNTRUSTED, b"");
            return Err(refused);
        };
        let live = Arc::new(Live { quinn, peer, name, registry: Arc::clone(self) });
        {
            let mut listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            listed.retain(|live| live.strong_count() > 0);
            if listed.len() >= self.limits.connections {
                live.quinn.close(CLOSE_CROWDED, b"");
                return Err(NetError::Crowded { address });
            }
            listed.push(Arc::downgrade(&live));
        }
        if self.trusted.name_of(&peer).is_none() {
            live.quinn.close(CLOSE_UNTRUSTED, b"");
            return Err(refused);
        }
        Ok(Connection(live))
    }

    pub(super) fn cut_untrusted(&self) -> usize {
        let listed = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let untrusted = |live: &Arc<Live>| self.trusted.name_of(&live.peer).is_none();
        let cut: Vec<_> = listed.iter().filter_map(Weak::upgrade).filter(untrusted).collect();
        drop(listed);
        cut.iter().for_each(|live| live.quinn.close(CLOSE_UNTRUSTED, b""));
        cut.len()
    }

    pub(super) fn explain_handshake(&self, address: SocketAddr, error: ConnectionError, judge: &Judge) -> NetError {
        match judge.refusal() {
            Some(Refusal::Malformed) => NetError::Certificate { address },
            Some(Refusal::Own) => NetError::Own { address },
            Some(Refusal::Untrusted(id)) => NetError::Untrusted { address, id },
            None => self.explain(address, error),
        }
    }

    /// What QUIC says, as what it means here.
    pub(super) fn explain(&self, address: SocketAddr, error: ConnectionError) -> NetError {
        match &error {
            ConnectionError::ConnectionClosed(close) => match close.error_code.into() {
                ALERT_ACCESS_DENIED => return NetError::NotTrusted { address, own: self.own() },
                ALERT_NO_APPLICATION_PROTOCOL => return NetError::Protocol { address },
                REFUSED => return NetError::Crowded { address },
                _ => {}
            },
            ConnectionError::ApplicationClosed(close) => match close.error_code {
                CLOSE_DONE => return NetError::Closed { address },
                CLOSE_UNTRUSTED => return NetError::NotTrusted { address, own: self.own() },
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
    peer: NodeId,
    name: NodeName,
    registry: Arc<Registry>,
}

impl Connection {
    /// The id of the key that the peer holds.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// The name under which the peer was trusted when the connection was made.
    pub fn name(&self) -> &NodeName {
        &self.0.name
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
            ConnectionError::LocallyClosed if registry.trusted.name_of(&self.0.peer).is_none() => {
                NetError::Untrusted { address, id: self.0.peer }
            }
            error => registry.explain(address, error),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {} {})", self.0.name, self.0.peer, self.remote_addr())
    }
}
