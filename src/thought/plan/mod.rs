//! The plan: from the old tree and the captured state of what changed, the operations of a generation.
//!
//! The planner knows two things: the tree as it was, and for each dirty path what was found there. Whoever captures promises that
//! (1) with a directory that is new to the tree everything in it is captured, (2) with a directory that moved everything in it that
//! differs is, and (3) with one name of a hard-linked inode all its known names are; where the planner can see that (3) is broken it
//! asks for the missing paths ([`Planned::Incomplete`]).
//!
//! **Invariant:** all names of one inode lead to one content, whatever was captured of each.
//!
//! **Invariant:** applying the plan to the old tree gives, at every captured path, exactly what was captured (tested with random
//! trees and edits).

mod identity;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::words::entry::{Entry, Inode, InodeId};
use crate::words::path::RelPath;

use super::delta::Span;
use super::delta::probe::Probes;
use super::generation::{Action, Content, Operation, Payload, Section};
use super::store::Store;
use super::tree::{ApplyError, FileMemory, Operations, Row, Tree, TreeError};

pub use identity::{Identities, Identity};

/// Where a payload lies in the spool that belongs to the generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spooled {
    /// Where it begins.
    pub offset: u64,
    /// Its length and packing.
    pub payload: Payload,
}

/// How a file's content was captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encoded {
    /// Not at all: it is what the identity's row says, or there is none to capture.
    Unchanged,
    /// As it is, or as a delta, or not at all because the tree holds it elsewhere.
    New {
        /// What the payload is.
        content: Content,
        /// The payload.
        payload: Option<Spooled>,
        /// True if the file has holes.
        sparse: bool,
    },
    /// As bytes to be written over the identity's content.
    Edit {
        /// The length of the old content.
        old_length: u64,
        /// Where they go.
        spans: Vec<Span>,
        /// Samples of what was not read.
        probes: Option<Probes>,
        /// The bytes.
        payload: Spooled,
    },
}

/// What was found at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Present {
    /// The entry.
    pub entry: Entry,
    /// Its inode.
    pub inode: Inode,
    /// What to remember of it.
    pub memory: Option<Box<FileMemory>>,
    /// Its content.
    pub encoded: Encoded,
}

/// All that was captured: `None` where nothing was found. Boxed, for a map that was filled in order has room for twice as many.
pub type Captures = BTreeMap<RelPath, Option<Box<Present>>>;

/// An operation with its payload's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The operation.
    pub operation: Operation,
    /// Where its payload lies.
    pub spooled: Option<Spooled>,
}

impl Operations for Vec<Step> {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let within = self.iter().filter(|step| step.operation.action.section() == section);
        within.map(|step| step.operation.clone()).try_for_each(visit)
    }
}

/// What planning came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Planned {
    /// The steps of the generation, in the order of its sections.
    Steps(Vec<Step>),
    /// These paths must be captured, or captured again, whole, before it can be planned.
    Incomplete(BTreeSet<RelPath>),
}

/// Plans the way from `tree` to `captures`.
pub fn plan<S: Store>(tree: &Tree<S>, captures: &Captures) -> Result<Planned, TreeError> {
    let wanting = contradictions(captures);
    if !wanting.is_empty() {
        return Ok(Planned::Incomplete(wanting));
    }
    let mut planner = Planner::default();
    let mut groups: BTreeMap<InodeId, Vec<Member<'_>>> = BTreeMap::new();
    for (path, found) in captures {
        let Some(present) = found else {
            planner.identities.absent(tree, path)?;
            continue;
        };
        let identity = planner.identities.present(tree, path, present.entry.kind(), &present.inode)?;
        // Nearly all have one name: planned at once, they need not be kept with what the tree has of them.
        let is_alone = present.entry.link.is_none() && identity.row().is_none_or(|row| row.entry.link.is_none());
        let member = Member { path, present, identity };
        if present.entry.is_directory() {
            planner.directory(&member);
        } else if is_alone {
            planner.inode(tree, captures, present.inode.id, &[member])?;
        } else {
            groups.entry(present.inode.id).or_default().push(member);
        }
    }
    for (id, mut members) in groups {
        // Names of one inode that were captured at different instants, in a cut that could not be proven, are all taken as the latest shows them.
        if let Some(latest) = members.iter().map(|member| member.present).max_by_key(|present| present.inode.ctime) {
            members.iter_mut().for_each(|member| member.present = latest);
        }
        planner.inode(tree, captures, id, &members)?;
    }
    Ok(planner.finish())
}

