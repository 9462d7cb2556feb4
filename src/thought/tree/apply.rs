//! Applying a generation to a tree, in the same normal form in which a reveal applies it to a disk.
//!
//! First everything that leaves an old path leaves, deepest first; then everything arrives at its new path, shallowest first; then
//! links, then what changes in place. The sections of a generation are ordered for exactly this (see [`Section`]), so that one of any
//! size is applied with only its renames in memory.

use crate::words::entry::{Entry, Inode};
use crate::words::path::RelPath;

use super::{FileMemory, Row, Tree, TreeError};
use crate::thought::generation::{Action, Operation, Section};
use crate::thought::store::Store;

/// The operations of a generation, readable as often as needed.
pub trait Operations {
    /// Calls `visit` for every operation of `section`, in order.
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError>;
}

impl Operations for Vec<Operation> {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        self.iter()
            .filter(|operation| operation.action.section() == section)
            .try_for_each(|operation| visit(operation.clone()))
    }
}

/// Why a generation does not fit a tree.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tree refused a step.
    #[error("operation {operation} does not fit the tree")]
    Step {
        /// Which operation.
        operation: u32,
        /// What the tree said.
        #[source]
        source: TreeError,
    },
    /// The tree itself failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Operations could not be read.
    #[error("cannot read the operations of the generation")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The order within a section is not the one demanded.
    #[error("operation {0} is out of order")]
    Order(u32),
    /// A path lies in `.hotspare`.
    #[error("operation {0} names a path inside .hotspare")]
    Reserved(u32),
    /// More renames than a generation may have.
    #[error("the generation has more than {MAX_RENAMES} renames")]
    TooManyRenames,
    /// The operation asks for something of the wrong kind.
    #[error("operation {0} does not suit the kind of entry at its path")]
    Kind(u32),
}

/// The most renames in one generation: they are held in memory while it is applied. A plan beyond uses removals and held content.
pub const MAX_RENAMES: usize = 65_536;

/// What a node knows of an arriving entry beyond the operation.
#[derive(Default, Clone, Debug)]
pub struct Arrived {
    /// What its kernel says.
    pub inode: Inode,
    /// What to remember of a large file.
    pub memory: Option<Box<FileMemory>>,
}

/// What accompanies the application of a generation.
pub trait Witness {
    /// Told of each operation with the row it takes, replaces or changes; says what is known of the row it leaves. Not asked for an
    /// inode by a rename's own row when it returns `None`: the old facts stay.
    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError>;

    /// Told of every row that leaves the tree with a removal: its own and those below.
    fn gone(&mut self, _row: &Row) {}
}

impl<S: Store> Tree<S> {
    /// Applies `operations`; tells how many entries were removed. On an error the tree is half changed and must be dropped.
    pub fn apply(&mut self, operations: &dyn Operations, witness: &mut dyn Witness) -> Result<u64, ApplyError> {
        let mut renames = renames_of(operations)?;
        let removed = self.take_all(operations, &mut renames, witness)?;
        self.arrive_all(operations, renames, witness)?;
        operations.visit(Section::Link, &mut |operation| {
            let Action::Link { path, target, entry } = &operation.action else {
                return Err(ApplyError::Kind(operation.id));
            };
            check(&operation, path)?;
            let step = |source| ApplyError::Step { operation: operation.id, source };
            let linked = self.row(target)?.ok_or_else(|| step(TreeError::Missing(target.clone())))?;
            let arrived = witness.step(&operation, Some(&linked))?;
            let mut row = Row { entry: entry.clone(), ..linked };
            if row.directory.is_some() || entry.is_directory() {
                return Err(ApplyError::Kind(operation.id));
            }
            if let Some(arrived) = arrived {
                row.inode = arrived.inode;
                // Of the content it will have: what the target has may be edited yet.
                row.memory = arrived.memory;
            }
            self.attach(path, row).map_err(step)
        })?;
        for section in [Section::Edit, Section::Attributes] {
            operations.visit(section, &mut |operation| self.change(&operation, witness))?;
        }
        operations.visit(Section::Link, &mut |operation| self.check_link(&operation))?;
        Ok(removed)
    }

    /// A link shows what its target shows, once all edits are made.
    fn check_link(&self, operation: &Operation) -> Result<(), ApplyError> {
        let Action::Link { path, target, .. } = &operation.action else { return Err(ApplyError::Kind(operation.id)) };
        let row = |path: &RelPath| {
            let row = self.row(path).and_then(|row| row.ok_or_else(|| TreeError::Missing(path.clone())));
            row.map_err(|source| ApplyError::Step { operation: operation.id, source })
        };
        if row(path)?.entry.same_content(&row(target)?.entry) { Ok(()) } else { Err(ApplyError::Kind(operation.id)) }
    }

