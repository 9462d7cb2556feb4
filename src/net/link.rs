//! What runs over a connection: one control stream with frames both ways, and data streams.
//!
//! **Control stream, version 1.** The first stream with both directions, opened by the dialer, which at once sends one frame of kind
//! [`OPENING_KIND`] without payload: QUIC shows a stream to the other side only when something was written to it. After that either
//! side sends frames whenever it likes; their kinds are the protocol's.
//!
//! **Data streams.** One direction each, opened by whoever sends, at most [`DATA_STREAMS`](super::endpoint::DATA_STREAMS) at once.
//! Frames and raw bytes may follow each other on one: reading a frame takes no byte beyond it.
//!
//! **Invariant:** a stream that its sender dropped unfinished is reset, never ended, so that a task that was cancelled cannot make a part
//! look like the whole.
//!
//! **Cancelling.** `recv`, `read`, `read_frame` and `accept_data` may be dropped at any await and lose nothing. A `send` dropped half way leaves
//! the rest of its frame to be written by the next call: frames are late, or were never begun, but never torn. `read_exact`, `write_all` and
//! `write_frame` on data streams may not be repeated after being dropped: drop the stream.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout;

use super::NetError;
use super::connection::Connection;
use crate::thought::session::bucket::Bucket;
use crate::thought::wire::frame::{Frame, FrameDecoder, FrameError};
use crate::thought::wire::message::Bandwidth;

/// The kind of the frame that opens a control stream. Only its place, as the very first, gives it its meaning.
pub const OPENING_KIND: u8 = 0xff;

/// Sent with the reset of a stream that was dropped unfinished.
const RESET_ABANDONED: u32 = 0;

/// Which stream's bytes go first when not all can go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(i32);

impl Priority {
    /// Heartbeats, acks, reigns: the control stream.
    pub const CONTROL: Self = Self(2);
    /// The generation at the live edge.
    pub const GENERATION: Self = Self(1);
    /// Big files shipped ahead, catching up, scrubbing.
    pub const BULK: Self = Self(0);
}

/// A connection with its control stream open.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    sender: ControlSender,
    receiver: ControlReceiver,
}

impl Link {
    /// The dialer's side. Does not wait for the peer: whether it accepts this node is known at the first `recv`.
    pub async fn open(connection: Connection) -> Result<Self, NetError> {
        let (send, recv) = connection.quinn().open_bi().await.map_err(|error| connection.explain(error))?;
        let mut link = Self::over(connection, send, recv);
        link.send(OPENING_KIND, &[]).await?;
        Ok(link)
    }

    /// The accepting side: waits for the dialer's control stream, at most
    /// [`Limits::handshake_timeout`](super::endpoint::Limits::handshake_timeout).
    pub async fn accept(connection: Connection) -> Result<Self, NetError> {
        let address = connection.remote_addr();
        let opened = async {
            let (send, recv) = connection.quinn().accept_bi().await.map_err(|error| connection.explain(error))?;
            let mut link = Self::over(connection.clone(), send, recv);
            match link.recv().await? {
                Some((OPENING_KIND, payload)) if payload.is_empty() => Ok(link),
                _ => Err(NetError::NoControl { address }),
            }
        };
        timeout(connection.limits().handshake_timeout, opened).await.unwrap_or(Err(NetError::NoControl { address }))
    }

    fn over(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        let sender =
            ControlSender { stream: Sending::new(send, &connection, Priority::CONTROL), rest: Vec::new(), sent: 0 };
        let receiver = ControlReceiver { stream: Receiving::new(recv, &connection) };
        Self { connection, sender, receiver }
    }

    /// The connection underneath.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// See [`ControlSender::send`].
    pub async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<(), NetError> {
        self.sender.send(kind, payload).await
    }

    /// See [`ControlReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<(u8, Vec<u8>)>, NetError> {
        self.receiver.recv().await
    }

    /// The two directions and the connection, for tasks of their own.
    pub fn split(self) -> (ControlSender, ControlReceiver, DataStreams) {
        (self.sender, self.receiver, DataStreams { connection: self.connection, pace: None })
    }

    /// See [`DataStreams::open_data`].
    pub async fn open_data(&self, priority: Priority) -> Result<DataSender, NetError> {
        open_data(&self.connection, priority).await
    }

    /// See [`DataStreams::accept_data`].
    pub async fn accept_data(&self) -> Result<DataReceiver, NetError> {
        accept_data(&self.connection).await
    }
}

/// The data streams of a link that was split. Clones serve the same connection.
#[derive(Debug, Clone)]
pub struct DataStreams {
    connection: Connection,
    pace: Option<Arc<Mutex<Bucket>>>,
}

