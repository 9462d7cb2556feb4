//! Two or more nodes on 127.0.0.1, over real QUIC.

use super::connection::Connection;
use super::endpoint::{Endpoint, Limits};
use super::identity::Identity;
use super::link::Link;
use super::trust::TrustedPeers;
use super::*;
use crate::words::position::NodeName;

/// No test waits longer for anything.
pub(in crate::net) const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::net) struct Node {
    pub(in crate::net) endpoint: Endpoint,
    pub(in crate::net) identity: Identity,
    pub(in crate::net) trusted: TrustedPeers,
}

impl Node {
    pub(in crate::net) fn new(limits: Limits) -> Self {
        let identity = Identity::ephemeral().unwrap();
        let trusted = TrustedPeers::new();
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &identity, trusted.clone(), limits).unwrap();
        Self { endpoint, identity, trusted }
    }

    pub(in crate::net) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub(in crate::net) fn trust(&self, other: &Self, name: &str) {
        self.trusted.trust(other.identity.id(), NodeName::try_from(name.to_owned()).unwrap());
    }

    /// Dials `server`, which accepts meanwhile: what each of them sees.
    pub(in crate::net) async fn meet(
        &self,
        server: &Self,
    ) -> (Result<Connection, NetError>, Option<Result<Connection, NetError>>) {
        let both = async { tokio::join!(self.endpoint.connect(server.address()), server.endpoint.accept()) };
        tokio::time::timeout(PATIENCE, both).await.expect("the nodes to meet")
    }
}

/// A dialer and an accepting node that trust each other.
pub(in crate::net) fn friends(limits: &Limits) -> (Node, Node) {
    let (dialer, acceptor) = (Node::new(limits.clone()), Node::new(limits.clone()));
    dialer.trust(&acceptor, "acceptor");
    acceptor.trust(&dialer, "dialer");
    (dialer, acceptor)
}

/// Two nodes, and the link between them as each sees it, the dialer's first.
pub(in crate::net) async fn linked() -> ((Node, Node), Link, Link) {
    let (dialer, acceptor) = friends(&Limits::default());
    let (here, there) = dialer.meet(&acceptor).await;
    let link = Link::open(here.unwrap()).await.unwrap();
    let peer = Link::accept(there.unwrap().unwrap()).await.unwrap();
    ((dialer, acceptor), link, peer)
}

#[test]
fn what_a_person_must_change_is_fatal_and_the_rest_is_tried_again() {
    let address = "127.0.0.1:7420".parse().unwrap();
    assert_eq!(NetError::PortInUse { address }.class(), Class::Fatal);
    assert_eq!(NetError::Crowded { address }.class(), Class::Retry);
}
