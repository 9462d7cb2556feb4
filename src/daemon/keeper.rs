//! The keeper: the one thread that owns the primary's tree, walker and history.
//!
//! It watches and scans, makes a generation when a batch is due, and puts it into the window that all sessions read. What others want of it comes
//! through one bounded channel; what it did stands in [`Shared`].

mod answers;
mod guard;
mod home;
mod lasting;
mod later;
mod mark;
mod poll;
mod publish;
mod refilter;
mod report;
mod rescan;
mod room;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::filters::Filters;
use super::primary::now;
use super::window::{Shipment, Window, WindowLimits, gather};
use crate::capture::{Larges, RoundOptions};
use crate::fs::XattrPolicy;
use crate::index::Snapshot;
use crate::spool::SpoolReader;
use crate::thought::filter::Filter;
use crate::thought::generation::{NamedPaths, Quality, Reason};
use crate::thought::plan::Spooled;
use crate::thought::timing::Windows;
use crate::thought::wire::message::{Held, HeldBy};
use crate::walk::Findings;
use crate::watch::Options as WatchOptions;
use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, Reign, ReignId};

pub(crate) use home::marker_command;
pub(crate) use work::wall_clock;
pub use work::{Keeper, KeeperError, open_index};

/// How the keeper works.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The home.
    pub home: PathBuf,
    /// Where the index and temporary files are.
    pub state: PathBuf,
    /// What is replicated, to begin with.
    pub filter: Filter,
    /// Which xattrs are replicated.
    pub xattrs: XattrPolicy,
    /// How changes are heard of.
    pub watch: WatchOptions,
    /// How they are batched.
    pub windows: Windows,
    /// Limits of a cut.
    pub rounds: RoundOptions,
    /// How often what no watch tells of is scanned.
    pub poll: Duration,
    /// All of the home is scanned as often, whatever file system it is on.
    pub scan_always: bool,
    /// New contents from so many bytes on are sent ahead of the generation that takes them.
    pub large_from_bytes: u64,
    /// How much of recent generations is kept.
    pub window: WindowLimits,
    /// The cluster.
    pub cluster: ClusterId,
    /// The home's id.
    pub home_id: HomeId,
    /// The reign.
    pub reign: Reign,
    /// No generation is made until that is changed.
    pub paused: bool,
    /// Where history goes on.
    pub position: Position,
    /// The chain digest there.
    pub chain: ChainDigest,
}

/// What the keeper is asked for.
pub enum Command {
    /// A view of the tree, from which a standby can be caught up.
    View(oneshot::Sender<View>),
    /// A cut in which these files are captured whole, and a view of the tree after it.
    Fold {
        /// Which view it goes on from.
        ticket: u64,
        /// Files whose content was found to be another than the tree says: they are captured whole as well.
        missed: BTreeSet<RelPath>,
        /// Where the answer goes.
        reply: oneshot::Sender<Fold>,
    },
    /// A cut of all that was written so far.
    Mark(oneshot::Sender<Marked>),
    /// A person's word that what the guard holds back is meant so; what that was.
    Release(oneshot::Sender<Vec<String>>),
    /// What is replicated from now on.
    Refilter(Filter),
    /// The reign from now on, which was written down, and the chain it begins with; answered once no generation of an earlier one is made.
    Reign(Reign, ChainDigest, oneshot::Sender<()>),
    /// The tree as it is now, to be compared with the home.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Another look at everything at and below `paths` (none: everywhere), and a cut that has what was missed.
    Rescan {
        /// Where.
        paths: Vec<RelPath>,
        /// What is read whole, whatever the kernel says of it.
        whole: BTreeSet<RelPath>,
        /// Where the answer goes.
        reply: oneshot::Sender<Marked>,
    },
}

/// What became of taking all that was written so far.
#[derive(Clone, Debug)]
pub struct Marked {
    /// Where history stands.
    pub position: Position,
    /// All of it is in the generations up to there. If not: there was more than was heard of in time, and the question can be asked again.
    pub has_all: bool,
    /// At and below these something was in motion in each of the cuts, and is there as one of them found it.
    in_motion: BTreeSet<RelPath>,
}

/// The tree at one position.
pub struct View {
    /// Names it in [`Command::Fold`].
    pub ticket: u64,
    /// The tree.
    pub tree: Snapshot,
    /// Its digest.
    pub digest: Digest,
    /// Where it is.
    pub position: Position,
    /// The history there.
    pub chain: ChainDigest,
    /// The reign.
    pub reign: ReignId,
    /// The filter that the tree was made by.
    pub filter: Filter,
}

/// A view of the tree with the content of everything that changed since an earlier one.
pub struct Fold {
    /// The tree.
    pub view: View,
    /// What the last cut may claim.
    pub quality: Quality,
    /// What it left out.
    pub deferred: NamedPaths,
    /// When it was made.
    pub cut_time: Timestamp,
    /// The oldest change in it.
    pub oldest_change: Timestamp,
    /// Files that changed since the earlier view: where their whole content is.
    pub whole: BTreeMap<RelPath, Whole>,
    /// Where the payloads are.
    pub payloads: SpoolReader,
    /// False if more changed since the earlier view than could be kept track of: go on from this view.
    pub is_complete: bool,
}

/// Whole content of one file in a spool.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// The content.
    pub digest: Digest,
    /// Where it is.
    pub spooled: Spooled,
    /// True if it has holes.
    pub sparse: bool,
}

