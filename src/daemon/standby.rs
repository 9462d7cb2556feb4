//! The standby's side of its link: it greets whom it reached, and feeds its replica.

mod report;
mod session;
mod streams;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use report::{Behind, StandbyReport};

use session::Session;

use super::filters::Filters;
use super::holder::{Holder, Job, Stand};
use super::keys::{Keys, Peered};
use super::memory::Memory;
use super::peers::{Busy, Peers};
use super::primary::{SessionError, hello, now, send};
use crate::net::connection::Connection;
use crate::net::link::Link;
use crate::reveal::ReplicaError;
use crate::thought::filter::Filter;
use crate::thought::session::follower::Follower;
use crate::thought::session::judge;
use crate::thought::session::receiver::Receiver;
use crate::thought::wire::message::{Hello, Refused, RefusedWhy};
use crate::words::position::Position;

/// What is said where a primary replicates by other filters than this standby would.
pub const FILTERS_DIFFER: &str = "the primary has another [replicate] than this node: the replica follows the primary's, but once promoted this node would \
     replicate by its own; make both alike";
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
    /// What this node would replicate if it were the primary.
    pub filters: Filters,
    /// The hello, but for where the replica stands and the filter.
    pub hello: Hello,
    /// What the standby says of itself.
    pub report: Arc<Mutex<StandbyReport>>,
    /// How many paths were found changed or damaged by this node itself: whoever is followed is greeted anew then.
    pub strays: watch::Sender<u64>,
    /// No primary is followed while it says so.
    pub paused: watch::Sender<bool>,
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
                report.stand.clone_from(&stand);
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
    context.peers.is_no_stranger(connection.peer());
    let peered = context.keys.met(&connection);
    let mut link = Link::open(connection).await?;
    let standing = stand.as_ref().map(|stand| stand.standing).unwrap_or_default();
    let remembered = context.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ours = Hello {
        cluster: remembered.cluster,
        home: stand.as_ref().map(|stand| stand.standing.home),
        reigns: remembered.reigns,
        position: standing.position,
        chain: standing.chain,
        tree: standing.tree,
        filter: context.filters.rules(),
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
    let follower = Follower::new(&theirs, stand.standing.position, now());
    Ok(Following { link, name, peered, follower, receiver, context: context.clone() })
}

/// A link to a primary, before anything came through it.
pub struct Following {
    link: Link,
    name: crate::words::position::NodeName,
    peered: Peered,
    follower: Follower,
    receiver: Receiver,
    context: StandbyContext,
}

impl Following {
    /// Feeds the replica until the link ends; why it did.
    pub async fn run(self) -> SessionError {
        let Self { link, name, peered, follower, receiver, context } = self;
        let (events, happened) = mpsc::channel(64);
        let weak = events.downgrade();
        let ended = if context.holder.give(Job::Link(events, receiver)).await {
            let (control, incoming, streams) = link.split();
            let session = Session { context: context.clone(), name: name.clone(), peered, control, follower };
            session.run(incoming, streams, happened, weak).await
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

/// True if trying again cannot help: a person must do something.
pub fn is_hopeless(error: &SessionError) -> bool {
    match error {
        SessionError::Replica(error) => {
            matches!(
                **error,
                ReplicaError::NoReplica { .. }
                    | ReplicaError::Gone { .. }
                    | ReplicaError::OtherHome { .. }
                    | ReplicaError::Marker { .. }
            )
        }
        SessionError::Refused(refused) | SessionError::Refusing(refused) => {
            matches!(refused.why, RefusedWhy::Home | RefusedWhy::Cloned)
        }
        _ => false,
    }
}
