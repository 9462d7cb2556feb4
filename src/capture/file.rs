//! Capturing one file: its digest, and the cheapest bytes that bring a standby from the old content to the new.
//!
//! Every payload is made of bytes that were hashed: either in the same pass, or in an earlier one after which the file's change time shows that
//! nothing was written. A file that does not hold still for that is read once more in a single pass that hashes what it ships.

use super::large::{Answer, Read, Way};
use super::reading::{Bounded, Reading, identity, memory, read};
use super::{CaptureError, Capturer, How, Taken};
use crate::fs::{Readable, Stat};
use crate::thought::delta::diff::{DiffError, DiffOptions, Outcome, diff};
use crate::thought::delta::encoding::DeltaEncoder;
use crate::thought::delta::pack::{PackOptions, Packer};
use crate::thought::delta::probe::{ProbeCollector, ProbePlan};
use crate::thought::delta::signature::Signature;
use crate::thought::delta::spans::Spans;
use crate::thought::delta::{ReadAt, Span};
use crate::thought::digest::ContentHasher;
use crate::thought::generation::{Content, Payload};
use crate::thought::plan::{Encoded, Spooled};
use crate::thought::store::Store;
use crate::thought::tree::{CONTENT_LOOKUP_BYTES, FileMemory, Row, Tree};
use crate::words::entry::{Body, Digest, Proof};
use crate::words::path::RelPath;

/// Files longer than this get a signature, and are sent as deltas where that helps.
pub(super) const SIGNED_FROM: u64 = 64 * 1024;
/// How much is read at a time.
pub(super) const READ_BYTES: usize = 1024 * 1024;
/// A change in place is written in place if it touches at most one part in this many.
const EDIT_SHARE: u64 = 4;
/// More spans than this are sent as a delta: they would not fit into one operation.
const EDIT_SPANS: usize = 4096;

/// A file that is captured.
pub(super) struct Subject<'a> {
    pub(super) path: &'a RelPath,
    pub(super) stat: &'a Stat,
    /// The row of the same inode.
    pub(super) old: Option<&'a Row>,
    /// The row of what was last at the same path.
    pub(super) base: Option<&'a Row>,
    pub(super) how: How,
}

impl Capturer {
    /// Captures an open file.
    pub(super) fn file<S: Store>(
        &mut self,
        tree: &Tree<S>,
        file: &impl Readable,
        subject: &Subject<'_>,
    ) -> Result<Taken, CaptureError> {
        let stat = subject.stat;
        if subject.how == How::Believed
            && let Some(taken) = unchanged(stat, subject.old)
        {
            return Ok(taken);
        }
        let bounded = Bounded::new(file, stat.size);
        let taken = self.content(tree, &bounded, subject);
        self.read_bytes += bounded.read.get();
        taken.map_err(|error| match (bounded.refused.take(), error) {
            (Some(refused), _) => CaptureError::File(refused),
            (None, CaptureError::Diff(DiffError::Ended { .. })) => CaptureError::Shrank,
            (None, error) => error,
        })
    }

