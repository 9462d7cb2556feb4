//! The daemon's side.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::hold::HoldBody;
use super::{
    BODY_MAX, HoldAsk, Refusal, RefusalClass, ReleaseOutcome, Reply, Request, ResyncAsk, ResyncReport, RotateAsk,
    Rotation, Status, TrustAsk, Trusting, UntrustAsk, VerifyAsk, VerifyReport, WaitAsk, WaitOutcome,
};

/// Connections that may wait to be accepted; commands come one at a time.
const BACKLOG: i32 = 16;

/// Why commands cannot be listened for.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A daemon is listening there already.
    #[error("another daemon runs{} and listens on {}", pid_text(*.pid), socket.display())]
    Taken {
        /// The socket.
        socket: PathBuf,
        /// The other daemon's process id, where the system tells it.
        pid: Option<i32>,
    },
    /// Something that is no socket has its name.
    #[error("{} is in the way: it is no socket", .0.display())]
    NoSocket(PathBuf),
    /// A leftover socket cannot be looked at or removed.
    #[error("cannot replace the leftover socket {}", socket.display())]
    Replace {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}", socket.display())]
    Listen {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn pid_text(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A socket that is listened on; its file goes when the server does.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

/// Binds `socket` and serves until `shutdown`; see [`Server`].
pub async fn serve(
    socket: &Path,
    sender: mpsc::Sender<Request>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Server::bind(socket).await?.serve(sender, shutdown).await
}

impl Server {
    /// Makes the socket, for its owner only, in place of one that a killed daemon left. It guards against a second daemon only as
    /// a courtesy (two that start in the same instant are not told apart): the lock on the state directory is what counts.
    pub async fn bind(socket: &Path) -> Result<Self, ServeError> {
        clear(socket).await?;
        let listener = listen(socket).map_err(|source| ServeError::Listen { socket: socket.to_path_buf(), source })?;
        Ok(Self { listener, file: SocketFile(socket.to_path_buf()) })
    }

    /// Passes every question to `sender` until `shutdown`, then lets those under way come to an end. The owner of the other end
    /// must drop the replies it holds when it ends, or this waits for them.
    pub async fn serve(
        self,
        sender: mpsc::Sender<Request>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let Self { listener, file } = self;
        axum::serve(listener, router(sender))
            .with_graceful_shutdown(shutdown)
            .await
            .map_err(|source| ServeError::Listen { socket: file.0.clone(), source })
    }
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(source) = unlink(&self.0)
            && source.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(socket = %self.0.display(), error = %source, "cannot remove the control socket");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket holds no data: nothing to confine or to sync")]
fn unlink(socket: &Path) -> io::Result<()> {
    std::fs::remove_file(socket)
}

/// Removes a socket that nobody listens on.
async fn clear(socket: &Path) -> Result<(), ServeError> {
    let replace = |source| ServeError::Replace { socket: socket.to_path_buf(), source };
    match std::fs::symlink_metadata(socket) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(replace(source)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ServeError::NoSocket(socket.to_path_buf())),
        Ok(_) => {}
    }
    match UnixStream::connect(socket).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
            Err(ServeError::Taken { socket: socket.to_path_buf(), pid })
        }
        Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => unlink(socket).map_err(replace),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(replace(source)),
    }
}

/// The mode is set before anybody can connect: until `listen`, connecting is refused.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let raw = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    raw.bind(&SockAddr::unix(socket)?)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    raw.listen(BACKLOG)?;
    raw.set_nonblocking(true)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(OwnedFd::from(raw)))
}

fn router(sender: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/wait", post(wait))
        .route("/v1/verify", post(verify))
        .route("/v1/resync", post(resync))
        .route("/v1/hold", post(hold))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/release", post(release))
        .route("/v1/trust", post(trust))
        .route("/v1/rotate", post(rotate))
        .route("/v1/untrust", post(untrust))
        .fallback(async || Refusal::new(RefusalClass::Usage, "the daemon knows no such question"))
        .method_not_allowed_fallback(async || Refusal::new(RefusalClass::Usage, "wrong method for this question"))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Asker(sender))
}

#[derive(Clone)]
struct Asker(mpsc::Sender<Request>);

impl Asker {
    async fn ask<T: Serialize>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<Json<T>, Refusal> {
        self.word(request).await.map(Json)
    }

    async fn word<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let ending = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        let (reply, answer) = Reply::pair();
        self.0.send(request(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

type Asked<T> = Result<Json<T>, JsonRejection>;

fn body<T>(asked: Asked<T>) -> Result<T, Refusal> {
    asked.map(|Json(body)| body).map_err(|rejection| Refusal::new(RefusalClass::Usage, rejection.body_text()))
}

async fn status(State(asker): State<Asker>) -> Result<Json<Status>, Refusal> {
    asker.ask(Request::Status).await
}

async fn wait(State(asker): State<Asker>, asked: Asked<WaitAsk>) -> Result<Json<WaitOutcome>, Refusal> {
    let WaitAsk { standbys, timeout_milliseconds } = body(asked)?;
    let timeout = timeout_milliseconds.map(Duration::from_millis);
    asker.ask(|reply| Request::Wait { standbys, timeout, reply }).await
}

async fn verify(State(asker): State<Asker>, asked: Asked<VerifyAsk>) -> Result<Json<VerifyReport>, Refusal> {
    let paths = body(asked)?.paths.into_iter().map(|path| path.0).collect();
    asker.ask(|reply| Request::Verify { paths, reply }).await
}

async fn resync(State(asker): State<Asker>, asked: Asked<ResyncAsk>) -> Result<Json<ResyncReport>, Refusal> {
    let asked = body(asked)?;
    asker.ask(|reply| Request::Resync { asked, reply }).await
}

async fn hold(State(asker): State<Asker>, asked: Asked<HoldAsk>) -> Result<Response, Refusal> {
    let longest = Duration::from_millis(body(asked)?.longest_milliseconds);
    let hold = asker.word(|reply| Request::Hold { longest, reply }).await?;
    Ok(Response::new(axum::body::Body::new(HoldBody::from(hold))))
}

async fn pause(State(asker): State<Asker>) -> Result<Json<Done>, Refusal> {
    asker.ask(Request::Pause).await.map(|_| Json(Done {}))
}

async fn resume(State(asker): State<Asker>) -> Result<Json<Done>, Refusal> {
    asker.ask(Request::Resume).await.map(|_| Json(Done {}))
}

async fn release(State(asker): State<Asker>) -> Result<Json<ReleaseOutcome>, Refusal> {
    asker.ask(Request::Release).await
}

async fn trust(State(asker): State<Asker>, asked: Asked<TrustAsk>) -> Result<Json<Trusting>, Refusal> {
    let TrustAsk { id, name, also } = body(asked)?;
    asker.ask(|reply| Request::Trust { id, name, also, reply }).await
}

async fn rotate(State(asker): State<Asker>, asked: Asked<RotateAsk>) -> Result<Json<Rotation>, Refusal> {
    let RotateAsk { now } = body(asked)?;
    asker.ask(|reply| Request::Rotate { now, reply }).await
}

async fn untrust(State(asker): State<Asker>, asked: Asked<UntrustAsk>) -> Result<Json<Done>, Refusal> {
    let UntrustAsk { id } = body(asked)?;
    asker.ask(|reply| Request::Untrust { id, reply }).await.map(|_| Json(Done {}))
}

#[derive(Serialize)]
struct Done {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.class {
            RefusalClass::Usage => StatusCode::BAD_REQUEST,
            RefusalClass::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalClass::Guard => StatusCode::CONFLICT,
            RefusalClass::Other => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}
