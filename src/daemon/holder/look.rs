//! Looking at the replica's disk, for `verify`, `resync` and the scrub, away from the holder's thread: reading a large replica takes minutes, and
//! acks do not wait for it.
//!
//! **The rule.** What is told is told of one whole generation (G1), whatever is revealed meanwhile:
//!
//! 1. A round begins with a [`Still`]: the index as of a moment at which the disk was what it says, all of it revealed.
//! 2. The disk is read and compared with that, while generations come and are revealed. What differs then is a suspicion and no more: a reveal
//!    may have been there first, or half way.
//! 3. The next round begins with a newer still, and looks again at what differed, and at all that the newer one says otherwise than the one before:
//!    what was revealed meanwhile, whether or not the reading met it. Of every other entry the newer still says what it was found to be.
//! 4. A round has only to look at what changed during the one before. Once that is little ([`LITTLE_PATHS`], [`LITTLE_BYTES`]), or after
//!    [`ROUNDS`], the replica is held still (see `hold`) for a last round: what differs in that one differs.
//!
//! So the answer is of the generation of the last still: each entry was found as that has it, after the last reveal that touched it. A directory
//! that could not be entered, since it was being moved say, is looked at again with everything below it; anything else by itself, and with it all
//! other names of its inode, without which hard links cannot be judged.
//!
//! What is taken in to be mended is read by the holder, once more and by itself ([`Work::mend`](super::work::Work)).
//!
//! **Bounds:** one look at a time, the others wait; [`SUSPECTS`] paths are remembered from one round to the next, and where there are more, the
//! next round looks at everything again. As long as a round lasts, the index keeps the pages that its still shows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use super::{Holder, Job, Still};
use crate::audit::{self, AuditOptions, Progress, What};
use crate::fs::Root;
use crate::index::Snapshot;
use crate::reveal::{Depth, Scope, Standing, is_stray};
use crate::thought::compare::{CompareError, Difference, Far, FarChild, differences};
use crate::thought::tree::{Tree, TreeError};
use crate::thought::wire::message::{AUDIT_CAP, Audit, Audited, Differing, UnheldCounts};
use crate::words::path::RelPath;

/// So many rounds are made while generations are revealed, at most.
const ROUNDS: u32 = 8;
/// The replica is held for what is so many paths at most,
const LITTLE_PATHS: usize = 1000;
/// and so many bytes to be read.
const LITTLE_BYTES: u64 = 64 << 20;
/// So many paths are remembered between two rounds.
const SUSPECTS: usize = 100_000;
/// The last round holds the replica no longer.
const HELD_AT_MOST: Duration = Duration::from_secs(3600);

/// What is to be looked at, and how.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where.
    pub scope: Scope,
    /// Content is read and hashed; otherwise size and time must do.
    pub content: bool,
    /// What differs is taken into the tree.
    pub mend: bool,
}

impl From<Audit> for Look {
    fn from(Audit { paths, content, mend }: Audit) -> Self {
        let scope = match paths.is_empty() {
            true => Scope::everything(),
            false => Scope { below: paths, ..Scope::default() },
        };
        Self { scope, content, mend }
    }
}

/// What looks share.
#[derive(Default)]
pub(super) struct Looks {
    /// One at a time.
    one: Mutex<()>,
    /// How often a replica was closed: what looks at it must let go of its index.
    closed: AtomicU64,
}

