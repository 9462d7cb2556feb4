//! Signature, diff, encoding, spans and patch together: what comes out is what went in.

use std::io;

use proptest::prelude::*;

use super::{
    Command, ReadAt, Span,
    diff::{DiffError, DiffOptions, DiffStats, Outcome, diff},
    encoding::DeltaEncoder,
    patch::{PatchError, Patcher},
    signature::{Signature, SignatureBuilder, SignatureOptions},
    spans::{SpanCollector, Spans},
};
use crate::thought::dice::Dice;

const BLOCK: usize = 512;
/// Never gives up.
const WHOLE: DiffOptions = DiffOptions { window_bytes: 1 << 20, sample_bytes: u64::MAX, literal_percent: 100 };

fn signature(content: &[u8], piece: usize) -> Signature {
    let mut builder = SignatureBuilder::new(SignatureOptions::new(512, 8).unwrap());
    for piece in content.chunks(piece) {
        builder.update(piece);
    }
    builder.finish().unwrap()
}

/// `len` bytes that repeat nowhere, another sequence for each `seed`.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    Dice::new(seed.into()).noise(len)
}

/// The encoded delta, what the diff said, and the spans if nothing moved.
fn delta(old: &Signature, new: &[u8], options: &DiffOptions) -> (Vec<u8>, DiffStats, Option<Spans>) {
    let mut bytes = Vec::new();
    let mut encoder = DeltaEncoder::new(&mut bytes).unwrap();
    let mut collector = SpanCollector::default();
    let outcome = diff(old, &new, new.len() as u64, options, &mut |command| {
        collector.push(&command);
        encoder.command(command)
    });
    let Outcome::Complete(stats) = outcome.unwrap() else { panic!("given up") };
    encoder.finish().unwrap();
    (bytes, stats, collector.finish())
}

