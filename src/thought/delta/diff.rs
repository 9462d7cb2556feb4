//! Diffing: a new content as copies from an old one, of which only the [`Signature`] is known, and literals.
//!
//! `fast_rsync` takes whole slices; here the new content passes in windows. What a window leaves unmatched at its end, up to one
//! block less a byte, is looked at again with the next one, so windows lose no match.
//!
//! Equal blocks (runs of zeros, say) have one entry in the index of `fast_rsync`, the last; among equal blocks the one at the same offset is
//! preferred here, then the one that continues the copy before, so that a change in place is mostly
//! seen as one. (Not within a run of equal blocks: behind the changed byte the search falls in step with the run at any offset.
//! [`Spans::between`](super::spans::Spans::between) sees those too, and is faster: ask it first when the length did not change.)
//!
//! Unrelated data is diffed slower than a network ships it (62-116 MB/s), so the search is given up early.

use std::io;

use thiserror::Error;

use super::{Command, ReadAt, read_full, signature::Signature};

/// When to read how much, and when to give up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiffOptions {
    /// How much of the new content is in memory at a time, in bytes (with its delta: twice as much); at least two blocks are.
    pub window_bytes: usize,
    /// After this many bytes the search may be given up.
    pub sample_bytes: u64,
    /// The search is given up when more than this share of what was looked at, in percent, is literal. 100: never, as long as
    /// anything matches at all.
    pub literal_percent: u8,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { window_bytes: 8 << 20, sample_bytes: 16 << 20, literal_percent: 90 }
    }
}

/// What a diff came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The sink has the whole delta.
    Complete(DiffStats),
    /// Too little matches: throw away what the sink got, send the content whole.
    Unrelated(DiffStats),
}

/// What a diff found, in bytes of the new content that were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiffStats {
    /// In the old content too.
    pub copied_bytes: u64,
    /// To be shipped.
    pub literal_bytes: u64,
    /// True if every copy stays at its offset (also if there is none): a change in place. [`SpanCollector`](super::spans::SpanCollector) finds where.
    pub aligned: bool,
}

/// Why there is no delta.
#[derive(Debug, Error)]
pub enum DiffError {
    /// The new content cannot be read.
    #[error("reading the new content at {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The new content is shorter than it was said to be.
    #[error("the new content ends at {at}, of {new_len} bytes")]
    Ended {
        /// Where it ended.
        at: u64,
        /// Length it should have, in bytes.
        new_len: u64,
    },
    /// The sink refused a command.
    #[error("writing the delta")]
    Sink(#[source] io::Error),
    /// The signature contradicts itself, or what `fast_rsync` answered is no delta. Send the content whole.
    #[error("the delta search failed")]
    Search,
}

/// Gives the commands that make the first `new_len` bytes of `new` out of the content that `signature` is of, in order, to `sink`.
///
/// Copies are merged as far as they touch; literals come in pieces of at most a window.
///
/// # Errors
/// [`DiffError`]; what was given to `sink` before is then of no use.
pub fn diff(
    signature: &Signature,
    new: &dyn ReadAt,
    new_len: u64,
    options: &DiffOptions,
    sink: &mut dyn FnMut(Command<'_>) -> io::Result<()>,
) -> Result<Outcome, DiffError> {
    let block = signature.options().block_bytes() as usize;
    let index = signature.index();
    let window_bytes = options.window_bytes.max(2 * block);
    let mut window = Vec::new();
    let mut delta = Vec::new();
    let mut emitter = Emitter::new(signature, sink);
    let mut read = 0_u64;
    while read < new_len {
        let kept = window.len();
        // Not beyond the end of the sample, so that giving up costs no more than it.
        let stop = if read < options.sample_bytes { new_len.min(options.sample_bytes) } else { new_len };
        let wanted = usize::try_from(stop - read).unwrap_or(usize::MAX).min(window_bytes - kept);
        window.resize(kept + wanted, 0);
        let found =
            read_full(new, &mut window[kept..], read).map_err(|source| DiffError::Read { offset: read, source })?;
        if found < wanted {
            return Err(DiffError::Ended { at: read + found as u64, new_len });
        }
        read += found as u64;
        delta.clear();
        fast_rsync::diff(&index, &window, &mut delta).map_err(|_| DiffError::Search)?;
        let keep = if read < new_len { block - 1 } else { 0 };
        let rest = emitter.take(&delta, keep)?;
        window.drain(..window.len() - rest);
        if read < new_len && read >= options.sample_bytes && emitter.is_unrelated(options) {
            return Ok(Outcome::Unrelated(emitter.stats));
        }
    }
    emitter.flush()?;
    Ok(Outcome::Complete(emitter.stats))
}

/// Reads deltas of `fast_rsync`, one a window, and gives on their commands merged.
struct Emitter<'a> {
    signature: &'a Signature,
    sink: &'a mut dyn FnMut(Command<'_>) -> io::Result<()>,
    /// Source offset and length of the copy not yet given on.
    queued: Option<(u64, u64)>,
    stats: DiffStats,
}

