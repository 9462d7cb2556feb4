//! The window: recent generations, encoded once, kept for every standby that follows, or comes back soon.
//!
//! A small generation lies in memory, a larger one in files of its own. When memory, or the files, become too many, the oldest are gathered into
//! one file, a *segment*. So the window is in memory first, then on disk, and both are bounded, as are generations and descriptors; what is
//! beyond falls out, oldest first, and a standby that stands there is compared instead.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::reveal::Records;
use crate::spool::{Spool, SpoolReader};
use crate::thought::delta::read_full;
use crate::thought::generation::Header;
use crate::thought::tree::ApplyError;
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, Position};

/// How many generations are kept at most; each takes about a kilobyte beside its content.
const GENERATIONS: usize = 16 * 1024;
/// How many descriptors the window uses at most, segments included.
const FILES: usize = 256;
/// How many of them may belong to single generations before the oldest of those are gathered.
const LOOSE_FILES: usize = 64;
/// How long a segment becomes; a generation of this length keeps its own files.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowLimits {
    /// In memory, in bytes; twice as much while the state directory cannot be written.
    pub memory_bytes: u64,
    /// On disk, in the state directory, in bytes; a generation longer than that is kept until the next comes.
    pub disk_bytes: u64,
    /// How long generations are still kept when the last link has ended.
    pub linger: Duration,
}

impl Default for WindowLimits {
    /// 32 MiB, 512 MiB, 10 minutes: as the configuration's own defaults.
    fn default() -> Self {
        Self { memory_bytes: 32 << 20, disk_bytes: 512 << 20, linger: Duration::from_secs(600) }
    }
}

/// The operations of a generation, to be shipped.
#[derive(Debug)]
pub struct Operations {
    content: SpoolReader,
    bytes: u64,
}

impl Operations {
    /// All of `records`.
    pub fn new(records: Records) -> io::Result<Self> {
        let spool = records.into_spool()?;
        Ok(Self { content: spool.reader(), bytes: spool.end() })
    }

    /// Calls `visit` with every record, in order.
    pub fn all(&self, visit: &mut dyn FnMut(&[u8]) -> Result<(), ApplyError>) -> Result<(), ApplyError> {
        Records::each(&self.content, 0, self.bytes, visit)
    }
}

/// One generation, ready to be shipped any number of times.
#[derive(Debug)]
pub struct Shipment {
    /// Its header.
    pub header: Header,
    /// Each operation, preceded by where its payload begins (`u64` little-endian; 0 if it has none).
    pub operations: Operations,
    /// The payloads.
    pub payloads: SpoolReader,
    /// How many bytes the payloads take.
    pub payload_bytes: u64,
}

impl Shipment {
    fn bytes(&self) -> u64 {
        self.operations.bytes + self.payload_bytes
    }

    fn contents(&self) -> [(&SpoolReader, u64); 2] {
        [(&self.operations.content, self.operations.bytes), (&self.payloads, self.payload_bytes)]
    }

    /// The same generation with its content at the end of `segment`.
    fn copied_to(&self, segment: &mut Spool) -> io::Result<Self> {
        let begin = segment.end();
        let mut buffer = vec![0; 256 * 1024];
        for (content, bytes) in self.contents() {
            let mut at = 0;
            while at < bytes {
                let wanted = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
                let count = read_full(content, &mut buffer[..wanted], at)?;
                if count < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                segment.write_all(&buffer[..count])?;
                at += count as u64;
            }
        }
        let operations = Operations { content: segment.reader().from(begin), bytes: self.operations.bytes };
        let payloads = segment.reader().from(begin + self.operations.bytes);
        Ok(Self { header: self.header.clone(), operations, payloads, payload_bytes: self.payload_bytes })
    }
}

/// A generation in the window, and what it takes.
#[derive(Debug)]
struct Kept {
    shipment: Arc<Shipment>,
    memory_bytes: u64,
    disk_bytes: u64,
    /// Descriptors; that of a segment is counted with the last generation in it, which goes last.
    files: usize,
    /// It lies in a segment, or is as long as one.
    is_settled: bool,
}

impl Kept {
    fn new(shipment: Arc<Shipment>) -> Self {
        let (mut memory_bytes, mut disk_bytes, mut files) = (0, 0, 0);
        for (content, bytes) in shipment.contents() {
            if content.is_in_memory() {
                memory_bytes += bytes;
            } else {
                disk_bytes += bytes;
                files += 1;
            }
        }
        let is_settled = shipment.bytes() >= SEGMENT_BYTES;
        Self { shipment, memory_bytes, disk_bytes, files, is_settled }
    }
}

/// Recent generations of one chain, oldest first.
#[derive(Debug)]
pub struct Window {
    kept: VecDeque<Kept>,
    limits: WindowLimits,
    /// Where the primary stands.
    head: (Position, ChainDigest),
}

/// What a standby at some point of the chain gets next.
#[derive(Debug)]
pub enum Next {
    /// This.
    Shipment(Arc<Shipment>),
    /// Nothing yet: it is up to date.
    Wait,
    /// It must be caught up by comparing trees.
    CatchUp,
}

/// What the window takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Generations.
    pub generations: usize,
    /// In memory.
    pub memory_bytes: u64,
    /// In the state directory.
    pub disk_bytes: u64,
    /// Descriptors.
    pub files: usize,
}

impl Window {
    /// An empty window.
    pub fn new(limits: WindowLimits, head: (Position, ChainDigest)) -> Self {
        Self { kept: VecDeque::new(), limits, head }
    }

