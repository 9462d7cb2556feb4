//! A look at a name as soon as it is heard of. An event tells a name and not the file, and the name may lead to another one, or nowhere, when the
//! walk gets to it. On the thread that reads the events this takes microseconds, and so is seldom too late.

use std::path::Path;

use super::{ChangeKind, WatchError};
use crate::fs::Root;
use crate::words::entry::Inode;
use crate::words::path::RelPath;

/// Looks at new names in one home.
pub(super) struct Sight(Root);

impl Sight {
    pub(super) fn open(home: &Path) -> Result<Self, WatchError> {
        let root = Root::open(home)
            .map_err(|error| WatchError::Source { what: "the home", source: std::io::Error::other(error) })?;
        Ok(Self(root))
    }

    /// `kind`, with what its name leads to, if it is of a new name that can be one of several.
    pub(super) fn complete(&self, mut kind: ChangeKind) -> ChangeKind {
        match &mut kind {
            ChangeKind::Appeared { path, directory: false, seen } => *seen = self.at(path),
            ChangeKind::MovedTo { path, directory, seen, .. } if *directory != Some(true) => *seen = self.at(path),
            _ => {}
        }
        kind
    }

    fn at(&self, path: &RelPath) -> Option<Inode> {
        let stat = self.0.stat(path).ok()??;
        // A directory has one name, whatever its count of links.
        let nlink = if stat.is_directory() { 1 } else { stat.inode.nlink };
        Some(Inode { nlink, ..stat.inode })
    }
}
