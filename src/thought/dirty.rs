//! The dirty paths: what is known to have changed, or may have, since the tree was last brought up to date.

use std::collections::BTreeMap;

use crate::words::entry::Timestamp;
use crate::words::path::RelPath;

/// Paths with the time each was first heard of.
#[derive(Clone, Default, Debug)]
pub struct Dirty {
    paths: BTreeMap<RelPath, Timestamp>,
}

impl Dirty {
    /// Notes that `path` changed, heard at `now`; a path heard of before keeps its first time.
    pub fn mark(&mut self, path: &RelPath, now: Timestamp) {
        if !self.paths.contains_key(path) {
            self.paths.insert(path.clone(), now);
        }
    }

    /// Takes up to `limit` paths out, in order: parents before what is in them.
    pub fn take(&mut self, limit: usize) -> BTreeMap<RelPath, Timestamp> {
        match self.paths.keys().nth(limit).cloned() {
            Some(first_left) => {
                let left = self.paths.split_off(&first_left);
                std::mem::replace(&mut self.paths, left)
            }
            None => std::mem::take(&mut self.paths),
        }
    }

    /// Takes `path` out; when it was heard of, if it was dirty.
    pub fn remove(&mut self, path: &RelPath) -> Option<Timestamp> {
        self.paths.remove(path)
    }

    /// Takes out `path` and all that is below it.
    pub fn forget_within(&mut self, path: &RelPath) {
        let below = self.paths.range(path.clone()..).take_while(|(below, _)| below.is_within(path));
        for below in below.map(|(below, _)| below.clone()).collect::<Vec<_>>() {
            self.paths.remove(&below);
        }
    }

    /// Puts paths back with the times they had.
    pub fn put_back(&mut self, paths: impl IntoIterator<Item = (RelPath, Timestamp)>) {
        for (path, at) in paths {
            let known = self.paths.entry(path).or_insert(at);
            *known = at.min(*known);
        }
    }

    /// True if `path` is dirty.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    /// How many paths are dirty.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// When the oldest was first heard of.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.paths.values().min().copied()
    }

    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.paths.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_put_back_keeps_its_older_time() {
        let path = RelPath::parse(b"a").unwrap();
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        let mut dirty = Dirty::default();
        dirty.mark(&path, at(5));
        let taken = dirty.take(10);
        dirty.mark(&path, at(9));
        dirty.put_back(taken);
        assert_eq!(dirty.oldest(), Some(at(5)));
        assert_eq!(dirty.len(), 1);
    }

    #[test]
    fn what_is_beyond_the_limit_stays() {
        let mut dirty = Dirty::default();
        for name in [b"a", b"b", b"c"] {
            dirty.mark(&RelPath::parse(name).unwrap(), Timestamp::default());
        }
        assert_eq!(dirty.take(2).len(), 2);
        assert!(dirty.contains(&RelPath::parse(b"c").unwrap()));
        assert_eq!(dirty.take(2).len(), 1);
        assert!(dirty.is_empty());
    }
}
