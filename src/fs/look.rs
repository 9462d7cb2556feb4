//! What a walk and a capture ask of a home. It is a trait so that a test can show them a home in which every look is a moment of its own.

use std::ops::Range;

use super::{FileReader, FsError, Pass, Root, Stat, XattrPolicy};
use crate::fs::FileType;
use crate::words::entry::Xattrs;
use crate::words::path::{Name, RelPath};

/// A home that is looked at; each call as the one of [`Root`] with its name.
pub trait Look: Sized {
    /// An open file.
    type File: Readable;
    /// What lasts as long as a pass.
    type Pass;

    /// What `path` is; `None` if there is nothing.
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError>;
    /// What is in the directory `path`.
    fn list(&self, path: &RelPath) -> Result<Vec<(Name, Option<FileType>)>, FsError>;
    /// The directory `path` as a home of its own.
    fn enter(&self, path: &RelPath) -> Result<Self, FsError>;
    /// The xattrs of `path` that `policy` names.
    fn xattrs(&self, path: &RelPath, policy: &XattrPolicy) -> Result<Xattrs, FsError>;
    /// Where the link `path` points.
    fn read_link(&self, path: &RelPath) -> Result<Box<[u8]>, FsError>;
    /// Opens the file `path`.
    fn open_read(&self, path: &RelPath) -> Result<Self::File, FsError>;
    /// Begins a pass.
    fn pass(&self) -> Self::Pass;
}

/// A file of a home, open for reading; each call as the one of [`FileReader`] with its name.
pub trait Readable {
    /// What it was when it was opened.
    fn opened(&self) -> &Stat;
    /// What it is now.
    fn stat(&self) -> Result<Stat, FsError>;
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError>;
    /// The first run of data that reaches beyond `from`, cut to `from..end`.
    fn next_data(&self, from: u64, end: u64) -> Result<Option<Range<u64>>, FsError>;
}

impl Look for Root {
    type File = FileReader;
    type Pass = Pass;

    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        Self::stat(self, path)
    }

    fn list(&self, path: &RelPath) -> Result<Vec<(Name, Option<FileType>)>, FsError> {
        Self::list(self, path)
    }

    fn enter(&self, path: &RelPath) -> Result<Self, FsError> {
        Self::enter(self, path)
    }

    fn xattrs(&self, path: &RelPath, policy: &XattrPolicy) -> Result<Xattrs, FsError> {
        Self::xattrs(self, path, policy)
    }

    fn read_link(&self, path: &RelPath) -> Result<Box<[u8]>, FsError> {
        Self::read_link(self, path)
    }

    fn open_read(&self, path: &RelPath) -> Result<FileReader, FsError> {
        Self::open_read(self, path)
    }

    fn pass(&self) -> Pass {
        Self::pass(self)
    }
}

impl Readable for FileReader {
    fn opened(&self) -> &Stat {
        Self::opened(self)
    }

    fn stat(&self) -> Result<Stat, FsError> {
        Self::stat(self)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        Self::read_at(self, buffer, offset)
    }

    fn next_data(&self, from: u64, end: u64) -> Result<Option<Range<u64>>, FsError> {
        Self::next_data(self, from, end)
    }
}
