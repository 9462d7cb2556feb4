//! The holder: the one thread that owns a standby's replica.
//!
//! It takes jobs in order through one bounded channel: what arrives on data streams, questions of the primary, the wish to stop. What it has to say
//! goes out as events.

mod hold;
mod inspect;
mod waiting;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use hold::{Hold, HoldAsk, Holds};

use crate::fs::{Able, Root, is_no_space};
use crate::index::Snapshot;
use crate::reveal::{Holding, Opening, Records, Replica, ReplicaError, ReplicaOptions, Stager, Standing, marker};
use crate::spool::Spool;
use crate::thought::filter::Filter;
use crate::thought::fuse::Tally;
use crate::thought::generation::{FormatError, Header, Joint, Operation, OperationsDigest};
use crate::thought::session::receiver::Receiver;
use crate::thought::tree::{Counts, Tree};
use crate::thought::wire::message::{
    Acked, Audit, Audited, Child, Held, HeldAll, HeldContent, LISTING_CAP, Lack, List, Listing, Rejected, Revealed,
    UnheldCounts,
};
use crate::words::entry::Digest;
use crate::words::position::{HomeId, Position};

pub use waiting::{Guards, Reserve};

use waiting::{Guard, Waiting, needs};

/// How many jobs may wait; what arrives on a data stream comes in batches of 128 KiB and one frame more, each of which counts as one.
const JOBS: usize = 32;
/// After so much quiet what was replaced is tidied up.
const TIDY_AFTER: Duration = Duration::from_millis(500);

/// What the holder is asked to do.
pub enum Job {
    /// Where does the replica stand? Opens it for `home` if it is not open yet.
    Stand {
        /// The home of the primary that was met; `None` to open only a replica that is one already.
        home: Option<HomeId>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Option<Stand>, ReplicaError>>,
    },
    /// A link begins: its events go there, its generations are judged so. What was under way is given up.
    Link(mpsc::Sender<Event>, Receiver),
    /// A data stream with contents begins.
    Contents,
    /// A generation begins.
    Begin(Box<Header>),
    /// Its next operation.
    Operation(Vec<u8>),
    /// A content comes ahead.
    Hold(HeldContent),
    /// Payload of what came last.
    Payload(Vec<u8>),
    /// The end of a content whose length was not told; true if it is whole.
    Held(bool),
    /// The stream's end.
    End,
    /// These, in order.
    Several(Vec<Job>),
    /// Children of a directory of the tree.
    List(List, oneshot::Sender<Listing>),
    /// Which contents are not here.
    Have(Vec<Digest>, oneshot::Sender<Lack>),
    /// The index as it is now, and what the disk can hold of it. No answer while disk and index differ by what is not revealed.
    Snapshot(oneshot::Sender<(Snapshot, Able)>),
    /// The replica is to stand still.
    HoldStill(HoldAsk),
    /// A generation is about to begin: answered when it may.
    MayBegin(oneshot::Sender<()>),
    /// Lets through what the fuse holds back; says what that was.
    Release(oneshot::Sender<Option<String>>),
    /// Tidies up, closes the replica and says so; nothing is taken after it.
    Stop(oneshot::Sender<()>),
    /// A comparison of the disk with the tree. No answer if there is no replica.
    Inspect(Audit, oneshot::Sender<Audited>),
}

impl Job {
    /// True for what comes on data streams, in an order of its own.
    fn is_data(&self) -> bool {
        matches!(
            self,
            Self::Contents
                | Self::Begin(_)
                | Self::Operation(_)
                | Self::Hold(_)
                | Self::Payload(_)
                | Self::Held(_)
                | Self::End
                | Self::Several(_)
        )
    }
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// Its standing.
    pub standing: Standing,
    /// Acked and not revealed.
    pub unrevealed: usize,
    /// What its disk cannot hold.
    pub unheld: UnheldCounts,
    /// How much it holds.
    pub counts: Counts,
    /// Paths that were found changed by hand or damaged, and are not mended yet.
    pub strayed: u64,
}

impl Stand {
    fn of(replica: &Replica) -> Self {
        Self {
            standing: replica.standing(),
            unrevealed: replica.unrevealed(),
            unheld: replica.unheld(),
            counts: replica.tree().counts(),
            strayed: replica.strayed().unwrap_or(0),
        }
    }
}