impl DataStreams {
    /// The connection underneath.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lets all data streams that are opened here, and on clones made from here, send no more than `bandwidth` together. It is what is written
    /// that counts, before QUIC adds its own; the control stream is never slowed.
    #[must_use]
    pub fn paced(self, bandwidth: Bandwidth) -> Self {
        Self { pace: Some(Arc::new(Mutex::new(Bucket::new(bandwidth, now())))), ..self }
    }

    /// Opens a data stream; waits while as many are open as the peer allows. The peer sees it when something is written.
    pub async fn open_data(&self, priority: Priority) -> Result<DataSender, NetError> {
        let sender = open_data(&self.connection, priority).await?;
        Ok(DataSender { pace: self.pace.clone(), ..sender })
    }

    /// The next data stream that the peer opened.
    pub async fn accept_data(&self) -> Result<DataReceiver, NetError> {
        accept_data(&self.connection).await
    }
}

async fn open_data(connection: &Connection, priority: Priority) -> Result<DataSender, NetError> {
    let stream = connection.quinn().open_uni().await.map_err(|error| connection.explain(error))?;
    Ok(DataSender { stream: Sending::new(stream, connection, priority), pace: None })
}

async fn accept_data(connection: &Connection) -> Result<DataReceiver, NetError> {
    let stream = connection.quinn().accept_uni().await.map_err(|error| connection.explain(error))?;
    Ok(DataReceiver(Receiving::new(stream, connection)))
}

/// The control stream towards the peer.
#[derive(Debug)]
pub struct ControlSender {
    stream: Sending,
    /// A frame on its way, and how much of it is written.
    rest: Vec<u8>,
    sent: usize,
}

impl ControlSender {
    /// Sends one frame; returns when QUIC has taken it, not when the peer has it. Errors: too long for the peer, or the
    /// connection's end.
    pub async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<(), NetError> {
        // What a cancelled call left behind comes first; so at most one frame ever waits.
        self.flush().await?;
        self.rest.clear();
        self.sent = 0;
        self.stream.encode(kind, payload, &mut self.rest)?;
        self.flush().await
    }

    /// Says that no more frames come: the peer's `recv` gives `None` after the last.
    pub async fn finish(mut self) -> Result<(), NetError> {
        self.flush().await?;
        self.stream.finish()
    }

    async fn flush(&mut self) -> Result<(), NetError> {
        while self.sent < self.rest.len() {
            self.sent += self.stream.write(&self.rest[self.sent..]).await?;
        }
        Ok(())
    }
}

/// The control stream from the peer.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: Receiving,
}

impl ControlReceiver {
    /// The next frame, kind and payload; `None` when the peer finished its side. Safe in `tokio::select!`. An error is final.
    ///
    /// The first call on the dialer's side is where a peer's refusal shows: [`NetError::NotTrusted`].
    pub async fn recv(&mut self) -> Result<Option<(u8, Vec<u8>)>, NetError> {
        self.stream.read_frame().await
    }
}

/// One outgoing data stream. Dropped without [`finish`](Self::finish) it is reset.
#[derive(Debug)]
pub struct DataSender {
    stream: Sending,
    pace: Option<Arc<Mutex<Bucket>>>,
}

/// So much is written at a time where the pace is set.
const PACED_BYTES: usize = 32 * 1024;

impl DataSender {
    /// Writes all of `bytes`; waits while the windows are full, and as long as the pace asks.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        let Some(pace) = &self.pace else { return self.stream.write_all(bytes).await };
        for piece in bytes.chunks(PACED_BYTES) {
            let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).take(piece.len() as u64, now());
            tokio::time::sleep(wait).await;
            self.stream.write_all(piece).await?;
        }
        Ok(())
    }

    /// Writes one frame.
    pub async fn write_frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), NetError> {
        let mut bytes = Vec::new();
        self.stream.encode(kind, payload, &mut bytes)?;
        self.write_all(&bytes).await
    }

    /// Ends the stream. What was written still goes out; that it arrived is only known when the peer says so.
    pub fn finish(mut self) -> Result<(), NetError> {
        self.stream.finish()
    }

    /// Gives the stream up; the peer's reads fail with `code`, whatever it has not read yet.
    pub fn reset(mut self, code: u32) {
        self.stream.reset(code);
    }
}

#[expect(clippy::disallowed_methods, reason = "links own their pace")]
fn now() -> Instant {
    Instant::now()
}

/// One incoming data stream. Dropped early, the peer's writes fail.
#[derive(Debug)]
pub struct DataReceiver(Receiving);

