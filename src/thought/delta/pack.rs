//! Packing: zstd where it helps, as it is where it does not.
//!
//! **Format.** One byte, `0x01` raw or `0x02` zstd, then the bytes as they are, or exactly one zstd frame with a window of at most 8 MiB.
//! Nothing may follow. The length of what comes out is agreed elsewhere; the reader is told it and never gives more.
//!
//! Jenkins homes hold logs and XML (a log measured 12 times smaller) beside jars and archives, packed already: the first 64 KiB decide. What has
//! holes is packed always.

use std::cell::RefCell;
use std::io;

use thiserror::Error;
use zstd::bulk::Compressor;
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

const RAW: u8 = 1;
const ZSTD: u8 = 2;
/// The largest window a frame may ask the reader to keep: 2^23 = 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// How much is written out, or given out, at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// How bytes are packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum Packing {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// When and how hard to pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackOptions {
    /// Of zstd: 1 (fast) to 19.
    pub level: i32,
    /// How many of the first bytes decide.
    pub sample_bytes: usize,
    /// How much of the sample must be saved at level 1, in percent.
    pub saving_percent: u8,
    /// It is packed whatever the sample says.
    pub always: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { level: 1, sample_bytes: 64 * 1024, saving_percent: 10, always: false }
    }
}

impl PackOptions {
    /// For a file that has holes or not: those are nothing when packed, whatever it begins with.
    pub fn of_file(has_holes: bool) -> Self {
        Self { always: has_holes, ..Self::default() }
    }

    /// How a content is to be packed that begins with `sample`.
    pub fn choose(&self, sample: &[u8]) -> Packing {
        if self.pack_sample(sample).is_some() { Packing::Zstd } else { Packing::Raw }
    }

    /// `sample` as one frame of level [`SAMPLE_LEVEL`], if that saves enough.
    fn pack_sample(&self, sample: &[u8]) -> Option<Vec<u8>> {
        let saving = usize::from(self.saving_percent.min(100));
        // No memory for it: then it goes as it is.
        let packed = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(sample).ok())?;
        let saves = packed.len() as u128 * 100 <= sample.len() as u128 * (100 - saving) as u128;
        (self.always || saves).then_some(packed)
    }
}

/// Samples are packed at this level, whatever the content is packed at afterwards.
const SAMPLE_LEVEL: i32 = 1;

thread_local! {
    /// Kept, because making one costs more than packing a small file with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(SAMPLE_LEVEL).ok());
    /// The same for unpacking: the decoder of the last content, whose window (8 MiB at most) it keeps.
    static SPARE_DECODER: RefCell<Option<Box<Decoder<'static>>>> = const { RefCell::new(None) };
}

/// What packing came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackStats {
    /// What was chosen.
    pub packing: Packing,
    /// Bytes in.
    pub raw_bytes: u64,
    /// Bytes out, with the first one.
    pub packed_bytes: u64,
}

/// What a packer does with the bytes it gets.
enum Stage {
    Sampling(Vec<u8>),
    Raw,
    Zstd(Box<Encoder<'static>>),
    /// The sample was all there is, and is packed.
    Ended,
}

/// Packs a content fed in pieces of any size. Memory: the sample, one buffer of 128 KiB and zstd's own, which grows with the level.
pub struct Packer<'w> {
    out: &'w mut dyn io::Write,
    options: PackOptions,
    stage: Stage,
    raw_bytes: u64,
    packed_bytes: u64,
}

impl<'w> Packer<'w> {
    /// Packs onto `out`.
    pub fn new(out: &'w mut dyn io::Write, options: PackOptions) -> Self {
        Self { out, options, stage: Stage::Sampling(Vec::new()), raw_bytes: 0, packed_bytes: 0 }
    }

