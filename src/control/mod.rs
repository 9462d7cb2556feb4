//! How commands reach the daemon: HTTP and JSON over a Unix socket, `<state>/control.sock`, mode 0600.
//!
//! The server knows nothing of replication. Every HTTP request becomes a [`Request`] with a [`Reply`] in it, goes through one
//! bounded channel to the task that owns the daemon's state, and waits for that task's word.
//!
//! | method and path | body | answer (200) |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/wait` | [`WaitAsk`] | [`WaitOutcome`] |
//! | `POST /v1/verify` | [`VerifyAsk`] | [`VerifyReport`] |
//! | `POST /v1/resync` | [`ResyncAsk`] | [`ResyncReport`] |
//! | `POST /v1/hold` | [`HoldAsk`] | the position, and then nothing as long as the replica is held: see [`Hold`] |
//! | `POST /v1/pause`, `POST /v1/resume` | | `{}` |
//! | `POST /v1/release` | | [`ReleaseOutcome`] |
//! | `POST /v1/trust` | [`TrustAsk`] | [`Trusting`] |
//! | `POST /v1/rotate` | [`RotateAsk`] | [`Rotation`] |
//! | `POST /v1/untrust` | [`UntrustAsk`] | `{}` |
//!
//! Anything else than 200 carries a [`Refusal`]: 400 for `usage`, 503 for `unreachable`, 409 for `guard`, 500 for `other`. Paths
//! are written as [`PathText`] says. Bodies are at most [`BODY_MAX`] bytes.

mod client;
mod hold;
mod messages;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::oneshot;

pub use client::{Client, ClientError};
pub use hold::{Held, Hold};
pub use messages::{
    Difference, HoldAsk, PathKind, PeerReport, PeerWait, Refusal, RefusalClass, ReleaseOutcome, ResyncAsk,
    ResyncReport, ResyncedPeer, RotateAsk, Rotation, TrustAsk, Trusting, UntrustAsk, VerifyAsk, VerifyReport, WaitAsk,
    WaitOutcome, What,
};
pub use server::{ServeError, Server, serve};

use crate::observe::status::Status;
use crate::words::path::RelPath;
use crate::words::position::NodeName;

#[cfg(doc)]
use crate::observe::PathText;

/// The longest body accepted, in bytes: room for thousands of paths, and no more memory than that.
pub const BODY_MAX: usize = 1024 * 1024;

/// What somebody asks of the daemon.
#[derive(Debug)]
pub enum Request {
    /// What it says of itself.
    Status(Reply<Status>),
    /// An answer as soon as all written so far is acked, or the time is over.
    Wait {
        /// By how many standbys; `None`: by every one that is trusted.
        standbys: Option<usize>,
        /// After this long the answer is `reached: false`; `None`: never.
        timeout: Option<Duration>,
        /// Where the answer goes.
        reply: Reply<WaitOutcome>,
    },
    /// A comparison of the home with its replicas.
    Verify {
        /// Only these and what is below them; empty: everything.
        paths: Vec<RelPath>,
        /// Where the answer goes.
        reply: Reply<VerifyReport>,
    },
    /// A comparison of both sides, and what mends them.
    Resync {
        /// What is asked for.
        asked: ResyncAsk,
        /// Where the answer goes.
        reply: Reply<ResyncReport>,
    },
    /// Keep the replica still.
    Hold {
        /// At most so long.
        longest: Duration,
        /// Where the hold goes.
        reply: Reply<Hold>,
    },
    /// Replicate nothing until it is resumed, over restarts too.
    Pause(Reply<()>),
    /// Go on after a pause.
    Resume(Reply<()>),
    /// Let through what a guard holds back.
    Release(Reply<ReleaseOutcome>),
    /// Believe a node, from now on and after a restart.
    Trust {
        /// Its id, `hs1-...`; not checked yet.
        id: String,
        /// Its name.
        name: NodeName,
        /// Beside the ids that are trusted under that name, not instead of them.
        also: bool,
        /// Where the answer goes.
        reply: Reply<Trusting>,
    },
    /// Change this node's key.
    Rotate {
        /// Without waiting for peers that do not know the new one.
        now: bool,
        /// Where the answer goes.
        reply: Reply<Rotation>,
    },
    /// Believe a node no longer, and end its links.
    Untrust {
        /// Its id, `hs1-...`; not checked yet.
        id: String,
        /// Where the answer goes.
        reply: Reply<()>,
    },
}

/// Where an answer goes. Dropping it answers that the daemon is ending.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, Refusal>>);

impl Request {
    /// Answers with a no, whatever is asked.
    pub fn refuse(self, refusal: Refusal) {
        match self {
            Self::Status(reply) => reply.send(Err(refusal)),
            Self::Wait { reply, .. } => reply.send(Err(refusal)),
            Self::Verify { reply, .. } => reply.send(Err(refusal)),
            Self::Resync { reply, .. } => reply.send(Err(refusal)),
            Self::Hold { reply, .. } => reply.send(Err(refusal)),
            Self::Pause(reply) | Self::Resume(reply) => reply.send(Err(refusal)),
            Self::Release(reply) => reply.send(Err(refusal)),
            Self::Trust { reply, .. } => reply.send(Err(refusal)),
            Self::Rotate { reply, .. } => reply.send(Err(refusal)),
            Self::Untrust { reply, .. } => reply.send(Err(refusal)),
        }
    }
}

impl<T> Reply<T> {
    fn pair() -> (Self, oneshot::Receiver<Result<T, Refusal>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. Whoever asked may be gone; that is no error.
    pub fn send(self, answer: Result<T, Refusal>) {
        drop(self.0.send(answer));
    }

    /// True once whoever asked is gone, so that the work may be left.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}
