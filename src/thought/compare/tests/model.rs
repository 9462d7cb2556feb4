//! What random trees are made of.

use std::collections::BTreeMap;

use crate::thought::store::MemoryStore;
use crate::thought::tree::{Row, Tree};
use crate::words::entry::{Body, Digest, Entry, Inode, InodeId, LinkId, Proof, Timestamp, Xattrs};
use crate::words::path::{Name, RelPath};

/// A file system of names, inodes and contents. Inode numbers are given again, lowest first, as file systems do.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) names: BTreeMap<RelPath, u64>,
    pub(super) inodes: BTreeMap<u64, (Body, i64)>,
    /// What link ids are counted from.
    pub(super) links: u64,
}

pub(super) type Steps = Vec<(u8, usize, usize, u8)>;

impl Model {
    pub(super) fn new() -> Self {
        let root = (RelPath::root(), 1);
        Self { names: [root].into(), inodes: [(1, (Body::Directory, 0))].into(), links: 0 }
    }

    pub(super) fn after(mut self, steps: &Steps) -> Self {
        steps.iter().for_each(|&(kind, pick, directory, name)| self.step(kind, pick, directory, name));
        self
    }

    pub(super) fn is_directory(&self, path: &RelPath) -> bool {
        self.names.get(path).is_some_and(|ino| self.inodes[ino].0 == Body::Directory)
    }

    pub(super) fn add(&mut self, path: &str, body: Body) {
        self.put(self::path(path), body);
    }

    pub(super) fn put(&mut self, path: RelPath, body: Body) {
        let free = (1..).find(|ino| !self.names.values().any(|used| used == ino)).unwrap();
        self.names.insert(path, free);
        self.inodes.insert(free, (body, 0));
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        self.names.insert(path(to), self.names[&path(from)]);
    }

    pub(super) fn inode(&mut self, at: &str) -> &mut (Body, i64) {
        self.inodes.get_mut(&self.names[&path(at)]).unwrap()
    }

    pub(super) fn remove(&mut self, path: &RelPath) {
        self.names.retain(|name, _| !name.is_within(path));
    }

    pub(super) fn rename(&mut self, from: &RelPath, to: &RelPath) {
        let moved: Vec<_> =
            self.names.iter().filter(|(name, _)| name.is_within(from)).map(|(n, i)| (n.clone(), *i)).collect();
        self.remove(to);
        self.remove(from);
        for (name, ino) in moved {
            self.names.insert(name.rebase(from, to).unwrap(), ino);
        }
    }

    /// One random step; steps that make no sense do nothing.
    pub(super) fn step(&mut self, kind: u8, pick: usize, directory: usize, name: u8) {
        let directories: Vec<_> = self.names.keys().filter(|path| self.is_directory(path)).cloned().collect();
        let to = directories[directory % directories.len()].join(&Name::parse(&[b'a' + name % 5]).unwrap());
        let from = self.names.keys().nth(pick % self.names.len()).unwrap().clone();
        let is_usable = !from.is_root() && !to.is_within(&from) && !from.is_within(&to);
        let is_link = is_usable && !self.is_directory(&from);
        match kind % 12 {
            0 | 1 if !self.names.contains_key(&to) => self.put(to, Body::Directory),
            2 | 3 => {
                self.remove(&to);
                self.put(to, file(pick as u64 % 7));
            }
            4 => {
                self.remove(&to);
                self.put(to, Body::Symlink { target: [name % 3].into() });
            }
            5 if !from.is_root() => self.remove(&from),
            6 if is_usable => self.rename(&from, &to),
            7 if matches!(self.inodes[&self.names[&from]].0, Body::File { .. }) => {
                let ino = self.names[&from];
                self.inodes.insert(ino, (file(u64::from(name) % 7), i64::from(name)));
            }
            8..=10 if is_link && !self.names.contains_key(&to) => {
                self.names.insert(to, self.names[&from]);
            }
            11 => self.inodes.get_mut(&self.names[&from]).unwrap().1 += 1,
            _ => {}
        }
    }

    pub(super) fn row(&self, path: &RelPath) -> Row {
        let ino = self.names[path];
        let (body, mtime) = self.inodes[&ino].clone();
        let nlink = u32::try_from(self.names.values().filter(|other| **other == ino).count()).unwrap();
        let link = (nlink > 1).then_some(LinkId(self.links + ino));
        let mtime = Timestamp { seconds: mtime, nanoseconds: 0 };
        let entry = Entry { link, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Xattrs::default(), body };
        Row::new(entry, Inode { id: InodeId { dev: 1, ino }, nlink, ..Inode::default() })
    }

    pub(super) fn tree(&self) -> Tree<MemoryStore> {
        let mut tree = Tree::open(MemoryStore::default(), self.row(&RelPath::root())).unwrap();
        for path in self.names.keys().filter(|path| !path.is_root()) {
            tree.attach(path, self.row(path)).unwrap();
        }
        tree.digest().unwrap();
        tree
    }
}

/// Lengths on both sides of `CONTENT_LOOKUP_BYTES`; number 0 is empty.
pub(super) fn file(number: u64) -> Body {
    Body::File { size: number * 1500, digest: Digest::of(&number.to_le_bytes()), proof: Proof::Hashed }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}
