//! Contents that arrive ahead of the generation that refers to them: the holder's side. They are taken in beside it, by the
//! [`lane`](super::lane), which asks for each whether it may come, and hands it over when it is whole.

use std::time::Duration;

use tokio::sync::oneshot;

use super::waiting::Parked;
use super::work::Work;
use crate::daemon::primary::now;
use crate::reveal::{Copied, Copying, Holding, ReplicaError, Whole};
use crate::thought::wire::message::{HeldContent, Swept, Wanted};
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

/// A content that may come.
pub struct Admitted {
    /// What takes it in.
    pub holding: Holding,
    /// True if it is to be synced before it is handed over: a generation that takes it has only its name left to make durable then.
    pub syncs: bool,
}

impl Work {
    /// Lets contents come, when there is room for them. No answer if they are refused.
    pub(super) fn admit(
        &mut self,
        contents: Vec<HeldContent>,
        reply: oneshot::Sender<Vec<Admitted>>,
    ) -> Result<(), ReplicaError> {
        // What came before is kept, whatever becomes of these.
        self.staged_bytes = 0;
        let bytes = contents.iter().map(|content| content.size.saturating_sub(content.from));
        if !self.has_room(bytes.fold(0, u64::saturating_add))? {
            self.parked.push_front(Parked::Hold(contents, reply));
            return Ok(());
        }
        let Some(replica) = &mut self.replica else { return Ok(()) };
        self.arriving = contents.iter().map(|content| content.digest).collect();
        // For the first generation all waits, and all is synced at once.
        let is_live = replica.standing().position != Position::default();
        let mut admitted = Vec::with_capacity(contents.len());
        for content in contents {
            let syncs = is_live && content.size >= SYNCED_FROM;
            match replica.hold(content) {
                Ok(holding) => admitted.push(Admitted { holding, syncs }),
                Err(error) => {
                    self.not_admitted(admitted);
                    return self.refuse(error);
                }
            }
        }
        // Who asked may be gone with its link.
        if let Err(unwanted) = reply.send(admitted) {
            self.not_admitted(unwanted);
        }
        Ok(())
    }

    fn not_admitted(&mut self, unwanted: Vec<Admitted>) {
        self.cut_off(unwanted.into_iter().map(|admitted| admitted.holding).collect());
    }

    /// Contents are whole.
    pub(super) fn keep(&mut self, contents: Vec<Whole>) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        contents.into_iter().try_for_each(|whole| replica.keep(whole))
    }

    /// Copies of what lay elsewhere are here.
    pub(super) fn copied(&mut self, copied: Vec<Copied>) -> Result<(), ReplicaError> {
        match &mut self.replica {
            Some(replica) => copied.into_iter().try_for_each(|copied| replica.copied(copied)),
            None => Ok(()),
        }
    }

    /// Contents were cut off.
    pub(super) fn cut_off(&mut self, contents: Vec<Holding>) {
        if let Some(replica) = &mut self.replica {
            contents.into_iter().for_each(|holding| replica.cut_off(holding));
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
        let Some(replica) = self.replica.as_mut().filter(|_| all.len() < WANTED) else {
            return Ok(Swept { contents: 0 });
        };
        all.sort_unstable();
        let arriving = &self.arriving;
        let is_wanted = |content: Digest| {
            arriving.contains(&content) || content.0.first_chunk().is_some_and(|key| all.binary_search(key).is_ok())
        };
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

    /// Drops what came ahead of generations that never came. Asked for with each generation at the live edge: what a catch-up brings ahead is wanted
    /// however long that takes.
    pub(super) fn drop_unwanted(&mut self) -> Result<(), ReplicaError> {
        let at = now();
        match &mut self.replica {
            Some(replica) if at.saturating_duration_since(self.aged) >= UNWANTED_AFTER => {
                self.aged = at;
                replica.age_held(&self.arriving).map(drop)
            }
            _ => Ok(()),
        }
    }
}
