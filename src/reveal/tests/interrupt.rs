//! Crashes at every step (G1, G2): what was acked is there after opening again, whole; what was not is not.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use super::churn::Churn;
use super::faulty::Faulty;
use super::snapshot::differences;
use super::*;
use crate::thought::generation::{Quality, Reason};

/// A home in which every kind of operation has something to do.
pub(super) fn furnish(at: &Path) {
    for directory in ["left", "right", "left/deep", "jobs", "old", "read-only"] {
        fs::create_dir(at.join(directory)).unwrap();
    }
    for name in ["left/l", "right/r", "left/deep/d", "one", "two", "three", "kind", "linked", "gone", "moving", "old/x"]
    {
        fs::write(at.join(name), format!("content of {name}")).unwrap();
    }
    fs::write(at.join("log"), Dice::new(1).noise(1_300_000)).unwrap();
    fs::write(at.join("data"), Dice::new(2).noise(1_500_000)).unwrap();
    fs::write(at.join("archive"), Dice::new(3).noise(1_200_000)).unwrap();
    fs::hard_link(at.join("linked"), at.join("linked too")).unwrap();
    fs::set_permissions(at.join("read-only"), fs::Permissions::from_mode(0o555)).unwrap();
}

/// Every kind of change at once.
pub(super) fn rearrange(at: &Path) {
    let rename = |from: &str, to: &str| fs::rename(at.join(from), at.join(to)).unwrap();
    rename("left", "aside");
    rename("right", "left");
    rename("aside", "right");
    rename("one", "aside");
    rename("two", "one");
    rename("three", "two");
    rename("aside", "three");
    rename("moving", "right/deep/moved");
    rename("old", "jobs/new");
    fs::write(at.join("jobs/new/y"), "y").unwrap();
    fs::remove_file(at.join("kind")).unwrap();
    fs::create_dir(at.join("kind")).unwrap();
    fs::write(at.join("kind/inside"), "x").unwrap();
    fs::remove_file(at.join("gone")).unwrap();
    fs::hard_link(at.join("linked"), at.join("jobs/linked")).unwrap();
    fs::remove_file(at.join("linked")).unwrap();
    fs::write(at.join("fresh"), "fresh").unwrap();
    fs::hard_link(at.join("fresh"), at.join("fresh too")).unwrap();
    let append = fs::OpenOptions::new().append(true).open(at.join("log")).unwrap();
    std::io::Write::write_all(&mut &append, b"one line more\n").unwrap();
    rename("log", "log.1");
    let patch = fs::OpenOptions::new().write(true).open(at.join("data")).unwrap();
    patch.write_all_at(b"in place", 700_000).unwrap();
    patch.write_all_at(b"and here", 9).unwrap();
    fs::write(at.join("read-only/file"), "x").unwrap();
    fs::set_permissions(at.join("three"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut longer = fs::read(at.join("archive")).unwrap();
    longer.splice(5..5, *b"put in");
    fs::write(at.join("archive.new"), longer).unwrap();
    rename("archive.new", "archive");
}

/// A pair of which the replica has acked `rearrange` and revealed none of it.
struct Acked {
    ground: Ground,
    replica: Replica,
    before: Snapshot,
    after: Snapshot,
    position: crate::words::position::Position,
}

fn acked() -> Acked {
    let ground = Ground::new();
    furnish(&ground.source());
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    let before = ground.look_at_source();
    assert_eq!(differences(&before, &ground.look()), Vec::<String>::new());
    rearrange(&ground.source());
    let generation = primary.generation();
    let sections: std::collections::BTreeSet<_> =
        generation.operations.iter().map(|(operation, _)| operation.action.section()).collect();
    assert_eq!(sections.len(), 6, "every kind of operation is to be interrupted");
    ack(&mut replica, &generation, &mut Dice::new(2)).unwrap();
    let after = ground.look_at_source();
    assert_eq!(differences(&before, &ground.look()), Vec::<String>::new(), "an ack reveals nothing");
    Acked { ground, replica, before, after, position: generation.header.position }
}

fn assert_recovered(ground: &Ground, expected: &Snapshot, position: crate::words::position::Position, label: &str) {
    let (replica, opening) = ground.try_open().unwrap_or_else(|error| panic!("{label}: {error:?}"));
    assert!(matches!(opening, Opening::Recovered(_)), "{label}: {opening:?}");
    assert_eq!(differences(expected, &ground.look()), Vec::<String>::new(), "{label}");
    assert_eq!(replica.standing().position, position, "{label}");
    assert_eq!(ground.litter(), Vec::<String>::new(), "{label}");
    assert_eq!(ground.bundles(), Vec::<PathBuf>::new(), "{label}");
    assert!(replica.is_promotable() && !replica.is_untidy());
}

#[test]
fn a_reveal_cut_off_after_any_step_is_finished_when_the_replica_is_opened() {
    let mut dice = Dice::new(7);
    for changes in 0.. {
        let Acked { ground, replica, after, position, .. } = acked();
        let disk = Faulty::after(replica.root(), changes);
        let first = replica.steps(&disk);
        if first.is_ok() {
            assert!(changes > 40, "only {changes} steps?");
            return;
        }
        // A second crash, somewhere in the second attempt.
        let more = dice.index(60);
        replica.steps(&Faulty::after(replica.root(), more)).ok();
        drop(replica);
        assert_recovered(&ground, &after, position, &format!("after {changes} steps, then {more}"));
    }
}

#[test]
fn a_failed_reveal_is_finished_by_the_next() {
    let Acked { ground, mut replica, after, .. } = acked();
    for changes in [3, 11, 29] {
        replica.steps(&Faulty::after(replica.root(), changes)).unwrap_err();
        assert!(!replica.is_promotable());
    }
    replica.reveal().unwrap();
    assert_eq!(differences(&after, &ground.look()), Vec::<String>::new());
    replica.tidy().unwrap();
    assert_eq!(ground.litter(), Vec::<String>::new());
}

#[test]
fn what_was_staged_and_not_acked_is_gone() {
    let ground = Ground::new();
    furnish(&ground.source());
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    let before = ground.look_at_source();
    let standing = replica.standing();
    rearrange(&ground.source());
    let generation = primary.generation();
    drop(stage(&mut replica, &generation, &mut Dice::new(1)).unwrap());
    assert_eq!(ground.litter(), [format!("stage/{}", generation.header.position)]);
    drop(replica);
    assert_recovered(&ground, &before, standing.position, "staged");
    // And the same generation can come again.
    let mut replica = ground.open();
    assert_eq!(replica.standing(), standing);
    take(&mut replica, &generation, &mut Dice::new(5)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}

#[test]
fn what_was_acked_is_there_whether_revealed_or_tidied_up_or_not() {
    for stop in 0..4 {
        let Acked { ground, mut replica, before, after, position } = acked();
        if stop > 0 {
            assert_eq!(replica.reveal().unwrap(), Some(position));
        }
        if stop > 1 {
            replica.tidy().unwrap();
        }
        assert_eq!(replica.standing().position, position);
        drop(replica);
        assert_ne!(before, after);
        for _ in 0..2 {
            assert_recovered(&ground, &after, position, &format!("stopped at {stop}"));
        }
    }
}

/// Some generations acked, some of them revealed, the next cut off somewhere, none tidied up: then a crash.
#[test]
fn several_generations_in_every_state_come_out_whole() {
    for seed in 100..108 {
        let ground = Ground::new();
        let mut dice = Dice::new(seed);
        let mut replica = ground.open();
        let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
        let mut churn =
            Churn { at: ground.source(), dice: Dice::new(seed), is_root: rustix::process::geteuid().is_root() };
        (0..40).for_each(|_| churn.step());
        take(&mut replica, &primary.generation(), &mut dice).unwrap();
        for round in 0..10 {
            for _ in 0..1 + dice.index(4) {
                (0..1 + dice.index(12)).for_each(|_| churn.step());
                ack(&mut replica, &primary.generation(), &mut dice).unwrap();
                if dice.index(2) == 0 {
                    replica.reveal().unwrap();
                }
            }
            if dice.index(4) == 0 {
                replica.tidy().unwrap();
            }
            replica.steps(&Faulty::after(replica.root(), dice.index(30))).ok();
            let standing = replica.standing();
            drop(replica);
            replica = ground.open();
            let label = format!("seed {seed}, round {round}");
            assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new(), "{label}");
            assert_eq!(replica.standing(), standing, "{label}");
            assert_eq!(ground.litter(), Vec::<String>::new(), "{label}");
        }
    }
}

#[test]
fn an_index_of_any_age_is_brought_to_where_the_journal_is() {
    let ground = Ground::new();
    furnish(&ground.source());
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    drop(replica);
    let index = ground.state().join("replica.redb");
    let saved = ground.state().join("saved");
    fs::copy(&index, &saved).unwrap();
    let mut replica = ground.open();
    for number in 0..4 {
        match number {
            0 => rearrange(&ground.source()),
            1 => fs::rename(ground.source().join("right"), ground.source().join("again")).unwrap(),
            _ => fs::write(ground.source().join("fresh"), format!("{number}")).unwrap(),
        }
        take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    }
    let (standing, rows) = (replica.standing(), inodes(&replica));
    drop(replica);
    fs::copy(&saved, &index).unwrap();
    let (mut replica, opening) = ground.try_open().unwrap();
    assert_eq!((replica.standing(), opening), (standing, Opening::Recovered(0)));
    assert_eq!(inodes(&replica), rows, "the inodes are known from the journal");
    // And it can be worked on: edits find their files.
    let log = fs::OpenOptions::new().append(true).open(ground.source().join("log.1")).unwrap();
    std::io::Write::write_all(&mut &log, b"and one more\n").unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}

fn inodes(replica: &Replica) -> Vec<(RelPath, u64)> {
    let mut all = Vec::new();
    let mut below = vec![(RelPath::root(), replica.tree().root().clone())];
    while let Some((path, row)) = below.pop() {
        if let Some(directory) = &row.directory {
            replica
                .tree()
                .for_children::<crate::thought::tree::TreeError>(directory.id, |name, row| {
                    below.push((path.join(&name), row));
                    Ok(())
                })
                .unwrap();
        }
        all.push((path, row.inode.id.ino));
    }
    all.sort();
    all
}

/// The index lost, or one that the journal knows nothing of: the disk is read, and the next generation is taken whatever its position.
#[test]
fn without_its_index_a_replica_is_read_again_and_goes_on() {
    for lost in ["removed", "garbage", "of another history"] {
        let Acked { ground, replica, after, position, .. } = acked();
        drop(replica);
        let index = ground.state().join("replica.redb");
        match lost {
            "removed" => fs::remove_file(&index).unwrap(),
            "garbage" => fs::write(&index, "garbage").unwrap(),
            _ => {
                let other = Ground::new();
                fs::write(other.source().join("x"), "x").unwrap();
                let mut replica = other.open();
                let mut primary = Primary::new(&other.source(), &other.state(), replica.tree().root());
                take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
                drop(replica);
                fs::copy(other.state().join("replica.redb"), &index).unwrap();
            }
        }
        let (mut replica, opening) = ground.try_open().unwrap();
        assert_eq!(opening, Opening::Reread, "{lost}");
        assert_eq!(differences(&after, &ground.look()), Vec::<String>::new(), "what was acked is revealed: {lost}");
        assert_eq!(replica.standing().position, Default::default());
        assert!(!replica.is_promotable());
        let rows: Vec<RelPath> = inodes(&replica).into_iter().map(|(path, _)| path).collect();
        assert_eq!(rows, after.keys().cloned().collect::<Vec<_>>(), "the tree has what the disk has: {lost}");
        // A primary that is where the replica once was.
        let before = crate::words::position::Position { generation: position.generation - 1, ..position };
        fs::write(ground.source().join("three"), "changed meanwhile").unwrap();
        let mut primary = Primary::meeting(&ground.source(), &ground.state(), &replica, before);
        let generation = primary.generation();
        assert_eq!(generation.header.position, position);
        take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
        assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new(), "{lost}");
        drop(replica);
        assert_eq!(ground.open().standing().position, position, "{lost}");
    }
}

/// An index put back from a backup, when the journal knows of what came since only that it is done.
#[test]
fn an_index_older_than_what_the_journal_has_forgotten_is_not_believed() {
    let ground = Ground::new();
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let mut take = |replica: &mut Replica| {
        take(replica, &primary.generation(), &mut Dice::new(1)).unwrap();
        replica.settle().unwrap();
    };
    fs::write(ground.source().join("one"), "1").unwrap();
    take(&mut replica);
    drop(replica);
    let (index, kept) = (ground.state().join("replica.redb"), ground.state().join("kept"));
    fs::copy(&index, &kept).unwrap();
    let mut replica = ground.open();
    // More than a segment of the journal takes.
    for number in 0..4400 {
        let target = format!("{}/{number}", "long".repeat(990));
        std::os::unix::fs::symlink(target, ground.source().join(format!("link-{number}"))).unwrap();
    }
    take(&mut replica);
    let position = replica.standing().position;
    assert_eq!(replica.log.stats().segments, 1, "its operations were pruned");
    drop(replica);
    fs::copy(&kept, &index).unwrap();
    let (replica, opening) = ground.try_open().unwrap();
    assert_eq!(opening, Opening::Reread);
    assert!(replica.tree().row(&RelPath::parse(b"link-4399").unwrap()).unwrap().is_some());
    drop(replica);
    let (replica, opening) = ground.try_open().unwrap();
    assert_eq!((opening, replica.standing().position), (Opening::Recovered(0), Default::default()), "not {position}");
}

#[test]
fn an_index_that_was_never_finished_is_not_believed() {
    let Acked { ground, replica, after, .. } = acked();
    drop(replica);
    let index = ground.state().join("replica.redb");
    fs::remove_file(&index).unwrap();
    drop(crate::index::Index::open(&index).unwrap());
    let (_, opening) = ground.try_open().unwrap();
    assert_eq!(opening, Opening::Reread);
    assert_eq!(differences(&after, &ground.look()), Vec::<String>::new());
}

#[test]
fn what_a_generation_claims_is_remembered_with_the_position() {
    let ground = Ground::new();
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let mut dice = Dice::new(1);
    assert_eq!(replica.claim(), None);
    for (number, is_tidied) in [(1, true), (2, false), (3, true)] {
        fs::write(ground.source().join("file"), format!("{number}")).unwrap();
        let mut generation = primary.generation();
        let reason = if number == 2 { Reason::Conflict } else { Reason::Polled };
        generation.header.quality = Quality::Fuzzy(vec![reason]);
        generation.header.deferred.add(&path("deferred"));
        primary.chain = generation.header.chain();
        ack(&mut replica, &generation, &mut dice).unwrap();
        if is_tidied {
            replica.reveal().unwrap();
            replica.tidy().unwrap();
        }
        // Not tidied, the index knows nothing of it: the journal does.
        drop(replica);
        replica = ground.open();
        assert_eq!(replica.claim(), Some(&generation.header.claim()));
        assert_eq!(replica.standing().position, generation.header.position);
    }
}
