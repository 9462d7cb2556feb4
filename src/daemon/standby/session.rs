//! A link to a primary, as long as it lasts.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::StandbyContext;
use super::report::Behind;
use super::streams::read_streams;
use crate::daemon::holder::{Event, Job, Lane};
use crate::daemon::keys::Peered;
use crate::daemon::peers::Busy;
use crate::daemon::primary::{SessionError, now, tell};
use crate::net::link::{ControlReceiver, ControlSender, DataStreams};
use crate::thought::session::follower::{Follower, FollowerError, Told};
use crate::thought::wire::message::{Heartbeat, Message};
use crate::words::position::{NodeName, Reign};

/// How often the session looks at its clock.
const TICK: Duration = Duration::from_millis(250);
/// So many questions are taken at once; while as many wait for their answers, nothing more is read of what the primary says. An honest one asks
/// few; one that asks on and on is taken for silent.
const QUESTIONS: usize = 16;
/// So many batches of contents wait for their lane.
const BATCHES: usize = 2;

pub(super) struct Session {
    pub(super) context: StandbyContext,
    pub(super) name: NodeName,
    pub(super) peered: Peered,
    pub(super) control: ControlSender,
    pub(super) follower: Follower,
}

impl Session {
    pub(super) async fn run(
        mut self,
        mut incoming: ControlReceiver,
        streams: DataStreams,
        mut happened: mpsc::Receiver<Event>,
        events: mpsc::WeakSender<Event>,
    ) -> SessionError {
        let mut tasks = JoinSet::new();
        let holder = self.context.holder.clone();
        let connection = streams.connection().clone();
        let mut paused = self.context.paused.subscribe();
        let mut strays = self.context.strays.subscribe();
        let (end, over) = watch::channel(false);
        let (batches, of_contents) = mpsc::channel(BATCHES);
        let lane = Lane::new(holder.clone(), events, over);
        let lane = tokio::task::spawn_blocking(move || lane.run(of_contents));
        tasks.spawn(async move { Err(read_streams(&streams, &holder, batches).await) });
        // Answers of the holder, which may be busy with what came before the question.
        let (answers, mut answered) = mpsc::channel::<Message>(16);
        let mut tick = tokio::time::interval(TICK);
        let ended = loop {
            let step = tokio::select! {
                received = incoming.recv(), if tasks.len() <= QUESTIONS => match received {
                    Ok(Some((kind, payload))) => self.received(kind, &payload, &mut tasks, &answers),
                    Ok(None) => Err(SessionError::Closed),
                    Err(error) => Err(error.into()),
                },
                event = happened.recv() => match event {
                    Some(event) => self.happened(event).await,
                    // The replica failed: it is opened anew with the next link.
                    None => Err(SessionError::Ending),
                },
                Some(message) = answered.recv() => tell(&mut self.control, &message).await,
                Some(task) = tasks.join_next() => task.unwrap_or(Err(SessionError::Ending)),
                _ = tick.tick() => self.tick().await,
                Ok(()) = strays.changed() => Err(SessionError::Strayed),
                true = async { paused.wait_for(|paused| *paused).await.is_ok() } => Err(SessionError::Paused),
            };
            if let Err(error) = step {
                break error;
            }
        };
        connection.close();
        tasks.shutdown().await;
        end.send_replace(true);
        // What it has is handed over before another link begins. One that failed has said so.
        lane.await.ok();
        match ended {
            SessionError::Follower(FollowerError::Deposed { by, .. }) => self.deposed(by).await.err().unwrap_or(ended),
            ended => ended,
        }
    }

    /// There is a higher reign than the one followed: once that is written down, nothing more is taken of what the lower one sent (G5).
    async fn deposed(&self, by: Reign) -> Result<(), SessionError> {
        self.context.holder.ask(Job::Unlink).await.ok_or(SessionError::Ending)?;
        let mut memory = self.context.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.learn(by) {
            memory.save(&self.context.state)?;
        }
        Ok(())
    }

