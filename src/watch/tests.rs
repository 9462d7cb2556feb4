//! The room as a whole, on real files, with either backend. Nothing here waits for time to pass: a barrier tells when all was
//! delivered.

#![expect(
    clippy::disallowed_methods,
    reason = "a test makes the files that are watched, in its own temporary directory"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

use super::*;
use crate::thought::dice::Dice;

mod moves;
mod ways;

const BACKENDS: [Backend; 2] = [Backend::Notify, Backend::Inotify];

pub(super) struct House {
    pub(super) watcher: Watcher,
    /// The home; its parent is the temporary directory, and is not watched.
    pub(super) home: PathBuf,
    pub(super) outside: TempDir,
}

impl House {
    pub(super) fn open(backend: Backend) -> Self {
        Self::with(Options { backend, ..Options::default() }, |_| {})
    }

    fn with(options: Options, before: impl FnOnce(&Path)) -> Self {
        let outside = TempDir::new().unwrap();
        let home = outside.path().canonicalize().unwrap().join("home");
        fs::create_dir(&home).unwrap();
        before(&home);
        Self { watcher: Watcher::open(&home, options).unwrap(), home, outside }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    pub(super) fn make(&mut self, directory: &str) {
        fs::create_dir(self.at(directory)).unwrap();
        self.watch(directory);
    }

    pub(super) fn watch(&mut self, directory: &str) {
        self.watcher.watch_directory(&path(directory), None).unwrap();
    }

    /// All that happened so far, and the answers to one more barrier, as they came.
    pub(super) fn settled_raw(&mut self) -> Vec<Change> {
        let barrier = self.watcher.raise_barrier().unwrap();
        let answer = ChangeKind::Barrier { name: barrier.name };
        let mut seen = Vec::new();
        self.until(&mut seen, |seen, sources| seen.iter().filter(|change| change.kind == answer).count() == sources);
        seen
    }

    /// All that happened so far, without barriers; what came behind the answer of its own source is an error.
    pub(super) fn settled(&mut self) -> Vec<ChangeKind> {
        let mut answered = Vec::new();
        let mut before = Vec::new();
        for change in self.settled_raw() {
            if matches!(change.kind, ChangeKind::Barrier { .. }) {
                answered.push(change.source);
            } else {
                assert!(!answered.contains(&change.source), "{change:?} came behind the barrier");
                before.push(change.kind);
                // Neighbours may have been drained apart.
                before.dedup_by(|later, earlier| match (later, earlier) {
                    (ChangeKind::Touched { path, written: more }, ChangeKind::Touched { path: same, written })
                        if path == same =>
                    {
                        *written |= *more;
                        true
                    }
                    (later, earlier) => later == earlier && matches!(later, ChangeKind::InodeTouched { .. }),
                });
            }
        }
        before
    }

    pub(super) fn until(&self, seen: &mut Vec<Change>, done: impl Fn(&[Change], usize) -> bool) {
        wait_for(self.watcher.mailbox(), seen, |seen| done(seen, self.watcher.sources()));
    }
}

/// Drains until `done`; gives up when nothing came for half a minute.
pub(super) fn wait_for(mailbox: &Mailbox, seen: &mut Vec<Change>, done: impl Fn(&[Change]) -> bool) {
    while !done(seen) {
        let came = mailbox.drain(Duration::from_secs(30));
        assert!(!came.is_empty(), "nothing came for half a minute; seen: {seen:?}");
        seen.extend(came);
    }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// A change in one short line; cookies and what only one backend tells are left out.
pub(super) fn line(kind: &ChangeKind) -> String {
    match kind {
        ChangeKind::Touched { path, .. } => format!("touched {path}"),
        ChangeKind::Appeared { path, directory, .. } => format!("appeared {path}{}", if *directory { "/" } else { "" }),
        ChangeKind::Vanished { path, directory } => format!("vanished {path}{}", if *directory { "/" } else { "" }),
        ChangeKind::MovedFrom { path, .. } => format!("from {path}"),
        ChangeKind::MovedTo { path, .. } => format!("to {path}"),
        ChangeKind::Overflow => "overflow".into(),
        ChangeKind::Unmounted { path } => format!("unmounted {path}"),
        ChangeKind::LostWatch { path } => format!("lost {path}"),
        ChangeKind::InodeTouched { .. } => "inode touched".into(),
        ChangeKind::Barrier { .. } => "barrier".into(),
    }
}

pub(super) fn lines(kinds: &[ChangeKind]) -> Vec<String> {
    kinds.iter().map(line).collect()
}

#[test]
fn what_is_done_to_a_file_is_what_is_told() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        house.make("a");
        house.make("a/b");
        assert_eq!(lines(&house.settled()), ["appeared a/", "appeared a/b/"]);

        fs::write(house.at("a/b/f"), "one").unwrap();
        fs::rename(house.at("a/b/f"), house.at("g")).unwrap();
        fs::hard_link(house.at("g"), house.at("a/h")).unwrap();
        fs::set_permissions(house.at("a/h"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::remove_file(house.at("g")).unwrap();
        let seen = house.settled();
        let expected =
            ["appeared a/b/f", "touched a/b/f", "from a/b/f", "to g", "appeared a/h", "touched a/h", "vanished g"];
        assert_eq!(lines(&seen), expected, "{backend:?}");
        let cookies: Vec<_> = seen.iter().filter_map(cookie).collect();
        assert!(cookies.len() == 2 && cookies[0] == cookies[1] && cookies[0] != 0, "{cookies:?}");

        // The backends differ in who tells first of a removed directory; both tell.
        fs::remove_dir(house.at("a/b")).unwrap();
        let seen = lines(&house.settled());
        assert!(
            seen.contains(&"vanished a/b/".to_owned()) && seen.iter().all(|line| line == "vanished a/b/"),
            "{seen:?}"
        );
        assert_eq!(house.watcher.watches(), 2, "{backend:?}");
    }
}

fn cookie(kind: &ChangeKind) -> Option<u32> {
    match kind {
        ChangeKind::MovedFrom { cookie, .. } | ChangeKind::MovedTo { cookie, .. } => Some(*cookie),
        _ => None,
    }
}

#[test]
fn names_need_not_be_text() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        let name = b"\xff\xfe build\n#1";
        let directory = house.home.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&directory).unwrap();
        house.watcher.watch_directory(&RelPath::parse(name).unwrap(), None).unwrap();
        File::create(directory.join(std::ffi::OsStr::from_bytes(b"\x80"))).unwrap();
        let expected = RelPath::parse(&[name, &b"/\x80"[..]].concat()).unwrap();
        let is_it = |kind: &ChangeKind| matches!(kind, ChangeKind::Appeared { path, directory: false, seen: Some(_) } if *path == expected);
        assert!(house.settled().iter().any(is_it), "{backend:?}");
    }
}

