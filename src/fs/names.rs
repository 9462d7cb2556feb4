//! Making, renaming and removing names.

use rustix::fs::{self, Access, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::attributes::chmod_open;
use super::error::{FsError, failed};
use super::root::{Place, Root};
use super::stat::stat_name;
use crate::words::path::RelPath;

impl Root {
    /// Makes the directory `path` with `mode` less the process's umask; fails if anything has that name.
    pub fn make_directory(&self, path: &RelPath, mode: u16) -> Result<(), FsError> {
        self.named_place(path)
            .and_then(|place| fs::mkdirat(place.dir(), place.name(), Mode::from_raw_mode(mode.into())))
            .map_err(failed!(MakeDirectory, path))
    }

    /// Makes the symbolic link `path` to `target`; fails if anything has that name.
    pub fn make_symlink(&self, path: &RelPath, target: &[u8]) -> Result<(), FsError> {
        self.named_place(path)
            .and_then(|place| fs::symlinkat(target, place.dir(), place.name()))
            .map_err(failed!(MakeSymlink, path))
    }

    /// Gives what is at `from` the path `to`; fails (EEXIST) if anything is there already.
    ///
    /// Without privilege, moving a directory into another needs write permission on itself: see [`Root::ensure_writable`].
    pub fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), FsError> {
        self.let_go(from);
        let rename = || {
            let (source, target) = (self.named_place(from)?, self.named_place(to)?);
            rename_new(&source, &target)
        };
        rename().map_err(failed!(Rename, from, to: to))
    }

    /// Gives the file (or link) `existing` a second path `new`; fails (EEXIST) if anything is there already.
    pub fn link(&self, existing: &RelPath, new: &RelPath) -> Result<(), FsError> {
        let link = || {
            let (source, target) = (self.named_place(existing)?, self.named_place(new)?);
            fs::linkat(source.dir(), source.name(), target.dir(), target.name(), AtFlags::empty())
        };
        link().map_err(failed!(Link, existing, to: new))
    }

    /// Removes the file, link or special file `path`.
    pub fn remove_file(&self, path: &RelPath) -> Result<(), FsError> {
        self.remove_name(path, AtFlags::empty())
    }

    /// Removes the empty directory `path`.
    pub fn remove_directory(&self, path: &RelPath) -> Result<(), FsError> {
        self.remove_name(path, AtFlags::REMOVEDIR)
    }

    fn remove_name(&self, path: &RelPath, flags: AtFlags) -> Result<(), FsError> {
        self.let_go(path);
        self.named_place(path)
            .and_then(|place| fs::unlinkat(place.dir(), place.name(), flags))
            .map_err(failed!(Remove, path))
    }

    /// Lets this process write the file `path`, or change names in the directory `path` and move it, by adding the owner's
    /// permissions if it may not already. Returns the mode to give back with [`Root::set_mode`] if it was changed.
    pub fn ensure_writable(&self, path: &RelPath) -> Result<Option<u16>, FsError> {
        let ensure = || -> Result<_, Errno> {
            let place = self.place(path)?;
            let stat = stat_name(place.dir(), place.name())?;
            let (access, bits) = if stat.is_directory() {
                (Access::WRITE_OK | Access::EXEC_OK, 0o700)
            } else {
                (Access::WRITE_OK, 0o600)
            };
            let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
            if fs::accessat(place.dir(), place.name(), access, flags).is_ok() || stat.mode & bits == bits {
                return Ok(None);
            }
            chmod_open(&place.open(OFlags::PATH)?, stat.mode | bits)?;
            Ok(Some(stat.mode))
        };
        ensure().map_err(failed!(SetMode, path))
    }
}

/// Renames without ever replacing; by looking first where the file system has no such call.
fn rename_new(from: &Place<'_>, to: &Place<'_>) -> Result<(), Errno> {
    match fs::renameat_with(from.dir(), from.name(), to.dir(), to.name(), RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return done,
    }
    match stat_name(to.dir(), to.name()) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => fs::renameat(from.dir(), from.name(), to.dir(), to.name()),
        Err(source) => Err(source),
    }
}
