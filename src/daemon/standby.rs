//! The standby's side of its link: it greets whom it reached, and feeds its replica.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::holder::{Event, Holder, Job, Stand};
use super::keys::{Keys, Peered};
use super::memory::Memory;
use super::peers::{Busy, Peers};
use super::primary::{SessionError, hello, now, send};
use crate::net::connection::Connection;
use crate::net::link::{ControlSender, DataStreams, Link};
use crate::reveal::ReplicaError;
use crate::thought::filter::Filter;
use crate::thought::generation::Header;
use crate::thought::session::receiver::Receiver;
use crate::thought::session::{HEARTBEAT, Pulse, judge};
use crate::thought::wire::frame::body;
use crate::thought::wire::message::{
    CatchingUp, Heartbeat, HeldContent, Hello, Message, Refused, RefusedWhy, Release, StreamStart, UnheldCounts, data,
};
use crate::words::position::Position;

/// How often the session looks at its clock.
const TICK: Duration = Duration::from_millis(250);

/// What is said where a primary replicates by other filters than this standby would.
pub const FILTERS_DIFFER: &str = "the primary has another [replicate] than this node: the replica follows the primary's, but once promoted this node would \
     replicate by its own; make both alike";

/// Of what arrives on a data stream so much goes to the holder at once, at most: this many bytes, and jobs.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_JOBS: usize = 256;

/// What a standby's links share.
#[derive(Clone)]
pub struct StandbyContext {
    /// The replica.
    pub holder: Holder,
    /// What is known of the peers.
    pub peers: Arc<Peers>,
    /// What the node remembers.
    pub memory: Arc<Mutex<Memory>>,
    /// Where that is.
    pub state: std::path::PathBuf,
    /// This node's keys and its peers'.
    pub keys: Arc<Keys>,
    /// The hello, but for where the replica stands.
    pub hello: Hello,
    /// What the standby says of itself.
    pub report: Arc<Mutex<StandbyReport>>,
    /// How many paths were found changed or damaged by this node itself: whoever is followed is greeted anew then.
    pub strays: watch::Sender<u64>,
    /// No primary is followed while it says so.
    pub paused: watch::Sender<bool>,
}

/// What a standby says of itself.
#[derive(Clone, Debug, Default)]
pub struct StandbyReport {
    /// Where the replica stands, as far as it is open.
    pub stand: Option<Stand>,
    /// The last generation's header.
    pub header: Option<Header>,
    /// What has been revealed.
    pub revealed: Option<Position>,
    /// How far the primary is with bringing it up to date.
    pub progress: Option<CatchingUp>,
    /// The primary's last sign of life.
    pub heard: Option<Heartbeat>,
    /// How far the replica was behind when the primary last knew it.
    pub behind: Behind,
    /// Generations by word of quality.
    pub by_quality: std::collections::BTreeMap<&'static str, u64>,
    /// Reasons, each as often as a generation gave it.
    pub by_reason: std::collections::BTreeMap<crate::thought::generation::Reason, u64>,
    /// The kind of file system under the replica.
    pub filesystem: String,
    /// Why the replica cannot be used.
    pub stuck: Option<String>,
}

/// How far behind a replica was, and when that was known. At the start nothing is known but the time.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    lag: Duration,
    at: Instant,
}

impl Default for Behind {
    fn default() -> Self {
        Self { lag: Duration::ZERO, at: now() }
    }
}

impl Behind {
    /// The lag at `now`. What was told a beat ago still holds on a link; one that is cut off counts its silence.
    pub fn lag(&self, is_linked: bool, now: Instant) -> Duration {
        let silence = now.saturating_duration_since(self.at);
        if is_linked && silence < 2 * HEARTBEAT { self.lag } else { self.lag + silence }
    }
}

