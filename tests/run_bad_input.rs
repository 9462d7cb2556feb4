//! What `run` and the commands refuse: a clear error, the right exit code, and nothing lost.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use common::build;
use common::compare::{Snapshot, differences, exists};
use common::pair::{Node, Pair, free_port};
use common::{Ended, finish, is_root, skip};

/// A refusal: that exit code, an error with `words`, no panic.
fn assert_refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert!(ended.stderr.lines().any(|line| line.starts_with("error: ")), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// `hotspare run`, which must end by itself.
fn run(pair: &Pair, node: &Node) -> Ended {
    finish(pair.command(node, &["run"]))
}

#[test]
fn a_missing_home() {
    let pair = Pair::new();
    let home = pair.bed.source();
    fs::remove_dir(&home).unwrap();
    assert_refused(&run(&pair, &pair.primary), 2, &[home.to_str().unwrap(), "no such directory", "hint: "]);
    assert!(!exists(&home), "a primary's home is not made");
}

#[test]
fn a_home_that_is_a_file() {
    let pair = Pair::new();
    for (home, node) in [(pair.bed.source(), &pair.primary), (pair.bed.destination(), &pair.standby)] {
        fs::remove_dir(&home).ok();
        build::file(&home, "content");
        assert_refused(&run(&pair, node), 2, &[home.to_str().unwrap(), "not a directory"]);
        assert_eq!(fs::read(&home).unwrap(), b"content");
    }
}

#[test]
fn a_home_that_is_the_whole_system() {
    let mut pair = Pair::new();
    let (home, link) = (pair.bed.source(), pair.bed.path("link"));
    pair.primary.edit(&format!("home = \"{}\"", home.display()), "home = \"/\"");
    assert_refused(&run(&pair, &pair.primary), 2, &["jenkins-a.toml:", "node.home", "\"/\""]);
    // By another name.
    symlink("/", &link).unwrap();
    pair.primary.edit("home = \"/\"", &format!("home = \"{}\"", link.display()));
    assert_refused(&run(&pair, &pair.primary), 2, &[link.to_str().unwrap(), "root of the whole system"]);
    assert!(!exists(std::path::Path::new("/.hotspare")));
}

#[test]
fn a_home_that_cannot_be_read() {
    if !is_root() {
        return skip("a_home_that_cannot_be_read", "only root can start the program as another user");
    }
    let mut pair = Pair::new();
    pair.give_to_user(true, true);
    std::os::unix::fs::chown(pair.bed.source(), Some(0), Some(0)).unwrap();
    build::mode(&pair.bed.source(), 0o700);
    let ended = run(&pair, &pair.primary);
    assert_refused(&ended, 2, &[pair.bed.source().to_str().unwrap(), "ermission denied"]);
}

#[test]
fn an_unknown_key_and_a_bad_value_are_named_with_their_line_and_what_is_allowed() {
    for (from, to, words) in [
        ("listen = ", "lissten = ", vec!["node.lissten", "unknown key", "did you mean `listen`?"]),
        (
            "initial_role = \"primary\"",
            "initial_role = \"boss\"",
            vec!["node.initial_role", "boss", "primary", "standby"],
        ),
        ("preset = \"none\"", "preset = \"some\"", vec!["replicate.preset", "some", "jenkins", "none"]),
        ("# quiet = \"50ms\"", "quiet = \"soon\"", vec!["batch.quiet", "soon", "50ms"]),
        ("# backend = \"notify\"", "backend = \"guess\"", vec!["watch.backend", "guess", "notify", "inotify"]),
        ("[batch]", "[batsch]", vec!["batsch", "unknown", "did you mean"]),
        ("name = \"jenkins-a\"", "name = \"a b\"", vec!["node.name", "a b", "a-z"]),
    ] {
        let mut pair = Pair::new();
        pair.primary.edit(from, to);
        let at = pair.primary.text.find(to).unwrap();
        let line =
            pair.primary.text[..at].lines().count() + usize::from(at == 0 || pair.primary.text[..at].ends_with('\n'));
        let place = format!("{}:{line}: ", pair.config(&pair.primary).display());
        let ended = run(&pair, &pair.primary);
        assert_refused(&ended, 2, &[&[place.as_str()], words.as_slice()].concat());
        assert!(!exists(&pair.state(&pair.primary)), "nothing was made");
    }
}

#[test]
fn an_id_that_is_not_trusted_is_named_and_connects_once_it_is() {
    let mut pair = Pair::new();
    build::home(&pair.bed.source(), 40);
    let (first, second) = (pair.id(&pair.primary), pair.id(&pair.standby));
    pair.start_primary();
    pair.start_standby();
    // The standby dials, meets an id that it does not trust, and says so. The primary has met nobody yet.
    let mend = format!("hotspare trust {first} --name ");
    pair.until("the standby names the id", |pair| {
        let status = pair.status(&pair.standby)["alarms"].to_string();
        status.contains(&mend) && pair.standby.log().contains(&mend)
    });
    assert_eq!(pair.status(&pair.standby)["peers"][0]["connected"], false);
    let trusted = pair.ask(&pair.standby, &["trust", &first, "--name", "jenkins-a"]);
    assert_eq!(trusted.code, Some(0), "{}", trusted.stderr);
    // Now the primary meets the standby.
    let mend = format!("hotspare trust {second} --name ");
    pair.until("the primary names the id", |pair| {
        let status = pair.status(&pair.primary)["alarms"].to_string();
        status.contains(&mend) && pair.primary.log().contains(&mend)
    });
    pair.until("the standby says that it is not trusted", |pair| {
        let trouble = pair.status(&pair.standby)["peers"][0]["trouble"].to_string();
        trouble.contains(&format!("{mend}NAME` there"))
    });
    assert_eq!(fs::read_dir(pair.bed.destination()).unwrap().count(), 0, "nothing came");
    let trusted = pair.ask(&pair.primary, &["trust", &second, "--name", "jenkins-b"]);
    assert_eq!(trusted.code, Some(0), "{}", trusted.stderr);
    pair.until_streaming();
    pair.converge();
    for node in [&pair.primary, &pair.standby] {
        assert_eq!(pair.status(node)["alarms"], serde_json::json!([]), "what is mended is an alarm no more");
    }
    // And back: who is not trusted any more is cut off at once, and both go on running.
    let untrusted = pair.ask(&pair.primary, &["untrust", &second]);
    assert_eq!(untrusted.code, Some(0), "{}", untrusted.stderr);
    pair.until("the link is cut", |pair| pair.status(&pair.standby)["peers"][0]["connected"] == false);
}

#[test]
fn two_nodes_with_one_name() {
    let mut pair = Pair::new();
    build::home(&pair.bed.source(), 41);
    let (first, second) = (pair.id(&pair.primary), pair.id(&pair.standby));
    pair.standby.edit("name = \"jenkins-b\"", "name = \"jenkins-a\"");
    pair.standby.edit("[[peer]]\nname = \"jenkins-a\"", "[[peer]]\nname = \"other\"");
    for (node, id, name) in [(&pair.primary, &second, "jenkins-b"), (&pair.standby, &first, "other")] {
        assert_eq!(pair.ask(node, &["trust", id, "--name", name]).code, Some(0));
    }
    pair.start_primary();
    pair.start_standby();
    let text = "two nodes are named jenkins-a; give each its own [node] name";
    pair.until("both say it", |pair| {
        [&pair.primary, &pair.standby].iter().all(|node| {
            node.log().contains(text) && pair.status(node)["peers"][0]["trouble"].to_string().contains(&text[..27])
        })
    });
    assert_eq!(fs::read_dir(pair.bed.destination()).unwrap().count(), 0, "nothing came");
}

#[test]
fn a_port_in_use() {
    let mut pair = Pair::trusting();
    let address = format!("127.0.0.1:{}", pair.primary.port);
    let holder = std::net::UdpSocket::bind(&address).unwrap();
    assert_refused(&run(&pair, &pair.primary), 5, &[&address, "in use", "listen"]);
    assert!(!exists(&pair.state(&pair.primary).join("control.sock")), "no socket is left");
    drop(holder);
    pair.start_primary();
    pair.primary.stop();
}

#[test]
fn the_socket_of_a_killed_daemon_is_replaced() {
    let mut pair = Pair::trusting();
    let socket = pair.state(&pair.primary).join("control.sock");
    pair.start_primary();
    pair.primary.kill();
    assert!(exists(&socket));
    for command in ["status", "wait", "verify"] {
        let ended = pair.ask(&pair.primary, &[command]);
        assert_refused(&ended, 3, &["no daemon is running", socket.to_str().unwrap(), "hint: start it with"]);
    }
    // Started anew, it answers.
    pair.start_primary();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    pair.primary.stop();
    assert!(!exists(&socket));
}

#[test]
fn a_second_daemon_of_one_state() {
    let mut pair = Pair::trusting();
    pair.start_primary();
    let pid = pair.status(&pair.primary)["node"]["pid"].to_string();
    assert_refused(&run(&pair, &pair.primary), 5, &["another daemon runs", &format!("pid {pid}"), "control.sock"]);
    // With the socket gone the lock of the state directory still stands in the way.
    fs::remove_file(pair.state(&pair.primary).join("control.sock")).unwrap();
    assert_refused(&run(&pair, &pair.primary), 5, &[pair.state(&pair.primary).to_str().unwrap(), &pid]);
    assert_eq!(pair.primary.daemon().ended(), None, "the first runs on");
}

#[test]
fn a_destination_with_content_of_its_own() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 42);
    build::file(&pair.bed.dst("mine/precious"), "not a replica");
    let before = Snapshot::with_reserved(&pair.bed.destination()).unwrap();
    pair.start_primary();
    pair.start_standby();
    let home = pair.bed.destination();
    let names_it = |text: &str| text.contains(home.to_str().unwrap()) && text.contains("replica");
    pair.until("the standby says so", |pair| {
        let status = pair.status(&pair.standby);
        names_it(&status["alarms"].to_string()) && names_it(&pair.standby.log()) && status["promotable"]["yes"] == false
    });
    let found = differences(&before, &Snapshot::with_reserved(&home).unwrap());
    assert!(found.is_empty(), "it was touched: {found:?}");
    // A person makes room: it goes on by itself, and the alarm is over.
    fs::rename(&home, pair.bed.path("aside")).unwrap();
    fs::create_dir(&home).unwrap();
    pair.until_streaming();
    pair.converge();
    assert_eq!(pair.status(&pair.standby)["alarms"], serde_json::json!([]));
}

