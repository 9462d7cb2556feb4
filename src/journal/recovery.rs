//! Recovery: what a journal's bytes mean after any interruption. Reads everything once, one segment in memory at a time.

use std::collections::BTreeMap;

use super::ledger::{Ledger, Unfit};
use super::medium::Medium;
use super::record::{self, Frame, FrameKind, word};
use super::segment::{self, Header, NoHeader, SEGMENT_BYTES};
use super::{Damage, JournalError, Kept, Location, RecordKind, Recovered, State, Torn};
use crate::words::position::{HomeId, Position};

/// What is known of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    /// Behind its last record.
    pub(super) end: u64,
    /// The file's length.
    pub(super) length: u64,
    /// The highest position it has a record of.
    pub(super) highest: Position,
}

/// What recovery found, for the log to go on from.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) ledger: Ledger,
    /// By first sequence. Empty for a new journal.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Segments below the floor, and a last one that was never begun.
    pub(super) litter: Vec<u64>,
    pub(super) floor: u64,
    pub(super) next_sequence: u64,
    /// The bytes of the last segment that no later record proves durable, and where they begin.
    pub(super) unproven: (u64, Vec<u8>),
}

/// One segment, read.
struct Scan {
    segment: Segment,
    frames: Vec<(u64, Frame)>,
    next_sequence: u64,
    floor: u64,
    torn: Option<Torn>,
    unproven: (u64, Vec<u8>),
}

/// Reads the journal; changes nothing.
pub(super) fn recover(medium: &dyn Medium, home: HomeId) -> Result<Found, JournalError> {
    let names = medium.list().map_err(failed(medium, "list", ""))?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first(name)).collect();
    firsts.sort_unstable();
    let mut litter = Vec::new();
    // The last segment first: it knows the floor.
    let last = loop {
        let Some(&first) = firsts.last() else { break None };
        if let Some(bytes) = read_begun(medium, first)? {
            break Some(scan(medium, home, first, &bytes, litter.is_empty())?);
        }
        // Invariant 2: only the newest can have been created in vain.
        if !litter.is_empty() {
            return Err(damaged(medium, first, 0, Damage::Header));
        }
        litter.push(first);
        firsts.pop();
    };
    let mut found = Found {
        recovered: Recovered::default(),
        ledger: Ledger::default(),
        segments: BTreeMap::new(),
        litter,
        floor: 1,
        next_sequence: 1,
        unproven: (0, Vec::new()),
    };
    let vain = found.litter.first().copied();
    let Some(last) = last else { return check_vain(medium, vain, found) };
    found.floor = last.floor;
    found.litter.extend(firsts.iter().filter(|&&first| first < last.floor));
    firsts.retain(|&first| first >= last.floor);
    firsts.pop();
    let mut story = Story { medium, found, index: BTreeMap::new(), orphans: BTreeMap::new(), expected: last.floor };
    for first in firsts {
        let bytes = read(medium, first)?;
        let scan = scan(medium, home, first, &bytes, false)?;
        drop(bytes);
        story.add(scan)?;
    }
    story.add(last)?;
    check_vain(medium, vain, story.end()?)
}

/// A segment that was created in vain must be the one that came next: all before it were synced.
fn check_vain(medium: &dyn Medium, vain: Option<u64>, found: Found) -> Result<Found, JournalError> {
    match vain {
        Some(first) if first != found.next_sequence => {
            let missing = Damage::Missing { expected: found.next_sequence, found: first };
            Err(damaged(medium, first, 0, missing))
        }
        _ => Ok(found),
    }
}

/// The segment's bytes; `None` if it was created but its header never written.
fn read_begun(medium: &dyn Medium, first: u64) -> Result<Option<Vec<u8>>, JournalError> {
    let bytes = read(medium, first)?;
    let begun = Header::decode(&bytes) != Err(NoHeader::Broken)
        || bytes.iter().skip(segment::HEADER_BYTES).any(|&byte| byte != 0);
    Ok(begun.then_some(bytes))
}

