//! The standby's side of its link's control stream: messages and `now` go in, [`Told`] comes out. Which generations are taken is judged by the
//! [`receiver`](super::receiver), where the replica is.

use std::time::{Duration, Instant};

use super::Pulse;
use crate::thought::wire::frame::BodyError;
use crate::thought::wire::message::{Audit, CatchingUp, Have, Heartbeat, Hello, List, Message, Refused, Sign, Wanted};
use crate::words::position::{Position, Reign};

/// Why a link to a primary ends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    /// A message could not be read.
    #[error("a control message is malformed")]
    Body(#[from] BodyError),
    /// It said what no primary says.
    #[error("{0}")]
    Protocol(String),
    /// It will not speak to this node.
    #[error("the peer refuses: {}", .0.text)]
    Refused(Refused),
    /// There is a higher reign than the one that is followed. It is to be written down, after the replica was told to take no more from here.
    #[error("the primary of epoch {} was deposed by one of epoch {}", followed, by.epoch)]
    Deposed {
        /// The epoch that was followed.
        followed: u64,
        /// The higher reign.
        by: Reign,
    },
    /// It gave no sign of life.
    #[error("the primary has been silent for {} s", .0.as_secs())]
    Silent(Duration),
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// How far the primary is with bringing this standby up to date.
    CatchingUp(CatchingUp),
    /// A question, to be answered.
    List(List),
    /// See [`Told::List`].
    Have(Have),
    /// See [`Told::List`].
    Sign(Sign),
    /// See [`Told::List`].
    Wanted(Wanted),
    /// See [`Told::List`].
    Audit(Audit),
    /// The fuse may let through what it holds back.
    Release,
    /// Nothing that is not known.
    Nothing,
}

/// One primary as its standby hears it.
#[derive(Debug)]
pub struct Follower {
    pulse: Pulse,
    epoch: u64,
    acked: Position,
}

impl Follower {
    /// A link to the primary of `hello`, of a replica at `acked`.
    pub fn new(hello: &Hello, acked: Position, now: Instant) -> Self {
        let epoch = hello.reigns.iter().map(|reign| reign.epoch).max().unwrap_or(0);
        Self { pulse: Pulse::new(now), epoch, acked }
    }

    /// The replica acked `position`.
    pub fn acks(&mut self, position: Position) {
        self.acked = position;
    }

    /// A message of the control stream.
    pub fn received(&mut self, kind: u8, payload: &[u8], now: Instant) -> Result<Told, FollowerError> {
        self.pulse.heard(now);
        let message = Message::decode(kind, payload)?;
        let message = message.ok_or_else(|| FollowerError::Protocol(format!("message of kind {kind}")))?;
        Ok(match message {
            Message::Heartbeat(heartbeat) => Told::Heartbeat(heartbeat),
            // The generation came on a stream of its own, and overtook what is said of it.
            Message::CatchingUp(progress) if progress.from < self.acked => Told::Nothing,
            Message::CatchingUp(progress) => Told::CatchingUp(progress),
            Message::List(list) => Told::List(list),
            Message::Have(have) => Told::Have(have),
            Message::Sign(sign) => Told::Sign(sign),
            Message::Wanted(wanted) => Told::Wanted(wanted),
            Message::Audit(audit) => Told::Audit(audit),
            Message::Release(_) => Told::Release,
            Message::Refused(refused) => return Err(FollowerError::Refused(refused)),
            Message::Deposed(deposed) if deposed.reign.epoch > self.epoch => {
                return Err(FollowerError::Deposed { followed: self.epoch, by: deposed.reign });
            }
            Message::Deposed(_) => Told::Nothing,
            other => return Err(FollowerError::Protocol(format!("not for a standby: {other:?}"))),
        })
    }

    /// True if a sign of life is to be given at `now`; it counts as given.
    pub fn beat(&mut self, now: Instant) -> Result<bool, FollowerError> {
        if self.pulse.is_lost(now) {
            return Err(FollowerError::Silent(self.pulse.silence(now)));
        }
        Ok(self.pulse.beat(now))
    }
}
