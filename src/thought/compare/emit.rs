//! From differences to the operations of one catch-up generation.
//!
//! Sections come in another order than differences, so what is to be created and what gets new attributes waits, encoded, in a
//! [`Scratch`].
//!
//! **Memory:** the paths of removals, and the names of hard-linked files that differ. Everything else lies in the scratch.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::ControlFlow;

use crate::words::entry::{Digest, Entry, InodeId, LinkId};
use crate::words::path::RelPath;

use super::{Difference, keeps_inode};
use crate::thought::filter::Filter;
use crate::thought::generation::{Action, Content, Operation, Payload};
use crate::thought::store::ReadStore;
use crate::thought::tree::{Tree, TreeError};

/// Where the content of a created file comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Supply {
    /// The standby has it and can find it by its digest.
    Held,
    /// It is shipped.
    Whole {
        /// The bytes, packed.
        payload: Payload,
        /// True if the primary's file has holes.
        sparse: bool,
    },
}

/// Records that wait outside of memory: a temporary file in a daemon, a vector in a test.
pub trait Scratch {
    /// Keeps `record`.
    fn push(&mut self, record: &[u8]) -> Result<(), ScratchError>;
    /// Shows `visit` all records in the order in which they were kept, until it breaks. Called more than once.
    fn read_all(&mut self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), ScratchError>;
}

impl Scratch for Vec<Vec<u8>> {
    fn push(&mut self, record: &[u8]) -> Result<(), ScratchError> {
        Self::push(self, record.to_vec());
        Ok(())
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), ScratchError> {
        let mut records = self.iter();
        while records.next().is_some_and(|record| visit(record).is_continue()) {}
        Ok(())
    }
}

/// What a scratch can fail with; floor 1 knows no files.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the scratch of a comparison")]
pub struct ScratchError {
    /// "read" or "write".
    pub operation: &'static str,
    /// What it said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the operations could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError<E> {
    /// The near tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The scratch failed.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The scratch gave back something else than it was given.
    #[error("a record in the scratch of a comparison is damaged")]
    Record,
    /// Operations are numbered in 32 bits.
    #[error("the catch-up has more than {} operations", u32::MAX)]
    TooMany,
    /// The operations could not be taken.
    #[error(transparent)]
    Sink(E),
}

/// Makes operations of differences.
///
/// A difference at one name of a hard-linked inode concerns all its names: on the standby it becomes a new inode, created under its first
/// name in path order and linked under the others.
///
/// What only the far side has and the filter leaves out is forgotten there, not removed.
pub struct Emitter<'a, S, K> {
    near: &'a Tree<S>,
    filter: &'a Filter,
    scratch: K,
    removals: Vec<RelPath>,
    forgotten: BTreeSet<RelPath>,
    /// The names at which a difference was told, in path order, of each near inode that has several.
    groups: BTreeMap<(InodeId, LinkId), Vec<RelPath>>,
}

/// Which section a scratch record waits for: its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Waiting {
    Create,
    Attributes,
}

impl<'a, S: ReadStore, K: Scratch> Emitter<'a, S, K> {
    /// An emitter for differences from `near`, the same tree that is compared, in which is nothing that `filter` leaves out. `scratch` is
    /// empty.
    pub fn new(near: &'a Tree<S>, filter: &'a Filter, scratch: K) -> Self {
        let (removals, forgotten) = (Vec::new(), BTreeSet::new());
        Self { near, filter, scratch, removals, forgotten, groups: BTreeMap::new() }
    }

    /// Takes the next difference, in the order in which [`differences`](super::differences) tells them.
    pub fn take(&mut self, difference: Difference<'_>) -> Result<(), ScratchError> {
        let (path, row) = match difference {
            Difference::Extra { path, entry } => {
                self.removals.push(path.clone());
                if self.filter.leaves_out(path, entry.is_directory()) {
                    self.forgotten.insert(path.clone());
                }
                return Ok(());
            }
            Difference::Changed { path, row, far } if keeps_inode(&row.entry, far) => {
                return self.keep(Waiting::Attributes, path, &row.entry);
            }
            Difference::Changed { path, row, .. } => {
                self.removals.push(path.clone());
                (path, row)
            }
            Difference::Missing { path, row } => (path, row),
        };
        match row.entry.link {
            Some(link) => self.groups.entry((row.inode.id, link)).or_default().push(path.clone()),
            None => self.keep(Waiting::Create, path, &row.entry)?,
        }
        Ok(())
    }

    fn keep(&mut self, waiting: Waiting, path: &RelPath, entry: &Entry) -> Result<(), ScratchError> {
        let record = postcard::to_extend(&(path, entry), vec![waiting as u8])
            .map_err(|source| ScratchError { operation: "write", source: Box::new(source) })?;
        self.scratch.push(&record)
    }

    /// How many paths are held in memory: what a limit is measured against.
    pub fn in_memory(&self) -> usize {
        self.removals.len() + self.forgotten.len() + self.groups.values().map(Vec::len).sum::<usize>()
    }

