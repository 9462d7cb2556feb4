//! A home in which every look is a moment of its own: before each, writers may take some more of their steps.
//!
//! Only where it matters: a step that has nothing to do with a look may as well come after it, so before a look the writers go on only up to a
//! step that does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::calls::{Call, DIRECTORIES, Ino, Plain, ROOT, Step};
use super::choices::Choices;
use crate::capture::Moment;
use crate::fs::{FileType, Stat};
use crate::watch::{Barrier, BarrierName, Change, ChangeKind, SourceId};
use crate::words::entry::{Inode, InodeId, Timestamp};
use crate::words::path::{Name, RelPath};

/// No file has more cells.
const CELLS: usize = 9;
/// How long a cell is.
pub(super) const CELL: usize = 40;

/// What a step and a look may have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Touch {
    /// A name in a directory.
    Name(Ino, String),
    /// All names in a directory.
    Listing(Ino),
    /// The attributes of an inode.
    Inode(Ino),
    Cell(Ino, usize),
    Queue(usize),
    /// What time is stamped on things, and what time it is.
    Stamping,
    Clock,
    /// What may be seen of a name that has just come.
    Sight,
}

#[derive(Clone, Debug)]
struct Node {
    times: Timestamp,
    born: Timestamp,
    cells: Option<Vec<u8>>,
}

#[derive(Default, Debug)]
struct Queue {
    waiting: VecDeque<ChangeKind>,
    is_full: bool,
}

#[derive(Debug)]
struct Writer {
    calls: Vec<(Call, Vec<Step>)>,
    /// Which call is next or under way, and which of its steps is next.
    call: usize,
    step: usize,
}

/// How far each writer is: calls done, and whether the next one is under way.
pub(super) type Progress = Vec<(usize, bool)>;

#[derive(Debug)]
pub(super) struct State {
    clock: i64,
    monotonic: u64,
    nodes: BTreeMap<Ino, Node>,
    names: BTreeMap<(Ino, String), Ino>,
    /// One name of each is not counted any more.
    uncounted: BTreeSet<Ino>,
    queues: Vec<Queue>,
    watched: BTreeMap<Ino, RelPath>,
    inodes: BTreeSet<Ino>,
    writers: Vec<Writer>,
    pub(super) choices: Choices,
    /// False while the writers stand still.
    pub(super) is_live: bool,
    raised: u64,
    /// The barriers that were raised while the writers were at work.
    raised_live: u32,
    awaited: Option<BarrierName>,
    /// Each state of progress since the first live barrier.
    pub(super) instants: Vec<Progress>,
    pub(super) trace: Option<Vec<String>>,
}

/// A home, its kernel and its writers.
#[derive(Clone)]
pub(super) struct World(Rc<RefCell<State>>);

impl World {
    pub(super) fn new(home: &Plain, scripts: &[&[Call]], queues: usize, choices: Choices) -> Self {
        let (mut nodes, mut names) = (BTreeMap::new(), BTreeMap::new());
        let node = |cells| Node { times: at(1), born: at(1), cells };
        for ino in DIRECTORIES.iter().map(|(_, ino)| *ino).chain([ROOT]) {
            nodes.insert(ino, node(None));
        }
        for (path, ino) in &home.names {
            names.insert(home.place(path), *ino);
            if let Some(cells) = home.files.get(ino) {
                nodes.insert(*ino, node(Some(cells.clone())));
            }
        }
        let mut writers = Vec::new();
        for (number, script) in scripts.iter().enumerate() {
            let mut plain = home.clone();
            let mut calls = Vec::new();
            for (index, call) in script.iter().enumerate() {
                let fresh = fresh(number, index);
                calls.push((*call, plain.steps(*call, fresh)));
                plain.apply(*call, fresh, usize::MAX);
            }
            writers.push(Writer { calls, call: 0, step: 0 });
        }
        let queues = (0..queues).map(|_| Queue::default()).collect();
        Self(Rc::new(RefCell::new(State {
            clock: 10,
            monotonic: 10,
            nodes,
            names,
            uncounted: BTreeSet::new(),
            queues,
            watched: BTreeMap::new(),
            inodes: BTreeSet::new(),
            writers,
            choices,
            is_live: false,
            raised: 0,
            raised_live: 0,
            awaited: None,
            instants: Vec::new(),
            trace: None,
        })))
    }

    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.0.borrow_mut()
    }

    pub(super) fn moment(&self) -> Moment {
        let mut state = self.state();
        state.look("clock", &[Touch::Clock]);
        let monotonic = Duration::from_millis(4 * state.monotonic);
        Moment { before: monotonic, realtime: at(state.clock), after: monotonic }
    }
}

