//! Catching a standby up by comparing trees: the differences, and the operations of the one generation that mends them.
//!
//! The near tree is the primary's own, held still (a snapshot). The far tree is the standby's, known only by asking for the children of
//! one directory at a time ([`Far`]); a question is asked only where node digests differ and the near side has a directory, so it
//! costs what differs, not what is there. [`differences`] tells them in path order, [`contents`] says which file content a difference
//! needs, and an [`Emitter`] makes the operations of them.
//!
//! **Invariant:** applying what the emitter wrote to the far tree gives the near tree, hard links included (tested with random
//! trees).
//!
//! **Memory:** the names and entries of the siblings on the way down to the current path, on both sides. Nothing is kept per path beyond
//! (but see [`Emitter`]).

mod emit;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::words::entry::{Digest, Entry};
use crate::words::path::{Name, RelPath};

use super::store::ReadStore;
use super::tree::{CONTENT_LOOKUP_BYTES, Row, Tree, TreeError};

pub use emit::{EmitError, Emitter, Scratch, ScratchError, Supply};

/// A child of a directory of the far tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarChild {
    /// Its name.
    pub name: Name,
    /// Its entry.
    pub entry: Entry,
    /// Its node digest, as `tree` defines it.
    pub digest: Digest,
}

/// The far tree, which stands still while it is asked.
pub trait Far {
    /// Why there was no answer.
    type Error;
    /// All children of the directory at `path`, in any order.
    fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, Self::Error>;
}

/// What differs at one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference<'a> {
    /// Only the near side has it. Of a directory, everything below it follows as missing too.
    Missing {
        /// Where.
        path: &'a RelPath,
        /// The near row, without what is remembered of large files.
        row: &'a Row,
    },
    /// Only the far side has it. What is below it is not told.
    Extra {
        /// Where.
        path: &'a RelPath,
        /// The far entry.
        entry: &'a Entry,
    },
    /// Both have it, with other entries. If the near side is a directory and the far side none, everything below it follows as missing;
    /// the other way round, what was below it is not told.
    Changed {
        /// Where.
        path: &'a RelPath,
        /// The near row, without what is remembered of large files.
        row: &'a Row,
        /// The far entry.
        far: &'a Entry,
    },
}

impl<'a> Difference<'a> {
    /// Where it is.
    pub fn path(&self) -> &'a RelPath {
        match self {
            Self::Missing { path, .. } | Self::Extra { path, .. } | Self::Changed { path, .. } => path,
        }
    }
}

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompareError<F, E> {
    /// The near tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The near tree was changed since it was last asked for its digest: its node digests say nothing.
    #[error("the tree to compare was changed and not digested")]
    Stale,
    /// The far side did not answer.
    #[error("cannot learn what the other side has in {path}")]
    Far {
        /// The directory asked for.
        path: RelPath,
        /// What it, or the way to it, said.
        #[source]
        source: F,
    },
    /// The far side named one child twice.
    #[error("the other side tells of {0} twice")]
    Twice(RelPath),
    /// The differences could not be taken.
    #[error(transparent)]
    Sink(E),
}

