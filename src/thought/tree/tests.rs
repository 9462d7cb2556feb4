use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::thought::generation::{Action, Content, Operation};
use crate::thought::store::{MemoryStore, Pair, ReadStore, Store, Table};
use crate::words::entry::{Body, Digest, Entry, Inode, Proof, Timestamp, Xattrs};

/// A store that counts how often it is asked for a value, and how many pairs its scans found.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    gets: AtomicUsize,
    scanned: AtomicUsize,
}

impl ReadStore for Counting {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.store.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.store.scan(table, prefix, after, limit)?;
        self.scanned.fetch_add(pairs.len(), Ordering::Relaxed);
        Ok(pairs)
    }
}

impl Store for Counting {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.store.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.store.delete(table, key)
    }
}

struct Blind;

impl Witness for Blind {
    fn step(&mut self, _: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        Ok(None)
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn entry(body: Body) -> Entry {
    Entry { body, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Xattrs::default(), link: None }
}

fn file(content: &[u8]) -> Entry {
    entry(Body::File { size: content.len() as u64, digest: Digest::of(content), proof: Proof::Hashed })
}

fn tree<S: Store>(store: S) -> Tree<S> {
    Tree::open(store, Row::new(entry(Body::Directory), Inode::default())).unwrap()
}

fn apply<S: Store>(tree: &mut Tree<S>, actions: Vec<Action>) -> Result<u64, ApplyError> {
    let number = |(id, action)| Operation { id: u32::try_from(id).unwrap(), action, payload: None };
    tree.apply(&actions.into_iter().enumerate().map(number).collect::<Vec<_>>(), &mut Blind)
}

fn create(at: &str, entry: Entry) -> Action {
    Action::Create { path: path(at), entry, content: Content::None, sparse: false }
}

#[test]
fn a_link_to_another_content_than_it_claims_is_refused() {
    for (claimed, is_good) in [("x", true), ("y", false)] {
        let link = Action::Link { path: path("b"), target: path("a"), entry: file(claimed.as_bytes()) };
        let applied = apply(&mut tree(MemoryStore::default()), vec![create("a", file(b"x")), link]);
        assert_eq!(applied.is_ok(), is_good, "{applied:?}");
    }
}

#[test]
fn siblings_are_looked_up_without_going_down_from_the_root_each() {
    let mut tree = tree(Counting::default());
    let directory = || entry(Body::Directory);
    let mut actions = vec![create("a", directory()), create("a/b", directory()), create("a/b/c", directory())];
    actions.extend((0..100).map(|index| create(&format!("a/b/c/{index:03}"), file(b""))));
    apply(&mut tree, actions).unwrap();
    tree.store().gets.store(0, Ordering::Relaxed);
    for index in 0..100 {
        assert!(tree.row(&path(&format!("a/b/c/{index:03}"))).unwrap().is_some());
    }
    let gets = tree.store().gets.load(Ordering::Relaxed);
    assert!(gets <= 103, "{gets} reads for 100 siblings");
}

#[test]
fn a_change_in_a_directory_of_very_many_costs_one_bucket_of_them() {
    const MANY: usize = 20_000;
    let mut tree = tree(Counting::default());
    let mut actions = vec![create("d", entry(Body::Directory))];
    actions.extend((0..MANY).map(|index| create(&format!("d/{index:05}"), file(b""))));
    apply(&mut tree, actions).unwrap();
    let before = tree.digest().unwrap();
    tree.store().gets.store(0, Ordering::Relaxed);
    tree.store().scanned.store(0, Ordering::Relaxed);
    apply(&mut tree, vec![Action::Attributes { path: path("d/07777"), entry: Entry { mode: 0o600, ..file(b"") } }])
        .unwrap();
    assert_ne!(tree.digest().unwrap(), before);
    let (gets, scanned) = (tree.store().gets.load(Ordering::Relaxed), tree.store().scanned.load(Ordering::Relaxed));
    // All 256 bucket digests, and the rows of the one bucket.
    assert!(scanned <= 256 + 2 * MANY / 256 && gets <= 20, "{scanned} pairs and {gets} values read");
}

#[test]
fn what_was_looked_up_is_forgotten_when_a_directory_goes_or_moves() {
    let mut tree = tree(MemoryStore::default());
    let directory = || entry(Body::Directory);
    let actions = vec![create("a", directory()), create("a/b", directory()), create("a/b/file", file(b"x"))];
    apply(&mut tree, actions).unwrap();
    assert!(tree.row(&path("a/b/file")).unwrap().is_some());
    apply(&mut tree, vec![Action::Rename { from: path("a"), to: path("z") }]).unwrap();
    assert!(tree.row(&path("a/b/file")).unwrap().is_none());
    assert!(tree.row(&path("z/b/file")).unwrap().is_some());
    apply(&mut tree, vec![Action::Remove { path: path("z/b") }, create("z/b", directory())]).unwrap();
    assert!(tree.row(&path("z/b/file")).unwrap().is_none());
}

fn sized(size: u64) -> Row {
    Row::new(entry(Body::File { size, digest: Digest::default(), proof: Proof::Hashed }), Inode::default())
}

#[test]
fn a_tree_counts_what_it_holds_through_every_change() {
    let mut tree = Tree::open(MemoryStore::default(), Row::new(entry(Body::Directory), Inode::default())).unwrap();
    let counts = |tree: &Tree<MemoryStore>| (tree.counts().entries, tree.counts().bytes);
    assert_eq!(counts(&tree), (0, 0));
    for (at, row) in [
        ("a", Row::new(entry(Body::Directory), Inode::default())),
        ("a/b", Row::new(entry(Body::Directory), Inode::default())),
        ("a/b/c", sized(5)),
        ("a/d", sized(7)),
    ] {
        tree.attach(&path(at), row).unwrap();
    }
    assert_eq!(counts(&tree), (4, 12));
    tree.update(&path("a/d"), sized(70)).unwrap();
    assert_eq!(counts(&tree), (4, 75));
    let moved = tree.detach(&path("a/b")).unwrap();
    tree.attach(&path("e"), moved).unwrap();
    assert_eq!(counts(&tree), (4, 75));
    tree.digest().unwrap();
    let again = Tree::open(tree.store().clone(), Row::new(entry(Body::Directory), Inode::default())).unwrap();
    assert_eq!(counts(&again), (4, 75));
    let gone = tree.detach(&path("e")).unwrap();
    assert_eq!(tree.forget(&gone, &mut |_| {}).unwrap(), 2);
    assert_eq!(counts(&tree), (2, 70));
    // An index that does not say it is counted.
    tree.digest().unwrap();
    tree.store_mut().delete(Table::Facts, COUNTS_FACT).unwrap();
    let counted = Tree::view(tree.store().clone()).unwrap().unwrap();
    assert_eq!(counts(&counted), (2, 70));
}
