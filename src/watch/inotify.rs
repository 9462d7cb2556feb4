//! Raw inotify as a source: for what the `notify` crate cannot do (directories beyond `PATH_MAX`, single inodes), or for
//! everything.
//!
//! A watch belongs to an inode. What it is called here is what the caller said last: a directory that was moved is reported under its
//! old path until the caller watches it under the new one, which moves the watch over. One inode has one path at a time: of
//! two bind mounts of one directory only the last one watched is reported.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::barrier::BARRIERS;
use super::sight::Sight;
use super::{BarrierName, ChangeKind, EventSource, Feed, SourceId, WatchError};
use crate::words::entry::InodeId;
use crate::words::path::{Name, RelPath};

/// The thread's name, as the kernel keeps it (15 bytes at most).
pub(super) const THREAD: &str = "hotspare-watch";
/// How much of the queue is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

const TOUCHED: ReadFlags = ReadFlags::MODIFY.union(ReadFlags::ATTRIB).union(ReadFlags::CLOSE_WRITE);
const INODE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
const DIRECTORY: WatchFlags =
    INODE.union(WatchFlags::CREATE).union(WatchFlags::DELETE).union(WatchFlags::MOVE).union(WatchFlags::ONLYDIR);
const BARRIER: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::DELETE_SELF).union(WatchFlags::ONLYDIR).union(WatchFlags::DONT_FOLLOW);

/// Directories and inodes watched by inotify itself.
pub struct InotifySource {
    home: PathBuf,
    feed: Feed,
    queue: Arc<OwnedFd>,
    targets: Arc<Mutex<Targets>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl InotifySource {
    /// A source for `home`, an absolute path without links, that watches the barrier directory (which must exist) and nothing else.
    pub fn open(home: &Path, feed: Feed) -> Result<Self, WatchError> {
        let broken = |source: io::Error| WatchError::Source { what: "inotify", source };
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| broken(error.into()))?);
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let queue = Arc::new(queue.map_err(|error| WatchError::creating("inotify", error.into()))?);
        let barriers = absolute(home, BARRIERS);
        let barriers =
            inotify::add_watch(&queue, &barriers, BARRIER).map_err(|error| WatchError::Barriers(error.into()))?;
        let targets = Targets { by_watch: HashMap::from([(barriers, Target::Barriers)]), ..Targets::default() };
        let targets = Arc::new(Mutex::new(targets));
        let pump = Pump {
            queue: Arc::clone(&queue),
            stop: Arc::clone(&stop),
            targets: Arc::clone(&targets),
            sight: Sight::open(home)?,
            feed: feed.clone(),
        };
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || pump.run()).map_err(broken)?;
        Ok(Self { home: home.to_owned(), feed, queue, targets, stop, thread: Some(thread) })
    }

    /// Watches one inode that is no directory, given open (`O_PATH` will do), whatever names it has.
    pub fn watch_inode(&mut self, inode: InodeId, file: BorrowedFd<'_>) -> Result<(), WatchError> {
        self.running()?;
        let mut targets = lock(&self.targets);
        let watch = inotify::add_watch(&self.queue, through(file), INODE)
            .map_err(|error| WatchError::placing_inode(inode, error.into()))?;
        let former = targets.name(watch, Target::Inode(inode));
        self.release(former);
        Ok(())
    }

    /// Removes the watch of an inode. What is not watched is no error.
    pub fn unwatch_inode(&mut self, inode: InodeId) {
        let mut targets = lock(&self.targets);
        if let Some(watch) = targets.inodes.remove(&inode) {
            targets.by_watch.remove(&watch);
            self.release(Some(watch));
        }
    }

    /// A reader that failed has said `Overflow`, which asks for a restart.
    fn running(&self) -> Result<(), WatchError> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(WatchError::Source { what: "inotify", source: io::Error::other("its reader has ended") }),
        }
    }

    /// The kernel may have dropped it itself, with the inode.
    fn release(&self, watch: Option<i32>) {
        if let Some(watch) = watch {
            inotify::remove_watch(&self.queue, watch).ok();
        }
    }
}

