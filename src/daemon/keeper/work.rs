//! The keeper's work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::guard::Guard;
use super::home::Home;
use super::lasting::doubted_since;
use super::later::Reader;
use super::mark::Awaited;
use super::poll::{Poller, Turn};
use super::report::Told;
use super::{Command, KeeperOptions, Shared, Touched};
use crate::capture::{Capturer, Cut, CutError, Moment, cut};
use crate::fs::{FsError, Root, is_no_space};
use crate::index::{Index, IndexError, Opened};
use crate::spool::Spool;
use crate::thought::filter::Filter;
use crate::thought::generation::Reason;
use crate::thought::store::{ReadStore, Store, Table};
use crate::thought::timing::{BatchTimer, Due};
use crate::thought::tree::{ApplyError, Row, Tree, TreeError};
use crate::walk::{DIRTY_CAP, WalkError, Walker};
use crate::watch::{WatchError, Watcher};
use crate::words::entry::{Body, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, Position};

/// How long the keeper sleeps when nothing happens.
pub(super) const IDLE: Duration = Duration::from_millis(250);
/// Before so many paths are captured the index is committed, if more than so much of it is not: both need not stand in memory at once.
const MANY_PATHS: usize = 10_000;
const FEW_BYTES: usize = 4 << 20;
/// After so many rounds over a home that was listed whole it is read as far as it can be while so much changes in it.
const SETTLING: u32 = 10;
/// How often the index is committed while the keeper runs. A commit waits for the disk, and no cut is made meanwhile. What is lost with
/// it after a crash is found by its change times and read again.
const COMMIT_EVERY: Duration = Duration::from_secs(60);
/// How often what the keeper says of itself is brought up to date. It costs a look at all that is dirty.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// The fact that says at which position a primary ended in order.
const ENDED_FACT: &[u8] = b"ended-at";
/// The fact that names this node's secret.
const SECRET_FACT: &[u8] = b"secret";
/// The fact that names the filter by which the tree was made.
const FILTER_FACT: &[u8] = b"filter";

/// What ends the keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The home or the state directory refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The home cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The walk failed.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// No cut could be made.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The plan does not fit the tree it was made for: a bug.
    #[error("generation {position} does not fit the primary's own tree")]
    Apply {
        /// Which.
        position: Position,
        /// Where.
        #[source]
        source: ApplyError,
    },
    /// A temporary file failed.
    #[error("cannot use a temporary file in the state directory")]
    Spool(#[from] std::io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Which payloads a capture makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Payloads {
    /// None: nobody is there to receive them.
    None,
    /// Of what changed, the cheapest.
    Changes,
    /// Of what changed, all of it.
    Whole,
}

/// The keeper.
pub struct Keeper {
    pub(super) options: KeeperOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) walker: Walker,
    pub(super) tree: Tree<Index>,
    pub(super) timer: BatchTimer,
    pub(super) secret: [u8; 32],
    pub(super) position: Position,
    pub(super) chain: ChainDigest,
    pub(super) views: BTreeMap<u64, Touched>,
    pub(super) next_view: u64,
    /// Large files that the last cut left for later, and who waits for some of them.
    pub(super) later: BTreeSet<RelPath>,
    pub(super) awaited: Vec<Awaited>,
    /// When the keeper began, as the monotonic clock's zero.
    pub(super) begun: Instant,
    pub(super) committed: Instant,
    pub(super) guard: Guard,
    pub(super) poller: Poller,
    pub(super) reported: Instant,
    pub(super) told: Told,
    pub(super) read_bytes: u64,
    pub(super) is_ready: bool,
    /// What keeps every generation from being proven: the kind of file system.
    pub(super) standing_doubts: BTreeSet<Reason>,
}

