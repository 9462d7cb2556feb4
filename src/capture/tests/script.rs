//! Numbered calls that follow from a seed, and what a home is after each of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::bench::noise;
use crate::jenkins::instruments::is_part_written;
use crate::thought::dice::Dice;

const MIB: usize = 1 << 20;
const SLOTS: usize = 4;
const SLOT: usize = 9000;
const BIGS: usize = 3;
const LOGS: usize = 2;
/// How many bytes of a big file differ from write to write, and how far apart the places are.
const SPOT: usize = 64;
const SPACED: usize = 16 << 10;
/// Of multiples of it, all bytes look alike.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One system call on the home.
#[derive(Clone)]
pub(super) enum Call {
    Create(String),
    MakeDirectory(String),
    Write {
        path: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// The bytes that follow, of the endless text of that file.
    Append {
        path: String,
        length: usize,
    },
    Rename(String, String),
    Exchange(String, String),
    Link(String, String),
    Truncate(String),
    Remove(String),
    RemoveDirectory(String),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(path) => write!(f, "create {path}"),
            Self::MakeDirectory(path) => write!(f, "mkdir {path}"),
            Self::Write { path, offset, bytes } => write!(f, "write {} at {offset} of {path}", bytes.len()),
            Self::Append { path, length } => write!(f, "append {length} to {path}"),
            Self::Rename(from, to) => write!(f, "rename {from} {to}"),
            Self::Exchange(one, other) => write!(f, "exchange {one} {other}"),
            Self::Link(from, to) => write!(f, "link {from} {to}"),
            Self::Truncate(path) => write!(f, "truncate {path}"),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::RemoveDirectory(path) => write!(f, "rmdir {path}"),
        }
    }
}

/// A MiB that differs from that of another number here and there: a delta of it costs little, so more cuts are made in the same time.
fn spotted(number: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..MIB as u64 / 8).flat_map(|word| word.wrapping_mul(ODD).to_le_bytes()).collect();
    for (spot, noise) in bytes.chunks_exact_mut(SPACED).zip(noise(number, MIB / SPACED * SPOT).chunks_exact(SPOT)) {
        spot[..SPOT].copy_from_slice(noise);
    }
    bytes
}

/// What a log says from `offset` on: the same whenever it is asked.
fn said(path: &str, offset: usize, length: usize) -> Vec<u8> {
    let seed = path.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let word = |at: usize| (seed ^ at as u64).wrapping_mul(ODD).rotate_left(23).to_le_bytes();
    (offset..offset + length).map(|at| word(at / 8)[at % 8]).collect()
}

impl Call {
    /// A write of bytes that no other call writes.
    fn written(number: u64, path: String, offset: usize, length: usize) -> Self {
        Self::Write { path, offset, bytes: noise(number ^ 0xabcd, length) }
    }

    pub(super) fn perform(&self, home: &Path) {
        let at = |path: &String| home.join(path);
        match self {
            Self::Create(path) => drop(File::create_new(at(path)).unwrap()),
            Self::MakeDirectory(path) => fs::create_dir(at(path)).unwrap(),
            Self::Write { path, offset, bytes } => {
                let file = File::options().write(true).open(at(path)).unwrap();
                assert_eq!(file.write_at(bytes, *offset as u64).unwrap(), bytes.len(), "one call");
            }
            Self::Append { path, length } => {
                let mut file = File::options().append(true).open(at(path)).unwrap();
                let end = usize::try_from(file.metadata().unwrap().len()).unwrap();
                assert_eq!(file.write(&said(path, end, *length)).unwrap(), *length, "one call");
            }
            Self::Rename(from, to) => fs::rename(at(from), at(to)).unwrap(),
            Self::Exchange(one, other) => {
                renameat_with(CWD, at(one), CWD, at(other), RenameFlags::EXCHANGE).unwrap();
            }
            Self::Link(from, to) => fs::hard_link(at(from), at(to)).unwrap(),
            Self::Truncate(path) => drop(File::create(at(path)).unwrap()),
            Self::Remove(path) => fs::remove_file(at(path)).unwrap(),
            Self::RemoveDirectory(path) => fs::remove_dir(at(path)).unwrap(),
        }
    }
}

/// True if `found` is the beginning of what the log at `path` says.
pub(super) fn is_said(path: &str, found: &[u8]) -> bool {
    found == said(path, 0, found.len())
}

pub(super) fn is_log(path: &str) -> bool {
    path.starts_with("log-")
}

