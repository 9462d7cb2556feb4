//! The primary: a directory, captured whole each time, and the tree of what was captured last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{HOME, Replica};
use crate::capture::{Captured, Capturer, How};
use crate::fs::{Root, XattrPolicy};
use crate::spool::Spool;
use crate::thought::delta::ReadAt;
use crate::thought::filter::Filter;
use crate::thought::generation::{Action, Header, Joint, NamedPaths, Operation, OperationsDigest, Quality};
use crate::thought::plan::{Captures, Planned, Step, plan};
use crate::thought::store::MemoryStore;
use crate::thought::tree::{ApplyError, Arrived, Row, Tree, TreeError, Witness};
use crate::words::entry::{Digest, InodeId, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, Position, ReignId};

/// A generation as it is shipped.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) header: Header,
    pub(crate) operations: Vec<(Operation, Option<Vec<u8>>)>,
}

impl Generation {
    /// Makes the header fit operations that a test changed.
    pub(crate) fn sealed(mut self) -> Self {
        let mut digest = OperationsDigest::default();
        self.operations.iter().for_each(|(operation, _)| digest.update(&operation.encode()));
        self.header.operations = self.operations.len() as u64;
        self.header.operations_digest = digest.finish();
        self
    }
}

pub(crate) struct Primary {
    root: Root,
    spools: PathBuf,
    pub(crate) tree: Tree<MemoryStore>,
    pub(crate) position: Position,
    pub(crate) chain: ChainDigest,
}

struct Known<'a>(&'a Captures);

impl Witness for Known<'_> {
    fn step(&mut self, operation: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        let found = self.0.get(operation.action.path()).and_then(Option::as_ref);
        Ok(found.map(|present| Arrived { inode: present.inode, memory: present.memory.clone() }))
    }
}

impl Primary {
    /// A primary of `directory` whose standbys have nothing but `root` yet.
    pub(crate) fn new(directory: &Path, spools: &Path, root: &Row) -> Self {
        let root = Row::new(root.entry.clone(), root.inode);
        Self {
            root: Root::open(directory).unwrap(),
            spools: spools.to_owned(),
            tree: Tree::open(MemoryStore::default(), root).unwrap(),
            position: Position { epoch: 1, generation: 0 },
            chain: ChainDigest::default(),
        }
    }

    /// A primary of `directory` that has compared it with the tree of `replica`, which it met at `position` before its next generation.
    pub(crate) fn meeting(directory: &Path, spools: &Path, replica: &Replica, position: Position) -> Self {
        let mut primary = Self::new(directory, spools, replica.tree().root());
        let mut below = vec![(RelPath::root(), replica.tree().root().clone())];
        while let Some((path, row)) = below.pop() {
            if !path.is_root() {
                let stat = primary.root.stat(&path).unwrap();
                let inode = stat.map(|stat| stat.inode).unwrap_or_default();
                let own = Row { inode, directory: None, memory: None, entry: row.entry.clone() };
                primary.tree.attach(&path, own).unwrap();
            }
            if let Some(directory) = &row.directory {
                let visit = |name, row| {
                    below.push((path.join(&name), row));
                    Ok(())
                };
                replica.tree().for_children::<TreeError>(directory.id, visit).unwrap();
            }
        }
        primary.position = position;
        primary.chain = replica.standing().chain;
        primary
    }

    fn known(&self) -> BTreeMap<RelPath, InodeId> {
        let mut all = BTreeMap::new();
        let mut below = vec![(RelPath::root(), self.tree.root().clone())];
        while let Some((path, row)) = below.pop() {
            if let Some(directory) = &row.directory {
                self.tree
                    .for_children::<TreeError>(directory.id, |name, row| {
                        below.push((path.join(&name), row));
                        Ok(())
                    })
                    .unwrap();
            }
            all.insert(path, row.inode.id);
        }
        all
    }

