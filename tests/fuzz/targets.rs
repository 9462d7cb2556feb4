//! What is done with bytes that somebody else chose. Each function takes any bytes, and neither panics, nor hangs, nor takes memory beyond its limits.
//!
//! They are driven twice: by libFuzzer (`fuzz_targets`, one line each), and by `tests/hostile_bytes.rs` on every toolchain.

use std::path::Path;
use std::time::{Duration, Instant};

use hotspare::journal::Log;
use hotspare::thought::delta::diff::{DiffOptions, diff};
use hotspare::thought::delta::encoding::DeltaDecoder;
use hotspare::thought::delta::pack::Unpacker;
use hotspare::thought::delta::patch::Patcher;
use hotspare::thought::delta::signature::Signature;
use hotspare::thought::filter::Filter;
use hotspare::thought::generation::{Header, JournalledOperation, Operation};
use hotspare::thought::session::arrival::Arrival;
use hotspare::thought::session::follower::Follower;
use hotspare::thought::session::judge;
use hotspare::thought::session::receiver::Receiver;
use hotspare::thought::session::sender::{Asked, Sender};
use hotspare::thought::store::{MemoryStore, Store, Table};
use hotspare::thought::tree::{DirectoryId, Tree};
use hotspare::thought::wire::frame::{FrameDecoder, body, decode_one};
use hotspare::thought::wire::message::{HeldContent, Hello, Message, StreamStart};
use hotspare::words::path::RelPath;
use hotspare::words::position::{ChainDigest, HomeId, Position};

/// A target, by name.
pub(crate) struct Target {
    /// As in `fuzz_targets`.
    pub(crate) name: &'static str,
    /// What it does with bytes.
    pub(crate) run: fn(&[u8]),
}

/// All of them.
pub(crate) const TARGETS: [Target; 8] = [
    Target { name: "frames", run: frames },
    Target { name: "messages", run: messages },
    Target { name: "generations", run: generations },
    Target { name: "records", run: records },
    Target { name: "signatures", run: signatures },
    Target { name: "deltas", run: deltas },
    Target { name: "entries", run: entries },
    Target { name: "sessions", run: sessions },
];

const CAP: usize = 64 * 1024;

/// Frames whole and in pieces: the same comes of both.
pub(crate) fn frames(bytes: &[u8]) {
    let mut whole = Vec::new();
    let mut rest = bytes;
    while let Ok(Some((frame, taken))) = decode_one(rest, CAP) {
        whole.push((frame.kind, frame.payload.to_vec()));
        rest = &rest[taken..];
    }
    let mut pieces = Vec::new();
    let mut decoder = FrameDecoder::new(CAP);
    'pieces: for piece in bytes.chunks(7) {
        let mut piece = piece;
        while !piece.is_empty() {
            let Ok(taken) = decoder.feed(piece) else { break 'pieces };
            piece = &piece[taken..];
            match decoder.pull() {
                Ok(Some(frame)) => pieces.push(frame),
                Ok(None) => {}
                Err(_) => break 'pieces,
            }
        }
    }
    assert_eq!(whole, pieces);
}

/// One message: its kind, its payload. What is read is written as it was read, or not at all.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    if let Ok(Some(message)) = Message::decode(*kind, payload) {
        let (again, encoded) = message.encode().expect("what was read can be written");
        assert_eq!(Message::decode(again, &encoded).expect("what was written can be read"), Some(message));
    }
    if let Ok(hello) = body::<Hello>(payload) {
        let _ = judge(&hello, &hello);
        let _ = Filter::of(hello.filter);
    }
    let _ = body::<StreamStart>(payload);
    let _ = body::<HeldContent>(payload);
}

/// Headers and operations, as they come and as a journal keeps them.
pub(crate) fn generations(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()).expect("what was written can be read"), header);
        let _ = header.chain();
    }
    if let Ok(operation) = Operation::decode(bytes) {
        assert_eq!(Operation::decode(&operation.encode()).expect("what was written can be read"), operation);
    }
    let _ = JournalledOperation::decode(bytes);
}

/// A segment of a journal, under the name and of the home that it claims.
pub(crate) fn records(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let (home, first) = claimed(bytes);
    let segment = directory.path().join(format!("{first:016x}.log"));
    put(&segment, bytes);
    if let Ok((log, _)) = Log::open(directory.path(), home) {
        drop(log);
        // What was recovered is recovered again.
        Log::open(directory.path(), home).expect("it was mended");
    }
}

fn claimed(bytes: &[u8]) -> (HomeId, u64) {
    let home = bytes.get(16..32).and_then(|home| home.try_into().ok()).unwrap_or_default();
    let first = bytes.get(32..40).and_then(|first| first.try_into().ok()).unwrap_or_default();
    (HomeId(home), u64::from_le_bytes(first))
}

#[allow(clippy::disallowed_methods, reason = "a file of a test's own")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