impl EventSource for InotifySource {
    fn id(&self) -> SourceId {
        self.feed.source()
    }

    fn watch_directory(&mut self, path: &RelPath, directory: Option<BorrowedFd<'_>>) -> Result<(), WatchError> {
        self.running()?;
        // The lock makes the reader wait: no event of the new watch is met before its name is.
        let mut targets = lock(&self.targets);
        let watch = match directory {
            Some(directory) => inotify::add_watch(&self.queue, through(directory), DIRECTORY),
            None => {
                let flags = DIRECTORY | WatchFlags::DONT_FOLLOW;
                inotify::add_watch(&self.queue, absolute(&self.home, path.as_bytes()), flags)
            }
        };
        let watch = watch.map_err(|error| WatchError::placing(path, error.into()))?;
        let former = targets.name(watch, Target::Directory(path.clone()));
        self.release(former);
        Ok(())
    }

    fn unwatch_directory(&mut self, path: &RelPath) {
        let mut targets = lock(&self.targets);
        let below = targets.directories.range(path.clone()..).take_while(|(known, _)| known.is_within(path));
        let below: Vec<_> = below.map(|(known, watch)| (known.clone(), *watch)).collect();
        for (known, watch) in below {
            targets.directories.remove(&known);
            targets.by_watch.remove(&watch);
            self.release(Some(watch));
        }
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        lock(&self.targets).directories.contains_key(path)
    }

    fn watches(&self) -> usize {
        let targets = lock(&self.targets);
        targets.directories.len() + targets.inodes.len()
    }

    fn restart(&mut self) -> Result<(), WatchError> {
        *self = Self::open(&self.home, self.feed.renew())?;
        Ok(())
    }
}

impl Drop for InotifySource {
    fn drop(&mut self) {
        let told = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let (Some(thread), Ok(_)) = (self.thread.take(), told) {
            drop(thread.join());
        }
    }
}

/// `path` below `home`, as the kernel takes it.
fn absolute(home: &Path, path: &[u8]) -> Vec<u8> {
    let mut bytes = home.as_os_str().as_bytes().to_vec();
    if !path.is_empty() {
        bytes.push(b'/');
        bytes.extend_from_slice(path);
    }
    bytes
}

/// The path that leads to what `file` has open: inotify has no call that takes a descriptor.
fn through(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn lock(targets: &Mutex<Targets>) -> MutexGuard<'_, Targets> {
    targets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a watch descriptor stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Barriers,
    Directory(RelPath),
    Inode(InodeId),
}

/// All watches, by descriptor and by name. The kernel does not reuse descriptors before 2^31 of them were given out.
#[derive(Debug, Default)]
struct Targets {
    by_watch: HashMap<i32, Target>,
    directories: BTreeMap<RelPath, i32>,
    inodes: HashMap<InodeId, i32>,
}

impl Targets {
    /// `watch` is called `target` from now on. Answers with the watch that was called so before, if that is another one.
    fn name(&mut self, watch: i32, target: Target) -> Option<i32> {
        self.forget(watch);
        let former = match &target {
            Target::Directory(path) => self.directories.insert(path.clone(), watch),
            Target::Inode(inode) => self.inodes.insert(*inode, watch),
            Target::Barriers => None,
        };
        self.by_watch.insert(watch, target);
        if let Some(former) = former {
            self.by_watch.remove(&former);
        }
        former
    }

    fn forget(&mut self, watch: i32) {
        match self.by_watch.remove(&watch) {
            Some(Target::Directory(path)) => drop(self.directories.remove(&path)),
            Some(Target::Inode(inode)) => drop(self.inodes.remove(&inode)),
            Some(Target::Barriers) | None => {}
        }
    }

