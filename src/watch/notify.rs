//! The `notify` crate as a source: one kernel queue, watches placed directory by directory, by absolute path.
//!
//! What of notify's ways matters here (9.0.0-rc.7):
//! - `watch()` of a path it believes watched returns without asking the kernel, although the path may lead to another inode by
//!   now. So what is known to be watched is unwatched first. Unwatching costs it O(all watches): after an overflow, which makes all
//!   of them suspect, [`restart`](EventSource::restart) instead.
//! - On `MOVED_FROM`, `DELETE` and `DELETE_SELF` it drops its watches of that path and of all below, when it has read the queue
//!   empty. Requests wait until then, so a watch asked for because of a later event is placed after the drop.
//! - A path that is no directory is watched all the same: checked afterwards.
//! - `watch()` is answered by the thread that delivers: the handler must never wait for whoever calls `watch()`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use ::notify::{
    Config, Error, ErrorKind, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, WatchPathConfig,
    Watcher,
};

use super::barrier::BARRIERS;
use super::error::{Limit, WATCHES};
use super::sight::Sight;
use super::{BarrierName, ChangeKind, EventSource, Feed, SourceId, WatchError};
use crate::words::path::RelPath;

/// Directories watched through the `notify` crate.
pub struct NotifySource {
    home: PathBuf,
    feed: Feed,
    watcher: RecommendedWatcher,
    known: Arc<Known>,
}

impl NotifySource {
    /// A source for `home`, an absolute path without links, that watches the barrier directory (which must exist) and nothing else.
    pub fn open(home: &Path, feed: Feed) -> Result<Self, WatchError> {
        let known = Arc::new(Known::default());
        let sight = Sight::open(home)?;
        let handler = Handler { home: home.to_owned(), sight, feed: feed.clone(), known: Arc::clone(&known) };
        let config = Config::default()
            .with_follow_symlinks(false)
            .with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE);
        let watcher = RecommendedWatcher::new(move |event| handler.handle(event), config);
        let watcher = watcher.map_err(|error| match error.kind {
            ErrorKind::Io(error) => WatchError::creating("notify", error),
            _ => WatchError::Source { what: "notify", source: io::Error::other(error) },
        })?;
        let mut source = Self { home: home.to_owned(), feed, watcher, known };
        source.place(&barriers())?;
        Ok(source)
    }

    fn absolute(&self, path: &RelPath) -> PathBuf {
        let mut bytes = self.home.as_os_str().as_bytes().to_vec();
        if !path.is_root() {
            bytes.push(b'/');
            bytes.extend_from_slice(path.as_bytes());
        }
        PathBuf::from(std::ffi::OsString::from_vec(bytes))
    }

    fn place(&mut self, path: &RelPath) -> Result<(), WatchError> {
        let absolute = self.absolute(path);
        let config = WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(false);
        self.watcher.watch_with(&absolute, config).map_err(|error| refused(path, error))?;
        match absolute.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            found => {
                self.remove(path);
                Err(found
                    .map_or_else(|error| WatchError::placing(path, error), |_| WatchError::Gone { path: path.clone() }))
            }
        }
    }

    /// That it is not watched (any more) is what was wanted.
    fn remove(&mut self, path: &RelPath) {
        drop(self.watcher.unwatch(&self.absolute(path)));
    }
}

impl EventSource for NotifySource {
    fn id(&self) -> SourceId {
        self.feed.source()
    }

    fn watch_directory(&mut self, path: &RelPath, _directory: Option<BorrowedFd<'_>>) -> Result<(), WatchError> {
        if self.known.lock().remove(path) {
            self.remove(path);
        }
        self.place(path)?;
        self.known.lock().insert(path.clone());
        Ok(())
    }

    fn unwatch_directory(&mut self, path: &RelPath) {
        // Deepest first: each removal makes notify look for watches below.
        for watched in self.known.forget(path).iter().rev() {
            self.remove(watched);
        }
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        self.known.lock().contains(path)
    }

    fn watches(&self) -> usize {
        self.known.lock().len()
    }

    fn restart(&mut self) -> Result<(), WatchError> {
        *self = Self::open(&self.home, self.feed.renew())?;
        Ok(())
    }
}

