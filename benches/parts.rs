//! The parts, each for itself, on one tree of small files: what a first copy and a generation are made of.
//!
//! The floor of each is what the kernel and the hash cost: `walk` lists and looks at everything and does nothing with it, `hash` reads
//! and hashes everything. The `x` column is how many times the walk a part takes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::ground::{Ground, Timed, small_files, timed};
use anyhow::{Context, Result, ensure};
use hotspare::capture::{Capturer, Cut, Moment, RoundOptions, cut};
use hotspare::fs::{Root, XattrPolicy};
use hotspare::index::Index;
use hotspare::reveal::{Records, Replica, ReplicaOptions};
use hotspare::spool::Spool;
use hotspare::thought::delta::read_full;
use hotspare::thought::filter::Filter;
use hotspare::thought::generation::{Header, Joint, NamedPaths, Operation, OperationsDigest, Quality};
use hotspare::thought::plan::Captures;
use hotspare::thought::store::Store;
use hotspare::thought::tree::{ApplyError, Arrived, Row, Tree, Witness};
use hotspare::walk::{DIRTY_CAP, Walker};
use hotspare::watch::{Options, Watcher};
use hotspare::words::entry::{Body, Digest, Timestamp, Xattrs};
use hotspare::words::path::RelPath;
use hotspare::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

const HOME: HomeId = HomeId([7; 16]);
const FILES: usize = 10_000;

pub(crate) fn measure(ground: &Ground) -> Result<()> {
    let name = "parts: 10 000 small files watched, captured as one generation, taken by a standby";
    if !ground.wants(name) {
        return Ok(());
    }
    ground.measure_parts(name, || {
        // New for each round: one that was watched before has a directory for barriers already, and its root does not change any more.
        let source = ground.fresh("source")?;
        small_files(&source, FILES)?;
        round(ground, &source)
    })
}

fn round(ground: &Ground, source: &Path) -> Result<Vec<Timed>> {
    let root = Root::open(source)?;
    let mut parts = Vec::new();
    let mut paths = Vec::new();
    parts.push(("walk", timed(|| walk(&root, &mut paths))?));
    parts.push(("hash", timed(|| hash(&root, &paths))?));

    let state = ground.fresh("state")?;
    let mut tree = Tree::open(Index::open(&state.join("primary.redb"))?.into_index(), root_row(&root)?)?;
    let watcher = Watcher::open(source, Options::default())?;
    let mut walker = Walker::new(root, watcher, Filter::everything(), DIRTY_CAP);
    let scanned = timed(|| {
        while !walker.scan(&tree, 20_000, now())? {}
        Ok(())
    });
    parts.push(("scan: watch, list, compare", scanned?));
    let mut capturer = Capturer::new(Spool::create(&state)?, [3; 32], XattrPolicy::default(), true);
    let mut made = None;
    parts.push((
        "cut: capture, encode, prove, plan",
        timed(|| {
            let whole = BTreeSet::new();
            made = Some(cut(&mut walker, &tree, &mut capturer, &whole, RoundOptions::default(), &moment)?);
            Ok(())
        })?,
    ));
    let made = made.context("there is no cut")?;
    ensure!(made.captures.len() >= FILES, "the cut has {} paths", made.captures.len());
    let (spool, _) = capturer.finish();
    let operations: Vec<Operation> = made.steps.iter().map(|step| step.operation.clone()).collect();
    let applied = timed(|| {
        tree.apply(&operations, &mut Known(&made.captures))?;
        tree.digest()?;
        Ok(())
    });
    parts.push(("tree: apply, digest", applied?));
    parts.push(("index: commit", timed(|| Ok(tree.store_mut().commit()?))?));
    standby(ground, &mut tree, &made, &spool, &mut parts)?;
    Ok(parts)
}

