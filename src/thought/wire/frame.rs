//! The one framing: a length, a kind and a checksum around a payload.
//!
//! **Layout, version 1.** Integers little-endian; a header of [`HEADER_BYTES`], then the payload:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | magic [`MAGIC`]: the bytes `h`, `s` |
//! | 2 | 1 | format version: [`VERSION`] |
//! | 3 | 1 | kind: what the payload is; given by the stream or file it stands in |
//! | 4 | 4 | payload length in bytes, `u32` |
//! | 8 | 4 | CRC-32 (IEEE) over bytes 0 to 7 and the payload, `u32` |
//! | 12 | length | payload |
//!
//! The checksum finds accidents (a torn write, a flipped bit), not attacks: on the network TLS stands around it.
//!
//! **Invariant:** a header is judged whole or not at all. Fewer bytes than a header are "more is needed", never an error; a whole
//! header with a wrong magic, version or length is an error before one byte is allocated for its payload.
//!
//! **Invariant:** what a decoder holds never exceeds its cap, and never exceeds twice what was really received: a peer that
//! declares a long payload and sends none costs nothing.
//!
//! Structured payloads go through [`encode_body`] and [`body`]: postcard, with trailing bytes refused. postcard has no field
//! numbers, so a changed body is a new kind or a new version byte in it, and no body may be a recursive type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first two bytes of every frame, as a little-endian number: `hs`.
pub const MAGIC: u16 = u16::from_le_bytes(*b"hs");
/// The version of the layout above.
pub const VERSION: u8 = 1;
/// The length of a header.
pub const HEADER_BYTES: usize = 12;
/// The longest payload that a decoder accepts unless it is told otherwise.
pub const DEFAULT_CAP_BYTES: usize = 1024 * 1024;

/// Where the checksum stands in the header: all before it is covered.
const CHECKSUM_AT: usize = 8;

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first two bytes are not [`MAGIC`].
    #[error("not a frame: it starts with {0:#06x}, not {MAGIC:#06x}")]
    Magic(u16),
    /// A format version that this program does not know.
    #[error("frame format version {0}; this program knows version {VERSION}")]
    Version(u8),
    /// The payload is longer than the reader's, or the writer's, cap.
    #[error("a frame of {length_bytes} bytes, more than the {cap_bytes} allowed here")]
    TooLong {
        /// Declared length of the payload.
        length_bytes: usize,
        /// The longest allowed.
        cap_bytes: usize,
    },
    /// The checksum does not match.
    #[error("a frame of kind {kind} is damaged: checksum {found:08x}, computed {computed:08x}")]
    Checksum {
        /// The kind in the damaged frame.
        kind: u8,
        /// What the header says.
        found: u32,
        /// What its bytes make.
        computed: u32,
    },
    /// The bytes ended, or something else began, inside a frame.
    #[error("a frame breaks off: at least {missing_bytes} bytes are missing")]
    Torn {
        /// How many bytes lack to the end of the header, or of the frame once its header is known.
        missing_bytes: usize,
    },
}

/// Why a payload is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The value cannot be written in postcard's format.
    #[error("cannot encode the body of a frame")]
    Encode(#[source] postcard::Error),
    /// The bytes do not make a value of the wanted type.
    #[error("cannot decode the body of a frame")]
    Decode(#[source] postcard::Error),
    /// Bytes are left after the value.
    #[error("{0} bytes are left over after the body of a frame")]
    Trailing(usize),
}

/// One frame, its payload borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: u8,
    /// The bytes carried.
    pub payload: &'a [u8],
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame(kind {}, {} bytes)", self.kind, self.payload.len())
    }
}

impl Frame<'_> {
    /// Appends the encoded frame to `out`; `cap_bytes` is the reader's cap. Errors: [`FrameError::TooLong`], and nothing appended.
    pub fn encode(&self, cap_bytes: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length_bytes = self.payload.len();
        let too_long = FrameError::TooLong { length_bytes, cap_bytes };
        if length_bytes > cap_bytes {
            return Err(too_long);
        }
        let length = u32::try_from(length_bytes).map_err(|_| too_long)?;
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&MAGIC.to_le_bytes());
        header[2] = VERSION;
        header[3] = self.kind;
        header[4..CHECKSUM_AT].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&header, self.payload);
        header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        out.reserve(HEADER_BYTES + length_bytes);
        out.extend_from_slice(&header);
        out.extend_from_slice(self.payload);
        Ok(())
    }
}

/// Reads the frame at the start of `bytes`: the frame and how many bytes it took, or `None` if `bytes` ends before it does.
///
/// For a log that is read back whole: `None` with bytes left, or an error, at its end is a torn tail.
pub fn decode_one(bytes: &[u8], cap_bytes: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length_bytes = payload_length(header, cap_bytes)?;
    let Some(payload) = rest.get(..length_bytes) else { return Ok(None) };
    verify(header, payload)?;
    Ok(Some((Frame { kind: header[3], payload }, HEADER_BYTES + length_bytes)))
}

