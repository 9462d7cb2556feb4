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
pub(crate) const BLOCK: u32 = 4096;

/// Which calls are counted for a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Calls {
    /// Every one that asks the file system for anything.
    All,
    /// Those that change it or make it durable.
    Changes,
    /// Those that make it durable.
    Syncs,
    /// Those that set extended attributes or owners.
    Attributes,
}

/// Calls that fail: of those that are counted, from one on, so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) calls: Calls,
    pub(crate) from: usize,
    pub(crate) count: usize,
    pub(crate) error: Errno,
}

/// The disk before a call that changed it.
#[derive(Clone)]
pub(crate) struct Cut {
    pub(crate) disk: Disk,
    /// What was called.
    pub(crate) call: String,
    /// What was acked by then.
    pub(crate) acked: u64,
}

impl Cut {
    /// True if both were before a write into the same file.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let file =
            |cut: &Self| cut.call.strip_prefix("write (").and_then(|what| what.split(',').next().map(str::to_owned));
        file(self).is_some_and(|written| Some(written) == file(other))
    }
}

/// What the two sides of a bed share.
pub(crate) struct State {
    pub(crate) disk: Disk,
    /// All cuts, where they are recorded.
    pub(crate) cuts: Option<Vec<Cut>>,
    pub(crate) fault: Option<Fault>,
    /// How many of the calls that count for the fault there were.
    pub(crate) counted: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// How many syncs of a file or a directory there were, and of the whole.
    pub(crate) syncs: [usize; 2],
    acked: Arc<AtomicU64>,
    /// How often the kernel was given each inode.
    pub(crate) lookups: BTreeMap<u64, u64>,
}

impl State {
    /// Counts a call; an error if it is to fail.
    pub(crate) fn count(&mut self, kinds: &[Calls]) -> Result<(), Errno> {
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
    pub(crate) fn record(&mut self, call: &str, name: &dyn Debug) {
        if let Some(cuts) = &mut self.cuts {
            let acked = self.acked.load(Ordering::SeqCst);
            cuts.push(Cut { disk: self.disk.clone(), call: format!("{call} {name:?}"), acked });
        }
    }

    /// What is told of an inode that the kernel is given.
    pub(crate) fn entry(&mut self, key: Key) -> Result<(FileAttr, Generation), Errno> {
        let attributes = attributes(&self.disk, key)?;
        *self.lookups.entry(attributes.ino.0).or_default() += 1;
        Ok((attributes, Generation(key.0)))
    }
}

/// A simulated disk, mounted.
pub(crate) struct Bed {
    directory: TempDir,
    state: Arc<Mutex<State>>,
    acked: Arc<AtomicU64>,
    session: Option<BackgroundSession>,
}

impl Bed {
    /// Mounts it; an error says what this machine lacks.
    pub(crate) fn mount(disk: Disk) -> std::io::Result<Self> {
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

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is acked now.
    pub(crate) fn ack(&self, generation: u64) {
        self.acked.store(generation, Ordering::SeqCst);
    }

    /// What is acked.
    pub(crate) fn acked(&self) -> u64 {
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
pub(crate) fn attributes(disk: &Disk, key: Key) -> Result<FileAttr, Errno> {
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
