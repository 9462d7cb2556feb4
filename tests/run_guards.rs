//! G7: a home, or a file system mounted inside it, that goes away is no deletion.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::build::{file, home};
use common::compare::Snapshot;
use common::pair::Pair;
use common::{is_root, skip};

/// Two nodes that stream a home of some thirty entries. Changes are gathered for a moment, so that what is removed at once is one generation.
fn streaming() -> Pair {
    let mut pair = Pair::trusting();
    for index in 0..10 {
        file(&pair.bed.src(format!("jobs/{index}/config.xml")), format!("<job>{index}</job>"));
    }
    file(&pair.bed.src("config.xml"), "<hudson/>");
    pair.primary.edit("[batch]\n", "[batch]\nquiet = \"500ms\"\nlongest = \"10s\"\n");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair
}

/// Waits until the primary says that a guard holds it, in these words; `wait` and the log must say so, too.
fn until_held(pair: &mut Pair, words: &str) {
    pair.until(words, |pair| alarms(pair).contains(words));
    assert_eq!(pair.status(&pair.primary)["state"], "held");
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "60s"]);
    assert_eq!(waited.code, Some(4), "{waited:?}");
    assert!(waited.stderr.contains(words), "{}", waited.stderr);
    assert!(pair.primary.log().contains(words), "{}", pair.primary.log());
}

fn alarms(pair: &Pair) -> String {
    pair.status(&pair.primary)["alarms"].to_string()
}

fn replica(pair: &Pair) -> Snapshot {
    Snapshot::of(&pair.bed.destination()).unwrap()
}

/// The replica must be as it was.
fn assert_kept(pair: &Pair, before: &Snapshot) {
    let lost = common::compare::differences(before, &replica(pair));
    assert!(lost.is_empty(), "{lost:?}\n{}", pair.told());
}

