//! Both sources behind one face.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Limit;
use super::{Barrier, Barriers, Change, EventSource, InotifySource, Mailbox, NotifySource, SourceId, WatchError};
use crate::fs::{Look, Root};
use crate::words::entry::InodeId;
use crate::words::path::RelPath;

/// The longest absolute path that the kernel takes, in bytes without the NUL (`PATH_MAX` is 4096 with it).
const ABSOLUTE_PATH_MAX: usize = 4095;
const NOTIFY: SourceId = SourceId(0);
const INOTIFY: SourceId = SourceId(1);

/// What watches directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The `notify` crate; raw inotify only for what it cannot do.
    #[default]
    Notify,
    /// Raw inotify for everything.
    Inotify,
}

/// How to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many changes may wait in the mailbox. Each takes some 60 bytes and its path.
    pub mailbox_capacity: usize,
    /// What watches directories.
    pub backend: Backend,
    /// How many watches are placed at most, so that others of the same user find some, too; `None`: as many as the kernel gives.
    pub max_watches: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { mailbox_capacity: 65_536, backend: Backend::default(), max_watches: None }
    }
}

/// What a walker asks of whoever watches its home; each call as the one of [`Watcher`] with its name. It is a trait so that a test can say when
/// what is told.
pub trait Watch {
    /// The home.
    type Home: Look;

    /// How many sources answer each barrier.
    fn sources(&self) -> usize;
    /// Raises a barrier.
    fn raise_barrier(&mut self) -> Result<Barrier, WatchError>;
    /// Waits for changes, `timeout` at most, and takes all that wait.
    fn drain(&mut self, timeout: Duration) -> Vec<Change>;
    /// Watches one directory, not what is below.
    fn watch_directory(&mut self, path: &RelPath, directory: &Self::Home) -> Result<(), WatchError>;
    /// Removes the watches of a directory and of all below it.
    fn unwatch_directory(&mut self, path: &RelPath);
    /// Watches the inode `id`, which is at `path` of `home`.
    fn watch_inode(&mut self, home: &Self::Home, path: &RelPath, id: InodeId) -> Result<(), WatchError>;
    /// Removes the watch of an inode.
    fn unwatch_inode(&mut self, id: InodeId);
    /// How many directories and inodes are watched.
    fn watches(&self) -> usize;
    /// Begins anew with one source.
    fn restart(&mut self, source: SourceId) -> Result<(), WatchError>;
}

/// Watches one home. Dropping it ends its threads.
pub struct Watcher {
    home: PathBuf,
    mailbox: Arc<Mailbox>,
    barriers: Barriers,
    notify: Option<NotifySource>,
    inotify: InotifySource,
    max_watches: Option<usize>,
}

impl Watcher {
    /// Begins to watch `home`: the barrier directory for now, and nothing else.
    pub fn open(home: &Path, options: Options) -> Result<Self, WatchError> {
        let home = home.canonicalize().map_err(|error| WatchError::placing(&RelPath::root(), error))?;
        let mailbox = Arc::new(Mailbox::new(options.mailbox_capacity));
        let barriers = Barriers::open(&home, Arc::clone(&mailbox))?;
        let inotify = InotifySource::open(&home, mailbox.feed(INOTIFY))?;
        let notify = match options.backend {
            Backend::Notify => Some(NotifySource::open(&home, mailbox.feed(NOTIFY))?),
            Backend::Inotify => None,
        };
        Ok(Self { home, mailbox, barriers, notify, inotify, max_watches: options.max_watches })
    }

    /// Where the changes are.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// How many sources answer each barrier.
    pub fn sources(&self) -> usize {
        1 + usize::from(self.notify.is_some())
    }

    /// Raises a barrier; every source answers it with a `Barrier` change.
    pub fn raise_barrier(&mut self) -> Result<Barrier, WatchError> {
        self.barriers.raise()
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        self.inotify.is_watched(path) || self.notify.as_ref().is_some_and(|notify| notify.is_watched(path))
    }

