mod model;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::model::{Model, Steps, file, path};
use super::*;
use crate::thought::filter::{Filter, Preset};
use crate::thought::generation::{Action, Content, Operation, Payload, Section};
use crate::thought::store::MemoryStore;
use crate::thought::tree::{ApplyError, Arrived, Witness};
use crate::words::entry::{Body, Inode, InodeId, LinkId};

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

fn catch_up(near: &Tree<MemoryStore>, far: &Tree<MemoryStore>) -> CaughtUp {
    catch_up_by(&Filter::everything(), near, far)
}

/// Compares and emits; every created file must be supplied from what `contents` told, or be found by the far side.
fn catch_up_by(filter: &Filter, near: &Tree<MemoryStore>, far: &Tree<MemoryStore>) -> CaughtUp {
    let mut asked = Asked { tree: far, questions: Vec::new() };
    let mut emitter = Emitter::new(near, filter, Vec::new());
    let (mut told, mut needed, mut operations) = (Vec::new(), BTreeSet::new(), Vec::new());
    let root = (&far.root().entry, far.root().digest());
    differences(near, root, &mut asked, &mut |difference| {
        told.push(difference.path().clone());
        needed.extend(contents(&difference).and_then(Entry::content));
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
fn what_the_filter_leaves_out_is_forgotten_where_it_is_and_goes_with_a_directory_that_goes() {
    let (mut near, mut far) = (Model::new(), Model::new());
    near.add("kept", Body::Directory);
    for directory in ["kept", "kept/out", "gone", "gone/out"] {
        far.add(directory, Body::Directory);
    }
    for at in ["kept/out/x", "kept/extra", "gone/out/x", "out"] {
        far.add(at, file(1));
    }
    let filter = Filter::new(Preset::None, &["out".into()], &[]).unwrap();
    let (near, mut far) = (near.tree(), far.tree());
    let caught_up = catch_up_by(&filter, &near, &far);
    let told: Vec<String> = caught_up.operations.iter().map(|operation| format!("{:?}", operation.action)).collect();
    let expected = ["Forget out", "Forget kept/out", "Remove kept/extra", "Remove gone"];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (operation, expected) in caught_up.operations.iter().zip(expected) {
        let word = if matches!(operation.action, Action::Forget { .. }) { "Forget" } else { "Remove" };
        assert_eq!(format!("{word} {}", operation.action.path()), expected);
    }
    far.apply(&caught_up.operations, &mut Maker(100)).unwrap();
    assert_eq!(far.digest().unwrap(), near.root().digest());
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

/// The operations in short: what is done, and where.
fn said(near: &Model, far: &Model) -> Vec<String> {
    check(near, far);
    spoken(&catch_up(&near.tree(), &far.tree()).operations)
}

fn spoken(operations: &[Operation]) -> Vec<String> {
    operations.iter().map(|operation| format!("{:?} {}", operation.action.section(), operation.action.path())).collect()
}

#[test]
fn each_difference_becomes_the_least_operation_that_mends_it() {
    let mut far = Model::new();
    for at in ["gone", "gone/below", "was-file", "was-file-too"] {
        far.add(at, Body::Directory);
    }
    for at in ["gone/x", "gone/below/y", "kept", "moded", "rewritten", "was-file/z"] {
        far.add(at, file(3));
    }
    let mut near = far.clone();
    near.remove(&path("gone"));
    near.remove(&path("was-file"));
    near.add("was-file", file(1));
    near.remove(&path("kept"));
    near.add("kept", Body::Directory);
    near.add("kept/new", file(0));
    near.inode("moded").1 = 7;
    near.inode("was-file-too").1 = 7;
    near.inode("rewritten").0 = file(4);
    near.inodes.get_mut(&1).unwrap().1 = 7;
    let expected = [
        "Remove was-file",
        "Remove rewritten",
        "Remove kept",
        "Remove gone",
        "Create kept",
        "Create kept/new",
        "Create rewritten",
        "Create was-file",
        "Attributes .",
        "Attributes moded",
        "Attributes was-file-too",
    ];
    assert_eq!(said(&near, &far), expected);
}

#[test]
fn a_difference_at_one_name_of_a_linked_file_concerns_all_its_names() {
    let mut far = Model::new();
    far.add("b", file(3));
    far.link("b", "c");
    let mut near = far.clone();
    near.add("a", Body::Directory);
    near.link("b", "a/first");
    let expected = ["Remove c", "Remove b", "Create a", "Create a/first", "Link b", "Link c"];
    assert_eq!(said(&near, &far), expected);
    // The other way, one name of several goes: the others stay as they are, until only one is left.
    assert_eq!(said(&far, &near), ["Remove a"]);
    let mut single = far.clone();
    single.remove(&path("b"));
    assert_eq!(said(&single, &far), ["Remove c", "Remove b", "Create c"]);
    let other_id = Model { links: 9, ..far.clone() };
    assert_eq!(said(&other_id, &far), ["Remove c", "Remove b", "Create b", "Link c"]);
}

#[test]
fn content_is_needed_unless_the_far_side_has_it_there_and_can_find_it() {
    let row = |number, link: Option<u64>| {
        let mut model = Model::new();
        model.add("f", file(number));
        let mut row = model.row(&path("f"));
        row.entry.link = link.map(LinkId);
        row
    };
    let at = path("f");
    let needed = |near: (u64, Option<u64>), far: (u64, Option<u64>)| {
        let (row, far) = (row(near.0, near.1), row(far.0, far.1).entry);
        contents(&Difference::Changed { path: &at, row: &row, far: &far }).map(Entry::size)
    };
    assert_eq!(needed((1, None), (1, None)), None);
    assert_eq!(needed((5, None), (5, Some(1))), None);
    assert_eq!(needed((1, None), (1, Some(1))), Some(1500));
    assert_eq!(needed((1, Some(1)), (1, Some(1))), Some(1500));
    assert_eq!(needed((5, None), (1, None)), Some(7500));
    assert_eq!(needed((0, None), (1, None)), None);
    let row = row(2, None);
    assert_eq!(contents(&Difference::Missing { path: &at, row: &row }), Some(&row.entry));
    assert_eq!(row.entry.size(), 3000);
    assert_eq!(contents(&Difference::Extra { path: &at, entry: &row.entry }), None);
}

#[test]
fn what_is_created_waits_in_the_scratch_not_in_memory() {
    let mut tree = Tree::open(MemoryStore::default(), Model::new().row(&RelPath::root())).unwrap();
    let mut empty = Model::new();
    empty.add("f", file(1));
    let row = empty.row(&path("f"));
    for number in 0..10_000 {
        tree.attach(&path(&format!("{number:05}")), row.clone()).unwrap();
    }
    tree.digest().unwrap();
    let far = Model::new().tree();
    let everything = Filter::everything();
    let mut emitter = Emitter::new(&tree, &everything, Vec::new());
    let mut asked = Asked { tree: &far, questions: Vec::new() };
    let root = (&far.root().entry, far.root().digest());
    differences(&tree, root, &mut asked, &mut |difference| emitter.take(difference)).unwrap();
    assert_eq!(asked.questions.len(), 1);
    assert_eq!(emitter.in_memory(), 0);
    let mut count = 0;
    let mut sink = |_| {
        count += 1;
        Ok::<_, TreeError>(())
    };
    emitter.finish(&mut |_, _| Supply::Held, &mut sink).unwrap();
    assert_eq!(count, 10_000);
}

/// What a comparison of a tree with one file `f` comes to, when the far side answers `answer`.
fn answered(answer: Result<Vec<FarChild>, TreeError>) -> CompareError<TreeError, TreeError> {
    struct Once(Option<Result<Vec<FarChild>, TreeError>>);
    impl Far for Once {
        type Error = TreeError;
        fn directory(&mut self, path: &RelPath) -> Result<Vec<FarChild>, TreeError> {
            self.0.take().unwrap_or_else(|| Err(TreeError::Missing(path.clone())))
        }
    }
    let mut model = Model::new();
    model.add("f", file(1));
    let near = model.tree();
    let mut refuse = |difference: Difference<'_>| Err(TreeError::Occupied(difference.path().clone()));
    differences(&near, (&near.root().entry, Digest::default()), &mut Once(Some(answer)), &mut refuse).unwrap_err()
}

#[test]
fn a_comparison_ends_at_the_first_error_and_says_whose_it_is() {
    let entry = Model::new().row(&RelPath::root()).entry;
    let child = FarChild { name: Name::parse(b"g").unwrap(), entry, digest: Digest::default() };
    assert!(matches!(answered(Ok(vec![child.clone(), child])), CompareError::Twice(at) if at == path("g")));
    assert!(matches!(answered(Err(TreeError::Row)), CompareError::Far { path, .. } if path.is_root()));
    assert!(matches!(answered(Ok(Vec::new())), CompareError::Sink(TreeError::Occupied(at)) if at == path("f")));
    let mut near = Model::new().tree();
    near.attach(&path("f"), Model::new().row(&RelPath::root())).unwrap();
    let far = Model::new().tree();
    let mut asked = Asked { tree: &far, questions: Vec::new() };
    let root = (&far.root().entry, far.root().digest());
    let stale = differences(&near, root, &mut asked, &mut |_| Ok::<_, TreeError>(()));
    assert!(matches!(stale, Err(CompareError::Stale)));
}

#[test]
fn emitting_ends_at_the_first_error_and_at_a_damaged_record() {
    let near = Model::new().tree();
    let (missing, mut keep) = (path("gone"), |_: &RelPath, _: &Entry| Supply::Held);
    let everything = Filter::everything();
    let mut emitter = Emitter::new(&near, &everything, Vec::new());
    emitter.take(Difference::Extra { path: &missing, entry: &near.root().entry }).unwrap();
    let refused = emitter.finish(&mut keep, &mut |_| Err(TreeError::Row));
    assert!(matches!(refused, Err(EmitError::Sink(TreeError::Row))));
    let mut emitter = Emitter::new(&near, &everything, Vec::new());
    let row = Row { directory: None, ..near.root().clone() };
    ["a", "b"].into_iter().for_each(|at| emitter.take(Difference::Missing { path: &path(at), row: &row }).unwrap());
    let refused =
        emitter.finish(&mut keep, &mut |operation| if operation.id == 0 { Err(TreeError::Row) } else { Ok(()) });
    assert!(matches!(refused, Err(EmitError::Sink(TreeError::Row))));
    for record in [vec![], vec![0], vec![0, 255, 255], vec![1, 1]] {
        let damaged = Emitter::new(&near, &everything, vec![record]).finish(&mut keep, &mut |_| Ok::<_, TreeError>(()));
        assert!(matches!(damaged, Err(EmitError::Record)));
    }
}

#[test]
fn names_of_one_inode_that_were_read_at_different_instants_are_not_linked() {
    let mut model = Model::new();
    for (at, number) in [("x", 1), ("y", 2), ("z", 3)] {
        model.add(at, file(number));
    }
    let (mut near, mut far) = (Model::new().tree(), Model::new().tree());
    for (at, link) in [("x", Some(LinkId(7))), ("y", Some(LinkId(7))), ("z", None)] {
        let mut row = model.row(&path(at));
        row.entry.link = link;
        row.inode.id.ino = 7;
        near.attach(&path(at), row).unwrap();
    }
    far.attach(&path("z"), model.row(&path("z"))).unwrap();
    near.digest().unwrap();
    far.digest().unwrap();
    let operations = catch_up(&near, &far).operations;
    assert_eq!(spoken(&operations), ["Create x", "Create y"]);
    far.apply(&operations, &mut Maker(0)).unwrap();
    assert_eq!(far.digest().unwrap(), near.root().digest());
}
