//! Owner, mode, extended attributes and times, held or told to be unheld.

use super::{Home, as_ordinary_user, is_root, rel, time, xattrs};
use crate::fs::{FsError, Privilege, Unheld, XattrPolicy};
use crate::words::entry::Entry;
use crate::words::path::RelPath;

/// `u::rw-,u:1234:r--,g::r--,m::r--,o::---` as the kernel keeps it: version 2; then tag, permissions and id of each.
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xd2\x04\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
/// `cap_net_bind_service=ep`, revision 2.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn set(home: &Home, path: &RelPath, entry: &Entry) -> Unheld {
    home.root.set_attributes(path, entry, &XattrPolicy::default(), &Privilege::detect()).unwrap()
}

#[test]
fn times_are_kept_to_the_nanosecond_for_every_kind() {
    let home = Home::new();
    let paths = [home.file("file", b""), home.directory("folder"), rel("link")];
    home.root.make_symlink(&paths[2], b"file").unwrap();
    for (number, path) in (0_u32..).zip(&paths) {
        let mut entry = home.entry(path);
        entry.mtime = time(1_600_000_000 + i64::from(number), 123_456_789 + number);
        assert!(set(&home, path, &entry).is_empty());
        assert_eq!(home.entry(path), entry);
    }
    assert_eq!(home.entry(&paths[0]).mtime, time(1_600_000_000, 123_456_789));
    home.root.set_mtime(&paths[0], time(-5, 7)).unwrap();
    assert_eq!(home.entry(&paths[0]).mtime, time(-5, 7));
}

#[test]
fn owner_and_setuid_are_both_kept() {
    if !is_root() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    let home = Home::new();
    let paths = [home.file("file", b"x"), home.directory("folder"), rel("link")];
    home.root.make_symlink(&paths[2], b"file").unwrap();
    for (path, mode) in paths.iter().zip([0o6755, 0o3770, 0o777]) {
        let entry = Entry { mode, uid: 1234, gid: 4321, mtime: time(9, 9), ..home.entry(path) };
        assert!(set(&home, path, &entry).is_empty());
        assert_eq!(home.entry(path), entry, "{path}");
    }
}

