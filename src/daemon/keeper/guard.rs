//! The guard (G7): captures become generations only while the home is the home; a part of it whose file system went is left alone.
//!
//! **A home that is not there** holds everything: nothing is listened to and nothing cut; the path is looked at until the right home is back. Then
//! the walk begins anew, with watches of its own, for what happened meanwhile nobody told.
//!
//! **What is mounted inside the home** is known by its identity, and remembered in the index across restarts. The mount table is read when the
//! kernel says that it changed, before and after every capture. What is not mounted any more, or has something else in its place, is suspended: the tree, and so every
//! standby, keeps what it had, and every generation says `unmounted` meanwhile. A generation that would remove or rename a directory above it holds
//! everything. What is newly mounted is simply scanned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::home::{Alarm, Home};
use super::work::{IDLE, Keeper, KeeperError, Payloads, begin_walk, instant, wall_clock};
use crate::capture::Cut;
use crate::fs::{Identity, MountTable};
use crate::spool::Spool;
use crate::thought::generation::{Action, Reason};
use crate::thought::store::{ReadStore, Store, Table};
use crate::thought::tree::{Tree, TreeError};
use crate::words::path::RelPath;

/// The fact that names what is mounted inside the home.
const MOUNTS_FACT: &[u8] = b"mounts";
/// So often a capture is made anew because something was unmounted meanwhile; then it is left for the next time.
const TRIES: u32 = 3;
/// How often the home is looked at when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the guard knows.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) home: Home,
    /// `None` where there is no mount table to be read.
    table: Option<MountTable>,
    mounted: BTreeMap<RelPath, Identity>,
    /// What is not mounted any more, and what is to be said of it.
    lost: BTreeMap<RelPath, String>,
    held: Option<Alarm>,
    pub(super) held_since: Instant,
    looked: Instant,
}

impl Guard {
    /// A guard of `home` that knows of the mounts that `tree` remembers.
    pub(super) fn new<S: ReadStore>(home: Home, tree: &Tree<S>) -> Result<Self, TreeError> {
        let known = tree.store().get(Table::Facts, MOUNTS_FACT)?;
        let mounted = known.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let table = home.path.canonicalize().and_then(|path| MountTable::open(&path));
        if let Err(error) = &table {
            tracing::warn!(%error, "the mount table cannot be read: what is unmounted inside the home will not be noticed");
        }
        Ok(Self {
            home,
            table: table.ok(),
            mounted,
            lost: BTreeMap::new(),
            held: None,
            held_since: instant(),
            looked: instant(),
        })
    }

    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// What is not mounted any more.
    pub(super) fn lost(&self) -> impl Iterator<Item = &RelPath> {
        self.lost.keys()
    }

    /// What a person must know.
    pub(super) fn alarms(&self) -> Vec<String> {
        let held = self.held.iter().map(|alarm| self.home.explain(alarm));
        held.chain(self.lost.values().cloned()).collect()
    }
}

impl Keeper {
    /// A capture that may become a generation; `None` if the home, or what is mounted in it, does not allow one now.
    pub(super) fn guarded_capture(
        &mut self,
        whole: &BTreeSet<RelPath>,
        payloads: Payloads,
    ) -> Result<Option<(Cut, Spool)>, KeeperError> {
        self.review_mounts(false)?;
        if !self.has_room() {
            self.hold(Alarm::NoRoom(self.options.state.clone()));
        }
        for _ in 0..TRIES {
            if self.guard.is_holding() {
                return Ok(None);
            }
            let whole = whole.iter().filter(|path| !self.walker.is_suspended(path)).cloned().collect();
            self.walker.forget_suspended();
            let captured = self.capture(&whole, payloads);
            if let Some(alarm) = self.guard.home.alarm(&self.tree) {
                self.hold(alarm);
                return Ok(None);
            }
            let (cut, spool) = captured?;
            self.review_mounts(false)?;
            if let Some(alarm) = self.above_lost(&cut) {
                self.put_back(&cut);
                self.hold(alarm);
            } else if cut.steps.iter().any(|step| self.touches_suspended(&step.operation.action)) {
                self.put_back(&cut);
            } else {
                return Ok(Some((cut, spool)));
            }
        }
        Ok(None)
    }

    /// Looks at the home although nothing happened in it: of what is done to its path nothing in it tells.
    pub(super) fn look_at_home(&mut self) -> Result<(), KeeperError> {
        if self.guard.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.guard.looked = instant();
        self.review_mounts(false)?;
        if let Some(alarm) = self.guard.home.alarm(&self.tree) {
            self.hold(alarm);
        }
        Ok(())
    }

    fn touches_suspended(&self, action: &Action) -> bool {
        self.walker.is_suspended(action.path()) || action.taken().is_some_and(|taken| self.walker.is_suspended(taken))
    }

    fn put_back(&mut self, cut: &Cut) {
        for path in cut.captures.keys() {
            self.walker.mark_written(path, cut.oldest_change);
        }
    }

    fn above_lost(&self, cut: &Cut) -> Option<Alarm> {
        let leaving = cut.steps.iter().filter_map(|step| match &step.operation.action {
            Action::Remove { path } | Action::Rename { from: path, .. } => Some(path),
            _ => None,
        });
        let above = |path: &RelPath| self.guard.lost.keys().find(|lost| lost.is_within(path)).cloned();
        leaving.filter_map(|path| Some(Alarm::AboveLost(path.clone(), above(path)?))).next()
    }

