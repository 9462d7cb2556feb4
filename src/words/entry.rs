//! An entry: one path and what is known of it.
//!
//! [`Entry`] is what is replicated and compared: it travels, and its digest is part of the tree digest. [`Inode`] is what one
//! node's own kernel says of the same path; it never leaves the node, and serves to tell what changed.
//!
//! **Entry digest, version 1.** BLAKE3 in `derive_key` mode, context [`ENTRY_CONTEXT`], over: kind `u8` (0 file, 1 directory,
//! 2 symlink); mode `u16`; uid `u32`; gid `u32`; mtime seconds `i64`, nanoseconds `u32`; link id present `u8`, link id `u64`
//! (0 when absent); then for a file: size `u64`, content digest (32 bytes); for a symlink: target length `u64`, target; then the
//! number of xattrs `u32` and for each, in order: name length `u32`, name, value length `u32`, value. Integers little-endian.
//! Whether content is hashed or only probed is not part of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The BLAKE3 key-derivation context of entry digests.
pub const ENTRY_CONTEXT: &str = "hotspare 2026 entry v1";
/// The longest symlink target, in bytes (Linux: `PATH_MAX`).
pub const TARGET_CAP: usize = 4096;
/// The most bytes all xattrs of one entry may have together: names are at most 255 bytes, values at most 64 KiB each on
/// Linux; file systems hold far less.
pub const XATTRS_CAP: usize = 1024 * 1024;

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// A point of wall-clock time as file systems store it: seconds since the epoch (may be negative) and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, Debug)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// Which hard-linked file an entry is a name of. Given by the primary, the same for all names of one inode, stored by standbys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct LinkId(pub u64);

/// How sure the content digest of a file is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum Proof {
    /// Every byte was read and hashed.
    Hashed,
    /// The tail was hashed onto an older state of which only samples were read again.
    Probed,
}

/// What an entry is, with what only that kind has.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum Body {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of the whole content.
        digest: Digest,
        /// How sure `digest` is.
        proof: Proof,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored: never followed, never changed.
        target: Box<[u8]>,
    },
}

/// The kind of an entry, alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Extended attributes with their values, POSIX ACLs among them (`system.posix_acl_*`); sorted by name, no name twice.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug, Default)]
pub struct Xattrs(Vec<Xattr>);

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct Xattr {
    /// With its namespace: `user.comment`.
    pub name: Box<[u8]>,
    /// As stored.
    pub value: Box<[u8]>,
}

impl Xattrs {
    /// Sorts `pairs` by name and takes them.
    pub fn new(mut pairs: Vec<Xattr>) -> Self {
        pairs.sort();
        pairs.dedup_by(|a, b| a.name == b.name);
        Self(pairs)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.0.iter().map(|xattr| (&*xattr.name, &*xattr.value))
    }