/// All there is below the root.
fn walk(root: &Root, paths: &mut Vec<RelPath>) -> Result<()> {
    let mut below = vec![RelPath::root()];
    while let Some(directory) = below.pop() {
        for (name, _) in root.list(&directory)? {
            let path = directory.join(&name);
            if path.is_reserved() {
                continue;
            }
            match root.stat(&path)? {
                Some(stat) if stat.is_directory() => below.push(path),
                Some(stat) if stat.is_file() => paths.push(path),
                _ => {}
            }
        }
    }
    Ok(())
}

fn hash(root: &Root, paths: &[RelPath]) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    for path in paths {
        let file = root.open_read(path)?;
        let count = file.read_at(&mut buffer, 0)?;
        std::hint::black_box(Digest::of(&buffer[..count]));
    }
    Ok(())
}

fn standby<S: Store>(
    ground: &Ground,
    tree: &mut Tree<S>,
    made: &Cut,
    spool: &Spool,
    parts: &mut Vec<Timed>,
) -> Result<()> {
    let options = ReplicaOptions {
        home: ground.fresh("replica")?,
        state: ground.fresh("standby")?,
        xattrs: XattrPolicy::default(),
        adopt: false,
        anew: false,
    };
    let records = Spool::create(&options.state)?;
    let (mut replica, _) = Replica::open(options, HOME)?;
    let mut records = Records::new(records);
    let mut digest = OperationsDigest::default();
    for step in &made.steps {
        let encoded = step.operation.encode();
        digest.update(&encoded);
        records.push(step.operation.action.section(), &encoded)?;
    }
    let header = Header {
        required_features: 0,
        optional_features: 0,
        cluster: ClusterId([1; 16]),
        home: HOME,
        reign: ReignId([2; 16]),
        position: Position { epoch: 1, generation: 1 },
        parent: Position::default(),
        parent_chain: ChainDigest::default(),
        joint: Joint::Next,
        tree_before: replica.standing().tree,
        tree_after: tree.digest()?,
        quality: Quality::Consistent,
        deferred: NamedPaths::default(),
        filter: Digest::default(),
        cut_time: made.cut_time,
        oldest_change: made.oldest_change,
        operations: made.steps.len() as u64,
        operations_digest: digest.finish(),
        extensions: Vec::new(),
    };
    let mut stager = replica.begin(&header)?;
    let reader = spool.reader();
    let mut buffer = vec![0; 64 * 1024];
    let staged = timed(|| {
        for step in &made.steps {
            replica.stage(&mut stager, step.operation.clone())?;
            let Some(spooled) = step.spooled else { continue };
            let length = usize::try_from(spooled.payload.length)?;
            read_full(&reader, &mut buffer[..length], spooled.offset)?;
            replica.stage_payload(&mut stager, &buffer[..length])?;
        }
        Ok(())
    });
    parts.push(("standby: stage", staged?));
    parts.push(("standby: commit (tree, journal, sync)", timed(|| Ok(replica.commit(&header, &records, stager)?))?));
    let revealed = timed(|| {
        while replica.reveal()?.is_some() {}
        Ok(())
    });
    parts.push(("standby: reveal", revealed?));
    parts.push(("standby: tidy (sync, index)", timed(|| Ok(replica.tidy()?))?));
    Ok(())
}

/// Knows the inode of what was captured.
struct Known<'a>(&'a Captures);

impl Witness for Known<'_> {
    fn step(&mut self, operation: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        let found = self.0.get(operation.action.path()).and_then(Option::as_ref);
        Ok(found.map(|present| Arrived { inode: present.inode, memory: present.memory.clone() }))
    }
}

fn root_row(root: &Root) -> Result<Row> {
    let stat = root.stat(&RelPath::root())?.context("the source has gone")?;
    Ok(Row::new(stat.entry(Body::Directory, Xattrs::default(), None), stat.inode))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
}

/// Both clocks.
fn moment() -> Moment {
    let monotonic = || Instant::now().duration_since(begun());
    let before = monotonic();
    let realtime = now();
    Moment { before, realtime, after: monotonic() }
}

/// The monotonic clock's zero.
fn begun() -> Instant {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BEGUN.get_or_init(Instant::now)
}
