//! The standby's side of one primary: which generation may be taken (G5).

use crate::thought::generation::{Header, Joint};
use crate::thought::wire::message::Hello;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

/// Why a generation is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    /// Of another cluster or home.
    #[error("the generation belongs to another cluster or home")]
    Foreign,
    /// Not of the reign the primary greeted with.
    #[error("generation {0} is of another reign than the primary's hello")]
    OtherReign(Position),
    /// It starts from another history.
    #[error("generation {position} starts from {parent}, with another history than this replica's")]
    OtherHistory {
        /// The generation.
        position: Position,
        /// Where it starts.
        parent: Position,
    },
    /// It leads backwards.
    #[error("generation {position} does not come after {here}")]
    Backwards {
        /// The generation.
        position: Position,
        /// Where the replica stands.
        here: Position,
    },
}

/// What a standby has accepted on this link.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    cluster: ClusterId,
    home: HomeId,
    reign: ReignId,
    epoch: u64,
    head: (Position, ChainDigest),
}

impl Receiver {
    /// A standby that stands at `position`, linked to the primary of `hello`; `None` if the hello lacks what a primary's must have.
    pub fn new(hello: &Hello, position: Position, chain: ChainDigest) -> Option<Self> {
        let reign = hello.reigns.last()?;
        Some(Self {
            cluster: hello.cluster?,
            home: hello.home?,
            reign: reign.id,
            epoch: reign.epoch,
            head: (position, chain),
        })
    }

    /// Checks that the generation of `header` may be staged next.
    pub fn check(&self, header: &Header) -> Result<(), ReceiverError> {
        if (header.cluster, header.home) != (self.cluster, self.home) {
            return Err(ReceiverError::Foreign);
        }
        if header.reign != self.reign || header.position.epoch != self.epoch {
            return Err(ReceiverError::OtherReign(header.position));
        }
        if header.parent_chain != self.head.1 {
            let (position, parent) = (header.position, header.parent);
            return Err(ReceiverError::OtherHistory { position, parent });
        }
        let goes_on = match header.joint {
            Joint::Next => header.position > self.head.0,
            // A primary that went back to an older state says so by a new epoch; within one it may repeat where it stands.
            Joint::CatchUp { .. } => header.position >= self.head.0,
        };
        if goes_on { Ok(()) } else { Err(ReceiverError::Backwards { position: header.position, here: self.head.0 }) }
    }

    /// The generation of `header` was acked.
    pub fn accepted(&mut self, header: &Header) {
        self.head = (header.position, header.chain());
    }
}