impl Keeper {
    /// Opens the home, of which `index` is what is known; nothing is read yet.
    pub fn open(
        options: KeeperOptions,
        index: Index,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(Self, Arc<Shared>), KeeperError> {
        let root = Root::open(&options.home)?;
        let stat = root.stat(&RelPath::root())?.ok_or_else(|| gone(&options))?;
        let root_row =
            Row::new(stat.entry(Body::Directory, root.xattrs(&RelPath::root(), &options.xattrs)?, None), stat.inode);
        let mut tree = Tree::open(index, root_row)?;
        let secret = secret_in(&mut tree)?;
        follow_filter(&mut tree, &options.filter)?;
        let shared = Arc::new(Shared::new(&options));
        let walker = begin_walk(&options, &shared, &tree)?;
        let guard = Guard::new(Home::new(options.home.clone(), options.home_id, &root)?, &tree)?;
        let kind = root.filesystem()?;
        let mut standing_doubts = BTreeSet::new();
        if kind.is_network() || options.scan_always {
            standing_doubts.insert(Reason::Network);
        }
        if kind.is_overlay() {
            standing_doubts.insert(Reason::Overlay);
        }
        let filesystem = kind.to_string();
        let polls_home = kind.is_network() || options.scan_always;
        if polls_home {
            let every = humantime::format_duration(options.poll);
            tracing::info!(%filesystem, %every, "others may write to this file system unseen: all of the home is scanned at intervals");
            shared.report().polls_home = Some(options.poll);
        }
        shared.report().filesystem = filesystem;
        let now = instant();
        let keeper = Self {
            timer: BatchTimer::new(options.windows),
            position: options.position,
            chain: options.chain,
            walker,
            guard,
            tree,
            secret,
            commands,
            shared: Arc::clone(&shared),
            views: BTreeMap::new(),
            next_view: 0,
            later: BTreeSet::new(),
            awaited: Vec::new(),
            begun: now,
            committed: now,
            poller: Poller::new(options.poll, polls_home, now),
            reported: now,
            told: Told::default(),
            read_bytes: 0,
            is_ready: false,
            standing_doubts,
            options,
        };
        Ok((keeper, shared))
    }

    /// Works until told to stop; where it stood then.
    pub fn run(mut self) -> Result<Position, KeeperError> {
        let reader = Reader::start(&self.options.home, self.secret, &self.shared)?;
        let ended = self.work();
        reader.end();
        if let Err(error) = &ended {
            self.shared.report().failed = Some(crate::daemon::explain(error));
        }
        self.shared.head.send_replace(self.position);
        ended?;
        let ended_at = self.position.to_string().into_bytes();
        self.tree.store_mut().put(Table::Facts, ENDED_FACT.to_vec(), ended_at).map_err(TreeError::from)?;
        self.commit()?;
        Ok(self.position)
    }

    fn work(&mut self) -> Result<(), KeeperError> {
        self.review_mounts(true)?;
        if let Some(alarm) = self.guard.home.alarm(&self.tree) {
            self.hold(alarm);
        }
        while !self.shared.is_stopping() {
            let done = match (self.guard.is_holding(), self.is_ready) {
                (true, _) => self.attend().and_then(|()| self.wait_for_home()),
                (false, false) => self.settle(),
                (false, true) => self.turn(),
            };
            // A home that is not there fails in many ways.
            if let Err(error) = done {
                match self.guard.home.alarm(&self.tree) {
                    Some(alarm) => self.hold(alarm),
                    None if is_no_space(&error) => self.ran_out(),
                    None => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), KeeperError> {
        self.attend()?;
        let is_paused = self.shared.is_paused();
        // The last cut heard of it.
        if self.walker.take_changed() {
            self.timer.touched(instant());
        }
        let wait = match self.timer.due(instant()) {
            _ if is_paused => IDLE,
            Due::Idle => IDLE,
            Due::In(left) => left.min(IDLE),
            Due::Now => Duration::ZERO,
        };
        self.walker.listen(&self.tree, wait, wall_clock())?;
        if !self.walker.is_settled() {
            self.walker.scan(&self.tree, 20_000, wall_clock())?;
        }
        // The comparison that is due for a name lost from sight is a cut's.
        let is_owed = self.walker.has_lost_sight();
        if self.walker.take_changed() || is_owed || self.shared.larges.settle(instant()) {
            self.timer.touched(instant());
        }
        self.poll();
        self.look_at_home()?;
        let wrong = self.shared.larges.take_wrong();
        if !wrong.is_empty() {
            tracing::info!(files = wrong.len(), first = ?wrong.first(), "more had changed of a file than what was appended; it is captured whole");
            self.generation(&wrong)?;
        }
        if self.timer.due(instant()) == Due::Now && !is_paused {
            self.timer.taken();
            self.generation(&BTreeSet::new())?;
        }
        if self.reported.elapsed() >= REPORT_EVERY {
            self.report();
            self.tell_of_watches();
        }
        self.keep_house()?;
        Ok(())
    }

    /// Reads the home into the tree, in pieces, as long as there is more; makes no generation of it.
    fn settle(&mut self) -> Result<(), KeeperError> {
        let (mut quiet_rounds, mut rounds) = (0, 0);
        while quiet_rounds < 2 && !self.shared.is_stopping() {
            self.walker.listen(&self.tree, Duration::ZERO, wall_clock())?;
            self.walker.scan(&self.tree, 20_000, wall_clock())?;
            if self.walker.is_settled() && self.walker.dirty().is_empty() {
                break;
            }
            if self.walker.is_settled() || self.walker.dirty().len() >= 20_000 {
                // A home in which something always changes never comes to rest: two rounds without much left are enough, and after some without that
                // too.
                if self.walker.is_settled() {
                    rounds += 1;
                    quiet_rounds += u32::from(self.walker.dirty().len() < 1000 || rounds > SETTLING);
                }
                let Some((cut, _)) = self.guarded_capture(&BTreeSet::new(), Payloads::None)? else { return Ok(()) };
                self.apply(&cut.steps, &cut.captures)?;
                if self.tree.store().wants_commit() {
                    self.commit()?;
                }
            }
            self.report();
        }
        self.walker.take_doubts();
        self.walker.doubt_since(None);
        self.is_ready = true;
        self.commit()?;
        self.report();
        self.tell_of_watches();
        self.shared.head.send_replace(self.position);
        Ok(())
    }

    /// Makes a cut of what is dirty, and a generation of it if anything changed; `None` if the guard does not allow that now.
    pub(super) fn generation(&mut self, whole: &BTreeSet<RelPath>) -> Result<Option<Cut>, KeeperError> {
        if self.walker.dirty().len() >= MANY_PATHS && self.tree.store().overlay_bytes() > FEW_BYTES {
            self.commit()?;
        }
        let ships = self.shared.ships();
        let payloads = if ships { Payloads::Changes } else { Payloads::None };
        let Some((cut, spool)) = self.guarded_capture(whole, payloads)? else { return Ok(None) };
        self.note_later(&cut);
        let made = match cut.captures.is_empty() && cut.steps.is_empty() {
            true => cut,
            false => self.publish(cut, spool, ships, false)?,
        };
        self.answer_awaited();
        Ok(Some(made))
    }

    pub(super) fn capture(
        &mut self,
        whole: &BTreeSet<RelPath>,
        payloads: Payloads,
    ) -> Result<(Cut, Spool), KeeperError> {
        let spool = Spool::create(&self.options.state)?;
        let ships = payloads != Payloads::None;
        let mut capturer = Capturer::new(spool, self.secret, self.options.xattrs.clone(), ships);
        match payloads {
            Payloads::Whole => capturer = capturer.taking_whole(),
            Payloads::Changes => capturer = capturer.sending_ahead(&self.shared.larges),
            Payloads::None => {}
        }
        let begun = self.begun;
        let clock = move || moment(begun);
        let mut rounds = self.options.rounds;
        if !self.is_ready {
            // The first reading of a home makes no generation: nothing has to be proven.
            (rounds.rounds, rounds.persistence) = (1, Duration::ZERO);
        }
        let cut = cut(&mut self.walker, &self.tree, &mut capturer, whole, rounds, &clock)?;
        self.read_bytes += capturer.read_bytes();
        let (spool, signatures) = capturer.finish();
        for kept in signatures.iter() {
            let (digest, signature) = kept?;
            self.tree.keep_signature(digest, signature)?;
        }
        Ok((cut, spool))
    }

    /// Scans what no watch tells of: directories left without one, and all of a network file system.
    fn poll(&mut self) {
        match self.poller.turn(instant(), self.walker.is_settled(), self.walker.polled()) {
            Turn::Rest => {}
            Turn::Directories(count) => self.walker.poll(count),
            Turn::Home => self.walker.rescan(&RelPath::root()),
        }
    }

    fn keep_house(&mut self) -> Result<(), KeeperError> {
        if self.walker.is_doubting() && self.walker.is_settled() && !self.walker.was_any_written() {
            self.walker.doubt_since(None);
        }
        if self.tree.store().wants_commit() || self.committed.elapsed() >= COMMIT_EVERY {
            self.commit()?;
            self.committed = instant();
        }
        Ok(())
    }
}

/// Opens a primary's index in its state directory. True if it is intact and is the one with which the primary ended in order at `ended_at`.
pub fn open_index(state: &Path, ended_at: Option<Position>) -> Result<(Index, bool), KeeperError> {
    let opened = Index::open(&state.join("primary.redb"))?;
    if let Opened::Rebuilt { why, .. } = &opened {
        tracing::warn!(%why, "the index is rebuilt from the home");
    }
    let was_intact = matches!(opened, Opened::Intact(_));
    let index = opened.into_index();
    let ended = index.get(Table::Facts, ENDED_FACT).map_err(TreeError::from)?;
    let is_that = ended_at.is_some_and(|at| ended == Some(at.to_string().into_bytes()));
    Ok((index, was_intact && is_that))
}

/// Takes out of the tree what a filter that was changed leaves out. What it takes in, a scan finds.
pub(super) fn follow_filter<S: Store>(tree: &mut Tree<S>, filter: &Filter) -> Result<(), KeeperError> {
    let digest = filter.digest().0.to_vec();
    let known = tree.store().get(Table::Facts, FILTER_FACT).map_err(TreeError::from)?;
    if known.as_ref() == Some(&digest) {
        return Ok(());
    }
    let gone = tree.leave_out(filter)?;
    tree.digest()?;
    if known.is_some() {
        tracing::info!(
            gone,
            "the filters were changed: so many entries are replicated no longer; a standby keeps them as they are"
        );
    }
    Ok(tree.store_mut().put(Table::Facts, FILTER_FACT.to_vec(), digest).map_err(TreeError::from)?)
}

/// A walk that has all of the home before it, with watches of its own.
pub(super) fn begin_walk<S: ReadStore>(
    options: &KeeperOptions,
    shared: &Shared,
    tree: &Tree<S>,
) -> Result<Walker, KeeperError> {
    let root = Root::open(&options.home)?;
    let doubted = doubted_since(tree, &root)?;
    let watcher = Watcher::open(&options.home, options.watch)?;
    *shared.mailbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(watcher.mailbox()));
    let mut walker = Walker::new(root, watcher, options.filter.clone(), DIRTY_CAP);
    walker.doubt_since(doubted);
    Ok(walker)
}

pub(super) fn secret_in<S: Store>(tree: &mut Tree<S>) -> Result<[u8; 32], KeeperError> {
    let store = tree.store_mut();
    let known = store.get(Table::Facts, SECRET_FACT).map_err(TreeError::from)?;
    if let Some(secret) = known.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|_| KeeperError::Random)?;
    store.put(Table::Facts, SECRET_FACT.to_vec(), secret.to_vec()).map_err(TreeError::from)?;
    Ok(secret)
}

fn gone(options: &KeeperOptions) -> FsError {
    match Root::open(&options.home) {
        Err(error) => error,
        Ok(_) => {
            FsError::WrongKind { path: options.home.display().to_string().into(), expected: "a directory that stays" }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the keeper owns the primary's clocks")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

/// Both clocks.
fn moment(begun: Instant) -> Moment {
    let before = begun.elapsed();
    let realtime = wall_clock();
    Moment { before, realtime, after: begun.elapsed() }
}

/// The wall-clock time.
#[expect(clippy::disallowed_methods, reason = "the keeper owns the primary's clocks")]
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
}
