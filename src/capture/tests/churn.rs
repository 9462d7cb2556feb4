//! Cuts that cannot be proven, or cannot take everything: whatever they made of it, nothing is forgotten (G4).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::bench::{BACKENDS, Bench, noise, path};
use super::grown::meanwhile;
use super::random::Writer;
use crate::capture::{RoundOptions, Wanted};
use crate::fs::Root;
use crate::thought::dice::Dice;
use crate::thought::generation::{Action, Quality, Reason};
use crate::watch::Options;
use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;

fn churn(seed: u64, rounds: u32, paths: usize) {
    let mut bench = Bench::new(BACKENDS[usize::from(seed % 2 == 1)]);
    bench.rounds.rounds = rounds;
    bench.rounds.persistence = Duration::ZERO;
    bench.rounds.paths = paths;
    let home = bench.home.clone();
    let mut writer = Writer { home: &home, dice: Dice::new(seed), log: Vec::new() };
    for _ in 0..40 {
        writer.step();
    }
    let mut consistent = 0;
    let work = |_| {
        writer.step();
        std::thread::sleep(Duration::from_micros(300));
    };
    meanwhile(work, || {
        for _ in 0..15 {
            consistent += usize::from(bench.cut().quality == Quality::Consistent);
        }
    });
    let log = writer.log;
    println!("seed {seed}: {consistent} of 15 consistent, {} operations\n{}", log.len(), log.join("\n"));
    bench.settle();
    bench.assert_same();
}

#[test]
fn after_cuts_amid_constant_change_the_tree_becomes_what_is_on_disk() {
    for seed in 0..3 {
        churn(seed, 1, 60_000);
        churn(seed + 100, 4, 60_000);
    }
}

#[test]
fn after_cuts_that_take_little_at_a_time_the_tree_becomes_what_is_on_disk() {
    for seed in 200..206 {
        churn(seed, 2, 5);
    }
}

#[test]
#[ignore = "minutes: the same with many more seeds"]
fn after_cuts_amid_constant_change_the_tree_becomes_what_is_on_disk_long() {
    for seed in 1000..1200 {
        churn(seed, 1 + u32::try_from(seed % 4).unwrap(), if seed % 3 == 0 { 7 } else { 60_000 });
    }
}

#[test]
fn an_inode_with_more_dirty_names_than_a_cut_takes_paths_is_proven() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("0", noise(1, 5000));
    for index in 1..10 {
        fs::hard_link(bench.at("0"), bench.at(&index.to_string())).unwrap();
    }
    bench.settle();
    (bench.rounds.rounds, bench.rounds.persistence, bench.rounds.paths) = (1, Duration::ZERO, 3);
    for index in 0..10 {
        let readable = fs::Permissions::from_mode(0o600 + index % 2);
        fs::set_permissions(bench.at(&index.to_string()), readable).unwrap();
    }
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_directory_renamed_across_the_limit_keeps_what_is_in_it() {
    let mut bench = Bench::new(BACKENDS[0]);
    for index in 0..10 {
        bench.make(&format!("m/{index}"), noise(index, 5000));
    }
    bench.settle();
    bench.rounds.paths = 2;
    // The old name is taken first, the new one is left for later.
    fs::rename(bench.at("m"), bench.at("z")).unwrap();
    bench.make("a", "x");
    let cut = bench.cut();
    assert_eq!(cut.quality, Quality::Partial, "{cut:?}");
    assert!(cut.deferred.sample.contains(&path("z")), "{:?}", cut.deferred);
    bench.settle();
    bench.assert_same();
}

#[test]
fn no_rounds_are_one_round() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.rounds.rounds = 0;
    bench.make("a", "x");
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_clock_that_is_set_during_a_round_spoils_it() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.rounds.persistence = Duration::ZERO;
    bench.settle();
    let asked = Cell::new(0);
    let stepping = || {
        let mut moment = super::bench::moment();
        asked.set(asked.get() + 1);
        moment.realtime.seconds -= asked.get();
        moment
    };
    bench.make("a", "x");
    let (cut, capturer) = bench.cut_by(&Wanted::new(), &stepping);
    assert_eq!(cut.quality, Quality::Fuzzy(vec![Reason::ClockStepped]));
    assert_eq!(cut.rounds, bench.rounds.rounds);
    bench.take(&cut, capturer);
    bench.settle();
    bench.assert_same();
}

