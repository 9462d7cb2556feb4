//! A generation that arrives: staged, made durable, and shown when nothing else is to be done.
//!
//! Acks come first: what arrives is taken before what is acked is revealed, so that a small generation need not wait for the reveal of those
//! before it. While more arrives [`BEHIND`] generations wait to be revealed at most; while the replica is held still, as many as it bears.

use tokio::sync::mpsc;

use super::waiting::{Parked, needs};
use super::work::Work;
use super::{Event, Stand};
use crate::fs::is_no_space;
use crate::reveal::{Records, ReplicaError, Stager};
use crate::spool::Spool;
use crate::thought::fuse::Tally;
use crate::thought::generation::{FormatError, Header, Joint, Operation, OperationsDigest};
use crate::thought::session::arrival::GenerationPiece;
use crate::thought::wire::message::{Acked, Rejected, Revealed};
use crate::words::position::Position;

/// So many generations at most are acked and not shown while more arrives, unless the replica is held still.
const BEHIND: usize = 8;

/// The generation that is arriving.
#[derive(Default)]
pub(super) enum Incoming {
    #[default]
    Nothing,
    Generation(Box<Arriving>),
    /// What still comes of a stream that was refused.
    Refused,
}

/// A generation that is arriving.
pub(super) struct Arriving {
    pub(super) header: Box<Header>,
    pub(super) stager: Stager,
    pub(super) operations: Records,
    pub(super) digest: OperationsDigest,
    pub(super) count: u64,
    pub(super) tally: Tally,
}

impl Work {
    pub(super) fn piece(&mut self, piece: GenerationPiece) -> Result<(), ReplicaError> {
        match piece {
            GenerationPiece::Begin(header) => self.begin(header),
            GenerationPiece::Operation(bytes) => {
                let done = self.operation(bytes);
                self.or_reject(done)
            }
            GenerationPiece::Payload(bytes) => {
                let done = self.payload(&bytes);
                self.or_reject(done)
            }
            GenerationPiece::End => self.end(),
        }
    }

    /// Forgets the generation that is arriving.
    pub(super) fn give_up(&mut self) -> Result<(), ReplicaError> {
        if let (Incoming::Generation(arriving), Some(replica)) = (std::mem::take(&mut self.incoming), &mut self.replica)
        {
            replica.give_up(arriving.stager)?;
        }
        Ok(())
    }

