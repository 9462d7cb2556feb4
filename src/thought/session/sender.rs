//! The primary's side of one standby: where it stands, what was sent, what is acked, what was asked.
//!
//! A machine: control messages and `now` go in, [`Heard`] comes out. Whoever drives it sends what the standby is to get next, one thing at a
//! time, and says so ([`Sender::sent`], [`Sender::ended`]); answers go to whoever's ticket `T` stands first for that kind of question.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Pulse;
use crate::thought::wire::frame::BodyError;
use crate::thought::wire::message::{
    Acked, Audited, Heartbeat, HeldAll, Hello, Lack, Listing, Message, Refused, Rejected, Signed, Swept,
};
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, Position};

/// How many generations may be under way to one standby, not acked.
pub const UNDER_WAY_CAP: usize = 8;
/// After so many refusals in a row the link is given up: what was under way when the first came is refused too.
pub const REJECTIONS: usize = 2 + UNDER_WAY_CAP;

/// Why a link to a standby ends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// It acks what it was not sent, or in another order.
    #[error("the standby acks generation {0}, which is not the next one it was sent")]
    NotSent(Position),
    /// It acks another history.
    #[error("the standby acks generation {0} with another chain digest")]
    OtherChain(Position),
    /// It did not take what it was sent, time and again.
    #[error("the standby does not take generation {}: {}", .0.position, .0.text)]
    Rejected(Rejected),
    /// A message could not be read.
    #[error("a control message is malformed")]
    Body(#[from] BodyError),
    /// It said what no standby says.
    #[error("{0}")]
    Protocol(String),
    /// It will not speak to this node.
    #[error("the peer refuses: {}", .0.text)]
    Refused(Refused),
    /// It gave no sign of life.
    #[error("the standby has been silent for {} s", .0.as_secs())]
    Silent(Duration),
}

/// A kind of question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Children of a directory.
    List,
    /// Which contents are not there.
    Have,
    /// Whether all contents of a stream are there.
    AllHeld,
    /// The signature of a content.
    Sign,
    /// That what is wanted no more goes.
    Sweep,
    /// A comparison of the disk with the tree.
    Audit,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Everything up to here is acked.
    Acked(Position),
    /// Everything up to here is revealed.
    Revealed(Position),
    /// A generation was not taken: the trees are compared next.
    Rejected(Rejected),
    /// The answer to a question.
    Listing(T, Listing),
    /// See [`Heard::Listing`].
    Lack(T, Lack),
    /// See [`Heard::Listing`].
    HeldAll(T, HeldAll),
    /// See [`Heard::Listing`].
    Signed(T, Signed),
    /// See [`Heard::Listing`].
    Swept(T, Swept),
    /// See [`Heard::Listing`]. A standby of which something strayed is at no point of this history any more: the link is to end.
    Audited(T, Audited),
}

/// One standby as its primary sees it.
#[derive(Debug)]
pub struct Sender<T> {
    pulse: Pulse,
    acked: (Position, ChainDigest),
    revealed: Position,
    under_way: VecDeque<(Position, ChainDigest)>,
    asked: VecDeque<(Asked, T)>,
    tree: Option<Digest>,
    /// Generations refused in a row.
    rejected: usize,
    wants_catch_up: bool,
    is_sending: bool,
}

impl<T> Sender<T> {
    /// A standby that stands where its hello says.
    pub fn new(hello: &Hello, now: Instant) -> Self {
        Self {
            pulse: Pulse::new(now),
            acked: (hello.position, hello.chain),
            revealed: hello.position,
            under_way: VecDeque::new(),
            asked: VecDeque::new(),
            tree: Some(hello.tree),
            rejected: 0,
            wants_catch_up: false,
            is_sending: false,
        }
    }

    /// The history the next generation for it must start from.
    pub fn head(&self) -> (Position, ChainDigest) {
        self.under_way.back().copied().unwrap_or(self.acked)
    }

    /// True if something more may be sent.
    pub fn may_send(&self) -> bool {
        !self.is_sending && self.under_way.len() < UNDER_WAY_CAP
    }

    /// True if the trees are to be compared, whatever comes next in the history.
    pub fn wants_catch_up(&self) -> bool {
        self.wants_catch_up
    }

    /// A comparison of trees begins: nothing else is sent until it [`ended`](Self::ended).
    pub fn catches_up(&mut self) {
        self.wants_catch_up = false;
        self.is_sending = true;
    }

