//! A mirror that is made again: only what changed is touched, and nothing when nothing did.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::Bed;
use common::build;
use common::compare::Snapshot;

/// Changes a home at random; about one file in ten.
fn change(bed: &Bed, dice: &mut Dice) {
    let files: Vec<PathBuf> = Snapshot::of(&bed.source())
        .unwrap()
        .items
        .into_iter()
        .filter(|(_, item)| item.kind == 'f')
        .map(|(path, _)| bed.src(path))
        .collect();
    for _ in 0..files.len() / 10 {
        let file = &files[dice.index(files.len())];
        if !file.is_file() {
            continue;
        }
        match dice.index(7) {
            0 => build::append(file, dice.noise(500)),
            1 => build::file(file, dice.noise(3000)),
            2 => build::overwrite(file, b"in place", 100),
            3 => fs::remove_file(file).unwrap(),
            4 => fs::rename(file, file.with_extension(format!("moved-{}", dice.index(1000)))).unwrap(),
            5 => build::mode(file, 0o600),
            _ => build::mtime(file, 1_500_000_000, 77),
        }
    }
    let job = |number: usize| bed.src(format!("jobs/job-{number}"));
    fs::rename(job(dice.index(4)), bed.src(format!("jobs/renamed-{}", dice.index(1_000_000)))).ok();
    fs::remove_dir_all(job(4 + dice.index(4))).ok();
    build::file(&bed.src(format!("jobs/new-{}/config.xml", dice.index(1_000_000))), "<project/>");
}

#[test]
fn a_second_mirror_touches_what_changed_and_is_equal() {
    for seed in 0..4 {
        let bed = Bed::new();
        let mut dice = Dice::new(seed);
        build::home(&bed.source(), seed);
        bed.mirror_once_and_compare();
        let (source, copy) = (Snapshot::of(&bed.source()).unwrap(), Snapshot::of(&bed.destination()).unwrap());
        change(&bed, &mut dice);
        bed.mirror_once_and_compare();
        let (source_after, copy_after) =
            (Snapshot::of(&bed.source()).unwrap(), Snapshot::of(&bed.destination()).unwrap());
        // What is the same inode with the same change time in the source is so in the copy.
        let untouched = source.locals.iter().filter(|(path, local)| source_after.locals.get(*path) == Some(local));
        let mut count = 0;
        let mut touched = BTreeSet::new();
        for (path, _) in untouched.filter(|(path, _)| source.items[*path].kind == 'f') {
            count += 1;
            if copy.locals[path] != copy_after.locals[path] {
                touched.insert(path);
            }
        }
        assert!(count > 20, "something was left unchanged");
        assert!(touched.is_empty(), "seed {seed}: touched without need: {touched:?}");
    }
}

#[test]
fn a_mirror_of_what_did_not_change_makes_no_operation() {
    let bed = Bed::new();
    build::home(&bed.source(), 9);
    bed.mirror_once_and_compare();
    change(&bed, &mut Dice::new(9));
    bed.mirror_once_and_compare();
    let before = Snapshot::of(&bed.destination()).unwrap();
    for _ in 0..2 {
        bed.mirror_once_and_compare();
        let after = Snapshot::of(&bed.destination()).unwrap();
        assert_eq!(after.items, before.items);
        // No inode was made or changed, the root's own included.
        let moved = after.locals.iter().filter(|(path, local)| before.locals.get(*path) != Some(local));
        assert_eq!(moved.collect::<Vec<_>>(), []);
    }
}

#[test]

fn what_was_changed_by_hand_in_the_replica_is_mended() {
    let bed = Bed::new();
    build::home(&bed.source(), 10);
    bed.mirror_once_and_compare();
    build::append(&bed.dst("plugins/git.jpi"), "by hand");
    build::file(&bed.dst("jobs/job-1/extra"), "by hand");
    fs::remove_file(bed.dst("jobs/job-2/config.xml")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn nothing_but_the_source_and_its_own_directory_is_written_to_the_source() {
    let bed = Bed::new();
    build::home(&bed.source(), 11);
    let before = Snapshot::of(&bed.source()).unwrap();
    bed.mirror_once_and_compare();
    let after = Snapshot::of(&bed.source()).unwrap();
    // The root gets `.hotspare`, which moves its times.
    let others = |snapshot: &Snapshot| {
        let mut items = snapshot.items.clone();
        items.remove(".");
        items
    };
    assert_eq!(others(&after), others(&before));
}

#[test]
fn filters_leave_out_and_take_in() {
    let bed = Bed::new();
    for name in ["keep/a.txt", "keep/b.tmp", "cache/x", "cache/keep", "workspace/file", "jobs/a/builds/1/log"] {
        build::file(&bed.src(name), name);
    }
    let args = ["--once", "--preset", "jenkins", "--exclude", "*.tmp", "--include", "/cache/"];
    let ended = common::finish(bed.mirror(&args));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let copy = Snapshot::of(&bed.destination()).unwrap();
    let files: Vec<&str> =
        copy.items.iter().filter(|(_, item)| item.kind == 'f').map(|(path, _)| path.as_str()).collect();
    assert_eq!(files, ["cache/keep", "cache/x", "jobs/a/builds/1/log", "keep/a.txt"]);
}
