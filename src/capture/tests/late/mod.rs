//! G3 where events come late: every interleaving, up to a bound, of writers, kernel queues and a cut.
//!
//! The kernel takes a call in steps (`calls`): it sets the change times, does what the call does (a write cell by cell), and tells each queue, which
//! may be as late as it likes. The cut is the real one, walker and all, on a home in which every look is a moment of its own (`world`, `seen`).
//! Before each look the writers may take any number of steps, and of each queue nothing, all up to the awaited barrier, or all may come
//! out. All ways to choose are gone through, one after the other, in which the writers go on at so many moments, or something comes late so
//! often, as the bound says (`choices`): what needs many coincidences is left out.
//!
//! What is demanded: a cut that is called consistent is the home at an instant, each call under way then counted as undone, done or, for a write,
//! part done. And when the writers have ended, cuts make the tree what the home is: nothing was missed.
//!
//! # What it shows of the design's conditions
//! With one thing taken out at a time, at a bound of 2, the model finds a home that never was
//! - without (a), one queue's answer taken for all: at once, in `writes in place`;
//! - without (b): in `a directory that moves`;
//! - without the look after the capture, (d): in `two writes of one file`;
//! - without the look at places that files left, or with a name believed to have been the only one though it went (the kernel uncounts a name before it
//!   takes it out of sight): in `a link written through and removed`;
//! - without a word awaited of what was found elsewhere, at its old place and its new one, or without what was seen of the files that had a name
//!   before: in `a link written through and replaced`, once or twice;
//! - without a word awaited of a name that is in sight and was told to have gone: in `a link written through and one of another file`;
//! - without the wait for what was emptied, or without (c) and the change times of (d) together: in `a file cut short`.
//!
//! Three things fail nothing by themselves. They follow from the others wherever the model's kernel is the real one:
//! - **The events of (c).** What a captured path had happen to it between its capture and the look after it is by a call that began after the first
//!   barrier, and has set a change time not older than that; or by one that was under way, which is then one of the states allowed, or reads otherwise
//!   the second time. A name that moved, or one above it, leads to another inode or to none; a write by another name moves the time of the same
//!   inode. So (d) sees all that (c) hears, and sees it first: events may be late, effects are not.
//! - **The change times of (d).** What they tell, the second reading or an event tells as well, but for one thing, which is why (d) is there: an effect
//!   without an event yet. The model has it; the second reading finds it.
//! - **The doubts of (a)**, that a queue overflowed or lost a watch. A queue that lost anything before its answer is begun anew, and has lost the
//!   barrier as well, so that no answer comes, and awaits a scan, so that (b) fails. What is lost behind the answer to the first barrier are events of
//!   (c), which (d) does without; and all that they would have made dirty is found by the scan.
//!
//! All three stay. The second reading is bounded: of what was read in this round alone, and for writes of up to a minute; times are those of the file
//! system, and not each tells them as it should; and a lost watch may be of a directory that the look does not come to. What costs nothing and
//! fails apart from the others is what makes a proof out of a look. They also say why: which path to capture again, which words stand in `status`.
//!
//! `HOTSPARE_BOUND` is that bound; the long form takes a greater one.

mod calls;
mod choices;
mod seen;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::calls::Call::{Create, Fill, Link, MakeDirectory, Remove, Rename, SetClock, Truncate, Write};
use self::calls::{Call, Plain};
use self::choices::Choices;
use self::seen::{Ears, Place};
use self::world::{CELL, Progress, World, fresh};
use super::bench::{Standby, rows, take};
use crate::capture::{Capturer, Cut, RoundOptions, Wanted, cut};
use crate::fs::{Look as _, XattrPolicy};
use crate::spool::Spool;
use crate::thought::filter::{Filter, Preset};
use crate::thought::generation::Quality;
use crate::thought::store::MemoryStore;
use crate::thought::tree::{Row, Tree};
use crate::walk::{DIRTY_CAP, Walker};
use crate::words::entry::{Body, Xattrs};
use crate::words::path::RelPath;

/// The bound, if nothing else is asked for.
const BOUND: usize = 2;
/// A file of this name is only appended to.
const LOG: &str = "log";

