//! The UDP socket on which a node dials its peers and is dialed by them.
//!
//! One [`Endpoint`] serves both directions and every role. Who comes through it as a [`Connection`] holds a trusted key.
//!
//! **Strangers.** Anyone can send a datagram; what that can cost is bounded in steps. At most [`Limits::handshakes`] handshakes are
//! under way, each for at most [`Limits::handshake_timeout`]. The first half of the places is open to all; for the other half
//! a dialer must first prove, by a stateless retry, that its address is its own, and one address gets a quarter of all places. The
//! rest is turned away. So a flood, from forged addresses or from one true one, leaves places for peers.
//!
//! **Trust withdrawn.** [`Endpoint::cut_untrusted`] closes live connections of ids no longer trusted. A handshake that was judged
//! before and ends after is caught too: see [`connection`](super::connection).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{TransportConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::NetError;
use super::connection::{CLOSE_DONE, Connection, Registry, canonical};
use super::dial::Dialer;
use super::identity::{Identity, NodeId};
use super::trust::{Judge, TrustedPeers, server_config};
use crate::thought::wire::frame::DEFAULT_CAP_BYTES;

/// How much of one stream may be on its way or unread. quinn-proto 0.11 kills the whole connection once one stream holds more
/// than 1024 disjoint pieces: with windows of 64 MiB 6 of 8 runs died of that, with 2 MiB none did.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// How many data streams a peer may have open towards this node. 16 fill a pipe of 80 ms and 60 MB/s; the rest is for generations.
pub const DATA_STREAMS: u32 = 32;
/// How many streams with both directions a peer may have open. One is used: the control stream.
pub const CONTROL_STREAMS: u32 = 4;
/// How much of one connection may be on its way or unread: room for every stream's window at once, so that data streams that nobody
/// reads, because the disk is slow, cannot keep control frames out.
pub const CONNECTION_WINDOW_BYTES: u32 = (DATA_STREAMS + CONTROL_STREAMS) * STREAM_WINDOW_BYTES;
/// How much may be written to one connection and not yet be acknowledged.
pub const SEND_WINDOW_BYTES: u64 = 32 * 1024 * 1024;
/// What the socket is asked to buffer in each direction. With Linux's default of 208 KiB 2.7 % of packets were lost on loopback.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How many dialers wait to be looked at, at most, and what quinn keeps of their datagrams meanwhile.
const WAITING_CAP: usize = 256;
const WAITING_BYTES: u64 = 16 * 1024;
/// How long a closing endpoint tries to tell its peers.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the rate of sending is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// Cubic: fair to others; falls to 2 MB/s at 80 ms and 0.1 % loss.
    #[default]
    Cubic,
    /// BBR: 51 MB/s on that path, but it fills queues and quinn calls it experimental.
    Bbr,
}

/// What an endpoint allows itself and others.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How the rate of sending is found.
    pub congestion: Congestion,
    /// A silent connection sends something this often; must be well below `idle_timeout`.
    pub keep_alive: Duration,
    /// A connection from which nothing comes for this long is lost.
    pub idle_timeout: Duration,
    /// A handshake not done by then has failed; also for the control stream to open.
    pub handshake_timeout: Duration,
    /// How many handshakes of dialers may be under way at once.
    pub handshakes: usize,
    /// How many connections may be open at once, in both directions together.
    pub connections: usize,
    /// The longest payload accepted in a frame, on every stream.
    pub frame_cap_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            keep_alive: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(8),
            handshake_timeout: Duration::from_secs(5),
            handshakes: 64,
            connections: 64,
            frame_cap_bytes: DEFAULT_CAP_BYTES,
        }
    }
}

impl Limits {
    fn transport(&self) -> Arc<TransportConfig> {
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        let mut config = TransportConfig::default();
        config
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            .max_concurrent_uni_streams(VarInt::from_u32(DATA_STREAMS))
            .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()));
        match self.congestion {
            Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
            Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        };
        Arc::new(config)
    }
}

/// What the kernel granted of [`SOCKET_BUFFER_BYTES`]; less means that `net.core.rmem_max` or `wmem_max` is lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// For what arrives, in the unit of `net.core.rmem_max`.
    pub receive_bytes: usize,
    /// For what leaves, in the unit of `net.core.wmem_max`.
    pub send_bytes: usize,
}

/// A bound UDP address. Shared by reference between the tasks that dial and accept. Dropping it ends handshakes and accepting;
/// open connections live on until they, or it before, are closed.
pub struct Endpoint {
    quinn: quinn::Endpoint,
    transport: Arc<TransportConfig>,
    server: quinn::ServerConfig,
    buffers: SocketBuffers,
    registry: Arc<Registry>,
    handshakes: tokio::sync::Mutex<Handshakes>,
}

