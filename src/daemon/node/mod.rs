//! A node: everything one daemon runs, in one role, and what it answers.

mod configured;
mod options;
mod pause;
mod release;
mod resync;
mod scrub;
mod search;
mod start;
mod status;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::keeper::{Command, Marked, Shared};
use super::keys::{Keys, KeysError, Rotating};
use super::memory::{Memory, MemoryError, save_acks, trust_in, untrust_in};
use super::peers::{Busy, Peers};
use super::standby::{StandbyContext, StandbyReport};
use crate::control::{PeerWait, Refusal, RefusalClass, Request, Rotation, Trusting, WaitOutcome};
use crate::fs::FsError;
use crate::net::NetError;
use crate::net::authority::CertificateFileError;
use crate::net::endpoint::Endpoint;
use crate::net::identity::{IdentityError, NodeId};
use crate::net::trust::TrustedPeers;
use crate::observe::status::{ProgressStatus, ScrubStatus, Status};
use crate::reveal::ReplicaError;
use crate::words::position::{HomeId, InstanceNonce, NodeName, Position};

pub use configured::{Configured, Handle};
pub use options::{NodeOptions, PeerOptions};
pub use scrub::ScrubOptions;

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The home will not do.
    #[error("the home {} cannot be replicated: {why}", home.display())]
    Home {
        /// The home.
        home: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The home cannot be read.
    #[error("the home {} cannot be read", home.display())]
    Unreadable {
        /// The home.
        home: PathBuf,
        /// Why.
        #[source]
        source: FsError,
    },
    /// The home is another one than this state belongs to.
    #[error("the home {} is {found}, and this state directory belongs to home {known}", home.display())]
    OtherHome {
        /// The directory.
        home: PathBuf,
        /// What its marker says.
        found: HomeId,
        /// What the state says.
        known: HomeId,
    },
    /// The home is not there: what is at its path is not what this state belongs to.
    #[error(
        "the home {} has not the file .hotspare/home that says that it is home {known}, as this state directory has it: is the file system \
         mounted? If this is the home, restored from a backup say: {}", home.display(), super::keeper::marker_command(home, *known)
    )]
    Unmarked {
        /// The directory.
        home: PathBuf,
        /// What the state says.
        known: HomeId,
    },
    /// The state belongs elsewhere.
    #[error(
        "the state directory {} was last used with another {what}, and this would be the same node a second time if it is a copy",
        state.display()
    )]
    Moved {
        /// The state directory.
        state: PathBuf,
        /// What is another.
        what: &'static str,
    },
    /// The file system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// What it remembers cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Its key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key that waits to be used cannot be.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificates of `[tls]` cannot be used.
    #[error("[tls] cannot be used")]
    Certificates(#[from] CertificateFileError),
    /// The network refused.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The replica cannot be used.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The primary's own work failed.
    #[error(transparent)]
    Keeper(#[from] super::keeper::KeeperError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A peer id is none.
    #[error("{0:?} is no node id")]
    PeerId(String),
    /// It ended by itself.
    #[error("{0}")]
    Ended(String),
    /// The link to the peer cannot come about without a person.
    #[error("{0}")]
    Hopeless(String),
}

/// What a role brings.
enum Part {
    Primary { shared: Arc<Shared>, keeper: mpsc::Sender<Command> },
    Standby { context: Box<StandbyContext> },
}

/// What all parts of a node share.
struct Inner {
    options: NodeOptions,
    keys: Arc<Keys>,
    certificates: Arc<Certificates>,
    instance: InstanceNonce,
    trusted: TrustedPeers,
    memory: Arc<Mutex<Memory>>,
    peers: Arc<Peers>,
    endpoint: Arc<Endpoint>,
    part: Part,
    /// What a person must do before a link can come about.
    hopeless: Mutex<Option<String>>,
    /// What came of the configuration that was read last.
    configured: Mutex<Configured>,
    /// Where the scrub is.
    scrub: Mutex<Option<ScrubStatus>>,
    /// The node is ending: what sleeps wakes.
    ending: AtomicBool,
    /// How far a resync is.
    resync: Mutex<Option<ProgressStatus>>,
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    tasks: JoinSet<()>,
    keeper: Option<std::thread::JoinHandle<Result<Position, super::keeper::KeeperError>>>,
    /// Held as long as the node runs.
    _lock: crate::fs::state::Lock,
}

impl Node {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.inner.endpoint.id()
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.endpoint.local_addr().ok()
    }

    /// Trusts a peer while the node runs.
    pub fn trust(&self, id: NodeId, name: NodeName) {
        self.inner.trusted.trust(id, name);
    }

    /// Answers requests until `stop` is done or a part of the node fails.
    pub async fn serve(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), NodeError> {
        let mut answers = JoinSet::new();
        let mut look = tokio::time::interval(Duration::from_millis(200));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(request) = requests.recv() => {
                    let inner = Arc::clone(&self.inner);
                    answers.spawn(async move { inner.answer(request).await });
                }
                Some(_) = answers.join_next() => {}
                _ = look.tick() => self.check()?,
            }
        }
        answers.shutdown().await;
        Ok(())
    }

    /// True, with the reason, if the node cannot go on.
    pub fn check(&self) -> Result<(), NodeError> {
        if let Part::Primary { shared, .. } = &self.inner.part
            && let Some(why) = &shared.report().failed
        {
            return Err(NodeError::Ended(why.clone()));
        }
        Ok(())
    }

    /// Why no link can come about without a person, if so.
    pub fn hopeless(&self) -> Option<String> {
        self.inner.hopeless.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it says of itself.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// A cut of all that was written so far, on a primary: the position that has it.
    pub async fn mark(&self) -> Option<Position> {
        self.inner.mark_all().await
    }

    /// What a standby's replica shows, as far as its primary knows.
    pub fn revealed(&self) -> Vec<(NodeName, Option<Position>)> {
        self.inner.peers.all().iter().map(|(name, peer)| (name.clone(), peer.revealed)).collect()
    }

    /// Ends it in order.
    pub async fn end(mut self) -> Result<(), NodeError> {
        self.inner.ending.store(true, Ordering::Relaxed);
        if let Part::Primary { shared, .. } = &self.inner.part {
            shared.stop();
        }
        self.inner.endpoint.close().await;
        self.tasks.shutdown().await;
        if let Part::Standby { context } = &self.inner.part {
            // One that has ended needs no stopping.
            context.holder.ask(super::holder::Job::Stop).await;
        }
        if let Some(keeper) = self.keeper.take() {
            let ended = tokio::task::spawn_blocking(move || keeper.join()).await;
            let position = ended
                .map_err(|_| NodeError::Ended("the keeper ended badly".into()))?
                .map_err(|_| NodeError::Ended("the keeper ended badly".into()))??;
            let mut memory = self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.ended_at = Some(position);
            memory.save(&self.inner.options.state)?;
            save_acks(&self.inner.options.state, &self.inner.peers.acks())?;
        }
        Ok(())
    }
}

