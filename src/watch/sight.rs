//! A look at a name as soon as it is heard of. An event tells a name and not the file, and the name may lead to another one, or nowhere, when the
//! walk gets to it. On the thread that reads the events this takes microseconds, and so is seldom too late.

use std::path::Path;

use super::{ChangeKind, WatchError};
use crate::fs::Root;
use crate::words::entry::Inode;
use crate::words::path::RelPath;

/// How many links a file is said to have whose name went while it was looked at: it may have others.
const UNCOUNTED: u32 = 2;

/// Looks at new names in one home.
pub(super) struct Sight(Root);

impl Sight {
    pub(super) fn open(home: &Path) -> Result<Self, WatchError> {
        let root = Root::open(home)
            .map_err(|error| WatchError::Source { what: "the home", source: std::io::Error::other(error) })?;
        Ok(Self(root))
    }

    /// `kind`, with what its name leads to, if it is of a new name that can be one of several.
    pub(super) fn complete(&self, mut kind: ChangeKind) -> ChangeKind {
        match &mut kind {
            ChangeKind::Appeared { path, directory: false, seen } => *seen = self.at(path),
            ChangeKind::MovedTo { path, directory, seen, .. } if *directory != Some(true) => *seen = self.at(path),
            _ => {}
        }
        kind
    }

    fn at(&self, path: &RelPath) -> Option<Inode> {
        let inode = self.look(path)?;
        // A name that goes after it was followed and before the links were counted is not among them.
        let is_counted = inode.nlink > 1 || self.look(path).is_some_and(|again| again.is_same(&inode));
        Some(Inode { nlink: if is_counted { inode.nlink } else { UNCOUNTED }, ..inode })
    }

    fn look(&self, path: &RelPath) -> Option<Inode> {
        let stat = self.0.stat(path).ok()??;
        // A directory has one name, whatever its count of links.
        let nlink = if stat.is_directory() { 1 } else { stat.inode.nlink };
        Some(Inode { nlink, ..stat.inode })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the home of a test is written as other programs write one")]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_second_name_that_goes_while_it_is_looked_at_is_not_taken_for_the_only_one() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let sight = Sight::open(home.path()).unwrap();
        let (newest, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let links: Vec<u32> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = home.path().join(number.to_string());
                    fs::hard_link(&kept, &name).unwrap();
                    newest.store(number, Ordering::Relaxed);
                    fs::remove_file(&name).unwrap();
                }
            });
            let names = (0..50_000).map(|_| newest.load(Ordering::Relaxed).to_string());
            let seen = names.filter_map(|name| sight.at(&RelPath::parse(name.as_bytes()).unwrap()));
            let links = seen.map(|inode| inode.nlink).collect();
            is_over.store(true, Ordering::Relaxed);
            links
        });
        assert!(!links.is_empty(), "no name was seen");
        let uncounted = links.iter().filter(|links| **links < 2).count();
        assert_eq!(uncounted, 0, "of {}", links.len());
    }
}
