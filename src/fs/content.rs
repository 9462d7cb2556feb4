//! Reading and writing the content of regular files.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Advice, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::{self, Errno};

use super::attributes;
use super::error::{FsError, failed};
use super::root::{Place, Root};
use super::stat::{Stat, stat_open};
use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

/// The unit in which zeros are left out: the block size of nearly every file system.
const BLOCK_BYTES: usize = 4096;
/// What Linux reads ahead without being asked.
const READ_AHEAD_BYTES: u64 = 128 * 1024;
/// How much is copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// A regular file, open for reading at any offset.
#[derive(Debug)]
pub struct FileReader {
    fd: OwnedFd,
    path: RelPath,
    opened: Stat,
}

/// A regular file, open for reading and writing at any offset.
#[derive(Debug)]
pub struct FileWriter {
    fd: OwnedFd,
    path: RelPath,
}

impl Root {
    /// Opens the regular file `path` for reading; never waits (for a pipe's other end) and leaves the access time alone where
    /// it may. Anything but a regular file is [`FsError::WrongKind`].
    pub fn open_read(&self, path: &RelPath) -> Result<FileReader, FsError> {
        let fd = self.place(path).and_then(|place| open_quietly(&place)).map_err(failed!(Open, path))?;
        let opened = regular(&fd, path)?;
        if opened.size > READ_AHEAD_BYTES {
            // Advice only: a file system that does not take it reads all the same.
            fs::fadvise(&fd, 0, None, Advice::Sequential).ok();
        }
        Ok(FileReader { fd, path: path.clone(), opened })
    }

    /// Opens the existing regular file `path` for reading and writing in place.
    pub fn open_write(&self, path: &RelPath) -> Result<FileWriter, FsError> {
        let fd = self
            .place(path)
            .and_then(|place| place.open(OFlags::RDWR | OFlags::NONBLOCK))
            .map_err(failed!(Open, path))?;
        regular(&fd, path)?;
        Ok(FileWriter { fd, path: path.clone() })
    }

    /// Makes the file `path`, mode 0600, empty; fails if anything has that name.
    pub fn create_file(&self, path: &RelPath) -> Result<FileWriter, FsError> {
        self.create(path, Mode::RUSR | Mode::WUSR)
    }

    /// The same with mode 0: who may open it anew is decided when it is whole, by [`FileWriter::dress`].
    pub fn create_file_closed(&self, path: &RelPath) -> Result<FileWriter, FsError> {
        self.create(path, Mode::empty())
    }

    fn create(&self, path: &RelPath, mode: Mode) -> Result<FileWriter, FsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self
            .named_place(path)
            .and_then(|place| fs::openat(place.dir(), place.name(), flags, mode))
            .map_err(failed!(Create, path))?;
        Ok(FileWriter { fd, path: path.clone() })
    }
}

/// Opens without touching the access time, which only the owner may ask for.
fn open_quietly(place: &Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match place.open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => place.open(flags),
        opened => opened,
    }
}

fn regular(fd: &OwnedFd, path: &RelPath) -> Result<Stat, FsError> {
    let stat = stat_open(fd.as_fd()).map_err(failed!(Stat, path))?;
    if !stat.is_file() {
        return Err(FsError::WrongKind { path: path.to_string().into(), expected: "a regular file" });
    }
    Ok(stat)
}

impl FileReader {
    /// Makes content and attributes durable, whoever wrote them.
    pub fn sync_all(&self) -> Result<(), FsError> {
        fs::fsync(&self.fd).map_err(failed!(Sync, self.path))
    }

    /// What the file was when it was opened.
    pub fn opened(&self) -> &Stat {
        &self.opened
    }

    /// What the open file is now.
    pub fn stat(&self) -> Result<Stat, FsError> {
        stat_open(self.fd.as_fd()).map_err(failed!(Stat, self.path))
    }

    /// Fills `buffer` from `offset` on; returns how many bytes there were, fewer than asked only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        read_full(&self.fd, buffer, offset).map_err(failed!(Read, self.path))
    }

    /// The first run of data that reaches beyond `from`, cut to `from..end`; `None` if only a hole is left. A file system that
    /// knows no holes says all is data.
    pub fn next_data(&self, from: u64, end: u64) -> Result<Option<Range<u64>>, FsError> {
        if from >= end {
            return Ok(None);
        }
        let start = match retry(|| fs::seek(&self.fd, SeekFrom::Data(from))) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..end)),
            Err(source) => return Err(failed!(Read, self.path)(source)),
        };
        if start >= end {
            return Ok(None);
        }
        let stop = retry(|| fs::seek(&self.fd, SeekFrom::Hole(start))).map_or(end, |hole| hole.min(end));
        Ok((start < stop).then_some(start..stop))
    }

    /// The runs of data in the first `len` bytes, in order; what lies between them reads as zeros. Looked for as they are
    /// asked for, so a file that changes meanwhile gives no whole picture.
    pub fn data_ranges(&self, len: u64) -> DataRanges<'_> {
        DataRanges { reader: self, next: 0, end: len }
    }
}

