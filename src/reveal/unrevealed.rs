//! Generations that are acked and not revealed yet: what they will make of the disk, and where things lie until then.
//!
//! The tree is that of the newest acked generation, the disk that of the newest revealed one; between the two lie the unrevealed ones, in order. One
//! that is staged upon them names paths and contents as the tree has them, and needs their bytes as the disk has them. Two questions are all there
//! is to it.
//!
//! **Where is the file that the tree has at a path?** The path is followed back, from the newest unrevealed generation to the oldest. In each, what
//! arrived nearest to the path, at itself or at a directory above, decides:
//!
//! | nearest arrival | then |
//! |---|---|
//! | a creation, at the path itself | it lies in the stage of that generation: `stage/<position>/<operation>` |
//! | a link, at the path itself | the path that it is linked to, in the same generation |
//! | a rename | the path that this had before, in the generation before |
//! | none | the same path, in the generation before |
//!
//! A path that comes through all of them is where the file lies in the replica. No other case can be: what is below a created directory arrived there
//! itself. Removals are no matter, since the tree has nothing where something was removed and nothing arrived.
//!
//! **Which bytes has it?** Those that lie there, and over them those of every unrevealed edit of its inode, oldest first (`layered`). An inode is
//! known by its number, which it keeps from the stage into the replica and under all its names; numbers are not used again before what they
//! belonged to is tidied away, and that is after all of these are revealed.
//!
//! **An error here loses nothing.** Of a path the inode that is found must be that of the tree's row, and whatever is made of bytes must have its
//! digest before it is acked; the worst that comes of a wrong answer is that a content is asked for again, whole.
//!
//! **Reveal and recovery know nothing of all this.** What a generation does is journalled with the inodes it moves, each is revealed onto exactly the
//! state that it was made from, in order, and what was found in a stage was only read there. A file that was opened as a base stays right while
//! the generation below is revealed: its inode is moved, and written where a layer over it says the same already; no edit makes it shorter.
//!
//! **Bounds (G9).** Upon what is not revealed another generation may be staged as long as they are [`GENERATIONS`], and [`CHANGES`] operations and spans,
//! some 300 bytes of memory each, and have [`STAGED_BYTES`] in the stage, at most. The one that exceeds them is acked still, whatever its size, and
//! of it is remembered nothing: it is the last until everything up to it is revealed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::layered::Layered;
use super::layout::{self, Area};
use crate::fs::{FsError, Root};
use crate::journal::Kept;
use crate::thought::delta::Span;
use crate::thought::generation::{Action, Operation};
use crate::words::path::RelPath;

/// So many generations may be unrevealed with another upon them.
pub(super) const GENERATIONS: usize = 1000;
/// So many operations and spans of edits.
pub(super) const CHANGES: usize = 100_000;
/// So many bytes in the stage: 4 GiB.
pub(super) const STAGED_BYTES: u64 = 4 << 30;
/// More links than that are followed from one to the next by nobody.
const LINKS: usize = 64;

/// How a path of the state after a generation came to be.
enum Arrival {
    /// It was created by this operation.
    Staged(u32),
    /// It had this path before.
    Moved(RelPath),
    /// It is another name of what is at this path.
    Linked(RelPath),
}

/// Bytes that are to be written into a file.
struct Edit {
    operation: u32,
    spans: Vec<Span>,
    new_length: u64,
}

/// What one generation changes, as far as a later one must know.
#[derive(Default)]
pub(super) struct Changes {
    arrivals: HashMap<RelPath, Arrival>,
    /// By the number of the inode.
    edits: HashMap<u64, Vec<Edit>>,
    /// Operations and spans.
    count: usize,
    staged_bytes: u64,
}

impl Changes {
    /// Takes note of an operation, which edits the inode `inode` if it edits.
    pub(super) fn note(&mut self, operation: &Operation, inode: Option<u64>) {
        self.count += 1;
        if self.count > CHANGES {
            // Nothing comes upon this one: see the bounds.
            self.forget();
            return;
        }
        let id = operation.id;
        match (&operation.action, inode) {
            (Action::Create { path, .. }, _) => {
                self.arrivals.insert(path.clone(), Arrival::Staged(id));
            }
            (Action::Rename { from, to }, _) => {
                self.arrivals.insert(to.clone(), Arrival::Moved(from.clone()));
            }
            (Action::Link { path, target, .. }, _) => {
                self.arrivals.insert(path.clone(), Arrival::Linked(target.clone()));
            }
            (Action::Edit { spans, entry, .. }, Some(inode)) => {
                self.count += spans.len();
                let edit = Edit { operation: id, spans: spans.clone(), new_length: entry.size() };
                self.edits.entry(inode).or_default().push(edit);
            }
            _ => {}
        }
    }

    /// Takes note of how much is in the stage.
    pub(super) fn staged(&mut self, bytes: u64) {
        self.staged_bytes = bytes;
    }

    fn forget(&mut self) {
        (self.arrivals, self.edits) = (HashMap::new(), HashMap::new());
    }

