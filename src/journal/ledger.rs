//! How far each generation has come: the state machine that appending and recovery share.

use std::collections::BTreeMap;

use super::{RecordKind, State};
use crate::words::position::Position;

/// One generation's standing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    pub(super) state: State,
    /// How many parts there are.
    parts: u32,
    /// The segment of its first record.
    first_segment: u64,
    /// The segment of its last record.
    last_segment: u64,
    /// Its beginning was pruned.
    pub(super) orphan: bool,
}

/// All generations with records in the journal: some 60 bytes each.
#[derive(Default, Debug)]
pub(super) struct Ledger(BTreeMap<Position, Progress>);

/// A record that does not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unfit {
    pub(super) from: Option<State>,
}

impl State {
    /// True if nothing more is to come.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Dropped)
    }
}

impl Ledger {
    pub(super) fn progress(&self, position: Position) -> Option<&Progress> {
        self.0.get(&position)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Position, &Progress)> {
        self.0.iter()
    }

    /// What the generation becomes with a record of `kind` in `segment`.
    pub(super) fn next(&self, position: Position, kind: RecordKind, segment: u64) -> Result<Progress, Unfit> {
        let old = self.0.get(&position);
        let (state, parts) = match (old.map(|old| (old.state, old.parts)), kind) {
            (None | Some((State::Dropped, _)), RecordKind::Staged { part: 0 }) => (State::Staging, 1),
            (Some((State::Staging, parts)), RecordKind::Staged { part }) if part == parts && part < u32::MAX => {
                (State::Staging, parts + 1)
            }
            (Some((State::Staging, parts)), RecordKind::Acked) => (State::Acked, parts),
            (Some((State::Staging, parts)), RecordKind::Dropped) => (State::Dropped, parts),
            (Some((State::Acked, parts)), RecordKind::Revealed) => (State::Revealed, parts),
            (Some((State::Revealed, parts)), RecordKind::Done) => (State::Done, parts),
            (from, _) => return Err(Unfit { from: from.map(|(state, _)| state) }),
        };
        let anew = matches!(kind, RecordKind::Staged { part: 0 });
        let (first_segment, orphan) =
            old.filter(|_| !anew).map_or((segment, false), |old| (old.first_segment, old.orphan));
        Ok(Progress { state, parts, first_segment, last_segment: segment, orphan })
    }

    /// What a generation is whose first record left is of `kind`: what came before was pruned.
    pub(super) fn orphan(kind: RecordKind, segment: u64) -> Progress {
        let (state, parts) = match kind {
            RecordKind::Staged { part } => (State::Staging, part.saturating_add(1)),
            RecordKind::Acked => (State::Acked, 0),
            RecordKind::Revealed => (State::Revealed, 0),
            RecordKind::Done => (State::Done, 0),
            RecordKind::Dropped => (State::Dropped, 0),
        };
        Progress { state, parts, first_segment: segment, last_segment: segment, orphan: true }
    }

    pub(super) fn set(&mut self, position: Position, progress: Progress) {
        self.0.insert(position, progress);
    }

    /// The oldest segment that an unfinished generation needs.
    pub(super) fn oldest_needed(&self) -> Option<u64> {
        let open = self.0.values().filter(|progress| !progress.state.is_finished());
        open.map(|progress| progress.first_segment).min()
    }

    /// Forgets what has no record in `floor` or later segments.
    pub(super) fn forget_before(&mut self, floor: u64) {
        self.0.retain(|_, progress| progress.last_segment >= floor);
    }
}
