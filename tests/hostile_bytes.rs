//! The fuzz targets (`tests/fuzz/targets.rs`) on every toolchain: seeds from the fixtures, changed by a mutator that a number repeats.
//!
//! `HOTSPARE_FUZZ_RUNS` says how many inputs each target gets. With a nightly toolchain `tests/fuzz/run` looks further, for coverage.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::let_underscore_must_use, reason = "a test")]

#[path = "fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use hotspare::thought::dice::Dice;
use targets::{TARGETS, Target};

/// How many inputs each target gets if nobody says.
const RUNS: u64 = 6000;
/// No input is longer.
const LONGEST: usize = 64 * 1024;
/// All of it together takes no more than this.
const MEMORY_BYTES: u64 = 256 << 20;

fn fixture(file: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(name, hex)| (name.to_owned(), unhex(hex))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

/// Good inputs of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let protocol = fixture("protocol-v1.hex");
    let messages = || {
        let numbered =
            |(name, bytes): &(String, Vec<u8>)| Some((name.strip_prefix("message-")?.parse().ok()?, bytes.clone()));
        protocol.iter().filter_map(numbered).collect::<Vec<(u8, Vec<u8>)>>()
    };
    let generations =
        || [fixture("generation-v1.hex"), fixture("journalled-v1.hex")].concat().into_iter().map(|(_, bytes)| bytes);
    match target {
        "frames" => protocol.iter().filter(|(name, _)| name == "frame").map(|(_, bytes)| bytes.repeat(3)).collect(),
        "messages" => {
            let starts = protocol.iter().filter(|(name, _)| name.starts_with("start") || name == "held");
            let starts = starts.map(|(_, bytes)| [&[1], &bytes[..]].concat());
            messages().into_iter().map(|(kind, bytes)| [&[kind], &bytes[..]].concat()).chain(starts).collect()
        }
        "generations" => generations().collect(),
        "records" => {
            let log = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1.log");
            vec![std::fs::read(log).unwrap()]
        }
        "signatures" => {
            let content = b"some content ".repeat(300);
            let sizes = [512_u32, 1024].map(|block| {
                let options = hotspare::thought::delta::signature::SignatureOptions::new(block, 16).unwrap();
                let mut builder = hotspare::thought::delta::signature::SignatureBuilder::new(options);
                builder.update(&content);
                [&u32::try_from(content.len()).unwrap().to_le_bytes()[..], builder.finish().unwrap().as_bytes()]
                    .concat()
            });
            // The trap of `fast_rsync`: a block size of 0.
            let zero = [&[0, 1, 0, 0][..], &unhex("7273013600000000000000100000000000")].concat();
            [sizes.to_vec(), vec![zero]].concat()
        }
        "deltas" => {
            let mut packed = Vec::new();
            let mut packer = hotspare::thought::delta::pack::Packer::new(&mut packed, Default::default());
            packer.write(&b"0123456789".repeat(1000)).unwrap();
            packer.finish().unwrap();
            let mut delta = Vec::new();
            let mut encoder = hotspare::thought::delta::encoding::DeltaEncoder::new(&mut delta).unwrap();
            encoder.command(hotspare::thought::delta::Command::Copy { offset: 3, len: 500 }).unwrap();
            encoder.command(hotspare::thought::delta::Command::Literal(b"new")).unwrap();
            encoder.finish().unwrap();
            vec![packed, delta]
        }
        "entries" => {
            let table =
                |name: &str| ["rows", "facts", "parents", "inodes", "contents"].iter().position(|table| *table == name);
            let row = |(name, value): &(String, Vec<u8>)| {
                let (name, key) = name.split_once('-')?;
                Some([vec![u8::try_from(table(name)?).ok()?], counted(&unhex(key)), counted(value)].concat())
            };
            vec![fixture("index-v1.hex").iter().filter_map(row).flatten().collect()]
        }
        "sessions" => {
            let step = |what: u8, kind: u8, bytes: &[u8]| [&[what, kind][..], &counted(bytes)].concat();
            let of = |what| messages().iter().flat_map(|(kind, bytes)| step(what, *kind, bytes)).collect::<Vec<u8>>();
            let asked: Vec<u8> = (0..4).flat_map(|kind| step(5, kind, &[])).collect();
            let sent: Vec<u8> = (0..9).flat_map(|number| step(4, number, &[])).collect();
            let taken: Vec<u8> = generations().flat_map(|bytes| step(7, 0, &bytes)).collect();
            vec![[asked, sent, of(0)].concat(), of(2), [taken, step(6, 250, &[]), of(1)].concat()]
        }
        other => panic!("no seeds of {other}"),
    }
}

/// One of the seeds, changed.
fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0xffff_ffff, u64::MAX];
    let mut bytes = seeds[dice.index(seeds.len())].clone();
    for _ in 0..1 + dice.index(6) {
        let at = dice.index(bytes.len() + 1);
        let end = (at + dice.index(40)).min(bytes.len());
        match dice.index(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.index(8),
            1 if at < bytes.len() => bytes[at] = dice.roll().to_le_bytes()[0],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let width = [1, 2, 4, 8][dice.index(4)];
                let edge = EDGES[dice.index(EDGES.len())].to_le_bytes();
                bytes.splice(at..(at + width).min(bytes.len()), edge[..width].iter().copied());
            }
            5 => {
                let piece = bytes[at..end].to_vec();
                (0..1 + dice.index(50)).for_each(|_| drop(bytes.splice(at..at, piece.iter().copied())));
            }
            6 => {
                let other = &seeds[dice.index(seeds.len())];
                let from = dice.index(other.len() + 1);
                bytes.splice(at..at, other[from..].iter().copied());
            }
            _ => (0..dice.index(16)).for_each(|_| bytes.insert(at, dice.roll().to_le_bytes()[0])),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn drive(target: &Target, runs: u64) {
    let seeds = seeds(target.name);
    seeds.iter().for_each(|seed| (target.run)(seed));
    for number in 0..runs {
        let bytes = mutated(&seeds, &mut Dice::new(number));
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
        assert!(
            ended.is_ok(),
            "{}, input {number}: {}",
            target.name,
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
    }
}

/// The most that this process had resident.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn bytes_that_somebody_else_chose_do_no_harm() {
    let runs = std::env::var("HOTSPARE_FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().expect("a number"));
    for target in &TARGETS {
        // Each of a journal's inputs is a directory of its own.
        drive(target, if target.name == "records" { runs / 10 } else { runs });
        assert!(peak_bytes() < MEMORY_BYTES, "{}: {} bytes", target.name, peak_bytes());
    }
}

/// Where `HOTSPARE_FUZZ_CORPUS` names a directory, the seeds are written there for the fuzzer.
#[test]
fn seeds_are_good_inputs_and_there_are_some_of_every_target() {
    for target in &TARGETS {
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty());
        let Some(corpus) = std::env::var_os("HOTSPARE_FUZZ_CORPUS") else { continue };
        let directory = PathBuf::from(corpus).join(target.name);
        std::fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