/// Takes bytes as they come and gives frames.
///
/// Feeding takes no more than the frame under way still lacks, so that bytes after it can be read as something else:
///
/// ```
/// # use hotspare::thought::wire::frame::*;
/// # fn read(mut bytes: &[u8]) -> Result<(), FrameError> {
/// let mut decoder = FrameDecoder::new(DEFAULT_CAP_BYTES);
/// while !bytes.is_empty() {
///     let taken = decoder.feed(bytes)?;
///     bytes = &bytes[taken..];
///     if let Some((kind, payload)) = decoder.pull()? { /* a frame */ }
/// }
/// # Ok(()) }
/// ```
///
/// An error is final: the start of the next frame is not known, and the same error comes back ever after.
pub struct FrameDecoder {
    cap_bytes: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Known once the header is whole and was found good.
    length_bytes: usize,
    payload: Vec<u8>,
    failure: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder that accepts payloads of up to `cap_bytes`.
    pub fn new(cap_bytes: usize) -> Self {
        Self {
            cap_bytes,
            header: [0; HEADER_BYTES],
            header_filled: 0,
            length_bytes: 0,
            payload: Vec::new(),
            failure: None,
        }
    }

    /// How many bytes lack to the end of the header or, once that is whole, of the frame; 0 when a frame can be pulled.
    pub fn missing_bytes(&self) -> usize {
        match HEADER_BYTES - self.header_filled {
            0 => self.length_bytes - self.payload.len(),
            missing => missing,
        }
    }

    /// True between two frames: nothing of a next one was fed yet.
    pub fn is_idle(&self) -> bool {
        self.header_filled == 0
    }

    /// Takes as much of `bytes` as the frame under way lacks, and says how much that was: 0 only if `bytes` is empty or a frame
    /// waits to be pulled.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let in_header = bytes.len().min(HEADER_BYTES - self.header_filled);
        if in_header > 0 {
            self.header[self.header_filled..self.header_filled + in_header].copy_from_slice(&bytes[..in_header]);
            self.header_filled += in_header;
            if self.header_filled < HEADER_BYTES {
                return Ok(in_header);
            }
            self.length_bytes = payload_length(&self.header, self.cap_bytes).map_err(|failure| self.fail(failure))?;
        }
        let rest = &bytes[in_header..];
        let in_payload = if self.header_filled == HEADER_BYTES { rest.len().min(self.missing_bytes()) } else { 0 };
        self.make_room(in_payload);
        self.payload.extend_from_slice(&rest[..in_payload]);
        Ok(in_header + in_payload)
    }

    /// The frame, if it is whole: its kind and payload.
    pub fn pull(&mut self) -> Result<Option<(u8, Vec<u8>)>, FrameError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.missing_bytes() > 0 {
            return Ok(None);
        }
        verify(&self.header, &self.payload).map_err(|failure| self.fail(failure))?;
        self.header_filled = 0;
        self.length_bytes = 0;
        Ok(Some((self.header[3], std::mem::take(&mut self.payload))))
    }

    /// Says that no more bytes come: an error if a frame is under way.
    pub fn finish(&self) -> Result<(), FrameError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.is_idle() => Ok(()),
            None => Err(FrameError::Torn { missing_bytes: self.missing_bytes() }),
        }
    }

    /// Grows the payload buffer by doubling, as a `Vec` does, but never beyond the frame's length.
    fn make_room(&mut self, additional: usize) {
        let needed = self.payload.len() + additional;
        if needed > self.payload.capacity() {
            let capacity = (self.payload.len() * 2).max(needed).min(self.length_bytes);
            self.payload.reserve_exact(capacity - self.payload.len());
        }
    }

    fn fail(&mut self, failure: FrameError) -> FrameError {
        self.payload = Vec::new();
        self.failure = Some(failure.clone());
        failure
    }
}

impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameDecoder({} bytes missing)", self.missing_bytes())
    }
}

/// Encodes `value` as a payload.
pub fn encode_body<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, BodyError> {
    postcard::to_allocvec(value).map_err(BodyError::Encode)
}

/// Decodes a payload as one value and nothing more.
pub fn body<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, BodyError> {
    let (value, rest) = postcard::take_from_bytes(payload).map_err(BodyError::Decode)?;
    if rest.is_empty() { Ok(value) } else { Err(BodyError::Trailing(rest.len())) }
}

/// Judges a whole header, all but its checksum.
fn payload_length(header: &[u8; HEADER_BYTES], cap_bytes: usize) -> Result<usize, FrameError> {
    let [m0, m1, version, _, l0, l1, l2, l3, ..] = *header;
    let magic = u16::from_le_bytes([m0, m1]);
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    // Linux runs on nothing narrower than 32 bits; what did not fit would be above any cap.
    let length_bytes = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length_bytes > cap_bytes { Err(FrameError::TooLong { length_bytes, cap_bytes }) } else { Ok(length_bytes) }
}

fn verify(header: &[u8; HEADER_BYTES], payload: &[u8]) -> Result<(), FrameError> {
    let [.., c0, c1, c2, c3] = *header;
    let found = u32::from_le_bytes([c0, c1, c2, c3]);
    let computed = checksum(header, payload);
    if found == computed { Ok(()) } else { Err(FrameError::Checksum { kind: header[3], found, computed }) }
}

fn checksum(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CHECKSUM_AT]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
