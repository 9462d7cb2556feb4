//! The primary's side of one standby: where it stands, what was sent, what is acked.

use std::collections::VecDeque;

use crate::thought::wire::message::{Acked, Hello};
use crate::words::position::{ChainDigest, Position};

/// How many generations may be under way to one standby, not acked.
pub const UNDER_WAY_CAP: usize = 8;

/// A standby that does something it must not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// It acks what it was not sent, or in another order.
    #[error("the standby acks generation {0}, which is not the next one it was sent")]
    NotSent(Position),
    /// It acks another history.
    #[error("the standby acks generation {0} with another chain digest")]
    OtherChain(Position),
}

/// One standby as its primary sees it.
#[derive(Debug)]
pub struct Sender {
    acked: (Position, ChainDigest),
    revealed: Position,
    under_way: VecDeque<(Position, ChainDigest)>,
}

impl Sender {
    /// A standby that stands where its hello says.
    pub fn new(hello: &Hello) -> Self {
        Self { acked: (hello.position, hello.chain), revealed: hello.position, under_way: VecDeque::new() }
    }

    /// The history the next generation for it must start from.
    pub fn head(&self) -> (Position, ChainDigest) {
        self.under_way.back().copied().unwrap_or(self.acked)
    }

    /// True if one more generation may be sent.
    pub fn may_send(&self) -> bool {
        self.under_way.len() < UNDER_WAY_CAP
    }

    /// A generation was sent.
    pub fn sent(&mut self, position: Position, chain: ChainDigest) {
        self.under_way.push_back((position, chain));
    }

    /// The standby acked.
    pub fn acked(&mut self, acked: &Acked) -> Result<(), SenderError> {
        match self.under_way.front() {
            Some((position, _)) if *position != acked.position => Err(SenderError::NotSent(acked.position)),
            Some((_, chain)) if *chain != acked.chain => Err(SenderError::OtherChain(acked.position)),
            Some(next) => {
                self.acked = *next;
                self.under_way.pop_front();
                Ok(())
            }
            None => Err(SenderError::NotSent(acked.position)),
        }
    }

    /// The standby revealed up to `position`.
    pub fn revealed(&mut self, position: Position) {
        self.revealed = position;
    }

    /// What is under way will not be acked: the standby goes on from what it acked.
    pub fn reset(&mut self) {
        self.under_way.clear();
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

    /// True if nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }
}
