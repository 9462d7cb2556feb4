//! What a generation may claim of its cut, and why not more.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NAMED_PATHS_CAP;
use crate::words::path::RelPath;

/// Some paths, and how many there are in all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NamedPaths {
    /// The first of them, [`NAMED_PATHS_CAP`] at most.
    pub sample: Vec<RelPath>,
    /// How many there are.
    pub count: u64,
}

impl NamedPaths {
    /// Counts `path`, and names it while there is room.
    pub fn add(&mut self, path: &RelPath) {
        self.count += 1;
        if self.sample.len() < NAMED_PATHS_CAP {
            self.sample.push(path.clone());
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Why a generation cannot claim to be one instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// A kernel queue, or ours, overflowed during the round.
    Overflow,
    /// A watch was lost on a directory that still exists.
    LostWatch,
    /// A file system was unmounted during the round.
    Unmounted,
    /// A directory had no watch yet, or was not scanned yet, at the cut.
    AwaitingScan,
    /// Paths went on changing through every round of capture.
    Conflict,
    /// A path's change time was not older than the cut's.
    ChangedAfterCut,
    /// The wall clock was set during the round.
    ClockStepped,
    /// A path left out of an earlier generation is still left out.
    Deferred,
    /// Part of the home is polled, for want of watches.
    Polled,
    /// Part of the home cannot be read.
    Unreadable,
    /// The home, or part of it, is on a network file system.
    Network,
    /// The home is on overlayfs.
    Overlay,
    /// A file has names outside the home, and could not be watched itself.
    OutsideLinks,
    /// A barrier did not arrive in time in every queue.
    BarrierLate,
}

impl Reason {
    /// The word for it in `status` and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::LostWatch => "lost-watch",
            Self::Unmounted => "unmounted",
            Self::AwaitingScan => "awaiting-scan",
            Self::Conflict => "conflict",
            Self::ChangedAfterCut => "changed-after-cut",
            Self::ClockStepped => "clock-stepped",
            Self::Deferred => "deferred",
            Self::Polled => "polled",
            Self::Unreadable => "unreadable",
            Self::Network => "network",
            Self::Overlay => "overlay",
            Self::OutsideLinks => "outside-links",
            Self::BarrierLate => "barrier-late",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a generation may claim of itself (G3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Quality {
    /// Proven to be the state at one instant.
    Consistent,
    /// Proven, but for the deferred paths that the header names.
    Partial,
    /// Not proven, for these reasons: sorted, none twice, never empty.
    Fuzzy(Vec<Reason>),
}

impl Quality {
    /// The word for it in `status`, and the reasons if it is fuzzy.
    pub fn told(&self) -> (&'static str, &[Reason]) {
        match self {
            Self::Consistent => ("consistent", &[]),
            Self::Partial => ("partial", &[]),
            Self::Fuzzy(reasons) => ("fuzzy", reasons),
        }
    }
}

/// What a generation claims, as a standby remembers it of where it stands.
///
/// **Format, version 1** (a fact of the index): `u8` version, then the postcard encoding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// What it claims of its cut.
    pub quality: Quality,
    /// Paths that changed and are not in it.
    pub deferred: NamedPaths,
}

const CLAIM_VERSION: u8 = 1;

impl Claim {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![CLAIM_VERSION]).unwrap_or_default()
    }

    /// What `bytes` say, if they are of this version and whole.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&CLAIM_VERSION, rest) = bytes.split_first()? else { return None };
        postcard::take_from_bytes(rest).ok().filter(|(_, rest)| rest.is_empty()).map(|(claim, _)| claim)
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consistent => f.write_str("consistent"),
            Self::Partial => f.write_str("partial"),
            Self::Fuzzy(reasons) => {
                f.write_str("fuzzy (")?;
                for (index, reason) in reasons.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{reason}")?;
                }
                f.write_str(")")
            }
        }
    }
}
