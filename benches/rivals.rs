//! Under fire: the live load on a home, and what its copy shows at random instants, for hotspare and for what it replaces.
//!
//! Each contestant copies a home of its own, the same by seed, under the same load. First stamps are written, and each waited for: the lag. Then
//! the copy is made to stand still at random instants and judged by `jenkins::checks`, all rules of them. Then the load stops, and what was
//! copied is compared with the home until they are equal.
//!
//! **Standing still.** All processes of a rival are stopped by SIGSTOP: its copy is judged as it lies on disk at that instant, as a failover would find
//! it, and no copying of the copy takes time in which more could change. hotspare's replica is judged under `hotspare hold`, which waits for
//! the reveal that is under way: that is the replica which hotspare promises, and after a crash its recovery comes to the same; a rival
//! knows no such moment.
//!
//! hotspare claims to be of one instant only for generations that it calls consistent: it is held to that, and one that breaks a rule fails the
//! bench. At how many instants it claimed nothing, and how many of those broke a rule, is told apart. A rival claims nothing at any instant; it is
//! judged at all.
//!
//! Rivals are told to leave out the temporaries that hotspare leaves out. One that is not installed is named as skipped.
//!
//! `HOTSPARE_LOAD_WRITERS` (4), `HOTSPARE_LOAD_SEED` (1), `HOTSPARE_LOAD_SECONDS` (15) of stamps, `HOTSPARE_LOAD_INSTANTS` (20).

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotspare::jenkins::checks::{Promise, Rule, check};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::load::{Load, LoadOptions};
use hotspare::thought::dice::Dice;

use crate::copiers::{Copier, Program};
use crate::ground::Ground;

/// How long the first copy, and the end, are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stamp is waited for: one that does not come counts for as long.
const STAMP_PATIENCE: Duration = Duration::from_secs(20);

struct Options {
    load: LoadOptions,
    seconds: u64,
    instants: u32,
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is no number that fits")),
        Err(_) => Ok(default),
    }
}

pub(crate) fn measure(ground: &Ground) -> Result<()> {
    let name = "rivals: a copy of a home under a live load";
    if !ground.wants(name) {
        return Ok(());
    }
    let load = LoadOptions {
        writers: number("HOTSPARE_LOAD_WRITERS", LoadOptions::default().writers)?,
        seed: number("HOTSPARE_LOAD_SEED", LoadOptions::default().seed)?,
        ..LoadOptions::default()
    };
    let options = Options {
        load,
        seconds: number("HOTSPARE_LOAD_SECONDS", 15)?,
        instants: number("HOTSPARE_LOAD_INSTANTS", 20)?,
    };
    println!("{name}: {} writers, seed {}", NonZeroU32::get(load.writers), load.seed);
    println!("  {:<22} {:>9} {:>9} {:>9} {:>9}  end", "", "lag p50", "lag max", "steps/s", "broken");
    for program in Program::ALL {
        if let Some(lacks) = program.lacks() {
            println!("  {:<22} skipped: there is no {lacks}", program.name());
            continue;
        }
        let line = contest(ground, program, &options).with_context(|| program.name())?;
        println!("  {:<22} {line}", program.name());
    }
    println!();
    Ok(())
}

