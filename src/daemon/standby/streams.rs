//! Data streams: what arrives of generations goes to the holder, contents go to their [`Lane`](crate::daemon::holder::Lane).
//!
//! A stream of contents and a stream of a generation are read side by side, so that a small generation need not wait for a large content that is
//! sent ahead at the same time. Of each kind one is read after the other.

use std::task::Poll;

use tokio::sync::mpsc;

use crate::daemon::holder::{Holder, Job};
use crate::daemon::primary::SessionError;
use crate::net::link::{DataReceiver, DataStreams};
use crate::thought::session::arrival::{Arrival, ContentsPiece, GenerationPiece, Piece};

/// Of what arrives on a data stream so much goes to the holder at once, at most: this many bytes, and pieces.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_PIECES: usize = 256;

/// Reads data streams as they come; why it ended.
pub(super) async fn read_streams(
    streams: &DataStreams,
    holder: &Holder,
    lane: mpsc::Sender<Vec<Piece>>,
) -> SessionError {
    let (generations, of_generations) = mpsc::channel(1);
    let (contents, of_contents) = mpsc::channel(1);
    let accepted = async {
        loop {
            let opened = match streams.accept_data().await {
                Ok(stream) => Opened::read(stream).await,
                Err(error) => Err(error.into()),
            };
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => return error,
            };
            let lane = if matches!(opened.first, Piece::Generation(_)) { &generations } else { &contents };
            if lane.send(opened).await.is_err() {
                return SessionError::Ending;
            }
        }
    };
    let (holder, lane) = (Sink::Holder(holder), Sink::Lane(lane));
    tokio::select! {
        error = accepted => error,
        error = read_in_turn(of_generations, &holder) => error,
        error = read_in_turn(of_contents, &lane) => error,
    }
}

/// Reads one stream after the other; why it ended.
async fn read_in_turn(mut streams: mpsc::Receiver<Opened>, sink: &Sink<'_>) -> SessionError {
    while let Some(stream) = streams.recv().await {
        if let Err(error) = stream.rest(sink).await {
            return error;
        }
    }
    SessionError::Ending
}

/// A stream of which is known what it is.
struct Opened {
    stream: DataReceiver,
    arrival: Arrival,
    first: Piece,
}

impl Opened {
    async fn read(mut stream: DataReceiver) -> Result<Self, SessionError> {
        let mut arrival = Arrival::default();
        match stream.read_frame().await? {
            Some((kind, payload)) => Ok(Self { first: arrival.frame(kind, payload)?, stream, arrival }),
            None => Err(arrival.finish().err().map_or(SessionError::Closed, SessionError::from)),
        }
    }

    async fn rest(self, sink: &Sink<'_>) -> Result<(), SessionError> {
        let Self { mut stream, mut arrival, first } = self;
        if let Sink::Holder(holder) = sink
            && !holder.may_begin().await
        {
            return Err(SessionError::Ending);
        }
        let mut batch = Batch { sink, pieces: vec![first], bytes: 0 };
        loop {
            // What has arrived goes over together: a job by itself costs the holder's thread a waking.
            let read = match poll_once(stream.read_frame()).await {
                Some(read) => read,
                None => {
                    batch.give().await?;
                    stream.read_frame().await
                }
            };
            let Some((kind, payload)) = read? else { break };
            batch.bytes += payload.len();
            let piece = arrival.frame(kind, payload)?;
            let is_end = matches!(piece, Piece::Generation(GenerationPiece::End) | Piece::Contents(ContentsPiece::End));
            batch.pieces.push(piece);
            if is_end {
                return batch.give().await;
            }
            if batch.bytes >= BATCH_BYTES || batch.pieces.len() >= BATCH_PIECES {
                batch.give().await?;
            }
        }
        Ok(arrival.finish()?)
    }
}

/// Where pieces go.
enum Sink<'a> {
    Holder(&'a Holder),
    Lane(mpsc::Sender<Vec<Piece>>),
}

/// Pieces that go together.
struct Batch<'a> {
    sink: &'a Sink<'a>,
    pieces: Vec<Piece>,
    bytes: usize,
}

impl Batch<'_> {
    async fn give(&mut self) -> Result<(), SessionError> {
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let is_given = match self.sink {
            Sink::Holder(holder) => {
                // A holder that waits is given nothing: what is under way is all that it must keep.
                holder.opened().await;
                holder.give(Job::Arrived(pieces.into_iter().filter_map(of_generation).collect())).await
            }
            Sink::Lane(lane) => lane.send(pieces).await.is_ok(),
        };
        if is_given { Ok(()) } else { Err(SessionError::Ending) }
    }
}

fn of_generation(piece: Piece) -> Option<GenerationPiece> {
    match piece {
        Piece::Generation(piece) => Some(piece),
        Piece::Contents(_) => None,
    }
}

/// What `future` has now, if it need not wait. It is dropped all the same, so it must be one that loses nothing by that.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
