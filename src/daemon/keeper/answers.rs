//! What the keeper is asked, and its answers: views of the tree, and what folds into a catch-up.

use std::collections::{BTreeMap, BTreeSet};

use super::work::{Keeper, KeeperError, Payloads, instant};
use super::{Command, Fold, Touched, View, Whole};
use crate::capture::Cut;
use crate::thought::generation::{Action, Content};
use crate::thought::plan::{Captures, Encoded, Present, Step};
use crate::thought::tree::CONTENT_LOOKUP_BYTES;
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How many touched files a view keeps track of.
const TOUCHED_CAP: usize = 20_000;

impl Keeper {
    /// Answers what was asked so far.
    pub(super) fn attend(&mut self) -> Result<(), KeeperError> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                // Nothing is known yet that could be told.
                Command::View(_)
                | Command::Fold { .. }
                | Command::Mark(_)
                | Command::Rescan { .. }
                | Command::Snapshot(_)
                    if !self.is_ready => {}
                // Nothing can be told either, nor anything changed, while the index is closed; but a filter waits for it.
                Command::Refilter(filter) if !self.tree.store().is_usable() => self.options.filter = filter,
                _ if !self.tree.store().is_usable() => {}
                command => self.answer(command)?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, command: Command) -> Result<(), KeeperError> {
        match command {
            Command::View(reply) => {
                let view = self.view()?;
                // Whoever asked may have gone.
                reply.send(view).ok();
            }
            Command::Fold { ticket, missed, reply } => {
                if let Some(fold) = self.fold(ticket, missed)? {
                    reply.send(fold).ok();
                }
            }
            Command::Mark(reply) => {
                let marked = self.catch_all(&BTreeSet::new())?;
                // Whoever asked may look at the status next.
                self.report();
                self.answer_when_taken(marked, reply);
            }
            Command::Release(reply) => {
                let released = self.release()?;
                reply.send(released).ok();
            }
            Command::Refilter(filter) => self.refilter(filter)?,
            Command::Reign(reign, chain, reply) => {
                // Several standbys may have asked for the same one: its history is not begun twice.
                if self.options.reign.epoch < reign.epoch {
                    self.options.reign = reign;
                    self.position = Position { epoch: reign.epoch, generation: 0 };
                    self.chain = chain;
                    self.shared.window().skip_to((self.position, chain));
                    self.shared.head.send_replace(self.position);
                }
                reply.send(()).ok();
            }
            Command::Snapshot(reply) => {
                self.commit()?;
                reply.send(self.tree.store().snapshot()?).ok();
            }
            Command::Rescan { paths, whole, reply } => {
                let marked = self.rescan(&paths, &whole)?;
                self.answer_when_taken(marked, reply);
            }
        }
        Ok(())
    }

    fn view(&mut self) -> Result<View, KeeperError> {
        self.commit()?;
        let digest = self.tree.digest()?;
        self.committed = instant();
        self.next_view += 1;
        self.views.insert(self.next_view, Touched::default());
        // A session that died without folding leaves its view behind; only the newest few are kept track of.
        while self.views.len() > 64 {
            self.views.pop_first();
        }
        let tree = self.tree.store().snapshot()?;
        let filter = self.options.filter.clone();
        let (position, chain, reign) = (self.position, self.chain, self.options.reign.id);
        Ok(View { ticket: self.next_view, tree, digest, position, chain, reign, filter })
    }

    fn fold(&mut self, ticket: u64, missed: BTreeSet<RelPath>) -> Result<Option<Fold>, KeeperError> {
        // What was renamed before is known by its new name then.
        self.generation(&BTreeSet::new())?;
        let touched = self.views.remove(&ticket).unwrap_or(Touched { overflowed: true, ..Touched::default() });
        // What is dirty by now is taken whole as well: what the standby was sent of it is older.
        let missed = missed.into_iter().map(|path| moved(&touched.renamed, &path).unwrap_or(path));
        let due: BTreeSet<RelPath> = touched.files.iter().cloned().chain(missed).collect();
        let Some((cut, spool)) = self.guarded_capture(&due, Payloads::Whole)? else { return Ok(None) };
        let has_moved = {
            let renames = renames_of(&cut.steps);
            due.iter().any(|path| moved(&renames, path).is_some())
        };
        self.note_later(&cut);
        let mut whole = BTreeMap::new();
        for (path, found) in &cut.captures {
            let Some(present) = found else { continue };
            if let (Some(digest), Encoded::New { content: Content::Whole, payload: Some(spooled), sparse }) =
                (present.entry.content(), &present.encoded)
            {
                whole.insert(path.clone(), Whole { digest, spooled: *spooled, sparse: *sparse });
            }
        }
        let payloads = spool.reader();
        let Cut { quality, deferred, cut_time, oldest_change, .. } = self.publish(cut, spool, true, true)?;
        self.answer_awaited();
        let view = self.view()?;
        let is_complete = !touched.overflowed && !has_moved;
        let quality = self.quality(&quality);
        Ok(Some(Fold { view, quality, deferred, cut_time, oldest_change, whole, payloads, is_complete }))
    }
}

/// Where what a cut renames goes: old path, new path.
pub(super) fn renames_of(steps: &[Step]) -> BTreeMap<RelPath, RelPath> {
    let renames = steps.iter().filter_map(|step| match &step.operation.action {
        Action::Rename { from, to } => Some((from.clone(), to.clone())),
        _ => None,
    });
    renames.collect()
}

/// Where what was at `path` goes with `renames`, if it does.
fn moved(renames: &BTreeMap<RelPath, RelPath>, path: &RelPath) -> Option<RelPath> {
    if renames.is_empty() {
        return None;
    }
    let mut above = std::iter::successors(Some(path.clone()), RelPath::parent);
    above.find_map(|from| path.rebase(&from, renames.get(&from)?))
}

impl Touched {
    pub(super) fn note(&mut self, renames: &BTreeMap<RelPath, RelPath>, captures: &Captures) {
        if !renames.is_empty() {
            self.follow(renames);
        }
        for (path, found) in captures {
            // What is as it was has come with the view, under whatever name, if a standby can find it by its digest.
            let is_new = |present: &Present| {
                !matches!(present.encoded, Encoded::Unchanged) || present.entry.size() < CONTENT_LOOKUP_BYTES
            };
            let is_file = found.as_ref().is_some_and(|present| present.entry.content().is_some() && is_new(present));
            if is_file && self.files.len() < TOUCHED_CAP {
                self.files.insert(path.clone());
            } else if is_file {
                self.overflowed = true;
            }
        }
    }

    /// Everything is known by its new name from now on.
    fn follow(&mut self, renames: &BTreeMap<RelPath, RelPath>) {
        let mut gone = BTreeSet::new();
        for from in renames.keys() {
            gone.extend(self.files.range(from.clone()..).take_while(|path| path.is_within(from)).cloned());
        }
        for path in &gone {
            self.files.remove(path);
        }
        self.files.extend(gone.iter().filter_map(|path| moved(renames, path)));
        let known = std::mem::take(&mut self.renamed);
        let back: BTreeMap<RelPath, RelPath> = known.iter().map(|(old, new)| (new.clone(), old.clone())).collect();
        let fresh = renames.iter().map(|(from, to)| (moved(&back, from).unwrap_or_else(|| from.clone()), to.clone()));
        let gone_on = known.into_iter().map(|(old, new)| (old, moved(renames, &new).unwrap_or(new)));
        self.renamed = gone_on.chain(fresh).collect();
        self.overflowed |= self.renamed.len() > TOUCHED_CAP;
    }
}
