//! Reveal: a generation made visible, in normal form, each step recognisable by the inode it moves.
//!
//! Two passes over the journalled operations, which stand in the order in which they are done: first what leaves, leaves (and a mark says so);
//! then what arrives, arrives, links are made, bytes written, attributes set, directories settled.

use std::collections::BTreeMap;

use super::ReplicaError;
use super::content::PIECE;
use super::disk::{Disk, ensure_directory};
use super::layout::{self, Area};
use super::operations::{Journalled, is_settling};
use super::unheld;
use crate::fs::{Able, FsError, Privilege, Stat, XattrPolicy};
use crate::thought::delta::Span;
use crate::thought::generation::{Action, JournalledOperation, PreImage};
use crate::thought::tree::ApplyError;
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::{Entry, InodeId};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How many things may be put aside under one operation's number.
const SAME_NAME: u32 = 1000;

/// What a reveal did beyond revealing.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Outcome {
    /// What could not be set although it should have been possible.
    pub(super) unforeseen: UnheldCounts,
    /// What lay where it should not, put aside.
    pub(super) put_aside: u64,
    /// True if it wrote into files in place.
    pub(super) has_edited: bool,
}

/// One reveal.
pub(super) struct Reveal<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) position: Position,
    pub(super) operations: Journalled<'a>,
    pub(super) xattrs: &'a XattrPolicy,
    pub(super) privilege: &'a Privilege,
    pub(super) able: &'a Able,
    pub(super) outcome: Outcome,
}

/// Something that is to arrive.
struct Arrival {
    operation: u32,
    inode: Option<InodeId>,
    area: Area,
}

/// What is renamed, by its new path, as long as it has not arrived.
type Renames = BTreeMap<RelPath, Arrival>;

