//! What is refused, and what goes wrong while it is read: a clear error, and nothing lost.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::build;
use common::compare::{Snapshot, exists};
use common::{Bed, Ended, finish, is_root, skip};

/// A refusal: that exit code, an error that names what is wrong, no panic.
fn assert_refused(ended: &Ended, code: i32, path: impl AsRef<Path>) {
    let path = path.as_ref();
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    assert!(ended.stderr.contains(&path.display().to_string()), "{} is not named: {}", path.display(), ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_missing_home() {
    let bed = Bed::new();
    let missing = bed.path("missing");
    let ended = finish(bed.mirror_of(&["--once"], &missing, &bed.destination()));
    assert_refused(&ended, 2, &missing);
    assert!(!exists(&bed.destination()), "nothing was made");
}

#[test]
fn an_unreadable_home() {
    if !is_root() {
        return skip("an_unreadable_home", "only root can start the program as another user");
    }
    let bed = Bed::new();
    bed.give_to_user();
    build::file(&bed.src("file"), "x");
    fs::create_dir(bed.path("closed")).unwrap();
    build::mode(&bed.path("closed"), 0o700);
    let ended = finish(bed.as_user(bed.mirror_of(&["--once"], &bed.path("closed"), &bed.destination())));
    assert_refused(&ended, 2, bed.path("closed"));
    assert_eq!(fs::read_dir(bed.destination()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_home_that_is_a_file() {
    let bed = Bed::new();
    build::file(&bed.path("file"), "x");
    let ended = finish(bed.mirror_of(&["--once"], &bed.path("file"), &bed.destination()));
    assert_refused(&ended, 2, bed.path("file"));
    let ended = finish(bed.mirror_of(&["--once"], &bed.source(), &bed.path("file")));
    assert_refused(&ended, 2, bed.path("file"));
    assert_eq!(fs::read(bed.path("file")).unwrap(), b"x");
}

#[test]
fn a_home_that_is_the_whole_system() {
    let bed = Bed::new();
    assert_refused(&finish(bed.mirror_of(&["--once"], Path::new("/"), &bed.destination())), 2, "SRC");
    assert_refused(&finish(bed.mirror_of(&["--once"], &bed.source(), Path::new("/"))), 2, "DST");
    assert!(!exists(Path::new("/.hotspare")));
}

#[test]
fn a_home_inside_its_own_destination_and_the_reverse() {
    let bed = Bed::new();
    build::file(&bed.src("inner/file"), "x");
    symlink(bed.source(), bed.path("link")).unwrap();
    let before = Snapshot::with_reserved(&bed.source()).unwrap();
    for (source, destination) in [
        ("source", "source/copy"),
        ("source", "source/inner"),
        ("source/inner", "source"),
        ("source", "source"),
        ("source", "link"),
        ("link", "source/inner"),
        ("source", "link/new/below"),
        ("source/../source/inner", "link"),
    ] {
        let ended = finish(bed.mirror_of(&["--once", "--adopt"], &bed.path(source), &bed.path(destination)));
        assert_refused(&ended, 2, bed.path(source));
        let after = Snapshot::with_reserved(&bed.source()).unwrap();
        assert_eq!(after.items, before.items, "{source} to {destination}");
    }
}

#[test]
fn a_destination_that_is_not_empty_is_refused_and_not_touched() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "of the source");
    build::file(&bed.dst("precious"), "of the destination");
    let before = Snapshot::with_reserved(&bed.destination()).unwrap();
    let ended = finish(bed.mirror(&["--once"]));
    assert_refused(&ended, 4, bed.destination());
    assert!(ended.stderr.contains("--adopt"), "what to do is told: {}", ended.stderr);
    let after = Snapshot::with_reserved(&bed.destination()).unwrap();
    assert_eq!(after.items, before.items);
    assert_eq!(after.locals, before.locals);
}

#[test]
fn a_replica_of_another_home_is_refused_and_not_touched() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "of the source");
    bed.mirror_once();
    build::file(&bed.path("other/file"), "of another home");
    let before = Snapshot::of(&bed.destination()).unwrap();
    let ended = finish(bed.mirror_of(&["--once"], &bed.path("other"), &bed.destination()));
    assert_refused(&ended, 4, bed.destination());
    assert_eq!(Snapshot::of(&bed.destination()).unwrap().locals, before.locals);
    // It is still a replica of its own home.
    build::file(&bed.src("more"), "x");
    bed.mirror_once_and_compare();
}

#[test]
fn adoption_puts_aside_what_differs() {
    let bed = Bed::new();
    for name in ["same", "different", "directory/file", "kind"] {
        build::file(&bed.src(name), format!("{name} in the source"));
    }
    build::file(&bed.dst("same"), "same in the source");
    build::file(&bed.dst("different"), "my own text");
    build::file(&bed.dst("directory/extra"), "an extra of mine");
    build::file(&bed.dst("kind/file"), "in a directory of mine");
    let ended = finish(bed.mirror(&["--once", "--adopt"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    bed.assert_equal();
    let kept = Snapshot::with_reserved(&bed.destination()).unwrap();
    for content in ["my own text", "an extra of mine", "in a directory of mine"] {
        let digest = blake3::hash(content.as_bytes()).to_hex().to_string();
        let is_kept = |(path, item): (&String, &common::compare::Item)| {
            path.starts_with(".hotspare/") && item.content.ends_with(&digest)
        };
        assert!(kept.items.iter().any(is_kept), "{content:?} was not put aside");
    }
}

#[test]
fn special_files_are_skipped_and_nothing_waits_for_them() {
    let bed = Bed::new();
    build::file(&bed.src("file"), "x");
    build::file(&bed.src("directory/file"), "x");
    build::fifo(&bed.src("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(bed.src("directory/socket")).unwrap();
    if is_root() {
        let null = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, bed.src("device"), kind, mode, null).unwrap();
    }
    bed.mirror_once_and_compare();
    for name in ["fifo", "directory/socket", "device"] {
        assert!(!exists(&bed.dst(name)), "{name}");
    }
    // A file that becomes one, and the reverse.
    fs::remove_file(bed.src("file")).unwrap();
    build::fifo(&bed.src("file"));
    fs::remove_file(bed.src("fifo")).unwrap();
    build::file(&bed.src("fifo"), "x");
    bed.mirror_once_and_compare();
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_goes_on() {
    if !is_root() {
        return skip("a_file_that_cannot_be_read", "only root can start the program as another user");
    }
    let bed = Bed::new();
    bed.give_to_user();
    for name in ["a", "directory/closed", "closed directory/inside", "z"] {
        build::file(&bed.src(name), "x");
    }
    build::mode(&bed.src("directory/closed"), 0o600);
    build::mode(&bed.src("closed directory"), 0o700);
    let ended = finish(bed.as_user(bed.mirror(&["--once"])));
    assert!(matches!(ended.code, Some(0 | 1)), "{:?} {}", ended.code, ended.stderr);
    for name in ["directory/closed", "closed directory"] {
        assert!(ended.stderr.contains(name), "{name} is not named: {}", ended.stderr);
    }
    for name in ["a", "z"] {
        assert_eq!(fs::read(bed.dst(name)).unwrap(), b"x", "{name}");
    }
}

#[test]
fn what_cannot_be_read_any_more_keeps_its_copy() {
    if !is_root() {
        return skip("what_cannot_be_read_any_more", "only root can start the program as another user");
    }
    let bed = Bed::new();
    bed.give_to_user();
    for name in ["a", "closed file", "directory/inside"] {
        build::file(&bed.src(name), "x");
    }
    assert_eq!(finish(bed.as_user(bed.mirror(&["--once"]))).code, Some(0));
    build::file(&bed.src("closed file"), "changed");
    build::mode(&bed.src("closed file"), 0o600);
    build::mode(&bed.src("directory"), 0o700);
    let ended = finish(bed.as_user(bed.mirror(&["--once"])));
    assert!(matches!(ended.code, Some(0 | 1)), "{:?} {}", ended.code, ended.stderr);
    for name in ["a", "closed file", "directory/inside"] {
        assert_eq!(fs::read(bed.dst(name)).unwrap(), b"x", "{name}");
    }
}

/// Mirrors once while `write` is called again and again; then, when all is quiet, once more. Both must succeed.
fn while_writing(bed: &Bed, mut write: impl FnMut(&Bed, usize) + Send) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                write(bed, round);
            }
        });
        let ended = finish(bed.mirror(&["--once"]));
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    });
    bed.mirror_once_and_compare();
}

