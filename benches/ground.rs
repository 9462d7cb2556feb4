//! What all cases stand on: rounds and medians, and trees to measure on.
//!
//! Contestants of one case take turns within each round, so that what else the machine does meets all of them alike; what is told is the
//! median of the rounds with the span around it, and how many times the first contestant's median the others took.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hotspare::thought::dice::Dice;
use tempfile::TempDir;

/// One who is measured: does what must be done before, and tells how long the thing itself took.
pub(crate) type Contestant<'a> = (&'static str, Box<dyn FnMut() -> Result<Duration> + 'a>);
/// What was measured, and how long it took.
pub(crate) type Timed = (&'static str, Duration);

/// How often, which cases, and where.
pub(crate) struct Ground {
    rounds: usize,
    wanted: Option<String>,
    directory: TempDir,
    /// How many directories were made.
    made: Cell<u32>,
}

impl Ground {
    /// `None` unless `cargo bench` runs this: whatever else builds and runs all targets gets no timings.
    ///
    /// A word on the command line picks the cases whose name contains it. `HOTSPARE_BENCH_ROUNDS` (3) and `HOTSPARE_BENCH_DIR` (the
    /// system's directory for temporary files) say the rest.
    pub(crate) fn find() -> Result<Option<Self>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if !arguments.iter().any(|argument| argument == "--bench") {
            return Ok(None);
        }
        let rounds = match std::env::var("HOTSPARE_BENCH_ROUNDS") {
            Ok(text) => text.parse().context("HOTSPARE_BENCH_ROUNDS is no number")?,
            Err(_) => 3,
        };
        let place = std::env::var_os("HOTSPARE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = tempfile::Builder::new().prefix("hotspare-bench-").tempdir_in(place)?;
        let wanted = arguments.into_iter().find(|argument| !argument.starts_with('-'));
        Ok(Some(Self { rounds: usize::max(rounds, 1), wanted, directory, made: Cell::new(0) }))
    }

    /// A new empty directory. Nothing is removed before the end: ext4 is slow to use inodes again that were freed in the last minutes, so
    /// whoever came second would pay for the first.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let number = self.made.get();
        self.made.set(number + 1);
        let path = self.directory.path().join(format!("{name}-{number}"));
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// True if the case `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str()))
    }

    /// Measures the contestants against each other and prints what came out.
    pub(crate) fn measure(&self, name: &str, mut contestants: Vec<Contestant<'_>>) -> Result<()> {
        self.measure_parts(name, || {
            let run = |(who, run): &mut Contestant<'_>| Ok((*who, run().with_context(|| format!("{name}: {who}"))?));
            contestants.iter_mut().map(run).collect()
        })
    }

    /// Measures the parts of one work, of which `round` tells how long each took, and prints what came out.
    pub(crate) fn measure_parts(&self, name: &str, mut round: impl FnMut() -> Result<Vec<Timed>>) -> Result<()> {
        let mut parts: Vec<(&str, Vec<Duration>)> = Vec::new();
        for _ in 0..self.rounds {
            for (index, (part, time)) in round()?.into_iter().enumerate() {
                match parts.get_mut(index) {
                    Some((_, times)) => times.push(time),
                    None => parts.push((part, vec![time])),
                }
            }
        }
        let mut text = format!("{name}\n");
        let mut first = None;
        for (part, mut times) in parts {
            times.sort_unstable();
            let [low, median, high] = [0, times.len() / 2, times.len() - 1].map(|at| times[at].as_secs_f64());
            let base: f64 = *first.get_or_insert(median);
            let [low, told, high] = [low, median, high].map(seconds);
            writeln!(text, "  {part:<38} {told} ({low} to {high}) {:>6.2} x", median / base)?;
        }
        println!("{text}");
        Ok(())
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:>7.1} ms", seconds * 1e3) } else { format!("{seconds:>7.2} s ") }
}

/// How long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// Makes `count` files of 100 bytes to 8 KB, six to a directory and four levels deep, as builds in a home lie; their paths below `root`.
pub(crate) fn small_files(root: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let mut dice = Dice::new(1);
    let mut paths = Vec::with_capacity(count);
    for number in 0..count {
        let directory = number / 6;
        let path = PathBuf::from(format!("jobs/{}/builds/{directory}/file-{number}.xml", directory % 97));
        let at = root.join(&path);
        if number % 6 == 0
            && let Some(parent) = at.parent()
        {
            fs::create_dir_all(parent)?;
        }
        let length = 100 + usize::try_from(dice.roll() % 8000)?;
        fs::write(at, text(&mut dice, length))?;
        paths.push(path);
    }
    Ok(paths)
}

/// What compresses about as a log or XML does.
pub(crate) fn text(dice: &mut Dice, length: usize) -> Vec<u8> {
    let mut text = String::with_capacity(length + 80);
    while text.len() < length {
        text += "  <build number=\"";
        text += &dice.roll().to_string();
        text += "\"><result>SUCCESS</result></build>\n";
    }
    text.truncate(length);
    text.into_bytes()
}

/// Makes a file of `length` bytes that do not compress.
pub(crate) fn large_file(path: &Path, length: u64, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut file = fs::File::create(path)?;
    let mut left = length;
    while left > 0 {
        let piece = dice.noise(usize::try_from(left.min(1 << 20))?);
        file.write_all(&piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}
