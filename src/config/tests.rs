use std::path::Path;
use std::time::Duration;

use super::*;
use crate::thought::fuse::FuseOptions;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const LEAST: &str = "[node]\nname = \"a\"\nhome = \"/srv/home\"\n";

fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Settings, String> {
    let overrides: Vec<_> = overrides.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Settings::parse(Path::new("h.toml"), text, &overrides).map_err(|error| error.to_string())
}

/// What is said of `text` after the least configuration; lines are counted from its own first.
fn complaint(text: &str) -> String {
    let all = format!("{text}\n[node]\nname = \"a\"\nhome = \"/srv/home\"\n");
    parse(&all, &[]).expect_err(text)
}

#[test]
fn what_is_not_said_has_the_documented_defaults() {
    let settings = parse(LEAST, &[]).unwrap();
    assert_eq!(settings.node.listen.to_string(), "0.0.0.0:7420");
    assert_eq!(settings.control_socket(), Path::new("/var/lib/hotspare/control.sock"));
    assert_eq!(settings.node.initial_role, None);
    assert_eq!(settings.batch.quiet, Duration::from_millis(50));
    assert_eq!(settings.batch.longest, Duration::from_millis(200));
    assert_eq!(settings.batch.big_file_bytes, 8 << 20);
    assert_eq!((settings.window.memory_bytes, settings.window.disk_bytes), (32 << 20, 512 << 20));
    assert_eq!(settings.window.linger, Duration::from_secs(600));
    assert_eq!((settings.standby.bandwidth, settings.standby.adopt), (None, false));
    assert_eq!(settings.replicate.preset, Preset::Jenkins);
    let watch = Watch {
        backend: Backend::Notify,
        max_watches: None,
        queue: 65_536,
        scan_always: false,
        poll: Duration::from_secs(30),
    };
    assert_eq!(settings.watch, watch);
    assert_eq!(settings.observe.log_format, LogFormat::Text);
    assert_eq!((settings.peers, settings.dormant), (vec![], vec![]));
}

#[test]
fn every_bad_value_is_told_with_line_key_find_and_what_is_allowed() {
    for (text, origin_and_key, found) in [
        ("[batch]\nquiet = \"fast\"", "h.toml:2: batch.quiet", "\"fast\""),
        ("[batch]\nquiet = \"11s\"", "h.toml:2: batch.quiet", "\"11s\""),
        ("[batch]\nquiet = \"2s\"", "h.toml:2: batch.quiet", "\"2s\""),
        ("[batch]\nlongest = \"20ms\"", "h.toml:2: batch.longest", "\"20ms\""),
        ("[batch]\nlongest = 5", "h.toml:2: batch.longest", "integer `5`"),
        ("\n[batch]\n\nbig_file = \"8MB\"", "h.toml:4: batch.big_file", "\"8MB\""),
        ("[window]\nmemory = \"8GiB\"", "h.toml:2: window.memory", "\"8GiB\""),
        ("[window]\nlinger = \"2days\"", "h.toml:2: window.linger", "\"2days\""),
        ("[watch]\nbackend = \"fanotify\"", "h.toml:2: watch.backend", "\"fanotify\""),
        ("[watch]\nmax_watches = \"15\"", "h.toml:2: watch.max_watches", "\"15\""),
        ("[watch]\nqueue = \"63\"", "h.toml:2: watch.queue", "\"63\""),
        ("[watch]\nscan = \"never\"", "h.toml:2: watch.scan", "\"never\""),
        ("[watch]\npoll = \"999ms\"", "h.toml:2: watch.poll", "\"999ms\""),
        ("[tls]\nca = \"ca.pem\"", "h.toml:2: tls.ca", "\"ca.pem\""),
        ("[tls]\ncert = \"/a.pem\"", "h.toml:2: tls.cert", "\"/a.pem\""),
        ("[tls]\nkey = \"/a.pem\"", "h.toml:2: tls.key", "\"/a.pem\""),
        ("[replicate]\npreset = \"all\"", "h.toml:2: replicate.preset", "\"all\""),
        ("[replicate]\nexclude = [\n\"a\",\n\"b[z-a]\"]", "h.toml:4: replicate.exclude", "\"b[z-a]\""),
        ("[replicate]\ninclude = [\n\"a\",\n5]", "h.toml:4: replicate.include", "integer `5`"),
        ("[standby]\nbandwidth = \"1KiB\"", "h.toml:2: standby.bandwidth", "\"1KiB\""),
        ("[standby]\nburst = \"1MiB\"", "h.toml:2: standby.burst", "\"1MiB\""),
        ("[standby]\nadopt = \"maybe\"", "h.toml:2: standby.adopt", "\"maybe\""),
        ("[standby]\nfuse = \"0%\"", "h.toml:2: standby.fuse", "\"0%\""),
        ("[standby]\nfuse_count = \"many\"", "h.toml:2: standby.fuse_count", "\"many\""),
        ("[standby]\nfuse_window = \"0s\"", "h.toml:2: standby.fuse_window", "\"0s\""),
        ("[standby]\nreserve = \"91%\"", "h.toml:2: standby.reserve", "\"91%\""),
        ("[failover]\nengine = \"raft\"", "h.toml:2: failover.engine", "\"raft\""),
        ("[hooks]\ndemoted = \"stop.sh\"", "h.toml:2: hooks.demoted", "\"stop.sh\""),
        ("[observe]\nhttp = \"7421\"", "h.toml:2: observe.http", "\"7421\""),
        ("[[peer]]\naddress = \"b:1\"", "h.toml:1: peer.name", "nothing, and it must be set"),
        ("[[peer]]\nname = \"b\"", "h.toml:1: peer.address", "nothing, and it must be set"),
        ("[[peer]]\nname = \"b\"\naddress = []", "h.toml:1: peer.address", "nothing, and it must be set"),
        ("[[peer]]\nname = \"b\"\naddress = [\"b:7\", \"b\"]", "h.toml:3: peer.address", "\"b\""),
        ("[[peer]]\nname = \"b\"\naddress = 7", "h.toml:3: peer.address", "integer `7`"),
        ("[[peer]]\nname = \"a\"\naddress = \"b:1\"", "h.toml:2: peer.name", "\"a\""),
        ("[[peer]]\nname = \"b\"\naddress = \"b:1\"\nid = \"b\"", "h.toml:4: peer.id", "\"b\""),
        ("[[peer]]\nname = \"b\"\naddress = \"b:1\"\nid = \"hs1-abc\"", "h.toml:4: peer.id", "\"hs1-abc\""),
    ] {
        let error = complaint(text);
        let expected = format!("\n  {origin_and_key}: found {found}; allowed: ");
        assert!(error.contains(&expected), "{text}\nsays {error}\nnot  {expected}");
        assert!(!error.ends_with("allowed: "), "{error}");
    }
}