/// The calls, one after the other.
#[derive(Clone)]
pub(super) struct Script {
    dice: Dice,
    waiting: VecDeque<Call>,
    number: u64,
    /// Names that are there for a while, the oldest first.
    links: VecDeque<String>,
    fresh: VecDeque<String>,
    young: VecDeque<String>,
    kept: BTreeSet<String>,
    logs: VecDeque<String>,
    /// Where the room is, and the paper.
    room: usize,
    paper: usize,
}

impl Script {
    /// So many calls make the home that the others change.
    pub(super) const SETUP: usize = 2 * (SLOTS + BIGS) + 2 * LOGS + 4 + 4;

    pub(super) fn new(seed: u64) -> Self {
        let mut script = Self {
            dice: Dice::new(seed),
            waiting: VecDeque::new(),
            number: 0,
            links: VecDeque::new(),
            fresh: VecDeque::new(),
            young: VecDeque::new(),
            kept: BTreeSet::new(),
            logs: VecDeque::new(),
            room: 0,
            paper: 0,
        };
        let slots = (0..SLOTS).map(|number| (format!("slot-{number}"), noise(number as u64, SLOT)));
        let bigs = (0..BIGS).map(|number| (format!("big-{number}"), spotted(number as u64)));
        for (path, bytes) in slots.chain(bigs) {
            script.waiting.extend([Call::Create(path.clone()), Call::Write { path, offset: 0, bytes }]);
        }
        for number in 0..LOGS {
            let path = format!("log-{number}");
            script.waiting.extend([Call::Create(path.clone()), Call::Append { path: path.clone(), length: 100 }]);
            script.logs.push_back(path);
        }
        script.waiting.extend(["room-0", "desk-0", "desk-1"].map(|path| Call::MakeDirectory(path.into())));
        script.waiting.push_back(Call::Create("desk-0/paper".into()));
        for (number, path) in ["desk-0/pad", "desk-1/pad"].into_iter().enumerate() {
            let write = Call::Write { path: path.into(), offset: 0, bytes: noise(90 + number as u64, 100) };
            script.waiting.extend([Call::Create(path.into()), write]);
        }
        script
    }

    /// How long the writer rests after the last call, where a cut takes `cut`: not at all within a piece of work, up to twice as long after it.
    pub(super) fn rest(&self, cut: Duration) -> Duration {
        if !self.waiting.is_empty() || self.number.is_multiple_of(3) {
            return Duration::ZERO;
        }
        // No choice of the script: one who only follows it does not rest.
        2 * cut * u32::try_from(self.number.wrapping_mul(0x9e37_79b9) % 100).unwrap() / 100
    }

    pub(super) fn peek(&mut self) -> &Call {
        if self.waiting.is_empty() {
            self.think();
        }
        &self.waiting[0]
    }

    pub(super) fn next(&mut self) -> Call {
        let call = self.peek().clone();
        self.waiting.pop_front();
        self.number += 1;
        call
    }

    /// One more piece of work.
    fn think(&mut self) {
        let number = self.number;
        let write = |path: String, offset, length| Call::written(number, path, offset, length);
        match self.dice.index(19) {
            0..3 => {
                let (slot, length) = (self.dice.index(SLOTS), 1 + self.dice.index(600));
                let offset = self.dice.index(SLOT - length);
                self.waiting.push_back(write(format!("slot-{slot}"), offset, length));
            }
            3 | 4 => {
                // Close upon another call: a cut that has the one without the other is none.
                let (slot, big) = (self.dice.index(SLOTS), self.dice.index(BIGS));
                self.waiting.push_back(write(format!("slot-{slot}"), 0, 200));
                self.waiting.push_back(Call::Write { path: format!("big-{big}"), offset: 0, bytes: spotted(number) });
            }
            5 | 6 => {
                let (log, length) = (self.dice.index(LOGS), 1 + self.dice.index(300));
                self.waiting.push_back(Call::Append { path: self.logs[log].clone(), length });
                if self.dice.index(200) == 0 {
                    let path = format!("log-{number}");
                    self.waiting.extend([Call::Create(path.clone()), Call::Append { path: path.clone(), length: 100 }]);
                    self.logs.push_back(path);
                    self.waiting.extend(self.logs.pop_front().map(Call::Remove));
                }
            }
            7 | 8 => {
                let saved = self.dice.index(3);
                self.waiting.extend([
                    Call::Create("saving".into()),
                    write("saving".into(), 0, 500),
                    Call::Rename("saving".into(), format!("saved-{saved}")),
                ]);
            }
            9..13 => self.think_of_links(),
            13 => {
                let (from, to) = (self.room, 1 - self.room);
                self.waiting.push_back(Call::Rename(format!("room-{from}"), format!("room-{to}")));
                let file = format!("room-{to}/file-{number}");
                self.waiting.extend([Call::Create(file.clone()), write(file.clone(), 0, 100)]);
                self.waiting.push_back(Call::Rename(file, format!("room-{to}/file")));
                self.room = to;
            }
            14 => {
                let name = |desk: usize| format!("desk-{desk}/paper");
                self.waiting.push_back(Call::Rename(name(self.paper), name(1 - self.paper)));
                self.paper = 1 - self.paper;
            }
            15 | 16 => {
                // Both have a pad: one is at the other's name from now on, and has had no call of its own.
                self.waiting.push_back(write(format!("desk-{}/pad", self.dice.index(2)), 0, 100));
                self.waiting.push_back(Call::Exchange("desk-0".into(), "desk-1".into()));
                self.paper = 1 - self.paper;
            }
            17 => {
                let directory = format!("fresh-{number}");
                let file = format!("{directory}/file");
                self.waiting.extend([
                    Call::MakeDirectory(directory.clone()),
                    Call::Create(file.clone()),
                    write(file, 0, 200),
                ]);
                self.fresh.push_back(directory);
                if self.fresh.len() > 3 {
                    let oldest = self.fresh.pop_front().unwrap();
                    self.waiting.extend([Call::Remove(format!("{oldest}/file")), Call::RemoveDirectory(oldest)]);
                }
            }
            _ => {
                let path = format!("slot-{}", SLOTS - 1);
                self.waiting.extend([Call::Truncate(path.clone()), write(path, 0, SLOT)]);
            }
        }
    }

