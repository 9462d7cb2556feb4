use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::net::NetError;
use crate::net::endpoint::{Endpoint, Limits};
use crate::net::identity::Identity;
use crate::net::tests::{Node, PATIENCE};
use crate::net::trust::TrustedPeers;

fn name(text: &str) -> NodeName {
    NodeName::try_from(text.to_owned()).unwrap()
}

/// A CA of the test's own, and a place for files.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: TempDir,
}

/// What a certificate is to be like.
struct Wanted<'a> {
    names: &'a [&'a str],
    years: (i32, i32),
    usages: &'a [ExtendedKeyUsagePurpose],
}

const BOTH: [ExtendedKeyUsagePurpose; 2] = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

fn wanted<'a>(names: &'a [&'a str]) -> Wanted<'a> {
    Wanted { names, years: (2000, 2200), usages: &BOTH }
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        crate::fs::state::write_atomically(&path, text.as_bytes(), 0o600).unwrap();
        path
    }

    /// Certificate and key, in PEM.
    fn issue(&self, wanted: &Wanted<'_>) -> (String, String) {
        let names: Vec<String> = wanted.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = wanted.usages.to_vec();
        (params.not_before, params.not_after) =
            (date_time_ymd(wanted.years.0, 1, 1), date_time_ymd(wanted.years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The files of a node that shows such a certificate and believes this CA.
    fn files(&self, wanted: &Wanted<'_>) -> CertificateFiles {
        let (cert, key) = self.issue(wanted);
        CertificateFiles {
            ca: Some(self.file("ca.pem", &self.pem)),
            shown: Some((self.file("cert.pem", &cert), self.file("key.pem", &key))),
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities::read(&self.file("ca.pem", &self.pem), &mut Vec::new()).unwrap()
    }

    /// A node that shows such a certificate, whatever it is worth, and knows the peer `peer` by this CA.
    fn node(&self, wanted: &Wanted<'_>, peer: &str) -> Node {
        let (cert, key) = self.issue(wanted);
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>().unwrap();
        let identity = Identity::of_chain(PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(), chain).unwrap();
        let trusted = TrustedPeers::new();
        trusted.certify(self.authorities(), [name(peer)]);
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any, &identity, trusted.clone(), Limits::default()).unwrap();
        Node { endpoint, identity, trusted }
    }
}

/// Why each side refused the other, the dialer's view first: a refusal of the dialer reaches it after the handshake.
async fn refused(dialer: &Node, server: &Node) -> (NetError, NetError) {
    let (here, there) = dialer.meet(server).await;
    let there = there.unwrap().unwrap_err();
    let here = match here {
        Ok(connection) => tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap(),
        Err(error) => error,
    };
    (here, there)
}

fn doubt(error: &NetError) -> &Doubt {
    let NetError::Doubtful { source, .. } = error else { panic!("{error:?}") };
    source
}

#[tokio::test]
async fn nodes_with_certificates_of_one_ca_know_each_other_by_name() {
    let ca = Ca::new();
    let (dialer, server) = (ca.node(&wanted(&["b", "other"]), "a"), ca.node(&wanted(&["a"]), "b"));
    let (here, there) = dialer.meet(&server).await;
    let (here, there) = (here.unwrap(), there.unwrap().unwrap());
    assert_eq!((here.name(), here.peer(), here.is_pinned()), (&name("a"), server.identity.id(), false));
    assert_eq!((there.name(), there.peer(), there.is_pinned()), (&name("b"), dialer.identity.id(), false));
    // Nobody is expected under that name any more.
    server.trusted.certify(ca.authorities(), [name("c")]);
    assert_eq!(server.endpoint.cut_untrusted(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_by_the_side_that_refuses_it() {
    let (ca, other) = (Ca::new(), Ca::new());
    let good = wanted(&["a"]);
    let names = |names: &[&str]| Doubt::Name(names.iter().map(ToString::to_string).collect());
    let several = Doubt::Several(vec!["*.example.org".into()]);
    let cases = [
        (ca.node(&wanted(&["mallory"]), "a"), names(&["mallory"])),
        (other.node(&wanted(&["b.example.org"]), "a"), Doubt::Issuer(ca.dir.path().join("ca.pem"))),
        (
            ca.node(&Wanted { years: (2000, 2001), ..wanted(&["b.example.org"]) }, "a"),
            Doubt::Ended(Some(Day(978_307_200))),
        ),
        (
            ca.node(&Wanted { years: (2199, 2200), ..wanted(&["b.example.org"]) }, "a"),
            Doubt::Early(Some(Day(7_226_582_400))),
        ),
        (ca.node(&wanted(&["*.example.org"]), "a"), several),
    ];
    for (bad, why) in cases {
        // Whichever side shows it.
        bad.trusted.certify(ca.authorities(), [name("a")]);
        let server = ca.node(&good, "b.example.org");
        server.trusted.certify(ca.authorities(), [name("b.example.org"), name("c.example.org")]);
        let (here, there) = refused(&bad, &server).await;
        assert_eq!(doubt(&there), &why);
        assert!(matches!(here, NetError::NotBelieved { .. }), "{here:?}");
        let (here, there) = refused(&server, &bad).await;
        assert_eq!(doubt(&here), &why);
        assert!(matches!(there, NetError::NotBelieved { .. }), "{there:?}");
    }
    // One that may only serve is refused when it dials, and the other way round.
    for usage in BOTH {
        let (one, server) = (ca.node(&Wanted { usages: &[usage], ..wanted(&["b"]) }, "a"), ca.node(&good, "b"));
        let (dialed, served) = (one.meet(&server).await.1.unwrap(), server.meet(&one).await.0);
        let (dialed, served) = (dialed.err(), served.err());
        assert_eq!(dialed.iter().chain(&served).map(doubt).collect::<Vec<_>>(), [&Doubt::Purpose]);
    }
}

#[tokio::test]
async fn a_cluster_that_pins_ids_is_moved_over_node_by_node() {
    let ca = Ca::new();
    let (pinned, certified) = (Node::new(Limits::default()), ca.node(&wanted(&["a"]), "b"));
    certified.trust(&pinned, "b");
    // The peer has no certificate yet and believes the CA already; or it goes on with pins, of the certificate's key.
    for is_believed in [true, false] {
        if is_believed {
            pinned.trusted.certify(ca.authorities(), [name("a")]);
        } else {
            pinned.trusted.certify(ca.authorities(), []);
            pinned.trust(&certified, "a");
        }
        let (here, there) = pinned.meet(&certified).await;
        let (here, there) = (here.unwrap(), there.unwrap().unwrap());
        assert_eq!((here.name(), here.is_pinned()), (&name("a"), !is_believed));
        assert_eq!((there.name(), there.is_pinned()), (&name("b"), true));
    }
    // A stranger's own key has no name on it: by its id it can be trusted.
    certified.trusted.untrust(&pinned.identity.id());
    let (_, there) = refused(&pinned, &certified).await;
    assert!(matches!(there, NetError::Untrusted { id, .. } if id == pinned.identity.id()), "{there:?}");
}

#[tokio::test]
async fn a_renewed_certificate_leaves_the_links_that_are_up() {
    let ca = Ca::new();
    let (dialer, server) = (ca.node(&wanted(&["b"]), "a"), ca.node(&wanted(&["a"]), "b"));
    let (here, there) = dialer.meet(&server).await;
    let (here, there) = (here.unwrap(), there.unwrap().unwrap());
    let renewed = ca.files(&wanted(&["a"])).read(&name("a"), UnixTime::now()).unwrap().shown.unwrap();
    assert_ne!(renewed.id(), server.identity.id());
    server.endpoint.show(renewed.clone());
    // Another CA from now on, of which these links' certificates are not.
    dialer.trusted.certify(Ca::new().authorities(), [name("a")]);
    assert_eq!((dialer.endpoint.cut_untrusted(), server.endpoint.cut_untrusted()), (0, 0));
    assert!(here.quinn().close_reason().is_none() && there.quinn().close_reason().is_none());
    dialer.trusted.certify(ca.authorities(), [name("a")]);
    let (again, accepted) = dialer.meet(&server).await;
    accepted.unwrap().unwrap();
    assert_eq!((again.unwrap().peer(), server.endpoint.id()), (renewed.id(), renewed.id()));
}

#[test]
fn a_chain_by_way_of_another_ca_holds() {
    let ca = Ca::new();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    let key = KeyPair::generate().unwrap();
    let between = params.signed_by(&key, &ca.issuer).unwrap().pem();
    let below = Ca { issuer: Issuer::new(params, key), pem: between.clone(), dir: tempfile::tempdir().unwrap() };
    let (cert, _) = below.issue(&wanted(&["a"]));
    let chain: Vec<_> = CertificateDer::pem_slice_iter((cert + &between).as_bytes()).collect::<Result<_, _>>().unwrap();
    for side in [Side::Dialer, Side::Server] {
        let judge = |intermediates| ca.authorities().judge(&chain[0], intermediates, side, UnixTime::now());
        assert_eq!(judge(&chain[1..]), Ok(()));
        assert!(matches!(judge(&[]), Err(Doubt::Issuer(_))));
    }
}

/// The error with all its causes, for files of the node `a` of which `spoil` made something else.
fn complaint(spoil: impl Fn(&Ca, &CertificateFiles)) -> String {
    let ca = Ca::new();
    let files = ca.files(&wanted(&["a"]));
    files.read(&name("a"), UnixTime::now()).unwrap();
    let before = files.fingerprint();
    spoil(&ca, &files);
    assert_ne!(files.fingerprint(), before, "the change is noticed");
    let error = files.read(&name("a"), UnixTime::now()).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let certificate = |wanted: &Wanted<'_>| {
        let wanted = Wanted { names: wanted.names, years: wanted.years, usages: &BOTH };
        complaint(move |ca, _| {
            ca.files(&wanted);
        })
    };
    let text = certificate(&Wanted { years: (2000, 2001), ..wanted(&["a"]) });
    assert!(text.contains("cert.pem ended on 2001-01-01T00:00:00Z"), "{text}");
    let text = certificate(&Wanted { years: (2199, 2200), ..wanted(&["a"]) });
    assert!(text.contains("cert.pem begins on 2199-01-01T00:00:00Z"), "{text}");
    let text = certificate(&wanted(&["x", "y"]));
    assert!(text.contains("cert.pem is for x, y, and this node is called a"), "{text}");
    let text = certificate(&wanted(&[]));
    assert!(text.contains("cert.pem is for no DNS name"), "{text}");

    let replaced = |file: &'static str, text: &'static str| {
        complaint(move |ca, _| {
            ca.file(file, text);
        })
    };
    for file in ["ca.pem", "cert.pem"] {
        let text = replaced(file, "");
        assert!(text.contains("there is no certificate in") && text.contains(file), "{text}");
        let text = replaced(file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(text.contains("certificate number 1 in") && text.contains(file), "{text}");
        let text = replaced(file, "-----BEGIN CERTIFICATE-----\nAAAA");
        assert!(text.contains("is no PEM file with a certificate") && text.contains(file), "{text}");
    }
    let text = replaced("key.pem", "nothing");
    assert!(text.contains("key.pem is no PEM file with a private key"), "{text}");
    let text = complaint(|ca, _| {
        ca.file("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    });
    assert!(text.contains("key.pem is not that of the certificate in") && text.contains("cert.pem"), "{text}");
    let text = complaint(|_, files| rustix::fs::unlink(files.ca.as_ref().unwrap()).unwrap());
    assert!(text.contains("cannot read") && text.contains("ca.pem"), "{text}");
}

#[test]
fn a_file_whose_mode_alone_changes_is_the_same() {
    let ca = Ca::new();
    let files = ca.files(&wanted(&["a"]));
    let before = files.fingerprint();
    let path = files.ca.clone().unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(files.fingerprint(), before);
}
