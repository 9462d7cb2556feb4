//! The log: appending, syncing, reading back, pruning.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::ledger::Ledger;
use super::medium::{Directory, Medium};
use super::record::{self, Frame, FrameKind};
use super::recovery::{Found, Segment, failed, recover};
use super::segment::{self, Header, SEGMENT_BYTES, Salt};
use super::{Damage, JournalError, Location, PAYLOAD_CAP, Record, Recovered, State};
use crate::words::position::{HomeId, Position};

/// How many bytes are gathered before they are written without being asked to.
const BUFFER_BYTES: usize = 1024 * 1024;

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

/// A journal, open for writing. See [`journal`](super). Memory: 1 to 3 MiB of buffer, and some 60 bytes for each generation kept.
#[derive(Debug)]
pub struct Log {
    medium: Box<dyn Medium>,
    home: HomeId,
    segment_bytes: u64,
    /// By first sequence; never empty.
    segments: BTreeMap<u64, Segment>,
    /// The last of them.
    current: u64,
    /// What follows in the current segment, from `written` on, and was not written yet.
    buffer: Vec<u8>,
    written: u64,
    next_sequence: u64,
    /// The highest durable sequence.
    synced: u64,
    floor: u64,
    ledger: Ledger,
    poisoned: bool,
}

impl Log {
    /// Opens the journal in `dir` (created if missing) for `home`, cuts off a torn tail, and tells what is there: all of it durable.
    pub fn open(dir: &Path, home: HomeId) -> Result<(Self, Recovered), JournalError> {
        let medium = Directory::open(dir).map_err(|source| JournalError::Medium {
            operation: "open",
            path: dir.into(),
            source,
        })?;
        Self::open_on(Box::new(medium), home, SEGMENT_BYTES)
    }

    /// Opens the journal on `medium`, with segments of `segment_bytes`, [`SEGMENT_BYTES`] at most.
    pub(super) fn open_on(
        medium: Box<dyn Medium>,
        home: HomeId,
        segment_bytes: u64,
    ) -> Result<(Self, Recovered), JournalError> {
        let Found { recovered, ledger, segments, litter, floor, next_sequence, unproven } = recover(&*medium, home)?;
        let mut log = Self {
            medium,
            home,
            segment_bytes,
            segments,
            current: next_sequence,
            buffer: Vec::new(),
            written: 0,
            next_sequence,
            synced: next_sequence - 1,
            floor,
            ledger,
            poisoned: false,
        };
        for first in litter {
            log.remove(first)?;
        }
        match log.segments.last_key_value() {
            Some((&first, &segment)) => log.settle(first, segment, &unproven, recovered.torn.is_some())?,
            None => log.create_segment()?,
        }
        Ok((log, recovered))
    }

    /// Makes the last segment's records durable and the space behind them empty.
    fn settle(
        &mut self,
        first: u64,
        segment: Segment,
        unproven: &(u64, Vec<u8>),
        torn: bool,
    ) -> Result<(), JournalError> {
        let name = segment::name(first);
        (self.current, self.written) = (first, segment.end);
        // Written anew: after a failed sync the system may hold them for clean without having written them.
        self.medium.write_at(&name, unproven.0, &unproven.1).map_err(failed(&*self.medium, "write", &name))?;
        if torn {
            self.medium.truncate(&name, segment.end).map_err(failed(&*self.medium, "cut", &name))?;
        }
        self.medium.sync_data(&name).map_err(failed(&*self.medium, "sync", &name))?;
        self.medium.sync_directory().map_err(failed(&*self.medium, "sync", ""))?;
        let preallocated = self.medium.preallocate(&name, self.segment_bytes);
        // A full disk is no reason not to open: it is told by the append that finds no room.
        if let Some(error) = preallocated.err().filter(|error| error.kind() != io::ErrorKind::StorageFull) {
            return Err(failed(&*self.medium, "create", &name)(error));
        }
        if let Some(segment) = self.segments.get_mut(&first) {
            segment.length = self.segment_bytes.max(segment.end);
        }
        Ok(())
    }

