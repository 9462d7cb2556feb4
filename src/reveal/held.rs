//! Content that the standby has already: under another path, or come ahead of the generation that needs it.

use super::ReplicaError;
use super::content::NewFile;
use super::layout::{self, Area};
use super::stage::Stager;
use crate::fs::{FileReader, Root};
use crate::thought::store::Store;
use crate::thought::tree::Tree;
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// How many of the files with a content are tried when it is needed.
const HOLDERS: usize = 4;

impl Stager {
    /// Takes content that is here already: one that came ahead is moved, the first time; any other is copied.
    #[expect(clippy::too_many_arguments, reason = "the fields of one action, taken apart once")]
    pub(super) fn take_held<S: Store>(
        &mut self,
        root: &Root,
        tree: &Tree<S>,
        operation: u32,
        slot: &RelPath,
        path: &RelPath,
        digest: Digest,
        sparse: bool,
    ) -> Result<(), ReplicaError> {
        if !self.used.contains_key(&digest) && root.stat(&layout::held_content(digest))?.is_some() {
            root.rename(&layout::held_content(digest), &layout::slot(Area::Stage, self.position, operation))?;
            self.used.insert(digest, operation);
            return Ok(());
        }
        for candidate in self.candidates(tree, digest)? {
            let Ok(source) = root.open_read(&candidate) else { continue };
            let mut file = NewFile::create(&self.here, slot, source.stat()?.size, sparse)?;
            file.copy(&source).map_err(|source| ReplicaError::Payload { path: path.clone(), source: source.into() })?;
            let (hashed, memory) = file.finish()?;
            if hashed.digest == digest {
                self.remember(operation, memory);
                return Ok(());
            }
            // Changed by hand since it was taken into the tree.
            self.here.remove_file(slot)?;
        }
        Err(ReplicaError::Lacking { path: path.clone(), content: digest })
    }

    /// Opens the base of a delta. Whether it is what it is taken for shows when the result is checked.
    pub(super) fn open_base<S: Store>(
        &self,
        root: &Root,
        tree: &Tree<S>,
        path: &RelPath,
        digest: Digest,
        length: u64,
    ) -> Result<FileReader, ReplicaError> {
        for candidate in self.candidates(tree, digest)? {
            if let Ok(file) = root.open_read(&candidate)
                && file.stat()?.size == length
            {
                return Ok(file);
            }
        }
        Err(ReplicaError::Lacking { path: path.clone(), content: digest })
    }

    /// Where a content should be: come ahead, staged, or in the replica.
    fn candidates<S: Store>(&self, tree: &Tree<S>, digest: Digest) -> Result<Vec<RelPath>, ReplicaError> {
        let staged = self.used.get(&digest).map(|operation| layout::slot(Area::Stage, self.position, *operation));
        let ahead = [layout::held_content(digest)];
        Ok(staged.into_iter().chain(ahead).chain(tree.holders(digest, HOLDERS)?).collect())
    }
}
