//! The standby's hands: staging a generation, making it durable, and revealing it in the replica.
//!
//! # Order
//! 1. **Stage.** New content is made under `.hotspare/stage/<position>/<operation>`, with its attributes, its digest checked.
//! 2. **Record.** The operations are applied to the index's tree, which must come to the tree digest that the header promises; then they are
//!    journalled with what they replace, the stage and the journal are synced, and the generation is *acked*.
//! 3. **Reveal**, in normal form, by `steps`: what leaves, leaves, deepest first, to `.hotspare/reveal/<position>/<operation>`; what arrives,
//!    arrives, shallowest first; then links, bytes in place, attributes, directories' times last.
//! 4. **Tidy.** After a sync of the file system the generation is *done*, and what it replaced goes.
//!
//! # Recovery
//! Every step can be told from its inode: the journal names the inode that it moves or writes. The newest acked generation whose reveal was
//! begun (`reveal/<position>` is there) is revealed again from the first step on; a step that was done is recognised and passed over. Those
//! before it were revealed whole, those after it not at all. So `kill -9` or a power cut at any instant leaves a whole generation after
//! recovery (G1), and none that was acked is lost (G2).
//!
//! The index may be behind the journal, and is brought up from it; one that stands where the journal never was, or is not there, is made anew
//! from the disk, and the standing is lost with it.
//!
//! **Assumed of the file system**: changes of names and attributes become durable in the order in which they were made (a journal, or whole
//! transactions). What is written *into* files does not: so a file system is synced after a generation with edits before the next is begun. Where
//! a file system cannot be synced whole (FUSE), all that a generation touched is synced by itself, before the next is begun.
//!
//! **Invariant:** nothing is ever hard-linked between replica, stage and bundles; content is moved or copied.
//!
//! **Invariant:** before a generation is acked nothing in the replica is touched, not even a time: space for appends is held by a file of its own.
//!
//! | file | what |
//! |---|---|
//! | `replica` | [`Replica`]: what it is, and what it is asked to do |
//! | `standing` | where it stands, as its index remembers it |
//! | `recovery` | what is done when it is opened |
//! | `adopt`, [`marker`] | taking possession of a directory |
//! | `stage` | [`Stager`]: one operation after the other, with its payload |
//! | `content`, `held`, `edit` | new files; content that is here already; bytes to be written in place |
//! | `commit` | tree, journal, sync, ack |
//! | `durable` | syncs: of the whole file system, or of each thing by itself |
//! | `steps`, `disk` | the reveal, and the calls it makes |
//! | `unrevealed` | what is acked and not revealed, and how a further one is staged upon it |
//! | `unheld` | what the disk cannot hold of it |
//! | [`Strays`] | what is found not to be as it should: taken into the tree, to be mended by the next generation |
//! | `bundle` | what was replaced and belonged to nobody |
//! | `operations`, `layout` | operations on disk; where everything lies |

mod adopt;
mod ahead;
mod begun;
mod bundle;
mod commit;
mod content;
mod disk;
mod durable;
mod edit;
mod elsewhere;
mod held;
mod layered;
mod layout;
pub mod marker;
mod operations;
mod recovery;
mod replica;
mod stage;
mod standing;
mod steps;
mod stray;
#[cfg(test)]
pub(crate) mod tests;
mod unheld;
mod unrevealed;

use crate::fs::FsError;
use crate::index::IndexError;
use crate::journal::JournalError;
use crate::thought::generation::FormatError;
use crate::thought::tree::{ApplyError, TreeError};
use crate::words::entry::Digest;
use crate::words::path::RelPath;
use crate::words::position::Position;

pub use ahead::{Fed, Holding, Whole};
pub use elsewhere::{Copied, Copying};
pub use operations::Records;
pub use replica::{Opening, Replica, ReplicaOptions};
pub use stage::Stager;
pub use standing::Standing;
pub use stray::{Depth, Scope, Strays, is_stray};

/// What can go wrong with a replica.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The file system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The generation does not fit the tree.
    #[error("generation {position} does not fit this replica")]
    Apply {
        /// Which.
        position: Position,
        /// Where it does not.
        #[source]
        source: ApplyError,
    },
    /// Something is malformed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The spool failed.
    #[error("cannot use a temporary file in the state directory")]
    Spool(#[from] std::io::Error),
    /// The generation starts from another state than this replica's.
    #[error("generation {position} starts from {parent}, and this replica stands at {here}")]
    NotNext {
        /// The generation.
        position: Position,
        /// Where it starts.
        parent: Position,
        /// Where the replica is.
        here: Position,
    },
    /// The content that arrived is not what was announced.
    #[error("the content of {path} in generation {position} does not have the digest announced for it")]
    Mismatch {
        /// The path.
        path: RelPath,
        /// The generation.
        position: Position,
    },
    /// A content that the generation refers to is not here.
    #[error("the content {content} that {path} refers to is not here")]
    Lacking {
        /// The path that needs it.
        path: RelPath,
        /// The content.
        content: Digest,
    },
    /// A payload does not unpack to what was announced.
    #[error("the payload of {path} is malformed")]
    Payload {
        /// The path.
        path: RelPath,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The generation is not whole or not what its header says.
    #[error("generation {position} is not what its header says: {what}")]
    Header {
        /// The generation.
        position: Position,
        /// What differs.
        what: &'static str,
    },
    /// A reveal cannot go on.
    #[error("{path} in the replica is not what generation {position} expects there")]
    Stuck {
        /// Where.
        path: RelPath,
        /// The generation being revealed.
        position: Position,
    },
    /// Something on disk cannot be read into the index.
    #[error("cannot read {path} of the replica")]
    Read {
        /// Where.
        path: RelPath,
        /// Why.
        #[source]
        source: crate::capture::CaptureError,
    },
    /// Whoever watched said to stop.
    #[error("the look at the replica was stopped")]
    Stopped,
    /// An earlier call failed half way: the replica must be opened again.
    #[error("an earlier step failed: the replica must be opened again")]
    Unusable,
    /// The marker is not one.
    #[error("{} does not say which home this is", path.display())]
    Marker {
        /// The marker.
        path: std::path::PathBuf,
    },
    /// The directory is not empty and no replica of this home.
    #[error(
        "{} is not empty and is no replica of this home; empty it, or have it adopted (`standby.adopt`, `mirror --adopt`)",
        path.display()
    )]
    NoReplica {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The directory is empty, and there was a replica in it.
    #[error(
        "{} is empty, and this node had a replica in it: mount the file system that the replica is on; if it is gone for good, `hotspare release` on \
         this node has a new one begin there",
        path.display()
    )]
    Gone {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The directory is a replica of another home.
    #[error("{} is a replica of another home ({found})", path.display())]
    OtherHome {
        /// The directory.
        path: std::path::PathBuf,
        /// Whose.
        found: crate::words::position::HomeId,
    },
}
