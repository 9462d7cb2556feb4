//! Staging: the new content of a generation, made beside the replica.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::ahead::Ahead;
use super::content::NewFile;
use super::edit::{self, Checked};
use super::layered::Layered;
use super::layout::{self, Area};
use super::replica::Replica;
use super::unrevealed::Unrevealed;
use super::{ReplicaError, durable, unheld};
use crate::fs::{Able, FileWriter, FsError, Pass, Privilege, Root, XattrPolicy};
use crate::thought::delta::pack::Unpacker;
use crate::thought::delta::patch::Patcher;
use crate::thought::generation::{Action, Content, Operation, Section};
use crate::thought::store::Store;
use crate::thought::tree::{FileMemory, MAX_RENAMES, Tree};
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::{Body, Digest, Entry};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// Up to this many staged things are synced one by one; more are synced with the whole file system.
pub(super) const SYNC_ONE_BY_ONE: usize = 24;
/// Of so many large files of one generation is remembered what an append to them needs; an append to a further one reads it whole, once.
pub(super) const REMEMBERED_FILES: usize = 10_000;

/// What is there while a generation is staged: the tree, the disk, and what lies between the two.
pub(super) struct Present<'a, S> {
    pub(super) root: &'a Arc<Root>,
    pub(super) tree: &'a Tree<S>,
    pub(super) unrevealed: &'a Unrevealed,
}

impl<S> Clone for Present<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Present<'_, S> {}

/// What a generation needs beside the tree while it is staged.
pub struct Stager {
    pub(super) position: Position,
    /// `stage/<position>`, in which the number of an operation is a path: nothing has to be looked up on the way.
    pub(super) here: Root,
    xattrs: XattrPolicy,
    no_xattrs: XattrPolicy,
    /// What is made in the stage has no extended attributes that nobody gave it: they need not be looked for.
    is_bare: bool,
    privilege: Privilege,
    able: Able,
    /// All of the stage is reached through two directories.
    _pass: Pass,
    current: Option<Current>,
    /// How many operations there were so far, and the section and path of the last.
    count: u32,
    last: Option<(Section, RelPath)>,
    /// Contents that came ahead and were used already: where the staged file is.
    pub(super) used: Used,
    /// Renames of this generation: new path to old path.
    renames: HashMap<RelPath, RelPath>,
    /// Holds space for what edits append, until the reveal gives it free: reserving in the files themselves would move their times.
    room: Option<FileWriter>,
    room_bytes: u64,
    /// Whatever it overwrites is kept whole.
    pub(super) keeps_whole: bool,
    /// Of large files: what to remember of them.
    pub(super) memory: HashMap<u32, Box<FileMemory>>,
    root: Arc<Root>,
    /// False where each thing is synced by itself, however many there are.
    syncs_whole: bool,
    /// What was staged and not synced, while it is little enough to be synced one by one.
    pub(super) unsynced: Vec<RelPath>,
    pub(super) staged: u64,
    /// How many bytes the stage takes, at most.
    pub(super) bytes: u64,
    pub(super) unforeseen: UnheldCounts,
}

/// Contents, by the first 8 bytes of their digests, and the operations that took them: 16 bytes each, of which there may be a million. Two
/// that begin alike cost no more than a copy: what is found by it is hashed.
#[derive(Default)]
pub(super) struct Used(HashMap<u64, u32>);

impl Used {
    fn key(content: Digest) -> u64 {
        u64::from_le_bytes(*content.0.first_chunk().unwrap_or(&[0; 8]))
    }

    pub(super) fn note(&mut self, content: Digest, operation: u32) {
        self.0.insert(Self::key(content), operation);
    }

    pub(super) fn by(&self, content: Digest) -> Option<u32> {
        self.0.get(&Self::key(content)).copied()
    }
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
    Patched { file: NewFile, patcher: Patcher, base: Box<Layered> },
    /// The bytes of an edit, kept as they are until the reveal.
    Spans { file: FileWriter, at: u64 },
}