fn read(medium: &dyn Medium, first: u64) -> Result<Vec<u8>, JournalError> {
    let name = segment::name(first);
    let length = medium.length(&name).map_err(failed(medium, "read", &name))?;
    let bytes = usize::try_from(length).ok().filter(|_| length <= SEGMENT_BYTES);
    let mut bytes = vec![0; bytes.ok_or_else(|| damaged(medium, first, 0, Damage::Long(length)))?];
    medium.read_at(&name, 0, &mut bytes).map_err(failed(medium, "read", &name))?;
    Ok(bytes)
}

/// Reads one segment; only the `last` may be torn.
fn scan(medium: &dyn Medium, home: HomeId, first: u64, bytes: &[u8], last: bool) -> Result<Scan, JournalError> {
    let path = || medium.path(&segment::name(first));
    let header = match Header::decode(bytes) {
        // Half the range: sequences never overflow.
        Ok(header) if header.first == first && (1..=first).contains(&header.floor) && first < u64::MAX / 2 => header,
        Ok(_) | Err(NoHeader::Broken) => return Err(damaged(medium, first, 0, Damage::Header)),
        Err(NoHeader::TooNew(version)) => return Err(JournalError::TooNew { path: path(), version }),
    };
    if header.home != home {
        return Err(JournalError::OtherHome { path: path(), found: header.home });
    }
    let (mut at, mut sequence, mut floor) = (segment::HEADER_BYTES, first, header.floor);
    let (mut proven, mut highest) = (first - 1, Position::default());
    let mut frames = Vec::new();
    while let Some((frame, payload)) = whole(&header, &bytes[at..], sequence) {
        match frame.kind {
            FrameKind::Floor if payload.len() == 8 && word(payload, 0, 8) <= first => {
                floor = floor.max(word(payload, 0, 8));
            }
            FrameKind::Floor => return Err(damaged(medium, first, at as u64, Damage::Record)),
            FrameKind::Record(_) => highest = highest.max(frame.position),
        }
        proven = proven.max(frame.synced);
        frames.push((at as u64, frame));
        at += frame.bytes();
        sequence += 1;
    }
    let rest = without_zeros(&bytes[at..]);
    if !rest.is_empty() && (!last || proves_durable(&header, rest, sequence)) {
        return Err(damaged(medium, first, at as u64, Damage::Record));
    }
    let durable = frames.iter().take_while(|(_, frame)| frame.sequence <= proven).map(|(_, frame)| frame.bytes());
    let durable = segment::HEADER_BYTES + durable.sum::<usize>();
    // With no record proven durable the header is not, either.
    let unproven = if proven < first { 0 } else { durable };
    Ok(Scan {
        segment: Segment { header, end: at as u64, length: bytes.len() as u64, highest },
        frames,
        next_sequence: sequence,
        floor,
        torn: (!rest.is_empty()).then(|| Torn { path: path(), offset: at as u64, bytes: rest.len() as u64 }),
        unproven: (unproven as u64, bytes[unproven..at].to_vec()),
    })
}

/// `bytes` without the zeros at their end. A segment is mostly that: they are passed over by blocks first.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut rest = bytes;
    while let Some(shorter) = rest.strip_suffix(&ZEROS) {
        rest = shorter;
    }
    rest.iter().rposition(|&byte| byte != 0).map_or(&[], |last| &rest[..=last])
}

/// The record at the beginning of `bytes`, if it is whole and the one that comes next.
fn whole<'a>(header: &Header, bytes: &'a [u8], sequence: u64) -> Option<(Frame, &'a [u8])> {
    let frame = Frame::decode(header.salt, bytes)?;
    // A record is never synced before it is written: one that claims so is not of ours.
    (frame.sequence == sequence && frame.synced < sequence).then_some(())?;
    Some((frame, frame.payload(header.salt, bytes)?))
}

/// Whether some record in `rest` was written when record `sequence` was known to be durable.
fn proves_durable(header: &Header, rest: &[u8], sequence: u64) -> bool {
    let starts = rest.windows(record::MAGIC.len()).enumerate().filter(|(_, bytes)| **bytes == record::MAGIC);
    let mut frames = starts.filter_map(|(at, _)| Frame::decode(header.salt, &rest[at..]));
    frames.any(|frame| frame.sequence > sequence && frame.synced >= sequence)
}

