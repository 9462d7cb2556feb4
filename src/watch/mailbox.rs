//! The one mailbox all sources push into.
//!
//! Bounded: at most `capacity` changes wait, plus reserved room for what must never be lost: the answers to the barriers that
//! stand, and the overflow markers between them.
//!
//! **Overflow.** A change that finds no room is dropped, and an `Overflow` of its source stands in its place. What is dropped behind
//! it needs no further marker, unless an answer to a barrier came in between: behind that answer stands a new one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{BarrierName, Change, ChangeKind, SourceId};

/// How many barriers may stand unanswered; an older one than these is forgotten.
const BARRIERS_CAP: usize = 64;
/// Sources are numbered below this.
const SOURCES_CAP: u8 = 64;

/// Where changes wait for the one who works on them.
#[derive(Debug)]
pub struct Mailbox {
    capacity: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Change>,
    standing: VecDeque<Standing>,
    inlets: Vec<Inlet>,
    woken: bool,
}

/// A barrier that was raised, and who has answered it: one bit a source.
#[derive(Debug)]
struct Standing {
    name: BarrierName,
    answered: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Inlet {
    incarnation: u64,
    /// An overflow marker of this source waits in the queue, and no answer to a barrier behind it.
    marked: bool,
}

impl Mailbox {
    /// An empty mailbox in which at most `capacity` changes can wait.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Takes all that waits; waits for something first, for `timeout` at most. Empty after a timeout or a [`wake`](Self::wake).
    pub fn drain(&self, timeout: Duration) -> Vec<Change> {
        let empty = |state: &mut State| state.queue.is_empty() && !state.woken;
        let waited = self.filled.wait_timeout_while(self.lock(), timeout, empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        state.inlets.iter_mut().for_each(|inlet| inlet.marked = false);
        std::mem::take(&mut state.queue).into()
    }

    /// Ends the present wait, or the next one, without a change.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.filled.notify_all();
    }

    /// How many changes wait.
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A feed for `source`. Feeds given to it before are dead from now on: what is pushed into them is dropped.
    pub(super) fn feed(self: &Arc<Self>, source: SourceId) -> Feed {
        assert!(source.0 < SOURCES_CAP, "sources are numbered from 0");
        let at = usize::from(source.0);
        let mut state = self.lock();
        if state.inlets.len() <= at {
            state.inlets.resize(at + 1, Inlet::default());
        }
        state.inlets[at].incarnation += 1;
        let incarnation = state.inlets[at].incarnation;
        Feed { mailbox: Arc::clone(self), source, incarnation }
    }

    /// Answers to `name` are let in from now on, one for each source.
    pub(super) fn expect(&self, name: BarrierName) {
        let mut state = self.lock();
        if state.standing.len() == BARRIERS_CAP {
            state.standing.pop_front();
        }
        state.standing.push_back(Standing { name, answered: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, change: Change, capacity: usize) {
        let marked = &mut self.inlets[usize::from(change.source.0)].marked;
        match change.kind {
            ChangeKind::Barrier { name } => {
                let bit = 1 << change.source.0;
                let Some(standing) = self.standing.iter_mut().find(|standing| standing.name == name) else { return };
                if standing.answered & bit != 0 {
                    return;
                }
                standing.answered |= bit;
                *marked = false;
                self.queue.push_back(change);
            }
            ChangeKind::Overflow => self.overflow(change.source),
            ChangeKind::Touched { .. } if self.queue.back() == Some(&change) => {}
            _ if self.queue.len() < capacity => self.queue.push_back(change),
            _ => self.overflow(change.source),
        }
    }

    fn overflow(&mut self, source: SourceId) {
        let marked = &mut self.inlets[usize::from(source.0)].marked;
        if !*marked {
            *marked = true;
            self.queue.push_back(Change { source, kind: ChangeKind::Overflow });
        }
    }
}

/// One source's way into the mailbox.
#[derive(Clone, Debug)]
pub struct Feed {
    mailbox: Arc<Mailbox>,
    source: SourceId,
    incarnation: u64,
}

impl Feed {
    /// The source it belongs to.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// The source saw `kind`. Never blocks for longer than the mailbox's own bookkeeping.
    pub fn push(&self, kind: ChangeKind) {
        let mut state = self.mailbox.lock();
        if state.inlets[usize::from(self.source.0)].incarnation != self.incarnation {
            return;
        }
        state.push(Change { source: self.source, kind }, self.mailbox.capacity);
        drop(state);
        self.mailbox.filled.notify_all();
    }

    /// A new feed of the same source; this one is dead from now on.
    pub(super) fn renew(&self) -> Self {
        self.mailbox.feed(self.source)
    }
}