    /// One more piece of work on files with several names.
    fn think_of_links(&mut self) {
        let number = self.number;
        let slot = self.dice.index(SLOTS);
        let write = |path: String, offset, length| Call::written(number, path, offset, length);
        match self.dice.index(5) {
            0 => {
                let name = format!("link-{number}");
                self.waiting.push_back(Call::Link(format!("slot-{slot}"), name.clone()));
                self.links.push_back(name.clone());
                // Written by its other name.
                self.waiting.push_back(write(name, 0, 64));
                if self.links.len() > 3 {
                    self.waiting.extend(self.links.pop_front().map(Call::Remove));
                }
            }
            1 => {
                // Written by a name that nobody may have seen, beside a write that has its own events.
                let name = format!("link-{number}");
                self.waiting.extend([
                    Call::Link(format!("slot-{slot}"), name.clone()),
                    write(name.clone(), 0, 64),
                    Call::Remove(name),
                    write(format!("slot-{}", (slot + 1) % SLOTS), 0, 64),
                ]);
            }
            2 => {
                // The same of a file that is new itself, and is known by its second name alone at last.
                let (young, name) = (format!("young-{number}"), format!("link-{number}"));
                self.waiting.extend([
                    Call::Create(young.clone()),
                    write(young.clone(), 0, 300),
                    Call::Link(young.clone(), name.clone()),
                    write(name.clone(), 100, 64),
                ]);
                if self.dice.index(2) == 0 {
                    self.waiting.extend([Call::Remove(name), write(young.clone(), 200, 64)]);
                    self.young.push_back(young);
                } else {
                    self.waiting.extend([Call::Remove(young), write(name.clone(), 200, 64)]);
                    self.young.push_back(name);
                }
                if self.young.len() > 3 {
                    self.waiting.extend(self.young.pop_front().map(Call::Remove));
                }
            }
            3 => {
                // The same, and the name is another file's next: whoever looks late sees that one.
                let name = format!("link-{number}");
                self.waiting.extend([Call::Link(format!("slot-{slot}"), name.clone()), write(name.clone(), 0, 64)]);
                let count = self.young.len().min(1 + self.dice.index(2));
                let others: Vec<String> = self.young.drain(..count).collect();
                match others.is_empty() {
                    true => self.waiting.push_back(Call::Remove(name.clone())),
                    false => self.young.push_back(name.clone()),
                }
                self.waiting.extend(others.into_iter().map(|other| Call::Rename(other, name.clone())));
            }
            _ => {
                // Moved into place by a link, as git and lock files do it.
                let (temporary, kept) = (format!("temporary-{number}"), format!("kept-{}", self.dice.index(3)));
                if self.kept.insert(kept.clone()) {
                    self.waiting.extend([
                        Call::Create(temporary.clone()),
                        write(temporary.clone(), 0, 400),
                        Call::Link(temporary.clone(), kept),
                        Call::Remove(temporary),
                    ]);
                } else {
                    self.kept.remove(&kept);
                    self.waiting.extend([write(kept.clone(), 50, 64), Call::Remove(kept)]);
                }
            }
        }
    }
}

/// A home as it was found.
pub(super) struct State<'a> {
    /// What is at each path: a directory, or a file's content.
    pub(super) files: BTreeMap<String, Option<&'a [u8]>>,
    /// The names of each file that has more than one.
    pub(super) links: BTreeSet<BTreeSet<String>>,
}

