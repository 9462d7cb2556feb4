//! What makes a stage and a reveal durable: a sync of the whole file system or, where there is none, of each thing by itself.
//!
//! Linux does not pass syncfs(2) on to a FUSE server (but for virtiofs): the call returns at once and has synced nothing. On such a home what is
//! staged is synced as it comes, and what a reveal changed as soon as it is revealed.

use super::layout::{self, Area};
use super::operations::Journalled;
use super::{ReplicaError, bundle};
use crate::fs::{FsError, Root};
use crate::thought::generation::Action;
use crate::thought::tree::ApplyError;
use crate::words::path::RelPath;
use crate::words::position::Position;

/// Syncs what is at `path`, if anything is. A symbolic link has nothing but its name, which is its directory's.
pub(super) fn sync(root: &Root, path: &RelPath) -> Result<(), FsError> {
    match root.stat(path)? {
        Some(stat) if stat.is_file() => root.sync_file(path),
        Some(stat) if stat.is_directory() => root.sync_directory(path),
        _ => Ok(()),
    }
}

/// The same, also for what its owner may not open.
pub(super) fn sync_even_closed(root: &Root, path: &RelPath) -> Result<(), FsError> {
    match sync(root, path) {
        Err(error) if error.is_permission() => root.sync_closed(path),
        synced => synced,
    }
}

/// Syncs, one by one, all that the reveal of a generation changed. Every directory in which something came or went is given its attributes again,
/// so the operations name all there is.
pub(super) fn sync_revealed(root: &Root, position: Position, operations: Journalled<'_>) -> Result<(), ReplicaError> {
    let mut failed = None;
    let visited = operations.each(&mut |journalled| match &journalled.operation.action {
        Action::Edit { path, .. } | Action::Attributes { path, .. } => sync_even_closed(root, path).map_err(|error| {
            failed = Some(error);
            ApplyError::Source("a sync failed".into())
        }),
        _ => Ok(()),
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    visited.map_err(|source| ReplicaError::Apply { position, source })?;
    Ok(sync_own(root, position)?)
}

/// Syncs what a reveal changes in `.hotspare`, and the list of a bundle that was prepared.
pub(super) fn sync_own(root: &Root, position: Position) -> Result<(), FsError> {
    sync(root, &layout::in_reveal(position, bundle::LIST))?;
    for area in [Area::Reveal, Area::Stage, Area::Bundles] {
        sync(root, &layout::of(area, position))?;
        sync(root, &layout::area(area))?;
    }
    sync(root, &layout::reserved())
}
