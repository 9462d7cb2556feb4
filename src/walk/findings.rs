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
    unnamed: u64,
}

impl Listed {
    /// Notes `path`; one noted before only gets the new remark.
    pub fn note(&mut self, path: &RelPath, remark: impl Into<String>) {
        if self.named.contains_key(path) || self.named.len() < LISTED_CAP {
            self.named.insert(path.clone(), remark.into());
        } else {
            self.unnamed += 1;
        }
    }

    /// Forgets `path`.
    pub fn forget(&mut self, path: &RelPath) {
        self.named.remove(path);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.named.len() as u64 + self.unnamed
    }

    /// The named ones.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &str)> {
        self.named.iter().map(|(path, remark)| (path, remark.as_str()))
    }
}

/// What was met.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Sockets, pipes and devices: never replicated.
    pub skipped: Listed,
    /// How many of the skipped were sockets.
    pub sockets: u64,
    /// How many of the skipped were pipes.
    pub fifos: u64,
    /// How many of the skipped were devices.
    pub devices: u64,
    /// What cannot be read, with the reason.
    pub unreadable: Listed,
    /// Directories without a watch: scanned from time to time.
    pub polled: BTreeSet<RelPath>,
    /// What to do about the lack of watches.
    pub limit_hint: Option<String>,
    /// How often a queue overflowed.
    pub overflows: u64,
    /// Hard-linked files some of whose names are not in the home.
    pub outside_links: Listed,
}

impl Findings {
    /// Notes a special file.
    pub fn skip(&mut self, path: &RelPath, special: Special) {
        let before = self.skipped.count();
        let what = match special {
            Special::Socket => "socket",
            Special::Fifo => "fifo",
            Special::BlockDevice | Special::CharDevice => "device",
        };
        self.skipped.note(path, what);
        let more = self.skipped.count() - before;
        match special {
            Special::Socket => self.sockets += more,
            Special::Fifo => self.fifos += more,
            Special::BlockDevice | Special::CharDevice => self.devices += more,
        }
    }
}
