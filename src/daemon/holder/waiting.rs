//! What a standby waits for before it goes on: a person's word, when the fuse is blown; room on its disk.
//!
//! What arrives meanwhile is parked, in order. Whoever reads the data streams waits with the holder ([`Holder::opened`](super::Holder::opened)), so parked is at most what
//! was under way between the two; the rest stays on the primary, held up by the flow control of the streams. Questions are answered as ever.
//!
//! **Room.** Before each thing is staged, what it takes must be free beyond the reserve. Where others fill the disk all the same, and a write
//! fails, what was staged of the generation goes, and its refusal is told only when there is room for all of it: the primary sends it again at once.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::Event;
use super::contents::Admitted;
use super::incoming::{Arriving, Incoming};
use super::work::Work;
use crate::daemon::explain;
use crate::daemon::fuse_memory::{keep, recall};
use crate::fs::{FsError, Space};
use crate::reveal::{Replica, ReplicaError};
use crate::thought::fuse::{Blown, Fuse, FuseOptions};
use crate::thought::generation::{Action, Content, Joint, Operation};
use crate::thought::session::arrival::GenerationPiece;
use crate::thought::wire::message::{Held, HeldAll, HeldBy, HeldContent};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// What must stay free on the disk of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// So many bytes.
    Bytes(u64),
    /// This share of the file system, in percent.
    Percent(u8),
}

/// The default reserve is one percent, and this at most.
const RESERVE_CAP: u64 = 256 << 20;
/// So many inodes stay free.
const INODES: u64 = 256;
/// What a thing takes beside its bytes: its inode, its name, its part of the journal.
const OVERHEAD: u64 = 4096;

/// What guards a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guards {
    /// How much may be deleted before a person is asked; `None`: anything.
    pub fuse: Option<FuseOptions>,
    /// What stays free; `None`: one percent, 256 MiB at most.
    pub reserve: Option<Reserve>,
}

/// What is taken in its turn.
pub enum Parked {
    /// A piece of a generation.
    Piece(GenerationPiece),
    /// Contents that are about to come ahead: answered when there is room for them, unless they are refused.
    Hold(Vec<HeldContent>, oneshot::Sender<Vec<Admitted>>),
    /// What came ahead cannot be taken.
    Refuse(Box<ReplicaError>),
    /// Of a stream of contents that was refused nothing is kept.
    HeldNone,
}

/// What the holder waits for.
pub(super) enum Waiting {
    /// A person's word on a generation that deletes too much.
    Word(Box<Arriving>, Held),
    /// Room for so much more than the reserve; and what is to be said of a generation then, that was given up for want of it.
    Room(u64, Option<(Position, String)>, Held),
}

impl Waiting {
    pub(super) fn held(&self) -> &Held {
        match self {
            Self::Word(_, held) | Self::Room(_, _, held) => held,
        }
    }
}

/// The fuse and where it is remembered.
pub(super) struct Guard {
    pub(super) options: Guards,
    fuse: Fuse,
    state: PathBuf,
}

impl Guard {
    pub(super) fn new(options: Guards, state: PathBuf) -> Self {
        Self { options, fuse: recall(&state), state }
    }

    /// What the fuse says to a generation; the text if it is blown.
    fn judge(&mut self, arriving: &Arriving, before: u64) -> Option<String> {
        let options = self.options.fuse?;
        let (tally, now) = (&arriving.tally, crate::daemon::keeper::wall_clock());
        self.fuse.forget(tally.forgotten());
        let before = before.saturating_sub(tally.forgotten());
        let judged = self.fuse.judge(options, (before, tally.after(before)), tally.deleted(), now);
        // What is lost little by little is remembered across restarts, but not each file that goes.
        if judged.is_err() || tally.deleted() > options.count / 10 {
            keep(&self.state, &self.fuse);
        }
        let Blown { lost, of, within_window } = judged.err()?;
        let percent = u128::from(lost) * 100 / u128::from(of.max(1));
        let sample: Vec<String> = tally.sample().iter().map(RelPath::to_string).collect();
        let position = arriving.header.position;
        let window = humantime::format_duration(options.window);
        let deletes = match within_window {
            false => format!("generation {position} would delete {lost} of {of} entries ({percent} %)"),
            true => format!(
                "with generation {position}, which would delete {}, {lost} of {of} entries ({percent} %) would be lost within {window}",
                tally.deleted()
            ),
        };
        Some(format!(
            "{deletes}: {}{}; it waits, and so does all after it, until somebody says `hotspare release`",
            sample.join(", "),
            if tally.deleted() > sample.len() as u64 { ", ..." } else { "" }
        ))
    }

