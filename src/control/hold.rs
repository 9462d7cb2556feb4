//! A hold lasts as long as its connection: the answer to `POST /v1/hold` says at once where the replica stands, and then goes on without end, or
//! ends with the reason why the replica is held no longer.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::oneshot;

/// A replica that is held as long as this is there.
#[derive(Debug)]
pub struct Hold {
    /// Where it stands.
    pub position: String,
    /// Told if it is let go before.
    pub ended: oneshot::Receiver<&'static str>,
    /// Dropped with this, which lets the replica go.
    pub keeper: oneshot::Sender<()>,
}

/// The answer's body, on the daemon's side.
pub(super) struct HoldBody {
    first: Option<Bytes>,
    hold: Option<Hold>,
}

impl From<Hold> for HoldBody {
    fn from(hold: Hold) -> Self {
        Self { first: Some(format!("{}\n", hold.position).into()), hold: Some(hold) }
    }
}

impl Body for HoldBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(hold) = &mut self.hold else { return Poll::Ready(None) };
        let why = match Pin::new(&mut hold.ended).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(why) => why.unwrap_or("the daemon is ending"),
        };
        self.hold = None;
        Poll::Ready(Some(Ok(Frame::data(why.into()))))
    }
}

/// A hold, on the side of the command. Dropping it lets the replica go.
pub struct Held {
    pub(super) connection: Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>,
    pub(super) body: Incoming,
}

impl Held {
    /// What comes next of the answer; `None` at its end, however that came.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let mut frame = pin!(self.body.frame());
        let arrived = tokio::select! {
            biased;
            frame = &mut frame => frame,
            // What had arrived by its end is still there to be read.
            _ = &mut self.connection => frame.await,
        };
        arrived?.ok()?.into_data().ok()
    }

    /// Returns when the replica is held no longer, with the reason.
    pub async fn ended(&mut self) -> String {
        match self.next().await {
            Some(why) => String::from_utf8_lossy(&why).into_owned(),
            None => "the daemon ended".to_owned(),
        }
    }
}