    fn begin(&mut self, header: Box<Header>) -> Result<(), ReplicaError> {
        self.give_up()?;
        let Some(receiver) = &self.receiver else {
            self.incoming = Incoming::Refused;
            return Ok(());
        };
        if let Err(error) = receiver.check(&header) {
            return self.reject(header.position, &error);
        }
        self.staged_bytes = 0;
        if !self.has_room(0)? {
            self.parked.push_front(Parked::Piece(GenerationPiece::Begin(header)));
            return Ok(());
        }
        if self.held.is_empty() {
            // What waits to be shown while more arrives is little.
            while self.replica.as_ref().is_some_and(|replica| replica.unrevealed() >= BEHIND || !replica.bears_more()) {
                self.reveal_one()?;
            }
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        match replica.begin(&header) {
            Ok(stager) => {
                let operations = Records::new(Spool::create(&self.options.state)?);
                let digest = OperationsDigest::default();
                let arriving = Arriving { header, stager, operations, digest, count: 0, tally: Tally::default() };
                self.incoming = Incoming::Generation(Box::new(arriving));
                Ok(())
            }
            Err(error) => self.refuse_at(header.position, error),
        }
    }

    fn operation(&mut self, bytes: Vec<u8>) -> Result<(), ReplicaError> {
        let (Incoming::Generation(arriving), Some(replica)) = (&self.incoming, &self.replica) else { return Ok(()) };
        let operation = Operation::decode(&bytes)?;
        let needed = needs(&operation, &arriving.header.joint, replica)?;
        if needed > 0 && !self.has_room(needed)? {
            self.parked.push_front(Parked::Piece(GenerationPiece::Operation(bytes)));
            return Ok(());
        }
        let (Some(replica), Incoming::Generation(arriving)) = (&mut self.replica, &mut self.incoming) else {
            return Ok(());
        };
        let Arriving { stager, operations, digest, count, tally, .. } = &mut **arriving;
        if u64::from(operation.id) != *count {
            return Err(FormatError::Malformed("operation number").into());
        }
        *count += 1;
        digest.update(&bytes);
        operations.push(operation.action.section(), &bytes)?;
        tally.take(replica.tree(), &operation.action)?;
        replica.stage(stager, operation)
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<(), ReplicaError> {
        match (&mut self.replica, &mut self.incoming) {
            (Some(replica), Incoming::Generation(arriving)) => {
                replica.stage_payload(&mut arriving.stager, bytes).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), ReplicaError> {
        match std::mem::take(&mut self.incoming) {
            Incoming::Generation(arriving) => {
                let position = arriving.header.position;
                let is_whole = arriving.count == arriving.header.operations
                    && arriving.digest.clone().finish() == arriving.header.operations_digest;
                if is_whole {
                    return self.take_or_wait(arriving);
                }
                self.incoming = Incoming::Generation(arriving);
                self.give_up()?;
                let what = "the operations are not those it announces";
                self.reject(position, &ReplicaError::Header { position, what })
            }
            Incoming::Nothing | Incoming::Refused => Ok(()),
        }
    }

    /// Makes a whole generation durable, and shows it.
    pub(super) fn take(&mut self, arriving: Arriving) -> Result<(), ReplicaError> {
        let Arriving { header, stager, operations, .. } = arriving;
        let Some(replica) = &mut self.replica else { return Ok(()) };
        let position = header.position;
        if let Err(error) = replica.commit(&header, &operations, stager) {
            self.tell(Event::Rejected(Rejected { position, text: crate::daemon::explain(&error) }));
            return Err(error);
        }
        let is_catch_up = matches!(header.joint, Joint::CatchUp { .. });
        if let Some(receiver) = &mut self.receiver {
            receiver.accepted(&header);
        }
        self.tell(Event::Acked(Acked { position, chain: header.chain() }, header));
        if is_catch_up {
            self.reveal_all()?;
            let Some(replica) = &mut self.replica else { return Ok(()) };
            replica.settle()?;
            replica.drop_held()?;
        }
        self.drop_unwanted()
    }

    /// True if something acked is to be shown.
    pub(super) fn has_to_reveal(&self) -> bool {
        self.held.is_empty() && self.replica.as_ref().is_some_and(|replica| replica.unrevealed() > 0)
    }

    /// Shows everything that is acked, unless the replica is held still.
    pub(super) fn reveal_all(&mut self) -> Result<(), ReplicaError> {
        while self.has_to_reveal() {
            self.reveal_one()?;
        }
        Ok(())
    }

    /// Shows the oldest generation that is acked and not shown.
    pub(super) fn reveal_one(&mut self) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        if let Some(position) = replica.reveal()? {
            let stand = Box::new(Stand::of(replica));
            tell(self.events.as_ref(), Event::Revealed(Revealed { position }, stand));
        }
        Ok(())
    }

    /// Trouble with what a peer sent ends that generation, not the replica.
    fn or_reject(&mut self, done: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(error),
        }
    }

    /// Takes no more of what is arriving.
    pub(super) fn refuse(&mut self, error: ReplicaError) -> Result<(), ReplicaError> {
        let position = match &self.incoming {
            Incoming::Generation(arriving) => arriving.header.position,
            _ => Position::default(),
        };
        self.refuse_at(position, error)
    }

    /// Where nothing can be written any more the replica fails, whatever was sent: that is to be said, and no comparison of trees would help.
    fn refuse_at(&mut self, position: Position, error: ReplicaError) -> Result<(), ReplicaError> {
        if is_no_space(&error) {
            return self.ran_out(position, &error);
        }
        if self.replica.as_ref().is_some_and(|replica| replica.check_writable().is_err()) {
            return Err(error);
        }
        self.give_up()?;
        self.reject(position, &error)
    }

    fn reject(&mut self, position: Position, error: &dyn std::error::Error) -> Result<(), ReplicaError> {
        let text = crate::daemon::explain(error);
        tracing::warn!(%position, %text, "what the primary sent was not taken");
        self.incoming = Incoming::Refused;
        self.tell_rejected(position, text);
        Ok(())
    }

    pub(super) fn tell_rejected(&self, position: Position, text: String) {
        self.tell(Event::Rejected(Rejected { position, text }));
    }

    pub(super) fn tell(&self, event: Event) {
        tell(self.events.as_ref(), event);
    }
}

/// A session that went away needs no events.
fn tell(events: Option<&mpsc::Sender<Event>>, event: Event) {
    if let Some(events) = events {
        events.blocking_send(event).ok();
    }
}
