//! The lane of contents: what is sent ahead of generations is taken in by a thread of its own, so that what is small need not wait for what is
//! large. A few bytes of a delta can stand for a gigabyte that is copied.
//!
//! It asks the holder which contents may come, which waits for room, and hands over those that are whole. Of what is cut off it hands over the
//! beginning, before the link counts as ended.

use std::collections::VecDeque;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::contents::Admitted;
use super::waiting::Parked;
use super::{Event, Holder, Job};
use crate::reveal::{Fed, ReplicaError, Whole};
use crate::thought::generation::FormatError;
use crate::thought::session::arrival::{ContentsPiece, Piece};
use crate::thought::wire::message::{HeldAll, HeldContent};

/// Takes contents in, on a thread that may wait.
pub struct Lane {
    line: Line,
    events: mpsc::WeakSender<Event>,
    stream: Stream,
}

/// A stream of contents.
#[derive(Default)]
enum Stream {
    #[default]
    Nothing,
    Arriving(Box<Arriving>),
    /// What still comes of a stream that was refused.
    Refused,
}

#[derive(Default)]
struct Arriving {
    open: Option<Admitted>,
    /// Those that come next.
    next: VecDeque<Admitted>,
    /// Those that the holder does not know of yet.
    whole: Vec<Whole>,
    count: u64,
}

/// What ends the lane: its link, or the holder.
struct Ended;

/// Why a stream is not taken further.
enum Stopped {
    Ended,
    /// What came is not as it should be.
    Unfit(ReplicaError),
    /// The holder has said why.
    Refused,
}

impl From<Ended> for Stopped {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<ReplicaError> for Stopped {
    fn from(error: ReplicaError) -> Self {
        Self::Unfit(error)
    }
}

impl Lane {
    /// A lane of one link, whose events go to `events`, until it is `over`.
    pub fn new(holder: Holder, events: mpsc::WeakSender<Event>, over: watch::Receiver<bool>) -> Self {
        Self { line: Line { holder, over, runtime: Handle::current() }, events, stream: Stream::Nothing }
    }

    /// Takes in what comes, each time of one stream, until nothing more does.
    pub fn run(mut self, mut batches: mpsc::Receiver<Vec<Piece>>) {
        while let Some(batch) = batches.blocking_recv() {
            if self.batch(batch).is_err() {
                break;
            }
        }
        // A holder that has ended has closed its replica.
        self.leave(Stream::Nothing).ok();
    }

    /// Goes on with `next`; of a stream that was arriving what is whole is kept, and what is not is cut off.
    fn leave(&mut self, next: Stream) -> Result<(), Ended> {
        let Stream::Arriving(mut left) = std::mem::replace(&mut self.stream, next) else { return Ok(()) };
        self.line.hand_over(&mut left)?;
        let parts = left.open.into_iter().chain(left.next).map(|admitted| admitted.holding).collect();
        self.line.tell(Job::CutOff(parts))
    }

    fn batch(&mut self, batch: Vec<Piece>) -> Result<(), Ended> {
        let mut pieces = batch.into_iter();
        while let Some(piece) = pieces.next() {
            // What is of a generation goes another way.
            let Piece::Contents(piece) = piece else { continue };
            match self.piece(piece, pieces.as_slice()) {
                Ok(()) => {}
                Err(Stopped::Ended) => return Err(Ended),
                Err(Stopped::Refused) => self.leave(Stream::Refused)?,
                // Trouble with contents ends what arrives beside them as well: the primary goes on by comparing trees.
                Err(Stopped::Unfit(error)) => {
                    self.leave(Stream::Refused)?;
                    self.line.tell(Job::InTurn(Parked::Refuse(Box::new(error))))?;
                }
            }
        }
        match &mut self.stream {
            Stream::Arriving(arriving) => self.line.hand_over(arriving),
            Stream::Nothing | Stream::Refused => Ok(()),
        }
    }