fn barriers() -> RelPath {
    RelPath::parse(BARRIERS).unwrap_or_default()
}

fn refused(path: &RelPath, error: Error) -> WatchError {
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::LimitReached(Limit::read(WATCHES)),
        ErrorKind::PathNotFound => WatchError::Gone { path: path.clone() },
        ErrorKind::Io(error) => WatchError::placing(path, error),
        _ => WatchError::Other { path: path.clone(), source: io::Error::other(error) },
    }
}

/// What notify watches. **Invariant:** never less than it does, or a new inode under an old path would go unwatched; more is
/// harmless. So the handler takes out what notify is about to drop.
#[derive(Default)]
struct Known(Mutex<BTreeSet<RelPath>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<RelPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out `path` and all below it.
    fn forget(&self, path: &RelPath) -> Vec<RelPath> {
        let mut known = self.lock();
        let below: Vec<_> = known.range(path.clone()..).take_while(|known| known.is_within(path)).cloned().collect();
        below.iter().for_each(|path| {
            known.remove(path);
        });
        below
    }
}

/// Lives on notify's thread.
struct Handler {
    home: PathBuf,
    sight: Sight,
    feed: Feed,
    known: Arc<Known>,
}

impl Handler {
    fn handle(&self, event: Result<Event, Error>) {
        // An error here is a failed read of the queue: what it held is lost.
        let Ok(event) = event else { return self.feed.push(ChangeKind::Overflow) };
        if event.need_rescan() {
            self.feed.push(ChangeKind::Overflow);
        }
        // What has no path in the home, or one longer than a `RelPath` can be, nobody could look at.
        let Some(path) = event.paths.first().and_then(|path| self.relative(path)) else { return };
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
            && !is_own_move(&event)
        {
            self.known.forget(&path);
            if barriers().is_within(&path) {
                self.feed.push(ChangeKind::LostWatch { path: barriers() });
            }
        }
        let kind = if path.is_reserved() { barrier(&event, &path) } else { meaning(&event, path) };
        if let Some(kind) = kind {
            self.feed.push(self.sight.complete(kind));
        }
    }

    fn relative(&self, path: &Path) -> Option<RelPath> {
        RelPath::parse(path.strip_prefix(&self.home).ok()?.as_os_str().as_bytes()).ok()
    }
}

/// `MOVE_SELF`: a watched directory says that it was moved, not by what rename. The directories above tell more.
fn is_own_move(event: &Event) -> bool {
    event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::From)) && event.tracker().is_none()
}

fn barrier(event: &Event, path: &RelPath) -> Option<ChangeKind> {
    let (directory, name) = path.split()?;
    let created = matches!(event.kind, EventKind::Create(_)) && directory == barriers();
    let name = BarrierName::parse(name.as_bytes()).filter(|_| created)?;
    Some(ChangeKind::Barrier { name })
}

fn meaning(event: &Event, path: RelPath) -> Option<ChangeKind> {
    let cookie = event.tracker().and_then(|cookie| u32::try_from(cookie).ok());
    Some(match event.kind {
        EventKind::Create(kind) => ChangeKind::Appeared { path, directory: kind == CreateKind::Folder, seen: None },
        EventKind::Remove(RemoveKind::Other) if event.info() == Some("unmount") => ChangeKind::Unmounted { path },
        EventKind::Remove(kind) => ChangeKind::Vanished { path, directory: kind == RemoveKind::Folder },
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => match cookie {
            Some(cookie) => ChangeKind::MovedFrom { path, cookie, directory: None },
            None if path.is_root() => ChangeKind::LostWatch { path },
            None => return None,
        },
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            ChangeKind::MovedTo { path, cookie: cookie.unwrap_or_default(), directory: None, seen: None }
        }
        // From and To were delivered already.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return None,
        EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            ChangeKind::Touched { path, written: false }
        }
        EventKind::Modify(_) => ChangeKind::Touched { path, written: true },
        EventKind::Access(_) => return None,
        EventKind::Any | EventKind::Other => ChangeKind::Touched { path, written: true },
    })
}

#[cfg(test)]
mod tests;
