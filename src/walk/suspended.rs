//! Parts of the home that are left as they are: a file system was mounted there and is not any more.

use super::{Reach, Walker};
use crate::watch::Watch;
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

impl<W: Watch> Walker<W> {
    /// Leaves what is at and below `path` as the tree has it, whatever is there now, until [`Walker::resume`].
    pub fn suspend(&mut self, path: &RelPath) {
        self.unwatch(path);
        self.forget_pending_within(path);
        self.forget_polled_within(path);
        self.findings.forget_within(path);
        self.suspended.insert(path.clone());
        self.forget_suspended();
    }

    /// Has what is at and below `path` watched and compared again.
    pub fn resume(&mut self, path: &RelPath, now: Timestamp) {
        self.suspended.remove(path);
        self.mark(path, now);
        self.await_scan(path, Reach::Below);
    }

    /// True if what is at `path` is left as it is.
    pub fn is_suspended(&self, path: &RelPath) -> bool {
        self.suspended.iter().any(|suspended| path.is_within(suspended))
    }

    /// Takes what is suspended out of what is dirty: what a cut gives back may be.
    pub fn forget_suspended(&mut self) {
        for path in &self.suspended {
            self.dirty.forget_within(path);
        }
    }
}