impl StandbyContext {
    fn report(&self) -> std::sync::MutexGuard<'_, StandbyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the replica stands; opens it, which brings it to a whole generation, if that can be done.
    pub async fn stand(&self, home: Option<crate::words::position::HomeId>) -> Result<Option<Stand>, SessionError> {
        let stand = self.holder.ask(|reply| Job::Stand { home, reply }).await.ok_or(SessionError::Ending)?;
        match stand {
            Ok(stand) => {
                let mut report = self.report();
                report.stand = stand;
                report.stuck = None;
                Ok(stand)
            }
            Err(error) => {
                self.report().stuck = Some(super::explain(&error));
                Err(SessionError::Replica(Box::new(error)))
            }
        }
    }
}

/// Greets whoever is at the other end of `connection`, which was dialed at `address`: a link to a primary that takes this standby.
pub async fn greet(connection: Connection, address: &str, context: &StandbyContext) -> Result<Following, SessionError> {
    // A replica is brought to a whole generation before anybody is told where it stands.
    let stand = context.stand(None).await?;
    let name = connection.name().clone();
    let id = connection.peer().to_string();
    let peered = context.keys.met(&connection);
    let mut link = Link::open(connection).await?;
    let standing = stand.map(|stand| stand.standing).unwrap_or_default();
    let remembered = context.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ours = Hello {
        cluster: remembered.cluster,
        home: stand.map(|stand| stand.standing.home),
        reigns: remembered.reigns,
        position: standing.position,
        chain: standing.chain,
        tree: standing.tree,
        ..context.hello.clone()
    };
    send(&mut link, &ours.clone().into()).await?;
    let theirs = hello(&mut link).await?;
    if let Err(refused) = judge(&ours, &theirs) {
        return Err(refuse(link, refused).await);
    }
    learn(context, &theirs)?;
    if theirs.filter != ours.filter {
        tracing::warn!(primary = %name, "{FILTERS_DIFFER}");
    }
    let stand = match context.stand(theirs.home).await {
        Ok(stand) => stand.ok_or(SessionError::Ending)?,
        Err(SessionError::Replica(error)) => {
            let refused = Refused { why: RefusedWhy::Home, text: super::explain(&*error) };
            refuse(link, refused).await;
            return Err(SessionError::Replica(error));
        }
        Err(error) => return Err(error),
    };
    if stand.standing.chain != standing.chain {
        // What the hello said is not true any more: greet anew.
        return Err(SessionError::Closed);
    }
    let missing = || SessionError::Protocol("its hello names no cluster, home or reign".into());
    let receiver = Receiver::new(&theirs, stand.standing.position, stand.standing.chain).ok_or_else(missing)?;
    context.peers.change(&name, |peer| {
        peer.id = Some(id);
        peer.address = Some(address.to_owned());
        peer.busy = if stand.standing.position == Position::default() { Busy::InitialSync } else { Busy::CatchingUp };
        peer.acked = Some(stand.standing.position);
        peer.trouble = None;
    });
    tracing::info!(primary = %name, address, position = %stand.standing.position, "connected to the primary");
    Ok(Following { link, name, peered, receiver, context: context.clone() })
}

/// A link to a primary, before anything came through it.
pub struct Following {
    link: Link,
    name: crate::words::position::NodeName,
    peered: Peered,
    receiver: Receiver,
    context: StandbyContext,
}

impl Following {
    /// Feeds the replica until the link ends; why it did.
    pub async fn run(self) -> SessionError {
        let Self { link, name, peered, receiver, context } = self;
        let (events, happened) = mpsc::channel(64);
        let ended = if context.holder.give(Job::Link(events, receiver)).await {
            let (control, incoming, streams) = link.split();
            let session =
                Session { context: context.clone(), name: name.clone(), peered, control, pulse: Pulse::new(now()) };
            session.run(incoming, streams, happened).await
        } else {
            SessionError::Ending
        };
        context.peers.change(&name, |peer| peer.busy = Busy::Absent);
        ended
    }
}

/// Tells the primary why it is not followed.
async fn refuse(mut link: Link, refused: Refused) -> SessionError {
    if let Err(error) = send(&mut link, &refused.clone().into()).await {
        return error;
    }
    tokio::time::timeout(Duration::from_secs(2), link.recv()).await.ok();
    SessionError::Refusing(refused)
}

