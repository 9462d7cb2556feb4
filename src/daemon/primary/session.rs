//! One standby being served: what is sent to it, and what it says.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use super::{PrimaryContext, SessionError, now, tell};
use crate::capture::Joined;
use crate::daemon::catch_up::{CatchUp, CatchUpError};
use crate::daemon::courier::{Courier, Question};
use crate::daemon::keys::Peered;
use crate::daemon::peers::{Ask, Busy};
use crate::daemon::shipping::{ShipError, ship};
use crate::daemon::window::Next;
use crate::fs::Root;
use crate::net::link::{ControlReceiver, ControlSender, DataStreams};
use crate::thought::filter::Rules;
use crate::thought::session::sender::{Asked, Heard, Sender};
use crate::thought::wire::message::{Audited, Heartbeat, HeldAll, Lack, Listing, Rejected, Release, Signed, Swept};
use crate::words::entry::Digest;
use crate::words::position::{NodeName, Position};

/// How often a session looks at its clock.
const TICK: Duration = Duration::from_millis(250);

/// One standby being served.
pub(super) struct Session {
    pub(super) name: NodeName,
    pub(super) peered: Peered,
    pub(super) context: PrimaryContext,
    pub(super) control: ControlSender,
    pub(super) streams: DataStreams,
    pub(super) sender: Sender<Answer>,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) catching_up: Option<JoinHandle<Result<(), CatchUpError>>>,
    pub(super) shipping: Option<JoinHandle<Result<(), ShipError>>>,
    /// What the standby was told to be replicated.
    pub(super) filter: Rules,
    /// The epoch that it was told.
    pub(super) epoch: u64,
    pub(super) ahead: Option<Ahead>,
    /// At the live edge it is waited for before a large content is taken.
    pub(super) joined: Option<Joined>,
}

/// A large content that is being sent ahead.
pub(super) struct Ahead {
    digest: Digest,
    /// False if its file has another content by now.
    task: JoinHandle<Result<bool, CatchUpError>>,
}

/// Where the answer to a question goes. Nobody need wait there any more.
pub(super) enum Answer {
    Listing(oneshot::Sender<Listing>),
    Lack(oneshot::Sender<Lack>),
    HeldAll(oneshot::Sender<HeldAll>),
    Signed(oneshot::Sender<Signed>),
    Swept(oneshot::Sender<Swept>),
    Audited(oneshot::Sender<Audited>),
}

