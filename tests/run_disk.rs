//! Full disks: replication pauses before a standby's disk is full, keeps its last whole generation, and goes on when there is room.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::build::file;
use common::compare::{Snapshot, differences};
use common::pair::{Node, Pair};
use common::{is_root, skip};

const MIB: usize = 1 << 20;

/// A small file system in memory; unmounted in the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self(at.to_owned())
    }

    fn remount(&self, how: &str) {
        let mounted = Command::new("mount").arg("-o").arg(format!("remount,{how}")).arg(&self.0).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

fn alarms(pair: &Pair, node: &Node) -> String {
    pair.status(node)["alarms"].to_string()
}

fn until_both_say(pair: &mut Pair, words: &str) {
    pair.until(words, |pair| [&pair.primary, &pair.standby].iter().all(|node| alarms(pair, node).contains(words)));
}

fn streaming(pair: &mut Pair) {
    file(&pair.bed.src("small"), "there from the beginning");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
}

/// Takes the disk of the replica, as somebody else's file would, but for so much.
fn fill_disk(pair: &Pair, but: usize) -> PathBuf {
    let facts = rustix::fs::statvfs(pair.bed.destination()).unwrap();
    let free = usize::try_from(facts.f_bavail * facts.f_frsize).unwrap();
    let ballast = pair.bed.dst(".hotspare/ballast");
    file(&ballast, vec![1; free - but]);
    ballast
}

/// The files, with their bytes, that are staged or half shown.
fn litter(pair: &Pair) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut below = ["stage", "reveal"].map(|area| pair.bed.dst(".hotspare").join(area)).to_vec();
    while let Some(directory) = below.pop() {
        // What is looked at may go meanwhile.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => below.push(entry.path()),
                Ok(metadata) => (files, bytes) = (files + 1, bytes + metadata.blocks() * 512),
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

#[test]
fn replication_pauses_before_the_disk_is_full_and_goes_on_when_there_is_room() {
    if !is_root() {
        return skip("a full disk", "only root may mount a small one");
    }
    let mut pair = Pair::trusting();
    let disk = Disk::mount(&pair.bed.destination(), "size=64m");
    pair.standby.edit("# reserve = \"256MiB\"", "reserve = \"8MiB\"");
    // It comes in a generation, and so does what is behind it.
    pair.primary.edit("# big_file = \"8MiB\"", "big_file = \"1GiB\"");
    streaming(&mut pair);
    let mut dice = Dice::new(7);
    let ballast = fill_disk(&pair, 14 * MIB);
    let before = Snapshot::of(&pair.bed.destination()).unwrap();
    // At once: the half of it would fit.
    file(&pair.bed.path("big"), dice.noise(10 * MIB));
    std::fs::rename(pair.bed.path("big"), pair.bed.src("big")).unwrap();
    until_both_say(&mut pair, "MiB are free, of which 8 are kept");
    assert_eq!(pair.status(&pair.standby)["state"], "held");
    assert!(pair.standby.log().contains("the disk of the replica"), "{}", pair.standby.log());
    file(&pair.bed.src("behind it"), "small enough, and yet it waits");
    assert_eq!(pair.ask(&pair.primary, &["wait", "--timeout", "2s"]).code, Some(1));
    assert_eq!(differences(&before, &Snapshot::of(&pair.bed.destination()).unwrap()), [""; 0]);
    std::fs::remove_file(ballast).unwrap();
    pair.converge();
    pair.until("both say that all is well", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| alarms(pair, node) == "[]")
    });
    pair.until("nothing is left of it", |pair| litter(pair) == (0, 0));
    pair.standby.stop();
    drop(disk);
}