#[test]
fn what_is_so_already_is_not_set_again() {
    let home = Home::new();
    let path = home.file("file", b"x");
    let entry = Entry { mode: 0o644, mtime: time(9, 9), ..home.entry(&path) };
    set(&home, &path, &entry);
    let before = home.root.stat(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    set(&home, &path, &entry);
    assert_eq!(home.root.stat(&path).unwrap(), before, "the change time moved");
}

#[test]
fn extended_attributes_become_the_entrys_and_others_stay() {
    let home = Home::new();
    if !home.has_xattrs() {
        eprintln!("skipped: no extended attributes here");
        return;
    }
    for path in [home.file("file", b""), home.directory("folder")] {
        let long = vec![b'v'; 1_500];
        let mut entry = home.entry(&path);
        entry.xattrs = xattrs(&[("user.a", b"1"), ("user.empty", b""), ("user.long", &long)]);
        assert!(set(&home, &path, &entry).is_empty());
        assert_eq!(home.entry(&path), entry);
        entry.xattrs = xattrs(&[("user.a", b"2"), ("user.new", b"\0\xff")]);
        assert!(set(&home, &path, &entry).is_empty());
        assert_eq!(home.entry(&path), entry);

        let narrow = XattrPolicy::default().without(b"user.a");
        entry.xattrs = xattrs(&[]);
        assert!(home.root.set_attributes(&path, &entry, &narrow, &Privilege::none()).unwrap().is_empty());
        assert_eq!(home.entry(&path).xattrs, xattrs(&[("user.a", b"2")]));
        assert!(home.root.xattrs(&path, &narrow).unwrap().is_empty());
        assert!(home.root.xattrs(&path, &XattrPolicy::none()).unwrap().is_empty());
    }
}

#[test]
fn labels_of_one_machine_are_not_replicated() {
    let policy = XattrPolicy::default();
    let names = [
        ("user.x", true),
        ("system.posix_acl_access", true),
        ("system.posix_acl_default", true),
        ("security.capability", true),
        ("security.selinux", false),
        ("security.ima", false),
        ("security.evm", false),
        ("trusted.overlay.opaque", false),
        ("system.nfs4_acl", false),
        ("btrfs.compression", false),
        ("", false),
    ];
    for (name, covered) in names {
        assert_eq!(policy.covers(name.as_bytes()), covered, "{name}");
    }
}

#[test]
fn an_acl_outlives_the_change_of_mode_and_owner() {
    let home = Home::new();
    let path = home.file("file", b"");
    let mut entry = Entry { mode: 0o640, ..home.entry(&path) };
    entry.xattrs = xattrs(&[("system.posix_acl_access", ACL)]);
    if !set(&home, &path, &entry).is_empty() {
        eprintln!("skipped: no ACLs here");
        return;
    }
    assert_eq!(home.entry(&path), entry);
    // The mode is changed behind its back, and the mask with it.
    home.root.set_mode(&path, 0o666).unwrap();
    assert!(set(&home, &path, &entry).is_empty());
    assert_eq!(home.entry(&path), entry);
    // A directory hands its default ACL down; the entry has the last word.
    let folder = home.directory("folder");
    let mut inherited = home.entry(&folder);
    inherited.xattrs = xattrs(&[("system.posix_acl_default", ACL)]);
    assert!(set(&home, &folder, &inherited).is_empty());
    let child = home.file("folder/child", b"");
    assert!(!home.entry(&child).xattrs.is_empty());
    let plain = Entry { mode: 0o664, xattrs: xattrs(&[]), ..home.entry(&child) };
    assert!(set(&home, &child, &plain).is_empty());
    assert_eq!(home.entry(&child), plain);
}

#[test]
fn file_capabilities_outlive_a_change_of_owner() {
    if !is_root() {
        eprintln!("skipped: only root sets file capabilities");
        return;
    }
    let home = Home::new();
    let path = home.file("file", b"");
    let mut entry = Entry { mode: 0o755, ..home.entry(&path) };
    entry.xattrs = xattrs(&[("security.capability", CAPABILITY)]);
    if !set(&home, &path, &entry).is_empty() {
        eprintln!("skipped: no file capabilities here");
        return;
    }
    let given = Entry { uid: 1234, ..entry };
    assert!(set(&home, &path, &given).is_empty());
    assert_eq!(home.entry(&path), given);
}

#[test]
fn an_ordinary_user_is_told_what_it_cannot_hold() {
    let home = Home::new();
    let path = home.file("file", b"x");
    let entry = Entry {
        mode: 0o6755,
        uid: 1234,
        gid: 4321,
        mtime: time(9, 9),
        xattrs: xattrs(&[("security.capability", CAPABILITY)]),
        ..home.entry(&path)
    };
    as_ordinary_user(|| {
        assert_eq!(Privilege::detect(), Privilege::none());
        let unheld = set(&home, &path, &entry);
        assert!(unheld.owner && unheld.group);
        assert_eq!(unheld.mode, 0o6000);
        assert_eq!(unheld.xattrs, [b"security.capability".as_slice().into()]);
    });
    let held = home.entry(&path);
    assert_eq!((held.mode, held.mtime), (0o755, time(9, 9)));
}

#[test]
fn an_ordinary_user_gives_a_read_only_file_its_attributes() {
    let home = Home::new();
    if !home.has_xattrs() {
        eprintln!("skipped: no extended attributes here");
        return;
    }
    let path = home.file("file", b"x");
    home.root.set_mode(&path, 0o444).unwrap();
    let entry = Entry { mtime: time(9, 9), xattrs: xattrs(&[("user.a", b"1")]), ..home.entry(&path) };
    as_ordinary_user(|| assert!(set(&home, &path, &entry).is_empty()));
    assert_eq!(home.entry(&path), entry);
    // Not even readable, so its attributes cannot be compared as it is.
    let closed = Entry { mode: 0, xattrs: xattrs(&[("user.a", b"2")]), ..entry };
    as_ordinary_user(|| assert!(set(&home, &path, &closed).is_empty()));
    assert_eq!(home.root.stat(&path).unwrap().unwrap().mode, 0);
    home.root.set_mode(&path, 0o600).unwrap();
    assert_eq!(home.entry(&path), Entry { mode: 0o600, ..closed });
}

#[test]
fn times_that_no_file_can_have_are_refused_or_told() {
    let home = Home::new();
    let path = home.file("file", b"");
    assert!(home.root.set_mtime(&path, time(0, 1_000_000_000)).is_err());
    // UTIME_NOW.
    assert!(home.root.set_mtime(&path, time(0, 0x3fff_ffff)).is_err());
    let entry = Entry { mtime: time(i64::MAX, 0), ..home.entry(&path) };
    assert_eq!(set(&home, &path, &entry).mtime, home.entry(&path).mtime != entry.mtime);
}

#[test]
fn a_link_keeps_no_user_attributes_and_says_so() {
    let home = Home::new();
    let path = rel("link");
    home.root.make_symlink(&path, b"target").unwrap();
    let entry = Entry { xattrs: xattrs(&[("user.a", b"1")]), ..home.entry(&path) };
    assert_eq!(set(&home, &path, &entry).xattrs, [b"user.a".as_slice().into()]);
}

#[test]
fn attributes_are_not_given_to_another_kind() {
    let home = Home::new();
    let (file, folder) = (home.file("file", b""), home.directory("folder"));
    let (policy, privilege) = (XattrPolicy::default(), Privilege::detect());
    let error = home.root.set_attributes(&file, &home.entry(&folder), &policy, &privilege).unwrap_err();
    assert!(matches!(error, FsError::WrongKind { .. }));
    assert_eq!(error.to_string(), "file is not a directory");
    assert!(
        home.root.set_attributes(&rel("missing"), &home.entry(&file), &policy, &privilege).unwrap_err().is_not_found()
    );
}