    fn piece(&mut self, piece: ContentsPiece, behind: &[Piece]) -> Result<(), Stopped> {
        match (piece, &mut self.stream) {
            (ContentsPiece::Begin, _) => self.leave(Stream::Arriving(Box::default()))?,
            (ContentsPiece::End, _) => self.end()?,
            (piece, Stream::Arriving(arriving)) => arriving.piece(piece, behind, &self.line)?,
            (_, Stream::Nothing | Stream::Refused) => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Ended> {
        match &mut self.stream {
            Stream::Nothing => return Ok(()),
            Stream::Arriving(arriving) if arriving.open.is_none() && arriving.next.is_empty() => {
                let all = HeldAll { count: arriving.count };
                self.leave(Stream::Nothing)?;
                let events = self.events.upgrade().ok_or(Ended)?;
                return events.blocking_send(Event::HeldAll(all)).map_err(|_| Ended);
            }
            Stream::Arriving(_) => {
                let error = FormatError::Malformed("end of contents").into();
                self.line.tell(Job::InTurn(Parked::Refuse(Box::new(error))))?;
            }
            Stream::Refused => {}
        }
        self.leave(Stream::Nothing)?;
        // Who sent it waits for an answer.
        self.line.tell(Job::InTurn(Parked::HeldNone))
    }
}

impl Arriving {
    fn piece(&mut self, piece: ContentsPiece, behind: &[Piece], line: &Line) -> Result<(), Stopped> {
        let misplaced = |what| Stopped::Unfit(FormatError::Malformed(what).into());
        match piece {
            ContentsPiece::Begin | ContentsPiece::End => Ok(()),
            ContentsPiece::Hold(_) if self.open.is_some() => Err(misplaced("beginning of a content")),
            ContentsPiece::Hold(content) => {
                if self.next.is_empty() {
                    let all = std::iter::once(content).chain(behind.iter().filter_map(content_of)).collect();
                    self.next =
                        line.ask(|reply| Job::InTurn(Parked::Hold(all, reply)))?.ok_or(Stopped::Refused)?.into();
                }
                self.open = self.next.pop_front();
                self.count += 1;
                Ok(())
            }
            ContentsPiece::Payload(bytes) => {
                let open = self.open.as_mut().ok_or_else(|| misplaced("payload"))?;
                match open.holding.feed(&bytes, &|| line.is_over()) {
                    Ok(Fed::Part) => Ok(()),
                    Ok(Fed::All) => self.keep(),
                    Ok(Fed::Stopped) => Err(Stopped::Ended),
                    Err(error) => {
                        self.discard();
                        Err(error.into())
                    }
                }
            }
            ContentsPiece::Held(_) if self.open.is_none() => Err(misplaced("end of a content")),
            ContentsPiece::Held(true) => self.keep(),
            // It changed while it was read.
            ContentsPiece::Held(false) => {
                self.discard();
                Ok(())
            }
        }
    }

    fn keep(&mut self) -> Result<(), Stopped> {
        let Some(Admitted { holding, syncs }) = self.open.take() else { return Ok(()) };
        // One that is not here after all is asked for again.
        self.whole.extend(holding.finish(syncs)?);
        Ok(())
    }

    fn discard(&mut self) {
        if let Some(open) = self.open.take() {
            open.holding.discard();
        }
    }
}

/// The content that a piece begins.
fn content_of(piece: &Piece) -> Option<HeldContent> {
    match piece {
        Piece::Contents(ContentsPiece::Hold(content)) => Some(content.clone()),
        _ => None,
    }
}

/// The way to the holder, as long as the link lasts.
struct Line {
    holder: Holder,
    over: watch::Receiver<bool>,
    runtime: Handle,
}

impl Line {
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    fn tell(&self, job: Job) -> Result<(), Ended> {
        self.holder.jobs.blocking_send(job).map_err(|_| Ended)
    }

    /// The holder is to know of what is whole.
    fn hand_over(&self, arriving: &mut Arriving) -> Result<(), Ended> {
        match arriving.whole.is_empty() {
            true => Ok(()),
            false => self.tell(Job::Keep(std::mem::take(&mut arriving.whole))),
        }
    }

    /// Asks the holder; `None` if it will not answer.
    fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<Option<T>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.tell(job(reply))?;
        let mut over = self.over.clone();
        self.runtime.block_on(async {
            tokio::select! {
                answer = answer => Ok(answer.ok()),
                _ = over.wait_for(|over| *over) => Err(Ended),
            }
        })
    }
}
