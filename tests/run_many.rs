//! Several standbys of one primary, each at its own pace; and standbys that come and go.
//!
//! The long form is run by `tests/long`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::build;
use common::compare::{Snapshot, differences};
use common::pair::{Node, Pair};
use common::proxy::{Proxy, Weather};
use common::{memory_of, note, peak_mib};
use hotspare::thought::dice::Dice;
use rustix::process::Signal;
use serde_json::Value;

/// What the primary says of one of its peers.
fn peer(pair: &Pair, name: &str) -> Value {
    let status = pair.status(&pair.primary);
    let peers = status["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["name"] == name).cloned().unwrap_or(Value::Null)
}

/// Waits until what was written is acked by all, and shown in all the replicas.
fn converge(pair: &mut Pair, others: &[&Node]) {
    pair.converge();
    for other in others {
        let replica = pair.replica_of(other.name);
        let source = pair.bed.source();
        let mut found = Vec::new();
        pair.until("a replica is equal", |_| {
            let both = Snapshot::of(&source).and_then(|source| Ok(differences(&source, &Snapshot::of(&replica)?)));
            found = both.unwrap_or_else(|error| vec![error]);
            found.is_empty()
        });
    }
}

/// Makes `copy` as `cp -a` makes it.
fn copy(source: &Path, copy: &Path) {
    assert!(Command::new("cp").arg("-a").arg(source).arg(copy).status().unwrap().success());
}

#[test]
fn what_goes_to_several_standbys_is_read_once() {
    let mut pair = Pair::trusting();
    let mut others = [pair.another("jenkins-c"), pair.another("jenkins-d")];
    others.iter().for_each(|other| pair.introduce(other));
    build::home(&pair.bed.source(), 40);
    pair.start_primary();
    pair.start_standby();
    for other in &mut others {
        other.daemon = Some(pair.spawn(other));
    }
    let names = ["jenkins-b", "jenkins-c", "jenkins-d"];
    pair.until("all stream", |pair| names.iter().all(|name| peer(pair, name)["state"] == "streaming"));
    converge(&mut pair, &[&others[0], &others[1]]);
    let read = |pair: &Pair| pair.status(&pair.primary)["home"]["content_read_bytes"].as_u64().unwrap();
    let sent = |pair: &Pair, name: &str| peer(pair, name)["bytes_sent"].as_u64().unwrap();
    let (read_before, sent_before) = (read(&pair), names.map(|name| sent(&pair, name)));
    // It arrives whole: what is seen while it is written is read again.
    build::file(&pair.bed.path("big"), Dice::new(41).noise(5_000_000));
    fs::rename(pair.bed.path("big"), pair.bed.src("big")).unwrap();
    converge(&mut pair, &[&others[0], &others[1]]);
    let read = read(&pair) - read_before;
    // A large file is read once for its signature and once for its payload; for each of three standbys it would be six times.
    assert!((5_000_000..11_000_000).contains(&read), "{read} bytes were read for 5000000, which went to three");
    for (name, before) in names.into_iter().zip(sent_before) {
        let sent = sent(&pair, name) - before;
        assert!((5_000_000..5_200_000).contains(&sent), "{sent} bytes to {name}");
    }
}

#[test]
fn a_standby_is_added_to_a_running_primary_and_taken_away_again() {
    let mut pair = Pair::running();
    build::home(&pair.bed.source(), 42);
    pair.until_streaming();
    let mut other = pair.another("jenkins-c");
    pair.introduce(&other);
    other.daemon = Some(pair.spawn(&other));
    pair.until("it streams", |pair| peer(pair, "jenkins-c")["state"] == "streaming");
    converge(&mut pair, &[&other]);
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "2", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "{}{}", waited.stdout, waited.stderr);
    let untrusted = pair.ask(&pair.primary, &["untrust", &pair.id(&other)]);
    assert_eq!(untrusted.code, Some(0), "{}", untrusted.stderr);
    pair.until("it is cut off", |pair| {
        let status = pair.status(&other);
        peer(pair, "jenkins-c").is_null() && status["peers"][0]["connected"] == false
    });
    // It is not waited for any more, keeps what it has, and says who refuses it.
    build::file(&pair.bed.src("later"), "x");
    pair.converge();
    let status = pair.status(&other);
    assert!(status["peers"][0]["trouble"].as_str().unwrap().contains("hotspare trust"), "{status:#}");
    assert!(!pair.replica_of("jenkins-c").join("later").exists());
    // Another machine may take its name, with nothing: nobody went backwards.
    other.kill();
    for gone in [pair.replica_of(other.name), pair.state(&other)] {
        fs::remove_dir_all(gone).unwrap();
    }
    pair.introduce(&other);
    other.daemon = Some(pair.spawn(&other));
    pair.until("it streams", |pair| peer(pair, "jenkins-c")["state"] == "streaming");
    converge(&mut pair, &[&other]);
    // The id that was sent away may have knocked since; nothing else is to be said.
    let status = pair.status(&pair.primary);
    let alarms = status["alarms"].as_array().unwrap();
    assert!(alarms.iter().all(|alarm| alarm.as_str().unwrap().contains("does not trust")), "{alarms:?}");
}

