//! Contents that arrive ahead of the generation that refers to them.
//!
//! They come beside generations, so that what is small need not wait for what is large. For the same reason a large one is synced before it is
//! said to be here, by a thread of its own: a generation that takes it has only its name left to make durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Event;
use super::work::Work;
use crate::daemon::primary::now;
use crate::reveal::{Copying, Holding, ReplicaError};
use crate::thought::generation::FormatError;
use crate::thought::session::arrival::{ContentsPiece, Piece};
use crate::thought::wire::message::{HeldAll, HeldContent, Swept, Wanted};
use crate::words::entry::Digest;
use crate::words::position::Position;

/// From this length on a content is synced before it is said to be here.
const SYNCED_FROM: u64 = 8 << 20;

/// So many copies are made for one question at most: each has a file open.
const COPYINGS: usize = 64;
/// So many wanted contents are known at a time: 16 MiB.
const WANTED: usize = 2 << 20;

/// What came ahead and was taken by no generation for so long, or up to twice as long, is wanted no more: its file has changed since, or gone.
const UNWANTED_AFTER: Duration = Duration::from_secs(600);

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
                return Ok(());
            }
            ContentsPiece::Hold(content) => {
                let again = || Piece::Contents(ContentsPiece::Hold(content.clone()));
                if !self.has_room(content.size.saturating_sub(content.from), again)? {
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

    /// A link ends: of the content that was arriving the beginning is kept.
    pub(super) fn cut_off_contents(&mut self) -> Result<(), ReplicaError> {
        self.wanted = Vec::new();
        match (std::mem::take(&mut self.contents), &mut self.replica) {
            (Contents::Arriving(arrived), Some(replica)) => match arrived.holding {
                Some(holding) => replica.cut_off(*holding),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What came ahead and is wanted no more goes, once all that is wanted was told. Whoever tells of more than [`WANTED`] gets nothing swept.
    pub(super) fn sweep_held(&mut self, wanted: Wanted) -> Result<Swept, ReplicaError> {
        if self.wanted.len() < WANTED {
            self.wanted.extend(wanted.contents);
        }
        if wanted.more {
            return Ok(Swept { contents: 0 });
        }
        let mut all = std::mem::take(&mut self.wanted);
        let is_arriving = !matches!(self.contents, Contents::Nothing);
        let Some(replica) = self.replica.as_mut().filter(|_| all.len() < WANTED && !is_arriving) else {
            return Ok(Swept { contents: 0 });
        };
        all.sort_unstable();
        let is_wanted = |content: Digest| content.0.first_chunk().is_some_and(|key| all.binary_search(key).is_ok());
        Ok(Swept { contents: replica.sweep_held(&is_wanted)? })
    }

    /// The large ones among `contents` that lie elsewhere in the replica, as far as there is room for copies of them.
    pub(super) fn copyings(&self, contents: &[Digest]) -> Result<Vec<Copying>, ReplicaError> {
        let (mut copyings, mut bytes) = (Vec::new(), 0_u64);
        let Some(replica) = &self.replica else { return Ok(copyings) };
        for content in contents {
            let Some(copying) = replica.copying(*content, SYNCED_FROM)? else { continue };
            bytes = bytes.saturating_add(copying.bytes());
            if copyings.len() == COPYINGS || !self.would_fit(bytes)? {
                break;
            }
            copyings.push(copying);
        }
        Ok(copyings)
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

    /// Drops what came ahead of generations that never came. Asked for with each generation at the live edge: what a catch-up brings ahead is wanted
    /// however long that takes.
    pub(super) fn drop_unwanted(&mut self) -> Result<(), ReplicaError> {
        let at = now();
        let arriving = match &self.contents {
            Contents::Arriving(arrived) => arrived.holding.as_ref().map(|holding| holding.digest()),
            _ => None,
        };
        match &mut self.replica {
            Some(replica) if at.saturating_duration_since(self.aged) >= UNWANTED_AFTER => {
                self.aged = at;
                replica.age_held(arriving).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Trouble with contents ends what arrives beside them as well: the primary goes on by comparing trees.
    fn contents_or_reject(&mut self, done: Result<(), ReplicaError>) -> Result<(), ReplicaError> {
        let Err(error) = done else { return Ok(()) };
        self.contents = Contents::Refused;
        self.refuse(error)
    }
}
