//! Which old entry a path of the new state is: by inode, so that a rename is seen as one whatever events were lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::thought::store::Store;
use crate::thought::tree::{Row, Tree, TreeError};
use crate::words::entry::{Inode, Kind};
use crate::words::path::RelPath;

/// How many names of one inode are looked at.
const NAMES_CAP: usize = 4096;
/// Of so many paths is known what they were in an earlier pass, 4 MiB or so.
const KNOWN_CAP: usize = 16_384;

/// What a path of the new state was in the old tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The same inode, at the place where it is expected.
    Same {
        /// Old path: differs from the new one when a directory above was renamed.
        old: RelPath,
        /// Its row.
        row: Box<Row>,
    },
    /// An inode that was elsewhere and has no other name.
    Moved {
        /// Old path.
        from: RelPath,
        /// Its row.
        row: Box<Row>,
    },
    /// An inode the tree does not know, or a further name of one that it knows.
    New {
        /// The row of another name, if there is one.
        sibling: Option<Box<Row>>,
    },
}

impl Identity {
    /// The row of the same inode in the old tree.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Same { row, .. } | Self::Moved { row, .. } => Some(row),
            Self::New { sibling } => sibling.as_deref(),
        }
    }
}

/// What was found at a path in an earlier pass over the same tree, so that it can be noted again without asking the tree. Of what
/// moved nothing is kept: that depends on the other paths.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// It is in a new directory; else its place in the tree is the path itself.
    is_in_new: bool,
    /// What is there.
    found: Option<(Kind, Inode)>,
    /// That is what was there before; else it was nowhere.
    is_same: bool,
    /// Another inode was there before, of a directory if true.
    displaces: Option<bool>,
}

/// Works out identities, path by path, parents before children.
#[derive(Default, Debug)]
pub struct Identities {
    /// New path at which a directory is not what it was, to the old path of the directory that is there now; `None` if that is
    /// new, or if none is there any more.
    moved: BTreeMap<RelPath, Option<RelPath>>,
    /// Old path of a directory that was renamed, to its new one.
    renamed: BTreeMap<RelPath, RelPath>,
    /// Old paths whose inode was found at a new path.
    claimed: BTreeSet<RelPath>,
    /// Old paths whose inode is not there any more.
    displaced: BTreeSet<RelPath>,
    /// From the second pass on.
    known: Option<BTreeMap<RelPath, Known>>,
}

impl Identities {
    /// Begins another pass over the same tree.
    pub fn begin(&mut self) {
        let known = Some(self.known.take().unwrap_or_default());
        *self = Self { known, ..Self::default() };
    }

    /// The old path that corresponds to `path`; `None` inside a new directory.
    pub fn old_slot(&self, path: &RelPath) -> Option<RelPath> {
        let mut ancestor = path.parent();
        while let Some(directory) = ancestor {
            match self.moved.get(&directory) {
                Some(Some(old)) => return path.rebase(&directory, old),
                Some(None) => return None,
                None => ancestor = directory.parent(),
            }
        }
        Some(path.clone())
    }

    /// Where the entry with old path `old` is expected in the new state.
    pub fn new_slot(&self, old: &RelPath) -> RelPath {
        let mut ancestor = Some(old.clone());
        while let Some(directory) = ancestor {
            if let Some(new) = self.renamed.get(&directory).and_then(|new| old.rebase(&directory, new)) {
                return new;
            }
            ancestor = directory.parent();
        }
        old.clone()
    }

    /// Notes that nothing is at `path`.
    pub fn absent<S: Store>(&mut self, tree: &Tree<S>, path: &RelPath) -> Result<(), TreeError> {
        let slot = self.old_slot(path);
        if self.is_noted_again(path, slot.as_ref(), None) {
            return Ok(());
        }
        let row = slot.as_ref().map(|old| tree.row(old)).transpose()?.flatten();
        let displaces = row.map(|row| row.entry.is_directory());
        if let (Some(old), Some(is_directory)) = (slot.clone(), displaces) {
            self.displace(path, old, is_directory);
        }
        self.know(path, slot.as_ref(), None, false, displaces);
        Ok(())
    }