impl Stager {
    pub(super) fn new(replica: &Replica, here: Root, position: Position) -> Result<Self, ReplicaError> {
        Ok(Self {
            is_bare: here.makes_bare()? && replica.ahead.makes_bare()?,
            _pass: replica.root.pass(),
            position,
            here,
            xattrs: replica.options.xattrs.clone(),
            no_xattrs: XattrPolicy::none(),
            privilege: replica.privilege,
            able: replica.able.clone(),
            current: None,
            count: 0,
            last: None,
            used: Used::default(),
            renames: HashMap::new(),
            room: None,
            room_bytes: 0,
            keeps_whole: replica.keeps_replaced,
            memory: HashMap::new(),
            root: Arc::clone(&replica.root),
            syncs_whole: replica.syncs_whole,
            unsynced: Vec::new(),
            staged: 0,
            bytes: 0,
            unforeseen: UnheldCounts::default(),
        })
    }

    /// The generation being staged.
    pub fn position(&self) -> Position {
        self.position
    }

    /// True if the payload of the last operation has not arrived whole.
    pub fn awaits_payload(&self) -> bool {
        self.current.is_some()
    }

    fn refused(&self, what: &'static str) -> ReplicaError {
        ReplicaError::Header { position: self.position, what }
    }

    /// Operations are numbered from 0, and stand in the order that [`Section`] demands: steps of the reveal are told apart by their numbers.
    fn check_order(&mut self, operation: &Operation) -> Result<(), ReplicaError> {
        if operation.id != self.count {
            return Err(self.refused("its operations are not numbered in order"));
        }
        let (section, path) = (operation.action.section(), operation.action.path());
        let follows = match &self.last {
            None => true,
            Some((last, _)) if *last != section => *last < section,
            Some((Section::Remove, last)) => path < last,
            Some((_, last)) => path > last,
        };
        if !follows {
            return Err(self.refused("its operations are out of order"));
        }
        if path.is_reserved() || operation.action.taken().is_some_and(RelPath::is_reserved) {
            return Err(self.refused("it names a path inside .hotspare"));
        }
        if operation.action.entry().is_some_and(|entry| !is_possible(entry)) {
            return Err(self.refused("it sets attributes that nothing can have"));
        }
        self.count += 1;
        self.last = Some((section, path.clone()));
        Ok(())
    }

