use proptest::prelude::*;

use super::*;
use crate::thought::dice::Dice;

fn noise(len: usize) -> Vec<u8> {
    Dice::new(1).noise(len)
}

fn log(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|line| format!("[{line}] [INFO] building module {}\n", line * 7919 % 1000).into_bytes())
        .collect()
}

fn packed(content: &[u8], piece: usize, options: PackOptions) -> (Vec<u8>, PackStats) {
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes, options);
    for piece in content.chunks(piece) {
        packer.write(piece).unwrap();
    }
    let stats = packer.finish().unwrap();
    assert_eq!(stats.packed_bytes, bytes.len() as u64);
    assert_eq!(stats.raw_bytes, content.len() as u64);
    (bytes, stats)
}

fn unpacked(bytes: &[u8], piece: usize, expected_len: u64) -> Result<Vec<u8>, UnpackError> {
    let mut unpacker = Unpacker::new(expected_len);
    let mut content = Vec::new();
    for piece in bytes.chunks(piece) {
        unpacker.feed(piece, &mut |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        assert_eq!(unpacker.position(), content.len() as u64);
    }
    unpacker.finish()?;
    Ok(content)
}

#[test]
fn logs_are_packed_and_noise_is_not() {
    let log = log(50_000);
    let (bytes, stats) = packed(&log, 1 << 20, PackOptions::default());
    assert_eq!(stats.packing, Packing::Zstd);
    assert!(bytes.len() * 4 < log.len(), "{} of {}", bytes.len(), log.len());
    let (bytes, stats) = packed(&noise(300_000), 1 << 20, PackOptions::default());
    assert_eq!(stats.packing, Packing::Raw);
    assert_eq!(bytes.len(), 300_001);
    assert_eq!(packed(b"", 1, PackOptions::default()).0, [RAW]);
}

#[test]
fn the_first_bytes_decide_at_the_stated_share() {
    let share = |percent: usize| [vec![0; 640 * percent], noise(64_000 - 640 * percent)].concat();
    assert_eq!(PackOptions::default().choose(&share(9)), Packing::Raw);
    assert_eq!(PackOptions::default().choose(&share(12)), Packing::Zstd);
    let late = [noise(64 * 1024), vec![0; 1 << 20]].concat();
    assert_eq!(packed(&late, 1 << 20, PackOptions::default()).1.packing, Packing::Raw);
}

#[test]
fn frames_of_every_level_are_read_back() {
    let log = log(2_000);
    for level in [1, 3, 19, 22] {
        let (bytes, _) = packed(&log, 9_999, PackOptions { level, ..PackOptions::default() });
        assert_eq!(unpacked(&bytes, 9_999, log.len() as u64).unwrap(), log, "level {level}");
    }
}

#[test]
fn what_is_cut_short_too_long_or_followed_by_more_is_refused() {
    for content in [log(9_000), noise(200_000)] {
        let len = content.len() as u64;
        let (bytes, _) = packed(&content, 1 << 20, PackOptions::default());
        for piece in [1, 777, 1 << 20] {
            assert_eq!(unpacked(&bytes, piece, len).unwrap(), content);
            assert!(matches!(unpacked(&bytes, piece, len - 1), Err(UnpackError::TooLong { .. })));
            assert!(matches!(unpacked(&bytes, piece, len + 1), Err(UnpackError::TooShort { .. })));
            let cut = unpacked(&bytes[..bytes.len() - 1], piece, len);
            match bytes[0] {
                RAW => assert!(matches!(cut, Err(UnpackError::TooShort { .. }))),
                _ => assert!(matches!(cut, Err(UnpackError::Incomplete))),
            }
            let more = unpacked(&[&bytes[..], b"x"].concat(), piece, len);
            assert!(matches!(more, Err(UnpackError::Trailing | UnpackError::TooLong { .. })), "{more:?}");
        }
    }
    assert!(matches!(unpacked(b"", 1, 0), Err(UnpackError::Incomplete)));
    assert!(matches!(unpacked(b"\x00", 1, 0), Err(UnpackError::Packing(0))));
}

#[test]
fn a_bomb_is_stopped_at_the_announced_length() {
    let (bomb, _) = packed(&vec![0; 64 << 20], 1 << 20, PackOptions::default());
    assert!(bomb.len() < 10_000);
    let mut given = 0;
    let mut unpacker = Unpacker::new(1 << 20);
    let outcome = unpacker.feed(&bomb, &mut |bytes| {
        given += bytes.len();
        Ok(())
    });
    assert!(matches!(outcome, Err(UnpackError::TooLong { expected_len: 0x10_0000 })));
    assert!(given <= 1 << 20);
}

#[test]
fn a_frame_that_wants_a_large_window_is_refused() {
    // Magic, a header with a window of 2^24 bytes ((24 - 10) << 3), one empty last raw block; then the same with 2^23.
    let frame = |log: u8| [&[ZSTD][..], &[0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0x01, 0x00, 0x00]].concat();
    assert!(matches!(unpacked(&frame(24), 99, 0), Err(UnpackError::Frame(_))));
    assert_eq!(unpacked(&frame(23), 99, 0).unwrap(), b"");
}

#[test]
fn the_format_is_pinned() {
    // Written by zstd 1.5.7: 100 times `a`.
    let bytes = [2, 40, 181, 47, 253, 0, 72, 69, 0, 0, 16, 97, 97, 1, 0, 63, 1, 44];
    assert_eq!(unpacked(&bytes, 1, 100).unwrap(), [b'a'; 100]);
    assert_eq!(unpacked(b"\x01abc", 2, 3).unwrap(), b"abc");
}

proptest! {
    #[test]
    fn what_was_packed_is_unpacked(
        content in prop::collection::vec(prop_oneof![3 => 0..2_u8, 1 => any::<u8>()], 0..9000),
        sample_bytes in 0..5000_usize, saving_percent in 0..101_u8, always in any::<bool>(), piece in 1..5000_usize,
    ) {
        let options = PackOptions { level: 1, sample_bytes, saving_percent, always };
        let (bytes, _) = packed(&content, piece, options);
        prop_assert_eq!(unpacked(&bytes, piece, content.len() as u64).unwrap(), content);
    }

    #[test]
    fn arbitrary_and_damaged_frames_never_panic_nor_exceed_the_announced_length(
        arbitrary in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<usize>(), flip in 1..=255_u8, piece in 1..400_usize,
    ) {
        let (mut damaged, _) = packed(&log(300), 9999, PackOptions::default());
        let index = 1 + at % (damaged.len() - 1);
        damaged[index] ^= flip;
        for bytes in [damaged, [&[ZSTD][..], &arbitrary].concat(), arbitrary] {
            let mut given = 0;
            let mut unpacker = Unpacker::new(5000);
            for piece in bytes.chunks(piece) {
                let fed = unpacker.feed(piece, &mut |bytes| {
                    given += bytes.len();
                    Ok(())
                });
                if fed.is_err() {
                    break;
                }
            }
            prop_assert!(given <= 5000);
        }
    }
}

#[test]
fn a_context_given_up_within_a_frame_serves_the_next() {
    let (bytes, _) = packed(&log(5000), 1 << 20, PackOptions::default());
    let mut unpacker = Unpacker::new(1 << 20);
    unpacker.feed(&bytes[..bytes.len() / 2], &mut |_| Ok(())).unwrap();
    drop(unpacker);
    assert!(unpacked(&[ZSTD, 1, 2, 3], 4, 10).is_err());
    for content in [log(10), log(5000)] {
        let (bytes, _) = packed(&content, 1 << 20, PackOptions::default());
        assert!(unpacked(&bytes, 1000, content.len() as u64).unwrap() == content);
    }
}

#[test]
fn a_small_content_is_packed_as_one_frame_that_other_readers_take() {
    let content = log(100);
    let (bytes, stats) = packed(&content, 7, PackOptions::default());
    assert_eq!((bytes[0], stats.packing), (ZSTD, Packing::Zstd));
    assert_eq!(zstd::stream::decode_all(&bytes[1..]).unwrap(), content);
}
