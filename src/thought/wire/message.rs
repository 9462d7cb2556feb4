//! The messages two nodes exchange, version 1.
//!
//! On the **control stream** (both ways) each message is one frame: the frame's kind is the message's number below, its payload the
//! postcard encoding of the struct. On a **data stream** (primary to standby) the first frame is a [`StreamStart`]; what follows is said there.
//! A kind that is not known ends the link: a peer only sends what the hello allows.
//!
//! | kind | control message | from |
//! |---|---|---|
//! | 1 | [`Hello`] | both, first |
//! | 2 | [`Refused`] | both; ends the link |
//! | 3 | [`Heartbeat`] | both |
//! | 4 | [`Deposed`] | both |
//! | 5 | [`Acked`] | standby |
//! | 6 | [`Revealed`] | standby |
//! | 7 | [`Rejected`] | standby |
//! | 8, 9 | [`List`], [`Listing`] | primary, standby |
//! | 10, 11 | [`Have`], [`Lack`] | primary, standby |
//! | 12 | [`HeldAll`] | standby |
//! | 13, 14 | [`Audit`], [`Audited`] | primary, standby |
//! | 15 | [`CatchingUp`] | primary |
//! | 16, 17 | [`Sign`], [`Signed`] | primary, standby |
//! | 18, 19 | [`Wanted`], [`Swept`] | primary, standby |
//! | 24 | [`Release`] | primary |
//!
//! | kind | data frame | in |
//! |---|---|---|
//! | 32 | [`StreamStart`] | every stream, first |
//! | 33 | one encoded [`Operation`](crate::thought::generation::Operation) | a generation |
//! | 34 | payload bytes of the operation or content before, 64 KiB at most | both |
//! | 35 | [`HeldContent`] | contents ahead |
//! | 36 | end: nothing may follow | both |
//! | 37 | one byte: 1, the content before is whole; 0, it changed while it was read and is to be forgotten | contents ahead, after a payload of [`UNTOLD_LENGTH`] |

use serde::{Deserialize, Serialize};

use crate::thought::filter::Rules;
use crate::thought::generation::{Extension, Payload};
use crate::words::entry::{Digest, Entry, Kind, Timestamp};
use crate::words::path::{Name, RelPath};
use crate::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, NodeName, Position, Reign};

use super::frame::{BodyError, body, encode_body};

/// The oldest and the newest protocol this program speaks.
pub const PROTOCOLS: (u16, u16) = (1, 1);
/// The bits of [`Hello::needs`] that this program knows: none yet.
pub const KNOWN_NEEDS: u64 = 0;
/// The longest control message, in bytes.
pub const CONTROL_CAP: usize = 1024 * 1024;
/// The longest frame on a data stream: an operation.
pub const DATA_CAP: usize = crate::thought::generation::OPERATION_CAP + 64 * 1024;
/// How many bytes of payload go into one frame.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// The length of a payload that is packed while it is sent: a frame of its own says where it ends.
pub const UNTOLD_LENGTH: u64 = u64::MAX;
/// How many children one listing holds at most.
pub const LISTING_CAP: usize = 1000;
/// How many digests one question holds at most.
pub const HAVE_CAP: usize = 4096;
/// How many contents one sweep's message names at most.
pub const WANTED_CAP: usize = 100_000;
/// How many blocks the signature of a content has at most, so that it fits into one message: 48 000 of 20 bytes.
pub const SIGNED_BLOCKS: u64 = 48_000;
/// How many differences one audit names at most.
pub const AUDIT_CAP: usize = 1000;

/// Kinds of frames on data streams.
pub mod data {
    /// How a stream begins.
    pub const START: u8 = 32;
    /// An operation.
    pub const OPERATION: u8 = 33;
    /// Payload bytes.
    pub const PAYLOAD: u8 = 34;
    /// A content sent ahead.
    pub const HELD: u8 = 35;
    /// The end.
    pub const END: u8 = 36;
    /// The end of a content whose length was not told.
    pub const HELD_END: u8 = 37;
}

/// What a node does at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// It writes the history.
    Primary,
    /// It holds a replica.
    Standby,
}

