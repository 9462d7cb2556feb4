//! A primary that is trusted and hostile (G8, G9): the standby is a real daemon on a real directory, and what it is sent comes over the library's
//! own network room, byte by byte as an attacker would have it. After each attack the daemon lives, the replica is what it was, nothing
//! outside it was touched, and memory stayed below a stated bound; in the end the honest primary is back, and all converges.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::compare::{Snapshot, differences};
use common::pair::Pair;
use common::peer::{Frames, Hostile, Met, Outcome};
use common::{build, memory_of, note};
use hotspare::net::endpoint::{Endpoint, Limits};
use hotspare::net::identity::Identity;
use hotspare::net::link::Priority;
use hotspare::net::trust::TrustedPeers;
use hotspare::thought::delta::pack::{PackOptions, Packer};
use hotspare::thought::generation::{Action, Content, Header, Operation, Payload};
use hotspare::thought::wire::frame::encode_body;
use hotspare::thought::wire::message::{Audit, CHUNK_BYTES, Have, Heartbeat, HeldContent, List, StreamStart, data};
use hotspare::words::entry::{Body, Digest, Entry, Proof, Timestamp, Xattrs};
use hotspare::words::path::RelPath;
use hotspare::words::position::ChainDigest;

/// What a standby may take beyond what it took at rest: received and not yet staged (72 MiB, by the README), and what it works with. Its index is
/// tiny here.
const MEMORY_BYTES: u64 = (72 + 64) << 20;

/// What strangers may take of a node together: half-open handshakes, and what waits to become one.
const STRANGERS_BYTES: u64 = 64 << 20;

fn entry(body: Body) -> Entry {
    let mtime = Timestamp { seconds: 1, nanoseconds: 0 };
    Entry { body, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Xattrs::default(), link: None }
}