/// Whether the watch looks at each new name in time or not, nothing that was written under it is missed.
#[test]
fn what_is_written_through_a_link_that_is_gone_before_the_cut_is_captured() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        let files: Vec<String> = (0..200).map(|number| format!("d{}/{number}", number % 3)).collect();
        files.iter().for_each(|file| bench.make(file, "before"));
        bench.settle();
        for (number, file) in files.iter().enumerate() {
            let (link, moved) = (bench.at("link"), bench.at("d0/moved"));
            fs::hard_link(bench.at(file), &link).unwrap();
            fs::write(&link, format!("after {number}")).unwrap();
            match number % 2 {
                0 => fs::remove_file(&link).unwrap(),
                _ => {
                    fs::rename(&link, &moved).unwrap();
                    fs::remove_file(&moved).unwrap();
                }
            }
        }
        bench.settle();
        bench.assert_same();
    }
}

/// A cut in which `hot` is written after the first barrier, so that there is a second round, and at the given look at the clock `slot` through
/// a link that is gone at once: its events name the link alone.
fn written_by_a_name_that_came_and_went(at_look: u32) {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("hot", noise(1, 500));
    bench.settle();
    let home = bench.home.clone();
    let looks = Cell::new(0);
    let meddling = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            fs::write(home.join("hot"), noise(2, 500)).unwrap();
        }
        if looks.get() == at_look {
            fs::hard_link(home.join("slot"), home.join("link")).unwrap();
            fs::write(home.join("link"), noise(3, 500)).unwrap();
            fs::remove_file(home.join("link")).unwrap();
        }
        super::bench::moment()
    };
    bench.make("slot", noise(4, 500));
    // Older than the first barrier, by the clock of change times.
    std::thread::sleep(Duration::from_millis(20));
    let (cut, capturer) = bench.cut_by(&Wanted::new(), &meddling);
    bench.take(&cut, capturer);
    // What the root was last changed by is in the cut, or came after it: the link that was made and removed.
    let root = Root::open(&bench.home).unwrap().stat(&RelPath::root()).unwrap().unwrap();
    if cut.quality == Quality::Consistent && bench.tree.root().entry.mtime == root.mtime {
        let slot = fs::read(bench.at("slot")).unwrap();
        assert_eq!(bench.row("slot").entry.content(), Some(Digest::of(&slot)), "written at look {at_look}");
    }
}

#[test]
fn what_was_captured_and_is_written_by_a_name_that_came_and_went_is_captured_again() {
    for at_look in 3..16 {
        written_by_a_name_that_came_and_went(at_look);
    }
}

/// A cut in which `hot` is written after the first barrier, so that there is a second round without `file`.
#[test]
fn an_inode_with_names_outside_stays_watched_though_not_every_round_looks_at_it() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("hot", noise(1, 500));
    bench.make("file", "one");
    let other = bench.outside().join("other");
    fs::hard_link(bench.at("file"), &other).unwrap();
    bench.settle();
    bench.make("file", "two");
    bench.make("hot", noise(2, 500));
    std::thread::sleep(Duration::from_millis(20));
    let (hot, looks) = (bench.at("hot"), Cell::new(0));
    let meddling = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            fs::write(&hot, noise(3, 500)).unwrap();
        }
        super::bench::moment()
    };
    let (cut, capturer) = bench.cut_by(&Wanted::new(), &meddling);
    assert!(cut.rounds > 1, "{cut:?}");
    bench.take(&cut, capturer);
    fs::write(&other, "three").unwrap();
    bench.settle();
    assert_eq!(bench.content("file"), b"three");
}

#[test]
fn what_is_written_by_a_name_that_is_left_out_is_captured() {
    for backend in BACKENDS {
        let options = Options { backend, ..Options::default() };
        let mut bench = Bench::with(options, &["*.tmp"]);
        bench.make("file", "one");
        bench.settle();
        fs::hard_link(bench.at("file"), bench.at("link.tmp")).unwrap();
        fs::write(bench.at("link.tmp"), "two").unwrap();
        bench.settle();
        assert_eq!(bench.content("file"), b"two", "{backend:?}");
        fs::write(bench.at("link.tmp"), "three").unwrap();
        bench.settle();
        assert_eq!(bench.content("file"), b"three", "{backend:?}");
        fs::rename(bench.at("link.tmp"), bench.at("again.tmp")).unwrap();
        fs::write(bench.at("again.tmp"), "four").unwrap();
        fs::remove_file(bench.at("again.tmp")).unwrap();
        bench.settle();
        assert_eq!(bench.content("file"), b"four", "{backend:?}");
    }
}