#[test]
fn a_standby_seeded_from_a_copy_is_sent_only_what_differs() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 43);
    build::file(&pair.bed.src("large"), Dice::new(44).noise(3_000_000));
    // One is a clone of the running primary's disk, one an archive that was unpacked, and changed since.
    let mut clone = pair.another("jenkins-c");
    let mut archive = pair.another("jenkins-d");
    let unpacked = pair.replica_of("jenkins-d");
    copy(&pair.bed.source(), &unpacked);
    build::file(&unpacked.join("jobs/job-1/config.xml"), "older");
    build::file(&unpacked.join("of-the-archive-alone"), "kept");
    fs::remove_file(unpacked.join("jobs/job-2/config.xml")).unwrap();
    pair.start_primary();
    pair.until("the home is read", |pair| pair.status(&pair.primary)["state"] == "waiting for a peer");
    copy(&pair.bed.source(), &pair.replica_of("jenkins-c"));
    build::append(&pair.bed.src("jobs/job-3/config.xml"), "newer");
    // Of a large file that changed since only the difference travels as well.
    build::overwrite(&pair.bed.src("large"), &Dice::new(48).noise(1000), 1_234_567);
    for other in [&mut clone, &mut archive] {
        pair.introduce(other);
        other.daemon = Some(pair.spawn(other));
    }
    pair.until("the clone streams", |pair| peer(pair, "jenkins-c")["state"] == "streaming");
    // An archive is not taken over unless somebody says so.
    pair.until("the archive is refused", |pair| {
        let alarms = pair.status(&archive)["alarms"].to_string();
        alarms.contains("is not empty") && alarms.contains("standby.adopt")
    });
    archive.stop();
    archive.edit("# adopt = \"no\"", "adopt = \"yes\"");
    archive.daemon = Some(pair.spawn(&archive));
    pair.until("the archive streams", |pair| peer(pair, "jenkins-d")["state"] == "streaming");
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "2", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "{}{}", waited.stdout, waited.stderr);
    for other in [&clone, &archive] {
        let source = Snapshot::of(&pair.bed.source()).unwrap();
        let replica = pair.replica_of(other.name);
        pair.until("a replica is equal", |_| {
            Snapshot::of(&replica).is_ok_and(|replica| differences(&source, &replica).is_empty())
        });
        let sent = peer(&pair, other.name)["bytes_sent"].as_u64().unwrap();
        assert!(sent < 20_000, "{sent} bytes were sent to {}", other.name);
    }
    // It is put aside when the generation is tidied up, a moment after it is shown.
    pair.until("what is overwritten is kept", |_| {
        let found = Command::new("find").arg(unpacked.join(".hotspare/bundles")).args(["-type", "f"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        found.lines().filter(|file| fs::read(file).is_ok_and(|content| content == b"kept")).count() == 1
    });
}

/// Changes the home as builds do, until told to stop.
fn load(home: &Path, ending: &AtomicBool) {
    let mut dice = Dice::new(45);
    let mut step = 0_usize;
    while !ending.load(Ordering::Relaxed) {
        step += 1;
        let job = home.join(format!("jobs/job-{}", dice.index(12)));
        let build = job.join(format!("builds/{step}"));
        let length = dice.index(16_000);
        build::file(&build.join("log"), dice.noise(length));
        build::file(&build.join("build.xml"), "<build/>\n".repeat(dice.index(400)));
        build::append(&home.join("audit.log"), format!("{step}\n").repeat(dice.index(100)));
        if step > 60 {
            // The home stays as large as it is.
            fs::remove_dir_all(home.join("old")).ok();
            for job in 0..12 {
                fs::rename(home.join(format!("jobs/job-{job}/builds/{}", step - 60)), home.join("old")).ok();
            }
        }
        // Less than what gets through the bad link: at 200 ms and 0.5 % loss that is some 100 KB/s.
        std::thread::sleep(Duration::from_millis(150 + u64::try_from(dice.index(200)).unwrap()));
    }
    fs::remove_dir_all(home.join("old")).ok();
}

/// What a daemon takes: resident memory in KiB, descriptors, KiB of its state directory.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident: u64,
    files: u64,
    state: u64,
}

