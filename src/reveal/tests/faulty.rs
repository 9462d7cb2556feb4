//! A disk that fails: what a crash leaves behind, at a place of the test's choosing.

use std::cell::Cell;

use crate::fs::{FileReader, FileWriter, FsError, Privilege, Root, Stat, Unheld, XattrPolicy};
use crate::reveal::disk::Disk;
use crate::words::entry::Entry;
use crate::words::path::RelPath;

/// Does a number of changes, and none after that. Looking is free.
pub(super) struct Faulty<'a> {
    root: &'a Root,
    allowed: usize,
    left: Cell<usize>,
}

impl<'a> Faulty<'a> {
    pub(super) fn after(root: &'a Root, changes: usize) -> Self {
        Self { root, allowed: changes, left: Cell::new(changes) }
    }

    /// How many changes were made.
    pub(super) fn made(&self) -> usize {
        self.allowed - self.left.get()
    }

    fn change(&self, path: &RelPath) -> Result<(), FsError> {
        match self.left.get() {
            0 => Err(FsError::Write { path: path.to_string().into(), source: rustix::io::Errno::IO.into() }),
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

impl Disk for Faulty<'_> {
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        Disk::stat(self.root, path)
    }

    fn open_read(&self, path: &RelPath) -> Result<FileReader, FsError> {
        Disk::open_read(self.root, path)
    }

    fn open_write(&self, path: &RelPath) -> Result<FileWriter, FsError> {
        Disk::open_write(self.root, path)
    }

    fn write_at(&self, file: &FileWriter, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        self.change(&RelPath::root())?;
        Disk::write_at(self.root, file, bytes, offset)
    }

    fn set_len(&self, file: &FileWriter, len: u64) -> Result<(), FsError> {
        self.change(&RelPath::root())?;
        Disk::set_len(self.root, file, len)
    }

    fn make_directory(&self, path: &RelPath) -> Result<(), FsError> {
        self.change(path)?;
        Disk::make_directory(self.root, path)
    }

    fn make_file(&self, path: &RelPath, content: &[u8]) -> Result<(), FsError> {
        self.change(path)?;
        Disk::make_file(self.root, path, content)
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        self.change(from)?;
        Disk::rename(self.root, from, to)
    }

    fn remove_file(&self, path: &RelPath) -> Result<(), FsError> {
        self.change(path)?;
        Disk::remove_file(self.root, path)
    }

    fn link(&self, existing: &RelPath, new: &RelPath) -> Result<(), FsError> {
        self.change(new)?;
        Disk::link(self.root, existing, new)
    }

    fn ensure_writable(&self, path: &RelPath) -> Result<(), FsError> {
        self.change(path)?;
        Disk::ensure_writable(self.root, path)
    }

    fn set_attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        policy: &XattrPolicy,
        privilege: &Privilege,
    ) -> Result<Unheld, FsError> {
        self.change(path)?;
        Disk::set_attributes(self.root, path, entry, policy, privilege)
    }
}