#[test]
fn a_large_file_for_which_there_is_no_room_waits_and_comes_when_there_is() {
    if !is_root() {
        return skip("no room for a large file", "only root may mount a small disk");
    }
    let mut pair = Pair::trusting();
    let disk = Disk::mount(&pair.bed.destination(), "size=64m");
    pair.standby.edit("# reserve = \"256MiB\"", "reserve = \"8MiB\"");
    streaming(&mut pair);
    let ballast = fill_disk(&pair, 14 * MIB);
    file(&pair.bed.path("big"), Dice::new(10).noise(10 * MIB));
    std::fs::rename(pair.bed.path("big"), pair.bed.src("big")).unwrap();
    until_both_say(&mut pair, "MiB are free, of which 8 are kept");
    assert!(!pair.bed.dst("big").exists());
    std::fs::remove_file(ballast).unwrap();
    pair.converge();
    pair.until("nothing is left of it", |pair| litter(pair) == (0, 0));
    pair.standby.stop();
    drop(disk);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_generation_leaves_the_last_whole_one() {
    if !is_root() {
        return skip("a disk that is full in the middle", "only root may mount a small one");
    }
    let mut pair = Pair::trusting();
    let disk = Disk::mount(&pair.bed.destination(), "size=64m");
    pair.standby.edit("# reserve = \"256MiB\"", "reserve = \"0\"");
    // It takes seconds to arrive, and the disk is full long before.
    pair.standby.edit("# bandwidth = \"50MiB\"", "bandwidth = \"4MiB\"");
    streaming(&mut pair);
    let mut dice = Dice::new(8);
    let ballast = pair.bed.dst(".hotspare/ballast");
    // What is announced fits; then others take the disk while it arrives, and a write fails. Where it was there already, once more.
    let has_failed = (0..10).any(|round| {
        file(&pair.bed.src("big"), dice.noise(16 * MIB));
        pair.until("something is staged", |pair| litter(pair).1 > 0);
        let mut taken = std::fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut taken, &[1; 4096]).is_ok() {}
        drop(taken);
        let content = std::fs::read(pair.bed.src("big")).unwrap();
        pair.until("it fails, or is there", |pair| {
            alarms(pair, &pair.standby) != "[]"
                || std::fs::read(pair.bed.dst("big")).is_ok_and(|there| there == content)
        });
        let has_failed = alarms(&pair, &pair.standby).contains("No space left on device");
        if !has_failed {
            common::note(&format!("the disk was full too late in round {round}"));
            std::fs::remove_file(&ballast).unwrap();
            pair.converge();
        }
        has_failed
    });
    assert!(has_failed, "{}", pair.told());
    pair.until("the primary says so", |pair| alarms(pair, &pair.primary).contains("replication waits until"));
    let shown = std::fs::read(pair.bed.dst("big")).map(|big| big.len());
    assert!(shown.as_ref().is_err() || shown.as_ref().is_ok_and(|length| *length == 16 * MIB), "{shown:?}");
    assert!(pair.bed.dst("small").exists());
    assert_eq!(litter(&pair), (0, 0), "what was half staged is gone");
    std::fs::remove_file(&ballast).unwrap();
    pair.converge();
    pair.until("nothing is left of it", |pair| litter(pair) == (0, 0));
    pair.standby.stop();
    drop(disk);
}

/// A disk in use cannot be made read-only by hand; one that was mounted so is what an operator finds after a boot, or the kernel leaves after an error.
#[test]
fn a_standby_on_a_read_only_disk_says_so_and_goes_on_when_it_can_be_written() {
    if !is_root() {
        return skip("a read-only disk", "only root may mount one");
    }
    let mut pair = Pair::trusting();
    let disk = Disk::mount(&pair.bed.destination(), "size=64m");
    streaming(&mut pair);
    let before = Snapshot::of(&pair.bed.destination()).unwrap();
    pair.standby.stop();
    disk.remount("ro");
    file(&pair.bed.src("meanwhile"), "it waits");
    pair.start_standby();
    pair.until("the standby says so", |pair| alarms(pair, &pair.standby).contains("Read-only file system"));
    assert_eq!(pair.status(&pair.standby)["state"], "stuck");
    assert_eq!(differences(&before, &Snapshot::of(&pair.bed.destination()).unwrap()), [""; 0]);
    disk.remount("rw");
    pair.converge();
    pair.until("all is well", |pair| alarms(pair, &pair.standby) == "[]");
    pair.standby.stop();
    drop(disk);
}

