use proptest::prelude::*;

use super::sim::{Cut, Sim};
use super::{HOME, SEGMENT, Told, open};
use crate::journal::segment::{self, HEADER_BYTES, Header, Salt};
use crate::journal::{Damage, JournalError};

/// A whole journal that was never pruned, all of it synced, and how many records all but the last sync had.
fn whole() -> (Sim, Told, usize) {
    let sim = Sim::default();
    let mut told = Told::default();
    let (mut log, _) = open(&sim).unwrap();
    for generation in 1..=6 {
        for part in 0..3 {
            let payload = [u8::try_from(generation).unwrap(); 150];
            told.append(&mut log, crate::journal::RecordKind::Staged { part }, generation, &payload).unwrap();
        }
        told.sync(&mut log).unwrap();
        told.append(&mut log, crate::journal::RecordKind::Acked, generation, b"").unwrap();
        told.sync(&mut log).unwrap();
    }
    let proven = told.synced - 1;
    assert!(sim.names().len() >= 4);
    (sim.after(Cut::Unsynced), told, proven)
}

/// Damages one file and says what became of it: `None` for an error, else how many records are left.
fn after(sim: &Sim, told: &Told, name: &str, bytes: Option<Vec<u8>>) -> Option<usize> {
    let sim = sim.after(Cut::None);
    sim.set(name, bytes);
    match open(&sim) {
        Ok((log, recovered)) => {
            let left = told.explains(&log, &recovered, 0);
            Some(left.unwrap_or_else(|| panic!("{name}: a story that never was: {recovered:?}")))
        }
        Err(JournalError::Damaged { .. } | JournalError::TooNew { .. }) => None,
        Err(error) => panic!("{name}: {error:?}"),
    }
}

#[test]
fn every_flipped_byte_is_an_error_unless_it_lies_in_the_newest_sync() {
    let (sim, told, proven) = whole();
    let names = sim.names();
    for name in &names {
        let bytes = sim.bytes(name);
        for offset in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << (offset % 8);
            let left = after(&sim, &told, name, Some(flipped));
            if Some(name) == names.last() {
                assert!(left.is_none_or(|left| left >= proven), "{name} at {offset}: {left:?} of {proven}");
            } else {
                assert_eq!(left, None, "{name} at {offset}");
            }
        }
    }
}

#[test]
fn every_truncation_is_an_error_or_takes_nothing_unless_it_reaches_the_end_of_the_last_segment() {
    let (sim, told, _) = whole();
    let names = sim.names();
    for name in &names[..names.len() - 1] {
        let bytes = sim.bytes(name);
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        for length in 0..bytes.len() {
            let left = after(&sim, &told, name, Some(bytes[..length].to_vec()));
            // An Acked record may end in zeros of its own; those count as used up to its last byte that is not.
            assert!(
                left.is_none() || (left == Some(told.synced) && length >= used),
                "{name} cut to {length}: {left:?}"
            );
        }
    }
    let last = names.last().unwrap();
    let bytes = sim.bytes(last);
    for length in HEADER_BYTES..bytes.len() {
        // The end of the last segment cannot be told from what was never written: a shorter story, but a true one.
        assert!(after(&sim, &told, last, Some(bytes[..length].to_vec())).is_some(), "{last} cut to {length}");
    }
}

#[test]
fn a_missing_segment_is_an_error_unless_it_is_the_last() {
    let (sim, told, _) = whole();
    let names = sim.names();
    for name in &names[..names.len() - 1] {
        assert_eq!(after(&sim, &told, name, None), None, "{name}");
    }
    assert!(after(&sim, &told, names.last().unwrap(), None).is_some());
}

#[test]
fn an_empty_last_segment_does_not_hide_that_the_one_before_is_missing() {
    let (sim, told, _) = whole();
    let mut names = sim.names();
    let (last, before) = (names.pop().unwrap(), names.pop().unwrap());
    sim.set(&last, Some(vec![0; 900]));
    assert_eq!(after(&sim, &told, &before, None), None);
}

#[test]
fn a_record_cut_out_or_doubled_is_an_error() {
    let (sim, told, _) = whole();
    let name = sim.names().remove(1);
    let bytes = sim.bytes(&name);
    let end = HEADER_BYTES + crate::journal::record::HEADER_BYTES + 150;
    assert_eq!(bytes[HEADER_BYTES..end][..4], bytes[end..][..4]);
    let without = [&bytes[..HEADER_BYTES], &bytes[end..]].concat();
    assert_eq!(after(&sim, &told, &name, Some(without)), None);
    let doubled = [&bytes[..end], &bytes[HEADER_BYTES..]].concat();
    assert_eq!(after(&sim, &told, &name, Some(doubled)), None);
}