    fn content<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        subject: &Subject<'_>,
    ) -> Result<Taken, CaptureError> {
        let &Subject { stat, old, base, how, .. } = subject;
        let whole = how == How::Whole;
        if !whole && let Some(taken) = self.appended(bounded, subject)? {
            return Ok(taken);
        }
        let is_sparse = is_sparse(stat);
        if stat.size <= SIGNED_FROM || whole {
            return self.single_pass(tree, bounded, stat, old, is_sparse, whole);
        }
        if let Some(taken) = self.large(tree, bounded, subject)? {
            return Ok(taken);
        }
        self.read.insert(stat.inode.id);
        let reading = read(bounded, stat, &self.secret)?;
        let digest = reading.hashed.digest;
        let memory = memory(&reading);
        let body = Body::File { size: stat.size, digest, proof: Proof::Hashed };
        if let Some(signature) = &reading.signature {
            self.signatures.keep(&mut self.spool, digest, signature.as_bytes())?;
        }
        if old.is_some_and(|row| row.entry.content() == Some(digest)) {
            return Ok(Taken { body, memory, encoded: Encoded::Unchanged });
        }
        if !tree.holders(digest, 1)?.is_empty() {
            let encoded = Encoded::New { content: Content::Held, payload: None, sparse: is_sparse };
            return Ok(Taken { body, memory, encoded });
        }
        if !self.ships {
            return Ok(Taken { body, memory, encoded: unshipped(is_sparse) });
        }
        let mark = self.spool.end();
        if let Some(encoded) = self.encode_change(tree, bounded, &reading, old, base, is_sparse)? {
            let now = bounded.file.stat().map_err(CaptureError::File)?;
            if now.inode.ctime == stat.inode.ctime {
                return Ok(Taken { body, memory, encoded });
            }
            self.spool.truncate(mark);
        }
        self.single_pass(tree, bounded, stat, old, is_sparse, true)
    }

    /// What becomes of a file that must be read, if it is large, by what is known of it; `None` if it is to be captured like any other.
    fn large<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        subject: &Subject<'_>,
    ) -> Result<Option<Taken>, CaptureError> {
        let &Subject { path, stat, old, base, how } = subject;
        let larges = self.larges.clone().filter(|larges| self.ships && stat.size >= larges.from_bytes());
        let Some(larges) = larges else { return Ok(None) };
        let way = match (older(old), older(base)) {
            (Some(_), _) => Way::Edit,
            (None, base) => Way::Ahead(base),
        };
        let recalled = larges.recall(stat).filter(|_| how <= How::Recalled);
        let answer = match (recalled.unwrap_or_else(|| larges.ask(path, stat, way)), older(old)) {
            (Answer::Edit(read), Some(older)) => match self.edited(tree, bounded, subject, &read)? {
                Some(taken) => return Ok(Some(taken)),
                None => larges.send_ahead(stat, older),
            },
            (answer, _) => answer,
        };
        self.answered(tree, bounded, subject, answer)
    }

    /// A file that was read beside the cuts, as the blocks of it that are others now; `None` if that is no way to tell its change.
    fn edited<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        subject: &Subject<'_>,
        read: &Read,
    ) -> Result<Option<Taken>, CaptureError> {
        let &Subject { stat, old, .. } = subject;
        let encoded = match old.filter(|row| row.entry.content() == Some(read.digest)) {
            Some(_) => Some(Encoded::Unchanged),
            None => self.in_place(tree, bounded, read.signature.as_ref(), old)?,
        };
        if bounded.file.stat().map_err(CaptureError::File)?.inode.ctime != stat.inode.ctime {
            return Err(CaptureError::Left);
        }
        encoded.map(|encoded| self.taken_as_read(stat, read, encoded)).transpose()
    }

    fn taken_as_read(&mut self, stat: &Stat, read: &Read, encoded: Encoded) -> Result<Taken, CaptureError> {
        let Read { digest, memory, signature } = read;
        if let Some(signature) = signature {
            self.signatures.keep(&mut self.spool, *digest, signature.as_bytes())?;
        }
        let body = Body::File { size: stat.size, digest: *digest, proof: Proof::Hashed };
        Ok(Taken { body, memory: memory.clone(), encoded })
    }

    fn answered<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        subject: &Subject<'_>,
        answer: Answer,
    ) -> Result<Option<Taken>, CaptureError> {
        let stat = subject.stat;
        match answer {
            Answer::Capture | Answer::Edit(_) => Ok(None),
            Answer::Leave => Err(CaptureError::Left),
            Answer::Take(read) => {
                let encoded = Encoded::New { content: Content::Held, payload: None, sparse: is_sparse(stat) };
                self.taken_as_read(stat, &read, encoded).map(Some)
            }
            Answer::Begin => {
                let Some(size) = self.larges.as_ref().map(|larges| larges.from_bytes()) else { return Ok(None) };
                let begun = Stat { size: size.min(stat.size), ..*stat };
                self.begun.insert(subject.path.clone());
                self.single_pass(tree, bounded, &begun, None, false, true).map(Some)
            }
        }
    }

    /// An append to a large file of which samples still read as they did: its digest goes on from where it was.
    fn appended(
        &mut self,
        bounded: &Bounded<'_, impl Readable>,
        subject: &Subject<'_>,
    ) -> Result<Option<Taken>, CaptureError> {
        let &Subject { path, stat, old, .. } = subject;
        let Some(row) = old.filter(|row| row.inode.is_same(&stat.inode)) else { return Ok(None) };
        let Some(memory) = row.memory.as_ref().filter(|_| stat.size > row.entry.size()) else { return Ok(None) };
        let old_length = row.entry.size();
        if memory.probes.size() != old_length || !memory.probes.check(bounded)? {
            return Ok(None);
        }
        // Of a long tail only so much is taken that small things need not wait for it.
        let longest = self.larges.as_ref().filter(|_| self.ships).map_or(u64::MAX, |larges| larges.from_bytes());
        let size = stat.size.min(old_length.saturating_add(longest));
        let mut hasher = ContentHasher::resume(&memory.frontier);
        let mut at = hasher.position();
        let begin = self.spool.end();
        let mut packer = Packer::new(&mut self.spool, PackOptions::default());
        let mut buffer = vec![0; READ_BYTES];
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let count = bounded.read_at(&mut buffer[..wanted], at)?;
            if count == 0 {
                return Err(CaptureError::Shrank);
            }
            hasher.update(&buffer[..count]);
            let known = usize::try_from(old_length.saturating_sub(at)).unwrap_or(usize::MAX).min(count);
            if self.ships {
                packer.write(&buffer[known..count])?;
            }
            at += count as u64;
        }
        let packed = packer.finish()?;
        let hashed = hasher.finish();
        let identity = identity(stat);
        // Read again what the sampled bytes say now, so that a rewrite during the capture is not taken for an append.
        let Some(probes) = memory.probes.extended(bounded, size, &self.secret, &identity)? else {
            return Err(CaptureError::Shrank);
        };
        if !memory.probes.check(bounded)? {
            self.spool.truncate(begin);
            return Ok(None);
        }
        if size < stat.size {
            self.begun.insert(path.clone());
        }
        let body = Body::File { size, digest: hashed.digest, proof: Proof::Probed };
        let payload = Payload { length: packed.packed_bytes, unpacked: packed.raw_bytes };
        let encoded = Encoded::Edit {
            old_length,
            spans: vec![Span { offset: old_length, len: size - old_length }],
            probes: Some(memory.probes.clone()),
            payload: Spooled { offset: begin, payload },
        };
        let memory = Some(Box::new(FileMemory { frontier: hashed.frontier, probes }));
        Ok(Some(Taken { body, memory, encoded }))
    }

    /// The change as bytes in place, if there are few: by the signature `after` it, and that of the row before.
    fn in_place<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        after: Option<&Signature>,
        old: Option<&Row>,
    ) -> Result<Option<Encoded>, CaptureError> {
        if let Some(row) = old.filter(|row| is_base(row))
            && let (Some(before), Some(after)) = (signature_of(tree, row)?, after)
            && let Some(spans) = Spans::between(&before, after)
            && spans.spans.len() <= EDIT_SPANS
            && spans.changed_bytes() <= bounded.length() / EDIT_SHARE
            && bounded.length() >= row.entry.size()
        {
            let payload = self.pack_spans(bounded, &spans.spans)?;
            let old_length = row.entry.size();
            return Ok(Some(Encoded::Edit { old_length, spans: spans.spans, probes: None, payload }));
        }
        Ok(None)
    }

    /// The change as bytes in place, or as a delta; `None` where whole content is no dearer.
    fn encode_change<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        reading: &Reading,
        old: Option<&Row>,
        base: Option<&Row>,
        sparse: bool,
    ) -> Result<Option<Encoded>, CaptureError> {
        if let Some(encoded) = self.in_place(tree, bounded, reading.signature.as_ref(), old)? {
            return Ok(Some(encoded));
        }
        let Some(row) = old.filter(|row| is_base(row)).or(base.filter(|row| is_base(row))) else { return Ok(None) };
        let Some(before) = signature_of(tree, row)? else { return Ok(None) };
        let Some(base) = row.entry.content() else { return Ok(None) };
        let begin = self.spool.end();
        let mut packer = Packer::new(&mut self.spool, PackOptions::default());
        let mut encoder = DeltaEncoder::new(&mut packer)?;
        let outcome =
            diff(&before, bounded, bounded.length(), &DiffOptions::default(), &mut |command| encoder.command(command));
        let unpacked = encoder.finish()?;
        let packed = packer.finish()?;
        match outcome {
            Err(DiffError::Search) => {
                self.spool.truncate(begin);
                Ok(None)
            }
            Err(error) => Err(error.into()),
            Ok(Outcome::Complete(stats)) if stats.copied_bytes > bounded.length() / 10 => {
                let payload = Payload { length: packed.packed_bytes, unpacked };
                let content = Content::Delta { base, base_length: row.entry.size() };
                Ok(Some(Encoded::New { content, payload: Some(Spooled { offset: begin, payload }), sparse }))
            }
            Ok(Outcome::Complete(_) | Outcome::Unrelated(_)) => {
                self.spool.truncate(begin);
                Ok(None)
            }
        }
    }

    fn pack_spans(&mut self, bounded: &Bounded<'_, impl Readable>, spans: &[Span]) -> Result<Spooled, CaptureError> {
        let offset = self.spool.end();
        let mut packer = Packer::new(&mut self.spool, PackOptions::default());
        let mut buffer = vec![0; READ_BYTES];
        for span in spans {
            let mut at = span.offset;
            while at < span.end() {
                let wanted = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(READ_BYTES);
                if bounded.read_at(&mut buffer[..wanted], at)? < wanted {
                    return Err(CaptureError::Shrank);
                }
                packer.write(&buffer[..wanted])?;
                at += wanted as u64;
            }
        }
        let packed = packer.finish()?;
        Ok(Spooled { offset, payload: Payload { length: packed.packed_bytes, unpacked: packed.raw_bytes } })
    }

    /// Reads, hashes and packs in one pass: what is shipped is what was hashed, whatever is written meanwhile.
    fn single_pass<S: Store>(
        &mut self,
        tree: &Tree<S>,
        bounded: &Bounded<'_, impl Readable>,
        stat: &Stat,
        old: Option<&Row>,
        sparse: bool,
        whole: bool,
    ) -> Result<Taken, CaptureError> {
        self.read.insert(stat.inode.id);
        let mut hasher = ContentHasher::new();
        let plan = ProbePlan::new(stat.size, &self.secret, &identity(stat));
        let mut probes = plan.as_ref().map(ProbeCollector::new);
        let offset = self.spool.end();
        let mut packer = self.ships.then(|| Packer::new(&mut self.spool, PackOptions::of_file(sparse)));
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(stat.size).unwrap_or(READ_BYTES)).max(1)];
        let mut at = 0;
        while at < stat.size {
            let wanted = usize::try_from(stat.size - at).unwrap_or(READ_BYTES).min(buffer.len());
            let count = bounded.read_at(&mut buffer[..wanted], at)?;
            if count == 0 {
                return Err(CaptureError::Shrank);
            }
            hasher.update(&buffer[..count]);
            if let Some(probes) = &mut probes {
                probes.update(at, &buffer[..count]);
            }
            if let Some(packer) = &mut packer {
                packer.write(&buffer[..count])?;
            }
            at += count as u64;
        }
        let packed = packer.map(Packer::finish).transpose()?;
        let hashed = hasher.finish();
        let digest = hashed.digest;
        let body = Body::File { size: stat.size, digest, proof: Proof::Hashed };
        let memory = memory(&Reading { hashed, probes: probes.and_then(ProbeCollector::finish), signature: None });
        let encoded = if !whole && old.is_some_and(|row| row.entry.content() == Some(digest)) {
            Encoded::Unchanged
        } else if stat.size == 0 {
            Encoded::New { content: Content::None, payload: None, sparse: false }
        } else if !whole && stat.size >= CONTENT_LOOKUP_BYTES && !tree.holders(digest, 1)?.is_empty() {
            Encoded::New { content: Content::Held, payload: None, sparse }
        } else if let Some(packed) = packed {
            let payload = Payload { length: packed.packed_bytes, unpacked: packed.raw_bytes };
            let payload = Some(Spooled { offset, payload });
            return Ok(Taken { body, memory, encoded: Encoded::New { content: Content::Whole, payload, sparse } });
        } else {
            unshipped(sparse)
        };
        self.spool.truncate(offset);
        Ok(Taken { body, memory, encoded })
    }
}

