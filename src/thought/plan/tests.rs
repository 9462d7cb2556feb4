use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::thought::generation::Section;
use crate::thought::store::MemoryStore;
use crate::thought::tree::{ApplyError, Arrived, Witness};
use crate::words::entry::{Body, Digest, LinkId, Proof, Timestamp};
use crate::words::path::Name;

/// A file system of names, inodes and contents, small enough to be compared whole.
#[derive(Clone, Default, Debug)]
pub(super) struct Model {
    names: BTreeMap<RelPath, u64>,
    inodes: BTreeMap<u64, (Body, i64)>,
    next: u64,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self { next: 2, ..Self::default() };
        model.names.insert(RelPath::root(), 1);
        model.inodes.insert(1, (Body::Directory, 0));
        model
    }

    fn is_directory(&self, path: &RelPath) -> bool {
        self.names.get(path).is_some_and(|ino| self.inodes[ino].0 == Body::Directory)
    }

    fn add(&mut self, path: RelPath, body: Body) {
        self.names.insert(path, self.next);
        self.inodes.insert(self.next, (body, 0));
        self.next += 1;
    }

    fn remove(&mut self, path: &RelPath) {
        self.names.retain(|name, _| !name.is_within(path));
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        let moved: Vec<_> =
            self.names.iter().filter(|(name, _)| name.is_within(from)).map(|(n, i)| (n.clone(), *i)).collect();
        self.remove(to);
        self.remove(from);
        for (name, ino) in moved {
            self.names.insert(name.rebase(from, to).unwrap(), ino);
        }
    }

    /// One random step; steps that make no sense do nothing.
    pub(super) fn step(&mut self, kind: u8, pick: usize, directory: usize, name: u8) {
        let directories: Vec<_> = self.names.keys().filter(|path| self.is_directory(path)).cloned().collect();
        let to = directories[directory % directories.len()].join(&Name::parse(&[b'a' + name % 5]).unwrap());
        let from = self.names.keys().nth(pick % self.names.len()).unwrap().clone();
        let is_usable = !from.is_root() && !to.is_within(&from) && !from.is_within(&to);
        match kind % 8 {
            0 if !self.names.contains_key(&to) => self.add(to, Body::Directory),
            1 if !self.is_directory(&to) => {
                self.remove(&to);
                self.add(to, file(pick as u64));
            }
            2 if !from.is_root() => self.remove(&from),
            3 | 4 if is_usable => self.rename(&from, &to),
            5 if !self.is_directory(&from) => {
                let ino = self.names[&from];
                self.inodes.insert(ino, (file(1000 + u64::from(name)), i64::from(name)));
            }
            6 if is_usable && !self.is_directory(&from) && !self.names.contains_key(&to) => {
                let ino = self.names[&from];
                self.names.insert(to, ino);
            }
            7 => {
                let ino = self.names[&from];
                self.inodes.get_mut(&ino).unwrap().1 += 1;
            }
            _ => {}
        }
    }

    fn present(&self, path: &RelPath) -> Box<Present> {
        let ino = self.names[path];
        let (body, mtime) = self.inodes[&ino].clone();
        let nlink = self.names.values().filter(|other| **other == ino).count();
        let entry = Entry {
            link: (nlink > 1).then_some(LinkId(ino)),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp { seconds: mtime, nanoseconds: 0 },
            xattrs: crate::words::entry::Xattrs::default(),
            body,
        };
        let id = InodeId { dev: 1, ino };
        let inode = Inode { id, nlink: u32::try_from(nlink).unwrap(), ..Inode::default() };
        let encoded = match entry.body {
            Body::File { .. } => Encoded::New { content: Content::Whole, payload: None, sparse: false },
            _ => Encoded::Unchanged,
        };
        Box::new(Present { entry, inode, memory: None, encoded })
    }

    pub(super) fn paths(&self) -> Vec<RelPath> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn find(&self, path: &RelPath) -> Option<Box<Present>> {
        self.names.contains_key(path).then(|| self.present(path))
    }

    pub(super) fn tree(&self) -> Tree<MemoryStore> {
        let root = self.present(&RelPath::root());
        let mut tree = Tree::open(MemoryStore::default(), Row::new(root.entry, root.inode)).unwrap();
        for path in self.names.keys().filter(|path| !path.is_root()) {
            let present = self.present(path);
            tree.attach(path, Row::new(present.entry, present.inode)).unwrap();
        }
        tree
    }

    /// What is missing in directories that were elsewhere in `old`: a scan of a moved directory reports it.
    fn absences(&self, old: &Self) -> Vec<RelPath> {
        let mut absences = Vec::new();
        for (path, ino) in self.names.iter().filter(|(path, _)| self.is_directory(path)) {
            let Some((from, _)) = old.names.iter().find(|(_, known)| *known == ino) else { continue };
            for (child, _) in old.names.iter().filter(|(child, _)| child.parent().as_ref() == Some(from)) {
                let child = child.rebase(from, path).unwrap();
                if !self.names.contains_key(&child) {
                    absences.push(child);
                }
            }
        }
        absences
    }

    /// True if `path` needs no capture: nothing about it or about any directory above it is new since `old`.
    fn is_clean(&self, old: &Self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(here) = at {
            if self.names.get(&here) != old.names.get(&here) {
                return false;
            }
            at = here.parent();
        }
        !self.names.contains_key(path) || self.present(path) == old.present(path)
    }
}

