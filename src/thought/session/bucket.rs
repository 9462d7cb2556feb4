//! A token bucket: how much may be sent when. The caller brings the clock, and waits.

use std::time::{Duration, Instant};

use crate::thought::wire::message::Bandwidth;

/// Allows [`Bandwidth::bytes_per_second`] over time, and [`Bandwidth::burst_bytes`] at once.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    bandwidth: Bandwidth,
    /// When the bucket is, or was, full.
    full_at: Instant,
}

impl Bucket {
    /// A bucket that is full at `now`.
    pub fn new(bandwidth: Bandwidth, now: Instant) -> Self {
        Self { bandwidth, full_at: now }
    }

    /// Takes `bytes`, and says how long to wait before they are sent. What is sent together may be more than a burst: the next waits for it.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let full_at = self.full_at.max(now);
        let burst = self.time_of(self.bandwidth.burst_bytes);
        // What is already missing beyond a burst has to come back first.
        let wait = full_at.saturating_duration_since(now).saturating_sub(burst);
        self.full_at = full_at + self.time_of(bytes);
        wait
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bandwidth.bytes_per_second.max(1));
        // A peer may ask for anything: a day is as good as for ever.
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(Duration::from_secs(86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends pieces of `piece` bytes, as soon as it may, until `end`; how many bytes went out by each of the times asked for.
    fn sent(bandwidth: Bandwidth, piece: u64, idle: Duration, until: &[Duration]) -> Vec<u64> {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant can only be got from the clock; its value is of no matter"
        )]
        let start = Instant::now();
        let mut bucket = Bucket::new(bandwidth, start);
        let (mut now, mut total) = (start + idle, 0);
        let mut by = Vec::new();
        for end in until {
            loop {
                let mut next = bucket;
                let at = now + next.take(piece, now);
                if at > start + idle + *end {
                    break;
                }
                (bucket, now) = (next, at);
                total += piece;
            }
            by.push(total);
        }
        by
    }

    #[test]
    fn over_time_the_rate_goes_out_and_at_once_a_burst() {
        let bandwidth = Bandwidth { bytes_per_second: 1000, burst_bytes: 500 };
        let seconds = [0, 1, 2, 10, 100].map(Duration::from_secs);
        for piece in [1, 100, 250] {
            for idle in [Duration::ZERO, Duration::from_secs(3600)] {
                let by = sent(bandwidth, piece, idle, &seconds);
                for (by, end) in by.iter().zip(seconds) {
                    let allowed = 500 + end.as_secs() * 1000;
                    assert!((allowed..=allowed + piece).contains(by), "{by} bytes by {end:?} in pieces of {piece}");
                }
            }
        }
        // Pieces longer than a burst go out whole, and no faster over time.
        let by = sent(bandwidth, 3000, Duration::ZERO, &seconds);
        assert!((100_000..=104_000).contains(&by[4]) && by[0] == 3000, "{by:?}");
    }

    #[test]
    fn whatever_a_peer_asks_for_nothing_overflows() {
        for (bytes_per_second, burst_bytes) in [(0, 0), (0, u64::MAX), (u64::MAX, 0), (1, 1)] {
            let by = sent(Bandwidth { bytes_per_second, burst_bytes }, u64::MAX / 4, Duration::ZERO, &[Duration::ZERO]);
            assert!(!by.is_empty());
            if bytes_per_second == u64::MAX || burst_bytes == u64::MAX {
                break;
            }
        }
    }
}
