//! Who a node is: an Ed25519 key, its id, and a certificate made from it.
//!
//! **Node id, version 1.** BLAKE3 over the DER `SubjectPublicKeyInfo` of the node's key; as text `hs1-` and 64 lower-case
//! hexadecimal digits. There is one text for each id. The certificate around the key carries nothing that is believed: it is
//! self-signed, made anew at each start, and its names and dates are ignored. A node that shows a certificate of a CA has the id of that one's key.
//!
//! **Key file.** [`KEY_FILE`] in the state directory: PKCS#8 in PEM, mode 0600. It is created exclusively and synced with its
//! directory before it is used, so a node that has once shown an id keeps it. A key that group or others could read is refused: whoever
//! copied it can be this node.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// The name of the key file in the state directory.
pub const KEY_FILE: &str = "key.pem";
/// The name of the file of a key that waits to be used.
pub const NEXT_KEY_FILE: &str = "next-key.pem";
/// What every node id begins with.
pub const ID_PREFIX: &str = "hs1-";

/// How much of a key file is read; an Ed25519 key in PEM has about 180 bytes.
const KEY_FILE_CAP_BYTES: u64 = 64 * 1024;

/// The fingerprint of a node's public key: what peers know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 32]);

/// Why a text is no node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// It does not begin with [`ID_PREFIX`].
    #[error("{0:?} is no node id: one begins with `{ID_PREFIX}`, and `hotspare id` on the peer prints it")]
    Prefix(String),
    /// A character that is no lower-case hexadecimal digit.
    #[error("{0:?} is no part of a node id: after `{ID_PREFIX}` come digits and the letters a to f")]
    Character(char),
    /// Too short or too long.
    #[error("a node id has 64 characters after `{ID_PREFIX}`, this one {0}: was it cut while copying?")]
    Length(usize),
}

impl NodeId {
    /// The id of the key in `certificate`; `None` if that cannot be read.
    ///
    /// **Invariant:** the parser is the one with which rustls then checks the handshake's signature, so that the key that is
    /// judged is the key that signed.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        Some(Self(*blake3::hash(&parsed.subject_public_key_info()).as_bytes()))
    }

    /// The id with this fingerprint.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(ID_PREFIX).ok_or_else(|| NodeIdError::Prefix(text.to_owned()))?;
        let mut bytes = [0; 32];
        let mut count = 0;
        for character in digits.chars() {
            let value = match character {
                '0'..='9' => character as u8 - b'0',
                'a'..='f' => character as u8 - b'a' + 10,
                _ => return Err(NodeIdError::Character(character)),
            };
            if let Some(byte) = bytes.get_mut(count / 2) {
                *byte = *byte << 4 | value;
            }
            count += 1;
        }
        if count == 64 { Ok(Self(bytes)) } else { Err(NodeIdError::Length(count)) }
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ID_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key file cannot be read.
    #[error("cannot read the key {}", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could have read the key.
    #[error("the key {0} can be read by others (mode {mode:04o}): run `chmod 600 {0}`", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} is no Ed25519 key in PKCS#8 PEM: move it away and this node makes itself a new identity", path.display())]
    Parse {
        /// The key file.
        path: PathBuf,
        /// What was found wrong.
        #[source]
        source: rcgen::Error,
    },
    /// The key file cannot be created or synced.
    #[error("cannot create the key {}", path.display())]
    Create {
        /// The key file.
        path: PathBuf,
        /// What the system said; `AlreadyExists` if there is one.
        #[source]
        source: io::Error,
    },
    /// No key or certificate could be made.
    #[error("cannot make a key and its certificate")]
    Generate(#[source] rcgen::Error),
    /// A certificate just made cannot be read back.
    #[error("cannot read the certificate just made")]
    Certificate,
}

/// A node's key with its id and certificate. Clones share it.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    id: NodeId,
    key: PrivateKeyDer<'static>,
    /// What is shown, the node's own certificate first.
    chain: Vec<CertificateDer<'static>>,
    /// A CA issued the certificate.
    is_certified: bool,
}

