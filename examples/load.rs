//! The live load, for a person: makes a home, writes into it as a busy controller does, and judges a copy of it.
//!
//! ```text
//! cargo run --example load -- make /tmp/home --jobs 20 --builds 10
//! cargo run --example load -- run /tmp/home --seconds 60 --writers 8
//! cargo run --example load -- check /tmp/replica
//! ```
//!
//! `check` looks at what stands still: a home when `run` has ended, a replica under `hotspare hold`. It exits with 1 if a rule is broken;
//! `hotspare::jenkins::checks` says what each means, and which of them a copy keeps that is not of one instant (`--fuzzy`).

#![expect(clippy::print_stdout, reason = "a program for a person")]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use hotspare::jenkins::checks::{Promise, check};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::load::{Load, LoadOptions};

#[derive(Parser)]
enum Command {
    /// Makes a home in an empty directory.
    Make {
        home: PathBuf,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = HomeSize::default().jobs)]
        jobs: u32,
        /// Builds of each job.
        #[arg(long, default_value_t = HomeSize::default().builds)]
        builds: u64,
        /// Flow nodes of each pipeline build.
        #[arg(long, default_value_t = HomeSize::default().flow_nodes)]
        flow_nodes: u32,
        #[arg(long, default_value_t = HomeSize::default().plugins)]
        plugins: u32,
        #[arg(long, default_value_t = HomeSize::default().users)]
        users: u32,
        #[arg(long, default_value_t = HomeSize::default().fingerprints)]
        fingerprints: u32,
    },
    /// Writes into a home that was made, as a busy controller does.
    Run {
        home: PathBuf,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        #[arg(long, default_value_t = LoadOptions::default().writers)]
        writers: NonZeroU32,
        /// How many milliseconds each writer rests between two steps, on average.
        #[arg(long, default_value_t = 5)]
        rest: u64,
    },
    /// Judges a home, or a copy of one, that stands still.
    Check {
        copy: PathBuf,
        /// Only by the rules that hold for a copy that is not of one instant.
        #[arg(long)]
        fuzzy: bool,
    },
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Make { home, seed, jobs, builds, flow_nodes, plugins, users, fingerprints } => {
            std::fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
            let mut listing = home.read_dir().with_context(|| format!("cannot list {}", home.display()))?;
            if listing.next().is_some() {
                bail!("{} is not empty: a home is made in an empty directory", home.display());
            }
            make(&home, HomeSize { jobs, builds, flow_nodes, plugins, users, fingerprints }, seed)?;
        }
        Command::Run { home, seed, seconds, writers, rest } => {
            let load = Load::start(&home, LoadOptions { writers, rest: Duration::from_millis(rest), seed })?;
            for _ in 0..seconds.saturating_mul(10) {
                std::thread::sleep(Duration::from_millis(100));
                if load.has_failed() {
                    break;
                }
            }
            let done = load.stop()?;
            let builds: u64 = done.jobs.iter().map(|job| job.finished).sum();
            println!("{} steps; {builds} builds of {} jobs have ended", done.steps, done.jobs.len());
        }
        Command::Check { copy, fuzzy } => {
            if !copy.join("jobs").is_dir() {
                bail!("{} has no jobs: it is no copy of a home", copy.display());
            }
            let found = check(&copy, if fuzzy { Promise::Whole } else { Promise::Instant });
            for violation in &found {
                println!("{violation}");
            }
            if !found.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            println!("every rule holds");
        }
    }
    Ok(ExitCode::SUCCESS)
}
