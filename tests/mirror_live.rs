//! A live mirror: whatever is done to the source, the destination becomes equal. Nothing here is timed; the deadlines only tell a copy
//! that will never be equal from one that is not yet.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::build;
use common::{Bed, Running, has_tool, note, skip};
use hotspare::thought::dice::Dice;
use rustix::process::Signal;

fn start(bed: &Bed) -> Running {
    bed.start(bed.mirror(&["-v"]))
}

/// Ends a live mirror as a person does.
fn end(bed: &Bed, mut running: Running) {
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), Some(0), "{}", running.stderr());
    bed.assert_equal();
}

fn run(program: &str, directory: &Path, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository of `revisions` tags `r0`, `r1`.., each far from the one before.
fn repository(directory: &Path, revisions: usize) {
    let mut dice = Dice::new(20);
    fs::create_dir_all(directory).unwrap();
    run("git", directory, &["init", "-q"]);
    for revision in 0..revisions {
        for _ in 0..60 {
            let path = directory.join(format!("src/d{}/e{}/f{}", dice.index(8), dice.index(5), dice.index(6)));
            if dice.index(4) == 0 {
                fs::remove_file(path).ok();
            } else {
                let length = dice.index(20_000);
                build::file(&path, dice.noise(length));
            }
        }
        // A directory that is a file in every other revision.
        let turning = directory.join("turning");
        if revision % 2 == 0 {
            fs::remove_file(&turning).ok();
            build::file(&turning.join(format!("file-{revision}")), "x");
        } else {
            fs::remove_dir_all(&turning).unwrap();
            build::file(&turning, "x");
        }
        run("git", directory, &["add", "-A"]);
        let name = format!("r{revision}");
        run("git", directory, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", &name]);
        run("git", directory, &["tag", &name]);
    }
}

#[test]
fn a_working_tree_that_is_checked_out_copied_moved_and_removed() {
    if !has_tool("git") {
        return skip("a_working_tree_that_is_checked_out", "there is no git");
    }
    let bed = Bed::new();
    build::home(&bed.source(), 20);
    repository(&bed.src("repo"), 8);
    let mut running = start(&bed);
    bed.wait_until_equal(&mut running);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A log grows through all of it.
        scope.spawn(|| {
            build::file(&bed.src("growing.log"), "");
            let mut dice = Dice::new(21);
            while !is_done.load(Ordering::Relaxed) {
                build::append(&bed.src("growing.log"), format!("a line {}\n", dice.index(1_000_000)).repeat(100));
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut dice = Dice::new(22);
        for step in 0..20 {
            let revision = format!("r{}", dice.index(8));
            run("git", &bed.src("repo"), &["checkout", "-q", "--force", &revision]);
            match step % 4 {
                0 => run("cp", &bed.source(), &["-a", "repo", &format!("copy-{step}")]),
                1 => fs::rename(bed.src(format!("copy-{}", step - 1)), bed.src(format!("moved-{step}"))).unwrap(),
                2 => fs::rename(bed.src("jobs"), bed.src(format!("moved-{}/jobs", step - 1))).unwrap(),
                _ => {
                    fs::rename(bed.src(format!("moved-{}/jobs", step - 2)), bed.src("jobs")).unwrap();
                    fs::remove_dir_all(bed.src(format!("moved-{}", step - 2))).unwrap();
                }
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    bed.wait_until_equal(&mut running);
    end(&bed, running);
}

#[test]
fn changes_of_every_kind_one_after_another() {
    let bed = Bed::new();
    build::home(&bed.source(), 23);
    build::file(&bed.src("big"), Dice::new(24).noise(8_000_000));
    let mut running = start(&bed);
    bed.wait_until_equal(&mut running);
    let changes: [(&str, &dyn Fn()); 12] = [
        ("append to a big file", &|| build::append(&bed.src("big"), Dice::new(25).noise(10_000))),
        ("edit it in place", &|| build::overwrite(&bed.src("big"), b"in place", 4_000_000)),
        ("shift all of it", &|| {
            let content = fs::read(bed.src("big")).unwrap();
            build::file(&bed.src("big"), [b"shifted".as_slice(), &content].concat());
        }),
        ("shorten it", &|| {
            fs::OpenOptions::new().write(true).open(bed.src("big")).unwrap().set_len(5_000_000).unwrap();
        }),
        ("replace it as editors do", &|| {
            build::file(&bed.src("big.new"), Dice::new(26).noise(100_000));
            fs::rename(bed.src("big.new"), bed.src("big")).unwrap();
        }),
        ("swap directories", &|| {
            fs::rename(bed.src("jobs/job-1"), bed.src("x")).unwrap();
            fs::rename(bed.src("jobs/job-2"), bed.src("jobs/job-1")).unwrap();
            fs::rename(bed.src("x"), bed.src("jobs/job-2")).unwrap();
        }),
        ("make a tree deep at once", &|| build::file(&bed.src("a/b/c/d/e/f/g/h"), "x")),
        ("part a hard link", &|| {
            fs::remove_file(bed.src("plugins/git.bak")).unwrap();
            fs::copy(bed.src("plugins/git.jpi"), bed.src("plugins/git.bak")).unwrap();
        }),
        ("join one", &|| fs::hard_link(bed.src("big"), bed.src("plugins/big")).unwrap()),
        ("write through one of two names", &|| build::append(&bed.src("plugins/big"), "more")),
        ("change attributes only", &|| {
            build::mode(&bed.src("jobs"), 0o700);
            build::mtime(&bed.src("jobs/job-3"), 1, 2);
            build::xattr(&bed.src("big"), "user.note", b"1");
        }),
        ("move a tree in, and one out", &|| {
            build::home(&bed.path("outside"), 27);
            fs::rename(bed.path("outside"), bed.src("from outside")).unwrap();
            fs::rename(bed.src("jobs/job-5"), bed.path("to outside")).unwrap();
            build::file(&bed.path("to outside/config.xml"), "not to be followed");
        }),
    ];
    for (name, change) in changes {
        change();
        note(&format!("waiting after: {name}"));
        bed.wait_until_equal(&mut running);
    }
    end(&bed, running);
}

#[test]
fn a_mirror_killed_while_it_works_converges_when_it_is_started_again() {
    let bed = Bed::new();
    build::home(&bed.source(), 28);
    let mut dice = Dice::new(29);
    for round in 0..6_u64 {
        let mut running = start(&bed);
        for step in 0..20 {
            let name = format!("round-{round}/{step}");
            let length = dice.index(200_000);
            build::file(&bed.src(&name), dice.noise(length));
            if step % 3 == 2 {
                fs::rename(bed.src(&name), bed.src(format!("{name}-moved"))).unwrap();
            }
            std::thread::sleep(Duration::from_millis(u64::try_from(dice.index(40)).unwrap()));
        }
        assert_eq!(running.ended(), None, "{}", running.stderr());
        running.signal(Signal::KILL);
        assert_eq!(running.wait(), None);
    }
    let mut running = start(&bed);
    bed.wait_until_equal(&mut running);
    end(&bed, running);
}

#[test]
fn a_mirror_told_to_end_before_it_is_done_ends_well_and_is_finished_by_the_next() {
    let bed = Bed::new();
    build::home(&bed.source(), 30);
    build::file(&bed.src("big"), Dice::new(31).noise(20_000_000));
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = start(&bed);
        // It is told at some moment of its beginning, once it has something to end.
        while running.ended().is_none() && !common::compare::exists(&bed.destination()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150));
        running.signal(signal);
        assert_eq!(running.wait(), Some(0), "{}", running.stderr());
    }
    bed.mirror_once_and_compare();
}

#[test]
fn a_live_mirror_follows_where_once_ended() {
    let bed = Bed::new();
    build::home(&bed.source(), 32);
    bed.mirror_once_and_compare();
    fs::remove_dir_all(bed.src("jobs/job-0")).unwrap();
    let mut running = start(&bed);
    bed.wait_until_equal(&mut running);
    build::file(&bed.src("more"), "x");
    bed.wait_until_equal(&mut running);
    end(&bed, running);
}
