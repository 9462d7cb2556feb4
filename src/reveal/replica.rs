//! The replica as a whole: what it is, and what it is asked to do.

use std::path::PathBuf;
use std::sync::Arc;

use super::ahead::Ahead;
use super::disk::Disk;
use super::layout::{self, Area};
use super::operations::Journalled;
use super::stage::{Present, Stager};
use super::standing::Standing;
use super::steps::{Outcome, Reveal};
use super::unrevealed::Unrevealed;
use super::{ReplicaError, adopt, bundle, durable, recovery, unheld};
use crate::fs::{Able, Privilege, Root, XattrPolicy};
use crate::index::Index;
use crate::journal::{Kept, Log, Record, RecordKind, State};
use crate::thought::generation::{Claim, Header, Operation};
use crate::thought::tree::Tree;
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::Digest;
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, HomeId, Position};

/// So many revealed generations may wait for being tidied up.
const UNTIDY_CAP: usize = 64;
/// So many trees of litter may wait for being removed.
const LITTER_CAP: usize = 2 * UNTIDY_CAP;
/// So many names are removed at a time: some milliseconds, on a busy disk a second.
const SWEPT: u64 = 1000;
/// So many are removed when a replica is opened or closed; what is beyond is removed while it is in use.
const SWEPT_AT_ONCE: u64 = 20_000;

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
    /// Begins anew in an empty directory although there was a replica in it.
    pub anew: bool,
}

impl ReplicaOptions {
    /// Where the index is.
    pub(super) fn index(&self) -> PathBuf {
        self.state.join("replica.redb")
    }
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
    pub(super) root: Arc<Root>,
    pub(super) options: ReplicaOptions,
    pub(super) privilege: Privilege,
    pub(super) ahead: Ahead,
    pub(super) tree: Tree<Index>,
    pub(super) log: Log,
    /// The generation it stood at last; its tree is what is there.
    pub(super) standing: Standing,
    /// What that generation claims.
    pub(super) claim: Option<Claim>,
    pub(super) strayed: Option<u64>,
    /// Acked, not yet revealed, oldest first.
    pub(super) unrevealed: Unrevealed,
    /// Revealed, not yet tidied up, oldest first.
    untidy: Vec<Kept>,
    /// What generations that are done have left: nobody needs it.
    pub(super) litter: Vec<RelPath>,
    /// What was written in place since the last sync of the file system.
    has_edited: bool,
    pub(super) able: Able,
    /// False where each thing must be synced by itself.
    pub(super) syncs_whole: bool,
    /// Of the tree's entries.
    pub(super) unheld: UnheldCounts,
    /// False while they must be counted anew.
    pub(super) is_counted: bool,
    /// What could not be set although it should have been possible, since the replica was opened.
    pub(super) unforeseen: UnheldCounts,
    put_aside: u64,
    /// What the next generation replaces belongs to no generation: it is kept.
    pub(super) keeps_replaced: bool,
    /// A call failed half way: memory and disk may differ.
    pub(super) is_broken: bool,
}

