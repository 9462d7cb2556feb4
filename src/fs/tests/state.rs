//! Files outside a home.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::fs::FsError;
use crate::fs::state::{create_directory, lock_directory, read_capped, write_atomically};

#[test]
fn a_reader_sees_the_old_or_the_new_and_no_litter_stays() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("reign");
    let (old, new) = (vec![b'o'; 100_000], vec![b'n'; 50_000]);
    write_atomically(&path, &old, 0o600).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..20 {
                write_atomically(&path, if number % 2 == 0 { &new } else { &old }, 0o600).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = read_capped(&path, 1 << 20).unwrap();
            assert!(seen == old || seen == new);
        }
    });
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn what_a_crash_left_behind_does_not_stand_in_the_way() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    write_atomically(&path, b"old", 0o600).unwrap();
    write_atomically(&directory.path().join(".key.new"), b"half of a longer one", 0o444).unwrap();
    assert_eq!(read_capped(&path, 100).unwrap(), b"old");
    write_atomically(&path, b"new", 0o640).unwrap();
    assert_eq!(read_capped(&path, 100).unwrap(), b"new");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_failed_replacement_leaves_the_old_and_no_litter() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("taken");
    create_directory(&path.join("by-a-directory"), 0o700).unwrap();
    assert!(matches!(write_atomically(&path, b"x", 0o600), Err(FsError::Rename { .. })));
    assert!(path.is_dir());
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_file_beyond_the_cap_is_not_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    write_atomically(&path, b"12345", 0o600).unwrap();
    assert_eq!(read_capped(&path, 5).unwrap(), b"12345");
    assert!(matches!(read_capped(&path, 4), Err(FsError::TooLong { cap_bytes: 4, .. })));
    assert!(read_capped(&directory.path().join("missing"), 5).unwrap_err().is_not_found());
}

#[test]
fn a_locked_directory_names_who_has_it() {
    let directory = TempDir::new().unwrap();
    let lock = lock_directory(directory.path()).unwrap();
    let refused = lock_directory(directory.path()).unwrap_err();
    assert!(matches!(refused, FsError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{refused:?}");
    assert!(refused.to_string().ends_with(&format!("is in use by process {}", std::process::id())));
    assert!(lock.path().ends_with("lock"));
    drop(lock);
    lock_directory(directory.path()).unwrap();
}

#[test]
fn a_directory_is_made_with_its_parents_and_its_mode() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("var/lib/hotspare");
    create_directory(&path, 0o700).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    create_directory(&path, 0o755).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
}