    /// Replicates nothing from now on, unless `alarm` is old news.
    pub(super) fn hold(&mut self, alarm: Alarm) {
        if self.guard.held.as_ref() != Some(&alarm) {
            tracing::error!("{}", self.guard.home.explain(&alarm));
            self.guard.held = Some(alarm);
            self.guard.held_since = instant();
        }
        self.report();
    }

    /// One step while everything is held: goes on when what was the matter is not any more.
    pub(super) fn wait_for_home(&mut self) -> Result<(), KeeperError> {
        self.walker.mailbox().drain(IDLE);
        let alarm = self.guard.home.alarm(&self.tree);
        match (alarm, self.guard.held.clone()) {
            (Some(alarm), _) => self.hold(alarm),
            (None, Some(Alarm::NoRoom(_))) if !self.has_room_again() => {}
            (None, Some(Alarm::Emptied)) if !self.guard.home.is_refilled(&self.tree)? => {}
            (None, Some(Alarm::AboveLost(directory, _))) if self.walker.root().stat(&directory)?.is_none() => {
                self.review_mounts(false)?;
            }
            (None, _) => self.go_on()?,
        }
        Ok(())
    }

    /// The home is the home again: everything is watched and compared anew.
    fn go_on(&mut self) -> Result<(), KeeperError> {
        if !self.reopen_index()? {
            self.hold(Alarm::NoRoom(self.options.state.clone()));
            return Ok(());
        }
        self.walker = begin_walk(&self.options, &self.shared, &self.tree)?;
        for lost in self.guard.lost() {
            self.walker.suspend(lost);
        }
        self.guard.held = None;
        tracing::info!(home = %self.guard.home.path.display(), "the home is the home again: replication goes on");
        self.review_mounts(true)?;
        self.report();
        Ok(())
    }

    /// Looks at what is mounted inside the home, if that changed; in any case if `at_once`.
    pub(super) fn review_mounts(&mut self, at_once: bool) -> Result<(), KeeperError> {
        let Some(table) = &self.guard.table else { return Ok(()) };
        if !table.has_changed() && !at_once {
            return Ok(());
        }
        let points: BTreeSet<RelPath> = match table.below() {
            Ok(points) => points.into_iter().filter(|point| self.is_replicated(point)).collect(),
            Err(error) => {
                tracing::warn!(%error, "the mount table cannot be read");
                return Ok(());
            }
        };
        let before = self.guard.mounted.clone();
        for point in &points {
            // One that went this moment changes the table once more.
            let Ok(found) = self.walker.root().identity(point) else { continue };
            match before.get(point) {
                None => self.mounted(point, found),
                Some(known) if !known.is_same(&found) => self.lose(point, "something else is mounted there"),
                Some(_) => self.regain(point),
            }
        }
        for point in before.keys().filter(|point| !points.contains(*point)) {
            self.lose(point, "it is not mounted any more");
        }
        self.keep_mounts(&before)
    }

    fn is_replicated(&self, point: &RelPath) -> bool {
        !point.is_reserved() && !self.walker.filter().leaves_out_within(point, true)
    }

    fn keep_mounts(&mut self, before: &BTreeMap<RelPath, Identity>) -> Result<(), KeeperError> {
        if self.guard.mounted != *before {
            let bytes = postcard::to_allocvec(&self.guard.mounted).unwrap_or_default();
            self.tree.store_mut().put(Table::Facts, MOUNTS_FACT.to_vec(), bytes).map_err(TreeError::from)?;
            self.commit()?;
        }
        Ok(())
    }

    fn mounted(&mut self, point: &RelPath, found: Identity) {
        let is_other_device = !found.shares_filesystem(self.guard.home.identity());
        tracing::info!(path = %point, is_other_device, "something is mounted inside the home: it is replicated, and watched over");
        self.guard.mounted.insert(point.clone(), found);
        self.walker.resume(point, wall_clock());
    }

    fn lose(&mut self, point: &RelPath, why: &str) {
        let text = format!(
            "{point} is left as it was, and what the standbys have of it stays: {why}; it goes on by itself when the file system that was there is \
             mounted again; if it is gone for good: `hotspare release`"
        );
        if self.guard.lost.get(point) != Some(&text) {
            tracing::error!("{text}");
            self.guard.lost.insert(point.clone(), text);
            self.standing_doubts.insert(Reason::Unmounted);
            self.walker.suspend(point);
            self.report();
        }
    }

    fn regain(&mut self, point: &RelPath) {
        if self.guard.lost.remove(point).is_some() {
            tracing::info!(path = %point, "the file system that was mounted there is back: replication goes on");
            self.take_up(point);
            self.report();
        }
    }

    fn take_up(&mut self, point: &RelPath) {
        if self.guard.lost.is_empty() {
            self.standing_doubts.remove(&Reason::Unmounted);
        }
        self.walker.resume(point, wall_clock());
    }

    /// Does what a person's word allows of what is held; what that was.
    pub(super) fn release(&mut self) -> Result<Vec<String>, KeeperError> {
        let mut released = Vec::new();
        let before = self.guard.mounted.clone();
        for point in std::mem::take(&mut self.guard.lost).into_keys() {
            released.push(format!("{point} is replicated as it is now"));
            self.guard.mounted.remove(&point);
            self.take_up(&point);
        }
        match &self.guard.held {
            Some(Alarm::Emptied) => {
                self.guard.home.allow_empty();
                released.push("the home may be empty".to_owned());
                self.go_on()?;
            }
            Some(Alarm::AboveLost(..)) => self.go_on()?,
            _ => {}
        }
        self.keep_mounts(&before)?;
        // What has another's place is what is mounted there now.
        self.review_mounts(true)?;
        self.report();
        Ok(released)
    }
}
