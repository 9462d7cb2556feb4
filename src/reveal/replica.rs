//! The replica as a whole: opening and recovering it, committing staged generations, revealing them, tidying up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::{self, Area};
use super::operations::{Journalled, PART_BYTES, Records};
use super::stage::{Stager, UnheldCounts, check_edit};
use super::steps::Reveal;
use super::{ReplicaError, adopt};
use crate::fs::{Privilege, Root, XattrPolicy};
use crate::index::{Index, Opened};
use crate::journal::{Kept, Location, Log, Record, RecordKind, State};
use crate::spool::Spool;
use crate::thought::generation::{Action, Header, JournalledOperation, Operation, PreImage};
use crate::thought::store::{ReadStore, Store, Table};
use crate::thought::tree::{ApplyError, Arrived, Row, Tree, Witness};
use crate::words::entry::{Digest, Inode, InodeId};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

const STANDING_FACT: &[u8] = b"standing";
/// Up to this many staged things are synced one by one; more are synced with the whole file system.
const SYNC_ONE_BY_ONE: usize = 24;
/// So many revealed generations may wait for being tidied up.
const UNTIDY_CAP: usize = 64;

/// Where a replica stands: what its tree is the state of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The cluster.
    pub cluster: ClusterId,
    /// The home.
    pub home: HomeId,
    /// The reign it last accepted a generation of.
    pub reign: ReignId,
    /// The generation.
    pub position: Position,
    /// The history that led there.
    pub chain: ChainDigest,
    /// The tree digest.
    pub tree: Digest,
}

/// Where and how a replica is kept.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// The replica's directory.
    pub home: PathBuf,
    /// The node's state directory, for the index and temporary files.
    pub state: PathBuf,
    /// Which xattrs are replicated.
    pub xattrs: XattrPolicy,
    /// Takes over a directory that is not empty and no replica: what differs is put aside.
    pub adopt: bool,
}

/// What was found when a replica was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// Nothing was there.
    Empty,
    /// It stands at a whole generation; so many were still to be revealed.
    Recovered(usize),
    /// Something was there, and was taken over.
    Adopted,
    /// The index was lost or damaged: what is on disk was read again.
    Reread,
}

/// A standby's copy of the home.
pub struct Replica {
    root: Root,
    options: ReplicaOptions,
    privilege: Privilege,
    tree: Tree<Index>,
    log: Log,
    standing: Standing,
    /// Acked, not yet revealed, oldest first.
    unrevealed: Vec<Kept>,
    /// Revealed, not yet tidied up.
    untidy: Vec<Position>,
    unheld: UnheldCounts,
    put_aside: u64,
    /// What the next generation replaces belongs to no generation: it is kept.
    keeps_replaced: bool,
}

impl Replica {
    /// Opens the replica in `options.home` for the home `home` and brings it to a whole generation.
    pub fn open(options: ReplicaOptions, home: HomeId) -> Result<(Self, Opening), ReplicaError> {
        let root = Root::open(&options.home)?;
        let opening = adopt::take_possession(&root, &options, home)?;
        for directory in
            [Area::Stage, Area::Reveal, Area::Journal].map(layout::area).into_iter().chain([layout::held()])
        {
            match root.make_directory(&directory, 0o700) {
                Err(error) if !error.is_existing() => return Err(error.into()),
                _ => {}
            }
        }
        let (log, recovered) = Log::open(&options.home.join(".hotspare").join("journal"), home)?;
        if let Some(torn) = &recovered.torn {
            tracing::info!(segment = %torn.path.display(), bytes = torn.bytes, "cut off the unsynced tail of the journal");
        }
        let opened = Index::open(&options.state.join("replica.redb"))?;
        let was_lost = matches!(opened, Opened::Rebuilt { .. });
        let is_new = matches!(opened, Opened::New(_)) || was_lost;
        if let Opened::Rebuilt { why, .. } = &opened {
            tracing::warn!(%why, "the index of the replica is rebuilt from the disk");
        }
        let privilege = Privilege::detect();
        let root_row = adopt::root_row(&root, &options.xattrs)?;
        let tree = Tree::open(opened.into_index(), root_row)?;
        let standing = standing_in(&tree, home)?;
        let mut replica = Self {
            root,
            options,
            privilege,
            tree,
            log,
            standing,
            unrevealed: Vec::new(),
            untidy: Vec::new(),
            unheld: UnheldCounts::default(),
            put_aside: 0,
            keeps_replaced: false,
        };
        let count = replica.recover(recovered.generations, is_new)?;
        let opening = if is_new && opening != Opening::Empty {
            replica.reread()?;
            replica.keeps_replaced = true;
            if was_lost || opening != Opening::Adopted { Opening::Reread } else { Opening::Adopted }
        } else if opening == Opening::Empty {
            Opening::Empty
        } else {
            Opening::Recovered(count)
        };
        Ok((replica, opening))
    }

