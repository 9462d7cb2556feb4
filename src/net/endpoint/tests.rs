use std::net::UdpSocket;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;
use crate::net::dial::SERVER_NAME;
use crate::net::tests::{Node, PATIENCE, friends};
use crate::net::trust::{Known, client_config};

fn node() -> Node {
    Node::new(Limits::default())
}

/// The error with all its sources.
fn told(error: &NetError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Dials `server` from `client`'s socket with a TLS configuration of the test's own.
async fn intrude(client: &Node, server: &Node, tls: rustls::ClientConfig) -> (NetError, NetError) {
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let dial = async {
        let connecting = client.endpoint.quinn.connect_with(config, server.address(), SERVER_NAME).unwrap();
        let error = match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        client.endpoint.registry.explain(server.address(), error)
    };
    let both = async { tokio::join!(dial, server.endpoint.accept()) };
    let (here, there) = timeout(PATIENCE, both).await.unwrap();
    (here, there.unwrap().unwrap_err())
}

#[tokio::test]
async fn nodes_that_trust_each_other_meet_and_know_who_the_other_is() {
    let (dialer, acceptor) = friends(&Limits::default());
    let (here, there) = dialer.meet(&acceptor).await;
    let (here, there) = (here.unwrap(), there.unwrap().unwrap());
    assert_eq!((here.peer(), here.name().as_str()), (acceptor.identity.id(), "acceptor"));
    assert_eq!((there.peer(), there.name().as_str()), (dialer.identity.id(), "dialer"));
    assert_eq!((here.remote_addr(), there.remote_addr()), (acceptor.address(), dialer.address()));
}

#[tokio::test]
async fn an_untrusted_dialer_is_refused_and_both_sides_name_its_id() {
    let (dialer, acceptor) = (node(), node());
    dialer.trust(&acceptor, "acceptor");
    let (here, there) = dialer.meet(&acceptor).await;
    let there = there.unwrap().unwrap_err();
    assert!(matches!(&there, NetError::Untrusted { id, .. } if *id == dialer.identity.id()), "{there:?}");
    // TLS 1.3: the dialer is done before it is judged.
    let here = timeout(PATIENCE, here.unwrap().closed()).await.unwrap();
    assert!(matches!(&here, NetError::NotTrusted { own, .. } if *own == dialer.identity.id()), "{here:?}");
    for error in [&here, &there] {
        let text = error.to_string();
        assert!(text.contains(&format!("`hotspare trust {} --name NAME`", dialer.identity.id())), "{text}");
    }
}

#[tokio::test]
async fn an_untrusted_server_is_refused_and_both_sides_name_its_id() {
    let (dialer, acceptor) = (node(), node());
    acceptor.trust(&dialer, "dialer");
    let (here, there) = dialer.meet(&acceptor).await;
    let (here, there) = (here.unwrap_err(), there.unwrap().unwrap_err());
    assert!(matches!(&here, NetError::Untrusted { id, .. } if *id == acceptor.identity.id()), "{here:?}");
    assert!(matches!(&there, NetError::NotTrusted { own, .. } if *own == acceptor.identity.id()), "{there:?}");
    for error in [&here, &there] {
        let text = error.to_string();
        assert!(text.contains(&format!("`hotspare trust {} --name NAME`", acceptor.identity.id())), "{text}");
    }
}

#[tokio::test]
async fn another_protocol_or_none_is_refused() {
    let (dialer, acceptor) = friends(&Limits::default());
    for offered in [vec![b"hotspare/2".to_vec()], vec![]] {
        let mut tls = client_config(&dialer.identity, dialer.endpoint.registry.judge()).unwrap();
        tls.alpn_protocols = offered;
        let (here, there) = intrude(&dialer, &acceptor, tls).await;
        assert!(matches!(here, NetError::Protocol { .. }), "{}", told(&here));
        assert!(matches!(there, NetError::Protocol { .. }), "{}", told(&there));
    }
}

#[tokio::test]
async fn a_dialer_without_a_certificate_is_refused() {
    let (dialer, acceptor) = friends(&Limits::default());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(dialer.endpoint.registry.judge())
        .with_no_client_auth();
    tls.alpn_protocols = vec![crate::net::ALPN.to_vec()];
    let (_, there) = intrude(&dialer, &acceptor, tls).await;
    assert!(told(&there).contains("peer sent no certificates"), "{}", told(&there));
}

#[tokio::test]
async fn a_trusted_certificate_in_the_hands_of_one_without_its_key_is_refused() {
    let (dialer, acceptor) = friends(&Limits::default());
    let thief = Identity::ephemeral().unwrap();
    let key = rustls::crypto::ring::sign::any_eddsa_type(&match thief.private_key() {
        rustls_pki_types::PrivateKeyDer::Pkcs8(key) => key,
        other => panic!("{other:?}"),
    });
    let stolen = CertifiedKey::new(dialer.identity.certificate_chain(), key.unwrap());
    let mut tls = client_config(&dialer.identity, dialer.endpoint.registry.judge()).unwrap();
    tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(stolen));
    let (_, there) = intrude(&dialer, &acceptor, tls).await;
    assert!(told(&there).contains("BadSignature"), "{}", told(&there));
}

