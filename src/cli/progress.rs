//! How far long work is: a bar on a terminal, a line every five seconds elsewhere; always on stderr.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use crate::observe::status::ProgressStatus;

/// How often a line is written where there is no terminal.
pub const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar is drawn in this many steps: entries and bytes together decide how full it is.
const STEPS: u64 = 1000;

/// Shows snapshots of long work, fed by whoever does it as often as it likes.
pub struct Progress {
    face: Face,
    phase: Option<Phase>,
}

enum Face {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, last: Option<Instant> },
    Silent,
}

/// A phase of the work: rates and the time left are those since it began.
struct Phase {
    began: Instant,
    first: ProgressStatus,
    latest: ProgressStatus,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("phase", &self.phase.as_ref().map(|phase| &phase.latest))
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// A bar if stderr is a terminal, else lines.
    pub fn on_stderr() -> Self {
        if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("[{bar:30}] {percent:>3}% {prefix}\n  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            Self { face: Face::Bar(ProgressBar::new(STEPS).with_style(style)), phase: None }
        } else {
            Self::lines(Box::new(io::stderr()))
        }
    }

    /// Lines, to wherever they are wanted.
    pub fn lines(out: Box<dyn Write + Send>) -> Self {
        Self { face: Face::Lines { out, last: None }, phase: None }
    }

    /// Nothing at all.
    pub fn silent() -> Self {
        Self { face: Face::Silent, phase: None }
    }

    /// Shows how far it is. Another phase begins when its name changes.
    pub fn update(&mut self, now: Instant, snapshot: &ProgressStatus) {
        match &mut self.phase {
            Some(phase) if phase.latest.phase == snapshot.phase => phase.latest = snapshot.clone(),
            _ => {
                self.end_line(now);
                self.phase = Some(Phase { began: now, first: snapshot.clone(), latest: snapshot.clone() });
            }
        }
        let Some(phase) = &self.phase else { return };
        match &mut self.face {
            Face::Bar(bar) => {
                bar.set_position(phase.steps());
                bar.set_prefix(phase.latest.phase.clone());
                bar.set_message(phase.figures(now));
            }
            Face::Lines { out, last } => match last {
                Some(at) if now.saturating_duration_since(*at) >= LINE_EVERY => {
                    write_line(out, &phase.text(now));
                    *last = Some(now);
                }
                Some(_) => {}
                None => *last = Some(now),
            },
            Face::Silent => {}
        }
    }

    /// The work is over: the bar goes, and a last line says what was done.
    pub fn finish(&mut self, now: Instant) {
        if let Face::Bar(bar) = &self.face {
            bar.finish_and_clear();
        }
        self.end_line(now);
    }

    fn end_line(&mut self, now: Instant) {
        let Some(phase) = self.phase.take() else { return };
        let text = phase.summary(now);
        match &mut self.face {
            Face::Bar(bar) if bar.is_finished() => write_line(&mut io::stderr(), &text),
            Face::Bar(bar) => bar.suspend(|| write_line(&mut io::stderr(), &text)),
            Face::Lines { out, last } => {
                write_line(out, &text);
                *last = Some(now);
            }
            Face::Silent => {}
        }
    }
}

/// Where nobody can be told, the work goes on.
fn write_line(out: &mut dyn Write, text: &str) {
    drop(writeln!(out, "{text}"));
}

impl Phase {
    fn text(&self, now: Instant) -> String {
        format!("{}: {}", self.latest.phase, self.figures(now))
    }

    /// `1,200 of 9,000 entries, 3 MiB of 1 GiB, 55 MiB/s, 20s left`: what fits 80 columns
    fn figures(&self, now: Instant) -> String {
        let mut text = format!(
            "{} entries, {}",
            of(self.latest.entries_done, self.latest.entries_total, |count| HumanCount(count).to_string()),
            of(self.latest.bytes_done, self.latest.bytes_total, |bytes| HumanBytes(bytes).to_string()),
        );
        let elapsed = now.saturating_duration_since(self.began);
        if let Some(rate) = per_second(self.latest.bytes_done.saturating_sub(self.first.bytes_done), elapsed) {
            text.push_str(&format!(", {}/s", HumanBytes(rate)));
        }
        if let Some(left) = self.left(elapsed) {
            text.push_str(&format!(", {:#} left", HumanDuration(left)));
        }
        text
    }