impl Reveal<'_> {
    /// Does all steps that are not done.
    pub(super) fn run(&mut self) -> Result<(), ReplicaError> {
        ensure_directory(self.disk, &layout::of(Area::Reveal, self.position))?;
        let is_taken = self.disk.stat(&layout::taken_mark(self.position))?.is_some();
        let mut renames = Renames::new();
        self.each(|this, JournalledOperation { operation, inode, before }| {
            let Some(path) = operation.action.taken() else { return Ok(()) };
            if !is_taken {
                this.take(path, operation.id, inode, matches!(operation.action, Action::Rename { .. }), &before)?;
            }
            if let Action::Rename { to, .. } = operation.action {
                renames.insert(to, Arrival { operation: operation.id, inode, area: Area::Reveal });
            }
            Ok(())
        })?;
        if !is_taken {
            self.disk.make_file(&layout::taken_mark(self.position), &[])?;
        }
        self.each(|this, journalled| this.step(journalled, &mut renames))?;
        self.arrive_before(&mut renames, None)
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

    fn stuck(&self, path: &RelPath) -> ReplicaError {
        ReplicaError::Stuck { path: path.clone(), position: self.position }
    }

    fn take(
        &mut self,
        path: &RelPath,
        operation: u32,
        inode: Option<InodeId>,
        is_needed: bool,
        before: &PreImage,
    ) -> Result<(), ReplicaError> {
        let slot = layout::slot(Area::Reveal, self.position, operation);
        let found = self.disk.stat(path)?;
        match found {
            Some(stat) if is_it(inode, &stat) && (is_needed || !is_rewritten(before, &stat)) => {
                self.writable(path.parent().as_ref())?;
                self.movable(path)?;
                Ok(self.disk.rename(path, &slot)?)
            }
            _ if self.disk.stat(&slot)?.is_some() => Ok(()),
            // Somebody put something else here: it is not ours to lose.
            Some(_) if !is_needed => self.put_aside(path, operation),
            None if !is_needed => Ok(()),
            _ => Err(self.stuck(path)),
        }
    }

    /// One step of the second phase.
    fn step(&mut self, journalled: JournalledOperation, renames: &mut Renames) -> Result<(), ReplicaError> {
        let settles = is_settling(&journalled);
        let JournalledOperation { operation, inode, .. } = journalled;
        match &operation.action {
            Action::Remove { .. } | Action::Rename { .. } | Action::Forget { .. } => Ok(()),
            Action::Create { path, .. } => {
                self.arrive_before(renames, Some(path))?;
                self.arrive(path, &Arrival { operation: operation.id, inode, area: Area::Stage })
            }
            Action::Link { path, target, .. } => {
                self.arrive_before(renames, None)?;
                self.link(path, target, operation.id)
            }
            Action::Edit { path, spans, entry, .. } => {
                self.arrive_before(renames, None)?;
                self.edit(path, operation.id, spans, entry)
            }
            // A directory gets its attributes when all below it is as it should be.
            Action::Attributes { entry, .. } if entry.is_directory() && !settles => Ok(()),
            Action::Attributes { path, entry } => {
                self.arrive_before(renames, None)?;
                self.set(path, entry)
            }
        }
    }

    /// Lets what is renamed arrive, as far as its new path comes before `path`.
    fn arrive_before(&mut self, renames: &mut Renames, path: Option<&RelPath>) -> Result<(), ReplicaError> {
        while renames.first_key_value().is_some_and(|(to, _)| path.is_none_or(|path| to < path)) {
            let Some((to, arrival)) = renames.pop_first() else { break };
            self.arrive(&to, &arrival)?;
        }
        Ok(())
    }

    fn arrive(&mut self, path: &RelPath, arrival: &Arrival) -> Result<(), ReplicaError> {
        let slot = layout::slot(arrival.area, self.position, arrival.operation);
        self.writable(path.parent().as_ref())?;
        self.movable(&slot)?;
        match self.disk.rename(&slot, path) {
            Err(error) if error.is_existing() => {
                self.put_aside(path, arrival.operation)?;
                Ok(self.disk.rename(&slot, path)?)
            }
            Err(error) if error.is_not_found() && self.disk.stat(&slot)?.is_none() => match self.disk.stat(path)? {
                Some(stat) if is_it(arrival.inode, &stat) => Ok(()),
                _ => Err(self.stuck(path)),
            },
            Err(error) if error.is_not_found() || error.is_refused_link() => {
                tracing::error!(%path, %error, "cannot be revealed");
                Err(self.stuck(path))
            }
            moved => Ok(moved?),
        }
    }

    /// Moves what lies where an entry must arrive, or where another was to be taken away, into the bundles: it belongs to no generation.
    fn put_aside(&mut self, path: &RelPath, operation: u32) -> Result<(), ReplicaError> {
        for directory in [layout::area(Area::Bundles), layout::of(Area::Bundles, self.position)] {
            ensure_directory(self.disk, &directory)?;
        }
        self.writable(path.parent().as_ref())?;
        self.movable(path)?;
        for number in 0..SAME_NAME {
            let [place, list] = layout::in_the_way(self.position, operation, number);
            if self.disk.stat(&place)?.is_some() {
                continue;
            }
            match self.disk.make_file(&list, path.as_bytes()) {
                Err(error) if !error.is_existing() => return Err(error.into()),
                _ => {}
            }
            self.disk.rename(path, &place)?;
            tracing::warn!(%path, bundle = %place, "something in the replica was in the way of a generation; it was put aside");
            self.outcome.put_aside += 1;
            return Ok(());
        }
        Err(self.stuck(path))
    }

    fn link(&mut self, path: &RelPath, target: &RelPath, operation: u32) -> Result<(), ReplicaError> {
        self.writable(path.parent().as_ref())?;
        match self.disk.link(target, path) {
            Err(error) if error.is_existing() => {
                let linked = self.disk.stat(target)?.ok_or_else(|| self.stuck(target))?;
                if self.disk.stat(path)?.is_some_and(|found| is_it(Some(linked.inode.id), &found)) {
                    return Ok(());
                }
                self.put_aside(path, operation)?;
                Ok(self.disk.link(target, path)?)
            }
            Err(error) if error.is_not_found() => Err(self.stuck(target)),
            made => Ok(made?),
        }
    }

    /// Writing the same bytes at the same places again changes nothing, so an edit may be done any number of times.
    fn edit(&mut self, path: &RelPath, operation: u32, spans: &[Span], entry: &Entry) -> Result<(), ReplicaError> {
        if !std::mem::replace(&mut self.outcome.has_edited, true) {
            self.disk.remove_file(&layout::room(self.position))?;
        }
        let payload = self.disk.open_read(&layout::slot(Area::Stage, self.position, operation))?;
        self.disk.ensure_writable(path)?;
        let file = self.disk.open_write(path)?;
        let mut buffer = vec![0; PIECE];
        let mut from = 0;
        for span in spans {
            let mut at = span.offset;
            while at < span.end() {
                let wanted = usize::try_from(span.end() - at).unwrap_or(usize::MAX).min(PIECE);
                let count = payload.read_at(&mut buffer[..wanted], from)?;
                if count == 0 {
                    return Err(self.stuck(path));
                }
                self.disk.write_at(&file, &buffer[..count], at)?;
                at += count as u64;
                from += count as u64;
            }
        }
        self.disk.set_len(&file, entry.size())?;
        self.set(path, entry)
    }

    fn set(&mut self, path: &RelPath, entry: &Entry) -> Result<(), ReplicaError> {
        match self.disk.set_attributes(path, entry, self.xattrs, self.privilege) {
            Ok(unheld) => {
                let unforeseen = unheld::counts(&unheld).minus(unheld::of_entry(self.able, entry));
                self.outcome.unforeseen = self.outcome.unforeseen.plus(unforeseen);
                Ok(())
            }
            Err(error) if error.is_not_found() => Err(self.stuck(path)),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets an unprivileged process change what is in `directory`; its mode is put right when the directories settle.
    fn writable(&self, directory: Option<&RelPath>) -> Result<(), FsError> {
        match directory {
            Some(directory) if !self.privilege.override_modes => self.disk.ensure_writable(directory),
            _ => Ok(()),
        }
    }

    /// A directory that is moved gets a new `..`, for which an unprivileged process must be able to write it.
    fn movable(&self, path: &RelPath) -> Result<(), FsError> {
        if !self.privilege.override_modes && self.disk.stat(path)?.is_some_and(|stat| stat.is_directory()) {
            self.disk.ensure_writable(path)?;
        }
        Ok(())
    }
}

/// True if a file that goes is not as it was left: written by hand, or another file that took over the inode's number.
fn is_rewritten(before: &PreImage, stat: &Stat) -> bool {
    match before {
        // Whole seconds: not every file system keeps more.
        PreImage::Taken { entry } if stat.is_file() => {
            entry.size() != stat.size || entry.mtime.seconds != stat.mtime.seconds
        }
        _ => false,
    }
}

/// True if `stat` is of the journalled inode. By number only: a device may get another one at the next boot.
fn is_it(inode: Option<InodeId>, stat: &Stat) -> bool {
    inode.is_none_or(|inode| inode.ino == stat.inode.id.ino)
}
