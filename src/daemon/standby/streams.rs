//! Data streams: what arrives on them goes to the holder.

use std::task::Poll;

use crate::daemon::holder::{Holder, Job};
use crate::daemon::primary::SessionError;
use crate::net::link::{DataReceiver, DataStreams};
use crate::thought::generation::Header;
use crate::thought::wire::frame::body;
use crate::thought::wire::message::{HeldContent, StreamStart, data};

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
    let broken = |what: &str| SessionError::Protocol(format!("a data stream {what}"));
    let (kind, start) = stream.read_frame().await?.ok_or_else(|| broken("is empty"))?;
    if kind != data::START {
        return Err(broken("does not say what it is"));
    }
    let first = match body::<StreamStart>(&start)? {
        StreamStart::Generation { header } => {
            let header = Header::decode(&header).map_err(|error| broken(&format!("has a bad header: {error}")))?;
            if !holder.may_begin().await {
                return Err(SessionError::Ending);
            }
            Job::Begin(Box::new(header))
        }
        StreamStart::Contents => Job::Contents,
    };
    let mut batch = Batch { holder, jobs: vec![first], bytes: 0 };
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
        batch.jobs.push(match kind {
            data::OPERATION => Job::Operation(payload),
            data::PAYLOAD => Job::Payload(payload),
            data::HELD => Job::Hold(body::<HeldContent>(&payload)?),
            data::HELD_END => Job::Held(payload == [1]),
            data::END => Job::End,
            _ => return Err(broken("has a frame of an unknown kind")),
        });
        if kind == data::END {
            return batch.give().await;
        }
        if batch.bytes >= BATCH_BYTES || batch.jobs.len() >= BATCH_JOBS {
            batch.give().await?;
        }
    }
    Err(broken("ended without its end"))
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