const SCRIPTS: &[(&str, &[&[Call]])] = &[
    ("writes in place", &[&[Write("p/x", 0, "AB"), Write("a", 0, "C")]]),
    ("two writes of one file", &[&[Write("a", 1, "B"), Write("a", 0, "CD")]]),
    ("a save", &[&[Create("p/t"), Write("p/t", 0, "A"), Rename("p/t", "q/y")]]),
    ("appends", &[&[Write(LOG, 2, "cd"), Write("a", 0, "A"), Write(LOG, 4, "e")]]),
    ("a link written through", &[&[Link("a", "q/l"), Write("q/l", 0, "AB")]]),
    ("a link written through and removed", &[&[Link("a", "q/l"), Write("q/l", 0, "AB"), Remove("q/l")]]),
    (
        "a link written through that moves and is removed",
        &[&[Link("a", "q/l"), Write("q/l", 0, "A"), Rename("q/l", "p/m"), Remove("p/m"), Write("q/y", 0, "B")]],
    ),
    (
        "a link written through and another file of its name",
        &[&[Link("a", "l"), Write("l", 0, "A"), Remove("l"), Create("l"), Write("l", 0, "B")]],
    ),
    ("a link written through and replaced", &[&[Link("a", "q/l"), Write("q/l", 0, "AB"), Rename("q/y", "q/l")]]),
    ("a file written through a link and replaced", &[&[Link("a", "q/l"), Write("q/l", 0, "A"), Rename("p/x", "a")]]),
    (
        "a link written through and replaced twice",
        &[&[Link("a", "l"), Write("l", 0, "A"), Rename("q/y", "l"), Rename("p/x", "l")]],
    ),
    (
        "a link written through and replaced by a new file",
        &[&[Link("a", "l"), Write("l", 0, "A"), Create("p/t"), Rename("p/t", "l")]],
    ),
    (
        "a link written through and two other files of its name",
        &[&[Link("a", "l"), Write("l", 0, "A"), Remove("l"), Create("l"), Remove("l"), Create("l")]],
    ),
    (
        "a link written through and one of another file",
        &[&[Link("a", "l"), Write("l", 0, "A"), Remove("l"), Link("q/y", "l"), Remove("l")]],
    ),
    (
        "a new file written through a link",
        &[&[Create("n"), Link("n", "l"), Write("l", 0, "A"), Remove("l"), Write("a", 0, "B")]],
    ),
    ("a file that moves", &[&[Write("a", 0, "A"), Rename("p/x", "q/x"), Write("q/x", 0, "B")]]),
    ("a new directory", &[&[MakeDirectory("d"), Create("d/f"), Write("a", 0, "A")]]),
    ("a directory that moves", &[&[Write("p/x", 0, "A"), Rename("p", "r"), Create("r/n")]]),
    ("a file cut short", &[&[Write("a", 1, "B"), Write("p/x", 0, "A"), Truncate("a"), Write("a", 0, "C")]]),
    ("a new file cut short", &[&[Create("n"), Write("n", 0, "N"), Write("p/x", 0, "A"), Truncate("n")]]),
    ("two writers", &[&[Write("p/x", 0, "AB")], &[Write("a", 0, "C"), Write("q/y", 0, "D")]]),
    ("a name used again", &[&[Remove("a"), Create("a"), Write("a", 0, "A")]]),
    ("a clock that is set back", &[&[SetClock], &[Write("a", 0, "A"), Write("p/x", 0, "BC")]]),
    ("a queue without room", &[&[Fill(0)], &[Write("a", 0, "A"), Write("p/x", 0, "B")]]),
];

/// One world, and what hotspare knows of it.
struct Trial {
    world: World,
    home: Plain,
    scripts: &'static [&'static [Call]],
    walker: Walker<Ears>,
    tree: Tree<MemoryStore>,
    standby: Standby,
}