    fn displace(&mut self, path: &RelPath, old: RelPath, is_directory: bool) {
        self.displaced.insert(old);
        if is_directory {
            self.moved.insert(path.clone(), None);
        }
    }

    /// Notes what is at `path`, as [`Identities::present`] does, but need not say what it was.
    pub fn present_again<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        kind: Kind,
        inode: &Inode,
    ) -> Result<(), TreeError> {
        let slot = self.old_slot(path);
        if !self.is_noted_again(path, slot.as_ref(), Some((kind, inode))) {
            self.present(tree, path, kind, inode)?;
        }
        Ok(())
    }

    /// True if what is at `path` is known, which is noted then.
    fn is_noted_again(&mut self, path: &RelPath, slot: Option<&RelPath>, found: Option<(Kind, &Inode)>) -> bool {
        let is_it = |known: &&Known| match (&known.found, found) {
            (None, None) => true,
            (Some((kind, inode)), Some((now, found))) => {
                *kind == now && inode.is_same(found) && inode.nlink == found.nlink
            }
            _ => false,
        };
        let in_place = |known: &&Known| if known.is_in_new { slot.is_none() } else { slot == Some(path) };
        let Some(known) = self.known.as_ref().and_then(|known| known.get(path)).filter(in_place).filter(is_it).copied()
        else {
            return false;
        };
        if let Some(is_directory) = known.displaces {
            self.displace(path, path.clone(), is_directory);
        }
        if !known.is_same && matches!(known.found, Some((Kind::Directory, _))) {
            self.moved.insert(path.clone(), None);
        }
        true
    }

    fn know(
        &mut self,
        path: &RelPath,
        slot: Option<&RelPath>,
        found: Option<(Kind, Inode)>,
        is_same: bool,
        displaces: Option<bool>,
    ) {
        let Some(all) = &mut self.known else { return };
        let is_plain = slot.is_none_or(|slot| slot == path);
        if !is_plain || (all.len() >= KNOWN_CAP && !all.contains_key(path)) {
            all.remove(path);
            return;
        }
        all.insert(path.clone(), Known { is_in_new: slot.is_none(), found, is_same, displaces });
    }

    /// Says what the inode at `path` was. To be called once for each path in a pass, parents before children.
    pub fn present<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        kind: Kind,
        inode: &Inode,
    ) -> Result<Identity, TreeError> {
        let slot = self.old_slot(path);
        let expected = match &slot {
            Some(old) => tree.row(old)?.map(|row| (old.clone(), row)),
            None => None,
        };
        let mut displaces = None;
        if let Some((old, row)) = expected {
            if path.is_root() || (row.entry.kind() == kind && row.inode.is_same(inode)) {
                self.know(path, slot.as_ref(), Some((kind, *inode)), true, None);
                return Ok(Identity::Same { old, row: Box::new(row) });
            }
            displaces = Some(row.entry.is_directory());
            self.displace(path, old, row.entry.is_directory());
        }
        let (identity, is_unknown) = self.elsewhere(tree, kind, inode)?;
        match is_unknown {
            true => self.know(path, slot.as_ref(), Some((kind, *inode)), false, displaces),
            false => drop(self.known.as_mut().and_then(|known| known.remove(path))),
        }
        if kind == Kind::Directory {
            let from = match &identity {
                Identity::Moved { from, .. } => Some(from.clone()),
                _ => None,
            };
            self.renamed.extend(from.clone().map(|from| (from, path.clone())));
            self.moved.insert(path.clone(), from);
        }
        Ok(identity)
    }

    /// What an inode was that is not what was at its path; and true if the tree knows nothing of it.
    fn elsewhere<S: Store>(
        &mut self,
        tree: &Tree<S>,
        kind: Kind,
        inode: &Inode,
    ) -> Result<(Identity, bool), TreeError> {
        let linked = kind != Kind::Directory && inode.nlink > 1;
        let mut is_unknown = true;
        for from in tree.names_of(inode.id, NAMES_CAP)? {
            let Some(row) = tree.row(&from)? else { continue };
            if row.entry.kind() != kind || !row.inode.is_same(inode) || from.is_root() {
                continue;
            }
            is_unknown = false;
            if linked {
                return Ok((Identity::New { sibling: Some(Box::new(row)) }, is_unknown));
            }
            if self.claimed.insert(from.clone()) {
                return Ok((Identity::Moved { from, row: Box::new(row) }, is_unknown));
            }
        }
        Ok((Identity::New { sibling: None }, is_unknown))
    }

    /// The old paths whose inode was found elsewhere, if they do not go with a directory.
    pub fn left(&self) -> impl Iterator<Item = &RelPath> {
        self.claimed.iter().filter(|old| !self.goes_with_its_directory(old))
    }

    /// True if the inode of the old path `old` was found elsewhere.
    pub fn has_left(&self, old: &RelPath) -> bool {
        self.claimed.contains(old)
    }

    /// Takes an old path for a rename; false if it was taken already.
    pub(super) fn claim(&mut self, old: &RelPath) -> bool {
        self.claimed.insert(old.clone())
    }

    /// Gives a claimed old path back: what was there goes.
    pub(super) fn disclaim(&mut self, old: &RelPath) {
        self.claimed.remove(old);
        self.displaced.insert(old.clone());
    }

    /// True if the inode at old path `old` is known to be there no more.
    pub(super) fn is_displaced(&self, old: &RelPath) -> bool {
        self.displaced.contains(old)
    }

    /// The old paths to remove, rising; none that goes anyway with a removed directory above it.
    pub(super) fn removals(&self) -> Vec<RelPath> {
        let is_removed = |old: &RelPath| self.displaced.contains(old) && !self.claimed.contains(old);
        self.displaced.iter().filter(|old| is_removed(old) && !self.goes_with_its_directory(old)).cloned().collect()
    }

    /// True if the nearest directory above that does not stay is removed; what is in one that moved out goes with that one.
    pub(super) fn goes_with_its_directory(&self, old: &RelPath) -> bool {
        let mut above = old.parent();
        while let Some(directory) = above {
            if self.claimed.contains(&directory) {
                return false;
            }
            if self.displaced.contains(&directory) {
                return true;
            }
            above = directory.parent();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Model;
    use super::*;
    use crate::thought::store::MemoryStore;

    /// One pass over all `paths` of `model`; `again` if what is known of an earlier one is made use of.
    fn pass(
        identities: &mut Identities,
        tree: &Tree<MemoryStore>,
        model: &Model,
        paths: &BTreeSet<RelPath>,
        again: bool,
    ) {
        identities.begin();
        for path in paths {
            match model.find(path) {
                None => identities.absent(tree, path).unwrap(),
                Some(found) if again => {
                    identities.present_again(tree, path, found.entry.kind(), &found.inode).unwrap();
                }
                Some(found) => drop(identities.present(tree, path, found.entry.kind(), &found.inode).unwrap()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_further_pass_comes_to_what_a_first_one_would(
            before in prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..30),
            first in prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..20),
            second in prop::collection::vec(any::<(u8, usize, usize, u8)>(), 0..6),
        ) {
            let steps = |model: &Model, steps: &[(u8, usize, usize, u8)]| {
                let mut model = model.clone();
                steps.iter().for_each(|&(kind, pick, directory, name)| model.step(kind, pick, directory, name));
                model
            };
            let old = steps(&Model::new(), &before);
            let (earlier, now) = (steps(&old, &first), steps(&steps(&old, &first), &second));
            let paths: BTreeSet<RelPath> = [&old, &earlier, &now].iter().flat_map(|model| model.paths()).collect();
            let tree = old.tree();
            let (mut fresh, mut used) = (Identities::default(), Identities::default());
            pass(&mut fresh, &tree, &now, &paths, false);
            pass(&mut used, &tree, &earlier, &paths, false);
            pass(&mut used, &tree, &now, &paths, true);
            let state = |all: &Identities| (all.moved.clone(), all.claimed.clone(), all.displaced.clone());
            prop_assert_eq!(state(&used), state(&fresh));
        }
    }
}
