//! A node's own files, outside any home: its key, its reign, its index. Ordinary paths, chosen by a person.
//!
//! This is the one room that uses the `std::fs` functions banned elsewhere by `clippy.toml`.

use std::path::{Path, PathBuf};

use super::error::FsError;

/// Replaces `path` by `bytes` with exactly `mode`: after a crash it holds what it held before, or `bytes`, durably and whole.
///
/// Writes `.<name>.new` beside it, syncs, renames, syncs the directory. One writer at a time: see [`lock_directory`].
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    todo!("{path:?} {bytes:?} {mode}")
}

/// The content of `path`; [`FsError::TooLong`] if there are more than `cap_bytes`.
pub fn read_capped(path: &Path, cap_bytes: u64) -> Result<Vec<u8>, FsError> {
    todo!("{path:?} {cap_bytes}")
}

/// A state directory held for this process; let go when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
}

impl Lock {
    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes `directory` for this process by a lock on its file `lock`; [`FsError::Locked`] names who has it.
pub fn lock_directory(directory: &Path) -> Result<Lock, FsError> {
    todo!("{directory:?}")
}

/// Makes `path` with exactly `mode`, and its parents with the usual one, durably; one that exists stays as it is.
pub fn create_directory(path: &Path, mode: u32) -> Result<(), FsError> {
    todo!("{path:?} {mode}")
}
