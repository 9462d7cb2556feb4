//! Batch windows: when a burst of changes is over, or has lasted long enough to be taken as it is.
//!
//! A burst is due when nothing changed for the quiet window, so that a save of many files is taken once; or when its first
//! change is as old as the longest window, so that a file that never stops growing cannot hold the rest back.

use std::time::{Duration, Instant};

/// The two windows a burst is measured by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// How long nothing must have changed.
    pub quiet: Duration,
    /// How old the first change may become whatever still changes. Shorter than `quiet` it rules alone.
    pub longest: Duration,
}

impl Default for Windows {
    /// Quiet for 50 ms, at most 200 ms: as the configuration's own defaults. Under constant change the second one rules, and a cut of
    /// what changed in 200 ms is small enough to be proven between two changes.
    fn default() -> Self {
        Self { quiet: Duration::from_millis(50), longest: Duration::from_millis(200) }
    }
}

/// What a [`BatchTimer`] says of the burst it watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing changed since the last burst was taken.
    Idle,
    /// Look again after this long, or at the next change.
    In(Duration),
    /// The burst is to be taken now.
    Now,
}

/// Times one burst after the other. The caller brings the clock.
#[derive(Clone, Debug)]
pub struct BatchTimer {
    windows: Windows,
    burst: Option<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl BatchTimer {
    /// A timer that is idle.
    pub fn new(windows: Windows) -> Self {
        Self { windows, burst: None }
    }

    /// Something changed at `now`: a burst begins, or goes on.
    pub fn touched(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// When the burst is due if nothing more changes; `None` when idle, or when both windows end beyond what the clock can say.
    pub fn due_at(&self) -> Option<Instant> {
        let burst = self.burst?;
        let quiet = burst.last.checked_add(self.windows.quiet);
        let longest = burst.first.checked_add(self.windows.longest);
        quiet.into_iter().chain(longest).min()
    }

    /// Whether the burst is due at `now`.
    pub fn due(&self, now: Instant) -> Due {
        if self.burst.is_none() {
            return Due::Idle;
        }
        match self.due_at().map(|at| at.saturating_duration_since(now)) {
            Some(Duration::ZERO) => Due::Now,
            Some(left) => Due::In(left),
            None => Due::In(Duration::MAX),
        }
    }

    /// The burst was taken: idle until the next change. Changes that came while it was being captured are touched anew.
    pub fn taken(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { quiet: Duration::from_millis(100), longest: Duration::from_millis(250) };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be got from the clock; its value is of no matter"
    )]
    fn a_burst_is_due_when_quiet_or_when_its_first_change_is_old() {
        let start = Instant::now();
        // Milliseconds of the changes, when it is asked, what it must say.
        let table: &[(&[u64], u64, Due)] = &[
            (&[], 1000, Due::Idle),
            (&[0], 0, Due::In(ms(100))),
            (&[0], 99, Due::In(ms(1))),
            (&[0], 100, Due::Now),
            (&[0], 5000, Due::Now),
            (&[0, 90], 100, Due::In(ms(90))),
            (&[0, 90], 190, Due::Now),
            (&[0, 90, 180], 200, Due::In(ms(50))),
            (&[0, 90, 180, 240], 249, Due::In(ms(1))),
            (&[0, 90, 180, 240], 250, Due::Now),
        ];
        for (changes, asked, due) in table {
            let mut timer = BatchTimer::new(WINDOWS);
            changes.iter().for_each(|&at| timer.touched(start + ms(at)));
            assert_eq!(timer.due(start + ms(*asked)), *due, "changes {changes:?} asked at {asked}");
            timer.taken();
            assert_eq!(timer.due(start + ms(*asked)), Due::Idle);
            timer.touched(start + ms(1000));
            assert_eq!(timer.due_at(), Some(start + ms(1100)), "the burst after one taken starts anew");
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be got from the clock; its value is of no matter"
    )]
    fn windows_beyond_the_clock_are_never_due_and_never_panic() {
        let start = Instant::now();
        let endless = Windows { quiet: Duration::MAX, longest: Duration::MAX };
        let mut timer = BatchTimer::new(endless);
        timer.touched(start);
        assert_eq!((timer.due_at(), timer.due(start)), (None, Due::In(Duration::MAX)));
        let mut timer = BatchTimer::new(Windows { longest: ms(5), ..endless });
        timer.touched(start);
        assert_eq!(timer.due(start + ms(5)), Due::Now);
    }
}
