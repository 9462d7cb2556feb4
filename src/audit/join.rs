//! The walk: a directory's names on disk and in the tree, together, in the order of paths.

use std::vec;

use super::compare::kind_of;
use super::links::Links;
use super::{AuditError, AuditOptions, Audited, Difference, Progress, What};
use crate::fs::{FileType, FsError, Root, XattrPolicy};
use crate::thought::filter::Filter;
use crate::thought::store::ReadStore;
use crate::thought::tree::{DirectoryId, Row, Tree};
use crate::words::entry::Kind;
use crate::words::path::{Name, RelPath};

/// What is said where there is nothing.
const NOTHING: &str = "nothing";

/// One audit under way.
pub(super) struct Auditor<'a, S> {
    root: &'a Root,
    tree: &'a Tree<S>,
    filter: &'a Filter,
    pub(super) xattrs: &'a XattrPolicy,
    pub(super) options: AuditOptions<'a>,
    visit: &'a mut dyn FnMut(Difference),
    pub(super) audited: Audited,
    pub(super) links: Links,
    /// Of the path being compared.
    at: RelPath,
    kind: Option<Kind>,
    /// For content.
    pub(super) buffer: Vec<u8>,
}

/// A directory that is being gone through.
struct Frame {
    path: RelPath,
    id: DirectoryId,
    /// Closed while a directory below is gone through, so that depth costs no descriptors.
    directory: Option<Root>,
    /// The names that are left, of either side.
    names: vec::IntoIter<Name>,
}

/// A path's place: an open directory, and the path from there.
pub(super) struct Spot<'a> {
    pub(super) directory: &'a Root,
    pub(super) relative: RelPath,
    /// From the home's root.
    pub(super) path: RelPath,
}

impl<'a, S: ReadStore> Auditor<'a, S> {
    pub(super) fn new(
        root: &'a Root,
        tree: &'a Tree<S>,
        filter: &'a Filter,
        xattrs: &'a XattrPolicy,
        options: AuditOptions<'a>,
        visit: &'a mut dyn FnMut(Difference),
    ) -> Self {
        let (audited, links) = (Audited::default(), Links::default());
        Self {
            root,
            tree,
            filter,
            xattrs,
            options,
            visit,
            audited,
            links,
            at: RelPath::root(),
            kind: None,
            buffer: Vec::new(),
        }
    }

    pub(super) fn run(mut self, paths: &[RelPath]) -> Result<Audited, AuditError> {
        let alone = std::mem::take(&mut self.options.alone);
        let everything = [RelPath::root()];
        let whole = if paths.is_empty() && alone.is_empty() { &everything[..] } else { paths };
        // Whole before alone; what is within a whole one follows it.
        let mut tops: Vec<(RelPath, bool)> = whole.iter().map(|path| (path.clone(), false)).collect();
        tops.extend(alone.into_iter().map(|path| (path, true)));
        tops.sort();
        tops.dedup_by(|(path, _), (before, is_alone)| if *is_alone { path == before } else { path.is_within(before) });
        for (top, is_alone) in tops {
            self.subtree(top, is_alone)?;
        }
        Ok(self.audited)
    }

    fn subtree(&mut self, path: RelPath, is_alone: bool) -> Result<(), AuditError> {
        let row = self.tree.row(&path)?;
        let is_directory = row.as_ref().is_some_and(|row| row.entry.is_directory());
        if self.filter.leaves_out_within(&path, is_directory) {
            return Ok(());
        }
        let root = self.root;
        if row.is_none() && matches!(root.stat(&path), Ok(None)) {
            self.differ(&path, What::Missing, NOTHING, NOTHING);
            return Ok(());
        }
        let spot = Spot { directory: root, relative: path.clone(), path };
        match self.entry(&spot, row)? {
            Some(id) if !is_alone => self.below(spot.path, id),
            _ => Ok(()),
        }
    }