    fn within_budget(&self, is_known: bool) -> Result<(), WatchError> {
        match self.max_watches {
            Some(max) if !is_known && self.watches() >= max => Err(WatchError::LimitReached(Limit::spent(max))),
            _ => Ok(()),
        }
    }

    /// Watches one directory, not what is below. When this returns the kernel watch exists: scan now. With `directory`, an open
    /// descriptor of it, length does not matter; without, a path too long for the kernel is [`WatchError::TooLong`].
    pub fn watch_directory(&mut self, path: &RelPath, directory: Option<BorrowedFd<'_>>) -> Result<(), WatchError> {
        self.within_budget(self.is_watched(path))?;
        let length = self.home.as_os_str().as_bytes().len() + 1 + path.as_bytes().len();
        match &mut self.notify {
            Some(notify) if length <= ABSOLUTE_PATH_MAX => notify.watch_directory(path, directory),
            _ => self.inotify.watch_directory(path, directory),
        }
    }

    /// Removes the watches of a directory and of all below it. What is not watched is no error.
    pub fn unwatch_directory(&mut self, path: &RelPath) {
        if let Some(notify) = &mut self.notify {
            notify.unwatch_directory(path);
        }
        self.inotify.unwatch_directory(path);
    }

    /// Watches one inode, given open (`O_PATH` will do): a file with more links than known names.
    pub fn watch_inode(&mut self, inode: InodeId, file: BorrowedFd<'_>) -> Result<(), WatchError> {
        self.within_budget(false)?;
        self.inotify.watch_inode(inode, file)
    }

    /// Removes the watch of an inode. What is not watched is no error.
    pub fn unwatch_inode(&mut self, inode: InodeId) {
        self.inotify.unwatch_inode(inode);
    }

    /// How many directories and inodes are watched.
    pub fn watches(&self) -> usize {
        self.inotify.watches() + self.notify.as_ref().map_or(0, EventSource::watches)
    }

    /// Begins anew with one source, after its `Overflow`: all its watches are gone (with raw inotify, the inodes' too), and barriers
    /// raised before are not answered by it any more.
    pub fn restart(&mut self, source: SourceId) -> Result<(), WatchError> {
        self.barriers = Barriers::open(&self.home, Arc::clone(&self.mailbox))?;
        match &mut self.notify {
            Some(notify) if notify.id() == source => notify.restart(),
            _ => self.inotify.restart(),
        }
    }
}

impl Watch for Watcher {
    type Home = Root;

    fn sources(&self) -> usize {
        Self::sources(self)
    }

    fn raise_barrier(&mut self) -> Result<Barrier, WatchError> {
        Self::raise_barrier(self)
    }

    fn drain(&mut self, timeout: Duration) -> Vec<Change> {
        self.mailbox.drain(timeout)
    }

    fn watch_directory(&mut self, path: &RelPath, directory: &Root) -> Result<(), WatchError> {
        Self::watch_directory(self, path, Some(directory.as_fd()))
    }

    fn unwatch_directory(&mut self, path: &RelPath) {
        Self::unwatch_directory(self, path);
    }

    fn watch_inode(&mut self, home: &Root, path: &RelPath, id: InodeId) -> Result<(), WatchError> {
        let gone = || WatchError::Gone { path: path.clone() };
        let (file, stat) = home.open_path(path).map_err(|_| gone())?;
        if stat.inode.id != id {
            return Err(gone());
        }
        Self::watch_inode(self, id, file.as_fd())
    }

    fn unwatch_inode(&mut self, id: InodeId) {
        Self::unwatch_inode(self, id);
    }

    fn watches(&self) -> usize {
        Self::watches(self)
    }

    fn restart(&mut self, source: SourceId) -> Result<(), WatchError> {
        Self::restart(self, source)
    }
}
