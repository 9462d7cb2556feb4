//! Contents that came ahead: kept by digest until a generation refers to them, so that a catch-up that is cut off sends nothing twice.
//!
//! A content that is still arriving has no permission at all, one that is whole has some: so no rename is needed to tell them apart.
//! Whole ones are given the mode and time of the entry they were sent for, which as a rule is the one that will take them. What was cut off is
//! gone on with (see `begun`).
//!
//! **Memory:** the digests of [`VERIFIED_CAP`] contents, 16 MiB at most, and what is remembered of [`REMEMBERED_FILES`] large ones. What is beyond,
//! or was here when the replica was opened, is hashed once more when it is taken: nothing says that its bytes survived a power cut.

use std::collections::{HashMap, HashSet};
use std::io;

use super::begun::{Begun, is_begun};
use super::content::NewFile;
use super::stage::REMEMBERED_FILES;
use super::{Replica, ReplicaError, layout};
use crate::fs::{FileReader, FsError, Root};
use crate::thought::delta::ReadAt;
use crate::thought::delta::pack::Unpacker;
use crate::thought::delta::patch::{PatchError, Patcher};
use crate::thought::tree::FileMemory;
use crate::thought::wire::message::{HeldContent, UNTOLD_LENGTH};
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// How many contents are known to be whole without looking at them.
const VERIFIED_CAP: usize = 200_000;
/// The owner may read a content that is whole, whatever its entry says: it may have to be hashed again.
pub(super) const WHOLE: u16 = 0o400;

/// A content on its way in.
pub struct Holding {
    pub(super) content: HeldContent,
    pub(super) file: NewFile,
    unpacker: Unpacker,
    /// What makes it of a delta, and of which content.
    patch: Option<(Patcher, Box<dyn ReadAt + Send>)>,
    /// How many bytes of payload are still to come; `None` if that was not told.
    left: Option<u64>,
}

impl Holding {
    pub(super) fn path(&self) -> RelPath {
        layout::digest(self.content.digest)
    }

    /// Which content.
    pub fn digest(&self) -> Digest {
        self.content.digest
    }

    /// True if the bytes that come are only as good as what they are laid upon: a beginning, or the base of a delta.
    fn builds_on_others(&self) -> bool {
        self.content.from > 0 || self.patch.is_some()
    }

    fn refused(&self, source: Box<dyn std::error::Error + Send + Sync>) -> ReplicaError {
        ReplicaError::Payload { path: self.path(), source }
    }
}

/// The contents that are here.
pub(super) struct Ahead {
    /// `stage/held`, in which a digest is a path.
    pub(super) here: Root,
    /// Those received and checked since the replica was opened, with what to remember of large ones.
    pub(super) verified: HashMap<Digest, Option<Box<FileMemory>>>,
    /// How many of them there is something to remember of.
    remembered: usize,
    /// There may be others.
    pub(super) has_others: bool,
    /// The one whose stream was cut off last.
    pub(super) begun: Option<Begun>,
    /// What was here when they were last looked at.
    pub(super) old: HashSet<Digest>,
}

impl Ahead {
    /// What an earlier process left.
    pub(super) fn open(root: &Root) -> Result<Self, FsError> {
        let here = root.enter(&layout::held())?;
        let has_others = !here.list(&RelPath::root())?.is_empty();
        Ok(Self { here, verified: HashMap::new(), remembered: 0, has_others, begun: None, old: HashSet::new() })
    }

    fn has(&self, content: Digest) -> Result<bool, FsError> {
        if self.verified.contains_key(&content) {
            return Ok(true);
        }
        Ok(self.has_others && self.here.stat(&layout::digest(content))?.is_some_and(|stat| !is_begun(&stat)))
    }

    /// Notes that `content` is no longer here; what is known of it if it was checked.
    pub(super) fn taken(&mut self, content: Digest) -> Option<Option<Box<FileMemory>>> {
        let taken = self.verified.remove(&content)?;
        self.remembered -= usize::from(taken.is_some());
        Some(taken)
    }

    fn begin(&mut self, content: &HeldContent) -> Result<NewFile, FsError> {
        let path = layout::digest(content.digest);
        self.taken(content.digest);
        self.begun.take_if(|begun| begun.content == content.digest);
        NewFile::create_closed_anew(&self.here, &path, content.size, content.sparse)
    }

    pub(super) fn keep(&mut self, content: Digest, memory: Option<Box<FileMemory>>) {
        let is_full = self.verified.len() >= VERIFIED_CAP || (memory.is_some() && self.remembered >= REMEMBERED_FILES);
        if is_full {
            self.has_others = true;
        } else {
            self.remembered += usize::from(memory.is_some());
            self.verified.insert(content, memory);
        }
    }

    /// All that lies here, with the content that it is by its name.
    pub(super) fn all(&self) -> Result<Vec<(RelPath, Option<Digest>)>, FsError> {
        let listed = self.here.list(&RelPath::root())?;
        Ok(listed.iter().map(|(name, _)| (RelPath::root().join(name), layout::content_of(name))).collect())
    }

    /// True if what is made there has no extended attributes of its own accord.
    pub(super) fn makes_bare(&self) -> Result<bool, FsError> {
        self.here.makes_bare()
    }

