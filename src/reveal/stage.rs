//! Staging: the new content of a generation, made beside the replica.

use std::collections::HashMap;
use std::io;

use super::ReplicaError;
use super::layout::{self, Area};
use crate::fs::{FileReader, FileWriter, FsError, Privilege, Root, Unheld, XattrPolicy};
use crate::thought::delta::pack::Unpacker;
use crate::thought::delta::patch::Patcher;
use crate::thought::delta::probe::{ProbeCollector, ProbePlan};
use crate::thought::delta::{ReadAt, Span};
use crate::thought::digest::{Content as Hashed, ContentHasher};
use crate::thought::generation::{Action, Content, Operation};
use crate::thought::store::Store;
use crate::thought::tree::{FileMemory, Tree};
use crate::words::entry::{Body, Digest, Entry};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How much is read at a time when content is copied or hashed.
const PIECE: usize = 256 * 1024;
/// Contents from this length on are remembered, so that an append needs no second reading.
const REMEMBERED_FROM: u64 = 1 << 20;

/// What the standby could not set for lack of privilege: counted once per staging.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnheldCounts {
    /// Entries whose owner or group could not be set.
    pub owner: u64,
    /// Entries some of whose mode bits could not be set.
    pub mode: u64,
    /// Extended attributes that could not be set.
    pub xattrs: u64,
}

impl UnheldCounts {
    /// Adds what one entry lacks.
    pub fn add(&mut self, unheld: &Unheld) {
        self.owner += u64::from(unheld.owner || unheld.group);
        self.mode += u64::from(unheld.mode != 0);
        self.xattrs += unheld.xattrs.len() as u64;
    }
}

/// What a generation needs beside the tree while it is staged.
pub struct Stager {
    position: Position,
    xattrs: XattrPolicy,
    privilege: Privilege,
    current: Option<Current>,
    /// Contents that came ahead and were used already: where the staged file is.
    used: HashMap<Digest, u32>,
    /// Renames of this generation: new path, old path.
    renames: Vec<(RelPath, RelPath)>,
    /// Of large files: what to remember of them.
    pub(super) memory: HashMap<u32, Box<FileMemory>>,
    /// What has been written and not synced one by one.
    pub(super) unsynced: Vec<RelPath>,
    pub(super) staged: u64,
    pub(super) unheld: UnheldCounts,
}

/// The operation whose payload is arriving.
struct Current {
    operation: Operation,
    unpacker: Unpacker,
    left: u64,
    making: Making,
}

/// What its payload makes.
enum Making {
    /// A new file.
    File(NewFile),
    /// A new file, from a delta.
    Patched { file: NewFile, patcher: Patcher, base: FileReader },
    /// The bytes of an edit, kept as they are until the reveal.
    Spans { file: FileWriter, at: u64 },
}

/// A file being written and hashed.
pub(super) struct NewFile {
    writer: FileWriter,
    hasher: ContentHasher,
    probes: Option<ProbeCollector>,
    at: u64,
    sparse: bool,
}

impl NewFile {
    pub(super) fn create(root: &Root, path: &RelPath, size: u64, sparse: bool) -> Result<Self, FsError> {
        let writer = root.create_file(path)?;
        let plan = ProbePlan::new(size, &[0; 32], &[]);
        let probes = plan.as_ref().map(ProbeCollector::new);
        Ok(Self { writer, hasher: ContentHasher::new(), probes, at: 0, sparse })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        if let Some(probes) = &mut self.probes {
            probes.update(self.at, bytes);
        }
        let written = if self.sparse {
            self.writer.write_sparse_at(bytes, self.at)
        } else {
            self.writer.write_at(bytes, self.at)
        };
        self.at += bytes.len() as u64;
        written.map_err(io::Error::other)
    }

    pub(super) fn finish(self) -> Result<(Hashed, Option<Box<FileMemory>>, FileWriter), FsError> {
        if self.sparse {
            self.writer.set_len(self.at)?;
        }
        let hashed = self.hasher.finish();
        let probes = self.probes.and_then(ProbeCollector::finish).filter(|_| hashed.size >= REMEMBERED_FROM);
        let memory = probes.map(|probes| Box::new(FileMemory { frontier: hashed.frontier.clone(), probes }));
        Ok((hashed, memory, self.writer))
    }
}

