//! What a replica cannot hold of what the primary has.

use crate::fs::Unheld;

/// What the standby could not set for lack of privilege: counted once per staging.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnheldCounts {
    /// Entries whose owner or group could not be set.
    pub owner: u64,
    /// Entries some of whose mode bits could not be set.
    pub mode: u64,
    /// Extended attributes that could not be set.
    pub xattrs: u64,
}

impl UnheldCounts {
    /// Adds what one entry lacks.
    pub fn add(&mut self, unheld: &Unheld) {
        self.owner += u64::from(unheld.owner || unheld.group);
        self.mode += u64::from(unheld.mode != 0);
        self.xattrs += unheld.xattrs.len() as u64;
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { owner: self.owner + other.owner, mode: self.mode + other.mode, xattrs: self.xattrs + other.xattrs }
    }
}
