//! The commands people live with, asked of two daemons.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;

use common::Ended;
use common::build;
use common::compare::Snapshot;
use common::pair::{Node, Pair};
use rustix::process::Signal;

fn streaming(seed: u64) -> Pair {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), seed);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair
}

fn health(pair: &Pair, node: &Node, args: &[&str]) -> Ended {
    pair.ask(node, &[&["health"], args].concat())
}

#[test]
fn a_standby_counts_what_it_holds_and_says_how_far_behind_it_is() {
    let mut pair = streaming(1);
    fs::remove_dir_all(pair.bed.src("jobs/job-1")).unwrap();
    fs::rename(pair.bed.src("jobs/job-2"), pair.bed.src("jobs/renamed")).unwrap();
    build::file(&pair.bed.src("jobs/renamed/more"), "more");
    pair.converge();
    // Counted by another program's rules: the paths there are, the sizes of all names.
    let entries = u64::try_from(Snapshot::of(&pair.bed.destination()).unwrap().items.len()).unwrap();
    let bytes = sizes(&pair.bed.destination());
    let mut counts = Vec::new();
    for is_standby in [false, true] {
        // What is told of itself is told from time to time.
        pair.until("both count what is there", |pair| {
            let status = pair.status(if is_standby { &pair.standby } else { &pair.primary });
            let home = &status["home"];
            (home["entries"].as_u64(), home["bytes"].as_u64()) == (Some(entries), Some(bytes))
        });
        counts.push(pair.status(if is_standby { &pair.standby } else { &pair.primary })["home"]["filesystem"].clone());
    }
    assert_eq!(counts[0], counts[1]);
    assert_eq!(pair.status(&pair.primary)["lag_seconds"], serde_json::Value::Null);
    pair.until("the standby is told that nothing is missing", |pair| {
        pair.status(&pair.standby)["lag_seconds"].as_f64() == Some(0.0)
    });
    // A restart finds the same counts in the index.
    pair.standby.stop();
    pair.start_standby();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["home"]["entries"].as_u64(), Some(entries));
    // Cut off, its silence is its lag.
    pair.primary.kill();
    pair.until("the silence shows", |pair| pair.status(&pair.standby)["lag_seconds"].as_f64() > Some(3.0));
    let page = pair.ask(&pair.standby, &["status"]).stdout;
    assert!(page.contains("\n  lag   ") && page.contains(&format!("{entries} entries")), "{page}");
    assert!(page.lines().all(|line| line.len() <= 80 || line.contains(pair.bed.destination().to_str().unwrap())));
}

/// The sum of the sizes of all files, under each of their names.
fn sizes(directory: &std::path::Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && entry.file_name() != ".hotspare" {
            sum += sizes(&entry.path());
        } else if kind.is_file() {
            sum += entry.metadata().unwrap().len();
        }
    }
    sum
}

