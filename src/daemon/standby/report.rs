//! What a standby says of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::daemon::holder::Stand;
use crate::daemon::primary::now;
use crate::thought::generation::{Header, Reason};
use crate::thought::session::HEARTBEAT;
use crate::thought::wire::message::{CatchingUp, Heartbeat, UnheldCounts};
use crate::words::position::Position;

/// What a standby says of itself.
#[derive(Clone, Debug, Default)]
pub struct StandbyReport {
    /// Where the replica stands, as far as it is open.
    pub stand: Option<Stand>,
    /// What has been revealed.
    pub revealed: Option<Position>,
    /// How far the primary is with bringing it up to date.
    pub progress: Option<CatchingUp>,
    /// The primary's last sign of life.
    pub heard: Option<Heartbeat>,
    /// How far the replica was behind when the primary last knew it.
    pub behind: Behind,
    /// Generations by word of quality.
    pub by_quality: BTreeMap<&'static str, u64>,
    /// Reasons, each as often as a generation gave it.
    pub by_reason: BTreeMap<Reason, u64>,
    /// The kind of file system under the replica.
    pub filesystem: String,
    /// Why the replica cannot be used.
    pub stuck: Option<String>,
}

/// How far behind a replica was, and when that was known. At the start nothing is known but the time.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    lag: Duration,
    at: Instant,
}

impl Default for Behind {
    fn default() -> Self {
        Self { lag: Duration::ZERO, at: now() }
    }
}

impl Behind {
    /// So far behind, as was known at `at`.
    pub fn known(lag: Duration, at: Instant) -> Self {
        Self { lag, at }
    }

    /// The lag at `now`. What was told a beat ago still holds on a link; one that is cut off counts its silence.
    pub fn lag(&self, is_linked: bool, now: Instant) -> Duration {
        let silence = now.saturating_duration_since(self.at);
        if is_linked && silence < 2 * HEARTBEAT { self.lag } else { self.lag + silence }
    }
}

impl StandbyReport {
    pub(super) fn revealed(&mut self, position: Position, stand: Stand) {
        self.revealed = Some(position);
        let unheld = stand.unheld;
        let known = self.stand.replace(stand).map(|before| before.unheld);
        if known == Some(UnheldCounts::default()) && unheld != UnheldCounts::default() {
            tracing::info!(
                "this replica cannot hold all owners, modes or attributes, for want of privilege; `status` counts them"
            );
        }
    }

    pub(super) fn note(&mut self, header: &Header) {
        let (word, reasons) = header.quality.told();
        for reason in reasons {
            *self.by_reason.entry(*reason).or_default() += 1;
        }
        *self.by_quality.entry(word).or_default() += 1;
        if let Some(stand) = &mut self.stand {
            stand.standing.position = header.position;
            stand.standing.chain = header.chain();
            stand.standing.tree = header.tree_after;
            stand.standing.reign = header.reign;
            stand.claim = Some(header.claim());
            stand.unrevealed += 1;
        }
        self.progress = None;
    }
}
