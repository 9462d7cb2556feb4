//! The holder's thread: one job after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::answers::{lack, listing, marked};
use super::hold::{Hold, Holds};
use super::incoming::Incoming;
use super::look::Looks;
use super::waiting::{Guard, Guards, Parked, Waiting};
use super::{Event, Job, Stand, Still};
use crate::daemon::primary::now;
use crate::reveal::{Opening, Replica, ReplicaError, ReplicaOptions};
use crate::thought::filter::Filter;
use crate::thought::session::receiver::Receiver;
use crate::thought::wire::message::Held;
use crate::words::entry::Digest;
use crate::words::position::HomeId;

/// After so much quiet what was replaced is tidied up.
const TIDY_AFTER: Duration = Duration::from_millis(500);

/// What is done while there is no job.
enum Idle {
    /// Something acked is to be shown.
    Revealing,
    /// What was replaced is to be removed.
    Sweeping,
    /// Nothing came for a while.
    Quiet,
}

/// The holder's own side.
pub(super) struct Work {
    pub(super) guard: Guard,
    pub(super) options: ReplicaOptions,
    /// What the primary replicates, as far as this node knows.
    pub(super) filter: Arc<dyn Fn() -> Filter + Send + Sync>,
    pub(super) replica: Option<Replica>,
    /// There was one, and it is not where it was.
    pub(super) is_gone: bool,
    /// The generation that is arriving.
    pub(super) incoming: Incoming,
    /// The contents that arrive ahead at the moment.
    pub(super) arriving: Vec<Digest>,
    pub(super) events: Option<mpsc::Sender<Event>>,
    pub(super) receiver: Option<Receiver>,
    /// Who wants the replica to stand still.
    pub(super) held: Vec<Hold>,
    /// Streams that may not begin meanwhile.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    /// What it is meanwhile.
    pub(super) held_as: Option<Still>,
    pub(super) holds: Arc<Holds>,
    /// When what came ahead was last looked at for what is wanted no more.
    pub(super) aged: Instant,
    /// The beginnings of the digests that are wanted of what came ahead, as far as they were told.
    pub(super) wanted: Vec<[u8; 8]>,
    pub(super) runtime: Handle,
    pub(super) looks: Arc<Looks>,
    /// What it waits for.
    pub(super) blocked: Option<Waiting>,
    /// What arrived and is not taken yet, in order.
    pub(super) parked: VecDeque<Parked>,
    /// What was staged since the present stream began takes so much.
    pub(super) staged_bytes: u64,
    pub(super) tells: watch::Sender<Option<Held>>,
}

impl Work {
    pub(super) fn new(
        options: ReplicaOptions,
        filter: Arc<dyn Fn() -> Filter + Send + Sync>,
        guards: Guards,
        (holds, looks): (Arc<Holds>, Arc<Looks>),
        tells: watch::Sender<Option<Held>>,
        runtime: Handle,
    ) -> Self {
        Self {
            guard: Guard::new(guards, options.state.clone()),
            options,
            filter,
            replica: None,
            is_gone: false,
            incoming: Incoming::Nothing,
            arriving: Vec::new(),
            events: None,
            receiver: None,
            held: Vec::new(),
            waiting: Vec::new(),
            held_as: None,
            holds,
            aged: now(),
            wanted: Vec::new(),
            runtime,
            looks,
            blocked: None,
            parked: VecDeque::new(),
            staged_bytes: 0,
            tells,
        }
    }