/// What the holder tells the session.
#[derive(Debug)]
pub enum Event {
    /// A generation is acked.
    Acked(Acked, Box<Header>),
    /// A generation is revealed; where the replica stands since.
    Revealed(Revealed, Box<Stand>),
    /// A generation was not taken.
    Rejected(Rejected),
    /// The contents of a stream are here.
    HeldAll(HeldAll),
}

/// How to reach the holder.
#[derive(Clone)]
pub struct Holder {
    jobs: mpsc::Sender<Job>,
    holds: Arc<Holds>,
    waits: watch::Receiver<Option<Held>>,
}

impl Holder {
    /// Starts the thread; it ends when the last handle goes. `failed` is told why it ended early.
    pub fn start(
        options: ReplicaOptions,
        filter: Arc<dyn Fn() -> Filter + Send + Sync>,
        guards: Guards,
        failed: Arc<dyn Fn(String) + Send + Sync>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS);
        let (tells, waits) = watch::channel(None);
        let runtime = Handle::current();
        let holds: Arc<Holds> = Arc::default();
        let shared = Arc::clone(&holds);
        std::thread::Builder::new().name("holder".into()).spawn(move || {
            let mut work = Work {
                guard: Guard::new(guards, options.state.clone()),
                options,
                filter,
                replica: None,
                incoming: Incoming::Nothing,
                events: None,
                receiver: None,
                held: Vec::new(),
                waiting: Vec::new(),
                holds: shared,
                blocked: None,
                parked: VecDeque::new(),
                staged_bytes: 0,
                tells,
            };
            work.run(&runtime, queue, &failed);
        })?;
        Ok(Self { jobs, holds, waits })
    }

    /// What it waits for, if it does.
    pub fn waits_for(&self) -> Option<Held> {
        self.waits.borrow().clone()
    }

    /// Returns when it waits for nothing, or has ended.
    pub async fn opened(&self) {
        self.waits.clone().wait_for(Option::is_none).await.ok();
    }

    /// Gives the holder a job; false if it has ended.
    pub async fn give(&self, job: Job) -> bool {
        self.jobs.send(job).await.is_ok()
    }

    /// Asks something and waits for the answer; `None` if the holder has ended.
    pub async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        if !self.give(job(reply)).await {
            return None;
        }
        answer.await.ok()
    }
}

/// What is arriving.
enum Incoming {
    Nothing,
    Generation(Box<Arriving>),
    Contents {
        holding: Option<Box<Holding>>,
        count: u64,
    },
    /// What still comes of a stream that was refused.
    Refused,
}

/// A generation that is arriving.
struct Arriving {
    header: Box<Header>,
    stager: Stager,
    operations: Records,
    digest: OperationsDigest,
    count: u64,
    tally: Tally,
}

struct Work {
    guard: Guard,
    options: ReplicaOptions,
    /// What the primary replicates, as far as this node knows.
    filter: Arc<dyn Fn() -> Filter + Send + Sync>,
    replica: Option<Replica>,
    incoming: Incoming,
    events: Option<mpsc::Sender<Event>>,
    receiver: Option<Receiver>,
    /// Who wants the replica to stand still.
    held: Vec<Hold>,
    /// Streams that may not begin meanwhile.
    waiting: Vec<oneshot::Sender<()>>,
    holds: Arc<Holds>,
    /// What it waits for.
    blocked: Option<Waiting>,
    /// What arrived meanwhile.
    parked: VecDeque<Job>,
    /// What was staged since the present stream began takes so much.
    staged_bytes: u64,
    tells: watch::Sender<Option<Held>>,
}