/// A home as it is after some calls.
#[derive(Clone, Default)]
pub(super) struct Model {
    calls: u64,
    /// What is at each path: a directory, or a file by number.
    names: BTreeMap<String, Option<u64>>,
    files: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Model {
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    fn file(&mut self, path: &str) -> &mut Vec<u8> {
        let id = self.names[path].expect("a file");
        Arc::make_mut(self.files.get_mut(&id).unwrap())
    }

    pub(super) fn apply(&mut self, call: &Call) {
        self.calls += 1;
        match call {
            Call::Create(path) => {
                self.names.insert(path.clone(), Some(self.calls));
                self.files.insert(self.calls, Arc::default());
            }
            Call::MakeDirectory(path) => drop(self.names.insert(path.clone(), None)),
            Call::Write { path, offset, bytes } => written(self.file(path), *offset, bytes),
            Call::Append { path, length } => {
                let end = self.file(path).len();
                self.file(path).extend(said(path, end, *length));
            }
            Call::Rename(from, to) => self.rename(from, to),
            Call::Exchange(one, other) => {
                self.rename(one, "aside");
                self.rename(other, one);
                self.rename("aside", other);
            }
            Call::Link(from, to) => drop(self.names.insert(to.clone(), self.names[from])),
            Call::Truncate(path) => self.file(path).clear(),
            Call::Remove(path) | Call::RemoveDirectory(path) => drop(self.names.remove(path)),
        }
        let named: BTreeSet<u64> = self.names.values().flatten().copied().collect();
        self.files.retain(|id, _| named.contains(id));
    }

    fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<String> =
            self.names.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in moved {
            let what = self.names.remove(&path).unwrap();
            self.names.insert(path.replacen(from, to, 1), what);
        }
    }

    /// True if `state` is this; `next` may be done in part.
    pub(super) fn is(&self, state: &State<'_>, next: &Call) -> bool {
        state.files.len() == self.names.len()
            && state.files.iter().zip(&self.names).all(|((path, found), (named, wanted))| {
                path == named
                    && match (found, wanted) {
                        (None, None) => true,
                        (Some(found), Some(id)) => self.may_be(path, *id, found, next),
                        _ => false,
                    }
            })
            && state.links == self.links()
    }

    /// How `state` differs from this.
    pub(super) fn differences(&self, state: &State<'_>, next: &Call) -> Vec<String> {
        let mut differences = Vec::new();
        let paths: BTreeSet<&String> = state.files.keys().chain(self.names.keys()).collect();
        for path in paths {
            match (state.files.get(path), self.names.get(path)) {
                (Some(None), Some(None)) => {}
                (Some(Some(found)), Some(Some(id))) if self.may_be(path, *id, found, next) => {}
                (Some(Some(found)), Some(Some(id))) => {
                    let wanted = &self.files[id];
                    let differ = |(found, wanted): (&u8, &u8)| found != wanted;
                    let first = found.iter().zip(wanted.iter()).position(differ);
                    let last = found.iter().zip(wanted.iter()).rposition(differ);
                    let lengths = (found.len(), wanted.len());
                    differences.push(format!("{path}: lengths {lengths:?}, differs from {first:?} to {last:?}"));
                }
                (found, wanted) => {
                    let (found, wanted) = (found.map(Option::is_some), wanted.map(Option::is_some));
                    differences.push(format!("{path}: a file? {found:?}, should be {wanted:?}"));
                }
            }
        }
        if state.links != self.links() {
            differences.push(format!("links are {:?}, should be {:?}", state.links, self.links()));
        }
        differences
    }

    fn links(&self) -> BTreeSet<BTreeSet<String>> {
        let mut named: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for (path, id) in &self.names {
            if let Some(id) = id {
                named.entry(*id).or_default().insert(path.clone());
            }
        }
        named.into_values().filter(|names| names.len() > 1).collect()
    }

    /// Of a log only the length is looked at: what it says was checked, for it is the same after any call.
    fn may_be(&self, path: &str, id: u64, found: &[u8], next: &Call) -> bool {
        let content = &self.files[&id];
        if is_log(path) {
            return found.len() >= content.len();
        }
        if found == content.as_slice() {
            return true;
        }
        match next {
            Call::Write { path: written_path, offset, bytes } if self.names[written_path] == Some(id) => {
                let mut after = content.to_vec();
                written(&mut after, *offset, bytes);
                is_part_written(found, content, &after)
            }
            _ => false,
        }
    }
}

fn written(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    content[offset..end].copy_from_slice(bytes);
}
