//! Large contents of which the standby has a part already: what was cut off goes on where it was, of what changed the change travels, and what is
//! wanted no more goes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::build;
use common::pair::Pair;
use common::proxy::{Proxy, Weather};

const MIB: u64 = 1 << 20;

fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    Dice::new(seed).noise(usize::try_from(bytes).unwrap())
}

/// Waits until so much came back through the proxy.
fn until_returned(pair: &mut Pair, proxy: &Proxy, bytes: u64) {
    pair.until("so much was sent", |_| proxy.returned() > bytes);
}

fn until_both_are_alone(pair: &mut Pair) {
    pair.until("both say that there is no link", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| pair.status(node)["peers"][0]["connected"] == false)
    });
}

/// What lies in `.hotspare/stage/held` of the replica, in files and bytes.
fn held(pair: &Pair) -> (usize, u64) {
    fn below(directory: &Path) -> (usize, u64) {
        let mut sum = (0, 0);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            let more = if facts.is_dir() { below(&entry.path()) } else { (1, facts.len()) };
            sum = (sum.0 + more.0, sum.1 + more.1);
        }
        sum
    }
    below(&pair.bed.dst(".hotspare/stage/held"))
}

#[test]
fn a_content_that_is_cut_half_way_goes_on_where_it_was_cut() {
    const BYTES: u64 = 16 * MIB;
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(70);
    proxy.set(Weather { rate: Some(4_000_000), ..Weather::default() });
    build::file(&pair.bed.src("large"), noise(1, BYTES));
    pair.start_primary();
    pair.start_standby();
    until_returned(&mut pair, &proxy, BYTES / 4);
    proxy.cut();
    until_both_are_alone(&mut pair);
    proxy.join();
    until_returned(&mut pair, &proxy, BYTES * 2 / 4);
    pair.standby.kill();
    pair.start_standby();
    until_returned(&mut pair, &proxy, BYTES * 3 / 4);
    assert_eq!(pair.status(&pair.standby)["promotable"]["yes"], false, "it was cut before it was whole");
    pair.primary.kill();
    pair.start_primary();
    pair.until_streaming();
    let sent = proxy.returned();
    // Beside the content: what was on its way at each cut, and what QUIC adds to each datagram.
    assert!((BYTES..BYTES * 115 / 100).contains(&sent), "{sent} bytes for {BYTES} in a first sync");

    // The same at the live edge, where it is sent beside the generations.
    let before = proxy.returned();
    let aside = pair.bed.source().with_extension("aside");
    build::file(&aside, noise(2, BYTES));
    fs::rename(aside, pair.bed.src("another")).unwrap();
    until_returned(&mut pair, &proxy, before + BYTES / 3);
    proxy.cut();
    until_both_are_alone(&mut pair);
    proxy.join();
    until_returned(&mut pair, &proxy, before + BYTES * 2 / 3);
    pair.standby.kill();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let sent = proxy.returned() - before;
    assert!((BYTES..BYTES * 115 / 100).contains(&sent), "{sent} bytes for {BYTES} at the live edge");
    pair.assert_verified(&pair.primary);
    pair.until("nothing is held any more", |pair| held(pair).0 == 0);
}

#[test]
fn a_beginning_that_was_damaged_is_thrown_away_and_the_content_sent_whole() {
    const BYTES: u64 = 8 * MIB;
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(71);
    proxy.set(Weather { rate: Some(4_000_000), ..Weather::default() });
    build::file(&pair.bed.src("large"), noise(3, BYTES));
    pair.start_primary();
    pair.start_standby();
    until_returned(&mut pair, &proxy, BYTES / 2);
    pair.standby.kill();
    // As a power cut may leave it: the length, and zeros.
    let directory = pair.bed.dst(".hotspare/stage/held");
    let begun = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let length = fs::metadata(&begun).unwrap().len();
    assert!(length > MIB, "{length} bytes are there");
    OpenOptions::new().write(true).open(&begun).unwrap().write_all_at(&vec![0; 1 << 20], 0).unwrap();
    let before = proxy.returned();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let sent = proxy.returned() - before;
    assert!(sent > BYTES, "{sent} bytes: it was not sent whole");
    assert!(pair.standby.log().contains("was not what it should be"), "{}", pair.standby.log());
    pair.assert_verified(&pair.primary);
}