/// The runs of data of a file: see [`FileReader::data_ranges`].
#[derive(Debug)]
pub struct DataRanges<'file> {
    reader: &'file FileReader,
    next: u64,
    end: u64,
}

impl Iterator for DataRanges<'_> {
    type Item = Result<Range<u64>, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.reader.next_data(self.next, self.end).transpose()?;
        self.next = found.as_ref().map_or(self.end, |range| range.end);
        Some(found)
    }
}

impl FileWriter {
    /// What the open file is now.
    pub fn stat(&self) -> Result<Stat, FsError> {
        stat_open(self.fd.as_fd()).map_err(failed!(Stat, self.path))
    }

    /// Fills `buffer` from `offset` on; returns how many bytes there were, fewer than asked only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        read_full(&self.fd, buffer, offset).map_err(failed!(Read, self.path))
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        write_full(&self.fd, bytes, offset).map_err(failed!(Write, self.path))
    }

    /// Writes `bytes` at `offset`, a place of a new file never written before, but for its aligned blocks of 4 KiB that are
    /// all zeros, which stay holes. The last may leave the file short: [`FileWriter::set_len`] must follow.
    pub fn write_sparse_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        if offset.checked_add(bytes.len() as u64).is_none() {
            return Err(failed!(Write, self.path)(Errno::FBIG));
        }
        let mut run = 0..0;
        let mut at = 0;
        while at < bytes.len() {
            let within = usize::try_from((offset + at as u64) % BLOCK_BYTES as u64).unwrap_or(0);
            let next = bytes.len().min(at + BLOCK_BYTES - within);
            if is_zero(&bytes[at..next]) {
                self.write_at(&bytes[run.clone()], offset + run.start as u64)?;
                run = next..next;
            } else {
                run.end = next;
            }
            at = next;
        }
        self.write_at(&bytes[run.clone()], offset + run.start as u64)
    }

    /// Cuts or extends the file (with a hole) to `len` bytes.
    pub fn set_len(&self, len: u64) -> Result<(), FsError> {
        retry(|| fs::ftruncate(&self.fd, len)).map_err(failed!(SetLength, self.path))
    }

    /// Takes the blocks of `offset..offset + len` now, so that writing there cannot fail for want of space; length and
    /// content stay as they are. False if the file system cannot promise that.
    pub fn reserve(&self, offset: u64, len: u64) -> Result<bool, FsError> {
        if len == 0 {
            return Ok(true);
        }
        match retry(|| fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, offset, len)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(source) => Err(failed!(Reserve, self.path)(source)),
        }
    }

    /// Copies `len` bytes of `source` from `from` to `to`, a place of this new file never written before; holes stay holes.
    /// Returns how many bytes the source had, fewer than `len` only at its end. [`FileWriter::set_len`] must follow.
    ///
    /// By reading and writing: `copy_file_range` shares blocks on XFS and btrfs, and a write into shared blocks needs new ones.
    pub fn copy_range(&self, source: &FileReader, from: u64, to: u64, len: u64) -> Result<u64, FsError> {
        let size = source.stat()?.size;
        let end = from.saturating_add(len).min(size);
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = from;
        while let Some(range) = source.next_data(at, end)? {
            at = range.start;
            while at < range.end {
                let want = usize::try_from(range.end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                let got = source.read_at(&mut buffer[..want], at)?;
                self.write_sparse_at(&buffer[..got], to.saturating_add(at - from))?;
                at += got as u64;
                if got < want {
                    return Ok(at - from);
                }
            }
        }
        Ok(end.saturating_sub(from))
    }

    /// Gives the file the permissions of `mode` and the modification time, while it is open and that is cheap. Where the file system has no
    /// modes, or keeps times less exactly, that is for [`Root::set_attributes`] to find, which sees to owner, setuid and the rest as well.
    pub fn dress(&self, mode: u16, mtime: Timestamp) -> Result<(), FsError> {
        match retry(|| fs::fchmod(&self.fd, Mode::from_raw_mode((mode & 0o777).into()))) {
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {}
            Err(source) => return Err(failed!(SetMode, self.path)(source)),
        }
        if let Ok(times) = attributes::times(mtime) {
            fs::futimens(&self.fd, &times).ok();
        }
        Ok(())
    }

    /// Makes content and length durable.
    pub fn sync_data(&self) -> Result<(), FsError> {
        fs::fdatasync(&self.fd).map_err(failed!(Sync, self.path))
    }

    /// Makes content and attributes durable.
    pub fn sync_all(&self) -> Result<(), FsError> {
        fs::fsync(&self.fd).map_err(failed!(Sync, self.path))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // The first byte, then each equal to the one before it: a memcmp, which is far faster than a loop when not optimised.
    bytes.first().is_none_or(|&first| first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

fn retry<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    io::retry_on_intr(call)
}

fn read_full(fd: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match retry(|| io::pread(fd, &mut buffer[filled..], offset + filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn write_full(fd: &OwnedFd, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let mut written = 0;
    while written < bytes.len() {
        match retry(|| io::pwrite(fd, &bytes[written..], offset + written as u64))? {
            0 => return Err(Errno::IO),
            count => written += count,
        }
    }
    Ok(())
}