/// Condition (c) by itself: a write whose change time was taken before the first barrier and whose bytes came after it has nothing to show but
/// its event. A file that is opened for writing and closed has just that.
#[test]
fn events_between_the_barriers_spoil_a_round_though_no_time_has_changed() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.rounds.persistence = Duration::ZERO;
    bench.make("slot", noise(1, 500));
    bench.settle();
    let slot = bench.at("slot");
    let open_and_close = |_| drop(fs::OpenOptions::new().write(true).open(&slot).unwrap());
    // On a busy machine all rounds of a cut may fall between two of them.
    let mut is_spoilt = false;
    meanwhile(open_and_close, || {
        for seed in 0..500 {
            bench.make("slot", noise(seed, 500));
            std::thread::sleep(Duration::from_millis(20));
            let cut = bench.cut();
            is_spoilt = cut.quality == Quality::Fuzzy(vec![Reason::Conflict]);
            if is_spoilt {
                assert_eq!(cut.left, Some([path("slot")].into()), "what it left");
                break;
            }
        }
    });
    assert!(is_spoilt, "no cut met an event between its barriers");
    bench.settle();
    bench.assert_same();
}

/// That a name went was told, and that it is there again was not and never will be: its directory is another, and was watched only after.
#[test]
fn a_name_in_a_directory_made_anew_is_not_waited_for() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("d/name", "old");
        bench.settle();
        fs::remove_dir_all(bench.at("d")).unwrap();
        bench.make("d/name", "new");
        let directory = bench.at("d");
        // Not so often that the directory itself is in motion in every round.
        let save = |number| {
            std::thread::sleep(Duration::from_millis(60));
            fs::write(directory.join(format!("other-{number}")), "content").unwrap();
        };
        let proven = |_| bench.cut().quality == Quality::Consistent && bench.has("d/name");
        assert!(meanwhile(save, || (0..20).any(proven)), "{backend:?}: no cut was proven");
        bench.settle();
        bench.assert_same();
    }
}

#[test]
fn a_cut_that_no_event_came_in_time_for_does_not_say_that_it_left_nothing() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.settle();
    let patient = bench.rounds;
    bench.rounds = RoundOptions { rounds: 1, persistence: Duration::ZERO, barrier_timeout: Duration::ZERO, ..patient };
    bench.make("a", "x");
    assert_eq!(bench.cut().left, None);
    bench.rounds = patient;
    assert_eq!(bench.cut().left, Some(BTreeSet::new()));
    bench.assert_same();
}

#[test]
fn a_change_time_from_a_clock_that_was_ahead_is_no_conflict() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("a", "x");
    bench.settle();
    // It cannot be set from here; an inode of that kind is one whose change time is later than the closing barrier.
    std::thread::sleep(Duration::from_millis(5));
    bench.make("b", "y");
    let cut = bench.cut();
    assert!(cut.rounds <= 2, "{} rounds for a home that is quiet", cut.rounds);
}

#[test]
fn a_name_that_another_lost_is_captured_with_it() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("d/x", "content");
        fs::hard_link(bench.at("d/x"), bench.at("y")).unwrap();
        bench.settle();
        fs::remove_dir_all(bench.at("d")).unwrap();
        let cut = bench.cut();
        assert!(cut.captures.contains_key(&path("y")));
        let actions: Vec<_> = cut.steps.iter().map(|step| &step.operation.action).collect();
        assert!(
            actions.iter().any(|action| matches!(action, Action::Attributes { entry, .. } if entry.link.is_none()))
        );
        bench.assert_same();
    }
}

#[test]
fn of_a_file_that_changed_since_the_barrier_no_time_is_remembered_that_a_restart_could_take_for_unchanged() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("hot", "00000000");
        bench.make("calm", "00000000");
        bench.settle();
        // More rounds would find a moment in which the writer has no processor.
        bench.rounds.rounds = 1;
        bench.rounds.persistence = Duration::ZERO;
        let ending = std::sync::atomic::AtomicBool::new(false);
        let hot = bench.at("hot");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                use std::os::unix::fs::FileExt as _;
                let file = std::fs::OpenOptions::new().write(true).open(&hot).unwrap();
                for step in 0_u32.. {
                    file.write_all_at(format!("{:08}", step % 100_000_000).as_bytes(), 0).unwrap();
                    if ending.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let (mut forgotten, mut met) = (0, 0);
            while forgotten <= 5 && met < 300 {
                let cut = bench.cut();
                if !cut.captures.contains_key(&path("hot")) {
                    // The writer waits for a processor.
                    std::thread::yield_now();
                    continue;
                }
                met += 1;
                let hot = bench.row("hot").inode.ctime;
                assert!(hot < cut.cut_time, "{hot:?} may be the time of two writes");
                forgotten += u32::from(hot == Timestamp::default());
            }
            ending.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap();
            assert!(forgotten > 0, "none of {met} cuts met a change since its barrier");
            assert!(bench.row("calm").inode.ctime != Timestamp::default());
        });
    }
}
