//! What the keeper tells: `status` always, the log when it is news.

use std::time::{Duration, Instant};

use super::Report;
use super::work::{Keeper, instant};

/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What the log was told already.
#[derive(Debug, Default)]
pub(super) struct Told {
    is_polling: bool,
    overflows: u64,
    overflowed: Option<Instant>,
}

impl Keeper {
    /// Brings up to date what everybody may read.
    pub(super) fn report(&mut self) {
        self.reported = instant();
        let limit_hint = self.limit_hint();
        let mut shared = self.shared.report();
        let report: &mut Report = &mut shared;
        let dirty = self.walker.dirty();
        report.alarms = self.guard.alarms();
        report.lost = self.guard.lost().cloned().collect();
        report.is_held = self.guard.is_holding();
        report.is_ready = self.is_ready;
        let counts = self.tree.counts();
        (report.entries, report.bytes) = (counts.entries + 1, counts.bytes);
        report.read_bytes = self.read_bytes;
        report.pending = (dirty.len() + self.walker.awaiting()) as u64;
        report.oldest = dirty.oldest();
        report.sample = dirty.paths().take(10).cloned().collect();
        report.findings = self.walker.findings().clone();
        report.watches = self.walker.watches() as u64;
        report.polled = self.walker.polled() as u64;
        report.limit_hint = limit_hint;
    }

    /// Says what became of the watches, when that is news.
    pub(super) fn tell_of_watches(&mut self) {
        let (polled, overflows) = (self.walker.polled(), self.walker.findings().overflows);
        if self.walker.is_settled() && (polled > 0) != self.told.is_polling {
            self.told.is_polling = polled > 0;
            let every = humantime::format_duration(self.options.poll);
            match self.limit_hint() {
                Some(hint) => tracing::warn!(polled, %every, %hint, "too few watches: directories are polled"),
                None => tracing::info!("there are watches for all directories again"),
            }
        }
        if overflows > self.told.overflows && self.told.overflowed.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told.overflowed = Some(instant());
            self.told.overflows = overflows;
            tracing::warn!(overflows, "more happened than a queue holds: the home was scanned again");
        }
    }

    fn limit_hint(&self) -> Option<String> {
        let polled = self.walker.polled();
        self.walker.limit().filter(|_| polled > 0).map(|limit| limit.hint(polled as u64))
    }
}