#[test]
fn a_full_state_directory_holds_the_primary_until_there_is_room() {
    if !is_root() {
        return skip("a full state directory", "only root may mount a small one");
    }
    let mut pair = Pair::new();
    let state = pair.state(&pair.primary);
    let disk = Disk::mount(&state, "size=48m");
    pair.primary.edit("# big_file = \"8MiB\"", "big_file = \"1GiB\"");
    pair.exchange_ids();
    streaming(&mut pair);
    let ballast = state.join("ballast");
    let mut taken = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut taken, &[1; 4096]).is_ok() {}
    drop(taken);
    file(&pair.bed.src("behind it"), "waits");
    pair.until("the primary says so", |pair| alarms(pair, &pair.primary).contains("is full: nothing is replicated"));
    pair.until("the standby is told", |pair| alarms(pair, &pair.standby).contains("is full: nothing is replicated"));
    assert_eq!(pair.ask(&pair.primary, &["wait", "--timeout", "60s"]).code, Some(4));
    assert!(!pair.bed.dst("behind it").exists());
    std::fs::remove_file(&ballast).unwrap();
    pair.until("it goes on", |pair| alarms(pair, &pair.primary) == "[]");
    pair.converge();

    // What is larger than all the room there is fails in the middle, and again, until there is room.
    let mut dice = Dice::new(9);
    file(&ballast, vec![1; 24 * MIB]);
    let big = pair.bed.src("big");
    file(&big, dice.noise(32 * MIB));
    pair.until("the primary says so", |pair| alarms(pair, &pair.primary).contains("is full: nothing is replicated"));
    file(&pair.bed.src("meanwhile"), "and what happens meanwhile");
    std::fs::remove_file(&big).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    pair.until("it goes on", |pair| alarms(pair, &pair.primary) == "[]");
    pair.converge();
    pair.primary.stop();
    drop(disk);
}

#[test]
fn an_index_that_cannot_be_committed_for_want_of_room_holds_the_primary_and_is_opened_again() {
    if !is_root() {
        return skip("an index on a full disk", "only root may mount a small one");
    }
    let mut pair = Pair::new();
    let state = pair.state(&pair.primary);
    let disk = Disk::mount(&state, "size=48m");
    pair.exchange_ids();
    streaming(&mut pair);
    let ballast = state.join("ballast");
    // The index is committed every minute: where that came between, once more.
    let has_failed = (0..4).any(|round| {
        // They are in the replica, and in the index's memory, until its next commit.
        for index in 0..5000 {
            file(&pair.bed.src(format!("many/{}/{round}-{index}", index % 40)), "");
        }
        pair.converge();
        let facts = rustix::fs::statvfs(&state).unwrap();
        let free = usize::try_from(facts.f_bavail * facts.f_frsize).unwrap();
        // More than what stays free for temporary files, and less than the commit takes.
        file(&ballast, vec![1; free - 800 * 1024]);
        let verified = pair.ask(&pair.primary, &["verify"]);
        if verified.code == Some(0) {
            common::note(&format!("the index was committed in round {round}"));
            std::fs::remove_file(&ballast).unwrap();
        }
        verified.code != Some(0)
    });
    assert!(has_failed, "{}", pair.told());
    pair.until("the primary says so", |pair| alarms(pair, &pair.primary).contains("is full: nothing is replicated"));
    file(&pair.bed.src("meanwhile"), "x");
    std::fs::remove_file(pair.bed.src("many/0/0-0")).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    pair.until("it goes on", |pair| alarms(pair, &pair.primary) == "[]");
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
    pair.primary.stop();
    drop(disk);
}

#[test]
fn a_primary_that_starts_with_a_full_state_directory_says_so_and_goes_on_when_there_is_room() {
    if !is_root() {
        return skip("a start with a full state directory", "only root may mount a small one");
    }
    let mut pair = Pair::new();
    let state = pair.state(&pair.primary);
    let disk = Disk::mount(&state, "size=48m");
    pair.exchange_ids();
    streaming(&mut pair);
    let epoch = |pair: &Pair| pair.status(&pair.primary)["reign"]["epoch"].as_u64().unwrap();
    let before = epoch(&pair);
    pair.primary.stop();
    let ballast = state.join("ballast");
    let mut taken = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut taken, &[1; 4096]).is_ok() {}
    while std::io::Write::write_all(&mut taken, &[1]).is_ok() {}
    drop(taken);
    file(&pair.bed.src("meanwhile"), "x");
    pair.start_primary();
    let status = pair.status(&pair.primary);
    let alarm = status["alarms"][0].as_str().unwrap_or_default();
    assert!(alarm.contains(state.to_str().unwrap()) && alarm.contains("No space left on device"), "{status:#}");
    assert_eq!((&status["node"]["role"], &status["state"]), (&"primary".into(), &"stuck".into()), "{status:#}");
    assert_eq!(pair.ask(&pair.primary, &["health"]).code, Some(1));
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "10s"]);
    assert!(waited.code == Some(4) && waited.stderr.contains("make room"), "{}", waited.stderr);
    std::fs::remove_file(&ballast).unwrap();
    pair.until_streaming();
    pair.converge();
    assert_eq!(epoch(&pair), before, "it ended in order, and goes on where it was");
    pair.assert_verified(&pair.primary);
    pair.primary.stop();
    drop(disk);
}
