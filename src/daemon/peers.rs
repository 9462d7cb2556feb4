//! What a node knows of its peers at the moment, for `status`, `wait` and `verify`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::memory::save_acks;
use crate::net::identity::NodeId;
use crate::net::trust::TrustedPeers;
use crate::thought::wire::message::{Audit, Audited, CatchingUp, Heartbeat, Refused, RefusedWhy};
use crate::words::position::{InstanceNonce, NodeName, Position};

/// What a session can be asked.
pub enum Ask {
    /// To end: the node greets anew.
    GiveWay,
    /// To have the standby compare its disk with its tree.
    Audit(Audit, oneshot::Sender<Audited>),
    /// To have the standby let through what its fuse holds back.
    Release,
}

/// What a link is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Busy {
    /// There is none.
    #[default]
    Absent,
    /// Everything is still to come.
    InitialSync,
    /// Trees are compared.
    CatchingUp,
    /// It is at the live edge.
    Streaming,
}

/// One peer.
#[derive(Default)]
pub struct Peer {
    /// Its id, as text.
    pub id: Option<String>,
    /// Where it is.
    pub address: Option<String>,
    /// What the link is busy with.
    pub busy: Busy,
    /// What it acked.
    pub acked: Option<Position>,
    /// The newest position it ever acked, as far as this primary remembers.
    pub best: Option<Position>,
    /// It came back with less than it had acked: what that was, and where it stood.
    pub went_back: Option<(Position, Position)>,
    /// What it revealed.
    pub revealed: Option<Position>,
    /// Payload bytes sent to it.
    pub sent: Arc<AtomicU64>,
    /// Its last sign of life.
    pub heartbeat: Option<Heartbeat>,
    /// How far it is being brought up to date.
    pub progress: Option<CatchingUp>,
    /// What its catch-up waits for.
    pub waits: Option<String>,
    /// Why the last link ended, or could not begin.
    pub trouble: Option<String>,
    /// Where its session can be asked.
    pub asks: Option<mpsc::Sender<Ask>>,
    /// The newest link that greeted, by the order in which links were made.
    newest_link: u64,
    /// The process that greeted last, and those whose place it and its predecessors took, the newest last.
    instances: Vec<InstanceNonce>,
    /// Why a process was not let in beside another of the same node, and when.
    cloned: Option<(Instant, String)>,
}

/// How many processes of one peer are remembered.
const INSTANCES_CAP: usize = 16;
/// For so long two processes of one node are an alarm.
const CLONED_FOR: Duration = Duration::from_secs(600);

impl Peer {
    /// It stands at `position`, by its own hello. True if it had acked more than that: it lost what it said to be durable.
    pub fn stands_at(&mut self, position: Position) -> bool {
        let lost = self.best.filter(|best| position < *best);
        self.went_back = lost.map(|best| (best, position)).or(self.went_back);
        lost.is_some()
    }

    /// It acked `position`.
    pub fn has_acked(&mut self, position: Position) {
        self.acked = Some(position);
        self.best = self.best.max(Some(position));
    }
}

/// At most this many ids that are not trusted are remembered, the newest.
const STRANGERS_CAP: usize = 8;
/// One that has not knocked for so long is forgotten.
const STRANGER_FOR: Duration = Duration::from_secs(600);

/// An id that was met and is not trusted.
struct Stranger {
    id: NodeId,
    /// What is to be said of it.
    text: String,
    at: Instant,
}