    fn released(&mut self) {
        self.fuse.release();
        keep(&self.state, &self.fuse);
    }
}

impl Work {
    /// Waits with what has arrived, or takes it.
    pub(super) fn go_on(&mut self) -> Result<(), ReplicaError> {
        self.look_for_room()?;
        while self.blocked.is_none() {
            let Some(parked) = self.parked.pop_front() else { break };
            self.unpark(parked)?;
        }
        let held = self.blocked.as_ref().map(|waiting| waiting.held().clone());
        self.tells.send_if_modified(|known| {
            let is_news = *known != held;
            if is_news {
                match &held {
                    Some(held) => tracing::error!("{}", held.text),
                    None => tracing::info!("the replica goes on"),
                }
                known.clone_from(&held);
            }
            is_news
        });
        Ok(())
    }

    fn unpark(&mut self, parked: Parked) -> Result<(), ReplicaError> {
        match parked {
            Parked::Piece(piece) => self.piece(piece),
            Parked::Hold(contents, reply) => self.admit(contents, reply),
            Parked::Refuse(error) => self.refuse(*error),
            Parked::HeldNone => {
                self.tell(Event::HeldAll(HeldAll { count: 0 }));
                Ok(())
            }
        }
    }

    /// A link ends, or the replica is closed: nothing is waited for.
    pub(super) fn forget_waiting(&mut self) {
        self.parked.clear();
        if let Some(Waiting::Word(arriving, _)) = self.blocked.take() {
            self.incoming = Incoming::Generation(arriving);
        }
    }

    /// Takes a whole generation if the fuse bears it; keeps it, and waits, if not.
    pub(super) fn take_or_wait(&mut self, arriving: Box<Arriving>) -> Result<(), ReplicaError> {
        let Some(replica) = &self.replica else { return Ok(()) };
        // What it replaces is put aside: nothing is lost.
        if !replica.keeps_replaced() {
            let before = replica.tree().counts().entries;
            if let Some(text) = self.guard.judge(&arriving, before) {
                self.blocked = Some(Waiting::Word(arriving, Held { by: HeldBy::Fuse, text }));
                return Ok(());
            }
        }
        self.take(*arriving)
    }

    /// Lets through what the fuse holds back, or has a replica that is gone begin anew; what was said of it.
    pub(super) fn release(&mut self) -> Result<Option<String>, ReplicaError> {
        if self.is_gone {
            self.options.anew = true;
            return Ok(Some(format!("a new replica begins in {}", self.options.home.display())));
        }
        match self.blocked.take() {
            Some(Waiting::Word(arriving, held)) => {
                tracing::warn!(position = %arriving.header.position, "released: what the fuse held back is let through");
                self.guard.released();
                self.take(*arriving)?;
                Ok(Some(held.text))
            }
            other => {
                self.blocked = other;
                Ok(None)
            }
        }
    }

    /// True if there is room for `bytes` more now.
    pub(super) fn would_fit(&self, bytes: u64) -> Result<bool, ReplicaError> {
        let Some(replica) = &self.replica else { return Ok(true) };
        Ok(lacking(replica, self.guard.options.reserve, bytes)?.is_none())
    }