impl Looks {
    pub(super) fn close(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Ends the reading when whoever asked has gone.
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What one round saw.
struct Seen {
    audited: audit::Audited,
    differences: Vec<Differing>,
    /// What differed; `None` if that was too much to be remembered.
    suspects: Option<Scope>,
}

impl Holder {
    /// Compares the disk with the index, and has mended what differs if that is asked for; `None` if there is no replica. `progress` is told before
    /// every entry.
    pub async fn inspect(&self, look: Look, progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Option<Audited> {
        let _one = self.looks.one.lock().await;
        let asked = Asked(Arc::default());
        let eye = Eye {
            look: look.clone(),
            progress,
            gone: Arc::clone(&asked.0),
            closed: self.looks.closed.load(Ordering::SeqCst),
            looks: Arc::clone(&self.looks),
        };
        match self.rounds(eye).await? {
            Ok((told, suspects)) if look.mend && told.differing > 0 => {
                let scope = suspects.unwrap_or(look.scope);
                let depth = if look.content { Depth::Content } else { Depth::Stat };
                let mended = self.ask(|reply| Job::Mend(scope, depth, reply)).await?;
                Some(Audited { entries: told.entries, unheld: told.unheld, ..mended })
            }
            Ok((told, _)) => Some(told),
            Err(told) => Some(told),
        }
    }

    /// What is said in the end, and where it differs; or why that cannot be said.
    async fn rounds(&self, eye: Eye) -> Option<Result<(Audited, Option<Scope>), Audited>> {
        let mut still = match self.ask(Job::Still).await? {
            Ok(still) => still,
            Err(told) => return Some(Err(told)),
        };
        let mut scope = eye.look.scope.clone();
        let mut first: Option<audit::Audited> = None;
        for round in 1.. {
            let seen = match eye.see(&still, &scope, round == 1).await {
                Ok(seen) => seen,
                Err(why) => return Some(Err(failed(still.standing, &why))),
            };
            let counted = *first.get_or_insert(seen.audited);
            let newer = match self.ask(Job::Still).await? {
                Ok(newer) => newer,
                Err(told) => return Some(Err(told)),
            };
            let again = match eye.again(seen.suspects.as_ref(), &still, &newer).await {
                Ok(again) => again,
                Err(why) => return Some(Err(failed(still.standing, &why))),
            };
            if again.scope.is_empty() {
                return Some(Ok((told(&newer, counted, 0, Vec::new()), None)));
            }
            if !again.is_little && round < ROUNDS {
                (still, scope) = (newer, again.scope);
                continue;
            }
            let last = self.last_round(&eye, &seen, &still).await?;
            return Some(last.map(|(newer, last)| {
                (told(&newer, counted, last.audited.differing, last.differences), last.suspects)
            }));
        }
        None
    }

    /// The round in which the replica is held.
    async fn last_round(&self, eye: &Eye, seen: &Seen, still: &Still) -> Option<Result<(Still, Seen), Audited>> {
        let (keeper, kept) = oneshot::channel();
        let not_held = |why: &str| Some(Err(failed(still.standing, &format!("it cannot be held still: {why}"))));
        let _held = match self.hold(HELD_AT_MOST, kept).await {
            Ok(held) => held,
            Err(why) => return not_held(why),
        };
        let newer = match self.ask(Job::Still).await? {
            Ok(newer) => newer,
            Err(told) => return Some(Err(told)),
        };
        let looked = async {
            let again = eye.again(seen.suspects.as_ref(), still, &newer).await?;
            eye.see(&newer, &again.scope, false).await
        };
        let looked = looked.await;
        let held = self.held();
        drop(keeper);
        // It is let go at the next job.
        self.give(Job::LetGo).await;
        if held.is_none() {
            return not_held("it was let go meanwhile");
        }
        Some(match looked {
            Ok(seen) => Ok((newer, seen)),
            Err(why) => Err(failed(still.standing, &why)),
        })
    }
}

/// What is to be looked at again.
struct Again {
    scope: Scope,
    is_little: bool,
}

/// How it is looked.
#[derive(Clone)]
struct Eye {
    look: Look,
    progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// Nobody waits for the answer any more.
    gone: Arc<AtomicBool>,
    looks: Arc<Looks>,
    /// Of which replica.
    closed: u64,
}

impl Eye {
    async fn see(&self, still: &Still, scope: &Scope, is_first: bool) -> Result<Seen, String> {
        let (eye, still, scope) = (self.clone(), still.clone(), scope.clone());
        let seeing = tokio::task::spawn_blocking(move || eye.seeing(&still, &scope, is_first));
        seeing.await.map_err(|_| "the look at it ended badly".to_owned())?
    }

    async fn again(&self, suspects: Option<&Scope>, old: &Still, new: &Still) -> Result<Again, String> {
        let (eye, suspects, old, new) = (self.clone(), suspects.cloned(), old.clone(), new.clone());
        let comparing = tokio::task::spawn_blocking(move || eye.comparing(suspects, &old, &new));
        comparing.await.map_err(|_| "the look at it ended badly".to_owned())?
    }

    fn is_wanted(&self) -> bool {
        !self.gone.load(Ordering::SeqCst) && self.looks.closed.load(Ordering::SeqCst) == self.closed
    }

    fn seeing(&self, still: &Still, scope: &Scope, is_first: bool) -> Result<Seen, String> {
        let explained = |error: &dyn std::error::Error| crate::daemon::explain(error);
        let root = Root::open(&still.home).map_err(|error| explained(&error))?;
        let tree = view(still)?;
        let alone = match is_first {
            true => scope.alone.clone(),
            false => with_other_names(&root, &tree, &scope.alone).map_err(|error| explained(&error))?,
        };
        let mut watching = |at: Progress| {
            (self.progress)(at);
            if self.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let options = AuditOptions {
            able: still.able.clone(),
            content: self.look.content,
            coarse_times: self.look.mend,
            alone: alone.into_iter().collect(),
            progress: Some(&mut watching),
            ..AuditOptions::default()
        };
        let mut seen =
            Seen { audited: audit::Audited::default(), differences: Vec::new(), suspects: Some(Scope::default()) };
        let mut passed_over = 0;
        let audited = audit::audit(&root, &tree, &still.filter, &still.xattrs, &scope.below, options, &mut |found| {
            // What was looked at again, and is neither here nor there by now, was not asked for.
            let is_nowhere = found.what == What::Missing
                && found.here == found.there
                && !self.look.scope.below.contains(&found.path);
            if is_nowhere || (self.look.mend && !is_stray(&found)) {
                passed_over += 1;
                return;
            }
            suspect(&mut seen.suspects, &found);
            if seen.differences.len() < AUDIT_CAP {
                seen.differences.push(differing(found));
            }
        });
        seen.audited = audited.map_err(|error| explained(&error))?;
        seen.audited.differing -= passed_over;
        Ok(seen)
    }

    /// What differed, and what was revealed from `old` to `new`.
    fn comparing(&self, suspects: Option<Scope>, old: &Still, new: &Still) -> Result<Again, String> {
        let everything = || Again { scope: self.look.scope.clone(), is_little: false };
        let (before, after) = (view(old)?, view(new)?);
        let Some(mut scope) = suspects else { return Ok(everything()) };
        let failed = |error: TreeError| crate::daemon::explain(&error);
        // A directory that is none any more has nothing below it.
        for path in std::mem::take(&mut scope.below) {
            match after.directory(&path).map_err(failed)? {
                Some(_) => scope.below.push(path),
                None => {
                    scope.alone.insert(path);
                }
            }
        }
        let root = before.root().clone();
        let compared = differences(&after, (&root.entry, root.digest()), &mut Before(before), &mut |difference| {
            // What is there no longer was met as a difference, if it was met.
            if !matches!(difference, Difference::Extra { .. }) && self.covers(difference.path()) {
                scope.alone.insert(difference.path().clone());
            }
            if scope.alone.len() <= SUSPECTS { Ok(()) } else { Err(()) }
        });
        match compared {
            Ok(()) => {}
            Err(CompareError::Sink(())) => return Ok(everything()),
            Err(CompareError::Tree(error) | CompareError::Far { source: error, .. }) => return Err(failed(error)),
            Err(CompareError::Stale | CompareError::Twice(_)) => return Err("its index cannot be compared".into()),
        }
        let mut bytes = 0;
        if scope.alone.len() <= LITTLE_PATHS {
            for path in &scope.alone {
                bytes += after.row(path).map_err(failed)?.map_or(0, |row| row.entry.size());
            }
        }
        let is_little = scope.below.is_empty()
            && scope.alone.len() <= LITTLE_PATHS
            && (bytes <= LITTLE_BYTES || !self.look.content);
        Ok(Again { scope, is_little })
    }

    fn covers(&self, path: &RelPath) -> bool {
        let Scope { below, alone } = &self.look.scope;
        alone.contains(path) || below.iter().any(|top| path.is_within(top))
    }
}

/// The tree as it was, asked for directory by directory.
struct Before(Tree<Snapshot>);

impl Far for Before {
    type Error = TreeError;

    fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, TreeError> {
        let mut children = Vec::new();
        if let Some(id) = self.0.directory(path)? {
            self.0.for_children::<TreeError>(id, |name, row| {
                children.push(FarChild { name, digest: row.digest(), entry: row.entry });
                Ok(())
            })?;
        }
        Ok(children)
    }
}

fn view(still: &Still) -> Result<Tree<Snapshot>, String> {
    let tree = Tree::view(still.index.clone()).map_err(|error| crate::daemon::explain(&error))?;
    tree.ok_or_else(|| "it has no tree yet".to_owned())
}

fn suspect(suspects: &mut Option<Scope>, found: &audit::Difference) {
    let Some(scope) = suspects else { return };
    scope.note(found);
    if scope.paths() > SUSPECTS {
        *suspects = None;
    }
}

/// Whether names are linked as they should be is seen of all names of an inode together.
fn with_other_names(
    root: &Root,
    tree: &Tree<Snapshot>,
    paths: &BTreeSet<RelPath>,
) -> Result<BTreeSet<RelPath>, TreeError> {
    let mut all = paths.clone();
    for path in paths {
        let row = tree.row(path)?.filter(|row| row.entry.link.is_some());
        let stat = root.stat(path).ok().flatten().filter(|stat| stat.inode.nlink > 1 && !stat.is_directory());
        for id in row.map(|row| row.inode.id).into_iter().chain(stat.map(|stat| stat.inode.id)) {
            all.extend(tree.names_of(id, SUSPECTS)?);
        }
    }
    Ok(all)
}

fn told(still: &Still, counted: audit::Audited, differing: u64, differences: Vec<Differing>) -> Audited {
    let (entries, unheld) = (counted.entries, counted.unheld);
    Audited { entries, unheld, differing, differences, failed: None, ..failed(still.standing, "") }
}

/// An answer that says only where the replica stands, and why no more.
pub(super) fn failed(standing: Standing, why: &str) -> Audited {
    Audited {
        position: standing.position,
        tree: standing.tree,
        entries: 0,
        differing: 0,
        differences: Vec::new(),
        strayed: 0,
        unheld: UnheldCounts::default(),
        failed: Some(why.to_owned()),
    }
}

pub(super) fn differing(difference: audit::Difference) -> Differing {
    let audit::Difference { path, kind, what, here, there } = difference;
    Differing { path, kind, what: what.word().to_owned(), tree: there, disk: here }
}