    /// The value of `name`.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One path's state, as replicated.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub struct Entry {
    /// Kind, content, target.
    pub body: Body,
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`. 0o777 for symlinks.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes and ACLs.
    pub xattrs: Xattrs,
    /// Set when the inode has other names too; never for directories.
    pub link: Option<LinkId>,
}

impl Entry {
    /// The entry's kind.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::File { .. } => Kind::File,
            Body::Directory => Kind::Directory,
            Body::Symlink { .. } => Kind::Symlink,
        }
    }

    /// True for directories.
    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory)
    }

    /// Content length of a file in bytes; 0 for the other kinds.
    pub fn size(&self) -> u64 {
        match self.body {
            Body::File { size, .. } => size,
            Body::Directory | Body::Symlink { .. } => 0,
        }
    }

    /// Content digest of a file.
    pub fn content(&self) -> Option<Digest> {
        match self.body {
            Body::File { digest, .. } => Some(digest),
            Body::Directory | Body::Symlink { .. } => None,
        }
    }

    /// True if both have the same bytes or the same target and the same kind, whatever their attributes.
    pub fn same_content(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::File { size: a, digest: x, .. }, Body::File { size: b, digest: y, .. }) => a == b && x == y,
            (Body::Directory, Body::Directory) => true,
            (Body::Symlink { target: a }, Body::Symlink { target: b }) => a == b,
            _ => false,
        }
    }

    /// The entry digest, as specified at the top of this module.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(ENTRY_CONTEXT);
        let kind = match self.body {
            Body::File { .. } => 0,
            Body::Directory => 1,
            Body::Symlink { .. } => 2_u8,
        };
        hasher.update(&[kind]);
        hasher.update(&self.mode.to_le_bytes());
        hasher.update(&self.uid.to_le_bytes());
        hasher.update(&self.gid.to_le_bytes());
        hasher.update(&self.mtime.seconds.to_le_bytes());
        hasher.update(&self.mtime.nanoseconds.to_le_bytes());
        hasher.update(&[u8::from(self.link.is_some())]);
        hasher.update(&self.link.map_or(0, |link| link.0).to_le_bytes());
        match &self.body {
            Body::File { size, digest, .. } => {
                hasher.update(&size.to_le_bytes());
                hasher.update(&digest.0);
            }
            Body::Directory => {}
            Body::Symlink { target } => {
                hasher.update(&(target.len() as u64).to_le_bytes());
                hasher.update(target);
            }
        }
        hasher.update(&length(self.xattrs.0.len()));
        for (name, value) in self.xattrs.iter() {
            hasher.update(&length(name.len()));
            hasher.update(name);
            hasher.update(&length(value.len()));
            hasher.update(value);
        }
        hasher.finalize().into()
    }
}

/// A count below 4 GiB as four little-endian bytes; [`XATTRS_CAP`] keeps every such count far below.
fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

impl Timestamp {
    /// How long after `earlier` it is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        let nanoseconds = |at: Self| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds);
        let between = u128::try_from(nanoseconds(self) - nanoseconds(earlier)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(between).unwrap_or(u64::MAX))
    }
}

/// Which inode a path is, on one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
pub struct InodeId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What one node's kernel says of a path, beyond the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug, Default)]
pub struct Inode {
    /// Device and number.
    pub id: InodeId,
    /// How many names it has.
    pub nlink: u32,
    /// Change time: moves with every change of content, attributes or names; no program can set it back.
    pub ctime: Timestamp,
    /// Birth time where the file system keeps one; tells a reused inode number from the same inode.
    pub btime: Option<Timestamp>,
}

impl Inode {
    /// True if this is the very same inode, not one that took over its number.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.btime == other.btime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Entry {
        Entry {
            body: Body::File { size: 3, digest: Digest::of(b"abc"), proof: Proof::Hashed },
            mode: 0o4755,
            uid: 1000,
            gid: 1001,
            mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
            xattrs: Xattrs::new(vec![Xattr { name: (*b"user.b").into(), value: (*b"2").into() }]),
            link: None,
        }
    }

    #[test]
    fn every_replicated_field_changes_the_digest_and_the_proof_does_not() {
        let base = file();
        let changes: Vec<fn(&mut Entry)> = vec![
            |entry| entry.mode = 0o755,
            |entry| entry.uid = 0,
            |entry| entry.gid = 0,
            |entry| entry.mtime.nanoseconds += 1,
            |entry| entry.mtime.seconds += 1,
            |entry| entry.link = Some(LinkId(0)),
            |entry| entry.xattrs = Xattrs::default(),
            |entry| entry.body = Body::Directory,
            |entry| entry.body = Body::Symlink { target: (*b"abc").into() },
            |entry| entry.body = Body::File { size: 4, digest: Digest::of(b"abc"), proof: Proof::Hashed },
            |entry| entry.body = Body::File { size: 3, digest: Digest::of(b"abd"), proof: Proof::Hashed },
        ];
        let mut digests: Vec<_> = changes
            .iter()
            .map(|change| {
                let mut entry = base.clone();
                change(&mut entry);
                entry.digest()
            })
            .collect();
        digests.push(base.digest());
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), count);
        let mut probed = base.clone();
        probed.body = Body::File { size: 3, digest: Digest::of(b"abc"), proof: Proof::Probed };
        assert_eq!(probed.digest(), base.digest());
    }

    #[test]
    fn the_entry_digest_is_pinned() {
        insta::assert_snapshot!(file().digest().to_string());
    }
}
