//! What a walk meets that is not replicated as it is, or not watched.

use std::collections::{BTreeMap, BTreeSet};

use crate::fs::Special;
use crate::words::path::RelPath;

/// How many paths of each kind of finding are named; the rest is counted.
const LISTED_CAP: usize = 100;

/// Paths with a remark each: the first hundred by name, all by number.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    named: BTreeMap<RelPath, String>,
    /// Eight bytes of the BLAKE3 of each path beyond, so that none is counted twice and each can be forgotten.
    unnamed: BTreeSet<[u8; 8]>,
}

impl Listed {
    /// Notes `path`; one noted before only gets the new remark.
    pub fn note(&mut self, path: &RelPath, remark: impl Into<String>) {
        if self.named.contains_key(path) || self.named.len() < LISTED_CAP {
            self.unnamed.remove(&short(path));
            self.named.insert(path.clone(), remark.into());
        } else {
            self.unnamed.insert(short(path));
        }
    }

    /// Forgets `path`.
    pub fn forget(&mut self, path: &RelPath) {
        if self.named.remove(path).is_none() {
            self.unnamed.remove(&short(path));
        }
    }

    /// Forgets what is named at and below `path`; the unnamed there are forgotten when all of the home is scanned again.
    pub fn forget_within(&mut self, path: &RelPath) {
        let below = self.named.range(path.clone()..).take_while(|(known, _)| known.is_within(path));
        let below: Vec<RelPath> = below.map(|(known, _)| known.clone()).collect();
        for known in &below {
            self.named.remove(known);
        }
    }

    /// True if `path` was noted.
    pub fn has(&self, path: &RelPath) -> bool {
        self.named.contains_key(path) || self.unnamed.contains(&short(path))
    }

    /// False if nothing below `path` was noted; of those that are not named nobody knows.
    pub fn may_have_below(&self, path: &RelPath) -> bool {
        let mut behind = self.named.range(path.clone()..).map(|(known, _)| known).filter(|known| *known != path);
        !self.unnamed.is_empty() || behind.next().is_some_and(|known| known.is_within(path))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        (self.named.len() + self.unnamed.len()) as u64
    }

    /// The named ones.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &str)> {
        self.named.iter().map(|(path, remark)| (path, remark.as_str()))
    }
}

fn short(path: &RelPath) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..8]);
    short
}

/// What was met.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Sockets: never replicated, like pipes and devices.
    pub sockets: Listed,
    /// Pipes.
    pub fifos: Listed,
    /// Devices.
    pub devices: Listed,
    /// What cannot be read, with the reason.
    pub unreadable: Listed,
    /// How often a queue overflowed.
    pub overflows: u64,
    /// Hard-linked files some of whose names are not in the home, and which could not be watched themselves.
    pub outside_links: Listed,
}

impl Findings {
    /// Notes a special file.
    pub fn skip(&mut self, path: &RelPath, special: Special) {
        self.forget_skipped(path);
        match special {
            Special::Socket => self.sockets.note(path, "socket"),
            Special::Fifo => self.fifos.note(path, "fifo"),
            Special::BlockDevice | Special::CharDevice => self.devices.note(path, "device"),
        }
    }

    /// How many special files there are.
    pub fn skipped(&self) -> u64 {
        self.sockets.count() + self.fifos.count() + self.devices.count()
    }

    fn forget_skipped(&mut self, path: &RelPath) {
        for list in [&mut self.sockets, &mut self.fifos, &mut self.devices] {
            list.forget(path);
        }
    }

    /// What is at `path` now is a matter of course: nothing, or what can be replicated.
    pub fn forget(&mut self, path: &RelPath) {
        self.forget_skipped(path);
        self.unreadable.forget(path);
        self.outside_links.forget(path);
    }

    /// `path` was captured. That a directory can be captured does not say that it can be entered: its scan does.
    pub fn captured(&mut self, path: &RelPath, is_directory: bool) {
        self.forget_skipped(path);
        self.outside_links.forget(path);
        if !is_directory {
            self.unreadable.forget(path);
        }
    }

    /// The directory `path` went, with all that was met below it.
    pub fn forget_within(&mut self, path: &RelPath) {
        let skipped = [&mut self.sockets, &mut self.fifos, &mut self.devices];
        for list in skipped.into_iter().chain([&mut self.unreadable, &mut self.outside_links]) {
            list.forget_within(path);
        }
    }

    /// All of the home is looked at anew.
    pub(super) fn begin(&mut self) {
        for list in [&mut self.sockets, &mut self.fifos, &mut self.devices, &mut self.unreadable] {
            *list = Listed::default();
        }
    }
}
