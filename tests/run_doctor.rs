//! `hotspare doctor`: what is left out, what should not be, and what a node lacks.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::build;
use common::pair::Pair;

fn jenkins(pair: &Pair) {
    build::home(&pair.bed.source(), 30);
    for (path, length) in [
        ("config.xml", 10),
        ("secrets/master.key", 256),
        ("war/WEB-INF/a.jar", 5000),
        ("war/b", 1000),
        ("caches/c", 2000),
        ("jobs/job-1/config.xml-atomic123tmp", 300),
        ("jobs/job-1/builds/2/archive/config.xml", 40),
        ("logs/x", 0),
    ] {
        build::file(&pair.bed.src(path), vec![b'x'; length]);
    }
}

#[test]
fn the_filters_are_told_with_what_they_leave_out_and_warned_of_where_they_leave_out_too_much() {
    let mut pair = Pair::new();
    jenkins(&pair);
    pair.primary.edit("preset = \"none\"", "preset = \"jenkins\"");
    pair.primary.edit("exclude = []", "exclude = [\"/jobs/*/builds/*/archive/\", \"*.bak\"]");
    let told = pair.ask(&pair.primary, &["doctor", "--filters"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{}", told.stdout);
    let line = |pattern: &str| {
        let found = told.stdout.lines().find(|line| line.ends_with(&format!("  {pattern}"))).unwrap_or_default();
        found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // Itself, WEB-INF and two files.
    assert_eq!(line("/war/")[..3], ["4", "5.86", "KiB"], "{}", told.stdout);
    assert_eq!(line("/logs/")[..3], ["2", "0", "B"], "{}", told.stdout);
    assert_eq!(line("temporaries of Jenkins")[..3], ["1", "300", "B"], "{}", told.stdout);
    assert_eq!(line("/jobs/*/builds/*/archive/")[..3], ["2", "40", "B"], "{}", told.stdout);
    assert!(told.stdout.contains("war: 4, 5.86 KiB") && !told.stdout.contains("warning"), "{}", told.stdout);

    pair.primary.edit("\"*.bak\"]", "\"master.key\", \"/jobs/job-2/\"]");
    let told = pair.ask(&pair.primary, &["doctor", "--filters"]);
    assert_eq!(told.code, Some(1), "{}", told.stdout);
    for warned in ["secrets/master.key", "jobs/job-2/config.xml", "jobs/job-2/builds,"] {
        let is_it = |line: &str| line.starts_with("warning: exclude") && line.contains(warned);
        assert!(told.stdout.lines().any(is_it), "{warned}\n{}", told.stdout);
    }
    assert_eq!(told.stdout.matches("warning").count(), 3, "{}", told.stdout);
    // A thousand jobs are not a thousand lines.
    for job in 0..200 {
        build::file(&pair.bed.src(format!("jobs/many-{job}/config.xml")), "x");
    }
    pair.primary.edit("/jobs/job-2/", "/jobs/many-*/");
    let told = pair.ask(&pair.primary, &["doctor", "--filters"]);
    assert!(told.stdout.lines().count() < 60 && told.stdout.contains("more such paths"), "{}", told.stdout);
    // Nothing is left out, and it is no Jenkins home that could lack something.
    pair.standby.edit("exclude = []", "exclude = [\"/users/\"]");
    std::fs::create_dir_all(pair.bed.dst("users/x")).unwrap();
    let told = pair.ask(&pair.standby, &["doctor", "--filters"]);
    assert_eq!(told.code, Some(0), "{}", told.stdout);
}

#[test]
fn a_node_is_checked_and_what_it_lacks_comes_with_the_remedy() {
    let mut pair = Pair::new();
    jenkins(&pair);
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(
        told.stdout.contains("peers        not dialled") && told.stdout.contains("`hotspare id`"),
        "{}",
        told.stdout
    );
    pair.exchange_ids();
    std::fs::create_dir(pair.bed.destination()).unwrap();
    let told = pair.ask(&pair.standby, &["doctor"]);
    let says =
        |text: &str, word: &str, what: &str| text.lines().any(|line| line.starts_with(word) && line.contains(what));
    // Nobody answers there yet. What the machine's limits are is not for this test to say.
    assert_eq!(told.code, Some(1), "{}", told.stdout);
    assert!(says(&told.stdout, "MEND", "peer jenkins-a") && told.stdout.contains("no answer"), "{}", told.stdout);
    for what in ["home", "stage", "state", "filters", "space"] {
        assert!(says(&told.stdout, "ok", what), "{what}\n{}", told.stdout);
    }
    pair.start_primary();
    let told = pair.ask(&pair.standby, &["doctor"]);
    assert!(says(&told.stdout, "ok", "peer jenkins-a"), "{}", told.stdout);
    let own = pair.id(&pair.standby);
    assert_eq!(pair.ask(&pair.primary, &["untrust", &own]).code, Some(0));
    let told = pair.ask(&pair.standby, &["doctor"]);
    assert!(says(&told.stdout, "MEND", "does not trust this node's id"), "{}", told.stdout);
    assert_eq!(pair.ask(&pair.primary, &["trust", &own, "--name", "jenkins-b"]).code, Some(0));
    pair.start_standby();
    pair.until_streaming();
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(says(&told.stdout, "ok", "connected"), "{}", told.stdout);
    // Others may look into the state.
    build::mode(&pair.state(&pair.primary), 0o755);
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert!(says(&told.stdout, "MEND", "state") && told.stdout.contains("chmod 700"), "{}", told.stdout);
    // No home, no check.
    let home = |path: &str| format!("home = {path:?}");
    pair.primary.edit(&home(pair.bed.source().to_str().unwrap()), &home("/nowhere/at/all"));
    let told = pair.ask(&pair.primary, &["doctor"]);
    assert_eq!(told.code, Some(2), "{}", told.stdout);
    assert!(told.stderr.contains("/nowhere/at/all"), "{}", told.stderr);
}