fn file(size: u64, digest: Digest) -> Entry {
    entry(Body::File { size, digest, proof: Proof::Hashed })
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn operation(action: Action, payload: Option<Payload>) -> Vec<u8> {
    Operation { id: 0, action, payload }.encode()
}

/// A new empty file at `at`, which need be no path at all.
fn creates(at: &[u8]) -> Vec<u8> {
    let entry = file(0, Digest::of(b""));
    let bytes = operation(Action::Create { path: path("%"), entry, content: Content::None, sparse: false }, None);
    // The path, as postcard writes it: its length in sevens of bits, and its bytes.
    let begin = bytes.windows(2).position(|window| window == [1, b'%']).unwrap();
    let (mut length, mut encoded) = (at.len(), Vec::new());
    while length >= 0x80 {
        encoded.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    encoded.push(u8::try_from(length).unwrap());
    encoded.extend_from_slice(at);
    [&bytes[..begin], &encoded, &bytes[begin + 2..]].concat()
}

/// A new file whose payload is `raw_bytes` zeros, packed, that claims to be `size` bytes.
fn bomb(raw_bytes: u64, size: u64, unpacked: u64) -> (Vec<u8>, Vec<u8>) {
    let mut packed = Vec::new();
    let mut packer = Packer::new(&mut packed, PackOptions::default());
    let zeros = vec![0; 1 << 20];
    for _ in 0..raw_bytes >> 20 {
        packer.write(&zeros).unwrap();
    }
    packer.finish().unwrap();
    let digest = Digest::of(&vec![0; usize::try_from(size).unwrap()]);
    let action =
        Action::Create { path: path("bomb"), entry: file(size, digest), content: Content::Whole, sparse: false };
    (operation(action, Some(Payload { length: packed.len() as u64, unpacked })), packed)
}

/// The standby between two attacks.
struct Victim {
    pid: u32,
    look: Snapshot,
    replica: PathBuf,
    outside: PathBuf,
    at_rest: u64,
}

impl Victim {
    fn of(pair: &Pair, outside: PathBuf) -> Self {
        let pid = pair.standby.daemon.as_ref().unwrap().pid();
        let replica = pair.bed.destination();
        let look = Snapshot::of(&replica).unwrap();
        let at_rest = memory_of(pid, "VmHWM");
        Self { pid, look, replica, outside, at_rest }
    }

    /// Nothing came of it.
    fn is_unharmed(&self, attack: &str) {
        let found = differences(&self.look, &Snapshot::of(&self.replica).unwrap());
        assert!(found.is_empty(), "{attack}: {found:?}");
        let names: Vec<_> = std::fs::read_dir(&self.outside).unwrap().collect();
        assert!(names.is_empty(), "{attack}: {names:?}");
        let above = memory_of(self.pid, "VmHWM").saturating_sub(self.at_rest);
        note(&format!("{attack}: {} KiB above rest", above >> 10));
        assert!(above < MEMORY_BYTES, "{attack}: {above} bytes above rest");
        // The peak begins anew.
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
    }
}

/// Two nodes that streamed; then the primary has ended. The replica has a link that leads out of it, to the directory given back.
fn victim_and_place() -> (Pair, PathBuf) {
    let mut pair = Pair::trusting();
    // Each address is dialed with a patience of its own: an attacker who is cut off is soon dialed again.
    let port = pair.primary.port;
    pair.standby.dial_at(&(1..=20).map(|host| format!("127.0.0.{host}:{port}")).collect::<Vec<_>>());
    build::home(&pair.bed.source(), 60);
    let outside = pair.bed.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pair.bed.src("door")).unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.until_equal();
    pair.primary.stop();
    (pair, outside)
}

#[test]
fn a_hostile_primary_harms_nothing_and_takes_no_memory() {
    let (mut pair, outside) = victim_and_place();
    let victim = Victim::of(&pair, outside);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let hostile = Hostile::of(&pair);
        paths_that_lead_out(&hostile, &victim).await;
        plans_that_are_not_what_they_claim(&hostile, &victim).await;
        bombs_and_giants(&hostile, &victim).await;
        floods(&hostile, &victim).await;
        hostile.endpoint.close().await;
    });
    drop(runtime);
    assert!(!pair.standby.log().contains("panicked"), "{}", pair.standby.log());
    // The honest primary is back.
    pair.start_primary();
    build::file(&pair.bed.src("after"), "x");
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.standby);
    pair.standby.stop();
    let stage = pair.bed.dst(".hotspare/stage");
    let litter: Vec<_> = std::fs::read_dir(&stage).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(litter.iter().all(|name| name == "held"), "{litter:?}");
    assert_eq!(std::fs::read_dir(stage.join("held")).map_or(0, Iterator::count), 0);
}

async fn paths_that_lead_out(hostile: &Hostile, victim: &Victim) {
    let mut met = hostile.meet().await;
    let long = [b'x'; 5000];
    let deep = b"x/".repeat(4000);
    let paths: &[&[u8]] = &[
        b"../escaped",
        b"a/../../escaped",
        b"/tmp/escaped",
        b"a//b",
        b"a/",
        b"./a",
        b"a\0b",
        b"..",
        b".hotspare/journal/x",
        b".hotspare",
        b"door/escaped",
        b"nowhere/at/all",
        &long,
        &deep[..deep.len() - 1],
    ];
    for at in paths {
        let frames = met.generation(&[(creates(at), Vec::new())]);
        met.sends(&frames).await;
        let outcome = met.outcome().await;
        let shown = String::from_utf8_lossy(&at[..at.len().min(30)]).into_owned();
        assert_ne!(outcome, Outcome::Acked, "{shown}");
        victim.is_unharmed(&shown);
        // What is found out only when the tree is changed has the replica opened anew, and the link ends.
        if outcome == Outcome::Ended || at.ends_with(b"escaped") || at.ends_with(b"all") {
            drop(met);
            met = hostile.meet().await;
        }
    }
}

