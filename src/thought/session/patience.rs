//! When an address is dialed again: soon after a good link, ever later while nothing comes of it, never at the same moment as everybody else.

use std::time::{Duration, Instant};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause, without what chance adds.
pub const LONGEST: Duration = Duration::from_secs(5);
/// A link that held for so long was a good one: its end is no reason to be slow.
pub const GOOD_FROM: Duration = Duration::from_secs(5);

/// How one address is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pause: Duration,
    due: Instant,
}

impl Patience {
    /// An address that is to be dialed at `due` for the first time.
    pub fn new(due: Instant) -> Self {
        Self { pause: SHORTEST, due }
    }

    /// When it is to be dialed.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// An attempt failed, or the link that came of it ended after `held`. `chance` is any number: a quarter of the pause at most is added by it.
    pub fn ended(&mut self, held: Option<Duration>, now: Instant, chance: u16) {
        if held.is_some_and(|held| held >= GOOD_FROM) {
            self.pause = SHORTEST;
        }
        self.due = now + self.pause + self.pause * u32::from(chance) / (4 * u32::from(u16::MAX));
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// There is a reason to try soon, at `due`: pauses begin from the shortest again.
    pub fn renew(&mut self, due: Instant) {
        *self = Self::new(due);
    }

    /// It is to wait until `due` at least.
    pub fn postpone(&mut self, due: Instant) {
        self.due = self.due.max(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be got from the clock; its value is of no matter"
    )]
    fn pauses_grow_to_a_bound_with_some_chance_and_a_good_link_makes_them_short() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let mut now = start;
        let mut pauses = Vec::new();
        for chance in [0, 0, 0, u16::MAX, 0, 0, 0, u16::MAX] {
            patience.ended(None, now, chance);
            pauses.push(patience.due().duration_since(now).as_millis());
            now = patience.due();
        }
        assert_eq!(pauses, [100, 200, 400, 1000, 1600, 3200, 5000, 6250]);
        patience.ended(Some(GOOD_FROM / 2), now, 0);
        assert_eq!(patience.due(), now + LONGEST, "a link that broke at once was none");
        patience.ended(Some(GOOD_FROM), now, 0);
        assert_eq!(patience.due(), now + SHORTEST);
        patience.postpone(now + LONGEST);
        assert_eq!(patience.due(), now + LONGEST);
        patience.ended(None, now, 0);
        assert_eq!(patience.due(), now + SHORTEST * 2, "to be postponed is no success");
    }
}
