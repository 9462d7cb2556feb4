use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::thought::generation::{Action, Content, Operation, Payload, Section};
use crate::thought::store::MemoryStore;
use crate::thought::tree::{ApplyError, Arrived, Witness};
use crate::words::entry::{Body, Inode, InodeId, LinkId, Proof, Timestamp, Xattrs};

/// A file system of names, inodes and contents. Inode numbers are given again, lowest first, as file systems do.
#[derive(Clone, Debug)]
struct Model {
    names: BTreeMap<RelPath, u64>,
    inodes: BTreeMap<u64, (Body, i64)>,
    /// What link ids are counted from.
    links: u64,
}

type Steps = Vec<(u8, usize, usize, u8)>;

impl Model {
    fn new() -> Self {
        let root = (RelPath::root(), 1);
        Self { names: [root].into(), inodes: [(1, (Body::Directory, 0))].into(), links: 0 }
    }

    fn after(mut self, steps: &Steps) -> Self {
        steps.iter().for_each(|&(kind, pick, directory, name)| self.step(kind, pick, directory, name));
        self
    }

    fn is_directory(&self, path: &RelPath) -> bool {
        self.names.get(path).is_some_and(|ino| self.inodes[ino].0 == Body::Directory)
    }

    fn add(&mut self, path: &str, body: Body) {
        self.put(self::path(path), body);
    }

    fn put(&mut self, path: RelPath, body: Body) {
        let free = (1..).find(|ino| !self.names.values().any(|used| used == ino)).unwrap();
        self.names.insert(path, free);
        self.inodes.insert(free, (body, 0));
    }

    fn link(&mut self, from: &str, to: &str) {
        self.names.insert(path(to), self.names[&path(from)]);
    }

    fn inode(&mut self, at: &str) -> &mut (Body, i64) {
        self.inodes.get_mut(&self.names[&path(at)]).unwrap()
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
    fn step(&mut self, kind: u8, pick: usize, directory: usize, name: u8) {
        let directories: Vec<_> = self.names.keys().filter(|path| self.is_directory(path)).cloned().collect();
        let to = directories[directory % directories.len()].join(&Name::parse(&[b'a' + name % 5]).unwrap());
        let from = self.names.keys().nth(pick % self.names.len()).unwrap().clone();
        let is_usable = !from.is_root() && !to.is_within(&from) && !from.is_within(&to);
        let is_link = is_usable && !self.is_directory(&from);
        match kind % 12 {
            0 | 1 if !self.names.contains_key(&to) => self.put(to, Body::Directory),
            2 | 3 => {
                self.remove(&to);
                self.put(to, file(pick as u64 % 7));
            }
            4 => {
                self.remove(&to);
                self.put(to, Body::Symlink { target: [name % 3].into() });
            }
            5 if !from.is_root() => self.remove(&from),
            6 if is_usable => self.rename(&from, &to),
            7 if matches!(self.inodes[&self.names[&from]].0, Body::File { .. }) => {
                let ino = self.names[&from];
                self.inodes.insert(ino, (file(u64::from(name) % 7), i64::from(name)));
            }
            8..=10 if is_link && !self.names.contains_key(&to) => {
                self.names.insert(to, self.names[&from]);
            }
            11 => self.inodes.get_mut(&self.names[&from]).unwrap().1 += 1,
            _ => {}
        }
    }

    fn row(&self, path: &RelPath) -> Row {
        let ino = self.names[path];
        let (body, mtime) = self.inodes[&ino].clone();
        let nlink = u32::try_from(self.names.values().filter(|other| **other == ino).count()).unwrap();
        let link = (nlink > 1).then_some(LinkId(self.links + ino));
        let mtime = Timestamp { seconds: mtime, nanoseconds: 0 };
        let entry = Entry { link, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Xattrs::default(), body };
        Row::new(entry, Inode { id: InodeId { dev: 1, ino }, nlink, ..Inode::default() })
    }

    fn tree(&self) -> Tree<MemoryStore> {
        let mut tree = Tree::open(MemoryStore::default(), self.row(&RelPath::root())).unwrap();
        for path in self.names.keys().filter(|path| !path.is_root()) {
            tree.attach(path, self.row(path)).unwrap();
        }
        tree.digest().unwrap();
        tree
    }
}

/// Lengths on both sides of [`CONTENT_LOOKUP_BYTES`]; number 0 is empty.
fn file(number: u64) -> Body {
    Body::File { size: number * 1500, digest: Digest::of(&number.to_le_bytes()), proof: Proof::Hashed }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// A far tree that notes what it is asked and answers in an order of its own.
struct Asked<'a> {
    tree: &'a Tree<MemoryStore>,
    questions: Vec<RelPath>,
}

impl Far for Asked<'_> {
    type Error = TreeError;

    fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, TreeError> {
        self.questions.push(path.clone());
        let directory = self.tree.directory(path)?.ok_or_else(|| TreeError::Missing(path.clone()))?;
        let mut children = Vec::new();
        self.tree.for_children::<TreeError>(directory, |name, row| {
            children.push(FarChild { name, digest: row.digest(), entry: row.entry });
            Ok(())
        })?;
        Ok(children)
    }
}

/// Gives every created entry an inode of its own.
struct Maker(u64);

impl Witness for Maker {
    fn step(&mut self, operation: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        self.0 += 1;
        let inode = Inode { id: InodeId { dev: 2, ino: self.0 }, ..Inode::default() };
        Ok(matches!(operation.action, Action::Create { .. }).then_some(Arrived { inode, memory: None }))
    }
}

struct CaughtUp {
    operations: Vec<Operation>,
    questions: Vec<RelPath>,
    told: Vec<RelPath>,
}

/// Compares and emits; every created file must be supplied from what `contents` told, or be found by the far side.
fn catch_up(near: &Tree<MemoryStore>, far: &Tree<MemoryStore>) -> CaughtUp {
    let mut asked = Asked { tree: far, questions: Vec::new() };
    let mut emitter = Emitter::new(near, Vec::new());
    let (mut told, mut needed, mut operations) = (Vec::new(), BTreeSet::new(), Vec::new());
    let root = (&far.root().entry, far.root().digest());
    differences(near, root, &mut asked, &mut |difference| {
        told.push(difference.path().clone());
        needed.extend(contents(&difference).map(|(digest, _)| digest));
        emitter.take(difference)
    })
    .unwrap();
    let mut supply = |_: &RelPath, entry: &Entry| {
        let digest = entry.content().unwrap();
        if needed.contains(&digest) {
            let payload = Payload { length: 1, unpacked: entry.size() };
            return Supply::Whole { payload, sparse: false };
        }
        assert!(!far.holders(digest, 1).unwrap().is_empty(), "the far side cannot find {entry:?}");
        Supply::Held
    };
    let mut sink = |operation| {
        operations.push(operation);
        Ok::<_, TreeError>(())
    };
    let count = emitter.finish(&mut supply, &mut sink).unwrap();
    assert_eq!(count, operations.len() as u64);
    CaughtUp { operations, questions: asked.questions, told }
}

fn content(tree: &Tree<MemoryStore>) -> BTreeMap<RelPath, Row> {
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
        all.insert(path, row);
    }
    all
}

fn entries(tree: &Tree<MemoryStore>) -> BTreeMap<RelPath, Entry> {
    content(tree).into_iter().map(|(path, row)| (path, row.entry)).collect()
}

/// The names of each inode that is no directory.
fn groups(tree: &Tree<MemoryStore>) -> BTreeSet<Vec<RelPath>> {
    let mut groups: BTreeMap<InodeId, Vec<RelPath>> = BTreeMap::new();
    for (path, row) in content(tree).into_iter().filter(|(_, row)| row.directory.is_none()) {
        groups.entry(row.inode.id).or_default().push(path);
    }
    groups.into_values().collect()
}