#[tokio::test]
async fn a_peer_untrusted_since_its_last_connection_cannot_come_back() {
    let (dialer, acceptor) = friends(&Limits::default());
    let (here, there) = dialer.meet(&acceptor).await;
    let here = here.unwrap();
    there.unwrap().unwrap();
    here.close();
    acceptor.trusted.untrust(&dialer.identity.id());
    let (_, there) = dialer.meet(&acceptor).await;
    assert!(matches!(there.unwrap().unwrap_err(), NetError::Untrusted { .. }));
}

#[tokio::test]
async fn withdrawing_trust_cuts_the_live_connection_and_no_other() {
    let (dialer, acceptor) = friends(&Limits::default());
    let other = node();
    other.trust(&acceptor, "acceptor");
    acceptor.trust(&other, "other");
    let (here, there) = dialer.meet(&acceptor).await;
    let (here, there) = (here.unwrap(), there.unwrap().unwrap());
    let (stays, stays_there) = other.meet(&acceptor).await;
    let (stays, stays_there) = (stays.unwrap(), stays_there.unwrap().unwrap());
    // A stream alone keeps the connection open, and must not keep it from being cut.
    let mut stream = crate::net::link::Link::open(here).await.unwrap();
    let kept = crate::net::link::Link::accept(there).await.unwrap().split().1;

    assert_eq!(acceptor.endpoint.cut_untrusted(), 0);
    acceptor.trusted.untrust(&dialer.identity.id());
    assert_eq!(acceptor.endpoint.cut_untrusted(), 1);

    let mut kept = kept;
    let error = timeout(PATIENCE, kept.recv()).await.unwrap().unwrap_err();
    assert!(matches!(&error, NetError::Untrusted { id, .. } if *id == dialer.identity.id()), "{error:?}");
    let error = timeout(PATIENCE, stream.recv()).await.unwrap().unwrap_err();
    assert!(matches!(&error, NetError::NotTrusted { own, .. } if *own == dialer.identity.id()), "{error:?}");
    assert!(stays.quinn().close_reason().is_none() && stays_there.quinn().close_reason().is_none());
}

#[tokio::test]
async fn a_handshake_judged_before_trust_was_withdrawn_does_not_get_in_after() {
    let (dialer, acceptor) = friends(&Limits::default());
    let (here, there) = dialer.meet(&acceptor).await;
    let (here, there) = (here.unwrap(), there.unwrap().unwrap());
    acceptor.trusted.untrust(&dialer.identity.id());
    let known = Known { id: there.peer(), name: there.name().clone(), is_pinned: true };
    let again = acceptor.endpoint.registry.enlist(there.quinn().clone(), known, dialer.address());
    assert!(matches!(again.unwrap_err(), NetError::Untrusted { .. }));
    assert!(matches!(timeout(PATIENCE, here.closed()).await.unwrap(), NetError::NotTrusted { .. }));
}

