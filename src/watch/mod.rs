//! Watching: kernel events become [`Change`]s in one [`Mailbox`].
//!
//! This room knows neither the index nor what is dirty. The caller walks the home, asks for a watch on every directory
//! ([`Watcher::watch_directory`]) and *then* scans it: what was made before the watch existed is reported by nobody.
//!
//! **Changes are hints.** A change says which path to look at, and in what order things were seen; it may come twice
//! (a removed directory is reported by its parent and by itself) and may be stale. What is there now is found by looking.
//!
//! **What the caller owes.**
//! 1. After every `Appeared` or `MovedTo` of a directory, and after every `MovedTo` of which it is not known what moved: watch
//!    it and every directory below again, even those believed watched, then scan. The notify backend drops watches by *path*, so a
//!    late `MovedFrom a` takes the watch of a new `a` with it; the `Appeared a` that follows is the only word of that.
//! 2. After every `MovedFrom` or `Vanished` of a directory: [`Watcher::unwatch_directory`] of the old path.
//! 3. After an `Overflow`: [`Watcher::restart`] of that source, watch and scan again all that it watched.
//! 4. Between 1, 2 or 3 and the end of the scan nothing below may be claimed as proven.
//!
//! **Barriers.** Every source watches `<home>/.hotspare/barriers` from its creation on. [`Watcher::raise_barrier`] creates a file
//! there; each source answers with `Barrier`, in order behind all it saw before. When all [`Watcher::sources`] have
//! answered, everything earlier has been delivered. A queue that overflowed in the kernel may have lost the answer itself:
//! after an `Overflow` of a source do not wait for its answer to an earlier barrier; raise a new one.
//!
//! **Invariant:** nothing here blocks an event thread. A full mailbox drops changes and says so once, in place.
//!
//! **Invariant:** nothing below `.hotspare` is ever reported, but for barriers and the loss of the barrier directory itself
//! (`LostWatch`, of which raw inotify learns late): then raising fails, or no barrier is answered any more, until every source
//! was restarted.

mod barrier;
mod error;
mod inotify;
mod mailbox;
mod notify;
mod sight;
#[cfg(test)]
mod tests;
mod watcher;

use std::os::fd::BorrowedFd;

pub use barrier::{Barrier, BarrierName, Barriers};
pub use error::{Limit, WatchError};
pub use inotify::InotifySource;
pub use mailbox::{Feed, Mailbox};
pub use notify::NotifySource;
pub use watcher::{Backend, Options, Watch, Watcher};

use crate::words::entry::{Inode, InodeId};
use crate::words::path::RelPath;

/// Which source a change came from. Order holds among the changes of one source only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub u8);

/// One thing a source saw.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// Who saw it.
    pub source: SourceId,
    /// What it saw.
    pub kind: ChangeKind,
}

/// What a source can see.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ChangeKind {
    /// Content or attributes of one path changed, or a writer closed it.
    Touched {
        /// What changed: a name in a watched directory, or such a directory itself.
        path: RelPath,
        /// True if content was written; false if it was only closed, or attributes were set.
        written: bool,
    },
    /// A name was created: a new inode, or a further link to an old one.
    Appeared {
        /// The new name.
        path: RelPath,
        /// True for a directory.
        directory: bool,
        /// What it led to when it was heard of. `None` if that was too late; a new directory is not looked at.
        seen: Option<Inode>,
    },
    /// A name was removed.
    Vanished {
        /// The name that was.
        path: RelPath,
        /// True for a directory.
        directory: bool,
    },
    /// The old name of a rename. Without a `MovedTo` of the same cookie it left what is watched.
    MovedFrom {
        /// The old name.
        path: RelPath,
        /// The kernel's number of this rename, the same in every source.
        cookie: u32,
        /// Whether it is a directory; `None` when the source is not told (notify).
        directory: Option<bool>,
    },
    /// The new name of a rename. Without a `MovedFrom` of the same cookie it came from outside what is watched.
    MovedTo {
        /// The new name.
        path: RelPath,
        /// The kernel's number of this rename, the same in every source.
        cookie: u32,
        /// Whether it is a directory; `None` when the source is not told (notify).
        directory: Option<bool>,
        /// What it led to when it was heard of, as in `Appeared`.
        seen: Option<Inode>,
    },
    /// A queue was full and changes are lost: everything this source watches is suspect.
    Overflow,
    /// The file system that a watched directory is on was unmounted.
    Unmounted {
        /// The watched directory. Every watched directory of that file system is reported.
        path: RelPath,
    },
    /// A watch on a directory that may still exist went away; for the root also: the home itself was moved.
    LostWatch {
        /// The directory.
        path: RelPath,
    },
    /// An inode that is watched directly changed, whatever name was used.
    InodeTouched {
        /// The inode.
        inode: InodeId,
    },
    /// Everything this source saw before the barrier was raised has been delivered.
    Barrier {
        /// Which barrier.
        name: BarrierName,
    },
}

/// A source of changes: one kernel queue and the thread that reads it.
pub trait EventSource: Send {
    /// The id its changes carry.
    fn id(&self) -> SourceId;

    /// Watches the names in one directory, and the directory itself; not what is below. When it returns the kernel watch
    /// exists. A directory already watched is watched anew, whatever inode the path leads to now. `directory` is an open
    /// descriptor of it, `O_PATH` will do; a source that can watches through it, free of races and of path length.
    fn watch_directory(&mut self, path: &RelPath, directory: Option<BorrowedFd<'_>>) -> Result<(), WatchError>;

    /// Removes the watches of a directory and of all below it. What is not watched is no error.
    fn unwatch_directory(&mut self, path: &RelPath);

    /// True if the directory has a watch, as far as is known.
    fn is_watched(&self, path: &RelPath) -> bool;

    /// How many directories and inodes are watched, the barrier directory not counted.
    fn watches(&self) -> usize;

    /// Forgets every watch and every queued event, and begins anew with the barrier directory alone. For after an overflow: what a
    /// source believes of its watches is then as suspect as what it told.
    fn restart(&mut self) -> Result<(), WatchError>;
}