#[test]
fn an_open_file_that_grows_is_told_before_it_is_closed() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        let mut log = File::create(house.at("log")).unwrap();
        log.write_all(b"line").unwrap();
        assert_eq!(lines(&house.settled()), ["appeared log", "touched log"]);
        log.write_all(b"line").unwrap();
        assert_eq!(lines(&house.settled()), ["touched log"], "{backend:?}");
    }
}

#[test]
fn a_barrier_comes_behind_all_that_was_done_before_it() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        (0..5).for_each(|number| house.make(&format!("d{number}")));
        house.settled();
        let mut dice = Dice::new(1);
        let mut below = |limit: u64| dice.below(limit);
        let mut expected: Vec<String> = Vec::new();
        let mut files: Vec<String> = Vec::new();
        for number in 0..2000 {
            let fresh = format!("d{}/f{number}", below(5));
            let pick = usize::try_from(below(files.len().max(1) as u64)).unwrap();
            match if files.is_empty() { 0 } else { below(5) } {
                0 | 1 => {
                    File::create(house.at(&fresh)).unwrap();
                    expected.push(format!("appeared {fresh}"));
                    files.push(fresh);
                }
                2 => {
                    OpenOptions::new().append(true).open(house.at(&files[pick])).unwrap().write_all(b"more").unwrap();
                    expected.push(format!("touched {}", files[pick]));
                }
                3 => {
                    fs::rename(house.at(&files[pick]), house.at(&fresh)).unwrap();
                    expected.extend([format!("from {}", files[pick]), format!("to {fresh}")]);
                    files[pick] = fresh;
                }
                _ => {
                    fs::remove_file(house.at(&files[pick])).unwrap();
                    expected.push(format!("vanished {}", files.swap_remove(pick)));
                }
            }
        }
        expected.dedup();
        let seen = lines(&house.settled());
        let mut rest = seen.iter();
        for wanted in &expected {
            assert!(rest.any(|line| line == wanted), "{backend:?}: {wanted} is missing, or out of order");
        }
    }
}