    /// Where it stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Its tree.
    pub fn tree(&self) -> &Tree<Index> {
        &self.tree
    }

    /// Its directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What could not be set for lack of privilege, so far.
    pub fn unheld(&self) -> UnheldCounts {
        self.unheld
    }

    /// How many generations are acked and not yet revealed.
    pub fn unrevealed(&self) -> usize {
        self.unrevealed.len()
    }

    /// True if it holds a whole generation.
    pub fn is_promotable(&self) -> bool {
        self.standing.position != Position::default() && self.unrevealed.is_empty()
    }

    /// Finishes what the journal says was acked, and clears away what was not.
    fn recover(&mut self, generations: Vec<Kept>, index_is_new: bool) -> Result<usize, ReplicaError> {
        let mut count = 0;
        for kept in generations {
            match kept.state {
                State::Staging => {
                    self.log.append(&Record {
                        kind: RecordKind::Dropped,
                        position: kept.position,
                        payload: Vec::new(),
                    })?;
                }
                State::Dropped | State::Done => {}
                State::Acked | State::Revealed => {
                    count += 1;
                    if !index_is_new {
                        self.catch_up_index(&kept)?;
                    }
                    self.unrevealed.push(kept);
                }
            }
        }
        self.log.sync()?;
        while !self.unrevealed.is_empty() {
            self.reveal()?;
        }
        self.tidy()?;
        for area in [Area::Stage, Area::Reveal] {
            for (name, _) in self.root.list(&layout::area(area))? {
                if layout::position_of(&name).is_some() {
                    self.root.remove_tree(&layout::area(area).join(&name))?;
                }
            }
        }
        Ok(count)
    }

    /// Applies a journalled generation to an index that was not committed after it.
    fn catch_up_index(&mut self, kept: &Kept) -> Result<(), ReplicaError> {
        let header = self.header(kept)?;
        if header.parent_chain != self.standing.chain || header.chain() == self.standing.chain {
            return Ok(());
        }
        let mut inodes = std::collections::HashMap::new();
        let journalled = Journalled::new(&self.log, kept.parts.get(1..).unwrap_or_default());
        let failed = |source| ReplicaError::Apply { position: kept.position, source };
        journalled
            .each(&mut |operation| {
                inodes.insert(operation.operation.id, operation.inode);
                Ok(())
            })
            .map_err(failed)?;
        self.tree.apply(&journalled, &mut Known(&inodes)).map_err(failed)?;
        self.stand_at(&header)?;
        self.tree.store_mut().commit()?;
        Ok(())
    }

    fn header(&self, kept: &Kept) -> Result<Header, ReplicaError> {
        let part =
            kept.parts.first().ok_or(ReplicaError::Header { position: kept.position, what: "it has no header" })?;
        Ok(Header::decode(&self.log.read(part)?)?)
    }

    fn stand_at(&mut self, header: &Header) -> Result<(), ReplicaError> {
        self.standing = Standing {
            cluster: header.cluster,
            home: header.home,
            reign: header.reign,
            position: header.position,
            chain: header.chain(),
            tree: header.tree_after,
        };
        self.write_standing()
    }