impl<'a> Emitter<'a> {
    fn new(signature: &'a Signature, sink: &'a mut dyn FnMut(Command<'_>) -> io::Result<()>) -> Self {
        let stats = DiffStats { copied_bytes: 0, literal_bytes: 0, aligned: true };
        Self { signature, sink, queued: None, stats }
    }

    /// Takes one window's delta, but leaves up to `keep` bytes of a literal at its end, and returns how many it left.
    fn take(&mut self, delta: &[u8], keep: usize) -> Result<usize, DiffError> {
        let mut commands = delta.get(4..).ok_or(DiffError::Search)?;
        while let Some(command) = next(&mut commands).ok_or(DiffError::Search)? {
            match command {
                Command::Copy { offset, len } => self.copy(offset, len)?,
                // Only the end command follows.
                Command::Literal(bytes) if commands.len() == 1 => {
                    let rest = keep.min(bytes.len());
                    self.literal(&bytes[..bytes.len() - rest])?;
                    return Ok(rest);
                }
                Command::Literal(bytes) => self.literal(bytes)?,
            }
        }
        Ok(0)
    }

    fn is_unrelated(&self, options: &DiffOptions) -> bool {
        let DiffStats { copied_bytes, literal_bytes, .. } = self.stats;
        let seen = u128::from(copied_bytes) + u128::from(literal_bytes);
        copied_bytes == 0 || u128::from(literal_bytes) * 100 > seen * u128::from(options.literal_percent)
    }

    fn position(&self) -> u64 {
        self.stats.copied_bytes + self.stats.literal_bytes
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), DiffError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.stats.literal_bytes += bytes.len() as u64;
        (self.sink)(Command::Literal(bytes)).map_err(DiffError::Sink)
    }

    fn copy(&mut self, offset: u64, len: u64) -> Result<(), DiffError> {
        let block = u64::from(self.signature.options().block_bytes());
        for done in (0..len).step_by(usize::try_from(block).map_err(|_| DiffError::Search)?) {
            let source = self.preferred(offset + done, block);
            if source + block > self.signature.content_size() {
                // A signature that says its short last block equals a whole one: only a hostile one does.
                return Err(DiffError::Search);
            }
            self.stats.aligned &= source == self.position();
            self.stats.copied_bytes += block;
            self.queued = match self.queued {
                Some((start, run)) if start + run == source => Some((start, run + block)),
                _ => {
                    self.flush()?;
                    Some((source, block))
                }
            };
        }
        Ok(())
    }

    /// The best offset, among those tried, of a block that is equal to the one at `offset`.
    fn preferred(&self, offset: u64, block: u64) -> u64 {
        let digests = self.signature.block(offset / block);
        let same = |other: u64| {
            let inside = other.checked_add(block).is_some_and(|end| end <= self.signature.content_size());
            other.is_multiple_of(block) && inside && self.signature.block(other / block) == digests
        };
        let target = self.position();
        let continued = self.queued.map(|(start, run)| start + run);
        if same(target) { target } else { continued.filter(|other| same(*other)).unwrap_or(offset) }
    }

    fn flush(&mut self) -> Result<(), DiffError> {
        match self.queued.take() {
            Some((offset, len)) => (self.sink)(Command::Copy { offset, len }).map_err(DiffError::Sink),
            None => Ok(()),
        }
    }
}

/// The next command of a delta of `fast_rsync`: None if it is malformed, `Some(None)` at its end.
fn next<'a>(delta: &mut &'a [u8]) -> Option<Option<Command<'a>>> {
    let tag = take(delta, 1)?[0];
    Some(match tag {
        0 => None,
        0x01..=0x40 => Some(Command::Literal(take(delta, tag.into())?)),
        0x41..=0x44 => {
            let len = number(delta, tag - 0x41)?;
            Some(Command::Literal(take(delta, usize::try_from(len).ok()?)?))
        }
        0x45..=0x54 => {
            let offset = number(delta, (tag - 0x45) / 4)?;
            Some(Command::Copy { offset, len: number(delta, (tag - 0x45) % 4)? })
        }
        _ => return None,
    })
}

/// A big-endian number of `2^class` bytes.
fn number(delta: &mut &[u8], class: u8) -> Option<u64> {
    Some(take(delta, 1 << class)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn take<'a>(delta: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = delta.split_at_checked(len)?;
    *delta = rest;
    Some(taken)
}