/// How a node introduces itself.
///
/// **Invariant:** the layout never changes, in any protocol: whoever cannot be spoken to is told so by name. What later versions have to say
/// goes into `extensions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest and the newest protocol it speaks.
    pub protocols: (u16, u16),
    /// Its name.
    pub node: NodeName,
    /// This run of it.
    pub instance: InstanceNonce,
    /// Its cluster; `None` if it belongs to none yet.
    pub cluster: Option<ClusterId>,
    /// Its home; `None` if it has none yet.
    pub home: Option<HomeId>,
    /// The reigns it knows, highest last.
    pub reigns: Vec<Reign>,
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub position: Position,
    /// The history that led there.
    pub chain: ChainDigest,
    /// The digest of its tree.
    pub tree: Digest,
    /// The longest control message and data frame it takes, in bytes.
    pub limits: (u32, u32),
    /// What it replicates, or would. The primary's decides, also of what equality means.
    pub filter: Rules,
    /// What it can hold.
    pub abilities: Abilities,
    /// What it can do beyond the protocol; unknown bits are ignored.
    pub features: u64,
    /// What the other side must know: one with an unknown bit here is refused.
    pub needs: u64,
    /// [`Bandwidth`]; those with an unknown tag are ignored.
    pub extensions: Vec<Extension>,
}

/// The most that is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Over time, in bytes a second; 0 counts as 1.
    pub bytes_per_second: u64,
    /// At once, after a time in which less was sent, in bytes.
    pub burst_bytes: u64,
}

impl Bandwidth {
    /// The tag of the extension of a standby's [`Hello`] that has it: the most that is to be sent to it on data streams.
    pub const TAG: u16 = 1;

    /// What a hello asks for; `None`: all that gets through.
    pub fn of(hello: &Hello) -> Result<Option<Self>, BodyError> {
        hello.extensions.iter().find(|extension| extension.tag == Self::TAG).map(|found| body(&found.bytes)).transpose()
    }

    /// The extension.
    pub fn extension(&self) -> Result<Extension, BodyError> {
        Ok(Extension { tag: Self::TAG, bytes: encode_body(self)? })
    }
}

/// What a node's disk and privileges can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Abilities {
    /// It may give files to other owners.
    pub owners: bool,
    /// It may set file capabilities.
    pub capabilities: bool,
    /// Its file system takes `user.*` attributes.
    pub user_xattrs: bool,
    /// Its file system takes POSIX ACLs.
    pub acls: bool,
}

/// What a standby cannot hold of what its tree says. The tree says what the primary has, so this is no difference of the trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnheldCounts {
    /// Entries whose owner or group it cannot give.
    pub owner: u64,
    /// Entries some of whose mode bits it cannot give.
    pub mode: u64,
    /// Extended attributes, ACLs among them, that it cannot give.
    pub xattrs: u64,
}

impl UnheldCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { owner: self.owner + other.owner, mode: self.mode + other.mode, xattrs: self.xattrs + other.xattrs }
    }

    /// What is left without `other`; never less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            owner: self.owner.saturating_sub(other.owner),
            mode: self.mode.saturating_sub(other.mode),
            xattrs: self.xattrs.saturating_sub(other.xattrs),
        }
    }
}

/// Why a node ends a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// What kind of reason.
    pub why: RefusedWhy,
    /// For a person.
    pub text: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RefusedWhy {
    /// No protocol in common.
    Protocol,
    /// Another cluster.
    Cluster,
    /// Another home, or a directory that is no replica.
    Home,
    /// Two nodes with one name, or two processes with one identity.
    Name,
    /// Both are primary, or both standby.
    Role,
    /// A higher reign is known.
    Reign,
    /// Anything else.
    Other,
    /// The same node greets from two processes at once: one has a copy of the other's state.
    Cloned,
}

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Where the sender stands.
    pub position: Position,
    /// Primary: paths that changed and are in no generation yet.
    pub pending: u64,
    /// Primary: since when the oldest of them waits, by its clock; `None` if none does.
    pub oldest: Option<Timestamp>,
    /// Primary: some of them.
    pub sample: Vec<RelPath>,
    /// Standby: generations acked and not revealed.
    pub unrevealed: u32,
    /// Primary: how far this standby is behind, in milliseconds, by its own clock; `None` while it cannot tell.
    pub lag_milliseconds: Option<u64>,
    /// Standby: what it cannot hold of its tree.
    pub unheld: UnheldCounts,
    /// The id that the sender will have, while its key is changed: the fingerprint alone.
    pub next_id: Option<Digest>,
    /// The same of the receiver, once the sender has written down that it trusts it.
    pub accepted_id: Option<Digest>,
    /// What holds replication back on the sender's side.
    pub held: Option<Held>,
}

/// Replication stands still, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// What holds it.
    pub by: HeldBy,
    /// With numbers and paths, and what to do, for a person.
    pub text: String,
}

