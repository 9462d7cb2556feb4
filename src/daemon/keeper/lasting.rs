//! What the index knows of bytes that may not have lasted (G4).
//!
//! The index is synced when it is committed; the home is not. What Jenkins writes reaches the disk when the kernel pleases, and a file's times may
//! get there before its bytes: after a power cut it can hold other bytes than the index says, with the very times and length that the index knows.
//! Nothing would ever read it again. So each commit notes when it was made and in whose memory the home was then ([`Root::mounting`]). Where
//! that is another at the next start, each file that was changed since an hour before that commit is read before it is believed.

use std::time::Duration;

use super::work::{Keeper, KeeperError, wall_clock};
use crate::fs::Root;
use crate::thought::store::{ReadStore, Store, Table};
use crate::thought::tree::{Tree, TreeError};
use crate::words::entry::Timestamp;

/// The fact that says when the index was committed (seconds, `i64` little-endian), and whose memory held the home then.
const HELD_FACT: &[u8] = b"held";
/// After so long what was written is on the disk: the kernel begins after half a minute (`vm.dirty_expire_centisecs`), and a slow disk with a
/// long queue takes minutes.
const LASTING: Duration = Duration::from_secs(3600);

/// Since when the bytes of a file may not be those that `tree` knows; `None` if the memory that held them is there.
pub(super) fn doubted_since<S: ReadStore>(tree: &Tree<S>, home: &Root) -> Result<Option<Timestamp>, KeeperError> {
    let held = tree.store().get(Table::Facts, HELD_FACT).map_err(TreeError::from)?;
    let Some((seconds, mounting)) = held.as_deref().and_then(|held| held.split_first_chunk()) else {
        return Ok(Some(Timestamp::default()));
    };
    let seconds = i64::from_le_bytes(*seconds).saturating_sub(LASTING.as_secs().cast_signed());
    let is_there = mounting == home.mounting()?.as_bytes();
    Ok((!is_there).then_some(Timestamp { seconds, nanoseconds: 0 }))
}

impl Keeper {
    /// Commits the index with fresh digests: which of them are stale is known in memory alone.
    pub(super) fn commit(&mut self) -> Result<(), KeeperError> {
        self.tree.digest()?;
        // Until all of the home was read, what was doubted still is.
        if self.is_ready && !self.walker.is_doubting() && self.tree.store().overlay_bytes() > 0 {
            let mut held = wall_clock().seconds.to_le_bytes().to_vec();
            held.extend_from_slice(self.walker.root().mounting()?.as_bytes());
            self.tree.store_mut().put(Table::Facts, HELD_FACT.to_vec(), held).map_err(TreeError::from)?;
        }
        Ok(self.tree.store_mut().commit()?)
    }
}
