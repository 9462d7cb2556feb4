use super::sim::{Cut, Sim};
use super::{Told, at, open, record};
use crate::journal::{JournalError, Location, PAYLOAD_CAP, RecordKind, State};

const FIRST: RecordKind = RecordKind::Staged { part: 0 };

#[test]
fn a_record_that_does_not_follow_is_refused_and_changes_nothing() {
    use RecordKind::{Acked, Done, Dropped, Revealed, Staged};
    let all = [FIRST, Staged { part: 1 }, Staged { part: 2 }, Acked, Revealed, Done, Dropped];
    let table: [(&[RecordKind], &[RecordKind]); 7] = [
        (&[], &[FIRST]),
        (&[FIRST], &[Staged { part: 1 }, Acked, Dropped]),
        (&[FIRST, Staged { part: 1 }], &[Staged { part: 2 }, Acked, Dropped]),
        (&[FIRST, Acked], &[Revealed]),
        (&[FIRST, Acked, Revealed], &[Done]),
        (&[FIRST, Acked, Revealed, Done], &[]),
        (&[FIRST, Dropped], &[FIRST]),
    ];
    for (before, allowed) in table {
        for kind in all {
            let (mut log, _) = open(&Sim::default()).unwrap();
            for &kind in before {
                log.append(&record(kind, 1, b"")).unwrap();
            }
            let state = log.state(at(1));
            let result = log.append(&record(kind, 1, b""));
            if allowed.contains(&kind) {
                result.unwrap();
            } else {
                assert!(matches!(result, Err(JournalError::OutOfOrder { .. })), "{kind:?} after {before:?}");
                assert_eq!(log.state(at(1)), state);
                log.append(&record(FIRST, 2, b"")).unwrap();
            }
        }
    }
}

#[test]
fn a_payload_beyond_the_cap_is_refused() {
    let (mut log, _) = open(&Sim::default()).unwrap();
    let result = log.append(&record(FIRST, 1, &vec![0; PAYLOAD_CAP + 1]));
    assert!(matches!(result, Err(JournalError::TooLong(_))));
    assert_eq!(log.state(at(1)), None);
    log.append(&record(FIRST, 1, &vec![0; PAYLOAD_CAP])).unwrap();
}

#[test]
fn a_record_can_be_read_before_it_is_synced_and_after() {
    let sim = Sim::default();
    let (mut log, _) = open(&sim).unwrap();
    let first = log.append(&record(FIRST, 1, b"one")).unwrap();
    let second = log.append(&record(RecordKind::Acked, 1, b"two")).unwrap();
    for _ in 0..2 {
        assert_eq!(log.read(&first).unwrap(), b"one");
        assert_eq!(log.read(&second).unwrap(), b"two");
        log.sync().unwrap();
    }
    for wrong in [
        Location { segment: 9, ..first },
        Location { offset: 0, ..first },
        Location { offset: u64::MAX, ..first },
        Location { length: u32::MAX, ..first },
    ] {
        assert!(matches!(log.read(&wrong), Err(JournalError::NoRecord { .. })), "{wrong:?}");
    }
    assert!(log.read(&Location { length: 2, ..first }).is_err());
    assert!(log.read(&Location { offset: first.offset + 1, ..first }).is_err());
}

#[test]
fn pruning_stops_at_the_first_generation_that_is_open_or_too_new() {
    let sim = Sim::default();
    let (mut log, _) = open(&sim).unwrap();
    let mut told = Told::default();
    for generation in 1..=6 {
        told.append(&mut log, FIRST, generation, &[0; 700]).unwrap();
        told.append(&mut log, RecordKind::Acked, generation, b"").unwrap();
    }
    told.sync(&mut log).unwrap();
    assert_eq!((log.stats().segments, log.stats().open_generations), (6, 6));
    assert_eq!(log.prune(at(6)).unwrap(), 0);
    for generation in [1, 2, 4, 5] {
        told.append(&mut log, RecordKind::Revealed, generation, b"").unwrap();
        told.append(&mut log, RecordKind::Done, generation, b"").unwrap();
    }
    assert_eq!(log.prune(at(1)).unwrap(), 1);
    assert_eq!(log.prune(at(6)).unwrap(), 1);
    assert_eq!(log.prune(at(6)).unwrap(), 0);
    told.pruned = 6;
    told.synced = told.records.len();
    let (log, recovered) = open(&sim.after(Cut::Unsynced)).unwrap();
    assert_eq!(told.explains(&log, &recovered, told.synced), Some(told.synced));
    assert_eq!(log.state(at(3)), Some(State::Acked));
}
