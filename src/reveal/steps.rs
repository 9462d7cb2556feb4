//! Reveal: a generation made visible, in normal form, each step recognisable by the inode it moves.

use std::collections::BTreeMap;

use super::ReplicaError;
use super::layout::{self, Area};
use super::operations::{Journalled, is_settling};
use super::stage::UnheldCounts;
use crate::fs::{FsError, Privilege, Root, XattrPolicy};
use crate::thought::generation::{Action, JournalledOperation};
use crate::thought::tree::ApplyError;
use crate::words::entry::{Entry, InodeId};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How much is read at a time.
const PIECE: usize = 256 * 1024;

/// One reveal.
pub(super) struct Reveal<'a> {
    pub(super) root: &'a Root,
    pub(super) position: Position,
    pub(super) operations: Journalled<'a>,
    pub(super) xattrs: &'a XattrPolicy,
    pub(super) privilege: &'a Privilege,
    pub(super) unheld: UnheldCounts,
    /// What lay where it should not, put aside.
    pub(super) put_aside: u64,
}

/// Something that is to arrive.
struct Arrival {
    operation: u32,
    inode: Option<InodeId>,
    area: Area,
}

impl Reveal<'_> {
    /// Does all steps that are not done.
    pub(super) fn run(&mut self) -> Result<(), ReplicaError> {
        match self.root.make_directory(&layout::of(Area::Reveal, self.position), 0o700) {
            Ok(()) => {}
            Err(error) if error.is_existing() => {}
            Err(error) => return Err(error.into()),
        }
        if self.root.stat(&layout::taken_mark(self.position))?.is_none() {
            self.take_all()?;
            self.root.create_file(&layout::taken_mark(self.position))?;
        }
        self.arrive_all()?;
        self.link_all()?;
        self.edit_all()?;
        self.settle_all()
    }

    /// Visits all operations; an error of a step comes out as itself.
    fn each(
        &mut self,
        mut step: impl FnMut(&mut Self, JournalledOperation) -> Result<(), ReplicaError>,
    ) -> Result<(), ReplicaError> {
        let operations = self.operations;
        let mut failed = None;
        let visited = operations.each(&mut |operation| {
            step(self, operation).map_err(|error| {
                failed = Some(error);
                ApplyError::Source("a step failed".into())
            })
        });
        match (visited, failed) {
            (_, Some(error)) => Err(error),
            (visited, None) => visited.map_err(|source| ReplicaError::Apply { position: self.position, source }),
        }
    }

    fn take_all(&mut self) -> Result<(), ReplicaError> {
        self.each(|this, JournalledOperation { operation, inode, .. }| match operation.action.taken() {
            Some(path) => this.take(path, operation.id, inode, matches!(operation.action, Action::Rename { .. })),
            None => Ok(()),
        })
    }

    fn take(
        &mut self,
        path: &RelPath,
        operation: u32,
        inode: Option<InodeId>,
        is_needed: bool,
    ) -> Result<(), ReplicaError> {
        let slot = layout::slot(Area::Reveal, self.position, operation);
        let found = self.root.stat(path)?;
        match found {
            Some(stat) if inode.is_none_or(|inode| inode == stat.inode.id) => self.move_away(path, &slot),
            _ if self.root.stat(&slot)?.is_some() => Ok(()),
            // Somebody put something else here: it is not ours to lose.
            Some(_) if !is_needed => self.move_away(path, &slot),
            None if !is_needed => Ok(()),
            _ => Err(ReplicaError::Stuck { path: path.clone(), position: self.position }),
        }
    }

    fn move_away(&self, path: &RelPath, slot: &RelPath) -> Result<(), ReplicaError> {
        self.writable(path.parent().as_ref())?;
        self.movable(path)?;
        Ok(self.root.rename(path, slot)?)
    }

    fn arrive_all(&mut self) -> Result<(), ReplicaError> {
        let mut renames: BTreeMap<RelPath, Arrival> = BTreeMap::new();
        self.each(|_, JournalledOperation { operation, inode, .. }| {
            if let Action::Rename { to, .. } = operation.action {
                renames.insert(to, Arrival { operation: operation.id, inode, area: Area::Reveal });
            }
            Ok(())
        })?;
        self.each(|this, JournalledOperation { operation, inode, .. }| {
            let Action::Create { path, .. } = operation.action else { return Ok(()) };
            while renames.first_key_value().is_some_and(|(to, _)| *to < path) {
                let Some((to, arrival)) = renames.pop_first() else { break };
                this.arrive(&to, &arrival)?;
            }
            this.arrive(&path, &Arrival { operation: operation.id, inode, area: Area::Stage })
        })?;
        renames.iter().try_for_each(|(to, arrival)| self.arrive(to, arrival))
    }

    fn arrive(&mut self, path: &RelPath, arrival: &Arrival) -> Result<(), ReplicaError> {
        let slot = layout::slot(arrival.area, self.position, arrival.operation);
        if self.root.stat(&slot)?.is_none() {
            let found = self.root.stat(path)?;
            return match found {
                Some(stat) if arrival.inode.is_none_or(|inode| inode == stat.inode.id) => Ok(()),
                _ => Err(ReplicaError::Stuck { path: path.clone(), position: self.position }),
            };
        }
        self.writable(path.parent().as_ref())?;
        self.movable(&slot)?;
        match self.root.rename(&slot, path) {
            Err(error) if error.is_existing() => {
                self.put_aside(path, arrival.operation)?;
                Ok(self.root.rename(&slot, path)?)
            }
            moved => Ok(moved?),
        }
    }

    /// Moves what lies where an entry must arrive into the bundles: it belongs to no generation.
    fn put_aside(&mut self, path: &RelPath, operation: u32) -> Result<(), ReplicaError> {
        for directory in [layout::area(Area::Bundles), layout::of(Area::Bundles, self.position)] {
            match self.root.make_directory(&directory, 0o700) {
                Err(error) if !error.is_existing() => return Err(error.into()),
                _ => {}
            }
        }
        tracing::warn!(%path, position = %self.position, "something in the replica was in the way of a generation; it was put aside in .hotspare/bundles");
        self.put_aside += 1;
        self.movable(path)?;
        Ok(self.root.rename(path, &layout::slot(Area::Bundles, self.position, operation))?)
    }

    fn link_all(&mut self) -> Result<(), ReplicaError> {
        self.each(|this, JournalledOperation { operation, .. }| {
            let Action::Link { path, target, .. } = operation.action else { return Ok(()) };
            let stuck = || ReplicaError::Stuck { path: target.clone(), position: this.position };
            let linked = this.root.stat(&target)?.ok_or_else(stuck)?;
            this.writable(path.parent().as_ref())?;
            match this.root.link(&target, &path) {
                Err(error) if error.is_existing() => {
                    if this.root.stat(&path)?.is_some_and(|found| found.inode.id == linked.inode.id) {
                        return Ok(());
                    }
                    this.put_aside(&path, operation.id)?;
                    Ok(this.root.link(&target, &path)?)
                }
                made => Ok(made?),
            }
        })
    }

    fn edit_all(&mut self) -> Result<(), ReplicaError> {
        self.each(|this, JournalledOperation { operation, .. }| {
            let Action::Edit { path, entry, spans, .. } = &operation.action else { return Ok(()) };
            this.edit(path, operation.id, spans, entry)
        })
    }

    /// Writing the same bytes at the same places again changes nothing, so an edit may be done any number of times.
    fn edit(
        &self,
        path: &RelPath,
        operation: u32,
        spans: &[crate::thought::delta::Span],
        entry: &Entry,
    ) -> Result<(), ReplicaError> {
        let payload = self.root.open_read(&layout::slot(Area::Stage, self.position, operation))?;
        self.root.ensure_writable(path)?;
        let file = self.root.open_write(path)?;
        let mut buffer = vec![0; PIECE];
        let mut from = 0;
        for span in spans {
            let mut at = span.offset;
            while at < span.end() {
                let wanted = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(PIECE);
                let count = payload.read_at(&mut buffer[..wanted], from)?;
                if count == 0 {
                    return Err(ReplicaError::Stuck { path: path.clone(), position: self.position });
                }
                file.write_at(&buffer[..count], at)?;
                at += count as u64;
                from += count as u64;
            }
        }
        file.set_len(entry.size())?;
        self.set(path, entry).map(|_| ())
    }

    /// Attributes last: of files first, of directories deepest first, since the journal has those in falling order.
    fn settle_all(&mut self) -> Result<(), ReplicaError> {
        for directories in [false, true] {
            self.each(|this, JournalledOperation { operation, .. }| {
                let Action::Attributes { path, entry } = &operation.action else { return Ok(()) };
                if is_settling(&operation.action) != directories {
                    return Ok(());
                }
                let unheld = this.set(path, entry)?;
                this.unheld.add(&unheld);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn set(&self, path: &RelPath, entry: &Entry) -> Result<crate::fs::Unheld, ReplicaError> {
        match self.root.set_attributes(path, entry, self.xattrs, self.privilege) {
            Ok(unheld) => Ok(unheld),
            Err(error) if error.is_not_found() => {
                Err(ReplicaError::Stuck { path: path.clone(), position: self.position })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets an unprivileged process change what is in `directory`; its mode is put right when the directories settle.
    fn writable(&self, directory: Option<&RelPath>) -> Result<(), FsError> {
        match directory {
            Some(directory) if !self.privilege.override_modes => self.root.ensure_writable(directory).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// A directory that is moved gets a new `..`, for which an unprivileged process must be able to write it.
    fn movable(&self, path: &RelPath) -> Result<(), FsError> {
        if !self.privilege.override_modes && self.root.stat(path)?.is_some_and(|stat| stat.is_directory()) {
            self.root.ensure_writable(path)?;
        }
        Ok(())
    }
}