/// What holds replication back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HeldBy {
    /// Primary: its home is not there.
    Home,
    /// Standby: a generation would delete too much.
    Fuse,
    /// Standby: its disk is full.
    Room,
}

/// A person's word that what the fuse holds back may be deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {}

/// A higher reign exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deposed {
    /// It.
    pub reign: Reign,
}

/// A generation is durable on the standby.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acked {
    /// Which.
    pub position: Position,
    /// The chain digest after it.
    pub chain: ChainDigest,
}

/// A generation is visible in the replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revealed {
    /// Which.
    pub position: Position,
}

/// A generation could not be staged; nothing of it was kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub position: Position,
    /// Why, for a person.
    pub text: String,
}

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
    /// The children, [`LISTING_CAP`] at most.
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

/// Asks which of these contents are here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Have {
    /// [`HAVE_CAP`] at most.
    pub contents: Vec<Digest>,
}

/// Which of the contents asked for are not here: a bit each, in order, the lowest bit of each byte first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lack {
    /// The bits.
    pub bits: Vec<u8>,
    /// Of which of them there is a beginning, from a stream that was cut off.
    pub begun: Vec<Begun>,
    /// True if contents are here that came ahead, asked for or not.
    pub holds: bool,
}

/// The beginning of a content is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// Which of the contents asked for.
    pub index: u32,
    /// How many bytes of it.
    pub bytes: u64,
}

/// Asks for the signature of a content, against which a newer one is to be diffed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sign {
    /// Which.
    pub content: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A signature, of [`SIGNED_BLOCKS`] blocks at most; empty if there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed {
    /// As [`signature`](crate::thought::delta::signature) writes it.
    pub signature: Vec<u8>,
}

/// Names contents that are wanted: with the last message of a row, what came ahead and was named in none of them goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The first eight bytes of each digest, [`WANTED_CAP`] at most.
    pub contents: Vec<[u8; 8]>,
    /// True if more messages follow.
    pub more: bool,
}

/// A message with wanted contents was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Swept {
    /// How many that came ahead went.
    pub contents: u64,
}

/// The end of a stream of contents has come: all of them are here, durable or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldAll {
    /// How many; 0 if what came was refused.
    pub count: u64,
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

/// How far the primary is with bringing this standby up to date.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CatchingUp {
    /// What the standby had acked when this began. Once it has acked more, this is over: the generation comes on a stream of its own, and may
    /// overtake what was said of it.
    pub from: Position,
    /// What is being done.
    pub phase: String,
    /// Entries done, of how many.
    pub entries: (u64, u64),
    /// Bytes done, of how many.
    pub bytes: (u64, u64),
}

/// How a data stream begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamStart {
    /// A generation: its encoded header; then operations, each followed by its payload.
    Generation {
        /// The header.
        header: Vec<u8>,
    },
    /// Contents that a generation will refer to: each followed by its payload.
    Contents,
}

/// A content sent ahead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldContent {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// True if it is to be stored with holes.
    pub sparse: bool,
    /// The mode and modification time of the entry it is sent for: a hint, by which the standby has less to do later.
    pub mode: u16,
    /// See `mode`.
    pub mtime: Timestamp,
    /// The bytes that follow; of large contents the length is [`UNTOLD_LENGTH`], and of a delta also what it is unpacked.
    pub payload: Payload,
    /// They make the content from here on: what is before it is here, as [`Begun`] says.
    pub from: u64,
    /// They are a delta: digest and length of the content that it copies from.
    pub base: Option<(Digest, u64)>,
}

macro_rules! messages {
    ($($kind:literal $name:ident,)*) => {
        /// A message of the control stream.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Message {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        impl Message {
            /// The frame's kind and payload.
            pub fn encode(&self) -> Result<(u8, Vec<u8>), BodyError> {
                match self {
                    $(Self::$name(message) => Ok(($kind, encode_body(message)?)),)*
                }
            }

            /// Reads a frame; `None` for a kind that is not known.
            pub fn decode(kind: u8, payload: &[u8]) -> Result<Option<Self>, BodyError> {
                match kind {
                    $($kind => body(payload).map(Self::$name).map(Some),)*
                    _ => Ok(None),
                }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

messages! {
    1 Hello,
    2 Refused,
    3 Heartbeat,
    4 Deposed,
    5 Acked,
    6 Revealed,
    7 Rejected,
    8 List,
    9 Listing,
    10 Have,
    11 Lack,
    12 HeldAll,
    13 Audit,
    14 Audited,
    15 CatchingUp,
    16 Sign,
    17 Signed,
    18 Wanted,
    19 Swept,
    24 Release,
}