    fn take_all(
        &mut self,
        operations: &dyn Operations,
        renames: &mut [Renamed],
        witness: &mut dyn Witness,
    ) -> Result<u64, ApplyError> {
        let mut removed = 0;
        // Removals come deepest first, which is descending order; the renames are merged in by their old path.
        let mut by_source: Vec<usize> = (0..renames.len()).collect();
        by_source.sort_by(|&a, &b| renames[b].from.cmp(&renames[a].from));
        let mut waiting = by_source.into_iter().peekable();
        let mut last: Option<RelPath> = None;
        operations.visit(Section::Remove, &mut |operation| {
            let (Action::Remove { path } | Action::Forget { path }) = &operation.action else {
                return Err(ApplyError::Kind(operation.id));
            };
            check(&operation, path)?;
            while let Some(index) = waiting.next_if(|&index| renames[index].from > *path) {
                self.take(&mut renames[index], witness)?;
            }
            if last.as_ref().is_some_and(|last| last <= path) {
                return Err(ApplyError::Order(operation.id));
            }
            last = Some(path.clone());
            let row = self.detach(path).map_err(|source| ApplyError::Step { operation: operation.id, source })?;
            witness.step(&operation, Some(&row))?;
            removed += self.forget(&row, &mut |row| witness.gone(row))?;
            Ok(())
        })?;
        for index in waiting {
            self.take(&mut renames[index], witness)?;
        }
        Ok(removed)
    }

    fn take(&mut self, renamed: &mut Renamed, witness: &mut dyn Witness) -> Result<(), ApplyError> {
        let step = |source| ApplyError::Step { operation: renamed.operation.id, source };
        let mut row = self.detach(&renamed.from).map_err(step)?;
        if let Some(arrived) = witness.step(&renamed.operation, Some(&row))? {
            row.inode = arrived.inode;
        }
        renamed.row = Some(row);
        Ok(())
    }

    fn arrive_all(
        &mut self,
        operations: &dyn Operations,
        renames: Vec<Renamed>,
        witness: &mut dyn Witness,
    ) -> Result<(), ApplyError> {
        let mut waiting = renames.into_iter().peekable();
        let mut last: Option<RelPath> = None;
        operations.visit(Section::Create, &mut |operation| {
            let Action::Create { path, entry, .. } = &operation.action else {
                return Err(ApplyError::Kind(operation.id));
            };
            check(&operation, path)?;
            while let Some(renamed) = waiting.next_if(|renamed| renamed.to < *path) {
                self.arrive(renamed)?;
            }
            if last.as_ref().is_some_and(|last| last >= path) {
                return Err(ApplyError::Order(operation.id));
            }
            last = Some(path.clone());
            let arrived = witness.step(&operation, None)?.unwrap_or_default();
            let row = Row { entry: entry.clone(), inode: arrived.inode, directory: None, memory: arrived.memory };
            self.attach(path, row).map_err(|source| ApplyError::Step { operation: operation.id, source })
        })?;
        waiting.try_for_each(|renamed| self.arrive(renamed))
    }

    fn arrive(&mut self, renamed: Renamed) -> Result<(), ApplyError> {
        let operation = renamed.operation.id;
        let row = renamed.row.ok_or(ApplyError::Order(operation))?;
        self.attach(&renamed.to, row).map_err(|source| ApplyError::Step { operation, source })
    }

    fn change(&mut self, operation: &Operation, witness: &mut dyn Witness) -> Result<(), ApplyError> {
        let (Action::Edit { path, entry, .. } | Action::Attributes { path, entry }) = &operation.action else {
            return Err(ApplyError::Kind(operation.id));
        };
        check(operation, path)?;
        let step = |source| ApplyError::Step { operation: operation.id, source };
        let before = self.row(path)?.ok_or_else(|| step(TreeError::Missing(path.clone())))?;
        if before.entry.kind() != entry.kind() {
            return Err(ApplyError::Kind(operation.id));
        }
        self.check_content(operation, &before.entry, entry)?;
        let arrived = witness.step(operation, Some(&before))?;
        let mut row = Row { entry: entry.clone(), ..before };
        if let Some(arrived) = arrived {
            row.inode = arrived.inode;
            row.memory = arrived.memory;
        }
        self.update(path, row).map_err(step)
    }

    /// Attributes leave the content alone, except that another name of an inode edited in this generation shows the new content.
    fn check_content(&self, operation: &Operation, before: &Entry, after: &Entry) -> Result<(), ApplyError> {
        let suits = match &operation.action {
            Action::Attributes { .. } => before.same_content(after) || (before.link.is_some() && after.link.is_some()),
            Action::Edit { old_length, .. } => before.size() == *old_length,
            _ => true,
        };
        if suits { Ok(()) } else { Err(ApplyError::Kind(operation.id)) }
    }
}

struct Renamed {
    operation: Operation,
    from: RelPath,
    to: RelPath,
    row: Option<Row>,
}

fn renames_of(operations: &dyn Operations) -> Result<Vec<Renamed>, ApplyError> {
    let mut renames: Vec<Renamed> = Vec::new();
    operations.visit(Section::Rename, &mut |operation| {
        let Action::Rename { from, to } = &operation.action else { return Err(ApplyError::Kind(operation.id)) };
        check(&operation, from)?;
        check(&operation, to)?;
        if renames.len() == MAX_RENAMES {
            return Err(ApplyError::TooManyRenames);
        }
        if renames.last().is_some_and(|last| last.to >= *to) {
            return Err(ApplyError::Order(operation.id));
        }
        renames.push(Renamed { from: from.clone(), to: to.clone(), operation, row: None });
        Ok(())
    })?;
    Ok(renames)
}

fn check(operation: &Operation, path: &RelPath) -> Result<(), ApplyError> {
    if path.is_reserved() { Err(ApplyError::Reserved(operation.id)) } else { Ok(()) }
}
