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
use std::sync::Arc;

use super::begun::{Begun, is_begun};
use super::content::NewFile;
use super::stage::REMEMBERED_FILES;
use super::{Replica, ReplicaError, layout};
use crate::fs::{FsError, Root};
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

/// A content on its way in. It is fed beside the replica, which knows nothing of it until it is whole.
pub struct Holding {
    pub(super) content: HeldContent,
    /// `stage/held`.
    here: Arc<Root>,
    /// `None` before the first bytes are there.
    pub(super) file: Option<NewFile>,
    unpacker: Unpacker,
    /// What makes it of a delta, and of which content.
    patch: Option<(Patcher, Box<dyn ReadAt + Send>)>,
    /// How many bytes of payload are still to come; `None` if that was not told.
    left: Option<u64>,
}

/// A content that is whole.
pub struct Whole {
    content: Digest,
    memory: Option<Box<FileMemory>>,
}

/// What came of feeding a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// More is to come.
    Part,
    /// All that was announced is here.
    All,
    /// It was given up; what is here is a beginning.
    Stopped,
}

impl Holding {
    pub(super) fn path(&self) -> RelPath {
        layout::digest(self.content.digest)
    }

    /// True if the bytes that come are only as good as what they are laid upon: a beginning, or the base of a delta.
    fn builds_on_others(&self) -> bool {
        self.content.from > 0 || self.patch.is_some()
    }

    fn refused(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReplicaError {
        ReplicaError::Payload { path: self.path(), source: source.into() }
    }

    /// The file, made or opened; `None` if that was given up, for a beginning that another process has left is read.
    fn open(&mut self, is_over: &dyn Fn() -> bool) -> Result<Option<&mut NewFile>, ReplicaError> {
        if self.file.is_none() {
            let (path, HeldContent { size, sparse, from, .. }) = (self.path(), &self.content);
            self.file = match from {
                0 => Some(NewFile::create_closed_anew(&self.here, &path, *size, *sparse)?),
                _ => NewFile::go_on(&self.here, &path, *size, is_over)?.map(|file| file.sparse(*sparse)),
            };
        }
        Ok(self.file.as_mut())
    }

    /// Takes the next bytes. A few of them can stand for very many, so it is asked now and then whether that `is_over`. A content that fails is to
    /// be [discarded](Self::discard).
    pub fn feed(&mut self, bytes: &[u8], is_over: &dyn Fn() -> bool) -> Result<Fed, ReplicaError> {
        if let Some(left) = self.left {
            let rest = left.checked_sub(bytes.len() as u64);
            self.left = Some(rest.ok_or_else(|| self.refused("it is longer than announced"))?);
        }
        if self.open(is_over)?.is_none() {
            return Ok(Fed::Stopped);
        }
        let Self { file: Some(file), patch, unpacker, .. } = self else { return Ok(Fed::Stopped) };
        let mut unfit: Option<PatchError> = None;
        let mut is_stopped = false;
        let mut put = |piece: &[u8]| -> io::Result<()> {
            is_stopped |= is_over();
            if is_stopped { Err(io::ErrorKind::Interrupted.into()) } else { file.write(piece) }
        };
        let mut write = |piece: &[u8]| -> io::Result<()> {
            let Some((patcher, base)) = patch else { return put(piece) };
            patcher.feed(piece, &**base, &mut put).map_err(|error| {
                unfit = Some(error);
                io::ErrorKind::InvalidData.into()
            })
        };
        let fed = unpacker.feed(bytes, &mut write);
        match (fed, unfit) {
            (Ok(()), _) if self.left == Some(0) => Ok(Fed::All),
            (Ok(()), _) => Ok(Fed::Part),
            (Err(_), _) if is_stopped => Ok(Fed::Stopped),
            (Err(_), Some(unfit)) => Err(self.refused(unfit)),
            (Err(error), None) => Err(self.refused(error)),
        }
    }

    /// Ends it, checks the digest, and makes it durable if it is to be. `None` if what it was made of here was not what it should be: it is gone, is asked for once more, and comes
    /// whole. What came of one that fails goes.
    pub fn finish(self, syncs: bool) -> Result<Option<Whole>, ReplicaError> {
        let (here, path) = (Arc::clone(&self.here), self.path());
        let finished = self.check(syncs);
        if !matches!(finished, Ok(Some(_))) {
            // Above all what could not be synced is never taken: the kernel may have dropped what it could not write, and says so only once. If it
            // cannot be removed it is no worse than litter, which a later one with this digest replaces.
            here.remove_file(&path).ok();
        }
        finished
    }

    fn check(mut self, syncs: bool) -> Result<Option<Whole>, ReplicaError> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(self.refused("it ended before all that was announced had come"));
        }
        self.open(&|| false)?;
        let (path, builds_on_others) = (self.path(), self.builds_on_others());
        let Self { content, file: Some(file), unpacker, patch, .. } = self else { return Ok(None) };
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| ReplicaError::Payload { path: path.clone(), source };
        match patch {
            Some((patcher, _)) => patcher.finish().map_err(|error| failed(Box::new(error)))?,
            None => unpacker.finish().map_err(|error| failed(Box::new(error)))?,
        }
        let (hashed, memory, writer) = file.finish()?;
        if (hashed.digest, hashed.size) != (content.digest, content.size) {
            if builds_on_others {
                tracing::warn!(content = %content.digest, "what a content was made from here was not what it should be");
                return Ok(None);
            }
            return Err(failed("it does not have the digest announced for it".into()));
        }
        writer.dress(content.mode | WHOLE, content.mtime)?;
        if syncs {
            writer.sync_all()?;
        }
        Ok(Some(Whole { content: content.digest, memory }))
    }

    /// Forgets it, as if nothing had come.
    pub fn discard(self) {
        if self.file.is_some() {
            self.here.remove_file(&self.path()).ok();
        }
    }
}

/// The contents that are here.
pub(super) struct Ahead {
    /// `stage/held`, in which a digest is a path.
    pub(super) here: Arc<Root>,
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
        let here = Arc::new(root.enter(&layout::held())?);
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
        let file = self.ahead.go_on(&content)?;
        // How long a delta is shows when it ends; what comes of it is bounded.
        let unpacked = if patch.is_some() { u64::MAX } else { content.payload.unpacked };
        Ok(Holding {
            here: Arc::clone(&self.ahead.here),
            unpacker: Unpacker::new(unpacked),
            content,
            file,
            patch,
            left,
        })
    }

    /// Takes note of a content that is whole.
    pub fn keep(&mut self, whole: Whole) -> Result<(), ReplicaError> {
        let Whole { content, memory } = whole;
        // All that is held may have been dropped meanwhile.
        if self.ahead.here.stat(&layout::digest(content))?.is_some() {
            self.ahead.keep(content, memory);
        }
        Ok(())
    }

    /// True if a content came ahead and is whole.
    pub fn has_ahead(&self, content: Digest) -> Result<bool, ReplicaError> {
        Ok(self.ahead.has(content)?)
    }

    /// Drops all contents that came ahead.
    pub fn drop_held(&mut self) -> Result<(), ReplicaError> {
        Ok(self.ahead.clear()?)
    }
}
