//! The configurations that are shipped as examples are valid, and fit each other.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use hotspare::config::{Preset, Role, Settings};

fn example(name: &str) -> (PathBuf, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    (file, text)
}

fn load(name: &str) -> Settings {
    Settings::load(&example(name).0, &[]).unwrap()
}

#[test]
fn the_examples_are_two_nodes_that_know_each_other() {
    let (primary, standby) = (load("primary.toml"), load("standby.toml"));
    assert_eq!(primary.node.initial_role, Some(Role::Primary));
    assert_eq!(standby.node.initial_role, Some(Role::Standby));
    for (one, other) in [(&primary, &standby), (&standby, &primary)] {
        assert_eq!(one.peers.len(), 1);
        assert_eq!(one.peers[0].name, other.node.name);
        assert_eq!(one.peers[0].addresses[0].to_string(), other.node.listen.to_string());
        assert!(other.node.listen.ip().is_loopback());
        assert_eq!((one.peers[0].id.as_ref(), one.dormant.len()), (None, 0));
    }
    assert_eq!(primary.replicate, standby.replicate);
    assert_eq!(primary.replicate.preset, Preset::Jenkins);
    let places =
        [&primary.node.home, &primary.node.state, &standby.node.home, &standby.node.state].map(PathBuf::as_path);
    for (i, one) in places.iter().enumerate() {
        assert!(one.starts_with("/tmp/hotspare-demo"));
        assert!(places.iter().enumerate().all(|(j, other)| i == j || !one.starts_with(other)), "{}", one.display());
    }
}

/// Every line `# key = value` is an example too: taken in, the file is still valid, and says the same of what has a default.
#[test]
fn what_the_examples_show_in_comments_is_valid_as_well() {
    for name in ["primary.toml", "standby.toml"] {
        let (file, text) = example(name);
        let is_setting = |line: &str| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        };
        let mut shown = 0;
        let lines = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_setting(rest) => {
                shown += 1;
                rest
            }
            _ => line,
        });
        let all = lines.collect::<Vec<_>>().join("\n");
        let settings = Settings::parse(&file, &all, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert!(shown > 5, "{name} shows {shown} settings");
        assert!(!settings.dormant.is_empty());
        let plain = load(name);
        let said = |settings: Settings| (settings.batch, settings.window, settings.watch);
        assert_eq!(said(settings), said(plain), "the defaults are shown as they are");
    }
}
