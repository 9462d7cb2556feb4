//! The log: appending, syncing, reading back, pruning.

use std::path::Path;

use super::{JournalError, Location, Record, Recovered, State};
use crate::words::position::{HomeId, Position};

/// What a log has done and holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Segments on disk.
    pub segments: usize,
    /// Bytes they take, preallocated ones included.
    pub bytes: u64,
    /// Generations that are neither done nor dropped.
    pub open_generations: usize,
}

/// A journal, open for writing. See [`journal`](super).
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Opens the journal in `dir` (created if missing) for `home`, cuts off a torn tail, and tells what is there.
    pub fn open(_dir: &Path, _home: HomeId) -> Result<(Self, Recovered), JournalError> {
        todo!()
    }

    /// Adds `record`. It is durable only after the next [`Log::sync`]. A record that does not follow from its generation's state is
    /// refused and changes nothing.
    pub fn append(&mut self, _record: &Record) -> Result<Location, JournalError> {
        todo!()
    }

    /// Makes all appended records durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        todo!()
    }

    /// The payload of the record at `location`, checked; records not yet synced can be read too.
    pub fn read(&self, _location: &Location) -> Result<Vec<u8>, JournalError> {
        todo!()
    }

    /// How far the generation at `position` has come; `None` if the journal has no record of it.
    pub fn state(&self, _position: Position) -> Option<State> {
        todo!()
    }

    /// Removes the oldest segments, as long as all their generations are done or dropped and at or before `up_to`; never the last.
    /// Syncs. Returns how many were removed. `up_to` must be on this replica's chain of reigns.
    pub fn prune(&mut self, _up_to: Position) -> Result<usize, JournalError> {
        todo!()
    }

    /// What the log holds.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
