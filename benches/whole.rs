//! The whole program against rsync, side by side on the same trees.
//!
//! rsync syncs nothing: a power cut after it may leave empty files. hotspare's copy is on stable storage when it says so, hence the third
//! contestant, rsync followed by a sync of the file system. Both ends are on one machine and one disk; rsync has no network in between,
//! hotspare its encrypted link over loopback.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ground::{Contestant, Ground, large_file, small_files, text, timed};
use anyhow::{Result, bail, ensure};
use hotspare::thought::dice::Dice;

const MIB: u64 = 1 << 20;
/// After this long what was to become equal will not.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn measure(ground: &Ground) -> Result<()> {
    first_copies(ground)?;
    second_runs(ground)?;
    live_lag(ground)?;
    large_changes(ground)
}

/// A run of a program that must end well.
fn run(command: &mut Command) -> Result<()> {
    let ended = command.stdin(Stdio::null()).output()?;
    ensure!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}

fn mirror(source: &Path, destination: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
    command.args(["mirror", "-q", "--preset", "none"]);
    command.arg(source).arg(destination);
    command
}

fn hotspare(source: &Path, destination: &Path) -> Result<()> {
    run(mirror(source, destination).arg("--once"))
}

fn rsync(source: &Path, destination: &Path) -> Result<()> {
    run(Command::new("rsync").args(["-a", "--exclude=/.hotspare"]).arg(source.join("")).arg(destination))
}

fn rsync_and_sync(source: &Path, destination: &Path) -> Result<()> {
    rsync(source, destination)?;
    run(Command::new("sync").arg("-f").arg(destination))
}

/// Copies the first to the second.
type Copy = fn(&Path, &Path) -> Result<()>;
/// Makes a tree in a directory.
type Make = fn(&Path) -> Result<()>;
/// Changes some of the files of a tree.
type Change = fn(&Path, &[PathBuf]) -> Result<()>;
/// Changes a file; another number, another change.
type ChangeFile = fn(&Path, u64) -> Result<()>;

const COPIES: [(&str, Copy); 3] =
    [("hotspare mirror --once", hotspare), ("rsync -a", rsync), ("rsync -a, then sync -f", rsync_and_sync)];

/// Nobody pays for what another left in the page cache.
fn settle(directory: &Path) -> Result<()> {
    run(Command::new("sync").arg("-f").arg(directory))
}

fn first_copies(ground: &Ground) -> Result<()> {
    let cases: [(&str, Make); 2] = [
        ("first copy of 10 000 small files", |root| small_files(root, 10_000).map(drop)),
        ("first copy of 2 large files of 256 MiB", |root| {
            (0..2).try_for_each(|number| large_file(&root.join(format!("large-{number}")), 256 * MIB, number))
        }),
    ];
    for (name, make) in cases.into_iter().filter(|(name, _)| ground.wants(name)) {
        let source = ground.fresh("source")?;
        make(&source)?;
        let contestants = COPIES.into_iter().map(|(who, copy)| -> Contestant<'_> {
            let source = &source;
            let run = move || {
                let destination = ground.fresh("destination")?;
                // Each is new to the source: what an earlier run knew of it would be an advantage.
                fs::remove_dir_all(source.join(".hotspare")).or_else(absent)?;
                settle(source)?;
                timed(|| copy(source, &destination))
            };
            (who, Box::new(run))
        });
        ground.measure(name, contestants.collect())?;
    }
    Ok(())
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn second_runs(ground: &Ground) -> Result<()> {
    let cases: [(&str, Change); 2] = [
        ("second run on 10 000 small files, nothing changed", |_, _| Ok(())),
        ("second run on 10 000 small files, 100 rewritten", |source, paths| {
            let mut dice = Dice::new(u64::from(std::process::id()));
            for path in paths.iter().step_by(100) {
                let content = text(&mut dice, 4000);
                fs::write(source.join(path), content)?;
            }
            Ok(())
        }),
    ];
    for (name, change) in cases.into_iter().filter(|(name, _)| ground.wants(name)) {
        let source = ground.fresh("source")?;
        let paths = small_files(&source, 10_000)?;
        let mut contestants: Vec<Contestant<'_>> = Vec::new();
        for (who, copy) in COPIES {
            let destination = ground.fresh("destination")?;
            copy(&source, &destination)?;
            let (source, paths) = (&source, &paths);
            contestants.push((
                who,
                Box::new(move || {
                    change(source, paths)?;
                    settle(source)?;
                    timed(|| copy(source, &destination))
                }),
            ));
        }
        ground.measure(name, contestants)?;
    }
    Ok(())
}

/// A live mirror, ended when it goes.
struct Live(Child);