impl Replica {
    /// Opens the replica in `options.home` for the home `home` and brings it to a whole generation.
    pub fn open(options: ReplicaOptions, home: HomeId) -> Result<(Self, Opening), ReplicaError> {
        let root = Arc::new(Root::open(&options.home)?);
        let possession = adopt::take_possession(&root, &options, home)?;
        for directory in [Area::Stage, Area::Reveal, Area::Journal].map(layout::area).iter().chain([&layout::held()]) {
            super::disk::ensure_directory(&*root, directory)?;
        }
        adopt::check_writable(&root)?;
        root.sync_directory(&layout::reserved())?;
        let (log, recovered) = Log::open(&options.home.join(".hotspare").join("journal"), home)?;
        if let Some(torn) = &recovered.torn {
            tracing::info!(segment = %torn.path.display(), bytes = torn.bytes, "cut off the unsynced tail of the journal");
        }
        let path = options.index();
        let (index, mut is_new, why) = recovery::open_index(&path)?;
        if let Some(why) = &why {
            tracing::warn!(%why, "the index of the replica is rebuilt from the disk");
        }
        let root_row = adopt::root_row(&root, &options.xattrs)?;
        let tree = Tree::open(index, root_row.clone())?;
        let standing = Standing { home, tree: tree.root().digest(), ..Standing::default() };
        let able = Able::detect(&root);
        let syncs_whole = root.syncs_whole()?;
        if !syncs_whole {
            tracing::info!(home = %options.home.display(), "a FUSE file system: it cannot be synced whole, so each file is synced by itself");
        }
        let mut replica = Self {
            ahead: Ahead::open(&root)?,
            root,
            options,
            privilege: Privilege::detect(),
            tree,
            log,
            standing,
            claim: None,
            strayed: None,
            unrevealed: Unrevealed::default(),
            untidy: Vec::new(),
            litter: Vec::new(),
            has_edited: false,
            able,
            syncs_whole,
            unheld: UnheldCounts::default(),
            is_counted: false,
            unforeseen: UnheldCounts::default(),
            put_aside: 0,
            keeps_replaced: false,
            is_broken: false,
        };
        let is_known = !is_new && replica.read_standing()? && replica.catch_up(&recovered.generations)?;
        if !is_new && !is_known {
            tracing::warn!("the index of the replica does not belong to its journal; it is rebuilt from the disk");
            drop(replica.tree);
            recovery::forget_index(&path)?;
            replica.tree = Tree::open(Index::open(&path)?.into_index(), root_row)?;
            is_new = true;
        }
        let count = replica.recover(recovered.generations)?;
        let opening = match possession {
            Opening::Recovered(_) if is_new => Opening::Reread,
            Opening::Recovered(_) => Opening::Recovered(count),
            other => other,
        };
        if is_new && opening != Opening::Empty {
            replica.reread()?;
        } else if is_new {
            replica.write_standing()?;
            replica.tree.store_mut().commit()?;
        }
        if !replica.is_counted {
            replica.unheld = unheld::of_tree(&replica.able, &replica.tree)?;
            replica.is_counted = true;
        }
        Ok((replica, opening))
    }

    /// Where it stands. One in which strays were found is at no point of any history, and says so by a chain digest of its own.
    pub fn standing(&self) -> Standing {
        let Standing { chain, tree, .. } = self.standing;
        let own = || ChainDigest(Digest::of(&[b"strayed", &chain.0.0[..], &tree.0].concat()));
        Standing { chain: self.strayed.map_or(chain, |_| own()), ..self.standing }
    }

    /// What the generation it stands at claims; `None` if that is not known.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// What the process may do to it.
    pub fn privilege(&self) -> &Privilege {
        &self.privilege
    }

    /// Its tree.
    pub fn tree(&self) -> &Tree<Index> {
        &self.tree
    }

    /// Its directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What the disk does not hold of the tree.
    pub fn unheld(&self) -> UnheldCounts {
        self.unheld.plus(self.unforeseen)
    }

    /// What can be held here.
    pub fn able(&self) -> &Able {
        &self.able
    }

    /// How many things were found in the way and put aside, so far.
    pub fn put_aside(&self) -> u64 {
        self.put_aside
    }

    /// True if what the next generation replaces is put aside, for it belongs to no generation.
    pub fn keeps_replaced(&self) -> bool {
        self.keeps_replaced
    }

    /// An error if nothing can be written to its file system any more.
    pub fn check_writable(&self) -> Result<(), ReplicaError> {
        Ok(adopt::check_writable(&self.root)?)
    }

    /// How many generations are acked and not yet revealed.
    pub fn unrevealed(&self) -> usize {
        self.unrevealed.len()
    }

    /// True if another generation may be staged before one of those is revealed.
    pub fn bears_more(&self) -> bool {
        self.unrevealed.bears_more()
    }

    /// True if it holds a whole generation.
    pub fn is_promotable(&self) -> bool {
        self.standing.position != Position::default()
            && self.unrevealed.is_empty()
            && !self.is_broken
            && self.strayed.is_none()
    }

    pub(super) fn usable(&self) -> Result<(), ReplicaError> {
        if self.is_broken { Err(ReplicaError::Unusable) } else { Ok(()) }
    }