fn contest(ground: &Ground, program: Program, options: &Options) -> Result<String> {
    let (home, copy) = (ground.fresh("home")?, ground.fresh("copy")?);
    make(&home, HomeSize::default(), options.load.seed)?;
    fs::create_dir(home.join("userContent/stamps"))?;
    let copier = Copier::start(program, &home, &copy, &ground.fresh("work")?)?;
    // More than one: the loop misses what is written between its first copy and its watches.
    let mut tries = 0..PATIENCE.as_secs() / 2;
    while !arrives(&copy, &stamp(&home, "first")?, Duration::from_secs(2)) {
        ensure!(tries.next().is_some(), "the first copy did not arrive within {PATIENCE:?}");
    }
    let load = Load::start(&home, options.load)?;
    let mut dice = Dice::new(options.load.seed);
    let (begun, mut lags) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        std::thread::sleep(Duration::from_millis(100 + dice.below(400)));
        let written = Instant::now();
        arrives(&copy, &stamp(&home, &lags.len().to_string())?, STAMP_PATIENCE);
        lags.push(written.elapsed());
    }
    let pace = load.ledger().steps as f64 / begun.elapsed().as_secs_f64();
    let (mut broken, mut rules) = (0, BTreeSet::new());
    let (mut unclaimed, mut unclaimed_broken) = (0, 0);
    for _ in 0..options.instants {
        std::thread::sleep(Duration::from_millis(200 + dice.below(1000)));
        let still = copier.stand_still()?;
        let violations = check(&copy, Promise::Instant);
        let is_unclaimed = copier.admits_more()?;
        drop(still);
        if is_unclaimed {
            unclaimed += 1;
            unclaimed_broken += u32::from(!violations.is_empty());
            continue;
        }
        ensure!(
            program != Program::Hotspare || violations.is_empty(),
            "a consistent generation breaks a rule: {violations:?}"
        );
        broken += u32::from(!violations.is_empty());
        rules.extend(violations.iter().map(|found| found.rule));
    }
    load.stop()?;
    let end = end(&home, &copy)?;
    lags.sort_unstable();
    let [median, max] = [lags[lags.len() / 2], lags[lags.len() - 1]].map(|lag| format!("{:.2} s", lag.as_secs_f64()));
    let rules: Vec<&str> = rules.into_iter().map(Rule::word).collect();
    let broken = format!("{broken} of {}", options.instants - unclaimed);
    let told = match program {
        Program::Hotspare => {
            format!("not claimed to be of one instant: {unclaimed} more, of which {unclaimed_broken} broken")
        }
        _ => rules.join(" "),
    };
    Ok(format!("{median:>9} {max:>9} {pace:>9.0} {broken:>9}  {end} {told}"))
}

/// Writes a stamp into the home; its path in there.
fn stamp(home: &Path, name: &str) -> Result<PathBuf> {
    let path = PathBuf::from("userContent/stamps").join(name);
    fs::write(home.join(&path), name)?;
    Ok(path)
}

/// Waits for a stamp in the copy; false if it does not come.
fn arrives(copy: &Path, stamp: &Path, patience: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if fs::metadata(copy.join(stamp)).is_ok_and(|facts| facts.len() > 0) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// How long it takes until the copy is equal, or how far from it the copy still is then.
fn end(home: &Path, copy: &Path) -> Result<String> {
    let begun = Instant::now();
    loop {
        let differing = differing(home, copy)?;
        if differing == 0 {
            return Ok(format!("equal after {:.1} s;", begun.elapsed().as_secs_f64()));
        }
        if begun.elapsed() > PATIENCE {
            return Ok(format!("{differing} paths still differ after {PATIENCE:?};"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How many paths are not the same on both sides, by kind and content.
fn differing(home: &Path, copy: &Path) -> Result<usize> {
    let [home, copy] = [tree(home)?, tree(copy)?];
    let paths = |tree: &BTreeSet<(PathBuf, Option<Vec<u8>>)>| -> BTreeSet<PathBuf> {
        tree.iter().map(|(path, _)| path.clone()).collect()
    };
    let differing: BTreeSet<_> = home.symmetric_difference(&copy).cloned().collect();
    Ok(paths(&differing).len())
}

fn tree(top: &Path) -> Result<BTreeSet<(PathBuf, Option<Vec<u8>>)>> {
    let mut found = BTreeSet::new();
    let mut below = vec![top.to_owned()];
    while let Some(directory) = below.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry?.path();
            let relative = path.strip_prefix(top)?.to_owned();
            // What each of them keeps in there for itself.
            if [".hotspare", ".stfolder", ".stignore"].iter().any(|own| relative.starts_with(own)) {
                continue;
            }
            let content = if path.is_dir() { None } else { Some(fs::read(&path).unwrap_or_default()) };
            below.extend(content.is_none().then_some(path));
            found.insert((relative, content));
        }
    }
    Ok(found)
}
