//! Proof that what is on disk is what the tree says, or where it is not.
//!
//! A walk of the directory is joined with the tree, directory by directory and name by name in the order of paths, and each entry is
//! compared in everything that is replicated: kind, content (read and hashed whole), mode, owner, modification time, link target,
//! extended attributes, and which names are hard links of one inode. Nothing is believed of what the tree remembers of inodes: this
//! is what finds an index that is wrong.
//!
//! - `.hotspare` and what the filter leaves out is left alone on both sides.
//! - Sockets, pipes and devices are counted; one is a difference only where the tree has an entry.
//! - A missing or an extra directory is one difference, whatever is or was below it; so is one of another kind.
//! - What cannot be read is a difference too, since it is not proven, and the walk goes on.
//!
//! Memory holds the names of one directory and of those above it, and one record for each inode with several names. A tree that changes
//! meanwhile is told of as it was met: the caller keeps writers away, or expects differences.

mod compare;
mod join;
mod links;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;

use crate::fs::{Able, Root, XattrPolicy};
use crate::thought::filter::Filter;
use crate::thought::store::ReadStore;
use crate::thought::tree::{Tree, TreeError};
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::Kind;
use crate::words::path::RelPath;

/// What can end an audit; trouble with a single path is a [`Difference`].
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// [`AuditOptions::progress`] said to stop.
    #[error("the audit was stopped at {at}")]
    Stopped {
        /// What was being looked at, and would be looked at first by an audit that goes on [from](AuditOptions::from) there.
        at: RelPath,
    },
}

/// Told how far an audit is; says whether it goes on.
pub type Watching<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// How an audit is made.
pub struct AuditOptions<'a> {
    /// What can be held here: what cannot is counted as unheld where it differs.
    pub able: Able,
    /// Contents are read and hashed; otherwise only sizes are compared.
    pub content: bool,
    /// A time in whole seconds on disk is that of an entry of the same second: not every file system keeps more.
    pub coarse_times: bool,
    /// These are looked at too, but not what is below them.
    pub alone: Vec<RelPath>,
    /// What comes before this path, in the order of paths, is passed over.
    pub from: Option<RelPath>,
    /// Told before every entry is compared, and after every MiB read.
    pub progress: Option<Watching<'a>>,
}

impl Default for AuditOptions<'_> {
    /// Everything is compared; nobody watches.
    fn default() -> Self {
        Self {
            able: Able::everything(),
            content: true,
            coarse_times: false,
            alone: Vec::new(),
            from: None,
            progress: None,
        }
    }
}

impl fmt::Debug for AuditOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditOptions")
            .field("able", &self.able)
            .field("content", &self.content)
            .field("coarse_times", &self.coarse_times)
            .finish_non_exhaustive()
    }
}

/// How far an audit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Entries of the tree looked for.
    pub entries: u64,
    /// Bytes of content hashed, holes included.
    pub bytes: u64,
}

/// What an audit looked at and found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audited {
    /// Entries of the tree looked for; what is below a missing directory is not.
    pub entries: u64,
    /// Bytes of content hashed, holes included; an inode with several names counts once.
    pub bytes: u64,
    /// Differences told. None: what was audited is proven equal.
    pub differing: u64,
    /// What differs because it cannot be held here; no differences.
    pub unheld: UnheldCounts,
    /// Sockets, pipes and devices met.
    pub special: u64,
}

/// One thing that differs at one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Where.
    pub path: RelPath,
    /// What the tree has there, or else the disk; `None` for what is never replicated.
    pub kind: Option<Kind>,
    /// What.
    pub what: What,
    /// What is on disk, for people.
    pub here: String,
    /// What the tree says, for people.
    pub there: String,
}

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum What {
    /// The tree has it, the disk does not; or neither has a path that was asked for.
    Missing,
    /// The disk has it, the tree does not.
    Extra,
    /// File, directory or symbolic link.
    Kind,
    /// The bytes of a file of the right length.
    Content,
    /// The length of a file.
    Size,
    /// The mode bits.
    Mode,
    /// User or group.
    Owner,
    /// The modification time.
    Mtime,
    /// Where a symbolic link points.
    Target,
    /// Extended attributes or ACLs.
    Xattrs,
    /// Which names are hard links of one inode.
    Links,
    /// It cannot be read, or changed while it was.
    Unreadable,
}

impl What {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Size => "size",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Target => "target",
            Self::Xattrs => "xattrs",
            Self::Links => "links",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Compares the directory `root` with `tree` and tells `visit` of every difference, in the order of paths. With `paths`, only those and
/// what is below them is looked at (and what [`AuditOptions::alone`] names); without either, everything.
pub fn audit<S: ReadStore>(
    root: &Root,
    tree: &Tree<S>,
    filter: &Filter,
    xattrs: &XattrPolicy,
    paths: &[RelPath],
    options: AuditOptions<'_>,
    visit: &mut dyn FnMut(Difference),
) -> Result<Audited, AuditError> {
    let AuditOptions { able, content, coarse_times, alone, from, progress } = options;
    // Taken apart so that the watcher's lifetime may be longer than the audit's.
    let progress = progress.map(|watching| -> Watching<'_> { watching });
    let options = AuditOptions { able, content, coarse_times, alone, from, progress };
    join::Auditor::new(root, tree, filter, xattrs, options, visit).run(paths)
}
