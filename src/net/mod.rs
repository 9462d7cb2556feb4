//! Floor 3: the mouth. What one node says to another, over QUIC, and to whom it speaks at all.
//!
//! - [`identity`]: a node's key and its id.
//! - [`trust`]: the ids a node believes, and the one place where a peer's certificate is judged.
//! - [`authority`]: certificates that a CA issued, and the files they are in.
//! - [`endpoint`]: the UDP socket on which a node dials and is dialed.
//! - [`dial`]: from a peer's name to a connection.
//! - [`connection`]: one open connection to a known peer, and the list of all that are open.
//! - [`link`]: a connection's control stream and its data streams.
//!
//! **Invariant:** every byte that leaves this floor upwards came from a peer that proved to hold the key of a trusted id, or of a certificate
//! that a believed CA issued to a peer's name. There is no mode without authentication, no 0-RTT and no session resumption: each connection is judged anew.
//!
//! **Invariant:** memory per connection is bounded by [`endpoint::CONNECTION_WINDOW_BYTES`] received and not yet read, and
//! [`endpoint::SEND_WINDOW_BYTES`] written and not yet acknowledged; strangers get no further than
//! [`Limits::handshakes`](endpoint::Limits::handshakes) half-open handshakes.
//!
//! **Invariant:** control is never blocked by data that nobody reads: the connection's window holds all streams' windows together.
//!
//! The order of events that surprises: TLS 1.3 lets the dialer finish first. `connect` returns before the other side has judged
//! this node's certificate; a refusal arrives as the error of the first use of the connection ([`NetError::NotTrusted`]). So a
//! link counts as up only once the peer's hello has been received.

use std::net::SocketAddr;
use std::time::Duration;

use crate::thought::wire::frame::FrameError;
use authority::Doubt;
use identity::NodeId;

pub mod authority;
pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod identity;
pub mod link;
pub mod trust;

/// What both sides must offer in the handshake (ALPN): the protocol and its major version.
pub const ALPN: &[u8] = b"hotspare/1";

/// Why a peer cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The UDP address is taken.
    #[error(
        "UDP address {address} is in use: stop what holds it (`ss -ulpn` shows it; another hotspare?) or set another `listen`"
    )]
    PortInUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The socket cannot be made or bound.
    #[error("cannot listen on UDP address {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The node's own key and certificate do not make a TLS configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// A peer's name has no address.
    #[error("cannot resolve the peer address {peer}")]
    Resolve {
        /// As configured: `host:port`.
        peer: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// No attempt can be made from this socket to that address.
    #[error("cannot dial {address}")]
    Dial {
        /// Where to.
        address: SocketAddr,
        /// What QUIC said.
        #[source]
        source: quinn::ConnectError,
    },
    /// Nothing came back.
    #[error("no answer from {address} within {} s: is hotspare running there, and does UDP get through?", timeout.as_secs_f32())]
    NoAnswer {
        /// The other side.
        address: SocketAddr,
        /// How long it was given.
        timeout: Duration,
    },
    /// This node refuses the peer.
    #[error(
        "the peer at {address} shows the id {id}, which this node does not trust: if it is right, run `hotspare trust {id} --name NAME` here"
    )]
    Untrusted {
        /// The other side.
        address: SocketAddr,
        /// The id it showed.
        id: NodeId,
    },
    /// This node refuses the peer's certificate.
    #[error("the peer at {address} shows a certificate (id {id}) that is not believed here")]
    Doubtful {
        /// The other side.
        address: SocketAddr,
        /// The id of its key.
        id: NodeId,
        /// Why.
        #[source]
        source: Doubt,
    },
    /// The peer refuses this node.
    #[error("the peer at {address} does not trust this node's id {own}: run `hotspare trust {own} --name NAME` there")]
    NotTrusted {
        /// The other side.
        address: SocketAddr,
        /// This node's id.
        own: NodeId,
    },
    /// The peer refuses this node's certificate.
    #[error(
        "the peer at {address} does not believe this node's certificate (id {own}): its log, and `hotspare status` there, say why"
    )]
    NotBelieved {
        /// The other side.
        address: SocketAddr,
        /// The id of the certificate's key.
        own: NodeId,
    },
    /// This node met itself, or a copy of its key.
    #[error(
        "at {address} answers this node's own id: the address is this node's own, or its key was copied to another node"
    )]
    Own {
        /// The other side.
        address: SocketAddr,
    },
    /// The peer's certificate cannot be read.
    #[error("the peer at {address} shows a certificate that cannot be read")]
    Certificate {
        /// The other side.
        address: SocketAddr,
    },
    /// What is there speaks something else.
    #[error(
        "the peer at {address} does not speak {}: another program, or another major version of hotspare",
        String::from_utf8_lossy(ALPN)
    )]
    Protocol {
        /// The other side.
        address: SocketAddr,
    },
    /// One side has as many connections or handshakes as it takes.
    #[error("too many connections or handshakes with {address} and others: this one was turned away")]
    Crowded {
        /// The other side.
        address: SocketAddr,
    },
    /// The connection broke.
    #[error("lost the connection to {address}")]
    Lost {
        /// The other side.
        address: SocketAddr,
        /// How.
        #[source]
        source: quinn::ConnectionError,
    },
    /// One side closed the connection, in order.
    #[error("the connection to {address} is closed")]
    Closed {
        /// The other side.
        address: SocketAddr,
    },
    /// A stream was given up by the side that wrote it.
    #[error("the peer at {address} broke off a stream (code {code})")]
    Reset {
        /// The other side.
        address: SocketAddr,
        /// Given by the peer; 0 if its task ended early.
        code: u64,
    },
    /// A stream was given up by the side that read it.
    #[error("the peer at {address} reads no further on a stream (code {code})")]
    Stopped {
        /// The other side.
        address: SocketAddr,
        /// Given by the peer.
        code: u64,
    },
    /// A stream ended before all that was wanted had come.
    #[error("a stream from {address} ended early")]
    EndedEarly {
        /// The other side.
        address: SocketAddr,
    },
    /// A stream carries what is no frame, or a frame too long for its reader.
    #[error("no valid frame in a stream with {address}")]
    Frame {
        /// The other side.
        address: SocketAddr,
        /// What is wrong with it.
        #[source]
        source: FrameError,
    },
    /// The first stream is not a control stream.
    #[error("the peer at {address} opened no control stream")]
    NoControl {
        /// The other side.
        address: SocketAddr,
    },
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Drop the connection and dial again after a pause.
    Retry,
    /// This node cannot speak to anyone until a person has changed something.
    Fatal,
}

impl NetError {
    /// What the supervisor should do.
    pub fn class(&self) -> Class {
        match self {
            Self::PortInUse { .. } | Self::Bind { .. } | Self::Tls(_) => Class::Fatal,
            _ => Class::Retry,
        }
    }
}

#[cfg(test)]
mod tests;
