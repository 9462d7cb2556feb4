//! Data streams: what arrives on them goes to the holder.

use std::task::Poll;

use crate::daemon::holder::{Holder, Job};
use crate::daemon::primary::SessionError;
use crate::net::link::{DataReceiver, DataStreams};
use crate::thought::session::arrival::{Arrival, Piece};

/// Of what arrives on a data stream so much goes to the holder at once, at most: this many bytes, and jobs.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_JOBS: usize = 256;
/// Reads one data stream after the other; why it ended.
pub(super) async fn read_streams(streams: &DataStreams, holder: &Holder) -> SessionError {
    loop {
        let read = match streams.accept_data().await {
            Ok(stream) => read_stream(stream, holder).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = read {
            return error;
        }
    }
}

async fn read_stream(mut stream: DataReceiver, holder: &Holder) -> Result<(), SessionError> {
    let mut arrival = Arrival::default();
    let mut batch = Batch { holder, jobs: Vec::new(), bytes: 0 };
    loop {
        // What has arrived goes over in one piece: a job by itself costs the holder's thread a waking.
        let read = poll_once(stream.read_frame()).await;
        let read = match read {
            Some(read) => read,
            None => {
                batch.give().await?;
                stream.read_frame().await
            }
        };
        let Some((kind, payload)) = read? else { break };
        batch.bytes += payload.len();
        let job = match arrival.frame(kind, payload)? {
            Piece::Begin(header) => {
                if !holder.may_begin().await {
                    return Err(SessionError::Ending);
                }
                Job::Begin(header)
            }
            Piece::Contents => Job::Contents,
            Piece::Operation(bytes) => Job::Operation(bytes),
            Piece::Payload(bytes) => Job::Payload(bytes),
            Piece::Hold(content) => Job::Hold(content),
            Piece::Held(is_whole) => Job::Held(is_whole),
            Piece::End => Job::End,
        };
        let is_end = matches!(job, Job::End);
        batch.jobs.push(job);
        if is_end {
            return batch.give().await;
        }
        if batch.bytes >= BATCH_BYTES || batch.jobs.len() >= BATCH_JOBS {
            batch.give().await?;
        }
    }
    Ok(arrival.finish()?)
}

/// Jobs that go to the holder together.
struct Batch<'a> {
    holder: &'a Holder,
    jobs: Vec<Job>,
    bytes: usize,
}

impl Batch<'_> {
    async fn give(&mut self) -> Result<(), SessionError> {
        self.bytes = 0;
        let jobs = std::mem::take(&mut self.jobs);
        // A holder that waits is given nothing: what is under way is all that it must keep.
        self.holder.opened().await;
        if jobs.is_empty() || self.holder.give(Job::Several(jobs)).await { Ok(()) } else { Err(SessionError::Ending) }
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
