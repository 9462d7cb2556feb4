//! Sends contents to one standby ahead of the generation that refers to them. Blocking; for threads of their own.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::shipping::{Sent, ShipError, Stream, send_content};
use crate::capture::Offer;
use crate::fs::Root;
use crate::net::link::{DataStreams, Priority};
use crate::thought::wire::message::{CatchingUp, Have, HeldAll, Lack, List, Listing, StreamStart};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, Position};

/// What a thread that sends has to say or to ask, for the session to put to the standby.
pub enum Question {
    /// How far a catch-up is.
    Tell(CatchingUp),
    /// Children of a directory.
    List(List, oneshot::Sender<Listing>),
    /// Which contents are not there.
    Have(Have, oneshot::Sender<Lack>),
    /// The generation that leads here is about to be shipped.
    Sending(Position, ChainDigest),
    /// When all contents of the stream just ended are there.
    AllHeld(oneshot::Sender<HeldAll>),
}

/// Why contents were not sent.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The standby did not take them; it says why itself.
    #[error("the standby did not take the contents that were sent ahead")]
    Refused,
    /// The link is gone.
    #[error("the link to the standby ended")]
    Gone,
    /// Shipping failed.
    #[error(transparent)]
    Ship(#[from] ShipError),
}

/// The way to one standby.
pub struct Courier {
    /// The runtime of the link.
    pub runtime: Handle,
    /// Where data goes.
    pub streams: DataStreams,
    /// Where questions go.
    pub questions: mpsc::Sender<Question>,
    /// Bytes sent, for `status`.
    pub sent: Arc<AtomicU64>,
    /// How many questions were put.
    pub asked: Cell<u64>,
}

impl Courier {
    /// Says something.
    pub fn say(&self, question: Question) -> Result<(), CourierError> {
        self.questions.blocking_send(question).map_err(|_| CourierError::Gone)
    }

    /// Asks something and waits for the answer.
    pub fn question<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, CourierError> {
        self.asked.set(self.asked.get() + 1);
        let (reply, answer) = oneshot::channel();
        self.say(question(reply))?;
        answer.blocking_recv().map_err(|_| CourierError::Gone)
    }

    /// Sends what the standby lacks of `offers`, each content once, and returns when it holds them: without those of files that have another
    /// content by now, whose paths go to `missed`.
    pub fn send(&self, root: &Root, offers: &[Offer], missed: &mut Vec<RelPath>) -> Result<(), CourierError> {
        if offers.is_empty() {
            return Ok(());
        }
        let have = Have { contents: offers.iter().map(|offer| offer.digest).collect() };
        let lack = self.question(|reply| Question::Have(have, reply))?;
        let _pass = root.pass();
        let mut sent = HashSet::new();
        let mut stream = None;
        for (index, offer) in offers.iter().enumerate() {
            let is_lacking = lack.bits.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 == 1);
            if !is_lacking || !sent.insert(offer.digest) {
                continue;
            }
            let open = match &mut stream {
                Some(open) => open,
                None => {
                    let start = StreamStart::Contents;
                    stream.insert(Stream::open(&self.runtime, &self.streams, Priority::BULK, &start, &self.sent)?)
                }
            };
            if send_content(open, root, offer)? == Sent::Changed {
                sent.remove(&offer.digest);
                missed.push(offer.path.clone());
            }
        }
        let Some(stream) = stream else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        self.say(Question::AllHeld(reply))?;
        stream.finish()?;
        match answer.blocking_recv() {
            Ok(HeldAll { count: 0 }) => Err(CourierError::Refused),
            Ok(_) => Ok(()),
            Err(_) => Err(CourierError::Gone),
        }
    }
}