/// Takes in what captures found out without a difference that a step would tell of: new times of the inode itself.
pub fn learn<S: Store>(tree: &mut Tree<S>, captures: &Captures) -> Result<(), TreeError> {
    for (path, found) in captures {
        let Some(present) = found else { continue };
        let Some(row) = tree.row(path)? else { continue };
        if row.entry == present.entry && row.inode != present.inode {
            let memory = present.memory.clone().or_else(|| row.memory.clone());
            tree.update(path, Row { inode: present.inode, memory, ..row })?;
        }
    }
    Ok(())
}

/// The paths that were found to be one inode and are not names of one file. They were captured at different instants: all but one of
/// them have gone since, by a rename, or by a removal after which the number was given to another.
fn contradictions(captures: &Captures) -> BTreeSet<RelPath> {
    let found = captures.iter().filter_map(|(path, found)| Some((path, &**found.as_ref()?)));
    let mut by_inode: Vec<(&RelPath, &Present)> = found.collect();
    by_inode.sort_by_key(|(_, present)| present.inode.id);
    let is_one_file = |names: &[(&RelPath, &Present)]| {
        let (_, first) = names[0];
        names.iter().all(|(_, other)| other.entry.link.is_some() && other.inode.is_same(&first.inode))
    };
    let names_of_one = by_inode.chunk_by(|(_, one), (_, other)| one.inode.id == other.inode.id);
    let contradictory = names_of_one.filter(|names| names.len() > 1 && !is_one_file(names));
    contradictory.flatten().map(|(path, _)| (*path).clone()).collect()
}

struct Member<'a> {
    path: &'a RelPath,
    present: &'a Present,
    identity: Identity,
}

/// What is to be made, and the capture that has its content, if there is any.
///
/// **Memory:** a generation has up to forty thousand of these, so nothing is copied out of the captures before the steps are.
struct Made<'a> {
    entry: &'a Entry,
    supplied: Option<&'a Encoded>,
}

#[derive(Default)]
struct Planner<'a> {
    identities: Identities,
    renames: BTreeMap<RelPath, RelPath>,
    creates: BTreeMap<&'a RelPath, Made<'a>>,
    /// With the target of each.
    links: BTreeMap<&'a RelPath, (&'a RelPath, &'a Entry)>,
    /// Those captured as edits, and the capture that each is taken from.
    edits: BTreeMap<&'a RelPath, (&'a Entry, &'a Encoded)>,
    attributes: BTreeMap<&'a RelPath, &'a Entry>,
    wanting: BTreeSet<RelPath>,
}

impl<'a> Planner<'a> {
    fn directory(&mut self, member: &Member<'a>) {
        let (path, entry) = (member.path, &member.present.entry);
        match &member.identity {
            Identity::New { .. } => self.create(path, entry, None),
            Identity::Moved { from, row } => {
                self.renames.insert(path.clone(), from.clone());
                self.attributes(path, &row.entry, entry);
            }
            Identity::Same { row, .. } => self.attributes(path, &row.entry, entry),
        }
    }

