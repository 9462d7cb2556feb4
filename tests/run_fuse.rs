//! The fuse (G7): a generation that deletes too much waits on the standby for a person's word.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::build::file;
use common::compare::Snapshot;
use common::finish;
use common::pair::{Node, Pair};

/// How many entries the homes of these tests have, about.
const ENTRIES: usize = 1200;

fn job(pair: &Pair, index: usize) -> PathBuf {
    pair.bed.src(format!("jobs/{index}"))
}

/// A home of jobs with forty builds each.
fn fill(pair: &Pair, jobs: usize) {
    for index in 0..jobs {
        for build in 0..40 {
            file(&job(pair, index).join(format!("builds/{build}")), format!("{index} {build}"));
        }
    }
}

/// Two nodes that stream such a home, with a fuse that suits its size. What is done within half a second is one generation.
fn streaming() -> Pair {
    let mut pair = Pair::trusting();
    fill(&pair, ENTRIES / 40);
    pair.primary.edit("[batch]\n", "[batch]\nquiet = \"500ms\"\nlongest = \"10s\"\n");
    pair.standby.edit("# fuse = \"75%\"", "fuse = \"50%\"");
    pair.standby.edit("# fuse_count = \"1000\"", "fuse_count = \"300\"");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair
}

fn alarms(pair: &Pair, node: &Node) -> String {
    pair.status(node)["alarms"].to_string()
}

/// Waits until both nodes say that something is held back, and in which words.
fn until_fused(pair: &mut Pair, words: &str) {
    pair.until(words, |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| {
            let said = alarms(pair, node);
            said.contains(words) && said.contains("hotspare release")
        })
    });
    assert_eq!(pair.status(&pair.standby)["state"], "held");
    assert!(pair.status(&pair.primary)["peers"][0]["held"].as_str().unwrap().contains(words));
}

#[test]
fn a_generation_that_deletes_too_much_waits_for_a_word_and_all_others_behind_it() {
    let mut pair = streaming();
    let before = Snapshot::of(&pair.bed.destination()).unwrap();
    let acked = pair.status(&pair.primary)["peers"][0]["acked"].clone();
    for index in 5..30 {
        std::fs::remove_dir_all(job(&pair, index)).unwrap();
    }
    until_fused(&mut pair, "entries (8");
    assert!(alarms(&pair, &pair.primary).contains("jobs/"), "{}", alarms(&pair, &pair.primary));
    // Many more, big and small, while it waits: what the streams do not take stays on the primary.
    for round in 0..12 {
        file(&pair.bed.src(format!("later/{round}")), vec![round; 1 << 20]);
        std::thread::sleep(Duration::from_millis(700));
    }
    let status = pair.status(&pair.primary);
    let peer = &status["peers"][0];
    assert_eq!(peer["acked"], acked);
    assert!(peer["lag_seconds"].as_f64().unwrap() >= 5.0, "{peer}");
    let now = Snapshot::of(&pair.bed.destination()).unwrap();
    assert_eq!(common::compare::differences(&before, &now), [""; 0]);
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, Some(1), "{waited:?}");

    // A standby that starts again fuses again.
    pair.standby.stop();
    pair.start_standby();
    until_fused(&mut pair, "entries (8");
    assert_eq!(common::compare::differences(&before, &Snapshot::of(&pair.bed.destination()).unwrap()), [""; 0]);

    let released = pair.ask(&pair.standby, &["release"]);
    assert_eq!(released.code, Some(0), "{}", released.stderr);
    assert!(released.stdout.contains("entries (8"), "{}", released.stdout);
    pair.converge();
    pair.until("both say that all is well", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| alarms(pair, node) == "[]")
    });
    let nothing = pair.ask(&pair.standby, &["release"]);
    assert_eq!(nothing.code, Some(4), "{nothing:?}");
}

#[test]
fn what_is_deleted_little_by_little_is_stopped_by_the_window_and_released_from_the_primary() {
    let mut pair = streaming();
    let mut index = 30;
    while !alarms(&pair, &pair.standby).contains("would be lost within 10m") {
        assert!(index > 5, "a third and more was deleted in steps, and nothing says so: {}", pair.told());
        for _ in 0..5 {
            index -= 1;
            std::fs::remove_dir_all(job(&pair, index)).unwrap();
        }
        // One generation after the other, until one is not taken.
        pair.ask(&pair.primary, &["wait", "--timeout", "3s"]);
    }
    until_fused(&mut pair, "would be lost within 10m");
    let kept = std::fs::read_dir(pair.bed.dst("jobs")).unwrap().count();
    assert!(kept >= 15, "half of the jobs are still there: {kept}");
    pair.standby.kill();
    pair.start_standby();
    until_fused(&mut pair, "would be lost within 10m");
    let released = pair.ask(&pair.primary, &["release"]);
    assert_eq!(released.code, Some(0), "{}", released.stderr);
    assert!(released.stdout.contains("standby jenkins-b: "), "{}", released.stdout);
    pair.converge();
}

#[test]
fn old_builds_that_are_discarded_and_jobs_that_are_renamed_blow_no_fuse() {
    let mut pair = streaming();
    for index in 0..30 {
        for build in 0..15 {
            std::fs::remove_file(job(&pair, index).join(format!("builds/{build}"))).unwrap();
        }
    }
    pair.converge();
    std::fs::rename(pair.bed.src("jobs"), pair.bed.src("renamed")).unwrap();
    pair.converge();
    assert!(!pair.standby.log().contains("hotspare release"), "{}", pair.standby.log());
}

#[test]
fn an_emptied_home_is_replicated_when_somebody_says_so_twice() {
    let mut pair = streaming();
    std::fs::rename(pair.bed.src("jobs"), pair.bed.path("jobs")).unwrap();
    pair.until("the primary's guard", |pair| alarms(pair, &pair.primary).contains("was emptied"));
    pair.until("the standby is told", |pair| alarms(pair, &pair.standby).contains("was emptied"));
    assert_eq!(pair.ask(&pair.primary, &["release"]).code, Some(0));
    until_fused(&mut pair, "entries (");
    assert_eq!(pair.ask(&pair.primary, &["release"]).code, Some(0));
    pair.converge();
    assert_eq!(std::fs::read_dir(pair.bed.destination()).unwrap().count(), 1, "nothing but .hotspare");
}

#[test]
fn mirror_holds_back_what_would_delete_most_of_a_copy_until_it_is_told_to() {
    let pair = Pair::new();
    fill(&pair, ENTRIES / 40);
    pair.bed.mirror_once();
    for index in 2..30 {
        std::fs::remove_dir_all(job(&pair, index)).unwrap();
    }
    let held = finish(pair.bed.mirror(&["--once"]));
    assert_eq!(held.code, Some(4), "{held:?}");
    assert!(held.stderr.contains("would delete") && held.stderr.contains("--release"), "{}", held.stderr);
    assert!(pair.bed.dst("jobs/20/builds/3").exists());
    let released = finish(pair.bed.mirror(&["--once", "--release"]));
    assert_eq!(released.code, Some(0), "{released:?}");
    pair.bed.assert_equal();
}