fn file(number: u64) -> Body {
    Body::File { size: 1 + number, digest: Digest::of(&number.to_le_bytes()), proof: Proof::Hashed }
}

struct Captured<'a>(&'a Captures);

impl Witness for Captured<'_> {
    fn step(&mut self, operation: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        let found = self.0.get(operation.action.path()).and_then(Option::as_ref);
        Ok(found.map(|present| Arrived { inode: present.inode, memory: None }))
    }
}

fn content(tree: &Tree<MemoryStore>) -> BTreeMap<RelPath, (Entry, InodeId)> {
    let mut all = BTreeMap::new();
    let mut below = vec![(RelPath::root(), tree.root().clone())];
    while let Some((path, row)) = below.pop() {
        if let Some(directory) = &row.directory {
            tree.for_children::<TreeError>(directory.id, |name, row| {
                below.push((path.join(&name), row));
                Ok(())
            })
            .unwrap();
        }
        all.insert(path, (row.entry, row.inode.id));
    }
    all
}

fn steps(tree: &Tree<MemoryStore>, new: &Model, captures: &mut Captures) -> Vec<Operation> {
    loop {
        match plan(tree, captures).unwrap() {
            Planned::Steps(steps) => return steps.into_iter().map(|step| step.operation).collect(),
            Planned::Incomplete(paths) => {
                for path in paths {
                    assert!(!captures.contains_key(&path), "asked twice for {path}");
                    let found = new.find(&path);
                    captures.insert(path, found);
                }
            }
        }
    }
}