/// The number of what a call makes.
pub(super) fn fresh(writer: usize, call: usize) -> Ino {
    100 * (writer as Ino + 1) + call as Ino
}

/// The clock ticks every four milliseconds.
fn at(tick: i64) -> Timestamp {
    let nanoseconds = u32::try_from(tick.rem_euclid(250)).unwrap() * 4_000_000;
    Timestamp { seconds: 1000 + tick.div_euclid(250), nanoseconds }
}

impl State {
    /// The moment of a look: what the writers do before it is chosen.
    pub(super) fn look(&mut self, what: &str, touches: &[Touch]) {
        while self.is_live {
            let ways: Vec<(usize, usize)> = (0..self.writers.len())
                .flat_map(|writer| self.until(writer, touches).into_iter().map(move |count| (writer, count)))
                .collect();
            let chosen = self.choices.choose(1 + ways.len());
            let Some((writer, count)) = chosen.checked_sub(1).map(|way| ways[way]) else { break };
            (0..count).for_each(|_| self.step(writer));
            if self.writers.len() == 1 {
                break;
            }
        }
        self.note(|| format!("  {what}"));
    }

    /// How many steps a writer takes up to one that has to do with `touches`: to each of those.
    fn until(&self, writer: usize, touches: &[Touch]) -> Vec<usize> {
        let Writer { calls, call, step } = &self.writers[writer];
        let rest = calls[*call..].iter().flat_map(|(_, steps)| steps).skip(*step);
        let found = rest.enumerate().filter(|(_, step)| self.touches(step).iter().any(|touch| touches.contains(touch)));
        found.map(|(index, _)| index + 1).collect()
    }

    fn touches(&self, step: &Step) -> Vec<Touch> {
        match step {
            Step::Stamp(inodes) => inodes.iter().map(|ino| Touch::Inode(*ino)).chain([Touch::Stamping]).collect(),
            Step::Clear(ino) => (0..CELLS).map(|cell| Touch::Cell(*ino, cell)).chain([Touch::Inode(*ino)]).collect(),
            Step::Put(ino, cell, _) => vec![Touch::Cell(*ino, *cell), Touch::Inode(*ino)],
            Step::Uncount(ino) => vec![Touch::Inode(*ino), Touch::Sight],
            Step::Names(names) => names
                .iter()
                .flat_map(|(directory, name, ino)| {
                    let inode = ino.map(Touch::Inode);
                    [Touch::Name(*directory, name.clone()), Touch::Listing(*directory)].into_iter().chain(inode)
                })
                .chain([Touch::Sight])
                .collect(),
            Step::Post(directory, _) => vec![Touch::Queue(self.queue_of(*directory))],
            Step::PostInode(_) => vec![Touch::Queue(0)],
            Step::SetClock => vec![Touch::Stamping, Touch::Clock],
            Step::Fill(queue) => vec![Touch::Queue(*queue)],
        }
    }

    fn queue_of(&self, directory: Ino) -> usize {
        usize::try_from(directory).unwrap() % self.queues.len()
    }

    fn step(&mut self, writer: usize) {
        let Writer { calls, call, step } = &mut self.writers[writer];
        let (made, steps) = &calls[*call];
        let (made, taken, is_last) = (*made, steps[*step].clone(), *step + 1 == steps.len());
        (*call, *step) = if is_last { (*call + 1, 0) } else { (*call, *step + 1) };
        self.note(|| format!("writer {writer}, {made:?}: {taken:?}"));
        match taken {
            Step::Stamp(inodes) => {
                let now = at(self.clock);
                for ino in inodes {
                    let cells = (!matches!(made, Call::MakeDirectory(_))).then(Vec::new);
                    self.nodes.entry(ino).or_insert(Node { times: now, born: now, cells }).times = now;
                }
            }
            Step::Put(ino, index, cell) => {
                let cells = self.nodes.get_mut(&ino).unwrap().cells.as_mut().unwrap();
                match cells.get_mut(index) {
                    Some(old) => *old = cell,
                    None => cells.push(cell),
                }
            }
            Step::Uncount(ino) => drop(self.uncounted.insert(ino)),
            Step::Names(names) => {
                for (directory, name, ino) in names {
                    let gone = match ino {
                        Some(ino) => self.names.insert((directory, name), ino),
                        None => Some(self.names.remove(&(directory, name)).expect("a name that is there")),
                    };
                    if let Some(gone) = gone {
                        self.uncounted.remove(&gone);
                    }
                }
            }
            Step::Post(directory, kind) => {
                if let Some(path) = self.watched.get(&directory) {
                    let kind = within(path, kind);
                    self.post(self.queue_of(directory), kind);
                }
            }
            Step::PostInode(ino) => {
                if self.inodes.contains(&ino) {
                    self.post(0, ChangeKind::InodeTouched { inode: id(ino) });
                }
            }
            Step::Clear(ino) => self.nodes.get_mut(&ino).unwrap().cells.as_mut().unwrap().clear(),
            Step::SetClock => self.clock -= 2,
            Step::Fill(queue) => self.queues[queue].is_full = true,
        }
        self.mark_instant();
    }

