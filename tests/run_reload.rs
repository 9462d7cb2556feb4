//! A configuration that changes while the daemons run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::process::Command;

use common::build;
use common::pair::{Node, Pair};
use rustix::process::Signal;
use serde_json::Value;

const MIB: usize = 1 << 20;

/// The status by the socket: the configuration may be no configuration.
fn status(pair: &Pair, node: &Node) -> Value {
    let mut command: Command = pair.bed.program();
    command.args(["status", "--json", "--socket"]).arg(pair.state(node).join("control.sock"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sent(pair: &Pair) -> u64 {
    status(pair, &pair.primary)["peers"][0]["bytes_sent"].as_u64().unwrap()
}

/// The standby greeted anew after what was in the log before `from`, and all that was written is there.
fn settle(pair: &mut Pair, from: usize) {
    pair.until("the standby greets anew", |pair| pair.primary.log()[from..].contains("standby connected"));
    pair.until_streaming();
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
    assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, pair.told());
    pair.assert_verified(&pair.primary);
    pair.assert_verified(&pair.standby);
}

#[test]
fn a_directory_is_excluded_and_included_again_live_and_a_bad_configuration_changes_nothing() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 60);
    for name in ["big/a", "big/below/gone"] {
        build::file(&pair.bed.src(name), vec![7; MIB]);
    }
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let watches = status(&pair, &pair.primary)["watches"]["placed"].as_u64().unwrap();

    // At SIGHUP.
    let from = pair.primary.log().len();
    pair.primary.edit("exclude = []", "exclude = [\"/big/\"]");
    pair.config(&pair.primary);
    pair.primary.daemon().signal(Signal::HUP);
    settle(&mut pair, from);
    assert!(sent(&pair) < 64 << 10, "{} bytes to leave out a directory", sent(&pair));
    let log = pair.primary.log();
    assert!(log.contains("the filters were changed") && log.contains("gone=4"), "{log}");
    assert_eq!(status(&pair, &pair.primary)["watches"]["placed"], watches - 2, "it is not watched");
    assert!(status(&pair, &pair.standby)["warnings"].to_string().contains("[replicate]"), "the standby has another");
    std::fs::remove_dir_all(pair.bed.src("big/below")).unwrap();
    build::file(&pair.bed.src("big/new"), "new");
    build::file(&pair.bed.src("beside"), "x");
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
    assert_eq!(waited.code, Some(0), "{}{}", waited.stdout, waited.stderr);
    pair.assert_verified(&pair.primary);
    assert!(pair.bed.dst("big/below/gone").exists() && !pair.bed.dst("big/new").exists(), "it is left as it was");

    // What cannot be read changes nothing, and neither does what needs a restart.
    pair.primary.edit("exclude = [\"/big/\"]", "exclude = [\"/big/\", \"b[z-a]\"]");
    pair.config(&pair.primary);
    pair.until("it is told", |pair| status(pair, &pair.primary)["alarms"].to_string().contains("b[z-a]"));
    let alarm = status(&pair, &pair.primary)["alarms"].to_string();
    assert!(alarm.contains("jenkins-a.toml:") && alarm.contains("replicate.exclude"), "{alarm}");
    pair.primary.edit("exclude = [\"/big/\", \"b[z-a]\"]", "exclude = [\"/big/\"]");
    pair.primary.edit("# longest = \"200ms\"", "longest = \"300ms\"");
    pair.config(&pair.primary);
    pair.primary.daemon().signal(Signal::HUP);
    pair.until("it is named", |pair| status(pair, &pair.primary)["warnings"].to_string().contains("batch.longest"));
    assert_eq!(status(&pair, &pair.primary)["alarms"], serde_json::json!([]));

    // By itself.
    let from = pair.primary.log().len();
    pair.primary.edit("exclude = [\"/big/\"]", "exclude = []");
    pair.config(&pair.primary);
    settle(&mut pair, from);
    pair.converge();
    assert!(sent(&pair) < 64 << 10, "{} bytes to take in what is there", sent(&pair));
    let all = pair.primary.log();
    assert_eq!(all.matches("begins").count(), 0, "no new reign: {all}");
    build::file(&pair.bed.src("big/a"), "live");
    pair.converge();
}