    /// `reading: 9,000 entries, 1 GiB in 19 seconds`
    fn summary(&self, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.began);
        let ProgressStatus { phase, entries_done, bytes_done, .. } = &self.latest;
        let (entries, bytes) = (HumanCount(*entries_done), HumanBytes(*bytes_done));
        format!("{phase}: {entries} entries, {bytes} in {:.1} s", elapsed.as_secs_f64())
    }

    /// What is slower, entries or bytes, decides.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let left = |first: u64, done: u64, total: Option<u64>| {
            let (done_here, to_do) = (done.checked_sub(first)?, total?.checked_sub(done)?);
            if to_do == 0 {
                return Some(Duration::ZERO);
            }
            let seconds = elapsed.as_secs_f64() * ratio(to_do, done_here)?;
            Duration::try_from_secs_f64(seconds).ok().filter(|_| elapsed >= Duration::from_secs(1))
        };
        let (first, latest) = (&self.first, &self.latest);
        let entries = left(first.entries_done, latest.entries_done, latest.entries_total);
        let bytes = left(first.bytes_done, latest.bytes_done, latest.bytes_total);
        entries.max(bytes)
    }

    fn steps(&self) -> u64 {
        let share = |done: u64, total: Option<u64>| {
            let total = total.filter(|&total| total > 0)?;
            u64::try_from(u128::from(done.min(total)) * u128::from(STEPS) / u128::from(total)).ok()
        };
        let entries = share(self.latest.entries_done, self.latest.entries_total);
        let bytes = share(self.latest.bytes_done, self.latest.bytes_total);
        match (entries, bytes) {
            (Some(entries), Some(bytes)) => entries.min(bytes),
            (one, other) => one.or(other).unwrap_or(0),
        }
    }
}

fn of(done: u64, total: Option<u64>, text: impl Fn(u64) -> String) -> String {
    total.map_or_else(|| text(done), |total| format!("{} of {}", text(done), text(total)))
}

fn per_second(count: u64, elapsed: Duration) -> Option<u64> {
    let milliseconds = elapsed.as_millis();
    if milliseconds < 1000 || count == 0 {
        return None;
    }
    u64::try_from(u128::from(count) * 1000 / milliseconds).ok()
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
fn ratio(one: u64, other: u64) -> Option<f64> {
    (other > 0).then(|| one as f64 / other as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn snapshot(phase: &str, entries_done: u64, bytes_done: u64) -> ProgressStatus {
        let (entries_total, bytes_total) = (Some(2000), Some(100 << 20));
        ProgressStatus { phase: phase.to_owned(), entries_done, entries_total, bytes_done, bytes_total }
    }

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn elsewhere_than_on_a_terminal_there_is_a_line_every_five_seconds_and_one_for_each_phase() {
        let (page, start) = (Page::default(), start());
        let mut progress = Progress::lines(Box::new(page.clone()));
        for second in 0..=12 {
            let now = start + Duration::from_secs(second);
            progress.update(now, &snapshot("reading", 100 * second, second << 20));
        }
        progress.update(start + Duration::from_secs(13), &snapshot("sending", 0, 0));
        progress.finish(start + Duration::from_secs(15));
        progress.finish(start + Duration::from_secs(16));
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let expected = "\
            reading: 500 of 2,000 entries, 5.00 MiB of 100.00 MiB, 1.00 MiB/s, 2m left\n\
            reading: 1,000 of 2,000 entries, 10.00 MiB of 100.00 MiB, 1.00 MiB/s, 2m left\n\
            reading: 1,200 entries, 12.00 MiB in 13.0 s\n\
            sending: 0 entries, 0 B in 2.0 s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_totals_there_is_no_time_left_and_the_bar_stands_still() {
        let start = start();
        let status =
            ProgressStatus { phase: "reading".to_owned(), entries_done: 7, bytes_done: 8, ..Default::default() };
        let phase = Phase { began: start, first: ProgressStatus::default(), latest: status };
        assert_eq!(phase.text(start + Duration::from_secs(2)), "reading: 7 entries, 8 B, 4 B/s");
        assert_eq!(phase.steps(), 0);
    }

    #[test]
    fn the_bar_is_as_full_as_what_is_less_done() {
        let phase = |latest| Phase { began: start(), first: ProgressStatus::default(), latest };
        assert_eq!(phase(snapshot("", 1000, 10 << 20)).steps(), 100);
        assert_eq!(phase(snapshot("", 20, 100 << 20)).steps(), 10);
        assert_eq!(phase(snapshot("", 9999, u64::MAX)).steps(), STEPS);
    }
}
