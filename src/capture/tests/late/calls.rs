//! Calls of a writer, the steps in which the kernel takes each, and what a home is after them.

use std::collections::BTreeMap;

use crate::watch::ChangeKind;
use crate::words::path::RelPath;

/// An inode by number. Those of directories are below 10: the home's root is 1.
pub(super) type Ino = u64;

pub(super) const ROOT: Ino = 1;
/// The directories that are there from the beginning.
pub(super) const DIRECTORIES: [(&str, Ino); 2] = [("p", 2), ("q", 3)];

/// One system call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Create(&'static str),
    MakeDirectory(&'static str),
    /// Cells from one on; beyond the end of the file it is an append.
    Write(&'static str, usize, &'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Remove(&'static str),
    /// To nothing; and unlike all else it is done before its time is set, as ext4 does it.
    Truncate(&'static str),
    /// The wall clock is set back, by somebody else.
    SetClock,
    /// From now on a queue has no room.
    Fill(usize),
}

/// What of a call is done at once.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Inodes are made, if they are new, and their times are set.
    Stamp(Vec<Ino>),
    /// One cell of a file.
    Put(Ino, usize, u8),
    /// No cell is left.
    Clear(Ino),
    /// A name is among the links of an inode no more, and in sight still.
    Uncount(Ino),
    /// Names come and go.
    Names(Vec<(Ino, String, Option<Ino>)>),
    /// The watch of a directory is told.
    Post(Ino, ChangeKind),
    /// The watch of an inode itself is told.
    PostInode(Ino),
    SetClock,
    Fill(usize),
}

/// A home, as it is between calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plain {
    pub(super) names: BTreeMap<String, Ino>,
    pub(super) files: BTreeMap<Ino, Vec<u8>>,
}

impl Plain {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let mut plain = Self::default();
        plain.names.extend(DIRECTORIES.map(|(path, ino)| (path.to_owned(), ino)));
        for (ino, (path, cells)) in (10..).zip(files) {
            plain.names.insert((*path).to_owned(), ino);
            plain.files.insert(ino, cells.bytes().collect());
        }
        plain
    }

    /// The directory and the name of `path`.
    pub(super) fn place(&self, path: &str) -> (Ino, String) {
        match path.rsplit_once('/') {
            Some((parent, name)) => (self.names[parent], name.to_owned()),
            None => (ROOT, path.to_owned()),
        }
    }

    /// What a call does, of a write only so many cells; `fresh` is the number of what it makes.
    pub(super) fn apply(&mut self, call: Call, fresh: Ino, cells: usize) {
        match call {
            Call::Create(path) => {
                self.names.insert(path.into(), fresh);
                self.files.insert(fresh, Vec::new());
            }
            Call::MakeDirectory(path) => drop(self.names.insert(path.into(), fresh)),
            Call::Write(path, at, text) => {
                let file = self.files.get_mut(&self.names[path]).unwrap();
                for (index, cell) in (at..).zip(text.bytes().take(cells)) {
                    match file.get_mut(index) {
                        Some(old) => *old = cell,
                        None => file.push(cell),
                    }
                }
            }
            Call::Rename(from, to) => {
                let below = format!("{from}/");
                let moves = |path: &String| *path == from || path.starts_with(&below);
                for path in self.names.keys().filter(|path| moves(path)).cloned().collect::<Vec<_>>() {
                    let ino = self.names.remove(&path).unwrap();
                    self.names.insert(path.replacen(from, to, 1), ino);
                }
            }
            Call::Link(from, to) => drop(self.names.insert(to.into(), self.names[from])),
            Call::Remove(path) => drop(self.names.remove(path)),
            Call::Truncate(path) => self.files.get_mut(&self.names[path]).unwrap().clear(),
            Call::SetClock | Call::Fill(_) => {}
        }
    }

    /// The steps of `call` in this home: its times first, then what it does, and then what is told of it, in the kernel's order.
    pub(super) fn steps(&self, call: Call, fresh: Ino) -> Vec<Step> {
        let at = |path: &str| RelPath::parse(path.rsplit('/').next().unwrap().as_bytes()).unwrap();
        let is_directory = |ino: Ino| !self.files.contains_key(&ino);
        match call {
            Call::Create(path) | Call::MakeDirectory(path) => {
                let (parent, name) = self.place(path);
                let directory = matches!(call, Call::MakeDirectory(_));
                vec![
                    Step::Stamp(vec![fresh, parent]),
                    Step::Names(vec![(parent, name, Some(fresh))]),
                    Step::Post(parent, ChangeKind::Appeared { path: at(path), directory, seen: None }),
                ]
            }
            Call::Write(path, first, cells) => {
                let ino = self.names[path];
                let puts = (first..).zip(cells.bytes()).map(|(index, cell)| Step::Put(ino, index, cell));
                let told = Step::Post(self.place(path).0, touched(at(path)));
                std::iter::once(Step::Stamp(vec![ino])).chain(puts).chain([told, Step::PostInode(ino)]).collect()
            }
            Call::Rename(from, to) => {
                let (ino, victim) = (self.names[from], self.names.get(to).copied());
                let ((old, old_name), (new, new_name)) = (self.place(from), self.place(to));
                let directory = Some(is_directory(ino));
                let cookie = u32::try_from(fresh).unwrap();
                let mut steps = vec![Step::Stamp([ino, old, new].into_iter().chain(victim).collect())];
                steps.extend(victim.map(Step::Uncount));
                steps.push(Step::Names(vec![(old, old_name, None), (new, new_name, Some(ino))]));
                steps.push(Step::Post(old, ChangeKind::MovedFrom { path: at(from), cookie, directory }));
                steps.push(Step::Post(new, ChangeKind::MovedTo { path: at(to), cookie, directory, seen: None }));
                steps.extend(victim.map(Step::PostInode));
                steps
            }
            Call::Link(from, to) => {
                let (ino, (parent, name)) = (self.names[from], self.place(to));
                vec![
                    Step::Stamp(vec![ino, parent]),
                    Step::Names(vec![(parent, name, Some(ino))]),
                    Step::PostInode(ino),
                    Step::Post(parent, ChangeKind::Appeared { path: at(to), directory: false, seen: None }),
                ]
            }
            Call::Remove(path) => {
                let (ino, (parent, name)) = (self.names[path], self.place(path));
                let directory = is_directory(ino);
                vec![
                    Step::Stamp(vec![ino, parent]),
                    Step::Uncount(ino),
                    Step::Names(vec![(parent, name, None)]),
                    Step::PostInode(ino),
                    Step::Post(parent, ChangeKind::Vanished { path: at(path), directory }),
                ]
            }
            Call::Truncate(path) => {
                let (ino, told) = (self.names[path], Step::Post(self.place(path).0, touched(at(path))));
                vec![Step::Clear(ino), Step::Stamp(vec![ino]), told, Step::PostInode(ino)]
            }
            Call::SetClock => vec![Step::SetClock],
            Call::Fill(queue) => vec![Step::Fill(queue)],
        }
    }

    /// What a person sees: each path with its content, and the first name of its inode.
    pub(super) fn seen(&self) -> BTreeMap<String, String> {
        let mut first: BTreeMap<Ino, &String> = BTreeMap::new();
        for (path, ino) in &self.names {
            first.entry(*ino).or_insert(path);
        }
        let describe = |(path, ino): (&String, &Ino)| {
            let what = match self.files.get(ino) {
                Some(cells) => format!("{} = {}", first[ino], String::from_utf8_lossy(cells)),
                None => "directory".into(),
            };
            (path.clone(), what)
        };
        self.names.iter().map(describe).collect()
    }
}

fn touched(path: RelPath) -> ChangeKind {
    ChangeKind::Touched { path, written: true }
}
