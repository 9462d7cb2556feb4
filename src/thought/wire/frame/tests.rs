use proptest::prelude::*;

use super::*;

fn encoded(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { kind, payload }.encode(DEFAULT_CAP_BYTES, &mut out).unwrap();
    out
}

struct Decoded {
    frames: Vec<(u8, Vec<u8>)>,
    end: Result<(), FrameError>,
}

/// All frames in `bytes`, fed in pieces of the given sizes, and then one byte at a time; and how it ended.
fn decode_all(mut bytes: &[u8], sizes: &[usize], cap_bytes: usize) -> Decoded {
    let mut decoder = FrameDecoder::new(cap_bytes);
    let mut sizes = sizes.iter().copied();
    let mut frames = Vec::new();
    let mut received = 0;
    while !bytes.is_empty() {
        let mut piece = &bytes[..sizes.next().unwrap_or(1).min(bytes.len())];
        bytes = &bytes[piece.len()..];
        while !piece.is_empty() {
            let missing = decoder.missing_bytes();
            let step = decoder.feed(piece).and_then(|taken| {
                assert!(taken > 0 || missing == 0, "no progress");
                Ok((taken, decoder.pull()?))
            });
            match step {
                Ok((taken, frame)) => {
                    piece = &piece[taken..];
                    received += taken;
                    frames.extend(frame);
                }
                Err(error) => return Decoded { frames, end: Err(error) },
            }
            let held = decoder.payload.capacity();
            assert!(held <= cap_bytes && held <= 2 * received, "{held} bytes held, {received} received");
        }
    }
    Decoded { frames, end: decoder.finish() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_encoding_is_pinned() {
    // Made by an independent encoder: Python's struct and zlib.crc32.
    insta::assert_snapshot!(hex(&encoded(7, b"jenkins")), @"6873010707000000f89bf1846a656e6b696e73");
    insta::assert_snapshot!(hex(&encoded(0, b"")), @"6873010000000000747df070");
}

#[test]
fn every_prefix_of_a_frame_needs_more_and_is_no_error() {
    let bytes = encoded(3, b"payload");
    for end in 0..bytes.len() {
        assert_eq!(decode_one(&bytes[..end], 100), Ok(None), "{end} bytes");
        let Decoded { frames, end: finish } = decode_all(&bytes[..end], &[end], 100);
        assert!(frames.is_empty());
        assert_eq!(finish.is_ok(), end == 0, "{end} bytes");
    }
    let mut followed = bytes.clone();
    followed.extend_from_slice(b"more");
    assert_eq!(decode_one(&followed, 100), Ok(Some((Frame { kind: 3, payload: b"payload" }, bytes.len()))));
}

#[test]
fn every_flipped_bit_is_found() {
    let good = encoded(3, b"payload");
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        // A longer length reads on as "more is needed"; nothing else may pass, and nothing may pass as the frame.
        let longer = (32..64).contains(&at) && matches!(decode_one(&bad, usize::MAX), Ok(None));
        assert!(longer || decode_one(&bad, usize::MAX).is_err(), "bit {at}");
    }
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = encoded(3, b"payload");
    let damaged = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode_one(&bytes, 100).unwrap_err()
    };
    assert!(matches!(damaged(0, b'x'), FrameError::Magic(_)));
    assert_eq!(damaged(2, 2), FrameError::Version(2));
    assert_eq!(damaged(5, 1), FrameError::TooLong { length_bytes: 263, cap_bytes: 100 });
    assert!(matches!(damaged(14, b'Y'), FrameError::Checksum { kind: 3, .. }));
}

#[test]
fn a_length_above_the_cap_is_refused_before_anything_is_allocated() {
    let mut bytes = encoded(3, b"");
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut decoder = FrameDecoder::new(1000);
    let expected = FrameError::TooLong { length_bytes: u32::MAX as usize, cap_bytes: 1000 };
    assert_eq!(decoder.feed(&bytes), Err(expected.clone()));
    assert_eq!(decoder.payload.capacity(), 0);
    assert_eq!(decoder.feed(&encoded(1, b"good")), Err(expected.clone()), "an error is final");
    assert_eq!(decoder.pull(), Err(expected));
}

#[test]
fn a_declared_length_costs_nothing_until_its_bytes_come() {
    let header = &encoded(3, &[0; 100_000])[..HEADER_BYTES];
    let mut decoder = FrameDecoder::new(DEFAULT_CAP_BYTES);
    assert_eq!(decoder.feed(header), Ok(HEADER_BYTES));
    assert_eq!((decoder.missing_bytes(), decoder.payload.capacity()), (100_000, 0));
}

#[test]
fn feeding_takes_no_byte_beyond_the_frame() {
    let mut bytes = encoded(1, b"head");
    let frame_bytes = bytes.len();
    bytes.extend_from_slice(b"raw bytes that follow");
    let mut decoder = FrameDecoder::new(100);
    assert_eq!(decoder.feed(&bytes), Ok(frame_bytes));
    assert_eq!(decoder.feed(&bytes[frame_bytes..]), Ok(0));
    assert_eq!(decoder.pull(), Ok(Some((1, b"head".to_vec()))));
    assert!(decoder.is_idle());
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let mut out = b"before".to_vec();
    let error = Frame { kind: 1, payload: &[0; 11] }.encode(10, &mut out).unwrap_err();
    assert_eq!(error, FrameError::TooLong { length_bytes: 11, cap_bytes: 10 });
    assert_eq!(out, b"before");
    Frame { kind: 1, payload: &[0; 10] }.encode(10, &mut out).unwrap();
}

#[test]
fn a_body_with_anything_after_it_is_refused() {
    let mut payload = encode_body(&(7_u32, "name")).unwrap();
    assert_eq!(body::<(u32, &str)>(&payload), Ok((7, "name")));
    payload.push(0);
    assert_eq!(body::<(u32, &str)>(&payload), Err(BodyError::Trailing(1)));
    assert!(matches!(body::<(u32, &str)>(&payload[..3]), Err(BodyError::Decode(_))));
}

proptest! {
    #[test]
    fn frames_come_back_under_any_chunking(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        sizes in prop::collection::vec(1_usize..400, 0..20),
    ) {
        let mut bytes = Vec::new();
        for (kind, payload) in &frames {
            Frame { kind: *kind, payload }.encode(300, &mut bytes).unwrap();
        }
        let Decoded { frames: found, end } = decode_all(&bytes, &sizes, 300);
        prop_assert_eq!(found, frames);
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_over_allocate(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        sizes in prop::collection::vec(1_usize..100, 0..10),
        // So that more than the magic is reached: a true magic and version in front, and lengths that are not all enormous.
        sane in prop::option::of(0_u32..600),
    ) {
        let mut bytes = bytes;
        if let (Some(length), true) = (sane, bytes.len() >= HEADER_BYTES) {
            bytes[..3].copy_from_slice(&[b'h', b's', VERSION]);
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
        }
        let Decoded { frames, end } = decode_all(&bytes, &sizes, 256);
        // The two decoders agree on the first frame.
        match decode_one(&bytes, 256) {
            Ok(Some((frame, _))) => prop_assert_eq!(frames.first(), Some(&(frame.kind, frame.payload.to_vec()))),
            Ok(None) => prop_assert!(frames.is_empty() && (end.is_err() || bytes.is_empty())),
            Err(error) => prop_assert_eq!(end, Err(error)),
        }
        drop(body::<(String, Vec<u64>, Option<Vec<String>>)>(&bytes));
    }
}
