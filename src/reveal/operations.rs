//! The operations of a generation on disk: as they arrive in a spool, and as they stand in the journal.

use std::cell::Cell;
use std::io::Write;

use crate::journal::{Location, Log};
use crate::spool::{Spool, SpoolReader};
use crate::thought::delta::{ReadAt, read_full};
use crate::thought::generation::{Action, JournalledOperation, Operation, PreImage, Section};
use crate::thought::tree::{ApplyError, Operations};
use crate::words::entry::InodeId;

/// How much is gathered before it is written.
const TAIL_BYTES: usize = 64 * 1024;

/// Encoded things one after the other, each preceded by its length as `u32` little-endian.
#[derive(Debug)]
pub struct Records {
    spool: Spool,
    /// What follows behind the spool's end.
    tail: Vec<u8>,
    /// Where each section begins, for those begun.
    sections: Vec<(Section, u64)>,
}

/// A spool and what follows behind it.
struct Content<'a> {
    spool: SpoolReader,
    end: u64,
    tail: &'a [u8],
}

impl ReadAt for Content<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        match offset.checked_sub(self.end) {
            Some(within) => self.tail.read_at(buffer, within),
            None => {
                let wanted = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(buffer.len());
                self.spool.read_at(&mut buffer[..wanted], offset)
            }
        }
    }
}

impl Records {
    /// Records in `spool`, which must be empty.
    pub fn new(spool: Spool) -> Self {
        Self { spool, tail: Vec::new(), sections: Vec::new() }
    }

    /// Adds an encoded operation of `section`.
    pub fn push(&mut self, section: Section, encoded: &[u8]) -> std::io::Result<()> {
        if self.sections.last().is_none_or(|(last, _)| *last != section) {
            self.sections.push((section, self.end()));
        }
        self.tail.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.tail.extend_from_slice(encoded);
        if self.tail.len() >= TAIL_BYTES {
            self.spool.write_all(&self.tail)?;
            self.tail.clear();
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.spool.end() + self.tail.len() as u64
    }

    fn content(&self) -> Content<'_> {
        Content { spool: self.spool.reader(), end: self.spool.end(), tail: &self.tail }
    }

    /// The spool with all of them in it.
    pub fn into_spool(mut self) -> std::io::Result<Spool> {
        self.spool.write_all(&self.tail)?;
        Ok(self.spool)
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        self.end()
    }

    /// Calls `visit` with every record of `content` between the offsets `at` and `end`.
    pub fn each(
        content: &dyn ReadAt,
        mut at: u64,
        end: u64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let failed = |error: std::io::Error| ApplyError::Source(Box::new(error));
        let total = end - at;
        let mut buffer = vec![0; 256 * 1024];
        let mut filled = 0..0;
        let mut record = Vec::new();
        // One pass with a buffer of its own, so that a million small records are not a million reads.
        let mut take = |out: &mut Vec<u8>, mut count: usize| -> Result<(), ApplyError> {
            out.clear();
            while count > 0 {
                if filled.is_empty() {
                    let got = read_full(content, &mut buffer, at).map_err(failed)?;
                    if got == 0 {
                        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                    filled = 0..got;
                    at += got as u64;
                }
                let piece = count.min(filled.len());
                out.extend_from_slice(&buffer[filled.start..filled.start + piece]);
                filled.start += piece;
                count -= piece;
            }
            Ok(())
        };
        let mut done = 0;
        while done < total {
            take(&mut record, 4)?;
            let length = u32::from_le_bytes(record.as_slice().try_into().unwrap_or_default());
            take(&mut record, length as usize)?;
            done += 4 + u64::from(length);
            visit(&record)?;
        }
        Ok(())
    }

    /// Calls `visit` with every encoded record, in order.
    pub fn all(&self, visit: &mut dyn FnMut(&[u8]) -> Result<(), ApplyError>) -> Result<(), ApplyError> {
        Self::each(&self.content(), 0, self.end(), visit)
    }
}

impl Records {
    /// Calls `visit` with every encoded record of `section`, in order.
    pub fn of_section(
        &self,
        section: Section,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        for (index, (found, start)) in self.sections.iter().enumerate().filter(|(_, (found, _))| *found == section) {
            debug_assert_eq!(*found, section, "filtered");
            let end = self.sections.get(index + 1).map_or(self.end(), |(_, next)| *next);
            Self::each(&self.content(), *start, end, visit)?;
        }
        Ok(())
    }
}

impl Operations for Records {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        self.of_section(section, &mut |bytes| {
            visit(Operation::decode(bytes).map_err(|error| ApplyError::Source(Box::new(error)))?)
        })
    }
}

/// How large the parts are in which operations are journalled.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// The operations of a generation in the journal: in the order in which they were applied.
#[derive(Clone, Copy)]
pub(super) struct Journalled<'a> {
    log: &'a Log,
    parts: &'a [Location],
}

impl<'a> Journalled<'a> {
    /// The generation whose parts, without the header's, lie at `parts`.
    pub(super) fn new(log: &'a Log, parts: &'a [Location]) -> Self {
        Self { log, parts }
    }

    /// Calls `visit` with every operation in the order of the journal.
    pub(super) fn each(
        &self,
        visit: &mut dyn FnMut(JournalledOperation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let mut rest = Vec::new();
        for location in self.parts {
            rest.extend(self.log.read(location).map_err(|error| ApplyError::Source(Box::new(error)))?);
            let mut at = 0;
            // A record may go on in the next part.
            while let Some((length, tail)) = rest[at..].split_first_chunk::<4>()
                && let length = u32::from_le_bytes(*length) as usize
                && let Some(bytes) = tail.get(..length)
            {
                visit(JournalledOperation::decode(bytes).map_err(|error| ApplyError::Source(Box::new(error)))?)?;
                at += 4 + length;
            }
            rest.drain(..at);
        }
        if rest.is_empty() { Ok(()) } else { Err(ApplyError::Source("the journalled operations are cut off".into())) }
    }
}

/// Journalled operations to be applied to a tree that never saw them; it is their own witness.
pub(super) struct Replayed<'a> {
    operations: Journalled<'a>,
    /// The inode of the operation that is being applied.
    inode: &'a Cell<Option<InodeId>>,
}

impl<'a> Replayed<'a> {
    /// `inode` is where a witness finds the inode of each operation that arrives.
    pub(super) fn new(operations: Journalled<'a>, inode: &'a Cell<Option<InodeId>>) -> Self {
        Self { operations, inode }
    }
}

impl Operations for Replayed<'_> {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let mut renames = Vec::new();
        self.operations.each(&mut |JournalledOperation { operation, inode, .. }| {
            if operation.action.section() != section {
                return Ok(());
            }
            if section == Section::Rename {
                renames.push(operation);
                return Ok(());
            }
            self.inode.set(inode);
            visit(operation)
        })?;
        // The journal has them as they were taken, deepest first; they are wanted as they arrive.
        renames.sort_by(|a: &Operation, b| a.action.path().cmp(b.action.path()));
        renames.into_iter().try_for_each(visit)
    }
}

/// True for what only asserts a directory's attributes again, after its children came and went: of these there is nothing to be undone.
pub(super) fn is_settling(operation: &JournalledOperation) -> bool {
    matches!(operation.operation.action, Action::Attributes { .. }) && operation.before == PreImage::None
}
