//! A pass: many operations in few directories, one after the other.
//!
//! To resolve a path costs two calls (`openat2`, `close`) beside the one that does something. While a [`Pass`] lasts, its root keeps open the
//! few directories it was in last.
//!
//! **Invariant (G8):** from a kept directory one name is reached, by a call that does not follow it, exactly as from one just opened. A link
//! that takes a directory's place in the meantime is never gone through.
//!
//! **What it costs:** if somebody else moves a directory while a pass is in it, up to [`USES`] operations go on in that directory, wherever it
//! is then. What this root itself moves or removes is let go of at once. So a pass is for one run through a tree, not for a program's life.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::root::Root;
use crate::words::path::RelPath;

/// How many directories are kept: where things come from and where they go, and one more of each.
const KEPT: usize = 4;
/// After so many uses a directory is looked up again.
pub(super) const USES: u32 = 64;

/// As long as it lives, its root keeps directories open.
#[derive(Debug)]
#[must_use = "the pass ends when this goes"]
pub struct Pass(Arc<Mutex<Recent>>);

/// The directories a root was in last; none while there is no pass.
#[derive(Debug, Default)]
pub(super) struct Recent {
    passes: usize,
    /// The newest last.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: Box<[u8]>,
    directory: Arc<OwnedFd>,
    uses: u32,
}

impl Root {
    /// Begins a pass. Several may overlap.
    pub fn pass(&self) -> Pass {
        lock(&self.recent).passes += 1;
        Pass(Arc::clone(&self.recent))
    }

    /// The directory `path`, if a pass was in it lately.
    pub(super) fn recent(&self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        let mut recent = lock(&self.recent);
        let at = recent.kept.iter().position(|kept| *kept.path == *path)?;
        let mut kept = recent.kept.remove(at);
        kept.uses += 1;
        let directory = Arc::clone(&kept.directory);
        if kept.uses < USES {
            recent.kept.push(kept);
        }
        Some(directory)
    }

    /// Keeps `directory`, just opened at `path`, if there is a pass.
    pub(super) fn keep(&self, path: &[u8], directory: OwnedFd) -> Arc<OwnedFd> {
        let directory = Arc::new(directory);
        let mut recent = lock(&self.recent);
        if recent.passes > 0 {
            if recent.kept.len() >= KEPT {
                recent.kept.remove(0);
            }
            recent.kept.push(Kept { path: path.into(), directory: Arc::clone(&directory), uses: 1 });
        }
        directory
    }

    /// Lets go of `path` and what is below it: it is about to be moved or removed.
    pub(super) fn let_go(&self, path: &RelPath) {
        let is_within = |kept: &Kept| {
            let rest = kept.path.strip_prefix(path.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&next| next == b'/'))
        };
        lock(&self.recent).kept.retain(|kept| !is_within(kept));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut recent = lock(&self.0);
        recent.passes -= 1;
        if recent.passes == 0 {
            recent.kept.clear();
        }
    }
}

fn lock(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}