fn invariant_sections_are_in_order(operations: &[Operation]) {
    for (operation, id) in operations.iter().zip(0..) {
        assert_eq!(operation.id, id);
        let has_payload = matches!(operation.action, Action::Create { content: Content::Whole, .. });
        assert_eq!(operation.payload.is_some(), has_payload);
    }
    for pair in operations.windows(2) {
        let [a, b] = pair else { continue };
        let (first, second) = (a.action.section(), b.action.section());
        let rises = match first {
            _ if first != second => first < second,
            Section::Remove => a.action.path() > b.action.path(),
            _ => a.action.path() < b.action.path(),
        };
        assert!(rises, "{a:?} before {b:?}");
    }
}

/// Nothing is removed twice, and nothing is touched that is the same on both sides, but for other names of an inode.
fn invariant_nothing_is_done_in_vain(operations: &[Operation], near: &Model, far: &Model) {
    let removed: Vec<_> = operations.iter().filter_map(|operation| operation.action.taken()).collect();
    for path in &removed {
        assert!(removed.iter().all(|other| path == other || !path.is_within(other)), "{path} goes twice");
    }
    for path in operations.iter().map(|operation| operation.action.path()).filter(|at| near.names.contains_key(at)) {
        let entry = near.row(path).entry;
        let is_new = !far.names.contains_key(path) || far.row(path).entry != entry;
        assert!(is_new || entry.link.is_some(), "{path} was right");
    }
}

fn check(near: &Model, far: &Model) {
    let (expected, mut tree) = (near.tree(), far.tree());
    let caught_up = catch_up(&expected, &tree);
    let operations = caught_up.operations;
    invariant_sections_are_in_order(&operations);
    invariant_nothing_is_done_in_vain(&operations, near, far);
    assert!(caught_up.told.is_sorted(), "{:?}", caught_up.told);
    tree.apply(&operations, &mut Maker(0)).unwrap();
    assert_eq!(entries(&tree), entries(&expected), "{operations:#?}");
    assert_eq!(groups(&tree), groups(&expected), "{operations:#?}");
    assert_eq!(tree.digest().unwrap(), expected.root().digest());
    assert!(catch_up(&expected, &tree).questions.is_empty());
}

fn steps(most: usize) -> impl Strategy<Value = Steps> {
    prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn catching_up_leads_from_an_older_tree_to_the_newer(before in steps(30), after in steps(20), other_ids in any::<bool>()) {
        let mut far = Model::new().after(&before);
        let near = far.clone().after(&after);
        far.links = if other_ids { 1000 } else { 0 };
        check(&near, &far);
    }

    #[test]
    fn catching_up_leads_from_any_tree_to_any_other(near in steps(40), far in steps(40), ids in 0..3_u64) {
        check(&Model::new().after(&near), &Model { links: ids, ..Model::new().after(&far) });
    }
}

/// `depth` directories in each other, with a sibling at each level and a file at the bottom.
fn deep(depth: usize) -> (Model, String) {
    let (mut model, mut at) = (Model::new(), String::from("d"));
    for _ in 0..depth {
        model.add(&at, Body::Directory);
        model.add(&format!("{at}-beside"), Body::Directory);
        model.add(&format!("{at}-beside/x"), file(1));
        at.push_str("/d");
    }
    model.add(&at, file(2));
    (model, at)
}

#[test]
fn equal_trees_ask_nothing() {
    let (model, _) = deep(5);
    let caught_up = catch_up(&model.tree(), &model.tree());
    assert!(caught_up.questions.is_empty() && caught_up.operations.is_empty());
}

#[test]
fn one_changed_file_asks_for_the_directories_on_its_path_only() {
    let (far, at) = deep(7);
    let mut near = far.clone();
    near.inode(&at).0 = file(3);
    let caught_up = catch_up(&near.tree(), &far.tree());
    assert_eq!(caught_up.questions.len(), 8, "{:?}", caught_up.questions);
    assert_eq!(caught_up.told, [path(&at)]);
    check(&near, &far);
}
