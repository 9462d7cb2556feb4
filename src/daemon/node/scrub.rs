//! The scrub: everything a node holds is read in the background, at a set rate, and compared with its index.
//!
//! It goes through the tree in slices, each against a view of the index that is let go again. Where it is stands in `scrub.json` in the state
//! directory, so that a restart goes on from there. What differs is a suspicion, since the node goes on working meanwhile: it is looked at again by
//! whoever owns the tree. What goes on differing is captured on a primary (a change that no event told of), and on a standby put aside and mended,
//! as `resync` does it.
//!
//! **Format of `scrub.json`, version 1:** one JSON object as [`Place`].

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Inner, Part};
use crate::audit::{AuditError, AuditOptions, Difference, audit};
use crate::daemon::holder::{Job, Look, Still};
use crate::daemon::keeper::{Command, wall_clock};
use crate::daemon::primary::now;
use crate::fs::state::{read_capped, write_atomically};
use crate::fs::{Able, Root, XattrPolicy};
use crate::index::Snapshot;
use crate::observe::PathText;
use crate::observe::status::ScrubStatus;
use crate::reveal::Scope;
use crate::thought::filter::Filter;
use crate::thought::tree::Tree;
use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;

/// After so long a view of the index is let go; a file that takes longer is read to its end.
const SLICE: Duration = Duration::from_secs(20);
/// So many entries are looked at a second, whatever they hold.
const ENTRIES_PER_SECOND: f64 = 2000.0;
/// A slice ends when so many paths are suspected.
const SUSPECTS: usize = 1000;
/// Between two slices, and before another try where there was nothing to look at.
const REST: Duration = Duration::from_secs(1);
/// The longest sleep in which the end of the node is not noticed.
const NAP: Duration = Duration::from_millis(100);
/// The longest `scrub.json` read.
const CAP: u64 = 1 << 20;

/// How a node is scrubbed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// So many bytes are read a second.
    pub bytes_per_second: u64,
    /// A pass begins at the earliest so long after the one before began.
    pub every: Duration,
}

/// Where the scrub is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Place {
    /// What comes next; `None` between two passes.
    next: Option<PathText>,
    /// When the pass began.
    began: Timestamp,
    /// Passes that came to their end.
    passes: u64,
}

/// One slice to be read.
struct Slice {
    root: Root,
    index: Snapshot,
    able: Able,
    filter: Filter,
    from: RelPath,
}

/// A path that differed, how, and what the index said of it.
struct Suspect {
    found: Difference,
    entry: Option<Digest>,
}

/// What came of a slice.
struct Read {
    suspects: Vec<Suspect>,
    /// `None` at the end of the home.
    next: Option<RelPath>,
    entries: u64,
    bytes: u64,
}

/// Scrubs for as long as the node runs.
pub(super) async fn scrub(inner: Arc<Inner>, options: ScrubOptions) {
    let mut place = load(&inner.options.state);
    loop {
        inner.scrub_status(|status| {
            status.next.clone_from(&place.next);
            status.passes = place.passes;
        });
        let Some(from) = place.next.clone() else {
            let left = options.every.saturating_sub(wall_clock().since(place.began));
            tokio::time::sleep(left.max(REST)).await;
            place = Place { next: Some(PathText(RelPath::root())), began: wall_clock(), ..place };
            continue;
        };
        if let Some(read) = read(&inner, from.0, options).await {
            let suspects = inner.unchanged(read.suspects).await;
            if !suspects.is_empty() {
                inner.settle_suspects(suspects).await;
            }
            inner.scrub_status(|status| {
                status.entries += read.entries;
                status.bytes += read.bytes;
            });
            place.passes += u64::from(read.next.is_none());
            place.next = read.next.map(PathText);
            save(&inner.options.state, &place);
        }
        tokio::time::sleep(REST).await;
    }
}

/// Reads one slice; `None` where there is nothing to be looked at now, or it failed, which is told.
async fn read(inner: &Arc<Inner>, from: RelPath, options: ScrubOptions) -> Option<Read> {
    let (index, able, filter) = inner.scrub_view().await?;
    let root = Root::open(&inner.options.home).ok()?;
    let slice = Slice { root, index, able, filter, from };
    let ending = Arc::clone(inner);
    let read = tokio::task::spawn_blocking(move || {
        slice.read(options.bytes_per_second, &|| ending.ending.load(Ordering::Relaxed))
    });
    match read.await.ok()? {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(error = crate::daemon::explain(&error), "the scrub cannot read the index");
            None
        }
    }
}

