//! What is done when a replica is opened: the index brought to where the journal is, what was acked revealed, the rest cleared away.

use std::cell::Cell;
use std::path::Path;

use super::layout::{self, Area};
use super::operations::{Journalled, Replayed};
use super::replica::Replica;
use super::standing::Standing;
use super::{ReplicaError, adopt, bundle};
use crate::index::{Index, IndexError, Opened};
use crate::journal::{Kept, Log, Record, RecordKind, State};
use crate::thought::generation::{Action, Header, Operation};
use crate::thought::tree::{ApplyError, Arrived, Row, Witness};
use crate::words::entry::{Inode, InodeId};
use crate::words::path::RelPath;

/// Opens the index at `path`; true if it knows nothing of the disk, and why if it once did.
pub(super) fn open_index(path: &Path) -> Result<(Index, bool, Option<String>), ReplicaError> {
    Ok(match Index::open(path)? {
        Opened::Intact(index) => (index, false, None),
        Opened::New(index) => (index, true, None),
        Opened::Rebuilt { index, why } => (index, true, Some(why)),
    })
}

/// Removes the index, durably, if there is one; it must not be open.
pub(super) fn forget_index(path: &Path) -> Result<(), ReplicaError> {
    #[expect(clippy::disallowed_methods, reason = "the state directory is outside the home")]
    let removed = std::fs::remove_file(path).and_then(|()| match path.parent() {
        Some(state) => std::fs::File::open(state)?.sync_all(),
        None => Ok(()),
    });
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(|source| IndexError::SetAside { path: path.into(), source })?),
    }
}

impl Replica {
    /// Brings an index that was not committed since to where the journal is. False if it stands where the journal was never, or before what is done,
    /// of which the journal keeps no more than that: then it does not describe this disk.
    pub(super) fn catch_up(&mut self, generations: &[Kept]) -> Result<bool, ReplicaError> {
        let acked = generations.iter().filter(|kept| !matches!(kept.state, State::Staging | State::Dropped));
        let mut last = None;
        let mut behind = Vec::new();
        for kept in acked {
            let header = self.header(kept)?;
            last = Some(header.chain());
            if header.parent_chain == self.standing().chain {
                behind.clear();
                behind.push((kept, header));
            } else if header.chain() == self.standing.chain {
                behind.clear();
            } else if behind.last().is_some_and(|(_, before)| before.chain() == header.parent_chain) {
                behind.push((kept, header));
            }
        }
        let found = behind.last().map_or(self.standing.chain, |(_, header)| header.chain());
        if last.is_some_and(|last| last != found) {
            return Ok(false);
        }
        for (kept, header) in behind {
            if !self.catch_up_with(kept, &header)? {
                return Ok(false);
            }
        }
        Ok(self.log.newest_done().is_none_or(|done| done <= self.standing.position))
    }

    /// Applies one journalled generation to the index; false if it does not fit.
    fn catch_up_with(&mut self, kept: &Kept, header: &Header) -> Result<bool, ReplicaError> {
        let inode = Cell::new(None);
        let operations = Journalled::new(&self.log, kept.parts.get(1..).unwrap_or_default());
        let applied = self.tree.apply(&Replayed::new(operations, &inode), &mut Known(&inode));
        if let Err(error) = applied {
            tracing::warn!(position = %kept.position, %error, "the index cannot be brought to where the journal is");
            return Ok(false);
        }
        if self.tree.digest()? != header.tree_after {
            return Ok(false);
        }
        self.is_counted = false;
        self.stand_at(header)?;
        self.tree.store_mut().commit()?;
        Ok(true)
    }

    /// Finishes what the journal says was acked, and clears away what was not; tells how many generations were to be revealed.
    pub(super) fn recover(&mut self, generations: Vec<Kept>) -> Result<usize, ReplicaError> {
        for kept in generations {
            match kept.state {
                State::Staging => {
                    let record = Record { kind: RecordKind::Dropped, position: kept.position, payload: Vec::new() };
                    self.log.append(&record)?;
                }
                State::Done if self.root.stat(&layout::keep_mark(kept.position))?.is_some() => {
                    bundle::keep(&self.root, kept.position)?;
                }
                State::Dropped | State::Done => {}
                State::Acked | State::Revealed => self.unrevealed.push_found(kept),
            }
        }
        self.log.sync()?;
        let count = self.unrevealed.len();
        // Where a later one was begun all before it were revealed, and what they wrote in place was synced. Their steps are not done again:
        // the later one has moved on what they made.
        let begun = |kept: &Kept| self.root.stat(&layout::of(Area::Reveal, kept.position));
        let mut newest = 0;
        for (number, kept) in self.unrevealed.iter().enumerate() {
            if begun(kept)?.is_some() {
                newest = number;
            }
        }
        for _ in 0..newest {
            self.mark_revealed()?;
        }
        while self.reveal()?.is_some() {}
        self.settle()?;
        self.litter.clear();
        for area in [Area::Stage, Area::Reveal] {
            let names = self.root.list(&layout::area(area))?.into_iter().map(|(name, _)| name);
            let left = names.filter(|name| layout::position_of(name).is_some());
            self.litter.extend(left.map(|name| layout::area(area).join(&name)));
        }
        self.sweep_briefly()?;
        self.root.remove_tree(&layout::old_journal())?;
        Ok(count)
    }

    pub(super) fn header(&self, kept: &Kept) -> Result<Header, ReplicaError> {
        let part =
            kept.parts.first().ok_or(ReplicaError::Header { position: kept.position, what: "it has no header" })?;
        Ok(Header::decode(&self.log.read(part)?)?)
    }

    /// Reads all that is on disk into a new index: what is there is compared by content when a primary is met. The standing is lost with
    /// the index, since nobody can say that the disk is what it was; and with it the journal, whose positions may come again.
    pub(super) fn reread(&mut self) -> Result<(), ReplicaError> {
        self.root.remove_tree(&layout::old_journal())?;
        self.root.rename(&layout::area(Area::Journal), &layout::old_journal())?;
        self.root.make_directory(&layout::area(Area::Journal), 0o700)?;
        self.root.sync_directory(&layout::reserved())?;
        self.log = Log::open(&self.options.home.join(".hotspare").join("journal"), self.standing.home)?.0;
        self.root.remove_tree(&layout::old_journal())?;
        adopt::read_tree(&self.root, &mut self.tree, &self.options, &RelPath::root())?;
        self.standing = Standing { home: self.standing.home, tree: self.tree.digest()?, ..Standing::default() };
        self.set_claim(None)?;
        // An empty directory has nothing to keep: its first opening was cut off.
        self.set_keeps_replaced(self.tree.counts().entries > 0)?;
        self.write_standing()?;
        self.tree.store_mut().commit()?;
        Ok(())
    }
}

/// Knows the inode of what arrives from the journal.
struct Known<'a>(&'a Cell<Option<InodeId>>);

impl Witness for Known<'_> {
    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        Ok(match (&operation.action, self.0.get()) {
            (Action::Create { .. }, Some(id)) => {
                Some(Arrived { inode: Inode { id, ..Inode::default() }, memory: None })
            }
            // What was remembered of an edited file's old content is no longer true.
            (Action::Edit { .. }, _) => before.map(|row| Arrived { inode: row.inode, memory: None }),
            _ => None,
        })
    }
}