    fn write_standing(&mut self) -> Result<(), ReplicaError> {
        let bytes = postcard::to_allocvec(&self.standing).unwrap_or_default();
        self.tree
            .store_mut()
            .put(Table::Facts, STANDING_FACT.to_vec(), bytes)
            .map_err(crate::thought::tree::TreeError::from)?;
        Ok(())
    }

    /// Reads all that is on disk into a new index: what is there is compared by content when a primary is met. The standing is lost with
    /// the index, since nobody can say that the disk is what it was.
    fn reread(&mut self) -> Result<(), ReplicaError> {
        adopt::read_tree(&self.root, &mut self.tree, &self.options)?;
        self.standing = Standing { home: self.standing.home, ..Standing::default() };
        self.standing.tree = self.tree.digest()?;
        self.write_standing()?;
        self.tree.store_mut().commit()?;
        Ok(())
    }

    /// Begins to stage the generation of `header`, which must start where the replica stands.
    pub fn begin(&mut self, header: &Header) -> Result<Stager, ReplicaError> {
        if header.parent_chain != self.standing.chain {
            let (position, parent, here) = (header.position, header.parent, self.standing.position);
            return Err(ReplicaError::NotNext { position, parent, here });
        }
        let position = header.position;
        self.root.remove_tree(&layout::of(Area::Stage, position))?;
        self.root.make_directory(&layout::of(Area::Stage, position), 0o700)?;
        Ok(Stager::new(position, self.options.xattrs.clone(), self.privilege.clone()))
    }

    /// Stages one operation.
    pub fn stage(&mut self, stager: &mut Stager, operation: Operation) -> Result<(), ReplicaError> {
        stager.operation(&self.root, &self.tree, operation)
    }

    /// Takes bytes of the payload of the operation staged last; true when it is whole.
    pub fn stage_payload(&mut self, stager: &mut Stager, bytes: &[u8]) -> Result<bool, ReplicaError> {
        stager.payload(&self.root, bytes)
    }

    /// Gives up a generation that is being staged.
    pub fn give_up(&mut self, stager: Stager) -> Result<(), ReplicaError> {
        self.root.remove_tree(&layout::of(Area::Stage, stager.position()))?;
        Ok(())
    }

    /// Makes a staged generation durable: after this it is acked. On an error the replica must be opened again.
    pub fn commit(&mut self, header: &Header, operations: &Records, mut stager: Stager) -> Result<(), ReplicaError> {
        let position = header.position;
        if stager.awaits_payload() {
            return Err(ReplicaError::Header { position, what: "a payload is missing" });
        }
        let mut journal = Records::new(Spool::create(&self.options.state)?);
        let mut recorder =
            Recorder { root: &self.root, position, stager: &mut stager, journal: &mut journal, failed: None };
        let applied = self.tree.apply(operations, &mut recorder);
        if let Some(error) = recorder.failed {
            return Err(error);
        }
        applied.map_err(|source| ReplicaError::Apply { position, source })?;
        let settling = self.settling(operations)?;
        if self.tree.digest()? != header.tree_after {
            return Err(ReplicaError::Header { position, what: "the tree it leads to has another digest" });
        }
        let mut id = u32::MAX;
        for (path, row) in settling.into_iter().rev() {
            let action = Action::Attributes { path, entry: row.entry };
            let operation = Operation { id, action, payload: None };
            let journalled = JournalledOperation { operation, before: PreImage::None, inode: Some(row.inode.id) };
            journal.push(journalled.operation.action.section(), &journalled.encode())?;
            id -= 1;
        }
        let kept = self.journal(header, &journal)?;
        self.sync_stage(&stager)?;
        self.log.append(&Record { kind: RecordKind::Acked, position, payload: Vec::new() })?;
        self.log.sync()?;
        self.unheld = add(self.unheld, stager.unheld);
        self.unrevealed.push(Kept { state: State::Acked, ..kept });
        self.stand_at(header)
    }

