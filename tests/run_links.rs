//! Links that break, go silent, or lead elsewhere: the two find each other again, and what passes between them follows what changed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use common::build;
use common::pair::{Pair, free_port};

/// Whether each of the two says that it has a link.
fn linked(pair: &Pair) -> [bool; 2] {
    [&pair.primary, &pair.standby].map(|node| pair.status(node)["peers"][0]["connected"] == true)
}

#[test]
fn a_link_gone_silent_is_noticed_at_both_ends_and_made_again() {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(1);
    build::home(&pair.bed.source(), 20);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    for round in 0..2 {
        proxy.cut();
        build::file(&pair.bed.src(format!("meanwhile-{round}")), "x");
        pair.until("both say that there is no link", |pair| linked(pair) == [false, false]);
        assert!(pair.status(&pair.standby)["promotable"]["yes"] == true, "{}", pair.told());
        proxy.join();
        pair.until_streaming();
        pair.converge();
    }
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_primary_is_found_at_any_of_its_addresses_and_again_when_it_moved() {
    let mut pair = Pair::trusting();
    let (first, second) = (pair.primary.port, free_port());
    pair.primary.edit(&format!("127.0.0.1:{first}"), &format!("[::]:{first}"));
    pair.standby.edit(&format!("127.0.0.1:{}", pair.standby.port), &format!("[::]:{}", pair.standby.port));
    // Nobody is at the first and the last; the second is of the other family, the third a name.
    pair.dial_at(&[
        format!("192.0.2.1:{first}"),
        format!("[::1]:{first}"),
        format!("localhost:{second}"),
        format!("no-such-host.invalid:{first}"),
    ]);
    build::home(&pair.bed.source(), 21);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["peers"][0]["address"], format!("[::1]:{first}"));
    pair.primary.stop();
    pair.primary.edit(&format!("[::]:{first}"), &format!("127.0.0.1:{second}"));
    build::file(&pair.bed.src("meanwhile"), "x");
    pair.start_primary();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["peers"][0]["address"], format!("localhost:{second}"));
    pair.converge();
    pair.assert_verified(&pair.primary);
}