    fn mark_instant(&mut self) {
        if self.raised_live > 0 {
            self.instants.push(self.writers.iter().map(|writer| (writer.call, writer.step > 0)).collect());
        }
    }

    fn post(&mut self, queue: usize, kind: ChangeKind) {
        let queue = &mut self.queues[queue];
        if !queue.is_full {
            queue.waiting.push_back(kind);
        } else if queue.waiting.back() != Some(&ChangeKind::Overflow) {
            queue.waiting.push_back(ChangeKind::Overflow);
        }
    }

    fn every_queue(&self) -> Vec<Touch> {
        (0..self.queues.len()).map(Touch::Queue).collect()
    }

    pub(super) fn raise(&mut self) -> Barrier {
        let touches: Vec<Touch> = self.every_queue().into_iter().chain([Touch::Stamping]).collect();
        self.look("barrier", &touches);
        if !self.is_live || self.raised_live >= 2 || self.choices.choose(2) == 1 {
            self.clock += 1;
            self.monotonic += 1;
            self.note(|| "    the clock ticks before it".into());
        }
        self.raised += 1;
        if self.is_live {
            self.raised_live += 1;
            if self.raised_live == 1 {
                self.mark_instant();
            }
        }
        let name = BarrierName::parse(format!("barrier-{:x}-0", self.raised).as_bytes()).unwrap();
        (0..self.queues.len()).for_each(|queue| self.post(queue, ChangeKind::Barrier { name }));
        self.awaited = Some(name);
        Barrier { name, ctime: at(self.clock) }
    }

    /// What comes out of the queues: of each nothing, all up to the barrier that is awaited, or all.
    pub(super) fn drain(&mut self) -> Vec<Change> {
        // Each new name is looked at as it comes out.
        let touches: Vec<Touch> = self.every_queue().into_iter().chain([Touch::Sight]).collect();
        self.look("drain", &touches);
        let awaited = self.awaited.map(|name| ChangeKind::Barrier { name });
        let all: Vec<usize> = self.queues.iter().map(|queue| queue.waiting.len()).collect();
        let up_to = |queue: &Queue| queue.waiting.iter().position(|kind| Some(kind) == awaited.as_ref());
        let least: Vec<usize> =
            self.queues.iter().map(|queue| up_to(queue).map_or(queue.waiting.len(), |at| at + 1)).collect();
        let mut ways = vec![all];
        let single = (0..least.len()).map(|queue| {
            let mut way = vec![0; least.len()];
            way[queue] = least[queue];
            way
        });
        for way in [least.clone()].into_iter().chain(single) {
            if !ways.contains(&way) && way.iter().any(|count| *count > 0) {
                ways.push(way);
            }
        }
        let chosen = if self.is_live { self.choices.choose(ways.len()) } else { 0 };
        let mut changes = Vec::new();
        for (number, count) in ways[chosen].iter().enumerate() {
            let queue = &mut self.queues[number];
            let source = SourceId(u8::try_from(number).unwrap());
            changes.extend(queue.waiting.drain(..*count).map(|kind| Change { source, kind }));
            queue.is_full &= !queue.waiting.is_empty();
        }
        for change in &mut changes {
            if let ChangeKind::Appeared { path, directory: false, seen }
            | ChangeKind::MovedTo { path, directory: Some(false), seen, .. } = &mut change.kind
            {
                *seen = self.resolve(ROOT, path).0.map(|ino| self.stat(ino).inode);
            }
        }
        self.note(|| format!("    {changes:?}"));
        changes
    }