impl Session {
    pub(super) async fn run(
        mut self,
        mut receiver: ControlReceiver,
        mut questioned: mpsc::Receiver<Question>,
        mut asked: mpsc::Receiver<Ask>,
    ) -> Result<(), SessionError> {
        let _interest = self.context.shared.take_interest();
        let mut head = self.context.shared.head.subscribe();
        let mut tick = tokio::time::interval(TICK);
        loop {
            if head.borrow_and_update().epoch != self.epoch {
                return Err(SessionError::Reigned);
            }
            self.go_on();
            tokio::select! {
                received = receiver.recv() => {
                    let (kind, payload) = received?.ok_or(SessionError::Closed)?;
                    // It may be the answer to a question that was put, and that nobody took note of yet.
                    self.take_questions(&mut questioned).await?;
                    self.received(kind, &payload)?;
                }
                Some(question) = questioned.recv() => self.questioned(question).await?,
                Some(ask) = asked.recv() => match ask {
                    Ask::GiveWay => return Err(SessionError::Superseded),
                    Ask::Audit(audit, reply) => {
                        self.sender.asks(Asked::Audit, Answer::Audited(reply));
                        tell(&mut self.control, &audit.into()).await?;
                    }
                    Ask::Release => tell(&mut self.control, &Release {}.into()).await?,
                },
                ended = wait_for(&mut self.catching_up) => {
                    self.catching_up = None;
                    self.sender.ended();
                    // What it said before it ended comes first, above all what it shipped.
                    self.take_questions(&mut questioned).await?;
                    ended.map_err(|_| SessionError::Ending)??;
                }
                ended = wait_for(&mut self.shipping) => {
                    self.shipping = None;
                    self.sender.ended();
                    ended.map_err(|_| SessionError::Ending)??;
                }
                (digest, sent) = wait_for_ahead(&mut self.ahead) => {
                    self.ahead = None;
                    self.sent_ahead(digest, sent.map_err(|_| SessionError::Ending)?);
                }
                _ = head.changed() => if self.context.shared.filters.rules() != self.filter {
                    return Err(SessionError::Refiltered);
                },
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    /// Starts what can be started.
    fn go_on(&mut self) {
        self.send_ahead();
        if !self.sender.may_send() || self.context.shared.is_paused() {
            return;
        }
        let next = match self.sender.wants_catch_up() {
            true => Next::CatchUp,
            false => self.context.shared.window().after(self.sender.head()),
        };
        match next {
            Next::Wait => {
                let (acked, revealed) = (self.sender.position(), self.sender.revealed_position());
                let is_idle = self.sender.is_idle();
                self.busy(Busy::Streaming);
                self.context.peers.change(&self.name, |peer| {
                    if is_idle && peer.acked.is_none() {
                        peer.has_acked(acked);
                        peer.revealed = Some(revealed);
                    }
                });
            }
            Next::Shipment(shipment) => {
                self.busy(Busy::Streaming);
                self.sender.sends(shipment.header.position, shipment.header.chain());
                let (runtime, streams, sent) = (Handle::current(), self.streams.clone(), Arc::clone(&self.sent));
                self.shipping = Some(tokio::task::spawn_blocking(move || ship(&runtime, &streams, &shipment, &sent)));
            }
            Next::CatchUp if self.sender.is_idle() && self.ahead.is_none() => {
                self.sender.catches_up();
                let is_new = self.sender.position() == Position::default();
                self.busy(if is_new { Busy::InitialSync } else { Busy::CatchingUp });
                let catch_up = CatchUp {
                    courier: self.courier(),
                    keeper: self.context.keeper.clone(),
                    shared: Arc::clone(&self.context.shared),
                    home: self.context.home.clone(),
                    state: self.context.state.clone(),
                    parent: self.sender.acked_head(),
                    tree: self.sender.tree(),
                    ids: self.context.ids,
                };
                self.catching_up = Some(tokio::task::spawn_blocking(move || catch_up.run()));
            }
            Next::CatchUp => {}
        }
    }

    fn courier(&self) -> Courier {
        Courier {
            runtime: Handle::current(),
            streams: self.streams.clone(),
            questions: self.questions.clone(),
            sent: Arc::clone(&self.sent),
            asked: Cell::default(),
        }
    }

    /// Sends a large content ahead, if one waits: one at a time, beside the generations.
    fn send_ahead(&mut self) {
        if self.joined.is_none() || self.ahead.is_some() || self.context.shared.is_paused() {
            return;
        }
        let Some(offer) = self.context.shared.larges.next_for(&self.name) else { return };
        let (courier, home, digest) = (self.courier(), self.context.home.clone(), offer.digest);
        let send = move || {
            let mut missed = Vec::new();
            courier.send(&Root::open(&home)?, &[offer], &mut missed)?;
            Ok(missed.is_empty())
        };
        self.ahead = Some(Ahead { digest, task: tokio::task::spawn_blocking(send) });
    }

    fn sent_ahead(&self, digest: Digest, sent: Result<bool, CatchUpError>) {
        let larges = &self.context.shared.larges;
        match sent {
            Ok(true) => larges.is_held(digest, &self.name, now()),
            Ok(false) => larges.is_gone(digest),
            // A refusal, after which trees are compared, or the end of the link: it is offered again when the standby is back at the live edge.
            Err(error) => {
                tracing::debug!(standby = %self.name, error = crate::daemon::explain(&error), "not sent ahead")
            }
        }
        self.context.shared.wake();
    }

    fn busy(&mut self, busy: Busy) {
        self.joined = match (busy, self.joined.take()) {
            (Busy::Streaming, None) => Some(self.context.shared.larges.join(self.name.clone())),
            (Busy::Streaming, joined) => joined,
            _ => None,
        };
        self.context.peers.change(&self.name, |peer| {
            peer.busy = busy;
            peer.waits = None;
            if busy == Busy::Streaming {
                peer.progress = None;
            }
        });
    }

    fn received(&mut self, kind: u8, payload: &[u8]) -> Result<(), SessionError> {
        match self.sender.received(kind, payload, now())? {
            Heard::Heartbeat(heartbeat) => {
                self.context.keys.heard(&self.name, &heartbeat, &mut self.peered);
                self.context.peers.change(&self.name, |peer| peer.heartbeat = Some(heartbeat));
            }
            Heard::Acked(position) => self.context.peers.change(&self.name, |peer| peer.has_acked(position)),
            Heard::Revealed(position) => {
                self.context.peers.change(&self.name, |peer| peer.revealed = Some(position));
            }
            Heard::Rejected(Rejected { position, text }) => {
                tracing::warn!(standby = %self.name, %position, %text, "generation refused; comparing trees");
            }
            Heard::Listing(Answer::Listing(reply), listing) => drop(reply.send(listing)),
            Heard::Lack(Answer::Lack(reply), lack) => drop(reply.send(lack)),
            Heard::HeldAll(Answer::HeldAll(reply), all) => drop(reply.send(all)),
            Heard::Signed(Answer::Signed(reply), signed) => drop(reply.send(signed)),
            Heard::Swept(Answer::Swept(reply), swept) => drop(reply.send(swept)),
            Heard::Audited(Answer::Audited(reply), audited) => {
                let has_strayed = audited.strayed > 0;
                reply.send(audited).ok();
                if has_strayed {
                    return Err(SessionError::Strayed);
                }
            }
            // An answer goes where its own kind of question was noted.
            Heard::Listing(..)
            | Heard::Lack(..)
            | Heard::HeldAll(..)
            | Heard::Signed(..)
            | Heard::Swept(..)
            | Heard::Audited(..) => {}
        }
        Ok(())
    }

    async fn take_questions(&mut self, questioned: &mut mpsc::Receiver<Question>) -> Result<(), SessionError> {
        while let Ok(question) = questioned.try_recv() {
            self.questioned(question).await?;
        }
        Ok(())
    }

    async fn questioned(&mut self, question: Question) -> Result<(), SessionError> {
        match question {
            Question::Waits(text) => {
                let before = self.context.peers.wait_for(&self.name, text.clone());
                if let Some(text) = text.filter(|text| before.as_ref() != Some(text)) {
                    tracing::error!(standby = %self.name, "{text}");
                }
                Ok(())
            }
            Question::Tell(progress) => {
                self.context.peers.change(&self.name, |peer| peer.progress = Some(progress.clone()));
                tell(&mut self.control, &progress.into()).await
            }
            Question::List(list, reply) => {
                self.sender.asks(Asked::List, Answer::Listing(reply));
                tell(&mut self.control, &list.into()).await
            }
            Question::Have(have, reply) => {
                self.sender.asks(Asked::Have, Answer::Lack(reply));
                tell(&mut self.control, &have.into()).await
            }
            Question::Sign(sign, reply) => {
                self.sender.asks(Asked::Sign, Answer::Signed(reply));
                tell(&mut self.control, &sign.into()).await
            }
            Question::Wanted(wanted, reply) => {
                self.sender.asks(Asked::Sweep, Answer::Swept(reply));
                tell(&mut self.control, &wanted.into()).await
            }
            Question::AllHeld(reply) => {
                self.sender.asks(Asked::AllHeld, Answer::HeldAll(reply));
                Ok(())
            }
            Question::Sending(position, chain) => {
                self.sender.sent(position, chain);
                Ok(())
            }
        }
    }

    async fn tick(&mut self) -> Result<(), SessionError> {
        if !self.sender.beat(now())? {
            return Ok(());
        }
        let position = self.context.shared.window().head().0;
        let acked = self.context.peers.all().get(&self.name).and_then(|peer| peer.acked);
        let lag = acked.map(|acked| self.context.shared.lag_after(acked));
        let heartbeat = {
            let report = self.context.shared.report();
            Heartbeat {
                position,
                pending: report.pending,
                oldest: report.oldest,
                sample: report.sample.clone(),
                lag_milliseconds: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                held: report.held(),
                ..Heartbeat::default()
            }
        };
        let heartbeat = self.context.keys.beat(&self.name, heartbeat, &self.peered);
        tell(&mut self.control, &heartbeat.into()).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.streams.connection().close();
    }
}

async fn wait_for<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn wait_for_ahead(ahead: &mut Option<Ahead>) -> (Digest, Result<Result<bool, CatchUpError>, JoinError>) {
    match ahead {
        Some(ahead) => (ahead.digest, (&mut ahead.task).await),
        None => std::future::pending().await,
    }
}
