//! Two daemons on loopback: what they reach, what their commands say of it, and that they reach it again after an end.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::build;
use common::pair::Pair;
use hotspare::thought::dice::Dice;
use serde_json::Value;

#[test]
fn a_first_sync_ends_with_a_standby_that_streams_and_could_take_over() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 1);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "1", "--timeout", "100s"]);
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    assert!(waited.stdout.starts_with("acked at 1."), "{}", waited.stdout);
    assert!(waited.stdout.ends_with(": 1 of 1 standbys have it all\n"), "{}", waited.stdout);
    pair.assert_verified(&pair.primary);
    pair.assert_verified(&pair.standby);
    let page = pair.ask(&pair.primary, &["status"]);
    assert_eq!(page.code, Some(0));
    assert!(page.stdout.contains("jenkins-b") && page.stdout.contains("streaming"), "{}", page.stdout);
    pair.standby.stop();
    pair.primary.stop();
}

#[test]
fn verify_finds_what_was_changed_by_hand_in_a_replica() {
    let mut pair = Pair::trusting();
    // The scrub finds it too, and has it mended.
    pair.standby.edit("# rate = \"8MiB\"", "rate = \"off\"");
    build::home(&pair.bed.source(), 2);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    fs::write(pair.bed.dst("jobs/job-1/config.xml"), "by hand").unwrap();
    build::mode(&pair.bed.dst("jobs/job-2"), 0o700);
    fs::remove_file(pair.bed.dst("jobs/job-3/config.xml")).unwrap();
    build::file(&pair.bed.dst("jobs/job-4/stray"), "by hand");
    for node in [&pair.primary, &pair.standby] {
        let verified = pair.ask(node, &["verify"]);
        assert_eq!(verified.code, Some(1), "{}{}", verified.stdout, verified.stderr);
        for (what, path) in [
            ("content", "jobs/job-1/config.xml"),
            ("mode", "jobs/job-2"),
            ("missing", "jobs/job-3/config.xml"),
            ("extra", "jobs/job-4/stray"),
        ] {
            let told = verified.stdout.lines().any(|line| line.contains(what) && line.contains(path));
            assert!(told, "{}: no {what} {path}:\n{}", node.name, verified.stdout);
        }
        assert!(verified.stdout.contains("NOT equal"), "{}", verified.stdout);
    }
    // Only what is asked for is looked at.
    let code = |paths: &[&str]| pair.ask(&pair.primary, &[&["verify"], paths].concat()).code;
    assert_eq!(code(&["jobs/job-5", "plugins"]), Some(0));
    assert_eq!(code(&["jobs/job-5", "jobs/job-1"]), Some(1));
    assert_eq!(code(&[pair.bed.src("jobs/job-1").to_str().unwrap()]), Some(1));
    assert_eq!(code(&[pair.bed.src("plugins").to_str().unwrap()]), Some(0));
    assert_eq!(code(&["../elsewhere"]), Some(2));
    assert_eq!(code(&["/etc"]), Some(2));
    let json = pair.ask(&pair.primary, &["verify", "--json", "jobs/job-1/config.xml"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json["equal"].as_bool(), json["peers"][0]["name"].as_str()), (Some(false), Some("jenkins-b")));
    assert_eq!(json["peers"][0]["differences"][0]["path"], "jobs/job-1/config.xml");
}

/// The names and kinds of the fields that `status --json` is documented to have.
const FIELDS: [(&str, char); 32] = [
    ("/version", 'n'),
    ("/node/name", 's'),
    ("/node/id", 's'),
    ("/node/role", 's'),
    ("/node/instance", 's'),
    ("/node/pid", 'n'),
    ("/node/program", 's'),
    ("/home/path", 's'),
    ("/home/id", 's'),
    ("/home/entries", 'n'),
    ("/home/bytes", 'n'),
    ("/home/filesystem", 's'),
    ("/reign/id", 's'),
    ("/reign/epoch", 'n'),
    ("/position", 's'),
    ("/chain", 's'),
    ("/state", 's'),
    ("/promotable/yes", 'b'),
    ("/promotable/why_not", 'a'),
    ("/generations/by_quality", 'o'),
    ("/generations/by_reason", 'o'),
    ("/peers/0/name", 's'),
    ("/peers/0/state", 's'),
    ("/peers/0/acked", 's'),
    ("/pending/paths", 'n'),
    ("/skipped/fifos", 'n'),
    ("/skipped/sample", 'a'),
    ("/unreadable/count", 'n'),
    ("/unheld/owner", 'n'),
    ("/watches/placed", 'n'),
    ("/alarms", 'a'),
    ("/peers/0/connected", 'b'),
];

