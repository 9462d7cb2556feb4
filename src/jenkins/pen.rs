//! The system calls of Jenkins: how it saves, appends, moves and removes.
//!
//! What it writes is for no one to confine or to sync but Jenkins itself, so this is the one file of the library that writes into a home as
//! another program does. After every call the pen's beat is heard: a check there sees each state that a crash may leave.

#![expect(clippy::disallowed_methods, reason = "it writes as Jenkins does, into a home that is its own")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The length of the writes by which a file is rewritten in place.
const PIECE: usize = 700;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {}", path.display())]
pub struct PenError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Writes into one home.
pub(super) struct Pen<'a> {
    home: &'a Path,
    beat: &'a mut dyn FnMut(),
    /// As Jenkins does; a home that is only being made needs none.
    syncs: bool,
    saves: u64,
}

/// A file that stays open and grows.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl<'a> Pen<'a> {
    pub(super) fn new(home: &'a Path, syncs: bool, beat: &'a mut dyn FnMut()) -> Self {
        Self { home, beat, syncs, saves: 0 }
    }

    fn call<T>(
        &mut self,
        call: &'static str,
        path: impl AsRef<Path>,
        work: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, PenError> {
        let path = self.home.join(path);
        let done = work(&path).map_err(|source| PenError { call, path, source })?;
        (self.beat)();
        Ok(done)
    }

    fn sync(&mut self, path: &Path) -> Result<(), PenError> {
        if !self.syncs {
            return Ok(());
        }
        self.call("sync", path, |path| File::open(path)?.sync_all())
    }

    pub(super) fn create_directory(&mut self, path: &str) -> Result<(), PenError> {
        self.call("create", path, |path| fs::create_dir(path))
    }

    /// Creates what is missing of `path`.
    pub(super) fn create_directories(&mut self, path: &str) -> Result<(), PenError> {
        self.call("create", path, |path| fs::create_dir_all(path))
    }

    /// Saves a file atomically: written under a temporary name, synced, renamed, and the directory synced.
    pub(super) fn save(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<(), PenError> {
        self.saves += 1;
        let temporary = format!("{path}-atomic{}{}tmp", std::process::id(), self.saves);
        let file = self.call("create", &temporary, |path| File::create(path))?;
        self.call("write", &temporary, |_| (&file).write_all(content.as_ref()))?;
        self.sync(Path::new(&temporary))?;
        self.rename(&temporary, path)?;
        self.sync(Path::new(path).parent().unwrap_or(Path::new("")))
    }

    /// Writes a new file in one piece, synced by nobody.
    pub(super) fn create(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<(), PenError> {
        let file = self.call("create", path, |path| File::create(path))?;
        self.call("write", path, |_| (&file).write_all(content.as_ref()))
    }

    /// Gives `other` the modification time of `path`.
    pub(super) fn same_time(&mut self, path: &str, other: &str) -> Result<(), PenError> {
        let other = self.home.join(other);
        let set = |path: &Path| File::options().write(true).open(other)?.set_modified(fs::metadata(path)?.modified()?);
        self.call("copy the time of", path, set)
    }

    /// Opens a file to append to it.
    pub(super) fn open_log(&mut self, path: &str) -> Result<Log, PenError> {
        let file = self.call("open", path, |path| File::options().append(true).create(true).open(path))?;
        Ok(Log { path: self.home.join(path), file })
    }

    /// Appends to a file, under whatever name it has by now.
    pub(super) fn append(&mut self, log: &Log, content: &[u8]) -> Result<(), PenError> {
        self.call("append to", &log.path, |_| (&log.file).write_all(content))
    }

    /// Writes in place, over what is there and beyond, piece by piece.
    pub(super) fn overwrite(&mut self, path: &str, content: &[u8]) -> Result<(), PenError> {
        let file = self.call("open", path, |path| File::options().write(true).open(path))?;
        let mut at = 0;
        for piece in content.chunks(PIECE) {
            self.call("write", path, |_| file.write_all_at(piece, at))?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Truncates a file and writes it anew, piece by piece.
    pub(super) fn rewrite(&mut self, path: &str, content: &[u8]) -> Result<(), PenError> {
        let file = self.call("truncate", path, |path| File::create(path))?;
        content.chunks(PIECE).try_for_each(|piece| self.call("write", path, |_| (&file).write_all(piece)))
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), PenError> {
        let to = self.home.join(to);
        self.call("rename", from, |from| fs::rename(from, to))
    }

    /// Exchanges two names in one call.
    pub(super) fn exchange(&mut self, one: &str, other: &str) -> Result<(), PenError> {
        let other = self.home.join(other);
        self.call("exchange", one, |one| Ok(renameat_with(CWD, one, CWD, &other, RenameFlags::EXCHANGE)?))
    }

    pub(super) fn remove(&mut self, path: &str) -> Result<(), PenError> {
        self.call("remove", path, |path| fs::remove_file(path))
    }

    /// Removes a directory and all in it, one call after the other.
    pub(super) fn remove_tree(&mut self, path: &str) -> Result<(), PenError> {
        for entry in self.call("list", path, |path| fs::read_dir(path)?.collect::<io::Result<Vec<_>>>())? {
            let below = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.remove_tree(&below)?;
            } else {
                self.remove(&below)?;
            }
        }
        self.call("remove", path, |path| fs::remove_dir(path))
    }
}
