//! The file that only grew: cut at the size first seen, although it went on growing while it was captured.
//!
//! Changing all the time, a log would conflict in every round. What was captured of it is still a true prefix of what it is now if the bytes
//! are still there; but so are they of a counter that was rewritten in place before it was captured. So three states must agree, in this order:
//! one known from before the round's first barrier (the tree's, or an earlier round's), the captured one, and the present one; each begins with the
//! one before, the last is longer than the captured one, and attributes and name are the same.
//!
//! **Invariant:** a file below [`KNOWN_FROM`] is never claimed: a number written as text grows by a digit now and then.

use std::collections::BTreeSet;

use super::round::{CutError, Round};
use crate::fs::{FsError, Look as _, Readable};
use crate::thought::delta::ReadAt;
use crate::thought::digest::ContentHasher;
use crate::thought::plan::Present;
use crate::thought::store::Store;
use crate::thought::tree::FileMemory;
use crate::watch::Watch;
use crate::words::entry::{Digest, Entry, Inode};
use crate::words::path::RelPath;

/// How long a file must have been before.
const KNOWN_FROM: u64 = 64;
/// Up to this length a file is read again whole.
const REREAD_CAP: u64 = 4 << 20;
/// A longer one is sampled, and its tail is read again up to this length.
const TAIL_CAP: u64 = 64 << 20;

/// A state of a file from before the round.
struct Before {
    entry: Entry,
    inode: Inode,
    memory: Option<Box<FileMemory>>,
}

impl<S: Store, W: Watch> Round<'_, S, W> {
    /// Takes out of `conflicts` the files that only grew. One that has not grown since its capture may as well be captured in the next
    /// round.
    pub(super) fn forgive_growth(&self, conflicts: &mut BTreeSet<RelPath>) -> Result<BTreeSet<RelPath>, CutError> {
        let mut grown = BTreeSet::new();
        for path in &*conflicts {
            if self.has_only_grown(path)? {
                grown.insert(path.clone());
            }
        }
        conflicts.retain(|path| !grown.contains(path));
        Ok(grown)
    }

    fn has_only_grown(&self, path: &RelPath) -> Result<bool, CutError> {
        let Some(Some(present)) = self.captures.get(path) else { return Ok(false) };
        let is_file = present.entry.content().is_some() && present.entry.link.is_none();
        if !is_file || self.missed.contains(path) || self.is_shaken(path) {
            return Ok(false);
        }
        let known = match self.capturer.identities.old_slot(path) {
            Some(old) => self.tree.row(&old)?,
            None => None,
        };
        let known = known.map(|row| Before { entry: row.entry, inode: row.inode, memory: row.memory });
        let earlier = self.earlier.get(path).cloned();
        let earlier = earlier.map(|found| Before { entry: found.entry, inode: found.inode, memory: found.memory });
        Ok(known.into_iter().chain(earlier).any(|before| self.still_begins(path, &before, present).unwrap_or(false)))
    }

    /// True if the name, or one above it, came or went during the round.
    fn is_shaken(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(here) = at {
            if self.shaken.contains(&here) {
                return true;
            }
            at = here.parent();
        }
        false
    }

    fn still_begins(&self, path: &RelPath, before: &Before, present: &Present) -> Result<bool, FsError> {
        let (first, captured) = (before.entry.size(), present.entry.size());
        let same_but_grown = |entry: &Entry| {
            let taken = &present.entry;
            (entry.mode, entry.uid, entry.gid, entry.link) == (taken.mode, taken.uid, taken.gid, taken.link)
                && entry.xattrs == taken.xattrs
        };
        if !before.inode.is_same(&present.inode)
            || !same_but_grown(&before.entry)
            || !(KNOWN_FROM..=captured).contains(&first)
        {
            return Ok(false);
        }
        let is_that = || -> Result<bool, FsError> {
            let Some(stat) = self.walker.root().stat(path)? else { return Ok(false) };
            let entry = stat.entry(present.entry.body.clone(), present.entry.xattrs.clone(), present.entry.link);
            let is_longer = stat.size > captured;
            Ok(stat.is_file() && stat.inode.is_same(&present.inode) && is_longer && same_but_grown(&entry))
        };
        if !is_that()? {
            return Ok(false);
        }
        let file = self.walker.root().open_read(path)?;
        if !file.stat()?.inode.is_same(&present.inode) {
            return Ok(false);
        }
        let is_prefix = if captured <= REREAD_CAP {
            begins_with(&file, before, present)?
        } else {
            samples_hold(&file, before, present)?
        };
        Ok(is_prefix && is_that()?)
    }
}

/// Reads all that was captured again: it must be it, and begin with what was before.
fn begins_with(file: &impl Readable, before: &Before, present: &Present) -> Result<bool, FsError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    for (end, digest) in [&before.entry, &present.entry].map(|entry| (entry.size(), entry.content())) {
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            if file.read_at(&mut buffer[..wanted], at)? < wanted {
                return Ok(false);
            }
            hasher.update(&buffer[..wanted]);
            at += wanted as u64;
        }
        if digest != Some(Digest::from(hasher.finalize())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The samples of what was before and of what was captured still hold, and the bytes from the last to the end are those that were captured.
fn samples_hold(file: &impl Readable, before: &Before, present: &Present) -> Result<bool, FsError> {
    let (Some(memory), Some(taken)) = (&before.memory, &present.memory) else { return Ok(false) };
    let content = Whole(file);
    let holds = |memory: &FileMemory| memory.probes.check(&content).unwrap_or(false);
    if memory.probes.size() != before.entry.size() || !holds(memory) || !holds(taken) {
        return Ok(false);
    }
    let mut hasher = ContentHasher::resume(&memory.frontier);
    let mut at = hasher.position();
    let end = present.entry.size();
    if end - at > TAIL_CAP {
        return Ok(false);
    }
    let mut buffer = vec![0; 1024 * 1024];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        if file.read_at(&mut buffer[..wanted], at)? < wanted {
            return Ok(false);
        }
        hasher.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(present.entry.content() == Some(hasher.finish().digest))
}

/// A file, as far as it reaches now.
struct Whole<'a, F>(&'a F);

impl<F: Readable> ReadAt for Whole<'_, F> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset).map_err(std::io::Error::other)
    }
}
