//! Sends contents to one standby ahead of the generation that refers to them. Blocking; for threads of their own.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::sending::{Known, SMALL_BYTES, Sent, send_content};
use super::shipping::{ShipError, Stream};
use crate::capture::Offer;
use crate::fs::Root;
use crate::net::link::{DataStreams, Priority};
use crate::thought::delta::signature::Signature;
use crate::thought::wire::message::{
    CatchingUp, Have, HeldAll, Lack, List, Listing, Sign, Signed, StreamStart, Swept, Wanted,
};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, Position};

/// What a thread that sends has to say or to ask, for the session to put to the standby.
pub enum Question {
    /// How far a catch-up is.
    Tell(CatchingUp),
    /// What it waits for, if it does.
    Waits(Option<String>),
    /// Children of a directory.
    List(List, oneshot::Sender<Listing>),
    /// Which contents are not there.
    Have(Have, oneshot::Sender<Lack>),
    /// The signature of a content.
    Sign(Sign, oneshot::Sender<Signed>),
    /// Contents that are wanted, of those that came ahead.
    Wanted(Wanted, oneshot::Sender<Swept>),
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
        let offers: Vec<&Offer> = offers.iter().collect();
        // What builds on what the standby has may not come out as it should: then it comes whole.
        let parted = self.send_lacking(root, &offers, true, missed)?;
        self.send_lacking(root, &parted, false, missed).map(drop)
    }

    /// The same; those of which the standby had a part, if it is `asked` for one.
    fn send_lacking<'a>(
        &self,
        root: &Root,
        offers: &[&'a Offer],
        asks: bool,
        missed: &mut Vec<RelPath>,
    ) -> Result<Vec<&'a Offer>, CourierError> {
        let mut parted = Vec::new();
        if offers.is_empty() {
            return Ok(parted);
        }
        let have = Have { contents: offers.iter().map(|offer| offer.digest).collect() };
        let lack = self.question(|reply| Question::Have(have, reply))?;
        let _pass = root.pass();
        let mut sent = HashSet::new();
        let mut stream = None;
        for (index, &offer) in offers.iter().enumerate() {
            let is_lacking = lack.bits.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 == 1);
            if !is_lacking || !sent.insert(offer.digest) {
                continue;
            }
            let known = if asks { self.known(index, offer, &lack)? } else { Known::default() };
            let open = match &mut stream {
                Some(open) => open,
                None => {
                    let start = StreamStart::Contents;
                    stream.insert(Stream::open(&self.runtime, &self.streams, Priority::BULK, &start, &self.sent)?)
                }
            };
            if send_content(open, root, offer, &known)? == Sent::Changed {
                sent.remove(&offer.digest);
                missed.push(offer.path.clone());
            } else if !known.is_nothing() {
                parted.push(offer);
            }
        }
        let Some(stream) = stream else { return Ok(parted) };
        let (reply, answer) = oneshot::channel();
        self.say(Question::AllHeld(reply))?;
        stream.finish()?;
        match answer.blocking_recv() {
            Ok(HeldAll { count: 0 }) => Err(CourierError::Refused),
            Ok(_) => Ok(parted),
            Err(_) => Err(CourierError::Gone),
        }
    }

    /// What the standby has of a content that it lacks.
    fn known(&self, index: usize, offer: &Offer, lack: &Lack) -> Result<Known, CourierError> {
        if offer.size <= SMALL_BYTES {
            return Ok(Known::default());
        }
        let begun = lack.begun.iter().find(|begun| begun.index as usize == index);
        let from = begun.map(|begun| begun.bytes).filter(|bytes| *bytes < offer.size).unwrap_or(0);
        let Some((content, size)) = offer.base else { return Ok(Known { from, base: None }) };
        let signed = self.question(|reply| Question::Sign(Sign { content, size }, reply))?;
        // One that it does not have, or that is none, is done without.
        let base = Signature::parse(signed.signature, size).ok().map(|signature| (content, signature));
        Ok(Known { from, base })
    }
}
