//! The primary's side of its links: one session a standby.

mod reign;
mod session;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use reign::first_chain;
use session::Session;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::catch_up::CatchUpError;
use super::courier::CourierError;
use super::keeper::{Command, Shared};
use super::keys::{Keys, Peered};
use super::memory::Memory;
use super::peers::{Busy, Peers};
use super::shipping::ShipError;
use crate::net::NetError;
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::link::{ControlSender, Link};
use crate::thought::session::arrival::ArrivalError;
use crate::thought::session::follower::FollowerError;
use crate::thought::session::judge;
use crate::thought::session::sender::{Sender, SenderError};
use crate::thought::wire::frame::BodyError;
use crate::thought::wire::message::{Bandwidth, Hello, Message, Refused, RefusedWhy};
use crate::words::position::{ClusterId, HomeId, NodeName};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The link failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A message could not be read or made.
    #[error("a control message is malformed")]
    Body(#[from] BodyError),
    /// The peer closed the link.
    #[error("the peer closed the link")]
    Closed,
    /// The peer greets over a new link.
    #[error("the peer has made a new link")]
    Superseded,
    /// The standby was found changed by hand or damaged: the link is made again, and the trees are compared.
    #[error("the replica was found changed; it is greeted anew, to be mended")]
    Strayed,
    /// What is replicated was changed.
    #[error("[replicate] was changed; the standby greets anew, and the trees are compared")]
    Refiltered,
    /// A new reign has begun.
    #[error("a new reign has begun; the standby greets anew, and the trees are compared")]
    Reigned,
    /// A person paused this standby.
    #[error("replication of this node is paused")]
    Paused,
    /// The peer gave no sign of life.
    #[error("the peer has been silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer said or did what it must not.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer will not speak to this node.
    #[error("the peer refuses: {}", .0.text)]
    Refused(Refused),
    /// This node will not speak to the peer.
    #[error("{}", .0.text)]
    Refusing(Refused),
    /// The standby said what ends the link.
    #[error(transparent)]
    Sender(SenderError),
    /// The primary said what ends the link.
    #[error(transparent)]
    Follower(FollowerError),
    /// A data stream is none.
    #[error("the peer broke the protocol")]
    Arrival(#[from] ArrivalError),
    /// Shipping failed.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// Catching up failed.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The replica failed.
    #[error("the replica cannot be used")]
    Replica(#[source] Box<crate::reveal::ReplicaError>),
    /// What the node remembers could not be saved.
    #[error(transparent)]
    Memory(#[from] super::memory::MemoryError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A thread of this node ended.
    #[error("a part of this node has ended")]
    Ending,
}

impl From<SenderError> for SessionError {
    fn from(error: SenderError) -> Self {
        match error {
            SenderError::Body(error) => Self::Body(error),
            SenderError::Protocol(what) => Self::Protocol(what),
            SenderError::Refused(refused) => Self::Refused(refused),
            SenderError::Silent(silence) => Self::Silent(silence),
            error => Self::Sender(error),
        }
    }
}

impl From<FollowerError> for SessionError {
    fn from(error: FollowerError) -> Self {
        match error {
            FollowerError::Body(error) => Self::Body(error),
            FollowerError::Protocol(what) => Self::Protocol(what),
            FollowerError::Refused(refused) => Self::Refused(refused),
            FollowerError::Silent(silence) => Self::Silent(silence),
            error @ FollowerError::Deposed { .. } => Self::Follower(error),
        }
    }
}

impl SessionError {
    /// True for what happens in every network: the link is made again.
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::Closed
            | Self::Superseded
            | Self::Paused
            | Self::Reigned
            | Self::Strayed
            | Self::Silent(_)
            | Self::CatchUp(CatchUpError::Courier(CourierError::Gone | CourierError::Refused)) => true,
            Self::Net(error) => matches!(error.class(), crate::net::Class::Retry),
            _ => false,
        }
    }
}

/// What all sessions of a primary share.
#[derive(Clone)]
pub struct PrimaryContext {
    /// The keeper's window and report.
    pub shared: Arc<Shared>,
    /// Where the keeper is asked.
    pub keeper: mpsc::Sender<Command>,
    /// What is known of the peers.
    pub peers: Arc<Peers>,
    /// The home.
    pub home: PathBuf,
    /// Where temporary files go.
    pub state: PathBuf,
    /// The ids of all generations.
    pub ids: (ClusterId, HomeId),
    /// What this node remembers, its reigns above all.
    pub memory: Arc<Mutex<Memory>>,
    /// This node's keys and its peers'.
    pub keys: Arc<Keys>,
    /// The hello, but for the reigns, the position and the filter.
    pub hello: Hello,
}

/// Accepts standbys and serves them until the endpoint is closed.
pub async fn accept(endpoint: &Endpoint, context: PrimaryContext) {
    let (mut sessions, mut links) = (JoinSet::new(), 0);
    loop {
        tokio::select! {
            accepted = endpoint.accept() => match accepted {
                Some(Ok(connection)) => {
                    let context = context.clone();
                    links += 1;
                    let number = links;
                    sessions.spawn(async move { serve(connection, number, context).await });
                }
                Some(Err(error)) => {
                    let text = super::explain(&error);
                    tracing::warn!(error = text, "a peer was not let in");
                    if let NetError::Untrusted { id, .. } | NetError::Doubtful { id, .. } = error {
                        context.peers.met_stranger(id, text, now());
                    }
                }
                None => break,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    sessions.shutdown().await;
}

/// Serves the peer of the `number`th link.
async fn serve(connection: Connection, number: u64, context: PrimaryContext) {
    let name = connection.name().clone();
    let address = connection.remote_addr().to_string();
    let id = connection.peer().to_string();
    let sent = Arc::default();
    context.peers.is_no_stranger(connection.peer());
    let peered = context.keys.met(&connection);
    let ended = match Link::accept(connection).await {
        Ok(link) => greet(link, (number, &name), (id, address, peered), &sent, &context).await,
        Err(error) => Err(error.into()),
    };
    let Err(error) = ended else { return };
    let text = super::explain(&error);
    if error.is_ordinary() {
        tracing::info!(standby = %name, %text, "link ended");
    } else {
        tracing::warn!(standby = %name, %text, "link ended");
    }
    context.peers.change(&name, |peer| {
        // A standby that was killed is back long before its old link is given up: that end says nothing of the new link.
        if peer.asks.is_some() && !Arc::ptr_eq(&peer.sent, &sent) {
            return;
        }
        peer.busy = Busy::Absent;
        peer.asks = None;
        peer.progress = None;
        peer.trouble = Some(text);
    });
}

async fn greet(
    mut link: Link,
    (number, name): (u64, &NodeName),
    (id, address, peered): (String, String, Peered),
    sent: &Arc<AtomicU64>,
    context: &PrimaryContext,
) -> Result<(), SessionError> {
    let head = context.shared.window().head();
    let filter = context.shared.filters.rules();
    let reigns = context.reigns();
    let epoch = reigns.last().map_or(0, |reign| reign.epoch);
    let ours = Hello { reigns, position: head.0, chain: head.1, filter, ..context.hello.clone() };
    send(&mut link, &ours.clone().into()).await?;
    let theirs = hello(&mut link).await?;
    let judged = judge(&ours, &theirs).and_then(|_| {
        if theirs.node == *name {
            return Ok(());
        }
        let text = format!("the node trusted as {name} calls itself {}; trust it under its own name", theirs.node);
        Err(Refused { why: RefusedWhy::Name, text })
    });
    if judged.is_ok() && !context.peers.note_greeting(name, number) {
        return Err(SessionError::Superseded);
    }
    let judged = judged.and_then(|()| context.peers.admit(name, theirs.instance, now()));
    if let Err(refused) = judged {
        send(&mut link, &refused.clone().into()).await?;
        // Give the peer time to read it: what is not acknowledged when a connection is closed is lost.
        tokio::time::timeout(Duration::from_secs(2), link.recv()).await.ok();
        return Err(SessionError::Refusing(refused));
    }
    // Not `ours`: the standby may have come so far after that was said.
    if context.shared.window().contradicts((theirs.position, theirs.chain)) {
        context.begin_reign(&theirs).await?;
        return Err(SessionError::Reigned);
    }
    let (asks, asked) = mpsc::channel(4);
    context.peers.change(name, |peer| {
        peer.id = Some(id);
        peer.address = Some(address);
        // What it says counts only once it is known to be of this history.
        peer.acked = None;
        peer.revealed = None;
        peer.sent = Arc::clone(sent);
        peer.asks = Some(asks);
        peer.trouble = None;
        if peer.stands_at(theirs.position) {
            tracing::warn!(standby = %name, position = %theirs.position, acked = ?peer.best, "the standby went backwards: it lost what it had acked");
        }
    });
    tracing::info!(standby = %name, position = %theirs.position, "standby connected");
    if theirs.filter != ours.filter {
        tracing::warn!(standby = %name, "the standby is configured with another [replicate]: what this primary leaves out decides, until that one is promoted");
    }
    let (control, receiver, streams) = link.split();
    let streams = match Bandwidth::of(&theirs)? {
        Some(bandwidth) => streams.paced(bandwidth),
        None => streams,
    };
    let (questions, questioned) = mpsc::channel(16);
    let session = Session {
        name: name.clone(),
        peered,
        context: context.clone(),
        control,
        streams,
        sender: Sender::new(&theirs, now()),
        sent: Arc::clone(sent),
        questions,
        catching_up: None,
        shipping: None,
        ahead: None,
        joined: None,
        filter: ours.filter,
        epoch,
    };
    session.run(receiver, questioned, asked).await
}

/// Sends one message of a session.
pub(super) async fn tell(control: &mut ControlSender, message: &Message) -> Result<(), SessionError> {
    let (kind, payload) = message.encode()?;
    Ok(control.send(kind, &payload).await?)
}

/// Sends one message of a greeting.
pub(super) async fn send(link: &mut Link, message: &Message) -> Result<(), SessionError> {
    let (kind, payload) = message.encode()?;
    Ok(link.send(kind, &payload).await?)
}

/// Waits for the peer's hello.
pub(super) async fn hello(link: &mut Link) -> Result<Hello, SessionError> {
    let received = tokio::time::timeout(Duration::from_secs(10), link.recv()).await;
    let (kind, payload) =
        received.map_err(|_| SessionError::Silent(Duration::from_secs(10)))??.ok_or(SessionError::Closed)?;
    match Message::decode(kind, &payload)? {
        Some(Message::Hello(hello)) => Ok(hello),
        Some(Message::Refused(refused)) => Err(SessionError::Refused(refused)),
        _ => Err(SessionError::Protocol("something else than a hello came first".into())),
    }
}

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "sessions own the links' clocks")]
pub(super) fn now() -> Instant {
    Instant::now()
}
