//! Owner, mode, extended attributes and times, set in the one order in which they do not undo each other.
//!
//! `chown` clears setuid, setgid and file capabilities; `chmod` rewrites an ACL's mask; a write permission is needed for
//! `user.*` attributes; everything moves the change time, and content moves the modification time. So: owner, mode, extended
//! attributes, modification time.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::error::{FsError, failed};
use super::root::{Place, Root};
use super::stat::{FileType, Stat, stat_name};
use super::xattr::{self, XattrPolicy};
use crate::words::entry::{Entry, Kind, Timestamp};
use crate::words::path::RelPath;

pub(super) const SETUID: u16 = 0o4000;
pub(super) const SETGID: u16 = 0o2000;

/// What this process may do beyond owning its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privilege {
    /// May give files to any owner and group (`CAP_CHOWN`).
    pub chown: bool,
    /// May read and write whatever the permission bits say (`CAP_DAC_OVERRIDE`).
    pub override_modes: bool,
    /// May set file capabilities (`CAP_SETFCAP`).
    pub file_capabilities: bool,
}

impl Privilege {
    /// What the calling thread may do now.
    pub fn detect() -> Self {
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Self {
            chown: held.contains(CapabilitySet::CHOWN),
            override_modes: held.contains(CapabilitySet::DAC_OVERRIDE),
            file_capabilities: held.contains(CapabilitySet::SETFCAP),
        }
    }

    /// That of an ordinary user.
    pub fn none() -> Self {
        Self { chown: false, override_modes: false, file_capabilities: false }
    }
}

/// What of an entry's attributes a path does not have, for lack of privilege or of support by the file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unheld {
    /// The owner is another.
    pub owner: bool,
    /// The group is another.
    pub group: bool,
    /// Mode bits that differ: setuid or setgid as a rule, all on a file system without modes.
    pub mode: u16,
    /// The file system keeps times less exactly, or not that early or late.
    pub mtime: bool,
    /// Names of extended attributes that could not be set (or removed).
    pub xattrs: Vec<Box<[u8]>>,
}

impl Unheld {
    /// True if everything is as the entry says.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Root {
    /// Gives `path`, which must be of the entry's kind, the entry's owner, mode, extended attributes (those `policy` covers;
    /// others stay) and modification time. What is so already is left alone.
    ///
    /// Setuid is not set for another owner than the entry's, nor setgid on a file for another group.
    pub fn set_attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        policy: &XattrPolicy,
        privilege: &Privilege,
    ) -> Result<Unheld, FsError> {
        let place = self.place(path).map_err(failed!(Stat, path))?;
        let before = stat_name(place.dir(), place.name()).map_err(failed!(Stat, path))?;
        check_kind(&before, entry.kind(), path)?;
        let stat = || stat_name(place.dir(), place.name()).map_err(failed!(Stat, path));
        let mut unheld = Unheld::default();
        let mut mode = before.mode;
        let mut is_changed =
            set_owner(&place, &before, entry, privilege, &mut unheld).map_err(failed!(SetOwner, path))?;
        if is_changed && mode & (SETUID | SETGID) != 0 {
            mode = stat()?.mode;
        }
        let wanted = wanted_mode(entry, &unheld);
        is_changed |= settle_mode(&place, entry, mode, wanted).map_err(failed!(SetMode, path))?;
        if xattr::replace(&place, path, entry, policy, &mut unheld)? {
            settle_mode(&place, entry, stat()?.mode, wanted).map_err(failed!(SetMode, path))?;
            is_changed = true;
        }
        if before.mtime != entry.mtime {
            touch(&place, entry.mtime).map_err(failed!(SetMtime, path))?;
            is_changed = true;
        }
        // The kernel leaves bits out without an error, and some file systems keep times less exactly.
        let after = if is_changed { stat()? } else { before };
        if entry.kind() != Kind::Symlink {
            unheld.mode = after.mode ^ (entry.mode & 0o7777);
        }
        unheld.mtime = after.mtime != entry.mtime;
        Ok(unheld)
    }

    /// Sets the permission bits of the file or directory `path`.
    pub fn set_mode(&self, path: &RelPath, mode: u16) -> Result<(), FsError> {
        self.place(path).and_then(|place| chmod_open(&place.open(OFlags::PATH)?, mode)).map_err(failed!(SetMode, path))
    }

    /// Sets the modification time of `path`, of a link itself too; the access time stays.
    pub fn set_mtime(&self, path: &RelPath, mtime: Timestamp) -> Result<(), FsError> {
        self.place(path).and_then(|place| touch(&place, mtime)).map_err(failed!(SetMtime, path))
    }
}

