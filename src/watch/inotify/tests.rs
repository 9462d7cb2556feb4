//! What the kernel does when its queue is full.

#![expect(
    clippy::disallowed_methods,
    reason = "a test makes the files that are watched, in its own temporary directory"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::super::tests::{line, path, wait_for};
use super::super::{ChangeKind, Mailbox, SourceId};
use super::*;

#[test]
fn an_overflow_of_the_kernels_queue_is_told_and_ended_by_a_restart() {
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let home = TempDir::new().unwrap();
    let home = home.path().canonicalize().unwrap();
    fs::create_dir_all(home.join(".hotspare/barriers")).unwrap();
    let mailbox = Arc::new(Mailbox::new(2 * limit));
    let mut source = InotifySource::open(&home, mailbox.feed(SourceId(0))).unwrap();
    source.watch_directory(&path(""), None).unwrap();
    ["a", "b"].iter().for_each(|name| fs::write(home.join(name), "").unwrap());

    // With the names held the reader can hand on nothing.
    let targets = Arc::clone(&source.targets);
    let held = lock(&targets);
    for number in 0..limit + BUFFER / size_of::<[u32; 4]>() {
        let name = if number % 2 == 0 { "a" } else { "b" };
        fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(home.join("lost")).unwrap();
    drop(held);
    let mut seen = Vec::new();
    wait_for(&mailbox, &mut seen, |seen| seen.iter().any(|change| change.kind == ChangeKind::Overflow));
    assert!(seen.iter().all(|change| line(&change.kind) != "appeared lost/"));

    source.restart().unwrap();
    assert_eq!(source.watches(), 0);
    source.watch_directory(&path(""), None).unwrap();
    fs::create_dir(home.join("found")).unwrap();
    wait_for(&mailbox, &mut seen, |seen| seen.iter().any(|change| line(&change.kind) == "appeared found/"));
}

#[test]
fn a_watch_has_one_name_and_a_name_one_watch() {
    let mut targets = Targets::default();
    let named = |text: &str| Target::Directory(path(text));
    assert_eq!(targets.name(1, named("a")), None);
    assert_eq!(targets.name(2, named("b")), None);
    // `a` is another inode now.
    assert_eq!(targets.name(3, named("a")), Some(1));
    // The inode of watch 2 was moved to `a`.
    assert_eq!(targets.name(2, named("a")), Some(3));
    assert_eq!(targets.directories, BTreeMap::from([(path("a"), 2)]));
    assert_eq!(targets.by_watch, HashMap::from([(2, named("a"))]));
    // The same again changes nothing.
    assert_eq!(targets.name(2, named("a")), None);
    assert_eq!(targets.directories.len(), 1);
}

#[test]
fn the_kernel_keeps_no_watch_that_has_no_name() {
    let home = TempDir::new().unwrap();
    let home = home.path().canonicalize().unwrap();
    ["a/b", "c/b", ".hotspare/barriers"].iter().for_each(|name| fs::create_dir_all(home.join(name)).unwrap());
    let mailbox = Arc::new(Mailbox::new(100));
    let mut source = InotifySource::open(&home, mailbox.feed(SourceId(0))).unwrap();
    let kept = |source: &InotifySource| {
        let said = fs::read_to_string(format!("/proc/self/fdinfo/{}", source.queue.as_raw_fd())).unwrap();
        said.lines().filter(|line| line.starts_with("inotify")).count()
    };
    source.watch_directory(&path("a/b"), None).unwrap();
    source.watch_directory(&path("a"), None).unwrap();
    assert_eq!(kept(&source), 3, "with the barrier directory");
    // Another inode under a watched name, unseen.
    fs::rename(home.join("a"), home.join("gone")).unwrap();
    fs::rename(home.join("c"), home.join("a")).unwrap();
    source.watch_directory(&path("a"), None).unwrap();
    source.watch_directory(&path("a/b"), None).unwrap();
    assert_eq!(kept(&source), 3);
    source.unwatch_directory(&path(""));
    assert_eq!((kept(&source), source.watches()), (1, 0));
}
