//! What a cut leaves for later: large files, read beside the cuts and sent ahead, or taken piece by piece.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::Shared;
use super::work::{Keeper, instant};
use crate::capture::{CaptureError, Cut, read_large};
use crate::daemon::explain;
use crate::fs::Root;

impl Keeper {
    /// Takes note of what a cut left.
    pub(super) fn note_later(&mut self, cut: &Cut) {
        self.shared.larges.keep(&cut.later);
        self.shared.larges.doubt(&cut.captures, instant());
        self.later.clone_from(&cut.later);
        // What was taken in part goes on at once; what is sent ahead waits until it is there.
        if cut.later.iter().any(|path| cut.captures.contains_key(path)) {
            self.timer.touched(instant());
        }
    }
}

/// The thread that reads large files.
pub(super) struct Reader {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn start(home: &Path, secret: [u8; 32], shared: &Arc<Shared>) -> io::Result<Self> {
        let (home, of_thread) = (home.to_owned(), Arc::clone(shared));
        let read = move || read_all(&home, &secret, &of_thread);
        let thread = std::thread::Builder::new().name("large".into()).spawn(read)?;
        Ok(Self { thread, shared: Arc::clone(shared) })
    }

    /// Ends it, when what it is reading is read.
    pub(super) fn end(self) {
        self.shared.larges.end();
        if self.thread.join().is_err() {
            tracing::error!("the thread that reads large files failed");
        }
    }
}

fn read_all(home: &Path, secret: &[u8; 32], shared: &Shared) {
    while let Some(unread) = shared.larges.next_to_read(&instant) {
        let read = Root::open(home).map_err(CaptureError::File).and_then(|root| read_large(&root, &unread, secret));
        if let Err(error) = &read {
            // The next cut meets it again, and says what is to be said.
            tracing::debug!(path = %unread.path, error = explain(error), "a large file cannot be read");
        }
        shared.larges.was_read(&unread, read);
        shared.wake();
        shared.wake_sessions();
    }
}