impl Stager {
    pub(super) fn new(position: Position, xattrs: XattrPolicy, privilege: Privilege) -> Self {
        Self {
            position,
            xattrs,
            privilege,
            current: None,
            used: HashMap::new(),
            renames: Vec::new(),
            memory: HashMap::new(),
            unsynced: Vec::new(),
            staged: 0,
            unheld: UnheldCounts::default(),
        }
    }

    /// The generation being staged.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The renames staged so far: new path, old path.
    pub(super) fn renames(&self) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        self.renames.iter().map(|(to, from)| (to, from))
    }

    /// True if the payload of the last operation has not arrived whole.
    pub fn awaits_payload(&self) -> bool {
        self.current.is_some()
    }

    /// Stages one operation; its payload, if it has one, comes next through [`Stager::payload`].
    pub(super) fn operation<S: Store>(
        &mut self,
        root: &Root,
        tree: &Tree<S>,
        operation: Operation,
    ) -> Result<(), ReplicaError> {
        if self.current.is_some() {
            return Err(ReplicaError::Header { position: self.position, what: "a payload is missing" });
        }
        let slot = layout::slot(Area::Stage, self.position, operation.id);
        match &operation.action {
            Action::Create { path, entry, content, sparse } => {
                self.create(root, tree, &operation, &slot, path, entry, content, *sparse)
            }
            Action::Edit { path, .. } => {
                let path = path.clone();
                let file = root.create_file(&slot)?;
                self.expect(operation, &path, |_| Ok(Making::Spans { file, at: 0 }))
            }
            Action::Rename { from, to } => {
                self.renames.push((to.clone(), from.clone()));
                Ok(())
            }
            _ if operation.payload.is_some() => {
                Err(ReplicaError::Header { position: self.position, what: "a payload belongs to nothing" })
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one action, taken apart once")]
    fn create<S: Store>(
        &mut self,
        root: &Root,
        tree: &Tree<S>,
        operation: &Operation,
        slot: &RelPath,
        path: &RelPath,
        entry: &Entry,
        content: &Content,
        sparse: bool,
    ) -> Result<(), ReplicaError> {
        match (&entry.body, content) {
            (Body::Directory, Content::None) => {
                root.make_directory(slot, 0o700)?;
                self.attributes(root, slot, entry)
            }
            (Body::Symlink { target }, Content::None) => {
                root.make_symlink(slot, target)?;
                self.attributes(root, slot, entry)
            }
            (Body::File { size: 0, .. }, Content::None) => {
                root.create_file(slot)?;
                self.attributes(root, slot, entry)
            }
            (Body::File { size, .. }, Content::Whole) => {
                let file = NewFile::create(root, slot, *size, sparse)?;
                self.expect(operation.clone(), path, |_| Ok(Making::File(file)))
            }
            (Body::File { size, .. }, Content::Delta { base, base_length }) => {
                let base = self.open_held(root, tree, path, *base)?;
                let file = NewFile::create(root, slot, *size, sparse)?;
                let patcher = Patcher::new(*base_length, *size);
                self.expect(operation.clone(), path, |_| Ok(Making::Patched { file, patcher, base }))
            }
            (Body::File { digest, .. }, Content::Held) => {
                self.take_held(root, tree, operation.id, slot, path, *digest, sparse)?;
                self.attributes(root, slot, entry)
            }
            _ => Err(ReplicaError::Header {
                position: self.position,
                what: "an entry and its content do not go together",
            }),
        }
    }

    fn expect(
        &mut self,
        operation: Operation,
        path: &RelPath,
        making: impl FnOnce(&Operation) -> Result<Making, ReplicaError>,
    ) -> Result<(), ReplicaError> {
        let Some(payload) = operation.payload else {
            let source = "there is none".into();
            return Err(ReplicaError::Payload { path: path.clone(), source });
        };
        let making = making(&operation)?;
        self.current =
            Some(Current { unpacker: Unpacker::new(payload.unpacked), left: payload.length, making, operation });
        Ok(())
    }

    /// Takes the next bytes of the payload; true when it is whole.
    pub(super) fn payload(&mut self, root: &Root, bytes: &[u8]) -> Result<bool, ReplicaError> {
        let Some(mut current) = self.current.take() else {
            return Err(ReplicaError::Header { position: self.position, what: "a payload belongs to nothing" });
        };
        let path = current.operation.action.path().clone();
        let malformed =
            |source: Box<dyn std::error::Error + Send + Sync>| ReplicaError::Payload { path: path.clone(), source };
        current.left = current
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| malformed("it is longer than announced".into()))?;
        let making = &mut current.making;
        let mut refused = None;
        current
            .unpacker
            .feed(bytes, &mut |piece| match making {
                Making::File(file) => file.write(piece),
                Making::Patched { file, patcher, base } => {
                    let fed = patcher.feed(piece, &Base(base), &mut |out| file.write(out));
                    fed.map_err(|error| {
                        refused = Some(error);
                        io::ErrorKind::InvalidData.into()
                    })
                }
                Making::Spans { file, at } => {
                    let written = file.write_at(piece, *at);
                    *at += piece.len() as u64;
                    written.map_err(io::Error::other)
                }
            })
            .map_err(|error| match refused.take() {
                Some(refused) => malformed(Box::new(refused)),
                None => malformed(Box::new(error)),
            })?;
        if current.left > 0 {
            self.current = Some(current);
            return Ok(false);
        }
        let Current { operation, unpacker, making, .. } = current;
        unpacker.finish().map_err(|error| malformed(Box::new(error)))?;
        let slot = layout::slot(Area::Stage, self.position, operation.id);
        match (&operation.action, making) {
            (Action::Create { entry, .. }, Making::File(file)) => {
                self.finish_file(root, &operation, &slot, file, entry)?
            }
            (Action::Create { entry, .. }, Making::Patched { file, patcher, .. }) => {
                patcher.finish().map_err(|error| malformed(Box::new(error)))?;
                self.finish_file(root, &operation, &slot, file, entry)?;
            }
            (Action::Edit { .. }, Making::Spans { file, .. }) => {
                drop(file);
                self.unsynced.push(slot);
                self.staged += 1;
            }
            _ => return Err(ReplicaError::Header { position: self.position, what: "a payload belongs to nothing" }),
        }
        Ok(true)
    }

    fn finish_file(
        &mut self,
        root: &Root,
        operation: &Operation,
        slot: &RelPath,
        file: NewFile,
        entry: &Entry,
    ) -> Result<(), ReplicaError> {
        let (hashed, memory, writer) = file.finish()?;
        if Some(hashed.digest) != entry.content() || hashed.size != entry.size() {
            let path = operation.action.path().clone();
            return Err(ReplicaError::Mismatch { path, position: self.position });
        }
        if let Some(memory) = memory {
            self.memory.insert(operation.id, memory);
        }
        drop(writer);
        self.attributes(root, slot, entry)
    }

    fn attributes(&mut self, root: &Root, slot: &RelPath, entry: &Entry) -> Result<(), ReplicaError> {
        let unheld = root.set_attributes(slot, entry, &self.xattrs, &self.privilege)?;
        self.unheld.add(&unheld);
        self.unsynced.push(slot.clone());
        self.staged += 1;
        Ok(())
    }

    /// Takes content that is here already: one that came ahead is moved, the first time; any other is copied.
    #[expect(clippy::too_many_arguments, reason = "the fields of one action, taken apart once")]
    fn take_held<S: Store>(
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
            root.rename(&layout::held_content(digest), slot)?;
            self.used.insert(digest, operation);
            return Ok(());
        }
        let source = self.open_held(root, tree, path, digest)?;
        let size = source.stat()?.size;
        let mut file = NewFile::create(root, slot, size, sparse)?;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = source.read_at(&mut buffer, file.at)?;
            if count == 0 {
                break;
            }
            file.write(&buffer[..count])?;
        }
        let (hashed, memory, _) = file.finish()?;
        if hashed.digest != digest {
            return Err(ReplicaError::Lacking { path: path.clone(), content: digest });
        }
        if let Some(memory) = memory {
            self.memory.insert(operation, memory);
        }
        Ok(())
    }

    /// Opens a content that is here: come ahead, staged, or in the replica.
    fn open_held<S: Store>(
        &self,
        root: &Root,
        tree: &Tree<S>,
        path: &RelPath,
        digest: Digest,
    ) -> Result<FileReader, ReplicaError> {
        let ahead = layout::held_content(digest);
        let staged = self.used.get(&digest).map(|operation| layout::slot(Area::Stage, self.position, *operation));
        let candidates = staged.into_iter().chain([ahead]).chain(tree.holders(digest, 4)?);
        for candidate in candidates {
            match root.open_read(&candidate) {
                Ok(file) => return Ok(file),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReplicaError::Lacking { path: path.clone(), content: digest })
    }
}