    /// Plans all captured names of one inode that is no directory.
    fn inode<S: Store>(
        &mut self,
        tree: &Tree<S>,
        captures: &Captures,
        id: InodeId,
        members: &[Member<'a>],
    ) -> Result<(), TreeError> {
        let Some(first) = members.first() else { return Ok(()) };
        let known = members.iter().find_map(|member| member.identity.row());
        let Some(known) = known else {
            self.fresh(members);
            return Ok(());
        };
        let entry = &first.present.entry;
        let old_names = if known.entry.link.is_some() || entry.link.is_some() {
            // A further name changes nothing that an entry shows, but it must be linked to one that stays.
            let is_further = members.iter().all(|member| matches!(member.identity, Identity::New { .. }));
            let asks = known.entry != *entry || is_further;
            self.known_names(tree, captures, id, &first.present.inode, asks)?
        } else {
            Vec::new()
        };
        let content_kept = known.entry.same_content(entry)
            || members.iter().any(|member| matches!(member.present.encoded, Encoded::Edit { .. }));
        if !content_kept {
            // In the replica it becomes a new inode under all its names.
            for member in members {
                match &member.identity {
                    Identity::Same { old, .. } | Identity::Moved { from: old, .. } => self.identities.disclaim(old),
                    Identity::New { .. } => {}
                }
            }
            self.fresh(members);
            return Ok(());
        }
        let anchor = members
            .iter()
            .find(|member| matches!(member.identity, Identity::Same { .. }))
            .or_else(|| members.iter().find(|member| matches!(member.identity, Identity::Moved { .. })))
            .unwrap_or(first);
        match &anchor.identity {
            Identity::Same { .. } => {}
            Identity::Moved { from, .. } => {
                self.renames.insert(anchor.path.clone(), from.clone());
            }
            // A further name of an inode all of whose old names went: one of them moved here.
            Identity::New { .. } => match old_names.iter().find(|old| self.identities.is_displaced(old)) {
                Some(old) if self.identities.claim(old) => {
                    self.renames.insert(anchor.path.clone(), old.clone());
                }
                _ => {
                    self.fresh(members);
                    return Ok(());
                }
            },
        }
        for member in members {
            if std::ptr::eq(member, anchor) {
                // Whichever name the change was captured under.
                let edit = members.iter().find(|member| matches!(member.present.encoded, Encoded::Edit { .. }));
                self.change(member, known, &edit.unwrap_or(member).present.encoded);
            } else if let Identity::Same { row, .. } = &member.identity {
                self.attributes(member.path, &row.entry, &member.present.entry);
            } else {
                self.link(member, anchor.path);
            }
        }
        Ok(())
    }

    /// The old names of a hard-linked inode; those still in place but not captured are asked for, if `asks`.
    fn known_names<S: Store>(
        &mut self,
        tree: &Tree<S>,
        captures: &Captures,
        id: InodeId,
        inode: &Inode,
        asks: bool,
    ) -> Result<Vec<RelPath>, TreeError> {
        let mut names = Vec::new();
        for old in tree.names_of(id, usize::MAX)? {
            if !tree.row(&old)?.is_some_and(|row| row.inode.is_same(inode)) {
                continue;
            }
            let new = self.identities.new_slot(&old);
            let is_gone = self.identities.is_displaced(&old) || self.identities.goes_with_its_directory(&old);
            if asks && !is_gone && !captures.contains_key(&new) {
                self.wanting.insert(new);
            }
            names.push(old);
        }
        Ok(names)
    }

    /// A new inode: created under its first name, linked under the others.
    fn fresh(&mut self, members: &[Member<'a>]) {
        let Some(first) = members.first() else { return };
        let mut captured = members.iter().map(|member| &member.present.encoded);
        let supplied = captured.find(|encoded| matches!(encoded, Encoded::New { .. }));
        let entry = &first.present.entry;
        if supplied.is_some() || entry.size() == 0 {
            self.create(first.path, entry, supplied);
        } else {
            self.wanting.insert(first.path.clone());
        }
        for member in &members[1..] {
            self.link(member, first.path);
        }
    }

    fn change(&mut self, member: &Member<'a>, known: &Row, encoded: &'a Encoded) {
        let entry = &member.present.entry;
        match encoded {
            Encoded::Edit { .. } => drop(self.edits.insert(member.path, (entry, encoded))),
            _ => self.attributes(member.path, &known.entry, entry),
        }
    }

    fn create(&mut self, path: &'a RelPath, entry: &'a Entry, supplied: Option<&'a Encoded>) {
        self.creates.insert(path, Made { entry, supplied });
    }

    fn link(&mut self, member: &Member<'a>, target: &'a RelPath) {
        self.links.insert(member.path, (target, &member.present.entry));
    }

    fn attributes(&mut self, path: &'a RelPath, old: &Entry, new: &'a Entry) {
        if old != new {
            self.attributes.insert(path, new);
        }
    }

    fn finish(self) -> Planned {
        if !self.wanting.is_empty() {
            return Planned::Incomplete(self.wanting);
        }
        let removals = self.identities.removals();
        let changes = self.creates.len() + self.links.len() + self.edits.len() + self.attributes.len();
        let mut steps = Vec::with_capacity(self.renames.len() + removals.len() + changes);
        let mut step = |action, spooled: Option<Spooled>| {
            let id = u32::try_from(steps.len()).unwrap_or(u32::MAX);
            let payload = spooled.map(|spooled| spooled.payload);
            steps.push(Step { operation: Operation { id, action, payload }, spooled });
        };
        for (to, from) in self.renames {
            step(Action::Rename { from, to }, None);
        }
        for path in removals.into_iter().rev() {
            step(Action::Remove { path }, None);
        }
        for (path, Made { entry, supplied }) in self.creates {
            let (content, payload, sparse) = match supplied {
                Some(Encoded::New { content, payload, sparse }) => (content.clone(), *payload, *sparse),
                _ => (Content::None, None, false),
            };
            step(Action::Create { path: path.clone(), entry: entry.clone(), content, sparse }, payload);
        }
        for (path, (target, entry)) in self.links {
            step(Action::Link { path: path.clone(), target: target.clone(), entry: entry.clone() }, None);
        }
        for (path, (entry, encoded)) in self.edits {
            let Encoded::Edit { old_length, spans, probes, payload } = encoded else { continue };
            let (spans, probes) = (spans.clone(), probes.clone());
            let (path, entry) = (path.clone(), entry.clone());
            step(Action::Edit { path, entry, old_length: *old_length, spans, probes }, Some(*payload));
        }
        for (path, entry) in self.attributes {
            step(Action::Attributes { path: path.clone(), entry: entry.clone() }, None);
        }
        Planned::Steps(steps)
    }
}