/// How far the keeper is.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The home has been read.
    pub is_ready: bool,
    /// What the guard holds back, all of the home first.
    pub alarms: Vec<String>,
    /// Where something was mounted inside the home that is not there.
    pub lost: BTreeSet<RelPath>,
    /// Nothing is replicated.
    pub is_held: bool,
    /// Why the keeper stopped, if it did.
    pub failed: Option<String>,
    /// Entries of the tree, root included.
    pub entries: u64,
    /// Content bytes of the tree.
    pub bytes: u64,
    /// Bytes of content read since the start, to learn what changed.
    pub read_bytes: u64,
    /// The last generation's quality and what it left out.
    pub quality: Option<(Quality, NamedPaths)>,
    /// Generations by word of quality.
    pub by_quality: BTreeMap<&'static str, u64>,
    /// Reasons, each as often as a generation gave it.
    pub by_reason: BTreeMap<Reason, u64>,
    /// Dirty paths.
    pub pending: u64,
    /// When the oldest of them was heard of.
    pub oldest: Option<Timestamp>,
    /// Some of them.
    pub sample: Vec<RelPath>,
    /// What is not replicated or not watched.
    pub findings: Findings,
    /// Watches placed.
    pub watches: u64,
    /// Directories without a watch.
    pub polled: u64,
    /// What to do about that.
    pub limit_hint: Option<String>,
    /// All of the home is scanned so often, whatever its watches tell.
    pub polls_home: Option<Duration>,
    /// The kind of the file system.
    pub filesystem: String,
}

impl Report {
    /// What the guard of the home has to say, if it holds everything back.
    pub fn held(&self) -> Option<Held> {
        let text = self.alarms.first().filter(|_| self.is_held)?;
        Some(Held { by: HeldBy::Home, text: text.clone() })
    }
}

/// What the keeper shares with everybody.
pub struct Shared {
    window: Mutex<Window>,
    report: Mutex<Report>,
    /// What is replicated.
    pub filters: Filters,
    /// Large contents on their way to the standbys.
    pub larges: Arc<Larges>,
    /// Rises with every generation.
    pub head: watch::Sender<Position>,
    /// How many sessions want payloads.
    interest: AtomicUsize,
    /// When the last of them ended, if none does.
    parted: Mutex<Option<Instant>>,
    linger: Duration,
    stop: AtomicBool,
    paused: AtomicBool,
    mailbox: Mutex<Option<Arc<crate::watch::Mailbox>>>,
}

impl Shared {
    fn new(options: &KeeperOptions) -> Self {
        Self {
            window: Mutex::new(Window::new(options.window, (options.position, options.chain))),
            report: Mutex::new(Report::default()),
            larges: Arc::new(Larges::new(options.large_from_bytes)),
            filters: Filters::new(options.filter.clone()),
            head: watch::Sender::new(options.position),
            interest: AtomicUsize::new(0),
            parted: Mutex::new(None),
            linger: options.window.linger,
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(options.paused),
            mailbox: Mutex::new(None),
        }
    }

    /// The recent generations.
    pub fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the keeper is.
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now minus the time of the oldest change that is in no generation up to `acked`: the lag of a standby that acked that.
    pub fn lag_after(&self, acked: Position) -> Duration {
        let oldest = self.window().oldest_change_after(acked).or(self.report().oldest);
        oldest.map_or(Duration::ZERO, |oldest| wall_clock().since(oldest))
    }

    /// Says that somebody wants payloads, for as long as the answer lives.
    pub fn take_interest(self: &Arc<Self>) -> Interest {
        self.interest.fetch_add(1, Ordering::Relaxed);
        Interest(Arc::clone(self))
    }

    /// Whether payloads are made. For a while they still are when the last link has ended: who comes back in time goes on where it was.
    fn ships(&self) -> bool {
        let parted = *self.parted.lock().unwrap_or_else(PoisonError::into_inner);
        self.interest.load(Ordering::Relaxed) > 0 || parted.is_some_and(|parted| parted.elapsed() < self.linger)
    }

    /// Ends the keeper.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Has the keeper make no more generations, or go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.wake();
        self.wake_sessions();
    }

    /// Has sessions look at what they may do.
    fn wake_sessions(&self) {
        self.head.send_modify(|_| {});
    }

    /// True while no generation is to be made.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Has the keeper look at its commands now.
    pub fn wake(&self) {
        if let Some(mailbox) = &*self.mailbox.lock().unwrap_or_else(PoisonError::into_inner) {
            mailbox.wake();
        }
    }

    fn push(&self, shipment: Arc<Shipment>, state: &Path) {
        let position = shipment.header.position;
        let surplus = {
            let mut window = self.window();
            window.push(shipment);
            window.surplus()
        };
        self.head.send_replace(position);
        if surplus.is_empty() {
            return;
        }
        match gather(state, &surplus) {
            Ok(gathered) => self.window().replace(gathered),
            Err(error) => {
                tracing::warn!(%error, "cannot move recent generations to the state directory; fewer are kept for standbys that come back");
            }
        }
    }
}

/// A wish for payloads.
pub struct Interest(Arc<Shared>);

impl Drop for Interest {
    fn drop(&mut self) {
        *self.0.parted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
        self.0.interest.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Paths touched since a view was given out.
#[derive(Debug, Default)]
struct Touched {
    files: BTreeSet<RelPath>,
    /// What was renamed since, or is below what was: the path in the view, and that by now.
    renamed: BTreeMap<RelPath, RelPath>,
    /// More than could be kept: another view must be taken.
    overflowed: bool,
}
