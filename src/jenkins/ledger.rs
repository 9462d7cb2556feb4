//! The ledger: what the load has done, as each writer enters it once it is done. A copy of it is an instant of the load, without a clock: what
//! it says was on disk when the copy was made.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was done with a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobFacts {
    /// Its number, in `config.xml`; its directory's name changes.
    pub id: u32,
    /// Its `nextBuildNumber`.
    pub next: u64,
    /// The highest number of a build that has finished.
    pub finished: u64,
    /// How often its configuration was edited.
    pub edits: u64,
    /// The length of the log of the build that runs.
    pub log: u64,
}

/// What was done with the instruments of a writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstrumentFacts {
    /// Whose they are.
    pub writer: u32,
    /// What the counters say.
    pub count: u64,
    /// The version of the notes.
    pub notes: u64,
}

/// What was done until an instant.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Of each job.
    pub jobs: Vec<JobFacts>,
    /// Of each writer.
    pub instruments: Vec<InstrumentFacts>,
    /// How many steps were made.
    pub steps: u64,
}

/// The books of all writers, each of which enters into its own.
pub(super) struct Books(Vec<Mutex<Ledger>>);

impl Books {
    pub(super) fn new(writers: u32) -> Self {
        Self((0..writers).map(|_| Mutex::default()).collect())
    }

    /// The book of one writer.
    pub(super) fn of(&self, writer: u32) -> MutexGuard<'_, Ledger> {
        self.0[writer as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All books in one.
    pub(super) fn copy(&self) -> Ledger {
        let mut all = Ledger::default();
        for book in &self.0 {
            let book = book.lock().unwrap_or_else(PoisonError::into_inner).clone();
            all.jobs.extend(book.jobs);
            all.instruments.extend(book.instruments);
            all.steps += book.steps;
        }
        all
    }
}
