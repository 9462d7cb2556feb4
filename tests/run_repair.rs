//! A replica that was changed by hand, or has rotted, is mended, and what was there is kept.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::build;
use common::pair::Pair;

fn streaming(seed: u64) -> Pair {
    let mut pair = Pair::trusting();
    // The scrub would find and mend what a test is about, in its own time.
    for node in [&mut pair.primary, &mut pair.standby] {
        node.edit("# rate = \"8MiB\"", "rate = \"off\"");
    }
    build::home(&pair.bed.source(), seed);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair
}

/// Changes of every kind; what was there by hand must be found again in a bundle.
fn edit_by_hand(pair: &Pair) {
    let dst = |path: &str| pair.bed.dst(path);
    build::append(&dst("plugins/git.jpi"), "by hand, appended");
    fs::write(dst("jobs/job-1/config.xml"), "by hand, rewritten").unwrap();
    build::file(&dst("jobs/job-1/by-hand/deep/er"), "by hand, new");
    fs::remove_file(dst("jobs/job-2/config.xml")).unwrap();
    fs::remove_dir_all(dst("jobs/job-3")).unwrap();
    fs::rename(dst("jobs/job-4"), dst("jobs/moved-by-hand")).unwrap();
    build::mode(&dst("jobs/job-5"), 0o700);
    build::mtime(&dst("jobs/job-6/config.xml"), 1_400_000_000, 5);
    fs::remove_file(dst("jobs/job-7/config.xml")).unwrap();
    fs::create_dir(dst("jobs/job-7/config.xml")).unwrap();
}

fn assert_kept(pair: &Pair) {
    let mut texts = Vec::new();
    read_all(&pair.bed.dst(".hotspare/bundles"), &mut texts);
    for text in ["by hand, appended", "by hand, rewritten", "by hand, new"] {
        assert!(texts.iter().any(|(_, content)| content.contains(text)), "lost: {text}");
    }
}

fn read_all(directory: &Path, texts: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, texts);
        } else if let Ok(content) = fs::read(&path) {
            texts.push((path, String::from_utf8_lossy(&content).into_owned()));
        }
    }
}

#[test]
fn what_was_changed_while_the_standby_was_down_is_mended_when_it_is_back() {
    let mut pair = streaming(1);
    pair.standby.stop();
    edit_by_hand(&pair);
    build::file(&pair.bed.src("jobs/job-8/meanwhile"), "on the primary");
    pair.start_standby();
    pair.until_equal();
    pair.converge();
    assert_kept(&pair);
    let log = pair.standby.log();
    assert!(log.contains("the replica was changed since it was left"), "{log}");
    assert!(log.contains("not as the replica should have it") && log.contains("path=plugins/git.jpi"), "{log}");
    pair.assert_verified(&pair.primary);
    // What nobody touched is not compared again by content, nor is anything changed by the next start.
    pair.standby.stop();
    pair.start_standby();
    pair.until_streaming();
    assert!(!pair.standby.log().contains("was changed since"), "{}", pair.standby.log());
}

