//! What a reveal does to a disk, call by call: narrow, so that a test can let any one of them fail.

use crate::fs::{FileReader, FileWriter, FsError, Privilege, Root, Stat, Unheld, XattrPolicy};
use crate::words::entry::Entry;
use crate::words::path::RelPath;

/// The calls a reveal makes.
pub(super) trait Disk {
    /// See [`Root::stat`].
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError>;
    /// See [`Root::open_read`].
    fn open_read(&self, path: &RelPath) -> Result<FileReader, FsError>;
    /// See [`Root::open_write`].
    fn open_write(&self, path: &RelPath) -> Result<FileWriter, FsError>;
    /// See [`FileWriter::write_at`].
    fn write_at(&self, file: &FileWriter, bytes: &[u8], offset: u64) -> Result<(), FsError>;
    /// See [`FileWriter::set_len`].
    fn set_len(&self, file: &FileWriter, len: u64) -> Result<(), FsError>;
    /// See [`Root::make_directory`].
    fn make_directory(&self, path: &RelPath) -> Result<(), FsError>;
    /// Makes a file that holds `content`.
    fn make_file(&self, path: &RelPath, content: &[u8]) -> Result<(), FsError>;
    /// See [`Root::rename`].
    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError>;
    /// See [`Root::remove_file`]; fine if nothing is there.
    fn remove_file(&self, path: &RelPath) -> Result<(), FsError>;
    /// See [`Root::link`].
    fn link(&self, existing: &RelPath, new: &RelPath) -> Result<(), FsError>;
    /// See [`Root::ensure_writable`].
    fn ensure_writable(&self, path: &RelPath) -> Result<(), FsError>;
    /// See [`Root::set_attributes`].
    fn set_attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        policy: &XattrPolicy,
        privilege: &Privilege,
    ) -> Result<Unheld, FsError>;
}

impl Disk for Root {
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        self.stat(path)
    }

    fn open_read(&self, path: &RelPath) -> Result<FileReader, FsError> {
        self.open_read(path)
    }

    fn open_write(&self, path: &RelPath) -> Result<FileWriter, FsError> {
        self.open_write(path)
    }

    fn write_at(&self, file: &FileWriter, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        file.write_at(bytes, offset)
    }

    fn set_len(&self, file: &FileWriter, len: u64) -> Result<(), FsError> {
        file.set_len(len)
    }

    fn make_directory(&self, path: &RelPath) -> Result<(), FsError> {
        self.make_directory(path, 0o700)
    }

    fn make_file(&self, path: &RelPath, content: &[u8]) -> Result<(), FsError> {
        self.create_file(path)?.write_at(content, 0)
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        self.rename(from, to)
    }

    fn remove_file(&self, path: &RelPath) -> Result<(), FsError> {
        match self.remove_file(path) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn link(&self, existing: &RelPath, new: &RelPath) -> Result<(), FsError> {
        self.link(existing, new)
    }

    fn ensure_writable(&self, path: &RelPath) -> Result<(), FsError> {
        self.ensure_writable(path).map(|_| ())
    }

    fn set_attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        policy: &XattrPolicy,
        privilege: &Privilege,
    ) -> Result<Unheld, FsError> {
        self.set_attributes(path, entry, policy, privilege)
    }
}

/// Makes the directory `path` if nothing is there.
pub(super) fn ensure_directory(disk: &dyn Disk, path: &RelPath) -> Result<(), FsError> {
    match disk.make_directory(path) {
        Err(error) if !error.is_existing() => Err(error),
        _ => Ok(()),
    }
}