#[test]
fn status_as_json_has_what_is_documented() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 3);
    build::fifo(&pair.bed.src("fifo"));
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    build::file(&pair.bed.src("more"), "x");
    pair.converge();
    let (primary, standby) = (pair.status(&pair.primary), pair.status(&pair.standby));
    for (node, status) in [(&pair.primary, &primary), (&pair.standby, &standby)] {
        for (field, kind) in FIELDS {
            let found = match status.pointer(field) {
                Some(Value::Number(_)) => 'n',
                Some(Value::String(_)) => 's',
                Some(Value::Bool(_)) => 'b',
                Some(Value::Array(_)) => 'a',
                Some(Value::Object(_)) => 'o',
                _ => '-',
            };
            assert_eq!(found, kind, "{}: {field}: {status:#}", node.name);
        }
        assert_eq!(status["version"], 1);
        assert_eq!(status["node"]["name"], node.name);
        assert_eq!(status["node"]["id"], pair.id(node));
        assert_eq!(status["alarms"], Value::Array(vec![]));
    }
    assert_eq!(
        (primary["node"]["role"].as_str(), standby["node"]["role"].as_str()),
        (Some("primary"), Some("standby"))
    );
    assert_eq!(primary["home"]["path"], pair.bed.source().to_str().unwrap());
    assert_eq!(standby["home"]["path"], pair.bed.destination().to_str().unwrap());
    assert_eq!(primary["home"]["id"], standby["home"]["id"]);
    assert_eq!((&primary["reign"], &primary["position"]), (&standby["reign"], &standby["position"]));
    assert_eq!(primary["chain"], standby["chain"]);
    assert_eq!(primary["peers"][0]["acked"], primary["position"]);
    assert_eq!(primary["peers"][0]["lag_seconds"].as_f64(), Some(0.0));
    assert!(primary["peers"][0]["bytes_sent"].as_u64() > Some(1_000_000), "{primary:#}");
    assert_eq!(primary["skipped"]["fifos"], 1);
    assert_eq!(primary["skipped"]["sample"][0], "fifo");
    // Both count entries alike: the root, and all that is replicated.
    let entries = fs_entries(&pair.bed.destination());
    assert_eq!(primary["home"]["entries"].as_u64(), Some(entries), "{primary:#}");
}

/// How many entries a directory has, itself counted, `.hotspare` not.
fn fs_entries(directory: &std::path::Path) -> u64 {
    u64::try_from(common::compare::Snapshot::of(directory).unwrap().items.len()).unwrap()
}

#[test]
fn live_changes_of_every_kind_converge() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 4);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    live_changes(&mut pair);
    pair.assert_verified(&pair.primary);
}

#[test]
fn live_changes_converge_with_the_other_backend() {
    let mut pair = Pair::trusting();
    pair.primary.edit("# backend = \"notify\"", "backend = \"inotify\"");
    build::home(&pair.bed.source(), 5);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    live_changes(&mut pair);
    pair.assert_verified(&pair.primary);
}

fn live_changes(pair: &mut Pair) {
    use std::io::Write;
    let src = |path: &str| pair.bed.src(path);
    let mut log = fs::File::create(src("jobs/job-0/builds/1/growing")).unwrap();
    log.write_all(b"first line\n").unwrap();
    let log_lines = 3;
    let steps: [(&str, &dyn Fn()); 8] = [
        ("create", &|| build::file(&src("new/deep/er/file"), Dice::new(6).noise(100_000))),
        ("rename a directory", &|| fs::rename(src("jobs/job-1"), src("jobs/renamed")).unwrap()),
        ("remove a tree", &|| fs::remove_dir_all(src("jobs/job-2")).unwrap()),
        ("link hard", &|| fs::hard_link(src("plugins/git.jpi"), src("jobs/linked")).unwrap()),
        ("swap directories", &|| {
            fs::rename(src("jobs/job-3"), src("jobs/x")).unwrap();
            fs::rename(src("jobs/job-4"), src("jobs/job-3")).unwrap();
            fs::rename(src("jobs/x"), src("jobs/job-4")).unwrap();
        }),
        ("replace a file by a directory", &|| {
            fs::remove_file(src("jobs/job-5/config.xml")).unwrap();
            build::file(&src("jobs/job-5/config.xml/inner"), "x");
        }),
        ("replace a directory by a link", &|| {
            fs::remove_dir_all(src("jobs/job-6/builds")).unwrap();
            symlink("../job-7/builds", src("jobs/job-6/builds")).unwrap();
        }),
        ("attributes only", &|| {
            build::mode(&src("jobs/job-8/config.xml"), 0o600);
            build::mtime(&src("jobs/job-9"), 1_000_000_000, 7);
        }),
    ];
    for (number, (what, step)) in steps.into_iter().enumerate() {
        step();
        if number < log_lines {
            // The log stays open all the time, as a build's does.
            log.write_all(format!("line {number}\n").repeat(2000).as_bytes()).unwrap();
        }
        common::note(what);
        // After every second step, so that generations of one and of two changes occur.
        if number % 2 == 1 {
            let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
            assert_eq!(waited.code, Some(0), "{what}: {}\n{}", waited.stderr, pair.told());
        }
    }
    drop(log);
    pair.converge();
}

