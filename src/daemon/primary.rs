//! The primary's side of its links: one session a standby.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::catch_up::{CatchUp, CatchUpError};
use super::courier::{Courier, CourierError, Question};
use super::keeper::{Command, Shared};
use super::keys::{Keys, Peered};
use super::peers::{Ask, Busy, Peers};
use super::shipping::{ShipError, ship};
use super::window::Next;
use crate::capture::Joined;
use crate::fs::Root;
use crate::net::NetError;
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::link::{ControlReceiver, ControlSender, DataStreams, Link};
use crate::thought::filter::Rules;
use crate::thought::session::arrival::ArrivalError;
use crate::thought::session::follower::FollowerError;
use crate::thought::session::judge;
use crate::thought::session::sender::{Asked, Heard, Sender, SenderError};
use crate::thought::wire::frame::BodyError;
use crate::thought::wire::message::{
    Audited, Bandwidth, Heartbeat, HeldAll, Hello, Lack, Listing, Message, Refused, RefusedWhy, Rejected, Release,
};
use crate::words::entry::Digest;
use crate::words::position::{ClusterId, HomeId, NodeName, Position, ReignId};

/// How often a session looks at its clock.
const TICK: Duration = Duration::from_millis(250);

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
    pub ids: (ClusterId, HomeId, ReignId),
    /// This node's keys and its peers'.
    pub keys: Arc<Keys>,
    /// The hello, but for the position and the filter.
    pub hello: Hello,
}