impl Trial {
    fn new(scripts: &'static [&'static [Call]], queues: usize, choices: Choices) -> Self {
        let home = Plain::with(&[("a", "ab"), ("p/x", "cde"), ("q/y", "f"), (LOG, "ab")]);
        let world = World::new(&home, scripts, queues, choices);
        let root = Place::root(&world);
        let stat = root.stat(&RelPath::root()).unwrap().unwrap();
        let row = Row::new(stat.entry(Body::Directory, Xattrs::default(), None), stat.inode);
        let tree = Tree::open(MemoryStore::default(), row).unwrap();
        let walker = Walker::new(root, Ears(world.clone()), Filter::new(Preset::None, &[], &[]).unwrap(), DIRTY_CAP);
        let mut trial = Self { world, home, scripts, walker, tree, standby: Standby::default() };
        trial.settle();
        trial
    }

    fn cut(&mut self, rounds: u32) -> Cut {
        let spool = Spool::create(std::path::Path::new("/nowhere")).unwrap();
        let mut capturer = Capturer::new(spool, [7; 32], XattrPolicy::default(), true);
        let options = RoundOptions { rounds, persistence: Duration::ZERO, ..RoundOptions::default() };
        let world = self.world.clone();
        let clock = move || world.moment();
        let cut = cut(&mut self.walker, &self.tree, &mut capturer, &Wanted::new(), options, &clock).unwrap();
        take(&mut self.tree, &mut self.standby, &cut, capturer);
        cut
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            // As many as it takes what is waited for by the clock.
            let cut = self.cut(50);
            if cut.quality == Quality::Consistent && self.walker.dirty().is_empty() && self.walker.is_settled() {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// What the standby has, as [`Plain::seen`] says it.
    fn seen(&self) -> BTreeMap<String, String> {
        let rows = rows(&self.tree);
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        for (path, row) in &rows {
            if let Some(link) = row.entry.link {
                first.entry(link.0).or_insert(path.to_string());
            }
        }
        let describe = |(path, row): (&RelPath, &Row)| {
            let path = path.to_string();
            if row.entry.is_directory() {
                return (path, "directory".to_owned());
            }
            let cells = self.standby.bytes(&row.entry).chunks(CELL).map(|cell| char::from(cell[0])).collect::<String>();
            let first = row.entry.link.map_or(&path, |link| &first[&link.0]);
            let what = format!("{first} = {cells}");
            (path, what)
        };
        rows.iter().filter(|(path, _)| !path.is_root()).map(describe).collect()
    }

    /// The home after what the writers have done; of a call under way so many cells.
    fn after(&self, progress: &Progress, cells: &[usize]) -> BTreeMap<String, String> {
        let mut plain = self.home.clone();
        for (writer, script) in self.scripts.iter().enumerate() {
            let (done, is_under_way) = progress[writer];
            for (index, call) in script.iter().enumerate().take(done) {
                plain.apply(*call, fresh(writer, index), usize::MAX);
            }
            let is_begun = is_under_way && cells[writer] > 0;
            if let Some(call) = script.get(done).filter(|_| is_begun) {
                plain.apply(*call, fresh(writer, done), cells[writer]);
            }
        }
        plain.seen()
    }

    /// True if `seen` was the home at one of the instants of the cut.
    fn was(&self, seen: &BTreeMap<String, String>) -> bool {
        let instants: BTreeSet<Progress> = self.world.state().instants.iter().cloned().collect();
        let parts = |writer: usize, progress: &Progress| match self.scripts[writer].get(progress[writer].0) {
            Some(Write(_, _, cells)) if progress[writer].1 => cells.len(),
            Some(_) if progress[writer].1 => 1,
            _ => 0,
        };
        instants.iter().any(|progress| {
            let first = parts(0, progress);
            let second = if self.scripts.len() > 1 { parts(1, progress) } else { 0 };
            (0..=first).any(|one| (0..=second).any(|other| is(seen, &self.after(progress, &[one, other]))))
        })
    }
}

/// True if `seen` is `home`, but that a log may be ahead.
fn is(seen: &BTreeMap<String, String>, home: &BTreeMap<String, String>) -> bool {
    seen.len() == home.len()
        && seen.iter().zip(home).all(|((path, seen), (other, home))| {
            path == other && (seen == home || (path == LOG && seen.starts_with(home.as_str())))
        })
}

/// One interleaving; what it came to, and what is wrong with it.
fn run(trial: &mut Trial) -> (Quality, Result<(), String>) {
    trial.world.state().is_live = true;
    let cut = trial.cut(2);
    trial.world.state().is_live = false;
    let seen = trial.seen();
    if cut.quality == Quality::Consistent && !trial.was(&seen) {
        return (cut.quality, Err(format!("the home never was so: {seen:?}")));
    }
    trial.world.state().run_out();
    trial.settle();
    let seen = trial.seen();
    let all = trial.scripts.iter().map(|script| (script.len(), false)).collect();
    let home = trial.after(&all, &[0, 0]);
    let found = if seen == home { Ok(()) } else { Err(format!("in the end the tree is {seen:?}, the home {home:?}")) };
    (cut.quality, found)
}

/// Goes through the interleavings of a script; how many there are.
fn explore(name: &str, scripts: &'static [&'static [Call]], queues: usize, bound: usize) -> u64 {
    let mut choices = Choices::up_to(bound);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = 0;
    loop {
        let mut trial = Trial::new(scripts, queues, std::mem::take(&mut choices));
        let (quality, found) = run(&mut trial);
        count += 1;
        *counts.entry(quality.told().0.into()).or_default() += 1;
        choices = std::mem::take(&mut trial.world.state().choices);
        if let Err(text) = found {
            choices.again();
            let mut trial = Trial::new(scripts, queues, choices);
            trial.world.state().trace = Some(Vec::new());
            drop(run(&mut trial));
            let trace = trial.world.state().trace.take().unwrap().join("\n");
            panic!("{name}, {queues} queues, interleaving {count}: {text}\n{trace}");
        }
        if !choices.next() {
            break;
        }
    }
    println!("{name}, {queues} queues: {count} interleavings, {counts:?}");
    count
}

#[test]
fn however_late_events_come_a_consistent_cut_is_the_home_at_an_instant() {
    let bound = std::env::var("HOTSPARE_BOUND").map_or(BOUND, |text| text.parse().unwrap());
    let mut total = 0;
    for (name, scripts) in SCRIPTS {
        total += explore(name, scripts, 2, bound);
    }
    println!("{total} interleavings");
}
