//! Names made, moved and removed.

use super::{Home, as_ordinary_user, is_root, rel};
use crate::fs::{FileType, FsError};
use crate::words::path::{Name, RelPath};

#[test]
fn a_listing_is_sorted_and_tells_kinds() {
    let home = Home::new();
    home.file("b", b"");
    home.directory("a");
    home.root.make_symlink(&rel("c"), b"nowhere").unwrap();
    let listed = home.root.list(&RelPath::root()).unwrap();
    let names: Vec<_> = listed.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    for ((_, what), expected) in listed.iter().zip([FileType::Directory, FileType::File, FileType::Symlink]) {
        assert!(what.is_none_or(|what| what == expected));
    }
    assert_eq!(&*home.root.read_link(&rel("c")).unwrap(), b"nowhere");
    assert!(home.root.list(&rel("missing")).unwrap_err().is_not_found());
}

#[test]
fn a_listing_of_many_names_is_whole() {
    let home = Home::new();
    for number in 0..5_000 {
        home.file(&format!("a-name-of-some-length-{number:05}"), b"");
    }
    assert_eq!(home.root.list(&RelPath::root()).unwrap().len(), 5_000);
}

#[test]
fn a_rename_never_replaces() {
    let home = Home::new();
    let (from, taken) = (home.file("from", b"from"), home.file("taken", b"taken"));
    let (folder, empty) = (home.directory("folder"), home.directory("empty"));
    assert!(home.root.rename(&from, &taken).unwrap_err().is_existing());
    assert!(home.root.rename(&folder, &empty).unwrap_err().is_existing());
    assert!(home.root.rename(&folder, &rel("folder/inside")).is_err());
    assert!(home.root.link(&from, &taken).unwrap_err().is_existing());
    assert!(home.root.make_symlink(&taken, b"x").unwrap_err().is_existing());
    assert!(home.root.make_directory(&taken, 0o700).unwrap_err().is_existing());
    assert_eq!(home.content(&taken), b"taken");
    home.root.rename(&from, &rel("folder/moved")).unwrap();
    assert_eq!(home.content(&rel("folder/moved")), b"from");
    let error = home.root.rename(&from, &taken).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "cannot rename from to taken");
}

#[test]
fn a_link_is_a_second_name_of_the_same_inode() {
    let home = Home::new();
    let first = home.file("first", b"x");
    home.root.link(&first, &rel("second")).unwrap();
    let (a, b) = (home.root.stat(&first).unwrap().unwrap(), home.root.stat(&rel("second")).unwrap().unwrap());
    assert!(a.inode.is_same(&b.inode));
    assert_eq!(b.inode.nlink, 2);
}

#[test]
fn a_very_deep_tree_is_removed_without_stack_or_descriptors() {
    let home = Home::new();
    let name = Name::parse(b"d").unwrap();
    let mut path = rel("top");
    home.root.make_directory(&path, 0o700).unwrap();
    for _ in 1..3_000 {
        path = path.join(&name);
        home.root.make_directory(&path, 0o700).unwrap();
    }
    home.root.create_file(&path.join(&name)).unwrap();
    let root = &home.root;
    let removal = || assert_eq!(root.remove_tree(&rel("top")).unwrap(), 3_001);
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, removal).unwrap();
    });
    assert!(home.root.list(&RelPath::root()).unwrap().is_empty());
}

#[test]
fn a_wide_tree_is_removed_whole_and_only_it() {
    let home = Home::new();
    home.directory("tree");
    for folder in 0..30 {
        home.directory(&format!("tree/{folder}"));
        home.directory(&format!("tree/{folder}/sub"));
        for file in 0..5 {
            home.file(&format!("tree/{folder}/sub/{file}"), b"x");
        }
    }
    home.file("kept", b"");
    home.root.make_symlink(&rel("tree/link"), b"../kept").unwrap();
    let mut pieces = Vec::new();
    loop {
        let (count, is_gone) = home.root.remove_some(&rel("tree"), 50).unwrap();
        pieces.push(count);
        if is_gone {
            break;
        }
    }
    assert_eq!(pieces.iter().sum::<u64>(), 30 * 7 + 2);
    assert!(pieces.len() >= 4 && pieces.iter().all(|count| *count <= 51), "{pieces:?}");
    assert_eq!(home.root.remove_tree(&rel("tree")).unwrap(), 0);
    assert_eq!(home.root.list(&RelPath::root()).unwrap().len(), 1);
}

#[test]
fn an_ordinary_user_removes_trees_of_read_only_directories() {
    let home = Home::new();
    home.directory("tree");
    home.directory("tree/closed");
    home.file("tree/closed/file", b"x");
    home.directory("tree/closed/none");
    for (path, mode) in [("tree/closed/none", 0), ("tree/closed", 0o500), ("tree", 0o400)] {
        home.root.set_mode(&rel(path), mode).unwrap();
    }
    as_ordinary_user(|| assert_eq!(home.root.remove_tree(&rel("tree")).unwrap(), 4));
}

#[test]
fn an_ordinary_user_moves_a_read_only_directory_once_it_is_made_writable() {
    let home = Home::new();
    let (folder, other) = (home.directory("folder"), home.directory("other"));
    home.root.set_mode(&folder, 0o555).unwrap();
    as_ordinary_user(|| {
        let moved = rel("other/folder");
        assert!(home.root.rename(&folder, &moved).unwrap_err().is_permission());
        assert!(home.root.create_file(&rel("folder/new")).unwrap_err().is_permission());
        assert_eq!(home.root.ensure_writable(&other).unwrap(), None);
        assert_eq!(home.root.ensure_writable(&folder).unwrap(), Some(0o555));
        home.root.rename(&folder, &moved).unwrap();
        home.root.set_mode(&moved, 0o555).unwrap();
        assert_eq!(home.root.stat(&moved).unwrap().unwrap().mode, 0o555);
    });
}

#[test]
fn a_mount_inside_a_tree_is_not_emptied() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
    if !is_root() {
        eprintln!("skipped: only root mounts");
        return;
    }
    let home = Home::new();
    home.directory("tree");
    home.directory("tree/mounted");
    home.directory("source");
    home.file("source/precious", b"x");
    let mounted = home.host_path("tree/mounted");
    let tmpfs = mount(c"tmpfs", &mounted, c"tmpfs", MountFlags::empty(), None).is_ok();
    if !tmpfs {
        eprintln!("skipped: no mounting here");
        return;
    }
    let refused = home.root.remove_tree(&rel("tree"));
    unmount(&mounted, UnmountFlags::empty()).unwrap();
    assert!(matches!(refused, Err(FsError::MountPoint { ref path }) if &**path == "tree/mounted"), "{refused:?}");

    // Of the same file system: the device number does not tell.
    mount_bind(home.host_path("source"), &mounted).unwrap();
    let refused = home.root.remove_tree(&rel("tree"));
    unmount(&mounted, UnmountFlags::empty()).unwrap();
    assert!(matches!(refused, Err(FsError::MountPoint { .. })), "{refused:?}");
    assert_eq!(home.content(&rel("source/precious")), b"x");
}
