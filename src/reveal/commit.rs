//! Making a staged generation durable: applied to the tree, journalled with what it replaces, synced, acked.

use std::collections::BTreeSet;

use super::layout::{self, Area};
use super::operations::{PART_BYTES, Records};
use super::replica::Replica;
use super::stage::{SYNC_ONE_BY_ONE, Stager};
use super::unrevealed::Changes;
use super::{ReplicaError, durable, edit, unheld};
use crate::fs::Able;
use crate::journal::{Kept, Location, Record, RecordKind, State};
use crate::spool::Spool;
use crate::thought::generation::{Action, Header, JournalledOperation, Operation, OperationsDigest, PreImage};
use crate::thought::tree::{ApplyError, Arrived, Row, Witness};
use crate::thought::wire::message::UnheldCounts;
use crate::words::path::RelPath;
use crate::words::position::Position;

/// The owner's permissions, without which a directory cannot be moved by an unprivileged process.
const OWNER_BITS: u16 = 0o700;

impl Replica {
    /// Makes a staged generation durable: after this it is acked. On an error the replica must be opened again, which every later call says
    /// ([`ReplicaError::Unusable`]).
    pub fn commit(&mut self, header: &Header, operations: &Records, stager: Stager) -> Result<(), ReplicaError> {
        self.usable()?;
        check_operations(header, operations)?;
        if stager.awaits_payload() || stager.position() != header.position {
            return Err(ReplicaError::Header { position: header.position, what: "a payload is missing" });
        }
        self.is_broken = true;
        self.record(header, operations, stager)?;
        self.is_broken = false;
        Ok(())
    }

    fn record(&mut self, header: &Header, operations: &Records, mut stager: Stager) -> Result<(), ReplicaError> {
        let position = header.position;
        let mut journal = Records::new(Spool::create(&self.options.state)?);
        let mut recorder = Recorder {
            position,
            stager: &mut stager,
            journal: &mut journal,
            moved: BTreeSet::new(),
            able: &self.able,
            unheld: &mut self.unheld,
            changes: Changes::default(),
            failed: None,
        };
        let applied = self.tree.apply(operations, &mut recorder);
        if let Some(error) = recorder.failed {
            return Err(error);
        }
        let (moved, mut changes) = (recorder.moved, recorder.changes);
        applied.map_err(|source| ReplicaError::Apply { position, source })?;
        let settling = self.settling(moved)?;
        if self.tree.digest()? != header.tree_after {
            return Err(ReplicaError::Header { position, what: "the tree it leads to has another digest" });
        }
        for (id, path) in settling.into_iter().rev().enumerate() {
            let Some(row) = self.tree.row(&path)? else { continue };
            let id = u32::MAX - u32::try_from(id).unwrap_or(u32::MAX);
            let action = Action::Attributes { path, entry: row.entry };
            let operation = Operation { id, action, payload: None };
            let journalled = JournalledOperation { operation, before: PreImage::None, inode: Some(row.inode.id) };
            journal.push(journalled.operation.action.section(), &journalled.encode())?;
        }
        let kept = self.journal(header, &journal)?;
        self.sync_stage(&stager)?;
        self.log.append(&Record { kind: RecordKind::Acked, position, payload: Vec::new() })?;
        self.log.sync()?;
        self.unforeseen = self.unforeseen.plus(stager.unforeseen);
        changes.staged(stager.bytes);
        self.unrevealed.push(Kept { state: State::Acked, ..kept }, changes);
        self.stand_at(header)?;
        if self.tree.store().wants_commit() {
            // What has spilled must not be left open: a close would make it a change that nobody can tell the end of.
            self.tree.store_mut().commit()?;
        }
        Ok(())
    }

    /// The directories whose times or modes the reveal disturbs, rising.
    fn settling(&self, moved: BTreeSet<RelPath>) -> Result<BTreeSet<RelPath>, ReplicaError> {
        let mut directories = moved;
        for id in self.tree.stale_directories() {
            directories.extend(self.tree.path_of(id)?);
        }
        Ok(directories)
    }

    fn journal(&mut self, header: &Header, operations: &Records) -> Result<Kept, ReplicaError> {
        let position = header.position;
        let log = &mut self.log;
        let mut parts: Vec<Location> = Vec::new();
        let mut add = |payload: Vec<u8>| {
            let part = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            log.append(&Record { kind: RecordKind::Staged { part }, position, payload })
                .map(|location| parts.push(location))
        };
        add(header.encode())?;
        let mut part = Vec::new();
        operations
            .all(&mut |bytes| {
                part.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
                part.extend_from_slice(bytes);
                // A record may be longer than a part: it goes on in the next.
                while part.len() >= PART_BYTES {
                    let rest = part.split_off(PART_BYTES);
                    let full = std::mem::replace(&mut part, rest);
                    add(full).map_err(|error| ApplyError::Source(Box::new(error)))?;
                }
                Ok(())
            })
            .map_err(|source| ReplicaError::Apply { position, source })?;
        if !part.is_empty() {
            add(part)?;
        }
        Ok(Kept { position, state: State::Staging, parts, mark: None })
    }