    /// Does what leaves the replica unusable if it fails.
    pub(super) fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        self.usable()?;
        self.is_broken = true;
        let done = act(self)?;
        self.is_broken = false;
        Ok(done)
    }

    /// Begins to stage the generation of `header`, which must start where the replica stands and lead to a position that is new to it. The
    /// replica must bear it ([`Replica::bears_more`]).
    pub fn begin(&mut self, header: &Header) -> Result<Stager, ReplicaError> {
        self.usable()?;
        let position = header.position;
        if header.home != self.standing.home {
            return Err(ReplicaError::Header { position, what: "it is of another home" });
        }
        if header.parent_chain != self.standing().chain {
            let (parent, here) = (header.parent, self.standing.position);
            return Err(ReplicaError::NotNext { position, parent, here });
        }
        if !matches!(self.log.state(position), None | Some(State::Dropped)) {
            return Err(ReplicaError::Header { position, what: "its position is another generation's" });
        }
        if !self.bears_more() {
            return Err(ReplicaError::Header { position, what: "more is acked than may be before it is revealed" });
        }
        self.root.remove_tree(&layout::of(Area::Stage, position))?;
        self.root.make_directory(&layout::of(Area::Stage, position), 0o700)?;
        let here = self.root.enter(&layout::of(Area::Stage, position))?;
        let mut stager = Stager::new(self, here, position)?;
        if self.keeps_replaced {
            self.root.create_file(&layout::keep_mark(position))?;
            stager.note(layout::keep_mark(position))?;
        }
        Ok(stager)
    }

    /// Stages one operation.
    pub fn stage(&mut self, stager: &mut Stager, operation: Operation) -> Result<(), ReplicaError> {
        self.usable()?;
        let present = Present { root: &self.root, tree: &self.tree, unrevealed: &self.unrevealed };
        stager.operation(present, &mut self.ahead, operation)
    }

    /// Takes bytes of the payload of the operation staged last; true when it is whole.
    pub fn stage_payload(&mut self, stager: &mut Stager, bytes: &[u8]) -> Result<bool, ReplicaError> {
        self.usable()?;
        stager.payload(Present { root: &self.root, tree: &self.tree, unrevealed: &self.unrevealed }, bytes)
    }

    /// Gives up a generation that is being staged. Not needed after a failed [`Replica::commit`].
    pub fn give_up(&mut self, stager: Stager) -> Result<(), ReplicaError> {
        self.root.remove_tree(&layout::of(Area::Stage, stager.position()))?;
        Ok(())
    }

    /// Reveals the oldest acked generation; its position, or `None` if all are revealed. After an error it may be called again.
    pub fn reveal(&mut self) -> Result<Option<Position>, ReplicaError> {
        self.usable()?;
        if self.has_edited && !self.unrevealed.is_empty() {
            // A reveal that is begun says that the one before is on the disk, whole: see `recover`.
            self.guarded(|replica| Ok(replica.root.sync_filesystem()?))?;
            self.has_edited = false;
        }
        match self.steps(&*self.root)? {
            Some(outcome) => self.has_revealed(outcome),
            None => Ok(None),
        }
    }

    /// Does the steps of the oldest acked generation on `disk`, which is this replica's.
    pub(super) fn steps(&self, disk: &dyn Disk) -> Result<Option<Outcome>, ReplicaError> {
        let Some(kept) = self.unrevealed.first() else { return Ok(None) };
        let mut reveal = Reveal {
            disk,
            position: kept.position,
            operations: Journalled::new(&self.log, kept.parts.get(1..).unwrap_or_default()),
            xattrs: &self.options.xattrs,
            privilege: &self.privilege,
            able: &self.able,
            outcome: Outcome::default(),
        };
        let _pass = self.root.pass();
        reveal.run()?;
        Ok(Some(reveal.outcome))
    }

    fn has_revealed(&mut self, outcome: Outcome) -> Result<Option<Position>, ReplicaError> {
        self.unforeseen = self.unforeseen.plus(outcome.unforeseen);
        self.put_aside += outcome.put_aside;
        if self.syncs_whole {
            self.has_edited |= outcome.has_edited;
        } else {
            self.guarded(|replica| replica.sync_first())?;
        }
        let position = self.mark_revealed()?;
        if self.untidy.len() >= UNTIDY_CAP {
            self.settle()?;
            while self.litter.len() > LITTER_CAP {
                self.sweep()?;
            }
        }
        Ok(position)
    }

    /// Makes what the reveal of the oldest acked generation changed durable, thing by thing.
    fn sync_first(&self) -> Result<(), ReplicaError> {
        let Some(kept) = self.unrevealed.first() else { return Ok(()) };
        let operations = Journalled::new(&self.log, kept.parts.get(1..).unwrap_or_default());
        durable::sync_revealed(&self.root, kept.position, operations)
    }

    /// Notes that the oldest acked generation is revealed.
    pub(super) fn mark_revealed(&mut self) -> Result<Option<Position>, ReplicaError> {
        let Some(kept) = self.unrevealed.pop() else { return Ok(None) };
        let position = kept.position;
        if kept.state == State::Acked {
            self.log.append(&Record { kind: RecordKind::Revealed, position, payload: Vec::new() })?;
        }
        self.untidy.push(kept);
        Ok(Some(position))
    }

    /// True if [`Replica::settle`] has something to do.
    pub fn is_untidy(&self) -> bool {
        !self.untidy.is_empty()
    }

    /// True if [`Replica::sweep`] has something to do.
    pub fn has_litter(&self) -> bool {
        !self.litter.is_empty()
    }

    /// Makes all reveals durable and drops what they replaced. On an error the replica must be opened again.
    pub fn tidy(&mut self) -> Result<(), ReplicaError> {
        self.settle()?;
        while self.has_litter() {
            self.sweep()?;
        }
        Ok(())
    }

    /// Makes all reveals durable. What they replaced is litter from now on, which [`Replica::sweep`] removes: a large tree takes minutes, and
    /// generations must not wait for that.
    pub fn settle(&mut self) -> Result<(), ReplicaError> {
        if self.untidy.is_empty() { self.usable() } else { self.guarded(Self::settle_all) }
    }

    /// Removes some of the litter; how many names.
    pub fn sweep(&mut self) -> Result<u64, ReplicaError> {
        let Some(path) = self.litter.last() else { return Ok(0) };
        let (count, is_gone) = self.root.remove_some(path, SWEPT)?;
        if is_gone {
            self.litter.pop();
        }
        Ok(count)
    }

    /// Removes all of the litter, unless it is very much.
    pub fn sweep_briefly(&mut self) -> Result<(), ReplicaError> {
        let mut count = 0;
        while self.has_litter() && count < SWEPT_AT_ONCE {
            count += self.sweep()?;
        }
        Ok(())
    }

    fn settle_all(&mut self) -> Result<(), ReplicaError> {
        let mut keeps = Vec::new();
        for kept in &self.untidy {
            keeps.push(self.root.stat(&layout::keep_mark(kept.position))?.is_some());
            if keeps.last() == Some(&true) {
                let operations = Journalled::new(&self.log, kept.parts.get(1..).unwrap_or_default());
                bundle::prepare(&self.root, kept.position, operations)?;
            }
        }
        if self.syncs_whole {
            self.root.sync_filesystem()?;
        } else {
            self.untidy.iter().try_for_each(|kept| durable::sync_own(&self.root, kept.position))?;
        }
        self.has_edited = false;
        self.tree.store_mut().commit()?;
        for kept in &self.untidy {
            self.log.append(&Record { kind: RecordKind::Done, position: kept.position, payload: Vec::new() })?;
        }
        self.log.sync()?;
        for (kept, keeps) in std::mem::take(&mut self.untidy).into_iter().zip(keeps) {
            if keeps {
                bundle::keep(&self.root, kept.position)?;
            }
            self.litter.extend([Area::Reveal, Area::Stage].map(|area| layout::of(area, kept.position)));
        }
        self.log.prune(self.standing.position)?;
        Ok(())
    }
}