    fn clear(&mut self) -> Result<(), FsError> {
        for (name, _) in self.here.list(&RelPath::root())? {
            self.here.remove_tree(&RelPath::root().join(&name))?;
        }
        self.verified = HashMap::new();
        self.remembered = 0;
        self.has_others = false;
        self.begun = None;
        Ok(())
    }
}

impl Replica {
    /// True if a content is here: come ahead, or in the replica.
    pub fn has(&self, content: Digest) -> Result<bool, ReplicaError> {
        Ok(self.has_ahead(content)? || !self.tree().holders(content, 1)?.is_empty())
    }

    /// Begins to take a content in, or goes on where it was cut off.
    pub fn hold(&mut self, content: HeldContent) -> Result<Holding, ReplicaError> {
        let left = Some(content.payload.length).filter(|length| *length != UNTOLD_LENGTH);
        let rest = content.size.saturating_sub(content.from);
        let patch = match content.base {
            Some((base, length)) => {
                let path = layout::digest(content.digest);
                let opened = self.base(base, length)?.ok_or(ReplicaError::Lacking { path, content: base })?;
                Some((Patcher::new(length, rest), opened))
            }
            None => None,
        };
        let file = match content.from {
            0 => self.ahead.begin(&content)?,
            _ => self.ahead.go_on(&content)?,
        };
        // How long a delta is shows when it ends; what comes of it is bounded.
        let unpacked = if patch.is_some() { u64::MAX } else { content.payload.unpacked };
        Ok(Holding { unpacker: Unpacker::new(unpacked), content, file, patch, left })
    }

    /// Takes the next bytes. When all are here that were announced, checks the digest and keeps the content: `None`.
    /// What came of one that fails goes.
    pub fn hold_payload(&mut self, holding: Holding, bytes: &[u8]) -> Result<Option<Holding>, ReplicaError> {
        let path = holding.path();
        let taken = self.take_held_payload(holding, bytes);
        if taken.is_err() {
            // It is no worse than litter, which a later one with this digest replaces.
            self.ahead.here.remove_file(&path).ok();
        }
        taken
    }

    fn take_held_payload(&mut self, mut holding: Holding, bytes: &[u8]) -> Result<Option<Holding>, ReplicaError> {
        if let Some(left) = holding.left {
            let rest = left.checked_sub(bytes.len() as u64);
            holding.left = Some(rest.ok_or_else(|| holding.refused("it is longer than announced".into()))?);
        }
        let Holding { file, patch, unpacker, .. } = &mut holding;
        let mut unfit: Option<PatchError> = None;
        let mut write = |piece: &[u8]| -> io::Result<()> {
            let Some((patcher, base)) = patch else { return file.write(piece) };
            patcher.feed(piece, &**base, &mut |out| file.write(out)).map_err(|error| {
                unfit = Some(error);
                io::ErrorKind::InvalidData.into()
            })
        };
        let fed = unpacker.feed(bytes, &mut write);
        fed.map_err(|error| match unfit {
            Some(unfit) => holding.refused(Box::new(unfit)),
            None => holding.refused(Box::new(error)),
        })?;
        if holding.left != Some(0) {
            return Ok(Some(holding));
        }
        self.keep_held(holding)?;
        Ok(None)
    }

    /// Ends a content whose length was not told: keeps it if it `is_whole`, forgets it otherwise.
    pub fn end_held(&mut self, holding: Holding, is_whole: bool) -> Result<(), ReplicaError> {
        if holding.left.is_some() {
            return Err(holding.refused("it ended before all that was announced had come".into()));
        }
        match is_whole {
            true => self.keep_held(holding),
            false => Ok(self.ahead.here.remove_file(&holding.path())?),
        }
    }

    fn keep_held(&mut self, holding: Holding) -> Result<(), ReplicaError> {
        let path = holding.path();
        let builds_on_others = holding.builds_on_others();
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| ReplicaError::Payload { path: path.clone(), source };
        let Holding { content, file, unpacker, patch, .. } = holding;
        match patch {
            Some((patcher, _)) => patcher.finish().map_err(|error| failed(Box::new(error)))?,
            None => unpacker.finish().map_err(|error| failed(Box::new(error)))?,
        }
        let (hashed, memory, writer) = file.finish()?;
        if (hashed.digest, hashed.size) != (content.digest, content.size) {
            self.ahead.here.remove_file(&path)?;
            if builds_on_others {
                // It is asked for once more, and comes whole.
                tracing::warn!(content = %content.digest, "what a content was made from here was not what it should be");
                return Ok(());
            }
            return Err(failed("it does not have the digest announced for it".into()));
        }
        writer.dress(content.mode | WHOLE, content.mtime)?;
        self.ahead.keep(content.digest, memory);
        Ok(())
    }

    /// True if a content came ahead and is whole.
    pub fn has_ahead(&self, content: Digest) -> Result<bool, ReplicaError> {
        Ok(self.ahead.has(content)?)
    }

    /// The file of a content that came ahead and is whole, to be synced.
    pub fn held_file(&self, content: Digest) -> Result<Option<FileReader>, ReplicaError> {
        match self.has_ahead(content)? {
            true => Ok(Some(self.ahead.here.open_read(&layout::digest(content))?)),
            false => Ok(None),
        }
    }

    /// Drops all contents that came ahead.
    pub fn drop_held(&mut self) -> Result<(), ReplicaError> {
        Ok(self.ahead.clear()?)
    }
}