/// Takes note of the primary's cluster, home, reign and filter, durably, before anything is done for it (G5).
fn learn(context: &StandbyContext, theirs: &Hello) -> Result<(), SessionError> {
    if let Err(error) = Filter::of(theirs.filter.clone()) {
        return Err(SessionError::Protocol(format!("its filter is none: {error}")));
    }
    let mut memory = context.memory.lock().unwrap_or_else(PoisonError::into_inner);
    let before = memory.clone();
    memory.cluster = memory.cluster.or(theirs.cluster);
    memory.home = memory.home.or(theirs.home);
    memory.filter = Some(theirs.filter.clone());
    for reign in &theirs.reigns {
        memory.learn(*reign);
    }
    if *memory != before {
        memory.save(&context.state)?;
    }
    Ok(())
}

struct Session {
    context: StandbyContext,
    name: crate::words::position::NodeName,
    peered: Peered,
    control: ControlSender,
    pulse: Pulse,
}

impl Session {
    async fn run(
        mut self,
        mut incoming: crate::net::link::ControlReceiver,
        streams: DataStreams,
        mut happened: mpsc::Receiver<Event>,
    ) -> SessionError {
        let mut tasks = JoinSet::new();
        let holder = self.context.holder.clone();
        let connection = streams.connection().clone();
        let mut paused = self.context.paused.subscribe();
        let mut strays = self.context.strays.subscribe();
        tasks.spawn(async move { Err(read_streams(&streams, &holder).await) });
        // Answers of the holder, which may be busy with what came before the question.
        let (answers, mut answered) = mpsc::channel::<Message>(16);
        let mut tick = tokio::time::interval(TICK);
        let ended = loop {
            let step = tokio::select! {
                received = incoming.recv() => match received {
                    Ok(Some((kind, payload))) => {
                        self.pulse.heard(now());
                        self.received(kind, &payload, &mut tasks, &answers)
                    }
                    Ok(None) => Err(SessionError::Closed),
                    Err(error) => Err(error.into()),
                },
                event = happened.recv() => match event {
                    Some(event) => self.happened(event).await,
                    // The replica failed: it is opened anew with the next link.
                    None => Err(SessionError::Ending),
                },
                Some(message) = answered.recv() => self.tell(&message).await,
                Some(task) = tasks.join_next() => task.unwrap_or(Err(SessionError::Ending)),
                _ = tick.tick() => self.tick().await,
                Ok(()) = strays.changed() => Err(SessionError::Strayed),
                true = async { paused.wait_for(|paused| *paused).await.is_ok() } => Err(SessionError::Paused),
            };
            if let Err(error) = step {
                break error;
            }
        };
        connection.close();
        tasks.shutdown().await;
        ended
    }

