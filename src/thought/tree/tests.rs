use super::*;
use crate::thought::store::MemoryStore;
use crate::words::entry::{Body, Proof, Timestamp, Xattrs};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn row(body: Body) -> Row {
    let entry =
        Entry { body, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Xattrs::default(), link: None };
    Row::new(entry, Inode::default())
}

fn file(size: u64) -> Row {
    row(Body::File { size, digest: Digest::default(), proof: Proof::Hashed })
}

#[test]
fn a_tree_counts_what_it_holds_through_every_change() {
    let mut tree = Tree::open(MemoryStore::default(), row(Body::Directory)).unwrap();
    let counts = |tree: &Tree<MemoryStore>| (tree.counts().entries, tree.counts().bytes);
    assert_eq!(counts(&tree), (0, 0));
    for (at, row) in [("a", row(Body::Directory)), ("a/b", row(Body::Directory)), ("a/b/c", file(5)), ("a/d", file(7))]
    {
        tree.attach(&path(at), row).unwrap();
    }
    assert_eq!(counts(&tree), (4, 12));
    tree.update(&path("a/d"), file(70)).unwrap();
    assert_eq!(counts(&tree), (4, 75));
    let moved = tree.detach(&path("a/b")).unwrap();
    tree.attach(&path("e"), moved).unwrap();
    assert_eq!(counts(&tree), (4, 75));
    tree.digest().unwrap();
    let again = Tree::open(tree.store().clone(), row(Body::Directory)).unwrap();
    assert_eq!(counts(&again), (4, 75));
    let gone = tree.detach(&path("e")).unwrap();
    assert_eq!(tree.forget(&gone).unwrap(), 2);
    assert_eq!(counts(&tree), (2, 70));
    // An index that does not say it is counted.
    tree.digest().unwrap();
    tree.store_mut().delete(Table::Facts, COUNTS_FACT).unwrap();
    let counted = Tree::view(tree.store().clone()).unwrap().unwrap();
    assert_eq!(counts(&counted), (2, 70));
}
