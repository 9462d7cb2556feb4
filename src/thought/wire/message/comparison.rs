//! Trees compared with each other, and a replica with its tree.

use serde::{Deserialize, Serialize};

use super::UnheldCounts;
use crate::words::entry::{Digest, Entry, Kind};
use crate::words::path::{Name, RelPath};
use crate::words::position::Position;

/// Asks for the children of a directory of the replica's tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct List {
    /// Which directory.
    pub path: RelPath,
    /// Those after this one, in the tree's own order.
    pub after: Option<Name>,
}

/// Some children of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// The directory's own entry and node digest; `None` if there is no such directory.
    pub directory: Option<(Entry, Digest)>,
    /// The children, [`LISTING_CAP`](super::LISTING_CAP) at most.
    pub children: Vec<Child>,
    /// True if there are more.
    pub more: bool,
}

/// One child.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Child {
    /// Its name.
    pub name: Name,
    /// Its entry.
    pub entry: Entry,
    /// Its node digest.
    pub digest: Digest,
}

/// Asks the standby to compare its disk with its tree, and perhaps to take into the tree what differs. A standby that did is at no point of
/// the primary's history any more: the primary ends the link, and it greets anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Only these, and what is below them; empty: everything.
    pub paths: Vec<RelPath>,
    /// Content is read and hashed; otherwise size and time must do.
    pub content: bool,
    /// What differs is taken into the tree.
    pub mend: bool,
}

/// What the standby's disk has that its tree has not, and the reverse.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Audited {
    /// Where the standby stands.
    pub position: Position,
    /// The digest of its tree.
    pub tree: Digest,
    /// How many entries were compared.
    pub entries: u64,
    /// How many differ.
    pub differing: u64,
    /// Some of those.
    pub differences: Vec<Differing>,
    /// How many paths were taken into the tree.
    pub strayed: u64,
    /// What this standby cannot hold of them.
    pub unheld: UnheldCounts,
    /// Why it could not be done, if so.
    pub failed: Option<String>,
}

/// One difference between a standby's disk and its tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Differing {
    /// Where.
    pub path: RelPath,
    /// What the tree has there, or else the disk; `None` for what is never replicated.
    pub kind: Option<Kind>,
    /// What differs, in one word.
    pub what: String,
    /// What the tree says, for people.
    pub tree: String,
    /// What the disk says, for people.
    pub disk: String,
}
