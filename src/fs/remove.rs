//! Removal of whole trees.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::chmod_open;
use super::error::{FsError, failed};
use super::root::{Root, open_name};
use super::stat::{FileType, Stat, list_directory, stat_name, stat_open};
use crate::words::path::{Name, RelPath};

/// How often a directory into which somebody keeps putting files is emptied before it is given up.
const ROUNDS: u32 = 4;

impl Root {
    /// Removes `path` and everything below it; returns how many names were removed, 0 if there is nothing.
    ///
    /// Needs one descriptor and no stack, however deep the tree is. Never goes into another mount ([`FsError::MountPoint`]; what
    /// lies before it may be gone by then). Directories that the owner may not change are made so first.
    pub fn remove_tree(&self, path: &RelPath) -> Result<u64, FsError> {
        let Some(stat) = self.stat(path)? else { return Ok(0) };
        let place = self.named_place(path).map_err(failed!(Remove, path))?;
        if !stat.is_directory() {
            fs::unlinkat(place.dir(), place.name(), AtFlags::empty()).map_err(failed!(Remove, path))?;
            return Ok(1);
        }
        let above = stat_name(place.dir(), c".").map_err(failed!(Stat, path))?;
        let mut removal = Removal { path: path.clone(), levels: Vec::new(), count: 0 };
        let top = removal.open(place.dir(), place.name(), &above)?;
        removal.empty(top)?;
        fs::unlinkat(place.dir(), place.name(), AtFlags::REMOVEDIR).map_err(failed!(Remove, path))?;
        Ok(removal.count + 1)
    }
}

/// A removal under way: where it is, and what is left to do on each level above.
struct Removal {
    path: RelPath,
    levels: Vec<Level>,
    count: u64,
}

struct Level {
    name: Name,
    stat: Stat,
    rest: Vec<Name>,
    rounds: u32,
}

impl Removal {
    fn open<P: rustix::path::Arg + Copy>(
        &self,
        dir: std::os::fd::BorrowedFd<'_>,
        name: P,
        above: &Stat,
    ) -> Result<OwnedFd, FsError> {
        let _ = (
            dir,
            name,
            above,
            open_name::<P>,
            chmod_open,
            stat_open,
            list_directory,
            Mode::empty(),
            OFlags::PATH,
            Errno::IO,
            ROUNDS,
        );
        todo!()
    }
    fn empty(&mut self, top: OwnedFd) -> Result<(), FsError> {
        let _ = (top.as_fd(), FileType::File);
        todo!()
    }
}
