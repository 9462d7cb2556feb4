//! A simulated disk, mounted: counted, recorded and made to fail while it is used.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, FileAttr, FileType, Generation, INodeNo};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use super::disk::Disk;
use super::face::Face;
use super::image::{Key, PAGE, What};

/// How large a block is, as told.
pub(super) const BLOCK: u32 = 4096;

/// Which calls are counted for a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Calls {
    /// Every one that asks the file system for anything.
    All,
    /// Those that change it or make it durable.
    Changes,
    /// Those that set extended attributes or owners.
    Attributes,
}

/// Calls that fail: of those that are counted, from one on, so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) calls: Calls,
    pub(super) from: usize,
    pub(super) count: usize,
    pub(super) error: Errno,
}

/// The disk before a call that changed it.
#[derive(Clone)]
pub(super) struct Cut {
    pub(super) disk: Disk,
    /// What was called.
    pub(super) call: String,
    /// What was acked by then.
    pub(super) acked: u64,
}

impl Cut {
    /// True if both were before a write into the same file.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let file =
            |cut: &Self| cut.call.strip_prefix("write (").and_then(|what| what.split(',').next().map(str::to_owned));
        file(self).is_some_and(|written| Some(written) == file(other))
    }
}

/// What the two sides of a bed share.
pub(super) struct State {
    pub(super) disk: Disk,
    /// All cuts, where they are recorded.
    pub(super) cuts: Option<Vec<Cut>>,
    pub(super) fault: Option<Fault>,
    /// How many of the calls that count for the fault there were.
    pub(super) counted: usize,
    /// How many failed.
    pub(super) failed: usize,
    /// How many syncs of a file or a directory there were, and of the whole.
    pub(super) syncs: [usize; 2],
    acked: Arc<AtomicU64>,
    /// How often the kernel was given each inode.
    pub(super) lookups: BTreeMap<u64, u64>,
}

impl State {
    /// Counts a call; an error if it is to fail.
    pub(super) fn count(&mut self, kinds: &[Calls]) -> Result<(), Errno> {
        let Some(Fault { calls, from, count, error }) = self.fault else { return Ok(()) };
        if kinds.contains(&calls) {
            self.counted += 1;
            if self.counted > from && self.counted - from <= count {
                self.failed += 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes the disk as it is before a call.
    pub(super) fn record(&mut self, call: &str, name: &dyn Debug) {
        if let Some(cuts) = &mut self.cuts {
            let acked = self.acked.load(Ordering::SeqCst);
            cuts.push(Cut { disk: self.disk.clone(), call: format!("{call} {name:?}"), acked });
        }
    }

    /// What is told of an inode that the kernel is given.
    pub(super) fn entry(&mut self, key: Key) -> Result<(FileAttr, Generation), Errno> {
        let attributes = attributes(&self.disk, key)?;
        *self.lookups.entry(attributes.ino.0).or_default() += 1;
        Ok((attributes, Generation(key.0)))
    }
}

/// A simulated disk, mounted.
pub(super) struct Bed {
    directory: TempDir,
    state: Arc<Mutex<State>>,
    acked: Arc<AtomicU64>,
    session: Option<BackgroundSession>,
}

impl Bed {
    /// Mounts it; an error says what this machine lacks.
    pub(super) fn mount(disk: Disk) -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let acked = Arc::new(AtomicU64::new(0));
        let state = Arc::new(Mutex::new(State {
            disk,
            cuts: None,
            fault: None,
            counted: 0,
            failed: 0,
            syncs: [0; 2],
            acked: Arc::clone(&acked),
            lookups: Default::default(),
        }));
        let session = fuser::spawn_mount(Face(Arc::clone(&state)), directory.path(), &Config::default())?;
        Ok(Self { directory, state, acked, session: Some(session) })
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is acked now.
    pub(super) fn ack(&self, generation: u64) {
        self.acked.store(generation, Ordering::SeqCst);
    }

    /// What is acked.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A process that another test starts holds our descriptors between its fork and its exec: it is let go when it is unused.
        unmount(self.directory.path(), UnmountFlags::DETACH).ok();
        drop(self.session.take());
    }
}

/// What is told of an inode.
pub(super) fn attributes(disk: &Disk, key: Key) -> Result<FileAttr, Errno> {
    let node = disk.node(key)?;
    let (kind, size, blocks) = match &node.what {
        What::File => {
            let content = &disk.file(key)?.live;
            (FileType::RegularFile, content.size, content.pages.len() as u64 * (PAGE as u64 / 512))
        }
        What::Directory(_) => (FileType::Directory, PAGE as u64, 8),
        What::Symlink(target) => (FileType::Symlink, target.as_os_str().len() as u64, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(node.ino),
        size,
        blocks,
        atime: node.mtime,
        mtime: node.mtime,
        ctime: node.ctime,
        crtime: node.ctime,
        kind,
        perm: node.mode,
        nlink: node.links,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}