    /// True if there is room for `bytes` more; if not, the holder waits until there is, and what needs them is to be parked before all else.
    pub(super) fn has_room(&mut self, bytes: u64) -> Result<bool, ReplicaError> {
        let Some(replica) = &self.replica else { return Ok(true) };
        match lacking(replica, self.guard.options.reserve, bytes)? {
            None => {
                self.staged_bytes += bytes;
                Ok(true)
            }
            Some(text) => {
                self.blocked = Some(Waiting::Room(bytes, None, Held { by: HeldBy::Room, text }));
                Ok(false)
            }
        }
    }

    /// A write found the disk full: what was staged goes, and comes again when there is room for all of it.
    pub(super) fn ran_out(&mut self, position: Position, error: &dyn std::error::Error) -> Result<(), ReplicaError> {
        self.give_up()?;
        self.incoming = Incoming::Refused;
        let needed = std::mem::take(&mut self.staged_bytes);
        let text =
            format!("{}; replication waits until there are {} MiB free", explain(error), needed.div_ceil(1 << 20) + 1);
        let held = Held { by: HeldBy::Room, text };
        self.blocked = Some(Waiting::Room(needed, Some((position, explain(error))), held));
        Ok(())
    }

    fn look_for_room(&mut self) -> Result<(), ReplicaError> {
        let (Some(Waiting::Room(bytes, refused, held)), Some(replica)) = (&mut self.blocked, &self.replica) else {
            return Ok(());
        };
        match lacking(replica, self.guard.options.reserve, *bytes)? {
            Some(text) if refused.is_none() => held.text = text,
            Some(_) => {}
            None => {
                if let Some((position, text)) = refused.take() {
                    self.tell_rejected(position, text);
                }
                self.blocked = None;
            }
        }
        Ok(())
    }
}

/// How many bytes an operation takes while it is staged and revealed.
pub(super) fn needs(operation: &Operation, joint: &Joint, replica: &Replica) -> Result<u64, ReplicaError> {
    let unpacked = operation.payload.map_or(0, |payload| payload.unpacked);
    Ok(match &operation.action {
        Action::Create { content: Content::Held, .. } if matches!(joint, Joint::CatchUp { .. }) => OVERHEAD,
        // A content that came ahead is moved, one that is elsewhere in the replica copied.
        Action::Create { content: Content::Held, entry, .. } => match entry.content() {
            Some(digest) if replica.has_ahead(digest)? => OVERHEAD,
            _ => entry.size().saturating_add(OVERHEAD),
        },
        Action::Create { entry, sparse: false, .. } => entry.size().saturating_add(OVERHEAD),
        Action::Create { .. } => unpacked.saturating_add(OVERHEAD),
        // The bytes, the old ones that they replace, and room for what grows.
        Action::Edit { .. } => unpacked.saturating_mul(3).saturating_add(OVERHEAD),
        _ => 0,
    })
}

/// What is to be said if there is not so much room on the replica's disk beyond the reserve.
fn lacking(replica: &Replica, reserve: Option<Reserve>, bytes: u64) -> Result<Option<String>, FsError> {
    let Space { available_bytes, total_bytes, available_inodes } = replica.root().space()?;
    let kept = match reserve {
        Some(Reserve::Bytes(bytes)) => bytes,
        Some(Reserve::Percent(percent)) => total_bytes / 100 * u64::from(percent),
        None => (total_bytes / 100).min(RESERVE_CAP),
    };
    if total_bytes == 0 {
        // One that does not say, such as ramfs: it is found out by a write.
        return Ok(None);
    }
    let home = replica.root().path().display();
    if available_bytes < kept.saturating_add(bytes) {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        return Ok(Some(format!(
            "the disk of the replica {home} is full: {} MiB are free, of which {} are kept ([standby] reserve), and {} more are needed; \
             replication waits, whole, until there is room",
            available_bytes >> 20,
            mebibytes(kept),
            mebibytes(bytes),
        )));
    }
    if available_inodes.is_some_and(|free| free < INODES) {
        let free = available_inodes.unwrap_or(0);
        return Ok(Some(format!(
            "the file system of the replica {home} has only {free} inodes left; replication waits, whole, until there are more"
        )));
    }
    Ok(None)
}
