//! Shipping: generations and contents written to data streams. Blocking; for threads of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::window::Shipment;
use crate::net::NetError;
use crate::net::link::{DataSender, DataStreams, Priority};
use crate::spool::SpoolReader;
use crate::thought::delta::read_full;
use crate::thought::generation::{FormatError, Operation, Payload};
use crate::thought::tree::ApplyError;
use crate::thought::wire::frame::{BodyError, Frame, FrameError, encode_body};
use crate::thought::wire::message::{CHUNK_BYTES, DATA_CAP, StreamStart, data};

/// How much is gathered before it is given to the connection.
const GATHER: usize = 128 * 1024;

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