impl Identity {
    /// A new identity that is kept nowhere: for `mirror`, where both sides live and die with the process.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        Self::certify(&generate()?)
    }

    /// Makes a key and keeps it in `dir`, which must exist. Refuses to replace one: [`IdentityError::Create`] with
    /// `AlreadyExists`.
    pub fn create(dir: &Path) -> Result<Self, IdentityError> {
        Self::create_as(dir, KEY_FILE)
    }

    /// Makes the key that is to take the place of the one in `dir`, or reads it if it was made already.
    pub fn create_next(dir: &Path) -> Result<Self, IdentityError> {
        match Self::load_next(dir)? {
            Some(next) => Ok(next),
            None => Self::create_as(dir, NEXT_KEY_FILE),
        }
    }

    fn create_as(dir: &Path, name: &str) -> Result<Self, IdentityError> {
        let path = dir.join(name);
        let key = generate()?;
        write_new(dir, &path, key.serialize_pem().as_bytes())
            .map_err(|source| IdentityError::Create { path, source })?;
        Self::certify(&key)
    }

    /// Reads the key kept in `dir`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        Self::load_as(dir, KEY_FILE)
    }

    /// Reads the key that is to take the place of the one in `dir`; `None` if there is none.
    pub fn load_next(dir: &Path) -> Result<Option<Self>, IdentityError> {
        match Self::load_as(dir, NEXT_KEY_FILE) {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    /// Puts the next key in the place of the one in `dir`, durably; that one is gone.
    pub fn use_next(dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(KEY_FILE);
        let replaced = rustix::fs::rename(dir.join(NEXT_KEY_FILE), &path)
            .map_err(io::Error::from)
            .and_then(|()| File::open(dir).and_then(|dir| dir.sync_all()));
        replaced.map_err(|source| IdentityError::Create { path, source })
    }

    fn load_as(dir: &Path, name: &str) -> Result<Self, IdentityError> {
        let path = dir.join(name);
        let read = |path: &Path| -> io::Result<(u32, String)> {
            let file = File::open(path)?;
            let mode = file.metadata()?.mode() & 0o7777;
            let mut text = String::new();
            file.take(KEY_FILE_CAP_BYTES).read_to_string(&mut text)?;
            Ok((mode, text))
        };
        let (mode, text) = read(&path).map_err(|source| IdentityError::Read { path: path.clone(), source })?;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path, mode });
        }
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_ED25519)
            .map_err(|source| IdentityError::Parse { path, source })?;
        Self::certify(&key)
    }

    /// Reads the key kept in `state_dir`; makes directory and key on the very first start.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, IdentityError> {
        match Self::load(state_dir) {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| IdentityError::Create { path: state_dir.join(KEY_FILE), source })?;
        match Self::create(state_dir) {
            // Another process was faster; its key is the node's.
            Err(IdentityError::Create { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(state_dir)
            }
            created => created,
        }
    }

    /// What peers must trust.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    pub(super) fn is_certified(&self) -> bool {
        self.0.is_certified
    }

    pub(super) fn certificate_chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain.clone()
    }

    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        self.0.key.clone_key()
    }

    fn certify(key: &KeyPair) -> Result<Self, IdentityError> {
        let certificate = CertificateParams::default().self_signed(key).map_err(IdentityError::Generate)?.der().clone();
        let id = NodeId::of_certificate(&certificate).ok_or(IdentityError::Certificate)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Self(Arc::new(Parts { id, key, chain: vec![certificate], is_certified: false })))
    }

    /// A key with the certificate that somebody issued for it, and those between that and its CA; `None` if the first cannot be read.
    pub(super) fn of_chain(key: PrivateKeyDer<'static>, chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let id = NodeId::of_certificate(chain.first()?)?;
        Some(Self(Arc::new(Parts { id, key, chain, is_certified: true })))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id())
    }
}

fn generate() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(IdentityError::Generate)
}