    /// Stages one operation; its payload, if it has one, comes next through [`Stager::payload`].
    pub(super) fn operation<S: Store>(
        &mut self,
        present: Present<'_, S>,
        ahead: &mut Ahead,
        operation: Operation,
    ) -> Result<(), ReplicaError> {
        if self.current.is_some() {
            return Err(self.refused("a payload is missing"));
        }
        self.check_order(&operation)?;
        let slot = layout::number(operation.id);
        self.bytes = self.bytes.saturating_add(match &operation.action {
            Action::Create { entry, .. } => entry.size(),
            // With the old bytes, and room for what grows.
            Action::Edit { .. } => operation.payload.map_or(0, |payload| payload.unpacked.saturating_mul(3)),
            _ => 0,
        });
        match &operation.action {
            Action::Create { path, entry, content, sparse } => {
                self.create(present, ahead, &operation, &slot, path, entry, content, *sparse)
            }
            Action::Edit { path, spans, .. } => {
                let length = spans.iter().try_fold(0_u64, |sum, span| sum.checked_add(span.len));
                if length.is_none() || length != operation.payload.map(|payload| payload.unpacked) {
                    let source = "it is not as long as the spans it is for".into();
                    return Err(ReplicaError::Payload { path: path.clone(), source });
                }
                let making = Making::Spans { file: self.here.create_file(&slot)?, at: 0 };
                self.expect(operation, making)
            }
            _ if operation.payload.is_some() => Err(self.refused("a payload belongs to nothing")),
            Action::Rename { from, to } => {
                if self.renames.len() >= MAX_RENAMES {
                    return Err(self.refused("it has too many renames"));
                }
                self.renames.insert(to.clone(), from.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one action, taken apart once")]
    fn create<S: Store>(
        &mut self,
        present: Present<'_, S>,
        ahead: &mut Ahead,
        operation: &Operation,
        slot: &RelPath,
        path: &RelPath,
        entry: &Entry,
        content: &Content,
        sparse: bool,
    ) -> Result<(), ReplicaError> {
        let has_payload = matches!(content, Content::Whole | Content::Delta { .. });
        if has_payload != operation.payload.is_some() {
            let source = "there is none, or one too many".into();
            return Err(ReplicaError::Payload { path: path.clone(), source });
        }
        match (&entry.body, content) {
            (Body::Directory, Content::None) => {
                self.here.make_directory(slot, 0o700)?;
                self.attributes(operation.id, entry)
            }
            (Body::Symlink { target }, Content::None) => {
                self.here.make_symlink(slot, target)?;
                self.attributes(operation.id, entry)
            }
            (Body::File { size: 0, digest, .. }, Content::None) => {
                if *digest != Digest::of(&[]) {
                    return Err(ReplicaError::Mismatch { path: path.clone(), position: self.position });
                }
                self.here.create_file(slot)?;
                self.attributes(operation.id, entry)
            }
            (Body::File { size, .. }, Content::Whole) => {
                let making = Making::File(NewFile::create(&self.here, slot, *size, sparse)?);
                self.expect(operation.clone(), making)
            }
            (Body::File { size, .. }, Content::Delta { base, base_length }) => {
                let base = Box::new(self.open_base(present, path, *base, *base_length)?);
                let file = NewFile::create(&self.here, slot, *size, sparse)?;
                let patcher = Patcher::new(*base_length, *size);
                self.expect(operation.clone(), Making::Patched { file, patcher, base })
            }
            (Body::File { digest, .. }, Content::Held) => {
                self.take_held(present, ahead, operation.id, slot, path, *digest, sparse)?;
                self.attributes(operation.id, entry)
            }
            _ => Err(self.refused("an entry and its content do not go together")),
        }
    }

    fn expect(&mut self, operation: Operation, making: Making) -> Result<(), ReplicaError> {
        let Some(payload) = operation.payload else { return Err(self.refused("a payload is missing")) };
        self.current =
            Some(Current { unpacker: Unpacker::new(payload.unpacked), left: payload.length, making, operation });
        Ok(())
    }

    /// Takes the next bytes of the payload; true when it is whole.
    pub(super) fn payload<S: Store>(&mut self, present: Present<'_, S>, bytes: &[u8]) -> Result<bool, ReplicaError> {
        let Some(mut current) = self.current.take() else {
            return Err(self.refused("a payload belongs to nothing"));
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
                    let fed = patcher.feed(piece, &**base, &mut |out| file.write(out));
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
        match making {
            Making::File(file) => self.finish_file(&operation, file)?,
            Making::Patched { file, patcher, .. } => {
                patcher.finish().map_err(|error| malformed(Box::new(error)))?;
                self.finish_file(&operation, file)?;
            }
            Making::Spans { file, .. } => {
                drop(file);
                self.finish_edit(present, &operation)?;
            }
        }
        Ok(true)
    }

    fn finish_file(&mut self, operation: &Operation, file: NewFile) -> Result<(), ReplicaError> {
        let Action::Create { path, entry, .. } = &operation.action else {
            return Err(self.refused("a payload belongs to nothing"));
        };
        let (hashed, memory, writer) = file.finish()?;
        if Some(hashed.digest) != entry.content() || hashed.size != entry.size() {
            return Err(ReplicaError::Mismatch { path: path.clone(), position: self.position });
        }
        writer.dress(entry.mode, entry.mtime)?;
        drop(writer);
        self.remember(operation.id, memory);
        self.attributes(operation.id, entry)
    }

    /// Checks an edit whose bytes are here against the file that it is for. By the order of sections all renames are known.
    fn finish_edit<S: Store>(
        &mut self,
        Present { root, tree, unrevealed }: Present<'_, S>,
        operation: &Operation,
    ) -> Result<(), ReplicaError> {
        let path = operation.action.path();
        let mismatch = || ReplicaError::Mismatch { path: path.clone(), position: self.position };
        let old = self.old_path(path);
        let row = tree.row(&old)?.ok_or_else(mismatch)?;
        let file = match unrevealed.open(root, &old, row.inode.id.ino) {
            Ok(file) => file.filter(|_| row.entry.content().is_some()).ok_or_else(mismatch)?,
            // What may not be read cannot be written over: it is asked for whole.
            Err(error) if error.is_permission() => return Err(mismatch()),
            Err(error) => return Err(error.into()),
        };
        let memory = row.memory.as_deref();
        let checked = edit::check(root, self.position, operation, &file, file.length(), memory, self.keeps_whole)?;
        let Checked { memory, keeps } = checked;
        self.remember(operation.id, memory);
        let grows = operation.action.entry().map_or(0, Entry::size).saturating_sub(row.entry.size());
        self.make_room(root, grows)?;
        self.note(layout::slot(Area::Stage, self.position, operation.id))?;
        if keeps {
            self.note(layout::old_blocks(self.position, operation.id))?;
        }
        Ok(())
    }

    fn make_room(&mut self, root: &Root, bytes: u64) -> Result<(), ReplicaError> {
        if bytes == 0 {
            return Ok(());
        }
        let room = match &mut self.room {
            Some(room) => room,
            none => none.insert(root.create_file(&layout::room(self.position))?),
        };
        room.reserve(self.room_bytes, bytes)?;
        if self.room_bytes == 0 {
            self.note(layout::room(self.position))?;
        }
        self.room_bytes += bytes;
        Ok(())
    }

    /// Where what will be at `path` is before the generation.
    fn old_path(&self, path: &RelPath) -> RelPath {
        let mut above = Some(path.clone());
        while let Some(to) = above {
            if let Some(old) = self.renames.get(&to).and_then(|from| path.rebase(&to, from)) {
                return old;
            }
            above = to.parent();
        }
        path.clone()
    }

    pub(super) fn remember(&mut self, operation: u32, memory: Option<Box<FileMemory>>) {
        if let Some(memory) = memory
            && self.memory.len() < REMEMBERED_FILES
        {
            self.memory.insert(operation, memory);
        }
    }

    /// Sets the attributes of what was staged for `operation`.
    fn attributes(&mut self, operation: u32, entry: &Entry) -> Result<(), ReplicaError> {
        let slot = layout::number(operation);
        let has_xattrs = !self.is_bare || !entry.xattrs.is_empty();
        let xattrs = if has_xattrs { &self.xattrs } else { &self.no_xattrs };
        let unheld = self.here.set_attributes(&slot, entry, xattrs, &self.privilege)?;
        let unforeseen = unheld::counts(&unheld).minus(unheld::of_entry(&self.able, entry));
        self.unforeseen = self.unforeseen.plus(unforeseen);
        self.note(layout::slot(Area::Stage, self.position, operation))?;
        Ok(())
    }

    /// Notes that `path` must be durable before the generation is acked.
    pub(super) fn note(&mut self, path: RelPath) -> Result<(), FsError> {
        self.staged += 1;
        if self.unsynced.len() > SYNC_ONE_BY_ONE {
            if self.syncs_whole {
                return Ok(());
            }
            self.sync_noted()?;
            self.unsynced.clear();
        }
        self.unsynced.push(path);
        Ok(())
    }

    /// Makes what was noted durable, one by one.
    pub(super) fn sync_noted(&self) -> Result<(), FsError> {
        self.unsynced.iter().try_for_each(|path| durable::sync_even_closed(&self.root, path))
    }
}

/// False for what no kernel would take, so that a reveal need not fail over it: the ids that mean "leave it" among them.
fn is_possible(entry: &Entry) -> bool {
    entry.mtime.nanoseconds < 1_000_000_000 && entry.uid != u32::MAX && entry.gid != u32::MAX && entry.mode <= 0o7777
}
