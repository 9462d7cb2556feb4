//! What is mounted, and whether a directory is still the one it was.
//!
//! The kernel posts no event to a watcher when something is mounted over a directory, and none when a file system goes that lives on elsewhere
//! (a bind mount, a lazy unmount). It does say when this process's mount table changed: then `/proc/self/mountinfo` (proc(5)) has an exceptional condition.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, AtFlags, StatxFlags};
use serde::{Deserialize, Serialize};

use super::error::{FsError, failed};
use super::root::Root;
use super::state::read_capped;
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

const TABLE: &str = "/proc/self/mountinfo";

/// What tells a directory, or a mounted file, from another one in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The device number; one of no real device is soon given to another mount.
    device: u64,
    inode: u64,
    /// When the inode was made, where the file system keeps that: with the root of a file system, when that was made.
    born: Option<Timestamp>,
    /// The file system's own id (`f_fsid`), which is the same when it is mounted again; 0 where it has none.
    filesystem: u64,
}

impl Identity {
    /// True if both are the same inode of the same file system.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_filesystem = match (self.filesystem, other.filesystem) {
            (0, 0) => self.device == other.device,
            (one, other) => one == other,
        };
        same_filesystem && self.inode == other.inode && self.born == other.born
    }

    /// True if both are on one file system.
    pub fn shares_filesystem(&self, other: &Self) -> bool {
        self.device == other.device && self.filesystem == other.filesystem
    }
}

/// Another with each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Asks for a mount id that no other mount gets after it (`STATX_MNT_ID_UNIQUE`, Linux 6.8); older kernels pass over it.
const UNIQUE_MOUNT_ID: u32 = 0x4000;

impl Root {
    /// Names this run of the kernel, and this mount in it where mounts are told apart for ever. While it is the same, all that was written is there, in
    /// memory if not on the disk.
    pub fn mounting(&self) -> Result<String, FsError> {
        let boot = read_capped(Path::new(BOOT_ID), 64)?;
        let asked = StatxFlags::from_bits_retain(UNIQUE_MOUNT_ID);
        let found = fs::statx(self.fd(), c"", AtFlags::EMPTY_PATH, asked).map_err(failed!(Stat, RelPath::root()))?;
        let mount = if found.stx_mask & UNIQUE_MOUNT_ID == 0 { 0 } else { found.stx_mnt_id };
        Ok(format!("{} {mount}", String::from_utf8_lossy(boot.trim_ascii())))
    }

    /// What tells what is at `path` from anything else that could be there.
    pub fn identity(&self, path: &RelPath) -> Result<Identity, FsError> {
        let (file, stat) = self.open_path(path)?;
        let facts = fs::fstatvfs(&file).map_err(failed!(Measure, path))?;
        let (inode, born) = (stat.inode.id, stat.inode.btime);
        Ok(Identity { device: inode.dev, inode: inode.ino, born, filesystem: facts.f_fsid })
    }
}

/// The mount table of this process, as far as it is about one directory.
#[derive(Debug)]
pub struct MountTable {
    table: File,
    directory: PathBuf,
}

impl MountTable {
    /// The table for what is below `directory`, an absolute path without links.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { table: File::open(TABLE)?, directory: directory.to_owned() })
    }

    /// True if the table changed since this was last asked, or since it was opened.
    pub fn has_changed(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.table.as_fd(), PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What cannot be told may be so.
        poll(&mut polled, Some(&at_once)).is_err() || polled[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }

    /// The mount points below the directory.
    pub fn below(&self) -> io::Result<Vec<RelPath>> {
        let text = std::fs::read(TABLE)?;
        let mut below: Vec<RelPath> =
            text.split(|&byte| byte == b'\n').filter_map(|line| self.mount_point(line)).collect();
        below.sort_unstable();
        below.dedup();
        Ok(below)
    }

    fn mount_point(&self, line: &[u8]) -> Option<RelPath> {
        let point = unescape(line.split(|&byte| byte == b' ').nth(4)?);
        let below = Path::new(std::ffi::OsStr::from_bytes(&point)).strip_prefix(&self.directory).ok()?.as_os_str();
        if below.is_empty() { None } else { RelPath::parse(below.as_bytes()).ok() }
    }
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_directory_are_told_by_their_path_in_it() {
        let table = MountTable { table: File::open(TABLE).unwrap(), directory: "/srv/my home".into() };
        let point = |text: &str| table.mount_point(text.as_bytes()).map(|path| path.as_bytes().to_vec());
        let line = |point: &str| format!("98 28 0:44 / {point} rw,relatime shared:1 - tmpfs none rw");
        assert_eq!(point(&line("/srv/my\\040home/jobs/a\\134b")), Some(b"jobs/a\\b".to_vec()));
        for other in ["/srv/my\\040home", "/srv/my\\040homes/jobs", "/srv", "/"] {
            assert_eq!(point(&line(other)), None, "{other}");
        }
        assert_eq!(point("98 28 0:44"), None);
        assert_eq!(unescape(b"\\04x\\"), b"\\04x\\");
    }

    #[test]
    fn a_directory_is_the_same_under_another_name_and_another_one_under_the_same_name_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| RelPath::parse(name.as_bytes()).unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.make_directory(&at("a"), 0o700).unwrap();
        let a = root.identity(&at("a")).unwrap();
        root.rename(&at("a"), &at("b")).unwrap();
        root.make_directory(&at("a"), 0o700).unwrap();
        assert!(root.identity(&at("b")).unwrap().is_same(&a));
        assert!(!root.identity(&at("a")).unwrap().is_same(&a));
        let again = Identity { device: a.device + 1, ..a };
        assert_eq!(again.is_same(&a), a.filesystem != 0, "mounted again it may have another device number");
        assert!(!Identity { filesystem: a.filesystem ^ 1, ..a }.is_same(&a));
    }
}