impl Work {
    fn run(&mut self, runtime: &Handle, mut queue: mpsc::Receiver<Job>, failed: &Arc<dyn Fn(String) + Send + Sync>) {
        loop {
            let next = match queue.try_recv() {
                Ok(job) => Ok(Some(job)),
                Err(_) => runtime.block_on(async { tokio::time::timeout(TIDY_AFTER, queue.recv()).await }),
            };
            let done = match next {
                Ok(Some(Job::Stop(reply))) => {
                    self.break_holds("the daemon is ending");
                    self.close();
                    reply.send(()).ok();
                    break;
                }
                Ok(Some(job)) if self.blocked.is_some() && job.is_data() => {
                    self.parked.push_back(job);
                    Ok(())
                }
                Ok(Some(job)) => self.job(job),
                Ok(None) => break,
                Err(_) => self.tidy(),
            };
            let done = done.and_then(|()| self.go_on()).and_then(|()| self.look_at_holds());
            if let Err(error) = done {
                let text = super::explain(&error);
                tracing::error!(%text, "the replica cannot go on");
                failed(text);
                // The index may be ahead of the journal: only opening it again tells.
                self.break_holds("the replica failed, and must be opened again");
                self.forget_waiting();
                self.incoming = Incoming::Nothing;
                self.events = None;
                self.replica = None;
                self.tells.send_replace(None);
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.forget_waiting();
        if let Err(error) = self.give_up().and_then(|()| self.tidy()) {
            tracing::warn!(
                error = super::explain(&error),
                "the replica was left untidy; that is mended when it is opened"
            );
        }
        self.replica = None;
    }

    fn tidy(&mut self) -> Result<(), ReplicaError> {
        match &mut self.replica {
            Some(replica) if replica.is_untidy() => replica.tidy(),
            _ => Ok(()),
        }
    }

    fn job(&mut self, job: Job) -> Result<(), ReplicaError> {
        match job {
            Job::Stand { home, reply } => {
                let stand = self.stand(home);
                reply.send(stand).ok();
                Ok(())
            }
            Job::Link(events, receiver) => {
                self.forget_waiting();
                self.give_up()?;
                self.events = Some(events);
                self.receiver = Some(receiver);
                Ok(())
            }
            Job::Contents => {
                self.give_up()?;
                self.incoming = Incoming::Contents { holding: None, count: 0 };
                self.staged_bytes = 0;
                Ok(())
            }
            Job::Begin(header) => self.begin(header),
            Job::Operation(bytes) => {
                let done = self.operation(bytes);
                self.or_reject(done)
            }
            Job::Hold(content) if !self.has_room(content.size, || Job::Hold(content.clone()))? => Ok(()),
            Job::Hold(content) => {
                let done = self.hold(content);
                self.or_reject(done)
            }
            Job::Payload(bytes) => {
                let done = self.payload(&bytes);
                self.or_reject(done)
            }
            Job::Held(is_whole) => self.end_held(is_whole),
            Job::End => self.end(),
            Job::Several(jobs) => self.several(jobs),
            Job::List(list, reply) => {
                if let Some(replica) = &self.replica {
                    reply.send(listing(replica.tree(), &list)?).ok();
                }
                Ok(())
            }
            Job::Have(contents, reply) => {
                if let Some(replica) = &self.replica {
                    reply.send(lack(replica, &contents)?).ok();
                }
                Ok(())
            }
            Job::Snapshot(reply) => {
                if let Some(replica) = &mut self.replica
                    && let Some(index) = replica.snapshot()?
                {
                    reply.send((index, replica.able().clone())).ok();
                }
                Ok(())
            }
            Job::HoldStill(asked) => {
                self.hold_still(asked);
                Ok(())
            }
            Job::MayBegin(reply) => {
                self.may_begin(reply);
                Ok(())
            }
            Job::Release(reply) => {
                let released = self.release()?;
                reply.send(released).ok();
                Ok(())
            }
            Job::Stop(reply) => {
                reply.send(()).ok();
                Ok(())
            }
            Job::Inspect(asked, reply) => {
                if let Some(audited) = self.inspect(&asked)? {
                    reply.send(audited).ok();
                }
                Ok(())
            }
        }
    }

    fn stand(&mut self, home: Option<HomeId>) -> Result<Option<Stand>, ReplicaError> {
        if self.replica.is_none() {
            let Some(home) = (match home {
                Some(home) => Some(home),
                None => marked(&self.options.home)?,
            }) else {
                return Ok(None);
            };
            let (replica, opening) = Replica::open(self.options.clone(), home)?;
            let standing = replica.standing();
            match opening {
                Opening::Empty => tracing::info!("an empty directory becomes the replica"),
                Opening::Recovered(0) => tracing::info!(position = %standing.position, "replica opened"),
                Opening::Recovered(count) => {
                    tracing::info!(position = %standing.position, count, "replica opened; acked generations were revealed");
                }
                Opening::Adopted => tracing::info!("the directory is adopted"),
                Opening::Reread => tracing::info!("the replica was read again"),
            }
            self.replica = Some(replica);
            if matches!(opening, Opening::Recovered(_))
                && let Err(error) = self.look_over()
            {
                self.replica = None;
                return Err(error);
            }
        }
        Ok(self.replica.as_ref().map(Stand::of))
    }

    fn give_up(&mut self) -> Result<(), ReplicaError> {
        if let (Incoming::Generation(arriving), Some(replica)) =
            (std::mem::replace(&mut self.incoming, Incoming::Nothing), &mut self.replica)
        {
            replica.give_up(arriving.stager)?;
        }
        Ok(())
    }

    fn begin(&mut self, header: Box<Header>) -> Result<(), ReplicaError> {
        self.give_up()?;
        if let Some(Err(error)) = self.receiver.map(|receiver| receiver.check(&header)) {
            return self.reject(header.position, &error);
        }
        self.staged_bytes = 0;
        if !self.has_room(0, || Job::Begin(header.clone()))? {
            return Ok(());
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        // One is revealed before the next is staged: its bases and targets are where the tree says.
        while replica.reveal()?.is_some() {}
        match replica.begin(&header) {
            Ok(stager) => {
                let operations = Records::new(Spool::create(&self.options.state)?);
                let digest = OperationsDigest::default();
                let arriving = Arriving { header, stager, operations, digest, count: 0, tally: Tally::default() };
                self.incoming = Incoming::Generation(Box::new(arriving));
                Ok(())
            }
            Err(error) if is_no_space(&error) => self.ran_out(header.position, &error),
            Err(error) => self.reject(header.position, &error),
        }
    }

    fn operation(&mut self, bytes: Vec<u8>) -> Result<(), ReplicaError> {
        let Incoming::Generation(arriving) = &self.incoming else { return Ok(()) };
        let operation = Operation::decode(&bytes)?;
        let needed = needs(&operation, &arriving.header.joint);
        if needed > 0 && !self.has_room(needed, || Job::Operation(bytes.clone()))? {
            return Ok(());
        }
        let (Some(replica), Incoming::Generation(arriving)) = (&mut self.replica, &mut self.incoming) else {
            return Ok(());
        };
        let Arriving { stager, operations, digest, count, tally, .. } = &mut **arriving;
        if u64::from(operation.id) != *count {
            return Err(FormatError::Malformed("operation number").into());
        }
        *count += 1;
        digest.update(&bytes);
        operations.push(operation.action.section(), &bytes)?;
        tally.take(replica.tree(), &operation.action)?;
        replica.stage(stager, operation)
    }

    fn hold(&mut self, content: HeldContent) -> Result<(), ReplicaError> {
        if let (Some(replica), Incoming::Contents { holding, count }) = (&mut self.replica, &mut self.incoming) {
            *count += 1;
            *holding = Some(Box::new(replica.hold(content)?));
        }
        Ok(())
    }

    fn end_held(&mut self, is_whole: bool) -> Result<(), ReplicaError> {
        let (Some(replica), Incoming::Contents { holding, .. }) = (&mut self.replica, &mut self.incoming) else {
            return Ok(());
        };
        let done = match holding.take() {
            Some(open) => replica.end_held(*open, is_whole),
            None => Err(FormatError::Malformed("end of a content").into()),
        };
        self.or_reject(done)
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<(), ReplicaError> {
        match (&mut self.replica, &mut self.incoming) {
            (Some(replica), Incoming::Generation(arriving)) => {
                replica.stage_payload(&mut arriving.stager, bytes).map(|_| ())
            }
            (Some(replica), Incoming::Contents { holding, .. }) => match holding.take() {
                Some(open) => {
                    *holding = replica.hold_payload(*open, bytes)?.map(Box::new);
                    Ok(())
                }
                None => Err(FormatError::Malformed("payload").into()),
            },
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), ReplicaError> {
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Contents { count, .. } => {
                self.tell(Event::HeldAll(HeldAll { count }));
                Ok(())
            }
            Incoming::Generation(arriving) => {
                let position = arriving.header.position;
                let is_whole = arriving.count == arriving.header.operations
                    && arriving.digest.clone().finish() == arriving.header.operations_digest;
                if is_whole {
                    return self.take_or_wait(arriving);
                }
                self.incoming = Incoming::Generation(arriving);
                self.give_up()?;
                let what = "the operations are not those it announces";
                self.reject(position, &ReplicaError::Header { position, what })
            }
            Incoming::Nothing | Incoming::Refused => Ok(()),
        }
    }

    /// One after the other; what is left when one must wait is parked right behind it.
    fn several(&mut self, jobs: Vec<Job>) -> Result<(), ReplicaError> {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            self.job(job)?;
            if let Some(waiting) = &self.blocked {
                let behind = usize::from(waiting.has_parked());
                self.parked.insert(behind, Job::Several(jobs.collect()));
                break;
            }
        }
        Ok(())
    }

    /// Makes a whole generation durable, and shows it.
    fn take(&mut self, arriving: Arriving) -> Result<(), ReplicaError> {
        let Arriving { header, stager, operations, .. } = arriving;
        let Some(replica) = &mut self.replica else { return Ok(()) };
        let position = header.position;
        if let Err(error) = replica.commit(&header, &operations, stager) {
            self.tell(Event::Rejected(Rejected { position, text: super::explain(&error) }));
            return Err(error);
        }
        let is_catch_up = matches!(header.joint, Joint::CatchUp { .. });
        if let Some(receiver) = &mut self.receiver {
            receiver.accepted(&header);
        }
        self.tell(Event::Acked(Acked { position, chain: header.chain() }, header));
        if self.held.is_empty() {
            self.reveal_all()?;
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        if is_catch_up {
            replica.tidy()?;
            replica.drop_held()?;
        }
        Ok(())
    }

    /// Shows everything that is acked.
    fn reveal_all(&mut self) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        while let Some(position) = replica.reveal()? {
            let stand = Box::new(Stand::of(replica));
            tell(self.events.as_ref(), Event::Revealed(Revealed { position }, stand));
        }
        Ok(())
    }

    /// Trouble with what a peer sent ends that generation, not the replica.
    fn or_reject(&mut self, done: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        let Err(error) = done else { return Ok(()) };
        let position = match &self.incoming {
            Incoming::Generation(arriving) => arriving.header.position,
            _ => Position::default(),
        };
        if is_no_space(&error) {
            return self.ran_out(position, &error);
        }
        self.give_up()?;
        self.reject(position, &error)
    }

    fn reject(&mut self, position: Position, error: &dyn std::error::Error) -> Result<(), ReplicaError> {
        let text = super::explain(error);
        tracing::warn!(%position, %text, "what the primary sent was not taken");
        self.incoming = Incoming::Refused;
        self.tell_rejected(position, text);
        Ok(())
    }

    fn tell_rejected(&self, position: Position, text: String) {
        self.tell(Event::Rejected(Rejected { position, text }));
    }

    fn tell(&self, event: Event) {
        tell(self.events.as_ref(), event);
    }
}

/// A session that went away needs no events.
fn tell(events: Option<&mpsc::Sender<Event>>, event: Event) {
    if let Some(events) = events {
        events.blocking_send(event).ok();
    }
}

/// Which of `contents` are not here.
fn lack(replica: &Replica, contents: &[Digest]) -> Result<Lack, ReplicaError> {
    let mut bits = vec![0; contents.len().div_ceil(8)];
    for (index, content) in contents.iter().enumerate() {
        if !replica.has(*content)? {
            bits[index / 8] |= 1 << (index % 8);
        }
    }
    Ok(Lack { bits })
}

fn marked(home: &Path) -> Result<Option<HomeId>, ReplicaError> {
    match Root::open(home) {
        Ok(root) => marker::read(&root),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn listing<S: crate::thought::store::ReadStore>(
    tree: &Tree<S>,
    list: &List,
) -> Result<Listing, crate::thought::tree::TreeError> {
    let Some(row) = tree.row(&list.path)? else {
        return Ok(Listing { directory: None, children: Vec::new(), more: false });
    };
    let Some(facts) = &row.directory else {
        return Ok(Listing { directory: None, children: Vec::new(), more: false });
    };
    let mut children = Vec::new();
    let mut bytes = 0;
    let page = tree.children(facts.id, list.after.as_ref(), LISTING_CAP)?;
    let full = page.len() == LISTING_CAP;
    let mut more = full;
    for (name, row) in page {
        // A listing fits into one message, whatever xattrs its entries have.
        bytes += 256 + row.entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if bytes > crate::thought::wire::message::CONTROL_CAP / 2 && !children.is_empty() {
            more = true;
            break;
        }
        children.push(Child { name, digest: row.digest(), entry: row.entry });
    }
    Ok(Listing { directory: Some((row.entry.clone(), row.digest())), children, more })
}
