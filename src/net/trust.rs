//! Whom a node believes.
//!
//! Both sides of a handshake show a certificate, and both judge it with `Judge::judge`, the one function that does; rustls, with the
//! ring provider, then checks that the peer holds the certificate's key. Neither names nor dates in certificates count.

use std::collections::BTreeMap;
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
use super::identity::{Identity, NodeId};
use crate::words::position::NodeName;

/// The ids a node trusts, with the names it knows them by. Clones share one set; a change counts from the next handshake on, and
/// for live connections with [`Endpoint::cut_untrusted`](super::endpoint::Endpoint::cut_untrusted).
#[derive(Clone, Debug, Default)]
pub struct TrustedPeers(Arc<RwLock<BTreeMap<NodeId, NodeName>>>);

impl TrustedPeers {
    /// Trusts nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts `id` under `name`; gives the name it had before.
    pub fn trust(&self, id: NodeId, name: NodeName) -> Option<NodeName> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, name)
    }

    /// Trusts `id` no longer; gives the name it had.
    pub fn untrust(&self, id: &NodeId) -> Option<NodeName> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// The name under which `id` is trusted; `None` if it is not.
    pub fn name_of(&self, id: &NodeId) -> Option<NodeName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All trusted ids, in order.
    pub fn list(&self) -> Vec<(NodeId, NodeName)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(id, name)| (*id, name.clone())).collect()
    }
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Malformed,
    /// It is this node's own.
    Own,
    /// Its id is not among the trusted.
    Untrusted(NodeId),
}

/// Judges the peer of one handshake, and remembers why it refused: TLS itself passes on no more than an alert.
#[derive(Debug)]
pub(super) struct Judge {
    own: NodeId,
    trusted: TrustedPeers,
    algorithms: WebPkiSupportedAlgorithms,
    refusal: OnceLock<Refusal>,
}

impl Judge {
    pub(super) fn new(own: NodeId, trusted: TrustedPeers) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { own, trusted, algorithms, refusal: OnceLock::new() }
    }

    /// Why the peer was refused, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// Decides whether the holder of `certificate` may be spoken to.
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<NodeId, Refusal> {
        let id = NodeId::of_certificate(certificate).ok_or(Refusal::Malformed)?;
        if id == self.own {
            return Err(Refusal::Own);
        }
        if self.trusted.name_of(&id).is_none() {
            return Err(Refusal::Untrusted(id));
        }
        Ok(id)
    }

    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        self.judge(certificate).map(drop).map_err(|refusal| {
            self.refusal.get_or_init(|| refusal);
            rustls::Error::InvalidCertificate(match refusal {
                Refusal::Malformed => CertificateError::BadEncoding,
                // The only error that becomes the alert `access_denied`, by which the peer knows that it was the trust.
                Refusal::Own | Refusal::Untrusted(_) => CertificateError::ApplicationVerificationFailure,
            })
        })
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
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity).map(|()| ServerCertVerified::assertion())
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
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity).map(|()| ClientCertVerified::assertion())
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