/// Has a generation cut of all that was written so far.
fn cut(pair: &Pair) {
    let cut = pair.ask(&pair.primary, &["wait", "--standbys", "0", "--timeout", "100s"]);
    assert_eq!(cut.code, Some(0), "{}{}", cut.stdout, cut.stderr);
}

/// Changes 100 KiB in the middle of a file, and then appends 1 MiB to it; how much that is.
fn change(pair: &Pair, name: &str, seed: u64) -> u64 {
    let file = OpenOptions::new().write(true).open(pair.bed.src(name)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&noise(seed, 100 * 1024), length / 2).unwrap();
    cut(pair);
    file.write_all_at(&noise(seed + 1, MIB), length).unwrap();
    cut(pair);
    100 * 1024 + MIB
}

#[test]
fn of_a_large_file_that_changed_in_a_long_outage_the_change_travels() {
    const BYTES: u64 = 64 * MIB;
    let mut pair = Pair::trusting();
    // Whoever is away for a moment is caught up by comparing trees.
    pair.primary.edit("# linger = \"10m\"\n", "linger = \"0s\"\n");
    let proxy = pair.proxied(72);
    build::file(&pair.bed.src("large"), noise(4, BYTES));
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();

    pair.standby.stop();
    pair.until("it is noticed", |pair| pair.status(&pair.primary)["peers"][0]["connected"] == false);
    let changed = change(&pair, "large", 5);
    let before = (proxy.returned(), proxy.forwarded());
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let (sent, asked) = (proxy.returned() - before.0, proxy.forwarded() - before.1);
    assert_eq!(pair.primary.log().matches("catch-up generation").count(), 2, "{}", pair.told());
    assert!(
        sent < changed + MIB / 2 && asked < MIB / 2,
        "{sent} bytes one way, {asked} the other, for {changed} that changed\n{}",
        pair.told()
    );

    // What a replica had changed by hand is mended the same way.
    let before = (proxy.returned(), proxy.forwarded());
    OpenOptions::new().write(true).open(pair.bed.dst("large")).unwrap().write_all_at(&noise(7, 1000), 9 * MIB).unwrap();
    let mended = pair.ask(&pair.primary, &["resync", "--checksum"]);
    assert_eq!(mended.code, Some(0), "{}{}", mended.stdout, mended.stderr);
    pair.until_streaming();
    pair.converge();
    let (sent, asked) = (proxy.returned() - before.0, proxy.forwarded() - before.1);
    assert!(
        sent < MIB / 2 && asked < MIB / 2,
        "{sent} bytes one way, {asked} the other, for 1000 that were changed by hand"
    );
    pair.assert_verified(&pair.primary);
}

#[test]
fn what_changed_in_the_middle_of_a_file_that_was_also_appended_to_arrives() {
    let mut pair = Pair::running();
    build::file(&pair.bed.src("large"), noise(8, 48 * MIB));
    pair.until_streaming();
    pair.converge();
    // In one cut: only samples tell the two from an append, and these may miss it.
    for round in 0..3 {
        let mut file = OpenOptions::new().append(true).open(pair.bed.src("large")).unwrap();
        let in_place = OpenOptions::new().write(true).open(pair.bed.src("large")).unwrap();
        in_place.write_all_at(&noise(90 + round, 30_000), (11 + round * 7) * MIB).unwrap();
        std::io::Write::write_all(&mut file, &noise(95 + round, 50_000)).unwrap();
    }
    pair.converge();
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_first_sync_that_is_cut_again_and_again_fills_no_disk() {
    const FILES: u64 = 12;
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(73);
    proxy.set(Weather { rate: Some(4_000_000), ..Weather::default() });
    let write = |pair: &Pair, round: u64| {
        for number in 0..FILES {
            build::file(&pair.bed.src(format!("jobs/{number}/log")), noise(round * 100 + number, MIB));
        }
    };
    write(&pair, 0);
    pair.start_primary();
    pair.start_standby();
    let total = FILES * MIB;
    for round in 1..5 {
        let before = proxy.returned();
        until_returned(&mut pair, &proxy, before + total / 2);
        // Nothing of what was sent is wanted any more.
        pair.standby.kill();
        write(&pair, round);
        let (files, bytes) = held(&pair);
        assert!(bytes <= total * 3 / 4, "{bytes} bytes in {files} files are held after {round} rounds");
        pair.start_standby();
    }
    proxy.set(Weather::default());
    pair.until_streaming();
    pair.converge();
    pair.until("nothing is held any more", |pair| held(pair).0 == 0);
    pair.assert_verified(&pair.primary);
}
