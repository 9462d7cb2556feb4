//! What a replica must have of its home: a test for every line of it. Each builds a source, mirrors it once, and compares with our
//! own comparator and with rsync.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};

use common::build;
use common::{Bed, finish, is_root, skip};

/// An ACL as the kernel keeps it: owner rwx, user 1234 r, group r, mask rx, others none.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x04\0\xd2\x04\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
/// `cap_net_bind_service=ep`, version 2.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn content_of_every_size_and_kind() {
    let bed = Bed::new();
    let mut dice = Dice::new(1);
    for size in [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 9_000_000] {
        build::file(&bed.src(format!("noise/{size}")), dice.noise(size));
        build::file(&bed.src(format!("zeros/{size}")), vec![0; size]);
        build::file(&bed.src(format!("text/{size}")), "a line of a log\n".repeat(size / 16));
    }
    fs::copy(bed.src("noise/9000000"), bed.src("noise/the same again")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn modes_with_setuid_setgid_and_sticky() {
    let bed = Bed::new();
    for mode in [0o000, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o1755, 0o2755, 0o4755, 0o6711, 0o7777] {
        let (file, directory) = (bed.src(format!("file-{mode:o}")), bed.src(format!("directory-{mode:o}")));
        build::file(&file, "x");
        build::mode(&file, mode);
        if is_root() || mode & 0o700 == 0o700 {
            build::file(&directory.join("inside"), "x");
            build::mode(&directory, mode);
        } else if mode & 0o400 == 0 {
            // Not readable by us either: another test.
            build::mode(&file, 0o640);
        }
    }
    build::mode(&bed.source(), 0o2750);
    bed.mirror_once_and_compare();
}

#[test]
fn owner_and_group() {
    if !is_root() {
        return skip("owner_and_group", "files can be given away by root only");
    }
    let bed = Bed::new();
    for (name, owner, group) in [("a", 1234, 0), ("b", 0, 4321), ("c", 1234, 4321), ("d", 4_000_000_000, 4_000_000_001)]
    {
        build::file(&bed.src(name), "x");
        build::mode(&bed.src(name), 0o755);
        build::file(&bed.src(format!("directory-{name}/inside")), "x");
        symlink("a", bed.src(format!("link-{name}"))).unwrap();
        for path in [name.to_owned(), format!("directory-{name}"), format!("link-{name}")] {
            lchown(bed.src(path), Some(owner), Some(group)).unwrap();
        }
        // chown takes the setuid bit, so it is set after.
        build::mode(&bed.src(name), 0o6755);
    }
    chown(bed.source(), Some(77), Some(78)).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn modification_times_to_the_nanosecond_of_directories_and_links_too() {
    let bed = Bed::new();
    let times =
        [(0, 0), (1, 1), (1_700_000_000, 123_456_789), (1_700_000_000, 999_999_999), (4_102_444_800, 5), (-3, 7)];
    for (number, (seconds, nanoseconds)) in times.into_iter().enumerate() {
        build::file(&bed.src(format!("directory-{number}/inside/file")), "x");
        build::file(&bed.src(format!("file-{number}")), "x");
        symlink("nowhere", bed.src(format!("link-{number}"))).unwrap();
        for path in ["directory-N/inside/file", "directory-N/inside", "directory-N", "file-N", "link-N"] {
            build::mtime(&bed.src(path.replace('N', &number.to_string())), seconds, nanoseconds);
        }
    }
    build::mtime(&bed.source(), 1_600_000_000, 42);
    bed.mirror_once();
    bed.assert_equal();
}

#[test]
fn symbolic_links_as_themselves() {
    let bed = Bed::new();
    build::file(&bed.src("directory/file"), "x");
    build::file(&bed.path("outside/secret"), "not to be copied");
    let long = "long/".repeat(818);
    let targets =
        ["directory", "directory/file", "nowhere", "/etc/passwd", "/", ".", "..", "../outside", "itself-6", &long];
    for (number, target) in targets.into_iter().enumerate() {
        symlink(target, bed.src(format!("link-{number}"))).unwrap();
    }
    symlink("loop-b", bed.src("loop-a")).unwrap();
    symlink("loop-a", bed.src("loop-b")).unwrap();
    symlink(OsStr::from_bytes(b"not \xff utf-8\n"), bed.src("odd")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn hard_links_stay_links() {
    let bed = Bed::new();
    build::file(&bed.src("a/one"), Dice::new(2).noise(100_000));
    build::file(&bed.src("z/alone"), "alone");
    for name in ["a/two", "b", "z/three"] {
        fs::hard_link(bed.src("a/one"), bed.src(name)).unwrap();
    }
    symlink("nowhere", bed.src("link")).unwrap();
    fs::hard_link(bed.src("link"), bed.src("a/link")).unwrap();
    // Another name lies outside of the home.
    build::file(&bed.path("outside"), "x");
    fs::hard_link(bed.path("outside"), bed.src("half-outside")).unwrap();
    bed.mirror_once_and_compare();
    assert_eq!(fs::metadata(bed.dst("b")).unwrap().nlink(), 4);
    // Each way in which links change: one more name, one fewer, parted, joined, written through another name.
    fs::hard_link(bed.src("z/alone"), bed.src("a/no-more-alone")).unwrap();
    fs::remove_file(bed.src("z/three")).unwrap();
    fs::remove_file(bed.src("a/two")).unwrap();
    build::file(&bed.src("a/two"), "its own now");
    build::append(&bed.src("b"), "written through b");
    bed.mirror_once_and_compare();
}

#[test]
fn extended_attributes_and_acls() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "x");
    build::file(&bed.src("directory/inside"), "x");
    build::file(&bed.src("read-only"), "x");
    if !build::xattr(&bed.src("file"), "user.note", b"a note") {
        return skip("extended_attributes_and_acls", "the temporary directory keeps none");
    }
    assert!(build::xattr(&bed.src("file"), "user.empty", b""));
    assert!(build::xattr(&bed.src("file"), "user.bytes", b"\0\xff\n"));
    assert!(build::xattr(&bed.src("file"), "user.long", &[b'x'; 2000]));
    assert!(build::xattr(&bed.src("directory"), "user.of-directory", b"1"));
    assert!(build::xattr(&bed.src("read-only"), "user.note", b"1"));
    build::mode(&bed.src("read-only"), 0o444);
    assert!(build::xattr(&bed.source(), "user.of-root", b"1"));
    if !build::xattr(&bed.src("file"), "system.posix_acl_access", ACL) {
        skip("extended_attributes_and_acls (ACLs)", "the temporary directory keeps none");
    }
    build::xattr(&bed.src("directory"), "system.posix_acl_access", ACL);
    build::xattr(&bed.src("directory"), "system.posix_acl_default", ACL);
    // Made under a default ACL, which the copy's new files must not inherit a second time.
    build::file(&bed.src("directory/heir"), "x");
    fs::create_dir(bed.src("directory/heiress")).unwrap();
    if is_root() {
        build::xattr(&bed.src("directory/inside"), "security.capability", CAPABILITY);
    }
    bed.mirror_once_and_compare();
    rustix::fs::removexattr(bed.src("file"), "user.note").unwrap();
    build::xattr(&bed.src("file"), "user.bytes", b"other");
    bed.mirror_once_and_compare();
}

#[test]
fn attributes_that_mean_something_to_one_machine_only_are_left_out() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "x");
    if !build::xattr(&bed.src("file"), "trusted.overlay.opaque", b"y") {
        return skip("attributes_that_mean_something_to_one_machine_only", "trusted.* can be set by root only");
    }
    bed.mirror_once();
    let found = bed.differences().unwrap();
    assert!(found.is_empty(), "{found:?}");
    let mut value = [0; 16];
    assert!(rustix::fs::getxattr(bed.dst("file"), "trusted.overlay.opaque", &mut value).is_err());
}

