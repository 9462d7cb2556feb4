//! Large contents, which go to the standbys ahead of the generation that takes them, so that small things never wait behind them.
//!
//! A cut that meets a large file with new content leaves it for later and names it among what it deferred. It is then read beside the cuts
//! ([`Larges::next_to_read`], [`read`]), sent to every standby at the live edge ([`Larges::next_for`]), and once all of them hold it a cut takes it by
//! its digest alone ([`Larges::settle`]).
//!
//! One of which the standbys have an older version is read beside the cuts as well ([`Way`]). If it is the same file and few of its blocks are others
//! now, a cut takes these; else it is sent ahead, as a delta to the older version.
//!
//! **Invariant:** what a cut takes from here was read after the file's change time, and the file has the size and times it had then.
//!
//! **Not here:** files with several names, and appends.
//!
//! **Bounds:** [`FILES`] files are known, [`READ_AHEAD`] of them read; what a read one takes is its signature, a few megabytes at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::doubted::Doubted;
use crate::fs::Stat;
use crate::thought::delta::signature::Signature;
use crate::thought::plan::{Captures, Present};
use crate::thought::tree::FileMemory;
use crate::words::entry::{Digest, Inode, InodeId, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::NodeName;

/// Where nothing else is asked for, a file is large from here on: less than that takes no longer than a batch lasts.
pub const LARGE_FROM_BYTES: u64 = 8 << 20;
/// So many files are known at a time; what is beyond comes when one of them is done.
const FILES: usize = 1024;
/// So many of them may be read and not yet taken.
const READ_AHEAD: usize = 4;
/// A file that changed so often since it was found is not waited for.
const CHANGES: u32 = 20;
/// Before a file is read it must have been left alone for so long: it may be on its way in.
const STEADY: Duration = Duration::from_millis(500);
/// When one standby holds a content the others have so long to follow; and when the last has gone it has so long to come again, and to go on with what
/// it was being sent.
const GRACE: Duration = Duration::from_secs(30);

/// What reading a large file yields.
#[derive(Clone, Debug)]
pub struct Read {
    /// Its content.
    pub(super) digest: Digest,
    /// What to remember of it.
    pub(super) memory: Option<Box<FileMemory>>,
    /// What deltas of it are made against.
    pub(super) signature: Option<Signature>,
}

/// How a large file goes to the standbys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// As the blocks that are others than before, in the generation that takes it.
    Edit,
    /// Ahead of the generation that takes it; as a delta to this content, so long, if there is one in its place.
    Ahead(Option<(Digest, u64)>),
}

/// What a cut is to do with a large file.
#[derive(Debug)]
pub(super) enum Answer {
    /// Take it by its digest: the standbys hold it.
    Take(Arc<Read>),
    /// Take the blocks that are others than before.
    Edit(Arc<Read>),
    /// Leave it for a later cut.
    Leave,
    /// Take its beginning, and the rest little by little: it grows, and has not come to rest.
    Begin,
    /// Take it as it is.
    Capture,
}

/// A large content that a standby lacks.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where it is.
    pub path: RelPath,
    /// What it is.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The mode of its file.
    pub mode: u16,
    /// The modification time of its file.
    pub mtime: Timestamp,
    /// What the standby has in its place, and how long that is.
    pub base: Option<(Digest, u64)>,
}

/// A file that is to be read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Where it is.
    pub path: RelPath,
    pub(super) seen: Seen,
    pub(super) way: Way,
}

/// What tells that a file is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    inode: Inode,
    pub(super) size: u64,
    mtime: Timestamp,
    mode: u16,
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self { inode: stat.inode, size: stat.size, mtime: stat.mtime, mode: stat.mode }
    }

    pub(super) fn of_present(present: &Present) -> Self {
        let entry = &present.entry;
        Self { inode: present.inode, size: entry.size(), mtime: entry.mtime, mode: entry.mode }
    }
}

#[derive(Debug)]
enum State {
    /// Since when it is known to have been left alone.
    Found(Option<Instant>),
    Read(Arc<Read>),
    Ready(Arc<Read>),
    /// It cannot be read: the cut that takes it says so.
    Unreadable,
}

#[derive(Debug)]
struct Large {
    path: RelPath,
    seen: Seen,
    way: Way,
    state: State,
    changes: u32,
    only_grew: bool,
    held_by: BTreeSet<NodeName>,
    first_held: Option<Instant>,
}

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<InodeId, Large>,
    standbys: BTreeMap<NodeName, usize>,
    /// Since when there is no standby, as far as anybody looked.
    alone_since: Option<Instant>,
    /// None is waited for any more.
    is_alone: bool,
    /// One turned out to be another by now, or cannot be read: a cut is due, whether or not an event told of it.
    is_stale: bool,
    is_ending: bool,
    doubted: Doubted,
}

