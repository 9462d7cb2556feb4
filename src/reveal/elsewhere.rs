//! Large contents that are wanted ahead and lie elsewhere in the replica already: they are copied beside everything else.
//!
//! A generation that refers to a content copies it while it is staged, and all that comes after waits. So whoever asks for a large one ahead
//! gets it copied first, by a thread of its own; the copy then lies with what came ahead, and the generation only moves it. The file that is copied may
//! be revealed over meanwhile: what does not come out right is dropped, and the generation copies, or asks, as ever.
//!
//! **Invariant:** a copy in the making has a name that no other ever has in this process, and gets that of its content from whoever owns the replica.
//! A thread may go on for minutes when the link has ended for which it copies; by then the content may be here, and known to be whole.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ahead::WHOLE;
use super::content::NewFile;
use super::layered::Layered;
use super::{Replica, ReplicaError, layout};
use crate::fs::Root;
use crate::thought::tree::FileMemory;
use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;

/// How many of the files with a content are tried.
pub(super) const HOLDERS: usize = 4;

/// The number of the next copy.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A copy that is to be made.
pub struct Copying {
    number: u64,
    content: Digest,
    source: Layered,
    /// `stage/held`.
    here: Root,
}

/// A copy that was made, whole and durable.
pub struct Copied {
    number: u64,
    content: Digest,
    memory: Option<Box<FileMemory>>,
}

impl Copying {
    /// How many bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.source.length()
    }

    /// Makes it; `None` if what is there is another content by now.
    pub fn make(self) -> Result<Option<Copied>, ReplicaError> {
        let path = layout::copy(self.number);
        let made = self.copy(&path);
        if !matches!(made, Ok(Some(_))) {
            // Above all what could not be synced is never taken.
            self.here.remove_file(&path).ok();
        }
        made
    }

    fn copy(&self, path: &RelPath) -> Result<Option<Copied>, ReplicaError> {
        let Self { number, content, source, here } = self;
        let mut file = NewFile::create_closed_anew(here, path, source.length(), source.has_holes())?;
        file.copy(source).map_err(|source| ReplicaError::Payload { path: path.clone(), source: source.into() })?;
        let (hashed, memory, writer) = file.finish()?;
        if hashed.digest != *content {
            return Ok(None);
        }
        // The generation that takes it gives it its own.
        writer.dress(WHOLE, Timestamp::default())?;
        writer.sync_all()?;
        Ok(Some(Copied { number: *number, content: *content, memory }))
    }
}

impl Replica {
    /// The copy of `content` that is to be made for whoever wants it ahead; `None` if it is none of so many bytes, did come ahead, or is nowhere.
    pub fn copying(&self, content: Digest, from_bytes: u64) -> Result<Option<Copying>, ReplicaError> {
        if self.has_ahead(content)? {
            return Ok(None);
        }
        let Some(source) = self.elsewhere(content, |bytes| bytes >= from_bytes)? else { return Ok(None) };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Copying { number, content, source, here: self.root.enter(&layout::held())? }))
    }

    /// A file of the replica with `content` that is as long as is `wanted`. Whether it is what it is taken for shows when it is read.
    pub(super) fn elsewhere(
        &self,
        content: Digest,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<Option<Layered>, ReplicaError> {
        for path in self.tree().holders(content, HOLDERS)? {
            let Some(row) = self.tree().row(&path)?.filter(|row| wanted(row.entry.size())) else { continue };
            // Whatever is the matter with it, there may be another.
            let opened = self.unrevealed.open(&self.root, &path, row.inode.id.ino).ok().flatten();
            if let Some(file) = opened.filter(|file| file.length() == row.entry.size()) {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Puts a copy with what came ahead, unless its content is there, whole or not.
    pub fn copied(&mut self, copied: Copied) -> Result<(), ReplicaError> {
        let Copied { number, content, memory } = copied;
        let path = layout::copy(number);
        match self.ahead.here.rename(&path, &layout::digest(content)) {
            Ok(()) => self.ahead.keep(content, memory),
            Err(error) if error.is_existing() => self.ahead.here.remove_file(&path)?,
            // It was swept away with what is of no use.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
