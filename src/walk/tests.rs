//! Walks of real homes: what is watched, what is found, what is not replicated.

#![expect(clippy::disallowed_methods, reason = "a test writes the home that is walked, in its own temporary directory")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::capture::tests::bench::{BACKENDS, Bench, now, path};
use crate::fs::Stat;
use crate::fs::tests::as_ordinary_user;
use crate::thought::generation::{Quality, Reason};
use crate::watch::{Backend, Options};
use crate::words::path::RelPath;

fn fifo(bench: &Bench, at: &str) {
    mknodat(CWD, bench.at(at), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn write(bench: &Bench, at: &str, content: &str) {
    fs::write(bench.at(at), content).unwrap();
}

#[track_caller]
fn settle(bench: &mut Bench) {
    bench.settle();
    bench.assert_same();
}

#[test]
fn what_is_made_in_a_new_directory_before_its_watch_is_found() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        settle(&mut bench);
        for index in 0..100 {
            bench.make(&format!("jobs/{index}/builds/1/log"), "before the watch");
        }
        settle(&mut bench);
        assert_eq!(bench.content("jobs/99/builds/1/log"), b"before the watch");
        // And what is made after it is, too.
        write(&bench, "jobs/99/builds/1/log", "after");
        settle(&mut bench);
    }
}

#[test]
fn a_directory_moved_in_is_taken_whole_and_one_moved_out_goes_whole() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        settle(&mut bench);
        fs::create_dir_all(bench.outside().join("from/a/b")).unwrap();
        fs::write(bench.outside().join("from/a/b/file"), "moved in").unwrap();
        fs::rename(bench.outside().join("from"), bench.at("to")).unwrap();
        settle(&mut bench);
        assert_eq!(bench.content("to/a/b/file"), b"moved in");
        write(&bench, "to/a/b/file", "written after it came");
        settle(&mut bench);
        let watches = bench.walker.watches();
        fs::rename(bench.at("to"), bench.outside().join("again")).unwrap();
        settle(&mut bench);
        assert!(!bench.has("to"));
        assert_eq!(bench.walker.watches(), watches - 3, "{backend:?}: what left is watched no longer");
        // What happens to it outside is nobody's business, even under the old name.
        fs::write(bench.outside().join("again/a/b/file"), "outside").unwrap();
        fs::create_dir(bench.at("to")).unwrap();
        settle(&mut bench);
    }
}

#[test]
fn a_mailbox_too_small_for_what_happens_leads_to_a_rescan() {
    for backend in BACKENDS {
        let mut bench = Bench::with(Options { mailbox_capacity: 4, backend, ..Options::default() }, &[]);
        for round in 0..3 {
            for index in 0..200 {
                bench.make(&format!("a/{}/{index}", index % 10), format!("{round}"));
                bench.make(&format!("b/{}/{index}", index % 10), format!("{round}"));
            }
            fs::rename(bench.at("b"), bench.at(&format!("b{round}"))).unwrap();
            settle(&mut bench);
        }
        assert!(bench.walker.findings().overflows > 0);
    }
}

#[test]
fn the_watches_follow_directories_that_are_removed_and_renamed() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        settle(&mut bench);
        let none = bench.walker.watches();
        for index in 0..50 {
            bench.make(&format!("a/{index}/file"), "x");
        }
        settle(&mut bench);
        assert_eq!(bench.walker.watches(), none + 51);
        fs::rename(bench.at("a"), bench.at("b")).unwrap();
        settle(&mut bench);
        assert_eq!(bench.walker.watches(), none + 51, "{backend:?}");
        write(&bench, "b/7/file", "written under the new name");
        settle(&mut bench);
        fs::remove_dir_all(bench.at("b")).unwrap();
        settle(&mut bench);
        assert_eq!(bench.walker.watches(), none, "{backend:?}");
    }
}

#[test]
fn a_directory_whose_end_is_told_late_does_not_take_its_successor_along() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("a/old", "x");
        settle(&mut bench);
        let open = fs::File::open(bench.at("a")).unwrap();
        fs::remove_dir_all(bench.at("a")).unwrap();
        bench.make("a/new/file", "x");
        drop(open);
        settle(&mut bench);
        write(&bench, "a/new/file", "is watched");
        settle(&mut bench);
    }
}

