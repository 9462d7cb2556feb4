//! Shipping: generations and contents written to data streams. Blocking; for threads of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::window::Shipment;
use crate::capture::Offer;
use crate::fs::{FileReader, FsError, Root};
use crate::net::NetError;
use crate::net::link::{DataSender, DataStreams, Priority};
use crate::spool::SpoolReader;
use crate::thought::delta::pack::{PackOptions, Packer};
use crate::thought::delta::read_full;
use crate::thought::generation::{FormatError, Operation, Payload};
use crate::thought::tree::ApplyError;
use crate::thought::wire::frame::{BodyError, Frame, FrameError, encode_body};
use crate::thought::wire::message::{CHUNK_BYTES, DATA_CAP, HeldContent, StreamStart, UNTOLD_LENGTH, data};
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// How much is gathered before it is given to the connection.
const GATHER: usize = 128 * 1024;
/// How much of a file is read at a time.
const READ_BYTES: usize = 1 << 20;
/// Contents up to this length are packed in memory before they are sent, longer ones on their way.
const SMALL_BYTES: u64 = 1 << 20;

/// Why something was not shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The link failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A frame could not be made.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message could not be made.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An operation in the window is malformed: a bug.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The spool failed.
    #[error("cannot use a temporary file in the state directory")]
    Spool(#[from] io::Error),
    /// The operations could not be read.
    #[error("cannot read the operations")]
    Operations(#[from] ApplyError),
}

/// A data stream, written from a thread that may block.
pub struct Stream {
    runtime: Handle,
    sender: DataSender,
    gathered: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl Stream {
    /// Opens a stream and says what it is.
    pub fn open(
        runtime: &Handle,
        streams: &DataStreams,
        priority: Priority,
        start: &StreamStart,
        sent: &Arc<AtomicU64>,
    ) -> Result<Self, ShipError> {
        let sender = runtime.block_on(streams.open_data(priority))?;
        let mut stream = Self {
            runtime: runtime.clone(),
            sender,
            gathered: Vec::with_capacity(GATHER + DATA_CAP),
            sent: Arc::clone(sent),
        };
        stream.frame(data::START, &encode_body(start)?)?;
        Ok(stream)
    }

    /// Writes one frame.
    pub fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), ShipError> {
        Frame { kind, payload }.encode(DATA_CAP, &mut self.gathered)?;
        if self.gathered.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ShipError> {
        self.runtime.block_on(self.sender.write_all(&self.gathered))?;
        self.sent.fetch_add(self.gathered.len() as u64, Ordering::Relaxed);
        self.gathered.clear();
        Ok(())
    }

    /// Writes a payload out of a spool.
    pub fn payload(&mut self, spool: &SpoolReader, offset: u64, payload: Payload) -> Result<(), ShipError> {
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(payload.length).unwrap_or(CHUNK_BYTES)).max(1)];
        let mut at = 0;
        while at < payload.length {
            let wanted = usize::try_from(payload.length - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let got = read_full(spool, &mut buffer[..wanted], offset + at)?;
            if got < wanted {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.frame(data::PAYLOAD, &buffer[..wanted])?;
            at += wanted as u64;
        }
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(mut self) -> Result<(), ShipError> {
        self.frame(data::END, &[])?;
        self.flush()?;
        Ok(self.sender.finish()?)
    }
}

/// Ships a generation.
pub fn ship(
    runtime: &Handle,
    streams: &DataStreams,
    shipment: &Shipment,
    sent: &Arc<AtomicU64>,
) -> Result<(), ShipError> {
    let start = StreamStart::Generation { header: shipment.header.encode() };
    let mut stream = Stream::open(runtime, streams, Priority::GENERATION, &start, sent)?;
    let mut failed = None;
    let visited = shipment.operations.all(&mut |record| {
        let shipped = ship_operation(&mut stream, shipment, record);
        shipped.map_err(|error| {
            failed = Some(error);
            ApplyError::Source("the stream ended".into())
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    visited?;
    stream.finish()
}

fn ship_operation(stream: &mut Stream, shipment: &Shipment, record: &[u8]) -> Result<(), ShipError> {
    let (offset, encoded) = record.split_first_chunk::<8>().ok_or(FormatError::Malformed("operation"))?;
    stream.frame(data::OPERATION, encoded)?;
    match Operation::decode(encoded)?.payload {
        Some(payload) => stream.payload(&shipment.payloads, u64::from_le_bytes(*offset), payload),
        None => Ok(()),
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

/// Sends the content of a file ahead, if it still is what was asked for. A small one is packed in memory first; a large one is packed
/// while it is sent, and taken back in the end if it turns out to be another by now.
pub fn send_content(stream: &mut Stream, root: &Root, offer: &Offer) -> Result<Sent, ShipError> {
    let Offer { digest, size, mode, mtime, .. } = *offer;
    let held = |payload, sparse| HeldContent { digest, size, sparse, mode, mtime, payload };
    let file = match root.open_read(&offer.path) {
        Ok(file) if file.opened().size == size => file,
        Ok(_) => return Ok(Sent::Changed),
        Err(error) => return Ok(not_sent(&offer.path, &error)),
    };
    let facts = file.opened();
    let sparse = facts.blocks_512.saturating_mul(512).saturating_add(4096) <= facts.size;
    if size <= SMALL_BYTES {
        let mut packed = Vec::new();
        return match pack(&file, offer, &mut packed) {
            Ok(true) => {
                let payload = Payload { length: packed.len() as u64, unpacked: size };
                stream.frame(data::HELD, &encode_body(&held(payload, sparse))?)?;
                packed.chunks(CHUNK_BYTES).try_for_each(|piece| stream.frame(data::PAYLOAD, piece))?;
                Ok(Sent::Yes)
            }
            Ok(false) => Ok(Sent::Changed),
            Err(PackError::File(error)) => Ok(not_sent(&offer.path, &error)),
            Err(PackError::Out(error)) => Err(error.into()),
        };
    }
    let payload = Payload { length: UNTOLD_LENGTH, unpacked: size };
    stream.frame(data::HELD, &encode_body(&held(payload, sparse))?)?;
    let mut frames = Frames { stream, failed: None };
    let packed = pack(&file, offer, &mut frames);
    if let Some(error) = frames.failed {
        return Err(error);
    }
    let (is_whole, sent) = match packed {
        Ok(true) => (true, Sent::Yes),
        Ok(false) => (false, Sent::Changed),
        Err(PackError::File(error)) => (false, not_sent(&offer.path, &error)),
        Err(PackError::Out(error)) => return Err(error.into()),
    };
    stream.frame(data::HELD_END, &[u8::from(is_whole)])?;
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

enum PackError {
    File(FsError),
    Out(io::Error),
}

/// Packs a file; false if it is not, or no longer, what was asked for.
fn pack(file: &FileReader, offer: &Offer, out: &mut dyn io::Write) -> Result<bool, PackError> {
    let mut hasher = blake3::Hasher::new();
    let mut packer = Packer::new(out, PackOptions::default());
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(offer.size).unwrap_or(READ_BYTES)).max(1)];
    let mut at = 0;
    while at < offer.size {
        let count = file.read_at(&mut buffer, at).map_err(PackError::File)?;
        let count = count.min(usize::try_from(offer.size - at).unwrap_or(count));
        if count == 0 {
            return Ok(false);
        }
        hasher.update(&buffer[..count]);
        packer.write(&buffer[..count]).map_err(PackError::Out)?;
        at += count as u64;
    }
    packer.finish().map_err(PackError::Out)?;
    Ok(Digest::from(hasher.finalize()) == offer.digest)
}