/// The large files of one home.
#[derive(Debug)]
pub struct Larges {
    from_bytes: u64,
    known: Mutex<Known>,
    changed: Condvar,
}

impl Larges {
    /// Files from `from_bytes` on are large.
    pub fn new(from_bytes: u64) -> Self {
        Self { from_bytes: from_bytes.max(1), known: Mutex::default(), changed: Condvar::new() }
    }

    /// From how many bytes on a file is large.
    pub fn from_bytes(&self) -> u64 {
        self.from_bytes
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do with a file of which is already known that it is large and new; `None` if that is not known, or it changed since.
    pub(super) fn recall(&self, stat: &Stat) -> Option<Answer> {
        let known = self.known();
        let large = known.files.get(&stat.inode.id).filter(|large| large.seen == Seen::of(stat))?;
        if known.is_alone {
            return Some(Answer::Capture);
        }
        Some(match &large.state {
            State::Found(_) if known.standbys.is_empty() => Answer::Capture,
            State::Ready(read) => match large.way {
                Way::Edit => Answer::Edit(Arc::clone(read)),
                Way::Ahead(_) => Answer::Take(Arc::clone(read)),
            },
            State::Unreadable => Answer::Capture,
            State::Found(_) | State::Read(_) => Answer::Leave,
        })
    }

    /// What to do with a large file with another content than is known, which is to go that `way`.
    pub(super) fn ask(&self, path: &RelPath, stat: &Stat, way: Way) -> Answer {
        let seen = Seen::of(stat);
        let mut known = self.known();
        if known.standbys.is_empty() || stat.inode.nlink > 1 {
            known.files.remove(&stat.inode.id);
            return Answer::Capture;
        }
        let is_full = known.files.len() >= FILES;
        match known.files.get_mut(&stat.inode.id).filter(|large| large.seen.inode.is_same(&seen.inode)) {
            // It is asked again with every round of the cut; what the cut does not leave is forgotten after it.
            Some(large) if large.changes >= CHANGES => {
                return if large.only_grew { Answer::Begin } else { Answer::Capture };
            }
            Some(large) => {
                large.only_grew &= seen.size > large.seen.size;
                large.changes += 1;
                (large.path, large.seen, large.way, large.state) = (path.clone(), seen, way, State::Found(None));
                (large.held_by, large.first_held) = (BTreeSet::new(), None);
            }
            None if is_full => return Answer::Leave,
            None => {
                let large = Large {
                    path: path.clone(),
                    seen,
                    way,
                    state: State::Found(None),
                    changes: 0,
                    only_grew: true,
                    held_by: BTreeSet::new(),
                    first_held: None,
                };
                known.files.insert(stat.inode.id, large);
            }
        }
        self.changed.notify_all();
        Answer::Leave
    }

    /// The blocks of a file that was read are no way to tell its change: it goes ahead, as a delta to `base`.
    pub(super) fn send_ahead(&self, stat: &Stat, base: (Digest, u64)) -> Answer {
        let mut known = self.known();
        let Some(large) = known.files.get_mut(&stat.inode.id).filter(|large| large.seen == Seen::of(stat)) else {
            return Answer::Capture;
        };
        large.way = Way::Ahead(Some(base));
        if let State::Ready(read) = &large.state {
            large.state = State::Read(Arc::clone(read));
        }
        Answer::Leave
    }

    /// Forgets all but those that the last cut left for later.
    pub fn keep(&self, left: &BTreeSet<RelPath>) {
        self.known().files.retain(|_, large| left.contains(&large.path));
    }

    /// Takes note of what a cut captured: files of which not all was read are read whole when they have come to rest.
    pub fn doubt(&self, captures: &Captures, now: Instant) {
        self.known().doubted.note(captures, now);
    }

    /// Files whose content turned out to be another than a cut took it for: they are to be captured whole.
    pub fn take_wrong(&self) -> BTreeSet<RelPath> {
        self.known().doubted.take_wrong()
    }

    /// True if nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.known().files.is_empty()
    }

    /// A standby is at the live edge, for as long as the answer lives.
    pub fn join(self: &Arc<Self>, standby: NodeName) -> Joined {
        let mut known = self.known();
        *known.standbys.entry(standby.clone()).or_default() += 1;
        (known.alone_since, known.is_alone) = (None, false);
        drop(known);
        Joined { larges: Arc::clone(self), standby }
    }

