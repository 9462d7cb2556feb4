//! A home's root, and how a path is reached from it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{FsError, failed};
use super::pass::Recent;
use super::stat::{Stat, stat_open};
use crate::words::path::RelPath;

/// How many bytes of a path are resolved in one call, at most; `PATH_MAX` is 4096 with its NUL.
const STEP_BYTES: usize = 4000;
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An open directory, the root of a home (or of a part of one); every path is relative to it and stays below it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// `openat2` does not work here: parents are walked name by name.
    stepwise: AtomicBool,
    /// Where a pass was last.
    pub(super) recent: Arc<Mutex<Recent>>,
}

/// Where a path is: the open directory it is in, and its name there (`.` for the root itself).
pub(super) struct Place<'root> {
    dir: Dir<'root>,
    name: CString,
}

enum Dir<'root> {
    Root(BorrowedFd<'root>),
    Open(Arc<OwnedFd>),
}

impl Place<'_> {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        match &self.dir {
            Dir::Root(fd) => *fd,
            Dir::Open(fd) => fd.as_fd(),
        }
    }

    pub(super) fn name(&self) -> &CString {
        &self.name
    }

    /// True if this is the root, which can be looked at and given attributes but has no name to change.
    fn is_root(&self) -> bool {
        self.name.as_bytes() == b"."
    }

    /// Opens what has the name, never through a link.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        open_name(self.dir(), &self.name, flags)
    }
}

/// Opens `name` in `dir`, never through a link.
pub(super) fn open_name<P: rustix::path::Arg>(dir: BorrowedFd<'_>, name: P, flags: OFlags) -> Result<OwnedFd, Errno> {
    fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}

impl Root {
    /// Opens the directory `path`, following links on the way to it.
    ///
    /// Errors: [`FsError::WholeSystem`] for `/`; [`FsError::Open`] if it is missing, no directory, or not readable.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(CWD, path, flags, Mode::empty()).map_err(failed!(Open, path.display()))?;
        let same = |a: &fs::Stat, b: &fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let here = fs::fstat(&fd).map_err(failed!(Stat, path.display()))?;
        if fs::stat("/").is_ok_and(|whole| same(&whole, &here)) {
            return Err(FsError::WholeSystem { path: path.display().to_string().into() });
        }
        Ok(Self::on(fd, path.to_owned(), false))
    }

    /// The path given to [`Root::open`], for messages and for what must be told a path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second, independent descriptor of the same directory.
    ///
    /// It is opened anew, not duplicated: the kernel tells each opened file once of a failed write-back, and duplicates would
    /// share that one report.
    pub fn try_clone(&self) -> Result<Self, FsError> {
        self.enter(&RelPath::root())
    }

    /// The directory `path` as a root of its own.
    pub fn enter(&self, path: &RelPath) -> Result<Self, FsError> {
        let fd = self
            .place(path)
            .and_then(|place| place.open(OFlags::RDONLY | OFlags::DIRECTORY))
            .map_err(failed!(Open, path))?;
        let below = if path.is_root() { self.path.clone() } else { self.path.join(as_path(path)) };
        Ok(Self::on(fd, below, self.stepwise.load(Ordering::Relaxed)))
    }

    fn on(fd: OwnedFd, path: PathBuf, stepwise: bool) -> Self {
        Self { fd, path, stepwise: AtomicBool::new(stepwise), recent: Arc::default() }
    }

    /// What is at `path`, itself, as a descriptor that only names it (`O_PATH`), and what it is.
    pub fn open_path(&self, path: &RelPath) -> Result<(OwnedFd, Stat), FsError> {
        let open = || -> Result<_, Errno> {
            let fd = self.place(path)?.open(OFlags::PATH)?;
            let stat = stat_open(fd.as_fd())?;
            Ok((fd, stat))
        };
        open().map_err(failed!(Open, path))
    }

    /// The root's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Finds the directory `path` is in; ELOOP or ENOTDIR where a link stands on the way.
    pub(super) fn place(&self, path: &RelPath) -> Result<Place<'_>, Errno> {
        let Some((parent, name)) = split_bytes(path.as_bytes()) else {
            return Ok(Place { dir: Dir::Root(self.fd()), name: c".".to_owned() });
        };
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if parent.is_empty() {
            return Ok(Place { dir: Dir::Root(self.fd()), name });
        }
        let dir = match self.recent(parent) {
            Some(kept) => kept,
            None => self.keep(parent, self.directory(parent)?),
        };
        Ok(Place { dir: Dir::Open(dir), name })
    }

    /// As [`Self::place`], for what changes the name itself: EINVAL for the root.
    pub(super) fn named_place(&self, path: &RelPath) -> Result<Place<'_>, Errno> {
        let place = self.place(path)?;
        if place.is_root() { Err(Errno::INVAL) } else { Ok(place) }
    }

    /// Opens the directory at `path` (not empty) for `*at` calls.
    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if !self.stepwise.load(Ordering::Relaxed) {
            match self.directory_by(path, STEP_BYTES, |dir, step| {
                fs::openat2(dir, step, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), CONFINED)
            }) {
                Err(Errno::NOSYS | Errno::PERM) => self.stepwise.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        self.directory_by(path, 0, |dir, step| open_name(dir, step, OFlags::PATH | OFlags::DIRECTORY))
    }

    /// Goes down `path` in steps of whole names, as many as fit into `step_bytes` and at least one.
    fn directory_by(
        &self,
        path: &[u8],
        step_bytes: usize,
        open: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        let (step, mut rest) = split_step(path, step_bytes);
        let mut dir = open(self.fd(), step)?;
        while !rest.is_empty() {
            let (step, after) = split_step(rest, step_bytes);
            dir = open(dir.as_fd(), step)?;
            rest = after;
        }
        Ok(dir)
    }

    /// Makes this root behave as if the kernel had no `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        self.stepwise.store(true, Ordering::Relaxed);
        self
    }
}

fn as_path(path: &RelPath) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// Parent and name; `None` for the root.
fn split_bytes(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

/// The longest leading run of whole names within `step_bytes` (but at least one name), and what follows it.
fn split_step(path: &[u8], step_bytes: usize) -> (&[u8], &[u8]) {
    if path.len() <= step_bytes {
        return (path, &[]);
    }
    let within = path[..=step_bytes].iter().rposition(|&byte| byte == b'/');
    match within.or_else(|| path.iter().position(|&byte| byte == b'/')) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
