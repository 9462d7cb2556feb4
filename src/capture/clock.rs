//! What the clocks say at a barrier: change times prove nothing if the wall clock was set in between.

use std::time::Duration;

use crate::words::entry::Timestamp;

/// How far the kernel's own rounding may move the two clocks against each other.
const ROUNDING: i128 = 1_000;

/// The wall clock, read between two readings of the monotonic clock. The closer these are, the smaller a step is noticed; a caller
/// that was interrupted between them had better read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The monotonic clock, just before.
    pub before: Duration,
    /// The wall clock.
    pub realtime: Timestamp,
    /// The monotonic clock, just after.
    pub after: Duration,
}

impl Moment {
    /// True if the wall clock was set between `earlier` and this: the slewing of NTP moves both clocks alike.
    pub fn is_stepped_since(&self, earlier: &Self) -> bool {
        let (low, high) = self.offset();
        let (earlier_low, earlier_high) = earlier.offset();
        low > earlier_high + ROUNDING || earlier_low > high + ROUNDING
    }

    /// The least and the most that the wall clock can be ahead of the monotonic one, in nanoseconds.
    fn offset(&self) -> (i128, i128) {
        let realtime = i128::from(self.realtime.seconds) * 1_000_000_000 + i128::from(self.realtime.nanoseconds);
        let nanoseconds = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        (realtime - nanoseconds(self.after), realtime - nanoseconds(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(before: u64, realtime: u32, after: u64) -> Moment {
        let realtime = Timestamp { seconds: 1_000, nanoseconds: realtime };
        Moment { before: Duration::from_nanos(before), realtime, after: Duration::from_nanos(after) }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_either_way_and_one_that_was_not_is_believed() {
        let first = moment(10_000_000, 20_000_000, 10_000_500);
        let table = [
            (moment(11_000_000, 21_000_100, 11_000_500), false),
            (moment(11_000_000, 20_000_100, 11_000_500), true),
            (moment(11_000_000, 31_000_100, 11_000_500), true),
            (moment(11_000_000, 20_990_000, 11_000_500), true),
            // An interruption between the readings is no step.
            (moment(11_000_000, 26_000_000, 16_000_500), false),
        ];
        for (second, is_stepped) in table {
            assert_eq!(second.is_stepped_since(&first), is_stepped, "{second:?}");
        }
    }
}
