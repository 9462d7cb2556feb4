//! The bytes of a delta, on the wire and on disk.
//!
//! **Version 1.** One version byte `0x01`, then commands, each a tag byte and its fields:
//!
//! | tag | command | fields |
//! |---|---|---|
//! | `0x00` | end | none; nothing may follow |
//! | `0x01` | copy | offset varint, length varint (not 0, offset + length < 2^64) |
//! | `0x02` | literal | length varint (not 0), that many bytes |
//!
//! A varint is a `u64` in LEB128: seven bits a byte, lowest first, at most ten bytes, no superfluous last byte 0.
//! Literals of any length are written and read in pieces; the reader keeps at most 21 bytes between pieces.

use std::io;

use thiserror::Error;

use super::Command;

/// The version this build writes and reads.
pub const DELTA_VERSION: u8 = 1;
const END: u8 = 0;
const COPY: u8 = 1;
const LITERAL: u8 = 2;
/// The longest varint.
const VARINT_MAX: usize = 10;

/// Writes a delta.
pub struct DeltaEncoder<'w> {
    out: &'w mut dyn io::Write,
    written: u64,
}

impl<'w> DeltaEncoder<'w> {
    /// Begins a delta on `out`. Commands are written as they come: give it a buffered writer.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: &'w mut dyn io::Write) -> io::Result<Self> {
        let mut encoder = Self { out, written: 0 };
        encoder.put(&[DELTA_VERSION])?;
        Ok(encoder)
    }

    /// Writes one command; an empty one leaves nothing.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn command(&mut self, command: Command<'_>) -> io::Result<()> {
        match command {
            Command::Copy { len: 0, .. } | Command::Literal([]) => Ok(()),
            Command::Copy { offset, len } => {
                self.put(&[COPY])?;
                self.varint(offset)?;
                self.varint(len)
            }
            Command::Literal(bytes) => {
                self.put(&[LITERAL])?;
                self.varint(bytes.len() as u64)?;
                self.put(bytes)
            }
        }
    }

    /// Ends the delta and returns its length in bytes. Without this it is incomplete and will be refused.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<u64> {
        self.put(&[END])?;
        Ok(self.written)
    }

    /// How many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn varint(&mut self, mut value: u64) -> io::Result<()> {
        let mut bytes = [0; VARINT_MAX];
        let mut len = 0;
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            bytes[len] = if value == 0 { low } else { low | 0x80 };
            len += 1;
            if value == 0 {
                return self.put(&bytes[..len]);
            }
        }
    }
}

/// Why bytes are no delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// Written by a later build.
    #[error("delta version {0} is not known")]
    Version(u8),
    /// No such command.
    #[error("delta command {0:#04x} is not known")]
    Tag(u8),
    /// A number above 64 bits, or with a superfluous byte.
    #[error("malformed number in a delta")]
    Varint,
    /// A copy or literal of nothing.
    #[error("empty command in a delta")]
    Empty,
    /// A copy whose end is beyond 64 bits.
    #[error("a copy in a delta ends beyond 64 bits")]
    Overflow,
    /// Bytes behind the end.
    #[error("bytes behind the end of a delta")]
    Trailing,
    /// The end is missing.
    #[error("the delta is cut short")]
    Incomplete,
}

/// Where in the stream a decoder stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Version,
    Tag,
    CopyOffset,
    CopyLen { offset: u64 },
    LiteralLen,
    Literal { left: u64 },
    Ended,
    Failed(DecodeError),
}

/// Reads a delta piece by piece, in constant memory.
#[derive(Clone, Debug)]
pub struct DeltaDecoder {
    state: State,
    value: u64,
    /// Bytes of the current varint read so far.
    varint_len: u32,
}

impl Default for DeltaDecoder {
    fn default() -> Self {
        Self { state: State::Version, value: 0, varint_len: 0 }
    }
}