/// A signature, and the search for a delta by it.
pub(crate) fn signatures(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return };
    let size = u64::from(u32::from_le_bytes(*head));
    let Ok(signature) = Signature::parse(rest.to_vec(), size) else { return };
    let new = &bytes[..bytes.len().min(8192)];
    let mut written = 0;
    let _ = diff(&signature, &new, new.len() as u64, &DiffOptions::default(), &mut |_| {
        written += 1;
        Ok(())
    });
}

/// A packed delta, and its application.
pub(crate) fn deltas(bytes: &[u8]) {
    let base = b"the base, of which a delta takes what it can use; ".repeat(20);
    let mut given = 0_u64;
    let mut out = |piece: &[u8]| -> std::io::Result<()> {
        given += piece.len() as u64;
        Ok(())
    };
    let mut patcher = Patcher::new(base.len() as u64, 10_000);
    let fed = patcher.feed(bytes, &&base[..], &mut out);
    let _ = fed.map(|()| patcher.finish());
    assert!(given <= 10_000, "no more than was announced");
    let mut given = 0_u64;
    let mut unpacker = Unpacker::new(10_000);
    let fed = unpacker.feed(bytes, &mut |piece| {
        given += piece.len() as u64;
        Ok(())
    });
    let _ = fed.map(|()| unpacker.finish());
    assert!(given <= 10_000, "no more than was announced");
    let mut decoder = DeltaDecoder::new();
    let mut rest = bytes;
    while let Ok(Some(_)) = decoder.next(&mut rest) {}
}

/// What stands in an index: a byte for the table, then a key and a value, each behind its length of two bytes; and so on.
pub(crate) fn entries(bytes: &[u8]) {
    const TABLES: [Table; 5] = [Table::Rows, Table::Facts, Table::Parents, Table::Inodes, Table::Contents];
    let mut store = MemoryStore::default();
    let mut rest = bytes;
    while let Some((table, behind)) = rest.split_first() {
        let (Some((key, behind)), table) = (counted(behind), TABLES[usize::from(*table) % TABLES.len()]) else { break };
        let Some((value, behind)) = counted(behind) else { break };
        let _ = store.put(table, key.to_vec(), value.to_vec());
        rest = behind;
    }
    let Ok(Some(tree)) = Tree::view(store) else { return };
    let _ = tree.children(DirectoryId(0), None, 100);
    for path in ["d", "d/f", "d/f/g"].iter().filter_map(|path| RelPath::parse(path.as_bytes()).ok()) {
        if let Ok(Some(row)) = tree.row(&path)
            && let Some(directory) = row.directory
        {
            let _ = tree.children(directory.id, None, 100);
        }
    }
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// A sequence of messages, frames and moments, into the machines of both sides of a link.
///
/// Each step is a byte of what, a byte of kind, two of length, and a payload.
pub(crate) fn sessions(bytes: &[u8]) {
    let Some(hello) = some_hello() else { return };
    let start = some_instant();
    let mut now = start;
    let mut sender = Sender::<usize>::new(&hello, now);
    let mut follower = Follower::new(&hello, hello.position, now);
    let mut receiver = Receiver::new(&hello, hello.position, hello.chain);
    let mut arrival = Arrival::default();
    let mut sent = vec![hello.position];
    let mut rest = bytes;
    let mut asked = 0;
    while let Some((&[what, kind, low, high], behind)) = rest.split_first_chunk::<4>() {
        let length = usize::from(low) | usize::from(high) << 8;
        let (payload, behind) = behind.split_at(length.min(behind.len()));
        rest = behind;
        match what % 8 {
            0 | 1 => drop(sender.received(kind, payload, now)),
            2 => drop(follower.received(kind, payload, now)),
            3 => drop(arrival.frame(kind, payload.to_vec())),
            4 if sender.may_send() => {
                let position = Position { epoch: 1, generation: u64::from(kind) };
                sent.push(position);
                sender.sends(position, ChainDigest::default());
                sender.ended();
            }
            5 => {
                sender.asks(
                    [Asked::List, Asked::Have, Asked::AllHeld, Asked::Sign, Asked::Sweep, Asked::Audit]
                        [usize::from(kind % 6)],
                    asked,
                );
                asked += 1;
            }
            6 => {
                now += Duration::from_millis(u64::from(kind) * 50);
                let _ = (sender.beat(now), follower.beat(now));
            }
            7 => {
                if let (Some(receiver), Ok(header)) = (&mut receiver, Header::decode(payload))
                    && receiver.check(&header).is_ok()
                {
                    receiver.accepted(&header);
                }
            }
            _ => {}
        }
        assert!(sent.contains(&sender.position()), "nothing is acked that was not sent");
        assert!(sender.is_idle() || sent.len() > 1);
    }
}

fn some_hello() -> Option<Hello> {
    let line = include_str!("../fixtures/protocol-v1.hex").lines().find_map(|line| line.strip_prefix("message-01 "))?;
    let bytes = line.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    body(&bytes.collect::<Option<Vec<u8>>>()?).ok()
}

#[allow(clippy::disallowed_methods, reason = "an Instant can only be got from the clock; its value is of no matter")]
fn some_instant() -> Instant {
    Instant::now()
}