impl Inner {
    async fn answer(&self, request: Request) {
        match request {
            Request::Status(reply) => reply.send(Ok(self.status())),
            Request::Wait { standbys, timeout, reply } => {
                let outcome = self.wait(standbys, timeout).await;
                reply.send(outcome);
            }
            Request::Verify { paths, reply } => {
                let report = self.verify(paths).await;
                reply.send(report);
            }
            Request::Resync { asked, reply } => {
                let report = self.resync(asked).await;
                reply.send(report);
            }
            Request::Hold { longest, reply } => {
                let hold = self.hold(longest).await;
                reply.send(hold);
            }
            Request::Pause(reply) => reply.send(self.pause(true)),
            Request::Resume(reply) => reply.send(self.pause(false)),
            Request::Release(reply) => {
                let released = self.release().await;
                reply.send(released);
            }
            Request::Trust { id, name, also, reply } => reply.send(self.trust(&id, name, also)),
            Request::Rotate { now, reply } => reply.send(self.rotate(now)),
            Request::Untrust { id, reply } => reply.send(self.untrust(&id)),
        }
    }

    /// A cut of all that was written so far; `None` where there is none to be had now.
    async fn mark(&self) -> Option<Marked> {
        let Part::Primary { shared, keeper } = &self.part else { return None };
        let (reply, answer) = tokio::sync::oneshot::channel();
        keeper.send(Command::Mark(reply)).await.ok()?;
        shared.wake();
        answer.await.ok()
    }

    /// The position that has all that was written so far, however long it takes to know of it.
    async fn mark_all(&self) -> Option<Position> {
        loop {
            let marked = self.mark().await?;
            if marked.has_all {
                return Some(marked.position);
            }
            tracing::debug!(position = %marked.position, "not all that was written is known yet");
        }
    }