#[test]
fn commands_without_a_daemon() {
    let pair = Pair::trusting();
    for command in ["status", "wait", "verify"] {
        assert_refused(&pair.ask(&pair.primary, &[command]), 3, &["no daemon is running", "hint: start it with"]);
    }
}

#[test]
fn wait_on_a_standby_and_without_one() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 43);
    pair.start_primary();
    let ended = pair.ask(&pair.primary, &["wait", "--timeout", "1s"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("jenkins-b has acked nothing"), "{}", ended.stdout);
    let verified = pair.ask(&pair.primary, &["verify"]);
    assert_eq!(verified.code, Some(1), "{}", verified.stderr);
    assert!(verified.stdout.contains("jenkins-b: not compared: it is not connected"), "{}", verified.stdout);
    pair.start_standby();
    assert_refused(
        &pair.ask(&pair.standby, &["wait"]),
        4,
        &["this node is a standby", "hint: run `hotspare wait` on the primary"],
    );
}

#[test]
fn a_verify_of_a_replica_that_is_not_there_yet() {
    let mut pair = Pair::trusting();
    pair.standby.edit(&format!("127.0.0.1:{}", pair.primary.port), &format!("127.0.0.1:{}", free_port()));
    pair.start_standby();
    assert_refused(&pair.ask(&pair.standby, &["verify"]), 4, &["no replica yet", "hint: "]);
    let status = pair.status(&pair.standby);
    assert_eq!(
        (status["state"].as_str(), status["promotable"]["yes"].as_bool()),
        (Some("waiting for a peer"), Some(false))
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    if !is_root() {
        return skip("a_file_that_cannot_be_read", "only root can start the program as another user");
    }
    let mut pair = Pair::new();
    pair.give_to_user(true, false);
    pair.exchange_ids();
    build::file(&pair.bed.src("jobs/secret"), "closed");
    build::mode(&pair.bed.src("jobs/secret"), 0o000);
    build::file(&pair.bed.src("closed/inside"), "inside");
    build::mode(&pair.bed.src("closed"), 0o000);
    build::file(&pair.bed.src("jobs/open"), "open");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    build::file(&pair.bed.src("jobs/later"), "later");
    assert_eq!(pair.ask(&pair.primary, &["wait", "--timeout", "120s"]).code, Some(0), "{}", pair.told());
    pair.until("the rest goes on", |pair| {
        fs::read(pair.bed.dst("jobs/later")).is_ok_and(|content| content == b"later")
            && exists(&pair.bed.dst("jobs/open"))
    });
    let unreadable = pair.status(&pair.primary)["unreadable"].clone();
    assert_eq!(unreadable["count"], 2, "{unreadable}");
    for path in ["closed", "jobs/secret"] {
        let told = unreadable["sample"].as_array().unwrap().iter().find(|told| told["path"] == path);
        let reason = told.unwrap()["reason"].to_string();
        assert!(reason.to_lowercase().contains("permission denied"), "{reason}");
    }
    let page = pair.ask(&pair.primary, &["status"]).stdout;
    assert!(page.contains("jobs/secret"), "{page}");
    let status = pair.status(&pair.primary);
    assert_eq!(status["quality"]["reasons"], serde_json::json!(["unreadable"]), "never called consistent: {status:#}");
    // Once it can be read, it comes.
    build::mode(&pair.bed.src("jobs/secret"), 0o644);
    build::mode(&pair.bed.src("closed"), 0o755);
    pair.until_equal();
    pair.until("it is listed no more", |pair| pair.status(&pair.primary)["unreadable"]["count"] == 0);
}

#[test]
fn a_standby_that_is_not_root_counts_the_owners_it_cannot_hold() {
    if !is_root() {
        return skip("a_standby_that_is_not_root", "only root can start the program as another user");
    }
    let mut pair = Pair::new();
    pair.give_to_user(false, true);
    pair.exchange_ids();
    build::home(&pair.bed.source(), 44);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    build::file(&pair.bed.src("later"), "x");
    assert_eq!(pair.ask(&pair.primary, &["wait", "--timeout", "120s"]).code, Some(0), "{}", pair.told());
    pair.until("it came", |pair| exists(&pair.bed.dst("later")));
    let unheld = pair.status(&pair.standby)["unheld"]["owner"].as_u64().unwrap();
    assert!(unheld > 0);
    pair.until("the primary knows", |pair| {
        pair.status(&pair.primary)["peers"][0]["unheld"]["owner"].as_u64() > Some(0)
    });
    // But for the owners, all is there.
    let found = pair.bed.differences().unwrap();
    let others: Vec<_> = found.iter().filter(|line| !line.contains(": owner is (65534, 65534), not (0, 0)")).collect();
    assert!(others.is_empty(), "{others:?}");
    for node in [&pair.primary, &pair.standby] {
        let verified = pair.ask(node, &["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
        assert!(verified.stdout.contains("this replica cannot hold it: owner "), "{}", verified.stdout);
    }
    let told = pair.standby.log().matches("owner").count();
    assert!(told <= 1, "it is told {told} times:\n{}", pair.standby.log());
}
