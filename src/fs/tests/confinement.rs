//! G8: no link is followed, nothing outside is touched, whatever the path.

use std::path::Path;

use super::{Home, rel};
use crate::fs::{FsError, Privilege, Root, XattrPolicy};
use crate::words::path::{Name, RelPath};

#[test]
fn a_home_must_be_a_readable_directory_and_not_the_whole_system() {
    let home = Home::new();
    home.file("file", b"");
    assert!(matches!(Root::open(Path::new("/")), Err(FsError::WholeSystem { .. })));
    assert!(matches!(Root::open(Path::new("/tmp/..")), Err(FsError::WholeSystem { .. })));
    assert!(Root::open(&home.host_path("missing")).unwrap_err().is_not_found());
    assert!(Root::open(&home.host_path("file")).unwrap_err().is_not_found());
    assert_eq!(home.root.path(), home.directory.path());
}

#[test]
fn a_parent_that_is_a_link_is_refused_by_every_operation() {
    for home in [Home::new(), Home::stepwise()] {
        let outside = Home::new();
        outside.file("victim", b"precious");
        outside.directory("empty");
        home.root.make_symlink(&rel("out"), outside.directory.path().as_os_str().as_encoded_bytes()).unwrap();
        let inside = home.file("inside", b"mine");
        let entry = outside.entry(&rel("victim"));
        let before = outside.root.stat(&rel("victim")).unwrap();

        let (victim, new, policy) = (rel("out/victim"), rel("out/new"), XattrPolicy::default());
        let root = &home.root;
        assert_eq!(root.stat(&victim).unwrap(), None);
        assert_eq!(root.remove_tree(&victim).unwrap(), 0);
        let refusals = [
            root.enter(&rel("out/empty")).map(drop),
            root.list(&rel("out/empty")).map(drop),
            root.read_link(&victim).map(drop),
            root.xattrs(&victim, &policy).map(drop),
            root.open_read(&victim).map(drop),
            root.open_write(&victim).map(drop),
            root.create_file(&new).map(drop),
            root.make_directory(&new, 0o700),
            root.make_symlink(&new, b"x"),
            root.rename(&victim, &rel("stolen")),
            root.rename(&inside, &new),
            root.link(&victim, &rel("stolen")),
            root.link(&inside, &new),
            root.remove_file(&victim),
            root.remove_directory(&rel("out/empty")),
            root.ensure_writable(&victim).map(drop),
            root.set_attributes(&victim, &entry, &policy, &Privilege::detect()).map(drop),
            root.set_mode(&victim, 0o777),
            root.set_mtime(&victim, super::time(1, 1)),
            root.sync_file(&victim),
            root.sync_directory(&rel("out/empty")),
        ];
        for (number, refusal) in refusals.into_iter().enumerate() {
            let error = refusal.expect_err(&format!("operation {number} followed the link"));
            assert!(error.is_refused_link() || error.is_not_found(), "operation {number}: {error:?}");
        }
        assert_eq!(outside.root.stat(&rel("victim")).unwrap(), before);
        assert_eq!(outside.root.list(&RelPath::root()).unwrap().len(), 2);
    }
}

#[test]
fn a_link_itself_is_never_followed() {
    let home = Home::new();
    let target = home.file("target", b"precious");
    let (folder, inner) = (home.directory("folder"), home.file("folder/inner", b""));
    let (link, folder_link) = (rel("link"), rel("folder-link"));
    home.root.make_symlink(&link, b"target").unwrap();
    home.root.make_symlink(&folder_link, b"folder").unwrap();
    let before = home.root.stat(&target).unwrap();

    assert!(home.root.open_read(&link).unwrap_err().is_refused_link());
    assert!(home.root.open_write(&link).unwrap_err().is_refused_link());
    assert!(home.root.create_file(&link).unwrap_err().is_existing());
    assert!(home.root.list(&folder_link).unwrap_err().is_not_found());
    assert!(home.root.enter(&folder_link).unwrap_err().is_not_found());
    assert!(home.root.sync_file(&link).is_err());
    assert!(home.root.sync_directory(&folder_link).is_err());
    home.root.set_mode(&link, 0o777).ok();
    home.root.set_mtime(&link, super::time(5, 5)).unwrap();
    assert_eq!(home.root.remove_tree(&folder_link).unwrap(), 1);
    assert_eq!(home.root.stat(&target).unwrap(), before);
    assert!(home.root.stat(&inner).unwrap().is_some());
    assert!(home.root.stat(&folder).unwrap().is_some());
}