    pub(super) fn run(&mut self, mut queue: mpsc::Receiver<Job>, told: &Arc<dyn Fn(String) + Send + Sync>) {
        loop {
            let next = match queue.try_recv() {
                Ok(job) => Ok(Some(job)),
                Err(mpsc::error::TryRecvError::Empty) if self.has_to_reveal() => Err(Idle::Revealing),
                Err(mpsc::error::TryRecvError::Empty) if self.has_to_sweep() => Err(Idle::Sweeping),
                Err(_) => self
                    .runtime
                    .block_on(async { tokio::time::timeout(TIDY_AFTER, queue.recv()).await })
                    .map_err(|_| Idle::Quiet),
            };
            let done = match next {
                Ok(Some(Job::Stop(reply))) => {
                    self.break_holds("the daemon is ending");
                    self.close();
                    reply.send(()).ok();
                    break;
                }
                Ok(Some(job)) => self.job(job),
                Ok(None) => break,
                Err(Idle::Revealing) => self.reveal_one(),
                Err(Idle::Sweeping) => self.sweep(),
                Err(Idle::Quiet) => self.tidy(),
            };
            let done = done.and_then(|()| self.go_on()).and_then(|()| self.look_at_holds());
            if let Err(error) = done {
                let text = crate::daemon::explain(&error);
                tracing::error!(%text, "the replica cannot go on");
                told(text);
                // The index may be ahead of the journal: only opening it again tells.
                self.break_holds("the replica failed, and must be opened again");
                self.forget_waiting();
                self.incoming = Incoming::Nothing;
                self.events = None;
                self.looks.close();
                self.replica = None;
                self.tells.send_replace(None);
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.forget_waiting();
        let done = self.give_up().and_then(|()| self.reveal_all()).and_then(|()| self.tidy()).and_then(|()| {
            // What is left of a large tree is removed by the next run.
            self.replica.as_mut().map_or(Ok(()), Replica::sweep_briefly)
        });
        if let Err(error) = done {
            tracing::warn!(
                error = crate::daemon::explain(&error),
                "the replica was left untidy; that is mended when it is opened"
            );
        }
        self.looks.close();
        self.replica = None;
    }

    fn sweep(&mut self) -> Result<(), ReplicaError> {
        match &mut self.replica {
            Some(replica) => replica.sweep().map(drop),
            None => Ok(()),
        }
    }

    fn has_to_sweep(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::has_litter)
    }

    fn tidy(&mut self) -> Result<(), ReplicaError> {
        match &mut self.replica {
            Some(replica) if replica.is_untidy() => replica.settle(),
            _ => Ok(()),
        }
    }

    /// What was under way is given up; what comes next is judged as on this link, and without one not taken at all.
    fn link(&mut self, link: Option<(mpsc::Sender<Event>, Receiver)>) -> Result<(), ReplicaError> {
        self.forget_waiting();
        self.give_up()?;
        (self.wanted, self.arriving) = (Vec::new(), Vec::new());
        (self.events, self.receiver) = link.unzip();
        Ok(())
    }

    pub(super) fn job(&mut self, job: Job) -> Result<(), ReplicaError> {
        match job {
            Job::Stand { home, reply } => {
                let stand = self.stand(home);
                reply.send(stand).ok();
                Ok(())
            }
            Job::Link(events, receiver) => self.link(Some((events, receiver))),
            Job::Unlink(reply) => {
                self.link(None)?;
                reply.send(()).ok();
                Ok(())
            }
            Job::Arrived(pieces) => {
                self.parked.extend(pieces.into_iter().map(Parked::Piece));
                Ok(())
            }
            Job::InTurn(parked) => {
                self.parked.push_back(parked);
                Ok(())
            }
            Job::Keep(contents) => self.keep(contents),
            Job::CutOff(contents) => {
                self.cut_off(contents);
                Ok(())
            }
            Job::List(list, reply) => {
                if let Some(replica) = &self.replica {
                    reply.send(listing(replica.tree(), &list)?).ok();
                }
                Ok(())
            }
            Job::Have(contents, reply) => {
                if let Some(replica) = &self.replica {
                    reply.send(lack(replica, &contents)?).ok();
                }
                Ok(())
            }
            Job::Copyings(contents, reply) => {
                let copyings = self.copyings(&contents)?;
                reply.send(copyings).ok();
                Ok(())
            }
            Job::Copied(copied) => self.copied(copied),
            Job::Base(content, length, reply) => {
                if let Some(replica) = &self.replica {
                    reply.send(replica.base(content, length)?).ok();
                }
                Ok(())
            }
            Job::Wanted(wanted, reply) => {
                let swept = self.sweep_held(wanted)?;
                reply.send(swept).ok();
                Ok(())
            }
            Job::Still(reply) => self.tell_still(reply),
            Job::Mend(scope, depth, reply) => {
                if let Some(audited) = self.mend(&scope, depth)? {
                    reply.send(audited).ok();
                }
                Ok(())
            }
            Job::HoldStill(asked) => self.hold_still(asked),
            // Holds are looked at after every job.
            Job::LetGo => Ok(()),
            Job::MayBegin(reply) => {
                self.may_begin(reply);
                Ok(())
            }
            Job::Release(reply) => {
                let released = self.release()?;
                reply.send(released).ok();
                Ok(())
            }
            Job::Stop(reply) => {
                reply.send(()).ok();
                Ok(())
            }
        }
    }

    fn stand(&mut self, home: Option<HomeId>) -> Result<Option<Stand>, ReplicaError> {
        if self.replica.is_none() {
            let Some(home) = (match home {
                Some(home) => Some(home),
                None => marked(&self.options.home)?,
            }) else {
                return Ok(None);
            };
            let (replica, opening) = Replica::open(self.options.clone(), home).inspect_err(|error| {
                self.is_gone = matches!(error, ReplicaError::Gone { .. });
            })?;
            (self.is_gone, self.options.anew) = (false, false);
            let standing = replica.standing();
            match opening {
                Opening::Empty => tracing::info!("an empty directory becomes the replica"),
                Opening::Recovered(0) => tracing::info!(position = %standing.position, "replica opened"),
                Opening::Recovered(count) => {
                    tracing::info!(position = %standing.position, count, "replica opened; acked generations were revealed");
                }
                Opening::Adopted => tracing::info!("the directory is adopted"),
                Opening::Reread => tracing::info!("the replica was read again"),
            }
            self.replica = Some(replica);
            if matches!(opening, Opening::Recovered(_))
                && let Err(error) = self.look_over()
            {
                self.replica = None;
                return Err(error);
            }
        }
        self.reveal_all()?;
        Ok(self.replica.as_ref().map(Stand::of))
    }
}
