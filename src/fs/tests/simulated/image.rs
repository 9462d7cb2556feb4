//! What a file system holds: inodes with their names and attributes, and the bytes of files. All of it is shared until it is changed, so that a
//! copy costs next to nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

/// Bytes of a page, and of the sectors of one that a power cut may tear it into.
pub(crate) const PAGE: usize = 4096;
pub(crate) const SECTOR: usize = 512;

/// An inode for ever: unlike its number it is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key(pub(crate) u64);

/// The root.
pub(crate) const ROOT: Key = Key(1);

/// What an inode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    File,
    Directory(BTreeMap<OsString, Key>),
    Symlink(PathBuf),
}

/// All of an inode but a file's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its number, which another may have after it.
    pub(crate) ino: u64,
    pub(crate) what: What,
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    pub(crate) mtime: SystemTime,
    pub(crate) ctime: SystemTime,
    pub(crate) xattrs: BTreeMap<OsString, Vec<u8>>,
}

impl Node {
    pub(crate) fn new(ino: u64, what: What, mode: u16, owner: (u32, u32), now: SystemTime) -> Self {
        let links = if matches!(what, What::Directory(_)) { 2 } else { 1 };
        Self { ino, what, mode, owner, links, mtime: now, ctime: now, xattrs: BTreeMap::new() }
    }

    /// The names in a directory.
    pub(crate) fn children(&self) -> Option<&BTreeMap<OsString, Key>> {
        match &self.what {
            What::Directory(children) => Some(children),
            _ => None,
        }
    }

    pub(crate) fn children_mut(&mut self) -> Option<&mut BTreeMap<OsString, Key>> {
        match &mut self.what {
            What::Directory(children) => Some(children),
            _ => None,
        }
    }
}

/// All inodes.
pub(crate) type Names = BTreeMap<Key, Arc<Node>>;

/// One page of a file.
pub(crate) type Page = Arc<[u8; PAGE]>;

/// The bytes of a file; a page that is not there reads as zeros.
#[derive(Clone, Default, Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) pages: BTreeMap<u64, Page>,
}

impl Content {
    pub(crate) fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(count as u64));
        if offset >= end {
            return Vec::new();
        }
        let mut bytes = vec![0; usize::try_from(end - offset).unwrap_or(0)];
        for (number, page) in self.pages.range(offset / PAGE as u64..end.div_ceil(PAGE as u64)) {
            let begin = number * PAGE as u64;
            let (from, to) = (offset.max(begin), end.min(begin + PAGE as u64));
            let within = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            let piece = &page[within(from, begin)..within(to, begin)];
            bytes[within(from, offset)..within(to, offset)].copy_from_slice(piece);
        }
        bytes
    }

    /// SEEK_DATA (3) and SEEK_HOLE (4).
    pub(crate) fn seek(&self, from: u64, whence: i32) -> Result<u64, Errno> {
        if from >= self.size {
            return Err(Errno::NXIO);
        }
        let is_data = |at: u64| self.pages.contains_key(&split(at).0);
        let mut at = from;
        while at < self.size && is_data(at) != (whence == 3) {
            at = (split(at).0 + 1) * PAGE as u64;
        }
        match whence {
            3 if at >= self.size => Err(Errno::NXIO),
            _ => Ok(at.min(self.size)),
        }
    }

    /// Sets the length; what is beyond it is zeros when it grows again.
    pub(crate) fn resize(&mut self, size: u64) {
        if size < self.size {
            let (page, within) = split(size);
            self.pages.split_off(&size.div_ceil(PAGE as u64));
            if within > 0
                && let Some(last) = self.pages.get_mut(&page)
            {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        self.size = size;
    }
}

/// The bytes of a file: as they are, as the medium surely has them, and what they were between the two, any of which it may have.
#[derive(Clone, Default, Debug)]
pub(crate) struct File {
    pub(crate) live: Content,
    pub(crate) durable: Content,
    pub(crate) between: BTreeMap<u64, Vec<Option<Page>>>,
    pub(crate) sizes: Vec<u64>,
}

impl File {
    /// Writes; what was there is remembered if it `is_remembered`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8], is_remembered: bool) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (number, within) = split(at);
            let (piece, more) = rest.split_at((PAGE - within).min(rest.len()));
            let page = self.live.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            if is_remembered {
                self.between.entry(number).or_default().push(Some(Arc::clone(page)));
            }
            at += piece.len() as u64;
            rest = more;
        }
        if at > self.live.size {
            self.resize(at, is_remembered);
        }
    }

    pub(crate) fn resize(&mut self, size: u64, is_remembered: bool) {
        let beyond: Vec<u64> = self.live.pages.range(size / PAGE as u64..).map(|(number, _)| *number).collect();
        self.live.resize(size);
        if is_remembered {
            self.sizes.push(size);
            for number in beyond {
                self.between.entry(number).or_default().push(self.live.pages.get(&number).cloned());
            }
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.between.is_empty() && self.sizes.is_empty()
    }

    /// What was written since the last sync reaches the medium.
    pub(crate) fn sync(&mut self) {
        for number in std::mem::take(&mut self.between).into_keys() {
            match self.live.pages.get(&number) {
                Some(page) => self.durable.pages.insert(number, Arc::clone(page)),
                None => self.durable.pages.remove(&number),
            };
        }
        self.sizes.clear();
        self.durable.size = self.live.size;
    }

    /// A sync has failed: what was written is seen until the power goes, and no later sync makes it durable.
    pub(crate) fn lose(&mut self) {
        self.between.clear();
    }

    /// One that was never other than so.
    pub(crate) fn settled(content: Content) -> Self {
        Self { durable: content.clone(), live: content, ..Self::default() }
    }
}

fn split(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % PAGE as u64).unwrap_or(0);
    (offset / PAGE as u64, within)
}

/// The clock of the simulation: a millisecond for every change, from the moment on at which it was first asked.
#[expect(clippy::disallowed_methods, reason = "the simulated disk has the clock of its kernel")]
pub(crate) fn time(ticks: u64) -> SystemTime {
    static BEGUN: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);
    *BEGUN + Duration::from_millis(ticks)
}
