//! A file system with two images: what is seen of it, and what of that would be there after a power cut.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;

use super::image::{File, Key, Names, Node, ROOT, What, time};

/// The names and attributes after one change of them.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) names: Arc<Names>,
    /// The directory or file whose sync asks for this change.
    of: [Key; 2],
}

/// What reached the medium, and what may have.
#[derive(Clone)]
pub(crate) struct Medium {
    pub(crate) durable: Arc<Names>,
    /// Since then, in order.
    pub(crate) changes: VecDeque<Change>,
    /// The number of the first of them.
    pub(crate) first: u64,
    /// Attributes of files that were synced by themselves, and before which change.
    pub(crate) synced: BTreeMap<Key, (u64, Arc<Node>)>,
}

#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) names: Arc<Names>,
    pub(crate) files: BTreeMap<Key, Arc<File>>,
    pub(crate) numbers: BTreeMap<u64, Key>,
    pub(crate) next: u64,
    pub(crate) ticks: u64,
    /// True if it can be synced whole, as nearly all can but those of FUSE.
    pub(crate) takes_syncfs: bool,
    /// `None` where the power is never cut.
    pub(crate) medium: Option<Medium>,
}

impl Disk {
    /// An empty one, with these directories.
    pub(crate) fn new(directories: &[&str]) -> Self {
        let root = Node::new(1, What::Directory(BTreeMap::new()), 0o755, (0, 0), time(0));
        let names = Arc::new(Names::from([(ROOT, Arc::new(root))]));
        let mut disk = Self {
            names,
            files: BTreeMap::new(),
            numbers: BTreeMap::from([(1, ROOT)]),
            next: 2,
            ticks: 0,
            takes_syncfs: true,
            medium: None,
        };
        for name in directories {
            disk.make(ROOT, OsStr::new(name), What::Directory(BTreeMap::new()), 0o755, (0, 0)).unwrap();
        }
        disk
    }

    /// The same as a FUSE server is: nothing syncs it whole.
    pub(crate) fn without_syncfs(self) -> Self {
        Self { takes_syncfs: false, ..self }
    }

    /// From now on it is remembered what was synced; so far all was.
    pub(crate) fn remember(mut self) -> Self {
        let durable = Arc::clone(&self.names);
        self.medium = Some(Medium { durable, changes: VecDeque::new(), first: 0, synced: BTreeMap::new() });
        self
    }

    pub(crate) fn by_number(&self, ino: u64) -> Result<Key, Errno> {
        self.numbers.get(&ino).copied().ok_or(Errno::STALE)
    }

    pub(crate) fn node(&self, key: Key) -> Result<&Arc<Node>, Errno> {
        self.names.get(&key).ok_or(Errno::STALE)
    }

    pub(crate) fn child(&self, parent: Key, name: &OsStr) -> Result<Key, Errno> {
        let children = self.node(parent)?.children().ok_or(Errno::NOTDIR)?;
        children.get(name).copied().ok_or(Errno::NOENT)
    }

    pub(crate) fn file(&self, key: Key) -> Result<&Arc<File>, Errno> {
        self.files.get(&key).ok_or(Errno::ISDIR)
    }

    fn change(&mut self, key: Key) -> Result<&mut Node, Errno> {
        let now = time(self.ticks);
        let node = Arc::make_mut(&mut self.names).get_mut(&key).ok_or(Errno::STALE)?;
        let node = Arc::make_mut(node);
        node.ctime = now;
        Ok(node)
    }

    fn names_of(&mut self, directory: Key) -> Result<&mut BTreeMap<OsString, Key>, Errno> {
        let now = time(self.ticks);
        let node = self.change(directory)?;
        node.mtime = now;
        node.children_mut().ok_or(Errno::NOTDIR)
    }

    /// What is there now is one more state that may be there after a power cut.
    fn changed(&mut self, of: [Key; 2]) {
        self.ticks += 1;
        if let Some(medium) = &mut self.medium {
            medium.changes.push_back(Change { names: Arc::clone(&self.names), of });
        }
    }

    /// The number is the lowest that is free, as on ext4: numbers come again soon.
    pub(crate) fn make(
        &mut self,
        parent: Key,
        name: &OsStr,
        what: What,
        mode: u16,
        owner: (u32, u32),
    ) -> Result<Key, Errno> {
        if self.child(parent, name).is_ok() {
            return Err(Errno::EXIST);
        }
        let ino = (2..).find(|ino| !self.numbers.contains_key(ino)).ok_or(Errno::NOSPC)?;
        let key = Key(self.next);
        self.next += 1;
        self.names_of(parent)?.insert(name.to_owned(), key);
        if what == What::File {
            self.files.insert(key, Arc::default());
        }
        let node = Node::new(ino, what, mode, owner, time(self.ticks));
        Arc::make_mut(&mut self.names).insert(key, Arc::new(node));
        self.numbers.insert(ino, key);
        self.changed([parent, parent]);
        Ok(key)
    }

