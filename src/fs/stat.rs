//! Looking: what a path is, what a directory holds, where a link points.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, OFlags, RawDir, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::error::{FsError, failed};
use super::root::Root;
use crate::words::entry::{Body, Entry, Inode, InodeId, LinkId, Timestamp, Xattrs};
use crate::words::path::{Name, RelPath};

/// How many bytes of directory entries are asked for at once; a name takes about 32 on average.
const LISTING_BYTES: usize = 64 * 1024;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// What is not replicated.
    Special(Special),
}

/// Kinds of files that hold no content of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// A Unix socket.
    Socket,
    /// A named pipe.
    Fifo,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
}

/// What the kernel says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File, directory, link, or other.
    pub what: FileType,
    /// The low 12 bits of `st_mode`; 0o777 for symlinks.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Length in bytes (of a link: of its target).
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks_512: u64,
    /// Which inode, and what tells that it changed.
    pub inode: Inode,
    /// Which mount it was reached through; 0 if the kernel (before 5.8) does not say.
    pub mount_id: u64,
}

impl Stat {
    /// True for directories.
    pub fn is_directory(&self) -> bool {
        self.what == FileType::Directory
    }

    /// True for regular files.
    pub fn is_file(&self) -> bool {
        self.what == FileType::File
    }

    /// The entry of this path, given what `stat` does not tell.
    pub fn entry(&self, body: Body, xattrs: Xattrs, link: Option<LinkId>) -> Entry {
        Entry { body, mode: self.mode, uid: self.uid, gid: self.gid, mtime: self.mtime, xattrs, link }
    }
}

impl Root {
    /// What `path` is, itself, never what it points to; `None` if there is nothing, or no directory on the way to it (a link
    /// on the way is no directory).
    pub fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let found = self.place(path).and_then(|place| stat_name(place.dir(), place.name()));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(source) => Err(failed!(Stat, path)(source)),
        }
    }

    /// What is in the directory `path`, sorted by name, without `.` and `..`; the kind where the file system tells it along
    /// with the name.
    pub fn list(&self, path: &RelPath) -> Result<Vec<(Name, Option<FileType>)>, FsError> {
        let directory = self
            .place(path)
            .and_then(|place| place.open(OFlags::RDONLY | OFlags::DIRECTORY))
            .map_err(failed!(List, path))?;
        let mut names = list_directory(directory.as_fd()).map_err(failed!(List, path))?;
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    /// Where the link `path` points, as stored.
    pub fn read_link(&self, path: &RelPath) -> Result<Box<[u8]>, FsError> {
        let target = self
            .named_place(path)
            .and_then(|place| fs::readlinkat(place.dir(), place.name(), Vec::new()))
            .map_err(failed!(ReadLink, path))?;
        Ok(target.into_bytes().into())
    }
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// What `name` in `dir` is.
pub(super) fn stat_name<P: rustix::path::Arg>(dir: BorrowedFd<'_>, name: P) -> Result<Stat, Errno> {
    Ok(stat_from(&fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, WANTED)?))
}

/// What is open as `fd`.
pub(super) fn stat_open(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    Ok(stat_from(&fs::statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)?))
}

fn stat_from(raw: &Statx) -> Stat {
    let holds = |flag: StatxFlags| raw.stx_mask & flag.bits() != 0;
    Stat {
        what: type_from(fs::FileType::from_raw_mode(raw.stx_mode.into()))
            .unwrap_or(FileType::Special(Special::CharDevice)),
        mode: raw.stx_mode & 0o7777,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        mtime: timestamp(&raw.stx_mtime),
        size: raw.stx_size,
        blocks_512: raw.stx_blocks,
        inode: Inode {
            id: InodeId { dev: fs::makedev(raw.stx_dev_major, raw.stx_dev_minor), ino: raw.stx_ino },
            nlink: raw.stx_nlink,
            ctime: timestamp(&raw.stx_ctime),
            btime: holds(StatxFlags::BTIME).then(|| timestamp(&raw.stx_btime)),
        },
        mount_id: if holds(StatxFlags::MNT_ID) { raw.stx_mnt_id } else { 0 },
    }
}

fn timestamp(raw: &StatxTimestamp) -> Timestamp {
    Timestamp { seconds: raw.tv_sec, nanoseconds: raw.tv_nsec }
}

fn type_from(raw: fs::FileType) -> Option<FileType> {
    Some(match raw {
        fs::FileType::RegularFile => FileType::File,
        fs::FileType::Directory => FileType::Directory,
        fs::FileType::Symlink => FileType::Symlink,
        fs::FileType::Socket => FileType::Special(Special::Socket),
        fs::FileType::Fifo => FileType::Special(Special::Fifo),
        fs::FileType::BlockDevice => FileType::Special(Special::BlockDevice),
        fs::FileType::CharacterDevice => FileType::Special(Special::CharDevice),
        fs::FileType::Unknown => return None,
    })
}

/// What is in an open directory, in the file system's order; ENAMETOOLONG for a name longer than Linux promises.
pub(super) fn list_directory(directory: BorrowedFd<'_>) -> Result<Vec<(Name, Option<FileType>)>, Errno> {
    let mut buffer = Vec::with_capacity(LISTING_BYTES);
    let mut raw = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if !matches!(bytes, b"." | b"..") {
            names.push((Name::parse(bytes).map_err(|_| Errno::NAMETOOLONG)?, type_from(entry.file_type())));
        }
    }
    Ok(names)
}