#[test]
fn a_link_from_outside_has_the_inode_watched() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("file", "one");
        let outside = bench.outside().join("outside");
        fs::hard_link(bench.at("file"), &outside).unwrap();
        settle(&mut bench);
        let watches = bench.walker.watches();
        fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(b", two").unwrap();
        settle(&mut bench);
        assert_eq!(bench.content("file"), b"one, two", "{backend:?}");
        // Renamed, it is still known.
        fs::rename(bench.at("file"), bench.at("renamed")).unwrap();
        settle(&mut bench);
        fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(b", three").unwrap();
        settle(&mut bench);
        assert_eq!(bench.content("renamed"), b"one, two, three", "{backend:?}");
        // When the name outside is gone, so is the watch.
        fs::remove_file(&outside).unwrap();
        settle(&mut bench);
        assert_eq!(bench.walker.watches(), watches - 1, "{backend:?}");
        assert_eq!(bench.row("renamed").entry.link, None);
        assert_eq!(bench.walker.findings().outside_links.count(), 0);
    }
}

#[test]
fn after_an_overflow_inodes_with_outside_links_are_watched_again() {
    let mut bench = Bench::with(Options { mailbox_capacity: 4, backend: Backend::Inotify, ..Options::default() }, &[]);
    bench.make("file", "one");
    let outside = bench.outside().join("outside");
    fs::hard_link(bench.at("file"), &outside).unwrap();
    settle(&mut bench);
    for index in 0..100 {
        bench.make(&format!("file {index}"), "x");
    }
    settle(&mut bench);
    assert!(bench.walker.findings().overflows > 0);
    fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(b", two").unwrap();
    settle(&mut bench);
    assert_eq!(bench.content("file"), b"one, two");
}

#[test]
fn links_within_the_home_need_no_watch_of_their_own() {
    let mut bench = Bench::new(Backend::Notify);
    bench.make("a/file", "one");
    settle(&mut bench);
    let watches = bench.walker.watches();
    fs::hard_link(bench.at("a/file"), bench.at("link")).unwrap();
    settle(&mut bench);
    assert_eq!(bench.walker.watches(), watches);
    fs::rename(bench.at("a"), bench.outside().join("a")).unwrap();
    settle(&mut bench);
    assert_eq!(bench.walker.watches(), watches, "one directory less, one inode more");
    fs::write(bench.outside().join("a/file"), "two").unwrap();
    settle(&mut bench);
    assert_eq!(bench.content("link"), b"two");
}

#[test]
fn what_is_no_file_is_counted_once_and_not_replicated() {
    let mut bench = Bench::new(Backend::Notify);
    bench.make("file", "x");
    fifo(&bench, "pipe");
    let _socket = UnixListener::bind(bench.at("socket")).unwrap();
    settle(&mut bench);
    fs::remove_file(bench.at("file")).unwrap();
    fifo(&bench, "file");
    settle(&mut bench);
    bench.walker.rescan(&path(""));
    settle(&mut bench);
    let findings = bench.walker.findings();
    assert_eq!((findings.fifos.count(), findings.sockets.count(), findings.devices.count()), (2, 1, 0));
    assert!(!bench.has("file"));
    fs::remove_file(bench.at("file")).unwrap();
    write(&bench, "file", "a file again");
    settle(&mut bench);
    assert_eq!(bench.walker.findings().skipped(), 2);
}