    async fn wait(&self, standbys: Option<usize>, timeout: Option<Duration>) -> Result<WaitOutcome, Refusal> {
        // The position that has it all, once there is one.
        let mut wanted = None;
        let waiting = async {
            let not_primary = || {
                Refusal::new(RefusalClass::Guard, "this node is a standby; what was written is known to the primary")
                    .hint("run `hotspare wait` on the primary")
            };
            if let Part::Standby { .. } = &self.part {
                return Err(not_primary());
            }
            self.refuse_if_paused()?;
            let ending = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
            wanted = self.mark_all().await;
            if wanted.is_none() {
                return Err(self.held().unwrap_or_else(ending));
            }
            let mut changed = self.peers.subscribe();
            loop {
                let outcome = self.reached(wanted, standbys);
                if outcome.reached || changed.changed().await.is_err() {
                    return Ok(outcome);
                }
            }
        };
        match timeout {
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(outcome) => outcome,
                Err(_) => Ok(WaitOutcome { reached: false, ..self.reached(wanted, standbys) }),
            },
            None => waiting.await,
        }
    }

    /// What the guard of the home has to say, if it holds everything back.
    fn held(&self) -> Option<Refusal> {
        let Part::Primary { shared, .. } = &self.part else { return None };
        shared.report().held().map(|held| Refusal::new(RefusalClass::Guard, held.text))
    }

    fn position(&self) -> Option<Position> {
        match &self.part {
            Part::Primary { shared, .. } => Some(shared.window().head().0),
            Part::Standby { context } => {
                let report: StandbyReport = context.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
                report.stand.map(|stand| stand.standing.position).filter(|position| *position != Position::default())
            }
        }
    }

    fn reached(&self, position: Option<Position>, standbys: Option<usize>) -> WaitOutcome {
        let all = self.peers.all();
        let peers: Vec<PeerWait> = self
            .trusted
            .names()
            .into_iter()
            .map(|name| {
                let peer = all.get(&name);
                let acked = peer.and_then(|peer| peer.acked);
                let is_there = peer.is_some_and(|peer| peer.busy != Busy::Absent);
                let reached = is_there && position.is_some() && acked >= position;
                PeerWait { name: name.to_string(), acked: acked.map(|acked| acked.to_string()), reached }
            })
            .collect();
        let count = peers.iter().filter(|peer| peer.reached).count();
        let reached = match standbys {
            Some(wanted) => count >= wanted,
            None => count == peers.len() && count > 0,
        };
        WaitOutcome { reached, position: position.map(|position| position.to_string()), peers }
    }

    fn trust(&self, id: &str, name: NodeName, also: bool) -> Result<Trusting, Refusal> {
        let parsed = parse_id(id)?;
        let other = |error: MemoryError| Refusal::new(RefusalClass::Other, super::explain(&error));
        let replaced = trust_in(&self.options.state, id, &name, also).map_err(other)?;
        for known in replaced.iter().filter_map(|id| id.parse().ok()).filter(|id| !self.is_configured(id)) {
            self.trusted.untrust(&known);
        }
        self.trusted.trust(parsed, name);
        self.endpoint.cut_untrusted();
        Ok(Trusting { replaced })
    }

    fn rotate(&self, now: bool) -> Result<Rotation, Refusal> {
        let other = |error: KeysError| {
            let class = if let KeysError::Certified(_) = error { RefusalClass::Usage } else { RefusalClass::Other };
            Refusal::new(class, super::explain(&error))
        };
        let Rotating { id, waiting_for, is_done } = self.keys.rotate(now).map_err(other)?;
        let waiting_for = waiting_for.iter().map(ToString::to_string).collect();
        Ok(Rotation { id: id.to_string(), waiting_for, is_done })
    }

    fn is_configured(&self, id: &NodeId) -> bool {
        self.options.peers.iter().any(|peer| peer.id == Some(*id))
    }

    fn untrust(&self, id: &str) -> Result<(), Refusal> {
        let parsed = parse_id(id)?;
        let other = |error: MemoryError| Refusal::new(RefusalClass::Other, super::explain(&error));
        let was_trusted = untrust_in(&self.options.state, id).map_err(other)?;
        let name = self.trusted.untrust(&parsed);
        if name.is_none() && !was_trusted {
            let refusal = Refusal::new(RefusalClass::Usage, format!("{id} is not pinned here"));
            let is_certified = self.options.certificates.ca.is_some();
            return Err(if is_certified {
                refusal.hint("a peer that is known by its certificate is untrusted by taking its [[peer]] out of the configuration")
            } else {
                refusal
            });
        }
        if let Some(name) = name {
            self.peers.forget_acks(&name);
        }
        self.endpoint.cut_untrusted();
        self.keys.reconsider();
        if self.is_configured(&parsed) {
            let text = format!("{id} is no longer trusted by this run, but the configuration still names it");
            return Err(Refusal::new(RefusalClass::Other, text).hint("take it out of the configuration as well"));
        }
        Ok(())
    }
}

fn parse_id(id: &str) -> Result<NodeId, Refusal> {
    id.parse::<NodeId>().map_err(|error| Refusal::new(RefusalClass::Usage, super::explain(&error)))
}

#[cfg(test)]
mod tests;
