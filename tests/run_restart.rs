//! Restarts: what is known is not read again, what cannot be known is, and who lost something says so.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::build;
use common::pair::{Node, Pair};

/// How much content a daemon has read since its start.
fn read_bytes(pair: &Pair, node: &Node) -> u64 {
    pair.status(node)["home"]["content_read_bytes"].as_u64().unwrap()
}

#[test]
fn after_a_restart_of_both_only_what_changed_is_read_and_equal_trees_cost_one_round_trip() {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(4);
    for number in 0..1000 {
        build::file(&pair.bed.src(format!("jobs/{}/{number}", number % 100)), Dice::new(number).noise(1000));
    }
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    assert!(read_bytes(&pair, &pair.primary) >= 1_000_000);
    for changed in [0, 1] {
        pair.standby.stop();
        pair.primary.stop();
        for number in 0..changed {
            build::append(&pair.bed.src(format!("jobs/{number}/{number}")), "changed");
        }
        let before = proxy.returned();
        pair.start_primary();
        pair.start_standby();
        pair.until_streaming();
        let sent = proxy.returned() - before;
        pair.converge();
        assert_eq!(read_bytes(&pair, &pair.primary), changed * 1007, "{}", pair.told());
        assert_eq!(read_bytes(&pair, &pair.standby), 0, "{}", pair.told());
        let log = pair.primary.log();
        // A handshake, two hellos, some heartbeats: of 1100 entries nothing is asked, and nothing told.
        assert!(changed > 0 || sent < 20_000, "{sent} bytes\n{log}");
        // Of one file that changed: whether anything is held from before, the root, its children, those of two directories, whether the content is
        // there; and the lists once more.
        let questions = if changed == 0 { "operations=0 questions=0" } else { "questions=10" };
        assert!(log.contains(questions), "{log}");
    }
}

#[test]
fn what_is_written_while_a_primary_is_killed_is_not_missed() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 30);
    for number in 0..8 {
        build::file(&pair.bed.src(format!("hot/{number}")), "00000000");
    }
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    for round in 0..3 {
        let ending = AtomicBool::new(false);
        let hot = pair.bed.src("hot");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let files: Vec<_> =
                    (0..8).map(|n| fs::OpenOptions::new().write(true).open(hot.join(n.to_string())).unwrap()).collect();
                // Always as long, never renamed: only times tell, and often not even they do.
                for step in 0_u64.. {
                    let file = &files[usize::try_from(step % 8).unwrap()];
                    file.write_all_at(format!("{:08}", step % 100_000_000).as_bytes(), 0).unwrap();
                    if ending.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(1500 + 300 * round));
            pair.primary.kill();
            ending.store(true, Ordering::Relaxed);
            writer.join().unwrap();
        });
        pair.start_primary();
        pair.until_streaming();
        pair.converge();
    }
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_primary_without_its_index_begins_a_new_reign_and_rebuilds_it() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 31);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let index = pair.state(&pair.primary).join("primary.redb");
    let kept = pair.bed.path("kept");
    pair.primary.stop();
    fs::copy(&index, &kept).unwrap();
    let damages: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&index).unwrap(),
        &|| fs::OpenOptions::new().write(true).open(&index).unwrap().set_len(5000).unwrap(),
        // Whole, but of an earlier end.
        &|| assert!(fs::copy(&kept, &index).unwrap() > 0),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        damage();
        build::file(&pair.bed.src(format!("new-{number}")), "x");
        pair.start_primary();
        pair.until_streaming();
        pair.converge();
        pair.assert_verified(&pair.primary);
        assert_eq!(pair.status(&pair.primary)["reign"]["epoch"], number + 2, "{}", pair.told());
        pair.primary.stop();
    }
}

/// Puts a copy of `from` in the place of `to`.
fn copy(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_primary_that_went_backwards_begins_a_new_reign_and_all_follow() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 34);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.primary.stop();
    let (state, old) = (pair.state(&pair.primary), pair.bed.path("old-state"));
    copy(&state, &old);
    pair.start_primary();
    pair.until_streaming();
    for number in 0..5 {
        build::file(&pair.bed.src("counter"), number.to_string());
        pair.converge();
    }
    let acked = pair.status(&pair.primary)["peers"][0]["acked"].clone();
    pair.primary.stop();
    copy(&old, &state);
    build::file(&pair.bed.src("after"), "x");
    pair.start_primary();
    pair.until_streaming();
    pair.converge();
    let status = pair.status(&pair.primary);
    assert_eq!(status["reign"]["epoch"], 2, "after {acked}: {}", pair.told());
    assert_eq!(status["alarms"], serde_json::json!([]));
    assert!(
        pair.told().contains("its state directory was put back to an older one; a new reign begins"),
        "{}",
        pair.told()
    );
    pair.assert_verified(&pair.primary);
    // What it began it goes on with.
    pair.primary.stop();
    pair.start_primary();
    pair.until_streaming();
    pair.converge();
    assert_eq!(pair.status(&pair.primary)["reign"]["epoch"], 2, "{}", pair.told());
}

#[test]
fn a_standby_that_went_backwards_is_told_of_and_caught_up() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 32);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let places =
        [(pair.bed.destination(), pair.bed.path("old-home")), (pair.state(&pair.standby), pair.bed.path("old-state"))];
    pair.standby.stop();
    places.iter().for_each(|(now, old)| copy(now, old));
    pair.start_standby();
    pair.until_streaming();
    build::file(&pair.bed.src("later"), "x");
    pair.converge();
    assert_eq!(pair.status(&pair.primary)["alarms"], serde_json::json!([]));
    pair.standby.stop();
    // What was acked is remembered over a restart of the primary.
    pair.primary.stop();
    places.iter().for_each(|(now, old)| copy(old, now));
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let alarms = pair.status(&pair.primary)["alarms"].to_string();
    assert!(alarms.contains("standby jenkins-b went backwards: it had acked 1."), "{alarms}");
    pair.assert_verified(&pair.primary);
}