    pub(crate) fn link(&mut self, key: Key, parent: Key, name: &OsStr) -> Result<(), Errno> {
        if self.child(parent, name).is_ok() {
            return Err(Errno::EXIST);
        }
        self.names_of(parent)?.insert(name.to_owned(), key);
        self.change(key)?.links += 1;
        self.changed([parent, parent]);
        Ok(())
    }

    pub(crate) fn remove(&mut self, parent: Key, name: &OsStr, is_directory: bool) -> Result<(), Errno> {
        let key = self.child(parent, name)?;
        match (self.node(key)?.children(), is_directory) {
            (None, true) => return Err(Errno::NOTDIR),
            (Some(_), false) => return Err(Errno::ISDIR),
            (Some(children), true) if !children.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.names_of(parent)?.remove(name);
        self.drop_link(key)?;
        self.changed([parent, parent]);
        Ok(())
    }

    fn drop_link(&mut self, key: Key) -> Result<(), Errno> {
        let node = self.change(key)?;
        node.links = if node.children().is_some() { 0 } else { node.links - 1 };
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        from: (Key, &OsStr),
        to: (Key, &OsStr),
        replaces: bool,
        swaps: bool,
    ) -> Result<(), Errno> {
        let key = self.child(from.0, from.1)?;
        let there = self.child(to.0, to.1).ok();
        match there {
            Some(_) if !replaces => return Err(Errno::EXIST),
            None if swaps => return Err(Errno::NOENT),
            Some(there) if there == key => return Ok(()),
            Some(there) if !swaps => {
                if self.node(there)?.children().is_some_and(|children| !children.is_empty()) {
                    return Err(Errno::NOTEMPTY);
                }
                self.drop_link(there)?;
            }
            _ => {}
        }
        self.names_of(from.0)?.remove(from.1);
        self.names_of(to.0)?.insert(to.1.to_owned(), key);
        if let Some(there) = there.filter(|_| swaps) {
            self.names_of(from.0)?.insert(from.1.to_owned(), there);
        }
        self.change(key)?;
        self.changed([from.0, to.0]);
        Ok(())
    }

    /// Changes attributes.
    pub(crate) fn set(&mut self, key: Key, set: impl FnOnce(&mut Node, SystemTime)) -> Result<(), Errno> {
        let now = time(self.ticks);
        set(self.change(key)?, now);
        self.changed([key, key]);
        Ok(())
    }

    /// Changes bytes or length.
    pub(crate) fn change_file(&mut self, key: Key, change: impl FnOnce(&mut File, bool)) -> Result<(), Errno> {
        let remembers = self.medium.is_some();
        let file = self.files.get_mut(&key).ok_or(Errno::ISDIR)?;
        change(Arc::make_mut(file), remembers);
        self.set(key, |node, now| node.mtime = now)
    }

    /// fsync and fdatasync of a file: its bytes, and its attributes; of no name.
    pub(crate) fn sync_file(&mut self, key: Key, only_data: bool) -> Result<(), Errno> {
        let node = Arc::clone(self.node(key)?);
        let Some(medium) = &mut self.medium else { return Ok(()) };
        if let Some(file) = self.files.get_mut(&key).filter(|file| !file.is_synced()) {
            Arc::make_mut(file).sync();
        }
        if !only_data {
            medium.synced.insert(key, (medium.first + medium.changes.len() as u64, node));
        }
        Ok(())
    }

    /// fsync of a directory: all changes up to the last of its names and attributes.
    pub(crate) fn sync_directory(&mut self, key: Key) {
        let Some(medium) = &mut self.medium else { return };
        let last = medium.changes.iter().rposition(|change| change.of.contains(&key));
        for _ in 0..last.map_or(0, |last| last + 1) {
            let Some(change) = medium.changes.pop_front() else { break };
            medium.durable = change.names;
            medium.first += 1;
        }
        let first = medium.first;
        medium.synced.retain(|_, (at, _)| *at > first);
    }

    /// syncfs: everything.
    pub(crate) fn sync_all(&mut self) {
        let Some(medium) = &mut self.medium else { return };
        medium.first += medium.changes.len() as u64;
        medium.changes.clear();
        medium.synced.clear();
        medium.durable = Arc::clone(&self.names);
        for file in self.files.values_mut().filter(|file| !file.is_synced()) {
            Arc::make_mut(file).sync();
        }
    }

    /// The sync of a file has failed.
    pub(crate) fn lose(&mut self, key: Key) {
        if let Some(file) = self.files.get_mut(&key).filter(|file| !file.is_synced()) {
            Arc::make_mut(file).lose();
        }
    }

    /// A sync of the whole has failed.
    pub(crate) fn lose_all(&mut self) {
        self.files.values_mut().filter(|file| !file.is_synced()).for_each(|file| Arc::make_mut(file).lose());
    }

    /// Nobody has the inode `key` open any more: it goes if it has no name.
    pub(crate) fn forget(&mut self, key: Key) {
        if let Some(node) = self.names.get(&key).filter(|node| node.links == 0) {
            self.numbers.remove(&node.ino);
            Arc::make_mut(&mut self.names).remove(&key);
            // After a power cut it may have its name again.
            if self.medium.is_none() {
                self.files.remove(&key);
            }
        }
    }
}
