//! Paths beyond what the kernel takes, inodes without a path, and what is no directory.

use super::*;

/// A directory whose absolute path is `length` bytes long, made step by step, and its path in the home.
fn deep(house: &House, length: usize) -> (RelPath, OwnedFd) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: OwnedFd = File::open(&house.home).unwrap().into();
    let mut made = RelPath::root();
    let mut left = length - house.home.as_os_str().len();
    while left > 0 {
        // A name and its slash; the last one must not be left without a name.
        let step = if left > 402 { 201 } else { left.div_ceil(2).max(2) };
        let step = if left <= 201 { left } else { step };
        let name = vec![b'x'; step - 1];
        match rustix::fs::mkdirat(&directory, &*name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => panic!("{error}"),
        }
        directory = rustix::fs::openat(&directory, &*name, flags, Mode::empty()).unwrap();
        made = made.join(&crate::words::path::Name::parse(&name).unwrap());
        left -= step;
    }
    (made, directory)
}

#[test]
fn a_directory_deeper_than_the_kernel_takes_is_watched_through_its_descriptor() {
    for backend in BACKENDS {
        for (length, fits) in [(4094, true), (4095, true), (4096, false), (4097, false), (9000, false)] {
            let mut house = House::open(backend);
            let (made, directory) = deep(&house, length);
            let without = house.watcher.watch_directory(&made, None);
            assert!(
                if fits { without.is_ok() } else { matches!(without, Err(WatchError::TooLong { .. })) },
                "{without:?}"
            );
            house.watcher.watch_directory(&made, Some(directory.as_fd())).unwrap();
            assert_eq!(house.watcher.watches(), 1);
            let flags = OFlags::CREATE | OFlags::WRONLY;
            let file = rustix::fs::openat(&directory, "file", flags, Mode::RUSR).unwrap();
            drop(file);
            let expected = made.join(&crate::words::path::Name::parse(b"file").unwrap());
            let by = SourceId(u8::from(backend == Backend::Inotify || !fits));
            let is_it = |change: &Change| match &change.kind {
                // However long the path is, it was looked at.
                ChangeKind::Appeared { path, directory: false, seen: Some(inode) } => {
                    (change.source, path, inode.nlink) == (by, &expected, 1)
                }
                _ => false,
            };
            assert!(house.settled_raw().iter().any(is_it), "{backend:?} {length}");
            house.watcher.unwatch_directory(&made);
            assert_eq!(house.watcher.watches(), 0);
        }
    }
}

#[test]
fn a_hard_linked_file_is_told_by_its_inode_when_another_name_is_used() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.make("watched");
        let elsewhere = house.outside.path().join("other name");
        fs::write(&elsewhere, "one").unwrap();
        fs::hard_link(&elsewhere, house.at("watched/name")).unwrap();
        house.settled();
        let write = || OpenOptions::new().append(true).open(&elsewhere).unwrap().write_all(b"two").unwrap();
        write();
        assert_eq!(lines(&house.settled()), [""; 0], "{backend:?}: the directory is not told of the other name");

        let metadata = fs::metadata(&elsewhere).unwrap();
        let inode = InodeId { dev: metadata.dev(), ino: metadata.ino() };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = rustix::fs::open(house.at("watched/name"), flags, Mode::empty()).unwrap();
        house.watcher.watch_inode(inode, file.as_fd()).unwrap();
        house.watcher.watch_inode(inode, file.as_fd()).unwrap();
        assert_eq!(house.watcher.watches(), 2);
        drop(file);
        write();
        assert_eq!(house.settled(), [ChangeKind::InodeTouched { inode }], "{backend:?}");

        house.watcher.unwatch_inode(inode);
        house.watcher.unwatch_inode(inode);
        write();
        assert_eq!(lines(&house.settled()), [""; 0], "{backend:?}");
        assert_eq!(house.watcher.watches(), 1);
    }
}

#[test]
fn an_inode_that_is_removed_is_told_and_no_longer_watched() {
    let mut house = House::open(Backend::Inotify);
    let elsewhere = house.outside.path().join("f");
    let file = File::create(&elsewhere).unwrap();
    let inode = InodeId { dev: file.metadata().unwrap().dev(), ino: file.metadata().unwrap().ino() };
    house.watcher.watch_inode(inode, file.as_fd()).unwrap();
    drop(file);
    fs::remove_file(&elsewhere).unwrap();
    assert_eq!(house.settled(), [ChangeKind::InodeTouched { inode }]);
    assert_eq!(house.watcher.watches(), 0);
}

#[test]
fn what_is_no_directory_or_leads_elsewhere_is_not_watched() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        fs::write(house.at("file"), "").unwrap();
        fs::create_dir(house.outside.path().join("target")).unwrap();
        std::os::unix::fs::symlink(house.outside.path().join("target"), house.at("link")).unwrap();
        for name in ["file", "file/below", "link", "nothing"] {
            let refused = house.watcher.watch_directory(&path(name), None);
            assert!(matches!(refused, Err(WatchError::Gone { .. })), "{backend:?} {name}: {refused:?}");
        }
        assert_eq!(house.watcher.watches(), 0);
        fs::write(house.at("file"), "changed").unwrap();
        fs::write(house.outside.path().join("target/f"), "").unwrap();
        assert_eq!(lines(&house.settled()), [""; 0], "{backend:?}");
    }
}