    /// Where what is at `path` after the generation is before it.
    fn before(&self, path: RelPath) -> Before {
        let mut path = path;
        for _ in 0..LINKS {
            let mut nearest = Some(path.clone());
            let arrival = loop {
                let Some(here) = nearest else { return Before::At(path) };
                match self.arrivals.get(&here) {
                    Some(arrival) => break (here, arrival),
                    None => nearest = here.parent(),
                }
            };
            match arrival {
                (here, Arrival::Staged(operation)) if here == path => return Before::Staged(*operation),
                (here, Arrival::Linked(target)) if here == path => path = target.clone(),
                (here, Arrival::Moved(from)) => return path.rebase(&here, from).map_or(Before::Nowhere, Before::At),
                _ => return Before::Nowhere,
            }
        }
        Before::Nowhere
    }
}

/// Where a path leads.
enum Before {
    At(RelPath),
    Staged(u32),
    Nowhere,
}

/// One generation that is acked and not revealed.
pub(super) struct Pending {
    pub(super) kept: Kept,
    changes: Changes,
}

/// All of them, oldest first.
#[derive(Default)]
pub(super) struct Unrevealed(VecDeque<Pending>);

impl Unrevealed {
    /// Adds the newest.
    pub(super) fn push(&mut self, kept: Kept, changes: Changes) {
        self.0.push_back(Pending { kept, changes });
    }

    /// Adds one found in the journal, which must be revealed before another comes upon it.
    pub(super) fn push_found(&mut self, kept: Kept) {
        self.push(kept, Changes { count: CHANGES, ..Changes::default() });
    }

    /// The oldest.
    pub(super) fn first(&self) -> Option<&Kept> {
        self.0.front().map(|pending| &pending.kept)
    }

    /// Takes the oldest out.
    pub(super) fn pop(&mut self) -> Option<Kept> {
        self.0.pop_front().map(|pending| pending.kept)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter().map(|pending| &pending.kept)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if another generation may be staged upon these.
    pub(super) fn bears_more(&self) -> bool {
        let sum = |add: fn(&Changes) -> u64| self.0.iter().map(|pending| add(&pending.changes)).sum::<u64>();
        self.0.len() < GENERATIONS
            && sum(|changes| changes.count as u64) < CHANGES as u64
            && sum(|changes| changes.staged_bytes) < STAGED_BYTES
    }

    /// Where the file lies that the tree has at `path`; `None` if that cannot be.
    fn place(&self, path: &RelPath) -> Option<RelPath> {
        let mut path = path.clone();
        for Pending { kept, changes } in self.0.iter().rev() {
            match changes.before(path) {
                Before::At(before) => path = before,
                Before::Staged(operation) => return Some(layout::slot(Area::Stage, kept.position, operation)),
                Before::Nowhere => return None,
            }
        }
        Some(path)
    }

    /// Opens the file that the tree has at `path`, of the inode `inode`; `None` if what is there is not that.
    pub(super) fn open(&self, root: &Arc<Root>, path: &RelPath, inode: u64) -> Result<Option<Layered>, FsError> {
        let Some(place) = self.place(path) else { return Ok(None) };
        let base = match root.open_read(&place) {
            Ok(base) => base,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        if base.opened().inode.id.ino != inode {
            return Ok(None);
        }
        let mut file = Layered::plain(root, base);
        for Pending { kept, changes } in &self.0 {
            for edit in changes.edits.get(&inode).into_iter().flatten() {
                let payload = layout::slot(Area::Stage, kept.position, edit.operation);
                file.lay(&edit.spans, edit.new_length, payload);
            }
        }
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let position = crate::words::position::Position::default();
        Kept { position, state: crate::journal::State::Acked, parts: Vec::new(), mark: None }
    }

    #[test]
    fn so_much_is_borne_and_no_more() {
        let with = |number: usize, count: usize, staged_bytes: u64| {
            let mut all = Unrevealed::default();
            (0..number).for_each(|_| all.push(kept(), Changes { count, staged_bytes, ..Changes::default() }));
            all.bears_more()
        };
        assert!(with(0, 0, 0) && with(999, 100, 4 << 20));
        assert!(!with(1000, 0, 0) && !with(10, 10_000, 0) && !with(4, 1, 1 << 30));
        let mut found = Unrevealed::default();
        found.push_found(kept());
        assert!(!found.bears_more(), "nobody knows what it changes");
    }

    #[test]
    fn of_a_generation_beyond_the_bounds_nothing_is_remembered() {
        let path = |name: &str| RelPath::parse(name.as_bytes()).unwrap();
        let mut changes = Changes::default();
        for id in 0..u32::try_from(CHANGES).unwrap() + 1 {
            let action = Action::Rename { from: path("a"), to: path(&id.to_string()) };
            changes.note(&Operation { id, action, payload: None }, None);
        }
        assert!(changes.arrivals.is_empty());
        let mut all = Unrevealed::default();
        all.push(kept(), changes);
        assert!(!all.bears_more());
    }
}
