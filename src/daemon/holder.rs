//! The holder: the one thread that owns a standby's replica.
//!
//! It takes jobs in order through one bounded channel: what arrives on data streams, questions of the primary, the wish to stop. What it has to say
//! goes out as events.

mod answers;
mod contents;
mod hold;
mod incoming;
mod inspect;
mod lane;
mod look;
mod waiting;
mod work;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use hold::{HoldAsk, Holds};
use look::Looks;
use work::Work;

use crate::reveal::{Copied, Copying, Depth, Holding, Replica, ReplicaError, ReplicaOptions, Scope, Standing, Whole};
use crate::thought::delta::ReadAt;
use crate::thought::filter::Filter;
use crate::thought::generation::{Claim, Header};
use crate::thought::session::arrival::GenerationPiece;
use crate::thought::session::receiver::Receiver;
use crate::thought::tree::Counts;
use crate::thought::wire::message::{
    Acked, Audited, Held, HeldAll, Lack, List, Listing, Rejected, Revealed, Sign, Signed, Swept, UnheldCounts, Wanted,
};
use crate::words::entry::Digest;
use crate::words::position::HomeId;

pub use contents::Admitted;
pub use inspect::Still;
pub use lane::Lane;
pub use look::Look;
pub use waiting::{Guards, Parked, Reserve};

/// How many jobs may wait; what arrives on a data stream comes in batches of 128 KiB and one frame more, each of which counts as one.
const JOBS: usize = 32;

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
    /// No more is taken until a new link begins.
    Unlink(oneshot::Sender<()>),
    /// What arrived of generations, in order.
    Arrived(Vec<GenerationPiece>),
    /// To be taken in turn with that.
    InTurn(Parked),
    /// Contents that came ahead are whole.
    Keep(Vec<Whole>),
    /// They were cut off.
    CutOff(Vec<Holding>),
    /// Children of a directory of the tree.
    List(List, oneshot::Sender<Listing>),
    /// Which contents are not here.
    Have(Vec<Digest>, oneshot::Sender<Lack>),
    /// The large ones among these contents that must be copied to be at hand.
    Copyings(Vec<Digest>, oneshot::Sender<Vec<Copying>>),
    /// Copies were made.
    Copied(Vec<Copied>),
    /// A content of the replica, so long, that a delta is to copy from.
    Base(Digest, u64, oneshot::Sender<Option<Box<dyn ReadAt + Send>>>),
    /// What is wanted of what came ahead; with the last of such jobs the rest goes.
    Wanted(Wanted, oneshot::Sender<Swept>),
    /// The replica as of now, with all revealed; or why it cannot be looked at. No answer if there is none.
    Still(oneshot::Sender<Result<Still, Audited>>),
    /// What differs there is to be taken into the tree. No answer if there is no replica.
    Mend(Scope, Depth, oneshot::Sender<Audited>),
    /// The replica is to stand still.
    HoldStill(HoldAsk),
    /// Somebody has let the replica go.
    LetGo,
    /// A generation is about to begin: answered when it may.
    MayBegin(oneshot::Sender<()>),
    /// Lets through what the fuse holds back; says what that was.
    Release(oneshot::Sender<Option<String>>),
    /// Tidies up, closes the replica and says so; nothing is taken after it.
    Stop(oneshot::Sender<()>),
}

/// Where a replica stands.
#[derive(Clone, Debug)]
pub struct Stand {
    /// Its standing.
    pub standing: Standing,
    /// What the generation claims that it stands at.
    pub claim: Option<Claim>,
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
            claim: replica.claim().cloned(),
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
    looks: Arc<Looks>,
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
        let looks: Arc<Looks> = Arc::default();
        let shared = (Arc::clone(&holds), Arc::clone(&looks));
        std::thread::Builder::new().name("holder".into()).spawn(move || {
            Work::new(options, filter, guards, shared, tells, runtime).run(queue, &failed);
        })?;
        Ok(Self { jobs, holds, looks, waits })
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

    /// Which contents are not here. Large ones that lie elsewhere in the replica are copied first, beside the holder; `None` if it has ended.
    pub async fn lack(&self, contents: Vec<Digest>) -> Option<Lack> {
        let copyings = self.ask(|reply| Job::Copyings(contents.clone(), reply)).await?;
        if !copyings.is_empty() {
            let copied = tokio::task::spawn_blocking(move || answers::copied(copyings)).await.ok()?;
            self.give(Job::Copied(copied)).await;
        }
        self.ask(|reply| Job::Have(contents, reply)).await
    }

    /// The signature of a content, which is read beside the holder; `None` if the holder has ended.
    pub async fn sign(&self, sign: Sign) -> Option<Signed> {
        let Sign { content, size } = sign;
        let base = self.ask(|reply| Job::Base(content, size, reply)).await?;
        tokio::task::spawn_blocking(move || answers::signed(base, size)).await.ok()
    }
}

#[cfg(test)]
mod tests;
