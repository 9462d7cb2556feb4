//! Scanning: one directory watched, listed and compared with what the tree knows of it.

use std::collections::BTreeMap;

use super::{Reach, WalkError, Walker};
use crate::fs::{FileType, FsError, Look as _, Stat};
use crate::thought::store::Store;
use crate::thought::tree::{DirectoryId, Row, Tree, TreeError};
use crate::watch::{Watch, WatchError};
use crate::words::entry::{Kind, Timestamp};
use crate::words::path::{Name, RelPath};

impl<W: Watch> Walker<W> {
    /// Scans pending directories until about `budget` entries were looked at, or too much is dirty; true if none is left.
    pub fn scan<S: Store>(&mut self, tree: &Tree<S>, budget: usize, now: Timestamp) -> Result<bool, WalkError> {
        self.scan_beside(tree, &|_, _| false, budget, now)
    }

    /// The same for a cut, which has captured what the tree does not know yet: what it says that it has, as it is found, or absent, is not marked.
    pub fn scan_beside<S: Store>(
        &mut self,
        tree: &Tree<S>,
        has: &dyn Fn(&RelPath, Option<&Stat>) -> bool,
        budget: usize,
        now: Timestamp,
    ) -> Result<bool, WalkError> {
        let mut looked = 0;
        while looked < budget && !self.is_full() {
            let Some((path, reach)) = self.pending.pop_first() else { return Ok(true) };
            looked += self.scan_directory(tree, has, &path, reach, now)?;
        }
        Ok(self.pending.is_empty())
    }

    fn scan_directory<S: Store>(
        &mut self,
        tree: &Tree<S>,
        has: &dyn Fn(&RelPath, Option<&Stat>) -> bool,
        path: &RelPath,
        reach: Reach,
        now: Timestamp,
    ) -> Result<usize, WalkError> {
        if !path.is_root() && self.filter.leaves_out_within(path, true) {
            return Ok(1);
        }
        if path.is_root() && reach == Reach::Below {
            self.findings.begin();
        }
        let directory = match self.root.enter(path) {
            Ok(directory) => directory,
            Err(error) => return self.not_entered(tree, path, error, now),
        };
        let was_watched = self.watched.contains(path);
        if reach != Reach::Again || !was_watched {
            self.watch(path, &directory)?;
        }
        let listing =
            match directory.stat(&RelPath::root()).and_then(|stat| Ok((stat, directory.list(&RelPath::root())?))) {
                Ok((Some(stat), names)) => (stat, names),
                Ok((None, _)) => return Ok(1),
                Err(error) => {
                    self.findings.unreadable.note(path, error.reason());
                    return Ok(1);
                }
            };
        let (stat, names) = listing;
        self.findings.unreadable.forget(path);
        let known = known_directory(tree, path, &stat)?;
        if !known.as_ref().is_some_and(|row| is_unchanged(row, &stat)) && !has(path, Some(&stat)) {
            self.mark(path, now);
        }
        let mut before = match known.and_then(|row| row.directory) {
            Some(facts) => children_of(tree, facts.id)?,
            None => BTreeMap::new(),
        };
        let count = names.len() + before.len() + 1;
        for (name, kind) in names {
            if self.is_full() && !self.is_doubting() {
                // What was found so far is as the tree has it when this is scanned again.
                self.await_scan(path, reach);
                return Ok(count);
            }
            let child = path.join(&name);
            if self.filter.leaves_out(&child, kind.is_none_or(|kind| kind == FileType::Directory)) {
                // What came to be left out by a new name above it is taken out of the tree.
                if before.remove(&name).is_some() {
                    self.mark(&child, now);
                }
                continue;
            }
            let old = before.remove(&name);
            if !was_watched {
                // That it came nobody will tell.
                self.gone.remove(&child);
            }
            match directory.stat(&RelPath::root().join(&name)) {
                Ok(Some(stat)) => self.compare(tree, has, &child, &stat, old.as_ref(), reach, now)?,
                Ok(None) => self.mark(&child, now),
                Err(error) => self.findings.unreadable.note(&child, error.reason()),
            }
        }
        for child in before.into_keys().map(|name| path.join(&name)) {
            if !has(&child, None) {
                self.mark(&child, now);
            }
        }
        Ok(count)
    }

