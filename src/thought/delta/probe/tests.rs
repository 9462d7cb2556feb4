use proptest::prelude::*;

use super::*;

const SECRET: [u8; 32] = [7; 32];
const MIB: usize = 1 << 20;

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn plan(size: usize) -> ProbePlan {
    ProbePlan::new(size as u64, &SECRET, b"file").unwrap()
}

fn taken(content: &[u8]) -> Probes {
    Probes::take(&content, &plan(content.len())).unwrap().unwrap()
}

fn starts(probes: &Probes) -> Vec<u64> {
    probes.spans().map(|span| span.offset).collect()
}

#[test]
fn small_contents_are_not_probed_and_plans_hang_on_secret_identity_and_size() {
    assert_eq!(ProbePlan::new(PROBED_FROM - 1, &SECRET, b"file"), None);
    let plans = [
        plan(MIB),
        ProbePlan::new(PROBED_FROM, &[8; 32], b"file").unwrap(),
        ProbePlan::new(PROBED_FROM, &SECRET, b"other").unwrap(),
        plan(MIB + 1),
    ];
    for (index, plan) in plans.iter().enumerate() {
        assert_eq!(plan.spans().len(), 8);
        assert_eq!(plan.offsets[0], 0);
        assert_eq!(plan.offsets[7], plan.size() - PROBE_BYTES);
        for other in &plans[index + 1..] {
            assert!(plan.offsets[1..7].iter().all(|offset| !other.offsets[1..7].contains(offset)));
        }
    }
}

#[test]
fn offsets_and_format_of_version_1_are_pinned() {
    assert_eq!(plan(MIB).offsets, [0, 110_133, 320_198, 343_591, 461_942, 517_820, 745_061, 1_044_480]);
    let bytes = postcard::to_allocvec(&taken(&noise(1, MIB))).unwrap();
    assert_eq!(bytes[..8], [1, 0x80, 0x80, 0x40, 0x80, 0x80, 0x40, 8]);
    assert_eq!(blake3::hash(&bytes).to_string(), "102f2fd4ffd217ce6f63199000cc18c001a7427f2365c1da9584d975c80b99de");
}

#[test]
fn an_append_passes_and_any_change_within_a_probe_does_not() {
    let old = noise(1, MIB + 12_345);
    let probes = taken(&old);
    assert!(probes.check(&old).unwrap());
    assert!(probes.check(&[&old[..], b"more"].concat()).unwrap());
    assert!(!probes.check(&old[..old.len() - 1].to_vec()).unwrap());
    assert!(!probes.check(&noise(2, 2 * MIB)).unwrap());
    let zeros = vec![0; MIB];
    assert!(!taken(&zeros).check(&zeros[1..].to_vec()).unwrap());
    assert_eq!(Probes::take(&zeros[1..].to_vec(), &plan(MIB)).unwrap(), None);
    for span in probes.spans() {
        for at in [span.offset, span.end() - 1] {
            let mut new = old.clone();
            new[usize::try_from(at).unwrap()] ^= 1;
            assert!(!probes.check(&new).unwrap(), "changed at {at}");
        }
    }
}

#[test]
fn appends_move_the_end_and_doublings_add_secret_offsets_in_what_is_new() {
    let all = noise(1, 8 * MIB);
    let probes = taken(&all[..MIB]);
    let extended = |probes: &Probes, size: usize| {
        let next = probes.extended(&all, size as u64, &SECRET, b"file").unwrap().unwrap();
        assert!(next.check(&all[..size].to_vec()).unwrap());
        assert_eq!(next.size(), size as u64);
        let stored = postcard::to_allocvec(&next).unwrap();
        assert_eq!(postcard::from_bytes::<Probes>(&stored).unwrap(), next);
        next
    };
    let little = extended(&probes, MIB + 100);
    assert_eq!(starts(&little)[..7], starts(&probes)[..7]);
    assert_eq!(starts(&little)[7..], [MIB as u64 + 100 - PROBE_BYTES]);
    let doubled = extended(&extended(&little, 2 * MIB - 1), 2 * MIB);
    assert_eq!(starts(&doubled)[..7], starts(&probes)[..7]);
    assert_eq!(doubled.spans().len(), 10);
    assert!(starts(&doubled)[7] >= PROBED_FROM);
    assert_eq!(extended(&doubled, 3 * MIB).spans().len(), 10);
    assert_eq!(extended(&doubled, 8 * MIB).spans().len(), 14);
    assert_eq!(extended(&probes, MIB), probes);
    assert_eq!(doubled.extended(&all, 2 * PROBED_FROM - 1, &SECRET, b"file").unwrap(), None);
    assert_eq!(doubled.extended(&all, 9 * PROBED_FROM, &SECRET, b"file").unwrap(), None);
}

#[test]
fn probes_that_break_an_invariant_are_refused() {
    let good = || RawProbes::from(taken(&noise(1, MIB)));
    let changes: Vec<fn(&mut RawProbes)> = vec![
        |raw| raw.0 = 2,
        |raw| raw.1 += 1,
        |raw| raw.2 += 1,
        |raw| raw.2 -= 1,
        |raw| raw.3.swap(3, 4),
        |raw| raw.3.retain(|sample| sample.offset != 0),
        |raw| raw.3.truncate(7),
        |raw| raw.3.clear(),
        |raw| raw.3.insert(1, raw.3[0]),
        |raw| raw.3.splice(1..1, (1..=89).map(|offset| Sample { offset, digest: [0; 16] })).for_each(drop),
    ];
    assert!(Probes::try_from(good()).is_ok());
    for (index, change) in changes.iter().enumerate() {
        let mut raw = good();
        change(&mut raw);
        assert!(Probes::try_from(raw).is_err(), "change {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn collecting_while_reading_is_the_same_as_taking(extra in 0..MIB, piece in 1000..MIB) {
        let content = noise(3, MIB + extra);
        let mut collector = ProbeCollector::new(&plan(content.len()));
        let mut offset = 0;
        for piece in content.chunks(piece) {
            collector.update(offset, piece);
            offset += piece.len() as u64;
        }
        prop_assert_eq!(collector.clone().finish(), Some(taken(&content)));
        let mut gap = ProbeCollector::new(&plan(content.len()));
        gap.update(0, &content[..content.len() - 1]);
        prop_assert_eq!(gap.finish(), None);
    }

    #[test]
    fn decoding_probes_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        raw in (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..120)),
    ) {
        let (size, spread, mut offsets) = raw;
        offsets.extend([0, size.wrapping_sub(PROBE_BYTES)]);
        offsets.sort_unstable();
        let samples = offsets.iter().map(|offset| Sample { offset: *offset, digest: [0; 16] }).collect();
        let shaped = postcard::to_allocvec(&RawProbes(PROBES_VERSION, size, spread.min(size), samples)).unwrap();
        for bytes in [bytes, shaped] {
            if let Ok(probes) = postcard::from_bytes::<Probes>(&bytes) {
                prop_assert!(probes.spans().len() <= PROBES_CAP);
                prop_assert!(!probes.check(&b"other".to_vec()).unwrap());
            }
        }
    }
}
