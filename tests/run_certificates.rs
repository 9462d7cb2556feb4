//! Nodes that know each other by certificates of a CA, and files of them that change while the nodes run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::build;
use common::pair::{Node, Pair};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A CA of the test's own.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "of a test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Puts a certificate for `dns`, in date until `year` begins, where `node` looks for its own.
    fn issue(&self, pair: &Pair, node: &Node, dns: &str, year: i32) {
        self.issue_for(pair, node, dns, |params| params.not_after = date_time_ymd(year, 1, 1));
    }

    fn issue_for(&self, pair: &Pair, node: &Node, dns: &str, change: impl Fn(&mut CertificateParams)) {
        let mut params = CertificateParams::new([dns.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        build::file(&file(pair, node, "key"), key.serialize_pem());
        build::file(&file(pair, node, "cert"), cert);
    }
}

fn file(pair: &Pair, node: &Node, what: &str) -> PathBuf {
    pair.bed.path(format!("{}-{what}.pem", node.name))
}

/// What `node` has to have in its configuration.
fn configure(pair: &mut Pair, is_standby: bool, keys: &[&str]) {
    let node = if is_standby { &pair.standby } else { &pair.primary };
    let lines = keys.iter().map(|key| format!("{key} = {:?}\n", file(pair, node, key)));
    let section = "[tls]\n".to_owned() + &lines.collect::<String>();
    let node = if is_standby { &mut pair.standby } else { &mut pair.primary };
    node.edit("[tls]\n", &section);
}

/// Two nodes that know each other by nothing but the CA.
fn certified(ca: &Ca) -> Pair {
    let mut pair = Pair::new();
    for is_standby in [false, true] {
        configure(&mut pair, is_standby, &["ca", "cert", "key"]);
        let node = if is_standby { &pair.standby } else { &pair.primary };
        build::file(&file(&pair, node, "ca"), &ca.pem);
        ca.issue(&pair, node, node.name, 2200);
    }
    build::home(&pair.bed.source(), 20);
    pair
}

fn alarms(pair: &Pair, node: &Node) -> String {
    pair.status(node)["alarms"].to_string()
}

#[test]
fn files_that_change_are_put_into_force_under_live_links_or_told_of() {
    let ca = Ca::new();
    let mut pair = certified(&ca);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
    let old = pair.id(&pair.primary);
    assert_eq!(pair.status(&pair.primary)["peers"][0]["id"], pair.id(&pair.standby));
    let told = pair.ask(&pair.primary, &["rotate"]);
    assert!(told.code == Some(2) && told.stderr.contains("jenkins-a-cert.pem"), "{}", told.stderr);

    // A renewed one, with a new key.
    ca.issue(&pair, &pair.primary, "jenkins-a", 2201);
    pair.until("the new certificate is in force", |pair| pair.status(&pair.primary)["node"]["id"] != old);
    let new = pair.id(&pair.primary);
    assert_eq!(pair.status(&pair.primary)["node"]["id"], new);
    build::file(&pair.bed.src("after"), "x");
    pair.converge();
    assert_eq!(pair.primary.log().matches("standby connected").count(), 1, "the link is the one it was");
    pair.standby.kill();
    pair.start_standby();
    pair.until("it is met with the new one", |pair| pair.status(&pair.standby)["peers"][0]["id"] == new);

    // One that is of no use: what was there stays, also for who comes anew.
    ca.issue(&pair, &pair.primary, "jenkins-a", 2001);
    pair.until("it is told", |pair| alarms(pair, &pair.primary).contains("jenkins-a-cert.pem ended on 2001-01-01"));
    std::fs::remove_file(file(&pair, &pair.primary, "key")).unwrap();
    ca.issue(&pair, &pair.standby, "jenkins-b", 2200);
    std::fs::remove_file(file(&pair, &pair.standby, "ca")).unwrap();
    pair.until("it is told", |pair| {
        alarms(pair, &pair.standby).contains("cannot read") && alarms(pair, &pair.standby).contains("jenkins-b-ca.pem")
    });
    assert_eq!(pair.status(&pair.primary)["node"]["id"], new);
    build::file(&pair.bed.src("later"), "x");
    pair.converge();
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(told.stdout.contains("MEND  certificate"), "{}", told.stdout);
    // It does not start with it.
    pair.primary.stop();
    let told = pair.ask(&pair.primary, &["run"]);
    assert!(told.code == Some(2) && told.stderr.contains("jenkins-a-cert.pem"), "{}", told.stderr);
    build::file(&file(&pair, &pair.standby, "ca"), &ca.pem);
    ca.issue(&pair, &pair.primary, "jenkins-a", 2200);
    pair.until("nothing is left of it", |pair| alarms(pair, &pair.standby) == "[]");
    pair.start_primary();
    pair.until_streaming();
    pair.converge();
}

#[test]
fn who_has_a_wrong_name_or_another_ca_is_refused_and_an_old_cluster_is_moved_over_node_by_node() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut pair = certified(&ca);
    // A node of another name does not even start.
    ca.issue(&pair, &pair.standby, "jenkins-c", 2200);
    let told = pair.ask(&pair.standby, &["run"]);
    assert!(
        told.code == Some(2) && told.stderr.contains("is for jenkins-c, and this node is called jenkins-b"),
        "{}",
        told.stderr
    );
    // One that is called like that is no peer of the primary's.
    pair.standby.edit("name = \"jenkins-b\"", "name = \"jenkins-c\"");
    pair.start_primary();
    pair.start_standby();
    pair.until("both say why", |pair| {
        alarms(pair, &pair.primary).contains("it is for jenkins-c, and no peer here has such a name")
            && pair.status(&pair.standby)["peers"][0]["trouble"]
                .to_string()
                .contains("does not believe this node's certificate")
    });
    pair.standby.edit("name = \"jenkins-c\"", "name = \"jenkins-b\"");
    pair.standby.stop();
    other.issue(&pair, &pair.standby, "jenkins-b", 2200);
    pair.start_standby();
    pair.until("the CA is told", |pair| alarms(pair, &pair.primary).contains("issued it"));
    assert_eq!(pair.status(&pair.primary)["peers"][0]["connected"], false);

    // The standby has only its own key, which is pinned there, and the CA here.
    pair.standby.stop();
    for key in ["cert", "key"] {
        let line = format!("{key} = {:?}\n", file(&pair, &pair.standby, key));
        pair.standby.edit(&line, "");
    }
    let id = pair.id(&pair.standby);
    assert_eq!(pair.ask(&pair.primary, &["trust", &id, "--name", "jenkins-b"]).code, Some(0));
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    // A certificate that soon ends is told of.
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(told.stdout.contains("ok    certificate") && !told.stdout.contains("MEND  certificate"), "{}", told.stdout);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days = now + Duration::from_secs(13 * 24 * 3600);
    ca.issue_for(&pair, &pair.primary, "jenkins-a", |params| params.not_after = date_time_ymd(1970, 1, 1) + days);
    pair.until("it is told", |pair| {
        pair.status(&pair.primary)["warnings"].to_string().contains("jenkins-a-cert.pem ends on")
    });
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(told.code == Some(1) && told.stdout.contains("MEND  certificate"), "{}", told.stdout);
}
