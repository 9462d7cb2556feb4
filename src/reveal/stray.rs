//! Strays: what on the disk is not what the tree says, because somebody changed the replica by hand or bytes have rotted.
//!
//! The tree is brought to the truth, durably, and the standing with it: the replica says from then on that it stands at no generation that a
//! primary knows (see [`Replica::standing`]), so it is caught up by comparing trees, and what differs is mended by an ordinary generation.
//! What that one replaces belongs to no generation, and is kept (see `bundle`).
//!
//! A look by [`Depth::Stat`] compares all that is replicated but content, of which size and time must do. The change time is no help: revealing
//! moves it.

use std::collections::BTreeSet;

use super::adopt;
use super::replica::Replica;
use super::{ReplicaError, unheld};
use crate::audit::{AuditError, AuditOptions, Audited, Difference, What, audit};
use crate::capture::{Captured, Capturer, How};
use crate::index::Snapshot;
use crate::spool::Spool;
use crate::thought::filter::Filter;
use crate::thought::tree::{Row, TreeError};
use crate::words::entry::Kind;
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How many strays are taken in at a time.
const BATCH: usize = 20_000;
/// How many of those are logged by name.
const NAMED: u64 = 100;
/// Where a file system keeps what it found without a name.
const LOST: &[u8] = b"lost+found";

/// How close a replica is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Everything but content.
    Stat,
    /// Content is read and hashed.
    Content,
}

/// Which paths are looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// These, and what is below them.
    pub below: Vec<RelPath>,
    /// These, but not what is below them.
    pub alone: BTreeSet<RelPath>,
}

impl Scope {
    /// Every path.
    pub fn everything() -> Self {
        Self { below: vec![RelPath::root()], alone: BTreeSet::new() }
    }

    /// Adds what is to be looked at again where there was a difference: a directory that was not entered with all below it.
    pub fn note(&mut self, found: &Difference) {
        let was_not_entered = matches!(found.what, What::Missing | What::Kind | What::Unreadable);
        if was_not_entered && found.kind == Some(Kind::Directory) {
            self.below.push(found.path.clone());
        } else {
            self.alone.insert(found.path.clone());
        }
    }

    /// How many paths it names.
    pub fn paths(&self) -> usize {
        self.below.len() + self.alone.len()
    }

    /// True if there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.below.is_empty() && self.alone.is_empty()
    }
}

/// What a look at the replica found.
#[derive(Clone, Debug, Default)]
pub struct Strays {
    /// What was looked at.
    pub audited: Audited,
    /// The paths that were taken into the tree.
    pub paths: u64,
}

impl Replica {
    /// Compares the disk with the tree as far as `scope` goes and takes what differs into the tree. `visit` is told of every
    /// difference. All acked generations are revealed first.
    pub fn take_strays(
        &mut self,
        filter: &Filter,
        scope: &Scope,
        depth: Depth,
        visit: &mut dyn FnMut(&Difference),
    ) -> Result<Strays, ReplicaError> {
        while self.reveal()?.is_some() {}
        self.tidy()?;
        let mut strays = Strays::default();
        loop {
            let mut found: BTreeSet<RelPath> = BTreeSet::new();
            let mut told = 0;
            let audited = self.look(filter, scope, depth, &mut |difference| {
                if found.len() < BATCH {
                    told += 1;
                    found.insert(difference.path.clone());
                    visit(&difference);
                }
            })?;
            let differing = strays.audited.differing + told;
            strays.audited = Audited { differing, ..audited };
            let is_all = found.len() < BATCH;
            let taken = if found.is_empty() { 0 } else { self.guarded(|replica| replica.admit(filter, found))? };
            strays.paths += taken;
            // What was beyond the batch differs still; what was taken in does not.
            if is_all || taken == 0 {
                return Ok(strays);
            }
        }
    }

    fn look(
        &self,
        filter: &Filter,
        scope: &Scope,
        depth: Depth,
        visit: &mut dyn FnMut(Difference),
    ) -> Result<Audited, ReplicaError> {
        let able = self.able().clone();
        if scope.is_empty() {
            return Ok(Audited::default());
        }
        let (content, alone) = (depth == Depth::Content, scope.alone.iter().cloned().collect());
        let options = AuditOptions { able, content, coarse_times: true, alone, ..AuditOptions::default() };
        audit(self.root(), self.tree(), filter, &self.options.xattrs, &scope.below, options, &mut |difference| {
            if is_stray(&difference) {
                visit(difference);
            }
        })
        .map_err(|error| match error {
            AuditError::Tree(error) => ReplicaError::Tree(error),
            AuditError::Stopped { .. } => ReplicaError::Stopped,
        })
    }