    /// Feeds the next bytes.
    ///
    /// # Errors
    /// Those of `out`; zstd's, when there is no memory.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw_bytes += bytes.len() as u64;
        if let Stage::Sampling(sample) = &mut self.stage {
            let (fill, rest) = bytes.split_at(bytes.len().min(self.options.sample_bytes - sample.len()));
            sample.extend_from_slice(fill);
            if rest.is_empty() {
                return Ok(());
            }
            self.decide(false)?;
            return self.pass(rest);
        }
        self.pass(bytes)
    }

    /// Ends the content. Without this it is incomplete and will be refused.
    ///
    /// # Errors
    /// As of [`Packer::write`].
    pub fn finish(mut self) -> io::Result<PackStats> {
        self.decide(true)?;
        if matches!(self.stage, Stage::Ended) {
            let Self { raw_bytes, packed_bytes, .. } = self;
            return Ok(PackStats { packing: Packing::Zstd, raw_bytes, packed_bytes });
        }
        let mut packing = Packing::Raw;
        if let Stage::Zstd(encoder) = &mut self.stage {
            packing = Packing::Zstd;
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let mut output = OutBuffer::around(buffer.as_mut_slice());
                let left = encoder.finish(&mut output, true)?;
                self.out.write_all(output.as_slice())?;
                self.packed_bytes += output.as_slice().len() as u64;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(PackStats { packing, raw_bytes: self.raw_bytes, packed_bytes: self.packed_bytes })
    }

    /// Decides by the sample, which `is_all` of the content or its beginning.
    fn decide(&mut self, is_all: bool) -> io::Result<()> {
        let Stage::Sampling(sample) = &mut self.stage else { return Ok(()) };
        let sample = std::mem::take(sample);
        let (tag, stage) = match self.options.pack_sample(&sample) {
            None => (RAW, Stage::Raw),
            // A small file is packed already.
            Some(frame) if is_all && self.options.level == SAMPLE_LEVEL => {
                self.stage = Stage::Ended;
                self.out.write_all(&[ZSTD])?;
                self.packed_bytes = 1 + frame.len() as u64;
                return self.out.write_all(&frame);
            }
            Some(_) => {
                let mut encoder = Encoder::new(self.options.level)?;
                // Levels of 20 and more would want windows that no reader here keeps.
                if self.options.level >= 20 {
                    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG_MAX))?;
                }
                (ZSTD, Stage::Zstd(Box::new(encoder)))
            }
        };
        self.out.write_all(&[tag])?;
        self.packed_bytes += 1;
        self.stage = stage;
        self.pass(&sample)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Stage::Zstd(encoder) = &mut self.stage else {
            self.packed_bytes += bytes.len() as u64;
            return self.out.write_all(bytes);
        };
        let mut buffer = vec![0; BUFFER_BYTES.min(bytes.len() + 1024)];
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            let mut output = OutBuffer::around(buffer.as_mut_slice());
            encoder.run(&mut input, &mut output)?;
            self.out.write_all(output.as_slice())?;
            self.packed_bytes += output.as_slice().len() as u64;
        }
        Ok(())
    }
}

