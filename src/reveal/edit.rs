//! Edits: bytes that will be written over a file in place are checked against it before they are acked, and what they replace is kept.

use std::io;

use super::ReplicaError;
use super::content::PIECE;
use super::layout::{self, Area};
use crate::fs::{FileReader, Root};
use crate::thought::delta::probe::{ProbePlan, Probes};
use crate::thought::delta::{ReadAt, Span};
use crate::thought::digest::ContentHasher;
use crate::thought::generation::{Action, Operation};
use crate::thought::tree::FileMemory;
use crate::words::position::Position;

/// An edit that was found to fit.
pub(super) struct Checked {
    /// What to remember of the new content.
    pub(super) memory: Option<Box<FileMemory>>,
    /// True if old bytes were kept, as `<operation>.old`, one run after the other.
    pub(super) keeps: bool,
}

/// Checks that writing the staged spans over the file `old` gives what the entry promises. What is remembered of the old content spares
/// reading it for an append of which the primary, too, read only samples. Keeps the old bytes under the spans, or all of them with `whole`.
pub(super) fn check(
    root: &Root,
    position: Position,
    operation: &Operation,
    old: &dyn ReadAt,
    length: u64,
    memory: Option<&FileMemory>,
    whole: bool,
) -> Result<Checked, ReplicaError> {
    let Action::Edit { path, entry, old_length, spans, probes } = &operation.action else {
        return Err(ReplicaError::Header { position, what: "not an edit" });
    };
    let mismatch = || ReplicaError::Mismatch { path: path.clone(), position };
    let new = root.open_read(&layout::slot(Area::Stage, position, operation.id))?;
    if length != *old_length || !well_formed(spans, *old_length, entry.size()) {
        return Err(mismatch());
    }
    if let Some(probes) = probes
        && !probes.check(old)?
    {
        return Err(mismatch());
    }
    let appends = matches!(spans.as_slice(), [span] if span.offset == *old_length);
    let mut hasher = match memory {
        Some(memory) if appends && probes.is_some() && memory.frontier.size() == *old_length => {
            ContentHasher::resume(&memory.frontier)
        }
        _ => ContentHasher::new(),
    };
    let overlay = Overlay::new(old, *old_length, &new, spans);
    let mut buffer = vec![0; PIECE];
    let mut offset = hasher.position();
    loop {
        let count = overlay.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    let hashed = hasher.finish();
    if Some(hashed.digest) != entry.content() || hashed.size != entry.size() {
        return Err(mismatch());
    }
    let probes = match ProbePlan::new(entry.size(), &[0; 32], &[]) {
        Some(plan) => Probes::take(&overlay, &plan)?,
        None => None,
    };
    let kept = if whole { self::whole(*old_length) } else { old_blocks(spans, *old_length) };
    keep(root, position, operation.id, old, &kept)?;
    let memory = probes.map(|probes| Box::new(FileMemory { frontier: hashed.frontier, probes }));
    Ok(Checked { memory, keeps: !kept.is_empty() })
}

fn well_formed(spans: &[Span], old_length: u64, new_length: u64) -> bool {
    let rising = spans.windows(2).all(|pair| pair[0].end() <= pair[1].offset);
    let inside = spans.iter().all(|span| span.len > 0 && span.end() <= new_length);
    // What is beyond the old end comes from the spans: they cover it without a gap.
    let mut beyond = spans.iter().filter(|span| span.end() > old_length);
    let covered = beyond.try_fold(old_length, |end, span| (span.offset <= end).then(|| span.end()));
    rising && inside && new_length >= old_length && covered == Some(new_length)
}

/// The runs of old bytes that `spans` overwrite.
pub(super) fn old_blocks(spans: &[Span], old_length: u64) -> Vec<Span> {
    let within = spans.iter().filter(|span| span.offset < old_length);
    within.map(|span| Span { offset: span.offset, len: span.end().min(old_length) - span.offset }).collect()
}

/// All old bytes, as one run.
pub(super) fn whole(old_length: u64) -> Vec<Span> {
    vec![Span { offset: 0, len: old_length }]
}

fn keep(
    root: &Root,
    position: Position,
    operation: u32,
    old: &dyn ReadAt,
    blocks: &[Span],
) -> Result<(), ReplicaError> {
    if blocks.is_empty() {
        return Ok(());
    }
    let file = root.create_file(&layout::old_blocks(position, operation))?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    for block in blocks {
        let mut offset = block.offset;
        while offset < block.end() {
            let wanted = usize::try_from(block.end() - offset).unwrap_or(usize::MAX).min(PIECE);
            let count = old.read_at(&mut buffer[..wanted], offset)?;
            if count == 0 {
                break;
            }
            file.write_at(&buffer[..count], at)?;
            offset += count as u64;
            at += count as u64;
        }
    }
    Ok(())
}

/// Old content with spans of new bytes over it.
struct Overlay<'a> {
    old: &'a dyn ReadAt,
    old_length: u64,
    new: &'a FileReader,
    spans: &'a [Span],
    /// Where in `new` the bytes of each span begin.
    begins: Vec<u64>,
}

impl<'a> Overlay<'a> {
    /// `spans` must be well formed.
    fn new(old: &'a dyn ReadAt, old_length: u64, new: &'a FileReader, spans: &'a [Span]) -> Self {
        let begins = spans.iter().scan(0_u64, |at, span| {
            let begin = *at;
            *at = at.saturating_add(span.len);
            Some(begin)
        });
        Self { old, old_length, new, begins: begins.collect(), spans }
    }
}

impl ReadAt for Overlay<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.spans.partition_point(|span| span.end() <= offset);
        let (new, end) = match (self.spans.get(next), self.begins.get(next)) {
            (Some(span), Some(begin)) if span.offset <= offset => {
                (Some(begin.saturating_add(offset - span.offset)), span.end())
            }
            (Some(span), _) => (None, span.offset),
            _ => (None, self.old_length),
        };
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = &mut buffer[..wanted];
        match new {
            Some(from) => self.new.read_at(buffer, from).map_err(io::Error::other),
            None => self.old.read_at(buffer, offset),
        }
    }
}
