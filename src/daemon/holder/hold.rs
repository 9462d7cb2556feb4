//! Holding the replica still, for whoever reads it: what is acked is not revealed meanwhile.
//!
//! Acks go on meanwhile, each generation staged upon those that are not revealed, as long as the replica bears it: 1000 generations, 100 000
//! operations, 4 GiB staged (see `unrevealed` in [`reveal`](crate::reveal)), and the one that exceeds that. The next waits then, in the stream it
//! comes by, until the replica is let go. Nothing is lost by that: the primary keeps what is not acked, and catches the standby up.
//!
//! When it is let go, what was acked is revealed in order, oldest first; what arrives meanwhile comes before that, and the replica shows a whole
//! generation after each. A daemon that is killed while it holds has ended the hold: when the replica is opened all that was acked is revealed.
//!
//! **Invariant:** while a hold stands, nothing begins that the replica does not bear. The flag is set before the hold is queued, and the stream asks
//! for leave if it is set, so whatever began without leave is before the hold in the queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::work::Work;
use super::{Holder, Job};
use crate::daemon::primary::now;
use crate::reveal::{Replica, ReplicaError};
use crate::words::position::Position;

/// No hold lasts longer, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// So many holds may stand at a time.
const HOLDS: usize = 16;

/// A hold that was asked for.
pub struct HoldAsk {
    /// It ends after that.
    pub longest: Duration,
    /// It ends when the other end goes.
    pub keeper: oneshot::Receiver<()>,
    /// Told why it ended, if it was not let go.
    pub ended: oneshot::Sender<&'static str>,
    /// Where it is said that the replica stands still, or why it does not.
    pub reply: oneshot::Sender<Result<Position, &'static str>>,
}

/// A hold that stands.
pub(super) struct Hold {
    until: Instant,
    keeper: oneshot::Receiver<()>,
    ended: oneshot::Sender<&'static str>,
}

/// What everybody may know of the holds.
#[derive(Default)]
pub(super) struct Holds {
    /// Those that stand or are asked for.
    count: AtomicUsize,
    /// What the replica shows meanwhile, and since when.
    shown: Mutex<Option<(Position, Instant)>>,
}

impl Holder {
    /// Has the replica stand still; says where it does.
    pub async fn hold(&self, longest: Duration, keeper: oneshot::Receiver<()>) -> Result<Held, &'static str> {
        let (reply, answer) = oneshot::channel();
        let (ended, why) = oneshot::channel();
        // Before the job is in the queue: see the invariant.
        self.holds.count.fetch_add(1, Ordering::SeqCst);
        let asked = Job::HoldStill(HoldAsk { longest, keeper, ended, reply });
        let position = if self.give(asked).await { answer.await.ok() } else { None };
        match position.unwrap_or(Err("the daemon is ending")) {
            Ok(position) => Ok(Held { position, why }),
            Err(refused) => {
                self.holds.count.fetch_sub(1, Ordering::SeqCst);
                Err(refused)
            }
        }
    }

    /// Returns when a generation may begin; false if the holder has ended.
    pub async fn may_begin(&self) -> bool {
        self.holds.count.load(Ordering::SeqCst) == 0 || self.ask(Job::MayBegin).await.is_some()
    }

    /// What the replica shows while it is held, and since when.
    pub fn held(&self) -> Option<(Position, Instant)> {
        *self.holds.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replica that stands still.
pub struct Held {
    /// Where.
    pub position: Position,
    /// Tells why it does not any more.
    pub why: oneshot::Receiver<&'static str>,
}

impl Work {
    pub(super) fn hold_still(&mut self, asked: HoldAsk) -> Result<(), ReplicaError> {
        let HoldAsk { longest, keeper, ended, reply } = asked;
        // It stands at what is acked.
        self.reveal_all()?;
        let position = match &self.replica {
            None => Err("this standby holds no replica yet"),
            Some(replica) if replica.standing().position == Position::default() => {
                Err("this standby holds no whole generation yet")
            }
            Some(_) if self.held.len() >= HOLDS => Err("it is held by too many already"),
            Some(replica) => Ok(replica.standing().position),
        };
        // Those that come later hold what the first holds, not what is acked since.
        let shown = self.holds.shown.lock().unwrap_or_else(PoisonError::into_inner).map(|(position, _)| position);
        let position = position.map(|position| shown.unwrap_or(position));
        if let Ok(position) = position {
            self.holds.shown.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((position, now()));
            self.held_as = self.still()?;
            self.held.push(Hold { until: now() + longest.min(LONGEST), keeper, ended });
            tracing::info!(%position, "the replica is held still");
        }
        if reply.send(position).is_err() && position.is_ok() {
            self.held.pop();
            self.let_go(1);
        }
        Ok(())
    }

    /// A generation may begin, now or when the replica is let go.
    pub(super) fn may_begin(&mut self, reply: oneshot::Sender<()>) {
        let has_room = self.replica.as_ref().is_none_or(Replica::bears_more);
        if self.held.is_empty() || has_room {
            reply.send(()).ok();
        } else {
            self.waiting.push(reply);
        }
    }

    /// Lets go what is held no longer, and then reveals what was acked meanwhile.
    pub(super) fn look_at_holds(&mut self) -> Result<(), ReplicaError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let before = self.held.len();
        let at = now();
        let mut held = Vec::new();
        for mut hold in std::mem::take(&mut self.held) {
            if !matches!(hold.keeper.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                continue;
            }
            if at >= hold.until {
                tracing::warn!("the replica was held as long as was allowed, and is let go");
                hold.ended.send("it was held as long as was allowed").ok();
                continue;
            }
            held.push(hold);
        }
        self.held = held;
        self.let_go(before - self.held.len());
        Ok(())
    }

    /// Ends all holds, saying why: the replica is about to be opened anew, which reveals what is acked.
    pub(super) fn break_holds(&mut self, why: &'static str) {
        let count = self.held.len();
        for hold in self.held.drain(..) {
            hold.ended.send(why).ok();
        }
        self.let_go(count);
    }

    fn let_go(&mut self, count: usize) {
        self.holds.count.fetch_sub(count, Ordering::SeqCst);
        if self.held.is_empty() {
            self.held_as = None;
            if self.holds.shown.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
                tracing::info!("the replica is let go");
            }
            for waiting in self.waiting.drain(..) {
                waiting.send(()).ok();
            }
        }
    }
}
