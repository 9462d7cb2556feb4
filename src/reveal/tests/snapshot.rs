//! All that can be seen of a directory.

use std::collections::BTreeMap;

use crate::fs::{FileType, Root, XattrPolicy};
use crate::words::entry::{Digest, InodeId, Timestamp};
use crate::words::path::RelPath;

/// What can be seen of one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    what: FileType,
    mode: u16,
    owner: (u32, u32),
    mtime: Timestamp,
    size: u64,
    pub(crate) content: Digest,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first of its names, if it has several.
    linked_to: Option<RelPath>,
    /// True if at least half of it is holes.
    sparse: bool,
}

pub(crate) type Snapshot = BTreeMap<RelPath, Facts>;

/// Looks at everything below `root` but `.hotspare`, and at the root itself.
pub(crate) fn snapshot(root: &Root) -> Snapshot {
    let mut all = Snapshot::new();
    let mut links: BTreeMap<InodeId, RelPath> = BTreeMap::new();
    let mut below = vec![RelPath::root()];
    while let Some(path) = below.pop() {
        if path.is_reserved() {
            continue;
        }
        let stat = root.stat(&path).unwrap().unwrap();
        let content = match stat.what {
            FileType::Directory => {
                below.extend(root.list(&path).unwrap().into_iter().rev().map(|(name, _)| path.join(&name)));
                Digest::default()
            }
            FileType::Symlink => Digest::of(&root.read_link(&path).unwrap()),
            FileType::File => {
                let file = root.open_read(&path).unwrap();
                let mut bytes = vec![0; usize::try_from(stat.size).unwrap()];
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                Digest::of(&bytes)
            }
            FileType::Special(_) => Digest::default(),
        };
        let is_linked = !stat.is_directory() && stat.inode.nlink > 1;
        let linked_to = is_linked.then(|| links.entry(stat.inode.id).or_insert(path.clone()).clone());
        let xattrs = root.xattrs(&path, &XattrPolicy::default()).unwrap();
        let facts = Facts {
            what: stat.what,
            mode: stat.mode,
            owner: (stat.uid, stat.gid),
            mtime: stat.mtime,
            size: if stat.is_directory() { 0 } else { stat.size },
            content,
            xattrs: xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            linked_to,
            sparse: stat.is_file() && stat.size > 1 << 16 && stat.blocks_512 * 512 < stat.size / 2,
        };
        all.insert(path, facts);
    }
    all
}

/// The same without links of which no other name is to be seen: it may be one that was replaced, and is not tidied away yet.
pub(crate) fn without_lone_links(mut all: Snapshot) -> Snapshot {
    let mut names: BTreeMap<RelPath, usize> = BTreeMap::new();
    for first in all.values().filter_map(|facts| facts.linked_to.clone()) {
        *names.entry(first).or_default() += 1;
    }
    for facts in all.values_mut() {
        facts.linked_to.take_if(|first| names.get(first) == Some(&1));
    }
    all
}

/// The same without owners and extended attributes, which may be refused.
pub(crate) fn without_attributes(mut all: Snapshot) -> Snapshot {
    for facts in all.values_mut() {
        (facts.owner, facts.xattrs) = ((0, 0), Vec::new());
    }
    all
}

/// What differs, for a person.
pub(crate) fn differences(expected: &Snapshot, found: &Snapshot) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differs = |path: &&&RelPath| expected.get(**path) != found.get(**path);
    let tell = |path: &RelPath| {
        let shown = path.to_string();
        let shown: String = shown.chars().take(120).collect();
        format!("{shown}: expected {:?}, found {:?}", expected.get(path), found.get(path))
    };
    paths.iter().filter(differs).take(12).map(|path| tell(path)).collect()
}