    fn received(
        &mut self,
        kind: u8,
        payload: &[u8],
        tasks: &mut JoinSet<Result<(), SessionError>>,
        answers: &mpsc::Sender<Message>,
    ) -> Result<(), SessionError> {
        let (holder, answers) = (self.context.holder.clone(), answers.clone());
        match Message::decode(kind, payload)? {
            Some(Message::Heartbeat(heartbeat)) => {
                let name = &self.name;
                self.context.keys.heard(name, &heartbeat, &mut self.peered);
                let mut report = self.context.report();
                if let Some(lag) = heartbeat.lag_milliseconds {
                    report.behind = Behind { lag: Duration::from_millis(lag), at: now() };
                }
                report.heard = Some(heartbeat.clone());
                drop(report);
                self.context.peers.change(name, |peer| peer.heartbeat = Some(heartbeat));
            }
            Some(Message::CatchingUp(progress)) => {
                self.context.report().progress = Some(progress.clone());
                self.context.peers.change(&self.name, |peer| peer.progress = Some(progress));
            }
            Some(Message::List(list)) => {
                tasks.spawn(async move {
                    let listing = holder.ask(|reply| Job::List(list, reply)).await.ok_or(SessionError::Ending)?;
                    answers.send(listing.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Some(Message::Have(have)) => {
                tasks.spawn(async move {
                    let lack = holder.ask(|reply| Job::Have(have.contents, reply)).await.ok_or(SessionError::Ending)?;
                    answers.send(lack.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Some(Message::Audit(audit)) => {
                tasks.spawn(async move {
                    let audited = holder.ask(|reply| Job::Inspect(audit, reply)).await.ok_or(SessionError::Ending)?;
                    answers.send(audited.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Some(Message::Release(Release {})) => {
                tasks.spawn(async move {
                    // One that holds nothing back needs no word.
                    holder.ask(Job::Release).await.map(|_| ()).ok_or(SessionError::Ending)
                });
            }
            Some(Message::Refused(refused)) => return Err(SessionError::Refused(refused)),
            Some(Message::Deposed(deposed)) => {
                let mut memory = self.context.memory.lock().unwrap_or_else(PoisonError::into_inner);
                if memory.learn(deposed.reign) {
                    memory.save(&self.context.state)?;
                }
            }
            Some(other) => return Err(SessionError::Protocol(format!("not for a standby: {other:?}"))),
            None => return Err(SessionError::Protocol(format!("message of kind {kind}"))),
        }
        Ok(())
    }

    async fn happened(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Acked(acked, header) => {
                let position = acked.position;
                self.tell(&acked.into()).await?;
                self.context.peers.change(&self.name, |peer| {
                    peer.acked = Some(position);
                    peer.busy = Busy::Streaming;
                    peer.progress = None;
                });
                let mut report = self.context.report();
                report.note(&header);
                Ok(())
            }
            Event::Revealed(revealed, stand) => {
                self.context.report().revealed(revealed.position, *stand);
                self.context.peers.change(&self.name, |peer| peer.revealed = Some(revealed.position));
                self.tell(&revealed.into()).await
            }
            Event::Rejected(rejected) => self.tell(&rejected.into()).await,
            Event::HeldAll(all) => self.tell(&all.into()).await,
        }
    }

    async fn tick(&mut self) -> Result<(), SessionError> {
        let at = now();
        if self.pulse.is_lost(at) {
            return Err(SessionError::Silent(self.pulse.silence(at)));
        }
        if !self.pulse.beat(at) {
            return Ok(());
        }
        let heartbeat = {
            let report = self.context.report();
            let stand = report.stand;
            Heartbeat {
                position: stand.map(|stand| stand.standing.position).unwrap_or_default(),
                unheld: stand.map(|stand| stand.unheld).unwrap_or_default(),
                held: self.context.holder.waits_for(),
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

impl StandbyReport {
    fn revealed(&mut self, position: Position, stand: Stand) {
        self.revealed = Some(position);
        let known = self.stand.replace(stand).map(|before| before.unheld);
        if known == Some(UnheldCounts::default()) && stand.unheld != UnheldCounts::default() {
            tracing::info!(
                "this replica cannot hold all owners, modes or attributes, for want of privilege; `status` counts them"
            );
        }
    }

    fn note(&mut self, header: &Header) {
        let (word, reasons) = header.quality.told();
        for reason in reasons {
            *self.by_reason.entry(*reason).or_default() += 1;
        }
        *self.by_quality.entry(word).or_default() += 1;
        if let Some(stand) = &mut self.stand {
            stand.standing.position = header.position;
            stand.standing.chain = header.chain();
            stand.standing.tree = header.tree_after;
            stand.standing.reign = header.reign;
        }
        self.progress = None;
        self.header = Some(header.clone());
    }
}

/// Reads one data stream after the other; why it ended.
async fn read_streams(streams: &DataStreams, holder: &Holder) -> SessionError {
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

async fn read_stream(mut stream: crate::net::link::DataReceiver, holder: &Holder) -> Result<(), SessionError> {
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

/// True if trying again cannot help: a person must do something.
pub fn is_hopeless(error: &SessionError) -> bool {
    match error {
        SessionError::Replica(error) => {
            matches!(
                **error,
                ReplicaError::NoReplica { .. } | ReplicaError::OtherHome { .. } | ReplicaError::Marker { .. }
            )
        }
        SessionError::Refused(refused) | SessionError::Refusing(refused) => {
            matches!(refused.why, RefusedWhy::Home | RefusedWhy::Cloned)
        }
        _ => false,
    }
}
