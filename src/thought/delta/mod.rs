//! What a change of a content costs: the parts of it that the other side does not have.
//!
//! | module | what it knows |
//! |---|---|
//! | [`signature`] | block digests of an old content |
//! | [`diff`](mod@diff) | a new content as copies from the old one and literals |
//! | [`spans`] | a change in place: where it differs |
//! | [`encoding`] | the bytes of a delta, on the wire and on disk |
//! | [`patch`] | from the old content and a delta to the new one |
//! | [`probe`] | whether a content that grew was only appended to |
//! | [`pack`] | zstd, where it helps |
//!
//! MD4 and the samples of probes collide on purpose: what comes out is never believed before its BLAKE3 is checked.
//! Contents are read in windows through [`ReadAt`], never held whole.

pub mod diff;
pub mod encoding;
pub mod pack;
pub mod patch;
pub mod probe;
pub mod signature;
pub mod spans;
#[cfg(test)]
mod tests;

use std::io;

/// A content that can be read at any offset: a file, a buffer.
pub trait ReadAt {
    /// Reads at most `buffer.len()` bytes from `offset` on; 0 only at or behind the end, or for an empty buffer.
    ///
    /// # Errors
    /// Whatever the content's holder says; `Interrupted` is retried by the callers in this room.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// Fills `buffer` from `offset` on; returns how many bytes there were, fewer than asked for only at the end of the content.
///
/// # Errors
/// The content's own, but for `Interrupted`.
pub fn read_full(content: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// One step of a delta: what comes next in the new content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Bytes of the old content.
    Copy {
        /// Where in the old content, in bytes.
        offset: u64,
        /// How many bytes; never 0.
        len: u64,
    },
    /// Bytes that the old content lacks; never empty.
    Literal(&'a [u8]),
}

/// A range of bytes of one content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl Span {
    /// The offset behind the last byte; saturates, so that a hostile span cannot wrap.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}
