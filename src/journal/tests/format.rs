use std::path::Path;

use proptest::prelude::*;

use super::sim::Sim;
use super::{HOME, Told, at, open};
use crate::journal::record::{Frame, FrameKind, HEADER_BYTES};
use crate::journal::segment::{self, Salt};
use crate::journal::{Log, PAYLOAD_CAP, RecordKind, State};

const FIXTURE: &[u8] = include_bytes!("../../../tests/fixtures/journal-v1.log");
const SALT: Salt = Salt(*b"saltsalt");

/// A journal of every kind of record, without its preallocated tail.
fn small() -> Vec<u8> {
    let sim = Sim::default();
    let (mut log, _) = open(&sim).unwrap();
    let mut told = Told::default();
    told.append(&mut log, RecordKind::Staged { part: 0 }, 18_422, b"header").unwrap();
    told.append(&mut log, RecordKind::Staged { part: 1 }, 18_422, b"operations").unwrap();
    told.sync(&mut log).unwrap();
    told.append(&mut log, RecordKind::Acked, 18_422, b"").unwrap();
    told.append(&mut log, RecordKind::Revealed, 18_422, b"").unwrap();
    told.append(&mut log, RecordKind::Done, 18_422, b"done").unwrap();
    told.append(&mut log, RecordKind::Staged { part: 0 }, 18_423, b"").unwrap();
    told.append(&mut log, RecordKind::Dropped, 18_423, b"").unwrap();
    told.append(&mut log, RecordKind::Staged { part: 0 }, 18_424, &[0xab; 40]).unwrap();
    told.sync(&mut log).unwrap();
    told.append(&mut log, RecordKind::Acked, 18_424, b"").unwrap();
    told.sync(&mut log).unwrap();
    let end = segment::HEADER_BYTES + told.records.iter().map(|r| HEADER_BYTES + r.payload.len()).sum::<usize>();
    sim.bytes(&segment::name(1))[..end].to_vec()
}

#[test]
#[ignore = "writes the fixture: only for a new format version, under a new name"]
#[expect(clippy::disallowed_methods, reason = "a fixture in the source tree")]
fn write_the_fixture() {
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1.log"), small()).unwrap();
}

#[test]
fn a_journal_of_version_1_is_read_for_ever() {
    let sim = Sim::default();
    sim.set(&segment::name(1), Some(FIXTURE.to_vec()));
    let (log, recovered) = open(&sim).unwrap();
    assert_eq!(recovered.torn, None);
    let told: Vec<_> = recovered.generations.iter().map(|kept| (kept.position, kept.state)).collect();
    assert_eq!(told, [(at(18_422), State::Done), (at(18_423), State::Dropped), (at(18_424), State::Acked)]);
    let first = &recovered.generations[0];
    assert_eq!(log.read(&first.parts[0]).unwrap(), b"header");
    assert_eq!(log.read(&first.parts[1]).unwrap(), b"operations");
    assert_eq!(log.read(&first.mark.unwrap()).unwrap(), b"done");
    assert_eq!(log.read(&recovered.generations[2].parts[0]).unwrap(), [0xab; 40]);
}

#[test]
fn version_1_is_still_written_as_it_was() {
    assert_eq!(small(), FIXTURE);
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes(
        part in any::<u32>(), epoch in any::<u64>(), generation in any::<u64>(), sequence in any::<u64>(),
        synced in any::<u64>(), payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let position = crate::words::position::Position { epoch, generation };
        let kind = FrameKind::Record(RecordKind::Staged { part });
        let frame = Frame { kind, position, length: u32::try_from(payload.len()).unwrap(), sequence, synced };
        let mut bytes = Vec::new();
        frame.encode(SALT, &payload, &mut bytes);
        prop_assert_eq!(Frame::decode(SALT, &bytes), Some(frame));
        prop_assert_eq!(frame.payload(SALT, &bytes), Some(&*payload));
        prop_assert_eq!(Frame::decode(Salt(*b"pepper!!"), &bytes), None);
    }

    #[test]
    fn arbitrary_bytes_are_no_record_beyond_the_cap(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(Frame::decode(SALT, &bytes).is_none_or(|frame| frame.length as usize <= PAYLOAD_CAP));
    }
}

#[test]
fn a_length_beyond_the_cap_is_no_record_even_with_a_good_sum() {
    let length = u32::try_from(PAYLOAD_CAP).unwrap();
    for (length, fits) in [(length, true), (length + 1, false), (u32::MAX, false)] {
        let kind = FrameKind::Record(RecordKind::Acked);
        let mut bytes = Vec::new();
        Frame { kind, position: at(1), length, sequence: 1, synced: 0 }.encode(SALT, b"", &mut bytes);
        assert_eq!(Frame::decode(SALT, &bytes).is_some(), fits, "{length}");
    }
}

#[test]
fn a_real_directory_keeps_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mut log, recovered) = Log::open(&path, HOME).unwrap();
    assert!(recovered.generations.is_empty());
    assert!(Log::open(&path, HOME).is_err(), "opened twice");
    let mut told = Told::default();
    for generation in 1..=12 {
        told.append(&mut log, RecordKind::Staged { part: 0 }, generation, &vec![1; PAYLOAD_CAP]).unwrap();
        told.append(&mut log, RecordKind::Acked, generation, b"").unwrap();
        told.append(&mut log, RecordKind::Revealed, generation, b"").unwrap();
        told.append(&mut log, RecordKind::Done, generation, b"").unwrap();
    }
    told.sync(&mut log).unwrap();
    assert_eq!(log.stats().segments, 2);
    drop(log);
    let (mut log, recovered) = Log::open(&path, HOME).unwrap();
    assert_eq!(told.explains(&log, &recovered, 48), Some(48));
    told.pruned = 12;
    assert_eq!(log.prune(at(12)).unwrap(), 1);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    assert_eq!((log.state(at(1)), log.state(at(12))), (None, Some(State::Done)));
    drop(log);
    let (log, recovered) = Log::open(&path, HOME).unwrap();
    assert_eq!(told.explains(&log, &recovered, 48), Some(48));
}