    /// Adds the next generation; what is too much falls out.
    pub fn push(&mut self, shipment: Arc<Shipment>) {
        self.head = (shipment.header.position, shipment.header.chain());
        self.kept.push_back(Kept::new(shipment));
        self.shed();
    }

    fn shed(&mut self) {
        let mut taken = self.taken();
        // What was not gathered, because the disk is full, may not grow in memory either.
        let is_too_much = |taken: &Taken| {
            taken.disk_bytes > self.limits.disk_bytes
                || taken.memory_bytes > 2 * self.limits.memory_bytes
                || taken.generations > GENERATIONS
                || taken.files > FILES
        };
        while self.kept.len() > 1 && is_too_much(&taken) {
            let Some(oldest) = self.kept.pop_front() else { break };
            taken.generations -= 1;
            taken.memory_bytes -= oldest.memory_bytes;
            taken.disk_bytes -= oldest.disk_bytes;
            taken.files -= oldest.files;
        }
    }

    /// What it takes now.
    pub fn taken(&self) -> Taken {
        self.kept.iter().fold(Taken::default(), |taken, kept| Taken {
            generations: taken.generations + 1,
            memory_bytes: taken.memory_bytes + kept.memory_bytes,
            disk_bytes: taken.disk_bytes + kept.disk_bytes,
            files: taken.files + kept.files,
        })
    }

    /// The oldest generations that are to be gathered into a segment; mostly none.
    pub fn surplus(&self) -> Vec<Arc<Shipment>> {
        let loose = || self.kept.iter().filter(|kept| !kept.is_settled);
        let mut memory_bytes: u64 = loose().map(|kept| kept.memory_bytes).sum();
        let mut files: usize = loose().map(|kept| kept.files).sum();
        if memory_bytes <= self.limits.memory_bytes && files <= LOOSE_FILES {
            return Vec::new();
        }
        let (mut surplus, mut bytes) = (Vec::new(), 0);
        for kept in loose() {
            // By half: so that it is not done for every generation.
            let is_enough = memory_bytes <= self.limits.memory_bytes / 2 && files <= LOOSE_FILES / 2;
            if is_enough || bytes >= SEGMENT_BYTES {
                break;
            }
            memory_bytes -= kept.memory_bytes;
            files -= kept.files;
            bytes += kept.shipment.bytes();
            surplus.push(Arc::clone(&kept.shipment));
        }
        surplus
    }

    /// Puts generations that were gathered in the place of what they were.
    pub fn replace(&mut self, gathered: Vec<Shipment>) {
        let count = gathered.len();
        for (number, shipment) in gathered.into_iter().enumerate() {
            let Ok(index) = self.index(shipment.header.parent) else { continue };
            let disk_bytes = shipment.bytes();
            let files = usize::from(number + 1 == count);
            let shipment = Arc::new(shipment);
            self.kept[index] = Kept { shipment, memory_bytes: 0, disk_bytes, files, is_settled: true };
        }
        self.shed();
    }

    /// The chain goes on at `head`, with a generation that nobody was there to receive.
    pub fn skip_to(&mut self, head: (Position, ChainDigest)) {
        self.kept.clear();
        self.head = head;
    }

    fn index(&self, parent: Position) -> Result<usize, usize> {
        self.kept.binary_search_by_key(&parent, |kept| kept.shipment.header.parent)
    }

    /// What follows `position`, reached by the history `chain`.
    pub fn after(&self, (position, chain): (Position, ChainDigest)) -> Next {
        if chain == self.head.1 {
            return Next::Wait;
        }
        let next = self.index(position).ok().map(|index| &self.kept[index].shipment);
        match next.filter(|next| next.header.parent_chain == chain) {
            Some(shipment) => Next::Shipment(Arc::clone(shipment)),
            None => Next::CatchUp,
        }
    }

    /// True if nobody can have come to `position` of this reign by the history `chain`: so much was not made yet, or otherwise.
    pub fn contradicts(&self, (position, chain): (Position, ChainDigest)) -> bool {
        let is_beyond = position > self.head.0 && position.epoch == self.head.0.epoch;
        is_beyond || self.made(position).is_some_and(|made| made.chain() != chain)
    }

    fn made(&self, position: Position) -> Option<&Header> {
        let at = self.kept.binary_search_by_key(&position, |kept| kept.shipment.header.position).ok()?;
        Some(&self.kept[at].shipment.header)
    }

    /// The oldest change in the generations after `position`.
    pub fn oldest_change_after(&self, position: Position) -> Option<crate::words::entry::Timestamp> {
        let first = self.kept.partition_point(|kept| kept.shipment.header.position <= position);
        self.kept.range(first..).map(|kept| kept.shipment.header.oldest_change).min()
    }

    /// The tree digest at `position`, if a generation that leads there is kept.
    pub fn tree_at(&self, position: Position) -> Option<Digest> {
        Some(self.made(position)?.tree_after)
    }

    /// Where the primary stands.
    pub fn head(&self) -> (Position, ChainDigest) {
        self.head
    }
}

/// Copies generations into one segment in `directory`.
pub fn gather(directory: &Path, surplus: &[Arc<Shipment>]) -> io::Result<Vec<Shipment>> {
    let mut segment = Spool::on_disk(directory)?;
    surplus.iter().map(|shipment| shipment.copied_to(&mut segment)).collect()
}

#[cfg(test)]
mod tests;