#[test]
fn a_standby_that_was_stopped_takes_up_what_it_missed() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 7);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.standby.stop();
    fs::remove_dir_all(pair.bed.src("jobs/job-0")).unwrap();
    fs::rename(pair.bed.src("jobs/job-1"), pair.bed.src("jobs/job-0")).unwrap();
    build::file(&pair.bed.src("missed"), Dice::new(8).noise(500_000));
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, Some(1), "{}", waited.stdout);
    assert!(waited.stdout.starts_with("not acked in time"), "{}", waited.stdout);
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_primary_that_was_stopped_goes_on_in_its_reign() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 9);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let before = pair.status(&pair.primary);
    pair.primary.stop();
    build::append(&pair.bed.src("jobs/job-0/builds/1/log"), "while nobody looked");
    fs::remove_dir_all(pair.bed.src("jobs/job-1")).unwrap();
    pair.start_primary();
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
    let after = pair.status(&pair.primary);
    assert_eq!(before["reign"], after["reign"], "one that ended in order goes on");
    assert_eq!(before["home"]["id"], after["home"]["id"]);
}

#[test]
fn a_primary_that_was_killed_begins_a_new_reign() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 10);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    for epoch in [2, 3] {
        let before = pair.status(&pair.primary);
        build::file(&pair.bed.src(format!("killed-{epoch}")), "x");
        pair.primary.kill();
        fs::rename(pair.bed.src("jobs/job-0"), pair.bed.src(format!("jobs/moved-{epoch}"))).unwrap();
        fs::create_dir(pair.bed.src("jobs/job-0")).unwrap();
        pair.start_primary();
        pair.until_streaming();
        pair.converge();
        pair.assert_verified(&pair.primary);
        let (primary, standby) = (pair.status(&pair.primary), pair.status(&pair.standby));
        assert_eq!(primary["reign"]["epoch"], epoch);
        assert_ne!(primary["reign"]["id"], before["reign"]["id"]);
        assert_eq!(primary["reign"], standby["reign"]);
        assert!(standby["position"].as_str().unwrap().starts_with(&format!("{epoch}.")), "{standby:#}");
    }
}

#[test]
fn the_late_end_of_a_killed_standbys_old_link_is_no_end_of_its_new_one() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 11);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.standby.kill();
    pair.start_standby();
    // The primary hears nothing from the killed one, and in time gives up what it had with it.
    pair.until("the old link is given up", |pair| pair.primary.log().contains("link ended"));
    pair.until_streaming();
    build::file(&pair.bed.src("after"), "x");
    pair.converge();
    pair.assert_verified(&pair.primary);
    let peer = &pair.status(&pair.primary)["peers"][0];
    assert_eq!((&peer["connected"], &peer["trouble"]), (&Value::Bool(true), &Value::Null));
}

#[test]
fn without_any_standby_nothing_is_acked_and_nothing_equal() {
    let mut pair = Pair::new();
    build::home(&pair.bed.source(), 12);
    pair.start_primary();
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, Some(1), "{}", waited.stdout);
    assert!(waited.stdout.contains("0 of 0 standbys"), "{}", waited.stdout);
    let verified = pair.ask(&pair.primary, &["verify"]);
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stdout.starts_with("there is no replica to compare with"), "{}", verified.stdout);
    // Nobody was asked for.
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "0", "--timeout", "60s"]);
    assert_eq!(waited.code, Some(0), "{}{}", waited.stdout, waited.stderr);
    assert_eq!(pair.status(&pair.primary)["state"], "waiting for a peer");
}