#[tokio::test]
async fn a_node_that_dials_itself_says_so() {
    let alone = node();
    alone.trust(&alone, "alone");
    let (here, _) = alone.meet(&alone).await;
    assert!(matches!(here.unwrap_err(), NetError::Own { .. }));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let holder = node();
    let identity = Identity::ephemeral().unwrap();
    let error = Endpoint::bind(holder.address(), &identity, TrustedPeers::new(), Limits::default()).unwrap_err();
    assert!(matches!(error, NetError::PortInUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&holder.address().to_string()) && text.contains("ss -ulpn"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_resolved_or_does_not_answer_is_named() {
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let dialer = Node::new(limits);
    let error = dialer.endpoint.connect("no-port").await.unwrap_err();
    assert!(matches!(&error, NetError::Resolve { peer, .. } if peer == "no-port"), "{error:?}");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = dialer.endpoint.connect(silent.local_addr().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains(&silent.local_addr().unwrap().to_string()), "{error}");
    assert!(matches!(error, NetError::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn an_address_that_swallows_everything_does_not_keep_the_next_from_being_dialed() {
    // Nobody waits for the first: it would take longer than the test may.
    let limits = Limits { handshake_timeout: PATIENCE * 2, idle_timeout: PATIENCE * 2, ..Limits::default() };
    let (dialer, acceptor) = friends(&limits);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other_family = "[::1]:9".parse().unwrap();
    let addresses = [silent.local_addr().unwrap(), other_family, acceptor.address()].into();
    let dialing = dialer.endpoint.dialer();
    let meet = async { tokio::join!(dialing.first_of(addresses), acceptor.endpoint.accept()) };
    let (here, there) = timeout(PATIENCE, meet).await.unwrap();
    assert_eq!(here.unwrap().unwrap().remote_addr(), acceptor.address());
    there.unwrap().unwrap();
    assert!(dialing.first_of([].into()).await.is_none());
}

#[tokio::test]
async fn nodes_meet_over_the_other_family_and_by_name() {
    let (dialer, acceptor) = (node(), node());
    let bind = |node: &Node| {
        Endpoint::bind("[::]:0".parse().unwrap(), &node.identity, node.trusted.clone(), Limits::default()).unwrap()
    };
    dialer.trust(&acceptor, "acceptor");
    acceptor.trust(&dialer, "dialer");
    let (here, there) = (bind(&dialer), bind(&acceptor));
    let port = there.local_addr().unwrap().port();
    for peer in [format!("[::1]:{port}"), format!("localhost:{port}")] {
        let meet = async { tokio::join!(here.connect(&peer), there.accept()) };
        let (dialed, accepted) = timeout(PATIENCE, meet).await.unwrap();
        assert!(dialed.unwrap().remote_addr().ip().is_loopback(), "{peer}");
        accepted.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_on_all_addresses_takes_both_families_and_shows_them_plainly() {
    let (dialer, other) = friends(&Limits::default());
    let identity = other.identity.clone();
    let both = Endpoint::bind("[::]:0".parse().unwrap(), &identity, other.trusted.clone(), Limits::default()).unwrap();
    let port = both.local_addr().unwrap().port();
    let meet = async { tokio::join!(dialer.endpoint.connect(format!("127.0.0.1:{port}")), both.accept()) };
    let (here, there) = timeout(PATIENCE, meet).await.unwrap();
    here.unwrap();
    assert_eq!(there.unwrap().unwrap().remote_addr(), dialer.address());
    let buffers = both.socket_buffers();
    assert!((1..=SOCKET_BUFFER_BYTES).contains(&buffers.receive_bytes), "{buffers:?}");
    assert!((1..=SOCKET_BUFFER_BYTES).contains(&buffers.send_bytes), "{buffers:?}");
}

#[tokio::test]
async fn connections_above_the_limit_are_turned_away_and_a_closed_one_makes_room() {
    let (dialer, acceptor) = friends(&Limits { connections: 1, ..Limits::default() });
    let second = node();
    second.trust(&acceptor, "acceptor");
    acceptor.trust(&second, "second");
    let (here, there) = dialer.meet(&acceptor).await;
    let first = (here.unwrap(), there.unwrap().unwrap());
    let (here, there) = second.meet(&acceptor).await;
    assert!(matches!(there.unwrap().unwrap_err(), NetError::Crowded { .. }));
    assert!(matches!(timeout(PATIENCE, here.unwrap().closed()).await.unwrap(), NetError::Crowded { .. }));
    drop(first);
    let (here, there) = second.meet(&acceptor).await;
    here.unwrap();
    there.unwrap().unwrap();
}

#[tokio::test]
async fn closing_tells_the_peer_and_ends_accepting() {
    let (dialer, acceptor) = friends(&Limits::default());
    let (here, there) = dialer.meet(&acceptor).await;
    let (here, _there) = (here.unwrap(), there.unwrap().unwrap());
    let (_, accepted) =
        timeout(PATIENCE, async { tokio::join!(acceptor.endpoint.close(), acceptor.endpoint.accept()) }).await.unwrap();
    assert!(accepted.is_none());
    assert!(matches!(timeout(PATIENCE, here.closed()).await.unwrap(), NetError::Closed { .. }));
}

#[tokio::test]
async fn places_are_shared_out_as_the_docs_say() {
    let mut handshakes = Handshakes::default();
    let (flooder, peer): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let mut enter = |from: IpAddr, proven: bool| {
        let admission = handshakes.admission(from, proven, 8);
        if admission == Admission::Enter {
            let task = handshakes.tasks.spawn(std::future::pending());
            if proven {
                handshakes.proven.insert(task.id(), from);
            }
        }
        admission
    };
    for _ in 0..4 {
        assert_eq!(enter(flooder, false), Admission::Enter);
    }
    assert_eq!(enter(peer, false), Admission::Prove);
    for _ in 0..2 {
        assert_eq!(enter(flooder, true), Admission::Enter);
    }
    assert_eq!(enter(flooder, true), Admission::TurnAway);
    for _ in 0..2 {
        assert_eq!(enter(peer, true), Admission::Enter);
    }
    assert_eq!(enter("192.0.2.3".parse().unwrap(), true), Admission::TurnAway);
}

#[tokio::test]
async fn a_flood_of_strangers_who_fall_silent_keeps_no_peer_out() {
    let limits = Limits { handshakes: 8, handshake_timeout: PATIENCE, ..Limits::default() };
    let (dialer, acceptor) = friends(&limits);
    // First flights of 20 dialers, caught by a socket that never answers, and played to the acceptor.
    let stranger = node();
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut dials = JoinSet::new();
    for _ in 0..20 {
        let tls = client_config(&stranger.identity, stranger.endpoint.registry.judge()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = stranger.endpoint.quinn.connect_with(config, trap.local_addr().unwrap(), SERVER_NAME).unwrap();
        dials.spawn(connecting);
    }
    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagram = [0; 2048];
    for _ in 0..20 {
        let size = timeout(PATIENCE, trap.recv(&mut datagram)).await.unwrap().unwrap();
        forger.send_to(&datagram[..size], acceptor.address()).unwrap();
    }
    dials.shutdown().await;

    let (here, there) = timeout(PATIENCE / 3, dialer.meet(&acceptor)).await.unwrap();
    here.unwrap();
    there.unwrap().unwrap();
    assert_eq!(
        acceptor.endpoint.handshakes.lock().await.tasks.len(),
        4,
        "half the places, still waiting for the flood"
    );
}
