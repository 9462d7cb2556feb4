//! Sizes at which other things break: very many names in one directory, very many entries, one very large file. What a change costs there, and
//! what the daemons take.
//!
//! The long forms are run by `tests/long`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::build;
use common::pair::{Node, Pair};
use common::{note, peak_mib};

/// How large the long form is.
fn wanted(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A number of a node's status.
fn count(pair: &Pair, node: &Node, pointer: &str) -> u64 {
    pair.status(node).pointer(pointer).unwrap().as_u64().unwrap()
}

fn read_bytes(pair: &Pair, node: &Node) -> u64 {
    count(pair, node, "/home/content_read_bytes")
}

fn sent_bytes(pair: &Pair) -> u64 {
    count(pair, &pair.primary, "/peers/0/bytes_sent")
}

/// Waits until all is acked and shown; no time is too long.
fn settle(pair: &Pair) {
    pair.wait_long();
    while pair.status(&pair.primary)["peers"][0]["revealed"] != pair.status(&pair.primary)["peers"][0]["acked"] {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The most memory that a daemon had, its program apart, in MiB; and its descriptors now.
fn taken(pair: &Pair, node: &Node) -> (u64, usize) {
    let pid = u32::try_from(count(pair, node, "/node/pid")).unwrap();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    (peak_mib(pid), files)
}

fn assert_small(pair: &Pair, mib: u64) {
    for node in [&pair.primary, &pair.standby] {
        let (memory, files) = taken(pair, node);
        note(&format!("{}: {memory} MiB, {files} descriptors", node.name));
        assert!(memory <= mib && files < 100, "{}: {memory} MiB, {files} descriptors", node.name);
    }
}

/// Bytes of content read by the primary, bytes sent, and operations, of what `change` changes.
fn cost(pair: &Pair, change: impl FnOnce()) -> (u64, u64, u64) {
    let operations = |pair: &Pair| -> u64 {
        let log = pair.primary.log();
        let made =
            log.lines().filter_map(|line| line.split_once("keeper::publish: generation ")?.1.split_once("operations="));
        made.map(|(_, rest)| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let before = (read_bytes(pair, &pair.primary), sent_bytes(pair), operations(pair));
    change();
    settle(pair);
    let after = (read_bytes(pair, &pair.primary), sent_bytes(pair), operations(pair));
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

/// So many names in one directory: what one of them costs when it changes, comes or goes, and a restart.
fn one_directory_of(files: u64) {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(70);
    fs::create_dir(pair.bed.src("wide")).unwrap();
    for number in 0..files {
        fs::write(pair.bed.src(format!("wide/{number}.xml")), format!("<build>{number}</build>")).unwrap();
    }
    pair.start_primary();
    pair.start_standby();
    while pair.status(&pair.primary)["state"] != "streaming" || pair.status(&pair.standby)["state"] != "streaming" {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    settle(&pair);
    let one = pair.bed.src(format!("wide/{}.xml", files / 2));
    let (read, sent, operations) = cost(&pair, || build::file(&one, "changed"));
    // It is replaced: one goes, one comes.
    assert!(read <= 14 && sent < 2000 && operations <= 3, "changed: {read} read, {sent} sent, {operations} operations");
    let (read, sent, operations) = cost(&pair, || build::file(&pair.bed.src("wide/new"), "new"));
    assert!(read <= 6 && sent < 2000 && operations <= 3, "added: {read} read, {sent} sent, {operations} operations");
    let (read, sent, operations) = cost(&pair, || fs::remove_file(&one).unwrap());
    assert!(read == 0 && sent < 2000 && operations <= 2, "removed: {read} read, {sent} sent, {operations} operations");
    let (read, sent, operations) = cost(&pair, || fs::rename(pair.bed.src("wide"), pair.bed.src("elsewhere")).unwrap());
    assert!(read == 0 && sent < 2000 && operations <= 3, "renamed: {read} read, {sent} sent, {operations} operations");
    assert_eq!(fs::read_dir(pair.bed.dst("elsewhere")).unwrap().count() as u64, files);
    restart(&mut pair, || proxy.returned());
    // The index's cache and its writes.
    assert_small(&pair, 128);
}

/// Both end and begin again: nothing is read, and nothing asked.
fn restart(pair: &mut Pair, returned: impl Fn() -> u64) {
    pair.standby.stop();
    pair.primary.stop();
    let before = returned();
    pair.start_primary();
    pair.start_standby();
    while pair.status(&pair.primary)["state"] != "streaming" {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let sent = returned() - before;
    settle(pair);
    let read = [&pair.primary, &pair.standby].map(|node| read_bytes(pair, node));
    assert_eq!(read, [0, 0], "{}", pair.told());
    assert!(sent < 100_000, "{sent} bytes to find two trees equal\n{}", pair.told());
}

#[test]
fn a_change_in_a_directory_of_many_costs_what_changed() {
    one_directory_of(10_000);
}

#[test]
#[ignore = "minutes: HOTSPARE_WIDE says how many files, 100000 by default"]
fn a_change_in_a_directory_of_a_hundred_thousand_costs_what_changed() {
    one_directory_of(wanted("HOTSPARE_WIDE", 100_000));
}

#[test]
#[ignore = "an hour: HOTSPARE_ENTRIES says how many entries, 1000000 by default"]
fn a_million_entries_are_not_read_again_after_a_restart() {
    let files = wanted("HOTSPARE_ENTRIES", 1_000_000);
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(71);
    for number in 0..files {
        let directory = pair.bed.src(format!("jobs/{}", number / 500));
        if number % 500 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(number.to_string()), number.to_string()).unwrap();
    }
    pair.start_primary();
    pair.start_standby();
    while pair.status(&pair.primary)["state"] != "streaming" || pair.status(&pair.standby)["state"] != "streaming" {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    settle(&pair);
    let (read, sent, operations) = cost(&pair, || build::file(&pair.bed.src("jobs/7/new"), "new"));
    assert!(read <= 6 && sent < 2000 && operations <= 3, "added: {read} read, {sent} sent, {operations} operations");
    restart(&mut pair, || proxy.returned());
    assert_small(&pair, 192);
}

/// Writes noise at some places of a file that is otherwise a hole.
fn sparse(path: &Path, bytes: u64, seed: u64) {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    for part in 0..8 {
        file.write_all_at(&Dice::new(seed + part).noise(100_000), bytes / 8 * part).unwrap();
    }
}

/// A file of so many bytes, most of it a hole: it arrives as one, in little memory, and a change in its middle costs little.
fn one_sparse_file_of(bytes: u64) {
    let mut pair = Pair::running();
    pair.until_streaming();
    let aside = pair.bed.source().with_extension("aside");
    sparse(&aside, bytes, 72);
    let (_, sent, _) = cost(&pair, || fs::rename(&aside, pair.bed.src("large")).unwrap());
    assert!(sent < 2_000_000 + bytes / 1000, "{sent} bytes were sent of 800000 and a hole of {bytes}");
    let [source, replica] = [pair.bed.src("large"), pair.bed.dst("large")].map(|path| fs::metadata(path).unwrap());
    assert_eq!(source.len(), replica.len());
    assert!(replica.blocks() * 512 < 8_000_000, "{} bytes on the standby's disk", replica.blocks() * 512);
    let (_, sent, _) = cost(&pair, || build::overwrite(&pair.bed.src("large"), b"changed", bytes / 2 + 50_000));
    assert!(sent < 2_000_000, "{sent} bytes were sent of a change of 7");
    let same = std::process::Command::new("cmp").args([pair.bed.src("large"), pair.bed.dst("large")]).status();
    assert!(same.unwrap().success());
    assert_small(&pair, 64);
}

#[test]
fn a_large_sparse_file_arrives_as_one_and_a_change_in_it_costs_little() {
    one_sparse_file_of(200 << 20);
}

#[test]
#[ignore = "minutes: HOTSPARE_LARGE says how many GiB, 20 by default"]
fn a_sparse_file_of_twenty_gigabytes_arrives_as_one_and_a_change_in_it_costs_little() {
    one_sparse_file_of(wanted("HOTSPARE_LARGE", 20) << 30);
}
