//! Reading one file whole, once.

use std::cell::Cell;
use std::io;

use super::CaptureError;
use super::file::READ_BYTES;
use super::large::{Read, Unread};
use crate::fs::{FsError, Readable, Root, Stat};
use crate::thought::delta::ReadAt;
use crate::thought::delta::probe::{PROBED_FROM, ProbeCollector, ProbePlan, Probes};
use crate::thought::delta::signature::{Signature, SignatureBuilder, SignatureOptions};
use crate::thought::digest::{Content as Hashed, ContentHasher};
use crate::thought::tree::FileMemory;
use crate::words::entry::Digest;

/// A file, as far as it reached when it was first looked at: what is appended later is not seen.
pub(super) struct Bounded<'a, F> {
    pub(super) file: &'a F,
    length: u64,
    /// How many bytes were read through it.
    pub(super) read: Cell<u64>,
    /// Why it could not be read: that is a matter of this file, unlike a spool that cannot be written.
    pub(super) refused: Cell<Option<FsError>>,
}

impl<'a, F> Bounded<'a, F> {
    pub(super) fn new(file: &'a F, length: u64) -> Self {
        Self { file, length, read: Cell::new(0), refused: Cell::new(None) }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl<F: Readable> ReadAt for Bounded<'_, F> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], offset).map_err(|error| {
            self.refused.set(Some(error));
            io::Error::other("the file cannot be read")
        })?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// What one whole reading of a file yields.
pub(super) struct Reading {
    pub(super) hashed: Hashed,
    pub(super) probes: Option<Probes>,
    pub(super) signature: Option<Signature>,
}

/// Reads a file once, from hole to hole: digest, samples and signature.
pub(super) fn read<F: Readable>(
    bounded: &Bounded<'_, F>,
    stat: &Stat,
    secret: &[u8; 32],
) -> Result<Reading, CaptureError> {
    let mut hasher = ContentHasher::new();
    let plan = ProbePlan::new(stat.size, secret, &identity(stat));
    let mut probes = plan.as_ref().map(ProbeCollector::new);
    let mut signature = SignatureOptions::for_size(stat.size).map(SignatureBuilder::new);
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    let mut data = 0..0;
    while at < stat.size {
        if at >= data.end {
            data = bounded.file.next_data(at, stat.size).map_err(CaptureError::File)?.unwrap_or(stat.size..stat.size);
        }
        let end = if at < data.start { data.start } else { data.end };
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(READ_BYTES);
        if at < data.start {
            buffer[..wanted].fill(0);
        } else if bounded.read_at(&mut buffer[..wanted], at)? < wanted {
            return Err(CaptureError::Shrank);
        }
        let piece = &buffer[..wanted];
        hasher.update(piece);
        if let Some(probes) = &mut probes {
            probes.update(at, piece);
        }
        if let Some(signature) = &mut signature {
            signature.update(piece);
        }
        at += wanted as u64;
    }
    let signature = match signature {
        Some(builder) => builder.finish().ok(),
        None => None,
    };
    Ok(Reading { hashed: hasher.finish(), probes: probes.and_then(ProbeCollector::finish), signature })
}

/// Reads a large file of `root`, if it is as it was found; its samples are at places that `secret` decides.
pub fn read_large(root: &Root, unread: &Unread, secret: &[u8; 32]) -> Result<Option<Read>, CaptureError> {
    let file = root.open_read(&unread.path).map_err(CaptureError::File)?;
    let stat = file.opened();
    if !unread.is_still(stat) {
        return Ok(None);
    }
    let bounded = Bounded::new(&file, stat.size);
    let reading = read(&bounded, stat, secret);
    let reading = reading.map_err(|error| bounded.refused.take().map_or(error, CaptureError::File))?;
    // A call that writes for long has set the change time when it began: what reads the same twice was so in between.
    if unread.is_old() && digest_of(&file, stat.size).map_err(CaptureError::File)? != reading.hashed.digest {
        return Ok(None);
    }
    if !unread.is_still(&file.stat().map_err(CaptureError::File)?) {
        return Ok(None);
    }
    let (digest, memory) = (reading.hashed.digest, memory(&reading));
    Ok(Some(Read { digest, memory, signature: reading.signature }))
}

/// What to remember of a file that was read.
pub(super) fn memory(reading: &Reading) -> Option<Box<FileMemory>> {
    let probes = reading.probes.clone().filter(|probes| probes.size() >= PROBED_FROM)?;
    Some(Box::new(FileMemory { frontier: reading.hashed.frontier.clone(), probes }))
}

/// What makes one file's secret offsets differ from another's.
pub(super) fn identity(stat: &Stat) -> [u8; 16] {
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&stat.inode.id.dev.to_le_bytes());
    identity[8..].copy_from_slice(&stat.inode.id.ino.to_le_bytes());
    identity
}

/// The digest of the first `size` bytes of `file`, or of as many as there are.
pub(super) fn digest_of(file: &impl Readable, size: u64) -> Result<Digest, FsError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(READ_BYTES).min(READ_BYTES)];
    let mut at = 0;
    while at < size {
        let wanted = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read_at(&mut buffer[..wanted], at)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(Digest::from(hasher.finalize()))
}