#[test]
fn health_is_silent_when_fit_and_says_why_not() {
    let mut pair = Pair::trusting();
    build::file(&pair.bed.src("file"), "content");
    let ended = health(&pair, &pair.primary, &[]);
    assert_eq!(ended.code, Some(3), "no daemon: {}", ended.stderr);
    pair.start_standby();
    let ended = health(&pair, &pair.standby, &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("not fit: it holds no complete generation yet"), "{}", ended.stderr);
    pair.start_primary();
    pair.until_streaming();
    pair.until("both are fit", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| health(pair, node, &["--max-lag", "10s"]).code == Some(0))
    });
    let ended = health(&pair, &pair.standby, &[]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    // A daemon that hangs is out of reach, soon.
    pair.standby.daemon().signal(Signal::STOP);
    let ended = health(&pair, &pair.standby, &["--timeout", "300ms"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("did not answer within 300ms"), "{}", ended.stderr);
    pair.standby.daemon().signal(Signal::CONT);
    // The primary does not need a standby to be fit; the standby's silence is its lag.
    pair.standby.stop();
    assert_eq!(health(&pair, &pair.primary, &[]).code, Some(0));
    pair.start_standby();
    pair.primary.kill();
    pair.until("the silence is longer than allowed", |pair| {
        let ended = health(pair, &pair.standby, &["--max-lag", "2s"]);
        ended.code == Some(1) && ended.stderr.contains("s behind, and 2s are allowed")
    });
    assert_eq!(health(&pair, &pair.standby, &[]).code, Some(0), "any lag will do");
}

#[test]
fn watched_elsewhere_than_on_a_terminal_status_writes_a_line_for_each_change_and_survives_a_restart() {
    let mut pair = streaming(2);
    let mut watching = pair.bed.start(pair.command(&pair.primary, &["status", "--watch"]));
    let shows = |pair: &mut Pair, watching: &common::Running, text: &str| {
        pair.until(text, |_| watching.stderr().lines().last().is_some_and(|line| line.contains(text)));
    };
    shows(&mut pair, &watching, "[jenkins-b streaming, acked 1.");
    let lines = watching.stderr().lines().count();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(watching.stderr().lines().count(), lines, "nothing happened: {}", watching.stderr());
    pair.standby.kill();
    shows(&mut pair, &watching, "[jenkins-b not connected");
    pair.primary.stop();
    shows(&mut pair, &watching, "no daemon is running");
    pair.start_primary();
    shows(&mut pair, &watching, "jenkins-a primary, ");
    watching.signal(Signal::INT);
    assert_eq!(watching.wait(), Some(0), "{}", watching.stderr());
}

#[test]
fn a_paused_primary_makes_nothing_says_so_everywhere_and_goes_on_after_a_restart_when_resumed() {
    let mut pair = streaming(3);
    let code = |pair: &Pair, args: &[&str]| pair.ask(&pair.primary, args).code;
    assert_eq!(code(&pair, &["pause"]), Some(0));
    let before = pair.status(&pair.primary)["position"].clone();
    build::file(&pair.bed.src("jobs/while-paused"), "written while it is paused");
    pair.until("the lag counts on", |pair| pair.status(&pair.primary)["peers"][0]["lag_seconds"].as_f64() > Some(2.0));
    let status = pair.status(&pair.primary);
    assert_eq!((&status["position"], &status["state"]), (&before, &"paused".into()));
    assert!(pair.ask(&pair.primary, &["status"]).stdout.starts_with("PAUSED  for "));
    for args in [&["wait"][..], &["verify"], &["resync"]] {
        let refused = pair.ask(&pair.primary, args);
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("is paused") && refused.stderr.contains("hotspare resume"),
            "{}",
            refused.stderr
        );
    }
    let fit = health(&pair, &pair.primary, &[]);
    assert_eq!(fit.code, Some(0));
    assert!(fit.stdout.starts_with("fit, but paused"), "{}", fit.stdout);
    pair.primary.stop();
    pair.start_primary();
    pair.until("the home is read again", |pair| pair.status(&pair.primary)["home"]["entries"].as_u64() > Some(10));
    build::file(&pair.bed.src("jobs/after-the-restart"), "and this too");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(pair.status(&pair.primary)["state"], "paused");
    assert!(!pair.bed.dst("jobs/while-paused").exists() && !pair.bed.dst("jobs/after-the-restart").exists());
    assert_eq!(code(&pair, &["resume"]), Some(0));
    pair.converge();
    assert!(pair.bed.dst("jobs/while-paused").exists());
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_paused_standby_takes_nothing_until_it_is_resumed() {
    let mut pair = streaming(4);
    assert_eq!(pair.ask(&pair.standby, &["pause"]).code, Some(0));
    pair.until("it left its primary", |pair| pair.status(&pair.primary)["peers"][0]["connected"] == false);
    build::file(&pair.bed.src("jobs/while-paused"), "written while it is paused");
    pair.standby.stop();
    pair.start_standby();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(!pair.bed.dst("jobs/while-paused").exists());
    let status = pair.status(&pair.standby);
    assert_eq!((&status["state"], &status["promotable"]["yes"]), (&"paused".into(), &true.into()), "{status:#}");
    let unfit = health(&pair, &pair.standby, &[]);
    assert_eq!(unfit.code, Some(1));
    assert!(unfit.stderr.contains("it is paused"), "{}", unfit.stderr);
    assert_eq!(pair.ask(&pair.standby, &["resume"]).code, Some(0));
    pair.converge();
    pair.assert_verified(&pair.primary);
}

/// Changes what the generation before it left, and has it acked.
fn change_and_wait(pair: &Pair, number: u32) {
    let src = |path: &str| pair.bed.src(path);
    build::append(&src("plugins/git.jpi"), format!("line {number}\n"));
    let (from, to) = if number.is_multiple_of(2) { ("jobs/job-1", "jobs/moved") } else { ("jobs/moved", "jobs/job-1") };
    fs::rename(src(from), src(to)).unwrap();
    build::file(&src(&format!("{to}/new-{number}")), "while it is held");
    fs::copy(src("plugins/git.jpi"), src(&format!("plugins/copy-{number}.jpi"))).unwrap();
    fs::write(src("config.xml.new"), format!("<hudson>{number}</hudson>")).unwrap();
    fs::rename(src("config.xml.new"), src("config.xml")).unwrap();
    if number == 5 {
        fs::remove_dir_all(src("jobs/job-2")).unwrap();
        fs::rename(src("jobs/job-3"), src("jobs/job-2")).unwrap();
    }
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "change {number}: {}", waited.stdout);
}

