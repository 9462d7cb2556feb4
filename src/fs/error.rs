//! What can go wrong with a file, named after what was tried.

use std::io;

use rustix::io::Errno;

/// A failed file operation: what was tried, on which path, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path and the kernel's error, in every variant alike")]
pub enum FsError {
    /// A file or directory could not be opened.
    #[error("cannot open {path}")]
    Open { path: Box<str>, source: io::Error },
    /// Kind, size, owner and times could not be read.
    #[error("cannot stat {path}")]
    Stat { path: Box<str>, source: io::Error },
    /// A directory could not be listed.
    #[error("cannot list {path}")]
    List { path: Box<str>, source: io::Error },
    /// A link's target could not be read.
    #[error("cannot read the link {path}")]
    ReadLink { path: Box<str>, source: io::Error },
    /// Extended attributes could not be read.
    #[error("cannot read the extended attributes of {path}")]
    ReadXattrs { path: Box<str>, source: io::Error },
    /// Content could not be read.
    #[error("cannot read {path}")]
    Read { path: Box<str>, source: io::Error },
    /// A file could not be created.
    #[error("cannot create {path}")]
    Create { path: Box<str>, source: io::Error },
    /// Content could not be written.
    #[error("cannot write {path}")]
    Write { path: Box<str>, source: io::Error },
    /// A file's length could not be set.
    #[error("cannot set the length of {path}")]
    SetLength { path: Box<str>, source: io::Error },
    /// Space for a file could not be reserved.
    #[error("cannot reserve space for {path}")]
    Reserve { path: Box<str>, source: io::Error },
    /// A directory could not be made.
    #[error("cannot make the directory {path}")]
    MakeDirectory { path: Box<str>, source: io::Error },
    /// A symbolic link could not be made.
    #[error("cannot make the symbolic link {path}")]
    MakeSymlink { path: Box<str>, source: io::Error },
    /// A name could not be changed.
    #[error("cannot rename {path} to {to}")]
    Rename { path: Box<str>, to: Box<str>, source: io::Error },
    /// A second name could not be given.
    #[error("cannot link {path} as {to}")]
    Link { path: Box<str>, to: Box<str>, source: io::Error },
    /// A name could not be removed.
    #[error("cannot remove {path}")]
    Remove { path: Box<str>, source: io::Error },
    /// Owner or group could not be set.
    #[error("cannot set the owner of {path}")]
    SetOwner { path: Box<str>, source: io::Error },
    /// Permission bits could not be set.
    #[error("cannot set the mode of {path}")]
    SetMode { path: Box<str>, source: io::Error },
    /// An extended attribute could not be set or removed.
    #[error("cannot set the extended attribute {name} of {path}")]
    SetXattr { path: Box<str>, name: Box<str>, source: io::Error },
    /// The modification time could not be set.
    #[error("cannot set the modification time of {path}")]
    SetMtime { path: Box<str>, source: io::Error },
    /// Written data may not have reached the disk. Never retried: what was written must be written again.
    #[error("cannot sync {path}")]
    Sync { path: Box<str>, source: io::Error },
    /// Kind or free space of the file system could not be asked.
    #[error("cannot ask about the file system of {path}")]
    Measure { path: Box<str>, source: io::Error },
    /// What is there is not of the kind that the operation is for.
    #[error("{path} is not {expected}")]
    WrongKind { path: Box<str>, expected: &'static str },
    /// Something is mounted inside a tree that was to be removed.
    #[error("{path} is a mount point; unmount it first")]
    MountPoint { path: Box<str> },
    /// A home may not be `/`.
    #[error("{path} is the root of the whole file system; a home must be a directory of its own")]
    WholeSystem { path: Box<str> },
    /// A file is longer than its reader accepts.
    #[error("{path} is longer than {cap_bytes} bytes")]
    TooLong { path: Box<str>, cap_bytes: u64 },
    /// Another process holds a state directory.
    #[error("{path} is in use by {}", holder(*.pid))]
    Locked { path: Box<str>, pid: Option<u32> },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl FsError {
    /// The kernel's error number, if the kernel was asked.
    pub fn errno(&self) -> Option<Errno> {
        use std::error::Error;
        Errno::from_io_error(self.source()?.downcast_ref::<io::Error>()?)
    }

    /// Why, in the kernel's words where it has any, without the path.
    pub fn reason(&self) -> String {
        match self.errno() {
            Some(errno) => std::io::Error::from(errno).to_string(),
            None => self.to_string(),
        }
    }

    /// True if the path, or a directory on the way to it, does not exist (or is no directory).
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NOTDIR))
    }

    /// True if something has the name already.
    pub fn is_existing(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// True if a directory that was to be removed is not empty.
    pub fn is_not_empty(&self) -> bool {
        self.errno() == Some(Errno::NOTEMPTY)
    }

    /// True if a symbolic link stood in the way and was not followed.
    pub fn is_refused_link(&self) -> bool {
        self.errno() == Some(Errno::LOOP)
    }

    /// True if the file system, or a quota, is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// True if the process may not do this.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::PERM | Errno::ACCESS))
    }
}

/// True if somewhere among the causes of `error` is that a file system, or a quota, is full.
pub fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let errno = error.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
        matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
    })
}

/// `failed!(Variant, path)`: what turns the kernel's error into that [`FsError`], for `map_err`.
macro_rules! failed {
    ($variant:ident, $path:expr) => {
        |source| $crate::fs::FsError::$variant { path: $path.to_string().into(), source: std::io::Error::from(source) }
    };
    ($variant:ident, $path:expr, $second:ident: $value:expr) => {
        |source| $crate::fs::FsError::$variant {
            path: $path.to_string().into(),
            $second: $value.to_string().into(),
            source: std::io::Error::from(source),
        }
    };
}
pub(super) use failed;