    /// What the index says, to be compared with the disk while the replica goes on; `None` while they differ by what is not revealed yet.
    pub fn snapshot(&mut self) -> Result<Option<Snapshot>, ReplicaError> {
        self.usable()?;
        if !self.unrevealed.is_empty() || self.standing.position == Position::default() {
            return Ok(None);
        }
        self.tidy()?;
        self.guarded(|replica| {
            replica.tree.digest()?;
            replica.tree.store_mut().commit()?;
            Ok(Some(replica.tree.store().snapshot()?))
        })
    }

    /// How many paths differ from the generation that it stood at last, if any do: they are to be mended.
    pub fn strayed(&self) -> Option<u64> {
        self.strayed
    }

    /// Takes what is at `found` into the tree, as it is.
    fn admit(&mut self, filter: &Filter, found: BTreeSet<RelPath>) -> Result<u64, ReplicaError> {
        let spool = Spool::create(&self.options.state)?;
        let mut capturer = Capturer::new(spool, [0; 32], self.options.xattrs.clone(), false);
        let mut count = 0;
        for path in self.with_other_names(found)? {
            let is_taken = self.admit_one(filter, &mut capturer, &path)?;
            count += u64::from(is_taken);
            if is_taken && count <= NAMED {
                tracing::warn!(%path, "not as the replica should have it: changed by hand, or damaged; it will be put aside and mended");
            }
        }
        if count > NAMED {
            tracing::warn!(more = count - NAMED, "further paths are not as the replica should have them");
        }
        if count == 0 {
            return Ok(0);
        }
        self.standing.tree = self.tree.digest()?;
        self.unheld = unheld::of_tree(&self.able, &self.tree)?;
        self.set_strayed(Some(self.strayed.unwrap_or(0) + count))?;
        self.set_keeps_replaced(true)?;
        self.write_standing()?;
        self.tree.store_mut().commit()?;
        Ok(count)
    }

    /// A file changed under one of its names is changed under all.
    fn with_other_names(&self, found: BTreeSet<RelPath>) -> Result<BTreeSet<RelPath>, ReplicaError> {
        let mut all = BTreeSet::new();
        for path in found {
            if let Some(stat) = self.root().stat(&path)?.filter(|stat| stat.inode.nlink > 1 && !stat.is_directory()) {
                all.extend(self.tree().names_of(stat.inode.id, usize::MAX)?);
            }
            all.insert(path);
        }
        Ok(all)
    }

    /// Takes one path in, with everything below it if the tree has no such directory; false if it turns out to be as the tree says, or
    /// cannot be told.
    fn admit_one(&mut self, filter: &Filter, capturer: &mut Capturer, path: &RelPath) -> Result<bool, ReplicaError> {
        let old = self.tree.row(path)?;
        let read = |source| ReplicaError::Read { path: path.clone(), source };
        let captured = capturer.capture(self.root(), filter, &self.tree, path, How::Whole).map_err(read)?;
        let present = match captured {
            Captured::Present(present) => present,
            // What this user may not read may well be as it should.
            Captured::Unreadable(error) if error.is_permission() => return Ok(false),
            // It is met again by the next look.
            Captured::Unsteady | Captured::Left => return Ok(false),
            // A disk that gives no bytes back: what is there is put aside when the right thing arrives.
            Captured::Absent(_) | Captured::Unreadable(_) => return self.drop_row(path, old),
        };
        let row = Row { entry: present.entry, inode: present.inode, directory: None, memory: present.memory };
        match old {
            Some(old) if old.entry.kind() == row.entry.kind() => self.tree.update(path, row)?,
            old => {
                let is_dropped = self.drop_row(path, old)?;
                let is_directory = row.entry.is_directory();
                match self.tree.attach(path, row) {
                    // What it is in is no directory of the tree: that one is told of, and comes with all below it.
                    Err(TreeError::NoParent(_) | TreeError::Occupied(_)) => return Ok(is_dropped),
                    attached => attached?,
                }
                if is_directory {
                    adopt::read_tree(&self.root, &mut self.tree, &self.options, path)?;
                }
            }
        }
        Ok(true)
    }

    fn drop_row(&mut self, path: &RelPath, old: Option<Row>) -> Result<bool, ReplicaError> {
        if old.is_none() || path.is_root() {
            return Ok(false);
        }
        let row = self.tree.detach(path)?;
        self.tree.forget(&row, &mut |_| {})?;
        Ok(true)
    }
}

/// False for what is no trouble.
pub fn is_stray(difference: &Difference) -> bool {
    match difference.what {
        What::Extra => difference.path.as_bytes() != LOST,
        // Neither side has the path that was asked for.
        What::Missing => difference.here != difference.there,
        _ => true,
    }
}