async fn plans_that_are_not_what_they_claim(hostile: &Hostile, victim: &Victim) {
    let good = creates(b"new");
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 9] = [
        ("another count of operations", |header| header.operations += 1),
        ("another digest of operations", |header| header.operations_digest = Digest::of(b"?")),
        ("another tree after", |header| header.tree_after = Digest::of(b"?")),
        ("another tree before", |header| header.tree_before = Digest::of(b"?")),
        ("another history", |header| header.parent_chain = ChainDigest(Digest::of(b"?"))),
        ("another home", |header| header.home.0[0] ^= 1),
        ("another reign", |header| header.reign.0[0] ^= 1),
        ("a position before this one", |header| header.position.generation -= 1),
        ("a feature that nobody knows", |header| header.required_features = 1 << 60),
    ];
    for (what, change) in changes {
        let mut met = hostile.meet().await;
        let mut header = met.header(std::slice::from_ref(&good));
        change(&mut header);
        let frames = Met::start(&header).with(data::OPERATION, &good).with(data::END, &[]);
        met.sends(&frames).await;
        assert_ne!(met.outcome().await, Outcome::Acked, "{what}");
        victim.is_unharmed(what);
    }
}

async fn bombs_and_giants(hostile: &Hostile, victim: &Victim) {
    let mib = 1 << 20;
    for (what, packed) in [
        ("a gigabyte that claims to be a megabyte", bomb(1 << 30, mib, mib)),
        ("a gigabyte that says so, of a file that claims to be a megabyte", bomb(1 << 30, mib, 1 << 30)),
        ("a megabyte that claims to be a byte", bomb(mib, 1, 1)),
    ] {
        let mut met = hostile.meet().await;
        met.sends(&met.generation(&[packed])).await;
        assert_ne!(met.outcome().await, Outcome::Acked, "{what}");
        victim.is_unharmed(what);
    }
    let whole = |size, payload| {
        let entry = file(size, Digest::of(b"?"));
        operation(Action::Create { path: path("giant"), entry, content: Content::Whole, sparse: false }, Some(payload))
    };
    let giants = [
        ("lengths without end", whole(u64::MAX, Payload { length: u64::MAX, unpacked: u64::MAX })),
        ("a payload of nothing", whole(1, Payload { length: 0, unpacked: u64::MAX })),
        ("a file larger than any", whole(u64::MAX >> 1, Payload { length: 1, unpacked: u64::MAX >> 1 })),
    ];
    for (what, giant) in giants {
        let mut met = hostile.meet().await;
        let header = met.header(std::slice::from_ref(&giant));
        met.sends(&Met::start(&header).with(data::OPERATION, &giant).with(data::END, &[])).await;
        // It may wait for room that never comes: until the link ends.
        let outcome = tokio::time::timeout(Duration::from_secs(3), met.outcome()).await;
        assert_ne!(outcome.ok(), Some(Outcome::Acked), "{what}");
        victim.is_unharmed(what);
    }
    let mut length = Frames::default().with(data::START, &[]).0;
    length[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let endless = [0xff; 40];
    for (what, frames) in [
        ("a frame of four gigabytes", Frames(length)),
        ("a start that is endless", Frames::default().with(data::START, &endless)),
        ("an operation before the start", Frames::default().with(data::OPERATION, &creates(b"new"))),
        ("noise", Frames(vec![0x5a; 100_000])),
    ] {
        let mut met = hostile.meet().await;
        met.sends(&frames).await;
        assert_eq!(met.outcome().await, Outcome::Ended, "{what}");
        victim.is_unharmed(what);
    }
}

async fn floods(hostile: &Hostile, victim: &Victim) {
    let contents = Frames::default().with(data::START, &encode_body(&StreamStart::Contents).unwrap());
    let tiny = (0..1_000_000).fold(contents.clone(), |frames, _| frames.with(data::PAYLOAD, &[]));
    let mut met = hostile.meet().await;
    met.sends(&tiny.with(data::END, &[])).await;
    assert_ne!(met.outcome().await, Outcome::Acked);
    victim.is_unharmed("a million tiny frames");

    let held = |number: u32| {
        let payload = Payload { length: 0, unpacked: 0 };
        let digest = Digest::of(&number.to_le_bytes());
        encode_body(&HeldContent {
            digest,
            size: 1,
            sparse: false,
            mode: 0,
            mtime: Timestamp::default(),
            payload,
            from: 0,
            base: None,
        })
    };
    let many = (0..20_000).fold(contents.clone(), |frames, number| frames.with(data::HELD, &held(number).unwrap()));
    let mut met = hostile.meet().await;
    met.sends(&many.with(data::END, &[])).await;
    assert_ne!(met.outcome().await, Outcome::Acked);
    victim.is_unharmed("contents that never come");

    // All streams that there may be, filled, and none of them ends.
    let met = hostile.meet().await;
    let full = (0..40).fold(contents, |frames, _| frames.with(data::PAYLOAD, &[0; CHUNK_BYTES]));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (streams, full) = (met.streams.clone(), full.clone());
        tasks.spawn(async move {
            let mut stream = streams.open_data(Priority::BULK).await.ok()?;
            stream.write_all(&full.0).await.ok()?;
            std::future::pending::<Option<()>>().await
        });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    tasks.shutdown().await;
    victim.is_unharmed("all streams at once");
    drop(met);

    questions(hostile).await;
    victim.is_unharmed("questions without number");
}

/// Asks on and on, and reads no answer.
async fn questions(hostile: &Hostile) {
    let mut met = hostile.meet().await;
    let deep = RelPath::parse(&b"some-name/".repeat(400)[..3999]).unwrap();
    let have = Have { contents: vec![Digest::of(b"?"); 4096] };
    let mut number = 0_u32;
    let asking = async {
        loop {
            let has_said = match number % 8 {
                0 => met.says(have.clone()).await,
                1 => met.says(Heartbeat::default()).await,
                2 => met.says(Audit { paths: vec![deep.clone(); 200], content: true, mend: false }).await,
                _ => met.says(List { path: deep.clone(), after: None }).await,
            };
            if !has_said {
                break;
            }
            number += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), asking).await.ok();
    note(&format!("{number} questions were asked"));
}

#[test]
fn a_flood_of_strangers_takes_no_memory_and_keeps_nobody_out() {
    let mut pair = Pair::running();
    build::home(&pair.bed.source(), 61);
    pair.until_streaming();
    pair.until_equal();
    let pid = pair.primary.daemon().pid();
    let at_rest = memory_of(pid, "VmHWM");
    let address = format!("127.0.0.1:{}", pair.primary.port);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(async {
        let mut strangers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let address = address.clone();
            strangers.spawn(async move {
                let trusted = TrustedPeers::new();
                let endpoint = |identity: &Identity| {
                    Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, trusted.clone(), Limits::default())
                        .unwrap()
                };
                let mut refused = 0;
                for _ in 0..60 {
                    let endpoint = endpoint(&Identity::ephemeral().unwrap());
                    refused += usize::from(endpoint.connect(address.clone()).await.is_err());
                }
                refused
            });
        }
        // Beside them what is no QUIC at all, and what begins like it.
        let noise = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..20_000_usize {
            let mut packet = vec![0xc3; 1 + number % 1200];
            packet[1..].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * number % 251).try_into().unwrap());
            noise.send_to(&packet, &address).ok();
        }
        strangers.join_all().await.into_iter().sum::<usize>()
    });
    assert_eq!(refused, 16 * 60, "nobody whom nobody trusts gets in");
    build::file(&pair.bed.src("meanwhile"), "x");
    pair.converge();
    let above = memory_of(pid, "VmHWM").saturating_sub(at_rest);
    note(&format!("{refused} handshakes: {} KiB above rest", above >> 10));
    assert!(above < STRANGERS_BYTES, "{above} bytes above rest");
    assert!(!pair.primary.log().contains("panicked"), "{}", pair.told());
}
