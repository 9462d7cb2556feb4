//! Dialing: from a name to the first of its addresses that answers as a trusted peer.
//!
//! Each address gets [`Limits::handshake_timeout`](super::endpoint::Limits::handshake_timeout), but none has to wait for it: the next is dialed [`HEAD_START`] after the one
//! before, or as soon as that failed. So an address that swallows everything costs its successor a quarter of a second, and an address
//! earlier in the list is preferred as long as it answers at all soon.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::TransportConfig;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::NetError;
use super::connection::{Connection, Registry};
use super::endpoint::no_suite;
use super::identity::Identity;
use super::trust::client_config;

/// How long an address is waited for before the next is dialed as well.
pub const HEAD_START: Duration = Duration::from_millis(250);
/// How many addresses of one name are tried.
const ADDRESSES_CAP: usize = 8;
/// A name that is not resolved by then has failed. The system's resolver may take longer; it is not waited for.
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);
/// TLS wants a server name; peers are known by id, so it says nothing.
pub(super) const SERVER_NAME: &str = "hotspare";

/// What dialing needs of an endpoint.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) quinn: quinn::Endpoint,
    pub(super) identity: Identity,
    pub(super) transport: Arc<TransportConfig>,
    pub(super) registry: Arc<Registry>,
}

impl Dialer {
    /// Resolves `peer`, anew each time, and dials what comes of it.
    pub(super) async fn connect(&self, peer: &str) -> Result<Connection, NetError> {
        let unresolved = |source| NetError::Resolve { peer: peer.to_owned(), source };
        let resolved = timeout(RESOLVED_WITHIN, tokio::net::lookup_host(peer.to_owned())).await;
        let resolved = resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unresolved)?;
        let nothing = || unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        self.first_of(resolved.take(ADDRESSES_CAP).collect()).await.unwrap_or_else(|| Err(nothing()))
    }

    /// The first connection that comes about, or what tells most of why none did; `None` without addresses.
    pub(super) async fn first_of(&self, mut addresses: VecDeque<SocketAddr>) -> Option<Result<Connection, NetError>> {
        let mut dials = JoinSet::new();
        let mut failure = None;
        loop {
            if let Some(address) = addresses.pop_front() {
                let dialer = self.clone();
                dials.spawn(async move { dialer.dial(address).await });
            }
            let ended = tokio::select! {
                ended = dials.join_next() => ended,
                () = sleep(HEAD_START), if !addresses.is_empty() => continue,
            };
            match ended {
                Some(Ok(Ok(connection))) => return Some(Ok(connection)),
                // What someone answered tells more than the silence of another address.
                Some(Ok(Err(error)))
                    if failure.is_none() || !matches!(error, NetError::NoAnswer { .. } | NetError::Dial { .. }) =>
                {
                    failure = Some(error);
                }
                Some(_) => {}
                None => return failure.map(Err),
            }
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<Connection, NetError> {
        let judge = self.registry.judge();
        let tls = client_config(&self.identity, Arc::clone(&judge)).map_err(NetError::Tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(no_suite)?));
        config.transport_config(Arc::clone(&self.transport));
        let dial = |source| NetError::Dial { address, source };
        let connecting = self.quinn.connect_with(config, address, SERVER_NAME).map_err(dial)?;
        self.registry.establish(connecting, address, &judge).await
    }
}
