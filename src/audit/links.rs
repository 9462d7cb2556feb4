//! Hard links: names of one inode on disk must have one link id in the tree, and the reverse.

use std::collections::HashMap;

use crate::words::entry::{Digest, InodeId, LinkId};
use crate::words::path::RelPath;

/// What is known of the inodes with several names met so far.
#[derive(Default)]
pub(super) struct Links {
    inodes: HashMap<InodeId, Linked>,
    /// The inode that the first name with a link id turned out to be, and that name.
    ids: HashMap<LinkId, (InodeId, RelPath)>,
}

struct Linked {
    /// Its first name, and what the tree says of that.
    first: RelPath,
    link: Option<LinkId>,
    content: Option<Digest>,
}

/// How a name is linked wrongly; each with the first name of the other side.
pub(super) enum Fault {
    /// One inode on disk, not so in the tree.
    Joined(RelPath),
    /// One inode in the tree, not so on disk.
    Parted(RelPath),
}

impl Links {
    /// Takes note of a name of `inode`, of which the disk knows `nlink` names.
    pub(super) fn note(&mut self, path: &RelPath, inode: InodeId, nlink: u32, link: Option<LinkId>) -> Option<Fault> {
        let mut fault = None;
        if nlink > 1 {
            match self.inodes.get(&inode) {
                Some(known) if known.link.is_none() || known.link != link => {
                    fault = Some(Fault::Joined(known.first.clone()));
                }
                Some(_) => {}
                None => {
                    self.inodes.insert(inode, Linked { first: path.clone(), link, content: None });
                }
            }
        }
        if let Some(link) = link {
            let (known, first) = self.ids.entry(link).or_insert_with(|| (inode, path.clone()));
            if *known != inode {
                fault = fault.or(Some(Fault::Parted(first.clone())));
            }
        }
        fault
    }

    /// The content of `inode`, if it was hashed under another name.
    pub(super) fn content(&self, inode: InodeId) -> Option<Digest> {
        self.inodes.get(&inode)?.content
    }

    /// Remembers the content of an inode with several names.
    pub(super) fn keep_content(&mut self, inode: InodeId, content: Digest) {
        if let Some(known) = self.inodes.get_mut(&inode) {
            known.content = Some(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_linked_otherwise_are_told_once_for_each_name() {
        let mut links = Links::default();
        let inode = |ino| InodeId { dev: 1, ino };
        let mut note = |path: &str, ino, nlink, link: Option<u64>| {
            links.note(&RelPath::parse(path.as_bytes()).unwrap(), inode(ino), nlink, link.map(LinkId)).is_some()
        };
        assert!(!note("a", 1, 2, Some(7)));
        assert!(!note("b", 1, 2, Some(7)));
        assert!(note("c", 2, 1, Some(7)));
        assert!(!note("d", 3, 2, None), "its other name may be outside of what is replicated");
        assert!(note("e", 3, 2, None));
        assert!(!note("f", 4, 1, Some(8)), "its other names may not be replicated");
        assert!(note("g", 1, 2, Some(8)));
    }
}