/// All peers.
pub struct Peers {
    /// Ids that were met and are not trusted; the newest last.
    strangers: Mutex<Vec<Stranger>>,
    all: Mutex<BTreeMap<NodeName, Peer>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { strangers: Mutex::default(), all: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    /// The peers by name.
    pub fn all(&self) -> MutexGuard<'_, BTreeMap<NodeName, Peer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Peers of which is known what they acked in an earlier run.
    pub fn remembering(acks: BTreeMap<NodeName, Position>) -> Self {
        let known = acks.into_iter().map(|(name, best)| (name, Peer { best: Some(best), ..Peer::default() }));
        Self { all: Mutex::new(known.collect()), ..Self::default() }
    }

    /// Forgets what a peer acked: who comes under its name next may have less.
    pub fn forget_acks(&self, name: &NodeName) {
        self.change(name, |peer| (peer.best, peer.went_back) = (None, None));
    }

    /// The newest position that each peer acked.
    pub fn acks(&self) -> BTreeMap<NodeName, Position> {
        self.all().iter().filter_map(|(name, peer)| Some((name.clone(), peer.best?))).collect()
    }

    /// What is to be said of standbys that lost what they had said to be durable: they are caught up, but their disks are not to be believed.
    pub fn went_back(&self) -> Vec<String> {
        let tell = |(name, peer): (&NodeName, &Peer)| {
            let (acked, stood) = peer.went_back?;
            let stood = if stood == Position::default() { "with nothing".to_owned() } else { format!("at {stood}") };
            Some(format!(
                "standby {name} went backwards: it had acked {acked} and came back {stood}; its disk was replaced, restored, or lost what was synced"
            ))
        };
        self.all().iter().filter_map(tell).collect()
    }

    /// Takes note of an id that was met and is not trusted.
    pub fn met_stranger(&self, id: NodeId, text: String, at: Instant) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|known| known.id != id);
        strangers.push(Stranger { id, text, at });
        let surplus = strangers.len().saturating_sub(STRANGERS_CAP);
        strangers.drain(..surplus);
    }

    /// An id that was met before is believed now, by whatever.
    pub fn is_no_stranger(&self, id: NodeId) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known.id != id);
    }

    /// What is to be said of those that knock and should not.
    pub fn unwelcome(&self, trusted: &TrustedPeers, now: Instant) -> Vec<String> {
        [self.strangers(trusted, now), self.clones(now)].concat()
    }

    /// What is to be said of ids that were met lately and that nobody trusted since.
    fn strangers(&self, trusted: &TrustedPeers, now: Instant) -> Vec<String> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |known: &Stranger| now.saturating_duration_since(known.at) < STRANGER_FOR;
        strangers.retain(|known| is_recent(known) && trusted.name_of(&known.id).is_none());
        strangers.iter().map(|known| known.text.clone()).collect()
    }

    /// Changes what is known of one peer.
    pub fn change(&self, name: &NodeName, change: impl FnOnce(&mut Peer)) {
        change(self.all().entry(name.clone()).or_default());
        self.changed.send_modify(|count| *count += 1);
    }

    /// Notes what the catch-up of the peer `name` waits for; what it waited for before.
    pub fn wait_for(&self, name: &NodeName, waits: Option<String>) -> Option<String> {
        let mut before = None;
        self.change(name, |peer| before = std::mem::replace(&mut peer.waits, waits));
        before
    }

    /// What is to be said of connected standbys whose catch-up waits for something.
    pub fn waiting(&self) -> Vec<String> {
        let all = self.all();
        let linked = all.iter().filter(|(_, peer)| peer.busy != Busy::Absent);
        linked.filter_map(|(name, peer)| Some(format!("standby {name}: {}", peer.waits.as_ref()?))).collect()
    }

    /// Notes that `link` of the peer `name` greets. False if one that was made later did so before: this hello was long on its way, and who sent it
    /// may be gone.
    pub fn note_greeting(&self, name: &NodeName, link: u64) -> bool {
        let mut all = self.all();
        let peer = all.entry(name.clone()).or_default();
        peer.newest_link = peer.newest_link.max(link);
        peer.newest_link == link
    }

    /// Decides whether the process `instance` of the peer `name` is let in, and has an older link of that peer give way to it.
    ///
    /// A node that was restarted greets with a new instance, and the one before is never heard of again. One that greets after another took its
    /// place, while that one is linked, is a second process with the same identity.
    pub fn admit(&self, name: &NodeName, instance: InstanceNonce, now: Instant) -> Result<(), Refused> {
        let mut all = self.all();
        let peer = all.entry(name.clone()).or_default();
        let is_linked = peer.asks.as_ref().is_some_and(|asks| !asks.is_closed());
        let known = peer.instances.iter().position(|known| *known == instance);
        if let (Some(at), true) = (known, is_linked)
            && at + 1 < peer.instances.len()
        {
            let text = format!(
                "two processes greet as node {name}, {} and {instance}, one with a copy of the other's state directory: give one of them \
                 a state directory of its own, or end it",
                peer.instances.last().unwrap_or(&instance)
            );
            peer.cloned = Some((now, text.clone()));
            return Err(Refused { why: RefusedWhy::Cloned, text });
        }
        if let Some(asks) = peer.asks.take() {
            // One that is full is as good as dead, and ends by its silence.
            asks.try_send(Ask::GiveWay).ok();
        }
        peer.instances.retain(|known| *known != instance);
        peer.instances.push(instance);
        let surplus = peer.instances.len().saturating_sub(INSTANCES_CAP);
        peer.instances.drain(..surplus);
        Ok(())
    }

    /// What is to be said of peers that greeted from two processes lately.
    fn clones(&self, now: Instant) -> Vec<String> {
        let lately = |peer: &Peer| {
            let (at, text) = peer.cloned.as_ref()?;
            (now.saturating_duration_since(*at) < CLONED_FOR).then(|| text.clone())
        };
        self.all().values().filter_map(lately).collect()
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// How often what was acked is written down, at most.
const ACKS_EVERY: Duration = Duration::from_secs(5);

/// Writes down what is acked, until it is cancelled: some seconds late, and so never one write for each generation.
pub async fn remember_acks(peers: &Arc<Peers>, state: &Path) {
    let mut changed = peers.subscribe();
    let mut written = peers.acks();
    while changed.changed().await.is_ok() {
        tokio::time::sleep(ACKS_EVERY).await;
        changed.mark_unchanged();
        let acks = peers.acks();
        if acks == written {
            continue;
        }
        let (state, saving) = (state.to_owned(), acks.clone());
        let saved = tokio::task::spawn_blocking(move || save_acks(&state, &saving)).await;
        match saved {
            Ok(Ok(())) => written = acks,
            Ok(Err(error)) => tracing::warn!(error = super::explain(&error), "cannot write down what standbys acked"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn a_restarted_node_takes_its_place_again_and_a_copy_of_it_is_refused_while_it_is_there() {
        let (peers, now) = (Peers::default(), Instant::now());
        let name = NodeName::try_from("b".to_owned()).unwrap();
        let instance = |byte| InstanceNonce([byte; 16]);
        let link = || {
            let (asks, asked) = mpsc::channel(4);
            peers.change(&name, |peer| peer.asks = Some(asks));
            asked
        };
        peers.admit(&name, instance(1), now).unwrap();
        let mut first = link();
        peers.admit(&name, instance(1), now).unwrap();
        assert!(matches!(first.try_recv(), Ok(Ask::GiveWay)), "the same process, over a new link");
        let mut first = link();
        peers.admit(&name, instance(2), now).unwrap();
        assert!(matches!(first.try_recv(), Ok(Ask::GiveWay)), "a restart, or the copy: nobody can tell yet");
        let second = link();
        let refused = peers.admit(&name, instance(1), now).unwrap_err();
        assert_eq!(refused.why, RefusedWhy::Cloned);
        assert_eq!(peers.clones(now), [refused.text]);
        drop(second);
        peers.admit(&name, instance(1), now).unwrap();
        assert_eq!(peers.clones(now + CLONED_FOR), Vec::<String>::new());
    }

    #[test]
    fn a_hello_that_was_overtaken_by_that_of_a_newer_link_is_known_to_be() {
        let peers = Peers::default();
        let [a, b] = ["a", "b"].map(|name| NodeName::try_from(name.to_owned()).unwrap());
        assert!(peers.note_greeting(&a, 1) && peers.note_greeting(&b, 2) && peers.note_greeting(&a, 4));
        assert!(!peers.note_greeting(&a, 3), "the link was made before, and greets after");
        assert!(peers.note_greeting(&b, 3));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn a_stranger_is_told_of_until_it_is_trusted_or_has_not_knocked_for_long() {
        let (peers, trusted, begun) = (Peers::default(), TrustedPeers::new(), Instant::now());
        let id = |digit: &str| format!("hs1-{}", digit.repeat(64)).parse::<NodeId>().unwrap();
        let told = |at| peers.strangers(&trusted, at);
        peers.met_stranger(id("a"), "a".into(), begun);
        peers.met_stranger(id("b"), "b".into(), begun);
        assert_eq!(told(begun), ["a", "b"]);
        trusted.trust(id("a"), NodeName::try_from("a".to_owned()).unwrap());
        assert_eq!(told(begun), ["b"]);
        let later = begun + STRANGER_FOR / 2;
        peers.met_stranger(id("b"), "b again".into(), later);
        assert_eq!(told(begun + STRANGER_FOR), ["b again"]);
        assert_eq!(told(later + STRANGER_FOR), Vec::<String>::new());
    }
}
