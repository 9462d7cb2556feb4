//! Contents that came ahead: kept by digest until a generation refers to them.

use std::io;

use super::content::NewFile;
use super::layout;
use super::{Replica, ReplicaError};
use crate::thought::delta::pack::Unpacker;
use crate::thought::wire::message::HeldContent;
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// A content on its way in.
pub struct Holding {
    content: HeldContent,
    file: NewFile,
    unpacker: Unpacker,
    left: u64,
}

impl Replica {
    /// True if a content is here: come ahead, or in the replica.
    pub fn has(&self, content: Digest) -> Result<bool, ReplicaError> {
        if self.root().stat(&layout::held_content(content))?.is_some() {
            return Ok(true);
        }
        Ok(!self.tree().holders(content, 1)?.is_empty())
    }

    /// Begins to take a content in.
    pub fn hold(&self, content: HeldContent) -> Result<Holding, ReplicaError> {
        let path = temporary(content.digest);
        self.root().remove_tree(&path)?;
        let file = NewFile::create(self.root(), &path, content.size, content.sparse)?;
        let (unpacker, left) = (Unpacker::new(content.payload.unpacked), content.payload.length);
        Ok(Holding { content, file, unpacker, left })
    }

    /// Takes the next bytes; when all are here, checks the digest and keeps the content: `None`.
    pub fn hold_payload(&self, mut holding: Holding, bytes: &[u8]) -> Result<Option<Holding>, ReplicaError> {
        let path = temporary(holding.content.digest);
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| ReplicaError::Payload { path: path.clone(), source };
        holding.left =
            holding.left.checked_sub(bytes.len() as u64).ok_or_else(|| failed("it is longer than announced".into()))?;
        let file = &mut holding.file;
        let mut write = |piece: &[u8]| -> io::Result<()> { file.write(piece) };
        holding.unpacker.feed(bytes, &mut write).map_err(|error| failed(Box::new(error)))?;
        if holding.left > 0 {
            return Ok(Some(holding));
        }
        holding.unpacker.finish().map_err(|error| failed(Box::new(error)))?;
        let (hashed, _) = holding.file.finish()?;
        if (hashed.digest, hashed.size) != (holding.content.digest, holding.content.size) {
            self.root().remove_tree(&path)?;
            return Err(failed("it does not have the digest announced for it".into()));
        }
        let kept = layout::held_content(holding.content.digest);
        match self.root().rename(&path, &kept) {
            Err(error) if error.is_existing() => {
                self.root().remove_tree(&path)?;
            }
            moved => moved?,
        }
        Ok(None)
    }

    /// Drops all contents that came ahead.
    pub fn drop_held(&self) -> Result<(), ReplicaError> {
        for (name, _) in self.root().list(&layout::held())? {
            self.root().remove_tree(&layout::held().join(&name))?;
        }
        Ok(())
    }
}

fn temporary(content: Digest) -> RelPath {
    layout::held_part(content)
}