    /// Looks what may be taken by now; true if a cut is due for that.
    pub fn settle(&self, now: Instant) -> bool {
        let mut known = self.known();
        let Known { files, standbys, is_stale, alone_since, is_alone, .. } = &mut *known;
        match standbys.is_empty() {
            true => *is_alone = now.saturating_duration_since(*alone_since.get_or_insert(now)) >= GRACE,
            false => (*alone_since, *is_alone) = (None, false),
        }
        let is_unsent = |large: &Large| matches!(large.state, State::Found(_));
        let mut is_due = std::mem::take(is_stale)
            || (*is_alone && !files.is_empty())
            || (standbys.is_empty() && files.values().any(is_unsent));
        for large in files.values_mut() {
            let State::Read(read) = &large.state else { continue };
            let is_late = large.first_held.is_some_and(|at| now.saturating_duration_since(at) >= GRACE);
            if is_late
                || large.way == Way::Edit
                || (!standbys.is_empty() && standbys.keys().all(|standby| large.held_by.contains(standby)))
            {
                large.state = State::Ready(Arc::clone(read));
                is_due = true;
            }
        }
        is_due
    }

    /// The next file to read; waits for one, `None` when all is to end.
    pub fn next_to_read(&self, now: &dyn Fn() -> Instant) -> Option<Unread> {
        let mut known = self.known();
        while !known.is_ending {
            let (at, mut read, mut steady) = (now(), 0, None);
            for large in known.files.values_mut() {
                match &mut large.state {
                    State::Found(since) => {
                        if at.saturating_duration_since(*since.get_or_insert(at)) >= STEADY {
                            steady = Some(Unread { path: large.path.clone(), seen: large.seen, way: large.way });
                        }
                    }
                    State::Read(_) | State::Ready(_) => read += 1,
                    State::Unreadable => {}
                }
            }
            if let Some(unread) = steady.filter(|_| read < READ_AHEAD) {
                return Some(unread);
            }
            if let Some(unread) = known.doubted.due(at) {
                return Some(unread);
            }
            let waited = self.changed.wait_timeout(known, STEADY / 2);
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// A file was read, if it was still what it was when it was found: it is another by now for `Ok(None)`, and cannot be read for an error.
    pub fn was_read<E>(&self, unread: &Unread, read: Result<Option<Read>, E>) {
        let mut known = self.known();
        let Known { files, is_stale, doubted, .. } = &mut *known;
        doubted.was_read(unread, read.as_ref().ok().and_then(Option::as_ref).map(|read| read.digest));
        let id = unread.seen.inode.id;
        let Some(large) = files.get_mut(&id).filter(|large| large.seen == unread.seen) else { return };
        match read {
            Ok(Some(read)) => large.state = State::Read(Arc::new(read)),
            Ok(None) => {
                files.remove(&id);
                *is_stale = true;
            }
            Err(_) => {
                large.state = State::Unreadable;
                *is_stale = true;
            }
        }
    }

    /// A content that `standby` was not sent yet.
    pub fn next_for(&self, standby: &NodeName) -> Option<Offer> {
        let known = self.known();
        known.files.values().find_map(|large| {
            let (State::Read(read) | State::Ready(read), Way::Ahead(base)) = (&large.state, large.way) else {
                return None;
            };
            let Seen { size, mtime, mode, .. } = large.seen;
            let offer = || Offer { path: large.path.clone(), digest: read.digest, size, mode, mtime, base };
            (!large.held_by.contains(standby)).then(offer)
        })
    }

    /// `standby` holds a content now.
    pub fn is_held(&self, digest: Digest, standby: &NodeName, now: Instant) {
        for large in self.known().files.values_mut() {
            if let State::Read(read) | State::Ready(read) = &large.state
                && read.digest == digest
            {
                large.held_by.insert(standby.clone());
                large.first_held.get_or_insert(now);
            }
        }
    }

    /// A content is not there any more: the file has another.
    pub fn is_gone(&self, digest: Digest) {
        let is_that = |large: &Large| match &large.state {
            State::Read(read) | State::Ready(read) => read.digest == digest,
            State::Found(_) | State::Unreadable => false,
        };
        let mut known = self.known();
        known.files.retain(|_, large| !is_that(large));
        known.is_stale = true;
    }

    /// Has [`Larges::next_to_read`] say that there is nothing more.
    pub fn end(&self) {
        self.known().is_ending = true;
        self.changed.notify_all();
    }
}

impl Unread {
    /// True if it is one that may be written in place.
    pub(super) fn is_old(&self) -> bool {
        self.way == Way::Edit
    }

    /// True if the file is as it was found.
    pub(super) fn is_still(&self, stat: &Stat) -> bool {
        self.seen == Seen::of(stat)
    }
}

/// A standby at the live edge.
#[derive(Debug)]
pub struct Joined {
    larges: Arc<Larges>,
    standby: NodeName,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut known = self.larges.known();
        if let Some(links) = known.standbys.get_mut(&self.standby) {
            *links -= 1;
            if *links == 0 {
                known.standbys.remove(&self.standby);
            }
        }
        // What it held it may hold no longer when it comes again.
        for large in known.files.values_mut() {
            large.held_by.remove(&self.standby);
        }
    }
}
