//! The live load: writers that do to a home what a busy controller does, and what tells one instant from two, until they are told to stop.
//!
//! Jobs are dealt out among the writers, so that each file has one writer, as in Jenkins; the builds of all jobs run at once. What is written
//! follows from the seed, and from how the writers take turns. A load goes on with a home that a generator made, or that a stopped load left.

mod instruments;
mod job;
mod writer;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ledger::{Books, Ledger};
use super::pen::PenError;
pub(super) use writer::Writer;

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// How many threads write.
    pub writers: NonZeroU32,
    /// How long each rests between two steps, on average. A step is one small write, or one thing that Jenkins does without a rest: a save, the end
    /// of a build.
    pub rest: Duration,
    /// What the writers' choices follow from.
    pub seed: u64,
}

impl Default for LoadOptions {
    /// Four writers with 200 steps a second each, at most.
    fn default() -> Self {
        Self { writers: NonZeroU32::MIN.saturating_add(3), rest: Duration::from_millis(5), seed: 1 }
    }
}

/// Why a load could not go on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A call failed.
    #[error(transparent)]
    Pen(#[from] PenError),
    /// The home is none that a generator made, or that a stopped load left.
    #[error("{what}: {}", path.display())]
    Strange {
        /// What is not as it should be.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The jobs cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A writer panicked.
    #[error("a writer of the load panicked")]
    Panicked,
}

/// A load under way; it stops when it is let go.
pub struct Load {
    is_over: Arc<AtomicBool>,
    books: Arc<Books>,
    writers: Vec<JoinHandle<Result<(), LoadError>>>,
}

impl Load {
    /// Starts to write into `home`.
    pub fn start(home: &Path, options: LoadOptions) -> Result<Self, LoadError> {
        let count = options.writers.get();
        let books = Arc::new(Books::new(count));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut load = Self { is_over: Arc::clone(&is_over), books: Arc::clone(&books), writers: Vec::new() };
        // All take over their jobs before the first writes: a job that is renamed would be missed.
        let writers: Vec<Writer> =
            (0..count).map(|number| Writer::open(home, number, options)).collect::<Result<_, _>>()?;
        for writer in &writers {
            writer.enter(&books);
        }
        for mut writer in writers {
            let (is_over, books) = (Arc::clone(&is_over), Arc::clone(&books));
            load.writers.push(std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    writer.step(&mut || {})?;
                    writer.enter(&books);
                    std::thread::sleep(writer.rest());
                }
                Ok(())
            }));
        }
        Ok(load)
    }

    /// What is done by now.
    pub fn ledger(&self) -> Ledger {
        self.books.copy()
    }

    /// True if a writer has ended by itself: it failed.
    pub fn has_failed(&self) -> bool {
        self.writers.iter().any(JoinHandle::is_finished)
    }

    /// Stops, each writer at the end of its step, and says what was done.
    pub fn stop(mut self) -> Result<Ledger, LoadError> {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.join().map_err(|_| LoadError::Panicked)??;
        }
        Ok(self.books.copy())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            // Whoever wants to know how it went asks it to stop.
            writer.join().map(drop).unwrap_or_default();
        }
    }
}