#[test]
fn a_held_replica_stands_still_while_a_command_runs_and_follows_after_it() {
    let mut pair = streaming(5);
    let mut hold = pair.hold(&[]);
    let before = Snapshot::of(&pair.bed.destination()).unwrap().items;
    let status = pair.status(&pair.standby);
    assert!(status["still_seconds"].as_f64().is_some(), "{status:#}");
    let page = pair.ask(&pair.standby, &["status"]).stdout;
    assert!(page.contains("STILL  for ") && page.contains("by `hotspare hold`"), "{page}");
    // One generation after the other is acked, each upon those before it; nothing is shown.
    (0..8).for_each(|number| change_and_wait(&pair, number));
    assert_eq!(Snapshot::of(&pair.bed.destination()).unwrap().items, before);
    assert_eq!(pair.status(&pair.standby)["position"], status["position"]);
    assert_eq!(pair.status(&pair.primary)["peers"][0]["connected"], true);
    let held = pair.status(&pair.standby);
    let (since, now) = (status["still_seconds"].as_f64().unwrap(), held["still_seconds"].as_f64().unwrap());
    assert!(now > since && held["alarms"] == serde_json::json!([]), "{held:#}");
    pair.let_go(&mut hold);
    pair.converge();
    assert!(pair.status(&pair.standby)["still_seconds"].is_null());
    pair.assert_verified(&pair.primary);
    let refused = pair.ask(&pair.primary, &["hold", "--", "true"]);
    assert!(refused.code == Some(4) || refused.code == Some(2), "{}", refused.stderr);
}

#[test]
fn a_replica_is_let_go_when_its_holder_dies_or_was_at_it_for_too_long_or_the_daemon_is_killed() {
    let mut pair = streaming(6);
    let begin = |pair: &mut Pair, args: &[&str]| {
        let hold = pair.hold(args);
        build::append(&pair.bed.src("plugins/git.jpi"), "a line\n");
        hold
    };
    let mut hold = begin(&mut pair, &[]);
    hold.signal(Signal::KILL);
    hold.wait();
    pair.converge();
    fs::write(pair.bed.path("end"), "").unwrap();

    let mut hold = begin(&mut pair, &["--max", "1s"]);
    pair.converge();
    pair.let_go(&mut hold);
    assert!(hold.stderr().contains("as long as was allowed"), "{}", hold.stderr());

    // Killed with several generations acked and not shown: all of them are when it is back, without the primary.
    let mut hold = begin(&mut pair, &[]);
    let before = Snapshot::of(&pair.bed.destination()).unwrap().items;
    (0..6).for_each(|number| change_and_wait(&pair, number));
    assert_eq!(Snapshot::of(&pair.bed.destination()).unwrap().items, before);
    pair.primary.stop();
    pair.standby.kill();
    pair.start_standby();
    let home = Snapshot::of(&pair.bed.source()).unwrap().items;
    // One that is taken while things are shown may fail.
    let shown = |pair: &Pair| Snapshot::of(&pair.bed.destination()).is_ok_and(|shown| shown.items == home);
    pair.until("what was acked is shown", |pair| shown(pair));
    pair.start_primary();
    pair.converge();
    pair.let_go(&mut hold);
    assert!(hold.stderr().contains("not held any more"), "{}", hold.stderr());
    pair.assert_verified(&pair.primary);
}