    /// Everything that is there or was there, also where what was there should be now.
    fn paths(&self) -> BTreeSet<RelPath> {
        let known = self.known();
        let places: BTreeMap<InodeId, &RelPath> = known.iter().map(|(path, id)| (*id, path)).collect();
        let mut paths: BTreeSet<RelPath> = known.keys().cloned().collect();
        let mut below = vec![RelPath::root()];
        while let Some(path) = below.pop() {
            let stat = self.root.stat(&path).unwrap().unwrap();
            if stat.is_directory() {
                below.extend(self.root.list(&path).unwrap().into_iter().map(|(name, _)| path.join(&name)));
                if let Some(old) = places.get(&stat.inode.id) {
                    let within = known.range((*old).clone()..).take_while(|(child, _)| child.is_within(old)).skip(1);
                    paths.extend(within.filter_map(|(child, _)| child.rebase(old, &path)));
                }
            }
            paths.insert(path);
        }
        paths
    }

    /// Captures what is there and makes the generation that leads to it.
    pub(crate) fn generation(&mut self) -> Generation {
        let spool = Spool::create(&self.spools).unwrap();
        let mut capturer = Capturer::new(spool, [3; 32], XattrPolicy::default(), true);
        let mut paths = self.paths();
        let mut whole = BTreeSet::new();
        let (steps, captures) = loop {
            capturer.begin();
            let mut captures = Captures::new();
            for path in &paths {
                let how = if whole.contains(path) { How::Whole } else { How::Believed };
                let captured = capturer.capture(&self.root, &Filter::everything(), &self.tree, path, how).unwrap();
                let found = match captured {
                    Captured::Absent(_) => None,
                    Captured::Present(present) => Some(present),
                    other => panic!("{path}: {other:?}"),
                };
                captures.insert(path.clone(), found);
            }
            match plan(&self.tree, &captures).unwrap() {
                Planned::Steps(steps) => break (steps, captures),
                Planned::Incomplete(wanted) => {
                    assert!(!wanted.is_subset(&whole), "asked again for {wanted:?}");
                    paths.extend(wanted.iter().cloned());
                    whole.extend(wanted);
                }
            }
        };
        let (spool, signatures) = capturer.finish();
        let generation = self.ship(&steps, &captures, &spool);
        for kept in signatures.iter() {
            let (content, signature) = kept.unwrap();
            self.tree.keep_signature(content, signature).unwrap();
        }
        generation
    }

    fn ship(&mut self, steps: &[Step], captures: &Captures, spool: &Spool) -> Generation {
        let tree_before = self.tree.digest().unwrap();
        let operations: Vec<Operation> = steps.iter().map(|step| step.operation.clone()).collect();
        self.tree.apply(&operations, &mut Known(captures)).unwrap();
        let reader = spool.reader();
        let payload = |step: &Step| {
            let spooled = step.spooled?;
            let mut bytes = vec![0; usize::try_from(spooled.payload.length).unwrap()];
            let count = crate::thought::delta::read_full(&reader as &dyn ReadAt, &mut bytes, spooled.offset).unwrap();
            assert_eq!(count, bytes.len());
            Some(bytes)
        };
        let operations = steps.iter().map(|step| (step.operation.clone(), payload(step))).collect();
        let parent = self.position;
        self.position.generation += 1;
        let tree_after = self.tree.digest().unwrap();
        let (position, parent_chain) = (self.position, self.chain);
        let header = Header { position, parent, parent_chain, tree_before, tree_after, ..header() };
        let generation = Generation { header, operations }.sealed();
        self.chain = generation.header.chain();
        generation
    }
}

/// What all headers have in common.
pub(crate) fn header() -> Header {
    Header {
        required_features: 0,
        optional_features: 0,
        cluster: ClusterId([1; 16]),
        home: HOME,
        reign: ReignId([2; 16]),
        position: Position { epoch: 1, generation: 0 },
        parent: Position::default(),
        parent_chain: ChainDigest::default(),
        joint: Joint::Next,
        tree_before: Digest::default(),
        tree_after: Digest::default(),
        quality: Quality::Consistent,
        deferred: NamedPaths::default(),
        filter: Digest::default(),
        cut_time: Timestamp::default(),
        oldest_change: Timestamp::default(),
        operations: 0,
        operations_digest: Digest::default(),
        extensions: Vec::new(),
    }
}

/// How many operations of each section there are, for the tests to say what they tested.
pub(crate) fn count(generation: &Generation, is: impl Fn(&Action) -> bool) -> usize {
    generation.operations.iter().filter(|(operation, _)| is(&operation.action)).count()
}
