//! Whom a node believes.
//!
//! Both sides of a handshake show a certificate, and both judge it with `TrustedPeers::judge`, the one function that does; rustls, with the
//! ring provider, then checks that the peer holds the certificate's key.
//!
//! A peer is known by its pinned id, whatever else stands in its certificate: names and dates do not count then. Or, where `[tls] ca` is set, by a
//! certificate in date that a CA issued, one of whose DNS names is that of exactly one peer. A pin goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::ALPN;
use super::authority::{Authorities, Doubt, Side, dns_names, is_for};
use super::identity::{Identity, NodeId};
use crate::words::position::NodeName;

/// The ids a node trusts, with the names it knows them by, and the CAs. Clones share one set; a change counts from the next handshake on, and
/// for live connections with [`Endpoint::cut_untrusted`](super::endpoint::Endpoint::cut_untrusted).
#[derive(Clone, Debug, Default)]
pub struct TrustedPeers(Arc<RwLock<Book>>);

#[derive(Debug, Default)]
struct Book {
    pinned: BTreeMap<NodeId, NodeName>,
    authorities: Option<Authorities>,
    /// The peers that are known by certificate, beside those that are pinned.
    expected: BTreeSet<NodeName>,
}

impl Book {
    /// The names under which a certificate is believed.
    fn certified(&self) -> BTreeSet<&NodeName> {
        let is_on = self.authorities.is_some();
        self.expected.iter().chain(self.pinned.values()).filter(|_| is_on).collect()
    }
}

/// A peer that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// The id of the key that it holds.
    pub(super) id: NodeId,
    /// Its name.
    pub(super) name: NodeName,
    /// True if the id is pinned, false if a CA says who it is.
    pub(super) is_pinned: bool,
}

impl TrustedPeers {
    /// Trusts nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts `id` under `name`; gives the name it had before.
    pub fn trust(&self, id: NodeId, name: NodeName) -> Option<NodeName> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).pinned.insert(id, name)
    }

    /// Trusts `id` no longer; gives the name it had.
    pub fn untrust(&self, id: &NodeId) -> Option<NodeName> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).pinned.remove(id)
    }

    /// From now on, peers of the names `expected`, and those that are pinned, are also known by certificates of `authorities`.
    pub fn certify(&self, authorities: Authorities, expected: impl IntoIterator<Item = NodeName>) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        book.authorities = Some(authorities);
        book.expected = expected.into_iter().collect();
    }

    /// The name under which `id` is pinned; `None` if it is not.
    pub fn name_of(&self, id: &NodeId) -> Option<NodeName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).pinned.get(id).cloned()
    }

    /// All pinned ids, in order.
    pub fn list(&self) -> Vec<(NodeId, NodeName)> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        book.pinned.iter().map(|(id, name)| (*id, name.clone())).collect()
    }

    /// Everybody who is believed in one way or the other, in order.
    pub fn names(&self) -> BTreeSet<NodeName> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        book.pinned.values().chain(book.certified()).cloned().collect()
    }

    /// Whether a peer that was let in would still be. Certificates are looked at in a handshake only: one that ends, or whose CA is replaced,
    /// leaves the links that are up.
    pub(super) fn still(&self, known: &Known) -> bool {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_pinned { book.pinned.contains_key(&known.id) } else { book.certified().contains(&known.name) }
    }

    /// Decides who it is that shows these certificates to the node `own`.
    fn judge(
        &self,
        own: NodeId,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<Known, Refusal> {
        let id = NodeId::of_certificate(certificate).ok_or(Refusal::Malformed)?;
        if id == own {
            return Err(Refusal::Own);
        }
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = book.pinned.get(&id) {
            return Ok(Known { id, name: name.clone(), is_pinned: true });
        }
        // Whoever shows a key with nobody's name on it is told of by its id alone.
        let Some(authorities) = book.authorities.as_ref().filter(|_| !dns_names(certificate).is_empty()) else {
            return Err(Refusal::Untrusted(id));
        };
        let doubtful = |doubt| Refusal::Doubtful(id, doubt);
        authorities.judge(certificate, intermediates, side, now).map_err(doubtful)?;
        let mut fitting = book.certified().into_iter().filter(|name| is_for(certificate, name));
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(doubtful(Doubt::Name(dns_names(certificate)))),
            (Some(name), None) => Ok(Known { id, name: name.clone(), is_pinned: false }),
            (Some(_), Some(_)) => Err(doubtful(Doubt::Several(dns_names(certificate)))),
        }
    }
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Malformed,
    /// It is this node's own.
    Own,
    /// Its id is not among the trusted.
    Untrusted(NodeId),
    /// It is one that a CA issued, as it seems, and is not believed.
    Doubtful(NodeId, Doubt),
}

/// Judges the peer of one handshake, and remembers what came of it: TLS itself passes on no more than an alert.
#[derive(Debug)]
pub(super) struct Judge {
    own: NodeId,
    trusted: TrustedPeers,
    algorithms: WebPkiSupportedAlgorithms,
    verdict: OnceLock<Result<Known, Refusal>>,
}

impl Judge {
    pub(super) fn new(own: NodeId, trusted: TrustedPeers) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { own, trusted, algorithms, verdict: OnceLock::new() }
    }

    /// Who the peer is, or why it was refused; `None` before it has shown anything.
    pub(super) fn verdict(&self) -> Option<&Result<Known, Refusal>> {
        self.verdict.get()
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let judge = || self.trusted.judge(self.own, certificate, intermediates, side, now);
        match self.verdict.get_or_init(judge) {
            Ok(_) => Ok(()),
            Err(Refusal::Malformed) => Err(CertificateError::BadEncoding.into()),
            // The only error that becomes the alert `access_denied`, by which the peer knows that it was the trust.
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

const NO_TLS12: rustls::Error = rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic);

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Side::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Side::Dialer, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What the dialing side of one handshake uses.
pub(super) fn client_config(identity: &Identity, judge: Arc<Judge>) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_auth_cert(identity.certificate_chain(), identity.private_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the judge.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What the accepting side of one handshake uses.
pub(super) fn server_config(identity: &Identity, judge: Arc<Judge>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(judge)
        .with_single_cert(identity.certificate_chain(), identity.private_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the judge.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