fn check_kind(stat: &Stat, kind: Kind, path: &RelPath) -> Result<(), FsError> {
    let expected = match (kind, stat.what) {
        (Kind::File, FileType::File) | (Kind::Directory, FileType::Directory) | (Kind::Symlink, FileType::Symlink) => {
            return Ok(());
        }
        (Kind::File, _) => "a regular file",
        (Kind::Directory, _) => "a directory",
        (Kind::Symlink, _) => "a symbolic link",
    };
    Err(FsError::WrongKind { path: path.to_string().into(), expected })
}

/// Owner and group as far as allowed; true if either changed. EINVAL is an id that this user namespace does not map.
fn set_owner(
    place: &Place<'_>,
    stat: &Stat,
    entry: &Entry,
    privilege: &Privilege,
    unheld: &mut Unheld,
) -> Result<bool, Errno> {
    let owner = (stat.uid != entry.uid).then(|| Uid::from_raw(entry.uid));
    let group = (stat.gid != entry.gid).then(|| Gid::from_raw(entry.gid));
    let chown = |owner, group| match fs::chownat(place.dir(), place.name(), owner, group, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(source) => Err(source),
    };
    if owner.is_none() && group.is_none() {
        return Ok(false);
    }
    if (owner.is_none() || privilege.chown) && chown(owner, group)? {
        return Ok(true);
    }
    let owned = owner.is_some() && privilege.chown && chown(owner, None)?;
    let grouped = group.is_some() && chown(None, group)?;
    unheld.owner = owner.is_some() && !owned;
    unheld.group = group.is_some() && !grouped;
    Ok(owned || grouped)
}

/// The entry's mode, without the bits that would mean something else under another owner or group.
fn wanted_mode(entry: &Entry, unheld: &Unheld) -> u16 {
    let mut mode = entry.mode & 0o7777;
    if unheld.owner {
        mode &= !SETUID;
    }
    if unheld.group && !entry.is_directory() {
        mode &= !SETGID;
    }
    mode
}

/// Makes the mode `wanted`, if it is not; true if it was not.
fn settle_mode(place: &Place<'_>, entry: &Entry, mode: u16, wanted: u16) -> Result<bool, Errno> {
    if mode == wanted || entry.kind() == Kind::Symlink {
        return Ok(false);
    }
    chmod_open(&place.open(OFlags::PATH)?, wanted)?;
    Ok(true)
}

/// Sets the mode of what is open by path only. `fchmod` refuses such a descriptor and `fchmodat` would follow a link, so it
/// goes by the descriptor's own name in `/proc`; a link is refused (EOPNOTSUPP).
pub(super) fn chmod_open(fd: &OwnedFd, mode: u16) -> Result<(), Errno> {
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::chmodat(CWD, name, Mode::from_raw_mode(mode.into()), AtFlags::empty())
}

fn touch(place: &Place<'_>, mtime: Timestamp) -> Result<(), Errno> {
    fs::utimensat(place.dir(), place.name(), &times(mtime)?, AtFlags::SYMLINK_NOFOLLOW)
}

/// A modification time for the kernel; the access time stays.
pub(super) fn times(mtime: Timestamp) -> Result<Timestamps, Errno> {
    // Among the larger ones are UTIME_NOW and UTIME_OMIT, which a peer has no business to send.
    if mtime.nanoseconds > 999_999_999 {
        return Err(Errno::INVAL);
    }
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    })
}