/// Accepts standbys and serves them until the endpoint is closed.
pub async fn accept(endpoint: &Endpoint, context: PrimaryContext) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = endpoint.accept() => match accepted {
                Some(Ok(connection)) => {
                    let context = context.clone();
                    sessions.spawn(async move { serve(connection, context).await });
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

async fn serve(connection: Connection, context: PrimaryContext) {
    let name = connection.name().clone();
    let address = connection.remote_addr().to_string();
    let id = connection.peer().to_string();
    let sent = Arc::default();
    context.peers.is_no_stranger(connection.peer());
    let peered = context.keys.met(&connection);
    let ended = match Link::accept(connection).await {
        Ok(link) => greet(link, &name, (id, address, peered), &sent, &context).await,
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
    name: &NodeName,
    (id, address, peered): (String, String, Peered),
    sent: &Arc<AtomicU64>,
    context: &PrimaryContext,
) -> Result<(), SessionError> {
    let head = context.shared.window().head();
    let filter = context.shared.filters.rules();
    let ours = Hello { position: head.0, chain: head.1, filter, ..context.hello.clone() };
    send(&mut link, &ours.clone().into()).await?;
    let theirs = hello(&mut link).await?;
    let judged = judge(&ours, &theirs).and_then(|_| {
        if theirs.node == *name {
            return Ok(());
        }
        let text = format!("the node trusted as {name} calls itself {}; trust it under its own name", theirs.node);
        Err(Refused { why: RefusedWhy::Name, text })
    });
    let judged = judged.and_then(|()| context.peers.admit(name, theirs.instance, now()));
    if let Err(refused) = judged {
        send(&mut link, &refused.clone().into()).await?;
        // Give the peer time to read it: what is not acknowledged when a connection is closed is lost.
        tokio::time::timeout(Duration::from_secs(2), link.recv()).await.ok();
        return Err(SessionError::Refusing(refused));
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
    };
    session.run(receiver, questioned, asked).await
}

/// One standby being served.
struct Session {
    name: NodeName,
    peered: Peered,
    context: PrimaryContext,
    control: ControlSender,
    streams: DataStreams,
    sender: Sender<Answer>,
    sent: Arc<AtomicU64>,
    questions: mpsc::Sender<Question>,
    catching_up: Option<JoinHandle<Result<(), CatchUpError>>>,
    shipping: Option<JoinHandle<Result<(), ShipError>>>,
    /// What the standby was told to be replicated.
    filter: Rules,
    ahead: Option<Ahead>,
    /// At the live edge it is waited for before a large content is taken.
    joined: Option<Joined>,
}

/// A large content that is being sent ahead.
struct Ahead {
    digest: Digest,
    /// False if its file has another content by now.
    task: JoinHandle<Result<bool, CatchUpError>>,
}

/// Where the answer to a question goes. Nobody need wait there any more.
enum Answer {
    Listing(oneshot::Sender<Listing>),
    Lack(oneshot::Sender<Lack>),
    HeldAll(oneshot::Sender<HeldAll>),
    Audited(oneshot::Sender<Audited>),
}

impl Session {
    async fn run(
        mut self,
        mut receiver: ControlReceiver,
        mut questioned: mpsc::Receiver<Question>,
        mut asked: mpsc::Receiver<Ask>,
    ) -> Result<(), SessionError> {
        let _interest = self.context.shared.take_interest();
        let mut head = self.context.shared.head.subscribe();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.go_on();
            tokio::select! {
                received = receiver.recv() => {
                    let (kind, payload) = received?.ok_or(SessionError::Closed)?;
                    // It may be the answer to a question that was put, and that nobody took note of yet.
                    self.take_questions(&mut questioned).await?;
                    self.received(kind, &payload)?;
                }
                Some(question) = questioned.recv() => self.questioned(question).await?,
                Some(ask) = asked.recv() => match ask {
                    Ask::GiveWay => return Err(SessionError::Superseded),
                    Ask::Audit(audit, reply) => {
                        self.sender.asks(Asked::Audit, Answer::Audited(reply));
                        self.tell(&audit.into()).await?;
                    }
                    Ask::Release => self.tell(&Release {}.into()).await?,
                },
                ended = wait_for(&mut self.catching_up) => {
                    self.catching_up = None;
                    self.sender.ended();
                    // What it said before it ended comes first, above all what it shipped.
                    self.take_questions(&mut questioned).await?;
                    ended.map_err(|_| SessionError::Ending)??;
                }
                ended = wait_for(&mut self.shipping) => {
                    self.shipping = None;
                    self.sender.ended();
                    ended.map_err(|_| SessionError::Ending)??;
                }
                (digest, sent) = wait_for_ahead(&mut self.ahead) => {
                    self.ahead = None;
                    self.sent_ahead(digest, sent.map_err(|_| SessionError::Ending)?);
                }
                _ = head.changed() => if self.context.shared.filters.rules() != self.filter {
                    return Err(SessionError::Refiltered);
                },
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    /// Starts what can be started.
    fn go_on(&mut self) {
        self.send_ahead();
        if !self.sender.may_send() || self.context.shared.is_paused() {
            return;
        }
        let next = match self.sender.wants_catch_up() {
            true => Next::CatchUp,
            false => self.context.shared.window().after(self.sender.head()),
        };
        match next {
            Next::Wait => {
                let (acked, revealed) = (self.sender.position(), self.sender.revealed_position());
                let is_idle = self.sender.is_idle();
                self.busy(Busy::Streaming);
                self.context.peers.change(&self.name, |peer| {
                    if is_idle && peer.acked.is_none() {
                        peer.has_acked(acked);
                        peer.revealed = Some(revealed);
                    }
                });
            }
            Next::Shipment(shipment) => {
                self.busy(Busy::Streaming);
                self.sender.sends(shipment.header.position, shipment.header.chain());
                let (runtime, streams, sent) = (Handle::current(), self.streams.clone(), Arc::clone(&self.sent));
                self.shipping = Some(tokio::task::spawn_blocking(move || ship(&runtime, &streams, &shipment, &sent)));
            }
            Next::CatchUp if self.sender.is_idle() && self.ahead.is_none() => {
                self.sender.catches_up();
                let is_new = self.sender.position() == Position::default();
                self.busy(if is_new { Busy::InitialSync } else { Busy::CatchingUp });
                let catch_up = CatchUp {
                    courier: self.courier(),
                    keeper: self.context.keeper.clone(),
                    shared: Arc::clone(&self.context.shared),
                    home: self.context.home.clone(),
                    state: self.context.state.clone(),
                    parent: self.sender.acked_head(),
                    tree: self.sender.tree(),
                    ids: self.context.ids,
                };
                self.catching_up = Some(tokio::task::spawn_blocking(move || catch_up.run()));
            }
            Next::CatchUp => {}
        }
    }

    fn courier(&self) -> Courier {
        Courier {
            runtime: Handle::current(),
            streams: self.streams.clone(),
            questions: self.questions.clone(),
            sent: Arc::clone(&self.sent),
            asked: Cell::default(),
        }
    }

    /// Sends a large content ahead, if one waits: one at a time, beside the generations.
    fn send_ahead(&mut self) {
        if self.joined.is_none() || self.ahead.is_some() || self.context.shared.is_paused() {
            return;
        }
        let Some(offer) = self.context.shared.larges.next_for(&self.name) else { return };
        let (courier, home, digest) = (self.courier(), self.context.home.clone(), offer.digest);
        let send = move || {
            let mut missed = Vec::new();
            courier.send(&Root::open(&home)?, &[offer], &mut missed)?;
            Ok(missed.is_empty())
        };
        self.ahead = Some(Ahead { digest, task: tokio::task::spawn_blocking(send) });
    }

    fn sent_ahead(&self, digest: Digest, sent: Result<bool, CatchUpError>) {
        let larges = &self.context.shared.larges;
        match sent {
            Ok(true) => larges.is_held(digest, &self.name, now()),
            Ok(false) => larges.is_gone(digest),
            // A refusal, after which trees are compared, or the end of the link: it is offered again when the standby is back at the live edge.
            Err(error) => tracing::debug!(standby = %self.name, error = super::explain(&error), "not sent ahead"),
        }
        self.context.shared.wake();
    }

    fn busy(&mut self, busy: Busy) {
        self.joined = match (busy, self.joined.take()) {
            (Busy::Streaming, None) => Some(self.context.shared.larges.join(self.name.clone())),
            (Busy::Streaming, joined) => joined,
            _ => None,
        };
        self.context.peers.change(&self.name, |peer| {
            peer.busy = busy;
            if busy == Busy::Streaming {
                peer.progress = None;
            }
        });
    }

    fn received(&mut self, kind: u8, payload: &[u8]) -> Result<(), SessionError> {
        match self.sender.received(kind, payload, now())? {
            Heard::Heartbeat(heartbeat) => {
                self.context.keys.heard(&self.name, &heartbeat, &mut self.peered);
                self.context.peers.change(&self.name, |peer| peer.heartbeat = Some(heartbeat));
            }
            Heard::Acked(position) => self.context.peers.change(&self.name, |peer| peer.has_acked(position)),
            Heard::Revealed(position) => {
                self.context.peers.change(&self.name, |peer| peer.revealed = Some(position));
            }
            Heard::Rejected(Rejected { position, text }) => {
                tracing::warn!(standby = %self.name, %position, %text, "generation refused; comparing trees");
            }
            Heard::Listing(Answer::Listing(reply), listing) => drop(reply.send(listing)),
            Heard::Lack(Answer::Lack(reply), lack) => drop(reply.send(lack)),
            Heard::HeldAll(Answer::HeldAll(reply), all) => drop(reply.send(all)),
            Heard::Audited(Answer::Audited(reply), audited) => {
                let has_strayed = audited.strayed > 0;
                reply.send(audited).ok();
                if has_strayed {
                    return Err(SessionError::Strayed);
                }
            }
            // An answer goes where its own kind of question was noted.
            Heard::Listing(..) | Heard::Lack(..) | Heard::HeldAll(..) | Heard::Audited(..) => {}
        }
        Ok(())
    }

    async fn take_questions(&mut self, questioned: &mut mpsc::Receiver<Question>) -> Result<(), SessionError> {
        while let Ok(question) = questioned.try_recv() {
            self.questioned(question).await?;
        }
        Ok(())
    }

    async fn questioned(&mut self, question: Question) -> Result<(), SessionError> {
        match question {
            Question::Tell(progress) => {
                self.context.peers.change(&self.name, |peer| peer.progress = Some(progress.clone()));
                self.tell(&progress.into()).await
            }
            Question::List(list, reply) => {
                self.sender.asks(Asked::List, Answer::Listing(reply));
                self.tell(&list.into()).await
            }
            Question::Have(have, reply) => {
                self.sender.asks(Asked::Have, Answer::Lack(reply));
                self.tell(&have.into()).await
            }
            Question::AllHeld(reply) => {
                self.sender.asks(Asked::AllHeld, Answer::HeldAll(reply));
                Ok(())
            }
            Question::Sending(position, chain) => {
                self.sender.sent(position, chain);
                Ok(())
            }
        }
    }

    async fn tick(&mut self) -> Result<(), SessionError> {
        if !self.sender.beat(now())? {
            return Ok(());
        }
        let position = self.context.shared.window().head().0;
        let acked = self.context.peers.all().get(&self.name).and_then(|peer| peer.acked);
        let lag = acked.map(|acked| self.context.shared.lag_after(acked));
        let heartbeat = {
            let report = self.context.shared.report();
            Heartbeat {
                position,
                pending: report.pending,
                oldest: report.oldest,
                sample: report.sample.clone(),
                lag_milliseconds: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                held: report.held(),
                ..Heartbeat::default()
            }
        };
        let heartbeat = self.context.keys.beat(&self.name, heartbeat, &self.peered);
        self.tell(&heartbeat.into()).await
    }

    async fn tell(&mut self, message: &Message) -> Result<(), SessionError> {
        let (kind, payload) = message.encode()?;
        Ok(self.control.send(kind, &payload).await?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.streams.connection().close();
    }
}

async fn wait_for<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn wait_for_ahead(ahead: &mut Option<Ahead>) -> (Digest, Result<Result<bool, CatchUpError>, JoinError>) {
    match ahead {
        Some(ahead) => (ahead.digest, (&mut ahead.task).await),
        None => std::future::pending().await,
    }
}

/// Sends one message.
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