impl DeltaDecoder {
    /// Expects the beginning of a delta.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next command that `input` completes, cutting off `input` what was used. None when it is used up: come again with the bytes that
    /// follow. A literal comes in as many pieces as its bytes do.
    ///
    /// # Errors
    /// [`DecodeError`] at the first byte that no delta has there, and from then on.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Command<'a>>, DecodeError> {
        self.step(input).inspect_err(|error| self.state = State::Failed(*error))
    }

    /// To be asked when there are no more bytes.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if the end was not seen, or the failure met before.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Ended => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(DecodeError::Incomplete),
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Command<'a>>, DecodeError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        while let Some((&byte, rest)) = input.split_first() {
            if let State::Literal { left } = self.state {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (piece, rest) = input.split_at(len);
                *input = rest;
                let left = left - len as u64;
                self.state = if left == 0 { State::Tag } else { State::Literal { left } };
                return Ok(Some(Command::Literal(piece)));
            }
            *input = rest;
            match self.state {
                State::Version if byte == DELTA_VERSION => self.state = State::Tag,
                State::Version => return Err(DecodeError::Version(byte)),
                State::Tag => {
                    self.state = match byte {
                        END => State::Ended,
                        COPY => State::CopyOffset,
                        LITERAL => State::LiteralLen,
                        _ => return Err(DecodeError::Tag(byte)),
                    }
                }
                State::CopyOffset => {
                    if let Some(offset) = self.varint(byte)? {
                        self.state = State::CopyLen { offset };
                    }
                }
                State::CopyLen { offset } => {
                    if let Some(len) = self.length(byte)? {
                        offset.checked_add(len).ok_or(DecodeError::Overflow)?;
                        self.state = State::Tag;
                        return Ok(Some(Command::Copy { offset, len }));
                    }
                }
                State::LiteralLen => {
                    if let Some(left) = self.length(byte)? {
                        self.state = State::Literal { left };
                    }
                }
                State::Ended | State::Literal { .. } | State::Failed(_) => return Err(DecodeError::Trailing),
            }
        }
        Ok(None)
    }

    fn length(&mut self, byte: u8) -> Result<Option<u64>, DecodeError> {
        match self.varint(byte)? {
            Some(0) => Err(DecodeError::Empty),
            other => Ok(other),
        }
    }

    fn varint(&mut self, byte: u8) -> Result<Option<u64>, DecodeError> {
        let shift = self.varint_len * 7;
        let bits = u64::from(byte & 0x7f);
        let more = byte & 0x80 != 0;
        if shift > 63 || (shift == 63 && (bits > 1 || more)) || (byte == 0 && shift > 0) {
            return Err(DecodeError::Varint);
        }
        self.value |= bits << shift;
        self.varint_len += 1;
        if more {
            return Ok(None);
        }
        self.varint_len = 0;
        Ok(Some(std::mem::take(&mut self.value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Copies as they are, literals joined.
    #[derive(Clone, PartialEq, Debug)]
    enum Owned {
        Copy(u64, u64),
        Literal(Vec<u8>),
    }

    fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<Owned>, DecodeError> {
        let mut decoder = DeltaDecoder::new();
        let mut all = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while let Some(command) = decoder.next(&mut piece)? {
                match (command, all.last_mut()) {
                    (Command::Copy { offset, len }, _) => all.push(Owned::Copy(offset, len)),
                    (Command::Literal(bytes), Some(Owned::Literal(last))) => last.extend_from_slice(bytes),
                    (Command::Literal(bytes), _) => all.push(Owned::Literal(bytes.to_vec())),
                }
            }
            assert!(piece.is_empty());
        }
        decoder.finish()?;
        Ok(all)
    }

    fn encoded(commands: &[Owned]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = DeltaEncoder::new(&mut bytes).unwrap();
        for command in commands {
            match command {
                Owned::Copy(offset, len) => encoder.command(Command::Copy { offset: *offset, len: *len }).unwrap(),
                Owned::Literal(bytes) => encoder.command(Command::Literal(bytes)).unwrap(),
            }
        }
        let written = encoder.finish().unwrap();
        assert_eq!(written, bytes.len() as u64);
        bytes
    }

    #[test]
    fn version_1_is_pinned() {
        let commands = [Owned::Copy(300, 128), Owned::Literal(b"abc".to_vec()), Owned::Copy(0, u64::MAX)];
        let bytes = *b"\x01\x01\xac\x02\x80\x01\x02\x03abc\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00";
        assert_eq!(encoded(&commands), bytes);
        assert_eq!(decoded(&bytes, 1).unwrap(), commands);
    }

    #[test]
    fn every_malformed_delta_is_refused_for_its_reason_and_stays_refused() {
        let cases: [(&[u8], DecodeError); 11] = [
            (b"", DecodeError::Incomplete),
            (b"\x01", DecodeError::Incomplete),
            (b"\x01\x02\x02a", DecodeError::Incomplete),
            (b"\x02\x00", DecodeError::Version(2)),
            (b"\x01\x03", DecodeError::Tag(3)),
            (b"\x01\x00\x00", DecodeError::Trailing),
            (b"\x01\x01\x05\x00", DecodeError::Empty),
            (b"\x01\x02\x00", DecodeError::Empty),
            (b"\x01\x01\x85\x00\x01\x00", DecodeError::Varint),
            (b"\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", DecodeError::Varint),
            (b"\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x00", DecodeError::Overflow),
        ];
        for (bytes, reason) in cases {
            assert_eq!(decoded(bytes, 1), Err(reason), "{bytes:?}");
            assert_eq!(decoded(bytes, 99), Err(reason), "{bytes:?}");
        }
        let mut decoder = DeltaDecoder::new();
        assert!(decoder.next(&mut &b"\x01\x03"[..]).is_err());
        assert_eq!(decoder.next(&mut &b"\x00"[..]), Err(DecodeError::Tag(3)));
        assert_eq!(decoder.finish(), Err(DecodeError::Tag(3)));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_in_any_pieces(
            commands in prop::collection::vec(
                prop_oneof![
                    (any::<u64>(), 1..u64::MAX).prop_map(|(offset, len)| Owned::Copy(offset.min(u64::MAX - len), len)),
                    prop::collection::vec(any::<u8>(), 1..300).prop_map(Owned::Literal),
                ],
                0..20,
            ),
            piece in 1..400_usize,
        ) {
            let mut joined: Vec<Owned> = Vec::new();
            for command in &commands {
                match (command, joined.last_mut()) {
                    (Owned::Literal(bytes), Some(Owned::Literal(last))) => last.extend_from_slice(bytes),
                    _ => joined.push(command.clone()),
                }
            }
            prop_assert_eq!(decoded(&encoded(&commands), piece).unwrap(), joined);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_pieces_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200), piece in 1..9_usize,
        ) {
            let bytes = [&[DELTA_VERSION], &bytes[..]].concat();
            prop_assert_eq!(decoded(&bytes, piece), decoded(&bytes, 999));
        }
    }
}
