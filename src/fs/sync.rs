//! Durability, and what is known of the file system a root is on.

use std::fmt;
#[cfg(not(test))]
use std::os::fd::BorrowedFd;

#[cfg(not(test))]
use rustix::fs::syncfs;
use rustix::fs::{self, OFlags};
use rustix::io::Errno;

use super::attributes::chmod_open;
use super::error::{FsError, failed};
use super::root::Root;
use super::stat::stat_name;
#[cfg(test)]
use super::tests::simulated::{syncfs, takes_syncfs};
use crate::words::path::RelPath;

/// The file systems that are treated differently somewhere, by their magic numbers (statfs(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilesystemKind {
    /// ext2, ext3, ext4: one magic number.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// In memory: nothing survives a power cut.
    Tmpfs,
    /// Layers: inode numbers and events are not those of the layers.
    Overlay,
    /// NFS, any version.
    Nfs,
    /// CephFS.
    Ceph,
    /// Any FUSE file system; whether it is local cannot be told.
    Fuse,
    /// SMB/CIFS.
    Cifs,
    /// Another, by its magic number.
    Other(u32),
}

impl FilesystemKind {
    fn of(magic: u32) -> Self {
        match magic {
            0xef53 => Self::Ext4,
            0x5846_5342 => Self::Xfs,
            0x9123_683e => Self::Btrfs,
            0x0102_1994 | 0x8584_58f6 => Self::Tmpfs,
            0x794c_7630 => Self::Overlay,
            0x6969 => Self::Nfs,
            0x00c3_6400 => Self::Ceph,
            0x6573_5546 => Self::Fuse,
            0xff53_4d42 | 0xfe53_4d42 | 0x517b => Self::Cifs,
            other => Self::Other(other),
        }
    }

    /// True if others may change files without this kernel seeing an event. FUSE counts: most of it in servers is remote.
    pub fn is_network(self) -> bool {
        match self {
            Self::Nfs | Self::Ceph | Self::Fuse | Self::Cifs => true,
            // Lustre, GPFS, 9p, OCFS2, GFS2.
            Self::Other(magic) => {
                matches!(magic, 0x0bd0_0bd0 | 0x4750_4653 | 0x0102_1997 | 0x7461_636f | 0x0116_1970)
            }
            _ => false,
        }
    }

    /// True for overlayfs.
    pub fn is_overlay(self) -> bool {
        self == Self::Overlay
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(magic) => write!(f, "type {magic:#x}"),
            known => f.write_str(&format!("{known:?}").to_lowercase()),
        }
    }
}

/// What is free on a file system, for a process without privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free bytes.
    pub available_bytes: u64,
    /// All bytes, free or not.
    pub total_bytes: u64,
    /// Free inodes; `None` where they are made as needed (btrfs).
    pub available_inodes: Option<u64>,
}

/// Nobody knows of a FUSE server that is synced whole.
#[cfg(not(test))]
fn takes_syncfs(_: BorrowedFd<'_>) -> bool {
    false
}

impl Root {
    /// True if [`Root::sync_filesystem`] does what it says. Linux passes syncfs(2) on to no FUSE server (but for virtiofs, which cannot be told from
    /// the others): there it syncs nothing and reports no error.
    pub fn syncs_whole(&self) -> Result<bool, FsError> {
        Ok(self.filesystem()? != FilesystemKind::Fuse || takes_syncfs(self.fd()))
    }

    /// Makes everything written to the root's file system durable, by whomever it was written, and waits for it, if there is such a thing here
    /// ([`Root::syncs_whole`]).
    ///
    /// A failed write-back since the last call is an error, told once: what was written must be written again.
    pub fn sync_filesystem(&self) -> Result<(), FsError> {
        syncfs(self.fd()).map_err(failed!(Sync, self.path().display()))
    }

    /// Makes content and attributes of the regular file `path` durable. Needs permission to read or write it.
    pub fn sync_file(&self, path: &RelPath) -> Result<(), FsError> {
        let sync = || {
            let place = self.place(path)?;
            let fd = match place.open(OFlags::RDONLY | OFlags::NONBLOCK) {
                Err(Errno::ACCESS) => place.open(OFlags::WRONLY | OFlags::NONBLOCK)?,
                opened => opened?,
            };
            fs::fsync(fd)
        };
        sync().map_err(failed!(Sync, path))
    }

    /// Makes the names in the directory `path` durable. Needs permission to read it.
    pub fn sync_directory(&self, path: &RelPath) -> Result<(), FsError> {
        self.place(path)
            .and_then(|place| fs::fsync(place.open(OFlags::RDONLY | OFlags::DIRECTORY)?))
            .map_err(failed!(Sync, path))
    }

    /// Makes durable what [`Root::sync_file`] or [`Root::sync_directory`] is not permitted to open: its owner is given the permission for as long
    /// as that takes.
    pub fn sync_closed(&self, path: &RelPath) -> Result<(), FsError> {
        let sync = || {
            let place = self.place(path)?;
            let mode = stat_name(place.dir(), place.name())?.mode;
            let closed = place.open(OFlags::PATH)?;
            chmod_open(&closed, mode | 0o600)?;
            let opened = place.open(OFlags::RDONLY | OFlags::NONBLOCK);
            chmod_open(&closed, mode)?;
            fs::fsync(opened?)
        };
        sync().map_err(failed!(Sync, path))
    }

    /// Which file system the root is on.
    pub fn filesystem(&self) -> Result<FilesystemKind, FsError> {
        let facts = fs::fstatfs(self.fd()).map_err(failed!(Measure, self.path().display()))?;
        // The magic numbers are 32 bits wide; some kernels sign-extend them.
        Ok(FilesystemKind::of(u32::try_from(i128::from(facts.f_type) & 0xffff_ffff).unwrap_or(0)))
    }

    /// What is free on the root's file system.
    pub fn space(&self) -> Result<Space, FsError> {
        let facts = fs::fstatvfs(self.fd()).map_err(failed!(Measure, self.path().display()))?;
        Ok(Space {
            available_bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
            total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize),
            available_inodes: (facts.f_files > 0).then_some(facts.f_favail),
        })
    }
}
