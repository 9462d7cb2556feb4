//! The files of `[tls]` while a node runs: read again when they change, and put into force under live links.
//!
//! What they hold is looked at, not when they were written: a Secret of Kubernetes changes by a link, and certificate and key by two writes. New ones
//! count from the next handshake on; links that are up stay up. What cannot be used leaves in force what was, with an alarm that names the file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::net::authority::{CertificateFileError, CertificateFiles, Credentials, Day};
use crate::net::endpoint::Endpoint;
use crate::net::identity::Identity;
use crate::net::trust::TrustedPeers;
use crate::words::position::NodeName;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A certificate that ends within this time is told of.
pub const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The certificates of one node.
pub struct Certificates {
    files: CertificateFiles,
    own: NodeName,
    /// The peers that are known by certificate, beside those that are pinned.
    expected: Vec<NodeName>,
    trusted: TrustedPeers,
    looked: Mutex<Looked>,
}

struct Looked {
    fingerprint: [u8; 32],
    ends: Vec<(PathBuf, Day)>,
    trouble: Option<String>,
}

impl Certificates {
    /// Reads the files of the node `own`, and has `trusted` believe the CAs in them. Also what this node shows, if that is among them.
    pub fn load(
        files: CertificateFiles,
        own: NodeName,
        expected: Vec<NodeName>,
        trusted: TrustedPeers,
    ) -> Result<(Self, Option<Identity>), CertificateFileError> {
        let fingerprint = files.fingerprint();
        let Credentials { authorities, shown, ends } = files.read(&own, UnixTime::now())?;
        if let Some(authorities) = authorities {
            trusted.certify(authorities, expected.iter().cloned());
        }
        let looked = Mutex::new(Looked { fingerprint, ends, trouble: None });
        Ok((Self { files, own, expected, trusted, looked }, shown))
    }

    /// The certificate that this node shows, if it is one of these files.
    pub fn shown(&self) -> Option<&PathBuf> {
        self.files.shown.as_ref().map(|(cert, _)| cert)
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what changes into force at `endpoint`, until it is cancelled.
    pub async fn watch(self: Arc<Self>, endpoint: Arc<Endpoint>) {
        if self.files == CertificateFiles::default() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (this, endpoint) = (Arc::clone(&self), Arc::clone(&endpoint));
            // A panic in there is told by the panic itself; the next look is made all the same.
            tokio::task::spawn_blocking(move || this.look(&endpoint)).await.ok();
        }
    }

    fn look(&self, endpoint: &Endpoint) {
        let fingerprint = self.files.fingerprint();
        if self.looked().fingerprint == fingerprint {
            return;
        }
        let read = self.files.read(&self.own, UnixTime::now());
        let mut looked = self.looked();
        looked.fingerprint = fingerprint;
        match read {
            Ok(Credentials { authorities, shown, ends }) => {
                if let Some(authorities) = authorities {
                    self.trusted.certify(authorities, self.expected.iter().cloned());
                }
                if let Some(shown) = shown {
                    endpoint.show(shown);
                }
                tracing::info!(id = %endpoint.id(), "the files of [tls] changed; new links are made with them");
                (looked.ends, looked.trouble) = (ends, None);
            }
            Err(error) => {
                let error = super::explain(&error);
                tracing::warn!(error, "the changed files of [tls] cannot be used; what was read before stays in force");
                looked.trouble =
                    Some(format!("[tls] was changed and cannot be used, what was read before stays in force: {error}"));
            }
        }
    }

    /// What a person must mend.
    pub fn alarms(&self) -> Vec<String> {
        let looked = self.looked();
        let ended = looked.ends.iter().filter(|(_, day)| day.after(UnixTime::now()).is_none()).map(|(path, day)| {
            format!(
                "a certificate in {} ended on {day}: no new link is made with it; a renewed file is taken up by itself",
                path.display()
            )
        });
        looked.trouble.iter().cloned().chain(ended).collect()
    }

    /// What a person must mend soon.
    pub fn warnings(&self) -> Vec<String> {
        let looked = self.looked();
        let soon =
            looked.ends.iter().filter(|(_, day)| day.after(UnixTime::now()).is_some_and(|left| left < ENDS_SOON));
        soon.map(|(path, day)| format!("a certificate in {} ends on {day}", path.display())).collect()
    }
}
