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
        if self.is_of_last(&change) {
            return;
        }
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
            _ if self.queue.len() < capacity => self.queue.push_back(change),
            _ => self.overflow(change.source),
        }
    }

    /// True if `change` is of the same file as the last that waits, and is taken together with it.
    fn is_of_last(&mut self, change: &Change) -> bool {
        let Some(last) = self.queue.back_mut().filter(|last| last.source == change.source) else { return false };
        match (&mut last.kind, &change.kind) {
            (ChangeKind::Touched { path, written }, ChangeKind::Touched { path: other, written: more }) => {
                let is_same = path == other;
                *written |= *more && is_same;
                is_same
            }
            (ChangeKind::InodeTouched { inode }, ChangeKind::InodeTouched { inode: other }) => inode == other,
            _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::path::RelPath;

    const A: SourceId = SourceId(0);
    const B: SourceId = SourceId(1);

    fn touched(name: &str) -> ChangeKind {
        ChangeKind::Touched { path: RelPath::parse(name.as_bytes()).unwrap(), written: false }
    }

    fn appeared(name: &str) -> ChangeKind {
        ChangeKind::Appeared { path: RelPath::parse(name.as_bytes()).unwrap(), directory: false, seen: None }
    }

    fn barrier(mailbox: &Mailbox, number: u8) -> ChangeKind {
        let name = BarrierName::parse(format!("barrier-{number}-0").as_bytes()).unwrap();
        mailbox.expect(name);
        ChangeKind::Barrier { name }
    }

    fn of(source: SourceId, kinds: &[ChangeKind]) -> Vec<Change> {
        kinds.iter().map(|kind| Change { source, kind: kind.clone() }).collect()
    }

    fn drained(mailbox: &Mailbox) -> Vec<Change> {
        mailbox.drain(Duration::ZERO)
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_said_once_where_it_would_have_stood() {
        let mailbox = Arc::new(Mailbox::new(2));
        let feed = mailbox.feed(A);
        ["a", "b", "c", "d"].iter().for_each(|name| feed.push(appeared(name)));
        assert_eq!(drained(&mailbox), of(A, &[appeared("a"), appeared("b"), ChangeKind::Overflow]));
        ["e", "f", "g"].iter().for_each(|name| feed.push(appeared(name)));
        assert_eq!(drained(&mailbox), of(A, &[appeared("e"), appeared("f"), ChangeKind::Overflow]));
    }

    #[test]
    fn a_barrier_is_answered_though_the_mailbox_is_full_and_what_is_dropped_behind_it_is_said_again() {
        let mailbox = Arc::new(Mailbox::new(1));
        let feed = mailbox.feed(A);
        let (first, second) = (barrier(&mailbox, 1), barrier(&mailbox, 2));
        let pushed = [appeared("a"), appeared("b"), first.clone(), appeared("c"), appeared("d"), second.clone()];
        pushed.into_iter().for_each(|kind| feed.push(kind));
        let expected = [appeared("a"), ChangeKind::Overflow, first, ChangeKind::Overflow, second];
        assert_eq!(drained(&mailbox), of(A, &expected));
    }

    #[test]
    fn each_source_that_loses_a_change_says_so_for_itself() {
        let mailbox = Arc::new(Mailbox::new(1));
        let (a, b) = (mailbox.feed(A), mailbox.feed(B));
        a.push(appeared("a"));
        b.push(appeared("b"));
        a.push(appeared("c"));
        b.push(appeared("d"));
        let sources = |change: &Change| (change.source, change.kind == ChangeKind::Overflow);
        let drained: Vec<_> = drained(&mailbox).iter().map(sources).collect();
        assert_eq!(drained, [(A, false), (B, true), (A, true)]);
    }

    #[test]
    fn only_neighbours_of_one_source_and_path_are_taken_together() {
        let mailbox = Arc::new(Mailbox::new(100));
        let (a, b) = (mailbox.feed(A), mailbox.feed(B));
        for name in ["x", "x", "y", "x"] {
            a.push(touched(name));
        }
        let path = RelPath::parse(b"x").unwrap();
        let written = ChangeKind::Touched { path, written: true };
        a.push(written.clone());
        a.push(touched("x"));
        b.push(touched("x"));
        let wall = barrier(&mailbox, 1);
        b.push(wall.clone());
        b.push(touched("x"));
        let expected = [of(A, &[touched("x"), touched("y"), written]), of(B, &[touched("x"), wall, touched("x")])];
        assert_eq!(drained(&mailbox), expected.concat());
    }

    #[test]
    fn a_barrier_nobody_raised_is_no_barrier_and_none_is_answered_twice() {
        let mailbox = Arc::new(Mailbox::new(0));
        let (a, b) = (mailbox.feed(A), mailbox.feed(B));
        let forged = ChangeKind::Barrier { name: BarrierName::parse(b"barrier-7-7").unwrap() };
        let raised = barrier(&mailbox, 1);
        for kind in [&forged, &raised, &raised] {
            a.push(kind.clone());
            b.push(kind.clone());
        }
        assert_eq!(drained(&mailbox), [of(A, std::slice::from_ref(&raised)), of(B, &[raised])].concat());
    }

    #[test]
    fn the_feed_before_a_restart_is_dead() {
        let mailbox = Arc::new(Mailbox::new(9));
        let old = mailbox.feed(A);
        let new = old.renew();
        old.push(appeared("old"));
        new.push(appeared("new"));
        assert_eq!(drained(&mailbox), of(A, &[appeared("new")]));
    }

    #[test]
    fn a_wake_ends_the_wait_and_only_one() {
        let mailbox = Arc::new(Mailbox::new(9));
        let waiting = std::thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.drain(Duration::from_secs(3600))
        });
        mailbox.wake();
        assert!(waiting.join().unwrap().is_empty());
        assert!(!mailbox.lock().woken);
        mailbox.feed(A).push(appeared("a"));
        assert_eq!(mailbox.drain(Duration::from_secs(3600)).len(), 1);
    }
}
