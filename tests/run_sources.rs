//! Where changes are heard of, and where they are not: too few watches, a queue that overflows, file systems that tell nothing.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::build::file;
use common::pair::Pair;
use common::{is_root, skip};

/// Sets a line in `[watch]` of the primary.
fn watching(settings: &str) -> Pair {
    let mut pair = Pair::trusting();
    pair.primary.edit("[watch]\n", &format!("[watch]\n{settings}\n"));
    pair
}

fn start(pair: &mut Pair) {
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
}

#[test]
fn five_hundred_watches_are_enough_for_five_thousand_directories_and_status_says_how_to_get_more() {
    let mut pair = watching("max_watches = \"500\"\npoll = \"2s\"");
    // Most of the directories go in the end.
    pair.standby.edit("# fuse = \"75%\"", "fuse = \"100%\"");
    let directory = |pair: &Pair, index: usize| pair.bed.src(format!("{}/{}", index / 100, index % 100));
    for index in 0..5_000 {
        std::fs::create_dir_all(directory(&pair, index)).unwrap();
    }
    start(&mut pair);
    let watches = pair.status(&pair.primary)["watches"].clone();
    assert!(watches["placed"].as_u64().unwrap() <= 500, "{watches}");
    assert!(watches["polled"].as_u64().unwrap() >= 4_500, "{watches}");
    let hint = watches["limit_hint"].as_str().unwrap();
    assert!(hint.contains("max_watches (500)") && hint.contains("sysctl -w fs.inotify.max_user_watches="), "{hint}");
    let page = pair.ask(&pair.primary, &["status"]).stdout;
    assert!(page.contains("directories are polled") && page.contains("/etc/sysctl.d/"), "{page}");
    // Files, directories and renames where nothing tells of them.
    for index in (0..5_000).step_by(7) {
        let at = directory(&pair, index);
        file(&at.join("file"), "found by polling");
        std::fs::create_dir_all(at.join("new/deeper")).unwrap();
        file(&at.join("new/deeper/file"), "in a directory that nobody told of");
    }
    std::fs::rename(pair.bed.src("3"), pair.bed.src("17/moved")).unwrap();
    pair.until_equal();
    pair.bed.assert_rsync_agrees();
    assert_eq!(pair.primary.log().matches("too few watches").count(), 1, "{}", pair.primary.log());

    // When directories go, their watches are for others.
    for top in (0..50).filter(|top| ![3, 17].contains(top)) {
        std::fs::remove_dir_all(pair.bed.src(format!("{top}"))).unwrap();
    }
    pair.until("all that is left is watched", |pair| pair.status(&pair.primary)["watches"]["polled"] == 0);
    pair.until("it says so", |pair| pair.primary.log().contains("there are watches for all directories again"));
    assert!(pair.status(&pair.primary)["watches"]["limit_hint"].is_null());
    file(&pair.bed.src("17/moved/5/last"), "told by its watch");
    pair.converge();
}

