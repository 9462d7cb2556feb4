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

mod beat;
mod comparison;
mod contents;
mod greeting;
mod history;

use super::frame::{BodyError, body, encode_body};

pub use beat::{Deposed, Heartbeat, Held, HeldBy, Release, UnheldCounts};
pub use comparison::{Audit, Audited, Child, Differing, List, Listing};
pub use contents::{Begun, Have, HeldAll, HeldContent, Lack, Sign, Signed, StreamStart, Swept, Wanted};
pub use greeting::{Abilities, Bandwidth, Hello, Refused, RefusedWhy, Role};
pub use history::{Acked, CatchingUp, Rejected, Revealed};

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