    /// The directories whose times the reveal disturbs, rising.
    fn settling(&self, _operations: &Records) -> Result<Vec<(RelPath, Row)>, ReplicaError> {
        let mut directories = Vec::new();
        for id in self.tree.stale_directories() {
            if let Some(path) = self.tree.path_of(id)?
                && let Some(row) = self.tree.row(&path)?
            {
                directories.push((path, row));
            }
        }
        directories.sort_by(|(a, _), (b, _)| a.cmp(b));
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
        let mut part = Vec::with_capacity(PART_BYTES);
        operations
            .all(&mut |bytes| {
                if !part.is_empty() && part.len() + 4 + bytes.len() > PART_BYTES {
                    let full = std::mem::replace(&mut part, Vec::with_capacity(PART_BYTES));
                    add(full).map_err(|error| ApplyError::Source(Box::new(error)))?;
                }
                part.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
                part.extend_from_slice(bytes);
                Ok(())
            })
            .map_err(|source| ReplicaError::Apply { position, source })?;
        if !part.is_empty() {
            add(part)?;
        }
        Ok(Kept { position, state: State::Staging, parts, mark: None })
    }

    /// Makes what was staged durable: one by one where it is little, with the whole file system where it is much.
    fn sync_stage(&mut self, stager: &Stager) -> Result<(), ReplicaError> {
        if stager.staged == 0 {
            return Ok(());
        }
        if stager.unsynced.len() > SYNC_ONE_BY_ONE {
            self.root.sync_filesystem()?;
            return Ok(());
        }
        for path in &stager.unsynced {
            let is_file = self.root.stat(path)?.is_some_and(|stat| stat.is_file());
            match if is_file { self.root.sync_file(path) } else { Ok(()) } {
                // A file that this user may not open is synced with all the others.
                Err(error) if error.is_permission() => {
                    self.root.sync_filesystem()?;
                    return Ok(());
                }
                synced => synced?,
            }
        }
        self.root.sync_directory(&layout::of(Area::Stage, stager.position()))?;
        self.root.sync_directory(&layout::area(Area::Stage))?;
        Ok(())
    }

    /// Reveals the oldest acked generation; its position, or `None` if all are revealed.
    pub fn reveal(&mut self) -> Result<Option<Position>, ReplicaError> {
        let Some(kept) = self.unrevealed.first() else { return Ok(None) };
        let position = kept.position;
        let parts = kept.parts.get(1..).unwrap_or_default();
        let mut reveal = Reveal {
            root: &self.root,
            position,
            operations: Journalled::new(&self.log, parts),
            xattrs: &self.options.xattrs,
            privilege: &self.privilege,
            unheld: UnheldCounts::default(),
            put_aside: 0,
        };
        reveal.run()?;
        let (unheld, put_aside) = (reveal.unheld, reveal.put_aside);
        self.unheld = add(self.unheld, unheld);
        self.put_aside += put_aside;
        if kept.state == State::Acked {
            self.log.append(&Record { kind: RecordKind::Revealed, position, payload: Vec::new() })?;
        }
        self.unrevealed.remove(0);
        self.untidy.push(position);
        if self.untidy.len() >= UNTIDY_CAP {
            self.tidy()?;
        }
        Ok(Some(position))
    }

    /// True if [`Replica::tidy`] has something to do.
    pub fn is_untidy(&self) -> bool {
        !self.untidy.is_empty()
    }

    /// Makes all reveals durable and drops what they replaced.
    pub fn tidy(&mut self) -> Result<(), ReplicaError> {
        if self.untidy.is_empty() {
            return Ok(());
        }
        self.root.sync_filesystem()?;
        self.tree.store_mut().commit()?;
        for position in &self.untidy {
            self.log.append(&Record { kind: RecordKind::Done, position: *position, payload: Vec::new() })?;
        }
        self.log.sync()?;
        for position in std::mem::take(&mut self.untidy) {
            if std::mem::take(&mut self.keeps_replaced) {
                adopt::keep_replaced(&self.root, position)?;
            }
            self.root.remove_tree(&layout::of(Area::Reveal, position))?;
            self.root.remove_tree(&layout::of(Area::Stage, position))?;
        }
        self.log.prune(self.standing.position)?;
        Ok(())
    }
}