    /// Adds `record`. It is durable only after the next [`Log::sync`]. A record that does not follow from its generation's state is
    /// refused and changes nothing.
    pub fn append(&mut self, record: &Record) -> Result<Location, JournalError> {
        self.alive()?;
        let Record { kind, position, payload } = record;
        let fits = self.ledger.next(*position, *kind, self.current);
        fits.map_err(|unfit| JournalError::OutOfOrder { position: *position, from: unfit.from, kind: *kind })?;
        let location = self.guarded(|log| log.add(FrameKind::Record(*kind), *position, payload))?;
        // Asked again: a new segment may have been begun.
        if let Ok(progress) = self.ledger.next(*position, *kind, location.segment) {
            self.ledger.set(*position, progress);
        }
        if let Some(segment) = self.segments.get_mut(&location.segment) {
            segment.highest = segment.highest.max(*position);
        }
        Ok(location)
    }

    /// Makes all appended records durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.alive()?;
        self.guarded(Self::flush_and_sync)
    }

    /// The payload of the record at `location`, checked; records not yet synced can be read too.
    pub fn read(&self, location: &Location) -> Result<Vec<u8>, JournalError> {
        self.alive()?;
        let nowhere = JournalError::NoRecord { segment: location.segment, offset: location.offset };
        let Some(segment) = self.segments.get(&location.segment) else { return Err(nowhere) };
        let (offset, length) = (location.offset, location.length as usize);
        let end = offset.checked_add((record::HEADER_BYTES + length) as u64);
        if length > PAYLOAD_CAP || offset < segment::HEADER_BYTES as u64 || end.is_none_or(|end| end > segment.end) {
            return Err(nowhere);
        }
        let name = segment::name(location.segment);
        let mut bytes = vec![0; record::HEADER_BYTES + length];
        match offset.checked_sub(self.written).filter(|_| location.segment == self.current) {
            Some(ahead) => {
                let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
                let buffered = self.buffer.get(ahead..).and_then(|rest| rest.get(..bytes.len()));
                bytes.copy_from_slice(buffered.ok_or(nowhere)?);
            }
            None => {
                self.medium.read_at(&name, offset, &mut bytes).map_err(failed(&*self.medium, "read", &name))?;
            }
        }
        let salt = segment.header.salt;
        let frame = Frame::decode(salt, &bytes).filter(|frame| frame.length == location.length);
        let payload = frame.and_then(|frame| frame.payload(salt, &bytes));
        payload.map(<[u8]>::to_vec).ok_or_else(|| JournalError::Damaged {
            path: self.medium.path(&name),
            offset,
            damage: Damage::Record,
        })
    }

    /// How far the generation at `position` has come; `None` if the journal has no record of it.
    pub fn state(&self, position: Position) -> Option<State> {
        self.ledger.progress(position).map(|progress| progress.state)
    }

    /// The newest generation that is done, as far as the journal still says so.
    pub fn newest_done(&self) -> Option<Position> {
        let done = self.ledger.iter().filter(|(_, progress)| progress.state == State::Done);
        done.map(|(position, _)| *position).max()
    }

    /// Removes the oldest segments, as long as all their generations are done or dropped and at or before `up_to`; never the last.
    /// Syncs. Returns how many were removed. `up_to` must be on this replica's chain of reigns.
    pub fn prune(&mut self, up_to: Position) -> Result<usize, JournalError> {
        self.alive()?;
        let needed = self.ledger.oldest_needed().unwrap_or(u64::MAX).min(self.current);
        let unneeded = |&(&first, segment): &(&u64, &Segment)| first < needed && segment.highest <= up_to;
        let firsts: Vec<u64> = self.segments.iter().take_while(unneeded).map(|(&first, _)| first).collect();
        if firsts.is_empty() {
            return Ok(0);
        }
        self.guarded(|log| {
            // The floor is durable before they go; what makes them unneeded stands before it, and recovery takes prefixes only.
            let floor = log.segments.keys().nth(firsts.len()).copied().unwrap_or(log.current);
            log.add(FrameKind::Floor, Position::default(), &floor.to_le_bytes())?;
            log.flush_and_sync()?;
            log.floor = floor;
            for &first in &firsts {
                log.segments.remove(&first);
                log.remove(first)?;
            }
            log.medium.sync_directory().map_err(failed(&*log.medium, "sync", ""))
        })?;
        self.ledger.forget_before(self.floor);
        Ok(firsts.len())
    }

    /// What the log holds.
    pub fn stats(&self) -> Stats {
        Stats {
            segments: self.segments.len(),
            bytes: self.segments.values().map(|segment| segment.length.max(segment.end)).sum(),
            open_generations: self.ledger.iter().filter(|(_, progress)| !progress.state.is_finished()).count(),
        }
    }

    fn alive(&self) -> Result<(), JournalError> {
        if self.poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    /// Does what writes; an error of the medium poisons the log.
    fn guarded<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let result = write(self);
        self.poisoned |= matches!(result, Err(JournalError::Medium { .. }));
        result
    }

    fn add(&mut self, kind: FrameKind, position: Position, payload: &[u8]) -> Result<Location, JournalError> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_CAP);
        let length = length.ok_or(JournalError::TooLong(payload.len()))?;
        let bytes = (record::HEADER_BYTES + payload.len()) as u64;
        let end = self.written + self.buffer.len() as u64;
        if end > segment::HEADER_BYTES as u64 && end + bytes > self.segment_bytes {
            self.flush_and_sync()?;
            self.create_segment()?;
        }
        let offset = self.written + self.buffer.len() as u64;
        let frame = Frame { kind, position, length, sequence: self.next_sequence, synced: self.synced };
        if let Some(segment) = self.segments.get_mut(&self.current) {
            frame.encode(segment.header.salt, payload, &mut self.buffer);
            segment.end = offset + bytes;
        }
        self.next_sequence += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(Location { segment: self.current, offset, length })
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let name = segment::name(self.current);
        self.medium.write_at(&name, self.written, &self.buffer).map_err(failed(&*self.medium, "write", &name))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn flush_and_sync(&mut self) -> Result<(), JournalError> {
        if self.synced + 1 == self.next_sequence {
            return Ok(());
        }
        self.flush()?;
        let name = segment::name(self.current);
        self.medium.sync_data(&name).map_err(failed(&*self.medium, "sync", &name))?;
        self.synced = self.next_sequence - 1;
        Ok(())
    }

    /// Begins a new segment, durably, behind one that is synced.
    fn create_segment(&mut self) -> Result<(), JournalError> {
        let first = self.next_sequence;
        let name = segment::name(first);
        self.medium.create(&name).map_err(failed(&*self.medium, "create", &name))?;
        let preallocated = self.medium.preallocate(&name, self.segment_bytes);
        preallocated.map_err(failed(&*self.medium, "create", &name))?;
        let salt = Salt(self.medium.random().map_err(failed(&*self.medium, "create", &name))?);
        let header = Header { home: self.home, first, floor: self.floor, salt };
        self.medium.write_at(&name, 0, &header.encode()).map_err(failed(&*self.medium, "write", &name))?;
        self.medium.sync_data(&name).map_err(failed(&*self.medium, "sync", &name))?;
        self.medium.sync_directory().map_err(failed(&*self.medium, "sync", ""))?;
        let end = segment::HEADER_BYTES as u64;
        self.segments.insert(first, Segment { header, end, length: self.segment_bytes, highest: Position::default() });
        (self.current, self.written) = (first, end);
        Ok(())
    }

    fn remove(&mut self, first: u64) -> Result<(), JournalError> {
        let name = segment::name(first);
        self.medium.remove(&name).map_err(failed(&*self.medium, "remove", &name))
    }
}