/// A replica's file as the base of a delta.
struct Base<'a>(&'a FileReader);

impl ReadAt for Base<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset).map_err(io::Error::other)
    }
}

/// Checks that writing the staged spans over the old content gives what the entry promises; what is remembered of the old content spares
/// reading it for an append. Keeps the old bytes under the spans as `<operation>.old` and gives back which they are.
pub(super) fn check_edit(
    root: &Root,
    position: Position,
    operation: &Operation,
    at: &RelPath,
    memory: Option<&FileMemory>,
) -> Result<(Option<Box<FileMemory>>, Vec<Span>), ReplicaError> {
    let Action::Edit { path, entry, old_length, spans, probes } = &operation.action else {
        return Err(ReplicaError::Header { position, what: "not an edit" });
    };
    let mismatch = || ReplicaError::Mismatch { path: path.clone(), position };
    let file = root.open_write(at)?;
    let payload = root.open_read(&layout::slot(Area::Stage, position, operation.id))?;
    let reader = root.open_read(at)?;
    if reader.stat()?.size != *old_length || !well_formed(spans, *old_length, entry.size()) {
        return Err(mismatch());
    }
    if let Some(probes) = probes
        && !probes.check(&Base(&reader))?
    {
        return Err(mismatch());
    }
    let appends = matches!(spans.as_slice(), [span] if span.offset == *old_length);
    let mut hasher = match memory {
        Some(memory) if appends && memory.frontier.size() == *old_length => ContentHasher::resume(&memory.frontier),
        _ => ContentHasher::new(),
    };
    let plan = ProbePlan::new(entry.size(), &[0; 32], &[]);
    let overlay = Overlay { old: &reader, old_length: *old_length, new: &payload, spans };
    let mut buffer = vec![0; PIECE];
    let mut offset = hasher.position();
    loop {
        let count = overlay.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    let hashed = hasher.finish();
    if Some(hashed.digest) != entry.content() || hashed.size != entry.size() {
        return Err(mismatch());
    }
    let probes = match plan {
        Some(plan) => crate::thought::delta::probe::Probes::take(&overlay, &plan)?,
        None => None,
    };
    let old = keep_old_blocks(root, position, operation.id, &reader, *old_length, spans)?;
    if entry.size() > *old_length {
        file.reserve(*old_length, entry.size() - *old_length)?;
    }
    let memory = probes.map(|probes| Box::new(FileMemory { frontier: hashed.frontier, probes }));
    Ok((memory, old))
}

fn well_formed(spans: &[Span], old_length: u64, new_length: u64) -> bool {
    let rising = spans.windows(2).all(|pair| pair[0].end() <= pair[1].offset);
    let inside = spans.iter().all(|span| span.len > 0 && span.end() <= new_length);
    let reaches = new_length <= old_length || spans.last().is_some_and(|span| span.end() == new_length);
    rising && inside && reaches && new_length >= old_length
}

fn keep_old_blocks(
    root: &Root,
    position: Position,
    operation: u32,
    old: &FileReader,
    old_length: u64,
    spans: &[Span],
) -> Result<Vec<Span>, ReplicaError> {
    let mut kept = Vec::new();
    let mut out = None;
    let mut at = 0;
    let mut buffer = vec![0; PIECE];
    for span in spans.iter().filter(|span| span.offset < old_length) {
        let end = span.end().min(old_length);
        kept.push(Span { offset: span.offset, len: end - span.offset });
        let mut offset = span.offset;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE);
            let count = old.read_at(&mut buffer[..wanted], offset)?;
            if count == 0 {
                break;
            }
            let file = match &out {
                Some(file) => file,
                None => out.insert(root.create_file(&layout::old_blocks(position, operation))?),
            };
            file.write_at(&buffer[..count], at)?;
            offset += count as u64;
            at += count as u64;
        }
    }
    Ok(kept)
}

/// Old content with spans of new bytes over it.
struct Overlay<'a> {
    old: &'a FileReader,
    old_length: u64,
    new: &'a FileReader,
    spans: &'a [Span],
}

impl ReadAt for Overlay<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.spans.partition_point(|span| span.end() <= offset);
        let (source, from, end) = match self.spans.get(next) {
            Some(span) if span.offset <= offset => {
                let before: u64 = self.spans[..next].iter().map(|span| span.len).sum();
                (self.new, before + (offset - span.offset), span.end())
            }
            Some(span) => (self.old, offset, span.offset),
            None => (self.old, offset, self.old_length),
        };
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        source.read_at(&mut buffer[..wanted], from).map_err(io::Error::other)
    }
}