fn standing_in<S: ReadStore>(tree: &Tree<S>, home: HomeId) -> Result<Standing, ReplicaError> {
    let bytes = tree.store().get(Table::Facts, STANDING_FACT).map_err(crate::thought::tree::TreeError::from)?;
    let found = bytes.and_then(|bytes| postcard::from_bytes::<Standing>(&bytes).ok());
    Ok(found.unwrap_or(Standing { home, tree: tree.root().digest(), ..Standing::default() }))
}

fn add(a: UnheldCounts, b: UnheldCounts) -> UnheldCounts {
    UnheldCounts { owner: a.owner + b.owner, mode: a.mode + b.mode, xattrs: a.xattrs + b.xattrs }
}

/// Journals each operation as it is applied to the tree, with what it replaces.
struct Recorder<'a> {
    root: &'a Root,
    position: Position,
    stager: &'a mut Stager,
    journal: &'a mut Records,
    failed: Option<ReplicaError>,
}

impl Recorder<'_> {
    fn record(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ReplicaError> {
        let old = || before.map(|row| row.entry.clone());
        let inode = before.map(|row| row.inode.id);
        let (before_image, inode, arrived) = match &operation.action {
            Action::Remove { .. } | Action::Rename { .. } => {
                (old().map_or(PreImage::None, |entry| PreImage::Taken { entry }), inode, None)
            }
            Action::Create { .. } => {
                let slot = layout::slot(Area::Stage, self.position, operation.id);
                let stat = self.root.stat(&slot)?;
                let inode = stat.map(|stat| stat.inode).unwrap_or_default();
                let memory = self.stager.memory.remove(&operation.id);
                (PreImage::None, Some(inode.id), Some(Arrived { inode, memory }))
            }
            Action::Link { .. } => (PreImage::None, inode, None),
            Action::Attributes { .. } => {
                (old().map_or(PreImage::None, |entry| PreImage::Attributes { entry }), inode, None)
            }
            Action::Edit { old_length, path, .. } => {
                let row = before.ok_or(ReplicaError::Header { position: self.position, what: "an edit of nothing" })?;
                let at = self.now_at(row, path)?;
                let (memory, old_blocks) = check_edit(self.root, self.position, operation, &at, row.memory.as_deref())?;
                let entry = row.entry.clone();
                let image = PreImage::Edited { entry, old_length: *old_length, old_blocks };
                (image, inode, Some(Arrived { inode: row.inode, memory }))
            }
        };
        let journalled = JournalledOperation { operation: operation.clone(), before: before_image, inode };
        self.journal.push(operation.action.section(), &journalled.encode())?;
        Ok(arrived)
    }

    /// Where the file of `row` is on disk before the reveal: at its new path, unless something above it is being renamed.
    fn now_at(&self, row: &Row, path: &RelPath) -> Result<RelPath, ReplicaError> {
        let is_it = |path: &RelPath| {
            Ok::<_, ReplicaError>(self.root.stat(path)?.is_some_and(|stat| stat.inode.id == row.inode.id))
        };
        if is_it(path)? {
            return Ok(path.clone());
        }
        for (to, from) in self.stager.renames() {
            if let Some(old) = path.rebase(to, from)
                && is_it(&old)?
            {
                return Ok(old);
            }
        }
        Err(ReplicaError::Stuck { path: path.clone(), position: self.position })
    }
}

impl Witness for Recorder<'_> {
    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        self.record(operation, before).map_err(|error| {
            self.failed = Some(error);
            ApplyError::Source("a step could not be recorded".into())
        })
    }
}

/// Knows the inodes from the journal.
struct Known<'a>(&'a std::collections::HashMap<u32, Option<InodeId>>);

impl Witness for Known<'_> {
    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        let known = self.0.get(&operation.id).copied().flatten();
        let (Action::Create { .. }, Some(id)) = (&operation.action, known) else {
            // What was remembered of an edited file's old content is no longer true.
            let is_edit = matches!(operation.action, Action::Edit { .. });
            return Ok(before.filter(|_| is_edit).map(|row| Arrived { inode: row.inode, memory: None }));
        };
        Ok(Some(Arrived { inode: Inode { id, ..Inode::default() }, memory: None }))
    }
}