    #[expect(clippy::too_many_arguments, reason = "one continuation of scan_directory, called once")]
    fn compare<S: Store>(
        &mut self,
        tree: &Tree<S>,
        has: &dyn Fn(&RelPath, Option<&Stat>) -> bool,
        path: &RelPath,
        stat: &Stat,
        old: Option<&Row>,
        reach: Reach,
        now: Timestamp,
    ) -> Result<(), TreeError> {
        if self.is_suspended(path) {
            return Ok(());
        }
        if let FileType::Special(special) = stat.what {
            self.findings.skip(path, special);
            if old.is_some() {
                self.mark(path, now);
            }
            return Ok(());
        }
        if stat.is_file() && self.doubted_since.is_some_and(|since| stat.inode.ctime >= since) {
            self.mark_written(path, now);
        } else {
            let is_known = old.is_some_and(|row| is_unchanged(row, stat)) || has(path, Some(stat));
            if !is_known || self.has_unwatched_names(tree, stat)? {
                self.mark(path, now);
            }
        }
        let has_watch = self.watched.contains(path) || self.polled.contains(path);
        let is_known = has_watch && old.is_some_and(|row| row.inode.is_same(&stat.inode));
        if stat.is_directory() {
            match reach {
                Reach::Again if is_known => self.await_scan(path, Reach::Again),
                Reach::Children if is_known => {}
                _ => self.await_scan(path, Reach::Below),
            }
        }
        Ok(())
    }

    /// True if the inode has names outside the home, as it seems, and is not watched itself: a capture sees to that.
    fn has_unwatched_names<S: Store>(&self, tree: &Tree<S>, stat: &Stat) -> Result<bool, TreeError> {
        if stat.is_directory() || stat.inode.nlink < 2 || self.inodes.contains_key(&stat.inode.id) {
            return Ok(false);
        }
        let links = usize::try_from(stat.inode.nlink).unwrap_or(usize::MAX);
        Ok(tree.names_of(stat.inode.id, links)?.len() < links)
    }

    fn not_entered<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        error: FsError,
        now: Timestamp,
    ) -> Result<usize, WalkError> {
        if path.is_root() {
            return Err(WalkError::Home(error));
        }
        self.forget_polled_within(path);
        if error.is_permission() {
            self.findings.unreadable.note(path, error.reason());
            self.watched.remove(path);
        } else if tree.row(path)?.is_some() {
            // Gone, or no directory: that is for the capture to find out.
            self.mark(path, now);
        }
        Ok(1)
    }

    fn watch(&mut self, path: &RelPath, directory: &W::Home) -> Result<(), WalkError> {
        match self.watcher.watch_directory(path, directory) {
            Ok(()) => {
                self.watched.insert(path.clone());
                self.polled.remove(path);
                Ok(())
            }
            Err(WatchError::LimitReached(limit)) => {
                self.limit = Some(limit);
                self.watched.remove(path);
                self.polled.insert(path.clone());
                Ok(())
            }
            Err(WatchError::Gone { .. }) => Ok(()),
            Err(WatchError::Unreadable { path }) => {
                self.findings.unreadable.note(&path, "permission denied");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The row of the directory that is at `path` now: found by inode, so that one that moved is compared with itself.
fn known_directory<S: Store>(tree: &Tree<S>, path: &RelPath, stat: &Stat) -> Result<Option<Row>, TreeError> {
    let is_it = |row: &Row| row.entry.is_directory() && row.inode.is_same(&stat.inode);
    if let Some(row) = tree.row(path)?
        && (is_it(&row) || path.is_root())
    {
        return Ok(Some(row));
    }
    for old in tree.names_of(stat.inode.id, 16)? {
        if let Some(row) = tree.row(&old)?
            && is_it(&row)
        {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn children_of<S: Store>(tree: &Tree<S>, directory: DirectoryId) -> Result<BTreeMap<Name, Row>, TreeError> {
    let mut children = BTreeMap::new();
    tree.for_children::<TreeError>(directory, |name, row| {
        children.insert(name, row);
        Ok(())
    })?;
    Ok(children)
}

/// True if nothing can have changed: the change time moves with everything but a directory's place above it.
pub(crate) fn is_unchanged(row: &Row, stat: &Stat) -> bool {
    let kind = match stat.what {
        FileType::File => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Special(_) => return false,
    };
    row.entry.kind() == kind
        && row.inode == stat.inode
        && row.entry.mtime == stat.mtime
        && (kind != Kind::File || row.entry.size() == stat.size)
}