#[test]
fn resync_lists_and_then_mends_what_was_changed_by_hand() {
    let mut pair = streaming(2);
    edit_by_hand(&pair);
    let dry = pair.ask(&pair.primary, &["resync", "--dry-run"]);
    assert_eq!(dry.code, Some(1), "{}{}", dry.stdout, dry.stderr);
    for line in [
        "jenkins-b  >f+++++++++ jobs/job-2/config.xml",
        "jenkins-b  cd+++++++++ jobs/job-3",
        "jenkins-b  *deleting   jobs/moved-by-hand",
        "jenkins-b  .d...p..... jobs/job-5",
        "jenkins-b  .f..t...... jobs/job-6/config.xml",
        "jenkins-b  >fcst...... plugins/git.jpi",
    ] {
        assert!(dry.stdout.lines().any(|found| found == line), "no {line} in\n{}", dry.stdout);
    }
    assert!(!pair.bed.differences().unwrap().is_empty(), "a dry run changes nothing");
    // A part, then all of it.
    let part = pair.ask(&pair.primary, &["resync", "jobs/job-1", "plugins"]);
    assert_eq!(part.code, Some(0), "{}{}\n{}", part.stdout, part.stderr, pair.told());
    let equal = |path: &str| fs::read(pair.bed.src(path)).ok() == fs::read(pair.bed.dst(path)).ok();
    assert!(equal("plugins/git.jpi") && equal("jobs/job-1/config.xml"), "{}", part.stdout);
    assert!(!pair.bed.dst("jobs/job-1/by-hand").exists() && !pair.bed.dst("jobs/job-3").exists());
    let all = pair.ask(&pair.primary, &["resync"]);
    assert_eq!(all.code, Some(0), "{}{}\n{}", all.stdout, all.stderr, pair.told());
    assert!(all.stdout.contains(" paths mended"), "{}", all.stdout);
    pair.converge();
    assert_kept(&pair);
    let again = pair.ask(&pair.primary, &["resync", "--checksum"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "jenkins-b: nothing to mend\n"), "{}", again.stderr);
    assert_eq!(pair.ask(&pair.standby, &["resync"]).code, Some(4));
    // It goes on streaming from there.
    build::file(&pair.bed.src("jobs/job-1/later"), "later");
    pair.converge();
    pair.assert_verified(&pair.primary);
}

#[test]
fn only_reading_finds_what_left_size_and_time_alone() {
    let mut pair = streaming(3);
    rot(&pair.bed.dst("plugins/git.jpi"));
    let quick = pair.ask(&pair.primary, &["resync"]);
    assert_eq!((quick.code, quick.stdout.as_str()), (Some(0), "jenkins-b: nothing to mend\n"), "{}", quick.stderr);
    let close = pair.ask(&pair.primary, &["resync", "--checksum"]);
    assert_eq!(close.code, Some(0), "{}{}", close.stdout, close.stderr);
    assert!(close.stdout.contains("jenkins-b  >fc........ plugins/git.jpi"), "{}", close.stdout);
    pair.converge();
    pair.assert_verified(&pair.primary);
}

/// Changes one byte and nothing that `stat` shows.
fn rot(path: &Path) {
    let times = fs::metadata(path).unwrap();
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    build::overwrite(path, &content[middle..=middle], middle as u64);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(times.modified().unwrap())).unwrap();
}

#[test]
fn a_kill_while_a_replica_is_mended_leaves_a_whole_one() {
    let mut pair = streaming(4);
    for round in 0..3 {
        pair.standby.stop();
        edit_by_hand(&pair);
        build::append(&pair.bed.dst("jobs/job-8/config.xml"), format!("round {round}"));
        pair.start_standby();
        std::thread::sleep(std::time::Duration::from_millis(40 * round));
        pair.standby.kill();
        pair.start_standby();
        pair.until_equal();
        pair.converge();
    }
    assert_kept(&pair);
    pair.assert_verified(&pair.primary);
}

#[test]
fn the_scrub_finds_rot_on_a_replica_and_changes_that_left_no_trace_on_the_primary() {
    let mut pair = Pair::trusting();
    for node in [&mut pair.primary, &mut pair.standby] {
        node.edit("# rate = \"8MiB\"", "rate = \"1GiB\"");
        node.edit("# every = \"1day\"", "every = \"1s\"");
    }
    build::home(&pair.bed.source(), 5);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    rot(&pair.bed.dst("plugins/git.jpi"));
    fs::write(pair.bed.dst("jobs/job-1/config.xml"), "by hand, rewritten").unwrap();
    pair.until("the replica is mended", |pair| pair.status(&pair.standby)["scrub"]["found"].as_u64() >= Some(2));
    pair.converge();
    let log = pair.standby.log();
    assert!(log.contains("the scrub found the replica changed or damaged"), "{log}");
    assert!(log.contains("path=plugins/git.jpi") && log.contains("path=jobs/job-1/config.xml"), "{log}");
    let page = pair.ask(&pair.standby, &["status"]).stdout;
    assert!(page.contains("paths found different"), "{page}");
    missed_write(&mut pair);
    // Passes go on, and are remembered.
    let passes = |pair: &Pair| pair.status(&pair.primary)["scrub"]["passes"].as_u64();
    pair.until("two passes", |pair| passes(pair) >= Some(2));
    pair.primary.stop();
    pair.start_primary();
    pair.until("they are remembered", |pair| passes(pair) >= Some(2));
    pair.converge();
    pair.assert_verified(&pair.primary);
}

