//! Operations: what a generation does, one path at a time, and what a journal keeps of what each replaced.

use serde::{Deserialize, Serialize};

use super::{FormatError, OPERATION_CAP, check_length, decode, encode};
use crate::thought::delta::Span;
use crate::thought::delta::probe::Probes;
use crate::words::entry::{Digest, Entry};
use crate::words::path::RelPath;

/// Where an operation's content comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// There is none: directories, symlinks, empty files.
    None,
    /// The payload is the content.
    Whole,
    /// The payload is a delta (`delta`) against the content with this digest, which the standby holds.
    Delta {
        /// Digest of the base.
        base: Digest,
        /// Length of the base in bytes.
        base_length: u64,
    },
    /// The standby holds this very content already, staged or under another path.
    Held,
}

/// The bytes that go with an operation, packed as `delta::pack` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload {
    /// Bytes as shipped.
    pub length: u64,
    /// Bytes after unpacking.
    pub unpacked: u64,
}

/// What is done to one path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// What is at `path` (old), with everything below it that no other operation takes, goes.
    Remove {
        /// Old path.
        path: RelPath,
    },
    /// What is at `from` (old) goes to `to` (new), with everything below it that no other operation takes.
    Rename {
        /// Old path.
        from: RelPath,
        /// New path.
        to: RelPath,
    },
    /// A new entry arrives at `path` (new). A directory arrives empty.
    Create {
        /// New path.
        path: RelPath,
        /// What it is.
        entry: Entry,
        /// Where its content comes from.
        content: Content,
        /// True if the primary's file has holes.
        sparse: bool,
    },
    /// `path` (new) becomes another name of the inode that is at `target` (new).
    Link {
        /// New path.
        path: RelPath,
        /// New path of a name the inode has after this generation; itself no `Link` of this generation.
        target: RelPath,
        /// What it is: the same as the target's.
        entry: Entry,
    },
    /// Bytes are written into the file at `path` (new), whose length was `old_length`, in place; the payload is all spans, one after
    /// the other. An append is one span at the old end.
    Edit {
        /// New path.
        path: RelPath,
        /// What it is after.
        entry: Entry,
        /// Length before.
        old_length: u64,
        /// Where the payload's bytes go, rising, not overlapping.
        spans: Vec<Span>,
        /// Samples of the old content that must still hold on the standby; present when the primary did not read it all.
        probes: Option<Probes>,
    },
    /// The entry at `path` (new) gets these attributes; its content stays.
    Attributes {
        /// New path.
        path: RelPath,
        /// What it is after.
        entry: Entry,
    },
    /// What is at `path` (old), with everything below it, is replicated no longer: the tree forgets it, on the disk it stays as it is. Made
    /// where the primary's filter has come to leave it out; what comes back there later finds it in the way and puts it aside.
    Forget {
        /// Old path.
        path: RelPath,
    },
}

/// The parts of a generation, in the order in which its operations stand in it and are numbered.
///
/// Within a section the order is: renames rising by new path, removals falling (so the deepest come first), all others rising.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Section {
    /// All [`Action::Rename`].
    Rename,
    /// All [`Action::Remove`] and [`Action::Forget`].
    Remove,
    /// All [`Action::Create`].
    Create,
    /// All [`Action::Link`].
    Link,
    /// All [`Action::Edit`].
    Edit,
    /// All [`Action::Attributes`].
    Attributes,
}

impl Section {
    /// All sections, in order.
    pub const ALL: [Self; 6] = [Self::Rename, Self::Remove, Self::Create, Self::Link, Self::Edit, Self::Attributes];
}

impl Action {
    /// The section it belongs to.
    pub fn section(&self) -> Section {
        match self {
            Self::Rename { .. } => Section::Rename,
            Self::Remove { .. } | Self::Forget { .. } => Section::Remove,
            Self::Create { .. } => Section::Create,
            Self::Link { .. } => Section::Link,
            Self::Edit { .. } => Section::Edit,
            Self::Attributes { .. } => Section::Attributes,
        }
    }

    /// The path it is told under.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Remove { path }
            | Self::Forget { path }
            | Self::Create { path, .. }
            | Self::Link { path, .. }
            | Self::Edit { path, .. }
            | Self::Attributes { path, .. } => path,
            Self::Rename { to, .. } => to,
        }
    }

    /// The old path it takes something from, on the disk.
    pub fn taken(&self) -> Option<&RelPath> {
        match self {
            Self::Remove { path } => Some(path),
            Self::Rename { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The new path something arrives at.
    pub fn arrival(&self) -> Option<&RelPath> {
        match self {
            Self::Rename { to: path, .. } | Self::Create { path, .. } | Self::Link { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The entry that it leaves at its path.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Create { entry, .. }
            | Self::Link { entry, .. }
            | Self::Edit { entry, .. }
            | Self::Attributes { entry, .. } => Some(entry),
            Self::Remove { .. } | Self::Forget { .. } | Self::Rename { .. } => None,
        }
    }
}

/// One step of a generation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Its number in the generation, from 0.
    pub id: u32,
    /// What is done.
    pub action: Action,
    /// The bytes that go with it, if any.
    pub payload: Option<Payload>,
}

impl Operation {
    /// The bytes that are shipped.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`Operation::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length("operation", bytes.len(), OPERATION_CAP)?;
        decode("operation", bytes)
    }
}

/// What an operation replaced: enough to step back over it. Journalled beside the operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PreImage {
    /// Nothing was there.
    None,
    /// What is taken away lies under `reveal/<generation>/<operation>`, then in history: this was its entry.
    Taken {
        /// The old entry.
        entry: Entry,
    },
    /// The entry before its attributes changed.
    Attributes {
        /// The old entry.
        entry: Entry,
    },
    /// A file before bytes were written into it; its old blocks lie in the stage as `<operation>.old`, one after the other.
    Edited {
        /// The old entry.
        entry: Entry,
        /// The old length.
        old_length: u64,
        /// Which runs of old bytes were kept.
        old_blocks: Vec<Span>,
    },
}

/// An operation as the standby journals it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalledOperation {
    /// The operation.
    pub operation: Operation,
    /// What it replaces.
    pub before: PreImage,
    /// The inode that it moves or writes, on the standby's own disk: by this recovery tells whether a step is done.
    pub inode: Option<crate::words::entry::InodeId>,
}

impl JournalledOperation {
    /// The bytes of a journal record.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`JournalledOperation::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length("journalled operation", bytes.len(), 2 * OPERATION_CAP)?;
        decode("journalled operation", bytes)
    }
}