fn run(program: &str, args: &[&Path]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Something mounted by a test; unmounted in the end, however that comes about.
struct Mount(PathBuf);

impl Mount {
    fn bind(from: &Path, at: &Path) -> Self {
        run("mount", &[Path::new("--bind"), from, at]);
        Self(at.to_owned())
    }

    fn tmpfs(at: &Path) -> Self {
        run("mount", &[Path::new("-t"), Path::new("tmpfs"), Path::new("none"), at]);
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    /// Lazily: what keeps a directory open there must not keep it from going.
    fn drop(&mut self) {
        run("umount", &[Path::new("-l"), &self.0]);
    }
}

/// Everything in `directory` goes to `aside`, but for what hotspare keeps there.
fn empty(directory: &Path, aside: &Path) {
    std::fs::create_dir_all(aside).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_name() != ".hotspare" {
            std::fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
        }
    }
}

fn refill(directory: &Path, aside: &Path) {
    empty(aside, directory);
}

#[test]
fn an_emptied_home_is_held_until_it_is_filled_again() {
    let mut pair = streaming();
    let before = replica(&pair);
    let aside = pair.bed.path("aside");
    empty(&pair.bed.source(), &aside);
    until_held(&mut pair, "was emptied");
    assert_kept(&pair, &before);
    // A restart changes nothing about that.
    pair.primary.stop();
    pair.start_primary();
    until_held(&mut pair, "was emptied");
    assert_kept(&pair, &before);
    refill(&pair.bed.source(), &aside);
    pair.until("it goes on", |pair| alarms(pair) == "[]");
    file(&pair.bed.src("jobs/3/config.xml"), "<job>changed</job>");
    pair.converge();
}

#[test]
fn a_home_that_was_moved_away_and_replaced_is_held_until_it_is_back() {
    let mut pair = streaming();
    let before = replica(&pair);
    let away = pair.bed.path("away");
    std::fs::rename(pair.bed.source(), &away).unwrap();
    until_held(&mut pair, "cannot be read");
    std::fs::create_dir(pair.bed.source()).unwrap();
    file(&pair.bed.src("stray"), "not of this home");
    until_held(&mut pair, "another one, or another file system, has its place");
    // Not even what calls itself this home is taken for it.
    std::fs::create_dir(pair.bed.src(".hotspare")).unwrap();
    std::fs::copy(away.join(".hotspare/home"), pair.bed.src(".hotspare/home")).unwrap();
    until_held(&mut pair, "has its place");
    assert_kept(&pair, &before);
    std::fs::remove_dir_all(pair.bed.source()).unwrap();
    file(&away.join("written/elsewhere"), "under another name");
    std::fs::rename(&away, pair.bed.source()).unwrap();
    pair.until("it goes on", |pair| alarms(pair) == "[]");
    pair.converge();
    file(&pair.bed.src("written/afterwards"), "watched again");
    pair.converge();
}

#[test]
fn a_home_that_was_removed_is_held_and_a_restart_refuses_a_directory_without_its_marker() {
    let mut pair = streaming();
    let before = replica(&pair);
    let backup = pair.bed.path("backup");
    run("cp", &[Path::new("-a"), &pair.bed.source(), &backup]);
    pair.until("the home is removed, though something is made in it meanwhile", |pair| {
        std::fs::remove_dir_all(pair.bed.source()).ok();
        !pair.bed.source().exists()
    });
    until_held(&mut pair, "cannot be read");
    assert_kept(&pair, &before);
    pair.primary.stop();
    // What a mount point is when nothing is mounted.
    std::fs::create_dir(pair.bed.source()).unwrap();
    let refused = pair.ask(&pair.primary, &["run"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("is the file system mounted?"), "{}", refused.stderr);
    assert!(!pair.bed.src(".hotspare/home").exists(), "it is not made a home by that");
    // What it says makes a restored backup the home.
    let command = refused.stderr.lines().find_map(|line| Some(&line[line.find("mkdir -p")?..])).unwrap();
    std::fs::remove_dir_all(backup.join(".hotspare")).unwrap();
    empty(&backup, &pair.bed.source());
    run("sh", &[Path::new("-c"), Path::new(command)]);
    pair.primary.daemon = Some(pair.bed.start(pair.command(&pair.primary, &["run", "--moved"])));
    pair.until("the daemon answers", |pair| pair.ask(&pair.primary, &["status", "--json"]).code == Some(0));
    pair.until_streaming();
    file(&pair.bed.src("restored"), "and goes on");
    pair.converge();
}

#[test]
fn a_home_that_was_unmounted_or_mounted_over_is_held_until_it_is_mounted_again() {
    if !is_root() {
        return skip("a home that is unmounted", "only root may mount");
    }
    let mut pair = Pair::trusting();
    let disk = pair.bed.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Mount::bind(&disk, &pair.bed.source());
    for index in 0..20 {
        file(&pair.bed.src(format!("jobs/{index}/config.xml")), "<job/>");
    }
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let before = replica(&pair);
    drop(mounted);
    until_held(&mut pair, "has its place");
    file(&disk.join("jobs/3/config.xml"), "written while it was mounted elsewhere");
    assert_kept(&pair, &before);
    let mounted = Mount::bind(&disk, &pair.bed.source());
    pair.until("it goes on", |pair| alarms(pair) == "[]");
    pair.converge();
    let before = replica(&pair);
    let over = Mount::tmpfs(&pair.bed.source());
    until_held(&mut pair, "has its place");
    file(&pair.bed.src("stray"), "on what was mounted over it");
    assert_kept(&pair, &before);
    drop(over);
    pair.until("it goes on", |pair| alarms(pair) == "[]");
    pair.converge();
    pair.primary.stop();
    drop(mounted);
}

#[test]
fn a_standby_whose_disk_is_not_mounted_begins_no_other_replica_until_it_is_told_to() {
    if !is_root() {
        return skip("a replica that is unmounted", "only root may mount");
    }
    let mut pair = Pair::trusting();
    home(&pair.bed.source(), 4);
    let disk = pair.bed.path("disk");
    for directory in [&disk, &pair.bed.destination()] {
        std::fs::create_dir(directory).unwrap();
    }
    let mounted = Mount::bind(&disk, &pair.bed.destination());
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair.standby.stop();
    drop(mounted);
    file(&pair.bed.src("meanwhile"), "x");

    pair.start_standby();
    let told = |pair: &Pair| pair.status(&pair.standby)["alarms"].to_string();
    pair.until("it says what is missing", |pair| {
        told(pair).contains("is empty, and this node had a replica in it: mount the file system")
    });
    assert_eq!(
        std::fs::read_dir(pair.bed.destination()).unwrap().count(),
        0,
        "nothing is written below the mount point"
    );
    assert_eq!(pair.status(&pair.standby)["promotable"]["yes"], false);
    // Mounted again it is what it was, and goes on by itself.
    let mounted = Mount::bind(&disk, &pair.bed.destination());
    pair.until_streaming();
    pair.converge();
    assert_eq!(told(&pair), "[]");
    assert_eq!(pair.status(&pair.standby)["home"]["content_read_bytes"], 0, "it was not read again");

    pair.standby.stop();
    drop(mounted);
    pair.start_standby();
    pair.until("it says what is missing", |pair| told(pair).contains("`hotspare release` on this node"));
    let released = pair.ask(&pair.standby, &["release"]);
    assert_eq!(released.code, Some(0), "{}", released.stderr);
    assert!(released.stdout.contains("a new replica begins in"), "{}", released.stdout);
    pair.until_streaming();
    pair.converge();
    // The word was for that once.
    pair.standby.stop();
    std::fs::remove_dir_all(pair.bed.destination()).unwrap();
    pair.start_standby();
    pair.until("it says what is missing", |pair| told(pair).contains("this node had a replica in it"));
}

#[test]
fn a_standby_that_joins_while_something_inside_the_home_is_not_mounted_is_told_what_it_waits_for() {
    if !is_root() {
        return skip("a file system inside the home that is unmounted", "only root may mount");
    }
    let mut pair = streaming();
    let disk = pair.bed.path("disk");
    for index in 0..7 {
        file(&disk.join(index.to_string()), format!("on the disk {index}"));
    }
    let point = pair.bed.src("big disk");
    std::fs::create_dir(&point).unwrap();
    let mounted = Mount::bind(&disk, &point);
    pair.converge();
    drop(mounted);
    pair.until("the alarm", |pair| alarms(pair).contains("big disk is left as it was"));
    let mut other = pair.another("jenkins-c");
    pair.introduce(&other);
    other.daemon = Some(pair.spawn(&other));
    let words = "standby jenkins-c: it cannot be brought up to date: it lacks 7 files of what was mounted at big disk";
    pair.until("it is said what is waited for", |pair| alarms(pair).contains(words));
    let progress = pair.status(&other)["progress"].clone();
    assert_eq!(progress["phase"], "waiting until big disk is mounted again on the primary", "{progress}");
    // It waits, on one link, and says so once; whoever has it all goes on meanwhile.
    for round in 0..3 {
        file(&pair.bed.src("jobs/3/config.xml"), format!("<job>meanwhile {round}</job>"));
        pair.until("the other goes on", |pair| {
            let there = std::fs::read_to_string(pair.bed.dst("jobs/3/config.xml"));
            there.is_ok_and(|there| there.contains(&format!("meanwhile {round}")))
        });
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let log = pair.primary.log();
    let said = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((said("it cannot be brought up to date"), said("refused")), (1, 0), "{log}");
    let mounted = Mount::bind(&disk, &point);
    pair.until("it goes on", |pair| {
        alarms(pair) == "[]" && pair.status(&pair.primary)["peers"][1]["state"] == "streaming"
    });
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "2", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    let source = Snapshot::of(&pair.bed.source()).unwrap();
    let equal = |replica: &Path| {
        Snapshot::of(replica).is_ok_and(|replica| common::compare::differences(&source, &replica).is_empty())
    };
    let replica = pair.replica_of("jenkins-c");
    pair.until("its replica is equal", |_| equal(&replica));
    pair.primary.stop();
    drop(mounted);
}

#[test]
fn what_was_mounted_inside_the_home_stays_on_the_standby_until_it_is_back_or_released() {
    if !is_root() {
        return skip("a file system inside the home that is unmounted", "only root may mount");
    }
    let mut pair = streaming();
    let disk = pair.bed.path("disk");
    home(&disk, 3);
    let point = pair.bed.src("jobs/big disk");
    std::fs::create_dir(&point).unwrap();
    let mounted = Mount::bind(&disk, &point);
    pair.converge();
    assert!(pair.primary.log().contains("something is mounted inside the home"));
    file(&point.join("on the disk"), "watched like everything");
    pair.converge();
    let kept = Snapshot::of(&pair.bed.dst("jobs/big disk")).unwrap();
    let is_kept = |pair: &Pair| {
        let differences = common::compare::differences(&kept, &Snapshot::of(&pair.bed.dst("jobs/big disk")).unwrap());
        assert!(differences.is_empty(), "{differences:?}\n{}", pair.told());
    };

    drop(mounted);
    pair.until("the alarm", |pair| alarms(pair).contains("jobs/big disk is left as it was"));
    // All else goes on, and says what it is not.
    file(&pair.bed.src("jobs/3/config.xml"), "<job>meanwhile</job>");
    file(&point.join("under the mount point"), "not of what was mounted there");
    let goes_on = |pair: &mut Pair, content: &str| {
        pair.until("all else goes on", |pair| {
            std::fs::read(pair.bed.dst("jobs/3/config.xml")).is_ok_and(|there| there == content.as_bytes())
        });
    };
    goes_on(&mut pair, "<job>meanwhile</job>");
    is_kept(&pair);
    let quality = pair.status(&pair.primary)["quality"].to_string();
    assert!(quality.contains("unmounted"), "{quality}");

    // The mounts are remembered, and something else in the place is something else.
    pair.primary.stop();
    let other = Mount::tmpfs(&point);
    pair.start_primary();
    pair.until_streaming();
    assert!(alarms(&pair).contains("something else is mounted there"), "{}", alarms(&pair));
    file(&pair.bed.src("jobs/3/config.xml"), "<job>again</job>");
    goes_on(&mut pair, "<job>again</job>");
    is_kept(&pair);
    drop(other);

    // A directory above it that goes takes nothing along.
    file(&disk.join("written elsewhere"), "while it was not mounted here");
    std::fs::rename(pair.bed.src("jobs"), pair.bed.path("jobs away")).unwrap();
    until_held(&mut pair, "jobs was removed or renamed");
    is_kept(&pair);
    std::fs::rename(pair.bed.path("jobs away"), pair.bed.src("jobs")).unwrap();
    std::fs::remove_file(point.join("under the mount point")).unwrap();
    let mounted = Mount::bind(&disk, &point);
    pair.until("it goes on", |pair| alarms(pair) == "[]");
    pair.converge();
    assert!(pair.bed.dst("jobs/big disk/written elsewhere").exists());
    drop(mounted);
    pair.until("the alarm", |pair| alarms(pair).contains("jobs/big disk is left as it was"));
    // It is gone for good.
    let released = pair.ask(&pair.primary, &["release"]);
    assert_eq!((released.code, released.stdout.contains("jobs/big disk")), (Some(0), true), "{released:?}");
    pair.until("no alarm is left", |pair| alarms(pair) == "[]");
    pair.converge();
    assert!(!pair.bed.dst("jobs/big disk/written elsewhere").exists());
}