fn is_sparse(stat: &Stat) -> bool {
    stat.blocks_512.saturating_mul(512).saturating_add(4096) <= stat.size
}

/// True if a change of the file can be told by what differs.
fn is_base(row: &Row) -> bool {
    row.entry.content().is_some() && row.entry.size() >= SIGNED_FROM
}

/// The content of a row and its length, if a change of the file can be told by what differs from it.
fn older(row: Option<&Row>) -> Option<(Digest, u64)> {
    let row = row.filter(|row| is_base(row))?;
    Some((row.entry.content()?, row.entry.size()))
}

/// What stands for content that nobody is there to receive.
fn unshipped(sparse: bool) -> Encoded {
    Encoded::New { content: Content::Held, payload: None, sparse }
}

/// The old row's content, if nothing about the file can have changed.
fn unchanged(stat: &Stat, old: Option<&Row>) -> Option<Taken> {
    let row = old?;
    let is_same = row.inode.is_same(&stat.inode)
        && row.inode.ctime == stat.inode.ctime
        && row.entry.mtime == stat.mtime
        && row.entry.size() == stat.size;
    is_same.then(|| Taken { body: row.entry.body.clone(), memory: row.memory.clone(), encoded: Encoded::Unchanged })
}

fn signature_of<S: Store>(tree: &Tree<S>, row: &Row) -> Result<Option<Signature>, CaptureError> {
    let Some(digest) = row.entry.content() else { return Ok(None) };
    Ok(tree.signature(digest)?.and_then(|bytes| Signature::parse(bytes, row.entry.size()).ok()))
}