#[test]
fn a_full_mailbox_says_so_once_and_still_answers() {
    let options = Options { mailbox_capacity: 8, backend: Backend::Inotify, ..Options::default() };
    let mut house = House::with(options, |_| {});
    house.watch("");
    (0..100).for_each(|number| drop(File::create(house.at(&number.to_string())).unwrap()));
    let barrier = house.watcher.raise_barrier().unwrap();
    // Eight changes, the marker, the answer. Not drained before all are there.
    for _ in 0..6000 {
        if house.watcher.mailbox().len() == 10 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let seen = house.watcher.mailbox().drain(Duration::ZERO);
    let kinds: Vec<_> = seen.into_iter().map(|change| change.kind).collect();
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    assert_eq!(kinds[8..], [ChangeKind::Overflow, ChangeKind::Barrier { name: barrier.name }]);
    assert_eq!(kinds.iter().filter(|kind| **kind == ChangeKind::Overflow).count(), 1);
    File::create(house.at("afterwards")).unwrap();
    assert_eq!(lines(&house.settled()), ["appeared afterwards", "touched afterwards"]);
}

#[test]
fn barriers_are_told_as_nothing_else_and_leave_no_files() {
    for backend in BACKENDS {
        let options = Options { backend, ..Options::default() };
        let mut house = House::with(options, |home| {
            fs::create_dir_all(home.join(".hotspare/barriers")).unwrap();
            fs::write(home.join(".hotspare/barriers/barrier-1-2"), "stale").unwrap();
            fs::write(home.join(".hotspare/barriers/other"), "not ours").unwrap();
        });
        house.watch("");
        let left = |house: &House| fs::read_dir(house.at(".hotspare/barriers")).unwrap().count();
        assert_eq!(left(&house), 1, "the stale one is swept, nothing else is");

        let names: Vec<_> = (0..50).map(|_| house.watcher.raise_barrier().unwrap().name).collect();
        File::create(house.at(".hotspare/barriers/barrier-9-9")).unwrap();
        fs::remove_file(house.at(".hotspare/barriers/other")).unwrap();
        fs::create_dir(house.at(".hotspare/stage")).unwrap();
        let seen = house.settled_raw();
        for source in 0..house.watcher.sources() {
            let source = SourceId(u8::try_from(source + usize::from(backend == Backend::Inotify)).unwrap());
            let answers: Vec<_> = seen.iter().filter(|change| change.source == source).collect();
            assert_eq!(answers.len(), 51, "{backend:?}: {answers:?}");
            let expected = names.iter().map(|&name| ChangeKind::Barrier { name });
            assert!(answers.iter().zip(expected).all(|(answer, kind)| answer.kind == kind), "{answers:?}");
        }
        assert_eq!(left(&house), 1, "only the forged one is left");
    }
}

#[test]
fn a_barrier_is_no_younger_than_what_is_done_after_it() {
    let mut house = House::open(Backend::Inotify);
    fs::write(house.at("before"), "").unwrap();
    let barrier = house.watcher.raise_barrier().unwrap();
    fs::write(house.at("after"), "").unwrap();
    let ctime = |name: &str| {
        let metadata = fs::metadata(house.at(name)).unwrap();
        (metadata.ctime(), u32::try_from(metadata.ctime_nsec()).unwrap())
    };
    let raised = (barrier.ctime.seconds, barrier.ctime.nanoseconds);
    assert!(ctime("before") <= raised && raised <= ctime("after"));
}

#[test]
fn threads_end_with_the_watcher() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        house.settled();
        let mailbox = Arc::clone(house.watcher.mailbox());
        drop(house);
        // Each thread holds the mailbox until it ends. Ours is joined, notify's ends when it comes to it.
        for _ in 0..6000 {
            if Arc::strong_count(&mailbox) == 1 {
                break;
            }
            assert_eq!(backend, Backend::Notify);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(Arc::strong_count(&mailbox), 1);
    }
}