    fn received(
        &mut self,
        kind: u8,
        payload: &[u8],
        tasks: &mut JoinSet<Result<(), SessionError>>,
        answers: &mpsc::Sender<Message>,
    ) -> Result<(), SessionError> {
        let (holder, answers) = (self.context.holder.clone(), answers.clone());
        match self.follower.received(kind, payload, now())? {
            Told::Heartbeat(heartbeat) => {
                let name = &self.name;
                self.context.keys.heard(name, &heartbeat, &mut self.peered);
                let mut report = self.context.report();
                if let Some(lag) = heartbeat.lag_milliseconds {
                    report.behind = Behind::known(Duration::from_millis(lag), now());
                }
                report.heard = Some(heartbeat.clone());
                drop(report);
                self.context.peers.change(name, |peer| peer.heartbeat = Some(heartbeat));
            }
            Told::CatchingUp(progress) => {
                self.context.report().progress = Some(progress.clone());
                self.context.peers.change(&self.name, |peer| peer.progress = Some(progress));
            }
            Told::List(list) => {
                tasks.spawn(async move {
                    let listing = holder.ask(|reply| Job::List(list, reply)).await.ok_or(SessionError::Ending)?;
                    answers.send(listing.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Told::Have(have) => {
                tasks.spawn(async move {
                    let lack = holder.lack(have.contents).await.ok_or(SessionError::Ending)?;
                    answers.send(lack.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Told::Sign(sign) => {
                tasks.spawn(async move {
                    let signed = holder.sign(sign).await.ok_or(SessionError::Ending)?;
                    answers.send(signed.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Told::Wanted(wanted) => {
                tasks.spawn(async move {
                    let swept = holder.ask(|reply| Job::Wanted(wanted, reply)).await.ok_or(SessionError::Ending)?;
                    answers.send(swept.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Told::Audit(audit) => {
                tasks.spawn(async move {
                    let audited = holder.inspect(audit.into(), Arc::new(|_| {})).await.ok_or(SessionError::Ending)?;
                    answers.send(audited.into()).await.map_err(|_| SessionError::Ending)
                });
            }
            Told::Release => {
                tasks.spawn(async move {
                    // One that holds nothing back needs no word.
                    holder.ask(Job::Release).await.map(|_| ()).ok_or(SessionError::Ending)
                });
            }
            Told::Nothing => {}
        }
        Ok(())
    }

    async fn happened(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Acked(acked, header) => {
                let position = acked.position;
                self.follower.acks(position);
                tell(&mut self.control, &acked.into()).await?;
                self.context.peers.change(&self.name, |peer| {
                    peer.acked = Some(position);
                    peer.busy = Busy::Streaming;
                    peer.progress = None;
                });
                let mut report = self.context.report();
                report.note(&header);
                Ok(())
            }
            Event::Revealed(revealed, stand) => {
                self.context.report().revealed(revealed.position, *stand);
                self.context.peers.change(&self.name, |peer| peer.revealed = Some(revealed.position));
                tell(&mut self.control, &revealed.into()).await
            }
            Event::Rejected(rejected) => tell(&mut self.control, &rejected.into()).await,
            Event::HeldAll(all) => tell(&mut self.control, &all.into()).await,
        }
    }

    async fn tick(&mut self) -> Result<(), SessionError> {
        if !self.follower.beat(now())? {
            return Ok(());
        }
        let heartbeat = {
            let report = self.context.report();
            let stand = report.stand.as_ref();
            Heartbeat {
                position: stand.map(|stand| stand.standing.position).unwrap_or_default(),
                unheld: stand.map(|stand| stand.unheld).unwrap_or_default(),
                unrevealed: stand.map_or(0, |stand| u32::try_from(stand.unrevealed).unwrap_or(u32::MAX)),
                held: self.context.holder.waits_for(),
                ..Heartbeat::default()
            }
        };
        let heartbeat = self.context.keys.beat(&self.name, heartbeat, &self.peered);
        tell(&mut self.control, &heartbeat.into()).await
    }
}
