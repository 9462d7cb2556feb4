//! Certificates that a CA issued: the files of `[tls]`, and whether a peer's chain holds.
//!
//! **Files, all PEM.** `ca`: the certificates of the CAs that are believed. `cert`: the certificate that this node shows, then those between it and
//! its CA. `key`: the key of it, in PKCS#8, SEC 1 or PKCS#1. `ca` alone has a node know its peers by CA and still show its own key, which is how a cluster
//! that pins ids is moved over: first every node gets `ca`, then `cert` and `key`, then the pins are taken out.
//!
//! Chains, dates and purposes are judged by webpki, through rustls. A node serves and dials, so its certificate must allow both
//! (`serverAuth` and `clientAuth`, where it has an extended key usage at all).
//!
//! **Invariant:** what is read here is whole and in date, or an error that names the file: nothing is put into force in part.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::words::position::NodeName;

mod files;

pub use files::{CertificateFileError, CertificateFiles, Credentials};

/// A moment, told in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// How long it is until then; `None` if it is past.
    pub fn after(self, now: UnixTime) -> Option<Duration> {
        let left = self.0 - i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        u64::try_from(left).ok().map(Duration::from_secs)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = Duration::from_secs(u64::try_from(self.0).unwrap_or_default());
        write!(f, "{}", humantime::format_rfc3339_seconds(UNIX_EPOCH + since))
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("no DNS name") } else { f.write_str(&self.0.join(", ")) }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed)
}

fn days(parsed: &X509Certificate<'_>) -> (Day, Day) {
    let validity = parsed.validity();
    (Day(validity.not_before.timestamp()), Day(validity.not_after.timestamp()))
}

/// The DNS names of a certificate, as it spells them, for people.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Some(parsed) = parse(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

/// Whether `name` is a DNS name of the certificate.
pub(super) fn is_for(certificate: &CertificateDer<'_>, name: &NodeName) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    DnsName::try_from(name.as_str())
        .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &ServerName::DnsName(name)).is_ok())
}

/// Which side of a handshake shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialer,
    Server,
}

/// The CAs that a node believes. Clones share them.
#[derive(Clone)]
pub struct Authorities(Arc<Anchors>);

struct Anchors {
    file: PathBuf,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    dialers: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// Those of `file`.
    fn read(file: &Path, ends: &mut Vec<(PathBuf, Day)>) -> Result<Self, CertificateFileError> {
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(files::certificates(file)?) {
            let parsed = parse(&certificate);
            let parsed = parsed.ok_or_else(|| CertificateFileError::Damaged { path: file.to_owned(), number })?;
            ends.push((file.to_owned(), days(&parsed).1));
            let unusable = |source| CertificateFileError::Anchor { path: file.to_owned(), number, source };
            roots.add(certificate.clone()).map_err(unusable)?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
        let dialers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|source| CertificateFileError::Anchors { path: file.to_owned(), source })?;
        Ok(Self(Arc::new(Anchors { file: file.to_owned(), provider, roots, dialers })))
    }

    /// Judges a chain, whatever its name; why it does not hold.
    pub(super) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), Doubt> {
        let judged = match side {
            Side::Dialer => self.0.dialers.verify_client_cert(certificate, intermediates, now).map(drop),
            Side::Server => ParsedCertificate::try_from(certificate).and_then(|parsed| {
                let algorithms = self.0.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.0.roots, intermediates, now, algorithms)
            }),
        };
        judged.map_err(|error| self.doubt(certificate, error))
    }

    fn doubt(&self, certificate: &CertificateDer<'_>, error: rustls::Error) -> Doubt {
        let rustls::Error::InvalidCertificate(error) = error else { return Doubt::Other(error.to_string()) };
        match error {
            // A CA that was made anew under its old name has not signed it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Doubt::Issuer(self.0.file.clone()),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Doubt::Ended(parse(certificate).map(|parsed| days(&parsed).1))
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Doubt::Early(parse(certificate).map(|parsed| days(&parsed).0))
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Doubt::Purpose,
            error => Doubt::Other(error.to_string()),
        }
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({}, {})", self.0.file.display(), self.0.roots.len())
    }
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// None of the CAs issued it.
    #[error("no CA in {} issued it", .0.display())]
    Issuer(PathBuf),
    /// It is over, or one between it and its CA is.
    #[error("{}", match .0 { Some(day) => format!("it, or one that issued it, has ended; it is for the time until {day}"), None => "it has ended".to_owned() })]
    Ended(Option<Day>),
    /// It has not begun.
    #[error("{}", match .0 { Some(day) => format!("it begins on {day}, by the clock here"), None => "it has not begun".to_owned() })]
    Early(Option<Day>),
    /// It must not be used like this.
    #[error("its extended key usage does not allow this: a node needs serverAuth and clientAuth")]
    Purpose,
    /// Nobody here has its name.
    #[error("it is for {}, and no peer here has such a name", Names(.0))]
    Name(Vec<String>),
    /// It would do for several.
    #[error("it is good for more than one peer ({}): every node needs a certificate of its own", Names(.0))]
    Several(Vec<String>),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

#[cfg(test)]
mod tests;