#[test]
fn an_unknown_key_is_refused_and_the_likely_one_named() {
    assert!(complaint("[batch]\nquite = \"1s\"").contains(
        "h.toml:2: batch.quite: found an unknown key; \
         allowed: did you mean `quiet`? the keys of [batch]: quiet, longest, big_file"
    ));
    assert!(complaint("[[peer]]\nnane = \"b\"").contains("h.toml:2: peer.nane: found an unknown key"));
    assert!(complaint("[batches]").contains("h.toml:1: batches: found an unknown key; allowed: did you mean `batch`?"));
    assert!(complaint("[jenkins]\nx = 1").contains("jenkins: found an unknown key; allowed: the sections: node,"));
}

#[test]
fn all_problems_are_told_at_once() {
    let error = parse("[node]\nname = \"a b\"\nlisten = \"7420\"\n[batch]\nquiet = \"\"", &[]).unwrap_err();
    for part in ["2: node.name", "h.toml: node.home: found nothing", "3: node.listen", "5: batch.quiet"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    assert!(complaint("[batch]\nquiet = ").contains("h.toml:2: found "));
    assert!(complaint("[batch]\nquiet = \"1s\"\nquiet = \"1s\"").contains("h.toml:3: found duplicate key"));
}

#[test]
fn home_and_state_are_absolute_apart_and_not_the_root() {
    for (home, state, key) in [
        ("/", "/s", "node.home"),
        ("home", "/s", "node.home"),
        ("/srv/../home", "/s", "node.home"),
        ("/srv/home", "/srv/home/state", "node.state"),
        ("/srv/home", "/srv", "node.state"),
        ("/srv/home", "/srv/home/", "node.state"),
        ("/srv/home", "state", "node.state"),
    ] {
        let text = format!("[node]\nname = \"a\"\nhome = \"{home}\"\nstate = \"{state}\"");
        assert!(parse(&text, &[]).unwrap_err().contains(&format!("{key}: found")), "{home} {state}");
    }
    let beside = "[node]\nname = \"a\"\nhome = \"/srv/home/\"\nstate = \"/srv/./home-state\"";
    assert_eq!(parse(beside, &[]).unwrap().node.state, Path::new("/srv/home-state"));
    assert_eq!(parse(beside, &[]).unwrap().node.home.as_os_str(), "/srv/home");
}

#[test]
fn a_variable_replaces_a_single_value_and_is_named_when_it_is_bad() {
    let settings = parse(LEAST, &[("HOTSPARE_NODE_NAME", "b"), ("HOTSPARE_BATCH_BIG_FILE", "1GiB")]).unwrap();
    assert_eq!(settings.node.name.as_str(), "b");
    assert_eq!(settings.batch.big_file_bytes, 1 << 30);
    assert!(parse("", &[("HOTSPARE_NODE_NAME", "b"), ("HOTSPARE_NODE_HOME", "/h")]).is_ok());

    let bad = parse(LEAST, &[("HOTSPARE_NODE_NAME", "b b")]).unwrap_err();
    assert!(bad.contains("environment variable HOTSPARE_NODE_NAME: node.name: found \"b b\""), "{bad}");
    let unknown = parse(LEAST, &[("HOTSPARE_NODE_HOM", "/x")]).unwrap_err();
    assert!(unknown.contains("HOTSPARE_NODE_HOM: node.hom: found a key"), "{unknown}");
    assert!(unknown.contains("did you mean `home`?"), "{unknown}");
}

#[test]
fn variables_that_are_not_ours_are_left_alone() {
    let others = [
        ("HOTSPARE_CONFIG", "x"),
        ("HOTSPARE_PORT", "tcp://10.0.0.1:7420"),
        ("HOTSPARE_NODE_SERVICE_HOST", "10.0.0.1"),
        ("HOTSPARE_NODE_SERVICE_PORT_QUIC", "7420"),
        ("HOTSPARE_NODE_PORT_7420_UDP_ADDR", "10.0.0.1"),
        ("NODE_NAME", "x"),
    ];
    assert_eq!(parse(LEAST, &others), parse(LEAST, &[]));
}

#[test]
fn what_is_not_acted_upon_is_checked_and_listed() {
    let text = format!(
        "{LEAST}[standby]\nfuse = \"30%\"\nhistory_size = \"1GiB\"\n[failover]\nengine = \"keepalived\"\n\
         [hooks]\nalarm = \"/bin/true\"\n[observe]\nhttp = \"127.0.0.1:1\"\nlog_format = \"json\"\n"
    );
    let settings = parse(&text, &[("HOTSPARE_FAILOVER_MAX_LAG", "10s")]).unwrap();
    let dormant = ["standby.history_size", "failover.engine", "failover.max_lag", "hooks.alarm", "observe.http"];
    assert_eq!(settings.dormant, dormant);
    assert_eq!(settings.standby.fuse, FuseOptions { share_percent: 30, ..FuseOptions::default() });
    assert_eq!(settings.failover.max_lag, Some(Duration::from_secs(10)));
}

#[test]
fn a_peer_has_one_address_or_several() {
    let text = format!(
        "{LEAST}[[peer]]\nname = \"b\"\naddress = \"b.example:7420\"\nid = \"hs1-{ID}\"\n\
         [[peer]]\nname = \"c\"\naddress = [\"10.0.0.3:1\", \"[fe80:0::1]:2\"]\n"
    );
    let peers = parse(&text, &[]).unwrap().peers;
    let addresses = |peer: &Peer| peer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(addresses(&peers[0]), ["b.example:7420"]);
    assert_eq!(addresses(&peers[1]), ["10.0.0.3:1", "[fe80::1]:2"]);
    assert_eq!(peers[0].id.as_ref().unwrap().as_str(), format!("hs1-{ID}"));
    assert_eq!(peers[1].id, None);
    for address in ["b", ":7", "b:0", "b:70000", "fe80::1:2", "[b]:1", "b c:1", "http://b:1"] {
        let text = format!("{LEAST}[[peer]]\nname = \"b\"\naddress = \"{address}\"\n");
        assert!(parse(&text, &[]).is_err(), "{address}");
    }
}

#[test]
fn two_peers_never_share_a_name_or_an_id() {
    let peer = |name: &str, id: &str| {
        format!("[[peer]]\nname = \"{name}\"\naddress = \"x:1\"\nid = \"hs1-{}\"\n", id.repeat(8))
    };
    let two = |one: String, other: String| parse(&format!("{LEAST}{one}{other}"), &[]);
    assert!(two(peer("b", "aaaaaaaa"), peer("c", "bbbbbbbb")).is_ok());
    assert!(two(peer("b", "aaaaaaaa"), peer("b", "bbbbbbbb")).unwrap_err().contains("h.toml:9: peer.name"));
    assert!(two(peer("b", "aaaaaaaa"), peer("c", "aaaaaaaa")).unwrap_err().contains("h.toml:11: peer.id"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Settings::load(Path::new("/nowhere/h.toml"), &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration /nowhere/h.toml");
}

#[test]
fn what_needs_a_restart_is_named_by_its_keys() {
    let of = |text: &str| parse(&format!("{LEAST}{text}"), &[]).unwrap();
    let peer = "[[peer]]\nname = \"b\"\naddress = \"b:1\"\n";
    let before = of(&format!("[batch]\nquiet = \"40ms\"\n{peer}"));
    let same = of(&format!("[batch]\nquiet = \"40ms\"\nlongest = \"200ms\"\n[replicate]\nexclude = [\"a\"]\n{peer}"));
    assert_eq!(before.needs_restart(&same), Vec::<String>::new());
    let other = of("[batch]\nlongest = \"300ms\"\n[window]\ndisk = \"1GiB\"\n");
    assert_eq!(before.needs_restart(&other), ["batch.longest", "batch.quiet", "peer", "window.disk"]);
}
