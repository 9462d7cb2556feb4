//! Catching a standby up: its tree is compared with the primary's, the contents it lacks are sent ahead, and everything, with all that changed
//! meanwhile, becomes one generation.
//!
//! 1. A view of the tree; the differences to the standby's; the contents they need, as far as the standby does not have them, sent ahead, as deltas
//!    to what it has in their place where that is large. Again, while much changes.
//! 2. A fold: one more cut, in which the files touched since the view, and those that were found to be others than the tree says, are captured
//!    whole. What it leads to is compared once more, and the operations go out as one generation. Its contents were sent ahead, or are in the
//!    fold.
//!
//! The standby's tree stands still meanwhile, so all of it is one step for it: from the generation it had to a whole one.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::courier::{Courier, CourierError, Question};
use super::keeper::{Command, Fold, Shared, View, Whole};
use super::sending::SMALL_BYTES;
use super::shipping::{ShipError, ship};
use super::window::{Operations, Shipment};
use crate::capture::Offer;
use crate::fs::Root;
use crate::index::Snapshot;
use crate::reveal::Records;
use crate::spool::Spool;
use crate::thought::compare::{
    CompareError, Difference, EmitError, Emitter, Far, FarChild, Scratch, ScratchError, Supply, contents, differences,
};
use crate::thought::generation::{Header, Joint, OperationsDigest};
use crate::thought::tree::{Tree, TreeError};
use crate::thought::wire::message::{CatchingUp, HAVE_CAP, Have, List, Swept, WANTED_CAP, Wanted};
use crate::words::entry::{Digest, Entry};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position};