#[test]
fn what_would_leave_the_home_cannot_be_said() {
    assert!(RelPath::parse(b"../x").is_err());
    assert!(RelPath::parse(b"/etc/passwd").is_err());
    assert!(Name::parse(b"..").is_err());
}

#[test]
fn the_root_has_no_name_to_change() {
    let home = Home::new();
    let root = RelPath::root();
    assert!(home.root.remove_tree(&root).is_err());
    assert!(home.root.remove_directory(&root).is_err());
    assert!(home.root.rename(&root, &rel("x")).is_err());
    assert!(home.root.make_directory(&root, 0o700).is_err());
    assert!(home.root.stat(&root).unwrap().unwrap().is_directory());
    home.root.set_mtime(&root, super::time(7, 7)).unwrap();
    assert_eq!(home.entry(&root).mtime, super::time(7, 7));
}

#[test]
fn paths_longer_than_the_kernel_takes_work_for_everything() {
    for home in [Home::new(), Home::stepwise()] {
        let name = Name::parse(&[b'd'; 199]).unwrap();
        let mut path = RelPath::root();
        for _ in 0..50 {
            path = path.join(&name);
            home.root.make_directory(&path, 0o700).unwrap();
        }
        assert!(path.as_bytes().len() > 9_900);
        let (file, moved) = (path.join(&Name::parse(b"file").unwrap()), path.join(&Name::parse(&[b'm'; 255]).unwrap()));
        home.root.create_file(&file).unwrap().write_at(b"deep", 0).unwrap();
        home.root.rename(&file, &moved).unwrap();
        home.root.link(&moved, &file).unwrap();
        let mut entry = home.entry(&moved);
        entry.mtime = super::time(3, 3);
        entry.mode = 0o640;
        let (policy, privilege) = (XattrPolicy::default(), Privilege::detect());
        assert!(home.root.set_attributes(&moved, &entry, &policy, &privilege).unwrap().is_empty());
        assert_eq!(home.entry(&file), entry);
        assert_eq!(home.content(&file), b"deep");
        assert_eq!(home.root.list(&path).unwrap().len(), 2);
        home.root.sync_file(&file).unwrap();
        home.root.sync_directory(&path).unwrap();
        let top = path.components().next().unwrap();
        assert_eq!(home.root.remove_tree(&RelPath::root().join(&top)).unwrap(), 52);
    }
}

#[test]
fn names_may_be_any_bytes() {
    let home = Home::new();
    let names: Vec<_> =
        [&b"new\nline"[..], b"\xff\xfe", b" ", b"-rf", b"\\", b"%s"].map(|raw| RelPath::parse(raw).unwrap()).into();
    for name in &names {
        home.root.create_file(name).unwrap().write_at(name.as_bytes(), 0).unwrap();
        home.root.xattrs(name, &XattrPolicy::default()).unwrap();
        assert_eq!(home.content(name), name.as_bytes());
    }
    let mut expected: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    expected.sort();
    let listed: Vec<_> = home.root.list(&RelPath::root()).unwrap();
    assert_eq!(listed.iter().map(|(name, _)| name.as_bytes().to_vec()).collect::<Vec<_>>(), expected);
    let error = home.root.create_file(&names[0]).unwrap_err();
    assert_eq!(error.to_string(), "cannot create new\\x0aline");
}
