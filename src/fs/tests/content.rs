//! Reading and writing.

use super::{Home, as_ordinary_user, rel};
use crate::fs::{FileType, FsError, Special};
use crate::words::path::RelPath;

const MIB: usize = 1024 * 1024;

#[test]
fn what_is_written_is_read_at_any_offset_and_reads_stop_at_the_end() {
    let home = Home::new();
    let path = home.file("file", b"0123456789");
    let file = home.root.open_read(&path).unwrap();
    let mut buffer = [0; 6];
    assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 3);
    assert_eq!(&buffer[..3], b"789");
    assert_eq!(file.read_at(&mut buffer, 100).unwrap(), 0);
    let writer = home.root.open_write(&path).unwrap();
    writer.write_at(b"AB", 4).unwrap();
    writer.set_len(8).unwrap();
    writer.sync_data().unwrap();
    writer.sync_all().unwrap();
    assert_eq!(home.content(&path), b"0123AB67");
    assert_eq!(file.stat().unwrap(), home.root.stat(&path).unwrap().unwrap());
}

#[test]
fn a_new_file_never_replaces_one_and_is_the_owners_alone() {
    let home = Home::new();
    let path = home.file("file", b"x");
    assert!(home.root.create_file(&path).unwrap_err().is_existing());
    assert_eq!(home.root.stat(&path).unwrap().unwrap().mode, 0o600);
}

#[test]
fn only_regular_files_are_opened_and_a_pipe_does_not_hold_up() {
    let home = Home::new();
    let path = home.directory("folder");
    assert!(matches!(home.root.open_read(&path), Err(FsError::WrongKind { .. })));
    let pipe = home.host_path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(home.root.open_read(&rel("pipe")), Err(FsError::WrongKind { .. })));
    assert!(matches!(home.root.open_write(&rel("pipe")), Err(FsError::WrongKind { .. })));
    assert_eq!(home.root.stat(&rel("pipe")).unwrap().unwrap().what, FileType::Special(Special::Fifo));
    assert_eq!(home.root.list(&RelPath::root()).unwrap().len(), 2);
}

#[test]
fn zeros_written_sparsely_take_no_space_and_read_back() {
    let home = Home::new();
    let path = rel("sparse");
    let mut content = vec![0; 4 * MIB + 100];
    content[MIB + 5..MIB + 9].copy_from_slice(b"data");
    content[3 * MIB - 1] = 1;
    let writer = home.root.create_file(&path).unwrap();
    // Pieces that do not fall on blocks.
    for (number, piece) in content.chunks(100_001).enumerate() {
        writer.write_sparse_at(piece, number as u64 * 100_001).unwrap();
    }
    writer.set_len(content.len() as u64).unwrap();
    writer.sync_all().unwrap();
    assert_eq!(home.content(&path), content);
    let stat = home.root.stat(&path).unwrap().unwrap();
    assert!(stat.blocks_512 * 512 < stat.size / 4, "{stat:?}");

    let reader = home.root.open_read(&path).unwrap();
    let ranges: Vec<_> = reader.data_ranges(stat.size).map(Result::unwrap).collect();
    let data: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    assert!(data < stat.size / 4, "{ranges:?}");
    assert!(ranges.iter().any(|range| range.contains(&(MIB as u64 + 5))));
    assert!(ranges.iter().any(|range| range.contains(&(3 * MIB as u64 - 1))));
    assert_eq!(reader.next_data(4 * MIB as u64, stat.size).unwrap(), None);

    let copy = home.root.create_file(&rel("copy")).unwrap();
    assert_eq!(copy.copy_range(&reader, 0, 0, u64::MAX).unwrap(), stat.size);
    copy.set_len(stat.size).unwrap();
    copy.sync_all().unwrap();
    assert_eq!(home.content(&rel("copy")), content);
    assert_eq!(copy.stat().unwrap().blocks_512, stat.blocks_512);
}

#[test]
fn a_copied_range_lands_where_it_should() {
    let home = Home::new();
    let content: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let source = home.root.open_read(&home.file("source", &content)).unwrap();
    let target = home.root.create_file(&rel("target")).unwrap();
    assert_eq!(target.copy_range(&source, 1_000, 10, 600_000).unwrap(), 600_000);
    assert_eq!(target.copy_range(&source, 699_990, 600_010, 50).unwrap(), 10);
    assert_eq!(target.copy_range(&source, 800_000, 0, 50).unwrap(), 0);
    let copied = home.content(&rel("target"));
    assert_eq!(copied[10..600_010], content[1_000..601_000]);
    assert_eq!(copied[600_010..], content[699_990..]);
    for offset in [u64::MAX, u64::MAX - 5, 1 << 63] {
        assert!(target.write_at(b"beyond", offset).is_err());
        assert!(target.write_sparse_at(b"beyond", offset).is_err());
        assert!(target.copy_range(&source, 0, offset, 10).is_err());
        assert!(target.reserve(offset, 10).is_err());
        assert!(target.set_len(offset).is_err());
        assert_eq!(target.copy_range(&source, offset, 0, 10).unwrap(), 0);
    }
}

#[test]
fn a_reservation_takes_blocks_and_leaves_the_length() {
    let home = Home::new();
    let path = home.file("log", b"tail");
    let writer = home.root.open_write(&path).unwrap();
    if !writer.reserve(4, MIB as u64).unwrap() {
        eprintln!("skipped: no fallocate here");
        return;
    }
    let stat = writer.stat().unwrap();
    assert_eq!(stat.size, 4);
    assert!(stat.blocks_512 * 512 >= MIB as u64);
}

#[test]
fn an_ordinary_user_is_told_what_it_may_not_read() {
    let home = Home::new();
    let path = home.file("secret", b"x");
    home.root.set_mode(&path, 0).unwrap();
    as_ordinary_user(|| {
        let error = home.root.open_read(&path).unwrap_err();
        assert!(error.is_permission());
        assert_eq!(error.to_string(), "cannot open secret");
        assert_eq!(home.root.ensure_writable(&path).unwrap(), Some(0));
        home.root.open_write(&path).unwrap();
        home.root.set_mode(&path, 0).unwrap();
    });
    assert_eq!(home.root.stat(&path).unwrap().unwrap().mode, 0);
}

#[test]
fn the_file_system_is_known_and_measured() {
    let home = Home::new();
    let space = home.root.space().unwrap();
    assert!(space.available_bytes > 0 && space.available_bytes <= space.total_bytes);
    assert!(!home.root.filesystem().unwrap().is_network());
    home.root.sync_filesystem().unwrap();
    home.root.try_clone().unwrap().sync_filesystem().unwrap();
}

#[test]
fn what_its_owner_may_not_open_is_synced_and_left_as_it_was() {
    let home = Home::new();
    home.file("file", b"closed");
    home.directory("directory");
    for path in [rel("file"), rel("directory")] {
        home.root.set_mode(&path, 0).unwrap();
        as_ordinary_user(|| {
            home.root.sync_file(&path).unwrap_err();
            home.root.sync_closed(&path).unwrap();
        });
        assert_eq!(home.root.stat(&path).unwrap().unwrap().mode, 0, "{path}");
    }
}
