//! Changes in place: which spans of a new content differ from the old content at the same offsets.
//!
//! A database page, a header rewritten: nothing moved, so comparing block digests at equal positions finds the change at the speed of
//! making a signature, four times that of a [`diff`](super::diff::diff()), and what is shipped can be written over the old content.

use super::{Command, Span, signature::Signature};

/// The most spans that are collected; a content with more is not worth an edit in place.
pub const SPANS_CAP: usize = 65_536;

/// Where a new content differs from the old one, and how long it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spans {
    /// Ranges of the new content, ascending, neither touching nor overlapping, none empty.
    pub spans: Vec<Span>,
    /// Length of the new content in bytes. The old one is cut to it or grows to it.
    pub new_len: u64,
}

impl Spans {
    /// Compares two signatures block by block. None if they were made with different options, or with more than [`SPANS_CAP`] spans.
    pub fn between(old: &Signature, new: &Signature) -> Option<Self> {
        if old.options() != new.options() {
            return None;
        }
        let block = u64::from(new.options().block_bytes());
        let mut collector = SpanCollector::default();
        let mut offset = 0;
        while offset < new.content_size() {
            let len = block.min(new.content_size() - offset);
            // A short last block is the same only as a block of the same length: digests of other lengths differ anyway.
            let index = offset / block;
            collector.step(old.block(index) == new.block(index), len);
            offset += len;
        }
        collector.finish()
    }

    /// How many bytes differ: what is to be shipped.
    pub fn changed_bytes(&self) -> u64 {
        self.spans.iter().map(|span| span.len).sum()
    }
}

/// Finds [`Spans`] in the commands of a delta, if every copy in it stays where it was.
#[derive(Clone, Debug)]
pub struct SpanCollector {
    spans: Vec<Span>,
    position: u64,
    aligned: bool,
}

impl Default for SpanCollector {
    fn default() -> Self {
        Self { spans: Vec::new(), position: 0, aligned: true }
    }
}

impl SpanCollector {
    /// Takes the next command of the delta.
    pub fn push(&mut self, command: &Command<'_>) {
        match *command {
            Command::Copy { offset, len } => {
                self.aligned &= offset == self.position;
                self.step(true, len);
            }
            Command::Literal(bytes) => self.step(false, bytes.len() as u64),
        }
    }

    /// True while every copy so far stayed where it was.
    pub fn is_aligned(&self) -> bool {
        self.aligned
    }

    /// The spans, after the last command. None if a copy moved or there were more than [`SPANS_CAP`].
    pub fn finish(self) -> Option<Spans> {
        self.aligned.then_some(Spans { spans: self.spans, new_len: self.position })
    }

    fn step(&mut self, same: bool, len: u64) {
        if !same && self.aligned && len > 0 {
            let full = self.spans.len() == SPANS_CAP;
            match self.spans.last_mut() {
                Some(last) if last.end() == self.position => last.len = last.len.saturating_add(len),
                _ if full => (self.aligned, self.spans) = (false, Vec::new()),
                _ => self.spans.push(Span { offset: self.position, len }),
            }
        }
        self.position = self.position.saturating_add(len);
    }
}
