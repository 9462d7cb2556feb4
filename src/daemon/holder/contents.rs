//! Contents that arrive ahead of the generation that refers to them.
//!
//! They come beside generations, so that what is small need not wait for what is large. For the same reason a large one is synced before it is
//! said to be here, by a thread of its own: a generation that takes it has only its name left to make durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Event;
use super::work::Work;
use crate::daemon::primary::now;
use crate::reveal::{Holding, ReplicaError};
use crate::thought::generation::FormatError;
use crate::thought::session::arrival::{ContentsPiece, Piece};
use crate::thought::wire::message::{HeldAll, HeldContent};
use crate::words::entry::Digest;
use crate::words::position::Position;

/// From this length on a content is synced before it is said to be here.
const SYNCED_FROM: u64 = 8 << 20;

/// What came ahead and was taken by no generation for so long is wanted no more: its file has changed since, or gone.
const UNWANTED_AFTER: Duration = Duration::from_secs(3600);

/// A stream of contents that is arriving.
#[derive(Default)]
pub(super) enum Contents {
    #[default]
    Nothing,
    Arriving(Box<Arrived>),
    /// What still comes of a stream that was refused.
    Refused,
}

/// What came of it so far.
#[derive(Default)]
pub(super) struct Arrived {
    holding: Option<Box<Holding>>,
    count: u64,
    /// Those that are to be synced.
    large: Vec<Digest>,
}

impl Work {
    pub(super) fn contents_piece(&mut self, piece: ContentsPiece) -> Result<(), ReplicaError> {
        let done = match piece {
            ContentsPiece::Begin => {
                self.contents = Contents::Arriving(Box::default());
                self.staged_bytes = 0;
                self.contents_came = Some(now());
                return Ok(());
            }
            ContentsPiece::Hold(content) => {
                let again = || Piece::Contents(ContentsPiece::Hold(content.clone()));
                if !self.has_room(content.size, again)? {
                    return Ok(());
                }
                self.hold(content)
            }
            ContentsPiece::Payload(bytes) => self.hold_payload(&bytes),
            ContentsPiece::Held(is_whole) => self.end_held(is_whole),
            ContentsPiece::End => return self.end_contents(),
        };
        self.contents_or_reject(done)
    }

    fn hold(&mut self, content: HeldContent) -> Result<(), ReplicaError> {
        if let (Some(replica), Contents::Arriving(arrived)) = (&mut self.replica, &mut self.contents) {
            arrived.count += 1;
            if content.size >= SYNCED_FROM {
                arrived.large.push(content.digest);
            }
            arrived.holding = Some(Box::new(replica.hold(content)?));
        }
        Ok(())
    }

    fn hold_payload(&mut self, bytes: &[u8]) -> Result<(), ReplicaError> {
        let (Some(replica), Contents::Arriving(arrived)) = (&mut self.replica, &mut self.contents) else {
            return Ok(());
        };
        let open = arrived.holding.take().ok_or(FormatError::Malformed("payload"))?;
        arrived.holding = replica.hold_payload(*open, bytes)?.map(Box::new);
        Ok(())
    }

    fn end_held(&mut self, is_whole: bool) -> Result<(), ReplicaError> {
        let (Some(replica), Contents::Arriving(arrived)) = (&mut self.replica, &mut self.contents) else {
            return Ok(());
        };
        let open = arrived.holding.take().ok_or(FormatError::Malformed("end of a content"))?;
        replica.end_held(*open, is_whole)
    }

    fn end_contents(&mut self) -> Result<(), ReplicaError> {
        let arrived = match std::mem::take(&mut self.contents) {
            Contents::Arriving(arrived) => arrived,
            // Who sent it waits for an answer.
            Contents::Refused => {
                self.tell(Event::HeldAll(HeldAll { count: 0 }));
                return Ok(());
            }
            Contents::Nothing => return Ok(()),
        };
        self.contents_came = Some(now());
        let all = Event::HeldAll(HeldAll { count: arrived.count });
        let (Some(replica), Some(events)) = (&self.replica, &self.events) else { return Ok(()) };
        let mut files = Vec::new();
        // For the first generation all waits, and all is synced at once.
        if replica.standing().position != Position::default() {
            for digest in arrived.large {
                files.extend(replica.held_file(digest)?);
            }
        }
        if files.is_empty() {
            self.tell(all);
            return Ok(());
        }
        let (events, failed) = (events.clone(), Arc::clone(&self.sync_failed));
        self.runtime.spawn_blocking(move || {
            for file in files {
                if let Err(error) = file.sync_all() {
                    tracing::error!(
                        error = crate::daemon::explain(&error),
                        "what came ahead is not durable; it is dropped"
                    );
                    failed.store(true, Ordering::SeqCst);
                }
            }
            // A session that went away needs no events.
            events.blocking_send(all).ok();
        });
        Ok(())
    }

    /// **Invariant:** what a failed sync has left is never taken: the kernel may have dropped what it could not write, and says so only once.
    pub(super) fn drop_unsynced(&mut self) -> Result<(), ReplicaError> {
        match &mut self.replica {
            Some(replica) if self.sync_failed.swap(false, Ordering::SeqCst) => replica.drop_held(),
            _ => Ok(()),
        }
    }

    /// Drops what came ahead of generations that never came.
    pub(super) fn drop_unwanted(&mut self) -> Result<(), ReplicaError> {
        let is_old = |at: &mut Instant| now().saturating_duration_since(*at) >= UNWANTED_AFTER;
        let is_idle = matches!(self.contents, Contents::Nothing);
        match &mut self.replica {
            Some(replica) if is_idle && self.contents_came.take_if(is_old).is_some() => replica.drop_held(),
            _ => Ok(()),
        }
    }

    /// Trouble with contents ends what arrives beside them as well: the primary goes on by comparing trees.
    fn contents_or_reject(&mut self, done: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        let Err(error) = done else { return Ok(()) };
        self.contents = Contents::Refused;
        self.refuse(&error)
    }
}