#[test]
fn sparse_files_stay_sparse() {
    let bed = Bed::new();
    let sparse = |name: &str, length: u64| {
        build::file(&bed.src(name), "");
        fs::OpenOptions::new().write(true).open(bed.src(name)).unwrap().set_len(length).unwrap();
    };
    sparse("nothing but a hole", 64 << 20);
    sparse("data in the middle", 32 << 20);
    build::overwrite(&bed.src("data in the middle"), &Dice::new(3).noise(100_000), 10_000_001);
    sparse("data at the end", 16 << 20);
    build::append(&bed.src("data at the end"), "the end");
    build::file(&bed.src("hole at the end"), Dice::new(4).noise(200_000));
    fs::OpenOptions::new().write(true).open(bed.src("hole at the end")).unwrap().set_len(8 << 20).unwrap();
    if fs::metadata(bed.src("nothing but a hole")).unwrap().blocks() > 1000 {
        return skip("sparse_files_stay_sparse", "the temporary directory keeps no holes");
    }
    bed.mirror_once_and_compare();
}

#[test]
fn empty_files_and_directories() {
    let bed = Bed::new();
    bed.mirror_once_and_compare();
    for name in ["empty", "a/b/c/empty"] {
        build::file(&bed.src(name), "");
    }
    fs::create_dir_all(bed.src("directory/in/directory")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn names_that_are_not_text() {
    let bed = Bed::new();
    let long = [b'n'; 255];
    let names: [&[u8]; 16] = [
        b"not utf-8 \xff\xfe\x80",
        b"new\nline",
        b"tab\t",
        b"\x01\x7f",
        b" ",
        b"-rf",
        b"*",
        b"[a]?",
        b"back\\slash",
        b"'\"`$(x)",
        b"...",
        b".hidden",
        b"~",
        "\u{fc}\u{1f980}\u{202e}".as_bytes(),
        b"#!",
        &long,
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        build::file(&bed.src("files").join(name), name.as_bytes());
        build::file(&bed.src("directories").join(name).join(name), "x");
    }
    // Our own name is reserved at the top only.
    build::file(&bed.src("files/.hotspare/file"), "x");
    bed.mirror_once_and_compare();
}

#[test]
fn paths_beyond_path_max() {
    let bed = Bed::new();
    build::deep(&bed.source(), &"d".repeat(200), 40);
    build::deep(&bed.source(), "e", 300);
    bed.mirror_once();
    // Not by rsync, which does not reach that far.
    let found = bed.differences().unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_file_becomes_a_directory_and_the_reverse() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "x");
    build::file(&bed.src("directory/with/files"), "x");
    build::file(&bed.src("becomes a link"), "x");
    symlink("directory", bed.src("link")).unwrap();
    fs::create_dir(bed.src("empty")).unwrap();
    bed.mirror_once_and_compare();
    fs::remove_file(bed.src("file")).unwrap();
    build::file(&bed.src("file/is/now/a directory"), "y");
    fs::remove_dir_all(bed.src("directory")).unwrap();
    build::file(&bed.src("directory"), "now a file");
    fs::remove_file(bed.src("becomes a link")).unwrap();
    symlink("file", bed.src("becomes a link")).unwrap();
    fs::remove_file(bed.src("link")).unwrap();
    build::file(&bed.src("link/is/now/a directory"), "y");
    fs::remove_dir(bed.src("empty")).unwrap();
    symlink("/", bed.src("empty")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn renames_in_cycles_swaps_and_into_each_other() {
    let bed = Bed::new();
    for name in ["a", "b", "c", "d", "e"] {
        build::file(&bed.src(format!("files/{name}")), name.repeat(5000));
        build::file(&bed.src(format!("directories/{name}/inside/file")), name.repeat(5000));
    }
    build::file(&bed.src("outer/inner/file"), "x");
    bed.mirror_once_and_compare();
    let rename = |from: &str, to: &str| fs::rename(bed.src(from), bed.src(to)).unwrap();
    for place in ["files", "directories"] {
        let at = |name: &str| format!("{place}/{name}");
        for (from, to) in [("a", "x"), ("c", "a"), ("b", "c"), ("x", "b"), ("d", "x"), ("e", "d"), ("x", "e")] {
            rename(&at(from), &at(to));
        }
    }
    // What was inside is outside now, and the reverse.
    rename("outer/inner", "x");
    rename("outer", "x/inner");
    rename("x", "outer");
    // A directory takes over the name of another, which moves into it.
    rename("directories/a", "y");
    rename("directories/b", "directories/a");
    rename("y", "directories/a/b");
    bed.mirror_once_and_compare();
}

#[test]
fn read_only_directories() {
    let bed = Bed::new();
    build::file(&bed.src("locked/inner/file"), "x");
    build::file(&bed.src("locked/gone"), "x");
    let lock = |mode| ["locked/inner", "locked"].iter().for_each(|path| build::mode(&bed.src(path), mode));
    lock(0o555);
    bed.mirror_once_and_compare();
    build::mode(&bed.src("locked"), 0o755);
    build::mode(&bed.src("locked/inner"), 0o755);
    build::file(&bed.src("locked/inner/file"), "changed");
    build::file(&bed.src("locked/more"), "x");
    fs::remove_file(bed.src("locked/gone")).unwrap();
    lock(0o555);
    bed.mirror_once_and_compare();
    fs::rename(bed.src("locked"), bed.src("moved")).unwrap();
    bed.mirror_once_and_compare();
    build::mode(&bed.src("moved"), 0o755);
    build::mode(&bed.src("moved/inner"), 0o755);
    fs::remove_dir_all(bed.src("moved")).unwrap();
    bed.mirror_once_and_compare();
}

#[test]
fn as_an_ordinary_user_everything_but_the_owner_is_held_and_that_is_told_once() {
    if !is_root() {
        return skip("as_an_ordinary_user", "only root can make files of several owners");
    }
    let bed = Bed::new();
    bed.give_to_user();
    for name in ["mine", "not mine", "directory/not mine"] {
        build::file(&bed.src(name), name);
    }
    build::mode(&bed.src("not mine"), 0o4755);
    build::file(&bed.src("locked/file"), "x");
    build::mode(&bed.src("locked"), 0o555);
    for name in ["mine", "locked", "locked/file"] {
        chown(bed.src(name), Some(common::USER), Some(common::USER)).unwrap();
    }
    let ended = finish(bed.as_user(bed.mirror(&["--once"])));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let found = bed.differences().unwrap();
    let other = |line: &&String| !line.contains(": owner is (65534, 65534)") && !line.contains("not mine: mode is");
    let others: Vec<&String> = found.iter().filter(other).collect();
    assert!(others.is_empty(), "{others:?}\n{}", ended.stderr);
    assert!(!found.is_empty());
    let told = ended.stderr.to_lowercase().matches("owner").count();
    assert_eq!(told, 1, "what is not held is told once: {}", ended.stderr);
}