    /// Writes the operations to `sink`, in the order and numbering of a generation; tells how many they are. `payload_of` is asked once for
    /// every file that is created and not empty, with its near path and entry; for hard-linked files under their first name only,
    /// which need not be the one that [`contents`](super::contents) was told of.
    pub fn finish<E>(
        mut self,
        payload_of: &mut dyn FnMut(&RelPath, &Entry) -> Supply,
        sink: &mut dyn FnMut(Operation) -> Result<(), E>,
    ) -> Result<u64, EmitError<E>> {
        let mut linked = Linked::default();
        for ((inode, link), told) in mem::take(&mut self.groups) {
            linked.add(self.near, inode, link, &told)?;
        }
        self.removals.append(&mut linked.removals);
        self.removals.sort_unstable();
        linked.firsts.sort_unstable();
        linked.links.sort_unstable();

        let near = self.near;
        let mut writer = Writer { payload_of, sink, next: 0 };
        for path in mem::take(&mut self.removals).into_iter().rev() {
            let is_forgotten = self.forgotten.remove(&path);
            writer.write(if is_forgotten { Action::Forget { path } } else { Action::Remove { path } }, None)?;
        }
        let mut firsts = linked.firsts.into_iter().peekable();
        self.each(Waiting::Create, &mut |path, entry| {
            while let Some(first) = firsts.next_if(|first| *first < path) {
                let entry = entry_at(near, &first)?;
                writer.create(first, entry)?;
            }
            writer.create(path, entry)
        })?;
        for first in firsts {
            let entry = entry_at(near, &first)?;
            writer.create(first, entry)?;
        }
        for (path, target) in linked.links {
            let entry = entry_at(near, &path)?;
            writer.write(Action::Link { path, target, entry }, None)?;
        }
        self.each(Waiting::Attributes, &mut |path, entry| writer.write(Action::Attributes { path, entry }, None))?;
        Ok(writer.next)
    }

    /// Calls `visit` for every record that waits for `section`.
    fn each<E>(
        &mut self,
        section: Waiting,
        visit: &mut dyn FnMut(RelPath, Entry) -> Result<(), EmitError<E>>,
    ) -> Result<(), EmitError<E>> {
        let mut outcome = Ok(());
        self.scratch.read_all(&mut |record| {
            outcome = match record.split_first() {
                Some((tag, rest)) if *tag == section as u8 => match postcard::take_from_bytes(rest) {
                    Ok(((path, entry), [])) => visit(path, entry),
                    Ok(_) | Err(_) => Err(EmitError::Record),
                },
                Some(_) => Ok(()),
                None => Err(EmitError::Record),
            };
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }
}

/// What comes of the hard-linked inodes that differ.
#[derive(Default)]
struct Linked {
    removals: Vec<RelPath>,
    firsts: Vec<RelPath>,
    /// Names with the first name of the same inode.
    links: Vec<(RelPath, RelPath)>,
}

impl Linked {
    /// Adds the near inode that `link` stands for, of whose names a difference was told at `told`, in path order.
    fn add<S: ReadStore, E>(
        &mut self,
        near: &Tree<S>,
        inode: InodeId,
        link: LinkId,
        told: &[RelPath],
    ) -> Result<(), EmitError<E>> {
        let mut names = near.names_of(inode, usize::MAX)?;
        names.extend_from_slice(told);
        names.sort_unstable();
        names.dedup();
        // In a fuzzy tree names of one inode may have been read at different instants; only equal entries are linked, so that no name
        // gets a content that its entry does not tell.
        let mut firsts: BTreeMap<Digest, RelPath> = BTreeMap::new();
        for name in names {
            let entry = entry_at(near, &name)?;
            if entry.link != Some(link) {
                continue;
            }
            if told.binary_search(&name).is_err() {
                // Nothing was told of it, so the far side has it, as it is here.
                self.removals.push(name.clone());
            }
            match firsts.entry(entry.digest()) {
                Slot::Vacant(slot) => {
                    self.firsts.push(name.clone());
                    slot.insert(name);
                }
                Slot::Occupied(slot) => self.links.push((name, slot.get().clone())),
            }
        }
        Ok(())
    }
}

/// Numbers operations and hands them on.
struct Writer<'a, E> {
    payload_of: &'a mut dyn FnMut(&RelPath, &Entry) -> Supply,
    sink: &'a mut dyn FnMut(Operation) -> Result<(), E>,
    next: u64,
}

impl<E> Writer<'_, E> {
    fn create(&mut self, path: RelPath, entry: Entry) -> Result<(), EmitError<E>> {
        let (content, payload, sparse) = if entry.size() == 0 {
            (Content::None, None, false)
        } else {
            match (self.payload_of)(&path, &entry) {
                Supply::Held => (Content::Held, None, false),
                Supply::Whole { payload, sparse } => (Content::Whole, Some(payload), sparse),
            }
        };
        self.write(Action::Create { path, entry, content, sparse }, payload)
    }

    fn write(&mut self, action: Action, payload: Option<Payload>) -> Result<(), EmitError<E>> {
        let id = u32::try_from(self.next).map_err(|_| EmitError::TooMany)?;
        self.next += 1;
        (self.sink)(Operation { id, action, payload }).map_err(EmitError::Sink)
    }
}

fn entry_at<S: ReadStore>(near: &Tree<S>, path: &RelPath) -> Result<Entry, TreeError> {
    match near.row(path)? {
        Some(row) => Ok(row.entry),
        None => Err(TreeError::Missing(path.clone())),
    }
}
