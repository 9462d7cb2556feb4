//! One content sent ahead: whole, or what is missing of it. Blocking; for threads of their own.
//!
//! A file is read from its start to its end in any case, and hashed, so that nobody is told that another content is this one; what of it the
//! standby has already is not sent: the beginning of one that was cut off, the parts that a content of its replica has too.

use std::cell::{Cell, RefCell};
use std::io;

use super::shipping::{ShipError, Stream};
use crate::capture::Offer;
use crate::fs::{FileReader, FsError, Root};
use crate::thought::delta::diff::{DiffError, DiffOptions, Outcome, diff};
use crate::thought::delta::encoding::DeltaEncoder;
use crate::thought::delta::pack::{PackOptions, Packer};
use crate::thought::delta::signature::Signature;
use crate::thought::delta::{Command, ReadAt};
use crate::thought::generation::Payload;
use crate::thought::wire::frame::encode_body;
use crate::thought::wire::message::{CHUNK_BYTES, HeldContent, UNTOLD_LENGTH, data};
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// How much of a file is read at a time.
const READ_BYTES: usize = 1 << 20;
/// Contents up to this length are packed in memory before they are sent, longer ones on their way. Of no smaller one a part is sent.
pub const SMALL_BYTES: u64 = 1 << 20;

/// What the standby has of a content.
#[derive(Debug, Default)]
pub struct Known {
    /// So many bytes of its beginning.
    pub from: u64,
    /// An older content, by its digest, with its signature.
    pub base: Option<(Digest, Signature)>,
}

impl Known {
    /// True if there is nothing.
    pub fn is_nothing(&self) -> bool {
        self.from == 0 && self.base.is_none()
    }
}

/// What became of a content that was to be sent ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It was sent.
    Yes,
    /// The file has another content by now.
    Changed,
}

/// Sends the content of a file ahead, if it still is what was asked for, without what is `known`. A small one is packed in memory first; a large one
/// is packed while it is sent, and taken back in the end if it turns out to be another by now.
pub fn send_content(stream: &mut Stream, root: &Root, offer: &Offer, known: &Known) -> Result<Sent, ShipError> {
    let Offer { digest, size, mode, mtime, .. } = *offer;
    let file = match root.open_read(&offer.path) {
        Ok(file) if file.opened().size == size => file,
        Ok(_) => return Ok(Sent::Changed),
        Err(error) => return Ok(not_sent(&offer.path, &error)),
    };
    let facts = file.opened();
    let sparse = facts.blocks_512.saturating_mul(512).saturating_add(4096) <= facts.size;
    let base = known.base.as_ref().map(|(base, signature)| (*base, signature.content_size()));
    let held = |payload| HeldContent { digest, size, sparse, mode, mtime, payload, from: known.from, base };
    let hashed = Hashed::new(&file, size);
    if size <= SMALL_BYTES {
        let mut packed = Vec::new();
        return match pack(&hashed, 0, digest, sparse, &mut packed) {
            Ok(true) => {
                let payload = Payload { length: packed.len() as u64, unpacked: size };
                stream.frame(data::HELD, &encode_body(&held(payload))?)?;
                packed.chunks(CHUNK_BYTES).try_for_each(|piece| stream.frame(data::PAYLOAD, piece))?;
                Ok(Sent::Yes)
            }
            Ok(false) => Ok(Sent::Changed),
            Err(error) => hashed.not_sent(offer, error),
        };
    }
    let unpacked = if base.is_some() { UNTOLD_LENGTH } else { size - known.from };
    stream.frame(data::HELD, &encode_body(&held(Payload { length: UNTOLD_LENGTH, unpacked }))?)?;
    let mut frames = Frames { stream, failed: None };
    let packed = match &known.base {
        Some((_, signature)) => pack_delta(&hashed, known.from, digest, signature, &mut frames),
        None => pack(&hashed, known.from, digest, sparse, &mut frames),
    };
    if let Some(error) = frames.failed {
        return Err(error);
    }
    let sent = match packed {
        Ok(true) => Sent::Yes,
        Ok(false) => Sent::Changed,
        Err(error) => hashed.not_sent(offer, error)?,
    };
    stream.frame(data::HELD_END, &[u8::from(sent == Sent::Yes)])?;
    Ok(sent)
}

fn not_sent(path: &RelPath, error: &FsError) -> Sent {
    tracing::debug!(%path, error = super::explain(error), "not sent ahead");
    Sent::Changed
}