impl Sample {
    fn of(pair: &Pair) -> Self {
        let pid = pair.status(&pair.primary)["node"]["pid"].as_u64().unwrap();
        let resident = memory_of(u32::try_from(pid).unwrap(), "VmRSS") >> 10;
        let files = u64::try_from(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).unwrap();
        // Unnamed files of the window are seen only through the daemon's own descriptors.
        let unnamed = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter_map(|fd| {
            let target = fs::read_link(fd.path()).ok()?;
            target
                .to_string_lossy()
                .contains("(deleted)")
                .then(|| fs::metadata(fd.path()).map_or(0, |found| found.len()))
        });
        let named = fs::read_dir(pair.state(&pair.primary)).unwrap().flatten().filter_map(|file| file.metadata().ok());
        let state = (unnamed.sum::<u64>() + named.map(|found| found.len()).sum::<u64>()) / 1024;
        Self { resident, files, state }
    }
}

fn acked(pair: &Pair, name: &str) -> (u64, u64) {
    let acked = peer(pair, name)["acked"].as_str().unwrap_or("0.0").to_owned();
    let (epoch, generation) = acked.split_once('.').unwrap();
    (epoch.parse().unwrap(), generation.parse().unwrap())
}

/// Three standbys under load: one that stands still for `stopped`, one that is killed now and then, one behind a bad link. Then, until `total`
/// is over, load only. The samples that were taken of the primary, one every second or so.
fn three_under_load(stopped: Duration, total: Duration) -> Vec<Sample> {
    let mut pair = Pair::trusting();
    let (mut killed, mut far) = (pair.another("jenkins-c"), pair.another("jenkins-d"));
    let proxy = Proxy::to(pair.primary.port, 46);
    far.dial_at(&[format!("127.0.0.1:{}", proxy.port)]);
    // A window that is soon full: from then on nothing may grow.
    pair.primary.edit("# memory = \"32MiB\"\n", "memory = \"1MiB\"\n");
    pair.primary.edit("# disk = \"512MiB\"\n", "disk = \"8MiB\"\n");
    build::home(&pair.bed.source(), 47);
    build::file(&pair.bed.src("audit.log"), "");
    pair.start_primary();
    pair.start_standby();
    for other in [&mut killed, &mut far] {
        pair.introduce(other);
        other.daemon = Some(pair.spawn(other));
    }
    let names = ["jenkins-b", "jenkins-c", "jenkins-d"];
    pair.until("all stream", |pair| names.iter().all(|name| peer(pair, name)["state"] == "streaming"));
    proxy.set(Weather::FAR);
    let ending = AtomicBool::new(false);
    let source = pair.bed.source();
    let samples = std::thread::scope(|scope| {
        let writer = scope.spawn(|| load(&source, &ending));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let samples = drive(&mut pair, &mut killed, stopped, total);
            ending.store(true, Ordering::Relaxed);
            samples
        }));
        ending.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    converge(&mut pair, &[&killed, &far]);
    pair.assert_verified(&pair.primary);
    let alarms = pair.status(&pair.primary)["alarms"].to_string();
    assert_eq!(alarms, "[]", "nobody lost what was acked");
    samples
}

fn drive(pair: &mut Pair, killed: &mut Node, stopped: Duration, total: Duration) -> Vec<Sample> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    pair.standby.daemon().signal(Signal::STOP);
    let at_stop = ["jenkins-b", "jenkins-c", "jenkins-d"].map(|name| acked(pair, name));
    let mut is_stopped = true;
    let mut next_kill = Duration::from_secs(3);
    while begin.elapsed() < total || is_stopped {
        std::thread::sleep(Duration::from_millis(700));
        samples.push(Sample::of(pair));
        if is_stopped && begin.elapsed() >= stopped {
            // Whatever the others suffer, they went on meanwhile.
            pair.until("the others went on", |pair| {
                acked(pair, "jenkins-c") > at_stop[1] && acked(pair, "jenkins-d") > at_stop[2]
            });
            let waited = pair.ask(&pair.primary, &["wait", "--standbys", "2", "--timeout", "100s"]);
            assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, pair.told());
            assert!(acked(pair, "jenkins-b") < acked(pair, "jenkins-d"), "one that stands still acks nothing");
            pair.standby.daemon().signal(Signal::CONT);
            is_stopped = false;
        }
        if begin.elapsed() > next_kill {
            next_kill += Duration::from_secs(10);
            killed.kill();
            killed.daemon = Some(pair.spawn(killed));
        }
    }
    samples
}