/// Tells `sink` every difference between `near` and the far tree, whose root has the entry and node digest `far_root`: in path order, so a
/// directory before what is below it. Asks `far` once for each directory that both have and whose node digests differ; not at all if
/// the roots are equal.
pub fn differences<S: ReadStore, F: Far, E>(
    near: &Tree<S>,
    far_root: (&Entry, Digest),
    far: &mut F,
    sink: &mut dyn FnMut(Difference<'_>) -> Result<(), E>,
) -> Result<(), CompareError<F::Error, E>> {
    if near.stale_directories().next().is_some() {
        return Err(CompareError::Stale);
    }
    let (root, (far_entry, far_digest)) = (near.root(), far_root);
    if root.digest() == far_digest {
        return Ok(());
    }
    let mut at = RelPath::root();
    if root.entry.digest() != far_entry.digest() {
        sink(Difference::Changed { path: &at, row: root, far: far_entry }).map_err(CompareError::Sink)?;
    }
    // A stack of our own: a path may have more components than a thread's stack has room for calls.
    let mut levels = vec![Level::new(children_of(near, root)?, ask(far, &at)?)];
    while let Some(level) = levels.last_mut() {
        let Some((near_child, far_child)) = level.next() else {
            levels.pop();
            at = at.parent().unwrap_or_default();
            continue;
        };
        let name = match (&near_child, &far_child) {
            (Some((name, _)), _) | (None, Some(FarChild { name, .. })) => name,
            (None, None) => continue,
        };
        let path = at.join(name);
        let told = match (&near_child, &far_child) {
            (Some((_, row)), None) => Some(Difference::Missing { path: &path, row }),
            (None, Some(child)) => Some(Difference::Extra { path: &path, entry: &child.entry }),
            (Some((_, row)), Some(child)) if row.digest() == child.digest => continue,
            (Some((_, row)), Some(child)) if row.entry.digest() != child.entry.digest() => {
                Some(Difference::Changed { path: &path, row, far: &child.entry })
            }
            _ => None,
        };
        if let Some(difference) = told {
            sink(difference).map_err(CompareError::Sink)?;
        }
        let Some((_, row)) = near_child.filter(|(_, row)| row.entry.is_directory()) else { continue };
        let beyond = match far_child {
            Some(child) if child.entry.is_directory() => ask(far, &path)?,
            _ => Vec::new(),
        };
        levels.push(Level::new(children_of(near, &row)?, beyond));
        at = path;
    }
    Ok(())
}

/// The children of one directory that are still to be compared, by name.
struct Level {
    near: Peekable<IntoIter<(Name, Row)>>,
    far: Peekable<IntoIter<FarChild>>,
}

impl Level {
    fn new(mut near: Vec<(Name, Row)>, far: Vec<FarChild>) -> Self {
        near.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self { near: near.into_iter().peekable(), far: far.into_iter().peekable() }
    }
}

impl Iterator for Level {
    type Item = (Option<(Name, Row)>, Option<FarChild>);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.near.peek(), self.far.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((name, _)), Some(child)) => name.cmp(&child.name),
        };
        let near = if order.is_le() { self.near.next() } else { None };
        let far = if order.is_ge() { self.far.next() } else { None };
        Some((near, far))
    }
}

fn children_of<S: ReadStore>(near: &Tree<S>, row: &Row) -> Result<Vec<(Name, Row)>, TreeError> {
    let mut children = Vec::new();
    if let Some(directory) = &row.directory {
        near.for_children::<TreeError>(directory.id, |name, row| {
            children.push((name, Row { memory: None, ..row }));
            Ok(())
        })?;
    }
    Ok(children)
}

/// The far children of `path`, by name.
fn ask<F: Far, E>(far: &mut F, path: &RelPath) -> Result<Vec<FarChild>, CompareError<F::Error, E>> {
    let mut children = far.directory(path).map_err(|source| CompareError::Far { path: path.clone(), source })?;
    children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match children.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(CompareError::Twice(path.join(&pair[0].name))),
        None => Ok(children),
    }
}

/// The entry whose content the standby needs for `difference`: `None` if it needs none, there being none, or surely has it and can find it.
///
/// The same content on both sides is told all the same when it goes into a new file (because of hard links) and is shorter than
/// [`CONTENT_LOOKUP_BYTES`]: the standby could not find it by its digest.
pub fn contents<'a>(difference: &Difference<'a>) -> Option<&'a Entry> {
    let entry = match difference {
        Difference::Extra { .. } => return None,
        Difference::Missing { row, .. } => &row.entry,
        Difference::Changed { row, far, .. } => {
            let is_found = row.entry.size() >= CONTENT_LOOKUP_BYTES;
            if row.entry.same_content(far) && (is_found || keeps_inode(&row.entry, far)) {
                return None;
            }
            &row.entry
        }
    };
    (entry.content().is_some() && entry.size() > 0).then_some(entry)
}

/// True if what is at a path can stay there and needs only other attributes: a directory, or what has the same content and no other
/// name on either side.
fn keeps_inode(near: &Entry, far: &Entry) -> bool {
    near.same_content(far) && (near.is_directory() || (near.link.is_none() && far.link.is_none()))
}