/// Payload frames as a place to write to.
struct Frames<'a> {
    stream: &'a mut Stream,
    failed: Option<ShipError>,
}

impl io::Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES);
        self.stream.frame(data::PAYLOAD, &bytes[..count]).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("the stream ended")
        })?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is hashed as far as it was read, from its start on.
struct Hashed<'a> {
    file: &'a FileReader,
    size: u64,
    hasher: RefCell<blake3::Hasher>,
    /// So far it was hashed.
    at: Cell<u64>,
    /// Why it could not be read: a matter of this file, unlike a stream that ended.
    refused: Cell<Option<FsError>>,
}

impl<'a> Hashed<'a> {
    fn new(file: &'a FileReader, size: u64) -> Self {
        Self { file, size, hasher: RefCell::default(), at: Cell::new(0), refused: Cell::new(None) }
    }

    fn is(&self, digest: Digest) -> bool {
        self.at.get() == self.size && Digest::from(self.hasher.borrow().finalize()) == digest
    }

    fn not_sent(&self, offer: &Offer, error: io::Error) -> Result<Sent, ShipError> {
        match self.refused.take() {
            Some(refused) => Ok(not_sent(&offer.path, &refused)),
            None => Err(error.into()),
        }
    }

    /// Gives `take` the bytes from `from` on, piece by piece; false if there are fewer than there should be.
    fn each(&self, from: u64, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(self.size).unwrap_or(READ_BYTES)).max(1)];
        let mut at = from;
        while at < self.size {
            let count = self.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(false);
            }
            take(&buffer[..count])?;
            at += count as u64;
        }
        Ok(true)
    }

    /// Reads what is before `from`, only to hash it; false if it is not there.
    fn skip_to(&self, from: u64) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(from).unwrap_or(READ_BYTES)).max(1)];
        while self.at.get() < from {
            let wanted = usize::try_from(from - self.at.get()).unwrap_or(READ_BYTES).min(buffer.len());
            if self.read_at(&mut buffer[..wanted], self.at.get())? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ReadAt for Hashed<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], offset).map_err(|error| {
            self.refused.set(Some(error));
            io::Error::other("the file cannot be read")
        })?;
        let at = self.at.get();
        if let Some(known) =
            at.checked_sub(offset).and_then(|known| usize::try_from(known).ok()).filter(|&known| known < count)
        {
            self.hasher.borrow_mut().update(&buffer[known..count]);
            self.at.set(offset + count as u64);
        }
        Ok(count)
    }
}

/// A content without its beginning.
struct Rest<'a>(&'a dyn ReadAt, u64);

impl ReadAt for Rest<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset.saturating_add(self.1))
    }
}

/// Packs a file from `from` on; false if it is not, or no longer, what was asked for.
fn pack(file: &Hashed<'_>, from: u64, digest: Digest, sparse: bool, out: &mut dyn io::Write) -> io::Result<bool> {
    let mut packer = Packer::new(out, PackOptions::of_file(sparse));
    if !file.skip_to(from)? || !file.each(from, &mut |piece| packer.write(piece))? {
        return Ok(false);
    }
    packer.finish()?;
    Ok(file.is(digest))
}

/// Packs a file from `from` on, as a delta to the content of `signature`; false if it is not, or no longer, what was asked for.
fn pack_delta(
    file: &Hashed<'_>,
    from: u64,
    digest: Digest,
    signature: &Signature,
    out: &mut dyn io::Write,
) -> io::Result<bool> {
    if !file.skip_to(from)? {
        return Ok(false);
    }
    let mut packer = Packer::new(out, PackOptions::default());
    let mut encoder = DeltaEncoder::new(&mut packer)?;
    let mut told = from;
    let found = diff(signature, &Rest(file, from), file.size - from, &DiffOptions::default(), &mut |command| {
        told += match command {
            Command::Copy { len, .. } => len,
            Command::Literal(bytes) => bytes.len() as u64,
        };
        encoder.command(command)
    });
    match found {
        Ok(Outcome::Complete(_)) => {}
        // What was told is right; the rest is sent as it is.
        Ok(Outcome::Unrelated(_)) | Err(DiffError::Search) => {
            if !file.each(told, &mut |piece| encoder.command(Command::Literal(piece)))? {
                return Ok(false);
            }
        }
        Err(DiffError::Ended { .. }) => return Ok(false),
        Err(DiffError::Read { source, .. } | DiffError::Sink(source)) => return Err(source),
    }
    encoder.finish()?;
    packer.finish()?;
    Ok(file.is(digest))
}
