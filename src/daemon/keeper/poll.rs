//! When what no watch tells of is scanned: directories left without one, or all of a home whose file system others may write to.
//!
//! The directories take turns, spread evenly over the interval. However many there are and however slow their disk is, scanning them takes half
//! of the time at most: after each turn comes a rest as long as it took, and the whole of it takes longer than the interval then.

use std::time::{Duration, Instant};

/// Turns are at least this far apart.
const STEP: Duration = Duration::from_millis(250);
/// One turn makes good for so much time at most.
const TURN_CAP: Duration = Duration::from_secs(1);

/// What is to be scanned now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Nothing.
    Rest,
    /// So many of the directories without a watch.
    Directories(usize),
    /// Everything.
    Home,
}

/// Says whose turn it is.
#[derive(Debug)]
pub(super) struct Poller {
    interval: Duration,
    /// No event can be relied on.
    polls_home: bool,
    begun: Instant,
    is_scanning: bool,
    rests_until: Instant,
}

impl Poller {
    pub(super) fn new(interval: Duration, polls_home: bool, now: Instant) -> Self {
        Self { interval, polls_home, begun: now, is_scanning: false, rests_until: now }
    }

    /// What is to be scanned at `now`, when `polled` directories have no watch. `is_settled` says that what was asked for before is done.
    pub(super) fn turn(&mut self, now: Instant, is_settled: bool, polled: usize) -> Turn {
        if !is_settled {
            return Turn::Rest;
        }
        let since = now.saturating_duration_since(self.begun);
        if self.is_scanning {
            self.is_scanning = false;
            self.rests_until = now + since;
        }
        if now < self.rests_until {
            return Turn::Rest;
        }
        let turn = if self.polls_home {
            if since < self.interval { Turn::Rest } else { Turn::Home }
        } else {
            self.share(since, polled)
        };
        if turn != Turn::Rest {
            self.begun = now;
            self.is_scanning = true;
        }
        turn
    }

    fn share(&self, since: Duration, polled: usize) -> Turn {
        let share = |time: Duration| polled as u128 * time.as_nanos() / self.interval.as_nanos().max(1);
        let share = share(since).min(share(TURN_CAP).max(1)).min(polled as u128);
        match usize::try_from(share) {
            Ok(count) if count > 0 && since >= STEP => Turn::Directories(count),
            _ => Turn::Rest,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// Polls for `time`, each directory taking `each` to scan: how many directories were scanned, the most at once, and how long that took.
    fn run(polled: usize, each: Duration, time: Duration) -> (usize, usize, Duration) {
        let begin = Instant::now();
        let mut poller = Poller::new(INTERVAL, false, begin);
        let (mut now, mut scanned, mut most, mut taken) = (begin, 0, 0, Duration::ZERO);
        while now - begin < time {
            if let Turn::Directories(count) = poller.turn(now, true, polled) {
                let took = each * u32::try_from(count).unwrap();
                (scanned, most, taken) = (scanned + count, most.max(count), taken + took);
                now += took;
            }
            now += Duration::from_millis(50);
        }
        (scanned, most, taken)
    }

    #[test]
    fn each_directory_is_scanned_once_an_interval_and_few_at_once() {
        for polled in [1, 3, 600, 4_500] {
            let (scanned, most, _) = run(polled, Duration::from_micros(50), INTERVAL * 10);
            assert!((polled * 9..=polled * 10).contains(&scanned), "{scanned} of {polled}");
            assert!(most <= polled / 30 + 1, "{most} of {polled}");
        }
    }

    #[test]
    fn scanning_takes_half_of_the_time_at_most() {
        let (scanned, _, taken) = run(100_000, Duration::from_millis(5), INTERVAL * 100);
        assert!(taken <= INTERVAL * 51, "{taken:?}");
        assert!(scanned > 100_000, "and still all of them have their turn: {scanned}");
    }

    #[test]
    fn a_home_is_scanned_whole_when_the_last_scan_is_done_and_as_much_time_has_passed() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut poller = Poller::new(INTERVAL, true, begin);
        assert_eq!(poller.turn(at(29), true, 0), Turn::Rest);
        assert_eq!(poller.turn(at(30), true, 0), Turn::Home);
        assert_eq!(poller.turn(at(80), false, 0), Turn::Rest, "it is under way");
        assert_eq!(poller.turn(at(90), true, 0), Turn::Rest, "it took a minute");
        assert_eq!(poller.turn(at(149), true, 0), Turn::Rest);
        assert_eq!(poller.turn(at(150), true, 0), Turn::Home);
    }
}
