//! Faults that no other file is about: a network that loses a twentieth of all datagrams under a live load, and a directory that is closed while the
//! primary watches it (G3, G4).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::time::Duration;

use common::build;
use common::pair::Pair;
use common::proxy::Weather;
use common::{is_root, skip};
use hotspare::jenkins::checks::{Promise, check, check_age};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::load::{Load, LoadOptions};

#[test]
fn a_network_that_loses_a_twentieth_and_reorders_another_delays_and_does_no_more() {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(7);
    make(&pair.bed.source(), HomeSize::default(), 83).unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    proxy.set(Weather { delay: Duration::from_millis(100), lost: 50, late: 50, rate: None });
    let load = Load::start(&pair.bed.source(), LoadOptions::default()).unwrap();
    for _ in 0..3 {
        pair.assert_promised(&load);
    }
    let done = load.stop().unwrap();
    let log = pair.primary.log();
    assert!(!log.contains("link ended"), "the link did not last:\n{log}");
    pair.converge();
    pair.assert_verified(&pair.primary);
    let replica = pair.bed.destination();
    assert_eq!([check(&replica, Promise::Instant), check_age(&replica, &done, Promise::Instant)].concat(), []);
}

#[test]
fn a_directory_that_is_closed_under_the_primary_keeps_its_copy_and_goes_on_when_it_is_open_again() {
    if !is_root() {
        return skip("a_directory_that_is_closed_under_the_primary", "only root can start the program as another user");
    }
    let mut pair = Pair::new();
    pair.give_to_user(true, false);
    pair.exchange_ids();
    for name in ["closed/in/file", "open/file"] {
        build::file(&pair.bed.src(name), "1");
    }
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    build::mode(&pair.bed.src("closed"), 0o000);
    build::file(&pair.bed.src("closed/in/file"), "2");
    build::file(&pair.bed.src("open/file"), "2");
    // While a generation is revealed a file is away for a moment.
    let has = |pair: &Pair, name: &str, content: &[u8]| fs::read(pair.bed.dst(name)).is_ok_and(|read| read == content);
    pair.until("the rest goes on", |pair| has(pair, "open/file", b"2"));
    pair.until("the status names it", |pair| {
        let unreadable = pair.status(&pair.primary)["unreadable"].clone();
        unreadable["sample"].to_string().contains("\"closed")
    });
    assert!(has(&pair, "closed/in/file", b"1"), "what cannot be read keeps its copy\n{}", pair.told());
    build::mode(&pair.bed.src("closed"), 0o755);
    pair.until("what was written meanwhile is found", |pair| has(pair, "closed/in/file", b"2"));
    pair.converge();
}
