//! Contents of which only the beginning is here: their streams were cut off, by a lost link or by a crash.
//!
//! A content is written from its start to its end, so what there is of it is a true beginning, and the rest is all that must be sent. The one that
//! was arriving when a link ended is kept open, with its hash so far; of those that another process has left the file is read once more. That a
//! power cut may have left something else there shows in the end, by the digest: then all of it goes, and it is sent whole.

use super::ahead::{Ahead, Holding};
use super::content::{NewFile, REMEMBERED_FROM};
use super::{Replica, ReplicaError, layout};
use crate::fs::{FsError, Stat};
use crate::thought::delta::ReadAt;
use crate::thought::wire::message::HeldContent;
use crate::words::entry::Digest;

/// The beginning of a content, still open.
pub(super) struct Begun {
    pub(super) content: Digest,
    file: NewFile,
}

/// True for a content that is not whole.
pub(super) fn is_begun(stat: &Stat) -> bool {
    stat.mode == 0
}

impl Ahead {
    /// How many bytes there are of a content that is not whole.
    fn begun(&self, content: Digest) -> Result<Option<u64>, FsError> {
        if let Some(begun) = self.begun.as_ref().filter(|begun| begun.content == content) {
            return Ok(Some(begun.file.length()));
        }
        let stat = if self.has_others { self.here.stat(&layout::digest(content))? } else { None };
        Ok(stat.filter(|stat| stat.is_file() && is_begun(stat) && stat.size >= REMEMBERED_FROM).map(|stat| stat.size))
    }

    /// What there is of `content` and is open, if it goes on. Any other of it is forgotten.
    pub(super) fn go_on(&mut self, content: &HeldContent) -> Result<Option<NewFile>, ReplicaError> {
        if content.from > 0 && (self.begun(content.digest)? != Some(content.from) || content.from >= content.size) {
            let path = layout::digest(content.digest);
            return Err(ReplicaError::Payload { path, source: "it goes on where no beginning of it ends".into() });
        }
        self.taken(content.digest);
        let begun = self.begun.take_if(|begun| begun.content == content.digest).map(|begun| begun.file);
        Ok(begun.filter(|_| content.from > 0).map(|file| file.sparse(content.sparse)))
    }
}

impl Replica {
    /// How many bytes are here of a content that is not whole, as far as it pays to go on there.
    pub fn begun(&self, content: Digest) -> Result<Option<u64>, ReplicaError> {
        Ok(self.ahead.begun(content)?)
    }

    /// The stream of a content was cut off: its beginning is kept, unless it is little.
    pub fn cut_off(&mut self, holding: Holding) {
        if holding.file.as_ref().is_some_and(|file| file.length() < REMEMBERED_FROM) {
            return holding.discard();
        }
        let Holding { content, file, .. } = holding;
        match file {
            Some(file) => {
                let begun = Begun { content: content.digest, file };
                // Of an earlier one the file stays.
                self.ahead.has_others |= self.ahead.begun.replace(begun).is_some();
            }
            // Nothing was made of it, or not all of its beginning was read, which stays.
            None => self.ahead.has_others |= content.from > 0,
        }
    }

    /// A content of the replica that a delta may copy from. Whether it is what it is taken for shows when the result is checked.
    pub fn base(&self, content: Digest, length: u64) -> Result<Option<Box<dyn ReadAt + Send>>, ReplicaError> {
        Ok(self.elsewhere(content, |bytes| bytes == length)?.map(|file| Box::new(file) as Box<dyn ReadAt + Send>))
    }

    /// True if contents are here that came ahead, whole or not.
    pub fn holds(&self) -> bool {
        self.ahead.has_others || !self.ahead.verified.is_empty() || self.ahead.begun.is_some()
    }

    /// Drops what came ahead and was here already when this was called last, as no generation took it since; how many are left. What is
    /// `arriving` stays.
    pub fn age_held(&mut self, arriving: &[Digest]) -> Result<usize, ReplicaError> {
        let old = std::mem::take(&mut self.ahead.old);
        self.sweep_held(&|content| !old.contains(&content) || arriving.contains(&content))?;
        self.ahead.old = self.ahead.all()?.into_iter().filter_map(|(_, content)| content).collect();
        Ok(self.ahead.old.len())
    }

    /// Drops the contents that came ahead, but for those that are `wanted`; how many went.
    pub fn sweep_held(&mut self, wanted: &dyn Fn(Digest) -> bool) -> Result<u64, ReplicaError> {
        let mut swept = 0;
        self.ahead.begun.take_if(|begun| !wanted(begun.content));
        for (name, content) in self.ahead.all()? {
            if content.is_none_or(|content| !wanted(content)) {
                self.ahead.here.remove_tree(&name)?;
                content.and_then(|content| self.ahead.taken(content));
                swept += 1;
            }
        }
        Ok(swept)
    }
}
