//! Reading the files of `[tls]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::server::VerifierBuilderError;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::super::identity::Identity;
use super::{Authorities, Day, Names, days, dns_names, is_for, parse};
use crate::fs::FsError;
use crate::fs::state::read_capped;
use crate::words::position::NodeName;

/// The longest file of certificates that is read.
const CAP: u64 = 1 << 20;

/// Where the files of `[tls]` are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Whom to believe.
    pub ca: Option<PathBuf>,
    /// What to show: certificate and key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

/// Why files of `[tls]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// One cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: FsError,
    },
    /// One is not what it should be.
    #[error("{} is no PEM file with a {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
        /// What is there.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in {}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in it is damaged.
    #[error("certificate number {number} in {} cannot be read", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
    },
    /// A certificate in it cannot be that of a CA.
    #[error("certificate number {number} in {} cannot be used as a CA", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The CAs make no verifier.
    #[error("the certificates in {} cannot be used as CAs", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// The key is of no use for TLS, or is that of another certificate.
    #[error("the key in {} is not that of the certificate in {}, or is of a kind that TLS 1.3 does not know", key.display(), cert.display())]
    Key {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Its time is over.
    #[error("the certificate in {} ended on {ended}", path.display())]
    Ended {
        /// The file.
        path: PathBuf,
        /// When.
        ended: Day,
    },
    /// Its time has not come.
    #[error("the certificate in {} begins on {begins}, by the clock of this node", path.display())]
    Early {
        /// The file.
        path: PathBuf,
        /// When.
        begins: Day,
    },
    /// Peers would not know this node by it.
    #[error(
        "the certificate in {} is for {}, and this node is called {own}: peers know it by that name, which must be a DNS name of the certificate",
        path.display(), Names(names)
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The DNS names in it.
        names: Vec<String>,
        /// This node's.
        own: NodeName,
    },
}

/// What the files of `[tls]` hold.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CAs that are believed, if `ca` is set.
    pub authorities: Option<Authorities>,
    /// What this node shows, if `cert` is set.
    pub shown: Option<Identity>,
    /// When each certificate in the files ends, with its file: the shown one first.
    pub ends: Vec<(PathBuf, Day)>,
}

impl CertificateFiles {
    /// Reads all of them, for the node `own`.
    pub fn read(&self, own: &NodeName, now: UnixTime) -> Result<Credentials, CertificateFileError> {
        let mut ends = Vec::new();
        let shown = match &self.shown {
            Some((cert, key)) => Some(read_shown(cert, key, own, now, &mut ends)?),
            None => None,
        };
        let authorities = match &self.ca {
            Some(ca) => Some(Authorities::read(ca, &mut ends)?),
            None => None,
        };
        Ok(Credentials { authorities, shown, ends })
    }

    /// The bytes of all of them, as far as they can be read: what was in force is put aside when these are others.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let shown = self.shown.iter().flat_map(|(cert, key)| [cert, key]);
        for path in self.ca.iter().chain(shown) {
            let found = read_capped(path, CAP);
            let text = found.as_ref().map_or_else(|error| error.to_string().into_bytes(), Clone::clone);
            hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
        }
        *hasher.finalize().as_bytes()
    }
}

fn read_shown(
    cert: &Path,
    key: &Path,
    own: &NodeName,
    now: UnixTime,
    ends: &mut Vec<(PathBuf, Day)>,
) -> Result<Identity, CertificateFileError> {
    let chain = certificates(cert)?;
    for (number, certificate) in (1..).zip(&chain) {
        let damaged = || CertificateFileError::Damaged { path: cert.to_owned(), number };
        let parsed = parse(certificate).ok_or_else(damaged)?;
        let (begins, ended) = days(&parsed);
        if ended.after(now).is_none() {
            return Err(CertificateFileError::Ended { path: cert.to_owned(), ended });
        }
        if begins.after(now).is_some_and(|left| left > Duration::ZERO) {
            return Err(CertificateFileError::Early { path: cert.to_owned(), begins });
        }
        ends.push((cert.to_owned(), ended));
    }
    let source = bytes(key)?;
    let private = PrivateKeyDer::from_pem_slice(&source).map_err(|source| CertificateFileError::Pem {
        path: key.to_owned(),
        what: "private key",
        source,
    })?;
    let unusable = |source| CertificateFileError::Key { cert: cert.to_owned(), key: key.to_owned(), source };
    CertifiedKey::from_der(chain.clone(), private.clone_key(), &ring::default_provider()).map_err(unusable)?;
    let names = dns_names(&chain[0]);
    if !is_for(&chain[0], own) {
        return Err(CertificateFileError::Name { path: cert.to_owned(), names, own: own.clone() });
    }
    Identity::of_chain(private, chain).ok_or_else(|| CertificateFileError::Damaged { path: cert.to_owned(), number: 1 })
}

fn bytes(path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    read_capped(path, CAP).map_err(|source| CertificateFileError::Read { path: path.to_owned(), source })
}

/// The certificates of a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let bytes = bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found =
        found.map_err(|source| CertificateFileError::Pem { path: path.to_owned(), what: "certificate", source })?;
    if found.is_empty() { Err(CertificateFileError::Empty { path: path.to_owned() }) } else { Ok(found) }
}
