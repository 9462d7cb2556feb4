//! Whether the home is still the home (G7): a home that was unmounted, replaced or emptied is not replicated, for that would delete all the
//! standbys have of it.
//!
//! The keeper holds the home's directory open; what is done to that is not what Jenkins sees when something else has its path. So before a
//! generation is made of a capture, the *path* is looked at once more: it must lead to the inode of the file system that was there in the
//! beginning, have the marker, and not be empty. What a capture read before that look was of the right home, or is thrown away.

use std::fmt;
use std::path::PathBuf;

use crate::fs::{FsError, Identity, Root};
use crate::reveal::marker;
use crate::thought::store::ReadStore;
use crate::thought::tree::{Tree, TreeError};
use crate::words::path::{Name, RESERVED, RelPath};
use crate::words::position::HomeId;

/// A home with fewer entries may become empty: that is no accident worth an alarm.
const EMPTIED_FROM: u64 = 10;
/// What every new file system of the ext family has.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Why nothing is replicated at present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    /// Its path leads to nothing that can be read.
    Gone(String),
    /// Its path leads to something else.
    Replaced,
    /// Its marker is missing, or another home's.
    Unmarked,
    /// Nothing is in it any more.
    Emptied,
    /// The first directory is to be removed or renamed, and in it was the second, a file system that is not mounted any more.
    AboveLost(RelPath, RelPath),
    /// The state directory is full.
    NoRoom(PathBuf),
}

/// The home as it was when the keeper began.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) path: PathBuf,
    id: HomeId,
    identity: Identity,
    /// Somebody said that it may be empty.
    may_be_empty: bool,
}

impl Home {
    pub(super) fn new(path: PathBuf, id: HomeId, root: &Root) -> Result<Self, FsError> {
        Ok(Self { path, id, identity: root.identity(&RelPath::root())?, may_be_empty: false })
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Lets an emptied home be replicated.
    pub(super) fn allow_empty(&mut self) {
        self.may_be_empty = true;
    }

    /// What is wrong with what is at the home's path now, compared with what was there and with what `tree` knows.
    pub(super) fn alarm<S: ReadStore>(&mut self, tree: &Tree<S>) -> Option<Alarm> {
        let looked = Root::open(&self.path).and_then(|root| {
            let identity = root.identity(&RelPath::root())?;
            let is_empty = root.list(&RelPath::root())?.iter().all(|(name, _)| is_of_no_account(name));
            Ok((root, identity, is_empty))
        });
        let (root, identity, is_empty) = match looked {
            Ok(looked) => looked,
            Err(error) => return Some(Alarm::Gone(error.reason())),
        };
        if !identity.is_same(&self.identity) {
            return Some(Alarm::Replaced);
        }
        if !matches!(marker::read(&root), Ok(Some(id)) if id == self.id) {
            return Some(Alarm::Unmarked);
        }
        self.may_be_empty &= is_empty;
        let is_news = is_empty && !self.may_be_empty;
        (is_news && tree.counts().entries >= EMPTIED_FROM).then_some(Alarm::Emptied)
    }

    /// True if at least half of what `tree` knows at the top of the home is there.
    pub(super) fn is_refilled<S: ReadStore>(&self, tree: &Tree<S>) -> Result<bool, TreeError> {
        let Ok(names) = Root::open(&self.path).and_then(|root| root.list(&RelPath::root())) else { return Ok(false) };
        let Some(facts) = &tree.root().directory else { return Ok(true) };
        let mut known = 0;
        for (name, _) in &names {
            known += u64::from(tree.child(facts.id, name)?.is_some());
        }
        Ok(known * 2 >= facts.children)
    }

    /// What a person must know of `alarm`.
    pub(super) fn explain(&self, alarm: &Alarm) -> String {
        let home = self.path.display();
        let rest = "nothing is replicated, and nothing is deleted on the standbys";
        match alarm {
            Alarm::Gone(reason) => format!("the home {home} cannot be read ({reason}): {rest}, until it is back"),
            Alarm::Replaced => format!(
                "the home {home} is not the directory that was there: another one, or another file system, has its place: {rest}, until \
                 the right one is back; if this one is the home from now on: `hotspare run --moved`"
            ),
            Alarm::Unmarked => format!(
                "the home {home} has lost the file that says that it is one: {rest}, until the right home is back; if this is it: {}",
                marker_command(&self.path, self.id)
            ),
            Alarm::Emptied => format!(
                "the home {home} was emptied: {rest}, until half of what was at its top is back; if it is to be empty: `hotspare release`"
            ),
            Alarm::NoRoom(state) => format!(
                "the state directory {} is full: nothing is replicated until there is room for the temporary files of a generation",
                state.display()
            ),
            Alarm::AboveLost(directory, mount) => format!(
                "{directory} was removed or renamed, and what was mounted at {mount} is not mounted any more: {rest}, until both are back; \
                 if they are gone for good: `hotspare release`"
            ),
        }
    }
}

/// The commands that make a directory, restored from a backup say, the home `id` again.
pub(crate) fn marker_command(home: &std::path::Path, id: HomeId) -> impl fmt::Display {
    let at = home.join(".hotspare");
    format!("mkdir -p {0} && echo '{1}' > {0}/home", at.display(), marker::line(id).trim_end())
}

fn is_of_no_account(name: &Name) -> bool {
    [RESERVED, LOST_AND_FOUND].contains(&name.as_bytes())
}