    /// Goes through everything below a directory that both sides have.
    fn below(&mut self, path: RelPath, id: DirectoryId) -> Result<(), AuditError> {
        let mut frames: Vec<Frame> = self.open(path, id)?.into_iter().collect();
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                frames.pop();
                continue;
            };
            let directory = match frame.directory.take().map_or_else(|| self.root.enter(&frame.path), Ok) {
                Ok(directory) => directory,
                Err(error) => {
                    self.unreadable(&frame.path, &error);
                    frames.pop();
                    continue;
                }
            };
            let (relative, path) = (RelPath::root().join(&name), frame.path.join(&name));
            let row = self.tree.child(frame.id, &name)?;
            let spot = Spot { directory: &directory, relative, path };
            match self.entry(&spot, row)? {
                Some(id) => {
                    let path = spot.path;
                    drop(directory);
                    frames.extend(self.open(path, id)?);
                }
                None => frame.directory = Some(directory),
            }
        }
        Ok(())
    }

    /// Lists a directory on both sides; `None` if it cannot be listed, which is told.
    fn open(&mut self, path: RelPath, id: DirectoryId) -> Result<Option<Frame>, AuditError> {
        let listed = self.root.enter(&path).and_then(|directory| Ok((directory.list(&RelPath::root())?, directory)));
        let (listed, directory) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.unreadable(&path, &error);
                return Ok(None);
            }
        };
        let mut names: Vec<Name> = listed.into_iter().map(|(name, _)| name).collect();
        self.tree.for_children(id, |name, _| {
            names.push(name);
            Ok::<_, AuditError>(())
        })?;
        names.sort_unstable();
        names.dedup();
        if let Some(first) = self.options.from.as_ref().and_then(|from| first_within(&path, from)) {
            names.retain(|name| *name >= first);
        }
        Ok(Some(Frame { path, id, directory: Some(directory), names: names.into_iter() }))
    }

    /// Compares one path on both sides; the directory's id if both have one there.
    fn entry(&mut self, spot: &Spot<'_>, row: Option<Row>) -> Result<Option<DirectoryId>, AuditError> {
        let path = &spot.path;
        let row = row.filter(|row| !self.filter.leaves_out(path, row.entry.is_directory()));
        let stat = match spot.directory.stat(&spot.relative) {
            Ok(stat) => stat.filter(|stat| !self.filter.leaves_out(path, stat.is_directory())),
            Err(error) => {
                self.unreadable(path, &error);
                return Ok(None);
            }
        };
        self.at.clone_from(path);
        let found = stat.as_ref().and_then(kind_of);
        self.kind = row.as_ref().map(|row| row.entry.kind()).or(found);
        let is_special = stat.is_some_and(|stat| matches!(stat.what, FileType::Special(_)));
        self.audited.special += u64::from(is_special);
        if row.is_some() {
            self.audited.entries += 1;
            self.report()?;
        }
        match (stat, row) {
            (None, None) => Ok(None),
            (None, Some(row)) => {
                self.differ(path, What::Missing, NOTHING, super::compare::entry_text(&row.entry));
                Ok(None)
            }
            (Some(_), None) if is_special => Ok(None),
            (Some(stat), None) => {
                self.differ(path, What::Extra, super::compare::stat_text(&stat), NOTHING);
                Ok(None)
            }
            (Some(stat), Some(row)) => {
                let is_same_kind = self.compare(spot, &stat, &row.entry)?;
                Ok(row.directory.filter(|_| is_same_kind).map(|directory| directory.id))
            }
        }
    }

    pub(super) fn differ(&mut self, path: &RelPath, what: What, here: impl Into<String>, there: impl Into<String>) {
        self.audited.differing += 1;
        (self.visit)(Difference { path: path.clone(), kind: self.kind, what, here: here.into(), there: there.into() });
    }

    pub(super) fn unreadable(&mut self, path: &RelPath, error: &FsError) {
        let reason = match error.errno() {
            Some(errno) => format!("{error}: {errno}"),
            None => error.to_string(),
        };
        self.differ(path, What::Unreadable, reason, "");
    }

    /// Tells whoever watches how far the audit is.
    pub(super) fn report(&mut self) -> Result<(), AuditError> {
        let Some(progress) = &mut self.options.progress else { return Ok(()) };
        let Audited { entries, bytes, .. } = self.audited;
        if progress(Progress { entries, bytes }).is_break() {
            Err(AuditError::Stopped { at: self.at.clone() })
        } else {
            Ok(())
        }
    }
}

/// The name in `directory` that is on the way to `path`; `None` if none is.
fn first_within(directory: &RelPath, path: &RelPath) -> Option<Name> {
    let depth = directory.components().count();
    if path.is_within(directory) { path.components().nth(depth) } else { None }
}