fn patched(base: &[u8], delta: &[u8], expected_len: usize, piece: usize) -> Result<Vec<u8>, PatchError> {
    let mut patcher = Patcher::new(base.len() as u64, expected_len as u64);
    let mut new = Vec::new();
    for piece in delta.chunks(piece) {
        patcher.feed(piece, &base, &mut |bytes| {
            new.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    patcher.finish()?;
    Ok(new)
}

/// The old content with the spans of the new one written over it.
fn overwritten(old: &[u8], new: &[u8], spans: &Spans) -> Vec<u8> {
    let mut result = old.to_vec();
    result.resize(usize::try_from(spans.new_len).unwrap(), 0);
    for Span { offset, len } in &spans.spans {
        let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + len).unwrap();
        result[range.clone()].copy_from_slice(&new[range]);
    }
    result
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Overwrite(usize, Vec<u8>),
    Truncate(usize),
    Append(Vec<u8>),
    Swap(usize, usize, usize),
}

impl Edit {
    fn apply(&self, content: &mut Vec<u8>) {
        let len = content.len();
        match self {
            Self::Insert(at, bytes) => drop(content.splice(at % (len + 1)..at % (len + 1), bytes.iter().copied())),
            Self::Delete(at, count) => drop(content.drain(at % (len + 1)..(at % (len + 1) + count).min(len))),
            Self::Overwrite(at, bytes) => {
                let target = &mut content[at % (len + 1)..];
                let count = target.len().min(bytes.len());
                target[..count].copy_from_slice(&bytes[..count]);
            }
            Self::Truncate(at) => content.truncate(at % (len + 1)),
            Self::Append(bytes) => content.extend_from_slice(bytes),
            Self::Swap(a, b, count) => {
                let (a, b) = (a % (len + 1), b % (len + 1));
                let (a, b) = (a.min(b), a.max(b));
                let count = (*count).min(b - a).min(len - b);
                let (left, right) = content.split_at_mut(b);
                left[a..a + count].swap_with_slice(&mut right[..count]);
            }
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..2000);
    let edit = prop_oneof![
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<usize>(), 0..3000_usize).prop_map(|(at, len)| Edit::Delete(at, len)),
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Edit::Overwrite(at, bytes)),
        any::<usize>().prop_map(Edit::Truncate),
        bytes().prop_map(Edit::Append),
        (any::<usize>(), any::<usize>(), 0..3000_usize).prop_map(|(a, b, len)| Edit::Swap(a, b, len)),
    ];
    prop::collection::vec(edit, 0..6)
}

/// Noise, or noise with runs of equal blocks in it.
fn content() -> impl Strategy<Value = Vec<u8>> {
    (0..20_000_usize, any::<u8>(), any::<bool>()).prop_map(|(len, seed, runs)| {
        let mut bytes = noise(seed, len);
        if runs {
            let (start, end) = (len / 4, len / 2);
            bytes[start..end].fill(0);
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_patched_old_content_is_the_new_one(
        old in content(), edits in edits(), window_bytes in 1..8 * BLOCK, piece in 1..700_usize,
    ) {
        let mut new = old.clone();
        edits.iter().for_each(|edit| edit.apply(&mut new));
        let signature = signature(&old, piece);
        let (bytes, stats, spans) = delta(&signature, &new, &DiffOptions { window_bytes, ..WHOLE });
        prop_assert_eq!(stats.copied_bytes + stats.literal_bytes, new.len() as u64);
        prop_assert_eq!(stats.aligned, spans.is_some());
        prop_assert_eq!(&patched(&old, &bytes, new.len(), piece).unwrap(), &new);
        if let Some(spans) = spans {
            prop_assert_eq!(overwritten(&old, &new, &spans), new);
        }
    }

    #[test]
    fn small_windows_lose_no_match(old in content(), edits in edits(), window_bytes in 1..8 * BLOCK) {
        let mut new = old.clone();
        edits.iter().for_each(|edit| edit.apply(&mut new));
        let signature = signature(&old, 4096);
        let (_, whole, _) = delta(&signature, &new, &WHOLE);
        let (_, windows, _) = delta(&signature, &new, &DiffOptions { window_bytes, ..WHOLE });
        prop_assert_eq!(whole, windows);
    }

    #[test]
    fn spans_written_over_the_old_content_make_the_new_one(old in content(), edits in edits()) {
        let mut new = old.clone();
        edits.iter().for_each(|edit| edit.apply(&mut new));
        let spans = Spans::between(&signature(&old, 9999), &signature(&new, 9999)).unwrap();
        prop_assert!(spans.spans.is_sorted_by(|a, b| a.end() < b.offset));
        prop_assert!(spans.changed_bytes() <= new.len() as u64);
        prop_assert_eq!(overwritten(&old, &new, &spans), new);
    }

    #[test]
    fn a_hostile_signature_yields_a_delta_within_the_old_content_or_none(
        mut entries in prop::collection::vec(0..40_u8, 0..40 * 12), short in 0..BLOCK as u64, new in content(),
    ) {
        // Some entries are those of blocks of the new content, so that there are matches.
        entries.truncate(entries.len() / 12 * 12);
        let honest = signature(&new, 9999);
        for entry in entries.chunks_exact_mut(12) {
            if let Some(digests) = honest.block(entry[0].into()) {
                entry.copy_from_slice(digests);
            }
        }
        let mut bytes = honest.as_bytes()[..12].to_vec();
        bytes.extend_from_slice(&entries);
        let content_size = (entries.len() as u64 / 12 * BLOCK as u64).saturating_sub(short);
        let signature = Signature::parse(bytes, content_size).unwrap();
        let inside = diff(&signature, &new, new.len() as u64, &WHOLE, &mut |command| match command {
            Command::Copy { offset, len } if offset + len > content_size => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        });
        prop_assert!(matches!(inside, Ok(Outcome::Complete(_)) | Err(DiffError::Search)));
    }
}

#[test]
fn empty_contents_are_diffed_too() {
    for (old, new) in [(vec![], vec![]), (vec![], noise(1, 3000)), (noise(1, 3000), vec![])] {
        let (bytes, stats, _) = delta(&signature(&old, 1000), &new, &WHOLE);
        assert_eq!(stats.copied_bytes, 0);
        assert_eq!(patched(&old, &bytes, new.len(), 7).unwrap(), new);
    }
}

#[test]
fn a_change_costs_its_blocks_and_the_rest_is_few_copies() {
    let old = noise(1, 100 * BLOCK);
    let mut new = old.clone();
    new.splice(40 * BLOCK + 7..40 * BLOCK + 7, *b"inserted");
    for window_bytes in [1, 5 * BLOCK, 1 << 20] {
        let (bytes, stats, spans) = delta(&signature(&old, 9999), &new, &DiffOptions { window_bytes, ..WHOLE });
        assert_eq!(
            stats,
            DiffStats { copied_bytes: 99 * BLOCK as u64, literal_bytes: BLOCK as u64 + 8, aligned: false }
        );
        assert!(bytes.len() < BLOCK + 40, "{} bytes in windows of {window_bytes}", bytes.len());
        assert_eq!(spans, None);
    }
}

#[test]
fn a_change_in_place_is_seen_as_one_even_among_equal_blocks() {
    let mut old = vec![0; 64 * BLOCK];
    old[..8 * BLOCK].copy_from_slice(&noise(1, 8 * BLOCK));
    let mut new = old.clone();
    // The last byte of a block: rolling past an earlier one, the search would fall in step with the zeros behind it.
    new[20 * BLOCK + 511] = 1;
    new[41 * BLOCK..43 * BLOCK].fill(2);
    let expected = Spans {
        spans: vec![
            Span { offset: 20 * BLOCK as u64, len: BLOCK as u64 },
            Span { offset: 41 * BLOCK as u64, len: 2 * BLOCK as u64 },
        ],
        new_len: new.len() as u64,
    };
    let (bytes, stats, spans) = delta(&signature(&old, 9999), &new, &DiffOptions { window_bytes: 1, ..WHOLE });
    assert!(stats.aligned);
    assert_eq!(spans.unwrap().changed_bytes(), 3 * BLOCK as u64);
    assert!(bytes.len() < 3 * BLOCK + 60);
    assert_eq!(Spans::between(&signature(&old, 9999), &signature(&new, 9999)), Some(expected));
}

#[test]
fn equal_blocks_that_moved_are_one_copy() {
    let mut old = noise(1, 3 * BLOCK);
    old.extend_from_slice(&vec![0; 40 * BLOCK]);
    let new = [noise(2, 50), old.clone()].concat();
    let mut copies = 0;
    diff(&signature(&old, 9999), &new, new.len() as u64, &WHOLE, &mut |command| {
        copies += usize::from(matches!(command, Command::Copy { .. }));
        Ok(())
    })
    .unwrap();
    // The first zero block jumps to its own index, or to where it stays; from there the run continues.
    assert!(copies <= 4, "{copies} copies");
}

#[test]
fn unrelated_content_is_given_up_after_the_sample() {
    let old = noise(1, 64 * BLOCK);
    let options = DiffOptions { window_bytes: 2000, sample_bytes: 8192, literal_percent: 90 };
    let (unrelated, mostly) = (noise(2, 64 * BLOCK), [&old[..2 * BLOCK], &noise(3, 62 * BLOCK)].concat());
    for (new, copied, most) in [(unrelated, 0, 8192), (mostly, 2 * BLOCK as u64, 16_384)] {
        let outcome = diff(&signature(&old, 9999), &new, new.len() as u64, &options, &mut |_| Ok(()));
        let Ok(Outcome::Unrelated(stats)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(stats.copied_bytes, copied);
        assert!(stats.literal_bytes <= most, "{stats:?}");
    }
    let patient = DiffOptions { literal_percent: 100, ..options };
    let nothing = diff(&signature(&old, 9999), &noise(2, 64 * BLOCK), 64 * BLOCK as u64, &patient, &mut |_| Ok(()));
    assert!(matches!(nothing, Ok(Outcome::Unrelated(_))));
    let related = delta(&signature(&old, 9999), &old, &options).1;
    assert_eq!(related.literal_bytes, 0);
}

#[test]
fn trouble_with_the_new_content_or_the_sink_is_told_with_its_place() {
    let old = noise(1, 8 * BLOCK);
    let signature = signature(&old, 9999);
    let shrunk = diff(&signature, &old, old.len() as u64 + 5, &WHOLE, &mut |_| Ok(()));
    assert!(matches!(shrunk, Err(DiffError::Ended { at, .. }) if at == old.len() as u64));
    let unread = diff(&signature, &Broken, 5, &WHOLE, &mut |_| Ok(()));
    assert!(matches!(unread, Err(DiffError::Read { offset: 0, .. })));
    let unwritten = diff(&signature, &old, old.len() as u64, &WHOLE, &mut |_| Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(unwritten, Err(DiffError::Sink(_))));
}

#[test]
fn a_patch_stays_within_the_base_and_the_announced_length() {
    let base = noise(1, 100);
    let encoded = |commands: &[Command<'_>]| {
        let mut bytes = Vec::new();
        let mut encoder = DeltaEncoder::new(&mut bytes).unwrap();
        commands.iter().for_each(|command| encoder.command(*command).unwrap());
        encoder.finish().unwrap();
        bytes
    };
    let good = encoded(&[Command::Copy { offset: 90, len: 10 }, Command::Literal(b"abc")]);
    assert_eq!(patched(&base, &good, 13, 1).unwrap(), [&base[90..], b"abc"].concat());
    let short = patched(&base, &good, 14, 99);
    assert!(matches!(short, Err(PatchError::TooShort { expected_len: 14, found: 13 })));
    assert!(matches!(patched(&base, &good, 12, 99), Err(PatchError::TooLong { expected_len: 12 })));
    assert!(matches!(patched(&base, &good, 9, 99), Err(PatchError::TooLong { expected_len: 9 })));
    let outside = patched(&base, &encoded(&[Command::Copy { offset: 91, len: 10 }]), 10, 99);
    assert!(matches!(outside, Err(PatchError::OutsideBase { offset: 91, len: 10, base_len: 100 })));
    assert!(matches!(patched(&base, &good[..good.len() - 1], 13, 99), Err(PatchError::Decode(_))));
    assert!(matches!(patched(&base, &[&good[..], b"x"].concat(), 13, 99), Err(PatchError::Decode(_))));
    let mut patcher = Patcher::new(200, 110);
    let cut = patcher.feed(&encoded(&[Command::Copy { offset: 0, len: 110 }]), &base, &mut |_| Ok(()));
    assert!(matches!(cut, Err(PatchError::BaseEnded { at: 100, base_len: 200 })));
}

struct Broken;

impl ReadAt for Broken {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}