/// The journal's records in order, and what they tell.
struct Story<'a> {
    medium: &'a dyn Medium,
    found: Found,
    /// Where in `recovered.generations` a position is.
    index: BTreeMap<Position, usize>,
    /// Generations whose beginning is not here: where their first record is, and of which kind.
    orphans: BTreeMap<Position, (u64, u64, RecordKind)>,
    /// The sequence that must come next.
    expected: u64,
}

impl Story<'_> {
    fn add(&mut self, scan: Scan) -> Result<(), JournalError> {
        let first = scan.segment.header.first;
        if first != self.expected {
            let missing = Damage::Missing { expected: self.expected, found: first };
            let before = self.found.segments.last_key_value().map(|(&first, segment)| (first, segment.end));
            let (at, offset) = before.unwrap_or((first, 0));
            return Err(damaged(self.medium, at, offset, missing));
        }
        for &(offset, frame) in &scan.frames {
            if let FrameKind::Record(kind) = frame.kind {
                self.tell(Location { segment: first, offset, length: frame.length }, frame.position, kind)?;
            }
        }
        self.expected = scan.next_sequence;
        self.found.next_sequence = scan.next_sequence;
        self.found.segments.insert(first, scan.segment);
        self.found.recovered.torn = scan.torn;
        self.found.unproven = scan.unproven;
        Ok(())
    }

    fn tell(&mut self, location: Location, position: Position, kind: RecordKind) -> Result<(), JournalError> {
        let progress = match self.found.ledger.next(position, kind, location.segment) {
            Ok(progress) => progress,
            // What came before may have been pruned, if anything was; then it must turn out to be finished.
            Err(Unfit { from: None }) if self.found.floor > 1 => {
                self.orphans.insert(position, (location.segment, location.offset, kind));
                Ledger::orphan(kind, location.segment)
            }
            Err(Unfit { from }) => {
                let story = Damage::Story { position, from, kind };
                return Err(damaged(self.medium, location.segment, location.offset, story));
            }
        };
        self.found.ledger.set(position, progress);
        if progress.orphan {
            return Ok(());
        }
        let generations = &mut self.found.recovered.generations;
        let anew = kind == RecordKind::Staged { part: 0 };
        let at = match self.index.get(&position) {
            Some(&at) if !anew => at,
            known => {
                if let Some(&at) = known {
                    // Dropped and staged again: only the later one counts; the earlier is taken out at the end.
                    generations[at].parts.clear();
                }
                generations.push(Kept { position, state: progress.state, parts: Vec::new(), mark: None });
                self.index.insert(position, generations.len() - 1);
                generations.len() - 1
            }
        };
        let kept = &mut generations[at];
        kept.state = progress.state;
        match kind {
            RecordKind::Staged { .. } => kept.parts.push(location),
            _ => kept.mark = Some(location),
        }
        Ok(())
    }

    fn end(mut self) -> Result<Found, JournalError> {
        for (&position, &(segment, offset, kind)) in &self.orphans {
            let unfinished = |progress: &&super::ledger::Progress| progress.orphan && !progress.state.is_finished();
            if self.found.ledger.progress(position).filter(unfinished).is_some() {
                let story = Damage::Story { position, from: None::<State>, kind };
                return Err(damaged(self.medium, segment, offset, story));
            }
        }
        let index = std::mem::take(&mut self.index);
        let mut at = 0;
        self.found.recovered.generations.retain(|kept| {
            at += 1;
            index.get(&kept.position) == Some(&(at - 1))
        });
        Ok(self.found)
    }
}

fn damaged(medium: &dyn Medium, first: u64, offset: u64, damage: Damage) -> JournalError {
    JournalError::Damaged { path: medium.path(&segment::name(first)), offset, damage }
}

/// Makes an error of what the medium said while doing `operation` on `name`.
pub(super) fn failed(
    medium: &dyn Medium,
    operation: &'static str,
    name: &str,
) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
    let path = medium.path(name);
    move |source| JournalError::Medium { operation, path, source }
}
