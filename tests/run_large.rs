//! Large files go to the standby beside the generations: small changes do not wait for them, and nothing is shown before it is whole.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::fs::{self, OpenOptions};
use std::io::Write;

use common::build;
use common::pair::Pair;

const MIB: usize = 1 << 20;

/// A pair in which 1 MiB is large, and a MiB takes a quarter of a second.
fn streaming(seed: u64) -> Pair {
    let mut pair = Pair::trusting();
    pair.primary.edit("# big_file = \"8MiB\"", "big_file = \"1MiB\"");
    pair.standby.edit("# bandwidth = \"50MiB\"", "bandwidth = \"4MiB\"");
    build::home(&pair.bed.source(), seed);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair
}

/// Moves a file of that many MiB into the home, as `name`.
fn move_in(pair: &Pair, name: &str, mib: usize, seed: u64) {
    let aside = pair.bed.source().with_extension("aside");
    build::file(&aside, Dice::new(seed).noise(mib * MIB));
    fs::rename(aside, pair.bed.src(name)).unwrap();
}

#[test]
fn small_changes_do_not_wait_for_a_large_file_and_a_wait_does() {
    let mut pair = streaming(60);
    move_in(&pair, "large", 12, 1);
    // Three seconds on its way.
    pair.until("a generation without the large file", |pair| {
        let last = &pair.status(&pair.primary)["quality"];
        last["quality"] == "partial" && last["deferred"].to_string().contains("large")
    });
    let mut small = 0;
    while !pair.bed.dst("large").exists() {
        small += 1;
        build::file(&pair.bed.src(format!("small-{small}")), "x");
        pair.until("the small file", |pair| pair.bed.dst(format!("small-{small}")).exists());
    }
    assert!(small > 3, "only {small} small changes came before the large one");
    move_in(&pair, "another", 4, 2);
    // All that was written so far is what `wait` waits for.
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    let last = pair.status(&pair.primary)["quality"].clone();
    assert_eq!(last["quality"], "consistent", "{last:#}");
    pair.converge();
    pair.assert_verified(&pair.primary);
    let counts = pair.status(&pair.primary)["generations"].clone();
    assert_eq!(counts["by_reason"], serde_json::json!({}), "{counts:#}");
}

#[test]
fn a_large_file_is_there_whole_or_not_at_all_whoever_is_killed_meanwhile() {
    let mut pair = streaming(61);
    build::file(&pair.bed.src("large"), "the old one");
    pair.converge();
    for round in 0..4_u64 {
        move_in(&pair, "large", 3, 10 + round);
        let sent = |pair: &Pair| pair.status(&pair.primary)["peers"][0]["bytes_sent"].as_u64().unwrap();
        let before = sent(&pair);
        pair.until("it is on its way", |pair| sent(pair) > before + MIB as u64);
        // While it is revealed it is neither the old one nor the new one for a moment.
        let shown = fs::read(pair.bed.dst("large")).unwrap_or_default();
        assert!(shown.len() < MIB || shown.len() == 3 * MIB, "{} bytes of it are shown", shown.len());
        let is_primary = round % 2 == 0;
        let node = if is_primary { &mut pair.primary } else { &mut pair.standby };
        node.kill();
        if is_primary {
            pair.start_primary()
        } else {
            pair.start_standby()
        }
        pair.until_streaming();
        pair.converge();
    }
    pair.assert_verified(&pair.primary);
}

#[test]
fn what_changes_on_its_way_or_goes_or_grows_arrives_as_it_is_in_the_end() {
    let mut pair = streaming(62);
    move_in(&pair, "replaced", 4, 3);
    move_in(&pair, "removed", 4, 4);
    move_in(&pair, "renamed", 4, 5);
    pair.until("all three are known", |pair| {
        let last = &pair.status(&pair.primary)["quality"]["deferred"];
        ["replaced", "removed", "renamed"].iter().all(|name| last.to_string().contains(name))
    });
    move_in(&pair, "replaced", 5, 6);
    fs::remove_file(pair.bed.src("removed")).unwrap();
    fs::rename(pair.bed.src("renamed"), pair.bed.src("elsewhere")).unwrap();
    // One that never comes to rest.
    let mut growing = OpenOptions::new().create(true).append(true).open(pair.bed.src("growing")).unwrap();
    for step in 0..40 {
        growing.write_all(&Dice::new(step).noise(MIB / 4)).unwrap();
        growing.flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    pair.converge();
    pair.assert_verified(&pair.primary);
    assert!(!pair.bed.dst("removed").exists());
}

#[test]
fn without_a_standby_a_large_file_holds_nothing_back() {
    let mut pair = streaming(63);
    pair.standby.kill();
    pair.until("nobody is there", |pair| pair.status(&pair.primary)["peers"][0]["connected"] == false);
    move_in(&pair, "large", 4, 7);
    pair.until("it is in a generation", |pair| {
        let status = pair.status(&pair.primary);
        status["pending"]["paths"] == 0 && status["quality"]["deferred"].to_string().find("large").is_none()
    });
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
}