#[test]
fn what_cannot_be_read_is_said_and_left_as_it_was() {
    as_ordinary_user(|| {
        let mut bench = Bench::new(Backend::Notify);
        bench.make("secret", "x");
        settle(&mut bench);
        fs::set_permissions(bench.at("secret"), fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(bench.cut().quality, Quality::Fuzzy(vec![Reason::Unreadable]));
        assert_eq!(bench.walker.findings().unreadable.count(), 1);
        assert_eq!(bench.content("secret"), b"x");
        fs::set_permissions(bench.at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        settle(&mut bench);
        assert_eq!(bench.walker.findings().unreadable.count(), 0);
    });
}

/// G4. Nothing tells of the file itself when the directory above it is opened, by whatever number of others it is known to be unreadable.
#[test]
fn what_could_not_be_read_below_a_directory_is_found_when_that_is_open_again() {
    as_ordinary_user(|| {
        for backend in BACKENDS {
            for others in [0, 150] {
                let mut bench = Bench::new(backend);
                bench.make("closed/in/file", "1");
                (0..others).for_each(|number| bench.make(&format!("a{number}"), "x"));
                settle(&mut bench);
                let mode =
                    |at: &str, mode| fs::set_permissions(bench.at(at), fs::Permissions::from_mode(mode)).unwrap();
                (0..others).for_each(|number| mode(&format!("a{number}"), 0o000));
                let mut file = fs::OpenOptions::new().write(true).open(bench.at("closed/in/file")).unwrap();
                mode("closed", 0o000);
                file.write_all(b"2").unwrap();
                assert_eq!(bench.cut().quality, Quality::Fuzzy(vec![Reason::Unreadable]));
                assert_eq!(bench.content("closed/in/file"), b"1");
                fs::set_permissions(bench.at("closed"), fs::Permissions::from_mode(0o755)).unwrap();
                for _ in 0..20 {
                    bench.cut();
                }
                assert_eq!(bench.content("closed/in/file"), b"2", "{backend:?}, with {others} others");
            }
        }
    });
}

#[test]
fn what_is_left_out_is_neither_watched_nor_scanned_nor_replicated() {
    for backend in BACKENDS {
        let mut bench = Bench::with(Options { backend, ..Options::default() }, &["/cache/", "*.tmp"]);
        for index in 0..20 {
            bench.make(&format!("cache/{index}/file"), "x");
        }
        bench.settle();
        assert!(!bench.has("cache"));
        let watches = bench.walker.watches();
        bench.make("cache/new/file", "x");
        fs::set_permissions(bench.at("cache"), fs::Permissions::from_mode(0o700)).unwrap();
        write(&bench, "half.tmp", "x");
        bench.settle();
        assert_eq!((bench.has("cache"), bench.has("half.tmp")), (false, false), "{backend:?}");
        assert_eq!(bench.walker.watches(), watches);
        // The directory of what is left out is replicated with its time, and a file may have the name of such a directory.
        fs::remove_dir_all(bench.at("cache")).unwrap();
        fs::remove_file(bench.at("half.tmp")).unwrap();
        settle(&mut bench);
        fs::write(bench.outside().join("cache"), "a file").unwrap();
        fs::rename(bench.outside().join("cache"), bench.at("cache")).unwrap();
        settle(&mut bench);
        assert!(bench.has("cache"), "{backend:?}");
        fs::rename(bench.at("cache"), bench.at("cache.tmp")).unwrap();
        bench.settle();
        assert_eq!((bench.has("cache"), bench.has("cache.tmp")), (false, false));
        fs::create_dir(bench.at("cache")).unwrap();
        write(&bench, "cache/file", "x");
        bench.settle();
        assert!(!bench.has("cache"), "{backend:?}");
    }
}

/// A cut has captured what the tree does not know yet. Were that marked by each scan within the cut, no cut under load would come to its end.
#[test]
fn a_scan_within_a_cut_does_not_mark_what_the_cut_has_as_it_is_found() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make("gone", "1");
        settle(&mut bench);
        bench.make("d/new", "2");
        bench.make("d/other", "3");
        fs::remove_file(bench.at("gone")).unwrap();
        bench.walker.lost_sight(&path("seen by nobody"));
        assert!(bench.walker.has_lost_sight());
        bench.walker.compare_lost(&bench.tree);
        let has = |found: &RelPath, stat: Option<&Stat>| match stat {
            Some(_) => *found == path("d/new"),
            None => *found == path("gone"),
        };
        assert!(bench.walker.scan_beside(&bench.tree, &has, usize::MAX, now()).unwrap());
        // The scan alone: no event was listened to.
        let dirty: Vec<String> = bench.walker.dirty().paths().map(ToString::to_string).collect();
        assert!(!dirty.iter().any(|path| path == "d/new" || path == "gone"), "{dirty:?}");
        assert!(dirty.iter().any(|path| path == "d/other"), "{dirty:?}");
        assert!(!bench.walker.has_lost_sight());
        settle(&mut bench);
    }
}