/// After so many passes over the differences the rest is left to the fold.
const PASSES: u32 = 4;
/// How often it is looked whether something is mounted again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why it did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The link is gone, or shipping failed.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// The primary is ending.
    #[error("the primary is ending")]
    Ending,
    /// The guard of the home holds replication back.
    #[error("{0}")]
    Held(String),
    /// The standby's answer makes no sense.
    #[error("the standby's answer makes no sense: {0}")]
    Answer(&'static str),
    /// Shipping failed.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A temporary file failed.
    #[error("cannot use a temporary file in the state directory")]
    Spool(#[from] std::io::Error),
    /// The comparison failed.
    #[error("cannot compare the trees")]
    Compare(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The home refused.
    #[error(transparent)]
    Fs(#[from] crate::fs::FsError),
}

/// Everything one catch-up needs.
pub struct CatchUp {
    /// The way to the standby.
    pub courier: Courier,
    /// Where the keeper is asked.
    pub keeper: mpsc::Sender<Command>,
    /// Wakes the keeper.
    pub shared: Arc<Shared>,
    /// The home.
    pub home: std::path::PathBuf,
    /// Where temporary files go.
    pub state: std::path::PathBuf,
    /// Where the standby stands.
    pub parent: (Position, ChainDigest),
    /// Its tree's digest, where it is known: of equal trees nothing is asked.
    pub tree: Option<Digest>,
    /// What the header says of all generations.
    pub ids: (ClusterId, HomeId),
}

impl CatchUp {
    /// Does it all, up to the last byte of the generation.
    pub fn run(self) -> Result<(), CatchUpError> {
        let root = Root::open(&self.home)?;
        let mut view = self.view()?;
        for pass in 0..PASSES {
            let mut changed = self.send_ahead(&root, view, pass == 0)?;
            while self.waits_for_mount(&changed.missed)? {
                changed = self.send_ahead(&root, self.view()?, false)?;
            }
            let fold = self.fold(changed.ticket, changed.missed)?;
            if fold.is_complete {
                return self.finish(fold);
            }
            tracing::info!(pass, "much changed while contents were sent ahead; comparing again");
            view = fold.view;
        }
        let ticket = view.ticket;
        let fold = self.fold(ticket, Vec::new())?;
        self.finish(fold)
    }

    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CatchUpError> {
        let (reply, answer) = oneshot::channel();
        self.keeper.blocking_send(command(reply)).map_err(|_| CatchUpError::Ending)?;
        self.shared.wake();
        answer.blocking_recv().map_err(|_| match self.shared.report().held() {
            Some(held) => CatchUpError::Held(held.text),
            None => CatchUpError::Ending,
        })
    }

    fn view(&self) -> Result<View, CatchUpError> {
        self.tell("waiting for the primary to read its home", (0, 0), (0, 0))?;
        self.ask(Command::View)
    }

    fn fold(&self, ticket: u64, missed: Vec<RelPath>) -> Result<Fold, CatchUpError> {
        let missed = missed.into_iter().collect();
        self.ask(|reply| Command::Fold { ticket, missed, reply })
    }

    fn tell(&self, phase: &str, entries: (u64, u64), bytes: (u64, u64)) -> Result<(), CatchUpError> {
        let told = CatchingUp { from: self.parent.0, phase: phase.to_owned(), entries, bytes };
        Ok(self.courier.say(Question::Tell(told))?)
    }

    /// True if what the standby lacks was mounted inside the home and was not there, and is by now: there is no generation without it.
    fn waits_for_mount(&self, missed: &[RelPath]) -> Result<bool, CatchUpError> {
        let lost = self.shared.report().lost.clone();
        let Some(point) = lost.iter().find(|point| missed.iter().any(|path| path.is_within(point))) else {
            return Ok(false);
        };
        let count = missed.iter().filter(|path| path.is_within(point)).count();
        let text = format!(
            "it cannot be brought up to date: it lacks {count} files of what was mounted at {point}, which is not there; it goes on by itself when \
             that is mounted again; if it is gone for good: `hotspare release` on the primary"
        );
        while self.shared.report().lost.contains(point) {
            self.courier.say(Question::Waits(Some(text.clone())))?;
            self.tell(&format!("waiting until {point} is mounted again on the primary"), (0, 0), (0, 0))?;
            std::thread::sleep(LOOK_EVERY);
        }
        self.courier.say(Question::Waits(None))?;
        Ok(true)
    }

    /// Calls `sink` with every difference between `tree`, which has `digest`, and the standby's; the digest of that.
    fn compare(
        &self,
        tree: &Tree<Snapshot>,
        digest: Digest,
        sink: &mut dyn FnMut(Difference<'_>) -> Result<(), CatchUpError>,
    ) -> Result<Digest, CatchUpError> {
        if self.tree == Some(digest) {
            return Ok(digest);
        }
        let mut standby = Standby(self);
        let top = self.courier.question(|reply| Question::List(List { path: RelPath::root(), after: None }, reply))?;
        let (entry, theirs) = top.directory.ok_or(CatchUpError::Answer("it has no root"))?;
        let compared = differences(tree, (&entry, theirs), &mut standby, sink);
        compared.map(|()| theirs).map_err(|error| match error {
            CompareError::Sink(error) | CompareError::Far { source: error, .. } => error,
            CompareError::Tree(error) => error.into(),
            error => CatchUpError::Compare(Box::new(error)),
        })
    }

    /// Sends ahead what the differences need and the standby lacks.
    fn send_ahead(&self, root: &Root, view: View, is_first: bool) -> Result<Ahead, CatchUpError> {
        let (ticket, digest) = (view.ticket, view.digest);
        let tree = Tree::view(view.tree)?.ok_or(CatchUpError::Answer("the primary has no tree"))?;
        let mut ahead = Ahead { ticket, missed: Vec::new() };
        let mut batch: Vec<Offer> = Vec::new();
        let mut done = (0_u64, 0_u64);
        self.tell("comparing", (0, 0), (0, 0))?;
        if is_first {
            self.sweep(&tree, digest)?;
        }
        let mut flush = |batch: &mut Vec<Offer>, ahead: &mut Ahead| -> Result<(), CatchUpError> {
            self.courier.send(root, batch, &mut ahead.missed)?;
            done.0 += batch.len() as u64;
            done.1 += batch.iter().map(|offer| offer.size).sum::<u64>();
            batch.clear();
            let report = self.shared.report();
            let total = (report.entries.max(done.0), report.bytes.max(done.1));
            drop(report);
            self.tell("sending contents", (done.0, total.0), (done.1, total.1))
        };
        let mut batch_bytes = 0;
        self.compare(&tree, digest, &mut |difference| {
            if let Some((entry, digest)) = contents(&difference).and_then(|entry| Some((entry, entry.content()?))) {
                let (size, mode, mtime) = (entry.size(), entry.mode, entry.mtime);
                let base = base(&difference);
                batch.push(Offer { path: difference.path().clone(), digest, size, mode, mtime, base });
                batch_bytes += size;
                if batch.len() >= HAVE_CAP || batch_bytes >= 64 << 20 {
                    batch_bytes = 0;
                    flush(&mut batch, &mut ahead)?;
                }
            }
            Ok(())
        })?;
        flush(&mut batch, &mut ahead)?;
        Ok(ahead)
    }

    /// Has the standby drop what it holds from earlier attempts and is wanted no more, if it holds anything: a home that changes between them
    /// would fill its disk.
    fn sweep(&self, tree: &Tree<Snapshot>, digest: Digest) -> Result<(), CatchUpError> {
        if self.tree == Some(digest) {
            return Ok(());
        }
        let lack = self.courier.question(|reply| Question::Have(Have { contents: Vec::new() }, reply))?;
        if !lack.holds {
            return Ok(());
        }
        let wanted = |contents, more| -> Result<Swept, CatchUpError> {
            Ok(self.courier.question(|reply| Question::Wanted(Wanted { contents, more }, reply))?)
        };
        let mut keys = Vec::new();
        self.compare(tree, digest, &mut |difference| {
            let content = contents(&difference).and_then(Entry::content);
            keys.extend(content.and_then(|content| content.0.first_chunk::<8>().copied()));
            if keys.len() == WANTED_CAP {
                wanted(std::mem::take(&mut keys), true)?;
            }
            Ok(())
        })?;
        let swept = wanted(keys, false)?;
        if swept.contents > 0 {
            tracing::info!(contents = swept.contents, "what was sent ahead and is wanted no more was dropped");
        }
        Ok(())
    }

    /// Compares once more and ships the one generation.
    fn finish(&self, fold: Fold) -> Result<(), CatchUpError> {
        self.tell("making the generation", (0, 0), (0, 0))?;
        let Fold { view, quality, deferred, cut_time, oldest_change, whole, payloads, .. } = fold;
        let digest = view.digest;
        let tree = Tree::view(view.tree)?.ok_or(CatchUpError::Answer("the primary has no tree"))?;
        let mut emitter = Emitter::new(&tree, &view.filter, File::new(Spool::create(&self.state)?));
        let tree_before = self.compare(&tree, digest, &mut |difference| {
            emitter.take(difference).map_err(|error| CatchUpError::Compare(Box::new(error)))
        })?;
        let mut operations = Records::new(Spool::create(&self.state)?);
        let mut operations_digest = OperationsDigest::default();
        let mut count = 0;
        let mut payload_bytes = 0;
        // By digest: a hard-linked file may be created under another name than it was captured under.
        let whole: BTreeMap<Digest, Whole> = whole.into_values().map(|whole| (whole.digest, whole)).collect();
        emitter
            .finish(&mut |_, entry| supply(&whole, entry).1, &mut |operation| {
                let offset = operation.action.entry().map_or(0, |entry| supply(&whole, entry).0);
                let encoded = operation.encode();
                operations_digest.update(&encoded);
                count += 1;
                payload_bytes += operation.payload.map_or(0, |payload| payload.length);
                operations.push(operation.action.section(), &[&offset.to_le_bytes()[..], &encoded].concat())
            })
            .map_err(|error| match error {
                EmitError::Tree(error) => CatchUpError::Tree(error),
                EmitError::Sink(error) => CatchUpError::Spool(error),
                error => CatchUpError::Compare(Box::new(error)),
            })?;
        let (cluster, home) = self.ids;
        let header = Header {
            required_features: 0,
            optional_features: 0,
            cluster,
            home,
            reign: view.reign,
            position: view.position,
            parent: self.parent.0,
            parent_chain: self.parent.1,
            joint: Joint::CatchUp { chain: view.chain },
            tree_before,
            tree_after: digest,
            quality,
            deferred,
            filter: view.filter.digest(),
            cut_time,
            oldest_change,
            operations: count,
            operations_digest: operations_digest.finish(),
            extensions: Vec::new(),
        };
        tracing::info!(position = %header.position, operations = count, questions = self.courier.asked.get(), "catch-up generation");
        let shipment = Shipment { header, operations: Operations::new(operations)?, payloads, payload_bytes };
        let courier = &self.courier;
        courier.say(Question::Sending(view.position, view.chain))?;
        Ok(ship(&courier.runtime, &courier.streams, &shipment, &courier.sent)?)
    }
}

/// What a pass sent.
struct Ahead {
    ticket: u64,
    /// Files that had another content by then.
    missed: Vec<RelPath>,
}

/// What the standby has in the place of a large file.
fn base(difference: &Difference<'_>) -> Option<(Digest, u64)> {
    let Difference::Changed { far, .. } = difference else { return None };
    Some((far.content()?, far.size())).filter(|(_, size)| *size > SMALL_BYTES)
}

/// Where the content of a created file comes from: its place in the fold's spool, or what was sent ahead.
fn supply(whole: &BTreeMap<Digest, Whole>, entry: &Entry) -> (u64, Supply) {
    match entry.content().and_then(|digest| whole.get(&digest)) {
        Some(whole) => {
            let spooled = whole.spooled;
            (spooled.offset, Supply::Whole { payload: spooled.payload, sparse: whole.sparse })
        }
        None => (0, Supply::Held),
    }
}

/// The standby's tree, asked for directory by directory.
struct Standby<'a>(&'a CatchUp);

impl Far for Standby<'_> {
    type Error = CatchUpError;

    fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, CatchUpError> {
        let mut children: Vec<FarChild> = Vec::new();
        loop {
            let after = children.last().map(|child| child.name.clone());
            let listing = self.0.courier.question(|reply| Question::List(List { path: path.clone(), after }, reply))?;
            if listing.more && listing.children.is_empty() {
                return Err(CatchUpError::Answer("a page of children is empty"));
            }
            children.extend(listing.children.into_iter().map(|child| FarChild {
                name: child.name,
                entry: child.entry,
                digest: child.digest,
            }));
            if !listing.more {
                return Ok(children);
            }
        }
    }
}

/// Records in a temporary file.
struct File {
    spool: Spool,
    /// What is not yet written.
    tail: Vec<u8>,
}

impl File {
    /// How much is gathered before it is written.
    const TAIL_BYTES: usize = 64 * 1024;

    fn new(spool: Spool) -> Self {
        Self { spool, tail: Vec::new() }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.spool.write_all(&self.tail)?;
        self.tail.clear();
        Ok(())
    }
}

impl Scratch for File {
    fn push(&mut self, record: &[u8]) -> Result<(), ScratchError> {
        self.tail.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.tail.extend_from_slice(record);
        if self.tail.len() < Self::TAIL_BYTES {
            return Ok(());
        }
        self.flush().map_err(|source| ScratchError { operation: "write", source: Box::new(source) })
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), ScratchError> {
        self.flush().map_err(|source| ScratchError { operation: "write", source: Box::new(source) })?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ScratchError { operation: "read", source };
        let read = crate::reveal::Records::each(&self.spool.reader(), 0, self.spool.end(), &mut |record| match visit(
            record,
        ) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(crate::thought::tree::ApplyError::Source("enough".into())),
        });
        match read {
            Err(crate::thought::tree::ApplyError::Source(error)) if error.to_string() == "enough" => Ok(()),
            Err(error) => Err(failed(Box::new(error))),
            Ok(()) => Ok(()),
        }
    }
}
