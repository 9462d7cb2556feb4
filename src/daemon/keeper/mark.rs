//! Marks: cuts until all that was written before is in a generation.
//!
//! One cut need not have it all. What it found in motion, could not read or has to scan anew may be missing from it, and of what no event came in
//! time it does not even know. So cuts are made until nothing is left of that, each as good as any other: what it takes becomes a generation. Large
//! files are taken beside the cuts, and whoever asked is answered when those are taken too.
//!
//! What is in motion at the same place in one cut after another keeps nobody waiting: each of them took it as it was then, which is later than the
//! question. Where not everything is known even after some cuts, the answer says so.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::Marked;
use super::work::{Keeper, KeeperError};
use crate::thought::generation::Reason;
use crate::words::path::RelPath;

/// How many cuts are made to take all that was written, beside those that took as much as a cut takes.
const TRIES: u32 = 10;
/// After so many cuts that knew all that was written, what is still in motion is in motion without end.
const ENOUGH: u32 = 4;

/// Who waits until all that was written before is in a generation, and for which large files still.
pub(super) struct Awaited {
    later: BTreeSet<RelPath>,
    marked: Marked,
    reply: oneshot::Sender<Marked>,
}

impl Keeper {
    /// Makes generations until all that was written by now is in one, `whole` in the first.
    pub(super) fn catch_all(&mut self, whole: &BTreeSet<RelPath>) -> Result<Marked, KeeperError> {
        // Of a directory without a watch nothing tells.
        self.walker.poll(self.walker.polled());
        let mut left = Left::default();
        let mut tries = 0;
        let mut made = self.generation(whole)?;
        while let Some(cut) = made.take() {
            left.after(cut.left);
            let is_full = cut.captures.len() >= self.options.rounds.paths;
            tries += u32::from(!is_full);
            // Where a barrier is not heard of in time the next one need not be either, and to wait for it keeps everybody else waiting.
            let is_deaf = cut.quality.told().1.contains(&Reason::BarrierLate);
            if left.has_all() || is_deaf || tries >= TRIES || self.shared.is_stopping() {
                break;
            }
            // What it captured need not stand in memory beside what the next one captures.
            drop(cut.captures);
            made = self.generation(&BTreeSet::new())?;
        }
        Ok(Marked { position: self.position, has_all: left.has_all(), in_motion: left.paths })
    }

    /// Says `marked` when nothing written before is left for later.
    pub(super) fn answer_when_taken(&mut self, marked: Marked, reply: oneshot::Sender<Marked>) {
        // What the guard holds back is in no position.
        if self.guard.is_holding() {
            return;
        }
        if self.later.is_empty() {
            // Whoever asked may have gone.
            reply.send(marked).ok();
        } else {
            self.awaited.push(Awaited { later: self.later.clone(), marked, reply });
        }
    }

    /// Answers whom the last generation has brought what they waited for.
    pub(super) fn answer_awaited(&mut self) {
        for mut awaited in std::mem::take(&mut self.awaited) {
            awaited.later.retain(|path| self.later.contains(path));
            if awaited.later.is_empty() {
                awaited.reply.send(Marked { position: self.position, ..awaited.marked }).ok();
            } else if !awaited.reply.is_closed() {
                self.awaited.push(awaited);
            }
        }
    }
}

impl Marked {
    /// True if what is at `path` was in motion in every cut, or may have been.
    pub fn was_in_motion(&self, path: &RelPath) -> bool {
        meets(&self.in_motion, path)
    }
}

/// What was written before the first of some cuts and may be in none of them.
#[derive(Default)]
struct Left {
    /// How many of the cuts knew all that was written.
    cuts: u32,
    /// At and below these paths, if there was such a cut.
    paths: BTreeSet<RelPath>,
}

impl Left {
    /// After one more cut, which left `paths`; `None` if it did not know all.
    fn after(&mut self, paths: Option<BTreeSet<RelPath>>) {
        let Some(mut paths) = paths else { return };
        if self.cuts > 0 {
            paths.retain(|path| meets(&self.paths, path));
        }
        self.cuts += 1;
        self.paths = paths;
    }

    fn has_all(&self) -> bool {
        self.cuts >= ENOUGH || (self.cuts > 0 && self.paths.is_empty())
    }
}

/// True if one of `paths` is `path`, or above or below it.
fn meets(paths: &BTreeSet<RelPath>, path: &RelPath) -> bool {
    let is_below = paths.range(path.clone()..).next().is_some_and(|below| below.is_within(path));
    is_below || std::iter::successors(path.parent(), RelPath::parent).any(|above| paths.contains(&above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(of: &str) -> BTreeSet<RelPath> {
        of.split_whitespace().map(|text| RelPath::parse(text.as_bytes()).unwrap()).collect()
    }

    /// After cuts that left `cuts`.
    fn left(cuts: &[Option<&str>]) -> Left {
        let mut left = Left::default();
        cuts.iter().for_each(|cut| left.after(cut.map(paths)));
        left
    }

    #[test]
    fn what_one_cut_left_the_next_may_have_taken() {
        let left = left(&[Some("a jobs/app z"), Some("b jobs jobs/apple jobs/app/builds/7/log")]);
        assert_eq!(left.paths, paths("jobs jobs/app/builds/7/log"));
        assert!(!left.has_all());
    }

    #[test]
    fn all_is_taken_by_a_cut_that_leaves_nothing_of_it() {
        assert!(!left(&[]).has_all(), "no cut was made");
        assert!(left(&[Some("")]).has_all());
        assert!(left(&[Some("a"), Some("b")]).has_all());
        assert!(!left(&[Some("a"), Some("a")]).has_all());
    }

    #[test]
    fn a_cut_that_did_not_know_all_takes_nothing_of_it() {
        assert!(!left(&[None, None, None, None, None]).has_all());
        assert!(!left(&[None, Some("a"), None]).has_all());
        assert!(left(&[None, Some("a"), None, Some("b")]).has_all());
    }

    #[test]
    fn what_is_in_motion_without_end_keeps_nobody_waiting() {
        let cuts = [Some("a"); ENOUGH as usize];
        assert!(!left(&cuts[1..]).has_all());
        assert!(left(&cuts).has_all());
    }
}