/// Written through a memory map by a process that keeps the file open, a change makes no event.
fn missed_write(pair: &mut Pair) {
    if !common::has_tool("python3") {
        return common::skip("a change that made no event is found by the scrub", "there is no python3");
    }
    let (path, end) = (pair.bed.src("jobs/job-2/config.xml"), pair.bed.path("end"));
    let script = "import mmap, os, sys, time\n\
        f = open(sys.argv[1], 'r+b')\n\
        m = mmap.mmap(f.fileno(), 0)\n\
        m[0:7] = b'by mmap'\n\
        m.flush()\n\
        while not os.path.exists(sys.argv[2]): time.sleep(0.05)\n";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", script]).arg(&path).arg(&end);
    let mut writer = pair.bed.start(command);
    let is_there = |pair: &mut Pair| {
        fs::read(pair.bed.dst("jobs/job-2/config.xml")).is_ok_and(|there| there.starts_with(b"by mmap"))
    };
    pair.until("what made no event is replicated", is_there);
    fs::write(&end, "").unwrap();
    assert_eq!(writer.wait(), Some(0), "{}", writer.stderr());
    let log = pair.primary.log();
    assert!(
        log.contains("the scrub found a change that nothing told of") && log.contains("path=jobs/job-2/config.xml"),
        "{log}"
    );
}

/// Appends to a log and rewrites small files until it is stopped.
fn writing(pair: &Pair, end: &std::sync::Arc<std::sync::atomic::AtomicBool>) -> std::thread::JoinHandle<()> {
    let (log, counter) = (pair.bed.src("jobs/job-1/growing.log"), pair.bed.src("jobs/job-1/nextBuildNumber"));
    let end = std::sync::Arc::clone(end);
    std::thread::spawn(move || {
        for number in 0_u32.. {
            if end.load(std::sync::atomic::Ordering::SeqCst) {
                break;
            }
            build::append(&log, "one line more\n");
            if number.is_multiple_of(10) {
                fs::write(&counter, number.to_string()).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    })
}

#[test]
fn what_is_being_written_is_no_finding_of_the_scrub_nor_a_difference() {
    let mut pair = Pair::trusting();
    for node in [&mut pair.primary, &mut pair.standby] {
        node.edit("# rate = \"8MiB\"", "rate = \"1GiB\"");
        node.edit("# every = \"1day\"", "every = \"1s\"");
    }
    build::home(&pair.bed.source(), 6);
    fs::write(pair.bed.src("jobs/job-1/growing.log"), "x".repeat(2 << 20)).unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let end = std::sync::Arc::default();
    let writer = writing(&pair, &end);
    let position = |pair: &Pair| pair.status(&pair.standby)["position"].as_str().map(ToOwned::to_owned);
    for _ in 0..5 {
        let before = position(&pair);
        for node in [&pair.primary, &pair.standby] {
            let verified = pair.ask(node, &["verify"]);
            assert_eq!(verified.code, Some(0), "{verified:?}");
        }
        pair.until("generations go on", |pair| position(pair) != before);
    }
    pair.until("two passes of each", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| pair.status(node)["scrub"]["passes"].as_u64() >= Some(2))
    });
    end.store(true, std::sync::atomic::Ordering::SeqCst);
    writer.join().unwrap();
    for node in [&pair.primary, &pair.standby] {
        assert_eq!(pair.status(node)["scrub"]["found"].as_u64(), Some(0), "{}", node.log());
    }
    pair.converge();
}
