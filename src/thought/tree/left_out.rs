//! Taking out of a tree what a filter has come to leave out.

use super::{DirectoryId, ROOT, Tree, TreeError};
use crate::thought::filter::Filter;
use crate::thought::store::Store;
use crate::words::path::RelPath;

impl<S: Store> Tree<S> {
    /// Takes out everything that `filter` leaves out; tells how many entries that were. Costs a look at every entry.
    pub fn leave_out(&mut self, filter: &Filter) -> Result<u64, TreeError> {
        let mut gone = 0;
        let mut below: Vec<(RelPath, DirectoryId)> = vec![(RelPath::root(), ROOT)];
        while let Some((path, id)) = below.pop() {
            let mut left_out = Vec::new();
            self.for_children::<TreeError>(id, |name, row| {
                let child = path.join(&name);
                if filter.leaves_out(&child, row.entry.is_directory()) {
                    left_out.push(child);
                } else if let Some(directory) = row.directory {
                    below.push((child, directory.id));
                }
                Ok(())
            })?;
            for child in left_out {
                let row = self.detach(&child)?;
                gone += self.forget(&row, &mut |_| {})?;
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thought::filter::Preset;
    use crate::thought::store::MemoryStore;
    use crate::thought::tree::Row;
    use crate::words::entry::{Body, Digest, Entry, Inode, Proof, Timestamp, Xattrs};

    fn row(body: Body) -> Row {
        let (mtime, xattrs) = (Timestamp::default(), Xattrs::default());
        Row::new(Entry { link: None, mode: 0o755, uid: 0, gid: 0, mtime, xattrs, body }, Inode::default())
    }

    fn tree(paths: &[&str]) -> Tree<MemoryStore> {
        let mut tree = Tree::open(MemoryStore::default(), row(Body::Directory)).unwrap();
        for path in paths {
            let file = Body::File { size: 0, digest: Digest::of(b""), proof: Proof::Hashed };
            let body = if path.ends_with('/') { Body::Directory } else { file };
            tree.attach(&RelPath::parse(path.trim_end_matches('/').as_bytes()).unwrap(), row(body)).unwrap();
        }
        tree
    }

    #[test]
    fn what_a_filter_leaves_out_goes_with_all_below_it_and_nothing_else_does() {
        let mut all = tree(&["a/", "a/out/", "a/out/x", "a/out/y/", "a/outside", "b/", "b/out", "out/", "out/out"]);
        let filter = Filter::new(Preset::None, &["out/".into()], &[]).unwrap();
        assert_eq!(all.leave_out(&filter).unwrap(), 5);
        assert_eq!(all.digest().unwrap(), tree(&["a/", "a/outside", "b/", "b/out"]).digest().unwrap());
        assert_eq!(all.leave_out(&filter).unwrap(), 0);
    }
}