/// Creates `path` in `dir` with mode 0600, durably. It gets its name when it is whole on the disk: half a key, left by a power cut or for want of
/// room, would keep the node from starting until a person takes it away.
fn write_new(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    // Left by a process of the same number.
    rustix::fs::unlink(&temporary).ok();
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename it replaces nothing.
        rustix::fs::link(&temporary, path)?;
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        if synced.is_err() {
            rustix::fs::unlink(path).ok();
        }
        synced
    });
    // The first error is the one to tell.
    rustix::fs::unlink(&temporary).ok();
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Made once with `openssl genpkey -algorithm ed25519`; never used elsewhere.
    const FIXTURE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGeguPTbTthCUm0FGBdzAyUqYtqF532i+RjUxJTcQpiR\n-----END PRIVATE KEY-----\n";
    /// Its public key, by `openssl pkey -pubout -outform DER`.
    const FIXTURE_SPKI: [u8; 44] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\xa6\x8e\xc0\x85\x47\x0b\xc1\x24\xe4\x04\x8b\xbf\x94\x01\x25\x77\xcf\x45\x0b\xfd\xd1\xdd\x36\xf5\x35\x3c\xe4\xd8\x82\x41\x8d\xce";

    fn chain(error: &dyn std::error::Error) -> String {
        std::iter::successors(Some(error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    fn place(dir: &Path, text: &str, mode: u32) {
        let mut file = OpenOptions::new().write(true).create_new(true).open(dir.join(KEY_FILE)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_id_of_a_key_is_pinned() {
        let dir = tempfile::tempdir().unwrap();
        place(dir.path(), FIXTURE, 0o600);
        let id = Identity::load(dir.path()).unwrap().id();
        assert_eq!(id.as_bytes(), blake3::hash(&FIXTURE_SPKI).as_bytes());
        insta::assert_snapshot!(id, @"hs1-45ee07afc439615b679797723c5cda6d34099735fdecab2ec32b815ee32972f5");
    }

    #[test]
    fn an_id_survives_a_restart_and_differs_between_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("var/lib/hotspare");
        let first = Identity::load_or_create(&state).unwrap();
        let second = Identity::load_or_create(&state).unwrap();
        assert_eq!(first.id(), second.id());
        assert_ne!(first.id(), Identity::ephemeral().unwrap().id());
        assert_eq!(state.join(KEY_FILE).metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(state.metadata().unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::create(dir.path()).unwrap();
        let error = Identity::create(dir.path()).unwrap_err();
        assert!(
            matches!(&error, IdentityError::Create { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
        );
        assert_eq!(Identity::load(dir.path()).unwrap().id(), first.id());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o610] {
            let dir = tempfile::tempdir().unwrap();
            place(dir.path(), FIXTURE, mode);
            let path = dir.path().join(KEY_FILE);
            let text = Identity::load_or_create(dir.path()).unwrap_err().to_string();
            assert!(text.contains(&format!("`chmod 600 {}`", path.display())), "{text}");
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
        }
    }

    #[test]
    fn a_damaged_or_foreign_key_is_an_error_and_stays_as_it_is() {
        for text in ["", "no key", &FIXTURE[..FIXTURE.len() / 2], &FIXTURE.replace('M', "N")] {
            let dir = tempfile::tempdir().unwrap();
            place(dir.path(), text, 0o600);
            let error = Identity::load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Parse { .. }), "{}", chain(&error));
            assert_eq!(std::fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), text);
        }
    }

    #[test]
    fn ids_go_through_text_and_serde() {
        let id = Identity::ephemeral().unwrap().id();
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
        let error = serde_json::from_str::<NodeId>("\"hs1-00\"").unwrap_err().to_string();
        assert!(error.contains("64 characters"), "{error}");
    }

    #[test]
    fn what_is_no_id_is_refused_and_told_why() {
        let good = Identity::ephemeral().unwrap().id().to_string();
        let parse = |text: &str| text.parse::<NodeId>().unwrap_err();
        assert_eq!(parse(&good[4..]), NodeIdError::Prefix(good[4..].to_owned()));
        assert_eq!(parse(""), NodeIdError::Prefix(String::new()));
        assert_eq!(parse(&good[..67]), NodeIdError::Length(63));
        assert_eq!(parse(&format!("{good}0")), NodeIdError::Length(65));
        assert_eq!(parse(&format!("{}A", &good[..67])), NodeIdError::Character('A'));
        assert_eq!(parse(&format!("{}é", &good[..67])), NodeIdError::Character('é'));
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::ephemeral().unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.id()));
    }
}
