//! Whether a plan fits the tree. One made of a proven round does; one made of what was caught in motion (a directory seen at both its names,
//! or at none) may not, and must not reach a standby.

use std::collections::{BTreeMap, BTreeSet};

use super::round::{CutError, Round};
use crate::thought::generation::Action;
use crate::thought::plan::{Planned, Step, plan};
use crate::thought::store::Store;
use crate::thought::tree::{Row, Tree, TreeError};
use crate::watch::Watch;
use crate::words::entry::Entry;
use crate::words::path::RelPath;

/// How often what does not fit is left out before all is.
const ATTEMPTS: u32 = 16;

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// `steps`, or without what does not fit the tree.
    pub(super) fn fitting(&mut self, mut steps: Vec<Step>) -> Result<Vec<Step>, CutError> {
        for _ in 0..ATTEMPTS {
            let misfits = misfits(self.tree, &steps)?;
            if misfits.is_empty() {
                return Ok(steps);
            }
            for path in misfits {
                let below = self.below(&path);
                self.miss(below.into_iter().chain([path]).collect());
            }
            self.drop_orphans()?;
            steps = match plan(self.tree, &self.captures)? {
                Planned::Steps(steps) => steps,
                Planned::Incomplete(wanted) => {
                    // Whatever shares an inode with what is wanted is not to be had either.
                    let found = self.captures.iter().filter_map(|(path, found)| Some((path, found.as_ref()?)));
                    let linked = found.filter(|(_, present)| present.entry.link.is_some());
                    let linked: BTreeSet<RelPath> = linked.map(|(path, _)| path.clone()).collect();
                    self.miss(wanted.into_iter().chain(linked).collect());
                    continue;
                }
            };
        }
        if misfits(self.tree, &steps)?.is_empty() {
            return Ok(steps);
        }
        self.miss(self.captures.keys().cloned().collect());
        Ok(Vec::new())
    }
}

/// What arrives at a path.
enum Arrival<'a> {
    Made(&'a Entry),
    Moved(&'a RelPath),
}

/// What is at a path after all that leaves has left and all that arrives has arrived.
enum Found {
    Nothing,
    Made(Entry),
    Kept(Box<Row>),
}

struct Arrangement<'a, S> {
    tree: &'a Tree<S>,
    arrivals: BTreeMap<&'a RelPath, Arrival<'a>>,
    taken: BTreeSet<&'a RelPath>,
}

/// The paths at which `steps` do not fit `tree`.
fn misfits<S: Store>(tree: &Tree<S>, steps: &[Step]) -> Result<BTreeSet<RelPath>, TreeError> {
    let mut arrangement = Arrangement { tree, arrivals: BTreeMap::new(), taken: BTreeSet::new() };
    let mut misfits = BTreeSet::new();
    for action in steps.iter().map(|step| &step.operation.action) {
        if let Some(old) = action.taken()
            && (!arrangement.taken.insert(old) || tree.row(old)?.is_none())
        {
            misfits.insert(action.path().clone());
        }
        let arrival = match action {
            Action::Create { entry, .. } | Action::Link { entry, .. } => Arrival::Made(entry),
            Action::Rename { from, .. } => Arrival::Moved(from),
            Action::Remove { .. } | Action::Forget { .. } | Action::Edit { .. } | Action::Attributes { .. } => continue,
        };
        if arrangement.arrivals.insert(action.path(), arrival).is_some() {
            misfits.insert(action.path().clone());
        }
    }
    let edited: Vec<&Entry> = steps
        .iter()
        .filter(|step| matches!(step.operation.action, Action::Edit { .. }))
        .filter_map(|step| step.operation.action.entry())
        .collect();
    for action in steps.iter().map(|step| &step.operation.action) {
        if !arrangement.fits(action, &edited)? {
            misfits.insert(action.path().clone());
        }
    }
    Ok(misfits)
}

impl<S: Store> Arrangement<'_, S> {
    fn fits(&self, action: &Action, edited: &[&Entry]) -> Result<bool, TreeError> {
        let path = action.path();
        Ok(match action {
            Action::Remove { .. } | Action::Forget { .. } => true,
            Action::Create { .. } | Action::Rename { .. } => self.has_place_for(path)?,
            Action::Link { target, entry, .. } => {
                let same = |other: &Entry| other.same_content(entry) && other.link.is_some() && !entry.is_directory();
                self.has_place_for(path)?
                    && match self.at(target, true)? {
                        Found::Nothing => false,
                        Found::Made(made) => same(&made),
                        Found::Kept(row) => {
                            entry.link.is_some() && (same(&row.entry) || edited.iter().any(|to| same(to)))
                        }
                    }
            }
            Action::Edit { entry, old_length, .. } => {
                matches!(self.at(path, true)?, Found::Kept(row)
                    if row.entry.kind() == entry.kind() && row.entry.size() == *old_length)
            }
            Action::Attributes { entry, .. } => match self.at(path, true)? {
                Found::Nothing => false,
                Found::Made(made) => made.kind() == entry.kind() && made.same_content(entry),
                Found::Kept(row) => {
                    let same_inode = |to: &&Entry| to.link.is_some() && to.link == entry.link && to.same_content(entry);
                    row.entry.same_content(entry) || (row.entry.link.is_some() && edited.iter().any(same_inode))
                }
            },
        })
    }

    /// True if `path` has a directory to be in, and nothing stays there.
    fn has_place_for(&self, path: &RelPath) -> Result<bool, TreeError> {
        let Some(parent) = path.parent() else { return Ok(false) };
        let has_parent = match self.at(&parent, true)? {
            Found::Nothing => false,
            Found::Made(made) => made.is_directory(),
            Found::Kept(row) => row.entry.is_directory(),
        };
        Ok(has_parent && matches!(self.at(path, false)?, Found::Nothing))
    }

    /// What is at `path`; without what arrives there itself, if not `with_arrival`.
    fn at(&self, path: &RelPath, with_arrival: bool) -> Result<Found, TreeError> {
        let mut above = if with_arrival { Some(path.clone()) } else { path.parent() };
        let mut old = Some((path.clone(), RelPath::root()));
        while let Some(here) = above {
            match self.arrivals.get(&here) {
                Some(Arrival::Made(entry)) if here == *path => return Ok(Found::Made((*entry).clone())),
                Some(Arrival::Made(_)) => return Ok(Found::Nothing),
                Some(Arrival::Moved(from)) => {
                    old = path.rebase(&here, from).map(|old| (old, (*from).clone()));
                    break;
                }
                None => above = here.parent(),
            }
        }
        let Some((old, moved_with)) = old else { return Ok(Found::Nothing) };
        // Between it and the directory it moved with, or the root, nothing may have left.
        let mut up = Some(old.clone());
        while let Some(here) = up.filter(|here| *here != moved_with) {
            if self.taken.contains(&here) {
                return Ok(Found::Nothing);
            }
            up = here.parent();
        }
        Ok(self.tree.row(&old)?.map_or(Found::Nothing, |row| Found::Kept(Box::new(row))))
    }
}