impl Live {
    fn start(source: &Path, destination: &Path) -> Result<Self> {
        Ok(Self(mirror(source, destination).stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // An orderly end: its temporary files go with it.
        let ended = Command::new("kill").arg(self.0.id().to_string()).status().and_then(|_| self.0.wait());
        drop(ended);
    }
}

/// Waits until `is_so`, looking often.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            bail!("{what} did not come to be within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Waits until the copy of `name` is as old and as long as its source.
fn wait_for_copy(source: &Path, destination: &Path, name: &str) -> Result<()> {
    let facts = |root: &Path| fs::metadata(root.join(name)).and_then(|facts| Ok((facts.len(), facts.modified()?))).ok();
    wait_until("the copy", || facts(source).is_some_and(|wanted| facts(destination) == Some(wanted)))
}

/// Writes a small file `times` times and tells the median time until its copy is there.
fn lag(source: &Path, destination: &Path, times: u32) -> Result<Duration> {
    let mut lags = Vec::new();
    for number in 0..times {
        // Not in step with anything that happens at regular times.
        std::thread::sleep(Duration::from_millis(150 + u64::from(number * 37 % 100)));
        lags.push(timed(|| {
            fs::write(source.join("nextBuildNumber"), format!("{number}\n"))?;
            wait_for_copy(source, destination, "nextBuildNumber")
        })?);
    }
    lags.sort_unstable();
    Ok(lags[lags.len() / 2])
}

fn live_lag(ground: &Ground) -> Result<()> {
    let name = "live lag of a small change beside 2 000 small files";
    if !ground.wants(name) {
        return Ok(());
    }
    let (source, destination) = (ground.fresh("source")?, ground.fresh("destination")?);
    small_files(&source, 2000)?;
    fs::write(source.join("nextBuildNumber"), "0\n")?;
    let _live = Live::start(&source, &destination)?;
    wait_for_copy(&source, &destination, "nextBuildNumber")?;
    let idle = || lag(&source, &destination, 9);
    let logging = || {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let mut log = fs::File::options().append(true).create(true).open(source.join("log"))?;
                let line = [b'x'; 200];
                while !over.load(Ordering::Relaxed) {
                    log.write_all(&line)?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            });
            let lag = lag(&source, &destination, 9);
            over.store(true, Ordering::Relaxed);
            match writer.join() {
                Ok(written) => written.and(lag),
                Err(_) => bail!("the log's writer panicked"),
            }
        })
    };
    let beside = ground.fresh("rsync")?;
    rsync(&source, &beside)?;
    let alone = || timed(|| rsync(&source, &beside));
    let contestants: Vec<Contestant<'_>> = vec![
        ("idle", Box::new(idle)),
        ("beside a log that grows by 100 KB/s", Box::new(logging)),
        ("one run of rsync -a, to compare", Box::new(alone)),
    ];
    ground.measure(name, contestants)
}

fn large_changes(ground: &Ground) -> Result<()> {
    let cases: [(&str, u64, ChangeFile); 3] = [
        ("rewrite of a 100 MiB file, 1 % changed", 100 * MIB, |path, seed| rewrite(path, 100 * MIB, seed)),
        ("replacement of a 100 MiB file by another", 100 * MIB, |path, seed| large_file(path, 100 * MIB, seed)),
        ("append of 1 MiB to a 1 GiB file", 1024 * MIB, |path, seed| {
            let tail = Dice::new(seed).noise(usize::try_from(MIB)?);
            Ok(fs::File::options().append(true).open(path)?.write_all(&tail)?)
        }),
    ];
    for (name, length, change) in cases.into_iter().filter(|(name, _, _)| ground.wants(name)) {
        let (source, destination) = (ground.fresh("source")?, ground.fresh("destination")?);
        let beside = ground.fresh("rsync")?;
        large_file(&source.join("large"), length, 1)?;
        rsync_and_sync(&source, &beside)?;
        let _live = Live::start(&source, &destination)?;
        wait_for_copy(&source, &destination, "large")?;
        let mut seed = 1;
        let mut changed = || {
            seed += 1;
            change(&source.join("large"), seed)
        };
        // The live copy follows at once; its time runs from the end of the change. rsync is run on the same change, after it.
        let live = || {
            std::thread::sleep(Duration::from_secs(1));
            changed()?;
            timed(|| wait_for_copy(&source, &destination, "large"))
        };
        let contestants: Vec<Contestant<'_>> =
            vec![("hotspare, live", Box::new(live)), ("rsync -a", Box::new(|| timed(|| rsync(&source, &beside))))];
        ground.measure(name, contestants)?;
    }
    Ok(())
}

/// Writes the file anew, as it was but for every hundredth piece.
fn rewrite(path: &Path, length: u64, seed: u64) -> Result<()> {
    const PIECE: usize = 64 * 1024;
    let mut content = fs::read(path)?;
    ensure!(content.len() as u64 == length, "the file is not as long as it was");
    let mut dice = Dice::new(seed);
    for piece in content.chunks_mut(PIECE).step_by(100) {
        piece.copy_from_slice(&dice.noise(piece.len()));
    }
    Ok(fs::write(path, content)?)
}
