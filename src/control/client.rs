//! The side of the commands.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use axum::http::{Method, Request as HttpRequest, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::net::UnixStream;

use super::{
    Held, HoldAsk, Refusal, ReleaseOutcome, ResyncAsk, ResyncReport, RotateAsk, Rotation, TrustAsk, Trusting,
    UntrustAsk, VerifyAsk, VerifyReport, WaitAsk, WaitOutcome,
};
use crate::observe::PathText;
use crate::observe::status::Status;
use crate::words::path::RelPath;
use crate::words::position::NodeName;

/// The longest answer read, in bytes: a `verify` that lists all the differences it may, at long paths.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// A daemon that owes nothing but a look at its own state has answered by then.
const PROMPT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: there is no such socket, or it was left by a daemon that was killed.
    #[error("no daemon is running for this configuration (socket {})", .0.display())]
    NoDaemon(PathBuf),
    /// The socket cannot be connected to.
    #[error("cannot connect to the daemon (socket {})", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the whole answer was here.
    #[error("the daemon broke off its answer to {question}")]
    Exchange {
        /// The question's path.
        question: &'static str,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("the daemon did not answer {question} within {} s", after.as_secs())]
    Silent {
        /// The question's path.
        question: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer is none that this program understands: the daemon is of another version.
    #[error(
        "the daemon's answer to {question} (HTTP {status}) makes no sense; is it of the same version as this command?"
    )]
    Answer {
        /// The question's path.
        question: &'static str,
        /// The HTTP status.
        status: u16,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon said no.
    #[error("the daemon refused")]
    Refused(#[source] Refusal),
}

/// A way to a daemon that was there when it was made. Every question takes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Finds out whether a daemon listens on `socket`.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let client = Self { socket: socket.to_path_buf() };
        client.open().await?;
        Ok(client)
    }

    /// What the daemon says of itself.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status", Bytes::new(), Some(PROMPT)).await
    }

    /// Returns when all written so far is acked by `standbys` (`None`: every trusted one), or after `timeout`.
    pub async fn wait(&self, standbys: Option<usize>, timeout: Option<Duration>) -> Result<WaitOutcome, ClientError> {
        let timeout_milliseconds = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let patience = timeout.map(|timeout| timeout.saturating_add(PROMPT));
        self.post("/v1/wait", &WaitAsk { standbys, timeout_milliseconds }, patience).await
    }

    /// Compares the home with its replicas at and below `paths` (none: everywhere).
    pub async fn verify(&self, paths: Vec<RelPath>) -> Result<VerifyReport, ClientError> {
        let paths = paths.into_iter().map(PathText).collect();
        self.post("/v1/verify", &VerifyAsk { paths }, None).await
    }

    /// Compares both sides at and below `paths` (none: everywhere) and mends what differs, unless it is a `dry_run`.
    pub async fn resync(
        &self,
        paths: Vec<RelPath>,
        checksum: bool,
        dry_run: bool,
    ) -> Result<ResyncReport, ClientError> {
        let paths = paths.into_iter().map(PathText).collect();
        self.post("/v1/resync", &ResyncAsk { paths, checksum, dry_run }, None).await
    }

    /// Has the replica stand still for as long as the answer is kept, `longest` at most.
    pub async fn hold(&self, longest: Duration) -> Result<Held, ClientError> {
        let question = "/v1/hold";
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Exchange { question, source };
        let longest_milliseconds = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let body = serde_json::to_vec(&HoldAsk { longest_milliseconds }).map_err(|source| failed(source.into()))?;
        let stream = self.open().await?;
        let request = request(Method::POST, question, body.into()).map_err(|source| failed(source.into()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| failed(source.into()))?;
        let mut connection: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(connection);
        let response = tokio::select! {
            response = sender.send_request(request) => response.map_err(|source| failed(source.into()))?,
            _ = &mut connection => return Err(failed("it closed the connection".into())),
        };
        let status = response.status();
        let mut held = Held { connection, body: response.into_body() };
        let first = held.next().await.unwrap_or_default();
        if status == StatusCode::OK {
            return Ok(held);
        }
        let senseless = |source| ClientError::Answer { question, status: status.as_u16(), source };
        Err(ClientError::Refused(serde_json::from_slice(&first).map_err(senseless)?))
    }

    /// Pauses replication of the daemon's node.
    pub async fn pause(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/pause", Bytes::new(), Some(PROMPT)).await.map(|IgnoredAny| ())
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/resume", Bytes::new(), Some(PROMPT)).await.map(|IgnoredAny| ())
    }

    /// Lets through what a guard holds back; returns when it is taken.
    pub async fn release(&self) -> Result<ReleaseOutcome, ClientError> {
        self.ask(Method::POST, "/v1/release", Bytes::new(), None).await
    }

    /// Has the daemon believe a node, instead of the ids it knew under that name, or `also`, beside them.
    pub async fn trust(&self, id: String, name: NodeName, also: bool) -> Result<Trusting, ClientError> {
        self.post("/v1/trust", &TrustAsk { id, name, also }, Some(PROMPT)).await
    }

    /// Has the daemon change its key.
    pub async fn rotate(&self, now: bool) -> Result<Rotation, ClientError> {
        self.post("/v1/rotate", &RotateAsk { now }, Some(PROMPT)).await
    }

    /// Has the daemon believe a node no longer.
    pub async fn untrust(&self, id: String) -> Result<(), ClientError> {
        self.post("/v1/untrust", &UntrustAsk { id }, Some(PROMPT)).await.map(|IgnoredAny| ())
    }

    async fn open(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon(self.socket.clone()),
            _ => ClientError::Connect { socket: self.socket.clone(), source },
        })
    }

    async fn post<T: DeserializeOwned>(
        &self,
        question: &'static str,
        body: &impl Serialize,
        patience: Option<Duration>,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|source| ClientError::Exchange { question, source: source.into() })?;
        self.ask(Method::POST, question, body.into(), patience).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        question: &'static str,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<T, ClientError> {
        let stream = self.open().await?;
        let exchange = exchange(stream, method, question, body);
        let answer = match patience {
            None => exchange.await,
            Some(after) => {
                tokio::time::timeout(after, exchange).await.map_err(|_| ClientError::Silent { question, after })?
            }
        };
        let (status, answer) = answer.map_err(|source| ClientError::Exchange { question, source })?;
        let senseless = |source| ClientError::Answer { question, status: status.as_u16(), source };
        if status == StatusCode::OK {
            serde_json::from_slice(&answer).map_err(senseless)
        } else {
            Err(ClientError::Refused(serde_json::from_slice(&answer).map_err(senseless)?))
        }
    }
}

fn request(method: Method, question: &str, body: Bytes) -> Result<HttpRequest<Full<Bytes>>, axum::http::Error> {
    HttpRequest::builder()
        .method(method)
        .uri(question)
        .header(header::HOST, "hotspare")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
}

/// One question, one answer, one connection, driven here: no task outlives the call.
async fn exchange(
    stream: UnixStream,
    method: Method,
    question: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let request = request(method, question, body)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = connection => { ended?; answer.await }
    }
}
