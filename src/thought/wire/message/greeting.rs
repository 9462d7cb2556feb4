//! How two nodes meet: what each is and can do, or why they do not speak.

use serde::{Deserialize, Serialize};

use crate::thought::filter::Rules;
use crate::thought::generation::Extension;
use crate::thought::wire::frame::{BodyError, body, encode_body};
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, NodeName, Position, Reign};

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