    /// Makes what was staged durable: one by one where it is little, with the whole file system where it is much and that can be done.
    fn sync_stage(&mut self, stager: &Stager) -> Result<(), ReplicaError> {
        if stager.staged == 0 {
            return Ok(());
        }
        if !self.syncs_whole {
            stager.sync_noted()?;
        } else if stager.unsynced.len() > SYNC_ONE_BY_ONE {
            return Ok(self.root.sync_filesystem()?);
        } else {
            for path in &stager.unsynced {
                match durable::sync(&self.root, path) {
                    // What this user may not open is synced with all the others.
                    Err(error) if error.is_permission() => return Ok(self.root.sync_filesystem()?),
                    synced => synced?,
                }
            }
        }
        self.root.sync_directory(&layout::of(Area::Stage, stager.position()))?;
        Ok(self.root.sync_directory(&layout::area(Area::Stage))?)
    }
}

/// Number and digest of the operations are what the header says.
fn check_operations(header: &Header, operations: &Records) -> Result<(), ReplicaError> {
    let position = header.position;
    let (mut digest, mut count) = (OperationsDigest::default(), 0);
    operations
        .all(&mut |bytes| {
            digest.update(bytes);
            count += 1;
            Ok(())
        })
        .map_err(|source| ReplicaError::Apply { position, source })?;
    if count != header.operations || digest.finish() != header.operations_digest {
        return Err(ReplicaError::Header { position, what: "its operations have another digest" });
    }
    Ok(())
}

/// Journals each operation as it is applied to the tree, with what it replaces.
struct Recorder<'a> {
    position: Position,
    stager: &'a mut Stager,
    journal: &'a mut Records,
    /// New paths of directories that must be made writable to be moved.
    moved: BTreeSet<RelPath>,
    able: &'a Able,
    /// What the disk cannot hold of the tree, as that changes.
    unheld: &'a mut UnheldCounts,
    changes: Changes,
    failed: Option<ReplicaError>,
}

impl Recorder<'_> {
    fn record(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ReplicaError> {
        let old = || before.map(|row| row.entry.clone());
        let inode = before.map(|row| row.inode.id);
        let (before_image, inode, arrived) = match &operation.action {
            Action::Remove { .. } | Action::Rename { .. } => {
                if let Action::Rename { to, .. } = &operation.action
                    && before.is_some_and(|row| row.entry.is_directory() && row.entry.mode & OWNER_BITS != OWNER_BITS)
                {
                    self.moved.insert(to.clone());
                }
                (old().map_or(PreImage::None, |entry| PreImage::Taken { entry }), inode, None)
            }
            Action::Create { .. } => {
                let stat = self.stager.here.stat(&layout::number(operation.id))?;
                let missing = ReplicaError::Header { position: self.position, what: "an operation was not staged" };
                let inode = stat.ok_or(missing)?.inode;
                let memory = self.stager.memory.remove(&operation.id);
                (PreImage::None, Some(inode.id), Some(Arrived { inode, memory }))
            }
            Action::Forget { .. } => (PreImage::None, None, None),
            Action::Link { .. } => (PreImage::None, inode, None),
            Action::Attributes { .. } => {
                (old().map_or(PreImage::None, |entry| PreImage::Attributes { entry }), inode, None)
            }
            Action::Edit { old_length, spans, .. } => {
                let row = before.ok_or(ReplicaError::Header { position: self.position, what: "an edit of nothing" })?;
                let old_blocks = match self.stager.keeps_whole {
                    true => edit::whole(*old_length),
                    false => edit::old_blocks(spans, *old_length),
                };
                let image = PreImage::Edited { entry: row.entry.clone(), old_length: *old_length, old_blocks };
                let memory = self.stager.memory.remove(&operation.id);
                (image, inode, Some(Arrived { inode: row.inode, memory }))
            }
        };
        self.changes.note(operation, inode.map(|inode| inode.ino));
        self.count(operation, before);
        let journalled = JournalledOperation { operation: operation.clone(), before: before_image, inode };
        self.journal.push(operation.action.section(), &journalled.encode())?;
        Ok(arrived)
    }
}

impl Recorder<'_> {
    fn count(&mut self, operation: &Operation, before: Option<&Row>) {
        // Of a link `before` is its target, which stays.
        let replaced = before.filter(|_| matches!(operation.action, Action::Edit { .. } | Action::Attributes { .. }));
        if let Some(row) = replaced {
            *self.unheld = self.unheld.minus(unheld::of_entry(self.able, &row.entry));
        }
        if let Some(entry) = operation.action.entry() {
            *self.unheld = self.unheld.plus(unheld::of_entry(self.able, entry));
        }
    }
}

impl Witness for Recorder<'_> {
    fn gone(&mut self, row: &Row) {
        *self.unheld = self.unheld.minus(unheld::of_entry(self.able, &row.entry));
    }

    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        self.record(operation, before).map_err(|error| {
            self.failed = Some(error);
            ApplyError::Source("a step could not be recorded".into())
        })
    }
}
