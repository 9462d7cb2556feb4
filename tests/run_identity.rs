//! Whom a node believes, and that it is there once.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::process::Command;

use common::build;
use common::pair::{Node, Pair, free_port};
use serde_json::Value;

fn alarms(pair: &Pair, node: &Node) -> String {
    pair.status(node)["alarms"].to_string()
}

fn streaming(mut pair: Pair) -> Pair {
    build::home(&pair.bed.source(), 20);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair
}

#[test]
fn trust_that_is_taken_back_ends_live_links_and_a_new_key_takes_the_place_of_the_old() {
    let mut pair = streaming(Pair::trusting());
    let old = pair.id(&pair.standby);
    let told = pair.ask(&pair.primary, &["untrust", &old]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    pair.until("the link ends and the standby knows why", |pair| {
        let status = pair.status(&pair.standby);
        status["state"] == "waiting for a peer" && status["peers"][0]["trouble"].to_string().contains("does not trust")
    });
    let told = pair.ask(&pair.primary, &["untrust", &old]);
    assert_eq!(told.code, Some(2), "{}", told.stderr);
    assert_eq!(pair.ask(&pair.primary, &["trust", &old, "--name", "jenkins-b"]).code, Some(0));
    pair.until_streaming();

    // The key is lost; so the node has a new one, and is a stranger.
    pair.standby.stop();
    std::fs::remove_file(pair.state(&pair.standby).join("key.pem")).unwrap();
    pair.start_standby();
    let new = pair.id(&pair.standby);
    assert_ne!(old, new);
    let stranger = new.clone();
    pair.until("the primary names the stranger", |pair| alarms(pair, &pair.primary).contains(&stranger));
    let told = pair.ask(&pair.primary, &["trust", &new, "--name", "jenkins-b", "--also"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    pair.until_streaming();
    let trusted = |pair: &Pair| -> Vec<String> {
        let text = std::fs::read_to_string(pair.state(&pair.primary).join("trust.json")).unwrap();
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        list.iter().map(|known| known["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(trusted(&pair), [old.clone(), new.clone()]);
    let told = pair.ask(&pair.primary, &["trust", &new, "--name", "jenkins-b"]);
    assert!(told.stderr.contains(&old) && told.stderr.contains("no longer"), "{}", told.stderr);
    assert_eq!(trusted(&pair), std::slice::from_ref(&new));
    pair.until_streaming();
    // The same while no daemon runs.
    pair.primary.stop();
    let told = pair.ask(&pair.primary, &["trust", &old, "--name", "jenkins-b"]);
    assert!(told.code == Some(0) && told.stderr.contains(&new), "{}", told.stderr);
    assert_eq!(trusted(&pair), [old]);
}

/// `rotate` on a node: its exit code, the new id and what it complained of.
fn rotate(pair: &Pair, node: &Node, args: &[&str]) -> (Option<i32>, String, String) {
    let told = pair.ask(node, &[&["rotate"], args].concat());
    (told.code, told.stdout.trim().to_owned(), told.stderr)
}

#[test]
fn a_key_is_changed_under_live_links_and_one_who_was_away_keeps_it_waiting() {
    let mut pair = streaming(Pair::trusting());
    let old = [pair.id(&pair.primary), pair.id(&pair.standby)];
    for is_standby in [true, false] {
        let (node, other) = if is_standby { (&pair.standby, &pair.primary) } else { (&pair.primary, &pair.standby) };
        let (code, new, complaint) = rotate(&pair, node, &[]);
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{}", pair.told());
        assert!(!old.contains(&new) && pair.id(node) == new, "{new}");
        let trust = pair.state(other).join("trust.json");
        let was = old[usize::from(is_standby)].clone();
        pair.until_streaming();
        pair.until("the old id is trusted no longer", |_| {
            let text = std::fs::read_to_string(&trust).unwrap();
            text.contains(&new) && !text.contains(&was)
        });
    }
    build::file(&pair.bed.src("after"), "x");
    pair.converge();

    // One is away: the key waits, through a restart, until that one is back.
    pair.standby.stop();
    let before = pair.id(&pair.primary);
    let (code, new, complaint) = rotate(&pair, &pair.primary, &[]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("jenkins-b") && pair.id(&pair.primary) == before, "{complaint}");
    pair.primary.stop();
    pair.start_primary();
    assert!(pair.status(&pair.primary)["warnings"].to_string().contains("jenkins-b"));
    pair.start_standby();
    pair.until("the key is in use", |pair| pair.id(&pair.primary) == new);
    pair.until_streaming();
    assert_eq!(pair.status(&pair.primary)["warnings"], serde_json::json!([]));

    // Not waited for, it takes a person there.
    pair.standby.stop();
    let (code, new, complaint) = rotate(&pair, &pair.primary, &["--now"]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(complaint.contains("jenkins-b") && complaint.contains("hotspare trust"), "{complaint}");
    pair.start_standby();
    pair.until("the standby names the stranger", |pair| alarms(pair, &pair.standby).contains(&new));
    assert_eq!(pair.ask(&pair.standby, &["trust", &new, "--name", "jenkins-a"]).code, Some(0));
    pair.until_streaming();
    pair.converge();

    // One that never comes back is not waited for once it is trusted no longer.
    let gone = pair.id(&pair.standby);
    pair.standby.stop();
    let (code, new, complaint) = rotate(&pair, &pair.primary, &[]);
    assert_eq!(code, Some(1), "{complaint}");
    assert_eq!(pair.ask(&pair.primary, &["untrust", &gone]).code, Some(0));
    assert_eq!((pair.id(&pair.primary), &pair.status(&pair.primary)["warnings"]), (new, &serde_json::json!([])));
}

#[test]
fn a_copy_of_a_standby_is_refused_loudly_while_the_other_is_there() {
    let mut pair = streaming(Pair::trusting());
    pair.standby.stop();
    let port = free_port();
    let copied = |from: std::path::PathBuf, to: std::path::PathBuf| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copied(pair.bed.destination(), pair.bed.path("replica-copy"));
    copied(pair.state(&pair.standby), pair.bed.path("state-copy"));
    let text = pair
        .standby
        .text
        .replace(pair.bed.destination().to_str().unwrap(), pair.bed.path("replica-copy").to_str().unwrap())
        .replace(pair.state(&pair.standby).to_str().unwrap(), pair.bed.path("state-copy").to_str().unwrap())
        .replace(&pair.standby.port.to_string(), &port.to_string());
    let mut copy = Node { name: "copy-of-b", text, env: Vec::new(), port, is_user: false, daemon: None };
    pair.start_standby();
    pair.until_streaming();
    copy.daemon = Some(pair.spawn(&copy));
    pair.until("both sides cry out", |pair| {
        let loud = |node: &Node| pair.ask(node, &["status"]).stdout.contains("two processes greet as node jenkins-b");
        loud(&pair.primary) && (loud(&pair.standby) || loud(&copy))
    });
    // One of them is served all the while, and alone it is well again.
    copy.stop();
    pair.until_streaming();
    build::file(&pair.bed.src("after"), "x");
    pair.converge();
}

#[test]
fn a_state_that_is_elsewhere_does_not_come_up_as_the_same_node() {
    let mut pair = streaming(Pair::trusting());
    pair.standby.stop();
    pair.primary.stop();
    let memory = pair.state(&pair.primary).join("node.json");
    let text = std::fs::read_to_string(&memory).unwrap();
    let mut known: Value = serde_json::from_str(&text).unwrap();
    // Of another machine.
    known["bound"]["machine"] = "0".repeat(64).into();
    std::fs::write(&memory, known.to_string()).unwrap();
    if std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| !id.trim().is_empty()) {
        unassigned(&mut pair, "another machine");
        pair.primary.stop();
    } else {
        common::skip("a state of another machine", "this machine has no id");
    }
    // Of another home: a copy, marker and all.
    std::fs::write(&memory, text).unwrap();
    std::fs::rename(pair.bed.source(), pair.bed.path("original")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(pair.bed.path("original")).arg(pair.bed.source()).status().unwrap();
    assert!(copied.success());
    unassigned(&mut pair, "another home directory");
    pair.start_standby();
    pair.until("the standby finds nobody there", |pair| {
        pair.status(&pair.standby)["peers"][0]["trouble"].to_string().contains("no answer")
    });
    build::file(&pair.bed.src("after"), "x");
    // A person says that it was moved; once, and for all.
    let released = pair.ask(&pair.primary, &["release"]);
    assert_eq!(released.code, Some(0), "{}", released.stderr);
    pair.until_streaming();
    pair.converge();
    pair.primary.stop();
    pair.start_primary();
    pair.until_streaming();
    // The same without a word to a daemon.
    let copied = Command::new("cp").arg("-a").arg(pair.bed.source()).arg(pair.bed.path("again")).status().unwrap();
    assert!(copied.success());
    pair.primary.stop();
    std::fs::rename(pair.bed.source(), pair.bed.path("second")).unwrap();
    std::fs::rename(pair.bed.path("again"), pair.bed.source()).unwrap();
    pair.primary.daemon = Some(pair.bed.start(pair.command(&pair.primary, &["run", "--moved"])));
    pair.until("it runs", |pair| pair.ask(&pair.primary, &["status"]).code == Some(0));
    pair.until_streaming();
    pair.converge();
}

/// Starts the primary, whose state belongs elsewhere: it says so, has no role, and does nothing.
fn unassigned(pair: &mut Pair, why: &str) {
    let before = (listing(&pair.bed.source()), listing(&pair.state(&pair.primary)));
    pair.start_primary();
    let status = pair.status(&pair.primary);
    assert_eq!((&status["node"]["role"], &status["state"]), (&"unassigned".into(), &"stuck".into()));
    assert!(status["alarms"].to_string().contains(why), "{status}");
    let fit = pair.ask(&pair.primary, &["health"]);
    assert!(fit.code == Some(1), "{}{}", fit.stdout, fit.stderr);
    for command in [&["wait"][..], &["pause"], &["verify"], &["untrust", &pair.id(&pair.standby)]] {
        let told = pair.ask(&pair.primary, command);
        assert!(
            told.code == Some(4) && told.stderr.contains(why) && told.stderr.contains("hotspare release"),
            "{}",
            told.stderr
        );
    }
    assert_eq!((listing(&pair.bed.source()), listing(&pair.state(&pair.primary))), before, "it touches nothing");
}

/// What lies in a directory and when it was changed, but for what every run of a daemon makes.
fn listing(directory: &std::path::Path) -> Vec<(String, std::time::SystemTime)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut listed: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap()))
        .filter(|(name, _)| !["lock", "control.sock"].contains(&name.as_str()))
        .collect();
    listed.sort();
    listed
}
