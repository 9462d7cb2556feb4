//! A node's own files, outside any home: its key, its reign, its index. Ordinary paths, chosen by a person; links among them are
//! followed.
//!
//! This is the one room that uses the `std::fs` functions banned elsewhere by `clippy.toml`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::{FsError, failed};

/// Replaces `path` by `bytes` with exactly `mode`: after a crash it holds what it held before, or `bytes`, durably and whole.
///
/// Writes `.<name>.new` beside it, syncs, renames, syncs the directory. One writer at a time: see [`lock_directory`].
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let temporary = beside(path).map_err(failed!(Create, path.display()))?;
    let written = write_new(&temporary, bytes, mode)
        .map_err(failed!(Write, temporary.display()))
        .and_then(|()| replace(&temporary, path));
    if written.is_err() {
        // The error is the news; litter that stays is overwritten next time.
        remove(&temporary).ok();
    }
    written
}

/// The temporary name for `path`.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok(path.with_file_name(temporary))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "of a state file, never in a home; the directory is synced")]
fn replace(temporary: &Path, path: &Path) -> Result<(), FsError> {
    fs::rename(temporary, path).map_err(failed!(Rename, temporary.display(), to: path.display()))?;
    sync_parent(path)
}

#[expect(clippy::disallowed_methods, reason = "of a temporary state file, never in a home")]
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

fn sync_parent(path: &Path) -> Result<(), FsError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed!(Sync, parent.display()))
}

/// The content of `path`; [`FsError::TooLong`] if there are more than `cap_bytes`.
pub fn read_capped(path: &Path, cap_bytes: u64) -> Result<Vec<u8>, FsError> {
    let file = File::open(path).map_err(failed!(Open, path.display()))?;
    let mut bytes = Vec::new();
    let count =
        file.take(cap_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed!(Read, path.display()))?;
    if count as u64 > cap_bytes {
        return Err(FsError::TooLong { path: path.display().to_string().into(), cap_bytes });
    }
    Ok(bytes)
}

/// A state directory held for this process; let go when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing lets go as well, unless a child process holds a copy of the descriptor.
        rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// Takes `directory` for this process by a lock on its file `lock`; [`FsError::Locked`] names who has it.
pub fn lock_directory(directory: &Path) -> Result<Lock, FsError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed!(Open, path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            (&file).take(16).read_to_string(&mut text).ok();
            return Err(FsError::Locked {
                path: directory.display().to_string().into(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(source) => return Err(failed!(Open, path.display())(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed!(Write, path.display()))?;
    Ok(Lock { file, path })
}

/// Makes the directory `path` with exactly `mode`, its missing parents with 0755, durably; what exists stays as it is.
pub fn create_directory(path: &Path, mode: u32) -> Result<(), FsError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_directory(parent, 0o755)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(source) => return Err(failed!(MakeDirectory, path.display())(source)),
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed!(SetMode, path.display()))?;
    sync_parent(path)
}
