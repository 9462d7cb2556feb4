//! Standbys that cannot hold all that the primary has: equal all the same, and what they lack is counted.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use common::pair::Pair;
use common::{build, is_root, skip};
use rustix::fs::XattrFlags;
use serde_json::{Value, json};

/// All that has been written is in the replica, and `verify` says equal on both.
fn settle(pair: &mut Pair) {
    pair.until_streaming();
    let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
    assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, pair.told());
    pair.assert_verified(&pair.primary);
    pair.assert_verified(&pair.standby);
}

/// What the standby says that it cannot hold; the primary says the same of it.
fn unheld(pair: &mut Pair) -> Value {
    let told = pair.status(&pair.standby)["unheld"].clone();
    let same = told.clone();
    pair.until("the primary knows", |pair| pair.status(&pair.primary)["peers"][0]["unheld"] == same);
    told
}

/// Bytes that the primary sent over its present link.
fn sent(pair: &Pair) -> u64 {
    pair.status(&pair.primary)["peers"][0]["bytes_sent"].as_u64().unwrap()
}

fn entries(at: &Path) -> u64 {
    let below = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        _ if entry.file_name() == ".hotspare" => 0,
        true => entries(&entry.path()),
        false => 1,
    };
    1 + std::fs::read_dir(at).unwrap().map(|entry| below(entry.unwrap())).sum::<u64>()
}

#[test]
fn a_standby_that_cannot_give_files_away_is_equal_counts_them_and_loses_no_count() {
    if !is_root() {
        return skip("a standby without privilege", "only root has files to give away");
    }
    let mut pair = Pair::new();
    pair.give_to_user(false, true);
    pair.exchange_ids();
    build::home(&pair.bed.source(), 40);
    chown(pair.bed.source(), Some(0), Some(0)).unwrap();
    let file = |name: &str, uid: u32, mode: u32| {
        build::file(&pair.bed.src(name), name);
        chown(pair.bed.src(name), Some(uid), Some(uid)).unwrap();
        std::fs::set_permissions(pair.bed.src(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    file("setuid", 1234, 0o4755);
    file("held", common::USER, 0o644);
    let expected = json!({ "owner": entries(&pair.bed.source()) - 1, "mode": 1, "xattr": 0 });
    pair.start_primary();
    pair.start_standby();
    settle(&mut pair);
    assert_eq!(unheld(&mut pair), expected);
    let verified: Value = serde_json::from_str(&pair.ask(&pair.primary, &["verify", "--json"]).stdout).unwrap();
    assert_eq!(verified["peers"][0]["unheld"], expected, "the disk falls short by just that");

    pair.standby.stop();
    pair.start_standby();
    settle(&mut pair);
    assert_eq!(unheld(&mut pair), expected, "after a restart");
    assert_eq!(sent(&pair), 0, "nothing is done again");
    pair.standby.kill();
    std::fs::remove_file(pair.state(&pair.standby).join("replica.redb")).unwrap();
    pair.start_standby();
    settle(&mut pair);
    assert_eq!(unheld(&mut pair), expected, "after the index was made again from the disk");
    assert!(sent(&pair) > 0, "what the disk says is not what the primary has");
    pair.standby.stop();
    pair.start_standby();
    settle(&mut pair);
    assert_eq!(sent(&pair), 0, "once is enough");

    pair.primary.stop();
    pair.start_primary();
    settle(&mut pair);
    assert!(sent(&pair) < 4096, "{} bytes after a restart of the primary", sent(&pair));
    assert_eq!(unheld(&mut pair), expected);

    // Given to the standby's own user the entries are held.
    for name in ["setuid", "held"] {
        chown(pair.bed.src(name), Some(common::USER), Some(common::USER)).unwrap();
    }
    settle(&mut pair);
    assert_eq!(unheld(&mut pair)["owner"], expected["owner"].as_u64().unwrap() - 1);
    assert_eq!(unheld(&mut pair)["mode"], 0);
}

/// A file system without extended attributes at the replica, taken away in the end.
struct Bare<'a>(&'a Path);

impl<'a> Bare<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted = rustix::mount::mount("ramfs", at, "ramfs", rustix::mount::MountFlags::empty(), None);
        mounted.is_ok().then_some(Self(at))
    }
}

impl Drop for Bare<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

#[test]
fn a_file_system_without_attributes_is_equal_and_counts_them() {
    let mut pair = Pair::trusting();
    let destination = pair.bed.destination();
    let Some(_bare) = Bare::mount(&destination) else {
        return skip("a replica without extended attributes", "nothing can be mounted here");
    };
    build::home(&pair.bed.source(), 40);
    let file = pair.bed.src("attributes");
    build::file(&file, "x");
    rustix::fs::setxattr(&file, "user.one", b"1", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(&file, "user.two", b"2", XattrFlags::empty()).unwrap();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(&file, "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    pair.start_primary();
    pair.start_standby();
    settle(&mut pair);
    // The home of the test has attributes of its own.
    let count = unheld(&mut pair)["xattr"].as_u64().unwrap();
    assert!(count >= 3, "{count}");
    rustix::fs::removexattr(&file, "user.two").unwrap();
    settle(&mut pair);
    assert_eq!(unheld(&mut pair)["xattr"], count - 1);
    pair.standby.stop();
    pair.start_standby();
    settle(&mut pair);
    assert_eq!(unheld(&mut pair)["xattr"], count - 1, "after a restart");
    assert_eq!(sent(&pair), 0);
    let verified: Value = serde_json::from_str(&pair.ask(&pair.primary, &["verify", "--json"]).stdout).unwrap();
    assert_eq!(verified["peers"][0]["unheld"]["xattr"], count - 1);
    pair.standby.stop();
}