    /// The writers do what is left.
    pub(super) fn run_out(&mut self) {
        self.is_live = false;
        for writer in 0..self.writers.len() {
            while self.writers[writer].call < self.writers[writer].calls.len() {
                self.step(writer);
            }
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    /// What is at `path` from `base` on, and what the way there has in common with steps.
    pub(super) fn resolve(&self, base: Ino, path: &RelPath) -> (Option<Ino>, Vec<Touch>) {
        let (mut ino, mut touches) = (Some(base), Vec::new());
        for name in path.components() {
            let Some(directory) = ino else { break };
            let name = String::from_utf8(name.as_bytes().to_vec()).unwrap();
            touches.push(Touch::Name(directory, name.clone()));
            ino = self.names.get(&(directory, name)).copied();
        }
        touches.extend(ino.map(Touch::Inode));
        (ino, touches)
    }

    pub(super) fn stat(&self, ino: Ino) -> Stat {
        let node = &self.nodes[&ino];
        let names = self.names.values().filter(|named| **named == ino).count();
        let names = names - usize::from(self.uncounted.contains(&ino));
        let (what, nlink) = match node.cells {
            Some(_) => (FileType::File, u32::try_from(names).unwrap()),
            None => (FileType::Directory, 2),
        };
        Stat {
            what,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: node.times,
            size: node.cells.as_ref().map_or(0, |cells| (cells.len() * CELL) as u64),
            blocks_512: 8,
            inode: Inode { id: id(ino), nlink, ctime: node.times, btime: Some(node.born) },
            mount_id: 1,
        }
    }

    pub(super) fn cell(&self, ino: Ino, index: usize) -> Option<u8> {
        self.nodes[&ino].cells.as_ref().and_then(|cells| cells.get(index).copied())
    }

    pub(super) fn list(&self, directory: Ino) -> Vec<Name> {
        let here = self.names.keys().filter(|(above, _)| *above == directory);
        here.map(|(_, name)| Name::parse(name.as_bytes()).unwrap()).collect()
    }

    pub(super) fn watch(&mut self, directory: Ino, path: &RelPath) {
        self.look("watch", &[Touch::Queue(self.queue_of(directory))]);
        self.watched.insert(directory, path.clone());
    }

    pub(super) fn unwatch(&mut self, path: &RelPath) {
        self.look("unwatch", &self.every_queue());
        self.watched.retain(|_, watched| !watched.is_within(path));
    }

    pub(super) fn watch_inode(&mut self, id: InodeId, is_watched: bool) {
        self.look("watch inode", &[Touch::Queue(0)]);
        if is_watched {
            self.inodes.insert(id.ino);
        } else {
            self.inodes.remove(&id.ino);
        }
    }

    pub(super) fn restart(&mut self, source: SourceId) {
        let number = usize::from(source.0);
        self.look("restart", &[Touch::Queue(number)]);
        self.queues[number] = Queue::default();
        let count = self.queues.len();
        self.watched.retain(|directory, _| usize::try_from(*directory).unwrap() % count != number);
        if number == 0 {
            self.inodes.clear();
        }
    }

    pub(super) fn watches(&self) -> usize {
        self.watched.len() + self.inodes.len()
    }

    pub(super) fn sources(&self) -> usize {
        self.queues.len()
    }
}

fn id(ino: Ino) -> InodeId {
    InodeId { dev: 1, ino }
}

/// The change of a name, at its path.
fn within(directory: &RelPath, kind: ChangeKind) -> ChangeKind {
    let full = |path: RelPath| directory.join(&path.components().next().unwrap());
    match kind {
        ChangeKind::Touched { path, written } => ChangeKind::Touched { path: full(path), written },
        ChangeKind::Appeared { path, directory, seen } => ChangeKind::Appeared { path: full(path), directory, seen },
        ChangeKind::Vanished { path, directory } => ChangeKind::Vanished { path: full(path), directory },
        ChangeKind::MovedFrom { path, cookie, directory } => {
            ChangeKind::MovedFrom { path: full(path), cookie, directory }
        }
        ChangeKind::MovedTo { path, cookie, directory, seen } => {
            ChangeKind::MovedTo { path: full(path), cookie, directory, seen }
        }
        other => other,
    }
}