impl DataReceiver {
    /// Reads what is there, at least one byte, into `buffer`; 0 at the end of the stream (or for an empty `buffer`).
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NetError> {
        self.0.read(buffer).await
    }

    /// Fills `buffer`. Errors: [`NetError::EndedEarly`], among the others.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), NetError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]).await? {
                0 => return Err(NetError::EndedEarly { address: self.0.address() }),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Reads one frame, kind and payload, and no byte beyond it; `None` at the end of the stream.
    pub async fn read_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, NetError> {
        self.0.read_frame().await
    }

    /// Gives the stream up; the peer's writes fail with `code`.
    pub fn stop(mut self, code: u32) {
        self.0.stop(code);
    }
}

/// A sending stream with the connection it belongs to, which it keeps open and by which its errors are told.
#[derive(Debug)]
struct Sending {
    stream: SendStream,
    connection: Connection,
    ended: bool,
}

impl Sending {
    fn new(stream: SendStream, connection: &Connection, priority: Priority) -> Self {
        // Fails only for a stream that is closed already; its first write says so.
        stream.set_priority(priority.0).ok();
        Self { stream, connection: connection.clone(), ended: false }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<usize, NetError> {
        self.stream.write(bytes).await.map_err(|error| self.explain(error))
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        self.stream.write_all(bytes).await.map_err(|error| self.explain(error))
    }

    fn encode(&self, kind: u8, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NetError> {
        let cap_bytes = self.connection.limits().frame_cap_bytes;
        let address = self.connection.remote_addr();
        Frame { kind, payload }.encode(cap_bytes, out).map_err(|source| NetError::Frame { address, source })
    }

    fn finish(&mut self) -> Result<(), NetError> {
        self.ended = true;
        self.stream.finish().map_err(|_| self.explain(WriteError::ClosedStream))
    }

    fn reset(&mut self, code: u32) {
        self.ended = true;
        // Fails only if the stream is over already.
        self.stream.reset(VarInt::from_u32(code)).ok();
    }

    fn explain(&self, error: WriteError) -> NetError {
        let address = self.connection.remote_addr();
        match error {
            WriteError::Stopped(code) => NetError::Stopped { address, code: code.into_inner() },
            WriteError::ConnectionLost(error) => self.connection.explain(error),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => NetError::Closed { address },
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // quinn would finish the stream.
        if !self.ended {
            self.reset(RESET_ABANDONED);
        }
    }
}

/// A receiving stream with the connection it belongs to, which it keeps open and by which its errors are told.
#[derive(Debug)]
struct Receiving {
    stream: RecvStream,
    connection: Connection,
    decoder: FrameDecoder,
}

impl Receiving {
    fn new(stream: RecvStream, connection: &Connection) -> Self {
        let decoder = FrameDecoder::new(connection.limits().frame_cap_bytes);
        Self { stream, connection: connection.clone(), decoder }
    }

    fn address(&self) -> SocketAddr {
        self.connection.remote_addr()
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NetError> {
        // A frame that was begun and given up must not be taken for raw bytes from its middle on.
        self.decoder.finish().map_err(|source| self.no_frame(source))?;
        Ok(self.stream.read(buffer).await.map_err(|error| self.explain(error))?.unwrap_or(0))
    }

    /// **Invariant:** whatever was read has been fed before the next await, so that cancelling loses nothing.
    async fn read_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, NetError> {
        loop {
            if let Some(frame) = self.decoder.pull().map_err(|source| self.no_frame(source))? {
                return Ok(Some(frame));
            }
            let missing_bytes = self.decoder.missing_bytes();
            let Some(chunk) = self.stream.read_chunk(missing_bytes, true).await.map_err(|error| self.explain(error))?
            else {
                self.decoder.finish().map_err(|source| self.no_frame(source))?;
                return Ok(None);
            };
            self.decoder.feed(&chunk.bytes).map_err(|source| self.no_frame(source))?;
        }
    }

    fn stop(&mut self, code: u32) {
        // Fails only if the stream is over already.
        self.stream.stop(VarInt::from_u32(code)).ok();
    }

    fn no_frame(&self, source: FrameError) -> NetError {
        NetError::Frame { address: self.address(), source }
    }

    fn explain(&self, error: ReadError) -> NetError {
        let address = self.address();
        match error {
            ReadError::Reset(code) => NetError::Reset { address, code: code.into_inner() },
            ReadError::ConnectionLost(error) => self.connection.explain(error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                NetError::Closed { address }
            }
        }
    }
}

#[cfg(test)]
mod tests;
