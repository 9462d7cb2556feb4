//! What arrives on data streams: staged, made durable, shown.

use tokio::sync::mpsc;

use super::waiting::needs;
use super::work::Work;
use super::{Event, Job, Stand};
use crate::fs::is_no_space;
use crate::reveal::{Holding, Records, ReplicaError, Stager};
use crate::spool::Spool;
use crate::thought::fuse::Tally;
use crate::thought::generation::{FormatError, Header, Joint, Operation, OperationsDigest};
use crate::thought::wire::message::{Acked, HeldAll, HeldContent, Rejected, Revealed};
use crate::words::position::Position;

/// What is arriving.
pub(super) enum Incoming {
    Nothing,
    Generation(Box<Arriving>),
    Contents {
        holding: Option<Box<Holding>>,
        count: u64,
    },
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
    pub(super) fn give_up(&mut self) -> Result<(), ReplicaError> {
        if let (Incoming::Generation(arriving), Some(replica)) =
            (std::mem::replace(&mut self.incoming, Incoming::Nothing), &mut self.replica)
        {
            replica.give_up(arriving.stager)?;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, header: Box<Header>) -> Result<(), ReplicaError> {
        self.give_up()?;
        let Some(receiver) = &self.receiver else {
            self.incoming = Incoming::Refused;
            return Ok(());
        };
        if let Err(error) = receiver.check(&header) {
            return self.reject(header.position, &error);
        }
        self.staged_bytes = 0;
        if !self.has_room(0, || Job::Begin(header.clone()))? {
            return Ok(());
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        // One is revealed before the next is staged: its bases and targets are where the tree says.
        while replica.reveal()?.is_some() {}
        match replica.begin(&header) {
            Ok(stager) => {
                let operations = Records::new(Spool::create(&self.options.state)?);
                let digest = OperationsDigest::default();
                let arriving = Arriving { header, stager, operations, digest, count: 0, tally: Tally::default() };
                self.incoming = Incoming::Generation(Box::new(arriving));
                Ok(())
            }
            Err(error) if is_no_space(&error) => self.ran_out(header.position, &error),
            Err(error) => self.reject(header.position, &error),
        }
    }

    pub(super) fn operation(&mut self, bytes: Vec<u8>) -> Result<(), ReplicaError> {
        let Incoming::Generation(arriving) = &self.incoming else { return Ok(()) };
        let operation = Operation::decode(&bytes)?;
        let needed = needs(&operation, &arriving.header.joint);
        if needed > 0 && !self.has_room(needed, || Job::Operation(bytes.clone()))? {
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

    pub(super) fn hold(&mut self, content: HeldContent) -> Result<(), ReplicaError> {
        if let (Some(replica), Incoming::Contents { holding, count }) = (&mut self.replica, &mut self.incoming) {
            *count += 1;
            *holding = Some(Box::new(replica.hold(content)?));
        }
        Ok(())
    }

    pub(super) fn end_held(&mut self, is_whole: bool) -> Result<(), ReplicaError> {
        let (Some(replica), Incoming::Contents { holding, .. }) = (&mut self.replica, &mut self.incoming) else {
            return Ok(());
        };
        let done = match holding.take() {
            Some(open) => replica.end_held(*open, is_whole),
            None => Err(FormatError::Malformed("end of a content").into()),
        };
        self.or_reject(done)
    }

    pub(super) fn payload(&mut self, bytes: &[u8]) -> Result<(), ReplicaError> {
        match (&mut self.replica, &mut self.incoming) {
            (Some(replica), Incoming::Generation(arriving)) => {
                replica.stage_payload(&mut arriving.stager, bytes).map(|_| ())
            }
            (Some(replica), Incoming::Contents { holding, .. }) => match holding.take() {
                Some(open) => {
                    *holding = replica.hold_payload(*open, bytes)?.map(Box::new);
                    Ok(())
                }
                None => Err(FormatError::Malformed("payload").into()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), ReplicaError> {
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Contents { count, .. } => {
                self.tell(Event::HeldAll(HeldAll { count }));
                Ok(())
            }
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

    /// One after the other; what is left when one must wait is parked right behind it.
    pub(super) fn several(&mut self, jobs: Vec<Job>) -> Result<(), ReplicaError> {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            self.job(job)?;
            if let Some(waiting) = &self.blocked {
                let behind = usize::from(waiting.has_parked());
                self.parked.insert(behind, Job::Several(jobs.collect()));
                break;
            }
        }
        Ok(())
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
        if self.held.is_empty() {
            self.reveal_all()?;
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        if is_catch_up {
            replica.tidy()?;
            replica.drop_held()?;
        }
        Ok(())
    }

    /// Shows everything that is acked.
    pub(super) fn reveal_all(&mut self) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        while let Some(position) = replica.reveal()? {
            let stand = Box::new(Stand::of(replica));
            tell(self.events.as_ref(), Event::Revealed(Revealed { position }, stand));
        }
        Ok(())
    }

    /// Trouble with what a peer sent ends that generation, not the replica.
    pub(super) fn or_reject(&mut self, done: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        let Err(error) = done else { return Ok(()) };
        let position = match &self.incoming {
            Incoming::Generation(arriving) => arriving.header.position,
            _ => Position::default(),
        };
        if is_no_space(&error) {
            return self.ran_out(position, &error);
        }
        self.give_up()?;
        self.reject(position, &error)
    }

    pub(super) fn reject(&mut self, position: Position, error: &dyn std::error::Error) -> Result<(), ReplicaError> {
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
