//! One writer: its jobs and its instruments, in turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::instruments::Instruments;
use super::job::Job;
use super::{LoadError, LoadOptions};
use crate::jenkins::ledger::Books;
use crate::jenkins::pen::Pen;
use crate::thought::dice::Dice;

/// A writer between two steps.
pub(in crate::jenkins) struct Writer {
    home: PathBuf,
    number: u32,
    rest: Duration,
    dice: Dice,
    jobs: Vec<Job>,
    instruments: Instruments,
    steps: u64,
}

impl Writer {
    /// Takes over the jobs that are this writer's, and its instruments.
    pub(in crate::jenkins) fn open(home: &Path, number: u32, options: LoadOptions) -> Result<Self, LoadError> {
        let mut silent = || {};
        let mut pen = Pen::new(home, true, &mut silent);
        let at = home.join("jobs");
        let list = |source| LoadError::List { path: at.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).map_err(list)? {
            names.extend(entry.map_err(list)?.file_name().into_string());
        }
        names.sort_unstable();
        let writers = options.writers.get() as usize;
        let mine = names.into_iter().skip(number as usize).step_by(writers);
        let jobs = mine.map(|name| Job::open(home, name, &mut pen)).collect::<Result<_, _>>()?;
        let instruments = Instruments::open(home, number, &mut pen)?;
        let dice = Dice::new(options.seed ^ (u64::from(number) << 32));
        Ok(Self { home: home.to_owned(), number, rest: options.rest, dice, jobs, instruments, steps: 0 })
    }

    /// One more step; `beat` is heard after each of its system calls.
    pub(in crate::jenkins) fn step(&mut self, beat: &mut dyn FnMut()) -> Result<(), LoadError> {
        let mut pen = Pen::new(&self.home, true, beat);
        let which = self.dice.below(self.jobs.len() as u64);
        match usize::try_from(which).ok().and_then(|which| self.jobs.get_mut(which)) {
            Some(job) if self.dice.below(5) > 0 => job.step(&mut pen, &mut self.dice)?,
            _ => self.instruments.step(&mut pen, &mut self.dice)?,
        }
        self.steps += 1;
        Ok(())
    }

    /// Enters what is done into the writer's book.
    pub(in crate::jenkins) fn enter(&self, books: &Books) {
        let mut book = books.of(self.number);
        book.jobs = self.jobs.iter().map(Job::facts).collect();
        book.instruments = vec![self.instruments.facts()];
        book.steps = self.steps;
    }

    /// How long to rest: twice the average at most.
    pub(in crate::jenkins) fn rest(&mut self) -> Duration {
        let most = u64::try_from(self.rest.as_micros()).unwrap_or(u64::MAX).saturating_mul(2);
        Duration::from_micros(self.dice.below(most))
    }
}
