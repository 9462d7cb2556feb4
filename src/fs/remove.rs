//! Removal of whole trees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::chmod_open;
use super::error::{FsError, failed};
use super::root::{Root, open_name};
use super::stat::{FileType, Stat, list_directory, stat_name, stat_open};
use crate::words::path::{Name, RelPath};

/// How often a tree into which somebody keeps putting files is emptied before it is given up.
const ROUNDS: u32 = 4;

impl Root {
    /// Removes `path` and everything below it; returns how many names were removed, 0 if there is nothing.
    ///
    /// Needs a few descriptors and no stack, however deep the tree is. Never goes into another mount ([`FsError::MountPoint`];
    /// what comes before it may be gone by then). Directories whose mode forbids their owner to change them are given one that
    /// does not; the directory that `path` is in is the caller's business ([`Root::ensure_writable`]).
    pub fn remove_tree(&self, path: &RelPath) -> Result<u64, FsError> {
        Ok(self.remove_some(path, u64::MAX)?.0)
    }

    /// The same, but stops after `limit` names; also whether all is gone. What is left is removed by the next call.
    pub fn remove_some(&self, path: &RelPath, limit: u64) -> Result<(u64, bool), FsError> {
        let Some(stat) = self.stat(path)? else { return Ok((0, true)) };
        self.let_go(path);
        let place = self.named_place(path).map_err(failed!(Remove, path))?;
        if !stat.is_directory() {
            fs::unlinkat(place.dir(), place.name(), AtFlags::empty()).map_err(failed!(Remove, path))?;
            return Ok((1, true));
        }
        let Some((_, name)) = path.split() else { return Ok((0, true)) };
        let above = stat_name(place.dir(), c".").map_err(failed!(Stat, path))?;
        let mut removal = Removal { path, levels: Vec::new(), count: 0, limit };
        for round in 1.. {
            let (fd, stat) = removal.open(place.dir(), &name, &above)?;
            removal.empty(fd, Level { name: name.clone(), stat, directories: Vec::new() })?;
            if removal.is_enough() {
                return Ok((removal.count, false));
            }
            match fs::unlinkat(place.dir(), place.name(), AtFlags::REMOVEDIR) {
                Ok(()) => break,
                Err(Errno::NOTEMPTY | Errno::EXIST) if round < ROUNDS => {}
                Err(source) => return Err(failed!(Remove, path)(source)),
            }
        }
        Ok((removal.count + 1, true))
    }
}

/// A removal under way: the directories it is inside, from the top down.
struct Removal<'path> {
    path: &'path RelPath,
    levels: Vec<Level>,
    count: u64,
    limit: u64,
}

/// A directory being emptied, and which of its directories are still there.
struct Level {
    name: Name,
    stat: Stat,
    directories: Vec<Name>,
}

impl Removal<'_> {
    /// Empties the directory `top`: down into the first directory, and when that is empty up again by its `..`, which must be
    /// the very directory it was entered from (somebody may have moved it elsewhere). What does not get empty stays.
    fn empty(&mut self, top: OwnedFd, level: Level) -> Result<(), FsError> {
        let mut here = top;
        self.enter(here.as_fd(), level)?;
        while !self.is_enough()
            && let Some(level) = self.levels.last_mut()
        {
            if let Some(name) = level.directories.pop() {
                let above = level.stat;
                let (fd, stat) = self.open(here.as_fd(), &name, &above)?;
                here = fd;
                self.enter(here.as_fd(), Level { name, stat, directories: Vec::new() })?;
                continue;
            }
            let Some(done) = self.levels.pop() else { break };
            let Some(above) = self.levels.last() else { break };
            let path = || self.below(&done.name);
            let parent = parent_of(here.as_fd(), &above.stat).map_err(failed!(Remove, path()))?;
            match fs::unlinkat(&parent, done.name.as_bytes(), AtFlags::REMOVEDIR) {
                Ok(()) => self.count += 1,
                Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(source) => return Err(failed!(Remove, path())(source)),
            }
            here = parent;
        }
        Ok(())
    }

    /// Goes into `directory`: removes all in it that is no directory, and notes the rest.
    fn enter(&mut self, directory: BorrowedFd<'_>, level: Level) -> Result<(), FsError> {
        let names = list_directory(directory).map_err(failed!(List, self.below(&level.name)))?;
        self.levels.push(level);
        let mut directories = Vec::new();
        for (name, what) in names {
            let what = match what {
                Some(what) => what,
                None => stat_name(directory, name.as_bytes()).map_err(failed!(Stat, self.below(&name)))?.what,
            };
            if what == FileType::Directory {
                directories.push(name);
                continue;
            }
            if self.is_enough() {
                return Ok(());
            }
            match fs::unlinkat(directory, name.as_bytes(), AtFlags::empty()) {
                Ok(()) => self.count += 1,
                Err(Errno::NOENT) => {}
                Err(source) => return Err(failed!(Remove, self.below(&name))(source)),
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.directories = directories;
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.count >= self.limit
    }

    /// Opens the directory `name` in `dir`, on the same mount as `above`, and lets its owner change it.
    fn open(&self, dir: BorrowedFd<'_>, name: &Name, above: &Stat) -> Result<(OwnedFd, Stat), FsError> {
        let handle = open_name(dir, name.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(failed!(Open, self.below(name)))?;
        let stat = stat_open(handle.as_fd()).map_err(failed!(Stat, self.below(name)))?;
        if !same_mount(&stat, above) {
            return Err(FsError::MountPoint { path: self.below(name).to_string().into() });
        }
        if stat.mode & 0o700 != 0o700 {
            // If this is not allowed, what needs the permission will say so.
            chmod_open(&handle, stat.mode | 0o700).ok();
        }
        let fd = open_name(handle.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed!(Open, self.below(name)))?;
        Ok((fd, stat))
    }

    /// The path of `name` in the directory that is being emptied (or of the top itself, before it is entered).
    fn below(&self, name: &Name) -> RelPath {
        let Some((_, inner)) = self.levels.split_first() else { return self.path.clone() };
        inner.iter().fold(self.path.clone(), |path, level| path.join(&level.name)).join(name)
    }
}

fn same_mount(a: &Stat, b: &Stat) -> bool {
    if a.mount_id == 0 || b.mount_id == 0 { a.inode.id.dev == b.inode.id.dev } else { a.mount_id == b.mount_id }
}

/// Opens `..`, if it is the directory `expected`.
fn parent_of(directory: BorrowedFd<'_>, expected: &Stat) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = fs::openat(directory, c"..", flags, Mode::empty())?;
    if stat_open(parent.as_fd())?.inode.id == expected.inode.id { Ok(parent) } else { Err(Errno::STALE) }
}
