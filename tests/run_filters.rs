//! Filters of two daemons: changed between runs, configured unlike, and crossed by renames.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::Path;

use common::build;
use common::pair::Pair;

const MIB: usize = 1 << 20;

/// Bytes that do not pack.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; length];
    reader.fill(&mut bytes);
    bytes
}

/// Payload bytes that the primary sent over its present link.
fn sent(pair: &Pair) -> u64 {
    pair.status(&pair.primary)["peers"][0]["bytes_sent"].as_u64().unwrap()
}

/// All that has been written is in the replica, and `verify` says equal on both.
fn settle(pair: &mut Pair) {
    pair.until_streaming();
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
    assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, pair.told());
    pair.assert_verified(&pair.primary);
    pair.assert_verified(&pair.standby);
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_directory_is_excluded_changed_and_included_again_and_only_the_difference_travels() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 60);
    let (big, blob) = (noise(1, MIB), noise(2, 4 * MIB));
    std::fs::create_dir_all(pair.bed.src("big/below")).unwrap();
    std::fs::write(pair.bed.src("big/a"), &big).unwrap();
    build::file(&pair.bed.src("big/below/gone"), "x");
    std::fs::write(pair.bed.src("blob"), &blob).unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let watches = pair.status(&pair.primary)["watches"]["placed"].as_u64().unwrap();

    pair.primary.stop();
    pair.primary.edit("exclude = []", "exclude = [\"/big/\"]");
    pair.start_primary();
    settle(&mut pair);
    assert!(sent(&pair) < 64 << 10, "{} bytes to leave out a directory", sent(&pair));
    assert_eq!(pair.status(&pair.primary)["watches"]["placed"], watches - 2, "it is not watched");
    assert!(pair.primary.log().contains("the filters were changed"), "{}", pair.primary.log());
    std::fs::write(pair.bed.src("big/a"), noise(3, MIB)).unwrap();
    std::fs::remove_dir_all(pair.bed.src("big/below")).unwrap();
    build::file(&pair.bed.src("big/new"), "new");
    build::file(&pair.bed.src("beside"), "x");
    settle(&mut pair);
    let untouched = |pair: &Pair| {
        assert_eq!(std::fs::read(pair.bed.dst("big/a")).unwrap(), big);
        assert_eq!(names(&pair.bed.dst("big")), ["a", "below"]);
    };
    untouched(&pair);
    // A standby that has lost its index finds what it holds and must not.
    pair.standby.stop();
    std::fs::remove_file(pair.state(&pair.standby).join("replica.redb")).unwrap();
    pair.start_standby();
    settle(&mut pair);
    untouched(&pair);

    pair.primary.stop();
    pair.primary.edit("exclude = [\"/big/\"]", "exclude = []");
    pair.start_primary();
    settle(&mut pair);
    pair.converge();
    let bytes = sent(&pair);
    assert!(bytes < (MIB + MIB / 4) as u64, "{bytes} bytes to take in 1 MiB again");
    let kept = names(&pair.bed.dst(".hotspare/bundles"));
    assert!(!kept.is_empty(), "what the standby had there is put aside");
    // And on it goes, live.
    std::fs::write(pair.bed.src("big/a"), b"small").unwrap();
    pair.converge();
}

#[test]
fn the_filters_of_the_primary_decide_and_a_standby_that_has_others_says_so() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 60);
    pair.primary.edit("exclude = []", "exclude = [\"/out/\", \"/here/ws/\"]");
    pair.standby.edit("exclude = []", "exclude = [\"*.kept\"]");
    build::file(&pair.bed.src("out/primary"), "x");
    build::file(&pair.bed.src("a.kept"), "replicated: the primary says so");
    build::file(&pair.bed.src("there/ws/file"), "x");
    build::file(&pair.bed.src("there/beside"), "x");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let root = std::fs::File::open(pair.bed.destination()).unwrap();
    let time = root.metadata().unwrap().modified().unwrap();
    build::file(&pair.bed.dst("out/standby"), "the standby's own");
    root.set_modified(time).unwrap();
    settle(&mut pair);
    assert_eq!(std::fs::read(pair.bed.dst("a.kept")).unwrap(), b"replicated: the primary says so");
    assert_eq!(names(&pair.bed.dst("out")), ["standby"]);
    let warnings = pair.status(&pair.standby)["warnings"].to_string();
    assert!(warnings.contains("[replicate]"), "{warnings}");
    let page = pair.ask(&pair.standby, &["status"]).stdout;
    assert!(page.contains("warning  the primary has another [replicate]"), "{page}");
    assert!(pair.primary.log().contains("another [replicate]") && pair.standby.log().contains("another [replicate]"));
    assert_eq!(pair.status(&pair.primary)["warnings"], serde_json::json!([]));

    // By its new name a directory is left out: the replica has it no longer, and nobody trips over it.
    std::fs::rename(pair.bed.src("there"), pair.bed.src("here")).unwrap();
    settle(&mut pair);
    assert_eq!(names(&pair.bed.dst("here")), ["beside"]);
    std::fs::write(pair.bed.src("here/ws/file"), "not replicated").unwrap();
    pair.standby.kill();
    pair.start_standby();
    settle(&mut pair);
    std::fs::rename(pair.bed.src("here"), pair.bed.src("there")).unwrap();
    settle(&mut pair);
    assert_eq!(std::fs::read(pair.bed.dst("there/ws/file")).unwrap(), b"not replicated");

    // Made alike, the warning goes.
    pair.standby.stop();
    pair.standby.edit("exclude = [\"*.kept\"]", "exclude = [\"/out/\", \"/here/ws/\"]");
    pair.start_standby();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["warnings"], serde_json::json!([]));
}