/// A journal of three one-record generations in one segment, with a sync after each or after the first and the last.
fn three(sync_each: bool) -> (Sim, Vec<u8>) {
    let sim = Sim::default();
    let (mut log, _) = open(&sim).unwrap();
    let mut told = Told::default();
    for generation in 1..=3 {
        told.append(&mut log, crate::journal::RecordKind::Staged { part: 0 }, generation, b"same size").unwrap();
        if sync_each || generation != 2 {
            told.sync(&mut log).unwrap();
        }
    }
    let bytes = sim.bytes(&segment::name(1));
    (sim, bytes)
}

#[test]
fn a_broken_record_that_was_never_synced_is_a_torn_tail_even_with_good_ones_behind_it() {
    let second = HEADER_BYTES + crate::journal::record::HEADER_BYTES + 9;
    for (sync_each, damaged) in [(false, false), (true, true)] {
        let (sim, mut bytes) = three(sync_each);
        bytes[second + 60] ^= 1;
        sim.set(&segment::name(1), Some(bytes));
        match open(&sim) {
            Ok((_, recovered)) => {
                assert!(!damaged);
                assert_eq!(recovered.generations.len(), 1);
                assert_eq!(recovered.torn.unwrap().offset, second as u64);
            }
            Err(error) => assert!(damaged, "{error:?}"),
        }
    }
}

#[test]
fn a_whole_generation_cut_out_of_the_last_segment_is_never_skipped() {
    let size = crate::journal::record::HEADER_BYTES + 9;
    let cut_out = |sync_each| {
        let (sim, bytes) = three(sync_each);
        let without = [&bytes[..HEADER_BYTES + size], &bytes[HEADER_BYTES + 2 * size..]].concat();
        sim.set(&segment::name(1), Some(without));
        open(&sim)
    };
    assert!(matches!(cut_out(true), Err(JournalError::Damaged { damage: Damage::Record, .. })));
    let (_, recovered) = cut_out(false).unwrap();
    assert_eq!((recovered.generations.len(), recovered.torn.is_some()), (1, true));
}

#[test]
fn a_missing_segment_is_an_error_after_pruning_too() {
    let sim = Sim::default();
    let mut told = Told::default();
    told.live(&mut open(&sim).unwrap().0).unwrap();
    let first = sim.names().remove(0);
    assert_ne!(segment::first(&first), Some(1), "nothing was pruned");
    sim.set(&first, None);
    let Err(JournalError::Damaged { damage: Damage::Missing { .. }, .. }) = open(&sim) else { panic!() };
}

#[test]
fn damage_is_named_by_segment_and_offset() {
    let (sim, _, _) = whole();
    let name = sim.names().remove(1);
    let mut bytes = sim.bytes(&name);
    bytes[HEADER_BYTES + 60] ^= 1;
    sim.set(&name, Some(bytes));
    let error = open(&sim).unwrap_err();
    assert_eq!(error.to_string(), format!("the journal is damaged in /sim/{name} at byte 64"));
}

#[test]
fn a_journal_of_another_home_or_a_newer_program_is_refused() {
    let (sim, _, _) = whole();
    let other = crate::journal::Log::open_on(Box::new(sim.clone()), crate::words::position::HomeId([8; 16]), SEGMENT);
    assert!(matches!(other, Err(JournalError::OtherHome { found: HOME, .. })));
    let name = sim.names().remove(0);
    let mut bytes = sim.bytes(&name);
    bytes[8] = 2;
    sim.set(&name, Some(bytes));
    assert!(matches!(open(&sim), Err(JournalError::TooNew { version: 2, .. })));
}

#[test]
fn a_segment_longer_than_any_is_refused_before_it_is_read() {
    let sim = Sim::default();
    sim.set(&segment::name(1), Some(vec![0; usize::try_from(segment::SEGMENT_BYTES).unwrap() + 1]));
    assert!(matches!(open(&sim), Err(JournalError::Damaged { damage: Damage::Long(_), .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(
        first in prop_oneof![1..20_u64, Just(0), Just(u64::MAX), any::<u64>()],
        floor in 0..3_u64,
        with_header in any::<bool>(),
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (sim, ..) = whole();
        for name in sim.names() {
            let mut bytes = sim.bytes(&name);
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            sim.set(&name, Some(bytes));
        }
        drop(open(&sim));
        let sim = Sim::default();
        let mut bytes = Vec::new();
        if with_header {
            bytes.extend(Header { home: HOME, first, floor, salt: Salt(*b"saltsalt") }.encode());
        }
        bytes.extend(garbage);
        sim.set(&segment::name(first), Some(bytes));
        drop(open(&sim));
    }
}
