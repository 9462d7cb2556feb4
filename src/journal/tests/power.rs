use std::io::ErrorKind;

use super::sim::{Cut, Sim};
use super::{Told, at, open, record};
use crate::journal::{JournalError, RecordKind, Recovered};

/// How many calls the whole story makes.
fn calls() -> usize {
    let sim = Sim::default();
    let mut told = Told::default();
    let (mut log, recovered) = open(&sim).unwrap();
    assert_eq!(recovered, Recovered::default());
    told.live(&mut log).unwrap();
    assert!(log.stats().segments > 2);
    sim.calls()
}

/// Tells the story on a disk that fails as `sim` is set up to.
fn tell(sim: &Sim) -> (Told, Result<(), JournalError>) {
    let mut told = Told::default();
    let result = open(sim).and_then(|(mut log, _)| {
        let result = told.live(&mut log);
        if result.is_err() {
            let ack = record(RecordKind::Staged { part: 0 }, 99, b"");
            assert!(matches!(log.append(&ack), Err(JournalError::Poisoned)));
            assert!(matches!(log.sync(), Err(JournalError::Poisoned)));
            assert!(matches!(log.prune(at(99)), Err(JournalError::Poisoned)));
        }
        result
    });
    (told, result)
}

/// Opens what is left, checks that it is the synced records and a prefix of the others, and that the log goes on from there.
fn check(sim: &Sim, told: &Told, case: &str) {
    let (mut log, recovered) = open(sim).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert_eq!(sim.names().len(), log.stats().segments, "{case}: litter");
    let mut told = told.clone();
    let count = told.explains(&log, &recovered, told.synced);
    let count = count.unwrap_or_else(|| panic!("{case}: {recovered:?} after {} synced", told.synced));
    // What was recovered is durable from now on.
    told.records.truncate(count);
    told.synced = count;
    let again = sim.after(Cut::Unsynced);
    let (second, recovered) = open(&again).unwrap_or_else(|error| panic!("{case}, again: {error:?}"));
    assert_eq!(told.explains(&second, &recovered, count), Some(count), "{case}: not durable after opening");
    assert_eq!(recovered.torn, None, "{case}");
    // And the log goes on.
    told.append(&mut log, RecordKind::Staged { part: 0 }, 50, &[5; 300]).unwrap();
    told.append(&mut log, RecordKind::Acked, 50, b"").unwrap();
    told.sync(&mut log).unwrap();
    let (log, recovered) = open(&sim.after(Cut::Unsynced)).unwrap_or_else(|error| panic!("{case}, on: {error:?}"));
    assert_eq!(told.explains(&log, &recovered, told.synced), Some(told.synced), "{case}: cannot go on");
}

#[test]
fn whatever_the_power_cut_synced_records_stay_and_later_ones_are_a_prefix() {
    for call in 0..calls() {
        let sim = Sim::default();
        sim.fail_at(call, ErrorKind::Other, true);
        let (told, result) = tell(&sim);
        assert!(result.is_err());
        for cut in [Cut::None, Cut::Unsynced].into_iter().chain((1..20).map(|seed| Cut::Torn(100 * call as u64 + seed)))
        {
            check(&sim.after(cut), &told, &format!("cut {cut:?} at call {call}"));
        }
    }
}

#[test]
fn a_failed_call_poisons_the_log_and_a_new_one_keeps_what_it_shows() {
    for call in 0..calls() {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let sim = Sim::default();
            sim.fail_at(call, kind, false);
            let (told, result) = tell(&sim);
            // Room that cannot be had when opening is no failure; every other call is.
            assert!(
                matches!(result, Err(JournalError::Medium { .. })) || kind == ErrorKind::StorageFull,
                "call {call}"
            );
            check(&sim.after(Cut::None), &told, &format!("{kind:?} at call {call}"));
            check(&sim.after(Cut::Unsynced), &told, &format!("{kind:?} at call {call}, then a power cut"));
        }
    }
}

#[test]
fn a_power_cut_while_recovering_loses_nothing_more() {
    let total = calls();
    for call in (0..total).step_by(3) {
        let sim = Sim::default();
        sim.fail_at(call, ErrorKind::Other, true);
        let (told, _) = tell(&sim);
        for seed in 1..4 {
            let broken = sim.after(Cut::Torn(seed));
            let opening = broken.after(Cut::None);
            drop(open(&opening).unwrap());
            for second in 0..opening.calls() {
                let broken = broken.after(Cut::None);
                broken.fail_at(second, ErrorKind::Other, true);
                assert!(open(&broken).is_err());
                check(&broken.after(Cut::Torn(seed + 7)), &told, &format!("cuts at {call} and {second}, seed {seed}"));
            }
        }
    }
}

#[test]
fn an_append_costs_no_call_and_a_sync_two() {
    let sim = Sim::default();
    let (mut log, _) = open(&sim).unwrap();
    let before = sim.calls();
    for part in 0..5 {
        log.append(&record(RecordKind::Staged { part }, 1, b"x")).unwrap();
    }
    assert_eq!(sim.calls() - before, 0);
    log.sync().unwrap();
    log.sync().unwrap();
    assert_eq!(sim.calls() - before, 2);
}