    /// What an event means.
    fn meaning(&mut self, event: &Event<'_>) -> Option<ChangeKind> {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(ChangeKind::Overflow);
        }
        match self.by_watch.get(&event.wd())?.clone() {
            Target::Barriers if flags.contains(ReadFlags::CREATE) => {
                let name = BarrierName::parse(event.file_name()?.to_bytes())?;
                Some(ChangeKind::Barrier { name })
            }
            Target::Barriers if flags.contains(ReadFlags::IGNORED) => {
                self.forget(event.wd());
                RelPath::parse(BARRIERS).ok().map(|path| ChangeKind::LostWatch { path })
            }
            Target::Barriers => None,
            Target::Inode(inode) => {
                if flags.contains(ReadFlags::IGNORED) {
                    self.forget(event.wd());
                }
                Some(ChangeKind::InodeTouched { inode })
            }
            Target::Directory(path) => match event.file_name() {
                Some(name) => in_directory(&path, name.to_bytes(), event),
                None => self.own_fate(path, event),
            },
        }
    }

    /// The directory's own fate. What ends the watch is told once: the `IGNORED` behind it finds nothing any more.
    fn own_fate(&mut self, path: RelPath, event: &Event<'_>) -> Option<ChangeKind> {
        let flags = event.events();
        if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED) {
            self.forget(event.wd());
        }
        if flags.contains(ReadFlags::DELETE_SELF) {
            Some(ChangeKind::Vanished { path, directory: true })
        } else if flags.contains(ReadFlags::UNMOUNT) {
            Some(ChangeKind::Unmounted { path })
        } else if flags.contains(ReadFlags::IGNORED) || (flags.contains(ReadFlags::MOVE_SELF) && path.is_root()) {
            Some(ChangeKind::LostWatch { path })
        } else if flags.intersects(TOUCHED) {
            Some(ChangeKind::Touched { path, written: flags.contains(ReadFlags::MODIFY) })
        } else {
            None
        }
    }
}

fn in_directory(directory: &RelPath, name: &[u8], event: &Event<'_>) -> Option<ChangeKind> {
    let path = directory.join(&Name::parse(name).ok()?);
    if path.is_reserved() {
        return None;
    }
    let flags = event.events();
    let cookie = event.cookie();
    let directory = flags.contains(ReadFlags::ISDIR);
    if flags.contains(ReadFlags::CREATE) {
        Some(ChangeKind::Appeared { path, directory, seen: None })
    } else if flags.contains(ReadFlags::DELETE) {
        Some(ChangeKind::Vanished { path, directory })
    } else if flags.contains(ReadFlags::MOVED_FROM) {
        Some(ChangeKind::MovedFrom { path, cookie, directory: Some(directory) })
    } else if flags.contains(ReadFlags::MOVED_TO) {
        Some(ChangeKind::MovedTo { path, cookie, directory: Some(directory), seen: None })
    } else if flags.intersects(TOUCHED) {
        Some(ChangeKind::Touched { path, written: flags.contains(ReadFlags::MODIFY) })
    } else {
        None
    }
}

/// Lives on the reader's thread.
struct Pump {
    queue: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    targets: Arc<Mutex<Targets>>,
    sight: Sight,
    feed: Feed,
}

impl Pump {
    fn run(self) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            // Asked before every read of the queue, so that no flood of events keeps the thread from its end.
            if reader.is_buffer_empty() {
                match self.wait() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(_) => return self.feed.push(ChangeKind::Overflow),
                }
            }
            let kind = match reader.next() {
                Ok(event) => lock(&self.targets).meaning(&event),
                Err(Errno::AGAIN | Errno::INTR) => None,
                Err(_) => return self.feed.push(ChangeKind::Overflow),
            };
            if let Some(kind) = kind {
                self.feed.push(self.sight.complete(kind));
            }
        }
    }

    /// Waits for events; false to stop.
    fn wait(&self) -> rustix::io::Result<bool> {
        let mut ready = [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.queue, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => Ok(ready[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