impl Slice {
    fn read(self, rate: u64, is_ending: &dyn Fn() -> bool) -> Result<Option<Read>, AuditError> {
        let Some(tree) = Tree::view(self.index)? else { return Ok(None) };
        let mut suspects: Vec<Suspect> = Vec::new();
        let count = std::cell::Cell::new(0);
        let begun = now();
        let (mut last, mut seen) = (0, (0, 0));
        let mut progress = |at: crate::audit::Progress| {
            // Between two entries alone: a file is read to its end.
            let is_between = at.entries != last;
            last = at.entries;
            seen = (at.entries, at.bytes);
            keep_to(rate, (at.entries, at.bytes), begun, is_ending);
            let is_enough = begun.elapsed() > SLICE || count.get() >= SUSPECTS;
            if is_ending() || (is_between && is_enough && at.entries > 1) {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        let options = AuditOptions {
            able: self.able,
            coarse_times: true,
            from: Some(self.from),
            progress: Some(&mut progress),
            ..AuditOptions::default()
        };
        let policy = XattrPolicy::default();
        let audited = audit(&self.root, &tree, &self.filter, &policy, &[], options, &mut |difference| {
            if suspects.last().is_none_or(|last| last.found.path != difference.path) {
                let entry = tree.row(&difference.path).ok().flatten().map(|row| row.entry.digest());
                suspects.push(Suspect { found: difference, entry });
                count.set(suspects.len());
            }
        });
        let next = match audited {
            Ok(_) => None,
            Err(AuditError::Stopped { at }) => Some(at),
            Err(error) => return Err(error),
        };
        Ok(Some(Read { suspects, next, entries: seen.0, bytes: seen.1 }))
    }
}

/// Sleeps as long as what was done is ahead of its time.
fn keep_to(rate: u64, (entries, bytes): (u64, u64), begun: Instant, is_ending: &dyn Fn() -> bool) {
    #[expect(clippy::cast_precision_loss, reason = "a time to sleep")]
    let due = bytes as f64 / rate.max(1) as f64 + entries as f64 / ENTRIES_PER_SECOND;
    let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
    while !is_ending() {
        let left = due.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

impl Inner {
    fn scrub_status(&self, change: impl FnOnce(&mut ScrubStatus)) {
        change(self.scrub.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default());
    }

    /// The index as it is now, what the disk can hold of it, and what is replicated.
    async fn scrub_view(&self) -> Option<(Snapshot, Able, Filter)> {
        match &self.part {
            Part::Primary { shared, keeper } => {
                if self.held().is_some() || self.paused_since().is_some() {
                    return None;
                }
                let (reply, answer) = tokio::sync::oneshot::channel();
                keeper.send(Command::Snapshot(reply)).await.ok()?;
                shared.wake();
                Some((answer.await.ok()?, Able::everything(), shared.filters.now()))
            }
            Part::Standby { context } => {
                let Still { index, able, filter, .. } = context.holder.ask(Job::Still).await?.ok()?;
                Some((index, able, filter))
            }
        }
    }

    /// Those of which the index says the same as when they were suspected: what it says of the others is newer than what was read.
    async fn unchanged(&self, suspects: Vec<Suspect>) -> Vec<Difference> {
        if suspects.is_empty() {
            return Vec::new();
        }
        let Some((index, ..)) = self.scrub_view().await else { return Vec::new() };
        let looking = move || {
            let Ok(Some(tree)) = Tree::view(index) else { return Vec::new() };
            let entry = |path: &RelPath| tree.row(path).ok().flatten().map(|row| row.entry.digest());
            let same = suspects.into_iter().filter(|suspect| entry(&suspect.found.path) == suspect.entry);
            same.map(|suspect| suspect.found).collect()
        };
        tokio::task::spawn_blocking(looking).await.unwrap_or_default()
    }

    /// Looks again at what differed, and has mended what goes on differing.
    async fn settle_suspects(&self, suspects: Vec<Difference>) {
        let found = match &self.part {
            Part::Primary { .. } => {
                let suspects = suspects.into_iter().map(|found| found.path).collect();
                let Ok(audited) = self.steady_audit(suspects, true).await else { return };
                // What is on its way is not missed. If any of it is, the next pass comes by again.
                if !audited.is_followed {
                    return;
                }
                let whole: std::collections::BTreeSet<RelPath> = audited.differences.keys().cloned().collect();
                for path in whole.iter().take(100) {
                    tracing::warn!(%path, "the scrub found a change that nothing told of; it is captured now");
                }
                let paths: Vec<RelPath> = whole.iter().cloned().collect();
                if !paths.is_empty() && self.rescan(paths, whole.clone()).await.is_err() {
                    return;
                }
                whole.len() as u64
            }
            Part::Standby { context } => {
                let mut scope = Scope::default();
                suspects.iter().for_each(|found| scope.note(found));
                let look = Look { scope, content: true, mend: true };
                let Some(audited) = context.holder.inspect(look, Arc::new(|_| {})).await else { return };
                if audited.strayed > 0 {
                    tracing::warn!(
                        paths = audited.strayed,
                        "the scrub found the replica changed or damaged; it is mended"
                    );
                    // Whoever is followed is greeted anew, as a replica that is at no point of any history.
                    context.strays.send_modify(|count| *count += audited.strayed);
                }
                audited.strayed
            }
        };
        self.scrub_status(|status| status.found += found);
    }
}

/// What cannot be read is begun anew: nothing is lost by it.
fn load(state: &Path) -> Place {
    let read = read_capped(&state.join("scrub.json"), CAP).ok();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn save(state: &Path, place: &Place) {
    let Ok(bytes) = serde_json::to_vec(place) else { return };
    if let Err(error) = write_atomically(&state.join("scrub.json"), &bytes, 0o600) {
        tracing::warn!(error = crate::daemon::explain(&error), "cannot remember where the scrub is");
    }
}
