//! From an old content and a delta to the new content.

use std::io;

use thiserror::Error;

use super::{
    Command, ReadAt,
    encoding::{DecodeError, DeltaDecoder},
    read_full,
};

/// Copies pass through a buffer of at most this many bytes.
const COPY_BYTES: u64 = 256 * 1024;

/// Why a delta cannot be applied.
#[derive(Debug, Error)]
pub enum PatchError {
    /// The delta's bytes are malformed.
    #[error("malformed delta")]
    Decode(#[from] DecodeError),
    /// A copy from outside the old content.
    #[error("the delta copies {len} bytes at {offset} of an old content of {base_len}")]
    OutsideBase {
        /// Where it would begin.
        offset: u64,
        /// How many bytes it would be.
        len: u64,
        /// Length of the old content in bytes.
        base_len: u64,
    },
    /// More output than announced.
    #[error("the delta yields more than the {expected_len} bytes announced")]
    TooLong {
        /// Announced length of the new content in bytes.
        expected_len: u64,
    },
    /// Less output than announced.
    #[error("the delta yields {found} of the {expected_len} bytes announced")]
    TooShort {
        /// Announced length of the new content in bytes.
        expected_len: u64,
        /// How many bytes there were.
        found: u64,
    },
    /// The old content is shorter than it should be.
    #[error("the old content ends at {at}, of {base_len} bytes")]
    BaseEnded {
        /// Where it ended.
        at: u64,
        /// Length it should have, in bytes.
        base_len: u64,
    },
    /// The old content cannot be read.
    #[error("reading the old content at {offset}")]
    ReadBase {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The new content cannot be written.
    #[error("writing the new content at {offset}")]
    Write {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Applies one delta, fed in pieces of any size. Memory: one buffer of 256 KiB.
///
/// What comes out is only as good as the delta: check its BLAKE3.
#[derive(Debug)]
pub struct Patcher {
    decoder: DeltaDecoder,
    base_len: u64,
    expected_len: u64,
    position: u64,
    buffer: Vec<u8>,
}

impl Patcher {
    /// For a delta that makes `expected_len` bytes out of an old content of `base_len` bytes.
    pub fn new(base_len: u64, expected_len: u64) -> Self {
        Self { decoder: DeltaDecoder::new(), base_len, expected_len, position: 0, buffer: Vec::new() }
    }

    /// Applies the next bytes of the delta: reads from `base`, gives the new content in order to `out`, in pieces of at most 256 KiB for
    /// copies and of at most `delta` for literals.
    ///
    /// # Errors
    /// [`PatchError`]; what was given to `out` before is then of no use.
    pub fn feed(
        &mut self,
        mut delta: &[u8],
        base: &dyn ReadAt,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PatchError> {
        while let Some(command) = self.decoder.next(&mut delta)? {
            self.apply(command, base, out)?;
        }
        Ok(())
    }

    /// How many bytes of the new content were given out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// To be called behind the last byte of the delta.
    ///
    /// # Errors
    /// If the delta has no end, or yielded less than announced.
    pub fn finish(self) -> Result<(), PatchError> {
        self.decoder.finish()?;
        if self.position < self.expected_len {
            return Err(PatchError::TooShort { expected_len: self.expected_len, found: self.position });
        }
        Ok(())
    }

    fn apply(
        &mut self,
        command: Command<'_>,
        base: &dyn ReadAt,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PatchError> {
        let wanted = match command {
            Command::Copy { len, .. } => len,
            Command::Literal(bytes) => bytes.len() as u64,
        };
        if wanted > self.expected_len - self.position {
            return Err(PatchError::TooLong { expected_len: self.expected_len });
        }
        match command {
            Command::Literal(bytes) => emit(&mut self.position, bytes, out),
            Command::Copy { offset, len } => self.copy(offset, len, base, out),
        }
    }

    fn copy(
        &mut self,
        offset: u64,
        len: u64,
        base: &dyn ReadAt,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PatchError> {
        let base_len = self.base_len;
        let Some(end) = offset.checked_add(len).filter(|end| *end <= base_len) else {
            return Err(PatchError::OutsideBase { offset, len, base_len });
        };
        let mut at = offset;
        while at < end {
            // At most COPY_BYTES, so it fits.
            let count = usize::try_from(COPY_BYTES.min(end - at)).unwrap_or(0);
            if self.buffer.len() < count {
                self.buffer.resize(count, 0);
            }
            let piece = &mut self.buffer[..count];
            let found = read_full(base, piece, at).map_err(|source| PatchError::ReadBase { offset: at, source })?;
            if found < count {
                return Err(PatchError::BaseEnded { at: at + found as u64, base_len });
            }
            emit(&mut self.position, piece, out)?;
            at += count as u64;
        }
        Ok(())
    }
}

fn emit(position: &mut u64, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), PatchError> {
    out(bytes).map_err(|source| PatchError::Write { offset: *position, source })?;
    *position += bytes.len() as u64;
    Ok(())
}
