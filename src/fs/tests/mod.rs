//! The hands on a real file system: the one that holds the temporary directory.

mod attributes;
mod confinement;
mod content;
mod names;
mod pass;
pub(crate) mod simulated;
mod state;

use std::path::PathBuf;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tempfile::TempDir;

use super::{Root, XattrPolicy};
use crate::words::entry::{Body, Digest, Entry, Proof, Timestamp, Xattr, Xattrs};
use crate::words::path::RelPath;

struct Home {
    root: Root,
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { root: Root::open(directory.path()).unwrap(), directory }
    }

    /// The same, as on a kernel without `openat2`.
    fn stepwise() -> Self {
        let Self { root, directory } = Self::new();
        Self { root: root.without_openat2(), directory }
    }

    fn host_path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn file(&self, path: &str, content: &[u8]) -> RelPath {
        let path = rel(path);
        self.root.create_file(&path).unwrap().write_at(content, 0).unwrap();
        path
    }

    fn directory(&self, path: &str) -> RelPath {
        let path = rel(path);
        self.root.make_directory(&path, 0o700).unwrap();
        path
    }

    fn content(&self, path: &RelPath) -> Vec<u8> {
        let file = self.root.open_read(path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.stat().unwrap().size).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// What `path` is now, as an entry; the content digest is not looked at by this room.
    fn entry(&self, path: &RelPath) -> Entry {
        let stat = self.root.stat(path).unwrap().unwrap();
        let body = match stat.what {
            super::FileType::Directory => Body::Directory,
            super::FileType::Symlink => Body::Symlink { target: self.root.read_link(path).unwrap() },
            _ => Body::File { size: stat.size, digest: Digest::default(), proof: Proof::Hashed },
        };
        stat.entry(body, self.root.xattrs(path, &XattrPolicy::default()).unwrap(), None)
    }

    /// True if the file system keeps `user.*` attributes.
    fn has_xattrs(&self) -> bool {
        let probe = self.file("xattr-probe", b"");
        let mut entry = self.entry(&probe);
        entry.xattrs = xattrs(&[("user.probe", b"1")]);
        let unheld =
            self.root.set_attributes(&probe, &entry, &XattrPolicy::default(), &super::Privilege::none()).unwrap();
        self.root.remove_file(&probe).unwrap();
        unheld.is_empty()
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

fn xattrs(pairs: &[(&str, &[u8])]) -> Xattrs {
    Xattrs::new(
        pairs.iter().map(|(name, value)| Xattr { name: name.as_bytes().into(), value: (*value).into() }).collect(),
    )
}

fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `test` without any capability: as an ordinary user who owns the files made here. Capabilities are a thread's own.
pub(crate) fn as_ordinary_user(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