#[test]
fn a_queue_of_64_events_overflows_under_load_and_nothing_is_missed() {
    let mut pair = watching("queue = \"64\"");
    for index in 0..40 {
        std::fs::create_dir_all(pair.bed.src(format!("{index}/a"))).unwrap();
    }
    start(&mut pair);
    let begin = Instant::now();
    for round in 0.. {
        for index in 0..40 {
            let at = pair.bed.src(format!("{index}"));
            let (here, there): (PathBuf, PathBuf) = match round % 2 {
                0 => (at.join("a"), at.join("b")),
                _ => (at.join("b"), at.join("a")),
            };
            for name in 0..10 {
                file(&here.join(format!("{name}")), format!("round {round}"));
            }
            std::fs::rename(&here, &there).unwrap();
            file(&there.join("after"), format!("round {round}"));
        }
        if begin.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    pair.converge();
    let status = pair.status(&pair.primary);
    assert!(status["watches"]["overflows"].as_u64().unwrap() > 0, "{status}");
    assert!(pair.primary.log().contains("more happened than a queue holds"), "{}", pair.primary.log());
    assert!(pair.ask(&pair.primary, &["status"]).stdout.contains("overflows"));
    pair.assert_verified(&pair.primary);
}

/// What is mounted, unmounted in the end.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
fn where_nothing_tells_of_a_write_it_is_found_by_scanning() {
    if !is_root() {
        return skip("writes that no event tells of", "only root may mount what they are made under");
    }
    let mut pair = watching("scan = \"always\"\npoll = \"1s\"");
    // What is written into a layer of an overlay is seen through it, and nobody watching the overlay is told.
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| pair.bed.path(name));
    for layer in [&lower, &upper, &work] {
        std::fs::create_dir(layer).unwrap();
    }
    file(&upper.join("jobs/a/config.xml"), "<job/>");
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mounted = Command::new("mount").args(["-t", "overlay", "-o", &layers, "none"]).arg(pair.bed.source()).output();
    let mounted = mounted.unwrap();
    if !mounted.status.success() {
        return skip("writes that no event tells of", &String::from_utf8_lossy(&mounted.stderr));
    }
    let _mount = Mount(pair.bed.source());
    start(&mut pair);
    pair.until_equal();
    let before = pair.status(&pair.primary)["position"].clone();
    std::fs::write(upper.join("jobs/a/config.xml"), "<job>changed unseen</job>").unwrap();
    pair.until("it arrives", |pair| {
        std::fs::read(pair.bed.dst("jobs/a/config.xml")).is_ok_and(|content| content == b"<job>changed unseen</job>")
    });
    let status = pair.status(&pair.primary);
    assert_ne!(status["position"], before);
    assert_eq!(status["watches"]["home_scanned_every_seconds"], 1);
    assert!(pair.ask(&pair.primary, &["status"]).stdout.contains("all of the home every 1 s"));
    assert!(pair.primary.log().contains("others may write to this file system unseen"));
    pair.primary.stop();
}

#[test]
fn a_home_on_fuse_is_known_as_such_and_scanned_so_that_what_others_write_beneath_arrives() {
    if !is_root() {
        return skip("a home on FUSE", "only root may mount it");
    }
    let mut pair = watching("poll = \"1s\"");
    let beneath = pair.bed.path("beneath");
    std::fs::create_dir(&beneath).unwrap();
    file(&beneath.join("jobs/a/config.xml"), "<job/>");
    let mounted = match Command::new("bindfs").arg(&beneath).arg(pair.bed.source()).output() {
        Ok(mounted) if mounted.status.success() => Mount(pair.bed.source()),
        Ok(mounted) => return skip("a home on FUSE", &String::from_utf8_lossy(&mounted.stderr)),
        Err(error) => return skip("a home on FUSE", &format!("bindfs: {error}")),
    };
    start(&mut pair);
    pair.until_equal();
    let status = pair.status(&pair.primary);
    assert_eq!(status["home"]["filesystem"], "fuse", "{status:#}");
    assert_eq!(status["watches"]["home_scanned_every_seconds"], 1);
    let page = pair.ask(&pair.primary, &["status"]).stdout;
    assert!(page.contains("(fuse)") && page.contains("all of the home every 1 s"), "{page}");
    // Through the mount, where watches tell; and beneath it, where nobody does.
    file(&pair.bed.src("jobs/a/builds/1/log"), "by this kernel");
    std::fs::rename(pair.bed.src("jobs/a"), pair.bed.src("jobs/b")).unwrap();
    pair.until_equal();
    std::fs::write(beneath.join("jobs/b/config.xml"), "<job>changed beneath</job>").unwrap();
    file(&beneath.join("jobs/c/config.xml"), "<job>made beneath</job>");
    std::fs::remove_dir_all(beneath.join("jobs/b/builds")).unwrap();
    pair.until("what was written beneath arrives", |pair| {
        let read = |path: &str| std::fs::read(pair.bed.dst(path)).unwrap_or_default();
        read("jobs/b/config.xml") == b"<job>changed beneath</job>"
            && read("jobs/c/config.xml") == b"<job>made beneath</job>"
            && !pair.bed.dst("jobs/b/builds").exists()
    });
    pair.until_equal();
    // What is never more than polled is never claimed to be consistent.
    let quality = pair.status(&pair.primary)["quality"].clone();
    assert_eq!(quality["quality"], "fuzzy", "{quality:#}");
    pair.primary.stop();
    drop(mounted);
}