/// For what writes as it goes, such as a delta.
impl io::Write for Packer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Packer::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why packed bytes are refused.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The first byte says neither.
    #[error("packing {0:#04x} is not known")]
    Packing(u8),
    /// Not a zstd frame, or one that wants a larger window than is kept here.
    #[error("malformed zstd frame")]
    Frame(#[source] io::Error),
    /// More comes out than was announced.
    #[error("more than the {expected_len} bytes announced come out")]
    TooLong {
        /// Announced length in bytes.
        expected_len: u64,
    },
    /// Less comes out than was announced.
    #[error("{found} of the {expected_len} bytes announced come out")]
    TooShort {
        /// Announced length in bytes.
        expected_len: u64,
        /// How many there were.
        found: u64,
    },
    /// The frame has no end.
    #[error("the zstd frame is cut short")]
    Incomplete,
    /// Bytes behind the frame.
    #[error("bytes behind the zstd frame")]
    Trailing,
    /// What comes out cannot be written.
    #[error("writing what was unpacked, at {offset}")]
    Write {
        /// Where in it.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How an unpacker reads the bytes it gets.
enum Source {
    Unknown,
    Raw,
    Zstd { decoder: Box<Decoder<'static>>, buffer: Vec<u8>, ended: bool },
}

/// Unpacks a content fed in pieces of any size. Memory: at most the window (8 MiB) and one buffer of 128 KiB.
pub struct Unpacker {
    source: Source,
    expected_len: u64,
    position: u64,
}

impl Unpacker {
    /// For a content of exactly `expected_len` bytes.
    pub fn new(expected_len: u64) -> Self {
        Self { source: Source::Unknown, expected_len, position: 0 }
    }

    /// Takes the next packed bytes and gives what they hold to `out`, in order.
    ///
    /// # Errors
    /// [`UnpackError`]; what was given to `out` before is then of no use, nor is this.
    pub fn feed(&mut self, mut packed: &[u8], out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), UnpackError> {
        if let (Source::Unknown, Some((tag, rest))) = (&self.source, packed.split_first()) {
            self.source = match *tag {
                RAW => Source::Raw,
                ZSTD => {
                    let decoder = decoder().map_err(UnpackError::Frame)?;
                    // Never longer than what may come out, and the byte by which that is too much.
                    let room = usize::try_from(self.expected_len).unwrap_or(BUFFER_BYTES).saturating_add(1);
                    let buffer = vec![0; room.min(BUFFER_BYTES)];
                    Source::Zstd { decoder, buffer, ended: false }
                }
                other => return Err(UnpackError::Packing(other)),
            };
            packed = rest;
        }
        let room = (self.expected_len, &mut self.position);
        match &mut self.source {
            Source::Raw if !packed.is_empty() => give(packed, room.0, room.1, out),
            Source::Unknown | Source::Raw => Ok(()),
            Source::Zstd { decoder, buffer, ended } => {
                let mut input = InBuffer::around(packed);
                loop {
                    if *ended {
                        return if input.pos() < packed.len() { Err(UnpackError::Trailing) } else { Ok(()) };
                    }
                    let before = input.pos();
                    let room_bytes = buffer.len();
                    let mut output = OutBuffer::around(buffer.as_mut_slice());
                    *ended = decoder.run(&mut input, &mut output).map_err(UnpackError::Frame)? == 0;
                    let produced = output.as_slice();
                    let full = produced.len() == room_bytes;
                    let stuck = input.pos() == before && produced.is_empty();
                    give(produced, room.0, room.1, out)?;
                    // Not full: zstd has given all it can of what it was fed.
                    if !*ended && (stuck || (input.pos() == packed.len() && !full)) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// How many bytes were given out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// To be called behind the last packed byte.
    ///
    /// # Errors
    /// If the frame has no end, or less came out than announced.
    pub fn finish(self) -> Result<(), UnpackError> {
        match &self.source {
            Source::Unknown | Source::Zstd { ended: false, .. } => Err(UnpackError::Incomplete),
            _ if self.position < self.expected_len => {
                Err(UnpackError::TooShort { expected_len: self.expected_len, found: self.position })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        if let Source::Zstd { decoder, .. } = std::mem::replace(&mut self.source, Source::Unknown) {
            SPARE_DECODER.set(Some(decoder));
        }
    }
}

/// A decoder at the beginning of a frame.
fn decoder() -> io::Result<Box<Decoder<'static>>> {
    if let Some(mut spare) = SPARE_DECODER.take() {
        spare.reinit()?;
        return Ok(spare);
    }
    let mut decoder = Box::new(Decoder::new()?);
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn give(
    bytes: &[u8],
    expected_len: u64,
    position: &mut u64,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), UnpackError> {
    if bytes.len() as u64 > expected_len - *position {
        return Err(UnpackError::TooLong { expected_len });
    }
    if !bytes.is_empty() {
        out(bytes).map_err(|source| UnpackError::Write { offset: *position, source })?;
        *position += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