#[test]
fn one_standby_that_stops_one_that_is_killed_and_one_far_away_are_independent() {
    let samples = three_under_load(Duration::from_secs(11), Duration::from_secs(12));
    let last = samples[samples.len() - 1];
    note(&format!("at first {:?}, at last {last:?}", samples[0]));
    // The window, what is not acknowledged by two of them, and the index's cache, of which a load as small as this uses little.
    assert!(last.resident < 150 * 1024, "{last:?}");
    assert!(last.files < 200, "{last:?}");
}

/// How much a value grows in an hour, by the medians of the second and the last quarter of the samples.
fn growth_an_hour(samples: &[Sample], total: Duration, value: impl Fn(&Sample) -> u64) -> f64 {
    let median = |part: &[Sample]| {
        let mut values: Vec<u64> = part.iter().map(&value).collect();
        values.sort_unstable();
        values[values.len() / 2] as f64
    };
    let quarter = samples.len() / 4;
    let (early, late) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
    (late - early) / (total.as_secs_f64() / 2.0) * 3600.0
}

#[test]
#[ignore = "minutes: HOTSPARE_SOAK says how many seconds, 600 by default"]
fn under_load_for_long_nothing_grows() {
    let seconds = std::env::var("HOTSPARE_SOAK").map_or(600, |text| text.parse().unwrap());
    let total = Duration::from_secs(seconds);
    let samples = three_under_load(Duration::from_secs(120).min(total / 4), total);
    let resident = growth_an_hour(&samples, total, |sample| sample.resident);
    let files = growth_an_hour(&samples, total, |sample| sample.files);
    let state = growth_an_hour(&samples, total, |sample| sample.state);
    note(&format!(
        "an hour: {resident:.0} KiB resident, {files:.1} descriptors, {state:.0} KiB of state; {:?}",
        samples.last()
    ));
    assert!(resident < 60.0 * 1024.0, "resident memory grows by {resident:.0} KiB an hour");
    assert!(files < 30.0, "{files:.1} descriptors more an hour");
    assert!(state < 30.0 * 1024.0, "the state directory grows by {state:.0} KiB an hour");
}

/// Moves so many files into a home at once, and changes them all; the most that either daemon had resident, in MiB, the program's own pages apart.
fn many_at_once(files: usize) -> [u64; 2] {
    let mut pair = Pair::running();
    pair.until_streaming();
    let aside = pair.bed.source().with_extension("aside");
    for number in 0..files {
        build::file(
            &aside.join(format!("job-{}/builds/{number}.xml", number / 1000)),
            format!("<build>{number}</build>"),
        );
    }
    let mut most = [0; 2];
    let mut look = |pair: &Pair| {
        for (most, node) in most.iter_mut().zip([&pair.primary, &pair.standby]) {
            let pid = pair.status(node)["node"]["pid"].as_u64().unwrap();
            *most = peak_mib(u32::try_from(pid).unwrap()).max(*most);
        }
    };
    fs::rename(&aside, pair.bed.src("jobs")).unwrap();
    pair.wait_long();
    look(&pair);
    for number in 0..files {
        let file = pair.bed.src(format!("jobs/job-{}/builds/{number}.xml", number / 1000));
        build::file(&file, format!("<build>{number} changed</build>"));
    }
    pair.wait_long();
    pair.until("all is shown", |pair| pair.status(&pair.standby)["state"] == "streaming");
    look(&pair);
    note(&format!("{files} files: {} MiB on the primary, {} MiB on the standby", most[0], most[1]));
    most
}

/// What one path of a generation takes while it is cut, in bytes; what of the index is not committed meanwhile, if its paths were made just before, and
/// what the daemon takes beside, in MiB.
const A_PATH: u64 = 1100;
const UNCOMMITTED: u64 = 6;
const BESIDE: u64 = 11;

#[test]
fn many_files_moved_in_and_changed_at_once_take_little_memory() {
    const FILES: usize = 10_000;
    let most = many_at_once(FILES);
    let stated = BESIDE + UNCOMMITTED + (FILES as u64 * A_PATH).div_ceil(1 << 20);
    assert!(most.iter().all(|most| *most <= stated), "{most:?} MiB, of {stated}");
}

#[test]
#[ignore = "minutes: HOTSPARE_MANY says how many files, 300000 by default"]
fn three_hundred_thousand_files_at_once_stay_within_the_limits_of_the_readme() {
    let files = std::env::var("HOTSPARE_MANY").map_or(300_000, |text| text.parse().unwrap());
    let most = many_at_once(files);
    // The index's cache and what of it is not committed, the window, and what the standby has not acknowledged.
    assert!(most.iter().all(|most| *most <= 192), "{most:?} MiB");
}
