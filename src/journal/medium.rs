//! The journal's file system: a narrow trait, so that tests can cut its power.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FallocateFlags, FlockOperation, Mode, OFlags};

/// One flat directory of files, by name. What it may lose is said in [`journal`](super).
pub(super) trait Medium: Debug + Send {
    /// Where `name` is, for people. The empty name is the directory.
    fn path(&self, name: &str) -> PathBuf;
    /// All names.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new empty file.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Makes a file at least `length` bytes long, with zeros, where the file system can.
    fn preallocate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// A file's length.
    fn length(&self, name: &str) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all `bytes`.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file off.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Makes a file's bytes and length durable.
    fn sync_data(&mut self, name: &str) -> io::Result<()>;
    /// Makes created and removed names durable.
    fn sync_directory(&mut self) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Eight bytes that nobody can guess.
    fn random(&mut self) -> io::Result<[u8; 8]>;
}

/// A directory of the system, held by descriptor and locked.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    directory: OwnedFd,
    /// The file that was last written.
    current: Option<(String, File)>,
}

impl Directory {
    /// Opens `path`, made if missing (its parent must be there), for this process alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    File::open(parent)?.sync_all()?;
                }
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path: path.into(), directory, current: None })
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }

    /// `name`, open for writing.
    fn writable(&mut self, name: &str) -> io::Result<&File> {
        if self.current.as_ref().is_none_or(|(current, _)| current != name) {
            self.current = Some((name.into(), self.open_file(name, OFlags::RDWR)?));
        }
        self.current.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Medium for Directory {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().to_str().map(ToOwned::to_owned));
        }
        Ok(names)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        self.current = Some((name.into(), file));
        Ok(())
    }

    fn preallocate(&mut self, name: &str, length: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(self.writable(name)?, FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.open_file(name, OFlags::RDONLY)?.metadata()?.len())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.open_file(name, OFlags::RDONLY)?.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable(name)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.writable(name)?.set_len(length)
    }

    fn sync_data(&mut self, name: &str) -> io::Result<()> {
        self.writable(name)?.sync_data()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.current.as_ref().is_some_and(|(current, _)| current == name) {
            self.current = None;
        }
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn random(&mut self) -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(bytes)
    }
}