    /// A generation goes out, and nothing else until it [`ended`](Self::ended).
    pub fn sends(&mut self, position: Position, chain: ChainDigest) {
        self.is_sending = true;
        self.sent(position, chain);
    }

    /// A generation goes out.
    pub fn sent(&mut self, position: Position, chain: ChainDigest) {
        self.tree = None;
        self.under_way.push_back((position, chain));
    }

    /// What was being sent is out, or given up.
    pub fn ended(&mut self) {
        self.is_sending = false;
    }

    /// A question is put: its answer is for `ticket`. To be said before the question is sent.
    pub fn asks(&mut self, what: Asked, ticket: T) {
        self.asked.push_back((what, ticket));
    }

    /// A message of the control stream.
    pub fn received(&mut self, kind: u8, payload: &[u8], now: Instant) -> Result<Heard<T>, SenderError> {
        self.pulse.heard(now);
        let message = Message::decode(kind, payload)?;
        let message = message.ok_or_else(|| SenderError::Protocol(format!("message of kind {kind}")))?;
        Ok(match message {
            Message::Heartbeat(heartbeat) => Heard::Heartbeat(heartbeat),
            Message::Acked(acked) => Heard::Acked(self.acked(&acked)?),
            Message::Revealed(revealed) => {
                self.revealed = revealed.position;
                Heard::Revealed(revealed.position)
            }
            Message::Rejected(rejected) => Heard::Rejected(self.rejected(rejected)?),
            Message::Listing(listing) => Heard::Listing(self.answered(Asked::List)?, listing),
            Message::Lack(lack) => Heard::Lack(self.answered(Asked::Have)?, lack),
            Message::HeldAll(all) => Heard::HeldAll(self.answered(Asked::AllHeld)?, all),
            Message::Signed(signed) => Heard::Signed(self.answered(Asked::Sign)?, signed),
            Message::Swept(swept) => Heard::Swept(self.answered(Asked::Sweep)?, swept),
            Message::Audited(audited) => Heard::Audited(self.answered(Asked::Audit)?, audited),
            Message::Refused(refused) => return Err(SenderError::Refused(refused)),
            other => return Err(SenderError::Protocol(format!("not for a primary: {other:?}"))),
        })
    }

    fn acked(&mut self, acked: &Acked) -> Result<Position, SenderError> {
        let next = *self.under_way.front().ok_or(SenderError::NotSent(acked.position))?;
        if next.0 != acked.position {
            return Err(SenderError::NotSent(acked.position));
        }
        if next.1 != acked.chain {
            return Err(SenderError::OtherChain(acked.position));
        }
        self.under_way.pop_front();
        self.acked = next;
        self.rejected = 0;
        Ok(next.0)
    }

    /// What is under way will not be acked: the standby goes on from what it acked.
    fn rejected(&mut self, rejected: Rejected) -> Result<Rejected, SenderError> {
        self.rejected += 1;
        if self.rejected > REJECTIONS {
            return Err(SenderError::Rejected(rejected));
        }
        self.under_way.clear();
        self.wants_catch_up = true;
        Ok(rejected)
    }

    fn answered(&mut self, what: Asked) -> Result<T, SenderError> {
        let at = self.asked.iter().position(|(asked, _)| *asked == what);
        let ticket = at.and_then(|at| self.asked.remove(at)).map(|(_, ticket)| ticket);
        ticket.ok_or_else(|| SenderError::Protocol(format!("an answer to no question ({what:?})")))
    }

    /// True if a sign of life is to be given at `now`; it counts as given.
    pub fn beat(&mut self, now: Instant) -> Result<bool, SenderError> {
        if self.pulse.is_lost(now) {
            return Err(SenderError::Silent(self.pulse.silence(now)));
        }
        Ok(self.pulse.beat(now))
    }

    /// What is acked, with the history that led there.
    pub fn acked_head(&self) -> (Position, ChainDigest) {
        self.acked
    }

    /// What is acked.
    pub fn position(&self) -> Position {
        self.acked.0
    }

    /// What is revealed.
    pub fn revealed_position(&self) -> Position {
        self.revealed
    }

    /// The digest of the standby's tree, as its hello says; `None` once something was sent.
    pub fn tree(&self) -> Option<Digest> {
        self.tree
    }

    /// True if nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }
}
