use super::*;
use crate::thought::generation::Content;
use crate::thought::store::MemoryStore;
use crate::thought::tree::Row;
use crate::words::entry::{Body, Digest, Entry, Inode, Proof, Xattrs};

fn options() -> FuseOptions {
    FuseOptions { share_percent: 50, ..FuseOptions::default() }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn entry(body: Body) -> Entry {
    Entry { body, mode: 0o755, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Xattrs::default(), link: None }
}

fn file() -> Entry {
    entry(Body::File { size: 0, digest: Digest::of(&[]), proof: Proof::Hashed })
}

/// A tree with these files, and the directories that they need.
fn tree(files: &[&str]) -> Tree<MemoryStore> {
    let row = |entry| Row::new(entry, Inode::default());
    let mut tree = Tree::open(MemoryStore::default(), row(entry(Body::Directory))).unwrap();
    for name in files {
        let mut above: Vec<RelPath> = std::iter::successors(path(name).parent(), RelPath::parent).collect();
        above.reverse();
        for directory in above.into_iter().filter(|directory| !directory.is_root()) {
            if tree.row(&directory).unwrap().is_none() {
                tree.attach(&directory, row(entry(Body::Directory))).unwrap();
            }
        }
        tree.attach(&path(name), row(file())).unwrap();
    }
    tree
}

fn remove(at: &str) -> Action {
    Action::Remove { path: path(at) }
}

fn rename(from: &str, to: &str) -> Action {
    Action::Rename { from: path(from), to: path(to) }
}

fn create(at: &str) -> Action {
    Action::Create { path: path(at), entry: file(), content: Content::None, sparse: false }
}

fn deleted(tree: &Tree<MemoryStore>, actions: &[Action]) -> u64 {
    let mut tally = Tally::default();
    actions.iter().for_each(|action| tally.take(tree, action).unwrap());
    tally.deleted()
}

#[test]
fn a_directory_counts_with_all_that_is_in_it_once() {
    let tree = tree(&["a/1", "a/2", "a/b/1", "a/b/2", "c/1", "d"]);
    assert_eq!(deleted(&tree, &[remove("a")]), 6);
    assert_eq!(deleted(&tree, &[remove("d"), remove("c/1"), remove("a/b")]), 5);
    assert_eq!(deleted(&tree, &[remove("c/1"), remove("a/b/2"), remove("a/b/1"), remove("a/b"), remove("a/2")]), 5);
    assert_eq!(deleted(&tree, &[remove("c"), remove("a/b/2"), remove("a/2"), remove("a")]), 8, "and no more");
}

#[test]
fn what_is_renamed_or_replaced_is_not_deleted() {
    let tree = tree(&["a/1", "a/2", "a/b/1", "a/b/2", "log", "log.1", "log.2"]);
    assert_eq!(deleted(&tree, &[rename("a", "e")]), 0);
    assert_eq!(deleted(&tree, &[rename("a/b", "b"), remove("a")]), 3, "what was moved out of it stays");
    assert_eq!(deleted(&tree, &[remove("a"), create("a")]), 5, "a file in the place of a directory");
    assert_eq!(deleted(&tree, &[remove("log"), create("log")]), 0);
    let rotated = [rename("log", "log.1"), rename("log.1", "log.2"), remove("log.2"), create("log")];
    assert_eq!(deleted(&tree, &rotated), 0, "as many as before");
}

#[test]
fn what_a_filter_leaves_out_from_now_on_is_no_loss() {
    let tree = tree(&["a/1", "a/2", "a/b/1", "c"]);
    let mut tally = Tally::default();
    for action in [Action::Forget { path: path("a/b") }, remove("a")] {
        tally.take(&tree, &action).unwrap();
    }
    assert_eq!((tally.deleted(), tally.forgotten()), (3, 2));
    let options = options();
    let mut fuse = Fuse::default();
    fuse.judge(options, (10_000, 10_000), 0, Timestamp::default()).unwrap();
    fuse.forget(8_000);
    assert_eq!(fuse.judge(options, (2_000, 1_999), 1, Timestamp::default()), Ok(()));
}

#[test]
fn too_much_is_many_entries_and_a_large_share_of_all() {
    let options = options();
    let judge = |before, deleted| {
        Fuse::default().judge(options, (before, before - deleted), deleted, Timestamp::default()).is_ok()
    };
    assert!(judge(1_000_000, 400_000), "many builds are discarded");
    assert!(judge(900, 900), "a small directory");
    assert!(judge(2_000, 1_000));
    assert!(!judge(2_000, 1_001));
    assert!(!judge(1_000_000, 500_001));
    let never = FuseOptions { share_percent: 100, ..options };
    assert_eq!(Fuse::default().judge(never, (5_000, 0), 5_000, Timestamp::default()), Ok(()));
}

#[test]
fn what_is_lost_little_by_little_within_the_window_is_lost_together() {
    let options = options();
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let mut fuse = Fuse::default();
    for step in 0..5 {
        let before = 10_000 - 1_000 * step;
        let judged = fuse.judge(options, (before, before - 1_000), 1_000, at(step.try_into().unwrap()));
        assert_eq!(judged, Ok(()), "{step}");
    }
    let blown = Blown { lost: 6_000, of: 10_000, within_window: true };
    assert_eq!(fuse.judge(options, (5_000, 4_000), 1_000, at(9)), Err(blown));
    assert_eq!(fuse.judge(options, (5_000, 4_000), 1_000, at(10)), Err(blown), "asked again, it says the same");
    let bytes = postcard::to_allocvec(&fuse).unwrap();
    let mut again: Fuse = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(again.judge(options, (5_000, 4_000), 1_000, at(11)), Err(blown), "also after a restart");
    assert_eq!(again.judge(options, (5_000, 5_010), 0, at(12)), Ok(()), "what deletes nothing is let through");
    fuse.release();
    assert_eq!(fuse.judge(options, (5_000, 4_000), 1_000, at(12)), Ok(()));
    let mut slow = Fuse::default();
    for step in 0..9 {
        let before = 10_000 - 1_000 * step;
        let judged = slow.judge(options, (before, before - 1_000), 1_000, at(601 * i64::try_from(step).unwrap()));
        assert_eq!(judged, Ok(()), "over hours it is the way of things");
    }
}

#[test]
fn files_that_come_and_go_are_no_loss() {
    let options = options();
    let mut fuse = Fuse::default();
    for second in 0..500 {
        let now = Timestamp { seconds: second, nanoseconds: 0 };
        assert_eq!(fuse.judge(options, (2_000, 2_300), 0, now), Ok(()));
        assert_eq!(fuse.judge(options, (2_300, 2_000), 300, now), Ok(()));
    }
}