#[test]
fn a_file_that_shrinks_while_it_is_read() {
    let bed = Bed::new();
    let noise = Dice::new(5).noise(6_000_000);
    build::file(&bed.src("big"), &noise);
    build::home(&bed.src("rest"), 1);
    while_writing(&bed, |bed, round| {
        let file = fs::OpenOptions::new().write(true).open(bed.src("big")).unwrap();
        if round % 2 == 0 {
            file.set_len(u64::try_from(round % 5).unwrap() * 1_000_000).unwrap();
        } else {
            build::overwrite(&bed.src("big"), &noise, 0);
        }
    });
}

#[test]
fn a_file_that_vanishes_while_it_is_read() {
    let bed = Bed::new();
    let noise = Dice::new(6).noise(3_000_000);
    build::home(&bed.src("rest"), 2);
    while_writing(&bed, |bed, round| {
        let (file, directory) = (bed.src(format!("comes and goes {}", round % 3)), bed.src("directory"));
        build::file(&file, &noise);
        build::file(&directory.join("inside/file"), "x");
        fs::remove_file(&file).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_read() {
    let bed = Bed::new();
    let mut dice = Dice::new(7);
    let (one, other) = (dice.noise(2_000_000), dice.noise(2_500_000));
    build::file(&bed.src("file"), &one);
    build::home(&bed.src("rest"), 3);
    while_writing(&bed, |bed, round| match round % 4 {
        0 | 1 => {
            build::file(&bed.src("next"), if round % 4 == 0 { &other } else { &one });
            fs::rename(bed.src("next"), bed.src("file")).unwrap();
        }
        2 => {
            fs::remove_file(bed.src("file")).unwrap();
            build::file(&bed.src("file/is a directory"), "x");
        }
        _ => {
            fs::remove_dir_all(bed.src("file")).unwrap();
            symlink("nowhere", bed.src("file")).unwrap();
            fs::remove_file(bed.src("file")).unwrap();
        }
    });
}

#[test]
fn a_file_that_grows_while_it_is_read() {
    let bed = Bed::new();
    build::file(&bed.src("log"), Dice::new(8).noise(3_000_000));
    build::home(&bed.src("rest"), 4);
    while_writing(&bed, |bed, round| {
        build::append(&bed.src("log"), format!("line {round}\n").repeat(50));
        std::thread::sleep(std::time::Duration::from_millis(1));
    });
}