impl Endpoint {
    /// Binds `address` for dialing and accepting; `[::]` takes IPv4 as well. Must be called inside a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        trusted: TrustedPeers,
        limits: Limits,
    ) -> Result<Self, NetError> {
        let transport = limits.transport();
        let registry = Arc::new(Registry::new(identity.clone(), trusted, limits));
        let mut server = quinn::ServerConfig::with_crypto(server_crypto(identity, registry.judge())?);
        server
            .transport_config(Arc::clone(&transport))
            .max_incoming(WAITING_CAP)
            .incoming_buffer_size(WAITING_BYTES)
            .incoming_buffer_size_total(WAITING_BYTES * WAITING_CAP as u64);
        let listen = || -> io::Result<_> {
            let (socket, buffers) = bind_socket(address)?;
            let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("no tokio runtime"))?;
            let config = quinn::EndpointConfig::default();
            Ok((quinn::Endpoint::new(config, Some(server.clone()), socket, runtime)?, buffers))
        };
        let (quinn, buffers) = listen().map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => NetError::PortInUse { address },
            _ => NetError::Bind { address, source },
        })?;
        let handshakes = tokio::sync::Mutex::default();
        Ok(Self { quinn, transport, server, buffers, registry, handshakes })
    }

    /// Where the endpoint is bound, with the port that the kernel chose for port 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// What the kernel granted for buffers.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Goes on as `identity`: all live connections are closed, in order, and new ones are made with it.
    pub fn renew(&self, identity: Identity) {
        self.show(identity);
        self.registry.close();
    }

    /// Shows `identity` from the next handshake on; live connections stay.
    pub fn show(&self, identity: Identity) {
        self.registry.show(identity);
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.registry.shown().id()
    }

    /// Dials `peer`, an address or `host:port`, as [`dial`](super::dial) says: any of its addresses that answers as a trusted peer.
    ///
    /// `Ok` does not mean that the peer trusts this node: see the floor's docs.
    pub async fn connect(&self, peer: impl fmt::Display) -> Result<Connection, NetError> {
        self.dialer().connect(&peer.to_string()).await
    }

    fn dialer(&self) -> Dialer {
        Dialer {
            quinn: self.quinn.clone(),
            identity: self.registry.shown(),
            transport: Arc::clone(&self.transport),
            registry: Arc::clone(&self.registry),
        }
    }

    /// The next handshake of a dialer that ended, well or not; `None` once the endpoint is closed. An error concerns only that dialer.
    ///
    /// Dialers are let in only while this is awaited. It may be cancelled at any time: no handshake is lost.
    pub async fn accept(&self) -> Option<Result<Connection, NetError>> {
        let mut handshakes = self.handshakes.lock().await;
        loop {
            tokio::select! {
                Some(ended) = handshakes.tasks.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, Some(result)),
                        Err(error) => (error.id(), None),
                    };
                    handshakes.proven.remove(&id);
                    if result.is_some() {
                        return result;
                    }
                }
                incoming = self.quinn.accept() => {
                    if let Err(error) = self.admit(incoming?, &mut handshakes) {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    fn admit(&self, incoming: quinn::Incoming, handshakes: &mut Handshakes) -> Result<(), NetError> {
        let address = canonical(incoming.remote_address());
        let proven = incoming.remote_address_validated();
        match handshakes.admission(address.ip(), proven, self.registry.limits().handshakes) {
            Admission::TurnAway => incoming.refuse(),
            Admission::Prove => {
                // Fails only for a proven address, which is never asked again.
                incoming.retry().ok();
            }
            Admission::Enter => {
                let judge = self.registry.judge();
                let mut config = self.server.clone();
                config.crypto = server_crypto(&self.registry.shown(), Arc::clone(&judge))?;
                let registry = Arc::clone(&self.registry);
                let task = handshakes.tasks.spawn(async move {
                    let connecting = incoming
                        .accept_with(Arc::new(config))
                        .map_err(|error| registry.explain_handshake(address, error, &judge))?;
                    registry.establish(connecting, address, &judge).await
                });
                if proven {
                    handshakes.proven.insert(task.id(), address.ip());
                }
            }
        }
        Ok(())
    }

    /// Closes every live connection whose peer is no longer trusted, and says how many those were. To be called after
    /// [`TrustedPeers::untrust`].
    pub fn cut_untrusted(&self) -> usize {
        self.registry.cut_untrusted()
    }

    /// Closes all connections, in order, and accepts no more. Takes up to a second to tell the peers; what was written but not
    /// acknowledged by the peer's own protocol may be lost.
    pub async fn close(&self) {
        self.quinn.close(CLOSE_DONE, b"");
        // A peer that cannot be told finds out by its idle timeout.
        timeout(FAREWELL, self.quinn.wait_idle()).await.ok();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.id())
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<(std::net::UdpSocket, SocketBuffers)> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM.nonblocking(),
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    // Linux reports twice what it grants: the other half is its own bookkeeping.
    let buffers =
        SocketBuffers { receive_bytes: socket.recv_buffer_size()? / 2, send_bytes: socket.send_buffer_size()? / 2 };
    Ok((socket.into(), buffers))
}

fn server_crypto(identity: &Identity, judge: Arc<Judge>) -> Result<Arc<QuicServerConfig>, NetError> {
    let tls = server_config(identity, judge).map_err(NetError::Tls)?;
    Ok(Arc::new(QuicServerConfig::try_from(tls).map_err(no_suite)?))
}

pub(super) fn no_suite(error: NoInitialCipherSuite) -> NetError {
    NetError::Tls(rustls::Error::General(error.to_string()))
}

/// The handshakes of dialers under way.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<Result<Connection, NetError>>,
    /// Those whose address is proven.
    proven: HashMap<tokio::task::Id, IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Enter,
    Prove,
    TurnAway,
}

impl Handshakes {
    /// The rule for strangers, as the module's docs say it.
    fn admission(&self, from: IpAddr, proven: bool, places: usize) -> Admission {
        if !proven {
            return if self.tasks.len() < places.div_ceil(2) { Admission::Enter } else { Admission::Prove };
        }
        let theirs = self.proven.values().filter(|ip| **ip == from).count();
        if self.tasks.len() < places && theirs < places.div_ceil(4) { Admission::Enter } else { Admission::TurnAway }
    }
}

#[cfg(test)]
mod tests;