fn check(old: &Model, new: &Model, thrifty: bool) {
    let mut tree = old.tree();
    let mut captures: Captures = BTreeMap::new();
    captures.extend(new.absences(old).into_iter().map(|path| (path, None)));
    for path in old.names.keys().chain(new.names.keys()) {
        if !(thrifty && new.is_clean(old, path)) {
            captures.insert(path.clone(), new.find(path));
        }
    }
    let operations = steps(&tree, new, &mut captures);
    tree.apply(&operations, &mut Captured(&captures)).unwrap();
    let mut expected = new.tree();
    assert_eq!(content(&tree), content(&expected), "{operations:#?}");
    assert_eq!(tree.digest().unwrap(), expected.digest().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_leads_from_any_tree_to_any_other(
        before in prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..30),
        after in prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..30),
        thrifty in any::<bool>(),
    ) {
        let mut old = Model::new();
        before.iter().for_each(|&(kind, pick, directory, name)| old.step(kind, pick, directory, name));
        let mut new = old.clone();
        after.iter().for_each(|&(kind, pick, directory, name)| new.step(kind, pick, directory, name));
        check(&old, &new, thrifty);
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn planned(old: &Model, new: &Model) -> Vec<Operation> {
    let tree = old.tree();
    let mut captures: Captures = BTreeMap::new();
    for path in old.names.keys().chain(new.names.keys()).filter(|path| !new.is_clean(old, path)) {
        captures.insert(path.clone(), new.find(path));
    }
    steps(&tree, new, &mut captures)
}

#[test]
fn a_renamed_directory_is_one_operation_whatever_is_below_it() {
    let mut old = Model::new();
    old.add(path("a"), Body::Directory);
    for index in 0..100 {
        old.add(path(&format!("a/{index}")), file(index));
    }
    let mut new = old.clone();
    new.rename(&path("a"), &path("b"));
    let operations = planned(&old, &new);
    assert_eq!(operations.len(), 1, "{operations:?}");
    assert_eq!(operations[0].action, Action::Rename { from: path("a"), to: path("b") });
}

#[test]
fn directories_that_swap_names_are_two_renames() {
    let mut old = Model::new();
    old.add(path("a"), Body::Directory);
    old.add(path("a/x"), file(1));
    old.add(path("b"), Body::Directory);
    let mut new = old.clone();
    new.rename(&path("a"), &path("c"));
    new.rename(&path("b"), &path("a"));
    new.rename(&path("c"), &path("b"));
    let operations = planned(&old, &new);
    assert!(operations.iter().all(|operation| operation.action.section() == Section::Rename), "{operations:?}");
    assert_eq!(operations.len(), 2);
}

#[test]
fn a_removed_directory_is_one_operation() {
    let mut old = Model::new();
    old.add(path("a"), Body::Directory);
    old.add(path("a/b"), Body::Directory);
    old.add(path("a/b/c"), file(1));
    let mut new = old.clone();
    new.remove(&path("a"));
    assert_eq!(planned(&old, &new).len(), 1);
}

#[test]
fn a_second_name_asks_for_the_first_which_nobody_reported() {
    let mut old = Model::new();
    old.add(path("a"), file(1));
    let mut new = old.clone();
    let ino = new.names[&path("a")];
    new.names.insert(path("b"), ino);
    let tree = old.tree();
    let captures = BTreeMap::from([(path("b"), Some(new.present(&path("b"))))]);
    assert_eq!(plan(&tree, &captures).unwrap(), Planned::Incomplete(BTreeSet::from([path("a")])));
}

#[test]
fn a_third_name_asks_for_the_others_though_their_entries_stay_as_they_were() {
    let mut old = Model::new();
    old.add(path("a"), file(1));
    let ino = old.names[&path("a")];
    old.names.insert(path("b"), ino);
    let mut new = old.clone();
    new.names.insert(path("c"), ino);
    let mut captures = BTreeMap::from([(path("c"), Some(new.present(&path("c"))))]);
    let tree = old.tree();
    assert_eq!(plan(&tree, &captures).unwrap(), Planned::Incomplete(BTreeSet::from([path("a"), path("b")])));
    let operations = steps(&tree, &new, &mut captures);
    let [Operation { action: Action::Link { path: name, target, .. }, .. }] = &operations[..] else {
        panic!("{operations:#?}")
    };
    assert_eq!((name, target), (&path("c"), &path("a")));
}

#[test]
fn an_edit_captured_under_one_name_is_made_whichever_name_comes_first() {
    let mut old = Model::new();
    old.add(path("a"), file(1));
    let ino = old.names[&path("a")];
    old.names.insert(path("b"), ino);
    let mut new = old.clone();
    new.inodes.insert(ino, (file(9), 0));
    let tree = old.tree();
    let mut captures: Captures = ["a", "b"].iter().map(|name| (path(name), Some(new.present(&path(name))))).collect();
    let spooled = Spooled { offset: 0, payload: Payload { length: 1, unpacked: 1 } };
    let edit = Encoded::Edit { old_length: 2, spans: Vec::new(), probes: None, payload: spooled };
    captures.get_mut(&path("b")).unwrap().as_mut().unwrap().encoded = edit;
    let operations = steps(&tree, &new, &mut captures);
    let edits = operations.iter().filter(|operation| matches!(operation.action, Action::Edit { .. }));
    assert_eq!(edits.count(), 1, "{operations:#?}");
}

#[test]
fn an_inode_number_that_was_given_to_another_file_during_the_capture_makes_no_link() {
    let mut old = Model::new();
    old.add(path("a"), file(1));
    let mut new = old.clone();
    new.add(path("b"), file(2));
    let mut captures: Captures = ["a", "b"].iter().map(|name| (path(name), Some(new.present(&path(name))))).collect();
    // `a` was captured and then removed; its number is that of `b` now.
    let number = captures[&path("a")].as_ref().unwrap().inode.id;
    let reused = captures.get_mut(&path("b")).unwrap().as_mut().unwrap();
    reused.inode.id = number;
    reused.inode.btime = Some(Timestamp { seconds: 9, nanoseconds: 0 });
    let again = Planned::Incomplete(BTreeSet::from([path("a"), path("b")]));
    assert_eq!(plan(&old.tree(), &captures).unwrap(), again);
    // The same of a file that was renamed between the captures of both names.
    captures.get_mut(&path("b")).unwrap().as_mut().unwrap().inode.btime = None;
    assert_eq!(plan(&old.tree(), &captures).unwrap(), again);
}

#[test]
fn what_a_path_takes_while_it_is_planned_is_little() {
    // A generation has up to forty thousand.
    assert!(size_of::<Present>() <= 288 && size_of::<Step>() <= 272 && size_of::<Made<'_>>() <= 16);
}
