//! Gathering: what is due is captured, parents first, and what planning asks for beyond.

use std::collections::{BTreeMap, BTreeSet};

use super::round::{CutError, Round, hear};
use super::{Captured, How};
use crate::fs::Look as _;
use crate::thought::generation::Action;
use crate::thought::plan::{Planned, Step, plan};
use crate::thought::store::Store;
use crate::watch::Watch;
use crate::words::path::RelPath;

/// How often planning may ask for more before it is done with what is there.
const PLANS: u32 = 64;

/// What an attempt at a plan came to.
pub(super) enum Attempt {
    /// The plan.
    Steps(Vec<Step>),
    /// These paths must be captured first, those in [`Round::whole`] whole.
    Wants(BTreeSet<RelPath>),
}

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// Captures `due`, and what planning asks for beyond; plans.
    pub(super) fn capture_all(&mut self, mut due: BTreeSet<RelPath>) -> Result<Vec<Step>, CutError> {
        for _ in 0..PLANS {
            self.capture(&due)?;
            match self.attempt()? {
                Attempt::Steps(steps) => return Ok(steps),
                Attempt::Wants(wanted) => due = wanted,
            }
        }
        Ok(self.give_up())
    }

    /// Plans what was captured, if that is all that a plan needs.
    pub(super) fn attempt(&mut self) -> Result<Attempt, CutError> {
        for _ in 0..PLANS {
            let mut beyond = self.separated_names()?;
            beyond.extend(self.places_left()?);
            let wanted = self.untried(beyond);
            if !wanted.is_empty() {
                return Ok(Attempt::Wants(wanted));
            }
            self.drop_orphans()?;
            let wanted = match plan(self.tree, &self.captures)? {
                Planned::Steps(steps) => {
                    let mut beyond = self.unlisted(&steps);
                    beyond.extend(self.separated_below(&steps)?);
                    let wanted = self.untried(beyond);
                    return Ok(if wanted.is_empty() { Attempt::Steps(steps) } else { Attempt::Wants(wanted) });
                }
                Planned::Incomplete(wanted) => wanted,
            };
            let mut due: BTreeSet<RelPath> =
                wanted.iter().filter(|path| !self.tried.contains(*path)).cloned().collect();
            if due.is_empty() {
                due = wanted.iter().filter(|path| !self.tried_whole.contains(*path)).cloned().collect();
                self.whole.extend(due.iter().cloned());
            }
            if !due.is_empty() {
                return Ok(Attempt::Wants(due));
            }
            // Asked for again what was just captured: it is not there to be had in this state.
            self.miss(wanted);
        }
        Ok(Attempt::Steps(self.give_up()))
    }

    fn untried(&self, mut paths: BTreeSet<RelPath>) -> BTreeSet<RelPath> {
        paths.retain(|path| !self.tried.contains(path) && !self.captures.contains_key(path));
        paths
    }

    /// It asks without end: what it needs does not stand still. Nothing is shipped, all is tried again.
    fn give_up(&mut self) -> Vec<Step> {
        self.miss(self.captures.keys().cloned().collect());
        Vec::new()
    }

    pub(super) fn miss(&mut self, paths: BTreeSet<RelPath>) {
        for path in paths {
            if let Some(Some(present)) = self.captures.remove(&path) {
                self.severed.extend(present.entry.link.map(|_| present.inode.id));
            }
            self.missed.insert(path);
        }
    }

    pub(super) fn capture(&mut self, paths: &BTreeSet<RelPath>) -> Result<(), CutError> {
        // Identities depend on what was found at all the directories above, so each pass goes through all that was captured, in order.
        self.capturer.begin();
        let _pass = self.walker.root().pass();
        let all: BTreeSet<RelPath> = self.captures.keys().chain(paths).cloned().collect();
        for path in all {
            if !paths.contains(&path) {
                self.replay(&path)?;
                continue;
            }
            let how = self.how(&path);
            self.tried.insert(path.clone());
            if how == How::Whole {
                self.tried_whole.insert(path.clone());
            }
            if let Some(at) = self.walker.dirty_mut().remove(&path) {
                hear(&mut self.heard, path.clone(), at);
            }
            let captured = self
                .capturer
                .capture(self.walker.root(), self.walker.filter(), self.tree, &path, how)
                .map_err(|source| CutError::Capture { path: path.clone(), source })?;
            match captured {
                Captured::Absent(special) => {
                    self.later.remove(&path);
                    self.walker.findings_mut().forget(&path);
                    if let Some(special) = special {
                        self.walker.findings_mut().skip(&path, special);
                    }
                    self.captures.insert(path, None);
                }
                Captured::Present(present) => {
                    match self.capturer.begun.remove(&path) {
                        true => self.later.insert(path.clone()),
                        false => self.later.remove(&path),
                    };
                    self.walker.findings_mut().captured(&path, present.entry.is_directory());
                    self.captures.insert(path, Some(present));
                }
                Captured::Unreadable(error) => {
                    self.walker.findings_mut().unreadable.note(&path, error.reason());
                    self.captures.remove(&path);
                }
                Captured::Left => {
                    self.walker.leave_written(&path);
                    self.captures.remove(&path);
                    self.later.insert(path);
                }
                Captured::Unsteady => {
                    self.captures.remove(&path);
                    self.missed.insert(path);
                }
            }
        }
        Ok(())
    }

    /// How `path` is captured. Of a file with several names any may have been written.
    fn how(&self, path: &RelPath) -> How {
        if self.whole.contains(path) {
            How::Whole
        } else if let Some(is_left) = self.walker.was_written(path) {
            if is_left { How::Recalled } else { How::Read }
        } else if self.walker.was_any_written() {
            How::BelievedUnlessLinked
        } else {
            How::Believed
        }
    }

    /// Lets the capturer know what an earlier pass found at `path`.
    fn replay(&mut self, path: &RelPath) -> Result<(), CutError> {
        match self.captures.get(path) {
            Some(Some(present)) => {
                if present.entry.link.is_some() {
                    self.capturer.linked.insert(present.inode.id, present.as_ref().clone());
                }
                self.capturer.identities.present_again(self.tree, path, present.entry.kind(), &present.inode)?;
            }
            _ => self.capturer.identities.absent(self.tree, path)?,
        }
        Ok(())
    }

    /// Leaves out what has no directory to be in: that one changed, or could not be captured.
    pub(super) fn drop_orphans(&mut self) -> Result<(), CutError> {
        let mut in_tree: BTreeMap<RelPath, bool> = BTreeMap::new();
        let mut orphans = BTreeSet::new();
        for path in self.captures.iter().filter(|(_, found)| found.is_some()).map(|(path, _)| path) {
            let Some(parent) = path.parent() else { continue };
            let has_parent = match self.captures.get(&parent) {
                Some(found) => {
                    found.as_ref().is_some_and(|found| found.entry.is_directory()) && !orphans.contains(&parent)
                }
                None => match in_tree.get(&parent) {
                    Some(&known) => known,
                    None => {
                        let old = self.capturer.identities.old_slot(&parent);
                        let row = old.map(|old| self.tree.row(&old)).transpose()?.flatten();
                        let known = row.is_some_and(|row| row.entry.is_directory());
                        in_tree.insert(parent, known);
                        known
                    }
                },
            };
            if !has_parent {
                orphans.insert(path.clone());
            }
        }
        self.miss(orphans);
        Ok(())
    }

    /// What is in directories new to the tree and was not captured. The walker's scan has told of it already, unless the directory came
    /// to be new by a cut that was not proven. Each is listed once a cut: what appears in it later has an event, and listing it again and
    /// again would follow a writer that makes files faster than they are captured.
    fn unlisted(&mut self, steps: &[Step]) -> BTreeSet<RelPath> {
        let mut unlisted = BTreeSet::new();
        for step in steps {
            let Action::Create { path, entry, .. } = &step.operation.action else { continue };
            let Some(Some(present)) = self.captures.get(path) else { continue };
            // What its scan has not come to is told by that.
            if !entry.is_directory()
                || self.walker.awaits_scan(path)
                || !self.listed.insert((path.clone(), present.inode.id))
            {
                continue;
            }
            for (name, _) in self.walker.root().list(path).unwrap_or_default() {
                let child = path.join(&name);
                if !self.walker.dirty().contains(&child) {
                    unlisted.insert(child);
                }
            }
        }
        unlisted
    }
}
